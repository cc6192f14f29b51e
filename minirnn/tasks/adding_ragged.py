"""The adding problem with rows of unequal length."""

import numpy as np

from minirnn.arguments import as_size
from minirnn.tasks.base import Batch, Defaults, SequenceTask


class RaggedAddingTask(SequenceTask):
    """The adding problem with a length of its own for every row, uniform over ⌈T/2⌉ … T.

    Within its length L a row is as `adding` draws it: a marker in the first ⌊L/2⌋ steps, one in the rest. What stands
    past it is 0, and counts for nothing as long as the lengths are handed on: ``model(x, lengths=lengths)``. The
    ``baseline`` is that of `AddingTask`, 1/6, since the target does not depend on the length.

    Parameters
    ----------
    T : int
        The largest length, at least 3.

    Notes
    -----
    Source: this library's variant of `adding`.

    Examples
    --------
    >>> x, y, lengths = RaggedAddingTask(T=10).batch(4, rng=0)
    >>> x.shape, y.shape, bool((lengths >= 5).all())
    ((10, 4, 2), (4, 1), True)
    """

    name = "adding-ragged"
    description = "add the two marked numbers of a sequence; every row has its own length"
    source = "adding, with lengths uniform over T/2 … T"
    rule = "mean squared error below 0.01 (always predicting 1 gives 1/6)"
    defaults = Defaults()
    input_size, output_size, baseline, goal = 2, 1, 1 / 6, 0.01

    def __init__(self, T: int = 50) -> None:
        self.T = as_size(T, "RaggedAddingTask: T", 3)

    def _draw(self, N: int, rng: np.random.Generator) -> Batch:
        lengths, rows = rng.integers((self.T + 1) // 2, self.T + 1, size=N), np.arange(N)
        first, second = rng.integers(lengths // 2), rng.integers(lengths // 2, lengths)
        x = np.zeros((self.T, N, 2), np.float32)
        x[:, :, 0] = rng.random((self.T, N), np.float32) * (np.arange(self.T)[:, None] < lengths)
        x[first, rows, 1] = 1.0
        x[second, rows, 1] = 1.0
        return x, (x[first, rows, 0] + x[second, rows, 0])[:, None], lengths
