"""`fit` of a task itself: its batches, loss and accuracy, held-out data by the way, and the stops that look there."""

import itertools
import json
import math

import numpy as np
import pytest
from error_texts import raises

import minirnn as mr
from minirnn.tasks import AddingTask, EchoTask, TextTask
from minirnn.training import (
    Checkpointing,
    accuracy,
    bits_per_character,
    early_stopping,
    evaluate,
    every,
    fit,
    measure,
    until_solved,
)

ADDING, ECHO = AddingTask(T=6), EchoTask(T=7, delay=2)
TEXT = TextTask("the cat sat on the mat.\n" * 90)


def model_for(task, cell=mr.LSTMLayer, H=6, **settings):
    rng, V = np.random.default_rng(0), task.output_size
    if task.inputs == "ids":
        return mr.SequenceModel(cell(4, H, rng=rng), mr.Linear(H, V, rng=rng), embedding=mr.Embedding(V, 4, rng=rng))
    layer = cell(task.input_size, H, rng=rng, **settings)
    return mr.SequenceModel(layer, mr.Linear(layer.output_size, V, rng=rng), readout=task.readout)


def run(task_or_batches, task, model=None, updates=7, lr=0.01, **settings):
    model = model or model_for(task)
    adam = mr.optim.Adam(model.parameters(), lr)
    until = None if isinstance(task_or_batches, list) else updates
    settings = {"optimizer": adam, "max_updates": until, "progress": False, "evaluate_every": 3, **settings}
    return fit(model, task_or_batches, **settings)


@pytest.mark.parametrize(("task", "loss"), [(ADDING, mr.losses.mse), (ECHO, mr.losses.cross_entropy)])
def test_a_task_is_trained_on_its_own_batches_with_its_own_loss(task, loss):
    ours = run(task, task, batch=3, rng=5)
    by_hand = run(task.batches(3, 5), task, loss=loss)
    assert ours.loss.tolist() == by_hand.loss.tolist()
    assert ours.loss.tolist() != run(task, task, batch=4, rng=5).loss.tolist()
    assert ours.loss.tolist() != run(task, task, batch=3, rng=6).loss.tolist()
    usual = run(task, task, rng=np.random.default_rng(5))
    assert usual.loss.tolist() == run(task.batches(task.defaults.batch, 5), task, loss=loss).loss.tolist()


def test_the_state_is_carried_through_a_text_unless_told_otherwise():
    cross_entropy = mr.losses.cross_entropy
    carried, afresh = (run(TEXT.streams(3, 20, 5), TEXT, loss=cross_entropy, carry_state=c) for c in (True, False))
    assert run(TEXT, TEXT, batch=3, rng=5).loss.tolist() == carried.loss.tolist()
    assert run(TEXT, TEXT, batch=3, rng=5, carry_state=False).loss.tolist() == afresh.loss.tolist()
    assert carried.loss[0] == afresh.loss[0]
    assert carried.loss[1] != afresh.loss[1]


def test_a_text_is_read_afresh_by_a_model_that_goes_back():
    embedding = mr.Embedding(TEXT.output_size, 3, rng=0)
    model = mr.SequenceModel(both(3, 2, 0), mr.Linear(4, TEXT.output_size, rng=0), embedding=embedding)
    assert run(TEXT, TEXT, model, batch=3, rng=5).updates == 7
    with pytest.raises(ValueError, match="carry_state=True needs a model that goes forward in time"):
        run(TEXT, TEXT, model, batch=3, rng=5, carry_state=True)


def test_a_text_model_without_a_state():
    model = mr.Sequential(mr.Embedding(TEXT.output_size, TEXT.output_size, rng=0))
    assert run(TEXT, TEXT, model, batch=3, rng=5).updates == 7


# --- accuracy ---------------------------------------------------------------------------------------------------------


def test_the_accuracy_of_a_classifier_is_measured():
    model, twin = model_for(ECHO), model_for(ECHO)
    x, ids = ECHO.batch(8, rng=3)
    history = run([(x, ids)] * 4, ECHO, model, loss=mr.losses.cross_entropy)
    assert list(history.metrics) == ["accuracy"]
    assert history.metrics["accuracy"].shape == (4,)
    assert history.metrics["accuracy"][0] == accuracy(twin(x)[0].numpy(), ids)
    assert history.recent(2, "accuracy") == pytest.approx(history.metrics["accuracy"][2:].mean())


