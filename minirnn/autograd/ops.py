"""The ops that compute: each with its forward on plain arrays and its derivative rules side by side.

How a rule says what it needs, and what it may do, stands in minirnn/autograd/op.py; those that only move entries about
are in shapes.py. What works entry by entry says how it is written, and what it multiplies the gradient by.
"""

import math
from typing import Any

import numpy as np

from minirnn.arguments import Array
from minirnn.autograd.op import Axis, op
from minirnn.autograd.shapes import axes_of, restore, spread, sum_to

# --- arithmetic ------------------------------------------------------------------------------------------------------


@op(
    a=lambda g, a_shape: g if g.shape == a_shape else sum_to(g, a_shape),
    b=lambda g, b_shape: g if g.shape == b_shape else sum_to(g, b_shape),
    symbol="{a} + {b}",
    slopes={"a": "1", "b": "1"},
    ufunc=np.add,
)
def add(a: Array, b: Array) -> Array:
    """Add, broadcasting; ∂/∂a = g, ∂/∂b = g."""
    return a + b


@op(
    a=lambda g, a_shape: sum_to(g, a_shape),
    b=lambda g, b_shape: sum_to(-g, b_shape),
    symbol="{a} - {b}",
    slopes={"a": "1", "b": "-1"},
    ufunc=np.subtract,
)
def sub(a: Array, b: Array) -> Array:
    """Subtract, broadcasting; ∂/∂a = g, ∂/∂b = −g."""
    return a - b


@op(
    a=lambda g, b, a_shape: sum_to(g * b, a_shape),
    b=lambda g, a, b_shape: sum_to(g * a, b_shape),
    symbol="{a} ⊙ {b}",
    slopes={"a": "{b}", "b": "{a}"},
    ufunc=np.multiply,
)
def mul(a: Array, b: Array) -> Array:
    """Multiply entry by entry, broadcasting; ∂/∂a = g·b, ∂/∂b = g·a."""
    return a * b


@op(
    a=lambda g, b, a_shape: sum_to(g / b, a_shape),
    b=lambda g, y, b, b_shape: sum_to(-g * y / b, b_shape),
    symbol="{a} / {b}",
    slopes={"a": "1 / {b}", "b": "-{y} / {b}"},
    ufunc=np.divide,
)
def div(a: Array, b: Array) -> Array:
    """Divide entry by entry, broadcasting; ∂/∂a = g/b, ∂/∂b = −g·y/b."""
    return a / b


@op(x=lambda g: -g, symbol="-{x}", slopes={"x": "-1"}, ufunc=np.negative)
def neg(x: Array) -> Array:
    """Negate; derivative −1."""
    return -x


def _log_or_0(a: Any) -> Any:
    log_a = np.log(a + (a == 0))
    return log_a if hasattr(a, "shape") else float(log_a)  # a number must not widen float32


@op(
    # b·a^(b−1) at b = 0 must be 0, not 0·a^(−1), which is NaN at a = 0; likewise y·ln a at a = 0.
    a=lambda g, a, b, a_shape: sum_to(g * (b * a ** ((b - 1) * (b != 0))), a_shape),
    b=lambda g, y, a, b_shape: sum_to(g * (y * _log_or_0(a)), b_shape),
    symbol="{a}^{b}",
    slopes={"a": "{b} {a}^({b} - 1)", "b": "{y} ln {a}"},
    ufunc=np.power,
)
def pow_(a: Array, b: Array) -> Array:
    """Raise to a power, aᵇ; ∂/∂a = g·b·a^(b−1), 0 where b = 0; ∂/∂b = g·y·ln a, 0 where a = 0."""
    return a**b


# --- the matrix product ----------------------------------------------------------------------------------------------


