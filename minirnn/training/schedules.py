"""Learning rates that change, and the end of a training that no longer helps.

A schedule is a callable (update) -> factor of the optimiser's own learning rate, counted from 0; `fit` takes one.
"""

import math
import warnings
from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from minirnn.arguments import Made, as_number, as_size, describe, one_of
from minirnn.optim import Optimizer
from minirnn.tasks import SequenceTask, TextTask
from minirnn.training.history import Evaluation, History
from minirnn.training.sources import HELD_OUT, as_task

__all__ = [
    *("Schedule", "cosine", "early_stopping", "exponential", "linear", "multi_step", "one_cycle", "plateau", "steps"),
    *("until_solved", "warm_up"),
]

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


def exponential(factor: float) -> Schedule:
    """Make a factor that is multiplied by ``factor`` after every update.

    >>> rate = exponential(0.5)
    >>> rate(0), rate(3)
    (1.0, 0.125)
    """
    return Made(_steps, 1, as_number(factor, "exponential: factor", "a positive number", "try 0.999"))


def multi_step(at: Iterable[int], factor: float) -> Schedule:
    """Make a factor that is multiplied by ``factor`` at each of the updates given.

    >>> rate = multi_step([10, 30], 0.5)
    >>> rate(9), rate(10), rate(29), rate(30)
    (1.0, 0.5, 0.5, 0.25)
    """
    if not isinstance(at, Iterable):
        raise TypeError(f"multi_step: at must be a list of updates, got {describe(at)}: try [{at}]")
    updates = tuple(sorted(as_size(update, f"multi_step: at[{i}]") for i, update in enumerate(at)))
    return Made(_multi_step, updates, as_number(factor, "multi_step: factor"))


def _multi_step(at: tuple[int, ...], factor: float, update: int) -> float:
    return factor ** bisect_right(at, update)


def one_cycle(updates: int, rise: float = 0.3, start: float = 0.04, end: float = 4e-6) -> Schedule:
    """Make a factor that goes from ``start`` to 1 and down to ``end``, each along half a cosine, and stays there.

    It rises over the share ``rise`` of the updates (Smith & Topin 2019; the optimiser's rate is the largest).

    >>> rate = one_cycle(100)
    >>> rate(0), rate(29), round(rate(99), 12)
    (0.04, 1.0, 4e-06)
    """
    updates, rise = as_size(updates, "one_cycle: updates", 2), as_number(rise, "one_cycle: rise", "a number in (0, 1)")
    return Made(_one_cycle, updates, rise, as_number(start, "one_cycle: start"), as_number(end, "one_cycle: end"))


def _one_cycle(updates: int, rise: float, start: float, end: float, update: int) -> float:
    top = rise * updates - 1
    if update <= top:
        return _between(start, 1.0, update / top if top else 1.0)
    return _between(1.0, end, min((update - top) / (updates - 1 - top), 1.0))


def _between(begin: float, end: float, share: float) -> float:
    first = (1.0 + math.cos(math.pi * share)) / 2.0
    return begin * first + end * (1.0 - first)


def plateau(
    name: str, patience: int, factor: float = 0.1, min_delta: float = 0.0, mode: str = "min", cooldown: int = 0
) -> Schedule:
    """Make a factor that is multiplied by ``factor`` after ``patience`` evaluations without a new best one.

    The evaluations are those of `early_stopping`, and so are the arguments. After each change come ``cooldown``
    evaluations that do not count against it. (torch's ReduceLROnPlateau counts one more before it acts.)
    """
    patience, cooldown = as_size(patience, "plateau: patience"), as_size(cooldown, "plateau: cooldown", 0)
    factor = as_number(factor, "plateau: factor", "a number in (0, 1)", "try 0.1")
    min_delta = as_number(min_delta, "plateau: min_delta")
    return Made(_plateau, name, patience, factor, min_delta, one_of(mode, ("min", "max"), "plateau: mode"), cooldown)


def _plateau(
    name: str, patience: int, factor: float, min_delta: float, mode: str, cooldown: int, made: Sequence[Evaluation]
) -> float:
    best, since, rest, changes, sign = math.inf, 0, 0, 0, 1.0 if mode == "min" else -1.0
    for _, value in made:
        best, since = (sign * value, 0) if sign * value < best - min_delta else (best, since + 1)
        if rest:
            since, rest = 0, rest - 1
        if since >= patience:
            since, rest, changes = 0, cooldown, changes + 1
    return factor**changes


def _looks(schedule: Any) -> str | None:
    """Return the name of the evaluations that a schedule looks at, None if it counts updates."""
    return schedule.args[0] if isinstance(schedule, Made) and schedule.func is _plateau else None


def warm_up(updates: int, then: Schedule | None = None) -> Schedule:
    """Make a factor that rises to 1 over the first updates, and then is what ``then`` says, counted from there.

    >>> rate = warm_up(4, linear(10))
    >>> rate(0), rate(3), rate(4), rate(9)
    (0.25, 1.0, 1.0, 0.5)
    """
    if then is not None and not callable(then):
        raise TypeError(f"warm_up: then must be a callable (update) -> factor, got {describe(then)}: try linear(1000)")
    if _looks(then):
        raise ValueError("warm_up: then must count updates, got plateau(…), which looks at evaluations: leave it out")
    return Made(_warm_up, as_size(updates, "warm_up: updates"), then)


