"""Sums over many rows: right in their last digits wherever the package makes them."""

import numpy as np
import pytest
from notes import noted

import minirnn as mr
from minirnn.kernels.sums import add_side, add_up

AXES = [  # shape, axis
    ((257,), 0), ((500, 3), 0), ((500, 3), -1), ((500, 1), 0), ((65, 40), 0), ((64, 40), 0), ((300, 0), 0),
    ((0, 300), 0), ((7, 300, 5), 1), ((7, 300, 5), (0, 2)), ((7, 300, 5), (1, 0)), ((7, 300, 5), None),
    ((2, 3, 4, 50), (-1, 1)), ((2, 3, 4, 50), ()), ((), None),
]  # fmt: skip


def test_a_sum_has_numpys_shape_and_more_of_its_digits():
    rng = np.random.default_rng(0)
    for shape, axis in AXES:
        for dtype, near in ((np.float32, 3e-7), (np.float64, 1e-15)):
            x = rng.random(shape).astype(dtype)
            order = rng.permutation(x.ndim)
            for view in (
                x,
                x.transpose(order).copy().transpose(np.argsort(order)),
                np.repeat(x, 2, -1)[..., ::2] if shape else x,
            ):
                for keepdims in (False, True):
                    with noted(f"{shape} over {axis}, {view.strides}"):
                        found = add_up(view, axis, keepdims)
                        exact = np.sum(view, axis, dtype=np.longdouble, keepdims=keepdims)
                        assert found.dtype == dtype
                        assert found.shape == exact.shape
                        np.testing.assert_allclose(found, exact.astype(float), rtol=near)
    assert add_up(np.ones((2000, 2), int), 0).tolist() == [2000, 2000]
    with pytest.raises(np.exceptions.AxisError):
        add_up(np.ones((2000, 2)), 2)


@pytest.mark.parametrize("R", [1, 700, 2048, 2049, 40_000])
def test_sums_side_by_side_have_more_of_their_digits_too(R):
    x = np.random.default_rng(R).random((3, R)).astype(np.float32)
    np.testing.assert_allclose(add_side(x), x.sum(1, np.longdouble).astype(float), rtol=5e-7)


def gradient_of(parameter, y):
    (g,) = mr.grad(y, parameter, gradient=np.full(y.shape, 0.1, y.dtype))
    return g.numpy()


def test_over_a_million_rows_in_float32_the_sixth_digit_is_right():
    """Of 0.1, whose rounding does not average out: the first of them was wrong in the second digit."""
    R, x = 10**6, np.zeros((10**6, 1), np.float32)
    tenths = mr.Tensor(np.full((R, 3), 0.1, np.float32))
    bias = mr.Tensor(np.zeros(3, np.float32), requires_grad=True)
    linear, table = mr.Linear(1, 3, rng=0), mr.Embedding(2, 3, rng=0)
    identity = {"activation": "identity", "recurrent_initializer": lambda shape, rng: np.zeros(shape)}
    sums = {
        "sum": mr.sum(tenths, axis=0).numpy(),
        "mean": R * mr.mean(tenths, axis=0).numpy(),
        "a bias": gradient_of(bias, mr.Tensor(x) + bias),
        "two leading axes": gradient_of(bias, mr.Tensor(x.reshape(1000, 1000, 1)) + bias),
        "Linear": gradient_of(linear.bias, linear(x)),
        "Embedding": gradient_of(table.weight, table(np.ones(R, int)))[1],
    } | {
        f"Elman, {T} steps, {backend}": gradient_of(layer.b_h, layer(x.reshape(T, -1, 1)).outputs)
        for T, backend in ((1, "graph"), (1, "fused"), (1000, "fused"))
        for layer in [mr.RecurrentLayer(1, 3, backend=backend, rng=0, **identity)]
    }  # fmt: skip
    for name, found in sums.items():
        with noted(name):
            np.testing.assert_allclose(found.astype(float), R * float(np.float32(0.1)), rtol=1e-6)
