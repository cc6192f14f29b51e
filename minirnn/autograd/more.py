"""More of what people type, beside the core: functions of numpy's and torch's names, each an op or made of ops.

What needs a rule of its own has it here; the others are written in ops that have one, so that second order follows.
"""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.lib.array_utils import normalize_axis_index, normalize_axis_tuple

from minirnn.arguments import Array, as_number, floats, one_of
from minirnn.autograd import shapes
from minirnn.autograd.functions import (
    FUNCTIONS,
    UFUNCS,
    _all_alike,
    _pair,
    _tensor,
    concatenate,
    mean,
    reshape,
    sigmoid,
    sum,
    transpose,
    where,
)
from minirnn.autograd.op import Axis, op
from minirnn.autograd.record import apply, unary, wrap
from minirnn.autograd.shapes import sum_to

if TYPE_CHECKING:
    from minirnn.autograd.tensor import Tensor

# --- ops -------------------------------------------------------------------------------------------------------------


@op(x=lambda g, x: g * (2.0 * x), symbol="{x}²", slopes={"x": "2 {x}"}, ufunc=np.square)
def square_(x: Array) -> Array:
    """Square each entry; derivative 2x."""
    return x * x


@op(x=lambda g, x: g * np.cos(x), symbol="sin({x})", slopes={"x": "cos({x})"}, ufunc=np.sin)
def sin_(x: Array) -> Any:
    """Take the sine of each entry; derivative cos x."""
    return np.sin(floats(x))


@op(x=lambda g, x: -g * np.sin(x), symbol="cos({x})", slopes={"x": "-sin({x})"}, ufunc=np.cos)
def cos_(x: Array) -> Any:
    """Take the cosine of each entry; derivative −sin x."""
    return np.cos(floats(x))


@op(x=lambda g, x: g / (1.0 + x), symbol="ln(1 + {x})", slopes={"x": "1 / (1 + {x})"}, ufunc=np.log1p)
def log1p_(x: Array) -> Any:
    """Compute ln(1 + x) without loss near 0; derivative 1/(1 + x)."""
    return np.log1p(floats(x))


@op(x=lambda g, y: g * (y + 1.0), symbol="(exp({x}) - 1)", slopes={"x": "({y} + 1)"}, ufunc=np.expm1)
def expm1_(x: Array) -> Any:
    """Compute eˣ − 1 without loss near 0; derivative y + 1."""
    return np.expm1(floats(x))


@op(x=lambda g, x: g * (np.exp(-0.5 * (x * x)) / math.sqrt(2 * math.pi)), symbol="Φ({x})", slopes={"x": "φ({x})"})
def normal_cdf(x: Array) -> Any:
    """Compute Φ(x) = ½ erfc(−x/√2), the share of a normal distribution below x; derivative its density."""
    return np.asarray(0.5 * _erfc(x / -math.sqrt(2))).astype(floats(x).dtype)


_erfc = np.vectorize(math.erfc, otypes=[float])


@op(x=lambda g, y: g * (0.5 / (y + (y == 0))) * (y != 0), symbol="√({x})", slopes={"x": "1 / (2 {y})"})
def root(x: Array) -> Array:
    """Take the square root of a sum of squares; derivative 1/(2y), and 0 at 0, where a length has none."""
    return np.sqrt(x)


