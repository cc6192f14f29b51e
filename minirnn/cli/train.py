"""``minirnn train TASK``: learn a task while one watches, and say whether it is solved."""

import argparse
from typing import Any

import numpy as np

from minirnn import losses
from minirnn.cli import train_text
from minirnn.cli.models import (
    add_model_options,
    add_task,
    add_task_options,
    add_text_options,
    build_model,
    built_task,
)
from minirnn.cli.options import whole_number
from minirnn.cli.training import ABOUT, add_settings, ending, save_model, settings_of, verdict_on
from minirnn.layers.threads import set_num_threads
from minirnn.tasks import TASKS, Task, TextTask
from minirnn.training import fit, measure
from minirnn.training.held_out import HELD_OUT
from minirnn.training.history import History
from minirnn.training.sources import CHUNK

_size, _count = whole_number(1), whole_number(0)  # of options
SEQUENCES = 1000
"""In the held-out batch."""
_WINDOW = 50  # updates over whose mean the training loss must look solved before held-out data are asked
_INTERVAL = 200  # updates between two looks at held-out data, where the training loss is no such figure


def add_command(commands: Any) -> None:
    """Add ``train`` and its tasks to the command line."""
    about = "Train a recurrent layer on a task. Exit status: 0 solved, 1 not solved, 2 an error, 130 interrupted."
    epilog = "minirnn tasks lists the tasks, with what counts as solved"
    parser = commands.add_parser("train", help="train a recurrent layer on a task", description=about, epilog=epilog)
    tasks = parser.add_subparsers(metavar="TASK", required=True)
    for task in TASKS.values():
        if task is TextTask:
            _add_text(tasks)
        else:
            _add_sequences(tasks, task)


def _add_sequences(tasks: Any, task: type[Task]) -> None:
    parser = add_task(tasks, task, train_sequences, ABOUT)
    add_task_options(parser, task)
    add_model_options(parser, task)
    add_settings(parser, task)


def _add_text(tasks: Any) -> None:
    parser = add_task(tasks, TextTask, train_text.run, ABOUT)
    add = parser.add_argument
    add_task_options(parser, TextTask)
    add_text_options(parser)
    add("--chunk", type=_size, default=CHUNK, metavar="T", help="steps an update goes back; default: %(default)s")
    add_model_options(parser, TextTask)
    add_settings(parser, TextTask, falls=", falling to 0")
    add("--evaluate-every", type=_size, metavar="K", help="updates between evaluations; default: a tenth of all")
    add("--sample", type=_count, default=400, metavar="L", help="characters to write at the end; default: %(default)s")


def train_sequences(arguments: argparse.Namespace) -> int:
    """Train on a task of sequences until a held-out batch says that it is solved; return the exit status."""
    set_num_threads(arguments.threads)
    task: Any = built_task(arguments)
    for_model, for_data = np.random.default_rng(arguments.seed).spawn(2)
    model = build_model(arguments, task, for_model)
    settings = settings_of(arguments, task, model)
    held_out = task.evaluation_batch(SEQUENCES, arguments.seed)

    def solved(history: History) -> bool:
        if not _worth_a_look(task, history):
            return False
        history.record(HELD_OUT, measure(model, task, held_out))
        return bool(task.solved(history.evaluations[HELD_OUT][-1].value))

    model.summary()
    T = f", T = {task.T}" if hasattr(task, "T") else ""
    print(f"\n{task.name}{T}\nto be solved: {task.rule}", flush=True)
    loss = losses.cross_entropy if task.kind == "classification" else losses.mse
    history = fit(model, task.batches(arguments.batch, for_data), loss=loss, stop=solved, **settings)
    save_model(arguments, task, model, settings["optimizer"], history)
    figure = measure(model, task, held_out)
    unit = "nats per target" if task.kind == "classification" else "squared error"
    return ending(history, task.solved(figure), verdict_on(task, figure), unit)


def _worth_a_look(task: Any, history: History) -> bool:
    """Whether to ask the held-out data now: they cost more than the training loss, which is known."""
    if task.kind == "regression" and task.metric.startswith("mean squared error"):
        return history.updates % _WINDOW == 0 and bool(task.solved(history.recent(_WINDOW)))
    return history.updates % _INTERVAL == 0
