"""The picture of a sweep: every figure against every setting. Needs matplotlib, the extra ``plot``."""

import math
import statistics
from pathlib import Path
from typing import Any

from minirnn.drawing.axes import matplotlib_for
from minirnn.training.sweeps.results import Results
from minirnn.training.sweeps.settings import Value, shown
from minirnn.training.sweeps.trial import FINISHED

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#000000")
"""Okabe and Ito's colours, which stay apart for colour-blind eyes."""
_WIDTH, _HEIGHT = 4.6, 3.4  # of a panel, in inches
_APART = 100  # a positive setting or figure that spans more than this factor has a logarithmic axis


def draw(results: Results, path: Path) -> None:
    """Write the picture, a row of panels for each figure and a column for each setting; ImportError without matplotlib.

    A dot is a trial that finished, a line joins the medians, of what is true or false the shares; a colour is a value
    of another setting, which the legend names. The same results give the same file.
    """
    matplotlib = matplotlib_for("it")
    names, figures = results.varied or ("seed",), results.figures
    size = (_WIDTH * len(names), _HEIGHT * len(figures))
    figure = matplotlib.figure.Figure(figsize=size, layout="constrained")
    panels = figure.subplots(len(figures), len(names), squeeze=False)
    for i, what in enumerate(figures):
        for j, name in enumerate(names):
            _panel(panels[i][j], results, what, name)
    with matplotlib.rc_context({"svg.hashsalt": "minirnn"}):
        figure.savefig(path, metadata={"Date": None})


def _panel(axes: Any, results: Results, what: str, name: str) -> None:
    there = [r for r in results if r.status == FINISHED and math.isfinite(r.figures.get(what, math.nan))]
    points = [(_of(r, name), r) for r in there]
    values = list(dict.fromkeys(value for value, _ in points))
    numbers = all(isinstance(v, int | float) and not isinstance(v, bool) for v in values)
    places: dict[Value, Any] = {value: value if numbers else k for k, value in enumerate(values)}
    yes_or_no = all(isinstance(r.figures[what], bool) for _, r in points)
    by = _second(results, name)
    groups = list(dict.fromkeys(r.settings[by] for _, r in points)) if by and points else [None] * bool(points)
    for colour, group in zip(COLOURS, groups, strict=False):
        own = [(places[v], float(r.figures[what])) for v, r in points if by is None or r.settings[by] == group]
        axes.plot(*zip(*own, strict=True), "o", color=colour, markersize=4, alpha=0.5)
        middle = statistics.mean if yes_or_no else statistics.median
        lines = sorted({x: middle([y for other, y in own if other == x]) for x, _ in own}.items())
        label = f"{by} {shown(group)}" if by else None
        axes.plot(*zip(*lines, strict=True), color=colour, label=label)
    if not numbers:
        axes.set_xticks(range(len(values)), [shown(value) for value in values])
    elif values and min(places.values()) > 0 and max(places.values()) >= 4 * min(places.values()):
        axes.set_xscale("log")
        axes.set_xticks(values, [shown(value) for value in values], minor=False)
        axes.minorticks_off()
    heights = [float(r.figures[what]) for _, r in points]
    if heights and min(heights) > 0 and max(heights) > _APART * min(heights):
        axes.set_yscale("log")
    axes.set(xlabel=name, ylabel=what)
    if by:
        axes.legend(fontsize="small")


def _of(result: Any, name: str) -> Value:
    value: Value = result.seed if name == "seed" else result.settings[name]
    return value


def _second(results: Results, name: str) -> str | None:
    """Return the other setting with the fewest values, for which there are colours enough."""
    counts = {other: len({r.settings[other] for r in results}) for other in results.varied if other != name}
    fit = {other: n for other, n in counts.items() if 1 < n <= len(COLOURS)}
    return min(fit, key=lambda other: fit[other]) if fit else None
