"""Optimisers, and clipping by the global norm.

Each takes the Parameters once, then ``step()`` changes those that have a ``grad``. A change gives a Parameter a new
array: arrays that were taken from it or given to it before stay as they are, and a backward pass that still needs the
old values notices.
"""

import copy
import inspect
import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from minirnn.arguments import Array, as_number, describe
from minirnn.autograd.tensor import Tensor
from minirnn.layers.module import Module

FRACTION = "a number in [0, 1)", "try 0.9"


class Optimizer:
    """What optimisers share: the list of Parameters and the loop over those that have a gradient.

    One of your own defines ``_change``. Its attributes are its state: those named as the arguments of its constructor
    are its settings, lists with an array for each Parameter its memory, and all others its counts.
    """

    def __init__(self, params: Iterable[Tensor], lr: float) -> None:
        self.name = type(self).__name__
        self.params = _parameters(params, self.name)
        self.lr = as_number(lr, f"{self.name}: lr", "a positive number", "try 0.01")

    @property
    def lr(self) -> float:
        """The learning rate, which may be changed at any time."""
        return self._lr

    @lr.setter
    def lr(self, value: float) -> None:
        self._lr = as_number(value, f"{self.name}: lr", "a number ≥ 0", "try 0.01")

    def zero_grad(self) -> None:
        """Set the ``grad`` of every Parameter to None."""
        for p in self.params:
            p.grad = None

    def step(self) -> None:
        """Change every Parameter that has a gradient; RuntimeError if none has."""
        _with_gradient(self.params, f"{self.name}.step")
        for i, p in enumerate(self.params):
            if p.grad is not None:
                p.data = p.data - self._change(i, p.grad)

    def _change(self, i: int, g: Array) -> Array:
        """Return the change of Parameter ``i``, which is subtracted from it."""
        raise NotImplementedError

    def _zeros(self) -> list[Array]:
        return [np.zeros_like(p.data) for p in self.params]

    # --- state -------------------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Return its name, its settings, and a copy of what it remembers of each Parameter, in the order of `params`.

        It is ``{"optimizer": "Adam", "settings": {"lr": 0.01, …}, "memory": {"first": [arrays], …}, "counts": {…}}``.
        """
        settings = [name for name in inspect.signature(type(self)).parameters if name != "params"]
        known = ("name", "params", "_lr", *settings)
        own = {name: copy.deepcopy(value) for name, value in vars(self).items() if name not in known}
        memory = {
            name: value
            for name, value in own.items()
            if isinstance(value, list) and all(isinstance(each, np.ndarray) for each in value)
        }
        return {
            "optimizer": self.name,
            "settings": {name: getattr(self, name) for name in settings},
            "memory": memory,
            "counts": {name: value for name, value in own.items() if name not in memory},
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Set the settings, lr among them, and copies of what was remembered; the Parameters stay as they are.

        After it, the next steps are those of the optimiser that was saved, bit for bit. A ValueError lists everything
        that does not fit; nothing has been loaded then.
        """
        if not isinstance(state, Mapping) or state.get("optimizer") != self.name:
            got = f"one of {state.get('optimizer')}" if isinstance(state, Mapping) else describe(state)
            raise ValueError(f"{self.name}.load_state_dict: state must be a state_dict of {self.name}, got {got}")
        try:
            like = type(self)(self.params, **{**state["settings"], "lr": 1.0})
            like.lr = state["settings"]["lr"]  # which a schedule may have set to 0
        except (KeyError, TypeError, ValueError) as error:
            faults = [f"state['settings']: {type(error).__name__}: {error}"]
        else:
            must, given = (_built({**s, "settings": sorted(s["settings"])}) for s in (like.state_dict(), state))
            faults = [
                f"{path}: must be {must.get(path, 'absent')}, got {given.get(path, 'nothing')}"
                for path in {**must, **given}
                if must.get(path) != given.get(path)
            ]
        if faults:
            raise ValueError(
                f"{self.name}.load_state_dict: nothing was loaded, because of entries that do not fit:\n  "
                + "\n  ".join(faults)
            )
        remembered = copy.deepcopy({**state["memory"], **state["counts"]})
        vars(self).update({**vars(like), **remembered, "params": self.params})


class SGD(Optimizer):
    """Stochastic gradient descent, if wanted with a momentum μ in [0, 1): v ← μ v + g;  p ← p − lr·v."""

    def __init__(self, params: Iterable[Tensor], lr: float, *, momentum: float = 0.0) -> None:
        super().__init__(params, lr)
        self.momentum = as_number(momentum, "SGD: momentum", *FRACTION)
        self.velocity = self._zeros() if momentum else []

    def _change(self, i: int, g: Array) -> Array:
        if not self.momentum:
            return self.lr * g
        v = self.velocity[i]
        v *= self.momentum
        v += g
        return self.lr * v


class RMSprop(Optimizer):
    """RMSprop (Tieleman, Hinton 2012), with ρ in [0, 1): s ← ρ s + (1 − ρ) g²;  p ← p − lr·g / (√s + ε)."""

    def __init__(self, params: Iterable[Tensor], lr: float = 1e-3, *, rho: float = 0.99, eps: float = 1e-8) -> None:
        super().__init__(params, lr)
        self.rho = as_number(rho, "RMSprop: rho", *FRACTION)
        self.eps = as_number(eps, "RMSprop: eps", "a positive number", "try 1e-8")
        self.square = self._zeros()

    def _change(self, i: int, g: Array) -> Array:
        s = self.square[i]
        s *= self.rho
        s += (1 - self.rho) * g * g
        return self.lr * g / (np.sqrt(s) + self.eps)


