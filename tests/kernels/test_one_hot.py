"""One-hot inputs that are held as ids: the same as the array of zeros and ones, wherever a kernel reads x."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from minirnn.kernels import one_hot
from minirnn.kernels.one_hot import OneHot

T, N, D, K = 5, 4, 7, 6


@pytest.fixture
def both():
    ids = np.random.default_rng(0).integers(D - 1, size=(T, N))  # the last of them does not occur
    return OneHot(ids, D, np.float64), np.eye(D)[ids]


def test_it_is_the_array(both):
    held, array = both
    assert (held.shape, held.ndim, len(held), held.dtype) == (array.shape, 3, T, np.float64)
    assert_array_equal(np.asarray(held), array)
    assert np.asarray(OneHot(held.ids, D, np.float32)).dtype == np.float32
    target = np.empty((D, N, 2))
    target.swapaxes(0, 2)[:] = held[1:3].reshape(2, N, -1)
    assert_array_equal(target.swapaxes(0, 2), array[1:3])


@pytest.mark.parametrize(
    "cut",
    [
        lambda x: x[1:3],
        lambda x: x[::-1],
        lambda x: x[:, 1:3],
        lambda x: x[1:3].reshape(2 * N, -1),
        lambda x: x.reshape(T * N, D).take(np.array([3, 3, 0]), axis=0),
        lambda x: x.reshape(-1, D).take(np.array([[3, 1], [0, 2]]), axis=0),
    ],
)
def test_what_is_cut_out_of_it(both, cut):
    held, array = both
    got, want = cut(held), cut(array)
    assert isinstance(got, OneHot)
    assert got.shape == want.shape
    assert_array_equal(np.asarray(got), want)


@pytest.mark.parametrize("small", [0, one_hot.SMALL])
@pytest.mark.parametrize("rows", [T * N, 1])
@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_products(both, rows, kind, small, monkeypatch):
    monkeypatch.setattr(one_hot, "SMALL", small)
    rng = np.random.default_rng(1)
    held, array = (x.reshape(T * N, -1)[:rows] for x in both)
    W, dZ = rng.normal(size=(D, K)).astype(kind), rng.normal(size=(rows, K)).astype(kind)
    out = np.empty((rows, K), kind)
    assert np.dot(held, W, out=out) is out
    assert_array_equal(out, array.astype(kind) @ W)
    assert_array_equal(np.dot(held, W), out)
    close = {"rtol": 0, "atol": 1e-14 if kind is np.float64 else 1e-6}
    assert_allclose(held.T.dot(dZ), array.T @ dZ, **close)
    assert held.T.dot(dZ).dtype == kind
    assert_array_equal(held.T.dot(dZ), held.T.dot(dZ.copy()))
    assert_allclose(dZ.T.dot(held), (array.T @ dZ).T, **close)  # a kernel may have it the other way round


def test_many_rows_of_one_id_keep_their_last_digits(monkeypatch):
    monkeypatch.setattr(one_hot, "SMALL", 0)
    rows = np.full((200_000, 1), 0.1, np.float32)
    held = OneHot(np.zeros(len(rows), int), 2, np.float32)
    assert_allclose(held.T.dot(rows), [[20_000], [0]], rtol=1e-6)


def test_what_no_kernel_asks_of_it(both):
    with pytest.raises(TypeError, match=r"no implementation found for 'numpy.concatenate'"):
        np.concatenate([both[0], both[0]])
