"""Sequences of unequal length: a ragged mini-batch is its rows run one by one, and its padding is never read."""

import functools
import itertools

import numpy as np
import pytest
from error_texts import raises
from hypothesis import given, settings
from hypothesis import strategies as st
from test_family import BACKENDS, CELLS, assert_equal, each, evaluate, flat, leaf, relative_error, turned
from test_own_cell import UGRNN

import minirnn as mr
from minirnn.kernels import falling, lanes
from minirnn.layers.sequences import find

quick = settings(derandomize=True, deadline=None, max_examples=25)

T, N, D, H = 7, 4, 2, 5
KINDS = {"elman": mr.RecurrentLayer} | CELLS | {"own": functools.partial(mr.RecurrentLayer, cell=UGRNN())}
KINDS |= {"linear": functools.partial(mr.RecurrentLayer, activation="identity")}  # a φ with no bound


def directions(input_size, hidden_size, **options):
    """An LSTM forward, a GRU backward, of unequal sizes."""
    forward = mr.LSTMLayer(input_size, hidden_size, **options)
    return mr.Bidirectional(forward, mr.GRULayer(input_size, hidden_size - 1, reverse=True, **options))


def stack(input_size, hidden_size, reverse=False, **options):
    """Two directions, and a layer on top of them."""
    below = directions(input_size, hidden_size, **options)
    return mr.Stacked([below, mr.GRULayer(2 * hidden_size - 1, 3, reverse=reverse, **options)])


WAYS = [{}, {"reverse": True}, {"batch_first": True}, {"reverse": True, "batch_first": True}]
MAKERS = {
    "-".join([name, *options]): functools.partial(make, **options)
    for name, make in KINDS.items()
    for options in (WAYS if name != "linear" else WAYS[:2])
}  # fmt: skip
MAKERS |= {"directions": directions, "directions-batch_first": functools.partial(directions, batch_first=True)}
MAKERS |= {
    "stack": stack,
    "stack-batch_first": functools.partial(stack, batch_first=True),
    "stack-reverse": functools.partial(stack, reverse=True),
}
LENGTHS = {
    "falling": [7, 5, 2, 1],
    "rising": [1, 3, 4, 7],
    "mixed": [3, 7, 1, 6],
    "ties": [4, 2, 4, 2],
    "all of T": [7, 7, 7, 7],
    "all 1": [1, 1, 1, 1],
    "one short": [7, 7, 1, 7],
    "none of T": [5, 2, 3, 6],
    "one long, many short": [7, 2, 1, 3, 2, 1, 1, 3, 2, 2],
    "N=1": [4],
    "N=1, all of T": [7],
}
makers = pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
kinds = pytest.mark.parametrize("kind", KINDS)
backends = pytest.mark.parametrize("backend", BACKENDS)
GARBAGE = {"nan": np.nan, "inf": np.inf, "huge": -1e300}


class Ragged:
    """A layer with random weights, a mini-batch for it with random states, and a loss that sees all of it."""

    def __init__(self, make, lengths, steps=T, hidden=H, **options):
        self.rng = np.random.default_rng(lengths)
        self.lengths, rows = np.array(lengths), len(lengths)
        self.layer = make(D, hidden, **{"dtype": np.float64, "rng": 0} | options)
        for p in self.layer.parameters():
            p.data = self._draw(*p.shape) * p.dtype.type(1.5 / np.sqrt(hidden))
        self.x, self.v = self._draw(steps, rows, D), self._draw(steps, rows, self.layer.output_size)
        with mr.no_grad():
            final_state = self.layer(turned(self.x, self.layer)).final_state
        self.state = each(lambda s: self._draw(*s.shape), final_state)
        self.u = [self._draw(*s.shape) for s in flat(self.state)]

    def _draw(self, *shape):
        return self.rng.standard_normal(shape).astype(self.layer.dtype)

    @property
    def padding(self):
        return np.arange(len(self.x))[:, None] >= self.lengths

    def run(self, x=None, v=None, lengths=None, **settings):
        lengths = self.lengths if lengths is None else lengths
        x, v = self.x if x is None else x, self.v if v is None else v
        return evaluate(self.layer, x, self.state, v, self.u, lengths, **settings)

    def one_by_one(self, **settings):
        """Run each row alone, without lengths, and put the results together."""
        whole = {}
        for n, L in enumerate(self.lengths):
            state = each(lambda s, n=n: s[n : n + 1], self.state)
            u = [w[n : n + 1] for w in self.u]
            found = evaluate(self.layer, self.x[:L, n : n + 1], state, self.v[:L, n : n + 1], u, **settings)
            for name, value in found.items():
                if value is None:
                    continue
                if name in ("outputs", "x"):
                    whole.setdefault(name, np.zeros((*self.x.shape[:2], value.shape[2])))[:L, n : n + 1] = value
                elif name.startswith(("final", "initial")):
                    whole.setdefault(name, []).append(value)
                else:
                    whole[name] = whole.get(name, 0) + value
        return {name: np.concatenate(v) if isinstance(v, list) else v for name, v in whole.items()}