class Adam(Optimizer):
    """Adam (Kingma, Ba 2015, algorithm 1)::

        m ← β₁ m + (1 − β₁) g        v ← β₂ v + (1 − β₂) g²
        p ← p − lr · m/(1 − β₁ᵏ) / (√(v/(1 − β₂ᵏ)) + ε)        at the kth gradient, k = 1, 2, …

    with β₁ and β₂ in [0, 1). Each Parameter counts its own k: one that gets its first gradient late starts with the
    same corrections.
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
        if not isinstance(betas, tuple | list) or len(betas) != 2:
            raise TypeError(f"Adam: betas must be a pair (β₁, β₂), got {betas!r}: try (0.9, 0.999)")
        self.betas = tuple(as_number(beta, f"Adam: betas[{i}]", *FRACTION) for i, beta in enumerate(betas))
        self.eps = as_number(eps, "Adam: eps", "a positive number", "try 1e-8")
        self.steps = [0] * len(self.params)
        self.first, self.second = self._zeros(), self._zeros()

    def _change(self, i: int, g: Array) -> Array:
        (b1, b2), m, v = self.betas, self.first[i], self.second[i]
        self.steps[i] = k = self.steps[i] + 1
        change = np.multiply(g, 1 - b1, out=np.empty_like(v))  # with out= an array even for a Parameter of shape ()
        m *= b1
        m += change
        np.multiply(g, 1 - b2, out=change)
        change *= g
        v *= b2
        v += change
        # lr/(1 − β₁ᵏ)·m / (√v/√(1 − β₂ᵏ) + ε): the corrections are numbers.
        np.sqrt(v, out=change)
        change /= math.sqrt(1 - b2**k)
        change += self.eps
        np.divide(m, change, out=change)
        change *= self.lr / (1 - b1**k)
        return change


def clip_grad_norm(params: Iterable[Tensor], max_norm: float) -> float:
    """Scale all gradients together so that their joint norm √(Σ g²) is at most ``max_norm`` (Pascanu et al. 2013).

    Return the norm before clipping; with ``math.inf`` it is only measured. Parameters without a gradient are passed
    over. A norm that is not finite is a FloatingPointError, which names the first Parameter at fault: scaling by 0
    would turn inf into NaN. Nothing has been changed then.
    """
    max_norm = as_number(
        max_norm, "clip_grad_norm: max_norm", "a positive number or inf", "try 1.0, or math.inf to measure only"
    )
    parameters = _with_gradient(_parameters(params, "clip_grad_norm"), "clip_grad_norm")
    norms = [_norm(p.grad) for p in parameters]
    norm = math.hypot(*norms)
    if not math.isfinite(norm):
        bad = next((i for i, n in enumerate(norms) if not math.isfinite(n)), 0)
        raise FloatingPointError(
            f"clip_grad_norm: the gradient of {parameters[bad].label} has norm {norms[bad]}, so it cannot be "
            "scaled; nothing was changed. "
            "Try a smaller learning rate, or find the step at fault with minirnn.detect_anomaly()"
        )
    if norm > max_norm:
        for p in parameters:
            p.grad = p.grad * (max_norm / norm)  # type: ignore[operator]
    return norm


def _built(part: Any, path: str = "state") -> dict[str, str]:
    """Say what stands in a state, by the path to it: an array of what shape and dtype, a count, or anything else."""
    if isinstance(part, Mapping | list):
        items = part.items() if isinstance(part, Mapping) else enumerate(part)
        return {at: what for key, value in items for at, what in _built(value, f"{path}[{key!r}]").items()}
    return {path: "an int ≥ 0" if type(part) is int and part >= 0 else describe(part)}


def _norm(g: Any) -> float:
    flat = g.ravel()
    square = float(np.vdot(flat, flat))
    if 1e-30 < square < math.inf:
        return math.sqrt(square)
    # The squares of large and of small float32 entries leave its range: scale them first.
    peak = float(np.abs(flat).max(initial=0))
    return peak * math.sqrt(float(np.square(flat / peak).sum())) if 0 < peak < math.inf else peak


def _parameters(params: Iterable[Tensor], name: str) -> list[Tensor]:
    if isinstance(params, Tensor | Module):
        raise TypeError(
            f"{name}: params must be a list of Parameters, got one {type(params).__name__}: "
            "try module.parameters(), or put a Tensor in a list"
        )
    for i, p in enumerate(parameters := list(params)):
        if not isinstance(p, Tensor):
            raise TypeError(f"{name}: params[{i}] must be a Parameter, got {type(p).__name__}")
    if len({id(p) for p in parameters}) != len(parameters):
        raise ValueError(f"{name}: a Parameter stands twice in params; each must be changed once")
    if not parameters:
        raise ValueError(f"{name}: params is empty; pass module.parameters()")
    return parameters


def _with_gradient(parameters: list[Tensor], name: str) -> list[Tensor]:
    """Return those that have a gradient; RuntimeError if none has, since then backward was forgotten."""
    if not (having := [p for p in parameters if p.grad is not None]):
        raise RuntimeError(f"{name}: no Parameter has a gradient: call loss.backward() first")
    return having
