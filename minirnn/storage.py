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
import re
import stat
import sys
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

_BOUNDS = {"members": 2**15, "bytes of JSON": 2**24, "values in its JSON": 2_000_000, "levels in its JSON": 100}
"""What a file may hold, looked at before any of it is parsed; what minirnn writes is mostly a thousandth of it."""
_STRING = re.compile(rb'"(?:[^"\\]|\\.)*+"?', re.DOTALL)
_NO_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
_LEVELS = bytes.maketrans(b"[{]}", b"\x01\x01\xff\xff")
_HINT = "free some space, or choose a directory that is there and may be written to"
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


# --- writing ----------------------------------------------------------------------------------------------------------


def write(path: Any, kind: str, content: dict[str, Any], arrays: Mapping[str, Array], caller: str) -> pathlib.Path:
    """Write a file whole or not at all; the same contents give the same bytes."""
    header = json.dumps({"format": FORMAT, "version": VERSION, "kind": kind, "content": content})
    hint = "put numbers into arrays, and many arrays into one, so that it can be read again"
    try:
        _bound("members", len(arrays) + 1, hint)
        _bound("bytes of JSON", len(header), hint)
        _bound_json(header.encode(), hint)
    except _Refused as error:
        raise ValueError(f"{caller}: what is saved {error}") from None
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr(zipfile.ZipInfo(HEADER), header)  # ZipInfo has no clock: 1 January 1980
        for name, array in arrays.items():
            member = io.BytesIO()
            np.lib.format.write_array(member, np.asarray(array, order="C"), allow_pickle=False)
            archive.writestr(zipfile.ZipInfo(f"{name}.npy"), member.getvalue())
        archive.comment = MARK + b"0" * 64  # of the right length; the digest is of what comes before it
    data = buffer.getvalue()[:-64]
    return write_whole(path, data + _digest(data), caller)


def _digest(data: bytes | memoryview) -> bytes:
    return hashlib.sha256(data).hexdigest().encode()


def as_path(path: Any, caller: str, what: str = "file", example: str = "model.npz") -> pathlib.Path:
    """Check a path, and write out its ``~``."""
    if not isinstance(path, str | os.PathLike) or not os.fspath(path):
        raise TypeError(f"{caller}: path must be a {what}'s path, got {describe(path)}: try {example!r}")
    found = pathlib.Path(os.path.expanduser(path))
    return found.absolute() if str(found).startswith("~") else found  # it was "./~", which a Path forgets


def _named(file: Any, verb: str, caller: str) -> tuple[pathlib.Path, Any]:
    """Return the path and None; of a binary file the name that errors call it by, and the file itself."""
    if isinstance(file, str | os.PathLike) or not hasattr(file, verb):
        return as_path(file, caller), None
    if isinstance(file, io.TextIOBase | io.RawIOBase):  # the latter may take a part of the data
        must = f"path must be a path or a binary file with a buffer, got {type(file).__name__}"
        raise TypeError(f"{caller}: {must}: try io.BytesIO() or open(path, '{verb[0]}b')")
    return pathlib.Path(str(getattr(file, "name", f"<{type(file).__name__}>"))), file


def write_whole(path: Any, data: bytes, caller: str) -> pathlib.Path:
    """Write a file so that at every moment, a loss of power included, the old one or the new one is there whole.

    The data go to a file beside it and to the disk (fsync); only then does `os.replace` put it in the other's place,
    with its mode and, if permitted, its owner; a symbolic link stays. No regular file (a pipe, what stdout goes to, an
    object with ``write``) is replaced, but written into. OSError of its own kind: then nothing has changed.
    """
    (name, file), hint = _named(path, "write", caller), "what was written before stays there"
    try:
        if file is not None:
            file.write(data)
        elif not _written_into(name, data):
            hint = f"the file that was there, if any, is what it was; {_HINT}"
            _replace(pathlib.Path(os.path.realpath(name)), data)
    except OSError as error:
        raise reworded(error, f"{caller}: cannot write {str(name)!r}", hint) from error
    return name


