"""Tensor: a numpy array that remembers how it was made; its operators call ops and record them on the tape."""

import threading
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from minirnn.arguments import Array, as_array, as_size, describe
from minirnn.autograd import ops, tape
from minirnn.autograd.modes import ANOMALY, MODE, OBSERVE, OBSERVER, RECORD, anomaly, check_finite
from minirnn.autograd.op import Axis, Op
from minirnn.autograd.tape import KernelNode, Node, OutputNode

if TYPE_CHECKING:
    from minirnn.drawing.graph import Seen

_ACCUMULATE = threading.Lock()  # threads that share a leaf add to its .grad one after the other
_NUMBERS = (int, float)  # bool is an int; numpy gives them the array's dtype by itself

UFUNCS: dict[Any, Op] = {
    np.add: ops.add,
    np.subtract: ops.sub,
    np.multiply: ops.mul,
    np.divide: ops.div,
    np.power: ops.pow_,
    np.matmul: ops.matmul,
    np.maximum: ops.maximum,
    np.minimum: ops.minimum,
    np.negative: ops.neg,
    np.exp: ops.exp,
    np.log: ops.log,
    np.sqrt: ops.sqrt,
    np.absolute: ops.abs_,
    np.tanh: ops.tanh,
}
"""numpy's ufuncs that work on Tensors, ``ndarray + Tensor`` and its like included."""

FUNCTIONS: dict[str, Callable[..., Any]] = {}
"""numpy's other functions that work on Tensors, by name; filled by minirnn/autograd/functions.py."""


