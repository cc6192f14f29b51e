"""Losses: values by hand and against torch, derivatives, extreme logits, masks, and what they refuse."""

import functools
import itertools
import math

import numpy as np
import pytest
from error_texts import raises

import minirnn as mr
from minirnn import losses

LOSSES = {
    "mse": (losses.mse, "predictions"),
    "cross_entropy": (losses.cross_entropy, "logits"),
    "binary_cross_entropy": (losses.binary_cross_entropy, "logits"),
}


def problem(name, shape, dtype=np.float64, seed=0):
    """Return random predictions and fitting targets; for cross_entropy there are 5 classes more as the last axis."""
    rng = np.random.default_rng(seed)
    if name == "cross_entropy":
        return rng.standard_normal((*shape, 5)).astype(dtype), rng.integers(0, 5, shape)
    predictions, draw = (
        rng.standard_normal(shape),
        rng.random if name == "binary_cross_entropy" else rng.standard_normal,
    )
    return np.asarray(predictions, dtype), np.asarray(draw(shape), dtype)


def value_and_gradient(loss, predictions, targets, **options):
    leaf = mr.Tensor(predictions, requires_grad=True)
    value = loss(leaf, targets, **options)
    value.backward()
    return value.item(), leaf.grad


# --- values -----------------------------------------------------------------------------------------------------------


def test_mse_by_hand():
    value, gradient = value_and_gradient(losses.mse, [1.0, 2.0, 5.0], [1.0, 4.0, 1.0])
    assert value == pytest.approx((0 + 4 + 16) / 3)
    np.testing.assert_allclose(gradient, np.array([0, -4, 8]) / 3, rtol=1e-6)


def test_cross_entropy_by_hand():
    """Logits ln p give −ln p[id]: nats. Equal logits give ln C."""
    p = np.array([[0.2, 0.5, 0.3], [0.1, 0.1, 0.8]])
    value, gradient = value_and_gradient(losses.cross_entropy, np.log(p) + 7, [1, 2])
    assert value == pytest.approx(-(math.log(0.5) + math.log(0.8)) / 2, rel=1e-14)
    np.testing.assert_allclose(gradient, (p - np.eye(3)[[1, 2]]) / 2, rtol=0, atol=1e-15)
    assert losses.cross_entropy(np.zeros((4, 10)), [0, 3, 9, 9]).item() == pytest.approx(math.log(10), rel=1e-15)
    assert losses.cross_entropy(np.zeros(10), 3).item() == pytest.approx(math.log(10), rel=1e-15)


def test_binary_cross_entropy_by_hand():
    p, t = np.array([0.25, 0.5, 0.9]), np.array([0.0, 1.0, 0.3])
    value, gradient = value_and_gradient(losses.binary_cross_entropy, np.log(p / (1 - p)), t)
    assert value == pytest.approx(-np.mean(t * np.log(p) + (1 - t) * np.log(1 - p)), rel=1e-14)
    np.testing.assert_allclose(gradient, (p - t) / 3, rtol=0, atol=1e-15)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_extreme_logits_overflow_nowhere(dtype):
    """Right and sure costs nothing, wrong and sure costs 1000 nats; float32 numbers would overflow in exp(1000)."""
    with np.errstate(over="raise", invalid="raise", divide="raise"):
        for logit, target in itertools.product((1000.0, -1000.0), (0.0, 1.0, 0.5)):
            value, gradient = value_and_gradient(losses.binary_cross_entropy, np.array([logit], dtype), [target])
            probability = 1.0 if logit > 0 else 0.0
            assert value == 1000 * abs(target - probability)
            assert gradient == probability - target
        for logit, (right, cost) in itertools.product((1000.0, -1000.0), ((0, 0.0), (1, 1000.0))):
            logits = np.array([[0.0, -1000.0, -1000.0]], dtype) + logit
            value, gradient = value_and_gradient(losses.cross_entropy, logits, [right])
            assert value == cost
            np.testing.assert_array_equal(gradient, np.eye(3)[[0]] - np.eye(3)[[right]])


