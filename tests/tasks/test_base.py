"""What every task has, and what every task of sequences does."""

import itertools
import math
import pickle
import subprocess
import sys

import numpy as np
import pytest
from cases import built, scores_of
from error_texts import raises

from minirnn import Tensor, losses, tasks
from minirnn.tasks import (
    TASKS,
    AddingTask,
    CopyTask,
    Defaults,
    DigitsTask,
    EchoTask,
    ParityTask,
    RaggedAddingTask,
    SequenceTask,
    SineTask,
    SunspotsTask,
    TemporalOrderTask,
)
from minirnn.tasks.recorded import RecordedTask

SEQUENCES = [name for name, task in TASKS.items() if issubclass(task, SequenceTask)]
DRAWN = [name for name in SEQUENCES if not issubclass(TASKS[name], RecordedTask)]


def assert_same(one, other):
    assert len(one) == len(other)
    for a, b in zip(one, other, strict=True):
        np.testing.assert_array_equal(a, b)


def differ(one, other):
    return any(a.shape != b.shape or (a != b).any() for a, b in zip(one, other, strict=True))


# --- what every task has ----------------------------------------------------------------------------------------------


def test_there_are_the_tasks_that_there_should_be():
    assert " ".join(TASKS) == (
        "adding adding-original adding-ragged multiplication copy temporal-order temporal-order-3 parity echo sine "
        "reber embedded-reber text digits sunspots vowels csv"
    )


def test_a_class_describes_itself():
    for name, task in TASKS.items():
        assert task.name == name
        for text in (task.description, task.source, task.rule, task.metric):
            assert text
            assert "\n" not in text
            assert not text.endswith(".")
        assert task.kind in ("classification", "regression")
        assert task.inputs in ("ids", "vectors")
        assert task.readout in ("all", "last")
        assert isinstance(task.defaults, Defaults)
        assert task.defaults.cell in ("elman", "gru", "lstm")
        assert (task.__doc__ or "").strip()


def test_a_subclass_may_say_it_in_its_head_or_as_attributes():
    class One(AddingTask, name="one", goal=0.5):
        metric = "mine"

    assert (One.name, One.goal, One.metric, One.rule) == ("one", 0.5, "mine", AddingTask.rule)
    assert (AddingTask.name, AddingTask.goal) == ("adding", 0.01)


@pytest.mark.parametrize("name", TASKS)
def test_the_goal_is_where_solved_begins_and_below_the_baseline(name):
    task = built(name)
    assert 0 < task.goal <= task.baseline
    assert (task.goal < task.baseline) is (name not in ("text", "csv"))
    assert min(task.input_size, task.output_size) >= 1
    for figure in (task.goal, task.baseline, math.nan, math.inf):
        assert task.solved(figure) is False
    for figure in (0.0, np.float32(1e-6), np.nextafter(task.goal, 0)):
        assert task.solved(figure) is True
    shown = [f"{setting}={getattr(task, setting)!r}" for setting in getattr(task, "settings", ())]
    assert all(part in repr(task) for part in [type(task).__name__, *shown])


@pytest.mark.parametrize("name", SEQUENCES)
def test_shapes_and_dtypes(name):
    task = built(name)
    for N in (1, 5):
        x, y, *lengths = task.batch(N, rng=1)
        T = len(x)
        assert x.shape == (T, N, task.input_size)
        assert x.dtype == np.float32
        ids, steps = task.kind == "classification", (T, N) if task.readout == "all" else (N,)
        assert y.shape == (steps if ids else (*steps, task.output_size))
        assert y.dtype == (np.int64 if ids else np.float32)
        if ids:
            assert y.min() >= 0
            assert y.max() < task.output_size
        for array in lengths:
            assert array.shape == (N,)
            assert array.dtype == np.int64
            assert array.min() >= 1
            assert array.max() <= T
            assert not x[np.arange(T)[:, None] >= array].any()
        assert np.isfinite(x).all()
        assert x.flags.writeable
        assert y.flags.writeable
    assert task.batch(2000, rng=0)[0].shape[1] == 2000


@pytest.mark.parametrize("name", SEQUENCES)
def test_a_seed_gives_the_same_numbers_and_one_generator_goes_on_from_batch_to_batch(name):
    task = built(name)
    assert_same(task.batch(7, rng=3), built(name).batch(7, rng=np.random.default_rng(3)))
    assert differ(task.batch(7, rng=3), task.batch(7, rng=4))
    assert differ(task.batch(20), task.batch(20))
    rng = np.random.default_rng(0)
    drawn = [task.batch(4, rng) for _ in range(3)]
    stream = list(itertools.islice(task.batches(4, rng=0), 3))
    for one, other in zip(drawn, stream, strict=True):
        assert_same(one, other)
    assert differ(stream[0], stream[1])


