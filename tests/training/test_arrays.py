"""fit on arrays as they are, updates of several batches, the best weights, hooks, and inputs of the model's own."""

import functools
import math

import numpy as np
import pytest
from error_texts import raises
from pairwise import pairwise

import minirnn as mr
from minirnn.training import Checkpointing, History, evaluate, fit
from minirnn.training.batches import unpacked
from minirnn.training.evaluation import loss_and_figure
from minirnn.training.saving import Best

T, N, D, H = 5, 7, 2, 4
rng = np.random.default_rng(0)
X, Y, IDS = rng.normal(size=(T, N, D)), rng.normal(size=(T, N, 1)), rng.integers(3, size=N)
LENGTHS = np.array([5, 1, 3, 2, 5, 4, 1])


def model_of(P=1, readout="all", **settings):
    settings = {"dtype": np.float64, "rng": 1, **settings}
    return mr.SequenceModel(mr.GRULayer(D, H, **settings), mr.Linear(H, P, dtype=np.float64, rng=2), readout=readout)


def train(model, data, optimizer=mr.optim.SGD, lr=0.1, **settings):
    settings = {"loss": mr.losses.mse, "progress": False, **settings}
    return fit(model, data, optimizer=optimizer(model.parameters(), lr), **settings)


def same(a, b, **tolerance):
    for p, q in zip(a.parameters(), b.parameters(), strict=True):
        np.testing.assert_allclose(p.data, q.data, **{"rtol": 1e-12, "atol": 1e-14, **tolerance})


GRID = {"batch_first": [False, True], "ragged": [False, True], "readout": ["all", "last"], "batch": [3, 7, 100]}


@pytest.mark.parametrize("point", pairwise(GRID))
def test_arrays_are_the_batches_that_one_would_draw_of_them(point):
    every, first = point["readout"] == "all", point["batch_first"]
    arrays = [X.swapaxes(0, 1) if first else X, Y.swapaxes(0, 1) if first and every else Y if every else Y[-1]]
    arrays += [LENGTHS] * point["ragged"]
    one, other = (model_of(readout=point["readout"], batch_first=first) for _ in range(2))
    history = train(one, tuple(arrays), batch=point["batch"], epochs=3, rng=5)
    drawn = mr.data.batches(*arrays, batch=point["batch"], epochs=3, rng=5, batch_first=first, readout=point["readout"])
    assert history.updates == 3 * drawn.per_epoch
    train(other, drawn)
    same(one, other, rtol=0, atol=0)


def test_how_long():
    for settings, updates in (
        ({"max_updates": 4}, 4), ({"epochs": 2}, 6), ({"epochs": 2, "max_updates": 5}, 5),
        ({"epochs": 1, "max_updates": 9}, 3), ({"epochs": 2, "accumulate": 4}, 2),
    ):  # fmt: skip
        assert train(model_of(), (X, Y), batch=3, rng=0, **settings).updates == updates
    many = (np.zeros((2, 33, D)), np.zeros((2, 33, 1)))
    assert train(model_of(), many, epochs=1, rng=0).updates == 2  # of 32 rows and of one
    assert train(model_of(), tuple(a[:, 1:] for a in many), epochs=1, rng=0).updates == 1
    listed = [(X, Y)] * 3
    assert train(model_of(), listed).updates == 3
    assert train(model_of(), listed, epochs=2).updates == 6
    with pytest.warns(UserWarning, match=r"^fit: the batches ended after 3 of max_updates=9 updates: pass epochs=, to"):
        train(model_of(), listed, max_updates=9)
    with pytest.warns(
        UserWarning, match=r"^fit: the batches ended after 3 of max_updates=9 updates: give a list of them"
    ):
        train(model_of(), iter(listed), max_updates=9)
    limited = mr.data.batches(X, Y, batch=7, epochs=2, rng=0)  # which says itself how often
    assert train(model_of(), limited, max_updates=9).updates == 2


def test_held_out_data_are_looked_at_after_every_200_updates_and_at_the_end():
    small = (X[:1, :1], Y[:1, :1])
    history = train(model_of(), small, epochs=401, held_out=small)
    assert [look.update for look in history.evaluations["held-out loss"]] == [200, 400, 401]


