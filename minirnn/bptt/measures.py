"""The figures that `doctor` reports, read off a trace."""

import math
from typing import Any

import numpy as np

from minirnn.arguments import Array
from minirnn.bptt.flow import Flow
from minirnn.bptt.survival import survival

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
    """Return all figures there are, by name; those that cannot be measured are left out.

    `minirnn.bptt.doctor` lists them. Nothing here warns of numbers that overflow.
    """
    with np.errstate(all="ignore"):
        figures = _setting(trace) | {"gradient_norms": trace.gradient_norms.tolist()}
        bad = first_not_finite(trace)
        if bad is not None:
            figures["not_finite"] = bad
        if bad is None or bad["pass"] == "backward":
            figures |= _decay(trace)
        figures |= _matrix(trace)
        if bad is None or bad["pass"] not in ("given", "forward"):
            figures |= _activations(trace)
        return figures | _clipping(trace, figures)


def _setting(trace: Flow) -> Figures:
    layer, x = trace.layer, trace.x
    found: Figures = {"layer": type(layer).__name__, "T": trace.T, "N": trace.N, "H": trace.H, "dtype": str(x.dtype)}
    found |= {"loss": trace.total_loss, "largest_input": _largest(x)}
    found["enters"] = int(np.count_nonzero(trace.dL_dh_local.any(axis=(1, 2))))
    if layer.message_clip is not None:
        found["message_clip"] = layer.message_clip
    return found


def _largest(a: Array) -> float:
    return float(np.abs(a).max(initial=0))


# --- not finite -------------------------------------------------------------------------------------------------------


def first_not_finite(trace: Flow) -> Figures | None:
    """Return what is NaN or inf first, in the order in which it is computed, or None.

    Returns
    -------
    dict : "pass" (given, forward, loss or backward), "what", "step" (None for what has none) and "value" (nan or inf)
    """
    u, turn = trace._unrolled, trace._turn
    given = [(f"the parameter {p.name}", p.data) for p in trace.layer.parameters()]
    given += [(f"the initial state {name}", s[0]) for name, s in zip(trace.layer.state_names, u.states, strict=False)]
    forward = [("x_t", trace.x), ("the pre-activation z_t", trace.pre_activations)]
    forward += [("c_t", trace.cs)] if hasattr(trace, "cs") else []
    forward += [("h_t", trace.hs)]
    backward = [("dL/dh_t as it enters", trace.dL_dh_local), ("dL/dh_t as it is carried", trace.dL_dh_carried)]
    backward += [("dL/dz_t", trace.dL_dz)]
    after = [(f"the gradient of {name}", a) for name, a in trace.gradients.items()]
    met = _by_step("forward", [(what, a[turn]) for what, a in forward], range(trace.T), trace)
    if met:
        return _whole("given", given) or met
    return (
        _whole("loss", [("the loss", trace.loss)])
        or _by_step("backward", [(what, a[turn]) for what, a in backward], range(trace.T - 1, -1, -1), trace)
        or _whole("backward", after)
    )


def _whole(of: str, arrays: list[tuple[str, Array]]) -> Figures | None:
    for what, a in arrays:
        if not np.isfinite(a).all():
            return {"pass": of, "what": what, "step": None, "value": _kind(a)}
    return None


def _by_step(of: str, arrays: list[tuple[str, Array]], order: range, trace: Flow) -> Figures | None:
    bad = np.array([~np.isfinite(a).all(axis=(1, 2)) for _, a in arrays])
    if not bad.any():
        return None
    k = next(k for k in order if bad[:, k].any())
    what, a = arrays[int(bad[:, k].argmax())]
    return {"pass": of, "what": what, "step": trace._order(k), "value": _kind(a[k])}


def _kind(a: Array) -> str:
    return "NaN" if np.isnan(a).any() else "inf"


# --- the way back -----------------------------------------------------------------------------------------------------


def _decay(trace: Flow) -> Figures:
    """Return what is left of the gradient that enters last, and how fast it goes."""
    enters_at, growth = survival(trace)
    steps = len(growth)
    found: Figures = {"enters_at": enters_at, "steps_back": steps}
    if not steps:
        return found
    found["left"] = _exp(float(growth.sum()))
    if np.isfinite(growth[-1]):
        found["underflows"] = _underflows(trace)
    later = growth[1:] if steps > 1 and np.isfinite(growth[0]) else growth
    found |= {
        "first_factor": _exp(float(growth[0])),
        "carried": _exp(float(later.sum())),
        "rate": _exp(float(later.mean())),
    }
    logarithm = -float(later.mean())
    if abs(logarithm) < 1e-6:  # float32 has seven digits
        return found | {"rate": 1.0}
    if logarithm > 0:
        return found | {"half_life": math.log(2) / logarithm, "reach": -math.log(REACH) / logarithm}
    return found | {"doubling_time": -math.log(2) / logarithm}


def _underflows(trace: Flow) -> int:
    """Return at how many steps dL/dh_t is 0 although nothing cuts it off: its dtype has no number so small."""
    source = int(np.flatnonzero(trace._run.entering.any(axis=(1, 2)))[-1])
    reached = trace.gradient_norms[trace._turn][int(trace._unrolled.first.min()) : source + 1]
    return int(np.count_nonzero(reached == 0))


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
    steps, valid = trace._unrolled.steps, trace.valid
    found = _terms(trace)
    if None in steps.activations:
        return found
    slopes = trace.slopes
    weights = valid.sum(axis=1)
    share = (trace.saturation * weights[:, None]).sum(axis=0) / weights.sum()
    if len(steps.gates) == 1:
        found["mean_slope"] = float(slopes[valid].mean(dtype=np.float64))
    if activation_of(trace) == "relu":
        dead = int((slopes == 0).all(axis=(0, 1)).sum())
        return found | {"off": float(share[0]), "dead_units": dead}
    found["saturation"] = {gate: float(s) for gate, s in zip(steps.gates, share, strict=True)}
    if len(steps.gates) > 1 and steps.keep is not None:
        found["kept"] = float(steps.keep[valid[trace._turn]].mean(dtype=np.float64))
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


def activation_of(trace: Flow) -> str:
    """Return the name of φ; that of the cell where there are gates or a cell of one's own."""
    first, *others = trace._unrolled.steps.activations
    return "" if first is None or others else first.name


# --- clipping ---------------------------------------------------------------------------------------------------------


def _clipping(trace: Flow, figures: Figures) -> Figures:
    """Return the joint norm of the parameters' gradients, and a threshold made of it.

    Where the gradient grows on its way back its norm is no measure; then that is the share of the step at which it
    enters, which has been through no W_hh.
    """
    norm = _joint([_flat_norm(a) for a in trace.gradients.values()])
    found: Figures = {"parameter_gradient_norm": norm}
    if figures.get("carried", 1.0) > EXPLODED:
        last = trace._order(int(np.flatnonzero(trace._run.entering.any(axis=(1, 2)))[-1]))
        norm = _joint([float(norms[last]) for norms in trace.norms_by_step.values()])
        found |= {"clip_step": last, "clip_step_norm": norm}
        return found | ({"clip": norm} if 0 < norm <= LARGEST_CLIP else {})
    if 0 < norm < math.inf:
        found |= {"clip": CLIP * norm, "clip_from": CLIP_RANGE[0] * norm, "clip_to": CLIP_RANGE[1] * norm}
    return found


def _flat_norm(a: Array) -> float:
    return float(np.linalg.norm(a.astype(np.float64)))


def _joint(norms: list[float]) -> float:
    return math.hypot(*norms)
