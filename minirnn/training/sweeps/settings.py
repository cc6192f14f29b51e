"""What a sweep varies: a grid of settings, settings that are drawn, and the identity of each trial."""

import hashlib
import itertools
import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from minirnn.arguments import Generator, as_size, describe, is_real

Value: TypeAlias = str | int | float | bool | None
Settings: TypeAlias = dict[str, Value]

MOST = 100_000
"""Trials in a sweep; more are a slip."""
_HINT = "fewer values, fewer seeds, drawn settings (Between, OneOf) or optuna=N"


class Between(NamedTuple):
    """A number that is drawn: uniform in its logarithm where ``low`` > 0, else uniform; whole if both ends are.

    >>> Between(1e-4, 1e-2).draw(np.random.default_rng(0)) < 1e-2, Between(16, 128).draw(np.random.default_rng(0))
    (True, 60)
    """

    low: float
    high: float

    @property
    def whole(self) -> bool:
        """Whether it is an int, from ``low`` to ``high`` inclusive."""
        return isinstance(self.low, int) and isinstance(self.high, int)

    def draw(self, rng: Generator) -> Value:
        """Draw one."""
        if self.low <= 0:
            return (
                int(rng.integers(int(self.low), int(self.high) + 1))
                if self.whole
                else float(rng.uniform(self.low, self.high))
            )
        drawn = math.exp(rng.uniform(math.log(self.low), math.log(self.high)))
        return min(max(round(drawn), int(self.low)), int(self.high)) if self.whole else float(drawn)


class OneOf(NamedTuple):
    """One of these values, each as likely as the others, that is drawn.

    >>> OneOf(["irnn", "orthogonal"]).draw(np.random.default_rng(0))
    'orthogonal'
    """

    values: Sequence[Value]

    def draw(self, rng: Generator) -> Value:
        """Draw one."""
        return self.values[int(rng.integers(len(self.values)))]


class Grid:
    """Every combination of the values of a grid, and in each of them ``draws`` times what is drawn.

    Parameters
    ----------
    grid : dict
        By the name of a setting a list of values, `Between` or `OneOf`, or one value that is the same in all trials. A
        value is a str, a number, a bool or None, so that it can be written down.
    draws : int
    """

    def __init__(self, grid: Any, draws: Any = 1) -> None:
        if not isinstance(grid, Mapping) or not all(isinstance(name, str) and name for name in grid):
            raise TypeError(f"sweep: grid must be a dict such as {{'lr': [1e-3, 5e-3]}}, got {describe(grid)}")
        self.fixed: Settings = {}
        self.axes: dict[str, list[Value]] = {}
        self.drawn: dict[str, Between | OneOf] = {}
        for name, given in grid.items():
            if isinstance(given, Between):
                self.drawn[name] = _between(given, name)
            elif isinstance(given, OneOf):
                self.drawn[name] = OneOf(_values(given.values, name))
            elif isinstance(given, Iterable) and not isinstance(given, str):
                self.axes[name] = _values(given, name)
            else:
                self.fixed[name] = _value(given, name)
        self.draws = as_size(draws, "sweep: draws")
        if self.draws > 1 and not self.drawn:
            raise ValueError(
                f"sweep: draws must be 1 where nothing is drawn, got {self.draws}: give grid a Between or a OneOf"
            )

    @property
    def varied(self) -> tuple[str, ...]:
        """The names of what differs between trials: of the grid first, then what is drawn."""
        return (*(name for name, values in self.axes.items() if len(values) > 1), *self.drawn)

    @property
    def size(self) -> int:
        """How many settings there are."""
        return math.prod(map(len, self.axes.values())) * self.draws

    def __iter__(self) -> Iterator[Settings]:
        """Yield them, the last name of the grid running fastest.

        What is drawn in the k-th comes from ``SeedSequence([k, 1])``, so that it is the same whenever it is asked for.
        """
        combinations = itertools.product(*self.axes.values(), range(self.draws))
        for k, (*values, _) in enumerate(combinations):
            rng = np.random.default_rng(np.random.SeedSequence([k, 1]))
            drawn = {name: how.draw(rng) for name, how in self.drawn.items()}
            yield self.fixed | dict(zip(self.axes, values, strict=True)) | drawn

    def describe(self) -> dict[str, Any]:
        """Describe it in JSON values."""
        drawn = {name: {type(how).__name__: list(how)} for name, how in self.drawn.items()}
        return {"fixed": self.fixed, "grid": self.axes, "drawn": drawn, "draws": self.draws}

    def check_count(self, settings: int, seeds: int) -> None:
        """Refuse, before anything is made, more trials than anyone can want."""
        if (trials := settings * seeds) > MOST:
            raise ValueError(
                f"sweep: grid has {settings:,} combinations, times {seeds} seeds {trials:,} trials, of at most "
                f"{MOST:,}: try {_HINT}"
            )


