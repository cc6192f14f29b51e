"""Pham, Bluche, Kermorvant & Louradour 2014: dropout between layers, and what it does on the recurrent connections."""

import importlib.util
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from benchmarks.papers.base import COLOURS, Figures, Job, Line, Paper, Published, Results, counted, median, percent
from benchmarks.papers.dropped import BETWEEN, EVERYWHERE, SEQUENCE, WITHOUT, P, build
from benchmarks.papers.dropped import DroppedEveryStep as DroppedEveryStep
from minirnn.arguments import Array
from minirnn.autograd.gradients import grad
from minirnn.autograd.tensor import Tensor
from minirnn.layers import SequenceModel
from minirnn.optim import Adam
from minirnn.tasks import DigitsTask, SequenceTask, TemporalOrderTask
from minirnn.tasks.recorded import take
from minirnn.training import fit, measure, until_solved

COLOUR_OF = dict(zip((WITHOUT, BETWEEN, EVERYWHERE, SEQUENCE), (COLOURS[6], *COLOURS[:3]), strict=True))


# --- the way back -----------------------------------------------------------------------------------------------------

STEPS, WIDTH, ROWS, MASKS = (1, 2, 5, 10, 50), 100, 100, 10
"""How many steps it is looked back; H; N; and how often masks are drawn."""


def paths(*, seed: int, placement: str, steps: Sequence[int] = STEPS) -> Figures:
    """Measure ∂h_t/∂h_{t-k} of two linear layers with W_hh = 1, in training mode.

    Each neuron of each row is one path back through time, of factor 1 where nothing is dropped. The figures, of both
    layers together: the share of paths left (of another factor than 0), the mean and the median factor with masks drawn
    once; and, with masks drawn ten times, the least and the largest factor, and the largest change of a factor, and of
    a prediction, from one drawing to another.
    """
    for_model, for_data = np.random.default_rng(seed).spawn(2)
    linear: dict[str, Any] = {"activation": "identity", "recurrent_initializer": "identity", "dtype": np.float64}
    model = build(placement, (3, WIDTH, WIDTH, 1), for_model, **linear)
    x, states = for_data.standard_normal((max(steps), ROWS, 3)), for_data.standard_normal((2, ROWS, WIDTH))
    figures: Figures = {}
    for k in steps:
        drawn, predictions = (
            np.stack(a) for a in zip(*(factors(model, x[:k], states) for _ in range(MASKS)), strict=True)
        )
        found = {"left": np.mean(drawn[0] != 0), "mean": drawn[0].mean(), "median": np.median(drawn[0])}
        found |= {"least": drawn.min(), "largest": drawn.max()}
        found |= {
            "change of factors": np.ptp(drawn, axis=0).max(),
            "change of predictions": np.ptp(predictions, axis=0).max(),
        }
        figures |= {f"{name}, {k} steps back": float(value) for name, value in found.items()}
    return figures


def factors(model: SequenceModel, x: Array, states: Array) -> tuple[Array, Array]:
    """Return ∂h_T/∂h_0 of each layer, (layers, N, H), and the predictions.

    With W_hh = 1 the Jacobian is diagonal, so that the gradient of the sum of h_T is all of it.
    """
    before = tuple(Tensor(state, requires_grad=True) for state in states)
    predictions, after = model(x, before)
    pairs = zip(after, before, strict=True)
    return np.stack([grad(h_T.sum(), h_0, retain_graph=True)[0].numpy() for h_T, h_0 in pairs]), predictions.numpy()


# --- the trainings ----------------------------------------------------------------------------------------------------

HIDDEN, BATCH, RATE, CLIP = 64, 32, 1e-3, 1.0
T, UPDATES, TESTED, INTERVAL = 50, 3000, 10_000, 100
IMAGES, OF_DIGITS = 200, 2000


def temporal_order(*, seed: int, placement: str, T: int, updates: int, p: float = P) -> Figures:
    """Train two layers on temporal order until 1,000 held-out sequences say that it is solved.

    The figures are the updates made and the share of 10,000 new sequences that is wrong.
    """
    task, (for_model, for_data, for_tests) = TemporalOrderTask(T), np.random.default_rng(seed).spawn(3)
    model = build(placement, (task.input_size, HIDDEN, HIDDEN, task.output_size), for_model, p)
    made = _train(model, task, for_data, updates, held_out=True, evaluate_every=INTERVAL, stop=until_solved(task))
    return {"updates": float(made), "wrong": measure(model, task, task.batch(TESTED, for_tests))}


