"""The unroll for a mini-batch: the input side of many steps in one product, hoisted out of the loop over the steps::

    S = X W_xh + b_h for all steps of a chunk, then step by step H_k = φ(S_k + H_{k-1} W_hh)

Steps are in the order of processing: k = 0 is processed first.
"""  # noqa: D400

from typing import Any

import numpy as np

from minirnn.arguments import Array
from minirnn.kernels.cells import Activation
from minirnn.kernels.chunks import chunk_length, chunks
from minirnn.kernels.sums import Sums


class HoistedForward:
    """Scratch for N rows, D inputs and H neurons, and the loop over the steps that works in it."""

    def __init__(self, N: int, D: int, H: int, dtype: np.dtype[Any]) -> None:
        self.key = N, D, H, dtype
        self.chunk = C = chunk_length(N, H, dtype)
        self.block = np.empty((C, N, H), dtype)  # S
        self.steps = list(self.block)  # its views: to make one costs as much as a quarter of a small product
        self.side = np.empty((N, H), dtype)  # H_{k-1} W_hh, and what φ is applied to
        self.bias = np.empty((N, H), dtype)  # b_h for every row: added to N·H numbers at a time, not to H
        self.nbytes = self.block.nbytes + self.side.nbytes + self.bias.nbytes

    def run(
        self,
        x: Array,
        hs: Array,
        W_xh: Array,
        W_hh: Array,
        b_h: Array | None,
        activation: Activation,
    ) -> None:
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


class HoistedBackward:
    """Scratch for N rows and H neurons, and the loop over the steps that works in it."""

    def __init__(self, N: int, H: int, dtype: np.dtype[Any]) -> None:
        self.key = N, H, dtype
        self.chunk = C = chunk_length(N, H, dtype)
        self.block = np.empty((C, N, H), dtype)  # φ′, which becomes dZ
        self.steps = [(d, d.dot) for d in self.block]
        self.side = np.empty((N, H), dtype)  # dH_k
        self.W_back = np.empty((H, H), dtype)  # W_hhᵀ: a product with a transposed view costs up to twice as much
        self.nbytes = self.block.nbytes + self.side.nbytes + self.W_back.nbytes

    def run(
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
        side[...] = 0 if d_final is None else d_final
        for lo, hi in reversed(chunks(len(hs) - 1, self.chunk)):
            dz = self.block[: hi - lo]
            activation.slope_into(hs[lo + 1 : hi + 1], dz)
            backwards = self.steps[: hi - lo][::-1]
            if d_outputs is None:  # only the final state has a gradient: nothing is added on the way
                for d, dot in backwards:
                    multiply(d, side, d)
                    dot(W_back, side)
            else:
                for (d, dot), entering in zip(backwards, d_outputs[lo:hi][::-1], strict=True):
                    add(side, entering, side)
                    multiply(d, side, d)
                    dot(W_back, side)
            sums.add(start + lo, hs[lo:hi], dz)
        return side
