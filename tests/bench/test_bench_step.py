"""``minirnn bench step``: the parts of a step, what is counted of them, and the table."""

import tracemalloc

import numpy as np
import pytest
from numpy.testing import assert_array_equal

import minirnn as mr
from minirnn.bench import rows, step
from minirnn.bench.cells import KINDS, Shape, Trial, UnequalResultsError
from minirnn.bench.rows import Row, Settings

SHAPE = Shape(3, 5, 2, 4)


@pytest.mark.parametrize(("cell", "dtype"), [("elman", "float32"), ("lstm", "float64"), ("gru", "float32")])
def test_the_rows_of_a_step(cell, dtype, monkeypatch):
    monkeypatch.setattr(step, "_ENOUGH", 1e-3)
    found = step.measure([SHAPE], Settings(dtype, turns=2, cell=cell))
    times = [(name, "time", "s") for name in (*step.PARTS, step.SUM, step.WHOLE)]
    others = [(name, what, unit) for what, unit in (("calls", ""), ("peak", "bytes"), ("kept", "bytes"))
              for name in step.PARTS]  # fmt: skip
    assert [row.key for row in found] == [
        ("step", name, what, SHAPE, unit, cell) for name, what, unit in [*times, *others]
    ]
    own = {(row.contestant, row.what): row.values[0] for row in found}
    for turn in range(2):
        assert own[step.SUM, "time"][turn] == pytest.approx(sum(own[name, "time"][turn] for name in step.PARTS))
    assert all(own[name, "calls"][0] > 0 for name in step.PARTS)
    assert own["forward", "kept"][0] > SHAPE.T * SHAPE.N * SHAPE.H * np.dtype(dtype).itemsize
    assert own["backward", "kept"][0] < 0, "the activations are let go"
    assert not tracemalloc.is_tracing()


def test_a_step_is_what_a_user_writes():
    trial = Trial(SHAPE, "float64", "lstm")
    training = step.Training(trial)
    state, batches = training.model.state_dict(), []
    taken = training.data
    training.parts[0] = lambda: (taken(), batches.append((training._x, training._y)))
    training.step()
    assert all(seconds > 0 for seconds in training.ticks())

    model = mr.SequenceModel(mr.LSTMLayer(2, 4, dtype="float64"), mr.Linear(4, 1, dtype="float64"), readout="last")
    model.load_state_dict(state)
    adam = mr.optim.Adam(model.parameters(), lr=1e-4)
    for x, y in batches:
        loss = mr.losses.mse(model(x)[0], y)
        loss.backward()
        mr.optim.clip_grad_norm(model.parameters(), 1.0)
        adam.step()
        adam.zero_grad()
    assert training.loss_of_step == loss.item()
    for ours, theirs in zip(training.parameters, model.parameters(), strict=True):
        assert_array_equal(ours.data, theirs.data)


def test_a_layer_that_is_wrong_is_not_taken_apart(monkeypatch):
    monkeypatch.setattr(rows, "take_turns", lambda *_, **__: pytest.fail("it was timed"))
    forward = mr.RecurrentLayer.forward
    monkeypatch.setattr(mr.RecurrentLayer, "forward", lambda self, x: forward(self, 2.0 * x))
    with pytest.raises(UnequalResultsError, match=r"^bench: the layer: outputs must be the textbook's"):
        step.measure([SHAPE], Settings(turns=2))


def test_calls_are_those_of_python_and_of_numpy_but_no_operators():
    a, add = np.ones(3), np.add

    def inner(*numbers):
        len(numbers)

    def outer():
        inner()  # and len
        add(a, a, a)
        a.dot(a)
        inner(*[1, 2], **{})  # and len
        a + a
        a[0]

    assert step.count_calls(outer) == 6
    assert step.count_calls(lambda: None) == 0


def test_calls_of_an_error_leave_no_trace():
    import sys

    before = sys.gettrace()
    with pytest.raises(ZeroDivisionError):
        step.count_calls(lambda: 1 / 0)
    assert sys.gettrace() is before


def test_operations_are_those_of_the_products():
    # x (5·3, 2) and h with W (2 + 4, 4·4), and the head (3, 4) (4, 1); backward without the gradient of x
    assert step.flops(SHAPE, 4) == {
        "forward": 2 * 15 * 16 * 6 + 2 * 12,
        "backward": 2 * 15 * 16 * (2 + 4 + 4) + 2 * 24,
    }


def test_the_table_of_a_step():
    def row(name, what, unit, value):
        return Row("step", name, what, SHAPE, unit, [[value] * 2])

    times = (1e-6, 10e-6, 2e-6, 20e-6, 3e-6, 4e-6, 40e-6, 50e-6)
    found = [row(n, "time", "s", s) for n, s in zip((*step.PARTS, step.SUM, step.WHOLE), times, strict=True)]
    found += [row(name, "calls", "", 1000 * i) for i, name in enumerate(step.PARTS, 1)]
    found += [row(name, "peak", "bytes", 1000) for name in step.PARTS]
    found += [row(name, "kept", "bytes", -2000 if name == "backward" else 10) for name in step.PARTS]
    assert step.report([found]).splitlines() == [
        "N,T,D,H = 3,5,2,4:",
        "",
        "|            |        time |     |  calls | GFLOP/s |    peak |     kept |",
        "| ---------- | ----------: | --: | -----: | ------: | ------: | -------: |",
        "| data       | 1.00 µs ±0% |  2% |  1,000 |         | 1.00 kB |   10.0 B |",
        "| forward    | 10.0 µs ±0% | 25% |  2,000 |    0.07 | 1.00 kB |   10.0 B |",
        "| loss       | 2.00 µs ±0% |  5% |  3,000 |         | 1.00 kB |   10.0 B |",
        "| backward   | 20.0 µs ±0% | 50% |  4,000 |    0.06 | 1.00 kB | −2.00 kB |",
        "| clip       | 3.00 µs ±0% |  8% |  5,000 |         | 1.00 kB |   10.0 B |",
        "| optimiser  | 4.00 µs ±0% | 10% |  6,000 |         | 1.00 kB |   10.0 B |",
        "| whole step | 50.0 µs ±0% |     | 21,000 |    0.04 |         |          |",
        "",
        "The parts add up to 40.0 µs, 0.80 of the whole step.",
    ]
    assert found[8].median == "1,000"


def test_the_usual_shapes_and_the_note():
    assert step.plan([], {}) == [[(32, 50, 10, 20)], [(16, 100, 2, 100)]]
    assert step.plan([SHAPE], {}) == [[SHAPE]]
    assert step.note(KINDS["gru"]).startswith("A training step of GRULayer with a head on its last state. ")
