import importlib.util
import itertools

import numpy as np
import pytest
from cases import built, scores_of
from error_texts import raises

from minirnn.tasks import TASKS, DigitsTask, SunspotsTask, VowelsTask
from minirnn.tasks.recorded import RecordedTask, package_folder, pad, read_ts

RECORDED = [name for name, task in TASKS.items() if issubclass(task, RecordedTask)]


def rows(part):
    """Every row of a part, as bytes of its x and y."""
    x, y = part[:2]
    each = y.swapaxes(0, 1) if getattr(part, "every_step", False) else y
    return [x[:, n].tobytes() + each[n].tobytes() for n in range(x.shape[1])]


def trimmed(batch, T):
    """The batch with x filled up with zeros to T steps: a batch of short rows is cut."""
    x, *others = batch
    if len(x) == T:
        return batch
    return (np.concatenate([x, np.zeros((T - len(x), *x.shape[1:]), x.dtype)]), *others)


@pytest.mark.parametrize("name", RECORDED)
def test_batches_are_rows_of_the_train_part_and_never_of_the_held_out(name):
    task = built(name)
    T = len(task.train[0])
    train = set(rows(task.train))
    drawn = {row for b in itertools.islice(task.batches(64, rng=0), 60) for row in rows(trimmed(b, T))}
    assert drawn <= train
    assert len(drawn) > 0.9 * len(train)  # with replacement, but hardly any left out after many batches
    held_out = rows(trimmed(task.evaluation_batch(10_000), max(T, len(task.held_out[0]))))
    assert not set(held_out) & set(rows(trimmed(task.train, max(T, len(task.held_out[0])))))


@pytest.mark.parametrize("name", RECORDED)
def test_there_is_one_held_out_part_whatever_the_seed_and_it_cannot_be_overwritten(name):
    task, again = built(name), built(name)
    size = task.held_out[0].shape[1]
    for a, b in zip(task.evaluation_batch(10_000, seed=0), task.evaluation_batch(10_000, seed=7), strict=True):
        np.testing.assert_array_equal(a, b)
    assert task.evaluation_batch()[0].shape[1] == min(size, 1000)
    x, y, *lengths = task.evaluation_batch(3)
    np.testing.assert_array_equal(y, task.held_out[1][:, :3] if task.readout == "all" else task.held_out[1][:3])
    np.testing.assert_array_equal(x, task.held_out[0][: len(x), :3])
    if lengths:
        assert len(x) == lengths[0].max()
    for part, other in ((task.train, again.train), (task.held_out, again.held_out)):
        for a, b in zip(part, other, strict=True):
            np.testing.assert_array_equal(a, b)
            with pytest.raises(ValueError, match="read-only"):
                a[0] = 0


@pytest.mark.parametrize("name", [name for name in RECORDED if TASKS[name].needs])
def test_without_the_package_the_error_says_what_to_install(name, monkeypatch):
    task = TASKS[name]
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda n: None if n in ("sktime", "aeon") else found(n))
    for module in ("sklearn.datasets", "statsmodels.datasets"):
        monkeypatch.setitem(__import__("sys").modules, module, None)
    message = (
        f'{task.__name__}: its data are part of {task.needs}, which is not installed: try pip install "minirnn[data]"'
    )
    with raises(ImportError, message):
        task()


def test_the_first_package_that_is_there_is_read_and_not_imported(monkeypatch, tmp_path):
    (tmp_path / "second_choice").mkdir()
    (tmp_path / "second_choice" / "__init__.py").write_text("raise AssertionError('imported')")
    monkeypatch.syspath_prepend(tmp_path)
    assert package_folder(("no_such_package", "second_choice"), "X", "y") == tmp_path / "second_choice"


# --- digits -----------------------------------------------------------------------------------------------------------


def original_digits():
    datasets = pytest.importorskip("sklearn.datasets", reason="scikit-learn is not installed: pip install -e '.[data]'")
    return datasets.load_digits(return_X_y=True)


