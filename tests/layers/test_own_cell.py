"""A cell of one's own in the layer's unroll: its step pair against its equation, and what is no cell."""

import functools

import numpy as np
import pytest
from error_texts import raises
from recurrent_cases import LENGTHS, SEQUENCES, UGRNN, Coupled, Problem, assert_equal

import minirnn as mr


class Leaky(mr.Cell):
    """The equation alone, and of three states: h, its mean over time, and how often it was there."""

    states = 3

    def equation(self, z, h, mean, count):
        new = 0.5 * h + 0.5 * mr.tanh(z + mean)
        return new, (mean * count + new) / (count + 1.0), count + 1.0


class StepOnly(mr.Cell):
    """The pair alone: tanh."""

    def step(self, z, h):
        return (np.tanh(z),), np.tanh(z)

    def step_backward(self, d_state, saved):
        return d_state[0] * (1 - saved**2), (np.zeros_like(saved),)


# --- the pair and the equation ----------------------------------------------------------------------------------------


def test_a_wrong_pair_is_caught():
    class Wrong(UGRNN):
        def step_backward(self, d_state, saved):
            dz, (d,) = super().step_backward(d_state, saved)
            return dz, (d * 1.001,)

    problem = Problem(functools.partial(mr.RecurrentLayer, cell=Wrong()))
    inputs, names, f = problem.inputs(problem.layer())
    with pytest.raises(mr.GradcheckError, match="is wrong at"):
        mr.gradcheck(f, inputs, names=names)


DEFINE = "define equation(z, *state), which returns the new state, or for backend='fused' alone step and step_backward"


def test_a_cell_with_the_equation_alone_needs_the_graph_backend():
    layer = mr.RecurrentLayer(2, 4, cell=Leaky(), backend="graph", dtype=np.float64, rng=0)
    rng = np.random.default_rng(0)
    x, state = (mr.Tensor(rng.standard_normal(shape), requires_grad=True) for shape in ((5, 3, 2), (3, 4)))
    state = (state, mr.Tensor(0.1 * state.data, requires_grad=True), np.ones((3, 4)))
    _, final_state = layer(x, state, lengths=LENGTHS)
    np.testing.assert_array_equal(final_state[2].numpy(), 1.0 + np.array(LENGTHS)[:, None] * np.ones(4))
    assert mr.gradcheck(lambda *_: layer(x, state, lengths=LENGTHS), [x, *state[:2], *layer.parameters()])
    (g,) = mr.grad(layer(x, state).outputs.sum(), x, create_graph=True)
    (g**2).sum().backward()
    message = "RecurrentLayer: Cell.equation is not defined: " + DEFINE
    with raises(TypeError, message):
        mr.RecurrentLayer(2, 4, cell=mr.Cell())


EQUATION = (
    "StepOnly: backend='graph', step() and create_graph need equation(z, *state): define it with Tensors and minirnn's "
    "functions"
)


def test_a_cell_with_the_pair_alone_needs_the_fused_backend():
    layer = mr.RecurrentLayer(2, 4, cell=StepOnly(), dtype=np.float64, rng=0)
    x = mr.Tensor(np.random.default_rng(0).standard_normal((5, 3, 2)), requires_grad=True)
    assert mr.gradcheck(lambda *_: layer(x, lengths=LENGTHS), [x, *layer.parameters()])
    with raises(NotImplementedError, EQUATION):
        layer.step(np.ones((3, 2)))
    loss = (layer(x).outputs ** 2).sum()
    with raises(NotImplementedError, EQUATION):
        mr.grad(loss, x, create_graph=True)
    assert x.grad is None
    loss.backward()  # the first order is still there
    assert x.grad.any()
    message = "RecurrentLayer: StepOnly.equation is not defined: " + DEFINE
    with raises(TypeError, message):
        mr.RecurrentLayer(2, 4, cell=StepOnly(), backend="graph")


def test_half_a_pair_is_none():
    class Half(mr.Cell):
        def step(self, z, h):
            return (np.tanh(z),), None

    message = (
        "RecurrentLayer: backend='fused' needs Half.step_backward beside Half.step, which is not defined: define it, "
        "or leave step out: equation is enough"
    )
    with raises(TypeError, message):
        mr.RecurrentLayer(2, 4, cell=Half())