def _written_into(path: pathlib.Path, data: bytes) -> bool:
    """Write into what cannot or must not be replaced, and return True; False for a file, a directory, or nothing."""
    try:
        there, ours = os.stat(path), 0
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return False
    for descriptor, stream in ((1, sys.stdout), (2, sys.stderr)):  # they would go on writing to a file that is gone
        with contextlib.suppress(OSError, AttributeError, ValueError):  # closed, None
            if os.path.samestat(there, os.fstat(descriptor)):
                ours = descriptor
                stream.flush()  # what was printed comes first
    if not ours and (stat.S_ISREG(there.st_mode) or stat.S_ISDIR(there.st_mode)):
        return False
    with open(ours or path, "wb", closefd=not ours) as file:
        file.write(data)
    return True


def _replace(path: pathlib.Path, data: bytes) -> None:
    part = path.with_name(f".minirnn-{os.getpid()}-{threading.get_ident()}.part")
    try:
        with open(part, "wb") as file:
            with contextlib.suppress(FileNotFoundError):
                old = os.stat(path)
                for do, *to in ("chown", -1, old.st_gid), ("chown", old.st_uid, -1), ("chmod", old.st_mode & 0o7777):
                    with contextlib.suppress(OSError, AttributeError):  # not permitted, or not known, as on Windows
                        getattr(os, do)(part, *to)
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    finally:
        with contextlib.suppress(OSError):
            part.unlink()
    with contextlib.suppress(OSError):  # the new name, too, is to last, where the system can do that
        descriptor = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def reworded(error: OSError, what: str, hint: str) -> OSError:
    """Make an OSError of the same kind and number that says what was tried and what to try."""
    new = type(error)(f"{what}: {error.strerror or error}: {hint}")
    new.errno = error.errno
    return new


# --- reading ----------------------------------------------------------------------------------------------------------


def read(path: Any, caller: str) -> Contents:
    """Read a file, an open one from where it stands, after its checksum has been checked.

    CheckpointError if it is not what `write` made of it, or a later version; OSError if it cannot be read.
    """
    path, given = _named(path, "read", caller)
    try:
        with open(path, "rb") if given is None else contextlib.nullcontext(given) as file:
            if given is not None or not file.seekable():  # a pipe
                file = io.BytesIO(file.read())
            fault = _unsealed(file)
            fault = fault if given is None or file.tell() else "is empty from where it stands: try seek(0) first"
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


def _bound(what: str, n: int, hint: str = _TRUST) -> None:
    if n > _BOUNDS[what]:
        raise _Refused(f"has {n:,} {what}, of at most {_BOUNDS[what]:,}: {hint}")


def _bound_json(text: bytes, hint: str = _TRUST) -> None:
    """Refuse JSON of too many or too deeply nested values without making any of them."""
    _bound("values in its JSON", sum(map(text.count, (b"[", b"{", b",", b'"'))), hint)
    brackets = _STRING.sub(b"", text).translate(_LEVELS, _NO_BRACKETS)
    _bound("levels in its JSON", int(np.frombuffer(brackets, np.int8).cumsum(dtype=np.int32).max(initial=0)), hint)


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
    _bound("members", data.count(b"PK\1\2"))  # so each one's entry begins; in numbers that is rarer than any bound
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = archive.infolist()
        # Before anything is unpacked: a member that is compressed may hide its size, and those that overlap hold the
        # same bytes many times.
        if any(m.compress_type != zipfile.ZIP_STORED for m in members) or sum(m.file_size for m in members) > len(data):
            raise _Refused(f"claims to hold more than its own size. {_TRUST}")
        if len({m.filename for m in members}) != len(members):
            raise _Refused(f"holds two members of one name. {_TRUST}")
        _bound("bytes of JSON", archive.getinfo(HEADER).file_size)
        text = archive.read(HEADER)
        _bound_json(text)
        header = json.loads(text)
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