def test_a_model_without_a_state_and_a_task_s_batch_as_arrays():
    model = mr.Sequential(mr.Linear(D, 3, rng=0), mr.Linear(3, 1, rng=1))
    assert train(model, (X[0], Y[0]), batch=2, epochs=1, rng=0).updates == 4
    task = mr.tasks.ParityTask(T=6)
    one, other = (
        mr.SequenceModel(mr.GRULayer(1, 4, rng=0, batch_first=f), mr.Linear(4, 2, rng=1)) for f in (False, True)
    )
    one.readout = other.readout = task.readout
    for model in (one, other):
        train(model, task.batch(9, rng=0), loss=mr.losses.cross_entropy, batch=4, epochs=2, rng=3)
    same(one, other, rtol=1e-5, atol=1e-6)


def test_of_equal_figures_the_first_is_the_best():
    """A later one that is no better does not take its place: fewer updates did the same."""
    best = Best(model := model_of(), ["held-out loss"], True)
    history = History()
    for value in (2.0, 1.0, 1.0, 1.0):
        for parameter in model.parameters():
            parameter.data = np.full(parameter.shape, float(history.updates))
        history.append(1.0, 1.0, 1.0)
        history.record("held-out loss", value)
        best.look(history)
    best.put_back(history)
    assert history.restored == 2
    assert all((parameter.data == 1.0).all() for parameter in model.parameters())


# --- several batches to an update -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "loss",
    [
        mr.losses.cross_entropy,
        functools.partial(mr.losses.cross_entropy, weight=[1.0, 5.0, 0.5]),
        functools.partial(mr.losses.cross_entropy, reduction="sum"),
        functools.partial(mr.losses.cross_entropy, reduction="sum", weight=[1.0, 5.0, 0.5], ignore_index=2),
    ],
)
@pytest.mark.parametrize("ragged", [False, True])
def test_an_update_of_several_batches_is_that_of_all_their_rows(ragged, loss):
    """Also where they differ in size: the gradient before clipping, loss, accuracy and norm are the same."""
    ids = rng.integers(3, size=(T, N))
    lengths = [LENGTHS] * ragged
    parts = [slice(0, 3), slice(3, 4), slice(4, 7)]
    micro = [(X[:, rows], ids[:, rows], *(a[rows] for a in lengths)) for rows in parts]
    one, other = model_of(3), model_of(3)
    settings = {"loss": loss, "clip_norm": 0.05, "epochs": 4}
    small = train(one, micro, accumulate=3, **settings)
    large = train(other, [(X, ids, *lengths)], **settings)
    same(one, other, rtol=1e-11)
    for of in ("loss", "grad_norm"):
        np.testing.assert_allclose(getattr(small, of), getattr(large, of), rtol=1e-12)
    np.testing.assert_allclose(small.metrics["accuracy"], large.metrics["accuracy"], rtol=1e-12)  # class weights or not


def test_the_state_is_carried_within_an_update_and_a_run_goes_on_to_the_same_bits(tmp_path):
    chunks = [(X[lo : lo + 1], Y[lo : lo + 1], lo == 0) for lo in range(T)] * 4
    whole, broken = model_of(), model_of()
    train(whole, chunks, carry_state=True, accumulate=3)
    for last in (3, None):
        train(
            broken,
            chunks,
            carry_state=True,
            accumulate=3,
            max_updates=last,
            checkpoint=Checkpointing(tmp_path, resume=True),
        )
    same(whole, broken, rtol=0, atol=0)
    made = train(
        broken, chunks, carry_state=True, accumulate=3, max_updates=2, checkpoint=Checkpointing(tmp_path, resume=True)
    )
    assert made.updates == 7  # more than it was to make: nothing is added
    same(whole, broken, rtol=0, atol=0)


def test_a_hook_sees_the_gradients_before_they_are_clipped():
    norms = []

    def double(parameters):
        for p in parameters:
            p.grad = 2 * p.grad
        norms.append(math.sqrt(sum((p.grad**2).sum() for p in parameters)))

    one, other = model_of(), model_of()
    history = train(one, [(X, Y)] * 3, gradient_hook=double, clip_norm=1e-3)
    np.testing.assert_allclose(history.grad_norm, norms, rtol=1e-12)
    train(one, [(X, Y)], gradient_hook=lambda ps: [setattr(p, "grad", np.zeros_like(p.data)) for p in ps])
    train(other, [(X, Y)] * 3, gradient_hook=double, clip_norm=1e-3)
    same(one, other, rtol=0, atol=0)


