"""Sequences of unequal length: a ragged mini-batch is its rows run one by one, and its padding is never read."""

import contextlib
import functools
import itertools

import numpy as np
import pytest
from error_texts import raises
from hypothesis import given, settings
from hypothesis import strategies as st
from pairwise import pairwise
from recurrent_cases import (
    BACKENDS,
    EVERY,
    KINDS,
    Problem,
    assert_equal,
    check_refused,
    curved,
    directions,
    each,
    evaluate,
    flat,
    leaf,
    relative_error,
    stack,
    turned,
)  # fmt: skip

import minirnn as mr
from minirnn.kernels import falling, lanes, padded

T, N, D, H = 7, 4, 2, 5
LAYERS = KINDS | {"identity": EVERY["identity"]}  # a φ with no bound, too
MODULES = LAYERS | {"directions": directions, "stack": stack}
LENGTHS = {
    "rising": ([1, 3, 4, 7], 7),
    "mixed": ([3, 7, 1, 6], 7),
    "ties": ([4, 2, 4, 2], 7),
    "all of T": ([7, 7, 7, 7], 7),
    "all 1": ([1, 1, 1, 1], 7),
    "one short": ([7, 7, 1, 7], 7),
    "one long, many short": ([7, 2, 1, 3, 2, 1, 1, 3, 2, 2], 7),
    "N=1": ([4], 7),
    "T=1": ([1, 1, 1], 1),
}
MIXED = LENGTHS["mixed"][0]
kinds = pytest.mark.parametrize("kind", KINDS)


def grid(**settings):
    """Pairs of settings; two directions go both ways."""
    points = pairwise(settings, allowed=lambda p: not (p.get("kind") == "directions" and p.get("reverse")))
    return pytest.mark.parametrize("point", points, ids=lambda p: "-".join(str(v) for v in p.values()))


def ragged(kind, lengths=MIXED, steps=T, hidden=H, **settings):
    """A problem of so many rows, its layer, and where its padding is, (T, N)."""
    settings = {name: value for name, value in settings.items() if name != "reverse" or value}
    backend, remat = settings.pop("backend", "fused"), settings.pop("remat", False)
    shape = (steps, len(lengths), D, hidden)
    problem = Problem(MODULES.get(kind, kind), shape, scale=1.5 / np.sqrt(hidden), **settings)
    layer = problem.layer(backend, **{"remat": remat} if remat else {})
    return problem, layer, np.arange(steps)[:, None] >= lengths


def one_by_one(problem, layer, lengths, weights):
    """Run each row alone, without lengths, and put the results together."""
    whole = {}
    for n, L in enumerate(lengths):
        state, u = each(lambda s, n=n: s[n : n + 1], problem.state), [w[n : n + 1] for w in problem.u]
        x, v = problem.x[:L, n : n + 1], problem.v[:L, n : n + 1]
        for name, value in evaluate(layer, x, state, v, u, weights=weights).items():
            if value is None:
                continue
            if name in ("outputs", "x"):
                whole.setdefault(name, np.zeros((*problem.x.shape[:2], value.shape[2])))[:L, n : n + 1] = value
            elif name.startswith(("final", "initial")):
                whole.setdefault(name, []).append(value)
            else:
                whole[name] = whole.get(name, 0) + value
    return {name: np.concatenate(v) if isinstance(v, list) else v for name, v in whole.items()}


# --- a ragged mini-batch is its rows ----------------------------------------------------------------------------------


@grid(
    kind=MODULES, backend=BACKENDS, reverse=[False, True], batch_first=[False, True], loss=["all", "outputs", "finals"]
)
def test_a_ragged_mini_batch_is_its_rows_one_by_one(point):
    """Also when no gradient comes in at a row's end, or at its outputs: none of the row after it in the lane either."""
    point = dict(point)
    loss = point.pop("loss")
    for lengths, steps in LENGTHS.values():
        problem, layer, _ = ragged(lengths=lengths, steps=steps, **point)
        weights = [loss != "finals"] + [loss != "outputs"] * len(problem.u)
        found = problem.run(layer, lengths=np.array(lengths), weights=weights)
        assert_equal(found, one_by_one(problem, layer, lengths, weights), zeros=loss != "all")


