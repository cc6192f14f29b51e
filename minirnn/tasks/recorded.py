"""Tasks whose sequences were recorded, not drawn: a train part to draw rows from, and a held-out part."""

import importlib.util
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from minirnn.arguments import Array
from minirnn.tasks.base import Batch, Ids, SequenceTask


class RecordedTask(SequenceTask):
    """A task with two parts, ``train`` and ``held_out``: tuples of arrays (x, y) or (x, y, lengths), read-only.

    ``batch`` and ``batches`` draw rows of the train part, with replacement, so that any N will do;
    ``evaluation_batch(N)`` gives the first N rows of the held-out part, all of them if there are no more: there is only
    one, so that its seed is checked and not used. A subclass says where the rows are from, and how they are parted.
    """

    settings: ClassVar[tuple[str, ...]] = ()
    train: Batch
    held_out: Batch

    def __repr__(self) -> str:
        shown = "".join(f"{name}={getattr(self, name)!r}, " for name in self.settings)
        return f"<{type(self).__name__}: {shown}{rows(self.train)} to train on, {rows(self.held_out)} held out>"

    def _part(self, train: Batch, held_out: Batch) -> None:
        """Keep the two parts; the arrays cannot be overwritten."""
        for array in (*train, *held_out):
            array.setflags(write=False)
        self.train, self.held_out = train, held_out

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Fill a copy; what numpy copies can be written to."""
        vars(self).update(state)
        self._part(self.train, self.held_out)

    def _draw(self, N: int, rng: np.random.Generator) -> Batch:
        return take(self.train, rng.integers(rows(self.train), size=N))

    def evaluation_batch(self, N: int = 1000, seed: int = 0) -> Batch:
        """Return the first N rows of the held-out part, or all where there are fewer; whatever the seed."""
        size, _ = self._evaluation_arguments(N, seed)
        return take(self.held_out, np.arange(min(size, rows(self.held_out))))


def rows(part: Batch) -> int:
    """Return how many rows a part has."""
    return int(part[0].shape[1])


def take(part: Batch, chosen: Ids) -> Batch:
    """Return some rows of a part, as new arrays; those of unequal length are cut at the longest of them."""
    x, y, *lengths = part
    x, others = x[:, chosen], [array[chosen] for array in (y, *lengths)]
    return (x[: others[1].max()] if lengths else x, *others)


def package_folder(packages: tuple[str, ...], task: str, needs: str) -> Path:
    """Return the folder of the first of these packages that is installed, without importing it.

    Raises
    ------
    ImportError
        When none is there, saying what to install.
    """
    for name in packages:
        found = importlib.util.find_spec(name)
        if found is not None and found.submodule_search_locations:
            return Path(found.submodule_search_locations[0])
    raise missing(task, needs)


def missing(task: str, needs: str) -> ImportError:
    """Return the error for a package that is not installed."""
    return ImportError(f'{task}: its data are part of {needs}, which is not installed: try pip install "minirnn[data]"')


def standardised(train: Array, held_out: Array, axis: Any) -> tuple[Array, Array]:
    """Return both, less the mean and divided by the standard deviation of the train part."""
    mean, deviation = train.mean(axis=axis), train.std(axis=axis)
    return (train - mean) / deviation, (held_out - mean) / deviation
