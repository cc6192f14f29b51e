"""Recurrent layers, what is composed of them, and a model around them."""

from minirnn.recurrent.cell import Cell
from minirnn.recurrent.composites import Bidirectional, BidirectionalState, Stacked
from minirnn.recurrent.elman import RecurrentLayer
from minirnn.recurrent.gru import GRULayer
from minirnn.recurrent.lstm import LSTMLayer, LSTMState
from minirnn.recurrent.recurrence import Recurrence, RecurrentOutput
from minirnn.recurrent.sequence_model import SequenceModel, SequenceOutput
from minirnn.recurrent.settings import BACKENDS

__all__ = [
    "BACKENDS",
    "Bidirectional",
    "BidirectionalState",
    "Cell",
    "GRULayer",
    "LSTMLayer",
    "LSTMState",
    "Recurrence",
    "RecurrentLayer",
    "RecurrentOutput",
    "SequenceModel",
    "SequenceOutput",
    "Stacked",
]
