"""What `fit` trains on: batches as they are, or a task, which has a loss and batches of its own; and held-out data.

The held-out data are looked at by the way: their loss, and a task's own figure.
"""

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np

from minirnn.arguments import as_size, describe
from minirnn.layers.module import Module
from minirnn.losses import cross_entropy, mse
from minirnn.tasks import TASKS, SequenceTask, TextTask
from minirnn.training.batches import Batch, Loss, going_back, unpacked
from minirnn.training.evaluation import held_out_streams, loss_and_figure
from minirnn.training.history import History

CHUNK = 20
"""Steps of a text that an update goes back."""
MUST_BE = "task_or_batches must be a task of minirnn.tasks, or an iterable"
"""How errors about the second argument go on; see `unpacked`."""

HELD_OUT = "held-out"
"""The name, among a History's evaluations, of the task's own figure on held-out data."""
HELD_OUT_LOSS = "held-out loss"
"""That of the loss on them."""

_EXPECTED = "fit: held_out must be a batch (x, y), a list of batches, or True with a task"

_LOSSES = "mr.losses.cross_entropy for class ids or mr.losses.mse for numbers"


class Source(NamedTuple):
    """What to train on."""

    batches: Iterable[Any]  # of (x, y), (x, y, lengths) or (x, y, is_start)
    task: SequenceTask | TextTask | None  # None for plain batches
    loss: Loss
    carry_state: Any  # as it was given, or what suits the task


def source_of(task_or_batches: Any, *, model: Module, loss: Any, batch: Any, rng: Any, carry_state: Any) -> Source:
    """Check these arguments of `fit`, and fill in what a task knows itself."""
    if loss is not None and not callable(loss):
        raise TypeError(f"fit: loss must be a callable (predictions, y) -> Tensor, got {describe(loss)}: try {_LOSSES}")
    task = _task(task_or_batches)
    if task is None:
        _refuse_of_a_task(batch=batch, rng=rng)
        if loss is None:
            raise TypeError(f"fit: loss must be given with batches, got none: pass {_LOSSES}, or the task itself")
        return Source(task_or_batches, None, loss, False if carry_state is None else carry_state)
    N = task.defaults.batch if batch is None else as_size(batch, "fit: batch")
    loss = loss or (cross_entropy if task.kind == "classification" else mse)
    if isinstance(task, TextTask):
        carried = model.carries_state and going_back(model) is None if carry_state is None else carry_state
        return Source(task.streams(N, CHUNK, rng), task, loss, carried)
    return Source(task.batches(N, rng), task, loss, False if carry_state is None else carry_state)


def _refuse_of_a_task(**given: Any) -> None:
    for name, value in given.items():
        if value is not None:
            raise TypeError(
                f"fit: {name} belongs to a task, got it with batches, which have been drawn by others: leave it out, "
                "or pass the task itself"
            )


def _task(value: Any) -> SequenceTask | TextTask | None:
    """Return what `fit` got if it is a task, None if it may be batches."""
    looks_like_one = isinstance(value, str) or (isinstance(value, type) and issubclass(value, SequenceTask | TextTask))
    if isinstance(value, SequenceTask | TextTask) or looks_like_one:
        return as_task(value, f"fit: {MUST_BE} of batches")
    return None


def as_task(value: Any, must_be: str) -> SequenceTask | TextTask:
    """Check that a value is a task, built and not only named."""
    if isinstance(value, SequenceTask | TextTask):
        return value
    if isinstance(value, type) and issubclass(value, SequenceTask | TextTask):
        raise TypeError(f"{must_be}, got the class {value.__name__}: build it, try {value.__name__}()")
    if isinstance(value, str):
        hint = f"mr.tasks.TASKS[{value!r}]()" if value in TASKS else "mr.tasks.AddingTask()"
        raise TypeError(f"{must_be}, got the name {value!r}: build it, try {hint}")
    raise TypeError(f"{must_be}, got {describe(value)}: try mr.tasks.AddingTask()")


# --- held-out data ----------------------------------------------------------------------------------------------------


class HeldOut(NamedTuple):
    """What is measured, and how often."""

    model: Module
    source: Source  # of what is trained on: it has the loss, whether the state is carried, and the task if any
    batches: list[Batch]  # empty: nothing is measured
    every: int  # updates between two evaluations

    def after_update(self, history: History) -> None:
        """Measure if it is time to."""
        if self.batches and history.updates % self.every == 0:
            self._measure(history)

    def at_the_end(self, history: History) -> None:
        """Measure unless it has just been done."""
        if self.batches and history.updates % self.every:
            self._measure(history)

    def _measure(self, history: History) -> None:
        task = self.source.task
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):  # the figure tells
            loss, figure = loss_and_figure(self.model, self.batches, self.source.loss, self.source.carry_state, task)
        history.record(HELD_OUT_LOSS, loss)
        if task is not None:
            history.record(HELD_OUT, figure)


def held_out_of(model: Module, held_out: Any, every: Any, source: Source) -> HeldOut:
    """Check these arguments of `fit`; held-out data are drawn once, the same at every evaluation."""
    every = as_size(every, "fit: evaluate_every")
    return HeldOut(model, source, list(_batches(held_out, source.task)), every)


def _batches(held_out: Any, task: SequenceTask | TextTask | None) -> Iterable[Batch]:
    if held_out is None or held_out is False:
        return []
    if held_out is True:
        if task is None:
            raise TypeError(f"{_EXPECTED}, got True with batches: pass a batch that is not trained on, or the task")
        whole = held_out_streams(task) if isinstance(task, TextTask) else [task.evaluation_batch()]
        return unpacked(whole, None, "fit")
    if isinstance(held_out, SequenceTask | TextTask):
        hint = "held_out=True with the task as the second argument" if task is None else "held_out=True"
        raise TypeError(f"{_EXPECTED}, got {describe(held_out)}: try {hint}")
    if isinstance(held_out, Iterator):
        raise TypeError(f"{_EXPECTED}, got {describe(held_out)}, which can be read once only: try list(…)")
    if not isinstance(held_out, tuple | list):
        raise TypeError(f"{_EXPECTED}, got {describe(held_out)}: try held_out=(x, y)")
    one = isinstance(held_out, tuple) and not all(isinstance(item, tuple) for item in held_out)
    if not held_out:
        raise ValueError(f"{_EXPECTED}, got an empty {type(held_out).__name__}: leave it out, or put a batch in")
    return unpacked([held_out] if one else held_out, None, "fit", "held_out must be a list")
