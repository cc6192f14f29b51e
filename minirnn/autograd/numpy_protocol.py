"""numpy's own functions on Tensors: each leads to the op of its name, or is refused where a gradient would be lost."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from minirnn.autograd import functions
from minirnn.autograd.modes import MODE, RECORD
from minirnn.autograd.op import REGISTRY, Op
from minirnn.autograd.record import binary, unary

if TYPE_CHECKING:
    from minirnn.autograd.tensor import Tensor

UFUNCS: dict[Any, Op] = {op.ufunc: op for op in REGISTRY.values() if op.ufunc is not None}
"""numpy's ufuncs that work on Tensors, ``ndarray + Tensor`` and its like included."""

FUNCTIONS: dict[str, Callable[..., Any]] = {
    name: getattr(functions, name)
    for name in functions.__all__
    if not isinstance(getattr(np, name, np.add), np.ufunc)  # add stands for what numpy does not have
}
"""numpy's other functions that work on Tensors, by name."""
FUNCTIONS.update(amax=functions.max, amin=functions.min, unstack=functions.unbind)

_SHAPE_ONLY = ("zeros_like", "ones_like", "empty_like")


def array_ufunc(self: "Tensor", ufunc: Any, method: str, *inputs: Any, **kwargs: Any) -> Any:
    """Tensor's ``__array_ufunc__``."""
    op = UFUNCS.get(ufunc)
    if op is not None and method == "__call__" and not kwargs:
        return binary(op, *inputs) if len(inputs) == 2 else unary(op, inputs[0])
    if kwargs.get("out") is not None or method == "at":
        raise TypeError(f"np.{ufunc.__name__}: a Tensor cannot be written into an array; write a = a + t, not a += t")
    return _only_without_derivative(ufunc, method, inputs, kwargs)


def array_function(self: "Tensor", func: Any, types: Any, args: Any, kwargs: Any) -> Any:
    """Tensor's ``__array_function__``."""
    function = FUNCTIONS.get(func.__name__)
    return function(*args, **kwargs) if function is not None else _only_without_derivative(func, "", args, kwargs)


def _only_without_derivative(func: Any, method: str, args: Any, kwargs: Any) -> Any:
    """Call a numpy function that has no op on the plain arrays, if nothing differentiable is lost by it."""
    tensors: list[Tensor] = []

    def plain(value: Any) -> Any:
        if isinstance(value, Tensor):
            tensors.append(value)
            return value.data
        return type(value)(plain(v) for v in value) if type(value) in (list, tuple) else value

    call = getattr(func, method) if method else func
    result = call(*plain(args), **{k: plain(v) for k, v in kwargs.items()})
    differentiable = MODE.get() & RECORD and any(t.requires_grad for t in tensors)
    if differentiable and _holds_floats(result) and func.__name__ not in _SHAPE_ONLY:
        module = getattr(func, "__module__", "numpy").replace("numpy", "np", 1)
        name = f"{module}.{func.__name__}" + (f".{method}" if method not in ("", "__call__") else "")
        raise TypeError(
            f"{name}: no derivative is known for it. Use one of minirnn's functions (mr.tanh, mr.sum, …), "
            "or t.detach() or t.numpy() if no gradient should flow"
        )
    return result


def _holds_floats(result: Any) -> bool:
    if isinstance(result, tuple | list):
        return any(map(_holds_floats, result))
    return isinstance(result, float) or getattr(getattr(result, "dtype", None), "kind", "") == "f"
