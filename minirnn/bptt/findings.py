"""What `doctor` says about its figures, a sentence at a time: as templates, whose fields are figures by name."""

import math
import string
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from minirnn.bptt.measures import CLIP_RANGE, REACH, Figures

ROUNDING = 1e-5
"""How far σ₁ of a float32 matrix may be from 1 and count as 1."""
PAPER = "Pascanu et al. 2013"


class Finding(NamedTuple):
    """A sentence of a report, and the names of the figures that it is backed by: those that stand in it."""

    text: str
    figures: tuple[str, ...]


def find(f: Figures) -> Iterator[str]:
    """Yield what there is to say about these figures, the most important first."""
    for part in (_not_finite, _entering, _left, _rate, _norms, _bound, _radius, _gates, _units, _clip):
        yield from part(f)


def say(template: str, figures: Figures) -> Finding:
    """Fill in a template: ``{left:percent}`` is the figure left, in percent. How its lines break is all the same."""
    text = " ".join(template.split())
    names = [field.partition("[")[0] for _, field, _, _ in _Words().parse(text) if field]
    return Finding(_Words().vformat(text, (), figures), tuple(dict.fromkeys(names)))


class _Words(string.Formatter):
    def format_field(self, value: Any, spec: str) -> str:
        return spec[1:] if spec.startswith("=") else _SPECS[spec](value) if spec in _SPECS else format(value, spec)


# --- numbers in words -------------------------------------------------------------------------------------------------


def number(x: float) -> str:
    """Return a number with three digits: 0.123, 12.3, 1,230, 1.23e+07."""
    if not math.isfinite(x):
        return "more than 1e308" if x > 0 else str(x)
    return f"{x:,.0f}" if 1000 <= abs(float(f"{x:.3g}")) < 1e6 else f"{x:.3g}"


def percent(share: float) -> str:
    """Return a share in percent, or as a plain number where it is tiny."""
    return f"{100 * share:.3g} %" if share >= 0.001 or share == 0 else number(share)


def _steps(n: float) -> str:
    return f"{number(n)} step{'' if number(n) == '1' else 's'}"


def _shares(shares: dict[str, float]) -> str:
    if len(shares) > 1:
        return ", ".join(f"{percent(share)} in {gate}" for gate, share in shares.items())
    return f"{percent(*shares.values())} of all steps, rows and units"


def _largest(norms: dict[str, float]) -> str:
    gate = max(norms, key=norms.__getitem__)
    return f"{number(norms[gate])} in the block of {gate}"


def _rule(norm: float) -> str:
    low, high = CLIP_RANGE
    return f"{low:g} to {high:g} times the average norm, here between {number(low * norm)} and {number(high * norm)}"


_SPECS: dict[str, Callable[[Any], str]] = {
    "": lambda value: value if isinstance(value, str) else number(value),
    "percent": percent,
    "shares": _shares,
    "largest": _largest,
    "rule": _rule,
    "steps": _steps,
    "whole steps": lambda n: _steps(math.floor(n)),
    "steps at least": lambda n: _steps(max(1, math.ceil(n))),
    "steps to tenfold": lambda rate: _steps(math.ceil(math.log(10) / math.log(rate))),
    "half-life": lambda factor: _steps(math.log(2) / -math.log(factor)),
    "less one": lambda n: str(n - 1),
    "at step": lambda t: "" if t is None else f" at step t = {t}",
    "updates": lambda n: f"{n:,} update{'' if n == 1 else 's'}",
}
"""How a figure reads. Besides there are Python's own, and ``=words``, which stand in for it."""


# --- the gradient on its way back -------------------------------------------------------------------------------------


def _not_finite(f: Figures) -> Iterator[str]:
    if "not_finite" in f:
        when = {
            "given": "before the first step was made",
            "forward": "on the way forward",
            "loss": "after a forward pass of {T:steps} that was finite",
            "backward": "on the way back, after a forward pass that was finite",
        }[f["not_finite"]["pass"]]
        yield f"""The first value that is not finite is {{not_finite[value]}}:
            {{not_finite[what]}}{{not_finite[step]:at step}}, {when}."""


def _entering(f: Figures) -> Iterator[str]:
    if not f["enters"] and f.get("not_finite", {}).get("pass") not in ("given", "forward", "loss"):
        yield """The loss is {loss}, and a gradient enters at {enters:d} of {T:steps}: as far as it knows, the outputs
            of the layer do not matter here."""


def _left(f: Figures) -> Iterator[str]:
    if "left" not in f:
        if f.get("enters") and "steps_back" in f:
            yield "The gradient goes back {steps_back:steps}: with T = {T:d} it enters at the first there is."
        return
    enters = "at step t = {enters_at:d}" if f["enters_at"] is not None else "{enters_at:=last in each row}"
    if f["enters"] > 1:
        enters += " (the last of {enters:d} steps at which one enters)"
    if f["left"] > 1:
        yield f"The gradient that enters {enters} is {{left}} times as large {{steps_back:steps}} further back."
    else:
        norm = f"norm (in {' and '.join(f['states'])} together)" if len(f["states"]) > 1 else "norm"
        yield f"""Of the gradient that enters {enters}, {{left:percent}} of the {norm} is left {{steps_back:steps}}
            further back."""


