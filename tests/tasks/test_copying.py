import math

import numpy as np
import pytest
from cases import assert_near

from minirnn.tasks import CopyTask


@pytest.mark.parametrize("T", [1, 2, 7])
def test_x_and_y_step_by_step(T):
    x, y = CopyTask(T).batch(5, rng=1)
    ids = x.argmax(axis=-1)
    np.testing.assert_array_equal(x.sum(axis=-1), np.ones((T + 20, 5)))
    assert x.max() == 1
    for n in range(5):
        for t in range(T + 20):
            if t < 10:
                assert ids[t, n] < 8
            else:
                assert ids[t, n] == (9 if t == T + 9 else 8)
            assert y[t, n] == (8 if t < T + 10 else ids[t - T - 10, n])


def test_symbols_are_uniform_and_independent():
    x, _ = CopyTask(1).batch(20_000, rng=0)
    ids = x[:10].argmax(axis=-1)
    for k in range(8):
        assert_near(ids == k, 1 / 8)
    assert_near(ids[0] == ids[1], 1 / 8)


@pytest.mark.parametrize("T", [1, 20, 100])
def test_the_baseline_is_what_counting_without_remembering_costs(T):
    task = CopyTask(T)
    _, y = task.batch(50, rng=0)
    scores = np.zeros((T + 20, 50, 9))
    scores[: T + 10, :, 8], scores[T + 10 :, :, 8] = 1000, -1000  # a blank, and then any symbol
    assert task.figure(scores, y) == pytest.approx(task.baseline, rel=1e-12)
    assert task.baseline == 10 * math.log(8) / (T + 20)
    assert task.goal == task.baseline / 10
