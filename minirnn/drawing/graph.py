"""A graph of ops: a box for each, with arrows from what it reads."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from minirnn.drawing.canvas import Canvas
from minirnn.drawing.layout import layered
from minirnn.drawing.text import SIZE, fitted, plain, width

_ROOM, _SMALL, _PORT = 220, SIZE - 2, 9  # widest text, size of the second line, pixels between lines into a box


@dataclass(frozen=True)
class Seen:
    """What is drawn of one thing."""

    name: str  # the first line in its box
    remark: str  # the second, which may be empty
    style: str  # "input", "plain", "output" or "constant"
    inputs: Sequence[Any] = ()  # the things that it reads


def walk(root: Any, look: Callable[[Any], Seen]) -> tuple[list[Seen], list[list[int]]]:
    """Return everything that ``root`` is made of, itself first, and for each the numbers of its inputs.

    Things are told apart by identity. There is no recursion, however deep the graph.
    """
    things, seen, inputs = [root], list[Seen](), list[list[int]]()
    number = {id(root): 0}
    for thing in things:  # grows as it goes
        what = look(thing)
        seen.append(what)
        inputs.append([])
        for read in what.inputs:
            if id(read) not in number:
                number[id(read)] = len(things)
                things.append(read)
            inputs[-1].append(number[id(read)])
    return seen, inputs


def draw(seen: Sequence[Seen], inputs: Sequence[Sequence[int]], title: str) -> str:
    """Draw what `walk` has found as one SVG document, from left to right."""
    sizes = [_size(what, len(read)) for what, read in zip(seen, inputs, strict=True)]
    layout, canvas = layered(inputs, sizes), Canvas()
    for lines in layout.lines:
        for line in lines:
            canvas.curve(line)
    for what, (x, y), (w, h) in zip(seen, layout.places, sizes, strict=True):
        canvas.box(x, y, w, h, what.style, h / 2 if what.style in ("input", "constant") else 6)
        canvas.text(x, y - 8 * bool(what.remark), plain(fitted(what.name, _ROOM)))
        if what.remark:
            canvas.text(x, y + 9, plain(fitted(what.remark, _ROOM, _SMALL)), size=_SMALL, style="muted")
    canvas.text(canvas.left, canvas.top - 22, plain(title), "start", SIZE + 1, "strong")
    return canvas.document(title, _description(seen, inputs))


def _size(what: Seen, inputs: int) -> tuple[float, float]:
    wide = max(width(plain(fitted(what.name, _ROOM))), width(plain(fitted(what.remark, _ROOM, _SMALL)), _SMALL))
    return max(wide + 22, 48), max(44 if what.remark else 30, (inputs + 1) * _PORT)


def _description(seen: Sequence[Seen], inputs: Sequence[Sequence[int]]) -> str:
    said = [
        f"{what.name} of {', '.join(seen[u].name for u in read)}"
        for what, read in zip(seen, inputs, strict=True)
        if read
    ]
    return f"{len(seen)} boxes, from what is given on the left to the result on the right. {'; '.join(said)}"
