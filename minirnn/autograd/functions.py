"""The ops as functions of the package: ``mr.tanh(x)``, ``mr.where(condition, a, b)`` and the rest; numpy's own ones.

Each takes Tensors, arrays or numbers and returns a Tensor. Most are methods of Tensor too, and numpy's own functions of
the same names (``np.tanh``, ``np.where``) lead here when they are given a Tensor. Equations and derivatives stand in
ops.py and shapes.py.
"""

from collections.abc import Callable, Sequence
from functools import reduce
from operator import index
from typing import TYPE_CHECKING, Any

import numpy as np

from minirnn.arguments import as_array, describe, unmasked
from minirnn.autograd import ops, shapes
from minirnn.autograd.modes import MODE, RECORD
from minirnn.autograd.op import REGISTRY, Axis, Op
from minirnn.autograd.record import alike, apply, binary, common_dtype, unary, wrap

if TYPE_CHECKING:
    from minirnn.autograd.tensor import Tensor

# --- entry by entry --------------------------------------------------------------------------------------------------


def abs(x: Any) -> "Tensor":
    """Take the absolute value of each entry."""
    return unary(ops.abs_, x)


def exp(x: Any) -> "Tensor":
    """Raise e to the power of each entry."""
    return unary(ops.exp, x)


def log(x: Any) -> "Tensor":
    """Take the natural logarithm of each entry."""
    return unary(ops.log, x)


def sqrt(x: Any) -> "Tensor":
    """Take the square root of each entry."""
    return unary(ops.sqrt, x)


def tanh(x: Any) -> "Tensor":
    """Take the hyperbolic tangent of each entry."""
    return unary(ops.tanh, x)


def relu(x: Any) -> "Tensor":
    """Rectify each entry: max(x, 0), which hands NaN on."""
    return unary(ops.relu, x)


def sigmoid(x: Any) -> "Tensor":
    """Apply the logistic function σ(x) = 1 / (1 + e^−x) to each entry; for its logarithm there is `log_sigmoid`."""
    return unary(ops.sigmoid, x)


def softplus(x: Any) -> "Tensor":
    """Compute ln(1 + e^x) for each entry, right in its last digits however large or small; derivative σ(x)."""
    return unary(ops.softplus, x)


def log_sigmoid(x: Any) -> "Tensor":
    """Compute ln σ(x) = −softplus(−x) for each entry, finite where σ(x) has long been 0; derivative σ(−x)."""
    return unary(ops.log_sigmoid, x)


def maximum(a: Any, b: Any) -> "Tensor":
    """Take the larger of two, entry by entry, NaN before all; the gradient goes to it, and equal ones share it."""
    return binary(ops.maximum, *_pair(a, b, "maximum"))


def minimum(a: Any, b: Any) -> "Tensor":
    """Take the smaller of two, entry by entry, NaN before all; the gradient goes to it, and equal ones share it."""
    return binary(ops.minimum, *_pair(a, b, "minimum"))


def where(condition: Any, a: Any, b: Any) -> "Tensor":
    """Take ``a`` where the condition holds, else ``b``; all three broadcast."""
    return apply(ops.where, np.array(unmasked(condition, "where: condition"), dtype=bool), *_pair(a, b, "where"))


def clip(x: Any, low: Any = None, high: Any = None) -> "Tensor":
    """Limit each entry to ``low … high``, constants of which either may be left out; NaN is handed on."""
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
    t, dtype = _tensor(x, "astype: x"), np.dtype(dtype)
    if t.dtype == dtype:
        return t
    if dtype.kind != "f":
        return wrap(as_array(t.data.astype(dtype), "astype: the result"))
    return unary(ops.astype, t, dtype=dtype)


# --- the matrix product, and reductions ------------------------------------------------------------------------------


def matmul(a: Any, b: Any) -> "Tensor":
    """Multiply matrices, 1-D to n-D with numpy's rules."""
    return binary(ops.matmul, *_pair(a, b, "matmul"))


def sum(x: Any, axis: Axis = None, keepdims: bool = False) -> "Tensor":
    """Sum over all axes, or those given."""
    return unary(ops.sum_, x, axis=axis, keepdims=keepdims)


def mean(x: Any, axis: Axis = None, keepdims: bool = False) -> "Tensor":
    """Average over all axes, or those given; ValueError where there is nothing to average."""
    return unary(ops.mean, x, axis=axis, keepdims=keepdims)


def max(x: Any, axis: Axis = None, keepdims: bool = False) -> "Tensor":
    """Find the largest entry over all axes, or those given, NaN before all; ties share the gradient."""
    return unary(ops.max_, x, axis=axis, keepdims=keepdims)


