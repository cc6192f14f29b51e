"""Sequences by falling length: where each step stands. The numbers, test_unroll.py checks."""

import itertools

import numpy as np
import pytest

from minirnn.kernels import falling

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


def planned(lengths, reverse):
    """Return the plan for one sequence to a row, and the rows of x that each is to read, in order."""
    N = len(lengths)
    start = np.arange(N) + ((lengths - 1) * N if reverse else 0)
    stride = -N if reverse else N
    reads = [[int(first + stride * k) for k in range(n)] for first, n in zip(start, lengths, strict=True)]
    for a in (start, lengths):
        a.flags.writeable = False
    return falling.plan(start, lengths, stride), reads


@pytest.mark.parametrize("reverse", [False, True], ids=["forward", "reverse"])
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
