"""``minirnn eval PATH``: what a saved model has learnt, measured on held-out data."""

import argparse
import json
import math
import textwrap
from typing import Any

from minirnn.cli.options import AS_JSON, COLUMNS, add_options, line_on, number
from minirnn.cli.saved import SAVED, STEPS, Saved, is_its_text, load
from minirnn.cli.train import SEQUENCES, counted, option_of, verdict_on
from minirnn.layers.threads import set_num_threads
from minirnn.tasks import TextTask
from minirnn.training import accuracy, bits_per_character
from minirnn.training.evaluation import predicted


def add_command(commands: Any) -> None:
    """Add ``eval`` to the command line."""
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
    task: TextTask = saved.task
    return {
        "figure": bits_per_character(saved.model, task),
        "unigram": task.unigram_bits,
        "same_text": is_its_text(saved),
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
    if task.kind == "classification":
        measured["accuracy"] = accuracy(predictions, piece.y, **piece.mask)
    return measured


# --- what is printed --------------------------------------------------------------------------------------------------


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
    task = saved.task
    verdict = f"{'solved' if solved else 'not solved'}: {verdict_on(task, measured['figure'])}"
    if "sequences" in measured:
        verdict += f"; {counted(measured['sequences'], 'sequence')}, seed {measured['seed']}"
    other = "note: this is not the text that it was trained on, though its characters are the same"
    parts = [
        f"{task.name}{_length(saved)}: {task.description}",
        f"{line_on(saved.arguments, saved.model)}, {saved.after}",
        "",
        verdict,
        *([f"accuracy: {measured['accuracy']:.4f} of the targets right"] if "accuracy" in measured else []),
        f"to be solved: {task.rule}",
        *([] if measured.get("same_text", True) else [other]),
    ]
    return "\n".join(textwrap.fill(part, COLUMNS, subsequent_indent="  ") for part in parts)


def _length(saved: Saved) -> str:
    """Return the length of the sequences, and that of the training if it was another."""
    if not hasattr(saved.task, "T"):
        return ""
    T, then = saved.task.T, saved.checkpoint.settings.get("task_T")
    return f", T = {T}" + (f" (trained with {then})" if then not in (None, T) else "")