def test_the_accuracy_knows_of_lengths():
    model, twin = model_for(ECHO), model_for(ECHO)
    x, ids = ECHO.batch(4, rng=3)
    lengths = np.array([1, 7, 2, 3])
    history = run([(x, ids, lengths)], ECHO, model, loss=mr.losses.cross_entropy)
    right = twin(x, lengths=lengths)[0].numpy().argmax(axis=-1) == ids
    assert history.metrics["accuracy"].tolist() == [right[np.arange(7)[:, None] < lengths].mean()]


@pytest.mark.parametrize("settings", [{"metrics": {}}, {"loss": lambda p, y: mr.losses.cross_entropy(p, y)}])
def test_the_accuracy_is_left_out(settings):
    assert run(ECHO, ECHO, rng=0, **settings).metrics == {}


def test_a_metric_that_fails_leaves_the_model_as_it_was():
    model = model_for(ECHO)
    before = [p.data.copy() for p in model.parameters()]
    with pytest.raises(ZeroDivisionError):
        run(ECHO, ECHO, model, rng=0, metrics={"bad": lambda p, y: 1 / 0})
    assert all(np.array_equal(a, p.data) for a, p in zip(before, model.parameters(), strict=True))


# --- a state that cannot be carried -----------------------------------------------------------------------------------


def both(D, H, rng):
    return mr.Bidirectional(mr.GRULayer(D, H, rng=rng), mr.GRULayer(D, H, reverse=True, rng=rng))


def backwards(D, H, rng):
    return mr.GRULayer(D, H, reverse=True, rng=rng)


def stack(D, H, rng):
    return mr.Stacked([mr.GRULayer(D, H, rng=rng), both(H, H, rng)])


@pytest.mark.parametrize(("cell", "name"), [(both, "Bidirectional"), (backwards, "GRULayer"), (stack, "Stacked")])
def test_the_state_of_a_layer_that_goes_back_is_not_carried(cell, name):
    model = model_for(EchoTask(T=7, delay=2), cell)
    text = (
        f"carry_state=True needs a model that goes forward in time, got SequenceModel with {name} that goes back: its "
        "final state is that of the first step, and belongs at the end of the next batch, not at its beginning: leave "
        "carry_state out, or make the model of layers without reverse=True"
    )
    with raises(ValueError, f"fit: {text}"):
        run(ECHO, ECHO, model, carry_state=True)
    batches = list(itertools.islice(ECHO.batches(2, 0), 2))
    with raises(ValueError, f"evaluate: {text}"):
        mr.training.evaluate(model, batches, loss=mr.losses.cross_entropy, carry_state=True)
    assert run(ECHO, ECHO, model).updates == 7


# --- held-out data ----------------------------------------------------------------------------------------------------


def made(history, name):
    return [e.update for e in history.evaluations[name]], [e.value for e in history.evaluations[name]]


@pytest.mark.parametrize("task", [ADDING, ECHO])
def test_a_tasks_own_batch_is_measured_every_so_often_and_at_the_end(task):
    seen = []
    model = model_for(task)
    loss = mr.losses.mse if task is ADDING else mr.losses.cross_entropy

    def by_hand(history):
        seen.append((evaluate(model, [task.evaluation_batch()], loss=loss), measure(model, task)))

    history = run(task, task, model, rng=1, batch=4, held_out=True, callbacks=[by_hand])
    assert set(history.evaluations) == {"held-out loss", "held-out"}
    assert made(history, "held-out loss") == ([3, 6, 7], [seen[i][0] for i in (2, 5, 6)])
    assert made(history, "held-out") == ([3, 6, 7], [seen[i][1] for i in (2, 5, 6)])
    assert history.loss.tolist() == run(task, task, rng=1, batch=4).loss.tolist()


def test_the_last_update_is_not_measured_twice():
    assert made(run(ADDING, ADDING, updates=6, rng=1, held_out=True), "held-out")[0] == [3, 6]


def test_a_batch_or_a_list_of_batches():
    one, two = ADDING.batch(5, rng=9), ADDING.batch(3, rng=8)
    for given, batches in ((one, [one]), ([one, two], [one, two]), ((one, two), [one, two]), ([one], [one])):
        model = model_for(ADDING)
        history = run(ADDING.batches(4, 1), ADDING, model, loss=mr.losses.mse, held_out=given)
        assert list(history.evaluations) == ["held-out loss"]
        assert history.evaluations["held-out loss"][-1].value == evaluate(model, batches, loss=mr.losses.mse)
    model = model_for(ADDING)
    history = run(ADDING, ADDING, model, rng=1, held_out=[one, two])
    together = tuple(
        np.concatenate(parts, axis=axis) for parts, axis in zip(zip(one, two, strict=True), (1, 0), strict=True)
    )
    assert history.evaluations["held-out"][-1].value == pytest.approx(measure(model, ADDING, together), rel=1e-6)


