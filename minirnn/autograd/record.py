"""Recording: an op is run on the arrays, and what goes back through it later is put on the tape.

`apply` is the idea, and `apply_kernel` the same for a whole layer. `unary` and `binary`, at the end, are `apply`
without its loops, 1.1 to 1.4 times as fast: who reads may leave them out.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from minirnn.arguments import Array, as_array
from minirnn.autograd.modes import ANOMALY, MODE, OBSERVE, OBSERVER, RECORD, check_finite
from minirnn.autograd.op import Op
from minirnn.autograd.tape import Node

if TYPE_CHECKING:  # it is made of what stands here, and comes here when it is ready: the last lines of tensor.py
    from minirnn.autograd.tensor import Tensor


def apply(op: Op, *inputs: Any, **settings: Any) -> "Tensor":
    """Run an op on Tensors and arrays, and record it if an input requires a gradient."""
    arrays = [x._data if isinstance(x, Tensor) else x for x in inputs]
    mode = MODE.get()
    try:
        y = op.forward(*arrays, **settings)
    except ValueError as error:
        raise _misfit(op, arrays, error) from None
    if mode & ANOMALY:
        check_finite(y, f"the output of {op.name}", "look at what goes into it")
    node = _node_of(op, inputs, arrays, settings, y) if mode & RECORD else None
    output = wrap(y, node, inputs[0] if op.view else None)
    if mode & OBSERVE:
        OBSERVER.get()(op, inputs, settings, output)
    return output


def _node_of(op: Op, inputs: Sequence[Any], arrays: Sequence[Any], settings: dict[str, Any], y: Any) -> Node | None:
    """Make the node that goes on the tape; None if no input wants a gradient."""
    edges: list[Any] = []
    read: list[Any] = []
    saved: Any = None
    for i, x in enumerate(inputs):
        receiver = receiver_of(x)
        rule = op.rules[0 if op.variadic else i]
        if receiver is None or rule is None:
            edges.append(None)
            continue
        if saved is None or not op.variadic:  # of many inputs, each must not look at all the others again
            saved = rule.save(y, *arrays, **settings)
        edges.append((receiver, rule.vjp, (i, *saved) if op.variadic else saved))
        read += [inputs[j] for j in rule.reads]
    return Node(op, edges, guards_of(read)) if any(edges) else None


def receiver_of(x: Any) -> Any:
    """Find where a gradient for ``x`` goes: its node, ``x`` itself if it is a leaf that wants one, else None."""
    if not isinstance(x, Tensor):
        return None
    return x.node if x.node is not None else x if x._requires_grad else None


def guards_of(inputs: Iterable[Any]) -> "tuple[tuple[Tensor, int], ...] | None":
    """List the leaves whose memory the inputs show, with the version of their data."""
    guards: tuple[tuple[Tensor, int], ...] = ()
    for x in inputs:
        if (leaf := leaf_behind(x)) is not None:
            guards += ((leaf, leaf._version),)
    return guards or None


def leaf_behind(x: Any) -> "Tensor | None":
    """Find the leaf whose memory ``x`` shows: itself, or the one that it is a view of."""
    if not isinstance(x, Tensor):
        return None
    return x if x.node is None and x._base is None else x._base


_blank = object.__new__


def wrap(data: Any, node: Node | None = None, shown: Any = None) -> "Tensor":
    """Make a Tensor of an op's result without looking at it; ``shown`` is the input that it may be a view of."""
    t = _blank(Tensor)
    t._data = data if type(data) is np.ndarray else np.asarray(data)
    t.node = node
    t._base = None
    t._requires_grad = node is not None
    t._grad = None
    t._version = 0
    t.hooks = None
    if shown is not None and (leaf := leaf_behind(shown)) is not None and np.may_share_memory(data, leaf._data):
        t._base = leaf
    return t


def _misfit(op: Op, arrays: Sequence[Any], error: ValueError) -> ValueError:
    return ValueError(f"{op.name}: inputs of shapes {', '.join(str(np.shape(a)) for a in arrays)} do not fit: {error}")


