"""`sweep`: every setting with every seed, wherever there is a process for it, and nothing lost."""

import contextlib
import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from minirnn.arguments import as_flag, as_size, describe
from minirnn.checkpoints.locking import DirectoryLock
from minirnn.storage import as_path, write_whole
from minirnn.training.bar import has_a_place, size_of_bar
from minirnn.training.sweeps.engine import Engine, EngineError
from minirnn.training.sweeps.results import Results
from minirnn.training.sweeps.running import SWEEP, Order, Run, described, failed, run_trial
from minirnn.training.sweeps.settings import Grid, Settings, as_seeds, name_of
from minirnn.training.sweeps.study import Study, check_suggestible
from minirnn.training.sweeps.trial import RESULT, Result

_BAR = "{l_bar}{bar}| {n_fmt}/{total_fmt} [{elapsed}<{remaining}{postfix}]"
_KEPT_EVERY = 1.0  # seconds between two writings of results.csv, at least


def sweep(
    run: Run,
    grid: Any,
    *,
    seeds: int | Sequence[int],
    out: str | os.PathLike[str],
    engine: Any = None,
    draws: int = 1,
    optuna: int | None = None,
    storage: str | os.PathLike[str] | None = None,
    resume: bool = False,
    progress: bool | None = None,
) -> Results:
    """Run a function with every combination of settings and every seed, and gather what it returns.

    Parameters
    ----------
    run : callable (trial) -> number, or dict of numbers by name
        One training; see `Trial` for what it is given. Lower is better in the first number. To go to other processes
        it is pickled: a function of a module, or any other for which cloudpickle, which dask uses, finds a way.
    grid : dict
        By the name of a setting a list of values, of which every combination is run; `Between` or `OneOf` for one that
        is drawn anew in each combination; or one value for all trials. Values are str, numbers, bools and None.
    seeds : int or list of ints
        K for the seeds 0 … K − 1. Every setting is run with each.
    out : path of a directory
        Each trial has a directory in it, named by a hash of its settings and its seed: ``settings.json``,
        ``checkpoints``, ``history.csv``, ``result.json``; beside them ``sweep.json``, which says what the sweep is, and
        ``results.csv``. On a cluster it must be one that all workers share.
    engine : None, int, str or distributed.Client
        Where trials run: in so many processes on this machine, 1 for this one; on the dask cluster with a scheduler at
        this address, such as "tcp://host:8786"; or that of a Client. None: a process on each CPU that may be used, or
        this one alone where distributed is not installed.
    draws : int
        How often what is drawn is drawn in each combination.
    optuna : int, optional
        Let Optuna suggest so many settings, each by what came of those before, instead of running every combination. It
        ends trials early that do worse than most (`Trial.fit` asks it; their status is "pruned").
    storage : path of a file, optional
        The journal of Optuna's study; ``study.journal`` in ``out`` if left out.
    resume : bool
        Go on with a sweep that ended early: what is finished is read, what is not goes on from its checkpoint, to the
        same bits. More or other seeds may be asked for; anything else is another sweep, which is refused.
    progress : bool, optional
        Whether to show a bar with the best so far. None: when stderr is a terminal or in a notebook.

    Returns
    -------
    Results
        A list of `Result`, in the order of the grid, with a `Results.table`; after Ctrl-C of those that are there.

    Raises
    ------
    ValueError, TypeError
        For a grid of nothing, a value that cannot be written down, more than 100,000 trials, a directory of another
        sweep: before anything is made.
    DirectoryLockedError
        When another sweep has the directory.
    EngineError
        When no scheduler answers, or it goes away; what was finished is kept, and ``resume=True`` goes on from there.
    OSError
        When the directory cannot be written to. A trial that meets a full disk has failed; the others go on.

    Notes
    -----
    **Seeds.** ``SeedSequence([seed, trial]).spawn(3)`` gives a trial's three streams, for the model, the data and the
    rest; ``trial`` is the first 64 bits of the SHA-256 of the settings. So the same settings and seed give the same
    bits alone, in a pool or on a cluster, whatever the number of workers and whatever else is in the grid, on machines
    with the same numpy and BLAS: each trial has one thread. Which settings Optuna suggests, and what it prunes, depends
    on which trials ended before, and so on the number of workers.

    **Faults.** A trial that raises, or whose loss or first figure is not finite, has a result too, "failed" or
    "diverged", with the reason. If a worker dies, its trial goes on elsewhere from its last checkpoint, up to three
    times. What the machine is to blame for, a full disk or memory, is not kept as a result: resumed, it is tried again.

    Examples
    --------
    >>> import tempfile
    >>> import minirnn as mr
    >>> def run(trial):
    ...     task = mr.tasks.AddingTask(T=trial["T"])
    ...     layer = mr.RecurrentLayer(2, 8, rng=trial.for_model)
    ...     model = mr.SequenceModel(layer, mr.Linear(8, 1, rng=trial.for_model), readout="last")
    ...     adam = mr.optim.Adam(model.parameters(), lr=trial["lr"])
    ...     trial.fit(model, task, optimizer=adam, max_updates=100)
    ...     return {"held-out": mr.training.measure(model, task)}
    >>> found = sweep(run, {"lr": [1e-3, 1e-2], "T": 4}, seeds=2, out=tempfile.mkdtemp(), engine=1)
    >>> [(r.settings["lr"], r.seed, r.status) for r in found], found.best.settings["lr"]
    ([(0.001, 0, 'finished'), (0.001, 1, 'finished'), (0.01, 0, 'finished'), (0.01, 1, 'finished')], 0.01)
    """
    if not callable(run):
        raise TypeError(f"sweep: run must be a callable (trial) -> figures, got {describe(run)}")
    plan = Grid(grid, draws)
    its_seeds = as_seeds(seeds)
    count = plan.size if optuna is None else as_size(optuna, "sweep: optuna")
    plan.check_count(count, len(its_seeds))
    if optuna is None and storage is not None:
        raise ValueError("sweep: storage belongs to optuna=N, got it alone: leave it out")
    if optuna is not None and plan.draws > 1:
        raise ValueError("sweep: draws says how often a grid draws, got it with optuna=N, which says how often: 1")
    if optuna is not None:
        check_suggestible(plan)
    where = Engine(engine, "sweep")
    folder = as_path(out, "sweep", "directory", "runs").absolute()
    shown = has_a_place() if progress is None else as_flag(progress, "sweep: progress")
    said = plan.describe() | {"run": described(run), "optuna": optuna is not None}
    _check_directory(folder, said, resume)
    lock = DirectoryLock(folder, "sweep")
    try:
        _check_directory(folder, said, resume)  # once more, now that nobody else can come between
        if optuna is None:
            source: _Listed | _Suggested = _Listed(run, plan, its_seeds, folder)
        else:
            journal = (
                folder / "study.journal" if storage is None else as_path(storage, "sweep", "file", "study.journal")
            )
            source = _Suggested(run, Study(plan, its_seeds, count, journal.absolute()), folder)
        write_whole(folder / SWEEP, (json.dumps(said, indent=1, ensure_ascii=False) + "\n").encode(), "sweep")
        return _Sweep(source, where, Results([], folder, plan.varied), count * len(its_seeds), shown).run()
    finally:
        lock.release()


