"""From step to step, forward and back: BPTT, truncation and masks, with the mistakes that people make in them.

`steps` has the steps, and `Made`, which says how a mistake is made. There is one loop forward and one back for all.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from minirnn.exercises.steps import (
    NO_WAY,
    Cache,
    Made,
    States,
    elman_backward,
    elman_forward,
    lstm_backward,
    lstm_forward,
)
from minirnn.textbook.reading import Array

Cell = tuple[Any, Any]
ELMAN: Cell = (elman_forward, elman_backward)
LSTM: Cell = (lstm_forward, lstm_backward)
Weights = tuple[Array, ...]
Back = tuple[Array, States, list[Array]]
"""dx, what is left for the initial state, and the weights' gradients."""

_FORGOTTEN = {
    f"carried gradient forgotten{which}{finals}": keep
    for which, keep in {"": (0, 0), " (dh)": (0, 1), " (dc)": (1, 0)}.items()
    for finals in ("", "#the final state's too")
}
_FORGOTTEN_1 = [name for name in _FORGOTTEN if "(" not in name]
_ASSIGNED = "assigned where gradients add up"
_UNASSIGNED = "dh_{t-1} is found and never assigned"
_FAR_END = "the last product with W_hhᵀ is left out: dh_0 = dh_1"
_EARLY_X, _LATE_X = "off by one in time (x_{t-1} in dW_xh)", "off by one in time (x_{t+1} in dW_xh)"
_RATES = {  # the rate, which of the weights move, and what is found with the new ones
    f"the weights take their step while the loop still goes back (rate {r:g})#{which}{new}": (r, which, new)
    for r in (0.1, 0.01, 0.001)
    for which in ((0, 1, 2), (1,))
    for new in ("", "dh", "dx dh")
}
_ANEW = {  # times h0: every chunk's state and the first one's; what else is done so
    f"{name}#{kind}{first}": (factor, first, kind)
    for name, factor, firsts in (
        ("truncation cuts the state too: every chunk begins with 0", 0.0, (0.0, 1.0)),
        ("every chunk begins with the initial state", 1.0, (1.0,)),
    )
    for first in firsts
    for kind in ("window", "chunk", "stored", "boundary")
}
_WITHOUT = "without what comes from later steps"
_LOCAL: dict[str, tuple[int, ...]] = {  # places in dx, dW_xh, dW_hh, db
    f"{which} {_WITHOUT}{place}{finals}": places
    for which, place, places in (
        *(("dx", "", (0,)), ("dW", "", (1, 2, 3))),
        *(("dW", " (dW_xh)", (1,)), ("dW", " (dW_hh)", (2,)), ("dW", " (db)", (3,))),
    )
    for finals in ("", "#nor from the final state")
}
_RUNS_ON = "the state runs on through the padding"
_THROUGH = "padding is let through"
_AT_T = "the final state's gradient enters at T, not at the row's end"
_PADDING = {  # are all steps gone through, do all losses enter, finals at T? is what is carried used past the end?
    _THROUGH: (True, True, True, False),
    f"{_THROUGH}#states stand still": (True, True, True, False),
    f"{_THROUGH}#finals at the row's end": (True, True, False, False),
    f"{_THROUGH}#so, states stand still": (True, True, False, False),
    f"{_AT_T} (it goes back through the padding)": (True, False, True, False),
    f"{_AT_T} (it goes back through the padding)#states stand still": (True, False, True, False),
    f"{_AT_T} (it is lost for shorter rows)": (False, False, True, False),
    f"{_AT_T} (it has a share in each step of the padding)": (False, False, True, True),
    f"{_AT_T} (it has a share in each step of the padding)#states stand still": (False, False, True, True),
}
_TIMES_0 = ("NaN times 0: a mask that multiplies", "NaN times 0: a mask that multiplies#not what is carried")


class Run(NamedTuple):
    """What the way forward leaves: the states before and after each step, what it kept, and which rows it is within."""

    before: list[States]
    after: list[States]
    caches: list[Cache]
    live: NDArray[np.bool_]  # (T, N)

    def part(self, start: int, end: int) -> "Run":
        """Return some of the steps."""
        return Run(self.before[start:end], self.after[start:end], self.caches[start:end], self.live[start:end])


