"""The unroll of a recurrent layer, for any cell: sequences of one length or of many, forward and backward.

Shapes: T steps, N rows of the mini-batch, D inputs, H hidden neurons, G gates.

The loop over the steps and the products stand in kernels/columns.py, what a cell does between them in kernels/gated.py
and simple.py. Elman's plain layer has a faster unroll of its own, kernels/elman.py: with one block, what the
columns save between the products is less than it costs to turn the arrays, and its derivative needs only its outputs.
For sequences of unequal length that is kernels/falling.py, or padded.py where steps are small; all other cells have
them in lanes, kernels/lanes.py, and those with gates in whole rows where steps are small.
"""

from collections.abc import Callable, Iterator, Sequence, Set
from functools import reduce
from typing import Any

import numpy as np

from minirnn.arguments import Array
from minirnn.kernels import falling, folded_lstm, padded, scratch
from minirnn.kernels.columns import Around, Backward, Forward, Saved, steps_at_a_time, steps_back
from minirnn.kernels.elman import wipe
from minirnn.kernels.lanes import Packed, Whole
from minirnn.kernels.layout import Gradients, Matrices, Settings, Sums, Unrolled, Weights
from minirnn.kernels.simple import Elman


def falls(cell: Any, more: bool) -> bool:
    """Whether Elman's own unrolls serve, kernels/elman.py and falling.py: if there is no mask and no clip."""
    return isinstance(cell, Elman) and not more


def forward(x: Array, state: Sequence[Array], weights: Weights, settings: Settings, save: bool = True) -> Unrolled:
    """Unroll x (T, N, D) from the ``state`` before the first step processed, (sequences, H) each.

    All arrays are of one dtype. ``save`` says whether backward is to follow: what is saved, for each part, are the
    `Saved` of its pieces.
    """
    if isinstance(settings.lanes, padded.Padded):
        way = padded.forward if isinstance(settings.cell, Elman) else _forward_padded
        return way(x, state, weights, settings, save)
    if isinstance(settings.lanes, falling.Falling):
        return falling.forward(x, state, weights, settings, save)
    T, N, _ = x.shape
    H, dtype = len(weights.W_hh), weights.W_hh.dtype
    matrices, final = Matrices(weights, settings.cell.layout), [np.empty_like(s) for s in state]
    packed = None if settings.lanes is None else Packed(settings.lanes)
    # One buffer for the states before the steps and those after them:
    states = np.empty((T + 1, N, H), dtype) if packed is None else packed.make(H, dtype, 1)

    def part(i: int, view: Any) -> list[Saved]:
        return _forward(Around(view, state, final, matrices, settings), x, states, save)

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
    if isinstance(settings.lanes, padded.Padded):
        way = padded.backward if isinstance(settings.cell, Elman) else _backward_padded
        return way(d_outputs, d_final, saved, x, weights, settings, wanted)
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
        around = Around(view, d_state, d_final, matrices, settings)
        return reduce(Sums.merge, _backward(around, d_x, d_outputs, saved[i], wanted))

    total = reduce(Sums.merge, _each(part, T, N, settings, packed))
    if packed is not None and d_x is not None:
        d_x = packed.spread(d_x, x.shape)
    return Gradients(d_x, d_state, *total.collect())


def _forward_padded(x: Array, state: Sequence[Array], weights: Weights, settings: Settings, save: bool) -> Unrolled:
    """Unroll the padding as well, up to the longest row's end: of what is in it nothing is returned."""
    padding, last, steps = settings.lanes
    x, (T, N, _) = padded.readable(x, padding), x.shape
    made = [np.empty((T + 1, *s.shape), s.dtype) for s in state]
    over = [np.empty_like(s) for s in state]
    around = Around(Whole(steps, slice(None), settings), state, over, Matrices(weights, settings.cell.layout), settings)
    saved = _forward(around, x, made[0], save, made[1:])
    final = [s[1:].reshape(T * N, -1).take(last, axis=0) for s in made]
    wipe(made[0][1:], padding)
    return Unrolled(made[0][1:], final, [saved])


def _backward_padded(
    d_outputs: Array | None,
    d_final: Sequence[Array | None],
    saved: Any,
    x: Array,
    weights: Weights,
    settings: Settings,
    wanted: Set[str],
) -> Gradients:
    """Go back through `_forward_padded`: in the padding every gradient is 0, since none enters there."""
    places = settings.lanes
    view = Whole(places.steps, slice(None), settings)
    if all(d is None for d in d_final[1:]):
        d_outputs, d_final = padded.entering(d_outputs, d_final[0], places, x.shape, weights), [None] * len(d_final)
    else:  # what cannot enter as of outputs comes to each row as its last step is reached
        d_outputs = padded.entering(d_outputs, None, places, x.shape, weights)
        view.end(places.padding)
    d_state = [np.empty_like(s) for s in saved[0][0].first]
    d_x = None
    if "x" in wanted:
        d_x = np.empty(x.shape, weights.W_hh.dtype)
        d_x[places.steps :] = 0
    around = Around(view, d_state, d_final, Matrices(weights, settings.cell.layout), settings)
    total = reduce(Sums.merge, _backward(around, d_x, d_outputs, saved[0], wanted))
    return Gradients(d_x, d_state, *total.collect())


