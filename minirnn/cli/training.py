"""What the commands that train have in common: options, the settings of `fit`, and how a training ends.

Checked by tests/cli/test_train.py.
"""

import argparse
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

from minirnn import optim
from minirnn.checkpoints import CheckpointDirectory
from minirnn.cli.options import whole_number
from minirnn.history import History
from minirnn.recurrent import BACKENDS, SequenceModel
from minirnn.training import Checkpointing

OPTIMIZERS: dict[str, Callable[..., optim.Optimizer]] = {"sgd": optim.SGD, "rmsprop": optim.RMSprop, "adam": optim.Adam}
ABOUT = "Learn to {description}. Solved: {rule}. Source: {source}."
HELD_OUT = "held-out"
"""The evaluations' name in the History."""

_size, _count = whole_number(1), whole_number(0)


def add_settings(parser: argparse.ArgumentParser, task: Any, *, falls: str = "") -> None:
    """Add what the tasks share, with one task's defaults."""
    add, default, usual = parser.add_argument, "default: %(default)s", task.defaults
    add("--backend", choices=BACKENDS, default="fused", help=f"the numbers are the same; {default}")
    add("--optimizer", choices=tuple(OPTIMIZERS), default="adam", help=default)
    add("--lr", type=_positive, default=usual.lr, metavar="RATE", help=f"learning rate{falls}; {default}")
    add("--clip", type=_positive, default=usual.clip, metavar="NORM", help=f"largest gradient norm, or inf; {default}")
    add("--max-updates", type=_size, default=usual.max_updates, metavar="K", help=f"updates to make at most; {default}")
    # One: the products of a step are mostly too small to share, and the numbers are the same on every machine.
    add("--threads", type=_size, default=1, metavar="K", help=f"threads that the layer and BLAS may use; {default}")
    add("--seed", type=_count, default=0, help=f"the same seed and threads give the same numbers; {default}")
    add("--no-progress", action="store_true", help="no bar (there is none either when stderr is not a terminal)")
    about = "save there every so often, in the end, and when Ctrl-C or SIGTERM ends the run"
    add("--checkpoint", type=Path, metavar="DIR", help=about)
    add("--checkpoint-every", type=_size, default=500, metavar="K", help=f"updates between two checkpoints; {default}")
    add("--resume", action="store_true", help="go on from the newest checkpoint in --checkpoint, with the same options")


def _positive(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not number > 0:
        raise argparse.ArgumentTypeError(f"expected a positive number, got {text!r}")
    return number


def settings_of(arguments: argparse.Namespace, model: SequenceModel) -> dict[str, Any]:
    """Return those arguments of `fit` that are the same for all tasks."""
    return {
        "optimizer": OPTIMIZERS[arguments.optimizer](model.parameters(), arguments.lr),
        "max_updates": arguments.max_updates,
        "clip_norm": arguments.clip,
        "progress": False if arguments.no_progress else None,
        "checkpoint": _checkpointing(arguments),
    }


_FREE = {"run", "task", "no_progress", "max_updates", "sample", "evaluate_every"}
_FREE |= {"checkpoint", "checkpoint_every", "resume"}
"""What may differ when a run is resumed, and what is no option."""


def _checkpointing(arguments: argparse.Namespace) -> Checkpointing | None:
    """Return where to save, when a resumed run has been found to be the same one."""
    if arguments.checkpoint is None:
        if arguments.resume:
            raise ValueError("--resume: expected --checkpoint DIR with it, which says where to go on from, got none")
        return None
    options = {name: value for name, value in vars(arguments).items() if name not in _FREE}
    settings = {"task": str(arguments.task.name), **options}
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
            option = "--steps-in-time" if name == "task_T" else "--" + name.removeprefix("task_").replace("_", "-")
            raise ValueError(
                f"--resume: expected {option} {then} as the run in {str(arguments.checkpoint)!r} was begun with, got "
                f"{now}: give it the same options, or choose another directory"
            )
    return Checkpointing(arguments.checkpoint, arguments.checkpoint_every, arguments.resume, settings=settings)


def ending(history: History, solved: bool, figures: str, unit: str) -> int:
    """Print the verdict and the loss curve; return the exit status."""
    verdict = "interrupted" if history.interrupted else "solved" if solved else "not solved"
    seconds = history.seconds[-1] if history.updates else 0.0
    print(f"\n{verdict}: {figures}; {history.updates:,} updates in {seconds:.1f} s")
    print(f"\n{history.chart(title=f'training loss, {unit}')}", flush=True)
    return 130 if history.interrupted else 0 if solved else 1
