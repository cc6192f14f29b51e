"""LSTMLayer and GRULayer: both backends against each other, the textbook and numerical derivatives.

``python tests/layers/test_family.py`` prints the size of the grid and the worst errors in it.
"""

import copy
import functools
import itertools
import zlib
from typing import NamedTuple

import numpy as np
import pytest
from error_texts import raises

import minirnn as mr
from minirnn import counting, init, textbook
from minirnn.kernels import unroll
from minirnn.layers import threads

CELLS = {"lstm": mr.LSTMLayer, "gru": mr.GRULayer, "gru before": functools.partial(mr.GRULayer, reset_after=False)}
SHAPES = {"T=1": (1, 3, 2, 4), "N=1": (5, 1, 2, 4), "D≠H≠N≠T": (5, 3, 2, 4), "D>H": (3, 2, 7, 5), "all 1": (1, 1, 1, 1)}
BACKENDS = ["fused", "graph"]
GATES = {"lstm": 4, "gru": 3, "gru before": 3}
EXTRA = {"lstm": 0, "gru": 1, "gru before": 0}  # arrays (H,) beside W_xh, W_hh, b_h


class Config(NamedTuple):
    """One point of the grid; ``shape`` is T, N, D, H, or a name of SHAPES."""

    cell: str
    bias: bool = True
    reverse: bool = False
    batch_first: bool = False
    shape: str | tuple[int, ...] = "D≠H≠N≠T"


GRID = [Config(*point) for point in itertools.product(CELLS, *[[True, False]] * 3, SHAPES)]
CLASSES = [config for config in GRID if config.shape == "D≠H≠N≠T"]
TIME_MAJOR = [config for config in CLASSES if not config.batch_first]


def losses(cell):
    """Return what each loss is made of: outputs, final h and, for an LSTM, final c."""
    found = {"all": (1, 1, 1), "outputs": (1, 0, 0), "final h": (0, 1, 0), "final c": (0, 0, 1)}
    return found if cell == "lstm" else {name: of[:2] for name, of in found.items() if name != "final c"}


def spell(config):
    return "-".join([config.cell, *(n for n in ("bias", "reverse", "batch_first") if getattr(config, n)), config.shape])


def flat(state):
    """Return the arrays or Tensors of a state, whatever it is nested in."""
    return [t for part in state for t in flat(part)] if isinstance(state, tuple | list) else [state]


def each(f, state):
    """Return a state with every array in it replaced."""
    return tuple(each(f, part) for part in state) if isinstance(state, tuple | list) else f(state)


def turned(array, layer):
    """Exchange the time-major layout for the layer's own, and back."""
    return array.swapaxes(0, 1) if layer.batch_first else array


def leaf(array):
    return mr.Tensor(array.copy(), requires_grad=True)


def evaluate(layer, x, state, v, u, lengths=None, reset=None, weights=None):
    """Return outputs, final state and all gradients of Σ v·outputs + Σ u·final state, by name and time-major.

    ``state`` may be None; ``weights`` tells which of outputs, h, c, … are in the loss.
    """
    layer.zero_grad()
    x, state = leaf(turned(x, layer)), None if state is None else each(leaf, state)
    reset = None if reset is None else turned(reset, layer)
    outputs, final_state = layer(x, state, lengths, reset=reset)
    terms = list(zip([outputs, *flat(final_state)], [turned(v, layer), *u], strict=True))
    chosen = [(t, w) for (t, w), on in zip(terms, weights or [1] * len(terms), strict=True) if on]
    sum((t * w).sum() for t, w in chosen).backward()
    found = {"outputs": turned(outputs.numpy(), layer), "x": turned(x.grad, layer)}
    found |= {f"final {i}": t.numpy() for i, t in enumerate(flat(final_state))}
    found |= {} if state is None else {f"initial {i}": t.grad for i, t in enumerate(flat(state))}
    return found | {name: p.grad for name, p in layer.named_parameters()}


class Problem:
    """Random inputs, weights and loss for one configuration; nothing in it is zero, time comes first throughout."""

    def __init__(self, config, dtype=np.float64, scale=1.0, make=None):
        T, N, D, H = self.sizes = SHAPES.get(config.shape, config.shape)
        self.config, self.dtype, self.make = config, dtype, make or CELLS[config.cell]
        self.rng = np.random.default_rng(zlib.crc32(repr(config).encode()))
        layer = self._made()
        self.x, self.v = self._draw(T, N, D), self._draw(T, N, H)
        self.state, self.u = ([self._draw(N, H) for _ in layer.state_names] for _ in range(2))
        self.parameters = {p.name: scale * self._draw(*p.shape) for p in layer.parameters()}

    def _draw(self, *shape):
        return self.rng.standard_normal(shape).astype(self.dtype)

    def _made(self, **options):
        c, (_, _, D, H) = self.config, self.sizes
        settings = {"bias": c.bias, "reverse": c.reverse, "batch_first": c.batch_first, "dtype": self.dtype, "rng": 0}
        return self.make(D, H, **settings | options)

    def layer(self, backend, **options):
        layer = self._made(backend=backend, **options)
        for p in layer.parameters():
            p.data = self.parameters[p.name].copy() if p.name in self.parameters else p.data
        return layer

    def leaves(self, layer):
        """Return x and the state as Tensors in the layer's layout, and the state as the layer takes it."""
        x, state = leaf(turned(self.x, layer)), [leaf(s) for s in self.state]
        return x, state, tuple(state) if len(state) > 1 else state[0]

    def inputs(self, layer):
        """Return all leaves, their names, and a function of them all."""
        x, state, given = self.leaves(layer)
        names = ["x", *(f"initial {i}" for i in range(len(state))), *(p.name for p in layer.parameters())]
        return [x, *state, *layer.parameters()], names, lambda *_, **settings: layer(x, given, **settings)

    def run(self, layer, **settings):
        state = tuple(self.state) if len(self.state) > 1 else self.state[0]
        return evaluate(layer, self.x, state, self.v, self.u, **settings)

    def textbook(self, weights):
        """Return the same from the textbook, in float64; reversed, it is given time turned round."""
        c, p = self.config, self.parameters
        G, H = GATES[c.cell], len(p["W_hh"])
        turn = slice(None, None, -1 if c.reverse else 1)
        arguments = self.x[turn], *self.state, p["W_xh"], p["W_hh"], p.get("b_h", np.zeros(G * H))
        v, *u = (w * a for w, a in zip(weights, [self.v[turn], *self.u], strict=True))
        if c.cell == "lstm":
            hs = textbook.unroll_lstm(*arguments)
            g = textbook.unroll_lstm_backward(*arguments, v, *u)
        else:
            after = c.cell == "gru"
            arguments += (p.get("b_hn") if after else None,)
            hs = (textbook.unroll_gru(*arguments, reset_after=after),)
            g = textbook.unroll_gru_backward(*arguments, v, *u, reset_after=after)
        found = {"outputs": hs[0][turn], "x": g.x[turn]} | {f"final {i}": h[-1] for i, h in enumerate(hs)}
        found |= {f"initial {i}": getattr(g, name) for i, name in enumerate(["h_0", "c_0"][: len(hs)])}
        return found | {name: getattr(g, name) for name in p}


