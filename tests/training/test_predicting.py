"""predict is the model on all rows at once; forecast is feeding outputs back by hand."""

import numpy as np
import pytest
from error_texts import raises
from pairwise import pairwise

import minirnn as mr
from minirnn.training import forecast, predict

T, N, D, H = 5, 7, 2, 4
x = np.random.default_rng(0).normal(size=(T, N, D)).astype(np.float32)
LENGTHS = np.array([5, 1, 3, 2, 5, 4, 1])

KINDS = {
    "elman": lambda **s: mr.RecurrentLayer(D, H, rng=0, **s),
    "lstm": lambda **s: mr.LSTMLayer(D, H, rng=0, **s),
    "stack": lambda **s: mr.Stacked(
        [mr.GRULayer(D, H, rng=0, **s), mr.LSTMLayer(H, H, rng=1, **s)], dropout=0.5, rng=2
    ),
}


def model_of(kind, readout, batch_first, P=D):
    return mr.SequenceModel(KINDS[kind](batch_first=batch_first), mr.Linear(H, P, rng=3), readout=readout)


def turn(array, batch_first):
    return array.swapaxes(0, 1) if batch_first else array


GRID = {"kind": KINDS, "readout": ["all", "last"], "batch_first": [False, True], "lengths": [None, LENGTHS]}


@pytest.mark.parametrize("batch", [1, 3, 7, 100])
@pytest.mark.parametrize("point", pairwise(GRID))
def test_predictions_are_those_of_all_rows_at_once(point, batch):
    model = model_of(point["kind"], point["readout"], point["batch_first"], P=3)
    given = turn(x, point["batch_first"])
    found = predict(model, given, point["lengths"], batch=batch)
    assert model.training
    expected = model.eval()(given, lengths=point["lengths"]).predictions.numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    assert found.dtype == np.float32
    assert found.shape == expected.shape


def test_ids_layers_and_modules_of_ones_own_are_predicted_too():
    ids = [[0, 3, 1], [2, 2, 0]]
    model = mr.SequenceModel(mr.GRULayer(D, H, rng=0), mr.Linear(H, 4, rng=1), embedding=mr.Embedding(4, D, rng=2))
    np.testing.assert_allclose(predict(model, ids, batch=2), model(np.array(ids)).predictions.numpy(), atol=1e-6)
    layer = mr.LSTMLayer(D, H, rng=0)
    np.testing.assert_allclose(predict(layer, x, batch=3), layer(x).outputs.numpy(), rtol=1e-5, atol=1e-7)
    head = mr.Sequential(mr.Linear(D, 3, rng=0), mr.Dropout(0.5, rng=0))
    np.testing.assert_allclose(predict(head, x[0], batch=3), head.eval()(x[0]).numpy(), rtol=1e-6)

    class Own(mr.Module):
        carries_state = True

        def __init__(self):
            super().__init__()
            self.layer = mr.RecurrentLayer(D, H, rng=0)

        def forward(self, x, state=None):
            outputs, state = self.layer(x, state)
            return outputs.sum(axis=0), state

    own = Own()
    np.testing.assert_allclose(predict(own, x, batch=3), own(x)[0].numpy(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("point", pairwise(GRID))
def test_a_forecast_is_feeding_the_outputs_back_by_hand(point):
    model = model_of(point["kind"], point["readout"], point["batch_first"])
    found = forecast(model, turn(x, point["batch_first"]), 6, point["lengths"])
    assert model.training
    found = turn(found, point["batch_first"])
    assert found.shape == (6, N, D)
    model.eval()
    for n in range(N):
        state = None
        for t in range(T if point["lengths"] is None else LENGTHS[n]):
            state = model.recurrent.step(x[t, n : n + 1], state)
        for k in range(6):
            y = model.head(model.recurrent.last_output(state)).numpy()
            np.testing.assert_allclose(found[k, n], y[0], rtol=1e-4, atol=1e-5)
            state = model.recurrent.step(y, state)


def test_a_single_row_and_a_layer_alone():
    model = model_of("lstm", "all", False)
    np.testing.assert_array_equal(forecast(model, x[:, 0], 4), forecast(model, x[:, :1], 4)[:, 0])
    turned = model_of("lstm", "all", True)
    np.testing.assert_allclose(forecast(turned, x[:, 0], 4), forecast(model, x[:, 0], 4), rtol=1e-6)
    layer = mr.GRULayer(D, D, rng=0)
    np.testing.assert_array_equal(forecast(layer, x, 1)[0], layer(x).final_state.numpy())


def test_it_learns_and_goes_on_with_a_sine():
    series = np.sin(0.3 * np.arange(200))
    model = mr.SequenceModel(mr.GRULayer(1, 16, rng=0), mr.Linear(16, 1, rng=1))
    batches = mr.data.batches(*mr.data.windows(series[:150], 30), batch=16, rng=0)
    mr.training.fit(
        model, batches, loss=mr.losses.mse, optimizer=mr.optim.Adam(model.parameters(), 0.01), max_updates=400,
        clip_norm=1.0, progress=False,
    )  # fmt: skip
    assert np.abs(forecast(model, series[:150, None], 20)[:, 0] - series[150:170]).max() < 0.15


REFUSED = [
    (ValueError, lambda: predict(model_of("lstm", "all", False), np.ones((5, 0, 2))),
     "predict: x must have rows, along axis "
     "1 in this model's layout, got shape (5, 0, 2)"),
    (ValueError, lambda: forecast(model_of("lstm", "all", False, P=3), x, 2),
     "forecast: model must predict as many values as "
     "it reads, D=2, got P=3: each prediction is the next input"),
    (ValueError, lambda: forecast(mr.RecurrentLayer(D, D, reverse=True), x, 2),
     "forecast: model must go forward in time, got "
     "RecurrentLayer that goes back: what follows is read first"),
    (TypeError, lambda: forecast(mr.Linear(2, 2), x, 2),
     "forecast: model must be a recurrent layer or a SequenceModel that "
     "reads vectors, got Linear(2, 2) (Linear): of ids, try sample"),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "call", "message"), REFUSED)
def test_what_is_refused(kind, call, message):
    with raises(kind, message):
        call()


def test_what_requires_a_gradient_can_be_asked_for_its_predictions():
    """`predict` and `forecast` give arrays by their contract."""
    model = mr.SequenceModel(mr.GRULayer(2, 3, rng=0), mr.Linear(3, 2, rng=1))
    x = mr.Tensor(np.ones((4, 2, 2), np.float32), requires_grad=True)
    np.testing.assert_array_equal(mr.training.predict(model, x), mr.training.predict(model, x.numpy()))
    np.testing.assert_array_equal(mr.training.forecast(model, x, 2), mr.training.forecast(model, x.numpy(), 2))
