"""Weights in and out of flax, linen and nnx, and of equinox: nested dicts, and a cell's fields."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from minirnn.arguments import Array, one_of
from minirnn.interop import parts
from minirnn.interop.parts import Arrays, InteropError, Report
from minirnn.layers import Embedding, Linear
from minirnn.layers.layer import Layer

_GATES = {"elman": ("",), "lstm": tuple("ifgo"), "gru": tuple("rzn")}
"""What flax calls minirnn's blocks, in minirnn's order: the keys are i and h before them."""


def from_flax(
    tree: Any,
    cell: str | None = None,
    *,
    activation: str = "tanh",
    reset_after: bool = True,
    reverse: bool = False,
    batch_first: bool = False,
) -> Any:
    """Make a layer of the parameters of one flax module.

    Parameters
    ----------
    tree : dict, FrozenDict or nnx.State
        Of linen's or nnx's SimpleCell, LSTMCell, OptimizedLSTMCell or GRUCell, of an RNN of one of them, of Dense
        (nnx: Linear) or Embed; with or without ``"params"``.
    cell : "elman", "lstm" or "gru", optional
        To be sure: it follows from the names.
    activation, reset_after, reverse, batch_first
        Of the layer; the arrays do not say. flax's GRU resets after the product: ``reset_after=False`` is refused.

    Returns
    -------
    Layer, Linear or Embedding
        With ``model.report``. The state of an LSTM is (h, c), where flax has (c, h).

    Raises
    ------
    InteropError
        For arrays that are missing, left over, of another shape or not finite, and for several cells at once.

    >>> import minirnn as mr
    >>> tree = to_flax(mr.LSTMLayer(2, 3, rng=0))
    >>> sorted(tree["params"]), tree["params"]["hf"]["bias"]
    (['hf', 'hg', 'hi', 'ho', 'if', 'ig', 'ii', 'io'], array([1., 1., 1.], dtype=float32))
    >>> from_flax(tree).report.mapped["W_xh"]
    'ii, if, ig, io: kernel'
    """
    flat = dict(_flat(tree))
    for wrap in ("params.", "cell."):
        if flat and all(name.startswith(wrap) for name in flat):
            flat = {name.removeprefix(wrap): value for name, value in flat.items()}
    arrays = Arrays(flat, "from_flax", Report())
    if not reset_after:
        arrays.refuse("reset_after=False: flax's GRUCell resets after the product")
    if "kernel" in flat or "embedding" in flat:
        kind, weight = (Linear, "kernel") if "kernel" in flat else (Embedding, "embedding")
        found = {"weight": (arrays.take(weight, None, None), weight)}
        if kind is Linear and "bias" in flat:
            found["bias"] = arrays.take("bias", found["weight"][0].shape[1]), "bias"
        model = parts.made_plain(arrays, kind, found)
    else:
        settings = {"activation": activation} if activation != "tanh" else {}
        model = _layer(arrays, cell, settings | {"reverse": reverse, "batch_first": batch_first})
    arrays.nothing_left()
    return arrays.report.closed(model)


def _flat(tree: Any, prefix: str = "", depth: int = 0) -> Any:
    if not isinstance(tree, Mapping) or depth > 20:
        raise InteropError(f"from_flax: expected a tree of dicts with arrays, got a {type(tree).__name__}")
    for name, value in tree.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.", depth + 1)
        else:
            yield f"{prefix}{name}", value


def _layer(arrays: Arrays, cell: str | None, settings: dict[str, Any]) -> Layer:
    if arrays.has("dense_i.kernel"):
        H = arrays.take("dense_h.kernel", None, None).shape[0]
        kind = parts.cell_of(arrays.take("dense_i.kernel", None, None).shape[1], H, cell, "dense_i", arrays)
        keys, width = [["dense_i"], ["dense_h"]], len(_GATES[kind]) * H
    else:
        kind = next((k for k, gates in _GATES.items() if arrays.has(f"h{gates[-1]}.kernel")), "")
        if not kind:
            arrays.refuse(f"there is no one cell of flax's here, but {sorted(arrays.given)[:4]}: give the tree of one")
        keys = [[_key(way + gate, arrays.has("if_.kernel")) for gate in _GATES[kind]] for way in "ih"]
        H = width = arrays.take(f"{keys[1][0]}.kernel", None, None).shape[0]
        parts.cell_of(len(_GATES[kind]) * H, H, cell, "the tree", arrays)
    D = arrays.take(f"{keys[0][0]}.kernel", None, width).shape[0]
    found: dict[str, tuple[Array, str]] = {}
    for name, names, rows in (("W_xh", keys[0], D), ("W_hh", keys[1], H)):
        blocks = [arrays.take(f"{key}.kernel", rows, width) for key in names]
        found[name] = np.concatenate(blocks, axis=1), f"{', '.join(names)}: kernel"
    biased = [key for key in (*keys[0], *keys[1]) if arrays.has(f"{key}.bias")]
    if biased:
        of_input, of_state = (
            np.concatenate([arrays.take(f"{k}.bias", width) if k in biased else np.zeros(width) for k in names])
            for names in keys
        )
        if kind == "gru":
            found["b_hn"] = of_state[2 * H :].copy(), "hn: bias" if "hn" in biased else "nothing: it is 0"
            of_state[2 * H :] = 0
        found["b_h"] = of_input + of_state, f"{', '.join(biased)}: bias"
    return parts.made(arrays, kind, found, **settings)


def _key(name: str, nnx: bool) -> str:
    return "if_" if nnx and name == "if" else name


def to_flax(model: Any, api: str = "linen") -> dict[str, Any]:
    """Return the parameters of a layer, a Linear or an Embedding as flax nests them.

    Parameters
    ----------
    model : Layer, Linear or Embedding
        Of a stack or two directions, each layer by itself.
    api : "linen" or "nnx"
        linen: ``{"params": {…}}``; nnx: what ``nnx.replace_by_pure_dict`` takes, of SimpleCell, LSTMCell or GRUCell,
        whose GRUCell has no b_hn: one that is not 0 is refused.

    Raises
    ------
    InteropError
        For what flax has no cell of. What its modules are told beside the arrays, φ and the direction, is named in a
        warning.
    """
    api = one_of(api, ("linen", "nnx"), "to_flax: api")
    if type(model) in (Linear, Embedding):
        tree: dict[str, Any] = {"kernel" if isinstance(model, Linear) else "embedding": parts.weight_of(model)}
        if isinstance(model, Linear) and model.bias is not None:
            tree["bias"] = model.bias.data.copy()
        return {"params": tree} if api == "linen" else tree
    kind, H = _checked(model, "to_flax", "flax"), model.hidden_size
    blocks = [np.split(w.data, len(_GATES[kind]), axis=1) for w in (model.W_xh, model.W_hh)]
    zeros = np.zeros(H, model.dtype)
    b = [zeros] * len(_GATES[kind]) if model.b_h is None else np.split(model.b_h.data, len(_GATES[kind]))
    b_hn = getattr(model, "b_hn", None)
    b_hn = zeros if b_hn is None else b_hn.data
    if api == "nnx" and kind != "lstm":
        if b_hn.any():
            raise InteropError("to_flax: b_hn is not 0, and nnx's GRUCell has no recurrent bias: api='linen' has one")
        tree = {"dense_i": {"kernel": model.W_xh.data.copy(), "bias": np.concatenate(b)}}
        return tree | {"dense_h": {"kernel": model.W_hh.data.copy()}}
    tree = {}
    for way, kernels in zip("ih", blocks, strict=True):
        for gate, kernel, bias in zip(_GATES[kind], kernels, b, strict=True):
            leaf = tree[_key(way + gate, api == "nnx")] = {"kernel": kernel.copy()}
            if (kind == "lstm") == (way == "h"):
                leaf["bias"] = bias.copy()
            elif way + gate == "hn":
                leaf["bias"] = b_hn.copy()
    return {"params": tree} if api == "linen" else tree


def _checked(model: Any, caller: str, library: str) -> str:
    """Return a layer's cell; refuse what the library has not, and warn of what its modules must be told."""
    if not isinstance(model, Layer):
        raise InteropError(f"{caller}: model must be one layer, got a {type(model).__name__}: hand its parts over")
    kind = parts.kind_of(model, caller)
    if not getattr(model, "reset_after", True):
        raise InteropError(f"{caller}: {library} has no GRU with reset_after=False")
    if model.learn_initial_state:
        raise InteropError(f"{caller}: {library}'s cells have no learned initial state: pass it as the carry")
    parts.to_be_told(model, library, caller)
    return kind


