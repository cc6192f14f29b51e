"""Sequences by falling length: where each step stands. The numbers, tests/kernels/test_unroll.py checks too."""

import itertools

import numpy as np
import pytest

from minirnn.kernels import elman, falling
from minirnn.kernels.cells import ACTIVATIONS

LENGTHS = {f"random {seed}": np.random.default_rng(seed).integers(1, 1 + 10 * (seed + 1), 20) for seed in range(5)}
LENGTHS |= {
    name: np.array(lengths)
    for name, lengths in {
        "one": [5],
        "one step": [1],
        "all 1": [1] * 9,
        "equal": [4] * 5,
        "two lengths": [7, 3, 7, 3, 3],
        "one long, many short": [1, 2, 30, 1, 1, 2],
        "rising": list(range(1, 12)),
    }.items()
}
lengths_of = pytest.mark.parametrize("lengths", LENGTHS.values(), ids=LENGTHS)
directions = pytest.mark.parametrize("reverse", [False, True], ids=["forward", "reverse"])


def planned(lengths, reverse):
    """Return the plan for one sequence to a row, and the rows of x that each is to read, in order."""
    N = len(lengths)
    start = np.arange(N) + ((lengths - 1) * N if reverse else 0)
    stride = -N if reverse else N
    reads = [[int(first + stride * k) for k in range(n)] for first, n in zip(start, lengths, strict=True)]
    for a in (start, lengths):
        a.flags.writeable = False
    return falling.plan(start, lengths, stride), reads


@directions
@lengths_of
def test_every_step_of_every_sequence_stands_exactly_once(lengths, reverse):
    order, reads = planned(lengths, reverse)
    S, R = len(lengths), int(lengths.sum())
    assert order.counts == [int((lengths > k).sum()) for k in range(lengths.max())]
    assert order.offsets == [0, *itertools.accumulate(order.counts)]
    assert (np.diff(lengths[order.order]) <= 0).all()
    assert sorted(order.source) == sorted(itertools.chain(*reads))
    rows = {sequence: [] for sequence in range(S)}
    for n, offset in zip(order.counts, order.offsets, strict=False):
        for place, sequence in enumerate(order.order[:n]):
            rows[int(sequence)].append(offset + place)
    for place, sequence in enumerate(order.order):
        own = rows[int(sequence)]
        assert order.source[own].tolist() == reads[sequence]
        assert order.before[own].tolist() == [place - S, *own[:-1]]
        assert order.last[sequence] == own[-1]
    assert len(order.source) == len(order.before) == R


@lengths_of
def test_the_chunks(lengths):
    order, _ = planned(lengths, False)
    T, S = len(order.counts), len(lengths)
    for (lo, hi), rows in itertools.product(itertools.combinations(range(T + 1), 2), (S, S + 3, 10 * S)):
        found = falling._chunks(lo, hi, order, rows)
        assert [a for a, _ in found] == [lo, *(b for _, b in found[:-1])]
        assert found[-1][1] == hi
        for a, b in found:
            assert order.offsets[b] - order.offsets[a] <= rows
            assert b == hi or order.offsets[b + 1] - order.offsets[a] > rows, "no longer than it must be"


@directions
@pytest.mark.parametrize("segment", [None, 4])
@pytest.mark.parametrize("activation", ACTIVATIONS.values(), ids=ACTIVATIONS)
def test_each_sequence_is_as_it_is_alone(activation, segment, reverse, monkeypatch):
    """In chunks of few steps, the padding full of NaN, against the kernel for rows of one length."""
    monkeypatch.setattr(falling, "chunk_length", lambda N, width, dtype: 2)
    rng, N, T, D, H = np.random.default_rng(0), 7, 11, 3, 4
    lengths = np.array([3, 11, 1, 7, 7, 10, 2])
    order, _ = planned(lengths, reverse)
    x, v = rng.standard_normal((T, N, D)), rng.standard_normal((T, N, H))
    for n, length in enumerate(lengths):
        x[length:, n] = v[length:, n] = np.nan
    h0, u = rng.standard_normal((2, N, H))
    W_xh, W_hh, _ = weights = rng.standard_normal((D, H)), rng.standard_normal((H, H)) / 2, rng.standard_normal(H)
    way = falling.Way(weights, activation, order, segment)
    outputs, final, kept = falling.forward(x, h0, way, True)
    d_x, d_h0, sums = falling.backward(v, u, kept, x.shape, way, W_xh.T.copy(), (True,) * 3)
    totals = [np.zeros_like(w) for w in weights]
    for n, length in enumerate(lengths):
        at, row = (slice(length), slice(n, n + 1)), slice(n, n + 1)
        states = elman.forward(x[at], h0[row], *weights, activation, reverse)
        g = elman.backward(v[at], u[row], states, x[at], W_xh, W_hh, activation, reverse)
        pairs = [(outputs[at], elman.outputs(states, reverse)), (final[row], elman.final(states, reverse))]
        for found, alone in [*pairs, (d_x[at], g.x), (d_h0[row], g.h0)]:
            np.testing.assert_allclose(found, alone, rtol=0, atol=1e-12 * max(1, np.abs(alone).max()))
        assert not outputs[length:, n].any()
        assert not d_x[length:, n].any()
        totals = [a + b for a, b in zip(totals, g[2:], strict=True)]
    for found, total in zip((sums.W_xh, sums.W_hh, sums.b_h), totals, strict=True):
        np.testing.assert_allclose(found, total, rtol=0, atol=1e-12 * np.abs(total).max())


def test_without_backward_nothing_is_kept():
    order, _ = planned(np.array([2, 3]), False)
    way = falling.Way((np.ones((1, 4)), np.eye(4), None), ACTIVATIONS["tanh"], order)
    _, _, kept = falling.forward(np.ones((3, 2, 1)), np.zeros((2, 4)), way, False)
    assert kept is None
