"""``minirnn count``: how many parameters a recurrent layer and its head have, and why."""

import argparse
import json
from typing import Any

from minirnn import counting
from minirnn.cli.options import AS_JSON, DEFAULT, Options, add_parser

_EQUATIONS = {
    "elman": "H_t = φ(X_t W_xh + H_{t-1} W_hh{b_h})",
    "lstm": "gates i, f, g, o side by side: X_t W_xh + H_{t-1} W_hh{b_h}",
    "gru": "gates r, z, n side by side: X_t W_xh + H_{t-1} W_hh{b_h}{b_hn}",
}
_NAMES = {"elman": "Elman layer", "lstm": "LSTM layer", "gru": "GRU layer"}


def add_command(commands: Any) -> None:
    """Add ``count`` to the command line."""
    options: Options = {
        "--inputs": {"type": int, "required": True, "metavar": "M", "help": "number of inputs, D elsewhere"},
        "--hidden": {"type": int, "required": True, "metavar": "N", "help": "number of hidden neurons, H elsewhere"},
        "--outputs": {"type": int, "metavar": "P", "help": "number of outputs; left out: no head"},
        "--no-bias": {"action": "store_true", "help": "without biases, in the layer and in the head"},
        "--cell": {"choices": tuple(_EQUATIONS), "default": "elman", "help": DEFAULT},
        "--json": AS_JSON,
    }
    about = "Count the parameters of a recurrent layer and its head: shapes in both conventions, formula, total."
    add_parser(commands, "count", run, options, help="count parameters", description=about)


def run(arguments: argparse.Namespace) -> int:
    """Print the count; return 0."""
    sizes = arguments.inputs, arguments.hidden, arguments.outputs
    count = getattr(counting, arguments.cell)(*sizes, bias=not arguments.no_bias)
    print(json.dumps(count.to_dict(), indent=2) if arguments.json else report(count))
    return 0


def report(count: counting.ParameterCount) -> str:
    """Return everything there is to say about a count, as text."""
    both = (
        ("column vectors, W x, as note 000 answers: (outputs, inputs)", count.shapes_column),
        ("row vectors, x W, as minirnn stores them: (inputs, outputs)", count.shapes),
    )
    answers = [f"{label}\n  {', '.join(f'{name} {shape}' for name, shape in shapes.items())}" for label, shapes in both]
    return "\n".join(
        [
            _title(count),
            "",
            count.table(),
            "",
            f"total = {count.formula} = {count.formula_numbers} = {count.total}",
            "",
            *answers,
            "",
            *count.notes,
            "",
            f"Other libraries count for the same recurrent layer, which has {count.recurrent} here:",
            *(f"  {line}" for line in count.reconciliation()),
        ]
    )


def _title(count: counting.ParameterCount) -> str:
    biases = {name: f" + {name}" if name in count.shapes else "" for name in ("b_h", "b_hn", "b_y")}
    parts = [f"{_NAMES[count.cell]}, m = {count.m} inputs → n = {count.n} hidden neurons"]
    equations = [_EQUATIONS[count.cell].replace("{b_h}", biases["b_h"]).replace("{b_hn}", biases["b_hn"])]
    if count.p is not None:
        parts.append(f"head → p = {count.p} outputs")
        equations.append(f"O_t = H_t W_hy{biases['b_y']}")
    parts.append("with biases" if count.bias else "without biases")
    return "; ".join(parts) + "\n" + "    ".join(equations)
