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
    """Hold BLAS to so many threads, and the process to one CPU if asked; return what was done, in words.

    Raises
    ------
    RuntimeError
        When numpy has been imported already, so that the number of threads would come too late.
    ValueError
        When this process may not use that CPU.
    """
    if "numpy" in sys.modules:
        raise RuntimeError("settle: numpy is imported already: call settle before anything that imports it")
    for variable in THREAD_VARIABLES:
        os.environ[variable] = str(threads)
    said = f"{threads} BLAS thread{'s' * (threads != 1)}"
    if cpu is None:
        return f"{said}, not pinned to a CPU"
    if not hasattr(os, "sched_setaffinity"):
        return f"{said}, not pinned: this system has no sched_setaffinity"
    allowed = os.sched_getaffinity(0)
    if cpu not in allowed:
        raise ValueError(f"settle: cpu must be one of {sorted(allowed)}, which this process may use, got {cpu}")
    os.sched_setaffinity(0, {cpu})
    return f"{said}, pinned to CPU {cpu}"
