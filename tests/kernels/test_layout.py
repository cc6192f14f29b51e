"""The weights side by side, held against loops over gates and entries."""

import numpy as np
import pytest

from minirnn.kernels.cells import ACTIVATIONS
from minirnn.kernels.gru import GRU, GRUResetBefore
from minirnn.kernels.layout import Layout, Matrices, Weights, in_order
from minirnn.kernels.lstm import LSTM
from minirnn.kernels.simple import Custom, Elman

D, H = 2, 3


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
dtypes = pytest.mark.parametrize("dtype", [np.float32, np.float64, complex])


def weights_for(name, b_h=True, b_hn=False, dtype=np.float64, order="C"):
    """Return random weights that are not writeable; only where n's two sides stand apart there is a b_hn."""
    plan, rng = LAYOUTS[name], np.random.default_rng(0)
    G = 1 + max(plan.x)
    arrays = [rng.standard_normal(size) for size in ((D, G * H), (H, G * H), (G * H,), (H,))]
    arrays = [np.array(a, dtype, order=order) for a in arrays]
    for a in arrays:
        a.flags.writeable = False
    W_xh, W_hh, b, bn = arrays
    return Weights(W_xh, W_hh, b if b_h else None, bn if b_hn else None)


def apart(name):
    """Whether the last block has no x side, so that b_hn has a place."""
    return BLOCKS[name][-1][0] is None


CASES = [
    (name, b_h, b_hn) for name in LAYOUTS for b_h in (True, False) for b_hn in (True, False) if apart(name) or not b_hn
]


@layouts
def test_the_table_tells_of_the_same_blocks(name):
    plan, blocks = LAYOUTS[name], BLOCKS[name]
    assert plan.blocks == len(blocks)
    assert plan.of_x(H) == slice(0, H * sum(x is not None for x, _, _ in blocks))
    with_h = [b for b, (_, h, _) in enumerate(blocks) if h is not None]
    assert plan.of_h(H) == slice(H * with_h[0], H * (with_h[-1] + 1))
    assert with_h == list(range(with_h[0], with_h[-1] + 1))


@pytest.mark.parametrize("order", ["C", "F"])
@dtypes
@pytest.mark.parametrize(("name", "b_h", "b_hn"), CASES)
def test_forward_entry_by_entry(name, b_h, b_hn, dtype, order):
    weights = weights_for(name, b_h, b_hn, dtype, order)
    expected = np.zeros((len(BLOCKS[name]) * H, D + 1 + H), dtype)
    for b, (x, h, factor) in enumerate(BLOCKS[name]):
        for j in range(H):
            row = expected[b * H + j]
            if x is not None:
                for d in range(D):
                    row[d] = factor * weights.W_xh[d, x * H + j]
                if b_h:
                    row[D] = factor * weights.b_h[x * H + j]
            elif b_hn:
                row[D] = factor * weights.b_hn[j]
            if h is not None:
                for e in range(H):
                    row[D + 1 + e] = factor * weights.W_hh[e, h * H + j]
    W = Matrices(weights, LAYOUTS[name]).forward
    assert W.dtype == dtype
    assert W.flags.c_contiguous
    np.testing.assert_array_equal(W, expected)


@pytest.mark.parametrize(("name", "b_h", "b_hn"), CASES)
def test_forward_makes_the_pre_activations(name, b_h, b_hn):
    """Z = W [x; 1; h], block by block the two sides of the gates, as the products with W_xh and W_hh have them."""
    weights, rng = weights_for(name, b_h, b_hn), np.random.default_rng(1)
    x, h = rng.standard_normal(D), rng.standard_normal(H)
    of_x, of_h = x @ weights.W_xh + (weights.b_h if b_h else 0), h @ weights.W_hh
    Z = Matrices(weights, LAYOUTS[name]).forward @ np.concatenate([x, [1], h])
    for block, (of, fed, factor) in zip(Z.reshape(-1, H), BLOCKS[name], strict=True):
        z = np.zeros(H) if of is None else of_x[of * H : (of + 1) * H]
        z = z + (weights.b_hn if of is None and b_hn else 0)
        z = z + (0 if fed is None else of_h[fed * H : (fed + 1) * H])
        np.testing.assert_allclose(block, factor * z, rtol=0, atol=1e-15)


