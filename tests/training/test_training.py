import itertools
import math
import re

import numpy as np
import pytest
from error_texts import raises

import minirnn as mr
from minirnn import losses, optim
from minirnn.tasks import AddingTask, TextTask
from minirnn.training import NonFiniteError, bits_per_character, evaluate, every, fit, sample

TASK = AddingTask(T=6)


def adding_model(readout="last", rng=0, **settings):
    return mr.SequenceModel(mr.RecurrentLayer(2, 8, rng=rng, **settings), mr.Linear(8, 1, rng=rng), readout=readout)


def train(model=None, batches=None, *, lr=0.01, **settings):
    model = model or adding_model()
    batches = TASK.batches(4, rng=1) if batches is None else batches
    until = None if isinstance(batches, list) else 5
    settings = {"loss": losses.mse, "optimizer": optim.Adam(model.parameters(), lr), "max_updates": until, **settings}
    return fit(model, batches, **settings)


class Spy(mr.Module):
    """A model y = w·x whose state is whatever `next_state` makes; it notes what it was given."""

    carries_state = True

    def __init__(self, next_state=lambda y: y):
        super().__init__()
        self.w = mr.Parameter(np.ones(1))
        self.next_state = next_state
        self.received, self.returned, self.modes = [], [], []

    def forward(self, x, state):
        y = self.w * x
        self.received.append(state)
        self.returned.append(self.next_state(y))
        self.modes.append((self.training, y.requires_grad))
        return y, self.returned[-1]


def pairs(n, *is_start):
    return [(np.full(1, i + 1.0), np.zeros(1), *([is_start[i]] if is_start else [])) for i in range(n)]


# --- fit: the updates -------------------------------------------------------------------------------------------------


def test_fit_makes_the_updates_of_a_loop_written_out():
    model, by_hand = adding_model(), adding_model()
    sgd = optim.SGD(by_hand.parameters(), 0.1, momentum=0.9)
    expected = []
    for x, y in itertools.islice(TASK.batches(4, rng=1), 20):
        sgd.zero_grad()
        loss = losses.mse(by_hand(x)[0], y)
        loss.backward()
        norm = math.sqrt(sum(float((p.grad.astype(np.float64) ** 2).sum()) for p in by_hand.parameters()))
        for p in by_hand.parameters():
            p.grad = p.grad * min(1.0, 1.2 / norm)
        sgd.step()
        expected.append((loss.item(), norm))
    history = train(model, max_updates=20, clip_norm=1.2, optimizer=optim.SGD(model.parameters(), 0.1, momentum=0.9))
    np.testing.assert_allclose(np.column_stack([history.loss, history.grad_norm]), expected, rtol=1e-5)
    assert history.grad_norm.max() > 1.2 > history.grad_norm.min()  # some were clipped, some not
    assert (np.diff(history.seconds) > 0).all()
    for p, q in zip(model.parameters(), by_hand.parameters(), strict=True):
        np.testing.assert_allclose(p.data, q.data, rtol=1e-5, atol=1e-6)


def test_fit_takes_models_without_a_state():
    model = mr.Sequential(mr.Linear(3, 1, rng=0))
    x, y = np.ones((4, 3), np.float32), np.full((4, 1), 2.0, np.float32)
    history = train(model, itertools.repeat((x, y)), lr=0.1, max_updates=150)
    assert history.loss[-1] < 1e-3 < history.loss[0]


# --- fit: the state ---------------------------------------------------------------------------------------------------


def test_fit_carries_the_state_detached_until_a_start():
    parts = Spy(next_state=lambda y: (y, (y * 2.0, None)))
    train(parts, pairs(2), carry_state=True)
    h, (c, nothing) = parts.received[1]
    assert not h.requires_grad
    assert not c.requires_grad
    assert nothing is None
    np.testing.assert_array_equal(c.data, 2 * h.data)
    model = Spy()
    train(model, pairs(4, True, False, True, False), carry_state=True)
    first, second, third, fourth = model.received
    assert first is None
    assert third is None
    afresh = Spy()
    train(afresh, pairs(3, True, False, False))
    assert afresh.received == [None, None, None]
    for received, returned in ((second, model.returned[0]), (fourth, model.returned[2])):
        assert received.data is returned.data
        assert returned.requires_grad
        assert not received.requires_grad