class Tensor:
    """An n-dimensional array with a place on the tape.

    Parameters
    ----------
    data : array_like
        Shared, not copied, if it is an ndarray. Lists and Python numbers become float32.
    requires_grad : bool
        Ask for a gradient: `backward` will leave it in ``grad``. Only floats can have one.

    Attributes
    ----------
    data : ndarray
        The values. Setting it (``p.data = …``, ``p.data -= …``) counts as a change: a backward pass that still needs
        the old values is refused. Writing into ``p.data[…]`` goes unseen.
    grad : ndarray or None
        The sum of the gradients of every `backward` since it was None; same shape and dtype as ``data``.

    Raises
    ------
    TypeError
        For data that are not numbers, or integers that should require a gradient.

    >>> import minirnn as mr
    >>> w = mr.Tensor([1.0, 2.0], requires_grad=True)
    >>> (w * w).sum().backward()
    >>> w.grad
    array([2., 4.], dtype=float32)
    """

    __slots__ = ("__weakref__", "_base", "_data", "_grad", "_hooks", "_node", "_requires_grad", "_version")

    def __init__(self, data: Any, requires_grad: bool = False) -> None:
        self._data = as_array(data, "Tensor: data")
        self._node: Node | None = None
        self._base: Tensor | None = None  # the leaf whose memory this one shows, if it is a view
        self._requires_grad = False
        self._grad: Array | None = None
        self._version = 0
        self._hooks: list[Callable[[Any], Any]] | None = None
        if requires_grad:
            self.requires_grad = True

    # --- what it holds -----------------------------------------------------------------------------------------------

    @property
    def data(self) -> Array:
        """The values; setting it counts as a change."""
        return self._data

    @data.setter
    def data(self, value: Any) -> None:
        if self._node is not None:
            raise RuntimeError(
                f"Tensor.data: only a leaf's data can be set, and this is the output of '{self._node.op.name}'; "
                "use detach() first, or an op"
            )
        array = as_array(value, "Tensor.data", self.dtype)
        if array.shape != self._data.shape:
            raise ValueError(f"Tensor.data: expected shape {self.shape}, got {array.shape}; make a new Tensor instead")
        self._data = array.astype(self._data.dtype, copy=False)
        (self if self._base is None else self._base)._version += 1

    @property
    def grad(self) -> Array | None:
        """The gradient that `backward` has summed up, or None; may be set."""
        return self._grad

    @grad.setter
    def grad(self, value: Any) -> None:
        if value is not None:
            value = as_array(value, "Tensor.grad", self.dtype)
            if value.shape != self._data.shape:
                raise ValueError(f"Tensor.grad: expected shape {self.shape}, that of the data, got {value.shape}")
            value = value.astype(self._data.dtype, copy=False)
        self._grad = value

    @property
    def requires_grad(self) -> bool:
        """Whether `backward` sends a gradient here."""
        return self._requires_grad

    @requires_grad.setter
    def requires_grad(self, value: bool) -> None:
        if self._node is not None and not value:
            raise RuntimeError("Tensor.requires_grad: cannot be switched off on the output of an op; use detach()")
        if value and self._data.dtype.kind != "f":
            raise TypeError(
                f"Tensor: only floats can require a gradient, got dtype {self._data.dtype}; "
                "convert first, for example with .astype(np.float32)"
            )
        self._requires_grad = bool(value)

    @property
    def shape(self) -> tuple[int, ...]:
        """Sizes of the axes."""
        return self._data.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the entries."""
        return self._data.dtype

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return self._data.ndim

    @property
    def size(self) -> int:
        """Number of entries."""
        return self._data.size

    @property
    def T(self) -> "Tensor":
        """The axes in reverse order."""
        return self.transpose()

    @property
    def mT(self) -> "Tensor":
        """The last two axes exchanged."""
        return self.swapaxes(-1, -2)

    def numpy(self) -> Array:
        """Return the values as an ndarray that shares memory with this Tensor."""
        return self._data

    def item(self) -> float:
        """Return the only entry as a Python number."""
        if self._data.size != 1:
            raise ValueError(f"item: expected a Tensor of one entry, got shape {self.shape}; reduce it, or use numpy()")
        value: float = self._data.item()
        return value

    def detach(self) -> "Tensor":
        """Return the same values, cut off from the tape: no gradient flows back through it. They share memory."""
        same = wrap(self._data, None)
        same._base = _leaf_behind(self)
        return same

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        return np.array(self._data, dtype=dtype, copy=copy)

    def __len__(self) -> int:
        if not self.shape:
            raise TypeError("len: a Tensor of no axes has no length")
        return self.shape[0]

    def __iter__(self) -> Iterator["Tensor"]:
        return (self[i] for i in range(len(self)))

    def __bool__(self) -> bool:
        return bool(self._data)

    def __float__(self) -> float:
        return float(self.item())

    def __int__(self) -> int:
        return int(self.item())

    def __format__(self, spec: str) -> str:
        return format(self.item(), spec) if spec else str(self)

    def __repr__(self) -> str:
        prefix = f"{type(self).__name__}("
        values = np.array2string(self._data, separator=", ", prefix=prefix, precision=4, threshold=100, edgeitems=3)
        made = f", op={self._node.op.name}" if self._node else ", requires_grad=True" if self._requires_grad else ""
        return f"{prefix}{values}, shape={self.shape}, dtype={self.dtype}{made})"

    def _label(self) -> str:
        return f"a {type(self).__name__} of shape {self.shape}"

    def __reduce__(self) -> Any:
        if self._node is not None:
            raise TypeError("Tensor: only leaves can be copied or pickled, and this has a graph behind it; detach() it")
        state = {"_grad": self._grad, "_hooks": self._hooks and list(self._hooks)}
        return _remade, (type(self), self._data, self._requires_grad), (None, state)

    # --- going back --------------------------------------------------------------------------------------------------

    def backward(self, gradient: Any = None, *, retain_graph: bool = False) -> None:
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
            If nothing was recorded; FreedGraphError if the graph has been used up; ChangedParameterError if a
            parameter has changed since the forward pass. No ``grad`` has changed then.
        ValueError
            If ``gradient`` is missing or has another shape.
        """
        root = start_of(self, "backward")
        seed = seed_of(self, gradient, "backward")
        retained = [node for ref in _RETAINED.keyrefs() if (node := ref()) is not None] if _RETAINED else []
        totals = tape.run(root, seed, retain_graph=retain_graph, capture=retained, check=anomaly_check())
        _accumulate(totals, seed)

    def register_hook(self, hook: Callable[[Any], Any]) -> Callable[[], None]:
        """Call ``hook(gradient)`` when this Tensor's total gradient is known; return a function that removes the hook.

        The hook gets a read-only copy. What it returns, unless None, replaces the gradient from here on.
        """
        if not self._requires_grad:
            raise RuntimeError(
                "register_hook: this Tensor does not require a gradient, so the hook would never be called"
            )
        holder: Any = self if self._node is None else self._node
        slot = "_hooks" if self._node is None else "hooks"
        hooks = getattr(holder, slot)
        if hooks is None:
            hooks = []
            setattr(holder, slot, hooks)
        hooks.append(hook)
        left = [hook]

        def remove() -> None:
            if left:
                hooks.remove(left.pop())

        return remove

    def retain_grad(self) -> None:
        """Ask `backward` to leave ``grad`` here too, although this is the output of an op."""
        if not self._requires_grad:
            raise RuntimeError("retain_grad: this Tensor does not require a gradient, so it would never get one")
        if self._node is not None:
            _RETAINED[self._node] = weakref.ref(self)  # the node must not keep its output alive

    def to_svg(self, *, max_nodes: int = 60) -> str:
        """Draw the graph that this Tensor was made by as an SVG document, the leaves on the left.

        A fused layer is one box, whatever its length. What needs no gradient is a constant; the tape keeps no shape of
        it, unless it went into a fused layer.

        Parameters
        ----------
        max_nodes : int
            A larger graph is refused, since nobody could read it.

        Raises
        ------
        ValueError
            If there are more boxes than ``max_nodes``; it says how many.
        FreedGraphError
            If `backward` has used the graph up.

        >>> import minirnn as mr
        >>> x = mr.Tensor([1.0, 2.0], requires_grad=True)
        >>> svg = (x * x).sum().to_svg()  # save it with pathlib.Path("graph.svg").write_text(svg)
        """
        from dataclasses import replace

        from minirnn.drawing import graph

        most = as_size(max_nodes, "Tensor.to_svg: max_nodes")
        root: Any = self if self._node is None else _kernel_behind(self._node)
        if self._node is not None and root.edges is None:
            raise tape.FreedGraphError(
                "Tensor.to_svg: there is nothing left to draw, because backward() has used the graph up: draw it "
                "before, or call backward(retain_graph=True)"
            )
        seen, inputs = graph.walk(root, _drawn)
        if len(seen) > most:
            raise ValueError(
                f"Tensor.to_svg: max_nodes must be at least the {len(seen)} boxes of this graph, got {most}: try a "
                "sequence of two or three steps, backend='fused', which makes a layer one box, or "
                f"max_nodes={len(seen)}"
            )
        if self._node is not None:
            seen[0] = replace(seen[0], remark=f"{self.shape} {self.dtype}", style="output")
        return graph.draw(seen, inputs, f"The graph of {self._label()}")

    # --- operators ---------------------------------------------------------------------------------------------------

    __hash__ = object.__hash__

    def __add__(self, other: Any) -> "Tensor":
        return binary(ops.add, self, other)

    def __radd__(self, other: Any) -> "Tensor":
        return binary(ops.add, other, self)

    def __sub__(self, other: Any) -> "Tensor":
        return binary(ops.sub, self, other)

    def __rsub__(self, other: Any) -> "Tensor":
        return binary(ops.sub, other, self)

    def __mul__(self, other: Any) -> "Tensor":
        return binary(ops.mul, self, other)

    def __rmul__(self, other: Any) -> "Tensor":
        return binary(ops.mul, other, self)

    def __truediv__(self, other: Any) -> "Tensor":
        return binary(ops.div, self, other)

    def __rtruediv__(self, other: Any) -> "Tensor":
        return binary(ops.div, other, self)

    def __pow__(self, other: Any) -> "Tensor":
        return binary(ops.pow_, self, other)

    def __rpow__(self, other: Any) -> "Tensor":
        return binary(ops.pow_, other, self)

    def __matmul__(self, other: Any) -> "Tensor":
        return binary(ops.matmul, self, other)

    def __rmatmul__(self, other: Any) -> "Tensor":
        return binary(ops.matmul, other, self)

    def __neg__(self) -> "Tensor":
        return unary(ops.neg, self)

    def __abs__(self) -> "Tensor":
        return unary(ops.abs_, self)

    # Comparisons are constants, so they are plain arrays of bools.
    def __lt__(self, other: Any) -> Any:
        return np.less(self._data, np.asarray(other))

    def __le__(self, other: Any) -> Any:
        return np.less_equal(self._data, np.asarray(other))

    def __gt__(self, other: Any) -> Any:
        return np.greater(self._data, np.asarray(other))

    def __ge__(self, other: Any) -> Any:
        return np.greater_equal(self._data, np.asarray(other))

    def __eq__(self, other: Any) -> Any:
        return np.equal(self._data, np.asarray(other))

    def __ne__(self, other: Any) -> Any:
        return np.not_equal(self._data, np.asarray(other))

    def __getitem__(self, index: Any) -> "Tensor":
        return unary(ops.getitem, self, index=_plain_index(index))

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **kwargs: Any) -> Any:
        op = UFUNCS.get(ufunc)
        if op is not None and method == "__call__" and not kwargs:
            return binary(op, *inputs) if len(inputs) == 2 else unary(op, inputs[0])
        if kwargs.get("out") is not None or method == "at":
            raise TypeError(
                f"np.{ufunc.__name__}: a Tensor cannot be written into an array; write a = a + t, not a += t"
            )
        return _only_without_derivative(ufunc, method, inputs, kwargs)

    def __array_function__(self, func: Any, types: Any, args: Any, kwargs: Any) -> Any:
        function = FUNCTIONS.get(func.__name__)
        return function(*args, **kwargs) if function is not None else _only_without_derivative(func, "", args, kwargs)

    # --- methods -----------------------------------------------------------------------------------------------------

    def sum(self, axis: Axis = None, keepdims: bool = False) -> "Tensor":
        """Sum over all axes, or those given."""
        return unary(ops.sum_, self, axis=axis, keepdims=keepdims)

    def mean(self, axis: Axis = None, keepdims: bool = False) -> "Tensor":
        """Mean over all axes, or those given."""
        return unary(ops.mean, self, axis=axis, keepdims=keepdims)

    def max(self, axis: Axis = None, keepdims: bool = False) -> "Tensor":
        """Largest entry over all axes, or those given."""
        return unary(ops.max_, self, axis=axis, keepdims=keepdims)

    def min(self, axis: Axis = None, keepdims: bool = False) -> "Tensor":
        """Smallest entry over all axes, or those given."""
        return unary(ops.min_, self, axis=axis, keepdims=keepdims)

    def reshape(self, *shape: Any) -> "Tensor":
        """Return the same entries in another shape: ``t.reshape(2, 3)`` or ``t.reshape((2, 3))``."""
        return unary(ops.reshape, self, shape=_unpacked(shape))

    def transpose(self, *axes: Any) -> "Tensor":
        """Permute the axes; without arguments, reverse them."""
        return unary(ops.transpose, self, axes=None if axes == (None,) else _unpacked(axes) or None)

    def swapaxes(self, axis1: int, axis2: int) -> "Tensor":
        """Exchange two axes."""
        return unary(ops.swapaxes, self, axis1=axis1, axis2=axis2)

    def squeeze(self, axis: Axis = None) -> "Tensor":
        """Drop axes of length 1."""
        return unary(ops.squeeze, self, axis=axis)

    def broadcast_to(self, shape: tuple[int, ...]) -> "Tensor":
        """Copy along new or stretched axes."""
        return unary(ops.broadcast_to, self, shape=tuple(shape))

    def astype(self, dtype: Any) -> "Tensor":
        """Cast to another dtype; the gradient is cast back. Integers and bools carry none: a constant."""
        dtype = np.dtype(dtype)
        if self.dtype == dtype:
            return self
        if dtype.kind != "f":
            return wrap(as_array(self._data.astype(dtype), "astype: the result"), None)
        return unary(ops.astype, self, dtype=dtype)

    def clip(self, low: Any = None, high: Any = None) -> "Tensor":
        """Limit to ``low … high``, numbers of which either may be left out."""
        return unary(ops.clip, self, low=_bound(low, "low"), high=_bound(high, "high"))

    def exp(self) -> "Tensor":
        """E to the power of each entry."""
        return unary(ops.exp, self)

    def log(self) -> "Tensor":
        """Natural logarithm."""
        return unary(ops.log, self)

    def sqrt(self) -> "Tensor":
        """Square root."""
        return unary(ops.sqrt, self)

    def tanh(self) -> "Tensor":
        """Hyperbolic tangent."""
        return unary(ops.tanh, self)

    def sigmoid(self) -> "Tensor":
        """Logistic function."""
        return unary(ops.sigmoid, self)

    def relu(self) -> "Tensor":
        """Rectifier max(x, 0)."""
        return unary(ops.relu, self)


