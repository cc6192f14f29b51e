"""``step``: a whole training step, from the batch to the new parameters, on the adding problem.

    python -m benchmarks step

Layer (ReLU, identity start), head on the last state, mean squared error, clipping, Adam; N = 16, D = 2, H = 100 and
T = 50, 100, 400. From the same start all must come to the same parameters before they are timed.
"""

import argparse
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks import adding, bars, learners, tables
from benchmarks.cases import WrongResultError
from benchmarks.roster import MINIRNN, TORCH
from benchmarks.rounds import Measured, Plan, Run, alternate, rest

LENGTHS = (50, 100, 400)
UPDATES = 3  # before parameters are compared
TOLERANCE = 2e-5  # a fiftieth of what Adam changes in one update at most


def run(options: argparse.Namespace, say: Callable[[str], None]) -> dict[str, Any]:
    """Measure, print as it goes, and return what goes into the JSON file."""
    labels = tables.labels_of(options.peers)
    plan = Plan(1.0 if options.quick else 12.0, options.runs, options.turns, rest=rest(options.threads))
    results: dict[int, Measured] = {}
    for T in LENGTHS:
        results[T] = Measured([alternate(ready(T, labels, options.threads), plan)])
        say(f"\nA training step, N = {adding.N}, T = {T}, D = {adding.D}, H = {adding.H}, float32, parameters equal:\n")
        say(tables.of_contestants(results[T], labels, unit="ms", scale=1e3))
    ratios = {f"at T = {T}": r.median for T, measured in results.items() if (r := measured.ratio(TORCH.name))}
    demands = [bars.at_least("a training step ≥ 3 times as fast as torch's", ratios, 3.0)]
    say("\n" + bars.lines(demands))
    return {
        "seconds a step, by T": {T: measured.alternations for T, measured in results.items()},
        "bars": [bar._asdict() for bar in demands],
    }


def ready(T: int, labels: dict[str, str], threads: int) -> dict[str, Run]:
    """Return the contestants, each with a model of its own, once they have shown that they learn the same."""
    rng = np.random.default_rng(T)
    start = adding.start(rng)
    batches = [adding.batch(T, adding.N, rng) for _ in range(2)]
    wanted = after(learners.MAKE[MINIRNN](start, threads), batches)
    for name, label in labels.items():
        check(label, after(learners.MAKE[name](start, threads), batches), wanted)
    return {name: _runner(learners.MAKE[name](start, threads), batches) for name in labels}


def after(learner: learners.Learner, batches: list[Any]) -> list[Any]:
    """Return the parameters after a few updates."""
    for k in range(UPDATES):
        learner.update(*batches[k % 2])
    return learner.parameters()


def check(label: str, parameters: list[Any], wanted: list[Any]) -> None:
    """Refuse a contestant whose parameters are not minirnn's, or not float32."""
    for name, got, want in zip(adding.Start._fields, map(np.asarray, parameters), wanted, strict=True):
        if got.dtype != np.float32:
            raise WrongResultError(f"{label}: {name} is {got.dtype}, not float32")
        if got.shape != want.shape or not (error := np.abs(got - want).max()) < TOLERANCE:
            off = f"by {error:.0e}" if got.shape == want.shape else f"in shape, {got.shape}"
            raise WrongResultError(f"{label}: after {UPDATES} updates {name} differs from minirnn's {off}")


def _runner(learner: learners.Learner, batches: list[Any]) -> Run:
    return lambda i: learner.update(*batches[i])
