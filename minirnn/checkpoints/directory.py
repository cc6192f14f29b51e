"""`CheckpointDirectory`: a run's last K checkpoints and its best, and nobody else's."""

import contextlib
import math
import os
import pathlib
import re
import warnings
from collections.abc import Mapping
from typing import Any, Self, Unpack

from minirnn.arguments import as_size, describe, is_real
from minirnn.checkpoints.checkpoint import Checkpoint, State, load_checkpoint, save_checkpoint
from minirnn.checkpoints.lock import DirectoryLock
from minirnn.storage import CheckpointError, remove_parts, reworded

NAME = "CheckpointDirectory"


class CheckpointDirectory:
    """The checkpoints of one run: ``checkpoint-00000120.npz`` after update 120, the last K of them, and ``best.npz``.

    Reading needs nothing; `save` needs ``with``, which makes the directory and holds a lock in it, so that a second run
    is refused. The lock of a run that was killed is taken over.

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
        if not isinstance(path, str | os.PathLike) or not os.fspath(path):
            raise TypeError(f"{NAME}: path must be a directory's path, got {describe(path)}: try 'run'")
        if not isinstance(metric, str):
            raise TypeError(f"{NAME}: metric must be a name such as 'loss', got {describe(metric)}")
        self.path, self.keep, self.metric = pathlib.Path(path), as_size(keep, f"{NAME}: keep"), metric
        self._lock: DirectoryLock | None = None
        self._lowest = math.nan

    def __repr__(self) -> str:
        return f"{NAME}({str(self.path)!r}, keep={self.keep}, metric={self.metric!r})"

    def __enter__(self) -> Self:
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            what = f"{NAME}: cannot make the directory {str(self.path)!r}"
            raise reworded(error, what, "choose a place that may be written to") from error
        lock = DirectoryLock(self.path, NAME)
        lock.acquire()
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
        found = {}
        with contextlib.suppress(FileNotFoundError):
            for path in self.path.iterdir():
                if match := re.fullmatch(r"checkpoint-([0-9]{8,15})\.npz", path.name):
                    found[int(match[1])] = path
        return dict(sorted(found.items()))

    def latest(self) -> Checkpoint | None:
        """Return the newest checkpoint that is whole, None if there are none at all; a damaged one is warned of."""
        paths, faults = self.paths(), []
        for path in reversed(paths.values()):
            try:
                checkpoint = load_checkpoint(path)
            except CheckpointError as error:
                faults.append(str(error))
                continue
            if faults:
                passed = "\n  ".join(faults)
                warnings.warn(f"{NAME}: {path.name} is used, because a later one cannot be:\n  {passed}", stacklevel=2)
            return checkpoint
        if faults:
            listed = "\n  ".join(faults)
            raise CheckpointError(f"{NAME}: none of the checkpoints in {str(self.path)!r} can be used:\n  {listed}")
        return None

    def best(self) -> Checkpoint | None:
        """Return the checkpoint with the lowest metric so far, None if there is none."""
        best = self.path / "best.npz"
        return load_checkpoint(best) if best.exists() else None

    # --- writing -----------------------------------------------------------------------------------------------------

    def save(self, update: int, **state: Unpack[State]) -> pathlib.Path:
        """Save a checkpoint after this many updates, the best too if this is it; then remove the oldest.

        The other arguments and the errors are those of `save_checkpoint`; after an error all checkpoints that were
        there are as they were. One that is there for this ``update`` is replaced. RuntimeError outside ``with``;
        ValueError when a later checkpoint is there, of another run, or of this one before it went back.
        """
        update = as_size(update, f"{NAME}.save: update", 0)
        if self._lock is None:
            raise RuntimeError(f"{NAME}.save: the directory is not locked: write 'with {NAME}(path) as directory:'")
        self._refuse_to_go_back(update)
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

    def _refuse_to_go_back(self, update: int) -> None:
        for number, path in self.paths().items():
            if number > update and _is_whole(path):
                raise ValueError(
                    f"{NAME}.save: update {update} comes before {path.name}, which is there already: go on from "
                    "latest(), or choose an empty directory for a new run"
                )

    def _lowest_saved(self) -> float:
        """Return the metric of the best, NaN if there is none; a damaged one is warned of, and will be replaced."""
        try:
            best = self.best()
        except CheckpointError as error:
            warnings.warn(f"{NAME}: the next checkpoint becomes the best, because {error}", stacklevel=3)
            return math.nan
        return math.nan if best is None else best.metrics.get(self.metric, math.nan)


def _is_whole(path: pathlib.Path) -> bool:
    try:
        load_checkpoint(path)
    except CheckpointError:
        return False
    return True
