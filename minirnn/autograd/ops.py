"""Every op: its forward on plain arrays and its derivative rules, side by side.

How a rule says what it needs, and what it may do, stands in minirnn/autograd/op.py.
"""

import math
from typing import Any

import numpy as np

from minirnn.arguments import Array
from minirnn.autograd.op import Axis, op, view_op
from minirnn.autograd.part import Part

# --- shapes: what broadcasting does to a gradient --------------------------------------------------------------------


def sum_to(g: Any, shape: tuple[int, ...]) -> Any:
    """Sum ``g`` over the axes that broadcasting added or stretched, so that it has ``shape`` (array or Tensor)."""
    if g.shape == shape:
        return g
    if g.shape[1:] == shape:  # a bias: the case that every step of a loop meets
        return g.reshape(shape) if g.shape[0] == 1 else np.add.reduce(g) if type(g) is np.ndarray else g.sum(axis=0)
    added = g.ndim - len(shape)
    stretched = tuple(i + added for i, n in enumerate(shape) if n == 1 and g.shape[i + added] != 1)
    axes = tuple(range(added)) + stretched
    if not stretched and all(g.shape[i] == 1 for i in range(added)):
        return g.reshape(shape)
    return g.sum(axis=axes).reshape(shape)


def spread(g: Any, shape: tuple[int, ...]) -> Any:
    """Copy ``g`` along new or stretched axes to ``shape`` (array or Tensor); the opposite of `sum_to`."""
    if not isinstance(g, np.ndarray | np.generic):
        return g.broadcast_to(shape)
    full = np.empty(shape, g.dtype)
    full[...] = g
    return full


def _axes(axis: Axis, ndim: int) -> set[int]:
    """Return the axes meant by a setting, counted from the front."""
    return set(range(ndim)) if axis is None else {a % ndim for a in (axis if isinstance(axis, tuple) else (axis,))}


def _restore(g: Any, shape: tuple[int, ...], axis: Axis, keepdims: bool) -> Any:
    """Put the axes that a reduction removed back as axes of length 1, so that ``g`` broadcasts against ``shape``."""
    if axis is None or keepdims:
        return g
    axes = _axes(axis, len(shape))
    return g.reshape(tuple(1 if i in axes else n for i, n in enumerate(shape)))


# --- arithmetic ------------------------------------------------------------------------------------------------------


@op
def add(a: Array, b: Array) -> Array:
    """Add: ``a + b``, broadcasting; ∂/∂a = g, ∂/∂b = g."""
    return a + b


add.derivative(
    a=lambda g, a_shape: g if g.shape == a_shape else sum_to(g, a_shape),
    b=lambda g, b_shape: g if g.shape == b_shape else sum_to(g, b_shape),
)


@op
def sub(a: Array, b: Array) -> Array:
    """Subtract: ``a - b``, broadcasting; ∂/∂a = g, ∂/∂b = −g."""
    return a - b


sub.derivative(a=lambda g, a_shape: sum_to(g, a_shape), b=lambda g, b_shape: sum_to(-g, b_shape))


@op
def mul(a: Array, b: Array) -> Array:
    """Multiply element by element: ``a * b``, broadcasting; ∂/∂a = g·b, ∂/∂b = g·a."""
    return a * b


mul.derivative(a=lambda g, b, a_shape: sum_to(g * b, a_shape), b=lambda g, a, b_shape: sum_to(g * a, b_shape))


@op
def div(a: Array, b: Array) -> Array:
    """Divide element by element: ``a / b``, broadcasting; ∂/∂a = g/b, ∂/∂b = −g·y/b."""
    return a / b


div.derivative(a=lambda g, b, a_shape: sum_to(g / b, a_shape), b=lambda g, y, b, b_shape: sum_to(-g * y / b, b_shape))


@op
def neg(x: Array) -> Array:
    """Negate: ``-x``."""
    return -x


neg.derivative(x=lambda g: -g)


@op
def pow_(a: Array, b: Array) -> Array:
    """Raise to a power: ``a ** b``; ∂/∂a = g·b·a^(b−1), 0 where b = 0; ∂/∂b = g·y·ln a, 0 where a = 0."""
    return a**b


pow_.derivative(
    # b·a^(b−1) at b = 0 must be 0, not 0·a^(−1), which is NaN at a = 0; likewise y·ln a at a = 0.
    a=lambda g, a, b, a_shape: sum_to(g * (b * a ** ((b - 1) * (b != 0))), a_shape),
    b=lambda g, y, a, b_shape: sum_to(g * (y * _log_or_0(a)), b_shape),
)


