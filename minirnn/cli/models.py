"""The tasks' models, and the options that shape them: what ``train`` and ``inspect`` share.

Checked by tests/cli/test_train.py and test_inspect.py.
"""

import argparse
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from minirnn.cli.options import whole_number
from minirnn.init import PRESETS
from minirnn.kernels.cells import ACTIVATIONS
from minirnn.layers import Embedding, Linear
from minirnn.recurrent import GRULayer, LSTMLayer, RecurrentLayer, SequenceModel
from minirnn.recurrent.layer import Layer
from minirnn.tasks import Task

GATED: dict[str, type[LSTMLayer] | type[GRULayer]] = {"lstm": LSTMLayer, "gru": GRULayer}
"""The cells besides Elman's, as options name them."""
GATED_INIT = "orthogonal"
"""The initialiser of their W_hh, unless told otherwise: an IRNN has no gates."""

_size = whole_number(1)


class Defaults(NamedTuple):
    """What the model of a task is like unless told otherwise.

    Attributes
    ----------
    hidden : int
    batch : int
    init : str
        "irnn", or the name of an initialiser.
    T : int
    """

    hidden: int = 100
    batch: int = 16
    init: str = "irnn"
    T: int = 50


DEFAULTS = {"text": Defaults(hidden=256, batch=32, init="orthogonal", T=20)}
"""By the name of the task, where they differ from `Defaults`."""


def defaults_of(task: type[Task]) -> Defaults:
    """Return a task's defaults."""
    return DEFAULTS.get(str(task.name), Defaults())


# --- options ----------------------------------------------------------------------------------------------------------


def add_task(
    tasks: Any, task: type[Task], run: Callable[[argparse.Namespace], int], about: str
) -> argparse.ArgumentParser:
    """Add a task to a command; ``about`` may speak of its {description}, {rule} and {source}."""
    text = about.format(description=task.description, rule=task.rule, source=task.source)
    parser: argparse.ArgumentParser = tasks.add_parser(task.name, help=task.description, description=text)
    parser.set_defaults(run=run)
    return parser


def add_length(parser: argparse.ArgumentParser, task: type[Task]) -> None:
    """Add ``--steps-in-time``."""
    T = defaults_of(task).T
    parser.add_argument("--steps-in-time", type=_size, default=T, metavar="T", help="length T; default: %(default)s")


def add_text_options(parser: argparse.ArgumentParser) -> None:
    """Add which text to read, and how."""
    add = parser.add_argument
    add("--file", metavar="PATH", help="a UTF-8 text file; default: the standard library's own prose")
    add("--embedding", type=_size, default=64, metavar="D", help="size of a character's vector; default: %(default)s")


def add_model_options(parser: argparse.ArgumentParser, task: type[Task], *, cells: bool = False) -> None:
    """Add what shapes a task's model, with its defaults; with ``cells`` the choice of Elman's or a gated one too."""
    add, default, usual = parser.add_argument, "default: %(default)s", defaults_of(task)
    add("--hidden", type=_size, default=usual.hidden, metavar="H", help=f"hidden neurons; {default}")
    add("--batch", type=_size, default=usual.batch, metavar="N", help=f"sequences side by side in an update; {default}")
    gated = f" ({GATED_INIT} with gates)" * (cells and usual.init != GATED_INIT)
    init = f"irnn, or the initialiser of W_hh; default: {usual.init}{gated}"
    add("--init", choices=("irnn", *PRESETS), help=init)
    add("--activation", choices=tuple(ACTIVATIONS), help="φ; default: relu for --init irnn, else tanh")
    if cells:
        add("--cell", choices=("elman", *GATED), default="elman", help=f"the layer; {default}")
    parser.set_defaults(cell="elman", backend="fused", usual_init=usual.init)


# --- models -----------------------------------------------------------------------------------------------------------


def build_model(arguments: argparse.Namespace, task: Task, rng: np.random.Generator) -> SequenceModel:
    """Build the model of a task: an embedding where the task has ids, the layer, and a linear head."""
    size: int | None = getattr(arguments, "embedding", None)
    embedding = None if size is None else Embedding(task.input_size, size, rng=rng)
    layer = build_layer(arguments, size or task.input_size, rng)
    head = Linear(arguments.hidden, task.output_size, rng=rng)
    return SequenceModel(layer, head, readout=task.readout, embedding=embedding)


def build_layer(arguments: argparse.Namespace, D: int, rng: np.random.Generator) -> Layer:
    """Build the recurrent layer that the options describe."""
    hidden, settings = arguments.hidden, {"backend": arguments.backend, "rng": rng}
    if arguments.cell != "elman":
        if arguments.init == "irnn" or arguments.activation:
            option = "--activation" if arguments.activation else "--init irnn"
            raise ValueError(
                f"{option}: expected --cell elman with it, got --cell {arguments.cell}: leave one of them out"
            )
        return GATED[arguments.cell](D, hidden, recurrent_initializer=arguments.init or GATED_INIT, **settings)
    init = arguments.init or arguments.usual_init
    start = {"init": "irnn"} if init == "irnn" else {"recurrent_initializer": init}
    activation = arguments.activation or ("relu" if init == "irnn" else "tanh")
    return RecurrentLayer(D, hidden, activation=activation, **settings, **start)
