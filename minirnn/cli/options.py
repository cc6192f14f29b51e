"""What the commands share: options, and the tasks' models, which options shape."""

import argparse
import math
import os
import re
from collections.abc import Callable
from functools import partial
from inspect import signature
from pathlib import Path
from typing import Any, NoReturn, cast

import numpy as np

from minirnn.arguments import one_of
from minirnn.data import Standardizer
from minirnn.init import PRESETS
from minirnn.kernels.cells import ACTIVATIONS
from minirnn.layers import Embedding, GRULayer, Linear, LSTMLayer, RecurrentLayer, SequenceModel
from minirnn.layers.layer import Layer
from minirnn.tasks import SeriesTask, Task, TextTask
from minirnn.training.sources import CHUNK

Options = dict[str, dict[str, Any]]
"""Each option by its flag, with what argparse is told of it."""
AS_JSON: dict[str, Any] = {"action": "store_true", "help": "print everything as JSON instead"}
NO_PROGRESS: dict[str, Any] = {
    "action": "store_true",
    "help": "no bar (there is none either when stderr is not a terminal)",
}
DEFAULT = "default: %(default)s"
CELLS = {"elman": RecurrentLayer, "lstm": LSTMLayer, "gru": GRULayer}
GATED_INIT = "orthogonal"
"""The initialiser of their W_hh where a task would be an IRNN."""
COLUMNS = 80
"""What is printed about a model fits into."""

# --- options ----------------------------------------------------------------------------------------------------------


def add_parser(
    commands: Any, name: str, run: Callable[[argparse.Namespace], int], options: Options, **texts: Any
) -> argparse.ArgumentParser:
    """Add a command with its options; ``texts`` are argparse's: help, description and so on."""
    parser: argparse.ArgumentParser = commands.add_parser(name, **texts)
    for flag, settings in options.items():
        parser.add_argument(flag, **settings)
    parser.set_defaults(run=run)
    return parser


