"""What `doctor` says about its figures, and what to try: templates of sentences, whose fields are figures by name."""

import math
import re
import string
from collections.abc import Callable, Iterator, KeysView, Sequence
from typing import Any, NamedTuple

from minirnn.bptt.measures import CLIP_RANGE, LARGEST_CLIP, REACH, Figures

ROUNDING = 1e-5
"""How far σ₁ of a float32 matrix may be from 1 and count as 1."""
PAPER = "Pascanu et al. 2013"

Sentences = Sequence[str | Callable[[Figures], Iterator[str]]]
"""Templates, or functions that choose among some."""


class Finding(NamedTuple):
    """A sentence of a report, and the names of the figures that it is backed by: those that stand in it."""

    text: str
    figures: tuple[str, ...]


def said(sentences: Sentences, figures: Figures) -> Iterator[Finding]:
    """Yield the sentences whose figures are all there, filled in."""
    for sentence in sentences:
        for template in [sentence] if isinstance(sentence, str) else sentence(figures):
            found = say(template, figures)
            if found is not None:
                yield found


def say(template: str, figures: Figures) -> Finding | None:
    """Fill in a template: ``{left:percent}`` is the figure left, in percent. How its lines break is all the same.

    ``⟦…⟧`` is left out where a figure in it is missing; None where one outside is. ``{name:=words}`` asks for a figure
    and says the words, or nothing.
    """
    text = " ".join(template.split())
    text = re.sub("⟦(.*?)⟧", lambda part: part[1] if _fields(part[1]) <= figures.keys() else "", text)
    names = _fields(text)
    return Finding(_Words().vformat(text, (), figures), tuple(names)) if names <= figures.keys() else None


def _fields(text: str) -> KeysView[str]:
    return dict.fromkeys(field.partition("[")[0] for _, field, _, _ in _Words().parse(text) if field).keys()


class _Words(string.Formatter):
    def format_field(self, value: Any, spec: str) -> str:
        return spec[1:] if spec.startswith("=") else _SPECS[spec](value) if spec in _SPECS else format(value, spec)


# --- figures in words -------------------------------------------------------------------------------------------------


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


def _largest(norms: float | dict[str, float]) -> str:
    if not isinstance(norms, dict):
        return number(norms)
    gate = max(norms, key=norms.__getitem__)
    return f"{number(norms[gate])} in the block of {gate}"


def _rule(norm: float) -> str:
    low, high = CLIP_RANGE
    return f"{low:g} to {high:g} times the average norm, here between {number(low * norm)} and {number(high * norm)}"


def _follows(bound: float) -> str:
    """Say what follows from the bound on the factor of a step back."""
    if bound < 1 - ROUNDING:
        return f"Below 1 it must vanish, whatever the input (a theorem: {PAPER})."
    if bound <= 1 + ROUNDING:
        return "At 1 it cannot explode, and need not vanish."
    return f"Above 1 it may explode but need not; only below 1 it would have to vanish ({PAPER})."


_SPECS: dict[str, Callable[[Any], str]] = {
    "": lambda value: value if isinstance(value, str) else number(value),
    "percent": percent,
    "shares": _shares,
    "largest": _largest,
    "rule": _rule,
    "follows": _follows,
    "when": {
        "given": "before the first step was made",
        "forward": "on the way forward",
        "loss": "after a forward pass that was finite",
        "backward": "on the way back, after a forward pass that was finite",
    }.__getitem__,
    "steps": _steps,
    "whole steps": lambda n: _steps(math.floor(n)),
    "steps at least": lambda n: _steps(max(1, math.ceil(n))),
    "steps to tenfold": lambda rate: _steps(math.ceil(math.log(10) / math.log(rate))),
    "half-life": lambda kept: f", a half-life of {_steps(math.log(2) / -math.log(kept))}" if 0 < kept < 1 else "",
    "steady": lambda rate: ": it neither shrinks nor grows" if rate == 1 else "",
    "less one": lambda n: str(n - 1),
    "at step": lambda t: "" if t is None else f" at step t = {t}",
    "entry": lambda t: "last in each row" if t is None else f"at step t = {t}",
    "last": lambda names: names[-1],
    "joint": lambda states: f" (in {' and '.join(states)} together)" if len(states) > 1 else "",
    "several": lambda n: f" (the last of {n} steps at which one enters)" if n > 1 else "",
    "learning": lambda dead: ", and learn nothing from it" if dead else "",
    "clip there": lambda norm: (
        "clip there" if norm <= LARGEST_CLIP else "too much to suggest a threshold, the states have grown too"
    ),
    "updates": lambda n: f"{n:,} update{'' if n == 1 else 's'}",
}
"""How a figure reads. Besides there are Python's own, and ``=words``, which stand in for it."""


