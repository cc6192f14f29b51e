"""``minirnn train adding`` and ``minirnn train text``: learn a task while one watches, and say whether it is solved.

Checked by tests/cli/test_train.py.
"""

import argparse
import math
import sys
import textwrap
from collections.abc import Callable
from typing import Any

import numpy as np

from minirnn import losses, optim
from minirnn.cli.models import add_length, add_model_options, add_task, add_text_options, build_model
from minirnn.cli.options import whole_number
from minirnn.history import History
from minirnn.recurrent import BACKENDS, SequenceModel
from minirnn.tasks import AddingTask, Task, TextTask
from minirnn.threads import set_num_threads
from minirnn.training import bits_per_character, evaluate, every, fit, sample

OPTIMIZERS: dict[str, Callable[..., optim.Optimizer]] = {"sgd": optim.SGD, "rmsprop": optim.RMSprop, "adam": optim.Adam}

_size, _count = whole_number(1), whole_number(0)  # of options
_HELD_OUT = "held-out"  # the evaluations' name in the History
_SEQUENCES = 1000  # in the held-out batch of the adding problem
_WINDOW = 50  # updates over whose mean the training loss must look solved before held-out data are asked
_ABOUT = "Learn to {description}. Solved: {rule}. Source: {source}."
_TEMPERATURE = 0.7  # of the sample: a little bolder than what was learnt


# --- the command line -------------------------------------------------------------------------------------------------


def add_command(commands: Any) -> None:
    """Add ``train`` and its tasks to the command line."""
    about = "Train a recurrent layer on a task. Exit status: 0 solved, 1 not solved, 2 an error, 130 interrupted."
    parser = commands.add_parser("train", help="train a recurrent layer on a task", description=about)
    tasks = parser.add_subparsers(metavar="TASK", required=True)
    _add_adding(tasks)
    _add_text(tasks)


def _add_adding(tasks: Any) -> None:
    parser = add_task(tasks, AddingTask, train_adding, _ABOUT)
    add_length(parser, AddingTask)
    _add_settings(parser, AddingTask, lr=1e-3, max_updates=20_000)


def _add_text(tasks: Any) -> None:
    parser = add_task(tasks, TextTask, train_text, _ABOUT)
    add = parser.add_argument
    add_text_options(parser)
    add("--chunk", type=_size, default=20, metavar="T", help="steps an update goes back; default: %(default)s")
    _add_settings(parser, TextTask, lr=4e-3, max_updates=4_000, falls=", falling to 0")
    add("--evaluate-every", type=_size, metavar="K", help="updates between evaluations; default: a tenth of all")
    add("--sample", type=_count, default=400, metavar="L", help="characters to write at the end; default: %(default)s")


def _add_settings(
    parser: argparse.ArgumentParser, task: type[Task], *, lr: float, max_updates: int, falls: str = ""
) -> None:
    """Add what the tasks share, with one task's defaults."""
    add, default = parser.add_argument, "default: %(default)s"
    add_model_options(parser, task)
    add("--backend", choices=BACKENDS, default="fused", help=f"the numbers are the same; {default}")
    add("--optimizer", choices=tuple(OPTIMIZERS), default="adam", help=default)
    add("--lr", type=_positive, default=lr, metavar="RATE", help=f"learning rate{falls}; {default}")
    add("--clip", type=_positive, default=1.0, metavar="NORM", help=f"largest gradient norm, or inf; {default}")
    add("--max-updates", type=_size, default=max_updates, metavar="K", help=f"updates to make at most; {default}")
    # One: the products of a step are mostly too small to share, and the numbers are the same on every machine.
    add("--threads", type=_size, default=1, metavar="K", help=f"threads that the layer and BLAS may use; {default}")
    add("--seed", type=_count, default=0, help=f"the same seed and threads give the same numbers; {default}")
    add("--no-progress", action="store_true", help="no bar (there is none either when stderr is not a terminal)")


