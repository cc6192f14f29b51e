"""``minirnn train TASK``: learn a task while one watches, and say whether it is solved."""

import argparse
import hashlib
import math
import sys
import textwrap
from typing import Any

import numpy as np

from minirnn.checkpoints import CheckpointDirectory, save_checkpoint
from minirnn.cli import learning
from minirnn.cli.learning import CHECKPOINT_EVERY, SEQUENCES
from minirnn.cli.options import (
    NO_PROGRESS,
    Options,
    add_task,
    build_model,
    built_task,
    check_writable,
    expanded,
    line_on,
    number,
)
from minirnn.layers import SequenceModel
from minirnn.layers.threads import set_num_threads
from minirnn.tasks import TASKS, SeriesTask, Task, TextTask
from minirnn.training import Checkpointing, History, fit, sample
from minirnn.training.saving import Position, describe_training, history_of
from minirnn.training.sources import HELD_OUT

TEMPERATURE = 0.7
"""Of a sample: a little bolder than what was learnt."""

_ABOUT = "Learn to {task.description}. Solved: {task.rule}. Source: {task.source}."
_HEADER = "updates  seconds  training  held-out  bits per character"

# --- the command line -------------------------------------------------------------------------------------------------


def add_command(commands: Any) -> None:
    """Add ``train`` and its tasks to the command line."""
    parser = commands.add_parser(
        "train",
        help="train a recurrent layer on a task",
        description="Train a recurrent layer on a task. Exit status: 0 solved, 1 not solved, 2 an error, 130 "
        "interrupted, 143 ended by SIGTERM.",
        epilog="minirnn tasks lists the tasks, with what counts as solved",
    )
    tasks = parser.add_subparsers(metavar="TASK", required=True)
    for task in TASKS.values():
        add_task(tasks, task, run, _ABOUT, learning.LENGTH, _options(task))


def _options(task: type[Task]) -> Options:
    options: Options = {
        **learning.options(task),
        # One: the products of a step are mostly too small to share, and the numbers are the same on every machine.
        "--threads": number("K", "threads that the layer and BLAS may use", 1),
        "--seed": number(None, "the same seed and threads give the same numbers", 0, minimum=0),
        "--no-progress": NO_PROGRESS,
        "--checkpoint": {
            "type": expanded,
            "metavar": "DIR",
            "help": "save there every so often, in the end, and when Ctrl-C or SIGTERM ends the run",
        },
        "--checkpoint-every": CHECKPOINT_EVERY,
        "--keep": number("K", "how many checkpoints are kept, beside the best", 3),
        "--save": {
            "type": expanded,
            "metavar": "PATH",
            "help": "save the model there in the end, solved or not: for minirnn eval, sample and inspect",
        },
        "--resume": {
            "action": "store_true",
            "help": "go on from the newest checkpoint in --checkpoint, with the same options",
        },
    }
    if task is TextTask:
        options["--sample"] = number("L", "characters to write at the end", 400, minimum=0)
    return options


# --- the command ------------------------------------------------------------------------------------------------------


def run(arguments: argparse.Namespace) -> int:
    """Train on a task, and say whether held-out data are solved; return the exit status."""
    set_num_threads(arguments.threads)
    task = built_task(arguments)
    for_model, for_data, for_sample = np.random.default_rng(arguments.seed).spawn(3)
    model = build_model(arguments, task, for_model)
    check_writable("--save", arguments.save)
    if isinstance(task, TextTask):
        arguments.schedule = arguments.max_updates  # unless a run is resumed, which has its own
    settings = {
        **learning.settings_of(arguments, model),
        "progress": False if arguments.no_progress else None,
        "checkpoint": _checkpointing(arguments, task),
    }
    if not isinstance(task, TextTask):
        held_out = task.evaluation_batch(SEQUENCES, arguments.seed)
        history = _train_on_sequences(arguments, task, model, for_data, held_out, settings)
        _save_model(arguments, task, model, settings["optimizer"], history)
        figure = learning.measure(model, task, held_out)
        unit = "nats per target" if task.kind == "classification" else "squared error"
        return _ending(history, task.solved(figure), verdict_on(task, figure), unit)
    history = _train_on_text(arguments, task, model, for_data, settings)
    _save_model(arguments, task, model, settings["optimizer"], history)
    text_solved, bits = learning.last_figure(task, history)
    status = _ending(history, text_solved, _said(task, history, bits), "nats (1.44 bits) per character")
    if arguments.sample:
        written = sample(model, task, arguments.sample, rng=for_sample, temperature=TEMPERATURE)
        print(f"\na sample, at temperature {TEMPERATURE}:\n\n{shown(written)}")
    return status


