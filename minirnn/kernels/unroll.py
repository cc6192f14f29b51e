"""The unroll of a recurrent layer, for any cell: sequences of one length or of many, forward and backward.

Shapes: T steps, N rows of the mini-batch, D inputs, H hidden neurons, G gates.

The loop over the steps and the products stand in kernels/columns.py, what a cell does between them in kernels/lstm.py,
gru.py and simple.py. Elman's plain layer has a faster unroll of its own, kernels/elman.py: with one block, what the
columns save between the products is less than it costs to turn the arrays, and its derivative needs only its outputs.
For sequences of unequal length that is kernels/falling.py; all other cells have them in lanes, kernels/lanes.py.
"""

from collections.abc import Sequence
from functools import reduce
from typing import Any, NamedTuple

import numpy as np

from minirnn.arguments import Array
from minirnn.kernels import falling, layout, scratch
from minirnn.kernels.chunks import Run, each
from minirnn.kernels.columns import Backward, Forward, Stretch, steps_at_a_time
from minirnn.kernels.falling import Falling
from minirnn.kernels.lanes import Ends, Lanes
from minirnn.kernels.layout import Matrices, Weights
from minirnn.kernels.simple import Elman
from minirnn.kernels.sums import Sums
from minirnn.kernels.views import Packed, Whole


class Settings(NamedTuple):
    """How a layer is unrolled."""

    cell: Any  # the pointwise pair
    reverse: bool = False  # process t = T−1 … 0
    lanes: Lanes | Falling | None = None  # where rows are not one sequence of T steps; Falling where `falls` is true
    mask: Array | None = None  # (sequences, H), by which the h that is fed back is multiplied
    clip: float | None = None  # the largest norm of a row of dL/dH_t
    segment: int | None = None  # how many steps lie between two states that are kept; None to keep all
    parts: int = 1  # into how many parts the rows are split, without lanes
    run: Run | None = None  # what unrolls them


class Kept(NamedTuple):
    """What forward leaves of a piece for backward."""

    hs: Array  # (L + 1, N, H) as in `Stretch`, or with ``segment`` the first of them, (1, N, H)
    extras: list[Array]  # (N, H) each, the other states before the first step
    first: Sequence[Array]  # (sequences, H) each, the states before the first steps of all sequences
    own: Any  # what the cell keeps, or None with ``segment``
    inputs: Array  # (L, N, D), what was read of x; a view unless lanes were packed
    fed: Array | None  # (L, N, H), what was fed back, or None where that is hs


class Unrolled(NamedTuple):
    """What `forward` returns."""

    outputs: Array  # (T, N, H), in time order; 0 where no sequence is
    final: list[Array]  # (sequences, H) each, the states after the last step processed
    kept: Any  # for each part the Kept of its pieces; or what `kernels.falling.forward` keeps


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
    """Unroll x (T, N, D) from the ``state`` before the first step processed, (sequences, H) each.

    All arrays are of one dtype. ``keep`` says whether backward is to follow.
    """
    T, N, _ = x.shape
    H, dtype = len(weights.W_hh), weights.W_hh.dtype
    if isinstance(settings.lanes, Falling):
        outputs, last, fallen = falling.forward(x, state[0], _way(weights, settings), keep)
        return Unrolled(outputs, [last], fallen)
    matrices, final = Matrices(weights, settings.cell.layout), [np.empty_like(s) for s in state]
    ends = Ends(state, final)
    if settings.lanes is not None:
        packed = Packed(settings.lanes)
        states = packed.make(H, dtype, states=True)
        pieces = _Pass(packed, ends, matrices, settings).forward(x, states, keep)
        outputs = packed.spread(states, (T, N, H), states=True)
        outputs.reshape(T * N, H)[settings.lanes.ends] = final[0]  # in the states others have begun there
        return Unrolled(outputs, final, [pieces])
    states = np.empty((T + 1, N, H), dtype)  # one buffer for those before the steps and those after them

    def part(i: int, rows: slice) -> list[Kept]:
        view = Whole(T, rows, settings.reverse, settings.segment)
        return _Pass(view, ends, matrices, settings).forward(x, states, keep)

    kept = each(part, N, settings.parts, settings.run)
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

    ``d_outputs`` is (T, N, H) and ``d_final`` (sequences, H) for each array of the state; None for zeros.
    """
    T, N, D = x.shape
    H, dtype, plan = len(weights.W_hh), weights.W_hh.dtype, settings.cell.layout
    matrices, lanes = Matrices(weights, plan), settings.lanes
    if isinstance(lanes, Falling):
        back, which = matrices.back_to_x if wanted.x else None, (wanted.W_xh, wanted.W_hh, wanted.b_h)
        how = _way(weights, settings)
        d_x, d_h0, total = falling.backward(d_outputs, d_final[0], kept, x.shape, how, back, which)
        return Gradients(d_x, [d_h0], *_in_order(total, plan, H, wanted))
    d_state = [np.empty((N if lanes is None else lanes.sequences, H), dtype) for _ in d_final]
    ends = Ends(d_state, d_final)
    if lanes is not None:
        packed = Packed(lanes)
        made = packed.make(D, dtype, states=False) if wanted.x else None
        total = _Pass(packed, ends, matrices, settings).backward(made, d_outputs, kept[0], wanted)
        d_x = None if made is None else packed.spread(made, x.shape, states=False)
        return Gradients(d_x, d_state, *_in_order(total, plan, H, wanted))
    d_x = np.empty(x.shape, dtype) if wanted.x else None

    def part(i: int, rows: slice) -> Sums:
        view = Whole(T, rows, settings.reverse, settings.segment)
        return _Pass(view, ends, matrices, settings).backward(d_x, d_outputs, kept[i], wanted)

    total = reduce(Sums.merge, each(part, N, settings.parts, settings.run))
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


def falls(cell: Any, more: bool) -> bool:
    """Whether `kernels.falling` unrolls sequences of unequal length: Elman's layer, if there is no mask and no clip."""
    return isinstance(cell, Elman) and not more


