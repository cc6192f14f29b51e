"""A whole kernel as one node of the tape: several inputs, several outputs, one backward function on plain arrays."""

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from minirnn.arguments import Array
from minirnn.autograd.modes import MODE, RECORD
from minirnn.autograd.record import guards_of, receiver_of, wrap
from minirnn.autograd.tape import Node

if TYPE_CHECKING:
    from minirnn.autograd.tensor import Tensor


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
        """Return what each input is that there is: a node, a leaf, or a constant."""
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
    """Return edges for gradients that are known already, given with their receivers."""
    return [(receiver, lambda _, gi: gi, (gi,)) for receiver, gi in pairs if receiver is not None and gi is not None]


class Received(dict[int, Any]):
    """The gradients that a kernel's outputs have received, by index; an output that received none is absent."""

    def __add__(self, other: "Received") -> "Received":
        self.update({i: self[i] + g if i in self else g for i, g in other.items()})
        return self
