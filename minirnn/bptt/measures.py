"""The figures that `doctor` reports, read off a trace."""

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np

from minirnn.arguments import Array
from minirnn.bptt.flow import Flow

Figures = dict[str, Any]

EXPLODED = 10.0
"""Exploding: the gradient grows by more than this, so that no learning rate suits both ends of the sequence."""
REACH = 0.01
"""What is called next to nothing: a hundredth drowns in the noise of a mini-batch."""
CLIP = 5**0.5
"""The suggested threshold in gradient norms: the middle of 1/2 … 10 (Pascanu et al. 2013), on a logarithmic scale."""
CLIP_RANGE = (0.5, 10.0)
LARGEST_CLIP = 1e3
"""No threshold above this is suggested: where one step alone gives more, the states have exploded too."""


def measure(trace: Flow, delay: int | None = None) -> Figures:
    """Return all figures there are, by name, as `minirnn.bptt.doctor` lists them; the way back ends after ``delay``."""
    figures, bad = _setting(trace), first_not_finite(trace)
    met = bad["pass"] if bad else ""
    figures |= {"not_finite": bad} if bad else {}
    figures |= _decay(trace, delay) if met in ("", "backward") else {}
    figures |= _matrix(trace)
    figures |= _activations(trace) if met not in ("given", "forward") else {}
    return figures | _clipping(trace, figures)


def _setting(trace: Flow) -> Figures:
    layer, clip = trace.layer, trace.layer.message_clip
    return {
        "layer": type(layer).__name__,
        "T": trace.T,
        "N": trace.N,
        "H": trace.H,
        "dtype": str(trace.x.dtype),
        "states": list(layer.state_names),
        "loss": trace.total_loss,
        "largest_input": _largest(trace.x),
        "enters": int(np.count_nonzero(trace.dL_dh_local.any(axis=(1, 2)))),
        **({} if clip is None else {"message_clip": clip}),
        "gradient_norms": trace.gradient_norms.tolist(),
    }


def _largest(a: Array) -> float:
    return float(np.abs(a).max(initial=0))


def first_not_finite(trace: Flow) -> Figures | None:
    """Find the first NaN or inf, in the order of computation: its pass, what, step and value; None if all is finite.

    What was given counts where it is met on the way forward; it has no step, nor have the loss and the whole gradients.
    """
    order = [trace.order(k) for k in range(trace.T)]
    states = zip(trace.layer.state_names, trace.unrolled.states, strict=True)
    given = {f"the parameter {p.name}": p.data for p in trace.layer.parameters()}
    given |= {f"the initial state {name}": s[0] for name, s in states}
    forward = {"x_t": trace.x, "the pre-activation z_t": trace.pre_activations}
    forward |= ({"c_t": trace.cs} if hasattr(trace, "cs") else {}) | {"h_t": trace.hs}
    backward = {"dL/dh_t as it enters": trace.dL_dh_local, "dL/dh_t as it is carried": trace.dL_dh_carried}
    met = _first("forward", forward, order)
    if met:
        return _first("given", given) or met
    return (
        _first("loss", {"the loss": trace.loss})
        or _first("backward", backward | {"dL/dz_t": trace.dL_dz}, order[::-1])
        or _first("backward", {f"the gradient of {name}": a for name, a in trace.gradients.items()})
    )


def _first(of: str, arrays: Mapping[str, Array], steps: Sequence[int | None] = (None,)) -> Figures | None:
    for t in steps if not all(np.isfinite(a).all() for a in arrays.values()) else ():
        for what, a in arrays.items():
            here = a if t is None else a[t]
            if not np.isfinite(here).all():
                return {"pass": of, "what": what, "step": t, "value": "NaN" if np.isnan(here).any() else "inf"}
    return None


# --- the way back -----------------------------------------------------------------------------------------------------


