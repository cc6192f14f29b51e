"""The ops as functions of the package: ``mr.tanh(x)``, ``mr.where(condition, a, b)`` and the rest.

Each takes Tensors, arrays or numbers and returns a Tensor. numpy's own functions of the same names (``np.tanh``,
``np.where``) lead here when they are given a Tensor. Equations and derivatives stand in minirnn/autograd/ops.py.
"""

from collections.abc import Sequence
from functools import reduce
from operator import index
from typing import Any

import numpy as np

from minirnn.arguments import as_array
from minirnn.autograd import ops
from minirnn.autograd.op import Axis
from minirnn.autograd.tensor import FUNCTIONS, Tensor, apply, binary, common_dtype, pair, unary


def as_tensor(x: Any) -> Tensor:
    """Return ``x`` if it is a Tensor, else a constant made of it."""
    return x if isinstance(x, Tensor) else Tensor(x)


# --- element by element ----------------------------------------------------------------------------------------------


def exp(x: Any) -> Tensor:
    """E to the power of each entry."""
    return unary(ops.exp, as_tensor(x))


def log(x: Any) -> Tensor:
    """Natural logarithm of each entry."""
    return unary(ops.log, as_tensor(x))


def sqrt(x: Any) -> Tensor:
    """Square root of each entry."""
    return unary(ops.sqrt, as_tensor(x))


def abs(x: Any) -> Tensor:
    """Absolute value of each entry; its derivative at 0 is 0."""
    return unary(ops.abs_, as_tensor(x))


def tanh(x: Any) -> Tensor:
    """Hyperbolic tangent of each entry."""
    return unary(ops.tanh, as_tensor(x))


def sigmoid(x: Any) -> Tensor:
    """Logistic function σ(x) = ½(1 + tanh(x/2)) of each entry; overflows nowhere.

    >>> sigmoid([-1000.0, 0.0, 1000.0]).numpy()
    array([0. , 0.5, 1. ], dtype=float32)
    """
    return unary(ops.sigmoid, as_tensor(x))


def relu(x: Any) -> Tensor:
    """Rectifier max(x, 0) of each entry; its derivative at 0 is 0."""
    return unary(ops.relu, as_tensor(x))


def maximum(a: Any, b: Any) -> Tensor:
    """Larger of two, element by element; where they are equal, each gets half the gradient."""
    return binary(ops.maximum, *pair(a, b, "maximum"))


def minimum(a: Any, b: Any) -> Tensor:
    """Smaller of two, element by element; where they are equal, each gets half the gradient."""
    return binary(ops.minimum, *pair(a, b, "minimum"))


def where(condition: Any, a: Any, b: Any) -> Tensor:
    """Entries of ``a`` where the condition holds, else of ``b``; all three broadcast."""
    return apply(ops.where, np.asarray(condition, dtype=bool), *pair(a, b, "where"))


def clip(x: Any, low: Any = None, high: Any = None) -> Tensor:
    """Limit each entry to ``low … high``, constants of which either may be left out."""
    return as_tensor(x).clip(low, high)


def matmul(a: Any, b: Any) -> Tensor:
    """Matrix product, 1-D to n-D, with numpy's rules."""
    return binary(ops.matmul, *pair(a, b, "matmul"))


# --- reductions ------------------------------------------------------------------------------------------------------


