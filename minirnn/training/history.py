"""`History`: what is remembered of a training run, and its loss curve as text."""

import csv
import io
import itertools
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
import numpy.typing as npt

from minirnn.arguments import as_size, as_unicode, one_of
from minirnn.drawing.axes import axes_for
from minirnn.drawing.charts import curve, means
from minirnn.storage import write_whole


class Evaluation(NamedTuple):
    """A figure that was measured during training."""

    update: int  # after how many updates
    value: float


class History:
    """What `fit` remembers: a loss, a gradient norm and a time for each of the K updates, and the evaluations."""

    def __init__(self) -> None:
        self._loss: list[float] = []
        self._grad_norm: list[float] = []
        self._seconds: list[float] = []
        self._metrics: dict[str, list[float]] = {}
        self.evaluations: dict[str, list[Evaluation]] = {}
        """What was measured now and then, by name: "held-out loss" and "held-out" by ``fit(held_out=…)``, the rest by
        callbacks; see `record`."""
        self.clip_norm: float | None = None
        """The largest gradient norm that `fit` let through; None where it did not clip."""
        self.resumed: Path | None = None
        """The checkpoint that this call of `fit` went on from; None if it began anew."""
        self.restored: int | None = None
        """Of which update the weights are that ``restore_best`` gave the model at the end; None if it gave none."""
        self.interrupted = False
        """Whether Ctrl-C or, with a checkpoint directory, SIGTERM ended the run."""
        self.signal = 0
        """The number of the signal that did: 2 for Ctrl-C, 15 for SIGTERM."""

    def append(self, loss: float, grad_norm: float, seconds: float, metrics: Mapping[str, float] | None = None) -> None:
        """Note one more update; a metric that is measured of some updates only is NaN at the others."""
        measured = metrics or {}
        for name in measured:
            self._metrics.setdefault(name, [math.nan] * self.updates)
        for name, values in self._metrics.items():
            values.append(float(measured.get(name, math.nan)))
        self._loss.append(loss)
        self._grad_norm.append(grad_norm)
        self._seconds.append(seconds)

    def record(self, name: str, value: float) -> None:
        """Note an evaluation, such as the loss on held-out data, after the updates made so far; the last one counts."""
        made = self.evaluations.setdefault(name, [])
        if made and made[-1].update == self.updates:
            made.pop()
        made.append(Evaluation(self.updates, float(value)))

    def __repr__(self) -> str:
        return (
            f"<History: {self.updates:,} updates, recent loss {self.recent():.4g}{', interrupted' * self.interrupted}>"
        )

    @property
    def updates(self) -> int:
        """K, the number of updates made."""
        return len(self._loss)

    @property
    def loss(self) -> npt.NDArray[np.float64]:
        """The training loss of each update before it was made, float64 (K,), in its unit (nats per target, say)."""
        return np.array(self._loss)

    @property
    def grad_norm(self) -> npt.NDArray[np.float64]:
        """The joint norm √(Σ g²) of the gradients of each update before clipping, float64 (K,)."""
        return np.array(self._grad_norm)

    @property
    def seconds(self) -> npt.NDArray[np.float64]:
        """From the start of `fit` to the end of each update, float64 (K,); callbacks and evaluations count too."""
        return np.array(self._seconds)

    @property
    def metrics(self) -> dict[str, npt.NDArray[np.float64]]:
        """What else was measured of each update before it was made, by name: (K,) each, NaN where it was not."""
        return {name: np.array(values) for name, values in self._metrics.items()}

    @property
    def updates_per_second(self) -> float:
        """Updates per second over the whole run; NaN before the first."""
        return self.updates / self._seconds[-1] if self._seconds else math.nan

    @property
    def clipped(self) -> float:
        """The share of updates whose gradient norm was above ``clip_norm``; NaN without clipping or updates."""
        if self.clip_norm is None or not self.updates:
            return math.nan
        return float((self.grad_norm > self.clip_norm).mean())

    def recent(self, window: int = 100, metric: str | None = None) -> float:
        """Give the mean loss of the last ``window`` updates, or of all if there are fewer; NaN if there are none.

        With the name of a ``metric`` its mean, over those of the last updates that it was measured of.

        >>> history = History()
        >>> for k in range(3):
        ...     history.append(loss=3.0 - k, grad_norm=1.0, seconds=k, metrics={"accuracy": k / 4})
        >>> history.recent(2), history.recent(2, "accuracy")
        (1.5, 0.375)
        """
        names = tuple(self._metrics)
        values = self._loss if metric is None else self._metrics[one_of(metric, names, "History.recent: metric")]
        last = [v for v in values[-as_size(window, "History.recent: window") :] if metric is None or not math.isnan(v)]
        return sum(last) / len(last) if last else math.nan

    def running(self, window: int = 100) -> npt.NDArray[np.float64]:
        """Compute the running mean of the loss, (K,): entry k is the mean of the last ``window`` losses up to k.

        The first entries, with fewer losses before them, are the mean of those there are.
        """
        window = as_size(window, "History.running: window")
        sums = np.concatenate([[0.0], np.cumsum(self._loss)])
        last = np.arange(1, sums.size)
        first = np.maximum(last - window, 0)
        return cast(npt.NDArray[np.float64], (sums[last] - sums[first]) / (last - first))

    def chart(self, width: int = 64, height: int = 10, title: str = "training loss") -> str:
        """Draw the loss over the updates as text, below a title, the place to name the loss and its unit.

        The plot takes ``width`` × ``height`` characters, at least 2 each; the axes come on top. With more updates than
        columns, a column shows the mean of its share of them. The axis is logarithmic when that loses nothing (no loss
        ≤ 0) and the values span more than a factor of 5.
        """
        width, height = as_size(width, "History.chart: width", 2), as_size(height, "History.chart: height", 2)
        if not self.updates:
            return "no updates, no loss curve"
        shown = means(self.loss, width)
        return curve(
            self.loss,
            width,
            height,
            title,
            ends=("1", f"{self.updates:,} updates"),
            unit="updates",
            logarithmic=bool(shown.min() > 0 and shown.max() > 5 * shown.min()),
        )

    # --- to other programs -------------------------------------------------------------------------------------------

    def to_csv(self, path: str | os.PathLike[str]) -> None:
        """Write a table with a line for each update: update, loss, grad_norm, seconds, metrics, evaluations by name.

        An evaluation stands in the line of the update after which it was made; elsewhere its cell is empty.
        """
        columns: dict[str, Sequence[Any]] = {
            "update": range(1, self.updates + 1),
            "loss": self._loss,
            "grad_norm": self._grad_norm,
            "seconds": self._seconds,
            **self._metrics,
        }
        for name, evaluations in self.evaluations.items():
            made = {evaluation.update: evaluation.value for evaluation in evaluations}
            columns[name] = [made.get(update, "") for update in range(1, self.updates + 1)]
        text = io.StringIO()
        table = csv.writer(text, lineterminator="\n")
        table.writerow(columns)
        table.writerows(zip(*columns.values(), strict=True))
        write_whole(path, as_unicode(text.getvalue()).encode(), "History.to_csv")

    def plot(self, ax: Any = None) -> Any:
        """Draw the loss, its running mean and the evaluations over the updates with matplotlib; return the Axes."""
        ax = axes_for("History.plot", ax)
        updates = np.arange(1, self.updates + 1)
        ax.plot(updates, self.loss, color="#999999", linewidth=0.5, label="training loss")
        ax.plot(updates, self.running(), color="#0072b2", label="its running mean over 100")
        for (name, evaluations), style in zip(self.evaluations.items(), itertools.cycle(("o", "s", "^"))):
            ax.plot([e.update for e in evaluations], [e.value for e in evaluations], style, color="#d55e00", label=name)
        ax.set(xlabel="updates", ylabel="loss", yscale="log" if self.updates and self.loss.min() > 0 else "linear")
        ax.legend()
        return ax

    def _repr_svg_(self) -> str | None:
        """Show the plot in a notebook; None, and so ``repr``, where matplotlib is not installed."""
        try:
            figure, text = self.plot().figure, io.StringIO()
        except ImportError:
            return None
        figure.savefig(text, format="svg", metadata={"Date": None})
        return text.getvalue()
