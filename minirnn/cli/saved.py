"""``minirnn eval PATH`` and ``minirnn sample PATH``: a model that ``minirnn train`` saved, read, checked, built again.

A file says how a model is built, and is believed in nothing: its sizes must be those of its weights, and layer and task
refuse any other setting that they do not know. Nothing in a file is ever run.
"""

import argparse
import json
import math
import textwrap
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from minirnn.checkpoints import Checkpoint, CheckpointDirectory, CheckpointError
from minirnn.checkpoints.checkpoint import checkpoint_of
from minirnn.cli.learning import SEQUENCES
from minirnn.cli.options import (
    AS_JSON,
    COLUMNS,
    DEFAULT,
    Options,
    add_parser,
    at_least_0,
    build_model,
    built_task,
    expanded,
    line_on,
    number,
)
from minirnn.cli.train import (
    SERIES,
    TEMPERATURE,
    TEXT,
    counted,
    mark_of,
    option_of,
    shown,
    verdict_on,
)
from minirnn.layers import SequenceModel
from minirnn.layers.threads import set_num_threads
from minirnn.storage import read
from minirnn.tasks import TASKS, SeriesTask, Task, TextTask
from minirnn.tasks.text import read_text
from minirnn.training import History, accuracy, bits_per_character, sample
from minirnn.training.evaluation import predicted
from minirnn.training.saving import history_of

SAVED: Options = {
    "path": {
        "type": expanded,
        "metavar": "PATH",
        "help": "what minirnn train --save wrote, a checkpoint, or a directory of checkpoints, of which the newest is "
        "taken",
    },
    "--file": {"metavar": "PATH", "help": "where the text or CSV file is now that the model was trained on"},
    "--encoding": {"metavar": "NAME", "help": "of that file; default: that of its training"},
}
"""Of the commands that read a saved model."""
STEPS: Options = {"--steps-in-time": number("T", "length T of the sequences; default: that of its training")}
"""Of those that can use another length."""
_SAVE = "minirnn train … --save PATH"
_SETTINGS = {"hidden", "batch", "cell", "init", "activation", "backend", "seed", "threads"}
# Which of the weights has the size that an option says, and on which axis.
_SIZES = (("hidden", "recurrent.W_hh", 0), ("hidden", "head.weight", 0), ("embedding", "embedding.weight", 1))


# --- the command line -------------------------------------------------------------------------------------------------


def add_command(commands: Any) -> None:
    """Add ``eval`` and ``sample`` to the command line."""
    options = {
        "--sequences": number("N", f"how many to measure it on; default: {SEQUENCES}"),
        "--seed": number(None, "of the held-out data; default: that of its training", minimum=0),
        "--json": AS_JSON,
    }
    add_parser(
        commands,
        "eval",
        run,
        SAVED | STEPS | options,
        help="measure a saved model",
        description="Measure a saved model on held-out data: the figure that minirnn train printed at the end, unless "
        "told otherwise. Exit status: 0 solved, 1 not solved, 2 an error.",
        epilog="example: minirnn eval model.npz --steps-in-time 100, of a model that was trained with 50",
    )
    options = {
        "--length": number("L", "characters to write", 400),
        "--temperature": {
            "type": at_least_0,
            "default": TEMPERATURE,
            "metavar": "X",
            "help": f"below 1 the likely characters become likelier still, at 0 the likeliest is taken; {DEFAULT}",
        },
        "--top-k": number("K", "draw from the K likeliest characters only; default: from all"),
        "--prompt": {"default": "", "metavar": "TEXT", "help": "what the model reads first, and goes on from"},
        "--prompt-file": {
            "metavar": "PATH",
            "help": "a file with it, but for its last line end",
        },
        "--seed": number(None, "of what is drawn; default: that of its training", minimum=0),
    }
    add_parser(
        commands,
        "sample",
        run_sample,
        SAVED | options,
        help="let a saved model write text",
        description="Let a saved model of text write: the sample of minirnn train text, unless told otherwise.",
        epilog="example: minirnn sample model.npz --prompt 'The ' --temperature 0.5",
    )


