"""One step on plain arrays, where nothing is recorded: the same numbers as op by op, and nothing written into."""

import itertools

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import minirnn as mr
from minirnn.cells import cell
from minirnn.kernels.step import STEPS

N, D, H = 3, 2, 5
KINDS = {
    "tanh": (mr.RecurrentLayer, {}),
    "relu": (mr.RecurrentLayer, {"activation": "relu"}),
    "sigmoid": (mr.RecurrentLayer, {"activation": "sigmoid"}),
    "identity": (mr.RecurrentLayer, {"activation": "identity"}),
    "a pair": (mr.RecurrentLayer, {"activation": (np.sin, lambda y: (1.0 - y * y) ** 0.5)}),
    "lstm": (mr.LSTMLayer, {}),
    "gru": (mr.GRULayer, {}),
    "gru, reset before": (mr.GRULayer, {"reset_after": False}),
}


def case(kind, bias=True, dtype=np.float64, scale=1.0, rows=N):
    """Return a layer with weights and biases drawn, x_t and a state as arrays."""
    make, options = KINDS[kind]
    layer, rng = make(D, H, bias=bias, dtype=dtype, **options), np.random.default_rng(0)
    for p in layer.parameters():
        p.data = rng.normal(size=p.shape).astype(dtype)
    x, h, c = ((scale * rng.normal(size=(rows, k))).astype(dtype) for k in (D, H, H))
    return layer, x, (h, c) if kind == "lstm" else h


def arrays(state):
    return [s.numpy() if isinstance(s, mr.Tensor) else s for s in (state if isinstance(state, tuple) else (state,))]


@pytest.mark.parametrize(("kind", "bias", "rows"), [*itertools.product(KINDS, [True, False], [1, N])])
def test_the_numbers_are_those_of_the_ops(kind, bias, rows, monkeypatch):
    layer, x, state = case(kind, bias, rows=rows)
    before = [a.copy() for a in (x, *arrays(state), *(p.data for p in layer.parameters()))]
    wanted = layer.step(x, state)
    monkeypatch.setattr(type(layer), "graph_step", None)  # it is not asked
    with mr.no_grad():
        found = layer.step(x, state)
        again = layer.step(mr.Tensor(x), found)
        assert not flat_requires(again)
    assert type(found) is type(wanted)
    for a, b in zip(arrays(found), arrays(wanted), strict=True):
        assert_allclose(a, b, rtol=0, atol=1e-14)
    for a, b in zip((x, *arrays(state), *(p.data for p in layer.parameters())), before, strict=True):
        assert_array_equal(a, b)
    given = [x, *arrays(state), *(p.data for p in layer.parameters())]
    assert not any(np.shares_memory(a, b) for a in arrays(found) for b in given)


def flat_requires(state):
    return any(s.requires_grad for s in (state if isinstance(state, tuple) else (state,)))


@pytest.mark.parametrize("kind", KINDS)
def test_a_frozen_layer_steps_on_arrays_too_and_one_that_learns_does_not(kind, monkeypatch):
    layer, x, state = case(kind)
    assert flat_requires(layer.step(x, state))
    for p in layer.parameters():
        p.requires_grad = False
    assert flat_requires(layer.step(mr.Tensor(x, requires_grad=True), state))
    wanted = layer.step(x, state)
    monkeypatch.setattr(type(layer), "graph_step", None)
    for a, b in zip(arrays(layer.step(x, state)), arrays(wanted), strict=True):
        assert_array_equal(a, b)


@pytest.mark.parametrize("kind", ["sigmoid", "lstm", "gru", "gru, reset before"])
def test_far_out_a_gate_is_shut_without_a_warning(kind):
    layer, x, state = case(kind, dtype=np.float32, scale=1000.0)
    with mr.no_grad():
        found = layer.step(x, state)
    assert all(a.dtype == np.float32 and np.isfinite(a).all() for a in arrays(found))
    assert_allclose(arrays(found)[0], arrays(layer.step(x, state))[0], rtol=1e-5, atol=1e-6)


def test_every_built_in_kernel_has_a_step():
    kinds = [make(D, H, **options)._kernel for make, options in KINDS.values()]
    assert {type(kernel) for kernel in kinds} == set(STEPS)


def test_other_cells_and_settings_go_op_by_op_and_what_observes_sees_it():
    class Half(cell.Cell):
        def equation(self, z, h):
            return (0.5 * z + 0.5 * h,)

    x, h = np.ones((N, D)), np.ones((N, H))
    for layer in (
        mr.RecurrentLayer(D, H, cell=Half(), dtype=np.float64),
        mr.GRULayer(D, H, zoneout=0.5, dtype=np.float64),
    ):
        wanted = layer.eval().step(x, h)
        with mr.no_grad():
            assert_array_equal(layer.step(x, h).numpy(), wanted.numpy())
    layer, x, state = case("gru")
    seen = []
    with mr.no_grad(), mr.autograd.modes.observing(lambda op, *_: seen.append(op.name)):
        layer.step(x, state)
    assert "matmul" in seen
