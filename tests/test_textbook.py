"""textbook.py is the oracle of all other tests, so nothing here leans on the rest of minirnn."""

import numpy as np
import pytest

from minirnn import textbook

T, N, D, H, P = 5, 2, 3, 4, 6  # all different: a transposed axis cannot pass unnoticed
ACTIVATIONS = list(textbook.ACTIVATIONS)
NAMES = textbook.Gradients._fields


def draw(seed, *, row_bias=True):
    """x, y_0, W_x, W_y, b at random, the initial state not zero."""
    rng = np.random.default_rng(seed)
    x, y_0, W_x, W_y = (rng.normal(size=s) for s in [(T, N, D), (N, H), (D, H), (H, H)])
    return x, y_0, W_x, 0.5 * W_y, rng.normal(size=(1, H) if row_bias else H)


def draw_upstream(seed):
    rng = np.random.default_rng(1000 + seed)
    return rng.normal(size=(T, N, H)), rng.normal(size=(N, H))


def close(a, b, tolerance=1e-12):
    np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance, strict=True)


# -- the steps --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("row_bias", [True, False])
def test_all_levels_agree(activation, row_bias):
    x, y_0, W_x, W_y, b = draw(0, row_bias=row_bias)
    batch = textbook.unroll(textbook.layer_step_batch, x, y_0, W_x, W_y, b, activation=activation)
    assert batch.shape == (T, N, H)
    W = np.vstack([W_x, W_y])
    close(textbook.unroll(textbook.layer_step_batch_concat, x, y_0, W, b, activation=activation), batch)
    for i in range(N):  # one instance at a time
        one = textbook.unroll(textbook.layer_step_instance, x[:, i], y_0[i], W_x, W_y, b, activation=activation)
        close(one, batch[:, i])
        y = y_0[i]
        for t in range(T):  # one neuron at a time
            y = np.array(
                [textbook.neuron_step(x[t, i], y, W_x[:, j], W_y[:, j], b.ravel()[j], activation) for j in range(H)]
            )
            close(y, batch[t, i])


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_a_neuron_on_its_own_is_a_layer_of_one(activation):
    rng = np.random.default_rng(1)
    x, w_x, w_y, b, y_0 = rng.normal(size=(T, D)), rng.normal(size=D), 0.7, -0.3, 0.4
    neuron = textbook.unroll(textbook.neuron_step, x, y_0, w_x, w_y, b, activation=activation)
    layer = textbook.unroll(textbook.layer_step_instance, x, [y_0], w_x[:, None], [[w_y]], [b], activation=activation)
    assert neuron.shape == (T,)
    close(neuron, layer[:, 0])


def test_a_step_by_hand():
    # two inputs, one neuron: 1·3 + 2·(-1) + 0.5·2 + 0.25 = 2.25
    assert textbook.neuron_step([1, 2], 0.5, [3, -1], 2, 0.25, "identity") == 2.25
    assert textbook.neuron_step([1, 2], 0.5, [3, -1], 2, -9, "relu") == 0.0
    assert textbook.neuron_step([1, 2], 0.5, [3, -1], 2, 0.25) == np.tanh(2.25)  # tanh unless asked


def test_float64_whatever_comes_and_nothing_is_written():
    x, y_0, W_x, W_y, b = (a.astype(np.float32) for a in draw(2))
    before = [a.copy() for a in (x, y_0, W_x, W_y, b)]
    assert textbook.layer_step_batch(x[0], y_0, W_x, W_y, b).dtype == np.float64
    gradients = textbook.unroll_backward(x, y_0, W_x, W_y, b, np.ones((T, N, H)))
    assert all(g.dtype == np.float64 for g in gradients)
    for a, old in zip((x, y_0, W_x, W_y, b), before, strict=True):
        np.testing.assert_array_equal(a, old)


# -- unroll, head, activations ----------------------------------------------------------------------------------------