def test_a_class_may_be_ruled_out_with_minus_infinity():
    value, gradient = value_and_gradient(losses.cross_entropy, np.array([[0.0, -np.inf, 0.0]]), [2])
    assert value == pytest.approx(math.log(2))
    np.testing.assert_allclose(gradient, [[0.5, 0, -0.5]], rtol=1e-15)


# --- derivatives ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", LOSSES)
def test_the_gradient_and_its_gradient_by_central_differences(name):
    for shape, lengths in (((), None), ((3,), None), ((4, 3), None), ((4, 3, 2), None), ((4, 3), [4, 1, 2])):
        predictions, targets = problem(name, shape)

        def loss(p, targets=targets, lengths=lengths):
            return LOSSES[name][0](p, targets, lengths=lengths)

        def gradient(p, loss=loss):
            return mr.grad(loss(p), p, create_graph=True)

        for f in (loss, gradient):
            assert mr.gradcheck(f, [mr.Tensor(predictions, requires_grad=True)])


def test_mse_sends_a_gradient_to_targets_that_ask_for_one():
    a, b = (mr.Tensor(np.random.default_rng(k).standard_normal((4, 3)), requires_grad=True) for k in (0, 1))
    assert mr.gradcheck(losses.mse, [a, b])
    losses.mse(a, b, lengths=[4, 1, 2]).backward()
    np.testing.assert_array_equal(a.grad, -b.grad)
    assert not b.grad[1:, 1].any()


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_predictions_decide_the_dtype(name, dtype):
    loss, _ = LOSSES[name]
    predictions, targets = problem(name, (4, 3), dtype)
    expected = loss(predictions, targets).item()
    for other in (targets, targets.astype(np.float64) if name != "cross_entropy" else targets.astype(np.uint8)):
        leaf = mr.Tensor(predictions, requires_grad=True)
        value = loss(leaf, other, lengths=[4, 3, 4])
        assert value.dtype == dtype
        value.backward()
        assert leaf.grad.dtype == dtype
    assert loss(predictions.tolist(), targets.tolist()).dtype == np.float32
    assert loss(mr.Tensor(predictions), targets.tolist()).item() == pytest.approx(expected, rel=1e-14)  # every digit


def test_integers_are_predictions_too():
    assert losses.mse(np.array([1, 2]), np.array([1, 4])).item() == 2.0
    assert losses.mse(mr.Tensor(np.array([1, 2])), [1, 4]).dtype == np.float32


@pytest.mark.peer
@pytest.mark.parametrize(("name", "shape"), [*zip(LOSSES, [(3,), (4, 3), (4, 3, 2)], strict=True)])
def test_it_is_torchs(name, shape, torch):
    loss, _ = LOSSES[name]
    predictions, targets = problem(name, shape)
    predictions *= 10
    predictions.flat[0], predictions.flat[1] = 1000, -1000
    value, gradient = value_and_gradient(loss, predictions, targets)
    leaf = torch.from_numpy(predictions.copy()).requires_grad_()
    target = torch.from_numpy(targets)
    F = torch.nn.functional
    exact = {
        "mse": lambda: F.mse_loss(leaf, target),
        "cross_entropy": lambda: F.cross_entropy(leaf.reshape(-1, 5), target.reshape(-1)),
        "binary_cross_entropy": lambda: F.binary_cross_entropy_with_logits(leaf, target),
    }[name]()
    exact.backward()
    assert value == pytest.approx(exact.item(), rel=1e-13)
    np.testing.assert_allclose(gradient, leaf.grad.numpy(), rtol=1e-12, atol=1e-15)


# --- lengths ----------------------------------------------------------------------------------------------------------

LENGTHS = [4, 1, 3]


