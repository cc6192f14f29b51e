"""``minirnn count`` and ``minirnn tasks``: what can be told without a model: parameters, and what there is to learn."""

import argparse
import json
import textwrap
from typing import Any

from minirnn import counting
from minirnn.cli.options import AS_JSON, DEFAULT, Options, add_parser
from minirnn.tasks import TASKS

COLUMNS = 100
"""What the list of the tasks fits into."""

_CELLS = {
    "elman": ("Elman layer", "H_t = φ(X_t W_xh + H_{{t-1}} W_hh{b_h})"),
    "lstm": ("LSTM layer", "gates i, f, g, o side by side: X_t W_xh + H_{{t-1}} W_hh{b_h}"),
    "gru": ("GRU layer", "gates r, z, n side by side: X_t W_xh + H_{{t-1}} W_hh{b_h}{b_hn}"),
}
_FIELDS = (
    *("name", "description", "source", "rule", "metric", "baseline"),
    *("kind", "inputs", "readout", "needs", "input_size", "output_size"),
)


def add_command(commands: Any) -> None:
    """Add ``count`` and ``tasks`` to the command line."""
    options: Options = {
        "--inputs": {"type": int, "required": True, "metavar": "M", "help": "number of inputs, D elsewhere"},
        "--hidden": {"type": int, "required": True, "metavar": "N", "help": "number of hidden neurons, H elsewhere"},
        "--outputs": {"type": int, "metavar": "P", "help": "number of outputs; left out: no head"},
        "--no-bias": {"action": "store_true", "help": "without biases, in the layer and in the head"},
        "--cell": {"choices": tuple(_CELLS), "default": "elman", "help": DEFAULT},
        "--json": AS_JSON,
    }
    about = "Count the parameters of a recurrent layer and its head: shapes in both conventions, formula, total."
    add_parser(commands, "count", run_count, options, help="count parameters", description=about)
    about = "List the tasks: what is to be learnt, the baseline of a predictor that remembers nothing, and the rule."
    add_parser(commands, "tasks", run_tasks, {"--json": AS_JSON}, help="list the tasks", description=about)


# --- count ------------------------------------------------------------------------------------------------------------


def run_count(arguments: argparse.Namespace) -> int:
    """Print the count; return 0."""
    sizes = arguments.inputs, arguments.hidden, arguments.outputs
    count = getattr(counting, arguments.cell)(*sizes, bias=not arguments.no_bias)
    print(json.dumps(count.to_dict(), indent=2) if arguments.json else _report(count))
    return 0


def _report(count: counting.ParameterCount) -> str:
    """Write everything there is to say about a count."""
    both = {
        "column vectors, W x, as note 000 answers: (outputs, inputs)": count.shapes_column,
        "row vectors, x W, as minirnn stores them: (inputs, outputs)": count.shapes,
    }
    lines = [
        _title(count),
        "",
        count.table(),
        "",
        f"total = {count.formula} = {count.formula_numbers} = {count.total}",
        "",
        *(f"{label}\n  {', '.join(f'{name} {shape}' for name, shape in own.items())}" for label, own in both.items()),
        "",
        *count.notes,
        "",
        f"Other libraries count for the same recurrent layer, which has {count.recurrent} here:",
        *(f"  {line}" for line in count.reconciliation()),
    ]
    return "\n".join(lines)


def _title(count: counting.ParameterCount) -> str:
    """Write what is counted, and below it the equations, without the biases that there are not."""
    biases = {name: f" + {name}" if name in count.shapes else "" for name in ("b_h", "b_hn", "b_y")}
    name, equation = _CELLS[count.cell]
    head = "" if count.p is None else f"; head → p = {count.p} outputs"
    output = "" if count.p is None else "    O_t = H_t W_hy{b_y}"
    sizes = f"m = {count.m} inputs → n = {count.n} hidden neurons"
    bias = "with biases" if count.bias else "without biases"
    return f"{name}, {sizes}{head}; {bias}\n{(equation + output).format(**biases)}"


# --- tasks ------------------------------------------------------------------------------------------------------------


def run_tasks(arguments: argparse.Namespace) -> int:
    """Print the list; return 0."""
    # The class of a task that needs a package, which may not be there, tells the baseline; else it takes a task.
    tasks: list[Any] = [task() if task.needs is None else task for task in TASKS.values()]
    width = max(map(len, TASKS))
    if arguments.json:
        records = [{name: getattr(t, name) for name in _FIELDS} | {"defaults": t.defaults._asdict()} for t in tasks]
        print(json.dumps(records, indent=2))
    else:
        print("\n\n".join(_lines(task, width) for task in tasks))
    return 0


def _lines(task: Any, width: int) -> str:
    """Write a task: its name in the margin, and beside it what it is."""
    parts = [
        task.description,
        f"baseline: {task.baseline:.4g}, {task.metric}",
        f"solved:   {task.rule}",
        f"source:   {task.source}",
        *([f'needs:    {task.needs}, of the extra "data"'] if task.needs else []),
    ]
    beside = [line for part in parts for line in textwrap.wrap(part, COLUMNS - width - 2, subsequent_indent=" " * 10)]
    names = [task.name] + [""] * (len(beside) - 1)
    return "\n".join(f"{name:{width}}  {line}" for name, line in zip(names, beside, strict=True))
