"""The credit matrix: what enters at s and is used at k; rows, columns and the whole add up to the true gradients."""

import itertools

import numpy as np
import pytest
from bptt_cases import KINDS, LENGTHS, T, make, worst
from error_texts import raises

import minirnn as mr

WAYS = [{}, {"reverse": True}, {"learn_initial_state": True, "per_step": True}, {"bias": False}]
WIDE = {"sizes": (7, 6, 3, 2), "learn_initial_state": True, "reverse": True, "lengths": [3, 7, 1, 6, 2, 2]}
CASES = [
    pytest.param(kind, {"lengths": lengths, **way}, id=f"{kind}-{name}-{'-'.join(way)}")
    for kind in KINDS
    for name, lengths in LENGTHS.items()
    for way in WAYS
]
CASES += [
    pytest.param("gru", WIDE, id="N > H"),
    pytest.param("lstm", {"sizes": (7, 1, 3, 5)}, id="N = 1"),
    pytest.param("elman", {"batch_first": True}, id="batch_first"),
]


def added(dicts):
    dicts = list(dicts)
    return {name: sum(d[name] for d in dicts) for name in dicts[0]}


@pytest.mark.parametrize(("kind", "settings"), CASES)
def test_rows_columns_and_the_whole_add_up_to_the_true_gradients(kind, settings):
    case = make(kind, **settings)
    trace, true = case.trace(), case.true_gradients()
    credit = trace.credit()
    pairs = list(itertools.product(range(T), range(T)))
    share = {pair: credit.contribution(*pair) for pair in pairs}
    scale = max(np.abs(g).max() for g in true.values())

    def difference(a, b):
        assert list(a) == list(b)
        return max(np.abs(a[name] - b[name]).max() for name in b) / scale

    assert worst(added(share.values()), true) < 1e-12
    for t in range(T):
        column, row = added(share[s, t] for s in range(T)), added(share[t, k] for k in range(T))
        assert difference(column, {name: steps[t] for name, steps in trace.by_step.items()}) < 1e-12
        assert difference(credit.used_at(t), column) < 1e-12
        assert difference(credit.entered_at(t), row) < 1e-12
    assert worst(added(credit.entered_at(s) for s in range(T)), true) < 1e-12
    norms = np.array([np.linalg.norm(share[pair]["W_hh"]) for pair in pairs]).reshape(T, T)
    assert np.abs(credit.norms - norms).max() < 1e-12 * norms.max()
    assert not np.triu(credit.norms.T if settings.get("reverse") else credit.norms, 1).any()
    assert np.count_nonzero(credit.norms) > T


def test_one_entry_is_the_gradient_with_everything_else_held():
    """Only output s enters, and only the W_hh of step k is a variable: one copy of the weights for each step."""
    case = make("elman")
    outputs, h, copies = [], mr.Tensor(case.state), []
    layer = case.layer
    for x_t in case.x:
        copies.append(mr.Tensor(layer.W_hh.data, requires_grad=True))
        h = mr.tanh(mr.Tensor(x_t) @ layer.W_xh.data + h @ copies[-1] + layer.b_h.data)
        outputs.append(h)
    credit = case.trace().credit()
    for s in range(T):
        loss = case.loss(mr.stack([o if t == s else o.detach() for t, o in enumerate(outputs)]))
        for k, g in enumerate(mr.grad(loss, copies, retain_graph=True)):
            assert np.abs(credit.contribution(s, k)["W_hh"] - g.data).max() < 1e-13


def test_norms_do_not_lose_digits_where_rows_cancel():
    """Two rows that take each other away: the norm is what is left, to the last digit, not √ of a rounding error."""
    layer = mr.RecurrentLayer(1, 3, activation="identity", bias=False, dtype=np.float64, rng=0)
    x = np.full((4, 2, 1), 0.7)
    credit = mr.bptt.trace(layer, x, lambda o: (o[-1, 0] - o[-1, 1]).sum(), np.ones((2, 3))).credit()
    assert np.abs(credit.norms).max() < 1e-14


def test_a_loss_of_the_last_output_has_one_row():
    case = make("lstm")
    trace = mr.bptt.trace(case.layer, case.x, lambda o: (o[-1] ** 2).sum(), case.state)
    assert not trace.credit().norms[:-1].any()
    assert np.abs(trace.credit().norms[-1] - trace.norms_by_step["W_hh"]).max() < 1e-13
    assert trace.credit() is trace.credit()
    assert repr(trace.credit()) == "<Credit: 7 × 7 steps, 1 with a gradient that enters>"


def test_what_would_not_fit_is_refused_with_the_bytes():
    layer = mr.RecurrentLayer(1, 2, rng=0)
    trace = mr.bptt.trace(layer, np.ones((20_000, 1, 1)), lambda outputs: outputs[-1].sum())
    with raises(
        MemoryError,
        "credit: the matrix of T=20000 steps would take 3,200,000,040 bytes, more than 1,073,741,824: take a shorter "
        "sequence, or a loss of fewer outputs",
    ):
        trace.credit()


@pytest.mark.parametrize(
    ("s", "k", "kind", "message"),
    [
        (7, 0, IndexError, "credit: s must be a step 0 … 6, got 7: there are T=7"),
        (3, 9, IndexError, "credit: k must be a step 0 … 6, got 9: there are T=7"),
        (-1, 0, IndexError, "credit: s must be a step 0 … 6, got -1: there are T=7"),
        (3, 1.5, TypeError, "credit: k must be a step 0 … 6, got 1.5 (float): there are T=7"),
    ],
)
def test_steps_that_are_none(s, k, kind, message):
    with raises(kind, message):
        make("elman").trace().credit().contribution(s, k)


def test_clipped_messages_give_no_credit():
    with raises(
        ValueError,
        "trace.credit: the layer has message_clip=0.5, with which gradients do not add up: set it to None on the "
        "layer, or make one without",
    ):
        make("elman", message_clip=0.5).trace().credit()
