"""Hochreiter & Schmidhuber 1997: adding, temporal order and the embedded Reber grammar with LSTM."""

import itertools
import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from benchmarks.papers.base import COLOURS, Figures, Job, Line, Paper, Published, Results, counted, median, percent
from minirnn.layers import LSTMLayer, RecurrentLayer, SequenceModel
from minirnn.layers.plain import Linear
from minirnn.losses import cross_entropy, mse
from minirnn.optim import Adam
from minirnn.tasks import EmbeddedReberTask, OriginalAddingTask, TemporalOrderTask
from minirnn.tasks.adding import TOLERANCE
from minirnn.training import fit, measure
from minirnn.training.history import History

BATCH = 16
PAPERS_GATES = (-3.0, -6.0)
"""The paper's biases of the input gates for adding, block by block: the cells begin closed."""
OPEN = 6.0
"""The bias that holds the forget gate open, σ(6) = 0.998: the paper's LSTM has none."""
LATEST, TESTED = 2000, 2560
"""The paper's: training ends when so many sequences running are right, and so many are tested then."""
TEST_STRINGS = 256

ADDING, CLOSED, AJAR = "adding, T = {T}", "input gates −3, −6", "input gates 0"
ORDER = "temporal order, T = 100, two symbols"
REBER = "embedded Reber grammar"
ELMAN_NOW, ELMAN_THEN = "Elman, gradient all the way back", "Elman, gradient one step back"


# --- models -----------------------------------------------------------------------------------------------------------


def lstm(
    D: int, H: int, P: int, rng: Any, gates: Sequence[float], forget: float, readout: Any = "last"
) -> SequenceModel:
    """Build an LSTM whose input gates begin with these biases, in turn."""
    layer = LSTMLayer(D, H, forget_bias=forget, rng=rng)
    assert layer.b_h is not None
    bias = layer.b_h.data.copy()
    bias[:H] = np.resize(gates, H)
    layer.b_h.data = bias
    return SequenceModel(layer, Linear(H, P, rng=rng), readout=readout)


# --- trainings --------------------------------------------------------------------------------------------------------


def adding(*, seed: int, T: int, gates: Sequence[float], limit: int) -> Figures:
    """Train until 2,000 sequences running are right; return how many sequences that took, and the share wrong after."""
    task = OriginalAddingTask(T)
    for_model, for_data = np.random.default_rng(seed).spawn(2)
    model = lstm(2, 4, 1, for_model, gates, OPEN)
    streak = _Streak()
    history = fit(
        model,
        task.batches(BATCH, for_data),
        loss=mse,
        optimizer=Adam(model.parameters(), lr=0.01),
        max_updates=limit // BATCH,
        clip_norm=1.0,
        metrics={"wrong": streak},
        stop=lambda history: streak.right >= LATEST,
        progress=False,
    )
    wrong = measure(model, task, task.evaluation_batch(TESTED, seed))
    return {"sequences": history.updates * BATCH if streak.right >= LATEST else math.inf, "wrong": wrong}


class _Streak:
    """A metric, the share wrong, that counts how many sequences running have been right."""

    right = 0

    def __call__(self, predictions: Any, y: Any) -> float:
        wrong = np.abs(predictions - y) >= TOLERANCE
        self.right = 0 if wrong.any() else self.right + len(y)
        return float(wrong.mean())


def order(*, seed: int, T: int, limit: int) -> Figures:
    """Train on temporal order until none of 256 held-out sequences is wrong; return how many sequences that took."""
    for_model, for_data = np.random.default_rng(seed).spawn(2)
    model = lstm(6, 4, 4, for_model, PAPERS_GATES, OPEN)
    return _until_right(model, task := TemporalOrderTask(T), task.batches(BATCH, for_data), seed, limit, rate=0.01)


def reber(*, seed: int, limit: int) -> Figures:
    """Train an LSTM on the embedded Reber grammar, in the same way."""
    for_model, for_data = np.random.default_rng(seed).spawn(2)
    model = lstm(7, 16, 7, for_model, (0.0,), 1.0, "all")
    return _until_right(model, task := EmbeddedReberTask(), task.batches(BATCH, for_data), seed, limit, rate=0.03)


