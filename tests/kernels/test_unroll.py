"""The unroll for any cell on plain arrays: its backward against the complex step, its values against the textbook."""

import functools
import itertools
import weakref
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import pytest
from notes import noted
from pairwise import pairwise

from minirnn import textbook
from minirnn.kernels import columns, elman, falling, folded, folded_lstm, lanes, padded, scratch, unroll
from minirnn.kernels.cells import ACTIVATIONS, Activation
from minirnn.kernels.elman import HoistedBackward, HoistedForward, JoinedBackward, JoinedForward
from minirnn.kernels.falling import FallingWork
from minirnn.kernels.folded import FoldedBackward
from minirnn.kernels.gated import GRU, LSTM, Gated, GRUResetBefore
from minirnn.kernels.layout import Weights
from minirnn.kernels.simple import Custom, Elman
from minirnn.layers import threads


class Own:
    """A cell as a user would write one: two states, and something of both that goes past the products."""

    blocks, states = 2, 2

    def step(self, z, h, m):
        a, b = np.tanh(z[:, : h.shape[1]]), z[:, h.shape[1] :]
        after = m / 2 + a
        return (0.4 * h + np.sin(b) * after, after), (a, b, after)

    def step_backward(self, d_state, kept):
        (d_h, d_m), (a, b, after) = d_state, kept
        d_m = d_m + d_h * np.sin(b)
        return np.concatenate([d_m * (1 - a * a), d_h * after * np.cos(b)], axis=1), (0.4 * d_h, d_m / 2)


class Kind(NamedTuple):
    """A cell with G gates and S arrays in its state."""

    cell: Any
    G: int
    S: int = 1
    b_hn: bool = False


KINDS = {
    "elman": Kind(Elman(ACTIVATIONS["tanh"]), 1),
    "lstm": Kind(LSTM(), 4, 2),
    "gru": Kind(GRU(), 3, b_hn=True),
    "gru before": Kind(GRUResetBefore(), 3),
    "own": Kind(Custom(Own()), 2, 2),
}
ISRU = Activation("isru", lambda z: z / np.sqrt(1 + z * z), lambda y: (1 - y * y) ** 1.5)
ELMANS = {f"elman, {f.name}": Kind(Elman(f), 1) for f in (*ACTIVATIONS.values(), ISRU) if f.name != "tanh"}
ALL_KINDS = KINDS | ELMANS


class Shape(NamedTuple):
    """T, N, D, H, and how long the sequences are that follow each other in each row; None for whole rows."""

    T: int
    N: int
    D: int
    H: int
    rows: Any = None


WHOLE = {
    "T=1": Shape(1, 3, 2, 4),
    "N=1": Shape(5, 1, 2, 3),
    "D>H": Shape(4, 2, 3, 2),
    "all differ": Shape(5, 4, 2, 3),
    "all 1": Shape(1, 1, 1, 1),
}


def one_each(T, D, H, *lengths):
    return Shape(T, len(lengths), D, H, [[length] for length in lengths])


RAGGED = {
    "one": one_each(5, 2, 3, 3),
    "one row": Shape(7, 1, 2, 3, [[6, 1]]),
    "all lengths": one_each(8, 2, 2, 5, 8, 2, 7, 1, 4, 6, 3),
    "down to one lane": one_each(8, 2, 2, 6, 3, 8, 2, 6),
    "all of 1": one_each(2, 2, 2, 1, 1, 1),
    "several to a row": Shape(9, 6, 2, 3, [[4, 5], [9], [2, 2, 1, 3], [1], [3, 3], [6, 2]]),
    "one long, many short": one_each(9, 1, 2, 1, 2, 9, 1, 1, 3, 2, 2, 1, 1, 2, 1),
    "few lengths": one_each(8, 1, 2, *[8] * 8, *[7] * 16),
    "two to a lane": one_each(8, 1, 2, *[4] * 9, *[8] * 7, *[3] * 9),
    "random": one_each(20, 1, 2, *np.random.default_rng(0).geometric(0.15, 40).clip(max=20).tolist()),
}
SHAPES = WHOLE | RAGGED | {"idle": one_each(9, 2, 2, 1, 9, 2, 4, 1)}


class Way(NamedTuple):
    """One of the ways to come to the same numbers; None leaves the choice to the unroll."""

    chunk: int | None = None
    slopes: int | None = None
    joined: float | None = None
    falling: bool = False
    padded: bool = False
    segment: int | None = None
    parts: int = 1
    run: Any = None
    block: int = 8
    worth: float = 20
    elman: bool = False  # by kernels/elman.py, in these forms
    forth: Any = None
    back: Any = None
    folds: int = 0  # how often steps are folded into blocks
    few: int = folded_lstm.FEW  # up to how many neurons a step of an LSTM of one row is one product


