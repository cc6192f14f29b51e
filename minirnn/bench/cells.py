"""The layers that are measured, by the name of their cell, and what the textbook says of each."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

from minirnn import textbook
from minirnn.layers import GRULayer, LSTMLayer, RecurrentLayer


class Kind(NamedTuple):
    """A kind of layer, and the textbook's functions for it, in float64."""

    layer: type[RecurrentLayer] | type[LSTMLayer] | type[GRULayer]
    weights: tuple[str, ...]  # the names of its Parameters, in order
    outputs: Callable[..., Any]  # (x, *state, *weights) -> array (T, N, H)
    gradients: Callable[..., tuple[Any, ...]]
    """(x, *state, *weights, gradient of the outputs) -> gradients of x, of each state and of each weight."""

    @property
    def name(self) -> str:
        """Return the name of the class."""
        return self.layer.__name__

    @property
    def states(self) -> tuple[str, ...]:
        """Return what the arrays (N, H) of a state are called: h, and of an LSTM c."""
        return self.layer.state_names

    @property
    def gates(self) -> int:
        """Return G."""
        return self.layer.gates


KINDS = {
    "elman": Kind(
        RecurrentLayer,
        ("W_xh", "W_hh", "b_h"),
        partial(textbook.unroll, textbook.layer_step_batch),
        textbook.unroll_backward,
    ),
    "lstm": Kind(
        LSTMLayer,
        ("W_xh", "W_hh", "b_h"),
        lambda *arrays: textbook.unroll_lstm(*arrays)[0],
        textbook.unroll_lstm_backward,
    ),
    "gru": Kind(GRULayer, ("W_xh", "W_hh", "b_h", "b_hn"), textbook.unroll_gru, textbook.unroll_gru_backward),
}
