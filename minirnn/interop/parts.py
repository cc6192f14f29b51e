"""What all formats share: somebody else's arrays, asked for by name; layers made of arrays; models taken apart."""

import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NoReturn

import numpy as np

from minirnn.arguments import Array, describe
from minirnn.cells import GRU, LSTM, Elman, GRUResetBefore, PeepholeLSTM
from minirnn.cells.cell import BUILT_IN, OwnOp
from minirnn.layers import (
    Bidirectional,
    Dropout,
    Embedding,
    GRULayer,
    Linear,
    LSTMLayer,
    Module,
    RecurrentLayer,
    SequenceModel,
    Sequential,
    Stacked,
)
from minirnn.layers.layer import Layer
from minirnn.layers.settings import SETTINGS

CELLS = {1: "elman", 3: "gru", 4: "lstm"}
"""The cells by their number of gates."""
BLOCKS = {name: G for G, name in CELLS.items()}
MOST_ARRAYS = 10_000


class InteropError(ValueError):
    """What was given cannot be read, or has no equal on the other side; nothing has been changed, written or run."""


class Report:
    """What an importer has done; the model that it returns has it as ``model.report``.

    Attributes
    ----------
    mapped : dict of str
        For each Parameter, by its dotted name, what it was made of.
    summed : list of str
        Where two arrays became one.
    assumed : list of str
        What the source does not say, and what was taken for it.
    left_out : list of str
        What the source holds and the model does not.
    """

    def __init__(self) -> None:
        self.mapped: dict[str, str] = {}
        self.summed: list[str] = []
        self.assumed: list[str] = []
        self.left_out: list[str] = []
        self._sources: list[tuple[Any, str]] = []

    def source(self, parameter: Any, of: str) -> None:
        """Note what a Parameter was made of."""
        self._sources.append((parameter, of))

    def closed(self, model: Any) -> Any:
        """Name the Parameters as the whole model does, hand it the report, and return it."""
        sources = {id(parameter): of for parameter, of in self._sources}
        self.mapped = {name: sources[id(p)] for name, p in model.named_parameters() if id(p) in sources}
        self._sources, self.assumed = [], [*dict.fromkeys(self.assumed)]
        model.report = self
        return model

    def __str__(self) -> str:
        lines = [f"{name} ← {of}" for name, of in self.mapped.items()]
        for what in ("summed", "assumed", "left_out"):
            lines += [f"{what.replace('_', ' ')}: {line}" for line in getattr(self, what)]
        return "\n".join(lines)


def package(name: str, extra: str, caller: str) -> Any:
    """Import an extra, or say what to install; what it warns of while it is imported is not ours to mend."""
    from importlib import import_module

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return import_module(name)
    except ImportError:
        root = name.split(".")[0]
        raise ImportError(f"{caller}: {root} is not installed: try pip install 'minirnn[{extra}]'") from None


# --- arrays by name ---------------------------------------------------------------------------------------------------


