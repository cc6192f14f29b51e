"""How many threads minirnn may use: `set_num_threads`, `get_num_threads`, and what runs a layer's rows on them.

The number is process-wide, because BLAS's is.
"""

import contextvars
import ctypes
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np

from minirnn.arguments import as_size
from minirnn.kernels.scratch import Run

if TYPE_CHECKING:  # and in the functions that need them
    from concurrent.futures import Future, ThreadPoolExecutor

MOST = 1024
"""More threads than this are refused: it is a slip, not a machine."""


def available_cpus() -> int:
    """Return how many CPUs this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def set_num_threads(n: int) -> None:
    """Set how many threads, 1 to 1024, minirnn and numpy's BLAS may use in this process; at first one for each CPU.

    A recurrent layer with the fused backend splits its mini-batch over them where that pays (`plan`). That takes
    threadpoolctl (``pip install "minirnn[threads]"``), to hold BLAS to one thread meanwhile; without it a layer only
    splits if BLAS is at one thread anyway, as with OPENBLAS_NUM_THREADS=1, and BLAS itself is only told its number if
    it is the OpenBLAS that numpy's wheels bring.

    For one number of threads the results are the same at every run, bit for bit. Between two numbers they differ by
    rounding: the rows of a weight gradient are summed in another order.

    >>> import minirnn as mr
    >>> before = mr.get_num_threads()
    >>> mr.set_num_threads(1)
    >>> mr.get_num_threads()
    1
    >>> mr.set_num_threads(before)
    """
    n = as_size(n, "set_num_threads: n")
    if n > MOST:
        raise ValueError(f"set_num_threads: n must be at most {MOST}, got {n}: try {available_cpus()}, the CPUs here")
    with _state.lock:
        _state.threads = n
        if _state.holders and _controlled():  # without threadpoolctl nothing is held
            _state.before = [n] * len(_state.before)
        else:
            for library in _blas():
                library.set_num_threads(n)


def get_num_threads() -> int:
    """Return how many threads minirnn may use; see `set_num_threads`."""
    return _state.threads or available_cpus()


# --- BLAS ------------------------------------------------------------------------------------------------------------


_state = SimpleNamespace(  # what is process-wide
    lock=threading.Lock(),
    threads=0,  # as set; 0 before that
    holders=0,  # how many layers hold BLAS to one thread at this moment
    before=[],  # what each library goes back to when the last of them is done
)


@cache
def _controlled() -> list[Any]:
    """Return the BLAS libraries that threadpoolctl finds: numpy's own if there is one, else all; none without it."""
    try:
        from threadpoolctl import ThreadpoolController
    except ImportError:
        return []
    found = ThreadpoolController().select(user_api="blas").lib_controllers
    return [library for library in found if "numpy" in library.filepath] or found


@cache
def _blas() -> list[Any]:
    """Return the BLAS libraries known, with ``get_num_threads()`` and ``set_num_threads(n)`` each."""
    from pathlib import Path

    found = list(_controlled())
    for file in [] if found else Path(np.__file__).parents[1].glob("numpy.libs/*openblas*"):
        try:
            library = ctypes.CDLL(str(file))
            found.append(
                SimpleNamespace(
                    get_num_threads=library.scipy_openblas_get_num_threads64_,
                    set_num_threads=library.scipy_openblas_set_num_threads64_,
                )
            )
        except (OSError, AttributeError):  # it is another one, with other names
            continue
    return found


@contextmanager
def _one_blas_thread() -> Iterator[None]:
    """Hold BLAS to one thread; whoever leaves last puts it back, so that layers in several threads can overlap."""
    libraries = _controlled()
    with _state.lock:
        if not _state.holders:
            _state.before = [library.get_num_threads() for library in libraries]
            for library in libraries:
                library.set_num_threads(1)
        _state.holders += 1
    try:
        yield
    finally:
        with _state.lock:
            _state.holders -= 1
            if not _state.holders:
                for library, n in zip(libraries, _state.before, strict=True):
                    library.set_num_threads(n)


def can_split() -> bool:
    """Whether threads of ours would have BLAS at one thread: held there, or there already."""
    if _controlled():
        return True
    if libraries := _blas():
        return all(library.get_num_threads() == 1 for library in libraries)
    return any(os.environ.get(v) == "1" for v in ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS"))


# --- the rule --------------------------------------------------------------------------------------------------------

ALONE = 1 << 18
"""Multiplications in a product up to which BLAS does not share it out, so that nothing need be held."""

SMALL = 1 << 20
"""Multiplications in a step's product H_{t-1} W_hh below which threads wait for each other longer than they work."""

PART = 1 << 21
"""Multiplications that a step of a part must have, for a thread of ours to be worth more than one of BLAS's own."""

FEWEST_NEURONS, FEWEST_ROWS = 256, 16
"""With less of one, a part's step is short or its product inefficient, however large N is, or H."""


def plan(T: int, N: int, D: int, H: int, G: int = 1) -> tuple[int, Run | None]:
    """Return into how many parts a mini-batch is split, and what runs them; None for one after the other.

    It is a fixed rule on the shape, so that sums are split in the same way at every run. Small steps run with BLAS at
    one thread; large ones are split, each part with BLAS at one thread; between them, and where BLAS cannot be held at
    one thread, BLAS uses its own threads as it thinks best.
    """
    product = N * H * H * G
    if T * N * max(D, H) * H * G <= ALONE or get_num_threads() == 1:
        return 1, None
    if product < SMALL:
        return 1, at_once
    parts = min(get_num_threads(), N // FEWEST_ROWS, product // PART) if H >= FEWEST_NEURONS else 1
    return (parts, at_once) if parts > 1 and can_split() else (1, None)


# --- running ---------------------------------------------------------------------------------------------------------


@cache
def _pool(workers: int) -> "ThreadPoolExecutor":
    from concurrent.futures import ThreadPoolExecutor

    return ThreadPoolExecutor(workers, thread_name_prefix="minirnn")


def _in_child() -> None:
    """Start afresh after a fork: the threads of the parent do not live on, and nobody there will release BLAS here."""
    _pool.cache_clear()
    held, _state.lock, _state.holders = _state.holders, threading.Lock(), 0
    for library, n in zip(_controlled() if held else [], _state.before, strict=False):
        library.set_num_threads(n)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child)


def at_once(tasks: Sequence[Callable[[], Any]]) -> list[Any]:
    """Run the tasks at once, the first in this thread, with BLAS at one thread; return their results in order.

    An error in any of them is raised when all have ended: none still writes anywhere then.
    """
    with _one_blas_thread():
        others = [_pool(len(tasks) - 1).submit(contextvars.copy_context().run, task) for task in tasks[1:]]
        try:
            first = tasks[0]()
        finally:
            _wait(others)
        return [first, *(future.result() for future in others)]


def _wait(futures: "Sequence[Future[Any]]") -> None:
    """Wait for all, through Ctrl-C too: what they write into must not be handed back before."""
    from concurrent.futures import wait

    try:
        wait(futures)
    except KeyboardInterrupt:
        _wait(futures)
        raise
