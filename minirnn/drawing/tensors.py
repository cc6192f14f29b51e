"""The graph below a Tensor: a box for each op, leaf and constant, with arrows from what it reads.

Knows of Tensors and nodes what it reads of them, and imports neither.
"""

from collections.abc import Sequence
from itertools import chain
from typing import Any, NamedTuple

from minirnn.drawing.canvas import SIZE, Canvas, fitted, plain, width
from minirnn.drawing.layout import layered

_ROOM, _SMALL, _PORT = 220, SIZE - 2, 9  # widest text, size of the second line, pixels between lines into a box


class Seen(NamedTuple):
    """What is drawn of one thing."""

    name: str  # the first line in its box
    remark: str  # the second, which may be empty
    style: str  # "input", "plain", "output" or "constant"
    inputs: Sequence[Any] = ()  # the things that it reads


def draw(tensor: Any, most: int) -> str:
    """Draw what a Tensor was made by as one SVG document; ValueError for more than ``most`` boxes."""
    root = tensor if tensor.node is None else tensor.node.box()
    seen, inputs = _walk(root)
    if len(seen) > most:
        raise ValueError(
            f"Tensor.to_svg: max_nodes must be at least the {len(seen)} boxes of this graph, got {most}: try a "
            "sequence of two or three steps, backend='fused', which makes a layer one box, or "
            f"max_nodes={len(seen)}"
        )
    if root is not tensor:
        seen[0] = seen[0]._replace(remark=f"{tensor.shape} {tensor.dtype}", style="output")
    return _document(seen, inputs, f"The graph of {tensor.label}")


def _walk(root: Any) -> tuple[list[Seen], list[list[int]]]:
    """Return everything that ``root`` is made of, itself first, and for each the numbers of its inputs.

    Things are told apart by identity. There is no recursion, however deep the graph.
    """
    things, seen, number = [root], list[Seen](), {id(root): 0}
    for thing in things:  # grows as it goes
        seen.append(_look(thing))
        for read in seen[-1].inputs:
            if id(read) not in number:
                number[id(read)] = len(things)
                things.append(read)
    return seen, [[number[id(read)] for read in what.inputs] for what in seen]


def _document(seen: Sequence[Seen], inputs: Sequence[Sequence[int]], title: str) -> str:
    """Draw what `_walk` has found as one SVG document, from left to right."""
    sizes = [_size(what) for what in seen]
    (places, lines), canvas = layered(inputs, sizes), Canvas()
    for line in chain.from_iterable(lines):
        canvas.curve(line)
    for what, (x, y), (w, h) in zip(seen, places, sizes, strict=True):
        canvas.box(x, y, w, h, what.style, h / 2 if what.style in ("input", "constant") else 6)
        canvas.text(x, y - 8 * bool(what.remark), plain(fitted(what.name, _ROOM)))
        if what.remark:
            canvas.text(x, y + 9, plain(fitted(what.remark, _ROOM, _SMALL)), size=_SMALL, style="muted")
    canvas.text(canvas.left, canvas.top - 22, plain(title), "start", SIZE + 1, "strong")
    return canvas.document(title, _description(seen, inputs))


def _size(what: Seen) -> tuple[float, float]:
    wide = max(width(plain(fitted(what.name, _ROOM))), width(plain(fitted(what.remark, _ROOM, _SMALL)), _SMALL))
    return max(wide + 22, 48), max(44 if what.remark else 30, (len(what.inputs) + 1) * _PORT)


def _description(seen: Sequence[Seen], inputs: Sequence[Sequence[int]]) -> str:
    said = [
        f"{what.name} of {', '.join(seen[u].name for u in read)}"
        for what, read in zip(seen, inputs, strict=True)
        if read
    ]
    return f"{len(seen)} boxes, from what is given on the left to the result on the right. {'; '.join(said)}"


def _look(thing: Any) -> Seen:
    """Describe a node, a leaf, or a constant of which nothing is known but that it is one."""
    if hasattr(thing, "edges"):
        if thing.edges is None:
            return Seen(thing.op.name, "used up by backward()", "constant")
        return Seen(thing.op.name, "", "plain", [_drawn(x) for x in thing.inputs()])
    if not hasattr(thing, "requires_grad"):
        return Seen("constant", "", "constant")
    name = getattr(thing, "name", "") or ("leaf" if thing.requires_grad else "constant")
    return Seen(name, f"{thing.shape} {thing.dtype}", "input" if thing.requires_grad else "constant")


def _drawn(read: Any) -> Any:
    """Find the thing that is drawn for an input: each unknown constant is one of its own."""
    return object() if read is None else read.box() if hasattr(read, "edges") else read
