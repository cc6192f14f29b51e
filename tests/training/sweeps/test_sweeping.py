"""Sweeps in one process: results, seeds, resuming, refusals. On several: test_cluster.py."""

import csv
import errno
import json
import os
import re
import subprocess
import sys

import numpy as np
import pytest
import sweep_runs
from error_texts import raises

import minirnn as mr
from minirnn.checkpoints import DirectoryLockedError
from minirnn.training import Between, OneOf, sweep
from minirnn.training.sweeps import running, sweeping
from minirnn.training.sweeps.settings import MOST, Grid, name_of, number_of


def twice(trial):
    return 2 * trial["a"] + trial.seed


def here(tmp_path, grid, run=twice, **settings):
    return sweep(run, grid, **{"seeds": 2, "out": tmp_path / "out", "engine": 1, "progress": False} | settings)


# --- what comes of it -------------------------------------------------------------------------------------------------


def test_every_setting_with_every_seed_in_the_order_of_the_grid(tmp_path):
    found = here(tmp_path, {"a": [3, 1], "b": ["x", None], "c": 0.5})
    assert [(r.settings, r.seed, r.figures) for r in found] == [
        ({"c": 0.5, "a": a, "b": b}, seed, {"figure": 2 * a + seed})
        for a in (3, 1)
        for b in ("x", None)
        for seed in (0, 1)
    ]
    assert (found.best.settings["a"], found.best.seed, found.varied) == (1, 0, ("a", "b"))


def test_a_trial_is_a_directory_that_says_all_of_it(tmp_path):
    found = here(tmp_path, {"hidden": [4], "lr": 0.01}, sweep_runs.train, seeds=[7])
    folder = tmp_path / "out" / found[0].name
    said = json.loads((folder / "settings.json").read_text())
    assert said["settings"] == {"lr": 0.01, "hidden": 4}
    assert (said["seed"], said["trial"], said["run"]) == (7, number_of(said["settings"]), "sweep_runs.train")
    assert said["streams"] == "SeedSequence([seed, trial]).spawn(3): model, data, rest"
    result = json.loads((folder / "result.json").read_text())
    assert (result["status"], result["figures"]) == ("finished", found[0].figures)
    rows = (folder / "history.csv").read_text().splitlines()
    assert len(rows) == 1 + sweep_runs.UPDATES
    assert [path.name for path in sorted((folder / "checkpoints").glob("*.npz"))] == [
        "best.npz",
        "checkpoint-00000040.npz",
    ]
    # Its streams are what the rule says, and those of the same trial alone.
    for_model, for_data, _ = np.random.SeedSequence([7, said["trial"]]).spawn(3)
    layer = mr.GRULayer(2, 4, recurrent_dropout=0.1, rng=np.random.default_rng(for_model))
    first = mr.training.Trial(said["settings"], 7, folder)
    assert (mr.GRULayer(2, 4, recurrent_dropout=0.1, rng=first.for_model).W_xh.data == layer.W_xh.data).all()
    assert first.for_data.random() == np.random.default_rng(for_data).random()


def test_a_trial_does_not_depend_on_what_stands_beside_it(tmp_path):
    whole = here(tmp_path, sweep_runs.GRID, sweep_runs.train)
    one = here(tmp_path, {"lr": [1e-2], "hidden": [6]}, sweep_runs.train, seeds=[1], out=tmp_path / "one")
    assert sweep_runs.lines(one) == sweep_runs.lines(whole)[-1:]
    assert len({r.figures["loss"] for r in whole}) == len(whole)
    assert {r.figures["threads"] for r in whole} == {1}


def failing(trial):
    a = trial["a"]
    if a == "raises":
        raise ArithmeticError("no root\nof it")
    if a == "loss":
        layer = mr.RecurrentLayer(2, 3, rng=trial.for_model)
        x = np.where(np.arange(9)[:, None, None] < 8, np.ones((9, 4, 2)), np.nan)
        trial.fit(layer, [(x[t : t + 1], np.zeros((1, 4, 3))) for t in range(9)], loss=mr.losses.mse,
                  optimizer=mr.optim.SGD(layer.parameters(), 0.1))  # fmt: skip
    if a == "disk":
        raise OSError(errno.ENOSPC, "No space left on device")
    return {"figure": {"nan": np.nan, "text": "0.5"}.get(a, 1.0), "right": True}


