"""What `doctor` reads off the History of a training: how the gradient's norm went, and what clipping did to it."""

from collections.abc import Iterator
from typing import Protocol, runtime_checkable

import numpy as np

from minirnn.arguments import Array
from minirnn.bptt.findings import PAPER, Sentences
from minirnn.bptt.measures import CLIP_RANGE, Figures

_ENOUGH = 20  # updates: with fewer a tenth of them is one or none, and says nothing of a drift
_DRIFTED = 3.0  # a change of the norm by less than this is common in a training that goes well
_FALLEN = 0.9  # the loss has not fallen if more of it is left than this
_LOSSES = "from {loss_first} to {loss_last}"


@runtime_checkable
class Record(Protocol):
    """What is read of a `minirnn.training.History`."""

    clip_norm: float | None

    @property
    def loss(self) -> Array:
        """The loss of each update."""

    @property
    def grad_norm(self) -> Array:
        """The norm of all gradients at each update, before clipping."""


def measure_training(history: Record) -> Figures:
    """Return the figures of a training, by name; `minirnn.bptt.doctor` lists them."""
    norms, clip = history.grad_norm, history.clip_norm
    found: Figures = {"updates": len(norms)} | ({} if clip is None else {"clip_norm": clip})
    if not len(norms):
        return found
    tenth = max(1, len(norms) // 10)
    for name, values in (("loss", history.loss), ("gradient_norm", norms)):
        found |= {f"{name}_first": float(np.median(values[:tenth])), f"{name}_last": float(np.median(values[-tenth:]))}
    mean, median, largest = float(norms.mean()), float(np.median(norms)), float(norms.max())
    found |= {
        "gradient_norm_mean": mean,
        "gradient_norm_median": median,
        "gradient_norm_largest": largest,
        "largest_at": int(norms.argmax()) + 1,
    }
    ratios = {
        "gradient_norm_drift": (found["gradient_norm_last"], found["gradient_norm_first"]),
        "spike": (largest, median),
    }
    if clip is not None:
        above = norms > clip
        found |= {"clipped_share": float(above.mean()), "clipped_share_last": float(above[-tenth:].mean())}
        ratios["clip_ratio"] = clip, mean
    return found | {name: a / b for name, (a, b) in ratios.items() if b}


# --- what there is to say, and what to try ----------------------------------------------------------------------------


def _clipping(f: Figures) -> Iterator[str]:
    if not f["updates"]:
        yield "The history has {updates:updates}, so that it says nothing of the training."
    elif "clip_norm" not in f:
        yield "Nothing was clipped in {updates:updates}: there was no clip_norm."
    else:
        late = ", {clipped_share_last:percent} of the last tenth" if f["clipped_share"] else ": it did nothing"
        yield f"""clip_norm = {{clip_norm}} clipped {{clipped_share:percent}} of the updates{late}⟦. It is
            {{clip_ratio}} times the average norm; the rule is {CLIP_RANGE[0]:g} to {CLIP_RANGE[1]:g} times
            ({PAPER})⟧."""


IN_TRAINING: Sentences = (
    f"""In the training of {{updates:updates}} the norm of all gradients was {{gradient_norm_mean}} on average:
    {{gradient_norm_first}} in the first tenth and {{gradient_norm_last}} in the last (medians)⟦,
    {{gradient_norm_drift}} times as much⟧, while the loss went {_LOSSES}.""",
    """The largest norm, {gradient_norm_largest} at update {largest_at:,}, is {spike} times the median of
    {gradient_norm_median}.""",
    _clipping,
)
"""What there is to say about the figures of `measure_training`."""


def advise_training(f: Figures) -> Iterator[str]:
    """Yield what follows from the figures of `measure_training`, the most pressing first."""
    if f["updates"] >= _ENOUGH:
        yield from (*_about_drift(f), *_about_clipping(f))


def _about_drift(f: Figures) -> Iterator[str]:
    drift, first = f.get("gradient_norm_drift", 1.0), f["loss_first"]
    fell = f["loss_last"] < first - (1 - _FALLEN) * abs(first)
    if drift > _DRIFTED and fell:
        yield f"""Watch the gradient's norm: it has grown {{gradient_norm_drift}}-fold in training. The loss still fell
            ({_LOSSES}); when it begins to jump, lower the learning rate."""
    elif drift > _DRIFTED:
        yield f"""Lower the learning rate: the gradients have grown {{gradient_norm_drift}}-fold in training, and the
            loss has not fallen ({_LOSSES}): so an explosion begins."""
    elif drift < 1 / _DRIFTED and not fell:
        yield f"""Do not wait for more of the same: {{gradient_norm_drift:percent}} of the gradient's norm is left, and
            the loss has not fallen ({_LOSSES}). That is a plateau: either the way back is closed (vanishing, saturated
            or dead, see the verdict), or the learning rate is too small to leave it."""


def _about_clipping(f: Figures) -> Iterator[str]:
    median, mean, (low, high) = f["gradient_norm_median"], f["gradient_norm_mean"], CLIP_RANGE
    rule = f"The rule is {{gradient_norm_mean:rule}} ({PAPER})."
    if "clip_norm" not in f:
        usual = max(median, f["gradient_norm_first"], f["gradient_norm_last"])  # norms that fall have no spike
        if median and not f["gradient_norm_largest"] <= high * usual:  # NaN too: it shows
            yield f"Clip: one update had {{spike}} times the median norm, and made a step as much too large. {rule}"
    elif f["clipped_share"] > 0.5 and f["clip_norm"] < low * min(median, mean):
        yield f"""Raise clip_norm from {{clip_norm}} to about the median norm, {{gradient_norm_median}}: at
            {{clipped_share:percent}} of the updates only the gradient's direction counted and clip_norm was its length,
            which makes it a second learning rate (normalised SGD), no guard against spikes. {rule} With SGD the steps
            become longer; if they are too long then, lower the learning rate."""
    elif not f["clipped_share"] and f["clip_norm"] > high * mean:
        yield f"""Lower clip_norm, or leave it out: at {{clip_norm}} it did nothing, the largest norm was
            {{gradient_norm_largest}}. {rule}"""
