"""Derivatives as functions: of a function and a point, not of what was recorded.

``f`` is called with ``x``, or with each of several, and returns one Tensor. A leaf that requires a gradient, such as a
Parameter, is differentiated as it is, so that ``f`` may use it by other ways too; anything else becomes a leaf of its
own. No ``grad`` changes. What is returned are constants.
"""

from collections.abc import Callable, Sequence
from contextvars import ContextVar
from typing import Any

import numpy as np

from minirnn.arguments import as_array, as_array_like, describe
from minirnn.autograd.gradients import grad
from minirnn.autograd.modes import RECORD, switched
from minirnn.autograd.tensor import Tensor

Function = Callable[..., Any]
DERIVING: ContextVar[bool] = ContextVar("DERIVING", default=False)
"""Whether a function is being called whose derivative is wanted."""


def vjp(f: Function, x: Any) -> tuple[Tensor, Callable[[Any], Any]]:
    """Compute f(x), and the function v ↦ vᵀJ that sends a gradient of its shape back, in one pass each time.

    >>> y, back = vjp(lambda x: x**2, [1.0, 2.0])
    >>> back([1.0, 10.0]).tolist()
    [2.0, 40.0]
    """
    leaves, several = _leaves(x, "vjp")
    y = _called(f, leaves, "vjp")

    def back(v: Any) -> Any:
        return _given(_grad(y, leaves, as_array_like(v, y, "vjp: v"), retain_graph=True), several)

    return y.detach(), back


def jvp(f: Function, x: Any, v: Any) -> tuple[Tensor, Tensor]:
    """Compute f(x) and J v, the change of f along a direction v in the shape of x.

    By two passes back, of which the second goes through the first: u ↦ uᵀJ is linear, and its derivative along v is
    J v. So it costs about what `hvp` does, and not one pass for each entry of x.

    >>> jvp(lambda x: x**2, [1.0, 2.0], [1.0, 10.0])[1].tolist()
    [2.0, 40.0]
    """
    leaves, several = _leaves(x, "jvp")
    directions = _directions(v, leaves, several, "jvp")
    y = _called(f, leaves, "jvp")
    u = Tensor(np.zeros_like(y.data), requires_grad=True)
    back = _grad(y, leaves, u, create_graph=True)
    return y.detach(), _along(back, [u], directions)[0]


def hvp(f: Function, x: Any, v: Any) -> Any:
    """Compute H v, the Hessian of f, of one number, times a direction v in the shape of x (Pearlmutter 1994).

    >>> hvp(lambda x: (x**3).sum(), [1.0, 2.0], [1.0, 10.0]).tolist()
    [6.0, 120.0]
    """
    leaves, several = _leaves(x, "hvp")
    directions = _directions(v, leaves, several, "hvp")
    return _given(_along(_slopes(f, leaves, "hvp"), leaves, directions), several)


def jacobian(f: Function, x: Any) -> Any:
    """Compute ∂f/∂x, of the shape of f(x) followed by that of x: one pass back for each entry of f(x).

    Of several x, a tuple with one for each.

    >>> jacobian(lambda x: x * x.sum(), [1.0, 2.0]).tolist()
    [[4.0, 1.0], [2.0, 5.0]]
    """
    leaves, several = _leaves(x, "jacobian")
    return _given(_rows(_called(f, leaves, "jacobian"), leaves), several)


def hessian(f: Function, x: Any) -> Any:
    """Compute ∂²f/∂x∂x of a function of one number, of the shape of x twice: one pass for each entry of x.

    Of several x, a tuple with a tuple for each.

    >>> hessian(lambda x: x[0] ** 2 * x[1], [3.0, 5.0]).tolist()
    [[10.0, 6.0], [6.0, 0.0]]
    """
    leaves, several = _leaves(x, "hessian")
    return _given([_given(_rows(g, leaves), several) for g in _slopes(f, leaves, "hessian")], several)