@pytest.mark.parametrize("name", DRAWN)
def test_the_held_out_batch_is_fixed_and_apart_from_training(name):
    task = built(name)
    held_out = task.evaluation_batch(50)
    assert_same(held_out, task.evaluation_batch(50, seed=0))
    assert differ(held_out, task.evaluation_batch(50, seed=1))
    assert differ(held_out, task.batch(50, rng=0))
    assert task.evaluation_batch()[0].shape[1] == 1000
    assert_same(pickle.loads(pickle.dumps(task)).batch(3, rng=0), task.batch(3, rng=0))
    if name.endswith("reber"):
        return  # a grammar's short strings are few, and meet by chance

    def sequences(batch):
        x = batch[0].swapaxes(0, 1)
        return {row[: batch[2][n]].tobytes() if len(batch) > 2 else row.tobytes() for n, row in enumerate(x)}

    trained = set().union(*(sequences(batch) for batch in itertools.islice(task.batches(100, rng=0), 20)))
    assert len(trained) == 2000
    assert not trained & sequences(task.evaluation_batch(500, seed=0))


def test_repr_can_be_read_back():
    for text in ("AddingTask(T=7, markers='halves')", "EchoTask(T=9, delay=2)", "ReberTask()", "CopyTask(T=1)"):
        assert repr(eval(text, {type(t).__name__: type(t) for t in (built(n) for n in DRAWN)})) == text


# --- settings ---------------------------------------------------------------------------------------------------------

SMALLEST = {
    "adding": 2,
    "adding-original": 11,
    "adding-ragged": 3,
    "multiplication": 2,
    "copy": 1,
    "temporal-order": 10,
    "temporal-order-3": 10,
    "parity": 1,
    "sine": 1,
}


def test_the_smallest_T():
    for name, T in SMALLEST.items():
        task = TASKS[name](T=T)
        x, *_ = task.batch(50, rng=0)
        assert T <= len(x) <= T + 20
        assert np.isfinite(x).all()
        kind = type(task).__name__
        with raises(ValueError, f"{kind}: T must be an int ≥ {T}, got {T - 1}: try {T} or more"):
            TASKS[name](T=T - 1)
        with raises(TypeError, f"{kind}: T must be an int ≥ {T}, got {T + 0.5} (float): try {T}"):
            TASKS[name](T=T + 0.5)


SHAPE = "figure: predictions must have shape"
REFUSED = {
    ValueError: [
        (lambda: tasks.adding(1, 4), "adding: T must be an int ≥ 2, got 1: try 2 or more"),
        (lambda: AddingTask(markers="ends"), "AddingTask: markers must be one of 'halves', 'anywhere', got 'ends'"),
        (lambda: EchoTask(5, 5), "EchoTask: delay must be below T=5, got 5: there would be nothing to echo"),
        (lambda: EchoTask(5, 0), "EchoTask: delay must be an int ≥ 1, got 0: try 1 or more"),
        (lambda: EchoTask(1, 1), "EchoTask: T must be an int ≥ 2, got 1: try 2 or more"),
        (lambda: DigitsTask(16), "DigitsTask: steps must be 8, a row each, or 64, a pixel each, got 16"),
        (lambda: SunspotsTask(201), "SunspotsTask: T must be at most 200, got 201: there are 221 years to train on"),
        (lambda: SunspotsTask(0), "SunspotsTask: T must be an int ≥ 1, got 0: try 1 or more"),
        (lambda: figure(AddingTask(5), (3,), (3, 1)), f"AddingTask.{SHAPE} (3, 1) for this y, got (3,)"),
        (lambda: figure(EchoTask(5, 2), (5, 3), (5, 3)), f"EchoTask.{SHAPE} (5, 3, 2) for this y, got (5, 3)"),
        (lambda: figure(AddingTask(5), (0, 1), (0, 1)), f"AddingTask.{SHAPE} (0, 1) for this y, got (0, 1)"),
    ],
    TypeError: [
        (lambda: tasks.adding(4, "3"), "adding: N must be an int ≥ 1, got '3' (str): try 1"),
        (lambda: DigitsTask("8"), "DigitsTask: steps must be an int ≥ 8, got '8' (str): try 8"),
    ],
    IndexError: [
        (
            lambda: ParityTask(1).figure(np.zeros((1, 1, 2)), np.array([[2]])),
            "ParityTask.figure: y must be integers 0 … 1, got 2 at [0, 0]",
        ),
    ],
}


