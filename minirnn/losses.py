"""Losses: predictions and targets go in, one number comes out: the mean over all targets, for `Tensor.backward`.

They refuse to broadcast: a prediction (N, 1) against a target (N,) would quietly become (N, N), and is a ValueError.
``lengths``, N integers, masks padding: for predictions (T, N, …), or (N, T, …) with ``batch_first=True``, only steps
t < lengths[n] of row n count, in the loss and in the gradient; what stands in the padding, NaN included, changes
nothing. ``reduction`` "sum" adds the targets' losses up, "none" returns one for each, 0 where it does not count. A loss
with other settings, for `fit`, is ``functools.partial(mr.losses.cross_entropy, label_smoothing=0.1)``.
"""

from collections.abc import Callable
from typing import Any, Literal, TypeAlias, get_args

import numpy as np

from minirnn.arguments import (
    Array,
    as_array,
    as_flag,
    as_kind,
    as_number,
    class_ids,
    constant,
    counting,
    describe,
    one_of,
    typed,
)
from minirnn.autograd import ops
from minirnn.autograd.functions import abs, log_softmax, minimum, where
from minirnn.autograd.record import apply
from minirnn.autograd.tensor import Tensor

Reduction: TypeAlias = Literal["mean", "sum", "none"]
REDUCTIONS: tuple[Reduction, ...] = get_args(Reduction)


def mse(
    predictions: Any, targets: Any, lengths: Any = None, *, reduction: Reduction = "mean", batch_first: bool = False
) -> Tensor:
    """Mean squared error, mean (prediction − target)², in squared units of the target; both have one shape (…)."""
    difference, mask = _differences(predictions, targets, lengths, batch_first, "mse")
    return _reduced(difference * difference, mask, reduction, "mse")


def l1(
    predictions: Any, targets: Any, lengths: Any = None, *, reduction: Reduction = "mean", batch_first: bool = False
) -> Tensor:
    """Mean absolute error, mean |prediction − target|, in units of the target; both have one shape (…)."""
    difference, mask = _differences(predictions, targets, lengths, batch_first, "l1")
    return _reduced(abs(difference), mask, reduction, "l1")


def huber(
    predictions: Any,
    targets: Any,
    lengths: Any = None,
    *,
    delta: float = 1.0,
    reduction: Reduction = "mean",
    batch_first: bool = False,
) -> Tensor:
    """Huber's loss (1964), mean ½d² where |d| ≤ δ, else δ(|d| − ½δ), of d = prediction − target, one shape (…)."""
    delta = as_number(delta, "huber: delta", "a positive number", "try 1.0")
    difference, mask = _differences(predictions, targets, lengths, batch_first, "huber")
    size = abs(difference)
    within = minimum(size, delta)
    return _reduced(within * (size - 0.5 * within), mask, reduction, "huber")


