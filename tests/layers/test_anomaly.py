"""detect_anomaly within a recurrent layer: the step, the row and the term of the first NaN or inf, forward and back.

A fault is planted at a known step and row, mostly by numbers near the end of float32; all other states are zero.
"""

import functools
import itertools

import numpy as np
import pytest
from error_texts import raises
from numpy.testing import assert_allclose, assert_array_equal
from pairwise import pairwise
from recurrent_cases import BACKENDS, ISRU, KINDS, Problem, assert_equal, flat, leaf, turned

import minirnn as mr
import minirnn.layers.watch as layer_module
from minirnn.layers.watch import Watch

T, N, D, H = 7, 4, 3, 5
t, n = 3, 2  # where faults are planted
HUGE = np.float32(3e38)


class Plain(mr.Cell):
    """tanh, as a cell of one's own."""

    def step(self, z, h):
        new = np.tanh(z)
        return (new,), new

    def step_backward(self, d_state, new):
        return d_state[0] * (1 - new * new), (np.zeros_like(new),)

    def equation(self, z, h):
        return (mr.tanh(z),)


MAKERS = {name: make for name, make in KINDS.items() if name not in ("own", "two states")}
MAKERS["own"] = functools.partial(mr.RecurrentLayer, cell=Plain())
RESET = np.zeros((T, N), bool)
RESET[[2, 4, 5, 0], [0, 2, 2, 3]] = True
WAYS = [{}, {"reverse": True}, {"batch_first": True}, {"reverse": True, "batch_first": True}]
backends = pytest.mark.parametrize("backend", BACKENDS)
ENDS = [None, [7, 2, 5, 4]]


def pairs(**settings):
    """Pairs of the values of a test's arguments."""
    rows = [tuple(point.values()) for point in pairwise(settings)]
    return pytest.mark.parametrize(
        tuple(settings), rows, ids=lambda v: "-".join(v) or "plain" if isinstance(v, dict) else None
    )


def blank(name, parameters=None, **options):
    """A layer whose parameters are all zero but for some entries: {name: {index into (rows, G, H): value}}."""
    make = MAKERS[name] if isinstance(name, str) else functools.partial(mr.RecurrentLayer, activation=name)
    layer = make(D, H, rng=0, **options)
    for p in layer.parameters():
        p.data = np.zeros(p.shape)
    plant(layer, parameters or {})
    return layer


def plant(layer, parameters):
    for name, entries in parameters.items():
        p = getattr(layer, name)
        blocks = (-1, H) if name == "b_hn" else (-1, layer.gates, H) if p.ndim == 2 else (layer.gates, H)
        p.data = planted(p.data.reshape(blocks).shape, entries).reshape(p.shape)


def planted(shape, entries):
    """Zeros but for some entries."""
    array = np.zeros(shape)
    for index, value in entries.items():
        array[index] = value
    return array


def called(layer, x=None, state=None, **options):
    """Call a layer within detect_anomaly on an x that is (T, N, D)."""
    x = np.zeros((T, N, D)) if x is None else x
    with mr.detect_anomaly():
        return layer(turned(x, layer), state, **options)


def backward(layer, d, x=None, **options):
    """Send a gradient of the outputs, (T, N, H), or entries of one, back within detect_anomaly."""
    d = planted((T, N, H), d) if isinstance(d, dict) else d
    with mr.detect_anomaly():
        called(layer, x, **options).outputs.backward(turned(d, layer))


def named(layer, way, place, term, entry, call, *args, value="inf", **options):
    """The text of the error that a call raises, which names the layer, the place and the term."""
    place = f"step t={place}, row n={n}" if isinstance(place, int) else place
    with mr.detect_anomaly(), pytest.raises(mr.AnomalyError) as caught:
        call(*args, **options)
    start = f"detect_anomaly: {layer.name}({D}, {H}): {way} {'at ' * place.startswith('step t')}{place}: {term}"
    assert str(caught.value).startswith(f"{start} holds {value} at {entry} ("), str(caught.value)
    return str(caught.value)


