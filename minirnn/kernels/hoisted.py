"""The unroll for a mini-batch: the input side of many steps in one product, hoisted out of the loop over the steps::

    S = X W_xh + b_h for all steps of a chunk, then step by step H_k = φ(S_k + H_{k-1} W_hh)

Arrays stand in the order of processing: k = 0 is the step processed first. Checked by tests/kernels/test_unroll.py.
"""  # noqa: D400

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from minirnn.kernels.cells import Activation
from minirnn.kernels.sums import Sums

Array = NDArray[Any]


class Hoisted:
    """Scratch for N rows, D inputs and H neurons, and the two loops over the steps that work in it.

    Attributes
    ----------
    chunk : int
        C, how many steps are gone through at a time.
    """

    def __init__(self, N: int, D: int, H: int, dtype: np.dtype[Any]) -> None:
        self.key = N, D, H, dtype
        self.chunk = C = chunk_length(N, H, dtype)
        self.block = np.empty((C, N, H), dtype)  # forward: S; backward: φ′, which becomes dZ
        self.steps = list(self.block)  # its views: to make one costs as much as a quarter of a small product
        self.side = np.empty((N, H), dtype)  # forward: H_{k-1} W_hh; backward: dH_k
        self.bias = np.empty((N, H), dtype)  # b_h for every row: added to N·H numbers at a time, not to H
        self.W_back = np.empty((H, H), dtype)  # W_hhᵀ: a product with a transposed view costs up to twice as much
        self.nbytes = sum(a.nbytes for a in (self.block, self.side, self.bias, self.W_back))

    def forward(self, x: Array, hs: Array, W_xh: Array, W_hh: Array, b_h: Array | None, activation: Activation) -> None:
        """Fill ``hs[1:]``, the states (T + 1, N, H) whose first one is given, from x (T, N, D)."""
        _, N, H = hs.shape
        W_hh, side, add = np.ascontiguousarray(W_hh), self.side, np.add
        phi = activation.at(side.shape, side.dtype)
        self.bias[...] = 0 if b_h is None else b_h
        h = hs[0]
        for lo, hi in chunks(len(x), self.chunk):
            S = self.block[: hi - lo]
            np.dot(x[lo:hi].reshape(len(S) * N, -1), W_xh, out=S.reshape(len(S) * N, H))
            if b_h is not None:
                add(S, self.bias, S)
            for out, s in zip(hs[lo + 1 : hi + 1], self.steps, strict=False):
                h.dot(W_hh, side)
                add(side, s, side)
                phi(side, out)
                h = out

    def backward(
        self,
        d_outputs: Array | None,
        d_final: Array | None,
        hs: Array,
        W_hh: Array,
        activation: Activation,
        sums: Sums,
        start: int = 0,
    ) -> Array:
        """Go back from the last step to the first, hand every dZ to ``sums``, and return dH_0 (N, H), scratch.

        ``start`` is the number that the first of these steps has in ``sums``.
        """
        np.copyto(self.W_back, W_hh.T)
        W_back, side, add, multiply = self.W_back, self.side, np.add, np.multiply
        np.copyto(side, 0 if d_final is None else d_final)
        for lo, hi in reversed(list(chunks(len(hs) - 1, self.chunk))):
            dz = self.block[: hi - lo]
            activation.slope_into(hs[lo + 1 : hi + 1], dz)
            backwards = self.steps[hi - lo - 1 :: -1]
            if d_outputs is None:  # only the final state has a gradient: nothing is added on the way
                for d in backwards:
                    multiply(d, side, d)
                    d.dot(W_back, side)
            else:
                for d, entering in zip(backwards, d_outputs[lo:hi][::-1], strict=True):
                    add(side, entering, side)
                    multiply(d, side, d)
                    d.dot(W_back, side)
            sums.add(start + lo, hs[lo:hi], dz)
        return side


def chunk_length(N: int, H: int, dtype: np.dtype[Any]) -> int:
    """Return C, how many steps are gone through at a time.

    As many as fill 512 KiB, which then are still in the cache when the loop comes to them, or give a weight gradient's
    product 1,024 rows, beside which it costs little to add it to the sum.
    """
    return min(256, max(1, 2**19 // (N * H * dtype.itemsize), 1024 // N))


def chunks(T: int, C: int) -> Iterator[tuple[int, int]]:
    """Yield where each chunk of at most C of the T steps begins and ends."""
    return ((lo, min(lo + C, T)) for lo in range(0, T, C))
