"""The unroll of a recurrent layer, for any cell: sequences of one length or of many, forward and backward.

Shapes: T steps, N rows of the mini-batch, D inputs, H hidden neurons, G gates.

The loop over the steps and the products stand in kernels/columns.py, what a cell does between them in kernels/lstm.py,
gru.py and simple.py. Elman's plain layer has a faster unroll of its own, kernels/elman.py: with one block, what the
columns save between the products is less than it costs to turn the arrays, and its derivative needs only its outputs.
For sequences of unequal length that is kernels/falling.py; all other cells have them in lanes, kernels/lanes.py.
"""

from collections.abc import Callable, Sequence, Set
from functools import reduce
from typing import Any, NamedTuple

import numpy as np

from minirnn.arguments import Array
from minirnn.kernels import falling, scratch
from minirnn.kernels.cells import rows_first
from minirnn.kernels.columns import Around, Backward, Forward, Saved, steps_at_a_time
from minirnn.kernels.gradients import Gradients, Sums
from minirnn.kernels.lanes import Packed, Whole
from minirnn.kernels.layout import Matrices, Settings, Unrolled, Weights
from minirnn.kernels.simple import Elman


def falls(cell: Any, more: bool) -> bool:
    """Whether Elman's own unrolls serve, kernels/elman.py and falling.py: if there is no mask and no clip."""
    return isinstance(cell, Elman) and not more


def forward(x: Array, state: Sequence[Array], weights: Weights, settings: Settings, save: bool = True) -> Unrolled:
    """Unroll x (T, N, D) from the ``state`` before the first step processed, (sequences, H) each.

    All arrays are of one dtype. ``save`` says whether backward is to follow: what is saved, for each part, are the
    `Saved` of its pieces.
    """
    if isinstance(settings.lanes, falling.Falling):
        return falling.forward(x, state, weights, settings, save)
    T, N, _ = x.shape
    H, dtype = len(weights.W_hh), weights.W_hh.dtype
    matrices, final = Matrices(weights, settings.cell.layout), [np.empty_like(s) for s in state]
    packed = None if settings.lanes is None else Packed(settings.lanes)
    # One buffer for the states before the steps and those after them:
    states = np.empty((T + 1, N, H), dtype) if packed is None else packed.make(H, dtype, 1)

    def part(i: int, view: Any) -> list[Saved]:
        return _Pass(view, state, final, matrices, settings).forward(x, states, save)

    saved = _each(part, T, N, settings, packed)
    if packed is None:
        return Unrolled(states[:-1] if settings.reverse else states[1:], final, saved)
    outputs = packed.spread(states, (T, N, H), 1)
    outputs.reshape(T * N, H)[settings.lanes.ends] = final[0]  # in the states others have begun there
    return Unrolled(outputs, final, saved)


def backward(
    d_outputs: Array | None,
    d_final: Sequence[Array | None],
    saved: Any,
    x: Array,
    weights: Weights,
    settings: Settings,
    wanted: Set[str],
) -> Gradients:
    """Go back through `forward`.

    ``d_outputs`` is (T, N, H) and ``d_final`` (sequences, H) for each array of the state; None for zeros.
    ``wanted`` names the gradients to compute, "x" or as in `Weights`; those of the states always are.
    """
    if isinstance(settings.lanes, falling.Falling):
        return falling.backward(d_outputs, d_final, saved, x, weights, settings, wanted)
    T, N, D = x.shape
    matrices, dtype = Matrices(weights, settings.cell.layout), weights.W_hh.dtype
    packed = None if settings.lanes is None else Packed(settings.lanes)
    d_state = [np.empty_like(s) for s in saved[0][0].first]
    d_x = None
    if "x" in wanted:
        d_x = np.empty(x.shape, dtype) if packed is None else packed.make(D, dtype)

    def part(i: int, view: Any) -> Sums:
        return _Pass(view, d_state, d_final, matrices, settings).backward(d_x, d_outputs, saved[i], wanted)

    total = reduce(Sums.merge, _each(part, T, N, settings, packed))
    if packed is not None and d_x is not None:
        d_x = packed.spread(d_x, x.shape)
    return Gradients(d_x, d_state, *total.collect())


def states(x: Array, state: Sequence[Array], weights: Weights, settings: Settings) -> list[Array]:
    """Return every state of whole rows in the order of processing, (T + 1, N, H) each: before step k at k."""
    (piece,) = forward(x, state, weights, settings).saved[0]
    return [piece.hs, *(np.ascontiguousarray(rows_first(s, x.shape[1])) for s in piece.own[0])]


