"""The paper: boxes, arrows and text as SVG, and the room that they take, as far as that is known without the font.

A drawing stands by itself: no font, script or picture is fetched. It carries no ids and every rule of its style begins
with its class, so that any number of drawings can stand on a page. It brings its own background, in a light and a dark
version, because the colour of the page around it cannot be known. Colours after Okabe and Ito, which most colour-blind
people can tell apart; none of them says anything that the words and the outlines do not.
"""

import math
import re
from collections.abc import Sequence
from html import escape
from typing import NamedTuple

Point = tuple[float, float]
SIZE = 13.0
"""Height of the letters, in pixels."""

_SUBSCRIPT = 0.75
_INDEXED = re.compile(r"([A-Za-z]\w*?)_\{([^}]*)\}")
# Widths in parts of the size, from DejaVu Sans, which is wider than most: a text may come out shorter, not longer.
_WIDTHS = dict.fromkeys("iljI.,:;'|! ", 0.36) | dict.fromkeys("mwMW@%…⋯⊙", 1.0)
_FORBIDDEN = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_MARGIN, _HEAD = 18, 8  # around the drawing, and the length of an arrow's head
_ROOT = "minirnn-drawing"
_LIGHT = {
    ".paper": "fill:#ffffff",
    "text": "fill:#1f2328;font-family:sans-serif",
    ".muted": "fill:#59636e",
    ".weight": "fill:#a33d00",
    ".strong": "font-weight:bold",
    ".line": "fill:none;stroke:#59636e;stroke-width:1.5",
    ".head": "fill:#59636e;stroke:none",
    ".cell": "fill:#ddf1ea;stroke:#00694c;stroke-width:1.5",
    ".gate": "fill:#ffffff;stroke:#00694c;stroke-width:1",
    ".op": "fill:#ffffff;stroke:#59636e;stroke-width:1.2",
    ".input": "fill:#dcecf7;stroke:#0072b2;stroke-width:1.5",
    ".output": "fill:#fcefcf;stroke:#8f6300;stroke-width:1.5",
    ".plain": "fill:#eff1f3;stroke:#59636e;stroke-width:1.5",
    ".constant": "fill:none;stroke:#59636e;stroke-width:1.2;stroke-dasharray:4 3",
}
_DARK = {
    ".paper": "fill:#16191d",
    "text": "fill:#e6e8eb",
    ".muted": "fill:#a5afba",
    ".weight": "fill:#f2a36b",
    ".line": "stroke:#a5afba",
    ".head": "fill:#a5afba",
    ".cell": "fill:#0f3a2e;stroke:#3fc69b",
    ".gate": "fill:#16191d;stroke:#3fc69b",
    ".op": "fill:#16191d;stroke:#a5afba",
    ".input": "fill:#0e3149;stroke:#56b4e9",
    ".output": "fill:#43320a;stroke:#e69f00",
    ".plain": "fill:#2a2f36;stroke:#a5afba",
    ".constant": "stroke:#a5afba",
}


# --- text -------------------------------------------------------------------------------------------------------------


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
    first, *rest = _INDEXED.split(formula)
    pieces = [Piece(first)]
    for letter, subscript, after in zip(rest[::3], rest[1::3], rest[2::3], strict=True):
        pieces += [Piece(letter, False, letter in "Wb"), Piece(subscript, True, letter in "Wb"), Piece(after)]
    return [piece for piece in pieces if piece.text]


def parameter(name: str, shape: tuple[int, ...] | None = None) -> Text:
    """Return the name of a parameter, ``W_xh``, and its shape if it is given."""
    letter, _, subscript = name.partition("_")
    pieces = [Piece(letter, False, True)] + [Piece(subscript, True, True)] * bool(subscript)
    return pieces if shape is None else [*pieces, Piece(f" {shape}")]


def width(text: Text, size: float = SIZE) -> float:
    """Return about how wide a text is, in pixels; rather too much than too little."""
    return sum(_em(c) * (_SUBSCRIPT if piece.subscript else 1) for piece in text for c in piece.text) * size


def _em(character: str) -> float:
    others = 0.72 if character.isupper() else 1.05 if ord(character) > 0x2E80 else 0.65
    return _WIDTHS.get(character, others)


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


# --- the paper --------------------------------------------------------------------------------------------------------


