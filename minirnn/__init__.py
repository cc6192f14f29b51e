"""A recurrent layer you can read, look inside, trust to the last digit, and time, on numpy alone."""

from minirnn import counting, init, losses, optim, tasks, textbook
from minirnn.functions import (
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
from minirnn.gradcheck import GradcheckError, gradcheck
from minirnn.layers import Embedding, Linear, Sequential
from minirnn.modes import AnomalyError, detect_anomaly, no_grad
from minirnn.module import Module, Parameter
from minirnn.recurrent import RecurrentLayer, RecurrentOutput, SequenceModel, SequenceOutput
from minirnn.tape import ChangedParameterError, FreedGraphError
from minirnn.tensor import Tensor, grad
