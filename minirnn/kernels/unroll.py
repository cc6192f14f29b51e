"""The unroll of a recurrent layer, for any cell: sequences of one length or of many, forward and backward.

Shapes: T steps, N rows of the mini-batch, D inputs, H hidden neurons, G gates. Checked by tests/kernels/test_unroll.py.

The loop over the steps and the products stand in kernels/columns.py, what a cell does between them in kernels/lstm.py,
gru.py and simple.py. Elman's plain layer has a faster unroll of its own, kernels/elman.py: with one block, what the
columns save between the products is less than it costs to turn the arrays, and its derivative needs only its outputs.
"""

import itertools
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from minirnn.kernels import layout, scratch
from minirnn.kernels.columns import Backward, Forward, steps_at_a_time
from minirnn.kernels.elman import JOINED_UP_TO
from minirnn.kernels.hoisted import HoistedBackward, HoistedForward
from minirnn.kernels.lanes import Ends, Lanes
from minirnn.kernels.layout import Matrices, Weights
from minirnn.kernels.simple import Elman
from minirnn.kernels.sums import Sums
from minirnn.kernels.views import Packed, Whole

Array = NDArray[Any]

Run = Callable[[Sequence[Callable[[], Any]]], list[Any]]
"""Runs the parts of a mini-batch, for example at once, and returns their results in order."""


class Settings(NamedTuple):
    """How a layer is unrolled.

    Attributes
    ----------
    cell : pointwise pair
    reverse : process t = T−1 … 0
    lanes : for sequences of unequal length, or several to a row; None for whole rows
    mask : (sequences, H), by which the h that is fed back is multiplied; None for none
    clip : the largest norm of a row of dL/dH_t; None for any
    segment : how many steps lie between two states that are kept; None to keep all that backward needs
    parts, run : split the rows into so many parts, and let ``run`` unroll them; only without lanes
    """

    cell: Any
    reverse: bool = False
    lanes: Lanes | None = None
    mask: Array | None = None
    clip: float | None = None
    segment: int | None = None
    parts: int = 1
    run: Run | None = None


class Kept(NamedTuple):
    """What forward leaves of a piece for backward.

    Attributes
    ----------
    hs : (L + 1, N, H), or with ``segment`` (1, N, H)
    extras : list of (N, H)
        The other states before the first step.
    first : list of (sequences, H)
        The states before the first steps of all sequences.
    own : what the cell keeps, or None with ``segment``
    inputs : (L, N, D)
        What was read of x; a view unless lanes were packed.
    fed : (L, N, H), what was fed back, or None where that is hs; from Elman's form what `HoistedForward.run` returns
    """

    hs: Array
    extras: list[Array]
    first: Sequence[Array]
    own: Any
    inputs: Array
    fed: Any


class Unrolled(NamedTuple):
    """What `forward` returns.

    Attributes
    ----------
    outputs : (T, N, H), in time order; 0 where no sequence is
    final : list of (sequences, H)
        Each array of the state after the last step processed.
    kept : list of lists of Kept
        For each part, its pieces.
    """

    outputs: Array
    final: list[Array]
    kept: list[list[Kept]]


class Wanted(NamedTuple):
    """Whether to compute the gradient of each; those of the states always are."""

    x: bool
    W_xh: bool
    W_hh: bool
    b_h: bool
    b_hn: bool


class Gradients(NamedTuple):
    """∂L/∂ each input; None where it was not wanted."""

    x: Array | None
    state: list[Array]
    W_xh: Array | None
    W_hh: Array | None
    b_h: Array | None
    b_hn: Array | None


def forward(x: Array, state: Sequence[Array], weights: Weights, settings: Settings, keep: bool = True) -> Unrolled:
    """Unroll.

    Parameters
    ----------
    x : (T, N, D), of one dtype with all the other arrays
    state : (sequences, H) each
        Before the first step processed.
    weights : Weights
    settings : Settings
    keep : whether backward is to follow

    Returns
    -------
    Unrolled
    """
    T, N, _ = x.shape
    H, dtype = len(weights.W_hh), weights.W_hh.dtype
    matrices, final = Matrices(weights, settings.cell.layout), [np.empty_like(s) for s in state]
    # One buffer for the states before the steps and after them; packed, for the outputs and what is nobody's.
    states = np.empty((T + 1, N, H), dtype) if settings.lanes is None else np.zeros((T * N + 1, H), dtype)

    def part(rows: slice) -> list[Kept]:
        ends = Ends([s[rows] for s in state], [s[rows] for s in final])
        return _forward(_view(T, settings, rows), x, states, ends, matrices, settings, keep)

    kept = _each([partial(part, rows) for rows in _rows(N, settings.parts)], settings.run)
    if settings.lanes is not None:
        return Unrolled(states[:-1].reshape(T, N, H), final, kept)
    return Unrolled(states[:-1] if settings.reverse else states[1:], final, kept)


