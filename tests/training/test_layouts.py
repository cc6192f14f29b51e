"""Time first or rows first: whoever joins data, model, loss and figure knows which, or says that it cannot."""

import itertools

import numpy as np
import pytest
from error_texts import raises
from notes import noted

import minirnn as mr
from minirnn.tasks import TASKS, EchoTask, ParityTask, SequenceTask, TextTask, TimeMajor
from minirnn.training import accuracy, bits_per_character, evaluate, fit, measure

PACKAGES = {"scikit-learn": "sklearn", "statsmodels": "statsmodels", "sktime": "sktime"}
D, H = 3, 5


def built(name):
    if TASKS[name].needs is not None:
        pytest.importorskip(PACKAGES[TASKS[name].needs])
    return TextTask("the cat sat on the mat.\n" * 90) if name == "text" else TASKS[name]()


def model_for(task, first, cell=mr.GRULayer):
    rng, P = np.random.default_rng(0), task.output_size
    embedding = mr.Embedding(P, D, rng=rng) if task.inputs == "ids" else None
    layer = cell(D if embedding else task.input_size, H, batch_first=first, rng=rng)
    return mr.SequenceModel(layer, mr.Linear(H, P, rng=rng), task.readout, embedding=embedding)


def loss_of(task):
    return mr.losses.cross_entropy if task.kind == "classification" else mr.losses.mse


def permuted(batch, order):
    """Put the rows of a task's batch into another order."""
    x, y, *lengths = batch
    made = TimeMajor((x[:, order], y[:, order] if batch.every_step else y[order], *(a[order] for a in lengths)))
    made.every_step = batch.every_step
    return made


@pytest.mark.parametrize("name", [name for name in TASKS if issubclass(TASKS[name], SequenceTask)])
def test_both_layouts_have_one_figure_and_loss_which_no_order_of_rows_changes(name):
    """As many rows as steps, where nothing but the layout tells them apart, and not."""
    task = built(name)
    drawn = (task.batch(N, seed) for seed in range(9) for N in range(4, 60))
    for batch in (next(batch for batch in drawn if len(batch[0]) == batch[0].shape[1]), task.batch(7, rng=0)):
        N = batch[0].shape[1]
        order = np.random.default_rng(1).permutation(N)
        found = []
        for first, given in itertools.product((False, True), (batch, permuted(batch, order))):
            model = model_for(task, first)
            plain = given.rows_first() if first else tuple(given)  # one's own, in the model's layout
            for of in (given, plain):
                found.append([measure(model, task, of), evaluate(model, [of], loss=loss_of(task))])
            if (task.kind, task.readout) == ("classification", "all"):
                x, *targets = plain
                found[-1].append(accuracy(model(x, None, *targets[1:])[0], *targets, batch_first=first))
                found[-2].append(found[-1][-1])
        np.testing.assert_allclose(found, [found[0]] * len(found), rtol=1e-5)


@pytest.mark.parametrize("name", ["parity", "adding-ragged", "reber", "copy", "text"])
def test_a_task_trains_a_model_of_either_layout_alike(name):
    """The loss, the accuracy, the gradient's norm, and what is held out, with N = T and not."""
    task = built(name)
    for N, first in itertools.product((20, 6), (False, True)):
        made = []
        for source in (task, task.streams(N, 20, 1) if name == "text" else task.batches(N, 1)):
            model = model_for(task, first)
            of_task = {"batch": N, "rng": 1, "held_out": True} if source is task else {"loss": loss_of(task)}
            if name == "text":
                of_task["carry_state"] = True
            adam = mr.optim.Adam(model.parameters(), 0.01)
            history = fit(model, source, optimizer=adam, max_updates=3, progress=False, **of_task)
            made.append([*history.loss, *history.grad_norm, *np.ravel(list(history.metrics.values()))])
            if source is task:
                held_out = [history.evaluations[key][-1].value for key in ("held-out", "held-out loss")]
        if first is False:
            expected, of_held_out = made[0], held_out
        np.testing.assert_allclose(made, [expected] * 2, rtol=2e-4)
        np.testing.assert_allclose(held_out, of_held_out, rtol=1e-4)