# --- a ragged mini-batch is its rows ----------------------------------------------------------------------------------


@backends
@pytest.mark.parametrize(
    ("lengths", "steps"), [*((lengths, T) for lengths in LENGTHS.values()), ([1, 1, 1], 1)], ids=[*LENGTHS, "T=1"]
)
@makers
def test_a_ragged_mini_batch_is_its_rows_one_by_one(make, lengths, steps, backend):
    ragged = Ragged(make, lengths, steps, backend=backend)
    assert_equal(ragged.run(), ragged.one_by_one())


@backends
@pytest.mark.parametrize("loss", ["outputs", "final states", "final h"])
@makers
def test_the_same_when_the_loss_sees_only_a_part(make, loss, backend):
    """No gradient comes in at a row's end then, or at its outputs: nothing of the row after it in the lane either."""
    ragged = Ragged(make, LENGTHS["one long, many short"], backend=backend)
    rest = [0] * (len(ragged.u) - 1)
    weights = {"outputs": [1, 0, *rest], "final states": [0] + [1] * len(ragged.u), "final h": [0, 1, *rest]}[loss]
    found, exact = ragged.run(weights=weights), ragged.one_by_one(weights=weights)
    for name, value in exact.items():
        if value.any():
            assert relative_error(found[name], value) <= 1e-12, name
        else:
            assert not found[name].any(), name
    assert all(value is None for name, value in found.items() if name not in exact)


@backends
@kinds
def test_what_the_final_state_is(kind, backend):
    """The state after each row's last valid step; in reverse, which starts there, that after t = 0."""
    for reverse in (False, True):
        ragged = Ragged(KINDS[kind], LENGTHS["mixed"], backend=backend, reverse=reverse)
        found = ragged.run()
        for n, L in enumerate(ragged.lengths):
            np.testing.assert_array_equal(found["final 0"][n], found["outputs"][0 if reverse else L - 1, n])
        assert not found["outputs"][ragged.padding].any()


@pytest.mark.parametrize("reverse", [False, True])
@kinds
@quick
@given(st.data())
def test_any_lengths(kind, reverse, data):
    """Fused against graph: lanes that carry one sequence after the other and idle, in pieces of falling width."""
    steps = data.draw(st.integers(1, 16), "T")
    lengths = data.draw(st.lists(st.integers(1, steps), min_size=1, max_size=20), "lengths")
    remat = data.draw(st.sampled_from([False, True, 1, 5]), "remat")
    make = functools.partial(KINDS[kind], reverse=reverse)
    fused = Ragged(make, lengths, steps, remat=remat)
    graph = Ragged(make, lengths, steps, backend="graph")
    assert_equal(fused.run(), graph.run())


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("hidden", [H, 80])
@pytest.mark.parametrize("seed", range(4))
@kinds
def test_many_rows_in_many_lanes(kind, seed, hidden, dtype):
    """N large enough for several blocks of lanes, H and T for several chunks; with H = 80 Elman's has lanes too."""
    rng = np.random.default_rng(seed)
    steps = int(rng.integers(30, 70))
    lengths = [rng.integers(1, steps + 1, 50), 1 + rng.geometric(0.2, 60).clip(max=steps - 1), np.r_[steps, [1] * 40]]
    lengths = [*lengths, np.full(45, steps - 1)][seed].tolist()
    ragged = Ragged(KINDS[kind], lengths, steps, hidden, dtype=dtype, reverse=bool(seed % 2))
    found = ragged.run()
    assert {value.dtype for value in found.values()} == {np.dtype(dtype)}
    ragged.layer.backend = "graph"
    graph = ragged.run()
    assert_equal(found, graph, 1e-12 if dtype == np.float64 else 1e-4)