def _warm_up(updates: int, then: Schedule | None, update: int) -> float:
    return (update + 1) / updates if update < updates else then(update - updates) if then else 1.0


def early_stopping(name: str, patience: int, min_delta: float = 0.0, mode: str = "min") -> Callable[[History], bool]:
    """Make a ``stop`` for `fit`: end after ``patience`` evaluations, one after the other, without a new best one.

    ``name`` is that of the evaluations: "held-out loss" or "held-out" of ``fit(held_out=…)``, or what a callback notes
    with `History.record`; `fit` refuses a name that can never come. A figure is better that is below the best one, or
    above it with ``mode="max"``, by more than ``min_delta``; NaN never is.

    >>> stop, history = early_stopping("held-out loss", patience=2), History()
    >>> for k, loss in enumerate((3.0, 2.0, 2.5, 2.1)):
    ...     history.append(loss=loss, grad_norm=1.0, seconds=k)
    ...     history.record("held-out loss", loss)
    >>> stop(history)
    True
    """
    patience = as_size(patience, "early_stopping: patience")
    min_delta = as_number(min_delta, "early_stopping: min_delta")
    return Made(_early_stopping, name, patience, min_delta, one_of(mode, ("min", "max"), "early_stopping: mode"))


def _early_stopping(name: str, patience: int, min_delta: float, mode: str, history: History) -> bool:
    best, since, sign = math.inf, 0, 1.0 if mode == "min" else -1.0
    for _, value in history.evaluations.get(name, ()):
        best, since = (sign * value, 0) if sign * value < best - min_delta else (best, since + 1)
    return since >= patience


def until_solved(task: Any, name: str = HELD_OUT) -> Callable[[History], bool]:
    """Make a ``stop`` for `fit`: end when ``task.solved`` says so of the last evaluation of a name.

    By default these are the evaluations of ``fit(model, task, held_out=True)``. Without any, training goes on; `fit`
    refuses a name that can never come.

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


class Awaited:
    """The evaluations that ``stop`` and ``checkpoint`` of `fit` wait for by name: one that can never come is refused.

    ``given`` are the names that held-out data will have; callbacks, and a ``stop`` of one's own, may record any other.
    """

    def __init__(self, stop: Any, schedule: Any, metric: str, given: Sequence[str], callbacks: Sequence[Any]) -> None:
        if stop is not None and not callable(stop):
            raise TypeError(
                f"fit: stop must be a callable (history) -> bool, got {describe(stop)}: try until_solved(task)"
            )
        known = isinstance(stop, Made) and stop.func in (_early_stopping, _until_solved)
        self.given, self.any_other = given, bool(callbacks) or not (stop is None or known)
        # By name what asks for it, and after how many updates at the least that could have come to something.
        self.names = {} if metric == "loss" else {metric: ("fit: checkpoint: metric", 1)}
        if (name := _looks(schedule)) is not None:
            self.names[name] = "plateau: name", 1
        if known:
            name, patience = stop.args[:2] if stop.func is _early_stopping else (stop.args[1], 1)
            self.names[name] = f"{stop.func.__name__.strip('_')}: name", patience

    def check(self, history: History, *, at_the_end: bool = False) -> None:
        """Refuse a name that nothing can record, or that is there but for its signs; at the end, warn of any other."""
        for name, (argument, patience) in self.names.items():
            if name in history.evaluations or name in self.given:
                continue
            there = list(dict.fromkeys([*self.given, *history.evaluations]))
            listed = ", ".join(map(repr, there)) or "none: pass held_out=, or record one in a callback"
            fault = f"{argument} must be that of an evaluation, got {name!r}, and those there are: {listed}"
            if not self.any_other or _letters(name) in map(_letters, there):
                raise ValueError(fault)
            if at_the_end and history.updates > patience:
                warnings.warn(f"{fault}: it was waited for in vain", stacklevel=3)


def _letters(name: str) -> str:
    return "".join(filter(str.isalnum, str(name))).casefold()


class Rate:
    """The learning rates of an optimiser and its groups, under a schedule or as they are."""

    def __init__(self, optimizer: Optimizer, schedule: Schedule | None) -> None:
        if schedule is not None and not callable(schedule):
            raise TypeError(
                f"fit: schedule must be a callable (update) -> factor, got {schedule!r}: try schedules.linear(1000)"
            )
        self.optimizer, self.schedule, self.usual = optimizer, schedule, optimizer.lr
        self.groups = [(group, group["lr"]) for group in optimizer.groups if "lr" in group.own]
        self._looked: tuple[Any, float] = (None, 1.0)  # at what, and what came of it

    def set(self, history: History) -> None:
        """Set the rate of the next update."""
        if self.schedule is None:
            return
        update, name = history.updates, _looks(self.schedule)
        if name is None:
            factor = self.schedule(update)
        else:  # the evaluations are gone through when there is a new one, not at each update
            made = history.evaluations.get(name, [])
            if self._looked[0] != (key := (len(made), made[-1:])):
                self._looked = key, self.schedule(made)  # type: ignore[arg-type]
            factor = self._looked[1]
        factor = as_number(factor, f"fit: schedule({update})", "a number ≥ 0", "it multiplies the learning rate")
        self._multiply(factor)

    def restore(self) -> None:
        """Set what they were before."""
        if self.schedule is not None:
            self._multiply(1.0)

    def _multiply(self, factor: float) -> None:
        self.optimizer.lr = self.usual * factor
        for group, usual in self.groups:
            group["lr"] = usual * factor