def text_of(call, *args, **options):
    with mr.detect_anomaly(), pytest.raises(mr.AnomalyError) as caught:
        call(*args, **options)
    return str(caught.value)


def driven(layer):
    """Make units 0 and 1 go to their largest value where feature 1 of x is 100."""
    W = np.zeros((D, layer.gates, H))
    W[1, :, :2] = 1
    if layer.name == "GRULayer":
        W[1, 1] *= -1  # z = 0: all of n
    layer.W_xh.data = W.reshape(D, -1)
    return planted((T, N, D), {(t, n, 1): 100})


def letter(layer, gate):
    return {1: "h", 3: "rzn", 4: "ifgo"}[layer.gates][gate]


# --- forward ----------------------------------------------------------------------------------------------------------


@pairs(name=MAKERS, backend=BACKENDS, way=WAYS, lengths=ENDS)
def test_the_product_with_x_is_named(name, backend, way, lengths):
    layer = blank(name, backend=backend, **way)
    plant(layer, {"W_xh": {(1, layer.gates - 1, 4): HUGE}})
    x, term = planted((T, N, D), {(t, n): [3, 4, 12]}), f"X_t W_x{letter(layer, layer.gates - 1)}"
    text = named(layer, "forward", t, term, [n, 4], called, layer, x, lengths=lengths)
    assert text.endswith(": look at the sizes of x and W_xh")
    assert "(1 of " in text
    with np.errstate(all="ignore"):  # tanh and σ make a finite number of an inf, which leaves no trace
        assert np.isfinite(layer(turned(x, layer)).outputs.numpy()).all()


@pairs(name=MAKERS, backend=BACKENDS, way=WAYS)
def test_the_product_with_the_state_is_named_at_the_step_after_it_grew(name, backend, way):
    layer = blank(name, backend=backend, **way)
    x, gate, after = driven(layer), min(1, layer.gates - 1), t - 1 if layer.reverse else t + 1
    plant(layer, {"W_hh": {(range(2), gate, 3): HUGE}})
    named(layer, "forward", after, f"H_{{t-1}} W_h{letter(layer, gate)}", [n, 3], called, layer, x)


@pairs(name=["tanh", "lstm", "own"], backend=BACKENDS)
def test_the_sums_are_named(name, backend):
    layer = blank(name, backend=backend)
    x, q = driven(layer), letter(layer, 0)
    products = f"X_t W_x{q} + H_{{t-1}} W_h{q}"
    layer.W_xh.data *= HUGE / 100
    layer.b_h.data = np.full(layer.b_h.shape, 1e38)
    named(layer, "forward", t, f"{products} + b_{q}", [n, 0], called, layer, x)
    x, W_xh = driven(layer), layer.W_xh.data.copy()
    plant(layer, {"b_h": {}, "W_hh": {(range(2), 0, 0): 1.5e38}})
    W_xh[0, 0], x[t + 1, n, 0] = 1.4e38, 2
    layer.W_xh.data = W_xh
    named(layer, "forward", t + 1, products, [n, 0], called, layer, x)


@backends
def test_the_terms_of_a_gru_are_named(backend):
    layer = blank("gru", backend=backend)
    x = driven(layer)
    plant(layer, {"W_xh": {(1, 2, 1): HUGE / 100}, "b_h": {...: 1e38}})
    named(layer, "forward", t, "X_t W_xn + b_n", [n, 1], called, layer, x)
    plant(layer, {"b_h": {}, "b_hn": {...: 2e38}})  # of which r lets half through
    named(layer, "forward", t, "X_t W_xn + b_n + r ⊙ (H_{t-1} W_hn + b_hn)", [n, 1], called, layer, x)
    driven(layer)
    plant(layer, {"b_hn": {(0, 4): 2e38}, "W_hh": {(range(2), 2, 4): 1.5e38}})
    named(layer, "forward", t + 1, "H_{t-1} W_hn + b_hn", [n, 4], called, layer, x)
    layer = blank("gru before", {"W_hh": {(range(2), 2, 4): HUGE, (range(H), 0): 100}}, backend=backend)  # r = 1
    named(layer, "forward", t + 1, "(r ⊙ H_{t-1}) W_hn", [n, 4], called, layer, driven(layer))


