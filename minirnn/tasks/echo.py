"""Delayed echo: say what was heard some steps ago."""

import numpy as np

from minirnn.arguments import as_size
from minirnn.tasks.base import Batch, Defaults, SequenceTask


class EchoTask(SequenceTask):
    """Fair bits; at every step, the bit of ``delay`` steps before, and 0 as long as there was none.

    x[t, n, 0] ∈ {0, 1}; y[t, n] = x[t − delay, n, 0] for t ≥ delay, and 0 before: silence was heard.

    Judged by the share of steps wrong, over all T steps. The bit of ``delay`` steps before is fair and independent of
    the present one: always saying 0 is wrong in half of the T − delay steps that have an echo. The ``baseline`` is
    (T − delay) / 2T.

    Parameters
    ----------
    T : int
        Steps in time, at least 2.
    delay : int
        1 … T − 1.

    Notes
    -----
    Source: an exercise of many courses; no first paper is known.

    Examples
    --------
    >>> x, y = EchoTask(T=8, delay=3).batch(1, rng=0)
    >>> x[:, 0, 0].astype(int).tolist(), y[:, 0].tolist()
    ([1, 1, 1, 0, 0, 0, 0, 0], [0, 0, 0, 1, 1, 1, 0, 0])
    """

    name = "echo"
    description = "say at every step the bit that was heard some steps before"
    source = "an exercise of many courses"
    rule = "fewer than 1 % of the steps wrong (always saying 0: (T − delay) / 2T)"
    metric = "share of steps wrong"
    kind = "classification"
    readout = "all"
    defaults = Defaults(hidden=64, batch=32, init="orthogonal", lr=3e-3, max_updates=5_000)
    settings = ("T", "delay")
    input_size, output_size, goal = 1, 2, 0.01

    def __init__(self, T: int = 50, delay: int = 10) -> None:
        self.T = as_size(T, "EchoTask: T", 2)
        self.delay = as_size(delay, "EchoTask: delay")
        if self.delay >= self.T:
            raise ValueError(
                f"EchoTask: delay must be below T={self.T}, got {self.delay}: there would be nothing to echo"
            )
        self.baseline = (self.T - self.delay) / (2 * self.T)

    def _draw(self, N: int, rng: np.random.Generator) -> Batch:
        bits = rng.integers(2, size=(self.T, N))
        y = np.zeros_like(bits)
        y[self.delay :] = bits[: -self.delay]
        return bits[:, :, None].astype(np.float32), y