def test_both_parts_together_are_all_the_images_read_row_by_row_or_pixel_by_pixel():
    images, digits = original_digits()
    for steps, D in ((8, 8), (64, 1)):
        task = built("digits", steps=steps)
        assert task.input_size == D
        assert task.train[0].shape == (steps, 1438, D)
        assert task.held_out[0].shape == (steps, 359, D)
        x = np.concatenate([task.train[0], task.held_out[0]], axis=1).swapaxes(0, 1).reshape(1797, 64)
        y = np.concatenate([task.train[1], task.held_out[1]])
        table = np.column_stack([16 * x, y])
        expected = np.column_stack([images, digits])
        np.testing.assert_array_equal(table[np.lexsort(table.T)], expected[np.lexsort(expected.T)])
    first = np.random.default_rng(0).permutation(1797)[0]
    rows, pixels = built("digits").held_out, built("digits", steps=64).held_out
    assert rows[1][0] == pixels[1][0] == digits[first]
    for i in range(8):
        np.testing.assert_array_equal(rows[0][i, 0], images[first, 8 * i : 8 * i + 8] / 16)
    np.testing.assert_array_equal(pixels[0][:, 0, 0], images[first] / 16)


def test_the_baseline_of_digits():
    task = built("digits")
    most_frequent = np.bincount(task.train[1]).argmax()
    assert most_frequent == 0
    y = task.held_out[1]
    assert task.figure(scores_of(np.full(y.shape, most_frequent), 10), y) == pytest.approx(task.baseline)
    assert DigitsTask.baseline == 331 / 359


# --- sunspots ---------------------------------------------------------------------------------------------------------


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


def test_the_baseline_of_sunspots_is_that_of_no_change(numbers):
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


# --- vowels -----------------------------------------------------------------------------------------------------------


FILE = """#a comment with @ and : in it
@problemName two
@classLabel true 1 2
@data
1.5,2,3:-1,-2,-3:2
7:8:1
"""


def test_reading_a_file(tmp_path):
    path = tmp_path / "two.ts"
    path.write_text(FILE)
    sequences, classes = read_ts(path)
    np.testing.assert_array_equal(classes, [1, 0])
    np.testing.assert_array_equal(sequences[0], [[1.5, -1], [2, -2], [3, -3]])
    np.testing.assert_array_equal(sequences[1], [[7, 8]])
    x, y, lengths = pad(np.concatenate(sequences), sequences, classes)
    assert x.dtype == np.float32
    np.testing.assert_array_equal(lengths, [3, 1])
    np.testing.assert_array_equal(x[:, 0], sequences[0])
    np.testing.assert_array_equal(x[:, 1], [[7, 8], [0, 0], [0, 0]])
    assert y is classes


def test_the_utterances_are_those_that_the_data_describe():
    task = built("vowels")
    x, y, lengths = task.train
    assert x.shape[1:] == (270, 12)
    assert lengths.min() == 7
    assert task.held_out[2].max() == 29
    np.testing.assert_array_equal(np.bincount(y), np.full(9, 30))
    np.testing.assert_array_equal(np.bincount(task.held_out[1]), [31, 35, 88, 44, 29, 24, 40, 50, 29])


def test_channels_are_standardised_by_the_train_part():
    task = built("vowels")
    for (x, _, lengths), near in ((task.train, 1e-5), (task.held_out, 0.5)):
        steps = x[np.arange(len(x))[:, None] < lengths].astype(np.float64)
        np.testing.assert_allclose(steps.mean(axis=0), np.zeros(12), atol=near)
        np.testing.assert_allclose(steps.std(axis=0), np.ones(12), atol=near)
    assert abs(steps.mean(axis=0)).max() > 1e-3  # the held-out part had no say in it


def test_the_baseline_of_vowels():
    task = built("vowels")
    y = task.held_out[1]
    figures = [task.figure(scores_of(np.full(y.shape, k), 9), y) for k in range(9)]
    assert min(figures) == pytest.approx(VowelsTask.baseline)