def _decay(trace: Flow, delay: int | None) -> Figures:
    """Measure how much of the gradient that enters last is left, and how fast it goes."""
    enters_at, growth = survival(trace)
    growth = growth[:delay]
    steps = len(growth)
    found: Figures = {"enters_at": enters_at, "steps_back": steps} | ({} if delay is None else {"delay": delay})
    if not steps:
        return found
    found["left"] = _exp(growth.sum())
    if np.isfinite(growth[-1]):  # 0 although nothing cuts it off: the dtype has no number so small
        reached = trace.gradient_norms[trace.turn][int(trace.unrolled.first.min()) : _source(trace) + 1]
        found["underflows"] = int(np.count_nonzero(reached == 0))
    later = growth[1:] if steps > 1 and np.isfinite(growth[0]) else growth
    mean = float(later.mean())
    found |= {"first_factor": _exp(growth[0]), "carried": _exp(later.sum()), "rate": _exp(mean)}
    if abs(mean) < 1e-6:  # float32 has seven digits
        return found | {"rate": 1.0}
    if mean < 0:
        return found | {"half_life": -math.log(2) / mean, "reach": math.log(REACH) / mean}
    return found | {"doubling_time": math.log(2) / mean}


def _source(trace: Flow) -> int:
    """Return the last step at which a gradient enters, in the order of processing."""
    return int(np.flatnonzero(trace.entering.any(axis=(1, 2)))[-1])


def _exp(logarithm: float) -> float:
    return math.exp(logarithm) if logarithm < 709 else math.inf


# --- W_hh and φ -------------------------------------------------------------------------------------------------------


def _matrix(trace: Flow) -> Figures:
    """Return the spectral radius and the norm of W_hh, block by block, and of a single block the bound on a step."""
    u = trace.unrolled
    W = u.weights.W_hh.astype(np.float64)
    if not np.isfinite(W).all():
        return {}
    blocks = dict(zip(u.gates, np.split(W, len(u.gates), axis=1), strict=True))
    radius = {gate: float(np.abs(np.linalg.eigvals(B)).max()) for gate, B in blocks.items()}
    norm = {gate: float(np.linalg.norm(B, 2)) for gate, B in blocks.items()}
    if len(blocks) > 1:
        return {"spectral_radius": radius, "spectral_norm": norm}
    (rho,), (sigma,) = radius.values(), norm.values()
    found: Figures = {"spectral_radius": rho, "spectral_norm": sigma, "identity": np.array_equal(W, np.eye(trace.H))}
    if None not in u.activations:
        steepest = _largest(u.slopes) if u.bounds[0] is None else u.bounds[0]
        mask = {} if u.mask is None else {"largest_mask": _largest(u.mask)}
        bound = sigma * steepest * mask.get("largest_mask", 1.0)
        found |= {"largest_slope": steepest, "step_bound": bound} | mask
    return found


def _activations(trace: Flow) -> Figures:
    """Return how the units work: slopes, shares that are flat, off or dead, and what a gated cell keeps."""
    u, valid, found = trace.unrolled, trace.valid, _terms(trace)
    if None in u.activations:
        return found
    slopes, weights = trace.slopes, valid.sum(axis=1)
    share = (trace.saturation * weights[:, None]).sum(axis=0) / weights.sum()
    if len(u.gates) == 1:
        found["mean_slope"] = float(slopes[valid].mean(dtype=np.float64))
    if [phi.name for phi in u.activations if phi] == ["relu"]:
        return found | {"off": float(share[0]), "dead_units": int((slopes == 0).all(axis=(0, 1)).sum())}
    found["saturation"] = dict(zip(u.gates, share.tolist(), strict=True))
    if len(u.gates) > 1 and u.keep is not None:
        found |= {
            "kept": float(u.keep[u.valid].mean(dtype=np.float64)),
            "kept_by": u.keeper,
            "kept_at": u.gates.index(u.keeper),
            "kept_start": u.cell.bias_settings.get(u.keeper, ""),
        }
    return found


def _terms(trace: Flow) -> Figures:
    """Return the mean |z_t|, and those of the terms it is the sum of."""
    u, valid = trace.unrolled, trace.valid
    terms = {
        "mean_pre_activation": trace.pre_activations[valid],
        "mean_input_term": trace.x[valid] @ u.weights.W_xh,
        "mean_recurrent_term": np.concatenate([fed @ u.weights.W_hh[:, of] for of, fed in u.fed()], axis=-1)[u.valid],
        "mean_bias": np.zeros(1) if u.weights.b_h is None else u.weights.b_h,
    }
    return {name: float(np.abs(a).mean(dtype=np.float64)) for name, a in terms.items()}


