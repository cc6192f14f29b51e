"""The four sections of ``minirnn bench``: what they measure, what they refuse to time, and their tables."""

import tracemalloc

import numpy as np
import pytest
from numpy.testing import assert_allclose

from minirnn import textbook
from minirnn.bench import grid, ladder, memory, rows, scaling
from minirnn.bench.cells import KINDS, Shape, Trial, UnequalResultsError
from minirnn.bench.rows import Row, Settings
from minirnn.layers import threads

SHAPE = Shape(3, 5, 2, 4)
LONGER = Shape(4, 60, 3, 16)
SWEEP = [Shape(1, T, 3, 4) for T in (2, 4, 8)]
SLOW = ["neuron by neuron", "instance by instance"]
LAYERS = ["mini-batch, graph", "mini-batch, fused", "fused, 2 threads"]
IN_GRID = [
    ("layer", "first call"),
    ("layer", "forward"),
    ("layer", "backward"),
    ("layer", "update"),
    ("floor", "forward"),
    ("floor", "both ways"),
]
IN_MEMORY = [
    ("one array", "(T,N,H)"),
    ("remat=False", "kept"),
    ("remat=False", "peak"),
    ("remat=True", "kept"),
    ("remat=True", "peak"),
]


@pytest.fixture
def seen(monkeypatch):
    """What is timed, and on how many threads: gives the list that it goes to."""
    calls = []

    def take_turns(contestants, before, **_):
        for contestant, run in contestants.items():
            before(contestant)
            calls.append((contestant.name, contestant.what, threads.get_num_threads()))
            run()
        return {contestant: [[1e-3, 1e-3]] for contestant in contestants}

    monkeypatch.setattr(rows, "take_turns", take_turns)
    return calls


@pytest.fixture
def wrong(monkeypatch):
    """Make the layers wrong that a condition on (trial, name) picks, and let nothing be timed."""
    monkeypatch.setattr(rows, "take_turns", lambda *_, **__: pytest.fail("it was timed"))

    def of(condition):
        check = Trial.check

        def changed(self, name):
            if condition(self, name):
                self.layer.forward = lambda x, forward=self.layer.forward: forward(2.0 * x)
            check(self, name)

        monkeypatch.setattr(Trial, "check", changed)

    return of


# --- what is measured -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("cell", "dtype"), [("elman", "float64"), ("lstm", "float32"), ("gru", "float64")])
def test_the_rows_of_each_section(cell, dtype):
    settings = Settings(dtype, threads=2, turns=2, cell=cell)
    slow = SLOW if cell == "elman" else SLOW[1:]
    expected = [(name, "forward") for name in slow + LAYERS] + [(name, "both ways") for name in LAYERS]
    found = ladder.measure([SHAPE], settings)
    assert [row.key for row in found] == [("ladder", *key, SHAPE, "s", cell) for key in expected]
    assert all([len(run) for run in row.values] == [2] for row in found)
    found = grid.measure([SHAPE], settings)
    assert [row.key for row in found] == [("grid", *key, SHAPE, "s", cell) for key in IN_GRID]
    assert [[len(run) for run in row.values] for row in found] == [[1]] + [[2]] * 5
    found = scaling.measure(SWEEP, settings)
    assert [row.key for row in found] == [("scaling", "against T", "both ways", shape, "s", cell) for shape in SWEEP]
    found = memory.measure([LONGER], settings)
    assert [row.key for row in found] == [("memory", *key, LONGER, "bytes", cell) for key in IN_MEMORY]
    array, saved, peak, saved_by_remat, peak_by_remat = (row.values[0][0] for row in found)
    assert array == 60 * 4 * 16 * np.dtype(dtype).itemsize
    assert saved >= array * (1 if cell == "elman" else 3)  # the gates too
    assert saved_by_remat < (array if cell == "elman" else saved / 2)
    assert min(peak, peak_by_remat) > array
    assert not tracemalloc.is_tracing()