# --- recording an op -------------------------------------------------------------------------------------------------

_blank = Tensor.__new__


def wrap(data: Any, node: Node | None) -> Tensor:
    """Make a Tensor of an op's result without looking at it."""
    t = _blank(Tensor)
    t._data = data if type(data) is np.ndarray else np.asarray(data)
    t._node = node
    t._base = None
    t._requires_grad = node is not None
    t._grad = None
    t._version = 0
    t._hooks = None
    return t


def receiver_of(x: Any) -> Any:
    """Return where a gradient for ``x`` goes: its node, ``x`` itself if it is a leaf that wants one, else None."""
    if not isinstance(x, Tensor):
        return None
    return x._node if x._node is not None else x if x._requires_grad else None


def _leaf_behind(x: Any) -> Tensor | None:
    """Return the leaf whose memory ``x`` shows: itself, or the one that it is a view of."""
    if not isinstance(x, Tensor):
        return None
    return x if x._node is None and x._base is None else x._base


def guards_of(inputs: Iterable[Any]) -> tuple[tuple[Tensor, int], ...] | None:
    """Return the leaves whose memory the inputs show, with the version of their data."""
    guards: tuple[tuple[Tensor, int], ...] = ()
    for x in inputs:
        leaf = _leaf_behind(x)
        if leaf is not None:
            guards += ((leaf, leaf._version),)
    return guards or None


