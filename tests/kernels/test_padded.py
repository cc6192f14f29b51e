"""Rows of unequal lengths, all together in small steps: each is the row alone, and the padding is not read."""

import numpy as np
import pytest

from minirnn.kernels import elman
from minirnn.kernels.cells import ACTIVATIONS
from minirnn.kernels.padded import BOUNDED, Padded

T, N, D, H = 6, 4, 3, 5
LENGTHS = np.array([3, 6, 1, 5])


def problem(seed=0):
    rng = np.random.default_rng(seed)
    sizes = [(T, N, D), (N, H), (D, H), (H, H), (H,), (T, N, H), (N, H)]
    *inputs, g, d_final = [rng.standard_normal(size) for size in sizes]
    past = np.arange(T)[:, None] >= LENGTHS
    inputs[0][past] = np.nan
    g[past] = np.inf
    for a in (*inputs, g, d_final):
        a.flags.writeable = False
    return inputs, g, d_final


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("activation", BOUNDED, ids=lambda a: a.name)
def test_each_row_is_the_row_alone(activation, reverse):
    inputs, g, d_final = problem()
    x, h0, W_xh, W_hh, b_h = inputs
    padded = Padded(T, LENGTHS, reverse)
    outputs, final, states, read = padded.forward(*inputs, activation)
    found = padded.backward(g, d_final, states, read, W_xh, W_hh, activation, (True,) * 5)
    total = [np.zeros_like(a) for a in (W_xh, W_hh, b_h)]
    for n, length in enumerate(LENGTHS):
        own = np.ascontiguousarray(x[:length, n : n + 1])
        alone = elman.forward(own, h0[n : n + 1], W_xh, W_hh, b_h, activation, reverse)
        d_outputs, d_last = g[:length, n : n + 1], d_final[n : n + 1]
        gradients = elman.backward(d_outputs, d_last, alone, own, W_xh, W_hh, activation, reverse)
        close = {"rtol": 0, "atol": 1e-13}
        np.testing.assert_allclose(outputs[:length, n : n + 1], elman.outputs(alone, reverse), **close)
        np.testing.assert_allclose(final[n : n + 1], elman.final(alone, reverse), **close)
        np.testing.assert_allclose(found.x[:length, n : n + 1], gradients.x, **close)
        np.testing.assert_allclose(found.h0[n : n + 1], gradients.h0, **close)
        assert not outputs[length:, n].any()
        assert not found.x[length:, n].any()
        total = [a + b for a, b in zip(total, gradients[2:], strict=True)]
    for a, b in zip(found[2:], total, strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-12)


def test_an_absent_gradient_is_zeros():
    inputs, g, d_final = problem(1)
    tanh, padded = ACTIVATIONS["tanh"], Padded(T, LENGTHS, False)
    _, _, states, read = padded.forward(*inputs, tanh)

    def gradients(*given):
        return padded.backward(*given, states, read, *inputs[2:4], tanh, (True,) * 5)

    for one, two in (
        (gradients(None, d_final), gradients(np.zeros_like(g), d_final)),
        (gradients(g, None), gradients(g, np.zeros_like(d_final))),
    ):
        for a, b in zip(one, two, strict=True):
            np.testing.assert_array_equal(a, b)
            assert a.any()


def test_only_what_is_bounded_goes_on_after_its_end():
    assert [a.name for a in BOUNDED] == ["tanh", "sigmoid"]
    assert all(np.isfinite(a.apply(np.array([-1e300, 1e300]))).all() for a in BOUNDED)
