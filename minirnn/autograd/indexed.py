"""The gradient of an indexing op, kept small until it has to be dense."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from minirnn.arguments import Array


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
        """Return the whole gradient; ``add_at`` is `scatter_add`, or under ``create_graph`` the op made of it."""
        dense = add_at(*self.pieces, indices=self.indices, shape=self.shape)
        return dense if self.rest is None else dense + self.rest


def scatter_add(*xs: Array, indices: Sequence[Any], shape: tuple[int, ...]) -> Array:
    """Return zeros with every ``xs[i]`` added at ``indices[i]``."""
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
    """``buffer[ids] += rows`` with repeated ids adding up: rows of one id are summed before they are written."""
    ids, rows = ids.ravel().astype(np.intp) % len(buffer), rows.reshape(ids.size, *buffer.shape[1:])
    order = np.argsort(ids, kind="stable")
    ids = ids[order]
    starts = np.flatnonzero(np.diff(ids, prepend=-1))
    buffer[ids[starts]] += np.add.reduceat(rows[order], starts, axis=0)
