"""``minirnn inspect``: how a model's gradient flows back through one mini-batch, and what is wrong.

The model is an untrained one of a task, or one that was saved.
"""

import argparse
import json
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from inspect import signature
from pathlib import Path
from types import MappingProxyType, SimpleNamespace
from typing import Any

import numpy as np

from minirnn import losses
from minirnn.autograd.modes import no_grad
from minirnn.bptt import Report, doctor, trace, training_to_html
from minirnn.checkpoints import CheckpointDirectory
from minirnn.cli.convert import read_model
from minirnn.cli.options import (
    COLUMNS,
    Options,
    add_parser,
    add_task,
    build_model,
    built_task,
    check_writable,
    expanded,
    line_on,
    number,
)
from minirnn.cli.saved import SAVED, STEPS, Saved, load
from minirnn.drawing.charts import curve
from minirnn.interop.parts import modules_of
from minirnn.layers import Recurrence
from minirnn.layers.layer import Layer
from minirnn.tasks import TASKS, Task, TextTask
from minirnn.training import History

WIDTH, HEIGHT = 64, 10
"""Of the chart, in characters; its axis takes up to twelve more."""
DECADES = 2.0
"""What the chart's axis spans at least: a gradient that loses a third should look flat."""

_ABOUT = (
    "Build an untrained model for a task ({task.description}), send the gradient of one mini-batch back through time, "
    "and show what is left of it at each step, what is wrong, and what to try."
)
_ABOUT_SAVED = (
    "Send the gradient of one mini-batch back through a saved model, and show what is left of it at each step, what is "
    "wrong, and what to try; also what its training tells."
)
_SAVED = "PATH"
"""The word that stands, among the tasks, for the path of any saved model."""
_DESTINATIONS: Options = {
    "--json": {"action": "store_true", "help": "print the report as JSON"},
    "--html": {
        "type": expanded,
        "metavar": "PATH",
        "help": "write a page to explore the trace with, in a browser; of a directory "
        "of checkpoints that of each, and how the training went",
    },
}

# --- the command line -------------------------------------------------------------------------------------------------


def add_command(commands: Any) -> None:
    """Add ``inspect``, the tasks and the saved models to the command line."""
    parser = commands.add_parser(
        "inspect",
        help="see how gradients flow back through time",
        description="See inside back-propagation through time: how much of the gradient reaches each step, and why.",
        epilog="examples: minirnn inspect adding --steps-in-time 50 --init glorot, and then --init irnn; minirnn "
        "inspect model.npz, which minirnn train adding --save model.npz wrote",
    )
    tasks = parser.add_subparsers(metavar="TASK", required=True, title="an untrained model of a TASK, or a saved one")
    options = {"--seed": number(None, "the same seed gives the same numbers", 0, minimum=0)} | _DESTINATIONS
    for task in TASKS.values():
        add_task(tasks, task, run, _ABOUT, ("--steps-in-time", "length T of what is read"), options)
    options = {
        "--batch": number("N", "sequences in the mini-batch; default: that of its training"),
        "--seed": number(None, "of the mini-batch; default: that of its training, and so its first", minimum=0),
    }
    about = "a model that was saved by minirnn train --save or --checkpoint"
    others: Options = {
        "--task": {"choices": tuple(TASKS), "help": "of a model that minirnn train did not save: what it reads; "
                   "default: numbers drawn at random, and the mean square of what the model gives last as its loss"},
        "--layer": {"metavar": "NAME", "help": "of a model of several layers, the one to look into, such as 0"},
    }  # fmt: skip
    options = SAVED | STEPS | options | others | _DESTINATIONS
    add_parser(tasks, _SAVED, run_saved, options, help=about, description=_ABOUT_SAVED, prog=parser.prog)


def with_path_named(words: Sequence[str]) -> Sequence[str]:
    """Let a path stand where a task does: read ``inspect model.npz`` as ``inspect PATH model.npz``."""
    if words[:1] == ["inspect"] and len(words) > 1 and words[1] not in TASKS and not words[1].startswith("-"):
        path = Path(words[1])
        if path.exists() or path.suffix or path.name != words[1]:
            return ["inspect", _SAVED, *words[1:]]
    return words


# --- the command ------------------------------------------------------------------------------------------------------


