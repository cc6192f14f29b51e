"""The bar of `fit`: on a terminal, and in a notebook, where it is a widget if there are widgets, else text."""

import io
import sys
import types
import warnings
from typing import ClassVar

import numpy as np
import pytest

import minirnn as mr
from minirnn.training import bar, fit

CLASSES = (np.ones((3, 2, 2)), np.zeros((3, 2), int))


def train(progress=None, batches=6, **settings):
    layer = mr.RecurrentLayer(2, 3, rng=0)
    return fit(
        layer, [CLASSES] * batches, loss=mr.losses.cross_entropy, optimizer=mr.optim.SGD(layer.parameters(), 0.1),
        **{"max_updates": 6, "progress": progress, **settings},
    )  # fmt: skip


def pretend(monkeypatch, shell):
    monkeypatch.setitem(sys.modules, "IPython", types.SimpleNamespace(get_ipython=lambda: shell))


@pytest.fixture
def kernel(monkeypatch, capsys):
    """A kernel without ipywidgets, whose stderr is no terminal; returns what it got."""
    pretend(monkeypatch, types.SimpleNamespace(kernel=object()))
    monkeypatch.setattr(bar, "_widgets", lambda: None)
    return lambda: capsys.readouterr().err


class Widget:
    """What tqdm's bar of widgets is spoken to by."""

    made: ClassVar[list["Widget"]] = []

    def __init__(self, **settings):
        self.settings, self.total, self.n, self.closed = settings, settings["total"], 0, False
        Widget.made.append(self)

    def set_postfix_str(self, text, refresh):
        self.text = text

    def update(self, n):
        self.n += n

    def close(self):
        self.closed = self.total == self.n


@pytest.fixture
def widgets(monkeypatch, kernel):
    monkeypatch.setattr(bar, "_widgets", lambda: Widget)
    monkeypatch.setattr(Widget, "made", [])
    return Widget.made


def test_a_kernel_is_told_from_a_terminal(monkeypatch):
    for shell in (types.SimpleNamespace(kernel=object()), types.SimpleNamespace(kernel=None), None):
        pretend(monkeypatch, shell)
        assert bar.in_notebook() is (getattr(shell, "kernel", None) is not None)
    for absent in (None, types.ModuleType("IPython")):  # how an import is forbidden; while it is being imported
        monkeypatch.setitem(sys.modules, "IPython", absent)
        assert not bar.in_notebook()


def test_a_kernel_without_widgets_gets_a_bar_of_text(kernel):
    train(progress=False)
    assert kernel() == ""
    train()
    assert "6/6" in kernel()


@pytest.mark.parametrize("progress", [None, True])
def test_a_kernel_with_widgets_gets_a_widget_of_its_own_width(widgets, kernel, progress):
    history = train(progress)
    (widget,) = widgets
    assert widget.settings == {"initial": 0, "total": 6, "unit": " updates", "mininterval": 0, "miniters": 1}
    assert kernel() == ""
    assert (widget.n, widget.closed) == (6, True)
    assert widget.text == (
        f"loss {history.recent():.4f}, accuracy {100 * history.recent(metric='accuracy'):.1f} %, "
        f"grad norm {history.grad_norm[-1]:.3g}"
    )


@pytest.mark.parametrize(
    "settings", [{"stop": lambda history: history.updates == 4}, {"batches": 4, "max_updates": None}]
)
def test_a_training_that_ends_early_is_no_error(widgets, settings):
    train(**settings)
    assert (widgets[0].n, widgets[0].closed) == (4, True)


def test_a_training_that_fails_looks_like_it(widgets):
    def fail(history):
        raise RuntimeError("mine")

    with pytest.raises(RuntimeError, match="mine"):
        train(callbacks=[fail])
    assert widgets[0].n == 1
    assert not widgets[0].closed


def test_widgets_that_are_missing_are_not_warned_of():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = bar._widgets()
    from tqdm import notebook

    assert found is (None if notebook.IProgress is None else notebook.tqdm)


# --- on a terminal, and what it says ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("progress", "terminal", "shown"),
    [(None, True, True), (None, False, False), (False, True, False), (True, False, True)],
)
def test_the_bar_is_shown_on_a_terminal_or_when_asked_for(monkeypatch, progress, terminal, shown):
    stream = io.StringIO()
    stream.isatty = lambda: terminal
    monkeypatch.setattr("sys.stderr", stream)
    train(progress)
    assert bool(stream.getvalue()) is shown
    monkeypatch.setattr("sys.stderr", None)  # as under pythonw
    assert train(None).updates == 6


class Gone(io.StringIO):
    """A terminal that goes away after it has been written to so often."""

    def __init__(self, left):
        super().__init__()
        self.left = left

    def isatty(self):
        return True

    def write(self, text):
        self.left -= 1
        if self.left < 0:
            raise BrokenPipeError
        return super().write(text)


def closed():
    stream = io.StringIO()
    stream.close()
    return stream


def detached():
    stream = io.TextIOWrapper(io.BytesIO())
    stream.detach()
    return stream


STREAMS = {
    "none": lambda: None,
    "closed": closed,
    "detached": detached,
    "no methods": object,
    "only write": lambda: types.SimpleNamespace(write=lambda text: None),
    "gone": lambda: Gone(0),
    "gone on the way": lambda: Gone(3),
    "gone in the end": lambda: Gone(5),
}


@pytest.mark.parametrize("progress", [None, True])
@pytest.mark.parametrize("stream", STREAMS)
def test_no_stderr_keeps_a_training_from_its_end(stream, progress, monkeypatch):
    monkeypatch.setattr("sys.stderr", STREAMS[stream]())
    monkeypatch.setattr(bar, "REFRESH", 0)
    assert train(progress).updates == 6


def test_the_bar_is_drawn_now_and_then_not_at_every_update(capsys):
    train(True, batches=300, max_updates=300, metrics={})
    out, err = capsys.readouterr()
    assert 2 <= err.count("grad norm") < 100
    assert (out, "accuracy" in err) == ("", False)
    assert "300/300" in err
    assert "updates/s" in err
    assert err.endswith("\n")


@pytest.mark.parametrize(("columns", "norm"), [(80, False), (99, False), (100, True)])
def test_the_accuracy_stands_in_the_bar_and_the_norm_where_there_is_room(monkeypatch, capsys, columns, norm):
    monkeypatch.setenv("COLUMNS", str(columns))
    history = train(progress=True)
    last = capsys.readouterr().err.replace("\n", "").split("\r")[-1]
    text = f"loss {history.recent():.4f}, accuracy {100 * history.metrics['accuracy'].mean():.1f} %"
    text += f", grad norm {history.grad_norm[-1]:.3g}" * norm
    assert last.endswith(f"{text}]")
    assert len(last) <= columns
