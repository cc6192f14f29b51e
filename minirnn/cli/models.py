"""The tasks' models, and the options that shape them: what ``train`` and ``inspect`` share."""

import argparse
from collections.abc import Callable
from inspect import signature
from typing import Any

import numpy as np

from minirnn.cli.options import whole_number
from minirnn.init import PRESETS
from minirnn.kernels.cells import ACTIVATIONS
from minirnn.layers import GRULayer, LSTMLayer, RecurrentLayer, SequenceModel
from minirnn.layers.layer import Layer
from minirnn.layers.plain import Embedding, Linear
from minirnn.tasks import Task, TextTask
from minirnn.training.sources import CHUNK

GATED: dict[str, type[LSTMLayer] | type[GRULayer]] = {"lstm": LSTMLayer, "gru": GRULayer}
"""The cells besides Elman's, as options name them."""
GATED_INIT = "orthogonal"
"""The initialiser of their W_hh where a task would be an IRNN."""
COLUMNS = 80
"""What is printed about a model fits into."""

_size = whole_number(1)


# --- options ----------------------------------------------------------------------------------------------------------


def add_task(
    tasks: Any, task: type[Task], run: Callable[[argparse.Namespace], int], about: str, length: tuple[str, str]
) -> argparse.ArgumentParser:
    """Add a task to a command, with what shapes the task and its model.

    There is an option for each whole number that the task is made with: ``--steps-in-time`` for its T. ``about`` may
    speak of the task's {description}, {rule} and {source}; ``length`` is the option that says how many steps of a text
    are read, and what it does.
    """
    text = about.format(description=task.description, rule=task.rule, source=task.source)
    parser: argparse.ArgumentParser = tasks.add_parser(task.name, help=task.description, description=text)
    parser.set_defaults(run=run, task=task, backend="fused")
    add, default, usual = parser.add_argument, "default: %(default)s", task.defaults
    for name, size in _sizes_of(task).items():
        option, letter, what = ("--steps-in-time", "T", "length T") if name == "T" else (f"--{name}", "K", name)
        add(option, dest=f"task_{name}", type=_size, default=size, metavar=letter, help=f"{what}; {default}")
    if task is TextTask:
        add("--file", metavar="PATH", help="a UTF-8 text file; default: the standard library's own prose")
        add("--embedding", type=_size, default=64, metavar="D", help=f"size of a character's vector; {default}")
        add(length[0], type=_size, default=CHUNK, metavar="T", help=f"{length[1]}; {default}")
    add("--hidden", type=_size, default=usual.hidden, metavar="H", help=f"hidden neurons; {default}")
    add("--batch", type=_size, default=usual.batch, metavar="N", help=f"sequences side by side in an update; {default}")
    add("--cell", choices=("elman", *GATED), default=usual.cell, help=f"the layer; {default}")
    start = f"{usual.init} for {usual.cell}, else {GATED_INIT}" if usual.init == "irnn" else usual.init
    add("--init", choices=("irnn", *PRESETS), help=f"irnn, or the initialiser of W_hh; default: {start}")
    phi = usual.activation or "relu for --init irnn, else tanh"
    add("--activation", choices=tuple(ACTIVATIONS), help=f"φ of elman; default: {phi}")
    return parser


def built_task(arguments: argparse.Namespace) -> Any:
    """Build the task with what its options give."""
    given: dict[str, Any] = {name: getattr(arguments, f"task_{name}") for name in _sizes_of(arguments.task)}
    if hasattr(arguments, "file"):
        given["path"] = arguments.file
    return arguments.task(**given)


def _sizes_of(task: type[Task]) -> dict[str, int]:
    parameters = signature(task).parameters.values()
    return {p.name: p.default for p in parameters if isinstance(p.default, int) and not isinstance(p.default, bool)}


# --- models -----------------------------------------------------------------------------------------------------------


def build_model(arguments: argparse.Namespace, task: Task, rng: np.random.Generator) -> SequenceModel:
    """Build the model of a task: an embedding where the task has ids, the layer, and a linear head."""
    size = arguments.embedding if task.inputs == "ids" else None
    embedding = None if size is None else Embedding(task.input_size, size, rng=rng)
    layer = build_layer(arguments, size or task.input_size, rng)
    head = Linear(arguments.hidden, task.output_size, rng=rng)
    return SequenceModel(layer, head, readout=task.readout, embedding=embedding)


def build_layer(arguments: argparse.Namespace, D: int, rng: np.random.Generator) -> Layer:
    """Build the recurrent layer that the options describe."""
    settings: dict[str, Any] = {"backend": arguments.backend, "rng": rng}
    hidden, init = arguments.hidden, init_of(arguments)
    if arguments.cell != "elman":
        if arguments.init == "irnn" or arguments.activation:
            option = "--activation" if arguments.activation else "--init irnn"
            raise ValueError(
                f"{option}: expected --cell elman with it, got --cell {arguments.cell}: leave one of them out"
            )
        return GATED[arguments.cell](D, hidden, **settings, recurrent_initializer=init)  # type: ignore[arg-type]
    start: dict[str, Any] = {"init": "irnn"} if init == "irnn" else {"recurrent_initializer": init}
    usual = None if arguments.init else arguments.task.defaults.activation
    activation: Any = arguments.activation or usual or ("relu" if init == "irnn" else "tanh")
    return RecurrentLayer(D, hidden, activation=activation, **settings, **start)


def init_of(arguments: argparse.Namespace) -> str:
    """Return the initialiser of W_hh that the options ask for; an IRNN has no gates."""
    usual = arguments.task.defaults
    same = arguments.cell == usual.cell or usual.init != "irnn"
    return arguments.init or (usual.init if same else GATED_INIT)


def line_on(arguments: argparse.Namespace, model: SequenceModel) -> str:
    """Return what a model is, in a line."""
    layer = model.recurrent
    activation = f", {layer.activation.name}" if isinstance(layer, RecurrentLayer) else ""
    sizes = f"D = {layer.input_size}, H = {layer.output_size}"
    kind = f"{type(layer).__name__}, {sizes}{activation}, init {init_of(arguments)}"
    return f"{kind}; {model.count_params():,} parameters"