# --- a saved model ----------------------------------------------------------------------------------------------------


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


def load(
    path: Path,
    *,
    file: str | None = None,
    encoding: str | None = None,
    T: int | None = None,
    text: bool = True,
    only: type[Task] | None = None,
    caller: str = "",
) -> Saved:
    """Read a saved model, or the newest checkpoint of a directory, and build it and its task again.

    ``file`` says where the text or series is that the model was trained on, if it has moved, and ``encoding`` how it is
    written; without ``text`` no text is read, and its task knows the vocabulary alone. ``T`` is another length of the
    task's sequences than the model was trained with, of a text of what is read at once. ``caller`` takes ``only`` the
    models of one task. CheckpointError for a file that ``minirnn train`` did not save, for settings that are not
    possible, and for another text; ValueError for ``file``, ``encoding`` or ``T`` where the task has none.
    """
    checkpoint = _read(path)
    with _building(checkpoint):
        arguments = _arguments(checkpoint.settings)
        _check_sizes(checkpoint, arguments)
        if "history" not in (checkpoint.extra or ()):
            raise ValueError(f"it lacks the history of its training: save a model by {_SAVE}")
    if only is not None and arguments.task is not only:
        raise ValueError(
            f"{caller}: expected a model of {only.name}, got one of {arguments.task.name} in {str(checkpoint.path)!r}: "
            "minirnn eval measures it"
        )
    _change(arguments, {"file": file, "encoding": encoding}, T)
    its = getattr(arguments, "file", None)
    if its is not None and file is None and text and not expanded(its).exists():
        raise FileNotFoundError(
            f"{str(checkpoint.path)!r} was trained on the {'text' if arguments.task is TextTask else 'file'} {its!r}, "
            "which is not there: say where it is by --file PATH"
        )
    if (T is not None and arguments.task is not TextTask) or (file is not None and arguments.task is SeriesTask):
        built_task(arguments)  # which may refuse it, and that is no fault of the model's file
    with _building(checkpoint):
        task = _task(checkpoint, arguments, text)
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
    if (contents := read(path, "load_checkpoint")).kind == "weights":  # once: it may be a pipe
        raise CheckpointError(
            f"{str(path)!r} holds weights alone, and not what they are the weights of: save a model by {_SAVE}; in "
            "Python model.load(path) takes these"
        )
    return checkpoint_of(contents)


