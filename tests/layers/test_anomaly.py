"""detect_anomaly within a recurrent layer: the step, the row and the term of the first NaN or inf, forward and back.

A fault is planted at a known step and row, mostly by numbers near the end of float32; all other states are zero.
"""

import functools
import itertools
import threading

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
makers = pytest.mark.parametrize("name", MAKERS)
ENDS = [None, [7, 2, 5, 4]]


def pairs(**settings):
    """Pairs of the values of a test's arguments."""
    rows = [tuple(point.values()) for point in pairwise(settings)]
    return pytest.mark.parametrize(
        tuple(settings), rows, ids=lambda v: "-".join(v) or "plain" if isinstance(v, dict) else None
    )


def blank(name, **options):
    """A layer whose parameters are all zero."""
    make = MAKERS[name] if isinstance(name, str) else functools.partial(mr.RecurrentLayer, activation=name)
    layer = make(D, H, rng=0, **options)
    for p in layer.parameters():
        p.data = np.zeros(p.shape)
    return layer


def called(layer, x, state=None, **options):
    """Call a layer within detect_anomaly on an x that is (T, N, D)."""
    x = turned(x, layer)
    with mr.detect_anomaly():
        return layer(x, state, **options)


def backward(layer, d, x=None, **options):
    """Send a gradient of the outputs, (T, N, H), back within detect_anomaly."""
    with mr.detect_anomaly():
        outputs = called(layer, np.zeros((T, N, D)) if x is None else x, **options).outputs
        outputs.backward(turned(d, layer))


def fault(layer, place, term, entry, value="inf"):
    return f"detect_anomaly: {layer.name}({D}, {H}): {place}: {term} holds {value} at {entry} ("


def text_of(call, *args, **options):
    with pytest.raises(mr.AnomalyError) as caught:
        call(*args, **options)
    return str(caught.value)


def check(text, start):
    """The text begins so."""
    assert text.startswith(start), text


def driven(layer, only=slice(2)):
    """Make units 0 and 1 go to their largest value where feature 1 of x is 100."""
    G = layer.gates
    W = np.zeros((D, G, H))
    W[1, :, only] = 1
    if layer.name == "GRULayer":
        W[1, 1] *= -1  # z = 0: all of n
    layer.W_xh.data = W.reshape(D, G * H)
    x = np.zeros((T, N, D))
    x[t, n, 1] = 100
    return x


def letter(layer, gate):
    return {1: "h", 3: "rzn", 4: "ifgo"}[layer.gates][gate]


# --- forward ----------------------------------------------------------------------------------------------------------


@pairs(name=MAKERS, backend=BACKENDS, way=WAYS, lengths=ENDS)
def test_the_product_with_x_is_named(name, backend, way, lengths):
    layer = blank(name, backend=backend, **way)
    gate = layer.gates - 1
    W = np.zeros((D, layer.gates, H))
    W[1, gate, 4] = HUGE
    layer.W_xh.data = W.reshape(D, -1)
    x = np.zeros((T, N, D))
    x[t, n] = [3, 4, 12]
    start = fault(layer, f"forward at step t={t}, row n={n}", f"X_t W_x{letter(layer, gate)}", [n, 4])
    text = text_of(called, layer, x, lengths=lengths)
    check(text, start)
    assert text.endswith(": look at the sizes of x and W_xh")
    assert "(1 of " in text
    with np.errstate(all="ignore"):  # tanh and σ make a finite number of an inf, which leaves no trace
        assert np.isfinite(layer(turned(x, layer)).outputs.numpy()).all()