def _log_or_0(a: Any) -> Any:
    log_a = np.log(a + (a == 0))
    return log_a if hasattr(a, "shape") else float(log_a)  # a number must not widen float32


def _rows(x: Any) -> Any:
    """Join the leading axes to one (array or Tensor)."""
    return x.reshape((math.prod(x.shape[:-1]), x.shape[-1]))


def _product(a: Any, b: Any) -> Any:
    """``a @ b`` of two matrices (arrays or Tensors)."""
    return a.dot(b) if type(a) is type(b) is np.ndarray else a @ b


@op
def matmul(a: Array, b: Array) -> Any:
    """Matrix product ``a @ b``, 1-D to n-D as in numpy; ∂/∂a = g·bᵀ, ∂/∂b = aᵀ·g."""
    try:
        if a.ndim == 2 == b.ndim:
            return a.dot(b)  # half of what matmul's loop set-up costs on small matrices
        if b.ndim == 2 < a.ndim:  # one product over all rows instead of one small one for each leading index
            return _rows(a).dot(b).reshape(*a.shape[:-1], b.shape[1])
    except AttributeError:
        raise ValueError("a number has no axis to sum over, use * instead of @") from None
    return np.matmul(a, b)


def _matmul_a(g: Any, b: Any, a_shape: tuple[int, ...]) -> Any:
    if b.ndim == 1:
        return sum_to(g.reshape((*g.shape, 1)) * b, a_shape)
    if len(a_shape) == 1:
        return sum_to((b @ g.reshape((*g.shape, 1))).reshape(b.shape[:-1]), a_shape)
    if b.ndim == 2:
        return _product(_rows(g), b.T).reshape(a_shape)
    return sum_to(g @ b.swapaxes(-1, -2), a_shape)


def _matmul_b(g: Any, a: Any, b_shape: tuple[int, ...]) -> Any:
    if a.ndim == 1:
        outer = a.reshape((-1, 1)) * g.reshape((*g.shape[:-1], 1, g.shape[-1])) if len(b_shape) > 1 else a * g
        return sum_to(outer, b_shape)
    if len(b_shape) == 1:
        return sum_to(a * g.reshape((*g.shape, 1)), b_shape)
    if len(b_shape) == 2:
        return _product(_rows(a).T, _rows(g))
    return sum_to(a.swapaxes(-1, -2) @ g, b_shape)


matmul.derivative(
    a=lambda g, b, a_shape: g.dot(b.T) if type(g) is np.ndarray and b.ndim == 2 == g.ndim else _matmul_a(g, b, a_shape),
    b=lambda g, a, b_shape: a.T.dot(g) if type(g) is np.ndarray and a.ndim == 2 == g.ndim else _matmul_b(g, a, b_shape),
)


# --- element by element ----------------------------------------------------------------------------------------------


@op
def exp(x: Array) -> Array:
    """E to the x; derivative y."""
    return np.exp(x)


exp.derivative(x=lambda g, y: g * y)


@op
def log(x: Array) -> Array:
    """Natural logarithm; derivative 1/x."""
    return np.log(x)


log.derivative(x=lambda g, x: g / x)


@op
def sqrt(x: Array) -> Array:
    """Square root; derivative 1/(2y)."""
    return np.sqrt(x)


sqrt.derivative(x=lambda g, y: 0.5 * g / y)


@op
def abs_(x: Array) -> Array:
    """Absolute value; derivative sign(x), 0 at 0."""
    return np.abs(x)


abs_.derivative(x=lambda g, x: g * np.sign(np.asarray(x)))


@op
def tanh(x: Array) -> Array:
    """Hyperbolic tangent; derivative 1 − y²."""
    return np.tanh(x)


tanh.derivative(x=lambda g, y: g * (1.0 - y * y))


@op
def sigmoid(x: Array) -> Array:
    """Logistic function σ(x) = ½(1 + tanh(x/2)), which overflows nowhere; derivative y(1 − y)."""
    return 0.5 * (1.0 + np.tanh(0.5 * x))


sigmoid.derivative(x=lambda g, y: g * (y * (1.0 - y)))


@op
def relu(x: Array) -> Array:
    """Rectifier max(x, 0); derivative 1 where x > 0, else 0."""
    return np.maximum(x, 0)


relu.derivative(x=lambda g, y: g * (y > 0))


@view_op
def identity(x: Array) -> Array:
    """The input itself; derivative 1."""
    return x


identity.derivative(x=lambda g: g)


@op
def maximum(a: Array, b: Array) -> Array:
    """The larger of two, element by element; the gradient goes to the larger, half to each where they are equal."""
    return np.maximum(a, b)