# --- the gradient on its way back -------------------------------------------------------------------------------------


def _entering(f: Figures) -> Iterator[str]:
    if not f["enters"] and f.get("not_finite", {}).get("pass") not in ("given", "forward", "loss"):
        yield """The loss is {loss}, and a gradient enters at {enters:d} of {T:steps}: as far as it knows, the outputs
            of the layer do not matter here."""


def _left(f: Figures) -> Iterator[str]:
    if f.get("left", 0) > 1:
        yield """The gradient that enters {enters_at:entry}{enters:several} is {left} times as large {steps_back:steps}
            further back⟦{delay:=, as far as the task asks}⟧."""
    elif "left" in f:
        yield """Of the gradient that enters {enters_at:entry}{enters:several}, {left:percent} of the norm{states:joint}
            is left {steps_back:steps} further back⟦{delay:=, as far as the task asks}⟧."""
    elif f["enters"]:
        yield "The gradient goes back {steps_back:steps}: with T = {T:d} it enters at the first there is."


def _rate(f: Figures) -> Iterator[str]:
    factor = "That step back multiplies it by {rate:.4g}"
    if f.get("steps_back", 0) > 1:
        factor = """The first step back multiplies it by {first_factor}, the other {steps_back:less one} by {carried}
            in all, {rate:.4g} each on average"""
    if f.get("rate"):
        yield f"""{factor}⟦: its half-life is {{half_life:steps}}, and {percent(REACH)} is left after {{reach}}⟧⟦: it
            doubles every {{doubling_time:steps}}⟧{{rate:steady}}."""


def _norms(f: Figures) -> Iterator[str]:
    finite = {t: norm for t, norm in enumerate(f["gradient_norms"]) if math.isfinite(norm)}
    if len(finite) < 2 or not any(finite.values()):
        return
    high, low = max(finite, key=finite.__getitem__), min(finite, key=finite.__getitem__)
    zeros = sum(norm == 0 for norm in finite.values())
    smallest = f"{{gradient_norms[{low}]}} where it is smallest, at t = {low}"
    if zeros:
        smallest = f"exactly 0 at {zeros} of {{T:steps}}"
        smallest += " ({dtype} has no number so small)" if f.get("underflows") else ""
    fed = "; it is fed at {enters:d} steps, so that it need not fall where a gradient does" if f["enters"] > 1 else ""
    yield f"‖dL/dh_t‖ is {{gradient_norms[{high}]}} where it is largest, at t = {high}, and {smallest}{fed}."


# --- W_hh -------------------------------------------------------------------------------------------------------------


def _radius(f: Figures) -> Iterator[str]:
    radius = f.get("spectral_radius")
    if isinstance(radius, dict):
        each = (f"{gate} {number(r)} / {number(f['spectral_norm'][gate])}" for gate, r in radius.items())
        verbatim = ", ".join(each).replace("{", "{{").replace("}", "}}")
        yield f"""{{spectral_radius:=Spectral radius}} / {{spectral_norm:=norm σ₁}} of W_hh by gate: {verbatim}.
            They alone bound nothing: a gated cell has a path past W_hh."""
    elif "largest_slope" in f:
        yield """The spectral radius of W_hh is ρ = {spectral_radius}: the factor of a step in the long run, if φ′
            were 1 throughout (a rule of thumb⟦: here φ′ is {mean_slope} on average⟧)."""
    else:
        yield """W_hh has the spectral radius ρ = {spectral_radius} and the norm σ₁ = {spectral_norm}; a step back
            multiplies by φ′ too, of which nothing is known here."""