def _check_directory(folder: Path, said: dict[str, Any], resume: Any) -> None:
    """Refuse a directory that holds a sweep, unless it is this one and is to go on."""
    there = repr(str(folder))
    try:
        before = json.loads((folder / SWEEP).read_bytes())
    except FileNotFoundError:
        return
    except ValueError:
        raise ValueError(f"sweep: out: {there} has a {SWEEP} that no sweep wrote: choose another directory") from None
    if not as_flag(resume, "sweep: resume"):
        raise ValueError(
            f"sweep: out: {there} holds a sweep: pass resume=True to go on with it, or choose another directory"
        )
    for name, now in json.loads(json.dumps(said)).items():
        if (then := before.get(name)) != now:
            raise ValueError(
                f"sweep: out: {there} holds another sweep, whose {name} was {then!r}, and is {now!r}: give it the same "
                "one, or choose another directory"
            )


class Ordered(NamedTuple):
    """A trial that is to be run, and its number in Optuna's study, if that asked for it."""

    order: Order
    number: int | None = None


class _Listed:
    """All trials of a grid."""

    at_once: int | None = None  # as many as a cluster likes

    def __init__(self, run: Run, grid: Grid, seeds: Sequence[int], folder: Path) -> None:
        self.run, self.grid, self.seeds, self.folder = run, grid, seeds, folder

    def known(self) -> list[Ordered]:
        return [
            Ordered(Order(self.run, settings, seed, self.folder / name_of(settings, seed)))
            for settings in self.grid
            for seed in self.seeds
        ]

    def more(self) -> Iterator[Ordered]:
        return iter(())

    def tell(self, ordered: Ordered, result: Result) -> None:
        pass