def relative_error(value, exact):
    """Return the largest difference in units of the largest entry."""
    assert value.shape == exact.shape
    scale = np.abs(exact).max()
    assert scale > 0, "nothing to compare"
    return float(np.abs(value - exact).max() / scale)


def assert_equal(found, expected, tolerance=1e-12):
    """Compare two results of `evaluate`; with a tolerance of 0, bit for bit, NaN included."""
    assert set(found) == set(expected)
    for name, exact in expected.items():
        if tolerance:
            assert relative_error(found[name], exact) <= tolerance, name
        else:
            np.testing.assert_array_equal(found[name], exact, err_msg=name)


# --- fused = graph = textbook -----------------------------------------------------------------------------------------


@functools.cache
def errors_of(config, dtype=np.float64):
    """Return {(which two, loss, quantity): relative error} for one configuration."""
    problem, errors = Problem(config, dtype), {}
    layers = {backend: problem.layer(backend) for backend in BACKENDS}
    for loss, weights in losses(config.cell).items():
        found = {backend: problem.run(layer, weights=weights) for backend, layer in layers.items()}
        for backend in BACKENDS:
            assert {value.dtype for value in found[backend].values()} == {np.dtype(dtype)}
        found["textbook"] = problem.textbook(weights)
        for one, two in itertools.combinations(found, 2):
            assert set(found[one]) == set(found[two])
            for name, value in found[one].items():
                errors[f"{one} = {two}", loss, name] = relative_error(value, found[two][name])
    return errors


def quantities(config):
    """Return how many arrays are compared: outputs, x, the states at both ends, the parameters."""
    return 2 + 2 * (2 if config.cell == "lstm" else 1) + 2 + config.bias * (1 + EXTRA[config.cell])


def worst_errors():
    """Return the number of configurations, of comparisons, and the worst relative error of each two by quantity."""
    worst, comparisons = {}, 0
    for config in GRID:
        for (which, _, name), error in errors_of(config).items():
            worst[which, name] = max(error, worst.get((which, name), 0.0))
            comparisons += 1
    return len(GRID), comparisons, worst


@pytest.mark.parametrize("config", GRID, ids=spell)
def test_fused_is_graph_is_textbook(config):
    errors = errors_of(config)
    assert len(errors) == 3 * len(losses(config.cell)) * quantities(config)
    assert max(errors.values()) <= 1e-12, max(errors.items(), key=lambda item: item[1])


def test_the_size_of_the_grid_and_its_worst_errors():
    """To see them: ``pytest -s -k worst_errors`` or ``python tests/layers/test_family.py``."""
    configurations, comparisons, worst = worst_errors()
    report(configurations, comparisons, worst)
    assert configurations == 3 * 2 * 2 * 2 * 5
    assert comparisons == 20 * 3 * (4 * (9 + 8) + 3 * (8 + 6) + 3 * (7 + 6))
    assert {name for _, name in worst} == set(QUANTITIES)
    assert 0 < max(worst.values()) <= 1e-12


@pytest.mark.parametrize("config", CLASSES, ids=spell)
def test_float32_is_the_same_to_its_own_precision(config):
    """The problem itself is rounded to float32, so only the arithmetic differs; `errors_of` asserts the dtypes."""
    errors = errors_of(config, np.float32)
    assert max(errors.values()) <= 5e-5, max(errors.items(), key=lambda item: item[1])


@pytest.mark.parametrize("cell", CELLS)
def test_the_backends_are_two_ways_indeed(cell, monkeypatch):
    """Fused is one node and a kernel, graph an op for every operation; else their agreement would say nothing."""
    problem = Problem(Config(cell))
    fused, graph = (problem.layer(backend) for backend in BACKENDS)
    assert repr(fused(problem.x).outputs).endswith(f"op={fused.name})")
    assert repr(graph(problem.x).outputs).endswith("op=stack)")
    monkeypatch.setattr(unroll, "forward", None)
    graph(problem.x).outputs.sum().backward()
    with pytest.raises(TypeError, match="'NoneType' object is not callable"):
        fused(problem.x)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("config", CLASSES, ids=spell)
def test_no_initial_state_is_a_state_of_zeros(config, backend):
    problem = Problem(config)
    problem.state = [np.zeros_like(s) for s in problem.state]
    layer = problem.layer(backend)
    x, _, zeros = problem.leaves(layer)
    for one, two in zip(flat(layer(x)), flat(layer(x, zeros)), strict=True):
        np.testing.assert_array_equal(one.numpy(), two.numpy())


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("config", CLASSES, ids=spell)
def test_what_the_final_state_is(config, backend):
    """The output of the step processed last, as a copy of its own; for an LSTM a pair by name."""
    problem = Problem(config)
    layer = problem.layer(backend)
    x, _, state = problem.leaves(layer)
    outputs, final_state = layer(x, state)
    assert type(final_state) is (mr.LSTMState if config.cell == "lstm" else mr.Tensor)
    h = final_state.h if config.cell == "lstm" else final_state
    np.testing.assert_array_equal(h.numpy(), turned(outputs.numpy(), layer)[0 if config.reverse else -1])
    arrays = [outputs.numpy(), *(t.numpy() for t in flat(final_state)), *(t.numpy() for t in flat(state))]
    assert not any(np.shares_memory(a, b) for a, b in itertools.combinations(arrays, 2))


# --- numerical derivatives --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("config", TIME_MAJOR, ids=spell)
def test_every_gradient_by_central_differences(config, backend):
    """`gradcheck` takes all that f returns, outputs and final states, into its loss."""
    inputs, names, f = Problem(config).inputs(Problem(config).layer(backend))
    assert mr.gradcheck(f, inputs, names=names)


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("settings", [{"lengths": [2, 5, 4]}, {"reset": np.arange(15).reshape(5, 3) % 4 == 3}])
def test_every_gradient_with_lengths_and_resets(settings, cell):
    problem = Problem(Config(cell))
    inputs, names, f = problem.inputs(problem.layer("fused"))
    assert mr.gradcheck(lambda *_: f(**settings), inputs, names=names)


def scaled(name):
    def wrong(g):
        return g._replace(**{name: getattr(g, name) * 1.001})

    return wrong


