"""The unroll for a single row: what a step reads stands side by side in one array, so a step is a product and φ::

    h_k = φ([x_k 1 h_{k-1}] W)  with W_xh, b_h, W_hh stacked to W     (note 003, equation 14-2, second line)
    dz_k = φ′(h_k) ⊙ ([dz_{k+1} e_k] V)  with W_hhᵀ, I stacked to V, and e_k the gradient that enters at step k

With so few numbers a call costs more than its arithmetic, and two calls instead of three are a third of the time. From
two rows on it is the other way round, since φ would write to memory with gaps. Arrays stand in the order of processing.
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
    """Scratch for one row of D inputs and H neurons, and the two loops over the steps that work in it.

    Attributes
    ----------
    chunk : int
        C, how many steps are gone through at a time.
    """

    chunk = 128

    def __init__(self, N: int, D: int, H: int, dtype: np.dtype[Any]) -> None:
        self.key = N, D, H, dtype
        C = self.chunk
        inputs = np.empty((C + 1, D + 1 + H), dtype)  # [x_k 1 h_{k-1}]; h_k goes to the next
        inputs[:, D] = 1
        gradients = np.empty((C + 1, 2 * H), dtype)  # [dz_{k+1} e_k], one place later; dz_k goes to the one before
        self.W = np.empty((D + 1 + H, H), dtype)
        self.V = np.empty((2 * H, H), dtype)
        self.V[H:] = np.eye(H)
        self.slopes = np.empty((C, H), dtype)
        self.side = np.empty(H, dtype)  # a product, before φ or φ′
        self.xs, self.hs = inputs[:, :D], inputs[:, D + 1 :]
        self.dzs, self.entering = gradients[:, :H], gradients[:, H:]
        # What a step needs, looked up beforehand: that costs as much as a quarter of its product.
        self.forth = [(inputs[k].dot, self.hs[k + 1]) for k in range(C)]
        self.back = [(gradients[k + 1].dot, self.slopes[k], self.dzs[k]) for k in range(C)]
        self.nbytes = sum(a.nbytes for a in (inputs, gradients, self.W, self.V, self.slopes, self.side))

    def forward(self, x: Array, hs: Array, W_xh: Array, W_hh: Array, b_h: Array | None, activation: Activation) -> None:
        """Fill ``hs[1:]``, the states (T + 1, 1, H) whose first one is given, from x (T, 1, D)."""
        W, side, D = self.W, self.side, x.shape[2]
        W[:D], W[D], W[D + 1 :] = W_xh, 0 if b_h is None else b_h, W_hh
        phi = activation.at(side.shape, side.dtype)
        self.hs[0] = hs[0, 0]
        for lo, hi in chunks(len(x), self.chunk):
            n = hi - lo
            self.xs[:n] = x[lo:hi, 0]
            for dot, out in self.forth[:n]:
                dot(W, side)
                phi(side, out)
            hs[lo + 1 : hi + 1, 0] = self.hs[1 : n + 1]
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
        """Go back from the last step to the first, hand every dz to ``sums``, and return dh_0 (1, H), scratch.

        ``start`` is the number that the first of these steps has in ``sums``.
        """
        V, side, H, multiply = self.V, self.side, hs.shape[2], np.multiply
        V[:H] = W_hh.T
        carried = d_final
        for lo, hi in reversed(list(chunks(len(hs) - 1, self.chunk))):
            n = hi - lo
            activation.slope_into(hs[lo + 1 : hi + 1, 0], self.slopes[:n])
            self.entering[1 : n + 1] = 0 if d_outputs is None else d_outputs[lo:hi, 0]
            if carried is not None:
                self.entering[n] += carried[0]
            self.dzs[n] = 0
            for dot, slope, out in self.back[n - 1 :: -1]:
                dot(V, side)
                multiply(side, slope, out)
            sums.add(start + lo, hs[lo:hi], np.ascontiguousarray(self.dzs[:n])[:, None])
            carried = self.dzs[:1].dot(V[:H])
        d_h0: Any = carried
        return d_h0  # type: ignore[no-any-return]
