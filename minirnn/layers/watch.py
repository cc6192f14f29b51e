"""Within `detect_anomaly`: a call of a recurrent layer with a look at all that comes in, happens, and goes back.

The layer's backend makes the numbers, as ever. Beside it `Watch` runs the layer's equation step by step, one op for
each operation, and looks at what every op makes, and on the way back at the gradient that every op receives. What a
term is called is read off the ops (minirnn/cells/writing.py). So a fault is named alike for both backends, also one
that leaves no trace in the outputs, such as an inf that tanh makes 1 of.

A ``·`` in a name stands for the gates, whose blocks lie side by side. Shapes: N′ of the N rows have a step.
"""

from collections.abc import Callable, Container, Mapping, Sequence
from copy import copy
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from minirnn.arguments import Array
from minirnn.autograd import tape
from minirnn.autograd.functions import where
from minirnn.autograd.modes import ANOMALY, RECORD, WITHIN, check_finite, observing, switched
from minirnn.autograd.tensor import Tensor, apply_kernel, as_tensor, receiver_of
from minirnn.cells.cell import Cell, gates_of, next_state, states_of
from minirnn.cells.pointwise import Pass, equation_of
from minirnn.cells.writing import ATOM, Style, Term, Text, combined
from minirnn.kernels.layout import Weights, clipped
from minirnn.layers.door import Sequences
from minirnn.layers.recurrence import RecurrentOutput

if TYPE_CHECKING:
    from minirnn.layers.layer import Layer

OF_UPSTREAM = "look at the loss, and at what lies between it and this layer"
OF_STATE = "if the state grows from step to step, try a smaller W_hh (mr.init.spectral); else look at the initial state"
OF_GRADIENT = (
    "if the gradient grows from step to step on its way back, try message_clip= or a smaller W_hh (mr.init.spectral); "
    "else look at the size of the loss"
)


def forward(layer: "Layer[Any]", x: Any, initial_state: Any, lengths: Any, reset: Any) -> RecurrentOutput[Any]:
    """Call a layer, ``layer(x, initial_state, lengths, reset=reset)``, with a look at everything."""
    x = as_tensor(layer._given(x, "x"))
    sequences = layer._sequences(x.shape, lengths, reset)
    if sequences is None:
        _check(layer, x.data, "x")
    else:
        valid = (sequences.valid().T if layer.batch_first else sequences.valid())[..., None]
        _check(layer, np.where(valid, x.data, 0), "x")
        x = where(valid, x, 0.0)
    initial_state = _checked(layer, initial_state, x.shape[0 if layer.batch_first else 1], "initial_state")
    x, state, sequences, mask = layer.arrange(x, initial_state, lengths, reset)
    state = list(map(as_tensor, state))
    watch = Watch(layer, sequences, mask, x, state)
    (outputs,), final = layer._unrolled(x, state, sequences, mask)
    outputs, *final = watch.over([outputs, *final])
    return RecurrentOutput(outputs, layer._joined(final))


def step(layer: "Layer[Any]", x_t: Any, state: Any) -> Any:
    """Take a step, ``layer.step(x_t, state)``, with a look at everything."""
    x_t = as_tensor(layer._given(x_t, "x_t"))
    _check(layer, x_t.data, "x_t")
    x_t = layer._one_step(x_t)
    given = layer._step_state(_checked(layer, state, x_t.shape[0], "state"), x_t.shape[0])
    watch = Watch(layer, None, None, x_t[None], given, single=True)
    return layer._joined(watch.over(layer.graph_step(None, x_t, given, layer.weights)))


def _check(layer: "Layer[Any]", value: Array, argument: str) -> None:
    """Refuse numbers, of x or of (N, ·), that are not finite as they are, or in the layer's dtype."""
    bad, place = np.argwhere(~np.isfinite(value)), ""
    if len(bad) and value.ndim > 1:
        *t, n = bad[0][-2::-1] if layer.batch_first else bad[0][:-1]
        place = f"step t={t[0]}, row n={n}: " if t else f"row n={n}: "
    check_finite(value, f"{_title(layer)}: {place}{argument}", "look at the data that comes in")
    name = layer.dtype.name
    hint = f"they are too large for {name}: scale the data, or make the layer with dtype=numpy.float64"
    check_finite(value.astype(layer.dtype), f"{_title(layer)}: {argument}, cast to {name},", hint)


