"""How a task is learnt as options say: what ``minirnn train`` and ``minirnn sweep`` share."""

import argparse
from collections.abc import Callable
from typing import Any

import numpy as np

from minirnn import losses, optim
from minirnn.cli.options import DEFAULT, Options, number, positive
from minirnn.layers import BACKENDS, SequenceModel
from minirnn.tasks import SeriesTask, Task, TextTask
from minirnn.training import History, bits_per_character, schedules
from minirnn.training import measure as measure
from minirnn.training.sources import HELD_OUT

OPTIMIZERS: dict[str, Callable[..., optim.Optimizer]] = {
    **{"sgd": optim.SGD, "rmsprop": optim.RMSprop, "adagrad": optim.Adagrad},
    **{"adam": optim.Adam, "adamw": optim.AdamW},
}
SEQUENCES = 1000
"""In the held-out batch."""
CHECKPOINT_EVERY: dict[str, Any] = number("K", "updates between two checkpoints", 500)
_WINDOW = 50  # updates over whose mean the training loss must look solved before held-out data are asked
_INTERVAL = 200  # updates between two looks at held-out data, where the training loss is no such figure
_LOOKS = 50  # and those of a series, of which the best weights are kept

LENGTH = ("--chunk", "steps an update goes back")
"""The option of a text that others call its length."""

Fit = Callable[..., History]
"""`minirnn.training.fit`, or a trial's."""


def options(task: type[Task]) -> Options:
    """Return the options that say how a task is learnt, but for its model."""
    text, usual = task is TextTask, task.defaults
    rate = f"learning rate{', falling to 0' if text else ''}; {DEFAULT}"
    clip = f"largest gradient norm, or inf; {DEFAULT}"
    every: Options = {"--evaluate-every": number("K", "updates between evaluations; default: a tenth of all")}
    return {
        "--backend": {"choices": BACKENDS, "default": "fused", "help": f"the numbers are the same; {DEFAULT}"},
        "--optimizer": {"choices": tuple(OPTIMIZERS), "default": "adam", "help": DEFAULT},
        "--lr": {"type": positive, "default": usual.lr, "metavar": "RATE", "help": rate},
        "--clip": {"type": positive, "default": usual.clip, "metavar": "NORM", "help": clip},
        "--max-updates": number("K", "updates to make at most", usual.max_updates),
        **(every if text else {}),
    }


def settings_of(arguments: argparse.Namespace, model: SequenceModel) -> dict[str, Any]:
    """Return what the options set of `fit`."""
    return {
        "optimizer": OPTIMIZERS[arguments.optimizer](model.parameters(), arguments.lr),
        "max_updates": arguments.max_updates,
        "clip_norm": arguments.clip,
    }


def on_sequences(
    arguments: argparse.Namespace,
    task: Any,
    model: SequenceModel,
    rng: np.random.Generator,
    held_out: Any,
    settings: dict[str, Any],
    fit: Fit,
) -> History:
    """Train until the held-out batch is solved; it is asked now and then: it costs more than the training loss."""
    by_the_loss = task.kind == "regression" and task.metric.startswith("mean squared error")

    def solved(history: History) -> bool:
        if history.updates % (_WINDOW if by_the_loss else _INTERVAL):
            return False
        if by_the_loss and not task.solved(history.recent(_WINDOW)):
            return False
        figure = measure(model, task, held_out)
        history.record(HELD_OUT, figure)
        return bool(task.solved(figure))

    if isinstance(task, SeriesTask):  # to be better than the baseline is little: it goes on, and the best is kept
        looks = {"held_out": held_out, "evaluate_every": _LOOKS, "restore_best": True}
        return fit(model, task, batch=arguments.batch, rng=rng, **looks, **settings)
    return fit(model, task, batch=arguments.batch, rng=rng, stop=solved, **settings)


def on_text(
    arguments: argparse.Namespace,
    task: TextTask,
    model: SequenceModel,
    streams: Any,
    settings: dict[str, Any],
    fit: Fit,
    report: Callable[[History, int], object] = lambda history, interval: None,
) -> History:
    """Train for a number of updates; measure bits per character now and then and at the end, and report them."""
    last = arguments.max_updates
    interval = arguments.evaluate_every or max(1, last // 10)

    def look(history: History) -> None:
        if history.updates % interval == 0 or history.updates == last:
            history.record(HELD_OUT, bits_per_character(model, task))
            report(history, interval)

    how = {"loss": losses.cross_entropy, "schedule": schedules.linear(arguments.schedule), "carry_state": True}
    return fit(model, streams, **how, callbacks=[look], **settings)


def last_figure(task: TextTask, history: History) -> tuple[bool, float | None]:
    """Return whether a text was solved when it was last measured, and its bits per character; None if it never was."""
    made = history.evaluations.get(HELD_OUT)
    return (task.solved(made[-1].value), made[-1].value) if made else (False, None)
