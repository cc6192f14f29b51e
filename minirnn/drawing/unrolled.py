"""A recurrent module as in figures 14-1 and 14-2 of the notes: its cell with the loop, and unrolled through time.

The two panels draw the same `Column`: once with loops, and once for each step with the state going from one to the
next. Of a long sequence the first steps and the last stand for all.
"""

from collections.abc import Sequence
from itertools import pairwise

from minirnn.drawing import inside
from minirnn.drawing.blocks import Block, Both, Box, Cell, Picture, Tower, Weight, last
from minirnn.drawing.canvas import SIZE, Canvas, Piece, Point, Text, fitted, maths, parameter, plain, width

CELL, BOX, PILL = 66, 30, 26  # heights
RISE = 46  # how long the line into a block is; its label stands beside it
LANE = 15  # how far from a cell a line passes it
SHOWN = 5  # longest sequence whose steps are all drawn
_SMALL = SIZE - 2
_HALF = 48  # half the width of a cell that is one of many
_GAP, _END = 78, 56  # between such cells, and how long the arrows at both ends are
_DOTS = 16  # half the width of the dots that stand for the steps left out
_OTHER = 14  # how far the state's second line lies from the middle of a cell, and the first on its other side
_WIDEST = 300


def draw(picture: Picture, T: int) -> str:
    """Draw a recurrent module as one SVG document."""
    folded, steps = _folded(picture), _Unrolled(picture, T).canvas
    paper, across = Canvas(), folded.right - steps.left + 44
    paper.add(folded, 0, 0)
    paper.add(steps, across, 0)
    top, left = paper.top - 26, paper.left
    many = "1 step" if T == 1 else f"{T:,} steps, the same weights at each"
    paper.text(left, top, plain("with its loop"), "start", style="muted")
    paper.text(across + steps.left, top, plain(f"unrolled through time, T = {many}"), "start", style="muted")
    title = fitted(picture.title, paper.right - left, SIZE + 1)
    paper.text(left, top - 30, plain(title), "start", SIZE + 1, "strong")
    below = paper.bottom + 30
    equations = [maths(equation) for equation in picture.equations]
    for i, equation in enumerate(equations):
        paper.text(left, below + 22 * i, equation, "start")
    if picture.inside:
        step = inside.draw(picture.inside)
        beside = left + max(map(width, equations)) + 44
        paper.text(beside, below, plain("inside a step"), "start", style="muted")
        paper.add(step, beside - step.left, below + 22 - step.top, "inside")
    return paper.document(picture.title, _description(picture, T))


def _description(picture: Picture, T: int) -> str:
    parts = [
        f"{cell.kind} with {', '.join(cell.gates)}, {cell.letter} = {cell.size}, going "
        f"{'back' if cell.reverse else 'forward'} in time, its state {', '.join(cell.states)} fed back through "
        f"{cell.around.name} {cell.around.shape}, its input through {cell.into.name} {cell.into.shape}"
        for cell, _ in Column(picture, _HALF).cells
    ]
    return f"Left: the cell with its loop. Right: unrolled over T = {T} steps. From the bottom up: {'; '.join(parts)}."


def _letter(picture: Picture, head: bool = True) -> str:
    """Name the output: o of a head, y of two directions, h of a layer."""
    return "o" if picture.head is not None and head else "y" if len(last(picture.block)) > 1 else "h"


# --- the cell with its loop ------------------------------------------------------------------------------------------


def _folded(picture: Picture) -> Canvas:
    canvas, narrow = Canvas(), Column(picture, _HALF)
    halves = [_HALF, *(min(cell_width(cell), _WIDEST) / 2 for cell, _ in narrow.cells)]
    if narrow.dots:  # the label of a line stands between it and the line that passes
        halves += [width(parameter(cell.into.name, cell.into.shape)) + 8 for cell, _ in narrow.cells]
    column = Column(picture, max(halves))
    for cell, y in column.cells:
        _loop(canvas, y, column.half, cell)
    column.draw(canvas, 0, shapes=True)
    pill(canvas, 0, 0, "x_{t}", "input", "class ids" if picture.size is None else f"D = {picture.size}")
    top = column.placed[-1][0]
    letter = getattr(top, "letter", "H") if picture.head is None else "P"
    remark = "" if top.size is None else f"{letter} = {top.size}"
    pill(canvas, 0, column.top, f"{_letter(picture)}_{{{'t' if picture.every else 'last'}}}", "output", remark)
    return canvas