def _checked(layer: "Layer[Any]", state: Any, N: int, argument: str) -> Any:
    """Check a state, then the Parameters; return the state as it was given, as Tensors."""
    given = [] if state is None else layer._named_states(state, N, argument)
    tensors = [as_tensor(layer._given(value, name)) for name, value in given]
    for (name, _), tensor in zip(given, tensors, strict=True):
        _check(layer, tensor.data, name)
    hint = "did an update or an initialiser go wrong? Try a smaller learning rate, or load the values again"
    for name, parameter in layer.named_parameters():
        check_finite(parameter.data, f"{_title(layer)}: {name}", hint)
    return None if state is None else tensors if len(tensors) > 1 else tensors[0]


def _title(layer: "Layer[Any]") -> str:
    """Name a layer in an error: its class and sizes, and in a composite where it stands."""
    return " in ".join([f"{layer.name}({layer.input_size}, {layer.hidden_size})", *reversed(WITHIN.get())])


class Moment(NamedTuple):
    """A step in time: the rows that have it, in rising order, their sequences, and the state before, (N′, H) each."""

    t: int
    rows: Array
    sequences: Array
    before: list[Array]


class Watch:
    """One call of a layer within `detect_anomaly`; making it goes forward through all steps.

    Parameters
    ----------
    layer : Layer
    sequences : Sequences or None
    mask : (sequences, H) or None
    x : Tensor (T, N, D)
    state : Tensors (sequences, H)
        All as the backend gets them.
    single : bool
        Whether this is `Layer.step`, which returns states alone.

    Raises
    ------
    AnomalyError
        Naming the layer, the step, the row, the term and its entry.
    """

    def __init__(
        self, layer: "Layer[Any]", sequences: Sequences | None, mask: Array | None, x: Tensor, state: Sequence[Tensor],
        *, single: bool = False,
    ) -> None:  # fmt: skip
        T, N, _ = x.shape
        if sequences is None:
            row = np.arange(N)
            sequences = Sequences(T, N, row, row * 0, np.full(N, T), row >= 0, row, layer.reverse)
        self.layer, self.name, self.title = layer, layer.name, _title(layer)
        self.sequences, self.mask, self.single = sequences, mask, single
        self.x, self.state = x.data, [s.data for s in state]
        self.wants_state = any(receiver_of(s) is not None for s in state)
        wanted = zip(("X_t", *Weights._fields), (x, *layer.weights), strict=False)
        self.wanted = {name for name, tensor in wanted if receiver_of(tensor) is not None}
        self.moments: list[Moment] = []
        self._forward()

    def over(self, made: Sequence[Tensor]) -> Sequence[Tensor]:
        """Put a node over what the layer has made, which looks at the gradients before the layer gets them."""
        hint = "each term of the equation is finite by itself: look at the sizes of the weights and the state"
        for y in made:
            check_finite(y.data, f"{self.title}: what it returns", hint)
        return apply_kernel(self, made, [y.data for y in made], self._handed_on, lambda *same: same)

    def _see(self, term: str, value: Array, hint: str) -> Array:
        """Return a value (N′, ·) of the present step if it is finite; of gates side by side an error names one."""
        bad = np.argwhere(~np.isfinite(value))
        if len(bad):
            i, j = bad[0]
            if "·" in term:
                H, gates = self.layer.hidden_size, gates_of(self.layer.core)
                first = j - j % H
                value = value[:, first : first + H]
                term = term.replace("·", gates[first // H] if len(gates) > 1 else "h")
            whole = np.zeros((len(self.x[0]), value.shape[1]), value.dtype)
            whole[self.moment.rows] = value
            name = f"{self.title}: {self.place}, row n={self.moment.rows[i]}: {term.replace(' - ', ' − ')}"
            check_finite(whole, name, hint)
        return value

    def _run(self, moment: Moment, way: str) -> "Step":
        """Go to a step, forward or backward; return it run."""
        self.moment, self.place = moment, f"{way} in step()" if self.single else f"{way} at step t={moment.t}"
        mask = None if self.mask is None else self.mask[moment.sequences]
        return Step(self.layer, self.x[moment.t, moment.rows], moment.before, mask, self.wanted)

    def _forward(self) -> None:
        """Go through all steps in the order of processing."""
        q = self.sequences
        owner = np.full((q.T, q.N), -1)  # which sequence a step of a row belongs to; −1 in the padding
        for i, (row, start, length) in enumerate(zip(q.row, q.start, q.length, strict=True)):
            owner[start : start + length, row] = i
        state = [s.copy() for s in self.state]
        for t in reversed(range(q.T)) if q.reverse else range(q.T):
            rows = np.flatnonzero(owner[t] >= 0)
            if not len(rows):
                continue
            now = owner[t, rows]
            self.moments.append(Moment(t, rows, now, [s[now] for s in state]))
            run = self._run(self.moments[-1], "forward")
            for term in run.terms:
                if run.faulty(term.output.data):
                    self._see(run.called(term), term.output.data, run.hint(term))
            for s, (whole, new) in enumerate(zip(state, run.made.new, strict=True)):
                kind = type(self.layer.core).__name__
                whole[now] = self._see(f"{kind}: new state {s}", new.data, f"look at {kind}")

    # --- back --------------------------------------------------------------------------------------------------------

    def _handed_on(self, received: Mapping[int, Array], wanted: tuple[bool, ...]) -> list[Array | None]:
        """Hand the gradients on as they came, but for the padding, which the layer ignores, and the tape would not."""
        given = [received.get(i) for i in range(len(wanted))]
        if not self.single and given[0] is not None:
            valid = self.sequences.valid()
            given[0] = np.where((valid.T if self.layer.batch_first else valid)[..., None], given[0], 0)
        return given

    def check_gradients(self, received: Mapping[int, Array]) -> tuple[list[Array], dict[str, Array]]:
        """Look at the gradients that enter and at each term on the way back, step by step.

        If all is finite return the gradients of the initial states, (sequences, H) each, and of the weights.
        """
        d_outputs = None if self.single else received.get(0)
        if d_outputs is not None and self.layer.batch_first:
            d_outputs = d_outputs.swapaxes(0, 1)
        carried = [np.zeros_like(s) for s in self.state]
        for i, to in enumerate(carried, 0 if self.single else 1):
            to[self.sequences.last] = received.get(i, 0)
        sums: dict[str, Array] = {}
        for moment in reversed(self.moments):
            now = moment.sequences
            before = self._back(self._run(moment, "backward"), [c[now] for c in carried], d_outputs, sums)
            for to, d in zip(carried, before, strict=True):
                to[now] = d
        return carried, sums

    def _back(self, run: "Step", d: list[Array], d_outputs: Array | None, sums: dict[str, Array]) -> list[Array]:
        """Go back through a step from the gradients carried to it; return those of the state before."""
        at, several = self.moment, len(d) > 1
        for i, carried in enumerate(d):  # what other steps have handed back has been looked at
            self._see(f"the upstream gradient of final_state{f'[{i}]' * several}", carried, OF_UPSTREAM)
        if d_outputs is not None:
            up = self._see("the upstream gradient of outputs", d_outputs[at.t, at.rows], OF_UPSTREAM)
            d[0] = self._see("dL/dH_t = upstream + carried gradient", up + d[0], OF_GRADIENT)
        if self.layer.message_clip is not None:
            d[0] = clipped(d[0], self.layer.message_clip, 1)
        q, now = self.sequences, at.sequences
        first = q.start[now] + (q.length[now] - 1 if q.reverse else 0)
        unused = (first == at.t) & (not self.wants_state)  # before its first step a sequence has no state of its own
        found = run.back(d, unused, self._see)
        for name in (name for name in Weights._fields if name in found):
            place = f"{self.title}: {self.place}:"
            check_finite(found[name], f"{place} the share of this step in dL/d{name}", OF_GRADIENT)
            sums[name] = sums[name] + found[name] if name in sums else found[name]
            check_finite(sums[name], f"{place} dL/d{name}, the sum so far,", OF_GRADIENT)
        return [found[s] for s in range(len(d))]


# --- one step ---------------------------------------------------------------------------------------------------------


class Whole(Pass):
    """A run of a whole step, products and all; z, x and q are what the products make."""

    staged: Tensor | None = None

    def __init__(
        self, cell: Cell, x_t: Tensor, state: Sequence[Tensor], mask: Tensor | None, weights: Sequence[Any]
    ) -> None:
        self.cell, self.notes = cell, []
        noted = copy(cell)  # the same cell, but that what goes into its equation is noted
        vars(noted).update(equation=self._equation, stage=self._stage)
        self.new = list(self._run(lambda: next_state(noted, x_t, state, mask, *weights)))

    def _equation(self, z: Tensor, *given: Tensor) -> Any:
        sides, state = given[: -self.cell.states], given[-self.cell.states :]
        self.inputs = {"z": z, **dict(zip("xq", sides, strict=False)), **dict(enumerate(state))}
        return equation_of(self.cell, z, *given)

    def _stage(self, z: Tensor, *state: Tensor) -> Any:
        self.staged = self.cell.stage(z, *state)
        return self.staged


class Step(Text):
    """One step of a layer, run op by op; its terms are only given names when one is asked for.

    Parameters
    ----------
    layer : Layer
    x : (N', D)
    before : (N', H) each
        The state before the step.
    mask : (N', H) or None
    wanted : set of str
        Which of X_t and the weights want a gradient.

    Attributes
    ----------
    leaves : dict from name to Tensor
        X_t, the mask m and the weights.
    state : Tensors (N', H)
        The state before the step.
    """

    def __init__(
        self, layer: "Layer[Any]", x: Array, before: Sequence[Array], mask: Array | None, wanted: Container[str]
    ) -> None:
        self.cell, self.style, self.H = layer.core, Style(gate=""), layer.hidden_size
        self.gates, self.letters, self.terms = gates_of(self.cell), states_of(self.cell), []
        data = {name: w.data for name, w in zip(Weights._fields, layer.weights, strict=False) if w is not None}
        self.leaves = {name: Tensor(a, name in wanted) for name, a in {"X_t": x, **data}.items()}
        if mask is not None:
            self.leaves["m"] = Tensor(mask)
        self.state = [Tensor(s, requires_grad=True) for s in before]
        self.of_equation = "" if self.cell.kernel is not None else f"look at {type(self.cell).__name__}.equation"
        with observing(lambda op, given, settings, y: self.terms.append(Term(op, tuple(given), settings, y))):
            x_t, m, weights = (
                self.leaves["X_t"],
                self.leaves.get("m"),
                [self.leaves.get(name) for name in Weights._fields],
            )
            self.made = Whole(self.cell, x_t, self.state, m, weights)

    def faulty(self, value: Any) -> bool:
        """Whether it is an array (N', ·) with an entry that is not finite."""
        return np.ndim(value) == 2 and len(value) == len(self.state[0]) and not np.isfinite(value).all()

    def back(
        self, d: Sequence[Array], unused: Array, see: Callable[[str, Array, str], object]
    ) -> dict[str | int, Array]:
        """Go back by the tape from the gradients of the new state; return those of leaves by name, of states by number.

        ``unused`` (N',) says in which rows those of the state before are of no use: they are 0 there. ``see`` is shown
        the first gradient that is not finite.
        """
        made = {term.output.node: term.output for term in self.terms if term.op.name != "matmul"}
        hint = self.of_equation or OF_GRADIENT
        if any(term.op.name == "activation" for term in self.terms):
            hint = "look at φ′, and at the size of the gradient that enters"

        def look(value: Tensor | None, g: Any, hint: str = OF_GRADIENT) -> None:
            if value is not None and self.faulty(g):
                see(self.gradient_called(value), np.asarray(g), hint)

        with switched(on=RECORD, off=ANOMALY):  # one node over the new state, which hands each array its gradient
            (root,) = apply_kernel(self, self.made.new, [np.zeros(())], lambda *_: d, lambda *_: [])
        totals = tape.run(
            root.node, np.ones(()), retain_graph=True, check=lambda g, node: look(made.get(node), g, hint)
        )
        found: dict[str | int, Array] = {name: totals[leaf] for name, leaf in self.leaves.items() if leaf in totals}
        look(self.leaves["X_t"], found.get("X_t", 0))
        for s, leaf in enumerate(self.state):
            found[s] = np.where(unused[:, None], 0, totals.get(leaf, np.zeros_like(leaf.data)))
            look(leaf, found[s])
        return found

    # --- names -------------------------------------------------------------------------------------------------------

    def called(self, term: Term) -> str:
        """Name a term by its formula, after the name it has, unless that is a pre-activation's."""
        self._read()
        kind, _ = self.kinds.get(id(term.output), ("pre", ""))
        formula = self._product(term) or self.shown(term.output, whole=True)
        return formula if kind == "pre" else f"{self.names[id(term.output)]} = {formula}"

    def gradient_called(self, value: Tensor) -> str:
        """Name the gradient of a term, with its formula unless it is that of the new state."""
        self._read()
        name = self.stops.get(id(value), f"dL/d{self.shown(value, ATOM)}")
        paths = [] if any(value is new for new in self.made.new) else self.paths(value)
        return f"{name} = {combined(paths)}" if paths else name

    def hint(self, term: Term) -> str:
        """Say what to look at where a term is not finite."""
        of_input = term.inputs[0] is self.leaves["X_t"]
        hints = {
            "matmul": "look at the sizes of x and W_xh" if of_input else OF_STATE,
            "add": "look at the sizes of what is added",
            "activation": "Z_t is finite: look at φ",
        }
        return hints.get(term.op.name, self.of_equation or OF_STATE)

    def _name(self) -> None:
        """Give names to the products as well, and to what is cut out of them."""
        super()._name()
        shown = {"W_xh": "W_x·", "W_hh": "W_h·", "b_h": "b_·", "b_hn": f"b_h{self.gates[-1]}"}
        self.names |= {id(leaf): shown.get(name, name) for name, leaf in self.leaves.items()}
        self.names.pop(id(self.made.inputs.get("q")), None)  # it is written as what it is made of
        for term in self.terms:
            if product := self._product(term):
                W = product.split()[-1]
                self.names[id(term.output)] = product
                self.stops[id(term.output)] = f"dL/dZ_{'t' if '·' in W else self.gates[-1]} {W.replace('·', 'h')}ᵀ"
            elif term.op.name == "getitem" and "·" in (whole := self.shown(term.inputs[0])):
                beyond = term.settings["index"][1].start  # of the last block, if it is not from the first one on
                self.names[id(term.output)] = whole.replace("·", self.gates[-1]) if beyond else whole
        if self.made.staged is not None:
            self.stops[id(self.made.staged)] = f"dL/d({self.shown(self.made.staged)})"

    def _product(self, term: Term) -> str:
        """Write a product with one of the weights; nothing for other terms."""
        W = self.names.get(id(term.inputs[-1]), "") if term.op.name == "matmul" else ""
        return W and f"{self.shown(term.inputs[0], ATOM)} {W}"

    def _slope(self, term: Term, i: int) -> tuple[int, tuple[str, ...]]:
        return (1, ()) if self._product(term) else super()._slope(term, i)