def test_unroll():
    x, y_0, W_x, W_y, b = draw(3)
    outputs = textbook.unroll(textbook.layer_step_batch, x, y_0, W_x, W_y, b)
    y = y_0
    for t in range(T):
        y = np.tanh(x[t] @ W_x + y @ W_y + b)
        close(outputs[t], y)
    # cut in two, with the state handed over, it is the same sequence
    first = textbook.unroll(textbook.layer_step_batch, x[:2], y_0, W_x, W_y, b)
    second = textbook.unroll(textbook.layer_step_batch, x[2:], first[-1], W_x, W_y, b)
    close(np.concatenate([first, second]), outputs)


def test_head():
    rng = np.random.default_rng(4)
    H_t, W_hy, b_y = rng.normal(size=(T, N, H)), rng.normal(size=(H, P)), rng.normal(size=P)
    everything = textbook.head(H_t, W_hy, b_y)
    assert everything.shape == (T, N, P)
    close(textbook.head(H_t, W_hy, b_y[None]), everything)
    for t in range(T):
        close(textbook.head(H_t[t], W_hy, b_y), everything[t])
        close(textbook.head(H_t[t, 0], W_hy, b_y), everything[t, 0])
        close(H_t[t, 1] @ W_hy + b_y, everything[t, 1])


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_activations(activation):
    phi, phi_prime = textbook.ACTIVATIONS[activation]
    z = np.linspace(-3.0, 3.0, 62)  # an even number of points: none of them is relu's corner
    assert not (z == 0.0).any()
    close(phi_prime(phi(z)), (phi(z + 1e-6) - phi(z - 1e-6)) / 2e-6, 1e-8)


def test_sigmoid_does_not_overflow():
    sigmoid, _ = textbook.ACTIVATIONS["sigmoid"]
    np.testing.assert_array_equal(sigmoid(np.array([-1000.0, 0.0, 1000.0])), [0.0, 0.5, 1.0])
    z = np.linspace(-5.0, 5.0, 11)
    close(sigmoid(z), 1.0 / (1.0 + np.exp(-z)))


def test_a_pair_of_callables_is_an_activation():
    arguments = draw(5)
    d_outputs, d_final = draw_upstream(5)
    by_name = textbook.unroll_backward(*arguments, d_outputs, d_final, "sigmoid")
    by_pair = textbook.unroll_backward(*arguments, d_outputs, d_final, textbook.ACTIVATIONS["sigmoid"])
    for a, b in zip(by_name, by_pair, strict=True):
        close(a, b)


# -- unroll_backward --------------------------------------------------------------------------------------------------


def loss(arguments, d_outputs, d_final, activation):
    """The L whose upstream gradients are d_outputs and d_final."""
    outputs = textbook.unroll(textbook.layer_step_batch, *arguments, activation=activation)
    return np.sum(d_outputs * outputs) + np.sum(d_final * outputs[-1])


def central_differences(arguments, d_outputs, d_final, activation, eps=1e-6):
    gradients = []
    for k, array in enumerate(arguments):
        gradient = np.empty_like(array)
        for index in np.ndindex(array.shape):
            ends = []
            for sign in (1.0, -1.0):
                moved = [a.copy() for a in arguments]
                moved[k][index] += sign * eps
                ends.append(loss(moved, d_outputs, d_final, activation))
            gradient[index] = (ends[0] - ends[1]) / (2.0 * eps)
        gradients.append(gradient)
    return textbook.Gradients(*gradients)