PLAIN = Way()
STEPS = {
    "as it comes": PLAIN,
    "chunks of 1": Way(chunk=1),
    "chunks of 2": Way(chunk=2),
    "chunks of 3": Way(chunk=3),
    "slopes one by one": Way(slopes=1),
    "slopes by twos in chunks of 3": Way(slopes=2, chunk=3),
    "two products": Way(joined=0),
    "two products in chunks of 2": Way(joined=0, chunk=2),
    "one product": Way(joined=1e300),
    "LSTM without matrices of its own": Way(few=0),
    "the same in chunks of 2": Way(few=0, chunk=2),
    "segments of 1": Way(segment=1),
    "segments of 2": Way(segment=2),
    "segments of 3": Way(segment=3),
    "a segment of more than all": Way(segment=99),
    "segments of 3 in chunks of 2": Way(segment=3, chunk=2, slopes=1),
}
PARTS = {
    "2 parts": Way(parts=2),
    "3 parts": Way(parts=3),
    "2 parts at once": Way(parts=2, run=threads.at_once),
    "3 parts at once": Way(parts=3, run=threads.at_once),
    "all of it": Way(chunk=2, slopes=1, joined=0, segment=3, parts=2, run=threads.at_once),
}
IDLE, CUT = {"worth": 1e300}, {"worth": 0}  # lanes idle to the end; lanes are given up at every chance
LANES = {
    "idling lanes": Way(**IDLE),
    "blocks of 3, idling": Way(**IDLE, block=3),
    "one lane, or as few as can be": Way(**IDLE, block=1),
    "as few as can be, in chunks of 2": Way(**IDLE, block=1, chunk=2),
    "cut": Way(**CUT),
    "blocks of 2, cut": Way(**CUT, block=2),
    "blocks of 1, cut": Way(**CUT, block=1),
    "blocks of 2, cut, in chunks of 1": Way(**CUT, block=2, chunk=1),
    "blocks of 1, cut, in chunks of 2": Way(**CUT, block=1, chunk=2, slopes=1),
    "blocks of 2, cut, two products": Way(**CUT, block=2, joined=0),
    "idling, in segments of 2": Way(**IDLE, segment=2),
    "cut, in segments of 3": Way(**CUT, segment=3),
    "blocks of 2, cut, in segments of 2": Way(**CUT, block=2, segment=2),
    "as few as can be, in segments of 3": Way(**IDLE, block=1, segment=3, chunk=2),
    "padded": Way(padded=True),
    "padded in chunks of 2": Way(padded=True, chunk=2),
    "padded in segments of 2": Way(padded=True, segment=2),
    "falling": Way(falling=True),
    "falling in chunks of 1": Way(falling=True, chunk=1),
    "falling in chunks of 2": Way(falling=True, chunk=2),
    "falling in segments of 1": Way(falling=True, segment=1),
    "falling in segments of 2": Way(falling=True, segment=2),
    "falling in segments of 3, in chunks of 1": Way(falling=True, segment=3, chunk=1),
}
HOISTED = {"elman": True, "forth": HoistedForward, "back": HoistedBackward}
JOINED = HOISTED | {"forth": JoinedForward}  # the other ways back are for N = 1
FOLDED = JOINED | {"back": FoldedBackward}
ELMANS_OWN = {
    "Elman's own": Way(elman=True),
    "hoisted": Way(**HOISTED),
    "joined": Way(elman=True, forth=JoinedForward, back=JoinedBackward),
    "folded": Way(**FOLDED),
    "folded into blocks of 2": Way(**FOLDED, folds=1),
    "folded into blocks of 4": Way(**FOLDED, folds=2),
    "joined forward": Way(**JOINED),
    "hoisted in chunks": Way(**HOISTED, chunk=2),
    "joined in chunks": Way(elman=True, forth=JoinedForward, back=JoinedBackward, chunk=2),
    "folded in chunks": Way(**FOLDED, chunk=2),
    "folded into blocks in chunks": Way(**FOLDED, folds=1, chunk=2),
    "joined forward in chunks": Way(**JOINED, chunk=2),
    "remat of one": Way(elman=True, segment=1),
    "remat": Way(**HOISTED, segment=2),
    "remat, joined": Way(**JOINED, segment=3),
    "remat, folded": Way(**FOLDED, segment=3, folds=1),
    "remat of more than all": Way(elman=True, segment=9),
    "remat in chunks": Way(**HOISTED, chunk=2, segment=3),
    "Elman's own in 2 parts": Way(elman=True, parts=2),
    "hoisted, 3 parts at once": Way(**HOISTED, parts=3, run=threads.at_once),
    "all of it, hoisted": Way(**HOISTED, chunk=1, segment=2, parts=2, run=threads.at_once),
    "all of it, joined": Way(**JOINED, chunk=1, segment=2, parts=2, run=threads.at_once),
}
WAYS = STEPS | PARTS | LANES | ELMANS_OWN


class Problem(NamedTuple):
    """What the numbers depend on."""

    kind: str
    shape: str
    bias: bool = True
    reverse: bool = False
    masked: bool = False


def ways_for(problem):
    """Return the ways that are different ones here."""
    T, N, *_, rows = SHAPES[problem.shape]
    plain = problem.kind.startswith("elman") and not problem.masked
    return [
        name
        for name, way in (STEPS | (PARTS | ELMANS_OWN if rows is None else LANES)).items()
        if (plain or not (way.falling or way.elman))
        and (can_be_padded(problem) or not way.padded)
        and (problem.kind.startswith("gru") or way.joined is None or way.parts > 1)
        and (N > 1 or way.parts == 1)
        and (way.few or (N == 1 and problem.kind == "lstm"))
        and (N == 1 or way.back not in (JoinedBackward, FoldedBackward))
        and (T > 1 or not (way.chunk or way.segment or way.slopes) or way.parts > 1)
    ]


def can_be_padded(problem):
    """Whether rows begin at step 0, with states that stay within bounds."""
    rows, elmans = SHAPES[problem.shape].rows, problem.kind in ("elman", "elman, sigmoid") and not problem.masked
    one_to_a_row = rows is not None and all(len(row) == 1 for row in rows)
    return one_to_a_row and (elmans or isinstance(ALL_KINDS[problem.kind].cell, Gated)) and not problem.reverse


class Given(NamedTuple):
    """All arrays of a problem, the inputs and the gradients that come back, none of them writeable."""

    x: Any
    state: list[Any]
    weights: Weights
    mask: Any
    d_outputs: Any
    d_final: list[Any]


class Place(NamedTuple):
    """Where a sequence stands."""

    row: int
    start: int
    length: int

    @property
    def steps(self):
        return slice(self.start, self.start + self.length)


def places(shape):
    T, N, _, _, rows = SHAPES[shape]
    rows = [[T]] * N if rows is None else rows
    return [
        Place(n, start, length)
        for n, row in enumerate(rows)
        for start, length in zip([0, *itertools.accumulate(row)], row, strict=False)
    ]


@functools.cache
def given(problem, dtype="float64"):
    """Return random arrays; in the padding, of which nothing is to be read, NaN."""
    (_, G, S, b_hn), (T, N, D, H, _) = ALL_KINDS[problem.kind], SHAPES[problem.shape]
    rng, sequences = np.random.default_rng(T + 10 * N + 100 * D), len(places(problem.shape))

    def draw(*size, scale=1.0):
        array = (rng.standard_normal(size) * scale).astype(dtype)
        if (T, N, D, H) == (1, 1, 1, 1):
            array = np.abs(array)  # a single rectifier that is off would have nothing to compare
        array.flags.writeable = False  # writing into an input or into a gradient handed in raises from here on
        return array

    def padded(a):
        full = np.full_like(a, np.nan)
        for place in places(problem.shape):
            full[place.steps, place.row] = a[place.steps, place.row]
        full.flags.writeable = False
        return full

    weights = Weights(*(draw(*size, scale=0.7) for size in ((D, G * H), (H, G * H), (G * H,), (H,))))
    if not problem.bias:
        weights = weights._replace(b_h=None)
    if not problem.bias or not b_hn:
        weights = weights._replace(b_hn=None)
    state, d_final = ([draw(sequences, H) for _ in range(S)] for _ in range(2))
    mask = None
    if problem.masked:
        mask = np.maximum(rng.random((sequences, H)) * 1.8 - 0.4, 0).astype(dtype)  # every entry another, and some 0
        mask.flags.writeable = False
    return Given(padded(draw(T, N, D)), state, weights, mask, padded(draw(T, N, H)), d_final)


