"""Every kind of recurrent layer in every setting: fused = graph = textbook, numerical derivatives, steps, states."""

import functools
import gc
import itertools
import re
import weakref

import numpy as np
import pytest
from notes import noted
from pairwise import pairwise
from recurrent_cases import (
    BACKENDS,
    BUILT_IN,
    EVERY,
    GATED,
    KINDS,
    LENGTHS,
    RESET,
    SEQUENCES,
    SHAPES,
    Problem,
    assert_equal,
    curved,
    differences_of_gradients,
    each,
    flat,
    hessian_vector,
    leaf,
    relative_error,
    turned,
)  # fmt: skip

import minirnn as mr
from minirnn import textbook
from minirnn.kernels import elman, unroll

backends = pytest.mark.parametrize("backend", BACKENDS)
kinds = pytest.mark.parametrize("kind", KINDS)
PLAIN = {"bias": [True, False], "reverse": [False, True], "batch_first": [False, True]}
OPTIONS = {"reverse": [False, True], "lengths": [None, LENGTHS], "reset": [None, RESET]}
OPTIONS |= {"learn_initial_state": [False, True], "recurrent_dropout": [0.0, 0.4]}


def spell(point):
    """Name a point by its kind and by the settings that are not the plain layer's."""
    others = {
        name: value for name, value in point.items() if name != "kind" and value is not None and value is not False
    }
    return "-".join([point.get("kind", ""), *(f"{k}={v}" if isinstance(v, str) else k for k, v in others.items() if k)])


def grid(settings, **options):
    points = [dict(point) for point in pairwise(settings, **options)]
    return pytest.mark.parametrize("point", points, ids=spell)


def taken_apart(point):
    """Give the problem of a point, the options of its layer, and those of a call."""
    point = dict(point)
    call = {name: point.pop(name) for name in ("lengths", "reset") if name in point}
    settings = {name: point.pop(name) for name in PLAIN if name in point}
    return Problem(point.pop("kind"), point.pop("shape", "D≠H≠N≠T"), **settings), point, call


# --- fused = graph = textbook -----------------------------------------------------------------------------------------


def check_against_the_textbook(kind, dtype=np.float64, shape="D≠H≠N≠T", **settings):
    problem = Problem(kind, shape, dtype=dtype, **settings)
    layers = {backend: problem.layer(backend) for backend in BACKENDS}
    for weights in problem.losses().values():
        exact = problem.textbook(weights)
        for layer in layers.values():
            found = problem.run(layer, weights=weights)
            assert {value.dtype for value in found.values()} == {np.dtype(dtype)}
            assert_equal(found, exact, 1e-12 if dtype == np.float64 else 5e-5)
            assert len(found) == 2 + 2 * len(problem.u) + len(layer.parameters())


@grid({"kind": BUILT_IN, "shape": SHAPES, "dtype": [np.float64, np.float32]} | PLAIN)
def test_fused_is_graph_is_textbook(point):
    """In float32 the problem itself is rounded to it, so that only the arithmetic differs."""
    check_against_the_textbook(**point)


@pytest.mark.exhaustive
@pytest.mark.parametrize("kind", BUILT_IN)
def test_fused_is_graph_is_textbook_everywhere(kind):
    for shape, *values in itertools.product(SHAPES, *PLAIN.values()):
        for dtype in (np.float64, np.float32) if shape == "D≠H≠N≠T" else (np.float64,):
            check_against_the_textbook(kind, dtype, shape, **dict(zip(PLAIN, values, strict=True)))


def check_fused_against_graph(point):
    problem, options, call = taken_apart(point)
    fused = problem.layer("fused", **options)
    graph = problem.layer("graph", **options | {"remat": False})
    for _ in range(1 + bool(options["recurrent_dropout"])):  # the second call draws another mask
        assert_equal(problem.run(fused, **call), problem.run(graph, **call))


SETTINGS = {"kind": EVERY, "bias": [True, False], **OPTIONS, "message_clip": [None, 0.7], "remat": [False, True, 2]}


@grid(SETTINGS)
def test_fused_is_graph_in_every_setting(point):
    """What the graph itself gives with lengths, resets, dropout and clip has tests of its own."""
    check_fused_against_graph(point)


