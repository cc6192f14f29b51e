"""Rows of unequal lengths in small steps of Elman's layer: all rows at every step, as if they were of one length.

Where a step costs more for its calls than for its arithmetic, to do without some rows (kernels/lanes.py) saves nothing.
A row that has ended goes on with its own last input, so that no padding is read; φ must be bounded, so that it stays
finite. Nothing of it is returned, and no gradient enters there: dZ = φ′ ⊙ 0. Checked by tests/kernels/test_padded.py.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from minirnn.kernels import elman
from minirnn.kernels.cells import ACTIVATIONS, Activation

Array = NDArray[Any]

BOUNDED = ACTIVATIONS["tanh"], ACTIVATIONS["sigmoid"]


class Padded:
    """Rows of the lengths given, in order of time, or each from its last step on.

    Parameters
    ----------
    T : int
    lengths : (N,) of int
    reverse : bool
    """

    def __init__(self, T: int, lengths: Array, reverse: bool) -> None:
        N, k = len(lengths), np.arange(T)[:, None]
        self.rows, self.last, self.reverse = np.arange(N), lengths - 1, reverse
        self.valid = (k < lengths)[..., None]
        time = np.maximum(self.last - k, 0) if reverse else np.minimum(k, self.last)
        self.source = time * N + self.rows

    def turned(self, a: Array) -> Array:
        """Return (T, N, …) in the order of processing, or back from it; each valid step is the other's mirror image."""
        return a.reshape(-1, a.shape[-1]).take(self.source, axis=0)

    def forward(
        self, x: Array, h0: Array, W_xh: Array, W_hh: Array, b_h: Array | None, activation: Activation
    ) -> tuple[Array, Array, Array, Array]:
        """Return outputs (T, N, H), final states (N, H), and for backward all states and what was read."""
        read = self.turned(x)
        states = elman.forward(read, h0, W_xh, W_hh, b_h, activation)
        after = states[1:]
        outputs = np.where(self.valid, self.turned(after) if self.reverse else after, after.dtype.type(0))
        return outputs, after[self.last, self.rows], states, read

    def backward(
        self,
        d_outputs: Array | None,
        d_final: Array | None,
        states: Array,
        read: Array,
        W_xh: Array,
        W_hh: Array,
        activation: Activation,
        wanted: tuple[bool, ...],
    ) -> elman.Gradients:
        """Go back; the gradients of `forward`'s x, h0, W_xh, W_hh, b_h."""
        entering = np.zeros_like(states[1:])
        if d_outputs is not None:
            np.copyto(entering, self.turned(d_outputs) if self.reverse else d_outputs, where=self.valid)
        if d_final is not None:
            entering[self.last, self.rows] += d_final
        g = elman.backward(entering, None, states, read, W_xh, W_hh, activation, False, wanted)
        if g.x is None:
            return g
        return g._replace(x=np.where(self.valid, self.turned(g.x) if self.reverse else g.x, g.x.dtype.type(0)))
