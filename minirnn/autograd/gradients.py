"""`backward`, which leaves gradients in ``.grad``, and `grad`, which returns them and can record how they were made."""

import threading
import weakref
from collections.abc import Iterable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from minirnn.arguments import Array, as_array_like
from minirnn.autograd import ops, shapes, tape
from minirnn.autograd.modes import RECORD, anomaly, check_finite, switched
from minirnn.autograd.op import OUTPUT
from minirnn.autograd.record import KernelNode, OutputNode, apply, edges_with, receiver_of, unary, wrap
from minirnn.autograd.tape import Node

if TYPE_CHECKING:
    from minirnn.autograd.tensor import Tensor

RETAINED: "weakref.WeakKeyDictionary[Node, weakref.ref[Tensor]]" = weakref.WeakKeyDictionary()
"""Outputs of ops whose gradient `backward` leaves in ``grad`` too."""

_ACCUMULATE = threading.Lock()  # threads that share a leaf add to its .grad one after the other


def backward(self: "Tensor", gradient: Any = None, *, retain_graph: bool = False) -> None:
    """Add the gradient of this Tensor with respect to each leaf to the leaf's ``grad``.

    Parameters
    ----------
    gradient : array_like, optional
        The gradient of the loss with respect to this Tensor, in its shape; may be left out for a single number.
    retain_graph : bool
        Keep the graph for another pass; otherwise it is freed as the pass goes.

    Raises
    ------
    RuntimeError
        If nothing was recorded; FreedGraphError if the graph has been used up, ChangedParameterError if a parameter has
        changed since the forward pass. No ``grad`` has changed then.
    ValueError
        If ``gradient`` is missing or has another shape.
    """
    root, seed = _start(self, gradient, "backward")
    retained = [node for ref in RETAINED.keyrefs() if (node := ref()) is not None] if RETAINED else []
    totals = tape.run(root, seed, retain_graph=retain_graph, capture=retained, check=_check if anomaly() else None)
    seen = {id(seed)}
    ready = []
    for receiver, g in totals.items():
        tensor = receiver if isinstance(receiver, Tensor) else RETAINED[receiver]()
        if tensor is None:
            continue
        if tensor.hooks:
            g = tape.call_hooks(tensor.hooks, np.asarray(g))
        if type(g) is not np.ndarray or g.dtype is not tensor._data.dtype:
            g = np.asarray(g, dtype=tensor._data.dtype)
        if g.base is not None or id(g) in seen:
            g = g.copy()  # each owns its grad: rules may hand the same array, or views of it, to several inputs
        seen.add(id(g))
        if anomaly():
            check_finite(g, f"the gradient of {tensor.label}", "look at the ops that it goes into")
        ready.append((tensor, g))
    with _ACCUMULATE:  # the only thing a pass changes, and it comes last
        for tensor, g in ready:
            tensor._grad = g if tensor._grad is None else tensor._grad + g


def grad(
    output: "Tensor",
    inputs: "Tensor | Sequence[Tensor]",
    *,
    gradient: Any = None,
    retain_graph: bool = False,
    create_graph: bool = False,
) -> "tuple[Tensor, ...]":
    """Return the gradients of ``output`` with respect to ``inputs``, in their order, and leave every ``grad`` alone.

    Parameters
    ----------
    output : Tensor
    inputs : Tensor or sequence of Tensors
        Leaves or outputs of ops; each gradient has its input's shape and dtype. One that ``output`` does not depend on
        gets zeros.
    gradient : array_like or Tensor, optional
        The gradient entering at ``output``; may be left out for a single number.
    retain_graph : bool
        Keep the graph for another pass.
    create_graph : bool
        Record the pass itself, so that the gradients can be differentiated again; keeps the graph too.

    >>> import minirnn as mr
    >>> x = mr.Tensor(3.0, requires_grad=True)
    >>> (dx,) = mr.grad(x**3, x, create_graph=True)
    >>> (ddx,) = mr.grad(dx, x)
    >>> dx.item(), ddx.item()
    (27.0, 18.0)
    """
    inputs = [inputs] if isinstance(inputs, Tensor) else list(inputs)
    for i, x in enumerate(inputs):
        if receiver_of(x) is None:
            raise ValueError(f"grad: inputs[{i}] does not require a gradient: {x!r}")
    root, seed = _start(output, gradient, "grad")
    targets = [receiver_of(x) for x in inputs]
    only = between(root, targets)
    nodes = [t for t in targets if isinstance(t, Node)]
    if create_graph:
        start = gradient.astype(output.dtype) if isinstance(gradient, Tensor) else wrap(seed)
        with switched(on=RECORD):  # what is asked for is recorded, within no_grad too
            totals = _run_recorded(root, start, only=only, capture=nodes)
    else:
        totals = tape.run(
            root, seed, retain_graph=retain_graph, only=only, capture=nodes, check=_check if anomaly() else None
        )
    return tuple(_result(totals.get(t), x, i) for i, (t, x) in enumerate(zip(targets, inputs, strict=True)))


