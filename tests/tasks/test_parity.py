import numpy as np
import pytest
from cases import assert_near, scores_of

from minirnn.tasks import ParityTask


@pytest.mark.parametrize("T", [1, 2, 9])
def test_the_target_by_counting(T):
    x, y = ParityTask(T).batch(6, rng=1)
    assert set(np.unique(x)) <= {0.0, 1.0}
    for n in range(6):
        odd = False
        for t in range(T):
            odd = odd != (x[t, n, 0] == 1)
            assert y[t, n] == odd


def test_bits_are_fair():
    x, _ = ParityTask(8).batch(10_000, rng=0)
    assert_near(x, 1 / 2)
    assert_near(x[0] * x[1], 1 / 4)


@pytest.mark.parametrize("T", [1, 3, 30])
def test_the_baseline_by_simulation(T):
    task = ParityTask(T)
    x, y = task.batch(20_000, rng=0)
    repeated = x[:, :, 0].astype(int)
    assert_near((repeated != y).mean(axis=0), task.baseline)
    assert task.figure(scores_of(repeated, 2), y) == pytest.approx((repeated != y).mean())
    for others in (0 * y, 0 * y + 1, 1 - repeated):  # nothing else that looks at the present bit only is better
        assert (others != y).mean() >= (repeated != y).mean() - 0.01


def test_without_memory_there_is_nothing_to_see_after_the_first_step():
    x, y = ParityTask(5).batch(40_000, rng=0)
    for t in range(1, 5):
        for bit in (0, 1):
            assert_near(y[t][x[t, :, 0] == bit], 1 / 2)
