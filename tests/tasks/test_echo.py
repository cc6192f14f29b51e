import numpy as np
import pytest
from cases import assert_near, scores_of
from error_texts import raises

from minirnn.tasks import EchoTask


@pytest.mark.parametrize(("T", "delay"), [(2, 1), (9, 3), (9, 8)])
def test_the_target_step_by_step(T, delay):
    x, y = EchoTask(T, delay).batch(6, rng=1)
    assert set(np.unique(x)) <= {0.0, 1.0}
    for n in range(6):
        heard = [0] * delay
        for t in range(T):
            heard.append(x[t, n, 0])
            assert y[t, n] == heard[t]


@pytest.mark.parametrize(("T", "delay"), [(2, 1), (50, 10), (9, 8)])
def test_the_baseline_by_simulation(T, delay):
    task = EchoTask(T, delay)
    x, y = task.batch(20_000, rng=0)
    assert_near((y != 0).mean(axis=0), task.baseline)
    assert task.figure(scores_of(0 * y, 2), y) == pytest.approx((y != 0).mean())
    repeated = x[:, :, 0].astype(int)
    assert (repeated != y).mean() > (y != 0).mean()  # the present bit tells nothing
    assert_near(x, 1 / 2)


def test_the_delay_is_shorter_than_the_sequence():
    with raises(ValueError, "EchoTask: delay must be below T=5, got 5: there would be nothing to echo"):
        EchoTask(5, 5)
    with raises(ValueError, "EchoTask: delay must be an int ≥ 1, got 0: try 1 or more"):
        EchoTask(5, 0)
    with raises(ValueError, "EchoTask: T must be an int ≥ 2, got 1: try 2 or more"):
        EchoTask(1, 1)
    with raises(ValueError, "EchoTask: delay must be below T=5, got 10: there would be nothing to echo"):
        EchoTask(T=5)