def figure(task, predictions, y):
    return task.figure(np.zeros(predictions), np.zeros(y, int))


@pytest.mark.parametrize("kind", REFUSED)
def test_what_is_refused(kind):
    for call, message in REFUSED[kind]:
        with raises(kind, message):
            call()


def test_lengths_and_predictions_that_are_none_are_refused():
    with pytest.raises(ValueError, match=r"^ParityTask\.figure: lengths must lie between 1 and T=2, got 3"):
        ParityTask(2).figure(np.zeros((2, 1, 2)), np.zeros((2, 1), int), [3])
    with pytest.raises(TypeError, match=r"^AddingTask\.figure: predictions must be an array of numbers"):
        AddingTask(5).figure("none", np.zeros((3, 1)))


@pytest.mark.parametrize("name", ["parity", "digits"])
def test_bad_arguments_are_refused_at_the_call(name):
    task, kind = built(name), TASKS[name].__name__
    with raises(ValueError, f"{kind}.batch: N must be an int ≥ 1, got 0: try 1 or more"):
        task.batch(0)
    with raises(ValueError, f"{kind}.batches: N must be an int ≥ 1, got -1: try 1 or more"):
        task.batches(-1)
    with raises(ValueError, f"{kind}.evaluation_batch: N must be an int ≥ 1, got 0: try 1 or more"):
        task.evaluation_batch(0)
    with raises(ValueError, f"{kind}.evaluation_batch: seed must be an int ≥ 0, got -1: try 0 or more"):
        task.evaluation_batch(4, seed=-1)
    with pytest.raises(TypeError, match=r"^rng must be a numpy\.random\.Generator, an int ≥ 0 \(a seed\) or None, got"):
        task.batches(4, rng=True)


# --- figures ----------------------------------------------------------------------------------------------------------


def test_figure_is_the_mean_squared_error_of_a_regression():
    rng = np.random.default_rng(0)
    for task, shape in ((AddingTask(5), (4, 1)), (SineTask(6), (6, 4, 1))):
        p, y = rng.normal(size=shape), rng.normal(size=shape)
        assert task.figure(p, y) == pytest.approx(losses.mse(p, y).item(), rel=1e-6)
        assert task.figure(Tensor(p.astype(np.float32)), y.astype(np.float32)) == pytest.approx(task.figure(p, y), 1e-5)


def test_figure_is_the_share_wrong_of_a_classification():
    task = TemporalOrderTask(20)
    y = np.array([0, 1, 2, 3, 3])
    assert task.figure(scores_of(y, 4), y) == 0
    assert task.figure(scores_of([0, 1, 2, 3, 0], 4), y) == pytest.approx(0.2)
    assert task.figure(np.full((5, 4), np.nan), y) == 1
    nearly = scores_of(y, 4)
    nearly[0, 2] = np.nan  # one row tells nothing
    assert task.figure(nearly, y) == pytest.approx(0.2)


def test_figure_of_copy_is_the_cross_entropy():
    task, rng = CopyTask(3), np.random.default_rng(0)
    _, y = task.batch(4, rng)
    p = rng.normal(size=(*y.shape, 9))
    assert task.figure(p, y) == pytest.approx(losses.cross_entropy(p, y).item(), rel=1e-6)
    assert task.figure(1000 * scores_of(y, 9), y) == 0
    assert task.figure(np.where(scores_of(y, 9) == 1, -1000.0, 0.0), y) == pytest.approx(1000 + math.log(8))
    assert math.isnan(task.figure(np.full((*y.shape, 9), np.nan), y))


def test_figure_leaves_out_what_stands_past_the_lengths():
    task = ParityTask(4)
    y = np.array([[0, 1], [1, 1], [0, 0], [1, 1]])
    p = scores_of(y, 2)
    p[2:, 0] = np.nan
    assert task.figure(p, y) == 0.25
    assert task.figure(p, y, [2, 4]) == 0
    sine = SineTask(3)
    assert sine.figure(np.array([[[1.0]], [[2.0]], [[math.nan]]]), np.zeros((3, 1, 1)), [2]) == 2.5
    ragged = RaggedAddingTask(5)  # one prediction a row, whatever its length
    assert ragged.figure([[1.0], [2.0]], np.array([[0.0], [0.0]]), [3, 5]) == 2.5


def test_nothing_is_imported_before_it_is_needed():
    code = "import minirnn, sys; sys.exit(bool({'sklearn', 'statsmodels', 'pandas', 'sktime'} & sys.modules.keys()))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
