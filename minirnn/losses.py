"""Losses: one number in, for `Tensor.backward`; every one is the mean over its targets.

They refuse to broadcast: a prediction (N, 1) against a target (N,) would quietly become (N, N).
``lengths`` masks padding: for predictions (T, N, …) only steps t < lengths[n] of row n count, in the loss and in the
gradient; what stands in the padding, NaN included, changes nothing. Checked by tests/test_losses.py.
"""

from typing import Any

import numpy as np

from minirnn import ops
from minirnn.arguments import as_array, class_ids, describe
from minirnn.functions import where
from minirnn.op import Array
from minirnn.tensor import Tensor, apply


def mse(predictions: Any, targets: Any, *, lengths: Any = None) -> Tensor:
    """Mean squared error, mean (prediction − target)², in squared units of the target.

    Parameters
    ----------
    predictions : Tensor (…)
    targets : array_like or Tensor of the same shape
    lengths : array_like of int (N,), optional
        For predictions (T, N, …): how many steps of each row count.

    Raises
    ------
    ValueError
        When the shapes differ.
    """
    predictions, valid = _prepared(predictions, lengths, "mse")
    target = targets if isinstance(targets, Tensor) else Tensor(as_array(targets, "mse: targets"))
    _same_shape(predictions, target, "mse")
    target = target.astype(predictions.dtype)
    if valid is not None:
        mask = valid.reshape(valid.shape + (1,) * (predictions.ndim - 2))
        predictions, target = where(mask, predictions, 0.0), where(mask, target, 0.0)
    square: Tensor = (predictions - target) ** 2
    if valid is None:
        return square.mean()
    return square.sum() / (int(valid.sum()) * int(np.prod(predictions.shape[2:])))


def cross_entropy(logits: Any, ids: Any, *, lengths: Any = None) -> Tensor:
    """Cross entropy, mean −ln softmax(logits)[id], in nats per target; divide by ln 2 for bits.

    Parameters
    ----------
    logits : Tensor (…, C)
        Before the softmax.
    ids : array_like of int (…)
        The right class of each, 0 … C − 1.
    lengths : array_like of int (N,), optional
        For logits (T, N, C): how many steps of each row count.

    Raises
    ------
    TypeError, IndexError, ValueError
        For ids that are not integers, out of range, or of another shape.
    """
    logits, valid = _prepared(logits, lengths, "cross_entropy")
    if not logits.ndim:
        raise ValueError("cross_entropy: logits must have shape (…, C), got a single number")
    array = np.asarray(ids)
    if array.shape != logits.shape[:-1]:
        raise ValueError(
            f"cross_entropy: for logits {logits.shape} ids must have shape {logits.shape[:-1]}, got {array.shape}; "
            "class ids, not one-hot vectors"
        )
    if valid is not None:
        array, logits = np.where(valid, array, 0), where(valid[..., None], logits, 0.0)
    nats = apply(ops.cross_entropy, logits, ids=class_ids(array, logits.shape[-1], "cross_entropy: ids"))
    return _mean(nats, valid)


def binary_cross_entropy(logits: Any, targets: Any, *, lengths: Any = None) -> Tensor:
    """Binary cross entropy, mean −t ln σ(x) − (1 − t) ln(1 − σ(x)), in nats per target.

    Parameters
    ----------
    logits : Tensor (…)
        Before the sigmoid.
    targets : array_like of the same shape
        Constants between 0 and 1.
    lengths : array_like of int (N,), optional
        For logits (T, N, …): how many steps of each row count.

    Raises
    ------
    ValueError
        When the shapes differ, or a target lies outside 0 … 1.
    """
    logits, valid = _prepared(logits, lengths, "binary_cross_entropy")
    target = as_array(targets, "binary_cross_entropy: targets").astype(logits.dtype)
    _same_shape(logits, target, "binary_cross_entropy")
    mask = None
    if valid is not None:
        mask = np.broadcast_to(valid.reshape(valid.shape + (1,) * (logits.ndim - 2)), logits.shape)
        target, logits = np.where(mask, target, 0), where(mask, logits, 0.0)
    if not ((target >= 0) & (target <= 1)).all():
        raise ValueError("binary_cross_entropy: targets must lie between 0 and 1")
    return _mean(apply(ops.binary_cross_entropy, logits, target=target), mask)


def _mean(nats: Tensor, valid: Array | None) -> Tensor:
    return nats.mean() if valid is None else where(valid, nats, 0.0).sum() / int(valid.sum())


def _prepared(predictions: Any, lengths: Any, name: str) -> tuple[Tensor, Array | None]:
    """Return the predictions as a float Tensor and, for ``lengths``, the (T, N) mask of the steps that count."""
    label = "predictions" if name == "mse" else "logits"
    tensor = predictions if isinstance(predictions, Tensor) else Tensor(as_array(predictions, f"{name}: {label}"))
    if tensor.dtype.kind != "f":
        tensor = tensor.astype(np.float32)
    if not tensor.size:
        raise ValueError(f"{name}: {label} must hold at least one target, got shape {tensor.shape}")
    return tensor, None if lengths is None else valid_steps(lengths, tensor.shape, f"{name}: lengths")


def valid_steps(lengths: Any, shape: tuple[int, ...], argument: str) -> Array:
    """Return the (T, N) mask of steps t < lengths[n].

    Raises
    ------
    TypeError, ValueError
        Unless lengths are N integers 1 … T.
    """
    if len(shape) < 2:
        raise ValueError(f"{argument}: needs predictions of shape (T, N, …), got {shape}")
    T, N = shape[:2]
    array = np.asarray(lengths)
    if array.dtype.kind not in "iu":
        raise TypeError(f"{argument} must be integers, one for each row, got {describe(array)}")
    if array.shape != (N,):
        raise ValueError(f"{argument} must have shape (N={N},), one for each row, got {array.shape}")
    if array.size and (array.min() < 1 or array.max() > T):
        bad = int(np.flatnonzero((array < 1) | (array > T))[0])
        raise ValueError(f"{argument} must lie between 1 and T={T}, got {array[bad]} for row {bad}")
    mask: Array = np.arange(T)[:, None] < array
    return mask


def _same_shape(predictions: Tensor, targets: Any, name: str) -> None:
    if predictions.shape != targets.shape:
        raise ValueError(
            f"{name}: predictions and targets must have the same shape, got {predictions.shape} and {targets.shape}; "
            "they are not broadcast: reshape one of them"
        )
