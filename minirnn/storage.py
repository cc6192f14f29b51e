"""Files of named arrays and JSON: written whole or not at all, and read without trust.

A file is a zip of stored (uncompressed) members, an ``.npz`` that any numpy can read: ``minirnn.json``, which says
format, version, kind and content, then one ``.npy`` for each array. The zip's comment ends with the SHA-256 of every
byte before the digest itself. So a file that was cut short, added to, or changed in any bit is known before a single
field of it is believed. Others can make a good seal too: so sizes are checked before memory is taken, nothing is
unpickled, and no name in it is ever looked up.
"""

import contextlib
import hashlib
import io
import json
import math
import os
import pathlib
import threading
import zipfile
from collections.abc import Mapping
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from minirnn.arguments import Array, describe

FORMAT, VERSION = "minirnn", 1
HEADER = "minirnn.json"
MARK = b"minirnn sha256 "
SEAL = len(MARK) + 64
KINDS = ("checkpoint", "weights")
PARAMETERS = "parameters/"
"""What the names of a model's Parameters start with, in a file of either kind."""

_ARRAY = "array:"
"""A dict {_ARRAY: name} in the JSON stands for the array of that name."""
_TRUST = "Load only files that minirnn wrote"


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


# --- trees: what goes into the JSON, and what beside it ---------------------------------------------------------------


def pack(tree: Any, argument: str, prefix: str, *, arrays: bool = True) -> tuple[Any, dict[str, Array]]:
    """Split a tree into plain values for JSON, and its arrays by a name that starts with ``prefix``.

    The plain values are a copy that JSON gives back as it is; tuples become lists.
    """
    found: dict[str, Array] = {}
    expected = "must be made of dicts with str keys, lists, str, int, float, bool and None"
    expected += ", and arrays of numbers" if arrays else ""

    def walk(value: Any, where: str, name: str) -> Any:
        if value is None or type(value) in (bool, int, float, str):
            return value
        if isinstance(value, list | tuple):
            return [walk(item, f"{where}[{i}]", f"{name}/{i}") for i, item in enumerate(value)]
        if isinstance(value, Mapping) and all(type(key) is str for key in value) and _ARRAY not in value:
            return {key: walk(item, f"{where}[{key!r}]", f"{name}/{key}") for key, item in value.items()}
        if arrays and isinstance(value, np.ndarray) and value.dtype.kind in "biuf":
            name = name if name not in found else f"{name} ({len(found)})"  # {"a": {"b": …}, "a/b": …}
            found[name] = value
            return {_ARRAY: name}
        numpys = isinstance(value, np.generic) or (isinstance(value, np.ndarray) and not arrays)
        hint = ": float(…), int(…) or .tolist() make numpy's numbers plain" if numpys else ""
        raise TypeError(f"{where} {expected}, got {describe(value)}{hint}")

    try:
        return walk(tree, argument, prefix), found
    except RecursionError:
        raise TypeError(f"{argument} {expected}, and is nested too deeply, or holds itself") from None


def unpack(plain: Any, arrays: Mapping[str, Array]) -> Any:
    """Put the arrays back into the tree; KeyError for one that is not there."""
    if isinstance(plain, list):
        return [unpack(item, arrays) for item in plain]
    if not isinstance(plain, dict):
        return plain
    if plain.keys() == {_ARRAY}:
        return arrays[plain[_ARRAY]]
    return {key: unpack(item, arrays) for key, item in plain.items()}


# --- writing ----------------------------------------------------------------------------------------------------------


def write(path: Any, kind: str, content: dict[str, Any], arrays: Mapping[str, Array], caller: str) -> pathlib.Path:
    """Write a file whole or not at all; the same contents give the same bytes."""
    header = {"format": FORMAT, "version": VERSION, "kind": kind, "content": content}
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr(zipfile.ZipInfo(HEADER), json.dumps(header))  # ZipInfo has no clock: 1 January 1980
        for name, array in arrays.items():
            member = io.BytesIO()
            np.lib.format.write_array(member, np.asarray(array, order="C"), allow_pickle=False)
            archive.writestr(zipfile.ZipInfo(f"{name}.npy"), member.getvalue())
        archive.comment = MARK + b"0" * 64  # of the right length; the digest is of what comes before it
    data = buffer.getvalue()[:-64]
    return write_whole(as_path(path, caller), data + _digest(data), caller)


def _digest(data: bytes | memoryview) -> bytes:
    return hashlib.sha256(data).hexdigest().encode()


def as_path(path: Any, caller: str, what: str = "file", example: str = "model.npz") -> pathlib.Path:
    """Check a path; TypeError for anything but a str or a path."""
    if not isinstance(path, str | os.PathLike) or not os.fspath(path):
        raise TypeError(f"{caller}: path must be a {what}'s path, got {describe(path)}: try {example!r}")
    return pathlib.Path(path)


