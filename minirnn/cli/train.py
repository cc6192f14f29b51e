"""``minirnn train TASK``: learn a task while one watches, and say whether it is solved."""

import argparse
import hashlib
import math
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from minirnn import losses, optim
from minirnn.checkpoints import CheckpointDirectory, save_checkpoint
from minirnn.cli.options import (
    DEFAULT,
    NO_PROGRESS,
    Options,
    add_task,
    build_model,
    built_task,
    check_writable,
    number,
    positive,
)
from minirnn.layers import BACKENDS, SequenceModel
from minirnn.layers.threads import set_num_threads
from minirnn.tasks import TASKS, Task, TextTask
from minirnn.training import Checkpointing, History, bits_per_character, fit, measure, sample, schedules
from minirnn.training.saving import Position, describe_training
from minirnn.training.sources import HELD_OUT

OPTIMIZERS: dict[str, Callable[..., optim.Optimizer]] = {"sgd": optim.SGD, "rmsprop": optim.RMSprop, "adam": optim.Adam}
SEQUENCES = 1000
"""In the held-out batch."""
TEMPERATURE = 0.7
"""Of a sample: a little bolder than what was learnt."""

_ABOUT = "Learn to {task.description}. Solved: {task.rule}. Source: {task.source}."
_HEADER = "updates  seconds  training  held-out  bits per character"
_WINDOW = 50  # updates over whose mean the training loss must look solved before held-out data are asked
_INTERVAL = 200  # updates between two looks at held-out data, where the training loss is no such figure

# --- the command line -------------------------------------------------------------------------------------------------


def add_command(commands: Any) -> None:
    """Add ``train`` and its tasks to the command line."""
    parser = commands.add_parser(
        "train",
        help="train a recurrent layer on a task",
        description="Train a recurrent layer on a task. Exit status: 0 solved, 1 not solved, 2 an error, 130 "
        "interrupted.",
        epilog="minirnn tasks lists the tasks, with what counts as solved",
    )
    tasks = parser.add_subparsers(metavar="TASK", required=True)
    for task in TASKS.values():
        add_task(tasks, task, run, _ABOUT, ("--chunk", "steps an update goes back"), _options(task))


def _options(task: type[Task]) -> Options:
    text, usual = task is TextTask, task.defaults
    rate = f"learning rate{', falling to 0' if text else ''}; {DEFAULT}"
    clip = f"largest gradient norm, or inf; {DEFAULT}"
    options: Options = {
        "--backend": {"choices": BACKENDS, "default": "fused", "help": f"the numbers are the same; {DEFAULT}"},
        "--optimizer": {"choices": tuple(OPTIMIZERS), "default": "adam", "help": DEFAULT},
        "--lr": {"type": positive, "default": usual.lr, "metavar": "RATE", "help": rate},
        "--clip": {"type": positive, "default": usual.clip, "metavar": "NORM", "help": clip},
        "--max-updates": number("K", "updates to make at most", usual.max_updates),
        # One: the products of a step are mostly too small to share, and the numbers are the same on every machine.
        "--threads": number("K", "threads that the layer and BLAS may use", 1),
        "--seed": number(None, "the same seed and threads give the same numbers", 0, minimum=0),
        "--no-progress": NO_PROGRESS,
        "--checkpoint": {
            "type": Path,
            "metavar": "DIR",
            "help": "save there every so often, in the end, and when Ctrl-C or SIGTERM ends the run",
        },
        "--checkpoint-every": number("K", "updates between two checkpoints", 500),
        "--save": {
            "type": Path,
            "metavar": "PATH",
            "help": "save the model there in the end, solved or not: for minirnn eval, sample and inspect",
        },
        "--resume": {
            "action": "store_true",
            "help": "go on from the newest checkpoint in --checkpoint, with the same options",
        },
    }
    of_text: Options = {
        "--evaluate-every": number("K", "updates between evaluations; default: a tenth of all"),
        "--sample": number("L", "characters to write at the end", 400, minimum=0),
    }
    return options | (of_text if text else {})


# --- the command ------------------------------------------------------------------------------------------------------


def run(arguments: argparse.Namespace) -> int:
    """Train on a task, and say whether held-out data are solved; return the exit status."""
    set_num_threads(arguments.threads)
    task = built_task(arguments)
    for_model, for_data, for_sample = np.random.default_rng(arguments.seed).spawn(3)
    model = build_model(arguments, task, for_model)
    check_writable("--save", arguments.save)
    settings = {
        "optimizer": OPTIMIZERS[arguments.optimizer](model.parameters(), arguments.lr),
        "max_updates": arguments.max_updates,
        "clip_norm": arguments.clip,
        "progress": False if arguments.no_progress else None,
        "checkpoint": _checkpointing(arguments, task),
    }
    if not isinstance(task, TextTask):
        held_out = task.evaluation_batch(SEQUENCES, arguments.seed)
        history = _train_on_sequences(arguments, task, model, for_data, held_out, settings)
        _save_model(arguments, task, model, settings["optimizer"], history)
        figure = measure(model, task, held_out)
        unit = "nats per target" if task.kind == "classification" else "squared error"
        return _ending(history, task.solved(figure), verdict_on(task, figure), unit)
    history = _train_on_text(arguments, task, model, for_data, settings)
    _save_model(arguments, task, model, settings["optimizer"], history)
    status = _ending(history, *_last_figure(task, history), "nats (1.44 bits) per character")
    if arguments.sample:
        written = sample(model, task, arguments.sample, rng=for_sample, temperature=TEMPERATURE)
        print(f"\na sample, at temperature {TEMPERATURE}:\n\n{shown(written)}")
    return status


