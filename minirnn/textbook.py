"""The recurrent layer exactly as two notes write it: one function an equation, loops and all, in float64.

Read this file first. Nothing here is fast; everything else in minirnn is held against it. LSTM and GRU come last, as
their papers write them.

The sources are *note 000, Understanding RNN parameter calculation*, and *note 003, Recurrent neurons (p. 381)*, which
explains equations 14-1 and 14-2 of the book it annotates. What note 003 calls y, W_x, W_y, b, note 000 calls H, W_xh,
W_hh, b_h. Their letters for sizes differ too, and an m is not an m:

==========  =====  ======  ==========================  =========================  ==============
counted     steps  inputs  recurrent (hidden) neurons  instances in a mini-batch  output neurons
==========  =====  ======  ==========================  =========================  ==============
note 003    t      k       l                           m
note 000    T      m       n                                                      p
minirnn     T      D       H                           N                          P
==========  =====  ======  ==========================  =========================  ==============

Shapes are given in note 003's letters = minirnn's; for LSTM and GRU in minirnn's alone. Every function raises
ValueError for shapes that disagree, and TypeError for what is not an array of real numbers, naming the argument, what
was expected and what came. It is all checked in tests/test_textbook.py: the steps by test_all_levels_agree, the rest by
tests named after the functions.

LSTM and GRU keep the weights of their G gates side by side, W_xh (D, G·H), W_hh (H, G·H) and b_h (G·H,), in the order
i, f, g, o or r, z, n. W_xi, W_hi and b_i are gate i's block of each, H columns wide. σ is the sigmoid; ⊙ multiplies
entry by entry. These functions take complex numbers too (all is complex128 then), so that the complex step
Im L(a + iε)/ε gives their derivatives to the last digits.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]
Pair = tuple[Callable[[Array], Array], Callable[[Array], Array]]  # φ, φ′
Step = Callable[..., float | Array]  # any of the first four …_step functions

#: name -> (φ, φ′). φ′ is written in terms of φ's *output* y = φ(z). At relu's corner, z = 0, the slope is taken as 0.
ACTIVATIONS: dict[str, Pair] = {
    "tanh": (np.tanh, lambda y: 1.0 - y * y),
    "relu": (lambda z: np.maximum(z, 0.0), lambda y: np.where(y > 0.0, 1.0, 0.0)),
    "sigmoid": (lambda z: 0.5 * (1.0 + np.tanh(z / 2.0)), lambda y: y * (1.0 - y)),  # as tanh it overflows nowhere
    "identity": (lambda z: z, lambda y: np.ones_like(y)),
}


def neuron_step(
    x_t: ArrayLike, y_prev: ArrayLike, w_x: ArrayLike, w_y: ArrayLike, b: ArrayLike, activation: str | Pair = "tanh"
) -> float:
    """One neuron, one instance, one step: y_t = φ(⟨x_t, w_x⟩ + y_{t-1} w_y + b).

    A neuron on its own hears only its own last output, a number. A neuron in a layer hears all its neighbours: there
    y_{t-1} w_y is the inner product ⟨y_{t-1}, w_y⟩, and w_x, w_y, b are the neuron's columns of W_x, W_y, b.

    Source: note 003, section 1, and equation 14-1; a neuron in a layer: section 2.

    >>> neuron_step([1.0, 2.0], 0.5, w_x=[3.0, -1.0], w_y=2.0, b=0.25, activation="relu")  # 3 - 2 + 1 + 0.25
    2.25

    Parameters
    ----------
    x_t, w_x : (k,) = (D,)
    y_prev, w_y : () for a neuron on its own, (l,) = (H,) for one in a layer
    b : ()

    Returns
    -------
    y_t : ()
    """
    phi, _ = _activation("neuron_step", activation)
    shapes = "w_x: k, w_y: l, b:, x_t: k, y_prev: l" if np.ndim(w_y) else "w_x: k, w_y:, b:, x_t: k, y_prev:"
    w_x, w_y, b, x_t, y_prev = _read("neuron_step", shapes, w_x, w_y, b, x_t, y_prev)
    return float(phi(np.inner(x_t, w_x) + np.inner(y_prev, w_y) + b))


def layer_step_instance(
    x_t: ArrayLike, y_prev: ArrayLike, W_x: ArrayLike, W_y: ArrayLike, b: ArrayLike, activation: str | Pair = "tanh"
) -> Array:
    """One layer, one instance, one step, in column form: y_t = φ(W_xᵀ x_t + W_yᵀ y_{t-1} + b).

    Source: note 003, section 2.

    >>> layer_step_instance([1.0], [1.0, 2.0], W_x=[[1.0, 2.0]], W_y=np.eye(2), b=[0.0, 0.5], activation="identity")
    array([2. , 4.5])

    Parameters
    ----------
    x_t : (k,) = (D,)
    y_prev : (l,) = (H,)
    W_x, W_y : (k, l) = (D, H) and (l, l) = (H, H); column j holds the weights of neuron j
    b : (l,) or (1, l)

    Returns
    -------
    y_t : (l,) = (H,)
    """
    phi, _ = _activation("layer_step_instance", activation)
    shapes = "W_y: l l, W_x: k l, b: l | 1 l, x_t: k, y_prev: l"
    W_y, W_x, b, x_t, y_prev = _read("layer_step_instance", shapes, W_y, W_x, b, x_t, y_prev)
    return phi(W_x.T @ x_t + W_y.T @ y_prev + b.reshape(-1))


def layer_step_batch(
    X_t: ArrayLike, Y_prev: ArrayLike, W_x: ArrayLike, W_y: ArrayLike, b: ArrayLike, activation: str | Pair = "tanh"
) -> Array:
    """One layer, a mini-batch, one step: Y_t = φ(X_t W_x + Y_{t-1} W_y + b). Row i is instance i.

    Source: note 003, section 3, and equation 14-2, first line; note 000's H_t = φ(X_t W_xh + H_{t-1} W_hh + b_h).

    >>> layer_step_batch([[1.0], [2.0]], [[0.0], [3.0]], W_x=[[10.0]], W_y=[[1.0]], b=[[0.5]], activation="relu")
    array([[10.5], [23.5]])

    Parameters
    ----------
    X_t : (m, k) = (N, D)
    Y_prev : (m, l) = (N, H)
    W_x, W_y : (k, l) = (D, H) and (l, l) = (H, H)
    b : (1, l) or (l,), added to every row

    Returns
    -------
    Y_t : (m, l) = (N, H)
    """
    phi, _ = _activation("layer_step_batch", activation)
    shapes = "W_y: l l, W_x: k l, b: 1 l | l, X_t: m k, Y_prev: m l"
    W_y, W_x, b, X_t, Y_prev = _read("layer_step_batch", shapes, W_y, W_x, b, X_t, Y_prev)
    return phi(X_t @ W_x + Y_prev @ W_y + b)


def layer_step_batch_concat(
    X_t: ArrayLike, Y_prev: ArrayLike, W: ArrayLike, b: ArrayLike, activation: str | Pair = "tanh"
) -> Array:
    """The same step with a single product: Y_t = φ([X_t Y_{t-1}] W + b), where W is W_x stacked on top of W_y.

    Source: note 003, section 3, and equation 14-2, second line.

    >>> layer_step_batch_concat([[1.0], [2.0]], [[0.0], [3.0]], W=[[10.0], [1.0]], b=[[0.5]], activation="relu")
    array([[10.5], [23.5]])

    Parameters
    ----------
    X_t : (m, k) = (N, D)
    Y_prev : (m, l) = (N, H)
    W : (k+l, l) = (D+H, H), that is ``np.vstack([W_x, W_y])``
    b : (1, l) or (l,), added to every row

    Returns
    -------
    Y_t : (m, l) = (N, H)
    """
    phi, _ = _activation("layer_step_batch_concat", activation)
    shapes = "X_t: m k, Y_prev: m l, W: k+l l, b: 1 l | l"
    X_t, Y_prev, W, b = _read("layer_step_batch_concat", shapes, X_t, Y_prev, W, b)
    return phi(np.hstack([X_t, Y_prev]) @ W + b)


def unroll(step: Step, x: ArrayLike, y_0: ArrayLike, *weights: ArrayLike, activation: str | Pair = "tanh") -> Array:
    """Unroll a layer through time: y_t = step(x_t, y_{t-1}, *weights) for t = 1 … T, the same weights at every step.

    Source: note 003, figures 14-1 and 14-2, right-hand sides.

    >>> unroll(neuron_step, [[1.0], [0.0], [0.0]], 0.0, [1.0], 0.5, 0.0, activation="identity")  # an echo dies away
    array([1.  , 0.5 , 0.25])

    Parameters
    ----------
    step : one of the four functions above
    x : (T, k) for one instance, (T, m, k) = (T, N, D) for a mini-batch: time comes first
    y_0 : (), (l,) or (m, l) = (N, H), the initial state
    weights : what `step` takes after y_prev

    Returns
    -------
    y : (T,), (T, l) or (T, m, l) = (T, N, H); the last one, y[-1], is the final state
    """
    steps = np.asarray(x)
    if steps.ndim < 2 or len(steps) == 0:
        raise ValueError(f"unroll: x must have shape (T, k) or (T, m, k) with T ≥ 1, got {steps.shape}: put time first")
    y, outputs = y_0, []
    for x_t in steps:
        y = step(x_t, y, *weights, activation=activation)
        outputs.append(y)
    return np.stack(outputs)


def head(H_t: ArrayLike, W_hy: ArrayLike, b_y: ArrayLike) -> Array:
    """Return the output layer's O_t = H_t W_hy + b_y: no recurrence, no activation.

    Source: note 000, the network of its example; the letters are that note's.

    >>> head([[1.0, 2.0]], W_hy=[[1.0], [10.0]], b_y=[0.5])
    array([[21.5]])

    Parameters
    ----------
    H_t : (n,), (N, n) or, all steps at once, (T, N, n) = (T, N, H)
    W_hy : (n, p) = (H, P); note 000's answers give its transpose
    b_y : (p,) or (1, p) = (1, P); zeros if there is none

    Returns
    -------
    O_t : (p,), (N, p) or (T, N, p) = (T, N, P)
    """
    W_hy, b_y, H_t = _read("head", "W_hy: n p, b_y: p | 1 p, H_t: n | N n | T N n", W_hy, b_y, H_t)
    return H_t @ W_hy + b_y.reshape(-1)


class Gradients(NamedTuple):
    """∂L/∂ each argument of the unroll, in the shape that the argument was given in."""

    x: Array
    y_0: Array
    W_x: Array
    W_y: Array
    b: Array


def unroll_backward(
    x: ArrayLike,
    y_0: ArrayLike,
    W_x: ArrayLike,
    W_y: ArrayLike,
    b: ArrayLike,
    d_outputs: ArrayLike,
    d_final: ArrayLike | None = None,
    activation: str | Pair = "tanh",
) -> Gradients:
    """Back-propagate by hand through ``unroll(layer_step_batch, x, y_0, W_x, W_y, b)``.

    Write dA for ∂L/∂A, and Z_t = X_t W_x + Y_{t-1} W_y + b, so that Y_t = φ(Z_t). Y_t reaches the loss L on two
    roads, as the output of step t and as the state that enters step t+1. The chain rule adds them up; for t = T … 1::

        dY_t = d_outputs_t + dZ_{t+1} W_yᵀ          at t = T no step follows, but d_final enters: d_outputs_T + d_final
        dZ_t = dY_t ⊙ φ′(Y_t)                       entry by entry; φ′ takes φ's output
        dX_t = dZ_t W_xᵀ                            and at the far end dY_0 = dZ_1 W_yᵀ
        dW_x = Σ_t X_tᵀ dZ_t                        the same weights are used T times: their gradients add up
        dW_y = Σ_t Y_{t-1}ᵀ dZ_t
        db   = Σ_t (sum of the rows of dZ_t)

    Source: the chain rule, applied to note 003, equation 14-2.

    >>> g = unroll_backward([[[1.0]], [[0.0]]], [[0.0]], [[1.0]], [[0.5]], [0.0], [[[0.0]], [[1.0]]], None, "identity")
    >>> g.x.ravel(), g.W_y.item()  # L = y_2 = w_y y_1 + x_2 with y_1 = x_1: ∂L/∂x_1 = w_y and ∂L/∂w_y = y_1
    (array([0.5, 1. ]), 1.0)

    Parameters
    ----------
    x, y_0, W_x, W_y, b : (T, m, k) = (T, N, D); (m, l) = (N, H); (k, l) = (D, H); (l, l) = (H, H); (1, l) or (l,)
    d_outputs : (T, m, l) = (T, N, H), ∂L/∂ the output of every step
    d_final : (m, l) = (N, H), ∂L/∂ the final state; None for zeros

    Returns
    -------
    Gradients : of x, y_0, W_x, W_y, b
    """
    _, phi_prime = _activation("unroll_backward", activation)
    shapes = "W_y: l l, W_x: k l, b: 1 l | l, x: T m k, y_0: m l, d_outputs: T m l, d_final?: m l"
    W_y, W_x, b, x, y_0, d_outputs, d_final = _read("unroll_backward", shapes, W_y, W_x, b, x, y_0, d_outputs, d_final)

    Y = [y_0, *unroll(layer_step_batch, x, y_0, W_x, W_y, b, activation=activation)]  # Y[t] for t = 0 … T
    d_x, d_W_x, d_W_y, d_b = np.zeros_like(x), np.zeros_like(W_x), np.zeros_like(W_y), np.zeros_like(b)
    from_later = d_final  # what reaches Y_t through the steps after t
    for t in range(len(x), 0, -1):
        d_Y = d_outputs[t - 1] + from_later  # step t of the notes has index t-1: Python counts from 0
        d_Z = d_Y * phi_prime(Y[t])
        d_x[t - 1] = d_Z @ W_x.T
        d_W_x += x[t - 1].T @ d_Z
        d_W_y += Y[t - 1].T @ d_Z
        d_b += d_Z.sum(axis=0)
        from_later = d_Z @ W_y.T
    return Gradients(x=d_x, y_0=from_later, W_x=d_W_x, W_y=d_W_y, b=d_b)


def lstm_step(
    x_t: ArrayLike, h: ArrayLike, c: ArrayLike, W_xh: ArrayLike, W_hh: ArrayLike, b_h: ArrayLike
) -> tuple[Array, Array]:
    """One LSTM layer, a mini-batch, one step; h and c are h_{t-1} and c_{t-1}.

    ::

        i = σ(x_t W_xi + h_{t-1} W_hi + b_i)        the input gate: how much of g enters the cell
        f = σ(x_t W_xf + h_{t-1} W_hf + b_f)        the forget gate: how much of c_{t-1} stays
        g = tanh(x_t W_xg + h_{t-1} W_hg + b_g)     the candidate
        o = σ(x_t W_xo + h_{t-1} W_ho + b_o)        the output gate: how much of the cell is shown
        c_t = f ⊙ c_{t-1} + i ⊙ g
        h_t = o ⊙ tanh(c_t)

    Source: Hochreiter & Schmidhuber 1997, "Long short-term memory"; the forget gate: Gers, Schmidhuber & Cummins 2000,
    "Learning to forget". There are no peepholes.

    >>> h, c = lstm_step([[1.0]], [[0.0]], [[0.8]], np.ones((1, 4)), np.ones((1, 4)), [-99.0, 99.0, 0.0, -99.0])
    >>> h, c  # i = 0, f = 1, o = 0: the cell keeps what it has, and shows nothing
    (array([[0.]]), array([[0.8]]))

    Parameters
    ----------
    x_t : (N, D)
    h, c : (N, H)
    W_xh, W_hh, b_h : (D, 4H), (H, 4H), (4H,), in blocks i, f, g, o

    Returns
    -------
    h_t, c_t : (N, H)
    """
    shapes = "W_hh: H 4H, W_xh: D 4H, b_h: 4H, x_t: N D, h: N H, c: N H"
    W_hh, W_xh, b_h, x_t, h, c = _read("lstm_step", shapes, W_hh, W_xh, b_h, x_t, h, c, complex_too=True)
    i, f, g, o = _lstm_gates(x_t, h, W_xh, W_hh, b_h)
    c_t = f * c + i * g
    return o * np.tanh(c_t), c_t


def unroll_lstm(
    x: ArrayLike, h_0: ArrayLike, c_0: ArrayLike, W_xh: ArrayLike, W_hh: ArrayLike, b_h: ArrayLike
) -> tuple[Array, Array]:
    """Unroll an LSTM layer through time: h_t, c_t = lstm_step(x_t, h_{t-1}, c_{t-1}, W_xh, W_hh, b_h), t = 1 … T.

    Source: as `lstm_step`.

    >>> hs, cs = unroll_lstm(np.zeros((3, 1, 2)), [[0.0]], [[0.8]], np.zeros((2, 4)), np.zeros((1, 4)), np.zeros(4))
    >>> cs.ravel()  # f = σ(0) = 1/2, and g = 0
    array([0.4, 0.2, 0.1])

    Parameters
    ----------
    x : (T, N, D)
    h_0, c_0 : (N, H), the initial state
    W_xh, W_hh, b_h : (D, 4H), (H, 4H), (4H,), in blocks i, f, g, o

    Returns
    -------
    hs, cs : (T, N, H); hs are the outputs, and the final state is hs[-1], cs[-1]
    """
    shapes = "W_hh: H 4H, W_xh: D 4H, b_h: 4H, x: T N D, h_0: N H, c_0: N H"
    W_hh, W_xh, b_h, x, h, c = _read("unroll_lstm", shapes, W_hh, W_xh, b_h, x, h_0, c_0, complex_too=True)
    _at_least_one_step("unroll_lstm", x)
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
    t unless they say otherwise::

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

    Returns
    -------
    LSTMGradients : of x, h_0, c_0, W_xh, W_hh, b_h
    """
    shapes = "W_hh: H 4H, W_xh: D 4H, b_h: 4H, x: T N D, h_0: N H, c_0: N H, d_outputs: T N H"
    shapes += ", d_final_h?: N H, d_final_c?: N H"
    values = W_hh, W_xh, b_h, x, h_0, c_0, d_outputs, d_final_h, d_final_c
    W_hh, W_xh, b_h, x, h_0, c_0, d_outputs, d_h_from_later, d_c_from_later = _read(
        "unroll_lstm_backward", shapes, *values, complex_too=True
    )
    hs, cs = unroll_lstm(x, h_0, c_0, W_xh, W_hh, b_h)
    hs, cs = np.stack([h_0, *hs]), np.stack([c_0, *cs])  # hs[t], cs[t] for t = 0 … T
    d_x, d_W_xh, d_W_hh, d_b_h = np.zeros_like(x), np.zeros_like(W_xh), np.zeros_like(W_hh), np.zeros_like(b_h)
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


