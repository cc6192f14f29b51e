"""Text of a drawing: pieces with subscripts, and how wide they are, as far as that can be known without the font."""

import re
from collections.abc import Sequence
from typing import NamedTuple

SIZE = 13.0
"""Height of the letters, in pixels."""

_SUBSCRIPT = 0.75
_INDEXED = re.compile(r"([A-Za-z]\w*?)_\{([^}]*)\}")
# Widths in parts of the size, from DejaVu Sans, which is wider than most: a text may come out shorter, not longer.
_NARROW, _WIDE = frozenset("iljI.,:;'|! "), frozenset("mwMW@%…⋯⊙")


class Piece(NamedTuple):
    """A part of a text in one style."""

    text: str
    subscript: bool = False
    weight: bool = False
    """Whether it names a parameter."""


Text = Sequence[Piece]


def plain(text: str) -> Text:
    """Return a text as it stands."""
    return [Piece(text)]


def maths(formula: str) -> Text:
    """Return a formula, ``h_{t−1} W_{hh}``, with subscripts; W and b are parameters.

    >>> maths("x W_{xh}")
    [Piece(text='x ', subscript=False, weight=False), Piece(text='W', subscript=False, weight=True), \
Piece(text='xh', subscript=True, weight=True)]
    """
    pieces, end = [], 0
    for match in _INDEXED.finditer(formula):
        letter, subscript = match.groups()
        pieces += [Piece(formula[end : match.start()])] if match.start() > end else []
        pieces += [Piece(letter, False, letter in "Wb"), Piece(subscript, True, letter in "Wb")]
        end = match.end()
    return [*pieces, Piece(formula[end:])] if end < len(formula) else pieces


def parameter(name: str, shape: tuple[int, ...] | None = None) -> Text:
    """Return the name of a parameter, ``W_xh``, and its shape if it is given."""
    letter, _, subscript = name.partition("_")
    pieces = [Piece(letter, False, True)] + [Piece(subscript, True, True)] * bool(subscript)
    return pieces if shape is None else [*pieces, Piece(f" {shape}")]


def width(text: Text, size: float = SIZE) -> float:
    """Return about how wide a text is, in pixels; rather too much than too little."""
    return sum(_em(c) * (_SUBSCRIPT if piece.subscript else 1) for piece in text for c in piece.text) * size


def _em(character: str) -> float:
    if character in _NARROW:
        return 0.36
    if character in _WIDE:
        return 1.0
    return 0.72 if character.isupper() else 1.05 if ord(character) > 0x2E80 else 0.65


def fitted(text: str, room: float, size: float = SIZE) -> str:
    """Return a text cut off, with an ellipsis, to fit into so many pixels.

    >>> fitted("AVeryLongNameOfACell", 88)
    'AVeryLon…'
    """
    if width(plain(text), size) <= room:
        return text
    while text and width(plain(text + "…"), size) > room:
        text = text[:-1]
    return text + "…"