def apply(op: Op, *inputs: Any, **settings: Any) -> Tensor:
    """Run an op on Tensors and arrays, and record it if an input requires a gradient."""
    made = _apply(op, *inputs, **settings)
    if MODE.get() & OBSERVE:
        OBSERVER.get()(op, inputs, settings, made)
    return made


def _apply(op: Op, *inputs: Any, **settings: Any) -> Tensor:
    """Run an op on Tensors and arrays, and record it if an input requires a gradient."""
    arrays = [x._data if isinstance(x, Tensor) else x for x in inputs]
    mode = MODE.get()
    y = _forward(op, arrays, settings, mode)
    if not mode & RECORD:
        return _output(op, inputs[0], y, None)
    edges: list[Any] = []
    read: list[Any] = []
    kept: Any = None
    for i, x in enumerate(inputs):
        receiver = receiver_of(x)
        rule = op.rules[0 if op.variadic else i]
        if receiver is None or rule is None:
            edges.append(None)
            continue
        if kept is None or not op.variadic:  # of many inputs, each must not look at all the others again
            kept = rule.keep(y, *arrays, **settings)
        edges.append((receiver, rule.vjp, (i, *kept) if op.variadic else kept))
        read += [inputs[j] for j in rule.reads]
    if not any(edges):
        return _output(op, inputs[0], y, None)
    return _output(op, inputs[0], y, Node(op, edges, guards_of(read)))