@pytest.mark.exhaustive
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("kind", EVERY)
def test_fused_is_graph_in_all_settings(kind, reverse):
    for values in itertools.product(*SETTINGS.values()):
        point = dict(zip(SETTINGS, values, strict=True))
        if (point["kind"], point["reverse"]) == (kind, reverse):
            check_fused_against_graph(point)


@grid({"kind": EVERY, "shape": ["T=1", "N=1", "all 1", (20, 17, 2, 4)], "message_clip": [None, 0.3],
       "remat": [False, True, 1, 2, 99], "reverse": [False, True]})  # fmt: skip
def test_the_same_in_other_shapes_and_when_the_loss_sees_only_a_part(point):
    """Without a gradient from outside, what comes from later steps alone is clipped and goes back."""
    problem, options, _ = taken_apart(point)
    fused, graph = problem.layer(**options), problem.layer("graph", **options | {"remat": False})
    plain = problem.layer(**options | {"remat": False})
    for weights in problem.losses().values():
        found = problem.run(fused, weights=weights)
        assert_equal(found, problem.run(graph, weights=weights), zeros=True)
        assert_equal(found, problem.run(plain, weights=weights), 1e-14, zeros=True)


@pytest.mark.parametrize(("kind", "kernel"), [("tanh", elman), ("lstm", unroll), ("gru", unroll), ("own", unroll)])
def test_the_backends_are_two_ways_indeed(kind, kernel, monkeypatch):
    """Fused is one node and a kernel, graph an op for every operation; else their agreement would say nothing."""
    problem = Problem(kind)
    fused, graph = (problem.layer(backend) for backend in BACKENDS)
    assert repr(fused(problem.x).outputs).endswith(f"op={fused.name})")
    assert repr(graph(problem.x).outputs).endswith("op=stack)")
    monkeypatch.setattr(kernel, "forward", None)
    graph(problem.x).outputs.sum().backward()
    with pytest.raises(TypeError, match="'NoneType' object is not callable"):
        fused(problem.x)


# --- numerical derivatives --------------------------------------------------------------------------------------------


def fits(point):
    return not (point["backend"] == "graph" and point["remat"])


@grid({"kind": EVERY, "backend": BACKENDS, **PLAIN, **OPTIONS, "remat": [False, 2]}, allowed=fits)
def test_every_gradient_by_central_differences(point):
    """`gradcheck` takes all that f returns, outputs and final states, into its loss."""
    problem, options, call = taken_apart(point)
    inputs, names, f = problem.inputs(problem.layer(**options))
    assert mr.gradcheck(lambda *_: f(**call), inputs, names=names)


def scale(name, factor=1.001):
    def wrong(original, *arguments):
        g = original(*arguments)
        return g._replace(**{name: getattr(g, name) * factor})

    return wrong


def scale_state(i):
    def wrong(original, *arguments):
        g = original(*arguments)
        return g._replace(state=[s * (1.001 if j == i else 1) for j, s in enumerate(g.state)])

    return wrong


WRONG = [("tanh", scale_state(0)), ("lstm", scale_state(1))]
WRONG += [("gru", scale(name)) for name in ("x", "W_xh", "W_hh", "b_h", "b_hn")]


@pytest.mark.parametrize(("kind", "wrong"), WRONG)
def test_a_wrong_kernel_is_caught(kind, wrong, monkeypatch):
    """No check is believed until it has rejected a wrong gradient."""
    problem, kernel = Problem(kind), elman if kind == "tanh" else unroll
    inputs, names, f = problem.inputs(problem.layer())
    original = kernel.backward
    monkeypatch.setattr(kernel, "backward", lambda *arguments: wrong(original, *arguments))
    with pytest.raises(mr.GradcheckError, match=r"gradcheck: the gradient of (x|initial \d|\w+) is wrong"):
        mr.gradcheck(f, inputs, names=names)


# --- second order -----------------------------------------------------------------------------------------------------