class Parser(argparse.ArgumentParser):
    """argparse's, but that it raises instead of leaving, and never guesses at abbreviated options."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**{**settings, "allow_abbrev": False})

    def error(self, message: str) -> NoReturn:
        """Raise a ValueError."""
        raise ValueError(f"{message}; see {self.prog} --help")


def _at_least(minimum: float, convert: Callable[[str], float], expected: str, text: str) -> Any:
    try:
        number = convert(text)
    except ValueError:
        number = math.nan
    if not number >= minimum:
        raise argparse.ArgumentTypeError(f"expected {expected}, got {text!r}")
    return number


def whole_number(minimum: int) -> Callable[[str], int]:
    """Make a reader of options that are whole numbers of at least ``minimum``."""
    return partial(_at_least, minimum, int, f"a whole number ≥ {minimum}")


def expanded(text: str) -> Path:
    """Read an option that is a path; no shell has written out the ``~`` of --option=~/path."""
    return Path(os.path.expanduser(text))


positive = partial(_at_least, math.ulp(0.0), float, "a positive number")
"""Reads an option that is a number > 0, inf included."""
at_least_0 = partial(_at_least, 0.0, float, "a number ≥ 0")


def number(metavar: str | None, what: str, default: int | None = None, minimum: int = 1) -> dict[str, Any]:
    """Return an option that is a whole number; its help names the default, if there is one."""
    return {
        "type": whole_number(minimum),
        "default": default,
        "metavar": metavar,
        "help": what if default is None else f"{what}; {DEFAULT}",
    }


def check_writable(option: str, path: Path | None) -> None:
    """Refuse, before anything is done, a file that could not be written afterwards; ValueError naming the option."""
    if path is None:
        return
    folder = Path(os.path.realpath(path)).parent  # of a symbolic link that of the file it leads to
    written = path if path.exists() and not path.is_file() else folder  # a device is written to as it is
    faults = {
        "it is a directory": path.is_dir() or not path.name,
        "no such file or directory": not folder.is_dir(),
        "permission denied": not os.access(written, os.W_OK),
    }
    if fault := next((text for text, found in faults.items() if found), None):
        raise ValueError(
            f"{option}: expected a file that can be written, got {str(path)!r}: {fault}: try a file in a directory "
            "that exists and may be written to"
        )


def add_task(
    tasks: Any,
    task: type[Task],
    run: Callable[[argparse.Namespace], int],
    about: str,
    length: tuple[str, str],
    others: Options,
) -> None:
    """Add a task to a command, with what shapes the task and its model, and other options.

    ``about`` may speak of the {task}; see `task_options`.
    """
    texts = {"help": task.description, "description": about.format(task=task)}
    options = {**task_options(task, length), **others}
    add_parser(tasks, task.name, run, options, **texts).set_defaults(task=task, backend="fused")


def task_options(task: type[Task], length: tuple[str, str]) -> Options:
    """Return the options that shape a task and its model.

    There is one for each whole number that the task is made with: ``--steps-in-time`` for its T. ``length`` is the
    option that says how many steps of a text are read, and what it does.
    """
    usual, options = task.defaults, Options()
    for name, size in _sizes_of(task).items():
        option, letter, what = ("--steps-in-time", "T", "length T") if name == "T" else (f"--{name}", "K", name)
        options[option] = {**number(letter, what, size), "dest": f"task_{name}"}
    if task is TextTask:
        options |= {
            "--file": {"metavar": "PATH", "help": "a text file; default: the standard library's own prose"},
            "--encoding": {"metavar": "NAME", "help": "of that file, such as cp1252 or utf-16; default: utf-8"},
            "--embedding": number("D", "size of a character's vector", 64),
            length[0]: number("T", length[1], CHUNK),
        }
    if task is SeriesTask:
        options |= {
            "--file": {"metavar": "PATH", "help": "a CSV file, whose first line names its columns; default: two sines"},
            "--column": {
                "action": "append",
                "metavar": "NAME",
                "help": "one of its columns, and more if given again; default: all that hold numbers",
            },
            "--decimal": {"choices": (".", ","), "help": "what stands before the decimals of its numbers; default: ."},
            "--encoding": {"metavar": "NAME", "help": "of that file, such as cp1252; default: utf-8"},
        }
    start = f"{usual.init} for {usual.cell}, else {GATED_INIT}" if usual.init == "irnn" else usual.init
    phi = usual.activation or "relu for --init irnn, else tanh"
    return options | {
        "--hidden": number("H", "hidden neurons", usual.hidden),
        "--batch": number("N", "sequences side by side in an update", usual.batch),
        "--cell": {"choices": tuple(CELLS), "default": usual.cell, "help": f"the layer; {DEFAULT}"},
        "--init": {"choices": ("irnn", *PRESETS), "help": f"irnn, or the initialiser of W_hh; default: {start}"},
        "--activation": {"choices": tuple(ACTIVATIONS), "help": f"φ of elman; default: {phi}"},
    }


def built_task(arguments: argparse.Namespace) -> Any:
    """Build the task with what its options give."""
    given = {name: getattr(arguments, f"task_{name}") for name in _sizes_of(arguments.task)}
    if hasattr(arguments, "file"):
        if arguments.file is None and getattr(arguments, "encoding", None):
            raise ValueError(
                "--encoding: expected --file PATH with it, of the file that is in it, got none: leave it out"
            )
        given |= {"path": arguments.file, "encoding": getattr(arguments, "encoding", None) or "utf-8"}
    return _series(arguments, given) if arguments.task is SeriesTask else arguments.task(**given)


def _series(arguments: argparse.Namespace, given: dict[str, Any]) -> SeriesTask:
    """Build the task of a series; of a saved one with the columns and in the units of its training."""
    given |= {"columns": arguments.column, "decimal": arguments.decimal or "."}
    given["encoding"] = arguments.encoding or "utf-8-sig"
    for option, value in (("--column", arguments.column), ("--decimal", arguments.decimal)):
        if value and arguments.file is None:
            raise ValueError(f"{option}: expected --file PATH with it, got none: leave it out")
    if (mark := getattr(arguments, "csv", None)) is not None:
        given["units"] = Standardizer(np.array(mark["mean"], float), np.array(mark["std"], float))
        given["columns"] = None if arguments.file is None else mark["columns"]
    try:
        return SeriesTask(**given)
    except (ValueError, OSError) as error:  # told by the option, not by the argument
        text, option = str(error), "--file"
        for start, its in (("SeriesTask: T ", "--steps-in-time"), ("SeriesTask: columns ", "--column")):
            option = its if text.startswith(start) else option
        option = "--column" if " has no column " in text else option
        text = re.sub(r"^(SeriesTask: \w+|read_csv:)", f"{option}:", text.replace("read_csv: encoding", "--encoding:"))
        text = text.replace('decimal=","', "--decimal ,").replace("pass encoding=", "try --encoding cp1252, say")
        raise type(error)(text) from error


def _sizes_of(task: type[Task]) -> dict[str, int]:
    parameters = signature(task).parameters.values()
    return {p.name: p.default for p in parameters if isinstance(p.default, int) and not isinstance(p.default, bool)}


# --- models -----------------------------------------------------------------------------------------------------------


def build_model(arguments: argparse.Namespace, task: Task, rng: np.random.Generator) -> SequenceModel:
    """Build the model of a task: an embedding where the task has ids, the layer, and a linear head."""
    ids = task.inputs == "ids"
    embedding = Embedding(task.input_size, arguments.embedding, rng=rng) if ids else None
    layer = build_layer(arguments, arguments.embedding if ids else task.input_size, rng)
    head = Linear(arguments.hidden, task.output_size, rng=rng)
    return SequenceModel(layer, head, readout=task.readout, embedding=embedding)


def build_layer(arguments: argparse.Namespace, D: int, rng: np.random.Generator) -> Layer:
    """Build the recurrent layer that the options describe."""
    init = init_of(arguments)
    settings: dict[str, Any] = {"init": "irnn"} if init == "irnn" else {"recurrent_initializer": init}
    if arguments.cell == "elman":
        usual = None if arguments.init else arguments.task.defaults.activation
        settings["activation"] = arguments.activation or usual or ("relu" if init == "irnn" else "tanh")
    elif init == "irnn" or arguments.activation:
        option = "--activation" if arguments.activation else "--init irnn"
        raise ValueError(f"{option}: expected --cell elman with it, got --cell {arguments.cell}: leave one of them out")
    cell: Any = CELLS[one_of(arguments.cell, tuple(CELLS), "--cell")]
    return cast(Layer, cell(D, arguments.hidden, backend=arguments.backend, rng=rng, **settings))


def init_of(arguments: argparse.Namespace) -> str:
    """Return the initialiser of W_hh that the options ask for; an IRNN has no gates."""
    usual = arguments.task.defaults
    return arguments.init or (usual.init if arguments.cell == usual.cell or usual.init != "irnn" else GATED_INIT)


def line_on(arguments: argparse.Namespace, model: SequenceModel) -> str:
    """Describe a model in a line."""
    layer = model.recurrent
    activation = f", {layer.activation.name}" if isinstance(layer, RecurrentLayer) else ""
    sizes = f"D = {layer.input_size}, H = {layer.output_size}"
    return (
        f"{type(layer).__name__}, {sizes}{activation}, init {init_of(arguments)}; {model.count_params():,} parameters"
    )
