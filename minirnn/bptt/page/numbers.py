"""The numbers of a trace that travel in the page: all norms exact, values of units for a few rows of the mini-batch.

A page stays under 5 MB for T = 200 steps and H = 128 neurons. So at most `ROWS` rows and `UNITS` units of each travel,
their values rounded to 8 bits where exact ones would take more than `EXACT` bytes; what a step adds to the gradient of
W_hh travels as its norm and a small picture. The page says what was left out.
"""

import base64
import re
from typing import Any, cast

import numpy as np

from minirnn.arguments import Array
from minirnn.bptt.credit import angle, flat, lags
from minirnn.bptt.diagnosis import doctor
from minirnn.bptt.equations import equations_of
from minirnn.bptt.flow import Flow
from minirnn.bptt.places import Entry, Place
from minirnn.bptt.steps import Back

STEPS = 500
"""The most steps that a page shows."""

ROWS = 8
"""The most rows of the mini-batch whose states travel."""

UNITS = 128
"""The most hidden neurons, and the most inputs, whose values travel."""

EXACT = 3 << 19
"""Bytes that the values of units may take as float64; beyond they are rounded to 8 bits."""

ROUNDED = 3 << 19
"""Bytes that they may take when rounded; beyond there are fewer rows."""

SMALL = 8
"""The most inputs, and the most neurons, whose equation is shown with all its numbers."""

PIXELS = 16
"""The side of the small picture of what a step adds to the gradient of W_hh, of one gate."""

QUANTILES = (1.0, 0.9, 0.75, 0.5, 0.25, 0.1, 0.0)
"""Which singular values travel where there are more than `FEW`: the largest at 1, the median at 0.5."""

FEW = 16
"""The most singular values of a step that travel one by one."""

MULTIPLICATIONS = 3e11
"""What the singular values of all steps may cost, about; beyond they are those of every second step, or fewer."""


def collect(trace: Flow, title: str) -> dict[str, Any]:
    """Return all that the page shows, ready for strict JSON."""
    with np.errstate(all="ignore"):  # NaN and inf are shown as what they are
        rows = list(range(_rows(trace)))
        return {
            "about": _about(trace, title, rows),
            "units": _units(trace, rows),
            "state_norms": _state_norms(trace, rows),
            "weights": _weights(trace),
            "credit": _credit(trace),
            "singular": _singular(trace, rows),
            "equation": _equation(trace, rows),
            "doctor": doctor(trace).to_dict(),
        }


def _about(trace: Flow, title: str, rows: list[int]) -> dict[str, Any]:
    layer, T, D, steps = trace.layer, trace.T, trace.x.shape[2], trace._unrolled.steps
    return {
        "title": title,
        "layer": repr(layer),
        "gates": list(steps.gates),
        "states": list(layer.state_names),
        "reverse": bool(layer.reverse),
        "T": T,
        "N": trace.N,
        "D": D,
        "H": trace.H,
        "rows": rows,
        "total_loss": exact(trace.total_loss),
    }


# --- states and their gradients, row by row ---------------------------------------------------------------------------


def _states(trace: Flow) -> list[Array]:
    """Return h, and c of an LSTM or the second state of one's own cell: (T, N, H) each, in time order."""
    return [trace._shown(s[1:]) for s in trace._unrolled.states[:2]]


