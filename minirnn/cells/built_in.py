"""The cells that other libraries have too, each once, as its equation; kernels beside them are for speed only."""

from typing import Any

from minirnn.autograd.functions import sigmoid
from minirnn.cells.cell import Cell, Phi
from minirnn.kernels import gated, simple


class Elman(Cell):
    """Elman's cell (Elman 1990; note 003, equation 14-2; note 000): H_t = φ(Z_t)."""

    known_as = "elman"

    def __init__(self, phi: Phi) -> None:
        self.phi = phi
        self.gates = {"h": phi}
        self.kernel = simple.Elman(phi.kernel)

    @property
    def labels(self) -> list[str]:
        """What stands in the cell of a drawing: φ."""
        return [self.phi.name]

    def equation(self, z: Any, h: Any) -> Any:
        """Return H_t."""
        return (self.gate("h", z),)


class LSTM(Cell):
    """C_t = f ⊙ C_{t-1} + i ⊙ g and H_t = o ⊙ tanh(C_t).

    Hochreiter & Schmidhuber 1997, with the forget gate of Gers, Schmidhuber & Cummins 2000.
    """

    gates = {"i": "sigmoid", "f": "sigmoid", "g": "tanh", "o": "sigmoid"}
    state_names = ("h", "c")
    bias_settings = {"f": "forget_bias"}
    known_as = "lstm"
    kernel = gated.LSTM()

    def equation(self, z: Any, h: Any, c: Any) -> Any:
        """Return H_t and C_t."""
        i, f, g, o = self.activated(z)
        c = f * c + i * g
        return o * c.tanh(), c


class PeepholeLSTM(Cell):
    """An LSTM whose gates read the cell state: i and f that of the step before, o the new one.

    Gers & Schmidhuber 2000, "Recurrent nets that time and count".
    """

    gates, state_names, bias_settings, known_as = LSTM.gates, LSTM.state_names, LSTM.bias_settings, LSTM.known_as
    vectors = ("w_ci", "w_cf", "w_co")

    def equation(self, z: Any, h: Any, c: Any, w_ci: Any, w_cf: Any, w_co: Any) -> Any:
        """Return H_t and C_t."""
        H = c.shape[1]
        i = self.term("i", sigmoid(z[:, :H] + w_ci * c))
        f = self.term("f", sigmoid(z[:, H : 2 * H] + w_cf * c))
        g = self.gate("g", z[:, 2 * H : 3 * H])
        c = f * c + i * g
        o = self.term("o", sigmoid(z[:, 3 * H :] + w_co * c))
        return o * c.tanh(), c


class GRU(Cell):
    """H_t = (1 − z) ⊙ n + z ⊙ H_{t-1}, where r goes over the recurrent product of n (Cho et al. 2014, 1406.1078v1)."""

    gates = {"r": "sigmoid", "z": "sigmoid", "n": "tanh"}
    apart = True
    known_as = "gru"
    kernel = gated.GRU()

    def equation(self, z: Any, x: Any, q: Any, h: Any) -> Any:
        """Return H_t; x is X_t W_xn + b_n, and q is H_{t-1} W_hn + b_hn."""
        r, u = self.activated(z)
        n = self.gate("n", x + r * q)
        return ((1.0 - u) * n + u * h,)


class GRUResetBefore(Cell):
    """H_t = (1 − z) ⊙ n + z ⊙ H_{t-1}, where r goes over H_{t-1} before its product (Cho et al. 2014, 1406.1078v3)."""

    gates = GRU.gates
    apart = staged = True
    known_as = "gru"
    kernel = gated.GRUResetBefore()

    def stage(self, z: Any, h: Any) -> Any:
        """Return r ⊙ H_{t-1}, by which W_hn is multiplied."""
        (r,) = self.activated(z, "r")
        return r * h

    def equation(self, z: Any, x: Any, q: Any, h: Any) -> Any:
        """Return H_t; x is X_t W_xn + b_n, and q is (r ⊙ H_{t-1}) W_hn."""
        (u,) = self.activated(z, "z")
        n = self.gate("n", x + q)
        return ((1.0 - u) * n + u * h,)
