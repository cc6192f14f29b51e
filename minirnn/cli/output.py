"""Where the commands print to: stdout and stderr, whatever they are: None, closed, a logger, a pipe nobody reads."""

import contextlib
import os
import sys
from collections.abc import Iterator
from typing import Any

from minirnn.training.bar import is_terminal


class Output:
    """Writes to a stream, if there is one.

    ``lasting`` says that the work goes on when that fails; ``fault`` is then the error, to be raised in the end.
    """

    def __init__(self, stream: Any, lasting: bool) -> None:
        self.stream, self.lasting = stream, lasting
        self.fault: OSError | None = None
        with contextlib.suppress(AttributeError, ValueError):  # it has none, or is closed
            stream.reconfigure(errors="replace")  # φ and · must not stop a run where the output is not Unicode

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)

    def isatty(self) -> bool:
        """Whether it is a terminal."""
        return is_terminal(self.stream)

    def write(self, text: str) -> int:
        """Write a text."""
        self._do("write", text)
        return len(text)

    def flush(self) -> None:
        """Flush it."""
        self._do("flush")

    def _do(self, name: str, *arguments: str) -> None:
        if self.fault is not None or getattr(self.stream, "closed", False):
            return
        try:
            getattr(self.stream, name, lambda *_: None)(*arguments)
        except OSError as error:
            self.fault = error
            with contextlib.suppress(AttributeError, ValueError, OSError):  # so that the flush at exit meets no error
                os.dup2(os.open(os.devnull, os.O_WRONLY), self.stream.fileno())
            if not self.lasting:
                raise


@contextlib.contextmanager
def printing() -> Iterator[Output]:
    """Within it sys.stdout and sys.stderr are Outputs; give that of stdout."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:  # closed: the next file to be opened would get its number, and what C libraries print
            os.open(os.devnull, os.O_RDWR)
    out = Output(sys.stdout, lasting=False)
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(Output(sys.stderr, lasting=True)):
        yield out