def standing(shape, reverse):
    """Return where in the rows of x each sequence begins, its length, and from each step to the next."""
    N, (row, start, length) = SHAPES[shape].N, np.array(places(shape)).T
    return (start + length - 1 if reverse else start) * N + row, length, -N if reverse else N


@functools.cache
def packed(shape, reverse, worth, block, segment):
    T, N, _, _, rows = SHAPES[shape]
    if rows is not None:
        return lanes.pack(*standing(shape, reverse), T * N, worth, block=block, segment=segment)


def settings(problem, way=PLAIN, mask=None, **options):
    _, N, _, _, rows = SHAPES[problem.shape]
    options = {"cell": ALL_KINDS[problem.kind].cell} | options
    more = mask is not None or options.get("clip") is not None
    found = packed(problem.shape, problem.reverse, way.worth, way.block, way.segment)
    if rows is not None and way.falling and unroll.falls(options["cell"], more):
        found = falling.plan(*standing(problem.shape, problem.reverse))
    if rows is not None and way.padded:
        T, N, D, H, _ = SHAPES[problem.shape]
        if isinstance(options["cell"], Gated):
            found = padded.plan_gated((T, N, D), H, options["cell"], *standing(problem.shape, problem.reverse))
        else:
            activation = options["cell"].activation
            found = padded.plan((T, N, D), H, activation, *standing(problem.shape, problem.reverse))
        assert isinstance(found, padded.Padded)
    split = {"parts": min(way.parts, N), "run": way.run} if way.parts > 1 else {}
    rest = {"reverse": problem.reverse, "mask": mask, "segment": way.segment}
    return unroll.Settings(lanes=found, **split, **rest, **options)


@contextmanager
def going(way, problem):
    """Within it the unroll goes the way given; it uses no scratch from before, and leaves none."""
    _, N, _, H, _ = SHAPES[problem.shape]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scratch, "_shelf", scratch._Shelf())
        if way.chunk is not None:
            for module in (columns, falling, elman):
                patch.setattr(module, "chunk_length", lambda N, width, dtype, rows=0: way.chunk)
            for module in (folded, folded_lstm):
                patch.setattr(module, "steps_at_a_time", lambda T, H, itemsize: way.chunk)
        patch.setattr(folded_lstm, "FEW", way.few)
        if way.padded:
            patch.setattr(padded, "START", 1e300)
            patch.setattr(padded, "LANE", 1e300)
        if way.slopes is not None:
            width = ALL_KINDS[problem.kind].cell.layout.blocks * H
            patch.setattr(columns, "SLOPES", way.slopes * N * width * 8)  # for fewer lanes, more steps
        if way.joined is not None:
            patch.setattr(columns, "JOINED", way.joined)
        if way.forth is not None:
            patch.setattr(elman, "forward_form", lambda N, D, H: way.forth)
            patch.setattr(elman, "backward_form", lambda T, N, H, dtype: back_of(way.back, T, N, H, dtype))
            for name, value in {"FEWER": H, "MANY": 1 << way.folds, "TIMES": way.folds}.items():
                patch.setattr(folded, name, value)
        yield


def back_of(form, T, N, H, dtype):
    if form is FoldedBackward:
        return form, folded.steps_at_a_time(T, H, dtype.itemsize), H, dtype
    return form, N, H, dtype


def all_wanted(weights):
    return {"x", *(name for name, a in zip(Weights._fields, weights, strict=True) if a is not None)}


def forward(problem, way=PLAIN, arrays=None, save=True, **options):
    x, state, weights, mask, _, _ = arrays or given(problem)
    kernel = elman if way.elman else unroll
    return kernel.forward(x, state, weights, settings(problem, way, mask, **options), save)


def backward(problem, way, found, arrays=None, wanted=None, **options):
    x, _, weights, mask, d_outputs, d_final = arrays or given(problem)
    using, wanted = settings(problem, way, mask, **options), all_wanted(weights) if wanted is None else wanted
    kernel = elman if way.elman else unroll
    return kernel.backward(d_outputs, d_final, found.saved, x, weights, using, wanted)


def run(problem, way=PLAIN, arrays=None, wanted=None, **options):
    """Return what forward and backward give."""
    with going(way, problem):
        found = forward(problem, way, arrays, **options)
        return found, backward(problem, way, found, arrays, wanted, **options)


def flat(g):
    """Return all gradients, or what they belong to, by name."""
    named = {"x": g.x, **{f"state {i}": s for i, s in enumerate(g.state)}}
    weights = g.weights if isinstance(g, Given) else g
    return named | {name: getattr(weights, name) for name in Weights._fields}


def near(a, b, limit, name=""):
    """Like numpy's assert_allclose, which takes a fifth of a millisecond; NaN is not near."""
    assert a.shape == np.shape(b), name
    off = np.abs(a - b).max(initial=0)
    assert off <= limit, f"{name}: off by {off}, not {limit}"


def compare(a, b, atol=1e-13):
    """Hold gradients against others: to ``atol`` times the largest entry; 0: bit for bit."""
    for name, one in flat(a).items():
        two = flat(b)[name]
        assert (one is None) == (two is None), name
        if one is not None:
            limit = atol * np.abs(two).max(initial=0)
            near(one, two, limit, name)


# --- the complex step -------------------------------------------------------------------------------------------------

TINY = 1e-200


def losses(problem, x, state, weights):
    """Return for each sequence Im L / TINY, of L = Σ d_outputs·outputs + Σ d_final·final.

    The sum of them all has the gradients that `backward` is to return.
    """
    known = given(problem)
    # Lanes that are never given up, nor whatever else is a matter of choice.
    using = settings(problem, Way(**IDLE), known.mask)
    found = unroll.forward(x, state, weights, using, save=False)
    assert found.outputs.dtype == complex
    total = sum((d * final.imag).sum(axis=1) for d, final in zip(known.d_final, found.final, strict=True))
    d_outputs, imag = known.d_outputs, found.outputs.imag
    for i, (row, start, length) in enumerate(places(problem.shape)):
        span = slice(start, start + length)
        total[i] += (d_outputs[span, row] * imag[span, row]).sum()
    return total / TINY