@op
def minimum(a: Array, b: Array) -> Array:
    """The smaller of two, element by element; the gradient goes to the smaller, half to each where they are equal."""
    return np.minimum(a, b)


def _share(g: Any, wins: Array, ties: Array, shape: tuple[int, ...]) -> Any:
    return sum_to(g * wins + 0.5 * (g * ties), shape)


maximum.derivative(
    a=lambda g, a, b, a_shape: _share(g, a > b, a == b, a_shape),
    b=lambda g, a, b, b_shape: _share(g, b > a, a == b, b_shape),
)
minimum.derivative(
    a=lambda g, a, b, a_shape: _share(g, a < b, a == b, a_shape),
    b=lambda g, a, b, b_shape: _share(g, b < a, a == b, b_shape),
)


@op
def where(condition: Array, a: Array, b: Array) -> Array:
    """``a`` where the condition holds, else ``b``; each gets the gradient of the places it was taken from."""
    return np.where(condition, a, b)


where.derivative(
    # np.where and not a product with the mask: 0·inf would be NaN.
    a=lambda g, condition, a_shape: sum_to(np.where(condition, g, 0), a_shape),
    b=lambda g, condition, b_shape: sum_to(np.where(condition, 0, g), b_shape),
)


@op
def clip(x: Array, *, low: Any = None, high: Any = None) -> Array:
    """``min(max(x, low), high)`` with constant bounds; derivative 1 within the bounds (ends included), else 0."""
    return np.clip(x, low, high)


clip.derivative(
    x=lambda g, x, low, high: g * ((x >= (-np.inf if low is None else low)) & (x <= (np.inf if high is None else high)))
)


# --- reductions ------------------------------------------------------------------------------------------------------


@op
def sum_(x: Array, *, axis: Axis = None, keepdims: bool = False) -> Array:
    """Sum over all axes, or those given; every summand gets g."""
    total: Array = np.add.reduce(x, axis, keepdims=keepdims)  # type: ignore[call-overload]
    return total


sum_.derivative(x=lambda g, x_shape, axis, keepdims: spread(_restore(g, x_shape, axis, keepdims), x_shape))


def _count(shape: tuple[int, ...], axis: Axis) -> int:
    return math.prod(shape[a] for a in _axes(axis, len(shape)))


@op
def mean(x: Array, *, axis: Axis = None, keepdims: bool = False) -> Array:
    """Mean over all axes, or those given; every entry gets g / count."""
    average: Array = np.mean(x, axis=axis, keepdims=keepdims)
    return average


mean.derivative(
    x=lambda g, x_shape, axis, keepdims: (
        spread(_restore(g, x_shape, axis, keepdims), x_shape) * (1.0 / _count(x_shape, axis))
    )
)


def _to_the_extreme(g: Any, x: Any, y: Any, axis: Axis, keepdims: bool) -> Any:
    hits = (x == _restore(y, x.shape, axis, keepdims)) | (x != x)  # where y is NaN, it came from the NaNs
    share = (hits / hits.sum(axis=axis, keepdims=True)).astype(g.dtype)
    return _restore(g, x.shape, axis, keepdims) * share


@op
def max_(x: Array, *, axis: Axis = None, keepdims: bool = False) -> Array:
    """Largest entry over all axes, or those given; entries that tie for it share g equally."""
    largest: Array = np.max(x, axis=axis, keepdims=keepdims)
    return largest


max_.derivative(x=_to_the_extreme)


@op
def min_(x: Array, *, axis: Axis = None, keepdims: bool = False) -> Array:
    """Smallest entry over all axes, or those given; entries that tie for it share g equally."""
    smallest: Array = np.min(x, axis=axis, keepdims=keepdims)
    return smallest


min_.derivative(x=_to_the_extreme)


def _shift(x: Any, axis: Axis) -> Array:
    """Return the largest entry, a constant that keeps exp from overflowing; 0 where it is infinite."""
    peak: Array = np.max(np.asarray(x), axis=axis, keepdims=True)
    return np.where(np.isfinite(peak), peak, 0).astype(peak.dtype)


def _softmax(x: Any, axis: int) -> Any:
    e = np.exp(x - _shift(x, axis))
    return e / e.sum(axis=axis, keepdims=True)


@op
def logsumexp(x: Array, *, axis: Axis = None, keepdims: bool = False) -> Array:
    """Ln Σ exp(x) over all axes, or those given, without overflow; derivative softmax(x)."""
    shift = _shift(x, axis)
    y: Array = np.log(np.sum(np.exp(x - shift), axis=axis, keepdims=True)) + shift
    return y if keepdims else np.squeeze(y, axis)


