"""minirnn sweep: what it reads, prints and refuses."""

import json
import os
import re
import subprocess
import sys

import pytest
from terminal import run_on_a_terminal

from minirnn.cli import main

QUICK = ["--hidden", "5", "--batch", "4", "--max-updates", "12", "--seeds", "2", "--jobs", "1"]
ADDING = ["adding", "--steps-in-time", "4", *QUICK]


def run(capsys, tmp_path, *arguments):
    """Return exit status and what was printed, without the seconds, after checking that stderr stayed empty."""
    status = main(["sweep", *arguments, "--out", str(tmp_path / "out")])
    out, err = capsys.readouterr()
    assert err == ""
    return status, re.sub(r"\d+\.\d s$", "… s", out, flags=re.M)


def error(capsys, tmp_path, *arguments):
    """Return the error that was printed, after checking that it is one line and nothing was made."""
    before = list(tmp_path.rglob("*"))
    assert main(["sweep", *arguments, "--out", str(tmp_path / "out")]) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert list(tmp_path.rglob("*")) == before
    return err.removeprefix("minirnn: error: ").removesuffix("\n")


def test_it_says_what_it_runs_and_what_came_of_it(capsys, tmp_path):
    status, out = run(capsys, tmp_path, *ADDING, "--grid", "lr=1e-3,1e-2", "--grid", "cell=elman,gru")
    assert status == 0
    assert out.startswith(
        "adding: add the two marked numbers of a sequence, one in each half\n"
        "to be solved: mean squared error below 0.01 (always predicting 1 gives 1/6)\n\n"
        "lr: 0.001, 0.01\ncell: elman, gru\n"
        "4 settings, 2 seeds: 8 trials, one after the other in this process\n\n"
        "held-out mean squared error, over the seeds:\n\n"
        "   lr     cell   trials"
    )
    assert re.search(r"^[* ]  0\.01   gru         2 .* 12  0 of 2$", out, re.M)
    assert "\n8 trials: 8 finished; … s\n" in out
    assert f"\nresults: {tmp_path / 'out' / 'results.csv'}\n" in out
    said = json.loads((tmp_path / "out" / "sweep.json").read_text())
    assert said["grid"] == {"lr": [0.001, 0.01], "cell": ["elman", "gru"]}
    assert (said["fixed"]["steps-in-time"], said["fixed"]["max-updates"], said["run"]) == (
        4,
        12,
        "learn_task('adding', 500)",
    )
    status, again = run(capsys, tmp_path, *ADDING, "--grid", "lr=1e-3,1e-2", "--grid", "cell=elman,gru", "--resume")
    assert (status, again) == (0, out)


def test_a_picture_or_a_chart(capsys, tmp_path, monkeypatch):
    pytest.importorskip("matplotlib", reason="matplotlib is not installed: pip install -e '.[plot]'")
    settings = [*ADDING, "--grid", "lr=1e-3,1e-2", "--grid", "init=irnn,orthogonal", "--seeds", "1"]
    _, out = run(capsys, tmp_path, *settings)
    picture = tmp_path / "out" / "results.svg"
    assert out.endswith(f"\npicture: {picture}\n")
    before = picture.read_bytes()
    assert before.count(b"</svg>") == 1
    run(capsys, tmp_path, *settings, "--resume")
    assert picture.read_bytes() == before
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    _, out = run(capsys, tmp_path, *settings, "--resume")
    assert "\nno picture: it needs matplotlib, which is not installed: try pip install " in out
    assert re.search(
        r"^median held-out mean squared error by lr\n  0\.001 ┤━+ [\d.]+\n  0\.01  ┤━+ [\d.]+\n\n", out, re.M
    )


@pytest.mark.parametrize("task", ["parity", "text", "csv"])
def test_other_tasks(capsys, tmp_path, task):
    text = tmp_path / "some.txt"
    text.write_text("the cat sat on the mat, and the dog sat on the log.\n" * 40)
    table = tmp_path / "some.csv"
    table.write_text("a,b\n" + "".join(f"{k % 7},{k % 5}\n" for k in range(300)))
    own = {
        "parity": ["--steps-in-time", "4"],
        "text": ["--file", str(text), "--chunk", "8", "--embedding", "4"],
        "csv": ["--file", str(table), "--column", "b", "--steps-in-time", "6"],
    }
    status, out = run(capsys, tmp_path, task, *QUICK, *own[task], "--grid", "lr=1e-3,1e-2", "--seeds", "1")
    assert (status, "\n2 trials: 2 finished; … s\n" in out) == (0, True), out


def test_what_is_random_is_drawn(capsys, tmp_path):
    drawn = ["--random", "lr=1e-4..1e-1", "--random", "init=irnn,orthogonal", "--draws", "3"]
    status, out = run(capsys, tmp_path, *ADDING, *drawn)
    assert status == 0
    assert "\nlr: drawn, 0.0001 … 0.1\ninit: drawn, irnn, orthogonal\n3 settings, 2 seeds: 6 trials, one after" in out


