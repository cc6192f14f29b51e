"""Messages clipped on their way back: an op that does nothing forward."""

from typing import Any

from minirnn.arguments import Array
from minirnn.autograd.op import Op
from minirnn.autograd.tensor import Tensor
from minirnn.kernels.clip import clipped


def _same(x: Array, *, largest: float) -> Array:
    return x


def _clipped(g: Any, largest: float) -> Array:
    if isinstance(g, Tensor):
        raise RuntimeError(
            "create_graph: a message that is clipped has no second derivative: leave message_clip out for it, or clip "
            "the gradients of the parameters with clip_grad_norm instead"
        )
    return clipped(g, largest, 1)


clip_message = Op(_same, "clip_message", view=True)
clip_message.derivative(x=_clipped)
"""H_t as it is, but that no row of dL/dH_t goes back with a norm above ``largest``."""