@functools.cache
def exact(problem):
    """Im L(a + ih) / h, entry by entry: ∂L/∂a to the last digits.

    What each sequence has of its own, an entry of x or of a state, is moved in all sequences at once, since each has a
    loss of its own too: `test_values` says that no sequence hears of another.
    """
    known = given(problem)
    x = known.x.astype(complex)
    state = [s.astype(complex) for s in known.state]
    weights = Weights(*(None if a is None else a.astype(complex) for a in known.weights))
    where = places(problem.shape)
    d_x, d_state = np.zeros_like(known.x), [np.empty_like(s) for s in known.state]
    for j, d in itertools.product(range(max(p.length for p in where)), range(x.shape[2])):
        moved, at = x.copy(), [(p.start + j, p.row, d) for p in where if p.length > j]
        for entry in at:
            moved[entry] += TINY * 1j
        found = losses(problem, moved, state, weights)
        for entry, value in zip(at, found[[p.length > j for p in where]], strict=True):
            d_x[entry] = value
    for i, e in itertools.product(range(len(state)), range(state[0].shape[1])):
        moved = [s.copy() for s in state]
        moved[i][:, e] += TINY * 1j
        d_state[i][:, e] = losses(problem, x, moved, weights)
    d_weights = []
    for k, a in enumerate(weights):
        d_weights.append(None if a is None else np.empty(a.shape))
        for entry in np.ndindex(() if a is None else a.shape):
            if a is not None:
                moved = a.copy()
                moved[entry] += TINY * 1j
                among = [moved if k == other else b for other, b in enumerate(weights)]
                d_weights[k][entry] = losses(problem, x, state, Weights(*among)).sum()
    return unroll.Gradients(d_x, d_state, *d_weights)


# --- the textbook -----------------------------------------------------------------------------------------------------


SIGMOID, _ = textbook.ACTIVATIONS["sigmoid"]


def textbook_step(kind, x_t, state, weights, fed):
    """One step for rows (N, D) and states (N, H), as the textbook has it; ``fed`` is what is fed back of h."""
    W_xh, W_hh, b_h, b_hn = weights
    b_h = np.zeros(W_hh.shape[1]) if b_h is None else b_h
    h, *others = state
    H = h.shape[1]
    if kind.startswith("elman"):
        phi = ALL_KINDS[kind].cell.activation
        return [textbook.layer_step_batch(x_t, fed, W_xh, W_hh, b_h, activation=(phi.apply, phi.derivative))]
    if kind == "lstm":
        return list(textbook.lstm_step(x_t, fed, *others, W_xh, W_hh, b_h))
    if kind == "own":
        return list(Own().step(x_t @ W_xh + fed @ W_hh + b_h, h, *others)[0])
    z = SIGMOID((x_t @ W_xh + fed @ W_hh + b_h)[:, H : 2 * H])
    if kind == "gru":
        new = textbook.gru_step(x_t, fed, W_xh, W_hh, b_h, np.zeros(H) if b_hn is None else b_hn)
    else:
        new = textbook.gru_reset_before_step(x_t, fed, W_xh, W_hh, b_h)
    return [new + z * (h - fed)]  # what z keeps is h itself


@functools.cache
def expected(problem):
    """Return outputs (T, N, H) and the final states, sequence by sequence and step by step."""
    known = given(problem)
    outputs, final = np.zeros(known.d_outputs.shape), [np.empty_like(s) for s in known.state]
    for i, place in enumerate(places(problem.shape)):
        state = [s[i : i + 1] for s in known.state]
        steps = range(place.start, place.start + place.length)
        for t in reversed(steps) if problem.reverse else steps:
            fed = state[0] if known.mask is None else state[0] * known.mask[i]
            state = textbook_step(problem.kind, known.x[t, place.row][None], state, known.weights, fed)
            outputs[t, place.row] = state[0]
        for to, s in zip(final, state, strict=True):
            to[i] = s
    return outputs, final


def everything(found, g):
    """Return the arrays that a caller gets."""
    named = {"outputs": found.outputs, **{f"final {i}": s for i, s in enumerate(found.final)}}
    return named | {f"∂ {name}": a for name, a in flat(g).items() if a is not None}


def arrays_in(a):
    """Yield every array in what forward has kept."""
    if isinstance(a, np.ndarray):
        yield a
    elif isinstance(a, dict):
        yield from arrays_in(list(a.values()))
    elif isinstance(a, list | tuple):
        for b in a:
            yield from arrays_in(b)


def name_of(problem):
    kind, shape, bias, reverse, masked = problem
    return ", ".join(filter(None, [kind, shape, "bias" * bias, "reverse" * reverse, "masked" * masked]))


def pairs(reverse=(False, True), **settings):
    """Parametrise by problems, and what is no part of one, with all pairs of two settings."""
    points = pairwise({"kind": KINDS, "masked": BOTH, "reverse": reverse, **settings})
    beside = [name for name in settings if name not in Problem._fields]
    values = [(Problem(**{k: v for k, v in p.items() if k not in beside}), *(p[k] for k in beside)) for p in points]
    ids = [", ".join([name_of(v[0]), *(getattr(w, "__name__", str(w)) for w in v[1:])]) for v in values]
    return pytest.mark.parametrize(("problem", *beside), values, ids=ids)


BOTH = (True, False)
THREE = ("N=1", "all differ", "several to a row", "all lengths")
SETTINGS = {"kind": KINDS, "shape": WHOLE | RAGGED, "bias": BOTH, "reverse": BOTH, "masked": BOTH}


def possible(point):
    """Whether all gradients are more than zeros: the one neuron's mask is 0."""
    return not (point["shape"] == "all 1" and point["masked"])


# Elman's cell goes more ways than the others, and its activation is a setting too: all triples.
ELMAN = {"kind": ["elman", *ELMANS], "shape": [*WHOLE, "several to a row"], "bias": BOTH, "reverse": BOTH}
GRID = [Problem(**p) for p in [*pairwise(SETTINGS, allowed=possible), *pairwise(ELMAN, strength=3)]]
GRID = list(dict.fromkeys(GRID))


