"""Tensor: a numpy array that remembers how it was made; its operators and methods run ops and record them."""

import weakref
from collections.abc import Callable, Iterator
from typing import Any, cast

import numpy as np

from minirnn.arguments import Array, as_array, as_array_like, as_size, unmasked
from minirnn.autograd import functions, gradients, more, ops, products, record, shapes
from minirnn.autograd.asked import refuse_masks, refuse_unasked
from minirnn.autograd.gradients import forget
from minirnn.autograd.modes import MODE, RECORD
from minirnn.autograd.op import Op
from minirnn.autograd.record import apply, apply_kernel, as_tensor, binary, lay_open, receiver_of, unary, wrap
from minirnn.autograd.tape import FreedGraphError, Node

__all__ = [
    "Tensor", "apply", "apply_kernel", "as_tensor", "binary", "forget", "lay_open", "receiver_of", "unary", "wrap",
]  # fmt: skip


def _operators(op: Op) -> tuple[Callable[[Any, Any], "Tensor"], Callable[[Any, Any], "Tensor"]]:
    """Make the two methods of an op between two operands: the left one calls the first, the right one the second."""
    return lambda self, other: binary(op, self, other), lambda self, other: binary(op, other, self)


def _comparison(ufunc: Any) -> Callable[[Any, Any], Any]:
    return lambda self, other: ufunc(self._data, np.asarray(unmasked(other, "operand")))


