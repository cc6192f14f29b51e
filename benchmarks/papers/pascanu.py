"""Pascanu, Mikolov & Bengio 2013: temporal order with plain SGD, with clipping, and with clipping and Ω."""

import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from benchmarks.papers.base import (
    COLOURS,
    Figures,
    Job,
    Line,
    Paper,
    Published,
    Results,
    counted,
    median,
    percent,
)
from minirnn import init
from minirnn.bptt import omega
from minirnn.layers import RecurrentLayer, SequenceModel
from minirnn.layers.plain import Linear
from minirnn.losses import cross_entropy
from minirnn.optim import SGD, clip_grad_norm
from minirnn.tasks import TemporalOrderTask
from minirnn.training import measure

HIDDEN, BATCH, RATE, CLIP, WEIGHT, STD = 50, 20, 0.01, 1.0, 4.0, 0.1
"""The paper's: H, N, the learning rate, the largest gradient norm, Ω's weight, and the weights' standard deviation."""
SOLVED, TESTED, CHECKED = 0.01, 10_000, 1000
"""The share wrong below which it is solved, of so many sequences; and of how many it is estimated by the way."""
INTERVAL, PARTS = 500, 10  # updates between two looks; how many lengths a look is at

METHODS = {
    "SGD": {"clip": math.inf, "weight": 0.0},
    "SGD, clipped": {"clip": CLIP, "weight": 0.0},
    "SGD, clipped, Ω": {"clip": CLIP, "weight": WEIGHT},
}
REGULARISED = "SGD, clipped, Ω"
LENGTH, LONGER = 50, (100, 200, 500, 1000)
FULL_LENGTHS, MIXED, FAR = (20, 50, 100, 150, 200), (50, 200), (500, 1000, 2000, 5000)
MIXED_TEXT = "50 to 200"
UPDATES, FULL_UPDATES = 40_000, 500_000  # at most; the paper allowed 5,000,000


# --- a training -------------------------------------------------------------------------------------------------------


def train(
    *,
    seed: int,
    shortest: int,
    longest: int,
    clip: float,
    weight: float,
    max_updates: int,
    longer: Sequence[int] = (),
) -> Figures:
    """Train until fewer than 1 % of 10,000 sequences are wrong; return how many updates it took, inf if it did not.

    Every mini-batch has a length of its own, from ``shortest`` to ``longest``. Afterwards the share wrong is measured
    on sequences that are longer, if it did. A gradient that is not finite ends the training.
    """
    for_model, for_data, for_tests = np.random.default_rng(seed).spawn(3)
    model = build(for_model)
    optimizer = SGD(model.parameters(), lr=RATE)
    figures: Figures = {"updates": math.inf, "wrong": 1.0}
    for update in range(1, max_updates + 1):
        task = TemporalOrderTask(int(for_data.integers(shortest, longest + 1)))
        x, y = task.batch(BATCH, for_data)
        try:
            step(model, optimizer, x, y, clip, weight)
        except FloatingPointError:
            break
        if update % INTERVAL == 0:
            figures["wrong"], solved = judge(model, shortest, longest, for_tests)
            if solved:
                figures["updates"] = update
                break
    for T in longer if math.isfinite(figures["updates"]) else ():
        figures[f"wrong at T = {T}"] = measure(model, at := TemporalOrderTask(T), at.batch(CHECKED, for_tests))
    return figures | {"spectral radius": float(np.abs(np.linalg.eigvals(model.recurrent.W_hh.data)).max())}


def build(rng: np.random.Generator) -> Any:
    """Build the model, tanh with all weights drawn from N(0, 0.1²)."""
    draw = init.normal(STD)
    layer = RecurrentLayer(6, HIDDEN, input_initializer=draw, recurrent_initializer=draw, rng=rng)
    return SequenceModel(layer, Linear(HIDDEN, 4, initializer=draw, rng=rng), readout="last")


def step(model: Any, optimizer: SGD, x: Any, y: Any, clip: float, weight: float) -> None:
    """Make one update: the gradient of the loss, ``weight`` times the immediate derivative of Ω, clipped together."""
    loss = cross_entropy(model(x).predictions, y)
    optimizer.zero_grad()
    loss.backward()
    if weight:
        omega(model, x, lambda predictions: cross_entropy(predictions, y)).add_to(model, weight)
    clip_grad_norm(optimizer.params, clip)
    optimizer.step()


def judge(model: Any, shortest: int, longest: int, rng: np.random.Generator) -> tuple[float, bool]:
    """Return the share of sequences wrong, and whether the task is solved: only then are all 10,000 measured."""
    wrong = wrong_of(model, shortest, longest, CHECKED, rng)
    if wrong < SOLVED:
        wrong = wrong_of(model, shortest, longest, TESTED, rng)
    return wrong, wrong < SOLVED