@pytest.mark.parametrize("call", [lambda c, a: c.step(a, a), lambda c, a: c.step_backward((a,), a), mr.Cell.equation])
def test_the_plain_cell_says_what_to_define(call):
    with pytest.raises(NotImplementedError, match=r"^Cell: .*(define them|define it)"):
        call(mr.Cell(), np.zeros((3, 4)))


# --- what a cell gets, and what it may do with it ---------------------------------------------------------------------


class Vandal(UGRNN):
    """Writes into all that it is handed, when it is done with it; and a step later, into that and what it returned."""

    def __init__(self):
        self.old = []

    def _ruin(self, arrays, results):
        for a in self.old:
            a[...] = np.nan
        for a in arrays:
            assert a.flags.writeable
            a[...] = np.nan
        self.old = [*arrays, *results]

    def step(self, z, h):
        (new,), (u, n, h) = super().step(z, h)
        saved = u, n, h.copy()
        self._ruin((z, h), [new])
        return (new,), saved

    def step_backward(self, d_state, saved):
        dz, (d,) = super().step_backward(d_state, saved)
        self._ruin(d_state, [dz, d])
        return dz, (d,)


@pytest.mark.parametrize("sequences", SEQUENCES)
@pytest.mark.parametrize("remat", [False, 2])
def test_a_cell_gets_arrays_of_its_own(remat, sequences):
    for shape in ("N=1", "D≠H≠N≠T") if sequences == "full" else ("D≠H≠N≠T",):
        vandal = Problem(functools.partial(mr.RecurrentLayer, cell=Vandal()), shape, remat=remat)
        tame = vandal.layer(cell=UGRNN())
        call = SEQUENCES[sequences]
        assert_equal(vandal.run(**call), vandal.run(tame, **call), 0)


@pytest.mark.parametrize("N", [1, 3])
def test_what_a_cell_gets_it_may_keep(N):
    """Scratch that the next step writes into would be no use to a cell that looks back on what it has seen."""
    saved = []

    class Keeps(Coupled):
        def step(self, z, h, c):
            saved.extend((a, a.copy()) for a in (z, h, c))
            return super().step(z, h, c)

        def step_backward(self, d_state, own):
            saved.extend((a, a.copy()) for a in d_state)
            return super().step_backward(d_state, own)

    layer = mr.RecurrentLayer(2, 4, cell=Keeps(), rng=0)
    outputs, _ = layer(np.random.default_rng(0).standard_normal((5, N, 2)), lengths=[5, 3, 4][:N])
    outputs.sum().backward()
    assert len(saved) >= 5 * (3 + 2)
    for a, then in saved:
        np.testing.assert_array_equal(a, then)


@pytest.mark.parametrize("N", [1, 3])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_what_a_cell_gets(dtype, N):
    """Rows first, the layer's dtype, the state as it was, and Z = x W_xh + h W_hh + b_h."""
    seen = []

    class Looks(StepOnly):
        def step(self, z, h):
            seen.append((z.copy(), h.copy()))
            return super().step(z, h)

        def step_backward(self, d_state, saved):
            assert isinstance(d_state, tuple)
            assert [(d.shape, d.dtype) for d in d_state] == [((N, 4), dtype)]
            return super().step_backward(d_state, saved)

    layer = mr.RecurrentLayer(2, 4, cell=Looks(), dtype=dtype, rng=0)
    rng = np.random.default_rng(0)
    x, h0 = rng.standard_normal((5, N, 2)).astype(dtype), rng.standard_normal((N, 4)).astype(dtype)
    outputs, _ = layer(x, h0)
    outputs.sum().backward()
    before = [h0, *outputs.numpy()[:-1]]
    assert len(seen) == 5
    for x_t, h, (z, given) in zip(x, before, seen, strict=True):
        assert z.dtype == given.dtype == dtype
        np.testing.assert_array_equal(given, h)
        expected = x_t @ layer.W_xh.data + h @ layer.W_hh.data + layer.b_h.data
        np.testing.assert_allclose(z, expected, rtol=0, atol=1e-6 if dtype == np.float32 else 1e-14)


# --- what a cell returns ----------------------------------------------------------------------------------------------


def returning(step=None, step_backward=None):
    class Mine(StepOnly):
        pass

    if step is not None:
        Mine.step = lambda self, z, h: step(z)
    if step_backward is not None:
        Mine.step_backward = lambda self, d_state, saved: step_backward(d_state[0])
    return mr.RecurrentLayer(2, 4, cell=Mine(), rng=0)