def backward(
    d_outputs: Array | None,
    d_final: Sequence[Array | None],
    kept: list[list[Kept]],
    x: Array,
    weights: Weights,
    settings: Settings,
    wanted: Wanted,
) -> Gradients:
    """Go back through `forward`.

    Parameters
    ----------
    d_outputs : (T, N, H) or None for zeros
    d_final : (sequences, H) or None for zeros, for each array of the state
    kept, x, weights, settings : of `forward`
    wanted : Wanted

    Returns
    -------
    Gradients : newly made arrays, each in the shape of its input
    """
    T, N, D = x.shape
    H, dtype, plan, lanes = len(weights.W_hh), weights.W_hh.dtype, settings.cell.layout, settings.lanes
    matrices = Matrices(weights, plan)
    d_state = [np.empty((N if lanes is None else lanes.sequences, H), dtype) for _ in d_final]
    d_x = None
    if wanted.x:
        d_x = np.empty(x.shape, dtype) if lanes is None else np.zeros((T * N + 1, D), dtype)

    def part(rows: slice, pieces: list[Kept]) -> Sums:
        ends = Ends([d[rows] for d in d_state], [None if d is None else d[rows] for d in d_final])
        return _backward(_view(T, settings, rows), x, d_x, d_outputs, ends, pieces, matrices, settings, wanted)

    rows = _rows(N, settings.parts)
    total, *others = _each([partial(part, *own) for own in zip(rows, kept, strict=True)], settings.run)
    for sums in others:
        total.merge(sums)
    if d_x is not None and lanes is not None:
        d_x = d_x[:-1].reshape(x.shape)
    return Gradients(d_x, d_state, *_in_order(total, plan, H, wanted))


def _in_order(sums: Sums, plan: layout.Layout, H: int, wanted: Wanted) -> tuple[Array | None, ...]:
    """Return the gradients of the parameters, gate by gate as the parameters have them."""
    W_xh, W_hh, b_h, b_hn = sums.W_xh, sums.W_hh, sums.b_h, None
    if W_xh is not None:
        W_xh = layout.in_order(W_xh, plan.x, H)
    if W_hh is not None:
        gates = plan.h
        if plan.stage is not None:
            assert sums.stage is not None, "the sum with a stage"
            W_hh, gates = np.concatenate([W_hh, sums.stage], axis=1), (*gates, plan.stage)
        W_hh = layout.in_order(W_hh, gates, H)
    if b_h is not None:
        b_hn = b_h[plan.of_x(H).stop :].copy() if wanted.b_hn else None
        b_h = layout.in_order(b_h[plan.of_x(H)], plan.x, H) if wanted.b_h else None
    return W_xh, W_hh, b_h, b_hn


def _forward(
    view: Any, x: Array, states: Array, ends: Ends, matrices: Matrices, settings: Settings, keep: bool
) -> list[Kept]:
    """Unroll piece by piece; write the outputs, and the final states to ``ends.last``."""
    keeps = keep and settings.segment is None
    current, pieces = view.begin(ends.first), []
    for i in range(len(view.pieces)):
        hs = view.states(states, i)
        hs[0], *extras = (s[: view.width(i)] for s in current)
        inputs = view.read(x, i)
        after, own, fed = _run(view, i, inputs, hs, extras, matrices, ends, settings, keeps)
        if keep:
            pieces.append(Kept(hs if keeps else hs[:1].copy(), extras, ends.first, own, inputs, fed))
        view.write(states, i, hs[1:])
        current = [hs[-1], *after]
        view.leave(i, current, ends.last)
    return pieces


def _run(
    view: Any,
    i: int,
    inputs: Array,
    hs: Array,
    extras: Sequence[Array],
    matrices: Matrices,
    ends: Ends,
    settings: Settings,
    keeps: bool,
) -> tuple[list[Array], Any, Any]:
    """Unroll piece ``i``; return the states beside h after it, what the cell keeps, and what was fed back."""
    cell, switches, (L, n, D), H, dtype = settings.cell, view.pieces[i].switches, inputs.shape, hs.shape[2], hs.dtype
    if _hoists(settings, D, H):
        forth = scratch.take(HoistedForward, n, D, H, dtype)
        changed = forth.run(inputs, hs, *matrices.weights[:3], cell.activation, switches, ends)
        scratch.give(forth)
        return [], None, changed
    own = cell.keep(L, H, (n,) if n > 1 else (), dtype) if keeps else None
    fed = np.empty((L, n, H), dtype) if keeps and (settings.mask is not None or switches) else None
    at_a_time = steps_at_a_time(cell, L, n, D, H, dtype)
    work = scratch.take(Forward, cell, n, D, H, dtype, at_a_time, settings.mask is not None)
    after = work.run(inputs, hs, extras, matrices, ends, switches, own, view.mask(settings.mask, i), fed)
    after = [s.copy() for s in after]
    scratch.give(work)
    return after, own, fed


