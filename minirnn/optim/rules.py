"""The rules: each optimiser with its equations, as `torch.optim` has them where both have one."""

import math
from collections.abc import Mapping
from functools import partial
from typing import Any, ClassVar

import numpy as np

from minirnn.arguments import Array, as_flag, as_number
from minirnn.optim.optimizer import Optimizer, Params

FRACTION = partial(as_number, kind="a number in [0, 1)", hint="try 0.9")
EPS = partial(as_number, kind="a positive number", hint="try 1e-8")
DECAY = partial(as_number, kind="a number ≥ 0", hint="try 1e-4")
INITIAL = partial(as_number, kind="a number ≥ 0", hint="try 0.1")


def _betas(value: Any, argument: str) -> tuple[float, ...]:
    if not isinstance(value, tuple | list) or len(value) != 2:
        raise TypeError(f"{argument} must be a pair (β₁, β₂), got {value!r}: try (0.9, 0.999)")
    return tuple(FRACTION(beta, f"{argument}[{i}]") for i, beta in enumerate(value))


class Rule(Optimizer):
    """An optimiser with a weight decay λ ≥ 0: it adds the gradient of the penalty λ/2 Σ p², g ← g + λ p."""

    checks: ClassVar[dict[str, Any]] = {**Optimizer.checks, "weight_decay": DECAY}
    options: ClassVar[tuple[str, ...]] = ("weight_decay",)

    def __init__(self, params: Params, lr: float, weight_decay: float) -> None:
        super().__init__(params, lr)
        self.weight_decay = weight_decay

    def _penalised(self, i: int, g: Array) -> Array:
        return g + self.weight_decay * self.params[i].data