@grid({"kind": EVERY, **OPTIONS, "batch_first": [False, True], "remat": [False, True]})
def test_second_order_in_every_setting(point):
    """Both backends, against the central difference of their own first order."""
    problem, options, call = taken_apart(point)
    found = []
    for backend in BACKENDS:
        layer = problem.layer(backend, **options | ({} if backend == "fused" else {"remat": False}))
        inputs, names, f = problem.inputs(layer)
        f = functools.partial(f, **call)
        directions = [np.cos(10 * t.data) for t in inputs]
        found.append(hessian_vector(problem, layer, inputs, f, directions))
        assert all(t.grad is None for t in inputs)
        loss = curved(problem, layer, f())
        for a, b in zip(mr.grad(loss, inputs, create_graph=True), mr.grad(loss, inputs), strict=True):
            assert relative_error(a.numpy(), b.numpy()) <= 1e-12
        numerical = differences_of_gradients(problem, layer, inputs, f, directions)
        for name, a, b in zip(names, found[-1], numerical, strict=True):
            np.testing.assert_allclose(a, b, rtol=0, atol=1e-7 * np.abs(b).max(), err_msg=f"{backend}: {name}")
    for name, a, b in zip(names, *found, strict=True):
        assert relative_error(a, b) <= 1e-12, name


@pytest.mark.parametrize("asked", [("W_hh",), ("x",), ("initial 0", "b_h"), ("W_xh", "W_hh")])
def test_second_order_when_not_everybody_asks(asked):
    """The others are constants, for the kernel and for the ops that stand in for it."""
    problem, found = Problem("tanh", batch_first=True), []
    for backend in BACKENDS:
        layer = problem.layer(backend)
        inputs, names, f = problem.inputs(layer)
        for name, t in zip(names, inputs, strict=True):
            t.requires_grad = name in asked
        asking = [t for t in inputs if t.requires_grad]
        first = mr.grad(curved(problem, layer, f()), asking, create_graph=True)
        found.append([g.numpy() for g in mr.grad(sum((g * g).sum() for g in first), asking)])
    for a, b in zip(*found, strict=True):
        assert relative_error(a, b) <= 1e-12


# --- where a state starts, where it ends, and what is handed on -------------------------------------------------------


@grid({"kind": EVERY, "backend": BACKENDS} | PLAIN)
def test_a_state_of_zeros_is_none_and_the_final_state_a_copy_of_the_last(point):
    problem, options, _ = taken_apart(point)
    layer = problem.layer(**options)
    x, zeros, given = turned(problem.x, layer), each(np.zeros_like, problem.state), each(leaf, problem.state)
    step = problem.x[0]
    for one, two in ((layer(x), layer(x, zeros)), (layer.step(step), layer.step(step, zeros))):
        for a, b in zip(flat(one), flat(two), strict=True):
            np.testing.assert_array_equal(a.numpy(), b.numpy())
    outputs, final_state = layer(x, given)
    assert type(final_state) is {"lstm": mr.LSTMState, "two states": tuple}.get(problem.kind, mr.Tensor)
    h = layer.last_output(final_state)
    assert h is flat(final_state)[0]
    np.testing.assert_array_equal(h.numpy(), turned(outputs.numpy(), layer)[0 if layer.reverse else -1])
    arrays = [t.numpy() for t in flat([outputs, final_state, given])]
    assert not any(np.shares_memory(a, b) for a, b in itertools.combinations(arrays, 2))


@grid({"kind": EVERY, "backend": BACKENDS, "reverse": [False, True], "learn_initial_state": [False, True],
       "message_clip": [None, 0.5], "batch_first": [False, True]})  # fmt: skip
def test_steps_are_the_layer(point):
    """Step after step gives the same outputs and the same gradients as the whole sequence at once."""
    problem, options, _ = taken_apart(point)
    layer = problem.layer(**options)
    whole = problem.run(layer)
    layer.zero_grad()
    x, first = leaf(problem.x), problem.start(layer)
    state = first = first if first is None else each(leaf, first)
    outputs, loss = {}, 0.0
    for t in reversed(range(problem.T)) if layer.reverse else range(problem.T):
        state = layer.step(x[t], state)
        outputs[t] = layer.last_output(state)
        loss = loss + (outputs[t] * problem.v[t]).sum()
    (loss + sum((s * u).sum() for s, u in zip(flat(state), problem.u, strict=True))).backward()
    found = {"outputs": np.stack([outputs[t].numpy() for t in range(problem.T)]), "x": x.grad}
    found |= {f"final {i}": s.numpy() for i, s in enumerate(flat(state))}
    found |= {} if first is None else {f"initial {i}": s.grad for i, s in enumerate(flat(first))}
    assert_equal(found | {p.name: p.grad for p in layer.parameters()}, whole)