def a_state_scaled(i):
    def wrong(g):
        return g._replace(state=[s * 1.001 if j == i else s for j, s in enumerate(g.state)])

    return wrong


def gates_exchanged(g):
    """Put the first gate's block of dW_hh where the second's belongs."""
    H = len(g.W_hh)
    return g._replace(W_hh=np.concatenate([g.W_hh[:, H : 2 * H], g.W_hh[:, :H], g.W_hh[:, 2 * H :]], axis=1))


WRONG = {name: scaled(name) for name in ("x", "W_xh", "W_hh", "b_h", "b_hn")}
WRONG |= {"initial 0": a_state_scaled(0), "initial 1": a_state_scaled(1), "exchanged": gates_exchanged}
WRONG_IN = [("lstm", n) for n in WRONG if n != "b_hn"] + [("gru", n) for n in WRONG if n != "initial 1"]
WRONG_IN += [("gru before", n) for n in WRONG if n not in ("initial 1", "b_hn")]


@pytest.mark.parametrize(("cell", "wrong"), WRONG_IN)
def test_a_wrong_kernel_is_caught(cell, wrong, monkeypatch):
    """No check is believed until it has rejected a wrong gradient."""
    problem = Problem(Config(cell))
    inputs, names, f = problem.inputs(problem.layer("fused"))
    original = unroll.backward
    monkeypatch.setattr(unroll, "backward", lambda *arguments: WRONG[wrong](original(*arguments)))
    with pytest.raises(mr.GradcheckError, match=f"gradient of {'W_hh' if wrong == 'exchanged' else wrong} is wrong"):
        mr.gradcheck(f, inputs, names=names)


@pytest.mark.parametrize(("cell", "forgotten"), [("lstm", 2), *itertools.product(CELLS, [0, 1])])
def test_a_kernel_that_forgets_what_comes_in_is_caught(cell, forgotten, monkeypatch):
    """Outputs, h and c can each bring a gradient."""
    problem = Problem(Config(cell))
    inputs, names, f = problem.inputs(problem.layer("fused"))
    original = unroll.backward

    def wrong(d_outputs, d_final, *rest):
        if forgotten == 0:
            return original(None, d_final, *rest)
        return original(d_outputs, [None if i + 1 == forgotten else d for i, d in enumerate(d_final)], *rest)

    monkeypatch.setattr(unroll, "backward", wrong)
    with pytest.raises(mr.GradcheckError, match="is wrong at"):
        mr.gradcheck(f, inputs, names=names)


# --- second order -----------------------------------------------------------------------------------------------------

LENGTHS = [None, [2, 5, 4]]


def curved(problem, layer, result):
    """Return a loss whose second derivative is not only the layer's."""
    outputs, final_state = result
    total = (outputs**2 * turned(problem.v, layer)).sum()
    return total + sum((mr.exp(0.5 * s) * u).sum() for s, u in zip(flat(final_state), problem.u, strict=True))


def hessian_vector(problem, layer, inputs, f, directions):
    first = mr.grad(curved(problem, layer, f()), inputs, create_graph=True)
    along = sum((g * v).sum() for g, v in zip(first, directions, strict=True))
    return [g.numpy() for g in mr.grad(along, inputs)]


def differences_of_gradients(problem, layer, inputs, f, directions, eps=1e-5):
    """Return the central difference of the first-order gradients along the directions: the Hessian times them."""
    values, sides = [t.data.copy() for t in inputs], []
    for sign in (1, -1):
        for t, value, v in zip(inputs, values, directions, strict=True):
            t.data = value + sign * eps * v
        sides.append([g.numpy() for g in mr.grad(curved(problem, layer, f()), inputs)])
    for t, value in zip(inputs, values, strict=True):
        t.data = value
    return [(a - b) / (2 * eps) for a, b in zip(*sides, strict=True)]


@pytest.mark.parametrize("lengths", LENGTHS, ids=["full", "ragged"])
@pytest.mark.parametrize("config", CLASSES, ids=spell)
def test_second_order_through_the_whole_unroll(config, lengths):
    problem, found = Problem(config, scale=0.5), {}
    for backend in BACKENDS:
        layer = problem.layer(backend)
        inputs, names, f = problem.inputs(layer)
        f = functools.partial(f, lengths=lengths)
        directions = [np.random.default_rng(1).standard_normal(t.shape) for t in inputs]
        found[backend] = hessian_vector(problem, layer, inputs, f, directions)
        numerical = differences_of_gradients(problem, layer, inputs, f, directions)
        for name, a, b in zip(names, found[backend], numerical, strict=True):
            np.testing.assert_allclose(a, b, rtol=0, atol=1e-7 * np.abs(b).max(), err_msg=f"{backend}: {name}")
    for name, a, b in zip(names, *found.values(), strict=True):
        assert relative_error(a, b) <= 1e-12, name


@pytest.mark.parametrize("cell", CELLS)
def test_every_entry_of_the_second_order(cell):
    """`gradcheck` of the gradient itself: the whole Hessian, projected."""
    problem = Problem(Config(cell, reverse=True, shape=(3, 1, 2, 2)), scale=0.5)
    layer = problem.layer("fused")
    inputs, names, f = problem.inputs(layer)
    assert mr.gradcheck(lambda *_: mr.grad(curved(problem, layer, f()), inputs, create_graph=True), inputs, names=names)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("cell", CELLS)
def test_create_graph_gives_the_first_order_too_and_touches_no_grad(cell, backend):
    problem = Problem(Config(cell))
    layer = problem.layer(backend)
    inputs, names, f = problem.inputs(layer)
    loss = curved(problem, layer, f())
    recorded = mr.grad(loss, inputs, create_graph=True)
    plain = mr.grad(loss, inputs)
    assert all(t.grad is None for t in inputs)
    for name, a, b in zip(names, recorded, plain, strict=True):
        assert relative_error(a.numpy(), b.numpy()) <= 1e-12, name


# --- one step, two halves, segments, threads --------------------------------------------------------------------------


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("config", CLASSES, ids=spell)
def test_steps_are_the_layer(config, backend):
    """Step after step gives the same outputs and the same gradients as the whole sequence at once."""
    problem = Problem(config)
    layer = problem.layer(backend)
    whole = problem.run(layer)
    layer.zero_grad()
    x, first = leaf(problem.x), [leaf(s) for s in problem.state]
    state, outputs, loss = tuple(first) if len(first) > 1 else first[0], {}, 0.0
    order = range(len(problem.x))
    for t in reversed(order) if config.reverse else order:
        state = layer.step(x[t], state)
        outputs[t] = layer.last_output(state)
        loss = loss + (outputs[t] * problem.v[t]).sum()
    (loss + sum((s * u).sum() for s, u in zip(flat(state), problem.u, strict=True))).backward()
    assert type(state) is (mr.LSTMState if config.cell == "lstm" else mr.Tensor)
    found = {"outputs": np.stack([outputs[t].numpy() for t in order]), "x": x.grad}
    found |= {f"final {i}": s.numpy() for i, s in enumerate(flat(state))}
    found |= {f"initial {i}": s.grad for i, s in enumerate(first)} | {p.name: p.grad for p in layer.parameters()}
    assert_equal(found, whole)


