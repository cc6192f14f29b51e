"""`gradcheck`: hold a gradient against central differences, entry by entry."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from minirnn.arguments import Array, describe
from minirnn.autograd.gradients import grad
from minirnn.autograd.tensor import Tensor


class GradcheckError(AssertionError):
    """A gradient disagrees with the central difference."""


def gradcheck(
    f: Callable[..., Any],
    inputs: Tensor | Sequence[Tensor],
    *,
    eps: float = 1e-6,
    atol: float = 1e-7,
    rtol: float = 1e-5,
    names: Sequence[str] | None = None,
) -> bool:
    """Compare the gradient of ``f`` with ``(L(x + eps) − L(x − eps)) / (2 eps)`` at every entry of every input.

    ``L = Σ v·output`` over all outputs, with fixed random weights v of size ½ … 1½, so that every output takes part and
    none cancels another.

    Parameters
    ----------
    f : callable
        Called with ``inputs``; returns a Tensor, or a tuple, list or dict of them, nested as you like. It may use the
        inputs by other ways too (a layer's own parameters): they are changed in place and put back.
    inputs : Tensor or sequence of Tensors
        float64 leaves. Those that require a gradient are checked, every entry of them.
    eps : float
        Step of the difference; its error is about eps²·f‴ + 1e-16·L/eps.
    atol, rtol : float
        A difference up to ``atol + rtol·|numerical|`` passes.
    names : sequence of str, optional
        What to call the inputs in an error.

    Raises
    ------
    GradcheckError
        Naming the input, the worst entry, and both values; otherwise the answer is True.
    TypeError, ValueError
        If no input requires a gradient, or one that does is not a float64 leaf; if ``f`` is random.

    >>> import minirnn as mr
    >>> import numpy as np
    >>> x = mr.Tensor(np.array([0.1, 0.2]), requires_grad=True)
    >>> mr.gradcheck(lambda x: mr.tanh(x) * x, [x])
    True
    """
    tensors = [inputs] if isinstance(inputs, Tensor) else list(inputs)
    checked = _to_check(tensors, names)
    outputs = _tensors_in(f(*tensors))
    if not outputs:
        raise TypeError("gradcheck: f must return a Tensor, or a tuple, list or dict of Tensors")
    rng = np.random.default_rng(0)
    weights = [rng.choice([-1.0, 1.0], y.shape) * rng.uniform(0.5, 1.5, y.shape) for y in outputs]

    def projected(outputs: Iterable[Tensor]) -> Any:
        return sum(((y * v).sum() for y, v in zip(outputs, weights, strict=True)), start=0.0)

    def value() -> float:
        return float(projected(_tensors_in(f(*tensors))))  # recorded, since f may call grad itself

    loss = projected(outputs)
    if abs(value() - loss.item()) > 1e-9 * (1 + abs(loss.item())):
        raise ValueError(
            "gradcheck: f gave two different values for the same inputs; seed what is random within it, on every call"
        )
    wanted = [tensor for _, tensor in checked]
    gradients = grad(loss, wanted) if loss.requires_grad else [Tensor(np.zeros(t.shape)) for t in wanted]
    for (name, tensor), g in zip(checked, gradients, strict=True):
        _compare(name, g.numpy(), _central_difference(value, tensor, eps), atol, rtol)
    return True


def _to_check(tensors: Sequence[Any], names: Sequence[str] | None) -> list[tuple[str, Tensor]]:
    """Choose the inputs that require a gradient, each with what errors call it."""
    called = [f"inputs[{i}]" for i in range(len(tensors))] if names is None else names
    if len(called) != len(tensors):
        raise ValueError(f"gradcheck: expected {len(tensors)} names, one for each input, got {len(called)}")
    for name, t in zip(called, tensors, strict=True):
        if not isinstance(t, Tensor) or (t.requires_grad and (t.node is not None or t.dtype != np.float64)):
            raise TypeError(
                f"gradcheck: {name} must be a float64 leaf, got {describe(t)}: a central difference in lower precision "
                "is too coarse to tell right from wrong; the output of an op must be detached"
            )
    checked = [(name, t) for name, t in zip(called, tensors, strict=True) if t.requires_grad]
    if not checked:
        raise ValueError("gradcheck: no input requires a gradient, so there is nothing to check")
    return checked


def _tensors_in(result: Any) -> list[Tensor]:
    if isinstance(result, Tensor):
        return [result]
    items = result.values() if isinstance(result, dict) else result if isinstance(result, tuple | list) else ()
    return [tensor for item in items for tensor in _tensors_in(item)]


def _central_difference(value: Callable[[], float], tensor: Tensor, eps: float) -> Array:
    original = tensor.data
    difference = np.empty(tensor.shape)

    def value_at(entry: tuple[int, ...], step: float) -> float:
        moved = original.copy()
        moved[entry] += step
        tensor.data = moved
        return value()

    try:
        for entry in np.ndindex(tensor.shape):
            difference[entry] = (value_at(entry, eps) - value_at(entry, -eps)) / (2 * eps)
    finally:
        tensor.data = original
    return difference


def _compare(name: str, analytic: Array, numerical: Array, atol: float, rtol: float) -> None:
    error = np.abs(analytic - numerical)
    wrong = ~(error <= atol + rtol * np.abs(numerical))  # also where either is NaN
    if not wrong.any():
        return
    worst = np.unravel_index(int(np.argmax(np.where(wrong, np.nan_to_num(error, nan=np.inf), -1.0))), error.shape)
    raise GradcheckError(
        f"gradcheck: the gradient of {name} is wrong at {[*map(int, worst)]}: backward gives {analytic[worst]:.10g}, "
        f"the central difference {numerical[worst]:.10g} ({int(wrong.sum())} of {wrong.size} entries differ by more "
        f"than {atol:g} + {rtol:g}·|value|)"
    )
