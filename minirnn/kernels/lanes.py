"""Sequences of unequal length, packed: each lane carries one after the other, so that few lanes are full at all steps.

The cost of an unroll is that of its lanes times its steps; packed, it follows the sum of the lengths. What stands in
the padding is never read. Checked by tests/kernels/test_lanes.py.
"""

from bisect import bisect_left, insort
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


class Switch(NamedTuple):
    """Before step ``k`` in the order of processing, sequence ``old`` has ended in a lane, and ``new`` begins there.

    −1 for ``new``: nothing does. The lane idles from here on as a double of lane 0, which carries the longest sequence
    and no other: so it has nothing but numbers that stand there too.
    """

    k: int
    lane: int
    old: int
    new: int


class Piece(NamedTuple):
    """Steps with one number of lanes.

    Attributes
    ----------
    lo, hi : int
        Steps in the order of processing.
    first, last : lists of int
        Which sequence is in each lane at the first step, and at the last; −1 where it idles.
    switches : list of Switch
        In the order of k, which counts from ``lo``.
    """

    lo: int
    hi: int
    first: list[int]
    last: list[int]
    switches: list[Switch]


class Lanes(NamedTuple):
    """Where everything goes.

    Attributes
    ----------
    sequences : int
        How many sequences there are.
    pieces : list of Piece
        In the order of processing; each has fewer lanes than the one before, the first of them, or as many.
    source : (steps, lanes) of int
        Which row of x (T·N, D) is read.
    target : (steps, lanes) of int
        Where the output goes in (T·N + 1, H): to the last row, which is nobody's, when the lane idles.
    """

    sequences: int
    pieces: list[Piece]
    source: Array
    target: Array


def pack(start: Array, lengths: Array, stride: int, nowhere: int, worth: float, segment: int | None = None) -> Lanes:
    """Pack sequences into lanes as long as the longest of them.

    Parameters
    ----------
    start : (sequences,) of int
        The row of x (T·N, D) that each reads first.
    lengths : (sequences,) of int ≥ 1
    stride : int
        From the row of one step to that of the next: N, or −N in reverse.
    nowhere : int
        T·N.
    worth : float
        How many steps of a lane cost as much as to go on with fewer lanes: below that, they idle.
    segment : int, optional
        The largest number of steps in a piece.

    Returns
    -------
    Lanes
    """
    T = int(lengths.max())
    lanes = _fit(lengths.tolist(), T)
    source = _indices(lanes, start, lengths, stride, T)
    idle, target = source < 0, source
    if idle.any():
        source, target = np.where(idle, source[:, :1], source), np.where(idle, nowhere, source)
    return Lanes(len(lengths), _pieces(lanes, lengths.tolist(), T, worth, segment), source, target)


def _fit(lengths: list[int], T: int) -> list[list[int]]:
    """Return which sequences each lane carries, fullest lane first: the longest is placed first, where it fits best."""
    lanes: list[list[int]] = []
    free: list[tuple[int, int]] = []  # room, lane
    for i in sorted(range(len(lengths)), key=lengths.__getitem__, reverse=True):
        length = lengths[i]
        at = bisect_left(free, (length, -1))
        if at < len(free):
            room, lane = free.pop(at)
            lanes[lane].append(i)
        else:
            room, lane = T, len(lanes)
            lanes.append([i])
        if room > length:
            insort(free, (room - length, lane))
    room_of = dict.fromkeys(range(len(lanes)), 0) | {lane: room for room, lane in free}
    return [lanes[lane] for lane in sorted(room_of, key=room_of.__getitem__)]


def _indices(lanes: list[list[int]], start: Array, lengths: Array, stride: int, T: int) -> Array:
    """Return (T, lanes): the row of x that each lane reads at each step, −1 where it idles."""
    order = np.array([i for lane in lanes for i in lane])
    counts, each = lengths[order], np.array([len(lane) for lane in lanes])
    ends = np.cumsum(counts)
    # Where each sequence begins, counted over all lanes, one lane after the other and each of them T steps long.
    total = np.add.reduceat(counts, np.cumsum(each) - each)
    padding = np.repeat(np.cumsum(T - total) - (T - total), each)
    within = np.arange(ends[-1]) - np.repeat(ends - counts, counts)
    places = np.arange(ends[-1]) + np.repeat(padding, counts)
    whole = np.full(len(lanes) * T, -1)
    whole[places] = np.repeat(start[order], counts) + stride * within
    return np.ascontiguousarray(whole.reshape(len(lanes), T).T)


def _pieces(lanes: list[list[int]], lengths: list[int], T: int, worth: float, segment: int | None) -> list[Piece]:
    """Return where lanes are given up, and who follows whom in those that go on."""
    switches, ends = [], []
    for lane, carried in enumerate(lanes):
        k = 0
        for old, new in pairwise(carried):
            k += lengths[old]
            switches.append(Switch(k, lane, old, new))
        ends.append(k + lengths[carried[-1]])
    cuts = _cuts(ends, T, worth, segment)
    busy = [lane[0] for lane in lanes]
    pieces = []
    for (lo, width), (hi, _) in zip(cuts, [*cuts[1:], (T, 0)], strict=True):
        own = [s for s in switches if lo <= s.k < hi]
        own += [Switch(end, lane, lanes[lane][-1], -1) for lane, end in enumerate(ends[:width]) if lo <= end < hi]
        own.sort()
        first = busy[:width]
        for s in own:
            busy[s.lane] = s.new
        pieces.append(Piece(lo, hi, first, busy[:width], [s._replace(k=s.k - lo) for s in own]))
    return pieces


def _cuts(ends: Sequence[int], T: int, worth: float, segment: int | None) -> list[tuple[int, int]]:
    """Return the first step and the number of lanes of each piece; ``ends`` fall."""
    cuts, width = [(0, len(ends))], len(ends)
    alive = len(ends)
    for end in sorted(set(ends))[:-1]:
        while ends[alive - 1] <= end:
            alive -= 1
        if (width - alive) * (T - end) > worth:
            width = alive
            cuts.append((end, width))
    if segment is not None:
        steps = {lo for lo, _ in cuts} | set(range(0, T, segment))
        cuts = [(lo, min(width for first, width in cuts if first <= lo)) for lo in sorted(steps)]
    return cuts
