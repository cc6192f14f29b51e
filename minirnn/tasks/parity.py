"""Parity: whether the number of ones so far is odd."""

import numpy as np

from minirnn.arguments import as_size
from minirnn.tasks.base import Batch, Defaults, SequenceTask


class ParityTask(SequenceTask):
    """Fair bits; at every step, whether the number of ones up to and with it is odd.

    x[t, n, 0] ∈ {0, 1} and y[t, n] = (x[0, n] + … + x[t, n]) mod 2: one bit of memory, which a
    single slip spoils for good.

    Judged by the share of steps wrong. The parity before a fair bit is fair and independent of it, but for the first
    step, where parity and bit are the same: repeating the bit is wrong in half of the other T − 1 steps. The
    ``baseline`` is (T − 1) / 2T.

    Parameters
    ----------
    T : int
        Steps in time, at least 1.

    Notes
    -----
    Source: Minsky & Papert 1969, "Perceptrons", for parity; as a test of recurrent nets, Hochreiter & Schmidhuber 1996,
    "Bridging long time lags by weight guessing and long short-term memory". There, the target is the parity at the end
    only.

    Examples
    --------
    >>> x, y = ParityTask(T=8).batch(1, rng=0)
    >>> x[:, 0, 0].astype(int).tolist(), y[:, 0].tolist()
    ([1, 1, 1, 0, 0, 0, 0, 0], [1, 0, 1, 1, 1, 1, 1, 1])
    """

    name = "parity"
    description = "say at every step whether the number of ones so far is odd"
    source = "Hochreiter & Schmidhuber 1996, with a target at every step"
    rule = "fewer than 1 % of the steps wrong (repeating the bit: (T − 1) / 2T)"
    metric = "share of steps wrong"
    kind = "classification"
    readout = "all"
    defaults = Defaults(cell="lstm", hidden=32, batch=32, init="orthogonal", lr=1e-2, max_updates=5_000)
    input_size, output_size, goal = 1, 2, 0.01

    def __init__(self, T: int = 30) -> None:
        self.T = as_size(T, "ParityTask: T")
        self.baseline = (self.T - 1) / (2 * self.T)

    def _draw(self, N: int, rng: np.random.Generator) -> Batch:
        bits = rng.integers(2, size=(self.T, N))
        return bits[:, :, None].astype(np.float32), bits.cumsum(axis=0) % 2
