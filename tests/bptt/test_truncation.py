"""Truncated BPTT: the masked sum of the credit, and the angle to the true gradient."""

import itertools

import numpy as np
import pytest
from bptt_cases import KINDS, LENGTHS, T, make, worst
from error_texts import raises

import minirnn as mr
from minirnn.bptt.credit import angle

PAIRS = [(1, 1), (1, 3), (3, 3), (2, 5), (4, 2), (3, 9), (9, 2), (1, 7), (2, 6), (5, 100), (100, 100)]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("lengths", LENGTHS.values(), ids=LENGTHS)
@pytest.mark.parametrize("way", [{}, {"reverse": True}, {"learn_initial_state": True}, {"per_step": True}])
def test_it_is_the_masked_sum_of_the_credit(kind, lengths, way):
    case = make(kind, lengths=lengths, **way)
    true, credit = case.true_gradients(), case.trace().credit()
    share = {pair: credit.contribution(*pair) for pair in itertools.product(range(T), range(T))}
    for k1, k2 in PAIRS:
        found = mr.bptt.truncated_gradient(case.layer, case.x, case.loss, k1, k2, case.state, lengths)
        masked = {name: np.zeros_like(g) for name, g in true.items()}
        for (s, k), part in share.items():
            s, k = (T - 1 - s, T - 1 - k) if way.get("reverse") else (s, k)
            end = min((s // k1 + 1) * k1, T) - 1
            if k <= s and end - k < k2:
                for name, g in part.items():
                    masked[name] += g
        for name, g in masked.items():
            assert np.abs(found[name] - g).max() < 1e-10 * np.abs(true[name]).max(), (k1, k2, name)
        if k2 >= T:
            assert worst(found, true) < 1e-12


@pytest.mark.parametrize("k1", [1, 2, 3, 6])
def test_it_is_what_the_loop_does_that_everybody_writes(k1):
    """k1 = k2 and whole chunks: cut the sequence, carry the detached state, add the gradients up."""
    case = make("lstm", sizes=(6, 4, 3, 5))
    targets = np.random.default_rng(5).normal(size=case.x.shape[:2])
    state = case.state
    for lo in range(0, 6, k1):
        outputs, state = case.layer(case.x[lo : lo + k1], state)
        ((outputs.sum(axis=2) - targets[lo : lo + k1]) ** 2).sum().backward()
        state = mr.training.detached(state)

    def loss(outputs):
        return ((outputs.sum(axis=2) - targets) ** 2).sum()

    found = mr.bptt.truncated_gradient(case.layer, case.x, loss, k1, k1, case.state)
    assert worst(found, {name: p.grad for name, p in case.layer.named_parameters()}) < 1e-12


@pytest.mark.parametrize("kind", ["elman", "gru", "own"])
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("k1", [1, 3])
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


@pytest.mark.parametrize(
    ("k1", "k2", "kind", "message"),
    [
        (0, 3, ValueError, "truncated_gradient: k1 must be an int ≥ 1, got 0: try 1 or more"),
        (2, -1, ValueError, "truncated_gradient: k2 must be an int ≥ 1, got -1: try 1 or more"),
        (2.0, 1, TypeError, "truncated_gradient: k1 must be an int ≥ 1, got 2.0 (float): try 2"),
    ],
)
def test_steps_that_are_none(k1, k2, kind, message):
    case = make("elman")
    with raises(kind, message):
        mr.bptt.truncated_gradient(case.layer, case.x, case.loss, k1, k2)


def test_errors_name_the_function_that_was_called():
    case = make("elman", message_clip=0.5)
    tail = "the layer has message_clip=0.5, with which gradients do not add up: set it to None on the layer, or make"
    with raises(ValueError, f"truncated_gradient: {tail} one without"):
        mr.bptt.truncated_gradient(case.layer, case.x, case.loss, 1, 1)
    with raises(ValueError, f"trace.truncation_angles: {tail} one without"):
        case.trace().truncation_angles()
    with raises(TypeError, "truncated_gradient: loss must be a callable (outputs) -> Tensor, got 3 (int)"):
        mr.bptt.truncated_gradient(case.layer, case.x, 3, 1, 1)
