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
from minirnn.cells.writing import Style, Term, Text, combined
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


def _see_nothing(term: str, value: Array, *_: Any, **__: Any) -> Array:
    return value


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
        self.cell, self.see, self.fed, self.H = layer._cell, see, fed, layer.hidden_size
        weights: list[Any] = [None if w is None else w.data for w in layer._weights]
        self.W_xh, self.W_hh, self.b_h, self.b_hn, *_ = *weights, None
        self.name, self.gates, self.letters = type(self.cell).__name__, gates_of(self.cell), states_of(self.cell)
        self.op_by_op = single or layer.backend == "graph" or isinstance(layer._kernel, Custom)
        self.of_all = "h" if len(self.gates) == 1 else "·"
        self.letter = self.gates[-1]
        b, b_hn = " + b_·" * (self.b_h is not None), f" + b_h{self.letter}" * (self.b_hn is not None)
        self.style = Style(gate="", sides=(f"X_t W_x·{b}", f"{fed} W_h·{b_hn}"))
        self.last = slice((len(self.gates) - 1) * self.H, None)
        self.staged_name = ""

    # --- forward -----------------------------------------------------------------------------------------------------

    def forward(self, x: Array, fed: Array, state: Sequence[Array], mask: Array | None) -> Sequence[Array]:
        """Return the new state, (N, H) each."""
        text = self._text(self.see, x, fed, state, mask)
        self._look(text)
        made_of = {f"state {s}": before for s, before in enumerate(state)}
        for s, new in enumerate(text.made.new):
            self.see(f"{self.name}: new state {s}", new.data, made_of, f"look at {self.name}")
        return [new.data for new in text.made.new]

    def _pre(self, see: Any, x: Array, fed: Array) -> tuple[Array, Array | None, Array | None]:
        """Return Z_t, and of a cell whose last block's sides come apart these: (N, ·) each."""
        of_x, of_h = f"X_t W_x{self.of_all}", f"{self.fed} W_h{self.of_all}"
        a = see(of_x, x @ self.W_xh, {"X_t": x}, OF_INPUT)
        if not self.cell.apart:
            q = see(of_h, fed @ self.W_hh, {self.fed: fed}, OF_STATE)
            z = see(f"{of_x} + {of_h}", a + q, {of_x: a, of_h: q})
            if self.b_h is not None:
                z = see(f"{of_x} + {of_h} + b_{self.of_all}", z + self.b_h, {f"{of_x} + {of_h}": z})
            return z, None, None
        J = self.last.start
        if self.b_h is not None:
            a, of_x = see(f"{of_x} + b_·", a + self.b_h, {of_x: a}), f"{of_x} + b_·"
        q = see(of_h, fed @ (self.W_hh[:, :J] if self.cell.staged else self.W_hh), {self.fed: fed}, OF_STATE)
        z = see(f"{of_x} + {of_h}", a[:, :J] + q[:, :J], {of_x: a[:, :J], of_h: q[:, :J]})
        side = None if self.cell.staged else q[:, J:]
        if side is not None and self.b_hn is not None:
            name = f"{self.fed} W_h{self.letter}"
            side = see(f"{name} + b_h{self.letter}", side + self.b_hn, {name: side})
        return z, a[:, J:], side

    def _text(self, see: Any, x: Array, fed: Array, state: Sequence[Array], mask: Array | None) -> Text:
        """Run the equation."""
        z, of_x, side = self._pre(see, x, fed)

        def q(staged: Array | None) -> Array:
            if staged is None:
                assert side is not None, "the sides come apart"
                return side
            self.staged_value = staged if mask is None else staged * mask
            name = f"({self._staged_name(mask)}) W_h{self.letter}"
            made: Array = see(
                name, self.staged_value @ self.W_hh[:, self.last], {self._staged_name(mask): staged}, OF_STATE
            )
            return made

        style = self.style
        if self.cell.staged:
            staged = self._staged_name(mask)
            style = style._replace(staged=f"dL/d({staged})", sides=(style.sides[0], f"({staged}) W_h·"))
        return Text(self.cell, z, state, of_x, q if self.cell.apart else None, style)

    def _staged_name(self, mask: Array | None) -> str:
        if not self.staged_name:
            z = np.zeros((1, self.last.start))
            text = Text(self.cell, z, [z[:, : self.H]] * self.cell.states, z[:, : self.H], lambda s: s, self.style)
            assert text.made.staged is not None, "the cell is staged"
            self.staged_name = text.shown(text.made.staged)
        return self.staged_name if mask is None else self.staged_name.replace("H_{t-1}", "m ⊙ H_{t-1}")

    def _look(self, text: Text) -> None:
        """Show all terms of the equation, in their order."""
        for term in text.terms:
            if term.op.name == "getitem" or term.output.data.shape != (len(self.see.rows), self.H):
                continue
            made_of = {
                text.shown(v): v.data for v in term.inputs if isinstance(v, Tensor) and v.shape == term.output.shape
            }
            self.see(*self._called(text, term), made_of, self._hint(term))

    def _called(self, text: Text, term: Term) -> tuple[str, Array]:
        """Return what a term is called, and its value."""
        value, formula = term.output, text.shown(term.output, whole=True)
        kind, _ = text.kinds.get(id(value), ("", ""))
        if kind == "state" and self._phi(term):
            formula = f"φ(Z_t), φ = {self._phi(term)},"
        name = text.names[id(value)] + " = " if kind in ("state", "gate", "term") else ""
        return name + formula, value.data

    def _phi(self, term: Term) -> str:
        """Return the name of φ if a term is what it makes of Z_t."""
        phi = activations_of(self.cell)[0] if len(self.gates) == 1 else None
        return phi.name if phi is not None and term.op is phi.op else ""

    def _hint(self, term: Term) -> str:
        if self._phi(term):
            return "Z_t is finite: look at φ"
        if self.cell.kernel is None:
            return f"look at {self.name}.equation"
        return OF_STATE

    # --- back --------------------------------------------------------------------------------------------------------

    def backward(self, x: Array, fed: Array, state: Sequence[Array], mask: Array | None, d: Sequence[Array]) -> Back:
        """Go back through the step from the gradients of the new state, (N, H) each."""
        text = self._text(_see_nothing, x, fed, state, mask)
        self._look_at_slopes(text)
        found = self._op_by_op(text, d) if self.op_by_op else self._by_slopes(text, d)
        zeros = np.zeros((len(x), self.H), x.dtype)
        dz, dx, dq = found.get("z"), found.get("x", zeros), found.get("q", zeros)
        dz = np.zeros_like(text.made.inputs["z"].data) if dz is None else dz
        direct = [found.get(s) for s in range(self.cell.states)]
        if self.cell.staged:
            return self._through_stage(text, fed, dz, dx, dq, direct, mask)
        whole = self.see(
            "dL/dZ_" + ("t" if self.of_all == "h" else "·"),
            np.concatenate([dz, dx], 1) if self.cell.apart else dz,
            self._of(d),
            OF_GRADIENT,
        )
        on_h = np.concatenate([dz, dq], axis=1) if self.cell.apart else whole
        self._show_direct(text, direct, d)
        return Back(whole, [(slice(None), fed, on_h)], self._through(on_h), direct)

    def _of(self, d: Sequence[Array]) -> dict[str, Array]:
        names = [self.style.state(letter, "_t") for letter in self.letters]
        return {f"dL/d{name}": di for name, di in zip(names[1:], d[1:], strict=True)}

    def _through(self, dz: Array, columns: slice = slice(None)) -> Array:
        """Return dL/dZ_t W_hhᵀ, (N, H)."""
        return self.see("dL/dZ_t W_hhᵀ", dz @ self.W_hh[:, columns].T, {"dL/dZ_t": dz}, OF_GRADIENT, carried=True)

    def _through_stage(
        self, text: Text, fed: Array, dz: Array, dx: Array, dq: Array, direct: list[Array | None], mask: Array | None
    ) -> Back:
        """Go back through the product that W_h· of the last block makes with what is staged."""
        name = f"dL/d({self._staged_name(mask)}) = dL/dZ_{self.letter} W_h{self.letter}ᵀ"
        of_q = {f"dL/dZ_{self.letter}": dq}
        d_staged = self.see(name, dq @ self.W_hh[:, self.last].T, of_q, OF_GRADIENT)
        d_staged = d_staged if mask is None else d_staged * mask
        staged = text.made.staged
        assert staged is not None, "the cell is staged"
        if self.op_by_op:
            more = self._back_from(text, [(staged, d_staged)])
        else:
            more = {key: slope * _tiled(d_staged, slope) for key, slope in text.made.slopes(staged).items()}
        dz = dz + more.get("z", 0)
        for s, before in enumerate(direct):
            if s in more and s:
                direct[s] = more[s] if before is None else before + more[s]
        whole = self.see("dL/dZ_·", np.concatenate([dz, dx], axis=1), {}, OF_GRADIENT)
        to_fed = self._through(whole[:, : self.last.start], slice(self.last.start))
        past = more.get(0)
        if past is not None:
            direct[0] = past if direct[0] is None else direct[0] + past
        products = [(slice(self.last.start), fed, whole[:, : self.last.start]), (self.last, self.staged_value, dq)]
        return Back(whole, products, to_fed, direct)

    def _look_at_slopes(self, text: Text) -> None:
        """Show φ′ of an activation that the user brings."""
        for gate, phi in zip(self.gates, activations_of(self.cell), strict=True):
            values = [v for kind, name, v in text.made.notes if (kind, name) == ("gate", gate)]
            if phi is not None and phi.steepest is None and values:
                value = values[0].data
                slope = np.asarray(phi.kernel.derivative(value.copy()), value.dtype)
                self.see(f"φ′(H_t), φ = {phi.name},", slope, {"H_t": value}, "H_t is finite: look at φ′")

    def _by_slopes(self, text: Text, d: Sequence[Array]) -> dict[Any, Array]:
        """Go back by the derivatives, as kernels do: the slopes are made first."""
        local, d = linearise(text.made), list(d)
        for s in local.order:
            carried = d[s]
            for edge in local.into[s]:
                d[s] = d[s] + d[edge.source] * edge.slope
            if local.into[s]:
                name = self.style.state(self.letters[s], "_t")
                of = {f"what {self.style.state(self.letters[s], '_{t+1}')} hands back": carried}
                d[s] = self.see(f"dL/d{name}", d[s], of, OF_GRADIENT)
        found: dict[Any, Array] = {"z": np.zeros_like(text.made.inputs["z"].data)}
        for edge in local.z:
            if edge.source >= 0:
                found["z"][:, edge.columns] += _tiled(d[edge.source], edge.slope) * edge.slope
        for key, edges in [("x", local.x), ("q", local.q), *enumerate(local.before)]:
            for edge in edges:
                if edge.source >= 0:
                    share = d[edge.source] * edge.slope
                    found[key] = found[key] + share if key in found else share
        self.totals = d
        return found

    def _op_by_op(self, text: Text, d: Sequence[Array]) -> dict[Any, Array]:
        """Go back by the tape, from all arrays of the new state together."""
        self.totals = list(d)
        return self._back_from(text, list(zip(text.made.new, d, strict=True)))

    def _back_from(self, text: Text, roots: Sequence[tuple[Tensor, Array]]) -> dict[Any, Array]:
        """Go back from some values at once, with a look at the gradient of every term."""
        made_by = {id(term.output._node): term for term in text.terms if term.output._node is not None}
        met: dict[str, Array] = {}

        def look(g: Any, node: Node) -> None:
            term = made_by.get(id(node))
            if term is None or term.op.name == "getitem" or np.shape(g) != (len(self.see.rows), self.H):
                return
            paths = text.paths(term.output)
            name = text.stops.get(id(term.output))
            formula = combined(paths)
            if name is None:
                shown = text.shown(term.output, 9)
                name = f"dL/d{shown}"
            of = {p.source: met[p.source] for p in paths if p.source in met}
            met[name] = np.asarray(g)
            full = name if id(term.output) in text.stops or not paths else f"{name} = {formula}"
            hint = OF_GRADIENT if self.cell.kernel is not None else f"look at {self.name}.equation"
            self.see(full.replace(" - ", " − "), np.asarray(g), of, hint)

        inputs = {id(tensor): key for key, tensor in text.made.inputs.items()}
        found: dict[Any, Array] = {}
        made = [output for output, _ in roots if id(output) not in inputs and output._node is not None]
        entering = [d for output, d in roots if any(output is m for m in made)]
        if made:
            with recording():
                (root,) = apply_kernel(self, made, [np.zeros(())], lambda received, wanted: entering, lambda *_: [])
            for leaf, g in tape.run(root._node, np.ones(()), retain_graph=True, check=look).items():
                found[inputs[id(leaf)]] = np.asarray(g)
        constant = {inputs[id(output)]: d for output, d in roots if id(output) in inputs}
        for key, d in constant.items():
            found[key] = found[key] + d if key in found else d
        return found

    def _show_direct(self, text: Text, direct: Sequence[Array | None], d: Sequence[Array]) -> None:
        """Show what goes past the products to the arrays of the state that W_hh is not multiplied with."""
        for s, before in enumerate(direct):
            if s and before is not None:
                formula = text.gradient([text.made.inputs[s]])
                self.see(formula.replace(" - ", " − "), before, {}, OF_GRADIENT, carried=True)


def _tiled(d: Array, slope: Array) -> Array:
    """Return (N, H) as often side by side as ``slope`` (N, k·H) is wide."""
    times = slope.shape[1] // d.shape[1]
    return d if times == 1 else np.tile(d, (1, times))
