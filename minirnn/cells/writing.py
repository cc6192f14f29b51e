"""A cell's equation written down: what its terms are called, what each is made of, and what goes back through it.

An equation is run once, and the ops that it is made of are read off (`minirnn.autograd.modes.observing`). Each op says
how it is written and what its derivative is called; the names are those of the cell: its gates, its state, its terms.
"""

import re
from collections import defaultdict
from collections.abc import Sequence
from copy import copy
from itertools import takewhile
from typing import Any, NamedTuple

import numpy as np

from minirnn.arguments import Array
from minirnn.autograd.modes import observing
from minirnn.autograd.op import Op
from minirnn.autograd.tensor import Tensor
from minirnn.cells.cell import Cell, gates_of, has, states_of
from minirnn.cells.pointwise import Pass

BINDS = {"add": 1, "sub": 1, "mul": 2, "div": 2, "neg": 3, "pow": 4}
"""How tightly an operator holds what stands beside it."""

ATOM = 9
"""What has brackets of its own, or needs none."""


class Style(NamedTuple):
    """How things are called in one kind of text.

    Attributes
    ----------
    now, before : str
        What stands behind a state, or Z of one block, at step t, and behind a state at the step before.
    gate : str
        What stands behind a gate, or a term, at step t.
    upper : bool
        Whether states are capitals.
    sides : tuple of str
        What x and q are called in a cell whose sides come apart.
    staged : str
        The gradient of what is staged.
    """

    now: str = "_t"
    before: str = "_{t-1}"
    gate: str = "_t"
    upper: bool = True
    sides: tuple[str, str] = ("X_t W_x·", "Q_·")
    staged: str = "(dL/dZ_· W_h·ᵀ)"

    def state(self, name: str, at: str) -> str:
        """Return a state's name with what stands behind it."""
        return (name.upper() if self.upper else name) + at


class Term(NamedTuple):
    """One op of an equation."""

    op: Op
    inputs: tuple[Any, ...]
    settings: dict[str, Any]
    output: Tensor


class Written(NamedTuple):
    """Something that a formula is written for: a gate, a pre-activation, a term, or an array of the new state.

    Attributes
    ----------
    kind : "gate", "pre", "term" or "state"
    called : str
        By the cell.
    name : str
        As it is written.
    formula : str
    value : (R, H)
    parts : list of (str, (R, H))
        What the formula is made of and is not called by a name of its own, such as tanh(C_t); then the states before.
    """

    kind: str
    called: str
    name: str
    formula: str
    value: Array
    parts: list[tuple[str, Array]]


class Path(NamedTuple):
    """One way of a gradient: from a gradient that has a name, times factors, with a sign."""

    source: str
    sign: int
    factors: tuple[str, ...]