def gru_step(
    x_t: ArrayLike, h: ArrayLike, W_xh: ArrayLike, W_hh: ArrayLike, b_h: ArrayLike, b_hn: ArrayLike | None = None
) -> Array:
    """One GRU layer, a mini-batch, one step, the reset gate *after* the recurrent product; h is h_{t-1}.

    ::

        r = σ(x_t W_xr + h_{t-1} W_hr + b_r)                        the reset gate
        z = σ(x_t W_xz + h_{t-1} W_hz + b_z)                        the update gate: how much of h_{t-1} stays
        n = tanh(x_t W_xn + b_n + r ⊙ (h_{t-1} W_hn + b_hn))        the candidate
        h_t = (1 - z) ⊙ n + z ⊙ h_{t-1}

    b_hn stands under r: it cannot be folded into b_n, as b_r and b_z could.

    Source: Cho et al. 2014, arXiv:1406.1078, version 1, and with these biases cuDNN and torch.

    >>> gru_step([[5.0]], [[0.8]], np.ones((1, 3)), np.ones((1, 3)), [0.0, 99.0, 0.0])  # z = 1: nothing changes
    array([[0.8]])

    Parameters
    ----------
    x_t : (N, D)
    h : (N, H)
    W_xh, W_hh, b_h : (D, 3H), (H, 3H), (3H,), in blocks r, z, n
    b_hn : (H,); None for zeros

    Returns
    -------
    h_t : (N, H)
    """
    shapes = "W_hh: H 3H, W_xh: D 3H, b_h: 3H, x_t: N D, h: N H, b_hn?: H"
    W_hh, W_xh, b_h, x_t, h, b_hn = _read("gru_step", shapes, W_hh, W_xh, b_h, x_t, h, b_hn, complex_too=True)
    _, z, n, _ = _gru_gates(x_t, h, W_xh, W_hh, b_h, b_hn)
    return (1.0 - z) * n + z * h


