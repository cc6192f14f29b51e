"""Chunks: they cover every step once, and stay in the cache."""

import numpy as np
import pytest

from minirnn.kernels.scratch import chunk_length, chunks


@pytest.mark.parametrize(("T", "length"), [(1, 1), (5, 1), (5, 2), (6, 2), (5, 5), (5, 9)])
def test_chunks_cover_every_step_once(T, length):
    spans = list(chunks(T, length))
    assert [t for lo, hi in spans for t in range(lo, hi)] == list(range(T))
    assert all(hi - lo == length for lo, hi in spans[:-1])
    assert 1 <= spans[-1][1] - spans[-1][0] <= length


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