def _rows(trace: Flow) -> int:
    """Return how many rows travel."""
    size = trace.T * (min(trace.x.shape[2], UNITS) + 6 * min(trace.H, UNITS))
    return int(min(trace.N, ROWS, max(1, ROUNDED // size)))


def _units(trace: Flow, rows: list[int]) -> dict[str, Any]:
    """Return the values of single units, (T, rows, units) each."""
    values = {"x": trace.x, "h": trace.hs, "dh": trace.dL_dh, "local": trace.dL_dh_local}
    values["carried"] = trace.dL_dh_carried
    states = _states(trace)
    if len(states) > 1:
        values["c"] = states[1]
    if hasattr(trace, "dL_dc"):
        values["dc"] = trace.dL_dc
    travel = {name: a[:, rows, :UNITS] for name, a in values.items()}
    pack = exact if 8 * sum(a.size for a in travel.values()) <= EXACT else rounded
    first = [s[0][rows, :UNITS] for s in trace._unrolled.states[:2]]
    return {
        "rounded": pack is rounded,
        "valid": flags(trace.valid[:, rows]),
        "initial": [exact(s) for s in first],
        **{name: pack(a) for name, a in travel.items()},
    }


def _state_norms(trace: Flow, rows: list[int]) -> dict[str, Any]:
    """Return norms over the units, of each row that travels and of all rows together."""
    gradients = {"dh": trace.dL_dh, "local": trace.dL_dh_local, "carried": trace.dL_dh_carried, "dz": trace.dL_dz}
    if len(trace._arriving) > 1:
        gradients["carried_c"] = trace._shown(trace._arriving[1][1:])
    by_row = {name: exact(_norm(a[:, rows], (2,))) for name, a in (gradients | {"h": trace.hs}).items()}
    together = {"dh": exact(trace.gradient_norms), "local": exact(_norm(trace.dL_dh_local, (1, 2)))}
    return {"by_row": by_row, "together": together}


def _norm(a: Array, axes: tuple[int, ...] | None) -> Array:
    return cast(Array, np.sqrt(np.square(a.astype(np.float64)).sum(axis=axes)))


# --- what the weights get ---------------------------------------------------------------------------------------------


def _weights(trace: Flow) -> dict[str, Any]:
    """Return what each step adds to the gradient of W_hh: norms, a small picture, and the norm of the sum so far."""
    u, gates = trace._unrolled, len(trace._unrolled.steps.gates)
    total = np.zeros(trace.gradients["W_hh"].shape)
    so_far, pictures = np.empty(trace.T), []
    for k in range(trace.T - 1, -1, -1):
        b = trace._back
        share = u.shares(Back(b.dz[k], b.dz_h[k], [a[k] for a in b.before]), k)["W_hh"]
        total += share
        so_far[k] = np.linalg.norm(total)
        pictures.append(np.concatenate([_picture(block) for block in np.split(share, gates, axis=1)]))
    in_order = np.array(pictures)[::-1]
    return {
        "by_step": {name: exact(norms) for name, norms in trace.norms_by_step.items()},
        "total": {name: exact(np.linalg.norm(g)) for name, g in trace.gradients.items()},
        "so_far": exact(trace._in_time(so_far)),
        "side": min(PIXELS, trace.H),
        "pictures": rounded(trace._in_time(in_order)),
    }


def _picture(block: Array) -> Array:
    """Return a matrix (H, H) as the means of at most PIXELS × PIXELS blocks, one after the other."""
    side = min(PIXELS, len(block))
    edges = np.arange(side) * len(block) // side
    sizes = np.diff([*edges, len(block)])
    sums = np.add.reduceat(np.add.reduceat(block, edges, axis=0), edges, axis=1)
    return cast(Array, (sums / np.outer(sizes, sizes)).ravel())


def _credit(trace: Flow) -> dict[str, Any]:
    """Return the credit matrix and what truncation leaves; or why they are missing."""
    try:
        norms = trace.credit().norms
    except (MemoryError, ValueError) as error:
        return {"missing": str(error)}
    processed = norms[::-1, ::-1] if trace.layer.reverse else norms
    goal, sums = flat(trace.gradients), np.zeros(sum(g.size for g in trace.gradients.values()))
    angles, left = [], []
    for part in lags(trace._unrolled, trace._run.entering, 1):
        sums += flat(part)
        angles.append(angle(sums, goal))
        left.append(np.linalg.norm(sums))
    return {
        "norms": exact(processed[np.tril_indices(trace.T)]),  # in the order of processing, row by row
        "angles": exact(angles),
        "left": exact(left),
        "whole": exact(np.linalg.norm(goal)),
    }


# --- the steps' Jacobians ---------------------------------------------------------------------------------------------


def _singular(trace: Flow, rows: list[int]) -> dict[str, Any]:
    """Return the singular values of ∂state_t/∂state_{t-1}, (steps, rows, values), of evenly spread steps or all."""
    size = trace.H * len(trace._unrolled.states)
    cost = size * size * (trace.N * trace.pre_activations.shape[2] + 30 * len(rows) * size)
    every = max(1, int(np.ceil(trace.T * cost / MULTIPLICATIONS)))
    before = 1 if trace.layer.reverse else -1
    steps = list(range(0, trace.T, every))
    try:
        jacobians = (trace.jacobian(t, t + before)[rows] for t in steps)
        values = np.array([[_values(J) for J in of_rows] for of_rows in jacobians])
    except MemoryError as error:
        return {"missing": str(error)}
    few = size <= FEW
    names = [str(i + 1) for i in range(size)] if few else [f"{q:.0%}" for q in QUANTILES]
    shown = values if few else np.moveaxis(np.quantile(values, QUANTILES, axis=-1), 0, -1)
    return {"every": every, "steps": steps, "few": few, "size": size, "names": names, "values": exact(shown)}


def _values(J: Array) -> Array:
    """Return the singular values of a matrix, the largest first; NaN if it has NaN or inf."""
    return np.linalg.svd(J, compute_uv=False) if np.isfinite(J).all() else np.full(len(J), np.nan)


# --- the equations with their numbers ---------------------------------------------------------------------------------

NOW, BEFORE, AFTER = "⟦t⟧", "⟦b⟧", "⟦a⟧"
"""Where the page writes the number of the step, of the one processed before it, and of the one after."""

WEIGHTS = {"W_xh": "Wₓₕ", "W_hh": "Wₕₕ", "W_xn": "Wₓₙ", "W_hn": "Wₕₙ", "b_hn": "bₕₙ", "b_h": "b"}


def _equation(trace: Flow, rows: list[int]) -> dict[str, Any]:
    """Return the equations of all steps: their lines, and the terms under them with numbers.

    Where D or H is above `SMALL` norms stand for numbers. What several equations have in common travels once.
    """
    arrays: dict[str, Any] = {}
    few = max(trace.H, trace.x.shape[2]) <= SMALL
    found: dict[str, Any] = {"numbers": few, "arrays": arrays, "forward": [], "backward": []}
    place = Place(trace, np.arange(trace.T), np.array(rows))
    for equation in equations_of(place):
        entries = [_entry(part, arrays, few, place) for entry in equation.entries for part in entry.parts()]
        lines = [_styled(line, place) for line in equation.symbols]
        found[equation.part].append({"lines": lines, "entries": entries})
    if None not in trace._unrolled.steps.activations:
        found["saturation"] = exact(trace.saturation)
    return found


def _entry(part: Entry, arrays: dict[str, Any], few: bool, place: Place) -> list[str]:
    """Return a term's name, under which its numbers travel, and its shape."""
    name = _styled(part.name, place)
    if name not in arrays:
        arrays[name] = exact(part.values if few else _norm(part.values, (2,) if part.values.ndim > 2 else None))
    return [name, part.shape]


def _styled(text: str, place: Place) -> str:
    """Return a text of `minirnn.bptt.explain` as the page has it: small letters, and the steps by their numbers."""
    text = text.replace(f"_{{{place.before}}}", BEFORE).replace(f"_{{{place.after}}}", AFTER)
    text = re.sub(r"_t(?![a-z0-9])", NOW, text)
    text = re.sub(r"(?<![A-Za-z_])(dL/d)?([XHCZQ]|S\d+)(?=[_⟦])", lambda m: (m[1] or "") + m[2].lower(), text)
    for name, shown in WEIGHTS.items():
        text = re.sub(rf"\b{name}(?![a-z])", shown, text)
    return text


NOT_FINITE = -128
"""The code of what is NaN or inf among `rounded` values."""


def exact(a: Any) -> dict[str, Any]:
    """Return an array as little-endian float64: what the page shows are the trace's digits."""
    return _packed(np.asarray(a, "<f8"), "f8")


def flags(a: Any) -> dict[str, Any]:
    """Return an array of bool, one byte each."""
    return _packed(np.asarray(a, "u1"), "u1")


def rounded(a: Array) -> dict[str, Any]:
    """Return an array rounded to 8 bits: code · scale, with a scale of its own for each row of the last axis.

    A value is then off by at most 1/254 of the largest of its row; `NOT_FINITE` stands for NaN and inf.
    """
    finite = np.isfinite(a)
    known = np.where(finite, a, 0).astype(np.float64)
    scale = np.abs(known).max(axis=-1, initial=0) / 127
    codes = np.divide(known, scale[..., None], out=np.zeros_like(known), where=scale[..., None] > 0)
    coded = np.where(finite, np.rint(codes).clip(-127, 127), NOT_FINITE).astype("i1")
    return _packed(coded, "i1") | {"scale": exact(scale)}


def _packed(a: Array, kind: str) -> dict[str, Any]:
    data = base64.b64encode(np.ascontiguousarray(a).tobytes()).decode("ascii")
    return {"type": kind, "shape": list(a.shape), "data": data}