def _loop(canvas: Canvas, y: float, half: float, cell: Cell) -> None:
    """Draw the state that comes back to the cell it left: on the right, or on the left if it goes back in time."""
    side, anchor, before = (-1, "end", "t+1") if cell.reverse else (1, "start", "t−1")
    first, *others = cell.states
    for height, reach in [(22, 44), (10, 24)][: 1 + bool(others)]:
        edge, far = side * half, side * (half + reach)
        canvas.line([(edge, y - height), (far, y - height), (far, y + height), (edge, y + height)])
    x, middle = side * (half + 54), y - 9 * bool(others)
    canvas.text(x, middle - 9, maths(f"{first}_{{{before}}}"), anchor)
    canvas.text(x, middle + 9, parameter(cell.around.name, cell.around.shape), anchor)
    if others:
        canvas.text(x, y + 20, _others(others, before), anchor)


def _others(names: Sequence[str], t: str) -> Text:
    """Return the label of what the state holds beside h: at most three names."""
    if len(names) == 1 and len(names[0]) == 1:
        return maths(f"{names[0]}_{{{t}}}")
    return plain(", ".join(names) if len(names) <= 3 else f"{names[0]} … {names[-1]}")


# --- unrolled --------------------------------------------------------------------------------------------------------


class _Unrolled:
    """The right panel: a column for each step shown, None standing for those that are not."""

    def __init__(self, picture: Picture, T: int) -> None:
        self.picture, self.T, self.canvas = picture, T, Canvas()
        self.steps: list[int | None] = list(range(T)) if T <= SHOWN else [0, 1, 2, None, T - 1]
        column = Column(picture, _HALF)
        lanes = 2 * LANE * bool(column.dots)
        self.end = _HALF + _END + lanes
        self.x = {step: i * (2 * _HALF + _GAP + lanes) for i, step in enumerate(self.steps)}
        for cell, y in column.cells:
            self._state(cell, y)
        for step in self.steps:
            self._column(step)
        if picture.head is not None and not picture.every and len(last(picture.block)) > 1:
            self._head_of_both(picture.head)

    def _name(self, t: int) -> str:
        """Return the subscript of step t: a number, or one counted from a distant end."""
        return str(t) if self.T <= SHOWN or t < 4 else f"T−{self.T - t}"

    def _column(self, step: int | None) -> None:
        x, ways = self.x[step], last(self.picture.block)
        # A head that reads the last step only stands there; of two ways it reads both.
        full = self.picture.every or (len(ways) < 2 and step == (0 if True in ways else self.T - 1))
        column = Column(self.picture, _HALF, full)
        if step is None:
            for y in [0.0, column.top, *(y for _, y in column.cells)]:
                self.canvas.text(x, y, plain("⋯"), size=SIZE + 7)
            return
        t = f"_{{{self._name(step)}}}"
        column.draw(self.canvas, x, shapes=False)
        pill(self.canvas, x, 0, f"x{t}", "input")
        pill(self.canvas, x, column.top, f"{_letter(self.picture, full)}{t}", "output" if full else "plain")

    def _head_of_both(self, head: Box) -> None:
        """Draw the head of two directions, above all steps: it reads what each returned at its own last step."""
        y = Column(self.picture, _HALF, head=False).top - PILL / 2
        left, right = self.x[0], self.x[self.T - 1]
        middle, box = (left + right) / 2, y - RISE - BOX / 2
        reads = {left: "the backward half", right: "the forward half"} if left < right else {left: "both halves"}
        for x, half in reads.items():
            self.canvas.line([(x, y), (x, y - RISE)])
            self.canvas.text(x + 8, y - 22, plain(half), "start")
        draw_box(self.canvas, middle, box, right - left + 2 * _HALF, head)
        top = box - BOX / 2 - RISE * 0.6
        self.canvas.line([(middle, box - BOX / 2), (middle, top)])
        pill(self.canvas, middle, top - PILL / 2, "o_{last}", "output")

    def _state(self, cell: Cell, y: float) -> None:
        """Draw the arrows between the steps of one cell, in the order in which they are processed."""
        way = -1 if cell.reverse else 1
        order = self.steps[::way]
        start, end = self.x[order[0]] - way * self.end, self.x[order[-1]] + way * self.end
        half = {step: way * (_DOTS if step is None else _HALF) for step in order}
        begins = [start, *(self.x[step] + half[step] for step in order)]
        ends = [*(self.x[step] - half[step] for step in order), end]
        came_from = [(after or 0) - way if step is None else step for step, after in pairwise([*order, None])]
        for a, b, source in zip(begins, ends, [None, *came_from], strict=True):
            self._arrows(cell, y, (a, b), source, b != end)
        for x, word, out in ((start, "initial", -way), (end, "final", way)):
            for dy, line in ((-8, word), (8, "state")):
                self.canvas.text(x + 6 * out, y + dy, plain(line), "end" if out < 0 else "start", style="muted")

    def _arrows(self, cell: Cell, y: float, span: Point, source: int | None, goes_on: bool) -> None:
        """Draw what goes from one step to the next: h, and on a line of its own what the state holds beside it."""
        (start, end), (_, *others) = span, cell.states
        middle, first = (start + end) / 2, y - _OTHER * bool(others)
        self.canvas.line([(start, first), (end, first)])
        name = [] if source is None else [*maths(f"h_{{{self._name(source)}}}"), *plain(" ")]
        self.canvas.text(middle, first - 12, [*name, *(parameter(cell.around.name) if goes_on else [])])
        if others:
            self.canvas.line([(start, y + _OTHER), (end, y + _OTHER)])
            if source is not None:
                self.canvas.text(middle, y + _OTHER + 13, _others(others, self._name(source)))