@backends
def test_the_memory_of_an_lstm_may_be_as_large_as_its_dtype_goes(backend):
    """A step adds i ⊙ g, at most 1, which a number that large does not feel."""
    layer = blank("lstm", {"b_h": {...: 100}}, backend=backend)  # every gate is open, and g = 1
    c = np.full((N, H), np.finfo(np.float32).max)
    assert_array_equal(called(layer, state=(np.zeros((N, H)), c)).final_state.c.numpy(), c)


def boom(z):
    """φ: the identity, and NaN above 50."""
    return np.where(z > 50, np.nan, z).astype(z.dtype)


def steep(y):
    """φ′: 1, and inf above 50."""
    return np.where(y > 50, np.inf, 1).astype(y.dtype)


@pairs(backend=BACKENDS, way=WAYS)
def test_an_activation_of_one_s_own_and_its_derivative_are_named(backend, way):
    layer = blank((boom, lambda y: y * 0 + 1), backend=backend, **way)
    text = named(layer, "forward", t, "H_t = φ(Z_t)", [n, 0], called, layer, driven(layer), value="nan")
    assert text.endswith(": Z_t is finite: look at φ")
    layer, term = blank((lambda z: z + 0, steep), backend=backend, **way), "dL/dZ_t = dL/dH_t ⊙ φ′(H_t)"
    text = named(layer, "backward", t, term, [n, 0], backward, layer, {...: 1}, driven(layer))
    assert text.endswith(": look at φ′, and at the size of the gradient that enters")


class Wrong(mr.Cell):
    """Two blocks and two states, whose second becomes NaN, or has a gradient of inf, where z is large."""

    blocks, states = 2, 2

    def __init__(self, back):
        self.back = back

    def step(self, z, h, s):
        u = z[:, :H]
        bad = np.where((u > 50) & (not self.back), np.nan, 1).astype(z.dtype)
        return (np.tanh(u), s * 0 + bad), u

    def step_backward(self, d_state, u):
        dz = np.zeros((len(u), 2 * H), u.dtype)
        dz[:, H:] = np.where(u > 50, np.inf, 0)
        return dz, (u * 0, u * 0)

    def equation(self, z, h, s):
        u, v = z[:, :H], z[:, H:]
        if self.back:
            return mr.tanh(u) + mr.sqrt(v + np.where(u.numpy() > 50, 0, 1).astype(z.dtype)) * 0.5, s * 1.0
        return mr.tanh(u), s * 0.0 + mr.log(1.0 - (u.numpy() > 50).astype(z.dtype))


@backends
def test_a_term_of_a_cell_of_one_s_own_and_its_gradient_are_named(backend):
    for back in (False, True):
        layer = mr.RecurrentLayer(D, H, cell=Wrong(back), bias=False, backend=backend, rng=0)
        x = driven(layer)
        plant(layer, {"W_hh": {}, "W_xh": {(1, gate, range(2)): 1 for gate in range(1 if back else 2)}})
        if back:
            term = "dL/d(Z_z1 + a constant) = 0.5 dL/dH_t ⊙ 1 / (2 √(Z_z1 + a constant))"
            text = named(layer, "backward", t, term, [n, 0], backward, layer, {...: 1}, x)
        else:
            text = named(layer, "forward", t, "ln(a constant)", [n, 0], called, layer, x, value="-inf")
            step = text_of(layer.step, x[t])  # goes through the equation whatever the backend
            assert f"forward in step(), row n={n}: ln(a constant) holds -inf" in step
        assert text.endswith(": look at Wrong.equation")


