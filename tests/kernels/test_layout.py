"""The weights side by side, held against loops over gates and entries."""

import itertools

import numpy as np
import pytest

from minirnn.kernels.cells import ACTIVATIONS
from minirnn.kernels.gru import GRU, GRUResetBefore
from minirnn.kernels.layout import Layout, Matrices, Weights, in_order
from minirnn.kernels.lstm import LSTM
from minirnn.kernels.simple import Custom, Elman


class Own:
    blocks, states = 2, 1


LAYOUTS = {
    "elman": Elman(ACTIVATIONS["tanh"]).layout,
    "lstm": LSTM.layout,
    "gru": GRU.layout,
    "gru before": GRUResetBefore.layout,
    "own": Custom(Own()).layout,
    # No cell has these: every gate elsewhere, with and without halves; sides that meet in one block only.
    "turned": Layout((1, 2, 0), (1, 2, 0)),
    "turned and halved": Layout((2, 1, 0), (2, 1, 0), halved=2),
    "apart": Layout((1, 0), (0, 1), start=1, halved=1),
    "staged": Layout((0, 2, 1), (2, 1), start=1, halved=1, stage=0),
}
# Block by block: the gate of its x side, the gate of its h side, by what it is multiplied.
BLOCKS = {
    "elman": [(0, 0, 1)],
    "lstm": [(3, 3, 0.5), (1, 1, 0.5), (0, 0, 0.5), (2, 2, 1)],  # o, f, i halved, for σ; g
    "gru": [(2, None, 1), (0, 0, 0.5), (1, 1, 0.5), (None, 2, 1)],  # n of x; r, z halved; n of h
    "gru before": [(2, None, 1), (0, 0, 0.5), (1, 1, 0.5)],  # n of x, r, z
    "own": [(0, 0, 1), (1, 1, 1)],
    "turned": [(1, 1, 1), (2, 2, 1), (0, 0, 1)],
    "turned and halved": [(2, 2, 0.5), (1, 1, 0.5), (0, 0, 1)],
    "apart": [(1, None, 1), (0, 0, 0.5), (None, 1, 1)],
    "staged": [(0, None, 1), (2, 2, 0.5), (1, 1, 1)],
}
layouts = pytest.mark.parametrize("name", LAYOUTS)
# Of one input and one neuron, a transposed array may be the array itself.
KINDS = list(itertools.product([np.float32, np.float64, complex], ["C", "F"], [(2, 3), (1, 1)]))


def weights_for(name, sizes=(2, 3), b_h=True, b_hn=False, dtype=np.float64, order="C"):
    """Return random weights that are not writeable; only where n's two sides stand apart there is a b_hn."""
    rng, G, (D, H) = np.random.default_rng(0), 1 + max(LAYOUTS[name].x), sizes
    arrays = [rng.standard_normal(size) for size in ((D, G * H), (H, G * H), (G * H,), (H,))]
    arrays = [np.array(a, dtype, order=order) for a in arrays]
    for a in arrays:
        a.flags.writeable = False
    W_xh, W_hh, b, bn = arrays
    return Weights(W_xh, W_hh, b if b_h else None, bn if b_hn else None)


def biases(name):
    """Yield whether there are a b_h and a b_hn; the last block of the b_hn has no x side."""
    yield from itertools.product([True, False], [True, False] if BLOCKS[name][-1][0] is None else [False])


@layouts
def test_the_table_tells_of_the_same_blocks(name):
    plan, blocks, H = LAYOUTS[name], BLOCKS[name], 3
    assert plan.blocks == len(blocks)
    assert plan.slice_x(H) == slice(0, H * sum(x is not None for x, _, _ in blocks))
    with_h = [b for b, (_, h, _) in enumerate(blocks) if h is not None]
    assert plan.slice_h(H) == slice(H * with_h[0], H * (with_h[-1] + 1))
    assert with_h == list(range(with_h[0], with_h[-1] + 1))


def same(found, expected):
    """A matrix made of the weights: its entries, in their dtype, one row after the other."""
    assert found.dtype == expected.dtype
    assert found.flags.c_contiguous
    np.testing.assert_array_equal(found, expected)


@layouts
def test_forward_entry_by_entry(name):
    for (dtype, order, (D, H)), (b_h, b_hn) in itertools.product(KINDS, biases(name)):
        weights = weights_for(name, (D, H), b_h, b_hn, dtype, order)
        expected = np.zeros((len(BLOCKS[name]) * H, D + 1 + H), dtype)
        for b, (x, h, factor) in enumerate(BLOCKS[name]):
            for j in range(H):
                row = expected[b * H + j]
                if x is not None:
                    row[:D] = [factor * weights.W_xh[d, x * H + j] for d in range(D)]
                    row[D] = factor * weights.b_h[x * H + j] if b_h else 0
                elif b_hn:
                    row[D] = factor * weights.b_hn[j]
                if h is not None:
                    row[D + 1 :] = [factor * weights.W_hh[e, h * H + j] for e in range(H)]
        matrices = Matrices(weights, LAYOUTS[name])
        same(matrices.forward, expected)
        assert matrices.forward is matrices.forward, "made once"


@layouts
def test_back_entry_by_entry(name):
    """dH = V dZ; what halves a pre-activation is no part of it: dZ is that of the whole one."""
    of_x, of_h = ([block[side] for block in BLOCKS[name] if block[side] is not None] for side in (0, 1))
    for dtype, order, (D, H) in KINDS:
        weights = weights_for(name, (D, H), dtype=dtype, order=order)
        matrices = Matrices(weights, LAYOUTS[name])
        columns = [[weights.W_hh[e, g * H + j] for g in of_h for j in range(H)] for e in range(H)]
        same(matrices.back, np.array(columns))
        same(matrices.back_to_x, np.array([weights.W_xh[:, g * H + j] for g in of_x for j in range(H)]))
        for which in ("back", "back_to_x"):
            assert getattr(matrices, which) is getattr(matrices, which), "made once"


@pytest.mark.parametrize(("name", "gate"), [("gru before", 2), ("staged", 0)])
def test_the_stage_is_its_gate_of_W_hh(name, gate):
    for dtype, order, (D, H) in KINDS:
        weights = weights_for(name, (D, H), dtype=dtype, order=order)
        matrices = Matrices(weights, LAYOUTS[name])
        expected = np.array([[weights.W_hh[e, gate * H + j] for j in range(H)] for e in range(H)])
        same(matrices.stage, expected)
        same(matrices.stage_forward, np.ascontiguousarray(expected.T))
        for which in ("stage", "stage_forward"):
            assert getattr(matrices, which) is getattr(matrices, which), "made once"


def test_the_weights_are_not_written_into():
    """They are read-only in all tests here; what is made of them is not, and shares nothing that could be changed."""
    for name in LAYOUTS:
        weights = weights_for(name)
        before = [a.tobytes() for a in weights if a is not None]
        matrices = Matrices(weights, LAYOUTS[name])
        matrices.forward[...] = 0
        assert before == [a.tobytes() for a in weights if a is not None]


def test_in_order_puts_each_gate_where_the_parameters_have_it():
    rng, H = np.random.default_rng(0), 3
    for gates, leading in itertools.product(
        [(0,), (0, 1), (1, 0), (3, 1, 0, 2), (2, 0, 1), (0, 1, 2)], [(), (4,), (2, 3)]
    ):
        ordered = rng.standard_normal((*leading, len(gates) * H))
        blocks = np.concatenate([ordered[..., gate * H : (gate + 1) * H] for gate in gates], axis=-1)
        np.testing.assert_array_equal(in_order(blocks, gates), ordered)
