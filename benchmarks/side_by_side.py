"""``layer`` and ``forward``: the recurrent layer beside its peers, shape by shape, equal results first.

    python -m benchmarks layer [--cell lstm] [--threads 2] [--peers torch,jax] [--quick]
    python -m benchmarks forward

The contestants stand in contestants.py and inference.py. Those that record the loop op by op are slower by so much that
they get an alternation of their own, beside minirnn again and with fewer turns.
"""

import argparse
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from benchmarks import bars, contestants, inference, tables
from benchmarks.cases import OF_CELLS, Case, Contestant, Shape, check, draw, expected, results_of
from benchmarks.roster import FLOOR, JAX, MINIRNN, TORCH, Peer
from benchmarks.rounds import Measured, Plan, alternate, rest, seconds_a_call
from minirnn.bench.cells import KINDS

SECONDS = 24.0  # for each shape at most, about: the small ones are done before
SHARE_BY_OP = 0.3  # of these, for the op-by-op contestants
TOO_LONG = 0.5  # seconds a call: an op-by-op contestant that takes longer is left out
TITLES = {
    "layer": "forward and backward with all gradients, float32",
    "forward": "forward alone, nothing recorded, float32",
}
Make = Callable[[Case, int], Contestant]


def run(options: argparse.Namespace, say: Callable[[str], None]) -> dict[str, Any]:
    """Measure, print as it goes, and return what goes into the JSON file."""
    gradients, cell = options.command == "layer", options.cell or "elman"
    title = f"{KINDS[cell].layer.__name__}, {TITLES[options.command]}"
    make = (contestants if gradients else inference).MAKE
    plan = Plan(SECONDS, options.runs, options.turns, rest=rest(options.threads))
    peers = options.peers
    if options.quick:
        plan = plan._replace(seconds=0.5, fewest=3)
        if not options.named:
            peers = [peer for peer in peers if not peer.by_op]
    labels = tables.labels_of(peers)
    results: dict[Shape, Measured] = {}
    for shape in [Shape(*sizes) for sizes in options.shape or OF_CELLS[cell]]:
        ready, left_out = prepare(draw(shape, cell), peers, make, options.threads, gradients=gradients)
        results[shape] = measure_shape(ready, peers, plan, left_out)
        say(f"\n{title}, N, T, D, H = {shape}, results equal:\n")
        say(tables.of_contestants(results[shape], labels))
    demands = demanded(results, cell, gradients=gradients, threads=options.threads)
    say(conclusion(results, labels, demands, options.threads))
    if options.plot:
        from benchmarks import plot

        plot.draw(results, labels, options.plot, f"{title}, {_threads(options.threads)}")
    return {
        "cell": cell,
        "shapes": [_entry(*item) for item in results.items()],
        "bars": [bar._asdict() for bar in demands],
    }


def prepare(
    case: Case, peers: Iterable[Peer], make: dict[str, Make], threads: int, *, gradients: bool
) -> tuple[dict[str, Contestant], dict[str, str]]:
    """Return the contestants whose results are right, and those left out with the reason; refuse a wrong one."""
    wanted = expected(case, gradients=gradients)
    results = results_of(case.cell) if gradients else results_of(case.cell)[:1]
    ready, left_out = {MINIRNN: make[MINIRNN](case, threads)}, {}
    check(MINIRNN, ready[MINIRNN], wanted, results)
    for peer in peers:
        contestant = make[peer.name](case, threads)
        check(peer.label, contestant, wanted, results)
        if peer.by_op and (seconds := seconds_a_call(contestant.run)) > TOO_LONG:
            left_out[peer.name] = f"{seconds:.1f} s a call"
        else:
            ready[peer.name] = contestant
    return ready, left_out


def measure_shape(
    ready: dict[str, Contestant], peers: Iterable[Peer], plan: Plan, left_out: dict[str, str]
) -> Measured:
    """Time the fast contestants in turns, then the op-by-op ones with minirnn again."""
    slow = [peer.name for peer in peers if peer.by_op and peer.name in ready]
    fast = [name for name in ready if name not in slow]
    groups = [(fast, plan._replace(seconds=plan.seconds * (1 - SHARE_BY_OP)))]
    if slow:
        groups.append(([MINIRNN, *slow], plan._replace(seconds=plan.seconds * SHARE_BY_OP, fewest=2)))
    return Measured([alternate({name: ready[name].run for name in names}, p) for names, p in groups], left_out)


def demanded(results: dict[Shape, Measured], cell: str, *, gradients: bool, threads: int) -> list[bars.Bar]:
    """Return the bars of this command, judged."""
    torch = tables.medians(results, TORCH.name)
    if not gradients:
        return bars.of_forward(torch)
    if cell != "elman":
        return bars.of_gated(cell, torch, threads)
    floor = tables.medians(results, MINIRNN, FLOOR.name)
    return bars.of_layer(torch, tables.medians(results, JAX.name), floor, threads)


def conclusion(results: dict[Shape, Measured], labels: tables.Labels, demands: Sequence[bars.Bar], threads: int) -> str:
    """Return the tables of all shapes, the geometric means and the bars."""
    parts = [f"\nAll shapes, {_threads(threads)}; where minirnn is the divisor, above 1 means that it is faster:"]
    parts.append(tables.summary(results, labels))
    if slow := tables.by_op(results, labels):
        parts += ["The loop recorded op by op:", slow]
    if means := tables.geometric_means(results, labels):
        parts.append("\n".join(f"- {line}" for line in means))
    if demands:
        parts.append(bars.lines(demands))
    return "\n\n".join(parts)


def _threads(threads: int) -> str:
    return f"{threads} thread{'s' * (threads != 1)}"


def _entry(shape: Shape, measured: Measured) -> dict[str, Any]:
    medians = {name: measured.spread(name).median for name in measured.names()}
    return {
        **shape._asdict(),
        "median seconds a call": medians,
        "seconds a call, by run and turn": measured.alternations,
        "left out": measured.left_out,
    }
