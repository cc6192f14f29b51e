"""How the pieces of an unroll lie in the arrays of a layer: rows as they are, or sequences packed in lanes.

Sequences of unequal length are packed so that each lane carries one after the other, and few lanes are full at all
steps. The cost of an unroll is that of its lanes times its steps; packed, it follows the sum of the lengths. What
stands in the padding is never read. In a view of an array steps are in the order of processing.
"""

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from heapq import heapreplace
from itertools import accumulate, chain, groupby, pairwise
from operator import attrgetter
from typing import Any, NamedTuple, cast

import numpy as np

from minirnn.arguments import Array
from minirnn.kernels.layout import Settings
from minirnn.kernels.scratch import chunks

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


class Piece(NamedTuple):
    """Steps with one number of lanes, ``lo`` … ``hi`` in the order of processing."""

    lo: int
    hi: int
    first: Any  # the sequence in each lane before the first step and its switches, −1 where it idles; or the rows
    last: Any  # and after the last
    switches: list[Switch]  # in the order of k, which counts from ``lo``


class Lanes(NamedTuple):
    """Where everything goes; ``source``, ``target`` and ``idle`` are (steps, lanes)."""

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
    source = target = _find_rows(lanes, loads, steps, start, stride)
    idle = None
    if loads[-1] < loads[0]:
        idle = np.arange(loads[0])[:, None] >= loads
        source, target = np.where(idle, source[:, :1], source), np.where(idle, nowhere, source)
    pieces = _pieces(lanes, loads, steps, worth, block, segment)
    return Lanes(pieces, source, target, idle, start + stride * (lengths - 1))


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
        heap: list[tuple[int, int, list[int]]] = [(0, lane, []) for lane in range(min(n, len(lengths)))]
        for i in order:
            load, lane, carried = heap[0]
            carried.append(i)
            heapreplace(heap, (load + lengths[i], lane, carried))
        heap.sort(key=lambda entry: (-entry[0], entry[1]))
        if heap[0][0] <= TOO_LONG * longest:  # at the latest with a sequence to a lane
            return [carried for *_, carried in heap], [load for load, *_ in heap]
        n += block


def _find_rows(lanes: list[list[int]], loads: list[int], lengths: list[int], start: Array, stride: int) -> Array:
    """Return (T, lanes): the row of x that each lane reads at each step.

    Where it idles the rows are those after its last sequence, which may be anybody's or nobody's.
    """
    T, pairs = loads[0], zip(lanes, loads, strict=True)
    counts = np.array([lengths[i] + (T - load) * (i == carried[-1]) for carried, load in pairs for i in carried])
    begins = (np.cumsum(counts) - counts) % T  # in its lane, of T steps each
    # At step k of its lane a sequence is at the row ``start`` + ``stride`` (k − ``begins``).
    base = (start[list(chain(*lanes))] - stride * begins).repeat(counts).reshape(len(lanes), T)
    return cast(Array, np.add(base.T, stride * np.arange(T)[:, None], order="C"))


def _pieces(
    lanes: list[list[int]], loads: list[int], lengths: list[int], worth: float, block: int, segment: int | None
) -> list[Piece]:
    """Return where lanes are given up, and who follows whom in those that go on."""
    T = loads[0]
    switches = sorted(
        Switch(k, lane, old, new)
        for lane, carried in enumerate(lanes)
        for k, (old, new) in zip(accumulate(lengths[i] for i in carried), pairwise([*carried, -1]), strict=True)
        if k < T
    )
    busy, pieces = [lane[0] for lane in lanes], []
    for (lo, width), (hi, _) in pairwise([*_cuts(loads, worth, block, segment), (T, 0)]):
        first = busy[:width]
        begin, end = (bisect_left(switches, k, key=attrgetter("k")) for k in (lo, hi))
        own = [Switch(k - lo, lane, old, new) for k, lane, old, new in switches[begin:end] if lane < width]
        for switch in own:
            busy[switch.lane] = switch.new
        pieces.append(Piece(lo, hi, first, busy[:width], own))
    return pieces


