"""Messages clipped on their way back."""

import numpy as np

from minirnn.arguments import Array


def clipped(d: Array, largest: float, axis: int) -> Array:
    """Return ``d`` with each vector along ``axis`` whose norm exceeds ``largest`` scaled to it.

    The squares are of parts of the largest entry, so that they neither overflow nor vanish. A vector that is not finite
    stays as it is: scaled, an inf would become a NaN, and nobody would find where it came from.
    """
    peak = np.abs(d).max(axis=axis, keepdims=True)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        unit = d / peak
        size = np.sqrt(np.square(unit).sum(axis=axis, keepdims=True))
        over = peak * size > largest  # False where an entry is not finite, and for zeros: size is NaN then
        return np.where(over, unit * (largest / size).astype(d.dtype), d)
