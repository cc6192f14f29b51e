"""message_clip: no row of dL/dH_t goes back with a norm above the bound, at any step, in kernel and graph alike."""

import functools

import numpy as np
import pytest
from error_texts import raises
from test_family import BACKENDS, CELLS, assert_equal, each, evaluate, flat, leaf, relative_error
from test_own_cell import UGRNN, Coupled

import minirnn as mr
from minirnn import textbook
from minirnn.kernels.gradients import clipped

T, N, D, H = 7, 4, 2, 5
KINDS = {"elman": mr.RecurrentLayer} | CELLS
KINDS |= {"own": functools.partial(mr.RecurrentLayer, cell=UGRNN())}
KINDS |= {"two states": functools.partial(mr.RecurrentLayer, cell=Coupled())}
LENGTHS, RESET = [3, 7, 1, 6], np.random.default_rng(0).random((T, N)) < 0.3
kinds = pytest.mark.parametrize("kind", KINDS)
backends = pytest.mark.parametrize("backend", BACKENDS)
directions = pytest.mark.parametrize("reverse", [False, True], ids=["forward", "reverse"])


def made(kind, scale=0.7, **options):
    layer = KINDS[kind](D, H, **{"dtype": np.float64, "rng": 0} | options)
    rng = np.random.default_rng(0)
    for p in layer.parameters():
        p.data = (scale * rng.standard_normal(p.shape)).astype(p.dtype)
    return layer


def batch_for(layer, steps=T, rows=N):
    """Return random x, state, v and u."""
    rng = np.random.default_rng(1)
    x, v = rng.standard_normal((steps, rows, D)), rng.standard_normal((steps, rows, H))
    state, u = ([rng.standard_normal((rows, H)) for _ in layer.state_names] for _ in range(2))
    return x, tuple(state) if len(state) > 1 else state[0], v, u


def clip(d, bound):
    """Scale each row whose norm exceeds the bound to it."""
    norm = np.sqrt((d**2).sum(axis=1, keepdims=True))
    return d * np.where(norm > bound, bound / norm, 1)


# --- kernel and graph -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("settings", [{}, {"lengths": LENGTHS}, {"reset": RESET}, {"lengths": LENGTHS, "reset": RESET}],
                         ids=["full", "lengths", "reset", "both"])  # fmt: skip
@pytest.mark.parametrize("bound", [0.01, 0.7, 1.5])
@directions
@kinds
def test_fused_is_graph(kind, reverse, bound, settings):
    graph = made(kind, reverse=reverse, message_clip=bound, backend="graph")
    x, state, v, u = batch_for(graph)
    exact = evaluate(graph, x, state, v, u, **settings)
    plain = evaluate(made(kind, reverse=reverse), x, state, v, u, **settings)
    assert relative_error(exact["W_hh"], plain["W_hh"]) > 0.05  # it does something
    for remat in (False, True, 2):
        fused = made(kind, reverse=reverse, message_clip=bound, remat=remat)
        found = evaluate(fused, x, state, v, u, **settings)
        for name, value in found.items():
            if exact[name].any():
                assert relative_error(value, exact[name]) <= 1e-12, name
            else:
                assert not value.any(), name


@pytest.mark.parametrize("shape", [(1, 4), (7, 1), (1, 1), (40, 30)], ids=["T=1", "N=1", "both 1", "many"])
@pytest.mark.parametrize("loss", ["outputs", "final h", "final c"])
@kinds
def test_other_shapes_and_losses(kind, loss, shape):
    graph, fused = (made(kind, message_clip=0.3, backend=backend) for backend in ("graph", "fused"))
    x, state, v, u = batch_for(graph, *shape)
    of = {"outputs": [1, 0, 0], "final h": [0, 1, 0], "final c": [0, 0, 1]}[loss][: 1 + len(u)]
    if any(of):
        assert_equal(*(evaluate(layer, x, state, v, u, weights=of) for layer in (fused, graph)))