def gru_reset_before_step(x_t: ArrayLike, h: ArrayLike, W_xh: ArrayLike, W_hh: ArrayLike, b_h: ArrayLike) -> Array:
    """The same step with the reset gate *before* the product: n = tanh(x_t W_xn + (r ⊙ h_{t-1}) W_hn + b_n).

    There is no b_hn: outside r, it would only be added to b_n.

    Source: Cho et al. 2014, arXiv:1406.1078, version 3, equations 5 to 8.

    >>> gru_reset_before_step([[0.0]], [[0.8]], np.ones((1, 3)), np.ones((1, 3)), [-99.0, -99.0, 0.0])  # r = 0, z = 0
    array([[0.]])

    Parameters
    ----------
    x_t : (N, D)
    h : (N, H)
    W_xh, W_hh, b_h : (D, 3H), (H, 3H), (3H,), in blocks r, z, n

    Returns
    -------
    h_t : (N, H)
    """
    shapes = "W_hh: H 3H, W_xh: D 3H, b_h: 3H, x_t: N D, h: N H"
    W_hh, W_xh, b_h, x_t, h = _read("gru_reset_before_step", shapes, W_hh, W_xh, b_h, x_t, h, complex_too=True)
    _, z, n, _ = _gru_gates(x_t, h, W_xh, W_hh, b_h, None)
    return (1.0 - z) * n + z * h


