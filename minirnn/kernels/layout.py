"""What an unroll is given and gives: the weights as its products need them, gates side by side, and their gradients."""

from collections.abc import Set
from functools import cached_property, lru_cache
from typing import Any, NamedTuple

import numpy as np

from minirnn.arguments import Array
from minirnn.kernels.cells import Layout
from minirnn.kernels.products import multiply
from minirnn.kernels.scratch import Run
from minirnn.kernels.sums import add_rows, add_side


class Weights(NamedTuple):
    """The parameters of a layer with G gates, (inputs, outputs)."""

    W_xh: Any  # (D, G·H)
    W_hh: Any  # (H, G·H)
    b_h: Any = None  # (G·H,)
    b_hn: Any = None  # (H,), the bias on the h side of the gate whose two sides stand apart


@lru_cache(maxsize=64)
def name_wanted(wanted: tuple[bool, ...]) -> frozenset[str]:
    """Name the inputs whose gradients are wanted, of x and, in their order, `Weights`."""
    return frozenset(name for name, yes in zip(("x", *Weights._fields), wanted, strict=False) if yes)


class Settings(NamedTuple):
    """How a layer is unrolled."""

    cell: Any  # the pointwise pair
    reverse: bool = False  # process t = T−1 … 0
    lanes: Any = None  # Lanes or Falling, where rows are not one sequence of T steps
    mask: Array | None = None  # (sequences, H), by which the h that is fed back is multiplied
    clip: float | None = None  # the largest norm of a row of dL/dH_t
    segment: int | None = None  # how many steps lie between two states that are saved; None to save all
    parts: int = 1  # into how many parts the rows are split, without lanes
    run: Run | None = None  # what unrolls them


class Unrolled(NamedTuple):
    """What forward returns."""

    outputs: Array  # (T, N, H), in time order; 0 where no sequence is
    final: list[Array]  # (sequences, H) each, the states after the last step processed
    saved: Any  # for backward


class Gradients(NamedTuple):
    """∂L/∂ each input; None where it was not wanted."""

    x: Array | None
    state: list[Array]
    W_xh: Array | None
    W_hh: Array | None
    b_h: Array | None
    b_hn: Array | None


class Matrices:
    """The weights as the products of one unroll need them, each made when it is first asked for."""

    def __init__(self, weights: Weights, layout: Layout) -> None:
        self.weights, self.layout = weights, layout
        self.H = len(weights.W_hh)

    @cached_property
    def forward(self) -> Array:
        """W (R·H, D + 1 + H), zeros where a block has no such side: Z = W [x; 1; h], features first."""
        (W_xh, W_hh, b_h, b_hn), plan, H = self.weights, self.layout, self.H
        D, start = len(W_xh), plan.start
        made = np.zeros if start else np.empty
        W: Array = made((plan.blocks * H, D + 1 + H), W_hh.dtype)
        blocks = W.reshape(plan.blocks, H, D + 1 + H)
        x_side, h_side = blocks[: len(plan.x)], blocks[start : start + len(plan.h)]
        x_side[..., :D] = _gates(W_xh, plan.x, H).transpose(1, 2, 0)
        x_side[..., D] = 0 if b_h is None else _gates(b_h, plan.x, H)
        h_side[..., D + 1 :] = _gates(W_hh, plan.h, H).transpose(1, 2, 0)
        if b_hn is not None:
            blocks[-1, :, D] = b_hn
        blocks[start : start + plan.negated] *= -1.0
        return W

    @cached_property
    def from_x(self) -> Array:
        """The part of W that [x; 1] is multiplied with, for a product of its own."""
        return self.forward[self.layout.slice_x(self.H), : -self.H].copy()

    @cached_property
    def from_h(self) -> Array:
        """The part of W that h is multiplied with, for a product of its own."""
        return self.forward[self.layout.slice_h(self.H), -self.H :].copy()

    @cached_property
    def back(self) -> Array:
        """V (H, h blocks · H): dH = V dZ, features first."""
        return np.ascontiguousarray(_gates(self.weights.W_hh, self.layout.h, self.H).reshape(self.H, -1))

    @cached_property
    def back_to_x(self) -> Array:
        """(x blocks · H, D): dX = dZ times it, rows first."""
        gates = _gates(self.weights.W_xh, self.layout.x, self.H)
        return np.ascontiguousarray(gates.transpose(1, 2, 0)).reshape(-1, len(gates))

    @cached_property
    def stage(self) -> Array:
        """The part (H, H) of W_hh that belongs to the stage, features first: as it stands for backward."""
        return np.ascontiguousarray(_gates(self.weights.W_hh, (self.layout.stage or 0,), self.H)[:, 0])

    @cached_property
    def stage_forward(self) -> Array:
        """The same, transposed, for forward."""
        return np.ascontiguousarray(self.stage.T)


