"""Weights and models in and out of Keras 3: lists of arrays, layers, and its files, for which Keras is not needed."""

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from minirnn.arguments import Array
from minirnn.interop import parts
from minirnn.interop.keras_files import read_h5, read_keras, snake
from minirnn.interop.parts import Arrays, InteropError
from minirnn.layers import Embedding, Linear, SequenceModel, Sequential, Stacked
from minirnn.layers.layer import Layer
from minirnn.storage import as_path

_CLASSES = {"SimpleRNN": "elman", "LSTM": "lstm", "GRU": "gru"}
_ORDER = {"elman": (0,), "lstm": (0, 1, 2, 3), "gru": (1, 0, 2)}  # Keras's z, r, h; the same both ways
_PHI = {"tanh": "tanh", "relu": "relu", "sigmoid": "sigmoid", "linear": "identity", "identity": "identity"}
_MERGES = {"concat": "concat", "sum": "sum", "mul": "mul", "ave": "mean"}
_KNOWN = ("Embedding", *_CLASSES, "Bidirectional", "Dense", "TimeDistributed")
"""In the order that arrays alone are read in."""

Entry = tuple[str, dict[str, Any], list[str]]
"""A layer of Keras's: its class, its settings, the names of its arrays in Keras's order."""


def from_keras(
    source: Any,
    cell: str | None = None,
    *,
    activation: str = "tanh",
    reset_after: bool | None = None,
    reverse: bool = False,
    batch_first: bool = True,
    readout: str = "all",
) -> Any:
    """Make a model of a Keras 3 layer or model, of its weights, or of a file.

    Parameters
    ----------
    source : path, layer, model, or list of arrays
        A ``.keras`` file or a live layer or model says all there is to know: a Sequential, or a chain of layers. A
        ``.weights.h5`` file, or the list of ``get_weights()`` of one layer or Bidirectional, holds arrays alone.
    cell : "elman", "lstm" or "gru", optional
        To be sure: it follows from the arrays.
    activation, reset_after, reverse, readout
        Where arrays alone are given: φ of a SimpleRNN; of a GRU, which says it by two rows of biases, but without bias
        must be told; ``go_backwards``; "last" where the recurrent layer below the Dense returns no sequences.
    batch_first : bool
        Keras's own layout is (N, T, D).

    Returns
    -------
    Layer, Bidirectional, Stacked, Linear, Embedding or SequenceModel
        With ``model.report``.

    Raises
    ------
    InteropError
        For a layer, an activation or a setting that minirnn has not, by its name, and for arrays that do not fit.
    ImportError
        For a file, without the extra ``keras``.

    Notes
    -----
    Outputs stand in time order: those of a layer with ``go_backwards`` are Keras's turned round, and a layer above it
    goes the other way. In the padding they are 0, where Keras repeats the last ones.

    >>> import minirnn as mr
    >>> arrays = to_keras(mr.GRULayer(2, 3, rng=0))
    >>> [array.shape for array in arrays]
    [(2, 9), (3, 9), (2, 9)]
    >>> from_keras(arrays).report.summed
    ['the two rows of 2, but for the block of h']
    """
    caller, report = "from_keras", parts.Report()
    own = {"activation": activation, "reset_after": reset_after, "go_backwards": reverse}
    own["return_sequences"] = readout == "all"
    layers: Iterable[Entry]
    if isinstance(source, list | tuple):
        arrays = Arrays({str(i): array for i, array in enumerate(source)}, caller, report)
        layers = [(_kind_of(arrays, list(arrays.given)), own, list(arrays.given))]
    elif callable(getattr(source, "get_config", None)):
        live = [(layer, layer.get_weights()) for layer in getattr(source, "layers", [source])]
        given = {f"{layer.name}/{i}": array for layer, weights in live for i, array in enumerate(weights)}
        arrays = Arrays(given, caller, report)
        layers = [
            (type(layer).__name__, _config_of(layer), [f"{layer.name}/{i}" for i in range(len(weights))])
            for layer, weights in live
        ]
        if hasattr(source, "layers"):
            _check_chain(arrays, type(source).__name__, source)
    else:
        path = as_path(source, caller, example="model.keras")
        if path.suffix == ".keras":
            (found, config), tops = read_keras(path, caller), list[str]()
        else:
            (found, tops), config = read_h5(path, caller), None
            if not tops:
                raise InteropError(
                    f"{caller}: {str(path)!r} has no layers as a .weights.h5 has them, but {parts.listed(found)}: of a "
                    "model in one .h5 file, load it with Keras and save it as .keras"
                )
        unused = [name for name in found if name.startswith("optimizer") or "seed_generator/" in name]
        report.left_out += [f"{name}, which is for training only" for name in unused]
        arrays = Arrays({name: array for name, array in found.items() if name not in unused}, caller, report)
        layers = _guessed(arrays, tops, own) if config is None else _described(arrays, config)
    try:
        model = _Chain(arrays, cell, batch_first).model(layers)
    except (KeyError, TypeError, AttributeError) as error:  # a description may hold anything
        raise InteropError(f"{caller}: its description is not one of Keras's ({error!r})") from error
    arrays.nothing_left()
    return report.closed(model)


