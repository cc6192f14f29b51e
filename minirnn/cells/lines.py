"""The equations of a cell as they stand below a drawing, without numbers."""

import re

import numpy as np

from minirnn.cells.cell import Cell, gates_of, has, states_of
from minirnn.cells.writing import Style, Text


def lines_of(cell: Cell, H: int, *, bias: bool, reverse: bool) -> list[str]:
    """Return the equations of a cell, a line each, with subscripts as in ``h_{t}``."""
    before = "_{t+1}" if reverse else "_{t−1}"
    of_x, of_h, b = "x_{t} W_{xh}", f"h{before} W_{{hh}}", " + b_{h}" * bias
    if not has(cell, "equation"):
        after, given = (", ".join(f"{s}{at}" for s in states_of(cell)) for at in ("_{t}", before))
        return [f"{after} = {type(cell).__name__}({of_x} + {of_h}{b}, {given})"]
    side = f"(r ⊙ h{before}) W_{{h·}}" if cell.staged else f"h{before} W_{{h·}}" + " + b_{h·}" * bias
    style = Style("_{t}", before, "", "", False, "_{t}", ("x_{t} W_{x·}" + " + b_{·}" * bias, side))
    text, gates = _read(cell, H, style), gates_of(cell)
    joint = gates[: len(gates) - cell.apart]
    if len(gates) == 1:
        text.names[id(text.made.inputs["z"])] = f"{of_x} + {of_h}{b}"
        lines = []
    elif cell.apart:
        lines = [f"z_{{{g}}} = x_{{t}} W_{{x{g}}} + h{before} W_{{h{g}}}" + f" + b_{{{g}}}" * bias for g in joint]
    else:
        lines = [f"[{' '.join(f'z_{{{g}}}' for g in joint)}] = {of_x} + {of_h}{b}"]
    made = text.written()
    shown = {kind: [f"{w.name} = {w.formula}" for w in made if w.kind == kind] for kind in ("pre", "gate")}
    lines += [*shown["pre"], ", ".join(shown["gate"])]
    lines += [f"{w.name} = {w.formula}" for w in made if w.kind in ("term", "state")]
    return [re.sub(r"\bZ_(\w+)", r"z_{\1}", line).replace(" - ", " − ") for line in lines if line]


def _read(cell: Cell, H: int, style: Style) -> Text:
    """Run the equation on ones: what matters is what it is made of, not its numbers."""
    one, z = np.ones((1, H)), np.ones((1, (cell.blocks - cell.apart) * H))
    x, q = (one, lambda staged: one) if cell.apart else (None, None)
    return Text(cell, z, [one] * cell.states, x, q, style)
