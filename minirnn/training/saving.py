"""Checkpoints of a training: what `fit` saves, when, and how it goes on from there."""

import os
import signal
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np

from minirnn.arguments import as_flag, as_size, describe
from minirnn.checkpoints import Checkpoint, CheckpointDirectory
from minirnn.layers.module import Module
from minirnn.optim import Optimizer
from minirnn.training.batches import Batch, WholeBatches
from minirnn.training.history import Evaluation, History
from minirnn.training.truncated import TruncatedBatches


class Checkpointing(NamedTuple):
    """Where and how often `fit` saves, and whether it goes on from what is there.

    Attributes
    ----------
    path : str or path
        A directory, for this run alone.
    every : int
        Updates between two checkpoints. There is one at the end too, and one after Ctrl-C or SIGTERM.
    resume : bool
        Go on from the newest checkpoint, if there is one: to the same bits as if the run had never stopped. Everything
        is to be built as it was for the first time, the batches too: those that have been trained on are drawn again
        and passed over.
    keep : int
        How many checkpoints are kept, beside the best.
    metric : str
        By which the best is chosen, the lowest: "loss", the mean of the last 100, or the name of an evaluation, of
        those checkpoints at whose update it was measured.
    settings : dict of JSON values, optional
        What is needed to build the model again; saved with every checkpoint.
    """

    path: str | os.PathLike[str]
    every: int = 1000
    resume: bool = False
    keep: int = 3
    metric: str = "loss"
    settings: Mapping[str, Any] | None = None


class Position(NamedTuple):
    """Where in the data training stands."""

    batches: int = 0  # whole ones that are done
    pieces: int = 0  # updates made of the next one
    batch: Batch | None = None  # that one, where some were


class Run(NamedTuple):
    """What a checkpoint is made of, beside the history."""

    model: Module
    optimizer: Optimizer
    reader: WholeBatches | TruncatedBatches


class Saver:
    """Saves a training and brings it back; without `Checkpointing` it does nothing."""

    def __init__(self, how: Any, run: Run) -> None:
        self.how = _checked(how)
        self.run, self.stopped, self.saved = run, False, ""
        self.directory = (
            None if self.how is None else CheckpointDirectory(self.how.path, keep=self.how.keep, metric=self.how.metric)
        )
        self._last = -1
        self._found: Checkpoint | None = None

    @contextmanager
    def open(self) -> Iterator[tuple[History, Position]]:
        """Hold the directory's lock, and signals, while it trains; give where to begin."""
        if self.directory is None or self.how is None:
            yield History(), Position()
            return
        with self.directory, _signals(self._stop):
            yield self._begin(self.directory, self.how.resume)

    def _stop(self) -> None:
        self.stopped = True

    def _begin(self, directory: CheckpointDirectory, resume: bool) -> tuple[History, Position]:
        latest = directory.latest()
        if latest is None:
            return History(), Position()
        if not resume:
            made = len(latest.extra["history"]["loss"])
            raise ValueError(
                f"fit: checkpoint: {str(directory.path)!r} has checkpoints of a run that made {made:,} updates: "
                "pass resume=True to go on with it, or choose an empty directory"
            )
        self._found = latest
        self.bring_back()
        history = history_of(latest)
        self._last, self.saved = history.updates, latest.path.name
        batch = latest.extra["batch"]  # drawn again it might differ, where the model draws from the same Generator
        batches, pieces = latest.position
        return history, Position(batches, pieces, None if batch is None else Batch(*batch))

    def bring_back(self) -> None:
        """Put everything where it was.

        Once more when the batches before have been passed over: the Generator that draws them may be the model's too.
        """
        if self._found is not None:
            self._found.restore(self.run.model, self.run.optimizer)
            self.run.reader.load_state_dict(self._found.extra["reader"])

    def after_update(self, history: History, position: Position) -> None:
        """Save if it is time to."""
        if self.how is not None and history.updates % self.how.every == 0:
            self.save(history, position)

    def save(self, history: History, position: Position) -> None:
        """Save unless this update has been saved."""
        if self.directory is None or self.how is None or history.updates == self._last:
            return
        path = self.directory.save(
            history.updates,
            model=self.run.model,
            optimizer=self.run.optimizer,
            settings=self.how.settings,
            **of_training(history, position, reader=self.run.reader.state_dict(), batch=_plain(position.batch)),
        )
        self._last, self.saved = history.updates, path.name

    def last_good(self) -> str:
        """Return a sentence on what is left after an error; nothing without checkpoints."""
        if self.directory is None:
            return ""
        if not self.saved:
            return f" There is no checkpoint in {str(self.directory.path)!r} yet."
        return f" The last good checkpoint is {str(self.directory.path / self.saved)!r}."


def _checked(how: Any) -> Checkpointing | None:
    if how is None:
        return None
    if isinstance(how, str | os.PathLike):
        how = Checkpointing(how)
    if not isinstance(how, Checkpointing):
        raise TypeError(
            f"fit: checkpoint must be a directory's path or a Checkpointing, got {describe(how)}: try "
            "Checkpointing('run', every=1000)"
        )
    as_size(how.every, "fit: checkpoint: every")
    as_flag(how.resume, "fit: checkpoint: resume")
    return how


def _plain(batch: Batch | None) -> Any:
    return None if batch is None else [np.asarray(batch.x), np.asarray(batch.y), None, batch.is_start]


def of_training(history: History, position: Position, **more: Any) -> dict[str, Any]:
    """Return what a checkpoint says of a training, as arguments of `save_checkpoint`; ``more`` joins its ``extra``."""
    K = history.updates  # an older evaluation is one of other weights
    metrics = {name: made[-1].value for name, made in history.evaluations.items() if made[-1].update == K}
    return {
        "position": [position.batches, position.pieces],
        "metrics": {"loss": history.recent()} | metrics,
        "extra": {"history": _tree(history), **more},
    }


def _tree(history: History) -> dict[str, Any]:
    evaluations = {name: [list(e) for e in made] for name, made in history.evaluations.items()}
    arrays = {"loss": history.loss, "grad_norm": history.grad_norm, "seconds": history.seconds}
    return {**arrays, "metrics": history.metrics, "evaluations": evaluations, "clip_norm": history.clip_norm}


def history_of(checkpoint: Checkpoint) -> History:
    """Return the History of the training that a checkpoint was saved in; KeyError or TypeError where there is none."""
    saved, history = checkpoint.extra["history"], History()
    metrics, history.clip_norm = saved["metrics"], saved.get("clip_norm")  # those of older versions have none
    for k, (loss, norm, seconds) in enumerate(zip(saved["loss"], saved["grad_norm"], saved["seconds"], strict=True)):
        measured = {name: float(values[k]) for name, values in metrics.items()}
        history.append(float(loss), float(norm), float(seconds), measured)
    for name, made in saved["evaluations"].items():
        history.evaluations[name] = [Evaluation(int(update), float(value)) for update, value in made]
    return history


@contextmanager
def _signals(stop: Any) -> Iterator[None]:
    """Within it Ctrl-C and SIGTERM ask to stop after the update; asked once more, Ctrl-C stops at once.

    In the main thread only: elsewhere nobody can take signals.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    asked = False

    def handler(number: int, frame: Any) -> None:
        nonlocal asked
        if asked:
            raise KeyboardInterrupt
        asked = True
        stop()

    before = {number: signal.signal(number, handler) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)
