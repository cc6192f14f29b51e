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

    To go on, everything is to be built as it was for the first time, the batches too: those that have been trained on
    are drawn again and passed over. The bits are then the same as if the run had never stopped.
    """

    path: str | os.PathLike[str]
    """A directory, for this run alone."""
    every: int = 1000
    """Updates between two checkpoints. There is one at the end too, and one after Ctrl-C or SIGTERM."""
    resume: bool = False
    """Whether to go on from the newest checkpoint, if there is one."""
    keep: int = 3
    """How many checkpoints are kept, beside the best."""
    metric: str = "loss"
    """By which the best is chosen, the lowest: "loss", the mean of the last 100, or the name of an evaluation, of those
    checkpoints at whose update it was measured."""
    settings: Mapping[str, Any] | None = None
    """What is needed to build the model again, JSON values; saved with every checkpoint."""


class Position(NamedTuple):
    """Where in the data training stands."""

    batches: int = 0  # whole ones that are done
    pieces: int = 0  # updates made of the next one
    batch: Batch | None = None  # that one, where some were


class Saver:
    """Saves a training and brings it back; without `Checkpointing` it does nothing."""

    def __init__(self, how: Any, model: Module, optimizer: Optimizer, reader: WholeBatches | TruncatedBatches) -> None:
        if isinstance(how, str | os.PathLike):
            how = Checkpointing(how)
        if not isinstance(how, Checkpointing | None):
            raise TypeError(
                f"fit: checkpoint must be a directory's path or a Checkpointing, got {describe(how)}: try "
                "Checkpointing('run', every=1000)"
            )
        self.model, self.optimizer, self.reader = model, optimizer, reader
        self.how, self.stopped = how, False  # stopped: by a signal
        self._saved = (-1, "")  # the last checkpoint's update and file name
        self._found: Checkpoint | None = None
        if how is not None:
            as_size(how.every, "fit: checkpoint: every")
            as_flag(how.resume, "fit: checkpoint: resume")
            self._directory = CheckpointDirectory(how.path, keep=how.keep, metric=how.metric)

    @contextmanager
    def open(self) -> Iterator[tuple[History, Position]]:
        """Hold the directory's lock, and signals, while it trains; give where to begin."""
        if self.how is None:
            yield History(), Position()
            return
        with self._directory, self._signals():
            self._found = latest = self._directory.latest()
            if latest is None:
                yield History(), Position()
                return
            history = history_of(latest)
            if not self.how.resume:
                raise ValueError(
                    f"fit: checkpoint: {str(self._directory.path)!r} has checkpoints of a run that made "
                    f"{history.updates:,} updates: pass resume=True to go on with it, or choose an empty directory"
                )
            self.bring_back()
            self._saved = history.updates, latest.path.name
            batch = latest.extra["batch"]  # drawn again it might differ, where the model draws from the same Generator
            batches, pieces = latest.position
            yield history, Position(batches, pieces, None if batch is None else Batch(*batch))

    @contextmanager
    def _signals(self) -> Iterator[None]:
        """Within it Ctrl-C and SIGTERM ask to stop after the update; asked once more, Ctrl-C stops at once.

        In the main thread only: elsewhere nobody can take signals.
        """
        if threading.current_thread() is not threading.main_thread():
            yield
            return

        def handler(number: int, frame: Any) -> None:
            if self.stopped:
                raise KeyboardInterrupt
            self.stopped = True

        before = {number: signal.signal(number, handler) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, old in before.items():
                signal.signal(number, old)

    def bring_back(self) -> None:
        """Put everything where it was.

        Once more when the batches before have been passed over: the Generator that draws them may be the model's too.
        """
        if self._found is not None:
            self._found.restore(self.model, self.optimizer)
            self.reader.load_state_dict(self._found.extra["reader"])

    def save(self, history: History, position: Position, *, at_the_end: bool = False) -> None:
        """Save if it is time to, or at the end, unless this update has been saved."""
        due = self.how is not None and (at_the_end or history.updates % self.how.every == 0)
        if self.how is None or not due or history.updates == self._saved[0]:
            return
        begun = position.batch  # one without lengths: with them it would have been read whole
        batch = None if begun is None else [np.asarray(begun.x), np.asarray(begun.y), None, begun.is_start]
        state = describe_training(history, position, reader=self.reader.state_dict(), batch=batch)
        state |= {"model": self.model, "optimizer": self.optimizer, "settings": self.how.settings}
        self._saved = history.updates, self._directory.save(history.updates, **state).name

    def last_good(self) -> str:
        """Say in a sentence what is left after an error; nothing without checkpoints."""
        if self.how is None:
            return ""
        said = "The last good checkpoint is {}." if self._saved[1] else "There is no checkpoint in {} yet."
        return " " + said.format(repr(str(self._directory.path / self._saved[1])))


def describe_training(history: History, position: Position, **more: Any) -> dict[str, Any]:
    """Say of a training what `save_checkpoint` takes: position, metrics, and ``extra``, which ``more`` joins."""
    last = {name: made[-1] for name, made in history.evaluations.items()}
    return {
        "position": [position.batches, position.pieces],
        # An older evaluation is one of other weights.
        "metrics": {"loss": history.recent()} | {n: e.value for n, e in last.items() if e.update == history.updates},
        "extra": {
            "history": {
                "loss": history.loss,
                "grad_norm": history.grad_norm,
                "seconds": history.seconds,
                "metrics": history.metrics,
                "evaluations": {name: [list(e) for e in made] for name, made in history.evaluations.items()},
                "clip_norm": history.clip_norm,
            },
            **more,
        },
    }


def history_of(checkpoint: Checkpoint) -> History:
    """Make the History of the training that a checkpoint was saved in; KeyError or TypeError where there is none."""
    saved, history = checkpoint.extra["history"], History()
    metrics, history.clip_norm = saved["metrics"], saved.get("clip_norm")  # those of older versions have none
    for k, (loss, norm, seconds) in enumerate(zip(saved["loss"], saved["grad_norm"], saved["seconds"], strict=True)):
        history.append(float(loss), float(norm), float(seconds), {name: float(m[k]) for name, m in metrics.items()})
    for name, made in saved["evaluations"].items():
        history.evaluations[name] = [Evaluation(int(update), float(value)) for update, value in made]
    return history