def test_a_figure_of_whole_rows_is_told_the_layout_without_lengths_too():
    class Rows(EchoTask, name="rows"):
        def _figure(self, predictions, y, counting):
            return float(predictions.max(axis=0).mean())

    task, found = Rows(T=12, delay=1), []
    two = [task.batch(3, rng=0), task.batch(9, rng=1)]
    for first in (False, True):
        model = model_for(task, first)
        sgd = mr.optim.SGD(model.parameters(), 1e-9)
        history = fit(model, task, optimizer=sgd, max_updates=1, rng=0, progress=False, held_out=two)
        found.append([history.evaluations["held-out"][-1].value, *(measure(model, task, batch) for batch in two)])
    np.testing.assert_allclose(found, [found[0]] * 2, rtol=1e-6)
    assert found[0][0] == pytest.approx((3 * found[0][1] + 9 * found[0][2]) / 12, rel=1e-6)


def test_a_text_has_one_figure():
    task = built("text")
    figures = [
        bits_per_character(model_for(task, first), task, N=N, chunk=9) for first in (False, True) for N in (9, 4)
    ]
    np.testing.assert_allclose(figures[:2], figures[2:], rtol=1e-6)


def test_parity_is_learnt_in_both_layouts():
    """What was silent: 0.686, which is chance, in one of them."""
    task, ends = ParityTask(T=8), []
    for first in (False, True):
        model = model_for(task, first, mr.LSTMLayer)
        adam = mr.optim.Adam(model.parameters(), 0.02)
        ends.append(fit(model, task, optimizer=adam, max_updates=250, batch=8, rng=3, progress=False).recent(20))
    assert max(ends) < 0.35
    assert ends[0] == pytest.approx(ends[1], rel=0.05)


# --- losses and metrics -----------------------------------------------------------------------------------------------

MEASURES = {
    "mse": (mr.losses.mse, lambda rng, shape: rng.normal(size=shape)),
    "binary_cross_entropy": (mr.losses.binary_cross_entropy, lambda rng, shape: rng.random(shape)),
    "cross_entropy": (mr.losses.cross_entropy, lambda rng, shape: rng.integers(0, 3, shape[:2])),
    "accuracy": (accuracy, lambda rng, shape: rng.integers(0, 3, shape[:2])),
}


@pytest.mark.parametrize("name", MEASURES)
@pytest.mark.parametrize(("T", "N"), [(4, 4), (4, 6), (6, 2)])
def test_a_loss_counts_the_same_steps_in_both_layouts_and_any_order(name, T, N):
    function, draw = MEASURES[name]
    rng = np.random.default_rng(0)
    p, lengths = rng.normal(size=(T, N, 3)), rng.integers(1, T, N)
    y = draw(rng, p.shape)
    valid, order = np.arange(T)[:, None] < lengths, rng.permutation(N)
    value = lambda found: found.item() if isinstance(found, mr.Tensor) else found  # noqa: E731
    expected = value(function(p[valid], y[valid]))
    junk = np.where(valid[..., None], p, np.nan)
    for a, b, counts in ((p, y, lengths), (junk, y, lengths), (p[:, order], y[:, order], lengths[order])):
        assert value(function(a, b, counts)) == pytest.approx(expected, rel=1e-14)
        turned = a.swapaxes(0, 1), b.swapaxes(0, 1), counts
        assert value(function(*turned, batch_first=True)) == pytest.approx(expected, rel=1e-14)
    if name != "accuracy":
        leaf, other = mr.Tensor(p, requires_grad=True), mr.Tensor(p.swapaxes(0, 1), requires_grad=True)
        function(leaf, y, lengths).backward()
        function(other, y.swapaxes(0, 1), lengths, batch_first=True).backward()
        np.testing.assert_array_equal(leaf.grad, other.grad.swapaxes(0, 1))
    for first, shape in ((False, (T, N)), (True, (N, T))):
        a, b = np.zeros((*shape, 3)), draw(rng, (*shape, 3))
        come, read, other = (
            ("rows come", "(N, T, …)", "(T, N, …)") if first else ("time comes", "(T, N, …)", "(N, T, …)")
        )
        if T != N:
            text = f"{name}: lengths must have shape (N={N},), one for each row, got ({T},): {come} first in {read}"
            with raises(ValueError, f"{text}, for {other} try batch_first={not first}"):
                function(a, b, [1] * T, batch_first=first)
    if name == "accuracy":
        with raises(ValueError, "accuracy: lengths can mask ids of shape (T, N) only, got (4,): leave it out"):
            accuracy(np.zeros((4, 3)), np.zeros(4, int), [1, 2, 3, 4])


