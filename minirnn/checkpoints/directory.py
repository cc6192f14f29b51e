"""`CheckpointDirectory`: a run's last K checkpoints and its best, and nobody else's."""

import contextlib
import math
import pathlib
import re
import warnings
from collections.abc import Mapping
from typing import Any, Self

from minirnn.arguments import as_size, describe, is_real, one_of
from minirnn.checkpoints.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from minirnn.checkpoints.locking import DirectoryLock
from minirnn.storage import CheckpointError, as_path

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
        By which of the metrics the best is chosen; a tie keeps the old one, NaN is never the best.
    mode : "min" or "max"
        Whether the lowest is the best, or the highest.

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

    def __init__(self, path: Any, *, keep: int = 3, metric: str = "loss", mode: str = "min") -> None:
        if not isinstance(metric, str):
            raise TypeError(f"{NAME}: metric must be a name such as 'loss', got {describe(metric)}")
        self.path, self.metric = as_path(path, NAME, "directory", "run"), metric
        self.keep = as_size(keep, f"{NAME}: keep")
        self.mode = one_of(mode, ("min", "max"), f"{NAME}: mode")
        self._sign = 1.0 if mode == "min" else -1.0
        self._lock: DirectoryLock | None = None
        self._lowest = math.nan

    def __repr__(self) -> str:
        mode = f", mode={self.mode!r}" * (self.mode != "min")
        return f"{NAME}({str(self.path)!r}, keep={self.keep}, metric={self.metric!r}{mode})"

    def __enter__(self) -> Self:
        lock = DirectoryLock(self.path, NAME)
        try:
            for part in self.path.glob(".minirnn-*.part"):  # what writers that were killed left behind
                with contextlib.suppress(OSError):
                    part.unlink()
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
        """Return the checkpoint with the best metric so far, None if there is none."""
        best = self.path / "best.npz"
        return load_checkpoint(best) if best.exists() else None

    def _lowest_saved(self) -> float:
        """Return the metric of the best, for "max" with its sign turned, NaN if there is none.

        A damaged one is warned of, and will be replaced.
        """
        try:
            best = self.best()
        except CheckpointError as error:
            warnings.warn(f"{NAME}: the next checkpoint becomes the best, because {error}", stacklevel=3)
            best = None
        return math.nan if best is None else self._sign * best.metrics.get(self.metric, math.nan)

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
        if is_real(value) and not math.isnan(value) and not self._sign * value >= self._lowest:
            save_checkpoint(self.path / "best.npz", **state)
            self._lowest = self._sign * float(value)
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
