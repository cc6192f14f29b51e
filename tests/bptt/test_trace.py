"""`bptt.trace`: every field against the layer, the tape, and numerical derivatives."""

import numpy as np
import pytest
from bptt_cases import KINDS, LENGTHS, D, H, N, T, covering, make, worst
from error_texts import raises
from pairwise import pairwise

import minirnn as mr
from minirnn.kernels.layout import clipped

# --- the layer's own numbers -----------------------------------------------------------------------------------------


@covering()
def test_the_states_are_the_layers_the_sums_over_time_its_gradients_and_the_total_has_two_parts(kind, settings):
    case = make(kind, **settings)
    trace, true = case.trace(), case.true_gradients()
    assert np.abs(trace.hs - case.time_major(case.outputs().data)).max() < 1e-12
    assert worst(trace.gradients, true) < 1e-12
    assert worst({name: steps.sum(axis=0) for name, steps in trace.by_step.items()}, true) < 1e-12
    for name, steps in trace.by_step.items():
        assert steps.shape == (T, *true[name].shape)
        norms = np.linalg.norm(steps.reshape(T, -1), axis=1)
        assert np.abs(trace.norms_by_step[name] - norms).max() < 1e-12 * norms.max()
        assert np.abs(trace.share(2)[name] - steps[2]).max() < 1e-12 * norms.max()
    assert trace.dW_hh_by_step is trace.by_step["W_hh"]

    assert np.array_equal(trace.dL_dh, trace.dL_dh_local + trace.dL_dh_carried)
    leaf = mr.Tensor(case.time_major(trace.hs), requires_grad=True)
    (local,) = mr.grad(case.loss(leaf), leaf)
    local = np.where(trace.valid[..., None], case.time_major(local.data), 0)
    assert np.array_equal(trace.dL_dh_local, local)
    last = np.zeros(N, int) if case.layer.reverse else trace.valid.sum(axis=0) - 1
    assert not trace.dL_dh_carried[last, np.arange(N)].any()  # nothing is processed after it


def test_both_sides_of_a_gru_differ_only_where_r_stands_between_them():
    trace = make("gru").trace()
    assert np.array_equal(trace.dL_dz[..., : 2 * H], trace.dL_dz_h[..., : 2 * H])
    r = 1 / (1 + np.exp(-trace.pre_activations[..., :H]))
    assert np.abs(trace.dL_dz_h[..., 2 * H :] - r * trace.dL_dz[..., 2 * H :]).max() < 1e-14
    for kind in ("elman", "lstm", "own", "gru-before"):
        trace = make(kind).trace()
        assert np.array_equal(trace.dL_dz, trace.dL_dz_h)


@covering(ways=["plain", "reverse"])
def test_the_initial_states_gradient(kind, settings):
    case, lengths = make(kind, **settings), settings["lengths"]
    given = [mr.Tensor(s, requires_grad=True) for s in (case.state if isinstance(case.state, list) else [case.state])]
    outputs, _ = case.layer(case.x, given if len(given) > 1 else given[0], lengths)
    true = mr.grad(case.loss(outputs), given)
    for found, g in zip(case.trace().dL_dinitial_state, true, strict=True):
        assert np.abs(found - g.data).max() < 1e-12


@covering(ways=["plain", "reverse"])
def test_clipped_messages_are_clipped_at_every_step(kind, settings):
    case = make(kind, message_clip=0.3, **settings)
    trace = case.trace()
    assert worst(trace.gradients, case.true_gradients()) < 1e-12
    parts = trace.dL_dh_local + trace.dL_dh_carried
    assert (np.linalg.norm(parts, axis=-1) > 0.3).sum() > 3
    assert np.abs(trace.dL_dh - clipped(parts, 0.3, 2)).max() < 1e-15