def min(x: Any, axis: Axis = None, keepdims: bool = False) -> "Tensor":
    """Find the smallest entry over all axes, or those given, NaN before all; ties share the gradient."""
    return unary(ops.min_, x, axis=axis, keepdims=keepdims)


def softmax(x: Any, axis: int = -1) -> "Tensor":
    """Compute exp(x) / Σ exp(x) along one axis: of [1, 1, ∞] the limit, [0, 0, 1], and NaN where there is none."""
    return unary(ops.softmax, x, axis=axis)


def log_softmax(x: Any, axis: int = -1) -> "Tensor":
    """Compute the logarithm of `softmax`, without overflow."""
    return unary(ops.log_softmax, x, axis=axis)


def logsumexp(x: Any, axis: Axis = None, keepdims: bool = False) -> "Tensor":
    """Compute ln Σ exp(x) over all axes, or those given, without overflow."""
    return unary(ops.logsumexp, x, axis=axis, keepdims=keepdims)


# --- shapes ----------------------------------------------------------------------------------------------------------


def reshape(x: Any, shape: int | Sequence[int]) -> "Tensor":
    """Return the same entries in another shape."""
    return unary(shapes.reshape, x, shape=(shape,) if isinstance(shape, int) else tuple(shape))


def transpose(x: Any, axes: Sequence[int] | None = None) -> "Tensor":
    """Permute the axes; reverse them if ``axes`` is left out."""
    return unary(shapes.transpose, x, axes=tuple(axes) if axes else None)


def swapaxes(x: Any, axis1: int, axis2: int) -> "Tensor":
    """Exchange two axes."""
    return unary(shapes.swapaxes, x, axis1=axis1, axis2=axis2)


def squeeze(x: Any, axis: Axis = None) -> "Tensor":
    """Drop axes of length 1."""
    return unary(shapes.squeeze, x, axis=axis)


def expand_dims(x: Any, axis: int | tuple[int, ...]) -> "Tensor":
    """Insert axes of length 1."""
    return unary(shapes.expand_dims, x, axis=axis)


def broadcast_to(x: Any, shape: Sequence[int]) -> "Tensor":
    """Copy along new or stretched axes."""
    return unary(shapes.broadcast_to, x, shape=tuple(shape))


def flip(x: Any, axis: Axis = None) -> "Tensor":
    """Reverse the order along all axes, or those given."""
    return unary(shapes.flip, x, axis=axis)


def concatenate(tensors: Sequence[Any], axis: int = 0) -> "Tensor":
    """Join Tensors along an existing axis."""
    return apply(shapes.concatenate, *_all_alike(tensors, "concatenate"), axis=index(axis))


def stack(tensors: Sequence[Any], axis: int = 0) -> "Tensor":
    """Join Tensors of one shape along a new axis."""
    return apply(shapes.stack, *_all_alike(tensors, "stack"), axis=index(axis))


def unbind(x: Any, axis: int = 0) -> "tuple[Tensor, ...]":
    """Return all slices along an axis: ``unbind(x)[t]`` is ``x[t]``."""
    x = _tensor(x, "unbind: x")
    before = _before(x, axis, "unbind")
    return tuple(x[(*before, i)] for i in range(x.shape[axis]))


