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
    """A layer's cell."""

    kind: str  # the class of the layer
    gates: Sequence[str]  # what is named in the cell: i f g o, or a single activation
    states: Sequence[str]  # names of the arrays of its state; the first is the output
    into: Weight  # W_xh
    around: Weight  # W_hh
    biases: Sequence[Weight]
    reverse: bool  # whether it goes back in time
    size: int  # H, or P
    letter: str = "H"  # what that is called


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


@dataclass(frozen=True)
class Part:
    """An op within a cell, or what enters or leaves it; ``inputs`` are the numbers of the parts that it reads."""

    name: str  # with subscripts as in h_{t}
    remark: str = ""  # below it
    style: str = "plain"  # "input", "output", "gate", "op", or "plain" for a sum of products
    inputs: Sequence[int] = ()


Block = Cell | Box | Tower | Both


@dataclass(frozen=True)
class Picture:
    """A recurrent module as it is drawn."""

    title: str
    block: Block
    size: int | None  # D, the features of a step's input; None for class ids
    equations: Sequence[str] = ()  # written below, with subscripts as in h_{t}
    head: Box | None = None  # reads the block's output
    every: bool = True  # whether the head reads every step, or only the last one processed
    inside: Sequence[Part] = ()  # drawn beside the equations


def last(block: Block) -> tuple[bool, ...]:
    """Return the ways that its outputs come, whether each goes back in time: two for a `Both` on top, none for a `Box`.

    >>> last(Both(Tower([]), Tower([]), 2))
    (False, True)
    """
    if isinstance(block, Tower):
        return last(block.blocks[-1]) if block.blocks else ()
    return (block.reverse,) if isinstance(block, Cell) else (False, True) if isinstance(block, Both) else ()