def run(arguments: argparse.Namespace) -> int:
    """Trace one mini-batch through an untrained model of a task and print what is found; return 0."""
    check_writable("--html", arguments.html)
    for_model, for_data = np.random.default_rng(arguments.seed).spawn(2)  # as ``minirnn train`` does
    task = built_task(arguments)
    batch = _batch(task, arguments.batch, getattr(arguments, "steps_in_time", None), for_data)
    model = build_model(arguments, task, for_model)
    return _examine(arguments, task, batch, model, line_on(arguments, model), "untrained")


def run_saved(arguments: argparse.Namespace) -> int:
    """Trace one mini-batch through a saved model and print what is found; return 0."""
    check_writable("--html", arguments.html)
    saved = read_model(arguments.path, file=arguments.file, encoding=arguments.encoding, T=arguments.steps_in_time)
    if not isinstance(saved, Saved):
        return _run_another(arguments, saved)
    _, its, task, model, history = saved
    _, for_data = np.random.default_rng(its.seed if arguments.seed is None else arguments.seed).spawn(2)
    batch = _batch(task, arguments.batch or its.batch, getattr(its, "chunk", None), for_data)
    others = _others(arguments, saved) if arguments.html else {}
    return _examine(arguments, task, batch, model, line_on(its, model), saved.after, history, others)


def _others(arguments: argparse.Namespace, saved: Saved) -> dict[int, Any]:
    """Return the models of a directory's other checkpoints by their update, and as it was before the first of them."""
    if not arguments.path.is_dir():
        return {}
    its = saved.arguments
    for_model, _ = np.random.default_rng(its.seed).spawn(2)
    found = {0: build_model(its, saved.task, for_model)}
    for path in (arguments.path / "best.npz", *CheckpointDirectory(arguments.path).paths().values()):
        if path.exists() and path != saved.checkpoint.path:
            other = load(path, file=arguments.file, encoding=arguments.encoding, T=arguments.steps_in_time)
            found[other.history.updates] = other.model
    return found


def _run_another(arguments: argparse.Namespace, model: Any) -> int:
    """Trace one mini-batch through a model that another library trained, or one of its layers, and print; return 0."""
    rng = np.random.default_rng(arguments.seed)
    for _, part in modules_of(model):
        if isinstance(part, Recurrence):
            part.batch_first = False  # as the tasks have it; the model is this command's own
    T, N, known = arguments.steps_in_time or 50, arguments.batch or 32, ""
    recurrent = getattr(model, "recurrent", model)
    if not isinstance(recurrent, Recurrence):
        raise ValueError(f"{str(arguments.path)!r} holds a {type(model).__name__}, through which nothing flows in time")
    embedding = getattr(model, "embedding", None)
    task: Any = SimpleNamespace(name=arguments.path.name, readout="last", description="drawn at random; the loss is "
                                "the mean square of what comes last")  # fmt: skip
    if arguments.task:
        kind = TASKS[arguments.task]
        task = kind(**({"T": T} if "T" in signature(kind).parameters else {}))
        x, y, lengths = _batch(task, N, T, rng)
    else:
        ids = embedding is not None and rng.integers(0, embedding.num_embeddings, (T, N))
        x, y, lengths = rng.standard_normal((T, N, recurrent.input_size)) if ids is False else ids, None, None
    layers = dict(_layers(recurrent, ""))
    if len(layers) > 1:
        known = f": there are {', '.join(layers)}"
        if arguments.layer not in layers:
            raise ValueError(f"--layer: expected the name of one layer of several{known}, got {arguments.layer!r}")
    elif arguments.layer:
        raise ValueError(f"--layer: expected several layers with it, got a {type(recurrent).__name__}: leave it out")
    layer = layers[arguments.layer] if arguments.layer else next(iter(layers.values()))
    line = f"{layer}; {layer.count_params():,} parameters"
    if known:  # what reaches it; the loss is that of its own outputs then
        with no_grad():
            x, model = _read_by(layer, model, x, lengths), layer
        y = None
    return _examine(arguments, task, (x, y, lengths), model, line, "trained elsewhere")


def _layers(recurrent: Any, name: str) -> Iterator[tuple[str, Any]]:
    if isinstance(recurrent, Layer):
        yield name, recurrent
    else:
        for own, child in recurrent.children():
            if isinstance(child, Recurrence):
                yield from _layers(child, f"{name}.{own}".lstrip("."))