@pairs(name=MAKERS, backend=BACKENDS, way=WAYS)
def test_the_product_with_the_state_is_named_at_the_step_after_it_grew(name, backend, way):
    layer = blank(name, backend=backend, **way)
    x = driven(layer)
    with mr.no_grad():
        outputs = called(layer, x).outputs.numpy()
    h = (outputs.swapaxes(0, 1) if layer.batch_first else outputs)[t, n]
    assert h[0] > 0.7
    gate = min(1, layer.gates - 1)
    W = np.zeros((H, layer.gates, H))
    W[:2, gate, 3] = HUGE
    layer.W_hh.data = W.reshape(H, -1)
    after = t - 1 if layer.reverse else t + 1
    start = fault(layer, f"forward at step t={after}, row n={n}", f"H_{{t-1}} W_h{letter(layer, gate)}", [n, 3])
    check(text_of(called, layer, x), start)


@pytest.mark.parametrize("name", ["tanh", "lstm", "own"])
@backends
def test_the_sums_are_named(name, backend):
    layer = blank(name, backend=backend)
    x, q = driven(layer), letter(layer, 0)
    products, place = f"X_t W_x{q} + H_{{t-1}} W_h{q}", f"forward at step t={t}, row n={n}"
    layer.W_xh.data *= HUGE / 100
    layer.b_h.data = np.full(layer.b_h.shape, 1e38)
    check(text_of(called, layer, x), fault(layer, place, f"{products} + b_{q}", [n, 0]))
    layer.b_h.data = np.zeros(layer.b_h.shape)
    x = driven(layer)
    W_hh, W_xh = np.zeros(layer.W_hh.shape), layer.W_xh.data.copy()
    W_hh[:2, 0], W_xh[0, 0], x[t + 1, n, 0] = 1.5e38, 1.4e38, 2
    layer.W_hh.data, layer.W_xh.data = W_hh, W_xh
    place = f"forward at step t={t + 1}, row n={n}"
    check(text_of(called, layer, x), fault(layer, place, products, [n, 0]))


@backends
def test_the_terms_of_a_gru_are_named(backend):
    layer, place = blank("gru", backend=backend), f"forward at step t={t}, row n={n}"
    x, W_xh, W_hh = driven(layer), np.zeros((D, 3, H)), np.zeros((H, 3, H))
    W_xh[1, 2, 1] = HUGE / 100
    layer.W_xh.data = W_xh.reshape(D, -1)
    layer.b_h.data = np.full(3 * H, 1e38)
    check(text_of(called, layer, x), fault(layer, place, "X_t W_xn + b_n", [n, 1]))
    layer.b_h.data = np.zeros(3 * H)
    layer.b_hn.data = np.full(H, 2e38)  # of which r lets half through
    term = "X_t W_xn + b_n + r ⊙ (H_{t-1} W_hn + b_hn)"
    check(text_of(called, layer, x), fault(layer, place, term, [n, 1]))
    driven(layer)
    layer.b_hn.data = np.where(np.arange(H) == 4, 2e38, 0)
    W_hh[:2, 2, 4] = 1.5e38
    layer.W_hh.data = W_hh.reshape(H, -1)
    after = place.replace(f"t={t}", f"t={t + 1}")
    check(text_of(called, layer, x), fault(layer, after, "H_{t-1} W_hn + b_hn", [n, 4]))


@backends
def test_the_product_of_a_gru_that_resets_before_it_is_named(backend):
    layer, W_hh = blank("gru before", backend=backend), np.zeros((H, 3, H))
    x = driven(layer)
    W_hh[:2, 2, 4], W_hh[:, 0] = HUGE, 100  # r = 1
    layer.W_hh.data = W_hh.reshape(H, -1)
    start = fault(layer, f"forward at step t={t + 1}, row n={n}", "(r ⊙ H_{t-1}) W_hn", [n, 4])
    check(text_of(called, layer, x), start)


@backends
def test_the_memory_of_an_lstm_may_be_as_large_as_its_dtype_goes(backend):
    """A step adds i ⊙ g, at most 1, which a number that large does not feel."""
    layer = blank("lstm", backend=backend)
    layer.b_h.data = np.full(4 * H, 100)  # every gate is open, and g = 1
    c = np.full((N, H), np.finfo(np.float32).max)
    assert_array_equal(called(layer, np.zeros((T, N, D)), (np.zeros((N, H)), c)).final_state.c.numpy(), c)