class Blind(mr.Cell):
    """Step and step_backward alone, of which the one gives NaN where z is large, or the other inf."""

    def __init__(self, back):
        self.back = back

    def step(self, z, h):
        bad = np.where((z > 50) & (not self.back), np.nan, 1).astype(z.dtype)
        return (np.tanh(z) * bad,), z

    def step_backward(self, d_state, z):
        return np.where(z > 50, np.inf, 0).astype(z.dtype), (z * 0,)


def test_a_cell_without_an_equation_is_looked_at_from_outside():
    for back in (False, True):
        layer = mr.RecurrentLayer(D, H, cell=Blind(back), bias=False, rng=0)
        plant(layer, {"W_hh": {}})
        if back:
            named(layer, "backward", t, "dL/dZ_t", [n, 0], backward, layer, {...: 1}, driven(layer))
        else:
            named(layer, "forward", t, "Blind: new state 0", [n, 0], called, layer, driven(layer), value="nan")


@backends
def test_the_mask_of_recurrent_dropout_is_a_term(backend):
    layer = mr.RecurrentLayer(D, H, activation="identity", recurrent_dropout=0.5, backend=backend, rng=0)
    plant(layer, {"W_hh": {(range(H), 0, range(H)): 0.5}})
    text = text_of(called, layer, state=planted((N, H), {n: 3e38}))
    assert text.startswith(f"detect_anomaly: RecurrentLayer(3, 5): forward at step t=0, row n={n}: H_{{t-1}} ⊙ m holds")


@pairs(name=MAKERS, backend=BACKENDS, way=WAYS)
def test_a_row_of_several_sequences_is_named_as_it_is_in_the_mini_batch(name, backend, way):
    layer = blank(name, {"W_xh": {...: HUGE}}, backend=backend, **way)
    reset = turned(RESET, layer)
    text = text_of(called, layer, planted((T, N, D), {(t, n): [3, 4, 12]}), reset=reset)
    assert text.startswith(f"detect_anomaly: {layer.name}(3, 5): forward at step t={t}, row n={n}: X_t W_x"), text
    plant(layer, {"W_xh": {}})
    upstream = "the upstream gradient of outputs"
    named(layer, "backward", t, upstream, [n, 1], backward, layer, {(t, n, 1): np.inf}, reset=reset)
    final, last = flat(called(layer, reset=reset).final_state)[0], 0 if layer.reverse else T - 1
    text = text_of(final.backward, planted((N, H), {(n, 1): np.nan}))
    assert f"backward at step t={last}, row n={n}: the upstream gradient of final_state" in text


@pairs(name=MAKERS, backend=BACKENDS)
def test_nothing_passes_a_reset_so_nothing_is_at_fault(name, backend):
    layer = blank(name, {"W_hh": {...: HUGE}}, backend=backend)
    x = driven(layer)
    called(layer, x, reset=planted((T, N), {(t + 1, n): 1}) > 0)
    assert f"step t={t + 1}, row n={n}: H_{{t-1}} W_h" in text_of(called, layer, x)
    if name == "gru before":
        return  # there the product with W_hn is part of the step itself, for r
    layer, d = blank(name, {"W_hh": {...: 1e5}}, backend=backend), {(t, n): 1e37}
    backward(layer, d, reset=planted((T, N), {(t, n): 1}) > 0)
    assert f"step t={t}, row n={n}: dL/dH_{{t-1}} = dL/dZ_t W_hhᵀ" in text_of(backward, layer, d)


# --- backward ---------------------------------------------------------------------------------------------------------