logsumexp.derivative(
    x=lambda g, x, y, axis, keepdims: (
        _restore(g, x.shape, axis, keepdims) * np.exp(x - _restore(y, x.shape, axis, keepdims))
    )
)


@op
def softmax(x: Array, *, axis: int = -1) -> Array:
    """exp(x) / Σ exp(x) along one axis; derivative y·(g − Σ g·y)."""
    y: Array = _softmax(x, axis)
    return y


softmax.derivative(x=lambda g, y, axis: y * (g - (g * y).sum(axis=axis, keepdims=True)))


@op
def log_softmax(x: Array, *, axis: int = -1) -> Any:
    """X − ln Σ exp(x) along one axis; derivative g − softmax(x)·Σ g."""
    z: Array = x - _shift(x, axis)
    return z - np.asarray(np.log(np.sum(np.exp(z), axis=axis, keepdims=True)))


log_softmax.derivative(x=lambda g, y, axis: g - np.exp(y) * g.sum(axis=axis, keepdims=True))


# --- losses of one target each ---------------------------------------------------------------------------------------


def one_hot(ids: Array, size: int, dtype: Any) -> Array:
    """Return rows of the identity: (…,) class ids → (…, size)."""
    rows = np.zeros((*ids.shape, size), dtype)
    np.put_along_axis(rows, ids[..., None], 1, axis=-1)
    return rows


@op
def cross_entropy(logits: Array, *, ids: Array) -> Array:
    """−ln softmax(logits)[id] in nats, (…, C) and ids (…,) → (…,); derivative g·(softmax(logits) − one_hot(id))."""
    z = logits - _shift(logits, -1)
    picked = np.take_along_axis(z, ids[..., None], axis=-1)[..., 0]
    nats: Array = np.log(np.exp(z).sum(axis=-1)) - picked
    return nats


cross_entropy.derivative(
    logits=lambda g, logits, ids: (
        g.reshape((*g.shape, 1)) * (_softmax(logits, -1) - one_hot(ids, logits.shape[-1], logits.dtype))
    )
)


@op
def binary_cross_entropy(logits: Array, *, target: Array) -> Array:
    """−t ln σ(x) − (1−t) ln(1−σ(x)) in nats = max(x, 0) − x·t + ln(1 + e^−|x|); derivative g·(σ(x) − t)."""
    nats: Array = np.maximum(logits, 0) - logits * target + np.log1p(np.exp(-np.abs(logits)))
    return nats


binary_cross_entropy.derivative(logits=lambda g, logits, target: g * (0.5 * (1.0 + np.tanh(0.5 * logits)) - target))


# --- shapes ----------------------------------------------------------------------------------------------------------


@view_op
def reshape(x: Array, *, shape: tuple[int, ...]) -> Array:
    """Return the same entries in another shape."""
    return x.reshape(shape)


reshape.derivative(x=lambda g, x_shape: g.reshape(x_shape))


@view_op
def transpose(x: Array, *, axes: tuple[int, ...] | None = None) -> Array:
    """Permute the axes; without ``axes``, reverse them."""
    return x.transpose(axes)


transpose.derivative(
    x=lambda g, axes: g.transpose(
        None if axes is None else tuple(int(i) for i in np.argsort([a % g.ndim for a in axes]))
    )
)


@view_op
def swapaxes(x: Array, *, axis1: int, axis2: int) -> Array:
    """Exchange two axes."""
    return x.swapaxes(axis1, axis2)


swapaxes.derivative(x=lambda g, axis1, axis2: g.swapaxes(axis1, axis2))


@view_op
def squeeze(x: Array, *, axis: Axis = None) -> Array:
    """Drop axes of length 1."""
    return np.squeeze(x, axis)


squeeze.derivative(x=lambda g, x_shape: g.reshape(x_shape))


@view_op
def expand_dims(x: Array, *, axis: int | tuple[int, ...]) -> Array:
    """Insert axes of length 1."""
    return np.expand_dims(x, axis)


expand_dims.derivative(x=lambda g, x_shape: g.reshape(x_shape))


@view_op
def broadcast_to(x: Array, *, shape: tuple[int, ...]) -> Array:
    """Copy along new or stretched axes; the gradient is summed over them."""
    return np.broadcast_to(x, shape)


broadcast_to.derivative(x=lambda g, x_shape: sum_to(g, x_shape))


@view_op
def flip(x: Array, *, axis: Axis = None) -> Array:
    """Reverse the order along all axes, or those given."""
    return np.flip(x, axis)