def boom(z):
    """φ: the identity, and NaN above 50."""
    return np.where(z > 50, np.nan, z).astype(z.dtype)


def steep(y):
    """φ′: 1, and inf above 50."""
    return np.where(y > 50, np.inf, 1).astype(y.dtype)


@pairs(backend=BACKENDS, way=WAYS)
def test_an_activation_of_one_s_own_is_named(backend, way):
    layer = blank((boom, lambda y: y * 0 + 1), backend=backend, **way)
    start = fault(layer, f"forward at step t={t}, row n={n}", "H_t = φ(Z_t)", [n, 0], "nan")
    text = text_of(called, layer, driven(layer))
    check(text, start)
    assert text.endswith(": Z_t is finite: look at φ")


@pairs(backend=BACKENDS, way=WAYS)
def test_the_derivative_of_an_activation_of_one_s_own_is_named(backend, way):
    layer = blank((lambda z: z + 0, steep), backend=backend, **way)
    start = fault(layer, f"backward at step t={t}, row n={n}", "dL/dZ_t = dL/dH_t ⊙ φ′(H_t)", [n, 0])
    text = text_of(backward, layer, np.ones((T, N, H)), driven(layer))
    check(text, start)
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
def test_the_term_of_a_cell_of_one_s_own_is_named(backend):
    layer = mr.RecurrentLayer(D, H, cell=Wrong(back=False), bias=False, backend=backend, rng=0)
    layer.W_hh.data = np.zeros(layer.W_hh.shape)
    x = driven(layer)
    text = text_of(called, layer, x)
    place = f"forward at step t={t}, row n={n}"
    check(text, fault(layer, place, "ln(a constant)", [n, 0], "-inf"))
    assert text.endswith(": look at Wrong.equation")


@backends
def test_the_gradient_of_a_term_of_a_cell_of_one_s_own_is_named(backend):
    layer = mr.RecurrentLayer(D, H, cell=Wrong(back=True), bias=False, backend=backend, rng=0)
    layer.W_hh.data = np.zeros(layer.W_hh.shape)
    x = driven(layer)
    W = layer.W_xh.data.copy()
    W[:, H:] = 0
    layer.W_xh.data = W
    place, d = f"backward at step t={t}, row n={n}", np.ones((T, N, H))
    text = text_of(backward, layer, d, x)
    term = "dL/d(Z_z1 + a constant) = 0.5 dL/dH_t ⊙ 1 / (2 √(Z_z1 + a constant))"
    check(text, fault(layer, place, term, [n, 0]))
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
        layer.W_hh.data = np.zeros(layer.W_hh.shape)
        x, d = driven(layer), np.ones((T, N, H))
        place = f"{'backward' if back else 'forward'} at step t={t}, row n={n}"
        text = text_of(backward, layer, d, x) if back else text_of(called, layer, x)
        term, value = ("dL/dZ_t", "inf") if back else ("Blind: new state 0", "nan")
        check(text, fault(layer, place, term, [n, 0], value))


@backends
def test_the_mask_of_recurrent_dropout_is_a_term(backend):
    layer = mr.RecurrentLayer(
        D, H, activation="identity", recurrent_dropout=0.5, dtype=np.float32, backend=backend, rng=0
    )
    layer.W_hh.data = np.eye(H) * 0.5
    h0 = np.zeros((N, H))
    h0[n] = 3e38
    text = text_of(called, layer, np.zeros((T, N, D)), h0)
    assert text.startswith(f"detect_anomaly: RecurrentLayer(3, 5): forward at step t=0, row n={n}: H_{{t-1}} ⊙ m holds")


