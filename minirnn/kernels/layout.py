"""How the weights of the gates stand side by side in the products of the unroll.

Checked by tests/kernels/test_layout.py.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


class Weights(NamedTuple):
    """The parameters of a layer with G gates, (inputs, outputs).

    Attributes
    ----------
    W_xh : (D, G·H)
    W_hh : (H, G·H)
    b_h : (G·H,) or None
    b_hn : (H,) or None
        The bias on the h side of the gate whose two sides stand apart.
    """

    W_xh: Any
    W_hh: Any
    b_h: Any = None
    b_hn: Any = None


class Layout(NamedTuple):
    """Which pre-activations a cell gets, and in what order: blocks of H, each from x and 1, from h, or from both.

    Attributes
    ----------
    x : gates
        Those whose x side the blocks 0, 1, … take.
    h : gates
        Those whose h side the blocks ``start``, ``start`` + 1, … take.
    start : int
    halved : int
        How many blocks come as half of the pre-activation, for σ(z) = ½ + ½ tanh(z/2): blocks ``start`` and after.
    stage : gate or None
        One whose h side is a product of its own, not with h but with what the cell makes of it, added to block 0.
    """

    x: tuple[int, ...]
    h: tuple[int, ...]
    start: int = 0
    halved: int = 0
    stage: int | None = None

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


def fill_forward(W: Array, weights: Weights, layout: Layout) -> None:
    """Write W (R·H, D + 1 + H), zeros where a block has no such side: Z = W [x; 1; h], features first."""
    W_xh, W_hh, b_h, b_hn = weights
    D, H = W_xh.shape[0], W_hh.shape[0]
    blocks = W.reshape(layout.blocks, H, D + 1 + H)
    of_x, of_h = blocks[: len(layout.x)], blocks[layout.start : layout.start + len(layout.h)]
    of_x[..., :D] = _gates(W_xh, layout.x, H).transpose(1, 2, 0)
    of_x[..., D] = 0 if b_h is None else _gates(b_h, layout.x, H)
    of_h[..., D + 1 :] = _gates(W_hh, layout.h, H).transpose(1, 2, 0)
    if layout.start + len(layout.h) > len(layout.x):
        blocks[-1, :, D] = 0 if b_hn is None else b_hn
    if layout.halved:
        halved = blocks[layout.start : layout.start + layout.halved]
        np.multiply(halved, 0.5, halved)


def fill_back(V: Array, W_hh: Array, layout: Layout) -> None:
    """Write V (H, h blocks · H): dH = V dZ, features first."""
    H = len(V)
    V.reshape(H, len(layout.h), H)[...] = _gates(W_hh, layout.h, H)


def x_side(W_xh: Array, layout: Layout, H: int) -> Array:
    """Return W_xh (D, x blocks · H), in the order of the blocks."""
    return _gates(W_xh, layout.x, H).reshape(len(W_xh), -1)


def stage_of(W_hh: Array, layout: Layout) -> Array:
    """Return the (H, H) part of W_hh that belongs to the stage."""
    assert layout.stage is not None
    H = len(W_hh)
    return W_hh[:, layout.stage * H : (layout.stage + 1) * H]


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