def test_what_takes_no_layout_is_named():
    layer, x = mr.GRULayer(D, H, batch_first=True, rng=0), np.ones((4, 4, D))
    batch = x, np.zeros((4, 4, H)), [1, 2, 3, 4]

    def mine(p, y, lengths=None):
        return mr.losses.mse(p, y, lengths)

    got = "mine() got an unexpected keyword argument 'batch_first'"
    rest = "lengths say how many steps of each row count, batch_first that targets are (N, T, …)"
    must = "must take lengths= and batch_first= where rows differ in length, got test_what_takes_no_layout_is_named"
    sgd = mr.optim.SGD(layer.parameters(), 0.1)
    for loss, metrics, named in ((mine, {}, "loss"), (mr.losses.mse, {"m": mine}, "metrics['m']")):
        with raises(TypeError, f"fit: {named} {must}.<locals>.{got}: {rest}"):
            fit(layer, [batch], loss=loss, metrics=metrics, optimizer=sgd, max_updates=1)
    fit(layer, [batch[:2]], loss=mine, optimizer=sgd, max_updates=1)


# --- models and batches of one's own ----------------------------------------------------------------------------------


class Own(mr.Module):
    """Reads (T, N, …), or (N, T, …) if its layer does, unless it turns them."""

    def __init__(self, task, first, turns=False):
        super().__init__()
        self.inner, self.turns = model_for(task, first), turns

    def forward(self, x):
        return self.inner(np.swapaxes(x, 0, 1)).predictions.swapaxes(0, 1) if self.turns else self.inner(x).predictions


def test_a_module_of_ones_own_says_it_where_its_layers_do_not():
    task = EchoTask(T=6, delay=2)
    batch, loss = task.batch(6, rng=0), mr.losses.cross_entropy
    right = evaluate(model_for(task, False), [batch], loss=loss)
    for first, turns, said in ((False, False, None), (True, False, True), (True, True, False), (False, True, True)):
        model = Own(task, first, turns)
        if said is not None:
            model.batch_first = said
        with noted((first, turns, said)):
            assert evaluate(model, [batch], loss=loss) == pytest.approx(right, rel=1e-6)
            figure = measure(model_for(task, False), task, batch)
            assert measure(model, task, batch) == figure
    model = Own(task, True)
    assert evaluate(model, [batch.rows_first()], loss=loss) == pytest.approx(
        right, rel=1e-6
    )  # one's own: nothing to ask
    text = (
        "Own: batch_first must be set, got none and in it a SequenceModel with batch_first=True: set it on the Own, to "
        "True if it reads and predicts (N, T, …), to False if (T, N, …)"
    )
    with raises(ValueError, text):
        evaluate(model, [batch], loss=loss)
    with raises(ValueError, text):
        fit(model, task, optimizer=mr.optim.SGD(model.parameters(), 0.1), max_updates=1)


def test_targets_whose_axes_are_exchanged():
    x, exchanged = np.ones((6, 1, D)), "exchange the first two axes of"
    for first, readout, y, what, way in (
        (False, "all", (1, 6, 2), "a target at every step", f"{exchanged} one of them"),
        (True, "all", (1, 6, 2), "a target at every step", f"{exchanged} one of them"),
        (True, "last", (1, 2), "one target for each row", f"{exchanged} x"),
        (False, "last", (6, 2), "one target for each row", f"{exchanged} x"),
    ):
        model = mr.SequenceModel(mr.GRULayer(D, H, batch_first=first, rng=0), mr.Linear(H, 2, rng=0), readout)
        text = (
            f"evaluate: batch 1: y must have {what}, got {y} for x of shape (6, 1, 3): the model reads "
            f"{'(N, T, …)' if first else '(T, N, …)'}, batch_first={first}: {way}, or make the layer with "
            f"batch_first={not first}"
        )
        with raises(ValueError, text):
            evaluate(model, [(x, np.zeros(y))], loss=mr.losses.mse)


# --- what is kept beyond a batch --------------------------------------------------------------------------------------


def refilled(batches):
    """Give every batch in the same memory, as data pipelines do."""
    buffers = None
    for batch in batches:
        buffers = buffers or [np.empty_like(a) for a in batch]
        for buffer, a in zip(buffers, batch, strict=True):
            buffer[...] = a
        yield tuple(buffers)
    for buffer in buffers:
        buffer[...] = 99


