"""Symbols, bits and waves to be remembered: copy, echo, parity, temporal order and the sine wave."""

import math
from typing import ClassVar

import numpy as np

from minirnn.arguments import Array, as_size
from minirnn.tasks.base import Batch, Defaults, TimedTask, nats, one_hot

SYMBOLS, LENGTH = 8, 10
BLANK, DELIMITER = SYMBOLS, SYMBOLS + 1
"""Of `CopyTask`."""
DISTRACTORS = 4
"""Of `TemporalOrderTask`."""
SLOWEST, FASTEST = 0.2, 1.0
"""The range of the frequencies ω of `SineTask`, in radians per step: periods from 31 steps to 6."""


class CopyTask(
    TimedTask,
    name="copy",
    description="remember ten symbols over a pause of T steps, then say them",
    source="Arjovsky, Shah & Bengio 2016, after Hochreiter & Schmidhuber 1997",
    rule="cross entropy below a tenth of 10 ln 8 / (T + 20), the price of forgetting",
    metric="nats per step",
    kind="classification",
    readout="all",
    defaults=Defaults(hidden=128, batch=32, init="orthogonal", activation="identity", max_updates=5_000),
    input_size=SYMBOLS + 2,
    output_size=SYMBOLS + 1,
):
    """Ten symbols, a pause, a signal: say the ten symbols in their order, and nothing before.

    T + 20 steps: ten symbols, uniform over 8; T − 1 blanks; the delimiter; ten blanks. The target is the blank at the
    first T + 10 steps and then the ten symbols. x is one-hot (T + 20, N, 10), in the order of the symbols, the blank,
    the delimiter; y (T + 20, N) are class ids, 8 being the blank.

    Judged by the mean cross entropy over **all** T + 20 steps, in nats per step. Who counts the steps, but remembers no
    symbol, pays ln 8 for each of the last ten and nothing for the others: 10 ln 8 / (T + 20), the ``baseline``.

    Source: Arjovsky, Shah & Bengio 2016, "Unitary evolution recurrent neural networks", after Hochreiter &
    Schmidhuber 1997. T, at least 1, counts the steps from the last symbol to the delimiter, the delimiter included.

    >>> x, y = CopyTask(T=5).batch(1, rng=0)
    >>> x.argmax(axis=-1)[:, 0].tolist()
    [6, 5, 4, 2, 2, 0, 0, 0, 1, 6, 8, 8, 8, 8, 9, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8]
    >>> y[:, 0].tolist()
    [8, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8, 6, 5, 4, 2, 2, 0, 0, 0, 1, 6]
    """

    def __init__(self, T: int = 20) -> None:
        super().__init__(T)
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


class TemporalOrderTask(
    TimedTask,
    name="temporal-order",
    description="tell which of XX, XY, YX, YY was hidden among distractors",
    source="Pascanu, Mikolov & Bengio 2013, after Hochreiter & Schmidhuber 1997, experiment 6a",
    rule="fewer than 1 % of the sequences wrong (guessing: 75 %)",
    metric="share of sequences wrong",
    kind="classification",
    defaults=Defaults(cell="gru", hidden=32, batch=32, init="orthogonal", lr=3e-3, max_updates=5_000),
    input_size=2 + DISTRACTORS,
    output_size=4,
    baseline=3 / 4,
    goal=0.01,
    shortest=10,
):
    """Two steps hold X or Y, all others one of four distractors: tell XX, XY, YX and YY apart.

    With s = ⌊T/10⌋, the first relevant step is uniform over s … 2s − 1, the second over ⌊T/2⌋ … ⌊T/2⌋ + s − 1. X and Y
    are drawn evenly. x is one-hot (T, N, 6), in the order X, Y and the distractors; y (N,) is Σ 2ⁱ vᵢ, where vᵢ is 0
    for X and 1 for Y at the i-th relevant step.

    Judged by the share of sequences wrong. The four classes are equally frequent: whoever guesses is wrong in 3/4 of
    them, the ``baseline``.

    Source: Pascanu, Mikolov & Bengio 2013, "On the difficulty of training recurrent neural networks", and its code,
    which is followed here. The original, Hochreiter & Schmidhuber 1997, experiment 6a, has a symbol more at the start
    and at the end, and lengths 100 … 110. T is at least 10.

    >>> x, y = TemporalOrderTask(T=20).batch(3, rng=0)
    >>> ["".join("XYabcd"[i] for i in row) for row in x.argmax(axis=-1).T], y.tolist()
    (['dbaXcccdbadYabacbbdc', 'cbaYccdcddaXbbaccbdd', 'caaXdcbaccaXbaacddbc'], [2, 1, 0])
    """

    starts: ClassVar[tuple[int, ...]] = (1, 5)
    """Where the ranges of the relevant steps start, in tenths of T."""

    def _draw(self, N: int, rng: np.random.Generator) -> Batch:
        x, y = rng.integers(2, 2 + DISTRACTORS, size=(self.T, N)), np.zeros(N, np.int64)
        for i, start in enumerate(self.starts):
            at = self.T * start // 10 + rng.integers(self.T // 10, size=N)
            value = rng.integers(2, size=N)
            x[at, np.arange(N)] = value
            y += value << i
        return one_hot(x, self.input_size), y


class TemporalOrderThreeTask(
    TemporalOrderTask,
    name="temporal-order-3",
    description="tell which of XXX, XXY, … YYY was hidden among distractors",
    source="Pascanu, Mikolov & Bengio 2013, after Hochreiter & Schmidhuber 1997, experiment 6b",
    rule="fewer than 1 % of the sequences wrong (guessing: 87.5 %)",
    output_size=8,
    baseline=7 / 8,
):
    """As `TemporalOrderTask` with three relevant steps: eight classes, XXX … YYY, and a ``baseline`` of 7/8.

    The relevant steps are uniform over the ⌊T/10⌋ steps from ⌊T/10⌋, ⌊3T/10⌋ and ⌊6T/10⌋ on.

    Source: as for `TemporalOrderTask`; in Hochreiter & Schmidhuber 1997 it is experiment 6b. T is at least 10.
    """

    starts = (1, 3, 6)


