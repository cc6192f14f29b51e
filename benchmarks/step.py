"""``step``: a whole training step, from the batch to the new parameters: layer, head, loss, clipping, Adam.

    python -m benchmarks step

The adding problem with an Elman layer (ReLU, identity start), N = 16, D = 2, H = 100 and T = 50, 100, 400; an LSTM at
(32, 50, 10, 20) whose last output is to be a number; a text model with each of the two: 96 characters, D = 64, H = 256,
the next character at every step. From the same start all must come to the same parameters before they are timed.
"""

import argparse
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from benchmarks import adding, bars, learners, tables
from benchmarks.cases import WrongResultError
from benchmarks.roster import CELLS, MINIRNN, TORCH
from benchmarks.rounds import Measured, Plan, Run, alternate, rest

UPDATES = 3  # before parameters are compared
TOLERANCE = 2e-6  # the root mean square of an array's differences: a thousandth of what Adam changes in these updates
CHARACTERS = 96
NAMES = (*adding.Start._fields, "embedding")


class Trained(NamedTuple):
    """What is trained, on which batches.

    Attributes
    ----------
    title : what stands above its table
    job : learners.Job
    batches : two (x, y), that are taken in turn
    """

    title: str
    job: learners.Job
    batches: list[Any]


def elman(T: int) -> Trained:
    """The adding problem."""
    rng = np.random.default_rng(T)
    title = f"Elman, ReLU, the adding problem, N, T, D, H = {adding.N}, {T}, {adding.D}, {adding.H}"
    return Trained(title, learners.Job(adding.start(rng)), [adding.batch(T, adding.N, rng) for _ in range(2)])


def lstm(N: int, T: int, D: int, H: int) -> Trained:
    """Numbers in, one number for each row out."""
    rng = np.random.default_rng(H)
    batches = [(_normal(rng, T, N, D), _normal(rng, N, 1)) for _ in range(2)]
    return Trained(f"LSTM, N, T, D, H = {N}, {T}, {D}, {H}", learners.Job(_start(rng, D, H, 1, 4), "lstm"), batches)


def text(cell: str, N: int, T: int, D: int, H: int) -> Trained:
    """Ids of characters in, the next one at every step out."""
    rng = np.random.default_rng(H)
    start = _start(rng, D, H, CHARACTERS, 4 if cell == "lstm" else 1)
    ids = [rng.integers(CHARACTERS, size=(T + 1, N)) for _ in range(2)]
    # A ReLU at its kink would turn a difference in the last digit into one that Adam makes much of.
    job = learners.Job(start, cell, "tanh", D**-0.5 * _normal(rng, CHARACTERS, D))
    name = "LSTM" if cell == "lstm" else "Elman, tanh"
    title = f"Text, {name}, {CHARACTERS} characters, N, T, D, H = {N}, {T}, {D}, {H}"
    return Trained(title, job, [(one[:-1], one[1:]) for one in ids])


def _start(rng: np.random.Generator, D: int, H: int, P: int, G: int) -> adding.Start:
    recurrent = np.hstack([np.linalg.qr(rng.normal(size=(H, H)))[0] for _ in range(G)]).astype(np.float32)
    zeros = np.zeros(G * H, np.float32), np.zeros(P, np.float32)
    return adding.Start(
        D**-0.5 * _normal(rng, D, G * H), 0.9 * recurrent, zeros[0], H**-0.5 * _normal(rng, H, P), zeros[1]
    )


def _normal(rng: np.random.Generator, *sizes: int) -> Any:
    return rng.standard_normal(sizes, np.float32)


ADDING = {f"at T = {T}": elman(T) for T in (50, 100, 400)}
GATED = {"": lstm(32, 50, 10, 20)}
TEXT = {cell: text(cell, 32, 50, 64, 256) for cell in ("elman", "lstm")}


def run(options: argparse.Namespace, say: Callable[[str], None]) -> dict[str, Any]:
    """Measure, print as it goes, and return what goes into the JSON file."""
    labels = tables.labels_of(options.peers)
    plan = Plan(1.0 if options.quick else 12.0, options.runs, options.turns, rest=rest(options.threads))
    results: dict[str, Measured] = {}
    ratios: list[dict[str, float]] = []
    for group in (ADDING, GATED, TEXT):
        ratios.append({})
        for where, trained in group.items():
            results[trained.title] = measured = Measured([alternate(ready(trained, labels, options.threads), plan)])
            say(f"\nA training step: {trained.title}, float32, parameters equal:\n")
            called = labels | {TORCH.name: CELLS[trained.job.cell]}
            say(tables.of_contestants(measured, called, unit="ms", scale=1e3))
            if ratio := measured.ratio(TORCH.name):
                ratios[-1][where] = ratio.median
    demands = [
        bars.at_least("a training step ≥ 3 times as fast as torch's, Elman, H = 100, N = 16", ratios[0], 3.0),
        bars.at_least(f"a training step ≥ 1.5 times as fast as torch's, {GATED[''].title}", ratios[1], 1.5),
    ]
    say("\n" + bars.lines(demands))
    return {
        "seconds a step": {title: measured.alternations for title, measured in results.items()},
        "bars": [bar._asdict() for bar in demands],
    }


def ready(trained: Trained, labels: dict[str, str], threads: int) -> dict[str, Run]:
    """Return the contestants, each with a model of its own, once they have shown that they learn the same."""
    job, batches = trained.job, trained.batches
    wanted = after(learners.MAKE[MINIRNN](job, threads), batches)
    for name, label in labels.items():
        check(label, after(learners.MAKE[name](job, threads), batches), wanted)
    return {name: _runner(learners.MAKE[name](job, threads), batches) for name in labels}


def after(learner: learners.Learner, batches: list[Any]) -> list[Any]:
    """Return the parameters after a few updates."""
    for k in range(UPDATES):
        learner.update(*batches[k % 2])
    return learner.parameters()


def check(label: str, parameters: list[Any], wanted: list[Any]) -> None:
    """Refuse a contestant whose parameters are not minirnn's, or not float32.

    Adam makes much of a gradient that is nearly 0, of which rounding says half: so no single entry is asked, but one
    that is off by an update, of 65,536, is found.
    """
    for name, got, want in zip(NAMES, map(np.asarray, parameters), wanted, strict=False):
        if got.dtype != np.float32:
            raise WrongResultError(f"{label}: {name} is {got.dtype}, not float32")
        if got.shape != want.shape or not (error := np.sqrt(np.mean((got - want) ** 2))) < TOLERANCE:
            off = f"by {error:.0e}" if got.shape == want.shape else f"in shape, {got.shape}"
            raise WrongResultError(f"{label}: after {UPDATES} updates {name} differs from minirnn's {off}")


def _runner(learner: learners.Learner, batches: list[Any]) -> Run:
    return lambda i: learner.update(*batches[i])
