"""Layers with dropout between them, nowhere, or on their recurrent connections too."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from minirnn.autograd.functions import stack
from minirnn.autograd.tensor import Tensor
from minirnn.layers import Recurrence, RecurrentLayer, RecurrentOutput, SequenceModel, Stacked
from minirnn.layers.module import Module
from minirnn.layers.plain import Dropout, Linear, Sequential

P = 0.5
"""The probability of dropping an entry."""
WITHOUT, BETWEEN, EVERYWHERE, SEQUENCE = "without dropout", "feed-forward only", "everywhere", "recurrent_dropout"
"""The placements of dropout; ``EVERYWHERE`` is on the feed-forward connections and, step by step, on W_hh's."""


class DroppedEveryStep(Recurrence):
    """A layer with dropout on its recurrent connections, with a mask of its own at every step::

        H_t = φ(X_t W_xh + (m_t ⊙ H_{t-1} / (1 − p)) W_hh + b_h),   m_t ~ Bernoulli(1 − p)

    This is what the paper keeps away from, and no setting of a layer: ``recurrent_dropout`` is one mask a sequence.

    Parameters
    ----------
    layer : RecurrentLayer
        One that goes forward, time first. All of its memory goes through W_hh, as an LSTM's does not.
    p : float
        With 0 it does what the layer does.
    rng : numpy.random.Generator or int
        Where the masks come from.

    Notes
    -----
    In evaluation mode it is the layer.
    """

    reverse = False
    batch_first = False

    def __init__(self, layer: RecurrentLayer, p: float, rng: np.random.Generator | int) -> None:
        super().__init__()
        self.layer, self.dropout = layer, Dropout(p, rng) if p else None
        self.input_size, self.output_size, self.dtype = layer.input_size, layer.output_size, layer.dtype

    def forward(self, x: Any, initial_state: Any = None, lengths: Any = None, *, reset: Any = None) -> RecurrentOutput:
        """Run over x (T, N, D), one step after the other; ``lengths`` and ``reset`` are refused while training."""
        if not self.training or self.dropout is None:
            return self.layer(x, initial_state, lengths, reset=reset)
        if lengths is not None or reset is not None:
            raise ValueError(f"{self.name}: lengths and reset are not known to it in training: leave them out")
        h = np.zeros((x.shape[1], self.output_size), self.dtype) if initial_state is None else initial_state
        outputs = []
        for x_t in x:
            h = self.layer.step(x_t, self.dropout(h))
            outputs.append(h)
        return RecurrentOutput(stack(outputs), h)

    def last_output(self, final_state: Any) -> Tensor:
        """Return the (N, H) output that belongs to a final state."""
        output: Tensor = final_state
        return output


def build(
    placement: str, sizes: Sequence[int], rng: np.random.Generator, p: float = P, **settings: Any
) -> SequenceModel:
    """Build layers one on top of the other, and a head that reads the last state of the uppermost.

    Parameters
    ----------
    placement : str
        Of dropout. The weights do not depend on it.
    sizes : D, H of each layer, P of the head
    rng : numpy.random.Generator
    p : float
    **settings
        Of each `RecurrentLayer`.
    """
    for_weights, for_masks = rng.spawn(2)
    one_mask = p if placement == SEQUENCE else 0.0
    layers: list[Recurrence] = []
    for D, H in pairwise(sizes[:-1]):
        layer = RecurrentLayer(D, H, recurrent_dropout=one_mask, rng=for_weights, **settings)
        layers.append(DroppedEveryStep(layer, p, for_masks) if placement == EVERYWHERE else layer)
    head: Module = Linear(sizes[-2], sizes[-1], dtype=layers[0].dtype, rng=for_weights)
    if placement == WITHOUT:
        return SequenceModel(Stacked(layers), head, readout="last")
    recurrent = Stacked(layers, p, rng=for_masks) if len(layers) > 1 else Stacked(layers)
    return SequenceModel(recurrent, Sequential(Dropout(p, for_masks), head), readout="last")