FINDINGS: Sentences = (
    """The first value that is not finite is {not_finite[value]}: {not_finite[what]}{not_finite[step]:at step},
    {not_finite[pass]:when}.""",
    _entering,
    _left,
    _rate,
    _norms,
    """W_hh has the norm σ₁ = {spectral_norm} and φ′ is at most {largest_slope}, so that⟦ with the {largest_mask} of
    recurrent_dropout⟧ no step back multiplies a gradient by more than {step_bound}. {step_bound:follows}""",
    """The gate {kept_by} is {kept} on average: by {states:last}_t = {kept_by} ⊙ {states:last}_{{t-1}} + … alone that is
    the factor of a step{kept:half-life} (a rule of thumb: the paths through W_hh come on top).""",
    _radius,
    """ReLU is off at {off:percent} of all steps, rows and units, and {dead_units:d} of {H:d} units are off throughout
    this batch{dead_units:learning}.""",
    "Saturated, that is with φ′ at most 5 % of its largest value: {saturation:shares}.",
    "message_clip = {message_clip} bounds each row of dL/dh_t; the factors above are without it.",
    """The gradient of the layer's parameters has the norm {parameter_gradient_norm}⟦. The share of step
    t = {clip_step:d} alone, which has been through no W_hh, has the norm {clip_step_norm}:
    {clip_step_norm:clip there}⟧.""",
)
"""What there is to say about the figures of a trace, the most important first."""


# --- what to try, by verdict ------------------------------------------------------------------------------------------

_ENOUGH = 0.1  # of the units: with more of them dead, a layer that is healthy otherwise is told so
_TAKE_BACK = "If it grew so in training, lower the learning rate."
_GROWN = """Go back fewer steps at a time (truncated BPTT): at {rate:.3g} a step it has grown tenfold in
    {rate:steps to tenfold}."""
_CLIP_FIRST = """Clip before every update: mr.optim.clip_grad_norm(model.parameters(), {clip:.2g}). That keeps the step
    small, not the direction: what comes from far back still outweighs the rest {left} to 1."""


def _after_not_finite(f: Figures) -> Iterator[str]:
    bad = f["not_finite"]
    if bad["pass"] == "given":
        yield """Look for the update or the file that put {not_finite[value]} into {not_finite[what]}: all {T:steps}
            follow."""
    elif bad["what"] == "x_t":
        yield """Clean the input: x{not_finite[step]:at step} has {not_finite[value]}. If that is padding, say so by
            lengths=."""
    elif bad["pass"] == "backward" and f.get("rate", 0.0) > 1:
        yield from (*_smaller(f), _CLIP_FIRST, _GROWN)
    else:
        yield """Run it within mr.detect_anomaly(): it names what makes the first
            {not_finite[value]}{not_finite[step]:at step}."""
        if isinstance(f.get("spectral_radius"), float) and bad["pass"] == "forward":
            yield """If h_t grows from step to step, W_hh is too large: its spectral radius is {spectral_radius}, and
                with ReLU or the identity nothing bounds h_t."""


def _largest_term(f: Figures) -> Iterator[str]:
    """Say what the pre-activations are mostly made of, and what to do about that."""
    orthogonal = 'start with a smaller W_hh, such as recurrent_initializer="orthogonal"'
    terms = {
        "mean_input_term": ("X_t W_xh", "scale the input (|x_t| goes up to {largest_input}), or W_xh"),
        "mean_recurrent_term": ("H_{{t-1}} W_hh", orthogonal),
        "mean_bias": ("b_h", "start b_h at 0"),
    }
    largest, remedy = terms[max(terms, key=lambda name: f.get(name, 0.0))]
    sizes = ", ".join(f"{{{name}}} of {term}" for name, (term, _) in terms.items())
    yield f"Of the terms of z_t {largest} is the largest ({sizes}, on average): {remedy}. {_TAKE_BACK}"


def _wide_open(f: Figures) -> Iterator[str]:
    """Say how to make a gate keep for about T steps (Tallec & Ollivier 2018), unless it does."""
    bias, j = math.log(max(f["T"] - 1, 2)), f.get("kept_at", 0)
    kept = 1 / (1 + math.exp(-bias))
    columns = f"{'' if j == 1 else j or ''}{'H' if j else '0'} to {j + 1 if j else ''}H"
    start = f"{bias:.2g} in the block of {{kept_by}} in b_h (columns {columns})"
    if f.get("kept_start"):
        start = f"{{kept_start}}={bias:.2g}"
    if f.get("kept", 1.0) < kept:
        yield f"""Let {{kept_by}} keep for as long as the sequence lasts: {start}, which is ln(T − 1) for T = {{T:d}},
            starts it at {kept:.3g} instead of {{kept}} (Tallec & Ollivier 2018)."""


