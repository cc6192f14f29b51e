"""The equations of one step of a trace, forward and backward, with their numbers.

The products are written here; what lies between them is read off the cell's equation (minirnn/cells/writing.py), whose
ops say how they are written and what their derivatives are called. Symbols are those of `minirnn.textbook`: row
vectors, X_t (N, D), H_t (N, H), gates side by side in Z_t (N, G·H), and W_xi, W_hi, b_i for gate i's block of W_xh,
W_hh, b_h.
"""

import re
from collections.abc import Sequence
from itertools import groupby
from typing import Any, NamedTuple

import numpy as np

from minirnn.arguments import Array
from minirnn.bptt.places import BACKWARD, FORWARD, Entry, Equation, Place
from minirnn.cells.cell import has
from minirnn.cells.pointwise import Local, linearise
from minirnn.cells.writing import Style, Text, Written, combined


def equations_of(place: Place) -> list[Equation]:
    """Return the equations at a place, which must not be padding."""
    if not has(place.steps.cell, "equation"):
        return _opaque(place)
    reader = _Reader(place)
    return [*_products(place), *reader.forward(), *reader.back(), *place.shares(reader.staged), reader.onward()]


def _products(p: Place) -> list[Equation]:
    """Return what is made of x and h before the equation."""
    if not p.steps.cell.apart:
        return [p.pre_activation()]
    joint = p.gates[:-1]
    b = {g: f" + b_{g}" * (p.steps.b_h is not None) for g in joint}
    z = p.blocks_of("Z", p.trace.pre_activations, joint)
    if p.steps.cell.staged:
        lines = tuple(f"Z_{g} = X_t W_x{g} + {p.fed} W_h{g}{b[g]}" for g in joint)
        return [Equation(FORWARD, lines, p.start, (*p.input(), *p.recurrent(), *p.bias(), z))]
    biases, of_n = [], ""
    if p.steps.b_hn is not None:
        biases, of_n = [p.entry("b_hn", "H", p.steps.b_hn)], f" + [{'0 ' * len(joint)}b_hn]"
    q = p.steps.feed(p.steps.before[0]) @ p.steps.W_hh
    q[..., p.steps.J :] += 0 if p.steps.b_hn is None else p.steps.b_hn
    product = Equation(
        FORWARD, (f"Q_t = {p.fed} W_hh{of_n}",), p.start, (*p.recurrent(), *biases, p.entry("Q_t", "NZ", p.rows(q)))
    )
    lines = tuple(f"Z_{g} = X_t W_x{g}{b[g]} + Q_{g}" for g in joint)
    return [product, Equation(FORWARD, lines, "", (*p.input(), *p.bias(), z))]


class _Side(NamedTuple):
    """The equation read at one step: its text, and its derivatives."""

    text: Text
    local: Local