@pairs(name=MAKERS, backend=BACKENDS, way=WAYS, lengths=ENDS, bad=[np.nan, -np.inf])
def test_the_upstream_gradient_is_named_at_the_latest_step(name, backend, way, lengths, bad):
    layer = blank(name, backend=backend, **way)
    d, first = {...: 2.0, (range(t - 1, t + 1), n, 1): bad}, t - 1 if layer.reverse else t
    call = {"value": bad, "lengths": lengths}
    text = named(layer, "backward", first, "the upstream gradient of outputs", [n, 1], backward, layer, d, **call)
    assert text.endswith(": look at the loss, and at what lies between it and this layer")
    assert all(p.grad is None for p in layer.parameters())


@pairs(name=MAKERS, backend=BACKENDS, way=WAYS, lengths=ENDS)
def test_the_upstream_gradient_of_the_final_state_is_named_at_the_last_step_of_its_row(name, backend, way, lengths):
    layer = blank(name, backend=backend, **way)
    final = flat(called(layer, lengths=lengths).final_state)[-1]
    last = 0 if layer.reverse else lengths[n] - 1 if lengths else T - 1
    which = "the upstream gradient of final_state" + "[1]" * (name == "lstm")
    named(layer, "backward", last, which, [n, 4], final.backward, planted((N, H), {(n, 4): np.inf}))


@pairs(name=MAKERS, backend=BACKENDS, way=WAYS, lengths=ENDS)
def test_the_product_with_w_hh_on_the_way_back_is_named(name, backend, way, lengths):
    layer = blank(name, {"W_hh": {1: 1e3}}, backend=backend, **way)
    past = " + dL/dH_t ⊙ z" * (name == "gru")
    term = "dL/d(r ⊙ H_{t-1}) = dL/dZ_n W_hnᵀ" if name == "gru before" else f"dL/dH_{{t-1}} = dL/dZ_t W_hhᵀ{past}"
    text = named(layer, "backward", t, term, [n, 1], backward, layer, {(t, n): 1e37}, lengths=lengths)
    assert "message_clip=" in text


@pairs(backend=BACKENDS, way=WAYS)
def test_what_goes_back_before_the_first_step_is_no_fault_unless_it_is_asked_for(backend, way):
    layer = blank("tanh", {"W_hh": {...: 1e3}}, backend=backend, **way)
    first, term = T - 1 if layer.reverse else 0, "dL/dH_{t-1} = dL/dZ_t W_hhᵀ"
    backward(layer, {(first, n): 1e37})
    layer.zero_grad()
    h0 = leaf(np.zeros((N, H), np.float32))
    named(layer, "backward", first, term, [n, 0], backward, layer, {(first, n): 1e37}, state=h0)


@backends
def test_the_sum_of_what_enters_and_what_is_carried_is_named(backend):
    unit, d = {(range(H), 0, range(H)): 1}, {(range(t, t + 2), n, 1): HUGE}
    layer, term = blank("tanh", {"W_hh": unit}, backend=backend), "dL/dH_t = upstream + carried gradient"
    named(layer, "backward", t, term, [n, 1], backward, layer, d)
    backward(blank("tanh", {"W_hh": unit}, backend=backend, message_clip=1.0), d)


@pairs(name=MAKERS, backend=BACKENDS)
def test_the_gradients_of_the_parameters_are_named(name, backend):
    layer = blank(name, backend=backend)
    column = 1 if layer.gates == 1 else 2 * H + 1  # g of an LSTM, n of a GRU
    x, term = planted((T, N, D), {(t, n, 2): 1e4}), "the share of this step in dL/dW_xh"
    text = named(layer, "backward", f"step t={t}", term, [2, column], backward, layer, {(t, n, 1): 1e37}, x)
    assert f" of {D * layer.gates * H} entries not finite)" in text
    text = text_of(backward, layer, {(..., 1): 3e37})
    assert text.startswith(f"detect_anomaly: {layer.name}({D}, {H}): backward at step t=")
    assert "(1 of " in text
    assert "dL/db_h" in text


