"""Whose mode a training and an evaluation leave as they are: every module's own, in every thread."""

import copy
import pickle
import threading

import numpy as np
import pytest

import minirnn as mr
from minirnn.training import bits_per_character, evaluate, fit, measure, sample

TASK, TEXT = mr.tasks.AddingTask(T=4), mr.tasks.TextTask("to be or not to be " * 20)


def adder():
    stack = mr.Stacked([mr.RecurrentLayer(2, 3, rng=0), mr.RecurrentLayer(3, 3, rng=1)], dropout=0.5, rng=2)
    return mr.SequenceModel(stack, mr.Linear(3, 1, rng=3), readout="last")


def writer():
    V = len(TEXT.vocabulary)
    return mr.SequenceModel(mr.GRULayer(4, 3, rng=0), mr.Linear(3, V, rng=1), embedding=mr.Embedding(V, 4, rng=2))


def modes(model):
    return [module.training for module in model.modules()]


def train(model, **settings):
    return fit(model, TASK, optimizer=mr.optim.SGD(model.parameters(), 0.01), max_updates=3, batch=4, rng=0, **settings)


def fails(model):
    def loss(predictions, y, **settings):
        raise ArithmeticError("said")

    with pytest.raises(ArithmeticError, match="said"):
        evaluate(model, [TASK.batch(4, 0)], loss=loss)


LOOKS = {
    "evaluate": (adder, lambda model: evaluate(model, [TASK.batch(4, 0)], loss=mr.losses.mse)),
    "measure": (adder, lambda model: measure(model, TASK, TASK.batch(4, 0))),
    "fit": (adder, lambda model: train(model, held_out=[TASK.batch(4, 0)], evaluate_every=1)),
    "bits_per_character": (writer, lambda model: bits_per_character(model, TEXT)),
    "sample": (writer, lambda model: sample(model, TEXT, 3, rng=0)),
    "an error": (adder, fails),
}


@pytest.mark.parametrize("look", LOOKS)
def test_each_module_keeps_its_own_mode(look):
    make, use = LOOKS[look]
    for freeze in (lambda m: m.recurrent.eval(), lambda m: m.head.eval(), lambda m: m.eval().head.train()):
        model = make()
        freeze(model)
        before = modes(model)
        assert len(set(before)) == 2
        use(model)
        assert modes(model) == before


def test_dropout_in_evaluation_mode_stays_so_while_the_rest_is_trained():
    frozen, without = adder(), adder()
    frozen.recurrent.eval()
    without.recurrent.dropout = None
    assert list(train(frozen).loss) == list(train(without).loss) != list(train(adder()).loss)
    whole = adder().eval()  # all of it: then it is put in training mode
    assert list(train(whole).loss) == list(train(adder()).loss)
    assert all(modes(whole))


def test_what_a_forward_pass_sets_of_itself_counts_within_an_evaluation_and_ends_with_it():
    """Monte Carlo dropout: a model whose `eval` leaves its dropout on."""

    class Unsure(mr.Sequential):
        def train(self, mode=True):
            super().train(mode)
            self[1].train()
            return self

    model = Unsure(mr.Linear(2, 50, rng=0), mr.Dropout(0.5, rng=0)).eval()
    x, seen = np.ones((1, 2), np.float32), []
    vars(model[1])["training"] = False
    evaluate(model, [(x, np.ones((1, 50)))], loss=lambda p, y: seen.append(p.numpy()) or mr.losses.mse(p, y))
    assert (seen[0] == 0).any()
    assert not model[1].training


def test_threads_that_evaluate_see_nothing_of_each_other_and_leave_nothing():
    """One evaluates while another trains, and ends after it has begun: each draws what it would alone."""
    model = mr.Sequential(mr.Linear(2, 8, rng=0), mr.Dropout(0.5, rng=1))
    x, y = np.ones((1, 2), np.float32), np.ones((1, 8), np.float32)
    expected = copy.deepcopy(model)(x).numpy()
    within, drawn = threading.Event(), threading.Event()
    found = {}

    def slow(predictions, targets, **settings):
        within.set()
        assert drawn.wait(30)
        found["evaluated"] = model(x).numpy()
        return mr.losses.mse(predictions, targets)

    def look():
        found["loss"] = evaluate(model, [(x, y)], loss=slow)

    thread = threading.Thread(target=look)
    thread.start()
    assert within.wait(30)
    found["trained"] = model(x).numpy()
    assert evaluate(model, [(x, y)], loss=mr.losses.mse) >= 0  # begins and ends within the other
    assert modes(model) == [True] * 3
    drawn.set()
    thread.join()
    np.testing.assert_array_equal(found["trained"], expected)
    np.testing.assert_array_equal(found["evaluated"], model[0](x).numpy())
    assert modes(model) == [True] * 3


@pytest.mark.parametrize("way", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
def test_a_copy_draws_the_masks_of_the_original_unless_it_is_told_otherwise(way):
    model = adder()
    x = np.ones((6, 5, 2), np.float32)
    model(x)
    twin, other = way(model), way(model)
    for _, rng in other.named_generators():
        rng.bit_generator.state = np.random.default_rng(9).bit_generator.state
    first = model(x).predictions.numpy()
    np.testing.assert_array_equal(twin(x).predictions.numpy(), first)
    assert not np.array_equal(other(x).predictions.numpy(), first)
    assert not np.array_equal(model(x).predictions.numpy(), first)  # and each goes on by itself
    assert twin.recurrent.dropout.rng is not model.recurrent.dropout.rng