@pytest.mark.parametrize("name", LOSSES)
def test_lengths_count_the_steps_before_them_and_no_others(name):
    loss, _ = LOSSES[name]
    for trailing in [(), (2,), (3,)]:  # (3,): the targets are (4, 3, 3), where a mask could go astray
        predictions, targets = problem(name, (4, 3, *trailing))
        value, gradient = value_and_gradient(loss, predictions, targets, lengths=LENGTHS)
        steps = [(t, n) for n, length in enumerate(LENGTHS) for t in range(length)]
        kept = tuple(np.array(steps).T)
        alone, part = value_and_gradient(loss, predictions[kept], targets[kept])
        assert value == pytest.approx(alone, rel=1e-14)
        expected = np.zeros_like(predictions)
        expected[kept] = part
        np.testing.assert_allclose(gradient, expected, rtol=0, atol=1e-16)


@pytest.mark.parametrize("name", LOSSES)
def test_what_stands_in_the_padding_changes_nothing(name):
    loss, _ = LOSSES[name]
    predictions, targets = problem(name, (4, 3))
    clean = value_and_gradient(loss, predictions, targets, lengths=LENGTHS)
    padding = np.arange(4)[:, None] >= np.array(LENGTHS)
    for junk in (np.nan, np.inf, 1e300):
        predictions[padding] = junk
        targets[padding] = -1 if name == "cross_entropy" else junk
        with np.errstate(all="raise"):
            dirty = value_and_gradient(loss, predictions, targets, lengths=LENGTHS)
        assert dirty[0] == clean[0]
        np.testing.assert_array_equal(dirty[1], clean[1])


def test_targets_that_the_dtype_of_the_predictions_cannot_hold_are_named():
    predictions, targets = np.zeros((4, 3), np.float32), np.full((4, 3), 1e300)
    message = "mse: targets holds 1e+300 at [0, 0], too large for float32: try float64"
    for given in (targets, targets.tolist(), mr.Tensor(targets)):
        with raises(ValueError, message):
            losses.mse(predictions, given, lengths=LENGTHS)
    padding = np.arange(4)[:, None] >= np.array(LENGTHS)
    for given in (targets * padding, (targets * padding).tolist()):
        assert losses.mse(predictions, given, lengths=LENGTHS).item() == 0


@pytest.mark.parametrize("name", LOSSES)
def test_lengths_need_time_and_rows(name):
    """Logits (T, C) have two axes, and yet they are not (T, N, C)."""
    loss, _ = LOSSES[name]
    with raises(ValueError, f"{name}: lengths can mask targets of shape (T, N, …) only, got (5,): leave it out"):
        loss(*problem(name, (5,)), lengths=[1, 2, 3, 4, 5])


# --- settings ---------------------------------------------------------------------------------------------------------

SETTINGS = [  # the loss; ours; torch's function, and its settings
    ("mse", {}, "mse_loss", {}),
    ("l1", {}, "l1_loss", {}),
    ("huber", {}, "huber_loss", {}),
    ("huber", {"delta": 0.3}, "huber_loss", {"delta": 0.3}),
    *(
        ("cross_entropy", settings, "cross_entropy", settings)
        for settings in (
            {}, {"weight": [1.0, 0.0, 2.0, 0.5, 3.0]}, {"ignore_index": 2}, {"label_smoothing": 0.1},
            {"weight": [1.0, 0.2, 2.0, 0.5, 3.0], "ignore_index": 0, "label_smoothing": 0.3},
        )
    ),
    ("binary_cross_entropy", {"pos_weight": [0.5, 3.0, 1.0]}, "binary_cross_entropy_with_logits",
     {"pos_weight": [0.5, 3.0, 1.0]}),
]  # fmt: skip


def settled(name, shape=(4, 3)):
    """Predictions and targets of each loss; of those that measure a distance, those of mse."""
    return problem(name if name in LOSSES else "mse", shape)