@backends
def test_the_gradient_of_x_is_looked_at_if_it_is_asked_for(backend):
    layer, d = blank("tanh", {"W_xh": {...: 1e3}}, backend=backend), {(t, n): 1e37}
    backward(layer, d)
    x = leaf(np.zeros((T, N, D), np.float32))
    named(
        layer,
        "backward",
        t,
        "dL/dX_t = dL/dZ_t W_xhᵀ",
        [n, 0],
        lambda: layer(x).outputs.backward(planted((T, N, H), d)),
    )


@backends
def test_a_gate_is_gone_back_through_op_by_op_whatever_the_backend(backend):
    """Where σ′ is 0 the kernel has 0 · C_{t-1} at once, and is finite; dL/df, an op of the equation, is inf."""
    layer = blank("lstm", {"b_h": {1: 100}}, backend=backend)  # f = 1, σ′ = 0
    x, state, d = np.zeros((T, N, D)), (np.zeros((N, H)), np.full((N, H), 1e30)), planted((N, H), {(n, 1): 1e10})
    with np.errstate(all="ignore"):
        layer(x, state).final_state.c.backward(d)
        assert np.isfinite(layer.b_h.grad).all() == (backend == "fused")
    layer.zero_grad()
    final = called(layer, x, state).final_state
    named(layer, "backward", T - 1, "dL/df = dL/dC_t ⊙ C_{t-1}", [n, 1], final.c.backward, d)
    assert layer.b_h.grad is None


@pytest.mark.parametrize("name", ["gru", "gru before"])
def test_the_gates_of_a_gru_are_gone_back_through_in_the_order_of_the_graph(name):
    layer, h0, d = blank(name, backend="graph"), planted((N, H), {(n, 1): 1e10}), {(0, n, 1): 1e30}
    named(layer, "backward", 0, "dL/dz = dL/dH_t ⊙ (H_{t-1} − n)", [n, 1], backward, layer, d, state=h0)
    plant(layer, {"W_hh": {(1, 2): 1e10}, "b_h": {0: -100}})  # dL/d(r ⊙ H_{t-1}) of unit 1; r = 0
    if name == "gru":
        plant(layer, {"b_hn": {...: 1e10}})
        term, h0 = "dL/dr = dL/dZ_n ⊙ (H_{t-1} W_hn + b_hn)", np.zeros((N, H))
    else:
        term, h0, d = "dL/dr = dL/d(r ⊙ H_{t-1}) ⊙ H_{t-1}", planted((N, H), {(n, 1): 1e5}), {(0, n, 2): 1e25}
    named(layer, "backward", 0, term, [n, 1], backward, layer, d, state=h0)


@backends
def test_grad_and_a_hook_are_looked_at_too(backend):
    layer = blank("tanh", backend=backend)
    outputs = called(layer).outputs
    outputs.register_hook(lambda g: g * np.inf)
    place = f"step t={T - 1}, row n=0"
    named(layer, "backward", place, "the upstream gradient of outputs", [0, 0], mr.grad, outputs.sum(), layer.W_hh)


# --- step() -----------------------------------------------------------------------------------------------------------


@pairs(name=MAKERS, backend=BACKENDS)
def test_step_names_the_term_too(name, backend):
    layer, place = blank(name, backend=backend), f"in step(), row n={n}"
    x = driven(layer)[t]
    with mr.detect_anomaly():
        state = layer.step(x)
    assert_array_equal(flat(state)[0].numpy(), flat(layer.step(x))[0].numpy())
    upstream, d = "the upstream gradient of final_state" + "[0]" * (name == "lstm"), planted((N, H), {(n, 1): np.nan})
    named(layer, "backward", place, upstream, [n, 1], flat(state)[0].backward, d, value="nan")
    plant(layer, {"W_hh": {...: HUGE}})
    named(layer, "forward", place, f"H_{{t-1}} W_h{letter(layer, 0)}", [n, 0], layer.step, x * 0, state)


