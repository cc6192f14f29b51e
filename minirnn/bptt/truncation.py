"""Truncated BPTT, made exact: what of the gradient is left, and how far it points away from the true one."""

import itertools
from collections.abc import Iterable, Iterator, Mapping

import numpy as np

from minirnn.arguments import Array
from minirnn.bptt.unrolled import Unrolled


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
        yield unrolled.total(back, at)
        d_state = back.before


def angles(parts: Iterable[Mapping[str, Array]], true: Mapping[str, Array], T: int) -> Array:
    """Return the angle in degrees between the true gradient and the sum of the first k2 parts, k2 = 1 … T."""
    goal = flat(true)
    sums = itertools.accumulate(map(flat, parts))
    return np.fromiter((angle(total, goal) for total in sums), float, T)


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