@op(
    a=lambda g, b, a_shape: g.dot(b.T) if type(g) is np.ndarray and b.ndim == 2 == g.ndim else _matmul_a(g, b, a_shape),
    b=lambda g, a, b_shape: a.T.dot(g) if type(g) is np.ndarray and a.ndim == 2 == g.ndim else _matmul_b(g, a, b_shape),
    ufunc=np.matmul,
)
def matmul(a: Array, b: Array) -> Any:
    """Multiply matrices, 1-D to n-D with numpy's rules; ∂/∂a = g·bᵀ, ∂/∂b = aᵀ·g."""
    try:
        if a.ndim == 2 == b.ndim:
            return a.dot(b)  # half of what matmul's loop set-up costs on small matrices
        if b.ndim == 2 < a.ndim:  # one product over all rows instead of one small one for each leading index
            return _rows(a).dot(b).reshape(*a.shape[:-1], b.shape[1])
    except AttributeError:
        raise ValueError("a number has no axis to sum over, use * instead of @") from None
    return np.matmul(a, b)


def _rows(x: Any) -> Any:
    """Join the leading axes to one (array or Tensor)."""
    return x.reshape((math.prod(x.shape[:-1]), x.shape[-1]))


def _product(a: Any, b: Any) -> Any:
    """``a @ b`` of two matrices (arrays or Tensors)."""
    return a.dot(b) if type(a) is type(b) is np.ndarray else a @ b


def _matmul_a(g: Any, b: Any, a_shape: tuple[int, ...]) -> Any:
    if b.ndim == 1:
        return sum_to(g.reshape((*g.shape, 1)) * b, a_shape)
    if len(a_shape) == 1:
        return sum_to((b @ g.reshape((*g.shape, 1))).reshape(b.shape[:-1]), a_shape)
    return _product(_rows(g), b.T).reshape(a_shape) if b.ndim == 2 else sum_to(g @ b.swapaxes(-1, -2), a_shape)


def _matmul_b(g: Any, a: Any, b_shape: tuple[int, ...]) -> Any:
    if a.ndim == 1:
        outer = a.reshape((-1, 1)) * g.reshape((*g.shape[:-1], 1, g.shape[-1])) if len(b_shape) > 1 else a * g
        return sum_to(outer, b_shape)
    if len(b_shape) == 1:
        return sum_to(a * g.reshape((*g.shape, 1)), b_shape)
    return _product(_rows(a).T, _rows(g)) if len(b_shape) == 2 else sum_to(a.swapaxes(-1, -2) @ g, b_shape)


# --- entry by entry --------------------------------------------------------------------------------------------------


@op(x=lambda g, y: g * y, symbol="exp({x})", slopes={"x": "{y}"}, ufunc=np.exp)
def exp(x: Array) -> Array:
    """Raise e to the power of each entry; derivative y."""
    return np.exp(x)


@op(x=lambda g, x: g / x, symbol="ln({x})", slopes={"x": "1 / {x}"}, ufunc=np.log)
def log(x: Array) -> Array:
    """Take the natural logarithm of each entry; derivative 1/x."""
    return np.log(x)


@op(x=lambda g, y: 0.5 * g / y, symbol="√({x})", slopes={"x": "1 / (2 {y})"}, ufunc=np.sqrt)
def sqrt(x: Array) -> Array:
    """Take the square root of each entry; derivative 1/(2y)."""
    return np.sqrt(x)


@op(x=lambda g, x: g * np.sign(np.asarray(x)), symbol="|{x}|", slopes={"x": "sign({x})"}, ufunc=np.absolute)
def abs_(x: Array) -> Array:
    """Take the absolute value of each entry; derivative sign(x), 0 at 0."""
    return np.abs(x)


@op(x=lambda g, y: g * (1.0 - y * y), symbol="tanh({x})", slopes={"x": "(1 - {y}²)"}, ufunc=np.tanh)
def tanh(x: Array) -> Array:
    """Take the hyperbolic tangent of each entry; derivative 1 − y²."""
    return np.tanh(x)


@op(x=lambda g, y: g * (y * (1.0 - y)), symbol="σ({x})", slopes={"x": "{y} ⊙ (1 - {y})"})
def sigmoid(x: Array) -> Array:
    """Apply the logistic function ½(1 + tanh(x/2)), which overflows nowhere, to each entry; derivative y(1 − y)."""
    return 0.5 * (1.0 + np.tanh(0.5 * x))


