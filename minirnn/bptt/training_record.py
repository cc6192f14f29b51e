"""What `doctor` reads off the History of a training: how the gradient's norm went, and what clipping did to it."""

from typing import Protocol, runtime_checkable

import numpy as np

from minirnn.arguments import Array
from minirnn.bptt.findings import PAPER, Finding, number, percent
from minirnn.bptt.measures import CLIP_RANGE, Figures

_ENOUGH = 20  # updates: with fewer a tenth of them is one or none, and says nothing of a drift
_DRIFTED = 3.0  # a change of the norm by less than this is common in a training that goes well
_FALLEN = 0.9  # the loss has not fallen if more of it is left than this


@runtime_checkable
class Record(Protocol):
    """What is read of a `minirnn.training.History`."""

    clip_norm: float | None

    @property
    def updates(self) -> int:
        """The number of updates."""

    @property
    def loss(self) -> Array:
        """The loss of each update."""

    @property
    def grad_norm(self) -> Array:
        """The norm of all gradients at each update, before clipping."""


def measure_training(history: Record) -> Figures:
    """Return the figures of a training, by name; `minirnn.bptt.doctor` lists them."""
    norms, K = history.grad_norm, history.updates
    found: Figures = {"updates": K}
    if history.clip_norm is not None:
        found["clip_norm"] = history.clip_norm
    if not K:
        return found
    first, last = _ends(norms)
    found |= dict(zip(("loss_first", "loss_last"), _ends(history.loss), strict=True))
    found |= {"gradient_norm_first": first, "gradient_norm_last": last}
    found |= {"gradient_norm_mean": float(norms.mean()), "gradient_norm_median": float(np.median(norms))}
    found |= {"gradient_norm_largest": float(norms.max()), "largest_at": int(norms.argmax()) + 1}
    if first:
        found["gradient_norm_drift"] = last / first
    if found["gradient_norm_median"]:
        found["spike"] = found["gradient_norm_largest"] / found["gradient_norm_median"]
    if history.clip_norm is not None:
        above = norms > history.clip_norm
        found |= {"clipped_share": float(above.mean()), "clipped_share_last": float(above[-_tenth(K) :].mean())}
        if found["gradient_norm_mean"]:
            found["clip_ratio"] = history.clip_norm / found["gradient_norm_mean"]
    return found