def _clipping(trace: Flow, figures: Figures) -> Figures:
    """Return the joint norm of the parameters' gradients, and a threshold made of it.

    Where the gradient grows on its way back its norm is no measure; then that is the share of the step at which it
    enters, which has been through no W_hh.
    """
    norm = math.hypot(*(float(np.linalg.norm(a.astype(np.float64))) for a in trace.gradients.values()))
    found: Figures = {"parameter_gradient_norm": norm} if math.isfinite(norm) else {}
    if figures.get("carried", 1.0) > EXPLODED:
        last = trace.order(_source(trace))
        share = math.hypot(*(float(norms[last]) for norms in trace.norms_by_step.values()))
        found |= {"clip_step": last, "clip_step_norm": share}
        return found | ({"clip": share} if 0 < share <= LARGEST_CLIP else {})
    low, high = CLIP_RANGE
    threshold = {"clip": CLIP * norm, "clip_from": low * norm, "clip_to": high * norm}
    return found | (threshold if 0 < norm < math.inf else {})


def survival(trace: Flow) -> tuple[int | None, Array]:
    """Send the gradient that enters last back alone, through every step there is.

    Return the step at which it enters, in time order (None where the rows differ, or nothing enters), and (J,) the
    logarithm of the factor by which each of J steps back multiplies its norm, of the full state ([h c] for an LSTM),
    over all rows that have the step. −inf where nothing is left; then it ends. ``message_clip`` is left out.

    Each row is scaled to norm 1 after every step, which changes no factor, since the way back is linear; so nothing
    overflows, and nothing is lost to small numbers.
    """
    enters = np.asarray(trace.entering.any(axis=2))
    rows = enters.any(axis=0)
    source = np.where(rows, trace.T - 1 - enters[::-1].argmax(axis=0), -1)
    lengths = np.where(rows, source - trace.unrolled.first, 0)
    at = {trace.order(int(k)) for k in source[rows]}
    growth = []
    for before, after in itertools.pairwise(_logs(trace, source, lengths)):
        there = ~np.isnan(after)
        arrives = _total(before[there])
        if arrives == -np.inf:
            break
        growth.append(_total(after[there]) - arrives)
    return at.pop() if len(at) == 1 else None, np.array(growth)


def _logs(trace: Flow, source: Array, lengths: Array) -> Array:
    """Return the logarithm of each row's norm j steps back, (J + 1, N); NaN where the row has no such step."""
    u, N = trace.unrolled, np.arange(trace.N)
    logs = np.full((int(lengths.max()) + 1, trace.N), np.nan)
    d_state, now = u.zeros(), np.zeros(trace.N)
    for k in range(int(source.max()), -1, -1):
        starts, j = source == k, source - k
        for s, d in enumerate(d_state):
            d[starts] = 0 if s else trace.entering[k][starts]
        now = _scaled(d_state, np.where(starts, 0.0, now))
        here = (j >= 0) & (j <= lengths)
        logs[j[here], N[here]] = now[here]
        d_state = u.back(k, d_state).before
    return logs


def _scaled(d_state: list[Array], logs: Array) -> Array:
    """Scale each row of a state's gradient (N, H) to norm 1, in place; return ``logs`` plus the logarithm of its norm.

    First by the largest entry, whose square need not be a number.
    """
    for measure in (_peaks, _norm):
        size = measure(d_state)
        logs = logs + np.where(size > 0, np.log(np.where(size > 0, size, 1)), -np.inf)
        for d in d_state:
            d /= np.where(size > 0, size, 1)[:, None]
    return logs


def _peaks(d_state: list[Array]) -> Array:
    return cast(Array, np.max([np.abs(d).max(axis=1) for d in d_state], axis=0).astype(np.float64))


def _norm(d_state: list[Array]) -> Array:
    return cast(Array, np.sqrt(np.sum([np.square(d.astype(np.float64)).sum(axis=1) for d in d_state], axis=0)))


def _total(logs: Array) -> float:
    """Return the logarithm of the joint norm of rows whose norms have these logarithms."""
    top = logs.max()
    return float(top + np.log(np.exp(2 * (logs - top)).sum()) / 2) if np.isfinite(top) else float(top)