class Arrays:
    """Somebody else's arrays by name. Each is asked for in the shape that it must have; what is left over is known.

    Whatever has ``detach``, a torch Tensor, is taken from its graph and device. float16 and bfloat16 become float32,
    which holds them exactly; NaN, inf and what is not floats are refused.
    """

    def __init__(self, given: Any, caller: str, report: Report) -> None:
        self.caller, self.report = caller, report
        if not isinstance(given, Mapping) or not all(type(name) is str for name in given):
            self.refuse(f"expected a dict of arrays by name, got {describe(given)}")
        if len(given) > MOST_ARRAYS:
            self.refuse(f"got {len(given):,} arrays, of at most {MOST_ARRAYS:,}")
        self.given, self._used = given, set[str]()
        self.dtypes: set[np.dtype[Any]] = set()

    def refuse(self, fault: str) -> NoReturn:
        """Raise the one error that there is for what cannot be mapped."""
        raise InteropError(f"{self.caller}: {fault}")

    def take(self, name: str, *shape: int | None) -> Array:
        """Return an array of floats of this shape; None stands for any size."""
        if name not in self.given:
            self.refuse(f"there is no array {name!r}: it holds {listed(self.given)}")
        self._used.add(name)
        try:
            array = _plain(self.given[name])
        except Exception as error:  # whatever was given converts itself
            self.refuse(f"{name} is not an array: {describe(self.given[name])} ({error})")
        kind = str(getattr(self.given[name], "dtype", array.dtype)).rpartition(".")[2]  # of torch's "torch.bfloat16"
        if kind in ("float16", "bfloat16"):
            self.report.assumed.append(f"{name} is {kind}, read as the same numbers in float32")
            array = array.astype(np.float32)
        if array.dtype.kind != "f" or array.dtype.itemsize not in (4, 8):
            self.refuse(f"{name} must be float32 or float64, got {describe(array)}")
        if len(shape) != array.ndim or any(n not in (None, m) for n, m in zip(shape, array.shape, strict=True)):
            expected = ", ".join("any" if n is None else str(n) for n in shape)
            self.refuse(f"{name} must have shape ({expected}), got {array.shape}")
        if not array.size:
            self.refuse(f"{name} is empty, {array.shape}")
        if not np.isfinite(array).all():
            self.refuse(f"{name} holds NaN or inf: a layer of them gives nothing else")
        self.dtypes.add(array.dtype.newbyteorder("="))
        return array

    def has(self, name: str) -> bool:
        """Whether there is an array of this name."""
        return name in self.given

    def left(self) -> list[str]:
        """Return the names that nobody asked for."""
        return [name for name in self.given if name not in self._used]

    def nothing_left(self) -> None:
        """Refuse arrays that nobody asked for: what is not mapped is never left out in silence."""
        if left := self.left():
            self.refuse(
                f"nothing here corresponds to {listed(left)}: take them out, or say by prefix= which part to read"
            )


def _plain(value: Any) -> Array:
    if hasattr(value, "detach"):
        value = value.detach().cpu()
        value = (value.float() if str(value.dtype) == "torch.bfloat16" else value).numpy()
    array = np.asarray(value)
    return array.astype(np.float64) if array.dtype.kind in "iu" and isinstance(value, list | tuple) else array


def listed(names: Iterable[str], most: int = 6) -> str:
    """List names, but not more than can be read."""
    names = [repr(name[:60]) for name in names]
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "") or "none"


# --- layers of arrays -------------------------------------------------------------------------------------------------


def cell_of(rows: int, H: int, cell: str | None, name: str, source: Arrays) -> str:
    """Return which cell has ``rows`` rows of gates for H neurons; another than the caller says is refused."""
    G, rest = divmod(rows, H)
    if rest or G not in CELLS:
        source.refuse(f"{name} has {rows} rows for H={H}: 1, 3 or 4 times H make elman, gru or lstm")
    if cell not in (None, *CELLS.values()):
        source.refuse(f"cell must be 'elman', 'lstm', 'gru' or None, got {cell!r}")
    if cell not in (None, CELLS[G]):
        source.refuse(f"cell={cell!r} has {BLOCKS[str(cell)]}·H rows, and {name} has {G}·H: it is {CELLS[G]!r}")
    return CELLS[G]


def reordered(array: Array, order: Sequence[int], axis: int = -1) -> Array:
    """Return the blocks of an array in another order."""
    return np.concatenate([np.split(array, len(order), axis)[i] for i in order], axis)