def unroll_gru(
    x: ArrayLike,
    h_0: ArrayLike,
    W_xh: ArrayLike,
    W_hh: ArrayLike,
    b_h: ArrayLike,
    b_hn: ArrayLike | None = None,
    reset_after: bool = True,
) -> Array:
    """Unroll a GRU layer through time: h_t = gru_step(x_t, h_{t-1}, W_xh, W_hh, b_h, b_hn) for t = 1 … T.

    Without ``reset_after`` the step is `gru_reset_before_step`, and b_hn must be None.

    Source: as `gru_step` and `gru_reset_before_step`.

    >>> unroll_gru(np.zeros((3, 1, 2)), [[0.8]], np.zeros((2, 3)), np.zeros((1, 3)), np.zeros(3)).ravel()  # z = 1/2
    array([0.4, 0.2, 0.1])

    Parameters
    ----------
    x : (T, N, D)
    h_0 : (N, H), the initial state
    W_xh, W_hh, b_h : (D, 3H), (H, 3H), (3H,), in blocks r, z, n
    b_hn : (H,); None for zeros

    Returns
    -------
    hs : (T, N, H); the last one, hs[-1], is the final state
    """
    _no_b_hn_without_reset_after("unroll_gru", b_hn, reset_after)
    shapes = "W_hh: H 3H, W_xh: D 3H, b_h: 3H, x: T N D, h_0: N H, b_hn?: H"
    W_hh, W_xh, b_h, x, h, b_hn = _read("unroll_gru", shapes, W_hh, W_xh, b_h, x, h_0, b_hn, complex_too=True)
    _at_least_one_step("unroll_gru", x)
    hs = []
    for x_t in x:
        if reset_after:
            h = gru_step(x_t, h, W_xh, W_hh, b_h, b_hn)
        else:
            h = gru_reset_before_step(x_t, h, W_xh, W_hh, b_h)
        hs.append(h)
    return np.stack(hs)


