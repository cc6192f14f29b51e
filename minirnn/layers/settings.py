"""The settings that recurrent layers share, checked."""

import math
from typing import Any

import numpy as np

from minirnn.arguments import Array, as_number, describe
from minirnn.autograd import ops
from minirnn.autograd.op import Op
from minirnn.kernels.cells import ACTIVATIONS, Activation

_OPS = {"tanh": ops.tanh, "relu": ops.relu, "sigmoid": ops.sigmoid, "identity": ops.identity}


def preset(
    init: str | None, activation: str, input_initializer: Any, recurrent_initializer: Any, name: str
) -> tuple[Any, Any]:
    """Return the initialisers of W_xh and W_hh that ``init`` stands for."""
    if init is None:
        return input_initializer, recurrent_initializer
    if init != "irnn":
        raise ValueError(
            f"{name}: init must be None or 'irnn', got {init!r}: initialisers of single arrays go to "
            "input_initializer and recurrent_initializer"
        )
    if activation != "relu":
        raise ValueError(
            f"{name}: init='irnn' is a layer of rectifiers, got activation={activation!r}: try activation='relu'"
        )
    if (input_initializer, recurrent_initializer) != ("glorot", "orthogonal"):
        raise ValueError(f"{name}: init='irnn' sets both initialisers itself: leave them out, or leave init out")
    return "normal", "identity"


def as_remat(remat: Any, backend: str, name: str) -> bool | int:
    """Check the setting of the same name."""
    if not isinstance(remat, bool | np.bool_):
        expected = f"{name}: remat must be True, False or a number of steps ≥ 1"
        if not isinstance(remat, int | np.integer):
            raise TypeError(f"{expected}, got {describe(remat)}: try True, which keeps √T of T states")
        if remat < 1:
            raise ValueError(f"{expected}, got {remat}: try True, which keeps √T of T states")
    if remat and backend != "fused":
        raise ValueError(
            f"{name}: remat needs backend='fused', got {backend!r}, which keeps every op to be looked into: "
            "leave one of the two out"
        )
    return bool(remat) if isinstance(remat, bool | np.bool_) else int(remat)


def as_message_clip(largest: Any, name: str) -> float | None:
    """Check the setting of the same name."""
    if largest is None:
        return None
    value = as_number(largest, f"{name}: message_clip")
    if value <= 0:
        raise ValueError(f"{name}: message_clip must be a norm > 0 or None, got {largest}: try 1.0")
    return value


def segment_length(remat: bool | int, T: int) -> int | None:
    """Return how many steps lie between two checkpoints, None to keep every state."""
    return None if remat is False else math.isqrt(T - 1) + 1 if remat is True else remat  # ⌈√T⌉


def resolve_activation(activation: Any, dtype: np.dtype[Any], name: str) -> tuple[Activation, Op]:
    """Return an activation as a kernel's pair and as an op."""
    expected = f"{name}: activation must be one of {', '.join(map(repr, ACTIVATIONS))} or a pair (φ, φ′) of callables"
    if isinstance(activation, str):
        if activation not in ACTIVATIONS:
            raise ValueError(f"{expected}, got {activation!r}")
        return ACTIVATIONS[activation], _OPS[activation]
    if not (isinstance(activation, tuple) and len(activation) == 2 and all(map(callable, activation))):
        raise TypeError(f"{expected}, got {activation!r}")
    phi, phi_prime = activation
    probe = np.linspace(-1, 1, 6, dtype=dtype).reshape(2, 3)
    for label, result in (("φ", y := phi(probe.copy())), ("φ′", phi_prime(y))):
        if not isinstance(result, np.ndarray) or result.shape != probe.shape or result.dtype != dtype:
            got = f"{getattr(result, 'shape', type(result).__name__)} {getattr(result, 'dtype', '')}".strip()
            raise ValueError(
                f"{name}: {label} must map an array to one of its shape and dtype, (2, 3) {dtype}, got {got}"
            )

    def forward(x: Array) -> Array:
        y: Array = phi(x)
        return y

    op = Op(forward, "activation")
    op.derivative(x=lambda g, y: g * phi_prime(y))
    return Activation(getattr(phi, "__name__", "custom"), phi, phi_prime), op
