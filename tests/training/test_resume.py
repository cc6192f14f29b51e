"""`fit(checkpoint=…)`: a run that was stopped goes on to the same bits, in a new process too."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from error_texts import raises
from training_runs import WAYS, seen, train

import minirnn as mr
from minirnn.checkpoints import CheckpointDirectory, DirectoryLockedError
from minirnn.training import Checkpointing, NonFiniteError, fit

SCRIPT = str(Path(__file__).with_name("training_runs.py"))


def process(way, updates, path, out, **more):
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1", **more}
    command = [sys.executable, "-W", "error", SCRIPT, way, str(updates), str(path), str(out)]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.parametrize("way", WAYS)
def test_checkpoints_change_nothing_and_any_of_them_will_do(way, tmp_path):
    whole = seen(*train(way, 20))
    assert seen(*train(way, 20, tmp_path / "run", save_every=3)) == whole
    for update in (15, 18):
        path = tmp_path / f"from {update}"
        path.mkdir()
        name = f"checkpoint-{update:08d}.npz"
        (path / name).write_bytes((tmp_path / "run" / name).read_bytes())
        assert seen(*train(way, 20, path, resume=True)) == whole


@pytest.mark.parametrize(("way", "number"), [("whole", signal.SIGINT), ("truncated", signal.SIGTERM)])
def test_a_signal_saves_and_resuming_goes_on(way, number, tmp_path):
    out = tmp_path / "seen.json"
    run = process(way, 30, tmp_path / "run", out, PAUSE="0.02")
    for _ in range(6):
        run.stdout.readline()
    run.send_signal(number)
    _, err = run.communicate(timeout=60)
    assert (run.returncode, err) == (0, "")
    stopped, interrupted = json.loads(out.read_text())
    updates = len(bytes.fromhex(stopped["loss"])) // 8
    assert interrupted
    assert 6 <= updates < 30
    assert list(CheckpointDirectory(tmp_path / "run").paths())[-1] == updates
    assert seen(*train(way, 30, tmp_path / "run", resume=True)) == seen(*train(way, 30))


def test_asked_twice_it_stops_at_once(tmp_path):
    def twice(history):
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
        raise AssertionError("it went on")

    history = classifier(tmp_path, 5, callbacks=[twice])
    assert (history.updates, history.interrupted) == (1, True)
    assert CheckpointDirectory(tmp_path).latest() is None


GOOD, BAD = ((np.full((5, 2, 2), fill), np.ones((5, 2), int)) for fill in (1.0, np.nan))


def classifier(path, updates, resume=True, data=(GOOD,) * 9, every=1000, metric="loss", **settings):
    rng = np.random.default_rng(0)
    model = mr.SequenceModel(mr.RecurrentLayer(2, 3, rng=rng), mr.Linear(3, 4, rng=rng))
    return fit(
        model, data, loss=mr.losses.cross_entropy, progress=False, optimizer=mr.optim.SGD(model.parameters(), 0.1),
        max_updates=updates, checkpoint=Checkpointing(path, every, resume, metric=metric, settings={"hidden": 3}),
        **settings,
    )  # fmt: skip


def test_what_stop_notes_is_in_the_checkpoint_of_the_same_update(tmp_path):
    def stop(history):
        if history.updates % 2 == 0:
            history.record("asked", history.loss[-1])
        return False

    whole = classifier(tmp_path / "whole", 8, every=2, stop=stop)
    for updates in (3, 4, 8):
        parted = classifier(tmp_path / "parted", updates, every=2, stop=stop)
    assert parted.evaluations == whole.evaluations
    assert [e.update for e in whole.evaluations["asked"]] == [2, 4, 6, 8]


def test_the_best_is_one_of_the_updates_at_which_it_was_measured(tmp_path):
    figures = iter([5.0, 1.0, 3.0])
    note = mr.training.every(3, lambda history: history.record("held-out", next(figures)))
    classifier(tmp_path, 9, every=1, metric="held-out", callbacks=[note])
    directory = CheckpointDirectory(tmp_path)
    assert len(directory.best().extra["history"]["loss"]) == 6
    assert directory.best().metrics["held-out"] == 1.0
    assert directory.latest().settings == {"hidden": 3}
    assert list(directory.paths()) == [7, 8, 9]
    assert directory.latest().metrics["held-out"] == 3.0
    assert "held-out" not in mr.checkpoints.load_checkpoint(tmp_path / "checkpoint-00000008.npz").metrics


def test_a_loss_that_is_not_finite_names_the_last_good_checkpoint(tmp_path):
    with pytest.raises(NonFiniteError) as caught:
        classifier(tmp_path, 9, every=2, data=[GOOD] * 5 + [BAD])
    path = tmp_path / "checkpoint-00000004.npz"
    assert str(caught.value).startswith("fit: update 6 was not made: the loss is nan. ")
    assert "x holds nan" in str(caught.value)
    assert str(caught.value).endswith(f". The last good checkpoint is {str(path)!r}")
    assert caught.value.history.updates == 5
    assert path.exists()
    with pytest.raises(NonFiniteError, match=rf"There is no checkpoint in '{tmp_path / 'new'}.*' yet$"):
        classifier(tmp_path / "new", 9, data=[BAD])


def test_what_is_another_run_is_refused_and_stays_as_it_is(tmp_path):
    with CheckpointDirectory(tmp_path / "locked"), pytest.raises(DirectoryLockedError, match="is in use by process"):
        train("whole", 3, tmp_path / "locked")
    classifier(tmp_path, 5)
    told = (
        "has checkpoints of a run that made 5 updates: pass resume=True to go on with it, or choose an empty directory"
    )
    with raises(ValueError, f"fit: checkpoint: {str(tmp_path)!r} {told}"):
        classifier(tmp_path, 9, resume=False)
    with raises(ValueError, "fit: batches gave 3, and 5 have been trained on already: resume with the same"):
        classifier(tmp_path, 9, data=[GOOD] * 3)
    layer = mr.RecurrentLayer(3, 6, rng=0)
    before = layer.W_hh.data.copy()
    adam, how = mr.optim.Adam(layer.parameters()), Checkpointing(tmp_path, resume=True)
    with pytest.raises(ValueError, match=r"was saved from a model of type SequenceModel that was built otherwise"):
        fit(layer, [], loss=mr.losses.mse, optimizer=adam, max_updates=9, checkpoint=how)
    assert np.array_equal(layer.W_hh.data, before)


# --- what a history holds ---------------------------------------------------------------------------------------------


def test_clip_norm_is_in_the_history_and_in_its_checkpoints(tmp_path):
    assert classifier(tmp_path, 3, clip_norm=0.05).clip_norm == 0.05
    saved = CheckpointDirectory(tmp_path).latest()
    assert saved.extra["history"]["clip_norm"] == 0.05
    assert mr.training.saving.history_of(saved).clip_norm == 0.05
    resumed = classifier(tmp_path, 4, clip_norm=0.01)
    assert resumed.clip_norm == 0.01
    assert resumed.clipped == (resumed.grad_norm > 0.01).mean()


@pytest.mark.parametrize("clip_norm", [None, np.inf])
def test_without_clipping_the_history_has_no_clip_norm(tmp_path, clip_norm):
    assert classifier(tmp_path, 3, clip_norm=clip_norm).clip_norm is None
    assert CheckpointDirectory(tmp_path).latest().extra["history"]["clip_norm"] is None


def test_a_checkpoint_of_an_older_version_knows_nothing_of_clipping(tmp_path, monkeypatch):
    describe = mr.training.saving.describe_training

    def older(*args, **more):
        state = describe(*args, **more)
        del state["extra"]["history"]["clip_norm"]
        return state

    monkeypatch.setattr(mr.training.saving, "describe_training", older)
    classifier(tmp_path, 3, clip_norm=0.05)
    saved = CheckpointDirectory(tmp_path).latest()
    assert "clip_norm" not in saved.extra["history"]
    assert mr.training.saving.history_of(saved).clip_norm is None
    assert classifier(tmp_path, 5, clip_norm=0.05).updates == 5


@pytest.mark.parametrize(("before", "after"), [({}, None), (None, {})])
def test_a_run_may_go_on_with_other_metrics(tmp_path, before, after):
    classifier(tmp_path, 3, metrics=before)
    history = classifier(tmp_path, 5, metrics=after)
    measured = np.isfinite(history.metrics["accuracy"]).tolist()
    assert measured == ([True] * 3 + [False] * 2 if before is None else [False] * 3 + [True] * 2)
    history.to_csv(tmp_path / "history.csv")
    assert len((tmp_path / "history.csv").read_text().splitlines()) == 6
    assert classifier(tmp_path, 6, metrics=after).metrics["accuracy"].shape == (6,)


def test_signals_are_what_they_were_afterwards(tmp_path):
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    train("whole", 2, tmp_path)
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before
