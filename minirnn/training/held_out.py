"""Held-out data that `fit` looks at by the way: their loss, and a task's own figure."""

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np

from minirnn.arguments import as_size, describe
from minirnn.layers.module import Module
from minirnn.tasks import SequenceTask, TextTask
from minirnn.training.batches import Batch, unpacked
from minirnn.training.evaluation import held_out_streams, loss_and_figure
from minirnn.training.history import History
from minirnn.training.sources import Source

HELD_OUT = "held-out"
"""The name, among a History's evaluations, of the task's own figure on held-out data."""
HELD_OUT_LOSS = "held-out loss"
"""That of the loss on them."""

_EXPECTED = "fit: held_out must be a batch (x, y), a list of batches, or True with a task"


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