def _backward(
    view: Any,
    x: Array,
    d_x: Array | None,
    d_outputs: Array | None,
    ends: Ends,
    pieces: Sequence[Kept],
    matrices: Matrices,
    settings: Settings,
    wanted: Wanted,
) -> Sums:
    """Go back piece by piece; write dX and the gradients of the first states, and return the sums over time."""
    plan, H = settings.cell.layout, matrices.H
    which = wanted.W_xh, wanted.W_hh, wanted.b_h or wanted.b_hn
    back = None if d_x is None else matrices.back_to_x
    total: Sums | None = None
    current: list[Array] = []
    for i in reversed(range(len(view.pieces))):
        inputs, room = pieces[i].inputs, None if d_x is None else view.room(d_x, i)
        sums = Sums(inputs, room, back, which, plan.of_x(H), plan.of_h(H))
        kept = pieces[i] if settings.segment is None else _again(view, i, inputs, pieces[i], matrices, settings)
        entering = None if d_outputs is None else view.entering(d_outputs, i)
        arriving = view.arrive(i, current, ends.last, kept.hs[-1])
        current = _run_back(view, i, entering, arriving, kept, matrices, ends, settings, sums)
        if d_x is not None:
            view.write(d_x, i, room)
        if total is None:
            total = sums
        else:
            total.merge(sums)
    view.finish(ends.first, current)
    assert total is not None, "there is a piece"
    return total


def _run_back(
    view: Any,
    i: int,
    entering: Array | None,
    arriving: Sequence[Any],
    kept: Kept,
    matrices: Matrices,
    ends: Ends,
    settings: Settings,
    sums: Sums,
) -> list[Array]:
    """Go back through piece ``i``; return the gradients of the states before it."""
    cell, switches, (L, n, D), H = settings.cell, view.pieces[i].switches, sums.x.shape, kept.hs.shape[2]
    if _hoists(settings, D, H):
        back = scratch.take(HoistedBackward, n, H, kept.hs.dtype)
        (last,), hs, W_hh = arriving, kept.hs, matrices.weights.W_hh
        before = [back.run(entering, last, hs, W_hh, cell.activation, sums, 0, switches, ends, kept.fed).copy()]
        scratch.give(back)
        return before
    mask = view.mask(settings.mask, i, end=True)
    at_a_time = steps_at_a_time(cell, L, n, D, H, kept.hs.dtype)
    work = scratch.take(Backward, cell, n, D, H, kept.hs.dtype, at_a_time)
    found = work.run(
        entering, arriving, kept.hs, matrices, ends, switches, kept.own, mask, kept.fed, settings.clip, sums
    )
    before = [d.copy() for d in found]
    scratch.give(work)
    return before


def _hoists(settings: Settings, D: int, H: int) -> bool:
    """Whether Elman's faster form does it: with lanes, and steps that are not small."""
    plain = settings.mask is None and settings.clip is None
    return plain and isinstance(settings.cell, Elman) and D + H > JOINED_UP_TO


def block(cell: Any, D: int, H: int, more: bool) -> int:
    """Return of what the number of lanes should be a multiple; ``more``: there is a mask or a clip.

    In columns a product takes whole blocks of 8; with the rows first, as Elman's form has them, 4 are enough.
    """
    return 4 if isinstance(cell, Elman) and not more and D + H > JOINED_UP_TO else 8


def _again(view: Any, i: int, inputs: Array, kept: Kept, matrices: Matrices, settings: Settings) -> Kept:
    """Unroll piece ``i`` once more, from the states before it, and keep everything."""
    hs = np.empty((len(inputs) + 1, *kept.hs.shape[1:]), kept.hs.dtype)
    hs[0] = kept.hs[0]
    ends = Ends(kept.first, [np.empty_like(s) for s in kept.first])
    _, own, fed = _run(view, i, inputs, hs, kept.extras, matrices, ends, settings, True)
    return kept._replace(hs=hs, own=own, fed=fed)


def _view(T: int, settings: Settings, rows: slice) -> Any:
    if settings.lanes is not None:
        return Packed(settings.lanes)
    return Whole(T, rows, settings.reverse, settings.segment)


def _rows(N: int, parts: int) -> list[slice]:
    """Return the rows of each part; they differ by one row at most."""
    edges = [N * i // parts for i in range(parts + 1)]
    return [slice(lo, hi) for lo, hi in itertools.pairwise(edges)] if parts > 1 else [slice(None)]


def _each(tasks: Sequence[Callable[[], Any]], run: Run | None) -> list[Any]:
    return [task() for task in tasks] if run is None else run(tasks)
