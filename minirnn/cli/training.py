"""What the commands that train have in common: options, the settings of `fit`, and how a training ends."""

import argparse
import hashlib
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from minirnn import optim
from minirnn.checkpoints import CheckpointDirectory, save_checkpoint
from minirnn.cli.options import check_writable, whole_number
from minirnn.layers import BACKENDS, SequenceModel
from minirnn.tasks import Task, TextTask
from minirnn.training import Checkpointing
from minirnn.training.history import History
from minirnn.training.saving import Position, of_training

OPTIMIZERS: dict[str, Callable[..., optim.Optimizer]] = {"sgd": optim.SGD, "rmsprop": optim.RMSprop, "adam": optim.Adam}
ABOUT = "Learn to {description}. Solved: {rule}. Source: {source}."
_size, _count = whole_number(1), whole_number(0)


def add_settings(parser: argparse.ArgumentParser, task: Any, *, falls: str = "") -> None:
    """Add what the tasks share, with one task's defaults."""
    add, default, usual = parser.add_argument, "default: %(default)s", task.defaults
    add("--backend", choices=BACKENDS, default="fused", help=f"the numbers are the same; {default}")
    add("--optimizer", choices=tuple(OPTIMIZERS), default="adam", help=default)
    add("--lr", type=positive, default=usual.lr, metavar="RATE", help=f"learning rate{falls}; {default}")
    add("--clip", type=positive, default=usual.clip, metavar="NORM", help=f"largest gradient norm, or inf; {default}")
    add("--max-updates", type=_size, default=usual.max_updates, metavar="K", help=f"updates to make at most; {default}")
    # One: the products of a step are mostly too small to share, and the numbers are the same on every machine.
    add("--threads", type=_size, default=1, metavar="K", help=f"threads that the layer and BLAS may use; {default}")
    add("--seed", type=_count, default=0, help=f"the same seed and threads give the same numbers; {default}")
    add("--no-progress", action="store_true", help="no bar (there is none either when stderr is not a terminal)")
    about = "save there every so often, in the end, and when Ctrl-C or SIGTERM ends the run"
    add("--checkpoint", type=Path, metavar="DIR", help=about)
    add("--checkpoint-every", type=_size, default=500, metavar="K", help=f"updates between two checkpoints; {default}")
    about = "save the model there in the end, solved or not: for minirnn eval, sample and inspect"
    add("--save", type=Path, metavar="PATH", help=about)
    add("--resume", action="store_true", help="go on from the newest checkpoint in --checkpoint, with the same options")


def positive(text: str) -> float:
    """Read an option that is a positive number, inf included."""
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not number > 0:
        raise argparse.ArgumentTypeError(f"expected a positive number, got {text!r}")
    return number


def settings_of(arguments: argparse.Namespace, task: Task, model: SequenceModel) -> dict[str, Any]:
    """Return those arguments of `fit` that are the same for all tasks; refuse what could not be saved to."""
    if arguments.save:
        check_writable("--save", arguments.save)
    return {
        "optimizer": OPTIMIZERS[arguments.optimizer](model.parameters(), arguments.lr),
        "max_updates": arguments.max_updates,
        "clip_norm": arguments.clip,
        "progress": False if arguments.no_progress else None,
        "checkpoint": _checkpointing(arguments, task),
    }


# --- what is saved ----------------------------------------------------------------------------------------------------

FREE = {"version", "run", "task", "no_progress", "max_updates", "sample", "evaluate_every"}
FREE |= {"checkpoint", "checkpoint_every", "resume", "save"}
"""What may differ when a run is resumed, and what is no option; it is not saved."""
TEXT = "text"
"""The setting that says which text was read."""


def saved_settings(arguments: argparse.Namespace, task: Task) -> dict[str, Any]:
    """Return what is saved with the weights, so that minirnn.cli.saved can build task and model again."""
    options = {name: value for name, value in vars(arguments).items() if name not in FREE}
    text = {TEXT: mark_of(task)} if isinstance(task, TextTask) else {}
    return {"task": str(task.name), **options, **text}


