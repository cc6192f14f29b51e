"""The gradient taken apart: what entered at step s and reached the weights at step k; and cut off in time, or forward.

Back-propagation is linear in what enters at the outputs. So the gradient of a parameter is a sum over pairs (s, k):
what entered at the output of step s, went back through the steps between, and reached the weights through their use at
step k ≤ s.
"""

import functools
import itertools
from collections.abc import Iterator, Mapping
from typing import Any, cast

import numpy as np

from minirnn.arguments import Array, as_index, as_size
from minirnn.bptt.run import Loss, run_of, unclipped
from minirnn.bptt.unrolled import Back, Unrolled, fits
from minirnn.layers.module import Module


class Credit:
    """The gradient of every parameter, taken apart by where it entered and where it was used.

    Credit is by injection, so that it is defined for a scalar loss too: a loss of the last output alone has one row.
    ``norms[s, k]`` (T, T) is the Frobenius norm of the gradient that enters at output step s and reaches W_hh through
    its use at step k. Lower triangular, in reverse upper triangular: time order, counted from 0. Rows, columns and the
    whole add up to the true gradients to 1e-12. It takes T(T+1)/2 steps back, those of all s at once, only as many as
    there are outputs with a gradient. MemoryError where the matrix would not fit.
    """

    def __init__(self, unrolled: Unrolled, entering: Array, reverse: bool) -> None:
        self._unrolled, self._entering, self._reverse = unrolled, entering, reverse
        self.T = T = unrolled.T
        self._sources = np.flatnonzero(entering.reshape(T, -1).any(axis=1))
        one = unrolled.N * (3 * len(unrolled.states) * unrolled.H + 2 * unrolled.pre.shape[2])
        size = 8 * T * T + len(self._sources) * one * entering.itemsize
        fits(size, f"credit: the matrix of T={T} steps", "take a shorter sequence, or a loss of fewer outputs")
        self.norms = self._measured()

    def __repr__(self) -> str:
        return f"<Credit: {self.T} × {self.T} steps, {len(self._sources)} with a gradient that enters>"

    def _measured(self) -> Array:
        u, sources = self._unrolled, self._sources
        norms = np.zeros((self.T, self.T))
        d_state = u.zeros(len(sources))
        for k in range(sources.max(initial=-1), -1, -1):
            first = np.searchsorted(sources, k)  # from here on they have entered
            if sources[first] == k:
                d_state[0][first] += self._entering[k]
            back = u.back(k, [d[first:] for d in d_state])
            for d, before in zip(d_state, back.before, strict=True):
                d[first:] = before
            squares = sum(_squares(fed, back.dz_h[..., columns]) for columns, fed in u.fed(k))
            norms[sources[first:], k] = np.sqrt(squares)
        return norms[::-1, ::-1] if self._reverse else norms

    def contribution(self, s: int, k: int) -> dict[str, Array]:
        """Return the gradient that enters at step s and reaches the parameters at step k, by parameter name.

        An initial state that was learned gets its share through the first step of each row.
        """
        s, k = self._step(s, "s"), self._step(k, "k")
        *_, (_, back) = self._going_back(range(s, s + 1), max(s, k), k)
        return self._unrolled.shares(back, k)

    def entered_at(self, s: int) -> dict[str, Array]:
        """Return the sum of row s: all that the gradient which enters at step s does, by parameter name."""
        s = self._step(s, "s")
        steps = self._going_back(range(s, s + 1), s, 0)
        return functools.reduce(added, (self._unrolled.shares(back, k) for k, back in steps))

    def used_at(self, k: int) -> dict[str, Array]:
        """Return the sum of column k: all that reaches the parameters at step k, by parameter name."""
        k = self._step(k, "k")
        *_, (_, back) = self._going_back(range(self.T), self.T - 1, k)
        return self._unrolled.shares(back, k)

    def _going_back(self, sources: range, last: int, first: int) -> Iterator[tuple[int, Back]]:
        """Yield the steps from the last back to the first, with what goes back there of what enters at the sources."""
        d_state = self._unrolled.zeros()
        for k in range(last, first - 1, -1):
            if k in sources:
                d_state[0] = d_state[0] + self._entering[k]
            back = self._unrolled.back(k, d_state)
            yield k, back
            d_state = back.before

    def _step(self, t: Any, argument: str) -> int:
        """Check a step in time; return it in the order of processing."""
        step = as_index(t, f"credit: {argument}", "a step", range(self.T), f"there are T={self.T}")
        return self.T - 1 - step if self._reverse else step


