"""How many threads minirnn may use: `set_num_threads`, `get_num_threads`, and what runs a layer's rows on them.

The number is process-wide, because BLAS's is. BLAS is told of it through threadpoolctl, or else left alone.
"""

import contextvars
import os
import threading
import warnings
from collections.abc import Callable, Sequence
from functools import cache
from operator import attrgetter, methodcaller
from types import SimpleNamespace
from typing import Any

from minirnn.arguments import as_size
from minirnn.kernels.columns import ROWS as COLUMNS
from minirnn.kernels.products import MOST as MOST_MULTIPLICATIONS
from minirnn.kernels.scratch import MOST_ROWS, Run

MOST = 1024
"""More threads than this are refused: it is a slip, not a machine."""


def available_cpus() -> int:
    """Return how many CPUs this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def set_num_threads(n: int) -> None:
    """Set how many threads, 1 to 1024, minirnn and numpy's BLAS may use in this process.

    At first it is one for each CPU that the process may use, or fewer if OMP_NUM_THREADS, OPENBLAS_NUM_THREADS,
    MKL_NUM_THREADS, BLIS_NUM_THREADS or VECLIB_MAXIMUM_THREADS said so when minirnn was imported. A recurrent layer
    with the fused backend splits its mini-batch over them where that pays (`plan`), with BLAS at one thread meanwhile.

    That takes threadpoolctl (``pip install "minirnn[threads]"``). Without it BLAS has the threads that those variables
    gave it, a warning says so, and minirnn uses one at first, more only if asked to while BLAS was given one.

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
        _state.before = [n] * len(_state.before)
        for library in () if _state.holders else _controlled():
            library.set_num_threads(n)
    if not _controlled() and ASKED not in (1, n) and not _state.said:
        _state.said = True
        warnings.warn(
            "set_num_threads: numpy's BLAS keeps the threads it has, since there is no threadpoolctl: "
            'pip install "minirnn[threads]", or set OPENBLAS_NUM_THREADS before Python starts',
            stacklevel=2,
        )


def get_num_threads() -> int:
    """Return how many threads minirnn may use; see `set_num_threads`."""
    return _state.threads or (min(available_cpus(), ASKED or MOST) if _controlled() else 1)


# --- BLAS ------------------------------------------------------------------------------------------------------------


def _asked() -> int | None:
    """Return the least number that the variables say, which BLAS has read as well; None if they say none."""
    names = ("OMP_NUM", "OPENBLAS_NUM", "MKL_NUM", "BLIS_NUM", "VECLIB_MAXIMUM")
    said = [os.environ.get(f"{name}_THREADS", "").split(",")[0].strip() for name in names]  # "4,2": of nested loops
    return min((int(number) for number in said if number.isdecimal() and int(number)), default=None)


ASKED = _asked()

