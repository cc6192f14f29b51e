"""The ops as functions of the package: ``mr.tanh(x)``, ``mr.where(condition, a, b)`` and the rest.

Each takes Tensors, arrays or numbers and returns a Tensor. Most are methods of Tensor too, and numpy's own functions of
the same names (``np.tanh``, ``np.where``) lead here when they are given a Tensor. Equations and derivatives stand in
ops.py and shapes.py.
"""

from collections.abc import Callable, Sequence
from operator import index
from typing import TYPE_CHECKING, Any

import numpy as np

from minirnn.arguments import as_array, describe
from minirnn.autograd import ops, shapes
from minirnn.autograd.op import Axis, Op
from minirnn.autograd.operands import all_alike, as_tensor, pair
from minirnn.autograd.record import apply, binary, unary, wrap

if TYPE_CHECKING:
    from minirnn.autograd.tensor import Tensor

# --- those that have no settings: made of the op, with its docstring -------------------------------------------------


def _of_one(op: Op) -> "Callable[[Any], Tensor]":
    def function(x: Any) -> "Tensor":
        return unary(op, x)

    _name(function, op)
    return function


def _of_two(op: Op) -> "Callable[[Any, Any], Tensor]":
    def function(a: Any, b: Any) -> "Tensor":
        return binary(op, *pair(a, b, op.name))

    _name(function, op)
    return function


def _name(function: Callable[..., Any], op: Op) -> None:
    function.__name__ = function.__qualname__ = op.name
    function.__doc__ = op.forward.__doc__


abs = _of_one(ops.abs_)
exp = _of_one(ops.exp)
log = _of_one(ops.log)
relu = _of_one(ops.relu)
sigmoid = _of_one(ops.sigmoid)
sqrt = _of_one(ops.sqrt)
tanh = _of_one(ops.tanh)
matmul = _of_two(ops.matmul)
maximum = _of_two(ops.maximum)
minimum = _of_two(ops.minimum)

# --- entry by entry --------------------------------------------------------------------------------------------------


def where(condition: Any, a: Any, b: Any) -> "Tensor":
    """Entries of ``a`` where the condition holds, else of ``b``; all three broadcast."""
    return apply(ops.where, np.asarray(condition, dtype=bool), *pair(a, b, "where"))


def clip(x: Any, low: Any = None, high: Any = None) -> "Tensor":
    """Limit each entry to ``low … high``, constants of which either may be left out."""
    return unary(ops.clip, x, low=_bound(low, "low"), high=_bound(high, "high"))


def _bound(value: Any, name: str) -> Any:
    """Return a bound of `clip` as a Python number, which lets the dtype stand."""
    if value is None:
        return None
    if np.ndim(value) or getattr(value, "requires_grad", False):
        raise TypeError(
            f"clip: {name} must be a number or None, got {describe(value)}; "
            "for arrays and Tensors use maximum and minimum"
        )
    return as_array(value, f"clip: {name}", np.float64).item()


def astype(x: Any, dtype: Any) -> "Tensor":
    """Cast to another dtype; the gradient is cast back. Integers and bools carry none: a constant."""
    x, dtype = as_tensor(x), np.dtype(dtype)
    if x.dtype == dtype:
        return x
    if dtype.kind != "f":
        return wrap(as_array(x.data.astype(dtype), "astype: the result"))
    return unary(ops.astype, x, dtype=dtype)


# --- reductions ------------------------------------------------------------------------------------------------------


def sum(x: Any, axis: Axis = None, keepdims: bool = False) -> "Tensor":
    """Sum over all axes, or those given."""
    return unary(ops.sum_, x, axis=axis, keepdims=keepdims)


def mean(x: Any, axis: Axis = None, keepdims: bool = False) -> "Tensor":
    """Mean over all axes, or those given."""
    return unary(ops.mean, x, axis=axis, keepdims=keepdims)


def max(x: Any, axis: Axis = None, keepdims: bool = False) -> "Tensor":
    """Largest entry over all axes, or those given; ties share the gradient."""
    return unary(ops.max_, x, axis=axis, keepdims=keepdims)


def min(x: Any, axis: Axis = None, keepdims: bool = False) -> "Tensor":
    """Smallest entry over all axes, or those given; ties share the gradient."""
    return unary(ops.min_, x, axis=axis, keepdims=keepdims)


