import numpy as np
import pytest
from cases import built
from error_texts import raises

from minirnn.tasks import SunspotsTask


@pytest.fixture
def numbers():
    """The number of every year."""
    reason = "statsmodels is not installed: pip install -e '.[data]'"
    data = pytest.importorskip("statsmodels.datasets", reason=reason).sunspots.load_pandas().data
    return dict(zip(data["YEAR"].astype(int), data["SUNACTIVITY"], strict=True))


@pytest.mark.parametrize("T", [1, 20, 200])
def test_every_row_is_T_years_and_the_one_after(numbers, T):
    task = built("sunspots", T=T)
    for (x, y), years in ((task.train, range(1700 + T, 1921)), (task.held_out, range(1921, 2009))):
        assert x.shape == (T, len(years), 1)
        for n, year in enumerate(years):
            assert y[n, 0] == np.float32(numbers[year] / 100)
            expected = np.array([numbers[year - T + i] / 100 for i in range(T)], np.float32)
            np.testing.assert_array_equal(x[:, n, 0], expected)


def test_no_year_from_1921_on_is_seen_in_training(numbers):
    task = built("sunspots")
    assert max(numbers) == 2008
    late = {np.float32(numbers[year] / 100) for year in range(1921, 2009)} - {
        np.float32(numbers[year] / 100) for year in range(1700, 1921)
    }
    assert len(late) > 20
    assert not late & set(task.train[0].ravel())
    assert not late & set(task.train[1].ravel())


def test_the_baseline_is_that_of_no_change(numbers):
    task = built("sunspots")
    errors = [(numbers[year] - numbers[year - 1]) / 100 for year in range(1921, 2009)]
    assert np.mean(np.square(errors)) == pytest.approx(task.baseline, abs=5e-5)
    x, y = task.held_out
    assert task.figure(x[-1], y) == pytest.approx(task.baseline, abs=5e-5)


def test_the_goal_is_the_error_of_yules_autoregression(numbers):
    past = np.array([[numbers[y - 1], numbers[y - 2], 100] for y in range(1702, 1921)]) / 100
    weights, *_ = np.linalg.lstsq(past, np.array([numbers[y] for y in range(1702, 1921)]) / 100)
    errors = [numbers[y] / 100 - weights @ [numbers[y - 1] / 100, numbers[y - 2] / 100, 1] for y in range(1921, 2009)]
    assert np.mean(np.square(errors)) == pytest.approx(SunspotsTask.goal, abs=5e-5)
    assert "0.0419" in SunspotsTask.rule


def test_T_leaves_years_to_train_on():
    with raises(ValueError, "SunspotsTask: T must be at most 200, got 201: there are 221 years to train on"):
        SunspotsTask(201)
    with raises(ValueError, "SunspotsTask: T must be an int ≥ 1, got 0: try 1 or more"):
        SunspotsTask(0)
