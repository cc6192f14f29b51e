"""Sequences of unequal length where steps are small: the rows are unrolled whole, padding and all.

There a step costs its calls, hardly its rows; so what kernels/falling.py and lanes.py save is less than what it costs
to find and gather the rows of each step, or lane. The padding is set to zeros: of the outputs after, of what comes
back, and of x before unless all its numbers are moderate. That is only for rows that begin at step 0, and where states
stay within bounds from there on.

`forward` and `backward` are Elman's; those of cells with gates stand in kernels/unroll.py.
"""

from collections.abc import Sequence, Set
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from minirnn.arguments import Array
from minirnn.kernels import elman, falling
from minirnn.kernels.cells import ACTIVATIONS, Activation
from minirnn.kernels.elman import wipe
from minirnn.kernels.gated import Gated
from minirnn.kernels.layout import Gradients, Settings, Unrolled, Weights

BOUNDED = ACTIVATIONS["tanh"], ACTIVATIONS["sigmoid"]

ROW, STEP, START, VIEWS = 7e-5, 3.5, 85.0, 2.25
"""What a row of a step costs for each multiplication, a step of few rows, and beyond that to have the rows fall, as a
whole and at each step, in µs: to weigh one against the other, not to measure."""

GATE, LANE, MOVED = 3.5e-5, 9.0, 1.5e-3
"""The same for lanes: a row of a step for each multiplication, a sequence, and each entry that is taken to its lane."""

MODERATE = 1e12
"""Below which sum of squares no number of x needs to be wiped out."""


class Padded(NamedTuple):
    """Where the padding is."""

    padding: Array  # (T, N) of bool
    last: Array  # (N,) of int: which of the rows (T·N) is the last of each sequence
    steps: int  # how many the longest has


def plan(
    shape: tuple[int, ...], H: int, activation: Activation, start: Array, lengths: Array, stride: int
) -> Padded | falling.Falling:
    """Choose, for x (T, N, D) and H neurons; the rest as `falling.plan` takes it."""
    steps = int(lengths.max())
    if stride == shape[1] == len(lengths) and pays(shape, H, activation, steps, int(lengths.sum())):
        return padding_of(shape, lengths, steps)  # all begin at step 0
    return falling.plan(start, lengths, stride)


def plan_gated(shape: tuple[int, ...], H: int, cell: Any, start: Array, lengths: Array, stride: int) -> Padded | None:
    """Choose for a cell with gates, whose states are bounded, as `plan` does; None for lanes."""
    if not isinstance(cell, Gated) or not stride == shape[1] == len(lengths):  # all begin at step 0
        return None
    T, N, D = shape
    steps = int(lengths.max())
    saved = GATE * (N * steps - int(lengths.sum())) * cell.layout.blocks * H * (D + H + 50)
    return padding_of(shape, lengths, steps) if saved < LANE * N + MOVED * T * N * (D + H) else None


def pays(shape: tuple[int, ...], H: int, activation: Activation, steps: int, total: int) -> bool:
    """Weigh what the padding costs against what the fall of the rows would; the longest has ``steps`` of ``total``."""
    T, N, D = shape
    saved = ROW * (T * N - total) * H * (D + H + 50) + STEP * (T - steps)
    return saved < START + VIEWS * steps and activation in BOUNDED


def padding_of(shape: tuple[int, ...], lengths: Array, steps: int) -> Padded:
    """Find where the padding is in rows that begin at step 0; the longest has so many steps."""
    T, N, _ = shape
    last = lengths * N
    last += _row_before(N)
    return Padded(counting(T)[:, None] >= lengths, last, steps)


@lru_cache(maxsize=64)
def counting(n: int) -> Array:
    """Return 0 … n − 1, which are not to be written into."""
    numbers = np.arange(n)
    numbers.flags.writeable = False
    return numbers


@lru_cache(maxsize=64)
def _row_before(N: int) -> Array:
    return np.arange(-N, 0)


def forward(x: Array, state: Sequence[Array], weights: Weights, settings: Settings, save: bool = True) -> Unrolled:
    """Unroll x (T, N, D) from one array (N, H) on; what is saved is x without what stood in the padding, and states."""
    padding, last, _ = settings.lanes
    x = _wiped(x, padding) if type(x) is not np.ndarray or settings.segment is not None else readable(x, padding)
    outputs, _, saved = elman.forward(x, state, weights, settings, save)
    final = [outputs.reshape(-1, outputs.shape[2]).take(last, axis=0)]
    wipe(outputs, padding)
    return Unrolled(outputs, final, (x, saved) if save else None)


def backward(
    d_outputs: Array | None,
    d_final: Sequence[Array | None],
    saved: tuple[Array, Array],
    x: Array,
    weights: Weights,
    settings: Settings,
    wanted: Set[str],
) -> Gradients:
    """Go back through `forward`; ``d_outputs`` is (T, N, H), ``d_final`` one (N, H), None for zeros."""
    padding, (x, states) = settings.lanes.padding, saved
    if d_final[0] is None and settings.segment is None and settings.cell.activation is BOUNDED[0] and x.shape[1] > 1:
        # φ′ is 1 in the padding, and the way back that of `HoistedBackward`, which sees to what enters
        return elman.backward(d_outputs, [None], states, x, weights, settings, wanted, padding)
    d = entering(d_outputs, d_final[0], settings.lanes, x.shape, weights)
    return elman.backward(d, [None], states, x, weights, settings, wanted)


def entering(
    d_outputs: Array | None, d_final: Array | None, places: Padded, shape: tuple[int, ...], weights: Weights
) -> Array | None:
    """Return the gradients that enter at the steps, for x of this shape: those of h at each row's last among them."""
    if d_outputs is None and d_final is None:
        return None
    T, N, H = *shape[:2], len(weights.W_hh)
    d = np.zeros((T, N, H), weights.W_hh.dtype) if d_outputs is None else _wiped(d_outputs, places.padding)
    if d_final is not None:
        d.reshape(-1, H)[places.last] += d_final
    return d


def readable(x: Array, padding: Array) -> Array:
    """Return x for the padding to be unrolled, too: no number in it is infinite, none makes one that is."""
    if type(x) is np.ndarray and not np.vdot(x, x) < MODERATE:  # dot would warn of what is infinite
        return _wiped(x, padding)
    return x


def _wiped(a: Array, where: Array) -> Array:
    """Return a copy of (T, N, width) with zeros in these rows."""
    clean = np.array(a, order="C")
    wipe(clean, where)
    return clean
