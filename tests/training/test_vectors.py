"""Parameters and gradients as one vector, and back."""

import numpy as np
import pytest
from error_texts import raises

import minirnn as mr
from minirnn.training import gradient_vector, parameters_to_vector, vector_to_parameters


def parameters(*dtypes):
    return [mr.Parameter(np.full(s, i + 1, d)) for i, (s, d) in enumerate(zip([(2, 2), (), (0,), (1, 3)], dtypes))]  # noqa: B905


def test_values_go_there_and_back_in_order():
    for dtypes, common in ((["f4"] * 4, "f4"), (["f8"] * 4, "f8"), (["f4", "f8", "f4", "f4"], "f8")):
        params = parameters(*dtypes)
        vector, before = parameters_to_vector(iter(params)), [p.data for p in params]
        assert vector.dtype == common
        assert vector.tolist() == [1, 1, 1, 1, 2, 4, 4, 4]
        vector += 0.5
        assert params[0].data.max() == 1  # a copy
        vector_to_parameters(vector, iter(params))
        vector[:] = 0  # and a copy back
        assert [p.data.tolist() for p in params] == [[[1.5, 1.5]] * 2, 2.5, [], [[4.5] * 3]]
        assert [(p.dtype, p.shape) for p in params] == [(a.dtype, a.shape) for a in before]
        assert before[3].tolist() == [[4, 4, 4]]
        vector_to_parameters([1, 2, 3, 4, 5, 6, 7, 8], params)
        assert parameters_to_vector(params).tolist() == [*range(1, 9)]


def test_gradients_are_in_the_same_order_and_zero_where_there_is_none():
    params = parameters("f4", "f8", "f4", "f4")
    with raises(RuntimeError, "gradient_vector: no Parameter has a gradient: call loss.backward() first"):
        gradient_vector(params)
    (params[0].sum() + 2 * params[3].sum()).backward()
    assert gradient_vector(params).tolist() == [1, 1, 1, 1, 0, 2, 2, 2]
    assert gradient_vector(params).dtype == np.float64
    assert gradient_vector(params[3:]).dtype == np.float32
    copy = gradient_vector(params[3:])
    copy += 1
    assert params[3].grad.tolist() == [[2, 2, 2]]


def test_a_vector_along_the_gradient_is_gradient_descent():
    layer, twin = (mr.Linear(3, 2, rng=0, dtype=np.float64) for _ in range(2))
    for module in (layer, twin):
        (module(np.ones((4, 3))) ** 2).sum().backward()
    vector = parameters_to_vector(layer.parameters())
    vector_to_parameters(vector - 0.1 * gradient_vector(layer.parameters()), layer.parameters())
    mr.optim.SGD(twin.parameters(), lr=0.1).step()
    assert parameters_to_vector(layer.parameters()).tolist() == parameters_to_vector(twin.parameters()).tolist()


@pytest.mark.parametrize("name", ["parameters_to_vector", "gradient_vector"])
def test_what_are_no_parameters_is_refused(name):
    p = parameters("f4")
    for params, kind, message in (
        ([], ValueError, "params is empty; pass module.parameters()"),
        ([p[0], 3], TypeError, "params[1] must be a Parameter, got int"),
        ([p[0], p[0]], ValueError, "a Parameter stands twice in params; each must be changed once"),
    ):
        with raises(kind, f"{name}: {message}"):
            getattr(mr.training, name)(params)


def test_a_vector_that_does_not_fit_sets_nothing():
    params = parameters("f4", "f4", "f4", "f4")
    start = "vector_to_parameters: vector must"
    for vector, kind, message in (
        (np.zeros(7), ValueError, f"{start} have shape (8,), the size of 4 Parameters, got (7,): try what "
         "parameters_to_vector gave"),
        (np.zeros((8, 1)), ValueError, f"{start} have shape (8,), the size of 4 Parameters, got (8, 1): try what "
         "parameters_to_vector gave"),
        (["a"] * 8, TypeError, f"{start} be an array of numbers (bool, int or float), got list of dtype <U1: try "
         "np.asarray(data, dtype=float)"),
        (np.array([0] * 7 + [1e300]), ValueError, "vector_to_parameters: the part of vector for parameter without a "
         "name (1, 3) holds 1e+300 at [2], too large for float32: try float64"),
    ):  # fmt: skip
        with raises(kind, message):
            vector_to_parameters(vector, params)
        assert parameters_to_vector(params).tolist() == [1, 1, 1, 1, 2, 4, 4, 4]
    with raises(TypeError, "vector_to_parameters: params must be a list of Parameters, got one Linear: try "
                "module.parameters(), or put a Tensor in a list"):  # fmt: skip
        vector_to_parameters(np.zeros(3), mr.Linear(2, 1))