def wrong_of(model: Any, shortest: int, longest: int, N: int, rng: np.random.Generator) -> float:
    """Return the share wrong of N sequences, a tenth of them of one length, drawn between the two, and so on."""
    tasks = [TemporalOrderTask(int(T)) for T in rng.integers(shortest, longest + 1, size=PARTS)]
    return sum(measure(model, task, task.batch(N // PARTS, rng)) for task in tasks) / PARTS


# --- the experiments --------------------------------------------------------------------------------------------------


def setting(method: str, length: str) -> str:
    """Return the name of a setting."""
    return f"temporal order, T = {length}, {method}"


def jobs(full: bool, seeds: Sequence[int]) -> list[Job]:
    """Return every method at T = 50; the whole run adds other lengths, and one model for lengths 50 to 200."""
    lengths = FULL_LENGTHS if full else (LENGTH,)
    made = [_job(method, T, T, seed, full) for T in lengths[::-1] for method in reversed(METHODS) for seed in seeds]
    if full:
        made = [_job(REGULARISED, *MIXED, seed, full) for seed in seeds] + made
    return made


def _job(method: str, shortest: int, longest: int, seed: int, full: bool) -> Job:
    longer = () if method != REGULARISED else LONGER if shortest == longest else FAR
    arguments = {"shortest": shortest, "longest": longest, **METHODS[method], "longer": longer}
    length = str(longest) if shortest == longest else f"{shortest} to {longest}"
    return Job(setting(method, length), seed, train, arguments | {"max_updates": FULL_UPDATES if full else UPDATES})


# --- the table --------------------------------------------------------------------------------------------------------


def lines(results: Results) -> list[Line]:
    """Return a line for each setting, and one for each longer length it was tested on."""
    made = []
    for length, method in dict.fromkeys(_parts(r.setting) for r in results):
        made.append(_solved(method, length, results))
        made += _longer(setting(method, length), length, results)
    return made


def _parts(name: str) -> tuple[str, str]:
    """Return the length and the method that `setting` was given."""
    length, method = name.removeprefix("temporal order, T = ").split(", ", 1)
    return length, method


def _solved(method: str, length: str, results: Results) -> Line:
    name = setting(method, length)
    updates = results.of(name, "updates")
    solved = sum(map(math.isfinite, updates))
    what, ours = f"{name}: runs that solve it, updates", f"{solved} of {len(updates)}, {counted(updates)}"
    seconds = results.seconds(name)
    if method == REGULARISED:
        published = Published("5 of 5, one model for T = 50 to 200") if length != "20" else None
        return Line(what, ours, published, "all", solved == len(updates), seconds)
    best = results.of(setting(REGULARISED, length), "updates")
    if not best:
        return Line(what, ours, seconds=seconds)
    return Line(what, ours, None, "later than with Ω, or not at all", median(best) < median(updates), seconds)


def _longer(name: str, length: str, results: Results) -> list[Line]:
    made = []
    for figure in _tested(name, results):
        wrong = results.of(name, figure)
        line = Line(f"{name}: {figure}", percent(wrong))
        if length == MIXED_TEXT:
            line = line._replace(published=Published("0 %"), rule="median < 1 %", passed=median(wrong) < SOLVED)
        made.append(line)
    return made


def _tested(name: str, results: Results) -> list[str]:
    """Return the names of the figures on longer sequences, shortest first."""
    return list(dict.fromkeys(f for r in results if r.setting == name for f in r.figures if f.startswith("wrong at")))


# --- the picture ------------------------------------------------------------------------------------------------------


def draw(axes: Sequence[Any], results: Results) -> None:
    """Draw how many runs have solved the task against updates, and the share wrong at longer lengths."""
    left, right = axes
    last = max([u for r in results if math.isfinite(u := r.figures["updates"])], default=INTERVAL)
    for name, colour in zip(dict.fromkeys(r.setting for r in results), itertools.cycle(COLOURS)):
        updates, label = results.of(name, "updates"), name.removeprefix("temporal order, ")
        ends = sorted(filter(math.isfinite, updates))
        shares = [100 * i / len(updates) for i in range(len(ends) + 1)]
        left.step([0, *ends, 1.1 * last], [*shares, shares[-1]], where="post", color=colour, label=label)
        wrong = {int(f.split()[-1]): median(results.of(name, f)) for f in _tested(name, results)}
        if wrong:
            right.plot(list(wrong), [100 * w for w in wrong.values()], "o-", color=colour, label=label)
    left.set(xlabel="updates", ylabel="% of the runs that have solved it", ylim=(-3, 103))
    right.axhline(75, color="#000000", linestyle=":", label="guessing")
    right.set(xlabel="T that it is tested on", ylabel="% of the sequences wrong, median", xscale="log", ylim=(-3, 103))
    right.legend(fontsize=7)
    left.legend(fontsize=7)


PAPER = Paper(
    name="pascanu",
    what="temporal order with and without clipping and Ω (Pascanu, Mikolov & Bengio 2013)",
    title="Pascanu, Mikolov & Bengio 2013, On the difficulty of training recurrent neural networks",
    about=(
        "Temporal order with the paper's tanh network: 50 hidden neurons, all weights from N(0, 0.1²), biases 0, SGD "
        "with rate 0.01, mini-batches of 20; with gradients clipped at 1, and with Ω at weight 4. A run has solved it "
        "when fewer than 1 % of 10,000 new sequences are wrong. Only then, and with Ω, longer sequences are tested.",
        "Other than in the paper: at most 40,000 updates, 500,000 with --full, for 5,000,000; looked at every 500; "
        "longer sequences are 1,000 each, for 10,000.",
    ),
    seeds=5,
    jobs=jobs,
    lines=lines,
    draw=draw,
    panels=2,
)