def _train_on_sequences(
    arguments: argparse.Namespace, task: Any, model: SequenceModel, rng: Any, held_out: Any, settings: dict[str, Any]
) -> History:
    """Train until the held-out batch is solved."""
    T = f", T = {task.T}" if hasattr(task, "T") else ""
    print(f"{task.name}{T}: {task.description}")
    print(f"to be solved: {task.rule}\nmodel: {line_on(arguments, model)}", flush=True)
    history = learning.on_sequences(arguments, task, model, rng, held_out, settings, fit)
    if history.restored is not None:
        print(f"\nkept: the weights of update {history.restored:,}, the best on held-out data", flush=True)
    return history


def _train_on_text(
    arguments: argparse.Namespace, task: TextTask, model: SequenceModel, rng: Any, settings: dict[str, Any]
) -> History:
    """Train for a number of updates, with a line of bits per character now and then and at the end."""
    streams = task.streams(arguments.batch, arguments.chunk, rng)
    sizes = f"{task.train_ids.size:,} characters to train on and {task.held_out_ids.size:,} held out"
    print(f"text: {task.description}\n{sizes}, {task.input_size} different")
    print(f"to be solved: {task.rule}\nmodel: {line_on(arguments, model)}\n")
    print(f"{_HEADER}; {_baselines(task)}", flush=True)
    return learning.on_text(arguments, task, model, streams, settings, fit, _print_row)


# --- what is saved ----------------------------------------------------------------------------------------------------

FREE = {
    *("version", "run", "task", "no_progress", "max_updates", "sample", "evaluate_every"),
    *("checkpoint", "checkpoint_every", "keep", "resume", "save"),
}
"""What may differ when a run is resumed, and what is no option; it is not saved."""
TEXT, SERIES = "text", "csv"
"""The settings that say which text or series was read, by the names of their tasks."""


PLACES = {"file", "encoding", "schedule"}
"""What may differ too, and is saved: where the text is, and the updates in which the learning rate falls to 0."""


def _saved_settings(arguments: argparse.Namespace, task: Task) -> dict[str, Any]:
    """Gather the settings that are saved with the weights: minirnn.cli.saved builds task and model by them."""
    options = {name: value for name, value in vars(arguments).items() if name not in FREE}
    return {"task": task.name, **options, **({task.name: mark_of(task)} if task.name in (TEXT, SERIES) else {})}


def mark_of(task: Any) -> dict[str, Any]:
    """Describe what was read: a series by its columns and units, and a digest of all its values.

    A text by its characters, whose places are the model's ids, a digest of all of it, and how it begins.
    """
    if isinstance(task, SeriesTask):
        units = {"mean": task.mean.tolist(), "std": task.std.tolist()}
        return {"columns": [*task.columns], **units, "sha256": task.sha256}
    text = task.decode(np.concatenate([task.train_ids, task.held_out_ids]))
    return {"vocabulary": task.vocabulary, "sha256": hashlib.sha256(text.encode()).hexdigest(), "first": text[0]}


def option_of(name: str) -> str:
    """Return the option that sets an argument."""
    return "--steps-in-time" if name == "task_T" else "--" + name.removeprefix("task_").replace("_", "-")


def _plain(value: Any) -> Any:
    """Write several values of an option side by side."""
    return ", ".join(value) if isinstance(value, list) else value


def _save_model(
    arguments: argparse.Namespace, task: Task, model: SequenceModel, optimizer: Any, history: History
) -> None:
    """Save what was learnt where ``--save`` says, and say so; before the first update there is nothing to save."""
    if arguments.save is None:
        return
    if not history.updates:
        print(f"\nnot saved, because no update was made: {arguments.save}", flush=True)
        return
    settings = _saved_settings(arguments, task)
    more = describe_training(history, Position(history.updates))  # a batch is an update here
    save_checkpoint(arguments.save, model=model, optimizer=optimizer, settings=settings, **more)
    print(f"\nsaved after {counted(history.updates, 'update')}: {arguments.save}", flush=True)