def _output(op: Op, x: Any, y: Any, node: Node | None) -> Tensor:
    """Make a Tensor of an op's result, that of a view known as a view of the leaf behind ``x``."""
    t = wrap(y, node)
    if op.view:
        leaf = _leaf_behind(x)
        if leaf is not None and np.may_share_memory(y, leaf._data):
            t._base = leaf
    return t


def unary(op: Op, x: Tensor, **settings: Any) -> Tensor:
    """`apply` for one Tensor: the same without the loops, since most ops of a long graph come this way or the next."""
    if MODE.get() != RECORD:
        return apply(op, x, **settings)
    data = x._data
    try:
        y = op.forward(data, **settings)
    except ValueError as error:
        raise _misfit(op, (data,), error) from None
    receiver: Any = x._node
    if receiver is None and x._requires_grad:
        receiver = x
    node = None
    if receiver is not None:
        rule = op.rules[0]
        guards = guards_of((x,)) if rule.reads else None
        node = Node(op, ((receiver, rule.vjp, rule.keep(y, data, **settings)),), guards)
    return _output(op, x, y, node)


def _remade(kind: Callable[..., Tensor], data: Array, *more: Any) -> Tensor:
    """Make the copy of a leaf, with a dtype that is numpy's own object again: ops ask for it by identity."""
    plain = np.dtype(data.dtype.type)
    return kind(data if data.dtype is plain else data.astype(plain), *more)


