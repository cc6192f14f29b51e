"""textbook.py is the oracle of all other tests, so nothing here leans on the rest of minirnn."""

import numpy as np
import pytest
from error_texts import raises

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


def spoiled(gradient, by):
    """Yield it wrong in some ways: scaled, in one entry, and zero."""
    last = np.zeros_like(gradient)
    last.flat[-1] = by
    yield from (gradient * (1.0 + by), gradient + last, 0.0 * gradient)


# -- LSTM and GRU: the steps -------------------------------------------------------------------------------------------

SIZES = [(T, N, D, H), (1, N, D, H), (T, 1, D, H), (2, 5, 4, 1), (3, 2, 1, 4)]  # T, N, D, H
FORMS = [True, False]  # reset_after


def draw_lstm(seed, sizes=(T, N, D, H)):
    """x, h_0, c_0, W_xh, W_hh, b_h at random, the states not zero."""
    rng = np.random.default_rng(seed)
    T, N, D, H = sizes
    shapes = [(T, N, D), (N, H), (N, H), (D, 4 * H), (H, 4 * H), (4 * H,)]
    return [rng.normal(size=shape) for shape in shapes]


def draw_gru(seed, reset_after, sizes=(T, N, D, H)):
    """x, h_0, W_xh, W_hh, b_h and, for reset_after, b_hn."""
    rng = np.random.default_rng(seed)
    T, N, D, H = sizes
    shapes = [(T, N, D), (N, H), (D, 3 * H), (H, 3 * H), (3 * H,), (H,)]
    return [rng.normal(size=shape) for shape in shapes[: 6 if reset_after else 5]]


def draw_states(seed, count, sizes=(T, N, D, H)):
    """d_outputs (T, N, H) and `count` times (N, H)."""
    rng = np.random.default_rng(1000 + seed)
    T, N, _, H = sizes
    return [rng.normal(size=(T, N, H)), *(rng.normal(size=(N, H)) for _ in range(count))]


def sigmoid(a):
    return 1.0 / (1.0 + np.exp(-a))


def test_lstm_step():
    # neuron by neuron, each gate with its own columns, as the equations stand in the docstring
    x, h, c, W_xh, W_hh, b = draw_lstm(20)
    h_t, c_t = textbook.lstm_step(x[0], h, c, W_xh, W_hh, b)
    assert h_t.shape == c_t.shape == (N, H)
    for row in range(N):
        for j in range(H):
            a = [x[0, row] @ W_xh[:, k * H + j] + h[row] @ W_hh[:, k * H + j] + b[k * H + j] for k in range(4)]
            i, f, g, o = sigmoid(a[0]), sigmoid(a[1]), np.tanh(a[2]), sigmoid(a[3])
            new = f * c[row, j] + i * g
            assert c_t[row, j] == pytest.approx(new, rel=1e-12)
            assert h_t[row, j] == pytest.approx(o * np.tanh(new), rel=1e-12)


@pytest.mark.parametrize("reset_after", FORMS)
def test_gru_step(reset_after):
    x, h, W_xh, W_hh, b, *b_hn = draw_gru(21, reset_after)
    step = textbook.gru_step if reset_after else textbook.gru_reset_before_step
    h_t = step(x[0], h, W_xh, W_hh, b, *b_hn)
    assert h_t.shape == (N, H)
    for row in range(N):
        from_x = x[0, row] @ W_xh + b
        r = sigmoid(from_x[:H] + h[row] @ W_hh[:, :H])
        for j in range(H):
            z = sigmoid(from_x[H + j] + h[row] @ W_hh[:, H + j])
            w = W_hh[:, 2 * H + j]
            recurrent = r[j] * (h[row] @ w + b_hn[0][j]) if reset_after else (r * h[row]) @ w
            n = np.tanh(from_x[2 * H + j] + recurrent)
            assert h_t[row, j] == pytest.approx((1.0 - z) * n + z * h[row, j], rel=1e-12)


def test_unroll_lstm():
    x, h_0, c_0, *weights = draw_lstm(28)
    hs, cs = textbook.unroll_lstm(x, h_0, c_0, *weights)
    assert hs.shape == cs.shape == (T, N, H)
    h, c = h_0, c_0
    for t in range(T):
        h, c = textbook.lstm_step(x[t], h, c, *weights)
        np.testing.assert_array_equal(hs[t], h)
        np.testing.assert_array_equal(cs[t], c)


@pytest.mark.parametrize("reset_after", FORMS)
def test_unroll_gru(reset_after):
    x, h_0, *weights = draw_gru(29, reset_after)
    hs = textbook.unroll_gru(x, h_0, *weights, reset_after=reset_after)
    assert hs.shape == (T, N, H)
    step = textbook.gru_step if reset_after else textbook.gru_reset_before_step
    h = h_0
    for t in range(T):
        h = step(x[t], h, *weights)
        np.testing.assert_array_equal(hs[t], h)


