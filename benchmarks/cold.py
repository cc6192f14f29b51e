"""``cold``: a whole process, from its start to the adding problem solved, imports and all.

    python -m benchmarks cold

Each turn starts benchmarks/cold_adding.py once with minirnn and once with each peer, for a new seed at every turn.
Rounding differs, so the number of updates does, by luck: it is shown too, and so are the times for the import and for
an update.
"""

import argparse
import itertools
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks import bars, tables
from benchmarks.roster import MINIRNN, TORCH
from minirnn.bench import measure

ROOT = Path(__file__).parents[1]
STEPS, SEEDS = 100, 3
Found = dict[str, list[list[dict[str, Any]]]]  # name -> by run and seed, what a process took


def run(options: argparse.Namespace, say: Callable[[str], None]) -> dict[str, Any]:
    """Measure, print, and return what goes into the JSON file."""
    labels = tables.labels_of(options.peers)
    T, seeds = (20, options.turns or 2) if options.quick else (STEPS, options.turns or SEEDS)
    found = collect(labels, T, seeds, options.runs, options.threads)
    say(f"\nFrom cold start to adding, T = {T}, solved: whole processes, {seeds * options.runs} seeds:\n")
    say(table(found, labels))
    judged = {}
    if TORCH.name in found and T == STEPS:
        judged[""] = measure.ratio(walls(found[TORCH.name]), walls(found[MINIRNN])).median
    demands = [bars.at_least(f"cold start to adding T = {STEPS} solved ≥ 3 times as fast as torch", judged, 3.0)]
    say("\n" + bars.lines(demands))
    return {"T": T, "processes, by run and seed": found, "bars": [bar._asdict() for bar in demands]}


def collect(labels: tables.Labels, T: int, seeds: int, runs: int, threads: int) -> Found:
    """Run the processes in turns, saying on stderr how each went."""
    found: Found = {name: [[] for _ in range(runs)] for name in labels}
    for r, k, name in itertools.product(range(runs), range(seeds), labels):
        seed = r * seeds + k
        one = process(name, T, seed, threads)
        found[name][r].append(one)
        print(f"seed {seed}, {labels[name]}: {one['seconds']:.1f} s, {one['updates']:,} updates", file=sys.stderr)
    return found


def process(name: str, T: int, seed: int, threads: int) -> dict[str, Any]:
    """Run one process; return what it said and the seconds that it took, as seen from outside."""
    options = ["--with", name, "--steps-in-time", str(T), "--seed", str(seed), "--threads", str(threads)]
    start = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.cold_adding", *options], cwd=ROOT, capture_output=True, text=True
    )
    seconds = time.perf_counter() - start
    if done.returncode:
        raise RuntimeError(f"cold: {name} did not solve adding, T = {T}, seed {seed}: {done.stdout}{done.stderr}")
    return {"seconds": seconds, **json.loads(done.stdout)}


def walls(processes: list[list[dict[str, Any]]]) -> measure.Times:
    """Return the seconds of whole processes, by run and seed."""
    return [[one["seconds"] for one in run] for run in processes]


def table(found: Found, labels: tables.Labels) -> str:
    """Return one row a library: seconds in all and for the import, updates, ms an update, and the ratio."""
    rows = []
    for name, processes in found.items():
        spread, ratio = measure.spread(walls(processes)), measure.ratio(walls(processes), walls(found[MINIRNN]))
        each = [one for run in processes for one in run]
        imports = statistics.median(one["seconds to import"] for one in each)
        updates = sorted(one["updates"] for one in each)
        update = statistics.median(1e3 * one["seconds to learn"] / one["updates"] for one in each)
        counted = f"{statistics.median(updates):,.0f}", f"{updates[0]:,} … {updates[-1]:,}"
        cells = f"{spread.median:.2f}", f"{spread.low:.2f} … {spread.high:.2f}", f"{imports:.2f}", *counted
        rows.append((labels[name], *cells, f"{update:.2f}", f"{ratio.median:.2f}"))
    header = "", "s in all", "quartiles", "s to import", "updates", "from … to", "ms an update", "× minirnn"
    return measure.markdown(header, rows)
