"""The tape: what each recorded op leaves behind, and the pass that sends gradients back through it.

A `Node` knows, for each input that wants a gradient, where it goes (another node, or a leaf Tensor), which rule
computes it, and the values that the rule reads (op.py). Nodes are numbered as they are made, and an op can
only use what exists already, so falling numbers are a topological order: `run` takes the newest node that has a
gradient pending until none is left. There is no recursion, and whatever the pass counts or sums lives in the call, so
a pass that is interrupted leaves nothing behind.

The graph of ``y = tanh(x @ W + b)``, from the newest node down; what is saved stands in brackets:

    tanh [y] ── add [shapes] ─┬─ matmul [x] ── W
                              └─ b
"""

import itertools
from collections.abc import Callable, Iterable, Mapping, Set
from heapq import heappop, heappush
from typing import Any

import numpy as np

from minirnn.autograd.shapes import IndexedGradient, scatter_add

_numbers = itertools.count(0, -1)  # falling, so that the newest node is the smallest in a heap


class FreedGraphError(RuntimeError):
    """A backward pass reached a part of the graph that an earlier pass has used up."""


class ChangedParameterError(RuntimeError):
    """A leaf's data was changed between the forward pass that used it and the backward pass that needs it."""


class Node:
    """One recorded op.

    Attributes
    ----------
    edges : list of (receiver, vjp, saved) or None
        One for each input: where its gradient goes, the rule, and the values saved for it; None for an input that wants
        no gradient. Without a rule, None, what is saved is the gradient. The attribute itself is None once the graph
        has been freed.
    guards : list of (leaf, version) or None
        The leaves whose data the rules will read, with the version their data must still have then.
    hooks : dict of callables or None
        Called with the gradient of the op's output; the keys are for their removal.
    """

    __slots__ = ("__weakref__", "edges", "guards", "hooks", "number", "op")
    opens = False
    """Whether a kind of node makes its edges of the gradient, in `open`."""

    def __init__(self, op: Any, edges: Any, guards: Any) -> None:
        self.op = op
        self.edges = edges
        self.guards = guards
        self.hooks: dict[object, Callable[[Any], Any]] | None = None
        self.number = next(_numbers)

    def open(self, g: Any) -> Iterable[Any]:
        """Return the edges to go along with gradient ``g``."""
        return self.edges  # type: ignore[no-any-return]

    def inputs(self) -> list[Any]:
        """Return the inputs: a node, a leaf, or None for a constant, of which nothing more is known."""
        return [edge and edge[0] for edge in self.edges]

    def receivers(self) -> list[Any]:
        """Return the nodes and leaves that gradients go to."""
        return [edge[0] for edge in self.edges if edge is not None]

    def box(self) -> "Node":
        """Return the node that stands for this one in a drawing."""
        return self


def run(
    root: Any,
    gradient: Any,
    *,
    retain_graph: bool = False,
    only: Set[Any] | None = None,
    capture: Iterable[Any] = (),
    open: Callable[[Node, Any], Iterable[Any]] | None = None,
    add_at: Callable[..., Any] = scatter_add.forward,
    check: Callable[[Any, Node], None] | None = None,
) -> dict[Any, Any]:
    """Send ``gradient``, that of the node or leaf ``root``, back; return the total that each leaf received.

    Parameters
    ----------
    retain_graph : bool
        Keep the graph; otherwise each node is emptied as soon as it has been used.
    only : set of nodes and leaves, optional
        Visit no others, and leave a node whose inputs are all among the others as it is.
    capture : nodes
        Return their totals too.
    open, add_at
        Used instead of `Node.open` and of `scatter_add` where the pass itself is to be recorded.
    check : callable (gradient, node), optional
        Looks at every gradient that a node is about to use.

    Raises
    ------
    FreedGraphError, ChangedParameterError
        Before any leaf has been changed: the leaves' totals are only returned.
    """
    pending: dict[Any, Any] = {root: gradient}
    captured = dict.fromkeys(capture) if capture else None
    heap = [(root.number, root)] if isinstance(root, Node) else []
    while heap:
        node = heappop(heap)[1]
        g = pending.pop(node)
        if type(g) is IndexedGradient:
            g = g.to_dense(add_at)
        if node.hooks is not None:
            g = call_hooks(node.hooks, g)
        if captured is not None and node in captured:
            captured[node] = g
        if only is not None and (node.edges is None or only.isdisjoint(node.receivers())):
            continue  # an end of the way: what lies below it is neither used nor used up
        edges = node.edges
        if edges is None:
            raise FreedGraphError(freed(node))
        if node.guards is not None:
            for leaf, version in node.guards:
                if leaf._version != version:
                    raise changed(node, leaf, version)
        if check is not None:
            check(g, node)
        if open is not None:
            edges = open(node, g)
        elif node.opens:
            edges = node.open(g)
        for edge in edges:
            if edge is None:
                continue
            receiver, vjp, saved = edge
            if only is not None and receiver not in only:
                continue
            share = saved if vjp is None else vjp(g, *saved)
            if receiver in pending:
                pending[receiver] = pending[receiver] + share
            else:
                pending[receiver] = share
                if isinstance(receiver, Node):
                    heappush(heap, (receiver.number, receiver))
        if not retain_graph:
            node.edges = node.guards = None
    for leaf, g in pending.items():  # every node has been taken out, so what is left are the leaves
        if type(g) is IndexedGradient:
            pending[leaf] = g.to_dense(add_at)
    if captured is not None:
        pending |= {node: g for node, g in captured.items() if g is not None}
    return pending


def changed(node: Node, leaf: Any, version: int) -> ChangedParameterError:
    """Return the error about a leaf that a node will read, and whose data has been changed since."""
    return ChangedParameterError(
        f"backward: {leaf.label} was changed after the forward pass: '{node.op.name}' used version "
        f"{version} of its data and it is now at version {leaf._version}. "
        "Call backward() before the optimiser's step, or run the forward pass again"
    )


def call_hooks(hooks: Mapping[object, Callable[[Any], Any]], g: Any) -> Any:
    """Give the gradient to each hook in turn; what a hook returns, unless None, takes its place."""
    is_array = isinstance(g, np.ndarray | np.generic)
    for hook in tuple(hooks.values()):
        shown = np.array(g) if is_array else g
        if is_array:
            shown.flags.writeable = False  # arrays are shared between receivers
        if (replacement := hook(shown)) is not None:
            if getattr(replacement, "shape", None) != g.shape:
                raise ValueError(
                    f"register_hook: the hook must return None or a gradient of shape {g.shape}, "
                    f"got {getattr(replacement, 'shape', type(replacement).__name__)}"
                )
            g = np.array(replacement, dtype=g.dtype) if is_array else replacement.astype(g.dtype)
    return g


def freed(node: Node) -> str:
    """Return the text of a `FreedGraphError`."""
    return (
        f"backward: the graph was already used up by an earlier backward() at the output of '{node.op.name}'. "
        "If a state is carried from one sequence to the next, pass state.detach() on; "
        "to go through the same graph twice, call the first backward(retain_graph=True)"
    )