def test_each_has_its_own_number_of_threads(seen):
    ladder.measure([SHAPE], Settings(threads=2, turns=2))
    assert {name: n for name, _, n in seen} == dict.fromkeys(SLOW + LAYERS[:2], 1) | {LAYERS[2]: 2}
    seen.clear()
    grid.measure([SHAPE], Settings(threads=2, turns=2))
    assert [(name, n) for name, _, n in seen] == [("layer", 2)] * 3 + [("floor", 1)] * 2
    seen.clear()
    ladder.measure([SHAPE], Settings(turns=2))
    assert [name for name, what, _ in seen if what == "forward"] == SLOW + LAYERS[:2], "no rung with threads"


def test_turns_are_those_asked_for_or_as_many_as_fit(monkeypatch):
    asked = []
    monkeypatch.setattr(rows, "take_turns", lambda _, /, before, **how: asked.append(how) or {})
    scaling.measure(SWEEP, Settings(turns=7))
    scaling.measure(SWEEP, Settings())
    grid.measure([SHAPE], Settings())
    ladder.measure([SHAPE], Settings())
    assert asked[0] == {"turns": 7, "runs": 1, "warm_up": 1}
    assert [how["seconds"] for how in asked[1:]] == [2.5, 1.0, 6.0]


def test_the_floor_has_the_gates_of_the_layer(monkeypatch, seen):
    made = []
    floor = grid.Floor
    monkeypatch.setattr(grid, "Floor", lambda *given: made.append(given[-1]) or floor(*given))
    for cell in KINDS:
        grid.measure([SHAPE], Settings(turns=2, cell=cell))
    assert made == [1, 4, 3]


def test_each_size_runs_once_untimed_before_its_turn(monkeypatch):
    monkeypatch.setattr(scaling, "_WARM", 1e-9)
    sizes = []
    both_ways = Trial.both_ways
    monkeypatch.setattr(Trial, "both_ways", lambda self: sizes.append(self.shape.T) or both_ways(self))
    scaling.measure(SWEEP, Settings(turns=2))
    assert sizes == [2, 2, 4, 4, 8, 8] * 3  # a warm-up and two turns


# --- the slow rungs ---------------------------------------------------------------------------------------------------


def test_the_slow_loops_are_the_textbook():
    rng = np.random.default_rng(0)
    x, *weights = (rng.normal(size=size) for size in ((5, 3, 2), (2, 4), (4, 4), (4,)))
    expected = textbook.unroll(textbook.layer_step_batch, x, np.zeros((3, 4)), *weights)
    assert_allclose(ladder.neuron_by_neuron(x, *weights), expected, rtol=1e-12)
    assert_allclose(ladder.by_instance(x, *weights), expected, rtol=1e-12)
    for cell in ("lstm", "gru"):
        trial = Trial(SHAPE, "float64", cell)
        x = trial.inputs[0].data
        assert_allclose(ladder.row_by_row(trial.kind, x, *trial.weights), trial.by_the_book(x), rtol=1e-12)


def test_the_slow_rungs_take_fewer_steps(monkeypatch, seen):
    monkeypatch.setattr(ladder, "_CALLS", 9)
    found = ladder.measure([SHAPE], Settings(turns=2))
    assert [row.shape.T for row in found] == [1, 3, 5, 5, 5, 5]


# --- what is wrong is not timed ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("loop", "cell", "name"),
    [("neuron_by_neuron", "elman", SLOW[0]), ("by_instance", "elman", SLOW[1]), ("row_by_row", "gru", SLOW[1])],
)
def test_a_slow_rung_that_is_wrong(monkeypatch, wrong, loop, cell, name):
    monkeypatch.setattr(ladder, loop, lambda *_: np.zeros((5, 3, 4)))
    with pytest.raises(UnequalResultsError, match=f"^bench: {name}: outputs must be the textbook's"):
        ladder.measure([SHAPE], Settings(turns=2, cell=cell))