def binary(op: Op, a: Any, b: Any) -> Tensor:
    """`apply` for two operands, of which one at least is a Tensor; brings both to one dtype first."""
    da = a._data if isinstance(a, Tensor) else a
    db = b._data if isinstance(b, Tensor) else b
    if type(da) is not np.ndarray or type(db) is not np.ndarray or da.dtype is not db.dtype:
        a, b = _operands(a, b)
        if a is NotImplemented:
            return NotImplemented
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
    receiver = receiver_of(a)
    if receiver is not None:
        a_edge = (receiver, a_rule.vjp, a_rule.keep(y, da, db))
        read = a_rule.reads
    receiver = receiver_of(b)
    if receiver is not None:
        b_edge = (receiver, b_rule.vjp, b_rule.keep(y, da, db))
        read += b_rule.reads
    elif a_edge is None:
        return wrap(y, None)
    return wrap(y, Node(op, (a_edge, b_edge), guards_of([(a, b)[j] for j in read]) if read else None))


def will_record(inputs: Sequence[Any]) -> bool:
    """Whether a node made of these inputs, Tensors or None, would be recorded."""
    return bool(MODE.get() & RECORD) and any(receiver_of(x) is not None for x in inputs)


def apply_kernel(
    op: Any,
    inputs: Sequence[Any],
    outputs: Sequence[Array],
    backward: Callable[..., Sequence[Any]],
    rerun: Callable[..., Sequence[Tensor]],
) -> tuple[Tensor, ...]:
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
        return tuple([wrap(y, None) for y in outputs])
    arrays = [None if x is None else x._data for x in inputs]
    node = KernelNode(op, (receivers, wanted, backward, rerun, arrays), guards_of(inputs))
    return tuple([wrap(y, OutputNode(node, i)) for i, y in enumerate(outputs)])


def _forward(op: Op, arrays: Sequence[Any], settings: dict[str, Any], mode: int) -> Any:
    try:
        y = op.forward(*arrays, **settings)
    except ValueError as error:
        raise _misfit(op, arrays, error) from None
    if mode & ANOMALY:
        check_finite(y, f"the output of {op.name}", "look at what goes into it")
    return y


def _misfit(op: Op, arrays: Sequence[Any], error: ValueError) -> ValueError:
    shapes = ", ".join(str(np.shape(a)) for a in arrays)
    return ValueError(f"{op.name}: inputs of shapes {shapes} do not fit: {error}")


# --- drawing ---------------------------------------------------------------------------------------------------------


def _kernel_behind(receiver: Any) -> Any:
    """Return the kernel whose output a node is, if it is one and has not been used up; else the receiver itself."""
    return receiver.edges[0][0] if type(receiver) is OutputNode and receiver.edges is not None else receiver


