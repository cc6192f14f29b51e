import numpy as np
import pytest
from cases import assert_near

from minirnn.tasks import RaggedAddingTask


@pytest.mark.parametrize(("T", "N"), [(3, 40), (4, 40), (11, 30)])
def test_the_target_is_the_sum_of_the_two_numbers_marked_within_the_length(T, N):
    x, y, lengths = RaggedAddingTask(T).batch(N, rng=1)
    assert len(x) == T
    for n, L in enumerate(lengths):
        marked = [t for t in range(T) if x[t, n, 1]]
        assert len(marked) == 2
        assert 0 <= marked[0] < L // 2 <= marked[1] < L
        assert y[n, 0] == x[marked[0], n, 0] + x[marked[1], n, 0]
        assert not x[L:, n].any()


@pytest.mark.parametrize(("T", "lengths"), [(9, range(5, 10)), (8, range(4, 9)), (3, range(2, 4))])
def test_all_lengths_are_equally_frequent(T, lengths):
    _, _, drawn = RaggedAddingTask(T).batch(20_000, rng=0)
    assert set(drawn) == set(lengths)
    for L in lengths:
        assert_near(drawn == L, 1 / len(lengths))


def test_markers_reach_every_step_of_their_half_equally_often():
    x, _, lengths = RaggedAddingTask(9).batch(40_000, rng=0)
    of_seven = x[:, lengths == 7, 1]
    for t in range(7):
        assert_near(of_seven[t], 1 / 3 if t < 3 else 1 / 4)


def test_the_baseline_by_simulation():
    _, y, _ = RaggedAddingTask(10).batch(200_000, rng=0)
    assert_near((y.astype(np.float64) - 1) ** 2, RaggedAddingTask.baseline)
    assert_near(y, 1)


def test_numbers_are_uniform_within_the_length():
    x, _, lengths = RaggedAddingTask(10).batch(20_000, rng=0)
    values = x[:, :, 0][np.arange(10)[:, None] < lengths]
    assert_near(values, 1 / 2)
    assert_near(values**2, 1 / 3)
