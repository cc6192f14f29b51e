import numpy as np
import pytest
from numpy.testing import assert_allclose

from minirnn.bench.floor import Floor

SHAPE = N, T, D, H = 3, 5, 4, 6


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_floor_makes_the_products_it_is_said_to_make(dtype):
    work = Floor(*SHAPE, dtype, np.random.default_rng(0), 1)
    first, d_first = work.z0.copy(), work.dz0.copy()
    work.forward()
    rtol = 1e-4 if dtype == "float32" else 1e-10
    z = np.array([first @ np.linalg.matrix_power(work.W_hh, t + 1) for t in range(T)])
    assert_allclose(work.z.reshape(T, N, H), np.tanh(z), rtol=rtol)
    work.backward()
    dz = np.array([d_first @ np.linalg.matrix_power(work.W_hh.T, t + 1) for t in range(T)]) * np.tanh(z)
    assert_allclose(work.dz.reshape(T, N, H), dz, rtol=rtol, atol=rtol)
    assert_allclose(work.dX, work.dz @ work.W_xh.T, rtol=rtol, atol=rtol)
    assert_allclose(work.dW_xh, work.X.T @ work.dz, rtol=rtol, atol=rtol)
    assert_allclose(work.dW_hh, work.z.T @ work.dz, rtol=rtol, atol=rtol)
    assert {array.dtype for array in vars(work).values() if isinstance(array, np.ndarray)} == {np.dtype(dtype)}


def test_the_work_is_the_same_at_every_call():
    work, results = Floor(*SHAPE, "float32", np.random.default_rng(0)), []
    for _ in range(2):
        work.both_ways()
        results.append([work.z.copy(), work.dz.copy(), work.dX.copy(), work.dW_hh.copy()])
    for a, b in zip(*results, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(("gates", "rows"), [(1, 1), (3, 1), (4, 5)])
def test_a_long_chain_of_products_neither_overflows_nor_dies_away(gates, rows):
    work = Floor(rows, 5_000, 2, 8, "float32", np.random.default_rng(0), gates)
    work.forward()
    work.backward()
    for array in (work.z, work.dz):
        assert 0.1 < np.abs(array.reshape(5_000, -1)[-8:, : 8 * rows]).max() < 100


def first_numbers(blocks):
    """Return the first N·H numbers of each block (N, G·H) as (N, H): where one step leads to the next."""
    return [block.reshape(-1)[: N * H].reshape(N, H) for block in blocks]


@pytest.mark.parametrize("gates", [3, 4])
def test_with_gates_there_are_as_many_more_columns(gates):
    work = Floor(*SHAPE, "float64", np.random.default_rng(0), gates)
    assert (work.W_xh.shape, work.W_hh.shape) == ((D, gates * H), (H, gates * H))
    constant = work.dz.copy().reshape(T, -1)[:, N * H :]
    for _ in range(2):  # and the same again
        work.forward()
        work.backward()
        z = np.arctanh(work.z).reshape(T, N, gates * H)
        for before, block in zip([work.z0, *first_numbers(z)], z, strict=False):
            assert_allclose(block, before @ work.W_hh, rtol=1e-10, atol=1e-10)
        dz = work.dz.reshape(T, N, gates * H)
        np.testing.assert_array_equal(dz.reshape(T, -1)[:, N * H :], constant)
        for before, after in zip([work.dz0, *dz], first_numbers(dz), strict=False):
            assert_allclose(after, before @ work.W_hh.T / gates**0.5, rtol=1e-10, atol=1e-10)
        assert_allclose(work.da, work.dz * work.z, rtol=1e-12)
        assert_allclose(work.dX, work.da @ work.W_xh.T, rtol=1e-10, atol=1e-10)
        assert_allclose(work.dW_xh, work.X.T @ work.da, rtol=1e-10, atol=1e-10)
        assert_allclose(work.dW_hh, work.h.T @ work.da, rtol=1e-10, atol=1e-10)
