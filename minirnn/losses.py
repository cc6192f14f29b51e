"""Losses: predictions and targets go in, one number comes out: the mean over all targets, for `Tensor.backward`.

They refuse to broadcast: a prediction (N, 1) against a target (N,) would quietly become (N, N), and is a ValueError.
``lengths``, N integers, masks padding: for predictions (T, N, …) only steps t < lengths[n] of row n count, in the loss
and in the gradient; what stands in the padding, NaN included, changes nothing.
"""

from typing import Any

import numpy as np

from minirnn.arguments import Array, as_array, as_lengths, class_ids
from minirnn.autograd import ops
from minirnn.autograd.functions import where
from minirnn.autograd.record import apply
from minirnn.autograd.tensor import Tensor


def mse(predictions: Any, targets: Any, *, lengths: Any = None) -> Tensor:
    """Mean squared error, mean (prediction − target)², in squared units of the target; both have one shape (…)."""
    predictions = _floats(predictions, "mse: predictions")
    target = _floats(targets, "mse: targets", predictions)
    mask = _mask(lengths, predictions.shape, "mse")
    if mask is not None:
        predictions, target = where(mask, predictions, 0.0), where(mask, target, 0.0)
    difference = predictions - target
    return _mean(difference * difference, mask)


def cross_entropy(logits: Any, ids: Any, *, lengths: Any = None) -> Tensor:
    """Cross entropy, mean −ln softmax(logits)[id], in nats per target; divide by ln 2 for bits.

    ``logits`` (…, C) stand before the softmax; ``ids`` (…) are the right classes, 0 … C − 1: TypeError for what is no
    integer, IndexError for one out of range.
    """
    logits, array = _floats(logits, "cross_entropy: logits"), np.asarray(ids)
    if not logits.ndim or array.shape != logits.shape[:-1]:
        raise ValueError(
            f"cross_entropy: logits must have shape (…, C) and ids (…), got {logits.shape} and {array.shape}: ids are "
            "class ids, not one-hot vectors"
        )
    mask = _mask(lengths, array.shape, "cross_entropy")
    if mask is not None:
        array, logits = np.where(mask, array, 0), where(mask[..., None], logits, 0.0)
    array = class_ids(array, logits.shape[-1], "cross_entropy: ids")
    return _mean(apply(ops.cross_entropy, logits, ids=array), mask)


def binary_cross_entropy(logits: Any, targets: Any, *, lengths: Any = None) -> Tensor:
    """Binary cross entropy, mean −t ln σ(x) − (1 − t) ln(1 − σ(x)), in nats per target.

    ``logits`` x (…) stand before the sigmoid; ``targets`` t of the same shape are constants between 0 and 1.
    """
    logits = _floats(logits, "binary_cross_entropy: logits")
    target = _floats(targets, "binary_cross_entropy: targets", logits).data
    mask = _mask(lengths, target.shape, "binary_cross_entropy")
    if mask is not None:
        target, logits = np.where(mask, target, 0), where(mask, logits, 0.0)
    if (outside := ~((target >= 0) & (target <= 1))).any():  # NaN is outside too
        at = [int(i) for i in np.argwhere(outside)[0]]
        raise ValueError(
            f"binary_cross_entropy: targets must lie between 0 and 1, got {target[tuple(at)]} at {at}: "
            "they are probabilities; it is the logits that may be any number"
        )
    return _mean(apply(ops.binary_cross_entropy, logits, target=target), mask)


def _mean(each: Tensor, mask: Array | None) -> Tensor:
    return each.mean() if mask is None else where(mask, each, 0.0).sum() / int(mask.sum())


def _floats(values: Any, argument: str, like: Tensor | None = None) -> Tensor:
    """Return a Tensor of floats that is not empty; targets are made like the predictions, and not broadcast."""
    dtype: Any = np.float32 if like is None else like.dtype
    given = values if isinstance(values, Tensor) else Tensor(as_array(values, argument, dtype))
    if like is not None and given.shape != like.shape:
        raise ValueError(
            f"{argument} must have the shape of the predictions, {like.shape}, got {given.shape}: they are not "
            "broadcast, so reshape one of them"
        )
    if not given.size:
        raise ValueError(f"{argument} must hold at least one target, got shape {given.shape}")
    return given if like is None and given.dtype.kind == "f" else given.astype(dtype)


def _mask(lengths: Any, shape: tuple[int, ...], name: str) -> Array | None:
    """Return which of the targets (T, N, …) count, in their shape; None if all do."""
    if lengths is None:
        return None
    if len(shape) < 2:
        raise ValueError(f"{name}: lengths can mask targets of shape (T, N, …) only, got {shape}: leave it out")
    T, N = shape[:2]
    valid = np.arange(T)[:, None] < as_lengths(lengths, T, N, f"{name}: lengths")
    return np.broadcast_to(valid.reshape(T, N, *(1,) * (len(shape) - 2)), shape)
