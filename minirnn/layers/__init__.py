"""Modules: layers without recurrence, recurrent layers, what is composed of them, and a model around them."""

from minirnn.cells import Cell
from minirnn.layers.composites import Bidirectional, BidirectionalState, Stacked
from minirnn.layers.containers import ModuleDict, ModuleList, Sequential
from minirnn.layers.family import GRULayer, LSTMLayer, LSTMState, RecurrentLayer
from minirnn.layers.module import Module, Parameter
from minirnn.layers.plain import Dropout, Embedding, Linear, OneHot
from minirnn.layers.recurrence import Recurrence, RecurrentOutput
from minirnn.layers.sequence_model import SequenceModel, SequenceOutput
from minirnn.layers.settings import BACKENDS

__all__ = [
    "BACKENDS",
    "Bidirectional",
    "BidirectionalState",
    "Cell",
    "Dropout",
    "Embedding",
    "GRULayer",
    "LSTMLayer",
    "LSTMState",
    "Linear",
    "Module",
    "ModuleDict",
    "ModuleList",
    "OneHot",
    "Parameter",
    "Recurrence",
    "RecurrentLayer",
    "RecurrentOutput",
    "SequenceModel",
    "SequenceOutput",
    "Sequential",
    "Stacked",
]