def cross_entropy(
    logits: Any,
    ids: Any,
    lengths: Any = None,
    *,
    weight: Any = None,
    ignore_index: int | None = None,
    label_smoothing: float = 0.0,
    reduction: Reduction = "mean",
    batch_first: bool = False,
) -> Tensor:
    """Cross entropy, mean −ln softmax(logits)[id], in nats per target; divide by ln 2 for bits.

    Parameters
    ----------
    logits : array_like or Tensor (…, C)
        They stand before the softmax.
    ids : array_like of int (…)
        The right classes, 0 … C − 1: TypeError for what is no integer, IndexError for one out of range.
    weight : array_like (C,), optional
        By which each class's targets are multiplied; the mean is then Σ w·loss / Σ w.
    ignore_index : int, optional
        An id whose targets do not count.
    label_smoothing : float
        ε in [0, 1): the target is (1 − ε)·one_hot(id) + ε/C (Szegedy et al. 2016); with weights as torch has it.
    """
    logits = _floats(logits, "cross_entropy: logits")
    array = as_kind(ids, "biufcmMOSUV", "cross_entropy: ids must be one array", "pad them to one length")
    if not logits.ndim or array.shape != logits.shape[:-1]:
        raise ValueError(
            f"cross_entropy: logits must have shape (…, C) and ids (…), got {logits.shape} and {array.shape}: ids are "
            "class ids, not one-hot vectors"
        )
    C, smooth = logits.shape[-1], as_number(label_smoothing, "cross_entropy: label_smoothing", "a number in [0, 1)")
    mask = _mask(lengths, array.shape, batch_first, "cross_entropy")
    if ignore_index is not None:
        mask = (array != ignore_index) & (True if mask is None else mask)
    if mask is not None:
        array, logits = np.where(mask, array, 0), where(mask[..., None], logits, 0.0)
    array = class_ids(array, C, "cross_entropy: ids").copy()  # so that a loop may refill the ids before backward
    each = apply(ops.cross_entropy, logits, ids=array)
    weights = None if weight is None else _weights(weight, C).astype(logits.dtype)
    by_target = None if weights is None else weights[array]
    if by_target is not None:
        each = each * by_target
    if smooth:
        surprise = -log_softmax(logits)
        every = surprise if weights is None else surprise * weights
        each = (1 - smooth) * each + (smooth / C) * every.sum(axis=-1)
    return _reduced(each, mask, reduction, "cross_entropy", by_target)


def binary_cross_entropy(
    logits: Any,
    targets: Any,
    lengths: Any = None,
    *,
    pos_weight: Any = None,
    reduction: Reduction = "mean",
    batch_first: bool = False,
) -> Tensor:
    """Binary cross entropy, mean −w·t ln σ(x) − (1 − t) ln(1 − σ(x)), in nats per target.

    ``logits`` x (…) stand before the sigmoid; ``targets`` t of the same shape are constants between 0 and 1.
    ``pos_weight``, a number or an array that broadcasts to (…), such as one for each feature, is w, else 1.
    """
    logits = _floats(logits, "binary_cross_entropy: logits")
    mask = _mask(lengths, logits.shape, batch_first, "binary_cross_entropy")
    target = _floats(constant(targets, name := "binary_cross_entropy: targets"), name, logits, mask).data.copy()
    if mask is not None:
        target, logits = np.where(mask, target, 0), where(mask, logits, 0.0)
    if (outside := ~((target >= 0) & (target <= 1))).any():  # NaN is outside too
        at = [int(i) for i in np.argwhere(outside)[0]]
        raise ValueError(
            f"binary_cross_entropy: targets must lie between 0 and 1, got {target[tuple(at)]} at {at}: "
            "they are probabilities; it is the logits that may be any number"
        )
    if pos_weight is None:
        each = apply(ops.binary_cross_entropy, logits, target=target)
    else:
        w = as_array(constant(pos_weight, name := "binary_cross_entropy: pos_weight"), name, logits.dtype)
        w = w.astype(logits.dtype)
        yes, no = (apply(ops.binary_cross_entropy, logits, target=np.full_like(target, t)) for t in (1, 0))
        each = where(target > 0, yes * (w * target), 0.0) + where(target < 1, no * (1 - target), 0.0)  # no 0·∞
    return _reduced(each, mask, reduction, "binary_cross_entropy")


def divisor(loss: Callable[..., Any], targets: Any, lengths: Any = None, batch_first: bool = False) -> float:
    """Return what a loss over these targets was divided by: their number, or Σ w of those that count; a sum by 1."""
    return 1.0 if is_sum(loss) else counted(loss, targets, lengths, batch_first)


def is_sum(loss: Callable[..., Any]) -> bool:
    """Whether a loss is a ``functools.partial`` with ``reduction="sum"``; any other is taken for a mean."""
    return getattr(loss, "keywords", {}).get("reduction") == "sum"