def _drawn(thing: Any) -> "Seen":
    """Return what is drawn of a node, of a leaf, or of a constant of which nothing is known but that it is one."""
    from minirnn.drawing.graph import Seen

    if isinstance(thing, Tensor):
        name = getattr(thing, "name", "") or ("leaf" if thing._requires_grad else "constant")
        return Seen(name, f"{thing.shape} {thing.dtype}", "input" if thing._requires_grad else "constant")
    if not isinstance(thing, Node):
        return Seen("constant", "", "constant")
    if thing.edges is None:
        return Seen(thing.op.name, "used up by backward()", "constant")
    return Seen(thing.op.name, "", "plain", [_kernel_behind(x) for x in _inputs_of(thing)])


def _inputs_of(node: Node) -> list[Any]:
    """Return what a node reads: receivers, and for each input that wants no gradient a new object."""
    if type(node) is KernelNode:
        receivers, _, _, _, arrays = node.edges
        pairs = zip(receivers, arrays, strict=True)
        return [wrap(a, None) if r is None else r for r, a in pairs if a is not None]
    return [object() if edge is None else edge[0] for edge in node.edges]


# --- operands --------------------------------------------------------------------------------------------------------


def _operands(a: Any, b: Any) -> tuple[Any, Any]:
    """Bring two operands, one a Tensor at least, to one dtype: a Tensor's wins over a number's, a wider one wins."""
    if isinstance(a, Tensor) and isinstance(b, Tensor):
        if a.ndim == 0 < b.ndim and b.dtype.kind == "f":
            return a.astype(b.dtype), b
        if b.ndim == 0 < a.ndim and a.dtype.kind == "f":
            return a, b.astype(a.dtype)
        dtype = common_dtype(a.dtype, b.dtype)
        return a.astype(dtype), b.astype(dtype)
    if isinstance(a, Tensor):
        return _with_constant(a, b)
    b, a = _with_constant(b, a)
    return a, b


def _with_constant(t: Tensor, c: Any) -> tuple[Any, Any]:
    if isinstance(c, _NUMBERS):
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


def pair(a: Any, b: Any, name: str) -> tuple[Any, Any]:
    """Bring two operands, of which neither need be a Tensor, to one dtype; at least one comes back as a Tensor."""
    if not isinstance(a, Tensor) and not isinstance(b, Tensor):
        if hasattr(b, "__array__") and not hasattr(a, "__array__"):
            b = Tensor(as_array(b, f"{name}: b"))
        else:
            a = Tensor(as_array(a, f"{name}: a"))
    a, b = _operands(a, b)
    if a is NotImplemented:
        raise TypeError(f"{name}: both operands must be Tensors, arrays, lists or numbers")
    return a, b


def common_dtype(a: np.dtype[Any], b: np.dtype[Any]) -> np.dtype[Any]:
    """Numpy's promotion, but that integers and bools never widen a float."""
    if a.kind == "f" != b.kind:
        return a
    if b.kind == "f" != a.kind:
        return b
    return np.result_type(a, b)


def _plain_index(index: Any) -> Any:
    if isinstance(index, tuple):
        return tuple(_plain_index(i) for i in index)
    if isinstance(index, Tensor):
        return index._data
    return np.asarray(index, None if index else int) if isinstance(index, list) else index


def _bound(value: Any, name: str) -> Any:
    """Return a bound of `clip` as a Python number, which lets the dtype stand."""
    if value is None:
        return None
    if np.ndim(value) or (isinstance(value, Tensor) and value.requires_grad):
        raise TypeError(
            f"clip: {name} must be a number or None, got {describe(value)}; "
            "for arrays and Tensors use maximum and minimum"
        )
    return as_array(value, f"clip: {name}", np.float64).item()


def _unpacked(arguments: tuple[Any, ...]) -> tuple[int, ...]:
    return tuple(arguments[0]) if len(arguments) == 1 and isinstance(arguments[0], tuple | list) else arguments


