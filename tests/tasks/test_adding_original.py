import numpy as np
import pytest
from cases import assert_near

from minirnn.tasks import OriginalAddingTask


def literally(x, L):
    """The target of one row (L, 2), as the paper words it; the marks that fall on the first step are not to be seen."""
    marked = [t for t in range(L) if x[t, 1] == 1]
    return 0.5 + sum(x[t, 0] for t in marked) / 4, marked


@pytest.mark.parametrize("T", [11, 12, 37])
def test_the_target_by_the_papers_words(T):
    x, y, lengths = OriginalAddingTask(T).batch(400, rng=1)
    seen = set()
    for n, L in enumerate(lengths):
        assert T <= L <= T + T // 10
        target, marked = literally(x[:, n], L)
        assert y[n, 0] == pytest.approx(target, abs=1e-6)
        assert x[0, n, 1] == x[L - 1, n, 1] == -1
        assert set(x[1 : L - 1, n, 1]) <= {0.0, 1.0}
        assert not x[L:, n].any()
        seen.add(len(marked))
        assert max(marked) <= max(9, T // 2 - 1)
    assert seen == {1, 2}  # one where the other fell on the first step
    assert x.min() >= -1
    assert x.max() <= 1
    assert len(x) == lengths.max()


def test_all_lengths_are_equally_frequent():
    *_, lengths = OriginalAddingTask(40).batch(20_000, rng=0)
    assert set(lengths) == set(range(40, 45))
    for L in range(40, 45):
        assert_near(lengths == L, 1 / 5)


def test_where_the_marks_fall():
    """The share of each step by going through all pairs: the first of ten, the second of the first K not yet marked."""
    T, N = 14, 60_000
    K, share = T // 2 - 1, np.zeros(T)
    for first in range(10):
        open_steps = [t for t in range(T) if t != first][:K]
        for second in open_steps:
            share[[first, second]] += 1 / (10 * K)
    x, _, _ = OriginalAddingTask(T).batch(N, rng=0)
    for t in range(1, 11):
        assert_near(x[t, :, 1] == 1, share[t])
    assert_near((x[1:, :, 1] == 1).sum(axis=0) == 1, share[0])


@pytest.mark.parametrize("T", [11, 50])
def test_the_baseline_by_simulation(T):
    task = OriginalAddingTask(T)
    _, y, _ = task.batch(200_000, rng=0)
    wrong = np.abs(y - 0.5) >= 0.04
    assert_near(wrong, task.baseline)
    assert task.figure(np.full(y.shape, 0.5), y) == pytest.approx(wrong.mean())
    for other in (0.4, 0.48, 0.53):  # no constant is better
        assert (np.abs(y - other) >= 0.04).mean() > wrong.mean()


def test_the_figure_is_the_share_of_sequences_wrong():
    y = np.array([[0.5], [0.25], [0.75], [1.0]], np.float32)
    task = OriginalAddingTask()
    assert task.figure(y, y) == 0
    assert task.figure(y + np.array([[0.039], [-0.039], [0.041], [-0.041]]), y) == 0.5
    assert task.figure(np.full((4, 1), np.nan), y) == 1
