"""``minirnn bench``: how fast the layer is on this machine, and against what."""

import argparse
import itertools
import textwrap
from types import ModuleType
from typing import Any

from minirnn.bench import grid, ladder, measure, memory, rows, scaling, step
from minirnn.bench.cells import KINDS, Shape
from minirnn.cli.options import DEFAULT, NO_PROGRESS, Options, add_parser, check_writable, expanded, number
from minirnn.layers.threads import available_cpus, can_tell, get_num_threads, set_num_threads
from minirnn.training.bar import size_of_bar

SECTIONS: dict[str, tuple[ModuleType, str]] = {
    "ladder": (ladder, "one layer in several ways, from a loop in Python to fused with threads"),
    "grid": (grid, "forward, backward and update at many shapes, against bare products"),
    "step": (step, "a training step in parts: time, calls, GFLOP/s and bytes of each"),
    "scaling": (scaling, "time against T, N and H, with fitted slopes"),
    "memory": (memory, "memory against T, with and without activation checkpointing"),
}

_ABOUT = """\
Measure a layer on this machine, in about a minute. Before anything is timed,
its results are held against the textbook's.

sections:
"""
Jobs = dict[str, list[list[Shape]]]
"""Of each section the shapes that are measured together."""

# --- the command line -------------------------------------------------------------------------------------------------