def _checkpointing(arguments: argparse.Namespace, task: Task) -> Checkpointing | None:
    """Return where to save, when a resumed run has been found to be the same one."""
    if arguments.checkpoint is None:
        if arguments.resume:
            raise ValueError("--resume: expected --checkpoint DIR with it, which says where to go on from, got none")
        return None
    settings, there = _saved_settings(arguments, task), repr(str(arguments.checkpoint))
    latest = CheckpointDirectory(arguments.checkpoint).latest()
    if latest is not None and not arguments.resume:
        raise ValueError(
            f"--checkpoint: expected a directory without a run, got {there}, which holds one: go on with it by "
            "--resume, or choose another"
        )
    begun = latest.settings if latest else {}
    for name, then in begun.items():
        now = settings.get(name)
        if name in PLACES or then == now or (name in (TEXT, SERIES) and now and then["sha256"] == now["sha256"]):
            continue
        same = {TEXT: "the same text", SERIES: "the same series"}.get(name)
        expected, got = (same, "another") if same else (f"{option_of(name)} {_plain(then)}", _plain(now))
        raise ValueError(
            f"--resume: expected {expected} as the run in {there} was begun with, got {got}: give it the same "
            "options, or choose another directory"
        )
    if arguments.max_updates > (last := begun.get("schedule", math.inf)):
        raise ValueError(
            f"--resume: expected --max-updates {last} at most, by which the learning rate of the run in {there} has "
            f"fallen to 0, got {arguments.max_updates}: begin a longer run in another directory"
        )
    if "schedule" in begun:
        settings["schedule"] = arguments.schedule = last
    if latest:
        made = counted(history_of(latest).updates, "update")
        print(f"going on after {made}, from {str(latest.path)!r}\n", flush=True)
    elif arguments.resume:
        print(f"--resume: there is no checkpoint in {there}, so a new run begins\n", flush=True)
    return Checkpointing(
        arguments.checkpoint, arguments.checkpoint_every, arguments.resume, keep=arguments.keep, settings=settings
    )


# --- what is printed --------------------------------------------------------------------------------------------------


def counted(number: int, thing: str) -> str:
    """Write "1 update", "2,000 updates"."""
    return f"{number:,} {thing}{'s' * (number != 1)}"


def verdict_on(task: Task, figure: float) -> str:
    """Write the figure of held-out data and what it is held against."""
    if isinstance(task, TextTask):
        return f"held-out {task.metric} {figure:.3f}, {_baselines(task)}"
    return f"held-out {task.metric} {figure:.4f}, baseline {task.baseline:.4f}"


def _baselines(task: TextTask) -> str:
    """Write the two figures of a text that counts alone reach."""
    return f"bigram {task.bigram_bits:.2f}, unigram {task.unigram_bits:.2f}"


def _said(task: TextTask, history: History, bits: float | None) -> str:
    """Say how far a text was learnt when it was last measured."""
    if bits is None:
        return f"held-out {task.metric} not measured yet, {_baselines(task)}"
    update = history.evaluations[HELD_OUT][-1].update
    after = f" after update {update:,}" if update < history.updates else ""
    return f"held-out {task.metric} {bits:.3f}{after}, {_baselines(task)}"


def _ending(history: History, solved: bool, figures: str, unit: str) -> int:
    """Print the verdict and the loss curve; return the exit status."""
    verdict = "interrupted" if history.interrupted else "solved" if solved else "not solved"
    seconds = history.seconds[-1] if history.updates else 0.0
    accuracy = (
        f"; training accuracy {100 * history.recent(metric='accuracy'):.1f} %" if "accuracy" in history.metrics else ""
    )
    print(f"\n{verdict}: {figures}; {history.updates:,} updates in {seconds:.1f} s{accuracy}")
    print(f"\n{history.chart(title=f'training loss, {unit}')}", flush=True)
    return 128 + history.signal if history.interrupted else 0 if solved else 1


def _print_row(history: History, window: int) -> None:
    """Print a line of the table above the bar, if there is one."""
    from tqdm import tqdm  # here, not above: `minirnn count` does not need it

    training = history.recent(window) / math.log(2)
    held_out = history.evaluations[HELD_OUT][-1].value
    tqdm.write(f"{history.updates:7,}  {history.seconds[-1]:7.1f}  {training:8.3f}  {held_out:8.3f}", file=sys.stdout)
    sys.stdout.flush()


def shown(text: str) -> str:
    """Write a text for the terminal: indented, without control characters."""
    return textwrap.indent("".join(c if c.isprintable() or c == "\n" else "·" for c in text), "    ")