def _within(m: Made, lengths: Array, T: int) -> NDArray[np.bool_]:
    """Which steps lie within their rows, (T, N)."""
    wrong = {
        "one row's length for all rows": lengths[0],
        "one row's length for all rows#last": lengths[-1],
        "one row's length for all rows#shortest": lengths.min(),
        "the mask is a step too long": lengths + 1,
        "the mask is a step too short": lengths - 1,
    }
    t, ends = np.arange(T)[:, None], wrong.get(m.first(wrong), lengths) + 0 * lengths
    return np.asarray(t >= T - lengths if m("the padding is taken to stand in front") else t < ends)


def forward(m: Made, cell: Cell, x: Array, state: States, weights: Weights, lengths: Array | None = None) -> Run:
    """Unroll; past its end a row's state stands still."""
    live = np.ones(x.shape[:2], bool) if lengths is None else _within(m, lengths, len(x))
    others = {
        "the initial state is not used": lambda: tuple(0 * s for s in state),
        "one row's initial state for all rows": lambda: tuple(s[:1] + 0 * s for s in state),
    }
    first, run = m.pick(state, others), Run([], [], [], live)
    each_anew = m("every step starts from the initial state")
    x_read = x[:1] + 0 * x if m("every step reads the first input") else x
    runs_on = lengths is not None and bool(m.first((_RUNS_ON, _RUNS_ON + "#input 0", _THROUGH, _THROUGH + "#input 0")))
    runs_on |= any(name in _PADDING and not name.endswith("states stand still") for name in m.names)
    if lengths is not None and any(name.endswith("#input 0") for name in m.names):
        x_read = x * live[:, :, None]
    for t, x_t in enumerate(x_read):
        before = first if each_anew or not t else run.after[-1]
        new, cache = cell[0](m, x_t, before, *weights)
        within = live[t, :, None] | runs_on
        run.before.append(before)
        run.after.append(tuple(np.where(within, n, b) for n, b in zip(new, before, strict=True)))
        run.caches.append(cache)
    return run


def unrolled(m: Made, x: Array, h0: Array, *weights: Array) -> Array:
    """Return hs (T, N, H)."""
    run = forward(m, ELMAN, x, (h0,), weights)
    hs = np.stack([h for (h,) in (run.before[0], *run.after)])
    wrong = {
        "the time axis runs backwards": lambda: hs[:0:-1],
        "outputs begin with the initial state": lambda: hs[:-1],
        "the initial state stands among the outputs": lambda: hs,
    }
    return np.asarray(m.pick(hs[1:], wrong))


def masked_forward(m: Made, x: Array, lengths: Array, h0: Array, *weights: Array) -> tuple[Array, Array]:
    """Return hs, 0 past a row's end, and each row's own last state."""
    run, T, rows = forward(m, ELMAN, x, (h0,), weights, lengths), len(x), np.arange(len(lengths))
    hs = np.stack([h for (h,) in (run.before[0], *run.after)])
    shown = {
        _THROUGH: lambda: hs[1:],
        _THROUGH + "#input 0": lambda: hs[1:],
        "outputs past a row's end are not 0": lambda: hs[1:],
        "outputs past a row's end are not 0#new": lambda: np.stack([np.tanh(z) for (z,) in run.caches]),
    }
    finals = {
        "the final state is read at T, where shorter rows hold 0": lambda: np.where(run.live[-1][:, None], hs[T], 0.0),
        "the final state is a step early": lambda: hs[lengths - 1, rows],
        "the final state of the shortest row for all": lambda: hs[lengths.min()],
    }
    return m.pick(np.where(run.live[:, :, None], hs[1:], 0.0), shown), m.pick(hs[T], finals)


