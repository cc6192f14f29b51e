"""Reverse mode on one page: against central differences, and on the loop of a layer against BPTT by hand."""

import itertools

import numpy as np
import pytest
from numpy.testing import assert_allclose

from minirnn import textbook
from minirnn.textbook.tape import OPS, Tape, summed_to

T, N, D, H = 5, 2, 3, 4


def close(a, b, tolerance=1e-12):
    assert_allclose(a, b, rtol=tolerance, atol=tolerance, strict=True)


def test_a_value_used_twice_gets_both_gradients():
    tape = Tape()
    x, w = tape.given([2.0, 3.0]), tape.given(0.5)
    y = x * x + x * w
    dx, dw = tape.gradients(tape.do("sum", y + x), [x, w])
    close(dx, 2 * x.value + 0.5 + 1)
    close(dw, np.asarray(5.0))


def test_what_the_loss_is_not_made_of_gets_zeros():
    tape = Tape()
    x, other = tape.given([1.0, 2.0]), tape.given(np.ones((2, 3)))
    loss = tape.do("sum", x)
    later = x * x
    found = tape.gradients(loss, [x, other, later, loss])
    for gradient, expected in zip(found, ([1, 1], np.zeros((2, 3)), [0, 0], 1), strict=True):
        close(gradient, np.asarray(expected, float))


CASES = {
    "add": [(2, 3), (2, 3)], "mul": [(2, 3), (2, 3)], "matmul": [(2, 3), (3, 4)], "tanh": [(2, 3)], "sum": [(2, 3)],
    "add, a bias": [(2, 3), (3,)], "mul, a column": [(2, 1), (2, 3)], "add, a number": [(), (2, 3)],
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_every_rule_against_the_central_difference(case):
    assert set(OPS) == {name.split(",")[0] for name in CASES}
    rng = np.random.default_rng(0)
    op, arrays = case.split(",")[0], [rng.normal(size=shape) for shape in CASES[case]]
    weights = rng.normal(size=np.shape(OPS[op][0](*arrays)))

    def loss(arrays):
        tape = Tape()
        values = [tape.given(a) for a in arrays]
        return tape, tape.do("sum", tape.do(op, *values) * tape.given(weights)), values

    tape, L, values = loss(arrays)
    for i, gradient in enumerate(tape.gradients(L, values)):
        assert gradient.shape == arrays[i].shape
        for entry in np.ndindex(gradient.shape):
            sides = []
            for step in (1e-6, -1e-6):
                moved = [a.copy() for a in arrays]
                moved[i][entry] += step
                sides.append(loss(moved)[1].value)
            assert_allclose(gradient[entry], (sides[0] - sides[1]) / 2e-6, rtol=1e-7, atol=1e-8)


def test_summed_to_undoes_every_broadcast():
    for small, big in itertools.product([(), (3,), (1,), (2, 1), (1, 3), (2, 3), (1, 1, 1)], [(2, 3), (4, 2, 3)]):
        if len(small) <= len(big):
            x = np.zeros(small)
            close(summed_to(x, np.ones(big)), np.full(small, np.prod(big) / max(x.size, 1)))


def layer_on_the_tape(x, h_0, W_xh, W_hh, b_h, d_outputs, d_final):
    """The loop of note 003, and L = Σ d_outputs ⊙ outputs + Σ d_final ⊙ h_T."""
    tape = Tape()
    h, *weights = leaves = [tape.given(a) for a in (h_0, W_xh, W_hh, b_h)]
    xs, hs = [tape.given(x_t) for x_t in x], []
    for x_t in xs:
        h = tape.do("tanh", x_t @ weights[0] + h @ weights[1] + weights[2])
        hs.append(h)
    loss = tape.do("sum", hs[-1] * tape.given(d_final))
    for h_t, d in zip(hs, d_outputs, strict=True):
        loss = loss + tape.do("sum", h_t * tape.given(d))
    *d_x, d_h_0, d_W_xh, d_W_hh, d_b = tape.gradients(loss, [*xs, *leaves])
    return np.stack([h_t.value for h_t in hs]), [np.stack(d_x), d_h_0, d_W_xh, d_W_hh, d_b]


@pytest.mark.parametrize("seed", range(3))
def test_the_loop_of_a_layer_has_the_gradients_of_bptt_by_hand(seed):
    rng = np.random.default_rng(seed)
    sizes = [(T, N, D), (N, H), (D, H), (H, H), (H,)]
    arrays = [rng.normal(size=size) for size in sizes]
    d_outputs, d_final = rng.normal(size=(T, N, H)), rng.normal(size=(N, H))
    outputs, found = layer_on_the_tape(*arrays, d_outputs, d_final)
    close(outputs, textbook.unroll(textbook.layer_step_batch, *arrays))
    by_hand = textbook.unroll_backward(*arrays, d_outputs=d_outputs, d_final=d_final)
    for gradient, expected in zip(found, by_hand, strict=True):
        close(gradient, expected)


def test_a_wrong_rule_would_be_seen(monkeypatch):
    forward, (rule,) = OPS["tanh"]
    rng = np.random.default_rng(0)
    arrays = [rng.normal(size=size) for size in [(T, N, D), (N, H), (D, H), (H, H), (H,)]]
    ds = rng.normal(size=(T, N, H)), rng.normal(size=(N, H))
    _, right = layer_on_the_tape(*arrays, *ds)
    monkeypatch.setitem(OPS, "tanh", (forward, [lambda *values: 1.001 * rule(*values)]))
    _, wrong = layer_on_the_tape(*arrays, *ds)
    for a, b in zip(right, wrong, strict=True):
        assert not np.allclose(a, b, rtol=1e-5)
