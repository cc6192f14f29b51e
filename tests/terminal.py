"""What tests of progress bars share: a process whose stderr is a terminal."""

import os

import pytest


def run_on_a_terminal(start):
    """Run ``start(stderr)``, a Popen with stdout=PIPE, to its end; return it, its stdout, and what the terminal got."""
    pty = pytest.importorskip("pty", reason="there are no pseudo-terminals on Windows")
    master, slave = pty.openpty()
    process = start(slave)
    os.close(slave)
    out, _ = process.communicate(timeout=60)
    shown = b""
    try:
        while part := os.read(master, 65536):
            shown += part
    except OSError:  # how Linux says that the other end has closed
        pass
    os.close(master)
    return process, out, shown.decode()
