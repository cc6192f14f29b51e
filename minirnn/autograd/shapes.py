"""The ops that move entries about, each with its rules; first what broadcasting does to a gradient."""

from collections.abc import Callable
from typing import Any

import numpy as np

from minirnn.arguments import Array
from minirnn.autograd.op import Axis, op
from minirnn.kernels.sums import MOST, add_up

# --- broadcasting, for rules: array or Tensor alike ------------------------------------------------------------------


def sum_to(g: Any, shape: tuple[int, ...]) -> Any:
    """Sum ``g`` over the axes that broadcasting added or stretched, so that it has ``shape``."""
    if g.shape == shape:
        return g
    added = g.ndim - len(shape)
    if g.shape[added:] == shape:  # a bias: the case that every step of a loop meets
        if g.shape[:added].count(1) == added:
            return g.reshape(shape)
        axes: Any = tuple(range(added)) if added > 1 else 0
        return add_up(g, axes) if type(g) is np.ndarray else g.sum(axis=axes)
    axes = (*range(added), *(i + added for i, n in enumerate(shape) if n == 1 and g.shape[i + added] != 1))
    return (add_up(g, axes) if type(g) is np.ndarray else g.sum(axis=axes)).reshape(shape)


def spread(g: Any, shape: tuple[int, ...]) -> Any:
    """Copy ``g`` along new or stretched axes to ``shape``; the opposite of `sum_to`."""
    if not isinstance(g, np.ndarray | np.generic):
        return g.broadcast_to(shape)
    full = np.empty(shape, g.dtype)
    full[...] = g
    return full


def axes_of(axis: Axis, ndim: int) -> set[int]:
    """Count the axes meant by a setting from the front."""
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


@op(
    x=lambda g, axes: g.transpose(axes and tuple(int(i) for i in np.argsort([a % g.ndim for a in axes]))),
    view=True,
)
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


@op(x=lambda g, axis: np.flip(g, axis), view=True)
def flip(x: Array, *, axis: Axis = None) -> Array:
    """Reverse the order along all axes, or those given."""
    return np.flip(x, axis)


# --- joining ---------------------------------------------------------------------------------------------------------


@op(xs=lambda g, i, xs_ends, axis: g[(slice(None),) * (axis % g.ndim) + (slice(xs_ends[i], xs_ends[i + 1]),)])
def concatenate(*xs: Array, axis: int = 0) -> Array:
    """Join along an existing axis; each input gets its part of g."""
    return np.concatenate(xs, axis=axis)


@op(xs=lambda g, i, axis: g[(slice(None),) * (axis % g.ndim) + (i,)])
def stack(*xs: Array, axis: int = 0) -> Array:
    """Join along a new axis; each input gets its slice of g."""
    return np.stack(xs, axis=axis)


# --- indexing, whose gradient stays small until it has to be dense ----------------------------------------------------


class IndexedGradient:
    """The gradient of ``x[index]`` with respect to x: zero everywhere but at ``index``, where it is ``g``.

    Writing every such gradient into zeros of its own would make a loop over ``x[t]`` quadratic in T. Those of one x
    are therefore only collected when they meet; `to_dense` writes them all into one buffer. One belongs to the backward
    pass that made it, which is why ``+`` may extend it in place.
    """

    __slots__ = ("indices", "pieces", "rest", "shape")
    __array_ufunc__ = None  # ndarray + IndexedGradient asks IndexedGradient

    def __init__(self, g: Any, index: Any, shape: tuple[int, ...]) -> None:
        self.pieces = [g]
        self.indices = [index]
        self.shape = shape
        self.rest: Any = None

    def __add__(self, other: Any) -> "IndexedGradient":
        if isinstance(other, IndexedGradient):
            self.pieces += other.pieces
            self.indices += other.indices
            other = other.rest
        if other is not None:
            self.rest = other if self.rest is None else self.rest + other
        return self

    __radd__ = __add__

    def to_dense(self, add_at: Callable[..., Any]) -> Any:
        """Return the whole gradient; ``add_at`` is what `scatter_add` does, or under ``create_graph`` the op itself."""
        dense = add_at(*self.pieces, indices=self.indices, shape=self.shape)
        return dense if self.rest is None else dense + self.rest


@op(x=lambda g, index, x_shape: IndexedGradient(g, index, x_shape), view=True)
def getitem(x: Array, *, index: Any) -> Any:
    """Take ``x[index]``, with numpy's indexing; repeated indices add up in the gradient."""
    return x[index]


@op(xs=lambda g, i, indices: g[indices[i]])
def scatter_add(*xs: Array, indices: list[Any], shape: tuple[int, ...]) -> Array:
    """Add every ``xs[i]`` at ``indices[i]`` to zeros of the shape given: the gradient of indexing, as an op."""
    buffer = np.zeros(shape, xs[0].dtype)
    for x, index in zip(xs, indices, strict=True):
        if is_basic(index):
            buffer[index] += x
        elif isinstance(index, np.ndarray) and index.dtype.kind in "iu" and index.size:
            _add_rows(buffer, index, x)
        else:
            np.add.at(buffer, index, x)
    return buffer


def is_basic(index: Any) -> bool:
    """Whether an index has no arrays in it, so that no entry is met twice."""
    return all(
        i is None or i is Ellipsis or isinstance(i, slice | int | np.integer)
        for i in (index if isinstance(index, tuple) else (index,))
    )


def _add_rows(buffer: Array, ids: Array, rows: Array) -> None:
    """Do ``buffer[ids] += rows`` with repeated ids adding up: rows of one id are summed before they are written."""
    ids, rows = ids.ravel().astype(np.intp) % len(buffer), rows.reshape(ids.size, *buffer.shape[1:])
    order = np.argsort(ids, kind="stable")
    ids = ids[order]
    starts = np.flatnonzero(np.diff(ids, prepend=-1))
    many = rows.dtype == np.float32 and np.diff(starts, append=len(ids)).max() > MOST  # reduceat adds one by one
    buffer[ids[starts]] += np.add.reduceat(rows[order], starts, axis=0, dtype=np.float64 if many else None)
