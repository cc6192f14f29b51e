"""``minirnn tasks``: what there is to learn, what it takes to have learnt it, and what one has without learning."""

import argparse
import json
import textwrap
from typing import Any

from minirnn.cli.options import AS_JSON, add_parser
from minirnn.tasks import TASKS

COLUMNS = 100
"""What everything fits into."""

_FIELDS = (
    *("name", "description", "source", "rule", "metric", "baseline"),
    *("kind", "inputs", "readout", "needs", "input_size", "output_size"),
)


def add_command(commands: Any) -> None:
    """Add ``tasks`` to the command line."""
    about = "List the tasks: what is to be learnt, the baseline of a predictor that remembers nothing, and the rule."
    add_parser(commands, "tasks", run, {"--json": AS_JSON}, help="list the tasks", description=about)


def run(arguments: argparse.Namespace) -> int:
    """Print the list; return 0."""
    # The class of a task that needs a package, which may not be there, tells the baseline; else it takes a task.
    tasks: list[Any] = [task() if task.needs is None else task for task in TASKS.values()]
    print(json.dumps([_record(task) for task in tasks], indent=2) if arguments.json else _table(tasks))
    return 0


def _record(task: Any) -> dict[str, Any]:
    return {name: getattr(task, name) for name in _FIELDS} | {"defaults": task.defaults._asdict()}


def _table(tasks: list[Any]) -> str:
    width = max(len(task.name) for task in tasks)
    return "\n\n".join("\n".join(_lines(task, width)) for task in tasks)


def _lines(task: Any, width: int) -> list[str]:
    """Return a task's lines: its name in the margin, and beside it what it is."""
    parts = [
        task.description,
        f"baseline: {task.baseline:.4g}, {task.metric}",
        f"solved:   {task.rule}",
        f"source:   {task.source}",
        *([f'needs:    {task.needs}, of the extra "data"'] if task.needs else []),
    ]
    beside = [line for part in parts for line in textwrap.wrap(part, COLUMNS - width - 2, subsequent_indent=" " * 10)]
    return [f"{name:{width}}  {line}" for name, line in zip([task.name] + [""] * len(beside), beside, strict=False)]
