"""Learning-rate schedules, early stopping, and rows of unequal length in `fit`."""

import math

import numpy as np
import pytest
from error_texts import raises

import minirnn as mr
from minirnn.training import early_stopping, evaluate, every, fit, schedules


def train(updates=6, figures=None, **options):
    """Train a tiny layer, noting figures; return the rates that its updates were made with, and the optimiser."""
    layer = mr.RecurrentLayer(2, 3, rng=0)
    sgd, rates = mr.optim.SGD(layer.parameters(), lr=0.5), []
    data = [(np.ones((4, 2, 2)), np.zeros((4, 2, 3)))] * 100
    note = [lambda history: history.record("figure", figures[history.updates - 1])] if figures else []
    fit(
        layer, data, loss=mr.losses.mse, optimizer=sgd, max_updates=updates, progress=False,
        callbacks=[lambda history: rates.append(sgd.lr), *note], **options,
    )  # fmt: skip
    return rates, sgd


def test_every_update_is_made_at_its_own_rate_and_the_usual_one_comes_back():
    root = math.sqrt(2) / 8
    for schedule, factors in (
        (schedules.linear(4), [1, 0.75, 0.5, 0.25, 0, 0]),
        (schedules.linear(2, to=3.0), [1, 2, 3, 3, 3, 3]),
        (schedules.cosine(4, to=0.5), [1, 0.75 + root, 0.75, 0.75 - root, 0.5, 0.5]),
        (schedules.steps(2, 0.1), [1, 1, 0.1, 0.1, 0.01, 0.01]),
        (schedules.warm_up(3), [1 / 3, 2 / 3, 1, 1, 1, 1]),
        (schedules.warm_up(2, schedules.steps(1, 0.5)), [0.5, 1, 1, 0.5, 0.25, 0.125]),
        (lambda update: update, [0, 1, 2, 3, 4, 5]),
    ):
        rates, sgd = train(schedule=schedule)
        assert rates == pytest.approx([0.5 * f for f in factors], rel=1e-12)
        assert sgd.lr == 0.5


@pytest.mark.peer
def test_they_are_torchs():
    torch = pytest.importorskip("torch")
    scheduler, figures = torch.optim.lr_scheduler, np.random.default_rng(0).uniform(1, 2, size=50).tolist()

    def theirs(make, *arguments, look=False, **settings):
        sgd = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.5)
        schedule, rates = getattr(scheduler, make)(sgd, *arguments, **settings), []
        for figure in figures:
            rates.append(sgd.param_groups[0]["lr"])
            sgd.step()
            schedule.step(figure) if look else schedule.step()
        return rates

    for ours, expected in (
        (schedules.exponential(0.9), theirs("ExponentialLR", gamma=0.9)),
        (schedules.steps(7, 0.5), theirs("StepLR", step_size=7, gamma=0.5)),
        (schedules.multi_step([5, 20, 21], 0.3), theirs("MultiStepLR", [5, 20, 21], gamma=0.3)),
        (schedules.linear(30, to=0.1), theirs("LinearLR", start_factor=1.0, end_factor=0.1, total_iters=30)),
        (schedules.one_cycle(51), theirs("OneCycleLR", max_lr=0.5, total_steps=51)),
        (
            schedules.one_cycle(60, 0.5, 0.1, 1e-3),
            theirs("OneCycleLR", 0.5, 60, pct_start=0.5, div_factor=10, final_div_factor=100),
        ),
    ):
        assert [0.5 * ours(k) for k in range(50)] == pytest.approx(expected, rel=1e-12)
    for settings in ({}, {"cooldown": 3}, {"mode": "max", "cooldown": 1}):
        rates = train(50, schedule=schedules.plateau("figure", 3, 0.5, 0.01, **settings), figures=figures)[0]
        exact = theirs(
            "ReduceLROnPlateau", factor=0.5, patience=2, threshold=0.01, threshold_mode="abs", look=True, **settings
        )
        assert rates == pytest.approx(exact, rel=1e-12)


def test_a_cycle_may_begin_at_its_top():
    assert [schedules.one_cycle(10, 0.1)(k) for k in (0, 9)] == [1.0, 4e-6]
    with raises(TypeError, "multi_step: at must be a list of updates, got 10 (int): try [10]"):
        schedules.multi_step(10, 0.5)
    with raises(TypeError, "warm_up: then must be a callable (update) -> factor, got 3 (int): try linear(1000)"):
        schedules.warm_up(3, 3)


