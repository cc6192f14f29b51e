"""Ctrl-C and SIGTERM, while a run is under way that is to be saved."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def stopping(run: Any) -> Iterator[None]:
    """Within it Ctrl-C and SIGTERM set ``run.stopped`` to their number; once that is set they raise KeyboardInterrupt.

    In the main thread only: elsewhere nobody can take signals. One that is ignored, as in the background of a shell,
    stays so; nor is a handler taken away that is not Python's (None).
    """

    def handler(number: int, frame: Any) -> None:
        if run.stopped:
            raise KeyboardInterrupt
        run.stopped = number

    here = threading.current_thread() is threading.main_thread()
    before = {n: signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM) if here}
    before = {n: old for n, old in before.items() if old not in (signal.SIG_IGN, None)}
    try:
        for number in before:
            signal.signal(number, handler)
        yield
    finally:
        for number in reversed(before):  # SIGINT last: until then it interrupts nothing here
            signal.signal(number, before[number])
