"""The ops that compute: each with its forward on plain arrays and its derivative rules side by side.

How a rule says what it needs, and what it may do, stands in minirnn/autograd/op.py; those that only move entries about
are in shapes.py. What works entry by entry says how it is written, and what it multiplies the gradient by.
"""

import math
from operator import gt, lt
from typing import Any

import numpy as np

from minirnn.arguments import Array, floats
from minirnn.autograd.op import Axis, op
from minirnn.autograd.shapes import axes_of, restore, spread, sum_to
from minirnn.kernels.cells import sigmoid as logistic
from minirnn.kernels.sums import add_up, centred, less, log_total, peak_of

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


def _power_a(g: Any, a: Any, b: Any, a_shape: tuple[int, ...]) -> Any:
    if isinstance(b, int | float):
        return sum_to(g * (b * a ** (b - (b != 0))), a_shape)
    b = np.where((at_0 := np.asarray(a) == 0), np.asarray(b), b)  # a constant there, as y is below
    one = np.where(at_0 & (b == 0), 0, 1).astype(b.dtype)  # 0·a^(−1) would be NaN where both are 0
    return sum_to(g * (b * a ** (b - one)), a_shape)


def _power_b(g: Any, y: Any, a: Any, b: Any, b_shape: tuple[int, ...]) -> Any:
    if not hasattr(a, "shape"):
        return sum_to(g * (y * float(np.log(a or 1))), b_shape)  # a float64 would widen
    if (at_0 := np.asarray(a) == 0).any():
        y = (a := np.where(at_0, 1, a)) ** b
    return sum_to(g * (y * np.log(a)), b_shape)


@op(
    a=_power_a,
    b=_power_b,
    symbol="{a}^{b}",
    slopes={"a": "{b} {a}^({b} - 1)", "b": "{y} ln {a}"},
    ufunc=np.power,
)
def pow_(a: Array, b: Array) -> Array:
    """Raise to a power, aᵇ; ∂/∂a = g·b·a^(b−1), 0 where b = 0; ∂/∂b = g·y·ln a, 0 of every order where a = 0."""
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
def exp(x: Array) -> Any:
    """Raise e to the power of each entry; derivative y."""
    return np.exp(floats(x))


@op(x=lambda g, x: g / x, symbol="ln({x})", slopes={"x": "1 / {x}"}, ufunc=np.log)
def log(x: Array) -> Any:
    """Take the natural logarithm of each entry; derivative 1/x."""
    return np.log(floats(x))


@op(x=lambda g, y: 0.5 * g / y, symbol="√({x})", slopes={"x": "1 / (2 {y})"}, ufunc=np.sqrt)
def sqrt(x: Array) -> Any:
    """Take the square root of each entry; derivative 1/(2y)."""
    return np.sqrt(floats(x))


@op(x=lambda g, x: g * np.sign(np.asarray(x)), symbol="|{x}|", slopes={"x": "sign({x})"}, ufunc=np.absolute)
def abs_(x: Array) -> Array:
    """Take the absolute value of each entry; derivative sign(x), 0 at 0."""
    return np.abs(x)


@op(x=lambda g, y: g * (1.0 - y * y), symbol="tanh({x})", slopes={"x": "(1 - {y}²)"}, ufunc=np.tanh)
def tanh(x: Array) -> Any:
    """Take the hyperbolic tangent of each entry; derivative 1 − y²."""
    return np.tanh(floats(x))


@op(x=lambda g, y: g * (y * (1.0 - y)), symbol="σ({x})", slopes={"x": "{y} ⊙ (1 - {y})"})
def sigmoid(x: Array) -> Any:
    """Apply the logistic function 1 / (1 + e^−x) to each entry; derivative y(1 − y), 0 where y has come to be 1."""
    return logistic(floats(x))


def _logistic(x: Any) -> Any:
    return x.sigmoid() if hasattr(x, "requires_grad") else logistic(x)


