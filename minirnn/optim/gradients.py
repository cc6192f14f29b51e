"""Lists of Parameters, and clipping of their gradients."""

import math
from collections.abc import Iterable
from typing import Any

import numpy as np

from minirnn.arguments import as_number
from minirnn.autograd.tensor import Tensor
from minirnn.layers.module import Module

NO_LIST = Tensor, Module, set, frozenset


def clip_grad_norm(params: Iterable[Tensor], max_norm: float) -> float:
    """Scale all gradients together so that their joint norm √(Σ g²) is at most ``max_norm`` (Pascanu et al. 2013).

    Return the norm before clipping; with ``math.inf`` it is only measured. Parameters without a gradient are passed
    over. A norm that is not finite is a FloatingPointError, which names the first Parameter at fault: scaling by 0
    would turn inf into NaN. Nothing has been changed then.
    """
    max_norm = as_number(
        max_norm, "clip_grad_norm: max_norm", "a positive number or inf", "try 1.0, or math.inf to measure only"
    )
    parameters = with_gradient(as_parameters(params, "clip_grad_norm"), "clip_grad_norm")
    gradients = [p.grad for p in parameters]
    norms = [_norm(g) for g in gradients]
    norm = math.hypot(*norms)
    if not math.isfinite(norm):
        raise _not_finite("clip_grad_norm", parameters, norms, "has norm {}, so it cannot be scaled")
    if norm > max_norm:
        for p, g in zip(parameters, gradients, strict=True):
            p.grad = g * (max_norm / norm)  # type: ignore[operator]
    return norm


def clip_grad_value(params: Iterable[Tensor], max_value: float) -> float:
    """Cut every entry of every gradient to [−max_value, max_value]: g ← min(max(g, −max_value), max_value).

    Return the largest |entry| before; with ``math.inf`` it is only measured. Parameters without a gradient are passed
    over. An entry that is not finite is a FloatingPointError, which names the first Parameter at fault: it has no
    direction that would be worth a step. Nothing has been changed then.
    """
    hint = "try 1.0, or math.inf to measure only"
    max_value = as_number(max_value, "clip_grad_value: max_value", "a positive number or inf", hint)
    parameters = with_gradient(as_parameters(params, "clip_grad_value"), "clip_grad_value")
    peaks = [float(np.abs(p.grad).max(initial=0)) for p in parameters]  # type: ignore[arg-type]
    if not all(map(math.isfinite, peaks)):
        raise _not_finite("clip_grad_value", parameters, peaks, "has an entry of size {}, so it cannot be cut")
    for p, peak in zip(parameters, peaks, strict=True):
        if peak > max_value:
            p.grad = np.clip(p.grad, -max_value, max_value)  # type: ignore[arg-type]
    return max(peaks)


def _not_finite(name: str, parameters: list[Tensor], sizes: list[float], fault: str) -> FloatingPointError:
    bad = next((i for i, size in enumerate(sizes) if not math.isfinite(size)), 0)
    return FloatingPointError(
        f"{name}: the gradient of {parameters[bad].label} {fault.format(sizes[bad])}; nothing was changed. "
        "Try a smaller learning rate, or find the step at fault with minirnn.detect_anomaly()"
    )


def _norm(g: Any) -> float:
    flat = g.ravel()
    square = float(np.vdot(flat, flat))  # which, unlike dot, does not warn where it overflows
    if 1e-30 < square < math.inf:
        return math.sqrt(square)
    # The squares of large and of small float32 entries leave its range: scale them first.
    peak = float(np.abs(flat).max(initial=0))
    return peak * math.sqrt(float(np.square(flat / peak).sum(dtype=np.float64))) if 0 < peak < math.inf else peak


def as_parameters(params: Iterable[Tensor], name: str, argument: str = "params") -> list[Tensor]:
    """Check what should be some Parameters, each once, and return them as a list."""
    if isinstance(params, NO_LIST) or callable(params):  # module.parameters without its brackets
        chance = ", whose order is chance" * isinstance(params, set | frozenset)
        raise TypeError(
            f"{name}: {argument} must be a list of Parameters, got one {type(params).__name__}{chance}: "
            "try module.parameters(), or put a Tensor in a list"
        )
    for i, p in enumerate(parameters := list(params)):
        if not isinstance(p, Tensor):
            raise TypeError(f"{name}: {argument}[{i}] must be a Parameter, got {type(p).__name__}")
    if len({id(p) for p in parameters}) != len(parameters):
        raise ValueError(f"{name}: a Parameter stands twice in {argument}; each must be changed once")
    if not parameters:
        raise ValueError(f"{name}: {argument} is empty; pass module.parameters()")
    return parameters


def with_gradient(parameters: list[Tensor], name: str) -> list[Tensor]:
    """Return those that have a gradient; RuntimeError if none has, since then backward was forgotten."""
    if not (having := [p for p in parameters if p.grad is not None]):
        raise RuntimeError(f"{name}: no Parameter has a gradient: call loss.backward() first")
    return having
