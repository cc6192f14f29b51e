"""Products in parts that BLAS does not pack."""

import numpy as np
import pytest

from minirnn.kernels import products


@pytest.fixture
def cut(monkeypatch):
    monkeypatch.setattr(products, "CUTS", True)


@pytest.mark.parametrize(
    ("R", "K", "N", "rows"),
    [
        (512, 193, 32, 128),  # 1,000,000 // (193 · 32) = 161: 4 parts
        (500, 193, 32, 128),  # of fours of rows
        (1024, 385, 64, 40),
        (100, 100, 100, 100),  # a million are not too many
        (101, 100, 100, 52),
        (512, 1024, 128, 512),  # parts of 7 rows would take longer than packing
        (80, 31, 32, 80),
    ],
)
def test_parts_have_up_to_a_million_multiplications_and_eight_rows_or_more(cut, R, K, N, rows):
    assert products.part_rows(R, K * N) == rows


@pytest.mark.parametrize("R", [8, 19, 24, 25])
def test_parts_give_what_the_whole_gives(cut, monkeypatch, R):
    monkeypatch.setattr(products, "MOST", 8 * 5 * 3)
    rng = np.random.default_rng(R)
    W, u, z = rng.standard_normal((R, 5)), rng.standard_normal((5, 3)), np.full((R, 3), np.nan)
    products.times(W, 3)(u, z)
    np.testing.assert_allclose(z, W @ u, rtol=0, atol=1e-15)
    h, W, z = rng.standard_normal((R, 4)), rng.standard_normal((4, 4)), np.full((R, 4), np.nan)
    products.of_rows(R, 4)(h, W, z)
    np.testing.assert_allclose(z, h @ W, rtol=0, atol=1e-15)
    products.multiply(h, W[:, :3], z := np.full((R, 3), np.nan))
    np.testing.assert_allclose(z, h @ W[:, :3], rtol=0, atol=1e-15)


def test_without_such_kernels_nothing_is_cut(monkeypatch):
    monkeypatch.setattr(products, "CUTS", False)
    assert products.part_rows(512, 193 * 32) == 512
    assert products.fitting(50, 80 * 20 * 32) == 50


def test_steps_whose_sums_fit_are_taken_together_if_they_are_not_too_few(cut):
    assert products.fitting(50, 80 * 20 * 32) == 19
    assert products.fitting(12, 80 * 20 * 32) == 12
    assert products.fitting(50, 512 * 128 * 32) == 50