class GRUGradients(NamedTuple):
    """∂L/∂ each argument of `unroll_gru`, in its shape; of b_hn, None where there is none (reset before)."""

    x: Array
    h_0: Array
    W_xh: Array
    W_hh: Array
    b_h: Array
    b_hn: Array | None


def unroll_gru_backward(
    x: ArrayLike,
    h_0: ArrayLike,
    W_xh: ArrayLike,
    W_hh: ArrayLike,
    b_h: ArrayLike,
    b_hn: ArrayLike | None,
    d_outputs: ArrayLike,
    d_final: ArrayLike | None = None,
    reset_after: bool = True,
) -> GRUGradients:
    """Back-propagate by hand through ``unroll_gru(x, h_0, W_xh, W_hh, b_h, b_hn, reset_after)``.

    Write dA for ∂L/∂A, and a_r, a_z, a_n for what the three functions σ, σ, tanh are taken of. W_hn multiplies
    s = h_{t-1} to q = s W_hn + b_hn, and a_n = x_t W_xn + b_n + r ⊙ q; or, with the reset before, it multiplies
    s = r ⊙ h_{t-1} to q = s W_hn, and a_n = x_t W_xn + b_n + q. For t = T … 1::

        dh_t = d_outputs_t + e_t                    e_t comes from step t+1; e_T = d_final
        da_z = dh_t ⊙ (h_{t-1} - n) ⊙ z ⊙ (1 - z)
        da_n = dh_t ⊙ (1 - z) ⊙ (1 - n²)
        dq   = da_n ⊙ r                             reset before: da_n
        ds   = dq W_hnᵀ
        da_r = da_n ⊙ q ⊙ r ⊙ (1 - r)               reset before: ds ⊙ h_{t-1} ⊙ r ⊙ (1 - r)
        e_{t-1} = dh_t ⊙ z + da_r W_hrᵀ + da_z W_hzᵀ + ds          reset before: … + ds ⊙ r; at the far end dh_0 = e_0
        dx_t  = da_t W_xhᵀ                          da_t = [da_r da_z da_n]
        dW_xh = Σ_t x_tᵀ da_t,   db_h = Σ_t (sum of the rows of da_t),   db_hn = Σ_t (sum of the rows of dq)
        dW_hh = Σ_t [h_{t-1}ᵀ da_r   h_{t-1}ᵀ da_z   sᵀ dq]

    Source: the chain rule, applied to the equations of `gru_step` and `gru_reset_before_step`.

    >>> x, W = np.zeros((3, 1, 2)), np.zeros((2, 3))
    >>> g = unroll_gru_backward(x, [[0.8]], W, W[:1], W[0], None, np.zeros((3, 1, 1)), d_final=[[1.0]])
    >>> g.h_0  # z = 1/2, three times
    array([[0.125]])

    Parameters
    ----------
    x, h_0, W_xh, W_hh, b_h : (T, N, D); (N, H); (D, 3H); (H, 3H); (3H,)
    b_hn : (H,); None for zeros, and with the reset before
    d_outputs : (T, N, H), ∂L/∂ the output h_t of every step
    d_final : (N, H), ∂L/∂ the final state h_T; None for zeros

    Returns
    -------
    GRUGradients : of x, h_0, W_xh, W_hh, b_h, b_hn
    """
    _no_b_hn_without_reset_after("unroll_gru_backward", b_hn, reset_after)
    shapes = "W_hh: H 3H, W_xh: D 3H, b_h: 3H, x: T N D, h_0: N H, b_hn?: H, d_outputs: T N H, d_final?: N H"
    values = W_hh, W_xh, b_h, x, h_0, b_hn, d_outputs, d_final
    W_hh, W_xh, b_h, x, h_0, zero_or_b_hn, d_outputs, from_later = _read(
        "unroll_gru_backward", shapes, *values, complex_too=True
    )
    b_hn = zero_or_b_hn if reset_after else None
    hs = [h_0, *unroll_gru(x, h_0, W_xh, W_hh, b_h, b_hn, reset_after)]  # hs[t] for t = 0 … T
    d_x, d_W_xh, d_W_hh, d_b_h = np.zeros_like(x), np.zeros_like(W_xh), np.zeros_like(W_hh), np.zeros_like(b_h)
    d_b_hn = np.zeros_like(zero_or_b_hn)
    for t in range(len(x), 0, -1):
        d_h = d_outputs[t - 1] + from_later  # step t has index t-1: Python counts from 0
        d_a, d_q, d_W_hh_here, from_later = _gru_step_backward(d_h, x[t - 1], hs[t - 1], W_xh, W_hh, b_h, b_hn)
        d_x[t - 1] = d_a @ W_xh.T
        d_W_xh += x[t - 1].T @ d_a
        d_W_hh += d_W_hh_here
        d_b_h += d_a.sum(axis=0)
        d_b_hn += d_q.sum(axis=0)
    return GRUGradients(d_x, from_later, d_W_xh, d_W_hh, d_b_h, d_b_hn if reset_after else None)