def test_rows_of_unequal_length():
    task = mr.tasks.TASKS["adding-ragged"](T=9)
    model = model_for(task)
    batch = task.batch(5, rng=9)
    history = run(task, task, model, rng=1, held_out=batch)
    assert history.evaluations["held-out"][-1].value == measure(model, task, batch)
    assert history.evaluations["held-out loss"][-1].value == evaluate(model, [batch], loss=mr.losses.mse)


def test_the_held_out_part_of_a_text():
    model = model_for(TEXT)
    history = run(TEXT, TEXT, model, rng=1, batch=3, held_out=True)
    bits = bits_per_character(model, TEXT)
    assert history.evaluations["held-out"][-1].value == pytest.approx(bits, rel=1e-6)
    assert history.evaluations["held-out loss"][-1].value == pytest.approx(bits * math.log(2), rel=1e-6)


def test_it_is_measured_in_evaluation_mode_before_the_callbacks():
    model = model_for(ECHO, recurrent_dropout=0.5)
    counts = []
    history = run(ECHO, ECHO, model, rng=1, held_out=True, callbacks=[lambda h: counts.append(len(h.evaluations))])
    assert counts == [0, 0, 2, 2, 2, 2, 2]
    assert history.evaluations["held-out"][-1].value == measure(model, ECHO)
    assert model.training


def test_a_model_whose_predictions_overflow_is_reported_and_not_warned_of():
    x, y = ADDING.batch(4, rng=0)
    with np.errstate(over="raise"):
        history = run([(x, y)], ADDING, updates=1, loss=mr.losses.mse, held_out=(x, np.full_like(y, 3e38)))
    assert history.evaluations["held-out loss"] == [(1, math.inf)]


# --- resuming ---------------------------------------------------------------------------------------------------------


def test_a_run_that_was_stopped_has_the_evaluations_of_one_that_was_not(tmp_path):
    def trained(updates, **checkpoint):
        history = run(
            ECHO, ECHO, model_for(ECHO, recurrent_dropout=0.3), updates, rng=1, batch=4, held_out=True, clip_norm=0.5,
            stop=early_stopping("held-out loss", patience=90), **checkpoint,
        )  # fmt: skip
        return json.dumps([history.evaluations, history.loss.tolist(), history.metrics["accuracy"].tolist()])

    stopped = trained(5, checkpoint=Checkpointing(tmp_path, every=2))
    assert trained(5, checkpoint=Checkpointing(tmp_path, every=2, resume=True)) == stopped == trained(5)
    assert trained(11, checkpoint=Checkpointing(tmp_path, every=2, resume=True)) == trained(11)


# --- stops ------------------------------------------------------------------------------------------------------------


def test_early_stopping_counts_evaluations_and_not_updates():
    x, y = ADDING.batch(4, rng=0)
    model = model_for(ADDING)
    stop = early_stopping("held-out loss", patience=2)
    history = run([(x, y)] * 60, ADDING, model, 60, loss=mr.losses.mse, held_out=(x, -y), stop=stop, lr=0.05)
    updates, values = made(history, "held-out loss")
    best = int(np.argmin(values))
    assert values[best + 1 :] == sorted(values[best + 1 :])
    assert len(values) == best + 3
    assert history.updates == updates[-1] == 3 * len(values) < 60


def test_until_solved():
    model = model_for(ECHO, H=24)
    history = run(ECHO, ECHO, model, 4000, rng=1, batch=16, held_out=True, evaluate_every=50, stop=until_solved(ECHO))
    updates, figures = made(history, "held-out")
    assert [ECHO.solved(f) for f in figures] == [False] * (len(figures) - 1) + [True]
    assert history.updates == updates[-1] < 4000
    assert len(figures) > 1


OF_TASK, OF_BATCHES = "'held-out loss', 'held-out'", "'held-out loss'"
NONE = "none: pass held_out=, or record one in a callback"
BATCH = ADDING.batch(4, rng=0)