def test_messages_are_not_clipped_on_their_way_through_the_padding():
    layer = mr.RecurrentLayer(1, 1, activation="identity", message_clip=0.5, reverse=True, dtype=np.float64)
    layer.W_hh.data = np.full((1, 1), 10.0)
    trace = mr.bptt.trace(layer, np.zeros((5, 2, 1)), lambda outputs: outputs.sum(), lengths=[2, 5])
    assert trace.dL_dinitial_state[0].tolist() == [[5.0], [5.0]]


@pytest.mark.parametrize("kind", KINDS)
def test_one_mask_of_recurrent_dropout_is_drawn_as_the_layer_draws_it(kind):
    case, same = (make(kind, recurrent_dropout=0.5) for _ in range(2))
    trace, true = case.trace(), same.true_gradients()
    assert worst(trace.gradients, true) < 1e-12
    again = case.trace()
    assert not np.array_equal(again.hs, trace.hs)


def test_one_value_for_each_step_counts_as_its_sum():
    one, each = make("elman").trace(), make("elman", per_step=True).trace()
    assert each.loss.shape == (T,)
    assert one.loss.shape == ()
    assert one.total_loss == pytest.approx(each.total_loss, rel=1e-14)
    assert worst(each.gradients, one.gradients) < 1e-14


MODELS = pairwise({"readout": ["all", "last"], "reverse": [False, True], "batch_first": [False, True], "of": LENGTHS})


@pytest.mark.parametrize(("readout", "reverse", "batch_first", "of"), [tuple(m.values()) for m in MODELS])
def test_a_sequence_model_is_traced_through_its_head_and_its_embedding(readout, reverse, batch_first, of):
    lengths = LENGTHS[of]
    rng = np.random.default_rng(3)
    layer = mr.GRULayer(D, H, dtype=np.float64, reverse=reverse, batch_first=batch_first, rng=1)
    head, embedding = mr.Linear(H, 2, dtype=np.float64, rng=2), mr.Embedding(6, D, dtype=np.float64, rng=3)
    model = mr.SequenceModel(layer, head, readout, embedding=embedding)
    ids = rng.integers(0, 6, size=(T, N))
    if lengths is not None:
        ids[np.arange(T)[:, None] >= np.array(lengths)] = -9
    ids = ids.T if batch_first else ids
    weights = rng.normal(size=((N, T, 2) if batch_first else (T, N, 2)) if readout == "all" else (N, 2))
    if lengths is not None and readout == "all":
        inside = np.arange(T)[:, None] < np.array(lengths)
        weights = weights * (inside.T if batch_first else inside)[..., None]

    def loss(predictions):
        return (mr.tanh(predictions) * weights).sum()

    trace = mr.bptt.trace(model, ids, loss, lengths=lengths)
    loss(model(ids, lengths=lengths).predictions).backward()
    assert worst(trace.gradients, {name: p.grad for name, p in layer.named_parameters()}) < 1e-12
    assert trace.layer is layer


def test_nothing_of_the_layer_changes_and_the_arrays_are_the_traces_own():
    case = make("lstm")
    before = {name: a.copy() for name, a in case.layer.state_dict().items()}
    trace = case.trace()
    hs, share = trace.hs.copy(), trace.credit().contribution(5, 2)["W_hh"]
    jacobian = trace.jacobian(3, 1)
    shown = [mr.bptt.doctor(trace).figures, trace.explain(3), trace._repr_html_()]
    assert all(p.grad is None for p in case.layer.parameters())
    assert all(np.array_equal(a, before[name]) for name, a in case.layer.state_dict().items())
    for p in case.layer.parameters():
        p.data[...] = 9.0
    case.x[...] = 9.0
    assert np.array_equal(trace.hs, hs)
    assert not (trace.x == 9.0).any()
    assert np.array_equal(trace.credit().contribution(5, 2)["W_hh"], share)
    assert np.array_equal(trace.jacobian(3, 1), jacobian)
    assert [mr.bptt.doctor(trace).figures, trace.explain(3), trace._repr_html_()] == shown


