"""LayerNorm: torch's numbers, what it does with constants, and what it refuses."""

import numpy as np
import pytest
from error_texts import raises
from numpy.testing import assert_allclose

import minirnn as mr

x = np.random.default_rng(0).normal(3, 2, size=(4, 3, 5))


@pytest.mark.peer
@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("eps", [1e-5, 0.1])
def test_values_and_gradients_are_torch_s(affine, eps):
    torch = pytest.importorskip("torch")
    ours = mr.LayerNorm(5, eps=eps, affine=affine, dtype=np.float64)
    theirs = torch.nn.LayerNorm(5, eps=eps, elementwise_affine=affine, dtype=torch.float64)
    rng = np.random.default_rng(1)
    for p, q in zip(ours.parameters(), theirs.parameters(), strict=True):
        p.data = rng.normal(size=5)
        q.data = torch.tensor(p.data)
    given, other = mr.Tensor(x, requires_grad=True), torch.tensor(x, requires_grad=True)
    y, expected, g = ours(given), theirs(other), rng.normal(size=x.shape)
    y.backward(g)
    expected.backward(torch.tensor(g))
    assert_allclose(y.numpy(), expected.detach().numpy(), rtol=1e-12, atol=1e-13)
    assert_allclose(given.grad, other.grad.numpy(), rtol=1e-11, atol=1e-12)
    for p, q in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert_allclose(p.grad, q.grad.numpy(), rtol=1e-11, atol=1e-12)


def test_gradients_of_both_orders():
    layer = mr.LayerNorm(5, dtype=np.float64)
    given = [mr.Tensor(x[:2, :1], requires_grad=True), *layer.parameters()]
    mr.gradcheck(lambda *_: layer(given[0]), given)
    mr.gradcheck(
        lambda *_: mr.grad((layer(given[0]) ** 2 * x[2:4, :1]).sum(), given, create_graph=True), given, atol=1e-5
    )


def test_a_constant_entry_is_0_and_finite():
    given = mr.Tensor(np.full((2, 3), 7, np.float32), requires_grad=True)
    y = mr.LayerNorm(3)(given)
    y.sum().backward()
    assert y.tolist() == [[0, 0, 0]] * 2
    assert np.isfinite(given.grad).all()
    assert (y.dtype, mr.LayerNorm(3).count_params(), mr.LayerNorm(3, affine=False).count_params()) == (np.float32, 6, 0)


def test_what_it_says_and_refuses():
    assert repr(mr.LayerNorm(3, eps=0.1, affine=False)) == "LayerNorm(3, eps=0.1, affine=False)"
    with raises(ValueError, "LayerNorm: x must have shape (…, H=3), got (2, 4)"):
        mr.LayerNorm(3)(np.ones((2, 4)))
    with raises(ValueError, "LayerNorm: eps must be a positive number, got 0: try 1e-5"):
        mr.LayerNorm(3, eps=0)
