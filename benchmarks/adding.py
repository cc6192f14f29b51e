"""The adding problem's data and the first weights, as arrays: what both sides of ``step`` and ``cold`` start from.

The same numbers as minirnn/tasks/adding.py draws (tests/test_benchmarks.py holds them against it), copied here so that
a process that trains with a peer need not import minirnn.
"""

from typing import Any, NamedTuple

import numpy as np

D, H, N = 2, 100, 16  # inputs, hidden neurons, sequences in a mini-batch
LEARNING_RATE, CLIP = 1e-3, 1.0
_HELD_OUT = 0x68656C64


class Start(NamedTuple):
    """The weights of an IRNN (Le, Jaitly, Hinton 2015) and its head before the first update, float32."""

    W_xh: Any  # (D, H)
    W_hh: Any  # (H, H)
    b_h: Any  # (H,)
    W_hy: Any  # (H, 1)
    b_y: Any  # (1,)


def start(rng: np.random.Generator) -> Start:
    """Draw W_xh ~ N(0, 0.001²) and W_hy as Glorot; W_hh is the identity and the biases are zero."""
    limit = (6 / (H + 1)) ** 0.5
    arrays = rng.normal(0, 0.001, (D, H)), np.eye(H), np.zeros(H), rng.uniform(-limit, limit, (H, 1)), np.zeros(1)
    return Start(*(array.astype(np.float32) for array in arrays))


def batch(T: int, size: int, rng: np.random.Generator) -> tuple[Any, Any]:
    """Draw x (T, N, 2), values and two marks in each sequence, and y (N, 1), the sum of the marked values."""
    half, rows = T // 2, np.arange(size)
    first, second = rng.integers(half, size=size), rng.integers(half, T, size=size)
    x = np.zeros((T, size, 2), np.float32)
    x[:, :, 0] = rng.random((T, size), np.float32)
    x[first, rows, 1] = x[second, rows, 1] = 1.0
    return x, (x[first, rows, 0] + x[second, rows, 0])[:, None]


def held_out(T: int, size: int, seed: int) -> tuple[Any, Any]:
    """Draw the batch that a seed is judged by, from another stream than the training data."""
    return batch(T, size, np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(_HELD_OUT,))))
