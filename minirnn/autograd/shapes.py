"""The ops that move entries about, each with its rules; first what broadcasting does to a gradient."""

from typing import Any

import numpy as np

from minirnn.arguments import Array
from minirnn.autograd import indexed
from minirnn.autograd.indexed import IndexedGradient
from minirnn.autograd.op import Axis, op

# --- broadcasting, for rules: array or Tensor alike ------------------------------------------------------------------


def sum_to(g: Any, shape: tuple[int, ...]) -> Any:
    """Sum ``g`` over the axes that broadcasting added or stretched, so that it has ``shape``."""
    if g.shape == shape:
        return g
    if g.shape[1:] == shape:  # a bias: the case that every step of a loop meets
        return g.reshape(shape) if g.shape[0] == 1 else np.add.reduce(g) if type(g) is np.ndarray else g.sum(axis=0)
    added = g.ndim - len(shape)
    stretched = tuple(i + added for i, n in enumerate(shape) if n == 1 and g.shape[i + added] != 1)
    axes = tuple(range(added)) + stretched
    if not stretched and all(g.shape[i] == 1 for i in range(added)):
        return g.reshape(shape)
    return g.sum(axis=axes).reshape(shape)


def spread(g: Any, shape: tuple[int, ...]) -> Any:
    """Copy ``g`` along new or stretched axes to ``shape``; the opposite of `sum_to`."""
    if not isinstance(g, np.ndarray | np.generic):
        return g.broadcast_to(shape)
    full = np.empty(shape, g.dtype)
    full[...] = g
    return full


def axes_of(axis: Axis, ndim: int) -> set[int]:
    """Return the axes meant by a setting, counted from the front."""
    return set(range(ndim)) if axis is None else {a % ndim for a in (axis if isinstance(axis, tuple) else (axis,))}


def restore(g: Any, shape: tuple[int, ...], axis: Axis, keepdims: bool) -> Any:
    """Put the axes that a reduction removed back as axes of length 1, so that ``g`` broadcasts against ``shape``."""
    if axis is None or keepdims:
        return g
    axes = axes_of(axis, len(shape))
    return g.reshape(tuple(1 if i in axes else n for i, n in enumerate(shape)))


# --- shapes ----------------------------------------------------------------------------------------------------------


@op(x=lambda g, x_shape: g.reshape(x_shape), view=True)
def reshape(x: Array, *, shape: tuple[int, ...]) -> Array:
    """Return the same entries in another shape."""
    return x.reshape(shape)


def _transposed_back(g: Any, axes: tuple[int, ...] | None) -> Any:
    return g.transpose(None if axes is None else tuple(int(i) for i in np.argsort([a % g.ndim for a in axes])))


@op(x=_transposed_back, view=True)
def transpose(x: Array, *, axes: tuple[int, ...] | None = None) -> Array:
    """Permute the axes; without ``axes``, reverse them."""
    return x.transpose(axes)


@op(x=lambda g, axis1, axis2: g.swapaxes(axis1, axis2), view=True)
def swapaxes(x: Array, *, axis1: int, axis2: int) -> Array:
    """Exchange two axes."""
    return x.swapaxes(axis1, axis2)


@op(x=lambda g, x_shape: g.reshape(x_shape), view=True)
def squeeze(x: Array, *, axis: Axis = None) -> Array:
    """Drop axes of length 1."""
    return np.squeeze(x, axis)


@op(x=lambda g, x_shape: g.reshape(x_shape), view=True)
def expand_dims(x: Array, *, axis: int | tuple[int, ...]) -> Array:
    """Insert axes of length 1."""
    return np.expand_dims(x, axis)


@op(x=lambda g, x_shape: sum_to(g, x_shape), view=True)
def broadcast_to(x: Array, *, shape: tuple[int, ...]) -> Array:
    """Copy along new or stretched axes; the gradient is summed over them."""
    return np.broadcast_to(x, shape)


def _flipped(g: Any, axis: Axis) -> Any:
    axes = axes_of(axis, g.ndim)
    return g[tuple(slice(None, None, -1 if i in axes else 1) for i in range(g.ndim))]


@op(x=_flipped, view=True)
def flip(x: Array, *, axis: Axis = None) -> Array:
    """Reverse the order along all axes, or those given."""
    return np.flip(x, axis)


# --- joining and indexing --------------------------------------------------------------------------------------------


@op(xs=lambda g, i, xs_ends, axis: g[(slice(None),) * (axis % g.ndim) + (slice(xs_ends[i], xs_ends[i + 1]),)])
def concatenate(*xs: Array, axis: int = 0) -> Array:
    """Join along an existing axis; each input gets its part of g."""
    return np.concatenate(xs, axis=axis)


@op(xs=lambda g, i, axis: g[(slice(None),) * (axis % g.ndim) + (i,)])
def stack(*xs: Array, axis: int = 0) -> Array:
    """Join along a new axis; each input gets its slice of g."""
    return np.stack(xs, axis=axis)


@op(x=lambda g, index, x_shape: IndexedGradient(g, index, x_shape), view=True)
def getitem(x: Array, *, index: Any) -> Any:
    """``x[index]`` with numpy's indexing; repeated indices add up in the gradient."""
    return x[index]


@op(xs=lambda g, i, indices: g[indices[i]])
def scatter_add(*xs: Array, indices: list[Any], shape: tuple[int, ...]) -> Array:
    """Zeros of the shape given with every ``xs[i]`` added at ``indices[i]``: the gradient of indexing, as an op."""
    return indexed.scatter_add(*xs, indices=indices, shape=shape)
