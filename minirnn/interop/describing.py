"""A model's structure as plain values, which a file can hold beside its arrays, and the model built of them again."""

from typing import Any

import numpy as np

from minirnn.arguments import Array, describe, typed
from minirnn.interop.parts import Arrays, InteropError, kind_of
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

_SIZES = {Linear: ("in_features", "out_features"), Embedding: ("num_embeddings", "embedding_dim"), Dropout: ()}
_SIZES |= dict.fromkeys((RecurrentLayer, LSTMLayer, GRULayer), ("input_size", "hidden_size"))
_SETTINGS: dict[type, dict[str, Any]] = {
    Layer: {"reverse": False, "batch_first": False, "learn_initial_state": False}
    | {"recurrent_dropout": 0.0, "message_clip": None, "remat": False, "backend": "fused"},
    RecurrentLayer: {"activation": "tanh"},
    GRULayer: {"reset_after": True},
    LSTMLayer: {"proj_size": None, "peepholes": False},
    Embedding: {"padding_idx": None},
    Dropout: {"p": None},
    SequenceModel: {"readout": "all"},
    Bidirectional: {"merge": "concat"},
}
_HOLDERS = {Bidirectional: ("forward_layer", "backward_layer"), SequenceModel: ("recurrent", "head", "embedding")}
_KINDS: dict[str, type] = {kind.__name__: kind for kind in (*_SIZES, *_HOLDERS, Stacked, Sequential)}
_BIASES = {Linear: "bias"} | dict.fromkeys((RecurrentLayer, LSTMLayer, GRULayer), "b_h")


def describe_model(module: Any, caller: str) -> dict[str, Any]:
    """Return what `built` needs, as values that JSON holds; InteropError for what is not minirnn's own."""
    kind = type(module)
    if kind.__name__ not in _KINDS or kind is not _KINDS[kind.__name__]:
        name = kind.__name__ if isinstance(module, Module) else describe(module)
        raise InteropError(f"{caller}: model must be made of minirnn's own layers, got {name}")
    if isinstance(module, Layer):
        kind_of(module, caller)
    found: dict[str, Any] = {"is": kind.__name__, "sizes": [getattr(module, name) for name in _SIZES.get(kind, ())]}
    for name, default in _settings(kind).items():
        value = getattr(module, name)
        value = value.name if name == "activation" else value
        if value != default:
            found[name] = value
    if kind in _BIASES and getattr(module, _BIASES[kind]) is None:
        found["bias"] = False
    if kind in _SIZES and kind is not Dropout:
        found["dtype"] = str(next(iter(module.parameters())).dtype)
    if kind not in _SIZES:
        found["parts"] = {name: describe_model(child, caller) for name, child in module.children()}
    return found


def _settings(kind: type) -> dict[str, Any]:
    return {name: default for of, some in _SETTINGS.items() if issubclass(kind, of) for name, default in some.items()}


def build_model(found: Any, most: int, caller: str) -> Any:
    """Build a model of a description; none of its sizes may ask for more than ``most`` numbers."""
    try:
        return _built(found, most)
    except (TypeError, ValueError, LookupError, AttributeError, RecursionError) as error:
        raise InteropError(f"{caller}: its description of the model is none ({error})") from error


def _built(found: Any, most: int) -> Any:
    options = dict(found)
    kind, sizes, parts = _KINDS[options.pop("is")], options.pop("sizes", []), options.pop("parts", {})
    known = {*_settings(kind), *(["bias"] if kind in _BIASES else []), *(["dtype"] if sizes else [])}
    if unknown := options.keys() - known:
        raise ValueError(f"{kind.__name__} has no {', '.join(sorted(unknown))}")
    if kind in _SIZES:
        blocks = getattr(kind, "gates", 1)
        recurrent = options.get("proj_size") or sizes[1] if issubclass(kind, Layer) else 0
        if any(type(n) is not int for n in sizes) or (sizes and (sizes[0] + recurrent) * sizes[1] * blocks > most):
            raise ValueError(f"sizes {sizes!r} are not those of its {most:,} numbers")
        start = {"initializer": "zeros"} if not recurrent else dict.fromkeys(_INITIAL, "zeros")
        return kind(*sizes, **options, **(start if sizes else {}))
    made = {name: _built(part, most) for name, part in parts.items()}
    if kind in _HOLDERS:
        return kind(**made, **options)
    dropout = made.pop("dropout", None)
    if list(made) != [str(i) for i in range(len(made))]:
        raise ValueError(f"{kind.__name__} of {list(made)!r}")
    if kind is Sequential:
        return Sequential(*made.values())
    return Stacked(list(made.values()), dropout=0.0 if dropout is None else dropout.p)


_INITIAL = ("input_initializer", "recurrent_initializer")


def fill(model: Module, arrays: Arrays) -> Any:
    """Set every Parameter to the array of its name: all of them, or none."""
    parameters = dict(model.named_parameters())
    taken = {name: _taken(arrays, name, p) for name, p in parameters.items()}
    arrays.nothing_left()
    for name, p in parameters.items():
        p.data = taken[name]
        arrays.report.source(p, name)
    return arrays.report.closed(model)


def _taken(arrays: Arrays, name: str, p: Any) -> Array:
    array = arrays.take(name, *p.shape)
    if array.dtype.itemsize > p.dtype.itemsize:
        arrays.report.assumed.append(f"{name} is {array.dtype}, rounded to the model's {p.dtype}")
    try:
        return np.array(typed(array, p.dtype, name), order="C")  # a copy
    except ValueError as error:
        arrays.refuse(str(error))
