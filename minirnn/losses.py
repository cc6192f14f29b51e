"""Losses: one number in, for `Tensor.backward`; every one is the mean over its targets.

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
    predictions = _prepared(predictions, "mse", "predictions")
    dtype = predictions.dtype
    target = targets if isinstance(targets, Tensor) else Tensor(as_array(targets, "mse: targets", dtype))
    _same_shape(predictions, target, "mse")
    target, mask = target.astype(dtype), _mask(lengths, predictions.shape, "mse")
    if mask is not None:
        predictions, target = where(mask, predictions, 0.0), where(mask, target, 0.0)
    difference = predictions - target
    return _mean(difference * difference, mask)


def cross_entropy(logits: Any, ids: Any, *, lengths: Any = None) -> Tensor:
    """Cross entropy, mean −ln softmax(logits)[id], in nats per target; divide by ln 2 for bits.

    Parameters
    ----------
    logits : Tensor (…, C)
        Before the softmax.
    ids : array_like of int (…)
        The right class of each, 0 … C − 1: TypeError for what is no integer, IndexError for one out of range.
    """
    logits = _prepared(logits, "cross_entropy")
    if not logits.ndim:
        raise ValueError("cross_entropy: logits must have shape (…, C), got a single number")
    array = np.asarray(ids)
    if array.shape != logits.shape[:-1]:
        raise ValueError(
            f"cross_entropy: for logits {logits.shape} ids must have shape {logits.shape[:-1]}, got {array.shape}; "
            "class ids, not one-hot vectors"
        )
    mask = _mask(lengths, array.shape, "cross_entropy")
    if mask is not None:
        array, logits = np.where(mask, array, 0), where(mask[..., None], logits, 0.0)
    array = class_ids(array, logits.shape[-1], "cross_entropy: ids")
    return _mean(apply(ops.cross_entropy, logits, ids=array), mask)


def binary_cross_entropy(logits: Any, targets: Any, *, lengths: Any = None) -> Tensor:
    """Binary cross entropy, mean −t ln σ(x) − (1 − t) ln(1 − σ(x)), in nats per target.

    Parameters
    ----------
    logits : Tensor (…)
        Before the sigmoid.
    targets : array_like of the same shape
        Constants between 0 and 1.
    """
    logits = _prepared(logits, "binary_cross_entropy")
    target = as_array(targets, "binary_cross_entropy: targets", logits.dtype).astype(logits.dtype)
    _same_shape(logits, target, "binary_cross_entropy")
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


def _prepared(predictions: Any, name: str, label: str = "logits") -> Tensor:
    """Return the predictions as a float Tensor that is not empty."""
    tensor = predictions if isinstance(predictions, Tensor) else Tensor(as_array(predictions, f"{name}: {label}"))
    if not tensor.size:
        raise ValueError(f"{name}: {label} must hold at least one target, got shape {tensor.shape}")
    return tensor if tensor.dtype.kind == "f" else tensor.astype(np.float32)


def _mask(lengths: Any, shape: tuple[int, ...], name: str) -> Array | None:
    """Return which of the targets (T, N, …) count, in their shape; None if all do."""
    if lengths is None:
        return None
    if len(shape) < 2:
        raise ValueError(f"{name}: lengths can mask targets of shape (T, N, …) only, got {shape}: leave it out")
    T, N = shape[:2]
    valid = np.arange(T)[:, None] < as_lengths(lengths, T, N, f"{name}: lengths")
    return np.broadcast_to(valid.reshape(T, N, *(1,) * (len(shape) - 2)), shape)


def _same_shape(predictions: Tensor, targets: Any, name: str) -> None:
    if predictions.shape != targets.shape:
        raise ValueError(
            f"{name}: predictions and targets must have the same shape, got {predictions.shape} and {targets.shape}; "
            "they are not broadcast: reshape one of them"
        )
