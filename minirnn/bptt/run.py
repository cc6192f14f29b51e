"""One run of a layer laid open, and the gradients that enter at its outputs."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from minirnn.arguments import Array, describe
from minirnn.autograd.gradients import grad
from minirnn.autograd.modes import RECORD, switched
from minirnn.autograd.tensor import Tensor, as_tensor
from minirnn.bptt.unrolled import Unrolled
from minirnn.layers import Recurrence, SequenceModel
from minirnn.layers.layer import Layer
from minirnn.layers.module import Module

Loss = Callable[[Any], Tensor]
"""outputs -> a scalar, or one value per step (T,), of which the sum counts."""

_DOES = {
    "zoneout": "mixes old states into new ones",
    "proj_size": "projects what its cell makes",
    "peepholes": "has gates that read the cell state",
}


class Run(NamedTuple):
    """A layer laid open, and the gradients that enter at its outputs."""

    layer: Layer
    unrolled: Unrolled
    loss: Array  # (), or (T,)
    entering: Array  # (T, N, H), in the order of processing
    valid: Array  # (T, N) of bool, in time order


def run_of(model: Any, x: Any, loss: Loss, initial_state: Any, lengths: Any, caller: str) -> Run:
    """Run a layer, and find the gradients that enter at its outputs; ``caller`` is named in errors."""
    layer = layer_of(model, caller)
    if not callable(loss):
        raise TypeError(f"{caller}: loss must be a callable (outputs) -> Tensor, got {describe(loss)}")
    if isinstance(model, SequenceModel):
        x = model.embed(x, lengths)
    given, state, sequences, mask = layer.arrange(x, initial_state, lengths)
    given, *state = (as_tensor(a).data for a in (given, *state))
    valid = np.ones(given.shape[:2], bool) if sequences is None else sequences.valid()
    turn = turned(layer)
    read = inside(valid, given)[turn].copy()
    unrolled = Unrolled(layer, read, state, valid[turn], mask, initial_state is None)
    outputs = Tensor(inside(valid, unrolled.states[0][1:][turn]), requires_grad=True)
    with switched(on=RECORD):  # what is asked for is recorded, within no_grad too
        value = _loss_of(model, layer, outputs, valid, loss, caller)
    entering = np.zeros_like(outputs.data)
    if value.requires_grad:
        entering = grad(value, outputs, gradient=np.ones_like(value.data))[0].numpy()
    return Run(layer, unrolled, value.numpy().copy(), inside(valid, entering)[turn], valid)


def turned(layer: Layer) -> slice:
    """Return the slice from time order to the order of processing, and back."""
    return slice(None, None, -1) if layer.reverse else slice(None)


def inside(valid: Array, a: Array) -> Array:
    """Return an array (T, N, …) with 0 in the padding; itself where there is none."""
    return a if valid.all() else np.where(valid[..., None], a, 0)


def layer_of(model: Any, caller: str) -> Layer:
    """Return the one layer to look into."""
    layer = model.recurrent if isinstance(model, SequenceModel) else model
    if isinstance(layer, Layer):
        if what := layer.by_op:
            raise ValueError(f"{caller}: a layer with {what} {_DOES[what]}, which is not looked into: make it without")
        return layer
    got = describe(model)
    if isinstance(layer, Recurrence):
        got = f"{type(layer).__name__}, which has several: look into one of them, with the sequence it reads"
    elif isinstance(layer, Module):
        got = f"{type(layer).__name__}, which has no recurrence: nothing goes back through time in it"
    raise TypeError(f"{caller}: model must be a recurrent layer or a SequenceModel of one, got {got}")


def unclipped(layer: Layer, caller: str) -> None:
    """Refuse a layer whose messages are clipped: what several gradients give together is then not their sum."""
    if layer.message_clip is not None:
        raise ValueError(
            f"{caller}: the layer has message_clip={layer.message_clip}, with which gradients do not add up: set it to "
            "None on the layer, or make one without"
        )


def _loss_of(model: Any, layer: Layer, outputs: Tensor, valid: Array, loss: Loss, caller: str) -> Tensor:
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
