import math
import sys

import numpy as np
import pytest
from error_texts import raises

from minirnn.training.history import History


def noted(*values):
    history = History()
    for i, value in enumerate(values):
        history.append(value, 2 * value, 0.5 * (i + 1))
    return history


def test_history_holds_arrays():
    history = noted(3.0, 2.0, 1.0)
    assert history.updates == 3
    assert history.loss.tolist() == [3.0, 2.0, 1.0]
    assert history.grad_norm.tolist() == [6.0, 4.0, 2.0]
    assert history.seconds.tolist() == [0.5, 1.0, 1.5]
    assert history.updates_per_second == 2.0
    assert repr(history) == "<History: 3 updates, recent loss 2>"
    history.record("held-out", np.float32(0.5))
    history.append(0.0, 0.0, 2.0)
    history.record("held-out", 2.0)
    history.record("held-out", 0.25)  # the last one of an update counts
    assert history.evaluations == {"held-out": [(3, 0.5), (4, 0.25)]}
    assert history.evaluations["held-out"][-1].update == 4
    assert history.evaluations["held-out"][-1].value == 0.25


def test_history_running_is_the_mean_of_the_last_losses():
    values = np.random.default_rng(0).random(50)
    history = noted(*values)
    for window in (1, 7, 50, 1000):
        naive = [values[max(0, k - window) : k].mean() for k in range(1, 51)]
        np.testing.assert_allclose(history.running(window), naive, rtol=1e-12)
        assert history.recent(window) == pytest.approx(naive[-1])


def test_history_of_metrics_that_are_measured_of_some_updates_only():
    history = noted(3.0, 2.0)
    history.append(1.0, 2.0, 1.5, {"accuracy": 0.25})
    history.append(1.0, 2.0, 2.0, {"accuracy": 0.75, "other": 1})
    history.append(1.0, 2.0, 2.5)
    nan = math.nan
    np.testing.assert_array_equal(history.metrics["accuracy"], [nan, nan, 0.25, 0.75, nan])
    np.testing.assert_array_equal(history.metrics["other"], [nan, nan, nan, 1, nan])
    assert list(history.metrics) == ["accuracy", "other"]
    assert history.recent(metric="accuracy") == 0.5
    assert history.recent(2, "accuracy") == 0.75
    assert math.isnan(history.recent(1, "accuracy"))
    with raises(ValueError, "History.recent: metric must be one of 'accuracy', 'other', got 'acc'"):
        history.recent(metric="acc")


def test_history_knows_how_many_updates_were_clipped():
    history = noted(3.0, 2.0, 1.0, 0.5)  # norms 6, 4, 2, 1
    assert history.clip_norm is None
    assert math.isnan(history.clipped)
    history.clip_norm = 2.0
    assert history.clipped == 0.5  # a norm of just clip_norm is let through
    history.clip_norm = 100.0
    assert history.clipped == 0.0
    empty = History()
    empty.clip_norm = 1.0
    assert math.isnan(empty.clipped)


def test_history_without_updates():
    history = History()
    assert math.isnan(history.recent())
    assert math.isnan(history.updates_per_second)
    assert history.running().shape == history.loss.shape == (0,)
    assert history.chart() == "no updates, no loss curve"


def test_history_chart_draws_the_loss():
    expected = """\
training loss
3 ┤──╮
  │  │
2 ┤  ╰╮╭
  │   ││
1 ┤   ╰╯
  └─────
   1 5 updates"""
    assert noted(3.0, 3.0, 2.0, 1.0, 2.0).chart(width=40, height=5) == expected


def test_history_chart_is_logarithmic_for_losses_over_a_wide_range():
    chart = noted(100.0, 10.0, 1.0).chart(height=5)
    assert chart.splitlines()[0] == "training loss (logarithmic)"
    assert [line[:5] for line in chart.splitlines()[1:6]] == ["100 ┤", "    │", " 10 ┤", "    │", "  1 ┤"]
    assert "logarithmic" not in noted(100.0, 10.0, 0.0).chart()
    assert "logarithmic" not in noted(4.0, 1.0).chart()
    for size in ({"width": 1}, {"height": 1}):
        with pytest.raises(ValueError, match=r"^History\.chart: (width|height) must be an int ≥ 2, got 1"):
            noted(1.0).chart(**size)


# --- to other programs ------------------------------------------------------------------------------------------------


def filled():
    history = History()
    for k in range(3):
        history.append(1.0 / (k + 1), 2.0, 0.5 * k, {"accuracy": k / 3})
        if k != 1:
            history.record("held-out", 9.0 - k)
    return history


def test_a_metric_that_was_not_measured_is_refused():
    with raises(ValueError, "History.recent: metric must be one of 'accuracy', got 'acuracy'"):
        filled().recent(metric="acuracy")
    with raises(ValueError, "History.recent: metric must be one of those there are, and there are none yet, got 'a'"):
        noted(1.0).recent(metric="a")


def test_to_csv_has_a_line_for_each_update(tmp_path):
    path = tmp_path / "history.csv"
    filled().to_csv(path)
    assert path.read_text() == (
        "update,loss,grad_norm,seconds,accuracy,held-out\n"
        "1,1.0,2.0,0.0,0.0,9.0\n"
        "2,0.5,2.0,0.5,0.3333333333333333,\n"
        "3,0.3333333333333333,2.0,1.0,0.6666666666666666,7.0\n"
    )
    assert [name.name for name in tmp_path.iterdir()] == ["history.csv"]
    half = filled()
    half.record("\ud800", 1.0)
    half.to_csv(path)
    assert path.read_text(encoding="utf-8").startswith("update,loss,grad_norm,seconds,accuracy,held-out,�\n")
    with pytest.raises(FileNotFoundError, match=r"^History\.to_csv: cannot write '.*': No such file or directory: "):
        filled().to_csv(tmp_path / "nowhere" / "history.csv")


def test_plot(tmp_path):
    pytest.importorskip("matplotlib", reason="matplotlib is not installed: pip install -e '.[plot]'")
    History().plot()
    history = filled()
    ax = history.plot()
    ax.figure.savefig(tmp_path / "p.png")
    assert ax.lines[0].get_ydata().tolist() == history.loss.tolist()
    assert history.plot(ax) is ax
    assert history._repr_svg_().count("<svg") == 1


def test_plot_without_matplotlib_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    message = 'History.plot: needs matplotlib, which is not installed: try pip install "minirnn[plot]"'
    with raises(ImportError, message):
        filled().plot()
    assert filled()._repr_svg_() is None