def _flipped(g: Any, axis: Axis) -> Any:
    axes = _axes(axis, g.ndim)
    return g[tuple(slice(None, None, -1 if i in axes else 1) for i in range(g.ndim))]


flip.derivative(x=_flipped)


@op
def astype(x: Array, *, dtype: Any) -> Array:
    """Cast to another dtype; the gradient is cast back."""
    return x.astype(dtype)


astype.derivative(x=lambda g, x_dtype: g.astype(x_dtype))


@op
def concatenate(*xs: Array, axis: int = 0) -> Array:
    """Join along an existing axis; each input gets its part of g."""
    return np.concatenate(xs, axis=axis)


concatenate.derivative(
    xs=lambda g, i, xs_ends, axis: g[(slice(None),) * (axis % g.ndim) + (slice(xs_ends[i], xs_ends[i + 1]),)]
)


@op
def stack(*xs: Array, axis: int = 0) -> Array:
    """Join along a new axis; each input gets its slice of g."""
    return np.stack(xs, axis=axis)


stack.derivative(xs=lambda g, i, axis: g[(slice(None),) * (axis % g.ndim) + (i,)])


# --- indexing --------------------------------------------------------------------------------------------------------


def _is_basic(index: Any) -> bool:
    return all(
        i is None or i is Ellipsis or isinstance(i, slice | int | np.integer)
        for i in (index if isinstance(index, tuple) else (index,))
    )


def _add_rows(buffer: Array, ids: Array, rows: Array) -> None:
    """``buffer[ids] += rows`` with repeated ids adding up: rows of one id are summed before they are written."""
    ids, rows = ids.ravel().astype(np.intp) % len(buffer), rows.reshape(ids.size, *buffer.shape[1:])
    order = np.argsort(ids, kind="stable")
    ids = ids[order]
    starts = np.flatnonzero(np.diff(ids, prepend=-1))
    buffer[ids[starts]] += np.add.reduceat(rows[order], starts, axis=0)


@view_op
def getitem(x: Array, *, index: Any) -> Array:
    """``x[index]`` with numpy's indexing; repeated indices add up in the gradient."""
    y: Array = x[index]
    return y


getitem.derivative(x=lambda g, index, x_shape: Part(g, index, x_shape))


@op
def place(*xs: Array, indices: list[Any], shape: tuple[int, ...]) -> Array:
    """Zeros of the shape given with every ``xs[i]`` added at ``indices[i]``: the gradient of indexing, as an op."""
    buffer = np.zeros(shape, xs[0].dtype)
    for g, index in zip(xs, indices, strict=True):
        if _is_basic(index):
            buffer[index] += g
        elif isinstance(index, np.ndarray) and index.dtype.kind in "iu" and index.size:
            _add_rows(buffer, index, g)
        else:
            np.add.at(buffer, index, g)
    return buffer


place.derivative(xs=lambda g, i, indices: g[indices[i]])


for _op, _symbol, _slopes in (
    (add, "{a} + {b}", {"a": "1", "b": "1"}),
    (sub, "{a} - {b}", {"a": "1", "b": "-1"}),
    (mul, "{a} ⊙ {b}", {"a": "{b}", "b": "{a}"}),
    (div, "{a} / {b}", {"a": "1 / {b}", "b": "-{y} / {b}"}),
    (neg, "-{x}", {"x": "-1"}),
    (pow_, "{a}^{b}", {"a": "{b} {a}^({b} - 1)", "b": "{y} ln {a}"}),
    (exp, "exp({x})", {"x": "{y}"}),
    (log, "ln({x})", {"x": "1 / {x}"}),
    (sqrt, "√({x})", {"x": "1 / (2 {y})"}),
    (abs_, "|{x}|", {"x": "sign({x})"}),
    (tanh, "tanh({x})", {"x": "(1 - {y}²)"}),
    (sigmoid, "σ({x})", {"x": "{y} ⊙ (1 - {y})"}),
    (relu, "max(0, {x})", {"x": "[{y} > 0]"}),
    (identity, "{x}", {"x": "1"}),
    (maximum, "max({a}, {b})", {"a": "[{a} > {b}]", "b": "[{b} > {a}]"}),
    (minimum, "min({a}, {b})", {"a": "[{a} < {b}]", "b": "[{b} < {a}]"}),
    (where, "({a} where {condition}, else {b})", {"a": "[{condition}]", "b": "[not {condition}]"}),
    (clip, "clip({x}, {low}, {high})", {"x": "[{low} ≤ {x} ≤ {high}]"}),
    (astype, "{x}", {"x": "1"}),
):
    _op.symbol, _op.slopes = _symbol, _slopes
