"""Recording: an op is run on the arrays, and what goes back through it later is put on the tape.

`apply` is the idea, and `apply_kernel` the same for a whole layer. `unary` and `binary`, at the end, are `apply`
without its loops, 1.1 to 1.4 times as fast: who reads may leave them out.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from minirnn.arguments import Array, as_array, unmasked
from minirnn.autograd.modes import ANOMALY, MODE, OBSERVE, OBSERVER, RECORD, check_finite
from minirnn.autograd.op import Op
from minirnn.autograd.tape import Node, changed

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
    read: list[int] = []
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
        read += rule.reads
    return Node(op, edges, guards_of(inputs, read)) if any(edges) else None


def receiver_of(x: Any) -> Any:
    """Find where a gradient for ``x`` goes: its node, ``x`` itself if it is a leaf that wants one, else None."""
    if not isinstance(x, Tensor):
        return None
    return x.node if x.node is not None else x if x._requires_grad else None


def guards_of(inputs: Sequence[Any], read: Iterable[int]) -> "list[tuple[Tensor, int]] | None":
    """List the leaves whose memory the inputs show that are read, by their places, with the version of their data."""
    guards = None
    for place in read:
        if isinstance(x := inputs[place], Tensor):
            leaf = x if x.node is None and x._base is None else x._base
            if leaf is not None:
                guards = guards or []
                guards.append((leaf, leaf._version))
    return guards


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


def as_tensor(x: Any) -> "Tensor":
    """Return a Tensor as it is, and wrap an array."""
    return x if isinstance(x, Tensor) else wrap(x)


def _misfit(op: Op, arrays: Sequence[Any], error: ValueError) -> ValueError:
    return ValueError(f"{op.name}: inputs of shapes {', '.join(str(np.shape(a)) for a in arrays)} do not fit: {error}")


# --- a whole kernel as one node: several inputs, several outputs, one backward function on plain arrays ------------


class Inputs(NamedTuple):
    """The inputs of a kernel, laid open before it runs: it asks whether there is to be a way back."""

    arrays: list[Any]  # None for an input that there is not, as next to it
    receivers: list[Any]  # where the gradient of each goes, None where it wants none
    guards: "list[tuple[Tensor, int]]"
    recorded: bool  # whether any gradient goes anywhere
    leaves: bool  # whether none goes to a node


def lay_open(inputs: Sequence[Any]) -> Inputs:
    """Lay a kernel's inputs open, Tensors, arrays or None."""
    arrays, receivers, guards, recorded, leaves = [], [], [], False, True
    recording = MODE.get() & RECORD
    for x in inputs:
        receiver: Any = None
        if isinstance(x, Tensor):
            arrays.append(x._data)
            if recording:
                leaf, receiver = x._base, x.node
                if receiver is not None:
                    leaves = False
                else:
                    leaf = x if leaf is None else leaf
                    receiver = x if x._requires_grad else None
                if leaf is not None:
                    guards.append((leaf, leaf._version))
                if receiver is not None:
                    recorded = True
        else:
            arrays.append(x)
        receivers.append(receiver)
    return Inputs(arrays, receivers, guards, recorded, leaves)


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
    inputs : Tensors, arrays that want no gradient, or None; `Inputs` where they have been laid open
    outputs : arrays
        What the kernel's forward returned; each becomes a Tensor.
    backward : callable (received, wanted) -> sequence
        ``received`` maps an output's index to its gradient (absent: none); ``wanted`` says which inputs want one.
        Returns a gradient, or None, for each input, newly made.
    rerun : callable (*inputs) -> Tensors
        The same outputs made of ops; what ``create_graph`` differentiates.
    """
    arrays, receivers, guards, recorded, leaves = inputs if type(inputs) is Inputs else lay_open(inputs)
    if not recorded:
        return tuple([wrap(y) for y in outputs])
    node = KernelNode(op, (receivers, backward, rerun, arrays, leaves), guards)
    return tuple([wrap(y, OutputNode(op, ((node, _under, (i,)),), None)) for i, y in enumerate(outputs)])


class KernelNode(Node):
    """The kernel; its ``edges`` are ``(receivers, backward, rerun, arrays, leaves)``: `Inputs`, `apply_kernel`."""

    __slots__ = ()
    opens = True

    def open(self, g: "Received") -> Iterable[Any]:
        """Run the kernel's backward on the gradients of its outputs; the edges only hand its results on."""
        return [(receiver, None, d) for receiver, d in self.shares(g) if receiver is not None and d is not None]

    def shares(self, g: "Received") -> Iterable[tuple[Any, Any]]:
        """Run the kernel's backward; return each input's receiver with its gradient, either of which may be None."""
        receivers, backward, *_ = self.edges
        return zip(receivers, backward(g, tuple([receiver is not None for receiver in receivers])), strict=True)

    def inputs(self) -> list[Any]:
        """Return the inputs that there are: a node, a leaf, or a constant."""
        pairs = zip(self.edges[0], self.edges[3], strict=True)
        return [wrap(array) if receiver is None else receiver for receiver, array in pairs if array is not None]

    def receivers(self) -> list[Any]:
        """Return where the gradients of the kernel's inputs go."""
        return [receiver for receiver in self.edges[0] if receiver is not None]