@backends
@kinds
def test_the_order_of_the_rows_does_not_matter(kind, backend):
    lengths = LENGTHS["one long, many short"]
    ragged = Ragged(KINDS[kind], lengths, backend=backend)
    found = ragged.run()
    order = np.random.default_rng(0).permutation(len(lengths))
    ragged.x, ragged.v = ragged.x[:, order], ragged.v[:, order]
    ragged.lengths, ragged.state = ragged.lengths[order], each(lambda s: s[order], ragged.state)
    ragged.u = [w[order] for w in ragged.u]
    for name, value in ragged.run().items():
        exact = found[name]
        if name in ("outputs", "x"):
            exact = exact[:, order]
        elif name.startswith(("final", "initial")):
            exact = exact[order]
        assert relative_error(value, exact) <= 1e-12, name


@backends
@makers
def test_lengths_that_are_all_T_change_nothing(make, backend):
    ragged = Ragged(make, [T] * N, backend=backend)
    plain = evaluate(ragged.layer, ragged.x, ragged.state, ragged.v, ragged.u)
    assert_equal(ragged.run(), plain, 0)
    assert_equal(ragged.run(lengths=np.full(N, T, np.uint8)), plain, 0)


@pytest.mark.parametrize("lengths", [[3, 7, 1, 6], (3, 7, 1, 6), np.array([3, 7, 1, 6], np.int8),
                                     np.array([3, 7, 1, 6], np.uint64), mr.Tensor(np.array([3, 7, 1, 6]))])  # fmt: skip
@kinds
def test_lengths_may_be_any_integers(kind, lengths):
    ragged = Ragged(KINDS[kind], LENGTHS["mixed"])
    assert_equal(ragged.run(lengths=lengths), ragged.run(), 0)


def test_a_callers_lengths_are_copied():
    ragged = Ragged(mr.GRULayer, LENGTHS["mixed"])
    expected, lengths = ragged.run(), np.array(LENGTHS["mixed"])
    x, state = leaf(ragged.x), leaf(ragged.state)
    outputs, _ = ragged.layer(x, state, lengths)
    lengths[...] = 1
    (outputs * ragged.v).sum().backward()
    np.testing.assert_array_equal(outputs.numpy(), expected["outputs"])
    assert x.grad[5, 1].any()  # row 1 has seven steps, not one


@backends
@kinds
def test_without_a_state_rows_start_from_zeros(kind, backend):
    ragged = Ragged(KINDS[kind], LENGTHS["mixed"], backend=backend)
    ragged.state = each(np.zeros_like, ragged.state)
    found = ragged.run()
    for one, name in zip(flat(ragged.layer(ragged.x, lengths=ragged.lengths)), ("outputs", "final 0"), strict=False):
        np.testing.assert_array_equal(one.numpy(), found[name])


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
    for make in KINDS.values():
        make(D, 80, rng=0)(np.zeros((100, 64, D)), lengths=lengths)
    assert len(work) == len(KINDS)
    assert lengths.sum() <= min(work) <= max(work) <= 1.3 * lengths.sum()


# --- what stands in the padding ---------------------------------------------------------------------------------------


@backends
@pytest.mark.parametrize("garbage", GARBAGE.values(), ids=GARBAGE)
@makers
def test_the_padding_changes_nothing(make, garbage, backend):
    """Bit for bit, and no gradient goes there."""
    for lengths in (LENGTHS["mixed"], LENGTHS["one long, many short"]):
        ragged = Ragged(make, lengths, backend=backend)
        expected = ragged.run()
        x = np.where(ragged.padding[..., None], garbage, ragged.x)
        found = ragged.run(x)
        assert_equal(found, expected, 0)
        assert all(np.isfinite(value).all() for value in found.values())
        for name in ("outputs", "x"):
            assert not found[name][ragged.padding].any(), name
            assert found[name][~ragged.padding].any(axis=-1).all(), name


