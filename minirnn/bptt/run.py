"""One run of a layer laid open, and the gradients that enter at its outputs."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from minirnn.arguments import Array, describe
from minirnn.autograd.gradients import grad
from minirnn.autograd.modes import RECORD, switched
from minirnn.autograd.tensor import Tensor
from minirnn.bptt.unrolled import Unrolled
from minirnn.layers import Recurrence, SequenceModel
from minirnn.layers.layer import Layer
from minirnn.layers.module import Module

Loss = Callable[[Any], Tensor]
"""outputs -> a scalar, or one value per step (T,), of which the sum counts."""


class Run(NamedTuple):
    """A layer laid open, and the gradients that enter at its outputs.

    Attributes
    ----------
    layer : Layer
    unrolled : Unrolled
    loss : (), or (T,)
    entering : (T, N, H), in the order of processing
    valid : (T, N) of bool, in time order
    """

    layer: Layer
    unrolled: Unrolled
    loss: Array
    entering: Array
    valid: Array


def run_of(model: Any, x: Any, loss: Loss, initial_state: Any, lengths: Any, caller: str) -> Run:
    """Run a layer, and find the gradients that enter at its outputs; ``caller`` is named in errors."""
    layer = layer_of(model, caller)
    check_loss(loss, caller)
    if isinstance(model, SequenceModel):
        x = model.embed(x, lengths)
    given, state, sequences, mask = layer.arrange(x, initial_state, lengths)
    T, N, _ = given.shape
    valid = np.ones((T, N), bool) if sequences is None else sequences.valid()
    turn = slice(None, None, -1) if layer.reverse else slice(None)
    read = inside(valid, given.data)[turn].copy()
    arrays = [s.data for s in state]
    unrolled = Unrolled(layer, read, arrays, valid[turn], mask, initial_state is None)
    outputs = inside(valid, unrolled.states[0][1:][turn])
    value, entering = _entering(model, layer, outputs, valid, loss, caller)
    return Run(layer, unrolled, value, inside(valid, entering)[turn], valid)


def inside(valid: Array, a: Array) -> Array:
    """Return an array (T, N, …) with 0 in the padding; itself where there is none."""
    return a if valid.all() else np.where(valid[..., None], a, 0)


def check_loss(loss: Any, caller: str) -> None:
    """Refuse a loss that cannot be called."""
    if not callable(loss):
        raise TypeError(f"{caller}: loss must be a callable (outputs) -> Tensor, got {describe(loss)}")


def layer_of(model: Any, caller: str) -> Layer:
    """Return the one layer to look into."""
    layer = model.recurrent if isinstance(model, SequenceModel) else model
    if isinstance(layer, Layer):
        return layer
    kind = type(layer).__name__
    expected = f"{caller}: model must be a recurrent layer or a SequenceModel of one, got"
    if isinstance(layer, Recurrence):
        raise TypeError(f"{expected} {kind}, which has several: look into one of them, with the sequence it reads")
    if isinstance(layer, Module):
        raise TypeError(f"{expected} {kind}, which has no recurrence: nothing goes back through time in it")
    raise TypeError(f"{expected} {describe(model)}")


def unclipped(layer: Layer, caller: str) -> None:
    """Refuse a layer whose messages are clipped: what several gradients give together is then not their sum."""
    if layer.message_clip is not None:
        raise ValueError(
            f"{caller}: the layer has message_clip={layer.message_clip}, with which gradients do not add up: set it to "
            "None on the layer, or make one without"
        )


def _entering(
    model: Module, layer: Layer, outputs: Array, valid: Array, loss: Loss, caller: str
) -> tuple[Array, Array]:
    """Return the loss and its gradient at the outputs, (T, N, H) in time order."""
    leaf = Tensor(outputs, requires_grad=True)
    with switched(on=RECORD):  # what is asked for is recorded, within no_grad too
        value = loss_of(model, layer, leaf, valid, loss, caller)
    if not value.requires_grad:
        return value.numpy().copy(), np.zeros_like(outputs)
    (entering,) = grad(value, leaf, gradient=np.ones_like(value.data))
    return value.numpy().copy(), entering.numpy()


def loss_of(model: Module, layer: Layer, outputs: Tensor, valid: Array, loss: Loss, caller: str) -> Tensor:
    """Return the loss of the outputs (T, N, H) in time order, () or (T,), by way of the model's head if it has one."""
    T, N, _ = outputs.shape
    seen = outputs.swapaxes(0, 1) if layer.batch_first else outputs
    if isinstance(model, SequenceModel):
        last = np.zeros(N, int) if layer.reverse else valid.sum(axis=0) - 1
        seen = model.head(seen if model.readout == "all" else outputs[last, np.arange(N)])
    value = loss(seen)
    expected = f"{caller}: loss must return a scalar Tensor or one value per step (T={T},)"
    if not isinstance(value, Tensor):
        raise TypeError(f"{expected}, got {describe(value)}: use minirnn's ops and losses, which keep the gradient")
    if value.shape not in ((), (T,)):
        raise ValueError(f"{expected}, got shape {value.shape}: try .sum() or .mean() over the other axes")
    return value