def made(source: Arrays, cell: str, arrays: Mapping[str, tuple[Array, str]], **settings: Any) -> Layer:
    """Make a layer of arrays (array, what it was made of) by minirnn's names; initial states too, as h_0, c_0."""
    W_xh, W_hh = (arrays[name][0] for name in ("W_xh", "W_hh"))
    for name, default in {"activation": "tanh", "reset_after": True}.items():
        if name in settings and (cell != {"activation": "elman", "reset_after": "gru"}[name]):
            value = settings.pop(name)
            if value != default:
                source.refuse(f"{name}={value!r} is not for {cell!r}: leave it out")
    if settings.get("activation", "tanh") not in BUILT_IN:
        source.refuse(f"activation must be one of {', '.join(BUILT_IN)}, got {settings['activation']!r}")
    dtype = np.result_type(*source.dtypes)
    kind: Any = {"elman": RecurrentLayer, "lstm": LSTMLayer, "gru": GRULayer}[cell]
    own: dict[str, Any] = {"proj_size": arrays["W_hr"][0].shape[1]} if "W_hr" in arrays else {}
    own |= {"peepholes": True} if "w_c" in arrays else {}
    layer: Layer = kind(
        *(W_xh.shape[0], W_hh.shape[1] // BLOCKS[cell]),
        bias="b_h" in arrays,
        learn_initial_state="h_0" in arrays,
        input_initializer="zeros",
        recurrent_initializer="zeros",
        dtype=dtype,
        **own,
        **settings,
    )
    _filled(layer, arrays, source)
    return layer


def made_plain(source: Arrays, kind: type, arrays: Mapping[str, tuple[Array, str]]) -> Any:
    """Make a Linear or an Embedding of arrays (array, what it was made of) by minirnn's names."""
    bias = {"bias": "bias" in arrays} if kind is Linear else {}
    dtype = np.result_type(*source.dtypes)
    module = kind(*arrays["weight"][0].shape, **bias, initializer="zeros", dtype=dtype)
    return _filled(module, arrays, source)


def _filled(module: Module, arrays: Mapping[str, tuple[Array, str]], source: Arrays) -> Module:
    for name, (array, of) in arrays.items():
        parameter = getattr(module, name)
        parameter.data = np.array(array, parameter.dtype, order="C")  # a copy: nobody else's memory is trained
        source.report.source(parameter, of)
    return module


def assembled(levels: Sequence[Sequence[Any]], merge: Any = "concat") -> Any:
    """Join layers from the bottom up, one or two directions each: a layer, a `Bidirectional` or a `Stacked`."""
    each = [level[0] if len(level) == 1 else Bidirectional(*level, merge=merge) for level in levels]
    return each[0] if len(each) == 1 else Stacked(each)


# --- models taken apart -----------------------------------------------------------------------------------------------

_KINDS = {Elman: "elman", LSTM: "lstm", PeepholeLSTM: "lstm", GRU: "gru", GRUResetBefore: "gru"}
_NAMES = {"W_xh", "W_hh", "b_h", "b_hn", "h_0", "c_0"}
_SOME_HAVE = {"torch": {"W_hr"}, "onnx": {"w_c"}, "safetensors": {"w_c", "W_hr"}}
"""What only some formats have, by their names as those of functions end."""
_WHILE_TRAINING = {"recurrent_dropout", "message_clip", "remat"}
_EXPORTED = {"bias", "reverse", "batch_first", "learn_initial_state", "dtype"}
_OF_NO_EFFECT = {"backend", "input_initializer", "recurrent_initializer", "rng"}


def kind_of(layer: Layer, caller: str) -> str:
    """Return "elman", "lstm" or "gru"; refuse a layer that computes anything else than these."""
    kind, core = _KINDS.get(type(layer.core)), layer.core
    if type(layer) not in (RecurrentLayer, LSTMLayer, GRULayer):
        raise InteropError(f"{caller}: a layer of its own, {type(layer).__name__}, has no equal elsewhere")
    if kind is None:
        raise InteropError(f"{caller}: a cell of its own, {type(core).__name__}, has no equal elsewhere")
    if isinstance(core, Elman) and isinstance(core.phi.op, OwnOp):
        raise InteropError(f"{caller}: the pair (φ, φ′) of {layer.name} has no equal elsewhere, whatever its name is")
    for name in SETTINGS.keys() - _WHILE_TRAINING - _EXPORTED - _OF_NO_EFFECT:
        if (value := getattr(layer, name, SETTINGS[name].default)) != SETTINGS[name].default:
            raise InteropError(f"{caller}: {layer.name} with {name}={value!r} has no equal elsewhere")
    known = _NAMES | _SOME_HAVE.get(caller.partition("_")[2], set())
    if others := [name for name, _ in layer.named_parameters() if name not in known]:
        raise InteropError(f"{caller}: {layer.name} has {', '.join(others)}, which has no equal here")
    return kind


def levels_of(model: Any, caller: str, merges: bool = False) -> list[tuple[Layer, ...]]:
    """Take a recurrent module apart: from the bottom up, one layer or a (forward, backward) pair."""
    if isinstance(model, Layer):
        kind_of(model, caller)
        return [(model,)]
    if type(model) is Stacked:
        return [level for layer in model.layers for level in levels_of(layer, caller, merges)]
    check_merge(model, caller, merges)
    pair = model.forward_layer, model.backward_layer
    for layer in pair:
        if not isinstance(layer, Layer):
            raise InteropError(f"{caller}: a Bidirectional of {layer.name} has no equal there: only of two layers")
        kind_of(layer, caller)
    return [pair]


def check_merge(model: Any, caller: str, merges: bool = False) -> None:
    """Refuse what is no Bidirectional, or unless ``merges`` one that does not put both directions side by side."""
    if type(model) is not Bidirectional:
        raise InteropError(f"{caller}: model must be a layer or a model made of minirnn's own, got {_kind(model)}")
    if model.merge != "concat" and not merges:
        raise InteropError(f"{caller}: Bidirectional with merge={model.merge!r} has no equal there: only 'concat'")


def _kind(model: Any) -> str:
    return type(model).__name__ if isinstance(model, Module) else describe(model)


def alike(levels: Sequence[Sequence[Layer]], caller: str) -> None:
    """Refuse layers that differ in what one module elsewhere has only once."""
    first = levels[0][0]
    for level in levels:
        for layer in level:
            for what in (_cell, _width, _bias):
                if what(first, caller) != what(layer, caller):
                    raise InteropError(
                        f"{caller}: one module there has layers of one kind, and here is one of "
                        f"{what(first, caller)} and one of {what(layer, caller)}: export them one by one"
                    )


def _cell(layer: Layer, caller: str) -> str:
    activation = f" with {layer.activation.name}" if isinstance(layer, RecurrentLayer) else ""
    return kind_of(layer, caller) + activation + " and reset_after=False" * (not getattr(layer, "reset_after", True))


def _width(layer: Layer, caller: str) -> str:
    P, H = layer.output_size, layer.hidden_size
    return f"H={H}" + f" with proj_size={P}" * (P != H)


def _bias(layer: Layer, caller: str) -> str:
    return f"bias={layer.b_h is not None}"


def left_for_training(model: Module, caller: str) -> None:
    """Warn, in one sentence, of what only training uses, and what is therefore not written."""
    found = []
    for name, layer in modules_of(model):
        if isinstance(layer, Dropout):
            found.append(f"Dropout({layer.p}) of {name}")
        for setting in _WHILE_TRAINING if isinstance(layer, Layer) else ():
            if (value := getattr(layer, setting)) != SETTINGS[setting].default:
                found.append(f"{setting}={value} of {name or 'the layer'}")
    if found:
        warnings.warn(f"{caller}: training only, left out: {', '.join(sorted(found))}", UserWarning, stacklevel=3)


def to_be_told(model: Module, library: str, caller: str, phi: str = "activation") -> None:
    """Warn of what the other library's modules must be told beside the arrays."""
    said = set()
    for name, part in modules_of(model):
        said |= {f"{phi}={part.activation.name!r}"} if isinstance(part, RecurrentLayer) else set()
        said |= (
            {"reverse=True"} if isinstance(part, Layer) and part.reverse > name.endswith("backward_layer") else set()
        )
        said |= {f"merge={part.merge!r}"} if isinstance(part, Bidirectional) else set()
    if said := said - {f"{phi}='tanh'", "merge='concat'"}:
        warnings.warn(f"{caller}: not in the arrays, tell {library}: {', '.join(sorted(said))}", stacklevel=3)


def modules_of(module: Module, prefix: str = "") -> Iterable[tuple[str, Module]]:
    """Yield a module and all it owns, by dotted names."""
    yield prefix, module
    for name, child in module.children():
        yield from modules_of(child, f"{prefix}.{name}".lstrip("."))


def weight_of(part: Linear | Embedding) -> Array:
    """Return the weight as it acts: an Embedding's vector of padding is 0, whatever its row holds."""
    weight = part.weight.data.copy()
    if isinstance(part, Embedding) and part.padding_idx is not None:
        weight[part.padding_idx] = 0
    return weight


def parts_of(model: Any, caller: str) -> list[tuple[str, Any]]:
    """Return what a model consists of by name, in the order of use: recurrent modules whole, Linear and Embedding."""
    if type(model) is Dropout:
        return []
    if type(model) not in (SequenceModel, Sequential):  # a class derived from them may do anything
        return [("", model)]
    names = ("embedding", "recurrent", "head") if isinstance(model, SequenceModel) else None
    children = [(n, getattr(model, n)) for n in names if getattr(model, n) is not None] if names else model.children()
    return [(f"{n}.{inner}".rstrip("."), part) for n, child in children for inner, part in parts_of(child, caller)]