@pairs(name=MAKERS, backend=BACKENDS, way=WAYS)
def test_a_row_of_several_sequences_is_named_as_it_is_in_the_mini_batch(name, backend, way):
    layer, reset, x = blank(name, backend=backend, **way), RESET, np.zeros((T, N, D))
    layer.W_xh.data = np.full(layer.W_xh.shape, HUGE)
    x[t, n] = [3, 4, 12]
    reset = reset.T if layer.batch_first else reset
    text = text_of(called, layer, x, reset=reset)
    assert text.startswith(f"detect_anomaly: {layer.name}(3, 5): forward at step t={t}, row n={n}: X_t W_x"), text
    d = np.zeros((T, N, H))
    d[t, n, 1] = np.inf
    start = fault(layer, f"backward at step t={t}, row n={n}", "the upstream gradient of outputs", [n, 1])
    layer.W_xh.data = np.zeros(layer.W_xh.shape)
    assert text_of(backward, layer, d, reset=reset).startswith(start)
    final, d = flat(called(layer, x, reset=reset).final_state)[0], np.zeros((N, H))
    d[n, 1] = np.nan
    with mr.detect_anomaly():
        text = text_of(final.backward, d)
    assert (
        f"backward at step t={0 if layer.reverse else T - 1}, row n={n}: the upstream gradient of final_state" in text
    )


@makers
@backends
def test_nothing_passes_a_reset_so_nothing_is_at_fault(name, backend):
    layer = blank(name, backend=backend)
    x, reset, d = driven(layer), np.zeros((T, N), bool), np.zeros((T, N, H))
    layer.W_hh.data = np.full(layer.W_hh.shape, HUGE)
    reset[t + 1, n] = True
    called(layer, x, reset=reset)
    assert f"step t={t + 1}, row n={n}: H_{{t-1}} W_h" in text_of(called, layer, x)
    layer = blank(name, backend=backend)
    layer.W_hh.data = np.full(layer.W_hh.shape, 1e5)
    d[t, n] = 1e37
    reset = np.zeros((T, N), bool)
    reset[t, n] = True
    if name == "gru before":
        return  # there the product with W_hn is part of the step itself, for r
    backward(layer, d, reset=reset)
    assert f"step t={t}, row n={n}: dL/dH_{{t-1}} = dL/dZ_t W_hhᵀ" in text_of(backward, layer, d)


# --- backward ---------------------------------------------------------------------------------------------------------


@pairs(name=MAKERS, backend=BACKENDS, way=WAYS, lengths=ENDS, bad=[np.nan, -np.inf])
def test_the_upstream_gradient_is_named_at_the_latest_step(name, backend, way, lengths, bad):
    layer = blank(name, backend=backend, **way)
    d = np.full((T, N, H), 2.0)
    d[[t, t - 1], n, 1] = bad
    first = t - 1 if layer.reverse else t
    start = fault(layer, f"backward at step t={first}, row n={n}", "the upstream gradient of outputs", [n, 1], bad)
    text = text_of(backward, layer, d, lengths=lengths)
    check(text, start)
    assert text.endswith(": look at the loss, and at what lies between it and this layer")
    assert all(p.grad is None for p in layer.parameters())


@pairs(name=MAKERS, backend=BACKENDS, way=WAYS, lengths=ENDS)
def test_the_upstream_gradient_of_the_final_state_is_named_at_the_last_step_of_its_row(name, backend, way, lengths):
    layer = blank(name, backend=backend, **way)
    final = flat(called(layer, np.zeros((T, N, D)), lengths=lengths).final_state)[-1]
    d = np.zeros((N, H))
    d[n, 4] = np.inf
    last = 0 if layer.reverse else lengths[n] - 1 if lengths else T - 1
    which = "final_state[1]" if name == "lstm" else "final_state"
    start = fault(layer, f"backward at step t={last}, row n={n}", f"the upstream gradient of {which}", [n, 4])
    with mr.detect_anomaly():
        check(text_of(final.backward, d), start)