@contextmanager
def _building(checkpoint: Checkpoint) -> Iterator[None]:
    """Say of an error which file it is about."""
    try:
        yield
    except (ValueError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{str(checkpoint.path)!r} cannot be built again: {error}") from error


# --- settings ---------------------------------------------------------------------------------------------------------


def _arguments(settings: Mapping[str, Any]) -> argparse.Namespace:
    """Return the arguments of the ``minirnn train`` that the settings are those of."""
    name = settings.get("task")
    if name is None:
        raise ValueError(f"it does not say of which task it is, as one of minirnn train does: save a model by {_SAVE}")
    if not isinstance(name, str) or name not in TASKS:
        raise ValueError(f"its task {name!r} is none: minirnn tasks lists those there are")
    if missing := _SETTINGS - settings.keys():
        raise ValueError(f"its settings lack {', '.join(sorted(missing))}, which minirnn train saves of every task")
    mark = settings.get(SERIES)
    if name == SERIES and not (isinstance(mark, dict) and {"columns", "mean", "std", "sha256"} <= mark.keys()):
        raise ValueError(f"it does not say which columns of a series it knows, in which units: save a model by {_SAVE}")
    return argparse.Namespace(**{**settings, "task": TASKS[name]})


def _check_sizes(checkpoint: Checkpoint, arguments: argparse.Namespace) -> None:
    """Refuse sizes that are not those of the weights, before memory is taken for them."""
    for name, weight, axis in _SIZES:
        size, found = getattr(arguments, name, None), checkpoint.parameters.get(weight)
        if size is not None and (found is None or found.ndim != 2 or found.shape[axis] != size):
            shape = "missing" if found is None else f"of shape {found.shape}"
            raise ValueError(f"it is set to {option_of(name)} {size}, and its {weight} is {shape}")


def _change(arguments: argparse.Namespace, of_text: dict[str, str | None], T: int | None) -> None:
    """Put in what the command that reads the model says otherwise."""
    name, known = arguments.task.name, vars(arguments)
    for option in (option for option, value in of_text.items() if value is not None):
        if "file" not in known:
            raise ValueError(f"--{option}: expected a model of text or csv with it, got one of {name}: leave it out")
        known[option] = of_text[option]
    if T is not None and not {"task_T", "chunk"} & known.keys():
        raise ValueError(f"--steps-in-time: expected a task of sequences of any length T with it, got {name}")
    if T is not None:
        known["task_T" if "task_T" in known else "chunk"] = T


# --- task and history -------------------------------------------------------------------------------------------------


def _task(checkpoint: Checkpoint, arguments: argparse.Namespace, text: bool) -> Any:
    """Build the task; a text must have the characters that the model knows."""
    if arguments.task is not TextTask:
        return built_task(arguments)
    vocabulary = (checkpoint.settings.get(TEXT) or {}).get("vocabulary")
    if vocabulary is None:
        raise ValueError(
            "it does not say which characters it knows, as an earlier minirnn saved it: go on with its run by "
            "--checkpoint DIR --resume --save PATH"
        )
    if not text:
        return TextTask(vocabulary=vocabulary)
    task = built_task(arguments)
    if vocabulary != task.vocabulary:
        then, now = set(vocabulary), set(task.vocabulary)
        where = "the default text" if arguments.file is None else repr(arguments.file)
        some = {"gone": sorted(then - now)[:10], "new": sorted(now - then)[:10]}
        differing = [f"{''.join(characters)!r} {where}" for where, characters in some.items() if characters]
        raise ValueError(
            f"it was trained on a text of {len(then)} different characters, and {where} has {len(now)}: "
            f"{', '.join(differing)}. Say by --file PATH where the text is that it was trained on"
            + ", and by --encoding NAME in what it is"
            * bool(getattr(arguments, "encoding", None))
        )
    return task


# --- eval -------------------------------------------------------------------------------------------------------------


def run(arguments: argparse.Namespace) -> int:
    """Measure and print; return 0 if the task is solved, else 1."""
    saved = load(arguments.path, file=arguments.file, encoding=arguments.encoding, T=arguments.steps_in_time)
    set_num_threads(saved.arguments.threads)  # another number would change the last digits
    measured = _on_text(saved, arguments) if isinstance(saved.task, TextTask) else _on_sequences(saved, arguments)
    solved = saved.task.solved(measured["figure"])
    print(_json(saved, measured, solved) if arguments.json else _text(saved, measured, solved))
    return 0 if solved else 1


def _on_text(saved: Saved, arguments: argparse.Namespace) -> dict[str, Any]:
    for name in ("sequences", "seed", "steps_in_time"):
        if getattr(arguments, name) is not None:
            raise ValueError(
                f"{option_of(name)}: expected a task of sequences with it, got text, whose held-out part is read "
                "whole: leave it out"
            )
    return {
        "figure": bits_per_character(saved.model, saved.task),
        "unigram": saved.task.unigram_bits,
        "same_text": mark_of(saved.task)["sha256"] == saved.checkpoint.settings[TEXT]["sha256"],
    }


def _on_sequences(saved: Saved, arguments: argparse.Namespace) -> dict[str, Any]:
    task, seed = saved.task, saved.arguments.seed if arguments.seed is None else arguments.seed
    held_out = task.evaluation_batch(arguments.sequences or SEQUENCES, seed)
    predictions, piece = predicted(saved.model, held_out, "eval")
    measured = {
        "sequences": len(held_out[0][0]),
        "seed": seed,
        "figure": task.figure(predictions, piece.y, **piece.mask),
    }
    if isinstance(task, SeriesTask):
        measured["same_series"] = same_series(saved)
    if task.kind == "classification":
        measured["accuracy"] = accuracy(predictions, piece.y, **piece.mask)
    return measured


def same_series(saved: Saved) -> bool:
    """Whether a series is, value for value, the one that the model was trained on."""
    return bool(saved.task.sha256 == saved.checkpoint.settings[SERIES]["sha256"])


def _json(saved: Saved, measured: dict[str, Any], solved: bool) -> str:
    task = saved.task
    head = {
        "path": str(saved.checkpoint.path),
        "task": task.name,
        "T": getattr(task, "T", None),
        "layer": repr(saved.model.recurrent),
        "parameters": saved.model.count_params(),
        "updates": saved.history.updates,
        "metric": task.metric,
        "baseline": task.baseline,
        "rule": task.rule,
    }
    plain = {n: None if isinstance(v, float) and not math.isfinite(v) else v for n, v in measured.items()}
    return json.dumps(head | plain | {"solved": solved}, indent=1, ensure_ascii=False, allow_nan=False)


def _text(saved: Saved, measured: dict[str, Any], solved: bool) -> str:
    task, verdict = saved.task, "solved" if solved else "not solved"
    T, then = getattr(task, "T", None), saved.checkpoint.settings.get("task_T")
    length = "" if T is None else f", T = {T}" if then in (None, T) else f", T = {T} (trained with {then})"
    on = f"; {counted(measured['sequences'], 'sequence')}, seed {measured['seed']}" if "sequences" in measured else ""
    other = "note: this is not the text that it was trained on, though its characters are the same"
    changed = "note: this is not the series that it was trained on; it is measured in the units of its training"
    parts = [
        f"{task.name}{length}: {task.description}",
        f"{line_on(saved.arguments, saved.model)}, {saved.after}",
        "",
        f"{verdict}: {verdict_on(task, measured['figure'])}{on}",
        *([f"accuracy: {measured['accuracy']:.4f} of the targets right"] if "accuracy" in measured else []),
        f"to be solved: {task.rule}",
        *([] if measured.get("same_text", True) else [other]),
        *([] if measured.get("same_series", True) else [changed]),
    ]
    return "\n".join(textwrap.fill(part, COLUMNS, subsequent_indent="  ") for part in parts)


# --- sample -----------------------------------------------------------------------------------------------------------


def run_sample(arguments: argparse.Namespace) -> int:
    """Print what the model writes; return 0."""
    file, encoding, prompt = arguments.file, arguments.encoding, arguments.prompt
    saved = load(arguments.path, file=file, encoding=encoding, text=file is not None, only=TextTask, caller="sample")
    if arguments.prompt_file is not None:
        if prompt:
            raise ValueError("--prompt-file: expected no --prompt with it, got both: leave one of them out")
        prompt = read_text(arguments.prompt_file, encoding or "utf-8", "--prompt-file").removesuffix("\n")
    set_num_threads(saved.arguments.threads)
    seed = saved.arguments.seed if arguments.seed is None else arguments.seed
    _, _, rng = np.random.default_rng(seed).spawn(3)  # as ``minirnn train text`` does
    temperature, top_k = arguments.temperature, arguments.top_k
    first = "" if "\n" in saved.task.vocabulary else saved.checkpoint.settings[TEXT].get("first", "")
    how = {"rng": rng, "temperature": temperature, "top_k": top_k, "prompt": prompt or first}
    written = sample(saved.model, saved.task, arguments.length, **how)
    model = textwrap.fill(f"text: {line_on(saved.arguments, saved.model)}, {saved.after}", COLUMNS)
    drawn = f"temperature {temperature:g}" + (f", from the {top_k} likeliest" if top_k else "")
    print(f"{model}\n\na sample, at {drawn}:\n\n{shown(prompt + written)}")
    return 0
