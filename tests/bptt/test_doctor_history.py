"""`doctor(…, history=…)`: what the History of a training adds to a report."""

import math
import re

import numpy as np
import pytest
from bptt_cases import hold_report
from error_texts import raises

import minirnn as mr
from minirnn.bptt import doctor, trace
from minirnn.bptt.measures import CLIP_RANGE
from minirnn.training.history import History

T, N, D, H = 9, 3, 2, 5


@pytest.fixture(scope="module")
def traced():
    layer = mr.GRULayer(D, H, dtype=np.float64, rng=0)
    return trace(layer, np.random.default_rng(1).normal(size=(T, N, D)), lambda outputs: (outputs[-1] ** 2).sum())


def history_of(norms, losses=None, clip_norm=None):
    history = History()
    losses = np.linspace(2.0, 1.0, len(norms)) if losses is None else losses
    for k, (norm, loss) in enumerate(zip(norms, losses, strict=True)):
        history.append(float(loss), float(norm), float(k))
    history.clip_norm = clip_norm
    return history


def added(traced, history):
    """Return what a history adds: the findings' texts, and the advice's."""
    alone, report = doctor(traced), doctor(traced, history=history)
    hold_report(report)
    assert report.verdict == alone.verdict
    assert report.findings[: len(alone.findings)] == alone.findings
    assert report.advice[: len(alone.advice)] == alone.advice
    findings, advice = report.findings[len(alone.findings) :], report.advice[len(alone.advice) :]
    return [f.text for f in findings], [f.text for f in advice]


NORMS = np.random.default_rng(3).uniform(0.8, 1.2, 200)


def spiked(at, value):
    norms = NORMS.copy()
    norms[at] = value
    return norms


CASES = {
    "steady": history_of(NORMS),
    "clipped now and then": history_of(spiked(7, 40.0), clip_norm=2.0),
    "always clipped": history_of(NORMS, clip_norm=0.01),
    "never clipped": history_of(NORMS, clip_norm=50.0),
    "growing": history_of(np.geomspace(1, 100, 200), np.full(200, 2.0)),
    "growing, and learning": history_of(np.geomspace(1, 100, 200)),
    "growing, and learning below 0": history_of(np.geomspace(1, 100, 200), np.linspace(-1.0, -9.0, 200)),
    "gone": history_of(np.geomspace(1, 1e-4, 200), np.full(200, 2.0)),
    "gone, and learning": history_of(np.geomspace(1, 1e-4, 200)),
    "exactly 0": history_of(np.zeros(200), np.full(200, 2.0), clip_norm=1.0),
    "a spike": history_of(spiked(122, 80.0)),
    "a threshold above the median, below the mean": history_of(spiked(3, 1e6), clip_norm=0.9),
    "three updates": history_of([1.0, 100.0, 3.0], clip_norm=0.1),
    "one update": history_of([1.0]),
    "no updates": History(),
}


# --- figures ----------------------------------------------------------------------------------------------------------


def test_the_figures_are_those_of_the_updates(traced):
    rng = np.random.default_rng(5)
    norms, losses = rng.uniform(0.1, 4.0, 50), rng.uniform(1.0, 2.0, 50)
    f = doctor(traced, history=history_of(norms, losses, clip_norm=1.5)).figures
    first, last = sorted(norms[:5])[2], sorted(norms[-5:])[2]
    assert f["updates"] == 50
    assert (f["gradient_norm_first"], f["gradient_norm_last"]) == (first, last)
    assert f["gradient_norm_drift"] == last / first
    assert (f["loss_first"], f["loss_last"]) == (sorted(losses[:5])[2], sorted(losses[-5:])[2])
    assert f["gradient_norm_mean"] == pytest.approx(sum(norms) / 50, rel=1e-14)
    assert f["gradient_norm_median"] == pytest.approx(sum(sorted(norms)[24:26]) / 2, rel=1e-14)
    assert f["gradient_norm_largest"] == max(norms) == norms[f["largest_at"] - 1]
    assert f["spike"] == max(norms) / f["gradient_norm_median"]
    assert f["clipped_share"] == sum(n > 1.5 for n in norms) / 50
    assert f["clipped_share_last"] == sum(n > 1.5 for n in norms[-5:]) / 5
    assert f["clip_ratio"] == pytest.approx(1.5 * 50 / sum(norms), rel=1e-14)


def test_without_a_history_there_are_none_of_them(traced):
    alone, with_history = doctor(traced).figures, doctor(traced, history=CASES["always clipped"]).figures
    new = with_history.keys() - alone.keys()
    assert {"updates", "clip_norm", "clipped_share", "gradient_norm_drift"} <= new
    assert {name: with_history[name] for name in alone} == alone
    for name in new:
        assert f"``{name}``" in doctor.__doc__