# --- what there is ----------------------------------------------------------------------------------------------------


def _kind_of(arrays: Arrays, names: Sequence[str]) -> str:
    """Return the class of a layer of which there are arrays alone."""
    if len(names) not in (2, 3, 4, 6):
        arrays.refuse(f"expected the 2 or 3 arrays of a layer, or 4 or 6 of a Bidirectional, got {len(names)}")
    H, rows = arrays.take(names[1], None, None).shape
    kind = parts.cell_of(rows, H, None, names[1], arrays)
    return "Bidirectional" if len(names) > 3 else {cell: name for name, cell in _CLASSES.items()}[kind]


def _config_of(layer: Any) -> dict[str, Any]:
    """Return a live layer's settings; a function of the user's own by its full name, whatever it is called."""
    config, function = dict(layer.get_config()), getattr(layer, "activation", None)
    if function is not None and not (module := str(getattr(function, "__module__", ""))).startswith("keras."):
        config["activation"] = f"{module}.{getattr(function, '__name__', function)}"
    return config


def _groups(arrays: Arrays) -> dict[tuple[str, int], list[str]]:
    """Return the arrays of each layer in a file, in Keras's order: by the class in snake case, and a number."""
    groups: dict[tuple[str, int], list[str]] = {}
    for name in arrays.given:
        if match := re.match(r"layers/([a-z_\d]+?)(?:_(\d{1,6}))?/.*?(\d{1,3})$", name):
            groups.setdefault((match[1], int(match[2] or 0)), []).append(name)
    return {key: sorted(names, key=lambda n: ("backward" in n, n)) for key, names in groups.items()}


def _described(arrays: Arrays, config: Any) -> Iterator[Entry]:
    """Yield the layers of a .keras file: a Sequential, or a Functional that is one chain."""
    _check_chain(arrays, config["class_name"], config["config"])
    groups, counts = _groups(arrays), dict[str, int]()
    for layer in config["config"]["layers"]:
        name, own = layer["class_name"], layer["config"]
        n = counts[name] = counts.get(name, -1) + 1
        yield name, own, groups.get((snake(name), n), [])


def _check_chain(arrays: Arrays, kind: str, model: Any) -> None:
    """Refuse all but a Sequential, and a Functional whose layers each read what the one before gives: all of that."""
    if kind == "Sequential":
        return
    if kind != "Functional":
        arrays.refuse(f"its model is a {kind}, whose call is not read: a Sequential or Functional can be read")
    config = model if isinstance(model, dict) else model.get_config()
    before: list[tuple[str, str]] = []  # a layer, and which of its outputs: a state is another than the first
    for layer in config["layers"]:
        name, read = layer["config"]["name"], str(layer.get("inbound_nodes"))
        if (reads := re.findall(rf"'keras_history': {_PLACE}", read)) != before:
            arrays.refuse(f"its layer {name!r} reads {_places(reads)}: only a chain of layers can be read")
        before = [(name, "0")]
    if (gives := re.findall(_PLACE, str(config["output_layers"]))) != before:
        arrays.refuse(f"its outputs are {_places(gives)}: only those of its last layer can be read")


