"""How many parameters a recurrent network has: array by array, with the formula, before any array exists.

Inputs of m features, n recurrent (hidden) neurons and, if wanted, a head of p output neurons: these are the letters of
*note 000, Understanding RNN parameter calculation*; minirnn's own for them are D, H and P. Two things the counts do
**not** depend on: the length T of the sequence, since every step uses the same arrays, and the activation φ, which has
no parameters.

Every shape is given in both orientations. minirnn multiplies row vectors, x_t W, and stores (inputs, outputs); note 000
answers its exam with shapes for column vectors, W x_t: (outputs, inputs). The counts are the same.

>>> print(elman(10, 20, 5, bias=False).table())
name   shape (row convention)  shape (column convention)  formula      count
-----  ----------------------  -------------------------  -----------  -----
W_xh   (10, 20)                (20, 10)                   n·m = 20·10    200
W_hh   (20, 20)                (20, 20)                   n·n = 20·20    400
W_hy   (20, 5)                 (5, 20)                    p·n = 5·20     100
-----  ----------------------  -------------------------  -----------  -----
total                                                                    700
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, ClassVar

from minirnn.arguments import as_size

Shape = tuple[int, ...]

NOTES = (
    "The count does not depend on the length T of the sequence: every step uses the same arrays.",
    "The count does not depend on the activation φ: sigmoid, tanh and ReLU have no parameters.",
)


@dataclass(frozen=True)
class Term:
    """One array of parameters: a row of the table and a term of the sum.

    ``shape`` is minirnn's, (inputs, outputs); ``shape_column`` is its transpose, note 000's (outputs, inputs).
    ``formula`` and ``numbers`` say how many entries there are, as in n·m and 20·10; ``count`` is what that comes to.
    """

    name: str
    shape: Shape
    shape_column: Shape
    formula: str
    numbers: str
    count: int


@dataclass(frozen=True)
class ParameterCount:
    """The answer of `elman`, `lstm` and `gru`: the sizes that were asked for and a `Term` for every array.

    Source: note 000.
    """

    cell: str  # "elman", "lstm" or "gru"; "" for a cell of one's own
    m: int  # D, the inputs
    n: int  # H, the hidden neurons
    p: int | None  # P, the output neurons; None if there is no head
    bias: bool
    reset_after: bool | None  # the GRU's option of that name
    terms: tuple[Term, ...]  # W_xh, W_hh, b_h, b_hn, W_hy, b_y, as far as they exist, in this order
    blocks: int = 1  # G, the gates whose blocks stand side by side in W_xh, W_hh and b_h
    proj_size: int | None = None  # r, what an LSTM's output is projected to
    peepholes: bool = False  # whether an LSTM's gates read its cell state

    @property
    def total(self) -> int:
        """The number of parameters, those of the head included."""
        return sum(term.count for term in self.terms)

    @property
    def head(self) -> int:
        """The number of parameters of the head alone, W_hy and b_y; 0 if there is none."""
        return sum(term.count for term in self.terms if term.name in ("W_hy", "b_y"))

    @property
    def recurrent(self) -> int:
        """The number of parameters of the recurrent layer alone."""
        return self.total - self.head

    @property
    def shapes(self) -> dict[str, Shape]:
        """Name -> shape in the row convention, (inputs, outputs), the one minirnn stores."""
        return {term.name: term.shape for term in self.terms}

    @property
    def shapes_column(self) -> dict[str, Shape]:
        """Name -> shape in the column convention, (outputs, inputs), the one note 000 answers in."""
        return {term.name: term.shape_column for term in self.terms}

    @property
    def formula(self) -> str:
        """The sum in note 000's letters, as in n·m + n·n + n + p·n + p."""
        return " + ".join(term.formula for term in self.terms)

    @property
    def formula_numbers(self) -> str:
        """The sum in numbers, as in 20·10 + 20·20 + 20 + 5·20 + 5."""
        return " + ".join(term.numbers for term in self.terms)

    notes: ClassVar[tuple[str, ...]] = NOTES
    """What the count does *not* depend on, and why: T and φ."""

    @property
    def elsewhere(self) -> dict[str, int]:
        """What "torch", "keras" and "onnx", where they have it, count for the recurrent layer; see `reconciliation`."""
        weights = sum(term.count for term in self.terms if term.name in ("W_xh", "W_hh", "w_c", "W_hr"))
        biases = {"torch": 2, "keras": 2 if self.reset_after else 1, "onnx": 2}
        size = self.bias * self.blocks * self.n
        return {name: weights + number * size for name, number in biases.items() if not self._lacks(name)}

    def _lacks(self, library: str) -> str:
        """Return which option of an LSTM another library has not, "" if it has them."""
        options = {"proj_size": self.proj_size is not None, "peepholes": self.peepholes}
        has = {"torch": "proj_size", "onnx": "peepholes"}.get(library)
        return " and ".join(name for name, on in options.items() if on and name != has)

    def table(self) -> str:
        """Return a text table of the arrays (name, shape in both conventions, formula, count) with the total below."""
        return table(self.terms)

    def reconciliation(self) -> list[str]:
        """Return a line each on what torch, Keras and ONNX count for the same recurrent layer, and why.

        They differ in how many biases they have. Two that are added to each other act as one. Only a GRU with
        ``reset_after`` has a second bias that acts on its own, because the reset gate multiplies it: b_hn.

        Sources: torch 2.13, ``torch.nn.RNN``, ``LSTM``, ``GRU`` (b_ih and b_hh); Keras 3, ``SimpleRNN``, ``LSTM``,
        ``GRU`` (bias, which is (2, 3H) in a GRU with reset_after); ONNX operators RNN, LSTM, GRU (B holds Wb and Rb).

        >>> for line in elman(10, 20, 5).reconciliation():
        ...     print(line)
        torch nn.RNN: 640 = 620 + 20: two biases, b_ih (20,) and b_hh (20,), which are added up and act as one.
        Keras SimpleRNN: 620, the same: one bias (20,).
        ONNX RNN: 640 = 620 + 20: two biases in its input B, Wb (20,) and Rb (20,), which are added up and act as one.
        The head counts 105 everywhere.
        """
        if not self.cell:
            return []
        torch, keras, onnx = {
            "elman": ("torch nn.RNN", "Keras SimpleRNN", "ONNX RNN"),
            "lstm": ("torch nn.LSTM", "Keras LSTM", "ONNX LSTM"),
            "gru": (
                "torch nn.GRU",
                f"Keras GRU(reset_after={self.reset_after})",
                f"ONNX GRU(linear_before_reset={int(bool(self.reset_after))})",
            ),
        }[self.cell]
        size = self.blocks * self.n
        act = (
            f"; of the second, only b_hn ({self.n},) cannot be folded into the first"
            if self.reset_after
            else ", which are added up and act as one"
        )
        if self.bias:
            why = {
                torch: f"two biases, b_ih ({size},) and b_hh ({size},){act}",
                keras: f"two biases in one array (2, {size}){act}" if self.reset_after else f"one bias ({size},)",
                onnx: f"two biases in its input B, Wb ({size},) and Rb ({size},){act}",
            }
        else:
            why = {torch: "bias=False", keras: "use_bias=False", onnx: "its input B is optional and left out"}
        if self.reset_after is False:
            why[torch] = "but this is another cell, the one with reset_after=True; torch has no other"
        own, counts, lines = self.recurrent, self.elsewhere, []
        for (name, reason), library in zip(why.items(), ("torch", "keras", "onnx"), strict=True):
            count = counts.get(library, own)
            same = f"{count} = {own} + {count - own}" if count != own else f"{count}, the same"
            lacks = self._lacks(library)
            lines.append(f"{name}: there is none with {lacks}." if lacks else f"{name}: {same}: {reason}.")
        return lines + ([f"The head counts {self.head} everywhere."] if self.head else [])

    def to_dict(self) -> dict[str, Any]:
        """Return all of it as dicts, lists, strings, numbers and None, which ``json.dumps`` takes and gives back."""
        return {
            "cell": self.cell,
            "m": self.m,
            "n": self.n,
            "p": self.p,
            "bias": self.bias,
            "reset_after": self.reset_after,
            "proj_size": self.proj_size,
            "peepholes": self.peepholes,
            "total": self.total,
            "formula": self.formula,
            "formula_numbers": self.formula_numbers,
            "terms": [{**vars(t), "shape": list(t.shape), "shape_column": list(t.shape_column)} for t in self.terms],
            "notes": list(self.notes),
            "elsewhere": self.elsewhere,
            "reconciliation": self.reconciliation(),
        }


