"""What came of a sweep: `Results`, as a table, a CSV file, and a chart in text."""

import csv
import io
import statistics
import textwrap
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from minirnn.arguments import as_unicode
from minirnn.drawing.charts import bars
from minirnn.storage import write_whole
from minirnn.training.sweeps.settings import Value, shown
from minirnn.training.sweeps.trial import FINISHED, Result

ROWS = 40
"""Settings that a table shows at most: the best of them."""
_REASONS = 10  # kinds of failure that are listed
_WIDTH = 100  # columns of what is listed


class Row(NamedTuple):
    """The results of one setting, over its seeds."""

    values: tuple[Value, ...]  # of what differs between settings
    results: list[Result]

    def figures(self, name: str) -> list[float]:
        """Return a figure of those that finished, seed by seed."""
        return [r.figures[name] for r in self.results if r.status == FINISHED and name in r.figures]


class Results(list[Result]):
    """The results of a sweep, those of one setting beside each other, seed by seed.

    Attributes
    ----------
    out : Path of the sweep's directory
    varied : names of the settings that differ between trials
    interrupted : whether Ctrl-C ended the sweep before all were there
    """

    def __init__(self, results: Iterable[Result], out: Path, varied: Sequence[str]) -> None:
        super().__init__(results)
        self.out, self.varied, self.interrupted = out, tuple(varied), False

    @property
    def figures(self) -> tuple[str, ...]:
        """The names of the figures; trials are judged by the first."""
        return tuple(dict.fromkeys(name for r in self for name in r.figures))

    @property
    def best(self) -> Result | None:
        """The finished trial with the lowest first figure; None if none finished."""
        done = [r for r in self if r.status == FINISHED]
        return min(done, key=lambda r: next(iter(r.figures.values()))) if done else None

    def rows(self) -> list[Row]:
        """Gather the trials of each setting, in the order of the grid."""
        rows: dict[tuple[Value, ...], Row] = {}
        for r in self:
            values = tuple(r.settings[name] for name in self.varied)
            rows.setdefault(values, Row(values, [])).results.append(r)
        return [*rows.values()]

    # --- in words ----------------------------------------------------------------------------------------------------

    def table(self, rows: int = ROWS) -> str:
        """Write a line for each setting, and below it what did not finish, and why.

        Of the first figure there are the best, the median and the spread (lowest … highest) over the seeds that
        finished, of the others the median; of what is true or false how often it is true. ``*`` marks the lowest
        median. Of more than ``rows`` settings the best are shown.
        """
        lines = self.rows()
        ranks = sorted(lines, key=lambda row: _median(row, self.figures[:1]))
        kept = {row.values for row in ranks[:rows]}
        cells = [self._cells(row, row is ranks[0]) for row in lines if row.values in kept]
        text = _aligned([self._header(), *cells], len(self.varied) + 1) if cells else "no trial has ended yet"
        if len(lines) > rows:
            text += f"\n… and {len(lines) - rows:,} settings more, which are worse: results.csv has them all"
        judged = f"{self.figures[0]}, over the seeds:" if self.figures else ""
        return "\n\n".join(filter(None, [judged, text, self._unfinished()]))

    def _header(self) -> list[str]:
        return ["", *self.varied, "trials", "best", "median", "spread", *self.figures[1:]]

    def _cells(self, row: Row, best: bool) -> list[str]:
        first, *others = self.figures or ("figure",)
        done = row.figures(first)
        ended = sum(r.status == FINISHED for r in row.results)
        count = f"{ended}" if ended == len(row.results) else f"{ended} of {len(row.results)}"
        spread = f"{min(done):.4g} … {max(done):.4g}" if len(done) > 1 else "–"
        judged = [f"{min(done):.4g}", f"{statistics.median(done):.4g}", spread] if done else ["–"] * 3
        rest = [_summed(row.figures(name)) for name in others]
        return ["*" if best and done else "", *map(shown, row.values), count, *judged, *rest]

    def _unfinished(self) -> str:
        """List the trials that did not finish, those of one reason together."""
        reasons: dict[tuple[str, str], list[Result]] = {}
        for r in self:
            if r.status != FINISHED:
                reasons.setdefault((r.status, r.reason), []).append(r)
        said = []
        for (status, reason), results in [*reasons.items()][:_REASONS]:
            which = self.label(results[0]) + (f" and {len(results) - 1} more" if len(results) > 1 else "")
            said.append(textwrap.fill(f"{status}: {which}: {reason}", _WIDTH, subsequent_indent="    "))
        more = [f"… and {len(reasons) - _REASONS} other reasons: see results.csv"] * (len(reasons) > _REASONS)
        return "\n".join(said + more)

    def label(self, result: Result) -> str:
        """Name a trial by what it does not share with the others."""
        parts = [f"{name} {shown(result.settings[name])}" for name in self.varied]
        return ", ".join([*parts, f"seed {result.seed}"])

    def chart(self) -> str:
        """Draw the median of the first figure over all trials of each value of each setting, as bars of text."""
        drawn = []
        for name in self.varied:
            values = list(dict.fromkeys(r.settings[name] for r in self))
            if all(isinstance(value, int | float) for value in values):
                values.sort()
            medians = [_median(Row((), [r for r in self if r.settings[name] == v]), self.figures[:1]) for v in values]
            if len(values) <= ROWS:
                title = f"median {self.figures[0] if self.figures else 'figure'} by {name}"
                drawn.append(bars([shown(value) for value in values], medians, title))
        return "\n\n".join(drawn)

    # --- to other programs -------------------------------------------------------------------------------------------

    def to_csv(self, path: Any) -> None:
        """Write a line for each trial: its directory, status, seed, settings, figures, seconds, reason."""
        settings = list(dict.fromkeys(name for r in self for name in r.settings))
        text = io.StringIO()
        table = csv.writer(text, lineterminator="\n")
        table.writerow(["trial", "status", "seed", *settings, *self.figures, "seconds", "reason"])
        for r in self:
            values = [r.settings.get(name) for name in settings]
            figures = [r.figures.get(name, "") for name in self.figures]
            table.writerow([r.name, r.status, r.seed, *values, *figures, f"{r.seconds:.3f}", r.reason])
        write_whole(path, as_unicode(text.getvalue()).encode(), "sweep")


def _median(row: Row, names: Sequence[str]) -> float:
    """Return the median of the first figure; inf where no trial finished."""
    values = [value for name in names for value in row.figures(name)]
    return statistics.median(values) if values else float("inf")


def _summed(values: Sequence[Any]) -> str:
    if not values:
        return "–"
    if all(isinstance(value, bool) for value in values):
        return f"{sum(values)} of {len(values)}"
    median = statistics.median(values)
    return f"{median:.4g}" if abs(median) < 1e4 else f"{median:,.0f}"


def _aligned(rows: Sequence[Sequence[str]], left: int) -> str:
    """Put cells below each other: the first ``left`` to the left, figures to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    pads = [str.ljust if i < left else str.rjust for i in range(len(widths))]
    lines = ["  ".join(pad(c, w) for pad, c, w in zip(pads, row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join([lines[0], "─" * max(map(len, lines)), *lines[1:]])
