"""`fit(tbptt=(k1, k2))`: with updates switched off, the gradients add up to `bptt.truncated_gradient`."""

import numpy as np
import pytest
from bptt_cases import KINDS, D, H, N, make, worst

import minirnn as mr
from minirnn.training import fit
from minirnn.training.batches import Batch
from minirnn.training.truncated import TruncatedBatches

PAIRS = [(1, 1), (1, 3), (3, 3), (2, 5), (4, 2), (3, 9), (9, 2), (1, 7), (2, 6), (5, 100), (100, 100)]


class Still(mr.optim.Optimizer):
    """Makes no update, and adds up the gradients."""

    def __init__(self, params):
        super().__init__(params, lr=1.0)
        self.total = [0.0] * len(self.params)

    def step(self):
        self.total = [t + (0.0 if p.grad is None else p.grad) for t, p in zip(self.total, self.params, strict=True)]


def summed(model, batches, tbptt, loss, **options):
    """Return the sum of all gradients over the batches, by the parameter's name, and the number of updates."""
    still = Still(model.parameters())
    history = fit(model, batches, loss=loss, optimizer=still, tbptt=tbptt, progress=False, **options)
    names = [name for name, _ in model.named_parameters()]
    return dict(zip(names, still.total, strict=True)), history.updates


def squares(outputs, y):
    return ((outputs - y) ** 2).sum()


def data(T, rng):
    return rng.normal(size=(T, N, D)), rng.normal(size=(T, N, H))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("learned", [False, True])
def test_the_sum_over_a_sequence_is_the_truncated_gradient(kind, learned):
    layer = make(kind, learn_initial_state=learned).layer
    x, y = data(7, np.random.default_rng(2))
    for k1, k2 in PAIRS:
        found, updates = summed(layer, [(x, y)], (k1, k2), squares)
        true = mr.bptt.truncated_gradient(layer, x, lambda outputs: squares(outputs, y), k1, k2)
        assert worst(found, true) < 1e-12, (k1, k2)
        assert updates == -(-7 // k1)


@pytest.mark.parametrize("kind", ["elman", "lstm", "gru"])
@pytest.mark.parametrize("T", [3, 6, 12])
def test_the_window_reaches_back_into_earlier_batches_of_a_stream(kind, T):
    layer = make(kind).layer
    x, y = data(24, np.random.default_rng(3))
    batches = [(x[lo : lo + T], y[lo : lo + T]) for lo in range(0, 24, T)]
    for k1, k2 in [(1, 1), (3, 3), (3, 5), (1, 8), (3, 20), (3, 2), (3, 100)]:
        found, _ = summed(layer, batches, (k1, k2), squares, carry_state=True)
        true = mr.bptt.truncated_gradient(layer, x, lambda outputs: squares(outputs, y), k1, k2)
        assert worst(found, true) < 1e-12, (k1, k2)


def test_a_new_sequence_starts_anew():
    layer = make("gru").layer
    rng = np.random.default_rng(4)
    (x, y), (x2, y2) = data(6, rng), data(6, rng)
    found, _ = summed(layer, [(x, y, True), (x2, y2, True)], (2, 5), squares, carry_state=True)
    true = [
        mr.bptt.truncated_gradient(layer, *pair, 2, 5)
        for pair in ((x, lambda o: squares(o, y)), (x2, lambda o: squares(o, y2)))
    ]
    assert worst(found, {name: true[0][name] + true[1][name] for name in true[0]}) < 1e-12


def test_a_model_with_an_embedding_and_a_head_and_a_stack():
    rng = np.random.default_rng(5)
    options = {"dtype": np.float64, "rng": 1}
    layers = [mr.LSTMLayer(D, H, **options), mr.GRULayer(H, 4, **options)]
    embedding, head = mr.Embedding(6, D, **options), mr.Linear(4, 2, **options)
    model = mr.SequenceModel(mr.Stacked(layers), head, embedding=embedding)
    ids, y = rng.integers(0, 6, size=(9, N)), rng.normal(size=(9, N, 2))
    whole, updates = summed(model, [(ids, y)], (3, 9), squares)
    model.zero_grad()
    squares(model(ids).predictions, y).backward()
    true = {name: p.grad for name, p in model.named_parameters()}
    assert worst(whole, true) < 1e-12
    assert updates == 3
    cut, _ = summed(model, [(ids, y)], (3, 3), squares)
    assert worst({"bias": cut["head.bias"]}, {"bias": true["head.bias"]}) < 1e-12  # the head goes back no step
    assert worst(cut, true) > 1e-3


def test_the_steps_before_are_unrolled_again_with_the_parameters_as_they_are():
    """The window's first state is what it was when its step was read; all after it are made anew."""
    layer = mr.RecurrentLayer(1, 1, activation="identity", bias=False, dtype=np.float64, rng=0)
    layer.W_xh.data[...], layer.W_hh.data[...] = 1.0, 0.5
    x, y = np.ones((4, 1, 1)), np.zeros((4, 1, 1))
    w, u, before = 0.5, 1.0, 0.0
    sgd = mr.optim.SGD(layer.parameters(), lr=0.01)
    fit(layer, [(x, y)], loss=squares, optimizer=sgd, tbptt=(1, 2), progress=False)
    for t in range(4):  # by hand: h_t = u x_t + w h_{t-1}, over the last two steps
        states, d_u, d_w = [before], [0.0], [0.0]
        for _ in range(min(t + 1, 2)):
            d_w.append(states[-1] + w * d_w[-1])
            d_u.append(1.0 + w * d_u[-1])
            states.append(u + w * states[-1])
        before, h = states[-2:]  # before step t it was this, and so it is kept
        u, w = u - 0.01 * 2 * h * d_u[-1], w - 0.01 * 2 * h * d_w[-1]
    assert layer.W_xh.data.item() == pytest.approx(u, rel=1e-12)
    assert layer.W_hh.data.item() == pytest.approx(w, rel=1e-12)


def test_no_more_updates_than_asked_for_and_no_batch_taken_in_vain():
    layer, taken = make("elman").layer, []

    def batches():
        for i in range(9):
            taken.append(i)
            yield data(6, np.random.default_rng(i))

    history = fit(
        layer, batches(), loss=squares, optimizer=mr.optim.SGD(layer.parameters(), 1e-4), max_updates=5, tbptt=(2, 2)
    )
    assert history.updates == 5
    assert taken == [0, 1]


def test_what_no_window_reaches_any_more_is_let_go():
    reader = TruncatedBatches(make("elman").layer, (2, 3), True)
    for i in range(20):
        for piece in reader.pieces(Batch(*data(4, np.random.default_rng(i)))):
            piece.keep(piece.predict()[1])
        assert sum(len(segment.x) for segment in reader.saved) == 2
    assert reader.at == 80