def elman(m: int, n: int, p: int | None = None, *, bias: bool = True) -> ParameterCount:
    """Count an Elman layer, H_t = φ(X_t W_xh + H_{t-1} W_hh + b_h): H(D+H+1), and its head.

    Parameters
    ----------
    m, n : numbers of inputs, D, and of hidden neurons, H; a TypeError or ValueError if no int ≥ 1
    p : number of output neurons, P, of a head O_t = H_t W_hy + b_y with P·H + P more; None for no head
    bias : False drops b_h and b_y: H(D+H) and P·H remain

    Source: note 000. Neither T nor φ matters.

    >>> count = elman(10, 20, 5, bias=False)
    >>> count.total, count.formula, count.formula_numbers
    (700, 'n·m + n·n + p·n', '20·10 + 20·20 + 5·20')
    >>> count.shapes_column
    {'W_xh': (20, 10), 'W_hh': (20, 20), 'W_hy': (5, 20)}
    """
    return layer("elman", 1, m, n, bias, None, p)


def lstm(
    m: int, n: int, p: int | None = None, *, bias: bool = True, proj_size: int | None = None, peepholes: bool = False
) -> ParameterCount:
    """Count an LSTM layer, 4H(D+H+1), and its head.

    The gates i, f, o and the candidate g are four blocks, each of an Elman layer's size, those of Hochreiter and
    Schmidhuber (1997) with the forget gate of Gers et al. (2000). ``peepholes`` are 3H more. With ``proj_size``, r in
    the formula, the output is r wide, which W_hh and a head read: 4H(D+r+1) + Hr. The other arguments are those of
    `elman`.

    >>> lstm(10, 20).total, lstm(10, 20).formula
    (2480, '4·n·m + 4·n·n + 4·n')
    >>> lstm(10, 20, proj_size=5).formula
    '4·n·m + 4·n·r + 4·n + n·r'
    """
    return layer("lstm", 4, m, n, bias, None, p, proj_size, 3 * peepholes)