def _result(g: Any, x: "Tensor", i: int) -> "Tensor":
    if g is None:
        return wrap(np.zeros_like(x._data))
    if x.hooks:
        g = tape.call_hooks(x.hooks, g)
    result = g.astype(x.dtype) if isinstance(g, Tensor) else wrap(np.array(g, dtype=x.dtype))
    check_finite(result._data, f"the gradient of inputs[{i}]", "look at the ops that it goes into")
    return result


# --- where a pass starts, where it goes, what looks at it ------------------------------------------------------------


def _start(output: "Tensor", gradient: Any, caller: str) -> tuple[Any, Array]:
    """Return the node, or leaf, where a pass from ``output`` starts, and the gradient that enters: given, or 1."""
    if (root := receiver_of(output)) is None:
        raise RuntimeError(
            f"{caller}: nothing was recorded for this Tensor: no input of its computation has requires_grad=True, "
            "or it ran under no_grad()"
        )
    if gradient is None:
        if output.size != 1:
            raise ValueError(
                f"{caller}: a Tensor of shape {output.shape} needs a gradient of that shape; "
                f"reduce it to one number first (.sum(), .mean()), or pass gradient="
            )
        return root, np.ones(output.shape, output.dtype)
    return root, as_array_like(gradient, output, f"{caller}: gradient")


def between(root: Any, targets: Iterable[Any]) -> set[Any]:
    """Return the nodes and leaves that lie on a path from ``root`` to a target, ends included."""
    targets = set(targets)
    # What is older than every target cannot lead to one; leaves have no number, so they may be anywhere.
    oldest = max((t.number if isinstance(t, Node) else 1 for t in targets), default=1)
    reachable = {root}
    todo = [root]
    for node in todo:  # grows as it goes
        if isinstance(node, Node) and node.number < oldest:
            if node.edges is None:
                raise tape.FreedGraphError(tape.freed(node))
            new = [r for r in node.receivers() if r not in reachable]
            reachable.update(new)
            todo += new
    useful = reachable & targets
    nodes = (node for node in todo if isinstance(node, Node) and node.number < oldest)
    for node in sorted(nodes, key=lambda node: -node.number):  # oldest first: inputs before what uses them
        if any(receiver in useful for receiver in node.receivers()):
            useful.add(node)
    return useful


def _check(g: Any, node: Node) -> None:
    """Look at a gradient of a pass within `detect_anomaly`."""
    if isinstance(node, OutputNode):
        return  # its kernel's node is next, and gets this gradient with those of the other outputs
    if hasattr(node.op, "check_gradients"):
        node.op.check_gradients(g)
    else:
        for part in g.values() if isinstance(g, dict) else (g,):
            check_finite(np.asarray(part), f"the gradient of the output of {node.op.name}", "look at what follows it")


# --- recorded passes (create_graph) ----------------------------------------------------------------------------------


def _open_recorded(node: Node, g: Any) -> Iterable[Any]:
    """Return a node's edges with Tensors for the values saved, so that what the rules do is recorded."""
    if isinstance(node, KernelNode):
        return edges_with(_rerun(node, g))
    if type(node) is not Node:
        return node.open(g)
    rules = node.op.rules * (len(node.edges) if node.op.variadic else 1)
    return [
        (edge[0], edge[1], [_in_the_graph(node, v, role) for v, role in zip(edge[2], rule.roles, strict=True)])
        for edge, rule in zip(node.edges, rules, strict=True)
        if edge is not None
    ]


def _in_the_graph(node: Node, value: Any, role: int | None) -> Any:
    """Give a saved value its place in the graph back; what is no input that wants a gradient is a constant."""
    if role is None or (role != OUTPUT and node.edges[role] is None):
        return value
    return _at(node if role == OUTPUT else node.edges[role][0], value)


def _at(receiver: Any, value: Array) -> "Tensor":
    return receiver if isinstance(receiver, Tensor) else wrap(value, receiver)


def _rerun(node: KernelNode, received: Any) -> list[tuple[Any, Any]]:
    """Go through a kernel by way of its ops: run them again, and back through them."""
    receivers, _, _, rerun, arrays = node.edges
    # Identities fence the rerun off: gradients stop at them, so each input gets its own share and no more.
    inputs: list[Any] = [
        unary(ops.identity, _at(receiver, array)) if receiver is not None else None if array is None else wrap(array)
        for receiver, array in zip(receivers, arrays, strict=True)
    ]
    fences = {x.node: receiver for x, receiver in zip(inputs, receivers, strict=True) if receiver is not None}
    outputs = rerun(*inputs)
    totals: dict[Any, Any] = {}
    for i, g in received.items():
        if (root := outputs[i].node) is not None:
            for fence, gi in _run_recorded(root, g, only=between(root, fences), capture=fences).items():
                totals[fence] = totals[fence] + gi if fence in totals else gi
    return [(receiver, totals[fence]) for fence, receiver in fences.items() if fence in totals]


_run_recorded = partial(tape.run, retain_graph=True, open=_open_recorded, add_at=partial(apply, shapes.scatter_add))
