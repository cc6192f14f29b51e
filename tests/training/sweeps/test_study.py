"""Sweeps whose settings Optuna suggests."""

import re

import pytest
import sweep_runs
from error_texts import raises

import minirnn as mr
from minirnn.training import Between, sweep
from minirnn.training.sweeps.study import NAME

pytestmark = pytest.mark.peer


def far(trial):
    """A figure that needs no training: how far the settings are from the best, and a little noise."""
    noise = trial.for_rest.random() / 10
    return {"far": abs(trial["lr"] - 0.03) + (trial["kind"] != "b") + noise, "width": trial["width"]}


GRID = {"lr": Between(1e-4, 1.0), "width": Between(2, 64), "kind": ["a", "b", None], "same": 7}


def suggested(tmp_path, run=far, grid=GRID, **settings):
    how = {"seeds": 2, "out": tmp_path / "out", "engine": 1, "optuna": 12, "progress": False}
    return sweep(run, grid, **how | settings)


def in_the_journal(optuna, path):
    backend = optuna.storages.journal.JournalFileBackend(str(path))
    return optuna.load_study(study_name=NAME, storage=optuna.storages.JournalStorage(backend)).trials


def test_settings_are_suggested_each_with_every_seed_and_the_journal_knows_their_figures(tmp_path, optuna):
    found = suggested(tmp_path)
    assert [r.seed for r in found] == [0, 1] * 12
    assert all(a.settings == b.settings for a, b in zip(found[::2], found[1::2], strict=True))
    assert all(1e-4 <= r.settings["lr"] <= 1 and r.settings["same"] == 7 for r in found)
    assert all(type(r.settings["width"]) is int and 2 <= r.settings["width"] <= 64 for r in found)
    told = in_the_journal(optuna, tmp_path / "out" / "study.journal")
    assert [trial.value for trial in told] == [r.figures["far"] for r in found]
    assert [trial.user_attrs["seed"] for trial in told] == [r.seed for r in found]
    again = suggested(tmp_path, out=tmp_path / "again", storage=tmp_path / "elsewhere.journal")
    assert list(again) == [r._replace(seconds=b.seconds) for r, b in zip(found, again, strict=True)]  # in one process
    assert (tmp_path / "elsewhere.journal").exists()
    assert not (tmp_path / "again" / "study.journal").exists()


def test_a_study_that_was_cut_short_goes_on_with_what_it_knew(tmp_path, optuna):
    calls = []

    def stopped(trial):
        calls.append(trial)
        if len(calls) == 8:
            raise KeyboardInterrupt
        return far(trial)

    begun = suggested(tmp_path, stopped)
    assert (len(begun), begun.interrupted) == (7, True)
    rest = suggested(tmp_path, stopped, resume=True)
    assert (len(rest), len(calls)) == (24, 8 + 17)
    assert rest[:7] == begun
    assert calls[7].settings == calls[8].settings == rest[7].settings
    told = in_the_journal(optuna, tmp_path / "out" / "study.journal")
    assert len(told) == 24
    assert {trial.state.name for trial in told} == {"COMPLETE"}
    more = suggested(tmp_path, stopped, resume=True, optuna=13, seeds=3)  # a setting and a seed more
    assert len(more) == 39
    assert len({r.name for r in more}) == 39


def learning(trial):
    task, rng = mr.tasks.AddingTask(T=4), trial.for_model
    model = mr.SequenceModel(mr.GRULayer(2, 6, rng=rng), mr.Linear(6, 1, rng=rng), readout="last")
    adam = mr.optim.Adam(model.parameters(), lr=trial["lr"])
    history = trial.fit(model, task, optimizer=adam, max_updates=300, batch=4)
    return {"loss": history.recent(), "updates": history.updates}


def test_what_does_worse_than_most_is_pruned_and_its_history_kept(tmp_path, optuna):
    grid = {"lr": Between(1e-6, 1e-1)}
    found = suggested(tmp_path, learning, grid, optuna=8)
    pruned = [r for r in found if r.status == "pruned"]
    assert pruned
    assert max(r.settings["lr"] for r in pruned) < 1e-2
    assert found.best.settings["lr"] > 1e-3
    assert {r.reason for r in pruned} == {"others did better by then"}
    for result in pruned:
        rows = (tmp_path / "out" / result.name / "history.csv").read_text().splitlines()
        assert len(rows) - 1 == result.figures["updates"] < 300
    told = in_the_journal(optuna, tmp_path / "out" / "study.journal")
    assert "PRUNED" in {trial.state.name for trial in told}
    assert re.search(r"^pruned: lr \S+, seed \d", found.table(), re.M)


def test_several_processes_are_asked_for_no_more_than_they_can_run(tmp_path, optuna, distributed, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(sweep_runs.__file__).rpartition("/")[0], prepend=":")
    grid = {"lr": [1e-3, 1e-2], "hidden": [4, 6]}
    found = sweep(sweep_runs.train, grid, seeds=2, out=tmp_path / "out", engine=2, optuna=4, progress=False)
    told = in_the_journal(optuna, tmp_path / "out" / "study.journal")
    assert len(told) == 8  # a setting that was suggested twice is run once
    assert {r.name: r.figures for r in found}.keys() == {r.name for r in found}
    by_name = {r.name: r.figures["held-out"] for r in found}
    alone = sweep(sweep_runs.train, grid, seeds=2, out=tmp_path / "alone", engine=1, progress=False)
    assert by_name.items() <= {r.name: r.figures["held-out"] for r in alone}.items()


def test_what_optuna_cannot_do_is_refused(tmp_path, optuna):
    with raises(ValueError, "sweep: optuna needs something to suggest: give grid a list of values, Between or OneOf"):
        suggested(tmp_path, grid={"lr": 1e-3})
    with raises(ValueError, "sweep: draws says how often a grid draws, got it with optuna=N, which says how often: 1"):
        suggested(tmp_path, draws=2)
    (tmp_path / "text").write_text("no journal\n")
    with pytest.raises(ValueError, match=r"^sweep: storage must be a journal that Optuna wrote, got '.*text': "):
        suggested(tmp_path, storage=tmp_path / "text")