@kinds
def test_float32(kind):
    found = []
    for backend in BACKENDS:
        layer = made(kind, message_clip=0.7, backend=backend, dtype=np.float32)
        arrays = batch_for(layer)
        found.append(evaluate(layer, *each(lambda a: a.astype(np.float32), arrays)))
        assert {value.dtype for value in found[-1].values()} == {np.dtype(np.float32)}
    assert_equal(*found, tolerance=5e-5)


# --- by hand ----------------------------------------------------------------------------------------------------------


@backends
@directions
@pytest.mark.parametrize("bound", [0.05, 1.0])
@pytest.mark.parametrize("activation", ["tanh", "relu", "sigmoid", "identity"])
def test_elman_by_hand(activation, bound, reverse, backend):
    """The total dL/dH_t, from the output and from the step after it, is clipped row by row; dL/dH_0 is not."""
    layer = made("elman", activation=activation, reverse=reverse, message_clip=bound, backend=backend)
    x, h0, v, (u,) = batch_for(layer)
    W_xh, W_hh, b_h = (p.data for p in layer.parameters())
    slope = {
        "tanh": lambda y: 1 - y * y,
        "relu": lambda y: y > 0,
        "sigmoid": lambda y: y * (1 - y),
        "identity": np.ones_like,
    }
    turn = slice(None, None, -1 if reverse else 1)
    hs = textbook.unroll(textbook.layer_step_batch, x[turn], h0, W_xh, W_hh, b_h, activation=activation)
    before = [h0, *hs[:-1]]
    exact = {"outputs": hs[turn], "final 0": hs[-1], "x": np.zeros_like(x)}
    exact |= {"W_xh": 0, "W_hh": 0, "b_h": 0}
    d, times, norms = u, 0, []
    for t in reversed(range(T)):
        d = d + v[turn][t]
        times += (np.linalg.norm(d, axis=1) > bound).sum()
        d = clip(d, bound)
        norms.append(np.linalg.norm(d, axis=1).max())
        dz = d * slope[activation](hs[t])
        exact["x"][turn][t] = dz @ W_xh.T
        exact["W_xh"] = exact["W_xh"] + x[turn][t].T @ dz
        exact["W_hh"] = exact["W_hh"] + before[t].T @ dz
        exact["b_h"] = exact["b_h"] + dz.sum(axis=0)
        d = dz @ W_hh.T
    exact["initial 0"] = d
    assert times > 3
    assert max(norms) <= bound * (1 + 1e-15)
    assert_equal(evaluate(layer, x, h0, v, [u]), exact)


@backends
def test_lstm_by_hand(backend):
    """It is dL/dh that is clipped; dL/dc is not."""
    bound = 0.5
    layer = made("lstm", message_clip=bound, backend=backend)
    x, (h, c), v, (u_h, u_c) = batch_for(layer, steps=3, rows=2)
    W_xh, W_hh, b_h = (p.data for p in layer.parameters())
    kept = []
    for x_t in x:
        a = np.split(x_t @ W_xh + h @ W_hh + b_h, 4, axis=1)
        i, f, g, o = (np.tanh(z) if k == 2 else 1 / (1 + np.exp(-z)) for k, z in enumerate(a))
        new = f * c + i * g
        kept.append((x_t, h, c, i, f, g, o, np.tanh(new)))
        h, c = o * np.tanh(new), new
    d_h, d_c, d_W_hh, d_x, norms = u_h, u_c, 0, [], []
    for (_, h, c, i, f, g, o, shown), v_t in zip(reversed(kept), v[::-1], strict=True):
        d_h = clip(d_h + v_t, bound)
        d_c = d_c + d_h * o * (1 - shown**2)
        norms.append(np.linalg.norm(d_c, axis=1).max())
        dz = [d_c * g * i * (1 - i), d_c * c * f * (1 - f), d_c * i * (1 - g**2), d_h * shown * o * (1 - o)]
        dz = np.concatenate(dz, axis=1)
        d_W_hh = d_W_hh + h.T @ dz
        d_x.insert(0, dz @ W_xh.T)
        d_h, d_c = dz @ W_hh.T, d_c * f
    found = evaluate(layer, x, (kept[0][1], kept[0][2]), v, [u_h, u_c])
    for name, exact in {"W_hh": d_W_hh, "x": np.stack(d_x), "initial 0": d_h, "initial 1": d_c}.items():
        assert relative_error(found[name], exact) <= 1e-12, name
    assert max(norms) > bound