@backends
@pytest.mark.parametrize("garbage", [np.nan, np.inf, 1e300])
@makers
def test_gradients_that_enter_in_the_padding_change_nothing(make, garbage, backend):
    """Here dL/dY is handed to the outputs themselves: as a loss, NaN times 0 would make the number NaN."""
    ragged = Ragged(make, LENGTHS["mixed"], backend=backend)
    found = []
    for value in (0.0, garbage):
        x, state = leaf(turned(ragged.x, ragged.layer)), each(leaf, ragged.state)
        ragged.layer.zero_grad()
        outputs, final_state = ragged.layer(x, state, ragged.lengths)
        sum((s * u).sum() for s, u in zip(flat(final_state), ragged.u, strict=True)).backward(retain_graph=True)
        outputs.backward(turned(np.where(ragged.padding[..., None], value, ragged.v), ragged.layer))
        found.append([x.grad, *(s.grad for s in flat(state)), *(p.grad for p in ragged.layer.parameters())])
    for a, b in zip(*found, strict=True):
        np.testing.assert_array_equal(a, b)
        assert np.isfinite(a).all()
        assert a.any()


@backends
@makers
def test_detect_anomaly_finds_no_fault_in_the_padding(make, backend):
    ragged = Ragged(make, LENGTHS["mixed"], backend=backend)
    expected = ragged.run()
    x = np.where(ragged.padding[..., None], np.nan, ragged.x)
    with mr.detect_anomaly():
        assert_equal(ragged.run(x), expected, 0)


@backends
@pytest.mark.parametrize("batch_first", [False, True])
@kinds
def test_detect_anomaly_names_the_fault_beside_the_padding(kind, batch_first, backend):
    ragged = Ragged(KINDS[kind], LENGTHS["mixed"], backend=backend, batch_first=batch_first)
    x = np.where(ragged.padding[..., None], np.nan, ragged.x)
    x[2, 0, 1] = np.inf  # in the last of the three steps that row 0 has
    at = [0, 2, 1] if batch_first else [2, 0, 1]
    rest = f"step t=2, row n=0: x holds inf at {at} (1 of 56 entries not finite): look at the data that comes in"
    with mr.detect_anomaly(), raises(mr.AnomalyError, f"detect_anomaly: {ragged.layer.name}({D}, {H}): {rest}"):
        ragged.run(x)


@backends
@kinds
def test_lists_and_single_precision_with_garbage(kind, backend):
    layer = KINDS[kind](1, 3, backend=backend, rng=0)
    x = [[[0.5], [1.0]], [[0.25], [float("nan")]]]
    outputs, _ = layer(x, lengths=[2, 1])
    outputs.sum().backward()
    assert outputs.dtype == np.float32
    assert not outputs.numpy()[1, 1].any()
    assert all(np.isfinite(p.grad).all() for p in layer.parameters())


@backends
@kinds
def test_the_padding_may_hold_what_the_dtype_cannot(kind, backend):
    """A Tensor of float64 with 1e300 in the padding of a float32 layer: cast, it would overflow."""
    layer = KINDS[kind](D, H, backend=backend, rng=0)
    x = np.random.default_rng(0).standard_normal((T, N, D))
    lengths = LENGTHS["mixed"]
    expected = layer(x, lengths=lengths).outputs.numpy()
    x[np.arange(T)[:, None] >= lengths] = 1e300
    with np.errstate(over="ignore"):  # the cast is numpy's, and it is of all of x
        for given_x in (x, mr.Tensor(x, requires_grad=True)):
            np.testing.assert_array_equal(layer(given_x, lengths=lengths).outputs.numpy(), expected)


@backends
@pytest.mark.parametrize("requires_grad", [False, True])
@kinds
def test_second_order_meets_no_padding(kind, requires_grad, backend):
    """`create_graph` with NaN in the padding: the same as with zeros there, and finite."""
    ragged = Ragged(KINDS[kind], LENGTHS["mixed"], backend=backend)
    found = []
    for garbage in (0.0, np.nan):
        x = mr.Tensor(np.where(ragged.padding[..., None], garbage, ragged.x), requires_grad=requires_grad)
        state = each(leaf, ragged.state)
        outputs, final_state = ragged.layer(x, state, ragged.lengths)
        asking = [*flat(state), *ragged.layer.parameters(), *([x] if requires_grad else [])]
        loss = (outputs**2 * ragged.v).sum() + sum(
            (s**2 * u).sum() for s, u in zip(flat(final_state), ragged.u, strict=True)
        )
        first = mr.grad(loss, asking, create_graph=True)
        second = mr.grad(sum((g * g).sum() for g in first), asking)
        found.append([t.numpy() for t in (*first, *second)])
    for a, b in zip(*found, strict=True):
        np.testing.assert_array_equal(a, b)
        assert np.isfinite(a).all()
        assert a.any()


