"""Sums that stay right in their last digits, however many numbers there are: of groups, then of their sums.

numpy adds pairwise only where entries lie side by side, else one after the other: 200,000 rows of 0.1 in float32 come
out wrong in the third digit. A product with ones adds few, of long rows, up to fifty times as fast. Then ln Σ exp.
"""

import math
from typing import Any

import numpy as np
from numpy.lib.array_utils import normalize_axis_tuple

from minirnn.arguments import Array, floats

MOST = 128  # numbers that are added one after the other
_ONES = {kind: np.ones(16 * MOST, kind) for kind in "fd"}


def add_rows(x: Array) -> Any:
    """Sum floats (R, C) over R."""
    ones = _ONES[x.dtype.char]
    while (R := len(x)) > MOST:
        F, rest = divmod(R, MOST)
        sums: Array = ones[:MOST].dot(x[: R - rest].reshape(MOST, -1)).reshape(F, -1)  # F rows as one long row
        if rest:
            sums[0] += ones[:rest].dot(x[R - rest :])
        x = sums
    return ones[:R].dot(x)


def add_side(x: Array) -> Any:
    """Sum floats (C, R), side by side over R; of few BLAS makes sixteen sums and more at once, of more numpy pairs."""
    few = _ONES[x.dtype.char][: x.shape[1]]
    return x.dot(few) if len(few) == x.shape[1] else np.add.reduce(x, 1)


def add_up(x: Array, axis: Any = None, keepdims: bool = False) -> Any:
    """Sum over all axes, or those given, as numpy.sum does, which serves where it adds pairwise, or adds little."""
    little = x.size <= 2 * MOST or (axis == 0 and 2 * len(x) <= MOST)
    if not little and x.dtype.char in "fd" and not ((axis in (None, -1) or x.ndim == 1) and x.flags.c_contiguous):
        if axis == 0 and x.ndim == 2 and x.shape[1] > 1 and x.flags.c_contiguous and not keepdims:  # the quick way
            return add_rows(x)
        axes = normalize_axis_tuple(range(x.ndim) if axis is None else axis, x.ndim)
        order = sorted(range(x.ndim), key=lambda i: -abs(x.strides[i]))  # as they lie in memory
        outer, rest = [i for i in order if i in axes], [i for i in range(x.ndim) if i not in axes]
        width = math.prod(left := [x.shape[i] for i in rest])
        if 2 * x.size > MOST * width and not (x.flags.forc and (width == 1 or order[len(rest) :] == outer)):
            x = add_rows(x.transpose(*outer, *rest).reshape(-1, width)).reshape(left)
            return np.expand_dims(x, axes) if keepdims else x
    return np.add.reduce(x, axis, keepdims=keepdims)  # type: ignore[call-overload]


def peak_of(x: Any, axis: Any) -> Any:
    """Find the largest entry, as a constant; −∞ where there is none."""
    return np.max(np.asarray(x), axis=axis, keepdims=True, initial=-np.inf)


def less(x: Any, peak: Any, axis: Any) -> Any:
    """Return x − peak, which keeps exp from overflowing; 0, not NaN, for the only ∞, beside which all others vanish."""
    if np.isfinite(np.asarray(peak)).all():
        return x - peak
    top = np.asarray(x) == np.inf
    with np.errstate(invalid="ignore"):
        return np.where(top & (top.sum(axis=axis, keepdims=True) == 1), 0, x - peak)


def centred(x: Any, axis: Any) -> Any:
    """Return x, as floats, less its largest entry."""
    x = floats(x)
    return less(x, peak_of(x, axis), axis)


def log_total(z: Array, axis: Any) -> Any:
    """Compute ln Σ exp(z), with axes of length 1; −∞ of nothing, or of nothing but −∞."""
    with np.errstate(divide="ignore"):
        return np.log(add_up(np.exp(z), axis, True))
