"""`CheckpointDirectory`: a run's last K checkpoints and its best, and nobody else's."""

import contextlib
import json
import math
import os
import pathlib
import platform
import re
import warnings
from collections.abc import Mapping
from typing import Any, BinaryIO, Self

from minirnn.arguments import as_size, describe, is_real
from minirnn.checkpoints.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from minirnn.storage import CheckpointError, as_path, remove_parts, reworded

try:
    import fcntl
except ImportError:  # not on Windows
    fcntl = None  # type: ignore[assignment]

NAME = "CheckpointDirectory"


class CheckpointDirectory:
    """The checkpoints of one run: ``checkpoint-00000120.npz`` after update 120, the last K of them, and ``best.npz``.

    Reading needs nothing; `save` needs ``with``, which makes the directory and holds a lock in it, so that a second run
    is refused; the system lets go of a lock when the process ends. Where it knows none (Windows, some network file
    systems) the existence of a file is the lock, and that of a run that was killed is to be removed by hand.

    Parameters
    ----------
    path : str or path
    keep : int
        K ≥ 1, how many are kept beside the best.
    metric : str
        By which of the metrics the best is chosen: the lowest; a tie keeps the old one, NaN is never the best.

    Raises
    ------
    DirectoryLockedError, OSError
        By ``with``: another run is there, by a process and on a machine that it names; or nothing can be written.

    >>> import tempfile
    >>> import minirnn as mr
    >>> model = mr.Linear(3, 2, rng=0)
    >>> with CheckpointDirectory(tempfile.mkdtemp(), keep=2) as directory:
    ...     for update, loss in [(10, 0.5), (20, 0.2), (30, 0.3), (40, 0.4)]:
    ...         _ = directory.save(update, model=model, position=update, metrics={"loss": loss})
    >>> list(directory.paths()), directory.latest().position, directory.best().position
    ([30, 40], 40, 20)
    """

    def __init__(self, path: Any, *, keep: int = 3, metric: str = "loss") -> None:
        if not isinstance(metric, str):
            raise TypeError(f"{NAME}: metric must be a name such as 'loss', got {describe(metric)}")
        self.path, self.metric = as_path(path, NAME, "directory", "run"), metric
        self.keep = as_size(keep, f"{NAME}: keep")
        self._lock: _Lock | None = None
        self._lowest = math.nan

    def __repr__(self) -> str:
        return f"{NAME}({str(self.path)!r}, keep={self.keep}, metric={self.metric!r})"

    def __enter__(self) -> Self:
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise reworded(
                error, f"{NAME}: cannot make the directory {str(self.path)!r}", "choose a place that may be written to"
            ) from error
        lock = _Lock(self.path)
        try:
            remove_parts(self.path)
            self._lowest = self._lowest_saved()
        except BaseException:
            lock.release()
            raise
        self._lock = lock
        return self

    def __exit__(self, *error: object) -> None:
        if self._lock is not None:
            self._lock.release()
        self._lock = None

    # --- reading -----------------------------------------------------------------------------------------------------

    def paths(self) -> dict[int, pathlib.Path]:
        """Return the files of the last K checkpoints by their update, oldest first; the directory need not exist."""
        found = [p for p in self.path.glob("*.npz") if re.fullmatch(r"checkpoint-[0-9]{8,15}\.npz", p.name)]
        return dict(sorted((int(path.stem.removeprefix("checkpoint-")), path) for path in found))

    def latest(self) -> Checkpoint | None:
        """Return the newest checkpoint that is whole, None if there are none at all; a damaged one is warned of."""
        faults = ""
        for path in reversed(self.paths().values()):
            checkpoint, fault = _tried(path)
            if checkpoint is None:
                faults += f"\n  {fault}"
                continue
            if faults:
                warnings.warn(f"{NAME}: {path.name} is used, because a later one cannot be:{faults}", stacklevel=2)
            return checkpoint
        if faults:
            raise CheckpointError(f"{NAME}: none of the checkpoints in {str(self.path)!r} can be used:{faults}")
        return None

    def best(self) -> Checkpoint | None:
        """Return the checkpoint with the lowest metric so far, None if there is none."""
        best = self.path / "best.npz"
        return load_checkpoint(best) if best.exists() else None

    def _lowest_saved(self) -> float:
        """Return the metric of the best, NaN if there is none; a damaged one is warned of, and will be replaced."""
        try:
            best = self.best()
        except CheckpointError as error:
            warnings.warn(f"{NAME}: the next checkpoint becomes the best, because {error}", stacklevel=3)
            best = None
        return math.nan if best is None else best.metrics.get(self.metric, math.nan)

    # --- writing -----------------------------------------------------------------------------------------------------

    def save(self, update: int, **state: Any) -> pathlib.Path:
        """Save a checkpoint after this many updates, the best too if this is it; then remove the oldest.

        The other arguments and the errors are those of `save_checkpoint`; after an error all checkpoints that were
        there are as they were. One that is there for this ``update`` is replaced. RuntimeError outside ``with``;
        ValueError when a later checkpoint is there, of another run, or of this one before it went back.
        """
        update = as_size(update, f"{NAME}.save: update", 0)
        if self._lock is None:
            raise RuntimeError(f"{NAME}.save: the directory is not locked: write 'with {NAME}(path) as directory:'")
        for number, path in self.paths().items():
            if number > update and _tried(path)[0] is not None:
                raise ValueError(
                    f"{NAME}.save: update {update} comes before {path.name}, which is there already: go on from "
                    "latest(), or choose an empty directory for a new run"
                )
        # The best first: a run that is killed in between goes on from the checkpoint before, and comes here again.
        metrics = state.get("metrics")
        value: Any = metrics.get(self.metric) if isinstance(metrics, Mapping) else None
        if is_real(value) and not math.isnan(value) and not value >= self._lowest:
            save_checkpoint(self.path / "best.npz", **state)
            self._lowest = float(value)
        path = save_checkpoint(self.path / f"checkpoint-{update:08d}.npz", **state)
        for old in [p for number, p in self.paths().items() if number <= update][: -self.keep]:
            with contextlib.suppress(OSError):  # one too many does no harm
                old.unlink()
        return path


def _tried(path: pathlib.Path) -> tuple[Checkpoint | None, str]:
    """Load a checkpoint, or say what is wrong with it."""
    try:
        return load_checkpoint(path), ""
    except CheckpointError as error:
        return None, str(error)


# --- one run at a time ------------------------------------------------------------------------------------------------


class DirectoryLockedError(RuntimeError):
    """Another run writes to this directory: of the process ``pid`` on the machine ``host``, where they are known."""

    def __init__(self, message: str, pid: int | None = None, host: str | None = None) -> None:
        super().__init__(message)
        self.pid, self.host = pid, host


class _Lock:
    """Held from when it is made to `release`, or to the end of the process; `DirectoryLockedError` if it is not free.

    With `fcntl.flock` the system itself lets go when the process dies, however it ends; the file ``.lock`` stays.
    Where there is none the existence of ``.lock-pid`` is the lock.
    """

    def __init__(self, directory: pathlib.Path) -> None:
        self._directory, self._path = directory, directory / ".lock"
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
                error, f"{NAME}: cannot write in {str(directory)!r}", "choose a directory that may be written to"
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
        return DirectoryLockedError(f"{NAME}: {str(self._directory)!r} is in use by {who}: {hint}", pid, host)