COMMA = "try a comma, as in (h,)"
ENTRIES = "a cell works entry by entry"
OF = "an array of shape"
NEW = "Mine.step: new state must be a tuple of 1, got"
NEW_SHAPE = "Mine.step: new state must have shape ({N}, 4) and dtype float32, got"
PAIR = "Mine.step: (new state, saved) must be a tuple of 2, got"
DZ = "Mine.step_backward: dz must have shape ({N}, 4) and dtype float32, got"
D_STATE = "Mine.step_backward: d_state must be a tuple of 1, got"
D_SHAPE = "Mine.step_backward: d_state must have shape ({N}, 4) and dtype float32, got"


@pytest.mark.parametrize(
    ("step", "kind", "message"),
    [
        (np.tanh, TypeError, f"{PAIR} ndarray: try return (h,), (z, h)"),
        (lambda z: (z,), TypeError, f"{PAIR} 1 of them: try return (h,), (z, h)"),
        (lambda z: (z, z), TypeError, f"{NEW} ndarray: {COMMA}"),
        (lambda z: ((z, z), z), TypeError, f"{NEW} 2 of them: {COMMA}"),
        (lambda z: ((z[:, :2],), z), ValueError, f"{NEW_SHAPE} {OF} ({{N}}, 2) and dtype float32: {ENTRIES}"),
        (lambda z: ((z.astype(float),), z), ValueError, f"{NEW_SHAPE} {OF} ({{N}}, 4) and dtype float64: {ENTRIES}"),
        (lambda z: ((1.0,), z), ValueError, f"{NEW_SHAPE} 1.0 (float): {ENTRIES}"),
    ],
)
def test_what_step_must_return(step, kind, message):
    layer = returning(step=step)
    for N in (1, 3):
        with raises(kind, message.format(N=N)):
            layer(np.ones((5, N, 2)))
    layer.cell.__class__.step = StepOnly.step  # nothing is left over of the call that failed
    expected = mr.RecurrentLayer(2, 4, rng=0)(np.ones((5, 3, 2))).outputs.numpy()
    np.testing.assert_allclose(layer(np.ones((5, 3, 2))).outputs.numpy(), expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("step_backward", "kind", "message"),
    [
        (
            lambda d: d,
            TypeError,
            "Mine.step_backward: (dz, d_state) must be a tuple of 2, got ndarray: try return dz, (d_h,)",
        ),
        (lambda d: (d, d), TypeError, f"{D_STATE} ndarray: {COMMA}"),
        (lambda d: (d, (d, d)), TypeError, f"{D_STATE} 2 of them: {COMMA}"),
        (lambda d: (d[:, :3], (d,)), ValueError, f"{DZ} {OF} ({{N}}, 3) and dtype float32: {ENTRIES}"),
        (lambda d: (d.astype(float), (d,)), ValueError, f"{DZ} {OF} ({{N}}, 4) and dtype float64: {ENTRIES}"),
        (lambda d: (d, (d.T,)), ValueError, f"{D_SHAPE} {OF} (4, {{N}}) and dtype float32: {ENTRIES}"),
        (lambda d: (d, (0,)), ValueError, f"{D_SHAPE} 0 (int): {ENTRIES}"),
    ],
)
def test_what_step_backward_must_return(step_backward, kind, message):
    layer = returning(step_backward=step_backward)
    for N in (1, 3):
        loss = layer(np.ones((5, N, 2))).outputs.sum()
        with raises(kind, message.format(N=N)):
            loss.backward()
    assert all(p.grad is None for p in layer.parameters())


STATE = "Mine.equation: new state must be"
OPS = "use minirnn's functions and Tensor's methods, which know their derivatives"