@backends
@pytest.mark.parametrize("kind", ["gru", "gru before"])
def test_gru_by_hand(kind, backend):
    """With z = 1 the message passes unchanged but for the clip: one row after the other can be told in advance."""
    layer = made(kind, message_clip=1.0, backend=backend)
    layer.b_h.data[H : 2 * H] = 100
    x, h0, v, u = batch_for(layer)
    d = u[0]
    for t in reversed(range(T)):
        d = clip(d + v[t], 1.0)
    found = evaluate(layer, x, h0, v, u)["initial 0"]
    np.testing.assert_allclose(found, d, rtol=0, atol=1e-12)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, rtol=0, atol=1e-12)


@backends
@kinds
def test_steps_clip_as_the_layer_does(kind, backend):
    layer = made(kind, message_clip=0.5, backend=backend)
    x, state, v, u = batch_for(layer)
    whole = evaluate(layer, x, state, v, u)
    layer.zero_grad()
    now, loss = each(leaf, state), 0.0
    first = flat(now)
    for t in range(T):
        now = layer.step(x[t], now)
        loss = loss + (layer.last_output(now) * v[t]).sum()
    (loss + sum((s * w).sum() for s, w in zip(flat(now), u, strict=True))).backward()
    for i, s in enumerate(first):
        assert relative_error(s.grad, whole[f"initial {i}"]) <= 1e-12
    for p in layer.parameters():
        assert relative_error(p.grad, whole[p.name]) <= 1e-12, p.name


@backends
@kinds
def test_the_forward_pass_knows_nothing_of_it(kind, backend):
    layer, plain = made(kind, message_clip=1e-3, backend=backend), made(kind, backend=backend)
    x, state, _, _ = batch_for(layer)
    for settings in ({}, {"lengths": LENGTHS, "reset": RESET}):
        for a, b in zip(flat(layer(x, state, **settings)), flat(plain(x, state, **settings)), strict=True):
            np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=0, atol=1e-15)


# --- what it leaves as it is ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("settings", [{}, {"lengths": LENGTHS, "reset": RESET}], ids=["full", "ragged"])
@backends
@kinds
def test_a_bound_that_is_never_reached_changes_nothing(kind, backend, settings):
    """Bit for bit; but the fused Elman layer without a clip has kernels of its own."""
    for bound in (1e4, 1e300):
        layer, plain = made(kind, message_clip=bound, backend=backend), made(kind, backend=backend)
        x, state, v, u = batch_for(layer)
        found, expected = (evaluate(one, x, state, v, u, **settings) for one in (layer, plain))
        other_kernel = kind == "elman" and backend == "fused"
        assert_equal(found, expected, 1e-14 if other_kernel else 0)


@backends
@kinds
def test_each_row_is_clipped_on_its_own(kind, backend):
    """A loss a thousand times as steep in row 2 changes nothing in the others."""
    layer = made(kind, message_clip=0.5, backend=backend)
    x, state, v, u = batch_for(layer)
    steep = (np.arange(N) == 2)[:, None] * 999.0 + 1
    found, expected = evaluate(layer, x, state, v * steep, [w * steep for w in u]), evaluate(layer, x, state, v, u)
    for name in ("x", "initial 0"):
        rows = [(slice(None),) * (name == "x") + (n,) for n in range(N)]
        for n in (0, 1, 3):
            np.testing.assert_allclose(found[name][rows[n]], expected[name][rows[n]], rtol=1e-12)
        assert not np.allclose(found[name][rows[2]], expected[name][rows[2]])
        assert np.abs(found[name][rows[2]]).max() < 100 or kind in ("lstm", "two states")  # there, through c


