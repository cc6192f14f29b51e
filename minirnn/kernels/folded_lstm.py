"""The way back of an LSTM for one row of few neurons: a step is one product, of a matrix made for it.

The way back is linear. With dh_k all that comes to H of step k, dc_k what comes to its C from step k + 1, e_k what
enters at step k, and V_g the rows of W_hhᵀ of a gate::

    dh_{k-1} = e_{k-1} + (V_o diag J_o + M diag K) dh_k + M dc_k        M = V_i diag J_i + V_f diag J_f + V_g diag J_g
    dc_{k-1} = f ⊙ (dc_k + K ⊙ dh_k)

with the derivatives that kernels/gated.py saves. So [dh; dc; 1] goes through one matrix a step. Those of many steps are
made at once: neuron j of a step adds to row j of both its halves four numbers times four rows of W_hhᵀ.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from minirnn.arguments import Array
from minirnn.kernels.columns import Around, Saved
from minirnn.kernels.gated import LSTM
from minirnn.kernels.layout import Sums
from minirnn.kernels.scratch import chunks

FEW = 32
"""How many neurons are so few that the matrices cost less than the calls that they save."""

ROOM = 1 << 19
"""Bytes of matrices that are made at a time."""


def folds(around: Around, i: int, N: int, H: int) -> bool:
    """Return whether this way serves piece ``i``: it goes on with one sequence, and nothing acts on dH on the way."""
    settings = around.settings
    return (
        N == 1
        and H <= FEW
        and isinstance(settings.cell, LSTM)
        and settings.mask is None
        and settings.clip is None
        and not around.view.pieces[i].switches
    )


def steps_at_a_time(L: int, H: int, itemsize: int) -> int:
    """Return for how many of L steps matrices are made; a power of two where L is less, for scratch of few sizes."""
    return min(1 << (L - 1).bit_length(), max(1, ROOM // (itemsize * (2 * H + 1) * 2 * H)))


class FoldedBackward:
    """Scratch for so many steps of H neurons, and the loop back over them."""

    def __init__(self, steps: int, H: int, dtype: np.dtype[Any]) -> None:
        self.H, self.chunk = H, steps
        matrices = np.zeros((steps, 2 * H + 1, 2 * H), dtype)
        halves = matrices[:, :-1].reshape(steps, 2, H, 2 * H).transpose(1, 2, 0, 3)  # rows for dh, for dc; neurons
        self.to_h, self.to_c = halves[..., :H], np.einsum("hjkj->hjk", halves[..., H:])  # to its own C alone
        self.entering = matrices[:, -1, :H]
        self.factors = np.zeros((2, H, steps, 4), dtype)
        self.states = S = np.ones((steps + 1, 2 * H + 1), dtype)  # [dh_k; dc_k; 1] at k + 1
        self.steps = [(s.dot, matrix, to) for s, matrix, to in zip(S[1:], matrices, S[:, :-1], strict=False)]
        self.dz = np.empty((steps, 4, H), dtype)
        self.nbytes = matrices.nbytes + self.factors.nbytes + self.states.nbytes + self.dz.nbytes

    def run(
        self, d_outputs: Array | None, d_states: Sequence[Array], saved: Saved, around: Around, sums: Sums
    ) -> list[Array] | None:
        """Go back through a piece as `columns.Backward.run` does; None, and nothing is done, if numbers run away."""
        J, H, L = saved.own, self.H, len(saved.own)
        V = around.matrices.back.reshape(H, 4, H).transpose(2, 1, 0).copy()
        found = np.empty((L, 2, H), J.dtype)
        first = self.states[0, :-1].reshape(2, H)
        first[...] = np.concatenate(d_states)
        if d_outputs is not None:
            first[0] += d_outputs[-1, 0]
        for lo, hi in reversed(chunks(L, self.chunk)):
            n = hi - lo
            self._make(J[lo:hi], V)
            if d_outputs is not None:
                self.entering[0] = 0 if lo == 0 else d_outputs[lo - 1, 0]
                self.entering[1:n] = d_outputs[lo : hi - 1, 0]
            else:
                self.entering[:n] = 0
            self.states[n] = self.states[0]
            for dot, matrix, to in self.steps[n - 1 :: -1]:
                dot(matrix, to)
            found[lo:hi] = self.states[1 : n + 1, :-1].reshape(n, 2, H)
        if not (np.isfinite(found).all() and np.isfinite(first).all()):
            return None  # a zero of the matrix times what is infinite would be NaN
        for lo, hi in chunks(L, self.chunk):
            self._sum(J[lo:hi], found[lo:hi], saved, lo, sums)
        return [first[:1], first[1:]]

    def _make(self, J: Array, V: Array) -> None:
        """Make the matrices of steps from their derivatives (n, 6, H): K, those of Z of o, i, f and g, and f."""
        n, factors = len(J), self.factors[:, :, : len(J)]
        turned = J.transpose(2, 0, 1)  # (H, n, 6)
        factors[0, ..., 0] = turned[..., 1]
        factors[1, ..., 1:] = turned[..., 2:5]
        np.multiply(turned[..., 2:5], turned[..., :1], factors[0, ..., 1:])
        np.matmul(factors, V, self.to_h[:, :, :n])
        self.to_c[1, :, :n] = turned[..., 5]
        np.multiply(turned[..., 5], turned[..., 0], self.to_c[0, :, :n])

    def _sum(self, J: Array, found: Array, saved: Saved, lo: int, sums: Sums) -> None:
        """Make dZ of the steps from ``lo`` on, and hand it to ``sums``."""
        n, dh, dc = len(J), found[:, 0], found[:, 1]
        dz = self.dz[:n]
        np.multiply(J[:, 1], dh, dz[:, 0])
        dc += J[:, 0] * dh
        np.multiply(J[:, 2:5], dc[:, None], dz[:, 1:])
        sums.add(lo, saved.hs[lo : lo + n], dz.reshape(n, -1))
