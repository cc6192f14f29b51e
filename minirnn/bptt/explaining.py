"""`explain`: the equations of one step, forward and backward, with symbols, shapes and numbers, as text."""

import itertools
import textwrap
from dataclasses import dataclass
from typing import Any

import numpy as np

from minirnn.arguments import as_index
from minirnn.autograd.tensor import Tensor
from minirnn.bptt.equations import equations_of
from minirnn.bptt.flow import Flow, flow_of
from minirnn.bptt.places import BACKWARD, FORWARD, Equation, number
from minirnn.bptt.run import Loss
from minirnn.layers.module import Module

SMALL = 8
"""Numbers are shown for up to as many inputs and hidden neurons; above that, norms."""
WIDTH = 100
"""Columns."""


def explain(
    model: Module | Flow,
    x: Any = None,
    t: Any = None,
    loss: Loss | None = None,
    row: Any = 0,
    initial_state: Any = None,
    lengths: Any = None,
) -> str:
    """Write down what happens at step t, forward and backward: every equation with its shapes and its numbers.

    Parameters
    ----------
    model : recurrent layer, SequenceModel of one, or Trace
        A Trace knows the rest already, so that only ``t`` and ``row`` go with it.
    x, initial_state, lengths : as for `trace`
    t : int
        The step, 0 … T−1.
    loss : callable (outputs) -> Tensor, optional
        If left out, L is the sum of all outputs, so that dL/dH_t as an output is 1 everywhere.
    row : int
        Which of the N rows the numbers are of.

    Returns
    -------
    str
        At most 100 columns. Numbers where D and H are both up to 8, rounded to 4 significant digits: each line can be
        checked with a calculator from those above it. Norms where one is larger.

    Raises
    ------
    IndexError
        For a step or a row that there is not; other errors are those of `trace`.

    >>> import minirnn as mr
    >>> layer, x = mr.RecurrentLayer(1, 2, rng=0), [[[1.0]], [[0.5]]]
    >>> text = mr.bptt.explain(layer, x, t=1)
    >>> print(text.splitlines()[0])
    RecurrentLayer, step t=1 of T=2 (0 … 1), row n=0 of N=1; D=1, H=2
    >>> print(*[line for line in text.splitlines() if "φ" in line or line.startswith("  H_t")], sep=chr(10))
    H_t = φ(Z_t) = tanh(Z_t)
      H_t  (N=1, H=2)   0.6880  -0.4837
    dL/dZ_t = dL/dH_t ⊙ φ′
    φ′ = 1 - H_t²
      φ′       (N=1, H=2)  0.5267  0.7660
    """
    return str(explanation(model, x, t, loss, row, initial_state, lengths))


def explanation(
    model: Module | Flow,
    x: Any = None,
    t: Any = None,
    loss: Loss | None = None,
    row: Any = 0,
    initial_state: Any = None,
    lengths: Any = None,
) -> "Explanation":
    """Return the text of `explain` as objects: ``.head`` and ``.equations``; parameters as there."""
    alone = loss is None and not isinstance(model, Flow)
    found = flow_of(model, x, Tensor.sum if alone else loss, initial_state, lengths, "explain")
    row = as_index(row, "explain: row", "a row", range(found.N), f"there are N={found.N}")
    t = found.step(t, "t")
    note = "No loss was given: L is the sum of all outputs." if alone else ""
    D, small = found.x.shape[2], max(found.x.shape[2], found.H) <= SMALL
    place = f"step t={t} of T={found.T} (0 … {found.T - 1}), row n={row} of N={found.N}"
    head = [f"{found.layer.name}, {place}; D={D}, H={found.H}", f"L = {number(found.total_loss)}. {note}".rstrip()]
    if found.layer.reverse:
        head.append("Processed from the last step to the first: t+1 comes before t.")
    if not found.valid[t, row]:
        head.append(
            f"Step {t} is padding: row {row} has length {found.valid[:, row].sum()}. Its state stays as it is; no "
            "gradient enters."
        )
        return Explanation(head, [], small)
    G = len(found.gates)
    if G > 1:
        blocks, width = " ".join(f"Z_{gate}" for gate in found.gates), f"{G}H={G * found.H}"
        head += [
            f"Gates lie side by side: Z_t = [{blocks}] (N={found.N}, {width}),",
            f"and so in W_xh (D={D}, {width}) and W_hh (H={found.H}, {width}).",
        ]
    head.append(
        f"Numbers are those of row {row}, rounded to 4 significant digits. ⊙ multiplies entry by entry."
        if small
        else f"D or H is above {SMALL}: ‖·‖ is the norm of row {row}, or of a matrix. ⊙ multiplies entry by entry."
    )
    return Explanation(head, equations_of(found, t, row), small)


@dataclass(frozen=True, eq=False, repr=False)
class Explanation:
    """The equations of one step.

    Attributes
    ----------
    head : list of str
        What layer, step, row and loss they are of.
    equations : list of Equation
        Forward, then backward; none for a step in a row's padding.
    numbers : bool
        Whether it is small enough to show numbers rather than norms.
    """

    head: list[str]
    equations: list[Equation]
    numbers: bool

    def __str__(self) -> str:
        """Return all of it as lines of at most 100 columns."""
        lines = list(self.head)
        for part in (FORWARD, BACKWARD):
            equations = [["", *self.lines(e)] for e in self.equations if e.part == part]
            lines += ["", part.upper(), *itertools.chain(*equations)] if equations else []
        return "\n".join(lines)

    def lines(self, equation: Equation) -> list[str]:
        """Return one equation: its symbols, and a line or more for each of its terms."""
        parts = equation.entries
        cells = [np.atleast_2d(part.values if self.numbers else np.linalg.norm(part.values)) for part in parts]
        texts = [[[number(v) for v in row] for row in rows] for rows in cells]
        labels = max((len(part.name) for part in parts), default=0)
        shapes = max((len(part.shape) for part in parts), default=0)
        width = max((len(text) for rows in texts for row in rows for text in row), default=0)
        norm = "" if self.numbers else "  ‖·‖ ="
        indent, columns = 2 + labels + 2 + shapes + len(norm), max((rows.shape[1] for rows in cells), default=0)
        found = [
            *(
                line
                for s in equation.symbols
                for line in textwrap.wrap(s, WIDTH, subsequent_indent="↳ ", break_long_words=False)
            ),
            *textwrap.wrap(equation.words, WIDTH),
        ]
        below = indent + columns * (width + 2) > WIDTH  # no room beside the names
        gap = " " if 4 + columns * (width + 2) > WIDTH else "  "
        for part, rows in zip(parts, texts, strict=True):
            numbers = [gap.join(f"{text:>{width}}" for text in row) for row in rows]
            label = f"  {part.name:<{labels}}  {part.shape:<{shapes}}{norm}"
            if below:
                found += [label.rstrip(), *(f"    {line}" for line in numbers)]
            else:
                found += [f"{label}  {numbers[0]}", *(f"{'':{indent}}  {line}" for line in numbers[1:])]
        return found
