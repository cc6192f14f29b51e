"""What to try, by verdict."""

import math
from collections.abc import Callable

from minirnn.bptt.findings import ROUNDING, Finding, number, percent, steps
from minirnn.bptt.measures import Figures

_ENOUGH = 0.1  # of the units: with more of them dead, a layer that is healthy otherwise is told so


def advise(verdict: str, figures: Figures) -> list[Finding]:
    """Return what to try, the most promising first."""
    return _ADVICE[verdict](figures)


def _wide_open(f: Figures) -> list[Finding]:
    """Return how to make a gate keep for about T steps (Tallec & Ollivier 2018), unless it does."""
    bias = math.log(max(f["T"] - 1, 2))
    kept = 1 / (1 + math.exp(-bias))
    if f["kept"] >= kept:
        return []
    lstm = f["layer"] == "LSTMLayer"
    where = f"forget_bias={bias:.2g}" if lstm else f"{bias:.2g} in the block of z in b_h (columns H to 2H)"
    text = f"Let {'f' if lstm else 'z'} keep for as long as the sequence lasts: {where}, which is ln(T − 1) for "
    text += f"T = {f['T']}, starts it at {kept:.3g} instead of {number(f['kept'])} (Tallec & Ollivier 2018)."
    return [Finding(text, ("T", "kept"))]


# --- vanishing, exploding ---------------------------------------------------------------------------------------------


def _vanishing(f: Figures) -> list[Finding]:
    found = []
    if "kept" in f:
        found += _wide_open(f)
    elif "mean_slope" in f:
        found += _other_start(f)
        text = "Or take an LSTMLayer or a GRULayer: its gate f or z, once open, is a path from step to step with a "
        found.append(Finding(f"{text}factor near 1, instead of {f['rate']:.3g}.", ("rate",)))
    text = f"Do not clip against it: that makes no gradient larger, and {percent(f['left'])} of the norm is left."
    found.append(Finding(text, ("left",)))
    if f.get("reach", math.inf) < f["steps_back"]:
        back = steps(max(1, math.ceil(f["reach"])))
        text = (
            f"If it must stay as it is, go back {back} at a time (truncated BPTT): beyond them less than 1 % is left "
        )
        text += "anyway."
        found.append(Finding(text, ("reach",)))
    return found


def _other_start(f: Figures) -> list[Finding]:
    """Return how to start an Elman layer whose gradients do not vanish."""
    if f["largest_slope"] < 1:
        text = f"Take another activation: this φ′ is at most {number(f['largest_slope'])}, that of tanh and ReLU is 1."
        return [Finding(text, ("largest_slope",)), _irnn(f)]
    if f["identity"] and "off" in f:
        text = (
            f"Keep its rectifiers on: W_hh is the identity already, but {percent(f['off'])} are off, and each cuts a "
        )
        return [Finding(f"{text}path. Start b_h a little above 0, or scale the input down.", ("off", "identity"))]
    return [_irnn(f)]


def _irnn(f: Figures) -> Finding:
    text = 'Start as an IRNN: activation="relu", init="irnn" (Le et al. 2015). W_hh = I has the spectral radius 1 '
    text += f"(here {number(f['spectral_radius'])}), and φ′ is exactly 1 at a unit that is on "
    text += f"(here {number(f['mean_slope'])} on average)."
    return Finding(text, ("spectral_radius", "mean_slope"))


def _exploding(f: Figures) -> list[Finding]:
    found = _smaller_start(f)
    if "clip" in f:
        text = (
            f"Clip before every update: mr.optim.clip_grad_norm(model.parameters(), {f['clip']:.2g}). That keeps the "
        )
        text += f"step small, not the direction: what comes from far back still outweighs the rest {number(f['left'])} "
        text += "to 1."
        found.append(Finding(text, ("clip", "left")))
    if f["rate"] > 1:
        tenfold = steps(math.ceil(math.log(10) / math.log(f["rate"])))
        text = f"Go back fewer steps at a time (truncated BPTT): at {f['rate']:.3g} a step it has grown tenfold in "
        text += f"{tenfold}."
        found.append(Finding(text, ("rate",)))
    return found


def _smaller_start(f: Figures) -> list[Finding]:
    """Return how to start with a smaller W_hh, if it is larger than it need be, or with less dropout."""
    if f.get("largest_mask", 1.0) > 1 and f["step_bound"] / f["largest_mask"] <= 1 + ROUNDING:
        text = (
            f"Drop less: recurrent_dropout multiplies what it keeps of h by {number(f['largest_mask'])}, and W_hh with "
        )
        return [Finding(f"{text}σ₁ = {number(f['spectral_norm'])} does not.", ("largest_mask", "spectral_norm"))]
    norms = f["spectral_norm"] if isinstance(f["spectral_norm"], dict) else {"": f["spectral_norm"]}
    gate = max(norms, key=norms.__getitem__)
    if norms[gate] <= 1 + ROUNDING:
        return []
    block = f" in the block of {gate}" if gate else ""
    text = 'Start with a smaller W_hh: recurrent_initializer="orthogonal" has σ₁ = 1 instead of '
    text += f"{number(norms[gate])}{block}. If it grew so in training, lower the learning rate."
    return [Finding(text, ("spectral_norm",))]


