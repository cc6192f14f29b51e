"""What a paper's experiments are made of: jobs, their results, and lines of a table beside the published figures."""

import statistics
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

Figures = dict[str, float]

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#000000")
"""Okabe and Ito's colours, which stay apart for colour-blind eyes."""


class Published(NamedTuple):
    """A figure that was published elsewhere.

    Attributes
    ----------
    text : as it is shown
    verified : whether it was checked against its source, or a text that quotes it
    """

    text: str
    verified: bool = True

    def __str__(self) -> str:
        return self.text if self.verified else f"{self.text} (unverified)"


class Job(NamedTuple):
    """One training, with one seed, in a process of its own.

    Attributes
    ----------
    setting : what is varied, such as "IRNN, T = 60"
    seed : of everything that is drawn
    run : callable (seed=…, **arguments) -> dict of figures by name; of a module, so that another process finds it
    arguments : dict
    """

    setting: str
    seed: int
    run: Callable[..., Figures]
    arguments: dict[str, Any]


class Result(NamedTuple):
    """What a job found, and how many seconds it took."""

    setting: str
    seed: int
    figures: Figures
    seconds: float


class Results(list[Result]):
    """Results of all jobs so far."""

    def of(self, setting: str, figure: str) -> list[float]:
        """Return a figure of a setting, seed by seed."""
        found = [r for r in self if r.setting == setting and figure in r.figures]
        return [r.figures[figure] for r in sorted(found, key=lambda r: r.seed)]

    def seconds(self, setting: str) -> float:
        """Return how long the runs of a setting took together."""
        return sum(r.seconds for r in self if r.setting == setting)


class Line(NamedTuple):
    """A line of the table.

    Attributes
    ----------
    what : the set-up, and the figure with its unit
    ours : the figure, over the seeds
    published : the figure it is held against; None where there is none
    rule : what passes; empty where nothing is judged
    passed : whether it does; None where nothing is judged
    seconds : of processor time, all seeds together
    """

    what: str
    ours: str
    published: Published | None = None
    rule: str = ""
    passed: bool | None = None
    seconds: float = 0.0


class Paper(NamedTuple):
    """A paper's experiments.

    Attributes
    ----------
    name : as the command line calls it
    what : what is run, in a line for the command line's help
    title : authors, year, title
    about : what is run, and how it differs from the paper; a paragraph each
    seeds : how many, unless told otherwise
    jobs : callable (full, seeds) -> jobs, those that take longest first
    lines : callable (results) -> lines of the table
    draw : callable (axes, results); draws into the Axes of matplotlib that ``panels`` counts
    panels : int
    width : of a panel, in inches
    """

    name: str
    what: str
    title: str
    about: Sequence[str]
    seeds: int
    jobs: Callable[[bool, Sequence[int]], list[Job]]
    lines: Callable[[Results], list[Line]]
    draw: Callable[[Sequence[Any], Results], None]
    panels: int
    width: float = 6.4


def median(values: Sequence[float]) -> float:
    """Return the median; of an even number the upper one of the two in the middle, so that inf stays what it is."""
    return statistics.median_high(values)


def spread(values: Sequence[float], text: Callable[[float], str]) -> str:
    """Return the median, and the range where there is more than one value.

    >>> spread([3.0, 1.0, 2.0], lambda value: f"{value:.0f}")
    '2 (1 … 3)'
    """
    low, high = text(min(values)), text(max(values))
    return text(median(values)) + ("" if low == high else f" ({low} … {high})")


def counted(values: Sequence[float]) -> str:
    """Return the median number and the range of values, where inf stands for one that was not reached.

    >>> counted([26_000, 30_000, float("inf")])
    '30,000 (26,000 … not reached)'
    """
    return spread(values, lambda value: "not reached" if value == float("inf") else f"{value:,.0f}")


def percent(values: Sequence[float]) -> str:
    """Return the median share and the range, in per cent.

    >>> percent([0.5, 0.25, 0.75])
    '50.0 % (25.0 % … 75.0 %)'
    """
    return spread(values, lambda value: f"{100 * value:.1f} %")
