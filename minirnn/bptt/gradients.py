"""The gradient of a layer in two other ways than by full BPTT: cut off in time, and forward in time."""

import functools
import itertools
from typing import Any

import numpy as np

from minirnn.arguments import Array, as_size
from minirnn.bptt.credit import added, lags
from minirnn.bptt.run import Loss, Run, run_of, unclipped
from minirnn.bptt.steps import Back
from minirnn.bptt.unrolled import Unrolled, fits
from minirnn.layers.module import Module


def truncated_gradient(
    model: Module, x: Any, loss: Loss, k1: int, k2: int, initial_state: Any = None, lengths: Any = None
) -> dict[str, Array]:
    """Return the gradient of truncated back-propagation through time, TBPTT(k1, k2), at parameters that stand still.

    After every k1 steps the gradients that entered in those k1 steps are sent back over the last k2 steps. So what
    entered at step s and reaches the weights at step k counts when e(s) − k < k2, with e(s) the last step of s's chunk
    of k1 (the last chunk may be shorter). With k2 ≥ T it is full BPTT; with k2 < k1 some of what entered is dropped.

    In reverse chunks are counted from the last step. Williams & Peng 1990 call it BPTT(k2; k1). It equals the sum of
    `Credit.contribution` over those pairs to 1e-10; all chunks go back together, in min(k2, T) steps. ValueError for a
    layer with message_clip; the other arguments and errors are those of `trace`.

    >>> import minirnn as mr
    >>> layer, x = mr.RecurrentLayer(1, 4, dtype=np.float64, rng=0), np.ones((9, 2, 1))
    >>> loss = lambda outputs: (outputs**2).sum()
    >>> full = mr.bptt.trace(layer, x, loss).gradients["W_hh"]
    >>> cut = mr.bptt.truncated_gradient(layer, x, loss, k1=3, k2=5)["W_hh"]
    >>> bool(np.allclose(cut, full)), cut.shape
    (False, (4, 4))
    """
    k1, k2 = as_size(k1, "truncated_gradient: k1"), as_size(k2, "truncated_gradient: k2")
    run = run_of(model, x, loss, initial_state, lengths, "truncated_gradient")
    unclipped(run.layer, "truncated_gradient")
    return functools.reduce(added, itertools.islice(lags(run.unrolled, run.entering, k1), k2))


def rtrl(model: Module, x: Any, loss: Loss, initial_state: Any = None, lengths: Any = None) -> dict[str, Array]:
    """Return the gradient by real-time recurrent learning: forward in time, without going back.

    The influence of every parameter θ on the state is carried along with the state::

        P_t = ∂state_t/∂θ = J_t P_{t-1} + ∂state_t/∂θ with state_{t-1} held,      dL/dθ = Σ_t (dL/dh_t local) P_t

    with J_t the Jacobian of step t. The loss is a function of all outputs here, so they are computed first, and its
    gradient at each; nothing else of later steps is used. Equal to BPTT to 1e-10. Source: Williams & Zipser 1989.

    N·S·H·|θ| numbers are carried, whatever T (|θ| parameters, S arrays of a state: 2 for an LSTM; MemoryError where
    they would not fit), and each step multiplies N·(S·H)²·|θ| of them: for H = 100 and D = 2, 10,300 parameters, 10⁶
    numbers and 10⁸ multiplications for each row and step, where BPTT makes 2·10⁴ of each. ValueError for a layer with
    message_clip; arguments and other errors are those of `trace`.

    >>> import minirnn as mr
    >>> layer, x = mr.LSTMLayer(1, 4, dtype=np.float64, rng=0), np.ones((9, 2, 1))
    >>> loss = lambda outputs: (outputs**2).sum()
    >>> forward, backward = mr.bptt.rtrl(layer, x, loss), mr.bptt.trace(layer, x, loss).gradients
    >>> all(np.allclose(forward[name], backward[name]) for name in backward)
    True
    """
    run = run_of(model, x, loss, initial_state, lengths, "rtrl")
    unclipped(run.layer, "rtrl")
    u, size = run.unrolled, run.unrolled.H * len(run.unrolled.states)
    parameters = run.layer.W_xh.size + run.layer.W_hh.size + 4 * u.steps.pre.shape[2]
    hint = "take fewer neurons or rows; trace gives the same gradients"
    fits(2 * u.N * size * parameters * u.x.itemsize, "rtrl: the influences of the parameters on the state", hint)
    influence = _at_first(run, size)
    total = {name: np.zeros(p.shape[2:], p.dtype) for name, p in influence.items()}
    basis = u.basis()
    for k in range(u.T):
        back = u.back(k, basis)
        jacobian, direct = np.concatenate(back.before, axis=-1).swapaxes(0, 1), _direct(u, back, k)
        for name, p in influence.items():
            new = (jacobian @ p.reshape(u.N, size, -1)).reshape(p.shape)
            influence[name] = new + direct[name] if name in direct else new
            total[name] += np.tensordot(run.entering[k], influence[name][:, : u.H], axes=2)
    return total


def _at_first(run: Run, size: int) -> dict[str, Array]:
    """Return the influence of every parameter on the initial state, (N, S·H, …)."""
    N, H, dtype = run.unrolled.N, run.unrolled.H, run.unrolled.x.dtype
    influence = {name: np.zeros((N, size, *getattr(run.layer, name).shape), dtype) for name in run.unrolled.names}
    for i, name in enumerate(run.unrolled.learned):
        influence[name] = np.zeros((N, size, H), dtype)
        influence[name][:, i * H : (i + 1) * H] = np.eye(H)
    return influence


def _direct(u: Unrolled, back: Back, k: int) -> dict[str, Array]:
    """Return ∂state/∂θ of step k with the state before it held, (N, S·H, …), from the step's derivatives."""
    dz, dz_h = back.dz.swapaxes(0, 1)[:, :, None], back.dz_h.swapaxes(0, 1)[:, :, None]
    W_hh = [fed[:, None, :, None] * dz_h[..., columns] for columns, fed in u.fed(k)]
    found = {"W_xh": u.x[k][:, None, :, None] * dz, "W_hh": np.concatenate(W_hh, axis=-1)}
    found |= {"b_h": dz[:, :, 0], "b_hn": dz_h[:, :, 0, -u.H :]}
    return {name: found[name] for name in u.names}
