"""Sequences of unequal length in Elman's layer: all begin at step 0, the longest first, and the rows become fewer.

Step k has the first ``counts[k]`` rows, and no others: what has ended costs nothing, and nothing has to change places.
The rows of all steps stand one after the other, (Σ lengths, …). So the input side of many steps is one product, as in
kernels/hoisted.py, where a product takes as long as it has rows; in columns it does not, and there are lanes instead
(kernels/lanes.py). What stands in the padding is never read.
"""

from bisect import bisect_right
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from minirnn.arguments import Array
from minirnn.kernels import scratch
from minirnn.kernels.cells import Activation
from minirnn.kernels.chunks import chunk_length, chunks
from minirnn.kernels.sums import Sums


class Falling(NamedTuple):
    """Where everything goes. R is the sum of the lengths."""

    order: Array  # (sequences,), by falling length
    counts: list[int]  # how many sequences each step has
    offsets: list[int]  # at which of the R rows each step begins; R at the end
    source: Array  # (R,): which row of x (T·N, D) is read, and of the outputs written
    before: Array  # (R,): which row the same sequence has at the step before, from −sequences on where there is none
    last: Array  # (sequences,): which row the last step of each has


def plan(start: Array, lengths: Array, stride: int) -> Falling:
    """Order sequences by falling length; ``start``, ``lengths`` and ``stride`` as `kernels.lanes.pack` takes them."""
    S = len(lengths)
    order = np.argsort(-lengths, kind="stable")
    counts = S - np.cumsum(np.bincount(lengths))[:-1]
    ends = np.cumsum(counts)
    offsets = ends - counts
    places = np.arange(ends[-1]) - offsets.repeat(counts)  # of each row within its step
    source = start[order][places] + (stride * np.arange(len(counts))).repeat(counts)
    earlier = np.append(-S, offsets[:-1])
    last = np.empty(S, int)
    last[order] = offsets[lengths[order] - 1] + np.arange(S)
    return Falling(
        order, counts.tolist(), [*offsets.tolist(), int(ends[-1])], source, places + earlier.repeat(counts), last
    )


class Way(NamedTuple):
    """How sequences are unrolled."""

    weights: Sequence[Any]  # W_xh, W_hh, b_h
    activation: Activation
    order: Falling
    segment: int | None = None  # how many steps lie between two states that are kept; None to keep all

    def segments(self) -> list[tuple[int, int]]:
        """Return the steps between which states are kept."""
        T = len(self.order.counts)
        return chunks(T, self.segment or T)


class Kept(NamedTuple):
    """What forward leaves for backward."""

    inputs: Array  # (R, 1, D)
    states: list[Array]  # (…, H): a segment's states before its first step, and unless made again all after it


class FallingWork:
    """Scratch for so many sequences and rows of a chunk."""

    def __init__(self, S: int, rows: int, H: int, dtype: np.dtype[Any]) -> None:
        self.key = S, rows, H, dtype
        self.block = np.empty((rows, H), dtype)  # X W_xh + b_h of a chunk; backward φ′, which becomes dZ
        self.side = np.empty((S, H), dtype)  # H_{k-1} W_hh, and what φ is applied to; backward dH_k
        self.sides = [self.side[:n] for n in range(S + 1)]
        self.nbytes = self.block.nbytes + self.side.nbytes


def forward(x: Array, h0: Array, way: Way, keep: bool) -> tuple[Array, Array, Kept | None]:
    """Unroll x (T, N, D) from h0 (sequences, H) on; ``keep`` says whether backward is to follow.

    Return the outputs (T, N, H), 0 where no sequence is, the final states (sequences, H), and Kept or None.
    """
    (T, N, D), (S, H), order = x.shape, h0.shape, way.order
    inputs = x.reshape(T * N, D).take(order.source, axis=0)
    states = np.empty((S + len(inputs) + 1, H), h0.dtype)
    h0.take(order.order, axis=0, out=states[:S], mode="clip")
    states[-1] = 0  # for the padding
    _run(way, inputs, states, 0, len(order.counts))
    outputs = states.take(_places(order, T * N) + S, axis=0).reshape(T, N, H)
    final = states.take(order.last + S, axis=0)
    if not keep:
        return outputs, final, None
    kept = [states] if way.segment is None else [_first(states, lo, order).copy() for lo, _ in way.segments()]
    return outputs, final, Kept(inputs.reshape(-1, 1, D), kept)


def backward(
    d_outputs: Array | None,
    d_final: Array | None,
    kept: Kept,
    shape: tuple[int, ...],
    way: Way,
    back_to_x: Array | None,
    wanted: tuple[bool, ...],
) -> tuple[Array | None, Array, Sums]:
    """Go back through `forward` of an x of the shape given.

    ``d_outputs`` is (T, N, H), ``d_final`` (sequences, H), None for zeros; ``back_to_x`` (H, D) is W_xhᵀ, None if dX is
    not ``wanted``, which says what is of W_xh, W_hh and b_h. Return dX (T, N, D) or None, dH_0 (sequences, H), and the
    sums over time.
    """
    (T, N, D), inputs, order = shape, kept.inputs, way.order
    S, H, dtype = len(order.order), len(way.weights[1]), inputs.dtype
    made = None
    if back_to_x is not None:
        made = np.empty((len(inputs) + 1, 1, D), dtype)
        made[-1] = 0
    sums = Sums(inputs, None if made is None else made[:-1], back_to_x, wanted)
    d = np.zeros((S, H), dtype) if d_final is None else d_final.take(order.order, axis=0)
    for (lo, hi), states in zip(reversed(way.segments()), reversed(kept.states), strict=True):
        whole = states if way.segment is None else _again(way, states, inputs, lo, hi)
        _run_back(way, d_outputs, d, whole, lo, hi, sums)
    d_h0 = np.empty_like(d)
    d_h0[order.order] = d
    if made is None:
        return None, d_h0, sums
    return made.take(_places(order, T * N), axis=0).reshape(shape), d_h0, sums


