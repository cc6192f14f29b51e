"""A picture of what `minirnn bench` measured: one panel for each section. Needs matplotlib, the extra ``plot``."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from minirnn.bench.grid import times_the_floor
from minirnn.bench.ladder import a_step
from minirnn.bench.rows import BOTH_WAYS, Row, find
from minirnn.bench.scaling import slope, varied
from minirnn.drawing.axes import matplotlib_for

Jobs = Sequence[Sequence[Row]]
SUFFIXES = (".png", ".svg")


def plot(path: Path, sections: Mapping[str, Jobs], title: str) -> None:
    """Draw the sections that were measured into a PNG or SVG file."""
    columns, lines = min(2, len(sections)), -(-len(sections) // 2)
    figure = matplotlib_for("--plot:").figure.Figure(figsize=(6.4 * columns, 4.4 * lines), layout="constrained")
    figure.suptitle(title, fontsize=10)
    panels = figure.subplots(lines, columns, squeeze=False).flat
    for panel, name in zip(panels, sections, strict=False):
        _PANELS[name](panel, sections[name])
    for panel in list(panels)[len(sections) :]:
        panel.set_axis_off()
    figure.savefig(path, dpi=150)


def _ladder(panel: Any, jobs: Jobs) -> None:
    rows = jobs[-1]
    rungs = list(dict.fromkeys(row.contestant for row in rows))
    for what, offset in (("forward", -0.2), (BOTH_WAYS, 0.2)):
        found = [(i, row) for i, rung in enumerate(rungs) if (row := find(rows, contestant=rung, what=what))]
        each = [1e6 * a_step(row).median for _, row in found]
        bars = panel.barh([i + offset for i, _ in found], each, height=0.4, label=what)
        panel.bar_label(bars, [f"{number:,.3g}" if number < 1000 else f"{number:,.0f}" for number in each], padding=2)
    panel.set(title=f"ladder, N,T,D,H = {rows[-1].shape}", xlabel="µs a step", xscale="log")
    panel.set_yticks(range(len(rungs)), rungs)
    panel.invert_yaxis()
    panel.margins(x=0.2)
    panel.legend()


def _grid(panel: Any, jobs: Jobs) -> None:
    for what, offset in (("forward", -0.2), (BOTH_WAYS, 0.2)):
        ratios = [times_the_floor(rows)[what] for rows in jobs]
        panel.barh([i + offset for i in range(len(jobs))], ratios, height=0.4, label=what)
    panel.axvline(1.0, color="black", linewidth=1)
    panel.set(title="grid: time against the floor", xlabel="× floor")
    panel.set_yticks(range(len(jobs)), [str(rows[0].shape) for rows in jobs])
    panel.invert_yaxis()
    panel.legend()


def _scaling(panel: Any, jobs: Jobs) -> None:
    for rows in jobs:
        letter = varied([row.shape for row in rows])
        sizes, medians = [getattr(row.shape, letter) for row in rows], [row.spread.median for row in rows]
        panel.plot(sizes, medians, "o-", label=f"{letter} from {rows[0].shape} on: slope {slope(sizes, medians):.2f}")
    panel.set(title="scaling, forward and backward", xlabel="size", ylabel="seconds", xscale="log", yscale="log")
    panel.legend()


def _memory(panel: Any, jobs: Jobs) -> None:
    for others in dict.fromkeys(rows[0].shape._replace(T=1) for rows in jobs):
        chosen = [rows for rows in jobs if rows[0].shape._replace(T=1) == others]
        for held in list(zip(*chosen, strict=True))[1:]:  # of one contestant, at each T; the first is the unit
            label = f"{held[0].contestant}, {held[0].what}, N = {others.N}, H = {others.H}"
            panel.plot([row.shape.T for row in held], [row.spread.median / 1e6 for row in held], "o-", label=label)
    panel.set(title="memory", xlabel="T", ylabel="MB", xscale="log", yscale="log")
    panel.legend()


_PANELS = {"ladder": _ladder, "grid": _grid, "scaling": _scaling, "memory": _memory}
