"""Cells: what a recurrent layer does between its products, each written once as its equation."""

from minirnn.cells.cell import Cell
from minirnn.cells.elman import Elman
from minirnn.cells.gru import GRU, GRUResetBefore
from minirnn.cells.lstm import LSTM

__all__ = ["GRU", "LSTM", "Cell", "Elman", "GRUResetBefore"]