def _rate(f: Figures) -> Iterator[str]:
    if not f.get("rate"):
        return
    factor = "That step back multiplies it by {rate:.4g}"
    if f["steps_back"] > 1:
        factor = """The first step back multiplies it by {first_factor}, the other {steps_back:less one} by {carried}
            in all, {rate:.4g} each on average"""
    if "half_life" in f:
        yield f"{factor}: its half-life is {{half_life:steps}}, and {percent(REACH)} is left after {{reach}}."
    elif "doubling_time" in f:
        yield f"{factor}: it doubles every {{doubling_time:steps}}."
    else:
        yield f"{factor}: it neither shrinks nor grows."


def _norms(f: Figures) -> Iterator[str]:
    finite = {t: norm for t, norm in enumerate(f["gradient_norms"]) if math.isfinite(norm)}
    if len(finite) < 2 or not any(finite.values()):
        return
    high, low = max(finite, key=finite.__getitem__), min(finite, key=finite.__getitem__)
    zeros = sum(norm == 0 for norm in finite.values())
    if number(finite[high]) == number(finite[low]):
        text = f"{{gradient_norms[{low}]}} at all of {{T:steps}}"
    else:
        text = f"{{gradient_norms[{high}]}} where it is largest, at t = {high}, and "
        text += (
            f"exactly 0 at {zeros} of {{T:steps}}"
            if zeros
            else f"{{gradient_norms[{low}]}} where it is smallest, at t = {low}"
        )
        if zeros and f.get("underflows"):
            text += " ({dtype} has no number so small)"
    if f["enters"] > 1:
        text += "; it is fed at {enters:d} steps, so that it need not fall where a gradient does"
    yield f"‖dL/dh_t‖ is {text}."


# --- W_hh and φ -------------------------------------------------------------------------------------------------------


def _bound(f: Figures) -> Iterator[str]:
    if "step_bound" not in f:
        return
    follows = f"Above 1 it may explode but need not; only below 1 it would have to vanish ({PAPER})."
    if f["step_bound"] < 1 - ROUNDING:
        follows = f"Below 1 it must vanish, whatever the input (a theorem: {PAPER})."
    elif f["step_bound"] <= 1 + ROUNDING:
        follows = "At 1 it cannot explode, and need not vanish."
    mask = "with the {largest_mask} of recurrent_dropout" if "largest_mask" in f else ""
    yield f"""W_hh has the norm σ₁ = {{spectral_norm}} and φ′ is at most {{largest_slope}}, so that {mask}
        no step back multiplies a gradient by more than {{step_bound}}. {follows}"""


def _radius(f: Figures) -> Iterator[str]:
    if "largest_slope" in f:
        here = ": here φ′ is {mean_slope} on average" if "mean_slope" in f else ""
        yield f"""The spectral radius of W_hh is ρ = {{spectral_radius}}: the factor of a step in the long run, if φ′
            were 1 throughout (a rule of thumb{here})."""
    elif isinstance(f.get("spectral_radius"), float):
        yield """W_hh has the spectral radius ρ = {spectral_radius} and the norm σ₁ = {spectral_norm}; a step back
            multiplies by φ′ too, of which nothing is known here."""


def _gates(f: Figures) -> Iterator[str]:
    if "kept" in f:
        gate, state = (name.replace("{", "{{").replace("}", "}}") for name in (f["kept_by"], f["states"][-1]))
        path = f"{state}_t = {gate} ⊙ {state}_{{{{t-1}}}} + …"
        half_life = ", a half-life of {kept:half-life}" if 0 < f["kept"] < 1 else ""
        yield f"""The gate {gate} is {{kept}} on average: by {path} alone that is the factor of a step{half_life}
            (a rule of thumb: the paths through W_hh come on top)."""
    if isinstance(f.get("spectral_radius"), dict):
        each = [f"{gate} {number(r)} / {number(f['spectral_norm'][gate])}" for gate, r in f["spectral_radius"].items()]
        verbatim = ", ".join(each).replace("{", "{{").replace("}", "}}")
        yield f"""{{spectral_radius:=Spectral radius}} / {{spectral_norm:=norm σ₁}} of W_hh by gate: {verbatim}.
            They alone bound nothing: a gated cell has a path past W_hh."""


# --- units, and clipping ----------------------------------------------------------------------------------------------


def _units(f: Figures) -> Iterator[str]:
    if "off" in f:
        learn = ", and learn nothing from it" if f["dead_units"] else ""
        yield f"""ReLU is off at {{off:percent}} of all steps, rows and units, and {{dead_units:d}} of {{H:d}} units
            are off throughout this batch{learn}."""
    elif "saturation" in f:
        yield "Saturated, that is with φ′ at most 5 % of its largest value: {saturation:shares}."


def _clip(f: Figures) -> Iterator[str]:
    if "message_clip" in f:
        yield "message_clip = {message_clip} bounds each row of dL/dh_t; the factors above are without it."
    threshold = ", which suggests no threshold to clip at."
    if "clip_step" in f:
        clip = "clip there" if "clip" in f else "too much to suggest a threshold, the states have grown too"
        threshold = f""". The share of step t = {{clip_step:d}} alone, which has been through no W_hh, has the norm
            {{clip_step_norm}}: {clip}."""
    elif "clip" in f:
        threshold = f""": clip at about {{clip}}, between {{clip_from}} and {{clip_to}}. The rule is 1/2 to 10 times the
            average over many updates ({PAPER}); this is one batch, and norms often fall as a training goes on: look
            again then."""
    if math.isfinite(f["parameter_gradient_norm"]):
        yield f"The gradient of the layer's parameters has the norm {{parameter_gradient_norm}}{threshold}"