class Text:
    """One run of an equation with names.

    Parameters
    ----------
    cell : Cell
    z, state, x : as `minirnn.cells.pointwise.Pass` takes them
    q : callable (staged or None) -> array, or None
        Makes q for a cell whose sides come apart.
    style : Style

    Attributes
    ----------
    made : Pass
    terms : list of Term
        All ops, in their order.
    """

    def __init__(
        self,
        cell: Cell,
        z: Array,
        state: Sequence[Array],
        x: Array | None,
        q: Any,
        style: Style = Style(),  # noqa: B008
    ) -> None:
        self.cell, self.style, self.H = cell, style, state[0].shape[1]
        self.gates, self.letters = gates_of(cell), states_of(cell)
        self.terms: list[Term] = []
        with observing(lambda op, given, settings, y: self.terms.append(Term(op, tuple(given), settings, y))):
            self.made = Pass(cell, z, state, x)
            self.made.finish(None if q is None else q(None if self.made.staged is None else self.made.staged.data))
        self._read()

    def _read(self) -> None:
        """Give names, and find who reads what."""
        self.names: dict[int, str] = {}
        self.stops: dict[int, str] = {}
        self._name()
        self.readers: dict[int, list[tuple[Term, int]]] = defaultdict(list)
        for term in self.terms:
            for i, given in enumerate(term.inputs):
                if isinstance(given, Tensor):
                    self.readers[id(given)].append((term, i))

    # --- names -------------------------------------------------------------------------------------------------------

    def _name(self) -> None:
        """Give names to inputs, blocks, gates, terms and the new state."""
        made, style, given = self.made, self.style, self.made.inputs
        self.made_by = {id(term.output): term for term in self.terms}
        one, sides = len(self.gates) == 1, zip(("x", "q"), style.sides, strict=True)
        self.blocks: dict[str, list[Tensor]] = {gate: [given["z"]] if one else [] for gate in self.gates}
        self.names[id(given["z"])] = f"Z{style.now}" if one else "Z"
        self.names |= {id(given[key]): side.replace("·", self.gates[-1]) for key, side in sides if key in given}
        self.names |= {id(given[s]): style.state(letter, style.before) for s, letter in enumerate(self.letters)}
        for term in self.terms:
            self._name_block(term)
        self.kinds: dict[int, tuple[str, str]] = {}
        for kind, name, tensor in made.notes:
            if kind == "pre" and id(tensor) not in self.names:
                self._called(tensor, "pre", name, f"Z_{name}")
                self.stops[id(tensor)] = f"dL/dZ_{name}"
            elif kind != "pre" and not self._is_state(tensor):
                self._called(tensor, kind, name, f"{name}{style.gate}")
        if made.staged is not None:
            self.stops[id(made.staged)] = style.staged.replace("·", self.gates[-1])
        for letter, new in zip(self.letters, made.new, strict=True):
            self.stops[id(new)] = f"dL/d{style.state(letter, style.now)}"
            if id(new) not in self.names:
                self._called(new, "state", letter, style.state(letter, style.now))

    def _called(self, tensor: Tensor, kind: str, name: str, shown: str) -> None:
        self.names[id(tensor)] = shown
        self.kinds[id(tensor)] = (kind, name)

    def _is_state(self, tensor: Tensor) -> bool:
        return any(tensor is new for new in self.made.new)

    def _name_block(self, term: Term) -> None:
        """Name a block that is cut out of z, and what a single function makes of it, if the cell names its gates."""
        z = self.made.inputs["z"]
        if term.op.name == "getitem" and term.inputs[0] is z:
            gates = self._cut(term.settings["index"])
            if len(gates) == 1:
                self.blocks[gates[0]].append(term.output)
            if gates:
                blocks = " ".join(f"Z_{gate}" for gate in gates)
                self.names[id(term.output)] = blocks if len(gates) == 1 else f"[{blocks}]"
        elif self.cell.gates and len(term.inputs) == 1 and term.op.symbol and not self._is_state(term.output):
            noted = {name for _, name, _ in self.made.notes}
            of = [gate for gate, own in self.blocks.items() if any(term.inputs[0] is block for block in own)]
            self.made.notes += [("gate", gate, term.output) for gate in of if gate not in noted]

    def _cut(self, index: Any) -> tuple[str, ...]:
        """Return the gates whose blocks an index cuts out of z (R, G·H)."""
        columns = index[1] if isinstance(index, tuple) and len(index) == 2 else None
        if not isinstance(columns, slice) or columns.step not in (None, 1) or index[0] not in (slice(None), ...):
            return ()
        first, last, _ = columns.indices(self.made.inputs["z"].shape[1])
        return () if first % self.H or last % self.H else self.gates[first // self.H : last // self.H]

    # --- forward -----------------------------------------------------------------------------------------------------

    def shown(self, value: Any, binds: int = 0, *, whole: bool = False) -> str:
        """Return how a value is written, in brackets if it binds less than its place asks for.

        ``whole``: what it is made of, though it has a name.
        """
        text, own = self._text(value, whole)
        return f"({text})" if own < binds else text

    def _text(self, value: Any, whole: bool) -> tuple[str, int]:
        if not isinstance(value, Tensor):
            return (f"{float(value):.4g}", ATOM) if np.ndim(value) == 0 else ("a constant", ATOM)
        name, term = self.names.get(id(value), ""), self.made_by.get(id(value))
        if name and not whole:  # a sum, or a product of matrices, is not a ⊙
            return name, BINDS["add"] if " " in name and name[0] not in "([" else ATOM
        if term is None:
            return (f"{value.item():.4g}" if value.size == 1 else "a constant"), ATOM
        if term.op.symbol is None:
            given = ", ".join(self.shown(v) for v in term.inputs)
            return (f"{given}[…]" if term.op.name == "getitem" else f"{term.op.name}({given})"), ATOM
        binds = BINDS.get(term.op.name, ATOM)
        if term.op.symbol == "{x}":
            return self._text(term.inputs[0], False)
        places = [binds % ATOM] * len(term.inputs)
        places[-1] += term.op.name in ("sub", "div", "pow", "neg")
        places[0] += term.op.name == "pow"
        named = {n: self.shown(v, b) for n, v, b in zip(term.op.inputs, term.inputs, places, strict=True)}
        return _spelled(term.op, term.op.symbol, named, term), binds

    def written(self) -> list[Written]:
        """Return the gates, pre-activations, terms and the new state, in the order in which they are made."""
        made = {id(value): value for value in [term.output for term in self.terms] + self.made.new}
        return [
            Written(*self.kinds[key], self.names[key], self.shown(value, whole=True), value.data, self._parts(value))
            for key, value in made.items()
            if key in self.kinds
        ]

    def _parts(self, value: Tensor) -> list[tuple[str, Array]]:
        """Return the functions without a name that a value is made of, and the states before."""
        found: dict[str, Array] = {}
        todo = [value]
        while todo:
            term = self.made_by.get(id(todo.pop()))
            for given in term.inputs if term is not None else ():
                if isinstance(given, Tensor) and id(given) not in self.names and given.size > 1:
                    inner = self.made_by.get(id(given))
                    if inner is not None and BINDS.get(inner.op.name) is None:
                        found[self.shown(given)] = given.data
                    todo.append(given)
                elif isinstance(given, Tensor) and any(given is self.made.inputs[s] for s in range(len(self.letters))):
                    found.setdefault(self.names[id(given)], given.data)
        return list(found.items())

    # --- backward ----------------------------------------------------------------------------------------------------

    def paths(self, value: Tensor) -> list[Path]:
        """Return the ways on which a gradient comes back to a value, from those that have a name."""
        found = []
        for term, i in self.readers[id(value)]:
            sign, factor = self._slope(term, i)
            stop = self.stops.get(id(term.output))
            before = [Path(stop, 1, ())] if stop is not None else self.paths(term.output)
            found += [Path(p.source, p.sign * sign, (*p.factors, *factor)) for p in before]
        if any(value is new for new in self.made.new) and any(value is given for given in self.made.inputs.values()):
            found.append(Path(self.stops[id(value)], 1, ()))  # an array of the state that stays as it is
        return found

    def _slope(self, term: Term, i: int) -> tuple[int, tuple[str, ...]]:
        """Return the sign and the factor of an op's derivative for its i-th input; no factor for 1."""
        name = term.op.inputs[i] if i < len(term.op.inputs) else ""
        template = "1" if term.op.name == "getitem" else term.op.slopes.get(name)
        if template is None:
            return 1, (f"∂{self.shown(term.output, BINDS['mul'])}/∂{self.shown(term.inputs[i], BINDS['mul'])}",)
        sign = -1 if template.startswith("-") else 1
        template = template.removeprefix("-")
        if template == "1":
            return sign, ()
        binds = BINDS["neg" if "/" in template or "^" in template else "mul"]
        named = {n: self.shown(v, binds) for n, v in zip(term.op.inputs, term.inputs, strict=True)}
        return sign, (_spelled(term.op, template, named | {"y": self.shown(term.output, binds)}, term),)

    def gradient(self, values: Sequence[Tensor]) -> str:
        """Return the formula of the gradient that comes back to values that are one and the same; "0" if none does."""
        return combined([path for value in values for path in self.paths(value)])


def _spelled(op: Op, template: str, named: dict[str, str], term: Term) -> str:
    """Return a template filled in, numbers without a ⊙, and a power that is a number as one."""
    numbers = [n for n, v in zip(op.inputs, term.inputs, strict=True) if not isinstance(v, Tensor) and np.ndim(v) == 0]
    if op.name == "mul" and numbers and template == op.symbol:
        return " ".join(named[n] for n in sorted(op.inputs, key=lambda n: n not in numbers))
    if op.name == "pow" and numbers == ["b"]:
        power, base = float(term.inputs[1]), named["a"]
        slope = f"{power:.4g} {base}" + _power(power - 1) if power != 1 else "1"
        return base + _power(power) if template == op.symbol else slope
    return template.format(**named, **term.settings)


def _power(power: float) -> str:
    return {1.0: "", 2.0: "²", 3.0: "³"}.get(power, f"^{power:.4g}")


def _product(parts: Sequence[str]) -> str:
    """Return factors as a product, numbers first."""
    numbers = [p for p in parts if re.fullmatch(r"[\d.e+-]+", p)]
    return " ".join([*numbers, " ⊙ ".join(p for p in parts if p not in numbers) or "1"])


def combined(paths: Sequence[Path]) -> str:
    """Return the sum of paths as a formula, with what all paths from one source share written once."""
    by_source: dict[str, list[Path]] = defaultdict(list)
    for path in paths:
        by_source[path.source].append(path)
    return _sum([_share(source, own) for source, own in by_source.items()]) if paths else "0"


def _sum(parts: Sequence[tuple[int, str]]) -> str:
    """Return parts with signs as a sum."""
    text = "".join((" + " if sign > 0 else " - ") + part for sign, part in parts)
    return text[3:] if parts[0][0] > 0 else "-" + text[3:]


def _share(source: str, own: Sequence[Path]) -> tuple[int, str]:
    """Return the sign and the formula of what comes from one source."""
    if len(own) == 1:
        return own[0].sign, _product([source, *own[0].factors])
    factors = own[0].factors
    ahead = _shared([p.factors for p in own])
    behind = _shared([p.factors[ahead:][::-1] for p in own])
    middles = [(p.sign, _product(p.factors[ahead : len(p.factors) - behind])) for p in own]
    inner = _sum(sorted(middles, key=lambda middle: -middle[0]))
    return 1, _product([source, *factors[:ahead], f"({inner})", *factors[len(factors) - behind :]])


def _shared(lists: Sequence[Sequence[str]]) -> int:
    """Return how many entries all lists have in common at the start."""
    return len(list(takewhile(lambda entries: len(set(entries)) == 1, zip(*lists, strict=False))))


# --- below a drawing --------------------------------------------------------------------------------------------------


def drawn(cell: Cell, H: int, *, bias: bool, reverse: bool) -> Text:
    """Run a cell's equation for a drawing: names are those of `lines_of`."""
    before = "_{t+1}" if reverse else "_{t−1}"
    side = f"(r ⊙ h{before}) W_{{h·}}" if cell.staged else f"h{before} W_{{h·}}" + " + b_{h·}" * bias
    style = Style("_{t}", before, "", False, ("x_{t} W_{x·}" + " + b_{·}" * bias, side))
    one, z = np.ones((1, H)), np.ones((1, (cell.blocks - cell.apart) * H))  # what matters is not the numbers
    x, q = (one, lambda staged: one) if cell.apart else (None, None)
    bound, own = copy(cell), [Tensor(one[0]) for _ in cell.vectors]
    vars(bound)["equation"] = lambda *given: cell.equation(*given, *own)
    text = Text(bound, z, [one] * cell.states, x, q, style)
    text.names |= {id(w): f"{name[0]}_{{{name[2:]}}}" for w, name in zip(own, cell.vectors, strict=True)}
    return text


def product(gates: Sequence[str], before: str, bias: bool) -> str:
    """Return the sum of products that the blocks of some gates are; of all of a cell's for ``["h"]``."""
    x, h, b = (" ".join(f"{name}{gate}}}" for gate in gates) for name in ("W_{x", "W_{h", "b_{"))
    if len(gates) > 1:
        x, h, b = f"[{x}]", f"[{h}]", f"[{b}]"
    return f"x_{{t}} {x} + h{before} {h}" + f" + {b}" * bias


def lines_of(cell: Cell, H: int, *, bias: bool, reverse: bool) -> list[str]:
    """Return the equations of a cell as they stand below a drawing, a line each, with subscripts as in ``h_{t}``."""
    before = "_{t+1}" if reverse else "_{t−1}"
    whole = product(["h"], before, bias)
    if not has(cell, "equation"):
        after, given = (", ".join(f"{s}{at}" for s in states_of(cell)) for at in ("_{t}", before))
        return [f"{after} = {type(cell).__name__}({whole}, {given})"]
    text, gates = drawn(cell, H, bias=bias, reverse=reverse), gates_of(cell)
    joint = gates[: len(gates) - cell.apart]
    if len(gates) == 1:
        text.names[id(text.made.inputs["z"])] = whole
        lines = []
    elif cell.apart:
        lines = [f"z_{{{g}}} = {product([g], before, bias)}" for g in joint]
    else:
        lines = [f"[{' '.join(f'z_{{{g}}}' for g in joint)}] = {whole}"]
    made = text.written()
    pre, activated, others = (
        [f"{w.name} = {w.formula}" for w in made if w.kind in kinds]
        for kinds in (("pre",), ("gate",), ("term", "state"))
    )
    lines += [*pre, ", ".join(activated), *others]
    return [re.sub(r"\bZ_(\w+)", r"z_{\1}", line).replace(" - ", " − ") for line in lines if line]