# --- what comes in ----------------------------------------------------------------------------------------------------


@pairs(name=MAKERS, backend=BACKENDS)
def test_parameters_are_checked_before_anything_is_computed(name, backend):
    layer = blank(name, backend=backend, learn_initial_state=True)
    state = [np.zeros((N, H)) for _ in layer.state_names]
    for parameter, p in layer.named_parameters():
        index, before = (1,) * p.ndim, p.data
        p.data = planted(p.shape, {index: np.nan})
        start = f"detect_anomaly: {layer.name}(3, 5): {parameter} holds nan at {list(index)} (1 of {p.size} entries "
        for given in (None, state if len(state) > 1 else state[0]):
            assert text_of(called, layer, state=given).startswith(start)
            assert text_of(layer.step, np.zeros((N, D)), given).startswith(start)
        assert "row n=0: x holds inf" in text_of(called, layer, np.full((T, N, D), np.inf)), "inputs come first"
        p.data = before


@backends
def test_numbers_too_large_for_the_layer_s_dtype_are_named(backend):
    layer, x = blank("tanh", backend=backend), planted((T, N, D), {(t, n, 1): 1e300})
    message = (
        f"detect_anomaly: RecurrentLayer(3, 5): x, cast to float32, holds inf at [{t}, {n}, 1] (1 of 84 entries not "
        "finite): they are too large for float32: scale the data, or make the layer with dtype=numpy.float64"
    )
    with raises(mr.AnomalyError, message):
        called(layer, x)


# --- composites -------------------------------------------------------------------------------------------------------


@backends
def test_the_layer_is_named_by_where_it_stands(backend):
    """Two of the same kind and size: the place tells them apart, in the text itself, forward and back."""
    make = functools.partial(mr.GRULayer, backend=backend, rng=0)
    both = mr.Bidirectional(make(H + H, H), make(H + H, H, reverse=True))
    first = mr.Bidirectional(make(D, H), make(D, H, reverse=True))
    model = mr.SequenceModel(mr.Stacked([first, both]), mr.Linear(2 * H, 2, rng=0))
    x = np.ones((T, N, D))
    with mr.detect_anomaly():
        (model(x)[0] ** 2).sum().backward()
        for p in both.backward_layer.parameters():
            p.data = np.zeros(p.shape)
        plant(both.backward_layer, {"W_hh": {1: 1e3}})
        predictions = model(x)[0]
    text, at = text_of(predictions.backward, np.full(predictions.shape, 1e37)), "at step t=0, row n=0"
    place = f"GRULayer(10, 5) in backward_layer of Bidirectional in layers[1] of Stacked: backward {at}"
    assert text.startswith(f"detect_anomaly: {place}: dL/dH_{{t-1}} = dL/dZ_t W_hhᵀ + dL/dH_t ⊙ z holds "), text
    plant(first.forward_layer, {"W_xh": {...: HUGE}})
    place = f"GRULayer(3, 5) in forward_layer of Bidirectional in layers[0] of Stacked: forward {at}"
    assert text_of(model, x).startswith(f"detect_anomaly: {place}: X_t W_xr holds inf")


def test_where_a_layer_stands_is_forgotten_when_the_composite_is_left():
    layer = mr.RecurrentLayer(D, H, rng=0)
    stack = mr.Stacked([layer])
    bad = np.full((T, N, D), np.nan)
    with mr.detect_anomaly():
        assert "RecurrentLayer(3, 5) in layers[0] of Stacked: " in text_of(stack, bad)
        stack(np.zeros((T, N, D)))
        assert "RecurrentLayer(3, 5): step t=0" in text_of(layer, bad)


# --- no fault, no difference ------------------------------------------------------------------------------------------

