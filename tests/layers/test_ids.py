"""Ids that go into a layer as rows of W_xh: the same numbers as vectors and products give, in every configuration."""

import numpy as np
import pytest
from error_texts import raises
from numpy.testing import assert_allclose, assert_array_equal
from recurrent_cases import UGRNN

import minirnn as mr
from minirnn.kernels import one_hot as held_as_ids
from minirnn.layers import ids, threads

T, N, D, H, V, P = 9, 4, 5, 6, 7, 3
CELLS = {
    "elman": mr.RecurrentLayer,
    "lstm": mr.LSTMLayer,
    "gru": mr.GRULayer,
    "reset before": lambda *sizes, **how: mr.GRULayer(*sizes, reset_after=False, **how),
    "own cell": lambda *sizes, **how: mr.RecurrentLayer(*sizes, cell=UGRNN(), **how),
}
CONFIGURATIONS = {
    "plain": {},
    "without bias": {"bias": False},
    "reverse": {"reverse": True},
    "batch first": {"batch_first": True},
    "checkpoints": {"remat": 4},
    "learned start": {"learn_initial_state": True},
    "dropout": {"recurrent_dropout": 0.3},
    "clipped messages": {"message_clip": 0.05},
    "all together": {"reverse": True, "batch_first": True, "remat": True, "learn_initial_state": True},
}
LENGTHS = np.array([9, 1, 4, 6])


@pytest.fixture(autouse=True)
def always(monkeypatch):
    """Take rows wherever that is possible, sum them one id after the other, and say where."""
    monkeypatch.setattr(held_as_ids, "SMALL", 0)
    seen, taken = [], ids.taken
    monkeypatch.setattr(ids, "less_work", lambda *of, rule=ids.less_work: rule(*of[:2], 10**9, *of[3:]))
    monkeypatch.setattr(ids, "taken", lambda *given: seen.append(taken(*given)) or seen[-1])
    return seen


def built(cell="elman", one_hot=False, kind="float64", readout="all", **how):
    rng = np.random.default_rng(0)
    layer = CELLS[cell](V if one_hot else D, H, dtype=kind, rng=rng, **how)
    embedding = mr.OneHot(V, dtype=kind) if one_hot else mr.Embedding(V, D, dtype=kind, rng=rng)
    model = mr.SequenceModel(layer, mr.Linear(H, P, dtype=kind, rng=rng), readout=readout, embedding=embedding)
    for p in model.parameters():
        p.data = p.data + 0.1 * rng.normal(size=p.shape).astype(kind)
    return model


def drawn(model, seed=1):
    return np.random.default_rng(seed).integers(V, size=(N, T) if model.batch_first else (T, N))


def passed(model, x, lengths=None, state=None):
    """Return the outputs, the final state and every gradient; the loss weighs each entry and the state differently."""
    layer = model.recurrent
    rng = np.random.default_rng(2)
    layer._rng = np.random.default_rng(3)  # the same masks
    model.zero_grad()
    leaves = [mr.Tensor(s.copy(), requires_grad=True) for s in state or []]
    given = None if state is None else leaves[0] if len(leaves) == 1 else tuple(leaves)
    predictions, final = model(x, given, lengths)
    finals = final if isinstance(final, tuple) else (final,)
    loss = sum((f * f * rng.normal(size=f.shape)).sum() for f in (predictions, *finals))
    loss.backward()
    gradients = [p.grad for p in [*model.parameters(), *leaves]]
    return [predictions.data, *(f.data for f in finals), *gradients]


def same(got, want, atol=1e-12):
    assert len(got) == len(want)
    for a, b in zip(got, want, strict=True):
        assert (a is None) == (b is None)
        if a is not None:
            assert a.dtype == b.dtype
            assert_allclose(a, b, rtol=0, atol=atol * max(1, np.abs(b).max()))


@pytest.mark.parametrize("one_hot", [False, True], ids=["embedding", "one-hot"])
@pytest.mark.parametrize("how", CONFIGURATIONS.values(), ids=CONFIGURATIONS)
@pytest.mark.parametrize("cell", CELLS)
def test_rows_are_products(cell, how, one_hot, always):
    how = {} if cell == "own cell" and "learn_initial_state" in how else how
    model = built(cell, one_hot, **how)
    x = drawn(model)
    state = None
    if not how.get("learn_initial_state"):
        state = [np.random.default_rng(4).normal(size=(N, H)) for _ in model.recurrent.state_names]
    for lengths in (None, LENGTHS):
        always.clear()
        got = passed(model, x, lengths, state)
        assert always[0] is not None, "rows were taken"
        want = passed(model, x.tolist(), lengths, state)  # of a list vectors are made
        assert always[1] is None
        same(got, want)
        again = passed(model, x, lengths, state)
        assert all(a is None or np.array_equal(a, b) for a, b in zip(got, again, strict=True)), "bit for bit"


@pytest.mark.parametrize("cell", ["elman", "lstm"])
def test_rows_are_products_in_float32_and_with_a_mini_batch_in_parts(cell, monkeypatch):
    model = built(cell, kind="float32", readout="last")
    same(passed(model, drawn(model)), passed(model, drawn(model).tolist()), atol=1e-5)
    monkeypatch.setattr(threads, "plan", lambda *_: (2, threads.at_once))
    model = built(cell)
    same(passed(model, drawn(model)), passed(model, drawn(model).tolist()))


@pytest.mark.parametrize("cell", ["elman", "gru"])
@pytest.mark.parametrize("lengths", [None, LENGTHS], ids=["whole rows", "lengths"])
def test_gradients_are_those_of_small_differences(cell, lengths, always):
    model = built(cell)
    x, layer = drawn(model), model.recurrent
    h0 = mr.Tensor(np.random.default_rng(5).normal(size=(N, H)), requires_grad=True)
    given = [model.embedding.weight, layer.W_xh, layer.W_hh, layer.b_h, h0]
    assert mr.gradcheck(lambda *_: tuple(model(x, h0, lengths)), given)
    assert all(held is not None for held in always)


