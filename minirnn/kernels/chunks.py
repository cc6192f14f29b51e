"""How the unroll goes through time, in chunks that stay in the cache, and over the rows, in parts for threads."""

from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np

Run = Callable[[Sequence[Callable[[], Any]]], list[Any]]
"""Runs the parts of a mini-batch, for example at once, and returns their results in order."""


def chunk_length(N: int, width: int, dtype: np.dtype[Any]) -> int:
    """Return how many steps of N rows of so many numbers are gone through at a time.

    As many as fill 512 KiB, which then are still in the cache when the loop comes to them, or give the products over
    all rows of a chunk 1,024 rows, beside which it costs little to start one; 256 at most.
    """
    return min(256, max(1, 2**19 // (N * width * dtype.itemsize), 1024 // N))


def chunks(T: int, length: int) -> list[tuple[int, int]]:
    """Return where each chunk of the T steps begins and ends, the last one shorter where need be."""
    return [(lo, min(lo + length, T)) for lo in range(0, T, length)]


def power_of_two(n: int) -> int:
    """Return the smallest power of two that is not less than n: scratch of few sizes serves for all."""
    return 1 << (n - 1).bit_length()


def each(part: Callable[[int, slice], Any], N: int, parts: int, run: Run | None) -> list[Any]:
    """Call ``part`` with the number of each part and its rows; parts differ by one row at most."""
    if parts == 1 and run is None:
        return [part(0, slice(None))]
    edges = [N * i // parts for i in range(parts + 1)]
    tasks = [partial(part, i, slice(lo, hi)) for i, (lo, hi) in enumerate(pairwise(edges))]
    return [task() for task in tasks] if run is None else run(tasks)