def check(problem):
    """Hold every way against the textbook, step by step and sequence by sequence, and against the complex step."""
    known, (outputs, final) = given(problem), expected(problem)
    padding = np.isnan(known.x[..., 0])
    assert all(g is None or g.any() for g in flat(exact(problem)).values()), "nothing to compare"
    for way in ways_for(problem):
        with noted(way):
            found, g = run(problem, WAYS[way])
            near(found.outputs, outputs, 1e-13)
            for a, b in zip(found.final, final, strict=True):
                near(a, b, 1e-13)
            compare(g, exact(problem))
            assert not g.x[padding].any()
            assert not found.outputs[padding].any()


@pytest.mark.parametrize("problem", GRID, ids=name_of)
def test_values_and_every_entry_of_every_gradient_in_every_way(problem):
    check(problem)


@pytest.mark.exhaustive
@pytest.mark.parametrize("kind", ALL_KINDS)
@pytest.mark.parametrize("shape", WHOLE | RAGGED)
def test_all_values_and_every_entry_of_every_gradient_in_all_settings(kind, shape):
    for problem in (Problem(kind, shape, *more) for more in itertools.product(BOTH, repeat=3)):
        if possible(problem._asdict()):
            with noted(problem):
                check(problem)


kinds = pytest.mark.parametrize("kind", KINDS)


# --- the ways are what they are called --------------------------------------------------------------------------------


def pieces_of(shape, way):
    way = WAYS[way]
    return packed(shape, False, way.worth, way.block, way.segment).pieces


def test_the_lanes_are_as_they_are_called():
    """Each set of lengths and each way of lanes has what it is there for."""
    assert [len(p.first) for p in pieces_of("two to a lane", "cut")] == [16, 8]
    assert [len(p.first) for p in pieces_of("few lengths", "cut")] == [24, 8]
    assert len(pieces_of("few lengths", "idling lanes")) == 1
    assert [len(p.first) for p in pieces_of("down to one lane", "blocks of 1, cut")] == [3, 1]
    (row,) = pieces_of("one row", "one lane, or as few as can be")
    assert len(row.first) == 1
    assert len(row.switches) == 1
    for shape in ("several to a row", "one long, many short", "two to a lane"):
        (piece,) = pieces_of(shape, "idling lanes")
        assert any(s.new >= 0 for s in piece.switches), "a lane carries several sequences"
        assert any(s.new < 0 for s in piece.switches), "a lane idles"
    assert [p.hi - p.lo for p in pieces_of("several to a row", "idling, in segments of 2")][:3] == [2, 2, 2]


def test_elmans_rows_fall_away_where_they_should(monkeypatch):
    made = []
    taking = scratch.take
    monkeypatch.setattr(scratch, "take", lambda kind, *key: made.append(kind) or taking(kind, *key))
    in_columns = {columns.Forward, columns.Backward}
    for shape in ("all differ", "several to a row"):
        for way in ("as it comes", "falling"):
            with noted(way):
                made.clear()
                run(Problem("elman", shape), WAYS[way])
                rows_first = SHAPES[shape].rows is not None and way == "falling"
                assert set(made) == ({FallingWork} if rows_first else in_columns)
    assert unroll.falls(KINDS["elman"].cell, False)
    for kind, more in [("elman", True), ("lstm", False), ("gru", False)]:
        assert not unroll.falls(KINDS[kind].cell, more)


def test_elmans_rows_are_padded_where_steps_are_small():
    def planned(T, N, D, H, lengths, activation="tanh", stride=1):
        return type(padded.plan((T, N, D), H, ACTIVATIONS[activation], np.arange(N), np.array(lengths), stride * N))

    half = np.tile([10, 50], 16)
    assert planned(50, 32, 10, 20, half) is padded.Padded
    assert planned(50, 32, 10, 20, half, "sigmoid") is padded.Padded
    assert planned(50, 32, 10, 20, half, "relu") is falling.Falling  # its states may grow beyond all bounds
    assert planned(50, 32, 10, 20, half, stride=-1) is falling.Falling
    assert planned(50, 320, 10, 20, np.tile(half, 10)) is falling.Falling
    assert planned(50, 32, 10, 200, half) is falling.Falling
    assert planned(500, 32, 10, 20, half) is falling.Falling  # most steps are nobody's


def test_gated_rows_are_padded_where_lanes_cost_more():
    lstm, gru, elman = (KINDS[kind].cell for kind in ("lstm", "gru", "elman"))

    def planned(T, N, D, H, lengths, cell=lstm, stride=1):
        return padded.plan_gated((T, N, D), H, cell, np.arange(N), np.array(lengths), stride * N) is not None

    half, nearly = np.tile([10, 50], 16), np.tile([48, 49], 16)
    assert planned(50, 32, 10, 20, half)
    assert planned(50, 32, 10, 20, half, gru)
    assert planned(50, 32, 64, 128, nearly)  # there is little padding
    assert planned(5000, 32, 64, 128, nearly)  # what is after the longest row is not unrolled
    assert not planned(50, 32, 64, 128, half)
    assert not planned(50, 32, 10, 20, half, elman)
    assert not planned(50, 32, 10, 20, half, stride=-1)


def test_padded_rows_keep_no_state_but_what_backward_reads():
    problem = Problem("lstm", "all lengths")
    for way in WAYS["padded"], WAYS["padded in segments of 2"]:
        with going(way, problem):
            assert all(not piece.others for piece in forward(problem, way).saved[0])


def test_the_steps_at_a_time_are_as_the_ways_say(monkeypatch):
    made = []
    giving = scratch.give
    monkeypatch.setattr(scratch, "give", lambda work: made.append(work) or giving(work))
    for way, chunk, slopes in [
        ("as it comes", 8, 8),
        ("chunks of 2", 2, 2),
        ("slopes one by one", 8, 1),
        ("slopes by twos in chunks of 3", 3, 2),
    ]:
        made.clear()
        run(Problem("gru", "all differ"), WAYS[way])
        forth, back = made
        assert (forth.chunk, back.chunk, back.slopes) == (chunk, chunk, slopes)


# --- clipped messages -------------------------------------------------------------------------------------------------


def clip(d, largest):
    """Scale each row whose norm exceeds ``largest`` to it."""
    norm = np.sqrt((d**2).sum(axis=1, keepdims=True))
    return d * np.where(norm > largest, largest / norm, 1)


