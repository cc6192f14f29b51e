"""The unroll for a few rows: what a step reads stands side by side in one array, so that a step is one product and φ::

    H_k = φ([X_k 1 H_{k-1}] W)  with W_xh, b_h, W_hh stacked to W     (note 003, equation 14-2, second line)
    dZ_k = φ′(H_k) ⊙ ([dZ_{k+1} dH̃_k] V)  with W_hhᵀ, I stacked to V, and dH̃_k what enters at step k

With so few numbers a call costs more than its arithmetic: two calls instead of three are a third of the time. With many
rows it is the other way round, since φ then writes to memory with gaps. Arrays stand in the order of processing.
Checked by tests/kernels/test_unroll.py.
"""  # noqa: D400

from typing import Any

import numpy as np
from numpy.typing import NDArray

from minirnn.kernels.cells import Activation
from minirnn.kernels.hoisted import chunks
from minirnn.kernels.sums import Sums

Array = NDArray[Any]


class Joined:
    """Scratch for N rows, D inputs and H neurons, and the two loops over the steps that work in it.

    Attributes
    ----------
    chunk : int
        C, how many steps are gone through at a time.
    """

    chunk = 128

    def __init__(self, N: int, D: int, H: int, dtype: np.dtype[Any]) -> None:
        self.key = N, D, H, dtype
        C, shape = self.chunk, (N,) if N > 1 else ()  # vectors make cheaper calls than matrices of one row
        self.inputs = np.empty((C + 1, *shape, D + 1 + H), dtype)  # [X_k 1 H_{k-1}]; H_k goes to the next
        self.inputs[..., D] = 1
        self.W = np.empty((D + 1 + H, H), dtype)
        self.grads = np.empty((C + 1, *shape, 2 * H), dtype)  # [dZ_{k+1} dH̃_k] at k + 1; dZ_k goes to the one before
        self.V = np.empty((2 * H, H), dtype)
        self.V[H:] = np.eye(H)
        self.slopes = np.empty((C, *shape, H), dtype)
        self.side = np.empty((*shape, H), dtype)  # a product, before φ or φ′
        self.hs = self.inputs[..., D + 1 :]
        self.xs = self.inputs[..., :D]
        self.dzs, self.entering = self.grads[..., :H], self.grads[..., H:]
        # All that a step needs, bound and looked up beforehand.
        self.forth = [(self.inputs[k].dot, self.hs[k + 1]) for k in range(C)]
        self.back = [(self.grads[k + 1].dot, self.slopes[k], self.dzs[k]) for k in range(C)]
        arrays = [self.inputs, self.W, self.grads, self.V, self.slopes, self.side]
        self.nbytes = sum(a.nbytes for a in arrays)

    def forward(
        self, x: Array, hs: Array, W_xh: Array, W_hh: Array, b_h: Array | None, activation: Activation
    ) -> None:
        """Fill ``hs[1:]``, the states (T + 1, N, H) whose first one is given, from x (T, N, D)."""
        W, D, side = self.W, x.shape[2], self.side
        W[:D], W[D], W[D + 1 :] = W_xh, 0 if b_h is None else b_h, W_hh
        phi = activation.at(side.shape, side.dtype)
        x, hs = x.reshape(len(x), *side.shape[:-1], D), _squeezed(hs, side)
        self.hs[0] = hs[0]
        for lo, hi in chunks(len(x), self.chunk):
            n = hi - lo
            self.xs[:n] = x[lo:hi]
            for dot, out in self.forth[:n]:
                dot(W, side)
                phi(side, out)
            hs[lo + 1 : hi + 1] = self.hs[1 : n + 1]
            self.hs[0] = self.hs[n]

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
        _, N, H = hs.shape
        V, side, multiply = self.V, self.side, np.multiply
        V[:H] = W_hh.T
        carried: Any = d_final
        for lo, hi in reversed(list(chunks(len(hs) - 1, self.chunk))):
            n = hi - lo
            activation.slope_into(_squeezed(hs[lo + 1 : hi + 1], side), self.slopes[:n])
            self.entering[1 : n + 1] = 0 if d_outputs is None else _squeezed(d_outputs[lo:hi], side)
            if carried is not None:
                self.entering[n] += carried.reshape(side.shape)
            self.dzs[n] = 0
            for dot, slope, out in self.back[n - 1 :: -1]:
                dot(V, side)
                multiply(side, slope, out)
            dz = np.ascontiguousarray(self.dzs[:n]).reshape(n, N, H)
            sums.add(start + lo, hs[lo:hi], dz)
            carried = self.dzs[0].dot(V[:H])
        d_h0: Array = carried.reshape(N, H)
        return d_h0


def _squeezed(a: Array, side: Array) -> Array:
    """Drop the axis of rows if there is only one; always a view."""
    return a if side.ndim == 2 else a[:, 0]