def few_digits(*, seed: int, placement: str, images: int, updates: int, draws: int = 5, p: float = P) -> Figures:
    """Train a layer on a few of the digits, read in 8 rows; the figure is the share wrong of all others.

    It is the mean over ``draws`` trainings, each with weights, masks and images of its own: the share wrong differs
    more from one choice of images to another than from one placement of dropout to another.
    """
    runs = [_few_digits(rng, placement, images, updates, p) for rng in np.random.default_rng(seed).spawn(draws)]
    return {name: sum(run[name] for run in runs) / draws for name in runs[0]}


def _few_digits(rng: np.random.Generator, placement: str, images: int, updates: int, p: float) -> Figures:
    for_model, for_data, for_choice = rng.spawn(3)
    task = FewDigits(images, for_choice)
    model = build(placement, (task.input_size, HIDDEN, task.output_size), for_model, p)
    _train(model, task, for_data, updates)
    return {"wrong": measure(model, task, task.held_out), "wrong in training": measure(model, task, task.train)}


def _train(model: SequenceModel, task: SequenceTask, rng: np.random.Generator, updates: int, **settings: Any) -> int:
    """Train with Adam; return how many updates were made."""
    adam = Adam(model.parameters(), lr=RATE)
    arguments: dict[str, Any] = {"batch": BATCH, "rng": rng, "clip_norm": CLIP, "progress": False, "metrics": {}}
    return fit(model, task, optimizer=adam, max_updates=updates, **arguments, **settings).updates


class FewDigits(DigitsTask):
    """`DigitsTask` with as many images to train on as are wanted, chosen at random; all others are held out."""

    def __init__(self, images: int, rng: np.random.Generator) -> None:
        super().__init__()
        (x, y), (more_x, more_y) = self.train, self.held_out
        both = np.concatenate([x, more_x], axis=1), np.concatenate([y, more_y])
        order = rng.permutation(len(both[1]))
        self._keep(train=take(both, order[:images]), held_out=take(both, order[images:]))


# --- the experiments --------------------------------------------------------------------------------------------------

NEEDED = "sklearn"