# --- one step ---------------------------------------------------------------------------------------------------------
# x is counted from the middle of the column, y from the middle of the input, and upwards it falls.


class Column:
    """The blocks of one step, placed; ``top`` is the y of the middle of what comes out.

    ``half`` is half the width of a cell, and ``head`` says whether the head is part of it.
    """

    def __init__(self, picture: Picture, half: float, head: bool = True) -> None:
        self.half = half
        self.placed: list[tuple[Cell | Box, float]] = []  # with the y of its middle
        self.links: list[tuple[list[Point], Weight | None]] = []  # its weight, if it has one, stands beside its end
        self.dots: list[float] = []  # the y of where a line divides
        with_head = [picture.head] if picture.head is not None and head else []
        out = self._put(Tower([picture.block, *with_head]), [(0.0, -PILL / 2)])
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


def pill(canvas: Canvas, x: float, y: float, label: str, style: str, remark: str | None = None) -> None:
    """Draw what goes in at the bottom or comes out at the top, and a remark beside it."""
    text = maths(label)
    wide = max(width(text) + 18, 40)
    canvas.box(x, y, wide, PILL, style, PILL / 2)
    canvas.text(x, y, text)
    if remark is not None:
        canvas.text(x + wide / 2 + 8, y, plain(remark), "start", style="muted")


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
    return sum(_gate_width(gate) + 3 for gate in gates) - 3


def _gate_width(gate: str) -> float:
    return max(width(plain(gate)) + 10, 19)


def _draw_cell(canvas: Canvas, x: float, y: float, w: float, cell: Cell, shapes: bool) -> None:
    canvas.box(x, y, w, CELL, "cell")
    biases = _biases(cell, shapes)
    if shapes:
        canvas.text(x, y - 22, plain(fitted(cell.kind, w - 10, _SMALL)), size=_SMALL, style="muted")
    gates = [fitted(gate, w - 22) for gate in cell.gates]
    left, middle = x - _gates_width(gates) / 2, y + 8 * (shapes - bool(biases))
    for gate in gates:
        wide = _gate_width(gate)
        canvas.box(left + wide / 2, middle, wide, 20, "gate", 4)
        canvas.text(left + wide / 2, middle, plain(gate))
        left += wide + 3
    if biases:
        canvas.text(x, y + 21, biases, size=_SMALL)


def draw_box(canvas: Canvas, x: float, y: float, w: float, box: Box) -> None:
    """Draw a box that has no state around (x, y)."""
    canvas.box(x, y, w, BOX, "plain")
    canvas.text(x, y, plain(fitted(box.kind, w - 8, _SMALL)), size=_SMALL)
