"""The gradient of an indexing op, kept small until it has to be dense."""

from collections.abc import Callable
from typing import Any


class Part:
    """The gradient of ``x[index]`` with respect to x: zero everywhere but at ``index``, where it is ``g``.

    Writing every such gradient into zeros of its own would make a loop over ``x[t]`` quadratic in T. Parts of one x
    are therefore only collected when they meet; `total` writes them all into one buffer. A Part belongs to the
    backward pass that made it, which is why ``+`` may extend it in place.
    """

    __slots__ = ("indices", "pieces", "rest", "shape")
    __array_ufunc__ = None  # ndarray + Part asks Part

    def __init__(self, g: Any, index: Any, shape: tuple[int, ...]) -> None:
        self.pieces = [g]
        self.indices = [index]
        self.shape = shape
        self.rest: Any = None

    def __add__(self, other: Any) -> "Part":
        if isinstance(other, Part):
            self.pieces += other.pieces
            self.indices += other.indices
            other = other.rest
        if other is not None:
            self.rest = other if self.rest is None else self.rest + other
        return self

    __radd__ = __add__

    def total(self, place: Callable[..., Any]) -> Any:
        """Return the dense gradient; ``place`` is the op's forward, or the op itself under ``create_graph``."""
        dense = place(*self.pieces, indices=self.indices, shape=self.shape)
        return dense if self.rest is None else dense + self.rest