def _other_start(f: Figures) -> Iterator[str]:
    """Say how to start an Elman layer whose gradients do not vanish."""
    if f.get("identity") and "off" in f:
        yield """Keep its rectifiers on: W_hh is {identity:=the identity already}, but {off:percent} are off, and each
            cuts a path. Start b_h a little above 0, or scale the input down."""
        return
    if f.get("largest_slope", 1) < 1:
        yield "Take another activation: this φ′ is at most {largest_slope}, that of tanh and ReLU is 1."
    yield """Start as an IRNN: activation="relu", init="irnn" (Le et al. 2015). W_hh = I has the spectral radius 1 (here
        {spectral_radius}), and φ′ is exactly 1 at a unit that is on (here {mean_slope} on average)."""


def _within_reach(f: Figures) -> Iterator[str]:
    if f.get("reach", math.inf) < f["steps_back"]:
        yield """If it must stay as it is, go back {reach:steps at least} at a time (truncated BPTT): beyond them less
            than 1 % is left anyway."""


def _smaller(f: Figures) -> Iterator[str]:
    """Say what makes the matrix, or what multiplies it, smaller."""
    norm = f["spectral_norm"]
    if f.get("largest_mask", 1.0) > 1 and f["step_bound"] / f["largest_mask"] <= 1 + ROUNDING:
        yield """Drop less: recurrent_dropout multiplies what it keeps of h by {largest_mask}, and W_hh with
            σ₁ = {spectral_norm} does not."""
    elif (max(norm.values()) if isinstance(norm, dict) else norm) > 1 + ROUNDING:
        yield f"""Start with a smaller W_hh: recurrent_initializer="orthogonal" has σ₁ = 1 instead of
            {{spectral_norm:largest}}. {_TAKE_BACK}"""


def _guard(f: Figures) -> Iterator[str]:
    """Say where to clip, unless a history says what there is to say of it."""
    if "updates" not in f:
        yield f"""If single updates throw the training back, clip at about {{clip}}, between {{clip_from}} and
            {{clip_to}}. The rule is 1/2 to 10 times the average norm over many updates ({PAPER}); this is one batch,
            and norms often fall as a training goes on: look again then."""


def _look_again(f: Figures) -> Iterator[str]:
    if f.get("reach", math.inf) < 1000:
        yield "For sequences longer than {reach:whole steps} look again: less than 1 % would be left there."
    if f.get("dead_units", 0) > _ENOUGH * f["H"]:
        yield """Watch the dead units, {dead_units:d} of {H:d}: if they become more in training, lower the learning
            rate."""


ADVICE: dict[str, Sentences] = {
    "not finite": (_after_not_finite,),
    "dead": (
        _largest_term,
        """If the {dead_units:d} units died in training: one update that is too large is enough, and no gradient brings
        them back. Start again with a smaller learning rate, and clip.""",
        'Or take activation="tanh", whose φ′ is never exactly 0; that of ReLU is, here at {off:percent}.',
    ),
    "no gradient": (
        """Look for a head whose weight is 0, a detach(), or a mask over everything: {enters:d} of {T:steps} get a
        gradient.""",
    ),
    "exploding": (_smaller, _CLIP_FIRST, _GROWN),
    "saturated": (
        """Make the pre-activations smaller: |z_t| is {mean_pre_activation} on average, and tanh is flat beyond 2.2, the
        sigmoid beyond 4.4.""",
        _largest_term,
    ),
    "vanishing": (
        _wide_open,
        _other_start,
        """Or take an LSTMLayer or a GRULayer: its gate f or z, once open, is a path from step to step with a factor
        near 1, instead of {rate:.3g}{mean_slope:=}.""",
        "Do not clip against it: that makes no gradient larger, and {left:percent} of the norm is left.",
        _within_reach,
    ),
    "too short": (
        "Give it a sequence longer than T = {T:d}, or a loss of a later step: gradients go back from there.",
    ),
    "healthy": (
        """Nothing to mend on this batch's way back: over {steps_back:steps} the norm becomes {left} times what it
        was.""",
        _guard,
        _look_again,
    ),
}
"""What to try, the most promising first."""
