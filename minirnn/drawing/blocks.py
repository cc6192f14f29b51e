"""What is drawn of a recurrent module, without a word about where: cells, boxes, and how they stand on each other."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Weight:
    """A parameter: its name, as ``W_xh``, and its shape."""

    name: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Cell:
    """A layer's cell.

    Attributes
    ----------
    kind : str
        The class of the layer.
    gates : sequence of str
        What is named in the cell: ``i f g o``, or a single activation.
    states : sequence of str
        Names of the arrays of its state; the first is the output.
    into, around : Weight
        W_xh and W_hh.
    biases : sequence of Weight
    reverse : bool
        Whether it goes back in time.
    size : int
        H.
    """

    kind: str
    gates: Sequence[str]
    states: Sequence[str]
    into: Weight
    around: Weight
    biases: Sequence[Weight]
    reverse: bool
    size: int


@dataclass(frozen=True)
class Box:
    """Something without a state, such as a head; ``size`` is that of what it returns, None if unknown."""

    kind: str
    into: Weight | None = None
    size: int | None = None


@dataclass(frozen=True)
class Tower:
    """Blocks one on top of the other, from the bottom up."""

    blocks: Sequence["Block"]


@dataclass(frozen=True)
class Both:
    """Two blocks that read the same; what they return is joined."""

    lower: "Block"
    upper: "Block"
    size: int


Block = Cell | Box | Tower | Both


@dataclass(frozen=True)
class Picture:
    """A recurrent module as it is drawn.

    Attributes
    ----------
    title : str
    block : Block
    size : int or None
        D, the features of a step's input; None for class ids.
    equations : sequence of str
        Written below, with subscripts as in ``h_{t}``.
    head : Box, optional
        Reads the block's output.
    every : bool
        Whether the head reads every step, or only the last one processed.
    """

    title: str
    block: Block
    size: int | None
    equations: Sequence[str] = ()
    head: Box | None = None
    every: bool = True


def last(block: Block) -> tuple[bool, ...]:
    """Return the ways that its outputs come, whether each goes back in time: two for a `Both` on top, none for a `Box`.

    >>> last(Both(Tower([]), Tower([]), 2))
    (False, True)
    """
    if isinstance(block, Cell):
        return (block.reverse,)
    if isinstance(block, Tower):
        return last(block.blocks[-1]) if block.blocks else ()
    return (False, True) if isinstance(block, Both) else ()