def _positive(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not number > 0:
        raise argparse.ArgumentTypeError(f"expected a positive number, got {text!r}")
    return number


# --- the tasks --------------------------------------------------------------------------------------------------------


def train_adding(arguments: argparse.Namespace) -> int:
    """Train on the adding problem until a held-out batch says that it is solved; return the exit status."""
    set_num_threads(arguments.threads)
    task = AddingTask(arguments.steps_in_time)
    for_model, for_data = np.random.default_rng(arguments.seed).spawn(2)
    model = build_model(arguments, task, for_model)
    settings = _settings(arguments, model)
    held_out = task.evaluation_batch(_SEQUENCES, arguments.seed)

    def solved(history: History) -> bool:
        if history.updates % _WINDOW or not task.solved(history.recent(_WINDOW)):
            return False
        history.record(_HELD_OUT, evaluate(model, [held_out], loss=losses.mse))
        return task.solved(history.evaluations[_HELD_OUT][-1].value)

    model.summary()
    print(f"\nadding, T = {task.T}\nto be solved: {task.rule}", flush=True)
    batches = task.batches(arguments.batch, for_data)
    history = fit(model, batches, loss=losses.mse, stop=solved, **settings)
    mse = evaluate(model, [held_out], loss=losses.mse)
    figures = f"held-out mean squared error {mse:.4f}, baseline {task.baseline:.4f}"
    return _end(history, task.solved(mse), figures, "squared error")


def train_text(arguments: argparse.Namespace) -> int:
    """Train on a text for a number of updates, measuring bits per character by the way; return the exit status."""
    set_num_threads(arguments.threads)
    task = TextTask(path=arguments.file)
    for_model, for_data, for_sample = np.random.default_rng(arguments.seed).spawn(3)
    streams = task.streams(arguments.batch, arguments.chunk, for_data)
    model = build_model(arguments, task, for_model)
    settings = _settings(arguments, model)
    baselines = f"bigram {task.bigram_bits:.2f}, unigram {task.unigram_bits:.2f}"
    interval = arguments.evaluate_every or max(1, arguments.max_updates // 10)

    def slower(history: History) -> None:
        """Let the learning rate fall to 0, linearly."""
        settings["optimizer"].lr = arguments.lr * (1 - history.updates / arguments.max_updates)

    def report(history: History) -> None:
        history.record(_HELD_OUT, bits_per_character(model, task))
        _write(_row(history, interval))

    def at_the_end(history: History) -> None:
        if history.updates == arguments.max_updates and history.updates % interval:
            report(history)

    model.summary()
    print(f"\ntext, {_sizes(task)}\nto be solved: {task.rule}\n\n{_HEADER}; {baselines}", flush=True)
    callbacks = [slower, every(interval, report), at_the_end]
    history = fit(model, streams, loss=losses.cross_entropy, carry_state=True, callbacks=callbacks, **settings)
    bits = history.evaluations[_HELD_OUT][-1].value if _HELD_OUT in history.evaluations else math.nan
    figures = f"held-out bits per character {_measured(history)}, {baselines}"
    status = _end(history, task.solved(bits), figures, "nats (1.44 bits) per character")
    if arguments.sample:
        _show_sample(sample(model, task, arguments.sample, rng=for_sample, temperature=_TEMPERATURE))
    return status


_HEADER = "updates  seconds  training  held-out  bits per character"


def _sizes(task: TextTask) -> str:
    train, held_out = task.train_ids.size, task.held_out_ids.size
    return f"{train:,} characters to train on and {held_out:,} held out, {task.input_size} different"


def _row(history: History, window: int) -> str:
    training = history.recent(window) / math.log(2)
    held_out = history.evaluations[_HELD_OUT][-1].value
    return f"{history.updates:7,}  {history.seconds[-1]:7.1f}  {training:8.3f}  {held_out:8.3f}"


def _measured(history: History) -> str:
    """Return the last evaluation, and when it was made if updates followed."""
    if _HELD_OUT not in history.evaluations:
        return "not measured yet"
    last = history.evaluations[_HELD_OUT][-1]
    return f"{last.value:.3f}" + (f" after update {last.update:,}" if last.update < history.updates else "")


def _settings(arguments: argparse.Namespace, model: SequenceModel) -> dict[str, Any]:
    """Return those arguments of `fit` that are the same for all tasks."""
    return {
        "optimizer": OPTIMIZERS[arguments.optimizer](model.parameters(), arguments.lr),
        "max_updates": arguments.max_updates,
        "clip_norm": arguments.clip,
        "progress": False if arguments.no_progress else None,
    }


# --- what is printed --------------------------------------------------------------------------------------------------


def _end(history: History, solved: bool, figures: str, unit: str) -> int:
    """Print the verdict and the loss curve; return the exit status."""
    verdict = "interrupted" if history.interrupted else "solved" if solved else "not solved"
    seconds = history.seconds[-1] if history.updates else 0.0
    print(f"\n{verdict}: {figures}; {history.updates:,} updates in {seconds:.1f} s")
    print(f"\n{history.chart(title=f'training loss, {unit}')}", flush=True)
    return 130 if history.interrupted else 0 if solved else 1


def _show_sample(text: str) -> None:
    shown = "".join(c if c.isprintable() or c == "\n" else "·" for c in text)  # no control characters on a terminal
    print(f"\na sample, at temperature {_TEMPERATURE}:\n\n{textwrap.indent(shown, '    ')}")


def _write(line: str) -> None:
    """Print a line above the bar, if there is one."""
    from tqdm import tqdm  # here, not above: `minirnn count` does not need it

    tqdm.write(line, file=sys.stdout)
    sys.stdout.flush()