@op(x=lambda g, y: g * (y > 0), symbol="max(0, {x})", slopes={"x": "[{y} > 0]"})
def relu(x: Array) -> Array:
    """Rectify each entry, max(x, 0); derivative 1 where x > 0, else 0."""
    return np.maximum(x, 0)


@op(x=lambda g: g, symbol="{x}", slopes={"x": "1"}, view=True)
def identity(x: Array) -> Array:
    """Hand the input on; derivative 1."""
    return x


@op(x=lambda g, x_dtype: g.astype(x_dtype), symbol="{x}", slopes={"x": "1"})
def astype(x: Array, *, dtype: Any) -> Array:
    """Cast to another dtype; the gradient is cast back."""
    return x.astype(dtype)


def _share(g: Any, wins: Array, ties: Array, shape: tuple[int, ...]) -> Any:
    return sum_to(g * wins + 0.5 * (g * ties), shape)


@op(
    a=lambda g, a, b, a_shape: _share(g, a > b, a == b, a_shape),
    b=lambda g, a, b, b_shape: _share(g, b > a, a == b, b_shape),
    symbol="max({a}, {b})",
    slopes={"a": "[{a} > {b}]", "b": "[{b} > {a}]"},
    ufunc=np.maximum,
)
def maximum(a: Array, b: Array) -> Array:
    """Take the larger of two, entry by entry; the gradient goes to the larger, half to each where they are equal."""
    return np.maximum(a, b)


@op(
    a=lambda g, a, b, a_shape: _share(g, a < b, a == b, a_shape),
    b=lambda g, a, b, b_shape: _share(g, b < a, a == b, b_shape),
    symbol="min({a}, {b})",
    slopes={"a": "[{a} < {b}]", "b": "[{b} < {a}]"},
    ufunc=np.minimum,
)
def minimum(a: Array, b: Array) -> Array:
    """Take the smaller of two, entry by entry; the gradient goes to the smaller, half to each where they are equal."""
    return np.minimum(a, b)


@op(
    # np.where and not a product with the mask: 0·inf would be NaN.
    a=lambda g, condition, a_shape: sum_to(np.where(condition, g, 0), a_shape),
    b=lambda g, condition, b_shape: sum_to(np.where(condition, 0, g), b_shape),
    symbol="({a} where {condition}, else {b})",
    slopes={"a": "[{condition}]", "b": "[not {condition}]"},
)
def where(condition: Array, a: Array, b: Array) -> Array:
    """Take ``a`` where the condition holds, else ``b``; each gets the gradient of the places it was taken from."""
    return np.where(condition, a, b)


@op(
    x=lambda g, x, low, high: (
        g * ((x >= (-np.inf if low is None else low)) & (x <= (np.inf if high is None else high)))
    ),
    symbol="clip({x}, {low}, {high})",
    slopes={"x": "[{low} ≤ {x} ≤ {high}]"},
)
def clip(x: Array, *, low: Any = None, high: Any = None) -> Array:
    """Limit to constant bounds, ``min(max(x, low), high)``; derivative 1 within the bounds (ends included), else 0."""
    return np.clip(x, low, high)


# --- reductions ------------------------------------------------------------------------------------------------------


@op(x=lambda g, x_shape, axis, keepdims: spread(restore(g, x_shape, axis, keepdims), x_shape))
def sum_(x: Array, *, axis: Axis = None, keepdims: bool = False) -> Any:
    """Sum over all axes, or those given; every summand gets g."""
    return np.add.reduce(x, axis, keepdims=keepdims)  # type: ignore[call-overload]


@op(
    x=lambda g, x_shape, axis, keepdims: (
        spread(restore(g, x_shape, axis, keepdims), x_shape)
        * (1.0 / math.prod(x_shape[a] for a in axes_of(axis, len(x_shape))))
    )
)
def mean(x: Array, *, axis: Axis = None, keepdims: bool = False) -> Any:
    """Average over all axes, or those given; every entry gets g / count."""
    return np.mean(x, axis=axis, keepdims=keepdims)