def test_the_padding_may_hold_anything_and_the_loss_may_look_at_it():
    case = make("gru", lengths=[3, 7, 1, 6])
    trace = case.trace()
    for a in (trace.x, trace.hs, trace.pre_activations, trace.dL_dh_local, trace.dL_dh_carried, trace.dL_dz):
        assert np.isfinite(a).all()
        assert not a[~trace.valid].any()
    assert np.isfinite(trace.slopes).all()


@pytest.mark.parametrize("reverse", [False, True])
def test_a_state_that_would_overflow_in_the_padding_stays_what_it_is(reverse):
    layer = mr.RecurrentLayer(1, 1, activation="identity", bias=False, reverse=reverse, dtype=np.float64)
    layer.W_hh.data = np.full((1, 1), 1e100)
    trace = mr.bptt.trace(layer, np.zeros((9, 2, 1)), lambda o: o[:2, 0].sum(), [[1.0], [0.0]], lengths=[2, 9])
    assert trace.hs[:2, 0, 0].tolist() == ([1e200, 1e100] if reverse else [1e100, 1e200])
    assert trace.gradients["W_hh"].tolist() == [[1 + 2e100]]


def test_a_trace_within_no_grad_is_the_same():
    case = make("lstm")
    outside = case.trace()
    with mr.no_grad():
        inside = case.trace()
    assert outside.dL_dh.any()
    assert np.array_equal(inside.dL_dh, outside.dL_dh)


def test_float32_stays_float32():
    layer = mr.LSTMLayer(D, H, rng=0)
    trace = mr.bptt.trace(layer, np.ones((T, N, D)), lambda outputs: outputs.mean())
    arrays = [trace.hs, trace.cs, trace.dL_dh, trace.dL_dz, *trace.gradients.values(), trace.jacobian(3, 1)]
    assert {a.dtype for a in arrays} == {np.dtype(np.float32)}


# --- Jacobians -------------------------------------------------------------------------------------------------------