@pytest.mark.parametrize("make", [directions, stack])
def test_second_order_of_composites(make):
    found = []
    for backend in BACKENDS:
        ragged = Ragged(make, LENGTHS["mixed"], backend=backend)
        x, state = leaf(ragged.x), each(leaf, ragged.state)
        asking = [x, *flat(state), *ragged.layer.parameters()]
        outputs, final_state = ragged.layer(x, state, ragged.lengths)
        loss = (outputs**2 * ragged.v).sum() + sum(
            (s**2 * u).sum() for s, u in zip(flat(final_state), ragged.u, strict=True)
        )
        first = mr.grad(loss, asking, create_graph=True)
        found.append([t.numpy() for t in mr.grad(sum((g * g).sum() for g in first), asking)])
    for a, b in zip(*found, strict=True):
        assert relative_error(a, b) <= 1e-12


@backends
@kinds
def test_every_gradient_by_central_differences(kind, backend):
    ragged = Ragged(KINDS[kind], [3, 1, 2], steps=3, backend=backend)
    x, state = leaf(ragged.x), each(leaf, ragged.state)
    inputs = [x, *flat(state), *ragged.layer.parameters()]
    assert mr.gradcheck(lambda *_: ragged.layer(x, state, ragged.lengths), inputs)


# --- with a loss ------------------------------------------------------------------------------------------------------


LOSSES = {
    "mse": (mr.losses.mse, lambda rng, shape: rng.standard_normal(shape)),
    "cross_entropy": (mr.losses.cross_entropy, lambda rng, shape: rng.integers(0, shape[-1], shape[:-1])),
    "binary_cross_entropy": (mr.losses.binary_cross_entropy, lambda rng, shape: rng.random(shape)),
}


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("make", [mr.LSTMLayer, directions, stack])
def test_a_loss_averages_over_valid_steps_only(make, name):
    """Through a model that reads every step: the weighted mean of the losses of the rows alone."""
    rng = np.random.default_rng(0)
    lengths = np.array(LENGTHS["mixed"])
    recurrent = make(D, H, dtype=np.float64, rng=rng)
    model = mr.SequenceModel(recurrent, mr.Linear(recurrent.output_size, 3, dtype=np.float64, rng=rng))
    loss, draw = LOSSES[name]
    x, targets = rng.standard_normal((T, N, D)), draw(rng, (T, N, 3))
    found = []
    for one in ("together", "apart"):
        model.zero_grad()
        if one == "together":
            padding = np.arange(T)[:, None] >= lengths
            x[padding] = np.nan
            total = loss(model(x, lengths=lengths).predictions, targets, lengths=lengths)
        else:
            rows = [
                loss(model(x[:L, n : n + 1]).predictions, targets[:L, n : n + 1]) * float(L)
                for n, L in enumerate(lengths)
            ]
            total = sum(rows) / float(lengths.sum())
        total.backward()
        found.append([np.array(total.item()), *(p.grad for p in model.parameters())])
    for a, b in zip(*found, strict=True):
        assert relative_error(a, b) <= 1e-12


@pytest.mark.parametrize("make", [mr.RecurrentLayer, mr.LSTMLayer, mr.GRULayer, directions, stack])
@pytest.mark.parametrize("reverse", [False, True])
def test_a_model_that_reads_the_last_step_reads_each_rows_own(make, reverse):
    if make is directions:
        options = {}
    else:
        options = {"reverse": reverse}
    rng = np.random.default_rng(0)
    lengths = np.array(LENGTHS["mixed"])
    recurrent = make(D, H, dtype=np.float64, rng=rng, **options)
    model = mr.SequenceModel(recurrent, mr.Linear(recurrent.output_size, 3, dtype=np.float64, rng=rng), "last")
    x, targets = rng.standard_normal((T, N, D)), rng.standard_normal((N, 3))
    together = model(x, lengths=lengths).predictions
    apart = mr.concatenate([model(x[:L, n : n + 1]).predictions for n, L in enumerate(lengths)])
    assert relative_error(together.numpy(), apart.numpy()) <= 1e-12
    found = []
    for predictions in (together, apart):
        model.zero_grad()
        mr.losses.mse(predictions, targets).backward()
        found.append([p.grad for p in model.parameters()])
    for a, b in zip(*found, strict=True):
        assert relative_error(a, b) <= 1e-12


