"""The unrolled recurrent layer, H_t = φ(X_t W_xh + H_{t-1} W_hh + b_h), forward and backward, on plain arrays.

Shapes: T steps, N rows of the mini-batch, D inputs, H hidden neurons. Checked by tests/kernels/test_unroll.py.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from minirnn.kernels.cells import Activation

Array = NDArray[Any]


class Gradients(NamedTuple):
    """∂L/∂ each input of the unroll; None where it was not wanted."""

    x: Array | None
    h0: Array | None
    W_xh: Array | None
    W_hh: Array | None
    b_h: Array | None


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
    states[T if reverse else 0] = h0
    out = outputs(states, reverse)
    # The input side of all steps at once: it does not depend on the states.
    np.dot(x.reshape(T * N, D), W_xh, out=out.reshape(T * N, H))
    if b_h is not None:
        out += b_h
    phi: Any = activation.apply
    in_place = isinstance(phi, np.ufunc)
    h = states[T if reverse else 0]
    for z in out[::-1] if reverse else out:
        z += h.dot(W_hh)
        if in_place:
            phi(z, z)
        else:
            z[...] = phi(z)
        h = z
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
    hs = outputs(states, reverse)
    dz = np.empty_like(hs)
    dz[...] = activation.derivative(hs)  # of all steps at once; dH_t is multiplied in below
    W_back = np.ascontiguousarray(W_hh.T)  # a product with a transposed view costs up to twice as much at every step
    carried = d_final
    for t in range(T) if reverse else range(T - 1, -1, -1):
        if d_outputs is None:
            total = carried
        else:
            total = d_outputs[t] if carried is None else d_outputs[t] + carried
        d = dz[t]
        d *= 0 if total is None else total
        carried = d.dot(W_back)
    flat = dz.reshape(T * N, H)
    before = previous(states, reverse).reshape(T * N, H)
    return Gradients(
        x=flat.dot(W_xh.T).reshape(T, N, D) if wanted[0] else None,
        h0=carried if wanted[1] else None,
        W_xh=x.reshape(T * N, D).T.dot(flat) if wanted[2] else None,
        W_hh=before.T.dot(flat) if wanted[3] else None,
        b_h=flat.sum(axis=0) if wanted[4] else None,
    )


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