_SHIFTS: dict[str, Callable[[Array], Array]] = {  # of dhs, on axis 0
    "off by one in time (∂L/∂h_{t+1} for ∂L/∂h_t)": lambda d: np.concatenate([d[1:], 0 * d[:1]]),
    "off by one in time (∂L/∂h_{t+1} for ∂L/∂h_t)#around": lambda d: np.roll(d, -1, axis=0),
    "off by one in time (∂L/∂h_{t-1} for ∂L/∂h_t)": lambda d: np.concatenate([0 * d[:1], d[:-1]]),
    "off by one in time (∂L/∂h_{t-1} for ∂L/∂h_t)#around": lambda d: np.roll(d, 1, axis=0),
    "the time axis runs backwards (∂L/∂h_t)": lambda d: d[::-1],
    "each step's own loss never enters": lambda d: 0 * d,
    "only the last step's loss enters": lambda d: np.concatenate([0 * d[:-1], d[-1:]]),
    "each step's own loss counted twice": lambda d: 2 * d,
    "losses summed up before they go back": lambda d: np.cumsum(d[::-1], axis=0)[::-1],
}


def back(
    m: Made,
    cell: Cell,
    x: Array,
    state: States,
    weights: Weights,
    dhs: Array,
    finals: Sequence[Array | None] = (None,),
    lengths: Array | None = None,
    run: Run | None = None,
) -> Back:
    """Back-propagate through time, or through what ``run`` left; ``finals`` enter at each row's own last step."""
    T, N = x.shape[:2]
    run = run or _misread(m, forward(m, cell, x, state, weights, lengths))
    if made := m.first(_SHIFTS):
        dhs = _SHIFTS[made](dhs)
    if lengths is not None and m("mean for sum over a row's own length"):
        dhs = dhs / lengths[:, None]
    ends, every = [0 * s if f is None else f for f, s in zip(finals, state, strict=True)], [0 * s for s in state]
    for k, end in enumerate(finals):
        which = [f" ({'hc'[k]})", " (h and c)"] if len(ends) > 1 else [""]
        if end is not None and m.first(["the final state's gradient is dropped" + w for w in which]):
            ends[k] = 0 * end
        if end is not None and m.first(["the final state's gradient enters at every step" + w for w in which]):
            every[k] = end
    dx, d0, each = _walk(m, cell, x, run, weights, dhs, ends, every, lengths is not None)
    dW = [_added(m, name, [share[k] for share in each]) for k, name in enumerate(("dW_xh", "dW_hh", "db"))]
    for name, n in (("rows", N), ("steps", T), ("rows and steps", N * T)):
        if m(f"mean for sum over {name} (dW and db)"):
            dW = [d / n for d in dW]
        if m(f"mean for sum over {name} (dW)"):
            dW = [d / n if d.ndim > 1 else d for d in dW]
        if m(f"mean for sum over {name} (everything)"):
            dx, d0, dW = dx / n, tuple(d / n for d in d0), [d / n for d in dW]
    d0 = tuple(0 * d for d in d0) if m("the initial state's gradient is left 0") else d0
    return dx[::-1] if m("the time axis runs backwards (dx)") else dx, d0, dW


def _added(m: Made, name: str, shares: list[Array]) -> Array:
    """The same weights are used at every step: their gradients add up. The last step's share comes first."""
    if m.first((f"{_ASSIGNED} ({name})", _ASSIGNED, _ASSIGNED + "#at all")):
        return shares[-1]
    if m.first((f"only the last step's share ({name})", "only the last step's share")):
        return shares[0]
    return np.stack(shares[::-1]) if m(f"{name} not summed over time") else np.sum(shares, axis=0)


def _misread(m: Made, run: Run) -> Run:
    """The states as the way back reads them; in a list without the initial one, Python's last stands at index −1."""
    before, after, end, zero = run.before, run.after, run.after[-1], tuple(0 * s for s in run.before[0])
    first = {
        "h_1 stands for h_0: the stored state was written over": lambda: after[0],
        "h[-1] at the first step: Python's last entry": lambda: end,
        "the initial state is not used on the way back": lambda: zero,
    }
    if len(end) > 1:
        first["h[-1] at the first step: Python's last entry (h alone)"] = lambda: (end[0], before[0][1])
        first["h[-1] at the first step: Python's last entry (c alone)"] = lambda: (before[0][0], end[1])
    before = [m.pick(before[0], first), *before[1:]]
    early = {
        "states are read one step early": lambda: ([end, *before[:-1]], before),
        "states are read one step early#clamped": lambda: ([before[0], *before[:-1]], before),
        "states are read one step early#zeros": lambda: ([zero, *before[:-1]], before),
        "H_{t-2} for H_{t-1}": lambda: ([before[0], *before[:-1]], after),
        "φ′ of H_{t-1} for that of H_t": lambda: (before, before),
    }
    for start in (end, before[0], zero) if len(end) > 1 else ():
        own = [(b[0], c[1]) for b, c in zip(before, [start, *before[:-1]], strict=True)]
        early[f"states are read one step early#c alone {len(early)}"] = lambda own=own: (own, before)  # type: ignore
    before, after = m.pick((before, after), early)
    return run._replace(before=before, after=after)


