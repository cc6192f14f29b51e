"""The tasks whose sequences are drawn: each target once more, by its words, and each baseline by simulation."""

import math
from fractions import Fraction

import numpy as np
import pytest
from cases import assert_near, scores_of

from minirnn import tasks
from minirnn.tasks import (
    TASKS,
    AddingTask,
    CopyTask,
    EchoTask,
    MultiplicationTask,
    OriginalAddingTask,
    ParityTask,
    RaggedAddingTask,
    SineTask,
)

# --- adding and multiplication ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [AddingTask, MultiplicationTask])
def test_the_target_is_the_sum_or_product_of_the_two_numbers_marked_one_in_each_half(kind):
    for T, N in ((2, 1), (3, 4), (9, 5), (50, 16)):
        x, y = kind(T).batch(N, rng=1)
        values, markers = x[:, :, 0], x[:, :, 1]
        assert values.min() >= 0
        assert values.max() < 1
        for n in range(N):
            assert set(markers[:, n]) == {0.0, 1.0} or T == 2
            first, second = np.flatnonzero(markers[:, n])
            assert first < T // 2 <= second
            one, other = values[first, n], values[second, n]
            assert y[n, 0] == (one + other if kind is AddingTask else one * other)
    np.testing.assert_array_equal(x, AddingTask(50).batch(16, rng=1)[0])