def add_command(commands: Any) -> None:
    """Add ``bench`` to the command line."""
    layers = ", ".join(f"{cell}: {kind.layer.__name__}" for cell, kind in KINDS.items())
    options: Options = {
        "sections": {
            "nargs": "*",
            "type": _section,
            "metavar": "SECTION",
            "help": "what to measure; default: all",
        },
        "--cell": {"choices": tuple(KINDS), "default": "elman", "help": f"the layer: {layers}; {DEFAULT}"},
        "--shape": {
            "action": "append",
            "default": [],
            "type": _shape,
            "metavar": "N,T,D,H",
            "help": "rows, steps, inputs, hidden neurons; may be repeated. scaling and memory vary the sizes around it",
        },
        "--sweep": {
            "action": "append",
            "default": [],
            "type": _sweep,
            "metavar": "T=SIZE,SIZE,…",
            "help": "the sizes of T (or N, D, H) for scaling and memory",
        },
        "--dtype": {"choices": ("float32", "float64"), "default": "float32", "help": DEFAULT},
        "--threads": number("K", "threads that the layer and BLAS may use; default: the CPUs that may be used"),
        "--turns": number("K", "how often each is timed; default: what a minute allows", minimum=2),
        "--json": {"type": expanded, "metavar": "FILE", "help": "write all measurements there"},
        "--compare": {"type": expanded, "metavar": "OLD.json", "help": "hold this run against what --json wrote"},
        "--no-progress": NO_PROGRESS,
    }
    add_parser(
        commands,
        "bench",
        run,
        options,
        help="measure speed and memory",
        description=_ABOUT + "\n".join(f"  {name:8} {what}" for name, (_, what) in SECTIONS.items()),
        epilog="example: minirnn bench ladder grid --shape 32,100,64,128 --json today.json",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def _section(text: str) -> str:
    if text not in SECTIONS:
        raise argparse.ArgumentTypeError(f"expected any of {', '.join(SECTIONS)}, got {text!r}")
    return text


def _shape(text: str) -> Shape:
    sizes = _whole_numbers(text)
    if len(sizes) != 4:
        raise argparse.ArgumentTypeError(
            f"expected N,T,D,H, four whole numbers ≥ 1 such as 32,100,64,128, got {text!r}"
        )
    return Shape(*sizes)


def _sweep(text: str) -> tuple[str, list[int]]:
    letter, _, numbers = text.partition("=")
    sizes = sorted(set(_whole_numbers(numbers)))
    if letter not in Shape._fields or len(sizes) < 2:
        raise argparse.ArgumentTypeError(
            f"expected one of N, T, D, H and at least two sizes ≥ 1, such as T=100,1000,10000, got {text!r}"
        )
    return letter, sizes


def _whole_numbers(text: str) -> list[int]:
    """Read numbers ≥ 1 separated by commas; none if any of them is something else."""
    parts = [part.strip() for part in text.split(",")]
    sizes = [int(part) for part in parts if part.isascii() and part.isdecimal()]
    return sizes if len(sizes) == len(parts) and all(sizes) else []


# --- the command ------------------------------------------------------------------------------------------------------


def run(arguments: argparse.Namespace) -> int:
    """Measure what was asked for, printing each section as it is done; return 0."""
    old = rows.load(arguments.compare) if arguments.compare else None
    check_writable("--json", arguments.json)
    jobs = _plan(arguments)
    settings = rows.Settings(arguments.dtype, arguments.threads or get_num_threads(), arguments.turns, arguments.cell)
    set_num_threads(settings.threads)
    header = _header(settings)
    print("\n".join(f"{name}: {value}" for name, value in header.items()), flush=True)
    measured = _measure(jobs, settings, progress=not arguments.no_progress)
    if old:
        print("\n## compared\n")
        if different := rows.differences(old[0], header):
            print("warning: not measured under the same conditions, so the ratios tell little:")
            print("\n".join(f"  {line}" for line in different) + "\n")
        print(rows.comparison(old[1], measured))
    if arguments.json:
        rows.save(arguments.json, header, measured)
        print(f"\nAll measurements: {arguments.json}")
    return 0


def _plan(arguments: argparse.Namespace) -> Jobs:
    """Return the jobs of each section that was asked for."""
    sections = list(dict.fromkeys(arguments.sections)) or list(SECTIONS)
    shapes, sweeps = list(dict.fromkeys(arguments.shape)), dict(arguments.sweep)
    for letter in sweeps:
        takers = ["scaling", "memory"] if letter == "T" else ["scaling"]
        if not set(takers) & set(sections):
            raise ValueError(
                f"--sweep: sizes of {letter} are for {' and '.join(takers)}, got them with {' and '.join(sections)}: "
                "try --shape"
            )
    return {name: SECTIONS[name][0].plan(shapes, sweeps) for name in sections}


def _header(settings: rows.Settings) -> dict[str, str]:
    threads, usable = settings.threads, available_cpus()
    few = f", on {usable} CPU{'s' * (usable > 1)}: such times mean little" if threads > usable else ""
    return {
        "minirnn": str(measure.version_of("minirnn")),
        **measure.machine(),
        "threads": f"{threads}, for the layer{' and for BLAS' * can_tell()}{few}",
        "dtype": settings.dtype,
        "layer": f"{settings.kind.layer.__name__} (--cell {settings.cell})",
    }


def _measure(jobs: Jobs, settings: rows.Settings, *, progress: bool) -> list[rows.Row]:
    """Measure section by section, each printed when it is done; return all rows."""
    from tqdm import tqdm  # here, not above: `minirnn count` does not need it

    measured: list[rows.Row] = []
    with tqdm(
        total=sum(map(len, jobs.values())),
        disable=None if progress else True,
        leave=False,
        mininterval=0,
        **size_of_bar(),
    ) as bar:
        for name, planned in jobs.items():
            module, done = SECTIONS[name][0], []
            for job in planned:
                bar.set_description(f"{name} {job[-1]}")
                set_num_threads(settings.threads)  # a section may leave another number
                try:
                    done.append(module.measure(job, settings))
                except MemoryError as error:
                    hint = " or --dtype float32" if settings.dtype == "float64" else ""
                    raise MemoryError(
                        f"bench: the shape N,T,D,H = {job[-1]} must fit in memory in {settings.dtype}: "
                        f"{str(error) or 'it does not'}: try fewer steps (T), fewer rows (N){hint}"
                    ) from error
                bar.update()
            bar.clear()
            note = textwrap.fill(module.note(settings.kind), 80)
            print(f"\n## {name}\n\n{note}\n\n{module.report(done)}", flush=True)
            measured += itertools.chain.from_iterable(done)
    return measured