_PLACE = r"[\[(]'([^']*)', \d+, (\d+)[\])]"


def _places(of: Sequence[tuple[str, str]]) -> str:
    return ", ".join(f"{name!r}" + f", output {k}" * (k != "0") for name, k in of) or "none"


def _guessed(arrays: Arrays, tops: Iterable[str], own: dict[str, Any]) -> Iterator[Entry]:
    """Yield the layers of a .weights.h5 file, as far as the names of its groups tell them and their order."""
    groups, kinds = _groups(arrays), {snake(kind): kind for kind in _KNOWN}
    for name in tops:
        kind = re.sub(r"_\d+$", "", name)
        if "dropout" in kind or kind in ("input_layer", "masking"):  # without arrays, and in whatever place
            yield (
                "Dropout" if "dropout" in kind else "Masking" if kind == "masking" else "InputLayer",
                {"name": name},
                [],
            )
        elif kind not in kinds:
            arrays.refuse(f"it holds {name!r}, which minirnn has not")
    order = sorted(groups, key=lambda key: ([*kinds].index(key[0]), key[1]))
    names = [kinds[kind] for kind, _ in order]
    if len({*names} - {"Embedding", "Dense"}) > 1:
        arrays.refuse(
            f"the order of {parts.listed(dict.fromkeys(names))} is not in a .weights.h5: give the .keras file"
        )
    said = ", ".join(f"{name}={value!r}" for name, value in own.items() if value is not None)
    arrays.report.assumed.append(f"{said}, Dense linear, directions side by side: the file holds arrays alone")
    for k, (kind, key) in enumerate(zip(names, order, strict=True)):
        dense, below = kind in ("Dense", "TimeDistributed"), names[k + 1 : k + 2] == [kind]
        more = {"activation": "linear"} if dense else {"return_sequences": True} if below else {}
        yield kind, own | more, groups[key]


# --- what becomes of it -----------------------------------------------------------------------------------------------


