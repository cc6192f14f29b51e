"""What happens within a step: a cell's gates and paths, from what enters on the left to what leaves on the right."""

from collections.abc import Sequence
from itertools import chain

from minirnn.drawing.blocks import Part
from minirnn.drawing.canvas import SIZE, Canvas, maths, plain, width
from minirnn.drawing.layout import layered

_SMALL, _PORT, _PILL = SIZE - 2, 9, 26  # size of a gate's activation, pixels between lines into a box, a pill's height


def draw(parts: Sequence[Part]) -> Canvas:
    """Draw the parts of a cell; the first one, which reads what leaves it, is not shown."""
    sizes = [_size(part) for part in parts]
    given = [v for v, part in enumerate(parts) if part.style == "input"]
    (places, lines), canvas = layered([part.inputs for part in parts], sizes, leftmost=given), Canvas()
    for line in chain.from_iterable(lines[1:]):
        canvas.curve(line)
    for part, (x, y), (w, h) in [*zip(parts, places, sizes, strict=True)][1:]:
        canvas.box(x, y, w, h, part.style, h / 2 if part.style in ("input", "output", "op") else 6)
        canvas.text(x, y - 8 * bool(part.remark), maths(part.name))
        if part.remark:
            canvas.text(x, y + 9, plain(part.remark), size=_SMALL, style="muted")
    return canvas


def _size(part: Part) -> tuple[float, float]:
    wide = max(width(maths(part.name)), width(plain(part.remark), _SMALL))
    if part.style == "op":
        return max(wide + 12, 26), 26
    high = 40 if part.remark else _PILL
    return max(wide + 18, 40), max(high, (len(part.inputs) + 1) * _PORT)