class _Reader:
    """What lies between the products at a place, and at the step processed after it."""

    def __init__(self, place: Place) -> None:
        self.p, self.cell = place, place.steps.cell
        self.letters = place.letters
        self.staged = ""
        self.now, self.next = self._read(0), self._read(1)
        if self.cell.staged and self.now.text.made.staged is not None:
            self.staged = self.now.text.shown(self.now.text.made.staged).replace(place.H_before, place.fed)

    def _read(self, step: int) -> _Side:
        """Run the equation at the place, or at the step after it."""
        p, steps, before, after = self.p, self.p.steps, self.p.before, self.p.after
        now = f"_{{{after}}}" if step else "_t"
        fed = p.fed.replace(before, "t") if step else p.fed
        b = " + b_·" * (steps.b_h is not None)
        side = f"(r{now} ⊙ {fed}) W_h·" if self.cell.staged else "Q_·"
        through = f"{'m ⊙ ' * p.masked}(dL/dZ_·{now if step else ''} W_h·ᵀ)"
        style = Style(
            now, "_t" if step else f"_{{{before}}}", gate=now, z=now,
            sides=(f"X{now} W_x·{b}", side), staged=through,
        )  # fmt: skip
        H, J = p.trace.H, steps.J
        z = p.rows(steps.z, step).reshape(-1, J)
        state = [p.rows(s, step).reshape(-1, H) for s in steps.before]
        x = p.rows(steps.x_side, step).reshape(-1, H) if self.cell.apart else None
        q = p.rows(steps.recurrent, step).reshape(-1, H) if self.cell.apart else None
        text = Text(self.cell, z, state, x, None if q is None else lambda staged: q, style)
        return _Side(text, linearise(text.made))

    def entry(self, name: str, values: Any) -> Entry:
        """Return an entry (N, H) of values (R, H), those of the rows that were read."""
        return self.p.entry(name, "NH", np.asarray(values).reshape(*self.p.lead, -1))

    # --- forward -----------------------------------------------------------------------------------------------------

    def forward(self) -> list[Equation]:
        """Return the equation's gates, terms and new state; gates that stand together in one line."""
        found = []
        for gates, group in groupby(self.now.text.written(), key=lambda w: w.kind == "gate"):
            several = list(group)
            for together in [several] if gates else [[w] for w in several]:
                found.append(self._equation(together))
        return found

    def _equation(self, together: Sequence[Written]) -> Equation:
        line = ",  ".join(f"{w.name} = {self._formula(w)}" for w in together)
        entries = [self.entry(name, value) for w in together for name, value in w.parts]
        if together[0].kind == "pre" and self.cell.staged:
            entries.append(self.p.entry(self.staged, "NH", self.p.rows(self.p.steps.staged)))
        return Equation(FORWARD, (line,), "", (*entries, *map(self._made, together)))

    def _made(self, w: Written) -> Entry:
        """Return what an equation gives; a state as the layer has it."""
        if w.kind == "state":
            s = self.now.text.letters.index(w.called)
            return self.p.entry(w.name, "NH", self.p.rows(self.p.unrolled.states[s][1:]))
        return self.entry(w.name, w.value)

    def _formula(self, w: Written) -> str:
        if self._phi is None or w.kind != "state":
            return w.formula
        return f"φ(Z_t) = {w.formula}" if self._phi.steepest is not None else "φ(Z_t)"

    @property
    def _phi(self) -> Any:
        """The activation φ where that is all there is: the new state is φ of Z_t."""
        phi, *others = self.p.steps.activations
        made = self.now.text.made
        return phi if not others and any(t is made.new[0] for kind, _, t in made.notes if kind == "gate") else None

    # --- back --------------------------------------------------------------------------------------------------------

    def back(self) -> list[Equation]:
        """Return the gradients of the new state, and of the pre-activations."""
        formula = self._to_first(self.next, f"_{{{self.p.after}}}")
        of_z = self.p.dz(1, self.cell.apart and not self.cell.staged)
        found = [self.p.total([formula], lambda: [of_z, *self.p.with_mask(), *self._numbers(formula)])]
        totals = {0: self.p.rows(self.p.trace.totals[0]).reshape(-1, self.p.trace.H)}
        return [*found, *(self._of_state(s, totals) for s in self.now.local.order if s), *self._of_z()]

    def _to_first(self, side: _Side, at: str) -> str:
        """Return what goes back to H of the step before, through the products and past them."""
        p = self.p
        direct = self._direct(side, 0)
        if self.cell.staged:
            gates = p.gates[:-1]
            of_z = " ".join(f"dL/dZ_{g}" for g in gates)
            product = f"[{of_z}]{at if at != '_t' else ''} [{' '.join(f'W_h{g}' for g in gates)}]ᵀ"
        else:
            product = f"dL/d{'Q' if self.cell.apart else 'Z'}{at} W_hhᵀ"
        return p.masked_product(product) + ("" if direct == "0" else f" + {direct}")

    def _direct(self, side: _Side, s: int) -> str:
        return side.text.gradient([side.text.made.inputs[s]])

    def _numbers(self, formula: str) -> list[Entry]:
        """Return what a formula calls by a name of the step after."""
        p, text = self.p, self.next.text
        called = {f"dL/d{s}_{{{p.after}}}": p.rows(d, 1) for s, d in zip(self.letters, p.trace.totals, strict=True)}
        named = {text.names.get(id(term.output), ""): term.output.data for term in text.terms}
        called |= {name: value for name, value in named.items() if p.after in name}
        return [self.entry(n, v) for n, v in called.items() if re.search(rf"(?<!\w){re.escape(n)}(?!\w)", formula)]

    def _of_state(self, s: int, totals: dict[int, Array]) -> Equation:
        """dL/dC_t: what comes from the new state in this step, and from the step after."""
        p, letter, text = self.p, self.letters[s], self.now.text
        within, paths = text.paths(text.made.new[s]), self.next.text.paths(self.next.text.made.inputs[s])
        formulas: dict[str, str] = {}
        entries = []
        totals[s] = np.asarray(p.carried(s)).reshape(-1, p.trace.H)
        for edge in self.now.local.to["new", s]:
            source, share = f"{self.letters[edge.source]}_t", totals[edge.source] * edge.slope
            formulas[f"from {source}"] = combined([path for path in within if path.source == f"dL/d{source}"])
            entries.append(self.entry(f"from {source}", share))
            totals[s] = totals[s] + share
        only = {path.source for path in paths} == {f"dL/d{letter}_{{{p.after}}}"}
        after = f"from {letter}_{{{p.after}}}" if only else f"from step {p.after}"
        formulas[after] = combined(paths)
        entries += [] if p.last else self._numbers(formulas[after])
        entries += [p.entry(after, "NH", p.carried(s)), self.entry(f"dL/d{letter}_t", totals[s])]
        lines = [f"dL/d{letter}_t = {' + '.join(formulas)}", *(f"{name} = {f}" for name, f in formulas.items())]
        words = f"Row {p.n} has no step {p.after}: nothing comes from there." if p.last else ""
        return Equation(BACKWARD, tuple(lines), words, tuple(entries))

    def _of_z(self) -> list[Equation]:
        """Return dL/dZ_t, gate by gate, those that others are made of first."""
        p, text = self.p, self.now.text
        if self._phi is not None:
            slope = text.paths(text.made.inputs["z"])[0].factors if self._phi.steepest is not None else ("φ′(H_t)",)
            shown = re.sub(r"^\((.*)\)$", r"\1", slope[0]) if slope and slope[0].startswith("(") else (*slope, "1")[0]
            entry = p.entry("φ′", "NH", p.rows(p.trace._unrolled.steps.slopes))
            return [Equation(BACKWARD, ("dL/dZ_t = dL/dH_t ⊙ φ′", f"φ′ = {shown}"), "", (entry, p.dz()))]
        formulas = {gate: text.gradient(self._blocks(gate)) for gate in p.steps.gates}
        if len(formulas) == 1:
            return [Equation(BACKWARD, (f"dL/dZ_t = {formulas[p.steps.gates[0]]}",), "", (p.dz(),))]
        lines = tuple(f"dL/dZ_{gate} = {formulas[gate]}" for gate in reversed(p.gates))
        entries = []
        if self.cell.staged:
            last = p.gates[-1]
            through = p.rows(p.trace._back.dz_h[..., p.steps.J :]) @ p.steps.W_hh[:, p.steps.J :].T
            entries.append(p.entry(f"dL/dZ_{last} W_h{last}ᵀ", "NH", through))
        found = [Equation(BACKWARD, lines, "", (*entries, p.dz()))]
        if self.cell.apart and not self.cell.staged:
            joint = "  ".join(f"dL/dZ_{g}" for g in p.gates[:-1])
            of_q = text.gradient([text.made.inputs["q"]])
            found.append(Equation(BACKWARD, (f"dL/dQ_t = [{joint}  {of_q}]",), "", (p.dz(0, True),)))
        return found

    def _blocks(self, gate: str) -> list[Any]:
        """Return the Tensors that are the pre-activation of a gate."""
        text = self.now.text
        own = [tensor for kind, name, tensor in text.made.notes if (kind, name) == ("pre", gate)]
        return text.blocks[gate] or own[:1]

    def onward(self) -> Equation:
        """Return what goes on to the step before."""
        first = self._to_first(self.now, "_t")
        return self.p.onward([first, *(self._direct(self.now, s) for s in range(1, len(self.letters)))])


