"""One picture: the time of every contestant ÷ minirnn's, shape by shape."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.cases import Shape
from benchmarks.roster import MINIRNN
from benchmarks.rounds import Measured

# Okabe and Ito's colours, which stay apart for colour-blind eyes; the marks differ too.
STYLES = {
    "one-thread": ("#F0E442", "x"),
    "floor": ("#000000", "|"),
    "torch": ("#D55E00", "o"),
    "jax": ("#0072B2", "s"),
    "onnxruntime": ("#009E73", "D"),
    "graph": ("#56B4E9", "v"),
    "torch-eager": ("#E69F00", "^"),
    "autograd": ("#009E73", "P"),
    "mygrad": ("#CC79A7", "X"),
}
TICKS = (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100)


def draw(results: Mapping[Shape, Measured], labels: Mapping[str, str], file: Path, title: str) -> None:
    """Write the picture; its format is the file's ending."""
    import matplotlib

    matplotlib.use("agg")
    matplotlib.rcParams["svg.hashsalt"] = "minirnn"  # the same figures give the same file
    from matplotlib import pyplot

    names = [name for name in labels if name != MINIRNN and any(name in m.names() for m in results.values())]
    figure, axes = pyplot.subplots(figsize=(8, 1.6 + 0.65 * len(results)), layout="constrained")
    for place, name in enumerate(names):
        _dots(axes, results, name, labels[name], (place + 0.5) / len(names) - 0.5)
    _rows(axes, [str(shape) for shape in results])
    _ratios(axes, title)
    figure.legend(loc="outside lower center", ncols=4, frameon=False)
    date = {"Date": None} if file.suffix == ".svg" else None
    figure.savefig(file, dpi=150, facecolor="white", metadata=date)
    pyplot.close(figure)


def _dots(axes: Any, results: Mapping[Shape, Measured], name: str, label: str, offset: float) -> None:
    """Draw one contestant, a little above or below the middle of each row so that dots do not hide each other."""
    colour, marker = STYLES[name]
    at = [(m.ratio(name).median, row + 0.85 * offset) for row, m in enumerate(results.values()) if name in m.names()]
    size = (
        {"markersize": 10, "markeredgewidth": 2.5} if marker == "|" else {"markersize": 6.5, "markeredgecolor": "white"}
    )
    axes.plot(*zip(*at, strict=True), linestyle="none", marker=marker, color=colour, label=label, **size)


def _rows(axes: Any, shapes: list[str]) -> None:
    axes.set_yticks(range(len(shapes)), shapes)
    axes.set_ylim(len(shapes) - 0.5, -0.5)
    axes.set_ylabel("N, T, D, H")
    axes.tick_params(axis="y", length=0)
    for row in range(0, len(shapes), 2):
        axes.axhspan(row - 0.5, row + 0.5, color="#f3f3f3", zorder=0)


def _ratios(axes: Any, title: str) -> None:
    axes.set_xscale("log")
    low, high = axes.get_xlim()
    axes.set_xticks([tick for tick in TICKS if low <= tick <= high], minor=False)
    axes.set_xticks([], minor=True)
    axes.xaxis.set_major_formatter("{x:g} ×")
    axes.axvline(1, color="#444444", linewidth=1.5, zorder=1)
    axes.grid(axis="x", color="#dddddd", linewidth=0.6, zorder=0)
    axes.set_axisbelow(True)
    axes.set_xlabel("time ÷ minirnn's, log scale: right of the line, minirnn is faster")
    axes.set_title(title, fontsize=11)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
