"""One step of a built-in cell on plain arrays, rows first, where nothing is to go back through it.

Beside the unroll it saves the turning into columns and whatever backward would need: the two products and the cell are
all there is. The equations are those of kernels/gated.py, σ(z) as 1 / (1 + e^−z), by whose denominator is divided.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from minirnn.arguments import Array
from minirnn.kernels import gated, simple
from minirnn.kernels.cells import QUIET
from minirnn.kernels.layout import Weights

Step = Callable[[Any, Array, Sequence[Array], Weights], list[Array]]
"""(kernel, x (N, D), state (N, H) each, weights) -> the new state, arrays of its own."""


def _elman(kernel: Any, x: Array, state: Sequence[Array], weights: Weights) -> list[Array]:
    return [kernel.activation.apply(_both_sides(x, state[0], weights))]


def _lstm(kernel: Any, x: Array, state: Sequence[Array], weights: Weights) -> list[Array]:
    h, c = state
    z = _both_sides(x, h, weights)  # i, f, g, o
    H = z.shape[1] >> 2
    g = np.tanh(z[:, 2 * H : 3 * H])
    _one_plus_exp(z)
    g /= z[:, :H]
    c = c / z[:, H : 2 * H]
    c += g
    h = np.tanh(c)
    h /= z[:, 3 * H :]
    return [h, c]


def _gru(kernel: Any, x: Array, state: Sequence[Array], weights: Weights) -> list[Array]:
    (h,) = state
    z, side = x.dot(weights.W_xh), h.dot(weights.W_hh)  # r, z, n
    if weights.b_h is not None:
        z += weights.b_h
    H = h.shape[1]
    gates = z[:, : 2 * H] + side[:, : 2 * H]  # new, since a part of rows takes up to twice as long in place
    _one_plus_exp(gates)
    of_n = side[:, 2 * H :]
    n = (of_n if weights.b_hn is None else of_n + weights.b_hn) / gates[:, :H]
    n += z[:, 2 * H :]
    return [_mixed(h, n, gates[:, H:])]


def _gru_reset_before(kernel: Any, x: Array, state: Sequence[Array], weights: Weights) -> list[Array]:
    (h,) = state
    H = h.shape[1]
    z = x.dot(weights.W_xh)
    if weights.b_h is not None:
        z += weights.b_h
    gates = h.dot(weights.W_hh[:, : 2 * H])
    gates += z[:, : 2 * H]
    _one_plus_exp(gates)
    n = (h / gates[:, :H]).dot(weights.W_hh[:, 2 * H :])
    n += z[:, 2 * H :]
    return [_mixed(h, n, gates[:, H:])]


def _both_sides(x: Array, h: Array, weights: Weights) -> Any:
    """Return x W_xh + h W_hh + b_h."""
    z = x.dot(weights.W_xh)
    z += h.dot(weights.W_hh)
    if weights.b_h is not None:
        z += weights.b_h
    return z


def _one_plus_exp(z: Array) -> None:
    """Make 1 + e^−z, that is 1/σ(z), in place."""
    np.negative(z, z)
    with QUIET():
        np.exp(z, z)
    z += 1.0


def _mixed(h: Array, n: Array, divisor: Array) -> Any:
    """Return tanh(n) + z ⊙ (h − tanh(n)), with ``divisor`` 1/z; n is scratch."""
    np.tanh(n, n)
    new = h - n
    new /= divisor
    new += n
    return new


STEPS: dict[type, Step] = {
    simple.Elman: _elman,
    gated.LSTM: _lstm,
    gated.GRU: _gru,
    gated.GRUResetBefore: _gru_reset_before,
}
"""By the class of the kernel; other cells go op by op."""