def _sigmoid(a: Array) -> Array:
    """σ(a) = 1 / (1 + exp(-a)), real or complex."""
    return ACTIVATIONS["sigmoid"][0](a)


def _lstm_gates(x_t: Array, h: Array, W_xh: Array, W_hh: Array, b_h: Array) -> tuple[Array, Array, Array, Array]:
    """Return i, f, g, o."""
    a_i, a_f, a_g, a_o = np.split(x_t @ W_xh + h @ W_hh + b_h, 4, axis=1)
    return _sigmoid(a_i), _sigmoid(a_f), np.tanh(a_g), _sigmoid(a_o)


def _gru_gates(
    x_t: Array, h: Array, W_xh: Array, W_hh: Array, b_h: Array, b_hn: Array | None
) -> tuple[Array, Array, Array, Array]:
    """Return r, z, n and q, the recurrent part of n: r ⊙ q is in it, or q for b_hn None, which resets before."""
    x_r, x_z, x_n = np.split(x_t @ W_xh + b_h, 3, axis=1)
    W_hr, W_hz, W_hn = np.split(W_hh, 3, axis=1)
    r, z = _sigmoid(x_r + h @ W_hr), _sigmoid(x_z + h @ W_hz)
    if b_hn is None:
        q = (r * h) @ W_hn
        return r, z, np.tanh(x_n + q), q
    q = h @ W_hn + b_hn
    return r, z, np.tanh(x_n + r * q), q


