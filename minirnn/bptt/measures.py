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


def measure(trace: Flow) -> Figures:
    """Return all figures there are, by name, as `minirnn.bptt.doctor` lists them. Numbers that overflow are no news."""
    with np.errstate(all="ignore"):
        figures, bad = _setting(trace), first_not_finite(trace)
        met = bad["pass"] if bad else ""
        figures |= {"not_finite": bad} if bad else {}
        figures |= _decay(trace) if met in ("", "backward") else {}
        figures |= _matrix(trace)
        figures |= _activations(trace) if met not in ("given", "forward") else {}
        return figures | _clipping(trace, figures)


def _setting(trace: Flow) -> Figures:
    layer, x, clip = trace.layer, trace.x, trace.layer.message_clip
    found: Figures = {"layer": type(layer).__name__, "T": trace.T, "N": trace.N, "H": trace.H, "dtype": str(x.dtype)}
    found |= {"states": list(layer.state_names), "loss": trace.total_loss, "largest_input": _largest(x)}
    found |= {"enters": int(np.count_nonzero(trace.dL_dh_local.any(axis=(1, 2))))}
    return found | ({} if clip is None else {"message_clip": clip}) | {"gradient_norms": trace.gradient_norms.tolist()}


def _largest(a: Array) -> float:
    return float(np.abs(a).max(initial=0))


def first_not_finite(trace: Flow) -> Figures | None:
    """Return what is NaN or inf first, in the order in which it is computed: its pass, what, step and value; or None.

    What was given counts where it is met on the way forward; it has no step, nor have the loss and the whole gradients.
    """
    order = [trace._order(k) for k in range(trace.T)]
    states = zip(trace.layer.state_names, trace._unrolled.states, strict=True)
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
    if all(np.isfinite(a).all() for a in arrays.values()):
        return None
    for t in steps:
        for what, a in arrays.items():
            here = a if t is None else a[t]
            if not np.isfinite(here).all():
                return {"pass": of, "what": what, "step": t, "value": "NaN" if np.isnan(here).any() else "inf"}
    return None


# --- the way back -----------------------------------------------------------------------------------------------------


def _decay(trace: Flow) -> Figures:
    """Return what is left of the gradient that enters last, and how fast it goes."""
    enters_at, growth = survival(trace)
    steps = len(growth)
    found: Figures = {"enters_at": enters_at, "steps_back": steps}
    if not steps:
        return found
    found["left"] = _exp(float(growth.sum()))
    if np.isfinite(growth[-1]):  # 0 although nothing cuts it off: the dtype has no number so small
        reached = trace.gradient_norms[trace._turn][int(trace._unrolled.first.min()) : _source(trace) + 1]
        found["underflows"] = int(np.count_nonzero(reached == 0))
    later = growth[1:] if steps > 1 and np.isfinite(growth[0]) else growth
    mean = float(later.mean())
    found |= {"first_factor": _exp(float(growth[0])), "carried": _exp(float(later.sum())), "rate": _exp(mean)}
    if abs(mean) < 1e-6:  # float32 has seven digits
        return found | {"rate": 1.0}
    if mean < 0:
        return found | {"half_life": -math.log(2) / mean, "reach": math.log(REACH) / mean}
    return found | {"doubling_time": math.log(2) / mean}


def _source(trace: Flow) -> int:
    """Return the last step at which a gradient enters, in the order of processing."""
    return int(np.flatnonzero(trace._run.entering.any(axis=(1, 2)))[-1])


def _exp(logarithm: float) -> float:
    return math.exp(logarithm) if logarithm < 709 else math.inf


# --- W_hh and φ -------------------------------------------------------------------------------------------------------


def _matrix(trace: Flow) -> Figures:
    """Return the spectral radius and the norm of W_hh, block by block, and of a single block the bound on a step."""
    u, H = trace._unrolled, trace.H
    W = u.steps.W_hh.astype(np.float64)
    if not np.isfinite(W).all():
        return {}
    blocks = {gate: W[:, j * H : (j + 1) * H] for j, gate in enumerate(u.steps.gates)}
    radius = {gate: float(np.abs(np.linalg.eigvals(B)).max()) for gate, B in blocks.items()}
    norm = {gate: float(np.linalg.norm(B, 2)) for gate, B in blocks.items()}
    if len(blocks) > 1:
        return {"spectral_radius": radius, "spectral_norm": norm}
    (gate,) = blocks
    found: Figures = {"spectral_radius": radius[gate], "spectral_norm": norm[gate]}
    found["identity"] = bool(np.array_equal(W, np.eye(H)))
    if None in u.steps.activations:
        return found
    bound = u.steps.bounds[0]
    steepest = bound if bound is not None else _largest(u.steps.slopes)
    mask = 1.0 if u.steps.mask is None else _largest(u.steps.mask)
    found |= {"largest_slope": steepest, "step_bound": norm[gate] * steepest * mask}
    return found if u.steps.mask is None else found | {"largest_mask": mask}


def _activations(trace: Flow) -> Figures:
    """Return how the units work: slopes, shares that are flat, off or dead, and what a gated cell keeps."""
    steps, valid, found = trace._unrolled.steps, trace.valid, _terms(trace)
    if None in steps.activations:
        return found
    slopes, weights = trace.slopes, valid.sum(axis=1)
    share = (trace.saturation * weights[:, None]).sum(axis=0) / weights.sum()
    if len(steps.gates) == 1:
        found["mean_slope"] = float(slopes[valid].mean(dtype=np.float64))
    if [phi.name for phi in steps.activations if phi] == ["relu"]:
        return found | {"off": float(share[0]), "dead_units": int((slopes == 0).all(axis=(0, 1)).sum())}
    found["saturation"] = {gate: float(s) for gate, s in zip(steps.gates, share, strict=True)}
    if len(steps.gates) > 1 and steps.keep is not None:
        found |= {
            "kept": float(steps.keep[valid[trace._turn]].mean(dtype=np.float64)),
            "kept_by": steps.keeper,
            "kept_at": steps.gates.index(steps.keeper),
            "kept_start": steps.cell.bias_settings.get(steps.keeper, ""),
        }
    return found


