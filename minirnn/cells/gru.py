"""The GRU of Cho et al. 2014, arXiv:1406.1078: version 1 resets after the product with W_hn, version 3 before it."""

from typing import Any

from minirnn.cells.cell import Cell
from minirnn.kernels import gru


class GRU(Cell):
    """H_t = (1 − z) ⊙ n + z ⊙ H_{t-1}, where r goes over the recurrent product of n."""

    gates = {"r": "sigmoid", "z": "sigmoid", "n": "tanh"}
    apart = True
    known_as = "gru"
    kernel = gru.GRU()

    def equation(self, z: Any, x: Any, q: Any, h: Any) -> Any:
        """Return H_t; x is X_t W_xn + b_n, and q is H_{t-1} W_hn + b_hn."""
        r, u = self.activated(z)
        n = self.gate("n", x + r * q)
        return ((1.0 - u) * n + u * h,)


class GRUResetBefore(Cell):
    """H_t = (1 − z) ⊙ n + z ⊙ H_{t-1}, where r goes over H_{t-1} before the recurrent product of n."""

    gates = GRU.gates
    apart = staged = True
    known_as = "gru"
    kernel = gru.GRUResetBefore()

    def stage(self, z: Any, h: Any) -> Any:
        """Return what W_hn is multiplied with, r ⊙ H_{t-1}."""
        (r,) = self.activated(z, "r")
        return r * h

    def equation(self, z: Any, x: Any, q: Any, h: Any) -> Any:
        """Return H_t; x is X_t W_xn + b_n, and q is (r ⊙ H_{t-1}) W_hn."""
        (u,) = self.activated(z, "z")
        n = self.gate("n", x + q)
        return ((1.0 - u) * n + u * h,)
