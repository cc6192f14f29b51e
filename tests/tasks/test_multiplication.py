import math
from fractions import Fraction

import numpy as np
import pytest
from cases import assert_near

from minirnn.tasks import AddingTask, MultiplicationTask


@pytest.mark.parametrize(("T", "N"), [(2, 1), (3, 4), (9, 5)])
def test_the_target_is_the_product_of_the_marked_numbers(T, N):
    x, y = MultiplicationTask(T).batch(N, rng=1)
    for n in range(N):
        marked = [t for t in range(T) if x[t, n, 1] == 1]
        assert len(marked) == 2
        assert marked[0] < T // 2 <= marked[1]
        assert y[n, 0] == x[marked[0], n, 0] * x[marked[1], n, 0]


def test_it_reads_what_adding_reads():
    np.testing.assert_array_equal(MultiplicationTask(12).batch(5, rng=3)[0], AddingTask(12).batch(5, rng=3)[0])


def test_the_baseline():
    # Var(UV) = E u² E v² − (E u E v)²
    assert MultiplicationTask.baseline == float(Fraction(1, 3) ** 2 - Fraction(1, 4) ** 2)
    _, y = MultiplicationTask(10).batch(200_000, rng=0)
    assert_near((y.astype(np.float64) - 1 / 4) ** 2, MultiplicationTask.baseline)
    assert_near(y, 1 / 4)  # the best constant
    assert "7/144" in MultiplicationTask.rule
    assert MultiplicationTask().figure(np.full(y.shape, 1 / 4), y) == pytest.approx(7 / 144, rel=0.02)
    assert math.isclose(MultiplicationTask.goal, 0.003)