def _walk(
    m: Made,
    cell: Cell,
    x: Array,
    run: Run,
    weights: Weights,
    dhs: Array,
    ends: list[Array],
    every: list[Array],
    masked: bool = False,
) -> tuple[Array, States, list[list[Array]]]:
    """Go back through the steps; return dx, what is left at the far end, and the shares, the last step's first."""
    T, dx, each, totals = len(x), np.zeros_like(x), list[list[Array]](), np.zeros_like(dhs)
    all_steps, all_losses, at_T, unmasked = _PADDING.get(m.first(_PADDING) if masked else "", (False,) * 4)
    multiplied = m.first(_TIMES_0) if masked else ""
    bounds = {"the loop leaves the last step out": (T - 2, 0), "the loop leaves the first step out": (T - 1, 1)}
    start, stop = bounds.get(m.first(bounds), (T - 1, 0))
    made, rated = m.first(_FORGOTTEN if ends[1:] else _FORGOTTEN_1), m.first(_RATES)
    keep = _FORGOTTEN.get(made, (1, 1))
    if made.endswith("#the final state's too"):
        ends = [end * k for end, k in zip(ends, keep, strict=False)]
    carried: States = tuple(0 * end for end in ends)
    for t in range(start, stop - 1, -1):
        live = run.live[t, :, None]
        last = np.array(t == T - 1) if at_T else live & ((t == T - 1) | ~run.live[min(t + 1, T - 1), :, None])
        enters = dhs[t] * live if multiplied else dhs[t] if all_losses else np.where(live, dhs[t], 0.0)
        live = live | all_steps
        added = zip(ends, every, carried, keep[: len(ends)], strict=True)
        carried = tuple(np.where(last, e, v * live) + k * c for e, v, c, k in added)
        own = (enters + carried[0], *carried[1:])
        own = own if multiplied or unmasked else tuple(np.where(live, d, 0.0) for d in own)
        x_read = x[t - 1] if m(_EARLY_X) else x[(t + 1) % T] if m(_LATE_X) else x[t]
        step = (x_read, run.before[t], run.after[t], run.caches[t])
        dx[t], earlier, share = cell[1](m, own, *step, *weights)
        if made := m.first(_LOCAL):
            some = last & ("#" not in made)
            alone = (enters + some * ends[0], *(some * end for end in ends[1:]))
            here, _, local = cell[1](m, alone, *step, *weights)
            both = zip((dx[t], *share), (here, *local), strict=True)
            dx[t], *share = (new if k in _LOCAL[made] else old for k, (old, new) in enumerate(both))
        if m("the first step's share of dW_hh is left out") and t == 0:
            share[1] = 0 * share[1]
        if m(_FAR_END) and t == 0:
            earlier = (own[0], *earlier[1:])
        if m(_FAR_END + "#dz") and t == 0:
            earlier = cell[1](Made(NO_WAY), own, *step, *weights)[1]
        earlier = carried if m(_UNASSIGNED) or (m(_UNASSIGNED + "#the last one is returned") and t) else earlier
        if rated:
            rate, which, new_at = _RATES[rated]
            weights = tuple(w - rate * s * (k in which) for k, (w, s) in enumerate(zip(weights, share, strict=True)))
            dx_new, carried_new, _ = cell[1](m, own, *step, *weights)
            dx[t], earlier = dx_new if "dx" in new_at else dx[t], carried_new if new_at else earlier
        if multiplied == _TIMES_0[0]:
            carried = tuple(d * live for d in earlier)
        else:
            carried = tuple(np.where(live, d, c if unmasked else 0.0) for d, c in zip(earlier, carried, strict=True))
        totals[t] = own[0]
        each.append(share)
    if m("dW counts later steps twice: total for direct derivative"):
        zeros = [0 * end for end in ends]
        each = _walk(Made(), cell, x, run, weights, totals, zeros, zeros, masked)[2]
    return dx, carried, each