@op(x=lambda g, x: g * _logistic(x), symbol="ln(1 + exp({x}))", slopes={"x": "σ({x})"})
def softplus(x: Array) -> Any:
    """Compute ln(1 + e^x) for each entry as max(x, 0) + ln(1 + e^−|x|), right in both tails; derivative σ(x)."""
    x = floats(x)
    return np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))


@op(x=lambda g, x: g * _logistic(-x), symbol="ln σ({x})", slopes={"x": "σ(-{x})"})
def log_sigmoid(x: Array) -> Any:
    """Compute ln σ(x) for each entry as −softplus(−x), right in both tails; derivative σ(−x)."""
    return -softplus.forward(-floats(x))


@op(x=lambda g, y: g * (y != 0), symbol="max(0, {x})", slopes={"x": "[{y} > 0]"})
def relu(x: Array) -> Array:
    """Rectify each entry, max(x, 0), which is NaN of NaN; derivative 1 where y > 0 or NaN, else 0."""
    return np.maximum(x, 0)


@op(x=lambda g: g, symbol="{x}", slopes={"x": "1"}, view=True)
def identity(x: Array) -> Array:
    """Hand the input on; derivative 1."""
    return x


@op(x=lambda g: g, symbol="{x}", slopes={"x": "1"})
def copy(x: Array) -> Array:
    """Copy the input; derivative 1."""
    return x.copy()


@op(x=lambda g, x_dtype: g.astype(x_dtype), symbol="{x}", slopes={"x": "1"})
def astype(x: Array, *, dtype: Any) -> Array:
    """Cast to another dtype; the gradient is cast back."""
    return x.astype(dtype)


def _share(g: Any, a: Any, b: Any, before: Any, shape: tuple[int, ...]) -> Any:
    """Return the share of ``a``: NaN comes before everything, since it is what numpy hands on."""
    wins, loses = before(a, b) | (a != a), before(b, a) | (b != b)
    return sum_to(g * (wins & ~loses) + 0.5 * (g * (wins == loses)), shape)


@op(
    a=lambda g, a, b, a_shape: _share(g, a, b, gt, a_shape),
    b=lambda g, a, b, b_shape: _share(g, b, a, gt, b_shape),
    symbol="max({a}, {b})",
    slopes={"a": "[{a} > {b}]", "b": "[{b} > {a}]"},
    ufunc=np.maximum,
)
def maximum(a: Array, b: Array) -> Array:
    """Take the larger of two, entry by entry, or NaN; the gradient goes to it, half to each of two equal ones."""
    return np.maximum(a, b)


@op(
    a=lambda g, a, b, a_shape: _share(g, a, b, lt, a_shape),
    b=lambda g, a, b, b_shape: _share(g, b, a, lt, b_shape),
    symbol="min({a}, {b})",
    slopes={"a": "[{a} < {b}]", "b": "[{b} < {a}]"},
    ufunc=np.minimum,
)
def minimum(a: Array, b: Array) -> Array:
    """Take the smaller of two, as `maximum` the larger."""
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
    x=lambda g, x, low, high: g * ~((x < (-np.inf if low is None else low)) | (x > (np.inf if high is None else high))),
    symbol="clip({x}, {low}, {high})",
    slopes={"x": "[{low} ≤ {x} ≤ {high}]"},
)
def clip(x: Array, *, low: Any = None, high: Any = None) -> Array:
    """Limit to constant bounds, ``min(max(x, low), high)``; derivative 0 beyond the bounds, else 1, at NaN too."""
    return np.copy(x) if low is None is high else np.clip(x, low, high)  # numpy before 2.1 refuses to have no bounds


# --- reductions ------------------------------------------------------------------------------------------------------


@op(x=lambda g, x_shape, axis, keepdims: spread(restore(g, x_shape, axis, keepdims), x_shape))
def sum_(x: Array, *, axis: Axis = None, keepdims: bool = False) -> Any:
    """Sum over all axes, or those given; every summand gets g."""
    return add_up(x, axis, keepdims)