@backends
@pytest.mark.parametrize("bad", [np.inf, -np.inf, np.nan])
def test_what_is_not_finite_stays_as_it_is(bad, backend):
    """One neuron, so that the message is a number: scaled to the bound, an inf would be inf · 0 = NaN."""
    layer = mr.RecurrentLayer(1, 1, activation="identity", message_clip=2.0, backend=backend, dtype=np.float64, rng=0)
    layer.W_xh.data, layer.W_hh.data = [[1.0]], [[1.0]]
    x, h0 = leaf(np.ones((3, 2, 1))), leaf(np.ones((2, 1)))
    outputs, _ = layer(x, h0)
    gradient = np.zeros((3, 2, 1))
    gradient[2, :, 0] = bad, 5
    outputs.backward(gradient)
    np.testing.assert_array_equal(h0.grad, [[bad], [2.0]])
    np.testing.assert_array_equal(x.grad, [[[bad], [2.0]]] * 3)


@backends
@pytest.mark.parametrize(
    ("dtype", "size", "bound"),
    [
        (np.float32, 1e-29, 1e-30),
        (np.float32, 1e30, 1.0),
        (np.float32, 8e37, 1.0),
        (np.float64, 1e-199, 1e-200),
        (np.float64, 1e200, 1.0),
        (np.float64, 4e307, 1.0),
    ],
)
def test_squares_neither_overflow_nor_vanish(dtype, size, bound, backend):
    """(3, 4) times a number whose square is out of the dtype's range, or even its product with 5, the norm."""
    layer = mr.RecurrentLayer(
        1, 2, activation="identity", message_clip=bound, recurrent_initializer="identity", backend=backend, dtype=dtype
    )
    h0 = leaf(np.zeros((1, 2), dtype))
    layer(np.zeros((1, 1, 1)), h0).outputs.backward(np.array([[[3, 4]]], dtype) * dtype(size))
    np.testing.assert_allclose(h0.grad, np.array([[0.6, 0.8]]) * bound, rtol=1e-6 if dtype == np.float32 else 1e-14)


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_function_itself(dtype, axis):
    rng = np.random.default_rng(0)
    d = rng.standard_normal((6, 5)).astype(dtype) * 10.0 ** np.arange(-3, 3, dtype=dtype)[:, None]
    d[1], d[2, 0], d[3, 1] = 0, np.inf, np.nan
    d[0] *= 0.4999 / np.linalg.norm(d[0])
    d[4] *= 0.5001 / np.linalg.norm(d[4])
    d = d if axis == 1 else d.T.copy()
    original = d.copy()
    found = clipped(d, 0.5, axis)
    np.testing.assert_array_equal(d, original)
    assert found.dtype == dtype
    rows, exact = (found, d) if axis == 1 else (found.T, d.T)
    np.testing.assert_array_equal(rows[:4], exact[:4])  # below the bound, zeros, inf, NaN
    np.testing.assert_allclose(rows[4:], clip(exact[4:].astype(float), 0.5), rtol=1e-6)


@backends
@kinds
def test_the_padding_stays_out_of_it(kind, backend):
    """NaN in x and in the gradients there, and the bound reached everywhere else."""
    layer = made(kind, message_clip=0.1, backend=backend)
    x, state, v, _ = batch_for(layer)
    padding = (np.arange(T)[:, None] >= LENGTHS)[..., None]
    found = []
    for garbage in (0.0, np.nan):
        layer.zero_grad()
        given = leaf(np.where(padding, garbage, x)), each(leaf, state)
        layer(*given, LENGTHS).outputs.backward(np.where(padding, garbage, v))
        found.append([given[0].grad, *(s.grad for s in flat(given[1])), *(p.grad for p in layer.parameters())])
    for a, b in zip(*found, strict=True):
        np.testing.assert_array_equal(a, b)
        assert np.isfinite(a).all()


# --- second order, and the setting ------------------------------------------------------------------------------------

