"""The equations of one step of a trace, forward and backward, with their numbers.

The products are written here; what lies between them is read off the cell's equation (minirnn/cells/writing.py), whose
ops say how they are written and what their derivatives are called. Symbols are those of `minirnn.textbook`: row
vectors, X_t (N, D), H_t (N, H), gates side by side in Z_t (N, G·H), and W_xi, W_hi, b_i for gate i's block of W_xh,
W_hh, b_h.
"""

import itertools
import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from minirnn.arguments import Array
from minirnn.bptt.flow import Flow
from minirnn.bptt.places import BACKWARD, FORWARD, Entry, Equation, Place
from minirnn.cells.cell import has
from minirnn.cells.pointwise import linearise
from minirnn.cells.writing import Style, Text, Written, combined


def equations_of(trace: Flow, t: Any, row: Any) -> list[Equation]:
    """Return the equations of a step and a row, which must not be padding; or of K steps and R rows at once."""
    if not has(trace.unrolled.cell, "equation"):
        return _opaque(Place(trace, t, row))
    reader = _Reader(trace, t, row)
    return [*reader.products(), *reader.forward(), *reader.backward()]


class _Reader(Place):
    """A place, with the cell's equation read there and at the step processed after it."""

    def __init__(self, trace: Flow, t: Any, row: Any) -> None:
        super().__init__(trace, t, row)
        self.cell, self.J = self.u.cell, self.u.joint
        self.b = " + b_·" * bool(self.bias())
        self.now, self.next = self._read(0), self._read(1)
        self.local, made = linearise(self.now.made), self.now.made
        self.staged = "" if made.staged is None else self.now.shown(made.staged).replace(self.H_before, self.fed)

    def _read(self, step: int) -> Text:
        """Run the equation at the place, or at the step after it."""
        now, before = (f"_{{{self.after}}}", "_t") if step else ("_t", f"_{{{self.before}}}")
        side = f"(r{now} ⊙ {self.fed.replace(f'_{{{self.before}}}', before)}) W_h·" if self.cell.staged else "Q_·"
        through = self.masked(f"dL/dZ_·{now if step else ''} W_h·ᵀ")
        if self.u.mask is None:
            through = f"({through})"
        sides = f"X{now} W_x·{self.b}", side
        style = Style(now, before, gate=now, sides=sides, staged=through)

        def here(a: Any) -> Any:
            return self.rows(a, step).reshape(-1, a.shape[-1])

        z, state = here(self.u.pre[..., : self.J]), [here(s) for s in self.u.before]
        if not self.cell.apart:
            return Text(self.cell, z, state, None, None, style)
        return Text(self.cell, z, state, here(self.u.x_side), lambda staged: here(self.u.recurrent), style)

    def read(self, name: str, values: Any) -> list[Entry]:
        """Return an entry (N, H) of values (R, H), those of the rows that were read."""
        return self.entry(name, "NH", np.asarray(values).reshape(*self.lead, -1))

    # --- forward -----------------------------------------------------------------------------------------------------

    def products(self) -> list[Equation]:
        """Write the products with x and h, which come before the equation."""
        if not self.cell.apart:
            return [self.pre_activation()]
        joint, W_hh, b_hn = self.gates[:-1], self.u.weights.W_hh, self.u.weights.b_hn
        z = self.entry("Z_t", "NZ", self.timed(self.trace.pre_activations)[..., : self.J], joint)
        sides = f" + {self.fed} W_h·{self.b}" if self.cell.staged else f"{self.b} + Q_·"
        lines = tuple(f"Z_· = X_t W_x·{sides}".replace("·", g) for g in joint)
        if self.cell.staged:
            return [Equation(FORWARD, lines, self.start, (*self.input(), *self.recurrent(), *self.bias(), *z))]
        q = self.u.feed(self.u.before[0]) @ W_hh
        biases, of_n = [], ""
        if b_hn is not None:
            biases, of_n = self.entry("b_hn", "H", b_hn), f" + [{'0 ' * len(joint)}b_hn]"
            q[..., self.J :] += b_hn
        made_of = (*self.recurrent(), *biases, *self.entry("Q_t", "NZ", self.rows(q)))
        product = Equation(FORWARD, (f"Q_t = {self.fed} W_hh{of_n}",), self.start, made_of)
        return [product, Equation(FORWARD, lines, "", (*self.input(), *self.bias(), *z))]

    def forward(self) -> list[Equation]:
        """Return the equation's gates, terms and new state; gates that stand together in one line."""
        groups = itertools.groupby(self.now.written(), key=lambda w: w.kind == "gate")
        lines = itertools.chain.from_iterable([[*group]] if gates else [[w] for w in group] for gates, group in groups)
        return [self._equation(line) for line in lines]

    def _equation(self, together: Sequence[Written]) -> Equation:
        line = ",  ".join(f"{w.name} = {self._formula(w)}" for w in together)
        entries = [entry for w in together for name, value in w.parts for entry in self.read(name, value)]
        if together[0].kind == "pre" and self.cell.staged:
            entries += self.entry(self.staged, "NH", self.rows(self.u.staged))
        states = dict(zip(self.now.letters, self.u.states, strict=True))  # as the layer has them
        for w in together:
            entries += self.read(w.name, self.rows(states[w.called][1:]) if w.kind == "state" else w.value)
        return Equation(FORWARD, (line,), "", tuple(entries))

    def _formula(self, w: Written) -> str:
        if self._phi is None or w.kind != "state":
            return w.formula
        return f"φ(Z_t) = {w.formula}" if self._phi.steepest is not None else "φ(Z_t)"

    @property
    def _phi(self) -> Any:
        """The activation φ where that is all there is: the new state is φ of Z_t."""
        phi, *others = self.u.activations
        made = self.now.made
        return phi if not others and any(t is made.new[0] for kind, _, t in made.notes if kind == "gate") else None

    # --- backward ----------------------------------------------------------------------------------------------------

    def backward(self) -> list[Equation]:
        """Return the gradients of the new state, the pre-activations, the parameters, and what goes on."""
        formula = self._to_first(self.next, f"_{{{self.after}}}")
        of_z = self.dz(1, self.cell.apart and not self.cell.staged)
        total = self.total(formula, [*of_z, *self.mask(), *self._numbers(formula)])
        totals = {0: self.rows(self.trace.totals[0]).reshape(-1, self.trace.H)}
        states = [self._of_state(s, totals) for s in self.local.order if s]
        into = f"{self.fed}ᵀ dL/d{'Q' if self.cell.apart else 'Z'}_t"
        if self.staged:
            joint = " ".join(f"dL/dZ_{g}" for g in self.gates[:-1])
            into = f"[{self.fed}ᵀ [{joint}]   ({self.staged})ᵀ dL/dZ_{self.gates[-1]}]"
        others = [self._direct(self.now, s) for s in range(1, len(self.letters))]
        onward = self.onward([self._to_first(self.now, "_t"), *others])
        return [total, *states, *self._of_z(), *self.shares(into), onward]

    def _to_first(self, side: Text, at: str) -> str:
        """Write the gradient of H of the step before: through the products, and past them."""
        direct = self._direct(side, 0)
        product = f"dL/d{'Q' if self.cell.apart else 'Z'}{at} W_hhᵀ"
        if self.cell.staged:
            of_z, blocks = (" ".join(f"{name}{g}" for g in self.gates[:-1]) for name in ("dL/dZ_", "W_h"))
            product = f"[{of_z}]{at if at != '_t' else ''} [{blocks}]ᵀ"
        return self.masked(product) + ("" if direct == "0" else f" + {direct}")

    def _direct(self, side: Text, s: int) -> str:
        return side.gradient([side.made.inputs[s]])

    def _numbers(self, formula: str) -> list[Entry]:
        """Return entries for all names of the step after in a formula."""
        totals = zip(self.letters, self.trace.totals, strict=True)
        called = {f"dL/d{s}_{{{self.after}}}": self.rows(d, 1) for s, d in totals}
        named = {self.next.names.get(id(term.output), ""): term.output.data for term in self.next.terms}
        called |= {name: value for name, value in named.items() if self.after in name}
        there = {n: v for n, v in called.items() if re.search(rf"(?<!\w){re.escape(n)}(?!\w)", formula)}
        return [entry for name, value in there.items() for entry in self.read(name, value)]

    def _of_state(self, s: int, totals: dict[int, Array]) -> Equation:
        """dL/dC_t: what comes from the new state in this step, and from the step after."""
        letter, carried = self.letters[s], self.rows(self.trace.arriving[s][1:])
        within, paths = self.now.paths(self.now.made.new[s]), self.next.paths(self.next.made.inputs[s])
        formulas: dict[str, str] = {}
        entries, total = list[Entry](), carried.reshape(-1, self.trace.H)
        for edge in self.local.to["new", s]:
            source, share = f"{self.letters[edge.source]}_t", totals[edge.source] * edge.slope
            formulas[f"from {source}"] = combined([path for path in within if path.source == f"dL/d{source}"])
            entries += self.read(f"from {source}", share)
            total = total + share
        totals[s] = total
        only = {path.source for path in paths} == {f"dL/d{letter}_{{{self.after}}}"}
        after = f"from {letter}_{{{self.after}}}" if only else f"from step {self.after}"
        formulas[after] = combined(paths)
        entries += [] if self.last else self._numbers(formulas[after])
        entries += [*self.read(after, carried), *self.read(f"dL/d{letter}_t", total)]
        lines = [f"dL/d{letter}_t = {' + '.join(formulas)}", *(f"{name} = {f}" for name, f in formulas.items())]
        words = f"Row {self.n} has no step {self.after}: nothing comes from there." if self.last else ""
        return Equation(BACKWARD, tuple(lines), words, tuple(entries))

    def _of_z(self) -> list[Equation]:
        """Return dL/dZ_t, gate by gate, those that others are made of first."""
        text, last = self.now, self.u.gates[-1]
        if self._phi is not None:
            slope = text.paths(text.made.inputs["z"])[0].factors if self._phi.steepest is not None else ("φ′(H_t)",)
            shown = re.sub(r"^\((.*)\)$", r"\1", slope[0]) if slope and slope[0].startswith("(") else (*slope, "1")[0]
            entry = self.entry("φ′", "NH", self.rows(self.u.slopes))
            return [Equation(BACKWARD, ("dL/dZ_t = dL/dH_t ⊙ φ′", f"φ′ = {shown}"), "", (*entry, *self.dz()))]
        pre = {name: [tensor] for kind, name, tensor in text.made.notes if kind == "pre"}
        formulas = {g: text.gradient(text.blocks[g] or pre.get(g, [])) for g in reversed(self.u.gates)}
        lines = tuple(f"dL/dZ_{g if self.gates else 't'} = {formula}" for g, formula in formulas.items())
        entries = list[Entry]()
        if self.cell.staged:
            through = self.rows(self.trace.back.dz_h[..., self.J :]) @ self.u.weights.W_hh[:, self.J :].T
            entries = self.entry(f"dL/dZ_{last} W_h{last}ᵀ", "NH", through)
        found = [Equation(BACKWARD, lines, "", (*entries, *self.dz()))]
        if self.cell.apart and not self.cell.staged:
            joint = "  ".join(f"dL/dZ_{g}" for g in self.gates[:-1])
            line = f"dL/dQ_t = [{joint}  {text.gradient([text.made.inputs['q']])}]"
            found.append(Equation(BACKWARD, (line,), "", tuple(self.dz(0, True))))
        return found


