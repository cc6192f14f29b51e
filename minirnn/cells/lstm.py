"""The LSTM of Hochreiter & Schmidhuber 1997, with the forget gate of Gers, Schmidhuber & Cummins 2000."""

from typing import Any

from minirnn.cells.cell import Cell
from minirnn.kernels.lstm import LSTM as Kernel


class LSTM(Cell):
    """C_t = f ⊙ C_{t-1} + i ⊙ g and H_t = o ⊙ tanh(C_t)."""

    gates = {"i": "sigmoid", "f": "sigmoid", "g": "tanh", "o": "sigmoid"}
    state_names = ("h", "c")
    bias_settings = {"f": "forget_bias"}
    known_as = "lstm"
    kernel = Kernel()

    def equation(self, z: Any, h: Any, c: Any) -> Any:
        """Return H_t and C_t."""
        i, f, g, o = self.activated(z)
        c = f * c + i * g
        return o * c.tanh(), c
