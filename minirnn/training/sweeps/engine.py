"""Where trials run: one after the other in this process, in a pool on this machine, or on a dask cluster.

distributed does the work: it hands out what is to be run, begins workers anew that have died, and gives what they had
to others.
"""

import contextlib
import logging
import os
import reprlib
import warnings
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager
from itertools import islice
from typing import Any, TypeVar

from minirnn.arguments import as_size
from minirnn.layers.threads import available_cpus, can_tell, get_num_threads, set_num_threads

P = TypeVar("P")
R = TypeVar("R")

AT_ONCE = 1000
"""Payloads that a cluster is told of at least, so that none of its workers waits; more are a burden to it."""
TIMEOUT = 10
"""Seconds in which a scheduler must answer."""
_WORKER = "minirnn.training.sweeps.worker"
_LOGS = ("distributed", "tornado.application")


class EngineError(RuntimeError):
    """The engine itself broke: no scheduler answers, or it is gone."""


class LostError(RuntimeError):
    """The process that ran something was killed, as often as it was tried."""


def package(name: str, caller: str) -> Any:
    """Import a package of the extra ``sweep``, or say what to install."""
    from importlib import import_module

    try:
        return import_module(name)
    except ImportError:
        root = name.split(".")[0]
        raise ImportError(f'{caller} needs {root}, which is not installed: try pip install "minirnn[sweep]"') from None


class Engine:
    """Runs a function on many payloads, each in a thread or process with one thread for BLAS and minirnn.

    Parameters
    ----------
    where : None, int, str or distributed.Client
        A number of processes on this machine, 1 for this one; the address of a scheduler, such as
        ``"tcp://host:8786"``; or a Client. None: a process for each CPU that may be used, or this one alone where
        distributed is not installed, or where there is a single CPU.
    caller : str
        What errors begin with.
    """

    def __init__(self, where: Any, caller: str) -> None:
        self.caller, self.note = caller, ""
        if where is None:
            where, self.note = _usual()
        self.where = where
        if not isinstance(where, str) and not hasattr(where, "submit"):
            self.where = where if where is None else as_size(where, f"{caller}: engine")
        if self.where != 1:
            package("distributed", f"{caller}: engine={reprlib.repr(where)}")

    def __str__(self) -> str:
        if self.where == 1:
            return "one after the other in this process"
        if isinstance(self.where, int):
            return f"{self.where} processes on this machine, one thread each"
        return f"the workers of {self.where if isinstance(self.where, str) else self.where.scheduler.address}"

    def each(
        self, function: Callable[[P], R], payloads: Iterable[P], at_once: int | None = None
    ) -> Generator[tuple[P, R | Exception], None, None]:
        """Yield each payload with what the function returned, or raised, as they come; close it to give up the others.

        At most ``at_once`` payloads are drawn before the first of them comes back: 0 for as many as there are workers.
        """
        if self.where == 1:
            yield from _here(function, payloads)
            return
        with self._client() as client:
            yield from self._on(client, function, iter(payloads), at_once)

    @contextmanager
    def _client(self) -> Iterator[Any]:
        """Connect to the scheduler, or to one of our own, whose workers end with this process."""
        distributed = package("distributed", self.caller)
        if not isinstance(self.where, int | str):
            yield self.where
        elif isinstance(self.where, str):
            try:
                client = distributed.Client(self.where, timeout=TIMEOUT, set_as_default=False)
            except (OSError, ValueError, TypeError) as error:
                fault = " ".join(str(error).split()) or type(error).__name__
                raise EngineError(
                    f"{self.caller}: no scheduler answered at {self.where!r} within {TIMEOUT} s: start one with dask "
                    f"scheduler, or check the address ({fault})"
                ) from None
            with _quiet(), client:
                if not client.nthreads():
                    warnings.warn(
                        f"{self.caller}: the scheduler at {self.where} has no workers yet, and trials wait for the "
                        f"first: start one with dask worker {self.where}",
                        stacklevel=4,
                    )
                yield client
        else:
            own = {
                "n_workers": self.where,
                "threads_per_worker": 1,
                "host": "127.0.0.1",
                "dashboard_address": "127.0.0.1:0",
            }
            own |= {"memory_limit": 0, "preload": _WORKER, "silence_logs": logging.CRITICAL}
            cluster = distributed.LocalCluster
            with _quiet(), cluster(**own) as pool, distributed.Client(pool, set_as_default=False) as client:
                yield client

    def _on(
        self, client: Any, function: Callable[[P], R], payloads: Iterator[P], at_once: int | None
    ) -> Iterator[tuple[P, R | Exception]]:
        distributed = package("distributed", self.caller)
        running: dict[Any, P] = {}
        done = distributed.as_completed(loop=client.loop)

        def more() -> None:
            workers = sum(client.nthreads().values()) or 1
            most = (at_once or workers) if at_once is not None else max(AT_ONCE, 4 * workers)
            for payload in islice(payloads, max(0, most - len(running))):
                future = client.submit(alone, function, payload, pure=False)
                running[future] = payload
                done.add(future)

        try:
            more()
            for future in done:
                payload = running.pop(future)
                outcome = self._outcome(distributed, future)
                yield payload, outcome
                more()
        except (distributed.CancelledError, OSError) as error:
            raise self._gone() from error
        finally:
            with contextlib.suppress(Exception):
                client.cancel(list(running))

    def _outcome(self, distributed: Any, future: Any) -> Any:
        """Return what the function returned or raised; EngineError where nobody can know."""
        if future.status in ("cancelled", "lost"):
            raise self._gone()
        error = future.exception()
        if isinstance(error, distributed.KilledWorker):
            return LostError("the process that ran it was killed each time, which happens when memory runs out")
        return future.result() if error is None else error

    def _gone(self) -> EngineError:
        where = self.where if isinstance(self.where, str) else "of this sweep"
        return EngineError(f"{self.caller}: the scheduler {where} is gone")


def _usual() -> tuple[int, str]:
    """Return the number of processes that suits this machine, and what is to be said of it."""
    cpus = available_cpus()
    if cpus == 1:
        return 1, ""
    try:
        package("distributed", "")
    except ImportError:
        return 1, f'for a process on each of the {cpus} CPUs: pip install "minirnn[sweep]"'
    return cpus, ""


def _here(function: Callable[[P], R], payloads: Iterable[P]) -> Iterator[tuple[P, R | Exception]]:
    for payload in payloads:
        with _one_thread():
            try:
                outcome: R | Exception = function(payload)
            except Exception as error:
                outcome = error
        yield payload, outcome


def alone(function: Callable[[P], R], payload: P) -> R:
    """Call a function in a worker of a cluster, which has one thread for BLAS and minirnn from then on."""
    set_num_threads(1)
    if not can_tell():
        raise RuntimeError(
            "numpy's BLAS has several threads in this worker, which can change the last digits: start it with "
            "OPENBLAS_NUM_THREADS=1, or install threadpoolctl there"
        )
    return function(payload)


@contextmanager
def _one_thread() -> Iterator[None]:
    before = get_num_threads()
    set_num_threads(1)
    try:
        yield
    finally:
        if before != 1:
            set_num_threads(before)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep what a cluster logs of workers that die or end off the terminal: what matters comes back as an outcome.

    What it sets in the environment, for its workers, is taken back in the end.
    """
    environment = dict(os.environ)
    loggers = [logging.getLogger(name) for name in _LOGS]
    before = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.CRITICAL + 1)
        yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)
        for name in os.environ.keys() - environment.keys():
            del os.environ[name]
        os.environ.update(environment)
