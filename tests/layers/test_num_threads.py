"""set_num_threads, the mini-batch split over threads, and BLAS held to one thread meanwhile."""

import concurrent.futures
import itertools
import linecache
import os
import re
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
from error_texts import raises
from pairwise import pairwise
from recurrent_cases import BUILT_IN, Problem, assert_equal

import minirnn as mr
from minirnn.layers import threads


class Blas:
    """A BLAS that remembers what it was told."""

    def __init__(self, n=4):
        self.n, self.told = n, []

    def get_num_threads(self):
        return self.n

    def set_num_threads(self, n):
        self.n = n
        self.told.append(n)


@pytest.fixture
def blas(monkeypatch):
    """A BLAS of ours instead of numpy's, reached through threadpoolctl."""
    library = Blas()
    monkeypatch.setattr(threads, "_controlled", lambda: [library])
    return library


@pytest.fixture
def alone(monkeypatch):
    """No threadpoolctl, and no variable that says how many threads BLAS has."""
    monkeypatch.setattr(threads, "_controlled", list)
    monkeypatch.setattr(threads, "ASKED", None)


@contextmanager
def held(holder="a layer"):
    threads._hold(holder)
    yield
    threads._release(holder)


@pytest.fixture
def split_always(monkeypatch):
    """Let every mini-batch be worth splitting."""
    for constant in ("ALONE", "SMALL", "PART", "FEWEST_NEURONS", "FEWEST_ROWS"):
        monkeypatch.setattr(threads, constant, 1)


# --- the number ------------------------------------------------------------------------------------------------------


def test_at_the_start_it_is_the_cpus_that_the_process_may_use_or_that_there_are(monkeypatch, blas):
    monkeypatch.setattr(threads, "ASKED", None)
    assert mr.get_num_threads() == threads.available_cpus() == len(os.sched_getaffinity(0))
    monkeypatch.delattr(os, "sched_getaffinity")
    for there, expected in ((6, 6), (None, 1)):
        monkeypatch.setattr(os, "cpu_count", lambda there=there: there)
        assert mr.get_num_threads() == expected


VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "BLIS_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")


@pytest.mark.parametrize(
    ("said", "expected"),
    [({name: "3"}, 3) for name in VARIABLES]
    + [
        ({}, 4),
        ({"OMP_NUM_THREADS": "2", "MKL_NUM_THREADS": "3"}, 2),
        ({"OMP_NUM_THREADS": " 3,2"}, 3),  # of loops within loops
        ({"OMP_NUM_THREADS": "64"}, 4),  # never more than there are
        ({"OMP_NUM_THREADS": "0", "MKL_NUM_THREADS": "many", "BLIS_NUM_THREADS": ""}, 4),
    ],
)
def test_at_the_start_it_is_no_more_than_the_variables_say(said, expected, monkeypatch, blas):
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    for name, value in said.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(threads, "ASKED", threads._asked())
    monkeypatch.setattr(threads, "available_cpus", lambda: 4)
    assert mr.get_num_threads() == expected
    mr.set_num_threads(8)
    assert mr.get_num_threads() == 8


def test_a_worker_that_is_to_use_one_thread_uses_one():
    code = "import minirnn as mr; print(mr.get_num_threads(), mr.layers.threads.plan(100, 64, 128, 256))"
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, check=True, capture_output=True, text=True)
    assert done.stdout == "1 (1, None)\n"


def test_without_threadpoolctl_it_is_one_and_that_blas_is_not_told_is_said_once(alone, monkeypatch):
    assert mr.get_num_threads() == 1
    message = (
        "set_num_threads: numpy's BLAS keeps the threads it has, since there is no threadpoolctl: "
        'pip install "minirnn[threads]", or set OPENBLAS_NUM_THREADS before Python starts'
    )
    with pytest.warns(UserWarning, match=f"^{re.escape(message)}$") as caught:
        mr.set_num_threads(2)
    assert caught[0].filename == __file__
    mr.set_num_threads(1)
    threads._state.said = False
    monkeypatch.setattr(threads, "ASKED", 3)
    mr.set_num_threads(3)  # which BLAS has read as well
    monkeypatch.setattr(threads, "ASKED", 1)
    mr.set_num_threads(2)  # each of ours with BLAS at one thread
    assert mr.get_num_threads() == 2


