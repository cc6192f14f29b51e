"""Runs the jobs of a paper, by the engine of `minirnn.training.sweep`."""

import time
from collections.abc import Callable, Sequence
from contextlib import closing

from benchmarks.papers.base import Job, Result
from minirnn.training.sweeps.engine import Engine, LostError


class JobError(RuntimeError):
    """A job failed."""


def run_all(jobs: Sequence[Job], engine: Engine, done: Callable[[Result], object]) -> None:
    """Run all jobs, and call ``done`` with each result as it comes.

    The figures do not depend on where they run: each job has one thread and its own seed.

    Raises
    ------
    JobError
        When a job fails, naming it, or its process is killed each time; all others are given up.
    """
    if not jobs:
        return
    with closing(engine.each(run_one, jobs)) as outcomes:
        for job, outcome in outcomes:
            if isinstance(outcome, LostError):
                hint = "was there enough memory? --jobs 1 takes less, and --resume goes on from here"
                raise JobError(f"papers: {job.setting}, seed {job.seed}: {outcome}: {hint}")
            if isinstance(outcome, Exception):
                raise outcome
            done(outcome)


def run_one(job: Job) -> Result:
    """Run a job here and now."""
    start = time.perf_counter()
    try:
        figures = job.run(seed=job.seed, **job.arguments)
    except Exception as error:
        raise JobError(f"papers: {job.setting}, seed {job.seed}: {type(error).__name__}: {error}") from error
    return Result(job.setting, job.seed, figures, time.perf_counter() - start)
