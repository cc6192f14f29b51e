"""The weights side by side: as products want them, made once. What stands where, test_unroll.py sees in the numbers."""

import itertools

import numpy as np
import pytest

from minirnn.kernels.cells import ACTIVATIONS
from minirnn.kernels.gated import GRU, LSTM, GRUResetBefore
from minirnn.kernels.layout import Matrices, Weights, in_order
from minirnn.kernels.simple import Elman

LAYOUTS = {
    "elman": Elman(ACTIVATIONS["tanh"]).layout,
    "lstm": LSTM.layout,
    "gru": GRU.layout,
    "gru before": GRUResetBefore.layout,
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_matrices_are_contiguous_of_one_dtype_and_made_once(name):
    plan, rng = LAYOUTS[name], np.random.default_rng(0)
    G, stage = 1 + max(plan.x), ["stage", "stage_forward"] * (plan.stage is not None)
    # Of one input and one neuron, a transposed array may be the array itself.
    for dtype, order, (D, H) in itertools.product([np.float32, np.float64, complex], ["C", "F"], [(2, 3), (1, 1)]):
        arrays = [rng.standard_normal(size) for size in ((D, G * H), (H, G * H), (G * H,), (H,))]
        weights = Weights(*(np.array(a, dtype, order=order) for a in arrays))
        before = [a.tobytes() for a in weights]
        matrices = Matrices(weights, plan)
        for which in ("forward", "back", "back_to_x", *stage):
            matrix = getattr(matrices, which)
            assert matrix.dtype == dtype
            assert matrix.flags.c_contiguous
            assert matrix is getattr(matrices, which)
        matrices.forward[...] = 0
        assert before == [a.tobytes() for a in weights], "what is made of them shares nothing that could be changed"


def test_forward_has_the_bias_between_the_two_sides_and_halves_what_a_sigmoid_takes():
    D, H = 2, 3
    sizes = (D, 4 * H), (H, 4 * H), (4 * H,)
    weights = Weights(*(np.random.default_rng(0).standard_normal(size) for size in sizes))
    W = Matrices(weights, LSTM.layout).forward
    for block, (gate, factor) in zip(W.reshape(4, H, D + 1 + H), [(3, 0.5), (1, 0.5), (0, 0.5), (2, 1)], strict=True):
        own = slice(gate * H, (gate + 1) * H)  # o, f, i for σ; g
        sides = weights.W_xh[:, own].T, weights.b_h[own, None], weights.W_hh[:, own].T
        np.testing.assert_array_equal(block, factor * np.concatenate(sides, axis=1))


def test_in_order_puts_each_gate_where_the_parameters_have_it():
    rng, H = np.random.default_rng(0), 3
    orders = [(0,), (0, 1), (1, 0), (3, 1, 0, 2), (2, 0, 1), (0, 1, 2)]
    for gates, leading in itertools.product(orders, [(), (4,), (2, 3)]):
        ordered = rng.standard_normal((*leading, len(gates) * H))
        blocks = np.concatenate([ordered[..., gate * H : (gate + 1) * H] for gate in gates], axis=-1)
        np.testing.assert_array_equal(in_order(blocks, gates), ordered)
