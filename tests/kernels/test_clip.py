"""Messages clipped: to the bound, or not touched at all, whatever their size."""

import numpy as np
import pytest

from minirnn.kernels.layout import clipped

every = pytest.mark.parametrize(("dtype", "axis"), [(d, axis) for d in (np.float32, np.float64) for axis in (0, 1)])


def rows(d, axis):
    """Return the vectors as rows."""
    return d if axis == 1 else d.T


def clip(d, largest, axis, **settings):
    """Call it on vectors that stand in rows, turned as ``axis`` has it, and with a read-only array."""
    given = np.ascontiguousarray(rows(d, axis))
    given.flags.writeable = False
    found = clipped(given, largest, axis, **settings)
    assert found.dtype == d.dtype
    assert found.shape == given.shape
    assert not np.shares_memory(found, given)
    return rows(found, axis)


def eps(dtype):
    return 4 * np.finfo(dtype).eps


@every
def test_no_norm_exceeds_the_bound_and_no_direction_changes(dtype, axis):
    """And a vector that was within it is the same, bit for bit."""
    rng = np.random.default_rng(0)
    size = 10.0 ** rng.uniform(-3, 3, (250, 1))
    d = (rng.standard_normal((250, 7)) * size).astype(dtype)
    found, norms = clip(d, 2.0, axis), np.linalg.norm(d.astype(float), axis=1)
    beyond = norms > 2
    assert 50 < beyond.sum() < 200
    np.testing.assert_array_equal(found[~beyond].view(np.uint8), d[~beyond].copy().view(np.uint8))
    exact = d[beyond].astype(float) * (2 / norms[beyond, None])
    np.testing.assert_allclose(found[beyond], exact, rtol=3 * eps(dtype))
    np.testing.assert_allclose(np.linalg.norm(found[beyond].astype(float), axis=1), 2, rtol=3 * eps(dtype))


@every
def test_a_norm_at_the_bound_is_not_beyond_it(dtype, axis):
    d = np.array([[3, 4], [-3, 4], [0, 5], [0, -5]], dtype)
    np.testing.assert_array_equal(clip(d, 5.0, axis), d)
    above = clip(d, 4.999, axis)
    np.testing.assert_allclose(above, d * dtype(4.999 / 5), rtol=eps(dtype))
    assert (above != d).any(axis=1).all()


SIZES = {np.float32: [1e30, 1e20, 6e37, 1e-20, 1e-30], np.float64: [1e300, 1e200, 1e-200, 1e-300, 3e307]}


@every
def test_squares_neither_overflow_nor_vanish(dtype, axis):
    """(3, 4) times a number whose square is out of the dtype's range: scaled to a tenth of its norm, and to 1."""
    for size in SIZES[dtype]:
        d = np.array([[3, 4], [-4, 3]], dtype) * dtype(size)
        for bound in [size / 2] + [1.0] * (size > 1):
            exact = np.array([[0.6, 0.8], [-0.8, 0.6]]) * bound
            np.testing.assert_allclose(clip(d, bound, axis), exact, rtol=2 * eps(dtype))
        np.testing.assert_array_equal(clip(d, min(size * 5.01, float(np.finfo(dtype).max)), axis), d)


@every
def test_a_norm_that_the_dtype_cannot_hold(dtype, axis):
    """(1, 1, 1) times the largest number there is: finite all the same, and scaled."""
    most = np.finfo(dtype).max
    d = np.array([[most, most, most], [most, 0, 0], [-most, most, 0]], dtype)
    exact = np.array([[3**-0.5] * 3, [1, 0, 0], [-(0.5**0.5), 0.5**0.5, 0]])
    np.testing.assert_allclose(clip(d, 1.0, axis), exact, rtol=2 * eps(dtype))


@every
def test_the_smallest_numbers_are_within_any_bound_that_is_not_as_small(dtype, axis):
    tiny = np.finfo(dtype).smallest_subnormal
    d = np.array([[tiny, 0, 0], [tiny, -tiny, 3 * tiny], [0, 0, np.finfo(dtype).tiny]], dtype)
    np.testing.assert_array_equal(clip(d, 1e-30, axis), d)


@every
def test_a_vector_that_is_not_finite_stays_as_it_is(dtype, axis):
    """Bit for bit, and the others are clipped all the same."""
    for bad in (np.inf, -np.inf, np.nan):
        rows = [[1, bad, 100], [30, 40, 0], [bad, bad, bad], [0, 0, bad], [0.1, 0.2, 0.1], [np.inf, np.nan, bad]]
        d = np.array(rows, dtype)
        found = clip(d, 5.0, axis)
        np.testing.assert_array_equal(found[[0, 2, 3, 4, 5]], d[[0, 2, 3, 4, 5]])
        np.testing.assert_allclose(found[1], [3, 4, 0], rtol=2 * eps(dtype))


@every
def test_zeros_stay_zeros_with_their_signs(dtype, axis):
    d = np.array([[0, 0, 0], [-0.0, 0, -0.0], [6, 8, -0.0]], dtype)
    found = clip(d, 1.0, axis)
    np.testing.assert_array_equal(np.signbit(found), np.signbit(d))
    np.testing.assert_array_equal(found[:2], d[:2])
    assert found[2, 2] == 0


@every
def test_any_bound_keeps_the_dtype(dtype, axis):
    """One that the dtype cannot hold too: then all is clipped to nothing, or nothing is."""
    d = np.array([[3, 4], [0.3, 0.4]], dtype)
    norm = np.linalg.norm(d.astype(float), axis=1, keepdims=True)
    for bound in (1e-40, 1e-300, 1e40, 1e300, np.float32(2), np.float64(2), 3):
        exact = d * np.minimum(1, float(bound) / norm)
        smallest = 2 * np.finfo(dtype).smallest_subnormal
        np.testing.assert_allclose(clip(d, bound, axis), exact, rtol=2 * eps(dtype), atol=smallest)


@every
def test_one_vector_one_number_each_and_any_memory_order(dtype, axis):
    """As a mini-batch of one row has it, and a layer of one neuron."""
    d = np.array([3, -4], dtype)
    np.testing.assert_allclose(clipped(d, 1.0, 0), [0.6, -0.8], rtol=2 * eps(dtype))
    np.testing.assert_array_equal(clipped(d[:, None], 3.5, 1), np.array([[3], [-3.5]], dtype))
    np.testing.assert_array_equal(clipped(d[None], 3.5, 0), np.array([[3, -3.5]], dtype))
    d = np.random.default_rng(0).standard_normal((6, 8)).astype(dtype) * 3
    large = np.full((12, 16), np.nan, dtype)
    large[::2, ::-2] = d
    for other in (np.asfortranarray(d), large[::2, ::-2]):
        np.testing.assert_allclose(clipped(other, 2.0, axis), clipped(d, 2.0, axis), rtol=eps(dtype))