def _places(order: Falling, nowhere: int) -> Array:
    """Return (T·N,): which of the R rows belongs there; R where none does."""
    rows = len(order.source)
    found = np.full(nowhere, rows)
    found[order.source] = np.arange(rows)
    return found


def _first(states: Array, lo: int, order: Falling) -> Array:
    """Return the states before step ``lo``, of all sequences that had the step before it."""
    S = len(order.order)
    return states[S + order.offsets[lo - 1] : S + order.offsets[lo]] if lo else states[:S]


def _again(way: Way, first: Array, inputs: Array, lo: int, hi: int) -> Array:
    """Run a segment once more from the states before it."""
    offsets = way.order.offsets
    states = np.empty((len(first) + offsets[hi] - offsets[lo], first.shape[1]), first.dtype)
    states[: len(first)] = first
    _run(way, inputs[:, 0], states, lo, hi)
    return states


def _chunks(lo: int, hi: int, order: Falling, rows: int) -> list[tuple[int, int]]:
    """Return parts of the steps ``lo`` … ``hi``, each as long as it can be with so many rows; no step has more."""
    edges = [lo]
    while edges[-1] < hi:
        edges.append(min(hi, bisect_right(order.offsets, order.offsets[edges[-1]] + rows) - 1))
    return list(pairwise(edges))


def _work(order: Falling, H: int, dtype: np.dtype[Any]) -> tuple[FallingWork, int]:
    """Return scratch, and how many rows a chunk has at most: no fewer than any step."""
    S = len(order.order)
    rows = S * chunk_length(S, H, dtype)
    return scratch.take(FallingWork, S, rows, H, dtype), rows


def _run(way: Way, inputs: Array, states: Array, lo: int, hi: int) -> None:
    """Fill ``states`` from those before step ``lo`` on, which stand first."""
    (W_xh, W_hh, b_h), activation, order, _ = way
    H, dtype, offsets, counts = len(W_hh), states.dtype, order.offsets, order.counts
    work, rows = _work(order, H, dtype)
    W_hh, add, sides, block = np.ascontiguousarray(W_hh), np.add, work.sides, work.block
    phis = {n: activation.at((n, H), dtype) for n in set(counts[lo:hi])}
    ahead = len(order.order) if lo == 0 else counts[lo - 1]  # rows of ``states`` before those of step ``lo``
    h, at = states[:ahead], ahead
    for first, last in _chunks(lo, hi, order, rows):
        a, b = offsets[first], offsets[last]
        np.dot(inputs[a:b], W_xh, out=block[: b - a])
        if b_h is not None:
            add(block[: b - a], b_h, block[: b - a])
        begin = 0
        for n in counts[first:last]:
            side, out = sides[n], states[at : at + n]
            h[:n].dot(W_hh, side)
            add(side, block[begin : begin + n], side)
            phis[n](side, out)
            h = out
            at += n
            begin += n
    scratch.give(work)


def _run_back(way: Way, d_outputs: Array | None, d: Array, states: Array, lo: int, hi: int, sums: Sums) -> None:
    """Go back from step ``hi`` to ``lo``; ``d`` (sequences, H) is dH after it and becomes dH before it.

    The rows of ``d`` of what ends before that are dL/dH of their last steps, and wait.
    """
    (_, W_hh, _), activation, order, _ = way
    H, offsets, counts = len(W_hh), order.offsets, order.counts
    work, rows = _work(order, H, d.dtype)
    W_back, add, multiply, sides, block = np.ascontiguousarray(W_hh.T), np.add, np.multiply, work.sides, work.block
    ahead = (len(order.order) if lo == 0 else counts[lo - 1]) - offsets[lo]  # from a row of R to that of ``states``
    work.side[...] = d
    for first, last in reversed(_chunks(lo, hi, order, rows)):
        a, b = offsets[first], offsets[last]
        dz = block[: b - a]
        activation.slope_into(states[ahead + a : ahead + b], dz)
        entering = None if d_outputs is None else d_outputs.reshape(-1, H).take(order.source[a:b], axis=0)
        at = b - a
        for n in reversed(counts[first:last]):
            side, begin = sides[n], at - n
            own = dz[begin:at]
            if entering is not None:
                add(side, entering[begin:at], side)
            multiply(own, side, own)
            own.dot(W_back, side)
            at = begin
        sums.add(a, states.take(order.before[a:b] + ahead, axis=0)[:, None], dz[:, None])
    d[...] = work.side
    scratch.give(work)
