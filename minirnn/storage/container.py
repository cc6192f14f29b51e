"""The file format: an ``.npz`` that any numpy can read, sealed with a checksum over all of it.

A file is a zip of stored (uncompressed) members: ``minirnn.json``, which says format, version, kind and content, then
one ``.npy`` for each array. The zip's comment ends with the SHA-256 of every byte before the digest itself. So a file
that was cut short, added to, or changed in any bit is known before a single field of it is believed. Others can make a
good seal too: so sizes are checked before memory is taken, nothing is unpickled, and no name in it is ever looked up.
"""

import hashlib
import io
import json
import math
import os
import pathlib
import zipfile
from collections.abc import Iterable, Mapping
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from minirnn.arguments import Array, describe
from minirnn.storage.writing import reworded, write_whole

FORMAT, VERSION = "minirnn", 1
HEADER = "minirnn.json"
MARK = b"minirnn sha256 "
SEAL = len(MARK) + 64
KINDS = ("checkpoint", "weights")
PARAMETERS = "parameters/"
"""What the names of a model's Parameters start with, in a file of either kind."""


class CheckpointError(ValueError):
    """A file is no checkpoint that can be used: damaged, foreign, from the future, or not of this model.

    Nothing has been changed or run. A file that cannot be opened or written at all is an OSError instead.
    """


class Contents(NamedTuple):
    """What a file holds."""

    path: pathlib.Path
    kind: str  # one of KINDS
    version: int
    content: dict[str, Any]  # the JSON
    arrays: dict[str, Array]  # by name

    @property
    def parameters(self) -> dict[str, Array]:
        """The values of the model's Parameters, by the names that they have in the model."""
        return {name.removeprefix(PARAMETERS): a for name, a in self.arrays.items() if name.startswith(PARAMETERS)}


# --- writing ----------------------------------------------------------------------------------------------------------


def write(path: Any, kind: str, content: dict[str, Any], arrays: Mapping[str, Array], caller: str) -> pathlib.Path:
    """Write a file whole or not at all; the same contents give the same bytes."""
    header = {"format": FORMAT, "version": VERSION, "kind": kind, "content": content}
    data = seal(header, [(f"{name}.npy", _npy(array)) for name, array in arrays.items()])
    return write_whole(as_path(path, caller), data, caller)


def seal(header: Any, members: Iterable[tuple[str, bytes]]) -> bytes:
    """Return a file of a header and members, with its checksum."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr(zipfile.ZipInfo(HEADER), json.dumps(header))  # ZipInfo has no clock: 1 January 1980
        for name, data in members:
            archive.writestr(zipfile.ZipInfo(name), data)
        archive.comment = MARK + b"0" * 64  # of the right length; the digest is of what comes before it
    data = buffer.getvalue()[:-64]
    return data + hashlib.sha256(data).hexdigest().encode()


def _npy(array: Array) -> bytes:
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, np.asarray(array, order="C"), allow_pickle=False)
    return buffer.getvalue()


def as_path(path: Any, caller: str) -> pathlib.Path:
    """Check a file's path; TypeError for anything but a str or a path."""
    if not isinstance(path, str | os.PathLike) or not os.fspath(path):
        raise TypeError(f"{caller}: path must be a file's path, got {describe(path)}: try 'model.npz'")
    return pathlib.Path(path)


# --- reading ----------------------------------------------------------------------------------------------------------


