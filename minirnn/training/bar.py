"""The bar of `fit`."""

import contextlib
import math
import shutil
import sys
import warnings
from typing import Any

from minirnn.training.history import History

REFRESH = 0.1
"""How often the bar is drawn, in seconds."""
_WIDE = 100
"""Columns that loss, accuracy and gradient norm take beside tqdm's figures; in fewer the norm would be cut off."""


def has_a_place() -> bool:
    """Whether there is somebody to look at a bar: stderr is a terminal, or this is a notebook."""
    return in_notebook() or is_terminal(sys.stderr)


def is_terminal(stream: Any) -> bool:
    """Whether a stream is a terminal; one that is None, closed, or has no ``isatty``, such as a logger, is none."""
    with contextlib.suppress(AttributeError, ValueError, OSError):
        return bool(stream.isatty())
    return False


def in_notebook() -> bool:
    """Whether this process is the kernel of a notebook; IPython is asked, and not imported."""
    get_ipython = getattr(sys.modules.get("IPython"), "get_ipython", None)
    return get_ipython is not None and getattr(get_ipython(), "kernel", None) is not None


def size_of_bar() -> dict[str, int]:
    """Return tqdm's settings of the size: left to itself it shows nothing on a terminal that does not know its own."""
    return {"ncols": shutil.get_terminal_size().columns - 1, "nrows": 20}


class Bar:
    """tqdm's bar, spoken to ten times a second and not at every update: an update may take less time than its text.

    In a notebook it is a widget where ipywidgets is installed, and text otherwise.
    """

    def __init__(self, shown: bool, begun: int, total: int | None, with_accuracy: bool) -> None:
        self._due = math.inf
        self._with_accuracy, self._with_norm = with_accuracy, True
        self._bar: Any = None
        if not shown or not (in_notebook() or hasattr(sys.stderr, "write")):
            return
        from tqdm import tqdm  # here, not above: it takes as long to import as all of minirnn

        widget = _widgets() if in_notebook() else None
        size: dict[str, Any] = {}
        if widget is None:
            # Left to itself, tqdm shows nothing on a terminal that does not know its size, such as a container's.
            columns = shutil.get_terminal_size().columns
            # With a delay it draws nothing as it is made: if that failed, older versions would complain when deleted.
            size = {"ncols": columns, "nrows": 20, "delay": 1e-9}
            self._with_norm = not with_accuracy or columns >= _WIDE
        self._widget = widget is not None
        try:
            if widget is None:
                sys.stderr.write("")
            self._bar = (widget or tqdm)(initial=begun, total=total, unit=" updates", mininterval=0, miniters=1, **size)
            if widget is None:
                self._bar.refresh()
            self._due = 0.0
        except (OSError, ValueError):  # nobody is there to read
            if self._bar is not None:
                self._bar.disable = True  # or it tries again when it is deleted
            self._bar = None

    def update(self, history: History) -> None:
        """Draw, if it is time to."""
        now = history._seconds[-1]
        if now >= self._due:
            self._due = now + REFRESH
            self._draw(history)

    def _draw(self, history: History) -> None:
        text = f"loss {history.recent():.4f}"
        if self._with_accuracy:
            text += f", accuracy {100 * history.recent(metric='accuracy'):.1f} %"
        if self._with_norm:
            text += f", grad norm {history._grad_norm[-1]:.3g}"
        try:
            self._bar.set_postfix_str(text, refresh=False)
            self._bar.update(history.updates - self._bar.n)
        except (OSError, ValueError):  # nobody reads any more: the training goes on, without a bar
            self._bar.disable, self._due = True, math.inf

    def close(self, history: History, in_order: bool) -> None:
        """Draw for the last time; ``in_order`` says that training ended as it should, early or not."""
        if self._bar is None:
            return
        if history.updates > self._bar.n:
            self._draw(history)
        if self._widget and in_order:
            self._bar.total = self._bar.n  # or it would turn red, as after an error
        with contextlib.suppress(OSError, ValueError):
            self._bar.close()


def _widgets() -> Any:
    """Find tqdm's bar of widgets, None where ipywidgets is not installed."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # tqdm warns of what is missing; a bar of text is no less true
        from tqdm import notebook

    return None if notebook.IProgress is None else notebook.tqdm
