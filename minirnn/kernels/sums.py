"""What the dZ of a chunk of steps give: dX for these steps, and a share in the sums over time of the other gradients::

    dX_k = dZ_k W_xhᵀ        dW_xh = Σ X_kᵀ dZ_k        dW_hh = Σ H_{k-1}ᵀ dZ_k        db_h = Σ dZ_k

Each sum is one product over all the rows of the chunk.
"""  # noqa: D400

from functools import lru_cache
from typing import Any

import numpy as np

from minirnn.arguments import Array


class Sums:
    """The gradients of x, W_xh, W_hh and b_h as they grow, each None where it is not wanted.

    ``x`` is (T, N, D), in the order of processing as all arrays here, and dX goes to ``dx``. ``back`` (columns, D) is
    W_xhᵀ, contiguous, its rows in the order of the columns ``of_x`` of dZ. ``wanted`` is of W_xh, W_hh and b_h;
    ``of_x`` and ``of_h`` are the columns of dZ that have an x side, and an h side.
    """

    def __init__(
        self,
        x: Array,
        dx: Array | None,
        back: Array | None,
        wanted: tuple[bool, ...],
        of_x: slice = slice(None),
        of_h: slice = slice(None),
    ) -> None:
        self.x, self.dx = x, dx
        self.wanted, self.of_x, self.of_h = wanted, of_x, of_h
        self.W_xh: Array | None = None
        self.W_hh: Array | None = None
        self.b_h: Array | None = None
        self.stage: Array | None = None
        self._back = back

    def add(self, lo: int, before: Array, dz: Array, staged: Array | None = None) -> None:
        """Take dZ (n, N, H) of the steps from ``lo`` on, with the states before them (n, N, H).

        For a cell with a stage, ``staged`` (n, N, H) is what its product is made with; its dZ are the first H columns.
        """
        n, N, width = dz.shape
        rows = dz.reshape(n * N, width)
        if self.dx is not None:
            _product(rows[:, self.of_x], self._back, self.dx[lo : lo + n])
        if self.wanted[0]:
            self.W_xh = _plus(self.W_xh, self.x[lo : lo + n].reshape(n * N, -1).T.dot(rows[:, self.of_x]))
        if self.wanted[1]:
            self.W_hh = _plus(self.W_hh, before.reshape(n * N, -1).T.dot(rows[:, self.of_h]))
            if staged is not None:
                H = staged.shape[2]
                self.stage = _plus(self.stage, staged.reshape(n * N, H).T.dot(rows[:, :H]))
        if self.wanted[2]:
            self.b_h = _plus(self.b_h, _ones(n * N, dz.dtype).dot(rows))  # ten times as fast as rows.sum(axis=0)

    def merge(self, other: "Sums") -> "Sums":
        """Add the sums over other rows or steps, and return all."""
        for name in ("W_xh", "W_hh", "b_h", "stage"):
            total = getattr(self, name)
            if total is not None:
                setattr(self, name, _plus(total, getattr(other, name)))
        return self


@lru_cache(maxsize=16)
def _ones(n: int, dtype: np.dtype[Any]) -> Array:
    ones = np.ones(n, dtype)
    ones.flags.writeable = False
    return ones


def _plus(total: Array | None, share: Array) -> Array:
    return share if total is None else np.add(total, share, total)


def _product(a: Array, b: Any, out: Array) -> None:
    """Write ``a @ b`` to ``out``, whose leading axes are the rows of ``a``; directly if its memory allows it."""
    if out.flags.c_contiguous:
        np.dot(a, b, out=out.reshape(len(a), -1))
    else:
        out[...] = a.dot(b).reshape(out.shape)