def test_gates_make_float64_of_what_comes_and_write_nothing():
    calls = {
        lambda *a: [*textbook.unroll_lstm(*a), *textbook.unroll_lstm_backward(*a, np.ones((T, N, H)))]: draw_lstm(30),
        lambda *a: [textbook.unroll_gru(*a), *textbook.unroll_gru_backward(*a, np.ones((T, N, H)))]: draw_gru(30, True),
    }
    for call, drawn in calls.items():
        arguments = [a.astype(np.float32) for a in drawn]
        before = [a.copy() for a in arguments]
        assert {a.dtype for a in call(*arguments)} == {np.dtype(np.float64)}
        complex_x = [arguments[0].astype(np.complex64), *arguments[1:]]  # one complex array makes all of them complex
        assert {a.dtype for a in call(*complex_x)} == {np.dtype(np.complex128)}
        for a, old in zip(arguments, before, strict=True):
            np.testing.assert_array_equal(a, old)


# -- LSTM and GRU: backward --------------------------------------------------------------------------------------------

LAYERS = {  # name -> the gradients it has
    "lstm": textbook.LSTMGradients._fields,
    "gru, reset after": textbook.GRUGradients._fields,
    "gru, reset before": textbook.GRUGradients._fields[:-1],
}


def pose(layer, seed, sizes=(T, N, D, H)):
    """Return arguments, a loss L of them, and the function that gives its gradients by name."""
    if layer == "lstm":
        arguments, (d_outputs, d_h, d_c) = draw_lstm(seed, sizes), draw_states(seed, 2, sizes)

        def loss(arguments):
            hs, cs = textbook.unroll_lstm(*arguments)
            return np.sum(d_outputs * hs) + np.sum(d_h * hs[-1]) + np.sum(d_c * cs[-1])

        return arguments, loss, lambda a: textbook.unroll_lstm_backward(*a, d_outputs, d_h, d_c)._asdict()

    reset_after = layer == "gru, reset after"
    arguments, (d_outputs, d_final) = draw_gru(seed, reset_after, sizes), draw_states(seed, 1, sizes)

    def loss(arguments):
        hs = textbook.unroll_gru(*arguments, reset_after=reset_after)
        return np.sum(d_outputs * hs) + np.sum(d_final * hs[-1])

    return arguments, loss, lambda a: gru_gradients(a, d_outputs, d_final, reset_after)


def gru_gradients(arguments, d_outputs, d_final, reset_after):
    if reset_after:
        return textbook.unroll_gru_backward(*arguments, d_outputs, d_final)._asdict()
    found = textbook.unroll_gru_backward(*arguments, None, d_outputs, d_final, reset_after=False)._asdict()
    assert found.pop("b_hn") is None
    return found


def complex_step(loss, arguments, eps=1e-30):
    """Im L(a + iε)/ε for every entry: nothing is subtracted, so nothing cancels."""
    gradients = []
    for k, array in enumerate(arguments):
        gradient = np.empty_like(array)
        for index in np.ndindex(array.shape):
            moved = array.astype(complex)
            moved[index] += 1j * eps
            gradient[index] = loss([*arguments[:k], moved, *arguments[k + 1 :]]).imag / eps
        gradients.append(gradient)
    return gradients


def compare_named(found, expected, tolerance=1e-12):
    for (name, got), want in zip(found.items(), expected, strict=True):
        np.testing.assert_allclose(got, want, rtol=tolerance, atol=tolerance, err_msg=f"{name}:", strict=True)


@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("layer", LAYERS)
def test_unroll_lstm_backward_and_unroll_gru_backward(layer, sizes):
    arguments, loss, backward = pose(layer, 31, sizes)
    found = backward(arguments)
    assert tuple(found) == LAYERS[layer]
    compare_named(found, complex_step(loss, arguments))
    assert all(np.abs(g).min() > 0.0 for g in found.values())  # no entry is compared with nothing


def test_unroll_gru_backward_gives_b_hn_a_gradient_even_where_it_is_none():
    (*arguments, _), loss, backward = pose("gru, reset after", 33)
    compare_named(backward([*arguments, None]), complex_step(loss, [*arguments, np.zeros(H)]))


@pytest.mark.parametrize("layer", LAYERS)
def test_the_complex_step_catches_a_wrong_gradient(layer):
    arguments, loss, backward = pose(layer, 36, (2, 3, 1, 2))
    found, expected = backward(arguments), complex_step(loss, arguments)
    compare_named(found, expected)
    for name, gradient in found.items():
        for bad in spoiled(gradient, 1e-9):
            with pytest.raises(AssertionError, match=f"{name}:"):
                compare_named({**found, name: bad}, expected)


# -- errors -----------------------------------------------------------------------------------------------------------

x_t, y_prev, W_x, W_y, b = np.zeros((N, D)), np.zeros((N, H)), np.zeros((D, H)), np.zeros((H, H)), np.zeros((1, H))
W_4x, W_4h, b_4h = np.zeros((D, 4 * H)), np.zeros((H, 4 * H)), np.zeros(4 * H)
W_3x, W_3h, b_3h = np.zeros((D, 3 * H)), np.zeros((H, 3 * H)), np.zeros(3 * H)
x_1, y_1 = x_t[None], y_prev[None]  # T = 1
one_size = "a letter is the same size in every argument"


