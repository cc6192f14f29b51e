import itertools
import math
from fractions import Fraction

import numpy as np
import pytest
from error_texts import raises

from minirnn import tasks
from minirnn.tasks import TASKS, AddingTask


@pytest.mark.parametrize(("T", "N"), [(2, 1), (3, 4), (9, 5), (50, 16)])
def test_shapes_dtypes_markers_and_target(T, N):
    x, y = AddingTask(T).batch(N, rng=1)
    assert x.shape == (T, N, 2)
    assert y.shape == (N, 1)
    assert x.dtype == y.dtype == np.float32
    values, markers = x[:, :, 0], x[:, :, 1]
    assert values.min() >= 0
    assert values.max() < 1
    assert set(np.unique(markers)) <= {0.0, 1.0}
    np.testing.assert_array_equal(markers[: T // 2].sum(axis=0), np.ones(N))
    np.testing.assert_array_equal(markers[T // 2 :].sum(axis=0), np.ones(N))
    for n in range(N):
        first, second = np.flatnonzero(markers[:, n])
        assert y[n, 0] == values[first, n] + values[second, n]


@pytest.mark.parametrize("T", [6, 7])
def test_markers_reach_every_step_of_their_half_equally_often(T):
    x, _ = AddingTask(T).batch(20_000, rng=0)
    share = x[:, :, 1].mean(axis=1)
    expected = np.r_[np.full(T // 2, 1 / (T // 2)), np.full(T - T // 2, 1 / (T - T // 2))]
    np.testing.assert_allclose(share, expected, atol=4 * math.sqrt(0.25 / 20_000))


def test_markers_anywhere_are_two_steps_and_each_pair_is_equally_likely():
    x, y = AddingTask(4, markers="anywhere").batch(30_000, rng=0)
    markers = x[:, :, 1]
    np.testing.assert_array_equal(markers.sum(axis=0), 2)
    np.testing.assert_allclose((x[:, :, 0] * markers).sum(axis=0), y[:, 0], rtol=1e-6)
    pairs, counts = np.unique(markers, axis=1, return_counts=True)
    assert pairs.shape == (4, 6)
    np.testing.assert_allclose(counts / 30_000, 1 / 6, atol=4 * math.sqrt(5 / 36 / 30_000))


def test_markers_and_values_are_independent_across_halves_and_rows():
    x, _ = AddingTask(20).batch(20_000, rng=0)
    first, second = x[:10, :, 1].argmax(axis=0), x[10:, :, 1].argmax(axis=0)
    assert abs(np.corrcoef(first, second)[0, 1]) < 4 / math.sqrt(20_000)
    assert abs(np.corrcoef(x[3, :, 0], x[4, :, 0])[0, 1]) < 4 / math.sqrt(20_000)


def test_the_baseline_exactly():
    # Var U[0, 1) = E u² − (E u)² = 1/3 − 1/4, and variances of independent numbers add up
    assert Fraction(1, 3) - Fraction(1, 4) == Fraction(1, 12)
    assert AddingTask.baseline == float(2 * Fraction(1, 12)) == 1 / 6


def test_the_baseline_by_simulation():
    _, y = AddingTask(10).batch(200_000, rng=0)
    squared = (y.astype(np.float64) - 1) ** 2
    standard_error = squared.std() / math.sqrt(squared.size)
    assert squared.mean() == pytest.approx(AddingTask.baseline, abs=4 * standard_error)
    assert abs(squared.mean() - 0.1767) > 20 * standard_error  # the figure that is often quoted
    # and 1 is the best constant
    assert y.mean() == pytest.approx(1, abs=4 * math.sqrt(1 / 6 / y.size))


def test_solved_means_below_one_hundredth():
    task = AddingTask()
    assert task.solved(0.00999) is True
    assert task.solved(0.01) is False
    assert task.solved(np.float32(0.001)) is True
    assert task.solved(math.nan) is False
    assert not task.solved(task.baseline)
    assert "0.01" in task.rule
    assert "1/6" in task.rule


def test_the_same_seed_gives_the_same_numbers():
    task = AddingTask(12)
    for a, b in zip(task.batch(5, rng=3), task.batch(5, rng=3), strict=True):
        np.testing.assert_array_equal(a, b)
    assert (task.batch(5, rng=3)[1] != task.batch(5, rng=4)[1]).all()


def test_one_generator_goes_on_from_batch_to_batch():
    task, rng = AddingTask(12), np.random.default_rng(0)
    first, second = task.batch(4, rng), task.batch(4, rng)
    assert (first[1] != second[1]).all()
    stream = list(itertools.islice(task.batches(4, rng=0), 3))
    np.testing.assert_array_equal(stream[0][0], first[0])
    np.testing.assert_array_equal(stream[1][0], second[0])
    assert (stream[2][1] != stream[1][1]).all()


def test_the_functional_form_gives_the_same_numbers():
    for a, b in zip(tasks.adding(12, 4, 0), AddingTask(12).batch(4, rng=0), strict=True):
        np.testing.assert_array_equal(a, b)
    x, y = tasks.adding(T=5, N=2)
    assert x.shape == (5, 2, 2)
    assert y.shape == (2, 1)


def test_the_held_out_batch_is_fixed_and_apart_from_training():
    task = AddingTask(10)
    x, y = task.evaluation_batch()
    assert x.shape == (10, 1000, 2)
    assert y.shape == (1000, 1)
    np.testing.assert_array_equal(x, task.evaluation_batch(1000, seed=0)[0])
    assert not np.array_equal(x, task.evaluation_batch(seed=1)[0])
    trained = np.concatenate([batch[0][:, :, 0].ravel() for batch in itertools.islice(task.batches(100, rng=0), 10)])
    shared = np.intersect1d(trained, x[:, :, 0]).size
    # 10,000 × 10,000 pairs over the 2²⁴ float32 values that random() gives: about 6 meet by chance, not thousands
    assert shared < 40


def test_it_is_in_the_registry():
    assert TASKS["adding"] is AddingTask
    assert AddingTask.name == "adding"
    assert (AddingTask.input_size, AddingTask.output_size, AddingTask.readout) == (2, 1, "last")
    assert "Le, Jaitly & Hinton 2015" in AddingTask.source
    assert "\n" not in AddingTask.description + AddingTask.source + AddingTask.rule
    assert repr(AddingTask(T=7)) == "AddingTask(T=7, markers='halves')"
    assert AddingTask().T == 50


@pytest.mark.parametrize(
    ("call", "kind", "message"),
    [
        (lambda: AddingTask(1), ValueError, "AddingTask: T must be an int ≥ 2, got 1: try 2 or more"),
        (lambda: AddingTask(50.0), TypeError, "AddingTask: T must be an int ≥ 2, got 50.0 (float): try 50"),
        (lambda: AddingTask().batch(0), ValueError, "AddingTask.batch: N must be an int ≥ 1, got 0: try 1 or more"),
        (
            lambda: AddingTask().batches(-1),
            ValueError,
            "AddingTask.batches: N must be an int ≥ 1, got -1: try 1 or more",
        ),
        (
            lambda: AddingTask().batches(4, rng=True),
            TypeError,
            "rng must be a numpy.random.Generator, an int ≥ 0 (a seed) or None, got True (bool): try rng=0 or "
            "rng=numpy.random.default_rng(0)",
        ),
        (
            lambda: AddingTask().evaluation_batch(0),
            ValueError,
            "AddingTask.evaluation_batch: N must be an int ≥ 1, got 0: try 1 or more",
        ),
        (
            lambda: AddingTask().evaluation_batch(4, seed=-1),
            ValueError,
            "AddingTask.evaluation_batch: seed must be an int ≥ 0, got -1: try 0 or more",
        ),
        (
            lambda: AddingTask(markers="ends"),
            ValueError,
            "AddingTask: markers must be one of 'halves', 'anywhere', got 'ends'",
        ),
        (lambda: tasks.adding(1, 4), ValueError, "adding: T must be an int ≥ 2, got 1: try 2 or more"),
        (lambda: tasks.adding(4, "3"), TypeError, "adding: N must be an int ≥ 1, got '3' (str): try 1"),
    ],
)
def test_bad_arguments_are_refused_at_the_call(call, kind, message):
    with raises(kind, message):
        call()
