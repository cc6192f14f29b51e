"""Sequences of unequal length in Elman's layer: all begin at step 0, the longest first, and the rows become fewer.

Step k has the first ``counts[k]`` rows, and no others: what has ended costs nothing, and nothing has to change places.
The rows of all steps stand one after the other, (Σ lengths, …). So the input side of many steps is one product, as in
the hoisted form of kernels/elman.py, where a product takes as long as it has rows; in columns it does not, and there
are lanes instead (kernels/lanes.py). What stands in the padding is never read.
"""

from bisect import bisect_right
from collections.abc import Sequence, Set
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from minirnn.arguments import Array
from minirnn.kernels import scratch
from minirnn.kernels.layout import Gradients, Settings, Sums, Unrolled, Weights
from minirnn.kernels.scratch import chunk_length, chunks


class Falling(NamedTuple):
    """Where everything goes. R is the sum of the lengths."""

    order: Array  # (sequences,), by falling length
    counts: list[int]  # how many sequences each step has
    offsets: list[int]  # at which of the R rows each step begins; R at the end
    source: Array  # (R,): which row of x (T·N, D) is read, and of the outputs written
    before: Array  # (R,): which row the same sequence has at the step before, from −sequences on where there is none
    last: Array  # (sequences,): which row the last step of each has

    def ahead(self, k: int) -> int:
        """Return how many sequences had the step before step k; all at first."""
        return self.counts[k - 1] if k else len(self.order)


def plan(start: Array, lengths: Array, stride: int) -> Falling:
    """Order sequences by falling length; ``start``, ``lengths`` and ``stride`` as `kernels.lanes.pack` takes them."""
    S = len(lengths)
    order = np.argsort(-lengths, kind="stable")
    counts = S - np.cumsum(np.bincount(lengths))[:-1]
    offsets = np.append(0, np.cumsum(counts))
    begins = offsets[:-1]
    places = np.arange(offsets[-1]) - begins.repeat(counts)  # of each row within its step
    source = start[order][places] + (stride * np.arange(len(counts))).repeat(counts)
    earlier = np.append(-S, begins[:-1])
    last = np.empty(S, int)
    last[order] = offsets[lengths[order] - 1] + np.arange(S)
    return Falling(order, counts.tolist(), offsets.tolist(), source, places + earlier.repeat(counts), last)


class FallingWork:
    """Scratch for so many sequences, and for as many rows of a chunk as the largest step has, or more."""

    def __init__(self, S: int, H: int, dtype: np.dtype[Any]) -> None:
        self.block = np.empty((S * chunk_length(S, H, dtype), H), dtype)  # X W_xh + b_h; backward φ′, which becomes dZ
        self.side = np.empty((S, H), dtype)  # H_{k-1} W_hh, and what φ is applied to; backward dH_k
        self.sides = [self.side[:n] for n in range(S + 1)]
        self.nbytes = self.block.nbytes + self.side.nbytes


def forward(x: Array, state: Sequence[Array], weights: Weights, settings: Settings, save: bool = True) -> Unrolled:
    """Unroll x (T, N, D) from one array (sequences, H) on; ``save`` says whether backward is to follow.

    What is saved: the rows of x that were read (R, 1, D), and for each segment its states before its first step, and
    unless they are to be made again all after it.
    """
    (T, N, D), (S, H), order = x.shape, state[0].shape, settings.lanes
    inputs = x.reshape(T * N, D).take(order.source, axis=0)
    states = np.empty((S + len(inputs) + 1, H), state[0].dtype)
    state[0].take(order.order, axis=0, out=states[:S], mode="clip")
    states[-1] = 0  # for the padding
    with settings.cell.quiet():
        _run(weights, settings, inputs, states, 0, len(order.counts))
    outputs = states.take(_find_rows(order, T * N) + S, axis=0).reshape(T, N, H)
    saved = [states]
    if settings.segment is not None:
        ends = [(lo, S + order.offsets[lo]) for lo in range(0, len(order.counts), settings.segment)]
        saved = [states[end - order.ahead(lo) : end].copy() for lo, end in ends]
    final = [states.take(order.last + S, axis=0)]
    return Unrolled(outputs, final, (inputs.reshape(-1, 1, D), saved) if save else None)


