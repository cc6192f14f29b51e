"""Derivatives as functions: against central differences, each other, and jax."""

import numpy as np
import pytest
from error_texts import raises
from numpy.testing import assert_allclose, assert_array_equal

import minirnn as mr

rng = np.random.default_rng(0)
T, N, D, H = 4, 2, 3, 5
x = rng.normal(size=(T, N, D))


def layer_of(cell, **settings):
    return cell(D, H, dtype=np.float64, rng=1, **settings)


LAYERS = [mr.RecurrentLayer, mr.LSTMLayer, mr.GRULayer]


@pytest.mark.parametrize("cell", LAYERS)
@pytest.mark.parametrize("backend", ["fused", "graph"])
def test_all_five_agree_on_layers(cell, backend):
    layer = layer_of(cell, backend=backend)

    def outputs(x):
        return layer(x).outputs[-1]

    def loss(x):
        return (layer(x).outputs ** 2).sum()

    v, u = rng.normal(size=x.shape), rng.normal(size=(N, H))
    J, Hess = mr.jacobian(outputs, x).numpy(), mr.hessian(loss, x).numpy()
    assert J.shape == (N, H, T, N, D)
    assert Hess.shape == (T, N, D, T, N, D)
    y, back = mr.vjp(outputs, x)
    assert_array_equal(y.numpy(), outputs(x).numpy())
    assert_allclose(back(u).numpy(), np.tensordot(u, J, 2), rtol=1e-12, atol=1e-13)
    y, along = mr.jvp(outputs, x, v)
    assert_array_equal(y.numpy(), outputs(x).numpy())
    assert_allclose(along.numpy(), np.tensordot(J, v, 3), rtol=1e-12, atol=1e-13)
    assert_allclose(mr.hvp(loss, x, v).numpy(), np.tensordot(Hess, v, 3), rtol=1e-11, atol=1e-12)
    flat = Hess.reshape(x.size, x.size)
    assert_allclose(flat, flat.T, rtol=1e-11, atol=1e-13)
    eps = 1e-6
    difference = (outputs(x + eps * v).numpy() - outputs(x - eps * v).numpy()) / (2 * eps)
    assert_allclose(along.numpy(), difference, rtol=1e-7, atol=1e-8)


def test_several_and_parameters_that_f_uses_by_other_ways():
    layer = layer_of(mr.RecurrentLayer)
    parameters = layer.parameters()

    def loss(*_):
        return (layer(x).outputs ** 2).sum()

    H = mr.hessian(loss, parameters)
    v = [rng.normal(size=p.shape) for p in parameters]
    product = mr.hvp(loss, parameters, v)
    for i, p in enumerate(parameters):
        total = sum(np.tensordot(H[i][j].numpy(), v[j], v[j].ndim) for j in range(3))
        assert_allclose(product[i].numpy(), total, rtol=1e-11, atol=1e-12)
        assert H[i][0].shape == (*p.shape, *parameters[0].shape)
        assert p.grad is None
    a, b = mr.jacobian(lambda a, b: a * b, (np.array([1.0, 2.0]), np.array([3.0, 4.0])))
    assert a.tolist() == [[3, 0], [0, 4]]
    assert b.tolist() == [[1, 0], [0, 2]]
    y, along = mr.jvp(lambda a, b: (a * b).sum(), (2.0, 5.0), (1.0, 10.0))
    assert (y.item(), along.item()) == (10, 25)


def test_what_does_not_depend_on_x_has_derivative_0_and_no_grad_is_no_obstacle():
    constant = mr.Tensor([1.0, 2.0])
    with mr.no_grad():
        assert mr.jacobian(lambda x: constant, [1.0]).tolist() == [[0], [0]]
        assert mr.hessian(lambda x: x.sum(), [1.0, 2.0]).tolist() == [[0, 0], [0, 0]]
        assert mr.jvp(lambda x: constant, [1.0], [1.0])[1].tolist() == [0, 0]
        assert mr.vjp(lambda x: x * 2, [1.0])[1]([3.0]).tolist() == [6]


@pytest.mark.peer
@pytest.mark.parametrize("cell", LAYERS)
def test_they_are_jax_s(cell):
    jax = pytest.importorskip("jax")
    jnp = jax.numpy
    layer = layer_of(cell)
    weights = {name: p.numpy() for name, p in layer.named_parameters()}

    def step(state, x_t):
        h, c = state
        zx, zh = x_t @ weights["W_xh"] + weights["b_h"], h @ weights["W_hh"]
        if cell is mr.RecurrentLayer:
            h = jnp.tanh(zx + zh)
        elif cell is mr.LSTMLayer:
            i, f, g, o = jnp.split(zx + zh, 4, axis=-1)
            c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
            h = jax.nn.sigmoid(o) * jnp.tanh(c)
        else:
            (xr, xz, xn), (hr, hz, hn) = jnp.split(zx, 3, axis=-1), jnp.split(zh, 3, axis=-1)
            z = jax.nn.sigmoid(xz + hz)
            n = jnp.tanh(xn + jax.nn.sigmoid(xr + hr) * (hn + weights["b_hn"]))
            h = (1 - z) * n + z * h
        return (h, c), h

    def theirs(x):
        zeros = jnp.zeros((N, H))
        return (jax.lax.scan(step, (zeros, zeros), x)[1] ** 2).sum(axis=(0, 2))

    def ours(x):
        return (layer(x).outputs ** 2).sum(axis=(0, 2))

    with jax.enable_x64(True):
        given, v = jnp.asarray(x), rng.normal(size=x.shape)
        assert_allclose(mr.jacobian(ours, x).numpy(), jax.jacobian(theirs)(given), rtol=1e-11, atol=1e-12)
        hessian = jax.hessian(lambda x: theirs(x).sum())(given)
        assert_allclose(mr.hessian(lambda x: ours(x).sum(), x).numpy(), hessian, rtol=1e-10, atol=1e-11)
        assert_allclose(mr.jvp(ours, x, v)[1].numpy(), jax.jvp(theirs, (given,), (jnp.asarray(v),))[1], rtol=1e-11)


REFUSED = [
    (ValueError, lambda: mr.hessian(lambda x: x, [1.0, 2.0]),
     "hessian: f must return one number, got shape (2,): try its "
     "sum, or jacobian"),
    (TypeError, lambda: mr.jacobian(lambda x: 1.0, [1.0]), "jacobian: f must return one Tensor, got 1.0 (float): of a "
     "layer's, try outputs, or stack them"),
    (ValueError, lambda: mr.jacobian(lambda x: mr.vjp(mr.sin, x)[1](1.0), 0.5),
     "vjp: x must be constants within a function that is itself differentiated, since what is returned are: try "
     "hessian, or mr.grad(…, create_graph=True), or x.detach() if nothing should flow"),
    (ValueError, lambda: mr.jvp(lambda x: x, [1.0], [1.0, 2.0]), "jvp: v must have shape (1,), got (2,)"),
    (ValueError, lambda: mr.hvp(lambda a, b: a, (1.0, 2.0), 1.0),
     "hvp: v must have one direction for each of 2 x, got 1.0 "
     "(float)"),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "call", "message"), REFUSED)
def test_what_is_refused(kind, call, message):
    with raises(kind, message):
        call()
