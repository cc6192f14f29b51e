"""Keras's files: a zip of a description and arrays, or arrays alone. Nothing is unpacked, nor followed elsewhere."""

import io
import json
import re
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from minirnn.arguments import Array
from minirnn.interop.parts import MOST_ARRAYS, InteropError, package
from minirnn.storage import reworded, write_whole

_MOST_OF_CONFIG = 2**22
_DEEPEST = 12


def read_keras(path: Path, caller: str) -> tuple[dict[str, Array], Any]:
    """Return the arrays and the description of a .keras file."""
    try:
        with open(path, "rb") as file, zipfile.ZipFile(file) as archive:
            members = archive.infolist()
            names = [member.filename for member in members]
            if len(set(names)) != len(names) or any(".." in name or name.startswith("/") for name in names):
                raise ValueError("its members have names that no file of Keras's has")
            if sum(member.file_size for member in members) > path.stat().st_size:
                raise ValueError("it claims to hold more than its own size")
            if archive.getinfo("config.json").file_size > _MOST_OF_CONFIG:
                raise ValueError("its config.json is too large")
            config = json.loads(archive.read("config.json"))
            if not isinstance(config, dict) or not isinstance(config.get("config"), dict):
                raise ValueError("its config.json describes no model")
            data = archive.read("model.weights.h5")
    except OSError as error:
        raise reworded(error, f"{caller}: cannot read {str(path)!r}", "check the path") from error
    except Exception as error:  # a zip and a JSON may be damaged in many ways
        raise InteropError(f"{caller}: {str(path)!r} is no .keras file that can be read: {error}") from error
    return _arrays(io.BytesIO(data), len(data), str(path), caller)[0], config


def read_h5(path: Path, caller: str) -> tuple[dict[str, Array], list[str]]:
    """Return the arrays of a .weights.h5 file, and the names of its layers, those without arrays too."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise reworded(error, f"{caller}: cannot read {str(path)!r}", "check the path") from error
    return _arrays(io.BytesIO(data), len(data), str(path), caller)


def _arrays(stream: io.BytesIO, size: int, path: str, caller: str) -> tuple[dict[str, Array], list[str]]:
    """Collect every array by its path, and the layers' names; links, and storage and sources elsewhere are refused."""
    h5py = package("h5py", "keras", caller)
    found, layers = dict[str, Array](), list[str]()
    seen = total = 0

    def walk(group: Any, prefix: str, depth: int) -> None:
        nonlocal seen, total
        for name in group:
            seen += 1
            where = f"{prefix}{name}"
            if seen > MOST_ARRAYS or depth > _DEEPEST:
                raise ValueError(f"it holds more than {MOST_ARRAYS:,} entries, or in more than {_DEEPEST} levels")
            if not isinstance(group.get(name, getlink=True), h5py.HardLink):
                raise ValueError(f"{where!r} is a link to elsewhere")
            item = group[name]
            if isinstance(item, h5py.Group):
                layers.extend([name] * (prefix == "layers/"))
                walk(item, f"{where}/", depth + 1)
                continue
            if not isinstance(item, h5py.Dataset) or item.external or item.is_virtual:
                raise ValueError(f"{where!r} is no array of this file's own")
            total += item.size * item.dtype.itemsize
            if item.dtype.kind not in "fiu" or total > size:
                raise ValueError(f"{where!r}, {item.dtype} {item.shape}, is more than the file holds, or no numbers")
            found[where] = np.asarray(item[()])

    try:
        with h5py.File(stream, "r") as file:
            walk(file, "", 0)
    except Exception as error:  # h5py raises what it likes
        raise InteropError(f"{caller}: {path!r} cannot be read: {error}") from error
    return found, layers


def write_h5(layers: Iterable[tuple[str, list[Array]]], path: Path, caller: str) -> Path:
    """Write the layers of a Sequential as a .weights.h5, which its ``load_weights`` takes; return the path."""
    stream, counts = io.BytesIO(), dict[str, int]()
    with package("h5py", "keras", caller).File(stream, "w") as file:
        for kind, arrays in layers:
            n = counts[kind] = counts.get(kind, -1) + 1
            top = f"layers/{snake(kind)}" + f"_{n}" * (n > 0)
            file.create_group(f"{top}/vars")
            places = {
                "Bidirectional": ["forward_layer/cell/", "backward_layer/cell/"],
                "Dense": [""],
                "Embedding": [""],
            }
            inner = places.get(kind, ["cell/"])
            for k, array in enumerate(arrays):
                way, i = divmod(k, len(arrays) // len(inner))
                file[f"{top}/{inner[way]}vars/{i}"] = array
    return write_whole(path, stream.getvalue(), caller)


def snake(kind: str) -> str:
    """Return a class's name as the groups of Keras's files have it."""
    return re.sub("([a-z])([A-Z])", r"\1_\2", re.sub("(.)([A-Z][a-z]+)", r"\1_\2", kind)).lower()