BATCH = textbook.layer_step_batch
MISSHAPEN = [
    ("layer_step_batch", lambda f: f(x_t, y_prev, W_x.T, W_y, b),
     "W_x must have shape (k, l=4), got (4, 3): pass W_x.T?"),
    ("layer_step_batch", lambda f: f(x_t[0], y_prev, W_x, W_y, b),
     f"X_t must have shape (m, k=3), got (3,): {one_size}"),
    ("layer_step_batch", lambda f: f(x_t, y_prev[:1], W_x, W_y, b),
     f"Y_prev must have shape (m=2, l=4), got (1, 4): {one_size}"),
    ("layer_step_batch_concat", lambda f: f(x_t, y_prev, np.zeros((4, 7)), b),
     "W must have shape (k+l=7, l=4), got (4, 7): pass W.T?"),
    ("neuron_step", lambda f: f(x_t[0], y_prev[0], W_x[:, 0], 1.0, 0.0),
     f"y_prev must have shape (), got (4,): {one_size}"),
    ("head", lambda f: f(y_prev, W_x, b),
     f"H_t must have shape (n=3,) or (N, n=3) or (T, N, n=3), got (2, 4): {one_size}"),
    ("unroll", lambda f: f(BATCH, np.zeros((0, N, D)), y_prev, W_x, W_y, b),
     "x must have shape (T, k) or (T, m, k) with T ≥ 1, got (0, 2, 3): put time first"),
    ("unroll_backward", lambda f: f(np.zeros((T, N, D)), y_prev, W_x, W_y, b, np.zeros((T, H, N))),
     f"d_outputs must have shape (T=5, m=2, l=4), got (5, 4, 2): {one_size}"),
    ("lstm_step", lambda f: f(x_t, y_prev, y_prev, W_4x.T, W_4h, b_4h),
     "W_xh must have shape (D, 4H=16), got (16, 3): pass W_xh.T?"),
    ("lstm_step", lambda f: f(x_t, y_prev, y_prev, W_4x, W_3h, b_4h),
     f"W_hh must have shape (H, 4H), got (4, 12): {one_size}"),
    ("unroll_lstm", lambda f: f(np.zeros((0, N, D)), y_prev, y_prev, W_4x, W_4h, b_4h),
     "x must have shape (T, N, D=3), got (0, 2, 3): T ≥ 1 comes first"),
    ("unroll_lstm_backward", lambda f: f(x_1, y_prev, y_prev, W_4x, W_4h, b_4h, y_1, None, y_prev.T),
     "d_final_c must have shape (N=2, H=4), got (4, 2): pass d_final_c.T?"),
    ("gru_step", lambda f: f(x_t, y_prev, W_3x, W_3h, b_3h, b_3h),
     f"b_hn must have shape (H=4,), got (12,): {one_size}"),
    ("gru_reset_before_step", lambda f: f(x_t, y_prev, W_3x, W_3h, b_3h[None]),
     f"b_h must have shape (3H=12,), got (1, 12): {one_size}"),
    ("unroll_gru", lambda f: f(x_1, y_prev, W_3x, W_3h, b_3h, np.zeros(H), reset_after=False),
     "b_hn must be None with reset_after=False: add it to b_h's last H entries"),
    ("unroll_gru", lambda _: textbook.unroll_gru_backward(x_1, y_prev, W_3x, W_3h, b_3h, [0.0] * H, y_1, None, False),
     "b_hn must be None with reset_after=False: add it to b_h's last H entries"),
    ("layer_step_batch", lambda f: f(x_t, y_prev, W_x, W_y, b, "swish"),
     "activation must be one of 'tanh', 'relu', 'sigmoid', 'identity' or a pair (φ, φ′) of callables, got 'swish'"),
]  # fmt: skip


def test_errors_of_shape():
    for name, call, message in MISSHAPEN:
        with raises(ValueError, f"{name}: {message}"):
            call(getattr(textbook, name))


def test_errors_of_kind():
    for bad in ([["a", "b", "c"]] * N, [[1.0], [1.0, 2.0]], np.array([[None] * D]), np.full((N, D), 1j)):
        says = f"must be an array of real numbers, got {type(bad).__name__}: "
        with pytest.raises(TypeError, match=f"^layer_step_batch: X_t {says}"):
            textbook.layer_step_batch(bad, y_prev, W_x, W_y, b)
    for bad in ([["a", "b", "c"]] * N, [[1.0], [1.0, 2.0]], np.array([[None] * D]), None):
        says = f"must be an array of real numbers, got {type(bad).__name__}: "
        with pytest.raises(TypeError, match=f"^lstm_step: x_t {says}"):
            textbook.lstm_step(bad, y_prev, y_prev, W_4x, W_4h, b_4h)
        with pytest.raises(TypeError, match=f"^unroll_gru: h_0 {says}"):
            textbook.unroll_gru(x_1, bad, W_3x, W_3h, b_3h)
