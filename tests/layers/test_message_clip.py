"""message_clip: no row of dL/dH_t goes back with a norm above the bound, at any step, in kernel and graph alike."""

import numpy as np
import pytest
from recurrent_cases import (
    BACKENDS,
    KINDS,
    Problem,
    assert_equal,
    each,
    evaluate,
    flat,
    grid,
    leaf,
    relative_error,
)  # fmt: skip

import minirnn as mr
from minirnn import textbook

T, N, D, H = SHAPE = 7, 4, 2, 5
LENGTHS, RESET = [3, 7, 1, 6], np.random.default_rng(0).random((T, N)) < 0.3
SEQUENCES = {"full": {}, "both": {"lengths": LENGTHS, "reset": RESET}}
kinds = pytest.mark.parametrize("kind", KINDS)
backends = pytest.mark.parametrize("backend", BACKENDS)


def given(problem, backend="fused", **options):
    """A layer, and the x, state, v and u for it."""
    return problem.layer(backend, **options), problem.x, problem.state, problem.v, problem.u


def clip(d, bound):
    """Scale each row whose norm exceeds the bound to it."""
    norm = np.sqrt((d**2).sum(axis=1, keepdims=True))
    return d * np.where(norm > bound, bound / norm, 1)


# --- kernel and graph -------------------------------------------------------------------------------------------------


@grid(kind=KINDS, reverse=[False, True], bound=[0.01, 0.7, 1.5], dtype=[np.float64, np.float32], remat=[False, True, 2],
      sequences=["full", "lengths", "reset", "both"])  # fmt: skip
def test_fused_is_graph(point):
    point = dict(point)
    call = {name: of for name, of in SEQUENCES["both"].items() if point["sequences"] in (name, "both")}
    problem = Problem(point["kind"], SHAPE, reverse=point["reverse"], dtype=point["dtype"])
    bound = {"message_clip": point["bound"]}
    exact = problem.run(problem.layer("graph", **bound), **call)
    found = problem.run(problem.layer(remat=point["remat"], **bound), **call)
    assert relative_error(exact["W_hh"], problem.run("graph", **call)["W_hh"]) > 0.05  # it does something
    assert {value.dtype for value in found.values()} == {np.dtype(point["dtype"])}
    assert_equal(found, exact, 1e-12 if point["dtype"] == np.float64 else 5e-5)


# --- by hand ----------------------------------------------------------------------------------------------------------


@grid(kind=["tanh", "relu", "sigmoid", "identity"], bound=[0.05, 1.0], reverse=[False, True], backend=BACKENDS)
def test_elman_by_hand(point):
    """The total dL/dH_t, from the output and from the step after it, is clipped row by row; dL/dH_0 is not."""
    activation, bound, reverse = point["kind"], point["bound"], point["reverse"]
    problem = Problem(activation, SHAPE, reverse=reverse)
    layer, x, h0, v, (u,) = given(problem, point["backend"], message_clip=bound)
    W_xh, W_hh, b_h = (p.data for p in layer.parameters())
    slope = {
        "tanh": lambda y: 1 - y * y,
        "relu": lambda y: y > 0,
        "sigmoid": lambda y: y * (1 - y),
        "identity": np.ones_like,
    }
    turn = slice(None, None, -1 if reverse else 1)
    hs = textbook.unroll(textbook.layer_step_batch, x[turn], h0, W_xh, W_hh, b_h, activation=activation)
    before = [h0, *hs[:-1]]
    exact = {"outputs": hs[turn], "final 0": hs[-1], "x": np.zeros_like(x)}
    exact |= {"W_xh": 0, "W_hh": 0, "b_h": 0}
    d, times, norms = u, 0, []
    for t in reversed(range(T)):
        d = d + v[turn][t]
        times += (np.linalg.norm(d, axis=1) > bound).sum()
        d = clip(d, bound)
        norms.append(np.linalg.norm(d, axis=1).max())
        dz = d * slope[activation](hs[t])
        exact["x"][turn][t] = dz @ W_xh.T
        exact["W_xh"] = exact["W_xh"] + x[turn][t].T @ dz
        exact["W_hh"] = exact["W_hh"] + before[t].T @ dz
        exact["b_h"] = exact["b_h"] + dz.sum(axis=0)
        d = dz @ W_hh.T
    exact["initial 0"] = d
    assert times > 3
    assert max(norms) <= bound * (1 + 1e-15)
    assert_equal(problem.run(layer), exact)


# --- what it leaves as it is ------------------------------------------------------------------------------------------