@pytest.mark.peer
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize(("name", "ours", "theirs", "settings"), SETTINGS)
def test_every_setting_is_torchs(name, ours, theirs, settings, reduction, torch):
    loss, (predictions, targets) = getattr(losses, name), settled(name)
    leaf = torch.from_numpy(predictions.copy()).requires_grad_()
    settings = {k: torch.tensor(v, dtype=torch.float64) if isinstance(v, list) else v for k, v in settings.items()}
    flat = (
        (leaf.reshape(-1, 5), torch.from_numpy(targets).reshape(-1))
        if name == "cross_entropy"
        else (leaf, torch.from_numpy(targets))
    )
    exact = getattr(torch.nn.functional, theirs)(*flat, reduction=reduction, **settings)
    given = mr.Tensor(predictions, requires_grad=True)
    value = loss(given, targets, reduction=reduction, **ours)
    np.testing.assert_allclose(value.numpy(), exact.detach().numpy().reshape(value.shape), rtol=1e-13, atol=1e-15)
    g = np.random.default_rng(0).standard_normal(value.shape)
    value.backward(g)
    exact.backward(torch.from_numpy(g).reshape(exact.shape))
    np.testing.assert_allclose(given.grad, leaf.grad.numpy(), rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize(("name", "ours"), [(name, ours) for name, ours, _, _ in SETTINGS])
def test_every_setting_with_lengths_in_both_layouts_and_orders(name, ours):
    """The steps that count, alone, give the same; and so do the gradient and its own."""
    loss, (predictions, targets) = getattr(losses, name), settled(name)
    kept = tuple(np.array([(t, n) for n, length in enumerate(LENGTHS) for t in range(length)]).T)
    if name == "binary_cross_entropy":  # its weights belong to rows
        ours = {"pos_weight": 2.5}
    for reduction in ("mean", "sum", "none"):
        options = {**ours, "reduction": reduction}
        value, alone = loss(predictions, targets, LENGTHS, **options), loss(predictions[kept], targets[kept], **options)
        np.testing.assert_allclose(
            value.numpy()[kept] if reduction == "none" else value.numpy(), alone.numpy(), rtol=1e-14
        )
        turned = loss(predictions.swapaxes(0, 1), targets.swapaxes(0, 1), LENGTHS, batch_first=True, **options)
        np.testing.assert_allclose(turned.numpy().T, value.numpy(), rtol=1e-14)
    if reduction == "none":
        assert not value.numpy()[1:, 1].any()
    given = mr.Tensor(predictions, requires_grad=True)
    for f in (
        lambda p: loss(p, targets, LENGTHS, **ours),
        lambda p: mr.grad(loss(p, targets, LENGTHS, **ours), p, create_graph=True),
    ):
        mr.gradcheck(f, [given])


def test_what_a_mean_was_divided_by():
    _, ids = settled("cross_entropy")
    some = functools.partial(losses.cross_entropy, ignore_index=int(ids[0, 0]), weight=[1.0, 2.0, 3.0, 4.0, 5.0])
    counts = ids[ids != ids[0, 0]]
    assert losses.divisor(some, ids) == (counts + 1).sum()
    assert losses.divisor(losses.mse, ids, LENGTHS) == losses.divisor(losses.mse, ids.T, LENGTHS, True) == sum(LENGTHS)


def test_a_gradient_that_would_end_in_a_loss_is_refused():
    """What stands in a loss as a constant is read as numbers, without a word of the gradient that it asked for."""
    w = mr.Parameter(np.array([1.0, 2.0, 3.0]))
    logits, ones = np.zeros((4, 3)), np.ones((4, 3))
    for name, call in (
        ("cross_entropy: weight", lambda t: losses.cross_entropy(logits, [0, 1, 2, 1], weight=t)),
        ("binary_cross_entropy: pos_weight", lambda t: losses.binary_cross_entropy(logits, ones, pos_weight=t)),
        ("binary_cross_entropy: targets", lambda t: losses.binary_cross_entropy(logits[0], t)),
    ):
        with raises(
            TypeError,
            f"{name} must be constants, got a Tensor of shape (3,) that requires a gradient, which would end here: "
            "give its .detach(), or .numpy(), if none should flow",
        ):
            call(w / 3)
        assert call((w / 3).detach()).item() == call(w.numpy() / 3).item()


def test_settings_that_are_refused():
    logits, ids = settled("cross_entropy")
    for settings, message in (
        ({"reduction": "avg"}, "cross_entropy: reduction must be one of 'mean', 'sum', 'none', got 'avg'"),
        ({"label_smoothing": 1}, "cross_entropy: label_smoothing must be a number in [0, 1), got 1"),
        ({"weight": [1.0, 2.0]},
         "cross_entropy: weight must be 5 numbers ≥ 0, one for each class, got an array of shape (2,) "
         "and dtype float64"),
        ({"weight": [0.0] * 5},
         "cross_entropy: the mean is over no target: all are ignored, or their classes have weight 0"),
    ):  # fmt: skip
        with raises(ValueError, message):
            losses.cross_entropy(logits, ids, **settings)
    with raises(TypeError, "cross_entropy: ids must be one array, got a ragged list: pad them to one length"):
        losses.cross_entropy(logits, [[1, 2], [3]])
    with raises(ValueError, "huber: delta must be a positive number, got 0: try 1.0"):
        losses.huber([1.0], [2.0], delta=0)


# --- what they refuse -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["mse", "binary_cross_entropy"])
def test_losses_refuse_to_broadcast(name):
    """(3, 1) against (3,) would quietly become (3, 3)."""
    hint = "they are not broadcast, so reshape one of them"
    for one, two in [((3, 1), (3,)), ((3,), (3, 1)), ((3,), ()), ((4, 3), (3,)), ((4, 3), (3, 4))]:
        leaf = mr.Tensor(np.zeros(one), requires_grad=True)
        with raises(ValueError, f"{name}: targets must have the shape of the predictions, {one}, got {two}: {hint}"):
            LOSSES[name][0](leaf, np.zeros(two))
        assert leaf.grad is None


def test_cross_entropy_refuses_ids_of_another_shape_and_what_are_no_class_ids():
    shapes, hint = "cross_entropy: logits must have shape (…, C) and ids (…)", "ids are class ids, not one-hot vectors"
    for logits, shape in [*(((4, 3, 5), s) for s in [(4,), (3, 4), (4, 3, 5), (4, 1), ()]), ((), ())]:
        with raises(ValueError, f"{shapes}, got {logits} and {shape}: {hint}"):
            losses.cross_entropy(np.zeros(logits), np.zeros(shape, int))
    for ids, kind, got in (
        ([0, 5], IndexError, "5 at [1]"),
        ([-1, 0], IndexError, "-1 at [0]"),
        ([0.0, 1.0], TypeError, "an array of shape (2,) and dtype float64: try ids.astype(int)"),
        (["a", "b"], TypeError, "an array of shape (2,) and dtype <U1: try ids.astype(int)"),
    ):
        with raises(kind, f"cross_entropy: ids must be integers 0 … 4, got {got}"):
            losses.cross_entropy(np.zeros((2, 5)), ids)


def test_cross_entropy_checks_only_the_ids_that_count():
    logits = np.zeros((2, 2, 5))
    assert losses.cross_entropy(logits, [[0, 4], [1, 99]], lengths=[2, 1]).item() == pytest.approx(math.log(5))
    with raises(IndexError, "cross_entropy: ids must be integers 0 … 4, got 99 at [0, 1]"):
        losses.cross_entropy(logits, [[0, 99], [1, 4]], lengths=[2, 1])


def test_binary_cross_entropy_refuses_targets_that_are_no_probabilities():
    hint = "they are probabilities; it is the logits that may be any number"
    for target, shown in ((1.5, "1.5"), (-0.1, "-0.1"), (np.nan, "nan"), (2, "2.0")):
        expected = f"binary_cross_entropy: targets must lie between 0 and 1, got {shown} at [1, 0]: {hint}"
        with raises(ValueError, expected):
            losses.binary_cross_entropy(np.zeros((2, 1)), np.array([[1.0], [target]]))


@pytest.mark.parametrize("name", LOSSES)
def test_nothing_to_average_is_refused(name):
    loss, label = LOSSES[name]
    shape = (0, 3, 5) if name == "cross_entropy" else (0, 3)
    with raises(ValueError, f"{name}: {label} must hold at least one target, got shape {shape}"):
        loss(np.zeros(shape), np.zeros((0, 3), int))
