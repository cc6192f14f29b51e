"""Copy memory: keep ten symbols over T steps, then say them."""

import math

import numpy as np

from minirnn.arguments import Array, as_size
from minirnn.tasks.base import Batch, Defaults, SequenceTask, nats, one_hot

SYMBOLS, LENGTH = 8, 10
BLANK, DELIMITER = SYMBOLS, SYMBOLS + 1


class CopyTask(SequenceTask):
    """Ten symbols, a pause, a signal: say the ten symbols in their order, and nothing before.

    T + 20 steps: ten symbols, uniform over 8; T − 1 blanks; the delimiter; ten blanks. The target is the blank at the
    first T + 10 steps and then the ten symbols. x is one-hot (T + 20, N, 10), in the order of the symbols, the blank,
    the delimiter; y (T + 20, N) are class ids, 8 being the blank.

    Judged by the mean cross entropy over **all** T + 20 steps, in nats per step. Who counts the steps, but remembers no
    symbol, pays ln 8 for each of the last ten and nothing for the others: 10 ln 8 / (T + 20), the ``baseline``.

    Parameters
    ----------
    T : int
        Steps from the last symbol to the delimiter, the delimiter included; at least 1.

    Notes
    -----
    Source: Arjovsky, Shah & Bengio 2016, "Unitary evolution recurrent neural networks", after Hochreiter &
    Schmidhuber 1997.

    Examples
    --------
    >>> x, y = CopyTask(T=5).batch(1, rng=0)
    >>> x.argmax(axis=-1)[:, 0].tolist()
    [6, 5, 4, 2, 2, 0, 0, 0, 1, 6, 8, 8, 8, 8, 9, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8]
    >>> y[:, 0].tolist()
    [8, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8, 6, 5, 4, 2, 2, 0, 0, 0, 1, 6]
    """

    name = "copy"
    description = "remember ten symbols over a pause of T steps, then say them"
    source = "Arjovsky, Shah & Bengio 2016, after Hochreiter & Schmidhuber 1997"
    rule = "cross entropy below a tenth of 10 ln 8 / (T + 20), the price of forgetting"
    metric = "nats per step"
    kind = "classification"
    readout = "all"
    defaults = Defaults(hidden=128, batch=32, init="orthogonal", activation="identity", max_updates=5_000)
    input_size, output_size = SYMBOLS + 2, SYMBOLS + 1

    def __init__(self, T: int = 20) -> None:
        self.T = as_size(T, "CopyTask: T")
        self.baseline = LENGTH * math.log(SYMBOLS) / (self.T + 2 * LENGTH)
        self.goal = self.baseline / 10

    def _draw(self, N: int, rng: np.random.Generator) -> Batch:
        symbols = rng.integers(SYMBOLS, size=(LENGTH, N))
        x = np.full((self.T + 2 * LENGTH, N), BLANK)
        y = x.copy()
        x[:LENGTH], x[-LENGTH - 1], y[-LENGTH:] = symbols, DELIMITER, symbols
        return one_hot(x, self.input_size), y

    def _figure(self, predictions: Array, y: Array, counting: Array) -> float:
        return float(nats(predictions, y)[counting].mean())
