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
from minirnn.kernels.chunks import chunk_length
from minirnn.kernels.sums import Sums


class Falling(NamedTuple):
    """Where everything goes. R is the sum of the lengths.

    Attributes
    ----------
    order : (sequences,) of int
        By falling length.
    counts : list of int
        How many sequences each step has.
    offsets : list of int
        At which of the R rows each step begins; R at the end.
    source : (R,) of int
        Which row of x (T·N, D) is read, and of the outputs written.
    before : (R,) of int
        Which row the same sequence has at the step before: from −sequences on, where there is none.
    last : (sequences,) of int
        Which row the last step of each sequence has.
    """

    order: Array
    counts: list[int]
    offsets: list[int]
    source: Array
    before: Array
    last: Array


def plan(start: Array, lengths: Array, stride: int) -> Falling:
    """Order sequences by falling length.

    Parameters
    ----------
    start : (sequences,) of int
        The row of x (T·N, D) that each reads first.
    lengths : (sequences,) of int ≥ 1
    stride : int
        From the row of one step to that of the next: N, or −N in reverse.

    Returns
    -------
    Falling
    """
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


class Kept(NamedTuple):
    """What forward leaves for backward.

    Attributes
    ----------
    inputs : (R, 1, D)
    states : list of arrays (…, H)
        For each segment, the states before its first step, and unless they are to be made again all after it.
    """

    inputs: Array
    states: list[Array]


class FallingWork:
    """Scratch for so many sequences and rows of a chunk."""

    def __init__(self, S: int, rows: int, H: int, dtype: np.dtype[Any]) -> None:
        self.key = S, rows, H, dtype
        self.block = np.empty((rows, H), dtype)  # X W_xh + b_h of a chunk; backward φ′, which becomes dZ
        self.side = np.empty((S, H), dtype)  # H_{k-1} W_hh, and what φ is applied to; backward dH_k
        self.sides = [self.side[:n] for n in range(S + 1)]
        self.nbytes = self.block.nbytes + self.side.nbytes


def forward(
    x: Array, h0: Array, weights: Sequence[Any], activation: Activation, order: Falling, segment: int | None, keep: bool
) -> tuple[Array, Array, Kept | None]:
    """Unroll.

    Parameters
    ----------
    x : (T, N, D)
    h0 : (sequences, H)
    weights : W_xh, W_hh, b_h
    activation : φ
    order : Falling
    segment : how many steps lie between two states that are kept; None to keep all
    keep : whether backward is to follow

    Returns
    -------
    outputs (T, N, H), 0 where no sequence is; final states (sequences, H); Kept or None
    """
    T, N, D = x.shape
    S, H = h0.shape
    inputs = x.reshape(T * N, D).take(order.source, axis=0)
    states = np.empty((S + len(inputs) + 1, H), h0.dtype)
    h0.take(order.order, axis=0, out=states[:S], mode="clip")
    states[-1] = 0  # for the padding
    _run(inputs, states, 0, len(order.counts), weights, activation, order)
    outputs = states.take(_places(order, T * N) + S, axis=0).reshape(T, N, H)
    final = states.take(order.last + S, axis=0)
    if not keep:
        return outputs, final, None
    kept = [states] if segment is None else [_first(states, lo, order).copy() for lo, _ in _segments(order, segment)]
    return outputs, final, Kept(inputs.reshape(-1, 1, D), kept)


def backward(
    d_outputs: Array | None,
    d_final: Array | None,
    kept: Kept,
    shape: tuple[int, ...],
    weights: Sequence[Any],
    back_to_x: Array | None,
    activation: Activation,
    order: Falling,
    segment: int | None,
    wanted: tuple[bool, ...],
) -> tuple[Array | None, Array, Sums]:
    """Go back through `forward`.

    Parameters
    ----------
    d_outputs : (T, N, H) or None for zeros
    d_final : (sequences, H) or None for zeros
    kept, weights, activation, order, segment : of `forward`
    shape : (T, N, D)
    back_to_x : (H, D)
        W_xhᵀ; None if dX is not wanted.
    wanted : whether to compute the gradient of W_xh, W_hh, b_h

    Returns
    -------
    dX (T, N, D) or None; dH_0 (sequences, H); the sums over time
    """
    T, N, D = shape
    inputs, S, H, dtype = kept.inputs, len(order.order), len(weights[1]), kept.inputs.dtype
    made = None
    if back_to_x is not None:
        made = np.empty((len(inputs) + 1, 1, D), dtype)
        made[-1] = 0
    sums = Sums(inputs, None if made is None else made[:-1], back_to_x, wanted)
    d = np.zeros((S, H), dtype) if d_final is None else d_final.take(order.order, axis=0)
    for (lo, hi), states in zip(reversed(_segments(order, segment)), reversed(kept.states), strict=True):
        whole = states if segment is None else _again(states, inputs, lo, hi, weights, activation, order)
        _run_back(d_outputs, d, whole, lo, hi, weights[1], activation, order, sums)
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


def _segments(order: Falling, segment: int | None) -> list[tuple[int, int]]:
    T = len(order.counts)
    return list(pairwise([*range(0, T, segment or T), T]))


def _first(states: Array, lo: int, order: Falling) -> Array:
    """Return the states before step ``lo``, of all sequences that had the step before it."""
    S = len(order.order)
    return states[S + order.offsets[lo - 1] : S + order.offsets[lo]] if lo else states[:S]


def _again(
    first: Array, inputs: Array, lo: int, hi: int, weights: Sequence[Any], activation: Activation, order: Falling
) -> Array:
    """Run a segment once more from the states before it."""
    states = np.empty((len(first) + order.offsets[hi] - order.offsets[lo], first.shape[1]), first.dtype)
    states[: len(first)] = first
    _run(inputs[:, 0], states, lo, hi, weights, activation, order)
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


def _run(
    inputs: Array, states: Array, lo: int, hi: int, weights: Sequence[Any], activation: Activation, order: Falling
) -> None:
    """Fill ``states`` from those before step ``lo`` on, which stand first."""
    W_xh, W_hh, b_h = weights
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


def _run_back(
    d_outputs: Array | None,
    d: Array,
    states: Array,
    lo: int,
    hi: int,
    W_hh: Array,
    activation: Activation,
    order: Falling,
    sums: Sums,
) -> None:
    """Go back from step ``hi`` to ``lo``; ``d`` (sequences, H) is dH after it and becomes dH before it.

    The rows of ``d`` of what ends before that are dL/dH of their last steps, and wait.
    """
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
        before = states.take(order.before[a:b] + ahead, axis=0)
        sums.add(a, before[:, None], dz[:, None])
    d[...] = work.side
    scratch.give(work)