def states(x: Array, state: Sequence[Array], weights: Weights, settings: Settings) -> list[Array]:
    """Return every state of whole rows in the order of processing, (T + 1, N, H) each: before step k at k."""
    hs, *others = made = [np.empty((len(x) + 1, *s.shape), s.dtype) for s in state]
    hs[0], *extras = state
    matrices = Matrices(weights, settings.cell.layout)
    _run(Around(Whole(len(x), slice(None), settings), state, [], matrices, settings), 0, x, hs, extras, False, others)
    return made


def _each(part: Callable[[int, Any], Any], T: int, N: int, settings: Settings, packed: Packed | None) -> list[Any]:
    """Call ``part`` with the number of each part, and with a view of its rows, or of all lanes."""
    if packed is not None:
        return [part(0, packed)]
    return scratch.each(lambda i, rows: part(i, Whole(T, rows, settings)), N, settings.parts, settings.run)


def _forward(around: Around, x: Array, states: Array, save: bool, others: Sequence[Array] = ()) -> list[Saved]:
    """Unroll piece by piece; write the outputs, the final states to ``last``, and to ``others`` all states beside h."""
    view, save_all = around.view, save and around.settings.segment is None
    current, pieces = [s[view.begins] for s in around.first], []
    for i, (lanes, sequences) in enumerate(view.ending):
        hs = view.room(states, i, 1)
        hs[0], *extras = (s[: hs.shape[1]] for s in current)
        beside = [view.room(s, i, 1) for s in others]
        current, saved = _run(around, i, view.read(x, i), hs, extras, save_all, beside)
        if save:
            pieces.append(saved._replace(others=()) if save_all else saved._replace(hs=hs[:1].copy(), others=()))
        for to, state in zip(around.last, current, strict=True):
            to[sequences] = state[lanes]
    return pieces


def _run(
    around: Around, i: int, x: Array, hs: Array, extras: Sequence[Array], save: bool, others: Sequence[Array] = ()
) -> tuple[list[Array], Saved]:
    """Unroll piece ``i``; return the states after it, and what backward needs. To ``others`` go all states beside h."""
    cell, masked = around.settings.cell, around.settings.mask is not None
    (L, n, D), H = x.shape, hs.shape[2]
    own = cell.make_saved(L, H, (n,) if n > 1 else (), hs.dtype) if save else None
    # What is fed back differs from the outputs, or from what hs will say of them:
    differs = masked or (around.view.pieces[i].switches and cell.slopes_of_output)
    saved = Saved(x, hs, extras, around.first, own, np.empty((L, n, H), hs.dtype) if save and differs else None, others)
    work = scratch.take(Forward, cell, n, D, H, hs.dtype, steps_at_a_time(cell, L, n, D, H, hs.dtype), masked)
    with cell.quiet():
        after = [hs[-1], *(s.copy() for s in work.run(saved, around, i))]
    scratch.give(work)
    return after, saved


def _backward(
    around: Around, d_x: Array | None, d_outputs: Array | None, pieces: Sequence[Saved], wanted: Set[str]
) -> Iterator[Sums]:
    """Go back piece by piece; write dX and the gradients of the first states, and yield the sums over each piece."""
    view, cell = around.view, around.settings.cell
    back = None if d_x is None else around.matrices.back_to_x
    current: list[Array] = []
    for i, saved in reversed(list(enumerate(pieces))):
        if around.settings.segment is not None:  # the piece is unrolled once more, and everything is saved
            hs = np.empty((len(saved.inputs) + 1, *saved.hs.shape[1:]), saved.hs.dtype)
            hs[0] = saved.hs[0]
            again = around._replace(first=saved.first, last=[np.empty_like(s) for s in saved.first])
            _, saved = _run(again, i, saved.inputs, hs, saved.extras, True)
        sums = Sums(saved.inputs, None if d_x is None else view.room(d_x, i), back, wanted, cell.layout)
        entering = None if d_outputs is None else view.entering(d_outputs, i)
        arriving = _arrive(around, i, current, saved.hs[-1])
        current = _go_back(around, i, entering, arriving, saved, sums)
        yield sums
    for to, d in zip(around.first, current, strict=True):
        to[view.begins] = d


def _go_back(
    around: Around, i: int, entering: Array | None, arriving: Sequence[Array], saved: Saved, sums: Sums
) -> list[Array]:
    """Go back through piece ``i``, in the form that fits; return the gradients of the states before it."""
    cell, (L, n, D), H, dtype = around.settings.cell, saved.inputs.shape, saved.hs.shape[2], saved.hs.dtype
    found = None
    if folded_lstm.folds(around, i, n, H):
        folded = scratch.take(folded_lstm.FoldedBackward, folded_lstm.steps_at_a_time(L, H, dtype.itemsize), H, dtype)
        with cell.quiet(), np.errstate(invalid="ignore"):
            found = folded.run(entering, arriving, saved, around, sums)
            found = None if found is None else [d.copy() for d in found]
        scratch.give(folded)
    if found is None:
        work = scratch.take(Backward, cell, n, D, H, dtype, steps_back(cell, L, n, D, H, dtype))
        with cell.quiet():
            found = [d.copy() for d in work.run(entering, arriving, saved, around, i, sums)]
        scratch.give(work)
    return found


def _arrive(around: Around, i: int, current: Sequence[Array], like: Array) -> list[Array]:
    """Return the gradients of the states after piece ``i``; ``current`` are those before the next piece."""
    lanes, sequences = around.view.ending[i]
    found = [np.zeros_like(like) for _ in around.last]
    for d, after in zip(found, current, strict=False):
        d[: len(after)] = after
    for d, last in zip(found, around.last, strict=True):
        if last is not None:
            d[lanes] = last[sequences]
    return found
