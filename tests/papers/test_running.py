import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from error_texts import raises

from benchmarks.papers.base import Job
from benchmarks.papers.running import JobError, run_all, run_one
from minirnn.layers.threads import get_num_threads


def figures(*, seed, factor):
    return {"value": float(seed * factor), "threads": float(get_num_threads()), "process": float(os.getpid())}


def failing(*, seed):
    raise ArithmeticError("no root of it")


def killed(*, seed):
    os.kill(os.getpid(), signal.SIGKILL)


def noting(*, seed, folder):
    with open(f"{folder}/{os.getpid()}.pid", "w"):
        time.sleep(60)
    return {}


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
    run_all([], 2, lambda result: pytest.fail("there was nothing to do"))


def test_a_job_that_fails_is_named_and_the_others_are_given_up():
    start = time.perf_counter()
    jobs = [Job("sound", 0, waiting, {}), Job("adding, T = 3", 7, failing, {})]
    with raises(JobError, "papers: adding, T = 3, seed 7: ArithmeticError: no root of it"):
        run_all(jobs, 2, lambda result: None)
    assert time.perf_counter() - start < 30
    wait_until(lambda: not any(is_alive(process.pid) for process in multiprocessing.active_children()))


def test_a_process_that_is_killed_is_said_to_be():
    text = "papers: a process was killed: was there enough memory? --jobs 1 takes less, and --resume goes on from here"
    with raises(JobError, text):
        run_all([Job("sound", 0, waiting, {}), Job("short of memory", 0, killed, {})], 2, lambda result: None)
    wait_until(lambda: not any(is_alive(process.pid) for process in multiprocessing.active_children()))


PROGRAM = """
import sys
from test_running import Job, noting, run_all
if __name__ == "__main__":
    run_all([Job("a", n, noting, {"folder": sys.argv[1]}) for n in range(4)], 2, print)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_no_process_is_left_when_it_is_ended(number, tmp_path):
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    here = Path(__file__).parent
    paths = [*map(str, (here, *here.parents[:2])), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}
    with subprocess.Popen(
        [sys.executable, program, tmp_path], env=environment, stderr=subprocess.PIPE, text=True
    ) as parent:
        try:
            wait_until(lambda: len(list(tmp_path.glob("*.pid"))) == 2)
            parent.send_signal(number)
            _, errors = parent.communicate(timeout=30)
        finally:
            parent.kill()
    assert parent.returncode != 0
    assert errors.count("KeyboardInterrupt") <= 1  # of the parent alone
    children = [int(path.stem) for path in tmp_path.glob("*.pid")]
    wait_until(lambda: not any(map(is_alive, children)))


def wait_until(true, seconds=30):
    end = time.perf_counter() + seconds
    while not true():
        assert time.perf_counter() < end
        time.sleep(0.02)


def is_alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    try:  # one that nobody has waited for yet is no more
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def test_one_job_here_and_now():
    result = run_one(Job("a", 4, figures, {"factor": 2}))
    assert (result.setting, result.seed, result.figures["value"]) == ("a", 4, 8.0)
    assert result.figures["process"] == os.getpid()