@pytest.mark.parametrize("T", [6, 7])
def test_markers_reach_every_step_of_their_half_equally_often(T):
    x, _ = AddingTask(T).batch(20_000, rng=0)
    for t in range(T):
        assert_near(x[t, :, 1], 1 / (T // 2) if t < T // 2 else 1 / (T - T // 2))


def test_markers_anywhere_are_two_steps_and_each_pair_is_equally_likely():
    x, y = AddingTask(4, markers="anywhere").batch(30_000, rng=0)
    markers = x[:, :, 1]
    np.testing.assert_array_equal(markers.sum(axis=0), 2)
    np.testing.assert_allclose((x[:, :, 0] * markers).sum(axis=0), y[:, 0], rtol=1e-6)
    pairs, counts = np.unique(markers, axis=1, return_counts=True)
    assert pairs.shape == (4, 6)
    np.testing.assert_allclose(counts / 30_000, 1 / 6, atol=4 * math.sqrt(5 / 36 / 30_000))


def test_the_baselines_of_adding_and_multiplying_exactly_and_by_simulation():
    # Var U[0, 1) = E u² − (E u)², variances of independent numbers add up, and Var(UV) = E u² E v² − (E u E v)².
    assert AddingTask.baseline == RaggedAddingTask.baseline == float(2 * (Fraction(1, 3) - Fraction(1, 4))) == 1 / 6
    assert MultiplicationTask.baseline == float(Fraction(1, 3) ** 2 - Fraction(1, 4) ** 2)
    for task, best in ((AddingTask(10), 1), (RaggedAddingTask(10), 1), (MultiplicationTask(10), 1 / 4)):
        y = task.batch(100_000, rng=0)[1].astype(np.float64)
        assert_near((y - best) ** 2, task.baseline)
        assert_near(y, best)  # the best constant
        assert task.figure(np.full(y.shape, best), y) == pytest.approx(task.baseline, rel=0.02)
    assert abs(AddingTask.baseline - 0.1767) > 0.01  # the figure that is often quoted


def test_the_functional_form_gives_the_same_numbers():
    for a, b in zip(tasks.adding(12, 4, 0), AddingTask(12).batch(4, rng=0), strict=True):
        np.testing.assert_array_equal(a, b)


def test_ragged_rows_have_the_numbers_marked_within_their_length():
    for T, N in ((3, 40), (4, 40), (11, 30)):
        x, y, lengths = RaggedAddingTask(T).batch(N, rng=1)
        assert len(x) == T
        for n, L in enumerate(lengths):
            first, second = np.flatnonzero(x[:, n, 1])
            assert 0 <= first < L // 2 <= second < L
            assert y[n, 0] == x[first, n, 0] + x[second, n, 0]


def test_ragged_lengths_markers_and_numbers_are_uniform():
    for T, expected in ((9, range(5, 10)), (8, range(4, 9)), (3, range(2, 4))):
        x, _, lengths = RaggedAddingTask(T).batch(20_000, rng=0)
        assert set(lengths) == set(expected)
        for L in expected:
            assert_near(lengths == L, 1 / len(expected))
        values = x[:, :, 0][np.arange(T)[:, None] < lengths]
        assert_near(values, 1 / 2)
        assert_near(values**2, 1 / 3)
        for t in range(7 * (T == 9)):
            assert_near(x[t, lengths == 7, 1], 1 / 3 if t < 3 else 1 / 4)


# --- the adding problem of 1997 ---------------------------------------------------------------------------------------


def test_the_original_target_by_the_papers_words():
    for T in (11, 12, 37):
        x, y, lengths = OriginalAddingTask(T).batch(400, rng=1)
        seen = set()
        for n, L in enumerate(lengths):
            assert T <= L <= T + T // 10
            marked = [t for t in range(L) if x[t, n, 1] == 1]  # those that fall on the first step are not to be seen
            assert y[n, 0] == pytest.approx(0.5 + sum(x[t, n, 0] for t in marked) / 4, abs=1e-6)
            assert x[0, n, 1] == x[L - 1, n, 1] == -1
            assert set(x[1 : L - 1, n, 1]) <= {0.0, 1.0}
            seen.add(len(marked))
            assert max(marked) <= max(9, T // 2 - 1)
        assert seen == {1, 2}  # one where the other fell on the first step
        assert -1 <= x.min() < -0.9
        assert 0.9 < x.max() <= 1
        assert len(x) == lengths.max()


def test_where_the_original_marks_fall():
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
    *_, lengths = OriginalAddingTask(40).batch(20_000, rng=0)
    for L in range(40, 45):
        assert_near(lengths == L, 1 / 5)


def test_the_original_figure_and_its_baseline_by_simulation():
    for T in (11, 50):
        task = OriginalAddingTask(T)
        _, y, _ = task.batch(100_000, rng=0)
        wrong = np.abs(y - 0.5) >= 0.04
        assert_near(wrong, task.baseline)
        assert task.figure(np.full(y.shape, 0.5), y) == pytest.approx(wrong.mean())
        for other in (0.4, 0.48, 0.53):  # no constant is better
            assert (np.abs(y - other) >= 0.04).mean() > wrong.mean()
    y = np.array([[0.5], [0.25], [0.75], [1.0]], np.float32)
    assert task.figure(y, y) == 0
    assert task.figure(y + np.array([[0.039], [-0.039], [0.041], [-0.041]]), y) == 0.5
    assert task.figure(np.full((4, 1), np.nan), y) == 1


# --- symbols and bits -------------------------------------------------------------------------------------------------


def test_copy_step_by_step():
    for T in (1, 2, 7):
        x, y = CopyTask(T).batch(5, rng=1)
        ids = x.argmax(axis=-1)
        np.testing.assert_array_equal(x.sum(axis=-1), np.ones((T + 20, 5)))
        assert x.max() == 1
        assert ids[:10].max() < 8
        for t in range(T + 20):
            assert t < 10 or (ids[t] == (9 if t == T + 9 else 8)).all()
            assert (y[t] == (8 if t < T + 10 else ids[t - T - 10])).all()
    ids = CopyTask(1).batch(20_000, rng=0)[0][:10].argmax(axis=-1)
    for k in range(8):
        assert_near(ids == k, 1 / 8)
    assert_near(ids[0] == ids[1], 1 / 8)


def test_the_baseline_of_copy_is_what_counting_without_remembering_costs():
    for T in (1, 20, 100):
        task = CopyTask(T)
        _, y = task.batch(50, rng=0)
        scores = np.zeros((T + 20, 50, 9))
        scores[: T + 10, :, 8], scores[T + 10 :, :, 8] = 1000, -1000  # a blank, and then any symbol
        assert task.figure(scores, y) == pytest.approx(task.baseline, rel=1e-12)
        assert task.baseline == 10 * math.log(8) / (T + 20)
        assert task.goal == task.baseline / 10


STARTS = {"temporal-order": (1, 5), "temporal-order-3": (1, 3, 6)}


@pytest.mark.parametrize("name", STARTS)
def test_the_temporal_orders_class_is_told_by_the_relevant_symbols_in_order(name):
    for T in (10, 19, 50):
        x, y = TASKS[name](T=T).batch(60, rng=1)
        np.testing.assert_array_equal(x.sum(axis=-1), np.ones((T, 60)))
        for n in range(60):
            symbols = x[:, n].argmax(axis=-1)
            relevant = [t for t in range(T) if symbols[t] < 2]
            for t, start in zip(relevant, STARTS[name], strict=True):
                assert int(T * start / 10) <= t < int(T * start / 10) + int(T / 10)
            assert y[n] == sum(2**i * symbols[t] for i, t in enumerate(relevant))


@pytest.mark.parametrize("name", STARTS)
def test_temporal_orders_places_symbols_and_classes_are_equally_frequent(name):
    task = TASKS[name](T=30)
    x, y = task.batch(30_000, rng=0)
    assert task.baseline == 1 - 1 / task.output_size
    for k in range(task.output_size):
        assert_near(y == k, 1 / task.output_size)
    for start in STARTS[name]:
        for t in range(3 * start, 3 * start + 3):
            assert_near(x[t, :, :2].sum(axis=-1), 1 / 3)
    for k in range(2, 6):
        assert_near(x[0, :, k], 1 / 4)
    assert task.figure(scores_of(0 * y, task.output_size), y) == pytest.approx((y != 0).mean())


def test_parity_by_counting():
    for T in (1, 2, 9):
        x, y = ParityTask(T).batch(6, rng=1)
        assert set(np.unique(x)) <= {0.0, 1.0}
        for n in range(6):
            odd = False
            for t in range(T):
                odd = odd != (x[t, n, 0] == 1)
                assert y[t, n] == odd


def test_the_baseline_of_parity_and_that_the_present_bit_tells_nothing_more():
    for T in (1, 3, 30):
        task = ParityTask(T)
        x, y = task.batch(20_000, rng=0)
        bits = x[:, :, 0].astype(int)
        assert_near((bits != y).mean(axis=0), task.baseline)
        assert task.figure(scores_of(bits, 2), y) == pytest.approx((bits != y).mean())
        for others in (0 * y, 0 * y + 1, 1 - bits):  # nothing else that looks at the present bit only is better
            assert (others != y).mean() >= (bits != y).mean() - 0.01
        assert_near(x, 1 / 2)
    assert_near(x[0] * x[1], 1 / 4)
    for t, bit in ((1, 0), (1, 1), (29, 0), (29, 1)):
        assert_near(y[t][bits[t] == bit], 1 / 2)


def test_echo_step_by_step_and_its_baseline():
    for T, delay in ((2, 1), (9, 3), (9, 8), (50, 10)):
        task = EchoTask(T, delay)
        x, y = task.batch(10_000, rng=1)
        bits = x[:, :, 0].astype(int)
        assert set(np.unique(x)) == {0.0, 1.0}
        for t in range(T):
            np.testing.assert_array_equal(y[t], 0 if t < delay else bits[t - delay])
        assert_near((y != 0).mean(axis=0), task.baseline)
        assert task.figure(scores_of(0 * y, 2), y) == pytest.approx((y != 0).mean())
        assert (bits != y).mean() > (y != 0).mean()  # the present bit tells nothing
        assert_near(x, 1 / 2)


# --- waves ------------------------------------------------------------------------------------------------------------


def test_every_row_is_one_sine_wave():
    for T in (1, 2, 40):
        x, y = SineTask(T).batch(30, rng=1)
        np.testing.assert_array_equal(y[:-1], x[1:])
    wave = np.concatenate([x, y[-1:]]).astype(np.float64)[:, :, 0]
    assert np.abs(wave).max() <= 1
    # sin(a + ω) + sin(a − ω) = 2 cos ω sin a: one cos ω for all steps of a row
    for n in range(30):
        before, now, after = wave[:-2, n], wave[1:-1, n], wave[2:, n]
        twice_cos = (now @ (before + after)) / (now @ now)
        np.testing.assert_allclose(before + after, twice_cos * now, atol=1e-5)
        assert math.cos(1.0) <= twice_cos / 2 <= math.cos(0.2)


def test_the_baseline_of_sine_by_simulation():
    """The best multiple of the present value; it is the mean of the next one, too."""
    task = SineTask(5)
    x, y = task.batch(100_000, rng=0)
    c = (math.sin(1) - math.sin(0.2)) / 0.8
    assert_near(((c * x - y) ** 2).mean(axis=(0, 2)), task.baseline)
    assert task.figure(c * x, y) == pytest.approx(task.baseline, rel=0.02)
    assert_near(((c * x - y) * x).mean(axis=(0, 2)), 0)
