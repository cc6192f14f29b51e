"""The pointwise activations: values against the textbook's, derivatives against the complex step."""

import numpy as np
import pytest

from minirnn import textbook
from minirnn.autograd import ops
from minirnn.kernels.cells import ACTIVATIONS

NAMES = ["tanh", "relu", "sigmoid", "identity"]
Z = np.concatenate([np.linspace(-5, 5, 101), [-1e-300, 1e-300, -40.0, 40.0]])  # 0.0 itself is among them


def read_only(array):
    array.flags.writeable = False
    return array


def test_the_textbook_has_the_same_activations_under_the_same_names():
    assert list(ACTIVATIONS) == NAMES == list(textbook.ACTIVATIONS)
    assert [activation.name for activation in ACTIVATIONS.values()] == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_values_and_derivatives_are_the_textbooks(name):
    apply, derivative = ACTIVATIONS[name][1:3]
    phi, phi_prime = textbook.ACTIVATIONS[name]
    y = apply(read_only(Z.copy()))
    np.testing.assert_array_equal(y, phi(Z))
    np.testing.assert_array_equal(derivative(read_only(y.copy())), phi_prime(y))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_sigmoid_overflows_nowhere_and_is_symmetric(dtype):
    apply, derivative = ACTIVATIONS["sigmoid"][1:3]
    z = np.array([-np.inf, -1000, -100, 0, 100, 1000, np.inf], dtype)
    with np.errstate(all="raise"):
        y = apply(z)
        slope = derivative(y)
    low = np.exp(-100) if dtype is np.float64 else 0
    np.testing.assert_allclose(y, [0, 0, low, 0.5, 1, 1, 1], rtol=1e-14, atol=0)
    np.testing.assert_allclose(slope, [0, 0, low, 0.25, 0, 0, 0], rtol=1e-14, atol=0)
    np.testing.assert_allclose(apply(Z) + apply(-Z), 1, rtol=1e-15)
    np.testing.assert_allclose(apply(Z[:101]), 1 / (1 + np.exp(-Z[:101])), rtol=1e-13)  # σ(z), and not σ(2z)


@pytest.mark.parametrize("name", NAMES)
def test_nan_stays_nan(name):
    assert np.isnan(ACTIVATIONS[name].apply(np.array([np.nan]))).all()


@pytest.mark.parametrize("name", NAMES)
def test_the_op_of_the_graph_backend_is_the_same_function(name):
    op, (apply, derivative) = getattr(ops, name), ACTIVATIONS[name][1:3]
    y = op.forward(Z)
    np.testing.assert_array_equal(y, apply(Z))
    g = np.linspace(-1, 1, Z.size)
    rule = op.rules[0]
    np.testing.assert_array_equal(rule.vjp(g, *rule.save(y, Z)), g * derivative(y))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", NAMES)
def test_shape_and_dtype_are_kept_and_written_into_an_array_they_are_the_same(name, dtype):
    activation = ACTIVATIONS[name]
    z = np.linspace(-3, 3, 24).reshape(4, 6).astype(dtype)
    wide = np.full((4, 9), 7, dtype)
    out = wide[:, 2:8]  # memory with gaps, as in the joined form
    activation.at(z.shape, z.dtype)(z, out)
    y, slope = activation.apply(z), np.empty_like(z)
    activation.slope_into(out, slope)
    near = 4 * np.finfo(dtype).eps
    for written, result, relative in ((out, y, near), (slope, activation.derivative(y), 0)):
        assert result.dtype == dtype
        assert result.shape == z.shape
        np.testing.assert_allclose(written, result, rtol=relative, atol=0 if relative else near)
    assert (wide[:, [0, 1, 8]] == 7).all()