@pytest.mark.parametrize("cell", CELLS)
def test_a_step_without_a_state_starts_from_zeros(cell):
    layer = CELLS[cell](3, 5, rng=0)
    zeros = np.zeros((2, 5))
    given = (zeros, zeros) if cell == "lstm" else zeros
    x_t = np.ones((2, 3))
    for a, b in zip(flat(layer.step(x_t)), flat(layer.step(x_t, given)), strict=True):
        np.testing.assert_array_equal(a.numpy(), b.numpy())


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("cut", [1, 2, 4])
@pytest.mark.parametrize("config", [c for c in TIME_MAJOR if c.bias], ids=spell)
def test_a_state_handed_on_continues_the_sequence(config, cut, backend):
    """Two calls with the state handed on are one call: outputs, and gradients that flow through the state."""
    problem = Problem(config)
    layer = problem.layer(backend)
    whole = problem.run(layer)
    layer.zero_grad()
    x, leaves, state = problem.leaves(layer)
    parts = [slice(None, cut), slice(cut, None)]
    outputs = {}
    for i in (1, 0) if config.reverse else (0, 1):
        outputs[i], state = layer(x[parts[i]], state)
    joined = mr.concatenate([outputs[0], outputs[1]])
    loss = (joined * problem.v).sum() + sum((s * u).sum() for s, u in zip(flat(state), problem.u, strict=True))
    loss.backward()
    found = {"outputs": joined.numpy(), "x": x.grad} | {f"final {i}": s.numpy() for i, s in enumerate(flat(state))}
    found |= {f"initial {i}": s.grad for i, s in enumerate(leaves)} | {p.name: p.grad for p in layer.parameters()}
    assert_equal(found, whole)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("cell", CELLS)
def test_a_detached_state_cuts_the_gradient_and_nothing_else(cell, backend):
    problem = Problem(Config(cell))
    layer = problem.layer(backend)
    x, leaves, given = problem.leaves(layer)
    whole = layer(x, given).outputs
    first, state = layer(x[:2], given)
    (first * problem.v[:2]).sum().backward()
    before = x.grad[:2].copy(), *(s.grad.copy() for s in leaves)
    second, _ = layer(x[2:], each(lambda s: s.detach(), state))
    np.testing.assert_allclose(second.numpy(), whole.numpy()[2:], rtol=0, atol=1e-15)
    (second * problem.v[2:]).sum().backward()  # no error: the first graph is not needed
    for now, then in zip([x.grad[:2], *(s.grad for s in leaves)], before, strict=True):
        np.testing.assert_array_equal(now, then)


@pytest.mark.parametrize("remat", [True, 1, 2, 99])
@pytest.mark.parametrize("config", CLASSES, ids=spell)
def test_remat_changes_nothing(config, remat):
    problem = Problem(config)
    for weights in losses(config.cell).values():
        plain = problem.run(problem.layer("fused"), weights=weights)
        assert_equal(problem.run(problem.layer("fused", remat=remat), weights=weights), plain, 1e-13)


@pytest.mark.parametrize("remat", [True, 1, 3])
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("cell", CELLS)
def test_remat_with_lengths_and_resets(cell, reverse, remat):
    """Rows enough for lanes that carry several sequences and idle, and pieces that end within them."""
    rng = np.random.default_rng(0)
    T, N, D, H = 17, 12, 2, 4
    x, v = rng.standard_normal((T, N, D)), rng.standard_normal((T, N, H))
    for lengths, reset in itertools.product([None, rng.integers(1, T + 1, N)], [None, rng.random((T, N)) < 0.2]):
        found = []
        for setting in (False, remat):
            layer = CELLS[cell](D, H, reverse=reverse, remat=setting, learn_initial_state=True, dtype=np.float64, rng=1)
            state = each(lambda s: np.sin(np.arange(s.size)).reshape(s.shape), layer(x).final_state)
            u = [np.cos(s) for s in flat(state)]
            found.append(evaluate(layer, x, state, v, u, lengths, reset))
        learned = {"h_0", "c_0"} if reset is None else set()  # the state is given: without resets nothing starts there
        for one in found:
            assert all(one.pop(name, None) is None for name in learned)
        assert_equal(found[1], found[0], 1e-13)


def test_second_order_goes_through_remat():
    for cell in CELLS:
        problem, found = Problem(Config(cell), scale=0.5), []
        for remat in (False, True):
            layer = problem.layer("fused", remat=remat)
            inputs, _, f = problem.inputs(layer)
            directions = [np.cos(t.data) for t in inputs]
            found.append(hessian_vector(problem, layer, inputs, f, directions))
        for a, b in zip(*found, strict=True):
            assert relative_error(a, b) <= 1e-14


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("config", CLASSES, ids=spell)
def test_no_grad_gives_the_same_and_records_nothing(config, backend):
    problem = Problem(config)
    layer = problem.layer(backend)
    inputs, _, f = problem.inputs(layer)
    for settings in ({}, {"lengths": [2, 5, 4]}):
        recorded = flat(f(**settings))
        with mr.no_grad():
            plain = flat(f(**settings))
        for a, b in zip(recorded, plain, strict=True):
            np.testing.assert_array_equal(a.numpy(), b.numpy())
            assert a.requires_grad
            assert not b.requires_grad
    for t in inputs:  # and when nobody asks
        t.requires_grad = False
    assert not any(t.requires_grad for t in flat(f()))


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("cell", CELLS)
def test_two_threads_give_the_same(cell, reverse):
    T, N, D, H = 3, 33, 5, 256
    rng = np.random.default_rng(0)
    layer = CELLS[cell](D, H, reverse=reverse, dtype=np.float64, rng=0)
    for p in layer.parameters():
        p.data = rng.standard_normal(p.shape) / 16
    x, v = rng.standard_normal((T, N, D)), rng.standard_normal((T, N, H))
    state = each(lambda s: rng.standard_normal(s.shape), layer(x).final_state)
    u = [rng.standard_normal(s.shape) for s in flat(state)]
    found = []
    for n, parts in ((1, 1), (2, 2)):
        mr.set_num_threads(n)
        assert threads.plan(T, N, D, H, layer.gates)[0] == parts
        found.append([evaluate(layer, x, state, v, u) for _ in range(2)])
        assert_equal(*found[-1], tolerance=0)
    assert_equal(found[1][0], found[0][0])