def write_whole(path: pathlib.Path, data: bytes, caller: str) -> pathlib.Path:
    """Write a file so that at every moment, a loss of power included, the old one or the new one is there whole.

    The data go to a file beside it and to the disk (fsync); only then does `os.replace` put it in the other's place.

    Raises
    ------
    OSError
        Of its own kind (no space, no permission, no such directory), with ``errno`` set; nothing is left behind then,
        and a file that was there is what it was.
    """
    part = path.with_name(f".minirnn-{os.getpid()}-{threading.get_ident()}.part")
    try:
        with open(part, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    except OSError as error:
        raise reworded(
            error,
            f"{caller}: cannot write {str(path)!r}",
            "the file that was there, if any, is what it was; free some space, or choose a directory that is there and "
            "may be written to",
        ) from error
    finally:
        with contextlib.suppress(OSError):
            part.unlink()
    with contextlib.suppress(OSError):  # the new name, too, is to last, where the system can do that
        descriptor = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    return path


def remove_parts(directory: pathlib.Path) -> None:
    """Remove what writers that were killed left behind; nobody may be writing there."""
    for part in directory.glob(".minirnn-*.part"):
        with contextlib.suppress(OSError):
            part.unlink()


def reworded(error: OSError, what: str, hint: str) -> OSError:
    """Make an OSError of the same kind and number that says what was tried and what to try."""
    new = type(error)(f"{what}: {error.strerror or error}: {hint}")
    new.errno = error.errno
    return new


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
    if not fault and _digest(memoryview(data)[:-64]) != data[-64:]:
        fault = "is damaged: its checksum is not that of its contents. Use an earlier checkpoint, or a copy"
    try:
        if not fault:
            return _parsed(path, data)
    except _Refused as error:
        fault = str(error)
    except Exception as error:  # a good seal on anything at all: the zip, .npy and JSON readers raise what they like
        fault = f"has minirnn's seal, but was not made by it ({type(error).__name__}: {error}). {_TRUST}"
    raise CheckpointError(f"{caller}: {str(path)!r} {fault}")


class _Refused(Exception):
    """What is wrong with a file whose checksum is good."""


def _unsealed(file: BinaryIO) -> str:
    """Say what a file without a seal at its end looks like; nothing if it has one."""
    head = file.read(64)
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - SEAL))
    if file.read(len(MARK)) == MARK:
        return ""
    signs = (
        (not size, "is empty. Use an earlier checkpoint, or a copy"),
        (
            HEADER.encode() in head,
            "is damaged: its end is missing or was added to. Use an earlier checkpoint, or a copy",
        ),
        (
            head.startswith(b"\x80"),
            "is a pickle, which is never loaded: loading one can run any program. Save it with module.save(path)",
        ),
        (
            head.startswith((b"PK", b"\x93NUMPY")),
            "was written by another program: numpy.load reads it, then try module.load_state_dict(arrays)",
        ),
        (True, "is no file of minirnn's: give one that save_checkpoint or module.save wrote"),
    )
    return next(fault for sign, fault in signs if sign)


def _parsed(path: pathlib.Path, data: bytes) -> Contents:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = archive.infolist()
        # Before anything is unpacked: a member that is compressed may hide its size, and those that overlap hold the
        # same bytes many times.
        if any(m.compress_type != zipfile.ZIP_STORED for m in members) or sum(m.file_size for m in members) > len(data):
            raise _Refused(f"claims to hold more than its own size. {_TRUST}")
        if len({m.filename for m in members}) != len(members):
            raise _Refused(f"holds two members of one name. {_TRUST}")
        header = json.loads(archive.read(HEADER))
        version = header["version"]
        if header["format"] == FORMAT and type(version) is int and version > VERSION:
            raise _Refused(f"is of version {version}, and this minirnn reads up to {VERSION}: get a newer minirnn")
        for name, known in {"format": (FORMAT,), "version": (*range(1, VERSION + 1),), "kind": KINDS}.items():
            if type(header[name]) is not type(known[0]) or header[name] not in known:
                raise _Refused(f"has the {name} {describe(header[name])}. {_TRUST}")
        if not isinstance(header["content"], dict):
            raise _Refused(f"has the content {describe(header['content'])}. {_TRUST}")
        arrays = {m.filename[:-4]: _array(archive.read(m)) for m in members if m.filename != HEADER}
    return Contents(path, header["kind"], version, header["content"], arrays)


def _array(data: bytes) -> Array:
    """Make the array of an ``.npy``, whose header is bounded by numpy and evaluated as a literal only."""
    stream = io.BytesIO(data)
    if np.lib.format.read_magic(stream) != (1, 0):
        raise ValueError("an array of another version")
    shape, fortran, dtype = np.lib.format.read_array_header_1_0(stream)
    at = stream.tell()
    if dtype.kind not in "biuf" or fortran or math.prod(shape) * dtype.itemsize != len(data) - at:
        raise ValueError(f"an array of shape {shape} and dtype {dtype} in {len(data) - at} bytes")
    return np.ndarray(shape, dtype, data, at).copy()
