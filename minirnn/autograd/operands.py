"""What may stand beside a Tensor in an op, and how operands are brought to one dtype."""

from collections.abc import Sequence
from functools import reduce
from typing import TYPE_CHECKING, Any

import numpy as np

from minirnn.arguments import as_array

if TYPE_CHECKING:
    from minirnn.autograd.tensor import Tensor

_NUMBERS = (int, float)  # bool is an int; numpy gives them the array's dtype by itself


def alike(a: Any, b: Any) -> tuple[Any, Any]:
    """Bring two operands, one a Tensor at least, to one dtype: a Tensor's wins over a number's, a wider one wins.

    Two NotImplemented come back for what cannot be an operand.
    """
    if isinstance(a, Tensor) and isinstance(b, Tensor):
        if a.ndim == 0 < b.ndim and b.dtype.kind == "f":
            return a.astype(b.dtype), b
        if b.ndim == 0 < a.ndim and a.dtype.kind == "f":
            return a, b.astype(a.dtype)
        dtype = common_dtype(a.dtype, b.dtype)
        return a.astype(dtype), b.astype(dtype)
    if isinstance(a, Tensor):
        return _with_constant(a, b)
    b, a = _with_constant(b, a)
    return a, b


def _with_constant(t: "Tensor", c: Any) -> tuple[Any, Any]:
    if isinstance(c, _NUMBERS):
        return t, float(c) if type(c) is np.float64 else c  # np.float64 is a float, but would widen float32
    if isinstance(c, np.ndarray):
        c = np.asarray(c)  # np.matrix has its own idea of a product
        if c.dtype is t._data.dtype:
            return t, c
    elif isinstance(c, list | tuple):
        c = as_array(c if t.dtype.kind == "f" else np.asarray(c), "operand", t.dtype)
    elif not isinstance(c, np.generic):
        return NotImplemented, NotImplemented
    if c.dtype.kind not in "biuf":
        raise TypeError(f"operand must be an array of numbers, got dtype {c.dtype}")
    if c.ndim == 0:
        return t, c.item()  # a number: numpy lets the array's dtype stand
    dtype = c.dtype if t.ndim == 0 and c.dtype.kind == "f" else common_dtype(t.dtype, c.dtype)
    return t.astype(dtype), c.astype(dtype, copy=False)


def common_dtype(a: np.dtype[Any], b: np.dtype[Any]) -> np.dtype[Any]:
    """Numpy's promotion, but that integers and bools never widen a float."""
    if a.kind == "f" != b.kind:
        return a
    if b.kind == "f" != a.kind:
        return b
    return np.result_type(a, b)


def pair(a: Any, b: Any, name: str) -> tuple[Any, Any]:
    """Bring two operands, of which neither need be a Tensor, to one dtype; at least one comes back as a Tensor."""
    if not isinstance(a, Tensor) and not isinstance(b, Tensor):
        if hasattr(b, "__array__") and not hasattr(a, "__array__"):
            b = Tensor(as_array(b, f"{name}: b"))
        else:
            a = Tensor(as_array(a, f"{name}: a"))
    a, b = alike(a, b)
    if a is NotImplemented:
        raise TypeError(f"{name}: both operands must be Tensors, arrays, lists or numbers")
    return a, b


def as_tensor(x: Any) -> "Tensor":
    """Return ``x`` if it is a Tensor, else a constant made of it."""
    return x if isinstance(x, Tensor) else Tensor(x)


def all_alike(tensors: Sequence[Any], name: str) -> "list[Tensor]":
    """Bring what is to be joined to one dtype, as Tensors."""
    if isinstance(tensors, Tensor) or not len(tensors):
        raise TypeError(f"{name}: expected a sequence of Tensors, not empty, got {type(tensors).__name__}")
    dtypes = [t.dtype for t in tensors if hasattr(t, "dtype")]
    dtype = reduce(common_dtype, dtypes) if dtypes else np.dtype(np.float32)
    if dtype.kind != "f" and len(dtypes) < len(tensors):
        dtype = np.dtype(np.float32)  # lists are floats
    return [
        (t if isinstance(t, Tensor) else Tensor(as_array(t, f"{name}: tensors[{i}]", dtype))).astype(dtype)
        for i, t in enumerate(tensors)
    ]


def plain_index(index: Any) -> Any:
    """Return an index without Tensors and lists in it."""
    if isinstance(index, tuple):
        return tuple(plain_index(i) for i in index)
    if isinstance(index, Tensor):
        return index._data
    return np.asarray(index, None if index else int) if isinstance(index, list) else index
