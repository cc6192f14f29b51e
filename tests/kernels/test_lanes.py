"""Sequences in lanes: each step of each once, in order, and what is told of the lanes is what happens in them."""

import itertools
from typing import Any, NamedTuple

import numpy as np
import pytest
from notes import noted

from minirnn.kernels import lanes
from minirnn.kernels.lanes import Lanes, pack


class Case(NamedTuple):
    """Sequences in the rows of (T, N): where each begins, and its length."""

    T: int
    N: int
    row: Any
    start: Any
    length: Any


def one_each(lengths):
    """Return rows that start at t = 0, in an order that tells nothing."""
    lengths = np.random.default_rng(len(lengths)).permutation(lengths)
    return Case(int(lengths.max()), len(lengths), np.arange(len(lengths)), np.zeros(len(lengths), int), lengths)


def several_to_a_row(seed, N, T, share):
    """Return rows that end somewhere, in which a new sequence begins at any step with a probability."""
    rng = np.random.default_rng(seed)
    found = []
    for n, end in enumerate(rng.integers(1, T + 1, N)):
        begins = np.flatnonzero(np.append(True, rng.random(end - 1) < share))
        found += [(n, a, b - a) for a, b in itertools.pairwise([*begins, end])]
    return Case(T, N, *np.array(found).T)


