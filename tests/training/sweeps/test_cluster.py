"""Sweeps in several processes: the same bits as alone, whatever is killed."""

import contextlib
import logging
import os
import random
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import sweep_runs
from sweep_runs import at_work, ended, is_alive, lines, wait_until

from minirnn.training import EngineError, sweep
from minirnn.training.sweeps import engine as engine_module

pytestmark = pytest.mark.peer
PAUSE = 0.01
HERE = Path(sweep_runs.__file__).parent


@pytest.fixture(autouse=True)
def found_by_workers(distributed, monkeypatch):
    paths = [str(HERE), *sys.path]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, paths)))


@pytest.fixture(scope="module")
def serial(tmp_path_factory):
    """The results of one process, and its histories."""
    out = tmp_path_factory.mktemp("serial")
    results = sweep(sweep_runs.train, sweep_runs.GRID, seeds=2, out=out, engine=1, progress=False)
    return lines(results), sweep_runs.histories(out)


@contextlib.contextmanager
def cluster_elsewhere():
    """Give the process of a cluster, and its address."""
    command = [sys.executable, HERE / "cluster_process.py"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process, process.stdout.readline().strip()
        finally:
            process.stdin.close()
            process.stdin = None
            if process.wait(30):
                process.kill()


def swept(out, engine, pause=0.0, **settings):
    run = sweep_runs.slow(pause)
    return sweep(run, sweep_runs.GRID, seeds=2, out=out, engine=engine, progress=False, **settings)


def once_and_the_same(results, out, serial):
    """Whether every trial's result is there once, on disk too, and that of one process."""
    table = (out / "results.csv").read_text(encoding="utf-8").splitlines()[1:]
    assert lines(results) == serial[0]
    assert [line.split(",")[0] for line in table] == [name for name, *_ in serial[0]]
    assert sweep_runs.histories(out) == serial[1]
    assert ended(out) == len(serial[0])
    return True


@contextlib.contextmanager
def killing_workers(out, times, draw):
    """Meanwhile kill workers that are at work, at random moments; give the list of those that were."""
    killed, over = [], threading.Event()

    def kill():
        while len(killed) < times and not over.is_set():
            if over.wait(draw.uniform(0.0, 0.4)):
                return
            pids = [pid for pid in at_work(out) if pid not in killed and pid != os.getpid()]
            if pids and sweep_runs.kill(pid := draw.choice(pids)):
                killed.append(pid)

    thread = threading.Thread(target=kill)
    thread.start()
    try:
        yield killed
    finally:
        over.set()
        thread.join()


def test_a_cluster_gives_the_bits_of_one_process_and_so_does_a_client(tmp_path, serial, distributed):
    before = dict(os.environ)
    with cluster_elsewhere() as (_, address):
        assert once_and_the_same(swept(tmp_path / "address", address), tmp_path / "address", serial)
        with distributed.Client(address, set_as_default=False) as client:
            assert once_and_the_same(swept(tmp_path / "client", client), tmp_path / "client", serial)
            assert client.status == "running"  # it is not ours to close
    assert dict(os.environ) == before


def test_a_worker_that_is_killed_loses_nothing(tmp_path, serial):
    before = dict(os.environ)
    levels = [logging.getLogger(name).level for name in engine_module._LOGS]
    with killing_workers(tmp_path, 1, random.Random(0)) as killed:
        results = swept(tmp_path, 2, PAUSE)
    assert len(killed) == 1
    assert once_and_the_same(results, tmp_path, serial)
    assert dict(os.environ) == before
    assert [logging.getLogger(name).level for name in engine_module._LOGS] == levels


def started(out, workers, pause=PAUSE):
    return subprocess.Popen([sys.executable, HERE / "sweep_runs.py", str(workers), str(pause), str(out)])


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT], ids=lambda number: number.name)
def test_a_sweep_that_ended_goes_on_and_leaves_no_process(tmp_path, serial, number):
    with started(tmp_path, 2, 0.03) as process:
        wait_until(lambda: ended(tmp_path) >= 1 and len(at_work(tmp_path)) == 2)
        workers = at_work(tmp_path)
        process.send_signal(number)
    assert process.returncode == (130 if number == signal.SIGINT else -number)
    wait_until(lambda: not any(map(is_alive, workers)))
    done = ended(tmp_path)
    assert 1 <= done < len(serial[0])
    left = {path.parent.name for path in tmp_path.glob("*/began")}
    assert once_and_the_same(swept(tmp_path, 1, 0.03, resume=True), tmp_path, serial)
    again = [path for path in tmp_path.glob("*/began") if path.read_text().count("\n") > 1]
    assert len(again) == len(left) - done