def _each(part: Callable[[int, Any], Any], T: int, N: int, settings: Settings, packed: Packed | None) -> list[Any]:
    """Call ``part`` with the number of each part, and with a view of its rows, or of all lanes."""
    if packed is not None:
        return [part(0, packed)]
    return scratch.each(lambda i, rows: part(i, Whole(T, rows, settings)), N, settings.parts, settings.run)


class _Pass(NamedTuple):
    """What goes through the pieces of a view, forward or back."""

    view: Any  # Whole or Packed
    first: Sequence[Array]  # as in `Around`
    last: Sequence[Any]
    matrices: Matrices
    settings: Settings

    def forward(self, x: Array, states: Array, save: bool) -> list[Saved]:
        """Unroll piece by piece; write the outputs, and the final states to ``last``."""
        view = self.view
        save_all = save and self.settings.segment is None
        current, pieces = [s[view.begins] for s in self.first], []
        for i in range(len(view.pieces)):
            hs = view.room(states, i, 1)
            hs[0], *extras = (s[: hs.shape[1]] for s in current)
            current, saved = self._run(i, view.read(x, i), hs, extras, save_all)
            if save:
                pieces.append(saved if save_all else saved._replace(hs=hs[:1].copy()))
            view.leave(i, current, self.last)
        return pieces

    def _run(self, i: int, x: Array, hs: Array, extras: Sequence[Array], save: bool) -> tuple[list[Array], Saved]:
        """Unroll piece ``i``; return the states after it, and what backward needs."""
        cell, (L, n, D), H = self.settings.cell, x.shape, hs.shape[2]
        around = self._around(i)
        own = cell.make_buffers(L, H, (n,) if n > 1 else (), hs.dtype) if save else None
        # What is fed back, from the outputs:
        differs = around.mask is not None or (around.switches and cell.slopes_of_output)
        fed = np.empty((L, n, H), hs.dtype) if save and differs else None
        saved = Saved(x, hs, extras, self.first, own, fed)
        at_a_time = steps_at_a_time(cell, L, n, D, H, hs.dtype)
        work = scratch.take(Forward, cell, n, D, H, hs.dtype, at_a_time, around.mask is not None)
        after = [hs[-1], *(s.copy() for s in work.run(saved, around))]
        scratch.give(work)
        return after, saved

    def _around(self, i: int, *, end: bool = False) -> Around:
        masks, view = self.settings.mask, self.view
        mask = None if masks is None else view.mask(masks, i, end=end)
        return Around(self.matrices, self.first, self.last, view.pieces[i].switches, mask, masks)

    def backward(self, d_x: Array | None, d_outputs: Array | None, pieces: Sequence[Saved], wanted: Set[str]) -> Sums:
        """Go back piece by piece; write dX and the gradients of the first states, and return the sums over time."""
        view, back = self.view, None if d_x is None else self.matrices.back_to_x
        total: Sums | None = None
        current: list[Array] = []
        for i, saved in reversed(list(enumerate(pieces))):
            if self.settings.segment is not None:  # the piece is unrolled once more, and everything is saved
                hs = np.empty((len(saved.inputs) + 1, *saved.hs.shape[1:]), saved.hs.dtype)
                hs[0] = saved.hs[0]
                again = self._replace(first=saved.first, last=[np.empty_like(s) for s in saved.first])
                _, saved = again._run(i, saved.inputs, hs, saved.extras, True)
            room = None if d_x is None else view.room(d_x, i)
            sums = Sums(saved.inputs, room, back, wanted, self.settings.cell.layout)
            entering = None if d_outputs is None else view.entering(d_outputs, i)
            arriving = view.arrive(i, current, self.last, saved.hs[-1])
            current = self._run_back(i, entering, arriving, saved, sums)
            total = sums if total is None else total.merge(sums)
        for to, d in zip(self.first, current, strict=True):
            to[view.begins] = d
        assert total is not None, "there is a piece"
        return total

    def _run_back(self, i: int, entering: Any, arriving: Sequence[Array], saved: Saved, sums: Sums) -> list[Array]:
        """Go back through piece ``i``; return the gradients of the states before it."""
        cell, (L, n, D), hs = self.settings.cell, sums.x.shape, saved.hs
        at_a_time = steps_at_a_time(cell, L, n, D, hs.shape[2], hs.dtype)
        work = scratch.take(Backward, cell, n, D, hs.shape[2], hs.dtype, at_a_time)
        around = self._around(i, end=True)
        before = [d.copy() for d in work.run(entering, arriving, saved, around, self.settings.clip, sums)]
        scratch.give(work)
        return before
