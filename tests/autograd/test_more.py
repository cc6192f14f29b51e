"""The functions beside the core: numpy's values where numpy has them, torch's where torch has, and both orders."""

import math

import numpy as np
import pytest
from error_texts import raises
from notes import noted
from numpy.testing import assert_allclose, assert_array_equal

import minirnn as mr

rng = np.random.default_rng(0)
a, b, c = rng.normal(size=(3, 4)), rng.normal(size=(4, 2)), rng.normal(size=(2, 3, 4))
zeros = np.array([[1.5, 0.0, -2.0], [0.0, 0.0, 3.0]])
square = rng.normal(size=(3, 3))

CASES = [  # name, arguments: floats are differentiated; keywords; numpy's function if not of this name
    ("var", (a,), {}), ("var", (c, (0, 2)), {"keepdims": True}), ("var", (a, 1), {"ddof": 1}),
    ("std", (a,), {}), ("std", (c, 1), {"ddof": 1}),
    ("prod", (zeros,), {}), ("prod", (zeros, 0), {}), ("prod", (zeros, -1), {"keepdims": True}),
    ("prod", (c, (2, 0)), {}), ("cumsum", (c,), {}), ("cumsum", (c, -2), {}),
    ("moveaxis", (c, 0, -1), {}), ("moveaxis", (c, (2, 0), (0, 1)), {}), ("ravel", (c,), {}),
    ("take", (c, np.array([5, 0, 5]), None), {}), ("take", (c, np.array([[1, 0], [1, 1]]), 1), {}),
    ("repeat", (a, 2), {}), ("repeat", (a, [2, 0, 1], 0), {}), ("repeat", (a, 3, -1), {}),
    ("tile", (a, 2), {}), ("tile", (a, (2, 1, 3)), {}), ("tile", (c, np.int64(2)), {}),
    ("pad", (a, 1), {}), ("pad", (a, (1, 2)), {}), ("pad", (a, ((0, 1), (2, 0))), {}),
    ("dot", (a, b), {}), ("dot", (a[0], a[1]), {}), ("dot", (c, b), {}), ("dot", (b.T, c.swapaxes(1, 2)), {}),
    ("dot", (a[0], c.swapaxes(1, 2)), {}), ("outer", (a, b), {}),
    ("tensordot", (c, c), {"axes": ([0, 2], [0, 2])}), ("tensordot", (a, b), {"axes": 1}),
    ("tensordot", (a, b), {"axes": 0}), ("tensordot", (c, a), {}), ("tensordot", (c, b), {"axes": (-1, 0)}),
]  # fmt: skip

SUBSCRIPTS = [
    ("ij,jk->ik", a, b), ("ij,jk", a, b), ("ij->ji", a), ("ij->", a), ("ii->i", square), ("ii", square),
    ("ij,ij->i", a, a), ("nij,jk->nik", c, b),
    ("nij,nkj->nik", c, c), ("ij,jk,lk->il", a, b, b), ("i,j->ij", a[0], b[0]), ("nij->n", c),
    ("...j,jk->...k", c, b), ("...ij,...ij->...", c, a), ("...", c), ("i...->...", c), ("iij->ij", c[:, :2]),
    ("ij,kl->", a, b), ("ij , jk -> ki", a, b), ("nij,ij,j->n", c, a, a[0]),
    ("...j,...jk->...k", c[:, :1], c.swapaxes(1, 2)[:1]),
]  # fmt: skip


def tensors(values):
    return [
        mr.Tensor(x, requires_grad=True) if isinstance(x, np.ndarray) and x.dtype.kind == "f" else x for x in values
    ]


def both_orders(function, arguments):
    """Check first and second order against central differences."""
    given = tensors(arguments)
    wanted = [t for t in given if isinstance(t, mr.Tensor) and t.size]
    if not wanted:
        return
    mr.gradcheck(lambda *_: function(*given), wanted)

    def gradients(*_):
        y = function(*given)
        return mr.grad((y * y).sum(), wanted, create_graph=True)

    mr.gradcheck(gradients, wanted, atol=1e-6)


