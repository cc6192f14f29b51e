"""The adding problem: remember two numbers over T steps, and add them."""

from typing import Literal, TypeAlias, get_args

import numpy as np

from minirnn.arguments import as_generator, as_size, one_of
from minirnn.tasks.base import Batch, Defaults, Floats, Ids, SequenceTask

Markers: TypeAlias = Literal["halves", "anywhere"]


def adding(T: int, N: int, rng: np.random.Generator | int | None = None) -> tuple[Floats, Floats]:
    """Draw one mini-batch of the adding problem.

    x[t, n, 0] ~ U[0, 1) at every step; x[t, n, 1] = 1 at two steps, t₁ uniform in the first half 0 … ⌊T/2⌋ − 1 and
    t₂ uniform in the second half ⌊T/2⌋ … T − 1, and 0 elsewhere; y[n] = x[t₁, n, 0] + x[t₂, n, 0].

    Parameters
    ----------
    T : int
        Steps, at least 2.
    N : int
        Sequences, at least 1.
    rng : numpy.random.Generator, int or None

    Returns
    -------
    x : float32 array (T, N, 2)
    y : float32 array (N, 1)
        The target after the last step.

    Raises
    ------
    TypeError, ValueError
        When T or N is not an int or too small, or ``rng`` is neither Generator, seed nor None.

    Notes
    -----
    Sources: values in [0, 1], 0/1 markers and the plain sum as target are the form of Le, Jaitly & Hinton 2015, "A
    simple way to initialize recurrent networks of rectified linear units"; one marker in each half is the placement of
    Arjovsky, Shah & Bengio 2016, "Unitary evolution recurrent neural networks", so that the gap t₂ − t₁ is T/2 on
    average. The original, Hochreiter & Schmidhuber 1997, "Long short-term memory", experiment 4, differs: values in
    [−1, 1], the first marker among the first ten steps and the second before the middle, −1 as the marker of the first
    and the last step, lengths between T and 1.1·T, and the target 0.5 + (X₁ + X₂)/4.

    Examples
    --------
    >>> x, y = adding(T=10, N=3, rng=0)
    >>> x.shape, y.shape
    ((10, 3, 2), (3, 1))
    >>> bool(np.allclose((x[:, :, 0] * x[:, :, 1]).sum(axis=0), y[:, 0]))
    True
    """
    return _draw(as_size(T, "adding: T", 2), as_size(N, "adding: N"), as_generator(rng), "halves")


def _draw(T: int, N: int, rng: np.random.Generator, markers: Markers) -> tuple[Floats, Floats]:
    x, first, second = marked(T, N, rng, markers)
    rows = np.arange(N)
    return x, (x[first, rows, 0] + x[second, rows, 0])[:, None]


def marked(T: int, N: int, rng: np.random.Generator, markers: Markers = "halves") -> tuple[Floats, Ids, Ids]:
    """Draw x (T, N, 2), numbers U[0, 1) beside 0/1 markers, and the two marked steps (N,): see `AddingTask`."""
    if markers == "halves":
        first, second = rng.integers(T // 2, size=N), rng.integers(T // 2, T, size=N)
    else:
        first, second = rng.integers(T, size=N), rng.integers(T - 1, size=N)
        second += second >= first  # the steps not yet marked, counted through
    rows = np.arange(N)
    x = np.zeros((T, N, 2), np.float32)
    x[:, :, 0] = rng.random((T, N), np.float32)
    x[first, rows, 1] = 1.0
    x[second, rows, 1] = 1.0
    return x, first, second


class AddingTask(SequenceTask):
    """The adding problem at one length, with its baseline and its success rule.

    The figure it is judged by is the mean squared error (MSE) of the prediction after the last step. Always predicting
    the mean of the target, 1, gives the variance of a sum of two independent U[0, 1): 2 · 1/12 = 1/6, which is the
    ``baseline`` (not 0.1767, as is quoted here and there).

    Parameters
    ----------
    T : int
        Steps in time, at least 2.
    markers : "halves" or "anywhere"
        One marker in each half, as `adding` places them, or both anywhere, each pair of steps being equally likely.

    Raises
    ------
    TypeError, ValueError
        When T is not an int, or below 2; for other markers.

    Notes
    -----
    For the exact variant and its sources see `adding`. A batch of N = 16 sequences of T = 50 steps takes about 35
    microseconds, a few per cent of one training step.

    Examples
    --------
    >>> task = AddingTask(T=50)
    >>> x, y = task.batch(16, rng=0)
    >>> x.shape, y.shape
    ((50, 16, 2), (16, 1))
    >>> task.solved(0.0099), task.solved(task.baseline)
    (True, False)
    """

    name = "adding"
    description = "add the two marked numbers of a sequence, one in each half"
    source = "Le, Jaitly & Hinton 2015; markers placed as in Arjovsky, Shah & Bengio 2016"
    rule = "mean squared error below 0.01 (always predicting 1 gives 1/6)"
    defaults = Defaults()
    settings = ("T", "markers")
    input_size, output_size, baseline, goal = 2, 1, 1 / 6, 0.01

    def __init__(self, T: int = 50, markers: Markers = "halves") -> None:
        self.T = as_size(T, "AddingTask: T", 2)
        self.markers = one_of(markers, get_args(Markers), "AddingTask: markers")

    def _draw(self, N: int, rng: np.random.Generator) -> Batch:
        return _draw(self.T, N, rng, self.markers)