@op(
    x=lambda g, x_shape, axis, keepdims: spread(
        restore(g, x_shape, axis, keepdims) * (1.0 / _count(x_shape, axis)), x_shape
    )
)
def mean(x: Array, *, axis: Axis = None, keepdims: bool = False) -> Any:
    """Average over all axes, or those given; every entry gets g / count."""
    total = add_up(floats(x), axis, keepdims)
    if count := _count(x.shape, axis):
        return total / count
    raise ValueError("nothing has no mean, and an axis of length 0 holds nothing: leave it out, or take the sum")


def _count(shape: tuple[int, ...], axis: Axis) -> int:
    """Return how many entries a reduction takes together."""
    return math.prod(shape if axis is None else [shape[a] for a in axes_of(axis, len(shape))])


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


@op(
    x=lambda g, x, y, axis, keepdims: (
        restore(g, x.shape, axis, keepdims) * np.exp(less(x, restore(y, x.shape, axis, keepdims), axis))
    )
)
def logsumexp(x: Array, *, axis: Axis = None, keepdims: bool = False) -> Any:
    """Compute ln Σ exp(x) over all axes, or those given, without overflow; derivative softmax(x)."""
    x = floats(x)
    peak = peak_of(x, axis)
    y = np.where(np.isfinite(peak), log_total(less(x, peak, axis), axis) + peak, peak)
    return y if keepdims else np.squeeze(y, axis)


@op(x=lambda g, y, axis: y * (g - (g * y).sum(axis=axis, keepdims=True)))
def softmax(x: Array, *, axis: int = -1) -> Any:
    """Compute exp(x) / Σ exp(x) along one axis; derivative y·(g − Σ g·y). The limit, [0, 0, 1], of [1, 1, ∞]."""
    e = np.exp(centred(x, axis))
    return e / add_up(e, axis, True)


@op(x=lambda g, y, axis: g - np.exp(y) * g.sum(axis=axis, keepdims=True))
def log_softmax(x: Array, *, axis: int = -1) -> Any:
    """Compute x − ln Σ exp(x) along one axis; derivative g − softmax(x)·Σ g."""
    z = centred(x, axis)
    return z - log_total(z, axis)


# --- losses of one target each ---------------------------------------------------------------------------------------


def _softmax_less_one_hot(g: Any, logits: Any, ids: Array) -> Any:
    one_hot = np.zeros(logits.shape, logits.dtype)
    np.put_along_axis(one_hot, ids[..., None], 1, axis=-1)
    e = np.exp(centred(logits, -1))
    others = e / e.sum(axis=-1, keepdims=True) * (1 - one_hot)  # whose sum is 1 − softmax(logits)[id], not cancelled
    return g.reshape((*g.shape, 1)) * (others - one_hot * others.sum(axis=-1, keepdims=True))


@op(logits=_softmax_less_one_hot)
def cross_entropy(logits: Array, *, ids: Array) -> Any:
    """Compute −ln softmax(logits)[id] in nats, (…, C), (…) → (…); derivative g·(softmax(logits) − one_hot(id))."""
    z = centred(logits, -1)
    return np.log(np.exp(z).sum(axis=-1)) - np.take_along_axis(z, ids[..., None], axis=-1)[..., 0]


@op(logits=lambda g, logits, target: g * (_logistic(logits) * (1.0 - target) - _logistic(-logits) * target))
def binary_cross_entropy(logits: Array, *, target: Array) -> Any:
    """Compute −t ln σ(x) − (1−t) ln σ(−x) in nats; derivative g·(σ(x) − t). Nothing cancels; ∞·0 is 0, the limit."""
    size, wrong = np.abs(logits), np.where(logits > 0, 1 - target, target)
    return np.multiply(size, wrong, out=np.zeros_like(size), where=wrong != 0) + np.log1p(np.exp(-size))