def _cuts(loads: Sequence[int], worth: float, block: int, segment: int | None) -> list[tuple[int, int]]:
    """Return the first step and the number of lanes of each piece, a multiple of ``block``; ``loads`` fall."""
    T, width = loads[0], len(loads)
    cuts = {0: width}
    for narrower in range(block * ((width - 1) // block), 0, -block):
        end = loads[narrower]  # from here on no more than these go on
        if (width - narrower) * (T - end) > worth:
            cuts[end] = width = narrower
    for lo in range(0, T, segment or T):
        cuts[lo] = min(width for first, width in cuts.items() if first <= lo)
    return sorted(cuts.items())


def spans(lo: int, hi: int, switches: Sequence[Switch]) -> Iterator[tuple[int, int, list[Switch]]]:
    """Yield the parts of the steps ``lo`` … ``hi`` between switches, each with the switches before its first step."""
    within = [switch for switch in switches if lo <= switch.k < hi]
    at = {lo: [], **{k: list(together) for k, together in groupby(within, attrgetter("k"))}}
    for a, b in pairwise([*at, hi]):
        yield a, b, at[a]


class Whole:
    """Rows of a mini-batch, all T steps long, forward or in reverse, in pieces of ``segment`` steps.

    As `Packed` has it: ``begins`` are the sequences that piece 0 begins with, and ``ending``, for each piece, the lanes
    that end with it, and the sequences in them.
    """

    def __init__(self, T: int, rows: slice, settings: Settings) -> None:
        self.begins, self.turn = rows, slice(None, None, -1 if settings.reverse else None)
        self.pieces = [Piece(lo, hi, rows, rows, []) for lo, hi in chunks(T, settings.segment or T)]
        self.ending = [(slice(0), slice(0))] * (len(self.pieces) - 1) + [(slice(None), rows)]

    def end(self, padding: Array) -> None:
        """Let sequence n, in row n, end where its padding (T, N) begins; it idles from there on."""
        lengths = len(padding) - padding.sum(axis=0)
        order = np.argsort(lengths).tolist()
        ends = [Switch(k, n, n, -1) for k, n in zip(lengths[order].tolist(), order, strict=True)]
        for i, piece in enumerate(self.pieces):
            own = [switch._replace(k=switch.k - piece.lo) for switch in ends if piece.lo <= switch.k < piece.hi]
            self.pieces[i] = piece._replace(switches=own)
        whole = [switch.lane for switch in ends if switch.k == self.pieces[-1].hi]
        self.ending[-1] = whole, whole

    def room(self, a: Array, i: int, more: int = 0) -> Array:
        """Return where piece ``i`` is in an array (T + more, N, …): (L + more, n, …)."""
        piece = self.pieces[i]
        return a[self.turn, self.begins][piece.lo : piece.hi + more]

    read = entering = room

    def mask(self, mask: Array, i: int, *, end: bool = False) -> Array:
        """Return the mask of what is in piece ``i``, of that (sequences, H) of all."""
        return mask[self.begins]


class Packed:
    """Sequences in lanes.

    What is written of all pieces stands in one array, piece after piece, with a row of zeros at the end, from which
    `spread` brings it in the order of time. Such an array may have a step ``more`` of each piece, the state before it.
    """

    def __init__(self, lanes: Lanes) -> None:
        self.lanes, self.pieces, self.begins = lanes, lanes.pieces, lanes.pieces[0].first
        widths = [len(piece.first) for piece in lanes.pieces]
        sizes = [((p.hi - p.lo) * n, (p.hi - p.lo + 1) * n) for p, n in zip(lanes.pieces, widths, strict=True)]
        self.ends = [list(accumulate(size)) for size in zip(*sizes, strict=True)]
        self.ending = []
        for piece, after in zip(lanes.pieces, [*widths[1:], 0], strict=True):
            ending = [lane for lane in range(after, len(piece.last)) if piece.last[lane] >= 0]
            self.ending.append((ending, [piece.last[lane] for lane in ending]))

    def _cut(self, index: Array, i: int) -> Array:
        piece = self.pieces[i]
        return index[piece.lo : piece.hi, : len(piece.first)]

    def read(self, a: Array, i: int) -> Array:
        """Return (L, n, …) of an array (T, N, …)."""
        return a.reshape(-1, a.shape[-1]).take(self._cut(self.lanes.source, i), axis=0)

    def entering(self, a: Array, i: int) -> Array:
        """Return the gradients of the outputs, (L, n, H): 0 in lanes that idle."""
        found = self.read(a, i)
        if self.lanes.idle is not None:
            found[self._cut(self.lanes.idle, i)] = 0
        return found

    def make(self, width: int, dtype: Any, more: int = 0) -> Array:
        """Return room for all pieces."""
        made = np.empty((self.ends[more][-1] + 1, width), dtype)
        made[-1] = 0
        return made

    def room(self, a: Array, i: int, more: int = 0) -> Array:
        """Return where piece ``i`` goes, (L + more, n, …)."""
        L, n = self._cut(self.lanes.source, i).shape
        end = self.ends[more][i]
        return a[end - (L + more) * n : end].reshape(L + more, n, -1)

    def spread(self, made: Array, shape: tuple[int, ...], more: int = 0) -> Array:
        """Bring what was made in the order of time, (T, N, …); 0 where no sequence is."""
        where = np.full(shape[0] * shape[1] + 1, len(made) - 1)  # the last is for what idles
        for i, end in enumerate(self.ends[more]):
            target = self._cut(self.lanes.target, i)
            where[target] = np.arange(end - target.size, end).reshape(target.shape)
        return made.take(where[:-1], axis=0).reshape(shape)

    def mask(self, mask: Array, i: int, *, end: bool = False) -> Array:
        """Return the mask of what is in the lanes when piece ``i`` starts, or when it ends, of that of all."""
        sequences = self.pieces[i].last if end else self.pieces[i].first
        return cast(Array, mask[[sequence if sequence >= 0 else sequences[0] for sequence in sequences]])