def test_what_fit_returns_will_do():
    task = mr.tasks.AddingTask(T=6)
    model = mr.SequenceModel(mr.GRULayer(2, H, rng=0), mr.Linear(H, 1, rng=1), readout="last")
    adam = mr.optim.Adam(model.parameters(), 0.01)
    history = mr.training.fit(model, task, optimizer=adam, max_updates=40, rng=2, clip_norm=0.5, progress=False)
    x, y = task.batch(4, rng=3)
    report = doctor(model, x, lambda predictions: mr.losses.mse(predictions, y), history=history)
    assert report.figures["clipped_share"] == history.clipped
    assert report.figures["clip_norm"] == 0.5


# --- sentences --------------------------------------------------------------------------------------------------------


def test_a_steady_training(traced):
    f = doctor(traced, history=CASES["steady"]).figures
    findings, advice = added(traced, CASES["steady"])
    assert findings == [
        "In the training of 200 updates the norm of all gradients was "
        f"{f['gradient_norm_mean']:.3g} on average: {f['gradient_norm_first']:.3g} in the first tenth and "
        f"{f['gradient_norm_last']:.3g} in the last (medians), {f['gradient_norm_drift']:.3g} times as much, while the "
        "loss went from 1.95 to 1.05.",
        f"The largest norm, {max(NORMS):.3g} at update {NORMS.argmax() + 1}, is {f['spike']:.3g} times the median of "
        f"{f['gradient_norm_median']:.3g}.",
        "Nothing was clipped in 200 updates: there was no clip_norm.",
    ]
    assert advice == []


RULE = f"between {0.5 * NORMS.mean():.3g} and {10 * NORMS.mean():.3g} (Pascanu et al. 2013)"
TOLD = {  # how the last finding begins, and what the one advice holds, if there is one
    "clipped now and then": ("clip_norm = 2 clipped 0.5 % of the updates, 0 % of the last tenth. It is 1.67", None),
    "always clipped": (
        "clip_norm = 0.01 clipped 100 % of the updates, 100 % of the last tenth. It is ",
        f"Raise clip_norm from 0.01 to about the median norm, {np.median(NORMS):.3g}: .*, here {re.escape(RULE)}",
    ),
    "never clipped": (
        "clip_norm = 50 clipped 0 % of the updates: it did nothing. It is ",
        f"Lower clip_norm, or leave it out: at 50 .* norm was {max(NORMS):.3g}. .*, here {re.escape(RULE)}",
    ),
    "growing": ("", "Lower the learning rate: .* grown 64.4-fold in training, .* not fallen .from 2 to 2"),
    "growing, and learning": ("", "Watch the gradient's norm: .* grown 64.4-fold .* fell .from 1.95 to 1.05"),
    "growing, and learning below 0": ("", "Watch"),
    "gone": ("", "Do not wait for more of the same: 0.000241 of .* not fallen .from 2 to 2"),
    "gone, and learning": ("", None),
    "a spike": ("", "Clip: one update had 7"),
    "a threshold above the median, below the mean": ("clip_norm = 0.9 clipped ", None),
    "three updates": ("", None),
    "one update": ("", None),
    "no updates": ("The history has 0 updates, so that it says nothing of the training.", None),
}


@pytest.mark.parametrize("name", TOLD)
def test_what_is_said_and_what_there_is_to_try(traced, name):
    findings, advice = added(traced, CASES[name])
    last, to_try = TOLD[name]
    assert findings[-1].startswith(last)
    assert len(advice) == (to_try is not None)
    assert all(re.match(to_try, text) for text in advice), advice


@pytest.mark.parametrize(
    ("clip", "begin"),
    [
        (0.99 * CLIP_RANGE[0], "Raise clip_norm"),
        (1.01 * CLIP_RANGE[0], None),
        (0.99 * CLIP_RANGE[1], None),
        (1.01 * CLIP_RANGE[1], "Lower clip_norm"),
    ],
)
def test_the_rule_is_that_of_the_paper_on_this_historys_own_mean(traced, clip, begin):
    _, advice = added(traced, history_of(np.full(100, 3.0), clip_norm=clip * 3.0))
    assert [text[: len(begin or "")] for text in advice] == ([] if begin is None else [begin])


def test_norms_that_are_0_have_no_ratios(traced):
    assert added(traced, CASES["exactly 0"])[0]
    figures = doctor(traced, history=CASES["exactly 0"]).figures
    assert {"gradient_norm_drift", "spike", "clip_ratio"}.isdisjoint(figures)
    assert figures["gradient_norm_last"] == 0
    assert not any(isinstance(v, float) and math.isnan(v) for v in figures.values())


# --- arguments --------------------------------------------------------------------------------------------------------


def test_what_is_no_history(traced):
    with raises(TypeError, "doctor: history must be a History, got [1.0] (list): pass what fit returned"):
        doctor(traced, history=[1.0])
