"""The GRU as its papers write it, in both versions: one function an equation, loops and all.

The weights of its three gates stand side by side, W_xh (D, 3H), W_hh (H, 3H) and b_h (3H,), in the order r, z, n. The
rest is as in lstm.py, complex numbers too.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from minirnn.textbook.reading import Array, read, sigmoid


def gru_step(
    x_t: ArrayLike, h: ArrayLike, W_xh: ArrayLike, W_hh: ArrayLike, b_h: ArrayLike, b_hn: ArrayLike | None = None
) -> Array:
    """One GRU layer, a mini-batch, one step, the reset gate *after* the recurrent product; h is h_{t-1}.

    :

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
    h, h_t : (N, H)
    W_xh, W_hh, b_h : (D, 3H), (H, 3H), (3H,), in blocks r, z, n
    b_hn : (H,); None for zeros
    """
    shapes = "W_hh: H 3H, W_xh: D 3H, b_h: 3H, x_t: N D, h: N H, b_hn?: H"
    W_hh, W_xh, b_h, x_t, h, b_hn = read("gru_step", shapes, W_hh, W_xh, b_h, x_t, h, b_hn, complex_too=True)
    _, z, n, _ = _gru_gates(x_t, h, W_xh, W_hh, b_h, b_hn)
    return (1.0 - z) * n + z * h


def gru_reset_before_step(x_t: ArrayLike, h: ArrayLike, W_xh: ArrayLike, W_hh: ArrayLike, b_h: ArrayLike) -> Array:
    """The same step with the reset gate *before* the product: n = tanh(x_t W_xn + (r ⊙ h_{t-1}) W_hn + b_n).

    There is no b_hn: outside r, it would only be added to b_n. Shapes as in `gru_step`.

    Source: Cho et al. 2014, arXiv:1406.1078, version 3, equations 5 to 8.

    >>> gru_reset_before_step([[0.0]], [[0.8]], np.ones((1, 3)), np.ones((1, 3)), [-999.0, -999.0, 0.0])  # r = 0, z = 0
    array([[0.]])
    """
    shapes = "W_hh: H 3H, W_xh: D 3H, b_h: 3H, x_t: N D, h: N H"
    W_hh, W_xh, b_h, x_t, h = read("gru_reset_before_step", shapes, W_hh, W_xh, b_h, x_t, h, complex_too=True)
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

    >>> unroll_gru(np.zeros((3, 1, 2)), [[0.8]], np.zeros((2, 3)), np.zeros((1, 3)), np.zeros(3)).ravel()  # z = 1/2
    array([0.4, 0.2, 0.1])

    Parameters
    ----------
    x, h_0 : (T, N, D), and the initial state (N, H); the weights as in `gru_step`
    h_1 … h_T : (T, N, H); the last one is the final state
    """
    if b_hn is not None and not reset_after:
        raise ValueError("unroll_gru: b_hn must be None with reset_after=False: add it to b_h's last H entries")
    shapes = "W_hh: H 3H, W_xh: D 3H, b_h: 3H, x: T N D, h_0: N H, b_hn?: H"
    W_hh, W_xh, b_h, x, h, b_hn = read("unroll_gru", shapes, W_hh, W_xh, b_h, x, h_0, b_hn, complex_too=True)
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
    s = r ⊙ h_{t-1} to q = s W_hn, and a_n = x_t W_xn + b_n + q. For t = T … 1:

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
    """
    shapes = "W_hh: H 3H, W_xh: D 3H, b_h: 3H, x: T N D, h_0: N H, b_hn?: H, d_outputs: T N H, d_final?: N H"
    W_hh, W_xh, b_h, x, h_0, zero_or_b_hn, d_outputs, from_later = read(
        "unroll_gru_backward", shapes, W_hh, W_xh, b_h, x, h_0, b_hn, d_outputs, d_final, complex_too=True
    )
    hs = [h_0, *unroll_gru(x, h_0, W_xh, W_hh, b_h, b_hn, reset_after)]  # hs[t] for t = 0 … T
    b_hn = zero_or_b_hn if reset_after else None
    d_x, d_W_xh, d_W_hh, d_b_h = (np.zeros_like(a) for a in (x, W_xh, W_hh, b_h))
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


def _gru_gates(
    x_t: Array, h: Array, W_xh: Array, W_hh: Array, b_h: Array, b_hn: Array | None
) -> tuple[Array, Array, Array, Array]:
    """Compute r, z, n and q, the recurrent part of n: r ⊙ q is in it, or q for b_hn None, which resets before."""
    x_r, x_z, x_n = np.split(x_t @ W_xh + b_h, 3, axis=1)
    W_hr, W_hz, W_hn = np.split(W_hh, 3, axis=1)
    r, z = sigmoid(x_r + h @ W_hr), sigmoid(x_z + h @ W_hz)
    if b_hn is None:
        q = (r * h) @ W_hn
        return r, z, np.tanh(x_n + q), q
    q = h @ W_hn + b_hn
    return r, z, np.tanh(x_n + r * q), q


def _gru_step_backward(
    d_h: Array, x_t: Array, h: Array, W_xh: Array, W_hh: Array, b_h: Array, b_hn: Array | None
) -> tuple[Array, Array, Array, Array]:
    """Compute da_t, dq, this step's part of dW_hh, and e_{t-1}, as `unroll_gru_backward` writes them; d_h is dh_t."""
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
