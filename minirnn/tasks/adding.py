"""The adding problem, its variants and the multiplication problem: remember two marked numbers over T steps."""

from fractions import Fraction
from typing import Literal, TypeAlias, get_args

import numpy as np

from minirnn.arguments import Array, as_generator, as_size, one_of
from minirnn.tasks.base import Batch, Defaults, Floats, Ids, TimedTask

Markers: TypeAlias = Literal["halves", "anywhere"]
TOLERANCE = 0.04
"""A sequence of `OriginalAddingTask` is right when the absolute error at its end is below this."""


def adding(T: int, N: int, rng: np.random.Generator | int | None = None) -> tuple[Floats, Floats]:
    """Draw one mini-batch of the adding problem.

    x[t, n, 0] ~ U[0, 1) at every step; x[t, n, 1] = 1 at two steps, t₁ uniform in the first half 0 … ⌊T/2⌋ − 1 and
    t₂ uniform in the second half ⌊T/2⌋ … T − 1, and 0 elsewhere; y[n] = x[t₁, n, 0] + x[t₂, n, 0].

    Sources: values in [0, 1], 0/1 markers and the plain sum as target are the form of Le, Jaitly & Hinton 2015, "A
    simple way to initialize recurrent networks of rectified linear units"; one marker in each half is the placement of
    Arjovsky, Shah & Bengio 2016, "Unitary evolution recurrent neural networks", so that the gap t₂ − t₁ is T/2 on
    average. The original, Hochreiter & Schmidhuber 1997, "Long short-term memory", experiment 4, differs: values in
    [−1, 1], the first marker among the first ten steps and the second before the middle, −1 as the marker of the first
    and the last step, lengths between T and 1.1·T, and the target 0.5 + (X₁ + X₂)/4.

    x is a float32 array (T, N, 2), T ≥ 2; y (N, 1) is the target after the last step.

    >>> x, y = adding(T=10, N=3, rng=0)
    >>> x.shape, y.shape
    ((10, 3, 2), (3, 1))
    >>> bool(np.allclose((x[:, :, 0] * x[:, :, 1]).sum(axis=0), y[:, 0]))
    True
    """
    x, one, other = _drawn(as_size(T, "adding: T", 2), as_size(N, "adding: N"), as_generator(rng))
    return x, (one + other)[:, None]


