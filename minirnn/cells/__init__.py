"""Cells: what a recurrent layer does between its products, each written once as its equation."""

from minirnn.cells.built_in import GRU, LSTM, Elman, GRUResetBefore, PeepholeLSTM
from minirnn.cells.cell import Cell

__all__ = ["GRU", "LSTM", "Cell", "Elman", "GRUResetBefore", "PeepholeLSTM"]
