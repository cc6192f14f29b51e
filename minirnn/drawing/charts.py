"""A curve as text, for a terminal."""

from collections.abc import Iterator, Sequence
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
    scaled, labels = _scaled(columns, height, logarithmic, decades)
    rows = np.where(np.isfinite(scaled), scaled, -1).round().astype(int)
    margin = max(map(len, labels.values()))
    lines = [f"{labels.get(row, ''):>{margin}} {'┤' if row in labels else '│'}" for row in range(height)]
    drawn = [(line + "".join(_cells(rows, row))).rstrip() for row, line in enumerate(lines)]
    least, more = divmod(values.size, width)
    share = (
        f", each column the mean of {least}{f' or {least + 1}' if more else ''} {unit}" if values.size > width else ""
    )
    first, last = ends
    gap = max(rows.size - len(first), len(last) + 1)
    foot = f"{'':{margin}} └{'─' * rows.size}\n{'':{margin}}  {first}{last:>{gap}}"
    return "\n".join([f"{title}{' (logarithmic)' if logarithmic else ''}{share}", *reversed(drawn), foot])


def means(values: Values, width: int) -> Values:
    """Average values (K,) over the shares of at most ``width`` columns."""
    edges = np.linspace(0, values.size, min(width, values.size) + 1).round().astype(int)
    return np.add.reduceat(values, edges[:-1]) / np.diff(edges)


def _scaled(columns: Values, height: int, logarithmic: bool, decades: float) -> tuple[Values, dict[int, str]]:
    """Return the row of each column, and the labels of some rows; of a logarithmic axis row 0 is that of 0, if any."""
    zeros = (columns == 0) & logarithmic
    first = int(zeros.any() and height > 2)
    scale = np.log(np.where(columns > 0, columns, np.nan)) if logarithmic else columns
    seen = scale[np.isfinite(scale)]
    low, high = (float(seen.min()), float(seen.max())) if seen.size else (0.0, 0.0)
    if logarithmic:
        low = min(low, high - decades * np.log(10))
    span, steps, shown = high - low or 1.0, height - 1 - first, np.exp if logarithmic else float
    labels = {
        row: f"{shown(low + span * (row - first) / steps):.3g}" for row in (first, (first + height) // 2, height - 1)
    }
    rows = np.where(zeros, 0, first + (scale - low) / span * steps)
    return rows, labels | ({0: "0"} if zeros.any() else {})


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


def bars(labels: Sequence[str], values: Sequence[float], title: str, width: int = 40) -> str:
    """Draw a bar of at most ``width`` characters for each value ≥ 0, with its label before and its number behind.

    Where the values span more than a factor of 100 a bar is as long as the logarithm is high above a tenth of the
    least. What is not finite has no bar.

    >>> print(bars(["irnn", "glorot"], [0.05, 0.2], "median loss", 8))
    median loss
      irnn   ┤━━ 0.05
      glorot ┤━━━━━━━━ 0.2
    """
    seen = np.array([value for value in values if np.isfinite(value) and value > 0])
    logarithmic = bool(seen.size and seen.max() > 100 * seen.min())
    low = np.log(seen.min() / 10) if logarithmic else 0.0
    lines = [title + " (logarithmic)" * logarithmic]
    margin = max(map(len, labels), default=0)
    for label, value in zip(labels, values, strict=True):
        length = 0.0
        if np.isfinite(value) and value > 0:
            high = np.log(seen.max()) - low if logarithmic else seen.max()
            length = width * ((np.log(value) - low) / high if logarithmic else value / high)
        number = f"{value:.4g}" if np.isfinite(value) else "–"
        lines.append(f"  {label:{margin}} ┤{'━' * round(length)} {number}")
    return "\n".join(lines)