@pytest.mark.parametrize("kind", ["tanh", *GATED])
def test_the_concatenated_form_is_the_same_layer(kind):
    """[X_t H_{t-1}] W: note 003, equation 14-2, second line, with G blocks. W is a copy that follows the parameters."""
    problem = Problem(kind)
    layer = problem.layer()
    W = layer.W
    np.testing.assert_array_equal(W, np.concatenate([layer.W_xh.data, layer.W_hh.data]))
    if kind == "tanh":
        step, b = textbook.layer_step_batch_concat, layer.b_h.data
        expected = textbook.unroll(step, problem.x, problem.state, W, b, activation="tanh")
        assert relative_error(layer(problem.x, problem.state).outputs.numpy(), expected) <= 1e-14
    with pytest.raises(ValueError, match="read-only"):
        W[0, 0] = 1
    with pytest.raises(AttributeError):
        layer.W = W
    layer.W_hh.data = layer.W_hh.data + 1
    np.testing.assert_array_equal(layer.W[problem.D :], layer.W_hh.data)
    assert layer.W.dtype == layer.dtype


# --- what goes in stays as it was, what came out too ------------------------------------------------------------------


@grid({"kind": EVERY, "backend": BACKENDS, "lengths": [None, LENGTHS], "reset": [None, RESET], **PLAIN})
def test_nothing_handed_in_is_written_into(point):
    """Inputs, initial state, parameters and the gradients handed in are read-only, so that writing would raise."""
    problem, options, call = taken_apart(point)
    inputs, _, f = problem.inputs(problem.layer(**options))
    for t in inputs:
        t.data.flags.writeable = False
    results = flat(f(**call))
    for t in results:
        gradient = np.ones(t.shape)
        gradient.flags.writeable = False
        t.backward(gradient, retain_graph=True)
    for t in results:  # backward reads what forward saved, again and again
        t.data.flags.writeable = False
    results[0].backward(np.ones(results[0].shape))
    assert all(t.grad.any() for t in inputs)


@backends
@kinds
def test_calls_do_not_meddle_with_each_other(kind, backend):
    """Results are not overwritten by later calls, two live graphs add up, and the caller's state may change."""
    problem = Problem(kind)
    layer, state = problem.layer(backend), each(np.copy, problem.state)
    xs = [problem.x * k for k in range(3)]
    results = [layer(x, state) for x in xs]
    for s in flat(state):
        s[...] = 7
    again = [layer(x, problem.state) for x in xs]
    for one, two in zip(flat(results), flat(again), strict=True):
        np.testing.assert_array_equal(one.numpy(), two.numpy())
    arrays = [t.numpy() for t in flat([results, again])]
    assert not any(np.shares_memory(a, b) for a, b in itertools.combinations(arrays, 2))
    alone = []
    for x in xs[1:]:
        layer.zero_grad()
        (layer(x, problem.state).outputs * problem.v).sum().backward()
        alone.append([p.grad for p in layer.parameters()])
    for order in ((1, 2), (2, 1)):
        layer.zero_grad()
        for k in order:
            (again[k].outputs * problem.v).sum().backward(retain_graph=True)
        for p, a, b in zip(layer.parameters(), *alone, strict=True):
            np.testing.assert_allclose(p.grad, a + b, rtol=0, atol=1e-13)


@pytest.mark.parametrize("remat", [False, True])
def test_a_carried_state_does_not_keep_the_sequence_alive(remat):
    layer = mr.RecurrentLayer(2, 3, remat=remat, rng=0)
    gc.disable()
    try:
        outputs, state = layer(np.ones((50, 4, 2)))
        states = weakref.ref(outputs.numpy().base)
        assert states() is not None
        outputs.sum().backward()
        carried = state.detach()
        del outputs, state
        assert states() is None
        assert carried.shape == (4, 3)
    finally:
        gc.enable()


