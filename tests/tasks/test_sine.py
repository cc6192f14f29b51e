import math

import numpy as np
import pytest
from cases import assert_near

from minirnn.tasks import SineTask


@pytest.mark.parametrize("T", [1, 2, 40])
def test_every_row_is_one_sine_wave(T):
    x, y = SineTask(T).batch(30, rng=1)
    wave = np.concatenate([x, y[-1:]]).astype(np.float64)[:, :, 0]
    np.testing.assert_array_equal(y[:-1], x[1:])
    assert np.abs(wave).max() <= 1
    # sin(a + ω) + sin(a − ω) = 2 cos ω sin a: one cos ω for all steps of a row
    for n in range(30 if T > 2 else 0):
        before, now, after = wave[:-2, n], wave[1:-1, n], wave[2:, n]
        twice_cos = (now @ (before + after)) / (now @ now)
        np.testing.assert_allclose(before + after, twice_cos * now, atol=1e-5)
        assert math.cos(1.0) <= twice_cos / 2 <= math.cos(0.2)


def test_the_baseline_by_simulation():
    task = SineTask(20)
    x, y = task.batch(20_000, rng=0)
    c = (math.sin(1) - math.sin(0.2)) / 0.8
    assert_near(((c * x - y) ** 2).mean(axis=(0, 2)), task.baseline)
    assert task.figure(c * x, y) == pytest.approx(task.baseline, rel=0.02)
    assert task.baseline == pytest.approx(0.177, abs=5e-4)


def test_no_function_of_the_present_value_alone_is_better():
    """The mean of the next value, in 200 bins of the present one, is as good as x·c and no better."""
    x, y = (a.ravel().astype(np.float64) for a in SineTask(5).batch(200_000, rng=0))
    bins = np.minimum(((x + 1) * 100).astype(int), 199)
    means = np.bincount(bins, y, minlength=200) / np.maximum(np.bincount(bins, minlength=200), 1)
    assert ((means[bins] - y) ** 2).mean() == pytest.approx(SineTask.baseline, rel=0.01)
