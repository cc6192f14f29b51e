"""Chunks: they cover every step once, and stay in the cache."""

import numpy as np
import pytest

from minirnn.kernels.scratch import chunk_length


@pytest.mark.parametrize(
    ("N", "width", "dtype", "length"),
    [
        (1, 20, np.float32, 256),  # no more views than that
        (16, 100, np.float32, 81),  # 512 KiB
        (16, 100, np.float64, 64),  # 1,024 rows
        (128, 512, np.float32, 8),
        (4096, 4096, np.float32, 1),
    ],
)
def test_a_chunk_fills_the_cache_or_a_product(N, width, dtype, length):
    assert chunk_length(N, width, np.dtype(dtype)) == length
