"""The adding problem as it was first posed, in 1997."""

from fractions import Fraction

import numpy as np

from minirnn.arguments import Array, as_size
from minirnn.tasks.base import Batch, Defaults, SequenceTask

TOLERANCE = 0.04
"""A sequence is right when the absolute error at its end is below this."""


class OriginalAddingTask(SequenceTask):
    """The adding problem of Hochreiter & Schmidhuber 1997: signed numbers, a mark at either end, unequal lengths.

    Each row has a length L uniform over T … ⌊1.1·T⌋. x[t, n, 0] ~ U[−1, 1). x[t, n, 1] is −1 at the first and the last
    step, 1 at the two marked ones, else 0. The first mark is on one of the first ten steps, the second on one of the
    first ⌊T/2⌋ − 1 steps not yet marked. A mark that falls on the first step counts as the number 0 (its −1 stays).
    y[n] = 0.5 + (X₁ + X₂) / 4.

    Judged by the **share of sequences wrong**: |error| ≥ 0.04. Always predicting 0.5 is right when |X₁ + X₂| < 0.16: of
    probability 0.16 − 0.0064 where both numbers count, 0.16 where one of them is 0, which it is with probability
    p = 1/10 + 9/10 · 1/(⌊T/2⌋ − 1). The ``baseline`` is 1 − 0.1536 (1 − p) − 0.16 p, about 0.846.

    Parameters
    ----------
    T : int
        The smallest length, at least 11.

    Notes
    -----
    Source: Hochreiter & Schmidhuber 1997, "Long short-term memory", experiment 4, worded as in the authors' "LSTM can
    solve hard long time lag problems", experiment 1. Where the paper leaves it open whether the second mark may fall on
    the first step, it may here.

    Examples
    --------
    >>> x, y, lengths = OriginalAddingTask(T=20).batch(4, rng=0)
    >>> len(x) == int(lengths.max()), bool((lengths >= 20).all() and (lengths <= 22).all())
    (True, True)
    """

    name = "adding-original"
    description = "output 0.5 + (X₁ + X₂)/4 of the two marked numbers, both in the first half"
    source = "Hochreiter & Schmidhuber 1997, experiment 4"
    rule = "fewer than 1 % of the sequences wrong (an absolute error of 0.04 or more)"
    metric = "share of sequences wrong"
    defaults = Defaults(cell="lstm", hidden=32, batch=32, init="orthogonal", lr=3e-3, max_updates=10_000)
    input_size, output_size, goal = 2, 1, 0.01

    def __init__(self, T: int = 50) -> None:
        self.T = as_size(T, "OriginalAddingTask: T", 11)
        p = Fraction(1, 10) + Fraction(9, 10) / (self.T // 2 - 1)
        self.baseline = float(1 - Fraction(1536, 10_000) * (1 - p) - Fraction(16, 100) * p)

    def _draw(self, N: int, rng: np.random.Generator) -> Batch:
        lengths, rows = rng.integers(self.T, self.T + self.T // 10 + 1, size=N), np.arange(N)
        first, second = rng.integers(10, size=N), rng.integers(self.T // 2 - 1, size=N)
        second += second >= first  # the steps not yet marked, counted through
        x = np.zeros((int(lengths.max()), N, 2), np.float32)
        x[:, :, 0] = (2 * rng.random((len(x), N), np.float32) - 1) * (np.arange(len(x))[:, None] < lengths)
        X = [np.where(at == 0, np.float32(0), x[at, rows, 0]) for at in (first, second)]
        for at in (first, second):
            x[at, rows, 1] = 1.0
        x[0, :, 1] = x[lengths - 1, rows, 1] = -1.0
        return x, (np.float32(0.5) + (X[0] + X[1]) / np.float32(4))[:, None], lengths

    def _figure(self, predictions: Array, y: Array, counting: Array) -> float:
        return float(1 - (np.abs(predictions - y) < TOLERANCE).mean())
