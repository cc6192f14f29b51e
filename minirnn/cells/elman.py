"""Elman's cell (Elman 1990): note 003, equation 14-2, and note 000."""

from typing import Any

from minirnn.cells.cell import Cell, Phi
from minirnn.kernels import simple


class Elman(Cell):
    """H_t = φ(Z_t)."""

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
