"""LayerNorm: the features of each entry brought to mean 0 and variance 1."""

from typing import Any

import numpy as np
import numpy.typing as npt

from minirnn.arguments import as_array, as_flag, as_number, as_size, float_dtype, typed
from minirnn.autograd.modes import check_finite
from minirnn.autograd.more import normalise
from minirnn.autograd.tensor import Tensor, unary
from minirnn.layers.module import Module, Parameter


class LayerNorm(Module):
    """y = (x − μ) / √(σ² + ε) ⊙ weight + bias, μ and σ² over the last axis of each entry: (…, H) → (…, H).

    Parameters
    ----------
    features : int
        H.
    eps : float
        ε, which keeps a constant entry from being divided by 0.
    affine : bool
        Whether there are weight and bias.

    Attributes
    ----------
    weight : Parameter (H,) or None, ones at first
        What each normalised feature is multiplied with.
    bias : Parameter (H,) or None, zeros at first
        And what is added to it.

    Notes
    -----
    Source: Ba, Kiros & Hinton 2016, "Layer normalization", arXiv:1607.06450, equation 4. σ² is the mean of the squares,
    not divided by H − 1. Between the layers of a stack, put it in a Module of your own; padding of zeros stays finite.

    >>> LayerNorm(4)(np.arange(8.0).reshape(2, 4)).numpy().round(3)[1]
    array([-1.342, -0.447,  0.447,  1.342], dtype=float32)
    """

    def __init__(
        self, features: int, *, eps: float = 1e-5, affine: bool = True, dtype: npt.DTypeLike = np.float32
    ) -> None:
        super().__init__()
        self.features = as_size(features, "LayerNorm: features")
        self.eps = as_number(eps, "LayerNorm: eps", "a positive number", "try 1e-5")
        self.dtype = float_dtype(dtype, "LayerNorm: dtype")
        affine = as_flag(affine, "LayerNorm: affine")
        self.weight = Parameter(np.ones(self.features, self.dtype)) if affine else None
        self.bias = Parameter(np.zeros(self.features, self.dtype)) if affine else None

    def forward(self, x: Any) -> Tensor:
        """Apply to the last axis of ``x``, an array or a Tensor."""
        x = x if isinstance(x, Tensor) else Tensor(as_array(x, "LayerNorm: x", self.dtype))
        if not x.ndim or x.shape[-1] != self.features:
            raise ValueError(f"LayerNorm: x must have shape (…, H={self.features}), got {x.shape}")
        check_finite(x.data, "LayerNorm: x", "look at the data that comes in")
        x = x if x.dtype is self.dtype else typed(x, self.dtype, "LayerNorm: x")
        y = unary(normalise, x, eps=self.eps)
        return y if self.weight is None else y * self.weight + self.bias

    def extra_repr(self) -> str:
        """Return the settings shown between the brackets of ``repr``."""
        return (
            f"{self.features}"
            + (f", eps={self.eps:g}" if self.eps != 1e-5 else "")
            + ", affine=False" * (self.weight is None)
        )
