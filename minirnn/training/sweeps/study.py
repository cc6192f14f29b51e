"""What runs, said by Optuna: it suggests settings by what came of earlier ones, and ends those that do badly.

Every trial of a sweep is one of Optuna's, with its seed as an attribute; so noise between seeds is told as it is. The
journal stands in a file, so that workers can report to it, and a sweep that was killed goes on with what it knew.
"""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from minirnn.training.history import History
from minirnn.training.sweeps.engine import package
from minirnn.training.sweeps.settings import Between, Grid, Settings
from minirnn.training.sweeps.trial import FINISHED, PRUNED, Pruner, Result

NAME = "minirnn"
"""Of the study in its journal."""
INTERVAL = 100
"""Updates between two reports of the mean training loss, by which trials are pruned."""
_CALLER = "sweep: optuna"


def check_suggestible(grid: Grid) -> None:
    """Refuse a grid of which nothing can be suggested, and a missing Optuna."""
    package("optuna", _CALLER)
    if not grid.axes and not grid.drawn:
        raise ValueError("sweep: optuna needs something to suggest: give grid a list of values, Between or OneOf")


class Study:
    """A study of ``count`` settings, each with every seed; one that is in the journal already goes on."""

    def __init__(self, grid: Grid, seeds: Sequence[int], count: int, journal: Path) -> None:
        optuna = package("optuna", _CALLER)
        self._states = package("optuna.trial", _CALLER).TrialState
        self.grid, self.seeds, self.count, self.journal = grid, [*seeds], count, journal
        self._ways = _distributions(optuna, grid)
        with _calm(optuna):
            try:
                self._study = optuna.create_study(study_name=NAME, storage=_storage(journal), load_if_exists=True)
            except (ValueError, LookupError, TypeError) as error:
                raise ValueError(
                    f"sweep: storage must be a journal that Optuna wrote, got {str(journal)!r}: {error}: choose another"
                ) from None
            # Another seed in each process: with the same one it would suggest once more what it began with.
            begun = len(self._study.trials)
            self._study.sampler = optuna.samplers.TPESampler(seed=begun, constant_liar=True)

    def known(self) -> list[tuple[Settings, int, int]]:
        """Return settings, seed and number of all trials that were asked for earlier, those that are left to run too.

        What was cut short as it was asked for is given up, and seeds that are missing are asked for again.
        """
        found: list[tuple[Settings, int, int]] = []
        for trial in self._study.trials:
            whole = trial.params.keys() == self._ways.keys() and "seed" in trial.user_attrs
            if trial.state == self._states.RUNNING and not whole:
                self._study.tell(trial.number, state=self._states.FAIL)
            elif whole and trial.state != self._states.WAITING:
                found.append((self._settings(trial.params), trial.user_attrs["seed"], trial.number))
        asked = {_key(settings): settings for settings, *_ in found}
        waiting = [t.user_attrs.get("seed") for t in self._study.trials if t.state == self._states.WAITING]
        for key, settings in asked.items() if not waiting else ():
            there = {seed for other, seed, _ in found if _key(other) == key}
            self._enqueue({name: settings[name] for name in self._ways}, [s for s in self.seeds if s not in there])
        return found

    def ask(self) -> tuple[Settings, int, int] | None:
        """Return settings, seed and number of one more trial; None when there are enough."""
        trials = self._study.trials
        waiting = any(t.state == self._states.WAITING for t in trials)
        given = sum(t.state not in (self._states.WAITING,) and "seed" in t.user_attrs for t in trials)
        if not waiting and given >= self.count * len(self.seeds):
            return None
        trial = self._study.ask(self._ways)
        if "seed" not in trial.user_attrs:
            trial.set_user_attr("seed", self.seeds[0])
            self._enqueue(trial.params, self.seeds[1:])
        return self._settings(trial.params), trial.user_attrs["seed"], trial.number

    def tell(self, number: int, result: Result) -> None:
        """Say what became of a trial."""
        if result.status == FINISHED:
            self._study.tell(number, next(iter(result.figures.values())), skip_if_finished=True)
        else:
            state = self._states.PRUNED if result.status == PRUNED else self._states.FAIL
            self._study.tell(number, state=state, skip_if_finished=True)

    def pruner(self, number: int) -> Pruner:
        """Return what decides in the worker whether a trial goes on."""
        return Pruning(str(self.journal), number)

    def _enqueue(self, params: Mapping[str, Any], seeds: Sequence[int]) -> None:
        for seed in seeds:
            self._study.enqueue_trial(dict(params), user_attrs={"seed": seed})

    def _settings(self, params: Mapping[str, Any]) -> Settings:
        return self.grid.fixed | {name: params[name] for name in self._ways}


class Pruning:
    """Reports the mean training loss of the last 100 updates after every 100; true when it is worse than most."""

    def __init__(self, journal: str, number: int) -> None:
        self.journal, self.number = journal, number
        self._trial: Any = None
        self._reported: set[int] = set()

    def __call__(self, history: History) -> bool:
        """Whether the trial is to end."""
        if history.updates % INTERVAL:
            return False
        if self._trial is None:
            self._open()
        if history.updates not in self._reported:  # a trial that goes on has been there
            self._reported.add(history.updates)
            self._trial.report(history.recent(INTERVAL), history.updates)
        return bool(self._trial.should_prune())

    def _open(self) -> None:
        optuna = package("optuna", _CALLER)
        with _calm(optuna):
            storage = _storage(Path(self.journal))
            study = optuna.load_study(study_name=NAME, storage=storage)
            number = storage.get_trial_id_from_study_id_trial_number(storage.get_study_id_from_name(NAME), self.number)
            self._trial = optuna.trial.Trial(study, number)
            self._reported = set(study.trials[self.number].intermediate_values)


def _key(settings: Settings) -> tuple[Any, ...]:
    return tuple(sorted(settings.items()))


def _storage(journal: Path) -> Any:
    backend = package("optuna.storages.journal", _CALLER).JournalFileBackend(str(journal))
    return package("optuna.storages", _CALLER).JournalStorage(backend)


def _distributions(optuna: Any, grid: Grid) -> dict[str, Any]:
    """Say in Optuna's terms what may be suggested; a grid's values are choices."""
    ways: dict[str, Any] = {}
    for name, how in (grid.axes | grid.drawn).items():
        if isinstance(how, Between):
            kind = optuna.distributions.IntDistribution if how.whole else optuna.distributions.FloatDistribution
            ways[name] = kind(*how, log=how.low > 0)
        else:
            ways[name] = optuna.distributions.CategoricalDistribution(how if isinstance(how, list) else how.values)
    return ways


@contextmanager
def _calm(optuna: Any) -> Iterator[None]:
    """Keep Optuna from telling what it does, and that parts of it are new."""
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            yield
    finally:
        optuna.logging.set_verbosity(before)