def reber_elman(*, seed: int, limit: int, back: int | None) -> Figures:
    """Train an Elman layer on it; the gradient goes ``back`` so many steps, with an update at every step, or all."""
    for_model, for_data = np.random.default_rng(seed).spawn(2)
    layer = RecurrentLayer(7, 15, recurrent_initializer="glorot", rng=for_model)
    model, task = SequenceModel(layer, Linear(15, 7, rng=for_model)), EmbeddedReberTask()
    tbptt = None if back is None else (1, back)
    return _until_right(model, task, _of_one_length(task, for_data), seed, limit, rate=0.01, tbptt=tbptt)


def _of_one_length(task: Any, rng: np.random.Generator) -> Iterator[tuple[Any, Any]]:
    """Yield mini-batches of strings of one length, as soon as there are enough of it: their last steps go together."""
    waiting: dict[int, list[tuple[Any, Any]]] = {}
    for x, y, lengths in task.batches(BATCH, rng):
        for n, length in enumerate(lengths):
            rows = waiting.setdefault(int(length), [])
            rows.append((x[:length, n], y[:length, n]))
            if len(rows) == BATCH:
                yield tuple(np.stack(part, axis=1) for part in zip(*rows, strict=True))  # type: ignore[misc]
                rows.clear()


def _until_right(
    model: SequenceModel, task: Any, batches: Any, seed: int, limit: int, *, rate: float, tbptt: Any = None
) -> Figures:
    """Train until nothing held out is wrong, looking every few hundred sequences."""
    held_out = task.evaluation_batch(TEST_STRINGS, seed)
    seen = _Counter(batches, limit)
    wrong = [1.0]

    def done(history: History) -> bool:
        if seen.passed_mark():
            wrong.append(measure(model, task, held_out))
        return not wrong[-1]

    adam = Adam(model.parameters(), lr=rate)
    settings: dict[str, Any] = {"clip_norm": 1.0, "stop": done, "progress": False, "metrics": {}, "tbptt": tbptt}
    fit(model, seen, loss=cross_entropy, optimizer=adam, **settings)
    return {"sequences": math.inf if wrong[-1] else seen.count, "wrong": wrong[-1]}


class _Counter:
    """Passes on batches until so many sequences are through."""

    EVERY = 320  # sequences between two looks

    def __init__(self, batches: Iterator[Any], limit: int) -> None:
        self.batches, self.limit = batches, limit
        self.count = self._looked = 0

    def __iter__(self) -> Iterator[Any]:
        while self.count < self.limit:
            batch = next(self.batches)
            self.count += batch[0].shape[1]
            yield batch

    def passed_mark(self) -> bool:
        """Whether it is time to look, once for each mark."""
        due = self.count // self.EVERY > self._looked // self.EVERY
        if due:
            self._looked = self.count
        return due


# --- the experiments --------------------------------------------------------------------------------------------------

PUBLISHED = {100: (74_000, "1 of 2,560"), 500: (209_000, "0 of 2,560")}
"""Sequences that adding took, and how many were wrong then, by T."""
PUBLISHED_ORDER, PUBLISHED_REBER = 31_390, 8_440


def jobs(full: bool, seeds: Sequence[int]) -> list[Job]:
    """Return adding with the input gates closed and ajar, temporal order, and Reber's grammar with LSTM and Elman."""
    made = []
    for T in (500, 100):
        limit = 3 * PUBLISHED[T][0]
        for gates, biases in ((CLOSED, PAPERS_GATES), (AJAR, (0.0,))):
            if T > 100 and gates == AJAR and not full:
                continue  # it takes longest, and T = 100 shows the same
            name = f"{ADDING.format(T=T)}, {gates}"
            made += [Job(name, seed, adding, {"T": T, "gates": biases, "limit": limit}) for seed in seeds]
    limit = 3 * PUBLISHED_REBER
    for name, back in ((ELMAN_THEN, 1), (ELMAN_NOW, None)):
        made += [Job(f"{REBER}, {name}", seed, reber_elman, {"limit": limit, "back": back}) for seed in seeds]
    made += [Job(f"{REBER}, LSTM", seed, reber, {"limit": limit}) for seed in seeds]
    made += [Job(ORDER, seed, order, {"T": 100, "limit": 3 * PUBLISHED_ORDER}) for seed in seeds]
    return made