def numerical_jacobian(case, t, k, lengths):
    """∂ state_t / ∂ state_k by central differences through `step`, rows in their padding left as they are."""
    layer, inside = case.layer, np.arange(T)[:, None] < (np.full(N, T) if lengths is None else np.array(lengths))
    x = np.nan_to_num(case.x)
    S = len(layer.state_names)

    def run(state, steps):
        for step in steps:
            new = layer.step(x[step], [mr.Tensor(s) for s in state] if S > 1 else mr.Tensor(state[0]))
            new = [s.data for s in (new if S > 1 else [new])]
            state = [np.where(inside[step][:, None], n, s) for n, s in zip(new, state, strict=True)]
        return state

    first = case.state if isinstance(case.state, list) else [case.state]
    order = list(range(T - 1, -1, -1)) if layer.reverse else list(range(T))
    place = {T if layer.reverse else -1: -1} | {step: i for i, step in enumerate(order)}
    state = run(first, order[: place[k] + 1])
    between = order[place[k] + 1 : place[t] + 1]
    columns = []
    for j in range(S * H):
        ends = []
        for eps in (1e-6, -1e-6):
            moved = [s.copy() for s in state]
            moved[j // H][:, j % H] += eps
            ends.append(np.concatenate(run(moved, between), axis=1))
        columns.append((ends[0] - ends[1]) / 2e-6)
    return np.stack(columns, axis=-1)


@covering(ways=["plain", "reverse"])
def test_jacobians_are_numerical_ones_and_chain(kind, settings):
    case, lengths, reverse = make(kind, **settings), settings["lengths"], "reverse" in settings
    trace = case.trace()
    t, m, k, start = (1, 3, 4, T) if reverse else (5, 3, 2, -1)
    for first in (k, start, m):
        assert np.abs(trace.jacobian(t, first) - numerical_jacobian(case, t, first, lengths)).max() < 1e-8
    assert np.abs(trace.jacobian(t, m) @ trace.jacobian(m, start) - trace.jacobian(t, start)).max() < 1e-13
    size = len(case.layer.state_names) * H
    assert np.array_equal(trace.jacobian(t, t), np.broadcast_to(np.eye(size), (N, size, size)))
    values = trace.singular_values(t, k)
    product = np.linalg.eigvalsh(trace.jacobian(t, k) @ trace.jacobian(t, k).swapaxes(1, 2))[:, ::-1]
    assert np.abs(values**2 - product).max() < 1e-12
    assert (np.diff(values) <= 0).all()


# --- the activations -------------------------------------------------------------------------------------------------


def test_pre_activations_and_slopes_of_an_elman_layer():
    trace = make("elman", lengths=LENGTHS["ragged"]).trace()
    assert np.abs(np.where(trace.valid[..., None], np.tanh(trace.pre_activations) - trace.hs, 0)).max() < 1e-15
    assert np.abs(trace.slopes - np.where(trace.valid[..., None], 1 - trace.hs**2, 0)).max() < 1e-15


def test_saturation_is_the_share_of_flat_units_by_step_and_gate():
    layer = mr.RecurrentLayer(1, 4, activation="tanh", dtype=np.float64, recurrent_initializer="zeros", rng=0)
    layer.W_xh.data[...] = 1.0
    x = np.array([[[9.0], [0.0]], [[9.0], [9.0]], [[0.0], [0.1]]])
    trace = mr.bptt.trace(layer, x, lambda outputs: outputs.sum())
    assert trace.saturation.tolist() == [[0.5], [1.0], [0.0]]
    assert mr.bptt.trace(layer, x, lambda o: o.sum(), lengths=[3, 1]).saturation.tolist() == [[0.5], [1.0], [0.0]]
    assert make("lstm").trace().saturation.shape == (T, 4)
    assert make("gru").trace().saturation.shape == (T, 3)


def test_units_of_a_rectifier_that_are_off_count_as_saturated():
    trace = make("relu").trace()
    assert np.abs(trace.saturation[:, 0] - (trace.hs == 0).mean(axis=(1, 2))).max() < 1e-15
    assert 0 < trace.saturation.mean() < 1


def test_its_repr_says_what_it_is():
    trace = make("gru").trace()
    assert repr(trace) == f"<Trace of GRULayer: T=7, N=4, H=5, loss {trace.total_loss:.4g}>"


# --- errors ----------------------------------------------------------------------------------------------------------

LAYER = mr.RecurrentLayer(D, H, rng=0)
X = np.ones((T, N, D), np.float32)
LOSS = "trace: loss must return a scalar Tensor or one value per step (T=7,), got"
OVER, OPS = "try .sum() or .mean() over the other axes", "use minirnn's ops and losses, which keep the gradient"
MODEL = "trace: model must be a recurrent layer or a SequenceModel of one, got"
SEVERAL = "which has several: look into one of them, with the sequence it reads"
NONE = "which has no recurrence: nothing goes back through time in it"
SWAPPED = "RecurrentLayer: x must have shape (T, N, D=3), got (3, 4, 7): did you swap features and time?"
BOTH = mr.Bidirectional(mr.LSTMLayer(3, 5), mr.GRULayer(3, 5, reverse=True))
STACK = mr.SequenceModel(mr.Stacked([mr.LSTMLayer(3, 5), mr.GRULayer(5, 5)]), mr.Linear(5, 1))
REFUSED = [
    ({"loss": None}, TypeError, "trace: loss must be a callable (outputs) -> Tensor, got None (NoneType)"),
    ({"loss": lambda o: o}, ValueError, f"{LOSS} shape (7, 4, 5): {OVER}"),
    ({"loss": lambda o: o.sum(axis=(0, 2))}, ValueError, f"{LOSS} shape (4,): {OVER}"),
    ({"loss": lambda o: 3.5}, TypeError, f"{LOSS} 3.5 (float): {OPS}"),
    ({"loss": lambda o: 0 * o.data.sum()}, TypeError, f"{LOSS} np.float32(0.0) (float32): {OPS}"),
    ({"model": mr.Linear(3, 5)}, TypeError, f"{MODEL} Linear, {NONE}"),
    ({"model": BOTH}, TypeError, f"{MODEL} Bidirectional, {SEVERAL}"),
    ({"model": STACK}, TypeError, f"{MODEL} Stacked, {SEVERAL}"),
    ({"model": 3}, TypeError, f"{MODEL} 3 (int)"),
    ({"x": np.ones((3, 4, 7))}, ValueError, SWAPPED),
]


@pytest.mark.parametrize(("given", "kind", "message"), REFUSED)
def test_what_is_refused(given, kind, message):
    with raises(kind, message):
        mr.bptt.trace(**{"model": LAYER, "x": X, "loss": lambda outputs: outputs.sum(), **given})


@pytest.mark.parametrize(
    ("reverse", "t", "k", "kind", "message"),
    [
        (False, 7, 0, IndexError, "trace: t must be a step -1 … 6, got 7: there are T=7"),
        (False, 3, -2, IndexError, "trace: k must be a step -1 … 6, got -2: there are T=7"),
        (True, 8, 0, IndexError, "trace: t must be a step 0 … 7, got 8: there are T=7"),
        (True, -1, 0, IndexError, "trace: t must be a step 0 … 7, got -1: there are T=7"),
        (False, 2, 3, ValueError, "trace.jacobian: k must be ≤ t=2, got 3: did you swap the two?"),
        (True, 3, 2, ValueError, "trace.jacobian: k must be ≥ t=3, got 2: did you swap the two?"),
        (False, 2.0, 1, TypeError, "trace: t must be a step -1 … 6, got 2.0 (float): there are T=7"),
        (False, True, 1, TypeError, "trace: t must be a step -1 … 6, got True (bool): there are T=7"),
    ],
)
def test_steps_that_are_none(reverse, t, k, kind, message):
    trace = make("elman", reverse=reverse).trace()
    with raises(kind, message):
        trace.jacobian(t, k)


def test_what_would_not_fit_is_refused_with_the_bytes(monkeypatch):
    trace = make("elman").trace()
    monkeypatch.setattr(mr.bptt.unrolled, "LARGEST", 1000)
    with raises(
        MemoryError,
        "trace: the gradients of each of T=7 steps would take 2,800 bytes, more than 1,000: their norms are in "
        "norms_by_step",
    ):
        trace.dW_hh_by_step  # noqa: B018
    assert trace.norms_by_step["W_hh"].shape == (T,)
    monkeypatch.setattr(mr.bptt.unrolled, "LARGEST", 100)
    with raises(
        MemoryError,
        "trace.jacobian: the Jacobians would take 800 bytes, more than 100: trace a few rows of x alone",
    ):
        trace.jacobian(3, 1)


def test_what_a_layer_has_not():
    message = (
        "trace: slopes are not known for a cell of your own: its pre_activations are there; or name its activations, "
        'as in gates = {"f": "sigmoid"}'
    )
    with raises(ValueError, message):
        make("own").trace().saturation  # noqa: B018
    assert not hasattr(make("gru").trace(), "cs")


# --- extremes --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "sizes"),
    [("relu", (1, 4, 3, 5)), ("lstm", (7, 1, 3, 5)), *[(kind, (1, 1, 1, 1)) for kind in KINDS]],
)
def test_one_step_one_row_one_neuron(kind, sizes):
    case = make(kind, sizes=sizes)
    trace = case.trace()
    assert worst(trace.gradients, case.true_gradients()) < 1e-12
    assert trace.credit().norms.shape == (sizes[0], sizes[0])
    assert trace.jacobian(0, -1).shape[0] == sizes[1]


def test_a_loss_that_asks_nothing():
    trace = mr.bptt.trace(LAYER, X, lambda outputs: mr.Tensor(3.0))
    assert trace.total_loss == 3.0
    assert not any(g.any() for g in trace.gradients.values())
    assert not trace.credit().norms.any()
    assert np.isnan(trace.truncation_angles()).all()
