"""The LSTM as its papers write it: one function an equation, loops and all.

The weights of its four gates stand side by side, W_xh (D, 4H), W_hh (H, 4H) and b_h (4H,), in the order i, f, g, o.
W_xi, W_hi and b_i are gate i's block of each, H columns wide. σ is the sigmoid; ⊙ multiplies entry by entry. These
functions take complex numbers too (all is complex128 then), so that the complex step Im L(a + iε)/ε gives their
derivatives to the last digits.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from minirnn.textbook.reading import Array, read, sigmoid


def lstm_step(
    x_t: ArrayLike, h: ArrayLike, c: ArrayLike, W_xh: ArrayLike, W_hh: ArrayLike, b_h: ArrayLike
) -> tuple[Array, Array]:
    """One LSTM layer, a mini-batch, one step; h and c are h_{t-1} and c_{t-1}.

    :

        i = σ(x_t W_xi + h_{t-1} W_hi + b_i)        the input gate: how much of g enters the cell
        f = σ(x_t W_xf + h_{t-1} W_hf + b_f)        the forget gate: how much of c_{t-1} stays
        g = tanh(x_t W_xg + h_{t-1} W_hg + b_g)     the candidate
        o = σ(x_t W_xo + h_{t-1} W_ho + b_o)        the output gate: how much of the cell is shown
        c_t = f ⊙ c_{t-1} + i ⊙ g
        h_t = o ⊙ tanh(c_t)

    Source: Hochreiter & Schmidhuber 1997, "Long short-term memory"; the forget gate: Gers, Schmidhuber & Cummins 2000,
    "Learning to forget". There are no peepholes.

    >>> h, c = lstm_step([[1.0]], [[0.0]], [[0.8]], np.ones((1, 4)), np.ones((1, 4)), [-999.0, 999.0, 0.0, -999.0])
    >>> h, c  # i = 0, f = 1, o = 0: the cell keeps what it has, and shows nothing
    (array([[0.]]), array([[0.8]]))

    Parameters
    ----------
    x_t : (N, D)
    h, c, h_t, c_t : (N, H)
    W_xh, W_hh, b_h : (D, 4H), (H, 4H), (4H,), in blocks i, f, g, o
    """
    shapes = "W_hh: H 4H, W_xh: D 4H, b_h: 4H, x_t: N D, h: N H, c: N H"
    W_hh, W_xh, b_h, x_t, h, c = read("lstm_step", shapes, W_hh, W_xh, b_h, x_t, h, c, complex_too=True)
    i, f, g, o = _lstm_gates(x_t, h, W_xh, W_hh, b_h)
    c_t = f * c + i * g
    return o * np.tanh(c_t), c_t


def unroll_lstm(
    x: ArrayLike, h_0: ArrayLike, c_0: ArrayLike, W_xh: ArrayLike, W_hh: ArrayLike, b_h: ArrayLike
) -> tuple[Array, Array]:
    """Unroll an LSTM layer through time: h_t, c_t = lstm_step(x_t, h_{t-1}, c_{t-1}, W_xh, W_hh, b_h), t = 1 … T.

    >>> hs, cs = unroll_lstm(np.zeros((3, 1, 2)), [[0.0]], [[0.8]], np.zeros((2, 4)), np.zeros((1, 4)), np.zeros(4))
    >>> cs.ravel()  # f = σ(0) = 1/2, and g = 0
    array([0.4, 0.2, 0.1])

    Parameters
    ----------
    x, h_0, c_0 : (T, N, D), and the initial state, (N, H) each; the weights as in `lstm_step`
    hs, cs : (T, N, H); hs are the outputs, and the final state is hs[-1], cs[-1]
    """
    shapes = "W_hh: H 4H, W_xh: D 4H, b_h: 4H, x: T N D, h_0: N H, c_0: N H"
    W_hh, W_xh, b_h, x, h, c = read("unroll_lstm", shapes, W_hh, W_xh, b_h, x, h_0, c_0, complex_too=True)
    hs, cs = [], []
    for x_t in x:
        h, c = lstm_step(x_t, h, c, W_xh, W_hh, b_h)
        hs.append(h)
        cs.append(c)
    return np.stack(hs), np.stack(cs)


class LSTMGradients(NamedTuple):
    """∂L/∂ each argument of `unroll_lstm`, in its shape."""

    x: Array
    h_0: Array
    c_0: Array
    W_xh: Array
    W_hh: Array
    b_h: Array


def unroll_lstm_backward(
    x: ArrayLike,
    h_0: ArrayLike,
    c_0: ArrayLike,
    W_xh: ArrayLike,
    W_hh: ArrayLike,
    b_h: ArrayLike,
    d_outputs: ArrayLike,
    d_final_h: ArrayLike | None = None,
    d_final_c: ArrayLike | None = None,
) -> LSTMGradients:
    """Back-propagate by hand through ``unroll_lstm(x, h_0, c_0, W_xh, W_hh, b_h)``.

    Write dA for ∂L/∂A, and a_t = x_t W_xh + h_{t-1} W_hh + b_h for what the gates are functions of. c_t reaches the
    loss through h_t and through c_{t+1}; h_t as an output and through a_{t+1}. For t = T … 1, the gates those of step
    t unless they say otherwise:

        dh_t = d_outputs_t + da_{t+1} W_hhᵀ                          at t = T: d_outputs_T + d_final_h
        dc_t = dc_{t+1} ⊙ f_{t+1} + dh_t ⊙ o ⊙ (1 - tanh²(c_t))      at t = T, d_final_c for dc_{t+1} ⊙ f_{t+1}
        da_i = dc_t ⊙ g ⊙ i ⊙ (1 - i)
        da_f = dc_t ⊙ c_{t-1} ⊙ f ⊙ (1 - f)
        da_g = dc_t ⊙ i ⊙ (1 - g²)
        da_o = dh_t ⊙ tanh(c_t) ⊙ o ⊙ (1 - o)                        da_t = [da_i da_f da_g da_o]
        dx_t = da_t W_xhᵀ                                            at the far end dh_0 = da_1 W_hhᵀ, dc_0 = dc_1 ⊙ f_1
        dW_xh = Σ_t x_tᵀ da_t,   dW_hh = Σ_t h_{t-1}ᵀ da_t,   db_h = Σ_t (sum of the rows of da_t)

    Source: the chain rule, applied to the equations of `lstm_step`.

    >>> x, state, W = np.zeros((3, 1, 2)), [[0.0]], np.zeros((2, 4))
    >>> g = unroll_lstm_backward(x, state, state, W, W[:1], W[0], np.zeros((3, 1, 1)), d_final_c=[[1.0]])
    >>> g.c_0  # f = 1/2, three times
    array([[0.125]])

    Parameters
    ----------
    x, h_0, c_0, W_xh, W_hh, b_h : (T, N, D); (N, H); (N, H); (D, 4H); (H, 4H); (4H,)
    d_outputs : (T, N, H), ∂L/∂ the output h_t of every step
    d_final_h, d_final_c : (N, H), ∂L/∂ the final state h_T, c_T; None for zeros
    """
    shapes = (
        "W_hh: H 4H, W_xh: D 4H, b_h: 4H, x: T N D, h_0: N H, c_0: N H, "
        "d_outputs: T N H, d_final_h?: N H, d_final_c?: N H"
    )
    W_hh, W_xh, b_h, x, h_0, c_0, d_outputs, d_h_from_later, d_c_from_later = read(
        "unroll_lstm_backward", shapes, W_hh, W_xh, b_h, x, h_0, c_0, d_outputs, d_final_h, d_final_c, complex_too=True
    )
    hs, cs = unroll_lstm(x, h_0, c_0, W_xh, W_hh, b_h)
    hs, cs = np.stack([h_0, *hs]), np.stack([c_0, *cs])  # hs[t], cs[t] for t = 0 … T
    d_x, d_W_xh, d_W_hh, d_b_h = (np.zeros_like(a) for a in (x, W_xh, W_hh, b_h))
    for t in range(len(x), 0, -1):
        i, f, g, o = _lstm_gates(x[t - 1], hs[t - 1], W_xh, W_hh, b_h)  # x_t has index t-1: Python counts from 0
        shown = np.tanh(cs[t])
        d_h = d_outputs[t - 1] + d_h_from_later
        d_c = d_c_from_later + d_h * o * (1.0 - shown**2)
        d_a_i = d_c * g * i * (1.0 - i)
        d_a_f = d_c * cs[t - 1] * f * (1.0 - f)
        d_a_g = d_c * i * (1.0 - g**2)
        d_a_o = d_h * shown * o * (1.0 - o)
        d_a = np.hstack([d_a_i, d_a_f, d_a_g, d_a_o])
        d_x[t - 1] = d_a @ W_xh.T
        d_W_xh += x[t - 1].T @ d_a
        d_W_hh += hs[t - 1].T @ d_a
        d_b_h += d_a.sum(axis=0)
        d_h_from_later, d_c_from_later = d_a @ W_hh.T, d_c * f
    return LSTMGradients(x=d_x, h_0=d_h_from_later, c_0=d_c_from_later, W_xh=d_W_xh, W_hh=d_W_hh, b_h=d_b_h)


def _lstm_gates(x_t: Array, h: Array, W_xh: Array, W_hh: Array, b_h: Array) -> tuple[Array, Array, Array, Array]:
    """Compute i, f, g, o."""
    a_i, a_f, a_g, a_o = np.split(x_t @ W_xh + h @ W_hh + b_h, 4, axis=1)
    return sigmoid(a_i), sigmoid(a_f), np.tanh(a_g), sigmoid(a_o)