def _squares(fed: Array, dz: Array) -> Array:
    """Return ‖fedᵀ dz‖² of each dz, for fed (N, H) and dz (…, N, J): (…,).

    With fewer rows than neurons fedᵀ is first made a triangle with the same norms, fedᵀ = Q R: exact, where the sum of
    squares of inner products would lose half the digits.
    """
    left = fed.T if fed.shape[0] >= fed.shape[1] else np.linalg.qr(fed.T, mode="r")
    return cast(Array, np.square(left @ dz).sum(axis=(-1, -2), dtype=np.float64))


def added(total: dict[str, Array], more: dict[str, Array]) -> dict[str, Array]:
    """Return the sum of two gradients, by parameter name."""
    return {name: total[name] + a for name, a in more.items()}


def lags(unrolled: Unrolled, entering: Array, k1: int) -> Iterator[dict[str, Array]]:
    """Yield for i = 0, 1, … what goes back i steps from the end of its chunk, by parameter name.

    The sum of the first k2 is the gradient of TBPTT(k1, k2), of all T the true one. All chunks go back together, each
    from its own last step e: at i all of them are at e − i. ``entering`` (T, N, H) is in the order of processing, k1
    the length of a chunk in steps; the last one may be shorter.
    """
    T = unrolled.T
    starts = np.arange(0, T, min(k1, T))
    ends = np.minimum(starts + k1, T) - 1
    d_state = unrolled.zeros(len(ends))
    for i in range(T):
        going = ends >= i  # chunks that have a step so far back
        starts, ends, d_state = starts[going], ends[going], [d[going] for d in d_state]
        at = ends - i
        inside = (at >= starts)[:, None, None]  # what entered before the chunk is not its own
        back = unrolled.back(at, [d_state[0] + np.where(inside, entering[at], 0), *d_state[1:]])
        yield unrolled.shares(back, at, total=True)
        d_state = back.before


def truncations(
    unrolled: Unrolled, entering: Array, k1: int, true: Mapping[str, Array]
) -> Iterator[tuple[float, float]]:
    """Yield for k2 = 1 … T the angle between TBPTT(k1, k2) and the true gradient, in degrees, and its norm."""
    goal = flat(true)
    for total in itertools.accumulate(map(flat, lags(unrolled, entering, k1))):
        yield angle(total, goal), float(np.linalg.norm(total))


def angle(a: Array, b: Array) -> float:
    """Return the angle between two vectors in degrees; NaN if one is zero.

    From the chord between the unit vectors and its counterpart, which is exact for small angles too (Kahan).
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        u, v = a / np.linalg.norm(a), b / np.linalg.norm(b)
    return float(np.degrees(2 * np.arctan2(np.linalg.norm(u - v), np.linalg.norm(u + v))))


def flat(gradients: Mapping[str, Array]) -> Array:
    """Return the gradients of all parameters as one vector, in float64."""
    return np.concatenate([g.ravel() for g in gradients.values()]).astype(np.float64)


# --- the gradient in two other ways than by full BPTT -----------------------------------------------------------------


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

    The influence of every parameter θ on the state is carried along with the state:

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
    parameters = run.layer.W_xh.size + run.layer.W_hh.size + 4 * u.pre.shape[2]
    fits(
        2 * u.N * size * parameters * u.x.itemsize,
        "rtrl: the influences of the parameters on the state",
        "take fewer neurons or rows; trace gives the same gradients",
    )
    influence = {name: np.zeros((u.N, size, *getattr(run.layer, name).shape), u.x.dtype) for name in u.names}
    for i, name in enumerate(u.learned):
        influence[name][:, i * u.H : (i + 1) * u.H] = np.eye(u.H)
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


def _direct(u: Unrolled, back: Back, k: int) -> dict[str, Array]:
    """Return ∂state/∂θ of step k with the state before it held, (N, S·H, …), from the step's derivatives."""
    dz, dz_h = back.dz.swapaxes(0, 1)[:, :, None], back.dz_h.swapaxes(0, 1)[:, :, None]
    W_hh = [fed[:, None, :, None] * dz_h[..., columns] for columns, fed in u.fed(k)]
    found = {"W_xh": u.x[k][:, None, :, None] * dz, "W_hh": np.concatenate(W_hh, axis=-1)}
    return found | {"b_h": dz[:, :, 0], "b_hn": dz_h[:, :, 0, -u.H :]}