def compare(gradients, expected, tolerance):
    for name, got, want in zip(NAMES, gradients, expected, strict=True):
        np.testing.assert_allclose(got, want, rtol=tolerance, atol=tolerance, err_msg=name, strict=True)


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("row_bias", [True, False])
def test_unroll_backward(activation, row_bias):
    arguments = draw(6, row_bias=row_bias)
    upstream = draw_upstream(6)
    if activation == "relu":  # a central difference across the corner would be wrong, and not the gradient
        x, y_0, W_x, W_y, b = arguments
        y = np.concatenate([y_0[None], textbook.unroll(textbook.layer_step_batch, *arguments, activation="relu")[:-1]])
        z = x @ W_x + y @ W_y + b
        assert np.abs(z).min() > 1e-4
        assert 0.2 < (z > 0.0).mean() < 0.8  # both sides of the corner are tried
    gradients = textbook.unroll_backward(*arguments, *upstream, activation)
    assert [g.shape for g in gradients] == [a.shape for a in arguments]  # b's gradient comes in the shape b came in
    compare(gradients, central_differences(arguments, *upstream, activation), 1e-7)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("wrong", ["scaled", "one entry", "zero"])
def test_the_comparison_catches_a_wrong_gradient(name, wrong):
    arguments = draw(7)
    upstream = draw_upstream(7)
    gradients = textbook.unroll_backward(*arguments, *upstream)
    expected = central_differences(arguments, *upstream, "tanh")
    compare(gradients, expected, 1e-7)
    bad = getattr(gradients, name).copy()
    if wrong == "scaled":
        bad *= 1.001
    elif wrong == "one entry":
        bad.flat[-1] += 1e-4
    else:
        bad[...] = 0.0
    with pytest.raises(AssertionError, match=name):
        compare(gradients._replace(**{name: bad}), expected, 1e-7)


def test_the_comparison_catches_a_dropped_term():
    arguments = draw(8)
    d_outputs, d_final = draw_upstream(8)
    expected = central_differences(arguments, d_outputs, d_final, "tanh")
    forgotten_final = textbook.unroll_backward(*arguments, d_outputs)
    forgotten_outputs = textbook.unroll_backward(*arguments, np.zeros_like(d_outputs), d_final)
    wrong_slope = textbook.unroll_backward(*arguments, d_outputs, d_final, (np.tanh, lambda y: 1.0 - y))
    for bad in (forgotten_final, forgotten_outputs, wrong_slope):
        with pytest.raises(AssertionError):
            compare(bad, expected, 1e-7)


def test_unroll_backward_against_the_complex_step():
    # Im L(a + ih) / h subtracts nothing, so nothing cancels, and h = 1e-30 gives the derivative to the last digits.
    # textbook.py is real, so the equation is written once more, for complex numbers.
    arguments = draw(9)
    d_outputs, d_final = draw_upstream(9)

    def complex_loss(x, y_0, W_x, W_y, b):
        total, y = 0.0, y_0
        for x_t, d_t in zip(x, d_outputs, strict=True):
            y = np.tanh(x_t @ W_x + y @ W_y + b)
            total = total + np.sum(d_t * y)
        return total + np.sum(d_final * y)

    assert complex_loss(*arguments) == pytest.approx(loss(arguments, d_outputs, d_final, "tanh"), rel=1e-13)
    expected = []
    for k, array in enumerate(arguments):
        gradient = np.empty_like(array)
        for index in np.ndindex(array.shape):
            moved = [a.astype(complex) for a in arguments]
            moved[k][index] += 1e-30j
            gradient[index] = complex_loss(*moved).imag / 1e-30
        expected.append(gradient)
    compare(textbook.unroll_backward(*arguments, d_outputs, d_final), expected, 1e-12)


def test_unroll_backward_is_linear_in_the_upstream_gradients():
    arguments = draw(10)
    d_outputs, d_final = draw_upstream(10)
    both = textbook.unroll_backward(*arguments, d_outputs, d_final)
    outputs_only = textbook.unroll_backward(*arguments, d_outputs)
    final_only = textbook.unroll_backward(*arguments, np.zeros_like(d_outputs), d_final)
    for a, b, c in zip(both, outputs_only, final_only, strict=True):
        close(b + c, a)
    d_outputs[-1] += d_final  # the final state *is* the last output
    compare(textbook.unroll_backward(*arguments, d_outputs), both, 1e-12)


