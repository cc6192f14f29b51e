"""Parameters and their gradients as one vector, for line searches, averages and other optimisers."""

from collections.abc import Iterable
from typing import Any

import numpy as np

from minirnn.arguments import Array, as_array, typed
from minirnn.autograd.tensor import Tensor
from minirnn.optim.gradients import as_parameters, with_gradient


def parameters_to_vector(params: Iterable[Tensor]) -> Array:
    """Copy the values of all Parameters into one vector, in their order; float64 if one of them is.

    >>> import minirnn as mr
    >>> linear = mr.Linear(2, 1, rng=0)
    >>> vector = parameters_to_vector(linear.parameters())
    >>> vector_to_parameters(2 * vector, linear.parameters())
    >>> bool((parameters_to_vector(linear.parameters()) == 2 * vector).all())
    True
    """
    return np.concatenate([p.data.ravel() for p in as_parameters(params, "parameters_to_vector")])


def vector_to_parameters(vector: Any, params: Iterable[Tensor]) -> None:
    """Set the values of all Parameters to copies of a vector's parts, in their order, each in its own dtype.

    A vector of another size, or with numbers too large for a dtype, is a ValueError, and nothing has
    been set then.
    """
    parameters = as_parameters(params, "vector_to_parameters")
    sizes = [p.data.size for p in parameters]
    values = as_array(vector, "vector_to_parameters: vector", np.float64)
    if values.shape != (sum(sizes),):
        raise ValueError(
            f"vector_to_parameters: vector must have shape ({sum(sizes)},), the size of {len(sizes)} Parameters, got "
            f"{values.shape}: try what parameters_to_vector gave"
        )
    parts = np.split(values, np.cumsum(sizes)[:-1])
    name = "vector_to_parameters: the part of vector for"
    cast = [typed(part, p.dtype, f"{name} {p.label}") for part, p in zip(parts, parameters, strict=True)]
    for p, part in zip(parameters, cast, strict=True):
        p.data = part.reshape(p.shape)


def gradient_vector(params: Iterable[Tensor]) -> Array:
    """Copy the gradients of all Parameters into one vector, in their order, as `parameters_to_vector` does the values.

    Where a Parameter has none, because the loss does not depend on it, its part is 0; RuntimeError if none has one.
    """
    with_gradient(parameters := as_parameters(params, "gradient_vector"), "gradient_vector")
    return np.concatenate([(np.zeros_like(p.data) if p.grad is None else p.grad).ravel() for p in parameters])
