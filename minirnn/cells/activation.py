"""The activation φ of a gate: one name for what kernels apply to arrays and equations to Tensors."""

from typing import Any, Literal, NamedTuple, get_args

import numpy as np

from minirnn.arguments import Array
from minirnn.autograd import ops
from minirnn.autograd.op import Op
from minirnn.kernels.cells import ACTIVATIONS, Activation

ActivationName = Literal["tanh", "relu", "sigmoid", "identity"]


class Phi(NamedTuple):
    """φ in both forms.

    Attributes
    ----------
    name : str
    kernel : Activation
        The pair (φ, φ′) on arrays; φ′ of φ's output.
    op : Op
    steepest : float or None
        The largest slope φ′ there is; None where it is not known.
    """

    name: str
    kernel: Activation
    op: Op
    steepest: float | None = None


_STEEPEST = {"tanh": 1.0, "relu": 1.0, "sigmoid": 0.25, "identity": 1.0}
BUILT_IN = {
    name: Phi(name, ACTIVATIONS[name], getattr(ops, name), _STEEPEST[name]) for name in get_args(ActivationName)
}


class OwnOp(Op):
    """The op of a user's pair (φ, φ′); it travels if both functions do."""

    __slots__ = ("pair",)

    def __init__(self, phi: Any, prime: Any) -> None:
        def forward(x: Array) -> Array:
            return phi(x)

        super().__init__(forward, "activation")
        self.derivative(x=lambda g, y: g * prime(y))
        self.pair = phi, prime

    def __reduce__(self) -> Any:
        return type(self), self.pair


def resolve(activation: Any, dtype: np.dtype[Any], name: str) -> Phi:
    """Return the φ that a user names or brings as a pair (φ, φ′); ``name`` is the layer's, for errors."""
    expected = f"{name}: activation must be one of {', '.join(map(repr, BUILT_IN))} or a pair (φ, φ′) of callables"
    if isinstance(activation, str):
        if activation not in BUILT_IN:
            raise ValueError(f"{expected}, got {activation!r}")
        return BUILT_IN[activation]
    if not (isinstance(activation, tuple) and len(activation) == 2 and all(map(callable, activation))):
        raise TypeError(f"{expected}, got {activation!r}")
    phi, prime = activation
    probe = np.linspace(-1, 1, 6, dtype=dtype).reshape(2, 3)
    for label, result in (("φ", y := phi(probe.copy())), ("φ′", prime(y))):
        if not isinstance(result, np.ndarray) or result.shape != probe.shape or result.dtype != dtype:
            got = f"{getattr(result, 'shape', type(result).__name__)} {getattr(result, 'dtype', '')}".strip()
            raise ValueError(
                f"{name}: {label} must map an array to one of its shape and dtype, (2, 3) {dtype}, got {got}"
            )
    kernel = Activation(getattr(phi, "__name__", "custom"), phi, prime)
    return Phi(kernel.name, kernel, OwnOp(phi, prime))
