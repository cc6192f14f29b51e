import os
import time

import pytest
from error_texts import raises

from minirnn.reproductions.base import Job
from minirnn.reproductions.running import run_all, run_one
from minirnn.threads import get_num_threads


def figures(*, seed, factor):
    return {"value": float(seed * factor), "threads": float(get_num_threads()), "process": float(os.getpid())}


def failing(*, seed):
    raise ArithmeticError("no root of it")


def waiting(*, seed):
    time.sleep(60)
    return {}


def test_jobs_run_in_other_processes_with_one_thread_each():
    found, before = [], dict(os.environ)
    run_all([Job("a", seed, figures, {"factor": 10}) for seed in (1, 2, 3)], 2, found.append)
    assert sorted(result.figures["value"] for result in found) == [10, 20, 30]
    assert {result.figures["threads"] for result in found} == {1.0}
    assert os.getpid() not in {result.figures["process"] for result in found}
    assert all(result.seconds > 0 for result in found)
    assert dict(os.environ) == before


def test_no_jobs_are_no_work():
    run_all([], 2, lambda result: pytest.fail("there was nothing to do"))


def test_a_job_that_fails_is_named_and_the_others_are_given_up():
    start = time.perf_counter()
    jobs = [Job("sound", 0, waiting, {}), Job("adding, T = 3", 7, failing, {})]
    with raises(RuntimeError, "adding, T = 3, seed 7: ArithmeticError: no root of it"):
        run_all(jobs, 2, lambda result: None)
    assert time.perf_counter() - start < 30


def test_one_job_here_and_now():
    result = run_one(Job("a", 4, figures, {"factor": 2}))
    assert (result.setting, result.seed, result.figures["value"]) == ("a", 4, 8.0)
    assert result.figures["process"] == os.getpid()
