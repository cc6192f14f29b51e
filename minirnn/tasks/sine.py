"""Sine prediction: the next value of a wave whose frequency has to be heard first."""

import math

import numpy as np

from minirnn.arguments import as_size
from minirnn.tasks.base import Batch, Defaults, SequenceTask

SLOWEST, FASTEST = 0.2, 1.0
"""The range of the frequencies ω, in radians per step: periods from 31 steps to 6."""


class SineTask(SequenceTask):
    """A sine wave of random frequency and phase; at every step, its next value.

    x[t, n, 0] = sin(ω t + φ) and y[t, n, 0] = x[t + 1, n, 0], with ω ~ U[0.2, 1) radians a step and φ ~ U[0, 2π).

    Judged by the mean squared error over all T steps. sin(ω t + φ + ω) = x cos ω + cos(ω t + φ) sin ω, and since the
    sign of the last term is open, the best that can be said without memory is x·c with c = E cos ω = (sin 1 − sin 0.2)
    / 0.8. Its error is (1 − c²) / 2, about 0.177: the ``baseline``. From three values ω and φ are known, so that all
    the error of a perfect memory is at the first steps: at the first alone 1/T of the baseline.

    Parameters
    ----------
    T : int
        Steps in time, at least 1.

    Notes
    -----
    Source: an exercise of many courses.

    Examples
    --------
    >>> x, y = SineTask(T=50).batch(3, rng=0)
    >>> bool((x[1:] == y[:-1]).all())
    True
    """

    name = "sine"
    description = "predict the next value of a sine wave of unknown frequency and phase"
    source = "an exercise of many courses"
    rule = "mean squared error below 0.01 (the best guess from one value: 0.177)"
    readout = "all"
    defaults = Defaults(hidden=64, batch=32, init="orthogonal", lr=3e-3, max_updates=5_000)
    input_size, output_size, goal = 1, 1, 0.01
    baseline = (1 - ((math.sin(FASTEST) - math.sin(SLOWEST)) / (FASTEST - SLOWEST)) ** 2) / 2

    def __init__(self, T: int = 50) -> None:
        self.T = as_size(T, "SineTask: T")

    def _draw(self, N: int, rng: np.random.Generator) -> Batch:
        frequency, phase = rng.uniform(SLOWEST, FASTEST, N), rng.uniform(0, 2 * math.pi, N)
        wave = np.sin(np.arange(self.T + 1)[:, None] * frequency + phase).astype(np.float32)[:, :, None]
        return wave[:-1], wave[1:]
