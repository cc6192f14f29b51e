"""`fit(held_out=…)`: held-out data by the way, and the stops that look at them."""

import json
import math

import numpy as np
import pytest

import minirnn as mr
from minirnn.tasks import AddingTask, EchoTask, TextTask
from minirnn.training import (
    Checkpointing,
    bits_per_character,
    early_stopping,
    evaluate,
    fit,
    measure,
    until_solved,
)

ADDING, ECHO = AddingTask(T=6), EchoTask(T=7, delay=2)
TEXT = TextTask("the cat sat on the mat.\n" * 90)


def model_for(task, H=6, seed=0, dropout=0.0):
    rng = np.random.default_rng(seed)
    if task.inputs == "ids":
        V = task.output_size
        return mr.SequenceModel(
            mr.GRULayer(4, H, rng=rng), mr.Linear(H, V, rng=rng), embedding=mr.Embedding(V, 4, rng=rng)
        )
    layer = mr.LSTMLayer(task.input_size, H, recurrent_dropout=dropout, rng=rng)
    return mr.SequenceModel(layer, mr.Linear(H, task.output_size, rng=rng), readout=task.readout)


def run(task_or_batches, model, updates=7, **settings):
    adam = mr.optim.Adam(model.parameters(), settings.pop("lr", 0.01))
    settings = {"optimizer": adam, "max_updates": updates, "progress": False, "evaluate_every": 3, **settings}
    return fit(model, task_or_batches, **settings)


def made(history, name):
    return [e.update for e in history.evaluations[name]], [e.value for e in history.evaluations[name]]


@pytest.mark.parametrize("task", [ADDING, ECHO])
def test_a_tasks_own_batch_is_measured_every_so_often_and_at_the_end(task):
    seen = []
    model = model_for(task)
    loss = mr.losses.mse if task is ADDING else mr.losses.cross_entropy

    def by_hand(history):
        seen.append((evaluate(model, [task.evaluation_batch()], loss=loss), measure(model, task)))

    history = run(task, model, rng=1, batch=4, held_out=True, callbacks=[by_hand])
    assert set(history.evaluations) == {"held-out loss", "held-out"}
    assert made(history, "held-out loss") == ([3, 6, 7], [seen[i][0] for i in (2, 5, 6)])
    assert made(history, "held-out") == ([3, 6, 7], [seen[i][1] for i in (2, 5, 6)])
    assert history.loss.tolist() == run(task, model_for(task), rng=1, batch=4).loss.tolist()


def test_the_last_update_is_not_measured_twice():
    assert made(run(ADDING, model_for(ADDING), 6, rng=1, held_out=True), "held-out")[0] == [3, 6]


def test_a_batch_or_a_list_of_batches():
    one, two = ADDING.batch(5, rng=9), ADDING.batch(3, rng=8)
    for given, batches in ((one, [one]), ([one, two], [one, two]), ((one, two), [one, two]), ([one], [one])):
        model = model_for(ADDING)
        history = run(ADDING.batches(4, 1), model, loss=mr.losses.mse, held_out=given)
        assert list(history.evaluations) == ["held-out loss"]
        assert history.evaluations["held-out loss"][-1].value == evaluate(model, batches, loss=mr.losses.mse)
    model = model_for(ADDING)
    history = run(ADDING, model, rng=1, held_out=[one, two])
    together = tuple(
        np.concatenate(parts, axis=axis) for parts, axis in zip(zip(one, two, strict=True), (1, 0), strict=True)
    )
    assert history.evaluations["held-out"][-1].value == pytest.approx(measure(model, ADDING, together), rel=1e-6)


def test_rows_of_unequal_length():
    task = mr.tasks.TASKS["adding-ragged"](T=9)
    model = model_for(task)
    batch = task.batch(5, rng=9)
    history = run(task, model, rng=1, held_out=batch)
    assert history.evaluations["held-out"][-1].value == measure(model, task, batch)
    assert history.evaluations["held-out loss"][-1].value == evaluate(model, [batch], loss=mr.losses.mse)


