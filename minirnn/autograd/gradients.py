"""`grad`: gradients as values rather than in ``.grad``, and the recorded pass that makes them differentiable again."""

from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any

import numpy as np

from minirnn.arguments import Array
from minirnn.autograd import op, ops, tape
from minirnn.autograd.modes import MODE, RECORD, check_finite
from minirnn.autograd.tape import KernelNode, Node
from minirnn.autograd.tensor import Tensor, anomaly_check, apply, receiver_of, seed_of, start_of, wrap


def grad(
    output: Tensor,
    inputs: Tensor | Sequence[Tensor],
    *,
    gradient: Any = None,
    retain_graph: bool = False,
    create_graph: bool = False,
) -> tuple[Tensor, ...]:
    """Return the gradients of ``output`` with respect to ``inputs`` and leave every ``grad`` alone.

    Parameters
    ----------
    output : Tensor
    inputs : Tensor or sequence of Tensors
        Leaves or outputs of ops. One that ``output`` does not depend on gets zeros.
    gradient : array_like or Tensor, optional
        The gradient entering at ``output``; may be left out for a single number.
    retain_graph : bool
        Keep the graph for another pass.
    create_graph : bool
        Record the pass itself, so that the gradients can be differentiated again; keeps the graph too.

    Returns
    -------
    tuple of Tensors
        In the order of ``inputs``, each in its input's shape and dtype.

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
    root = start_of(output, "grad")
    seed = seed_of(output, gradient, "grad")
    targets = [receiver_of(x) for x in inputs]
    only = tape.between(root, targets)
    nodes = [t for t in targets if isinstance(t, Node)]
    if create_graph:
        start = gradient.astype(output.dtype) if isinstance(gradient, Tensor) else wrap(seed, None)
        token = MODE.set(MODE.get() | RECORD)  # what is asked for is recorded, within no_grad too
        try:
            totals = _run_recorded(root, start, only, nodes)
        finally:
            MODE.reset(token)
    else:
        totals = tape.run(root, seed, retain_graph=retain_graph, only=only, capture=nodes, check=anomaly_check())
    return tuple(_result(totals.get(t), x, i) for i, (t, x) in enumerate(zip(targets, inputs, strict=True)))


def _result(g: Any, x: Tensor, i: int) -> Tensor:
    if g is None:
        return wrap(np.zeros_like(x._data), None)
    if x._hooks:
        g = tape.call_hooks(x._hooks, g)
    result = g.astype(x.dtype) if isinstance(g, Tensor) else wrap(np.array(g, dtype=x.dtype), None)
    check_finite(result._data, f"the gradient of inputs[{i}]", "look at the ops that it goes into")
    return result


# --- recorded passes (create_graph) ----------------------------------------------------------------------------------


def _run_recorded(root: Any, seed: Tensor, only: set[Any], capture: list[Any]) -> dict[Any, Any]:
    place = partial(apply, ops.place)
    return tape.run(root, seed, retain_graph=True, only=only, capture=capture, open=_open_recorded, place=place)


def _open_recorded(node: Node, g: Any) -> Iterable[Any]:
    """Return a node's edges with Tensors for the values kept, so that what the rules do is recorded."""
    if isinstance(node, KernelNode):
        return tape.edges_with(_rerun(node, g))
    if type(node) is not Node:
        return node.open(g)
    edges = []
    for j, edge in enumerate(node.edges):
        if edge is not None:
            receiver, vjp, kept = edge
            roles = node.op.rules[0 if node.op.variadic else j].roles
            edges.append((receiver, vjp, [_in_the_graph(node, v, role) for v, role in zip(kept, roles, strict=True)]))
    return edges


def _in_the_graph(node: Node, value: Any, role: int | None) -> Any:
    """Give a kept value its place in the graph back."""
    if role is None:
        return value
    if role == op.OUTPUT:
        return wrap(value, node)
    edge = node.edges[role]
    return value if edge is None else _at(edge[0], value)


def _at(receiver: Any, value: Array) -> Tensor:
    return receiver if isinstance(receiver, Tensor) else wrap(value, receiver)


def _rerun(node: KernelNode, received: Any) -> list[tuple[Any, Any]]:
    """Go through a kernel by way of its ops: run them again, and back through them."""
    receivers, _, _, rerun, arrays = node.edges
    # Identities fence the rerun off: gradients stop at them, so each input gets its own share and no more.
    inputs: list[Tensor | None] = []
    fences: dict[Any, Any] = {}
    for receiver, array in zip(receivers, arrays, strict=True):
        if receiver is None:
            inputs.append(None if array is None else wrap(array, None))
        else:
            fence = apply(ops.identity, _at(receiver, array))
            fences[fence._node] = receiver
            inputs.append(fence)
    outputs = rerun(*inputs)
    totals: dict[Any, Any] = {}
    for i, g in received.items():
        root = outputs[i]._node
        if root is not None:
            for fence, gi in _run_recorded(root, g, tape.between(root, fences), list(fences)).items():
                totals[fence] = totals[fence] + gi if fence in totals else gi
    return [(receiver, totals[fence]) for fence, receiver in fences.items() if fence in totals]
