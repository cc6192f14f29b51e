"""Sequences of unequal length, packed: each lane carries one after the other, so that few lanes are full at all steps.

The cost of an unroll is that of its lanes times its steps; packed, it follows the sum of the lengths. What stands in
the padding is never read.
"""

from collections.abc import Iterator, Sequence
from heapq import heapreplace
from itertools import chain, pairwise
from typing import Any, NamedTuple

import numpy as np

from minirnn.arguments import Array

LONGER = 1.2
"""How many times as long as the longest sequence lanes may become on average, so that a block of them is saved."""

TOO_LONG = 1.4
"""The same for the longest lane: where sequences do not fit together, there are more lanes."""


class Switch(NamedTuple):
    """Before step ``k`` in the order of processing, sequence ``old`` has ended in a lane, and ``new`` begins there.

    −1 for ``new``: nothing does. The lane idles from here on as a double of lane 0, so that it has nothing but numbers
    that stand there too. Lane 0 begins no other sequence then: each was placed where fewest steps were.
    """

    k: int
    lane: int
    old: int
    new: int


class Ends(NamedTuple):
    """The states of all sequences: where they start from, and where they are left; backward, their gradients.

    Each is a list with an array (sequences, H) for each array of a state.
    """

    first: Sequence[Any]
    last: Sequence[Any]


class Piece(NamedTuple):
    """Steps with one number of lanes, ``lo`` … ``hi`` in the order of processing."""

    lo: int
    hi: int
    first: list[int]  # the sequence in each lane before the first step and its switches; −1 where it idles
    last: list[int]  # and after the last
    switches: list[Switch]  # in the order of k, which counts from ``lo``


class Lanes(NamedTuple):
    """Where everything goes; ``source``, ``target`` and ``idle`` are (steps, lanes)."""

    sequences: int
    pieces: list[Piece]  # in the order of processing; each has as many lanes as the one before, or the first of them
    source: Array  # which row of x (T·N, D) is read
    target: Array  # which row of (T·N + 1, H) the output is: the last, which is nobody's, when the lane idles
    idle: Array | None  # whether the lane idles; None for nowhere
    ends: Array  # (sequences,): which row the last step of each is


def pack(
    start: Array, lengths: Array, stride: int, nowhere: int, worth: float, block: int = 8, segment: int | None = None
) -> Lanes:
    """Pack sequences into lanes.

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
    block : int
        Of which the number of lanes is a multiple, unless there are fewer sequences.
    segment : int, optional
        The largest number of steps in a piece.
    """
    steps = lengths.tolist()
    lanes, loads = _fill(steps, block)
    source, idle = _indices(lanes, loads, steps, start, stride)
    target = source
    if idle is not None:
        source, target = np.where(idle, source[:, :1], source), np.where(idle, nowhere, source)
    ends = start + stride * (lengths - 1)
    return Lanes(len(steps), _pieces(lanes, loads, steps, worth, block, segment), source, target, idle, ends)


