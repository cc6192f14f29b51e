import os
import signal
import sys
import time

import pytest
from error_texts import raises

from benchmarks.papers.base import Job
from benchmarks.papers.running import JobError, run_all, run_one
from minirnn.layers.threads import get_num_threads
from minirnn.training.sweeps.engine import Engine


def figures(*, seed, factor):
    return {"value": float(seed * factor), "threads": float(get_num_threads()), "process": float(os.getpid())}


def failing(*, seed, after):
    until = time.monotonic() + 60
    while not after.exists() and time.monotonic() < until:
        time.sleep(0.01)
    raise ArithmeticError("no root of it")


def killed(*, seed):
    os.kill(os.getpid(), signal.SIGKILL)


def waiting(*, seed):
    time.sleep(600)
    return {}


def test_jobs_run_one_after_the_other_without_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    found = []
    engine = Engine(None, "papers")
    run_all([Job("a", seed, figures, {"factor": 10}) for seed in (1, 2, 3)], engine, found.append)
    assert [result.figures["value"] for result in found] == [10, 20, 30]
    assert {(result.figures["threads"], result.figures["process"]) for result in found} == {(1.0, float(os.getpid()))}
    run_all([], engine, lambda result: pytest.fail("there was nothing to do"))


@pytest.mark.peer
def test_jobs_run_in_other_processes_with_one_thread_each_and_one_that_fails_ends_them_all(distributed, tmp_path):
    found, three = [], tmp_path / "three"
    jobs = [Job("a", seed, figures, {"factor": 10}) for seed in (1, 2, 3)]
    jobs += [Job("sound", 0, waiting, {}), Job("adding, T = 3", 7, failing, {"after": three})]

    def done(result):
        found.append(result)
        if len(found) == 3:  # else the failure may come before what was ready earlier
            three.touch()

    before = dict(os.environ)
    start = time.perf_counter()
    with raises(JobError, "papers: adding, T = 3, seed 7: ArithmeticError: no root of it"):
        run_all(jobs, Engine(2, "papers"), done)
    assert time.perf_counter() - start < 300
    assert dict(os.environ) == before
    assert sorted(result.figures["value"] for result in found) == [10, 20, 30]
    assert {result.figures["threads"] for result in found} == {1.0}
    assert os.getpid() not in {result.figures["process"] for result in found}
    assert all(result.seconds > 0 for result in found)


@pytest.mark.peer
def test_a_job_whose_process_is_killed_each_time_is_said_to_be(distributed):
    hint = "was there enough memory? --jobs 1 takes less, and --resume goes on from here"
    fault = "the process that ran it was killed each time, which happens when memory runs out"
    with raises(JobError, f"papers: short of memory, seed 0: {fault}: {hint}"):
        run_all([Job("short of memory", 0, killed, {})], Engine(2, "papers"), lambda result: None)


def test_one_job_here_and_now():
    result = run_one(Job("a", 4, figures, {"factor": 2}))
    assert (result.setting, result.seed, result.figures["value"]) == ("a", 4, 8.0)
    assert result.figures["process"] == os.getpid()