OPTIONS = {
    "plain": {},
    "both": {"reverse": True, "batch_first": True},
    "clip": {"message_clip": 0.5},
    "dropout": {"recurrent_dropout": 0.4, "learn_initial_state": True},
    "remat": {"remat": True},
    "no bias": {"bias": False, "reverse": True},
}
OTHERS = {
    "own 2": KINDS["own"],
    "two states": KINDS["two states"],
    "pair": functools.partial(mr.RecurrentLayer, activation=ISRU),
}
POINTS = pairwise(
    {"name": MAKERS | OTHERS, "backend": BACKENDS, "options": OPTIONS},
    allowed=lambda p: (p["options"], p["backend"]) != ("remat", "graph"),
)
configurations = pytest.mark.parametrize(("name", "backend", "options"), [tuple(p.values()) for p in POINTS])


CALLS = [{"lengths": lengths, "reset": reset} for lengths in (None, [7, 2, 5, 6]) for reset in (None, RESET)]


def problem_of(name, options):
    """Of a kind or a maker; and the options that are not the problem's."""
    settings = dict(OPTIONS[options])
    remat = {"remat": settings.pop("remat")} if "remat" in settings else {}
    return Problem((MAKERS | OTHERS)[name], (T, N, D, H), scale=1.0, **settings), remat


@configurations
def test_with_the_mode_on_the_numbers_are_the_same_bit_for_bit(name, backend, options):
    problem, remat = problem_of(name, options)
    for call in CALLS:
        expected = problem.run(problem.layer(backend, **remat), **call)
        with mr.detect_anomaly():
            assert_equal(problem.run(problem.layer(backend, **remat), **call), expected, 0)


@configurations
def test_what_is_looked_at_are_the_numbers_of_the_backend(name, backend, options, monkeypatch):
    """The terms add up to the layer's states and gradients: a fault in them is one of the layer's."""
    seen = []

    class Spy(Watch):
        def check_gradients(self, received):
            seen.append((self, *super().check_gradients(received)))
            return seen[-1][1:]

    monkeypatch.setattr(layer_module, "Watch", Spy)
    problem, remat = problem_of(name, options)
    layer = problem.layer(backend, **remat, learn_initial_state=False)
    for call in CALLS:
        with mr.detect_anomaly():
            found = problem.run(layer, **call)
        watch, carried, sums = seen.pop()
        for earlier, later in itertools.pairwise(watch.moments):
            same = earlier.sequences[np.isin(earlier.sequences, later.sequences)]
            rows, left = watch.sequences.row[same], np.isin(later.sequences, same)
            assert_allclose(later.before[0][left], found["outputs"][earlier.t, rows], atol=1e-12)
        given = watch.sequences.given
        for i, d in enumerate(carried):
            expected = np.zeros((N, H))
            expected[watch.sequences.row[given]] = d[given]
            assert_allclose(found[f"initial {i}"], expected, atol=1e-10)
        assert {name for name, _ in layer.named_parameters()} == set(sums)
        for parameter, gradient in sums.items():
            assert_allclose(found[parameter], gradient, atol=1e-10)


def test_what_needs_no_gradient_gets_none_and_is_not_looked_at():
    layer = blank("tanh")
    layer.W_xh.requires_grad = False
    backward(layer, {(t, n, 1): 1e37}, planted((T, N, D), {(t, n, 2): 1e4}))
    assert layer.W_xh.grad is None
    assert np.isfinite(layer.W_hh.grad).all()


@backends
def test_second_derivatives_within_the_mode_are_the_same(backend):
    layer = Problem("gru", (T, N, D, H)).layer(backend)
    x = np.random.default_rng(5).standard_normal((T, N, D))

    def second():
        (g,) = mr.grad((layer(x).outputs ** 2).sum(), layer.W_hh, create_graph=True)
        return mr.grad((g**2).sum(), layer.W_xh)[0].numpy()

    expected = second()
    with mr.detect_anomaly():
        assert_array_equal(second(), expected)