def _gru_step_backward(
    d_h: Array, x_t: Array, h: Array, W_xh: Array, W_hh: Array, b_h: Array, b_hn: Array | None
) -> tuple[Array, Array, Array, Array]:
    """Return da_t, dq, this step's part of dW_hh, and e_{t-1}, as `unroll_gru_backward` writes them; d_h is dh_t."""
    r, z, n, q = _gru_gates(x_t, h, W_xh, W_hh, b_h, b_hn)
    W_hr, W_hz, W_hn = np.split(W_hh, 3, axis=1)
    d_a_z = d_h * (h - n) * z * (1.0 - z)
    d_a_n = d_h * (1.0 - z) * (1.0 - n**2)
    if b_hn is None:
        s, d_q = r * h, d_a_n
        d_s = d_q @ W_hn.T
        d_r, through_s = d_s * h, d_s * r
    else:
        s, d_q = h, d_a_n * r
        d_s = d_q @ W_hn.T
        d_r, through_s = d_a_n * q, d_s
    d_a_r = d_r * r * (1.0 - r)
    d_W_hh = np.hstack([h.T @ d_a_r, h.T @ d_a_z, s.T @ d_q])
    to_earlier = d_h * z + d_a_r @ W_hr.T + d_a_z @ W_hz.T + through_s
    return np.hstack([d_a_r, d_a_z, d_a_n]), d_q, d_W_hh, to_earlier


