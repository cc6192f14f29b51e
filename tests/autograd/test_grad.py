"""mr.grad: gradients as values, and gradients of gradients."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import minirnn as mr


def leaf(data, dtype=np.float64):
    return mr.Tensor(np.array(data, dtype), requires_grad=True)


def rng(seed=0):
    return np.random.default_rng(seed)


# --- first order ------------------------------------------------------------------------------------------------------


def test_gradients_come_back_in_the_order_asked_for_and_grad_stays_as_it_was():
    x, y = leaf([1.0, 2.0]), leaf([3.0, 4.0])
    x.grad = before = np.array([7.0, 8.0])
    h = x * y
    h.retain_grad()
    loss = (h * x).sum()
    dy, dh, dx = mr.grad(loss, [y, h, x])
    assert_array_equal(dy.numpy(), [1, 4])
    assert_array_equal(dh.numpy(), [1, 2])
    assert_array_equal(dx.numpy(), [6, 16])
    assert y.grad is h.grad is None
    assert x.grad is before
    assert_array_equal(before, [7, 8])
    assert not any(g.requires_grad for g in (dx, dy, dh))


def test_an_input_that_was_not_reached_gets_zeros_of_its_own_shape_and_dtype():
    x, beside = leaf([1.0]), leaf(np.ones((2, 3)), np.float32)
    of_beside = beside * 2.0
    dx, zero, zero_too = mr.grad(x * 3.0, [x, beside, of_beside])
    assert dx.item() == 3.0
    for z, like in ((zero, beside), (zero_too, of_beside)):
        assert_array_equal(z.numpy(), np.zeros((2, 3)))
        assert z.dtype == like.dtype
        assert not z.requires_grad
    (later,) = mr.grad(x * 3.0, x * 3.0)
    assert_array_equal(later.numpy(), [0])


def test_the_output_itself_a_leaf_and_the_same_input_twice():
    x = leaf([1.0, 2.0])
    g = np.array([3.0, 4.0])
    for output in (x, x * 1.0):
        (same,) = mr.grad(output, output, gradient=g, retain_graph=True)
        assert_array_equal(same.numpy(), g)
        assert not np.shares_memory(same.numpy(), g)
    first, second = mr.grad((x * x).sum(), (x, x))
    assert_array_equal(first.numpy(), second.numpy())
    assert not np.shares_memory(first.numpy(), second.numpy())
    assert mr.grad((x * x).sum(), []) == ()


def test_a_gradient_stops_at_an_input_that_is_not_a_leaf():
    """What is below it is neither visited, used up, nor looked at for changes: back-propagation cut in two at h."""
    x, whole, w, called = leaf([2.0, 3.0]), leaf([2.0, 3.0]), leaf([5.0, 5.0]), []
    mr.tanh(mr.tanh(whole * whole) * 2.0).sum().backward()
    h = mr.tanh(x * x) + 0.0 * w
    below = w * x
    below.register_hook(called.append)
    (dh,) = mr.grad(mr.tanh(h * 2.0).sum() + 0.0 * h.sum(), h)
    assert called == []
    h.backward(dh)
    assert_array_equal(x.grad, whole.grad)
    product = w * x
    loss = (product * product).sum()
    w.data *= 0.5
    (d,) = mr.grad(loss, product)
    assert_array_equal(d.numpy(), [20, 30])


def test_a_used_up_graph_below_the_inputs_is_no_obstacle_but_one_on_the_way_is():
    w = leaf([0.5])
    state = mr.tanh(w * 1.0)
    (state * 2.0).sum().backward()
    carried = mr.sigmoid(state + w)
    (d_state,) = mr.grad(carried.sum(), state, retain_graph=True)
    s = carried.item()
    assert_allclose(d_state.numpy(), [s * (1 - s)], rtol=1e-15)
    for create_graph in (False, True):
        with pytest.raises(mr.FreedGraphError, match="at the output of 'tanh'"):
            mr.grad(carried.sum(), [state, w], create_graph=create_graph)


def test_the_gradient_that_enters_may_be_given():
    x = leaf([1.0, 2.0], np.float32)
    for g in (np.array([10.0, 20.0]), [10.0, 20.0], mr.Tensor([10.0, 20.0])):
        for create_graph in (False, True):
            (dx,) = mr.grad(x * 2.0, x, gradient=g, create_graph=create_graph)
            assert_array_equal(dx.numpy(), [20, 40])
            assert dx.dtype == np.float32


def test_what_comes_back_belongs_to_the_caller():
    x, y, g = leaf([1.0, 2.0]), leaf([1.0, 2.0]), np.ones(2)
    dx, dy = mr.grad(x + y, [x, y], gradient=g)
    dx.data *= 5.0
    assert_array_equal(dy.numpy(), 1)
    assert_array_equal(g, 1)


def test_the_graph_is_used_up_unless_it_is_retained_or_recorded():
    x = leaf([1.0, 2.0])
    loss = (x * x).sum()
    for keep in ({"retain_graph": True}, {"create_graph": True}, {}):
        (g,) = mr.grad(loss, x, **keep)
        assert_array_equal(g.numpy(), [2, 4])
    with pytest.raises(mr.FreedGraphError, match="'sum'"):
        mr.grad(loss, x)


def test_hooks_are_called_and_may_replace_as_in_backward():
    for create_graph in (False, True):
        x = leaf([1.0, 2.0])
        h = x * 2.0
        seen = []
        h.register_hook(lambda g: g * 10.0)
        x.register_hook(lambda g: g + 1.0)
        x.register_hook(seen.append)
        (dx,) = mr.grad((h * h).sum(), x, create_graph=create_graph)
        assert_array_equal(dx.numpy(), [81, 161])
        assert_array_equal(np.asarray(seen[0]), [81, 161])
        if create_graph:
            (ddx,) = mr.grad(dx.sum(), h)  # through the hook when dx was made, and through it again now
            assert_array_equal(ddx.numpy(), [400, 400])


def test_a_changed_parameter_is_refused_here_too_and_again_at_second_order():
    w, x = leaf([[1.0, 2.0], [3.0, 4.0]]), leaf([[1.0, 1.0]])
    for create_graph in (False, True):
        loss = (x @ w).sum()
        w.data *= 0.5
        with pytest.raises(mr.ChangedParameterError, match="'matmul'"):
            mr.grad(loss, x, create_graph=create_graph)
    (g,) = mr.grad(((x @ w) ** 2).sum(), x, create_graph=True)
    w.data *= 0.5
    with pytest.raises(mr.ChangedParameterError):
        (g * g).sum().backward()
    assert w.grad is x.grad is None


def test_what_grad_refuses():
    one, none, shape = leaf(1.0), "does not require a gradient", "grad: gradient must have shape"
    for output, inputs, options, error, says in (
        (one, mr.Tensor(1), {}, ValueError, rf"inputs\[0\] {none}: Tensor"),
        (one, [one, np.ones(2)], {}, ValueError, rf"inputs\[1\] {none}"),
        (mr.Tensor(1.0), one, {}, RuntimeError, "grad: nothing was recorded for this Tensor"),
        (leaf([1.0, 2.0]) * 2, one, {}, ValueError, r"grad: a Tensor of shape \(2,\) needs a"),
        (leaf([1.0]) * 2, one, {"gradient": np.ones(3)}, ValueError, rf"{shape} \(1,\), got \(3,\)"),
        (leaf([1.0]) * 2, one, {"gradient": "a"}, TypeError, "grad: gradient must be an array"),
        (
            leaf([1.0]) * 2,
            one,
            {"gradient": mr.Tensor(np.ones((2, 1))), "create_graph": True},
            ValueError,
            rf"{shape} \(1,\), got \(2, 1\)",
        ),
    ):
        with pytest.raises(error, match=says):
            mr.grad(output, inputs, **options)


# --- higher orders ----------------------------------------------------------------------------------------------------


def test_derivatives_of_third_and_fourth_order():
    def slope(x):
        return 1 - np.tanh(x) ** 2

    for f, derivatives in (
        (lambda x: x**4, [lambda x: 4 * x**3, lambda x: 12 * x**2, lambda x: 24 * x, lambda x: 24 + 0 * x]),
        (lambda x: mr.exp(2.0 * x), [lambda x, k=k: 2**k * np.exp(2 * x) for k in (1, 2, 3, 4)]),
        (mr.log, [lambda x: 1 / x, lambda x: -(x**-2.0), lambda x: 2 * x**-3.0, lambda x: -6 * x**-4.0]),
        (lambda x: 1.0 / x, [lambda x: -(x**-2.0), lambda x: 2 * x**-3.0, lambda x: -6 * x**-4.0]),
        (mr.tanh, [slope, lambda x: -2 * np.tanh(x) * slope(x), lambda x: (6 * np.tanh(x) ** 2 - 2) * slope(x)]),
    ):
        x = leaf([0.5, 1.5])
        y = f(x)
        for order, expected in enumerate(derivatives, 1):
            (y,) = mr.grad(y.sum(), x, create_graph=True)
            assert_allclose(y.numpy(), expected(x.data), rtol=1e-12, err_msg=f"order {order}")


def test_the_gradient_of_something_linear_is_a_constant():
    x = leaf([1.0, 2.0])
    (g,) = mr.grad((3.0 * x).sum(), x, create_graph=True)
    assert not g.requires_grad
    (g,) = mr.grad((x * x).sum(), x, create_graph=True)
    assert g.requires_grad


def test_a_penalty_on_the_gradient_can_be_trained_with_backward():
    w, x = leaf(rng().normal(size=(3, 2)) * 0.5), leaf(rng(1).normal(size=(4, 3)))

    def penalised(w):
        loss = (mr.tanh(x @ w) ** 2).sum()
        (dx,) = mr.grad(loss, x, create_graph=True)
        return loss + ((dx * dx).sum(axis=1) - 1.0).relu().sum() + (dx**2).sum()

    mr.gradcheck(penalised, w)
    x.grad = w.grad = None
    penalised(w).backward()
    (expected,) = mr.grad(penalised(w), w)
    assert_array_equal(w.grad, expected.numpy())


def network(w, u, b, x):
    h = mr.Tensor(np.zeros((2, 3)))
    for t in range(4):
        h = mr.tanh(x[t] @ w + h @ u + b)
    logits = mr.log_softmax(h)
    return (logits * logits).mean() + mr.logsumexp(h @ u)


def loop_loss():
    x = rng(9).normal(size=(4, 2, 2))
    leaves = [leaf(rng(k).normal(size=s) * 0.7) for k, s in enumerate([(2, 3), (3, 3), (3,)])]
    return lambda: network(*leaves, x), leaves


def layer_loss(backend):
    layer = mr.RecurrentLayer(2, 3, backend=backend, dtype=np.float64, rng=3)
    x, h0 = leaf(rng(1).normal(size=(4, 2, 2))), leaf(rng(2).normal(size=(2, 3)))
    v, u = rng(3).normal(size=(4, 2, 3)), rng(4).normal(size=(2, 3))

    def loss():
        outputs, final = layer(x, h0)
        return (outputs**2 * v).sum() + (mr.exp(final) * u).sum()

    return loss, [*layer.parameters(), x, h0]


def test_hessian_vector_products_agree_with_the_difference_of_two_gradients():
    loss, leaves = loop_loss()
    direction = [rng(50 + i).normal(size=t.shape) for i, t in enumerate(leaves)]
    gradients = mr.grad(loss(), leaves, create_graph=True)
    along = sum((g * d).sum() for g, d in zip(gradients, direction, strict=True))
    hvp = mr.grad(along, leaves)
    eps, sides = 1e-5, []
    for sign in (1, -1):
        for t, d in zip(leaves, direction, strict=True):
            t.data = t.data + sign * eps * d
        sides.append(mr.grad(loss(), leaves))
        for t, d in zip(leaves, direction, strict=True):
            t.data = t.data - sign * eps * d
    for t, ours, plus, minus in zip(leaves, hvp, *sides, strict=True):
        assert_allclose(ours.numpy(), (plus.numpy() - minus.numpy()) / (2 * eps), rtol=1e-6, atol=1e-7)
        assert ours.shape == t.shape
        assert t.grad is None


def test_third_order_through_the_fused_layer_equals_that_through_the_graph():
    results = []
    for backend in ("graph", "fused"):
        loss, leaves = layer_loss(backend)
        g = mr.grad(loss(), leaves, create_graph=True)
        h = mr.grad(sum((v * v).sum() for v in g), leaves, create_graph=True)
        third = mr.grad(sum((v * v).sum() for v in h), leaves)
        results.append([t.numpy() for t in third])
    for ours, expected in zip(results[1], results[0], strict=True):
        assert_allclose(ours, expected, rtol=1e-9, atol=1e-9)
        assert np.abs(expected).max() > 0


@pytest.mark.parametrize("backend", ["graph", "fused"])
def test_what_create_graph_asks_for_is_recorded_within_no_grad_too(backend):
    layer = mr.RecurrentLayer(2, 3, backend=backend, dtype=np.float64, rng=0)
    x = np.random.default_rng(1).standard_normal((4, 2, 2))
    loss = (layer(x).outputs ** 2).sum()
    with mr.no_grad():
        (g,) = mr.grad(loss, layer.W_hh, create_graph=True)
        assert not (g * 2.0).requires_grad
    (h,) = mr.grad((g * g).sum(), layer.W_hh)
    (expected,) = mr.grad((layer(x).outputs ** 2).sum(), layer.W_hh, create_graph=True)
    (twice,) = mr.grad((expected * expected).sum(), layer.W_hh)
    np.testing.assert_allclose(h, twice, rtol=1e-12)