# --- who asks for a gradient, and what stays as it was ----------------------------------------------------------------


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("cell", CELLS)
def test_each_gets_its_gradient_whoever_else_asks(cell, backend):
    """Each leaf alone, and all but each: the gradients do not change."""
    problem = Problem(Config(cell))
    layer = problem.layer(backend)
    expected = problem.run(layer)
    layer.zero_grad()
    inputs, names, f = problem.inputs(layer)
    for i, alone in itertools.product(range(len(inputs)), [True, False]):
        for j, t in enumerate(inputs):
            t.requires_grad, t.grad = (j == i) == alone, None
        outputs, final_state = f()
        terms = zip([outputs, *flat(final_state)], [problem.v, *problem.u], strict=True)
        sum((t * w).sum() for t, w in terms).backward()
        for name, t in zip(names, inputs, strict=True):
            if t.requires_grad:
                assert relative_error(t.grad, expected[name]) <= 1e-13, name
            else:
                assert t.grad is None, name


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("lengths", LENGTHS, ids=["full", "ragged"])
@pytest.mark.parametrize("config", TIME_MAJOR, ids=spell)
def test_nothing_handed_in_is_written_into(config, lengths, backend):
    """Inputs, initial state, parameters and the gradients handed in are read-only, so that writing would raise."""
    problem = Problem(config)
    layer = problem.layer(backend)
    inputs, _, f = problem.inputs(layer)
    for t in inputs:
        t.data.flags.writeable = False
    results = flat(f(lengths=lengths))
    for t in results:
        gradient = np.ones(t.shape)
        gradient.flags.writeable = False
        t.backward(gradient, retain_graph=True)
    for t in results:  # backward reads what forward saved, again and again
        t.data.flags.writeable = False
    results[0].backward(np.ones(results[0].shape))
    assert all(t.grad.any() for t in inputs)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("cell", CELLS)
def test_outputs_held_across_calls_are_not_overwritten(cell, backend):
    problem = Problem(Config(cell))
    layer = problem.layer(backend)
    _, _, state = problem.leaves(layer)
    results = [layer(problem.x * k, state) for k in range(3)]
    again = [layer(problem.x * k, state) for k in range(3)]
    for one, two in zip(flat(results), flat(again), strict=True):
        np.testing.assert_array_equal(one.numpy(), two.numpy())
    arrays = [t.numpy() for t in flat([results, again])]
    assert not any(np.shares_memory(a, b) for a, b in itertools.combinations(arrays, 2))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
@pytest.mark.parametrize("cell", CELLS)
def test_two_live_graphs_of_one_layer(cell, order, backend):
    problem = Problem(Config(cell, reverse=True))
    layer = problem.layer(backend)
    inputs = problem.x, np.cos(problem.x)
    alone = []
    for x in inputs:
        layer.zero_grad()
        layer(x).outputs.sum().backward()
        alone.append([p.grad for p in layer.parameters()])
    layer.zero_grad()
    live = [layer(x).outputs.sum() for x in inputs]
    for k in order:
        live[k].backward()
    for p, a, b in zip(layer.parameters(), *alone, strict=True):
        np.testing.assert_allclose(p.grad, a + b, rtol=0, atol=1e-13)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("config", CLASSES[::4], ids=spell)
def test_a_graph_that_is_retained_gives_the_same_gradient_again(config, backend):
    problem = Problem(config)
    layer = problem.layer(backend)
    inputs, names, f = problem.inputs(layer)
    loss = curved(problem, layer, f())
    loss.backward(retain_graph=True)
    once = [t.grad.copy() for t in inputs]
    loss.backward()
    for name, t, g in zip(names, inputs, once, strict=True):
        np.testing.assert_array_equal(t.grad, 2 * g, err_msg=name)
    with pytest.raises(mr.FreedGraphError):
        loss.backward()


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("cell", CELLS)
def test_a_parameter_changed_between_forward_and_backward_is_refused(cell, backend):
    problem = Problem(Config(cell))
    layer = problem.layer(backend)
    loss = layer(problem.x).outputs.sum()
    layer.W_hh.data = layer.W_hh.data * 2
    with pytest.raises(mr.ChangedParameterError, match=r"parameter W_hh .* was changed after the forward"):
        loss.backward()
    assert all(p.grad is None for p in layer.parameters())


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("cell", CELLS)
def test_no_gradient_flows_from_the_future_or_from_row_to_row(cell, backend):
    for reverse in (False, True):
        problem = Problem(Config(cell, reverse=reverse))
        layer = problem.layer(backend)
        for t in range(5):
            x, _, state = problem.leaves(layer)
            layer(x, state).outputs[t, 1].sum().backward()
            reached = x.grad.any(axis=2)
            expected = np.arange(5) >= t if reverse else np.arange(5) <= t
            np.testing.assert_array_equal(reached[:, 1], expected)
            assert not reached[:, [0, 2]].any()


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("cell", CELLS)
def test_whatever_comes_in_is_cast_to_the_layers_dtype(cell, dtype, backend):
    layer = CELLS[cell](3, 5, backend=backend, dtype=dtype, rng=0)
    x, h0 = np.arange(24).reshape(4, 2, 3) % 3, np.arange(10).reshape(2, 5) % 2
    expected = flat(layer(x.astype(dtype), (h0.astype(dtype),) * 2 if cell == "lstm" else h0.astype(dtype)))
    for given in (np.float16, np.float32, np.float64, np.int64, np.uint8, list):
        a, b = (x.tolist(), h0.tolist()) if given is list else (x.astype(given), h0.astype(given))
        for t, exact in zip(flat(layer(a, [b, b] if cell == "lstm" else b)), expected, strict=True):
            assert t.dtype == dtype
            np.testing.assert_array_equal(t.numpy(), exact.numpy())
    other = np.float32 if dtype == np.float64 else np.float64
    tensors = [mr.Tensor(a.astype(other), requires_grad=True) for a in (x, h0, h0)]
    sum(t.sum() for t in flat(layer(tensors[0], tensors[1:] if cell == "lstm" else tensors[1]))).backward()
    assert {t.grad.dtype for t in tensors[: 2 + (cell == "lstm")]} == {np.dtype(other)}
    assert {p.grad.dtype for p in layer.parameters()} == {np.dtype(dtype)}


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("cell", CELLS)
def test_a_deep_copy_is_the_same_layer_and_another(cell, backend):
    problem = Problem(Config(cell, reverse=True, batch_first=True))
    layer = problem.layer(backend)
    twin = copy.deepcopy(layer)
    assert repr(twin) == repr(layer)
    before = problem.run(layer)
    assert_equal(problem.run(twin), before, 0)
    for p, q in zip(layer.parameters(), twin.parameters(), strict=True):
        assert p is not q
        assert p.name == q.name
        assert not np.shares_memory(p.data, q.data)
        q.data -= 1
    np.testing.assert_array_equal(problem.run(layer)["outputs"], before["outputs"])