# --- the best weights -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ends", ["in order", "Ctrl-C"])
def test_the_best_weights_come_back(ends, tmp_path):
    held_out, rate = (X[:, :3], Y[:, :3]), iter([0.1, 0.1, 0.1, 50.0, 0.0, 0.0, 0.0, 0.0])

    def interrupt(history):
        if ends == "Ctrl-C" and history.updates == 6:
            raise KeyboardInterrupt

    model = model_of()
    history = train(
        model, [(X, Y)] * 8, held_out=held_out, evaluate_every=1, restore_best=True, callbacks=[interrupt],
        schedule=lambda update: next(rate),
    )  # fmt: skip
    figures = [e.value for e in history.evaluations["held-out loss"]]
    assert history.restored == 1 + int(np.argmin(figures)) == 3
    assert history.interrupted is (ends == "Ctrl-C")
    assert evaluate(model, [held_out], loss=mr.losses.mse) == min(figures)


def test_the_best_of_a_run_that_goes_on_may_lie_before(tmp_path):
    settings = {"held_out": (X, Y), "evaluate_every": 1, "restore_best": True}
    model, factors = model_of(), {0: 1.0, 1: 1.0}

    def schedule(update):
        return factors.get(update, 300.0)

    saved = Checkpointing(tmp_path, resume=True)
    for last in (2, 4):
        history = train(model, (X, Y), max_updates=last, rng=0, schedule=schedule, checkpoint=saved, **settings)
    assert history.restored == 2
    values = [e.value for e in history.evaluations["held-out loss"]]
    assert evaluate(model, [(X, Y)], loss=mr.losses.mse) == values[1] < values[2]


# --- inputs of the model's own ----------------------------------------------------------------------------------------


def test_with_probability_1_every_step_but_the_first_reads_what_the_model_predicts():
    """The gradient is that of a loop by hand in which predictions are fed back, detached."""
    series = rng.normal(size=(T + 1, N, D))
    for first in (False, True):
        for lengths in (None, LENGTHS):
            one, other = (model_of(D, batch_first=f) for f in (first, False))
            x, y = (a.swapaxes(0, 1) if first else a for a in (series[:-1], series[1:]))
            batch = (x, y) if lengths is None else (x, y, lengths)
            history = train(one, [batch], scheduled_sampling=1.0)
            state, read, made = None, series[0], []
            for _ in range(T):
                state = other.recurrent.step(read, state)
                made.append(other.head(state))
                read = made[-1].numpy()
            loss = mr.losses.mse(mr.stack(made), series[1:], lengths)
            loss.backward()
            mr.optim.SGD(other.parameters(), 0.1).step()
            assert history.loss[0] == pytest.approx(loss.item(), rel=1e-12)
            same(one, other)


def test_a_share_of_the_classes_read_is_drawn_and_two_runs_are_alike():
    ids = rng.integers(3, size=(40, 50))
    models = [
        mr.SequenceModel(mr.GRULayer(D, H, rng=1), mr.Linear(H, 3, rng=2), embedding=mr.Embedding(3, D, rng=3))
        for _ in range(3)
    ]
    read = []
    models[0].recurrent.arrange, arrange = (
        (lambda x, *more: read.append(np.array(x)) or arrange(x, *more)),
        models[0].recurrent.arrange,
    )
    for model, p in zip(models, (0.25, 0.25, 0.0), strict=True):
        train(model, [(ids[:-1], ids[1:])], loss=mr.losses.cross_entropy, scheduled_sampling=lambda update, p=p: p)
    same(models[0], models[1], rtol=0, atol=0)
    data = models[2].embedding.weight  # as it was; that of models[0] has been trained since
    assert not np.array_equal(models[0].head.weight.data, models[2].head.weight.data)
    changed = read[0].argmax(axis=-1) != ids[:-1]  # the layer gets ids as rows of zeros and ones
    assert not changed[0].any()
    assert 0.25 * 2 / 3 * 0.8 < changed[1:].mean() < 0.25 * 2 / 3 * 1.2  # a third of those drawn are the data's
    assert data is not None


