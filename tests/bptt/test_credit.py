"""The credit matrix adds up to the true gradients; truncated BPTT is its masked sum; RTRL gives the same forward."""

import numpy as np
import pytest
from bptt_cases import T, covering, identities, make
from error_texts import raises

import minirnn as mr
from minirnn.bptt.credit import angle

WIDE = {"sizes": (7, 6, 3, 2), "learn_initial_state": True, "reverse": True, "lengths": [3, 7, 1, 6, 2, 2]}


def hold(case):
    """Hold a case against all that must be true of it."""
    for identity, pairs in identities(case):
        for difference, scale in pairs:
            assert difference < 1e-12 * scale, identity


@covering(per_step=[False, True])
def test_credit_truncation_and_the_way_forward_add_up_to_the_true_gradients(kind, settings):
    hold(make(kind, **settings))


def test_they_add_up_with_more_rows_than_neurons_and_with_one():
    hold(make("gru", **WIDE))
    hold(make("lstm", sizes=(7, 1, 3, 5)))


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


# --- truncation -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "reverse", "k1"), [("elman", False, 1), ("gru", True, 3), ("own", True, 1)])
def test_the_angles_are_those_of_the_truncated_gradients(kind, reverse, k1):
    case = make(kind, reverse=reverse)
    true = np.concatenate([g.ravel() for g in case.true_gradients().values()])
    angles = case.trace().truncation_angles(k1)
    assert angles.shape == (T,)
    for k2 in range(1, T + 1):
        found = mr.bptt.truncated_gradient(case.layer, case.x, case.loss, k1, k2, case.state)
        vector = np.concatenate([g.ravel() for g in found.values()])
        cosine = vector @ true / np.linalg.norm(vector) / np.linalg.norm(true)
        assert abs(np.cos(np.radians(angles[k2 - 1])) - cosine) < 1e-12
    assert angles[-1] < 1e-10
    assert angles[0] > 1


def test_angles_small_and_large():
    assert angle(np.array([1.0, 0.0]), np.array([3.0, 3e-12])) == pytest.approx(np.degrees(1e-12), rel=1e-3)
    assert angle(np.array([1.0, 0.0]), np.array([0.0, 2.0])) == pytest.approx(90)
    assert angle(np.array([1.0, 0.0]), np.array([-4.0, 0.0])) == 180
    assert np.isnan(angle(np.zeros(2), np.ones(2)))


# --- what is refused --------------------------------------------------------------------------------------------------


def test_steps_and_chunks_that_are_none():
    case = make("elman")
    credit = case.trace().credit()
    for s, k, kind, what in (
        (7, 0, IndexError, "s must be a step 0 … 6, got 7"),
        (3, 9, IndexError, "k must be a step 0 … 6, got 9"),
        (-1, 0, IndexError, "s must be a step 0 … 6, got -1"),
        (3, 1.5, TypeError, "k must be a step 0 … 6, got 1.5 (float)"),
    ):
        with raises(kind, f"credit: {what}: there are T=7"):
            credit.contribution(s, k)
    for k1, k2, what in ((0, 3, "k1 must be an int ≥ 1, got 0"), (2, -1, "k2 must be an int ≥ 1, got -1")):
        with raises(ValueError, f"truncated_gradient: {what}: try 1 or more"):
            mr.bptt.truncated_gradient(case.layer, case.x, case.loss, k1, k2)
    with raises(TypeError, "truncated_gradient: loss must be a callable (outputs) -> Tensor, got 3 (int)"):
        mr.bptt.truncated_gradient(case.layer, case.x, 3, 1, 1)


def test_clipped_messages_do_not_add_up():
    case = make("elman", message_clip=0.5)
    for name, ask in {
        "trace.credit": lambda: case.trace().credit(),
        "trace.truncation_angles": lambda: case.trace().truncation_angles(),
        "truncated_gradient": lambda: mr.bptt.truncated_gradient(case.layer, case.x, case.loss, 1, 1),
        "rtrl": lambda: mr.bptt.rtrl(case.layer, case.x, case.loss),
    }.items():
        with raises(
            ValueError,
            f"{name}: the layer has message_clip=0.5, with which gradients do not add up: set it to None on the layer, "
            "or make one without",
        ):
            ask()


def test_what_would_not_fit_is_refused_with_the_bytes():
    long = mr.bptt.trace(mr.RecurrentLayer(1, 2, rng=0), np.ones((20_000, 1, 1)), lambda outputs: outputs[-1].sum())
    with raises(
        MemoryError,
        "credit: the matrix of T=20000 steps would take 3,200,000,040 bytes, more than 1,073,741,824: take a shorter "
        "sequence, or a loss of fewer outputs",
    ):
        long.credit()
    with raises(
        MemoryError,
        "rtrl: the influences of the parameters on the state would take 8,048,000,000 bytes, more than 1,073,741,824: "
        "take fewer neurons or rows; trace gives the same gradients",
    ):
        mr.bptt.rtrl(mr.RecurrentLayer(2, 1000, rng=0), np.ones((2, 1, 2)), lambda outputs: outputs.sum())
