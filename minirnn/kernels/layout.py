"""What an unroll is given and gives, and how the weights of the gates stand side by side in its products."""

from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from minirnn.arguments import Array
from minirnn.kernels.cells import Layout
from minirnn.kernels.scratch import Run


class Weights(NamedTuple):
    """The parameters of a layer with G gates, (inputs, outputs)."""

    W_xh: Any  # (D, G·H)
    W_hh: Any  # (H, G·H)
    b_h: Any = None  # (G·H,)
    b_hn: Any = None  # (H,), the bias on the h side of the gate whose two sides stand apart


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
        blocks[start : start + plan.halved] *= 0.5
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
    if blocks is None or gates == tuple(range(len(gates))):
        return blocks
    return _gates(blocks, tuple(np.argsort(gates)), blocks.shape[-1] // len(gates)).reshape(blocks.shape)


def _gates(a: Array, gates: tuple[int, ...], H: int) -> Array:
    """Return (…, G·H) as (…, gates, H), those given and in that order."""
    parts: Array = a.reshape(*a.shape[:-1], -1, H)
    return parts if gates == tuple(range(parts.shape[-2])) else parts[..., list(gates), :]
