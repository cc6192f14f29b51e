"""Runs one trial, in whatever process: whole, or from where it was killed; whatever happens is its result."""

import math
import platform
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from minirnn.arguments import Made
from minirnn.checkpoints.locking import DirectoryLock, DirectoryLockedError
from minirnn.training.sweeps.settings import Settings
from minirnn.training.sweeps.trial import DIVERGED, FAILED, FINISHED, PRUNED, Figures, Pruner, Result, Trial, as_figures
from minirnn.training.updating import NonFiniteError

Run = Callable[[Trial], Any]

SWEEP = "sweep.json"
"""What says, in a sweep's directory, which one it is."""
_WAIT = 0.2  # seconds between two looks at a trial that another process has


class Order(NamedTuple):
    """A trial that is to be run, in a form that goes to other processes."""

    run: Run
    settings: Settings
    seed: int
    path: Path
    pruner: Pruner | None = None


def run_trial(order: Order) -> Result:
    """Run a trial and write its result before it is returned; one that is finished is read.

    A trial that another process still has, which the scheduler has given up, is waited for. What the machine is to
    blame for, an OSError or MemoryError, is returned but not written, so that a resumed sweep tries again.
    """
    while True:
        try:
            if (result := Result.read(order.path, order.settings, order.seed)) is not None:
                return result
            _check_shared(order.path)
            lock = DirectoryLock(order.path, "sweep")
        except DirectoryLockedError:
            time.sleep(_WAIT)
            continue
        except (ValueError, OSError) as error:
            return failed(order, error)
        try:
            # What another process did between the two looks counts, too.
            return Result.read(order.path, order.settings, order.seed) or _run_locked(order)
        finally:
            lock.release()


def _check_shared(folder: Path) -> None:
    """Refuse to run where the sweep's directory cannot be seen, as on a machine with disks of its own."""
    if not (folder.parent / SWEEP).exists():
        raise FileNotFoundError(
            f"{str(folder.parent)!r} is no sweep's directory on {platform.node()}: choose an out that all workers share"
        )


def _run_locked(order: Order) -> Result:
    trial = Trial(order.settings, order.seed, order.path, order.pruner)
    begun = time.perf_counter()
    try:
        trial.describe(described(order.run))
        result = _ended(order, trial)._replace(seconds=time.perf_counter() - begun)
        if trial.history is not None:
            trial.history.to_csv(order.path / "history.csv")
        result.write(order.path)
        return result
    except (OSError, MemoryError) as error:
        return failed(order, error)._replace(seconds=time.perf_counter() - begun)


def _ended(order: Order, trial: Trial) -> Result:
    """Call ``run``, and make a result of all that can come of it but what the machine is to blame for."""
    figures: Figures = {}
    try:
        figures = as_figures(order.run(trial))
        first = next(iter(figures))
        status, reason = (PRUNED, "others did better by then") if trial.pruned else (FINISHED, "")
        if not math.isfinite(figures[first]):
            status, reason = DIVERGED, f"{first} is {figures[first]}"
    except NonFiniteError as error:
        status, reason = DIVERGED, _in_a_line(error)
    except (OSError, MemoryError):
        raise
    except Exception as error:
        status, reason = FAILED, f"{type(error).__name__}: {_in_a_line(error)}"
    return Result(order.settings, order.seed, status, reason, figures, 0.0)


def failed(order: Order, error: BaseException) -> Result:
    """Return the result of a trial that an error ended."""
    reason = f"{type(error).__name__}: {_in_a_line(error)}"
    return Result(order.settings, order.seed, FAILED, reason, {}, 0.0)


def _in_a_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or "no more is said of it"


def described(run: Any) -> str:
    """Name the function that a sweep runs: by its module and name, or as a callable with arguments prints itself."""
    if name := getattr(run, "__qualname__", None):
        return f"{run.__module__}.{name}"
    return repr(run) if isinstance(run, Made) else f"{type(run).__module__}.{type(run).__qualname__}"
