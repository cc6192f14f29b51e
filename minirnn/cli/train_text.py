"""``minirnn train text``: learn a text character by character, and write some."""

import argparse
import math
import sys
import textwrap

import numpy as np

from minirnn import losses
from minirnn.cli.models import build_model
from minirnn.cli.training import baselines, ending, save_model, settings_of
from minirnn.layers.threads import set_num_threads
from minirnn.tasks import TextTask
from minirnn.training import bits_per_character, every, fit, sample, schedules
from minirnn.training.held_out import HELD_OUT
from minirnn.training.history import History

TEMPERATURE = 0.7
"""Of a sample: a little bolder than what was learnt."""


def run(arguments: argparse.Namespace) -> int:
    """Train on a text for a number of updates, measuring bits per character by the way; return the exit status."""
    set_num_threads(arguments.threads)
    task = TextTask(path=arguments.file)
    for_model, for_data, for_sample = np.random.default_rng(arguments.seed).spawn(3)
    streams = task.streams(arguments.batch, arguments.chunk, for_data)
    model = build_model(arguments, task, for_model)
    settings = settings_of(arguments, task, model)
    interval = arguments.evaluate_every or max(1, arguments.max_updates // 10)

    def report(history: History) -> None:
        history.record(HELD_OUT, bits_per_character(model, task))
        _write(_row(history, interval))

    def at_the_end(history: History) -> None:
        if history.updates == arguments.max_updates and history.updates % interval:
            report(history)

    model.summary()
    print(f"\ntext, {_sizes(task)}\nto be solved: {task.rule}\n\n{_HEADER}; {baselines(task)}", flush=True)
    callbacks = [every(interval, report), at_the_end]
    settings |= {"loss": losses.cross_entropy, "schedule": schedules.linear(arguments.max_updates)}
    history = fit(model, streams, carry_state=True, callbacks=callbacks, **settings)
    save_model(arguments, task, model, settings["optimizer"], history)
    bits = history.evaluations[HELD_OUT][-1].value if HELD_OUT in history.evaluations else math.nan
    figures = f"held-out bits per character {_measured(history)}, {baselines(task)}"
    status = ending(history, task.solved(bits), figures, "nats (1.44 bits) per character")
    if arguments.sample:
        written = sample(model, task, arguments.sample, rng=for_sample, temperature=TEMPERATURE)
        print(f"\na sample, at temperature {TEMPERATURE}:\n\n{shown(written)}")
    return status


_HEADER = "updates  seconds  training  held-out  bits per character"


def _sizes(task: TextTask) -> str:
    train, held_out = task.train_ids.size, task.held_out_ids.size
    return f"{train:,} characters to train on and {held_out:,} held out, {task.input_size} different"


def _row(history: History, window: int) -> str:
    training = history.recent(window) / math.log(2)
    held_out = history.evaluations[HELD_OUT][-1].value
    return f"{history.updates:7,}  {history.seconds[-1]:7.1f}  {training:8.3f}  {held_out:8.3f}"


def _measured(history: History) -> str:
    """Return the last evaluation, and when it was made if updates followed."""
    if HELD_OUT not in history.evaluations:
        return "not measured yet"
    last = history.evaluations[HELD_OUT][-1]
    return f"{last.value:.3f}" + (f" after update {last.update:,}" if last.update < history.updates else "")


def shown(text: str) -> str:
    """Return a text for the terminal: indented, without control characters."""
    return textwrap.indent("".join(c if c.isprintable() or c == "\n" else "·" for c in text), "    ")


def _write(line: str) -> None:
    """Print a line above the bar, if there is one."""
    from tqdm import tqdm  # here, not above: `minirnn count` does not need it

    tqdm.write(line, file=sys.stdout)
    sys.stdout.flush()