def _train_on_sequences(
    arguments: argparse.Namespace, task: Any, model: SequenceModel, rng: Any, held_out: Any, settings: dict[str, Any]
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

    model.summary()
    T = f", T = {task.T}" if hasattr(task, "T") else ""
    print(f"\n{task.name}{T}\nto be solved: {task.rule}", flush=True)
    return fit(model, task, batch=arguments.batch, rng=rng, stop=solved, **settings)


def _train_on_text(
    arguments: argparse.Namespace, task: TextTask, model: SequenceModel, rng: Any, settings: dict[str, Any]
) -> History:
    """Train for a number of updates, with a line of bits per character now and then and at the end."""
    streams = task.streams(arguments.batch, arguments.chunk, rng)
    last = arguments.max_updates
    interval = arguments.evaluate_every or max(1, last // 10)

    def report(history: History) -> None:
        if history.updates % interval == 0 or history.updates == last:
            history.record(HELD_OUT, bits_per_character(model, task))
            _print_row(history, interval)

    model.summary()
    sizes = f"{task.train_ids.size:,} characters to train on and {task.held_out_ids.size:,} held out"
    print(f"\ntext, {sizes}, {task.input_size} different\nto be solved: {task.rule}\n")
    print(f"{_HEADER}; {_baselines(task)}", flush=True)
    return fit(
        model,
        streams,
        loss=losses.cross_entropy,
        schedule=schedules.linear(last),
        carry_state=True,
        callbacks=[report],
        **settings,
    )


# --- what is saved ----------------------------------------------------------------------------------------------------

FREE = {
    *("version", "run", "task", "no_progress", "max_updates", "sample", "evaluate_every"),
    *("checkpoint", "checkpoint_every", "resume", "save"),
}
"""What may differ when a run is resumed, and what is no option; it is not saved."""
TEXT = "text"
"""The setting that says which text was read."""


def _saved_settings(arguments: argparse.Namespace, task: Task) -> dict[str, Any]:
    """Gather the settings that are saved with the weights: minirnn.cli.saved builds task and model by them."""
    options = {name: value for name, value in vars(arguments).items() if name not in FREE}
    return {"task": task.name, **options, **({TEXT: mark_of(task)} if isinstance(task, TextTask) else {})}


def mark_of(task: TextTask) -> dict[str, str]:
    """Describe a text by its characters, whose places are the model's ids, and a digest of all of it."""
    text = task.decode(np.concatenate([task.train_ids, task.held_out_ids]))
    return {"vocabulary": task.vocabulary, "sha256": hashlib.sha256(text.encode()).hexdigest()}


def option_of(name: str) -> str:
    """Return the option that sets an argument."""
    return "--steps-in-time" if name == "task_T" else "--" + name.removeprefix("task_").replace("_", "-")


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
    for name, then in (latest.settings if latest else {}).items():
        now = settings.get(name)
        if then != now:
            expected, got = (f"{option_of(name)} {then}", now) if name != TEXT else ("the same text", "another")
            raise ValueError(
                f"--resume: expected {expected} as the run in {there} was begun with, got {got}: give it the same "
                "options, or choose another directory"
            )
    return Checkpointing(arguments.checkpoint, arguments.checkpoint_every, arguments.resume, settings=settings)


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


def _last_figure(task: TextTask, history: History) -> tuple[bool, str]:
    """Say whether a text was solved when it was last measured, and how far that was."""
    if HELD_OUT not in history.evaluations:
        return False, f"held-out {task.metric} not measured yet, {_baselines(task)}"
    update, bits = history.evaluations[HELD_OUT][-1]
    after = f" after update {update:,}" if update < history.updates else ""
    return task.solved(bits), f"held-out {task.metric} {bits:.3f}{after}, {_baselines(task)}"


def _ending(history: History, solved: bool, figures: str, unit: str) -> int:
    """Print the verdict and the loss curve; return the exit status."""
    verdict = "interrupted" if history.interrupted else "solved" if solved else "not solved"
    seconds = history.seconds[-1] if history.updates else 0.0
    accuracy = (
        f"; training accuracy {100 * history.recent(metric='accuracy'):.1f} %" if "accuracy" in history.metrics else ""
    )
    print(f"\n{verdict}: {figures}; {history.updates:,} updates in {seconds:.1f} s{accuracy}")
    print(f"\n{history.chart(title=f'training loss, {unit}')}", flush=True)
    return 130 if history.interrupted else 0 if solved else 1


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
