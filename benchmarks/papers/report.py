"""What is printed of a paper's experiments: ours beside the published figures, line by line."""

import textwrap
from collections.abc import Sequence

from benchmarks.papers.base import Line, Paper, Result

WIDTH = 100
VERDICTS = {True: "pass", False: "FAIL", None: ""}
_COLUMNS = 13  # of the names in a listing
_SHOWN = 3  # figures of a result
_HEADER = ("", "ours", "published", "passes", "", "time")


def heading(paper: Paper) -> str:
    """Return the paper's title, and what is run."""
    return "\n\n".join([paper.title, *(textwrap.fill(text, WIDTH) for text in paper.about)])


def of_one(result: Result) -> str:
    """Return a line on one result, as it comes in; of many figures it has the first.

    >>> of_one(Result("LSTM", 3, {"sequences": 30656.0, "wrong": 0.25}, 12.0))
    'LSTM, seed 3: sequences 30656, wrong 0.25 (12 s)'
    """
    figures = [f"{name} {value:.6g}" for name, value in result.figures.items()]
    more = ["…"] if len(figures) > _SHOWN else []
    return f"{result.setting}, seed {result.seed}: {', '.join(figures[:_SHOWN] + more)} ({duration(result.seconds)})"


def listing(lines: Sequence[Line]) -> str:
    """Return the lines for a terminal, one below the other."""
    return "\n\n".join(map(_item, lines))


def _item(line: Line) -> str:
    parts = {"ours": line.ours, "published": "" if line.published is None else str(line.published)}
    parts[VERDICTS[line.passed]] = line.rule
    below = [f"    {name:{_COLUMNS}}{text}" for name, text in parts.items() if text]
    return "\n".join([line.what, *below])


def table(lines: Sequence[Line]) -> str:
    """Return the table as Markdown."""
    rows = [_HEADER, *(_cells(line) for line in lines)]
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    rule = "|".join(["", *("-" * (width + 2) for width in widths), ""])
    text = ["| " + " | ".join(f"{c:{w}}" for c, w in zip(row, widths, strict=True)) + " |" for row in rows]
    return "\n".join([text[0], rule, *text[1:]])


def _cells(line: Line) -> tuple[str, ...]:
    published = "" if line.published is None else str(line.published)
    return (line.what, line.ours, published, line.rule, VERDICTS[line.passed], duration(line.seconds))


def duration(seconds: float) -> str:
    """Return a time in the unit that suits it.

    >>> duration(2.34), duration(200), duration(8000)
    ('2 s', '3.3 min', '2.2 h')
    """
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.1f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


def verdict(lines: Sequence[Line]) -> tuple[bool, str]:
    """Return whether all that is judged passed, and a sentence on it."""
    judged = [line for line in lines if line.passed is not None]
    passed = sum(bool(line.passed) for line in judged)
    return passed == len(judged) and bool(judged), f"{passed} of {len(judged)} pass"
