"""What the layer keeps for backward: all states, or with ``remat`` a few of them; the gradients are the same."""

import gc
import tracemalloc

import numpy as np
import pytest
from error_texts import raises
from test_recurrent import CLASSES, NAMES, Config, Problem, relative_error, spell

import minirnn as mr

T, N, D, H = 900, 4, 3, 40
STATES = T * N * H * 8  # bytes of one (T, N, H) array in float64


@pytest.mark.parametrize("remat", [True, 1, 2, 5, 99])
@pytest.mark.parametrize("config", CLASSES, ids=spell)
def test_the_gradients_are_the_same(config, remat):
    problem = Problem(config)
    for weights in ((1, 1), (1, 0), (0, 1)):
        plain = problem.run(problem.layer("fused"), weights)
        found = problem.run(problem.layer("fused", remat=remat), weights)
        for name, exact in plain.items():
            assert relative_error(found[name], exact) <= 1e-14, name


@pytest.mark.parametrize("remat", [True, 3])
def test_a_sequence_of_many_segments(remat):
    found = []
    for setting in (False, remat):
        layer = mr.RecurrentLayer(D, H, remat=setting, dtype=np.float64, rng=0)
        x = mr.Tensor(np.random.default_rng(1).standard_normal((T, N, D)), requires_grad=True)
        (layer(x).outputs ** 2).sum().backward()
        found.append([x.grad, *(p.grad for p in layer.parameters())])
    for a, b in zip(*found, strict=True):
        assert relative_error(b, a) <= 1e-13


@pytest.mark.parametrize("reverse", [False, True])
def test_every_gradient_by_central_differences(reverse):
    problem = Problem(Config("tanh", True, reverse, False, "D≠H≠N≠T"))
    layer = problem.layer("fused", remat=2)
    inputs = [*problem.leaves(), *layer.parameters()]
    assert mr.gradcheck(lambda x, h0, *weights: layer(x, h0), inputs, names=NAMES)


def test_second_order_goes_through_it():
    problem = Problem(Config("tanh", True, False, False, "D≠H≠N≠T"), scale=0.5)
    found = []
    for remat in (False, True):
        layer = problem.layer("fused", remat=remat)
        x, h0 = problem.leaves()
        (dx,) = mr.grad(problem.loss(*layer(x, h0)), x, create_graph=True)
        found.append(mr.grad((dx**2).sum(), [x, h0, *layer.parameters()]))
    for a, b in zip(*found, strict=True):
        assert relative_error(b.numpy(), a.numpy()) <= 1e-14


def test_a_graph_that_is_retained_and_two_live_graphs():
    layer = mr.RecurrentLayer(D, H, remat=True, dtype=np.float64, rng=0)
    x, y = np.random.default_rng(1).standard_normal((2, 20, N, D))
    alone = []
    for a in (x, y):
        layer.zero_grad()
        layer(a).outputs.sum().backward()
        alone.append([p.grad for p in layer.parameters()])
    layer.zero_grad()
    one, two = layer(x).outputs.sum(), layer(y).outputs.sum()
    one.backward(retain_graph=True)
    two.backward()
    one.backward()
    for p, a, b in zip(layer.parameters(), *alone, strict=True):
        np.testing.assert_allclose(p.grad, 2 * a + b, rtol=1e-12, atol=1e-12)


# --- memory ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def traced():
    """Measure what numpy takes; scratch is made beforehand by a short call."""
    gc.collect()
    tracemalloc.start()
    yield
    tracemalloc.stop()


def train_on_the_last_state(layer, x):
    """Return the bytes that live between forward and backward, and at the peak of backward."""
    before = tracemalloc.get_traced_memory()[0]
    final_state = layer(x).final_state
    loss = final_state.sum()
    kept = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.reset_peak()
    loss.backward()
    return kept, tracemalloc.get_traced_memory()[1] - before


def test_remat_keeps_about_the_square_root_of_the_states(traced):
    x = np.random.default_rng(1).standard_normal((T, N, D))
    layer = mr.RecurrentLayer(D, H, dtype=np.float64, rng=0)
    train_on_the_last_state(layer, x)
    kept, _ = train_on_the_last_state(layer, x)
    assert 1.0 * STATES < kept < 1.1 * STATES
    layer = mr.RecurrentLayer(D, H, remat=True, dtype=np.float64, rng=0)
    kept, peak = train_on_the_last_state(layer, x)
    assert kept < 2 * STATES / 30  # 30 is √T
    assert peak < 4 * STATES / 30


def test_without_remat_there_is_hardly_more_than_inputs_outputs_and_their_gradients(traced):
    """x, outputs, their gradients and the weights': the rest at the peak is less than one (T, N, H) array."""
    layer = mr.RecurrentLayer(D, H, dtype=np.float64, rng=0)
    x = mr.Tensor(np.random.default_rng(1).standard_normal((T, N, D)), requires_grad=True)
    g = np.ones((T, N, H))
    layer(x).outputs.backward(g)  # scratch and gradients are there now
    before = tracemalloc.get_traced_memory()[0]
    tracemalloc.reset_peak()
    outputs, _ = layer(x)
    outputs.backward(g)
    peak = tracemalloc.get_traced_memory()[1] - before
    of_outputs, of_x = STATES, 2 * x.data.nbytes  # the new gradient of x and the sum with the old one
    assert peak - of_outputs - of_x < STATES


@pytest.mark.parametrize("remat", [False, True])
def test_no_grad_keeps_nothing(remat, traced):
    layer = mr.RecurrentLayer(D, H, remat=remat, dtype=np.float64, rng=0)
    x = np.random.default_rng(1).standard_normal((T, N, D))
    with mr.no_grad():
        layer(x)
        before = tracemalloc.get_traced_memory()[0]
        final_state = layer(x).final_state
    assert tracemalloc.get_traced_memory()[0] - before < final_state.data.nbytes + 10_000


# --- the setting -----------------------------------------------------------------------------------------------------


def test_it_is_shown_when_it_is_set():
    assert repr(mr.RecurrentLayer(3, 5, remat=True)).endswith("remat=True, dtype=float32)")
    assert repr(mr.RecurrentLayer(3, 5, remat=np.int64(4))).endswith("remat=4, dtype=float32)")
    assert "remat" not in repr(mr.RecurrentLayer(3, 5, remat=np.False_))


@pytest.mark.parametrize(
    ("remat", "kind", "got"),
    [
        (0, ValueError, "0"),
        (-3, ValueError, "-3"),
        (2.0, TypeError, "2.0 (float)"),
        ("yes", TypeError, "'yes' (str)"),
        (None, TypeError, "None (NoneType)"),
    ],
)
def test_what_is_neither_a_switch_nor_a_length_is_refused(remat, kind, got):
    expected = "RecurrentLayer: remat, unless True or False, must be an int ≥ 1"
    with raises(kind, f"{expected}, got {got}: try True, which keeps √T of T states"):
        mr.RecurrentLayer(3, 5, remat=remat)


def test_the_graph_backend_refuses_it():
    message = (
        "RecurrentLayer: remat needs backend='fused', got 'graph', which keeps every op to be looked into: "
        "leave one of the two out"
    )
    with raises(ValueError, message):
        mr.RecurrentLayer(3, 5, remat=True, backend="graph")
