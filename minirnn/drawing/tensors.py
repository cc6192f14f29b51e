"""The graph below a Tensor, drawn: knows of Tensors and nodes what it reads of them, and imports neither."""

from dataclasses import replace
from typing import Any

from minirnn.drawing import graph


def draw(tensor: Any, most: int) -> str:
    """Draw what a Tensor was made by as one SVG document; see `Tensor.to_svg`.

    Raises
    ------
    ValueError
        If there are more than ``most`` boxes.
    """
    root = tensor if tensor._node is None else tensor._node.box()
    seen, inputs = graph.walk(root, _look)
    if len(seen) > most:
        raise ValueError(
            f"Tensor.to_svg: max_nodes must be at least the {len(seen)} boxes of this graph, got {most}: try a "
            "sequence of two or three steps, backend='fused', which makes a layer one box, or "
            f"max_nodes={len(seen)}"
        )
    if root is not tensor:
        seen[0] = replace(seen[0], remark=f"{tensor.shape} {tensor.dtype}", style="output")
    return graph.draw(seen, inputs, f"The graph of {tensor._label()}")


def _look(thing: Any) -> graph.Seen:
    """Return what is drawn of a node, of a leaf, or of a constant of which nothing is known but that it is one."""
    if hasattr(thing, "edges"):
        if thing.edges is None:
            return graph.Seen(thing.op.name, "used up by backward()", "constant")
        return graph.Seen(thing.op.name, "", "plain", [_drawn(x) for x in thing.inputs()])
    if not hasattr(thing, "requires_grad"):
        return graph.Seen("constant", "", "constant")
    name = getattr(thing, "name", "") or ("leaf" if thing.requires_grad else "constant")
    return graph.Seen(name, f"{thing.shape} {thing.dtype}", "input" if thing.requires_grad else "constant")


def _drawn(read: Any) -> Any:
    """Return what stands for an input: each unknown constant is one of its own."""
    return object() if read is None else read.box() if hasattr(read, "edges") else read
