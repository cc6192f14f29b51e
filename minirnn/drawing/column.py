"""One step of a recurrent module: where its blocks stand above its input, and the lines between them.

x is counted from the middle of the column, y from the middle of the input, and upwards it falls.
"""

from collections.abc import Sequence

from minirnn.drawing.blocks import Block, Both, Box, Cell, Picture, Tower, Weight
from minirnn.drawing.canvas import SIZE, Canvas, Piece, Point, fitted, maths, parameter, plain, width

CELL, BOX, PILL = 66, 30, 26
"""Heights."""

RISE = 46
"""How long the line into a block is; its label stands beside it."""

LANE = 15
"""How far from a cell a line passes it."""

_SMALL = SIZE - 2


class Column:
    """The blocks of one step, placed; ``top`` is the y of the middle of what comes out.

    ``half`` is half the width of a cell, and ``head`` says whether the head is part of it.
    """

    def __init__(self, picture: Picture, half: float, head: bool = True) -> None:
        self.half = half
        self.placed: list[tuple[Cell | Box, float]] = []  # with the y of its middle
        self.links: list[tuple[list[Point], Weight | None]] = []  # its weight, if it has one, stands beside its end
        self.dots: list[float] = []  # the y of where a line divides
        out = self._put(picture.block, [(0.0, -PILL / 2)])
        if picture.head is not None and head:
            out = self._put(picture.head, out)
        self.top = out[-1][1] - RISE * 0.6 - PILL / 2
        self.links.append(([*out, (0.0, self.top + PILL / 2)], None))

    @property
    def cells(self) -> list[tuple[Cell, float]]:
        """The cells, from the bottom up, each with its y."""
        return [(block, y) for block, y in self.placed if isinstance(block, Cell)]

    def _put(self, block: Block, path: list[Point]) -> list[Point]:
        """Place a block where the path leads to; return where the path from it begins."""
        if isinstance(block, Tower):
            for one in block.blocks:
                path = self._put(one, path)
            return path
        if isinstance(block, Both):
            return self._put_both(block, path)
        height = CELL if isinstance(block, Cell) else BOX
        bottom = path[-1][1] - RISE
        self.links.append(([*path, (0.0, bottom)], block.into))
        self.placed.append((block, bottom - height / 2))
        return [(0.0, bottom - height)]

    def _put_both(self, block: Both, path: list[Point]) -> list[Point]:
        """Place two blocks: the input passes the lower one on the left, its output the upper one on the right."""
        lane = self.half + LANE
        divide = path[-1][1] - 12
        self.dots.append(divide)
        (_, y), *_ = of_lower = self._put(block.lower, [*path, (0.0, divide)])
        turn = y - 34
        (_, y), *_ = of_upper = self._put(block.upper, [(0.0, divide), (-lane, divide), (-lane, turn), (0.0, turn)])
        join = y - RISE * 0.6
        self.placed.append((Box("concatenate", None, block.size), join - BOX / 2))
        around = [(lane, of_lower[0][1] - 14), (lane, join - BOX / 2), (self.half, join - BOX / 2)]
        self.links += [([*of_upper, (0.0, join)], None), ([*of_lower, (0.0, around[0][1]), *around], None)]
        return [(0.0, join - BOX)]

    def draw(self, canvas: Canvas, x: float, shapes: bool) -> None:
        """Draw the column around x, the parameters with their shapes or by their names alone."""
        for points, weight in self.links:
            canvas.line([(x + dx, y) for dx, y in points])
            if weight is not None:
                label = parameter(weight.name, weight.shape if shapes else None)
                canvas.text(x + 8, points[-1][1] + 20, label, "start")
        for y in self.dots:
            canvas.dot(x, y)
        for block, y in self.placed:
            if isinstance(block, Cell):
                _draw_cell(canvas, x, y, 2 * self.half, block, shapes)
            else:
                draw_box(canvas, x, y, 2 * self.half, block)


def pill(canvas: Canvas, x: float, y: float, label: str, style: str) -> float:
    """Draw what goes in at the bottom or comes out at the top; return where it ends on the right."""
    text = maths(label)
    wide = max(width(text) + 18, 40)
    canvas.box(x, y, wide, PILL, style, PILL / 2)
    canvas.text(x, y, text)
    return x + wide / 2


def cell_width(cell: Cell) -> float:
    """Return how wide a cell must be for its biases with their shapes, its gates and its kind."""
    return max(width(_biases(cell, True), _SMALL), _gates_width(cell.gates), width(plain(cell.kind), _SMALL)) + 16


def _biases(cell: Cell, shapes: bool) -> list[Piece]:
    return [
        piece
        for i, bias in enumerate(cell.biases)
        for piece in (*plain(", " if i else "+ "), *parameter(bias.name, bias.shape if shapes else None))
    ]


def _gates_width(gates: Sequence[str]) -> float:
    return sum(max(width(plain(gate)) + 10, 19) + 3 for gate in gates) - 3


def _draw_cell(canvas: Canvas, x: float, y: float, w: float, cell: Cell, shapes: bool) -> None:
    canvas.box(x, y, w, CELL, "cell")
    lines = ([cell.kind] if shapes else []), _biases(cell, shapes)
    middle = y + (8 if lines[0] and not lines[1] else -8 if lines[1] and not lines[0] else 0)
    for kind in lines[0]:
        canvas.text(x, y - 22, plain(fitted(kind, w - 10, _SMALL)), size=_SMALL, style="muted")
    gates = [fitted(gate, w - 22) for gate in cell.gates]
    left = x - _gates_width(gates) / 2
    for gate in gates:
        wide = max(width(plain(gate)) + 10, 19)
        canvas.box(left + wide / 2, middle, wide, 20, "gate", 4)
        canvas.text(left + wide / 2, middle, plain(gate))
        left += wide + 3
    if lines[1]:
        canvas.text(x, y + 21, lines[1], size=_SMALL)


def draw_box(canvas: Canvas, x: float, y: float, w: float, box: Box) -> None:
    """Draw a box that has no state around (x, y)."""
    canvas.box(x, y, w, BOX, "plain")
    canvas.text(x, y, plain(fitted(box.kind, w - 8, _SMALL)), size=_SMALL)