def lines(results: Results) -> list[Line]:
    """Return a line for each experiment."""
    made = []
    for T, (sequences, wrong) in PUBLISHED.items():
        made += _adding(T, sequences, wrong, results)
    made += _sequences(ORDER, PUBLISHED_ORDER, results)
    made += _sequences(f"{REBER}, LSTM", PUBLISHED_REBER, results)
    if found := results.of(name := f"{REBER}, {ELMAN_THEN}", "sequences"):
        failed = all(map(math.isinf, found))
        made.append(
            _line(
                f"{name}: sequences",
                counted(found),
                Published("0 % of the runs"),
                "no run reaches it",
                failed,
                name,
                results,
            )
        )
    if found := results.of(name := f"{REBER}, {ELMAN_NOW}", "sequences"):
        made.append(_line(f"{name}: sequences", counted(found), None, "", None, name, results))
    return made


def _adding(T: int, sequences: int, wrong: str, results: Results) -> list[Line]:
    closed, ajar = (f"{ADDING.format(T=T)}, {gates}" for gates in (CLOSED, AJAR))
    made = _sequences(closed, sequences, results)
    if made:
        found = results.of(closed, "wrong")
        text, rule = f"{closed}: share of 2,560 wrong", "median < 1 %"
        made.append(Line(text, percent(found), Published(wrong), rule, median(found) < 0.01))
    if found := results.of(ajar, "sequences"):
        worse = bool(made) and median(found) > median(results.of(closed, "sequences"))
        made.append(_line(f"{ajar}: sequences", counted(found), None, "more than with −3, −6", worse, ajar, results))
    return made


def _sequences(name: str, published: int, results: Results) -> list[Line]:
    found = results.of(name, "sequences")
    if not found:
        return []
    passed = median(found) <= published
    return [
        _line(
            f"{name}: sequences",
            counted(found),
            Published(f"{published:,}"),
            "median ≤ published",
            passed,
            name,
            results,
        )
    ]


def _line(what: str, ours: str, published: Any, rule: str, passed: bool | None, name: str, results: Results) -> Line:
    return Line(what, ours, published, rule, passed, results.seconds(name))


def draw(axes: Sequence[Any], results: Results) -> None:
    """Draw the sequences that each run took; one that did not get there stands at the right edge."""
    (panel,) = axes
    names = list(dict.fromkeys(r.setting for r in results))
    found = {name: results.of(name, "sequences") for name in names}
    edge = 2 * max([v for values in found.values() for v in values if math.isfinite(v)], default=1.0)
    for i, (name, colour) in enumerate(zip(names, itertools.cycle(COLOURS))):
        reached = [v for v in found[name] if math.isfinite(v)]
        panel.plot(reached, [i] * len(reached), "o", color=colour)
        missed = len(found[name]) - len(reached)
        panel.plot([edge] * missed, [i] * missed, "x", color=colour)
        if published := _published(name):
            panel.plot([published], [i], "|", color="#000000", markersize=18)
    panel.set_yticks(range(len(names)), names)
    panel.set(xscale="log", xlabel="sequences until solved; | published; × not solved")
    panel.invert_yaxis()


def _published(name: str) -> int | None:
    adding_at = {f"{ADDING.format(T=T)}, {CLOSED}": sequences for T, (sequences, _) in PUBLISHED.items()}
    return (adding_at | {ORDER: PUBLISHED_ORDER, f"{REBER}, LSTM": PUBLISHED_REBER}).get(name)


PAPER = Paper(
    name="hochreiter",
    what="adding, temporal order and the embedded Reber grammar with LSTM (Hochreiter & Schmidhuber 1997)",
    title="Hochreiter & Schmidhuber 1997, Long short-term memory",
    about=(
        "Adding as it was first posed (experiment 4), with four cells whose input gates begin at −3 and −6, until "
        "2,000 sequences running are right within 0.04, and 2,560 more afterwards; temporal order of two symbols (6a), "
        "and the embedded Reber grammar (1), until 256 held out are all right.",
        "Other than in the paper: Adam, clipped at 1, with mini-batches of 16, for SGD sequence by sequence; full "
        "BPTT, for a truncated gradient; a forget gate, held open by a bias of 6 where the paper has none (Reber: 1); "
        "temporal order as Pascanu et al. draw it. Sequences are counted as they are seen.",
        "Reber: 16 cells (rate 0.03), and an Elman layer of 15 neurons (rate 0.01), whose gradient goes back one step, "
        "with an update at each, or all the way, with an update a mini-batch; its mini-batches are of strings of one "
        "length, both times, so that the seldom lengths among those held out are not trained on.",
    ),
    seeds=5,
    jobs=jobs,
    lines=lines,
    draw=draw,
    panels=1,
    width=10.0,
)