def _read_by(layer: Any, model: Any, x: Any, lengths: Any) -> Any:
    """Run the model, and return what one of its layers reads."""
    read: list[Any] = []
    forward = layer.forward

    def noted(x: Any, *others: Any, **more: Any) -> Any:
        read.append(np.array(getattr(x, "data", x)))
        return forward(x, *others, **more)

    layer.forward = noted
    model(x, lengths=lengths)
    del layer.forward
    return read[0]


def _examine(
    arguments: argparse.Namespace,
    task: Any,
    batch: tuple[Any, Any, Any],
    model: Any,
    line: str,
    state: str,
    history: History | None = None,
    others: Mapping[int, Any] = MappingProxyType({}),
) -> int:
    """Trace a mini-batch (x, y, lengths), and print what is found; ``state`` says how far the model was trained.

    ``others`` are models by their update, which the page shows beside it.
    """
    x, y, lengths = batch
    loss = _last_square if y is None else _loss(y, lengths if task.readout == "all" else None)
    with np.errstate(all="ignore"):  # what overflows is told in the report
        traced = trace(model, x, loss, lengths=lengths)
        traces = {update: trace(other, x, loss, lengths=lengths) for update, other in others.items()}
    report = doctor(traced, history=history, delay=getattr(task, "delay", None))
    title = f"{task.name}, T = {traced.T}"
    if arguments.html and history is not None:
        training_to_html(traces | {history.updates: traced}, arguments.html, history=history, title=title)
    elif arguments.html:
        traced.to_html(arguments.html, f"{title}, {state}")
    if not arguments.json:
        print(_text(task, f"{line}, {state}", report, arguments.html))
        return 0
    layer = repr(getattr(model, "recurrent", model))
    head = {"task": task.name, "layer": layer, "parameters": model.count_params(), "model": state}
    page = {"html": str(arguments.html)} if arguments.html else {}
    print(json.dumps(head | page | report.to_dict(), indent=1, ensure_ascii=False, allow_nan=False))
    return 0


def _batch(task: Any, N: int, T: int | None, rng: np.random.Generator) -> tuple[Any, Any, Any]:
    """Return the first mini-batch of a training: of a text T steps of its streams, else what the task draws."""
    if isinstance(task, TextTask):
        chunk = next(task.streams(N, T, rng))  # type: ignore[arg-type]
        return chunk.ids_in, chunk.ids_target, None
    x, y, *lengths = next(task.batches(N, rng))
    return x, y, lengths[0] if lengths else None


def _loss(y: Any, lengths: Any = None) -> Callable[[Any], Any]:
    """Return the loss that the task is trained with: of classes where its targets are ids, else of numbers."""
    loss = losses.cross_entropy if np.asarray(y).dtype.kind in "iu" else losses.mse
    return lambda predictions: loss(predictions, y, lengths=lengths)


def _last_square(outputs: Any) -> Any:
    last = outputs if outputs.ndim == 2 else outputs[-1]
    return (last * last).mean()


# --- what is printed --------------------------------------------------------------------------------------------------


def _text(task: Task, line: str, report: Report, page: Path | None) -> str:
    figures = report.figures
    parts = [
        textwrap.fill(f"{task.name}, T = {figures['T']}: {task.description}", COLUMNS),
        textwrap.fill(line, COLUMNS),
        f"one mini-batch, N = {figures['N']}, loss {figures['loss']:.4g}",
        "",
        _chart(np.array(figures["gradient_norms"])),
        "",
        str(report),
    ]
    if page:
        parts += ["", f"Page: {page} ({page.stat().st_size / 1e6:.2f} MB)"]
    return "\n".join(parts)


def _chart(norms: np.ndarray[Any, np.dtype[np.float64]]) -> str:
    """Draw ‖dL/dh_t‖ against t."""
    what = "‖dL/dh_t‖ against t"
    if not np.isfinite(norms).any():
        return f"{what}: not finite at any of {norms.size} steps"
    if not norms[np.isfinite(norms)].any():
        return f"{what}: exactly 0 at all {norms.size} steps"
    return curve(
        norms,
        WIDTH,
        HEIGHT,
        what,
        ends=("t = 0", f"t = {norms.size - 1}"),
        unit="steps",
        logarithmic=True,
        decades=DECADES,
    )
