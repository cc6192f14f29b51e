"""Recurrent layers: how weights start, what they count, what they say of themselves, and what they refuse."""

import contextlib
import functools
import itertools
import math

import numpy as np
import pytest
from error_texts import raises
from recurrent_cases import BACKENDS, GATED, KINDS, check_refused, flat, turned

import minirnn as mr
from minirnn import counting, init

backends = pytest.mark.parametrize("backend", BACKENDS)
layouts = pytest.mark.parametrize("batch_first", [False, True])
kinds = pytest.mark.parametrize("kind", KINDS)
FAMILY = {"tanh": mr.RecurrentLayer} | GATED
family = pytest.mark.parametrize("kind", FAMILY)
GATES = {"tanh": 1, "lstm": 4, "gru": 3, "gru before": 3}
EXTRA = {"tanh": 0, "lstm": 0, "gru": 1, "gru before": 0}  # arrays (H,) beside W_xh, W_hh, b_h


# --- how weights start ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_irnn_starts_as_its_paper_says(dtype):
    layer = mr.RecurrentLayer(50, 100, activation="relu", init="irnn", dtype=dtype, rng=0)
    np.testing.assert_array_equal(layer.W_hh.data, np.eye(100))
    np.testing.assert_array_equal(layer.b_h.data, np.zeros(100))
    assert layer.W_xh.data.std() == pytest.approx(0.001, rel=0.03)
    assert abs(layer.W_xh.data.mean()) < 4 * 0.001 / math.sqrt(5000)
    assert {p.dtype for p in layer.parameters()} == {np.dtype(dtype)}
    h0 = np.random.default_rng(0).random((3, 100)).astype(dtype)  # which it remembers until an input changes it
    outputs, final_state = layer(np.zeros((200, 3, 50)), h0)
    np.testing.assert_array_equal(outputs.numpy(), np.broadcast_to(h0, (200, 3, 100)))
    np.testing.assert_array_equal(final_state.numpy(), h0)


def test_every_initialiser_by_name_and_as_a_callable():
    for name, initializer in init.PRESETS.items():
        layer = mr.RecurrentLayer(4, 4, input_initializer=name, recurrent_initializer=name, dtype=np.float64, rng=3)
        rng = np.random.default_rng(3)  # one generator: first W_xh, then W_hh
        np.testing.assert_array_equal(layer.W_xh.data, initializer((4, 4), rng))
        np.testing.assert_array_equal(layer.W_hh.data, initializer((4, 4), rng))
    seen = []

    def mine(shape, rng):
        seen.append((shape, rng))
        return np.full(shape, len(seen))

    layer = mr.RecurrentLayer(3, 5, input_initializer=mine, recurrent_initializer=mine, rng=rng)
    assert seen == [((3, 5), rng), ((5, 5), rng)]
    np.testing.assert_array_equal(layer.W_xh.data, np.ones((3, 5)))
    np.testing.assert_array_equal(layer.W_hh.data, np.full((5, 5), 2))
    uniform = mr.RecurrentLayer(3, 50, recurrent_initializer=init.uniform(0.25, 0.5), rng=0).W_hh.data
    assert 0.25 <= uniform.min() < uniform.max() <= 0.5


@family
def test_by_default_each_gate_has_a_glorot_and_an_orthogonal_block(kind):
    layer, rng = FAMILY[kind](3, 5, dtype=np.float64, rng=7), np.random.default_rng(7)
    for p, initializer, shape in ((layer.W_xh, init.glorot_uniform, (3, 5)), (layer.W_hh, init.orthogonal, (5, 5))):
        blocks = [initializer(shape, rng) for _ in range(GATES[kind])]
        np.testing.assert_array_equal(p.data, np.concatenate(blocks, axis=1))
    for block in np.split(layer.W_hh.data, GATES[kind], axis=1):
        np.testing.assert_allclose(block @ block.T, np.eye(5), rtol=0, atol=1e-14)
    ones = range(5, 10) if kind == "lstm" else []  # the forget gate
    np.testing.assert_array_equal(layer.b_h.data, np.isin(np.arange(GATES[kind] * 5), ones))
    if kind == "gru":
        assert not layer.b_hn.data.any()


