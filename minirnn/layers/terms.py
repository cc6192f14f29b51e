"""One step of a layer, term by term, forward and back, as `detect_anomaly` goes through it.

The products are the layer's; what lies between them is read off the cell's equation (minirnn/cells/writing.py), whose
names the terms have. The numbers of a layer come from its backend, not from here; products and sums are made in the
same order, so that what overflows there does so here. A ``·`` in a name stands for the gates, whose blocks lie side by
side. Shapes: N rows, D inputs, H hidden neurons, G gates.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from minirnn.arguments import Array
from minirnn.autograd import tape
from minirnn.autograd.tape import Node
from minirnn.autograd.tensor import Tensor, apply_kernel
from minirnn.cells.cell import activations_of, gates_of, states_of
from minirnn.cells.pointwise import linearise, recording
from minirnn.cells.writing import ATOM, Style, Term, Text, combined
from minirnn.kernels.simple import Custom
from minirnn.layers.probe import OF_GRADIENT, OF_INPUT, OF_STATE, Probe


class Back(NamedTuple):
    """What goes back through a step.

    Attributes
    ----------
    dz : (N, G·H)
        dL/d what X_t W_xh is added to.
    products : list of (columns of W_hh, (N, H), (N, ·))
        What these columns were multiplied with, and dL/d the product.
    to_fed : (N, H)
        dL/d what is fed back, through the products.
    direct : list of (N, H) or None
        dL/d the state before the step, past the products.
    """

    dz: Array
    products: list[tuple[slice, Array, Array]]
    to_fed: Array
    direct: list[Array | None]


class Terms:
    """The terms of a layer's step.

    Parameters
    ----------
    layer : Layer
    see : Probe
        Is shown every term as soon as it is there; raises if it is not finite.
    single : bool
        Whether this is a step by itself, which goes through the equation whatever the backend.
    fed : str
        What W_hh is multiplied with: H_{t-1}, or m ⊙ H_{t-1}.
    """

    def __init__(self, layer: Any, see: Probe, *, single: bool, fed: str) -> None:
        self.cell, self.see, self.fed, self.H = layer.core, see, fed, layer.hidden_size
        weights: list[Any] = [None if w is None else w.data for w in layer.weights]
        self.W_xh, self.W_hh, self.b_h, self.b_hn, *_ = *weights, None
        self.name, self.gates, self.letters = type(self.cell).__name__, gates_of(self.cell), states_of(self.cell)
        self.last = self.gates[-1]
        self.J = (len(self.gates) - self.cell.apart) * self.H
        self.one = len(self.gates) == 1
        # A kernel multiplies a gate's σ′ with the factor before it first, the tape last.
        self.op_by_op = single or layer.backend == "graph" or isinstance(layer._kernel, Custom)
        self.hint = OF_STATE if self.cell.kernel is not None else f"look at {self.name}.equation"
        self.hint_back = OF_GRADIENT if self.cell.kernel is not None else self.hint
        b, b_hn = " + b_·" * (self.b_h is not None), f" + b_h{self.last}" * (self.b_hn is not None)
        self.style = Style(gate="", sides=(f"X_t W_x·{b}", f"{fed} W_h·{b_hn}"))
        if self.cell.staged:
            z = np.zeros((1, self.J))
            text = Text(self.cell, z, [z[:, : self.H]] * self.cell.states, z[:, : self.H], lambda s: s, self.style)
            self.staged = text.shown(text.made.staged).replace("H_{t-1}", fed)
            sides = self.style.sides[0], f"({self.staged}) W_h·"
            self.style = self.style._replace(sides=sides, staged=f"dL/d({self.staged})")

    # --- forward -----------------------------------------------------------------------------------------------------

    def forward(self, x: Array, fed: Array, state: Sequence[Array], mask: Array | None) -> Sequence[Array]:
        """Return the new state, (N, H) each."""
        text = self._text(self.see, x, fed, state, mask)
        for term in text.terms:
            value = term.output
            if term.op.name != "getitem" and self._of_rows(value.data):
                made_of = {
                    text.shown(v): v.data for v in term.inputs if isinstance(v, Tensor) and self._of_rows(v.data)
                }
                hint = "Z_t is finite: look at φ" if self._phi(term) else self.hint
                self.see(self._called(text, term), value.data, made_of, hint)
        made_of = {f"state {s}": before for s, before in enumerate(state)}
        for s, new in enumerate(text.made.new):
            self.see(f"{self.name}: new state {s}", new.data, made_of, f"look at {self.name}")
        return [new.data for new in text.made.new]

    def _of_rows(self, value: Any) -> bool:
        return bool(np.shape(value) == (len(self.see.rows), self.H))

    def _text(self, see: Any, x: Array, fed: Array, state: Sequence[Array], mask: Array | None) -> Text:
        """Make the products, and run the equation between them."""
        of_all = "h" if self.one else "·"
        of_x, of_h = f"X_t W_x{of_all}", f"{self.fed} W_h{of_all}"
        a = see(of_x, x @ self.W_xh, {"X_t": x}, OF_INPUT)
        if self.cell.apart and self.b_h is not None:
            a, of_x = see(f"{of_x} + b_·", a + self.b_h, {of_x: a}), f"{of_x} + b_·"
        h = see(of_h, fed @ (self.W_hh[:, : self.J] if self.cell.staged else self.W_hh), {self.fed: fed}, OF_STATE)
        z = see(f"{of_x} + {of_h}", a[:, : self.J] + h[:, : self.J], {of_x: a[:, : self.J], of_h: h[:, : self.J]})
        if not self.cell.apart:
            if self.b_h is not None:
                z = see(f"{of_x} + {of_h} + b_{of_all}", z + self.b_h, {f"{of_x} + {of_h}": z})
            return Text(self.cell, z, state, None, None, self.style)

        def q(staged: Array | None) -> Any:
            side, name = h[:, self.J :], f"{self.fed} W_h{self.last}"
            if staged is not None:
                self.staged_value = staged if mask is None else staged * mask
                side, name = self.staged_value @ self.W_hh[:, self.J :], f"({self.staged}) W_h{self.last}"
                see(name, side, {self.staged: self.staged_value}, OF_STATE)
            return side if self.b_hn is None else see(f"{name} + b_h{self.last}", side + self.b_hn, {name: side})

        return Text(self.cell, z, state, a[:, self.J :], q, self.style)

    def _called(self, text: Text, term: Term) -> str:
        """Return what a term is called: its formula, and the name it has, unless that is a pre-activation's."""
        kind, _ = text.kinds.get(id(term.output), ("pre", ""))
        formula = f"φ(Z_t), φ = {self._phi(term)}," if self._phi(term) else text.shown(term.output, whole=True)
        return formula if kind == "pre" else f"{text.names[id(term.output)]} = {formula}"

    def _phi(self, term: Term) -> str:
        """Return the name of φ if a term is what it makes of Z_t."""
        phi = activations_of(self.cell)[0] if self.one else None
        return phi.name if phi is not None and term.op is phi.op else ""

    # --- back --------------------------------------------------------------------------------------------------------

    def backward(self, x: Array, fed: Array, state: Sequence[Array], mask: Array | None, d: Sequence[Array]) -> Back:
        """Go back through the step from the gradients of the new state, (N, H) each."""
        text = self._text(lambda term, value, *_, **__: value, x, fed, state, mask)
        self._look_at_slopes(text)
        send = self._op_by_op if self.op_by_op else self._by_slopes
        found = send(text, dict(enumerate(d)))
        zeros = np.zeros((len(x), self.H), x.dtype)
        if self.cell.staged:
            name, dq = f"dL/d({self.staged}) = dL/dZ_{self.last} W_h{self.last}ᵀ", found["q"]
            staged = self.see(name, dq @ self.W_hh[:, self.J :].T, {f"dL/dZ_{self.last}": dq}, OF_GRADIENT)
            for key, more in send(text, {-1: staged if mask is None else staged * mask}).items():
                found[key] = found[key] + more if key in found else more
        dz, dq = found.get("z", np.zeros_like(text.made.inputs["z"].data)), found.get("q", zeros)
        of = {f"dL/d{self.style.state(s, '_t')}": di for s, di in zip(self.letters[1:], d[1:], strict=True)}
        whole = np.concatenate([dz, found.get("x", zeros)], axis=1) if self.cell.apart else dz
        self.see("dL/dZ_t" if self.one else "dL/dZ_·", whole, of, OF_GRADIENT)
        direct = [found.get(s) for s in range(len(state))]
        for s, before in enumerate(direct):
            if s and before is not None:
                self.see(text.gradient([text.made.inputs[s]]), before, of, OF_GRADIENT, carried=True)
        products = (
            [(slice(self.J), fed, dz), (slice(self.J, None), self.staged_value, dq)]
            if self.cell.staged
            else [(slice(None), fed, np.concatenate([dz, dq], axis=1) if self.cell.apart else dz)]
        )
        columns, _, on_h = products[0]
        to_fed = on_h @ self.W_hh[:, columns].T
        self.see("dL/dZ_t W_hhᵀ", to_fed, {"dL/dZ_t": on_h}, OF_GRADIENT, carried=True)
        return Back(whole, products, to_fed, direct)

    def _look_at_slopes(self, text: Text) -> None:
        """Show φ′ of an activation that the user brings."""
        for gate, phi in zip(self.gates, activations_of(self.cell), strict=True):
            value = text.made.noted("gate").get(gate)
            if phi is not None and phi.steepest is None and value is not None:
                slope = np.asarray(phi.kernel.derivative(value.copy()), value.dtype)
                self.see(f"φ′(H_t), φ = {phi.name},", slope, {"H_t": value}, "H_t is finite: look at φ′")

    def _by_slopes(self, text: Text, d: dict[int, Array]) -> dict[Any, Array]:
        """Go back by the derivatives, as kernels do: the slopes are made first."""
        local = linearise(text.made)

        def see(s: int, carried: Array, total: Array) -> None:
            name, after = (self.style.state(self.letters[s], at) for at in ("_t", "_{t+1}"))
            self.see(f"dL/d{name}", total, {f"what {after} hands back": carried}, OF_GRADIENT)

        return local.back(local.totals(d, see), self.J)

    def _op_by_op(self, text: Text, d: dict[int, Array]) -> dict[Any, Array]:
        """Go back by the tape from some arrays of the new state at once, and look at the gradient of every term."""
        made_by = {id(term.output.node): term for term in text.terms if term.output.node is not None}
        met: dict[str, Array] = {}

        def look(g: Any, node: Node) -> None:
            term = made_by.get(id(node))
            if term is None or term.op.name == "getitem" or not self._of_rows(g):
                return
            paths, stop = text.paths(term.output), text.stops.get(id(term.output))
            name = f"dL/d{text.shown(term.output, ATOM)}" if stop is None else stop
            met[name] = np.asarray(g)
            shown = name if stop is not None or not paths else f"{name} = {combined(paths)}"
            self.see(shown, met[name], {p.source: met[p.source] for p in paths if p.source in met}, self.hint_back)

        keys = {id(tensor): key for key, tensor in text.made.inputs.items()}
        outputs = [(text.made.staged if s < 0 else text.made.new[s], di) for s, di in d.items()]
        found = {keys[id(output)]: di for output, di in outputs if id(output) in keys}
        roots = [(output, di) for output, di in outputs if output is not None and output.node is not None]
        if roots:
            with recording():  # one node over all of them, which hands each its gradient
                entering = [di for _, di in roots]
                (root,) = apply_kernel(self, [o for o, _ in roots], [np.zeros(())], lambda *_: entering, lambda *_: [])
            for leaf, g in tape.run(root.node, np.ones(()), retain_graph=True, check=look).items():
                key = keys[id(leaf)]
                found[key] = found[key] + np.asarray(g) if key in found else np.asarray(g)
        return found
