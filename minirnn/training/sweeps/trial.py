"""`Trial`: what a sweep hands to the function that it runs, and what the trial's directory holds."""

import json
import math
import signal
from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple, Self

import numpy as np

from minirnn.arguments import Generator, describe, is_real
from minirnn.layers.module import Module
from minirnn.storage import write_whole
from minirnn.tasks import SequenceTask, TextTask
from minirnn.training.fitting import fit
from minirnn.training.history import History
from minirnn.training.saving import Checkpointing
from minirnn.training.sources import is_arrays
from minirnn.training.sweeps.settings import Settings, Value, name_of, number_of

RESULT = "result.json"
"""What a trial's directory has when it has ended."""
RULE = "SeedSequence([seed, trial]).spawn(3): model, data, rest"
"""Where a trial's random numbers come from; ``trial`` is `number_of` its settings."""

FINISHED, PRUNED, DIVERGED, FAILED = "finished", "pruned", "diverged", "failed"
"""How a trial ends: as it should; stopped because others did better; at a number that is not finite; by an error."""

Figures = dict[str, float]
Pruner = Callable[[History], bool]


class Result(NamedTuple):
    """What became of a trial.

    Attributes
    ----------
    settings : dict
        What the trial was given.
    seed : int
        The seed of the training.
    status : str
        "finished", "pruned", "diverged" or "failed".
    reason : str
        Why it did not finish; empty if it did.
    figures : dict
        What ``run`` returned, by name; lower is better in the first of them.
    seconds : float
        Of the process that ran it, from its last start on.
    """

    settings: Settings
    seed: int
    status: str
    reason: str
    figures: Figures
    seconds: float

    @property
    def name(self) -> str:
        """The name of its directory."""
        return name_of(self.settings, self.seed)

    def write(self, folder: Path) -> None:
        """Write ``result.json``, whole or not at all; settings and seed stand in ``settings.json``."""
        said = self._asdict() | {"figures": {name: _written(value) for name, value in self.figures.items()}}
        del said["settings"], said["seed"]
        write_whole(folder / RESULT, _as_json(said), "sweep")

    @classmethod
    def read(cls, folder: Path, settings: Settings, seed: int) -> Self | None:
        """Read what `write` wrote; None if there is nothing, ValueError if it is something else."""
        path = folder / RESULT
        try:
            said = json.loads(path.read_bytes())
            figures = {name: v if isinstance(v, int) else float(v) for name, v in said["figures"].items()}
            if said["status"] not in (FINISHED, PRUNED, DIVERGED, FAILED):
                raise ValueError
            return cls(settings, seed, said["status"], said["reason"], figures, float(said["seconds"]))
        except FileNotFoundError:
            return None
        except (ValueError, LookupError, TypeError, AttributeError):
            raise ValueError(
                f"sweep: {str(path)!r} is no result that a sweep wrote: remove it, and its trial is run again"
            ) from None


def _written(value: float) -> Any:
    """Write a figure so that any reader of JSON takes it: what is not finite as text."""
    return value if isinstance(value, int) or math.isfinite(value) else str(value)


def _as_json(value: Any) -> bytes:
    return (json.dumps(value, indent=1, ensure_ascii=False) + "\n").encode()