def read(path: Any, caller: str) -> Contents:
    """Read a file after its checksum has been checked.

    CheckpointError if it is not what `write` made of it, or a later version; OSError if it cannot be read.
    """
    path = as_path(path, caller)
    try:
        with open(path, "rb") as file:
            fault = _unsealed(file)
            file.seek(0)
            data = b"" if fault else file.read()
    except OSError as error:
        raise reworded(error, f"{caller}: cannot read {str(path)!r}", "check the path") from error
    if not fault and hashlib.sha256(memoryview(data)[:-64]).hexdigest().encode() != data[-64:]:
        fault = "is damaged: its checksum is not that of its contents. Use an earlier checkpoint, or a copy"
    if fault:
        raise CheckpointError(f"{caller}: {str(path)!r} {fault}")
    try:
        return _parsed(path, data)
    except _Refused as error:
        raise CheckpointError(f"{caller}: {str(path)!r} {error}") from None
    except Exception as error:  # a good seal on anything at all: the zip, .npy and JSON readers raise what they like
        hint = "Load only files that minirnn wrote"
        fault = f"has minirnn's seal, but was not made by it ({type(error).__name__}: {error}). {hint}"
        raise CheckpointError(f"{caller}: {str(path)!r} {fault}") from error


class _Refused(Exception):
    """What is wrong with a file whose checksum is good."""


def _unsealed(file: BinaryIO) -> str:
    """Say what a file without a seal at its end looks like; nothing if it has one."""
    head = file.read(64)
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - SEAL))
    if file.read(len(MARK)) == MARK:
        return ""
    if not size:
        return "is empty. Use an earlier checkpoint, or a copy"
    if HEADER.encode() in head:
        return "is damaged: its end is missing or was added to. Use an earlier checkpoint, or a copy"
    if head.startswith(b"\x80"):
        return "is a pickle, which is never loaded: loading one can run any program. Save it with module.save(path)"
    if head.startswith((b"PK", b"\x93NUMPY")):
        return "was written by another program: numpy.load reads it, then try module.load_state_dict(arrays)"
    return "is no file of minirnn's: give one that save_checkpoint or module.save wrote"


def _parsed(path: pathlib.Path, data: bytes) -> Contents:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = archive.infolist()
        _check_sizes(members, len(data))
        header = json.loads(archive.read(HEADER))
        _check_header(header)
        arrays = {m.filename[:-4]: _array(archive.read(m)) for m in members if m.filename != HEADER}
    return Contents(path, header["kind"], header["version"], header["content"], arrays)


def _check_sizes(members: list[zipfile.ZipInfo], size: int) -> None:
    """Refuse, before anything is unpacked, members that would be more than the file itself.

    One that is compressed may hide its size; those that overlap hold the same bytes many times.
    """
    if any(m.compress_type != zipfile.ZIP_STORED for m in members) or sum(m.file_size for m in members) > size:
        raise _Refused("claims to hold more than its own size. Load only files that minirnn wrote")
    if len({m.filename for m in members}) != len(members):
        raise _Refused("holds two members of one name. Load only files that minirnn wrote")


def _check_header(header: Any) -> None:
    if header["format"] != FORMAT:
        raise _Refused(f"is of the format {describe(header['format'])}. Load only files that minirnn wrote")
    version = header["version"]
    if type(version) is not int or version < 1:
        raise _Refused(f"has the version {describe(version)}. Load only files that minirnn wrote")
    if version > VERSION:
        raise _Refused(f"is of version {version}, and this minirnn reads up to {VERSION}: get a newer minirnn")
    if header["kind"] not in KINDS or not isinstance(header["content"], dict):
        raise _Refused(f"is of the kind {describe(header['kind'])}. Load only files that minirnn wrote")


def _array(data: bytes) -> Array:
    """Return the array of an ``.npy``, whose header is bounded by numpy and evaluated as a literal only."""
    stream = io.BytesIO(data)
    if np.lib.format.read_magic(stream) != (1, 0):
        raise ValueError("an array of another version")
    shape, fortran, dtype = np.lib.format.read_array_header_1_0(stream)
    at = stream.tell()
    if dtype.kind not in "biuf" or fortran:
        raise ValueError(f"an array of dtype {dtype}")
    if math.prod(shape) * dtype.itemsize != len(data) - at:
        raise ValueError(f"an array of shape {shape} in {len(data) - at} bytes")
    return np.ndarray(shape, dtype, data, at).copy()
