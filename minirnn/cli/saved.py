"""A model that was saved by ``minirnn train``: read, checked, and built again.

A file says how a model is built, and is believed in nothing: its settings go through the parser of ``minirnn train``,
which knows the tasks, the cells and all other names, and refuses the rest; its sizes must be those of its weights.
"""

import argparse
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from minirnn.checkpoints import Checkpoint, CheckpointDirectory, CheckpointError, load_checkpoint
from minirnn.cli import train
from minirnn.cli.options import Options, Parser, build_model, built_task, number
from minirnn.cli.train import FREE, TEXT, counted, mark_of, option_of
from minirnn.layers import SequenceModel
from minirnn.storage import read
from minirnn.tasks import TASKS, TextTask
from minirnn.training.history import History
from minirnn.training.saving import history_of

SAVED: Options = {
    "path": {
        "type": Path,
        "metavar": "PATH",
        "help": "what minirnn train --save wrote, a checkpoint, or a directory of checkpoints, of which the newest is "
        "taken",
    },
    "--file": {"metavar": "PATH", "help": "where the text is now that a model of text was trained on"},
}
"""Of the commands that read a saved model."""
STEPS: Options = {"--steps-in-time": number("T", "length T of the sequences; default: that of its training")}
"""Of those that can use another length."""
_SAVE = "minirnn train … --save PATH"
# Which of the weights has the size that an option says, and on which axis.
_SIZES = (("hidden", "recurrent.W_hh", 0), ("hidden", "head.weight", 0), ("embedding", "embedding.weight", 1))


class Saved(NamedTuple):
    """A saved model: its file, its task, itself with the weights that were saved, and the history of its training."""

    checkpoint: Checkpoint
    arguments: argparse.Namespace  # those of the ``minirnn train`` that saved it
    task: Any
    model: SequenceModel
    history: History

    @property
    def after(self) -> str:
        """How far it was trained, in words."""
        return f"after {counted(self.history.updates, 'update')}"


def load(path: Path, *, file: str | None = None, T: int | None = None) -> Saved:
    """Read a saved model, and build it and its task again.

    Parameters
    ----------
    path : path
        Of a checkpoint, or of a directory of checkpoints, whose newest is taken.
    file : str, optional
        Where the text is that a model of text was trained on, if it has moved.
    T : int, optional
        Another length of the task's sequences than the model was trained with; of a text, of what is read at once.

    Raises
    ------
    CheckpointError
        For weights alone, for a checkpoint that ``minirnn train`` did not save, for settings that are not possible or
        not those of the weights, for another text, and as `load_checkpoint`. Nothing in a file is ever run.
    ValueError
        For ``file`` or ``T`` where the task has none.
    OSError
        When the file, or the text, is not there.
    ImportError
        When the task's data are part of a package that is not installed.
    """
    checkpoint = _read(path)
    with _building(checkpoint):
        arguments = _arguments(checkpoint.settings)
        _check_sizes(checkpoint, arguments)
        if "history" not in checkpoint.extra:
            raise ValueError(f"it lacks the history of its training: save a model by {_SAVE}")
    _change(arguments, file, T)
    with _building(checkpoint):
        task = _task(checkpoint, arguments)
        model = build_model(arguments, task, np.random.default_rng(0))  # what is drawn is overwritten
        model.load_state_dict(checkpoint.parameters)
        return Saved(checkpoint, arguments, task, model, history_of(checkpoint))


def _read(path: Path) -> Checkpoint:
    if path.is_dir():
        latest = CheckpointDirectory(path).latest()
        if latest is None:
            raise CheckpointError(
                f"{str(path)!r} is a directory without checkpoints: give the file of one, or the directory that was "
                "given to minirnn train … --checkpoint"
            )
        return latest
    if read(path, "load_checkpoint").kind == "weights":
        raise CheckpointError(
            f"{str(path)!r} holds weights alone, and not what they are the weights of: save a model by {_SAVE}; in "
            "Python model.load(path) takes these"
        )
    return load_checkpoint(path)


@contextmanager
def _building(checkpoint: Checkpoint) -> Iterator[None]:
    """Say of an error which file it is about."""
    try:
        yield
    except ValueError as error:
        raise CheckpointError(f"{str(checkpoint.path)!r} cannot be built again: {error}") from error