def step_by_step(problem, largest):
    """Go back with one unroll of one step after the other, and clip the gradient of each h in between.

    Of such an unroll the complex step has checked every entry.
    """
    known = given(problem)
    d_x, d_state = np.zeros_like(known.x), [np.empty_like(s) for s in known.state]
    totals = dict.fromkeys(Weights._fields, 0)
    clips = 0
    for i, place in enumerate(places(problem.shape)):
        steps = list(range(place.start, place.start + place.length))[:: -1 if problem.reverse else 1]
        mask = None if known.mask is None else known.mask[i : i + 1]
        using = unroll.Settings(KINDS[problem.kind].cell, mask=mask)
        kept, state = [], [s[i : i + 1] for s in known.state]
        for t in steps:
            x_t = known.x[t : t + 1, place.row : place.row + 1]
            found = unroll.forward(x_t, state, known.weights, using)
            kept.append((t, x_t, found.saved))
            state = found.final
        d = [u[i : i + 1] for u in known.d_final]
        for t, x_t, own in reversed(kept):
            d[0] = d[0] + known.d_outputs[t, place.row]
            clips += np.linalg.norm(d[0]) > largest
            d[0] = clip(d[0], largest)
            g = unroll.backward(None, d, own, x_t, known.weights, using, all_wanted(known.weights))
            d, d_x[t, place.row] = list(g.state), g.x[0, 0]
            for name in totals:
                if getattr(g, name) is not None:
                    totals[name] = totals[name] + getattr(g, name)
        for to, value in zip(d_state, d, strict=True):
            to[i] = value
    assert clips > 1
    weights = [None if a is None else totals[n] for n, a in zip(Weights._fields, known.weights, strict=True)]
    return unroll.Gradients(d_x, d_state, *weights)


CLIPPED = {"as it comes", "chunks of 2", "slopes one by one", "segments of 2", "falling", "2 parts", "all of it"}
CLIPPED |= {"two products", "idling lanes", "cut", "blocks of 2, cut", "blocks of 2, cut, in segments of 2"}
CLIPPED |= {"one lane, or as few as can be"}


@pairs(shape=(*THREE, "few lengths"))
def test_messages_are_clipped_at_every_step(problem):
    exact = step_by_step(problem, 0.4)
    for way in sorted(CLIPPED & {*ways_for(problem), "falling"}):
        with noted(way):
            found, g = run(problem, WAYS[way], clip=0.4)
            near(found.outputs, expected(problem)[0], 1e-13)
            compare(g, exact)


# --- what stands in lanes that idle ----------------------------------------------------------------------------------


@pytest.mark.parametrize("masked", [False, True], ids=["", "masked"])
@pytest.mark.parametrize("reverse", [False, True], ids=["forward", "reverse"])
def test_what_idles_has_only_numbers_that_stand_in_lane_0_too(reverse, masked):
    """A state that grew on in a lane whose sequence has ended would overflow, and 0 · inf would be NaN in the sums.

    Every sequence but the longest ends at 1e308; one more step would be beyond the largest number there is. So would a
    few more steps with the mask of another sequence be.
    """
    problem = Problem("elman, identity", "idle", reverse=reverse)
    T, N, D, H, _ = SHAPES["idle"]
    lengths, factor = np.array([place.length for place in places("idle")]), np.full(N, 10.0)
    weights = Weights(np.ones((D, H)), 10 * np.eye(H), np.zeros(H))
    x, mask, end = np.zeros((T, N, D)), None, np.where(lengths < T, 1e308, 1e9)
    if masked:
        mask = np.ones((N, H))
        mask[-1], factor[-1], end[-1] = 1e45, 1e46, 1e200
    state = [(end / factor**lengths)[:, None] * np.ones((N, H))]
    arrays = Given(x, state, weights, mask, None, [np.full((N, H), 1e-10)])
    for way in ways_for(problem):
        with noted(way), np.errstate(all="raise"):
            found, g = run(problem, WAYS[way], arrays)
            np.testing.assert_allclose(found.final[0], end[:, None] * np.ones(H), rtol=1e-12)
            for name, a in flat(g).items():
                assert a is None or np.isfinite(a).all(), name


# --- what is absent, and what is not wanted ---------------------------------------------------------------------------

FEW = {
    "as it comes",
    "segments of 2",
    "2 parts at once",
    "falling",
    "padded",
    "padded in segments of 2",
    "idling lanes",
    "blocks of 2, cut",
}


def few(problem):
    return [way for way in ways_for(problem) if way in FEW or WAYS[way].elman]


@pairs(shape=THREE)
def test_a_gradient_that_did_not_come_is_zeros(problem):
    known = given(problem)
    padding = np.where(np.isnan(known.d_outputs), np.nan, 0)
    for way, there in itertools.product(few(problem), itertools.product(BOTH, repeat=1 + len(known.d_final))):
        with noted((way, there)):
            some = [d if yes else None for yes, d in zip(there[1:], known.d_final, strict=True)]
            full = [d if yes else np.zeros_like(d) for yes, d in zip(there[1:], known.d_final, strict=True)]
            outputs = (known.d_outputs, known.d_outputs) if there[0] else (None, padding)
            _, one = run(problem, WAYS[way], known._replace(d_outputs=outputs[0], d_final=some))
            _, two = run(problem, WAYS[way], known._replace(d_outputs=outputs[1], d_final=full))
            compare(one, two, atol=0)
            for name, g in flat(one).items():
                assert g is None or g.any() == any(there), name


@pairs(shape=THREE, reverse=(False,))
def test_only_what_is_wanted_is_computed_and_it_does_not_change(problem):
    there = all_wanted(given(problem).weights)
    choices = pairwise({name: BOTH if name in there else [False] for name in ("x", *Weights._fields)}, strength=3)
    for way in few(problem):
        _, everything = run(problem, WAYS[way])
        for wanted in choices:
            with noted((way, wanted)):
                _, some = run(problem, WAYS[way], wanted={name for name, yes in wanted.items() if yes})
                for name, yes in wanted.items():
                    if yes:
                        np.testing.assert_array_equal(getattr(some, name), getattr(everything, name), err_msg=name)
                    else:
                        assert getattr(some, name) is None, name
                for a, b in zip(some.state, everything.state, strict=True):
                    np.testing.assert_array_equal(a, b)