class Canvas:
    """What has been drawn so far, and the rectangle that it fills, in pixels; y grows downwards."""

    def __init__(self) -> None:
        self.elements: list[str] = []
        self.left = self.top = math.inf
        self.right = self.bottom = -math.inf

    def box(self, x: float, y: float, w: float, h: float, style: str, radius: float = 6) -> None:
        """Draw a box around its centre (x, y)."""
        self._reach((x - w / 2, y - h / 2), (x + w / 2, y + h / 2))
        self.elements.append(
            f'<rect class="{style}" x="{_n(x - w / 2)}" y="{_n(y - h / 2)}" width="{_n(w)}" height="{_n(h)}" '
            f'rx="{_n(radius)}"/>'
        )

    def text(self, x: float, y: float, text: Text, anchor: str = "middle", size: float = SIZE, style: str = "") -> None:
        """Write one line; y is the middle of its letters, x its ``start``, ``middle`` or ``end``."""
        w = width(text, size)
        left = x - {"start": 0.0, "middle": w / 2, "end": w}[anchor]
        self._reach((left, y - size * 0.6), (left + w, y + size * 0.6))
        self.elements.append(
            f'<text{_class(style)} x="{_n(x)}" y="{_n(y + size * 0.36)}" font-size="{_n(size)}" '
            f'text-anchor="{anchor}">{_spans(text, size)}</text>'
        )

    def line(self, points: Sequence[Point]) -> None:
        """Draw a line with rounded corners through the points, with a head at the last."""
        self._reach(*points)
        end = _towards(points[-1], points[-2], _HEAD - 1)
        self.elements.append(f'<path class="line" d="{_rounded([*points[:-1], end])}"/>')
        self._head(points[-2], points[-1])

    def curve(self, points: Sequence[Point]) -> None:
        """Draw a line that leaves and reaches every point horizontally, with a head at the last."""
        self._reach(*points)
        *others, (x, y) = points
        d = f"M{_n(points[0][0])},{_n(points[0][1])}"
        for (x0, y0), (x1, y1) in zip(points, [*others[1:], (x - _HEAD + 1, y)], strict=False):
            middle = (x0 + x1) / 2
            d += f" C{_n(middle)},{_n(y0)} {_n(middle)},{_n(y1)} {_n(x1)},{_n(y1)}"
        self.elements.append(f'<path class="line" d="{d}"/>')
        self._head((x - _HEAD, y), (x, y))

    def dot(self, x: float, y: float) -> None:
        """Mark where a line divides."""
        self.elements.append(f'<circle class="head" cx="{_n(x)}" cy="{_n(y)}" r="3"/>')

    def add(self, other: "Canvas", dx: float, dy: float, style: str = "") -> None:
        """Put another drawing on this one, moved."""
        self._reach((other.left + dx, other.top + dy), (other.right + dx, other.bottom + dy))
        self.elements += [f'<g{_class(style)} transform="translate({_n(dx)},{_n(dy)})">', *other.elements, "</g>"]

    def document(self, title: str, description: str) -> str:
        """Return the whole as an SVG document; title and description are for those who hear it read out."""
        w, h = self.right - self.left + 2 * _MARGIN, self.bottom - self.top + 2 * _MARGIN
        x, y = self.left - _MARGIN, self.top - _MARGIN
        size = f'width="{_n(w)}" height="{_n(h)}" viewBox="{_n(x)} {_n(y)} {_n(w)} {_n(h)}"'
        name = _escaped(title)
        return "\n".join(
            [
                f'<svg xmlns="http://www.w3.org/2000/svg" class="{_ROOT}" role="img" aria-label="{name}" {size}>',
                f"<title>{name}</title>",
                f"<desc>{_escaped(description)}</desc>",
                f"<style>{_style()}</style>",
                f'<rect class="paper" x="{_n(x)}" y="{_n(y)}" width="{_n(w)}" height="{_n(h)}" rx="8"/>',
                *self.elements,
                "</svg>",
            ]
        )

    def _head(self, start: Point, end: Point) -> None:
        (x, y), (bx, by) = end, _towards(end, start, _HEAD)
        nx, ny = (by - y) / 2, (x - bx) / 2
        corners = " ".join(f"{_n(a)},{_n(b)}" for a, b in [(x, y), (bx + nx, by + ny), (bx - nx, by - ny)])
        self.elements.append(f'<polygon class="head" points="{corners}"/>')

    def _reach(self, *points: Point) -> None:
        self.left, self.right = min(self.left, *(p[0] for p in points)), max(self.right, *(p[0] for p in points))
        self.top, self.bottom = min(self.top, *(p[1] for p in points)), max(self.bottom, *(p[1] for p in points))


def _style() -> str:
    light, dark = ("".join(f".{_ROOT} {at}{{{rule}}}" for at, rule in rules.items()) for rules in (_LIGHT, _DARK))
    return f".{_ROOT}{{max-width:100%;height:auto}}{light}@media (prefers-color-scheme:dark){{{dark}}}"


def _spans(text: Text, size: float) -> str:
    """Return the pieces; a subscript is moved down by hand, since not every viewer knows baseline-shift."""
    parts, low, drop = [], False, _n(size * 0.28)
    for piece in text:
        move = "" if piece.subscript == low else f' dy="{drop}"' if piece.subscript else f' dy="-{drop}"'
        small = f' font-size="{_n(size * 0.75)}"' if piece.subscript else ""
        parts.append(f"<tspan{_class('weight' * piece.weight)}{move}{small}>{_escaped(piece.text)}</tspan>")
        low = piece.subscript
    return "".join(parts)


def _class(style: str) -> str:
    return f' class="{style}"' if style else ""


def _escaped(text: str) -> str:
    """Return a text that XML takes as text; what it may not hold at all, such as a null, becomes �."""
    return escape(_FORBIDDEN.sub("�", text))


def _towards(a: Point, b: Point, length: float) -> Point:
    distance = math.dist(a, b) or 1.0
    return a[0] + (b[0] - a[0]) * length / distance, a[1] + (b[1] - a[1]) * length / distance


def _rounded(points: Sequence[Point], radius: float = 9) -> str:
    d = f"M{_n(points[0][0])},{_n(points[0][1])}"
    for before, corner, after in zip(points, points[1:], points[2:], strict=False):
        r = min(radius, math.dist(before, corner) / 2, math.dist(corner, after) / 2)
        (ax, ay), (bx, by) = _towards(corner, before, r), _towards(corner, after, r)
        d += f" L{_n(ax)},{_n(ay)} Q{_n(corner[0])},{_n(corner[1])} {_n(bx)},{_n(by)}"
    return d + f" L{_n(points[-1][0])},{_n(points[-1][1])}"


def _n(number: float) -> str:
    """Return a coordinate without more digits than can be seen."""
    return f"{number:.1f}".removesuffix(".0")
