"""A cell's equation run on rows, recorded: its values, and the way back through it, from the tape.

Shapes: R rows, of any steps and rows of the mini-batch; H hidden neurons; G blocks.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import groupby
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np

from minirnn.arguments import Array
from minirnn.autograd import tape
from minirnn.autograd.modes import ANOMALY, RECORD, switched
from minirnn.autograd.tensor import Tensor, apply_kernel
from minirnn.cells.cell import NOTES, Cell, checked, has
from minirnn.kernels.simple import Custom


class Pass:
    """One run of an equation, recorded.

    Parameters
    ----------
    cell : Cell
    z : (R, G·H), without the last block for a cell whose sides come `apart`
    state : (R, H) each, before the step
    x : (R, H), for a cell whose sides come apart

    Attributes
    ----------
    inputs : dict from name to Tensor
        "z", "x", "q", and 0, 1, … for the arrays of the state.
    new : list of Tensors (R, H)
    staged : Tensor (R, H) or None
    notes : list of (kind, name, Tensor)
        What the equation says its terms are called.
    """

    def __init__(self, cell: Cell, z: Array, state: Sequence[Array], x: Array | None = None) -> None:
        self.cell, self.notes, self.new = cell, [], []  # type: tuple[Cell, list[Any], list[Tensor]]
        given: dict[Any, Array | None] = {"z": z, **dict(enumerate(state)), "x": x}
        self.inputs = {key: Tensor(a, requires_grad=True) for key, a in given.items() if a is not None}
        self.staged: Tensor | None = None
        if cell.staged:
            self.staged = self._run(lambda: cell.stage(self.inputs["z"], *self._state))

    @property
    def _state(self) -> list[Tensor]:
        return [self.inputs[s] for s in range(self.cell.states)]

    def _run(self, call: Callable[[], Any]) -> Any:
        token = NOTES.set(self.notes)
        try:
            with switched(on=RECORD, off=ANOMALY):  # who looks for anomalies names them better from this record
                return call()
        finally:
            NOTES.reset(token)

    def finish(self, q: Array | None = None) -> "Pass":
        """Run the equation; q (R, H) for a cell whose sides come apart."""
        if q is not None:
            self.inputs["q"] = Tensor(q, requires_grad=True)
        sides = [self.inputs[key] for key in ("x", "q") if key in self.inputs]
        made = self._run(lambda: equation_of(self.cell, self.inputs["z"], *sides, *self._state))
        self.new = checked(made, self.cell, self._state)
        return self

    def noted(self, kind: str) -> dict[str, Array]:
        """Return the values of what the equation has named, by name: "pre", "gate" or "term"."""
        return {name: tensor.data for of, name, tensor in self.notes if of == kind}

    def back(self, d_new: Sequence[Array | None], d_staged: Array | None = None) -> dict[Any, Array]:
        """Return the gradients of the inputs, by name, from those of the new state; absent where there is none."""
        total: dict[Any, Array] = {}
        for output, d in zip((*self.new, self.staged), (*d_new, d_staged), strict=True):
            if d is not None and output is not None:
                for key, g in self.gradients(output, d, {}).items():
                    total[key] = total[key] + g if key in total else g
        return total

    def gradients(self, output: Tensor, d: Array, fences: Mapping[Any, Any]) -> dict[Any, Array]:
        """Send d back from one output; return the gradients of the inputs by name.

        ``fences``: nodes of the tape where the way ends, with the names under which their gradients are returned.
        """
        keys: dict[Any, Any] = {**{tensor: key for key, tensor in self.inputs.items()}, **fences}
        if any(output is tensor for tensor in self.inputs.values()):
            return {keys[output]: d}
        if output.node is None:
            return {}
        found = tape.run(
            output.node,
            d,
            retain_graph=True,
            capture=fences,
            open=lambda node, g: () if node in fences else node.open(g),
        )
        for at in found:
            if at not in keys:
                kind = type(self.cell).__name__
                raise TypeError(
                    f"{kind}.equation reads a Tensor of its own that requires a gradient, of shape {at.shape}, but the "
                    "layer owns the parameters: detach() it, or, to learn it, use backend='graph'"
                )
        return {keys[at]: np.asarray(g) for at, g in found.items()}


def equation_of(cell: Cell, z: Tensor, *others: Tensor) -> Any:
    """Return the new state by the equation; without one, by `Cell.step` as one node that `step_backward` opens."""
    if has(cell, "equation"):
        return cell.equation(z, *others)
    new, saved = cell.step(z.data.copy(), *(s.data.copy() for s in others))

    def backward(received: dict[int, Array], wanted: tuple[bool, ...]) -> Sequence[Array]:
        d = tuple(received.get(i, np.zeros_like(s)) for i, s in enumerate(new))
        dz, before = cell.step_backward(d, saved)
        return dz, *before

    named = SimpleNamespace(name=f"{type(cell).__name__}.step")
    return apply_kernel(named, (z, *others), new, backward, lambda *_: [])


class EquationPair:
    """`Cell.step` and `Cell.step_backward` made of the equation, for the fused unroll."""

    def __init__(self, cell: Cell) -> None:
        self.cell, self.blocks, self.states = cell, cell.blocks, cell.states

    def step(self, z: Array, *state: Array) -> tuple[tuple[Array, ...], Pass]:
        """Return the new state, and the run."""
        made = Pass(self.cell, z, state).finish()
        return tuple(new.data for new in made.new), made

    def step_backward(self, d_state: Sequence[Array], saved: Pass) -> tuple[Array, tuple[Array, ...]]:
        """Return dZ and the gradients of the state before."""
        zeros = {key: np.zeros_like(given.data) for key, given in saved.inputs.items()}
        z, *state = (zeros | saved.back(d_state)).values()
        return z.astype(d_state[0].dtype, copy=False), tuple(s.astype(d_state[0].dtype, copy=False) for s in state)


def kernel_of(cell: Cell) -> Any:
    """Return the cell as the fused unroll runs it: its kernel, or one made of its pair or its equation."""
    if cell.kernel is not None:
        return cell.kernel
    if cell.apart:
        raise TypeError(f"{type(cell).__name__}: a cell whose sides come apart needs a kernel: use backend='graph'")
    return Custom(cell if has(cell, "step") and has(cell, "step_backward") else EquationPair(cell))


class Edge(NamedTuple):
    """A factor that goes back through a cell.

    Attributes
    ----------
    source : int
        From the gradient of which array of the new state; −1 for what is staged.
    columns : slice
        To which columns of the gradient of z; all of the others.
    slope : (R, ·)
    """

    source: int
    columns: slice
    slope: Array


class Local(NamedTuple):
    """The way back through a cell at many steps, entry by entry: factors by where they lead.

    Attributes
    ----------
    order : list of int
        The arrays of the new state, each before those that it is made of.
    to : dict from key to list of Edge
        "z", "x" and "q"; 0, 1, … for the arrays of the state before; ("new", s) for an array of the new state from
        those that are made of it.
    """

    order: list[int]
    to: defaultdict[Any, list[Edge]]

    def back(self, d: dict[int, Array], J: int) -> dict[Any, Array]:
        """Return the gradients of the inputs, by key, from those of the new state, by source; that of z is (R, J).

        ``d`` is added to: what others of the new state are made of it.
        """
        for s in self.order:
            for edge in self.to["new", s] if s in d else ():
                d[s] = d[s] + d[edge.source] * edge.slope
        found: dict[Any, Array] = {}
        for key, edge in ((key, edge) for key, edges in self.to.items() for edge in edges if edge.source in d):
            share = times_slope(d[edge.source], edge.slope)
            if key == "z":
                found.setdefault(key, np.zeros((len(share), J), share.dtype))[:, edge.columns] += share
            elif not isinstance(key, tuple):
                found[key] = found[key] + share if key in found else share
        return found


def times_slope(d: Array, slope: Array) -> Array:
    """Multiply a gradient (…, R, H) by its slopes (…, R, H), or (…, R, k·H) where it meets k blocks side by side."""
    H, wide = d.shape[-1], slope.shape[-1]
    if wide == H:
        return d * slope
    share = d[..., None, :] * slope.reshape(*slope.shape[:-1], wide // H, H)  # in a third of the time of numpy.tile
    return share.reshape(*share.shape[:-2], wide)


def linearise(made: Pass) -> Local:
    """Return the factors of one run: ones sent back from each array of the new state, one after the other."""
    nodes = [new.node for new in made.new]
    inner = {node: ("new", s) for s, node in enumerate(nodes) if node is not None and nodes.count(node) == 1}
    local = Local(sorted(range(len(nodes)), key=lambda s: getattr(nodes[s], "number", 1)), defaultdict(list))
    outputs = [*((s, made.new[s]) for s in local.order), *([(-1, made.staged)] if made.staged is not None else [])]
    for source, output in outputs:
        fences = {node: key for node, key in inner.items() if source >= 0 and key[1] != source}
        for key, slope in made.gradients(output, np.ones_like(output.data), fences).items():
            columns = _blocks(slope, made.new[0].shape[1]) if key == "z" else [slice(None)] * bool(slope.any())
            local.to[key] += [Edge(source, at, slope[:, at]) for at in columns]
    local.to["z"].sort(key=lambda edge: edge.columns.start)
    return local


def _blocks(slope: Array, H: int) -> Iterator[slice]:
    """Yield the columns of blocks of z that have a factor, those side by side together."""
    with_one = [j for j in range(0, slope.shape[1], H) if slope[:, j : j + H].any()]
    for _, group in groupby(enumerate(with_one), key=lambda pair: pair[1] - pair[0] * H):
        columns = [j for _, j in group]
        yield slice(columns[0], columns[-1] + H)