@op(
    a=lambda g, a_shape: sum_to(g, a_shape),
    b=lambda g, a, b, b_shape: sum_to(-g * (np.asarray(a) // np.asarray(b)).astype(g.dtype), b_shape),
    symbol="({a} mod {b})",
    slopes={"a": "1", "b": "-⌊{a} / {b}⌋"},
    ufunc=np.remainder,
)
def remainder(a: Array, b: Array) -> Array:
    """Take a − ⌊a/b⌋·b, entry by entry; ∂/∂a = g, ∂/∂b = −g·⌊a/b⌋."""
    return a % b


@op(x=lambda g, axis: np.flip(np.cumsum(np.flip(g, axis), axis), axis))
def cumsum_(x: Array, *, axis: int) -> Array:
    """Sum all entries up to each along an axis; an entry gets the sum of g from there on."""
    return np.cumsum(x, axis)


def _normalise_x(g: Any, x: Any, y: Any, eps: float) -> Any:
    centred = x - x.mean(axis=-1, keepdims=True)
    scale = ((centred * centred).mean(axis=-1, keepdims=True) + eps) ** -0.5
    return scale * (g - g.mean(axis=-1, keepdims=True) - y * (g * y).mean(axis=-1, keepdims=True))


@op(x=_normalise_x)
def normalise(x: Array, *, eps: float) -> Any:
    """Compute (x − μ) / √(σ² + ε) along the last axis; derivative (g − mean g − y·mean(g·y)) / √(σ² + ε)."""
    centred = x - x.mean(axis=-1, keepdims=True)
    return centred / np.sqrt((centred * centred).mean(axis=-1, keepdims=True) + eps)


UFUNCS.update((of.ufunc, of) for of in (square_, sin_, cos_, log1p_, expm1_, remainder))


def _made(tensor: "Tensor") -> "Tensor":
    """Say to who checks types what operators give."""
    return tensor


# --- entry by entry --------------------------------------------------------------------------------------------------


def square(x: Any) -> "Tensor":
    """Square each entry."""
    return unary(square_, x)


def sin(x: Any) -> "Tensor":
    """Take the sine of each entry."""
    return unary(sin_, x)


def cos(x: Any) -> "Tensor":
    """Take the cosine of each entry."""
    return unary(cos_, x)


def log1p(x: Any) -> "Tensor":
    """Compute ln(1 + x) for each entry, without loss near 0."""
    return unary(log1p_, x)


def expm1(x: Any) -> "Tensor":
    """Compute eˣ − 1 for each entry, without loss near 0."""
    return unary(expm1_, x)


def round(x: Any, decimals: int = 0) -> "Tensor":
    """Round each entry to so many decimals: a constant, since the derivative is 0."""
    return wrap(np.round(_tensor(x, "round: x").numpy(), decimals))


def floor_divide(a: Any, b: Any) -> "Tensor":
    """Divide and round down, entry by entry: a constant, since the derivative is 0."""
    a, b = (getattr(t, "data", t) for t in _pair(a, b, "floor_divide"))
    return wrap(a // b)


def leaky_relu(x: Any, slope: float = 0.01) -> "Tensor":
    """Compute x where x > 0, else slope·x (Maas et al. 2013), for each entry."""
    t, slope = _tensor(x, "leaky_relu: x"), as_number(slope, "leaky_relu: slope")
    return where(t > 0, t, slope * t)


def elu(x: Any, alpha: float = 1.0) -> "Tensor":
    """Compute x where x > 0, else α(eˣ − 1) (Clevert et al. 2016), for each entry."""
    t, alpha = _tensor(x, "elu: x"), as_number(alpha, "elu: alpha")
    return where(t > 0, t, alpha * expm1(where(t > 0, 0.0, t)))  # minimum(t, 0) would share the gradient at 0


def silu(x: Any) -> "Tensor":
    """Compute x·σ(x) (Elfwing et al. 2018), also called swish, for each entry."""
    t: Tensor = _tensor(x, "silu: x")
    return _made(t * sigmoid(t))


def gelu(x: Any, approximate: str = "none") -> "Tensor":
    """Compute x·Φ(x) (Hendrycks, Gimpel 2016), Φ the normal distribution's, for each entry.

    ``approximate="tanh"`` is their ½x(1 + tanh(√(2/π)(x + 0.044715 x³))), off by up to 5e-4 and several times as fast.
    """
    t: Tensor = _tensor(x, "gelu: x")
    if one_of(approximate, ("none", "tanh"), "gelu: approximate") == "none":
        share = unary(normal_cdf, t)
    else:
        share = sigmoid(math.sqrt(8 / math.pi) * (t + 0.044715 * (t * t * t)))  # σ(2u) = ½(1 + tanh u)
    return _made(t * share)


def _axes(axis: Axis, x: "Tensor", name: str) -> Sequence[int]:
    return range(x.ndim) if axis is None else normalize_axis_tuple(axis, x.ndim, name)


# --- reductions ------------------------------------------------------------------------------------------------------


def var(x: Any, axis: Axis = None, keepdims: bool = False, ddof: int = 0) -> "Tensor":
    """Compute the variance Σ (x − mean)² / (n − ddof) over all axes, or those given; torch's default is ddof=1."""
    x = _tensor(x, "var: x")
    n = math.prod(x.shape[a] for a in _axes(axis, x, "var"))
    if n <= ddof:
        raise ValueError(f"var: x must have more than ddof={ddof} entries along axis {axis}, got {n}")
    return _made(sum(square(x - mean(x, axis, keepdims=True)), axis, keepdims) / (n - ddof))


def std(x: Any, axis: Axis = None, keepdims: bool = False, ddof: int = 0) -> "Tensor":
    """Compute the standard deviation, the root of `var`; where it is 0 its gradient is too."""
    return unary(root, var(x, axis, keepdims, ddof))


def norm(x: Any, axis: Axis = None, keepdims: bool = False) -> "Tensor":
    """Compute the length √(Σ x²) over all axes, or those given; where it is 0 its gradient is too."""
    return unary(root, sum(square(x), axis, keepdims))


def prod(x: Any, axis: Axis = None, keepdims: bool = False) -> "Tensor":
    """Multiply over all axes, or those given."""
    x = _tensor(x, "prod: x")
    axes = sorted(_axes(axis, x, "prod"))
    kept = tuple(1 if a in axes else n for a, n in enumerate(x.shape))
    y = moveaxis(x, axes, range(len(axes))).reshape(-1, *(n for a, n in enumerate(x.shape) if a not in axes))
    while (n := len(y)) > 1:  # halves, so that the gradient is right where entries are 0, too
        half = y[: n // 2] * y[n // 2 : n // 2 * 2]
        y = concatenate([half, y[-1:]]) if n % 2 else half
    y = y[0] if n else _tensor(np.ones(y.shape[1:], x.dtype), "prod")
    return y.reshape(kept) if keepdims else y


def cumsum(x: Any, axis: int | None = None) -> "Tensor":
    """Sum all entries up to each along an axis; of the flattened Tensor if it is left out."""
    x = _tensor(x, "cumsum: x")
    return unary(cumsum_, x.reshape(-1), axis=0) if axis is None else unary(cumsum_, x, axis=axis)


def argmax(x: Any, axis: int | None = None, keepdims: bool = False) -> Any:
    """Find where the largest entry is: an array of ints, or one, not differentiable."""
    return np.argmax(_tensor(x, "argmax: x").numpy(), axis, keepdims=keepdims)


def argmin(x: Any, axis: int | None = None, keepdims: bool = False) -> Any:
    """Find where the smallest entry is: an array of ints, or one, not differentiable."""
    return np.argmin(_tensor(x, "argmin: x").numpy(), axis, keepdims=keepdims)


# --- shapes ----------------------------------------------------------------------------------------------------------


def flatten(x: Any) -> "Tensor":
    """Return the same entries with one axis."""
    return reshape(x, -1)


ravel = flatten


def moveaxis(x: Any, source: int | Sequence[int], destination: int | Sequence[int]) -> "Tensor":
    """Move axes to other places, the others staying in order."""
    x = _tensor(x, "moveaxis: x")
    return transpose(x, np.moveaxis(np.empty(tuple(range(x.ndim))), source, destination).shape)


def vstack(tensors: Sequence[Any]) -> "Tensor":
    """Join along the first axis; what has one axis is a row."""
    return concatenate([t if t.ndim > 1 else reshape(t, (1, t.size)) for t in _all_alike(tensors, "vstack")])


def hstack(tensors: Sequence[Any]) -> "Tensor":
    """Join along the second axis, or the only one."""
    joined = [reshape(t, 1) if t.ndim == 0 else t for t in _all_alike(tensors, "hstack")]
    return concatenate(joined, axis=0 if joined[0].ndim == 1 else 1)


def take(x: Any, indices: Any, axis: int | None = None) -> "Tensor":
    """Take entries by their indices along an axis; of the flattened Tensor if it is left out."""
    t = _tensor(x, "take: x")
    if axis is None:
        return flatten(t)[indices]
    return t[(*(slice(None),) * normalize_axis_index(axis, t.ndim, "take"), indices)]


def repeat(x: Any, repeats: Any, axis: int | None = None) -> "Tensor":
    """Repeat each entry, so often or each as often as said, along an axis; of the flattened Tensor if left out."""
    x = flatten(x) if axis is None else _tensor(x, "repeat: x")
    axis = axis or 0
    return take(x, np.repeat(np.arange(x.shape[axis]), repeats), axis)


def tile(x: Any, reps: int | Sequence[int]) -> "Tensor":
    """Repeat the whole Tensor so often along each axis, as `numpy.tile` does."""
    x, reps = _tensor(x, "tile: x"), tuple(np.atleast_1d(np.asarray(reps)).tolist())
    ndim = max(len(reps), x.ndim)
    shape, times = ((1,) * (ndim - len(s)) + tuple(s) for s in (x.shape, reps))
    pairs = [n for r, s in zip(times, shape, strict=True) for n in (r, s)]
    spread = reshape(x, [n for s in shape for n in (1, s)]).broadcast_to(pairs)
    return reshape(spread, [r * s for r, s in zip(times, shape, strict=True)])


def pad(x: Any, pad_width: Any, value: float = 0.0) -> "Tensor":
    """Put a border of constants around: ``pad_width`` is a number, (before, after), or such a pair for each axis."""
    x, value = _tensor(x, "pad: x"), as_number(value, "pad: value", "a number")
    try:
        widths = np.broadcast_to(np.asarray(pad_width), (x.ndim, 2))
    except ValueError:
        widths = np.full((1, 2), -1)
    if widths.dtype.kind not in "iu" or (widths < 0).any():
        raise ValueError(
            f"pad: pad_width must be ints ≥ 0, one, (before, after), or such a pair for each of {x.ndim} axes, got "
            f"{pad_width!r}"
        )
    inner = tuple(slice(int(before), int(before) + n) for (before, _), n in zip(widths, x.shape, strict=True))
    shape = tuple(int(n + before + after) for (before, after), n in zip(widths, x.shape, strict=True))
    padded = apply(shapes.scatter_add, x, indices=[inner], shape=shape)
    if not value:
        return padded
    border = np.full(shape, value, x.dtype)
    border[inner] = 0
    return padded + border


__all__ = [n for n, f in globals().items() if getattr(f, "__module__", "") == __name__ and n[0] != "_" and n[-1] != "_"]

# --- numpy's functions of these names lead here ----------------------------------------------------------------------


def _numpy_pad(x: Any, pad_width: Any, mode: str = "constant", constant_values: float = 0.0) -> "Tensor":
    one_of(mode, ("constant",), "pad: mode")
    return pad(x, pad_width, constant_values)


def _numpy_norm(x: Any, ord: Any = None, axis: Axis = None, keepdims: bool = False) -> "Tensor":
    if ord is not None:
        raise ValueError(f"norm: ord must be None, √(Σ x²), got {ord!r}: try mr.abs(x).sum() or .max()")
    return norm(x, axis, keepdims)


FUNCTIONS.update({n: globals()[n] for n in __all__ if not isinstance(getattr(np, n, np.add), np.ufunc)})
FUNCTIONS.update(pad=_numpy_pad, norm=_numpy_norm, around=round)
