"""A series of one's own on the command line: train csv, eval, inspect and forecast."""

import contextlib
import io
import json
import re
import sys

import numpy as np
import pytest
from commands import error, run

import minirnn as mr
from minirnn.cli import main, saved
from minirnn.data import read_csv

QUICK = ["--steps-in-time", "8", "--hidden", "5", "--batch", "4", "--max-updates", "12", "--no-progress"]


def write(path, steps=60, decimal="."):
    """Write a file with the columns date, a and b."""
    rows = (f"day {k};{np.sin(k / 3):.4f};{100 + 10 * np.cos(k / 3):.3f}" for k in range(steps))
    path.write_text("\n".join(["date;a;b", *(row.replace(".", decimal) for row in rows)]) + "\n", encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A saved model of the columns b and a, and the file that it was trained on."""
    path = tmp_path_factory.mktemp("trained") / "model.npz"
    file = write(path.with_name("x.csv"))
    with contextlib.redirect_stdout(io.StringIO()):
        main(["train", "csv", "--file", str(file), "--column", "b", "--column", "a", *QUICK, "--save", str(path)])
    return path, file


def test_what_is_saved_and_measured_again(capsys, tmp_path, trained):
    path, file = trained
    it = saved.load(path)
    task = mr.tasks.SeriesTask(file, ["b", "a"], T=8)
    mark = {"columns": ["b", "a"], "mean": task.mean.tolist(), "std": task.std.tolist(), "sha256": task.sha256}
    assert (it.checkpoint.settings["csv"], it.checkpoint.settings["file"]) == (mark, str(file))
    found = json.loads(run(capsys, "eval", path, "--json")[1])
    assert found["figure"] == mr.training.measure(it.model, task)
    assert (found["same_series"], found["baseline"]) == (True, task.baseline)
    other = write(tmp_path / "other.csv", 50)
    found = json.loads(run(capsys, "eval", path, "--file", other, "--json")[1])
    moved = mr.tasks.SeriesTask(other, ["b", "a"], T=8, units=task.units)  # in the units of the training
    assert (found["figure"], found["same_series"]) == (mr.training.measure(it.model, moved), False)
    assert "\nnote: this is not the series that it was trained on" in run(capsys, "eval", path, "--file", other)[1]
    assert json.loads(run(capsys, "inspect", path, "--json")[1])["figures"]["T"] == 8


def test_training_goes_on_beyond_the_baseline_and_keeps_the_best_weights(capsys, tmp_path):
    path, directory = tmp_path / "model.npz", tmp_path / "run"
    how = ["--file", write(tmp_path / "x.csv"), "--column", "a", *QUICK[:-3], "--save", path, "--checkpoint", directory]
    status, out = run(capsys, "train", "csv", *how, "--max-updates", "250", "--lr", "0.01")
    assert (status, "; 250 updates in " in out) == (0, True)
    best = int(re.search(r"kept: the weights of update (\d+), the best", out)[1])
    looks = saved.load(path).history.evaluations["held-out"]
    assert [look.update for look in looks] == [50, 100, 150, 200, 250]
    assert best == min(looks, key=lambda look: look.value).update
    figure = json.loads(run(capsys, "eval", path, "--json")[1])["figure"]
    assert figure == pytest.approx(min(look.value for look in looks), rel=1e-6)
    assert run(capsys, "train", "csv", *how, "--max-updates", "260", "--lr", "0.01", "--resume")[0] == 0
    write(tmp_path / "x.csv", 59)
    assert error(capsys, "train", "csv", *how, "--lr", "0.01", "--resume").startswith("--resume: expected the same ser")


def test_the_forecast_is_that_of_the_whole_series_in_the_saved_units(capsys, tmp_path, trained):
    path, _ = trained
    newer, out = write(tmp_path / "newer.csv", 25), tmp_path / "out.csv"
    status, printed = run(capsys, "forecast", path, "--file", newer, "--steps", "7", "--out", out)
    it = saved.load(path)
    columns = read_csv(newer, ["b", "a"])
    values = np.stack([columns["b"], columns["a"]], axis=1)
    expected = it.task.units.inverse(mr.training.forecast(it.model, it.task.units(values), 7))
    assert status == 0
    made = read_csv(out)
    assert [*made] == ["b", "a"]
    np.testing.assert_allclose(np.stack([*made.values()], axis=1), expected, rtol=1e-6)
    rows = re.findall(r"^ +(\d+) +(\S+) +(\S+)$", printed, re.M)[-7:]
    assert [int(row[0]) for row in rows] == [26, 27, 28, 29, 30, 31, 32]
    np.testing.assert_allclose(np.array(rows, float)[:, 1:], expected, rtol=1e-5)
    assert f"read 25 steps of {str(newer)!r}, which is not as" in " ".join(printed.split()).replace("- ", "-")
    assert printed.endswith(f"\nwritten: {out}\n")
    found = json.loads(run(capsys, "forecast", path, "--file", newer, "--steps", "7", "--json")[1])
    np.testing.assert_allclose([found["forecast"]["b"], found["forecast"]["a"]], expected.T, rtol=1e-6)
    assert (found["read"], found["steps"], found["same_series"]) == (25, 7, False)


def test_the_chart_shows_where_the_forecast_begins(capsys, trained):
    chart = run(capsys, "forecast", trained[0], "--steps", "30")[1].split("\n\n")[1].splitlines()
    assert chart[0] == "b, and its forecast"
    assert re.fullmatch(r" +└─{30}┴─{29}", chart[-3])
    assert chart[-3].index("┴") == chart[-1].index("forecast ▸")
    assert re.fullmatch(r" +step 31 +90", chart[-2])
    assert max(map(len, chart)) <= 80


def test_a_picture(capsys, monkeypatch, tmp_path, trained):
    pytest.importorskip("matplotlib", reason="matplotlib is not installed: pip install -e '.[plot]'")
    picture = tmp_path / "forecast.png"
    assert run(capsys, "forecast", trained[0], "--plot", picture)[1].endswith(f"\nwritten: {picture}\n")
    assert picture.read_bytes().startswith(b"\x89PNG")
    refused = error(capsys, "forecast", trained[0], "--plot", tmp_path / "forecast.xyz")
    assert refused.startswith("--plot: expected a file whose name ends in one of ")
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    assert error(capsys, "forecast", trained[0], "--plot", picture) == (
        '--plot needs matplotlib, which is not installed: try pip install "minirnn[plot]"'
    )


def test_what_forecast_refuses(capsys, monkeypatch, tmp_path, trained):
    path, _ = trained
    other = tmp_path / "adding.npz"
    run(capsys, "train", "adding", *QUICK, "--save", other)
    assert error(capsys, "forecast", other) == (
        f"forecast: expected a model of csv, got one of adding in {str(other)!r}: minirnn eval measures it"
    )
    assert error(capsys, "forecast", path, "--file", write(tmp_path / "short.csv", 3)).startswith(
        "--steps-in-time: must be below the steps of each part"
    )
    reverse = mr.SequenceModel(mr.GRULayer(2, 5, reverse=True), mr.Linear(5, 2))
    with monkeypatch.context() as patch:
        patch.setattr(saved, "build_model", lambda *_: reverse)
        assert "forecast: model must go forward in time, got GRULayer that goes back" in error(capsys, "forecast", path)
    monkeypatch.setattr("minirnn.cli.forecast.forecast", lambda *_: np.array([[0.0, 1.0], [np.nan, 0.0]]))
    assert error(capsys, "forecast", path, "--out", tmp_path / "x.csv").startswith(
        "forecast: the predictions must be finite, got none from step 2 on: "
    )
    assert not (tmp_path / "x.csv").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--column", "c"], "--column: {} has no column 'c': it has 'date', 'a', 'b'"),
        (["--column", "date"], "--column: must name columns of numbers, got 'date' of {}"),
        (["--steps-in-time", "12"], "--steps-in-time: must be below the steps of each part, 48 to train on and 12 held "
         "out with held_out=0.2, got 12: try a smaller T, or a longer series"),
        (["--encoding", "none"], "--encoding: must be known to Python, got 'none': try 'cp1252'"),
        (["--decimal", ","], "--file: {}, line 2, column 'a': must be a finite number, got '0.0000': is it a decimal "
         "point? leave --decimal , out"),
    ],
)  # fmt: skip
def test_errors_name_the_option(capsys, trained, options, message):
    _, file = trained
    refused = error(capsys, "train", "csv", "--file", file, *options)
    assert refused.startswith(message.format(repr(str(file))))


def test_decimal_commas_and_options_without_a_file(capsys, tmp_path):
    file = write(tmp_path / "comma.csv", decimal=",")
    assert error(capsys, "train", "csv", "--file", file).endswith("is it a decimal comma? try --decimal ,")
    assert run(capsys, "train", "csv", "--file", file, "--decimal", ",", *QUICK)[0] in (0, 1)
    assert error(capsys, "train", "csv", "--file", "nowhere.csv") == (
        "--file: must name a CSV file, got 'nowhere.csv': No such file or directory: check the spelling"
    )
    for option in ("--column", "--decimal"):
        message = f"{option}: expected --file PATH with it, got none: leave it out"
        assert error(capsys, "train", "csv", option, ",") == message