# --- equinox ----------------------------------------------------------------------------------------------------------


def from_equinox(
    cell: Any,
    *,
    activation: str = "tanh",
    reset_after: bool = True,
    reverse: bool = False,
    batch_first: bool = False,
) -> Any:
    """Make a layer of an equinox LSTMCell or GRUCell, or of a dict of its arrays by the names of its fields.

    ``reverse`` and ``batch_first`` are the layer's; another φ than tanh, or ``reset_after=False``, is not equinox's and
    refused.

    Returns
    -------
    Layer
        With ``model.report``: equinox's ``bias`` and ``bias_n`` are just minirnn's pair b_h and b_hn.

    Raises
    ------
    InteropError
        For what is no such cell, and for arrays that do not fit.

    >>> import minirnn as mr
    >>> arrays = to_equinox(mr.GRULayer(2, 3, rng=0))
    >>> {name: array.shape for name, array in arrays.items()}
    {'weight_ih': (9, 2), 'weight_hh': (9, 3), 'bias': (9,), 'bias_n': (3,)}
    >>> from_equinox(arrays).report.mapped["b_hn"]
    'bias_n'
    """
    names = ("weight_ih", "weight_hh", "bias", "bias_n")
    given = cell if isinstance(cell, Mapping) else {name: getattr(cell, name, None) for name in names}
    arrays = Arrays({name: value for name, value in given.items() if value is not None}, "from_equinox", Report())
    W_hh = arrays.take("weight_hh", None, None)
    rows, H = W_hh.shape
    kind = parts.cell_of(rows, H, None, "weight_hh", arrays)
    if activation != "tanh" or not reset_after:
        arrays.refuse(f"activation={activation!r} with reset_after={reset_after} is of none of equinox's cells")
    if kind == "elman":
        arrays.refuse("weight_hh has 1·H rows, and equinox has LSTMCell and GRUCell alone")
    found = {"W_xh": (arrays.take("weight_ih", rows, None).T, "weight_ih"), "W_hh": (W_hh.T, "weight_hh")}
    if arrays.has("bias"):
        found["b_h"] = arrays.take("bias", rows), "bias"
        if kind == "gru":
            found["b_hn"] = arrays.take("bias_n", H), "bias_n"
    arrays.nothing_left()
    return arrays.report.closed(parts.made(arrays, kind, found, reverse=reverse, batch_first=batch_first))


def to_equinox(model: Any) -> dict[str, Array]:
    """Return the arrays of an LSTM or a GRU by the names of equinox's fields, for ``equinox.tree_at``.

    InteropError for any other layer: equinox has no Elman cell, and no GRU that resets before the product.
    """
    if _checked(model, "to_equinox", "equinox") == "elman":
        raise InteropError("to_equinox: equinox has LSTMCell and GRUCell, and no cell of an Elman layer")
    found = {"weight_ih": model.W_xh.data.T.copy("C"), "weight_hh": model.W_hh.data.T.copy("C")}
    for name, field in (("b_h", "bias"), ("b_hn", "bias_n")):
        if getattr(model, name, None) is not None:
            found[field] = getattr(model, name).data.copy()
    return found
