"""`survival`: what is left of one gradient on its way back.

With a loss at every step dL/dh_t is fed anew at every step, and its norm against t says little about what survives. So
the decay is measured on one injection: in each row, the gradient that enters last is sent back alone.
"""

import itertools

import numpy as np

from minirnn.arguments import Array
from minirnn.bptt.flow import Flow


def survival(trace: Flow) -> tuple[int | None, Array]:
    """Send the gradient that enters last back alone, through every step there is.

    Return the step at which it enters, in time order (None where the rows differ, or nothing enters), and (J,) the
    logarithm of the factor by which each of J steps back multiplies its norm, of the full state ([h c] for an LSTM),
    over all rows that have the step. −inf where nothing is left; then it ends. ``message_clip`` is left out.

    Each row is scaled to norm 1 after every step, which changes no factor, since the way back is linear; so nothing
    overflows, and nothing is lost to small numbers.
    """
    entering = trace._run.entering
    enters: Array = np.asarray(entering.any(axis=2))
    if not enters.any():
        return None, np.zeros(0)
    rows = enters.any(axis=0)
    source = np.where(rows, trace.T - 1 - enters[::-1].argmax(axis=0), -1)
    lengths = np.where(rows, source - trace._unrolled.first, 0)
    at = {trace._order(int(k)) for k in source[rows]}
    return at.pop() if len(at) == 1 else None, _growth(_logs(trace, source, lengths))


def _logs(trace: Flow, source: Array, lengths: Array) -> Array:
    """Return the logarithm of each row's norm j steps back, (J + 1, N); NaN where the row has no such step."""
    u, N = trace._unrolled, np.arange(trace.N)
    logs = np.full((int(lengths.max()) + 1, trace.N), np.nan)
    d_state, now = u.zeros(), np.zeros(trace.N)
    for k in range(int(source.max()), -1, -1):
        starts = source == k
        for d, enters in zip(d_state, [trace._run.entering[k], *[0.0] * (len(d_state) - 1)], strict=True):
            d[...] = np.where(starts[:, None], enters, d)
        now = _scaled(d_state, np.where(starts, 0.0, now))
        j = source - k
        here = (j >= 0) & (j <= lengths)
        logs[j[here], N[here]] = now[here]
        d_state = u.back(k, d_state).before
    return logs


def _scaled(d_state: list[Array], logs: Array) -> Array:
    """Scale each row of a state's gradient (N, H) to norm 1, in place; return ``logs`` plus the logarithm of its norm.

    First by the largest entry, whose square need not be a number.
    """
    total = logs.copy()
    for measure in (_largest, _norm):
        size = measure(d_state)
        total += np.where(size > 0, np.log(np.where(size > 0, size, 1)), -np.inf)
        for d in d_state:
            d /= np.where(size > 0, size, 1)[:, None]
    return total


def _largest(d_state: list[Array]) -> Array:
    return np.max([np.abs(d).max(axis=1) for d in d_state], axis=0).astype(np.float64)


def _norm(d_state: list[Array]) -> Array:
    return np.sqrt(np.sum([np.square(d.astype(np.float64)).sum(axis=1) for d in d_state], axis=0))


def _growth(logs: Array) -> Array:
    """Return the logarithm of the factor of each step, over the rows that have it."""
    growth: list[float] = []
    for before, after in itertools.pairwise(logs):
        rows = ~np.isnan(after)
        arrives = _total(before[rows])
        if arrives == -np.inf:
            break
        growth.append(_total(after[rows]) - arrives)
    return np.array(growth)


def _total(logs: Array) -> float:
    """Return the logarithm of the joint norm of rows whose norms have these logarithms."""
    top = logs.max()
    return float(top + np.log(np.exp(2 * (logs - top)).sum()) / 2) if np.isfinite(top) else float(top)