class ParityTask(
    TimedTask,
    name="parity",
    description="say at every step whether the number of ones so far is odd",
    source="Hochreiter & Schmidhuber 1996, with a target at every step",
    rule="fewer than 1 % of the steps wrong (repeating the bit: (T − 1) / 2T)",
    metric="share of steps wrong",
    kind="classification",
    readout="all",
    defaults=Defaults(cell="lstm", hidden=32, batch=32, init="orthogonal", lr=1e-2, max_updates=5_000),
    input_size=1,
    output_size=2,
    goal=0.01,
):
    """Fair bits; at every step, whether the number of ones up to and with it is odd.

    x[t, n, 0] ∈ {0, 1} and y[t, n] = (x[0, n] + … + x[t, n]) mod 2: one bit of memory, which one slip spoils for good.

    Judged by the share of steps wrong. The parity before a fair bit is fair and independent of it, but for the first
    step, where parity and bit are the same: repeating the bit is wrong in half of the other T − 1 steps. The
    ``baseline`` is (T − 1) / 2T.

    Source: Minsky & Papert 1969, "Perceptrons", for parity; as a test of recurrent nets, Hochreiter & Schmidhuber 1996,
    "Bridging long time lags by weight guessing and long short-term memory". There, the target is the parity at the end
    only. T is at least 1.

    >>> x, y = ParityTask(T=8).batch(1, rng=0)
    >>> x[:, 0, 0].astype(int).tolist(), y[:, 0].tolist()
    ([1, 1, 1, 0, 0, 0, 0, 0], [1, 0, 1, 1, 1, 1, 1, 1])
    """

    def __init__(self, T: int = 30) -> None:
        super().__init__(T)
        self.baseline = (self.T - 1) / (2 * self.T)

    def _draw(self, N: int, rng: np.random.Generator) -> Batch:
        bits = rng.integers(2, size=(self.T, N))
        return bits[:, :, None].astype(np.float32), bits.cumsum(axis=0) % 2


class EchoTask(
    TimedTask,
    name="echo",
    description="say at every step the bit that was heard some steps before",
    source="an exercise of many courses",
    rule="fewer than 1 % of the steps wrong (always saying 0: (T − delay) / 2T)",
    metric="share of steps wrong",
    kind="classification",
    readout="all",
    defaults=Defaults(hidden=64, batch=32, init="orthogonal", lr=3e-3, max_updates=5_000),
    input_size=1,
    output_size=2,
    goal=0.01,
    shortest=2,
):
    """Fair bits; at every step, the bit of ``delay`` steps before, and 0 as long as there was none.

    x[t, n, 0] ∈ {0, 1}; y[t, n] = x[t − delay, n, 0] for t ≥ delay, and 0 before: silence was heard.

    Judged by the share of steps wrong, over all T steps. The bit of ``delay`` steps before is fair and independent of
    the present one: always saying 0 is wrong in half of the T − delay steps that have an echo. The ``baseline`` is
    (T − delay) / 2T.

    Source: an exercise of many courses; no first paper is known. The ``delay`` is 1 … T − 1.

    >>> x, y = EchoTask(T=8, delay=3).batch(1, rng=0)
    >>> x[:, 0, 0].astype(int).tolist(), y[:, 0].tolist()
    ([1, 1, 1, 0, 0, 0, 0, 0], [0, 0, 0, 1, 1, 1, 0, 0])
    """

    settings = ("T", "delay")

    def __init__(self, T: int = 50, delay: int = 10) -> None:
        super().__init__(T)
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


class SineTask(
    TimedTask,
    name="sine",
    description="predict the next value of a sine wave of unknown frequency and phase",
    source="an exercise of many courses",
    rule="mean squared error below 0.01 (the best guess from one value: 0.177)",
    readout="all",
    defaults=Defaults(hidden=64, batch=32, init="orthogonal", lr=3e-3, max_updates=5_000),
    input_size=1,
    output_size=1,
    goal=0.01,
    baseline=(1 - ((math.sin(FASTEST) - math.sin(SLOWEST)) / (FASTEST - SLOWEST)) ** 2) / 2,
):
    """A sine wave of random frequency and phase; at every step, its next value.

    x[t, n, 0] = sin(ω t + φ) and y[t, n, 0] = x[t + 1, n, 0], with ω ~ U[0.2, 1) radians a step and φ ~ U[0, 2π).

    Judged by the mean squared error over all T steps. sin(ω t + φ + ω) = x cos ω + cos(ω t + φ) sin ω, and since the
    sign of the last term is open, the best that can be said without memory is x·c with c = E cos ω = (sin 1 − sin 0.2)
    / 0.8. Its error is (1 − c²) / 2, about 0.177: the ``baseline``. From three values ω and φ are known, so that all
    the error of a perfect memory is at the first steps: at the first alone 1/T of the baseline.

    Source: an exercise of many courses. T is at least 1.

    >>> x, y = SineTask(T=50).batch(3, rng=0)
    >>> bool((x[1:] == y[:-1]).all())
    True
    """

    def _draw(self, N: int, rng: np.random.Generator) -> Batch:
        frequency, phase = rng.uniform(SLOWEST, FASTEST, N), rng.uniform(0, 2 * math.pi, N)
        wave = np.sin(np.arange(self.T + 1)[:, None] * frequency + phase).astype(np.float32)[:, :, None]
        return wave[:-1], wave[1:]
