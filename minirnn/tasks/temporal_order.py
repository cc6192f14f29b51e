"""Temporal order: which of two symbols came first, and which after it."""

from typing import ClassVar

import numpy as np

from minirnn.arguments import as_size
from minirnn.tasks.base import Batch, Defaults, SequenceTask, one_hot

DISTRACTORS = 4


class TemporalOrderTask(SequenceTask):
    """Two steps hold X or Y, all others one of four distractors: tell XX, XY, YX and YY apart.

    With s = ⌊T/10⌋, the first relevant step is uniform over s … 2s − 1, the second over ⌊T/2⌋ … ⌊T/2⌋ + s − 1. X and Y
    are drawn evenly. x is one-hot (T, N, 6), in the order X, Y and the distractors; y (N,) is Σ 2ⁱ vᵢ, where vᵢ is 0
    for X and 1 for Y at the i-th relevant step.

    Judged by the share of sequences wrong. The four classes are equally frequent: whoever guesses is wrong in 3/4 of
    them, the ``baseline``.

    Parameters
    ----------
    T : int
        Steps in time, at least 10.

    Notes
    -----
    Source: Pascanu, Mikolov & Bengio 2013, "On the difficulty of training recurrent neural networks", and its code,
    which is followed here. The original, Hochreiter & Schmidhuber 1997, experiment 6a, has a symbol more at the start
    and at the end, and lengths 100 … 110.

    Examples
    --------
    >>> x, y = TemporalOrderTask(T=20).batch(3, rng=0)
    >>> ["".join("XYabcd"[i] for i in row) for row in x.argmax(axis=-1).T], y.tolist()
    (['dbaXcccdbadYabacbbdc', 'cbaYccdcddaXbbaccbdd', 'caaXdcbaccaXbaacddbc'], [2, 1, 0])
    """

    name = "temporal-order"
    description = "tell which of XX, XY, YX, YY was hidden among distractors"
    source = "Pascanu, Mikolov & Bengio 2013, after Hochreiter & Schmidhuber 1997, experiment 6a"
    rule = "fewer than 1 % of the sequences wrong (guessing: 75 %)"
    metric = "share of sequences wrong"
    kind = "classification"
    defaults = Defaults(cell="gru", hidden=32, batch=32, init="orthogonal", lr=3e-3, max_updates=5_000)
    starts: ClassVar[tuple[int, ...]] = (1, 5)
    """Where the ranges of the relevant steps start, in tenths of T."""
    input_size, output_size, baseline, goal = 2 + DISTRACTORS, 4, 3 / 4, 0.01

    def __init__(self, T: int = 50) -> None:
        self.T = as_size(T, f"{type(self).__name__}: T", 10)

    def _draw(self, N: int, rng: np.random.Generator) -> Batch:
        x, y = rng.integers(2, 2 + DISTRACTORS, size=(self.T, N)), np.zeros(N, np.int64)
        for i, start in enumerate(self.starts):
            at = self.T * start // 10 + rng.integers(self.T // 10, size=N)
            value = rng.integers(2, size=N)
            x[at, np.arange(N)] = value
            y += value << i
        return one_hot(x, self.input_size), y


class TemporalOrderThreeTask(TemporalOrderTask):
    """As `TemporalOrderTask` with three relevant steps: eight classes, XXX … YYY, and a ``baseline`` of 7/8.

    The relevant steps are uniform over the ⌊T/10⌋ steps from ⌊T/10⌋, ⌊3T/10⌋ and ⌊6T/10⌋ on.

    Parameters
    ----------
    T : int
        Steps in time, at least 10.

    Notes
    -----
    Source: as for `TemporalOrderTask`; in Hochreiter & Schmidhuber 1997 it is experiment 6b.
    """

    name = "temporal-order-3"
    description = "tell which of XXX, XXY, … YYY was hidden among distractors"
    source = "Pascanu, Mikolov & Bengio 2013, after Hochreiter & Schmidhuber 1997, experiment 6b"
    rule = "fewer than 1 % of the sequences wrong (guessing: 87.5 %)"
    starts = (1, 3, 6)
    output_size, baseline = 8, 7 / 8