@pytest.mark.parametrize("batch_first", [False, True])
def test_a_model_with_an_embedding(batch_first):
    """Ids in the padding are looked up all the same: their vectors get no gradient."""
    rng = np.random.default_rng(0)
    lengths = np.array(LENGTHS["mixed"])
    recurrent = mr.GRULayer(D, H, batch_first=batch_first, dtype=np.float64, rng=rng)
    embedding = mr.Embedding(6, D, dtype=np.float64, rng=rng)
    model = mr.SequenceModel(recurrent, mr.Linear(H, 6, dtype=np.float64, rng=rng), embedding=embedding)
    ids = rng.integers(0, 5, (T, N))
    padding = np.arange(T)[:, None] >= lengths
    ids[padding] = 5
    predictions, _ = model(ids.T if batch_first else ids, lengths=lengths)
    predictions = predictions.swapaxes(0, 1) if batch_first else predictions
    mr.losses.cross_entropy(predictions, ids, lengths=lengths).backward()
    assert not embedding.weight.grad[5].any()
    assert embedding.weight.grad[:5].any()
    np.testing.assert_array_equal(
        predictions.numpy()[padding], np.broadcast_to(model.head.bias.data, (padding.sum(), 6))
    )


def test_a_ragged_model_learns():
    """The sum of each row's own steps, read at its end; what stands in the padding would spoil it."""
    rng = np.random.default_rng(0)
    lengths = rng.integers(1, 9, 32)
    x = rng.standard_normal((8, 32, 1))
    valid = (np.arange(8)[:, None] < lengths)[..., None]
    targets = np.tanh(np.where(valid, x, 0).sum(axis=0))
    x = np.where(valid, x, np.nan)
    model = mr.SequenceModel(mr.LSTMLayer(1, 8, rng=rng), mr.Linear(8, 1, rng=rng), "last")
    optimizer = mr.optim.Adam(model.parameters(), lr=0.02)
    curve = []
    for _ in range(80):
        optimizer.zero_grad()
        loss = mr.losses.mse(model(x, lengths=lengths).predictions, targets)
        loss.backward()
        optimizer.step()
        curve.append(loss.item())
    assert curve[-1] < 0.1 * curve[0]


# --- errors -----------------------------------------------------------------------------------------------------------

INTEGERS = "lengths must be integers, one for each row, got"
SHAPE = "lengths must have shape (N=4,), one for each row, got"
RANGE = "lengths must lie between 1 and T=7, got"
BAD = [
    ([7, 0, 1, 2], ValueError, f"{RANGE} 0 for row 1: leave empty rows out"),
    ([7, 1, 1, -2], ValueError, f"{RANGE} -2 for row 3: leave empty rows out"),
    ([8, 0, 1, 2], ValueError, f"{RANGE} 8 for row 0: they count steps"),
    (np.array([1, 1, 2**63, 1], np.uint64), ValueError, f"{RANGE} 9223372036854775808 for row 2: they count steps"),
    ([7, 1, 1], ValueError, f"{SHAPE} (3,): time comes first in (T, N, …)"),
    ([7, 1, 1, 1, 1, 1, 1], ValueError, f"{SHAPE} (7,): time comes first in (T, N, …)"),
    (7, ValueError, f"{SHAPE} (): time comes first in (T, N, …)"),
    ([[7, 1, 1, 1]], ValueError, f"{SHAPE} (1, 4): time comes first in (T, N, …)"),
    ([[7], [1], [1], [1]], ValueError, f"{SHAPE} (4, 1): time comes first in (T, N, …)"),
    (np.ones((7, 4), int), ValueError, f"{SHAPE} (7, 4): time comes first in (T, N, …)"),
    ([7.0, 1, 1, 1], TypeError, f"{INTEGERS} an array of shape (4,) and dtype float64: try [T] * N"),
    ([7, np.nan, 1, 1], TypeError, f"{INTEGERS} an array of shape (4,) and dtype float64: try [T] * N"),
    ([True, True, False, True], TypeError, f"{INTEGERS} an array of shape (4,) and dtype bool: try [T] * N"),
    (["7", "1", "1", "1"], TypeError, f"{INTEGERS} an array of shape (4,) and dtype <U1: try [T] * N"),
    ("7111", TypeError, f"{INTEGERS} an array of shape () and dtype <U4: try [T] * N"),
    ([7, None, 1, 1], TypeError, f"{INTEGERS} an array of shape (4,) and dtype object: try [T] * N"),
    ({7, 1}, TypeError, f"{INTEGERS} an array of shape () and dtype object: try [T] * N"),
    ([], TypeError, f"{INTEGERS} an array of shape (0,) and dtype float64: try [T] * N"),
    ([[7, 1], [1]], TypeError, f"{INTEGERS} a ragged list: try [T] * N"),
]


