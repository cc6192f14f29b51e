"""The unrolled recurrent layer, H_t = φ(X_t W_xh + H_{t-1} W_hh + b_h), forward and backward, on plain arrays.

Shapes: T steps, N rows of the mini-batch, D inputs, H hidden neurons. Checked by tests/kernels/test_unroll.py.

`forward` and `backward` see to the order of time and to what is kept and wanted. The products and the loop over the
steps stand in kernels/hoisted.py for a mini-batch, in kernels/joined.py for a few rows: the two lines of equation 14-2.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from minirnn.kernels import scratch
from minirnn.kernels.cells import Activation
from minirnn.kernels.hoisted import Hoisted
from minirnn.kernels.joined import Joined
from minirnn.kernels.sums import Sums

Array = NDArray[Any]


class Gradients(NamedTuple):
    """∂L/∂ each input of the unroll; None where it was not wanted."""

    x: Array | None
    h0: Array | None
    W_xh: Array | None
    W_hh: Array | None
    b_h: Array | None


def form(N: int, D: int, H: int) -> type[Hoisted] | type[Joined]:
    """Choose the form by the shape: joined while a step is so small that its calls cost more than its arithmetic."""
    return Joined if N == 1 and H <= 64 and D <= 64 else Hoisted


def forward(
    x: Array, h0: Array, W_xh: Array, W_hh: Array, b_h: Array | None, activation: Activation, reverse: bool = False
) -> Array:
    """Unroll over all steps and return every state.

    Parameters
    ----------
    x : (T, N, D)
    h0 : (N, H), the state before the first step processed
    W_xh, W_hh, b_h : (D, H), (H, H), (H,) or None
    activation : φ
    reverse : process t = T−1 … 0 instead of 0 … T−1

    Returns
    -------
    states : (T + 1, N, H)
        In time order. Processing forward, ``states[0]`` is h0 and ``states[t + 1]`` the output of step t; in reverse,
        ``states[T]`` is h0 and ``states[t]`` the output of step t. One buffer for both, because backward needs the
        states before and after each step as two contiguous (T, N, H) blocks: `outputs` and `previous`.
    """
    T, N, D = x.shape
    H = W_hh.shape[0]
    states = np.empty((T + 1, N, H), np.result_type(x, h0, W_xh, W_hh))
    hs, xs = (states[::-1], x[::-1]) if reverse else (states, x)
    hs[0] = h0
    work = scratch.take(form(N, D, H), N, D, H, states.dtype)
    work.forward(xs, hs, W_xh, W_hh, b_h, activation)
    scratch.give(work)
    return states


def backward(
    d_outputs: Array | None,
    d_final: Array | None,
    states: Array,
    x: Array,
    W_xh: Array,
    W_hh: Array,
    activation: Activation,
    reverse: bool = False,
    wanted: tuple[bool, ...] = (True,) * 5,
) -> Gradients:
    """Go back through `forward`: with dA for ∂L/∂A, from the step processed last to the first::

        dH_t = d_outputs_t + dZ_{t+1} W_hhᵀ        d_final instead of dZ_{t+1} W_hhᵀ at the last step
        dZ_t = dH_t ⊙ φ′(H_t)
        dX_t = dZ_t W_xhᵀ        dW_xh = Σ X_tᵀ dZ_t        dW_hh = Σ H_{t-1}ᵀ dZ_t        db_h = Σ dZ_t

    Parameters
    ----------
    d_outputs : (T, N, H) or None for zeros
    d_final : (N, H) or None for zeros
    states : (T + 1, N, H), from `forward`
    x, W_xh, W_hh, activation, reverse : as given to `forward`
    wanted : whether to compute the gradient of x, h0, W_xh, W_hh, b_h

    Returns
    -------
    Gradients : newly made arrays, each in the shape of its input
    """  # noqa: D400
    T, N, D = x.shape
    H = W_hh.shape[0]
    turn = slice(None, None, -1 if reverse else 1)
    dx = np.empty(x.shape, states.dtype) if wanted[0] else None
    sums = Sums(x[turn], None if dx is None else dx[turn], W_xh, wanted[2:])
    g = None if d_outputs is None else d_outputs[turn]
    work = scratch.take(form(N, D, H), N, D, H, states.dtype)
    d_h0 = work.backward(g, d_final, states[turn], W_hh, activation, sums).copy()
    scratch.give(work)
    return Gradients(dx, d_h0 if wanted[1] else None, sums.W_xh, sums.W_hh, sums.b_h)


def outputs(states: Array, reverse: bool) -> Array:
    """Return the (T, N, H) states after each step, a view."""
    return states[:-1] if reverse else states[1:]


def previous(states: Array, reverse: bool) -> Array:
    """Return the (T, N, H) states before each step, a view."""
    return states[1:] if reverse else states[:-1]


def final(states: Array, reverse: bool) -> Array:
    """Return the (N, H) state after the step processed last, a view."""
    h: Array = states[0] if reverse else states[-1]
    return h