@pairs(name=MAKERS, backend=BACKENDS, way=WAYS, lengths=ENDS)
def test_the_product_with_w_hh_on_the_way_back_is_named(name, backend, way, lengths):
    layer = blank(name, backend=backend, **way)
    W = np.zeros(layer.W_hh.shape)
    W[1] = 1e3
    layer.W_hh.data = W
    d = np.zeros((T, N, H))
    d[t, n] = 1e37
    past = " + dL/dH_t ⊙ z" * (name == "gru")
    term = "dL/d(r ⊙ H_{t-1}) = dL/dZ_n W_hnᵀ" if name == "gru before" else f"dL/dH_{{t-1}} = dL/dZ_t W_hhᵀ{past}"
    start = fault(layer, f"backward at step t={t}, row n={n}", term, [n, 1])
    text = text_of(backward, layer, d, lengths=lengths)
    check(text, start)
    assert "message_clip=" in text


@pairs(backend=BACKENDS, way=WAYS)
def test_what_goes_back_before_the_first_step_is_no_fault_unless_it_is_asked_for(backend, way):
    layer = blank("tanh", backend=backend, **way)
    layer.W_hh.data = np.full((H, H), 1e3)
    first = T - 1 if layer.reverse else 0
    d = np.zeros((T, N, H))
    d[first, n] = 1e37
    backward(layer, d)
    layer.zero_grad()
    h0 = leaf(np.zeros((N, H), np.float32))
    start = fault(layer, f"backward at step t={first}, row n={n}", "dL/dH_{t-1} = dL/dZ_t W_hhᵀ", [n, 0])
    assert text_of(backward, layer, d, state=h0).startswith(start)


@backends
def test_the_sum_of_what_enters_and_what_is_carried_is_named(backend):
    layer = blank("tanh", backend=backend)
    layer.W_hh.data = np.eye(H)
    d = np.zeros((T, N, H))
    d[t : t + 2, n, 1] = HUGE
    start = fault(layer, f"backward at step t={t}, row n={n}", "dL/dH_t = upstream + carried gradient", [n, 1])
    check(text_of(backward, layer, d), start)
    clipped = blank("tanh", backend=backend, message_clip=1.0)
    clipped.W_hh.data = np.eye(H)
    backward(clipped, d)


@makers
@backends
def test_the_gradients_of_the_parameters_are_named(name, backend):
    layer = blank(name, backend=backend)
    column = 1 if layer.gates == 1 else 2 * H + 1  # g of an LSTM, n of a GRU
    x, d = np.zeros((T, N, D)), np.zeros((T, N, H))
    x[t, n, 2], d[t, n, 1] = 1e4, 1e37
    place = f"backward at step t={t}"
    start = fault(layer, place, "the share of this step in dL/dW_xh", [2, column])
    text = text_of(backward, layer, d, x)
    assert text.startswith(start)
    assert f" of {D * layer.gates * H} entries not finite)" in text
    d = np.zeros((T, N, H))
    d[:, :, 1] = 3e37
    start = fault(layer, "backward at step t=", "X", []).split("X")[0].removesuffix(": ")
    text = text_of(backward, layer, d)
    assert text.startswith(start)
    assert "(1 of " in text
    assert "dL/db_h" in text


@backends
def test_the_gradient_of_x_is_looked_at_if_it_is_asked_for(backend):
    layer = blank("tanh", backend=backend)
    layer.W_xh.data = np.full((D, H), 1e3)
    d = np.zeros((T, N, H))
    d[t, n] = 1e37
    backward(layer, d)
    start = fault(layer, f"backward at step t={t}, row n={n}", "dL/dX_t = dL/dZ_t W_xhᵀ", [n, 0])
    with mr.detect_anomaly():
        outputs = layer(leaf(np.zeros((T, N, D), np.float32))).outputs
        assert text_of(outputs.backward, d).startswith(start)


