"""Predict the next values of a series of one's own, in columns of a CSV file."""

import hashlib
import os
from collections.abc import Iterable

import numpy as np

from minirnn.arguments import Array, as_number, as_size, describe
from minirnn.data import Standardizer, read_csv, standardize, windows
from minirnn.tasks.base import Batch, Defaults, Floats, TimeMajor
from minirnn.tasks.recorded import RecordedTask


class SeriesTask(
    RecordedTask,
    name="csv",
    description="predict the next values of a series in a CSV file, at every step",
    source="a CSV file of one's own; by default two sines and noise",
    rule="mean squared error on the held-out part below that of repeating the last value",
    metric="mean squared error, in standardized units",
    readout="all",
    defaults=Defaults(cell="gru", hidden=32, batch=32, init="orthogonal", lr=3e-3, max_updates=1_500),
):
    """A series of D columns of a CSV file, which is cut into windows of T steps: predict the next values at every step.

    The series is parted in time first, and each part cut into windows afterwards, so that no window knows of both: of
    the train part all that there are, of the held-out part those side by side, from its beginning. x (T, N, D) and
    y (T, N, D), one step later, are standardized by the train part. Judged by the mean squared error in these units
    on the held-out windows; that of predicting that nothing changes is the ``baseline``, and the goal.

    Parameters
    ----------
    path : str or Path, optional
        A CSV file whose first line names its columns (`minirnn.data.read_csv`). Without one the series is a sum of two
        sines, of periods 25 and 60 steps, and of noise of standard deviation 0.1: 1,500 steps, drawn with seed 0.
    columns : str or iterable of str, optional
        Which columns, in which order; all that hold numbers if left out.
    T : int
        The steps of a window.
    held_out : the share of the series, at its end, that is held out; between 0 and 1, both excluded
    decimal, encoding : as `minirnn.data.read_csv` takes them
    units : minirnn.data.Standardizer, optional
        Those that a model was trained in, where the series is another; that of the train part if left out.

    Attributes
    ----------
    values : array (S, D), read-only
        All of the series, in its own units.
    units : minirnn.data.Standardizer
        To standardized units, and back by ``inverse``; ``mean`` and ``std``, arrays (D,), are attributes too.

    Raises
    ------
    OSError, TypeError, ValueError
        Those of `minirnn.data.read_csv`; for columns without numbers; and for a part of T steps or less.

    >>> task = SeriesTask(T=20)
    >>> x, y = task.batch(4, rng=0)
    >>> x.shape, y.shape, bool((x[1:] == y[:-1]).all())
    ((20, 4, 1), (20, 4, 1), True)
    """

    settings = ("columns", "T")
    values: Array
    mean: Array
    std: Array

    def __init__(
        self,
        path: str | os.PathLike[str] | None = None,
        columns: str | Iterable[str] | None = None,
        T: int = 50,
        held_out: float = 0.2,
        *,
        decimal: str = ".",
        encoding: str = "utf-8-sig",
        units: Standardizer | None = None,
    ) -> None:
        self.T = as_size(T, "SeriesTask: T")
        held_out = as_number(held_out, "SeriesTask: held_out", "a number in (0, 1)", "try 0.2")
        if path is None and columns is not None:
            raise ValueError("SeriesTask: columns must come with path, the file that has them, got none")
        found = _built_in() if path is None else _read(path, columns, decimal, encoding)
        self.columns, values = tuple(found), np.stack(list(found.values()), axis=1)
        self.input_size = self.output_size = D = len(found)
        cut = round(len(values) * (1 - held_out))
        if min(cut, len(values) - cut) <= self.T:
            raise ValueError(
                f"SeriesTask: T must be below the steps of each part, {cut} to train on and {len(values) - cut} held "
                f"out with held_out={held_out}, got {self.T}: try a smaller T, or a longer series"
            )
        self.units = units = standardize(values[:cut]) if units is None else units
        if not isinstance(units, Standardizer) or np.shape(units.mean) != (D,) or np.shape(units.std) != (D,):
            raise ValueError(f"SeriesTask: units must be a Standardizer of {D} columns, got {describe(units)}")
        self._keep(values=values, mean=units.mean, std=units.std)
        scaled = units(values).astype(np.float32)
        self._keep(train=self._windows(scaled[:cut], 1), held_out=self._windows(scaled[cut:], self.T))
        self.baseline = self.goal = self.figure(*self.held_out)

    def _windows(self, part: Floats, stride: int) -> Batch:
        made = TimeMajor(windows(part, self.T, stride=stride))
        made.every_step = True
        return made

    @property
    def sha256(self) -> str:
        """A digest of the values, by which a series that has changed is known."""
        return hashlib.sha256(np.ascontiguousarray(self.values, "<f8").tobytes()).hexdigest()


def _built_in() -> dict[str, Array]:
    t, noise = np.arange(1500), np.random.default_rng(0).normal(scale=0.1, size=1500)
    return {"value": np.sin(2 * np.pi * t / 25) + 0.5 * np.sin(2 * np.pi * t / 60) + noise}


def _read(
    path: str | os.PathLike[str], columns: str | Iterable[str] | None, decimal: str, encoding: str
) -> dict[str, Array]:
    try:
        found = read_csv(path, columns, decimal=decimal, encoding=encoding)
    except OSError as error:
        got = f"got {os.fspath(path)!r}: {error.strerror}"
        raise type(error)(f"SeriesTask: path must name a CSV file, {got}: check the spelling") from error
    numbers = {name: values for name, values in found.items() if values.dtype.kind == "f"}
    if not numbers or (columns is not None and len(numbers) < len(found)):
        without = next((repr(name) for name in found if name not in numbers), "none")
        what = "path must have a column" if columns is None else "columns must name columns"
        raise ValueError(f"SeriesTask: {what} of numbers, got {without} of {os.fspath(path)!r}")
    return numbers