# --- dtypes, memory, and what may not be touched ----------------------------------------------------------------------


@pairs(shape=THREE, clip=(None, 0.4))
def test_float32_stays_float32(problem, clip):
    for way in few(problem):
        with noted(way):
            of_float64 = everything(*run(problem, WAYS[way], clip=clip))
            for name, a in everything(*run(problem, WAYS[way], given(problem, "float32"), clip=clip)).items():
                assert a.dtype == np.float32, name
                limit = 1e-5 * max(1, np.abs(of_float64[name]).max())
                near(a, of_float64[name], limit, name)


def fortran(a):
    return np.asfortranarray(a)


def strided(a):
    """Return the same numbers as every other entry of a larger array, the last axis backwards."""
    large = np.full([2 * n for n in a.shape], np.nan, a.dtype)
    view = large[(*[slice(1, None, 2)] * (a.ndim - 1), slice(None, None, -2))]
    view[...] = a
    return view


def batch_first(a):
    return np.ascontiguousarray(a.swapaxes(0, 1)).swapaxes(0, 1) if a.ndim > 1 else a


def no_strides(a):
    """Return its first entry over and over, as the gradient of a sum may be."""
    return np.broadcast_to(a[:1], a.shape)


@pairs(shape=THREE, order=(fortran, strided, batch_first, no_strides))
def test_any_memory_order_will_do(problem, order):
    def turned(a, order=order):
        if isinstance(a, list | Weights):
            found = [turned(b, order) for b in a]
            return Weights(*found) if isinstance(a, Weights) else found
        if a is None:
            return None
        found = order(a).view()
        found.flags.writeable = False
        return found

    other = Given(*map(turned, given(problem)))
    known = Given(*(turned(a, np.array) for a in other))
    for way in few(problem):
        with noted(way):
            one, two = (everything(*run(problem, WAYS[way], arrays)) for arrays in (known, other))
            for name, a in one.items():
                near(two[name], a, 1e-13 * max(1, np.abs(a).max()), name)


@pairs(shape=THREE)
def test_nothing_is_written_into_and_every_result_is_new(problem):
    """The inputs are read-only, so that writing would raise; what forward keeps and has returned is made so too.

    Backward may be called again: it must not use up what forward kept; and other unrolls come in between.
    """
    known = given(problem)
    other = known._replace(x=-known.x, state=[-s for s in known.state], d_outputs=2 * known.d_outputs)
    inputs = list(arrays_in([*known, *other]))
    before = [a.tobytes() for a in inputs]
    for name in few(problem):
        way = WAYS[name]
        with noted(name), going(way, problem):
            found = forward(problem, way)
            kept = [a for a in arrays_in(found.saved) if not any(a is b for b in inputs)]
            frozen = [found.outputs, *found.final, *kept]
            copies = [a.tobytes() for a in frozen]
            assert all(a.flags.writeable for a in [found.outputs, *found.final])
            for a in frozen:
                a.flags.writeable = False
            beside = forward(problem, way, other)
            g, beside_g = backward(problem, way, found), backward(problem, way, beside, other)
            compare(backward(problem, way, found), g, atol=0)
            assert before == [a.tobytes() for a in inputs]
            assert copies == [a.tobytes() for a in frozen]
            results, others = (list(everything(*both).values()) for both in ((found, g), (beside, beside_g)))
            for i, a in enumerate(results):
                assert not any(np.shares_memory(a, b) for b in [*inputs, *others, *results[:i], *results[i + 1 :]])
                assert a.flags.writeable or i <= len(found.final)
            for a, b in itertools.product(kept, [*results[1:], *arrays_in(beside.saved)]):  # outputs may be kept
                assert not np.shares_memory(a, b) or any(np.shares_memory(a, c) for c in inputs)


@pairs(shape=(*THREE, "few lengths"), reverse=(False,))
def test_without_a_backward_to_come_the_values_are_the_same_and_nothing_is_kept(problem):
    for name in ways_for(problem):
        way = WAYS[name]
        with noted(name), going(way, problem):
            one, two = forward(problem, way), forward(problem, way, save=False)
            for a, b in zip((one.outputs, *one.final), (two.outputs, *two.final), strict=True):
                np.testing.assert_array_equal(a, b)
            assert list(arrays_in(one.saved))
            assert not list(arrays_in(two.saved))


@kinds
def test_segments_keep_one_state_each(kind):
    """Of memory of its own: a view would keep all the states alive."""
    for shape in ("all differ", "several to a row"):
        (kept,) = forward(Problem(kind, shape), WAYS["segments of 2"]).saved
        assert len(kept) > 1
        for piece in kept:
            assert piece.hs.shape[0] == 1
            assert piece.own is piece.fed is None
            for a in (piece.hs, *piece.extras):
                assert (a if a.base is None else a.base).nbytes <= piece.first[0].nbytes


@pytest.mark.parametrize("shape", ["all differ", "several to a row"])
def test_what_a_cell_keeps_is_gone_with_what_forward_returned(shape):
    """Without a backward to come, or with segments, it is gone when forward is done."""
    problem, kept = Problem("own", shape), []

    class Watched(Own):
        def step(self, z, h, m):
            state, own = super().step(z, h, m)
            kept.append(weakref.ref(own[0]))
            return state, own

    cell = Custom(Watched())
    for name, save in (("as it comes", False), ("segments of 2", True), ("as it comes", True)):
        with noted(name), going(WAYS[name], problem):
            found = forward(problem, WAYS[name], save=save, cell=cell)
            assert any(array() is not None for array in kept) == (save and name == "as it comes")
            del found
            assert not any(array() is not None for array in kept)


# --- errors -----------------------------------------------------------------------------------------------------------


class Failing(Own):
    """Fails at one call, counted from `arm` on."""

    def __init__(self):
        self.left = {}

    def arm(self, what, calls):
        self.left = {what: calls}

    def _count(self, what):
        if what in self.left:
            self.left[what] -= 1
            if not self.left[what]:
                raise ArithmeticError("in the middle")

    def step(self, z, h, m):
        self._count("step")
        return super().step(z, h, m)

    def step_backward(self, d_state, kept):
        self._count("step_backward")
        return super().step_backward(d_state, kept)


