"""``minirnn sweep TASK``: train a task with many settings and seeds, on all cores or a cluster, and compare."""

import argparse
import difflib
import json
import math
import os
import re
import textwrap
import time
from typing import Any

from minirnn.arguments import Made
from minirnn.cli import learning
from minirnn.cli.options import (
    DEFAULT,
    NO_PROGRESS,
    Options,
    add_task,
    build_layer,
    build_model,
    built_task,
    expanded,
    number,
    task_options,
)
from minirnn.cli.train import counted
from minirnn.tasks import TASKS, Task, TextTask
from minirnn.training import Between, EngineError, OneOf, Trial, measure, sweep
from minirnn.training.sweeps import Results, pictures
from minirnn.training.sweeps.engine import Engine
from minirnn.training.sweeps.settings import Grid, shown
from minirnn.training.sweeps.trial import DIVERGED, FAILED, FINISHED, PRUNED

_ABOUT = "Learn to {task.description}, with many settings. Solved: {task.rule}."
_SHAPES = ("cell", "init", "activation", "task_")  # of options that may not go together
_WIDTH = 100

# --- the command line -------------------------------------------------------------------------------------------------


def add_command(commands: Any) -> None:
    """Add ``sweep`` and its tasks to the command line."""
    parser = commands.add_parser(
        "sweep",
        help="train a task with many settings and seeds",
        description="Train a task with every combination of settings and seeds, on all cores of this machine or on a "
        "dask cluster, and compare. What is killed goes on where it was. Exit status: 0 every trial finished, diverged "
        "or was pruned, 1 one failed, 2 an error, 130 interrupted.",
        epilog="example: minirnn sweep adding --grid lr=1e-4,1e-3 --grid init=irnn,orthogonal --seeds 3 --out runs",
    )
    tasks = parser.add_subparsers(metavar="TASK", required=True)
    for task in TASKS.values():
        own = {"--checkpoint-every": learning.CHECKPOINT_EVERY} | _OPTIONS
        add_task(tasks, task, run, _ABOUT, learning.LENGTH, learning.options(task) | own)


_OPTIONS: Options = {
    "--grid": {
        "action": "append",
        "default": [],
        "metavar": "NAME=V,V",
        "help": "values of an option above, as in lr=1e-3,5e-3; given again, every combination is run",
    },
    "--random": {
        "action": "append",
        "default": [],
        "metavar": "NAME=LOW..HIGH",
        "help": "draw an option anew in each combination: a number (in its logarithm, where LOW > 0), or one of V,V",
    },
    "--draws": number("K", "how often what is random is drawn in each combination", 1),
    "--seeds": number("K", "seeds 0, 1, … of each setting", 3),
    "--optuna": number("N", "let Optuna suggest N settings of --grid and --random, and end trials that do badly"),
    "--storage": {"type": expanded, "metavar": "PATH", "help": "Optuna's journal; default: study.journal in --out"},
    "--jobs": number("K", "processes on this machine, one thread each; default: the CPUs that may be used"),
    "--scheduler": {"metavar": "ADDRESS", "help": "of a dask cluster to run on, such as tcp://host:8786"},
    "--out": {
        "type": expanded,
        "default": expanded("runs"),
        "metavar": "DIR",
        "help": f"where trials, results.csv and a picture go; on a cluster one that all workers share; {DEFAULT}",
    },
    "--resume": {"action": "store_true", "help": "go on with the sweep in --out, with the same options"},
    "--no-progress": NO_PROGRESS,
}


# --- the command ------------------------------------------------------------------------------------------------------


def run(arguments: argparse.Namespace) -> int:
    """Run the trials, and print what came of them; return the exit status."""
    grid = _grid(arguments)
    if arguments.jobs is not None and arguments.scheduler is not None:
        raise ValueError("--scheduler: expected no --jobs with it, got both: leave one of them out")
    where = arguments.scheduler or arguments.jobs
    try:
        plan = Grid(grid, arguments.draws)
        count = arguments.optuna or plan.size
        plan.check_count(count, arguments.seeds)
        _check_shapes(arguments.task, plan, count)
        engine = Engine(where, "sweep")
        _print_plan(arguments, plan, count, engine)
        begun = time.perf_counter()
        results = sweep(
            Made(learn_task, arguments.task.name, arguments.checkpoint_every),
            grid,
            seeds=arguments.seeds,
            out=arguments.out,
            engine=where,
            draws=arguments.draws,
            optuna=arguments.optuna,
            storage=arguments.storage,
            resume=arguments.resume,
            progress=False if arguments.no_progress else None,
        )
    except (ValueError, TypeError, ImportError, EngineError) as error:
        raise ValueError(_in_options(str(error))) from error
    return _print_results(results, count * arguments.seeds, time.perf_counter() - begun)