# --- fit: when it ends ------------------------------------------------------------------------------------------------


def test_fit_takes_no_batch_that_it_does_not_use():
    batches = iter(pairs(5))
    assert train(Spy(), batches, max_updates=3).updates == 3
    assert next(batches)[0] == 4.0


def test_fit_calls_the_callbacks_in_order_after_every_update_and_then_asks_to_stop():
    calls = []

    def stop(history):
        calls.append(("stop", history.updates))
        return history.updates == 2

    callbacks = [lambda h: calls.append(("a", h.updates)), lambda h: calls.append(("b", h.updates))]
    history = train(Spy(), pairs(5), callbacks=callbacks, stop=stop)
    assert history.updates == 2
    assert calls == [("a", 1), ("b", 1), ("stop", 1), ("a", 2), ("b", 2), ("stop", 2)]


def test_without_clipping_the_norm_is_measured_and_a_callback_changes_the_next_updates_rate():
    model = Spy()
    sgd = optim.SGD(model.parameters(), 0.5)

    def freeze(history):
        sgd.lr = 0.0

    history = fit(model, pairs(3), loss=losses.mse, optimizer=sgd, max_updates=3, callbacks=[freeze])
    # L = (w x)², w = x = 1: gradient 2, step 1, and none after it
    assert history.grad_norm.tolist() == [2.0, 0.0, 0.0]
    assert model.w.data.tolist() == [0.0]


def test_every():
    called = []
    train(max_updates=7, callbacks=[every(3, lambda history: called.append(history.updates))])
    assert called == [3, 6]


@pytest.mark.parametrize("where", ["batches", "callback", "stop", "loss"])
def test_fit_hands_back_what_it_has_on_ctrl_c(where):
    def batches():
        for i, pair in enumerate(pairs(9)):
            if where == "batches" and i == 2:
                raise KeyboardInterrupt
            yield pair

    def interrupt(history):
        if history.updates == 2:
            raise KeyboardInterrupt

    count = itertools.count(1)

    def loss(predictions, y):
        if where == "loss" and next(count) == 3:
            raise KeyboardInterrupt
        return losses.mse(predictions, y)

    settings = {"callback": {"callbacks": [interrupt]}, "stop": {"stop": interrupt}, "loss": {"loss": loss}}
    history = train(Spy(), batches(), **settings.get(where, {}))
    assert (history.updates, history.interrupted) == (2, True)
    assert "interrupted" in repr(history)


# --- fit: what is not finite ------------------------------------------------------------------------------------------


def test_fit_stops_at_the_first_loss_that_is_not_finite_and_says_where_it_comes_from():
    x, y = TASK.batch(4, rng=0)
    bad = x.copy()
    bad[2, 1, 0] = np.nan
    model, twin = adding_model(), adding_model()
    with pytest.raises(NonFiniteError) as caught:
        train(model, [(x, y), (x, y), (bad, y), (x, y)])
    text = str(caught.value)
    assert text.startswith("fit: update 3 was not made: the loss is nan. The same batch again, under detect_anomaly: ")
    assert "RecurrentLayer(2, 8): step t=2, row n=1: x holds nan at [2, 1, 0] (1 of 48 entries not finite)" in text
    assert "learning rate" in text
    assert caught.value.history.updates == 2
    train(twin, [(x, y), (x, y)])
    for p, q in zip(model.parameters(), twin.parameters(), strict=True):
        np.testing.assert_array_equal(p.data, q.data)
        assert p.grad is None


def test_fit_stops_at_a_gradient_that_is_not_finite_before_it_does_harm():
    model = Spy()
    with pytest.raises(
        NonFiniteError, match=r"^fit: update 1 was not made: the loss is 0, but its gradient is not"
    ) as e:
        train(model, pairs(1), loss=lambda predictions, y: mr.sqrt(predictions * y).sum())
    assert "under detect_anomaly: the gradient of the output of " in str(e.value)
    assert model.w.data.tolist() == [1.0]
    assert model.w.grad is None