REFUSED = (
    "create_graph: a message that is clipped has no second derivative: leave message_clip out for it, or clip the "
    "gradients of the parameters with clip_grad_norm instead"
)


@backends
@pytest.mark.parametrize("settings", [{}, {"lengths": LENGTHS, "reset": RESET}], ids=["full", "ragged"])
@kinds
def test_create_graph_is_refused(kind, settings, backend):
    """Also where the bound would not be reached: that cannot be known beforehand."""
    for bound in (0.1, 1e9):
        layer = made(kind, message_clip=bound, backend=backend)
        x, state, v, _ = batch_for(layer)
        x = leaf(x)
        loss = (layer(x, state, **settings).outputs * v).sum()
        with pytest.raises(RuntimeError) as info:
            mr.grad(loss, [x, *layer.parameters()], create_graph=True)
        assert str(info.value) == REFUSED
        assert all(t.grad is None for t in (x, *layer.parameters()))
        loss.backward()  # the first order is still there
        assert x.grad.any()


def test_it_goes_through_composites():
    layers = [made("lstm", message_clip=0.1), made("gru", message_clip=0.1, reverse=True)]
    plain = [made("lstm"), made("gru", reverse=True)]
    x, _, _, _ = batch_for(layers[0])
    found = []
    for pair in (layers, plain):
        both = mr.Bidirectional(*pair)
        both(x, lengths=LENGTHS).outputs.sum().backward()
        found.append([p.grad for p in both.parameters()])
    for (name, _), a, b in zip(both.named_parameters(), *found, strict=True):
        assert np.linalg.norm(a) < np.linalg.norm(b), name


def test_long_products_of_large_weights_stay_bounded():
    """The gradient at the first step of a linear layer that doubles at each: 2^100 without a bound, and 1 with it."""
    found = []
    for bound in (None, 1.0):
        layer = mr.RecurrentLayer(1, 1, activation="identity", message_clip=bound, dtype=np.float64, rng=0)
        layer.W_xh.data, layer.W_hh.data = [[1.0]], [[2.0]]
        x = leaf(np.zeros((101, 1, 1)))
        layer(x).final_state.sum().backward()
        found.append(x.grad[0, 0, 0])
    assert found == [2.0**100, 1.0]


NORM = "message_clip must be a positive number, got"


@pytest.mark.parametrize(
    ("bound", "kind", "message"),
    [
        (0, ValueError, f"{NORM} 0: try 1.0"),
        (0.0, ValueError, f"{NORM} 0.0: try 1.0"),
        (-1, ValueError, f"{NORM} -1: try 1.0"),
        (np.nan, ValueError, f"{NORM} nan: try 1.0"),
        (np.inf, ValueError, f"{NORM} inf: try 1.0"),
        (True, TypeError, f"{NORM} True (bool): try 1.0"),
        (False, TypeError, f"{NORM} False (bool): try 1.0"),
        ("1", TypeError, f"{NORM} '1' (str): try 1.0"),
        ([1.0], TypeError, f"{NORM} [1.0] (list): try 1.0"),
        (np.ones(1), TypeError, f"{NORM} an array of shape (1,) and dtype float64: try 1.0"),
    ],
)
@pytest.mark.parametrize("make", [mr.RecurrentLayer, mr.LSTMLayer, mr.GRULayer])
def test_what_is_no_bound(make, bound, kind, message):
    rng = np.random.default_rng(0)
    drawn = rng.bit_generator.state
    with raises(kind, f"{make.__name__}: {message}"):
        make(3, 5, message_clip=bound, rng=rng)
    assert rng.bit_generator.state == drawn


def test_it_is_shown_when_it_is_set():
    for bound in (2, np.float32(2), np.int64(2)):
        layer = mr.GRULayer(3, 5, message_clip=bound)
        assert layer.message_clip == 2.0
        assert repr(layer) == "GRULayer(3, 5, backend='fused', message_clip=2.0, dtype=float32)"
    assert "message_clip" not in repr(mr.GRULayer(3, 5, message_clip=None))