def _only_without_derivative(func: Any, method: str, args: Any, kwargs: Any) -> Any:
    """Call a numpy function that has no op on the plain arrays, if nothing differentiable is lost by it."""
    module = getattr(func, "__module__", "numpy").replace("numpy", "np", 1)
    name = f"{module}.{func.__name__}" + (f".{method}" if method not in ("", "__call__") else "")
    tensors: list[Tensor] = []

    def plain(value: Any) -> Any:
        if isinstance(value, Tensor):
            tensors.append(value)
            return value._data
        return type(value)(plain(v) for v in value) if type(value) in (list, tuple) else value

    call = getattr(func, method) if method else func
    result = call(*plain(args), **{k: plain(v) for k, v in kwargs.items()})
    differentiable = MODE.get() & RECORD and any(t.requires_grad for t in tensors)
    if differentiable and _holds_floats(result) and func.__name__ not in _SHAPE_ONLY:
        raise TypeError(
            f"{name}: no derivative is known for it. Use one of minirnn's functions (mr.tanh, mr.sum, …), "
            "or t.detach() or t.numpy() if no gradient should flow"
        )
    return result


_SHAPE_ONLY = ("zeros_like", "ones_like", "empty_like")


def _holds_floats(result: Any) -> bool:
    if isinstance(result, tuple | list):
        return any(map(_holds_floats, result))
    return isinstance(result, float) or getattr(getattr(result, "dtype", None), "kind", "") == "f"


# --- a backward pass -------------------------------------------------------------------------------------------------


def start_of(output: Tensor, caller: str) -> Any:
    """Return the node, or leaf, at which a backward pass from ``output`` starts."""
    root = receiver_of(output)
    if root is None:
        raise RuntimeError(
            f"{caller}: nothing was recorded for this Tensor: no input of its computation has requires_grad=True, "
            "or it ran under no_grad()"
        )
    return root


def seed_of(output: Tensor, gradient: Any, caller: str) -> Array:
    """Return the gradient that enters at ``output``: the one given, or 1 for a single number."""
    if gradient is None:
        if output.size != 1:
            raise ValueError(
                f"{caller}: a Tensor of shape {output.shape} needs a gradient of that shape; "
                f"reduce it to one number first (.sum(), .mean()), or pass gradient="
            )
        return np.ones(output.shape, output.dtype)
    array = as_array(gradient, f"{caller}: gradient", output.dtype)
    if array.shape != output.shape:
        raise ValueError(f"{caller}: gradient must have the shape of the output, {output.shape}, got {array.shape}")
    return array.astype(output.dtype, copy=False)


def anomaly_check() -> Callable[[Any, Node], None] | None:
    """Return what looks at every gradient of a pass within `detect_anomaly`, elsewhere None."""
    if not anomaly():
        return None

    def check(g: Any, node: Node) -> None:
        if isinstance(node, OutputNode):
            return  # its kernel's node is next, and gets this gradient with those of the other outputs
        of_its_own = getattr(node.op, "check_gradients", None)
        if of_its_own is not None:
            of_its_own(g)
            return
        for part in g.values() if isinstance(g, dict) else (g,):
            check_finite(np.asarray(part), f"the gradient of the output of {node.op.name}", "look at what follows it")

    return check


_RETAINED: weakref.WeakKeyDictionary[Node, weakref.ref[Tensor]] = weakref.WeakKeyDictionary()
"""Outputs of ops whose gradient `backward` leaves in ``grad`` too."""


def _accumulate(totals: dict[Any, Any], seed: Array) -> None:
    """Add each leaf's total to its ``grad``: the only thing a pass changes, and it comes last."""
    seen = {id(seed)}
    ready = []
    watched = anomaly()
    for receiver, g in totals.items():
        tensor = receiver if isinstance(receiver, Tensor) else _RETAINED[receiver]()
        if tensor is None:
            continue
        if tensor._hooks:
            g = tape.call_hooks(tensor._hooks, np.asarray(g))
        if type(g) is not np.ndarray or g.dtype is not tensor._data.dtype:
            g = np.asarray(g, dtype=tensor._data.dtype)
        if g.base is not None or id(g) in seen:
            g = g.copy()  # each owns its grad: rules may hand the same array, or views of it, to several inputs
        seen.add(id(g))
        if watched:
            check_finite(g, f"the gradient of {tensor._label()}", "look at the ops that it goes into")
        ready.append((tensor, g))
    with _ACCUMULATE:
        for tensor, g in ready:
            tensor._grad = g if tensor._grad is None else tensor._grad + g