def softmax(x: Any, axis: int = -1) -> "Tensor":
    """exp(x) / Σ exp(x) along one axis."""
    return unary(ops.softmax, x, axis=axis)


def log_softmax(x: Any, axis: int = -1) -> "Tensor":
    """Logarithm of `softmax`, without overflow."""
    return unary(ops.log_softmax, x, axis=axis)


def logsumexp(x: Any, axis: Axis = None, keepdims: bool = False) -> "Tensor":
    """Ln Σ exp(x) over all axes, or those given, without overflow."""
    return unary(ops.logsumexp, x, axis=axis, keepdims=keepdims)


# --- shapes ----------------------------------------------------------------------------------------------------------


def reshape(x: Any, shape: int | Sequence[int]) -> "Tensor":
    """Same entries in another shape."""
    return unary(shapes.reshape, x, shape=(shape,) if isinstance(shape, int) else tuple(shape))


def transpose(x: Any, axes: Sequence[int] | None = None) -> "Tensor":
    """Axes permuted; reversed if ``axes`` is left out."""
    return unary(shapes.transpose, x, axes=tuple(axes) if axes else None)


def swapaxes(x: Any, axis1: int, axis2: int) -> "Tensor":
    """Two axes exchanged."""
    return unary(shapes.swapaxes, x, axis1=axis1, axis2=axis2)


def squeeze(x: Any, axis: Axis = None) -> "Tensor":
    """Axes of length 1 dropped."""
    return unary(shapes.squeeze, x, axis=axis)


def expand_dims(x: Any, axis: int | tuple[int, ...]) -> "Tensor":
    """Axes of length 1 inserted."""
    return unary(shapes.expand_dims, x, axis=axis)


def broadcast_to(x: Any, shape: Sequence[int]) -> "Tensor":
    """Copied along new or stretched axes."""
    return unary(shapes.broadcast_to, x, shape=tuple(shape))


def flip(x: Any, axis: Axis = None) -> "Tensor":
    """Order reversed along all axes, or those given."""
    return unary(shapes.flip, x, axis=axis)


def concatenate(tensors: Sequence[Any], axis: int = 0) -> "Tensor":
    """Tensors joined along an existing axis."""
    return apply(shapes.concatenate, *all_alike(tensors, "concatenate"), axis=index(axis))


def stack(tensors: Sequence[Any], axis: int = 0) -> "Tensor":
    """Tensors of one shape joined along a new axis."""
    return apply(shapes.stack, *all_alike(tensors, "stack"), axis=index(axis))


def unbind(x: Any, axis: int = 0) -> "tuple[Tensor, ...]":
    """All slices along an axis: ``unbind(x)[t]`` is ``x[t]``."""
    x = as_tensor(x)
    before = _before(x, axis, "unbind")
    return tuple(x[(*before, i)] for i in range(x.shape[axis]))


def split(x: Any, indices_or_sections: int | Sequence[int], axis: int = 0) -> "tuple[Tensor, ...]":
    """Parts along an axis, as `numpy.split`: a number of equal parts, or the places to cut at."""
    x = as_tensor(x)
    before = _before(x, axis, "split")
    size = x.shape[axis]
    if isinstance(indices_or_sections, int | np.integer):
        if indices_or_sections < 1 or size % indices_or_sections:
            raise ValueError(f"split: {indices_or_sections} parts do not divide axis {axis} of length {size} evenly")
        step = size // indices_or_sections
        cuts = list(range(step, size, step))
    else:
        cuts = list(indices_or_sections)
    return tuple(x[(*before, slice(a, b))] for a, b in zip([0, *cuts], [*cuts, size], strict=True))


def _before(x: "Tensor", axis: int, name: str) -> tuple[slice, ...]:
    """Return the index that takes all of the axes before ``axis``."""
    if not -x.ndim <= axis < x.ndim:
        raise ValueError(f"{name}: there is no axis {axis} in a Tensor of shape {x.shape}")
    return (slice(None),) * (axis % x.ndim)


__all__ = [n for n, f in globals().items() if getattr(f, "__module__", "") == __name__ and not n.startswith("_")]
