import importlib.util
import itertools

import numpy as np
import pytest
from cases import PACKAGES, built
from error_texts import raises

from minirnn.tasks import TASKS
from minirnn.tasks.recorded import package_folder

RECORDED = [name for name, task in TASKS.items() if task.needs is not None]


def rows(part):
    """Every row of a part, as bytes of its x and y."""
    x, y = part[:2]
    return [x[:, n].tobytes() + y[n].tobytes() for n in range(x.shape[1])]


def trimmed(batch, T):
    """The batch with x filled up with zeros to T steps: a batch of short rows is cut."""
    x, *others = batch
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
def test_there_is_one_held_out_part_whatever_the_seed(name):
    task = built(name)
    size = task.held_out[0].shape[1]
    for a, b in zip(task.evaluation_batch(10_000, seed=0), task.evaluation_batch(10_000, seed=7), strict=True):
        np.testing.assert_array_equal(a, b)
    assert task.evaluation_batch()[0].shape[1] == min(size, 1000)
    x, y, *lengths = task.evaluation_batch(3)
    np.testing.assert_array_equal(y, task.held_out[1][:3])
    np.testing.assert_array_equal(x, task.held_out[0][: len(x), :3])
    if lengths:
        assert len(x) == lengths[0].max()


@pytest.mark.parametrize("name", RECORDED)
def test_the_parts_are_the_same_every_time_and_cannot_be_overwritten(name):
    task, again = built(name), built(name)
    for part, other in ((task.train, again.train), (task.held_out, again.held_out)):
        for a, b in zip(part, other, strict=True):
            np.testing.assert_array_equal(a, b)
            with pytest.raises(ValueError, match="read-only"):
                a[0] = 0


@pytest.mark.parametrize("name", RECORDED)
def test_a_batch_may_be_larger_than_the_train_part(name):
    assert built(name).batch(3000, rng=0)[0].shape[1] == 3000


@pytest.mark.parametrize("name", RECORDED)
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


def test_every_package_is_known_to_the_tests():
    assert {TASKS[name].needs for name in RECORDED} == set(PACKAGES)