class OutputNode(Node):
    """One output of a kernel: its one edge hands the gradient to the kernel, under the output's index."""

    __slots__ = ()

    def box(self) -> Node:
        """Return the kernel, unless it has been used up."""
        return self if self.edges is None else self.edges[0][0]


class Received(dict[int, Any]):
    """The gradients that a kernel's outputs have received, by index; an output that received none is absent."""

    def __add__(self, other: "Received") -> "Received":
        self.update({i: self[i] + g if i in self else g for i, g in other.items()})
        return self


def _under(g: Any, index: int) -> Received:
    return Received({index: g})


def straight(root: Any, g: Any, retain_graph: bool) -> dict[Any, Any] | None:
    """Return what `tape.run` would where all there is behind ``root`` is one kernel and its leaves; else None.

    So it is where a layer is trained by itself: what the queue costs would be a fifth of a small layer's way back.
    """
    if type(root) is not OutputNode or root.hooks is not None or root.edges is None:
        return None
    ((kernel, _, (index,)),) = root.edges
    if kernel.edges is None or not kernel.edges[-1]:
        return None
    for leaf, version in kernel.guards:
        if leaf._version != version:
            raise changed(kernel, leaf, version)
    totals: dict[Any, Any] = {}
    for leaf, share in kernel.shares(Received({index: g})):
        if leaf is not None and share is not None:
            totals[leaf] = totals[leaf] + share if leaf in totals else share
    if not retain_graph:
        root.edges = kernel.edges = kernel.guards = None
    return totals


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
        if isinstance(c, np.matrix):
            raise TypeError("operand must be an array, got a matrix, whose * is another: try np.asarray(matrix)")
        c = np.asarray(unmasked(c, "operand"))
        if c.dtype is t._data.dtype:
            return t, c
    elif isinstance(c, list | tuple):
        c = as_array(c if t.dtype.kind == "f" else np.asarray(c), "operand", t.dtype)
    elif not isinstance(c, np.generic):
        for way in ("to_numpy", "toarray"):  # pandas, scipy: they would take the Tensor for numbers
            if hasattr(c, way):
                raise TypeError(f"operand must be an array, got a {type(c).__name__}: try its {way}()")
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
        node = Node(op, edges, guards_of((x,), rule.reads) if rule.reads else None)
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
    if isinstance(a, Tensor) and (receiver := a.node or (a if a._requires_grad else None)) is not None:
        a_edge = (receiver, a_rule.vjp, a_rule.save(y, da, db))
        read = a_rule.reads
    if isinstance(b, Tensor) and (receiver := b.node or (b if b._requires_grad else None)) is not None:
        b_edge = (receiver, b_rule.vjp, b_rule.save(y, da, db))
        read += b_rule.reads
    elif a_edge is None:
        return wrap(y)
    return wrap(y, Node(op, (a_edge, b_edge), guards_of((a, b), read) if read else None))