REFUSED = [
    (TypeError, {"epochs": 1, "optimizer": lambda ps, lr: "adam"},
     "optimizer must be an Optimizer, got 'adam' (str): try minirnn.optim.Adam(model.parameters())"),
    (TypeError, {"epochs": 1, "loss": lambda predictions, y: 0.5},
     "loss must return a Tensor, got 0.5 (float): make it of minirnn's ops and losses"),
    (ValueError, {"epochs": 1, "optimizer": lambda ps, lr: mr.optim.SGD(model_of().parameters(), lr)},
     "optimizer has no Parameter of this "
     "model: make it of model.parameters()"),
    (TypeError, {"data": mr.tasks.AddingTask(), "epochs": 2},
     "epochs needs arrays (x, y), got it with a task, which has no "
     "end: try max_updates="),
    (TypeError, {},
     "max_updates must be given, or epochs with arrays (x, y): these batches have no end"),
    (ValueError, {"epochs": 1, "data": (X, Y[:, :3])},
     "y must have shape (5, 7) or (5, 7, 'P'), a target at every step, or "
     "(7,) or (7, 'P'), one for each row, got (5, 3, 1): x is read as (T, N, …)"),
    (ValueError, {"epochs": 1, "restore_best": True},
     "restore_best needs a figure of held-out data, got none: pass held_out="),
    (ValueError, {"epochs": 1, "held_out": (X, np.where(Y[2, 1] == Y, np.nan, Y))},
     "batch 1 of held_out: y must hold no NaN, got one at [2, 1, 0]: leave such rows out, or fill them in"),
    (ValueError, {"epochs": 1, "held_out": (np.where(X[2, 1, 1] == X, np.nan, X), Y)},
     "batch 1 of held_out: x must hold no NaN, got one at [2, 1, 1]: leave such rows out, or fill them in"),
    (ValueError, {"epochs": 1, "held_out": (X.tolist(), np.where(Y[2, 1] == Y, np.nan, Y).tolist())},
     "batch 1 of held_out: y must hold no NaN, got one at [2, 1, 0]: leave such rows out, or fill them in"),
    (ValueError, {"epochs": 1, "data": (X.swapaxes(0, 1), Y.swapaxes(0, 1), LENGTHS[:3]), "batch_first": True},
     "lengths must have shape (N=7,), one for each row, got (3,): rows come first in (N, T, …)"),
    (TypeError, {"epochs": 1, "stop": True},
     "stop must be a callable (history) -> bool, got True (bool): try until_solved(task)"),
    (TypeError, {"epochs": 1, "data": (X, X), "metrics": {"size": lambda predictions, y: None}},
     "metrics['size'] must return a number, got None (NoneType): try its mean"),
    (TypeError, {"epochs": 1, "data": (X, X), "metrics": {"error": lambda predictions, y: predictions - y}},
     "metrics['error'] must return a number, got an array of shape (5, 7, 2) and dtype float64: try its mean"),
    (TypeError, {"epochs": 1, "data": [X, Y]},
     "task_or_batches must be a task of minirnn.tasks, or an iterable of (x, y), (x, y, lengths) or (x, y, is_start), "
     "got a ndarray: arrays go in a tuple, (x, y)"),
    (TypeError, {"epochs": 1, "gradient_hook": 3},
     "gradient_hook must be a callable (parameters), got 3 (int): try None"),
    (ValueError, {"epochs": 1, "scheduled_sampling": 1.5},
     "scheduled_sampling must be a number from 0 to 1, got 1.5: or a "
     "callable (update) -> it"),
    (ValueError, {"data": [(X, X)], "scheduled_sampling": 0.5},
     "batch 1: scheduled_sampling needs targets that are the next "
     "inputs, y[t] = x[t + 1], got others"),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "settings", "message"), REFUSED)
def test_what_is_refused(kind, settings, message):
    with raises(kind, f"fit: {message}"):
        model = model_of(D, batch_first=settings.pop("batch_first", False))
        train(model, settings.pop("data", (X, Y)), **settings)


def test_a_nan_in_held_out_data_may_stand_in_the_padding_or_be_read_by_a_model_of_ones_own():
    padded = np.where(np.arange(T)[:, None, None] < LENGTHS[:, None], X, np.nan)
    history = train(model_of(), [(X, Y, LENGTHS)], held_out=(padded, Y, LENGTHS))
    assert math.isfinite(history.evaluations["held-out loss"][-1].value)

    class Filling(mr.Module):
        def __init__(self):
            super().__init__()
            self.inner = model_of()
            self.carries_state, self.readout = True, "all"

        def forward(self, x, state=None):
            return self.inner(np.nan_to_num(x), state)

    history = train(Filling(), [(padded, Y)], held_out=(padded, Y))
    assert math.isfinite(history.evaluations["held-out loss"][-1].value)


def test_parameters_that_are_all_frozen():
    model = model_of()
    for p in model.parameters():
        p.requires_grad = False
    with raises(
        ValueError,
        "fit: optimizer has frozen Parameters only, requires_grad=False, so that nothing would be learnt: set it to "
        "True for those to be trained",
    ):
        train(model, (X, Y), epochs=1)