@backends
@kinds
def test_backward_lets_go_of_what_forward_saved_at_once(kind, backend):
    layer = KINDS[kind](2, 3, backend=backend, rng=0)
    gc.disable()
    try:
        x = np.ones((50, 4, 2), np.float32)
        saved = weakref.ref(x)
        outputs, _ = layer(mr.Tensor(x))  # of an array by itself it would be a copy that is saved
        loss = outputs.sum()
        del x
        assert saved() is not None
        loss.backward()
        assert saved() is None
    finally:
        gc.enable()


# --- who asks for a gradient, and who gets one ------------------------------------------------------------------------


def check_who_gets_one(problem, layer, wanted_sets, **call):
    expected = problem.run(layer, **call)
    layer.zero_grad()
    inputs, names, f = problem.inputs(layer)
    for wanted in wanted_sets(len(inputs)):
        for t, want in zip(inputs, wanted, strict=True):
            t.requires_grad, t.grad = want, None
        outputs, final_state = f(**call)
        terms = zip([outputs, *flat(final_state)], [problem.v, *problem.u], strict=True)
        loss = sum((t * w).sum() for t, w in terms)
        assert outputs.requires_grad == any(wanted)
        if not any(wanted):
            with pytest.raises(RuntimeError, match="nothing was recorded"):
                loss.backward()
            continue
        loss.backward()
        for name, t in zip(names, inputs, strict=True):
            if t.requires_grad:
                assert relative_error(t.grad, expected[name]) <= 1e-13, name
            else:
                assert t.grad is None, name


def alone_and_all_but(n):
    return [[(j == i) == alone for j in range(n)] for i in range(n) for alone in (True, False)] + [[False] * n]


@pytest.mark.parametrize("sequences", ["full", "both"])
@backends
@kinds
def test_each_gets_its_gradient_whoever_else_asks(kind, backend, sequences):
    """Each leaf alone, all but each, and nobody: the gradients do not change."""
    problem = Problem(kind)
    check_who_gets_one(problem, problem.layer(backend), alone_and_all_but, **SEQUENCES[sequences])


def test_the_same_for_all_that_may_ask_of_elmans_own_kernel():
    problem = Problem("tanh")
    check_who_gets_one(problem, problem.layer(), lambda n: itertools.product([True, False], repeat=n))


@grid(
    {"kind": KINDS, "backend": BACKENDS, "lengths": [None, LENGTHS], "reset": [None, RESET], "reverse": [False, True]}
)
def test_no_grad_gives_the_same_and_records_nothing(point):
    problem, options, call = taken_apart(point)
    _, _, f = problem.inputs(problem.layer(**options))
    recorded = flat(f(**call))
    with mr.no_grad():
        plain = flat(f(**call))
    for a, b in zip(recorded, plain, strict=True):
        np.testing.assert_array_equal(a.numpy(), b.numpy())
        assert a.requires_grad
        assert not b.requires_grad


@grid({"kind": KINDS, "backend": BACKENDS, "how": ["in place", "load"], "name": ["W_xh", "W_hh"]})
def test_a_parameter_changed_between_forward_and_backward_is_refused(point):
    problem, options, _ = taken_apart(point)
    how, name = options.pop("how"), options.pop("name")
    layer = problem.layer(**options)
    inputs, _, f = problem.inputs(layer)
    loss, parameter = f().outputs.sum(), getattr(layer, name)
    if how == "in place":
        parameter.data -= 1
    else:
        layer.load_state_dict(layer.state_dict())
    with pytest.raises(
        mr.ChangedParameterError, match=r"backward: parameter W_\wh \(\d, \d+\) was changed after the fo"
    ):
        loss.backward()
    assert all(t.grad is None for t in inputs)
    f().outputs.sum().backward()  # run forward again, as the error says
    assert parameter.grad.any()


