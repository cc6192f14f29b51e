"""Optimisers, and clipping by the global norm.

Each takes the Parameters once, then ``step()`` changes those that have a ``grad``. Updates are made in place and go
through ``parameter.data``, so that a backward pass that still needs the old values notices.
Checked by tests/test_optim.py, step by step against the equations and against torch.
"""

import math
from collections.abc import Iterable
from typing import Any

import numpy as np

from minirnn.op import Array
from minirnn.tensor import Tensor


class Optimizer:
    """What optimisers share: the list of Parameters and the loop over those that have a gradient."""

    def __init__(self, params: Iterable[Tensor], lr: float) -> None:
        self.name = type(self).__name__
        self.params = _parameters(params, self.name)
        self.lr = _number(lr, f"{self.name}: lr")

    def zero_grad(self) -> None:
        """Set the ``grad`` of every Parameter to None."""
        for p in self.params:
            p.grad = None

    def step(self) -> None:
        """Change every Parameter that has a gradient."""
        self._begin()
        for i, p in enumerate(self.params):
            if p.grad is not None:
                p.data -= self._change(i, p.grad)

    def _begin(self) -> None:
        """Prepare what all Parameters of one step share."""

    def _change(self, i: int, g: Array) -> Array:
        """Return what to subtract from Parameter ``i``."""
        raise NotImplementedError

    def _zeros(self) -> list[Array]:
        return [np.zeros_like(p.data) for p in self.params]


class SGD(Optimizer):
    """Stochastic gradient descent, with momentum if wanted: v ← μ v + g;  p ← p − lr·v.

    Parameters
    ----------
    params : iterable of Parameters
    lr : float
    momentum : float
        μ, in [0, 1).
    """

    def __init__(self, params: Iterable[Tensor], lr: float, *, momentum: float = 0.0) -> None:
        super().__init__(params, lr)
        self.momentum = _fraction(momentum, "SGD: momentum")
        self.velocity = self._zeros() if momentum else []

    def _change(self, i: int, g: Array) -> Array:
        if not self.momentum:
            return self.lr * g
        v = self.velocity[i]
        v *= self.momentum
        v += g
        return self.lr * v


class RMSprop(Optimizer):
    """RMSprop (Tieleman, Hinton 2012): s ← ρ s + (1 − ρ) g²;  p ← p − lr·g / (√s + ε).

    Parameters
    ----------
    params : iterable of Parameters
    lr : float
    rho : float
        ρ, in [0, 1).
    eps : float
        ε.
    """

    def __init__(self, params: Iterable[Tensor], lr: float = 1e-3, *, rho: float = 0.99, eps: float = 1e-8) -> None:
        super().__init__(params, lr)
        self.rho = _fraction(rho, "RMSprop: rho")
        self.eps = _number(eps, "RMSprop: eps")
        self.square = self._zeros()

    def _change(self, i: int, g: Array) -> Array:
        s = self.square[i]
        s *= self.rho
        s += (1 - self.rho) * g * g
        change: Array = self.lr * g / (np.sqrt(s) + self.eps)
        return change


class Adam(Optimizer):
    """Adam (Kingma, Ba 2015, algorithm 1)::

        m ← β₁ m + (1 − β₁) g        v ← β₂ v + (1 − β₂) g²
        p ← p − lr · m/(1 − β₁ᵏ) / (√(v/(1 − β₂ᵏ)) + ε)        at step k = 1, 2, …

    Parameters
    ----------
    params : iterable of Parameters
    lr : float
    betas : (float, float)
        β₁ and β₂, in [0, 1).
    eps : float
        ε.
    """  # noqa: D400

    def __init__(
        self,
        params: Iterable[Tensor],
        lr: float = 1e-3,
        *,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
    ) -> None:
        super().__init__(params, lr)
        self.betas = _fraction(betas[0], "Adam: betas[0]"), _fraction(betas[1], "Adam: betas[1]")
        self.eps = _number(eps, "Adam: eps")
        self.steps = 0
        self.first, self.second = self._zeros(), self._zeros()

    def _begin(self) -> None:
        self.steps += 1
        # lr/(1 − β₁ᵏ)·m / (√v/√(1 − β₂ᵏ) + ε): both corrections as numbers, once a step.
        self._rate = self.lr / (1 - self.betas[0] ** self.steps)
        self._root = math.sqrt(1 - self.betas[1] ** self.steps)

    def _change(self, i: int, g: Array) -> Array:
        (b1, b2), m, v = self.betas, self.first[i], self.second[i]
        m *= b1
        m += (1 - b1) * g
        v *= b2
        v += (1 - b2) * g * g
        change = np.sqrt(v)
        change /= self._root
        change += self.eps
        np.divide(m, change, out=change)
        change *= self._rate
        return change


def clip_grad_norm(params: Iterable[Tensor], max_norm: float) -> float:
    """Scale all gradients together so that their joint norm √(Σ g²) is at most ``max_norm`` (Pascanu et al. 2013).

    Parameters
    ----------
    params : iterable of Parameters
        Those without a gradient are passed over.
    max_norm : float
        Positive; ``math.inf`` only measures.

    Returns
    -------
    float
        The norm before clipping.

    Raises
    ------
    FloatingPointError
        When the norm is not finite, naming the first Parameter at fault: scaling by 0 would turn inf into NaN. Nothing
        has been changed then.
    """
    if not max_norm > 0:
        raise ValueError(f"clip_grad_norm: max_norm must be positive, got {max_norm!r}")
    parameters = [p for p in _parameters(params, "clip_grad_norm") if p.grad is not None]
    # vdot sums in the gradient's dtype: squares of large float32 entries would overflow there, so scale them first.
    norms = [_norm(p.grad) for p in parameters]
    norm = math.hypot(*norms)
    if not math.isfinite(norm):
        bad = next(p for p, n in zip(parameters, norms, strict=True) if not math.isfinite(n))
        raise FloatingPointError(
            f"clip_grad_norm: the gradient of {bad._label()} is not finite, so it cannot be scaled; nothing was "
            "changed. "
            "Try a smaller learning rate, or find the step at fault with minirnn.detect_anomaly()"
        )
    if norm > max_norm:
        for p in parameters:
            p.grad = p.grad * (max_norm / norm)  # type: ignore[operator]
    return norm


def _norm(g: Any) -> float:
    flat = g.ravel()
    square = float(np.vdot(flat, flat))
    if math.isfinite(square):
        return math.sqrt(square)
    peak = float(np.abs(flat).max())
    if not math.isfinite(peak):
        return peak
    return peak * math.sqrt(float(np.square(flat / peak).sum()))


def _parameters(params: Iterable[Tensor], name: str) -> list[Tensor]:
    if isinstance(params, Tensor):
        raise TypeError(f"{name}: params must be a list of Parameters, got one Tensor; put it in a list")
    parameters = list(params)
    for i, p in enumerate(parameters):
        if not isinstance(p, Tensor):
            raise TypeError(f"{name}: params[{i}] must be a Parameter, got {type(p).__name__}")
    if len({id(p) for p in parameters}) != len(parameters):
        raise ValueError(f"{name}: a Parameter stands twice in params; each must be changed once")
    if not parameters:
        raise ValueError(f"{name}: params is empty; pass module.parameters()")
    return parameters


def _number(value: Any, argument: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float | np.floating) or not 0 < value < math.inf:
        raise ValueError(f"{argument} must be a positive number, got {value!r}")
    return float(value)


def _fraction(value: Any, argument: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float | np.floating) or not 0 <= value < 1:
        raise ValueError(f"{argument} must lie in [0, 1), got {value!r}")
    return float(value)
