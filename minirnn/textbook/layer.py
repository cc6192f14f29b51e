"""The recurrent layer exactly as two notes write it: one function an equation, loops and all, in float64.

Nothing here is fast; everything else in minirnn is held against it. LSTM and GRU, as their papers write them, stand in
lstm.py and gru.py.

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
was expected and what came.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from minirnn.textbook.reading import Array, Pair, activation_pair, read

Step = Callable[..., float | Array]  # any of the first four …_step functions


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
    b, y_t : ()
    """
    phi, _ = activation_pair("neuron_step", activation)
    shapes = "w_x: k, w_y: l, b:, x_t: k, y_prev: l" if np.ndim(w_y) else "w_x: k, w_y:, b:, x_t: k, y_prev:"
    w_x, w_y, b, x_t, y_prev = read("neuron_step", shapes, w_x, w_y, b, x_t, y_prev)
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
    y_prev, y_t : (l,) = (H,)
    W_x, W_y : (k, l) = (D, H) and (l, l) = (H, H); column j holds the weights of neuron j
    b : (l,) or (1, l)
    """
    phi, _ = activation_pair("layer_step_instance", activation)
    shapes = "W_y: l l, W_x: k l, b: l | 1 l, x_t: k, y_prev: l"
    W_y, W_x, b, x_t, y_prev = read("layer_step_instance", shapes, W_y, W_x, b, x_t, y_prev)
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
    Y_prev, Y_t : (m, l) = (N, H)
    W_x, W_y : (k, l) = (D, H) and (l, l) = (H, H)
    b : (1, l) or (l,), added to every row
    """
    phi, _ = activation_pair("layer_step_batch", activation)
    shapes = "W_y: l l, W_x: k l, b: 1 l | l, X_t: m k, Y_prev: m l"
    W_y, W_x, b, X_t, Y_prev = read("layer_step_batch", shapes, W_y, W_x, b, X_t, Y_prev)
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
    Y_prev, Y_t : (m, l) = (N, H)
    W : (k+l, l) = (D+H, H), that is ``np.vstack([W_x, W_y])``
    b : (1, l) or (l,), added to every row
    """
    phi, _ = activation_pair("layer_step_batch_concat", activation)
    shapes = "X_t: m k, Y_prev: m l, W: k+l l, b: 1 l | l"
    X_t, Y_prev, W, b = read("layer_step_batch_concat", shapes, X_t, Y_prev, W, b)
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
    H_t, O_t : (n,), (N, n) or, all steps at once, (T, N, n) = (T, N, H); p for n
    W_hy : (n, p) = (H, P); note 000's answers give its transpose
    b_y : (p,) or (1, p) = (1, P); zeros if there is none
    """
    W_hy, b_y, H_t = read("head", "W_hy: n p, b_y: p | 1 p, H_t: n | N n | T N n", W_hy, b_y, H_t)
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
    roads, as the output of step t and as the state that enters step t+1. The chain rule adds them up; for t = T … 1:

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
    """
    _, phi_prime = activation_pair("unroll_backward", activation)
    shapes = "W_y: l l, W_x: k l, b: 1 l | l, x: T m k, y_0: m l, d_outputs: T m l, d_final?: m l"
    W_y, W_x, b, x, y_0, d_outputs, d_final = read("unroll_backward", shapes, W_y, W_x, b, x, y_0, d_outputs, d_final)

    Y = [y_0, *unroll(layer_step_batch, x, y_0, W_x, W_y, b, activation=activation)]  # Y[t] for t = 0 … T
    d_x, d_W_x, d_W_y, d_b = (np.zeros_like(a) for a in (x, W_x, W_y, b))
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
