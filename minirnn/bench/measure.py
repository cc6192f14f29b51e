"""How times are taken: on one machine, in one process, in turns.

Contestants run in turns, A B C A B C …, so that whatever slows the machine down for a while hits all of them. Of the
times the median is reported, and the quartiles as the spread; a ratio is taken turn by turn before its median is.
There are several runs of many turns each, with the median of the runs' medians as the answer.

Used by ``minirnn bench`` and by the comparisons with peers in ``benchmarks/``.
"""

import datetime
import gc
import json
import math
import os
import platform
import statistics
import time
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from minirnn.storage import write_whole

Name = TypeVar("Name", bound=Hashable)
Times = list[list[float]]  # seconds: a list for each run, of a number for each turn


FEWEST = 3
"""Turns that are taken although time is up: fewer have no quartiles to speak of."""


def take_turns(
    contestants: Mapping[Name, Callable[[], Any]],
    *,
    turns: int = 60,
    runs: int = 3,
    warm_up: int = 5,
    seconds: float = math.inf,
    before: Callable[[Name], Any] = lambda name: None,
) -> dict[Name, Times]:
    """Time each contestant, A B C A B C …; what one leaves to the garbage collector is not charged to the next.

    Each has at most ``turns`` in each of the ``runs``, after ``warm_up`` turns untimed. After ``seconds``, warm-up
    included, it is time to stop; `FEWEST` turns of each run are taken all the same. ``before`` is called with the name
    of a contestant before each of its turns, untimed. Returned are the seconds of each by run and turn.
    """
    end = time.perf_counter() + seconds
    for turn in range(warm_up):
        if turn and time.perf_counter() > end:
            break
        for name, function in contestants.items():
            before(name)
            function()
    times: dict[Name, Times] = {name: [[] for _ in range(runs)] for name in contestants}
    gc.collect()
    gc.freeze()  # what has been imported need not be gone through at every turn
    try:
        for run in range(runs):
            for turn in range(turns):
                if turn >= FEWEST and time.perf_counter() > end:
                    break
                for name, function in contestants.items():
                    before(name)
                    gc.collect()
                    start = time.perf_counter()
                    function()
                    seconds_taken = time.perf_counter() - start
                    times[name][run].append(seconds_taken)
    finally:
        gc.unfreeze()
    return times


class Spread(NamedTuple):
    """The quartiles."""

    low: float
    median: float
    high: float


def spread(times: Times) -> Spread:
    """Return the quartiles of each run, then the median of the runs for each of the three."""
    quartiles = [statistics.quantiles(run if run[1:] else 2 * run, n=4, method="inclusive") for run in times]
    return Spread(*(statistics.median(column) for column in zip(*quartiles, strict=True)))


def ratio(times: Times, base: Times) -> Spread:
    """Return the spread of ``times / base``, divided turn by turn: above 1 where ``base`` is faster."""
    return spread([[a / b for a, b in zip(*runs, strict=True)] for runs in zip(times, base, strict=True)])


def machine(packages: Iterable[str] = ()) -> dict[str, str]:
    """Describe the machine, the libraries that did the work, and the day. Imports numpy."""
    import numpy as np

    build = np.show_config(mode="dicts")["Build Dependencies"]["blas"]
    blas = f"{build.get('name')} {build.get('version')}"
    try:
        from threadpoolctl import threadpool_info
    except ImportError:
        blas += ' (its kernels and threads: pip install "minirnn[threads]")'
    else:  # what is in use, which may be other than what numpy was built for
        for pool in threadpool_info():
            if pool["user_api"] == "blas" and "numpy" in pool["filepath"]:
                threads = pool["num_threads"]
                blas += f", {pool.get('architecture', 'unknown')} kernels, {threads} thread{'s' * (threads != 1)}"
    usable = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1)
    pinned = "not pinned" if len(usable) == os.cpu_count() else f"pinned to CPU {', '.join(map(str, usable))}"
    described = {
        "date": datetime.date.today().isoformat(),
        "CPU": _cpu_model(),
        "CPUs": f"{os.cpu_count()}, of which this process uses {len(usable)} ({pinned})",
        "system": f"{platform.system()} {platform.machine()}",
        "Python": f"{platform.python_implementation()} {platform.python_version()}",
        "numpy": np.__version__,
        "BLAS": blas,
    }
    if hasattr(os, "getloadavg"):
        described["load"] = f"{os.getloadavg()[0]:.1f} (mean over the minute before)"
    return described | {package: version for package in packages if (version := version_of(package))}


def version_of(package: str) -> str | None:
    """Return the version of an installed package, or None."""
    from importlib import metadata  # here, since it takes a while to load

    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        lines = []
    models = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor() or "unknown"


def markdown(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return a Markdown table: the first column to the left, the others to the right."""
    lines = [list(header), *([str(cell) for cell in row] for row in rows)]
    first, *others = [max(map(len, column)) for column in zip(*lines, strict=True)]
    lines.insert(1, ["-" * first, *("-" * (width - 1) + ":" for width in others)])
    padded = [[line[0].ljust(first), *map(str.rjust, line[1:], others)] for line in lines]
    return "\n".join(f"| {' | '.join(line)} |" for line in padded)


def write_json(path: Path, measured: Any) -> None:
    """Write what was measured, times in seconds and all; a file that was there stays whole until the new one is."""
    write_whole(path, f"{json.dumps(measured, indent=1, ensure_ascii=False)}\n".encode(), "bench")