def _drawn(T: int, N: int, rng: np.random.Generator, markers: Markers = "halves") -> tuple[Floats, Floats, Floats]:
    """Draw numbers U[0, 1), two of them marked as `AddingTask` says; see `_marked`."""
    if markers == "halves":
        first, second = rng.integers(T // 2, size=N), rng.integers(T // 2, T, size=N)
    else:
        first, second = rng.integers(T, size=N), rng.integers(T - 1, size=N)
        second += second >= first  # the steps not yet marked, counted through
    return _marked(rng.random((T, N), np.float32), first, second)


def _marked(numbers: Floats, first: Ids, second: Ids) -> tuple[Floats, Floats, Floats]:
    """Make x (T, N, 2), numbers (T, N) beside 0/1 markers, and give the two marked numbers (N,) of each row."""
    rows = np.arange(numbers.shape[1])
    x = np.zeros((*numbers.shape, 2), np.float32)
    x[:, :, 0] = numbers
    x[first, rows, 1] = x[second, rows, 1] = 1.0
    return x, numbers[first, rows], numbers[second, rows]


class AddingTask(
    TimedTask,
    name="adding",
    description="add the two marked numbers of a sequence, one in each half",
    source="Le, Jaitly & Hinton 2015; markers placed as in Arjovsky, Shah & Bengio 2016",
    rule="mean squared error below 0.01 (always predicting 1 gives 1/6)",
    input_size=2,
    output_size=1,
    baseline=1 / 6,
    goal=0.01,
    shortest=2,
):
    """The adding problem at one length, with its baseline and its success rule; see `adding`.

    Judged by the mean squared error (MSE) of the prediction after the last step. Always predicting the mean of the
    target, 1, gives the variance of a sum of two independent U[0, 1): 2 · 1/12 = 1/6, which is the ``baseline`` (not
    0.1767, as is quoted here and there).

    Parameters
    ----------
    T : steps in time, at least 2
    markers : "halves" or "anywhere"
        One marker in each half, as `adding` places them, or both anywhere, each pair of steps being equally likely.

    Examples
    --------
    >>> task = AddingTask(T=50)
    >>> x, y = task.batch(16, rng=0)
    >>> x.shape, y.shape
    ((50, 16, 2), (16, 1))
    >>> task.solved(0.0099), task.solved(task.baseline)
    (True, False)
    """

    settings = ("T", "markers")

    def __init__(self, T: int = 50, markers: Markers = "halves") -> None:
        super().__init__(T)
        self.markers = one_of(markers, get_args(Markers), "AddingTask: markers")

    def _draw(self, N: int, rng: np.random.Generator) -> Batch:
        x, one, other = _drawn(self.T, N, rng, self.markers)
        return x, (one + other)[:, None]


class RaggedAddingTask(
    TimedTask,
    name="adding-ragged",
    description="add the two marked numbers of a sequence; every row has its own length",
    source="adding, with lengths uniform over T/2 … T",
    rule="mean squared error below 0.01 (always predicting 1 gives 1/6)",
    input_size=2,
    output_size=1,
    baseline=1 / 6,
    goal=0.01,
    shortest=3,
):
    """The adding problem with a length of its own for every row, uniform over ⌈T/2⌉ … T.

    Within its length L a row is as `adding` draws it: a marker in the first ⌊L/2⌋ steps, one in the rest. What stands
    past it is 0, and counts for nothing as long as the lengths are handed on: ``model(x, lengths=lengths)``. The
    ``baseline`` is that of `AddingTask`, 1/6, since the target does not depend on the length.

    Source: this library's variant of `adding`. T, the largest length, is at least 3.

    >>> x, y, lengths = RaggedAddingTask(T=10).batch(4, rng=0)
    >>> x.shape, y.shape, bool((lengths >= 5).all())
    ((10, 4, 2), (4, 1), True)
    """

    def _draw(self, N: int, rng: np.random.Generator) -> Batch:
        lengths = rng.integers((self.T + 1) // 2, self.T + 1, size=N)
        first, second = rng.integers(lengths // 2), rng.integers(lengths // 2, lengths)
        numbers = rng.random((self.T, N), np.float32) * (np.arange(self.T)[:, None] < lengths)
        x, one, other = _marked(numbers, first, second)
        return x, (one + other)[:, None], lengths


class OriginalAddingTask(
    TimedTask,
    name="adding-original",
    description="output 0.5 + (X₁ + X₂)/4 of the two marked numbers, both in the first half",
    source="Hochreiter & Schmidhuber 1997, experiment 4",
    rule="fewer than 1 % of the sequences wrong (an absolute error of 0.04 or more)",
    metric="share of sequences wrong",
    defaults=Defaults(cell="lstm", hidden=32, batch=32, init="orthogonal", lr=3e-3, max_updates=10_000),
    input_size=2,
    output_size=1,
    goal=0.01,
    shortest=11,
):
    """The adding problem of Hochreiter & Schmidhuber 1997: signed numbers, a mark at either end, unequal lengths.

    Each row has a length L uniform over T … ⌊1.1·T⌋. x[t, n, 0] ~ U[−1, 1). x[t, n, 1] is −1 at the first and the last
    step, 1 at the two marked ones, else 0. The first mark is on one of the first ten steps, the second on one of the
    first ⌊T/2⌋ − 1 steps not yet marked. A mark that falls on the first step counts as the number 0 (its −1 stays).
    y[n] = 0.5 + (X₁ + X₂) / 4.

    Judged by the **share of sequences wrong**: |error| ≥ 0.04. Always predicting 0.5 is right when |X₁ + X₂| < 0.16: of
    probability 0.16 − 0.0064 where both numbers count, 0.16 where one of them is 0, which it is with probability
    p = 1/10 + 9/10 · 1/(⌊T/2⌋ − 1). The ``baseline`` is 1 − 0.1536 (1 − p) − 0.16 p, about 0.846.

    Source: Hochreiter & Schmidhuber 1997, "Long short-term memory", experiment 4, worded as in the authors' "LSTM can
    solve hard long time lag problems", experiment 1. Where the paper leaves it open whether the second mark may fall on
    the first step, it may here. T, the smallest length, is at least 11.

    >>> x, y, lengths = OriginalAddingTask(T=20).batch(4, rng=0)
    >>> len(x) == int(lengths.max()), bool((lengths >= 20).all() and (lengths <= 22).all())
    (True, True)
    """

    def __init__(self, T: int = 50) -> None:
        super().__init__(T)
        p = Fraction(1, 10) + Fraction(9, 10) / (self.T // 2 - 1)
        self.baseline = float(1 - Fraction(1536, 10_000) * (1 - p) - Fraction(16, 100) * p)

    def _draw(self, N: int, rng: np.random.Generator) -> Batch:
        lengths = rng.integers(self.T, self.T + self.T // 10 + 1, size=N)
        first, second = rng.integers(10, size=N), rng.integers(self.T // 2 - 1, size=N)
        second += second >= first  # the steps not yet marked, counted through
        steps = np.arange(lengths.max())[:, None]
        numbers = (2 * rng.random((len(steps), N), np.float32) - 1) * (steps < lengths)
        x, one, other = _marked(numbers, first, second)
        x[0, :, 1] = x[lengths - 1, np.arange(N), 1] = -1.0
        total = one * (first != 0) + other * (second != 0)
        return x, (np.float32(0.5) + total / np.float32(4))[:, None], lengths

    def _figure(self, predictions: Array, y: Array, counting: Array) -> float:
        return float(1 - (np.abs(predictions - y) < TOLERANCE).mean())


class MultiplicationTask(
    TimedTask,
    name="multiplication",
    description="multiply the two marked numbers of a sequence, one in each half",
    source="Hochreiter & Schmidhuber 1997, experiment 5; markers placed as in adding",
    rule="mean squared error below 0.003 (always predicting 1/4 gives 7/144)",
    defaults=Defaults(cell="gru", hidden=32, batch=32, init="orthogonal", lr=3e-3, max_updates=5_000),
    input_size=2,
    output_size=1,
    baseline=7 / 144,
    goal=0.003,
    shortest=2,
):
    """The adding problem with the product as its target: y[n] = x[t₁, n, 0] · x[t₂, n, 0], see `adding`.

    Judged by the mean squared error. Always predicting the mean of the target, 1/4, gives the variance of a product of
    two independent U[0, 1): (1/3)² − (1/4)² = 7/144, the ``baseline``.

    Source: Hochreiter & Schmidhuber 1997, "Long short-term memory", experiment 5, which was to show that memory
    cells can do more than add up. Their numbers are from [0, 1] as here; their markers, lengths and first and last
    steps are those of `OriginalAddingTask`. T is at least 2.

    >>> x, y = MultiplicationTask(T=10).batch(3, rng=0)
    >>> bool(np.allclose(np.where(x[:, :, 1] == 1, x[:, :, 0], 1).prod(axis=0), y[:, 0]))
    True
    """

    def _draw(self, N: int, rng: np.random.Generator) -> Batch:
        x, one, other = _drawn(self.T, N, rng)
        return x, (one * other)[:, None]
