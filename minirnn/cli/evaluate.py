"""``minirnn eval PATH`` and ``minirnn sample PATH``: what a saved model has learnt."""

import argparse
import json
import math
import textwrap
from typing import Any

import numpy as np

from minirnn.cli.options import AS_JSON, COLUMNS, DEFAULT, add_options, line_on, number, positive
from minirnn.cli.saved import SAVED, STEPS, Saved, is_its_text, load
from minirnn.cli.train import SEQUENCES, TEMPERATURE, counted, option_of, shown, verdict_on
from minirnn.layers.threads import set_num_threads
from minirnn.tasks import TextTask
from minirnn.training import accuracy, bits_per_character, sample
from minirnn.training.batches import of_lengths
from minirnn.training.evaluation import figure_of, predicted


def add_command(commands: Any) -> None:
    """Add ``eval`` and ``sample`` to the command line."""
    parser = commands.add_parser(
        "eval",
        help="measure a saved model",
        description="Measure a saved model on held-out data: the figure that minirnn train printed at the end, unless "
        "told otherwise. Exit status: 0 solved, 1 not solved, 2 an error.",
        epilog="example: minirnn eval model.npz --steps-in-time 100, of a model that was trained with 50",
    )
    options = {
        "--sequences": number("N", f"how many to measure it on; default: {SEQUENCES}"),
        "--seed": number(None, "of the held-out data; default: that of its training", minimum=0),
        "--json": AS_JSON,
    }
    add_options(parser, SAVED | STEPS | options, run=run)
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
    add_options(parser, SAVED | options, run=run_sample)


# --- eval -------------------------------------------------------------------------------------------------------------


def run(arguments: argparse.Namespace) -> int:
    """Measure and print; return 0 if the task is solved, else 1."""
    saved = load(arguments.path, file=arguments.file, T=arguments.steps_in_time)
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
    bits = bits_per_character(saved.model, saved.task)
    return {"figure": bits, "unigram": saved.task.unigram_bits, "same_text": is_its_text(saved)}


def _on_sequences(saved: Saved, arguments: argparse.Namespace) -> dict[str, Any]:
    task, seed = saved.task, saved.arguments.seed if arguments.seed is None else arguments.seed
    held_out = task.evaluation_batch(arguments.sequences or SEQUENCES, seed)
    predictions, piece = predicted(saved.model, held_out, "eval")
    measured = {"sequences": len(held_out[0][0]), "seed": seed, "figure": figure_of(task, predictions, piece)}
    if task.kind == "classification":
        measured["accuracy"] = accuracy(predictions, piece.y, **of_lengths(piece))
    return measured


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
    parts = [
        f"{task.name}{length}: {task.description}",
        f"{line_on(saved.arguments, saved.model)}, {saved.after}",
        "",
        f"{verdict}: {verdict_on(task, measured['figure'])}{on}",
        *([f"accuracy: {measured['accuracy']:.4f} of the targets right"] if "accuracy" in measured else []),
        f"to be solved: {task.rule}",
        *([] if measured.get("same_text", True) else [other]),
    ]
    return "\n".join(textwrap.fill(part, COLUMNS, subsequent_indent="  ") for part in parts)


# --- sample -----------------------------------------------------------------------------------------------------------


def run_sample(arguments: argparse.Namespace) -> int:
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
