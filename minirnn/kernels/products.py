"""Products of a matrix with what a step makes, large ones in parts.

OpenBLAS packs its operands before it multiplies, at each call anew; for AVX-512, products of up to a million
multiplications have kernels of their own that do not. A matrix that stays for all steps is best cut into parts of that
size: (512, 193) times (193, 32) takes 57 µs instead of 68, (1024, 385) times (385, 64) 450 instead of 510.
"""

from collections.abc import Callable
from importlib import import_module
from typing import Any

import numpy as np

from minirnn.arguments import Array

MOST = 1_000_000
"""How many multiplications a product without packing has at most."""

FEWEST = 8
"""Fewer rows than this are no part: that takes longer than packing."""


def _packs_less() -> bool:
    """Return whether this CPU has such kernels; where numpy does not say, it has none."""
    try:
        features = import_module("numpy._core._multiarray_umath").__cpu_features__  # as numpy.show_runtime has it
    except (ImportError, AttributeError):
        return False
    return bool(features.get("AVX512_SKX"))


CUTS = _packs_less()


def part_rows(R: int, multiplications: int) -> int:
    """Return in parts of how many of R rows, of so many multiplications each, a product is best made."""
    most = MOST // multiplications & ~3
    if not CUTS or most < FEWEST or R * multiplications <= MOST:
        return R
    return -(-R // -(-R // most) // 4) * 4  # parts of about the same size, of fours of rows


def row_parts(N: int, multiplications: int) -> list[slice] | None:
    """Return the parts of N rows in which a product is best made; None for the whole."""
    rows = part_rows(N, multiplications)
    return None if rows == N else [slice(lo, lo + rows) for lo in range(0, N, rows)]


def multiply(rows: Any, W: Array, out: Array) -> None:
    """Write rows (R, K), an array or a `OneHot`, times W (K, H) to ``out``."""
    apart = isinstance(rows, np.ndarray) and rows.flags.c_contiguous  # with features first parts would be slower
    parts = row_parts(len(rows), W.size) if apart else None
    if parts is None:
        np.dot(rows, W, out=out)
    else:
        for part in parts:
            np.dot(rows[part], W, out=out[part])


def fitting(n: int, multiplications: int) -> int:
    """Return how many of up to ``n`` steps, of so many multiplications each, are best in one product: some, or all."""
    fit = MOST // multiplications
    return fit if CUTS and FEWEST <= fit < n else n


def times(W: Array, N: int) -> Callable[[Array, Array], Any]:
    """Return the function (u, z) that writes W u to z, for W (R, K) and columns u (K, N)."""
    parts = row_parts(len(W), W.shape[1] * N)
    if parts is None:
        return W.dot
    cut = [(W[part].dot, part) for part in parts]

    def product(u: Array, z: Array) -> None:
        for dot, part in cut:
            dot(u, z[part])

    return product


def of_rows(N: int, H: int) -> Any:
    """Return the method (h, W, z) that writes h W to z, for rows h (N, H) and a matrix W (H, H)."""
    parts = row_parts(N, H * H)
    if parts is None:
        return np.ndarray.dot

    def product(h: Array, W: Array, z: Array) -> None:
        for part in parts:
            h[part].dot(W, z[part])

    return product