def test_fit_says_so_when_the_fault_does_not_come_back():
    values = iter([math.nan, 1.0])
    model = Spy()
    with pytest.raises(
        NonFiniteError, match="detect_anomaly: nothing that is not finite; is there chance in the model"
    ):
        train(model, pairs(1), loss=lambda predictions, y: (predictions * next(values)).sum())
    assert model.w.grad is None


# --- evaluate ---------------------------------------------------------------------------------------------------------


def test_evaluate_carries_the_state():
    rng = np.random.default_rng(2)
    x, y = rng.normal(size=(9, 3, 2)), rng.normal(size=(9, 3, 1))
    model = adding_model(readout="all")
    chunks = [(x[:4], y[:4], True), (x[4:], y[4:], False)]
    whole = evaluate(model, [(x, y)], loss=losses.mse)
    assert whole == pytest.approx(float(((model(x)[0].data.astype(np.float64) - y) ** 2).mean()), rel=1e-6)
    assert evaluate(model, chunks, loss=losses.mse, carry_state=True) == pytest.approx(whole, rel=1e-6)
    assert abs(evaluate(model, chunks, loss=losses.mse) / whole - 1) > 1e-4
    again = [chunks[0], (*chunks[1][:2], True)]
    assert evaluate(model, again, loss=losses.mse, carry_state=True) == evaluate(model, chunks, loss=losses.mse)


@pytest.mark.parametrize("mode", [True, False])
def test_evaluate_records_nothing_and_leaves_the_mode_as_it_was(mode):
    model = Spy().train(mode)
    evaluate(model, pairs(1), loss=losses.mse)
    with pytest.raises(ValueError, match=r"got \(3,\)"):
        evaluate(model, [(np.ones(2), np.ones(3))], loss=losses.mse)
    assert model.training is mode
    assert model.w.grad is None
    assert (model.w * 1.0).requires_grad
    train(model, pairs(1))
    assert model.modes == [(False, False), (False, False), (True, True)]  # (training, a gradient asked for)


# --- text -------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def text():
    return TextTask("the cat sat on the mat.\n" * 90)


def text_model(task, rng=0, H=12):
    V = task.input_size
    rng = np.random.default_rng(rng)
    recurrent, head = mr.RecurrentLayer(6, H, rng=rng), mr.Linear(H, V, rng=rng)
    return mr.SequenceModel(recurrent, head, embedding=mr.Embedding(V, 6, rng=rng))


def test_bits_per_character_carries_the_state_and_does_not_depend_on_the_chunks(text):
    model = text_model(text)
    ids = text.held_out_ids
    nats = losses.cross_entropy(model(ids[:-1, None])[0], ids[1:, None]).item()
    for chunk in (7, 100, 10_000):
        assert bits_per_character(model, text, N=1, chunk=chunk) == pytest.approx(nats / math.log(2), rel=1e-5)


def test_bits_per_character_of_a_text_too_short_for_the_usual_streams():
    task = TextTask("abc" * 10)  # 3 characters held out
    model, ids = text_model(task), task.held_out_ids
    nats = losses.cross_entropy(model(ids[:-1, None])[0], ids[1:, None]).item()
    assert bits_per_character(model, task) == pytest.approx(nats / math.log(2), rel=1e-5)


def test_a_cold_sample_is_the_likeliest_text_and_step_gives_what_the_layer_gives(text):
    model = text_model(text)
    cold = sample(model, text, 30, rng=0, temperature=1e-6, prompt="cat")
    ids = text.encode("cat" + cold)
    likeliest = model(ids[:-1, None])[0].data[:, 0].argmax(axis=-1)
    np.testing.assert_array_equal(likeliest[2:], ids[3:])
    assert len(set(cold)) > 1
    alone = TextTask(vocabulary=text.vocabulary)  # no text is needed, and numpy's numbers are numbers
    for more in ({"temperature": 0}, {"temperature": np.float32(0.0)}, {"temperature": 9.0, "top_k": np.int64(1)}):
        assert sample(model, alone, np.int64(30), rng=5, prompt="cat", **more) == cold


