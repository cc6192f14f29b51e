"""What `fit` trains on: batches as they are, or a task, which has a loss and batches of its own; and held-out data.

The held-out data are looked at by the way: their loss, and a task's own figure.
"""

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from minirnn.arguments import as_generator, as_size, describe
from minirnn.data.batching import Batches, Rows, check_numbers, refuse_nan, rows_of
from minirnn.layers import Recurrence, SequenceModel
from minirnn.layers.module import Module
from minirnn.losses import cross_entropy, mse
from minirnn.tasks import TASKS, SequenceTask, TextTask, TimeMajor
from minirnn.training.batches import Batch, Loss, copied, going_back, rows_first, unpacked
from minirnn.training.evaluation import held_out_streams, loss_and_figure
from minirnn.training.history import History

CHUNK = 20
"""Steps of a text that an update goes back."""
MUST_BE = "task_or_batches must be a task of minirnn.tasks, or an iterable"
"""How errors about the second argument go on; see `unpacked`."""

HELD_OUT = "held-out"
"""The name, among a History's evaluations, of the task's own figure on held-out data."""

_LOSSES = "mr.losses.cross_entropy for class ids or mr.losses.mse for numbers"


ROWS = 32
"""Rows in a batch of arrays, unless it is said how many."""


class Source(NamedTuple):
    """What to train on."""

    batches: Iterable[Any]  # of (x, y), (x, y, lengths) or (x, y, is_start)
    task: SequenceTask | TextTask | None  # None for plain batches
    loss: Loss
    carry_state: Any  # as it was given, or what suits the task
    N: int | None = None  # rows of the task's batches, or of those made of arrays
    endless: bool = False  # whether the batches have no end


def source_of(
    given: Any, *, model: Module, loss: Any, batch: Any, rng: Any, carry_state: Any, epochs: Any = None
) -> Source:
    """Check these arguments of `fit`, and fill in what a task knows itself."""
    if loss is not None and not callable(loss):
        raise TypeError(f"fit: loss must be a callable (predictions, y) -> Tensor, got {describe(loss)}: try {_LOSSES}")
    epochs = None if epochs is None else as_size(epochs, "fit: epochs")
    if not isinstance(given, SequenceTask | TextTask | str | type):
        if loss is None:
            raise TypeError(f"fit: loss must be given with batches, got none: pass {_LOSSES}, or the task itself")
        carry_state = False if carry_state is None else carry_state
        if is_arrays(given):
            return _of_arrays(given, model, batch, epochs, rng)._replace(loss=loss, carry_state=carry_state)
        for name, value in {"batch": batch, "rng": rng}.items():
            if value is not None:
                raise TypeError(
                    f"fit: {name} belongs to a task or to arrays, got it with batches, which have been drawn by "
                    "others: leave it out, or pass the task itself, or a tuple of arrays (x, y)"
                )
        if epochs is not None and not isinstance(given, Sequence):
            raise TypeError(f"fit: epochs needs arrays (x, y) or a list of batches, got {describe(given)}: try list(…)")
        if epochs is None:
            return Source(given, None, loss, carry_state)
        return Source([*given] * epochs, None, loss, carry_state)
    if epochs is not None:
        raise TypeError("fit: epochs needs arrays (x, y), got it with a task, which has no end: try max_updates=")
    task = as_task(given, f"fit: {MUST_BE} of batches")
    N = task.defaults.batch if batch is None else as_size(batch, "fit: batch")
    loss = loss or (cross_entropy if task.kind == "classification" else mse)
    if carry_state is None:
        carry_state = isinstance(task, TextTask) and model.carries_state and going_back(model) is None
    drawn: Iterable[Any] = task.streams(N, CHUNK, rng) if isinstance(task, TextTask) else task.batches(N, rng)
    return Source(drawn, task, loss, carry_state, N, endless=True)


def is_arrays(given: Any) -> bool:
    """Whether what was given is one tuple of arrays, (x, y) or (x, y, lengths), and not a sequence of batches."""
    return isinstance(given, tuple) and len(given) in (2, 3) and not any(isinstance(item, tuple) for item in given)


def _of_arrays(given: Any, model: Module, batch: Any, epochs: int | None, rng: Any) -> Source:
    """Draw mini-batches of arrays in the model's layout; of a model without a state the first axis is the rows."""
    by_row = not model.carries_state or rows_first(model)
    if isinstance(given, TimeMajor) and by_row:
        given = given.rows_first()
    readout = getattr(model, "readout", "all" if isinstance(model, Recurrence) else None)
    N = ROWS if batch is None else as_size(batch, "fit: batch")
    x, y, lengths = (*given, None)[:3]
    rows = rows_of(x, y, lengths, by_row, readout if model.carries_state else "last", "fit")
    return Source(Batches(rows, N, epochs, True, as_generator(rng)), None, mse, False, N, endless=epochs is None)


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
        given = _batches(model, held_out, source.task)  # empty: nothing is measured
        self.batches = [Batch(*map(copied, batch)) for batch in given]
        for batch in self.batches:
            _without_nan(model, batch)
        self.names = ["held-out loss", *[HELD_OUT] * (source.task is not None)] * bool(self.batches)

    def look(self, history: History, *, at_the_end: bool = False) -> None:
        """Measure if it is time to; at the end, unless it has just been done."""
        due = history.updates % self.every == 0
        if not self.batches or due is at_the_end:
            return
        _, task, loss, carry_state, *_ = self.source
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):  # the figure tells
            value, figure = loss_and_figure(self.model, self.batches, loss, carry_state, task)
        history.record("held-out loss", value)
        if task is not None:
            history.record(HELD_OUT, figure)


def _without_nan(model: Module, batch: Batch) -> None:
    """Refuse a NaN that would be the figure, for ever; what a model of one's own makes of one in x nobody knows."""
    x, y = _shown(batch.x), _shown(batch.y)
    lengths, where = batch.lengths, f"{batch.where} of held_out"
    rows = Rows(x, y, None if lengths is None else np.asarray(lengths), rows_first(model), y.shape[:2] == x.shape[:2])
    check_numbers(rows, where)
    if isinstance(model, Recurrence | SequenceModel) and getattr(model, "embedding", None) is None and x.ndim > 2:
        refuse_nan(x, rows, True, f"{where}: x")


def _shown(a: Any) -> Any:
    """Return an array of what can be one; what else it is shows where the model reads it."""
    with contextlib.suppress(TypeError, ValueError, RuntimeError):
        return np.asarray(a)
    return np.empty(0)


def _batches(model: Module, held_out: Any, task: SequenceTask | TextTask | None) -> Iterable[Batch]:
    if held_out is None or held_out is False:
        return []
    if held_out is True and task is not None:
        its = held_out_streams(task) if isinstance(task, TextTask) else [task.evaluation_batch()]
        return unpacked(model, its, "fit")
    if isinstance(held_out, tuple | list) and held_out:
        return unpacked(model, [held_out] if is_arrays(held_out) else held_out, "fit", "held_out must be a list")
    hint = "try held_out=(x, y)"
    if isinstance(held_out, SequenceTask | TextTask | bool):
        hint = "try held_out=True with the task as the second argument"
    elif isinstance(held_out, Iterator):
        hint = "it can be read once only, try list(…)"
    raise TypeError(
        "fit: held_out must be a batch (x, y), a list of batches, or True with a task, got "
        f"{describe(held_out)}: {hint}"
    )
