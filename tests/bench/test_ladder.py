import numpy as np
import pytest
from numpy.testing import assert_allclose

from minirnn import textbook
from minirnn.bench import ladder
from minirnn.bench.cells import KINDS, Trial, UnequalResultsError
from minirnn.bench.rows import Row, Settings
from minirnn.bench.shapes import Shape
from minirnn.layers import threads

SHAPE = Shape(3, 5, 2, 4)
SLOW = ["neuron by neuron", "instance by instance"]
LAYERS = ["mini-batch, graph", "mini-batch, fused", "fused, 2 threads"]


def test_the_slow_loops_are_the_textbook():
    rng = np.random.default_rng(0)
    x, *weights = (rng.normal(size=size) for size in ((5, 3, 2), (2, 4), (4, 4), (4,)))
    expected = textbook.unroll(textbook.layer_step_batch, x, np.zeros((3, 4)), *weights)
    assert_allclose(ladder.neuron_by_neuron(x, *weights), expected, rtol=1e-12)
    assert_allclose(ladder.by_instance(x, *weights), expected, rtol=1e-12)


@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_the_row_by_row_loop_is_the_textbook(cell):
    trial = Trial(SHAPE, "float64", cell)
    x = trial.inputs[0].data
    assert_allclose(ladder.row_by_row(trial.kind, x, *trial.weights), trial.by_the_book(x), rtol=1e-12)


@pytest.mark.parametrize("cell", list(KINDS))
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_every_rung_forward_and_those_that_can_both_ways(dtype, cell):
    rows = ladder.measure([SHAPE], Settings(dtype, threads=2, turns=2, cell=cell))
    slow = SLOW if cell == "elman" else SLOW[1:]
    assert [row.key for row in rows] == [
        *(("ladder", name, "forward", SHAPE, "s", cell) for name in slow + LAYERS),
        *(("ladder", name, "both ways", SHAPE, "s", cell) for name in LAYERS),
    ]
    assert all([len(run) for run in row.values] == [2] for row in rows)


def test_on_one_thread_there_is_no_rung_with_threads():
    rows = ladder.measure([SHAPE], Settings(turns=2))
    assert list(dict.fromkeys(row.contestant for row in rows)) == SLOW + LAYERS[:2]


def test_each_rung_has_its_own_number_of_threads(monkeypatch):
    seen = set()
    infer = Trial.infer
    monkeypatch.setattr(Trial, "infer", lambda self: seen.add((id(self), threads.get_num_threads())) or infer(self))
    ladder.measure([SHAPE], Settings(threads=2, turns=2))
    assert sorted(n for _, n in seen) == [1, 1, 2]


def test_the_slow_rungs_take_fewer_steps(monkeypatch):
    monkeypatch.setattr(ladder, "_CALLS", 9)
    rows = ladder.measure([SHAPE], Settings(turns=2))
    assert [row.shape.T for row in rows] == [1, 3, 5, 5, 5, 5]


def wrong_loop(*arguments):
    return 1.001 * ladder.by_instance(*arguments)


@pytest.mark.parametrize("loop", ["neuron_by_neuron", "by_instance"])
def test_a_slow_rung_that_is_wrong_is_not_timed(monkeypatch, loop):
    monkeypatch.setattr(ladder, loop, wrong_loop if loop == "neuron_by_neuron" else lambda *a: np.zeros((5, 3, 4)))
    monkeypatch.setattr(ladder, "take_turns", lambda *_, **__: pytest.fail("it was timed"))
    name = SLOW[loop == "by_instance"]
    with pytest.raises(UnequalResultsError, match=f"^bench: {name}: outputs must be the textbook's"):
        ladder.measure([SHAPE], Settings(turns=2))


def test_the_slow_rung_of_a_layer_with_gates_is_not_timed_when_it_is_wrong(monkeypatch):
    monkeypatch.setattr(ladder, "row_by_row", lambda *_: np.zeros((5, 3, 4)))
    monkeypatch.setattr(ladder, "take_turns", lambda *_, **__: pytest.fail("it was timed"))
    with pytest.raises(UnequalResultsError, match=r"^bench: instance by instance: outputs must be "):
        ladder.measure([SHAPE], Settings(turns=2, cell="gru"))


def test_the_note_says_what_the_slow_rungs_are():
    said = {cell: ladder.note(kind) for cell, kind in KINDS.items()}
    assert "The first two are textbook.neuron_step and textbook.layer_step_instance, in" in said["elman"]
    assert "The first is textbook.lstm_step, a row at a time, in" in said["lstm"]
    assert "The first is textbook.gru_step, a row at a time, in" in said["gru"]


@pytest.mark.parametrize("name", LAYERS)
def test_a_layer_that_is_wrong_is_not_timed(monkeypatch, name):
    check = Trial.check

    def changed(self, rung):
        if rung == name:
            self.layer.forward = lambda x, forward=self.layer.forward: forward(2.0 * x)
        check(self, rung)

    monkeypatch.setattr(Trial, "check", changed)
    monkeypatch.setattr(ladder, "take_turns", lambda *_, **__: pytest.fail("it was timed"))
    with pytest.raises(UnequalResultsError, match=f"^bench: {name}: outputs must be the textbook's"):
        ladder.measure([SHAPE], Settings(threads=2, turns=2))


def test_the_table_has_microseconds_a_step_and_the_factor_over_the_line_before():
    def row(contestant, what, T, *seconds):
        return Row("ladder", contestant, what, SHAPE._replace(T=T), "s", [list(seconds)])

    rows = [
        row("neuron by neuron", "forward", 2, 20e-3, 20e-3),
        row("mini-batch, graph", "forward", 5, 5e-4, 5e-4),
        row("mini-batch, fused", "forward", 5, 2e-4, 2e-4),
        row("mini-batch, graph", "both ways", 5, 2e-3, 2e-3),
        row("mini-batch, fused", "both ways", 5, 4e-4, 4e-4),
    ]
    assert ladder.report([rows]).splitlines() == [
        "N,T,D,H = 3,5,2,4, µs a step:",
        "",
        "|                   |    forward |    × | both ways |    × |",
        "| ----------------- | ---------: | ---: | --------: | ---: |",
        "| neuron by neuron  | 10,000 ±0% |      |           |      |",
        "| mini-batch, graph |    100 ±0% |  100 |   400 ±0% |      |",
        "| mini-batch, fused |   40.0 ±0% | 2.50 |  80.0 ±0% | 5.00 |",
    ]


def test_one_ladder_for_each_shape():
    assert ladder.plan([], {}) == [[ladder.DEFAULT]]
    assert ladder.plan([SHAPE, Shape(1, 1, 1, 1)], {}) == [[SHAPE], [Shape(1, 1, 1, 1)]]
