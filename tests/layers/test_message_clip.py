"""message_clip: no row of dL/dH_t goes back with a norm above the bound, at any step, in kernel and graph alike."""

import numpy as np
import pytest
from recurrent_cases import (
    BACKENDS,
    KINDS,
    Problem,
    assert_equal,
    each,
    flat,
    grid,
    leaf,
)  # fmt: skip

import minirnn as mr
from minirnn import textbook

T, N, *_ = SHAPE = 7, 4, 2, 5
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