# --- a cell of one's own without an equation --------------------------------------------------------------------------


def _opaque(p: Place) -> list[Equation]:
    cell, letters = type(p.steps.cell).__name__, p.letters
    others = [p.entry(f"{s}_{{{p.before}}}", "NH", p.state(i)) for i, s in enumerate(letters) if i]
    states = [p.entry(f"{s}_t", "NH", p.rows(a[1:])) for s, a in zip(letters, p.unrolled.states, strict=True)]
    before, after = (", ".join(f"{s}_{at}" for s in letters) for at in (f"{{{p.before}}}", "t"))
    back = f"{cell}.step_backward"
    carried = f"{p.masked_product(f'dL/dZ_{{{p.after}}} W_hhᵀ')} + what {back} gives to H_t there"
    onward = [p.masked_product("dL/dZ_t W_hhᵀ") + f" + what {back} gives to it"]
    return [
        p.pre_activation(),
        Equation(FORWARD, (f"{after} = {cell}.step(Z_t, {before})",), "", (*others, *states)),
        p.total([carried], lambda: [p.dz(1), *p.with_mask()]),
        Equation(BACKWARD, (f"dL/dZ_t = what {back} makes of dL/dH_t",), "", (p.dz(),)),
        *p.shares(""),
        p.onward([*onward, *[f"what {back} gives to it"] * (len(letters) - 1)]),
    ]
