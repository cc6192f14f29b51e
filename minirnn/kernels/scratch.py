"""Scratch that outlives a call: arrays whose contents mean nothing between calls.

They are kept, with the views into them, so that they need not be made again, page by page and view by view.
A kernel takes a workspace and gives it back when it is done. In between nobody else can get it, so two unrolls, in one
thread or in several, never share one. What a caller of the package can hold (outputs, states, gradients) is no scratch.
"""

import threading
from typing import Any, TypeVar

LARGEST = 1 << 24
"""A workspace of more bytes than this is not kept."""

KEPT = 16
"""How many of them a thread keeps, those used last: at most KEPT · LARGEST bytes, and mostly far less."""


W = TypeVar("W")


class _Shelf(threading.local):
    """The workspaces that a thread keeps, by class and key; the one given back last stands last."""

    def __init__(self) -> None:
        self.kept: dict[Any, Any] = {}


_shelf = _Shelf()


def take(kind: type[W], *key: Any) -> W:
    """Return the workspace ``kind(*key)``: one that was given back, or else a new one."""
    kept: W | None = _shelf.kept.pop((kind, key), None)
    return kind(*key) if kept is None else kept


def give(workspace: Any) -> None:
    """Keep a workspace, made of its ``key`` and of so many ``nbytes``, for the next `take`.

    After an error it is not given back, since its parts may be half done.
    """
    kept = _shelf.kept
    if workspace.nbytes <= LARGEST:
        kept[type(workspace), workspace.key] = workspace
        if len(kept) > KEPT:
            kept.pop(next(iter(kept)))
