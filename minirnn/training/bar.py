"""The bar of `fit`. Checked by tests/test_training.py."""

import math
import os
import sys
from typing import Any

from minirnn.history import History

REFRESH = 0.1
"""How often the bar is drawn, in seconds."""


def on_terminal() -> bool:
    """Whether stderr is a terminal."""
    return sys.stderr is not None and sys.stderr.isatty()


def _columns() -> int:
    """Return the width of the terminal, 80 where there is none or it does not know."""
    try:
        return os.get_terminal_size(sys.stderr.fileno()).columns or 80
    except (OSError, ValueError):
        return 80


class Bar:
    """tqdm's bar, spoken to ten times a second and not at every update: an update may take less time than its text."""

    def __init__(self, shown: bool, total: int) -> None:
        self._due = 0.0 if shown else math.inf
        self._bar: Any = None
        if shown:
            from tqdm import tqdm  # here, not above: it takes as long to import as all of minirnn

            # Left to itself, tqdm shows nothing on a terminal that does not know its size, such as a container's.
            size = {"ncols": _columns(), "nrows": 20}
            self._bar = tqdm(total=total, unit=" updates", mininterval=0, miniters=1, **size)

    def update(self, history: History) -> None:
        """Draw, if it is time to."""
        now = history._seconds[-1]
        if now >= self._due:
            self._due = now + REFRESH
            self._draw(history)

    def _draw(self, history: History) -> None:
        text = f"loss {history.recent():.4f}, grad norm {history._grad_norm[-1]:.3g}"
        self._bar.set_postfix_str(text, refresh=False)
        self._bar.update(history.updates - self._bar.n)

    def close(self, history: History) -> None:
        """Draw for the last time."""
        if self._bar is not None:
            if history.updates > self._bar.n:
                self._draw(history)
            self._bar.close()
