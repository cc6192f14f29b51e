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
    if not isinstance(task_or_batches, SequenceTask | TextTask | str | type):
        for name, value in {"batch": batch, "rng": rng}.items():
            if value is not None:
                raise TypeError(
                    f"fit: {name} belongs to a task, got it with batches, which have been drawn by others: leave it "
                    "out, or pass the task itself"
                )
        if loss is None:
            raise TypeError(f"fit: loss must be given with batches, got none: pass {_LOSSES}, or the task itself")
        return Source(task_or_batches, None, loss, False if carry_state is None else carry_state)
    task = as_task(task_or_batches, f"fit: {MUST_BE} of batches")
    N = task.defaults.batch if batch is None else as_size(batch, "fit: batch")
    loss = loss or (cross_entropy if task.kind == "classification" else mse)
    if carry_state is None:
        carry_state = isinstance(task, TextTask) and model.carries_state and going_back(model) is None
    batches: Iterable[Any] = task.streams(N, CHUNK, rng) if isinstance(task, TextTask) else task.batches(N, rng)
    return Source(batches, task, loss, carry_state)


def as_task(value: Any, must_be: str) -> SequenceTask | TextTask:
    """Check that a value is a task, built and not only named."""
    if isinstance(value, SequenceTask | TextTask):
        return value
    got, hint = describe(value), "try mr.tasks.AddingTask()"
    if isinstance(value, type) and issubclass(value, SequenceTask | TextTask):
        got, hint = f"the class {value.__name__}", f"build it, try {value.__name__}()"
    elif isinstance(value, str) and value in TASKS:
        got, hint = f"the name {value!r}", f"build it, try mr.tasks.TASKS[{value!r}]()"
    raise TypeError(f"{must_be}, got {got}: {hint}")


class HeldOut:
    """Held-out data, drawn once, the same at every evaluation; measured as ``source`` says, which is trained on."""

    def __init__(self, model: Module, held_out: Any, every: Any, source: Source) -> None:
        self.every = as_size(every, "fit: evaluate_every")
        self.model, self.source = model, source
        self.batches = list(_batches(held_out, source.task))  # empty: nothing is measured

    def look(self, history: History, *, at_the_end: bool = False) -> None:
        """Measure if it is time to; at the end, unless it has just been done."""
        due = history.updates % self.every == 0
        if not self.batches or due is at_the_end:
            return
        _, task, loss, carry_state = self.source
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):  # the figure tells
            value, figure = loss_and_figure(self.model, self.batches, loss, carry_state, task)
        history.record("held-out loss", value)
        if task is not None:
            history.record(HELD_OUT, figure)


def _batches(held_out: Any, task: SequenceTask | TextTask | None) -> Iterable[Batch]:
    if held_out is None or held_out is False:
        return []
    if held_out is True and task is not None:
        return unpacked(held_out_streams(task) if isinstance(task, TextTask) else [task.evaluation_batch()], "fit")
    if isinstance(held_out, tuple | list) and held_out:
        one = isinstance(held_out, tuple) and not all(isinstance(item, tuple) for item in held_out)
        return unpacked([held_out] if one else held_out, "fit", "held_out must be a list")
    hint = "try held_out=(x, y)"
    if isinstance(held_out, SequenceTask | TextTask | bool):
        hint = "try held_out=True with the task as the second argument"
    elif isinstance(held_out, Iterator):
        hint = "it can be read once only, try list(…)"
    raise TypeError(
        "fit: held_out must be a batch (x, y), a list of batches, or True with a task, got "
        f"{describe(held_out)}: {hint}"
    )
