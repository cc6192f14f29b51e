"""Weights in and out of safetensors files."""

import json
import struct
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import numpy as np

from minirnn.arguments import Array
from minirnn.interop.describing import build_model, describe_model, fill
from minirnn.interop.of_torch import from_torch
from minirnn.interop.parts import Arrays, InteropError, Report, package
from minirnn.layers.module import Module
from minirnn.storage import as_path, reworded, write_whole

KEY = "minirnn"
_MOST_OF_HEADER = 2**22
_DTYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2", "I64": "<i8", "I32": "<i4"}
_DTYPES |= {"I16": "<i2", "I8": "i1", "U64": "<u8", "U32": "<u4", "U16": "<u2", "U8": "u1", "BOOL": "?"}  # left aside


def save_safetensors(model: Module, path: Any, metadata: dict[str, str] | None = None) -> Any:
    """Write a model's Parameters by their own names, and what the model is made of beside them; return the path.

    Parameters
    ----------
    model : Module
        Of one that is not made of minirnn's own layers alone, the arrays are written without a description.
    path : str or path
    metadata : dict of str, optional
        Written as it is; the key ``"minirnn"`` is taken.

    >>> import os, tempfile, minirnn as mr
    >>> path = os.path.join(tempfile.mkdtemp(), "layer.safetensors")
    >>> _ = save_safetensors(mr.GRULayer(2, 3), path)  # doctest: +SKIP
    >>> load_safetensors(path).report.mapped["b_hn"]  # doctest: +SKIP
    'b_hn'
    """
    caller = "save_safetensors"
    if not isinstance(model, Module):
        raise TypeError(f"{caller}: model must be a Module, got {type(model).__name__}")
    given = dict(metadata or {})
    if KEY in given or not all(type(text) is str for pair in given.items() for text in pair):
        raise TypeError(f"{caller}: metadata must be a dict of str to str without {KEY!r}, got {given!r}")
    given[KEY] = (
        "null"  # what has no description can be loaded into such a model all the same, and has no torch's names
    )
    with suppress(InteropError):
        given[KEY] = json.dumps(describe_model(model, caller))
    return write_tensors({name: p.data for name, p in model.named_parameters()}, path, given, caller)


def write_tensors(arrays: Mapping[str, Array], path: Any, metadata: dict[str, str], caller: str) -> Any:
    """Write arrays, contiguous ones: others would be scrambled in silence."""
    contiguous = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    data = package("safetensors.numpy", "safetensors", caller).save(contiguous, metadata=metadata)
    return write_whole(as_path(path, caller, example="model.safetensors"), data, caller)


def load_safetensors(path: Any, model: Module | None = None, **options: Any) -> Any:
    """Read a model from a safetensors file.

    Parameters
    ----------
    path : str or path
    model : Module, optional
        What the arrays are loaded into, by the names of its Parameters. Without it the model is built as the file
        describes it, if `save_safetensors` wrote it; any other file is read as torch's names.
    **options
        Of `from_torch`, for such a file.

    Returns
    -------
    Module
        The model, with ``model.report``.

    Raises
    ------
    InteropError
        For a file that is damaged or holds something else; nothing has been loaded then.
    """
    caller = "load_safetensors"
    found, metadata = read_safetensors(path, caller)
    if model is None and KEY not in metadata:
        return from_torch(found, **options)
    if options:
        raise TypeError(f"{caller}: {', '.join(options)} would do nothing: this file is not read as torch's names")
    if model is None:
        try:
            description = json.loads(metadata[KEY])
        except (ValueError, RecursionError) as error:
            raise InteropError(f"{caller}: its description of the model is none ({error})") from error
        if description is None:
            raise InteropError(f"{caller}: it was saved of a model that is not minirnn's own alone: pass one as model=")
        model = build_model(description, sum(array.size for array in found.values()), caller)
    return fill(model, Arrays(found, caller, Report()))


def read_safetensors(path: Any, caller: str) -> tuple[dict[str, Any], dict[str, str]]:
    """Return the arrays and the metadata of a file."""
    safetensors = package("safetensors", "safetensors", caller)
    path = as_path(path, caller, example="model.safetensors")
    try:
        with open(path, "rb") as file:
            head = file.read(8)
            size = struct.unpack("<Q", head)[0] if len(head) == 8 else 0
            if not 2 <= size <= _MOST_OF_HEADER:
                raise InteropError(f"{caller}: {str(path)!r} is no safetensors file: its header is of {size:,} bytes")
            data = head + file.read()
    except OSError as error:
        raise reworded(error, f"{caller}: cannot read {str(path)!r}", "check the path") from error
    try:
        found = {name: _array(tensor) for name, tensor in safetensors.deserialize(data)}
        metadata = json.loads(data[8 : 8 + size]).get("__metadata__") or {}
    except Exception as error:  # the package's own kind among them
        raise InteropError(f"{caller}: {str(path)!r} cannot be read: {error}") from error
    return found, metadata


def _array(tensor: dict[str, Any]) -> Any:
    kind = tensor["dtype"]
    if kind not in _DTYPES:
        raise ValueError(f"it holds {kind}, and floats are expected")
    array = np.frombuffer(tensor["data"], _DTYPES[kind])
    array = array.reshape(tensor["shape"])
    return _Bfloat16(array) if kind == "BF16" else array


class _Bfloat16:
    """The bits of an array of bfloat16, which numpy has not. Where it is asked for, float32, which holds it exactly."""

    dtype = "bfloat16"

    def __init__(self, bits: Array) -> None:
        self.bits, self.shape, self.size = bits, bits.shape, bits.size

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        return (self.bits.astype(np.uint32) << 16).view(np.float32)
