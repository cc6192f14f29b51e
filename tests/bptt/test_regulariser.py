"""Ω of Pascanu, Mikolov & Bengio 2013: its value by the definition, and its immediate derivative."""

import numpy as np
import pytest
from bptt_cases import Leaky
from error_texts import raises

import minirnn as mr
from minirnn.bptt import omega, trace

T, N, D, H = 5, 3, 2, 4
LENGTHS = [5, 1, 3]
SLOPES = {
    "tanh": lambda h: 1 - h**2,
    "sigmoid": lambda h: h * (1 - h),
    "relu": lambda h: np.where(h > 0, 1.0, 0.0),
    "identity": np.ones_like,
}


def loss(outputs):
    weights = np.random.default_rng(3).normal(size=outputs.shape)
    return (outputs**2 * weights).sum() + (outputs * weights[::-1]).sum()


def inputs(seed=1, T=T, N=N):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(T, N, D)), rng.normal(size=(N, H))


def elman(seed=0, **settings):
    rng = np.random.default_rng(seed)
    layer = mr.RecurrentLayer(D, H, dtype=np.float64, rng=rng, **settings)
    layer.W_hh.data = rng.normal(size=(H, H)) * 0.6
    return layer


def by_the_definition(layer, x, state, lengths=None, W=None, held=None, loss=loss):
    """Ω in loops, row by row, of the trace's states and gradients; W may stand in for W_hh in the numerator's product.

    Takes complex W: then the norms are the roots of sums of squares, which are analytic.
    """
    found = held or trace(layer, x, loss, state, lengths)
    W = layer.W_hh.data if W is None else W
    lengths = np.full(found.N, found.T) if lengths is None else lengths
    terms = np.zeros((found.T - 1, found.N), W.dtype)
    mask = np.ones((found.N, H)) if found.unrolled.mask is None else found.unrolled.mask
    for n in range(found.N):
        for t in range(int(lengths[n]) - 1):
            later = t if layer.reverse else t + 1  # in the order of processing
            d = found.dL_dh[later, n]
            if np.any(d):
                numerator = ((d * SLOPES[layer.activation.name](found.hs[later, n])) @ W.T) * mask[n]
                terms[t, n] = (np.sqrt((numerator**2).sum()) / np.sqrt((d**2).sum()) - 1) ** 2
    return terms.sum(axis=1) / found.N


@pytest.mark.parametrize("lengths", [None, LENGTHS])
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize(
    "settings", [*({"activation": name} for name in SLOPES), {"recurrent_dropout": 0.4}, {"message_clip": 0.05}]
)
def test_value_and_immediate_derivative_are_the_definition(settings, reverse, lengths):
    layer, (x, state) = elman(reverse=reverse, **settings), inputs()
    layer._rng = np.random.default_rng(8)
    found = omega(layer, x, loss, state, lengths)
    layer._rng = np.random.default_rng(8)
    held = trace(layer, x, loss, state, lengths)
    expected = by_the_definition(layer, x, state, lengths, held=held)
    np.testing.assert_allclose(found.by_step, expected, rtol=1e-12)
    assert found.value == pytest.approx(expected.sum(), rel=1e-12)
    assert expected.sum() > 0.01, "nothing to see"

    derivative = np.empty((H, H))
    for at in np.ndindex(H, H):  # the complex step: states and dC/dH stay what they are
        W = layer.W_hh.data.astype(complex)
        W[at] += 1e-30j
        derivative[at] = by_the_definition(layer, x, state, lengths, W, held).sum().imag / 1e-30
    assert list(found.gradients) == ["W_hh"]
    before = np.stack([held.jacobian(k, k + 1) if reverse else held.jacobian(k + 1, k) for k in range(T - 1)])
    d = (held.dL_dh[:-1] if reverse else held.dL_dh[1:])[..., None, :]
    with np.errstate(invalid="ignore"):
        ratios = np.linalg.norm(d @ before, axis=(2, 3)) / np.linalg.norm(d, axis=(2, 3))
    there = ~np.isnan(found.ratios)
    assert there.sum() == sum(lengths or [T] * N) - N
    np.testing.assert_allclose(found.ratios[there], ratios[there], rtol=1e-12)
    error = np.abs(found.gradients["W_hh"] - derivative).max() / np.abs(derivative).max()
    assert error < 1e-12


def test_a_model_with_a_head_is_the_loss_of_its_predictions():
    layer, head = elman(batch_first=True), mr.Linear(H, 6, dtype=np.float64, rng=2)
    x, target = inputs()[0].swapaxes(0, 1), np.array([3, 0, 2])
    cross_entropy = lambda predictions: mr.losses.cross_entropy(predictions, target)  # noqa: E731
    found = omega(mr.SequenceModel(layer, head, readout="last"), x, cross_entropy, lengths=LENGTHS)
    at_last = lambda outputs: cross_entropy(head(outputs[np.arange(N), np.array(LENGTHS) - 1]))  # noqa: E731
    expected = omega(layer, x, at_last, lengths=LENGTHS)
    assert found.value == pytest.approx(expected.value, rel=1e-12)
    np.testing.assert_allclose(found.gradients["W_hh"], expected.gradients["W_hh"], rtol=1e-12)