def _fill(lengths: list[int], block: int) -> tuple[list[list[int]], list[int]]:
    """Return which sequences each lane carries, and how many steps it takes, the longest lane first.

    Their number is a multiple of ``block``: a product with 16 columns takes less time than one with 15. The longest
    sequences come first, and each goes where fewest steps are; so the short lanes end at about the same time.
    """
    total, longest = sum(lengths), max(lengths)
    n = block * (total // (block * longest))
    if total > LONGER * n * longest:
        n += block
    order = sorted(range(len(lengths)), key=lengths.__getitem__, reverse=True)
    while True:
        lanes, loads = _spread(lengths, order, min(n, len(lengths)))
        if loads[0] <= TOO_LONG * longest:  # at the latest with a sequence to a lane
            return lanes, loads
        n += block


def _spread(lengths: list[int], order: list[int], n: int) -> tuple[list[list[int]], list[int]]:
    """Place the sequences in n lanes, in the order given; return the lanes by falling load, and the loads."""
    heap = [(0, lane) for lane in range(n)]
    lanes: list[list[int]] = [[] for _ in heap]
    for i in order:
        load, lane = heap[0]
        lanes[lane].append(i)
        heapreplace(heap, (load + lengths[i], lane))
    heap.sort(key=lambda entry: (-entry[0], entry[1]))
    return [lanes[lane] for _, lane in heap], [load for load, _ in heap]


def _indices(
    lanes: list[list[int]], loads: list[int], lengths: list[int], start: Array, stride: int
) -> tuple[Array, Array | None]:
    """Return (T, lanes): the row of x that each lane reads at each step, and whether it idles; None for nowhere.

    Where it idles the rows are those after its last sequence, which may be anybody's or nobody's.
    """
    T, begins, counts = loads[0], [], []
    for carried in lanes:
        k = 0
        for i in carried:
            begins.append(k)
            counts.append(lengths[i])
            k += lengths[i]
        counts[-1] += T - k
    # At step k of its lane a sequence is at the row ``start`` + ``stride`` (k − ``begins``).
    base = start[list(chain(*lanes))] - stride * np.array(begins)
    steps = np.arange(T)[:, None]
    source: Array = np.empty((T, len(lanes)), base.dtype)
    np.add(base.repeat(counts).reshape(len(lanes), T).T, stride * steps, source)
    return source, steps >= loads if loads[-1] < T else None


def _pieces(
    lanes: list[list[int]], loads: list[int], lengths: list[int], worth: float, block: int, segment: int | None
) -> list[Piece]:
    """Return where lanes are given up, and who follows whom in those that go on."""
    T, cuts = loads[0], _cuts(loads, loads[0], worth, block, segment)
    switches = _switches(lanes, loads, lengths)
    busy = [lane[0] for lane in lanes]
    pieces, i = [], 0
    for (lo, width), (hi, _) in zip(cuts, [*cuts[1:], (T, 0)], strict=True):
        first, own = busy[:width], []
        while i < len(switches) and switches[i].k < hi:
            k, lane, old, new = switches[i]
            if lane < width:
                own.append(Switch(k - lo, lane, old, new))
                busy[lane] = new
            i += 1
        pieces.append(Piece(lo, hi, first, busy[:width], own))
    return pieces


def _switches(lanes: list[list[int]], loads: list[int], lengths: list[int]) -> list[Switch]:
    """Return all that happens in the lanes, in order, if none is given up."""
    found = []
    for lane, (carried, load) in enumerate(zip(lanes, loads, strict=True)):
        k = 0
        for old, new in pairwise(carried):
            k += lengths[old]
            found.append(Switch(k, lane, old, new))
        if load < loads[0]:
            found.append(Switch(load, lane, carried[-1], -1))
    return sorted(found)


def _cuts(loads: Sequence[int], T: int, worth: float, block: int, segment: int | None) -> list[tuple[int, int]]:
    """Return the first step and the number of lanes of each piece, a multiple of ``block``; ``loads`` fall."""
    cuts, width = {0: len(loads)}, len(loads)
    for narrower in range(block * ((width - 1) // block), 0, -block):
        end = loads[narrower]  # from here on no more than these go on
        if (width - narrower) * (T - end) > worth:
            cuts[end] = width = narrower
    if segment is not None:
        for lo in range(0, T, segment):
            cuts[lo] = min(width for first, width in cuts.items() if first <= lo)
    return sorted(cuts.items())


def spans(lo: int, hi: int, switches: Sequence[Switch]) -> Iterator[tuple[int, int, list[Switch]]]:
    """Yield the parts of the steps ``lo`` … ``hi`` between switches, each with the switches before its first step."""
    now: list[Switch] = []
    a = lo
    for switch in switches:
        if lo <= switch.k < hi:
            if switch.k > a:
                yield a, switch.k, now
                a, now = switch.k, []
            now.append(switch)
    yield a, hi, now