@backends
def test_a_gate_is_gone_back_through_op_by_op_whatever_the_backend(backend):
    """Where σ′ is 0 the kernel has 0 · C_{t-1} at once, and is finite; dL/df, an op of the equation, is inf."""
    layer = blank("lstm", backend=backend)
    layer.b_h.data = np.where(np.arange(4 * H) // H == 1, 100, 0)  # f = 1, σ′ = 0
    state, d = (np.zeros((N, H)), np.full((N, H), 1e30)), np.zeros((N, H))
    d[n, 1] = 1e10
    with np.errstate(all="ignore"):
        called_plainly = layer(np.zeros((T, N, D)), state)
        called_plainly.final_state.c.backward(d)
        assert np.isfinite(layer.b_h.grad).all() == (backend == "fused")
    layer.zero_grad()
    with mr.detect_anomaly():
        text = text_of(layer(np.zeros((T, N, D)), state).final_state.c.backward, d)
    check(text, fault(layer, f"backward at step t={T - 1}, row n={n}", "dL/df = dL/dC_t ⊙ C_{t-1}", [n, 1]))
    assert layer.b_h.grad is None


@pytest.mark.parametrize("name", ["gru", "gru before"])
def test_the_gates_of_a_gru_are_gone_back_through_in_the_order_of_the_graph(name):
    layer = blank(name, backend="graph")
    h0, d = np.zeros((N, H)), np.zeros((T, N, H))
    h0[n, 1], d[0, n, 1] = 1e10, 1e30
    place = f"backward at step t=0, row n={n}"
    text = text_of(backward, layer, d, state=h0)
    check(text, fault(layer, place, "dL/dz = dL/dH_t ⊙ (H_{t-1} − n)", [n, 1]))
    h0[n] = [1e10, 0, 0, 0, 0]
    W = np.zeros((H, 3, H))
    W[1, 2] = 1e10  # dL/d(r ⊙ H_{t-1}) of unit 1
    layer.W_hh.data = W.reshape(H, -1)
    if name == "gru":
        h0[n] = 0
        layer.b_hn.data, layer.b_h.data = np.full(H, 1e10), np.where(np.arange(3 * H) < H, -100, 0)  # r = 0
        text, term = text_of(backward, layer, d, state=h0), "dL/dr = dL/dZ_n ⊙ (H_{t-1} W_hn + b_hn)"
        check(text, fault(layer, place, term, [n, 1]))
    else:
        d[0, n, 1], d[0, n, 2], h0[n] = 0, 1e25, [0, 1e5, 0, 0, 0]
        layer.b_h.data = np.where(np.arange(3 * H) < H, -100, 0)
        text, term = text_of(backward, layer, d, state=h0), "dL/dr = dL/d(r ⊙ H_{t-1}) ⊙ H_{t-1}"
        check(text, fault(layer, place, term, [n, 1]))


@backends
def test_grad_and_a_hook_are_looked_at_too(backend):
    layer = blank("tanh", backend=backend)
    with mr.detect_anomaly():
        outputs = layer(np.zeros((T, N, D))).outputs
        outputs.register_hook(lambda g: g * np.inf)
        start = fault(layer, f"backward at step t={T - 1}, row n=0", "the upstream gradient of outputs", [0, 0])
        assert text_of(mr.grad, outputs.sum(), layer.W_hh).startswith(start)


# --- step() -----------------------------------------------------------------------------------------------------------


@makers
@backends
def test_step_names_the_term_too(name, backend):
    layer = blank(name, backend=backend)
    x = driven(layer)[t]
    with mr.detect_anomaly():
        state = layer.step(x)
        assert_array_equal(flat(state)[0].numpy(), flat(layer.step(x))[0].numpy())
        d = np.zeros((N, H))
        d[n, 1] = np.nan
        start = fault(layer, f"backward in step(), row n={n}", "the upstream gradient of final_state", [n, 1], "nan")
        start = start.replace("final_state", "final_state[0]") if name == "lstm" else start
        assert text_of(flat(state)[0].backward, d).startswith(start)
        layer.W_hh.data = np.full(layer.W_hh.shape, HUGE)
        q = letter(layer, 0)
        start = fault(layer, f"forward in step(), row n={n}", f"H_{{t-1}} W_h{q}", [n, 0])
        assert text_of(layer.step, x * 0, state).startswith(start)


def test_step_goes_through_the_equation_of_a_cell_whatever_the_backend():
    layer = mr.RecurrentLayer(D, H, cell=Wrong(back=False), rng=0)
    layer.W_hh.data = np.zeros(layer.W_hh.shape)
    x = driven(layer)
    with mr.detect_anomaly():
        assert f"forward in step(), row n={n}: ln(a constant) holds -inf" in text_of(layer.step, x[t])


# --- what comes in ----------------------------------------------------------------------------------------------------


@makers
@backends
def test_parameters_are_checked_before_anything_is_computed(name, backend):
    layer = blank(name, backend=backend, learn_initial_state=True)
    for parameter, p in layer.named_parameters():
        index = (1,) * p.ndim
        kept = p.data.copy()
        p.data = np.where(np.arange(p.size).reshape(p.shape) == np.ravel_multi_index(index, p.shape), np.nan, 0)
        start = f"detect_anomaly: {layer.name}(3, 5): {parameter} holds nan at {list(index)} (1 of {p.size} entries "
        assert text_of(called, layer, np.zeros((T, N, D))).startswith(start)
        with mr.detect_anomaly():
            assert text_of(layer.step, np.zeros((N, D))).startswith(start)
        assert "row n=0: x holds inf" in text_of(called, layer, np.full((T, N, D), np.inf)), "inputs come first"
        state = tuple(np.zeros((N, H)) for _ in layer.state_names)
        state = state if len(state) > 1 else state[0]
        assert text_of(called, layer, np.zeros((T, N, D)), state).startswith(start)
        with mr.detect_anomaly():
            assert text_of(layer.step, np.zeros((N, D)), state).startswith(start)
        p.data = kept


@backends
def test_numbers_too_large_for_the_layer_s_dtype_are_named(backend):
    layer = blank("tanh", backend=backend)
    x = np.zeros((T, N, D))
    x[t, n, 1] = 1e300
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
        loss = (model(x)[0] ** 2).sum()
        loss.backward()
        for p in both.backward_layer.parameters():
            p.data = np.zeros(p.shape)
        both.backward_layer.W_hh.data = np.repeat([0.0, 1e3, 0.0, 0.0, 0.0], 3 * H).reshape(H, 3 * H)
        predictions = model(x)[0]
        text = text_of(predictions.backward, np.full(predictions.shape, 1e37))
        named = (
            "GRULayer(10, 5) in backward_layer of Bidirectional in layers[1] of Stacked: backward at step t=0, row n=0"
        )
        assert text.startswith(f"detect_anomaly: {named}: dL/dH_{{t-1}} = dL/dZ_t W_hhᵀ + dL/dH_t ⊙ z holds "), text
        first.forward_layer.W_xh.data = np.full(first.forward_layer.W_xh.shape, HUGE)
        text = text_of(model, x)
        named = "GRULayer(3, 5) in forward_layer of Bidirectional in layers[0] of Stacked: forward at step t=0, row n=0"
        assert text.startswith(f"detect_anomaly: {named}: X_t W_xr holds inf"), text


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
    x, d = np.zeros((T, N, D)), np.zeros((T, N, H))
    x[t, n, 2], d[t, n, 1] = 1e4, 1e37
    backward(layer, d, x)
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


def test_outside_the_mode_and_in_other_threads_nothing_is_looked_at(monkeypatch):
    monkeypatch.setattr(layer_module, "Watch", None)
    layer, found = blank("tanh"), []
    layer.W_hh.data = np.full((H, H), HUGE)

    def elsewhere():
        with np.errstate(all="ignore"):
            found.append(layer(np.ones((T, N, D)), np.ones((N, H))).outputs.shape)
            layer.step(np.ones((N, D)))

    elsewhere()
    with mr.detect_anomaly():
        thread = threading.Thread(target=elsewhere)
        thread.start()
        thread.join()
    assert found == [(T, N, H)] * 2