def in_order(blocks: Array | None, gates: tuple[int, ...]) -> Array | None:
    """Return blocks (…, k·H), of the gates given, in the order of the gates; None for None."""
    if blocks is None or (order := _find_order(gates)) is None:
        return blocks
    return _gates(blocks, order, blocks.shape[-1] // len(gates)).reshape(blocks.shape)


@lru_cache(maxsize=16)
def _find_order(gates: tuple[int, ...]) -> tuple[int, ...] | None:
    """Return where each gate stands among those given; None if they stand in order."""
    order = tuple(sorted(range(len(gates)), key=gates.__getitem__))
    return None if order == tuple(range(len(gates))) else order


def _gates(a: Array, gates: tuple[int, ...], H: int) -> Array:
    """Return (…, G·H) as (…, gates, H), those given and in that order."""
    parts: Array = a.reshape(*a.shape[:-1], -1, H)
    return parts if _find_order(gates) is None and len(gates) == parts.shape[-2] else parts.take(gates, axis=-2)


# --- back -------------------------------------------------------------------------------------------------------------


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

    def add(self, lo: int, before: Array, rows: Array, staged: Array | None = None) -> None:
        """Take dZ (n·N, blocks·H) of the steps from ``lo`` on, with the states before them (n, N, H).

        For a cell with a stage, ``staged`` (n, N, H) is what its product is made with; its dZ are the first H columns.
        """
        n, _, H = before.shape
        plan = self.plan
        of_x, of_h = (rows, rows) if plan.whole else (rows[:, plan.slice_x(H)], rows[:, plan.slice_h(H)])
        if self.dx is not None:
            _product(of_x, self.back, self.dx[lo : lo + n])
        if "W_xh" in self.wanted:
            self._add("W_xh", _pairs(self.x[lo : lo + n], of_x))
        if "W_hh" in self.wanted:
            self._add("W_hh", _pairs(before, of_h))
            if staged is not None:
                self._add("stage", _pairs(staged, rows[:, :H]))
        if "b_h" in self.wanted or "b_hn" in self.wanted:
            db = add_side(rows.T) if rows.flags.f_contiguous else add_rows(rows)
            self._add("b_h", db.astype(np.float64))  # of many chunks a float32 would lose digits

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
        made = {name: np.ascontiguousarray(share) for name, share in self.total.items()}
        W_xh, W_hh = made.get("W_xh"), made.get("W_hh")
        plan, gates = self.plan, self.plan.h
        b_h, b_hn = (self.total["b_h"].astype(self.x.dtype) if "b_h" in self.total else None), None
        if plan.blocks == 1:
            return [W_xh, W_hh, b_h, None]
        if W_hh is not None and plan.stage is not None:
            W_hh, gates = np.concatenate([W_hh, self.total["stage"]], axis=1), (*gates, plan.stage)
        if b_h is not None and not plan.whole:
            of_x = plan.slice_x(len(b_h) // plan.blocks)
            b_hn = b_h[of_x.stop :].copy() if "b_hn" in self.wanted else None
            b_h = b_h[of_x] if "b_h" in self.wanted else None
        return [in_order(W_xh, plan.x), in_order(W_hh, gates), in_order(b_h, plan.x), b_hn]


def _pairs(a: Array, rows: Array) -> Array:
    """Return aᵀ dZ of a (n, N, A) and dZ (n·N, …); as (dZᵀ a)ᵀ, which is quicker, where features of dZ lie first."""
    a = a.reshape(len(rows), -1)
    found: Array
    if rows.flags.c_contiguous:
        found = a.T.dot(rows)
    elif isinstance(a, np.ndarray):
        made = np.empty((rows.shape[1], a.shape[1]), rows.dtype)
        multiply(rows.T, a, made)
        found = made.T
    else:  # a `OneHot`
        found = rows.T.dot(a).T
    return found


def _product(a: Array, b: Array, out: Array) -> None:
    """Write ``a @ b`` to ``out``, whose leading axes are the rows of ``a``; directly if its memory allows it."""
    if out.flags.c_contiguous:
        multiply(a, b, out.reshape(len(a), -1))
    else:
        out[...] = a.dot(b).reshape(out.shape)
