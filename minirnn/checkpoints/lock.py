"""A directory belongs to one run at a time."""

import contextlib
import json
import os
import pathlib
import platform
from typing import Any, NamedTuple

from minirnn.storage import reworded

try:
    import fcntl
except ImportError:  # not on Windows
    fcntl = None  # type: ignore[assignment]


class DirectoryLockedError(RuntimeError):
    """Another run writes to this directory: of the process ``pid`` on the machine ``host``, where they are known."""

    def __init__(self, message: str, pid: int | None, host: str | None) -> None:
        super().__init__(message)
        self.pid, self.host = pid, host

    def __reduce__(self) -> Any:
        return type(self), (str(self), self.pid, self.host)


class _Owner(NamedTuple):
    pid: int | None
    host: str | None


class DirectoryLock:
    """Held from `acquire` to `release`, or to the end of the process, however it ends.

    With `fcntl.flock` the system itself lets go when the process dies; the file ``.lock`` stays and says who held it
    last. Where there is none (Windows, some network file systems) the existence of ``.lock-pid`` is the lock, and one
    whose process is dead is taken over.
    """

    def __init__(self, directory: pathlib.Path, caller: str) -> None:
        self.directory, self.caller = directory, caller
        self._descriptor: int | None = None
        self._file: pathlib.Path | None = None

    def acquire(self) -> None:
        """Take the lock, or raise `DirectoryLockedError`; never wait."""
        try:
            if not self._flock():
                self._by_existence()
        except OSError as error:
            what = f"{self.caller}: cannot write in {str(self.directory)!r}"
            raise reworded(error, what, "choose a directory that may be written to") from error

    def release(self) -> None:
        """Let go of it."""
        if self._descriptor is not None:
            with contextlib.suppress(OSError):
                os.ftruncate(self._descriptor, 0)
                fcntl.flock(self._descriptor, fcntl.LOCK_UN)  # closing would leave it with a child that was forked
            os.close(self._descriptor)
        if self._file is not None:
            with contextlib.suppress(OSError):
                self._file.unlink()
        self._descriptor = self._file = None

    def __reduce__(self) -> Any:
        raise TypeError(
            f"{self.caller}: the lock of {str(self.directory)!r} belongs to this process and cannot be copied or "
            "pickled: do it outside 'with', and go in where it is needed"
        )

    def _flock(self) -> bool:
        """Lock by the system; False where it cannot."""
        if fcntl is None:
            return False
        path = self.directory / ".lock"
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            raise self._refused(_owner(path), path) from None
        except OSError:  # a file system without locks
            os.close(descriptor)
            return False
        self._descriptor = descriptor
        with contextlib.suppress(OSError):  # on a full disk the others are refused all the same
            os.ftruncate(descriptor, 0)
            os.write(descriptor, _me())
        return True

    def _by_existence(self) -> None:
        path = self.directory / ".lock-pid"
        if path.exists() and _dead(owner := _owner(path)):
            self._set_aside(path, owner)
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
        except FileExistsError:
            raise self._refused(_owner(path), path, "; if that run is no more, remove {}") from None
        self._file = path
        try:
            os.write(descriptor, _me())
        except OSError:
            self.release()  # nobody could tell whose it is
            raise
        finally:
            os.close(descriptor)

    def _set_aside(self, path: pathlib.Path, dead: _Owner) -> None:
        """Remove a dead run's lock; put it back if another run was quicker and this is its lock already."""
        aside = path.with_name(f".lock-pid-{os.getpid()}")
        with contextlib.suppress(FileNotFoundError):
            os.rename(path, aside)
            if _owner(aside) != dead:
                os.rename(aside, path)
                raise self._refused(_owner(path), path)
            aside.unlink()

    def _refused(self, owner: _Owner, path: pathlib.Path, more: str = "") -> DirectoryLockedError:
        who = f"process {owner.pid} on {owner.host}" if owner.pid else "another process"
        hint = "wait for it, end it, or choose another directory" + more.format(repr(str(path)))
        message = f"{self.caller}: {str(self.directory)!r} is in use by {who}: {hint}"
        return DirectoryLockedError(message, owner.pid, owner.host)


def _me() -> bytes:
    return json.dumps({"pid": os.getpid(), "host": platform.node()}).encode()


def _owner(path: pathlib.Path) -> _Owner:
    """Return who a lock says it belongs to; nobody if it says nothing."""
    try:
        said: Any = json.loads(path.read_bytes()[:1000])
        return _Owner(int(said["pid"]), str(said["host"]))
    except (OSError, ValueError, KeyError, TypeError):
        return _Owner(None, None)


def _dead(owner: _Owner) -> bool:
    """Whether the owner certainly runs no more: a process of this machine that is not there."""
    if owner.pid is None or owner.pid <= 0 or owner.host != platform.node() or os.name != "posix":
        return False  # on Windows os.kill would end it
    try:
        os.kill(owner.pid, 0)
    except ProcessLookupError:
        return True
    except (PermissionError, OverflowError):
        return False
    return False