def learn_task(name: str, checkpoint_every: int, trial: Trial) -> dict[str, float]:
    """Train a task as ``minirnn train`` does, with a trial's settings; return what the held-out data say."""
    arguments = _arguments(TASKS[name], trial.settings, trial.seed)
    task = built_task(arguments)
    model = build_model(arguments, task, trial.for_model)
    settings = learning.settings_of(arguments, model) | {"checkpoint_every": checkpoint_every}
    if isinstance(task, TextTask):
        arguments.schedule = arguments.max_updates
        streams = task.streams(arguments.batch, arguments.chunk, trial.for_data)
        history = learning.on_text(arguments, task, model, streams, settings, trial.fit)
        solved, bits = learning.last_figure(task, history)
        figure = math.nan if bits is None else bits
    else:
        held_out = task.evaluation_batch(learning.SEQUENCES, trial.seed)
        history = learning.on_sequences(arguments, task, model, trial.for_data, held_out, settings, trial.fit)
        figure = measure(model, task, held_out)
        solved = task.solved(figure)
    return {f"held-out {task.metric}": figure, "updates": history.updates, "solved": bool(solved)}


# --- options and settings ---------------------------------------------------------------------------------------------


def _varied(task: type[Task]) -> Options:
    """Return the options of a task that may be settings of a sweep."""
    return task_options(task, learning.LENGTH) | learning.options(task)


def _name(flag: str) -> str:
    return flag.removeprefix("--")


def _dest(flag: str, option: dict[str, Any]) -> str:
    return str(option.get("dest", _name(flag).replace("-", "_")))


def _arguments(task: type[Task], settings: Any, seed: int) -> argparse.Namespace:
    """Make of a trial's settings the arguments that ``minirnn train`` has."""
    known = argparse.Namespace(task=task, seed=seed)
    for flag, option in _varied(task).items():
        value = settings[_name(flag)]
        several = option.get("action") == "append" and value is not None
        setattr(known, _dest(flag, option), json.loads(value) if several else value)
    return known


def _grid(arguments: argparse.Namespace) -> dict[str, Any]:
    """Gather what every option is, or may be."""
    options = _varied(arguments.task)
    grid: dict[str, Any] = {}
    for flag, option in options.items():
        value = getattr(arguments, _dest(flag, option))
        if flag == "--file" and value is not None:
            value = os.path.abspath(os.path.expanduser(value))  # a worker stands elsewhere
        grid[_name(flag)] = json.dumps(value) if isinstance(value, list) else value
    given: set[str] = set()
    for source, texts in (("--grid", arguments.grid), ("--random", arguments.random)):
        for text in texts:
            name, _, values = text.partition("=")
            _check_name(source, text, name, arguments, options, given)
            given.add(name)
            grid.pop(name)  # so that what varies stands in the order in which it was given
            read = _random if source == "--random" else _values
            grid[name] = read(values, f"{source} {name}", options[f"--{name}"])
    return grid


def _check_name(
    source: str, text: str, name: str, arguments: argparse.Namespace, options: Options, given: set[str]
) -> None:
    """Refuse a name that is no option, or that has been given already."""
    names = [_name(flag) for flag, option in options.items() if option.get("action") != "append"]
    if "=" not in text:
        raise ValueError(f"{source}: expected NAME=VALUES such as lr=1e-3,5e-3, got {text!r}")
    if name not in names:
        like = difflib.get_close_matches(name, names, 1)
        hint = f"did you mean {like[0]}?" if like else f"those there are: {', '.join(names)}"
        raise ValueError(f"{source}: expected an option of minirnn sweep {arguments.task.name}, got {name!r}: {hint}")
    option = options[f"--{name}"]
    if name in given or getattr(arguments, _dest(f"--{name}", option)) != option.get("default"):
        raise ValueError(f"{source}: expected each option once, got {name} twice: leave one of them out")


def _values(text: str, where: str, option: dict[str, Any]) -> list[Any]:
    return [_value(part.strip(), where, option) for part in text.split(",") if part.strip()]


