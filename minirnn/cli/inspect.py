"""``minirnn inspect``: how the gradient of an untrained model flows back through one mini-batch, and what is wrong.

Checked by tests/cli/test_inspect.py.
"""

import argparse
import json
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from minirnn import losses
from minirnn.bptt import Report, doctor, trace
from minirnn.charts import curve
from minirnn.cli.models import (
    add_model_options,
    add_task,
    add_task_options,
    add_text_options,
    build_model,
    built_task,
    init_of,
)
from minirnn.cli.options import check_writable, whole_number
from minirnn.recurrent import RecurrentLayer, SequenceModel
from minirnn.tasks import TASKS, Task, TextTask
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
    add = parser.add_argument
    add_task_options(parser, task)
    if task is TextTask:
        add_text_options(parser)
        length = "length T of what is read; default: %(default)s"
        add("--steps-in-time", type=whole_number(1), default=20, metavar="T", help=length)
    add_model_options(parser, task)
    add("--seed", type=whole_number(0), default=0, help="the same seed gives the same numbers; default: %(default)s")
    add("--json", action="store_true", help="print the report as JSON")
    add("--html", type=Path, metavar="PATH", help="write a page to explore the trace with, for a browser")


# --- the command ------------------------------------------------------------------------------------------------------


def run(arguments: argparse.Namespace) -> int:
    """Trace one mini-batch and print what is found; return 0."""
    if arguments.html:
        check_writable("--html", arguments.html)
    for_model, for_data = np.random.default_rng(arguments.seed).spawn(2)  # as ``minirnn train`` does
    task = built_task(arguments)
    x, y, lengths = _batch(task, arguments, for_data)
    model = build_model(arguments, task, for_model)
    with np.errstate(all="ignore"):  # what overflows is told in the report
        traced = trace(model, x, _loss(y, lengths if task.readout == "all" else None), lengths=lengths)
    report = doctor(traced)
    if arguments.html:
        traced.to_html(arguments.html, f"{task.name}, T = {traced.T}, untrained")
    if arguments.json:
        print(_json(arguments, task, model, report))
    else:
        print(_text(arguments, task, model, report))
    return 0


def _batch(task: Any, arguments: argparse.Namespace, rng: np.random.Generator) -> tuple[Any, Any, Any]:
    """Return the first mini-batch of a training: of a task with streams T steps of them, else what it draws."""
    if isinstance(task, TextTask):
        chunk = next(task.streams(arguments.batch, arguments.steps_in_time, rng))
        return chunk.ids_in, chunk.ids_target, None
    x, y, *lengths = next(task.batches(arguments.batch, rng))
    return x, y, lengths[0] if lengths else None


def _loss(y: Any, lengths: Any = None) -> Callable[[Any], Tensor]:
    """Return the loss that the task is trained with: of classes where its targets are ids, else of numbers."""
    loss = losses.cross_entropy if np.asarray(y).dtype.kind in "iu" else losses.mse
    return lambda predictions: loss(predictions, y, lengths=lengths)


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
    sizes = f"D = {layer.input_size}, H = {layer.output_size}"
    return f"{type(layer).__name__}, {sizes}{activation}, init {init_of(arguments)}"


def _chart(norms: np.ndarray[Any, np.dtype[np.float64]]) -> str:
    """Draw ‖dL/dh_t‖ against t."""
    what = "‖dL/dh_t‖ against t"
    if not np.isfinite(norms).any():
        return f"{what}: not finite at any of {norms.size} steps"
    if not norms[np.isfinite(norms)].any():
        return f"{what}: exactly 0 at all {norms.size} steps"
    ends = ("t = 0", f"t = {norms.size - 1}")
    return curve(norms, WIDTH, HEIGHT, what, ends=ends, unit="steps", logarithmic=True, decades=DECADES)