@pytest.mark.parametrize(("backend", "T"), [("fused", 5_000), ("graph", 400)])
def test_long_sequences_meet_no_recursion_limit(backend, T):
    for make in CELLS.values():
        layer = make(1, 2, backend=backend, dtype=np.float64, rng=0)
        x = leaf(np.ones((T, 1, 1)))
        layer(x).outputs[-1].sum().backward()
        assert x.grad[-1].any()
        assert np.isfinite(x.grad).all()


@pytest.mark.parametrize("cell", CELLS)
def test_gates_that_are_wide_open_or_shut_overflow_nowhere(cell):
    """Pre-activations of ±10⁴: σ by way of exp would warn; here it is 0 or 1, and all gradients are finite."""
    problem = Problem(Config(cell))
    for dtype in (np.float32, np.float64):
        for backend in BACKENDS:
            layer = problem.layer(backend, dtype=dtype)
            for p in layer.parameters():
                p.data *= 1e4
            found = problem.run(layer)
            assert all(np.isfinite(value).all() for value in found.values())


# --- how weights start ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("forget_bias", [0.0, 1.0, -2.5, 3])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_forget_bias_is_where_b_hs_f_block_starts_and_nothing_more(forget_bias, dtype):
    layer = mr.LSTMLayer(3, 5, forget_bias=forget_bias, dtype=dtype, rng=0)
    i, f, g, o = layer.b_h.data.reshape(4, 5)
    np.testing.assert_array_equal(f, np.full(5, forget_bias))
    assert not np.any([i, g, o])
    plain = mr.LSTMLayer(3, 5, dtype=dtype, rng=0)
    np.testing.assert_array_equal(plain.b_h.data[5:10], np.ones(5))
    for name in ("W_xh", "W_hh"):
        np.testing.assert_array_equal(getattr(layer, name).data, getattr(plain, name).data)
    plain.b_h.data = layer.b_h.data.copy()
    x = np.random.default_rng(0).standard_normal((7, 2, 3))
    for a, b in zip(flat(layer(x)), flat(plain(x)), strict=True):
        np.testing.assert_array_equal(a.numpy(), b.numpy())


@pytest.mark.parametrize("cell", CELLS)
def test_by_default_each_gate_has_a_glorot_and_an_orthogonal_block(cell):
    G = GATES[cell]
    layer = CELLS[cell](3, 5, dtype=np.float64, rng=7)
    rng = np.random.default_rng(7)
    for p, initializer, shape in ((layer.W_xh, init.glorot_uniform, (3, 5)), (layer.W_hh, init.orthogonal, (5, 5))):
        np.testing.assert_array_equal(p.data, np.concatenate([initializer(shape, rng) for _ in range(G)], axis=1))
    for block in np.split(layer.W_hh.data, G, axis=1):
        np.testing.assert_allclose(block @ block.T, np.eye(5), rtol=0, atol=1e-14)
    if cell == "gru":
        assert not layer.b_hn.data.any()
    if cell != "lstm":
        assert not layer.b_h.data.any()


def test_a_seed_makes_a_layer_and_float32_weights_are_the_float64_ones_rounded():
    for make in CELLS.values():
        one, two, single = make(3, 5, dtype=np.float64, rng=1), make(3, 5, dtype=np.float64, rng=1), make(3, 5, rng=1)
        for p, q, r in zip(one.parameters(), two.parameters(), single.parameters(), strict=True):
            np.testing.assert_array_equal(p.data, q.data)
            np.testing.assert_array_equal(r.data, p.data.astype(np.float32))
        assert not np.array_equal(make(3, 5, rng=2).W_hh.data, single.W_hh.data)


@pytest.mark.parametrize("cell", CELLS)
def test_W_is_the_stacked_form(cell):
    """[X_t H_{t-1}] W: note 003, equation 14-2, second line, with G blocks."""
    layer = CELLS[cell](3, 5, rng=0)
    np.testing.assert_array_equal(layer.W, np.concatenate([layer.W_xh.data, layer.W_hh.data]))
    assert layer.W.shape == (8, GATES[cell] * 5)
    with pytest.raises(ValueError, match="read-only"):
        layer.W[0, 0] = 1


# --- counting ---------------------------------------------------------------------------------------------------------


def formula(cell, D, H, bias):
    G = GATES[cell]
    return G * H * (D + H + bias) + bias * EXTRA[cell] * H


@pytest.mark.parametrize("learn", [False, True])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize(("D", "H"), [(1, 1), (3, 5), (10, 20)])
def test_counts(D, H, cell, bias, learn):
    layer = CELLS[cell](D, H, bias=bias, learn_initial_state=learn, rng=0)
    learned = ["h_0", "c_0"][: len(layer.state_names)] if learn else []
    assert layer.count().total == formula(cell, D, H, bias)
    assert layer.count_params() == sum(p.size for p in layer.parameters()) == layer.count().total + H * len(learned)
    assert {p.name: p.shape for p in layer.parameters()} == layer.count().shapes | dict.fromkeys(learned, (H,))
    assert [p.name for p in layer.parameters()] == [*layer.count().shapes, *learned]  # in the order of insertion
    assert [(t.name, t.count) for t in layer.counted()] == [(p.name, p.size) for p in layer.parameters()]


@pytest.mark.parametrize("bias", [True, False])
def test_the_counts_in_letters(bias):
    """H(D+H+1), 4H(D+H+1), 3H(D+H+1)+H; without bias no 1 and no + H."""
    D, H = 3, 5
    b = int(bias)
    assert mr.RecurrentLayer(D, H, bias=bias).count_params() == H * (D + H + b)
    assert mr.RecurrentLayer(D, H, bias=bias, learn_initial_state=True).count_params() == H * (D + H + b) + H
    assert mr.LSTMLayer(D, H, bias=bias).count_params() == 4 * H * (D + H + b)
    assert mr.LSTMLayer(D, H, bias=bias, learn_initial_state=True).count_params() == 4 * H * (D + H + b) + 2 * H
    assert mr.GRULayer(D, H, bias=bias).count_params() == 3 * H * (D + H + b) + b * H
    assert mr.GRULayer(D, H, bias=bias, learn_initial_state=True).count_params() == 3 * H * (D + H + b) + b * H + H
    assert mr.GRULayer(D, H, bias=bias, reset_after=False).count_params() == 3 * H * (D + H + b)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("cell", CELLS)
