"""What must be settled before numpy is loaded: the threads of BLAS, which reads its environment then, and the CPU."""

import os
import sys

THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "BLIS_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
)


def settle(*, threads: int = 1, cpu: int | None = None) -> str:
    """Hold BLAS to so many threads, and for one thread the process to one CPU; return what was done, in words.

    Parameters
    ----------
    threads : int
        With one, the whole process stays on one CPU, as under ``taskset -c CPU``: there are contestants that would take
        every CPU they find. With more, the process is not pinned.
    cpu : int, optional
        The CPU to stay on; the lowest that this process may use if left out.

    Raises
    ------
    RuntimeError
        When numpy has been imported already, so that the number of threads would come too late.
    ValueError
        When this process may not use that CPU, or a CPU is named for several threads.
    """
    if "numpy" in sys.modules:
        raise RuntimeError("settle: numpy is imported already: call settle before anything that imports it")
    if threads > 1 and cpu is not None:
        raise ValueError(f"settle: cpu is for one thread: leave it out for {threads} threads")
    said = [f"{threads} thread{'s' * (threads != 1)}", _pin(cpu) if threads == 1 else _room(threads)]
    for variable in THREAD_VARIABLES:
        os.environ[variable] = str(threads)
    os.environ.setdefault("JAX_PLATFORMS", "cpu")  # jax would take a GPU if there is one
    return ", ".join(said)


def _pin(cpu: int | None) -> str:
    if not hasattr(os, "sched_setaffinity"):
        return "not pinned to a CPU: this system has no sched_setaffinity"
    allowed = os.sched_getaffinity(0)
    cpu = min(allowed) if cpu is None else cpu
    if cpu not in allowed:
        raise ValueError(f"settle: cpu must be one of {sorted(allowed)}, which this process may use, got {cpu}")
    os.sched_setaffinity(0, {cpu})
    return f"the whole process on CPU {cpu}"


def _room(threads: int) -> str:
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if usable < threads:
        return f"not pinned; but this process may use {usable} CPU{'s' * (usable != 1)} only, so the times mean nothing"
    return "not pinned to a CPU"
