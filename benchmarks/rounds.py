"""How many turns there are, and what they gave: `alternate` plans and measures, `Measured` keeps times and ratios."""

import itertools
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from benchmarks.roster import MINIRNN
from minirnn.bench import measure

ENOUGH = (
    0.02  # seconds: a turn makes so many calls that it takes about that long, as calls in training follow each other
)
FEWEST, MOST = 4, 40  # turns in a run
REST = 0.1  # seconds: with several threads; see `rest`

Run = Callable[[int], Any]  # one call with input 0 or 1


def rest(threads: int) -> float:
    """Return the seconds of rest that a turn needs before it.

    OpenBLAS's threads wait for more work by spinning, for tens of milliseconds. On a machine with as many CPUs as
    threads the contestant after them would get half of one: torch took twice its time, and 30 ms were not enough.
    """
    return REST if threads > 1 else 0.0


class Plan(NamedTuple):
    """How long to measure.

    Attributes
    ----------
    seconds : what an alternation may take, about
    runs : the median of so many runs is reported
    turns : in a run; by the seconds if None
    fewest : turns that there are at least
    rest : seconds of rest before each turn, untimed
    """

    seconds: float
    runs: int = 3
    turns: int | None = None
    fewest: int = FEWEST
    rest: float = 0.0

    def turns_for(self, a_turn: float) -> int:
        """Return the number of turns in a run when one of all contestants takes ``a_turn`` seconds."""
        if self.turns is not None:
            return self.turns
        return min(max(int(self.seconds / (self.runs * a_turn)), self.fewest), MOST)


def seconds_a_call(run: Run) -> float:
    """Return a first estimate of what has run before: of one call, or of the quicker of two if they are short."""
    found = []
    for i in (0, 1):
        start = time.perf_counter()
        run(i)
        found.append(time.perf_counter() - start)
        if found[0] > 10 * ENOUGH:
            break
    return min(found)


def alternate(
    contestants: Mapping[str, Run], plan: Plan, prepare: Callable[[str], Any] = lambda name: None
) -> dict[str, measure.Times]:
    """Return seconds a call, by run and turn; a turn that makes several calls counts with their mean.

    ``prepare`` is called with a contestant's name before each of its turns, untimed.
    """
    estimates = {}
    for name, run in contestants.items():
        prepare(name)
        estimates[name] = seconds_a_call(run)
    calls = {name: _calls(seconds) for name, seconds in estimates.items()}
    turns = plan.turns_for(sum(estimates[name] * calls[name] + plan.rest for name in contestants))
    timed = {name: _repeated(run, calls[name]) for name, run in contestants.items()}

    def before(name: str) -> None:
        prepare(name)
        if plan.rest:
            time.sleep(plan.rest)
            contestants[name](0)  # untimed: its threads, and a CPU, that have rested must wake up first

    times = measure.take_turns(timed, turns=turns, runs=plan.runs, warm_up=1, before=before)
    return {name: [[seconds / calls[name] for seconds in run] for run in own] for name, own in times.items()}


def _calls(seconds: float) -> int:
    """Return how many calls make up a turn: one if that takes long enough, else an even number, for both inputs."""
    return 1 if seconds >= ENOUGH else 2 * math.ceil(ENOUGH / (2 * seconds))


def _repeated(run: Run, calls: int) -> Callable[[], None]:
    inputs = itertools.cycle((0, 1))

    def repeated() -> None:
        for i in itertools.islice(inputs, calls):
            run(i)

    return repeated


@dataclass
class Measured:
    """What was measured of one shape: alternations of several contestants, minirnn among them in each.

    Attributes
    ----------
    alternations : list of name -> times
    left_out : name -> why
    """

    alternations: list[dict[str, measure.Times]]
    left_out: dict[str, str] = field(default_factory=dict)

    def names(self) -> list[str]:
        """Return the names of all that were timed, each once."""
        return list(dict.fromkeys(name for times in self.alternations for name in times))

    def spread(self, name: str) -> measure.Spread:
        """Return the quartiles of a contestant's seconds a call."""
        return measure.spread(self._with(name)[name])

    def ratio(self, name: str, base: str = MINIRNN) -> measure.Spread | None:
        """Return the quartiles of a contestant's times ÷ another's, divided turn by turn; None if it did not run."""
        if name not in self.names():
            return None
        times = self._with(name)
        return measure.ratio(times[name], times[base])

    def _with(self, name: str) -> dict[str, measure.Times]:
        return next(times for times in self.alternations if name in times)