class _Chain:
    def __init__(self, arrays: Arrays, cell: str | None, batch_first: bool) -> None:
        self.arrays, self.cell, self.batch_first = arrays, cell, batch_first
        self.report = arrays.report

    def model(self, layers: Iterable[Entry]) -> Any:
        """Build the layers one after the other, and join them."""
        levels, heads, embedding, every, flipped, masked = list[Any](), list[Any](), None, True, False, False
        for kind, config, names in layers:
            if kind == "TimeDistributed" and every and config.get("layer", {}).get("class_name", "Dense") == "Dense":
                kind, config = "Dense", config.get("layer", {"config": config})["config"]
            if kind == "Masking" or config.get("mask_zero"):
                masked = True
                self.report.assumed.append(f"{kind}: what it masks is padding; pass lengths here")
            if "Dropout" in kind:
                self.report.left_out.append(f"{kind} {config.get('name')!r}, which is for training only")
            elif kind == "Embedding" and not levels and embedding is None:
                embedding = self.plain(Embedding, names)
            elif kind == "Dense" and config.get("activation") == "linear":
                heads.append(self.plain(Linear, names))
            elif kind in (*_CLASSES, "Bidirectional") and not heads and every:
                if masked and flipped:
                    self.arrays.refuse(f"{kind} {config.get('name')!r}: Keras's mask does not turn with its sequence")
                inner = config.get("layer", {"config": config})["config"] if kind == "Bidirectional" else config
                every = bool(inner.get("return_sequences", True))
                levels.append((self.both if kind == "Bidirectional" else self.layer)(kind, config, names, flipped))
                flipped ^= kind != "Bidirectional" and bool(config.get("go_backwards"))
            elif kind not in ("InputLayer", "Masking"):
                phi = f" with activation {config['activation']!r}" if "activation" in config else ""
                self.arrays.refuse(f"{kind} {config.get('name')!r}{phi} has no equal in minirnn, or not in this place")
        if flipped:
            self.report.assumed.append("outputs stand in time order; Keras's of go_backwards are turned round")
        alone = [*heads, *([] if embedding is None else [embedding])]
        if not levels and len(alone) == 1:
            return alone[0]
        if not levels or (alone and not heads):
            self.arrays.refuse("of Embedding and Dense without a recurrent layer, or without a head, there is no model")
        if not every and not heads:
            self.report.assumed.append("Keras gives the last output alone, which is final_state here")
        recurrent = levels[0] if len(levels) == 1 else Stacked(levels)
        head = heads[0] if len(heads) == 1 else Sequential(*heads) if heads else None
        return SequenceModel(recurrent, head, "all" if every else "last", embedding=embedding) if head else recurrent

    def plain(self, kind: type, names: Sequence[str]) -> Any:
        """Make a Linear or an Embedding."""
        weight = self.arrays.take(self.counted(names, 1, 2)[0], None, None)
        found = {"weight": (weight, names[0])}
        if len(names) == 2:
            found["bias"] = self.arrays.take(names[1], weight.shape[1]), names[1]
        return parts.made_plain(self.arrays, kind, found)

    def counted(self, names: Sequence[str], *counts: int) -> Sequence[str]:
        """Return the names, if they are as many as a layer has arrays."""
        if len(names) not in counts:
            self.arrays.refuse(
                f"a layer has {parts.listed(names)}, and {' or '.join(map(str, counts))} arrays make one"
            )
        return names

    def both(self, kind: str, config: dict[str, Any], names: Sequence[str], flipped: bool) -> Any:
        """Make a Bidirectional."""
        merge, half = config.get("merge_mode", "concat"), len(self.counted(names, 4, 6)) // 2
        if merge not in _MERGES or flipped:
            why = " above go_backwards, which would exchange its directions," * flipped
            self.arrays.refuse(f"Bidirectional with merge_mode={merge!r}{why} has no equal in minirnn")
        forward = config.get("layer") or {"class_name": _kind_of(self.arrays, names[:half]), "config": config}
        backward = config.get("backward_layer") or forward
        layers = []
        for of, way, own in ((forward, False, names[:half]), (backward, True, names[half:])):
            if of["class_name"] not in _CLASSES:
                self.arrays.refuse(f"Bidirectional of {of['class_name']} has no equal in minirnn")
            layers.append(self.layer(of["class_name"], of["config"] | {"go_backwards": way}, own, False))
        return parts.assembled([layers], _MERGES[merge])

    def layer(self, kind: str, config: dict[str, Any], names: Sequence[str], flipped: bool) -> Layer:
        """Make one layer of its kernel, recurrent kernel and bias."""
        cell, arrays, (kernel, recurrent, *bias) = _CLASSES[kind], self.arrays, self.counted(names, 2, 3)
        settings, order = self.settings(kind, config), _ORDER[cell]
        H = arrays.take(recurrent, None, None).shape[0]
        parts.cell_of(len(order) * H, H, self.cell, recurrent, arrays)
        W_hh, W_xh = arrays.take(recurrent, H, len(order) * H), arrays.take(kernel, None, len(order) * H)
        found = {"W_xh": (parts.reordered(W_xh, order), kernel), "W_hh": (parts.reordered(W_hh, order), recurrent)}
        after = settings.get("reset_after")
        if kind == "GRU":
            rows = np.ndim(arrays.given[bias[0]]) if bias else None
            if after is None and rows is None:
                arrays.refuse("a GRU without bias does not say whether it resets after the product: give reset_after=")
            if after is not None and rows is not None and after != (rows == 2):
                arrays.refuse(f"reset_after={after}, and its bias has {rows} axes")
            after = settings["reset_after"] = after if rows is None else rows == 2
        if bias and after:
            of_input, of_state = parts.reordered(arrays.take(bias[0], 2, 3 * H), order)
            found["b_hn"] = of_state[2 * H :].copy(), f"{bias[0]}[1]"
            found["b_h"] = np.concatenate([(of_input + of_state)[: 2 * H], of_input[2 * H :]]), bias[0]
            self.report.summed.append(f"the two rows of {bias[0]}, but for the block of h")
        elif bias:
            found["b_h"] = parts.reordered(arrays.take(bias[0], len(order) * H), order), bias[0]
        reverse = bool(config.get("go_backwards")) != flipped
        return parts.made(arrays, cell, found, reverse=reverse, batch_first=self.batch_first, **settings)

    def settings(self, kind: str, config: dict[str, Any]) -> dict[str, Any]:
        """Return what the layer is made with; refuse what minirnn has not."""
        name, phi = config.get("name", kind), config.get("activation", "tanh")
        usual = {"recurrent_activation": "sigmoid", "activation": "tanh"} if kind != "SimpleRNN" else {}
        for what, expected in usual.items():
            if (value := config.get(what, expected)) != expected:
                self.arrays.refuse(f"{kind} {name!r} with {what}={value!r} has no equal in minirnn: only {expected!r}")
        if not usual and (not isinstance(phi, str) or phi not in _PHI):
            self.arrays.refuse(f"{kind} {name!r} with activation={phi!r} has no equal in minirnn")
        for what in ("dropout", "recurrent_dropout"):
            if config.get(what):
                self.report.left_out.append(f"{what}={config[what]} of {name!r}, which is for training only")
        if config.get("stateful"):
            self.report.assumed.append(f"{name!r} is stateful: hand the final state on as initial_state here")
        return (
            {"reset_after": config.get("reset_after")} if kind == "GRU" else {} if usual else {"activation": _PHI[phi]}
        )