class Last(mr.Module):
    """Its state is what it read last, a view."""

    carries_state = True

    def __init__(self):
        super().__init__()
        self.head = mr.Linear(D, H, rng=0)

    def forward(self, x, state=None):
        return self.head(x) + (0.0 if state is None else state), mr.Tensor(x[-1, :, :1])


@pytest.mark.parametrize("way", [(2, 7), (4, 9), (4, 3), "carried", "carried, rows first", "own", "held out"])
def test_a_generator_may_refill_one_buffer(way):
    rng = np.random.default_rng(0)
    batches = [(rng.normal(size=(4, 4, D)), rng.normal(size=(4, 4, H))) for _ in range(9)]
    seen = []
    for give in (iter, refilled):
        model = Last() if way == "own" else mr.LSTMLayer(D, H, batch_first=way == "carried, rows first", rng=0)
        given = give(batches)
        settings = {"carry_state": True, "tbptt": way if isinstance(way, tuple) else None}
        if way == "held out":
            settings = {"held_out": next(given), "evaluate_every": 2}
        sgd = mr.optim.SGD(model.parameters(), 0.5)
        history = fit(model, given, loss=mr.losses.mse, optimizer=sgd, progress=False, **settings)
        seen.append(
            [*history.loss, *history.grad_norm, *(e.value for made in history.evaluations.values() for e in made)]
        )
        seen[-1] += [p.data.tobytes() for p in model.parameters()]
    assert seen[0] == seen[1]


# --- a state that does not fit ----------------------------------------------------------------------------------------


def test_a_smaller_last_batch_is_named():
    class Wrapped(mr.Module):
        carries_state = True

        def __init__(self):
            super().__init__()
            self.inner = mr.LSTMLayer(D, H, rng=0)

        def forward(self, x, state=None):
            return self.inner(x, state)

    text = (
        "batch 3 has 4 rows, and the state that carry_state=True brings from the one before has 6: leave out a last "
        "batch that is smaller, or leave carry_state out"
    )
    for make, first, settings in (
        (mr.LSTMLayer, False, {}),
        (mr.LSTMLayer, True, {}),
        (mr.GRULayer, False, {"tbptt": (2, 5)}),
        (Wrapped, False, {}),
    ):
        shapes = [(6, N, D) for N in (6, 6, 4)]
        batches = [(np.ones(s), np.zeros((*s[:2], H))) for s in shapes]
        if first:
            batches = [(x.swapaxes(0, 1), y.swapaxes(0, 1)) for x, y in batches]
        model = Wrapped() if make is Wrapped else make(D, H, batch_first=first, rng=0)
        sgd = mr.optim.SGD(model.parameters(), 0.1)
        with raises(ValueError, f"fit: {text}"):
            fit(model, batches, loss=mr.losses.mse, optimizer=sgd, max_updates=99, carry_state=True, **settings)
        with raises(ValueError, f"evaluate: {text}"):
            evaluate(model, batches, loss=mr.losses.mse, carry_state=True)


def test_a_state_in_torchs_shape():
    x, N = np.ones((7, 2, D)), 2
    hint = "torch has an axis of layers before them, try initial_state"
    for make, shape, state, name in (
        (mr.GRULayer, (1, N, H), np.ones((1, N, H)), ""),
        (mr.LSTMLayer, (1, N, H), (np.ones((1, N, H)), np.ones((1, N, H))), "[0]"),
        (mr.LSTMLayer, (1, N, H), (np.ones((N, H)), np.ones((1, N, H))), "[1]"),
    ):
        layer = make(D, H, rng=0)
        text = f"{layer.name}: initial_state{name} must have shape (N={N}, H={H}), got {shape}: {hint}{name}[0]"
        with raises(ValueError, text):
            layer(x, state)
    for count in (2, 3):
        stack = mr.Stacked([mr.LSTMLayer(D, H, rng=0), *(mr.LSTMLayer(H, H, rng=0) for _ in range(count - 1))])
        state = (np.ones((count, N, H)), np.ones((count, N, H)))
        text = (
            f"Stacked: initial_state must be None or a tuple with one entry for each of {count} layers, got two of "
            f"shape ({count}, 2, 5): torch's (h, c) has the layers within each array, try "
            "tuple(zip(*initial_state))"
        )
        with raises(ValueError, text):
            stack(x, state)
        stack(x, tuple(zip(*state, strict=True)))
