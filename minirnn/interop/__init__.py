"""Weights and models in and out of other libraries, whose own code is never imported: plain dicts, arrays and files.

A layer that was trained anywhere can be looked into here, and what was trained here runs anywhere. What has no equal on
the other side is refused by name, an `InteropError`; every importer returns a model with ``model.report``.
"""

from minirnn.interop.of_jax import from_equinox, from_flax, to_equinox, to_flax
from minirnn.interop.of_keras import from_keras, to_keras
from minirnn.interop.of_torch import from_torch, to_torch
from minirnn.interop.onnx_read import from_onnx
from minirnn.interop.onnx_write import to_onnx
from minirnn.interop.parts import InteropError, Report
from minirnn.interop.tensors import load_safetensors, save_safetensors

__all__ = [
    "InteropError",
    "Report",
    "from_equinox",
    "from_flax",
    "from_keras",
    "from_onnx",
    "from_torch",
    "load_safetensors",
    "save_safetensors",
    "to_equinox",
    "to_flax",
    "to_keras",
    "to_onnx",
    "to_torch",
]