def test_what_fails_is_a_result_with_its_reason(tmp_path):
    kinds = ["sound", "raises", "loss", "nan", "text", "disk"]
    found = here(tmp_path, {"a": kinds}, failing, seeds=1)
    assert [r.status for r in found] == ["finished", "failed", "diverged", "diverged", "failed", "failed"]
    reasons = [r.reason for r in found]
    assert reasons[:2] == ["", "ArithmeticError: no root of it"]
    assert reasons[2].startswith("fit: update 9 was not made: the loss is nan.")
    assert reasons[3] == "figure is nan"
    assert reasons[4].startswith(
        "TypeError: sweep: run must return a number or a dict of numbers by name, got {'figure"
    )
    assert reasons[5] == "OSError: [Errno 28] No space left on device"
    # The history up to it is kept; what the machine is to blame for is tried again.
    assert len((tmp_path / "out" / found[2].name / "history.csv").read_text().splitlines()) == 9
    there = {r.name for r in found if (tmp_path / "out" / r.name / "result.json").exists()}
    assert there == {r.name for r in found[:5]}
    again = here(tmp_path, {"a": kinds}, failing, seeds=1, resume=True)
    assert [r.reason for r in again] == reasons
    text = found.table()
    assert re.search(r"^\*  sound +1 +1 +1 +– +1 of 1$", text, re.M)
    assert re.search(r"^   raises +0 of 1 +– +– +– +–$", text, re.M)
    assert "failed: a raises, seed 0: ArithmeticError: no root of it" in text
    with open(tmp_path / "out" / "results.csv", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [(row["a"], row["status"], row["figure"]) for row in rows[:4]] == [
        ("sound", "finished", "1.0"), ("raises", "failed", ""), ("loss", "diverged", ""), ("nan", "diverged", "nan"),
    ]  # fmt: skip


def test_a_disk_that_is_full_in_one_trial_fails_that_one(tmp_path, monkeypatch):
    write = running.Result.write

    def full(result, folder):
        if result.settings["a"] == 2:
            raise OSError(errno.ENOSPC, "No space left on device")
        write(result, folder)

    monkeypatch.setattr(running.Result, "write", full)
    found = here(tmp_path, {"a": [1, 2, 3]}, seeds=1)
    assert [r.status for r in found] == ["finished", "failed", "finished"]
    assert found[1].reason == "OSError: [Errno 28] No space left on device"
    monkeypatch.undo()
    assert [r.status for r in here(tmp_path, {"a": [1, 2, 3]}, seeds=1, resume=True)] == ["finished"] * 3


# --- on and on --------------------------------------------------------------------------------------------------------


def test_a_trial_that_was_cut_short_goes_on_to_the_same_bits(tmp_path, monkeypatch):
    whole = here(tmp_path, sweep_runs.GRID, sweep_runs.train, out=tmp_path / "whole")
    fit, calls = mr.training.Trial.fit, []

    def interrupted(trial, *arguments, **settings):
        calls.append(trial)
        stop = (lambda history: history.updates == 23) if len(calls) == 3 else None
        history = fit(trial, *arguments, stop=stop, **settings)
        if stop is not None:
            raise KeyboardInterrupt
        return history

    monkeypatch.setattr(mr.training.Trial, "fit", interrupted)
    begun = here(tmp_path, sweep_runs.GRID, sweep_runs.train)
    assert (len(begun), begun.interrupted) == (2, True)
    monkeypatch.undo()
    rest = here(tmp_path, sweep_runs.GRID, sweep_runs.train, resume=True)
    assert sweep_runs.lines(rest) == sweep_runs.lines(whole)
    assert sweep_runs.histories(tmp_path / "out") == sweep_runs.histories(tmp_path / "whole")
    began = {r.name: (tmp_path / "out" / r.name / "began").read_text().count("\n") for r in rest}
    assert list(began.values()) == [1, 1, 2, *[1] * 5]
    here(tmp_path, sweep_runs.GRID, sweep_runs.train, resume=True)
    assert (tmp_path / "out" / rest[0].name / "began").read_text().count("\n") == 1


def test_more_seeds_may_be_asked_for_but_no_other_sweep(tmp_path):
    here(tmp_path, {"a": [1, 2]}, seeds=1)
    assert len(here(tmp_path, {"a": [1, 2]}, seeds=3, resume=True)) == 6
    there = repr(str(tmp_path / "out"))
    with raises(
        ValueError, f"sweep: out: {there} holds a sweep: pass resume=True to go on with it, or choose another directory"
    ):
        here(tmp_path, {"a": [1, 2]})
    for run, a, what in (
        (twice, [1], "grid was {'a': [1, 2]}, and is {'a': [1]}"),
        (failing, [1, 2], "run was 'test_sweeping.twice', and is 'test_sweeping.failing'"),
    ):
        hint = "give it the same one, or choose another directory"
        with raises(ValueError, f"sweep: out: {there} holds another sweep, whose {what}: {hint}"):
            here(tmp_path, {"a": a}, run, resume=True)
    (tmp_path / "out" / "sweep.json").write_text("{")
    with raises(ValueError, f"sweep: out: {there} has a sweep.json that no sweep wrote: choose another directory"):
        here(tmp_path, {"a": [1, 2]}, resume=True)


def test_two_sweeps_on_one_directory_are_refused(tmp_path):
    def run(trial):
        with pytest.raises(DirectoryLockedError, match=f"^sweep: .* is in use by process {os.getpid()} on "):
            here(tmp_path, {"a": [1]}, resume=True, run=run)
        return 1.0

    assert here(tmp_path, {"a": [1]}, run, seeds=1)[0].status == "finished"


def test_a_result_that_is_none_is_refused_and_a_directory_that_is_not_shared_is_said_to_be(tmp_path):
    found = here(tmp_path, {"a": [1]}, seeds=1)
    path = tmp_path / "out" / found[0].name / "result.json"
    path.write_text('{"status": "well"}')
    text = f"sweep: {str(path)!r} is no result that a sweep wrote: remove it, and its trial is run again"
    with raises(ValueError, text):
        here(tmp_path, {"a": [1]}, seeds=1, resume=True)
    order = running.Order(twice, {"a": 1}, 0, tmp_path / "elsewhere" / "trial")
    result = running.run_trial(order)
    assert re.match(
        r"FileNotFoundError: .*elsewhere' is no sweep's directory on .*: choose an out that all", result.reason
    )


# --- said before anything starts --------------------------------------------------------------------------------------

CHOOSE = "fewer values, fewer seeds, drawn settings (Between, OneOf) or optuna=N"
REFUSED = [
    ({"a": []}, {}, ValueError, "sweep: grid['a'] must have a value at least, got none: leave it out, or name one"),
    ({"a": [1, True]}, {}, ValueError, "sweep: grid['a'] must have each value once, got True twice"),
    ({"a": [float("nan")]}, {}, ValueError, "sweep: grid['a'] must hold no NaN, which equals nothing"),
    (["a"], {}, TypeError, "sweep: grid must be a dict such as {'lr': [1e-3, 5e-3]}, got ['a'] (list)"),
    (
        {"a": [max]}, {}, TypeError,
        "sweep: grid['a'] must hold str, numbers, bool or None, which can be written down, got <built-in function max> "
        "(builtin_function_or_method): give it a name, and look that up in run",
    ),
    (
        {"a": range(1000), "b": range(1000)}, {}, ValueError,
        f"sweep: grid has 1,000,000 combinations, times 2 seeds 2,000,000 trials, of at most 100,000: try {CHOOSE}",
    ),
    (
        {"a": range(10**9)}, {}, ValueError,
        f"sweep: grid['a'] must have at most {MOST:,} values, got more: try {CHOOSE}",
    ),
    (
        {"a": Between(2, 1)}, {}, ValueError,
        "sweep: grid['a'] must be between two finite numbers, the lower first, got 2 and 1",
    ),
    (
        {"a": [1]}, {"draws": 3}, ValueError,
        "sweep: draws must be 1 where nothing is drawn, got 3: give grid a Between or a OneOf",
    ),
    ({"a": [1]}, {"seeds": 0}, ValueError, "sweep: seeds must be an int ≥ 1, got 0: try 1 or more"),
    (
        {"a": [1]}, {"seeds": [1, 1]}, ValueError,
        "sweep: seeds must be different ints ≥ 0, got [1, 1] (list): try range(5)",
    ),
    ({"a": [1]}, {"run": 3}, TypeError, "sweep: run must be a callable (trial) -> figures, got 3 (int)"),
    ({"a": [1]}, {"storage": "x"}, ValueError, "sweep: storage belongs to optuna=N, got it alone: leave it out"),
    ({"a": [1]}, {"engine": 0}, ValueError, "sweep: engine must be an int ≥ 1, got 0: try 1 or more"),
]  # fmt: skip


@pytest.mark.parametrize(("grid", "settings", "kind", "message"), REFUSED)
def test_refused_before_anything_is_made(tmp_path, grid, settings, kind, message):
    with raises(kind, message):
        here(tmp_path, grid, **settings)
    assert not (tmp_path / "out").exists()


def test_without_the_extra_several_processes_are_refused_and_none_are_asked_for(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    monkeypatch.setattr("minirnn.training.sweeps.engine.available_cpus", lambda: 4)
    hint = 'which is not installed: try pip install "minirnn[sweep]"'
    with raises(ImportError, f"sweep: engine=2 needs distributed, {hint}"):
        here(tmp_path, {"a": [1]}, engine=2)
    monkeypatch.setitem(sys.modules, "optuna", None)
    with raises(ImportError, f"sweep: optuna needs optuna, {hint}"):
        here(tmp_path, {"a": [1]}, optuna=1)
    assert [r.figures["figure"] for r in here(tmp_path, {"a": [1]}, engine=None, out=tmp_path / "other")] == [2, 3]


# --- who a trial is ---------------------------------------------------------------------------------------------------


def test_names_and_numbers_belong_to_the_settings():
    a, b = {"lr": 0.001, "init": "irnn"}, {"init": "irnn", "lr": 1e-3}
    assert (name_of(a, 3), number_of(a)) == (name_of(b, 3), number_of(b)) == ("e1251d100212d908", 1453387448554280686)
    assert len({name_of(a, 4), name_of(a, 3), name_of(a | {"lr": 1}, 3), name_of(a | {"lr": "1"}, 3)}) == 4
    assert number_of({"a": 1}) != number_of({"a": 1.0})


def test_what_is_drawn_is_the_same_whenever_it_is_asked_for():
    grid = {"a": [1, 2], "lr": Between(1e-4, 1e-1), "H": Between(2, 9), "p": Between(0.0, 0.5), "c": OneOf("xyz")}
    first, second = [*Grid(grid, 200)], [*Grid(grid, 200)]
    assert first == second
    assert len(first) == Grid(grid, 200).size == 400
    assert {s["H"] for s in first} == set(range(2, 10))
    assert {s["c"] for s in first} == {*"xyz"}
    lr = np.log10([s["lr"] for s in first])
    assert -4 <= lr.min() < -3.9 < -1.1 < lr.max() <= -1
    assert abs(np.median(lr) + 2.5) < 0.2
    assert 0 <= min(s["p"] for s in first) < 0.02 < 0.48 < max(s["p"] for s in first) < 0.5
    assert Grid(grid).varied == ("a", "lr", "H", "p", "c")


def test_of_many_settings_the_table_shows_the_best(tmp_path):
    found = here(tmp_path, {"a": range(5)}, seeds=1)
    assert [line.split()[-4] for line in found.table(rows=2).splitlines()[4:6]] == ["1", "1"]
    assert found.table(rows=2).endswith("… and 3 settings more, which are worse: results.csv has them all")
    assert found.chart().splitlines()[0] == "median figure by a"
    assert sweeping._KEPT_EVERY == 1


def test_sigterm_saves_the_trial_that_is_under_way(tmp_path):
    command = [sys.executable, sweep_runs.__file__, "1", "0.02", str(tmp_path)]

    def saved():
        return len(list(tmp_path.glob("*/checkpoints")))

    def under_way():
        ended = sweep_runs.ended(tmp_path)
        return ended and sweep_runs.at_work(tmp_path) == [process.pid] and saved() == ended + 1

    with subprocess.Popen(command) as process:
        sweep_runs.wait_until(under_way)
        process.terminate()
    assert process.returncode == -15
    assert saved() == sweep_runs.ended(tmp_path) + 1