@grid({"kind": KINDS, "backend": BACKENDS, "batch_first": [False, True], "constant": [False, True], "i": [0, 1]})
def test_an_input_changed_between_forward_and_backward_is_refused(point):
    """In place, and the layer may hold a view of it. A constant, too: the gradients of the weights read it."""
    problem, options, _ = taken_apart(point)
    constant, i = options.pop("constant"), options.pop("i")
    layer = problem.layer(**options)
    inputs, _, f = problem.inputs(layer)
    tensor = inputs[i]
    tensor.requires_grad = not constant
    loss = f().outputs.sum()
    tensor.data += 1
    with pytest.raises(mr.ChangedParameterError, match=re.escape(f"a Tensor of shape {tensor.shape} was changed")):
        loss.backward()
    assert all(p.grad is None for p in layer.parameters())


# --- dtype at the door ------------------------------------------------------------------------------------------------


GIVEN = [np.float16, np.float32, np.float64, np.int64, np.uint8, np.bool_, ">f4", list, mr.Tensor]


@grid({"kind": KINDS, "backend": BACKENDS, "dtype": [np.float32, np.float64], "given": GIVEN})
def test_whatever_comes_in_is_cast_to_the_layers_dtype(point):
    kind, dtype, given = point["kind"], point["dtype"], point["given"]
    layer = KINDS[kind](3, 5, backend=point["backend"], dtype=dtype, rng=0)
    x, h0 = np.arange(24).reshape(4, 2, 3) % 2, np.arange(10).reshape(2, 5) % 2
    states = len(layer.state_names)
    expected = flat(layer(x.astype(dtype), (h0.astype(dtype),) * 2 if states == 2 else h0.astype(dtype)))
    cast = {list: np.ndarray.tolist, mr.Tensor: mr.Tensor}.get(given, lambda a: a.astype(given))
    a, b = cast(x), cast(h0)
    results = flat(layer(a, [b, b] if states == 2 else b))
    for t, exact in zip(results, expected, strict=True):
        assert t.dtype == dtype
        np.testing.assert_array_equal(t.numpy(), exact.numpy())
    sum(t.sum() for t in results).backward()
    assert {p.grad.dtype for p in layer.parameters()} == {np.dtype(dtype)}


@grid({"kind": KINDS, "backend": BACKENDS, "batch_first": [False, True], "inside": [np.float32, np.float64]})
def test_a_tensor_of_another_dtype_gets_a_gradient_of_its_own(point):
    problem, options, _ = taken_apart(point)
    inside = options.pop("inside")
    outside = np.float64 if inside == np.float32 else np.float32
    layer, found = problem.layer(**options, dtype=inside), []
    for dtype in (inside, outside):
        x, state = leaf(turned(problem.x, layer).astype(np.float32).astype(dtype)), each(np.float32, problem.state)
        state = each(lambda s, dtype=dtype: leaf(s.astype(dtype)), state)
        results = flat(layer(x, state))
        assert {t.dtype for t in results} == {np.dtype(inside)}
        sum(t.sum() for t in results).backward()
        found.append([x.grad, *(s.grad for s in flat(state))])
    for a, b in zip(*found, strict=True):
        assert b.dtype == outside
        np.testing.assert_allclose(a, b, rtol=1e-6)


def test_a_list_keeps_every_digit_in_a_float64_layer():
    layer = mr.RecurrentLayer(
        1, 1, activation="identity", bias=False, dtype=np.float64, input_initializer="ones", rng=0
    )
    assert layer([[[0.1]]]).outputs.item() == 0.1
    assert layer.step([[0.1]]).item() == 0.1
    layer.W_hh.data = [[1.0]]
    assert layer([[[0.0]]], [[0.1]]).final_state.item() == 0.1


# --- extremes, long sequences, threads --------------------------------------------------------------------------------


@kinds
def test_gates_that_are_wide_open_or_shut_overflow_nowhere(kind):
    """Pre-activations of ±10⁴: e^−z overflows and nobody is warned, σ is 0 or 1, and all gradients are finite."""
    problem = Problem(kind, scale=1e4)
    for dtype, backend in itertools.product((np.float32, np.float64), BACKENDS):
        assert all(np.isfinite(value).all() for value in problem.run(problem.layer(backend, dtype=dtype)).values())


