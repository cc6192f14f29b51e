import numpy as np
import pytest
from cases import assert_near, scores_of

from minirnn.tasks import TASKS

NAMES = ["temporal-order", "temporal-order-3"]
STARTS = {"temporal-order": (1, 5), "temporal-order-3": (1, 3, 6)}


@pytest.mark.parametrize("T", [10, 19, 50])
@pytest.mark.parametrize("name", NAMES)
def test_the_class_is_told_by_the_relevant_symbols_in_order(name, T):
    x, y = TASKS[name](T=T).batch(60, rng=1)
    np.testing.assert_array_equal(x.sum(axis=-1), np.ones((T, 60)))
    for n in range(60):
        symbols = x[:, n].argmax(axis=-1)
        relevant = [t for t in range(T) if symbols[t] < 2]
        assert len(relevant) == len(STARTS[name])
        for t, start in zip(relevant, STARTS[name], strict=True):
            assert int(T * start / 10) <= t < int(T * start / 10) + int(T / 10)
        assert y[n] == sum(2**i * symbols[t] for i, t in enumerate(relevant))


@pytest.mark.parametrize("name", NAMES)
def test_places_symbols_and_classes_are_equally_frequent(name):
    task = TASKS[name](T=30)
    x, y = task.batch(30_000, rng=0)
    for k in range(task.output_size):
        assert_near(y == k, 1 / task.output_size)
    for start in STARTS[name]:
        for t in range(3 * start, 3 * start + 3):
            assert_near(x[t, :, :2].sum(axis=-1), 1 / 3)
    for k in range(2, 6):
        assert_near(x[0, :, k], 1 / 4)


@pytest.mark.parametrize("name", NAMES)
def test_the_baseline_by_simulation(name):
    task, rng = TASKS[name](), np.random.default_rng(5)
    _, y = task.batch(40_000, rng=0)
    guesses = rng.integers(task.output_size, size=y.size)
    assert_near(guesses != y, task.baseline)
    assert_near(y != 0, task.baseline)
    assert task.figure(scores_of(guesses, task.output_size), y) == pytest.approx((guesses != y).mean())
    assert task.baseline == 1 - 1 / task.output_size