class Trial:
    """One training of a sweep: with these settings, this seed, and a directory of its own.

    Attributes
    ----------
    settings : mapping
        Read only; ``trial["lr"]`` is short for ``trial.settings["lr"]``.
    seed : int
        The seed of this training.
    number : int
        Of the settings, 0 … 2⁶⁴ − 1, the same in every sweep.
    path : Path
        The trial's directory.
    for_model, for_data, for_rest : numpy.random.Generator
        Three streams that share nothing, ``SeedSequence([seed, number]).spawn(3)``: hand the first to layers, the
        second to what draws the data.
    history : History or None
        That of the last `fit`.

    >>> from pathlib import Path
    >>> trial = Trial({"lr": 0.01}, seed=0, path=Path("runs"))
    >>> again = Trial({"lr": 0.01}, seed=0, path=Path("runs"))
    >>> trial["lr"], trial.for_model.random() == again.for_model.random(), trial.for_data is trial.for_data
    (0.01, True, True)
    """

    def __init__(self, settings: Mapping[str, Value], seed: int, path: Path, pruner: Pruner | None = None) -> None:
        self.settings: Mapping[str, Value] = MappingProxyType(dict(settings))
        self.seed, self.path = seed, path
        self.history: History | None = None
        self.pruned = False
        self._pruner = pruner

    def __getitem__(self, name: str) -> Any:
        if name not in self.settings:
            raise KeyError(f"trial has no setting {name!r}: it has {', '.join(self.settings) or 'none'}")
        return self.settings[name]

    def __repr__(self) -> str:
        return f"<Trial {name_of(self.settings, self.seed)}: {dict(self.settings)}, seed {self.seed}>"

    @property
    def number(self) -> int:
        """Of the settings, the same in every sweep."""
        return number_of(self.settings)

    @cached_property
    def _streams(self) -> list[Generator]:
        sequence = np.random.SeedSequence([self.seed, self.number])
        return [np.random.default_rng(stream) for stream in sequence.spawn(3)]

    @property
    def for_model(self) -> Generator:
        """Draws the weights, and dropout's masks."""
        return self._streams[0]

    @property
    def for_data(self) -> Generator:
        """Draws the batches."""
        return self._streams[1]

    @property
    def for_rest(self) -> Generator:
        """Draws what else there is."""
        return self._streams[2]

    def fit(
        self,
        model: Module,
        task_or_batches: Any,
        *,
        stop: Callable[[History], bool] | None = None,
        checkpoint_every: int = 500,
        **settings: Any,
    ) -> History:
        """Train as `minirnn.training.fit` does, to go on from where the trial was killed, and stop where it is pruned.

        Checkpoints go to the trial's directory; a task's batches, or the rows of arrays, are drawn with ``for_data``,
        unless ``rng`` says otherwise. There is no bar. All other settings are those of `minirnn.training.fit`.
        """
        if isinstance(task_or_batches, SequenceTask | TextTask) or is_arrays(task_or_batches):
            settings.setdefault("rng", self.for_data)
        saved = Checkpointing(self.path / "checkpoints", checkpoint_every, resume=True, keep=1)
        try:
            self.history = fit(
                model, task_or_batches, stop=self._stopping(stop), checkpoint=saved, progress=False, **settings
            )
        except Exception as error:
            self.history = getattr(error, "history", None)
            raise
        if self.history.interrupted:
            signal.raise_signal(self.history.signal or signal.SIGINT)  # for the sweep, which ends by it
        return self.history

    def stop(self, history: History) -> bool:
        """Whether the trial is pruned: for a loop of your own, asked after every update."""
        if self._pruner is not None and not self.pruned:
            self.pruned = self._pruner(history)
        return self.pruned

    def _stopping(self, stop: Callable[[History], bool] | None) -> Callable[[History], bool] | None:
        """Join both reasons to stop."""
        if self._pruner is None:
            return stop
        return lambda history: bool((stop is not None and stop(history)) or self.stop(history))

    def describe(self, run: str) -> None:
        """Write ``settings.json``: all that is needed to make the trial's random numbers again."""
        said = {"run": run, "settings": dict(self.settings), "seed": self.seed, "trial": self.number, "streams": RULE}
        write_whole(self.path / "settings.json", _as_json(said), "sweep")


def as_figures(returned: Any) -> Figures:
    """Check what ``run`` returned: a number, which is called "figure", or a dict of numbers by name."""
    given = returned if isinstance(returned, Mapping) else {"figure": returned}
    figures: Figures = {}
    for name, value in given.items():
        value = value.item() if isinstance(value, np.generic) or getattr(value, "shape", None) == () else value
        if not isinstance(name, str) or not (is_real(value) or isinstance(value, bool)):
            raise TypeError(
                f"sweep: run must return a number or a dict of numbers by name, got {describe(returned)}: "
                "try return {'held-out': measure(model, task)}"
            )
        figures[name] = value if isinstance(value, int) else float(value)
    if not figures:
        raise TypeError("sweep: run must return a figure at least, got none: the first is what trials are judged by")
    return figures