def _way(weights: Weights, settings: Settings) -> falling.Way:
    assert isinstance(settings.lanes, Falling), "as `falls` says"
    return falling.Way(weights[:3], settings.cell.activation, settings.lanes, settings.segment)


class _Pass(NamedTuple):
    """What goes through the pieces of a view, forward or back."""

    view: Any  # Whole or Packed
    ends: Ends
    matrices: Matrices
    settings: Settings

    def forward(self, x: Array, states: Array, keep: bool) -> list[Kept]:
        """Unroll piece by piece; write the outputs, and the final states to ``ends.last``."""
        view, first = self.view, self.ends.first
        keeps = keep and self.settings.segment is None
        current, pieces = view.begin(first), []
        for i in range(len(view.pieces)):
            hs = view.states(states, i)
            hs[0], *extras = (s[: view.width(i)] for s in current)
            inputs = view.read(x, i)
            after, own, fed = self._run(i, inputs, hs, extras, keeps)
            if keep:
                pieces.append(Kept(hs if keeps else hs[:1].copy(), extras, first, own, inputs, fed))
            current = [hs[-1], *after]
            view.leave(i, current, self.ends.last)
        return pieces

    def _run(
        self, i: int, inputs: Array, hs: Array, extras: Sequence[Array], keeps: bool
    ) -> tuple[list[Array], Any, Array | None]:
        """Unroll piece ``i``; return the states beside h after it, what the cell keeps, and what was fed back."""
        cell, mask, switches = self.settings.cell, self.settings.mask, self.view.pieces[i].switches
        (L, n, D), H, dtype = inputs.shape, hs.shape[2], hs.dtype
        own = cell.keep(L, H, (n,) if n > 1 else (), dtype) if keeps else None
        differs = mask is not None or (switches and cell.slopes_of_output)  # what is fed back, from the outputs
        fed = np.empty((L, n, H), dtype) if keeps and differs else None
        at_a_time = steps_at_a_time(cell, L, n, D, H, dtype)
        work = scratch.take(Forward, cell, n, D, H, dtype, at_a_time, mask is not None)
        stretch = Stretch(hs, self.matrices, self.ends, switches, own, self.view.mask(mask, i), fed)
        after = [s.copy() for s in work.run(inputs, extras, stretch)]
        scratch.give(work)
        return after, own, fed

    def backward(self, d_x: Array | None, d_outputs: Array | None, pieces: Sequence[Kept], wanted: Wanted) -> Sums:
        """Go back piece by piece; write dX and the gradients of the first states, and return the sums over time."""
        view, plan, H = self.view, self.settings.cell.layout, self.matrices.H
        which = wanted.W_xh, wanted.W_hh, wanted.b_h or wanted.b_hn
        back = None if d_x is None else self.matrices.back_to_x
        total: Sums | None = None
        current: list[Array] = []
        for i in reversed(range(len(view.pieces))):
            room = None if d_x is None else view.room(d_x, i)
            sums = Sums(pieces[i].inputs, room, back, which, plan.of_x(H), plan.of_h(H))
            kept = pieces[i] if self.settings.segment is None else self._again(i, pieces[i])
            entering = None if d_outputs is None else view.entering(d_outputs, i)
            arriving = view.arrive(i, current, self.ends.last, kept.hs[-1])
            current = self._run_back(i, entering, arriving, kept, sums)
            total = sums if total is None else total.merge(sums)
        view.finish(self.ends.first, current)
        assert total is not None, "there is a piece"
        return total

    def _again(self, i: int, kept: Kept) -> Kept:
        """Unroll piece ``i`` once more, from the states before it, and keep everything."""
        hs = np.empty((len(kept.inputs) + 1, *kept.hs.shape[1:]), kept.hs.dtype)
        hs[0] = kept.hs[0]
        ends = Ends(kept.first, [np.empty_like(s) for s in kept.first])
        _, own, fed = self._replace(ends=ends)._run(i, kept.inputs, hs, kept.extras, True)
        return kept._replace(hs=hs, own=own, fed=fed)

    def _run_back(self, i: int, entering: Array | None, arriving: Sequence[Any], kept: Kept, sums: Sums) -> list[Array]:
        """Go back through piece ``i``; return the gradients of the states before it."""
        cell, hs, switches = self.settings.cell, kept.hs, self.view.pieces[i].switches
        (L, n, D), H = sums.x.shape, hs.shape[2]
        work = scratch.take(Backward, cell, n, D, H, hs.dtype, steps_at_a_time(cell, L, n, D, H, hs.dtype))
        mask = self.view.mask(self.settings.mask, i, end=True)
        stretch = Stretch(hs, self.matrices, self.ends, switches, kept.own, mask, kept.fed)
        before = [d.copy() for d in work.run(entering, arriving, stretch, self.settings.clip, sums)]
        scratch.give(work)
        return before