def _leaves(x: Any, caller: str) -> tuple[list[Tensor], bool]:
    """Return what to differentiate with respect to, and whether it came as a tuple, or as a list of Tensors."""
    several = isinstance(x, tuple) or (isinstance(x, list) and any(isinstance(each, Tensor) for each in x))
    leaves = []
    for i, each in enumerate(x if several else [x]):
        if DERIVING.get() and getattr(each, "requires_grad", False):
            raise ValueError(
                f"{caller}: x must be constants within a function that is itself differentiated, since what is "
                "returned are: try hessian, or mr.grad(…, create_graph=True), or x.detach() if nothing should flow"
            )
        leaf = each
        if not (isinstance(each, Tensor) and each.node is None and each.requires_grad):
            array = as_array(each.data if isinstance(each, Tensor) else each, f"{caller}: x" + f"[{i}]" * several)
            leaf = Tensor(array if array.dtype.kind == "f" else array.astype(np.float32), requires_grad=True)
        leaves.append(leaf)
    return leaves, several


def _directions(v: Any, leaves: list[Tensor], several: bool, caller: str) -> list[Any]:
    if several and (not isinstance(v, tuple | list) or len(v) != len(leaves)):
        raise ValueError(f"{caller}: v must have one direction for each of {len(leaves)} x, got {describe(v)}")
    given = v if several else [v]
    names = [f"{caller}: v" + f"[{i}]" * several for i in range(len(leaves))]
    return [as_array_like(each, x, name) for each, x, name in zip(given, leaves, names, strict=True)]


def _called(f: Function, leaves: list[Tensor], caller: str) -> Tensor:
    token = DERIVING.set(True)
    try:
        with switched(on=RECORD):
            y = f(*leaves)
    finally:
        DERIVING.reset(token)
    if not isinstance(y, Tensor):
        raise TypeError(
            f"{caller}: f must return one Tensor, got {describe(y)}: of a layer's, try outputs, or stack them"
        )
    return y


def _slopes(f: Function, leaves: list[Tensor], caller: str) -> tuple[Tensor, ...]:
    y = _called(f, leaves, caller)
    if y.size != 1:
        raise ValueError(f"{caller}: f must return one number, got shape {y.shape}: try its sum, or jacobian")
    return _grad(y, leaves, np.ones(y.shape, y.dtype), create_graph=True)


def _grad(y: Tensor, inputs: Sequence[Tensor], gradient: Any, **how: bool) -> tuple[Tensor, ...]:
    """Go back from ``y``; zeros where it does not depend on any input."""
    if not y.requires_grad:
        return tuple(Tensor(np.zeros_like(x.data)) for x in inputs)
    return grad(y, list(inputs), gradient=gradient, **how)


def _along(outputs: Sequence[Tensor], inputs: list[Tensor], directions: list[Any]) -> tuple[Tensor, ...]:
    """Send a direction back from each of several outputs, and add up what arrives."""
    totals = [np.zeros_like(x.data) for x in inputs]
    for y, v in zip(outputs, directions, strict=True):
        totals = [t + g.data for t, g in zip(totals, _grad(y, inputs, v, retain_graph=True), strict=True)]
    return tuple(map(Tensor, totals))


def _rows(y: Tensor, inputs: list[Tensor]) -> list[Tensor]:
    rows: list[list[Any]] = [[] for _ in inputs]
    for entry in np.ndindex(y.shape):
        one = np.zeros(y.shape, y.dtype)
        one[entry] = 1
        for row, g in zip(rows, _grad(y, inputs, one, retain_graph=True), strict=True):
            row.append(g.data)
    return [
        Tensor(np.reshape(np.array(row, dtype=x.dtype), (*y.shape, *x.shape)))
        for row, x in zip(rows, inputs, strict=True)
    ]


def _given(results: Sequence[Any], several: bool) -> Any:
    return tuple(results) if several else results[0]
