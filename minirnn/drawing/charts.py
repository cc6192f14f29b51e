"""A curve as text, for a terminal."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

Values = npt.NDArray[np.float64]


def curve(
    values: Values,
    width: int,
    height: int,
    title: str,
    *,
    ends: tuple[str, str],
    unit: str,
    logarithmic: bool = False,
    decades: float = 0.0,
) -> str:
    """Draw a curve: a column is the mean of its share of the values (K,), joined to the next by a line.

    What is not finite leaves its column blank. The plot takes ``width`` × ``height`` characters, at least 2 each, and
    the axes come on top; ``ends`` stand below the first and the last column, and the values are counted in ``unit``,
    such as "updates". On a logarithmic axis, for values ≥ 0, 0 gets a row of its own at the bottom, and the axis spans
    ``decades`` at least, so that what hardly changes looks flat.
    """
    columns = means(values, width)
    scaled, labels = _logarithmic(columns, height, decades) if logarithmic else _linear(columns, height)
    rows = np.where(np.isfinite(scaled), scaled, -1).round().astype(int)
    margin = max(map(len, labels.values()))
    lines = [f"{labels.get(row, ''):>{margin}} {'┤' if row in labels else '│'}" for row in range(height)]
    drawn = [(line + "".join(_cells(rows, row))).rstrip() for row, line in enumerate(lines)]
    share = f", each column the mean of {values.size / width:.3g} {unit}" if values.size > width else ""
    first, last = ends
    gap = max(rows.size - len(first), len(last) + 1)
    foot = f"{'':{margin}} └{'─' * rows.size}\n{'':{margin}}  {first}{last:>{gap}}"
    return "\n".join([f"{title}{' (logarithmic)' if logarithmic else ''}{share}", *reversed(drawn), foot])


def means(values: Values, width: int) -> Values:
    """Return one value for each of at most ``width`` columns: the mean of its share."""
    edges = np.linspace(0, values.size, min(width, values.size) + 1).round().astype(int)
    return np.add.reduceat(values, edges[:-1]) / np.diff(edges)


def _linear(columns: Values, height: int) -> tuple[Values, dict[int, str]]:
    """Return the row of each column, and the labels of some rows."""
    seen = columns[np.isfinite(columns)]
    low, high = (float(seen.min()), float(seen.max())) if seen.size else (0.0, 1.0)
    span = high - low or 1.0
    labels = {row: f"{low + span * row / (height - 1):.3g}" for row in {0, height // 2, height - 1}}
    return (columns - low) / span * (height - 1), labels


def _logarithmic(columns: Values, height: int, decades: float) -> tuple[Values, dict[int, str]]:
    """Return the row of each column, and the labels of some rows; row 0 is that of 0, if there is any."""
    seen, zeros = columns[np.isfinite(columns) & (columns > 0)], columns == 0
    first = int(zeros.any() and height > 2)
    logs = np.log(seen) if seen.size else np.zeros(1)
    low, high = float(logs.min()), float(logs.max())
    low = min(low, high - decades * np.log(10))
    span = high - low or 1.0
    labels = {
        row: f"{np.exp(low + span * (row - first) / (height - 1 - first)):.3g}"
        for row in (first, (first + height) // 2, height - 1)
    }
    scaled = first + (np.log(np.where(columns > 0, columns, 1)) - low) / span * (height - 1 - first)
    scaled = np.where(np.isfinite(columns), np.where(zeros, 0, scaled), np.nan)
    return scaled, labels | ({0: "0"} if zeros.any() else {})


def _cells(rows: npt.NDArray[Any], row: int) -> Iterator[str]:
    """Yield the characters of one row: the curve's height in each column, and the line that leads there."""
    before = -1
    for here in rows:
        before = here if before < 0 else before  # a curve begins where it is, after a blank too
        if here < 0:
            yield " "
        elif here == before == row:
            yield "─"
        elif row == here:
            yield "╭" if here > before else "╰"
        elif row == before:
            yield "╯" if here > before else "╮"
        else:
            yield "│" if min(before, here) < row < max(before, here) else " "
        before = here