@pytest.mark.parametrize(
    ("equation", "kind", "message"),
    [
        (mr.tanh, TypeError, f"{STATE} a tuple of 1, got Tensor: {COMMA}"),
        (lambda z: (z, z), TypeError, f"{STATE} a tuple of 1, got 2 of them: {COMMA}"),
        (lambda z: (z[:, :2],), ValueError, f"{STATE} Tensors of shape (3, 4), got (3, 2): {ENTRIES}"),
        (lambda z: (0.5,), ValueError, f"{STATE} Tensors of shape (3, 4), got 0.5 (float): {OPS}"),
        (
            lambda z: (np.tanh(z.numpy()),),
            ValueError,
            f"{STATE} Tensors of shape (3, 4), got an array of shape (3, 4) and dtype float32: {OPS}",
        ),
    ],
)
def test_what_the_equation_must_return(equation, kind, message):
    class Mine(mr.Cell):
        def equation(self, z, h):
            return equation(z)

    layer = mr.RecurrentLayer(2, 4, cell=Mine(), backend="graph", rng=0)
    for call in (lambda: layer(np.ones((5, 3, 2))), lambda: layer.step(np.ones((3, 2)))):
        with raises(kind, message):
            call()


# --- what is no cell, and what a layer says of one --------------------------------------------------------------------


def with_sizes(**attributes):
    return type("Sized", (StepOnly,), attributes)()


NO_CELL = "cell must be a minirnn.Cell, got"
BESIDE = "would do nothing beside cell=UGRNN, which makes the new state itself: leave one of the two out"


@pytest.mark.parametrize(
    ("options", "kind", "message"),
    [
        ({"cell": UGRNN}, TypeError, f"{NO_CELL} {UGRNN!r}: an instance, not the class"),
        ({"cell": "lstm"}, TypeError, f"{NO_CELL} 'lstm': subclass minirnn.Cell"),
        ({"cell": UGRNN(), "activation": "relu"}, ValueError, f"activation='relu' {BESIDE}"),
        ({"cell": UGRNN(), "init": "irnn"}, ValueError, f"init='irnn' {BESIDE}"),
        ({"cell": with_sizes(blocks=0)}, ValueError, "Sized.blocks must be an int ≥ 1, got 0: try 1 or more"),
        ({"cell": with_sizes(states=1.0)}, TypeError, "Sized.states must be an int ≥ 1, got 1.0 (float): try 1"),
    ],
)
def test_what_is_no_cell(options, kind, message):
    rng = np.random.default_rng(0)
    before = rng.bit_generator.state
    with raises(kind, f"RecurrentLayer: {message}"):
        mr.RecurrentLayer(3, 5, **{"rng": rng} | options)
    assert rng.bit_generator.state == before


def test_the_state_of_a_cell_with_several():
    layer = mr.RecurrentLayer(2, 4, cell=Coupled(), rng=0)
    h = np.zeros((3, 4))
    cure = "pass what the layer returned as final_state, or None"
    expected = "RecurrentLayer: initial_state must be a pair (h, s1), each (N=3, H=4), got"
    with raises(TypeError, f"{expected} an array of shape (3, 4) and dtype float64: {cure}"):
        layer(np.ones((5, 3, 2)), h)
    of_s1 = "RecurrentLayer: initial_state[1] must have shape (N=3, H=4)"
    with raises(ValueError, f"{of_s1}, got (3, 5): one state for each row of x"):
        layer(np.ones((5, 3, 2)), (h, np.zeros((3, 5))))
    three = mr.RecurrentLayer(2, 4, cell=Leaky(), backend="graph", rng=0)
    expected = "RecurrentLayer: initial_state must be a triple (h, s1, s2), each (N=3, H=4), got"
    with raises(TypeError, f"{expected} 2 of them: {cure}"):
        three(np.ones((5, 3, 2)), (h, h))


def test_counting_and_repr(capsys):
    layer = mr.RecurrentLayer(2, 4, cell=Coupled(), learn_initial_state=True, rng=0)
    assert layer.count_params() == 3 * 4 * (2 + 4 + 1) + 2 * 4
    expected = "RecurrentLayer(2, 4, cell=Coupled, backend='fused', learn_initial_state=True, dtype=float32)"
    assert repr(layer) == expected
    count = layer.count()
    assert (count.total, count.formula, count.reconciliation()) == (84, "3·n·m + 3·n·n + 3·n", [])
    mr.Stacked([layer, mr.LSTMLayer(4, 3)]).summary()
    lines = capsys.readouterr().out.splitlines()
    rows = {line.split()[0]: int(line.split()[-1]) for line in lines[2:7]}
    assert rows == {"0.W_xh": 24, "0.W_hh": 48, "0.b_h": 12, "0.h_0": 4, "0.s1_0": 4}
    assert sum("in other libraries:" in line for line in lines) == 1  # of the LSTM only