@pytest.mark.parametrize("forget_bias", [0.0, -2.5, 3])
def test_forget_bias_is_where_b_hs_f_block_starts_and_nothing_more(forget_bias):
    layer, plain = mr.LSTMLayer(3, 5, forget_bias=forget_bias, rng=0), mr.LSTMLayer(3, 5, rng=0)
    np.testing.assert_array_equal(layer.b_h.data.reshape(4, 5), np.outer([0, forget_bias, 0, 0], np.ones(5)))
    plain.b_h.data = layer.b_h.data.copy()
    x = np.random.default_rng(0).standard_normal((7, 2, 3))
    for a, b in zip(flat(layer(x)), flat(plain(x)), strict=True):
        np.testing.assert_array_equal(a.numpy(), b.numpy())


@kinds
def test_a_seed_makes_a_layer_and_a_generator_goes_from_layer_to_layer(kind):
    def weights(*layers):
        return [p.data for layer in layers for p in layer.parameters()]

    make = functools.partial(KINDS[kind], 3, 5)
    for a, b, single in zip(
        *(weights(make(dtype=dtype, rng=1)) for dtype in (np.float64, np.float64, np.float32)), strict=True
    ):
        np.testing.assert_array_equal(a, b)
        np.testing.assert_array_equal(single, a.astype(np.float32))
    assert not np.array_equal(make(rng=1).W_hh.data, make(rng=2).W_hh.data)
    one, two = np.random.default_rng(1), np.random.default_rng(1)
    first = weights(make(rng=one), make(rng=one), mr.Linear(5, 2, rng=one))
    for a, b in zip(first, weights(make(rng=two), make(rng=two), mr.Linear(5, 2, rng=two)), strict=True):
        np.testing.assert_array_equal(a, b)
    assert not np.array_equal(first[1], first[len(first) // 2])  # the second layer's W_hh is not the first's


# --- counting ---------------------------------------------------------------------------------------------------------


def formula(kind, D, H, bias):
    """H(D+H+1), 4H(D+H+1), 3H(D+H+1)+H; without bias no 1 and no + H."""
    return GATES[kind] * H * (D + H + bias) + bias * EXTRA[kind] * H


@pytest.mark.parametrize("learn", [False, True])
@pytest.mark.parametrize("bias", [True, False])
@family
def test_counts(kind, bias, learn):
    for D, H in [(1, 1), (3, 5), (10, 20)]:
        layer = FAMILY[kind](D, H, bias=bias, learn_initial_state=learn, rng=0)
        learned = ["h_0", "c_0"][: len(layer.state_names)] if learn else []
        assert layer.count().total == formula(kind, D, H, bias)
        assert layer.count_params() == sum(p.size for p in layer.parameters()) == layer.count().total + H * len(learned)
        assert {p.name: p.shape for p in layer.parameters()} == layer.count().shapes | dict.fromkeys(learned, (H,))
        assert [p.name for p in layer.parameters()] == [*layer.count().shapes, *learned]  # in the order of insertion
        assert [(t.name, t.count) for t in layer.counted()] == [(p.name, p.size) for p in layer.parameters()]
        if kind == "tanh":
            assert layer.count() == counting.elman(D, H, bias=bias)
            model = mr.SequenceModel(mr.RecurrentLayer(D, H, bias=bias), mr.Linear(H, 4, bias=bias))
            assert model.count_params() == counting.elman(D, H, 4, bias=bias).total


@pytest.mark.parametrize("learn", [False, True])
@family
def test_the_summary_prints_the_table_and_what_others_count(kind, learn, capsys):
    layer = FAMILY[kind](10, 20, learn_initial_state=learn)
    assert layer.summary() is None
    lines = capsys.readouterr().out.splitlines()
    count, states = layer.count(), len(layer.state_names) * learn
    rows = count.table().splitlines()
    assert [line.split() for line in lines[2 : len(rows) - 2]] == [row.split() for row in rows[2:-2]]
    assert int(lines[len(rows) - 1 + states].split()[-1]) == layer.count_params()
    assert lines[len(rows) + states] == f"{layer.name}, with m = 10, n = 20; in other libraries:"
    expected = [f"  {line}" for line in count.reconciliation()]
    if learn:
        more = 20 * states
        expected += [f"  The initial state that is learned counts {more}; there it would be a parameter of one's own."]
    assert lines[len(rows) + states + 1 :] == [*expected, *(count.notes if kind == "tanh" else counting.NOTES)]
    if kind == "tanh":
        assert expected[0].startswith("  torch nn.RNN: 640 = 620 + 20: two biases")
        assert expected[1].startswith("  Keras SimpleRNN: 620, the same")


def test_repr_says_what_differs_from_the_plain_layer():
    assert repr(mr.RecurrentLayer(3, 5)) == "RecurrentLayer(3, 5, activation='tanh', backend='fused', dtype=float32)"
    assert repr(mr.LSTMLayer(3, 5)) == "LSTMLayer(3, 5, backend='fused', dtype=float32)"
    plain = "GRULayer(3, 5, reset_after=False, backend='fused', dtype=float32)"
    assert repr(mr.GRULayer(3, 5, reset_after=False)) == plain
    layer = mr.RecurrentLayer(
        3, 5, activation="relu", bias=False, backend="graph", reverse=True, batch_first=True, dtype=np.float64
    )
    expected = "3, 5, activation='relu', bias=False, backend='graph', reverse=True, batch_first=True, dtype=float64"
    assert repr(layer) == f"RecurrentLayer({expected})"
    layer = mr.LSTMLayer(
        3, 5, learn_initial_state=True, recurrent_dropout=0.25, message_clip=np.int64(2), remat=np.int8(3)
    )
    expected = "learn_initial_state=True, recurrent_dropout=0.25, message_clip=2.0, remat=3"
    assert repr(layer) == f"LSTMLayer(3, 5, backend='fused', {expected}, dtype=float32)"
    assert "remat" not in repr(mr.RecurrentLayer(3, 5, remat=np.False_, message_clip=None))


# --- what a layer is not made of --------------------------------------------------------------------------------------

FLAG = "must be True or False, got"
SIZE = "must be an int ≥ 1, got"
PHI = "activation must be one of 'tanh', 'relu', 'sigmoid', 'identity' or a pair (φ, φ′) of callables, got"
MAP = "must map an array to one of its shape and dtype, (2, 3) float32, got"
DTYPE = "dtype must be numpy.float32 or numpy.float64, got"
PRESET = (
    "must be one of 'glorot', 'orthogonal', 'identity', 'normal', 'zeros', 'ones', 'kaiming', 'lecun' or a callable "
    "taking (shape, rng)"
)
ARRAY = (
    "an array of shape (3, 5) and dtype float64: for a number try constant(number), for an array try lambda shape, "
    "rng: array"
)
IRNN = "init='irnn' is a layer of rectifiers, got activation="
BOTH = "init='irnn' sets both initialisers itself: leave them out, or leave init out"
NONE_THERE = "is where b_h starts, and with bias=False there is none: leave one of the two out"
PART = "recurrent_dropout must be a probability, 0 ≤ p < 1, got"
NORM = "message_clip must be a positive number, got"
REMAT, ROOT = "remat, unless True or False, must be an int ≥ 1, got", "try True, which keeps √T of T states"
RELU = {"init": "irnn", "activation": "relu"}
ELMAN = [
    ({"activation": "swish"}, ValueError, f"{PHI} 'swish'"),
    ({"activation": np.tanh}, TypeError, f"{PHI} <ufunc 'tanh'>"),
    ({"activation": None}, TypeError, f"{PHI} None"),
    ({"activation": (lambda z: z[0], lambda y: y)}, ValueError, f"φ {MAP} an array of shape (3,) and dtype float32"),
    (
        {"activation": (lambda z: z * np.ones(3), lambda y: y)},
        ValueError,
        f"φ {MAP} an array of shape (2, 3) and dtype float64",
    ),
    ({"activation": (lambda z: z, lambda y: 1.0)}, ValueError, f"φ′ {MAP} 1.0 (float)"),
    ({"init": "irnn"}, ValueError, f"{IRNN}'tanh': try activation='relu'"),
    (RELU | {"recurrent_initializer": "zeros"}, ValueError, BOTH),
    (RELU | {"input_initializer": lambda shape, rng: np.ones(shape)}, ValueError, BOTH),
    (
        {"init": "orthogonal"},
        ValueError,
        "init must be None or 'irnn', got 'orthogonal': initialisers of single arrays go to input_initializer and "
        "recurrent_initializer",
    ),
]
LSTM = [
    ({"forget_bias": "1"}, TypeError, "forget_bias must be a finite number, got '1' (str)"),
    ({"forget_bias": np.nan}, ValueError, "forget_bias must be a finite number, got nan"),
    ({"forget_bias": 2.0, "bias": False}, ValueError, f"forget_bias=2.0 {NONE_THERE}"),
    ({"forget_bias": 0.0, "bias": np.False_}, ValueError, f"forget_bias=0.0 {NONE_THERE}"),
]
GRU = [({"reset_after": "yes"}, TypeError, f"reset_after {FLAG} 'yes' (str)")]
ANY = [
    ({"input_size": 0}, ValueError, f"input_size {SIZE} 0: try 1 or more"),
    ({"hidden_size": 5.0}, TypeError, f"hidden_size {SIZE} 5.0 (float): try 5"),
    ({"hidden_size": True}, TypeError, f"hidden_size {SIZE} True (bool): try 1"),
    ({"backend": "numba"}, ValueError, "backend must be one of 'fused', 'graph', got 'numba'"),
    ({"bias": 0}, TypeError, f"bias {FLAG} 0 (int)"),
    ({"learn_initial_state": 1}, TypeError, f"learn_initial_state {FLAG} 1 (int)"),
    ({"dtype": np.int32}, TypeError, f"{DTYPE} <class 'numpy.int32'>"),
    ({"dtype": None}, TypeError, f"{DTYPE} None"),
    (
        {"recurrent_initializer": "xavier"},
        ValueError,
        f"recurrent_initializer {PRESET}, got 'xavier' (str): for a number try constant(number), for an array try "
        "lambda shape, rng: array",
    ),
    ({"input_initializer": np.ones((3, 5))}, TypeError, f"input_initializer {PRESET}, got {ARRAY}"),
    ({"recurrent_dropout": 1}, ValueError, f"{PART} 1: it is a part, not a percentage"),
    ({"recurrent_dropout": -0.1}, ValueError, f"{PART} -0.1: try 0.5"),
    ({"recurrent_dropout": False}, TypeError, f"{PART} False (bool): try 0.5"),
    ({"message_clip": 0.0}, ValueError, f"{NORM} 0.0: try 1.0"),
    ({"message_clip": np.inf}, ValueError, f"{NORM} inf: try 1.0"),
    ({"message_clip": np.ones(1)}, TypeError, f"{NORM} an array of shape (1,) and dtype float64: try 1.0"),
    ({"remat": 0}, ValueError, f"{REMAT} 0: {ROOT}"),
    ({"remat": 2.0}, TypeError, f"{REMAT} 2.0 (float): {ROOT}"),
    ({"remat": None}, TypeError, f"{REMAT} None (NoneType): {ROOT}"),
    (
        {"remat": True, "backend": "graph"},
        ValueError,
        "remat needs backend='fused', got 'graph', which keeps every op to be looked into: leave one of the two out",
    ),
]
MAKERS = [mr.RecurrentLayer, mr.LSTMLayer, mr.GRULayer]
REFUSED = [(make, *row) for make, rows in zip(MAKERS, (ELMAN, LSTM, GRU), strict=True) for row in rows]
REFUSED += [(make, *row) for row, make in zip(ANY, itertools.cycle(MAKERS))]  # the check is one for all


@pytest.mark.parametrize(("make", "options", "kind", "message"), REFUSED)
def test_what_a_layer_is_not_made_of(make, options, kind, message):
    rng = np.random.default_rng(0)
    before = rng.bit_generator.state
    with raises(kind, f"{make.__name__}: {message}"):
        make(**{"input_size": 3, "hidden_size": 5, "rng": rng} | options)
    assert rng.bit_generator.state == before  # a call that is refused draws nothing


# --- what a layer does not take ---------------------------------------------------------------------------------------

X = "x must have shape (T, N, D=3), got"
ROWS = "x must have shape (N, T, D=3), got"
X_T = "x_t must have shape (N, D=3), got"
AXES = "steps, rows and features each take one axis"
EMPTY = "there must be at least one step and one row"
NUMBERS, TRY = "must be an array of numbers (bool, int or float), got", "try np.asarray(data, dtype=float)"
STATE, A_ROW = "must have shape (N=2, H=5), got", "one state for each row of x"
PAIR, CURE = "must be a pair (h, c), each (N=2, H=5), got", "pass what the layer returned as final_state, or None"
H0 = np.zeros((2, 5))
SIZES = [
    ((7, 3), f"{X} (7, 3): one sequence without its batch axis? Pass x[:, None]"),
    ((3, 7, 4), f"{X} (3, 7, 4): did you swap features and time?"),
    ((7, 3, 4), f"{X} (7, 3, 4): did you swap features and rows?"),
    ((7, 2, 4), f"{X} (7, 2, 4): the layer was made with input_size=3"),
    ((0, 2, 3), f"{X} (0, 2, 3): {EMPTY}"),
    ((7, 0, 3), f"{X} (7, 0, 3): {EMPTY}"),
    ((), f"{X} (): {AXES}"),
]
BATCHES = [
    ((7, 3), f"{ROWS} (7, 3): one sequence without its batch axis? Pass x[None]"),
    ((3, 2, 7), f"{ROWS} (3, 2, 7): did you swap features and rows?"),
    ((2, 0, 3), f"{ROWS} (2, 0, 3): {EMPTY}"),
]
STEPS = [
    ((3,), f"{X_T} (3,): add the batch axis with x_t[None]"),
    ((2, 4), f"{X_T} (2, 4): the layer was made with input_size=3"),
    ((0, 3), f"{X_T} (0, 3): there must be at least one row"),
    ((7, 2, 3), f"{X_T} (7, 2, 3): this is one step; call the layer for a whole sequence"),
]
INPUTS = [({}, "forward", np.zeros(shape), ValueError, message) for shape, message in SIZES]
INPUTS += [({"batch_first": True}, "forward", np.zeros(shape), ValueError, message) for shape, message in BATCHES]
INPUTS += [({}, "step", np.zeros(shape), ValueError, message) for shape, message in STEPS]
INPUTS += [
    ({}, "forward", [[["a", "b", "c"]]], TypeError, f"x {NUMBERS} list of dtype <U1: {TRY}"),
]
STATES = [
    (
        mr.GRULayer,
        np.zeros(5),
        ValueError,
        f"{{0}} {STATE} (5,): for the same state in each row pass np.tile({{0}}, (2, 1))",
    ),
    (mr.RecurrentLayer, np.zeros((3, 5)), ValueError, f"{{0}} {STATE} (3, 5): {A_ROW}"),
    (mr.RecurrentLayer, np.zeros((2, 4)), ValueError, f"{{0}} {STATE} (2, 4): {A_ROW}"),
    (mr.GRULayer, "zeros", TypeError, f"{{0}} {NUMBERS} str of dtype <U5: {TRY}"),
    (mr.GRULayer, (H0, H0), ValueError, f"{{0}} {STATE} (2, 2, 5): {A_ROW}"),
    (mr.LSTMLayer, H0, TypeError, f"{{0}} {PAIR} an array of shape (2, 5) and dtype float64: {CURE}"),
    (mr.LSTMLayer, mr.Tensor(H0), TypeError, f"{{0}} {PAIR} a Tensor of shape (2, 5): {CURE}"),
    (mr.LSTMLayer, (H0, H0, H0), TypeError, f"{{0}} {PAIR} 3 of them: {CURE}"),
    (mr.LSTMLayer, "hc", TypeError, f"{{0}} {PAIR} 'hc' (str): {CURE}"),
    (mr.LSTMLayer, (H0, np.zeros((2, 4))), ValueError, f"{{0}}[1] {STATE} (2, 4): {A_ROW}"),
    (
        mr.LSTMLayer,
        (H0, np.zeros(5)),
        ValueError,
        f"{{0}}[1] {STATE} (5,): for the same state in each row pass np.tile({{0}}[1], (2, 1))",
    ),
    (mr.LSTMLayer, (H0, None), TypeError, f"{{0}}[1] {NUMBERS} NoneType of dtype object: {TRY}"),
]


@pytest.mark.parametrize(("options", "method", "x", "kind", "message"), INPUTS)
def test_what_a_layer_does_not_take(options, method, x, kind, message):
    for make, backend in zip(MAKERS, itertools.cycle(BACKENDS)):
        layer = make(3, 5, backend=backend, recurrent_dropout=0.0 if method == "step" else 0.5, rng=0, **options)
        check_refused(layer, lambda layer=layer: getattr(layer, method)(x), kind, message)
        with mr.no_grad():
            check_refused(layer, lambda layer=layer: getattr(layer, method)(x), kind, message)


@pytest.mark.parametrize(("make", "state", "kind", "message"), STATES)
def test_states_that_do_not_fit(make, state, kind, message):
    for backend in BACKENDS:
        layer = make(3, 5, backend=backend, rng=0)
        check_refused(layer, lambda: layer(np.zeros((7, 2, 3)), state), kind, message.format("initial_state"))  # noqa: B023
        for mode in (mr.no_grad(), contextlib.nullcontext()):
            with mode:
                check_refused(layer, lambda: layer.step(np.zeros((2, 3)), state), kind, message.format("state"))  # noqa: B023


def test_tensors_in_a_list_would_lose_their_gradients():
    """Above all the whole result of a call handed on as the state, and steps collected in a list."""
    layer, gru, lstm = (make(3, 5, rng=0) for make in (mr.RecurrentLayer, mr.GRULayer, mr.LSTMLayer))
    x, wanted = np.zeros((7, 2, 3)), "must be one array or Tensor, got a"
    cure = "pass one of them, or join them with minirnn.stack, which keeps their gradients"
    with raises(TypeError, f"RecurrentLayer: initial_state {wanted} RecurrentOutput that holds Tensors: {cure}"):
        layer(x, layer(x))
    with raises(TypeError, f"GRULayer: initial_state {wanted} LSTMState that holds Tensors: {cure}"):
        gru(x, lstm(x).final_state)
    with raises(ValueError, f"LSTMLayer: initial_state[0] {STATE} (7, 2, 5): {A_ROW}"):
        lstm(x, lstm(x))
    steps = [mr.Tensor(np.ones((2, 3)), requires_grad=True) for _ in range(4)]
    with raises(TypeError, f"RecurrentLayer: x {wanted} list that holds Tensors: {cure}"):
        layer(steps)
    layer(mr.stack(steps)).outputs.sum().backward()
    assert all(step.grad.any() for step in steps)


@layouts
@pytest.mark.parametrize(("D", "shape"), [(1, (7,)), (1, (7, 2)), (3, (7, 3))])
def test_the_cure_for_a_missing_axis_works(D, shape, batch_first):
    """What a beginner passes for a sine wave or for one sequence; the cure in the error's text works."""
    layer = mr.RecurrentLayer(D, 2, batch_first=batch_first, rng=0)
    x = np.arange(math.prod(shape)).reshape(shape) * 0.1
    known = r"one sequence of numbers\? |one number for each step and row\? |without its batch axis\? "
    with pytest.raises(ValueError, match=known) as info:
        layer(x)
    cured = eval(str(info.value).partition("Pass ")[2])
    alone = (1, 7) if batch_first else (7, 1)
    assert layer(cured).outputs.shape == (*(shape if shape == (7, 2) else alone), 2)


@kinds
@backends
@layouts
def test_detect_anomaly_names_what_came_in(batch_first, backend, kind):
    """At the place where the caller finds it."""
    layer = KINDS[kind](3, 5, backend=backend, batch_first=batch_first, rng=0)
    x, h0, bad = turned(np.zeros((7, 2, 3)), layer), np.zeros((2, 5)), -np.inf if batch_first else np.nan
    wrong_x, wrong_h0, at = x.copy(), h0.copy(), [1, 4, 2] if batch_first else [4, 1, 2]
    wrong_x[tuple(at)], wrong_h0[0, 3] = bad, bad
    several, x_t = len(layer.state_names) > 1, np.zeros((2, 3))
    wrong_t = x_t.copy()
    wrong_t[1, 2] = bad
    good, wrong = ((h0, h0), (h0, wrong_h0)) if several else (h0, wrong_h0)
    which = "[1]" if several else ""
    rest = f"holds {bad} at {{}} (1 of {{}} entries not finite): look at the data that comes in"
    with mr.detect_anomaly():
        layer(x, good)
        for call, argument, place, size in [
            (lambda: layer(wrong_x, good), "step t=4, row n=1: x", at, 42),
            (lambda: layer(mr.Tensor(wrong_x), good), "step t=4, row n=1: x", at, 42),
            (lambda: layer(x, wrong), f"row n=0: initial_state{which}", [0, 3], 10),
            (lambda: layer.step(wrong_t, good), "row n=1: x_t", [1, 2], 6),
            (lambda: layer.step(x_t, wrong), f"row n=0: state{which}", [0, 3], 10),
        ]:
            with raises(mr.AnomalyError, f"detect_anomaly: {layer.name}(3, 5): {argument} {rest.format(place, size)}"):
                call()
    with np.errstate(invalid="ignore"):
        assert layer(wrong_x, good).outputs.shape == (*x.shape[:2], 5)  # elsewhere it goes through