@pytest.mark.parametrize("name", sorted({name for name, _, _ in CASES}))
def test_values_are_numpy_s_which_leads_here_and_both_orders_are_right(name):
    for of, arguments, keywords in CASES:
        if of != name:
            continue
        with noted((of, [np.shape(x) for x in arguments], keywords)):
            expected = getattr(np, name)(*arguments, **keywords)
            for function in (getattr(mr, name), getattr(np, name)):
                y = function(*tensors(arguments), **keywords)
                assert isinstance(y, mr.Tensor)
                assert y.requires_grad
                assert_allclose(y.numpy(), expected, rtol=1e-13, atol=1e-14)
                assert y.shape == np.shape(expected)
            both_orders(lambda *given: getattr(mr, name)(*given, **keywords), arguments)  # noqa: B023


@pytest.mark.parametrize(("subscripts", "operands"), [(s, x) for s, *x in SUBSCRIPTS])
def test_einsum_is_numpy_s(subscripts, operands):
    y = mr.einsum(subscripts, *tensors(operands))
    assert_allclose(y.numpy(), np.einsum(subscripts, *operands), rtol=1e-12, atol=1e-13)
    assert_array_equal(np.einsum(subscripts, *tensors(operands)).numpy(), y.numpy())
    both_orders(lambda *given: mr.einsum(subscripts, *given), operands)


def test_joined_rows_and_columns():
    for name, parts in (
        ("vstack", (a, a[0], a[:2])),
        ("vstack", (a[0, 0], a[:, :1])),
        ("hstack", (a, a[:, :1])),
        ("hstack", (a[0], a[1, :2])),
    ):
        given = tensors(parts)
        expected = getattr(np, name)(parts)
        assert_array_equal(getattr(mr, name)(given).numpy(), expected)
        assert_array_equal(getattr(np, name)(given).numpy(), expected)
        both_orders(lambda *given: getattr(mr, name)(given), parts)  # noqa: B023


ACTIVATIONS = [
    ("leaky_relu", {"slope": 0.2}, "leaky_relu", {"negative_slope": 0.2}),
    ("elu", {"alpha": 0.7}, "elu", {"alpha": 0.7}), ("silu", {}, "silu", {}), ("gelu", {}, "gelu", {}),
    ("gelu", {"approximate": "tanh"}, "gelu", {"approximate": "tanh"}),
]  # fmt: skip