# -- errors -----------------------------------------------------------------------------------------------------------

x_t, y_prev, W_x, W_y, b = np.zeros((N, D)), np.zeros((N, H)), np.zeros((D, H)), np.zeros((H, H)), np.zeros((1, H))
one_size = "a letter is the same size in every argument"


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: textbook.layer_step_batch(x_t, y_prev, W_x.T, W_y, b),
            "layer_step_batch: W_x must have shape (k, l=4), got (4, 3): pass W_x.T?",
        ),
        (
            lambda: textbook.layer_step_batch(x_t, y_prev, W_x, W_y, b.T),
            "layer_step_batch: b must have shape (1, l=4) or (l=4,), got (4, 1): pass b.T?",
        ),
        (
            lambda: textbook.layer_step_batch(x_t[0], y_prev, W_x, W_y, b),
            f"layer_step_batch: X_t must have shape (m, k=3), got (3,): {one_size}",
        ),
        (
            lambda: textbook.layer_step_batch(x_t, y_prev[:1], W_x, W_y, b),
            f"layer_step_batch: Y_prev must have shape (m=2, l=4), got (1, 4): {one_size}",
        ),
        (
            lambda: textbook.layer_step_instance(x_t[0], y_prev[0], W_x, W_y[1:], b),
            f"layer_step_instance: W_y must have shape (l, l), got (3, 4): {one_size}",
        ),
        (
            lambda: textbook.layer_step_batch_concat(x_t, y_prev, np.zeros((4, 7)), b),
            "layer_step_batch_concat: W must have shape (k+l=7, l=4), got (4, 7): pass W.T?",
        ),
        (
            lambda: textbook.neuron_step(x_t[0], y_prev[0], W_x[:, 0], 1.0, 0.0),
            f"neuron_step: y_prev must have shape (), got (4,): {one_size}",
        ),
        (
            lambda: textbook.head(y_prev, W_x, b),
            f"head: H_t must have shape (n=3,) or (N, n=3) or (T, N, n=3), got (2, 4): {one_size}",
        ),
        (
            lambda: textbook.unroll(textbook.layer_step_batch, np.zeros((0, N, D)), y_prev, W_x, W_y, b),
            "unroll: x must have shape (T, k) or (T, m, k) with T ≥ 1, got (0, 2, 3): put time first",
        ),
        (
            lambda: textbook.unroll_backward(np.zeros((T, N, D)), y_prev, W_x, W_y, b, np.zeros((T, H, N))),
            f"unroll_backward: d_outputs must have shape (T=5, m=2, l=4), got (5, 4, 2): {one_size}",
        ),
        (
            lambda: textbook.unroll_backward(np.zeros((T, N, D)), y_prev, W_x, W_y, b, np.zeros((T, N, H)), y_prev.T),
            "unroll_backward: d_final must have shape (m=2, l=4), got (4, 2): pass d_final.T?",
        ),
        (
            lambda: textbook.layer_step_batch(x_t, y_prev, W_x, W_y, b, "swish"),
            "layer_step_batch: activation must be one of 'tanh', 'relu', 'sigmoid', 'identity' or a pair (φ, φ′) of "
            "callables, got 'swish'",
        ),
    ],
)
def test_errors_of_shape(call, message):
    with pytest.raises(ValueError) as caught:  # noqa: PT011 (the whole text is compared below)
        call()
    assert str(caught.value) == message


@pytest.mark.parametrize(
    "bad", [[["a", "b", "c"]] * N, [[1.0], [1.0, 2.0]], np.full((N, D), 1j), np.array([[None] * D])]
)
def test_errors_of_kind(bad):
    kind = type(bad).__name__
    with pytest.raises(TypeError, match=f"^layer_step_batch: X_t must be an array of real numbers, got {kind}: "):
        textbook.layer_step_batch(bad, y_prev, W_x, W_y, b)
