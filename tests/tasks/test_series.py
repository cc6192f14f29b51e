"""A series in a CSV file: how it is parted, its units, its baseline, and what is refused."""

import pickle

import numpy as np
import pytest
from error_texts import raises

from minirnn.data import Standardizer
from minirnn.tasks import SeriesTask


def written(path, steps=40, **columns):
    """Write columns beside one of dates, and return the file's path."""
    columns = columns or {"a": np.arange(steps) ** 2.0, "b": np.cos(np.arange(steps))}
    rows = zip(*columns.values(), strict=True)
    lines = [f"day {k}," + ",".join(map(repr, map(float, row))) for k, row in enumerate(rows)]
    path.write_text("\n".join([",".join(["date", *columns]), *lines]) + "\n", encoding="utf-8")
    return path


def test_the_parts_are_cut_in_time_before_the_windows_and_in_the_units_of_the_first(tmp_path):
    task = SeriesTask(written(tmp_path / "x.csv"), ["b", "a"], T=3, held_out=0.25)
    values = np.stack([np.cos(np.arange(40)), np.arange(40) ** 2.0], axis=1)
    np.testing.assert_array_equal(task.values, values)
    np.testing.assert_allclose(task.mean, values[:30].mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(task.std, values[:30].std(axis=0), rtol=1e-12)
    scaled = ((values - values[:30].mean(axis=0)) / values[:30].std(axis=0)).astype(np.float32)
    x, y = task.train
    assert x.shape == y.shape == (3, 27, 2)
    for n in range(27):
        np.testing.assert_array_equal(x[:, n], scaled[n : n + 3])
        np.testing.assert_array_equal(y[:, n], scaled[n + 1 : n + 4])
    x, y = task.evaluation_batch()
    assert x.shape == y.shape == (3, 3, 2)  # side by side: 30 … 32, 33 … 35 and 36 … 38, with the step after each
    np.testing.assert_array_equal(x.swapaxes(0, 1).reshape(9, 2), scaled[30:39])
    np.testing.assert_array_equal(y.swapaxes(0, 1).reshape(9, 2), scaled[31:40])
    repeated = float(np.mean((scaled[31:40].astype(float) - scaled[30:39]) ** 2))
    assert task.baseline == task.goal == pytest.approx(repeated, rel=1e-12)
    assert task.figure(x, y) == task.baseline
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(task)).train[1], task.train[1])


def test_columns_are_those_of_numbers_and_units_may_be_given(tmp_path):
    path = written(tmp_path / "x.csv")
    task = SeriesTask(path, T=3)
    assert (task.columns, task.input_size, task.output_size) == (("a", "b"), 2, 2)
    assert SeriesTask(path, "b", T=3).columns == ("b",)
    units = Standardizer(np.array([10.0]), np.array([2.0]))
    np.testing.assert_allclose(SeriesTask(path, "a", T=3, units=units).train[0][:, 0, 0], [-5, -4.5, -3])
    other = written(tmp_path / "y.csv", a=task.values[:, 0], b=task.values[:, 1] + 1e-9)
    assert task.sha256 == SeriesTask(path, T=5, units=None).sha256 != SeriesTask(other, T=3).sha256


@pytest.mark.parametrize(
    ("settings", "kind", "message"),
    [
        ({"T": 8}, ValueError, "SeriesTask: T must be below the steps of each part, 32 to train on and 8 held out with "
         "held_out=0.2, got 8: try a smaller T, or a longer series"),
        ({"T": 0}, ValueError, "SeriesTask: T must be an int ≥ 1, got 0: try 1 or more"),
        ({"columns": ["a", "c"]}, ValueError, "read_csv: {} has no column 'c': it has 'date', 'a', 'b'"),
        ({"columns": ["a", "date"]}, ValueError, "SeriesTask: columns must name columns of numbers, got 'date' of {}"),
        ({"columns": []}, ValueError, "SeriesTask: columns must name columns of numbers, got none of {}"),
        ({"path": "nowhere.csv"}, FileNotFoundError, "SeriesTask: path must name a CSV file, got 'nowhere.csv': No "
         "such file or directory: check the spelling"),
        ({"path": None, "columns": "a"}, ValueError, "SeriesTask: columns must come with path, the file that has them, "
         "got none"),
        ({"units": Standardizer(np.zeros(1), np.ones(1))}, ValueError, "SeriesTask: units must be a Standardizer of 2 "
         "columns, got Standardizer(...0.], std=[1.]) (Standardizer)"),
    ],
)  # fmt: skip
def test_what_is_refused(tmp_path, settings, kind, message):
    path = written(tmp_path / "x.csv")
    with raises(kind, message.format(repr(str(path)))):
        SeriesTask(**{"path": path, "T": 3} | settings)