def test_what_is_set_is_what_is_got_and_blas_is_told(blas):
    mr.set_num_threads(3)
    assert mr.get_num_threads() == 3
    assert blas.told == [3]
    mr.set_num_threads(np.int64(1))
    assert mr.get_num_threads() == 1
    assert type(mr.get_num_threads()) is int


@pytest.mark.parametrize(
    ("n", "kind", "message"),
    [
        (0, ValueError, "an int ≥ 1, got 0: try 1 or more"),
        (2.0, TypeError, "an int ≥ 1, got 2.0 (float): try 2"),
        (True, TypeError, "an int ≥ 1, got True (bool): try 1"),
        (2_000_000, ValueError, "at most 1024, got 2000000: try 2, the CPUs here"),
    ],
)
def test_a_number_that_is_none_is_refused_and_changes_nothing(n, kind, message, blas, monkeypatch):
    mr.set_num_threads(2)
    monkeypatch.setattr(threads, "available_cpus", lambda: 2)
    with raises(kind, f"set_num_threads: n must be {message}"):
        mr.set_num_threads(n)
    assert mr.get_num_threads() == 2
    assert blas.told == [2]


def test_the_number_is_process_wide():
    mr.set_num_threads(5)
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        assert pool.submit(mr.get_num_threads).result() == 5


# --- BLAS ------------------------------------------------------------------------------------------------------------


def test_numpys_own_blas_is_found_and_told():
    """Through threadpoolctl, which the extra ``test`` brings."""
    libraries = threads._controlled()
    assert libraries
    mr.set_num_threads(2)
    assert {library.get_num_threads() for library in libraries} == {2}
    with held():
        assert {library.get_num_threads() for library in libraries} == {1}
    assert {library.get_num_threads() for library in libraries} == {2}


def test_of_several_libraries_numpys_own_is_told(monkeypatch):
    import threadpoolctl

    other, own = (SimpleNamespace(filepath=f"/site/{name}/blas.so") for name in ("scipy.libs", "numpy.libs"))
    for libraries, told in (([other, own], [own]), ([other], [other])):
        found = SimpleNamespace(select=lambda user_api, of=libraries: SimpleNamespace(lib_controllers=of))
        monkeypatch.setattr(threadpoolctl, "ThreadpoolController", lambda found=found: found)
        assert threads._controlled.__wrapped__() == told


def test_blas_goes_back_to_what_it_was_and_the_last_to_leave_does_it(blas):
    with held("one"):
        assert blas.n == 1
        with held("another"):
            assert blas.n == 1
        assert blas.n == 1
    assert blas.n == 4
    threads._release("one")  # once more
    assert blas.told == [1, 4]


def test_a_number_set_while_blas_is_held_comes_into_force_afterwards(blas):
    with held():
        mr.set_num_threads(3)
        assert blas.n == 1
    assert blas.n == 3


@pytest.mark.parametrize(
    ("found", "asked", "possible"), [(1, None, True), (0, 4, False), (0, None, False), (0, 1, True)]
)
def test_no_split_while_blas_has_threads_of_its_own_and_cannot_be_held(
    found, asked, possible, monkeypatch, split_always
):
    monkeypatch.setattr(threads, "_controlled", lambda: [Blas()] * found)
    monkeypatch.setattr(threads, "ASKED", asked)
    threads._state.threads = 2
    assert threads.can_tell() == possible
    assert threads.plan(9, 8, 4, 4) == ((2, threads.at_once) if possible else (1, None))


# --- the rule --------------------------------------------------------------------------------------------------------


def test_one_thread_never_splits_and_there_are_no_more_parts_than_rows(blas, split_always):
    mr.set_num_threads(1)
    assert threads.plan(100, 64, 128, 256) == (1, None)
    mr.set_num_threads(8)
    assert threads.plan(5, 3, 5, 5) == (3, threads.at_once)


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((50, 1, 10, 20), (1, None)),  # BLAS shares out none of its products
        ((10_000, 16, 3, 16), (1, None)),  # of no chunk of steps
        ((10_000, 16, 3, 17), (1, threads.at_once)),
        ((10_000, 16, 17, 16), (1, threads.at_once)),
        ((2, 8000, 1, 4), (1, None)),  # nor of all rows of a step
        ((2, 8000, 1, 5), (1, threads.at_once)),  # of x, 1 and h together
        ((10_000, 32, 3, 11, 4), (1, None)),  # gates have smaller chunks
        ((10_000, 32, 3, 12, 4), (1, threads.at_once)),
        ((400, 16, 2, 100), (1, threads.at_once)),  # small steps: BLAS is held at one thread
        ((50, 256, 64, 64), (1, None)),  # BLAS's own threads
        ((100, 64, 128, 256), (2, threads.at_once)),
        ((64, 128, 256, 512), (4, threads.at_once)),
        ((50, 16, 256, 512), (1, None)),  # too few rows
        ((50, 4096, 256, 128), (1, None)),  # too few neurons
        ((100, 1, 4096, 4096), (1, None)),  # one row
    ],
)
def test_the_rule(shape, expected, blas):
    mr.set_num_threads(4)
    assert threads.plan(*shape) == expected