def test_one_step_has_no_term():
    layer, (x, state) = elman(), inputs(T=1)
    found = omega(layer, x, loss, state)
    assert (found.value, found.by_step.shape, found.ratios.shape) == (0.0, (0,), (0, N))
    assert (found.gradients["W_hh"] == np.zeros((H, H))).all()


@pytest.mark.parametrize("nothing", [lambda outputs: (outputs * 0.0).sum(), lambda outputs: mr.Tensor(3.0)])
def test_no_gradient_no_term(nothing):
    layer, (x, state) = elman(), inputs()
    found = omega(layer, x, nothing, state)
    assert found.value == 0.0
    assert np.isnan(found.ratios).all()
    assert not found.gradients["W_hh"].any()


def test_a_dead_step_counts_one_and_pulls_nowhere():
    """All rectifiers are off at step 1 of 2: nothing arrives at step 0, and there is no direction to go."""
    layer, (x, state) = elman(activation="relu"), inputs(T=2)
    layer.b_h.data = np.full(H, -100.0)
    found = omega(layer, x, loss, state)
    assert found.value == 1.0
    assert (found.ratios == 0).all()
    assert not found.gradients["W_hh"].any()


@pytest.mark.parametrize("scale", [1e-200, 1e200])
def test_the_size_of_the_loss_changes_nothing(scale):
    layer, (x, state) = elman(), inputs()
    found, scaled = omega(layer, x, loss, state), omega(layer, x, lambda outputs: loss(outputs) * scale, state)
    np.testing.assert_allclose(scaled.by_step, found.by_step, rtol=1e-12)
    np.testing.assert_allclose(scaled.gradients["W_hh"], found.gradients["W_hh"], rtol=1e-9, atol=1e-14)


def test_nan_shows():
    layer, (x, state) = elman(), inputs()
    x[3, 1, 0] = np.nan
    found = omega(layer, x, loss, state)
    assert np.isnan(found.value)
    assert np.isnan(found.gradients["W_hh"]).any()


def test_what_stands_in_the_padding_is_never_read():
    layer, (x, state) = elman(), inputs()
    expected = omega(layer, x, loss, state, LENGTHS)
    x[3:, 2] = np.nan
    assert omega(layer, x, loss, state, LENGTHS).value == expected.value


def test_a_loss_of_all_steps_together_sees_zeros_in_the_padding():
    layer, (x, state) = elman(), inputs()
    together = lambda outputs: (outputs.sum(axis=0) ** 2).sum()  # noqa: E731
    together(layer(x, state, LENGTHS).outputs).backward()
    found = trace(layer, x, together, state, LENGTHS)
    np.testing.assert_allclose(found.gradients["W_hh"], layer.W_hh.grad, rtol=1e-12)


def test_float32_stays_float32():
    layer = mr.RecurrentLayer(D, H, rng=0)
    x = inputs()[0].astype(np.float32)
    square = lambda outputs: (outputs**2).sum()  # noqa: E731
    found = omega(layer, x, square)
    assert found.gradients["W_hh"].dtype == np.float32
    found.add_to(layer, 0.5)
    assert layer.W_hh.grad.dtype == np.float32


def test_add_to_adds():
    layer, (x, state) = elman(), inputs()
    found = omega(layer, x, loss, state)
    found.add_to(layer, 2)
    np.testing.assert_array_equal(layer.W_hh.grad, 2 * found.gradients["W_hh"])
    found.add_to(mr.SequenceModel(layer, mr.Linear(H, 1, dtype=np.float64)), -0.5)
    np.testing.assert_allclose(layer.W_hh.grad, 1.5 * found.gradients["W_hh"], rtol=1e-14)
    assert layer.W_xh.grad is None
    assert repr(found).startswith(f"<Omega {found.value:.4g} over 4 steps, mean ratio 0.")


def test_errors():
    x, _ = inputs()
    why = "the immediate derivative is defined for that one alone"
    start = "omega: model must be a RecurrentLayer of the textbook's equation, got "
    with raises(TypeError, f"{start}LSTMLayer: {why}"):
        omega(mr.LSTMLayer(D, H), x, loss)
    with raises(TypeError, f"{start}one of the cell Leaky: {why}"):
        omega(mr.RecurrentLayer(D, H, cell=Leaky()), x, loss)
    found = omega(elman(), x, loss)
    with raises(TypeError, "Omega.add_to: weight must be a finite number, got '1' (str)"):
        found.add_to(elman(), "1")
    with raises(
        ValueError,
        "Omega.add_to: W_hh must have shape (4, 4), got (6, 6): pass the model that this Omega was made of",
    ):
        found.add_to(mr.RecurrentLayer(D, 6), 1.0)
