"""Parts of one's data: to train on, and to be judged by, with nothing in common."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from minirnn.arguments import Array, Rng, as_generator, as_size, describe, is_real, one_of
from minirnn.data.batching import Rows, rows_of
from minirnn.data.sequences import as_numbers

CHANCE = 10
"""Equal values of rows that go on in each other are no chance from so many bits on."""


def split(
    x: Any,
    y: Any = None,
    lengths: Any = None,
    *,
    fractions: Sequence[float] = (0.8, 0.2),
    by: str = "row",
    rng: Rng = None,
    horizon: int | None = None,
    batch_first: bool = False,
    readout: str | None = None,
) -> list[Any]:
    """Part data, such as into 80 % to train on and 20 % held out: a list with (x, y), or (x, y, lengths), for each.

    Parameters
    ----------
    x, y, lengths : array_like
        As of `batches`. A series (S, …) comes alone, without y, by "time": best part it first, and then cut `windows`.
    fractions : sequence of numbers
        The share of each part; what is left of 1 stands in none.
    by : "row" or "time"
        "row" draws the rows of each part from ``rng``; of classes, y (N,) of whole numbers, each part gets its share.
        "time" takes rows to stand in the order of time, as those of `windows` do: the first rows are the first part,
        and what overlaps with the part before, inputs or targets, is left out. A single row is cut in its steps.
    rng : numpy.random.Generator, int or None
    horizon : int, optional
        How many steps beyond a row's last its target reaches, for rows that overlap; only needed where that cannot be
        found by comparing y with x, as that of `windows` can.
    batch_first, readout
        As of `batches`.

    Raises
    ------
    TypeError, ValueError
        For a part that would be empty or lack a class, and for rows that overlap, by "row": a part would know what the
        others are judged by.

    >>> train, test = split(list(range(10)), by="time")
    >>> test.tolist()
    [8, 9]
    """
    shares = _shares(fractions)
    one_of(by, ("row", "time"), "split: by")
    if y is None:
        if by != "time" or lengths is not None:
            raise ValueError('split: a series without y is parted by="time" only: pass it, or y')
        series = as_numbers(x, "split: x")
        return [series[part] for part in _runs(shares, len(series), 0, "steps")]
    rows = rows_of(x, y, lengths, batch_first, readout, "split")
    if by == "time":
        if rows.N == 1 and rows.every_step and rows.lengths is None:
            return [rows.steps(part).parts() for part in _runs(shares, rows.T, 0, "steps")]
        between = _reach(rows, horizon)
        return [rows.take(part).parts() for part in _runs(shares, rows.N, between, "rows")]
    if _shift(_time_major(rows, rows.x)) is not None:
        raise ValueError(
            'split: by="row" must have rows with nothing in common, got windows that overlap, which would stand in two '
            'parts: try by="time", or part the series before cutting windows'
        )
    order = _drawn(rows, as_generator(rng), len(shares))
    made = [rows.take(order[part]) for part in _runs(shares, rows.N, 0, "rows")]
    return [part.parts() for part in made]


def _shares(fractions: Any) -> list[float]:
    if isinstance(fractions, np.ndarray):
        fractions = fractions.tolist()
    if not isinstance(fractions, Sequence) or not fractions or not all(map(is_real, fractions)):
        raise TypeError(
            f"split: fractions must be numbers, one for each part, got {describe(fractions)}: try (0.8, 0.2)"
        )
    if not all(0 < share <= 1 for share in fractions) or sum(fractions) > 1 + 1e-9:
        raise ValueError(
            f"split: fractions must lie between 0 and 1 and add up to 1 at most, got {tuple(fractions)}: try (0.8, 0.2)"
        )
    return [float(share) for share in fractions]


def _runs(shares: list[float], size: int, between: int, what: str) -> list[slice]:
    """Cut 0 … size − 1 by the shares, leaving out ``between`` before each part but the first."""
    ends = [round(end * size) for end in np.cumsum(shares)]
    runs = [
        slice(begin + (between if k else 0), end) for k, (begin, end) in enumerate(zip([0, *ends], ends, strict=False))
    ]
    for k, run in enumerate(runs):
        if run.start >= run.stop:
            without = f", of which {between} overlap with the part before" if k and between else ""
            raise ValueError(
                f"split: each part must have some of the {what}, got none for part {k}, {shares[k]:g} of {size} "
                f"{what}{without}: try a larger fraction, or more data"
            )
    return runs


def _drawn(rows: Rows, rng: np.random.Generator, parts: int) -> Array:
    """Draw an order of the rows; of classes any run of it has about the share that the whole has."""
    order = rng.permutation(rows.N)
    if rows.y.ndim != 1 or rows.y.dtype.kind not in "iu":
        return order
    of, counts = np.unique(rows.y[order], return_inverse=True, return_counts=True)[1:]
    if counts.min() < parts:
        rare = np.unique(rows.y)[counts.argmin()]
        raise ValueError(
            f"split: each class must have a row for each of the {parts} parts, got {counts.min()} of class {rare}: "
            "leave it out, or add rows of it; if y are numbers and no classes, make them floats"
        )
    by_class = np.argsort(of, kind="stable")
    rank = np.empty(rows.N)
    rank[by_class] = np.arange(rows.N) - np.repeat(np.cumsum(counts) - counts, counts)
    return order[np.argsort((rank + 0.5) / counts[of], kind="stable")]


def _time_major(rows: Rows, array: Array) -> Array:
    return array.swapaxes(0, 1) if rows.batch_first else array


def _shift(x: Array) -> int | None:
    """Find by how many steps each row of (T, N, …) begins later than the one before; None where none goes on there."""
    few = x[:, :3]  # most shifts are refuted by the first rows
    for k in range(1, len(x) if x.shape[1] > 1 else 1):
        if np.array_equal(few[k:, :-1], few[:-k, 1:]) and np.array_equal(common := x[k:, :-1], x[:-k, 1:]):
            return k if common.size * np.log2(np.unique(common).size) >= CHANCE else None
    return None


def _reach(rows: Rows, horizon: int | None) -> int:
    """Count the rows that have a step or a target in common with the last row of a part."""
    x = _time_major(rows, rows.x)
    y = _time_major(rows, rows.y)[-1] if rows.every_step else rows.y
    shift = _shift(x)
    if horizon is not None:
        steps = rows.T + as_size(horizon, "split: horizon", 0)
        return 0 if shift is None else -(-steps // shift) - 1
    later = _later(x, y) if y.shape == x.shape[1:] else 0
    if shift is not None and not later:
        raise ValueError(
            "split: horizon must be given for rows that overlap and targets that are no later steps of x: say how many "
            "steps beyond a row's last its target reaches, 0 for none"
        )
    return later


def _later(x: Array, y: Array) -> int:
    """Find up to how many rows later the last target of a row, (N, …), is a step of (T, N, …); 0 for none."""
    N, last = len(y), 0
    same = (x == y[0]).reshape(len(x), N, -1).all(axis=-1)
    for m in range(1, N // 2 + 1):
        if any(np.array_equal(x[t, m:], y[:-m]) for t in np.flatnonzero(same[:, m])):
            last = m
        elif last:
            break
    return last
