"""The gradients on their way: messages clipped, sums over time, and what comes of them."""

from collections.abc import Set
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from minirnn.arguments import Array
from minirnn.kernels.cells import Layout
from minirnn.kernels.layout import in_order


class Gradients(NamedTuple):
    """∂L/∂ each input; None where it was not wanted."""

    x: Array | None
    state: list[Array]
    W_xh: Array | None
    W_hh: Array | None
    b_h: Array | None
    b_hn: Array | None


def clipped(d: Array, largest: float, axis: int) -> Array:
    """Return ``d`` with each vector along ``axis`` whose norm exceeds ``largest`` scaled to it.

    The squares are of parts of the largest entry, so that they neither overflow nor vanish. A vector that is not finite
    stays as it is: scaled, an inf would become a NaN, and nobody would find where it came from.
    """
    peak = np.abs(d).max(axis=axis, keepdims=True)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        unit = d / peak
        size = np.sqrt(np.square(unit).sum(axis=axis, keepdims=True))
        over = peak * size > largest  # False where an entry is not finite, and for zeros: size is NaN then
        return np.where(over, unit * (largest / size).astype(d.dtype), d)


class Sums:
    """What the dZ of a chunk of steps give: dX for these steps, and a share in the sums over time of the others::

        dX_k = dZ_k W_xhᵀ        dW_xh = Σ X_kᵀ dZ_k        dW_hh = Σ H_{k-1}ᵀ dZ_k        db_h = Σ dZ_k

    Each sum is one product over all the rows of the chunk. ``x`` is (T, N, D), in the order of processing as all arrays
    here, and dX goes to ``dx``, if it is wanted. ``back`` is `Matrices.back_to_x`; ``plan`` says which columns of dZ
    have an x side, and which an h side.
    """  # noqa: D400

    def __init__(self, x: Array, dx: Array | None, back: Any, wanted: Set[str], plan: Layout) -> None:
        self.x, self.dx, self.back = x, dx, back
        self.wanted, self.plan = wanted, plan
        self.total: dict[str, Array] = {}  # "W_xh", "W_hh", "stage" and "b_h", those that are wanted and there

    def add(self, lo: int, before: Array, dz: Array, staged: Array | None = None) -> None:
        """Take dZ (n, N, H) of the steps from ``lo`` on, with the states before them (n, N, H).

        For a cell with a stage, ``staged`` (n, N, H) is what its product is made with; its dZ are the first H columns.
        """
        n, N, width = dz.shape
        rows, H = dz.reshape(n * N, width), width // self.plan.blocks
        of_x = rows[:, self.plan.slice_x(H)]
        if self.dx is not None:
            _product(of_x, self.back, self.dx[lo : lo + n])
        if "W_xh" in self.wanted:
            self._add("W_xh", self.x[lo : lo + n].reshape(n * N, -1).T.dot(of_x))
        if "W_hh" in self.wanted:
            self._add("W_hh", before.reshape(n * N, -1).T.dot(rows[:, self.plan.slice_h(H)]))
            if staged is not None:
                self._add("stage", staged.reshape(n * N, -1).T.dot(rows[:, :H]))
        if self.wanted & {"b_h", "b_hn"}:
            self._add("b_h", _ones(n * N, dz.dtype).dot(rows))  # ten times as fast as rows.sum(axis=0)

    def _add(self, name: str, share: Array) -> None:
        total = self.total.get(name)
        self.total[name] = share if total is None else np.add(total, share, total)

    def merge(self, other: "Sums") -> "Sums":
        """Add the sums over other rows or steps, and return all."""
        for name, share in other.total.items():
            self._add(name, share)
        return self

    def collect(self) -> list[Array | None]:
        """Return the gradients of W_xh, W_hh, b_h and b_hn, gate by gate as the parameters have them."""
        plan, W_hh, gates = self.plan, self.total.get("W_hh"), self.plan.h
        if W_hh is not None and plan.stage is not None:
            W_hh, gates = np.concatenate([W_hh, self.total["stage"]], axis=1), (*gates, plan.stage)
        b_h, b_hn = self.total.get("b_h"), None
        if b_h is not None:
            of_x = plan.slice_x(len(b_h) // plan.blocks)
            b_hn = b_h[of_x.stop :].copy() if "b_hn" in self.wanted else None
            b_h = b_h[of_x] if "b_h" in self.wanted else None
        return [in_order(self.total.get("W_xh"), plan.x), in_order(W_hh, gates), in_order(b_h, plan.x), b_hn]


@lru_cache(maxsize=16)
def _ones(n: int, dtype: np.dtype[Any]) -> Array:
    ones = np.ones(n, dtype)
    ones.flags.writeable = False
    return ones


def _product(a: Array, b: Array, out: Array) -> None:
    """Write ``a @ b`` to ``out``, whose leading axes are the rows of ``a``; directly if its memory allows it."""
    if out.flags.c_contiguous:
        np.dot(a, b, out=out.reshape(len(a), -1))
    else:
        out[...] = a.dot(b).reshape(out.shape)