class Tensor:
    """An n-dimensional array with a place on the tape.

    Parameters
    ----------
    data : array_like
        Shared, not copied, if it is an ndarray. Lists and Python numbers become float32; TypeError for what holds no
        numbers. Setting it (``p.data = …``, ``p.data -= …``) counts as a change: a backward pass that still needs the
        old values is refused. Writing into ``p.data[…]`` goes unseen.
    requires_grad : bool
        Ask for a gradient: `backward` will leave it in ``grad``. TypeError for integers: only floats can have one.

    Attributes
    ----------
    grad : ndarray or None
        The sum of the gradients of every `backward` since it was None; same shape and dtype as ``data``.
    node : Node or None
        Its place on the tape (minirnn/autograd/tape.py): the op that made it; None for a leaf or a constant. Read only.

    Notes
    -----
    The way back reads again what went forward. Arrays given to an op or to `Linear` are kept, not copied: write into
    them after `backward` only, or hand over copies. Recurrent layers without remat copy x and the state,
    losses their ids and targets; indices, conditions, lengths and resets are copied too.

    Where a gradient is required, plain numbers have to be asked for: by ``t.numpy()``, ``t.item()``, ``float(t)``, a
    function of a number (``math.exp(t)``), ``np.asarray(t)`` or ``np.array(t)`` of one Tensor in any library's code, by
    drawing and printing. Where numpy would take them unasked, and the graph would end, is a TypeError: in a list
    (``np.mean([t, u])``), into an array (``a[0] = t``), in numpy's functions, in other libraries' operators. Within
    `no_grad` all goes. Who asks is read off the code that calls, so ``map(np.asarray, ts)`` is refused, too; a list of
    Tensors with axes is taken for a Tensor in ``np.asarray(m.tensors)``, and everything for asked for under
    ``python -X no_debug_ranges``.

    >>> import minirnn as mr
    >>> w = mr.Tensor([1.0, 2.0], requires_grad=True)
    >>> (w * w).sum().backward()
    >>> w.grad
    array([2., 4.], dtype=float32)
    """

    __slots__ = ("__weakref__", "_base", "_data", "_grad", "_requires_grad", "_version", "hooks", "node")

    def __init__(self, data: Any, requires_grad: bool = False) -> None:
        self._data = as_array(data, "Tensor: data")
        self.node: Node | None = None
        self._base: Tensor | None = None  # the leaf whose memory this one shows, if it is a view
        self._requires_grad = False
        self._grad: Array | None = None
        self._version = 0
        self.hooks: dict[object, Callable[[Any], Any]] | None = None
        if requires_grad:
            self.requires_grad = True

    # --- what it holds -----------------------------------------------------------------------------------------------

    @property
    def data(self) -> Array:
        """The values; setting it counts as a change."""
        return self._data

    @data.setter
    def data(self, value: Any) -> None:
        if self.node is not None:
            raise RuntimeError(
                f"Tensor.data: only a leaf's data can be set, and this is the output of '{self.node.op.name}'; "
                "use detach() first, or an op"
            )
        self._data = as_array_like(value, self._data, "Tensor.data")
        (self if self._base is None else self._base)._version += 1

    @property
    def grad(self) -> Array | None:
        """The gradient that `backward` has summed up, or None; may be set."""
        return self._grad

    @grad.setter
    def grad(self, value: Any) -> None:
        self._grad = None if value is None else as_array_like(value, self._data, "Tensor.grad")

    @property
    def requires_grad(self) -> bool:
        """Whether `backward` sends a gradient here."""
        return self._requires_grad

    @requires_grad.setter
    def requires_grad(self, value: bool) -> None:
        if self.node is not None and not value:
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
    def label(self) -> str:
        """What errors and drawings call it."""
        return f"a {type(self).__name__} of shape {self.shape}"

    @property
    def T(self) -> "Tensor":
        """The axes in reverse order."""
        return self.transpose()

    @property
    def mT(self) -> "Tensor":
        """The last two axes exchanged."""
        return self.swapaxes(-1, -2)

    def numpy(self) -> Array:
        """Return the values as an ndarray, in the same memory."""
        return self._data

    to_numpy = numpy  # what matplotlib looks for

    def tolist(self) -> Any:
        """Return the values as nested lists of Python numbers, or one number."""
        return self._data.tolist()

    def copy(self) -> "Tensor":
        """Return the same values in memory of their own; the gradient flows on."""
        return unary(ops.copy, self)

    def item(self) -> float:
        """Return the only entry as a Python number."""
        if self._data.size != 1:
            raise ValueError(f"item: expected a Tensor of one entry, got shape {self.shape}; reduce it, or use numpy()")
        return cast(float, self._data.item())

    def detach(self) -> "Tensor":
        """Return the same values, in the same memory, cut off from the tape: no gradient flows back through it."""
        return wrap(self._data, shown=self)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        if self._requires_grad and MODE.get() & RECORD:
            refuse_unasked(self, number=False, copy=copy)
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
        if self._requires_grad and MODE.get() & RECORD:
            refuse_unasked(self)
        return float(self.item())

    def __int__(self) -> int:
        if self._requires_grad and MODE.get() & RECORD:
            refuse_unasked(self)
        return int(self.item())

    def __format__(self, spec: str) -> str:
        return format(self.item(), spec) if spec else str(self)

    def __repr__(self) -> str:
        prefix = f"{type(self).__name__}("
        values = np.array2string(self._data, separator=", ", prefix=prefix, precision=4, threshold=100, edgeitems=3)
        made = f", op={self.node.op.name}" if self.node else ", requires_grad=True" if self._requires_grad else ""
        return f"{prefix}{values}, shape={self.shape}, dtype={self.dtype}{made})"

    def __reduce__(self) -> Any:
        if self.node is not None:
            raise TypeError("Tensor: only leaves can be copied or pickled, and this has a graph behind it; detach() it")
        state = {"_grad": self._grad, "hooks": self.hooks and dict(self.hooks)}
        return _remade, (type(self), self._data, self._requires_grad), (None, state)

    # --- going back --------------------------------------------------------------------------------------------------

    backward = gradients.backward

    def register_hook(self, hook: Callable[[Any], Any]) -> Callable[[], object]:
        """Call ``hook(gradient)`` when this Tensor's total gradient is known; return a function that removes the hook.

        The hook gets a read-only copy. What it returns, unless None, replaces the gradient from here on.
        """
        if not self._requires_grad:
            raise RuntimeError(
                "register_hook: this Tensor does not require a gradient, so the hook would never be called"
            )
        holder = self if self.node is None else self.node
        hooks = holder.hooks = holder.hooks or {}
        key = object()  # a hook may stand there twice
        hooks[key] = hook
        return lambda: hooks.pop(key, None)

    def retain_grad(self) -> None:
        """Ask `backward` to leave ``grad`` here too, although this is the output of an op."""
        if not self._requires_grad:
            raise RuntimeError("retain_grad: this Tensor does not require a gradient, so it would never get one")
        if self.node is not None:
            gradients.RETAINED[self.node] = weakref.ref(self)  # the node must not keep its output alive

    def to_svg(self, *, max_nodes: int = 60) -> str:
        """Draw the graph that this Tensor was made by as an SVG document, the leaves on the left.

        A fused layer is one box, whatever its length. What needs no gradient is a constant. ValueError if there are
        more boxes than ``max_nodes``, which nobody could read; FreedGraphError if `backward` has used the graph up.

        >>> import minirnn as mr
        >>> x = mr.Tensor([1.0, 2.0], requires_grad=True)
        >>> svg = (x * x).sum().to_svg()  # save it with pathlib.Path("graph.svg").write_text(svg)
        """
        from minirnn.drawing import tensors  # here, since only who draws needs it

        if self.node is not None and self.node.box().edges is None:
            raise FreedGraphError(
                "Tensor.to_svg: there is nothing left to draw, because backward() has used the graph up: draw it "
                "before, or call backward(retain_graph=True)"
            )
        return tensors.draw(self, as_size(max_nodes, "Tensor.to_svg: max_nodes"))

    # --- operators ---------------------------------------------------------------------------------------------------

    __add__, __radd__ = _operators(ops.add)
    __sub__, __rsub__ = _operators(ops.sub)
    __mul__, __rmul__ = _operators(ops.mul)
    __truediv__, __rtruediv__ = _operators(ops.div)
    __pow__, __rpow__ = _operators(ops.pow_)
    __matmul__, __rmatmul__ = _operators(ops.matmul)
    __floordiv__ = more.floor_divide
    __mod__, __rmod__ = _operators(more.remainder)
    __abs__ = functions.abs

    def __rfloordiv__(self, other: Any) -> "Tensor":
        return more.floor_divide(other, self)

    def __pos__(self) -> "Tensor":
        return self

    def __neg__(self) -> "Tensor":
        return unary(ops.neg, self)

    def __getitem__(self, index: Any) -> "Tensor":
        return unary(shapes.getitem, self, index=_plain(index))

    __array_ufunc__ = functions.array_ufunc
    __array_function__ = functions.array_function
    __pandas_priority__ = 10_000  # so that series * t comes here, where it is refused

    @property
    def _mask(self) -> None:
        refuse_masks(self)

    # Comparisons are constants, so they are plain arrays of bools.
    __lt__ = _comparison(np.less)
    __le__ = _comparison(np.less_equal)
    __gt__ = _comparison(np.greater)
    __ge__ = _comparison(np.greater_equal)
    __eq__ = _comparison(np.equal)
    __ne__ = _comparison(np.not_equal)
    __hash__ = object.__hash__

    # --- the functions of the package that are methods too ----------------------------------------------------------

    exp = functions.exp
    log = functions.log
    sqrt = functions.sqrt
    tanh = functions.tanh
    sigmoid = functions.sigmoid
    softplus = functions.softplus
    log_sigmoid = functions.log_sigmoid
    relu = functions.relu
    clip = functions.clip
    astype = functions.astype
    sum = functions.sum
    mean = functions.mean
    max = functions.max
    min = functions.min
    swapaxes = functions.swapaxes
    squeeze = functions.squeeze
    broadcast_to = functions.broadcast_to
    softmax = functions.softmax
    log_softmax = functions.log_softmax
    square = more.square
    sin = more.sin
    cos = more.cos
    log1p = more.log1p
    expm1 = more.expm1
    round = more.round
    var = more.var
    std = more.std
    norm = more.norm
    prod = more.prod
    cumsum = more.cumsum
    argmax = more.argmax
    argmin = more.argmin
    flatten = more.flatten
    ravel = more.flatten
    repeat = more.repeat
    take = more.take
    dot = products.dot

    def reshape(self, *shape: Any) -> "Tensor":
        """Return the same entries in another shape: ``t.reshape(2, 3)`` or ``t.reshape((2, 3))``."""
        return functions.reshape(self, _unpacked(shape))

    def transpose(self, *axes: Any) -> "Tensor":
        """Permute the axes; without arguments, reverse them."""
        return functions.transpose(self, None if axes == (None,) else _unpacked(axes))


def _unpacked(arguments: tuple[Any, ...]) -> tuple[int, ...]:
    return tuple(arguments[0]) if len(arguments) == 1 and isinstance(arguments[0], tuple | list) else arguments


def _plain(index: Any) -> Any:
    """Return an index without Tensors and lists in it, and with arrays of its own, which stay what they are."""
    if isinstance(index, tuple):
        return tuple(_plain(i) for i in index)
    if isinstance(index, Tensor):
        return index._data.copy()
    if isinstance(index, list):
        return np.asarray(index, None if index else int)
    return np.array(unmasked(index, "Tensor: index")) if isinstance(index, np.ndarray) else index


def _remade(kind: Callable[..., Tensor], data: Array, *more: Any) -> Tensor:
    """Make the copy of a leaf, with a dtype that is numpy's own object again: ops ask for it by identity."""
    plain = np.dtype(data.dtype.type)
    return kind(data if data.dtype is plain else data.astype(plain), *more)


# A Tensor is made of what stands there, and what stands there makes Tensors in turn.
for _module in (record, functions, more, products, gradients):
    vars(_module)["Tensor"] = Tensor
