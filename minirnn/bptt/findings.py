"""What `doctor` says about its figures, a sentence at a time."""

import math
from typing import NamedTuple

from minirnn.bptt.measures import REACH, Figures

ROUNDING = 1e-5
"""How far σ₁ of a float32 matrix may be from 1 and count as 1."""
PAPER = "Pascanu et al. 2013"


class Finding(NamedTuple):
    """A sentence of a report.

    Attributes
    ----------
    text : str
    figures : tuple of str
        The names of the figures that it is backed by.
    """

    text: str
    figures: tuple[str, ...]


def find(figures: Figures) -> list[Finding]:
    """Return what there is to say about these figures, the most important first."""
    parts = (_not_finite, _entering, _left, _rate, _norms, _bound, _radius, _gates, _units, _clip)
    return [finding for part in parts for finding in part(figures)]


# --- numbers in words -------------------------------------------------------------------------------------------------


def number(x: float) -> str:
    """Return a number with three digits: 0.123, 12.3, 1,230, 1.23e+07."""
    if not math.isfinite(x):
        return "more than 1e308" if x > 0 else str(x)
    return f"{x:,.0f}" if 1000 <= abs(float(f"{x:.3g}")) < 1e6 else f"{x:.3g}"


def percent(share: float) -> str:
    """Return a share in percent, or as a plain number where it is tiny."""
    return f"{100 * share:.3g} %" if share >= 0.001 or share == 0 else number(share)


def steps(n: float) -> str:
    """Return a number of steps, with its unit."""
    return f"{number(n)} step{'' if number(n) == '1' else 's'}"


# --- the gradient on its way back -------------------------------------------------------------------------------------


def _not_finite(f: Figures) -> list[Finding]:
    if "not_finite" not in f:
        return []
    bad = f["not_finite"]
    where = "" if bad["step"] is None else f" at step t = {bad['step']}"
    when = {
        "given": "before the first step was made",
        "forward": "on the way forward",
        "loss": f"after a forward pass of {steps(f['T'])} that was finite",
        "backward": "on the way back, after a forward pass that was finite",
    }[bad["pass"]]
    text = f"The first value that is not finite is {bad['value']}: {bad['what']}{where}, {when}."
    return [Finding(text, ("not_finite", "T"))]


def _entering(f: Figures) -> list[Finding]:
    if f["enters"] or f.get("not_finite", {}).get("pass") in ("given", "forward", "loss"):
        return []
    text = f"The loss is {number(f['loss'])}, and a gradient enters at {f['enters']} of {steps(f['T'])}: as far as it "
    return [Finding(f"{text}knows, the outputs of the layer do not matter here.", ("loss", "enters", "T"))]


def _left(f: Figures) -> list[Finding]:
    names: tuple[str, ...] = ("left", "steps_back", "enters_at")
    if "left" not in f:
        if not f.get("enters") or "steps_back" not in f:
            return []
        text = f"The gradient goes back {steps(f['steps_back'])}: with T = {f['T']} it enters at the first there is."
        return [Finding(text, ("steps_back", "T"))]
    left, source = f["left"], f["enters_at"]
    enters = "that enters last in each row" if source is None else f"that enters at step t = {source}"
    if f["enters"] > 1:
        enters += f" (the last of {f['enters']} steps at which one enters)"
        names += ("enters",)
    back = f"{steps(f['steps_back'])} further back"
    if left > 1:
        return [Finding(f"The gradient {enters} is {number(left)} times as large {back}.", names)]
    both = " (in h and c together)" if f["layer"] == "LSTMLayer" else ""
    return [Finding(f"Of the gradient {enters}, {percent(left)} of the norm{both} is left {back}.", names)]


def _rate(f: Figures) -> list[Finding]:
    if "rate" not in f or not f["rate"]:
        return []
    rate, names = f["rate"], ["rate"]
    text = f"That step back multiplies it by {rate:.4g}: "
    if f["steps_back"] > 1:
        text = f"The first step back multiplies it by {number(f['first_factor'])}, the other {f['steps_back'] - 1} by "
        text += f"{number(f['carried'])} in all, {rate:.4g} each on average: "
        names += ["steps_back", "first_factor", "carried"]
    if "half_life" in f:
        text += f"its half-life is {steps(f['half_life'])}, and {percent(REACH)} is left after {number(f['reach'])}."
        return [Finding(text, (*names, "half_life", "reach"))]
    if "doubling_time" in f:
        return [Finding(f"{text}it doubles every {steps(f['doubling_time'])}.", (*names, "doubling_time"))]
    return [Finding(f"{text}it neither shrinks nor grows.", tuple(names))]


def _norms(f: Figures) -> list[Finding]:
    norms = f["gradient_norms"]
    finite = {t: n for t, n in enumerate(norms) if math.isfinite(n)}
    if len(finite) < 2 or not any(finite.values()):
        return []
    high, low = max(finite, key=finite.__getitem__), min(finite, key=finite.__getitem__)
    zeros = sum(n == 0 for n in finite.values())
    text, names = f"‖dL/dh_t‖ is {number(norms[high])} where it is largest, at t = {high}, and ", ["gradient_norms"]
    if number(norms[high]) == number(norms[low]):
        text = f"‖dL/dh_t‖ is {number(norms[low])} at all of {steps(f['T'])}"
        names.append("T")
    elif zeros:
        why = f" ({f['dtype']} has no number so small)" if f.get("underflows") else ""
        text += f"exactly 0 at {zeros} of {steps(f['T'])}{why}"
        names += ["T", "dtype"]
    else:
        text += f"{number(norms[low])} where it is smallest, at t = {low}"
    if f["enters"] > 1:
        text += f"; it is fed at {f['enters']} steps, so that it need not fall where a gradient does"
        names.append("enters")
    return [Finding(f"{text}.", tuple(names))]