def truncated(m: Made, x: Array, h0: Array, *rest: Any) -> list[Array]:
    """After every k1 steps, what entered there goes back over k2 steps, the chunk's last one counted."""
    *weights, dhs, k1, k2 = rest
    T, W, total = len(x), tuple(weights), [np.zeros_like(w) for w in weights]
    k1, k2 = m.pick((k1, k2), {"k1 and k2 exchanged": lambda: (k2, k1)})
    more = {"k2 − 1 steps back": -1, "k2 + 1 steps back": 1, "k2 + 1 steps back from each loss": 1}
    k2 += more.get(m.first(more), 0)
    chunks = [(a, min(a + k1, T)) for a in range(0, T, k1)]
    if m("the shorter last chunk is dropped"):
        chunks = [(a, e) for a, e in chunks if e - a == k1]
    run, anew = forward(m, ELMAN, x, (h0,), W), _ANEW.get(m.first(_ANEW), (1.0, 1.0, ""))
    if anew[2] in ("chunk", "stored", "boundary"):
        run = _anew(m, x, h0, W, chunks, anew)
    run = _misread(m, run)
    each = {"k2 steps back from each loss, not from the chunk's end": k2, "k1 steps back from each loss": k1}
    each["k2 + 1 steps back from each loss"] = k2
    if made := m.first(each):
        chunks, k2 = [(t, t + 1) for t in range(T)], each[made]
    alone, only_last = m("only the chunk's last loss goes back, the others not"), m("only the chunk's last loss enters")
    again, whole = m("losses before the chunk are counted again"), m("not truncated: all the way back")
    within = m("the way back ends at the chunk's beginning") or anew[2] == "chunk"
    missing = m("the window is cut to nothing where it would begin before the sequence")
    short, at_a = m("k2 − 1 steps back#where the sequence begins, too"), m("the window begins with the chunk's state")
    zeroed = bool(m.first(("gradients set to 0 at every chunk: only the last one's are left", _ASSIGNED + "#at all")))
    for a, e in chunks:
        s = 0 if whole else max(0, e - k2, a if within else 0) + short
        if s >= e or (missing and e < k2):
            continue
        entering = dhs[s:e].copy()
        entering[: 0 if again else max(a - s, 0)] = 0.0
        entering[: -1 if alone or only_last else 0] = 0.0
        part = run.part(s, e)
        if at_a or anew[2] == "window":
            part = forward(m, ELMAN, x[s:e], run.before[a] if at_a else (h0 * (anew[0] if s else anew[1]),), W)
        own = back(m, ELMAN, x[s:e], part.before[0], W, entering, run=part)[2]
        for t in range(max(s, a), e - 1) if alone else ():
            here = back(m, ELMAN, x[t : t + 1], run.before[t], W, dhs[t : t + 1], run=run.part(t, t + 1))[2]
            own = [o + h for o, h in zip(own, here, strict=True)]
        total = [t * (not zeroed) + o for t, o in zip(total, own, strict=True)]
    means = {
        "averaged over the chunks": len(chunks),
        "mean for sum over steps (dW and db)#all": T,
        "mean for sum over rows and steps (dW and db)#all": T * len(h0),
    }
    return [t / means.get(m.first(means), 1) for t in total]


def _anew(
    m: Made, x: Array, h0: Array, W: Weights, chunks: list[tuple[int, int]], anew: tuple[float, float, str]
) -> Run:
    """Go forward so that every chunk begins anew."""
    run = Run([], [], [], np.ones(x.shape[:2], bool))
    for a, e in chunks:
        part = forward(m, ELMAN, x[a:e], (h0 * (anew[0] if a else anew[1]),), W)
        for whole, of in zip(run[:3], part[:3], strict=True):
            whole.extend(of)
        if anew[2] == "stored":
            run.before[a] = run.after[a - 1] if a else (h0,)
    return run