def test_stacks_and_directions_add_up(cell, bias, capsys):
    D, H, make = 3, 5, functools.partial(CELLS[cell], bias=bias)
    directions = mr.Bidirectional(make(D, H), make(D, H + 1, reverse=True))
    expected = formula(cell, D, H, bias) + formula(cell, D, H + 1, bias)
    assert directions.count_params() == expected
    stack = mr.Stacked([directions, make(2 * H + 1, H), make(H, 7)])
    expected += formula(cell, 2 * H + 1, H, bias) + formula(cell, H, 7, bias)
    assert stack.count_params() == expected
    model = mr.SequenceModel(stack, mr.Linear(7, 2))
    assert model.count_params() == expected + 16
    model.summary()
    lines = capsys.readouterr().out.splitlines()
    assert int(next(line for line in lines if line.startswith("total")).split()[-1]) == expected + 16
    assert sum("in other libraries:" in line for line in lines) == 4


@pytest.mark.parametrize("learn", [False, True])
@pytest.mark.parametrize("cell", CELLS)
def test_the_summary_prints_the_table_and_what_others_count(cell, learn, capsys):
    layer = CELLS[cell](10, 20, learn_initial_state=learn)
    layer.summary()
    lines = capsys.readouterr().out.splitlines()
    count = layer.count()
    states = len(layer.state_names) * learn
    rows = count.table().splitlines()
    body = rows[2:-2]
    assert [line.split() for line in lines[2 : 2 + len(body)]] == [row.split() for row in body]
    assert int(lines[len(rows) - 1 + states].split()[-1]) == layer.count_params()
    assert lines[len(rows) + states] == f"{layer.name}, with m = 10, n = 20; in other libraries:"
    expected = [f"  {line}" for line in count.reconciliation()]
    if learn:
        more = 20 * len(layer.state_names)
        expected.append(
            f"  The initial state that is learned counts {more}; there it would be a parameter of one's own."
        )
    assert lines[len(rows) + states + 1 :] == [*expected, *counting.NOTES]


def test_repr_says_what_differs_from_the_plain_layer():
    assert repr(mr.LSTMLayer(3, 5)) == "LSTMLayer(3, 5, backend='fused', dtype=float32)"
    assert (
        repr(mr.GRULayer(3, 5, reset_after=False))
        == "GRULayer(3, 5, reset_after=False, backend='fused', dtype=float32)"
    )
    layer = mr.LSTMLayer(
        3, 5, bias=False, reverse=True, batch_first=True, learn_initial_state=True, recurrent_dropout=0.25,
        message_clip=2, remat=3, dtype=np.float64,
    )  # fmt: skip
    expected = "3, 5, bias=False, backend='fused', reverse=True, batch_first=True, learn_initial_state=True"
    assert repr(layer) == f"LSTMLayer({expected}, recurrent_dropout=0.25, message_clip=2.0, remat=3, dtype=float64)"


# --- errors -----------------------------------------------------------------------------------------------------------

FORGET = "LSTMLayer: forget_bias"
NONE_THERE = "is where b_h starts, and with bias=False there is none: leave one of the two out"


@pytest.mark.parametrize(
    ("make", "options", "kind", "message"),
    [
        (mr.LSTMLayer, {"forget_bias": "1"}, TypeError, f"{FORGET} must be a finite number, got '1' (str)"),
        (mr.LSTMLayer, {"forget_bias": True}, TypeError, f"{FORGET} must be a finite number, got True (bool)"),
        (mr.LSTMLayer, {"forget_bias": None}, TypeError, f"{FORGET} must be a finite number, got None (NoneType)"),
        (mr.LSTMLayer, {"forget_bias": np.nan}, ValueError, f"{FORGET} must be a finite number, got nan"),
        (mr.LSTMLayer, {"forget_bias": 2.0, "bias": False}, ValueError, f"{FORGET}=2.0 {NONE_THERE}"),
        (mr.LSTMLayer, {"forget_bias": 0.0, "bias": np.False_}, ValueError, f"{FORGET}=0.0 {NONE_THERE}"),
        (mr.LSTMLayer, {"bias": 0}, TypeError, "LSTMLayer: bias must be True or False, got 0 (int)"),
        (
            mr.LSTMLayer,
            {"backend": "cudnn"},
            ValueError,
            "LSTMLayer: backend must be one of 'fused', 'graph', got 'cudnn'",
        ),
        (
            mr.LSTMLayer,
            {"dtype": np.int32},
            TypeError,
            "LSTMLayer: dtype must be numpy.float32 or numpy.float64, got <class 'numpy.int32'>",
        ),
        (
            mr.LSTMLayer,
            {"remat": True, "backend": "graph"},
            ValueError,
            "LSTMLayer: remat needs backend='fused', got 'graph', which keeps every op to be looked into: "
            "leave one of the two out",
        ),
        (
            mr.GRULayer,
            {"reset_after": "yes"},
            TypeError,
            "GRULayer: reset_after must be True or False, got 'yes' (str)",
        ),
        (mr.GRULayer, {"reverse": 1}, TypeError, "GRULayer: reverse must be True or False, got 1 (int)"),
        (
            mr.GRULayer,
            {"batch_first": None},
            TypeError,
            "GRULayer: batch_first must be True or False, got None (NoneType)",
        ),
        (
            mr.GRULayer,
            {"learn_initial_state": "yes"},
            TypeError,
            "GRULayer: learn_initial_state must be True or False, got 'yes' (str)",
        ),
    ],
)
def test_what_a_layer_is_not_made_of(make, options, kind, message):
    rng = np.random.default_rng(0)
    before = rng.bit_generator.state
    with raises(kind, message):
        make(3, 5, **{"rng": rng} | options)
    assert rng.bit_generator.state == before  # a call that is refused draws nothing


@pytest.mark.parametrize("make", CELLS.values(), ids=CELLS)
def test_sizes_and_unknown_options(make):
    name = make(1, 1).name
    with raises(ValueError, f"{name}: input_size must be an int ≥ 1, got 0: try 1 or more"):
        make(0, 5)
    with raises(TypeError, f"{name}: hidden_size must be an int ≥ 1, got 5.0 (float): try 5"):
        make(3, 5.0)
    with pytest.raises(TypeError, match="unexpected keyword argument 'activation'"):
        make(3, 5, activation="relu")


PAIR = "must be a pair (h, c), each (N=2, H=5), got"
CURE = "pass what the layer returned as final_state, or None"
ARRAY = "must have shape (N=2, H=5), got"
NUMBERS = "must be an array of numbers (bool, int or float), got"
H0 = np.zeros((2, 5))