def _tenth(K: int) -> int:
    return max(1, K // 10)


def _ends(values: Array) -> tuple[float, float]:
    """Return the medians of the first and of the last tenth."""
    n = _tenth(len(values))
    return float(np.median(values[:n])), float(np.median(values[-n:]))


def _loss_fell(f: Figures) -> bool:
    first: float = f["loss_first"]
    return bool(f["loss_last"] < first - (1 - _FALLEN) * abs(first))


# --- what there is to say ---------------------------------------------------------------------------------------------


def find_in_training(f: Figures) -> list[Finding]:
    """Return what there is to say about the figures of `measure_training`."""
    if not f["updates"]:
        return [Finding("The history has 0 updates, so that it says nothing of the training.", ("updates",))]
    return [*_course(f), *_spike(f), *_clipped(f)]


def _updates(n: int) -> str:
    return f"{n:,} update{'' if n == 1 else 's'}"


def _course(f: Figures) -> list[Finding]:
    names = ["updates", "gradient_norm_mean", "gradient_norm_first", "gradient_norm_last", "loss_first", "loss_last"]
    text = f"In the training of {_updates(f['updates'])} the norm of all gradients was "
    text += f"{number(f['gradient_norm_mean'])} on average: {number(f['gradient_norm_first'])} in the first tenth and "
    text += f"{number(f['gradient_norm_last'])} in the last (medians)"
    if "gradient_norm_drift" in f:
        text += f", {number(f['gradient_norm_drift'])} times as much"
        names.append("gradient_norm_drift")
    text += f", while the loss went from {number(f['loss_first'])} to {number(f['loss_last'])}."
    return [Finding(text, tuple(names))]


def _spike(f: Figures) -> list[Finding]:
    if "spike" not in f:
        return []
    text = f"The largest norm, {number(f['gradient_norm_largest'])} at update {f['largest_at']:,}, is "
    text += f"{number(f['spike'])} times the median of {number(f['gradient_norm_median'])}."
    return [Finding(text, ("gradient_norm_largest", "largest_at", "spike", "gradient_norm_median"))]


def _clipped(f: Figures) -> list[Finding]:
    if "clip_norm" not in f:
        return [Finding(f"Nothing was clipped in {_updates(f['updates'])}: there was no clip_norm.", ("updates",))]
    text, names = f"clip_norm = {number(f['clip_norm'])} clipped ", ["clip_norm", "clipped_share"]
    if not f["clipped_share"]:
        text += f"{percent(0.0)} of the updates: it did nothing"
    else:
        text += f"{percent(f['clipped_share'])} of the updates, {percent(f['clipped_share_last'])} of the last tenth"
        names.append("clipped_share_last")
    if "clip_ratio" in f:
        text += f". It is {number(f['clip_ratio'])} times the average norm; the rule is {CLIP_RANGE[0]:g} to "
        text += f"{CLIP_RANGE[1]:g} times ({PAPER})"
        names.append("clip_ratio")
    return [Finding(f"{text}.", tuple(names))]


# --- what to try ------------------------------------------------------------------------------------------------------


def advise_training(f: Figures) -> list[Finding]:
    """Return what follows from the figures of `measure_training`, the most pressing first."""
    return [*_about_drift(f), *_about_clipping(f)] if f["updates"] >= _ENOUGH else []


def _about_drift(f: Figures) -> list[Finding]:
    drift, fell = f.get("gradient_norm_drift", 1.0), _loss_fell(f)
    losses = f"from {number(f['loss_first'])} to {number(f['loss_last'])}"
    names = ("gradient_norm_drift", "loss_first", "loss_last")
    if drift > _DRIFTED:
        text = f"Lower the learning rate: the gradients have grown {number(drift)}-fold in training, and "
        text += f"the loss has not fallen ({losses}): so an explosion begins."
        if fell:
            text = f"Watch the gradient's norm: it has grown {number(drift)}-fold in training. The loss still fell "
            text += f"({losses}); when it begins to jump, lower the learning rate."
        return [Finding(text, names)]
    if drift < 1 / _DRIFTED and not fell:
        text = f"Do not wait for more of the same: {percent(drift)} of the gradient's norm is left, and the loss has "
        text += f"not fallen ({losses}). That is a plateau: either the way back is closed (vanishing, saturated or "
        text += "dead, see the verdict), or the learning rate is too small to leave it."
        return [Finding(text, names)]
    return []


def _about_clipping(f: Figures) -> list[Finding]:
    median, mean = f["gradient_norm_median"], f["gradient_norm_mean"]
    between = f"{number(CLIP_RANGE[0] * mean)} and {number(CLIP_RANGE[1] * mean)}"
    rule = f"{CLIP_RANGE[0]:g} to {CLIP_RANGE[1]:g} times the average norm, here between {between} ({PAPER})"
    if "clip_norm" not in f:
        usual = max(median, f["gradient_norm_first"], f["gradient_norm_last"])  # norms that fall have no spike
        if not median or f["gradient_norm_largest"] <= CLIP_RANGE[1] * usual:
            return []
        text = f"Clip: one update had {number(f['spike'])} times the median norm, and made a step as much too large. "
        return [Finding(f"{text}The rule is {rule}.", ("spike", "gradient_norm_mean"))]
    clip = number(f["clip_norm"])
    if f["clipped_share"] > 0.5 and f["clip_norm"] < CLIP_RANGE[0] * min(median, mean):
        text = (
            f"Raise clip_norm from {clip} to about the median norm, {number(median)}: at {percent(f['clipped_share'])} "
        )
        text += "of the updates only the gradient's direction counted and clip_norm was its length, which makes it a "
        text += f"second learning rate (normalised SGD), no guard against spikes. The rule is {rule}. With SGD the "
        text += "steps become longer; if they are too long then, lower the learning rate."
        names = ("clip_norm", "gradient_norm_median", "clipped_share", "gradient_norm_mean")
        return [Finding(text, names)]
    if not f["clipped_share"] and f["clip_norm"] > CLIP_RANGE[1] * mean:
        text = f"Lower clip_norm, or leave it out: at {clip} it did nothing, the largest norm was "
        text += f"{number(f['gradient_norm_largest'])}. The rule is {rule}."
        return [Finding(text, ("clip_norm", "gradient_norm_largest", "gradient_norm_mean"))]
    return []