def _at_least_one_step(where: str, x: Array) -> None:
    if len(x) == 0:
        raise ValueError(f"{where}: x must have shape (T, N, D) with T ≥ 1, got {x.shape}: put time first")


def _no_b_hn_without_reset_after(where: str, b_hn: ArrayLike | None, reset_after: bool) -> None:
    if b_hn is not None and not reset_after:
        kind = type(b_hn).__name__
        raise ValueError(
            f"{where}: b_hn must be None with reset_after=False, got {kind}: add it to b_h's last H entries"
        )


def _activation(where: str, activation: str | Pair) -> Pair:
    """Return (φ, φ′)."""
    if isinstance(activation, str) and activation in ACTIVATIONS:
        return ACTIVATIONS[activation]
    if isinstance(activation, tuple) and len(activation) == 2 and all(map(callable, activation)):
        return activation
    names = ", ".join(map(repr, ACTIVATIONS))
    raise ValueError(f"{where}: activation must be one of {names} or a pair (φ, φ′) of callables, got {activation!r}")


def _read(where: str, shapes: str, *values: ArrayLike | None, complex_too: bool = False) -> list[Array]:
    """Copy the values into float64 and check their shapes, spelled "name: letters, …": one letter, one size throughout.

    What comes first fixes the sizes: W_y does, being square, so that a transposed W_x is called by its name.
    No letters mean a scalar; `|` separates shapes that are both welcome; `k+l` is the sum of two sizes already met,
    `4H` a multiple of one. None in the place of "name?" stands for zeros. With `complex_too`, one complex array makes
    them all complex128.
    """
    sizes, arrays = {"1": 1}, []
    for declared, value in zip(shapes.split(","), values, strict=True):
        name, letters = (part.strip() for part in declared.split(":"))
        if name.endswith("?"):
            name = name[:-1]
            value = np.zeros([sizes[c] for c in letters.split()]) if value is None else value
        try:
            array = np.asarray(value)
            dtype = np.complex128 if complex_too and array.dtype.kind == "c" else np.float64
            array = array.astype(dtype, casting="same_kind")  # not from text, objects, nor complex to real numbers
        except (TypeError, ValueError) as error:
            kind = type(value).__name__
            raise TypeError(f"{where}: {name} must be an array of real numbers, got {kind}: {error}") from error
        if "k+l" in letters:
            sizes["k+l"] = sizes["k"] + sizes["l"]
        options = [option.split() for option in letters.split("|")]
        fits = [known for option in options if (known := _bind(option, array.shape, sizes))]
        if not fits:
            expected = " or ".join(_spell(option, sizes) for option in options)
            turned = any(_bind(option, array.shape[::-1], sizes) for option in options)
            hint = f"pass {name}.T?" if turned else "a letter is the same size in every argument"
            raise ValueError(f"{where}: {name} must have shape {expected}, got {array.shape}: {hint}")
        sizes = fits[0]
        arrays.append(array)
    common = np.result_type(*arrays)
    return [array.astype(common, copy=False) for array in arrays]


def _bind(letters: list[str], shape: tuple[int, ...], sizes: dict[str, int]) -> dict[str, int]:
    """Return `sizes` and what the new letters stand for in this shape, or nothing if the letters do not fit it."""
    known = dict(sizes)
    if len(letters) != len(shape):
        return {}
    for c, n in zip(letters, shape, strict=True):
        if c not in known:
            known[c] = int(c[0]) * known[c[1:]] if c[0].isdigit() else n
        if known[c] != n:
            return {}
    return known


def _spell(letters: list[str], sizes: dict[str, int]) -> str:
    """Spell a shape with the sizes met so far: (k=3, l)."""
    parts = [f"{c}={sizes[c]}" if c in sizes and c != "1" else c for c in letters]
    return f"({', '.join(parts)}{',' if len(parts) == 1 else ''})"