@pytest.mark.parametrize(
    ("kernels", "most"), [(["SkylakeX"], 31), (["SkylakeX", "Haswell"], 16), (["Haswell"], 16), ([], 16)]
)
def test_kernels_for_avx512_share_out_less(kernels, most, monkeypatch):
    """1024 rows of a chunk, times H²: at most a million multiplications, or 2¹⁸."""
    libraries = [SimpleNamespace(architecture=kernel, set_num_threads=lambda n: None) for kernel in kernels]
    monkeypatch.setattr(threads, "_controlled", lambda: libraries)
    threads._state.threads = 2
    assert [threads.few(10_000, 16, 3, H) for H in (most, most + 1)] == [True, False]
    assert [threads.plan(10_000, 16, 3, H)[1] for H in (most, most + 1)] == [None, threads.at_once]


def test_one_task_is_run_here_with_blas_at_one_thread(blas):
    assert threads.at_once([lambda: (blas.n, threading.current_thread())]) == [(1, threading.current_thread())]
    assert blas.n == 4


# --- running ---------------------------------------------------------------------------------------------------------


def test_results_come_in_order_and_the_first_task_runs_here(blas):
    def task(i):
        assert blas.n == 1
        return i, threading.current_thread()

    results = threads.at_once([partial(task, i) for i in range(4)])
    assert [i for i, _ in results] == [0, 1, 2, 3]
    assert results[0][1] is threading.current_thread()
    assert all(thread is not threading.current_thread() for _, thread in results[1:])
    assert blas.n == 4


@pytest.mark.parametrize("at_fault", [0, 1, 2])
def test_an_error_waits_for_all_and_blas_is_put_back(at_fault, blas):
    ended = []

    def task(i):
        if i == at_fault:
            raise ArithmeticError(f"task {i}")
        threading.Event().wait(0.02)
        ended.append(i)

    with raises(ArithmeticError, f"task {at_fault}"):
        threads.at_once([partial(task, i) for i in range(3)])
    assert sorted(ended) == [i for i in range(3) if i != at_fault]
    assert blas.n == 4


@pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="this system has no such signals")
def test_ctrl_c_waits_for_all(blas):
    ended, main = [], threading.main_thread().ident

    def slow():
        for _ in range(2):
            signal.pthread_kill(main, signal.SIGINT)
            threading.Event().wait(0.02)
        ended.append(1)

    with pytest.raises(KeyboardInterrupt):
        threads.at_once([lambda: None, slow])
    assert ended == [1]
    assert blas.n == 4


def test_the_callers_numpy_settings_hold_in_every_thread(blas):
    def task():
        return np.float32(1) / np.zeros(1, np.float32)

    with np.errstate(divide="ignore"):
        threads.at_once([task, task])
    with np.errstate(divide="raise"), pytest.raises(FloatingPointError):
        threads.at_once([lambda: None, task])


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork.*:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:os.fork")  # jax says so wherever it has been imported, here by other tests
def test_a_child_process_makes_threads_of_its_own(blas):
    threads.at_once([lambda: 1, lambda: 2])  # the parent has a worker now, the child will not
    with held():
        child = os.fork()
        if not child:
            good = blas.n == 4 and threads.at_once([lambda: 1, lambda: 2]) == [1, 2]
            os._exit(0 if good else 1)
    _, status = os.waitpid(child, 0)
    assert status == 0


class Interrupted(BaseException):
    """What a signal raises."""


OURS = (
    threads.at_once,
    threads._held,
    threads._wait,
    threads._end,
    threads._hold,
    threads._release,
    threads._Other.__init__,
)


