"""Checkpoints of a training: what `fit` saves, when, and how it goes on from there."""

import math
import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from inspect import signature
from typing import Any, NamedTuple

import numpy as np

from minirnn.arguments import as_flag, as_size, describe
from minirnn.checkpoints import Checkpoint, CheckpointDirectory
from minirnn.checkpoints.signals import stopping
from minirnn.checkpoints.trees import pack
from minirnn.layers.module import Module
from minirnn.optim import Optimizer
from minirnn.training.batches import Batch
from minirnn.training.history import Evaluation, History


class Checkpointing(NamedTuple):
    """Where and how often `fit` saves, and whether it goes on from what is there.

    To go on, everything is to be built as it was for the first time, the batches too: those that have been trained on
    are drawn again and passed over. The bits are then the same as if the run had never stopped. What the run was begun
    with, as far as it is known (task, batch, seed, schedule, tbptt, carry_state, the optimiser's settings, lr too),
    counts: another is refused. Schedules and callbacks may change the rate on the way, and ``max_updates``,
    ``clip_norm``, metrics, callbacks and evaluations may be others.
    """

    path: str | os.PathLike[str]
    """A directory, for this run alone."""
    every: int = 1000
    """Updates between two checkpoints. There is one at the end too, one after Ctrl-C or SIGTERM, and one of the last
    update when a callback, ``stop``, an evaluation or the batches raise an error."""
    resume: bool = False
    """Whether to go on from the newest checkpoint, if there is one."""
    keep: int = 3
    """How many checkpoints are kept, beside the best."""
    metric: str = "loss"
    """By which the best is chosen: "loss", the mean of the last 100, or the name of an evaluation, of those checkpoints
    at whose update it was measured. A name that can never come is refused; `fit` warns if none was the best."""
    settings: Mapping[str, Any] | None = None
    """What is needed to build the model again, JSON values; saved with every checkpoint."""
    mode: str = "min"
    """Whether the lowest is the best, or the highest: "max", for an accuracy, say."""


class Position(NamedTuple):
    """Where in the data training stands."""

    batches: int = 0  # whole ones that are done
    pieces: int = 0  # updates made of the next one
    batch: Batch | None = None  # that one, where some were


class Best:
    """Remembers the weights that had the lowest held-out figure, if that is ``wanted``."""

    def __init__(self, model: Module, names: Sequence[str], wanted: bool) -> None:
        if wanted and not names:
            raise ValueError("fit: restore_best needs a figure of held-out data, got none: pass held_out=")
        self.model, self.name = model, names[-1] if wanted else None
        self.value, self.update, self.weights = math.inf, 0, None  # type: float, int, Any

    def look(self, history: History) -> None:
        """Take the weights as they are, if their figure has just been measured and is the best."""
        made = history.evaluations.get(self.name or "", [])
        if made and made[-1].update == history.updates and made[-1].value < self.value:
            self.value, self.update, self.weights = made[-1].value, history.updates, self.model.state_dict()

    def put_back(self, history: History) -> None:
        """Give the model the best weights."""
        if self.weights is not None:
            self.model.load_state_dict(self.weights)
            history.restored = self.update

    def state_dict(self) -> dict[str, Any]:
        """Give what is needed to go on, as a tree of arrays."""
        return {"value": self.value, "update": self.update, "weights": self.weights}

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """Go on from there."""
        if self.name is not None:
            self.value, self.update, self.weights = float(saved["value"]), int(saved["update"]), saved["weights"]


USUAL = {"accumulate": "1", "scheduled_sampling": "None"}
"""Settings that older versions had not: what a run of theirs was begun with, as were the optimisers' options."""


