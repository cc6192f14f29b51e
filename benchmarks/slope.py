"""``slope``: time against the number of steps, forward and backward, and the slope of the line through it.

    python -m benchmarks slope

N = 1, D = 10, H = 16 and T = 10² … 10⁶, peers up to 10⁴. On two logarithmic axes, slope 1 means: twice as many steps
take twice as long. Gradients are held against the textbook's up to T = 10⁴, whose loop in Python is slow.
"""

import argparse
import math
import statistics
from collections.abc import Callable
from typing import Any

from benchmarks import bars, contestants, tables
from benchmarks.cases import Shape, check, draw, expected
from benchmarks.roster import MINIRNN
from benchmarks.rounds import Plan, Run, alternate, rest
from minirnn.bench import measure

LENGTHS = (100, 1_000, 10_000, 100_000, 1_000_000)
LONGEST_OF_PEERS = LONGEST_CHECKED = 10_000
N, D, H = 1, 10, 16
Times = dict[str, dict[int, measure.Times]]  # name -> T -> times


def run(options: argparse.Namespace, say: Callable[[str], None]) -> dict[str, Any]:
    """Measure, print, and return what goes into the JSON file."""
    labels = tables.labels_of(options.peers)
    lengths = [T for T in LENGTHS if not options.quick or T <= LONGEST_OF_PEERS]
    plan = Plan(2.0 if options.quick else 40.0, options.runs, options.turns, fewest=2, rest=rest(options.threads))
    runs = {(name, T): made for T in lengths for name, made in ready(T, labels, options.threads).items()}
    measured = alternate({f"{name}, T = {T}": made for (name, T), made in runs.items()}, plan)
    times: Times = {name: {T: measured[f"{name}, T = {T}"] for T in lengths if (name, T) in runs} for name in labels}
    say(f"\nTime against T, N = {N}, D = {D}, H = {H}, float32, forward and backward, gradients equal:\n")
    say(table(times, labels))
    slopes = {name: slope({T: measure.spread(t).median for T, t in own.items()}) for name, own in times.items()}
    say("\n" + "\n".join(f"- slope of {labels[name]}: {value:.3f}" for name, value in slopes.items()))
    demands = [bars.of_slope(None if options.quick else slopes[MINIRNN])]
    say("\n" + bars.lines(demands))
    return {"seconds a call, by T": times, "slopes": slopes, "bars": [bar._asdict() for bar in demands]}


def ready(T: int, labels: tables.Labels, threads: int) -> dict[str, Run]:
    """Return the contestants for one length, their results checked."""
    case = draw(Shape(N, T, D, H))
    wanted = expected(case) if T <= LONGEST_CHECKED else []
    made = {}
    for name in labels if T <= LONGEST_OF_PEERS else [MINIRNN]:
        contestant = contestants.MAKE[name](case, threads)
        check(f"{labels[name]}, T = {T}", contestant, wanted)
        made[name] = contestant.run
    return made


def slope(seconds: dict[int, float]) -> float:
    """Return the slope of log seconds against log T, by least squares."""
    return statistics.linear_regression(list(map(math.log, seconds)), list(map(math.log, seconds.values()))).slope


def table(times: Times, labels: tables.Labels) -> str:
    """Return one row a length: for each contestant the time of a call, and of a step."""
    rows = []
    for T in times[MINIRNN]:
        cells = [f"10{'⁰¹²³⁴⁵⁶⁷⁸⁹'[round(math.log10(T))]}"]
        for own in times.values():
            seconds = measure.spread(own[T]).median if T in own else None
            cells += [tables.NOTHING] * 2 if seconds is None else [f"{seconds * 1e3:,.3f}", f"{seconds * 1e6 / T:.2f}"]
        rows.append(cells)
    header = ["T", *(f"{labels[name]}, {unit}" for name in times for unit in ("ms", "µs a step"))]
    return measure.markdown(header, rows)
