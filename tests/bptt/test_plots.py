import sys

import numpy as np
import pytest
from bptt_cases import LENGTHS, T, make
from error_texts import raises

import minirnn as mr

matplotlib = pytest.importorskip("matplotlib", reason="matplotlib is not installed: pip install -e '.[plot]'")
PLOTS = [getattr(mr.bptt, name) for name in mr.bptt.__all__ if name.startswith("plot_")]


def drawn(ax, path):
    ax.figure.savefig(path)
    return path.read_bytes().startswith(b"\x89PNG")


def test_there_are_four():
    assert len(PLOTS) == 4


@pytest.mark.parametrize("plot", PLOTS)
@pytest.mark.parametrize("kind", ["elman", "lstm", "gru"])
@pytest.mark.parametrize("lengths", LENGTHS.values(), ids=LENGTHS)
@pytest.mark.parametrize("reverse", [False, True])
def test_a_picture_comes_out(plot, kind, lengths, reverse, tmp_path):
    assert drawn(plot(make(kind, lengths=lengths, reverse=reverse).trace()), tmp_path / "p.png")


@pytest.mark.parametrize("plot", PLOTS)
def test_where_there_is_nothing_to_see(plot, tmp_path):
    layer = mr.RecurrentLayer(1, 2, rng=0)
    trace = mr.bptt.trace(layer, np.zeros((1, 1, 1)), lambda outputs: (outputs * 0).sum())
    assert drawn(plot(trace), tmp_path / "p.png")


def test_the_numbers_are_the_traces():
    trace = make("elman").trace()
    total, local, carried = mr.bptt.plot_gradient_norms(trace).lines
    assert np.array_equal(total.get_ydata(), trace.gradient_norms)
    assert np.abs(local.get_ydata() - np.linalg.norm(trace.dL_dh_local.reshape(T, -1), axis=1)).max() < 1e-15
    assert np.isnan(carried.get_ydata()[-1])
    image = mr.bptt.plot_credit(trace).images[0].get_array()
    lower = np.tril(np.ones((T, T), bool))
    assert np.array_equal(np.asarray(image)[lower], trace.credit().norms[lower])
    lines = mr.bptt.plot_singular_values(trace, row=2).lines
    assert np.array_equal(lines[0].get_ydata(), [trace.singular_values(t, t - 1)[2, 0] for t in range(T)])
    gates = mr.bptt.plot_saturation(make("lstm").trace()).get_legend().get_texts()
    assert [text.get_text() for text in gates] == ["i", "f", "g", "o"]


def test_they_draw_on_the_axes_given(tmp_path):
    from matplotlib.figure import Figure

    axes = Figure().subplots(1, 4)
    trace = make("gru").trace()
    for plot, ax in zip(PLOTS, axes, strict=True):
        assert plot(trace, ax=ax) is ax
    assert drawn(axes[0], tmp_path / "p.png")


@pytest.mark.parametrize("plot", PLOTS)
def test_without_matplotlib_the_error_names_the_extra(plot, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    message = f'{plot.__name__}: needs matplotlib, which is not installed: try pip install "minirnn[plot]"'
    with raises(ImportError, message):
        plot(make("elman").trace())


def test_a_row_that_is_none():
    with raises(IndexError, "plot_singular_values: row must be a row 0 … 3, got 4: there are N=4"):
        mr.bptt.plot_singular_values(make("elman").trace(), row=4)