def test_a_trial_that_diverges_is_a_result(capsys, tmp_path):
    status, out = run(capsys, tmp_path, *ADDING, "--grid", "lr=1e-3,1e37", "--optimizer", "sgd", "--clip", "inf")
    assert status == 0
    assert "\n4 trials: 2 finished, 2 diverged; … s\n" in out
    assert "diverged: lr 1e+37, seed 0" in out


MANY = ",".join(map(str, range(1, 1001)))
REFUSED = [
    (["--grid", "lrr=1"], "--grid: expected an option of minirnn sweep adding, got 'lrr': did you mean lr?"),
    (["--grid", "lr"], "--grid: expected NAME=VALUES such as lr=1e-3,5e-3, got 'lr'"),
    (["--grid", "lr="], "--grid lr: must have a value at least, got none: leave it out, or name one"),
    (["--grid", "lr=1,-1"], "--grid lr: expected a positive number, got '-1'"),
    (["--grid", "lr=1,1.0"], "--grid lr: must have each value once, got 1.0 twice"),
    (["--grid", "cell=lstm,rnn"], "--grid cell: expected one of elman, lstm, gru, got 'rnn'"),
    (["--random", "cell=a..b"], "--random cell: expected one of elman, lstm, gru, got 'a'"),
    (["--random", "cell=lstm..gru"], "--random cell: expected values V,V, since it is no number, got 'lstm..gru'"),
    (["--random", "lr=2..1"], "--grid lr: must be between two finite numbers, the lower first, got 2.0 and 1.0"),
    (
        ["--grid", "lr=1", "--random", "lr=1..2"],
        "--random: expected each option once, got lr twice: leave one of them out",
    ),
    (["--lr", "3", "--grid", "lr=1"], "--grid: expected each option once, got lr twice: leave one of them out"),
    (
        ["--grid", "init=irnn,identity", "--grid", "cell=gru,elman"],
        "--init irnn: expected --cell elman with it, got --cell gru: leave one of them out",
    ),
    (["--grid", "steps-in-time=1,2"], "AddingTask: T must be an int ≥ 2, got 1: try 2 or more"),
    (
        ["--grid", f"batch={MANY}", "--grid", f"hidden={MANY}"],
        "--grid: 1,000,000 combinations, times 3 seeds 3,000,000 trials, of at most 100,000: try fewer values, fewer "
        "seeds, --random or --optuna N",
    ),
    (["--draws", "2"], "--draws: must be 1 where nothing is drawn, got 2: give --random"),
    (["--storage", "x"], "--storage: belongs to --optuna N, got it alone: leave it out"),
    (
        ["--jobs", "2", "--scheduler", "tcp://a:1"],
        "--scheduler: expected no --jobs with it, got both: leave one of them out",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("options", "message"), REFUSED, ids=lambda value: str(value)[:24])
def test_refused_before_anything_starts(capsys, tmp_path, options, message):
    assert error(capsys, tmp_path, "adding", *options) == message


def test_a_directory_of_another_sweep(capsys, tmp_path):
    run(capsys, tmp_path, *ADDING, "--grid", "lr=1e-3")
    there = repr(str(tmp_path / "out"))
    said = error(capsys, tmp_path, *ADDING, "--grid", "lr=1e-3")
    assert said == f"--out: {there} holds a sweep: go on with it by --resume, or choose another directory"
    said = error(capsys, tmp_path, *ADDING, "--grid", "lr=1e-2", "--resume")
    assert said.startswith(
        f"--out: {there} holds another sweep, whose grid was {{'lr': [0.001]}}, and is {{'lr': [0.01]}}: "
    )


def test_without_the_extra_it_says_how_to_use_all_cpus(capsys, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    monkeypatch.setattr("minirnn.training.sweeps.engine.available_cpus", lambda: 4)
    settings = [*ADDING[:-2], "--grid", "lr=1e-3"]
    _, out = run(capsys, tmp_path, *settings)
    assert '\n(for a process on each of the 4 CPUs: pip install "minirnn[sweep]")\n' in out
    said = error(capsys, tmp_path, *settings, "--jobs", "2")
    assert said == '--jobs or --scheduler needs distributed, which is not installed: try pip install "minirnn[sweep]"'


def test_a_bar_with_the_best_so_far(tmp_path):
    command = [
        sys.executable,
        "-m",
        "minirnn",
        "sweep",
        *ADDING,
        "--grid",
        "lr=1e-3,1e-2",
        "--out",
        str(tmp_path / "out"),
    ]
    environment = {"COLUMNS": "100"}

    def start(stderr):
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=stderr, env={**os.environ, **environment})

    process, out, shown = run_on_a_terminal(start)
    assert process.returncode == 0, out
    assert re.search(r" [1-4]/4 \[\d\d:\d\d<\S+, best [\d.]+: lr 0\.0?01, seed [01]\]", shown)
