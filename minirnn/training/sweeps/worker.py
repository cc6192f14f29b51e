"""What a worker of a sweep's own pool does as it begins; dask calls it."""

import signal
from typing import Any


def dask_setup(worker: Any) -> None:
    """Make it deaf to Ctrl-C, which the sweep itself hears and then ends its workers."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
