"""`History`: what is remembered of a training run, and its loss curve as text.

Checked by tests/test_history.py.
"""

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from minirnn.arguments import as_size
from minirnn.charts import curve, means


class Evaluation(NamedTuple):
    """A figure that was measured during training.

    Attributes
    ----------
    update : int
        After how many updates.
    value : float
    """

    update: int
    value: float


class History:
    """What `fit` remembers: a loss, a gradient norm and a time for each of the K updates, and the evaluations.

    Attributes
    ----------
    loss : float64 array (K,)
        The training loss of each update, before it was made, in the unit of the loss (nats per target, squared units).
    grad_norm : float64 array (K,)
        The joint norm √(Σ g²) of the gradients of each update, before clipping.
    seconds : float64 array (K,)
        From the start of `fit` to the end of each update; callbacks and evaluations count too.
    evaluations : dict of lists of Evaluation
        What callbacks measured, by name; see `record`.
    interrupted : bool
        Whether Ctrl-C (KeyboardInterrupt) ended the run.

    Notes
    -----
    Test: tests/test_history.py.
    """

    def __init__(self) -> None:
        self._loss: list[float] = []
        self._grad_norm: list[float] = []
        self._seconds: list[float] = []
        self.evaluations: dict[str, list[Evaluation]] = {}
        self.interrupted = False

    def append(self, loss: float, grad_norm: float, seconds: float) -> None:
        """Note one more update."""
        self._loss.append(loss)
        self._grad_norm.append(grad_norm)
        self._seconds.append(seconds)

    def record(self, name: str, value: float) -> None:
        """Note an evaluation, such as the loss on held-out data, after the updates made so far."""
        self.evaluations.setdefault(name, []).append(Evaluation(self.updates, float(value)))

    def __repr__(self) -> str:
        ended = ", interrupted" if self.interrupted else ""
        return f"<History: {self.updates:,} updates, recent loss {self.recent():.4g}{ended}>"

    @property
    def updates(self) -> int:
        """K, the number of updates made."""
        return len(self._loss)

    @property
    def loss(self) -> npt.NDArray[np.float64]:
        """The training loss of each update, (K,)."""
        return np.array(self._loss)

    @property
    def grad_norm(self) -> npt.NDArray[np.float64]:
        """The gradients' joint norm of each update before clipping, (K,)."""
        return np.array(self._grad_norm)

    @property
    def seconds(self) -> npt.NDArray[np.float64]:
        """The time at the end of each update, in seconds from the start of `fit`, (K,)."""
        return np.array(self._seconds)

    @property
    def updates_per_second(self) -> float:
        """Updates per second over the whole run; NaN before the first."""
        return self.updates / self._seconds[-1] if self._seconds else math.nan

    def recent(self, window: int = 100) -> float:
        """Return the mean loss of the last ``window`` updates, or of all if there are fewer; NaN if there are none."""
        last = self._loss[-as_size(window, "History.recent: window") :]
        return sum(last) / len(last) if last else math.nan

    def running(self, window: int = 100) -> npt.NDArray[np.float64]:
        """Return the running mean of the loss, (K,): entry k is the mean of the last ``window`` losses up to k.

        The first entries, with fewer losses before them, are the mean of those there are.
        """
        window = as_size(window, "History.running: window")
        sums = np.concatenate([[0.0], np.cumsum(self._loss)])
        last = np.arange(1, sums.size)
        first = np.maximum(last - window, 0)
        mean: npt.NDArray[np.float64] = (sums[last] - sums[first]) / (last - first)
        return mean

    def chart(self, width: int = 64, height: int = 10, title: str = "training loss") -> str:
        """Draw the loss over the updates as text.

        Parameters
        ----------
        width, height : int
            The size of the plot in characters, at least 2; the axes come on top. With more updates than columns, a
            column shows the mean of its share of them. The axis is logarithmic when that loses nothing (no loss ≤ 0)
            and the values span more than a factor of 5.
        title : str
            Stands above; the place to name the loss and its unit.

        Returns
        -------
        str : lines without a final newline
        """
        width, height = as_size(width, "History.chart: width", 2), as_size(height, "History.chart: height", 2)
        if not self.updates:
            return "no updates, no loss curve"
        shown = means(self.loss, width)
        logarithmic = bool(shown.min() > 0 and shown.max() > 5 * shown.min())
        ends = ("1", f"{self.updates:,} updates")
        return curve(self.loss, width, height, title, ends=ends, unit="updates", logarithmic=logarithmic)