def jobs(full: bool, seeds: Sequence[int]) -> list[Job]:
    """Return all jobs; the whole run has temporal order at T = 100 and with p = 0.25, and other numbers of images."""
    made = [_temporal_order(placement, T, P, seed) for placement in ORDERED for seed in seeds]
    if full:
        made += [_temporal_order(placement, 2 * T, P, seed) for placement in ORDERED for seed in seeds]
        made += [_temporal_order(placement, T, P / 2, seed) for placement in ORDERED[:-1] for seed in seeds]
    if _has_digits():
        made += [
            Job(
                of_digits(placement, images),
                seed,
                few_digits,
                {"placement": placement, "images": images, "updates": OF_DIGITS},
            )
            for images in ((IMAGES // 2, IMAGES, 2 * IMAGES) if full else (IMAGES,))
            for placement in (EVERYWHERE, BETWEEN, WITHOUT)
            for seed in seeds
        ]
    return made + [Job(of_paths(at), seed, paths, {"placement": at}) for at in (EVERYWHERE, BETWEEN) for seed in seeds]


ORDERED = (EVERYWHERE, SEQUENCE, BETWEEN, WITHOUT)
"""The placements on temporal order, those that take longest first."""


def _temporal_order(placement: str, length: int, p: float, seed: int) -> Job:
    arguments = {"placement": placement, "T": length, "updates": UPDATES, "p": p}
    return Job(of_order(placement, length, p), seed, temporal_order, arguments)


def _has_digits() -> bool:
    return importlib.util.find_spec(NEEDED) is not None


def of_paths(placement: str) -> str:
    """Return the name of a setting."""
    return f"paths back, {placement}"


def of_order(placement: str, length: int = T, p: float = P) -> str:
    """Return the name of a setting."""
    return f"temporal order, T = {length}, {placement}" + f", p = {p}" * (p != P)


def of_digits(placement: str, images: int = IMAGES) -> str:
    """Return the name of a setting."""
    return f"{images} digits, {placement}"


# --- the table --------------------------------------------------------------------------------------------------------

SOLVED, ERRORS = TemporalOrderTask.goal, 4
"""The share wrong below which a run has solved it; and how many standard errors off a mean or a share may be."""
NEAR, FAR = STEPS[:-1], STEPS[-1]
UNTOUCHED = Published("recurrent connections not affected")


def lines(results: Results) -> list[Line]:
    """Return the lines of all settings that there are results of."""
    made = [*_untouched(results), *_thinned(results)]
    names = sorted({r.setting for r in results if not r.setting.startswith("paths")}, key=_in_order)
    made += [_order(name, results) for name in names if name.startswith("temporal order")]
    digits = [_digits(name, results) for name in names if " digits, " in name]
    if not digits and not _has_digits():
        digits = [Line(f"{IMAGES} digits", 'left out: needs scikit-learn, try pip install "minirnn[data]"')]
    return made + digits


def _in_order(name: str) -> tuple[int, str, str, int]:
    """Sort by experiment, the smaller T or number of images first, and then by placement."""
    before, _, after = name.partition(f", {_placement(name)}")
    return len(before), before, after, list(COLOUR_OF).index(_placement(name))


def _placement(name: str) -> str:
    """Return the placement in the name of a setting."""
    return next(placement for placement in COLOUR_OF if f", {placement}" in name)


def _untouched(results: Results) -> list[Line]:
    name = of_paths(BETWEEN)
    least, largest, changes, acted = (
        results.of(name, f"{figure}, {FAR} steps back")
        for figure in ("least", "largest", "change of factors", "change of predictions")
    )
    if not least:
        return []
    exact = set(least + largest) == {1.0} and set(changes) == {0.0} and min(acted) > 0
    ours = f"{min(least):g} … {max(largest):g}, changed by masks by {max(changes):g}"
    rule = "all 1, with every mask; predictions do change"
    what = f"factor of a path {FAR} steps back, {BETWEEN}"
    return [Line(what, ours, UNTOUCHED, rule, exact, results.seconds(name))]


def _thinned(results: Results) -> list[Line]:
    name, count = of_paths(EVERYWHERE), 2 * ROWS * WIDTH
    if not results.of(name, f"left, {FAR} steps back"):
        return []
    left = {k: results.of(name, f"left, {k} steps back") for k in STEPS}
    expected = {k: (1 - P) ** k for k in STEPS}
    shares = [_close(left[k], e, math.sqrt(e * (1 - e) / count)) for k, e in expected.items() if k != FAR]
    k = NEAR[-2]
    mean, middle = (results.of(name, f"{which}, {k} steps back") for which in ("mean", "median"))
    even = _close(mean, 1.0, math.sqrt((1 / expected[k] - 1) / count)) and set(middle) == {0.0}
    steps, within = ", ".join(map(str, NEAR)), f"to {ERRORS} standard errors"
    return [
        Line(
            f"paths left {steps} steps back, {EVERYWHERE}",
            ", ".join(f"{100 * median(left[k]):.2g} %" for k in NEAR),
            None,
            f"(1−p)ᵏ: {', '.join(f'{100 * expected[k]:.2g} %' for k in NEAR)}, {within}",
            all(shares),
            results.seconds(name),
        ),
        Line(f"paths left {FAR} steps back, {EVERYWHERE}", percent(left[FAR]), None, "none", not any(left[FAR])),
        Line(
            f"factor of a path {k} steps back, {EVERYWHERE}",
            f"mean {median(mean):.3f}, median {median(middle):g}",
            None,
            f"mean 1, {within}, and median 0",
            even,
        ),
    ]


def _close(values: Sequence[float], expected: float, error: float) -> bool:
    return all(abs(value - expected) <= ERRORS * error for value in values)


def _order(name: str, results: Results) -> Line:
    wrong = results.of(name, "wrong")
    in_time = [u for u, w in zip(results.of(name, "updates"), wrong, strict=True) if w < SOLVED]
    solved = len(in_time)
    ours = f"{percent(wrong)}, {solved} of {len(wrong)} solve it"
    ours += f" in {counted(in_time)} updates" if in_time else ""
    line = Line(f"{name}: sequences wrong", ours, seconds=results.seconds(name))
    if _placement(name) == SEQUENCE or not name.endswith(_placement(name)):
        return line  # shown beside the others, of another p too
    if _placement(name) == EVERYWHERE:
        return line._replace(rule="none solves it", passed=solved == 0)
    return line._replace(rule=f"all solve it, < {100 * SOLVED:g} % wrong", passed=solved == len(wrong))


def _digits(name: str, results: Results) -> Line:
    before, placement = name.rsplit(", ", 1)
    wrong = results.of(name, "wrong")
    line = Line(f"{name}: others wrong", percent(wrong), seconds=results.seconds(name))
    against = {BETWEEN: WITHOUT, EVERYWHERE: BETWEEN}.get(placement)
    other = results.of(f"{before}, {against}", "wrong")
    if not other:
        return line
    if placement == BETWEEN:
        return line._replace(rule="median not above that without dropout", passed=median(wrong) <= median(other))
    return line._replace(rule="median above feed-forward only", passed=median(wrong) > median(other))


# --- the picture ------------------------------------------------------------------------------------------------------


def draw(axes: Sequence[Any], results: Results) -> None:
    """Draw the paths left against steps back, and the share wrong of each placement, run by run, on both tasks."""
    back, order, digits = axes
    _draw_paths(back, results)
    _draw_runs(order, results, of_order, COLOUR_OF, "% of the sequences wrong", f"temporal order, T = {T}")
    _draw_runs(digits, results, of_digits, (WITHOUT, BETWEEN, EVERYWHERE), "% of the others wrong", f"{IMAGES} digits")


def _draw_paths(axes: Any, results: Results) -> None:
    for placement, style in ((BETWEEN, "o-"), (EVERYWHERE, "s-")):
        seen = {k: results.of(of_paths(placement), f"left, {k} steps back") for k in STEPS}
        shares = {k: 100 * median(values) for k, values in seen.items() if values and median(values) > 0}
        axes.plot(list(shares), list(shares.values()), style, color=COLOUR_OF[placement], label=placement)
    k = np.arange(1, FAR + 1)
    axes.plot(k, 100 * (1 - P) ** k, ":", color=COLOURS[6], label="(1 − p)ᵏ")
    axes.set(xlabel="k, steps back in time", ylabel="% of the paths left", yscale="log", ylim=(1e-3, 300))
    axes.legend(fontsize=7)


def _draw_runs(
    axes: Any,
    results: Results,
    name: Callable[[str], str],
    placements: Sequence[str] | dict[str, str],
    label: str,
    title: str,
) -> None:
    for i, placement in enumerate(placements):
        wrong = [100 * w for w in results.of(name(placement), "wrong")]
        if wrong:
            axes.plot([i] * len(wrong), wrong, "o", color=COLOUR_OF[placement], alpha=0.7)
            axes.plot([i - 0.2, i + 0.2], [median(wrong)] * 2, color=COLOUR_OF[placement])
    ticks = [placement.replace("feed-forward only", "feed-forward\nonly") for placement in placements]
    axes.set_xticks(range(len(placements)), ticks, fontsize=7, rotation=20)
    axes.set(title=title, ylabel=label, xlim=(-0.5, len(placements) - 0.5))
    axes.set_ylim(bottom=0)


PAPER = Paper(
    name="pham",
    what="dropout between the layers only against everywhere (Pham et al. 2014)",
    title="Pham, Bluche, Kermorvant & Louradour 2014, Dropout improves recurrent neural networks for handwriting "
    "recognition",
    about=(
        "The paper's point, as its abstract has it: dropout stays away from the recurrent connections, so that a "
        "network remembers as well as before. This is what is tested; its error rates are of handwriting data, and no "
        "figure here is held against them. Feed-forward only is dropout with p = 0.5 between two layers "
        "and before the head; everywhere is that, and dropout with a mask of its own at every step on what W_hh is "
        "multiplied with. recurrent_dropout is feed-forward dropout and one such mask for a whole sequence (Gal & "
        "Ghahramani 2016); it is shown and not judged.",
        f"Paths back: ∂h_t/∂h_(t−k) of two linear layers with W_hh = 1, {2 * ROWS * WIDTH:,} paths of factor 1 without "
        f"dropout. Temporal order: two tanh layers of {HIDDEN}, Adam with rate 0.001, at most {UPDATES:,} updates of "
        f"{BATCH} sequences, {TESTED:,} others tested. Digits in 8 rows: one tanh layer of {HIDDEN}, {OF_DIGITS:,} "
        f"updates, {IMAGES} images to train on and all others tested, five such choices a seed. These are layers "
        "without gates, all of whose memory goes through W_hh; the paper's have LSTM cells. Sizes and updates were "
        "chosen in trials with other seeds.",
    ),
    seeds=3,
    jobs=jobs,
    lines=lines,
    draw=draw,
    panels=3,
)
