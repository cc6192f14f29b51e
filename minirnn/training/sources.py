"""What `fit` trains on: batches as they are, or a task, which has a loss and batches of its own."""

from collections.abc import Iterable
from typing import Any, NamedTuple

from minirnn.arguments import as_size, describe
from minirnn.layers.module import Module
from minirnn.losses import cross_entropy, mse
from minirnn.tasks import TASKS, SequenceTask, TextTask
from minirnn.training.batches import Loss, going_back

CHUNK = 20
"""Steps of a text that an update goes back."""
MUST_BE = "task_or_batches must be a task of minirnn.tasks, or an iterable"
"""How errors about the second argument go on; see `unpacked`."""

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
