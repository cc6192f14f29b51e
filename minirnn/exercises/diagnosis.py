"""Which mistake gives these numbers? The solution is run again with each mistake that it was asked for."""

import math
from collections.abc import Sequence
from itertools import combinations
from typing import NamedTuple

import numpy as np

from minirnn.exercises import solutions
from minirnn.exercises.inputs import Arguments
from minirnn.exercises.steps import Made
from minirnn.textbook.reading import Array

TOLERANCE = 2e-5
"""Of a result's largest entry: float32 on these sizes errs by 1e-6, and the nearest known mistake by more than 1e-4."""
PAIRS = 300
"""As many are tried as take about a second, the commonest first."""

Numbers = list[Array]  # one array a result
Results = frozenset[int]  # places in what the function returns


class Group(NamedTuple):
    """What explains some results: alternatives that share their numbers, each a mistake, or several made at once."""

    alternatives: list[tuple[str, ...]]
    results: Results


def scale(want: Array) -> float:
    """The largest entry of a result; 1 if there is none but 0."""
    size = float(np.abs(want).max(initial=0.0))
    return (size if math.isfinite(size) else float(np.abs(want[np.isfinite(want)]).max(initial=0.0))) or 1.0


def close(got: Array, want: Array, one_for_all: bool = False) -> bool:
    """Are these the same numbers? ``one_for_all`` lets a single number stand for an array."""
    if got.shape != want.shape and not (one_for_all and got.size == 1):
        return False
    with np.errstate(all="ignore"):  # NaN is NaN's equal, and infinity nobody's
        near, none = np.abs(got - want) <= TOLERANCE * scale(want), got != got
        return bool(near.all() or (none.any() and (near | (none & (want != want))).all()))


def numbers(name: str, arguments: Arguments, m: Made) -> Numbers:
    """Run an exercise's solution, with mistakes or without."""
    with np.errstate(all="ignore"):
        found = getattr(solutions, name)(m, *arguments)
    return [np.asarray(r, float) for r in (found if isinstance(found, tuple | list) else [found])]


class Diagnosis:
    """The numbers of a learner's calls, held against those of the known mistakes."""

    def __init__(self, name: str, calls: Sequence[Arguments], got: Sequence[Numbers], right: Sequence[Numbers]) -> None:
        self.name, self.calls, self.got, self.right, made = name, calls, got, right, Made()
        for arguments in calls:
            numbers(name, arguments, made)
        self.wrong = self._unlike(got, right)
        self.effects = {mistake: self.effect(mistake) for mistake in made.asked}

    def _unlike(self, some: Sequence[Numbers], others: Sequence[Numbers], one_for_all: bool = False) -> Results:
        both = [*zip(some, others, strict=False)]
        return frozenset(
            k for k in range(len(self.right[0])) if not all(close(s[k], o[k], one_for_all) for s, o in both)
        )

    def effect(self, *mistakes: str) -> tuple[Results, Results]:
        """Find which results these mistakes change, and which wrong ones they explain; often the first call says no."""
        changed = explained = Results()
        for calls in (self.calls[:1], self.calls):
            try:
                run = [numbers(self.name, arguments, Made(*mistakes)) for arguments in calls]
            except (ValueError, IndexError, np.linalg.LinAlgError):
                return Results(), Results()  # who makes this mistake gets no numbers
            changed, explained = self._unlike(run, self.right), self.wrong - self._unlike(self.got, run, True)
            if not changed <= explained:
                break
        return changed, explained

    def groups(self) -> list[Group]:
        """Return what explains all wrong results, each group its own; [] if nothing known does."""
        alone: dict[Results, list[str]] = {}
        for mistake, (changed, explained) in self.effects.items():
            if changed and changed <= explained:
                alone.setdefault(changed, []).append(mistake)
        left, found = self.wrong, list[Group]()
        for changed in sorted(alone, key=len, reverse=True):
            if changed <= left:
                found.append(Group([(mistake,) for mistake in _named(alone[changed])], changed))
                left -= changed
        return found if not left else self._several()

    def _several(self) -> list[Group]:
        """Try two at once, then a third beside the two that explain the most."""
        plain = [mistake for mistake in self.effects if "#" not in mistake and " (" not in mistake]
        pairs = [p for p in combinations(plain, 2) if self.effects[p[0]][0] | self.effects[p[1]][0] >= self.wrong]
        pairs = sorted(pairs, key=lambda pair: -sum(mistake in _COMMON for mistake in pair))[:PAIRS]
        tried = {pair: self.effect(*pair)[1] for pair in pairs}
        found: list[tuple[str, ...]] = [pair for pair, explained in tried.items() if explained == self.wrong]
        most = max(map(len, tried.values()), default=0)
        for pair in [p for p, explained in tried.items() if not found and 0 < len(explained) == most][:3]:
            left = self.wrong - tried[pair]
            thirds = [m for m in plain if m not in pair and self.effects[m][0] <= left]
            found += [(*pair, m) for m in thirds if self.effect(*pair, m)[1] == self.wrong]
        return [Group(found, self.wrong)] if found else []

    def partly(self) -> dict[int, list[str]]:
        """For each wrong result the mistakes that explain it alone; none where there are more than two."""
        known = {k: _named([m for m, (changed, e) in self.effects.items() if k in changed & e]) for k in self.wrong}
        return {k: names for k, names in sorted(known.items()) if 1 <= len(names) <= 2}


def _named(mistakes: Sequence[str]) -> list[str]:
    """Names without what tells variants of one mistake apart, each once."""
    return list(dict.fromkeys(mistake.split("#")[0] for mistake in mistakes))


_COMMON = (
    *("carried gradient forgotten", "φ′ left out", "φ′ of an output that is activated again", "W_hh for W_hhᵀ"),
    *("φ′ written for the output, taken of Z", "H_t for H_{t-1} in dW_hh", "bias averaged over the rows"),
    *("assigned where gradients add up", "the final state's gradient is dropped", "b left out"),
    *("mean for sum over rows (dW and db)", "dx without what comes from later steps"),
    *("what is carried is only added up", "the loop leaves the last step out", "the initial state is not used"),
)
