"""A recurrent layer you can read, look inside, trust to the last digit, and time, on numpy alone."""

import sys
from typing import TYPE_CHECKING

import minirnn.as_command  # noqa: F401
from minirnn.autograd.derivatives import hessian, hvp, jacobian, jvp, vjp
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
    log_sigmoid,
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
    softplus,
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
from minirnn.autograd.more import (
    argmax,
    argmin,
    cos,
    cumsum,
    elu,
    expm1,
    flatten,
    gelu,
    hstack,
    leaky_relu,
    log1p,
    moveaxis,
    norm,
    pad,
    prod,
    ravel,
    repeat,
    round,
    silu,
    sin,
    square,
    std,
    take,
    tile,
    var,
    vstack,
)
from minirnn.autograd.products import dot, einsum, outer, tensordot
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
from minirnn.layers.containers import ModuleDict, ModuleList, Sequential
from minirnn.layers.module import Module, Parameter
from minirnn.layers.norm import LayerNorm
from minirnn.layers.plain import Dropout, Embedding, Linear, OneHot
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
    "LayerNorm",
    "Linear",
    "Module",
    "ModuleDict",
    "ModuleList",
    "OneHot",
    "Parameter",
    "RecurrentLayer",
    "RecurrentOutput",
    "SequenceModel",
    "SequenceOutput",
    "Sequential",
    "Stacked",
    "Tensor",
    "abs",
    "argmax",
    "argmin",
    "astype",
    "bptt",
    "broadcast_to",
    "checkpoints",
    "clip",
    "concatenate",
    "cos",
    "counting",
    "cumsum",
    "data",
    "detect_anomaly",
    "dot",
    "einsum",
    "elu",
    "exercises",
    "exp",
    "expand_dims",
    "expm1",
    "flatten",
    "flip",
    "gelu",
    "get_num_threads",
    "grad",
    "gradcheck",
    "hessian",
    "hstack",
    "hvp",
    "init",
    "interop",
    "jacobian",
    "jvp",
    "leaky_relu",
    "log",
    "log1p",
    "log_sigmoid",
    "log_softmax",
    "logsumexp",
    "losses",
    "matmul",
    "max",
    "maximum",
    "mean",
    "min",
    "minimum",
    "moveaxis",
    "no_grad",
    "norm",
    "optim",
    "outer",
    "pad",
    "prod",
    "ravel",
    "relu",
    "repeat",
    "reshape",
    "round",
    "set_num_threads",
    "sigmoid",
    "silu",
    "sin",
    "softmax",
    "softplus",
    "split",
    "sqrt",
    "square",
    "squeeze",
    "stack",
    "std",
    "sum",
    "swapaxes",
    "take",
    "tanh",
    "tasks",
    "tensordot",
    "textbook",
    "tile",
    "training",
    "transpose",
    "unbind",
    "var",
    "vjp",
    "vstack",
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
    from minirnn import bptt, checkpoints, counting, data, init, interop, losses, optim, tasks, textbook, training
    from minirnn import exercises as exercises
else:

    def __getattr__(name):
        if name not in __all__:
            raise AttributeError(f"module 'minirnn' has no attribute {name!r}", name=name, obj=sys.modules[__name__])
        from importlib import import_module

        return import_module(f"minirnn.{name}")

    def __dir__():
        return sorted({*globals(), *__all__})