def drawn(seed):
    """Return N and T of any size, and lengths of one of several kinds."""
    rng = np.random.default_rng(seed)
    N, T = int(rng.integers(1, 151)), int(rng.integers(1, 101))
    kinds = [
        rng.integers(1, T + 1, N),
        rng.integers(max(1, 9 * T // 10), T + 1, N),
        np.minimum(rng.geometric(min(1, 8 / T), N), T),
        np.maximum(1, (T * rng.random(N) ** 4).astype(int)),
        rng.choice(rng.integers(1, T + 1, 3), N),
    ]
    return one_each(kinds[seed % len(kinds)])


CASES = {f"random {seed}": drawn(seed) for seed in range(10)}
CASES |= {
    f"several to a row {seed}": several_to_a_row(seed, N, T, share)
    for seed, (N, T, share) in enumerate([(1, 40, 0.2), (5, 30, 0.5), (30, 20, 0.1), (60, 50, 0.02), (9, 7, 1)])
}
CASES |= {
    name: one_each(np.array(lengths))
    for name, lengths in {
        "one": [5],
        "one step": [1],
        "all 1": [1] * 50,
        "8 equal": [6] * 8,
        "17 equal": [6] * 17,
        "33 equal": [50] * 33,
        "two lengths": [8] * 8 + [7] * 16,
        "one long, many short": [150] + [1, 2, 3] * 40,
        "one short, many long": [60] * 40 + [1],
        "powers of two": [2**k for k in range(9)] * 3,
        "rising": list(range(1, 100)),
        "halves and a whole": [20] * 31 + [40],
    }.items()
}
PLANS = {
    "as it comes": {"worth": 50},
    "idling": {"worth": 1e300},
    "cut": {"worth": 0},
    "blocks of 4": {"worth": 20, "block": 4},
    "blocks of 1, cut": {"worth": 0, "block": 1},
    "blocks of 1, idling": {"worth": 1e300, "block": 1},
    "segments": {"worth": 20, "segment": 7},
    "segments of 1": {"worth": 0, "segment": 1},
    "a segment of more than all": {"worth": 0, "segment": 1000},
}
plans = pytest.mark.parametrize("options", PLANS.values(), ids=PLANS)


def packed(case, reverse=False, worth=50, **options):
    """Return the plan, and the rows of x that each sequence is to read, in order."""
    first = (case.start + case.length - 1 if reverse else case.start) * case.N + case.row
    stride, nowhere = -case.N if reverse else case.N, case.T * case.N
    lengths = case.length.copy()
    for a in (first, lengths):
        a.flags.writeable = False
    plan = pack(first, lengths, stride, nowhere, worth, **options)
    reads = [[int(row + stride * k) for k in range(n)] for row, n in zip(first, lengths, strict=True)]
    return plan, reads, nowhere


def loads(plan, nowhere):
    """Return how many steps of sequences each lane has."""
    return (plan.target != nowhere).sum(axis=0)


class Lane:
    """What is in one lane: a sequence, or −1 where it idles; and the state there, as (sequence, steps made)."""

    def __init__(self, sequence):
        self.sequence, self.state = sequence, (sequence, 0)


def replay(plan: Lanes, reads, nowhere):
    """Go through the steps as the unroll does, with states that only say whose they are and how old.

    Every piece begins with the lanes that it names, and ends with those; a switch finds what it says; no sequence is
    left before its end, none begins twice; what idles is a double of lane 0; and every step reads and writes the
    row that is its turn.
    """
    source, target = plan.source.tolist(), plan.target.tolist()
    begun, ended = [], []

    def end(lane):
        if lane.sequence >= 0:
            assert lane.state == (lane.sequence, len(reads[lane.sequence])), "it is at its end"
            ended.append(lane.sequence)

    now = [Lane(sequence) for sequence in plan.pieces[0].first]
    begun += plan.pieces[0].first
    assert all(sequence >= 0 for sequence in begun), "at first no lane idles"
    k = 0
    for piece in plan.pieces:
        assert piece.lo == k
        assert piece.hi > k
        for lane in now[len(piece.first) :]:
            end(lane)
        now = now[: len(piece.first)]
        assert [lane.sequence for lane in now] == piece.first
        switches = list(piece.switches)
        assert all(0 <= s.k < piece.hi - piece.lo for s in switches)
        for k in range(piece.lo, piece.hi):
            while switches and switches[0].k == k - piece.lo:
                _, at, old, new = switches.pop(0)
                lane = now[at]
                assert lane.sequence == old
                end(lane)
                lane.sequence, lane.state = new, (new, 0) if new >= 0 else now[0].state
                begun += [new] * (new >= 0)
            for at, lane in enumerate(now):
                whose, made = lane.state
                if lane.sequence < 0:
                    assert lane.state == now[0].state
                    assert target[k][at] == nowhere
                    assert source[k][at] == source[k][0]
                else:
                    assert whose == lane.sequence
                    assert source[k][at] == target[k][at] == reads[whose][made]
            for lane in now:
                lane.state = lane.state[0], lane.state[1] + 1
        assert not switches, "they are in the order of k"
        assert [lane.sequence for lane in now] == piece.last
        k = piece.hi
    for lane in now:
        end(lane)
    assert k == len(target)
    everything = list(range(len(reads)))
    assert sorted(begun) == sorted(ended) == everything


@plans
def test_what_is_told_of_the_lanes_happens_in_them(options):
    """And what is not in use is told to be a double of the first lane."""
    for (name, case), reverse in itertools.product(CASES.items(), (False, True)):
        with noted((name, reverse)):
            plan, reads, nowhere = packed(case, reverse, **options)
            replay(plan, reads, nowhere)
            assert plan.source.shape == plan.target.shape == (plan.pieces[-1].hi, len(plan.pieces[0].first))
            for piece in plan.pieces:
                beyond = plan.target[piece.lo : piece.hi, len(piece.first) :]
                assert (beyond == nowhere).all(), "a lane is given up when there is nothing left in it"
            idle = plan.target == nowhere
            np.testing.assert_array_equal(plan.source[idle], np.broadcast_to(plan.source[:, :1], idle.shape)[idle])
            if reverse:
                assert plan.pieces == packed(case, **options)[0].pieces


@plans
def test_the_lanes(options):
    """Their number is a multiple of the block; loads fall; each idles at the end only, and only when nothing waits."""
    block = options.get("block", 8)
    for name, case in CASES.items():
        with noted(name):
            plan, reads, nowhere = packed(case, **options)
            width, found = len(plan.pieces[0].first), loads(plan, nowhere)
            assert width % block == 0 or width == len(reads)
            assert (np.diff(found) <= 0).all()
            assert found[0] == len(plan.target)
            assert ((plan.target != nowhere) == (np.arange(len(plan.target))[:, None] < found)).all()
            begins = [p.lo + s.k for p in plan.pieces for s in p.switches if s.new >= 0]
            assert found.min() >= max(begins, default=0)
            assert all(len(piece.first) % block == 0 or len(piece.first) == width for piece in plan.pieces)


@pytest.mark.parametrize("block", [4, 8])
def test_how_long_the_lanes_become(block):
    """Never much more than twice as long as the longest; and no longer than that if there is a lane for each."""
    for name, case in CASES.items():
        with noted(name):
            plan, _, _ = packed(case, block=block)
            assert len(plan.target) <= (lanes.LONGER + 1) * case.length.max()
            assert len(case.length) > block or len(plan.target) == case.length.max()


@plans
def test_the_pieces(options):
    """They follow each other with ever fewer lanes, the first of them, and each change is worth it."""
    segment, block = options.get("segment"), options.get("block", 8)
    for name, case in CASES.items():
        with noted(name):
            plan, _, nowhere = packed(case, **options)
            T, found = len(plan.target), loads(plan, nowhere)
            for one, two in itertools.pairwise(plan.pieces):
                fewer = len(one.first) - len(two.first)
                assert fewer >= 0
                if fewer:
                    assert fewer * (T - two.lo) > options["worth"]
                    assert found[len(two.first)] == two.lo, "as soon as the lane can be given up"
                else:
                    assert segment is not None
                    assert two.lo % segment == 0
            if options["worth"] == 0:  # as few lanes as there can be, at every step
                for piece in plan.pieces:
                    needed = (found > piece.lo).sum()
                    assert len(piece.first) == min(-(-needed // block) * block, len(found))
            assert options["worth"] < 1e9 or len(plan.pieces) == 1


@pytest.mark.parametrize(("kind", "most"), [("uniform", 1.2), ("close together", 1.3), ("geometric", 1.45)])
def test_the_cost_follows_the_sum_of_the_lengths(kind, most):
    """Lanes times steps, over the sum of 32 lengths or more, where lanes are given up early and where they are not.

    The more often a length is the longest, or near it, the less there is to fill up what is left.
    """
    draw = {
        "uniform": lambda rng, N, T: rng.integers(1, T + 1, N),
        "close together": lambda rng, N, T: rng.integers(9 * T // 10, T + 1, N),
        "geometric": lambda rng, N, T: np.minimum(rng.geometric(5 / T, N), T),
    }[kind]
    for seed in range(10):
        rng = np.random.default_rng([seed, len(kind)])
        N, T = int(rng.integers(32, 201)), int(rng.integers(20, 301))
        lengths = draw(rng, N, T)
        for worth in (0, T):
            plan, _, _ = packed(one_each(lengths), worth=worth)
            cost = sum((p.hi - p.lo) * len(p.first) for p in plan.pieces)
            assert lengths.sum() <= cost <= most * lengths.sum()