@pytest.mark.parametrize("loss", ["mse", "l1", "huber", "binary_cross_entropy", "cross_entropy"])
def test_held_out_a_sum_is_the_mean_per_target_too_however_the_rows_are_cut(loss):
    of_classes = loss == "cross_entropy"
    y = rng.integers(3, size=(T, N)) if of_classes else rng.random((T, N, 1))
    mean, model = getattr(mr.losses, loss), model_of(3 if of_classes else 1)
    right = mean(model(X, lengths=LENGTHS).predictions, y, LENGTHS).item()
    for rows in ([slice(0, 7)], [slice(0, 2), slice(2, 7)]):
        batches = [(X[:, n], y[:, n], LENGTHS[n]) for n in rows]
        total = functools.partial(mean, reduction="sum")
        assert evaluate(model, batches, loss=total) == pytest.approx(right, rel=1e-12)
        history = train(model_of(3 if of_classes else 1), batches, loss=total, lr=1e-12, held_out=batches)
        assert history.evaluations["held-out loss"][-1].value == pytest.approx(right, rel=1e-9)


def test_a_model_that_gives_an_array_is_named():
    class Plain(mr.Module):
        def __init__(self):
            super().__init__()
            self.inner = mr.Linear(D, 1, dtype=np.float64)

        def forward(self, x):
            return self.inner(x).numpy()

    with raises(
        TypeError,
        "fit: model must return a Tensor, got an array of shape (5, 7, 1) and dtype float64: the gradient would end "
        "there, so leave .numpy() out",
    ):
        train(Plain(), [(X, Y)])


def test_a_loss_may_be_measured_in_plain_numbers():
    model = model_of()
    plain = evaluate(model, [(X, Y)], loss=lambda predictions, y: float(((predictions.numpy() - y) ** 2).mean()))
    assert plain == pytest.approx(evaluate(model, [(X, Y)], loss=mr.losses.mse), rel=1e-12)


def test_a_loss_of_many_numbers_is_refused():
    each = functools.partial(mr.losses.mse, reduction="none")
    message = 'got a Tensor of shape (5, 7, 1): take its mean, or reduction="mean" or "sum"'
    with raises(ValueError, f"fit: loss must give one number, {message}"):
        train(model_of(), [(X, Y)], loss=each)
    with raises(ValueError, f"evaluate: loss must give one number, {message}"):
        evaluate(model_of(), [(X, Y)], loss=each)


def test_the_figure_of_a_text_counts_characters_not_the_weights_of_a_loss():
    task = mr.tasks.TextTask(text="abcabcaabbcc" * 40)
    model = mr.SequenceModel(
        mr.RecurrentLayer(4, 3, rng=0), mr.Linear(3, 3, rng=1), embedding=mr.Embedding(3, 4, rng=2)
    )
    for parameter in model.parameters():
        parameter.data = parameter.data * 2  # so that chunks differ
    plain, weighed = mr.losses.cross_entropy, functools.partial(mr.losses.cross_entropy, weight=[9.0, 0.5, 0.5])
    chunks = list(task.evaluation_streams(2, 7))
    figures = [
        loss_and_figure(model, unpacked(model, chunks, "here"), loss, True, task)[1] for loss in (plain, weighed)
    ]
    assert figures[0] == pytest.approx(figures[1], rel=1e-9)


@pytest.mark.parametrize("settings", [{"ignore_index": 0}, {"weight": [1.0, 5.0, 0.5]}, {"label_smoothing": 0.1}])
def test_batches_are_weighed_by_the_targets_that_count_and_so_is_the_accuracy(settings):
    """The loss of two batches of unlike sizes is that of all rows; ignored targets are no wrong answers."""
    model, ids = model_of(3), rng.integers(3, size=(T, N))
    loss = functools.partial(mr.losses.cross_entropy, **settings)
    parts = [(X[:, :2], ids[:, :2], LENGTHS[:2]), (X[:, 2:], ids[:, 2:], LENGTHS[2:])]
    whole = evaluate(model, [(X, ids, LENGTHS)], loss=loss)
    assert evaluate(model, parts, loss=loss) == pytest.approx(whole, rel=1e-12)
    history = train(model, [(X, ids)], loss=loss)
    right = model_of(3)(X).predictions.numpy().argmax(axis=-1) == ids
    counts = ids != settings.get("ignore_index")
    assert history.metrics["accuracy"][0] == right[counts].mean()