@backends
@kinds
def test_the_forward_pass_and_a_bound_that_is_never_reached_change_nothing(kind, backend):
    """Bit for bit; but the fused Elman layer without a clip has kernels of its own."""
    tolerance, problem = 1e-14 if (kind, backend) == ("tanh", "fused") else 0, Problem(kind, SHAPE)
    for call in SEQUENCES.values():
        plain = problem.run(backend, **call)
        for bound in (1e4, 1e300):
            assert_equal(problem.run(problem.layer(backend, message_clip=bound), **call), plain, tolerance)
        clipped = problem.run(problem.layer(backend, message_clip=1e-3), **call)
        for name in ("outputs", *(name for name in plain if name.startswith("final"))):
            np.testing.assert_allclose(clipped[name], plain[name], rtol=0, atol=1e-15)


@grid(kind=KINDS, backend=BACKENDS)
def test_each_row_is_clipped_on_its_own(point):
    """A loss a thousand times as steep in row 2 changes nothing in the others."""
    kind, problem = point["kind"], Problem(point["kind"], SHAPE)
    layer, x, state, v, u = given(problem, point["backend"], message_clip=0.5)
    steep, expected = (np.arange(N) == 2)[:, None] * 999.0 + 1, problem.run(layer)
    found = evaluate(layer, x, state, v * steep, [w * steep for w in u])
    for name in ("x", "initial 0"):
        one, two = (np.moveaxis(of[name], -2, 0) for of in (found, expected))  # rows first
        np.testing.assert_allclose(one[[0, 1, 3]], two[[0, 1, 3]], rtol=1e-12)
        assert not np.allclose(one[2], two[2])
        assert np.abs(one[2]).max() < 100 or kind in ("lstm", "two states")  # there, through c


@backends
@pytest.mark.parametrize("bad", [np.inf, -np.inf, np.nan])
def test_what_is_not_finite_stays_as_it_is(bad, backend):
    """One neuron, so that the message is a number: scaled to the bound, an inf would be inf · 0 = NaN."""
    layer = mr.RecurrentLayer(1, 1, activation="identity", message_clip=2.0, backend=backend, dtype=np.float64, rng=0)
    layer.W_xh.data, layer.W_hh.data = [[1.0]], [[1.0]]
    x, h0 = leaf(np.ones((3, 2, 1))), leaf(np.ones((2, 1)))
    outputs, _ = layer(x, h0)
    gradient = np.zeros((3, 2, 1))
    gradient[2, :, 0] = bad, 5
    outputs.backward(gradient)
    np.testing.assert_array_equal(h0.grad, [[bad], [2.0]])
    np.testing.assert_array_equal(x.grad, [[[bad], [2.0]]] * 3)


@grid(kind=KINDS, backend=BACKENDS)
def test_the_padding_stays_out_of_it(point):
    """NaN in x and in the gradients there, and the bound reached everywhere else."""
    layer, x, state, v, _ = given(Problem(point["kind"], SHAPE), point["backend"], message_clip=0.1)
    padding, found = (np.arange(T)[:, None] >= LENGTHS)[..., None], []
    for garbage in (0.0, np.nan):
        layer.zero_grad()
        leaves = leaf(np.where(padding, garbage, x)), each(leaf, state)
        layer(*leaves, LENGTHS).outputs.backward(np.where(padding, garbage, v))
        found.append([t.grad for t in flat(leaves)] + [p.grad for p in layer.parameters()])
    for a, b in zip(*found, strict=True):
        np.testing.assert_array_equal(a, b)
        assert np.isfinite(a).all()


# --- second order, and composites -------------------------------------------------------------------------------------

REFUSED = (
    "create_graph: a message that is clipped has no second derivative: leave message_clip out for it, or clip the "
    "gradients of the parameters with clip_grad_norm instead"
)


@backends
@kinds
def test_create_graph_is_refused(kind, backend):
    """Also where the bound would not be reached: that cannot be known beforehand."""
    problem = Problem(kind, SHAPE)
    for bound, call in zip((0.1, 1e9), SEQUENCES.values(), strict=True):
        inputs, _, f = problem.inputs(problem.layer(backend, message_clip=bound))
        loss = (f(**call).outputs * problem.v).sum()
        with pytest.raises(RuntimeError) as info:
            mr.grad(loss, inputs, create_graph=True)
        assert str(info.value) == REFUSED
        assert all(t.grad is None for t in inputs)
        loss.backward()  # the first order is still there
        assert inputs[0].grad.any()