def gru(m: int, n: int, p: int | None = None, *, bias: bool = True, reset_after: bool = True) -> ParameterCount:
    """Count a GRU layer, 3H(D+H+1) + H, and its head.

    The gates r, z and the candidate n are three blocks, each of an Elman layer's size. With ``reset_after`` the
    candidate is tanh(x_t W_xn + b_n + r ⊙ (h_{t-1} W_hn + b_hn)): r multiplies the recurrent bias b_hn (H,), which
    therefore cannot be folded into b_n; it is the + H. Without it r is applied to h_{t-1} before the product, and there
    is no b_hn. The other arguments are those of `elman`.

    Source: Cho et al. (2014), arXiv:1406.1078: version 1 resets after the product, version 3 before.

    >>> gru(10, 20).total, gru(10, 20).formula
    (1880, '3·n·m + 3·n·n + 3·n + n')
    >>> gru(10, 20, reset_after=False).total
    1860
    """
    return layer("gru", 3, m, n, bias, reset_after, p)


def layer(
    cell: str, blocks: int, m: int, n: int, bias: bool, reset_after: bool | None, p: int | None = None,
    proj_size: int | None = None, vectors: int = 0,
) -> ParameterCount:  # fmt: skip
    """Count a recurrent layer of any cell, with G blocks: G·H(D+H+1), and + H with ``reset_after``.

    ``cell`` is "elman", "lstm" or "gru", which other libraries have too, or ""; ``vectors`` of (H,) stand in its w_c.
    """
    m = as_size(m, f"{cell}: m (number of inputs)")
    n = as_size(n, f"{cell}: n (number of hidden neurons)")
    if p is not None:
        p = as_size(p, f"{cell}: p (number of output neurons)", hint="leave p out for a network without a head")
    r = ("n", n) if proj_size is None else ("r", as_size(proj_size, f"{cell}: proj_size"))
    side_by_side = [(str(blocks), blocks)] if blocks > 1 else []
    arrays: Sequence[tuple[Any, ...]] = (  # whether it is there, its name, its shape, and what its count is made of
        (True, "W_xh", (m, blocks * n), *side_by_side, ("n", n), ("m", m)),
        (True, "W_hh", (r[1], blocks * n), *side_by_side, ("n", n), r),
        (bias, "b_h", (blocks * n,), *side_by_side, ("n", n)),
        (bias and reset_after, "b_hn", (n,), ("n", n)),
        (vectors, "w_c", (vectors * n,), (str(vectors), vectors), ("n", n)),
        (proj_size is not None, "W_hr", (n, r[1]), ("n", n), r),
        (p is not None, "W_hy", (r[1], p), ("p", p), r),
        (p is not None and bias, "b_y", (p,), ("p", p)),
    )
    terms = tuple(_term(*about) for there, *about in arrays if there)
    after = None if reset_after is None else bool(reset_after)
    width = None if proj_size is None else r[1]
    return ParameterCount(cell, m, n, p, bool(bias), after, terms, blocks, width, bool(vectors))


