"""Scaling: how the time grows with T, N and H, one at a time, with fitted slopes."""

import statistics
from collections.abc import Mapping, Sequence

import numpy as np

from minirnn.bench.cells import Kind, Shape, Trial, seconds_text, vary
from minirnn.bench.measure import markdown
from minirnn.bench.rows import BOTH_WAYS, Contestant, Row, Settings, time_in_turns

DEFAULTS = {
    "T": (Shape(1, 1, 10, 16), (100, 1_000, 10_000, 100_000)),
    "N": (Shape(1, 50, 10, 64), (1, 4, 16, 64, 256, 1024)),
    "H": (Shape(32, 50, 10, 1), (16, 32, 64, 128, 256, 512)),
}
_SECONDS = 2.5
_WARM = 0.01  # seconds


def plan(shapes: Sequence[Shape], sweeps: Mapping[str, Sequence[int]]) -> list[list[Shape]]:
    """Make one job of each letter and shape: one size goes from ¼ to 4 times the shape's, or to those asked for."""
    jobs = []
    for letter in sweeps or DEFAULTS:
        base, usual = DEFAULTS.get(letter, (DEFAULTS["N"][0], ()))
        jobs += vary(letter, base, usual, shapes, sweeps, quarters=(1, 2, 4, 8, 16))
    return jobs


def measure(job: Sequence[Shape], settings: Settings) -> list[Row]:
    """Measure forward and backward at each shape of a sweep, all in turns."""
    trials = [Trial(shape, settings.dtype, settings.cell) for shape in job]
    for trial in trials:
        trial.check("the layer")
    name, threads = f"against {varied(job)}", settings.threads
    contestants = [Contestant(name, BOTH_WAYS, trial.both_ways, trial.shape, threads) for trial in trials]
    return time_in_turns("scaling", contestants, settings, _SECONDS, _WARM)


def note(kind: Kind) -> str:
    """Say what the tables show."""
    return (
        f"{kind.layer.__name__}, forward and backward with all gradients, while one size grows and the others stay. "
        '"slope" is d log time / d log size, from the line before; the fitted one is by least squares over all lines. '
        "1 means proportional, 2 quadratic."
    )


def report(jobs: Sequence[Sequence[Row]]) -> str:
    """Write a table for each sweep."""
    return "\n\n".join(map(_table, jobs))


def _table(rows: Sequence[Row]) -> str:
    letter = varied([row.shape for row in rows])
    sizes, medians = [getattr(row.shape, letter) for row in rows], [row.spread.median for row in rows]
    slopes = [""] + [f"{slope(sizes[i : i + 2], medians[i : i + 2]):.2f}" for i in range(len(rows) - 1)]
    lines = [
        (f"{size:,}", f"{row.median} {row.plus_minus}", seconds_text(median / size), steep)
        for size, row, median, steep in zip(sizes, rows, medians, slopes, strict=True)
    ]
    others = ", ".join(f"{name} = {size}" for name, size in rows[0].shape._asdict().items() if name != letter)
    table = markdown((letter, BOTH_WAYS, f"time / {letter}", "slope"), lines)
    return f"Against {letter}, with {others}: fitted slope {slope(sizes, medians):.2f}\n\n{table}"


def slope(sizes: Sequence[float], values: Sequence[float]) -> float:
    """Fit a straight line through (log size, log value) by least squares; return its slope."""
    return statistics.linear_regression(np.log(sizes), np.log(values)).slope


def varied(shapes: Sequence[Shape]) -> str:
    """Return the letter whose size is not the same everywhere."""
    return next(letter for i, letter in enumerate(Shape._fields) if len({shape[i] for shape in shapes}) > 1)
