"""``minirnn sample PATH``: text, written by a saved model."""

import argparse
import textwrap
from typing import Any

import numpy as np

from minirnn.cli.options import COLUMNS, DEFAULT, add_options, line_on, number, positive
from minirnn.cli.saved import SAVED, load
from minirnn.cli.train import TEMPERATURE, shown
from minirnn.layers.threads import set_num_threads
from minirnn.tasks import TextTask
from minirnn.training import sample


def add_command(commands: Any) -> None:
    """Add ``sample`` to the command line."""
    parser = commands.add_parser(
        "sample",
        help="let a saved model write text",
        description="Let a saved model of text write: the sample of minirnn train text, unless told otherwise.",
        epilog="example: minirnn sample model.npz --prompt 'The ' --temperature 0.5",
    )
    options = {
        "--length": number("L", "characters to write", 400),
        "--temperature": {
            "type": positive,
            "default": TEMPERATURE,
            "metavar": "X",
            "help": f"below 1 the likely characters become likelier still; {DEFAULT}",
        },
        "--prompt": {"default": "", "metavar": "TEXT", "help": "what the model reads first, and goes on from"},
        "--seed": number(None, "of what is drawn; default: that of its training", minimum=0),
    }
    add_options(parser, SAVED | options, run=run)


def run(arguments: argparse.Namespace) -> int:
    """Print what the model writes; return 0."""
    saved = load(arguments.path, file=arguments.file)
    if not isinstance(saved.task, TextTask):
        raise ValueError(
            f"sample: expected a model of text, got one of {saved.task.name} in {str(saved.checkpoint.path)!r}: "
            "minirnn eval measures it"
        )
    set_num_threads(saved.arguments.threads)
    seed = saved.arguments.seed if arguments.seed is None else arguments.seed
    _, _, rng = np.random.default_rng(seed).spawn(3)  # as ``minirnn train text`` does
    temperature, prompt = arguments.temperature, arguments.prompt
    written = sample(saved.model, saved.task, arguments.length, rng=rng, temperature=temperature, prompt=prompt)
    model = textwrap.fill(f"text: {line_on(saved.arguments, saved.model)}, {saved.after}", COLUMNS)
    print(f"{model}\n\na sample, at temperature {temperature:g}:\n\n{shown(prompt + written)}")
    return 0
