"""``minirnn inspect``: how the gradient of an untrained model flows back through one mini-batch, and what is wrong.

Checked by tests/cli/test_inspect.py.
"""

import argparse
import json
import textwrap
from collections.abc import Callable
from inspect import signature
from pathlib import Path
from typing import Any

import numpy as np

from minirnn import losses
from minirnn.bptt import Report, doctor, trace
from minirnn.charts import curve
from minirnn.cli.models import GATED_INIT, add_length, add_model_options, add_task, add_text_options, build_model
from minirnn.cli.options import check_writable, whole_number
from minirnn.recurrent import RecurrentLayer, SequenceModel
from minirnn.tasks import TASKS, Task
from minirnn.tensor import Tensor

WIDTH, HEIGHT = 64, 10
"""Of the chart, in characters; its axis takes up to twelve more."""
COLUMNS = 80
"""What everything fits into."""
DECADES = 2.0
"""What the chart's axis spans at least: a gradient that loses a third should look flat."""

_ABOUT = (
    "Build an untrained model for a task ({description}), send the gradient of one mini-batch back through time, and "
    "show what is left of it at each step, what is wrong, and what to try."
)


def add_command(commands: Any) -> None:
    """Add ``inspect`` and the tasks to the command line."""
    about = "See inside back-propagation through time: how much of the gradient reaches each step, and why."
    example = "example: minirnn inspect adding --steps-in-time 50 --init glorot, and then --init irnn"
    help = "see how gradients flow back through time"
    parser = commands.add_parser("inspect", help=help, description=about, epilog=example)
    tasks = parser.add_subparsers(metavar="TASK", required=True)
    for task in TASKS.values():
        _add(tasks, task)


def _add(tasks: Any, task: type[Task]) -> None:
    parser = add_task(tasks, task, run, _ABOUT)
    add_length(parser, task)
    if str(task.name) == "text":
        add_text_options(parser)
    add_model_options(parser, task, cells=True)
    add = parser.add_argument
    add("--seed", type=whole_number(0), default=0, help="the same seed gives the same numbers; default: %(default)s")
    add("--json", action="store_true", help="print the report as JSON")
    add("--html", type=Path, metavar="PATH", help="write a page to explore the trace with, for a browser")
    parser.set_defaults(task=task)


# --- the command ------------------------------------------------------------------------------------------------------


def run(arguments: argparse.Namespace) -> int:
    """Trace one mini-batch and print what is found; return 0."""
    if arguments.html:
        check_writable("--html", arguments.html)
    for_model, for_data = np.random.default_rng(arguments.seed).spawn(2)  # as ``minirnn train`` does
    task = _task(arguments)
    x, y = _batch(task, arguments.batch, arguments.steps_in_time, for_data)
    model = build_model(arguments, task, for_model)
    with np.errstate(all="ignore"):  # what overflows is told in the report
        traced = trace(model, x, _loss(y))
    report = doctor(traced)
    if arguments.html:
        traced.to_html(arguments.html)
    if arguments.json:
        print(_json(arguments, task, model, report))
    else:
        print(_text(arguments, task, model, report))
    return 0


def _task(arguments: argparse.Namespace) -> Task:
    """Build the task with those of its settings that options give."""
    given = {"T": arguments.steps_in_time, "path": getattr(arguments, "file", None)}
    taken = signature(arguments.task).parameters
    task: Task = arguments.task(**{name: value for name, value in given.items() if name in taken})
    return task


def _batch(task: Any, N: int, T: int, rng: np.random.Generator) -> tuple[Any, Any]:
    """Return the first mini-batch of a training: of a task with streams T steps of them, else what it draws."""
    if hasattr(task, "streams"):
        chunk = next(task.streams(N, T, rng))
        return chunk.ids_in, chunk.ids_target
    x, y = next(task.batches(N, rng))
    return x, y


def _loss(y: Any) -> Callable[[Any], Tensor]:
    """Return the loss that the task is trained with: of classes where its targets are ids, else of numbers."""
    loss = losses.cross_entropy if np.asarray(y).dtype.kind in "iu" else losses.mse
    return lambda predictions: loss(predictions, y)


# --- what is printed --------------------------------------------------------------------------------------------------


def _json(arguments: argparse.Namespace, task: Task, model: SequenceModel, report: Report) -> str:
    head = {"task": task.name, "layer": repr(model.recurrent), "parameters": model.count_params()}
    page = {"html": str(arguments.html)} if arguments.html else {}
    return json.dumps(head | page | report.to_dict(), indent=1, ensure_ascii=False, allow_nan=False)


def _text(arguments: argparse.Namespace, task: Task, model: SequenceModel, report: Report) -> str:
    figures = report.figures
    parts = [
        textwrap.fill(f"{task.name}, T = {figures['T']}: {task.description}", COLUMNS),
        textwrap.fill(f"{_layer(arguments, model)}; {model.count_params():,} parameters, untrained", COLUMNS),
        f"one mini-batch, N = {figures['N']}, loss {figures['loss']:.4g}",
        "",
        _chart(np.array(figures["gradient_norms"])),
        "",
        str(report),
    ]
    if arguments.html:
        size = arguments.html.stat().st_size / 1e6
        parts += ["", f"Page: {arguments.html} ({size:.2f} MB)"]
    return "\n".join(parts)


def _layer(arguments: argparse.Namespace, model: SequenceModel) -> str:
    layer = model.recurrent
    activation = f", {layer.activation.name}" if isinstance(layer, RecurrentLayer) else ""
    init = arguments.init or (arguments.usual_init if arguments.cell == "elman" else GATED_INIT)
    return f"{type(layer).__name__}, D = {layer.input_size}, H = {layer.output_size}{activation}, init {init}"


def _chart(norms: np.ndarray[Any, np.dtype[np.float64]]) -> str:
    """Draw ‖dL/dh_t‖ against t."""
    what = "‖dL/dh_t‖ against t"
    if not np.isfinite(norms).any():
        return f"{what}: not finite at any of {norms.size} steps"
    if not norms[np.isfinite(norms)].any():
        return f"{what}: exactly 0 at all {norms.size} steps"
    ends = ("t = 0", f"t = {norms.size - 1}")
    return curve(norms, WIDTH, HEIGHT, what, ends=ends, unit="steps", logarithmic=True, decades=DECADES)