# --- units ------------------------------------------------------------------------------------------------------------


def _saturated(f: Figures) -> list[Finding]:
    z = number(f["mean_pre_activation"])
    text = (
        f"Make the pre-activations smaller: |z_t| is {z} on average, and tanh is flat beyond 2.2, the sigmoid beyond "
    )
    text += "4.4."
    return [Finding(text, ("mean_pre_activation",)), *_largest_term(f)]


def _largest_term(f: Figures) -> list[Finding]:
    """Return what the pre-activations are mostly made of, and what to do about that."""
    if "mean_bias" not in f:
        return []
    terms = {
        "mean_input_term": ("X_t W_xh", f"scale the input (|x_t| goes up to {number(f['largest_input'])}), or W_xh"),
        "mean_recurrent_term": (
            "H_{t-1} W_hh",
            'start with a smaller W_hh, such as recurrent_initializer="orthogonal"',
        ),
        "mean_bias": ("b_h", "start b_h at 0"),
    }
    largest = max(terms, key=lambda name: f[name])
    sizes = ", ".join(f"{number(f[name])} of {term}" for name, (term, _) in terms.items())
    term, remedy = terms[largest]
    text = f"Of the terms of z_t {term} is the largest ({sizes}, on average): {remedy}. If it grew so in training, "
    return [Finding(f"{text}lower the learning rate.", (*terms, "largest_input"))]


def _dead(f: Figures) -> list[Finding]:
    text = f"If the {f['dead_units']} units died in training: one update that is too large is enough, and no gradient "
    died = Finding(f"{text}brings them back. Start again with a smaller learning rate, and clip.", ("dead_units",))
    text = f'Or take activation="tanh", whose φ′ is never exactly 0; that of ReLU is, here at {percent(f["off"])}.'
    return [*_largest_term(f), died, Finding(text, ("off",))]


# --- the others -------------------------------------------------------------------------------------------------------


def _not_finite(f: Figures) -> list[Finding]:
    bad = f["not_finite"]
    if bad["pass"] == "given":
        text = (
            f"Look for the update or the file that put {bad['value']} into {bad['what']}: all {steps(f['T'])} follow."
        )
        return [Finding(text, ("not_finite", "T"))]
    if bad["what"] == "x_t":
        text = (
            f"Clean the input: x at step t = {bad['step']} has {bad['value']}. If that is padding, say so by lengths=."
        )
        return [Finding(text, ("not_finite",))]
    if bad["pass"] == "backward" and f.get("rate", 0.0) > 1:
        return _exploding(f)
    at = "" if bad["step"] is None else f" at step t = {bad['step']}"
    text = f"Run it within mr.detect_anomaly(): it names what makes the first {bad['value']}{at}."
    found = [Finding(text, ("not_finite",))]
    if isinstance(f.get("spectral_radius"), float) and bad["pass"] == "forward":
        text = "If h_t grows from step to step, W_hh is too large: its spectral radius is "
        text += f"{number(f['spectral_radius'])}, "
        found.append(Finding(f"{text}and with ReLU or the identity nothing bounds h_t.", ("spectral_radius",)))
    return found


def _no_gradient(f: Figures) -> list[Finding]:
    text = "Look for a head whose weight is 0, a detach(), or a mask over everything: "
    return [Finding(f"{text}{f['enters']} of {steps(f['T'])} get a gradient.", ("enters", "T"))]


def _too_short(f: Figures) -> list[Finding]:
    text = f"Give it a sequence longer than T = {f['T']}, or a loss of a later step: gradients go back from there."
    return [Finding(text, ("T",))]


def _healthy(f: Figures) -> list[Finding]:
    then = " on this batch's way back" if "updates" in f else ", train it"
    text = f"Nothing to mend{then}: {percent(f['left'])} of the norm comes through {steps(f['steps_back'])}."
    found = [Finding(text, ("left", "steps_back"))]
    if "reach" in f and f["reach"] < 1000:
        text = (
            f"For sequences longer than {steps(math.floor(f['reach']))} look again: less than 1 % would be left there."
        )
        found.append(Finding(text, ("reach",)))
    if f.get("dead_units", 0) > _ENOUGH * f["H"]:
        text = (
            f"Watch the dead units, {f['dead_units']} of {f['H']}: if they become more in training, lower the learning "
        )
        found.append(Finding(f"{text}rate.", ("dead_units", "H")))
    return found


_ADVICE: dict[str, Callable[[Figures], list[Finding]]] = {
    "not finite": _not_finite,
    "no gradient": _no_gradient,
    "dead": _dead,
    "exploding": _exploding,
    "saturated": _saturated,
    "vanishing": _vanishing,
    "too short": _too_short,
    "healthy": _healthy,
}