# --- a whole kernel as one node: several inputs, several outputs, one backward function on plain arrays ------------


def apply_kernel(
    op: Any,
    inputs: Sequence[Any],
    outputs: Sequence[Array],
    backward: Callable[..., Sequence[Any]],
    rerun: "Callable[..., Sequence[Tensor]]",
) -> "tuple[Tensor, ...]":
    """Record a whole kernel as one node.

    Parameters
    ----------
    op : object with a ``name``
    inputs : Tensors or None
    outputs : arrays
        What the kernel's forward returned; each becomes a Tensor.
    backward : callable (received, wanted) -> sequence
        ``received`` maps an output's index to its gradient (absent: none); ``wanted`` says which inputs want one.
        Returns a gradient, or None, for each input, newly made.
    rerun : callable (*inputs) -> Tensors
        The same outputs made of ops; what ``create_graph`` differentiates.
    """
    receivers = [receiver_of(x) for x in inputs] if MODE.get() & RECORD else []
    wanted = tuple([receiver is not None for receiver in receivers])
    if True not in wanted:
        return tuple([wrap(y) for y in outputs])
    edges = receivers, wanted, backward, rerun, [None if x is None else x._data for x in inputs]
    node = KernelNode(op, edges, guards_of(inputs))
    return tuple([wrap(y, OutputNode(node, i)) for i, y in enumerate(outputs)])


def will_record(inputs: Sequence[Any]) -> bool:
    """Whether a node made of these inputs, Tensors or None, would be recorded."""
    return bool(MODE.get() & RECORD) and any(receiver_of(x) is not None for x in inputs)


class KernelNode(Node):
    """The kernel; its ``edges`` are ``(receivers, wanted, backward, rerun, arrays)``, as in `apply_kernel`."""

    __slots__ = ()

    def open(self, g: "Received") -> Iterable[Any]:
        """Run the kernel's backward on the gradients of its outputs; the edges only hand its results on."""
        receivers, wanted, backward, _, _ = self.edges
        return edges_with(zip(receivers, backward(g, wanted), strict=True))

    def inputs(self) -> list[Any]:
        """Return the inputs that there are: a node, a leaf, or a constant."""
        pairs = zip(self.edges[0], self.edges[4], strict=True)
        return [wrap(array) if receiver is None else receiver for receiver, array in pairs if array is not None]

    def receivers(self) -> list[Any]:
        """Return where the gradients of the kernel's inputs go."""
        return [receiver for receiver in self.edges[0] if receiver is not None]


class OutputNode(Node):
    """One output of a kernel; hands its gradient to the kernel's node under its index."""

    __slots__ = ()

    def __init__(self, kernel: KernelNode, index: int) -> None:
        super().__init__(kernel.op, ((kernel, lambda g: Received({index: g}), ()),), None)

    def box(self) -> Node:
        """Return the kernel, unless it has been used up."""
        return self if self.edges is None else self.edges[0][0]


def edges_with(pairs: Iterable[tuple[Any, Any]]) -> list[Any]:
    """Make edges for gradients that are known already, given with their receivers."""
    return [(receiver, lambda _, gi: gi, (gi,)) for receiver, gi in pairs if receiver is not None and gi is not None]


class Received(dict[int, Any]):
    """The gradients that a kernel's outputs have received, by index; an output that received none is absent."""

    def __add__(self, other: "Received") -> "Received":
        self.update({i: self[i] + g if i in self else g for i, g in other.items()})
        return self


# --- what may stand beside a Tensor, and how both come to one dtype ---------------------------------------------------


def alike(a: Any, b: Any) -> tuple[Any, Any]:
    """Bring two operands, one a Tensor at least, to one dtype: a Tensor's wins over a number's, a wider one wins.

    Two NotImplemented come back for what cannot be an operand.
    """
    if isinstance(a, Tensor) and isinstance(b, Tensor):
        if a.ndim == 0 < b.ndim and b.dtype.kind == "f":
            return a.astype(b.dtype), b
        if b.ndim == 0 < a.ndim and a.dtype.kind == "f":
            return a, b.astype(a.dtype)
        dtype = common_dtype(a.dtype, b.dtype)
        return a.astype(dtype), b.astype(dtype)
    return _with_constant(a, b) if isinstance(a, Tensor) else _with_constant(b, a)[::-1]


