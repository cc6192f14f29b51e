"""`DirectoryLock`: one run at a time in a directory."""

import contextlib
import json
import os
import pathlib
import platform
from typing import BinaryIO

from minirnn.storage import reworded

try:
    import fcntl
except ImportError:  # not on Windows
    fcntl = None  # type: ignore[assignment]


class DirectoryLockedError(RuntimeError):
    """Another run writes to this directory: of the process ``pid`` on the machine ``host``, where they are known."""

    def __init__(self, message: str, pid: int | None = None, host: str | None = None) -> None:
        super().__init__(message)
        self.pid, self.host = pid, host


class DirectoryLock:
    """Held from when it is made to `release`, or to the end of the process; `DirectoryLockedError` if it is not free.

    With `fcntl.flock` the system itself lets go when the process dies, however it ends; the file ``.lock`` stays.
    Where there is none the existence of ``.lock-pid`` is the lock.
    """

    def __init__(self, directory: pathlib.Path, owner: str) -> None:
        try:
            directory.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise reworded(
                error, f"{owner}: cannot make the directory {str(directory)!r}", "choose a place that may be written to"
            ) from error
        self._owner, self._directory, self._path = owner, directory, directory / ".lock"
        try:
            file = self._flocked()
            self._by_system = file is not None
            if file is None:
                self._path = directory / ".lock-pid"
                file = open(self._path, "xb", buffering=0)  # noqa: SIM115
        except (BlockingIOError, FileExistsError):
            raise self._refused() from None
        except OSError as error:
            raise reworded(
                error, f"{owner}: cannot write in {str(directory)!r}", "choose a directory that may be written to"
            ) from error
        self._file = file
        with contextlib.suppress(OSError):  # on a full disk the others are refused all the same
            self._file.truncate(0)
            self._file.write(json.dumps({"pid": os.getpid(), "host": platform.node()}).encode())

    def _flocked(self) -> BinaryIO | None:
        """Open a file that the system has locked for us; None where it knows no locks."""
        if fcntl is None:
            return None
        file = open(self._path, "ab", buffering=0)  # noqa: SIM115
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            file.close()
            if isinstance(error, BlockingIOError):
                raise
            return None
        return file

    def release(self) -> None:
        """Let go of it."""
        with contextlib.suppress(OSError):
            if self._by_system:
                self._file.truncate(0)
                fcntl.flock(self._file, fcntl.LOCK_UN)  # closing would leave it with a child that was forked
        self._file.close()
        if not self._by_system:
            self._path.unlink(missing_ok=True)

    def _refused(self) -> DirectoryLockedError:
        """Say who the lock says it belongs to; nobody if it says nothing."""
        pid = host = None
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            said = json.loads(self._path.read_bytes()[:1000])
            pid, host = int(said["pid"]), str(said["host"])
        hint = "wait for it, end it, or choose another directory"
        hint += f"; if that run is no more, remove {str(self._path)!r}" if self._path.name == ".lock-pid" else ""
        who = f"process {pid} on {host}" if pid else "another process"
        return DirectoryLockedError(f"{self._owner}: {str(self._directory)!r} is in use by {who}: {hint}", pid, host)