def _between(given: Between, name: str) -> Between:
    low, high = given
    if not (is_real(low) and is_real(high) and math.isfinite(low) and math.isfinite(high) and low < high):
        raise ValueError(
            f"sweep: grid[{name!r}] must be between two finite numbers, the lower first, got {low!r} and {high!r}"
        )
    return Between(*(int(end) if isinstance(end, int | np.integer) else float(end) for end in given))


def _values(given: Iterable[Any], name: str) -> list[Value]:
    values: list[Value] = []
    seen: set[Value] = set()
    for value in (_value(value, name) for value in given):
        if value in seen:  # 1 and True, 1 and 1.0 are equal, too
            raise ValueError(f"sweep: grid[{name!r}] must have each value once, got {value!r} twice")
        if len(values) == MOST:
            raise ValueError(f"sweep: grid[{name!r}] must have at most {MOST:,} values, got more: try {_HINT}")
        values.append(value)
        seen.add(value)
    if not values:
        raise ValueError(f"sweep: grid[{name!r}] must have a value at least, got none: leave it out, or name one")
    return values


def _value(value: Any, name: str) -> Value:
    value = value.item() if isinstance(value, np.generic) else value
    if not isinstance(value, str | int | float | bool | None):
        raise TypeError(
            f"sweep: grid[{name!r}] must hold str, numbers, bool or None, which can be written down, got "
            f"{describe(value)}: give it a name, and look that up in run"
        )
    if isinstance(value, float) and math.isnan(value):
        raise ValueError(f"sweep: grid[{name!r}] must hold no NaN, which equals nothing")
    return value


def as_seeds(seeds: Any) -> list[int]:
    """Check the seeds: a number K for 0 … K − 1, or a list of them."""
    if isinstance(seeds, Iterable) and not isinstance(seeds, str):
        made = [as_size(seed, "sweep: seeds: each", 0) for seed in seeds]
        if not made or len(set(made)) < len(made):
            raise ValueError(f"sweep: seeds must be different ints ≥ 0, got {describe(seeds)}: try range(5)")
        return made
    return [*range(as_size(seeds, "sweep: seeds"))]


# --- who a trial is ---------------------------------------------------------------------------------------------------


def number_of(settings: Mapping[str, Value]) -> int:
    """Return the number of the settings: the first 64 bits of the SHA-256 of their JSON, sorted by name.

    It belongs to the settings alone: a sweep of other values beside them, or in another order, changes nothing.
    """
    return int(_digest(settings)[:16], 16)


def name_of(settings: Mapping[str, Value], seed: int) -> str:
    """Return the name of a trial's directory: 16 hexadecimal digits of the SHA-256 of settings and seed."""
    return _digest({"settings": settings, "seed": seed})[:16]


def _digest(value: Mapping[str, Any]) -> str:
    text = json.dumps(dict(value), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def shown(value: Value) -> str:
    """Write a value for a table.

    >>> shown(0.001), shown(None), shown("irnn"), shown(0.00031622776)
    ('0.001', 'none', 'irnn', '0.0003162')
    """
    return f"{value:.4g}" if isinstance(value, float) else "none" if value is None else str(value)
