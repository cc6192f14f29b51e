"""The unroll of a recurrent layer, for any cell: sequences of one length or of many, forward and backward.

Shapes: T steps, N rows of the mini-batch, D inputs, H hidden neurons, G gates.

The loop over the steps and the products stand in kernels/columns.py, what a cell does between them in kernels/lstm.py,
gru.py and simple.py. Elman's plain layer has a faster unroll of its own, kernels/elman.py: with one block, what the
columns save between the products is less than it costs to turn the arrays, and its derivative needs only its outputs.
For sequences of unequal length that is kernels/falling.py; all other cells have them in lanes, kernels/lanes.py.
"""

import itertools
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from minirnn.arguments import Array
from minirnn.kernels import falling, layout, scratch
from minirnn.kernels.columns import Backward, Forward, steps_at_a_time
from minirnn.kernels.falling import Falling
from minirnn.kernels.lanes import Ends, Lanes
from minirnn.kernels.layout import Matrices, Weights
from minirnn.kernels.simple import Elman
from minirnn.kernels.sums import Sums
from minirnn.kernels.views import Packed, Whole

Run = Callable[[Sequence[Callable[[], Any]]], list[Any]]
"""Runs the parts of a mini-batch, for example at once, and returns their results in order."""


class Settings(NamedTuple):
    """How a layer is unrolled.

    Attributes
    ----------
    cell : pointwise pair
    reverse : process t = T−1 … 0
    lanes : for sequences of unequal length, or several to a row; None for whole rows. Falling where `falls` is true
    mask : (sequences, H), by which the h that is fed back is multiplied; None for none
    clip : the largest norm of a row of dL/dH_t; None for any
    segment : how many steps lie between two states that are kept; None to keep all that backward needs
    parts, run : split the rows into so many parts, and let ``run`` unroll them; only without lanes
    """

    cell: Any
    reverse: bool = False
    lanes: Lanes | Falling | None = None
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
        Without ``fed``, what was fed back: at a switch, the state of the sequence that begins.
    extras : list of (N, H)
        The other states before the first step.
    first : list of (sequences, H)
        The states before the first steps of all sequences.
    own : what the cell keeps, or None with ``segment``
    inputs : (L, N, D)
        What was read of x; a view unless lanes were packed.
    fed : (L, N, H), what was fed back, or None where that is hs
    """

    hs: Array
    extras: list[Array]
    first: Sequence[Array]
    own: Any
    inputs: Array
    fed: Array | None


class Unrolled(NamedTuple):
    """What `forward` returns.

    Attributes
    ----------
    outputs : (T, N, H), in time order; 0 where no sequence is
    final : list of (sequences, H)
        Each array of the state after the last step processed.
    kept : list of lists of Kept
        For each part, its pieces; or what `kernels.falling.forward` keeps.
    """

    outputs: Array
    final: list[Array]
    kept: Any


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
    if isinstance(settings.lanes, Falling):
        how = settings.cell.activation, settings.lanes, settings.segment
        outputs, last, fallen = falling.forward(x, state[0], weights[:3], *how, keep)
        return Unrolled(outputs, [last], fallen)
    matrices, final = Matrices(weights, settings.cell.layout), [np.empty_like(s) for s in state]
    if settings.lanes is not None:
        packed = Packed(settings.lanes)
        states = packed.make(H, dtype, states=True)
        pieces = _forward(packed, x, states, Ends(state, final), matrices, settings, keep)
        outputs = packed.spread(states, (T, N, H), states=True)
        outputs.reshape(T * N, H)[settings.lanes.ends] = final[0]  # in the states others have begun there
        return Unrolled(outputs, final, [pieces])
    states = np.empty((T + 1, N, H), dtype)  # one buffer for those before the steps and those after them

    def part(rows: slice) -> list[Kept]:
        ends = Ends([s[rows] for s in state], [s[rows] for s in final])
        view = Whole(T, rows, settings.reverse, settings.segment)
        return _forward(view, x, states, ends, matrices, settings, keep)

    kept = _each([partial(part, rows) for rows in _rows(N, settings.parts)], settings.run)
    return Unrolled(states[:-1] if settings.reverse else states[1:], final, kept)


def backward(
    d_outputs: Array | None,
    d_final: Sequence[Array | None],
    kept: Any,
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
    if isinstance(lanes, Falling):
        back, which = matrices.back_to_x if wanted.x else None, (wanted.W_xh, wanted.W_hh, wanted.b_h)
        how = settings.cell.activation, lanes, settings.segment
        d_x, d_h0, total = falling.backward(d_outputs, d_final[0], kept, x.shape, weights[:3], back, *how, which)
        return Gradients(d_x, [d_h0], *_in_order(total, plan, H, wanted))
    d_state = [np.empty((N if lanes is None else lanes.sequences, H), dtype) for _ in d_final]
    if lanes is not None:
        packed = Packed(lanes)
        made = packed.make(D, dtype, states=False) if wanted.x else None
        total = _backward(packed, made, d_outputs, Ends(d_state, d_final), kept[0], matrices, settings, wanted)
        d_x = None if made is None else packed.spread(made, x.shape, states=False)
        return Gradients(d_x, d_state, *_in_order(total, plan, H, wanted))
    d_x = np.empty(x.shape, dtype) if wanted.x else None

    def part(rows: slice, pieces: list[Kept]) -> Sums:
        ends = Ends([d[rows] for d in d_state], [None if d is None else d[rows] for d in d_final])
        view = Whole(T, rows, settings.reverse, settings.segment)
        return _backward(view, d_x, d_outputs, ends, pieces, matrices, settings, wanted)

    rows = _rows(N, settings.parts)
    total, *others = _each([partial(part, *own) for own in zip(rows, kept, strict=True)], settings.run)
    for sums in others:
        total.merge(sums)
    return Gradients(d_x, d_state, *_in_order(total, plan, H, wanted))


def states(x: Array, state: Sequence[Array], weights: Weights, settings: Settings) -> list[Array]:
    """Return every state of whole rows in the order of processing, (T + 1, N, H) each: before step k at k."""
    (piece,) = forward(x, state, weights, settings).kept[0]
    shape = piece.hs.shape[0], piece.hs.shape[2], piece.hs.shape[1]
    return [piece.hs, *(np.ascontiguousarray(s.reshape(shape).swapaxes(1, 2)) for s in piece.own[0])]


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
        after, *found = _run(view, i, inputs, hs, extras, matrices, ends, settings, keeps)
        if keep:
            pieces.append(Kept(hs if keeps else hs[:1].copy(), extras, ends.first, found[0], inputs, found[1]))
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
) -> tuple[list[Array], Any, Array | None]:
    """Unroll piece ``i``; return the states beside h after it, what the cell keeps, and what was fed back."""
    cell, switches, (L, n, D), H, dtype = settings.cell, view.pieces[i].switches, inputs.shape, hs.shape[2], hs.dtype
    own = cell.keep(L, H, (n,) if n > 1 else (), dtype) if keeps else None
    differs = settings.mask is not None or (switches and cell.slopes_of_output)  # what is fed back, from the outputs
    fed = np.empty((L, n, H), dtype) if keeps and differs else None
    at_a_time = steps_at_a_time(cell, L, n, D, H, dtype)
    work = scratch.take(Forward, cell, n, D, H, dtype, at_a_time, settings.mask is not None)
    after = work.run(inputs, hs, extras, matrices, ends, switches, own, view.mask(settings.mask, i), fed)
    after = [s.copy() for s in after]
    scratch.give(work)
    return after, own, fed


def _backward(
    view: Any,
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
    mask = view.mask(settings.mask, i, end=True)
    at_a_time = steps_at_a_time(cell, L, n, D, H, kept.hs.dtype)
    work = scratch.take(Backward, cell, n, D, H, kept.hs.dtype, at_a_time)
    found = work.run(
        entering, arriving, kept.hs, matrices, ends, switches, kept.own, mask, kept.fed, settings.clip, sums
    )
    before = [d.copy() for d in found]
    scratch.give(work)
    return before


def falls(cell: Any, more: bool) -> bool:
    """Whether `kernels.falling` unrolls sequences of unequal length: Elman's layer, if there is no mask and no clip."""
    return isinstance(cell, Elman) and not more


def _again(view: Any, i: int, inputs: Array, kept: Kept, matrices: Matrices, settings: Settings) -> Kept:
    """Unroll piece ``i`` once more, from the states before it, and keep everything."""
    hs = np.empty((len(inputs) + 1, *kept.hs.shape[1:]), kept.hs.dtype)
    hs[0] = kept.hs[0]
    ends = Ends(kept.first, [np.empty_like(s) for s in kept.first])
    _, own, fed = _run(view, i, inputs, hs, kept.extras, matrices, ends, settings, True)
    return kept._replace(hs=hs, own=own, fed=fed)


def _rows(N: int, parts: int) -> list[slice]:
    """Return the rows of each part; they differ by one row at most."""
    edges = [N * i // parts for i in range(parts + 1)]
    return [slice(lo, hi) for lo, hi in itertools.pairwise(edges)] if parts > 1 else [slice(None)]


def _each(tasks: Sequence[Callable[[], Any]], run: Run | None) -> list[Any]:
    return [task() for task in tasks] if run is None else run(tasks)