def record(name):
    return every(3, lambda history: history.record(name, 1.0))


@pytest.mark.parametrize(
    ("made", "who", "name", "there", "after"),
    [
        (lambda: {"stop": early_stopping("heldout loss", 2), "held_out": True}, "early_stopping: name", "heldout loss",
         OF_TASK, 0),
        (lambda: {"stop": early_stopping("held-out", 2)}, "early_stopping: name", "held-out", NONE, 0),
        (lambda: {"stop": until_solved(ADDING)}, "until_solved: name", "held-out", NONE, 0),
        (lambda: {"stop": until_solved(ADDING, "Held_out"), "held_out": True, "callbacks": [print]},
         "until_solved: name", "Held_out", OF_TASK, 0),
        (lambda: {"stop": early_stopping("val loss", 2), "callbacks": [record("val-loss")]}, "early_stopping: name",
         "val loss", "'val-loss'", 3),
        (lambda: {"checkpoint": "accuracy", "held_out": BATCH}, "fit: checkpoint: metric", "accuracy", OF_TASK, 0),
        (lambda: {"checkpoint": "held-out", "held_out": BATCH, "task": [BATCH] * 9, "loss": mr.losses.mse},
         "fit: checkpoint: metric", "held-out", OF_BATCHES, 0),
    ],
)  # fmt: skip
def test_a_name_that_never_comes_is_refused_at_the_first_look(tmp_path, made, who, name, there, after):
    settings, seen = made(), []
    if "checkpoint" in settings:
        settings["checkpoint"] = Checkpointing(tmp_path, metric=settings["checkpoint"])
    else:
        settings.setdefault("callbacks", []).insert(0, lambda history: seen.append(history.updates))
        settings["callbacks"] *= bool(after) or print in settings["callbacks"]
    with raises(ValueError, f"{who} must be that of an evaluation, got {name!r}, and those there are: {there}"):
        run(settings.pop("task", ADDING), ADDING, updates=9, **settings)
    assert len(seen) == after


def test_a_name_that_a_callback_might_have_recorded_is_warned_of_at_the_end(tmp_path):
    fault = (
        "early_stopping: name must be that of an evaluation, got 'validation', and those there are: 'other': it was "
    )
    with pytest.warns(UserWarning, match=f"^{fault}waited for in vain$"):
        history = run(ADDING, ADDING, stop=early_stopping("validation", 2), callbacks=[record("other")])
    assert history.updates == 7
    with pytest.warns(UserWarning, match=r"^fit: checkpoint: no checkpoint is the best: 'other' was measured at "):
        run(ADDING, ADDING, None, 5, callbacks=[record("other")], checkpoint=Checkpointing(tmp_path, 2, metric="other"))
    asked = lambda history: history.record("held-out", 0.0) or early_stopping("held-out", 3)(history)  # noqa: E731
    assert run(ADDING, ADDING, stop=asked, checkpoint=Checkpointing(tmp_path / "b", metric="held-out")).updates == 4


def test_of_figures_that_grow_the_highest_is_the_best(tmp_path):
    figures = iter([0.2, math.nan, 0.5, 0.4, 0.52, 0.3, 0.45])
    history = run(
        ADDING, ADDING, updates=9, callbacks=[lambda history: history.record("right", next(figures))],
        stop=early_stopping("right", 3, min_delta=0.05, mode="max"),
        checkpoint=Checkpointing(tmp_path, 1, metric="right", mode="max"),
    )  # fmt: skip
    assert history.updates == 6
    best = mr.checkpoints.CheckpointDirectory(tmp_path).best()
    assert (best.position, best.metrics["right"]) == ([5, 0], 0.52)
    figures = iter([math.nan, 0.51, 0.53])
    run(
        ADDING, ADDING, updates=9, callbacks=[lambda history: history.record("right", next(figures))],
        checkpoint=Checkpointing(tmp_path, 1, True, metric="right", mode="max"),
    )  # fmt: skip
    assert mr.checkpoints.CheckpointDirectory(tmp_path).best().metrics["right"] == 0.53
    for make in (lambda mode: early_stopping("right", 3, mode=mode), lambda mode: fit_into(tmp_path, mode)):
        with pytest.raises(ValueError, match=r"^\w+: mode must be one of 'min', 'max', got 'highest'$"):
            make("highest")


def fit_into(path, mode):
    run(ADDING, ADDING, checkpoint=Checkpointing(path, mode=mode))
