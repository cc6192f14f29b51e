"""The floor: the matrix products and one activation pass each way that a recurrent layer cannot do without, bare.

The products stand where they stand in the layer, each step's after that of the step before, but with nothing around
them: no sum, no bias, no tape, no new arrays. What a layer takes beyond this is its own doing.
Checked by tests/bench/test_floor.py.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

Run = Callable[[], None]


def forward_floor(N: int, T: int, D: int, H: int, dtype: DTypeLike, rng: np.random.Generator) -> Run:
    """Return a function that does forward's share.

    That is X·W_xh for all steps at once, H_{t-1}·W_hh step by step, and tanh for all steps at once.

    Parameters
    ----------
    N, T, D, H : int
        Rows of the mini-batch, steps, inputs, hidden neurons.
    dtype : numpy.float32 or numpy.float64
    rng : numpy.random.Generator
        What the arrays hold is random. The work is the same at every call.
    """
    return _Floor(N, T, D, H, dtype, rng).forward


def floor(N: int, T: int, D: int, H: int, dtype: DTypeLike, rng: np.random.Generator) -> Run:
    """Return a function that does the share of forward and of backward; the arguments are those of `forward_floor`.

    Backward's is dZ_{t+1}·W_hhᵀ step by step; then, for all steps at once, the elementwise product with the
    activation's derivative, dX = dZ·W_xhᵀ, dW_xh = Xᵀ·dZ and dW_hh = H_{t-1}ᵀ·dZ.
    """
    work = _Floor(N, T, D, H, dtype, rng)

    def run() -> None:
        work.forward()
        work.backward()

    return run


class _Floor:
    """All arrays, and the views of each step: made here, not in what is timed."""

    def __init__(self, N: int, T: int, D: int, H: int, dtype: DTypeLike, rng: np.random.Generator) -> None:
        def draw(*shape: int) -> Any:
            return rng.standard_normal(shape).astype(dtype)

        self.X, self.W_xh = draw(T * N, D), draw(D, H)
        # Orthogonal: the products of products neither overflow nor die away, which would slow them down.
        self.W_hh = np.ascontiguousarray(np.linalg.qr(rng.standard_normal((H, H)))[0], dtype)
        self.W_back = np.ascontiguousarray(self.W_hh.T)  # a transposed view would cost up to twice as much at each step
        self.z0, self.dz0 = draw(N, H), draw(N, H)
        (z, self.steps), (dz, self.back) = _chain(self.z0, T), _chain(self.dz0, T)
        self.z, self.dz = z.reshape(T * N, H), dz.reshape(T * N, H)
        self.dX, self.dW_xh, self.dW_hh = np.empty_like(self.X), np.empty_like(self.W_xh), np.empty_like(self.W_hh)

    def forward(self) -> None:
        z, W = self.z, self.W_hh
        self.X.dot(self.W_xh, z)
        for dot, after in self.steps:
            dot(W, after)
        np.tanh(z, z)

    def backward(self) -> None:
        z, dz, W = self.z, self.dz, self.W_back
        for dot, after in self.back:
            dot(W, after)
        np.multiply(dz, z, dz)
        dz.dot(self.W_xh.T, self.dX)
        self.X.T.dot(dz, self.dW_xh)
        z.T.dot(dz, self.dW_hh)


def _chain(first: Any, T: int) -> tuple[Any, list[tuple[Any, Any]]]:
    """Return an array (T, N, H), and for each step the ``dot`` of the step before and the view to write to."""
    steps = np.zeros((T, *first.shape), first.dtype)
    return steps, [(before.dot, after) for before, after in zip([first, *steps], steps, strict=False)]
