"""From series and ragged rows to arrays (T, N, …), and back."""

from collections.abc import Iterable
from typing import Any

import numpy as np

from minirnn.arguments import Array, as_array, as_flag, as_lengths, as_size, constant, one_of


def windows(
    series: Any, length: int, *, horizon: int = 1, stride: int = 1, readout: str = "all", batch_first: bool = False
) -> tuple[Array, Array]:
    """Cut a series into windows, each with the values that stand ``horizon`` steps later as its targets.

    x[t, n] = series[n·stride + t] and y[t, n] = series[n·stride + t + horizon], for t = 0 … T − 1: N = (S − T −
    horizon) // stride + 1 windows. Both are read-only views: nothing is copied.

    Parameters
    ----------
    series : array_like (S,) or (S, D)
        In the order of time; what has one axis is taken as D = 1.
    length : int
        T, the steps of a window.
    horizon : int
        How many steps ahead the targets are.
    stride : int
        Steps from one window to the next.
    readout : "all" or "last"
        Whether y has a target at every step, (T, N, D), or the one of the last step alone, (N, D).
    batch_first : bool
        x and y of "all" are (N, T, D) then.

    Raises
    ------
    ValueError
        If the series is too short for one window, or holds a NaN.

    >>> x, y = windows([0.0, 1.0, 2.0, 3.0, 4.0], 3)
    >>> x.shape, x[:, 1, 0].tolist(), y[:, 1, 0].tolist()
    ((3, 2, 1), [1.0, 2.0, 3.0], [2.0, 3.0, 4.0])
    """
    T, horizon, stride = (
        as_size(value, f"windows: {name}")
        for name, value in (("length", length), ("horizon", horizon), ("stride", stride))
    )
    one_of(readout, ("all", "last"), "windows: readout")
    as_flag(batch_first, "windows: batch_first")
    array = as_finite(series, "windows: series")
    if array.ndim not in (1, 2):
        raise ValueError(f"windows: series must have shape (S,) or (S, D), got {array.shape}: try series[:, n], a row")
    array = array.reshape(len(array), -1)
    if len(array) < T + horizon:
        raise ValueError(
            f"windows: series must have at least length + horizon = {T + horizon} steps, got {len(array)}: try a "
            "shorter length"
        )
    views = np.lib.stride_tricks.sliding_window_view(array, T + horizon, axis=0)[::stride]  # (N, D, T + horizon)
    axes = (0, 2, 1) if batch_first else (2, 0, 1)
    x, y = (part.transpose(axes) for part in (views[..., :T], views[..., horizon:]))
    return (x, y) if readout == "all" else (x, views[..., -1])


def pad(sequences: Iterable[Any], *, batch_first: bool = False) -> tuple[Array, Array]:
    """Join rows of unequal length into one array (T, N, …), 0 past their ends; return it with their lengths (N,).

    ``sequences`` are N arrays (T_n, …), such as vectors (T_n, D) or ids (T_n,), that differ in nothing but T_n ≥ 1.

    >>> x, lengths = pad([[1, 2, 3], [4]])
    >>> x.T.tolist(), lengths.tolist()
    ([[1, 2, 3], [4, 0, 0]], [3, 1])
    """
    as_flag(batch_first, "pad: batch_first")
    rows: list[Array] = []
    for n, row in enumerate(sequences):
        rows.append(array := as_numbers(row, f"pad: sequences[{n}]"))
        if not array.ndim or not len(array):
            raise ValueError(f"pad: sequences[{n}] must have shape (T ≥ 1, …), got {array.shape}: leave empty rows out")
        if array.shape[1:] != rows[0].shape[1:]:
            raise ValueError(
                f"pad: sequences must differ in their first axis alone, got {rows[0].shape} and, at {n}, {array.shape}"
            )
    if not rows:
        raise ValueError("pad: sequences must hold at least one row, got none")
    lengths = np.array([len(row) for row in rows])
    dtype = np.result_type(*([row for row in rows if row.dtype.kind == "f"] or rows))
    x = np.zeros((len(rows), lengths.max(), *rows[0].shape[1:]), dtype)
    for n, row in enumerate(rows):
        x[n, : len(row)] = row
    return (x if batch_first else np.ascontiguousarray(x.swapaxes(0, 1))), lengths


def unpad(x: Any, lengths: Any, *, batch_first: bool = False) -> list[Array]:
    """Cut each row of (T, N, …) at its length: N arrays (T_n, …), copies; undoes `pad`.

    >>> [row.tolist() for row in unpad([[1, 4], [2, 0], [3, 0]], [3, 1])]
    [[1, 2, 3], [4]]
    """
    array = as_numbers(x, "unpad: x")
    if array.ndim < 2:
        raise ValueError(f"unpad: x must have shape {layout(batch_first)}, got {array.shape}")
    rows = array if batch_first else array.swapaxes(0, 1)
    ends = as_lengths(lengths, rows.shape[1], rows.shape[0], "unpad: lengths", batch_first)
    return [row[:end].copy() for row, end in zip(rows, ends, strict=True)]


def layout(batch_first: bool) -> str:
    """Name a layout in an error."""
    return "(N, T, …)" if batch_first else "(T, N, …)"


def as_numbers(values: Any, argument: str) -> Array:
    """Make an array of numbers; whole ones in a list, which may be ids, stay whole, as they are in numpy."""
    array = as_array(constant(values, argument), argument)
    whole = isinstance(values, list | tuple) and np.asarray(values).dtype.kind in "iu"
    return np.asarray(values) if whole else array


def as_finite(values: Any, argument: str) -> Array:
    """Check an array of numbers: not empty, and neither NaN nor inf in it."""
    array = as_numbers(values, argument)
    if not array.size:
        raise ValueError(f"{argument} must not be empty, got shape {array.shape}")
    if array.dtype.kind == "f" and not (finite := np.isfinite(array)).all():
        at = np.argwhere(~finite)[0].tolist()
        raise ValueError(
            f"{argument} must hold finite numbers, got {array[tuple(at)]} at {at}: leave such rows out, or fill them in"
        )
    return array
