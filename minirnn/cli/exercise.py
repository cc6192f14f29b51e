"""``minirnn exercise``: list the exercises, print one, or check the function in a learner's file."""

import argparse
import datetime
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from minirnn.arguments import one_of
from minirnn.cli.options import add_parser
from minirnn.exercises import EXERCISES, check
from minirnn.exercises.checking import told
from minirnn.storage import write_whole

PROGRESS = "minirnn-exercises.txt"
"""In the directory where the command is run: a line for each exercise passed, with its name, the day, the file."""


def add_command(commands: Any) -> None:
    """Add ``exercise`` to the command line."""
    about = (
        "Write back-propagation through time yourself. Without NAME: list the exercises and what is done. With NAME: "
        "print its stub, a Python file to begin with. With FILE too: check the function of that name in it, and say "
        "which mistake it makes. FILE is loaded: all that stands in it at the top level is run. The exit status is 0 "
        f"if it is right, 1 if not. What is done is kept as plain text in {PROGRESS}, in the directory where the "
        "command is run."
    )
    texts = {"help": "write BPTT yourself, and be told your mistake", "description": about}
    parser = add_parser(commands, "exercise", run, {}, **texts)
    parser.add_argument("name", nargs="?", metavar="NAME", help="an exercise; left out: list them")
    parser.add_argument("file", nargs="?", metavar="FILE", help="a Python file with a function of that name")
    parser.add_argument("--hint", type=int, choices=(1, 2, 3), help="print one of the exercise's hints instead")


def run(arguments: argparse.Namespace) -> int:
    """List, print or check; return 0, or 1 for a solution that is not right."""
    if arguments.name is None:
        done = _done()
        width = max(map(len, EXERCISES))
        for name, exercise in EXERCISES.items():
            print(f"{'done' if name in done else '':4}  {name:{width}}  {exercise.title}")
        print(f"\n{len(done)} of {len(EXERCISES)} done, as {PROGRESS} in this directory says. Begin one with:")
        first = next((name for name in EXERCISES if name not in done), "bptt")
        print(f"    minirnn exercise {first} > {first}.py      then: minirnn exercise {first} {first}.py")
        return 0
    exercise = EXERCISES[one_of(arguments.name, tuple(EXERCISES), "NAME")]
    if arguments.hint is not None:
        print(exercise.hints[arguments.hint - 1])
    elif arguments.file is None:
        print(
            f"# check:  minirnn exercise {exercise.name} FILE\n# hints:  minirnn exercise {exercise.name} --hint 1",
            end="",
        )
        print(f", 2, 3\n{exercise}", end="")
    else:
        return _checked(exercise.name, Path(arguments.file).expanduser())
    return 0


def _checked(name: str, path: Path) -> int:
    if not path.is_file():
        raise ValueError(f"FILE: expected a Python file, got {str(path)!r}: there is no such file")
    module = ModuleType("minirnn_learner")
    module.__file__ = str(path.resolve())
    source = path.read_bytes()
    sys.modules[module.__name__] = module  # dataclasses look their module up
    sys.path.insert(0, str(path.resolve().parent))  # for what stands beside it, as if it were run
    try:
        exec(compile(source, module.__file__, "exec"), vars(module))
    except (Exception, SystemExit) as error:
        print(f"{name}: not yet. {told(error, module.__file__)}.")
        return 1
    finally:
        sys.path.remove(str(path.resolve().parent))
    function = getattr(module, name, None)
    if not callable(function):
        own = ", ".join(n for n, v in vars(module).items() if getattr(v, "__module__", "") == module.__name__) or "none"
        print(f"{name}: not yet. {path} defines no function {name}; of its own it has: {own}.")
        return 1
    result = check(name, function)
    print(result)
    if result.passed:
        _keep(name, path)
    return int(not result.passed)


def _text() -> str:
    path = Path(PROGRESS)
    return path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""


def _done() -> set[str]:
    """The exercises whose names begin a line of the file."""
    return {line.split()[0] for line in _text().splitlines() if line.split()} & set(EXERCISES)


def _keep(name: str, path: Path) -> None:
    if name in _done():
        return
    text = "".join(f"{line}\n" for line in [*_text().splitlines(), f"{name}  {datetime.date.today()}  {path.name}"])
    try:
        write_whole(Path(PROGRESS), text.encode(), "exercise")
    except OSError as error:
        print(f"minirnn: it is passed, but {error}", file=sys.stderr)
    else:
        print(f"Kept in {PROGRESS}: {len(_done())} of {len(EXERCISES)} done.")