@settings(derandomize=True, deadline=None, max_examples=80)
@given(st.data())
def test_any_lengths(data):
    """Fused against graph: lanes that carry one sequence after the other and idle, in pieces of falling width."""
    kind, reverse = data.draw(st.sampled_from([*LAYERS]), "kind"), data.draw(st.booleans(), "reverse")
    lane = data.draw(
        st.sampled_from([-1.0, padded.LANE]), "what a lane costs"
    )  # below 0 all cells with gates have them
    steps = data.draw(st.integers(1, 16), "T")
    lengths = data.draw(st.lists(st.integers(1, steps), min_size=1, max_size=20), "lengths")
    problem, _, _ = ragged(kind, lengths, steps, reverse=reverse)
    fused = problem.layer(remat=data.draw(st.sampled_from([False, True, 1, 5]), "remat"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(padded, "LANE", lane)
        patch.setattr(padded, "MOVED", padded.MOVED if lane > 0 else 0.0)
        assert_equal(*(problem.run(layer, lengths=lengths) for layer in (fused, "graph")))


@grid(kind=LAYERS, seed=range(4), hidden=[H, 80], dtype=[np.float64, np.float32], reverse=[False, True])
def test_many_rows_in_many_lanes(point):
    """N large enough for several blocks of lanes, H and T for several chunks; with H = 80 Elman's has lanes too."""
    point = dict(point)
    seed = point.pop("seed")
    rng = np.random.default_rng(seed)
    steps = int(rng.integers(30, 70))
    lengths = [rng.integers(1, steps + 1, 50), 1 + rng.geometric(0.2, 60).clip(max=steps - 1), np.r_[steps, [1] * 40]]
    lengths = [*lengths, np.full(45, steps - 1)][seed].tolist()
    problem, layer, _ = ragged(lengths=lengths, steps=steps, **point)
    found, graph = (problem.run(one, lengths=lengths) for one in (layer, "graph"))
    assert {value.dtype for value in found.values()} == {np.dtype(point["dtype"])}
    assert_equal(found, graph, 1e-12 if point["dtype"] == np.float64 else 1e-4)


@grid(kind=MODULES, backend=BACKENDS, reverse=[False, True], batch_first=[False, True])
def test_lengths_that_are_all_T_change_nothing(point):
    problem, layer, _ = ragged(**point)
    plain = problem.run(layer)
    for lengths in ([T] * N, np.full(N, T, np.uint8)):
        assert_equal(problem.run(layer, lengths=lengths), plain, 0)


@kinds
def test_lengths_may_be_any_integers_and_are_copied(kind):
    problem, layer, _ = ragged(kind)
    expected = problem.run(layer, lengths=MIXED)
    for dtype in (np.int8, np.uint64):
        assert_equal(problem.run(layer, lengths=np.array(MIXED, dtype)), expected, 0)
    assert_equal(problem.run(layer, lengths=mr.Tensor(np.array(MIXED))), expected, 0)
    x, lengths = leaf(problem.x), np.array(MIXED)
    outputs, _ = layer(x, problem.state, lengths)
    lengths[...] = 1
    (outputs * problem.v).sum().backward()
    np.testing.assert_array_equal(outputs.numpy(), expected["outputs"])
    assert x.grad[5, 1].any()  # row 1 has seven steps, not one


def test_the_work_follows_the_sum_of_the_lengths(monkeypatch):
    """Counted in rows of all steps: 64 of 1 … 100 steps, half of them padding, of a size that costs."""
    work = []
    packing, planning = lanes.pack, falling.plan

    def pack(*arguments, **options):
        packed = packing(*arguments, **options)
        work.append(sum((piece.hi - piece.lo) * len(piece.first) for piece in packed.pieces))
        return packed

    def plan(*arguments):
        planned = planning(*arguments)
        work.append(sum(planned.counts))
        return planned

    monkeypatch.setattr(lanes, "pack", pack)
    monkeypatch.setattr(falling, "plan", plan)
    lengths = np.random.default_rng(0).integers(1, 101, 64)
    for make in LAYERS.values():
        make(D, 80, rng=0)(np.zeros((100, 64, D)), lengths=lengths)
    assert len(work) == len(LAYERS)
    assert lengths.sum() <= min(work) <= max(work) <= 1.3 * lengths.sum()


# --- what stands in the padding ---------------------------------------------------------------------------------------


@grid(
    kind=MODULES, backend=BACKENDS, reverse=[False, True], batch_first=[False, True], garbage=[np.nan, np.inf, -1e300]
)
def test_the_padding_changes_nothing(point):
    """Bit for bit, in x and in the gradients of the outputs; no gradient goes there, and no fault is found in it.

    dL/dY is handed to the outputs themselves: as a loss, NaN times 0 would make the number NaN.
    """
    point = dict(point)
    garbage = point.pop("garbage")
    for lengths, _ in (LENGTHS["mixed"], LENGTHS["one long, many short"]):
        problem, layer, padding = ragged(lengths=lengths, **point)
        found = []
        for value, mode in (
            (0.0, contextlib.nullcontext),
            (garbage, contextlib.nullcontext),
            (garbage, mr.detect_anomaly),
        ):
            # what a composite hands its own ops is looked at as it comes
            upstream = 0.0 if mode is mr.detect_anomaly and point["kind"] not in LAYERS else value
            x = turned(np.where(padding[..., None], value, problem.x), layer)
            v = turned(np.where(padding[..., None], upstream, problem.v), layer)
            x, state = leaf(x), each(leaf, problem.state)
            layer.zero_grad()
            with mode():
                outputs, final = layer(x, state, lengths)
                sum((s * u).sum() for s, u in zip(flat(final), problem.u, strict=True)).backward(retain_graph=True)
                outputs.backward(v)
            results = [outputs.numpy(), x.grad, *(s.grad for s in flat(state)), *(p.grad for p in layer.parameters())]
            found.append(results + [s.numpy() for s in flat(final)])
        for plain, *others in zip(*found, strict=True):
            for a in others:
                np.testing.assert_array_equal(a, plain)
            assert np.isfinite(plain).all()
            assert plain.any()
        for array in found[0][:2]:
            np.testing.assert_array_equal(turned(array, layer).any(axis=-1), ~padding)


@grid(kind=KINDS, backend=BACKENDS, batch_first=[False, True])
def test_detect_anomaly_names_the_fault_beside_the_padding(point):
    problem, layer, padding = ragged(**point)
    x = np.where(padding[..., None], np.nan, problem.x)
    x[2, 0, 1] = np.inf  # in the last of the three steps that row 0 has
    at = [0, 2, 1] if layer.batch_first else [2, 0, 1]
    rest = f"step t=2, row n=0: x holds inf at {at} (1 of 56 entries not finite): look at the data that comes in"
    with mr.detect_anomaly(), raises(mr.AnomalyError, f"detect_anomaly: {layer.name}({D}, {H}): {rest}"):
        layer(turned(x, layer), lengths=MIXED)


@grid(kind=KINDS, backend=BACKENDS, batch_first=[False, True])
def test_the_padding_may_hold_what_the_dtype_cannot(point):
    """A Tensor of float64 with 1e300 in the padding of a float32 layer: cast, it would overflow. In a list, too."""
    problem, layer, padding = ragged(dtype=np.float32, **point)
    expected = layer(turned(problem.x, layer), lengths=MIXED).outputs.numpy()
    x = turned(np.where(padding[..., None], 1e300, problem.x.astype(float)), layer)
    for given_x in (x, x.tolist(), mr.Tensor(x, requires_grad=True)):
        np.testing.assert_array_equal(layer(given_x, lengths=MIXED).outputs.numpy(), expected)
    at = (*map(int, np.argwhere(~turned(padding, layer))[-1]), 1)
    x[at] = -1e40
    message = f"{layer.name}: x holds -1e+40 at {list(at)}, too large for float32: try float64"
    for given_x in (x, x.tolist(), mr.Tensor(x, requires_grad=True)):
        with raises(ValueError, message):
            layer(given_x, lengths=MIXED)


@grid(kind=KINDS | {"directions": 0, "stack": 0}, backend=BACKENDS, requires_grad=[False, True])
def test_second_order_meets_no_padding(point):
    """`create_graph` with NaN in the padding: the same as with zeros there, and finite; in both backends the same."""
    point = dict(point)
    requires_grad = point.pop("requires_grad")
    problem, layer, padding = ragged(**point)
    found = []
    for garbage, one in ((0.0, layer), (np.nan, layer), (0.0, problem.layer("graph"))):
        x = mr.Tensor(np.where(padding[..., None], garbage, problem.x), requires_grad=requires_grad)
        state = each(leaf, problem.state)
        asking = [*flat(state), *one.parameters(), *([x] if requires_grad else [])]
        first = mr.grad(curved(problem, one, one(x, state, MIXED)), asking, create_graph=True)
        found.append([t.numpy() for t in (*first, *mr.grad(sum((g * g).sum() for g in first), asking))])
    for a, b, graph in zip(*found, strict=True):
        np.testing.assert_array_equal(a, b)
        assert relative_error(a, graph) <= 1e-12
        assert np.isfinite(a).all()


# --- with a loss ------------------------------------------------------------------------------------------------------


LOSSES = {
    mr.losses.mse: lambda rng, shape: rng.standard_normal(shape),
    mr.losses.cross_entropy: lambda rng, shape: rng.integers(0, shape[-1], shape[:-1]),
    mr.losses.binary_cross_entropy: lambda rng, shape: rng.random(shape),
}


@pytest.mark.parametrize(("loss", "make"), [*zip(LOSSES, [mr.LSTMLayer, directions, stack], strict=True)])
def test_a_loss_averages_over_valid_steps_only(make, loss):
    """Through a model that reads every step: the weighted mean of the losses of the rows alone."""
    rng, lengths = np.random.default_rng(0), np.array(MIXED)
    recurrent = make(D, H, dtype=np.float64, rng=rng)
    model = mr.SequenceModel(recurrent, mr.Linear(recurrent.output_size, 3, dtype=np.float64, rng=rng))
    x, targets = rng.standard_normal((T, N, D)), LOSSES[loss](rng, (T, N, 3))

    def alone(n, L):
        return loss(model(x[:L, n : n + 1]).predictions, targets[:L, n : n + 1]) * float(L)

    apart, found = sum(alone(n, L) for n, L in enumerate(lengths)) / float(lengths.sum()), []
    filled = np.where((np.arange(T)[:, None] >= lengths)[..., None], np.nan, x)
    for total in (loss(model(filled, lengths=lengths).predictions, targets, lengths=lengths), apart):
        model.zero_grad()
        total.backward()
        found.append([np.array(total.item()), *(p.grad for p in model.parameters())])
    for a, b in zip(*found, strict=True):
        assert relative_error(a, b) <= 1e-12


# --- errors -----------------------------------------------------------------------------------------------------------

INTEGERS = "lengths must be integers, one for each row, got"
SHAPE = "lengths must have shape (N=4,), one for each row, got"
RANGE = "lengths must lie between 1 and T=7, got"
FIRST, TRY = "time comes first in (T, N, …)", "try [T] * N"
BAD = [
    ([7, 0, 1, 2], ValueError, f"{RANGE} 0 for row 1: leave empty rows out"),
    ([8, 0, 1, 2], ValueError, f"{RANGE} 8 for row 0: they count steps"),
    (np.array([1, 1, 2**63, 1], np.uint64), ValueError, f"{RANGE} 9223372036854775808 for row 2: they count steps"),
    ([7, 1, 1], ValueError, f"{SHAPE} (3,): {FIRST}"),
    ([7, 1, 1, 1, 1, 1, 1], ValueError, f"{SHAPE} (7,): {FIRST}, for (N, T, …) try batch_first=True"),
    (7, ValueError, f"{SHAPE} (): {FIRST}"),
    ([7.0, 1, 1, 1], TypeError, f"{INTEGERS} an array of shape (4,) and dtype float64: {TRY}"),
    ([True, True, False, True], TypeError, f"{INTEGERS} an array of shape (4,) and dtype bool: {TRY}"),
    ("7111", TypeError, f"{INTEGERS} an array of shape () and dtype <U4: {TRY}"),
    ([], TypeError, f"{INTEGERS} an array of shape (0,) and dtype float64: {TRY}"),
    ([[7, 1], [1]], TypeError, f"{INTEGERS} a ragged list: {TRY}"),
]


@pytest.mark.parametrize(("lengths", "kind", "message"), BAD)
def test_what_lengths_are_not(lengths, kind, message):
    """Of composites and models the text is that of the first layer inside; the loss names itself."""
    x = np.zeros((7, 4, 3))
    for make, backend in itertools.product((mr.RecurrentLayer, mr.LSTMLayer, mr.GRULayer), BACKENDS):
        layer = make(3, 5, backend=backend, recurrent_dropout=0.5, rng=0)
        check_refused(layer, functools.partial(layer, x, lengths=lengths), kind, message)
    both = mr.Bidirectional(mr.LSTMLayer(3, 5, rng=0), mr.GRULayer(3, 5, reverse=True, rng=1))
    for module in (both, mr.Stacked([both]), mr.SequenceModel(both, mr.Linear(10, 2, rng=2))):
        with pytest.raises(kind) as info:
            module(x, lengths=lengths)
        assert str(info.value) == f"LSTMLayer: {message}"
    with raises(kind, f"mse: {message}"):
        mr.losses.mse(x, x, lengths=lengths)


def test_with_batch_first_the_count_is_that_of_the_rows():
    layer = mr.GRULayer(3, 5, batch_first=True, rng=0)
    layer(np.zeros((4, 7, 3)), lengths=[7, 1, 1, 1])
    with raises(ValueError, "GRULayer: lengths must lie between 1 and T=7, got 8 for row 0: they count steps"):
        layer(np.zeros((4, 7, 3)), lengths=[8, 1, 1, 1])
    hint = "rows come first in (N, T, …), for (T, N, …) try batch_first=False"
    with raises(ValueError, f"GRULayer: {SHAPE} (7,): {hint}"):
        layer(np.zeros((4, 7, 3)), lengths=[1] * 7)