def split(x: Any, indices_or_sections: int | Sequence[int], axis: int = 0) -> "tuple[Tensor, ...]":
    """Cut along an axis, as `numpy.split` does: into a number of equal parts, or at the places given."""
    x, cuts = _tensor(x, "split: x"), indices_or_sections
    before = _before(x, axis, "split")
    size = x.shape[axis]
    if isinstance(cuts, int | np.integer):
        if cuts < 1 or size % cuts:
            raise ValueError(f"split: {cuts} parts do not divide axis {axis} of length {size} evenly")
        cuts = range(size // cuts, size, size // cuts)
    return tuple(x[(*before, slice(a, b))] for a, b in zip([0, *cuts], [*cuts, size], strict=True))


def _before(x: "Tensor", axis: int, name: str) -> tuple[slice, ...]:
    """Index all of the axes before ``axis``."""
    if not -x.ndim <= axis < x.ndim:
        raise ValueError(f"{name}: there is no axis {axis} in a Tensor of shape {x.shape}")
    return (slice(None),) * (axis % x.ndim)


__all__ = [n for n, f in globals().items() if getattr(f, "__module__", "") == __name__ and not n.startswith("_")]

# --- what they take --------------------------------------------------------------------------------------------------


def _pair(a: Any, b: Any, name: str) -> tuple[Any, Any]:
    """Bring two operands, of which neither need be a Tensor, to one dtype; at least one comes back as a Tensor."""
    if hasattr(b, "__array__") and not hasattr(a, "__array__"):
        b = _tensor(b, f"{name}: b")
    elif not isinstance(b, Tensor):
        a = _tensor(a, f"{name}: a")
    a, b = alike(a, b)
    if a is NotImplemented:
        raise TypeError(f"{name}: both operands must be Tensors, arrays, lists or numbers")
    return a, b


def _tensor(x: Any, argument: str, dtype: Any = np.float32) -> "Tensor":
    """Return ``x`` if it is a Tensor, else a constant made of it."""
    return x if isinstance(x, Tensor) else Tensor(as_array(x, argument, dtype))


def _all_alike(tensors: Sequence[Any], name: str) -> "list[Tensor]":
    """Bring what is to be joined to one dtype, as Tensors."""
    if isinstance(tensors, Tensor) or not len(tensors):
        raise TypeError(f"{name}: expected a sequence of Tensors, not empty, got {type(tensors).__name__}")
    dtypes = [t.dtype for t in tensors if hasattr(t, "dtype")]
    common = reduce(common_dtype, dtypes) if dtypes else np.dtype(np.float32)
    dtype = common if common.kind == "f" or len(dtypes) == len(tensors) else np.dtype(np.float32)  # lists are floats
    return [_tensor(t, f"{name}: tensors[{i}]", dtype).astype(dtype) for i, t in enumerate(tensors)]


# --- numpy's own functions on Tensors: each leads to the op of its name, or is refused where a gradient would be lost -

UFUNCS: dict[Any, Op] = {op.ufunc: op for op in REGISTRY.values() if op.ufunc is not None}
"""numpy's ufuncs that work on Tensors, ``ndarray + Tensor`` and its like included."""

FUNCTIONS: dict[str, Callable[..., Any]] = {
    name: globals()[name]
    for name in __all__
    if not isinstance(getattr(np, name, np.add), np.ufunc)  # add stands for what numpy does not have
} | {"amax": max, "amin": min, "unstack": unbind}
"""numpy's other functions that work on Tensors, by name."""


WRITERS = {"copyto", "put", "place", "putmask", "fill_diagonal", "put_along_axis"}
"""What returns nothing but writes, and must be refused before it does."""


def array_ufunc(self: "Tensor", ufunc: Any, method: str, *inputs: Any, **kwargs: Any) -> Any:
    """Tensor's ``__array_ufunc__``."""
    if (op := UFUNCS.get(ufunc)) is not None and method == "__call__" and not kwargs:
        return binary(op, *inputs) if len(inputs) == 2 else unary(op, inputs[0])
    if kwargs.get("out") is not None or method == "at":
        raise TypeError(f"np.{ufunc.__name__}: a Tensor cannot be written into an array; write a = a + t, not a += t")
    return _only_without_derivative(ufunc, method, inputs, kwargs)


def array_function(self: "Tensor", func: Any, types: Any, args: Any, kwargs: Any) -> Any:
    """Tensor's ``__array_function__``."""
    function = FUNCTIONS.get(func.__name__)
    return function(*args, **kwargs) if function is not None else _only_without_derivative(func, "", args, kwargs)


def _only_without_derivative(func: Any, method: str, args: Any, kwargs: Any) -> Any:
    """Call a numpy function that has no op on the plain arrays, if nothing differentiable is lost by it."""
    tensors: list[Tensor] = []

    def plain(value: Any) -> Any:
        if isinstance(value, Tensor):
            tensors.append(value)
            return value.data
        return type(value)(plain(v) for v in value) if type(value) in (list, tuple) else value

    args, kwargs = plain(args), {k: plain(v) for k, v in kwargs.items()}
    lost = MODE.get() & RECORD and any(t.requires_grad for t in tensors)
    if not (lost and func.__name__ in WRITERS):
        result = (getattr(func, method) if method else func)(*args, **kwargs)
        lost = lost and _holds_floats(result)
    if lost and func.__name__ not in ("zeros_like", "ones_like", "empty_like"):
        module = getattr(func, "__module__", "numpy").replace("numpy", "np", 1)
        name = f"{module}.{func.__name__}" + (f".{method}" if method not in ("", "__call__") else "")
        raise TypeError(
            f"{name}: no derivative is known for it. Use one of minirnn's functions (mr.tanh, mr.sum, …), "
            "or t.detach() or t.numpy() if no gradient should flow"
        )
    return result


def _holds_floats(result: Any) -> bool:
    if isinstance(result, tuple | list):
        return any(map(_holds_floats, result))
    return isinstance(result, float) or getattr(getattr(result, "dtype", None), "kind", "") == "f"
