"""`backward`, which leaves gradients in ``.grad``; `grad`, which returns them and can record how they were made.

And `gradcheck`, which holds them against central differences, entry by entry.
"""

import threading
import weakref
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from minirnn.arguments import Array, as_array_like
from minirnn.autograd import ops, shapes, tape
from minirnn.autograd.modes import ANOMALY, MODE, RECORD, anomaly, check_finite, switched
from minirnn.autograd.op import OUTPUT
from minirnn.autograd.record import KernelNode, OutputNode, apply, receiver_of, straight, unary, wrap
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
    """
    root, seed = _start(self, gradient, "backward", "backward: gradient")
    retained = [node for ref in refs if (node := ref()) is not None] if (refs := RETAINED.keyrefs()) else ()
    checking = MODE.get() & ANOMALY
    totals = None if checking or retained else straight(root, seed, retain_graph)
    if totals is None:
        totals = tape.run(root, seed, retain_graph=retain_graph, capture=retained, check=_check if checking else None)
    for node in retained:
        if (g := totals.pop(node, None)) is not None and (tensor := RETAINED[node]()) is not None:
            totals[tensor] = g
    seen = {id(seed)}
    for tensor, g in totals.items():
        if tensor.hooks:
            g = tape.call_hooks(tensor.hooks, np.asarray(g))
        if type(g) is not np.ndarray or g.dtype is not tensor._data.dtype:
            g = np.asarray(g, dtype=tensor._data.dtype)
        if g.base is not None or id(g) in seen:
            g = g.copy()  # each owns its grad: rules may hand the same array, or views of it, to several inputs
        seen.add(id(g))
        if checking:
            check_finite(g, f"the gradient of {tensor.label}", "look at the ops that it goes into")
        totals[tensor] = g
    with _ACCUMULATE:  # the only thing a pass changes, and it comes last
        for tensor, g in totals.items():
            tensor._grad = g if tensor._grad is None else tensor._grad + g


def forget(leaves: "Iterable[Tensor]") -> None:
    """Set the ``grad`` of each to None."""
    for leaf in leaves:
        leaf._grad = None


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
    inputs : Tensor or sequence of Tensors
        Leaves or outputs of ops; each gradient has its input's shape and dtype. One that ``output`` does not depend on
        gets zeros.
    gradient, retain_graph
        As for `backward`; a gradient that is a Tensor can be differentiated too.
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
    root, seed = _start(output, gradient, "grad", "grad: gradient")
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


def _start(output: "Tensor", gradient: Any, caller: str, argument: str) -> tuple[Any, Array]:
    """Find the node, or leaf, where a pass from ``output`` starts, and the gradient that enters: given, or 1."""
    if (root := output.node or (output if output._requires_grad else None)) is None:
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
    return root, as_array_like(gradient, output._data, argument)


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
    """Make edges with Tensors for the values saved, so that what the rules do is recorded."""
    if isinstance(node, KernelNode):
        return _rerun(node, g)
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


def _rerun(node: KernelNode, received: Any) -> list[tuple[Any, None, Any]]:
    """Go through a kernel by way of its ops: run them again, and back through them; return edges without a rule."""
    receivers, _, rerun, arrays, _ = node.edges
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
    return [(receiver, None, totals[fence]) for fence, receiver in fences.items() if fence in totals]


_run_recorded = partial(tape.run, retain_graph=True, open=_open_recorded, add_at=partial(apply, shapes.scatter_add))


# --- the numerical check ---------------------------------------------------------------------------------------------


class GradcheckError(AssertionError):
    """A gradient disagrees with the central difference."""


def gradcheck(
    f: Callable[..., Any],
    inputs: "Tensor | Sequence[Tensor]",
    *,
    eps: float = 1e-6,
    atol: float = 1e-7,
    rtol: float = 1e-5,
    names: Sequence[str] | None = None,
) -> bool:
    """Compare the gradient of ``f`` with ``(L(x + eps) − L(x − eps)) / (2 eps)`` at every entry of every input.

    ``L = Σ v·output`` over all outputs, with fixed random weights v of size ½ … 1½, so that every output takes part and
    none cancels another.

    Parameters
    ----------
    f : callable
        Called with ``inputs``; returns a Tensor, or a tuple, list or dict of them, nested as you like. It may use the
        inputs by other ways too (a layer's own parameters): they are changed in place and put back.
    inputs : Tensor or sequence of Tensors
        float64 leaves. Those that require a gradient are checked, every entry of them.
    eps : float
        Step of the difference; its error is about eps²·f‴ + 1e-16·L/eps.
    atol, rtol : float
        A difference up to ``atol + rtol·|numerical|`` passes.
    names : sequence of str, optional
        What errors call the inputs.

    Raises
    ------
    GradcheckError
        Naming the input, the worst entry, and both values; otherwise the answer is True.
    TypeError, ValueError
        If no input requires a gradient, or one that does is not a float64 leaf; if ``f`` is random.

    >>> import minirnn as mr
    >>> import numpy as np
    >>> x = mr.Tensor(np.array([0.1, 0.2]), requires_grad=True)
    >>> mr.gradcheck(lambda x: mr.tanh(x) * x, [x])
    True
    """
    tensors = [inputs] if isinstance(inputs, Tensor) else list(inputs)
    checked = _to_check(tensors, names)
    outputs = _tensors_in(f(*tensors))
    if not outputs:
        raise TypeError("gradcheck: f must return a Tensor, or a tuple, list or dict of Tensors")
    rng = np.random.default_rng(0)
    weights = [rng.choice([-1.0, 1.0], y.shape) * rng.uniform(0.5, 1.5, y.shape) for y in outputs]

    def projected(outputs: "Iterable[Tensor]") -> Any:
        return sum(((y * v).sum() for y, v in zip(outputs, weights, strict=True)), start=0.0)

    def value() -> float:
        return float(projected(_tensors_in(f(*tensors))))  # recorded, since f may call grad itself

    loss = projected(outputs)
    if abs(value() - loss.item()) > 1e-9 * (1 + abs(loss.item())):
        raise ValueError(
            "gradcheck: f gave two different values for the same inputs; seed what is random within it, on every call"
        )
    wanted = [tensor for _, tensor in checked]
    gradients = grad(loss, wanted) if loss.requires_grad else [Tensor(np.zeros(t.shape)) for t in wanted]
    for (name, tensor), g in zip(checked, gradients, strict=True):
        analytic, numerical = g.numpy(), _central_difference(value, tensor, eps)
        error = np.abs(analytic - numerical)
        wrong = ~(error <= atol + rtol * np.abs(numerical))  # also where either is NaN
        if wrong.any():
            worst = np.unravel_index(np.argmax(np.where(wrong, np.nan_to_num(error, nan=np.inf), -1.0)), error.shape)
            raise GradcheckError(
                f"gradcheck: the gradient of {name} is wrong at {[*map(int, worst)]}: backward gives "
                f"{analytic[worst]:.10g}, the central difference {numerical[worst]:.10g} ({int(wrong.sum())} of "
                f"{wrong.size} entries differ by more than {atol:g} + {rtol:g}·|value|)"
            )
    return True


def _to_check(tensors: Sequence[Any], names: Sequence[str] | None) -> "list[tuple[str, Tensor]]":
    """Choose the inputs that require a gradient, each with what errors call it."""
    called = [f"inputs[{i}]" for i in range(len(tensors))] if names is None else names
    if len(called) != len(tensors):
        raise ValueError(f"gradcheck: expected {len(tensors)} names, one for each input, got {len(called)}")
    for name, t in zip(called, tensors, strict=True):
        if not isinstance(t, Tensor) or (t.requires_grad and (t.node is not None or t.dtype != np.float64)):
            raise TypeError(
                f"gradcheck: {name} must be a float64 leaf, got {t!r}: a central difference in lower precision "
                "is too coarse to tell right from wrong; the output of an op must be detached"
            )
    checked = [(name, t) for name, t in zip(called, tensors, strict=True) if t.requires_grad]
    if not checked:
        raise ValueError("gradcheck: no input requires a gradient, so there is nothing to check")
    return checked


def _tensors_in(result: Any) -> "list[Tensor]":
    if isinstance(result, Tensor):
        return [result]
    items = result.values() if isinstance(result, dict) else result if isinstance(result, tuple | list) else ()
    return [tensor for item in items for tensor in _tensors_in(item)]


def _central_difference(value: Callable[[], float], tensor: "Tensor", eps: float) -> Array:
    original = tensor.data
    difference = np.empty(tensor.shape)

    def value_at(entry: tuple[int, ...], step: float) -> float:
        moved = original.copy()
        moved[entry] += step
        tensor.data = moved
        return value()

    try:
        for entry in np.ndindex(tensor.shape):
            difference[entry] = (value_at(entry, eps) - value_at(entry, -eps)) / (2 * eps)
    finally:
        tensor.data = original
    return difference
