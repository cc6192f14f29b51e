"""A cell's equation as a picture: the ops that it is made of, from what enters a step to what leaves it."""

from collections.abc import Hashable

from minirnn.autograd.tensor import Tensor
from minirnn.cells.cell import Cell, gates_of, has
from minirnn.cells.writing import ATOM, Term, Text, drawn, product
from minirnn.drawing.blocks import Part


def parts_of(cell: Cell, H: int, *, bias: bool, reverse: bool) -> list[Part]:
    """Return the parts of a cell as `minirnn.drawing.inside` draws them; none for a single op, or no equation.

    The first part reads what leaves the step.
    """
    if not has(cell, "equation"):
        return []
    text = drawn(cell, H, bias=bias, reverse=reverse)
    return _Found(cell, text, bias).parts if len(text.terms) > 1 else []


class _Found:
    """The parts of an equation, found on the way back from the new state."""

    def __init__(self, cell: Cell, text: Text, bias: bool) -> None:
        self.text, self.bias, self.gates = text, bias, gates_of(cell)
        self.parts = [Part("")]
        self.numbers: dict[Hashable, int] = {}
        new = zip(text.letters, text.made.new, strict=True)
        leaves = [Part(name + text.style.now, style="output", inputs=(self._of(value),)) for name, value in new]
        first = len(self.parts)
        self.parts += leaves[::-1]  # the output comes lowest
        self.parts[0] = Part("", inputs=tuple(range(first, len(self.parts))))

    def _put(self, key: Hashable, part: Part) -> int:
        if key not in self.numbers:
            self.numbers[key] = len(self.parts)
            self.parts.append(part)
        return self.numbers[key]

    def _of(self, value: Tensor) -> int:
        """Return the number of the part that makes a value."""
        if id(value) not in self.numbers:
            term = self.text.made_by.get(id(value))
            self.numbers[id(value)] = self._entering(value) if term is None else self._made(term)
        return self.numbers[id(value)]

    def _made(self, term: Term) -> int:
        if term.op.name == "getitem" or term.op.symbol == "{x}":  # a block of the product, or the same in another form
            return self._of(term.inputs[0])
        read = tuple(self._of(given) for given in term.inputs if self._comes_in(given))
        kind, name = self.text.kinds.get(id(term.output), ("", ""))
        if kind in ("gate", "term"):
            return self._put(("made", id(term.output)), Part(name, self._label(term), "gate", read))
        return self._put(("made", id(term.output)), Part(self._label(term), style="op", inputs=read))

    def _entering(self, value: Tensor) -> int:
        """Return the part of what the equation is given: an array of the state, or a sum of products."""
        text, made = self.text, self.text.made
        key = next(key for key, given in made.inputs.items() if given is value)
        h = text.letters[0] + text.style.before
        if isinstance(key, int):
            return self._given(text.letters[key] + text.style.before)
        if key == "q":
            below = self._given(h) if made.staged is None else self._of(made.staged)
            return self._put(key, Part(text.names[id(value)], inputs=(below,)))
        if key == "x":
            return self._put(key, Part(text.names[id(value)], inputs=(self._given("x_{t}"),)))
        gates = self.gates[:-1] if "q" in made.inputs or made.staged is not None else ["h"]
        formula = product(gates, text.style.before, self.bias)
        return self._put(key, Part(formula, inputs=(self._given("x_{t}"), self._given(h))))

    def _given(self, name: str) -> int:
        return self._put(name, Part(name, style="input"))

    def _comes_in(self, given: object) -> bool:
        """Whether a line leads to an op; a constant and a weight stand in its label."""
        of_step = self.text.made.inputs.values()
        return isinstance(given, Tensor) and (id(given) in self.text.made_by or any(given is one for one in of_step))

    def _label(self, term: Term) -> str:
        """Return an op's symbol, without what the lines say that it reads."""
        if term.op.symbol is None:
            return term.op.name
        given = zip(term.op.inputs, term.inputs, strict=True)
        named = {name: "·" if self._comes_in(v) else self.text.shown(v, ATOM) for name, v in given}
        label = term.op.symbol.format(**named, **term.settings).replace("-", "−")
        return label.removesuffix("(·)").removeprefix("·").removesuffix("·").strip() or term.op.name
