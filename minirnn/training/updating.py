"""One update: predict, measure, go back, clip, step."""

import math
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from minirnn.arguments import describe
from minirnn.autograd.modes import AnomalyError, detect_anomaly
from minirnn.autograd.tensor import Tensor
from minirnn.layers.module import Module
from minirnn.losses import counted, cross_entropy, divisor, is_sum
from minirnn.optim import Optimizer, clip_grad_norm
from minirnn.training.batches import Loss, Metric, Piece
from minirnn.training.evaluation import accuracy
from minirnn.training.history import History


class NonFiniteError(FloatingPointError):
    """`fit` met a loss or a gradient that is NaN or infinite; ``history`` is that of the updates before it."""

    def __init__(self, message: str, history: Any = None) -> None:
        super().__init__(message)
        self.history: History = history


class Update(NamedTuple):
    """What makes one update of a batch, or of several that are taken together."""

    loss: Loss
    optimizer: Optimizer
    max_norm: float
    metrics: Mapping[str, Metric]
    hook: Callable[[list[Tensor]], object] | None
    accumulates: bool

    def __call__(
        self, pieces: Iterable[tuple[Piece, Any]], history: History
    ) -> tuple[float, float, dict[str, float], Any]:
        """Give the loss, the gradients' norm before clipping, the metrics, and the place after it; or NonFiniteError.

        Each piece comes with the place after it.
        """
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):  # what comes of it is refused
            self.optimizer.zero_grad()
            if self.accumulates:
                value, measured, last, after = self._of_several(pieces, history)
            else:
                ((last, after),) = pieces
                value, measured, state = self._gone_back(last, None, history)
            try:
                norm = self._stepped(value)
            except FloatingPointError as error:
                raise self._refused(error, last, history) from None
        if not self.accumulates:
            last.keep(state)
        return value, norm, measured, after

    def _of_several(self, pieces: Iterable[tuple[Piece, Any]], history: History) -> Any:
        """Read them one after the other; leave the gradient that one batch of all their rows would have.

        Loss and metrics, too, are those of such a batch: each piece counts by its targets.
        """
        losses: list[tuple[float, float]] = []  # each with its weight
        figures: dict[str, list[tuple[float, float]]] = {n: [] for n in self.metrics}
        for piece, after in pieces:
            weight = divisor(self.loss, piece.y, **piece.mask)
            value, measured, state = self._gone_back(piece, weight, history)
            piece.keep(state)  # the next piece goes on from there
            last = piece, after
            losses.append((value, weight))
            for n, figure in measured.items():
                figures[n].append((figure, counted(self.metrics[n], piece.y, **piece.mask)))
        total = 1.0 if is_sum(self.loss) else math.fsum(weight for _, weight in losses)
        for p in self.optimizer.params:
            p.grad = None if p.grad is None else p.grad / p.dtype.type(total)
        value = math.fsum(v * weight for v, weight in losses) / total
        return value, {n: _mean(weighed) for n, weighed in figures.items()}, *last

    def _gone_back(self, piece: Piece, weight: float | None, history: History) -> tuple[float, dict[str, float], Any]:
        """Predict, measure and go back, the loss times ``weight``; give loss, metrics, and what comes after."""
        try:
            predictions, state = piece.predict()
            if isinstance(predictions, np.ndarray):
                raise TypeError(
                    f"fit: model must return a Tensor, got {describe(predictions)}: the gradient would end there, so "
                    "leave .numpy() out"
                )
            loss = piece.lost(self.loss, predictions, "fit")
            if not isinstance(loss, Tensor):
                raise TypeError(
                    f"fit: loss must return a Tensor, got {describe(loss)}: make it of minirnn's ops and losses"
                )
            value = loss.item() + 0.0  # no −0, which would be shown as such
            if not math.isfinite(value):
                raise FloatingPointError(f"the loss is {value}")
            # Measured now, while the predictions are in the processor's cache.
            shown = predictions.numpy()
            measured = {n: _figure(piece, metric, shown, f"fit: metrics[{n!r}]") for n, metric in self.metrics.items()}
            loss.backward(None if weight is None else np.full(loss.shape, weight, loss.dtype))
        except FloatingPointError as error:
            raise self._refused(error, piece, history) from None
        return value, measured, state

    def _stepped(self, value: float) -> float:
        if self.hook is not None:
            self.hook(self.optimizer.params)
        try:
            norm = clip_grad_norm(self.optimizer.params, self.max_norm)
        except FloatingPointError:
            raise FloatingPointError(f"the loss is {value:.4g}, but its gradient is not finite") from None
        self.optimizer.step()
        return norm

    def _refused(self, error: Exception, piece: Piece, history: History) -> NonFiniteError:
        """Say what `detect_anomaly` shows for the batch: no Parameter has changed since."""
        shown = "detect_anomaly: nothing that is not finite; is there chance in the model, or in the loss?"
        self.optimizer.zero_grad()
        try:
            with detect_anomaly():
                piece.measured(self.loss, piece.predict()[0], "fit: loss").backward()
        except AnomalyError as anomaly:
            shown = str(anomaly)
        self.optimizer.zero_grad()
        return NonFiniteError(
            f"fit: update {history.updates + 1} was not made: {error}. The same batch again, under {shown}. If the "
            "data are good, try a smaller learning rate or clip_norm",
            history,
        )


def _figure(piece: Piece, metric: Metric, predictions: Any, argument: str) -> float:
    figure = piece.measured(metric, predictions, argument)
    try:
        return float(figure) + 0.0
    except (TypeError, ValueError):
        raise TypeError(f"{argument} must return a number, got {describe(figure)}: try its mean") from None


def _mean(weighed: list[tuple[float, float]]) -> float:
    total = math.fsum(weight for _, weight in weighed)
    return math.fsum(v * weight for v, weight in weighed if weight) / total if total else math.nan


def metrics_of(metrics: Any, loss: Loss) -> Mapping[str, Metric]:
    """Choose what is measured of every update: the accuracy of a classifier, unless it was said what."""
    if metrics is None:
        if getattr(loss, "func", loss) is not cross_entropy:
            return {}
        ignored = getattr(loss, "keywords", {}).get("ignore_index")
        return {"accuracy": accuracy if ignored is None else partial(accuracy, ignore_index=ignored)}
    if not isinstance(metrics, Mapping) or not all(map(callable, metrics.values())):
        raise TypeError(
            f'fit: metrics must be a dict of callables, got {describe(metrics)}: try {{"accuracy": accuracy}}'
        )
    return metrics


def trains(optimizer: Optimizer, model: Module, hook: Any) -> None:
    """Check that an update can change the model."""
    if hook is not None and not callable(hook):
        raise TypeError(f"fit: gradient_hook must be a callable (parameters), got {describe(hook)}: try None")
    if not isinstance(optimizer, Optimizer):
        got = describe(optimizer)
        raise TypeError(f"fit: optimizer must be an Optimizer, got {got}: try minirnn.optim.Adam(model.parameters())")
    if not any(p.requires_grad for p in optimizer.params):
        raise ValueError(
            "fit: optimizer has frozen Parameters only, requires_grad=False, so that nothing would be learnt: set it "
            "to True for those to be trained"
        )
    of_model = {id(p) for p in model.parameters()}
    if not any(id(p) in of_model for p in optimizer.params):
        raise ValueError("fit: optimizer has no Parameter of this model: make it of model.parameters()")