def test_a_scheduler_that_goes_away_is_said_to_be_gone_and_what_is_finished_is_kept(tmp_path, serial):
    with cluster_elsewhere() as (process, address):

        def kill():
            wait_until(lambda: ended(tmp_path) >= 2)
            process.kill()

        thread = threading.Thread(target=kill)
        thread.start()
        gone = rf"^sweep: the scheduler {address} is gone: (\d) of 8 trials are finished and kept in "
        with pytest.raises(
            EngineError, match=gone + rf"{str(tmp_path)!r}: go on with the others by resume=True$"
        ) as error:
            swept(tmp_path, address, 0.03)
        thread.join()
    kept = int(re.search(gone, str(error.value))[1])
    assert 2 <= kept < 8
    assert once_and_the_same(swept(tmp_path, 1, 0.03, resume=True), tmp_path, serial)


def test_no_scheduler_and_no_workers(tmp_path, distributed, monkeypatch):
    monkeypatch.setattr(engine_module, "TIMEOUT", 0.5)
    hint = "start one with dask scheduler, or check the address"
    with pytest.raises(
        EngineError, match=rf"^sweep: no scheduler answered at 'tcp://127.0.0.1:9' within 0.5 s: {hint} \("
    ):
        swept(tmp_path, "tcp://127.0.0.1:9")
    local = {"n_workers": 0, "dashboard_address": "127.0.0.1:0", "silence_logs": logging.CRITICAL}
    with distributed.LocalCluster(**local) as cluster:
        address = cluster.scheduler_address
        text = (
            f"sweep: the scheduler at {address} has no workers yet, and trials wait for the first: start one with dask "
        )
        with (
            pytest.warns(UserWarning, match=f"^{text}worker {address}$"),
            engine_module.Engine(address, "sweep")._client() as client,
        ):
            assert client.nthreads() == {}


# --- the whole of it --------------------------------------------------------------------------------------------------


@pytest.mark.exhaustive
@pytest.mark.parametrize("sweeps", [3, pytest.param(20, marks=pytest.mark.soak)])
def test_sweeps_with_workers_killed_at_random_moments(sweeps, tmp_path, serial):
    draw, kills = random.Random(27), []
    for k in range(sweeps):
        out = tmp_path / str(k)
        with killing_workers(out, draw.randint(1, 3), draw) as killed:
            results = swept(out, 2, PAUSE)
        kills.append(len(killed))
        assert once_and_the_same(results, out, serial)
    print(f"{sweeps} sweeps of {len(serial[0])} trials, {sum(kills)} workers killed: {kills}")
    assert min(kills) >= 1


@pytest.mark.exhaustive
@pytest.mark.parametrize("sweeps", [3, pytest.param(10, marks=pytest.mark.soak)])
def test_sweeps_killed_at_random_moments_and_resumed(sweeps, tmp_path, serial):
    draw, done = random.Random(2027), []
    for k in range(sweeps):
        out = tmp_path / str(k)
        with started(out, 2) as process:
            wait_until(lambda out=out: any(out.glob("*/began")))
            time.sleep(draw.uniform(0.0, 1.5))
            process.kill()
        done.append(ended(out))
        assert once_and_the_same(swept(out, 2, PAUSE, resume=True), out, serial)
    print(f"{sweeps} sweeps of {len(serial[0])} trials killed when so many had ended: {done}")
    assert min(done) < len(serial[0])