def _opaque(p: Place) -> list[Equation]:
    """Return the equations of a cell of one's own without an equation: what is known are its doors."""
    cell = type(p.u.cell).__name__
    back = f"{cell}.step_backward"
    before, after = ([f"{s}_{at}" for s in p.letters] for at in (f"{{{p.before}}}", "t"))
    values = [*zip(before[1:], p.u.before[1:], strict=True), *zip(after, (s[1:] for s in p.u.states), strict=True)]
    states = [entry for name, a in values for entry in p.entry(name, "NH", p.rows(a))]
    step = f"{', '.join(after)} = {cell}.step(Z_t, {', '.join(before)})"
    carried = f"{p.masked(f'dL/dZ_{{{p.after}}} W_hhᵀ')} + what {back} gives to H_t there"
    gives = f"what {back} gives to it"
    return [
        p.pre_activation(),
        Equation(FORWARD, (step,), "", tuple(states)),
        p.total(carried, [*p.dz(1), *p.mask()]),
        Equation(BACKWARD, (f"dL/dZ_t = what {back} makes of dL/dH_t",), "", tuple(p.dz())),
        *p.shares(f"{p.fed}ᵀ dL/dZ_t"),
        p.onward([f"{p.masked('dL/dZ_t W_hhᵀ')} + {gives}", *[gives] * (len(p.letters) - 1)]),
    ]