@pytest.mark.parametrize("order", ["C", "F"])
@dtypes
@layouts
def test_back_entry_by_entry(name, dtype, order):
    """dH = V dZ; what halves a pre-activation is no part of it: dZ is that of the whole one."""
    weights, gates = weights_for(name, dtype=dtype, order=order), [h for _, h, _ in BLOCKS[name] if h is not None]
    expected = np.empty((H, len(gates) * H), dtype)
    for k, gate in enumerate(gates):
        for e in range(H):
            for j in range(H):
                expected[e, k * H + j] = weights.W_hh[e, gate * H + j]
    V = Matrices(weights, LAYOUTS[name]).back
    assert V.dtype == dtype
    assert V.flags.c_contiguous
    np.testing.assert_array_equal(V, expected)


@pytest.mark.parametrize("order", ["C", "F"])
@dtypes
@layouts
def test_back_to_x_entry_by_entry(name, dtype, order):
    weights, gates = weights_for(name, dtype=dtype, order=order), [x for x, _, _ in BLOCKS[name] if x is not None]
    expected = np.empty((len(gates) * H, D), dtype)
    for k, gate in enumerate(gates):
        for j in range(H):
            for d in range(D):
                expected[k * H + j, d] = weights.W_xh[d, gate * H + j]
    back = Matrices(weights, LAYOUTS[name]).back_to_x
    assert back.dtype == dtype
    assert back.flags.c_contiguous
    np.testing.assert_array_equal(back, expected)


@pytest.mark.parametrize("order", ["C", "F"])
@dtypes
@pytest.mark.parametrize(("name", "gate"), [("gru before", 2), ("staged", 0)])
def test_the_stage_is_its_gate_of_W_hh(name, gate, dtype, order):
    weights = weights_for(name, dtype=dtype, order=order)
    matrices = Matrices(weights, LAYOUTS[name])
    expected = np.empty((H, H), dtype)
    for e in range(H):
        for j in range(H):
            expected[e, j] = weights.W_hh[e, gate * H + j]
    for found, exact in ((matrices.stage, expected), (matrices.stage_forward, expected.T)):
        assert found.dtype == dtype
        assert found.flags.c_contiguous
        np.testing.assert_array_equal(found, exact)


@layouts
def test_each_is_made_once(name):
    matrices = Matrices(weights_for(name), LAYOUTS[name])
    wanted = ["forward", "back", "back_to_x"] + ["stage", "stage_forward"] * (LAYOUTS[name].stage is not None)
    for which in wanted:
        assert getattr(matrices, which) is getattr(matrices, which)


@layouts
def test_weights_of_one_input_and_one_neuron(name):
    """The shapes in which a transposed array may be the array itself."""
    G = 1 + max(LAYOUTS[name].x)
    arrays = [np.arange(1.0, 1 + G)[None] * s for s in (1, 10)]
    weights = Weights(*arrays, 100 * arrays[0][0])
    matrices = Matrices(weights, LAYOUTS[name])
    expected = [
        [0 if x is None else factor * (x + 1), 0 if x is None else factor * 100 * (x + 1),
         0 if h is None else factor * 10 * (h + 1)]
        for x, h, factor in BLOCKS[name]
    ]  # fmt: skip
    np.testing.assert_array_equal(matrices.forward, expected)
    np.testing.assert_array_equal(matrices.back, [[10 * (h + 1) for _, h, _ in BLOCKS[name] if h is not None]])
    np.testing.assert_array_equal(matrices.back_to_x, [[x + 1] for x, _, _ in BLOCKS[name] if x is not None])


def test_the_weights_are_not_written_into():
    """They are read-only in all tests here; what is made of them is not, and shares nothing that could be changed."""
    for name in LAYOUTS:
        weights = weights_for(name)
        before = [a.tobytes() for a in weights if a is not None]
        matrices = Matrices(weights, LAYOUTS[name])
        matrices.forward[...] = 0
        assert before == [a.tobytes() for a in weights if a is not None]


@pytest.mark.parametrize("gates", [(0,), (0, 1), (1, 0), (3, 1, 0, 2), (2, 0, 1), (0, 1, 2)])
@pytest.mark.parametrize("leading", [(), (4,), (2, 3)])
def test_in_order_puts_each_gate_where_the_parameters_have_it(gates, leading):
    rng = np.random.default_rng(0)
    ordered = rng.standard_normal((*leading, len(gates) * H))
    blocks = np.empty_like(ordered)
    for k, gate in enumerate(gates):
        blocks[..., k * H : (k + 1) * H] = ordered[..., gate * H : (gate + 1) * H]
    np.testing.assert_array_equal(in_order(blocks, gates, H), ordered)
