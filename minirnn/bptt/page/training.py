"""The numbers of a training, and of the moments in it, for the page that steps through its checkpoints."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from minirnn.arguments import Array
from minirnn.bptt.flow import Flow
from minirnn.bptt.page.numbers import collect, exact, packed

MOMENTS = 8
"""The most checkpoints that travel; of more the first, the last and some evenly between them."""

POINTS = 400
"""The most points of a curve; of more updates each is the mean of several."""

SIDE = 32
"""The most steps of a small picture of the credit, along each side."""

DECADES = 6
"""What the colours of these span."""


def collect_training(traces: Mapping[int, Flow], loss: Array, grad_norm: Array, title: str) -> dict[str, Any]:
    """Return all that the page shows of traces by their update, ready for strict JSON."""
    updates = sorted(traces)
    if len(updates) > MOMENTS:
        updates = [updates[i] for i in np.linspace(0, len(updates) - 1, MOMENTS).round().astype(int)]
    every = max(1, -(-len(loss) // POINTS))
    said = f"Each point is the mean of {every} updates. " * (every > 1)
    if len(traces) > len(updates):
        said += f"{len(updates)} of {len(traces)} checkpoints are shown. "
    said += "One mini-batch, looked at after so many updates: choose a picture, or press [ and ]. The pictures are the "
    said += "credit matrices, all with one scale of colours."
    return {
        "run": {
            "every": every,
            "loss": exact(_means(loss, every)),
            "grad_norm": exact(_means(grad_norm, every)),
            "places": [max(0, update - 1) // every for update in updates],
            "moments": _thumbnails({update: traces[update] for update in updates}),
            "text": said,
        },
        "moments": [collect(traces[update], f"{title}, after {update:,} updates", len(updates)) for update in updates],
    }


def _means(values: Array, every: int) -> Array:
    starts = np.arange(0, len(values), every)
    with np.errstate(all="ignore"):
        return np.add.reduceat(values, starts) / np.diff([*starts, len(values)])


def _thumbnails(traces: Mapping[int, Flow]) -> list[dict[str, Any]]:
    """Return the credit at each moment in few pixels: 0 for none, 255 for what is not finite, else 1 … 254, by logs."""
    small = {update: _reduced(_credit_of(trace)) for update, trace in traces.items()}
    with np.errstate(all="ignore"):
        top = max((float(a[np.isfinite(a)].max(initial=0)) for a in small.values()), default=0.0) or 1.0
        found = []
        for update, a in small.items():
            part = (1 + np.log10(a / top) / DECADES).clip(0, 1)
            levels = np.where(np.isfinite(a), np.where(a > 0, 1 + np.rint(253 * part), 0), 255)
            found.append({"update": update, "side": a.shape[1], "levels": packed(levels.astype("u1"), "u1")})
    return found


def _credit_of(trace: Flow) -> Array:
    """Return the credit matrix, those of its rows that have any where these are few; one row of zeros for none."""
    try:
        norms = trace.credit().norms
    except (MemoryError, ValueError):  # the page says why, in its place
        return np.zeros((1, 1))
    some = norms[(norms != 0).any(axis=1)]
    return norms if len(some) > len(norms) / 8 else some if len(some) else norms[:1]


def _reduced(a: Array) -> Array:
    """Return the largest entries of at most SIDE × SIDE blocks."""
    for axis in (0, 1):
        n = min(SIDE, a.shape[axis])
        a = np.maximum.reduceat(a, np.arange(n) * a.shape[axis] // n, axis=axis)
    return a