def table(terms: Iterable[Term], more: Mapping[str, Sequence[int | None]] = MappingProxyType({})) -> str:
    """Return a text table of arrays (name, shape in both conventions, formula, count) with the total below.

    ``more`` columns have a number for each array, None where it is not known.
    """
    rows = [
        (t.name, t.shape or "", t.shape_column or "", f"{t.formula} = {t.numbers}" if t.formula else "", t.count)
        for t in terms
    ]
    total = ("total", "", "", "", sum(row[-1] for row in rows))
    columns = [_to_the_right(name, numbers) for name, numbers in more.items()]
    return render_table(
        [(*row, *cells) for row, *cells in zip(rows, *(column[1:-1] for column in columns), strict=True)],
        ("name", "shape (row convention)", "shape (column convention)", "formula", "count", *(c[0] for c in columns)),
        total=(*total, *(column[-1] for column in columns)),
    )


def _to_the_right(name: str, numbers: Sequence[int | None]) -> list[str]:
    """Return a column with its name above and its sum below, as wide as the widest; ? for what is not known."""
    known = [number for number in numbers if number is not None]
    total = sum(known) if len(known) == len(numbers) else None
    cells = [name, *("?" if number is None else f"{number:,}" for number in (*numbers, total))]
    return [cell.rjust(max(map(len, cells))) for cell in cells]


def render_table(
    rows: Iterable[Sequence[object]], header: Sequence[str], *, total: Sequence[object] | None = None
) -> str:
    """Return the rows as a table in plain text, columns aligned: whole numbers to the right, all else to the left.

    A row has as many cells as the header, each shown as ``str`` shows it; ``total`` is a last row, set off by a rule.

    >>> print(render_table([("W", (2, 3), 6), ("b", (3,), 3)], ("name", "shape", "count")))
    name  shape   count
    ----  ------  -----
    W     (2, 3)      6
    b     (3,)        3
    """
    body, last = list(rows), [] if total is None else [total]
    columns = list(zip(header, *body, *last, strict=True))
    widths = [max(len(str(cell)) for cell in column) for column in columns]
    numeric = [all(isinstance(cell, int) for cell in column[1:]) and len(column) > 1 for column in columns]

    def line(cells: Sequence[object]) -> str:
        aligned = zip(cells, widths, numeric, strict=True)
        return "  ".join(f"{c!s:>{w}}" if right else f"{c!s:<{w}}" for c, w, right in aligned).rstrip()

    rule = "  ".join("-" * width for width in widths)
    return "\n".join([line(header), rule, *map(line, body), *([rule, *map(line, last)] if last else [])])


def _term(name: str, shape: Shape, *factors: tuple[str, int]) -> Term:
    """Return the term whose count is the product of the factors, (symbol, value) pairs."""
    symbols, values = zip(*factors, strict=True)
    return Term(name, shape, shape[::-1], "·".join(symbols), "·".join(map(str, values)), math.prod(values))
