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
from minirnn.bptt.credit import flat, truncations
from minirnn.bptt.diagnosis import doctor
from minirnn.bptt.equations import equations_of
from minirnn.bptt.flow import Flow

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

LARGEST = 4
"""How many entries of a vector stand beside its norm, where there are too many neurons for all."""

ENTRIES = 1 << 20
"""Bytes that these may take; beyond there are fewer."""

MULTIPLICATIONS = 3e11
"""What the singular values of all steps may cost, about; beyond they are those of every second step, or fewer."""


def collect(trace: Flow, title: str, of: int = 1) -> dict[str, Any]:
    """Return all that the page shows of a trace, ready for strict JSON; it is one ``of`` so many in the page."""
    with np.errstate(all="ignore"):  # NaN and inf are shown as what they are
        size = of * trace.T * (min(trace.x.shape[2], UNITS) + 6 * min(trace.H, UNITS))
        rows = list(range(min(trace.N, ROWS, max(1, ROUNDED // size))))
        return {
            "about": {
                "title": title,
                "layer": repr(trace.layer),
                "gates": list(trace.gates),
                "reverse": bool(trace.layer.reverse),
                "T": trace.T,
                "N": trace.N,
                "D": trace.x.shape[2],
                "H": trace.H,
                "rows": rows,
                "total_loss": exact(trace.total_loss),
            },
            "units": _units(trace, rows, EXACT // of),
            "state_norms": _state_norms(trace, rows),
            "weights": _weights(trace),
            "credit": _credit(trace),
            "singular": _singular(trace, rows),
            "equation": _equation(trace, rows, ENTRIES // of),
            "doctor": doctor(trace).to_dict(),
        }


# --- states and their gradients, row by row ---------------------------------------------------------------------------


def _units(trace: Flow, rows: list[int], room: int) -> dict[str, Any]:
    """Return the values of single units, (T, rows, units) each; c is the second state of a cell of one's own too.

    They are exact where that takes at most ``room`` bytes.
    """
    states = trace.unrolled.states[:2]
    values = {
        "x": trace.x,
        "h": trace.hs,
        "dh": trace.dL_dh,
        "local": trace.dL_dh_local,
        "carried": trace.dL_dh_carried,
    }
    values |= {"c": trace.shown(states[1][1:])} if len(states) > 1 else {}
    values |= {"dc": trace.dL_dc} if hasattr(trace, "dL_dc") else {}
    travel = {name: a[:, rows, :UNITS] for name, a in values.items()}
    pack = exact if 8 * sum(a.size for a in travel.values()) <= room else rounded
    return {
        "rounded": pack is rounded,
        "valid": packed(trace.valid[:, rows], "u1"),
        "initial": [exact(s[0][rows, :UNITS]) for s in states],
        **{name: pack(a) for name, a in travel.items()},
    }


def _state_norms(trace: Flow, rows: list[int]) -> dict[str, Any]:
    """Return norms over the units, of each row that travels and of all rows together."""
    values = {"dh": trace.dL_dh, "local": trace.dL_dh_local, "carried": trace.dL_dh_carried, "dz": trace.dL_dz}
    values |= {"h": trace.hs} | ({"carried_c": trace.shown(trace.arriving[1][1:])} if len(trace.arriving) > 1 else {})
    return {
        "by_row": {name: exact(_norm(a[:, rows], (2,))) for name, a in values.items()},
        "together": {"dh": exact(trace.gradient_norms), "local": exact(_norm(trace.dL_dh_local, (1, 2)))},
    }


def _norm(a: Array, axes: tuple[int, ...] | None) -> Array:
    return cast(Array, np.sqrt(np.square(a.astype(np.float64)).sum(axis=axes)))


# --- what the weights get ---------------------------------------------------------------------------------------------


def _weights(trace: Flow) -> dict[str, Any]:
    """Return each step's share in the gradient of W_hh: norms, a small picture, and the norm of the sum so far."""
    total = np.zeros(trace.gradients["W_hh"].shape)
    so_far, pictures = [], []
    for t in trace.in_time(np.arange(trace.T))[::-1]:
        share = trace.share(int(t))["W_hh"]
        total += share
        so_far.append(np.linalg.norm(total))
        pictures.append(np.concatenate([_picture(block) for block in np.split(share, len(trace.gates), axis=1)]))
    return {
        "by_step": {name: exact(norms) for name, norms in trace.norms_by_step.items()},
        "total": {name: exact(np.linalg.norm(g)) for name, g in trace.gradients.items()},
        "so_far": exact(trace.in_time(np.array(so_far[::-1]))),
        "side": min(PIXELS, trace.H),
        "pictures": rounded(trace.in_time(np.array(pictures[::-1]))),
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
    angles, left = zip(*truncations(trace.unrolled, trace.entering, 1, trace.gradients), strict=True)
    return {
        "norms": exact(processed[np.tril_indices(trace.T)]),  # in the order of processing, row by row
        "angles": exact(angles),
        "left": exact(left),
        "whole": exact(np.linalg.norm(flat(trace.gradients))),
    }


# --- the steps' Jacobians ---------------------------------------------------------------------------------------------


def _singular(trace: Flow, rows: list[int]) -> dict[str, Any]:
    """Return the singular values of ∂state_t/∂state_{t-1}, (steps, rows, values), of evenly spread steps or all.

    Those that are 0, but for rounding, are counted; of more than `FEW` the quantiles are those of the others.
    """
    size = trace.H * len(trace.unrolled.states)
    cost = size * size * (trace.N * trace.pre_activations.shape[2] + 30 * len(rows) * size)
    every = max(1, int(np.ceil(trace.T * cost / MULTIPLICATIONS)))
    before = 1 if trace.layer.reverse else -1
    steps = list(range(0, trace.T, every))
    try:
        jacobians = (trace.jacobian(t, t + before)[rows] for t in steps)
        values = np.array(
            [
                [np.linalg.svd(J, compute_uv=False) if np.isfinite(J).all() else np.full(size, np.nan) for J in of_rows]
                for of_rows in jacobians
            ]
        )
    except MemoryError as error:
        return {"missing": str(error)}
    none = values <= size * np.finfo(trace.layer.dtype).eps * values[..., :1]  # as numpy.linalg.matrix_rank has it
    values[none] = 0
    few = size <= FEW
    names = [str(i + 1) for i in range(size)] if few else [f"{q:.0%}" for q in QUANTILES]
    zeros = none.sum(axis=-1)
    shown = values if few else _quantiles(values, size - zeros)
    found = {"every": every, "steps": steps, "few": few, "size": size, "names": names, "values": exact(shown)}
    return found | {"zeros": exact(zeros)}


def _quantiles(values: Array, many: Array) -> Array:
    """Return the `QUANTILES` of the first so ``many`` values, which fall; 0 of none."""
    places = np.array([1 - q for q in QUANTILES]) * np.maximum(many - 1, 0)[..., None]
    low = places.astype(int)
    first, second = (np.take_along_axis(values, np.minimum(low + k, values.shape[-1] - 1), -1) for k in (0, 1))
    return np.where(places > low, first + (places - low) * (second - first), first)


# --- the equations with their numbers ---------------------------------------------------------------------------------

NOW, BEFORE, AFTER = "⟦t⟧", "⟦b⟧", "⟦a⟧"
"""Where the page writes the number of the step, of the one processed before it, and of the one after."""

WEIGHTS = {"W_xh": "Wₓₕ", "W_hh": "Wₕₕ", "W_xn": "Wₓₙ", "W_hn": "Wₕₙ", "b_hn": "bₕₙ", "b_h": "b"}


def _equation(trace: Flow, rows: list[int], room: int) -> dict[str, Any]:
    """Return the equations of all steps: their lines, and the terms under them with numbers.

    Where D or H is above `SMALL` norms stand for numbers, beside the largest entries of each vector, for which there is
    so much ``room``. What several equations have in common travels once.
    """
    arrays: dict[str, Any] = {}
    vectors: dict[str, Array] = {}
    few = max(trace.H, trace.x.shape[2]) <= SMALL
    found: dict[str, Any] = {"numbers": few, "arrays": arrays, "forward": [], "backward": []}
    for equation in equations_of(trace, np.arange(trace.T), np.array(rows)):
        parts = {_styled(p.name, trace): p for p in equation.entries}
        for name in parts.keys() - arrays.keys():
            values = parts[name].values
            arrays[name] = exact(values if few else _norm(values, (2,) if values.ndim > 2 else None))
            if not few and values.ndim > 2 and values.shape[2] > 1:
                vectors[name] = values
        found[equation.part].append(
            {
                "lines": [_styled(line, trace) for line in equation.symbols],
                "entries": [[name, p.shape] for name, p in parts.items()],
            }
        )
    each = len(vectors) * trace.T * len(rows) * (trace.layer.dtype.itemsize + 2)
    many = min(LARGEST, room // each) if each else 0
    found["largest"] = {name: _largest(a, many, trace.layer.dtype) for name, a in vectors.items() if many}
    if None not in trace.unrolled.activations:
        found["saturation"] = exact(trace.saturation)
    return found


def _largest(values: Array, many: int, dtype: np.dtype[Any]) -> dict[str, Any]:
    """Return so many entries of vectors (T, rows, units), the largest by size, NaN first, and which units they are."""
    size = np.where(np.isnan(values), np.inf, np.abs(values))
    units = np.argsort(-size, axis=2, kind="stable")[..., :many]
    entries, kind = np.take_along_axis(values, units, axis=2), f"f{dtype.itemsize}"
    return {"units": packed(units.astype("<u2"), "u2"), "values": packed(entries.astype(f"<{kind}"), kind)}


def _styled(text: str, trace: Flow) -> str:
    """Return a text of `minirnn.bptt.explain` as the page has it: small letters, and the steps by their numbers."""
    before, after = ("t+1", "t-1") if trace.layer.reverse else ("t-1", "t+1")
    text = text.replace(f"_{{{before}}}", BEFORE).replace(f"_{{{after}}}", AFTER)
    text = re.sub(r"_t(?![a-z0-9])", NOW, text)
    text = re.sub(r"(?<![A-Za-z_])(dL/d)?([XHCZQ]|S\d+)(?=[_⟦])", lambda m: (m[1] or "") + m[2].lower(), text)
    for name, shown in WEIGHTS.items():
        text = re.sub(rf"\b{name}(?![a-z])", shown, text)
    return text


NOT_FINITE = -128
"""The code of what is NaN or inf among `rounded` values."""


def exact(a: Any) -> dict[str, Any]:
    """Return an array as little-endian float64: what the page shows are the trace's digits."""
    return packed(np.asarray(a, "<f8"), "f8")


def rounded(a: Array) -> dict[str, Any]:
    """Return an array rounded to 8 bits: code · scale, with a scale of its own for each row of the last axis.

    A value is then off by at most 1/254 of the largest of its row; `NOT_FINITE` stands for NaN and inf.
    """
    finite = np.isfinite(a)
    known = np.where(finite, a, 0).astype(np.float64)
    scale = np.abs(known).max(axis=-1, initial=0) / 127
    codes = np.divide(known, scale[..., None], out=np.zeros_like(known), where=scale[..., None] > 0)
    coded = np.where(finite, np.rint(codes).clip(-127, 127), NOT_FINITE).astype("i1")
    return packed(coded, "i1") | {"scale": exact(scale)}


def packed(a: Array, kind: str) -> dict[str, Any]:
    """Return an array as the page reads it: its bytes in base64."""
    data = base64.b64encode(np.ascontiguousarray(a).tobytes()).decode("ascii")
    return {"type": kind, "shape": list(a.shape), "data": data}