def _terms(trace: Flow) -> Figures:
    """Return the mean |z_t|, and those of the terms it is the sum of, unless the layer has been trained since."""
    layer, u, valid = trace.layer, trace._unrolled, trace.valid
    terms = {"mean_pre_activation": trace.pre_activations[valid]}
    if np.array_equal(u.steps.W_hh, layer.W_hh.data):
        of_h = np.concatenate([fed @ u.steps.W_hh[:, columns] for columns, fed in u.fed()], axis=-1)
        terms |= {"mean_input_term": trace.x[valid] @ layer.W_xh.data, "mean_recurrent_term": of_h[valid[trace._turn]]}
        terms |= {"mean_bias": np.zeros(1) if layer.b_h is None else layer.b_h.data}
    return {name: float(np.abs(a).mean(dtype=np.float64)) for name, a in terms.items()}


def _clipping(trace: Flow, figures: Figures) -> Figures:
    """Return the joint norm of the parameters' gradients, and a threshold made of it.

    Where the gradient grows on its way back its norm is no measure; then that is the share of the step at which it
    enters, which has been through no W_hh.
    """
    norm = math.hypot(*(float(np.linalg.norm(a.astype(np.float64))) for a in trace.gradients.values()))
    found: Figures = {"parameter_gradient_norm": norm}
    if figures.get("carried", 1.0) > EXPLODED:
        last = trace._order(_source(trace))
        norm = math.hypot(*(float(norms[last]) for norms in trace.norms_by_step.values()))
        found |= {"clip_step": last, "clip_step_norm": norm}
        return found | ({"clip": norm} if 0 < norm <= LARGEST_CLIP else {})
    low, high = CLIP_RANGE
    return found | (
        {"clip": CLIP * norm, "clip_from": low * norm, "clip_to": high * norm} if 0 < norm < math.inf else {}
    )


def survival(trace: Flow) -> tuple[int | None, Array]:
    """Send the gradient that enters last back alone, through every step there is.

    Return the step at which it enters, in time order (None where the rows differ, or nothing enters), and (J,) the
    logarithm of the factor by which each of J steps back multiplies its norm, of the full state ([h c] for an LSTM),
    over all rows that have the step. −inf where nothing is left; then it ends. ``message_clip`` is left out.

    Each row is scaled to norm 1 after every step, which changes no factor, since the way back is linear; so nothing
    overflows, and nothing is lost to small numbers.
    """
    entering = trace._run.entering
    enters: Array = np.asarray(entering.any(axis=2))
    if not enters.any():
        return None, np.zeros(0)
    rows = enters.any(axis=0)
    source = np.where(rows, trace.T - 1 - enters[::-1].argmax(axis=0), -1)
    lengths = np.where(rows, source - trace._unrolled.first, 0)
    at = {trace._order(int(k)) for k in source[rows]}
    return at.pop() if len(at) == 1 else None, _growth(_logs(trace, source, lengths))


def _logs(trace: Flow, source: Array, lengths: Array) -> Array:
    """Return the logarithm of each row's norm j steps back, (J + 1, N); NaN where the row has no such step."""
    u, N = trace._unrolled, np.arange(trace.N)
    logs = np.full((int(lengths.max()) + 1, trace.N), np.nan)
    d_state, now = u.zeros(), np.zeros(trace.N)
    for k in range(int(source.max()), -1, -1):
        starts = source == k
        for d, enters in zip(d_state, [trace._run.entering[k], *[0.0] * (len(d_state) - 1)], strict=True):
            d[...] = np.where(starts[:, None], enters, d)
        now = _scaled(d_state, np.where(starts, 0.0, now))
        j = source - k
        here = (j >= 0) & (j <= lengths)
        logs[j[here], N[here]] = now[here]
        d_state = u.back(k, d_state).before
    return logs


def _scaled(d_state: list[Array], logs: Array) -> Array:
    """Scale each row of a state's gradient (N, H) to norm 1, in place; return ``logs`` plus the logarithm of its norm.

    First by the largest entry, whose square need not be a number.
    """
    total = logs.copy()
    for measure in (_peaks, _norm):
        size = measure(d_state)
        total += np.where(size > 0, np.log(np.where(size > 0, size, 1)), -np.inf)
        for d in d_state:
            d /= np.where(size > 0, size, 1)[:, None]
    return total


def _peaks(d_state: list[Array]) -> Array:
    return cast(Array, np.max([np.abs(d).max(axis=1) for d in d_state], axis=0).astype(np.float64))


def _norm(d_state: list[Array]) -> Array:
    return cast(Array, np.sqrt(np.sum([np.square(d.astype(np.float64)).sum(axis=1) for d in d_state], axis=0)))


def _growth(logs: Array) -> Array:
    """Return the logarithm of the factor of each step, over the rows that have it."""
    growth: list[float] = []
    for before, after in itertools.pairwise(logs):
        rows = ~np.isnan(after)
        arrives = _total(before[rows])
        if arrives == -np.inf:
            break
        growth.append(_total(after[rows]) - arrives)
    return np.array(growth)


def _total(logs: Array) -> float:
    """Return the logarithm of the joint norm of rows whose norms have these logarithms."""
    top = logs.max()
    return float(top + np.log(np.exp(2 * (logs - top)).sum()) / 2) if np.isfinite(top) else float(top)
