"""What a cell does entry by entry, between the matrix products: the activation φ and its derivative.

Checked by tests/kernels/test_cells.py.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


class Activation(NamedTuple):
    """A pair of pointwise functions.

    Attributes
    ----------
    name : str
    apply : callable
        φ: an array of pre-activations Z → an array of the same shape and dtype.
    derivative : callable
        φ′ expressed through φ's output Y = φ(Z): φ′(Y) = ∂Y/∂Z.
    """

    name: str
    apply: Callable[[Array], Array]
    derivative: Callable[[Any], Any]


def _sigmoid(z: Array) -> Array:
    y: Array = 0.5 * (1.0 + np.tanh(0.5 * z))
    return y


def _relu(z: Array) -> Array:
    y: Array = np.maximum(z, 0)
    return y


ACTIVATIONS = {
    activation.name: activation
    for activation in (
        Activation("tanh", np.tanh, lambda y: 1.0 - y * y),
        Activation("relu", _relu, lambda y: (y > 0).astype(y.dtype)),
        Activation("sigmoid", _sigmoid, lambda y: y * (1.0 - y)),
        Activation("identity", lambda z: z, lambda y: np.ones_like(y)),
    )
}