@pytest.mark.peer
@pytest.mark.parametrize(("name", "settings", "theirs", "their_settings"), ACTIVATIONS)
def test_activations_are_torch_s(name, settings, theirs, their_settings):
    torch = pytest.importorskip("torch")
    x = np.concatenate([np.linspace(-9, 9, 60), [0.0]])
    given, other = mr.Tensor(x, requires_grad=True), torch.tensor(x, requires_grad=True)
    y, expected = getattr(mr, name)(given, **settings), getattr(torch.nn.functional, theirs)(other, **their_settings)
    assert_allclose(y.numpy(), expected.detach().numpy(), rtol=1e-12, atol=1e-15)
    y.sum().backward()
    expected.sum().backward()
    inner = slice(None, -1) if name in ("leaky_relu", "elu") else slice(None)  # at the corner torch takes the left side
    assert_allclose(given.grad[inner], other.grad.numpy()[inner], rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize(("name", "settings"), [(name, settings) for name, settings, _, _ in ACTIVATIONS])
def test_activations_in_both_orders_and_dtypes(name, settings):
    both_orders(lambda x: getattr(mr, name)(x, **settings), [np.linspace(-3, 3, 8)])
    assert getattr(mr, name)(np.ones(3, np.float32), **settings).dtype == np.float32


def test_the_lower_tail_of_gelu_is_kept():
    x = -8.0
    assert_allclose(mr.gelu(np.array([x])).numpy(), [x * 0.5 * math.erfc(8 / math.sqrt(2))], rtol=1e-14)


def test_elu_goes_through_0_smoothly():
    (slope,) = mr.grad(mr.elu(t := mr.Tensor([0.0, 1e-9, -1e-9], requires_grad=True)).sum(), t)
    assert slope.tolist() == pytest.approx([1.0, 1.0, 1.0], abs=1e-6)


def test_where_nothing_varies_the_gradient_is_0():
    for function, value in ((mr.std, 2.0), (mr.norm, 0.0)):
        x = mr.Tensor(np.full(3, value), requires_grad=True)
        y = function(x)
        (g,) = mr.grad(y, x, create_graph=True)
        assert (y.item(), g.numpy().tolist()) == (0, [0, 0, 0])
        assert mr.grad(g.sum(), x)[0].numpy().tolist() == [0, 0, 0]
    assert_allclose(mr.norm(a, axis=1).numpy(), np.linalg.norm(a, axis=1), rtol=1e-15)
    assert_allclose(np.linalg.norm(mr.Tensor(a)).item(), np.linalg.norm(a), rtol=1e-15)
    both_orders(mr.norm, [a])
    assert mr.prod(np.zeros((0, 2)), 0).tolist() == [1, 1]


def test_methods():
    t = mr.Tensor(a.copy(), requires_grad=True)
    for name in (
        "square",
        "sin",
        "cos",
        "expm1",
        "var",
        "std",
        "norm",
        "prod",
        "cumsum",
        "flatten",
        "ravel",
        "softmax",
    ):
        assert_array_equal(getattr(t, name)().numpy(), getattr(mr, name)(t).numpy())
    assert t.argmax() == a.argmax()
    assert t.argmin(axis=0).tolist() == mr.argmin(t, 0).tolist() == a.argmin(0).tolist()
    assert t.tolist() == a.tolist()
    copied = t.copy()
    assert not np.shares_memory(copied.numpy(), t.numpy())
    (3 * copied).sum().backward()
    assert (t.grad == 3).all()
    assert +t is t


def test_steps_are_constants_and_the_rest_is_not():
    t = mr.Tensor([2.5, -2.5], requires_grad=True)
    assert (t // 2).tolist() == [1, -2]
    assert (7 // t).tolist() == [2, -3]
    assert t.round().tolist() == mr.round(t).tolist() == [2, -2]
    assert not (t // 2).requires_grad
    assert not np.round(t, 1).requires_grad
    assert (t % 2).tolist() == [0.5, 1.5]
    assert (7 % t).tolist() == [2.0, -0.5]
    (7 % t).sum().backward()
    assert t.grad.tolist() == [-2, 3]  # −⌊7/t⌋


REFUSED = [
    (ValueError, lambda: mr.var(a, ddof=12), "var: x must have more than ddof=12 entries along axis None, got 12"),
    (ValueError, lambda: mr.gelu(a, "erf"), "gelu: approximate must be one of 'none', 'tanh', got 'erf'"),
    (ValueError, lambda: mr.pad(a, (1, 2, 3)),
     "pad: pad_width must be ints ≥ 0, one, (before, after), or such a pair for "
     "each of 2 axes, got (1, 2, 3)"),
    (ValueError, lambda: np.linalg.norm(mr.Tensor(a), 1),
     "norm: ord must be None, √(Σ x²), got 1: try mr.abs(x).sum() or "
     ".max()"),
    (ValueError, lambda: mr.take(a, [0], axis=2), "take: axis 2 is out of bounds for array of dimension 2"),
    (ValueError, lambda: mr.prod(a, (0, -2)), "repeated axis in `prod` argument"),
    (ValueError, lambda: mr.tensordot(a, a, ((0, 3), (0, 1))),
     "tensordot: axis 3 is out of bounds for array of dimension 2"),
    (ValueError, lambda: mr.tensordot(a, a, ((0, 1), (0,))),
     "tensordot: axes must be as many of a as of b, got 2 and 1"),
    (ValueError, lambda: mr.einsum("...i->i", a),
     "einsum: the output of '...i->i' must have the dots of the inputs, ..."),
    (ValueError, lambda: mr.einsum("ij,jk", a), "einsum: 'ij,jk' is for 2 operands, got 1"),
    (ValueError, lambda: mr.einsum("ij->ijj", a),
     "einsum: the output of 'ij->ijj' must name letters of the inputs, each once"),
    (ValueError, lambda: mr.einsum("ij,jk", a, a),
     "einsum: operand 1 has another number of axes or another size, of shapes "
     "(3, 4), (3, 4)"),
    (TypeError, lambda: mr.einsum(a, "ij"),
     "einsum: subscripts must be a str, got an array of shape (3, 4) and dtype "
     "float64: try einsum('ij,jk->ik', a, b)"),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "call", "message"), REFUSED)
def test_what_is_refused(kind, call, message):
    with raises(kind, message):
        call()