@pytest.mark.parametrize(
    ("state", "kind", "message"),
    [
        (H0, TypeError, "{} " + f"{PAIR} one ndarray of shape (2, 5): {CURE}"),
        (np.zeros((2, 2, 5)), TypeError, "{} " + f"{PAIR} one ndarray of shape (2, 2, 5): {CURE}"),
        (mr.Tensor(H0), TypeError, "{} " + f"{PAIR} one Tensor of shape (2, 5): {CURE}"),
        ((H0, H0, H0), TypeError, "{} " + f"{PAIR} 3 of them: {CURE}"),
        ([H0], TypeError, "{} " + f"{PAIR} 1 of them: {CURE}"),
        ((), TypeError, "{} " + f"{PAIR} 0 of them: {CURE}"),
        ("hc", TypeError, "{} " + f"{PAIR} str: {CURE}"),
        ({"h": H0, "c": H0}, TypeError, "{} " + f"{PAIR} dict: {CURE}"),
        (0.0, TypeError, "{} " + f"{PAIR} float: {CURE}"),
        ((H0, np.zeros((2, 4))), ValueError, "{}[1] " + f"{ARRAY} (2, 4): one state for each row of x"),
        ((np.zeros((3, 5)), H0), ValueError, "{}[0] " + f"{ARRAY} (3, 5): one state for each row of x"),
        (
            (H0, np.zeros(5)),
            ValueError,
            "{0}[1] " + f"{ARRAY} (5,): for the same state in each row pass np.tile(" + "{0}[1], (2, 1))",
        ),
        ((H0, None), TypeError, "{}[1] " + f"{NUMBERS} NoneType of dtype object: try np.asarray(data, dtype=float)"),
    ],
)
@pytest.mark.parametrize("backend", BACKENDS)
def test_states_that_an_lstm_does_not_take(backend, state, kind, message):
    layer = mr.LSTMLayer(3, 5, backend=backend, rng=0)
    before = layer.state_dict()
    with raises(kind, "LSTMLayer: " + message.format("initial_state")):
        layer(np.zeros((7, 2, 3)), state)
    with raises(kind, "LSTMLayer: " + message.format("state")):
        layer.step(np.zeros((2, 3)), state)
    for p in layer.parameters():
        assert p.grad is None
        np.testing.assert_array_equal(p.data, before[p.name])


def test_the_whole_result_is_no_state():
    x = np.zeros((7, 2, 3))
    lstm, gru = mr.LSTMLayer(3, 5, rng=0), mr.GRULayer(3, 5, rng=0)
    with raises(ValueError, f"LSTMLayer: initial_state[0] {ARRAY} (7, 2, 5): one state for each row of x"):
        lstm(x, lstm(x))
    cure = "pass one of them, or join them with minirnn.stack, which keeps their gradients"
    one = "GRULayer: initial_state must be one array or Tensor, got a"
    with raises(TypeError, f"{one} RecurrentOutput that holds Tensors: {cure}"):
        gru(x, gru(x))
    with raises(TypeError, f"{one} LSTMState that holds Tensors: {cure}"):
        gru(x, lstm(x).final_state)
    with raises(ValueError, f"GRULayer: initial_state {ARRAY} (2, 2, 5): one state for each row of x"):
        gru(x, (H0, H0))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("cell", CELLS)
def test_inputs_that_do_not_fit_leave_everything_as_it_was(cell, backend):
    rng = np.random.default_rng(0)
    layer = CELLS[cell](3, 5, backend=backend, recurrent_dropout=0.5, rng=rng)
    before, drawn = layer.state_dict(), rng.bit_generator.state
    x, name = np.zeros((7, 2, 3)), layer.name
    for bad, arguments in [
        ("x must have shape (T, N, D=3), got (7, 3, 2): did you swap features and rows?", [np.zeros((7, 3, 2))]),
        ("x must have shape (T, N, D=3), got (7, 3): one sequence without its batch axis? Pass x[:, None]", [x[:, 0]]),
        ("lengths must lie between 1 and T=7, got 8 for row 1: they count steps", [x, None, [7, 8]]),
    ]:
        with raises(ValueError, f"{name}: {bad}"):
            layer(*arguments)
    with pytest.raises((TypeError, ValueError), match="initial_state"):
        layer(x, np.zeros((3, 5)))
    with pytest.raises(TypeError, match="reset must be booleans"):
        layer(x, reset=np.zeros((7, 2)))
    assert rng.bit_generator.state == drawn
    for p in layer.parameters():
        assert p.grad is None
        np.testing.assert_array_equal(p.data, before[p.name])


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("batch_first", [False, True])
def test_detect_anomaly_names_what_came_in(batch_first, backend, cell):
    """At the place where the caller finds it."""
    layer = CELLS[cell](3, 5, backend=backend, batch_first=batch_first, rng=0)
    x, h0 = np.zeros((7, 2, 3)), np.zeros((2, 5))
    wrong_x, wrong_h0 = x.copy(), h0.copy()
    wrong_x[4, 1, 2], wrong_h0[0, 3] = np.nan, np.inf
    x, wrong_x = turned(x, layer), turned(wrong_x, layer)
    lstm = cell == "lstm"
    rest = "entries not finite): look at the data that comes in"
    at = [1, 4, 2] if batch_first else [4, 1, 2]
    layer_named = f"detect_anomaly: {layer.name}(3, 5)"
    with mr.detect_anomaly():
        layer(x, (h0, h0) if lstm else h0)
        with raises(mr.AnomalyError, f"{layer_named}: step t=4, row n=1: x holds nan at {at} (1 of 42 {rest}"):
            layer(wrong_x)
        argument = "initial_state[1]" if lstm else "initial_state"
        with raises(mr.AnomalyError, f"{layer_named}: row n=0: {argument} holds inf at [0, 3] (1 of 10 {rest}"):
            layer(x, (h0, wrong_h0) if lstm else wrong_h0)


QUANTITIES = (
    "outputs", "final 0", "final 1", "x", "initial 0", "initial 1", "W_xh", "W_hh", "b_h", "b_hn",
)  # fmt: skip


def report(configurations, comparisons, worst):
    print(f"\n{configurations} configurations, {comparisons} comparisons; worst error relative to the largest entry:")
    print(f"{'':18}" + "".join(f"{name:>11}" for name in QUANTITIES))
    for which in dict.fromkeys(which for which, _ in worst):
        print(f"{which:18}" + "".join(f"{worst[which, name]:11.1e}" for name in QUANTITIES))


if __name__ == "__main__":
    report(*worst_errors())
