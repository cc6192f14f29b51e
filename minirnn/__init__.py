"""A recurrent layer you can read, look inside, trust to the last digit, and time, on numpy alone."""

import sys
from typing import TYPE_CHECKING

from minirnn.autograd.functions import (
    abs,
    astype,
    broadcast_to,
    clip,
    concatenate,
    exp,
    expand_dims,
    flip,
    log,
    log_softmax,
    logsumexp,
    matmul,
    max,
    maximum,
    mean,
    min,
    minimum,
    relu,
    reshape,
    sigmoid,
    softmax,
    split,
    sqrt,
    squeeze,
    stack,
    sum,
    swapaxes,
    tanh,
    transpose,
    unbind,
    where,
)
from minirnn.autograd.gradients import GradcheckError, grad, gradcheck
from minirnn.autograd.modes import AnomalyError, detect_anomaly, no_grad
from minirnn.autograd.tape import ChangedParameterError, FreedGraphError
from minirnn.autograd.tensor import Tensor
from minirnn.layers import (
    Bidirectional,
    BidirectionalState,
    Cell,
    GRULayer,
    LSTMLayer,
    LSTMState,
    RecurrentLayer,
    RecurrentOutput,
    SequenceModel,
    SequenceOutput,
    Stacked,
)
from minirnn.layers.module import Module, Parameter
from minirnn.layers.plain import Dropout, Embedding, Linear, Sequential
from minirnn.layers.threads import get_num_threads, set_num_threads

__all__ = [
    "AnomalyError",
    "Bidirectional",
    "BidirectionalState",
    "Cell",
    "ChangedParameterError",
    "Dropout",
    "Embedding",
    "FreedGraphError",
    "GRULayer",
    "GradcheckError",
    "LSTMLayer",
    "LSTMState",
    "Linear",
    "Module",
    "Parameter",
    "RecurrentLayer",
    "RecurrentOutput",
    "SequenceModel",
    "SequenceOutput",
    "Sequential",
    "Stacked",
    "Tensor",
    "abs",
    "astype",
    "bptt",
    "broadcast_to",
    "checkpoints",
    "clip",
    "concatenate",
    "counting",
    "detect_anomaly",
    "exp",
    "expand_dims",
    "flip",
    "get_num_threads",
    "grad",
    "gradcheck",
    "init",
    "log",
    "log_softmax",
    "logsumexp",
    "losses",
    "matmul",
    "max",
    "maximum",
    "mean",
    "min",
    "minimum",
    "no_grad",
    "optim",
    "relu",
    "reshape",
    "set_num_threads",
    "sigmoid",
    "softmax",
    "split",
    "sqrt",
    "squeeze",
    "stack",
    "sum",
    "swapaxes",
    "tanh",
    "tasks",
    "textbook",
    "training",
    "transpose",
    "unbind",
    "where",
]

__version__ = "0.1.0"

# The name that minirnn.layers had.
recurrent = sys.modules["minirnn.layers"]
sys.modules.update(
    {
        name.replace("layers", "recurrent", 1): module
        for name, module in list(sys.modules.items())
        if f"{name}.".startswith("minirnn.layers.")
    }
)

# What is not needed to make and call a layer is loaded when it is first asked for.
if TYPE_CHECKING:
    from minirnn import bptt, checkpoints, counting, init, losses, optim, tasks, textbook, training
else:

    def __getattr__(name):
        if name not in __all__:
            raise AttributeError(f"module 'minirnn' has no attribute {name!r}", name=name, obj=sys.modules[__name__])
        from importlib import import_module

        return import_module(f"minirnn.{name}")

    def __dir__():
        return sorted({*globals(), *__all__})
