"""How the unroll divides its work, and the scratch in which it does it.

Time is gone through in chunks that stay in the cache, the rows of a mini-batch in parts for threads. Scratch is arrays
whose contents mean nothing between calls. They outlive a call, with the views into them, so that they need not be made
again, page by page and view by view. A kernel takes a workspace and gives it back when it is done. In between nobody
else can get it, so two unrolls, in one thread or in several, never share one. What a caller of the package can hold
(outputs, states, gradients) is no scratch.
"""

import threading
from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise
from typing import Any, TypeVar, cast

import numpy as np

Run = Callable[[Sequence[Callable[[], Any]]], list[Any]]
"""Runs the parts of a mini-batch, for example at once, and returns their results in order."""

LARGEST = 1 << 24
"""A workspace of more bytes than this is not kept."""

KEPT = 16
"""How many of them a thread keeps, those used last: at most KEPT · LARGEST bytes, and mostly far less."""

MOST_ROWS = 1024
"""Rows of a chunk beside which it costs little to start a product over them; a single step may have more."""

W = TypeVar("W")


def chunk_length(N: int, width: int, dtype: np.dtype[Any], rows: int = MOST_ROWS) -> int:
    """Return how many steps of N rows of so many numbers are gone through at a time.

    As many as fill 512 KiB, which then are still in the cache when the loop comes to them, or give the products over
    all rows of a chunk so many ``rows``, beside which it costs little to start one; 256 at most.
    """
    return min(256, max(1, 2**19 // (N * width * dtype.itemsize), rows // N))


def chunks(T: int, length: int) -> list[tuple[int, int]]:
    """Return where each chunk of the T steps begins and ends, the last one shorter where need be."""
    return [(lo, min(lo + length, T)) for lo in range(0, T, length)]


def each(part: Callable[[int, slice], Any], N: int, parts: int, run: Run | None) -> list[Any]:
    """Call ``part`` with the number of each part and its rows; parts differ by one row at most."""
    if parts == 1:  # all rows without an end: no views of them need be made
        return [part(0, slice(None))] if run is None else run([partial(part, 0, slice(None))])
    edges = [N * i // parts for i in range(parts + 1)]
    tasks = [partial(part, i, slice(lo, hi)) for i, (lo, hi) in enumerate(pairwise(edges))]
    return [task() for task in tasks] if run is None else run(tasks)


class _Shelf(threading.local):
    """The workspaces that a thread keeps, by class and key; the one given back last stands last."""

    def __init__(self) -> None:
        self.kept: dict[Any, Any] = {}


_shelf = _Shelf()


def take(kind: type[W], *key: Any) -> W:
    """Return the workspace ``kind(*key)``: one that was given back, or else a new one."""
    workspace: Any = _shelf.kept.pop((kind, key), None)
    if workspace is None:
        workspace = kind(*key)
        workspace.key = key
    return cast(W, workspace)


def give(workspace: Any) -> None:
    """Keep a workspace, which has so many ``nbytes``, for the next `take`.

    After an error it is not given back, since its parts may be half done.
    """
    kept = _shelf.kept
    if workspace.nbytes <= LARGEST:
        kept[type(workspace), workspace.key] = workspace
        if len(kept) > KEPT:
            kept.pop(next(iter(kept)))
