import numpy as np
import pytest
from cases import built, scores_of
from error_texts import raises

from minirnn.tasks import DigitsTask


def original():
    datasets = pytest.importorskip("sklearn.datasets", reason="scikit-learn is not installed: pip install -e '.[data]'")
    return datasets.load_digits(return_X_y=True)


@pytest.mark.parametrize(("steps", "D"), [(8, 8), (64, 1)])
def test_both_parts_together_are_all_the_images(steps, D):
    task = built("digits", steps=steps)
    assert task.input_size == D
    images, digits = original()
    assert task.train[0].shape == (steps, 1438, D)
    assert task.held_out[0].shape == (steps, 359, D)
    x = np.concatenate([task.train[0], task.held_out[0]], axis=1).swapaxes(0, 1).reshape(1797, 64)
    y = np.concatenate([task.train[1], task.held_out[1]])
    table = np.column_stack([16 * x, y])
    expected = np.column_stack([images, digits])
    np.testing.assert_array_equal(table[np.lexsort(table.T)], expected[np.lexsort(expected.T)])


def test_an_image_is_read_row_by_row_and_pixel_by_pixel():
    images, digits = original()
    first = np.random.default_rng(0).permutation(1797)[0]
    rows, pixels = built("digits").held_out, built("digits", steps=64).held_out
    assert rows[1][0] == pixels[1][0] == digits[first]
    for i in range(8):
        np.testing.assert_array_equal(rows[0][i, 0], images[first, 8 * i : 8 * i + 8] / 16)
    np.testing.assert_array_equal(pixels[0][:, 0, 0], images[first] / 16)


def test_the_baseline():
    task = built("digits")
    most_frequent = np.bincount(task.train[1]).argmax()
    assert most_frequent == 0
    y = task.held_out[1]
    assert task.figure(scores_of(np.full(y.shape, most_frequent), 10), y) == pytest.approx(task.baseline)
    assert DigitsTask.baseline == 331 / 359


def test_other_numbers_of_steps_are_refused():
    with raises(ValueError, "DigitsTask: steps must be 8, a row each, or 64, a pixel each, got 16"):
        DigitsTask(16)
    with raises(TypeError, "DigitsTask: steps must be an int ≥ 8, got '8' (str): try 8"):
        DigitsTask("8")