# --- out --------------------------------------------------------------------------------------------------------------


def to_keras(model: Any) -> list[Array]:
    """Return a model's weights in the order of Keras's ``set_weights``.

    Parameters
    ----------
    model : Layer, Bidirectional, Stacked, Linear, Embedding, SequenceModel or Sequential of these

    Raises
    ------
    InteropError
        For what Keras has no layer of: a learned initial state, a cell of one's own, two directions of a stack. What
        its layers must be told beside the arrays, ``go_backwards`` for ``reverse`` and φ, is named in a warning.
    """
    found = [array for _, arrays in keras_layers(model) for array in arrays]
    parts.left_for_training(model, "to_keras")
    parts.to_be_told(model, "Keras", "to_keras")
    return found


def keras_layers(model: Any) -> Iterator[tuple[str, list[Array]]]:
    """Yield Keras's class and arrays for each of its layers: of two directions those of both."""
    for _, part in parts.parts_of(model, "to_keras"):
        if type(part) in (Linear, Embedding):
            bias = [part.bias.data.copy()] if isinstance(part, Linear) and part.bias is not None else []
            yield "Dense" if isinstance(part, Linear) else "Embedding", [parts.weight_of(part), *bias]
            continue
        for level in parts.levels_of(part, "to_keras", merges=True):
            arrays = [array for layer in level for array in _arrays(layer)]
            yield "Bidirectional" if len(level) > 1 else _class_of(level[0]), arrays


def _class_of(layer: Layer) -> str:
    return {cell: name for name, cell in _CLASSES.items()}[parts.kind_of(layer, "to_keras")]


def _arrays(layer: Layer) -> list[Array]:
    order = _ORDER[parts.kind_of(layer, "to_keras")]
    if layer.learn_initial_state:
        raise InteropError("to_keras: Keras's layers have no learned initial state: pass it as initial_state")
    arrays = [parts.reordered(w.data, order) for w in (layer.W_xh, layer.W_hh)]
    if layer.b_h is None:
        return arrays
    b, b_hn = parts.reordered(layer.b_h.data, order), getattr(layer, "b_hn", None)
    if b_hn is not None:
        b = np.stack([b, np.concatenate([np.zeros(2 * layer.hidden_size, b.dtype), b_hn.data])])
    return [*arrays, b]