def counted(measure: Callable[..., Any], targets: Any, lengths: Any = None, batch_first: bool = False) -> float:
    """Return how many of these targets a loss, or a metric, counts; or Σ w of them, for a loss with class weights."""
    settings = getattr(measure, "keywords", {})
    y = np.asarray(targets)
    counts = _mask(lengths, y.shape, batch_first, "divisor")
    mask = np.ones(y.shape, bool) if counts is None else counts
    if (ignored := settings.get("ignore_index")) is not None:
        mask = mask & (y != ignored)
    weight = settings.get("weight") if getattr(measure, "func", measure) is cross_entropy else None
    if weight is None:
        return float(np.count_nonzero(mask))
    return float(np.asarray(weight)[y[mask]].sum())


def _differences(
    predictions: Any, targets: Any, lengths: Any, batch_first: bool, name: str
) -> tuple[Any, Array | None]:
    predictions = _floats(predictions, f"{name}: predictions")
    mask = _mask(lengths, predictions.shape, batch_first, name)
    target = _floats(targets, f"{name}: targets", predictions, mask)
    if mask is not None:
        predictions, target = where(mask, predictions, 0.0), where(mask, target, 0.0)
    return predictions - target, mask


def _reduced(each: Tensor, mask: Array | None, reduction: str, name: str, weights: Array | None = None) -> Tensor:
    """Reduce to one number over the targets that count, by their weights, or not."""
    if type(reduction) is str and reduction == "mean" and mask is None and weights is None:
        return each.mean()
    kind = one_of(reduction, REDUCTIONS, f"{name}: reduction")
    kept = each if mask is None else where(mask, each, 0.0)
    if kind == "none":
        return kept
    if kind == "sum":
        return kept.sum()
    if weights is None:
        total = float(np.count_nonzero(each.data if mask is None else mask))
    else:
        total = float(weights.sum(dtype=float) if mask is None else weights[mask].sum(dtype=float))
    if not total:
        raise ValueError(f"{name}: the mean is over no target: all are ignored, or their classes have weight 0")
    return kept.sum() / total


def _weights(weight: Any, C: int) -> Array:
    array = as_array(constant(weight, "cross_entropy: weight"), "cross_entropy: weight", np.float64)
    if array.shape != (C,) or not (np.isfinite(array) & (array >= 0)).all():
        raise ValueError(f"cross_entropy: weight must be {C} numbers ≥ 0, one for each class, got {describe(array)}")
    return array


def _floats(values: Any, argument: str, like: Tensor | None = None, mask: Array | None = None) -> Tensor:
    """Return a Tensor of floats that is not empty; targets are made like the predictions, and not broadcast."""
    dtype, own = (np.float32, np.float32) if like is None else (like.dtype, np.float64)
    given = values if isinstance(values, Tensor) else Tensor(as_array(values, argument, own))
    if like is not None and given.shape != like.shape:
        raise ValueError(
            f"{argument} must have the shape of the predictions, {like.shape}, got {given.shape}: they are not "
            "broadcast, so reshape one of them"
        )
    if not given.size:
        raise ValueError(f"{argument} must hold at least one target, got shape {given.shape}")
    kept = given.dtype.kind == "f" if like is None else given.dtype == dtype
    return given if kept else typed(given, dtype, argument, True if mask is None else mask)


def _mask(lengths: Any, shape: tuple[int, ...], batch_first: bool, name: str) -> Array | None:
    """Return which of the targets (T, N, …), or (N, T, …), count, in their shape; None if all do."""
    batch_first = batch_first is not False and as_flag(batch_first, f"{name}: batch_first")
    if lengths is None:
        return None
    if len(shape) < 2:
        raise ValueError(f"{name}: lengths can mask targets of shape (T, N, …) only, got {shape}: leave it out")
    valid = counting(lengths, shape, f"{name}: lengths", batch_first)
    return np.broadcast_to(valid.reshape(*shape[:2], *(1,) * (len(shape) - 2)), shape)