def _to_the_extreme(g: Any, x: Any, y: Any, axis: Axis, keepdims: bool) -> Any:
    hits = (x == restore(y, x.shape, axis, keepdims)) | (x != x)  # where y is NaN, it came from the NaNs
    return restore(g, x.shape, axis, keepdims) * (hits / hits.sum(axis=axis, keepdims=True)).astype(g.dtype)


@op(x=_to_the_extreme)
def max_(x: Array, *, axis: Axis = None, keepdims: bool = False) -> Any:
    """Find the largest entry over all axes, or those given; entries that tie for it share g equally."""
    return np.max(x, axis=axis, keepdims=keepdims)


@op(x=_to_the_extreme)
def min_(x: Array, *, axis: Axis = None, keepdims: bool = False) -> Any:
    """Find the smallest entry over all axes, or those given; entries that tie for it share g equally."""
    return np.min(x, axis=axis, keepdims=keepdims)


def _shift(x: Any, axis: Axis) -> Array:
    """Find the largest entry, a constant that keeps exp from overflowing; 0 where it is infinite."""
    peak: Array = np.max(np.asarray(x), axis=axis, keepdims=True)
    return np.where(np.isfinite(peak), peak, 0).astype(peak.dtype)


@op(
    x=lambda g, x, y, axis, keepdims: (
        restore(g, x.shape, axis, keepdims) * np.exp(x - restore(y, x.shape, axis, keepdims))
    )
)
def logsumexp(x: Array, *, axis: Axis = None, keepdims: bool = False) -> Array:
    """Compute ln Σ exp(x) over all axes, or those given, without overflow; derivative softmax(x)."""
    shift = _shift(x, axis)
    y: Array = np.log(np.sum(np.exp(x - shift), axis=axis, keepdims=True)) + shift
    return y if keepdims else np.squeeze(y, axis)


@op(x=lambda g, y, axis: y * (g - (g * y).sum(axis=axis, keepdims=True)))
def softmax(x: Array, *, axis: int = -1) -> Any:
    """Compute exp(x) / Σ exp(x) along one axis; derivative y·(g − Σ g·y)."""
    e = np.exp(x - _shift(x, axis))
    return e / e.sum(axis=axis, keepdims=True)


@op(x=lambda g, y, axis: g - np.exp(y) * g.sum(axis=axis, keepdims=True))
def log_softmax(x: Array, *, axis: int = -1) -> Any:
    """Compute x − ln Σ exp(x) along one axis; derivative g − softmax(x)·Σ g."""
    z: Array = x - _shift(x, axis)
    return z - np.asarray(np.log(np.sum(np.exp(z), axis=axis, keepdims=True)))


# --- losses of one target each ---------------------------------------------------------------------------------------


def _softmax_less_one_hot(g: Any, logits: Any, ids: Array) -> Any:
    one_hot = np.zeros(logits.shape, logits.dtype)
    np.put_along_axis(one_hot, ids[..., None], 1, axis=-1)
    return g.reshape((*g.shape, 1)) * (softmax.forward(logits) - one_hot)


@op(logits=_softmax_less_one_hot)
def cross_entropy(logits: Array, *, ids: Array) -> Any:
    """Compute −ln softmax(logits)[id] in nats, (…, C), (…) → (…); derivative g·(softmax(logits) − one_hot(id))."""
    z = logits - _shift(logits, -1)
    return np.log(np.exp(z).sum(axis=-1)) - np.take_along_axis(z, ids[..., None], axis=-1)[..., 0]


@op(logits=lambda g, logits, target: g * (0.5 * (1.0 + np.tanh(0.5 * logits)) - target))
def binary_cross_entropy(logits: Array, *, target: Array) -> Any:
    """Compute −t ln σ(x) − (1−t) ln(1−σ(x)) in nats as max(x, 0) − x·t + ln(1 + e^−|x|); derivative g·(σ(x) − t)."""
    return np.maximum(logits, 0) - logits * target + np.log1p(np.exp(-np.abs(logits)))
