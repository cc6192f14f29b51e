"""What to try, by verdict."""

import math
from collections.abc import Iterator

from minirnn.bptt.findings import ROUNDING, Sentences
from minirnn.bptt.measures import Figures

_ENOUGH = 0.1  # of the units: with more of them dead, a layer that is healthy otherwise is told so
_TAKE_BACK = "If it grew so in training, lower the learning rate."
_GROWN = """Go back fewer steps at a time (truncated BPTT): at {rate:.3g} a step it has grown tenfold in
    {rate:steps to tenfold}."""
_CLIP = """Clip before every update: mr.optim.clip_grad_norm(model.parameters(), {clip:.2g}). That keeps the step small,
    not the direction: what comes from far back still outweighs the rest {left} to 1."""


def _not_finite(f: Figures) -> Iterator[str]:
    bad = f["not_finite"]
    if bad["pass"] == "given":
        yield """Look for the update or the file that put {not_finite[value]} into {not_finite[what]}: all {T:steps}
            follow."""
    elif bad["what"] == "x_t":
        yield """Clean the input: x{not_finite[step]:at step} has {not_finite[value]}. If that is padding, say so by
            lengths=."""
    elif bad["pass"] == "backward" and f.get("rate", 0.0) > 1:
        yield from (*_smaller(f), _CLIP, _GROWN)
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


# --- the gradient on its way back -------------------------------------------------------------------------------------


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


def _dead_units(f: Figures) -> Iterator[str]:
    if f.get("dead_units", 0) > _ENOUGH * f["H"]:
        yield """Watch the dead units, {dead_units:d} of {H:d}: if they become more in training, lower the learning
            rate."""


ADVICE: dict[str, Sentences] = {
    "not finite": (_not_finite,),
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
    "exploding": (_smaller, _CLIP, _GROWN),
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
        """Nothing to mend on this batch's way back: {left:percent} of the norm comes through {steps_back:steps}.""",
        "For sequences longer than {reach:whole steps} look again: less than 1 % would be left there.",
        _dead_units,
    ),
}
"""What to try, the most promising first."""
