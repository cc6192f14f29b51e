"""How the weights of the gates stand side by side in the products of the unroll."""

from collections.abc import Sequence
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from minirnn.arguments import Array


class Weights(NamedTuple):
    """The parameters of a layer with G gates, (inputs, outputs)."""

    W_xh: Any  # (D, G·H)
    W_hh: Any  # (H, G·H)
    b_h: Any = None  # (G·H,)
    b_hn: Any = None  # (H,), the bias on the h side of the gate whose two sides stand apart


class Layout(NamedTuple):
    """Which pre-activations a cell gets, and in what order: blocks of H, each from x and 1, from h, or from both."""

    x: tuple[int, ...]  # the gates whose x side the blocks 0, 1, … take
    h: tuple[int, ...]  # those whose h side the blocks ``start``, ``start`` + 1, … take
    start: int = 0
    halved: int = 0  # how many blocks from ``start`` on come as half of the pre-activation: σ(z) = ½ + ½ tanh(z/2)
    stage: int | None = None  # a gate whose h side is a product with what the cell makes of h, added to block 0

    @property
    def blocks(self) -> int:
        """Return R, how many blocks there are."""
        return max(len(self.x), self.start + len(self.h))

    def of_x(self, H: int) -> slice:
        """Return the blocks that have an x side."""
        return slice(0, len(self.x) * H)

    def of_h(self, H: int) -> slice:
        """Return the blocks that have an h side."""
        return slice(self.start * H, (self.start + len(self.h)) * H)


class Pointwise:
    """What a cell between the products says of itself, unless it says otherwise."""

    extras = 0  # how many arrays its state has beside h
    slopes_of_output = False  # whether its derivatives are made of the outputs
    whole: Any = None  # a module with an unroll of its own for whole rows


class Half:
    """The cell at one step, forward or back, unless it says otherwise."""

    stage: Any = None  # what makes the operand of a product of its own
    direct: Any = None  # what of dH goes to the step before past the products
    extras: Sequence[Array] = ()  # the gradients of the states beside h

    def parts(self, dz: Array) -> Any:
        """Return the views of dZ that `step` writes to."""
        return dz


class Matrices:
    """The weights as the products of one unroll need them, each made when it is first asked for."""

    def __init__(self, weights: Weights, layout: Layout) -> None:
        self.weights, self.layout = weights, layout
        self.H = len(weights.W_hh)

    @cached_property
    def forward(self) -> Array:
        """W (R·H, D + 1 + H), zeros where a block has no such side: Z = W [x; 1; h], features first."""
        (W_xh, W_hh, b_h, b_hn), plan, H = self.weights, self.layout, self.H
        D, start, nx = len(W_xh), plan.start, len(plan.x)
        made = np.zeros if start else np.empty
        W: Array = made((plan.blocks * H, D + 1 + H), W_hh.dtype)
        blocks = W.reshape(plan.blocks, H, D + 1 + H)
        of_x, of_h = blocks[:nx], blocks[start : start + len(plan.h)]
        of_x[..., :D] = _gates(W_xh, plan.x, H).transpose(1, 2, 0)
        of_x[..., D] = 0 if b_h is None else _gates(b_h, plan.x, H)
        of_h[..., D + 1 :] = _gates(W_hh, plan.h, H).transpose(1, 2, 0)
        if b_hn is not None:
            blocks[-1, :, D] = b_hn
        if plan.halved:
            halved = blocks[start : start + plan.halved]
            np.multiply(halved, 0.5, halved)
        return W

    @cached_property
    def from_x(self) -> Array:
        """The part of W that [x; 1] is multiplied with, for a product of its own."""
        return self.forward[self.layout.of_x(self.H), : -self.H].copy()

    @cached_property
    def from_h(self) -> Array:
        """The part of W that h is multiplied with, for a product of its own."""
        return self.forward[self.layout.of_h(self.H), -self.H :].copy()

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
        gate = self.layout.stage
        assert gate is not None, "the layout has a stage"
        return np.ascontiguousarray(self.weights.W_hh[:, gate * self.H : (gate + 1) * self.H])

    @cached_property
    def stage_forward(self) -> Array:
        """The same, transposed, for forward."""
        return np.ascontiguousarray(self.stage.T)


def in_order(blocks: Array, gates: tuple[int, ...], H: int) -> Array:
    """Return blocks (…, k·H), of the gates given, in the order of the gates."""
    if gates == tuple(range(len(gates))):
        return blocks
    parts: Array = blocks.reshape(*blocks.shape[:-1], len(gates), H)
    return parts[..., np.argsort(gates), :].reshape(blocks.shape)


def _gates(a: Array, gates: tuple[int, ...], H: int) -> Array:
    """Return (…, G·H) as (…, gates, H), those given and in that order."""
    parts: Array = a.reshape(*a.shape[:-1], -1, H)
    return parts if gates == tuple(range(parts.shape[-2])) else parts[..., list(gates), :]