def _with_constant(t: "Tensor", c: Any) -> tuple[Any, Any]:
    if isinstance(c, (int, float)):  # a bool is an int; numpy gives them the array's dtype by itself
        return t, float(c) if type(c) is np.float64 else c  # np.float64 is a float, but would widen float32
    if isinstance(c, np.ndarray):
        c = np.asarray(c)  # np.matrix has its own idea of a product
        if c.dtype is t._data.dtype:
            return t, c
    elif isinstance(c, list | tuple):
        c = as_array(c if t.dtype.kind == "f" else np.asarray(c), "operand", t.dtype)
    elif not isinstance(c, np.generic):
        return NotImplemented, NotImplemented
    if c.dtype.kind not in "biuf":
        raise TypeError(f"operand must be an array of numbers, got dtype {c.dtype}")
    if c.ndim == 0:
        return t, c.item()  # a number: numpy lets the array's dtype stand
    dtype = c.dtype if t.ndim == 0 and c.dtype.kind == "f" else common_dtype(t.dtype, c.dtype)
    return t.astype(dtype), c.astype(dtype, copy=False)


def common_dtype(a: np.dtype[Any], b: np.dtype[Any]) -> np.dtype[Any]:
    """Promote as numpy does, but that integers and bools never widen a float."""
    if (a.kind == "f") == (b.kind == "f"):
        return np.result_type(a, b)
    return a if a.kind == "f" else b


# --- the same for one and for two inputs, since most ops of a long graph come this way -------------------------------


def unary(op: Op, x: Any, **settings: Any) -> "Tensor":
    """Do what `apply` does, for one Tensor or what can become one."""
    if not isinstance(x, Tensor):
        x = Tensor(x)
    if MODE.get() != RECORD:
        return apply(op, x, **settings)
    data = x._data
    try:
        y = op.forward(data, **settings)
    except ValueError as error:
        raise _misfit(op, (data,), error) from None
    receiver: Any = x.node or (x if x._requires_grad else None)
    node = None
    if receiver is not None:
        rule = op.rules[0]
        edges = ((receiver, rule.vjp, rule.save(y, data, **settings)),)
        node = Node(op, edges, guards_of((x,)) if rule.reads else None)
    return wrap(y, node, x if op.view else None)


def binary(op: Op, a: Any, b: Any) -> "Tensor":
    """Do what `apply` does, for two operands, of which one at least is a Tensor; bring both to one dtype first."""
    da = a._data if isinstance(a, Tensor) else a
    db = b._data if isinstance(b, Tensor) else b
    if type(da) is not np.ndarray or type(db) is not np.ndarray or da.dtype is not db.dtype:
        a, b = alike(a, b)
        if a is NotImplemented:
            return NotImplemented  # type: ignore[no-any-return]
        da = a._data if isinstance(a, Tensor) else a
        db = b._data if isinstance(b, Tensor) else b
    if MODE.get() != RECORD:
        return apply(op, a, b)
    try:
        y = op.forward(da, db)
    except ValueError as error:
        raise _misfit(op, (da, db), error) from None
    a_rule, b_rule = op.rules
    a_edge = b_edge = None
    read: tuple[int, ...] = ()
    if (receiver := receiver_of(a)) is not None:
        a_edge = (receiver, a_rule.vjp, a_rule.save(y, da, db))
        read = a_rule.reads
    if (receiver := receiver_of(b)) is not None:
        b_edge = (receiver, b_rule.vjp, b_rule.save(y, da, db))
        read += b_rule.reads
    elif a_edge is None:
        return wrap(y)
    return wrap(y, Node(op, (a_edge, b_edge), guards_of([(a, b)[j] for j in read]) if read else None))
