"""`fit(checkpoint=…)`: a run that was stopped goes on to the same bits, in a new process too."""

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from error_texts import raises
from false_alarms import strict
from training_runs import WAYS, seen, train

import minirnn as mr
from minirnn.checkpoints import CheckpointDirectory, DirectoryLockedError
from minirnn.training import Checkpointing, NonFiniteError, fit

SCRIPT = str(Path(__file__).with_name("training_runs.py"))


def process(way, updates, path, out, **more):
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1", **more}
    command = [sys.executable, *strict(), SCRIPT, way, str(updates), str(path), str(out)]
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


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_that_is_ignored_stays_so(number, tmp_path):
    """As SIGINT in the background of a shell."""

    def ask(history):
        during.append(signal.getsignal(number))
        signal.raise_signal(number)

    during, before = [], signal.signal(number, signal.SIG_IGN)
    try:
        history = classifier(tmp_path, 3, callbacks=[ask])
        assert signal.getsignal(number) == signal.SIG_IGN
    finally:
        signal.signal(number, before)
    assert during == [signal.SIG_IGN] * 3
    assert (history.updates, history.interrupted, history.signal) == (3, False, 0)


def test_the_history_says_which_signal_it_was(tmp_path):
    history = classifier(tmp_path, 3, callbacks=[lambda history: signal.raise_signal(signal.SIGTERM)])
    assert (history.updates, history.interrupted, history.signal) == (1, True, signal.SIGTERM)


def test_elsewhere_than_in_the_main_thread_signals_are_left_alone(tmp_path):
    during, before = [], signal.getsignal(signal.SIGTERM)
    look = [lambda history: during.append(signal.getsignal(signal.SIGTERM))]
    thread = threading.Thread(target=classifier, args=(tmp_path, 2), kwargs={"callbacks": look})
    thread.start()
    thread.join()
    assert during == [before] * 2


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


def echo(path, updates=4, lr=0.1, momentum=0.5, delay=1, groups=False, **settings):
    task = mr.tasks.EchoTask(T=5, delay=delay)
    model = mr.SequenceModel(mr.RecurrentLayer(task.input_size, 3, rng=0), mr.Linear(3, task.output_size, rng=0))
    more = {name: settings.pop(name) for name in ("weight_decay", "nesterov") if name in settings}
    params = [{"params": model.parameters(), "weight_decay": 0.1}] if groups else model.parameters()
    sgd = mr.optim.SGD(params, lr, momentum=momentum, **more)
    how = Checkpointing(path, 2, resume=True)
    settings = {"batch": 4, "rng": 1, "schedule": mr.training.schedules.linear(8, 0.5), "progress": False, **settings}
    rates = []
    history = fit(model, task, optimizer=sgd, max_updates=updates, checkpoint=how,
                  callbacks=[lambda history: rates.append(sgd.lr)], **settings)  # fmt: skip
    return history, rates


def test_what_a_run_was_begun_with_counts_when_it_goes_on(capsys, tmp_path):
    history, rates = echo(tmp_path)
    assert history.resumed is None
    path, then, linear = (
        tmp_path / "checkpoint-00000004.npz",
        (tmp_path / "checkpoint-00000004.npz").read_bytes(),
        "linear",
    )
    for change, faults in (
        ({"lr": 0.2}, ["lr was 0.1, and is 0.2"]),
        ({"lr": 0.2, "schedule": None}, ["schedule was linear(8, 0.5), and is None", "lr was 0.1, and is 0.2"]),
        ({"momentum": 0.9}, ["momentum was 0.5, and is 0.9"]),
        ({"schedule": mr.training.schedules.linear(9)}, [f"schedule was {linear}(8, 0.5), and is {linear}(9, 0.0)"]),
        ({"batch": 5, "rng": 2}, ["batch was 4, and is 5", "rng was 1, and is 2"]),
        ({"delay": 2}, ["task was EchoTask(T=5, delay=1), and is EchoTask(T=5, delay=2)"]),
        (
            {"tbptt": (2, 3), "carry_state": True},
            ["tbptt was None, and is (2, 3)", "carry_state was False, and is True"],
        ),
    ):
        with pytest.raises(
            mr.checkpoints.CheckpointError, match=r"nothing was restored\. Build everything as "
        ) as error:
            echo(tmp_path, 8, **change)
        assert str(error.value).split("\n  ")[1:] == [f"the run's {fault}" for fault in faults]
    assert path.read_bytes() == then
    again, more = echo(tmp_path, 8, clip_norm=9.0, rng=np.int64(1), progress=True)
    assert "\r 50%|" in (
        shown := capsys.readouterr().err
    )  # the bar begins where the run goes on, or its speed is wrong
    assert "  0%|" not in shown
    assert again.resumed == path
    assert rates + more == pytest.approx([0.1 * (1 - k / 16) for k in range(8)])
    assert echo(tmp_path / "whole", 8)[0].loss.tolist() == again.loss.tolist()