def sum(x: Any, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """Sum over all axes, or those given."""
    return as_tensor(x).sum(axis, keepdims)


def mean(x: Any, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """Mean over all axes, or those given."""
    return as_tensor(x).mean(axis, keepdims)


def max(x: Any, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """Largest entry over all axes, or those given; ties share the gradient."""
    return as_tensor(x).max(axis, keepdims)


def min(x: Any, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """Smallest entry over all axes, or those given; ties share the gradient."""
    return as_tensor(x).min(axis, keepdims)


def softmax(x: Any, axis: int = -1) -> Tensor:
    """exp(x) / Σ exp(x) along one axis."""
    return unary(ops.softmax, as_tensor(x), axis=axis)


def log_softmax(x: Any, axis: int = -1) -> Tensor:
    """Logarithm of `softmax`, without overflow."""
    return unary(ops.log_softmax, as_tensor(x), axis=axis)


def logsumexp(x: Any, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """Ln Σ exp(x) over all axes, or those given, without overflow."""
    return unary(ops.logsumexp, as_tensor(x), axis=axis, keepdims=keepdims)


# --- shapes ----------------------------------------------------------------------------------------------------------


def reshape(x: Any, shape: int | Sequence[int]) -> Tensor:
    """Same entries in another shape."""
    return as_tensor(x).reshape(*((shape,) if isinstance(shape, int) else shape))


def transpose(x: Any, axes: Sequence[int] | None = None) -> Tensor:
    """Axes permuted; reversed if ``axes`` is left out."""
    return as_tensor(x).transpose(*(axes or ()))


def swapaxes(x: Any, axis1: int, axis2: int) -> Tensor:
    """Two axes exchanged."""
    return as_tensor(x).swapaxes(axis1, axis2)


def squeeze(x: Any, axis: Axis = None) -> Tensor:
    """Axes of length 1 dropped."""
    return as_tensor(x).squeeze(axis)


def expand_dims(x: Any, axis: int | tuple[int, ...]) -> Tensor:
    """Axes of length 1 inserted."""
    return unary(ops.expand_dims, as_tensor(x), axis=axis)


def broadcast_to(x: Any, shape: Sequence[int]) -> Tensor:
    """Copied along new or stretched axes."""
    return as_tensor(x).broadcast_to(tuple(shape))


def flip(x: Any, axis: Axis = None) -> Tensor:
    """Order reversed along all axes, or those given."""
    return unary(ops.flip, as_tensor(x), axis=axis)


def astype(x: Any, dtype: Any) -> Tensor:
    """Cast to another dtype; the gradient is cast back."""
    return as_tensor(x).astype(dtype)


def _same_dtype(tensors: Sequence[Any], name: str) -> list[Tensor]:
    if isinstance(tensors, Tensor) or not len(tensors):
        raise TypeError(f"{name}: expected a sequence of Tensors, not empty, got {type(tensors).__name__}")
    dtypes = [t.dtype for t in tensors if hasattr(t, "dtype")]
    dtype = reduce(common_dtype, dtypes) if dtypes else np.dtype(np.float32)
    if dtype.kind != "f" and len(dtypes) < len(tensors):
        dtype = np.dtype(np.float32)  # lists are floats
    return [
        (t if isinstance(t, Tensor) else Tensor(as_array(t, f"{name}: tensors[{i}]", dtype))).astype(dtype)
        for i, t in enumerate(tensors)
    ]


def concatenate(tensors: Sequence[Any], axis: int = 0) -> Tensor:
    """Tensors joined along an existing axis."""
    return apply(ops.concatenate, *_same_dtype(tensors, "concatenate"), axis=index(axis))


def stack(tensors: Sequence[Any], axis: int = 0) -> Tensor:
    """Tensors of one shape joined along a new axis."""
    return apply(ops.stack, *_same_dtype(tensors, "stack"), axis=index(axis))


def _before(x: Tensor, axis: int, name: str) -> tuple[slice, ...]:
    """Return the index that takes all of the axes before ``axis``."""
    if not -x.ndim <= axis < x.ndim:
        raise ValueError(f"{name}: there is no axis {axis} in a Tensor of shape {x.shape}")
    return (slice(None),) * (axis % x.ndim)


def unbind(x: Any, axis: int = 0) -> tuple[Tensor, ...]:
    """All slices along an axis: ``unbind(x)[t]`` is ``x[t]``."""
    x = as_tensor(x)
    before = _before(x, axis, "unbind")
    return tuple(x[(*before, i)] for i in range(x.shape[axis]))


def split(x: Any, indices_or_sections: int | Sequence[int], axis: int = 0) -> tuple[Tensor, ...]:
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


FUNCTIONS.update(
    sum=sum, mean=mean, max=max, min=min, amax=max, amin=min, where=where, clip=clip, reshape=reshape,
    transpose=transpose, swapaxes=swapaxes, squeeze=squeeze, expand_dims=expand_dims, broadcast_to=broadcast_to,
    flip=flip, concatenate=concatenate, stack=stack, split=split, unstack=unbind, astype=astype,
)  # fmt: skip