def _random(text: str, where: str, option: dict[str, Any]) -> Between | OneOf:
    if ".." not in text:
        return OneOf(_values(text, where, option))
    low, _, high = text.partition("..")
    ends = [_value(end.strip(), where, option) for end in (low, high)]
    if not all(isinstance(end, int | float) for end in ends):
        raise ValueError(f"{where}: expected values V,V, since it is no number, got {text!r}")
    return Between(*ends)


def _value(text: str, where: str, option: dict[str, Any]) -> Any:
    """Read a value as the command line would."""
    try:
        value = option.get("type", str)(text)
    except (ValueError, argparse.ArgumentTypeError) as error:
        raise ValueError(f"{where}: {error}") from None
    choices = option.get("choices")
    if choices is not None and value not in choices:
        raise ValueError(f"{where}: expected one of {', '.join(choices)}, got {text!r}")
    return value


def _check_shapes(task: type[Task], plan: Grid, count: int) -> None:
    """Build, before anything starts, each kind of task and layer there is among the settings."""
    if count != plan.size:  # Optuna's are not known yet
        return
    seen = set()
    for settings in plan:
        arguments = _arguments(task, settings, 0)
        kind = tuple(value for name, value in vars(arguments).items() if name.startswith(_SHAPES))
        if kind not in seen:
            seen.add(kind)
            if not hasattr(arguments, "file"):
                built_task(arguments)
            arguments.hidden = 1
            build_layer(arguments, 1, Trial(settings, 0, expanded("")).for_model)


def _in_options(text: str) -> str:
    """Say in options what the library says in arguments."""
    for pattern, option in (
        (r"^sweep: (out|seeds|draws|optuna|storage)\b:?", r"--\1:"),
        (r"\bgive grid a Between or a OneOf\b", "give --random"),
        (r"^sweep: grid\['(.+?)'\]", r"--grid \1:"),
        (r"^sweep: (engine=\S+|engine)", "--jobs or --scheduler"),
        (r"^sweep: grid has", "--grid:"),
        (r"\bpass resume=True\b", "go on with it by --resume"),
        (r"--resume to go on with it", "--resume"),
        (r"\bresume=True\b", "--resume"),
        (r"\bengine=\S+", "--jobs or --scheduler"),
        (r"\bdrawn settings \(Between, OneOf\)", "--random"),
        (r"\boptuna=N\b", "--optuna N"),
    ):
        text = re.sub(pattern, option, text)
    return text


# --- what is printed --------------------------------------------------------------------------------------------------


def _print_plan(arguments: argparse.Namespace, plan: Grid, count: int, engine: Engine) -> None:
    """Say what is going to run, and where."""
    task, trials = arguments.task, count * arguments.seeds
    print(f"{task.name}: {task.description}\nto be solved: {task.rule}\n")
    for name, values in plan.axes.items():
        print(textwrap.fill(f"{name}: {', '.join(map(shown, values))}", _WIDTH, subsequent_indent="    "))
    for name, how in plan.drawn.items():
        what = (
            f"{shown(how.low)} … {shown(how.high)}" if isinstance(how, Between) else ", ".join(map(shown, how.values))
        )
        print(f"{name}: drawn, {what}")
    suggested = ", suggested by Optuna" * (arguments.optuna is not None)
    size = f"{counted(count, 'setting')}{suggested}, {counted(arguments.seeds, 'seed')}: {counted(trials, 'trial')}"
    print(f"{size}, {engine}")
    print(engine.note and f"({engine.note})\n", flush=True)


def _print_results(results: Results, total: int, seconds: float) -> int:
    """Print table, and chart or picture; return the exit status."""
    counts = {status: sum(r.status == status for r in results) for status in (FINISHED, PRUNED, DIVERGED, FAILED)}
    said = ", ".join(f"{n:,} {status}" for status, n in counts.items() if n) or "none ended"
    print(f"{results.table()}\n")
    print(f"{'interrupted: ' * results.interrupted}{counted(total, 'trial')}: {said}; {seconds:.1f} s")
    print(f"results: {results.out / 'results.csv'}")
    if not counts[FINISHED]:
        print("no picture: nothing finished")
    else:
        _picture(results)
    if results.interrupted:
        print("go on by the same command with --resume")
        return 130
    return 1 if counts[FAILED] else 0


def _picture(results: Results) -> None:
    path = results.out / "results.svg"
    try:
        pictures.draw(results, path)
        print(f"picture: {path}")
    except ImportError as error:
        print(f"no picture: {error}\n\n{results.chart()}")