@pytest.mark.parametrize(
    ("section", "job", "condition", "name"),
    [
        *((ladder, [SHAPE], lambda trial, name, rung=rung: name == rung, rung) for rung in LAYERS),
        (grid, [SHAPE], lambda *_: True, "the layer"),
        (scaling, SWEEP, lambda trial, _: trial.shape.T == 4, "the layer"),
        (memory, [SHAPE], lambda trial, _: trial.layer.remat, "the layer with remat=True"),
    ],
)
def test_a_layer_that_is_wrong(wrong, section, job, condition, name):
    wrong(condition)
    with pytest.raises(UnequalResultsError, match=f"^bench: {name}: outputs must be the textbook's"):
        section.measure(job, Settings(threads=2, turns=2))


# --- what is planned --------------------------------------------------------------------------------------------------


def test_the_usual_shapes():
    assert ladder.plan([], {}) == [[(32, 100, 64, 128)]]
    assert ladder._CALLS == 8192
    assert grid.plan([], {}) == [
        [(1, 50, 10, 20)],
        [(32, 50, 10, 20)],
        [(16, 400, 2, 100)],
        [(32, 784, 1, 100)],
        [(256, 50, 64, 64)],
        [(32, 100, 64, 128)],
        [(64, 100, 128, 256)],
        [(128, 64, 256, 512)],
    ]
    assert scaling.plan([], {}) == [
        [(1, T, 10, 16) for T in (100, 1_000, 10_000, 100_000)],
        [(N, 50, 10, 64) for N in (1, 4, 16, 64, 256, 1024)],
        [(32, 50, 10, H) for H in (16, 32, 64, 128, 256, 512)],
    ]
    assert memory.plan([], {}) == [[(16, T, 10, 64)] for T in (100, 400, 1600, 6400)]


def test_shapes_and_sweeps_that_are_asked_for():
    two = [SHAPE, Shape(1, 1, 1, 1)]
    assert ladder.plan(two, {}) == grid.plan(two, {}) == [[SHAPE], [two[1]]]
    jobs = scaling.plan([Shape(2, 8, 3, 4)], {})
    assert jobs[0] == [(2, T, 3, 4) for T in (2, 4, 8, 16, 32)]
    assert jobs[1] == [(N, 8, 3, 4) for N in (1, 2, 4, 8)]  # a quarter of 2 is 1 too
    assert jobs[2] == [(2, 8, 3, H) for H in (1, 2, 4, 8, 16)]
    assert scaling.plan([], {"T": [10, 20]}) == [[(1, 10, 10, 16), (1, 20, 10, 16)]]
    assert scaling.plan([Shape(2, 8, 3, 4)], {"D": [1, 5]}) == [[(2, 8, 1, 4), (2, 8, 5, 4)]]
    assert [shape.D for shape in scaling.plan([], {"D": [1, 5]})[0]] == [1, 5]
    assert [job[0].T for job in memory.plan([], {"T": [5, 6], "N": [1, 2]})] == [5, 6]
    assert memory.plan([LONGER], {}) == [[LONGER._replace(T=T)] for T in (15, 60, 240)]


# --- tables -----------------------------------------------------------------------------------------------------------


def test_the_ladder_has_microseconds_a_step_and_the_factor_over_the_line_before():
    def row(contestant, what, T, seconds):
        return Row("ladder", contestant, what, SHAPE._replace(T=T), "s", [[seconds] * 2])

    found = [
        row("neuron by neuron", "forward", 2, 20e-3),
        row("mini-batch, graph", "forward", 5, 5e-4),
        row("mini-batch, fused", "forward", 5, 2e-4),
        row("mini-batch, graph", "both ways", 5, 2e-3),
        row("mini-batch, fused", "both ways", 5, 4e-4),
    ]
    assert ladder.report([found]).splitlines() == [
        "N,T,D,H = 3,5,2,4, µs a step:",
        "",
        "|                   |    forward |    × | both ways |    × |",
        "| ----------------- | ---------: | ---: | --------: | ---: |",
        "| neuron by neuron  | 10,000 ±0% |      |           |      |",
        "| mini-batch, graph |    100 ±0% |  100 |   400 ±0% |      |",
        "| mini-batch, fused |   40.0 ±0% | 2.50 |  80.0 ±0% | 5.00 |",
    ]