@pytest.mark.parametrize("what", ["step", "step_backward"])
@pytest.mark.parametrize(
    ("shape", "name"),
    [
        *(("all differ", way) for way in ("as it comes", "segments of 2", "2 parts", "2 parts at once")),
        *(("several to a row", way) for way in ("as it comes", "segments of 2", "blocks of 2, cut")),
    ],
)
def test_an_error_in_the_middle_leaves_nothing_behind(shape, name, what):
    """The scratch that was in use is not used again, and the next call gets the right numbers."""
    problem, failing, way = Problem("own", shape), Failing(), WAYS[name]
    cell, kind = Custom(failing), columns.Forward if what == "step" else columns.Backward

    def both():
        found = forward(problem, way, cell=cell)
        return everything(found, backward(problem, way, found, cell=cell))

    def on_the_shelf():
        return {id(work) for work in scratch._shelf.kept.values() if isinstance(work, kind)}

    with going(way, problem):
        expected = both()
        for calls in (1, 3, 4):
            before = on_the_shelf()
            failing.arm(what, calls)
            with pytest.raises(ArithmeticError, match="in the middle"):
                both()
            if way.run is None:  # of the threads one may have failed, and this one not
                assert on_the_shelf() < before or not on_the_shelf()
            failing.arm(None, 0)
            for result, a in both().items():
                np.testing.assert_array_equal(a, expected[result], err_msg=result)


# --- Elman's own kernel -----------------------------------------------------------------------------------------------


def test_elmans_form_is_a_matter_of_the_shape():
    assert elman.forward_form(1, 10, 20) is JoinedForward
    assert elman.forward_form(32, 10, 20) is JoinedForward
    assert elman.forward_form(1000, 10, 20) is HoistedForward
    assert elman.forward_form(1, 10, 200) is HoistedForward
    assert elman.forward_form(1, 200, 10) is HoistedForward
    for T, N, H, form in (
        (50, 1, 20, FoldedBackward),
        (50, 1, 40, JoinedBackward),
        (50, 1, 200, HoistedBackward),
        (50, 2, 20, HoistedBackward),
    ):
        assert elman.backward_form(T, N, H, np.dtype("f4"))[0] is form


def test_steps_are_folded_as_often_as_the_ways_say():
    for way, counts in {"folded": [8], "folded into blocks of 4": [8, 4, 2], "Elman's own": [8]}.items():
        with going(WAYS[way], Problem("elman", "N=1")):
            run_inside(way)
            (work,) = [w for w in scratch._shelf.kept.values() if isinstance(w, FoldedBackward)]
            assert [len(M) for M in work.folded] == counts
    assert len(FoldedBackward(1024, 4, np.dtype("f4")).folded) == 4


def run_inside(way):
    found = forward(Problem("elman", "N=1"), WAYS[way])
    backward(Problem("elman", "N=1"), WAYS[way], found)


@pytest.mark.parametrize("back", ["nothing", 1e-30])
def test_blocks_whose_product_overflows_are_gone_through_step_by_step(back):
    """W_hh of 1e60: the product over 8 steps overflows, while the gradient that comes back is zero, or dies first."""
    T, large = 9, 1e60
    weights = Weights(np.ones((1, 1)), np.array([[large]]), np.zeros(1))
    d_outputs = np.zeros((T, 1, 1))
    d_outputs[0], d_outputs[3] = 2, 0 if back == "nothing" else back
    arrays = Given(np.zeros((T, 1, 1)), [np.zeros((1, 1))], weights, None, d_outputs, [None])
    problem, way = Problem("elman, identity", "N=1"), Way(**FOLDED, folds=3)
    _, g = run(problem, way, arrays)
    expected = np.cumprod([1, *[large] * 3])[::-1] * d_outputs[3, 0, 0]
    expected[0] += 2
    np.testing.assert_allclose(g.x[:4, 0, 0], expected, rtol=1e-12)
    assert not g.x[4:].any()
    _, step_by_step = run(problem, Way(**FOLDED), arrays)
    compare(g, step_by_step, atol=0)


def test_an_lstm_of_one_row_of_few_neurons_makes_one_product_a_step():
    for problem, way, options, folds in [
        (Problem("lstm", "N=1"), PLAIN, {}, True),
        (Problem("lstm", "N=1"), Way(few=2), {}, False),
        (Problem("lstm", "N=1"), PLAIN, {"clip": 1.0}, False),
        (Problem("lstm", "N=1", masked=True), PLAIN, {}, False),
        (Problem("lstm", "all differ"), PLAIN, {}, False),
        (Problem("lstm", "one row"), PLAIN, {}, False),
        (Problem("gru", "N=1"), PLAIN, {}, False),
    ]:
        with going(way, problem):
            backward(problem, way, forward(problem, way, **options), **options)
            kinds = {type(work) for work in scratch._shelf.kept.values()}
        assert (folded_lstm.FoldedBackward in kinds) == folds
        assert (columns.Backward in kinds) != folds


def test_where_an_lstms_matrix_overflows_it_goes_step_by_step():
    """C of 1e200 and W_hh of 1e200: the matrix has an infinity and a NaN, of which nothing comes in the end."""
    weights = Weights(np.zeros((1, 4)), np.full((1, 4), 1e200), np.zeros(4))
    state = [np.zeros((1, 1)), np.full((1, 1), 1e200)]
    arrays = Given(np.zeros((1, 1, 1)), state, weights, None, np.full((1, 1, 1), 2.0), [None, None])
    problem = Problem("lstm", "all 1")
    _, g = run(problem, PLAIN, arrays)
    assert g.state[0] == 0.5 * 1e200  # by o alone: ½ (1 − ½) · tanh(C) · 2 · W_hh
    _, step_by_step = run(problem, Way(few=0), arrays)
    compare(g, step_by_step, atol=0)


@pytest.mark.parametrize("name", ["hoisted", "joined", "folded"])
def test_an_activation_that_raises_leaves_no_scratch_of_elmans_behind(name):
    problem, way, calls = Problem("elman", "N=1"), WAYS[name], itertools.count()

    def phi(z):
        if next(calls) == 3:
            raise ArithmeticError("in the middle")
        return np.tanh(z)

    with going(way, problem):
        expected = forward(problem, way)
        assert scratch._shelf.kept
        with pytest.raises(ArithmeticError, match="in the middle"):
            forward(problem, way, cell=Elman(Activation("broken", phi, None)))
        assert not scratch._shelf.kept
        np.testing.assert_array_equal(forward(problem, way).outputs, expected.outputs)
