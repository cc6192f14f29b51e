"""The unroll for small steps: what a step reads stands in one array, so that a step is one product and φ::

    h_k = φ(W [x_k; 1; h_{k-1}])  with W_xhᵀ, b_h, W_hhᵀ side by side in W     (note 003, equation 14-2, second line)
    dz_k = φ′(h_k) ⊙ (V [dz_{k+1}; e_k])  with W_hh, I side by side in V, and e_k the gradient that enters at step k

With so few numbers a call costs more than its arithmetic, and two calls instead of three are a third of the time. The
arrays hold columns, features first and rows of the mini-batch last: so h_k comes out right where step k + 1 reads it.
They are copied to and from the order of the layer a chunk at a time, steps in the order of processing.
"""  # noqa: D400

from typing import Any

import numpy as np

from minirnn.arguments import Array
from minirnn.kernels.cells import Activation
from minirnn.kernels.chunks import chunk_length, chunks
from minirnn.kernels.sums import Sums


class JoinedForward:
    """Scratch for N rows, D inputs and H neurons, and the loop over the steps that works in it."""

    def __init__(self, N: int, D: int, H: int, dtype: np.dtype[Any]) -> None:
        self.key = N, D, H, dtype
        self.chunk = C = chunk_length(N, D + 1 + H, dtype)
        columns = (N,) if N > 1 else ()  # vectors make cheaper calls than matrices of one column
        inputs = np.empty((C + 1, D + 1 + H, *columns), dtype)  # [x_k; 1; h_{k-1}]; h_k goes to the next
        inputs[:, D] = 1
        self.W = np.empty((H, D + 1 + H), dtype)
        rows_last = inputs.reshape(C + 1, D + 1 + H, N).swapaxes(1, 2)
        self.xs, self.hs = rows_last[..., :D], rows_last[..., D + 1 :]
        # What a step reads and writes: to make a view costs as much as a quarter of a small product.
        self.steps = [(inputs[k], inputs[k + 1, D + 1 :]) for k in range(C)]
        self.nbytes = inputs.nbytes + self.W.nbytes

    def run(self, x: Array, hs: Array, W_xh: Array, W_hh: Array, b_h: Array | None, activation: Activation) -> None:
        """Fill ``hs[1:]``, the states (T + 1, N, H) whose first one is given, from x (T, N, D)."""
        W, D = self.W, x.shape[2]
        W[:, :D], W[:, D], W[:, D + 1 :] = W_xh.T, 0 if b_h is None else b_h, W_hh.T
        dot, phi = W.dot, activation.at(self.steps[0][1].shape, W.dtype)
        self.hs[0] = hs[0]
        for lo, hi in chunks(len(x), self.chunk):
            n = hi - lo
            self.xs[:n] = x[lo:hi]
            for inputs, out in self.steps[:n]:
                dot(inputs, out)
                phi(out, out)
            hs[lo + 1 : hi + 1] = self.hs[1 : n + 1]
            self.hs[0] = self.hs[n]


class JoinedBackward:
    """Scratch for one row and H neurons, and the loop over the steps that works in it."""

    def __init__(self, N: int, H: int, dtype: np.dtype[Any]) -> None:
        self.key = N, H, dtype
        self.chunk = C = chunk_length(1, 2 * H, dtype)
        columns = np.empty((C + 1, 2 * H), dtype)  # [dz_{k+1}; e_k], one place later; dz_k goes to the one before
        self.V = np.empty((H, 2 * H), dtype)
        self.V[:, H:] = np.eye(H)
        self.slopes = np.empty((C, H), dtype)
        self.side = np.empty(H, dtype)  # dh_k
        self.dzs, self.entering = columns[:, :H], columns[:, H:]
        self.steps = [(columns[k + 1], self.slopes[k], self.dzs[k]) for k in range(C)]
        self.nbytes = sum(a.nbytes for a in (columns, self.V, self.slopes, self.side))

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
        """Go back from the last step to the first, hand every dz to ``sums``, and return dh_0 (1, H).

        ``start`` is the number that the first of these steps has in ``sums``.
        """
        V, side, H, multiply = self.V, self.side, len(self.V), np.multiply
        V[:, :H] = W_hh
        dot, carried = V.dot, d_final
        for lo, hi in reversed(chunks(len(hs) - 1, self.chunk)):
            n = hi - lo
            activation.slope_into(hs[lo + 1 : hi + 1, 0], self.slopes[:n])
            self.entering[1 : n + 1] = 0 if d_outputs is None else d_outputs[lo:hi, 0]
            if carried is not None:
                self.entering[n] += carried[0]
            self.dzs[n] = 0
            for column, slope, out in self.steps[n - 1 :: -1]:
                dot(column, side)
                multiply(side, slope, out)
            sums.add(start + lo, hs[lo:hi], np.ascontiguousarray(self.dzs[:n])[:, None])
            carried = self.dzs[:1].dot(W_hh.T)
        assert carried is not None, "there is a step"
        return carried