@pytest.mark.parametrize(("backend", "T"), [("fused", 20_000), ("graph", 1_500)])
def test_long_sequences_meet_no_recursion_limit(backend, T):
    layer = mr.RecurrentLayer(1, 2, activation="identity", bias=False, backend=backend, dtype=np.float64, rng=0)
    x = leaf(np.ones((T, 1, 1)))
    layer(x).final_state.sum().backward()
    W_hh = layer.W_hh.data  # orthogonal: the gradient neither vanishes nor explodes on its way
    exact = layer.W_xh.data @ np.linalg.matrix_power(W_hh, T - 1) @ np.ones((2, 1))
    assert x.grad[0, 0, 0] == pytest.approx(exact.item(), rel=1e-8)
    assert x.grad[-1, 0, 0] == pytest.approx((layer.W_xh.data @ np.ones((2, 1))).item(), rel=1e-12)
    gated = mr.LSTMLayer(1, 2, backend=backend, rng=0)
    gated(x[: T // 4]).outputs.sum().backward()
    assert np.isfinite(gated.W_hh.grad).all()


# --- gates that are all but closed ------------------------------------------------------------------------------------

Z = np.linspace(-80, 80, 161)


def with_biases(kind, backend, dtype, **settings):
    """Return a layer whose weights are 0, and its biases by gate, (gates, H)."""
    layer = kind(1, Z.size, backend=backend, dtype=dtype, rng=0, **settings)
    for p in layer.parameters():
        p.data = np.zeros(p.shape)
    return layer, layer.b_h.data.reshape(-1, Z.size)


@pytest.mark.parametrize("lengths", [None, [3, 1]])
@pytest.mark.parametrize("backend", ["graph", "fused"])
@pytest.mark.parametrize(("dtype", "near"), [(np.float32, 2e-6), (np.float64, 2e-14)])
def test_a_gate_that_is_all_but_closed_keeps_its_digits(backend, dtype, near, lengths):
    """What σ lets through is right in relative terms, over the whole of −80 … 80, in values and in gradients."""
    x, one = np.zeros((3, 2, 1), dtype), np.ones((2, Z.size), dtype)
    sigma = 1 / (1 + np.exp(-Z.astype(np.longdouble)))
    steps = np.array([3, 3] if lengths is None else lengths)[:, None]

    elman, (z,) = with_biases(mr.RecurrentLayer, backend, dtype, activation="sigmoid")
    z[:] = Z
    lstm, (i, _, g, o) = with_biases(mr.LSTMLayer, backend, dtype)
    i[:], g[:], o[:] = Z, 1e-3, 80  # f = ½
    gru, (_, u, _) = with_biases(mr.GRULayer, backend, dtype)
    u[:] = Z
    before, (_, u_before, _) = with_biases(mr.GRULayer, backend, dtype, reset_after=False)
    u_before[:] = Z
    reset, (r, u, _) = with_biases(mr.GRULayer, backend, dtype)
    r[:], u[:], reset.b_hn.data[:] = Z, -80, 1e-3

    found = {
        "Elman": (elman(x, lengths=lengths).final_state, sigma + 0 * steps),
        "i": (lstm(x, lengths=lengths).final_state[1], sigma * np.tanh(1e-3) * (2 - 0.5 ** (steps - 1))),
        "z": (gru(x, one, lengths=lengths).final_state, sigma**steps),
        "z, reset before": (before(x, one, lengths=lengths).final_state, sigma**steps),
        "r": (reset(x, lengths=lengths).final_state, np.tanh(sigma * 1e-3) + 0 * steps),
    }
    for name, (state, exact) in found.items():
        with noted(name):
            normal = exact > 10 * np.finfo(dtype).tiny  # below that dtype's own digits end
            np.testing.assert_allclose(state.numpy()[normal], exact.astype(float)[normal], rtol=3 * near)
    exact = sigma * (1 - sigma)
    slope = mr.grad(elman(x[:1, :1]).outputs.sum(), elman.b_h)[0].numpy()
    np.testing.assert_allclose(slope[Z <= 0], exact.astype(float)[Z <= 0], rtol=near)