class Saver:
    """Saves a training and brings it back; without `Checkpointing` it does nothing."""

    def __init__(
        self, how: Any, model: Module, optimizer: Optimizer, parts: Mapping[str, Any], **settings: Any
    ) -> None:
        if isinstance(how, str | os.PathLike):
            how = Checkpointing(how)
        if not isinstance(how, Checkpointing | None):
            raise TypeError(
                f"fit: checkpoint must be a directory's path or a Checkpointing, got {describe(how)}: try "
                "Checkpointing('run', every=1000)"
            )
        self.model, self.optimizer, self.parts = model, optimizer, parts  # parts: what else has a state_dict
        self.how, self.stopped = how, 0  # stopped: by the signal of this number
        self._saved = (-1, "")  # the last checkpoint's update and file name
        self._found: Checkpoint | None = None
        if how is not None:
            as_size(how.every, "fit: checkpoint: every")
            as_flag(how.resume, "fit: checkpoint: resume")
            # Beside the optimiser's state, as its rate may change on the way. An address is another in each process.
            known = {name: text for name, value in settings.items() if " at 0x" not in (text := str(value))}
            state = optimizer.state_dict()
            made = state["settings"] | {name: getattr(optimizer, name) for name in optimizer.options}
            self._begun = known | pack(made | {"groups": state.get("groups")}, "fit: optimizer", "")[0]
            usual = {name: signature(type(optimizer)).parameters[name].default for name in optimizer.options}
            self._usual = USUAL | pack(usual | {"groups": None}, "fit: optimizer", "")[0]
            self._directory = CheckpointDirectory(how.path, keep=how.keep, metric=how.metric, mode=how.mode)

    @contextmanager
    def open(self) -> Iterator[tuple[History, Position]]:
        """Hold the directory's lock, and signals, while it trains; give where to begin."""
        if self.how is None:
            yield History(), Position()
            return
        with self._directory, stopping(self):
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
            history.resumed = latest.path
            self._saved = history.updates, latest.path.name
            batch = latest.extra["batch"]  # drawn again it might differ, where the model draws from the same Generator
            batches, pieces = latest.position
            yield history, Position(batches, pieces, None if batch is None else Batch(*batch))

    def bring_back(self) -> None:
        """Put everything where it was.

        Once more when the batches before have been passed over: the Generator that draws them may be the model's too.
        """
        if self._found is not None:
            self._found.extra["begun"] = self._usual | self._found.extra.get("begun", {})
            self._found.restore(self.model, self.optimizer, begun=self._begun)
            for name, part in self.parts.items():
                if name in self._found.extra:  # older versions had fewer
                    part.load_state_dict(self._found.extra[name])

    def save(self, history: History, position: Position, *, at_the_end: bool = False) -> None:
        """Save if it is time to, or at the end, unless this update has been saved."""
        due = self.how is not None and (at_the_end or history.updates % self.how.every == 0)
        if self.how is None or not due or history.updates == self._saved[0]:
            return
        begun = position.batch  # one without lengths: with them it would have been read whole
        batch = None if begun is None else [np.asarray(begun.x), np.asarray(begun.y), None, begun.is_start]
        more = {name: part.state_dict() for name, part in self.parts.items()} | {"batch": batch, "begun": self._begun}
        state = describe_training(history, position, **more)
        state |= {"model": self.model, "optimizer": self.optimizer, "settings": self.how.settings}
        self._saved = history.updates, self._directory.save(history.updates, **state).name

    def check_best(self, history: History) -> None:
        """Warn, at the end, if no checkpoint is the best: the figure was measured at other updates, or is NaN."""
        if self.how and self.how.metric in history.evaluations and not (self._directory.path / "best.npz").exists():
            fault = f"{self.how.metric!r} was measured at none of their updates, or NaN: make every a multiple of its"
            warnings.warn(f"fit: checkpoint: no checkpoint is the best: {fault}", stacklevel=3)

    def rescue(self, error: Exception, history: History, position: Position) -> None:
        """Save what the last update left, if there is one; what keeps it from that is noted at the error."""
        try:
            if history.updates:
                self.save(history, position, at_the_end=True)
        except Exception as another:  # of a full disk, say
            error.add_note(f"fit: the last update was not saved: {another}.{self.last_good()}")

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
                "evaluations": {name: np.reshape(made, (-1, 2)) for name, made in history.evaluations.items()},
                "clip_norm": history.clip_norm,
            },
            **more,
        },
    }


def history_of(checkpoint: Checkpoint) -> History:
    """Make the History of the training that a checkpoint was saved in; KeyError or TypeError where there is none."""
    saved, history = checkpoint.extra["history"], History()
    history.clip_norm = saved.get("clip_norm")  # those of older versions have none
    rows = [*(saved[name] for name in ("loss", "grad_norm", "seconds")), *saved["metrics"].values()]
    history._loss, history._grad_norm, history._seconds, *metrics = np.array(rows, float).tolist()
    history._metrics = dict(zip(saved["metrics"], metrics, strict=True))
    for name, made in saved["evaluations"].items():
        history.evaluations[name] = [
            Evaluation(int(update), float(value)) for update, value in np.asarray(made).tolist()
        ]
    return history