class SGD(Rule):
    """Stochastic gradient descent, with a momentum μ in [0, 1) and a weight decay λ:

        g ← g + λ p        v ← μ v + g        p ← p − lr·v

    With ``nesterov`` the change is lr·(g + μ v), the gradient where the momentum is about to lead (Sutskever et al.
    2013, in the form of Bengio et al. 2013). μ = 0 forgets v.
    """  # noqa: D400

    checks: ClassVar[dict[str, Any]] = {**Rule.checks, "momentum": FRACTION, "nesterov": as_flag}
    memories: ClassVar[dict[str, str]] = {"momentum": "velocity"}
    options: ClassVar[tuple[str, ...]] = (*Rule.options, "nesterov")

    def __init__(
        self,
        params: Params,
        lr: float,
        *,
        momentum: float = 0.0,
        nesterov: bool = False,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(params, lr, weight_decay)
        self.velocity: list[Array] = []
        self.momentum, self.nesterov = momentum, nesterov

    def _agree(self, settings: Mapping[str, Any]) -> None:
        if settings.get("nesterov") and not settings.get("momentum", 1):
            raise ValueError("SGD: nesterov must be False where the momentum is 0, got True: try momentum=0.9")

    def _change(self, i: int, g: Array) -> Array:
        if self.weight_decay:
            g = self._penalised(i, g)
        if not self.momentum:
            return self.lr * g
        v = self.velocity[i]
        v *= self.momentum
        v += g
        return self.lr * (g + self.momentum * v if self.nesterov else v)


class RMSprop(Rule):
    """RMSprop (Tieleman, Hinton 2012), with ρ in [0, 1) and a weight decay λ:

    g ← g + λ p        s ← ρ s + (1 − ρ) g²        p ← p − lr·g / (√s + ε)
    """  # noqa: D400

    entrywise: ClassVar[bool] = True
    checks: ClassVar[dict[str, Any]] = {**Rule.checks, "rho": FRACTION, "eps": EPS}

    def __init__(
        self, params: Params, lr: float = 1e-3, *, rho: float = 0.99, eps: float = 1e-8, weight_decay: float = 0.0
    ) -> None:
        super().__init__(params, lr, weight_decay)
        self.rho, self.eps = rho, eps
        self.square = self._zeros()

    def _change(self, i: int, g: Array) -> Array:
        s = self.square[i]
        if self.weight_decay:
            g = self._penalised(i, g)
        s *= self.rho
        s += (1 - self.rho) * g * g
        return self.lr * g / (np.sqrt(s) + self.eps)


class Adagrad(Rule):
    """Adagrad (Duchi, Hazan, Singer 2011), with a weight decay λ and, if wanted, a decay δ of the rate:

        g ← g + λ p        s ← s + g²
        p ← p − lr/(1 + (k − 1) δ) · g / (√(s₀ + s) + ε)        at the kth gradient of each Parameter, k = 1, 2, …

    s₀ is ``initial_accumulator_value``, δ ``lr_decay``.
    """  # noqa: D400

    entrywise: ClassVar[bool] = True
    checks: ClassVar[dict[str, Any]] = {
        **Rule.checks, "lr_decay": DECAY, "initial_accumulator_value": INITIAL, "eps": EPS
    }  # fmt: skip

    def __init__(
        self,
        params: Params,
        lr: float = 1e-2,
        *,
        lr_decay: float = 0.0,
        weight_decay: float = 0.0,
        initial_accumulator_value: float = 0.0,
        eps: float = 1e-10,
    ) -> None:
        super().__init__(params, lr, weight_decay)
        self.lr_decay, self.initial_accumulator_value, self.eps = lr_decay, initial_accumulator_value, eps
        self.steps = [0] * len(self.params)
        self.square = self._zeros()

    def _change(self, i: int, g: Array) -> Array:
        s = self.square[i]
        if self.weight_decay:
            g = self._penalised(i, g)
        s += g * g
        self.steps[i] += 1
        rate = self.lr / (1 + (self.steps[i] - 1) * self.lr_decay)
        return rate * g / (np.sqrt(s + self.initial_accumulator_value) + self.eps)


class Adam(Rule):
    """Adam (Kingma, Ba 2015, algorithm 1), with a weight decay λ that is part of the gradient:

        g ← g + λ p        m ← β₁ m + (1 − β₁) g        v ← β₂ v + (1 − β₂) g²
        p ← p − lr · m/(1 − β₁ᵏ) / (√(v/(1 − β₂ᵏ)) + ε)        at the kth gradient, k = 1, 2, …

    with β₁ and β₂ in [0, 1). Each Parameter counts its own k: one that gets its first gradient late starts with the
    same corrections. With ``amsgrad`` (Reddi, Kale, Kumar 2018) the largest v so far takes the place of v in p's line.
    """  # noqa: D400

    entrywise: ClassVar[bool] = True
    checks: ClassVar[dict[str, Any]] = {**Rule.checks, "betas": _betas, "eps": EPS, "amsgrad": as_flag}
    memories: ClassVar[dict[str, str]] = {"amsgrad": "largest"}
    options: ClassVar[tuple[str, ...]] = (*Rule.options, "amsgrad")
    largest: list[Array]

    def __init__(
        self,
        params: Params,
        lr: float = 1e-3,
        *,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        amsgrad: bool = False,
    ) -> None:
        super().__init__(params, lr, weight_decay)
        self.betas, self.eps, self.amsgrad = betas, eps, amsgrad
        self.steps = [0] * len(self.params)
        self.first, self.second = self._zeros(), self._zeros()

    def _change(self, i: int, g: Array) -> Array:
        if self.weight_decay:
            g = self._penalised(i, g)
        (b1, b2), m, v = self.betas, self.first[i], self.second[i]
        self.steps[i] = k = self.steps[i] + 1
        change = np.multiply(g, 1 - b1, out=np.empty_like(v))  # with out= an array even for a Parameter of shape ()
        m *= b1
        m += change
        np.multiply(g, 1 - b2, out=change)
        change *= g
        v *= b2
        v += change
        if self.amsgrad:
            v = np.maximum(self.largest[i], v, out=self.largest[i])
        # lr/(1 − β₁ᵏ)·m / (√v/√(1 − β₂ᵏ) + ε): the corrections are numbers.
        np.sqrt(v, out=change)
        change /= math.sqrt(1 - b2**k)
        change += self.eps
        np.divide(m, change, out=change)
        change *= self.lr / (1 - b1**k)
        return change


class AdamW(Adam):
    """Adam with a weight decay λ of its own (Loshchilov, Hutter 2019), which is no part of g, m and v:

    p ← p − lr·λ p − lr · m/(1 − β₁ᵏ) / (√(v/(1 − β₂ᵏ)) + ε)
    """  # noqa: D400

    entrywise: ClassVar[bool] = True

    def __init__(
        self,
        params: Params,
        lr: float = 1e-3,
        *,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
        amsgrad: bool = False,
    ) -> None:
        super().__init__(params, lr, betas=betas, eps=eps, weight_decay=weight_decay, amsgrad=amsgrad)

    def _change(self, i: int, g: Array) -> Array:
        change = super()._change(i, g)
        if self.weight_decay:
            change += self.lr * self.weight_decay * self.params[i].data
        return change

    def _penalised(self, i: int, g: Array) -> Array:
        return g