class _Suggested:
    """Trials that Optuna asks for: no more at once than there are workers, as each learns from those before."""

    at_once: int | None = 0

    def __init__(self, run: Run, study: Study, folder: Path) -> None:
        self.run, self.study, self.folder = run, study, folder

    def known(self) -> list[Ordered]:
        return [self._ordered(*asked) for asked in self.study.known()]

    def more(self) -> Iterator[Ordered]:
        while (asked := self.study.ask()) is not None:
            yield self._ordered(*asked)

    def tell(self, ordered: Ordered, result: Result) -> None:
        if ordered.number is not None:
            self.study.tell(ordered.number, result)

    def _ordered(self, settings: Settings, seed: int, number: int) -> Ordered:
        path = self.folder / name_of(settings, seed)
        return Ordered(Order(self.run, settings, seed, path, self.study.pruner(number)), number)


class _Sweep:
    """A sweep under way."""

    def __init__(self, source: _Listed | _Suggested, engine: Engine, results: Results, total: int, shown: bool) -> None:
        self.source, self.engine, self.results, self.total = source, engine, results, total
        self._places: dict[str, int] = {}  # of each trial in the order in which they were asked for
        self._by_place: dict[int, Result] = {}
        self._kept = 0.0
        self._shown = shown

    def run(self) -> Results:
        """Run what is not there yet; Ctrl-C ends it, with what there is."""
        left = []
        for ordered in self.source.known():
            self._place(ordered)
            done = Result.read(ordered.order.path, ordered.order.settings, ordered.order.seed)
            if done is None:
                left.append(ordered)
            else:
                self._take(ordered, done)
        with (
            self._bar() as say,
            contextlib.closing(self.engine.each(_run, self._orders(left), self.source.at_once)) as outcomes,
        ):
            try:
                for ordered, outcome in outcomes:
                    result = failed(ordered.order, outcome) if isinstance(outcome, Exception) else outcome
                    self._take(ordered, result)
                    self._keep(time.monotonic() >= self._kept + _KEPT_EVERY)
                    say(result)
            except KeyboardInterrupt:
                self.results.interrupted = True
            except EngineError as error:
                self._keep(True)
                ended = sum((self.results.out / name / RESULT).exists() for name in self._places)
                raise EngineError(
                    f"{error}: {ended:,} of {self.total:,} trials are finished and kept in {str(self.results.out)!r}: "
                    "go on with the others by resume=True"
                ) from error
        self._keep(True)
        return self.results

    def _orders(self, left: Sequence[Ordered]) -> Iterator[Ordered]:
        yield from left
        for ordered in self.source.more():
            self._place(ordered)
            yield ordered

    def _place(self, ordered: Ordered) -> None:
        self._places.setdefault(ordered.order.path.name, len(self._places))

    def _take(self, ordered: Ordered, result: Result) -> None:
        self._by_place[self._places[ordered.order.path.name]] = result
        self.results[:] = [self._by_place[place] for place in sorted(self._by_place)]
        self.source.tell(ordered, result)

    def _keep(self, now: bool) -> None:
        if now:
            self.results.to_csv(self.results.out / "results.csv")
            self._kept = time.monotonic()

    @contextlib.contextmanager
    def _bar(self) -> Iterator[Callable[[Result], None]]:
        """Show a bar over the trials, with the best so far; give what is called with each result."""
        if not self._shown:
            yield lambda result: None
            return
        from tqdm import tqdm  # here, not above: it takes as long to import as all of minirnn

        done = len(self.results)
        with tqdm(
            total=self.total, initial=done, leave=False, bar_format=_BAR, mininterval=0, miniters=1, **size_of_bar()
        ) as bar:

            def say(result: Result) -> None:
                if (best := self.results.best) is not None:
                    figure = next(iter(best.figures.values()))
                    bar.set_postfix_str(f"best {figure:.4g}: {self.results.label(best)}", refresh=False)
                bar.update()

            if done:
                bar.update(0)
            yield say


def _run(ordered: Ordered) -> Result:
    return run_trial(ordered.order)