_state = SimpleNamespace(  # what is process-wide
    lock=threading.RLock(),  # a signal's handler may come back here
    threads=0,  # as set; 0 before that
    holders=set(),  # who hold BLAS to one thread at this moment
    before=[],  # what each library goes back to when the last of them is done
    said=False,  # that BLAS is not told
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


def _hold(holder: object) -> None:
    """Hold BLAS to one thread."""
    with _state.lock:
        first = not _state.holders
        if first:
            _state.before = list(map(methodcaller("get_num_threads"), _controlled()))
        _state.holders.add(holder)  # before anything is changed, so that `_release` puts it back
        for library in _controlled() if first else ():
            library.set_num_threads(1)


def _release(holder: object) -> None:
    """Let go of it; whoever is last puts it back, so that layers in several threads can overlap. Twice does no harm."""
    with _state.lock:
        if _state.holders == {holder}:
            for library, n in zip(_controlled(), _state.before, strict=True):
                library.set_num_threads(n)
        _state.holders.discard(holder)  # after all has been changed, so that an interrupted call can be made again


def can_tell() -> bool:
    """Whether BLAS can be told how many threads to use, or has been told to use one."""
    return bool(_controlled()) or ASKED == 1


# --- the rule --------------------------------------------------------------------------------------------------------

ALONE = 1 << 18
"""Multiplications in a product up to which BLAS does not share it out, so that nothing need be held."""

UNSHARED = {"SkylakeX", "Cooperlake", "SapphireRapids"}
"""OpenBLAS's names of its kernels for AVX-512: they neither pack nor share out a product of up to products.MOST."""

SMALL = 1 << 20
"""Multiplications in a step's product H_{t-1} W_hh below which threads wait for each other longer than they work."""

PART = 1 << 21
"""Multiplications that a step of a part must have, for a thread of ours to be worth more than one of BLAS's own."""

FEWEST_NEURONS, FEWEST_ROWS = 256, 16
"""With less of one, a part's step is short or its product inefficient, however large N is, or H."""


def few(T: int, N: int, D: int, H: int, G: int = 1) -> bool:
    """Whether one thread is enough for a mini-batch, however many there are: BLAS shares out no product of it."""
    rows = min(T * N, max(N, MOST_ROWS if G == 1 else COLUMNS))
    product = max(rows * max(D, H), N * (D + 1 + H)) * H * G
    if product <= ALONE or product > min(4 * ALONE, MOST_MULTIPLICATIONS):
        return product <= ALONE  # BLAS need not be looked for, which would take most of a small layer's first call
    kernels = {getattr(library, "architecture", None) for library in _controlled()}
    return bool(kernels) and kernels <= UNSHARED


def plan(T: int, N: int, D: int, H: int, G: int = 1) -> tuple[int, Run | None]:
    """Return into how many parts a mini-batch is split, and what runs them; None for one after the other.

    It is a fixed rule on the shape, so that sums are split in the same way at every run. Small steps run with BLAS at
    one thread; large ones are split, each part with BLAS at one thread; between them, and where BLAS cannot be held at
    one thread, BLAS uses its own threads as it thinks best.
    """
    product = N * H * H * G
    if few(T, N, D, H, G) or get_num_threads() == 1:
        return 1, None
    if product < SMALL:
        return 1, at_once
    parts = min(get_num_threads(), N // FEWEST_ROWS, product // PART) if H >= FEWEST_NEURONS else 1
    return (parts, at_once) if parts > 1 and can_tell() else (1, None)


# --- running ---------------------------------------------------------------------------------------------------------


@cache
def _crew(workers: int) -> Any:
    """Return the queue from which so many threads take what to run."""
    from queue import SimpleQueue

    queue: SimpleQueue[Callable[[], None]] = SimpleQueue()

    def work() -> None:
        while True:
            queue.get()()

    for i in range(workers):
        threading.Thread(target=work, name=f"minirnn_{i}", daemon=True).start()
    return queue


def _in_child() -> None:
    """Start afresh after a fork: the threads of the parent do not live on, and nobody there will release BLAS here."""
    _crew.cache_clear()
    held, _state.lock, _state.holders = _state.holders, threading.RLock(), set()
    for library, n in zip(_controlled() if held else [], _state.before, strict=False):
        library.set_num_threads(n)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child)


def at_once(tasks: Sequence[Callable[[], Any]]) -> list[Any]:
    """Run the tasks at once, the first in this thread, with BLAS at one thread; return their results in order.

    An error in any of them is raised when all have ended: none still writes anywhere then. An interrupt may come
    between any two steps: `_end` is called twice, so that what it cuts short there is done all the same. There are no
    comprehensions where it may come: an interrupt in one passes by the ``finally`` around it in Python 3.13.0.
    """
    if len(tasks) == 1:
        return [_held(tasks[0])]
    holder, others, sent = object(), [_Other(task) for task in tasks[1:]], list[None]()
    try:
        try:
            _hold(holder)
            sent.extend(map(_crew(len(others)).put, map(attrgetter("run"), others)))  # one step: it is all C
            first = tasks[0]()
            _wait(others)
            for error in filter(None, (other.error for other in others)):
                raise error
            return [first, *(other.result for other in others)]
        finally:
            _end(holder, others, sent)
    finally:
        _end(holder, others, sent)


def _held(task: Callable[[], Any]) -> Any:
    """Run one task as `at_once` does; beside a small one what is not needed then would count."""
    holder = object()
    try:
        try:
            _hold(holder)
            return task()
        finally:
            _release(holder)
    finally:
        _release(holder)


class _Other:
    """A task that another thread runs; a Future's locks are Python, and an interrupt may leave them locked."""

    def __init__(self, task: Callable[[], Any]) -> None:
        self.task, self.context, self.bell = task, contextvars.copy_context(), threading.Lock()
        self.result: Any = None
        self.error: BaseException | None = None
        self.ended = not self.bell.acquire()

    def run(self) -> None:
        try:
            self.result = self.context.run(self.task)
        except BaseException as error:
            self.error = error
        self.ended = True
        self.bell.release()


def _wait(others: Sequence[_Other]) -> None:
    """Wait for all, through Ctrl-C too: what they write into must not be handed back before."""
    try:
        for other in others:
            if not other.ended:
                other.bell.acquire()
    except BaseException:
        _wait(others)
        raise


def _end(holder: object, others: Sequence[_Other], sent: list[None]) -> None:
    try:
        _wait(others if sent else ())
    finally:
        _release(holder)