@pytest.mark.parametrize("one_hot", [False, True], ids=["embedding", "one-hot"])
def test_second_order(one_hot):
    model = built("lstm", one_hot)
    x, found = drawn(model), []
    for given in (x, x.tolist()):
        predictions, _ = model(given)
        parameters = [p for p in model.parameters() if p.name != "bias"]
        first = mr.grad((predictions**2).sum(), parameters, create_graph=True)
        second = mr.grad(sum((g * g).sum() for g in first), parameters)
        found.append([t.data for t in (*first, *second)])
    same(*found, atol=1e-11)


def test_what_stands_in_the_padding_may_be_anything():
    model = built()
    x = drawn(model)
    padded = np.where(np.arange(T)[:, None] < LENGTHS, x, -99)
    same(passed(model, padded, LENGTHS), passed(model, x, LENGTHS), atol=0)


def test_an_id_that_is_none_is_refused_as_ever():
    for one_hot, name in ((False, "Embedding"), (True, "OneHot")):
        model = built(one_hot=one_hot)
        x = drawn(model)
        x[2, 1] = V
        for given in (x, x.tolist()):
            with raises(IndexError, f"{name}: ids must be integers 0 … {V - 1}, got {V} at [2, 1]"):
                model(given)
    for given in (x, x.tolist()):
        with pytest.raises(ValueError, match=r"^RecurrentLayer: lengths must"):
            model(given, None, [1, 2])


def refused(change):
    model = built()
    return change(model) or model


class Loud(mr.SequenceModel):
    def embed(self, x, lengths):
        return 2.0 * super().embed(x, lengths)


class Own(mr.RecurrentLayer):
    def forward(self, x, *others, **settings):
        return super().forward(2.0 * x, *others, **settings)


@pytest.mark.parametrize(
    "make",
    {
        "graph": lambda: built(backend="graph"),
        "padding_idx": lambda: mr.SequenceModel(
            mr.RecurrentLayer(D, H), mr.Linear(H, P), embedding=mr.Embedding(V, D, padding_idx=0)
        ),
        "another dtype": lambda: mr.SequenceModel(
            mr.RecurrentLayer(D, H), mr.Linear(H, P), embedding=mr.Embedding(V, D, dtype="float64")
        ),
        "zoneout": lambda: built(zoneout=0.1),
        "its own forward": lambda: mr.SequenceModel(Own(D, H), mr.Linear(H, P), embedding=mr.Embedding(V, D)),
        "its own embed": lambda: Loud(mr.RecurrentLayer(D, H), mr.Linear(H, P), embedding=mr.Embedding(V, D)),
        "two layers": lambda: mr.SequenceModel(
            mr.Stacked([mr.RecurrentLayer(D, H), mr.GRULayer(H, 2)]), mr.Linear(2, P), embedding=mr.Embedding(V, D)
        ),
        "its own embedding": lambda: mr.SequenceModel(
            mr.RecurrentLayer(D, H), mr.Linear(H, P), embedding=type("Mine", (mr.Embedding,), {})(V, D)
        ),
    }.values(),
)
def test_where_vectors_are_made(make, always):
    model = make()
    model(drawn(model))
    assert always in ([], [None])


def test_within_detect_anomaly_vectors_are_made(always):
    model = built()
    with mr.detect_anomaly():
        model(drawn(model))
    assert always == [None]


def test_the_rule(monkeypatch):
    monkeypatch.undo()

    def worth(layer, V, D, rows, recording=True):
        return ids.less_work(layer(D, 8), mr.Embedding(V, D), rows, recording)

    assert worth(mr.RecurrentLayer, 96, 64, 1600)
    assert not worth(mr.RecurrentLayer, 1000, 64, 1600), "E W_xh would be as much work as X W_xh"
    assert worth(mr.LSTMLayer, 96, 64, 1600)
    assert not worth(mr.LSTMLayer, 130, 64, 1600), "columns read V numbers"
    assert not worth(mr.LSTMLayer, 96, 64, 1600, recording=False)
    assert worth(mr.RecurrentLayer, 96, 64, 1600, recording=False)
    assert ids.less_work(mr.LSTMLayer(1000, 8), mr.OneHot(1000), 1)
    assert not ids.less_work(mr.LSTMLayer(9, 8), None, 100)


# --- OneHot -----------------------------------------------------------------------------------------------------------


def test_one_hot_is_what_it_says():
    layer = mr.OneHot(V, dtype="float64")
    x = np.random.default_rng(0).integers(V, size=(2, 3, 4))
    assert_array_equal(layer(x).data, np.eye(V)[x])
    assert layer(3).shape == (V,)
    assert (repr(layer), layer.parameters(), layer.embedding_dim) == (f"OneHot({V})", [], V)
    with raises(IndexError, "OneHot: ids must be integers 0 … 6, got -1 at [0]"):
        layer([-1])
    with pytest.raises(ValueError, match=r"^SequenceModel: embedding gives 7 features and recurrent takes D=5"):
        mr.SequenceModel(mr.RecurrentLayer(5, H), mr.Linear(H, P), embedding=layer)


def test_a_text_is_sampled_from_one_hot_ids():
    task = mr.tasks.TextTask("the cat sat on the mat. the rat sat on the cat. ")
    size = task.input_size
    model = mr.SequenceModel(mr.GRULayer(size, H, rng=0), mr.Linear(H, size, rng=0), embedding=mr.OneHot(size))
    assert len(mr.training.sample(model, task, 12, rng=0)) == 12
