"""Runs the jobs of a paper, in several processes."""

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager

from benchmarks.papers.base import Job, Result
from minirnn.layers.threads import set_num_threads

_BLAS = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")


class JobError(RuntimeError):
    """A job failed."""


def run_all(jobs: Sequence[Job], processes: int, done: Callable[[Result], object]) -> None:
    """Run all jobs, and call ``done`` with each result as it comes.

    The figures do not depend on the number of processes: each job has one thread and its own seed.

    Raises
    ------
    JobError
        When a job fails, naming it, or its process is killed; all others are given up.

    Notes
    -----
    Ctrl-C is for this process, which ends the others; they also end when this one is killed.
    """
    if not jobs:
        return
    before = multiprocessing.active_children()
    # Fresh processes, not forks: numpy's threads do not survive a fork.
    context = multiprocessing.get_context("spawn")
    with _one_thread_each(), ProcessPoolExecutor(min(processes, len(jobs)), context, _prepare) as pool:
        try:
            # A pool does not watch a process that it began while it was waiting, and would miss its death.
            wait([pool.submit(int) for _ in range(processes)])
            futures = [pool.submit(run_one, job) for job in jobs]
            for future in as_completed(futures):
                done(future.result())
        except BaseException as error:
            pool.shutdown(wait=False, cancel_futures=True)
            for process in set(multiprocessing.active_children()) - set(before):
                process.terminate()
                process.join()
            if isinstance(error, BrokenProcessPool):
                hint = "was there enough memory? --jobs 1 takes less, and --resume goes on from here"
                raise JobError(f"papers: a process was killed: {hint}") from error
            raise


def run_one(job: Job) -> Result:
    """Run a job here and now."""
    start = time.perf_counter()
    try:
        figures = job.run(seed=job.seed, **job.arguments)
    except Exception as error:
        raise JobError(f"papers: {job.setting}, seed {job.seed}: {type(error).__name__}: {error}") from error
    return Result(job.setting, job.seed, figures, time.perf_counter() - start)


@contextmanager
def _one_thread_each() -> Iterator[None]:
    """Within it new processes hold BLAS to one thread: it reads these variables when it is loaded."""
    before = {name: os.environ.get(name) for name in _BLAS}
    os.environ.update(dict.fromkeys(_BLAS, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _prepare() -> None:
    """Make a new process ready: with one thread, deaf to Ctrl-C, and not outliving the one that began it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    set_num_threads(1)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
