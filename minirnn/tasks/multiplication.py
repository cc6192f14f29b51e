"""The multiplication problem: remember two numbers over T steps, and multiply them."""

import numpy as np

from minirnn.arguments import as_size
from minirnn.tasks.adding import marked
from minirnn.tasks.base import Batch, Defaults, SequenceTask


class MultiplicationTask(SequenceTask):
    """The adding problem with the product as its target: y[n] = x[t₁, n, 0] · x[t₂, n, 0], see `adding`.

    Judged by the mean squared error. Always predicting the mean of the target, 1/4, gives the variance of a product of
    two independent U[0, 1): (1/3)² − (1/4)² = 7/144, the ``baseline``.

    Parameters
    ----------
    T : int
        Steps in time, at least 2.

    Notes
    -----
    Source: Hochreiter & Schmidhuber 1997, "Long short-term memory", experiment 5, which was to show that memory
    cells can do more than add up. Their numbers are from [0, 1] as here; their markers, lengths and first and last
    steps are those of `OriginalAddingTask`.

    Examples
    --------
    >>> x, y = MultiplicationTask(T=10).batch(3, rng=0)
    >>> bool(np.allclose(np.where(x[:, :, 1] == 1, x[:, :, 0], 1).prod(axis=0), y[:, 0]))
    True
    """

    name = "multiplication"
    description = "multiply the two marked numbers of a sequence, one in each half"
    source = "Hochreiter & Schmidhuber 1997, experiment 5; markers placed as in adding"
    rule = "mean squared error below 0.003 (always predicting 1/4 gives 7/144)"
    defaults = Defaults(cell="gru", hidden=32, batch=32, init="orthogonal", lr=3e-3, max_updates=5_000)
    input_size, output_size, baseline, goal = 2, 1, 7 / 144, 0.003

    def __init__(self, T: int = 50) -> None:
        self.T = as_size(T, "MultiplicationTask: T", 2)

    def _draw(self, N: int, rng: np.random.Generator) -> Batch:
        x, first, second = marked(self.T, N, rng)
        rows = np.arange(N)
        return x, (x[first, rows, 0] * x[second, rows, 0])[:, None]