def test_the_held_out_part_of_a_text():
    model = model_for(TEXT)
    history = run(TEXT, model, rng=1, batch=3, held_out=True)
    bits = bits_per_character(model, TEXT)
    assert history.evaluations["held-out"][-1].value == pytest.approx(bits, rel=1e-6)
    assert history.evaluations["held-out loss"][-1].value == pytest.approx(bits * math.log(2), rel=1e-6)


def test_it_is_measured_in_evaluation_mode_before_the_callbacks():
    model = model_for(ECHO, dropout=0.5)
    counts = []
    history = run(ECHO, model, rng=1, held_out=True, callbacks=[lambda h: counts.append(len(h.evaluations))])
    assert counts == [0, 0, 2, 2, 2, 2, 2]
    assert history.evaluations["held-out"][-1].value == measure(model, ECHO)
    assert model.training


def test_a_model_whose_predictions_overflow_is_reported_and_not_warned_of():
    x, y = ADDING.batch(4, rng=0)
    with np.errstate(over="raise"):
        history = run([(x, y)], model_for(ADDING), 1, loss=mr.losses.mse, held_out=(x, np.full_like(y, 3e38)))
    assert history.evaluations["held-out loss"] == [(1, math.inf)]


# --- resuming ---------------------------------------------------------------------------------------------------------


def test_a_run_that_was_stopped_has_the_evaluations_of_one_that_was_not(tmp_path):
    def trained(updates, **checkpoint):
        history = run(
            ECHO, model_for(ECHO, dropout=0.3), updates, rng=1, batch=4, held_out=True, clip_norm=0.5,
            stop=early_stopping("held-out loss", patience=90), **checkpoint,
        )  # fmt: skip
        return json.dumps([history.evaluations, history.loss.tolist(), history.metrics["accuracy"].tolist()])

    stopped = trained(5, checkpoint=Checkpointing(tmp_path, every=2))
    assert trained(5, checkpoint=Checkpointing(tmp_path, every=2, resume=True)) == stopped == trained(5)
    assert trained(11, checkpoint=Checkpointing(tmp_path, every=2, resume=True)) == trained(11)


def test_the_best_checkpoint_is_chosen_by_the_held_out_loss(tmp_path):
    how = Checkpointing(tmp_path, every=3, metric="held-out loss")
    history = run(ADDING, model_for(ADDING), 12, rng=1, held_out=True, checkpoint=how)
    best = mr.checkpoints.CheckpointDirectory(tmp_path, metric="held-out loss").best()
    assert best.metrics["held-out loss"] == min(made(history, "held-out loss")[1])


# --- stops ------------------------------------------------------------------------------------------------------------


def test_early_stopping_counts_evaluations_and_not_updates():
    x, y = ADDING.batch(4, rng=0)
    model = model_for(ADDING)
    stop = early_stopping("held-out loss", patience=2)
    history = run([(x, y)] * 60, model, 60, loss=mr.losses.mse, held_out=(x, -y), stop=stop, lr=0.05)
    updates, values = made(history, "held-out loss")
    best = int(np.argmin(values))
    assert values[best + 1 :] == sorted(values[best + 1 :])
    assert len(values) == best + 3
    assert history.updates == updates[-1] == 3 * len(values) < 60


def test_until_solved():
    model = model_for(ECHO, H=24)
    history = run(ECHO, model, 4000, rng=1, batch=16, held_out=True, evaluate_every=50, stop=until_solved(ECHO))
    updates, figures = made(history, "held-out")
    assert [ECHO.solved(f) for f in figures] == [False] * (len(figures) - 1) + [True]
    assert history.updates == updates[-1] < 4000
    assert len(figures) > 1


def test_until_solved_without_held_out_data_goes_on():
    assert run(ECHO, model_for(ECHO), rng=1, stop=until_solved(ECHO)).updates == 7


@pytest.mark.parametrize("held_out", [None, False])
def test_without_held_out_data_nothing_is_measured(held_out):
    assert run(ADDING, model_for(ADDING), rng=1, held_out=held_out).evaluations == {}