@backends
@pytest.mark.parametrize(("lengths", "kind", "message"), BAD)
@pytest.mark.parametrize("make", [mr.RecurrentLayer, mr.LSTMLayer, mr.GRULayer])
def test_what_lengths_are_not(make, lengths, kind, message, backend):
    rng = np.random.default_rng(0)
    layer = make(3, 5, backend=backend, recurrent_dropout=0.5, rng=rng)
    before, drawn = layer.state_dict(), rng.bit_generator.state
    with raises(kind, f"{layer.name}: {message}"):
        layer(np.zeros((7, 4, 3)), lengths=lengths)
    assert rng.bit_generator.state == drawn
    for p in layer.parameters():
        assert p.grad is None
        np.testing.assert_array_equal(p.data, before[p.name])


@pytest.mark.parametrize(("lengths", "kind", "message"), BAD)
def test_the_same_of_composites_and_models(lengths, kind, message):
    """The text is that of the first layer inside; the loss names itself."""
    both = mr.Bidirectional(mr.LSTMLayer(3, 5, rng=0), mr.GRULayer(3, 5, reverse=True, rng=1))
    for module in (both, mr.Stacked([both]), mr.SequenceModel(both, mr.Linear(10, 2, rng=2))):
        with pytest.raises(kind) as info:
            module(np.zeros((7, 4, 3)), lengths=lengths)
        assert str(info.value) == f"LSTMLayer: {message}"
    with raises(kind, f"mse: {message}"):
        mr.losses.mse(np.zeros((7, 4, 3)), np.zeros((7, 4, 3)), lengths=lengths)


def test_with_batch_first_the_count_is_that_of_the_rows():
    layer = mr.GRULayer(3, 5, batch_first=True, rng=0)
    layer(np.zeros((4, 7, 3)), lengths=[7, 1, 1, 1])
    with raises(ValueError, "GRULayer: lengths must lie between 1 and T=7, got 8 for row 0: they count steps"):
        layer(np.zeros((4, 7, 3)), lengths=[8, 1, 1, 1])


# --- where the sequences lie ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("reverse", [False, True])
@quick
@given(st.data())
def test_sequences_cover_each_valid_step_once(reverse, data):
    steps, rows = data.draw(st.integers(1, 9), "T"), data.draw(st.integers(1, 6), "N")
    lengths = np.array(data.draw(st.lists(st.integers(1, steps), min_size=rows, max_size=rows), "lengths"))
    reset = np.array(data.draw(st.lists(st.booleans(), min_size=steps * rows, max_size=steps * rows), "reset"))
    reset = reset.reshape(steps, rows)
    found = find(steps, rows, lengths, reset, False, reverse, "layer")
    if found is None:
        assert (lengths == steps).all()
        assert not reset[reverse:].any()
        return
    seen = np.zeros((steps, rows), int)
    for row, start, length in zip(found.row, found.start, found.length, strict=True):
        assert length >= 1
        assert not reset[start + 1 : start + length, row].any()
        assert start == 0 or reset[start, row]
        seen[start : start + length, row] += 1
    np.testing.assert_array_equal(seen, np.arange(steps)[:, None] < lengths)
    np.testing.assert_array_equal(found.valid(), seen)
    for n, last in enumerate(found.last):  # what is processed last: at the row's end, or in reverse at its beginning
        assert found.row[last] == n
        assert found.start[last] == 0 if reverse else found.start[last] + found.length[last] == lengths[n]
    for row, start, length, is_given in zip(found.row, found.start, found.length, found.given, strict=True):
        first = start + length == lengths[row] if reverse else start == 0 and not reset[0, row]
        assert is_given == first
    by_step = list(itertools.chain.from_iterable(zip(time, row, strict=True) for _, time, row in found.steps()))
    assert len(by_step) == len(set(by_step)) == lengths.sum()
