"""The floor: the matrix products and one activation pass each way that a recurrent layer cannot do without, bare.

The products stand where they stand in the layer, each step's after that of the step before, but with nothing around
them: no sum, no bias, no tape, no new arrays. What a layer takes beyond this is its own doing. A layer of G gates has
G·H columns for the H of the plain one, in the products and in the activation pass alike; that an LSTM has a fifth
activation, of c, does not count.
"""

from typing import Any

import numpy as np
from numpy.typing import DTypeLike


class Floor:
    """The work that a layer cannot do without, the same at every call, on random arrays.

    Forward's share is X·W_xh for all steps at once, H_{t-1}·W_hh step by step, and tanh for all steps at once:
    X (T·N, D), W_xh (D, G·H), W_hh (H, G·H). Backward's is dZ_{t+1}·W_hhᵀ step by step; then, for all steps at once,
    the elementwise product with the activation's derivative, dX = dZ·W_xhᵀ, dW_xh = Xᵀ·dZ and dW_hh = H_{t-1}ᵀ·dZ.

    All arrays, and the views of each step, are made here, not in what is timed. A step's (N, H) is the beginning of its
    block of (N, G·H) numbers, so that a product leads to the next one without anything between: for G = 1 that is the
    block.
    """

    def __init__(
        self, N: int, T: int, D: int, H: int, dtype: DTypeLike, rng: np.random.Generator, gates: int = 1
    ) -> None:
        def draw(*shape: int) -> Any:
            return rng.standard_normal(shape).astype(dtype)

        self.X, self.W_xh = draw(T * N, D), draw(D, gates * H)
        # Orthogonal: the products of products neither overflow nor die away, which would slow them down.
        blocks = np.hstack([np.linalg.qr(rng.standard_normal((H, H)))[0] for _ in range(gates)])
        self.W_hh = np.ascontiguousarray(blocks, dtype)
        # A transposed view would cost up to twice as much at each step.
        self.W_back = np.ascontiguousarray(blocks.T / gates**0.5, dtype)
        self.z0, self.dz0 = draw(N, H), draw(N, gates * H)
        z, dz = draw(T, N, gates * H), draw(T, N, gates * H)
        self.steps = _chain(self.z0, _beginnings(z, H), z)
        self.back = _chain(self.dz0, dz, _beginnings(dz, H))
        self.z, self.dz = z.reshape(T * N, gates * H), dz.reshape(T * N, gates * H)
        # With one gate, H_t is what the activation gives, and all of dZ is computed anew at each call.
        self.h, self.da = (self.z, self.dz) if gates == 1 else (draw(T * N, H), np.empty_like(self.dz))
        self.dX, self.dW_xh, self.dW_hh = np.empty_like(self.X), np.empty_like(self.W_xh), np.empty_like(self.W_hh)

    def forward(self) -> None:
        """Do forward's share."""
        z, W = self.z, self.W_hh
        self.X.dot(self.W_xh, z)
        for dot, after in self.steps:
            dot(W, after)
        np.tanh(z, z)

    def both_ways(self) -> None:
        """Do the share of forward and of backward."""
        self.forward()
        self.backward()

    def backward(self) -> None:
        """Do backward's share."""
        da, W = self.da, self.W_back
        for dot, after in self.back:
            dot(W, after)
        np.multiply(self.dz, self.z, da)
        da.dot(self.W_xh.T, self.dX)
        self.X.T.dot(da, self.dW_xh)
        self.h.T.dot(da, self.dW_hh)


def _beginnings(blocks: Any, H: int) -> Any:
    """Return a view (T, N, H) of the first N·H numbers of each block, of blocks (T, N, G·H)."""
    T, N, _ = blocks.shape
    return blocks.reshape(T, -1)[:, : N * H].reshape(T, N, H)


def _chain(first: Any, read: Any, written: Any) -> list[tuple[Any, Any]]:
    """Return for each step the ``dot`` of what the step before has written, and where to write."""
    return [(before.dot, after) for before, after in zip([first, *read], written, strict=False)]
