"""Scheduled sampling: inputs that are in part the model's own predictions."""

from typing import Any

import numpy as np

from minirnn.arguments import Array, as_number, describe
from minirnn.layers import SequenceModel
from minirnn.layers.module import Module
from minirnn.training.batches import Batch, going_back, rows_first
from minirnn.training.evaluation import evaluating


class Mixing:
    """Makes a batch's inputs: at each step and row the data's, or with a probability what the model predicts for it.

    What is drawn depends on the number of the ``update`` alone, so that a run can go on to the same bits.
    """

    def __init__(self, model: Module, probability: Any, tbptt: Any) -> None:
        if not callable(probability):
            as_number(probability, "fit: scheduled_sampling", "a number from 0 to 1", "or a callable (update) -> it")
        fits = isinstance(model, SequenceModel) and model.readout == "all" and going_back(model) is None
        if not fits or tbptt is not None:
            raise TypeError(
                "fit: scheduled_sampling needs a SequenceModel that goes forward in time and predicts at every step, "
                f"without tbptt, got {describe(model)}" + (" with tbptt" if tbptt is not None else "")
            )
        self.model: Any = model
        self.probability, self.update = probability, 0

    def __call__(self, batch: Batch, state: Any) -> Array:
        """Return x in which some steps are predictions; no gradient goes back through them."""
        given = self.probability(self.update) if callable(self.probability) else self.probability
        p = as_number(given, f"fit: scheduled_sampling({self.update})", "a number from 0 to 1")
        x, y = np.asarray(batch.x), np.asarray(batch.y)
        if turned := rows_first(self.model):
            x, y = x.swapaxes(0, 1), y.swapaxes(0, 1)
        valid = np.ones(x.shape[:2], bool)
        if batch.lengths is not None:
            valid = np.arange(len(x))[:, None] < np.asarray(batch.lengths)
        _check(x, y, valid, batch.where)
        rng = np.random.default_rng([0x5353, self.update])
        own = rng.random(x.shape[:2]) < p
        steps = [np.where(_like(valid[0], x[0]), x[0], 0)]
        with evaluating(self.model):
            for t in range(1, len(x)):
                read = self.model.embed(steps[-1], None)
                state = self.model.recurrent.step(read, state)
                predicted = self._drawn(self.model.head(self.model.recurrent.last_output(state)).numpy(), rng)
                known = np.where(_like(valid[t], x[t]), x[t], 0)
                steps.append(np.where(_like(own[t], x[t]), predicted, known).astype(x.dtype))
        mixed = np.stack(steps)
        return mixed.swapaxes(0, 1) if turned else mixed

    def _drawn(self, predicted: Array, rng: np.random.Generator) -> Array:
        """Draw a class for each row from its logits (N, C), where the model reads ids."""
        if self.model.embedding is None:
            return predicted
        sums = np.cumsum(np.exp(predicted - predicted.max(axis=-1, keepdims=True)), axis=-1)
        return np.asarray((sums < rng.random((len(sums), 1)) * sums[:, -1:]).sum(axis=-1))


def _like(mask: Array, x: Array) -> Array:
    return mask.reshape(mask.shape + (1,) * (x.ndim - mask.ndim))


def _check(x: Array, y: Array, valid: Array, where: str) -> None:
    if x.shape != y.shape or not np.array_equal(x[1:][valid[1:]], y[:-1][valid[1:]]):
        raise ValueError(
            f"{where}: scheduled_sampling needs targets that are the next inputs, y[t] = x[t + 1], got others"
        )