def test_the_grid():
    seconds = [1e-3, 10e-6, 20e-6, 30e-6, 5e-6, 20e-6]
    found = [Row("grid", *key, SHAPE, "s", [[own] * 2]) for key, own in zip(IN_GRID, seconds, strict=True)]
    # 2·T·N·H·(D + H) = 720 operations in 10 µs, 1440 in 20 µs; 3 sequences in 60 µs.
    assert grid.report([found]).splitlines() == [
        "| N,T,D,H |     forward |    backward |      update | first call |",
        "| ------- | ----------: | ----------: | ----------: | ---------: |",
        "| 3,5,2,4 | 10.0 µs ±0% | 20.0 µs ±0% | 30.0 µs ±0% |    1.00 ms |",
        "",
        "| N,T,D,H | GFLOP/s fwd |  bwd |  seq/s | × floor fwd | both ways |",
        "| ------- | ----------: | ---: | -----: | ----------: | --------: |",
        "| 3,5,2,4 |        0.07 | 0.07 | 50,000 |        2.00 |      1.50 |",
    ]
    gated = grid.report([[row._replace(cell="lstm") for row in found]])
    assert gated.splitlines()[-1].startswith("| 3,5,2,4 |        0.29 | 0.29 |")  # four times the operations


def test_scaling():
    seconds = (1e-3, 2e-3, 8e-3)
    found = [Row("scaling", "", "both ways", s, "s", [[own] * 2]) for s, own in zip(SWEEP, seconds, strict=True)]
    assert scaling.report([found]).splitlines() == [
        "Against T, with N = 1, D = 3, H = 4: fitted slope 1.50",
        "",
        "| T |   both ways | time / T | slope |",
        "| - | ----------: | -------: | ----: |",
        "| 2 | 1.00 ms ±0% |   500 µs |       |",
        "| 4 | 2.00 ms ±0% |   500 µs |  1.00 |",
        "| 8 | 8.00 ms ±0% |  1.00 ms |  2.00 |",
    ]


def test_the_slope_is_fitted_by_least_squares():
    assert scaling.slope([1, 10, 100], [1, 100, 100]) == pytest.approx(1.0)  # local slopes 2 and 0
    sizes = [10, 50, 300, 7000]
    assert scaling.slope(sizes, [3e-6 * size**1.5 for size in sizes]) == pytest.approx(1.5, abs=1e-12)


def test_memory():
    numbers = (1000, 1100, 3000, 200, 4000)
    found = [Row("memory", *key, LONGER, "bytes", [[own]]) for key, own in zip(IN_MEMORY, numbers, strict=True)]
    assert memory.report([found]).splitlines() == [
        "| N,T,D,H   |             |    kept | arrays |    peak | arrays |",
        "| --------- | ----------: | ------: | -----: | ------: | -----: |",
        "| 4,60,3,16 | remat=False | 1.10 kB |   1.10 | 3.00 kB |   3.00 |",
        "| 4,60,3,16 |  remat=True |   200 B |   0.20 | 4.00 kB |   4.00 |",
    ]


def test_the_note_says_what_the_slow_rungs_are():
    said = {cell: ladder.note(kind) for cell, kind in KINDS.items()}
    assert "The first two are textbook.neuron_step and textbook.layer_step_instance, in" in said["elman"]
    assert "The first is textbook.lstm_step, a row at a time, in" in said["lstm"]
    assert "The first is textbook.gru_step, a row at a time, in" in said["gru"]
