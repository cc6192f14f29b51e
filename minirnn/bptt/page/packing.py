"""How arrays travel in the page: as base64 of their bytes, so that NaN and inf need no words in JSON."""

import base64
from typing import Any

import numpy as np

from minirnn.arguments import Array

NOT_FINITE = -128
"""The code of what is NaN or inf among `rounded` values."""


def exact(a: Any) -> dict[str, Any]:
    """Return an array as little-endian float64: what the page shows are the trace's digits."""
    return _packed(np.asarray(a, "<f8"), "f8")


def flags(a: Any) -> dict[str, Any]:
    """Return an array of bool, one byte each."""
    return _packed(np.asarray(a, "u1"), "u1")


def rounded(a: Array) -> dict[str, Any]:
    """Return an array rounded to 8 bits: code · scale, with a scale of its own for each row of the last axis.

    A value is then off by at most 1/254 of the largest of its row; `NOT_FINITE` stands for NaN and inf.
    """
    finite = np.isfinite(a)
    known = np.where(finite, a, 0).astype(np.float64)
    scale = np.abs(known).max(axis=-1, initial=0) / 127
    codes = np.divide(known, scale[..., None], out=np.zeros_like(known), where=scale[..., None] > 0)
    coded = np.where(finite, np.rint(codes).clip(-127, 127), NOT_FINITE).astype("i1")
    return _packed(coded, "i1") | {"scale": exact(scale)}


def _packed(a: Array, kind: str) -> dict[str, Any]:
    data = base64.b64encode(np.ascontiguousarray(a).tobytes()).decode("ascii")
    return {"type": kind, "shape": list(a.shape), "data": data}
