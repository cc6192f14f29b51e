"""The bar of `fit` in a notebook: a widget where there are widgets, text where there are none."""

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
        max_updates=6, progress=progress, **settings,
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


@pytest.mark.parametrize(
    ("shell", "expected"),
    [(types.SimpleNamespace(kernel=object()), True), (types.SimpleNamespace(kernel=None), False), (None, False)],
)
def test_a_kernel_is_told_from_a_terminal(monkeypatch, shell, expected):
    pretend(monkeypatch, shell)
    assert bar.in_notebook() is expected


def test_without_IPython_there_is_no_kernel(monkeypatch):
    monkeypatch.delitem(sys.modules, "IPython", raising=False)
    assert not bar.in_notebook()
    monkeypatch.setitem(sys.modules, "IPython", None)  # how an import is forbidden
    assert not bar.in_notebook()
    monkeypatch.setitem(sys.modules, "IPython", types.ModuleType("IPython"))  # while it is being imported
    assert not bar.in_notebook()


@pytest.mark.parametrize("progress", [None, True])
def test_a_kernel_without_widgets_gets_a_bar_of_text(kernel, progress):
    train(progress)
    assert "6/6" in kernel()


def test_no_bar_if_it_is_not_wanted(kernel):
    train(progress=False)
    assert kernel() == ""


@pytest.mark.parametrize("progress", [None, True])
def test_a_kernel_with_widgets_gets_a_widget_of_its_own_width(widgets, kernel, progress):
    history = train(progress)
    (widget,) = widgets
    assert widget.settings == {"total": 6, "unit": " updates", "mininterval": 0, "miniters": 1}
    assert kernel() == ""
    assert (widget.n, widget.closed) == (6, True)
    assert widget.text == (
        f"loss {history.recent():.4f}, accuracy {100 * history.recent(metric='accuracy'):.1f} %, "
        f"grad norm {history.grad_norm[-1]:.3g}"
    )


@pytest.mark.parametrize("settings", [{"stop": lambda history: history.updates == 4}, {"batches": 4}])
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


# --- what it says -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("columns", "norm"), [(80, False), (99, False), (100, True)])
def test_the_accuracy_stands_in_the_bar_and_the_norm_where_there_is_room(monkeypatch, capsys, columns, norm):
    monkeypatch.setenv("COLUMNS", str(columns))
    history = train(progress=True)
    last = capsys.readouterr().err.replace("\n", "").split("\r")[-1]
    text = f"loss {history.recent():.4f}, accuracy {100 * history.metrics['accuracy'].mean():.1f} %"
    text += f", grad norm {history.grad_norm[-1]:.3g}" * norm
    assert last.endswith(f"{text}]")
    assert len(last) <= columns


@pytest.mark.parametrize("metrics", [{}, {"accuracy": lambda predictions, y: 97.0}])
def test_the_accuracy_does_not_stand_there_where_it_is_none(capsys, metrics):
    train(progress=True, metrics=metrics)
    shown = capsys.readouterr().err
    assert "grad norm" in shown
    assert "accuracy" not in shown