def backward(
    d_outputs: Array | None,
    d_final: Sequence[Array | None],
    saved: tuple[Array, list[Array]],
    x: Array,
    weights: Weights,
    settings: Settings,
    wanted: Set[str],
) -> Gradients:
    """Go back through `forward`; ``d_outputs`` is (T, N, H), ``d_final`` one (sequences, H), None for zeros."""
    (T, N, D), order = x.shape, settings.lanes
    S, H, dtype = len(order.order), len(weights.W_hh), weights.W_hh.dtype
    inputs, states = saved
    made = np.zeros((len(inputs) + 1, 1, D), dtype)  # dX, and zeros at the end for the padding
    back = np.ascontiguousarray(weights.W_xh.T)
    sums = Sums(inputs, made[:-1] if "x" in wanted else None, back, wanted, settings.cell.layout)
    d = np.zeros((S, H), dtype) if d_final[0] is None else d_final[0].take(order.order, axis=0)
    segments = chunks(len(order.counts), settings.segment or len(order.counts))
    with settings.cell.quiet():
        for (lo, hi), first in zip(reversed(segments), reversed(states), strict=True):
            hs = first
            if settings.segment is not None:  # the segment is run again
                hs = np.empty((len(first) + order.offsets[hi] - order.offsets[lo], H), dtype)
                hs[: len(first)] = first
                _run(weights, settings, inputs[:, 0], hs, lo, hi)
            _run_back(weights, settings, d_outputs, d, hs, lo, hi, sums)
    d_h0 = np.empty_like(d)
    d_h0[order.order] = d
    d_x = made.take(_find_rows(order, T * N), axis=0).reshape(x.shape) if "x" in wanted else None
    return Gradients(d_x, [d_h0], *sums.collect())


def _find_rows(order: Falling, nowhere: int) -> Array:
    """Return (T·N,): which of the R rows belongs there; R where none does."""
    rows = len(order.source)
    found = np.full(nowhere, rows)
    found[order.source] = np.arange(rows)
    return found


def _chunks(lo: int, hi: int, order: Falling, rows: int) -> list[tuple[int, int]]:
    """Return parts of the steps ``lo`` … ``hi``, each as long as it can be with so many rows; no step has more."""
    edges = [lo]
    while edges[-1] < hi:
        edges.append(min(hi, bisect_right(order.offsets, order.offsets[edges[-1]] + rows) - 1))
    return list(pairwise(edges))


def _run(weights: Weights, settings: Settings, inputs: Array, states: Array, lo: int, hi: int) -> None:
    """Fill ``states`` from those before step ``lo`` on, which stand first."""
    order, H = settings.lanes, states.shape[1]
    counts, offsets = order.counts, order.offsets
    work = scratch.take(FallingWork, len(order.order), H, states.dtype)
    block, sides = work.block, work.sides
    W_hh, add = np.ascontiguousarray(weights.W_hh), np.add
    phis = {n: settings.cell.activation.at((n, H), states.dtype) for n in set(counts[lo:hi])}
    at = order.ahead(lo)  # the row of ``states`` at which step ``lo`` begins
    h = states[:at]
    for first, last in _chunks(lo, hi, order, len(block)):
        a, b = offsets[first], offsets[last]
        np.dot(inputs[a:b], weights.W_xh, out=block[: b - a])
        if weights.b_h is not None:
            add(block[: b - a], weights.b_h, block[: b - a])
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


def _run_back(
    weights: Weights, settings: Settings, d_outputs: Any, d: Array, states: Array, lo: int, hi: int, sums: Sums
) -> None:
    """Go back from step ``hi`` to ``lo``; ``d`` (sequences, H) is dH after it and becomes dH before it.

    The rows of ``d`` of what ends before that are dL/dH of their last steps, and wait.
    """
    order, H = settings.lanes, d.shape[1]
    counts, offsets = order.counts, order.offsets
    work = scratch.take(FallingWork, len(order.order), H, d.dtype)
    block, sides = work.block, work.sides
    W_back, add, multiply = np.ascontiguousarray(weights.W_hh.T), np.add, np.multiply
    ahead = order.ahead(lo) - offsets[lo]  # from a row of R to that of ``states``
    work.side[...] = d
    for first, last in reversed(_chunks(lo, hi, order, len(block))):
        a, b = offsets[first], offsets[last]
        dz = block[: b - a]
        settings.cell.activation.slope_into(states[ahead + a : ahead + b], dz)
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
        sums.add(a, states.take(order.before[a:b] + ahead, axis=0)[:, None], dz)
    d[...] = work.side
    scratch.give(work)
