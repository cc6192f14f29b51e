"""The way back of Elman's layer for one row of few neurons, of which a step is one product.

With one row the slopes of a step can be multiplied into the weights beforehand, those of many steps at once::

    dz_k = φ′(h_k) ⊙ (W_hh dz_{k+1} + e_k) = [dz_{k+1}; 1] M_k        M_k = [W_hhᵀ diag φ′(h_k); e_k ⊙ φ′(h_k)]

with e_k for the gradient that enters at step k. So the way back is linear, and of very few neurons two steps are
cheaper folded into one, [dz_{k+2}; 1] [M_{k+1}, (0; 1)] M_k, all pairs side by side, and these again in pairs: what is
left to be gone through one after the other are a few blocks of steps, from whose ends the steps within are filled in.
"""

from typing import Any

import numpy as np

from minirnn.arguments import Array
from minirnn.kernels.cells import Activation
from minirnn.kernels.layout import Sums
from minirnn.kernels.scratch import chunks

FEW = 20
"""Neurons up to which it costs less to make M_k than the calls that it saves."""

FEWER, MANY, TIMES = 12, 256, 3
"""Steps are folded for so few neurons at most, from so many steps on, and so many times: 8 into one. The product of
many more might overflow where no gradient does."""


def steps_at_a_time(T: int, H: int, itemsize: int) -> int:
    """Return for how many steps scratch is made to go through T of them: a power of two, M in the cache."""
    return 1 << min(T - 1, max(1, 2**19 // (H * (H + 1) * itemsize)), 1023).bit_length()


class FoldedBackward:
    """Scratch for so many steps of H neurons, and the loop over the steps that works in it."""

    def __init__(self, steps: int, H: int, dtype: np.dtype[Any]) -> None:
        self.chunk = steps
        times = TIMES if H <= FEWER and steps >= MANY else 0
        self.folded = [np.empty((steps >> i, H + 1, H), dtype) for i in range(times + 1)]  # M of 1, 2, 4, … steps
        self.dzs = np.empty((steps + 1, H + 1), dtype)  # [dz_k; 1]
        self.dzs[:, H] = 1
        self.slopes = np.empty((steps, H), dtype)
        self.W_back = np.empty((H, H), dtype)
        ends = self.dzs[:: 1 << times]
        self.steps = [(ends[k + 1].dot, M, ends[k, :H]) for k, M in enumerate(self.folded[-1])]
        self.nbytes = sum(a.nbytes for a in (*self.folded, self.dzs, self.slopes, self.W_back))

    def run(
        self,
        d_outputs: Any,
        d_final: Array | None,
        hs: Array,
        W_hh: Array,
        activation: Activation,
        sums: Sums,
        start: int,
    ) -> Array:
        """Go back as `HoistedBackward.run` does, for N = 1."""
        H, carried = len(W_hh), d_final
        self.W_back[...] = W_hh.T
        for lo, hi in reversed(chunks(len(hs) - 1, self.chunk)):
            n = hi - lo
            activation.slope_into(hs[lo + 1 : hi + 1, 0], self.slopes[:n])
            self._make(n, None if d_outputs is None else d_outputs[lo:hi, 0], carried)
            self._fill(n)
            sums.add(start + lo, hs[lo:hi], np.ascontiguousarray(self.dzs[:n, :H]))
            carried = self.dzs[:1, :H].dot(self.W_back)
        assert carried is not None, "there is a step"
        return carried

    def _make(self, n: int, entering: Any, carried: Array | None) -> None:
        """Make M of n steps from their slopes."""
        M, slopes, H = self.folded[0][:n], self.slopes[:n], len(self.W_back)
        # Each slope H times, side by side: to multiply by them in place, H numbers at a time, takes twice as long.
        again = slopes.repeat(H, axis=0).reshape(n, H * H)
        np.multiply(again, self.W_back.reshape(-1), M.reshape(n, (H + 1) * H)[:, : H * H])
        if entering is None:
            M[:, H] = 0
        else:
            np.multiply(slopes, entering, M[:, H])
        if carried is not None:
            M[-1, H] += slopes[-1] * carried[0]

    def _fill(self, n: int) -> None:
        """Go back from zeros after n steps."""
        times, H = len(self.folded) - 1, len(self.W_back)
        count = -(-n >> times)  # blocks
        end = count << times
        self.folded[0][n:end] = 0
        self.dzs[n : end + 1, :H] = 0
        if times and not self._fold(end):
            for k in range(n)[::-1]:  # as without blocks, so that there is no NaN but where one belongs
                self.dzs[k + 1].dot(self.folded[0][k], self.dzs[k, :H])
            return
        for dot, M, out in self.steps[count - 1 :: -1]:
            dot(M, out)
        for i in range(times)[::-1]:
            known, wanted = self.dzs[2 << i : end + 1 : 2 << i], self.dzs[1 << i : end : 2 << i]
            np.matmul(known[:, None], self.folded[i][1 : end >> i : 2], wanted[:, None, :H])

    def _fold(self, end: int) -> bool:
        """Fold the steps before ``end`` into blocks; return whether no product has overflowed."""
        H = len(self.W_back)
        with np.errstate(all="ignore"):
            for i, blocks in enumerate(self.folded[1:]):
                first, second = self.folded[i][: end >> i : 2], self.folded[i][1 : end >> i : 2]
                made = blocks[: len(first)]
                np.matmul(second, first[:, :H], made)
                np.add(made[:, H], first[:, H], made[:, H])
        return bool(np.isfinite(made).all())