# --- W_hh and φ -------------------------------------------------------------------------------------------------------


def _bound(f: Figures) -> list[Finding]:
    if "step_bound" not in f:
        return []
    bound = f["step_bound"]
    text = (
        f"W_hh has the norm σ₁ = {number(f['spectral_norm'])} and φ′ is at most {number(f['largest_slope'])}, so that "
    )
    names = ["spectral_norm", "largest_slope", "step_bound"]
    if "largest_mask" in f:
        text += f"with the {number(f['largest_mask'])} of recurrent_dropout "
        names.append("largest_mask")
    text += f"no step back multiplies a gradient by more than {number(bound)}"
    if bound < 1 - ROUNDING:
        text += f". Below 1 it must vanish, whatever the input (a theorem: {PAPER})."
    elif bound <= 1 + ROUNDING:
        text += ". At 1 it cannot explode, and need not vanish."
    else:
        text += f". Above 1 it may explode but need not; only below 1 it would have to vanish ({PAPER})."
    return [Finding(text, tuple(names))]


def _radius(f: Figures) -> list[Finding]:
    if "largest_slope" not in f:
        return _radius_alone(f)
    radius = number(f["spectral_radius"])
    text = (
        f"The spectral radius of W_hh is ρ = {radius}: the factor of a step in the long run, if φ′ were 1 throughout "
    )
    if "mean_slope" not in f:
        return [Finding(f"{text}(a rule of thumb).", ("spectral_radius",))]
    text += f"(a rule of thumb: here φ′ is {number(f['mean_slope'])} on average)."
    return [Finding(text, ("spectral_radius", "mean_slope"))]


def _radius_alone(f: Figures) -> list[Finding]:
    radius = f.get("spectral_radius")
    if not isinstance(radius, float):
        return []
    text = f"W_hh has the spectral radius ρ = {number(radius)} and the norm σ₁ = "
    text += f"{number(f['spectral_norm'])}; a step back "
    return [
        Finding(f"{text}multiplies by φ′ too, of which nothing is known here.", ("spectral_radius", "spectral_norm"))
    ]


def _gates(f: Figures) -> list[Finding]:
    found = []
    if "kept" in f:
        kept = f["kept"]
        path, gate = ("c_t = f ⊙ c_{t-1} + …", "f") if f["layer"] == "LSTMLayer" else ("h_t = z ⊙ h_{t-1} + …", "z")
        alone = f", a half-life of {steps(math.log(2) / -math.log(kept))}" if 0 < kept < 1 else ""
        text = f"The gate {gate} is {number(kept)} on average: by {path} alone that is the factor of a step{alone}"
        found.append(Finding(f"{text} (a rule of thumb: the paths through W_hh come on top).", ("kept",)))
    if isinstance(f.get("spectral_radius"), dict):
        each = ", ".join(
            f"{gate} {number(r)} / {number(f['spectral_norm'][gate])}" for gate, r in f["spectral_radius"].items()
        )
        text = f"Spectral radius / norm σ₁ of W_hh by gate: {each}. They alone bound nothing: a gated cell "
        text += "has a path past W_hh."
        found.append(Finding(text, ("spectral_radius", "spectral_norm")))
    return found


# --- units, and clipping ----------------------------------------------------------------------------------------------


def _units(f: Figures) -> list[Finding]:
    if "off" in f:
        text = f"ReLU is off at {percent(f['off'])} of all steps, rows and units, and {f['dead_units']} of "
        text += f"{f['H']} units are "
        learn = "" if not f["dead_units"] else ", and learn nothing from it"
        return [Finding(f"{text}off throughout this batch{learn}.", ("off", "dead_units", "H"))]
    if "saturation" not in f:
        return []
    shares = f["saturation"]
    each = ", ".join(f"{percent(s)} in {gate}" for gate, s in shares.items())
    what = f"{percent(next(iter(shares.values())))} of all steps, rows and units" if len(shares) == 1 else each
    text = f"Saturated, that is with φ′ at most 5 % of its largest value: {what}."
    return [Finding(text, ("saturation",))]


def _clip(f: Figures) -> list[Finding]:
    found: list[Finding] = []
    if "message_clip" in f:
        text = (
            f"message_clip = {number(f['message_clip'])} bounds each row of dL/dh_t; the factors above are without it."
        )
        found.append(Finding(text, ("message_clip",)))
    if not math.isfinite(f["parameter_gradient_norm"]):
        return found
    text = f"The gradient of the layer's parameters has the norm {number(f['parameter_gradient_norm'])}"
    names: tuple[str, ...] = ("parameter_gradient_norm",)
    if "clip_step" in f:
        text += f". The share of step t = {f['clip_step']} alone, which has been through no W_hh, has the norm "
        text += number(f["clip_step_norm"])
        text += ": clip there." if "clip" in f else ": too much to suggest a threshold, the states have grown too."
        names += ("clip_step", "clip_step_norm")
    elif "clip" in f:
        text += (
            f": clip at about {number(f['clip'])}, between {number(f['clip_from'])} and {number(f['clip_to'])}. The "
        )
        text += f"rule is 1/2 to 10 times the average over many updates ({PAPER}); this is one batch, and norms often "
        text += "fall as a training goes on: look again then."
        names += ("clip", "clip_from", "clip_to")
    else:
        text += ", which suggests no threshold to clip at."
    return [*found, Finding(text, names)]