def test_plateau_looks_at_evaluations_by_name_and_counts_no_updates():
    with pytest.raises(
        ValueError, match=r"^plateau: name must be that of an evaluation, got 'heldout loss', and those there"
    ):
        train(schedule=schedules.plateau("heldout loss", 1), held_out=(np.ones((4, 2, 2)), np.zeros((4, 2, 3))))
    with pytest.raises(ValueError, match=r"^warm_up: then must count updates, got plateau"):
        schedules.warm_up(3, schedules.plateau("held-out loss", 1))
    rates, _ = train(
        schedule=schedules.plateau("held-out loss", 1, 0.5, 99.0),
        held_out=(np.ones((4, 2, 2)), np.zeros((4, 2, 3))),
        evaluate_every=2,
    )
    assert rates == [0.5, 0.5, 0.5, 0.5, 0.25, 0.25]  # the first is a best one, the second at update 4 is not


def test_training_ends_when_it_no_longer_helps():
    figures = iter([5.0, 4.0, math.nan, 4.5, 3.9, 3.95, 4.2, 3.899, 1.0])
    layer = mr.RecurrentLayer(2, 3, rng=0)
    history = fit(
        layer, [(np.ones((4, 2, 2)), np.zeros((4, 2, 3)))] * 99, loss=mr.losses.mse,
        optimizer=mr.optim.SGD(layer.parameters(), 0.1), max_updates=99, progress=False,
        callbacks=[every(2, lambda history: history.record("held-out", next(figures)))],
        stop=early_stopping("held-out", patience=3, min_delta=0.01),
    )  # fmt: skip
    assert [e.value for e in history.evaluations["held-out"]][-4:] == [3.9, 3.95, 4.2, 3.899]
    assert history.updates == 16
    assert not early_stopping("held-out", 1)(mr.training.History())


def test_an_equal_figure_is_no_better_one():
    stop, history = early_stopping("held-out", patience=2), mr.training.History()
    asked = []
    for update in range(3):
        history.append(1.0, 1.0, update)
        history.record("held-out", 4.0)
        asked.append(stop(history))
    assert asked == [False, False, True]
    rates, _ = train(schedule=schedules.plateau("figure", 2, 0.5), figures=[4.0] * 6)
    assert rates == [0.5, 0.5, 0.5, 0.25, 0.25, 0.125]


def test_lengths_go_to_the_model_and_to_the_loss():
    """The third item of a batch: one update equals that of a loop by hand; padding may hold anything."""
    rng, lengths = np.random.default_rng(0), np.array([2, 6, 3])
    x, y = rng.normal(size=(6, 3, 2)), rng.normal(size=(6, 3, 4))
    x[np.arange(6)[:, None] >= lengths] = np.nan
    y[np.arange(6)[:, None] >= lengths] = np.nan
    trained, by_hand = (mr.GRULayer(2, 4, dtype=np.float64, rng=1) for _ in range(2))
    history = fit(
        trained, [(x, y, lengths)], loss=mr.losses.mse, optimizer=mr.optim.SGD(trained.parameters(), 0.1),
        max_updates=1, progress=False,
    )  # fmt: skip
    loss = mr.losses.mse(by_hand(x, lengths=lengths).outputs, y, lengths=lengths)
    loss.backward()
    mr.optim.SGD(by_hand.parameters(), 0.1).step()
    assert history.loss.tolist() == [loss.item()]
    for p, q in zip(trained.parameters(), by_hand.parameters(), strict=True):
        assert np.array_equal(p.data, q.data)


def test_lengths_with_one_prediction_a_row():
    rng, lengths = np.random.default_rng(0), [2, 6, 3]
    x, y = rng.normal(size=(6, 3, 2)), rng.normal(size=(3, 1))
    model = mr.SequenceModel(mr.LSTMLayer(2, 4, rng=1), mr.Linear(4, 1, rng=2), readout="last")
    expected = mr.losses.mse(model(x, lengths=lengths).predictions, y).item()
    assert evaluate(model, [(x, y, lengths)], loss=mr.losses.mse) == pytest.approx(expected, rel=1e-6)


def test_evaluate_weighs_batches_by_the_targets_that_count():
    rng = np.random.default_rng(0)
    layer = mr.GRULayer(2, 4, dtype=np.float64, rng=1)
    x, y, lengths = rng.normal(size=(6, 3, 2)), rng.normal(size=(6, 3, 4)), np.array([1, 6, 2])
    batches = [(x, y, lengths), (x[:2], y[:2])]
    outputs = layer(x, lengths=lengths).outputs.data
    inside = np.arange(6)[:, None] < lengths
    errors = np.concatenate([(outputs - y)[inside] ** 2, ((layer(x[:2]).outputs.data - y[:2]) ** 2).reshape(-1, 4)])
    assert evaluate(layer, batches, loss=mr.losses.mse) == pytest.approx(errors.mean(), rel=1e-12)


# --- metrics ----------------------------------------------------------------------------------------------------------