def mark_of(task: TextTask) -> dict[str, str]:
    """Return what a text is known by: its characters, whose places are the model's ids, and a digest of all of it."""
    text = task.decode(np.concatenate([task.train_ids, task.held_out_ids]))
    return {"vocabulary": task.vocabulary, "sha256": hashlib.sha256(text.encode()).hexdigest()}


def option_of(name: str) -> str:
    """Return the option that sets an argument."""
    return "--steps-in-time" if name == "task_T" else "--" + name.removeprefix("task_").replace("_", "-")


def save_model(
    arguments: argparse.Namespace, task: Task, model: SequenceModel, optimizer: optim.Optimizer, history: History
) -> None:
    """Save what was learnt where ``--save`` says, and say so; before the first update there is nothing to save."""
    if arguments.save is None:
        return
    if not history.updates:
        print(f"\nnot saved, because no update was made: {arguments.save}", flush=True)
        return
    learnt = of_training(history, Position(history.updates))  # a batch is an update here
    settings = saved_settings(arguments, task)
    save_checkpoint(arguments.save, model=model, optimizer=optimizer, settings=settings, **learnt)
    print(f"\nsaved after {counted(history.updates, 'update')}: {arguments.save}", flush=True)


def _checkpointing(arguments: argparse.Namespace, task: Task) -> Checkpointing | None:
    """Return where to save, when a resumed run has been found to be the same one."""
    if arguments.checkpoint is None:
        if arguments.resume:
            raise ValueError("--resume: expected --checkpoint DIR with it, which says where to go on from, got none")
        return None
    settings = saved_settings(arguments, task)
    latest = CheckpointDirectory(arguments.checkpoint).latest()
    if latest is not None and not arguments.resume:
        raise ValueError(
            f"--checkpoint: expected a directory without a run, got {str(arguments.checkpoint)!r}, which holds one: go "
            "on with it by --resume, or choose another"
        )
    begun = {} if latest is None else latest.settings
    for name, then in begun.items():
        now = settings.get(name)
        if then != now:
            expected, got = (f"{option_of(name)} {then}", now) if name != TEXT else ("the same text", "another")
            raise ValueError(
                f"--resume: expected {expected} as the run in {str(arguments.checkpoint)!r} was begun with, got "
                f"{got}: give it the same options, or choose another directory"
            )
    return Checkpointing(arguments.checkpoint, arguments.checkpoint_every, arguments.resume, settings=settings)


# --- what is printed --------------------------------------------------------------------------------------------------


def counted(number: int, thing: str) -> str:
    """Return "1 update", "2,000 updates"."""
    return f"{number:,} {thing}{'s' * (number != 1)}"


def verdict_on(task: Task, figure: float) -> str:
    """Return the figure of held-out data and what it is held against."""
    if isinstance(task, TextTask):
        return f"held-out {task.metric} {figure:.3f}, {baselines(task)}"
    return f"held-out {task.metric} {figure:.4f}, baseline {task.baseline:.4f}"


def baselines(task: TextTask) -> str:
    """Return the two figures of a text that counts alone reach."""
    return f"bigram {task.bigram_bits:.2f}, unigram {task.unigram_bits:.2f}"


def ending(history: History, solved: bool, figures: str, unit: str) -> int:
    """Print the verdict and the loss curve; return the exit status."""
    verdict = "interrupted" if history.interrupted else "solved" if solved else "not solved"
    seconds = history.seconds[-1] if history.updates else 0.0
    accuracy = ""
    if "accuracy" in history.metrics:
        accuracy = f"; training accuracy {100 * history.recent(metric='accuracy'):.1f} %"
    print(f"\n{verdict}: {figures}; {history.updates:,} updates in {seconds:.1f} s{accuracy}")
    print(f"\n{history.chart(title=f'training loss, {unit}')}", flush=True)
    return 130 if history.interrupted else 0 if solved else 1