def test_what_an_older_version_had_not_was_not_set(tmp_path, monkeypatch):
    describe = mr.training.saving.describe_training

    def older(*args, begun, **more):
        lacking = ("weight_decay", "nesterov", "groups", "accumulate", "scheduled_sampling")
        return describe(*args, begun={name: value for name, value in begun.items() if name not in lacking}, **more)

    monkeypatch.setattr(mr.training.saving, "describe_training", older)
    echo(tmp_path)
    for change in ({"weight_decay": 0.1, "nesterov": True}, {"groups": True}, {"accumulate": 2}):
        with pytest.raises(mr.checkpoints.CheckpointError) as error:
            echo(tmp_path, 8, **change)
        assert all(f"the run's {name} was " in str(error.value) for name in change)
    assert echo(tmp_path, 8)[0].updates == 8


def test_a_schedule_of_ones_own_is_not_known_and_not_compared(tmp_path):
    echo(tmp_path, schedule=lambda update: 1.0)
    assert echo(tmp_path, 8, schedule=lambda update: 0.5)[1] == [0.05] * 4


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


def at(update):
    """Make a callback, or a stop, that fails after this update."""

    def fail(history):
        if history.updates == update:
            raise LookupError("mine")

    return fail


def cut_short(update):
    yield from [GOOD] * update
    raise LookupError("mine")


@pytest.mark.parametrize(
    "settings", [{"callbacks": [at(3)]}, {"stop": at(3)}, {"data": cut_short(3)}], ids=["callback", "stop", "batches"]
)
def test_an_error_after_an_update_leaves_the_update_saved_and_goes_on(settings, tmp_path):
    with raises(LookupError, "mine"):
        classifier(tmp_path, 5, **settings)
    assert list(CheckpointDirectory(tmp_path).paths()) == [3]
    assert classifier(tmp_path, 5).loss.tolist() == classifier(tmp_path / "whole", 5).loss.tolist()


@pytest.mark.parametrize("good", [0, 2])
def test_an_error_within_an_update_saves_nothing(good, tmp_path):
    """Its Generators have drawn already: going on would not give the same bits."""
    left = [True] * good

    def metric(predictions, y):
        return float(left.pop())

    with pytest.raises(IndexError) as caught:
        classifier(tmp_path, 5, metrics={"mine": metric})
    assert not hasattr(caught.value, "__notes__")
    assert not CheckpointDirectory(tmp_path).paths()


def test_an_error_where_nothing_can_be_saved_stays_the_error(tmp_path, monkeypatch):
    monkeypatch.setattr(CheckpointDirectory, "save", lambda *_, **__: 1 / 0)
    with pytest.raises(LookupError) as caught:
        classifier(tmp_path, 5, callbacks=[at(3)])
    assert caught.value.__notes__ == [
        f"fit: the last update was not saved: division by zero. There is no checkpoint in {str(tmp_path)!r} yet."
    ]


def test_signals_are_what_they_were_afterwards(tmp_path):
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    train("whole", 2, tmp_path)
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before
