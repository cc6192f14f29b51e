"""Writing a file whole or not at all."""

import contextlib
import os
import pathlib
import threading


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
        hint = "the file that was there, if any, is what it was; free some space, or choose a directory that is there"
        raise reworded(error, f"{caller}: cannot write {str(path)!r}", f"{hint} and may be written to") from error
    finally:
        with contextlib.suppress(OSError):
            part.unlink()
    _to_disk(path.parent)
    return path


def remove_parts(directory: pathlib.Path) -> None:
    """Remove what writers that were killed left behind; nobody may be writing there."""
    for part in directory.glob(".minirnn-*.part"):
        with contextlib.suppress(OSError):
            part.unlink()


def reworded(error: OSError, what: str, hint: str) -> OSError:
    """Return an OSError of the same kind and number that says what was tried and what to try."""
    new = type(error)(f"{what}: {error.strerror or error}: {hint}")
    new.errno = error.errno
    return new


def _to_disk(directory: pathlib.Path) -> None:
    """Make the new name in a directory last, where the system can do that; the file itself is on the disk already."""
    with contextlib.suppress(OSError):
        descriptor = os.open(directory, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
