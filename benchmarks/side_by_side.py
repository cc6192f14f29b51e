"""``layer`` and ``forward``: the recurrent layer beside its peers, shape by shape, equal results first.

    python -m benchmarks layer [--cell lstm] [--dtype float64] [--threads 2] [--peers torch,jax] [--quick]
    python -m benchmarks forward

The contestants stand in contestants.py and inference.py. Those that record the loop op by op are slower by so much that
they get an alternation of their own, beside minirnn again and with fewer turns.
"""

import argparse
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import minirnn as mr
from benchmarks import bars, contestants, inference, tables
from benchmarks.cases import OF_CELLS, Case, Contestant, Shape, check, draw, expected, results_of
from benchmarks.roster import FLOOR, JAX, MINIRNN, ONE_THREAD, TORCH, Peer
from benchmarks.rounds import Measured, Plan, alternate, rest, seconds_a_call
from minirnn.bench.cells import KINDS

SECONDS = 24.0  # for each shape at most, about: the small ones are done before
SHARE_BY_OP = 0.3  # of these, for the op-by-op contestants
TOO_LONG = 0.5  # seconds a call: an op-by-op contestant that takes longer is left out
TITLES = {
    "layer": "forward and backward with all gradients",
    "forward": "forward alone, nothing recorded",
}
Make = Callable[[Case, int], Contestant]


def run(options: argparse.Namespace, say: Callable[[str], None]) -> dict[str, Any]:
    """Measure, print as it goes, and return what goes into the JSON file."""
    gradients, cell = options.command == "layer", options.cell or "elman"
    dtype, threads = options.dtype or "float32", options.threads
    title = f"{KINDS[cell].layer.__name__}, {TITLES[options.command]}, {dtype}"
    make = (contestants if gradients else inference).MAKE
    plan = Plan(SECONDS, options.runs, options.turns, rest=rest(threads))
    peers = [peer for peer in options.peers if peer != ONE_THREAD or threads > 1]
    if options.quick:
        plan = plan._replace(seconds=0.5, fewest=3)
        if not options.named:
            peers = [peer for peer in peers if not peer.by_op]

    labels = tables.labels_of(peers)
    results: dict[Shape, Measured] = {}
    for shape in [Shape(*sizes) for sizes in options.shape or OF_CELLS[cell]]:
        ready, left_out = prepare(draw(shape, cell, dtype), peers, make, threads, gradients=gradients)
        results[shape] = measure_shape(ready, peers, plan, left_out, preparation(threads))
        say(f"\n{title}, N, T, D, H = {shape}, results equal:\n")
        say(tables.of_contestants(results[shape], labels))
    demands = demanded(results, cell, dtype, gradients=gradients, threads=threads)
    say(conclusion(results, labels, demands, threads))
    if options.plot:
        from benchmarks import plot

        plot.draw(results, labels, options.plot, f"{title}, {_threads(threads)}")
    return {
        "cell": cell,
        "dtype": dtype,
        "shapes": [_entry(*item) for item in results.items()],
        "bars": [bar._asdict() for bar in demands],
    }


def preparation(threads: int) -> Callable[[str], None]:
    """Return what gives each contestant its number of threads, and numpy's BLAS, before its turn."""

    def prepare_turn(name: str) -> None:
        if threads > 1:
            mr.set_num_threads(1 if name == ONE_THREAD.name else threads)

    return prepare_turn


def prepare(
    case: Case, peers: Iterable[Peer], make: dict[str, Make], threads: int, *, gradients: bool
) -> tuple[dict[str, Contestant], dict[str, str]]:
    """Return the contestants whose results are right, and those left out with the reason; refuse a wrong one."""
    wanted = expected(case, gradients=gradients)
    results = results_of(case.cell) if gradients else results_of(case.cell)[:1]
    ready, left_out = {MINIRNN: make[MINIRNN](case, threads)}, {}
    check(MINIRNN, ready[MINIRNN], wanted, results, case.dtype)
    for peer in peers:
        contestant = make[peer.name](case, threads)
        check(peer.label, contestant, wanted, results, case.dtype)
        if peer.by_op and (seconds := seconds_a_call(contestant.run)) > TOO_LONG:
            left_out[peer.name] = f"{seconds:.1f} s a call"
        else:
            ready[peer.name] = contestant
    return ready, left_out


def measure_shape(
    ready: dict[str, Contestant],
    peers: Iterable[Peer],
    plan: Plan,
    left_out: dict[str, str],
    prepare_turn: Callable[[str], Any],
) -> Measured:
    """Time the fast contestants in turns, then the op-by-op ones with minirnn again."""
    slow = [peer.name for peer in peers if peer.by_op and peer.name in ready]
    fast = [name for name in ready if name not in slow]
    groups = [(fast, plan._replace(seconds=plan.seconds * (1 - SHARE_BY_OP)))]
    if slow:
        groups.append(([MINIRNN, *slow], plan._replace(seconds=plan.seconds * SHARE_BY_OP, fewest=2)))
    timed = [({name: ready[name].run for name in names}, p) for names, p in groups]
    return Measured([alternate(runs, p, prepare_turn) for runs, p in timed], left_out)


def demanded(results: dict[Shape, Measured], cell: str, dtype: str, *, gradients: bool, threads: int) -> list[bars.Bar]:
    """Return the bars of this command, judged."""
    torch = tables.medians(results, TORCH.name)
    if not gradients:
        return bars.of_forward(torch)
    if threads > 1:
        return bars.of_threads(cell, tables.medians(results, ONE_THREAD.name), torch)
    if dtype == "float64":
        return bars.of_float64(cell, torch)
    if cell != "elman":
        return bars.of_gated(cell, torch)
    return bars.of_layer(torch, tables.medians(results, JAX.name), tables.medians(results, MINIRNN, FLOOR.name))


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
