"""`fit` of a task itself: its batches, its loss, and what is refused."""

import itertools
import json

import numpy as np
import pytest
from error_texts import raises

import minirnn as mr
from minirnn.tasks import AddingTask, EchoTask, TextTask
from minirnn.training import Checkpointing, accuracy, fit

ADDING, ECHO = AddingTask(T=6), EchoTask(T=7, delay=2)
TEXT = TextTask("the cat sat on the mat.\n" * 90)


def model_for(task, cell=mr.RecurrentLayer, H=5):
    rng, V = np.random.default_rng(0), task.output_size
    if task.inputs == "ids":
        return mr.SequenceModel(cell(4, H, rng=rng), mr.Linear(H, V, rng=rng), embedding=mr.Embedding(V, 4, rng=rng))
    layer = cell(task.input_size, H, rng=rng)
    return mr.SequenceModel(layer, mr.Linear(layer.output_size, V, rng=rng), readout=task.readout)


def run(task_or_batches, task, model=None, updates=4, **settings):
    model = model or model_for(task)
    adam = mr.optim.Adam(model.parameters(), 0.01)
    settings = {"optimizer": adam, "max_updates": updates, "progress": False, **settings}
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


def test_another_loss_may_be_given():
    def halved(predictions, y):
        return mr.losses.mse(predictions, y) * 0.5

    assert run(ADDING, ADDING, rng=1, updates=1, loss=halved).loss[0] == run(ADDING, ADDING, rng=1).loss[0] / 2


def test_rows_of_unequal_length():
    task = mr.tasks.TASKS["adding-ragged"](T=9)
    by_hand = run(task.batches(3, 5), task, loss=mr.losses.mse)
    assert run(task, task, batch=3, rng=5).loss.tolist() == by_hand.loss.tolist()


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
    assert run(TEXT, TEXT, model, batch=3, rng=5).updates == 4
    with pytest.raises(ValueError, match="carry_state=True needs a model that goes forward in time"):
        run(TEXT, TEXT, model, batch=3, rng=5, carry_state=True)


def test_a_text_model_without_a_state():
    model = mr.Sequential(mr.Embedding(TEXT.output_size, TEXT.output_size, rng=0))
    assert run(TEXT, TEXT, model, batch=3, rng=5).updates == 4


def test_a_task_is_resumed_to_the_same_bits(tmp_path):
    def trained(updates, **settings):
        return run(ECHO, ECHO, batch=3, rng=5, updates=updates, **settings)

    trained(5, checkpoint=tmp_path)
    resumed = trained(9, checkpoint=Checkpointing(tmp_path, resume=True))
    assert json.dumps(resumed.loss.tolist()) == json.dumps(trained(9).loss.tolist())


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


def test_a_regression_has_no_accuracy():
    assert run(ADDING, ADDING, rng=0).metrics == {}


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
    assert run(ECHO, ECHO, model).updates == 4


def test_a_module_of_ones_own_is_looked_into():
    class Own(mr.Module):
        carries_state = True

        def __init__(self):
            super().__init__()
            self.inner = mr.Sequential(mr.Linear(2, 3, rng=0))
            self.deep = both(3, 2, 0)

    with pytest.raises(ValueError, match="got Own with Bidirectional that goes back"):
        run(ECHO, ECHO, Own(), carry_state=True)
    with pytest.raises(ValueError, match="got Bidirectional that goes back"):
        run(ECHO, ECHO, both(3, 2, 0), carry_state=True)