def test_sample_draws_from_the_softmax_at_its_temperature():
    task = TextTask("aabbc" * 20)
    model = text_model(task)
    model.head.weight.data = np.zeros_like(model.head.weight.data)
    model.head.bias.data = np.log([0.5, 0.3, 0.2])
    for temperature, expected in ((1.0, np.array([0.5, 0.3, 0.2])), (0.5, np.array([0.25, 0.09, 0.04]) / 0.38)):
        written = task.encode(sample(model, task, 2000, rng=0, temperature=temperature))
        np.testing.assert_allclose(np.bincount(written) / written.size, expected, atol=0.04)
    written = task.encode(sample(model, task, 2000, rng=0, top_k=2))
    np.testing.assert_allclose(np.bincount(written) / written.size, [0.625, 0.375], atol=0.04)
    model.head.bias.data = np.array([0.5, np.nan, 0.2])
    with raises(FloatingPointError, "sample: the model's logits are NaN: it was trained to no good, or not at all"):
        sample(model, task, 3)


def test_sample_refuses(text):
    V = len(text.vocabulary)
    for settings, kind, message in (
        ({"length": 0}, ValueError, "sample: length must be an int ≥ 1, got 0"),
        ({"temperature": -0.5}, ValueError, "sample: temperature must be a number ≥ 0, got -0.5: try 1.0"),
        ({"temperature": "1"}, TypeError, "sample: temperature must be a number ≥ 0, got '1' (str): try 1.0"),
        ({"top_k": 0}, ValueError, "sample: top_k must be an int ≥ 1, got 0"),
        ({"top_k": 99}, ValueError, f"sample: top_k must be at most {V}, the number of characters, got 99: leave it"),
        ({"task": TextTask(vocabulary="abc")}, ValueError, f"sample: task must have the {V} characters of the model, "),
        ({"prompt": "Q"}, ValueError, "TextTask.encode: text must consist of the"),
        ({"rng": -1}, ValueError, "rng must be a numpy.random.Generator"),
        ({"model": adding_model()}, TypeError, "sample: model must be a SequenceModel with an embedding, got Seq"),
    ):
        with pytest.raises(kind, match="^" + re.escape(message)):
            sample(**{"model": text_model(text), "task": text, "length": 3, **settings})


def test_sample_starts_after_a_newline_or_the_first_character(text):
    model = text_model(text)
    written = sample(model, text, 40, rng=3, prompt="the ")
    assert len(written) == 40
    assert set(written) <= set(text.vocabulary)
    assert written != sample(model, text, 40, rng=4, prompt="the ")
    assert model.training
    assert sample(model, text, 20, rng=1) == sample(model, text, 20, rng=1, prompt="\n")
    assert sample(model, text, 20, rng=1) != sample(model, text, 20, rng=1, prompt="t")
    task = TextTask("xyz" * 10)
    model = text_model(task)
    assert sample(model, task, 20, rng=1) == sample(model, task, 20, rng=1, prompt="x")


# --- measure ----------------------------------------------------------------------------------------------------------


def test_measure_gives_the_tasks_own_figure_on_its_held_out_batch():
    task = mr.tasks.AddingTask(T=10)
    model = mr.SequenceModel(mr.RecurrentLayer(2, 4, rng=0), mr.Linear(4, 1, rng=0), readout="last")
    x, y = task.evaluation_batch()
    found = mr.training.measure(model, task)
    assert found == pytest.approx(float(((model(x).predictions.numpy() - y) ** 2).mean()), rel=1e-6)
    assert mr.training.measure(model, task, (x[:, :7], y[:7])) != found
    assert model.training


def test_a_loss_of_minus_zero_is_zero_and_what_comes_after_a_batch_is_let_go_unless_it_is_carried(monkeypatch):
    model = mr.SequenceModel(mr.RecurrentLayer(1, 2, rng=0), mr.Linear(2, 1, rng=1))
    x, seen = np.ones((3, 2, 1)), []

    def loss(predictions, y):
        return -(predictions * 0.0).sum() * 0.0

    def metric(predictions, y):
        return np.float32(-0.0)

    sgd = mr.optim.SGD(model.parameters(), lr=0.1)
    monkeypatch.setattr("minirnn.training.batches.detached", lambda state: seen.append(state) or state.detach())
    for carry in False, True:
        history = fit(model, [(x, x)], loss=loss, optimizer=sgd, metrics={"own": metric}, carry_state=carry)
        assert not np.signbit([history.loss[0], history.metrics["own"][0]]).any()
        assert len(seen) == carry