# --- settings ---------------------------------------------------------------------------------------------------------


def _arguments(settings: Mapping[str, Any]) -> argparse.Namespace:
    """Return the arguments of the ``minirnn train`` that the settings are those of."""
    name = settings.get("task")
    if name is None:
        raise ValueError(f"it does not say of which task it is, as one of minirnn train does: save a model by {_SAVE}")
    if not isinstance(name, str) or name not in TASKS:
        raise ValueError(f"its task {name!r} is none: minirnn tasks lists those there are")
    parser = Parser(prog="minirnn")
    train.add_command(parser.add_subparsers())
    known = vars(parser.parse_args(["train", name])).keys() - FREE
    given = settings.keys() - FREE - {TEXT}
    if faults := [f"unexpected: {n!r}" for n in sorted(given - known)] + [f"missing: {n!r}" for n in known - given]:
        raise ValueError(f"its settings must be those that minirnn train saves of {name}: {', '.join(sorted(faults))}")
    words = [f"{option_of(n)}={settings[n]}" for n in sorted(given) if settings[n] is not None]
    return parser.parse_args(["train", name, *words])


def _check_sizes(checkpoint: Checkpoint, arguments: argparse.Namespace) -> None:
    """Refuse sizes that are not those of the weights, before memory is taken for them."""
    for name, weight, axis in _SIZES:
        size, found = getattr(arguments, name, None), checkpoint.parameters.get(weight)
        if size is not None and (found is None or found.ndim != 2 or found.shape[axis] != size):
            shape = "missing" if found is None else f"of shape {found.shape}"
            raise ValueError(f"it is set to {option_of(name)} {size}, and its {weight} is {shape}")


def _change(arguments: argparse.Namespace, file: str | None, T: int | None) -> None:
    """Put in what the command that reads the model says otherwise."""
    name, known = arguments.task.name, vars(arguments)
    if file is not None:
        if "file" not in known:
            raise ValueError(f"--file: expected a model of text with it, got one of {name}: leave it out")
        arguments.file = file
    if T is not None and "task_T" in known:
        arguments.task_T = T
        built_task(arguments)  # which may refuse it, and that is no fault of the file
    elif T is not None and "chunk" in known:
        arguments.chunk = T
    elif T is not None:
        raise ValueError(f"--steps-in-time: expected a task of sequences of any length T with it, got {name}")


# --- task and history -------------------------------------------------------------------------------------------------


def _task(checkpoint: Checkpoint, arguments: argparse.Namespace) -> Any:
    """Build the task; a text must have the characters that the model knows."""
    if not hasattr(arguments, "file"):
        return built_task(arguments)
    vocabulary = (checkpoint.settings.get(TEXT) or {}).get("vocabulary")
    if vocabulary is None:
        raise ValueError(
            "it does not say which characters it knows, as an earlier minirnn saved it: go on with its run by "
            "--checkpoint DIR --resume --save PATH"
        )
    if arguments.file is not None and not Path(arguments.file).is_file():
        raise FileNotFoundError(
            f"{str(checkpoint.path)!r} was trained on the text {arguments.file!r}, which is not there: say where it is "
            "by --file PATH"
        )
    task = built_task(arguments)
    if vocabulary != task.vocabulary:
        then, now = set(vocabulary), set(task.vocabulary)
        text = "the default text" if arguments.file is None else repr(arguments.file)
        differing = [f"{_some(a)} {where}" for a, where in ((then - now, "gone"), (now - then, "new")) if a]
        raise ValueError(
            f"it was trained on a text of {len(then)} different characters, and {text} has {len(now)}: "
            f"{', '.join(differing)}. Say by --file PATH where the text is that it was trained on"
        )
    return task


def _some(characters: set[str], most: int = 10) -> str:
    return repr("".join(sorted(characters)[:most])) + ("…" if len(characters) > most else "")


def is_its_text(saved: Saved) -> bool:
    """Whether a model of text was trained on just the text that its task has now."""
    return not isinstance(saved.task, TextTask) or mark_of(saved.task) == saved.checkpoint.settings[TEXT]
