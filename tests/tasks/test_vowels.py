import numpy as np
import pytest
from cases import built, scores_of

from minirnn.tasks import VowelsTask
from minirnn.tasks.recorded import pad, read_ts

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


def test_the_baseline():
    task = built("vowels")
    y = task.held_out[1]
    figures = [task.figure(scores_of(np.full(y.shape, k), 9), y) for k in range(9)]
    assert min(figures) == pytest.approx(VowelsTask.baseline)
