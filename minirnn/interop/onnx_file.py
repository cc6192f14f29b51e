"""Files of ONNX: how much a file may ask for is known before it is parsed, and arrays outside it are in its folder."""

import math
from pathlib import Path
from typing import Any

import numpy as np

from minirnn.arguments import Array
from minirnn.interop.parts import InteropError
from minirnn.storage import as_path, reworded

_STRUCTURE = 200_000
"""How many fields there may be beside the numbers of arrays; a file of torch's has some thousand."""


def numbers(onnx: Any, tensor: Any, folder: Path | None) -> Array:
    """Return the numbers of a tensor, external ones only from a file that lies in the model's own folder."""
    if tensor.data_location != tensor.EXTERNAL:
        return np.asarray(onnx.numpy_helper.to_array(tensor))
    where = {entry.key: entry.value for entry in tensor.external_data}
    path = (folder or Path()) / where["location"]
    if folder is None or path.is_symlink() or path.resolve().parent != folder.resolve():
        raise ValueError(f"it lies elsewhere than the model, in {where['location'][:80]!r}")
    dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type)
    count, offset = math.prod(tensor.dims), int(where.get("offset", 0))
    if min(tensor.dims, default=1) < 0 or offset < 0 or offset + count * dtype.itemsize > path.stat().st_size:
        raise ValueError("it is longer than its file")
    return np.fromfile(path, dtype, count, offset=offset).reshape(tensor.dims)


def parsed(onnx: Any, source: Any) -> tuple[Any, Path | None]:
    """Read and parse a model whose structure is of a bounded size."""
    folder = None
    if not isinstance(source, bytes):
        path = as_path(source, "from_onnx", example="model.onnx")
        try:
            source, folder = path.read_bytes(), path.parent
        except OSError as error:
            raise reworded(error, f"from_onnx: cannot read {str(path)!r}", "check the path") from error
    try:
        if _fields(memoryview(source), 0, len(source), _MODEL) > _STRUCTURE:
            raise ValueError(f"its structure has more than {_STRUCTURE:,} fields")
        return onnx.ModelProto.FromString(source), folder
    except Exception as error:  # protobuf's own kind among them
        raise InteropError(f"from_onnx: this is no ONNX model that can be read: {error}") from error


_TENSOR: dict[int, Any] = {4: None, 7: None, 9: None, 10: None}  # floats, int64s, raw data, doubles: numbers, packed
_TEXTS = dict.fromkeys((1, 2, 3, 4, 6))
_NODE: dict[int, Any] = {**_TEXTS, 5: {1: None, 5: _TENSOR}, 9: _TEXTS}  # names; attributes: t; notes
_MODEL: dict[int, Any] = {7: {1: _NODE, 5: _TENSOR}}  # graph: nodes, initializers


def _fields(data: memoryview, at: int, end: int, tree: dict[int, Any]) -> int:
    """Count the fields of a protobuf message and of those in the tree; of others a field for every two bytes."""
    count = 0

    def varint() -> int:
        nonlocal at
        value = shift = 0
        while True:
            byte = data[at]
            value, shift, at = value | (byte & 127) << shift, shift + 7, at + 1
            if byte < 128 or shift > 63:
                return value

    while at < end and count <= _STRUCTURE:
        key = varint()
        wire, field = key & 7, key >> 3
        if wire == 2:
            length = varint()
            inner = tree.get(field, ())
            if inner == ():
                count += length // 2
            elif inner is not None:
                count += _fields(data, at, min(at + length, end), inner)
            at += length
        elif wire == 0:
            varint()
        else:
            if wire not in (1, 5):
                raise ValueError("it is no protobuf message")
            at += {1: 8, 5: 4}[wire]
        count += 1
    return count
