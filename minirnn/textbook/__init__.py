"""The equations transcribed literally, and back-propagation through time by hand: `layer`, then `lstm` and `gru`.

Before them `tape`, on one page: how gradients are found that nobody has derived by hand.
"""

from minirnn.textbook.gru import GRUGradients, gru_reset_before_step, gru_step, unroll_gru, unroll_gru_backward
from minirnn.textbook.layer import (
    Gradients,
    head,
    layer_step_batch,
    layer_step_batch_concat,
    layer_step_instance,
    neuron_step,
    unroll,
    unroll_backward,
)
from minirnn.textbook.lstm import LSTMGradients, lstm_step, unroll_lstm, unroll_lstm_backward
from minirnn.textbook.reading import ACTIVATIONS
from minirnn.textbook.tape import Tape, Value

__all__ = [
    "ACTIVATIONS",
    "GRUGradients",
    "Gradients",
    "LSTMGradients",
    "Tape",
    "Value",
    "gru_reset_before_step",
    "gru_step",
    "head",
    "layer_step_batch",
    "layer_step_batch_concat",
    "layer_step_instance",
    "lstm_step",
    "neuron_step",
    "unroll",
    "unroll_backward",
    "unroll_gru",
    "unroll_gru_backward",
    "unroll_lstm",
    "unroll_lstm_backward",
]
