"""Learning rates that change, and the end of a training that no longer helps.

A schedule is a callable (update) -> factor of the optimiser's own learning rate, counted from 0; `fit` takes one.
"""

import math
from collections.abc import Callable
from typing import Any

from minirnn.arguments import Made, as_number, as_size
from minirnn.optim import Optimizer
from minirnn.tasks import SequenceTask, TextTask
from minirnn.training.history import History
from minirnn.training.sources import HELD_OUT, as_task

Schedule = Callable[[int], float]


def linear(updates: int, to: float = 0.0) -> Schedule:
    """Make a factor that falls (or rises) in a straight line from 1 to ``to`` over so many updates, and stays there.

    >>> rate = linear(100)
    >>> rate(0), rate(50), rate(1000)
    (1.0, 0.5, 0.0)
    """
    return Made(_linear, as_size(updates, "linear: updates"), as_number(to, "linear: to"))


def _linear(updates: int, to: float, update: int) -> float:
    return 1.0 + (to - 1.0) * min(update / updates, 1.0)


def cosine(updates: int, to: float = 0.0) -> Schedule:
    """Make a factor that falls from 1 to ``to`` along half a cosine (Loshchilov & Hutter 2017), and stays there.

    >>> rate = cosine(100)
    >>> rate(0), round(rate(50), 12), rate(100)
    (1.0, 0.5, 0.0)
    """
    return Made(_cosine, as_size(updates, "cosine: updates"), as_number(to, "cosine: to"))


def _cosine(updates: int, to: float, update: int) -> float:
    return to + (1.0 - to) * (1.0 + math.cos(math.pi * min(update / updates, 1.0))) / 2.0


def steps(every: int, factor: float) -> Schedule:
    """Make a factor that is multiplied by ``factor`` after every so many updates.

    >>> rate = steps(10, 0.5)
    >>> rate(9), rate(10), rate(25)
    (1.0, 0.5, 0.25)
    """
    return Made(_steps, as_size(every, "steps: every"), as_number(factor, "steps: factor"))


def _steps(every: int, factor: float, update: int) -> float:
    return factor ** (update // every)


def warm_up(updates: int, then: Schedule | None = None) -> Schedule:
    """Make a factor that rises to 1 over the first updates, and then is what ``then`` says, counted from there.

    >>> rate = warm_up(4, linear(10))
    >>> rate(0), rate(3), rate(4), rate(9)
    (0.25, 1.0, 1.0, 0.5)
    """
    return Made(_warm_up, as_size(updates, "warm_up: updates"), then)


def _warm_up(updates: int, then: Schedule | None, update: int) -> float:
    return (update + 1) / updates if update < updates else then(update - updates) if then else 1.0


def early_stopping(name: str, patience: int, min_delta: float = 0.0) -> Callable[[History], bool]:
    """Make a ``stop`` for `fit`: end after ``patience`` evaluations, one after the other, without a new best one.

    ``name`` is that of the evaluations: "held-out loss" or "held-out" of ``fit(held_out=…)``, or what a callback notes
    with `History.record`. A figure is better that is below the best one by more than ``min_delta``; NaN never is.

    >>> stop, history = early_stopping("held-out loss", patience=2), History()
    >>> for k, loss in enumerate((3.0, 2.0, 2.5, 2.1)):
    ...     history.append(loss=loss, grad_norm=1.0, seconds=k)
    ...     history.record("held-out loss", loss)
    >>> stop(history)
    True
    """
    patience = as_size(patience, "early_stopping: patience")
    return Made(_early_stopping, name, patience, as_number(min_delta, "early_stopping: min_delta"))


def _early_stopping(name: str, patience: int, min_delta: float, history: History) -> bool:
    best, since = math.inf, 0
    for _, value in history.evaluations.get(name, ()):
        best, since = (value, 0) if value < best - min_delta else (best, since + 1)
    return since >= patience


def until_solved(task: Any, name: str = HELD_OUT) -> Callable[[History], bool]:
    """Make a ``stop`` for `fit`: end when ``task.solved`` says so of the last evaluation of a name.

    By default these are the evaluations of ``fit(model, task, held_out=True)``. Without any, training goes on.

    >>> import minirnn as mr
    >>> stop, history = until_solved(mr.tasks.AddingTask()), History()
    >>> stop(history)
    False
    >>> history.record("held-out", 0.0)
    >>> stop(history)
    True
    """
    return Made(_until_solved, as_task(task, "until_solved: task must be a task of minirnn.tasks"), name)


def _until_solved(task: SequenceTask | TextTask, name: str, history: History) -> bool:
    made = history.evaluations.get(name, [])
    return bool(made) and task.solved(made[-1].value)


class Rate:
    """The learning rate of an optimiser, under a schedule or as it is."""

    def __init__(self, optimizer: Optimizer, schedule: Schedule | None) -> None:
        if schedule is not None and not callable(schedule):
            raise TypeError(
                f"fit: schedule must be a callable (update) -> factor, got {schedule!r}: try schedules.linear(1000)"
            )
        self.optimizer, self.schedule, self.usual = optimizer, schedule, optimizer.lr

    def set(self, update: int) -> None:
        """Set the rate of an update."""
        if self.schedule is None:
            return
        factor = as_number(
            self.schedule(update), f"fit: schedule({update})", "a number ≥ 0", "it multiplies the learning rate"
        )
        self.optimizer.lr = self.usual * factor

    def restore(self) -> None:
        """Set what it was before."""
        if self.schedule is not None:
            self.optimizer.lr = self.usual