def interrupted_at(place, tasks):
    """Run the tasks, interrupted at the so-maniest line of this thread's; return whether there is such a line."""
    codes, passed = {function.__code__ for function in OURS}, itertools.count()

    def trace(frame, event, argument):
        if frame.f_code not in codes:
            return None
        line = linecache.getline(frame.f_code.co_filename, frame.f_lineno).strip()
        # No signal comes between the end of a with block and its lock's release: that is one call, of C.
        if event == "line" and not line.startswith("with ") and next(passed) == place:
            raise Interrupted
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        threads.at_once(tasks)
    except Interrupted:
        return True
    finally:
        sys.settrace(before)
    return False


@pytest.mark.parametrize("n", [1, 3])
def test_wherever_an_interrupt_comes_blas_is_put_back_and_nobody_works_on(n, blas):
    """At each line; once BLAS is back at 4, no task of ours runs, or will."""
    running = []

    def task():
        running.append(1)
        assert blas.n == 1
        time.sleep(0.002)
        running.pop()

    for place in itertools.count():
        interrupted = interrupted_at(place, [task] * n)
        assert (blas.n, threads._state.holders, running) == (4, set(), [])
        if not interrupted:
            break
    assert place > 15
    assert threads.at_once([lambda: 1] * n) == [1] * n
    assert running == []


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="this system has no such timer")
def test_real_signals_leave_blas_as_it_was(blas):
    """As many as there is time for, each after a random while, with a BLAS that takes its time."""

    def interrupt(number, frame):
        raise Interrupted

    def slow(set_to):
        time.sleep(1e-5)
        Blas.set_num_threads(blas, set_to)
        time.sleep(1e-5)

    blas.set_num_threads = slow
    before, came = signal.signal(signal.SIGALRM, interrupt), 0
    rng = np.random.default_rng(0)
    try:
        for after in rng.uniform(1e-5, 6e-4, 400):
            try:
                signal.setitimer(signal.ITIMER_REAL, after)
                threads.at_once([lambda: None] * int(1 + after // 3e-4))
                signal.setitimer(signal.ITIMER_REAL, 0)
            except Interrupted:
                came += 1
            assert (blas.n, threads._state.holders) == (4, set())
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert came > 20


# --- the layer -------------------------------------------------------------------------------------------------------

T, N, D, H = SHAPE = 6, 7, 3, 5
OPTIONS = {"bias": [True, False], "reverse": [False, True], "batch_first": [False, True], "remat": [False, True, 4]}


@pytest.mark.parametrize("point", pairwise({"kind": BUILT_IN} | OPTIONS), ids=lambda point: point["kind"])
def test_across_thread_counts_the_numbers_are_the_same_to_1e_12(point, split_always):
    remat = point.pop("remat")
    problem = Problem(shape=SHAPE, **point)
    layer = problem.layer(remat=remat)
    mr.set_num_threads(1)
    one = problem.run(layer)
    for n in (2, 3, 8):
        mr.set_num_threads(n)
        assert threads.plan(T, N, D, H)[0] == min(n, N)
        assert_equal(problem.run(layer), one)


@pytest.mark.parametrize(("kind", "gates"), [("tanh", 1), ("lstm", 4), ("gru", 3)])
def test_a_layer_is_split_as_is_planned_for_its_shape(kind, gates, monkeypatch):
    asked, plan = [], threads.plan
    monkeypatch.setattr(threads, "plan", lambda *shape: asked.append(shape) or plan(*shape))
    Problem(kind, SHAPE).run()
    assert asked[-1] == (T, N, D, H, gates)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_for_one_thread_count_the_numbers_are_the_same_bit_for_bit(dtype, split_always):
    mr.set_num_threads(3)
    problem = Problem("tanh", SHAPE, dtype=dtype)
    first = problem.run()
    for _ in range(20):
        assert_equal(problem.run(), first, 0)


def test_the_split_is_what_forward_decided(split_always):
    """Backward goes the way forward went, although the number of threads has changed in between."""
    layer = mr.RecurrentLayer(D, H, rng=0)
    x = np.ones((T, N, D), np.float32)
    mr.set_num_threads(2)
    layer(x).outputs.sum().backward()
    expected = [p.grad for p in layer.parameters()]
    layer.zero_grad()
    loss = layer(x).outputs.sum()
    mr.set_num_threads(1)
    loss.backward()
    for p, g in zip(layer.parameters(), expected, strict=True):
        np.testing.assert_array_equal(p.grad, g)


def test_layers_in_several_threads_can_split_at_once(split_always):
    mr.set_num_threads(2)
    problem = Problem("tanh", SHAPE)
    expected = problem.run()
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        for found in pool.map(lambda _: problem.run(), range(20)):
            assert_equal(found, expected, 0)
