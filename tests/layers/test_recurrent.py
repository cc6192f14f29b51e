"""RecurrentLayer and SequenceModel: both backends against each other, the textbook, numerical derivatives and torch.

``python tests/layers/test_recurrent.py`` prints the size of the grid and the worst errors in it.
"""

import copy
import functools
import gc
import itertools
import math
import re
import threading
import weakref
import zlib
from typing import NamedTuple

import numpy as np
import pytest
from error_texts import raises

import minirnn as mr
from minirnn import counting, init, textbook
from minirnn.kernels import elman

# z / √(1 + z²), whose derivative is (1 − y²)^(3/2): only operators, so that it serves arrays and Tensors
ISRU = (lambda z: z / (1 + z * z) ** 0.5, lambda y: (1 - y * y) ** 1.5)
ACTIVATIONS = {"tanh": "tanh", "relu": "relu", "sigmoid": "sigmoid", "identity": "identity", "pair": ISRU}
SHAPES = {"T=1": (1, 3, 2, 4), "N=1": (5, 1, 2, 4), "D≠H≠N≠T": (5, 3, 2, 4), "D>H": (3, 2, 7, 5), "all 1": (1, 1, 1, 1)}
BACKENDS = ["fused", "graph"]
NAMES = ("x", "h0", "W_xh", "W_hh", "b_h")


class Config(NamedTuple):
    """One point of the grid; ``shape`` is a name of SHAPES, which lists T, N, D, H."""

    activation: str
    bias: bool
    reverse: bool
    batch_first: bool
    shape: str


GRID = [Config(*point) for point in itertools.product(ACTIVATIONS, *[[True, False]] * 3, SHAPES)]
CLASSES = [config for config in GRID if config.shape == "D≠H≠N≠T"]
LOSSES = {"outputs and final state": (1, 1), "outputs": (1, 0), "final state": (0, 1)}


def spell(config):
    flags = [name for name in ("bias", "reverse", "batch_first") if getattr(config, name)]
    return "-".join([config.activation, *flags, config.shape])


class Problem:
    """Random inputs, weights and loss for one configuration; nothing in it is zero, time comes first throughout."""

    def __init__(self, config, dtype=np.float64, scale=1.0):
        T, N, D, H = SHAPES[config.shape]
        rng = np.random.default_rng(zlib.crc32(repr(config).encode()))
        sizes = [(T, N, D), (N, H), (D, H), (H, H), (H,), (T, N, H), (N, H)]
        self.config = config
        while True:
            arrays = [rng.standard_normal(size).astype(dtype) for size in sizes]
            self.x, self.h0, self.W_xh, self.W_hh, self.b_h, self.v, self.u = arrays
            self.W_hh *= scale
            # Draw again when all rectifiers happen to be off and there would be nothing to compare.
            if all(a.any() for weights in LOSSES.values() for a in self.textbook(weights).values()):
                break

    def layer(self, backend, **options):
        c, D, H = self.config, *self.W_xh.shape
        options = {"dtype": self.x.dtype, "rng": 0} | options
        activation = ACTIVATIONS[c.activation]
        layer = mr.RecurrentLayer(
            D, H, activation=activation, bias=c.bias, backend=backend, reverse=c.reverse, batch_first=c.batch_first,
            **options,
        )  # fmt: skip
        layer.W_xh.data, layer.W_hh.data = self.W_xh.copy(), self.W_hh.copy()
        if c.bias:
            layer.b_h.data = self.b_h.copy()
        return layer

    def turn(self, array):
        """Exchange the time-major layout for the layer's own, and back."""
        return array.swapaxes(0, 1) if self.config.batch_first else array

    def leaves(self, x=True, h0=True):
        """Return x and h0 as Tensors in the layer's layout."""
        return mr.Tensor(self.turn(self.x).copy(), requires_grad=x), mr.Tensor(self.h0.copy(), requires_grad=h0)

    def loss(self, outputs, final_state, weights=(1, 1)):
        """Return Σ v·outputs and Σ u·final_state, as far as their weight is 1."""
        of_outputs = (outputs * self.turn(self.v)).sum() if weights[0] else 0.0
        return of_outputs + ((final_state * self.u).sum() if weights[1] else 0.0)

    def run(self, layer, weights=(1, 1)):
        """Return outputs, final state and all gradients, time-major, by name."""
        x, h0 = self.leaves()
        layer.zero_grad()
        outputs, final_state = layer(x, h0)
        self.loss(outputs, final_state, weights).backward()
        values = {"outputs": self.turn(outputs.numpy()), "final_state": final_state.numpy()}
        return values | {"x": self.turn(x.grad), "h0": h0.grad} | {p.name: p.grad for p in layer.parameters()}

    def textbook(self, weights=(1, 1)):
        """Return the same from the textbook, in float64; reversed, it is given time turned round."""
        c = self.config
        activation = ACTIVATIONS[c.activation]
        b = self.b_h if c.bias else np.zeros_like(self.b_h)
        turn = slice(None, None, -1 if c.reverse else 1)
        arguments = self.x[turn], self.h0, self.W_xh, self.W_hh, b
        outputs = textbook.unroll(textbook.layer_step_batch, *arguments, activation=activation)
        g = textbook.unroll_backward(*arguments, weights[0] * self.v[turn], weights[1] * self.u, activation)
        values = {"outputs": outputs[turn], "final_state": outputs[-1], "x": g.x[turn], "h0": g.y_0}
        values |= {"W_xh": g.W_x, "W_hh": g.W_y}
        return values | ({"b_h": g.b} if c.bias else {})


def relative_error(value, exact):
    """Return the largest difference in units of the largest entry."""
    assert value.shape == exact.shape
    scale = np.abs(exact).max()
    assert scale > 0, "nothing to compare"
    return float(np.abs(value - exact).max() / scale)


# --- fused = graph = textbook -----------------------------------------------------------------------------------------


@functools.cache
def errors_of(config, dtype=np.float64):
    """Return {(which two, loss, quantity): relative error} for one configuration."""
    problem, errors = Problem(config, dtype), {}
    layers = {backend: problem.layer(backend) for backend in BACKENDS}
    for loss, weights in LOSSES.items():
        found = {backend: problem.run(layer, weights) for backend, layer in layers.items()}
        found["textbook"] = problem.textbook(weights)
        for one, two in itertools.combinations(found, 2):
            assert set(found[one]) == set(found[two])
            for name, value in found[one].items():
                errors[f"{one} = {two}", loss, name] = relative_error(value, found[two][name])
        for backend in BACKENDS:
            assert {value.dtype for value in found[backend].values()} == {np.dtype(dtype)}
    return errors


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
    assert len(errors) == 3 * len(LOSSES) * (7 if config.bias else 6)
    assert max(errors.values()) <= 1e-12, max(errors.items(), key=lambda item: item[1])


def test_the_size_of_the_grid_and_its_worst_errors():
    """To see them: ``pytest -s -k worst_errors`` or ``python tests/layers/test_recurrent.py``."""
    configurations, comparisons, worst = worst_errors()
    report(configurations, comparisons, worst)
    assert configurations == 5 * 2 * 2 * 2 * 5
    assert comparisons == configurations * 3 * 3 * 13 // 2
    assert {name for _, name in worst} == {"outputs", "final_state", *NAMES}
    assert 0 < max(worst.values()) <= 1e-12


@pytest.mark.parametrize("config", CLASSES, ids=spell)
def test_float32_is_the_same_to_its_own_precision(config):
    """The problem itself is rounded to float32, so only the arithmetic differs; `errors_of` asserts the dtypes."""
    errors = errors_of(config, np.float32)
    assert max(errors.values()) <= 5e-5, max(errors.items(), key=lambda item: item[1])


def test_the_backends_are_two_ways_indeed(monkeypatch):
    """Fused is one node and a kernel, graph an op for every operation; else their agreement would say nothing."""
    problem = Problem(Config("tanh", True, False, False, "D≠H≠N≠T"))
    fused, graph = (problem.layer(backend) for backend in BACKENDS)
    assert repr(fused(problem.x).outputs).endswith("op=RecurrentLayer)")
    assert repr(graph(problem.x).outputs).endswith("op=stack)")
    monkeypatch.setattr(elman, "forward", None)
    graph(problem.x).outputs.sum().backward()
    with pytest.raises(TypeError, match="'NoneType' object is not callable"):
        fused(problem.x)


@pytest.mark.parametrize("backend", BACKENDS)
def test_no_initial_state_is_a_state_of_zeros(backend):
    for config in CLASSES[::3]:
        problem = Problem(config)
        problem.h0 *= 0
        layer = problem.layer(backend)
        x, _ = problem.leaves()
        one, two = layer(x), layer(x, problem.h0)
        np.testing.assert_array_equal(one.outputs.numpy(), two.outputs.numpy())
        np.testing.assert_array_equal(one.final_state.numpy(), two.final_state.numpy())


@pytest.mark.parametrize("config", CLASSES, ids=spell)
def test_what_the_final_state_is(config):
    """The output of the step processed last, as a copy of its own."""
    problem = Problem(config)
    for backend in BACKENDS:
        outputs, final_state = problem.layer(backend)(*problem.leaves())
        last = problem.turn(outputs.numpy())[0 if config.reverse else -1]
        np.testing.assert_array_equal(final_state.numpy(), last)
        assert not np.shares_memory(final_state.numpy(), outputs.numpy())


# --- numerical derivatives --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("config", CLASSES, ids=spell)
def test_every_gradient_by_central_differences(config, backend):
    """`gradcheck` takes both, outputs and final state, into its loss."""
    problem = Problem(config)
    layer = problem.layer(backend)
    inputs = [*problem.leaves(), *layer.parameters()]
    assert mr.gradcheck(lambda x, h0, *weights: layer(x, h0), inputs, names=NAMES[: len(inputs)])


def drop_final(original, d_outputs, d_final, *rest):
    return original(d_outputs, [None], *rest)


def drop_outputs(original, d_outputs, d_final, *rest):
    return original(None, d_final, *rest)


def scale(name, factor):
    def wrong(original, *arguments):
        g = original(*arguments)
        return (
            g._replace(state=[g.state[0] * factor]) if name == "h0" else g._replace(**{name: getattr(g, name) * factor})
        )

    return wrong


def a_state_too_late(original, d_outputs, d_final, states, *rest):
    """Take the states after each step for the states before it."""
    g = original(d_outputs, d_final, states, *rest)
    later = np.concatenate([states[1:], states[-1:]])
    return g._replace(W_hh=original(d_outputs, d_final, later, *rest).W_hh)


def truncated(original, d_outputs, d_final, *rest):
    """Send the gradients of the outputs back one step only."""
    parts = [
        original(np.where(np.arange(len(d_outputs))[:, None, None] == t, d_outputs, 0), [None], *rest) for t in (3, 4)
    ]
    state = [a + b for a, b in zip(*(part.state for part in parts), strict=True)]
    weights = {n: getattr(parts[0], n) + getattr(parts[1], n) for n in ("x", "W_xh", "W_hh", "b_h")}
    return parts[0]._replace(state=state, **weights)


@pytest.mark.parametrize(
    "wrong",
    [drop_final, drop_outputs, a_state_too_late, truncated, *(scale(name, 1.001) for name in NAMES)],
)
def test_a_wrong_kernel_is_caught(wrong, monkeypatch):
    """No check is believed until it has rejected a wrong gradient."""
    problem = Problem(Config("tanh", True, False, False, "D≠H≠N≠T"))
    layer = problem.layer("fused")
    inputs = [*problem.leaves(), *layer.parameters()]
    original = elman.backward
    monkeypatch.setattr(elman, "backward", lambda *arguments: wrong(original, *arguments))
    with pytest.raises(mr.GradcheckError, match=r"gradcheck: the gradient of (x|h0|W_xh|W_hh|b_h) is wrong"):
        mr.gradcheck(lambda x, h0, *weights: layer(x, h0), inputs, names=NAMES)


# --- second order -----------------------------------------------------------------------------------------------------


def curved(problem, outputs, final_state):
    """Return a loss whose second derivative is not only the layer's."""
    return (outputs**2 * problem.turn(problem.v)).sum() + (mr.exp(final_state) * problem.u).sum()


def hessian_vector(problem, layer, leaves, directions):
    inputs = [*leaves, *layer.parameters()]
    first = mr.grad(curved(problem, *layer(*leaves)), inputs, create_graph=True)
    along = sum((g * v).sum() for g, v in zip(first, directions, strict=True))
    return [g.numpy() for g in mr.grad(along, inputs)]


def differences_of_gradients(problem, layer, leaves, directions, eps=1e-5):
    """Return the central difference of the first-order gradients along the directions: the Hessian times them."""
    inputs = [*leaves, *layer.parameters()]
    values = [t.data.copy() for t in inputs]
    sides = []
    for sign in (1, -1):
        for t, value, v in zip(inputs, values, directions, strict=True):
            t.data = value + sign * eps * v
        sides.append([g.numpy() for g in mr.grad(curved(problem, *layer(*leaves)), inputs)])
    for t, value in zip(inputs, values, strict=True):
        t.data = value
    return [(a - b) / (2 * eps) for a, b in zip(*sides, strict=True)]


@pytest.mark.parametrize("config", CLASSES, ids=spell)
def test_second_order_through_the_whole_unroll(config):
    problem = Problem(config, scale=0.5)
    found = {}
    for backend in BACKENDS:
        layer = problem.layer(backend)
        leaves = problem.leaves()
        directions = [np.random.default_rng(1).standard_normal(t.shape) for t in (*leaves, *layer.parameters())]
        found[backend] = hessian_vector(problem, layer, leaves, directions)
        numerical = differences_of_gradients(problem, layer, leaves, directions)
        for name, a, b in zip(NAMES, found[backend], numerical, strict=False):
            np.testing.assert_allclose(a, b, rtol=0, atol=1e-7 * np.abs(b).max(), err_msg=f"{backend}: {name}")
    for name, a, b in zip(NAMES, *found.values(), strict=False):
        assert relative_error(a, b) <= 1e-12, name


@pytest.mark.parametrize("backend", BACKENDS)
def test_every_entry_of_the_second_order(backend):
    """`gradcheck` of the gradient itself: the whole Hessian, projected."""
    problem = Problem(Config("tanh", True, True, False, "N=1"))
    layer = problem.layer(backend)
    inputs = [*problem.leaves(), *layer.parameters()]

    def gradients(x, h0, *weights):
        return mr.grad(curved(problem, *layer(x, h0)), [x, h0, *weights], create_graph=True)

    assert mr.gradcheck(gradients, inputs, names=NAMES)


@pytest.mark.parametrize("names", [("W_hh",), ("x",), ("h0", "b_h"), ("W_xh", "W_hh")])
def test_second_order_when_not_everybody_asks(names):
    """The others are constants, for the kernel and for the ops that stand in for it."""
    problem = Problem(Config("tanh", True, False, True, "D≠H≠N≠T"))
    found = []
    for backend in BACKENDS:
        layer = problem.layer(backend)
        leaves = dict(zip(NAMES, [*problem.leaves(), *layer.parameters()], strict=True))
        for name, leaf in leaves.items():
            leaf.requires_grad = name in names
        asking = [leaves[name] for name in names]
        first = mr.grad(curved(problem, *layer(leaves["x"], leaves["h0"])), asking, create_graph=True)
        found.append([g.numpy() for g in mr.grad(sum((g * g).sum() for g in first), asking)])
    for name, a, b in zip(names, *found, strict=True):
        assert relative_error(a, b) <= 1e-12, name


def test_third_order_is_the_same_in_both_backends():
    problem = Problem(Config("sigmoid", True, False, True, "D≠H≠N≠T"))
    found = []
    for backend in BACKENDS:
        layer = problem.layer(backend)
        leaves = problem.leaves()
        g = mr.grad(curved(problem, *layer(*leaves)), layer.W_hh, create_graph=True)
        gg = mr.grad((g[0] ** 2).sum(), leaves[0], create_graph=True)
        found.append([t.numpy() for t in mr.grad((gg[0] ** 2).sum(), [*leaves, *layer.parameters()])])
    for name, a, b in zip(NAMES, *found, strict=True):
        assert relative_error(a, b) <= 1e-12, name


@pytest.mark.parametrize("backend", BACKENDS)
def test_create_graph_gives_the_first_order_too_and_touches_no_grad(backend):
    problem = Problem(Config("tanh", True, False, False, "D≠H≠N≠T"))
    layer = problem.layer(backend)
    leaves = problem.leaves()
    inputs = [*leaves, *layer.parameters()]
    loss = problem.loss(*layer(*leaves))
    recorded = mr.grad(loss, inputs, create_graph=True)
    plain = mr.grad(loss, inputs)
    assert all(t.grad is None for t in inputs)
    for name, a, b in zip(NAMES, recorded, plain, strict=True):
        assert relative_error(a.numpy(), b.numpy()) <= 1e-13, name


# --- peers ------------------------------------------------------------------------------------------------------------


def torch_rnn(torch, layers, bidirectional=False):
    """Return a torch.nn.RNN with the layers' weights: transposed, its second bias zero."""
    layer = layers[0]
    D, H = layer.W_xh.shape
    rnn = torch.nn.RNN(
        D, H, nonlinearity=layer.activation.name, bias=layer.b_h is not None, batch_first=layer.batch_first,
        bidirectional=bidirectional, dtype=torch.float64,
    )  # fmt: skip
    with torch.no_grad():
        for one, suffix in zip(layers, ["", "_reverse"], strict=False):
            getattr(rnn, f"weight_ih_l0{suffix}").copy_(torch.from_numpy(one.W_xh.data.T.copy()))
            getattr(rnn, f"weight_hh_l0{suffix}").copy_(torch.from_numpy(one.W_hh.data.T.copy()))
            if one.b_h is not None:
                getattr(rnn, f"bias_ih_l0{suffix}").copy_(torch.from_numpy(one.b_h.data))
                getattr(rnn, f"bias_hh_l0{suffix}").zero_()
    return rnn


def torch_gradients(rnn, suffix=""):
    found = [getattr(rnn, f"weight_{kind}_l0{suffix}").grad.numpy().T for kind in ("ih", "hh")]
    return found + ([getattr(rnn, f"bias_ih_l0{suffix}").grad.numpy()] if rnn.bias else [])


@pytest.mark.peer
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("config", [c for c in GRID if c.activation in ("tanh", "relu")], ids=spell)
def test_it_is_torchs_rnn(config, backend, torch):
    """torch.nn.RNN has no reverse of its own: it is given time turned round."""
    problem = Problem(config)
    layer = problem.layer(backend)
    rnn = torch_rnn(torch, [layer])
    time = 1 if config.batch_first else 0
    x = torch.from_numpy(problem.turn(problem.x).copy()).requires_grad_()
    h0 = torch.from_numpy(problem.h0[None].copy()).requires_grad_()
    outputs, h_n = rnn(x.flip(time) if config.reverse else x, h0)
    outputs = outputs.flip(time) if config.reverse else outputs
    v, u = torch.from_numpy(problem.turn(problem.v).copy()), torch.from_numpy(problem.u)
    ((outputs * v).sum() + (h_n[0] * u).sum()).backward()
    exact = [problem.turn(outputs.detach().numpy()), h_n[0].detach().numpy(), problem.turn(x.grad.numpy()), h0.grad[0]]
    exact = [np.asarray(a) for a in exact] + torch_gradients(rnn)
    found = problem.run(layer)
    for (name, a), b in zip(found.items(), exact, strict=True):
        assert relative_error(a, b) <= 1e-12, name


@pytest.mark.peer
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("activation", ["tanh", "relu"])
def test_two_layers_are_torchs_bidirectional_rnn(activation, bias, torch):
    problems = [Problem(Config(activation, bias, reverse, False, "D≠H≠N≠T")) for reverse in (False, True)]
    layers = [problem.layer("fused") for problem in problems]
    rnn = torch_rnn(torch, layers, bidirectional=True)
    x = mr.Tensor(problems[0].x, requires_grad=True)
    h0 = [mr.Tensor(problem.h0, requires_grad=True) for problem in problems]
    results = [layer(x, h) for layer, h in zip(layers, h0, strict=True)]
    both = mr.concatenate([r.outputs for r in results], axis=-1)
    v = np.concatenate([problem.v for problem in problems], axis=-1)
    loss = (both * v).sum()
    for problem, result in zip(problems, results, strict=True):
        loss = loss + (result.final_state * problem.u).sum()
    loss.backward()
    tx = torch.from_numpy(problems[0].x.copy()).requires_grad_()
    th0 = torch.from_numpy(np.stack([problem.h0 for problem in problems])).requires_grad_()
    outputs, h_n = rnn(tx, th0)
    u = torch.from_numpy(np.stack([problem.u for problem in problems]))
    ((outputs * torch.from_numpy(v)).sum() + (h_n * u).sum()).backward()
    assert relative_error(both.numpy(), outputs.detach().numpy()) <= 1e-12
    assert relative_error(np.stack([r.final_state.numpy() for r in results]), h_n.detach().numpy()) <= 1e-12
    assert relative_error(x.grad, tx.grad.numpy()) <= 1e-12
    assert relative_error(np.stack([h.grad for h in h0]), th0.grad.numpy()) <= 1e-12
    for layer, suffix in zip(layers, ["", "_reverse"], strict=True):
        for p, exact in zip(layer.parameters(), torch_gradients(rnn, suffix), strict=True):
            assert relative_error(p.grad, exact) <= 1e-12, p.name + suffix


# --- one step, and the two ways to write it ---------------------------------------------------------------------------


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("config", CLASSES, ids=spell)
def test_steps_are_the_layer(config, backend):
    """Step after step gives the same outputs and the same gradients as the whole sequence at once."""
    problem = Problem(config)
    layer = problem.layer(backend)
    whole = problem.run(layer)
    layer.zero_grad()
    x, h0 = mr.Tensor(problem.x, requires_grad=True), mr.Tensor(problem.h0, requires_grad=True)
    state, outputs, loss = h0, {}, 0.0
    order = range(len(problem.x))
    for t in reversed(order) if config.reverse else order:
        outputs[t] = state = layer.step(x[t], state)
        loss = loss + (state * problem.v[t]).sum()
    (loss + (state * problem.u).sum()).backward()
    found = {"outputs": np.stack([outputs[t].numpy() for t in order]), "final_state": state.numpy()}
    found |= {"x": x.grad, "h0": h0.grad} | {p.name: p.grad for p in layer.parameters()}
    for name, exact in whole.items():
        assert relative_error(found[name], exact) <= 1e-12, name


def test_a_step_without_a_state_starts_from_zeros():
    layer = mr.RecurrentLayer(3, 5, rng=0)
    x_t = np.ones((2, 3))
    np.testing.assert_array_equal(layer.step(x_t).numpy(), layer.step(x_t, np.zeros((2, 5))).numpy())


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("config", [c for c in CLASSES if not c.reverse and not c.batch_first], ids=spell)
def test_the_concatenated_form_is_the_same_layer(config, backend):
    """H_t = φ([X_t H_{t-1}] W + b), note 003, equation 14-2, second line."""
    problem = Problem(config)
    layer = problem.layer(backend)
    b = layer.b_h.data if config.bias else np.zeros(4)
    activation = ACTIVATIONS[config.activation]
    step = textbook.layer_step_batch_concat
    expected = textbook.unroll(step, problem.x, problem.h0, layer.W, b, activation=activation)
    outputs, _ = layer(problem.x, problem.h0)
    assert relative_error(outputs.numpy(), expected) <= 1e-14


def test_W_is_a_copy_that_cannot_be_written_into_and_follows_the_parameters():
    layer = mr.RecurrentLayer(2, 4, rng=0)
    W = layer.W
    assert W.shape == (6, 4)
    assert W.dtype == np.float32
    np.testing.assert_array_equal(W[:2], layer.W_xh.data)
    np.testing.assert_array_equal(W[2:], layer.W_hh.data)
    with pytest.raises(ValueError, match="read-only"):
        W[0, 0] = 1
    with pytest.raises(AttributeError):
        layer.W = W
    layer.W_hh.data = layer.W_hh.data + 1
    np.testing.assert_array_equal(layer.W[2:], layer.W_hh.data)
    assert not np.array_equal(W, layer.W)


# --- what goes in stays as it was, what came out too ------------------------------------------------------------------


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("config", CLASSES, ids=spell)
def test_nothing_handed_in_is_written_into(config, backend):
    """Inputs, initial state, parameters and the gradients handed in are read-only, so that writing would raise."""
    problem = Problem(config)
    layer = problem.layer(backend)
    x, h0 = problem.leaves()
    for t in (x, h0, *layer.parameters()):
        t.data.flags.writeable = False
    outputs, final_state = layer(x, h0)
    for t in (outputs, final_state):
        gradient = np.ones(t.shape)
        gradient.flags.writeable = False
        t.backward(gradient, retain_graph=True)
    outputs.data.flags.writeable = False  # backward reads what forward saved, again and again
    outputs.backward(np.ones(outputs.shape))
    assert all(t.grad.any() for t in (x, h0, *layer.parameters()))


@pytest.mark.parametrize("backend", BACKENDS)
def test_outputs_held_across_calls_are_not_overwritten(backend):
    problem = Problem(Config("tanh", True, False, False, "D≠H≠N≠T"))
    layer = problem.layer(backend)
    results = [layer(problem.x * k, problem.h0) for k in range(4)]
    again = [layer(problem.x * k, problem.h0) for k in range(4)]
    for one, two in zip(results, again, strict=True):
        np.testing.assert_array_equal(one.outputs.numpy(), two.outputs.numpy())
        np.testing.assert_array_equal(one.final_state.numpy(), two.final_state.numpy())
    arrays = [t.numpy() for result in results + again for t in result]
    assert not any(np.shares_memory(a, b) for a, b in itertools.combinations(arrays, 2))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_two_live_graphs_of_one_layer(order, backend):
    problem = Problem(Config("tanh", True, True, False, "D≠H≠N≠T"))
    layer = problem.layer(backend)
    other = np.cos(problem.x)
    alone = []
    for x in (problem.x, other):
        layer.zero_grad()
        problem.loss(*layer(x, problem.h0)).backward()
        alone.append([p.grad for p in layer.parameters()])
    layer.zero_grad()
    losses = [problem.loss(*layer(x, problem.h0)) for x in (problem.x, other)]
    for k in order:
        losses[k].backward()
    for p, a, b in zip(layer.parameters(), *alone, strict=True):
        np.testing.assert_allclose(p.grad, a + b, rtol=0, atol=1e-14)


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_initial_state_and_the_callers_arrays_may_change_later(backend):
    """The layer has copied the state; and handing the same array on as input and as state is no trouble."""
    problem = Problem(Config("tanh", True, False, False, "D≠H≠N≠T"))
    layer = problem.layer(backend)
    expected = problem.run(layer)["outputs"]
    h0 = problem.h0.copy()
    outputs, _ = layer(problem.x, h0)
    h0[...] = 7
    np.testing.assert_array_equal(outputs.numpy(), expected)


def test_a_carried_state_does_not_keep_the_sequence_alive():
    layer = mr.RecurrentLayer(2, 3, rng=0)
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


@pytest.mark.parametrize("backend", BACKENDS)
def test_backward_lets_go_of_what_forward_kept_at_once(backend):
    layer = mr.RecurrentLayer(2, 3, backend=backend, rng=0)
    gc.disable()
    try:
        x = np.ones((50, 4, 2), np.float32)
        kept = weakref.ref(x)
        outputs, _ = layer(x)
        loss = outputs.sum()
        del x
        assert kept() is not None
        loss.backward()
        assert kept() is None
    finally:
        gc.enable()


# --- who asks for a gradient, and who gets one ------------------------------------------------------------------------


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("wanted", list(itertools.product([True, False], repeat=5)))
def test_each_gets_its_gradient_whoever_else_asks(wanted, backend):
    """x and h0 with or without a gradient, any parameters frozen: the gradients of the others do not change."""
    problem = Problem(Config("tanh", True, False, False, "D≠H≠N≠T"))
    layer = problem.layer(backend)
    expected = problem.run(layer)
    layer.zero_grad()
    x, h0 = problem.leaves(*wanted[:2])
    leaves = dict(zip(NAMES, [x, h0, *layer.parameters()], strict=True))
    for p, want in zip(layer.parameters(), wanted[2:], strict=True):
        p.requires_grad = want
    outputs, final_state = layer(x, h0)
    assert outputs.requires_grad == final_state.requires_grad == any(wanted)
    if not any(wanted):
        with pytest.raises(RuntimeError, match="nothing was recorded"):
            problem.loss(outputs, final_state).backward()
        return
    problem.loss(outputs, final_state).backward()
    for (name, leaf), want in zip(leaves.items(), wanted, strict=True):
        if want:
            np.testing.assert_allclose(leaf.grad, expected[name], rtol=0, atol=1e-13, err_msg=name)
        else:
            assert leaf.grad is None, name


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_layer_that_the_loss_does_not_see_gets_no_gradient(backend):
    problem = Problem(Config("tanh", True, False, False, "D≠H≠N≠T"))
    layer = problem.layer(backend)
    x, h0 = problem.leaves()
    outputs, final_state = layer(x, h0)
    (h0 * 2.0).sum().backward()
    assert x.grad is None
    assert all(p.grad is None for p in layer.parameters())
    np.testing.assert_array_equal(h0.grad, np.full(h0.shape, 2.0))
    problem.loss(outputs, final_state).backward()  # the graph is still there
    assert x.grad.any()


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("backend", BACKENDS)
def test_no_gradient_flows_from_the_future(backend, reverse):
    """outputs[t] depends on the steps processed up to t and on no other."""
    problem = Problem(Config("tanh", True, reverse, False, "D≠H≠N≠T"))
    layer = problem.layer(backend)
    for t in range(5):
        x, _ = problem.leaves()
        layer(x, problem.h0).outputs[t].sum().backward()
        reached = x.grad.any(axis=(1, 2))
        np.testing.assert_array_equal(reached, np.arange(5) >= t if reverse else np.arange(5) <= t)


@pytest.mark.parametrize("backend", BACKENDS)
def test_no_gradient_crosses_from_row_to_row(backend):
    problem = Problem(Config("tanh", True, False, True, "D≠H≠N≠T"))
    layer = problem.layer(backend)
    x, h0 = problem.leaves()
    layer(x, h0).outputs[1].sum().backward()  # batch_first: row 1
    np.testing.assert_array_equal(x.grad.any(axis=(1, 2)), [False, True, False])
    np.testing.assert_array_equal(h0.grad.any(axis=1), [False, True, False])


@pytest.mark.parametrize("backend", BACKENDS)
def test_no_grad_records_nothing(backend):
    layer = mr.RecurrentLayer(2, 3, backend=backend, rng=0)
    with mr.no_grad():
        outputs, final_state = layer(np.ones((4, 1, 2)))
    assert not outputs.requires_grad
    assert not final_state.requires_grad


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_graph_that_is_retained_gives_the_same_gradient_again(backend):
    problem = Problem(Config("relu", True, True, True, "D≠H≠N≠T"))
    layer = problem.layer(backend)
    once = problem.run(layer)
    layer.zero_grad()
    x, h0 = problem.leaves()
    loss = problem.loss(*layer(x, h0))
    loss.backward(retain_graph=True)
    loss.backward()
    found = {"x": problem.turn(x.grad), "h0": h0.grad} | {p.name: p.grad for p in layer.parameters()}
    for name, g in found.items():
        np.testing.assert_array_equal(g, 2 * once[name], err_msg=name)
    with pytest.raises(mr.FreedGraphError):
        loss.backward()


@pytest.mark.parametrize("backend", BACKENDS)
def test_one_array_in_two_roles(backend):
    """W_xh and W_hh may be the same Parameter: its gradient is the sum of both."""
    rng = np.random.default_rng(0)
    x, v = rng.standard_normal((4, 2, 3)), rng.standard_normal((4, 2, 3))
    layer = mr.RecurrentLayer(3, 3, backend=backend, dtype=np.float64, rng=0)
    apart = copy.deepcopy(layer)
    apart.W_xh.data = layer.W_hh.data.copy()
    layer.W_xh = layer.W_hh
    for one in (layer, apart):
        (one(x).outputs * v).sum().backward()
    np.testing.assert_allclose(layer.W_hh.grad, apart.W_xh.grad + apart.W_hh.grad, rtol=0, atol=1e-13)
    assert [p.shape for p in layer.parameters()] == [(3, 3), (3,)]
    assert mr.gradcheck(lambda *_: layer(x), layer.parameters())


# --- state handed on --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("cut", [1, 2, 4])
def test_a_state_handed_on_continues_the_sequence(cut, backend):
    """Two calls with the state handed on are one call: outputs, and gradients that flow through the state."""
    problem = Problem(Config("tanh", True, False, False, "D≠H≠N≠T"))
    layer = problem.layer(backend)
    whole = problem.run(layer)
    layer.zero_grad()
    x, h0 = problem.leaves()
    first, state = layer(x[:cut], h0)
    second, state = layer(x[cut:], state)
    problem.loss(mr.concatenate([first, second]), state).backward()
    found = {"x": x.grad, "h0": h0.grad} | {p.name: p.grad for p in layer.parameters()}
    for name, g in found.items():
        assert relative_error(g, whole[name]) <= 1e-13, name


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_detached_state_cuts_the_gradient_and_nothing_else(backend):
    problem = Problem(Config("tanh", True, False, False, "D≠H≠N≠T"))
    layer = problem.layer(backend)
    x, h0 = problem.leaves()
    whole, _ = layer(x, h0)
    first, state = layer(x[:2], h0)
    (first * problem.v[:2]).sum().backward()
    second, _ = layer(x[2:], state.detach())
    np.testing.assert_allclose(second.numpy(), whole.numpy()[2:], rtol=0, atol=1e-15)
    before = x.grad[:2].copy(), h0.grad.copy()
    (second * problem.v[2:]).sum().backward()  # no error: the first graph is not needed
    np.testing.assert_array_equal(x.grad[:2], before[0])
    np.testing.assert_array_equal(h0.grad, before[1])
    assert x.grad[2:].any()


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_state_that_was_not_detached_is_refused_with_the_cure(backend):
    problem = Problem(Config("tanh", True, False, False, "D≠H≠N≠T"))
    layer = problem.layer(backend)
    outputs, state = layer(problem.x)
    outputs.sum().backward()
    grads = [p.grad.copy() for p in layer.parameters()]
    outputs, _ = layer(problem.x, state)
    with pytest.raises(mr.FreedGraphError) as info:
        outputs.sum().backward()
    text = str(info.value)
    assert "already used up by an earlier backward()" in text
    assert f"'{'RecurrentLayer' if backend == 'fused' else 'tanh'}'" in text
    assert "pass state.detach() on" in text
    assert "retain_graph=True" in text
    for p, g in zip(layer.parameters(), grads, strict=True):
        np.testing.assert_array_equal(p.grad, g)


@pytest.mark.parametrize("how", ["set", "in place", "step", "load"])
@pytest.mark.parametrize("name", ["W_xh", "W_hh"])
@pytest.mark.parametrize("backend", BACKENDS)
def test_a_parameter_changed_between_forward_and_backward_is_refused(backend, name, how):
    problem = Problem(Config("tanh", True, False, False, "D≠H≠N≠T"))
    layer = problem.layer(backend)
    x, h0 = problem.leaves()
    loss = problem.loss(*layer(x, h0))
    parameter = getattr(layer, name)
    if how == "set":
        parameter.data = parameter.data * 2
    elif how == "in place":
        parameter.data -= 1
    elif how == "load":
        layer.load_state_dict(layer.state_dict())
    else:
        parameter.grad = np.ones(parameter.shape)
        mr.optim.SGD([parameter], lr=0.1).step()
        parameter.grad = None
    with pytest.raises(mr.ChangedParameterError, match=r"backward: parameter W_\wh \(\d, 4\) was changed after the fo"):
        loss.backward()
    assert all(t.grad is None for t in [x, h0, *layer.parameters()])
    problem.loss(*layer(x, h0)).backward()  # run forward again, as the error says
    assert parameter.grad.any()


@pytest.mark.parametrize("changed", ["x", "h0"])
@pytest.mark.parametrize("constant", [False, True])
@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("backend", BACKENDS)
def test_an_input_changed_between_forward_and_backward_is_refused(backend, batch_first, constant, changed):
    """In place, and the layer may hold a view of it. A constant, too: the gradients of the weights read it."""
    problem = Problem(Config("tanh", True, False, batch_first, "D≠H≠N≠T"))
    layer = problem.layer(backend)
    leaves = dict(zip(["x", "h0"], problem.leaves(not constant, not constant), strict=True))
    loss = problem.loss(*layer(*leaves.values()))
    tensor = leaves[changed]
    tensor.data += 1
    with pytest.raises(mr.ChangedParameterError, match=re.escape(f"a Tensor of shape {tensor.shape} was changed")):
        loss.backward()
    assert all(p.grad is None for p in layer.parameters())


# --- dtype at the door ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("given", [np.float16, np.float32, np.float64, np.int64, np.uint8, np.bool_, ">f4", list])
def test_whatever_comes_in_is_cast_to_the_layers_dtype(given, dtype, backend):
    layer = mr.RecurrentLayer(3, 5, backend=backend, dtype=dtype, rng=0)
    x = np.arange(24).reshape(4, 2, 3) % 3
    h0 = np.arange(10).reshape(2, 5) % 2
    expected = layer(x.astype(dtype), h0.astype(dtype))
    given_x, given_h0 = (x.tolist(), h0.tolist()) if given is list else (x.astype(given), h0.astype(given))
    outputs, final_state = layer(given_x, given_h0)
    assert outputs.dtype == final_state.dtype == dtype
    if given is np.bool_:
        expected = layer(x.astype(bool).astype(dtype), h0.astype(dtype))
    np.testing.assert_array_equal(outputs.numpy(), expected.outputs.numpy())
    (outputs.sum() + final_state.sum()).backward()
    assert all(p.grad.dtype == dtype for p in layer.parameters())


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize(("inside", "outside"), [(np.float32, np.float64), (np.float64, np.float32)])
def test_a_tensor_of_another_dtype_gets_a_gradient_of_its_own(inside, outside, batch_first, backend):
    layer = mr.RecurrentLayer(3, 5, backend=backend, batch_first=batch_first, dtype=inside, rng=0)
    x = np.random.default_rng(0).standard_normal((4, 2, 3)).astype(np.float32)
    h0 = np.full((4 if batch_first else 2, 5), 0.5)
    same = [mr.Tensor(a.astype(inside), requires_grad=True) for a in (x, h0)]
    other = [mr.Tensor(a.astype(outside), requires_grad=True) for a in (x, h0)]
    for leaves in (same, other):
        outputs, final_state = layer(*leaves)
        assert outputs.dtype == final_state.dtype == inside
        (outputs.sum() + final_state.sum()).backward()
    for a, b in zip(same, other, strict=True):
        assert b.grad.dtype == outside
        np.testing.assert_allclose(a.grad, b.grad, rtol=1e-6)


def test_a_list_keeps_every_digit_in_a_float64_layer():
    layer = mr.RecurrentLayer(
        1, 1, activation="identity", bias=False, dtype=np.float64, input_initializer="ones", rng=0
    )
    assert layer([[[0.1]]]).outputs.item() == 0.1
    assert layer.step([[0.1]]).item() == 0.1
    layer.W_hh.data = [[1.0]]
    assert layer([[[0.0]]], [[0.1]]).final_state.item() == 0.1


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_pair_that_leaves_the_dtype_alone_keeps_float32(backend):
    layer = mr.RecurrentLayer(3, 5, activation=ISRU, backend=backend, rng=0)
    x = mr.Tensor(np.ones((4, 2, 3), np.float32), requires_grad=True)
    layer(x).outputs.sum().backward()
    assert {t.grad.dtype for t in (x, *layer.parameters())} == {np.dtype(np.float32)}


# --- long sequences, threads, copies ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("backend", "T"), [("fused", 50_000), ("graph", 3_000)])
def test_long_sequences_meet_no_recursion_limit(backend, T):
    layer = mr.RecurrentLayer(1, 2, activation="identity", bias=False, backend=backend, dtype=np.float64, rng=0)
    x = mr.Tensor(np.ones((T, 1, 1)), requires_grad=True)
    layer(x).final_state.sum().backward()
    W_hh = layer.W_hh.data  # orthogonal: the gradient neither vanishes nor explodes on its way
    exact = layer.W_xh.data @ np.linalg.matrix_power(W_hh, T - 1) @ np.ones((2, 1))
    assert x.grad[0, 0, 0] == pytest.approx(exact.item(), rel=1e-8)
    assert x.grad[-1, 0, 0] == pytest.approx((layer.W_xh.data @ np.ones((2, 1))).item(), rel=1e-12)


@pytest.mark.parametrize("backend", BACKENDS)
def test_threads_that_share_a_layer_get_the_serial_sum(backend):
    problem = Problem(Config("tanh", True, False, False, "D≠H≠N≠T"))
    layer = problem.layer(backend)

    def work(k):
        for _ in range(10):
            problem.loss(*layer(problem.x * k, problem.h0)).backward()

    for k in range(8):
        work(k)
    serial = [p.grad for p in layer.parameters()]
    layer.zero_grad()
    threads = [threading.Thread(target=work, args=(k,)) for k in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for p, g in zip(layer.parameters(), serial, strict=True):
        np.testing.assert_allclose(p.grad, g, rtol=0, atol=1e-12 * np.abs(g).max())


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("backend", BACKENDS)
def test_a_deep_copy_is_the_same_layer_and_another(activation, backend):
    problem = Problem(Config(activation, True, True, True, "D≠H≠N≠T"))
    layer = problem.layer(backend)
    twin = copy.deepcopy(layer)
    assert repr(twin) == repr(layer)
    before = problem.run(layer)
    for name, value in problem.run(twin).items():
        np.testing.assert_array_equal(value, before[name], err_msg=name)
    for p, q in zip(layer.parameters(), twin.parameters(), strict=True):
        assert p is not q
        assert p.name == q.name
        assert type(q) is mr.Parameter
        assert not np.shares_memory(p.data, q.data)
        q.data -= 1
    np.testing.assert_array_equal(problem.run(layer)["outputs"], before["outputs"])


# --- how weights start ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_irnn_starts_as_its_paper_says(dtype):
    layer = mr.RecurrentLayer(50, 100, activation="relu", init="irnn", dtype=dtype, rng=0)
    np.testing.assert_array_equal(layer.W_hh.data, np.eye(100))
    np.testing.assert_array_equal(layer.b_h.data, np.zeros(100))
    assert layer.W_xh.data.std() == pytest.approx(0.001, rel=0.03)
    assert abs(layer.W_xh.data.mean()) < 4 * 0.001 / math.sqrt(5000)
    assert {p.dtype for p in layer.parameters()} == {np.dtype(dtype)}


def test_irnn_remembers_until_an_input_changes_it():
    layer = mr.RecurrentLayer(2, 5, activation="relu", init="irnn", rng=0)
    h0 = np.random.default_rng(0).random((3, 5)).astype(np.float32)
    outputs, final_state = layer(np.zeros((200, 3, 2)), h0)
    np.testing.assert_array_equal(outputs.numpy(), np.broadcast_to(h0, (200, 3, 5)))
    np.testing.assert_array_equal(final_state.numpy(), h0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"init": "irnn"},
            "RecurrentLayer: init='irnn' is a layer of rectifiers, got activation='tanh': try activation='relu'",
        ),
        (
            {"init": "irnn", "activation": "identity"},
            "RecurrentLayer: init='irnn' is a layer of rectifiers, got activation='identity': try activation='relu'",
        ),
        (
            {"init": "irnn", "activation": "relu", "recurrent_initializer": "zeros"},
            "RecurrentLayer: init='irnn' sets both initialisers itself: leave them out, or leave init out",
        ),
        (
            {"init": "irnn", "activation": "relu", "input_initializer": lambda shape, rng: np.ones(shape)},
            "RecurrentLayer: init='irnn' sets both initialisers itself: leave them out, or leave init out",
        ),
        (
            {"init": "orthogonal"},
            "RecurrentLayer: init must be None or 'irnn', got 'orthogonal': initialisers of single arrays go to "
            "input_initializer and recurrent_initializer",
        ),
    ],
)
def test_what_irnn_refuses(options, message):
    with raises(ValueError, message):
        mr.RecurrentLayer(3, 5, **options)


@pytest.mark.parametrize("name", init.PRESETS)
def test_every_initialiser_by_name(name):
    layer = mr.RecurrentLayer(4, 4, input_initializer=name, recurrent_initializer=name, dtype=np.float64, rng=3)
    rng = np.random.default_rng(3)  # one generator: first W_xh, then W_hh
    np.testing.assert_array_equal(layer.W_xh.data, init.PRESETS[name]((4, 4), rng))
    np.testing.assert_array_equal(layer.W_hh.data, init.PRESETS[name]((4, 4), rng))
    np.testing.assert_array_equal(layer.b_h.data, np.zeros(4))


def test_initialisers_as_callables():
    seen = []

    def mine(shape, rng):
        seen.append((shape, rng))
        return np.full(shape, len(seen))

    rng = np.random.default_rng(0)
    layer = mr.RecurrentLayer(3, 5, input_initializer=mine, recurrent_initializer=mine, rng=rng)
    assert seen == [((3, 5), rng), ((5, 5), rng)]
    np.testing.assert_array_equal(layer.W_xh.data, np.ones((3, 5)))
    np.testing.assert_array_equal(layer.W_hh.data, np.full((5, 5), 2))
    uniform = mr.RecurrentLayer(3, 50, recurrent_initializer=init.uniform(0.25, 0.5), rng=0).W_hh.data
    assert 0.25 <= uniform.min() < uniform.max() <= 0.5


def test_by_default_glorot_orthogonal_and_zeros():
    layer = mr.RecurrentLayer(3, 5, dtype=np.float64, rng=7)
    rng = np.random.default_rng(7)
    np.testing.assert_array_equal(layer.W_xh.data, init.glorot_uniform((3, 5), rng))
    np.testing.assert_array_equal(layer.W_hh.data, init.orthogonal((5, 5), rng))
    np.testing.assert_allclose(layer.W_hh.data @ layer.W_hh.data.T, np.eye(5), rtol=0, atol=1e-14)


def test_a_seed_makes_a_layer_and_a_generator_goes_from_layer_to_layer():
    def weights(*layers):
        return [p.data for layer in layers for p in layer.parameters()]

    for a, b in zip(weights(mr.RecurrentLayer(3, 5, rng=1)), weights(mr.RecurrentLayer(3, 5, rng=1)), strict=True):
        np.testing.assert_array_equal(a, b)
    assert not np.array_equal(mr.RecurrentLayer(3, 5, rng=1).W_hh.data, mr.RecurrentLayer(3, 5, rng=2).W_hh.data)
    runs = []
    for _ in range(2):
        rng = np.random.default_rng(1)
        runs.append(
            weights(mr.RecurrentLayer(3, 5, rng=rng), mr.RecurrentLayer(3, 5, rng=rng), mr.Linear(5, 2, rng=rng))
        )
    for a, b in zip(*runs, strict=True):
        np.testing.assert_array_equal(a, b)
    assert not np.array_equal(runs[0][1], runs[0][4])  # the second layer's W_hh is not the first's


def test_float32_weights_are_the_float64_ones_rounded():
    single, double = (mr.RecurrentLayer(3, 5, dtype=dtype, rng=1) for dtype in (np.float32, np.float64))
    for p, q in zip(single.parameters(), double.parameters(), strict=True):
        np.testing.assert_array_equal(p.data, q.data.astype(np.float32))


# --- counting ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(("D", "H"), list(itertools.product([1, 3, 10], [1, 5, 20])))
def test_three_ways_to_count_agree(D, H, bias):
    for activation in ACTIVATIONS.values():
        layer = mr.RecurrentLayer(D, H, activation=activation, bias=bias, rng=0)
        expected = counting.elman(D, H, bias=bias)
        assert (
            layer.count_params() == sum(p.data.size for p in layer.parameters()) == expected.total == H * (D + H + bias)
        )
        assert layer.count() == expected
        assert {p.name: p.shape for p in layer.parameters()} == expected.shapes
        for P in (1, 4):
            model = mr.SequenceModel(layer, mr.Linear(H, P, bias=bias, rng=0))
            assert model.count_params() == counting.elman(D, H, P, bias=bias).total


def test_the_summary_of_a_layer_prints_the_table_and_what_others_count(capsys):
    layer = mr.RecurrentLayer(10, 20)
    assert layer.summary() is None
    count = counting.elman(10, 20)
    lines = capsys.readouterr().out.splitlines()
    table = count.table().splitlines()
    assert lines[: len(table)] == table
    assert lines[len(table)] == "RecurrentLayer, with m = 10, n = 20; in other libraries:"
    assert lines[len(table) + 1 :] == [*(f"  {line}" for line in count.reconciliation()), *count.notes]
    torch, keras, onnx = lines[len(table) + 1 : len(table) + 4]
    assert torch.startswith("  torch nn.RNN: 640 = 620 + 20: two biases")
    assert keras.startswith("  Keras SimpleRNN: 620, the same")
    assert onnx.startswith("  ONNX RNN: 640 = 620 + 20: two biases")


EXAM = """\
name            shape (row convention)  shape (column convention)  formula        count
--------------  ----------------------  -------------------------  -------------  -----
recurrent.W_xh  (10, 20)                (20, 10)                   n·m = 20·10      200
recurrent.W_hh  (20, 20)                (20, 20)                   n·n = 20·20      400
head.weight     (20, 5)                 (5, 20)                    in·out = 20·5    100
--------------  ----------------------  -------------------------  -------------  -----
total                                                                               700
recurrent, with m = 10, n = 20; in other libraries:
  torch nn.RNN: 600, the same: bias=False.
  Keras SimpleRNN: 600, the same: use_bias=False.
  ONNX RNN: 600, the same: its input B is optional and left out.
The count does not depend on the length T of the sequence: every step uses the same arrays.
The count does not depend on the activation φ: sigmoid, tanh and ReLU have no parameters.
"""


def exam(**options):
    """Return the network of note 000's exam."""
    recurrent = mr.RecurrentLayer(10, 20, bias=False, rng=0, **options)
    return mr.SequenceModel(recurrent, mr.Linear(20, 5, bias=False, rng=1, dtype=recurrent.dtype))


def test_the_exam_of_note_000(capsys):
    model = exam(activation="relu")
    assert [p.shape for p in model.parameters()] == [(10, 20), (20, 20), (20, 5)]
    assert [p.shape[::-1] for p in model.parameters()] == [(20, 10), (20, 20), (5, 20)]  # the exam's three answers
    assert model.count_params() == sum(p.data.size for p in model.parameters()) == 700
    model.summary()
    assert capsys.readouterr().out == EXAM


# --- SequenceModel ----------------------------------------------------------------------------------------------------


def test_the_exams_network_trains_and_alike_in_both_backends():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((6, 8, 10))
    targets = np.tanh(np.cumsum(x[..., :5], axis=0))  # to be remembered, step by step
    curves = {}
    for backend in BACKENDS:
        model = exam(backend=backend, dtype=np.float64)
        optimizer = mr.optim.Adam(model.parameters(), lr=0.01)
        curve = []
        for _ in range(60):
            optimizer.zero_grad()
            loss = mr.losses.mse(model(x).predictions, targets)
            loss.backward()
            optimizer.step()
            curve.append(loss.item())
        curves[backend] = curve
        assert curve[-1] < 0.1 * curve[0]
    np.testing.assert_allclose(curves["fused"], curves["graph"], rtol=1e-9)


@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("reverse", [False, True])
def test_readouts(reverse, batch_first):
    rng = np.random.default_rng(0)
    layer = mr.RecurrentLayer(3, 5, reverse=reverse, batch_first=batch_first, rng=rng)
    head = mr.Linear(5, 4, rng=rng)
    x = rng.standard_normal((2, 7, 3) if batch_first else (7, 2, 3))
    every, last = mr.SequenceModel(layer, head), mr.SequenceModel(layer, head, readout="last")
    predictions, final_state = every(x)
    assert predictions.shape == ((2, 7, 4) if batch_first else (7, 2, 4))
    outputs, expected = layer(x)
    np.testing.assert_array_equal(final_state.numpy(), expected.numpy())
    np.testing.assert_array_equal(predictions.numpy(), head(outputs).numpy())
    only, _ = last(x)
    assert only.shape == (2, 4)
    t = 0 if reverse else 6
    np.testing.assert_allclose(only.numpy(), predictions.numpy()[(slice(None), t) if batch_first else t], rtol=1e-5)


def test_a_model_takes_and_returns_a_state():
    model = exam(dtype=np.float64)
    x = np.random.default_rng(0).standard_normal((6, 2, 10))
    whole, final_state = model(x)
    first, state = model(x[:4])
    second, state = model(x[4:], initial_state=state)
    np.testing.assert_allclose(np.concatenate([first.numpy(), second.numpy()]), whole.numpy(), rtol=0, atol=1e-14)
    np.testing.assert_allclose(state.numpy(), final_state.numpy(), rtol=0, atol=1e-14)
    assert isinstance(model(x), mr.SequenceOutput)
    assert isinstance(model.recurrent(x), mr.RecurrentOutput)


def test_the_head_is_the_textbooks():
    model = exam(dtype=np.float64)
    x = np.random.default_rng(0).standard_normal((6, 2, 10))
    outputs, _ = model.recurrent(x)
    expected = textbook.head(outputs.numpy(), model.head.weight.data, np.zeros(5))
    np.testing.assert_allclose(model(x).predictions.numpy(), expected, rtol=0, atol=1e-14)


@pytest.mark.parametrize("batch_first", [False, True])
def test_an_embedding_is_a_product_with_one_hot_vectors(batch_first):
    rng = np.random.default_rng(0)
    layer = mr.RecurrentLayer(3, 5, batch_first=batch_first, dtype=np.float64, rng=rng)
    embedding = mr.Embedding(6, 3, dtype=np.float64, rng=rng)
    model = mr.SequenceModel(layer, mr.Linear(5, 6, dtype=np.float64, rng=rng), embedding=embedding)
    assert next(model.named_parameters())[0] == "embedding.weight"
    assert model.count_params() == 18 + 45 + 36
    ids = rng.integers(0, 6, (4, 2))
    found = []
    for one in (lambda: model(ids).predictions, lambda: model.head(layer(np.eye(6)[ids] @ embedding.weight).outputs)):
        model.zero_grad()
        (one() ** 2).sum().backward()
        found.append([p.grad for p in model.parameters()])
    for name, a, b in zip(model.state_dict(), *found, strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-13, err_msg=name)


def test_every_gradient_of_a_model_by_central_differences():
    layer = mr.RecurrentLayer(2, 4, dtype=np.float64, rng=0)
    model = mr.SequenceModel(layer, mr.Linear(4, 3, dtype=np.float64, rng=1))
    ids = np.random.default_rng(0).integers(0, 3, (5, 2))
    x = np.random.default_rng(1).standard_normal((5, 2, 2))
    assert mr.gradcheck(lambda *_: mr.losses.cross_entropy(model(x).predictions, ids), model.parameters())


@pytest.mark.parametrize(
    ("make", "kind", "message"),
    [
        (
            lambda layer: mr.SequenceModel(mr.Linear(3, 5), mr.Linear(5, 2)),
            TypeError,
            "SequenceModel: recurrent must be a recurrent layer, got Linear",
        ),
        (
            lambda layer: mr.SequenceModel(layer, np.tanh),
            TypeError,
            "SequenceModel: head must be a Module such as Linear, got ufunc",
        ),
        (
            lambda layer: mr.SequenceModel(layer, mr.Linear(4, 2)),
            ValueError,
            "SequenceModel: head takes 4 features and recurrent gives H=5: try Linear(5, …)",
        ),
        (
            lambda layer: mr.SequenceModel(layer, mr.Linear(5, 2), "first"),
            ValueError,
            "SequenceModel: readout must be one of 'all', 'last', got 'first'",
        ),
        (
            lambda layer: mr.SequenceModel(layer, mr.Linear(5, 2), embedding=np.ones((6, 3))),
            TypeError,
            "SequenceModel: embedding must be a Module such as Embedding, or None, got ndarray",
        ),
        (
            lambda layer: mr.SequenceModel(layer, mr.Linear(5, 2), embedding=mr.Embedding(6, 4)),
            ValueError,
            "SequenceModel: embedding gives 4 features and recurrent takes D=3: try Embedding(…, 3)",
        ),
    ],
)
def test_what_a_model_refuses(make, kind, message):
    with raises(kind, message):
        make(mr.RecurrentLayer(3, 5))


# --- errors -----------------------------------------------------------------------------------------------------------

ACTIVATION = (
    "RecurrentLayer: activation must be one of 'tanh', 'relu', 'sigmoid', 'identity' or a pair (φ, φ′) of callables"
)
INITIALISER = (
    "must be one of 'glorot', 'orthogonal', 'identity', 'normal', 'zeros', 'ones' or a callable taking (shape, rng)"
)


@pytest.mark.parametrize(
    ("sizes", "options", "kind", "message"),
    [
        ((0, 5), {}, ValueError, "RecurrentLayer: input_size must be an int ≥ 1, got 0: try 1 or more"),
        ((3, -1), {}, ValueError, "RecurrentLayer: hidden_size must be an int ≥ 1, got -1: try 1 or more"),
        ((3, 5.0), {}, TypeError, "RecurrentLayer: hidden_size must be an int ≥ 1, got 5.0 (float): try 5"),
        ((3, "5"), {}, TypeError, "RecurrentLayer: hidden_size must be an int ≥ 1, got '5' (str): try 1"),
        ((3, True), {}, TypeError, "RecurrentLayer: hidden_size must be an int ≥ 1, got True (bool): try 1"),
        ((3, None), {}, TypeError, "RecurrentLayer: hidden_size must be an int ≥ 1, got None (NoneType): try 1"),
        ((3, 5), {"activation": "swish"}, ValueError, f"{ACTIVATION}, got 'swish'"),
        ((3, 5), {"activation": np.tanh}, TypeError, f"{ACTIVATION}, got <ufunc 'tanh'>"),
        ((3, 5), {"activation": None}, TypeError, f"{ACTIVATION}, got None"),
        (
            (3, 5),
            {"activation": (lambda z: z.sum(), lambda y: y)},
            ValueError,
            "RecurrentLayer: φ must map an array to one of its shape and dtype, (2, 3) float32, got () float32",
        ),
        (
            (3, 5),
            {"activation": (lambda z: z * np.ones(3), lambda y: y)},
            ValueError,
            "RecurrentLayer: φ must map an array to one of its shape and dtype, (2, 3) float32, got (2, 3) float64",
        ),
        (
            (3, 5),
            {"activation": (lambda z: z, lambda y: 1.0)},
            ValueError,
            "RecurrentLayer: φ′ must map an array to one of its shape and dtype, (2, 3) float32, got float",
        ),
        (
            (3, 5),
            {"backend": "numba"},
            ValueError,
            "RecurrentLayer: backend must be one of 'fused', 'graph', got 'numba'",
        ),
        ((3, 5), {"bias": 0}, TypeError, "RecurrentLayer: bias must be True or False, got 0 (int)"),
        ((3, 5), {"reverse": "no"}, TypeError, "RecurrentLayer: reverse must be True or False, got 'no' (str)"),
        (
            (3, 5),
            {"batch_first": None},
            TypeError,
            "RecurrentLayer: batch_first must be True or False, got None (NoneType)",
        ),
        (
            (3, 5),
            {"recurrent_initializer": "xavier"},
            ValueError,
            f"RecurrentLayer: recurrent_initializer {INITIALISER}, got 'xavier': try one of these names, or "
            "normal(std), uniform(low, high)",
        ),
        (
            (3, 5),
            {"input_initializer": np.ones((3, 5))},
            TypeError,
            f"RecurrentLayer: input_initializer {INITIALISER}, got an array of shape (3, 5) and dtype float64: for a "
            "number try constant(number), for an array try lambda shape, rng: array",
        ),
        (
            (3, 5),
            {"init": "irnn", "activation": "relu", "input_initializer": np.ones((3, 5))},
            TypeError,
            f"RecurrentLayer: input_initializer {INITIALISER}, got an array of shape (3, 5) and dtype float64: for a "
            "number try constant(number), for an array try lambda shape, rng: array",
        ),
        (
            (3, 5),
            {"dtype": np.int32},
            TypeError,
            "RecurrentLayer: dtype must be numpy.float32 or numpy.float64, got <class 'numpy.int32'>",
        ),
        ((3, 5), {"dtype": None}, TypeError, "RecurrentLayer: dtype must be numpy.float32 or numpy.float64, got None"),
    ],
)
def test_what_a_layer_is_not_made_of(sizes, options, kind, message):
    rng = np.random.default_rng(0)
    before = rng.bit_generator.state
    with raises(kind, message):
        mr.RecurrentLayer(*sizes, **{"rng": rng} | options)
    assert rng.bit_generator.state == before  # a call that is refused draws nothing


@pytest.mark.parametrize("rng", [-1, "seed", np.random.RandomState(0)])
def test_what_is_no_generator_is_refused(rng):
    with pytest.raises((TypeError, ValueError), match=r"^rng must be a numpy\.random\.Generator, an int ≥ 0"):
        mr.RecurrentLayer(3, 5, rng=rng)


X = "RecurrentLayer: x must have shape (T, N, D=3), got"
NUMBERS = "must be an array of numbers (bool, int or float), got"


@pytest.mark.parametrize(
    ("x", "kind", "message"),
    [
        (np.zeros((7, 3)), ValueError, f"{X} (7, 3): one sequence without its batch axis? Pass x[:, None]"),
        (np.zeros((3, 7, 4)), ValueError, f"{X} (3, 7, 4): did you swap features and time?"),
        (np.zeros((7, 3, 4)), ValueError, f"{X} (7, 3, 4): did you swap features and rows?"),
        (np.zeros((7, 2, 4)), ValueError, f"{X} (7, 2, 4): the layer was made with input_size=3"),
        (np.zeros((0, 2, 3)), ValueError, f"{X} (0, 2, 3): there must be at least one step and one row"),
        (np.zeros((7, 0, 3)), ValueError, f"{X} (7, 0, 3): there must be at least one step and one row"),
        (np.zeros(3), ValueError, f"{X} (3,): steps, rows and features each take one axis"),
        (1.0, ValueError, f"{X} (): steps, rows and features each take one axis"),
        (np.zeros((1, 7, 2, 3)), ValueError, f"{X} (1, 7, 2, 3): steps, rows and features each take one axis"),
        (
            [[["a", "b", "c"]]],
            TypeError,
            f"RecurrentLayer: x {NUMBERS} list of dtype <U1: try np.asarray(data, dtype=float)",
        ),
        (
            np.full((7, 2, 3), None),
            TypeError,
            f"RecurrentLayer: x {NUMBERS} ndarray of dtype object: try np.asarray(data, dtype=float)",
        ),
        (
            np.zeros((7, 2, 3), complex),
            TypeError,
            f"RecurrentLayer: x {NUMBERS} ndarray of dtype complex128: try np.asarray(data, dtype=float)",
        ),
        (
            None,
            TypeError,
            f"RecurrentLayer: x {NUMBERS} NoneType of dtype object: try np.asarray(data, dtype=float)",
        ),
    ],
)
@pytest.mark.parametrize("backend", BACKENDS)
def test_what_a_layer_does_not_take(backend, x, kind, message):
    layer = mr.RecurrentLayer(3, 5, backend=backend, rng=0)
    before = layer.state_dict()
    with raises(kind, message):
        layer(x)
    for p in layer.parameters():
        assert p.grad is None
        np.testing.assert_array_equal(p.data, before[p.name])


@pytest.mark.parametrize(
    ("x", "message"),
    [
        ((7, 3), "(7, 3): one sequence without its batch axis? Pass x[None]"),
        ((2, 3, 7), "(2, 3, 7): did you swap features and time?"),
        ((3, 2, 7), "(3, 2, 7): did you swap features and rows?"),
        ((2, 0, 3), "(2, 0, 3): there must be at least one step and one row"),
    ],
)
def test_the_same_with_batch_first(x, message):
    layer = mr.RecurrentLayer(3, 5, batch_first=True)
    with raises(ValueError, f"RecurrentLayer: x must have shape (N, T, D=3), got {message}"):
        layer(np.zeros(x))


@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("shape", [(7,), (7, 2)])
def test_a_series_of_numbers_without_its_features_axis(shape, batch_first):
    """What a beginner passes for a sine wave. The cure that the error names works, and gives what is wanted."""
    layer = mr.RecurrentLayer(1, 2, batch_first=batch_first, rng=0)
    x = np.arange(math.prod(shape)).reshape(shape) * 0.1
    with pytest.raises(ValueError, match=r"one sequence of numbers\? |one number for each step and row\? ") as info:
        layer(x)
    cured = eval(str(info.value).partition("Pass ")[2])
    T, N = (1, 7) if batch_first and len(shape) == 1 else (7, 1) if len(shape) == 1 else shape
    assert layer(cured).outputs.shape == (T, N, 2)


@pytest.mark.parametrize("batch_first", [False, True])
def test_the_cure_for_a_missing_batch_axis_works(batch_first):
    layer = mr.RecurrentLayer(3, 2, batch_first=batch_first, rng=0)
    x = np.arange(21).reshape(7, 3) * 0.1
    with pytest.raises(ValueError, match="without its batch axis") as info:
        layer(x)
    outputs = layer(eval(str(info.value).partition("Pass ")[2])).outputs
    assert outputs.shape == ((1, 7, 2) if batch_first else (7, 1, 2))


STATE = "must have shape (N=2, H=5), got"


@pytest.mark.parametrize(
    ("state", "kind", "message"),
    [
        (np.zeros(5), ValueError, "{} " + STATE + " (5,): for the same state in each row pass np.tile({}, (2, 1))"),
        (np.zeros((3, 5)), ValueError, "{} " + STATE + " (3, 5): one state for each row of x"),
        (np.zeros((1, 5)), ValueError, "{} " + STATE + " (1, 5): one state for each row of x"),
        (np.zeros((2, 4)), ValueError, "{} " + STATE + " (2, 4): one state for each row of x"),
        (np.zeros((5, 2)), ValueError, "{} " + STATE + " (5, 2): one state for each row of x"),
        (0.0, ValueError, "{} " + STATE + " (): one state for each row of x"),
        ("zeros", TypeError, "{} " + NUMBERS + " str of dtype <U5: try np.asarray(data, dtype=float)"),
        (
            [[1, 2], [3]],
            TypeError,
            "{} must be an array of numbers, got a ragged list: its parts differ in length, so pad them to one length",
        ),
    ],
)
@pytest.mark.parametrize("backend", BACKENDS)
def test_states_that_do_not_fit(backend, state, kind, message):
    layer = mr.RecurrentLayer(3, 5, backend=backend, rng=0)
    with raises(kind, "RecurrentLayer: " + message.format("initial_state", "initial_state")):
        layer(np.zeros((7, 2, 3)), state)
    with raises(kind, "RecurrentLayer: " + message.format("state", "state")):
        layer.step(np.zeros((2, 3)), state)


def test_tensors_in_a_list_would_lose_their_gradients():
    """Above all the whole result of a call handed on as the state, and steps collected in a list."""
    layer = mr.RecurrentLayer(3, 5, rng=0)
    x = np.zeros((7, 2, 3))
    cure = "pass one of them, or join them with minirnn.stack, which keeps their gradients"
    wanted = "must be one array or Tensor"
    message = f"RecurrentLayer: initial_state {wanted}, got a RecurrentOutput that holds Tensors: {cure}"
    with raises(TypeError, message):
        layer(x, layer(x))
    steps = [mr.Tensor(np.ones((2, 3)), requires_grad=True) for _ in range(4)]
    with raises(TypeError, f"RecurrentLayer: x {wanted}, got a list that holds Tensors: {cure}"):
        layer(steps)
    layer(mr.stack(steps)).outputs.sum().backward()
    assert all(step.grad.any() for step in steps)


@pytest.mark.parametrize(
    ("x_t", "message"),
    [
        (np.zeros(3), "got (3,): add the batch axis with x_t[None]"),
        (np.zeros((2, 4)), "got (2, 4): the layer was made with input_size=3"),
        (np.zeros((0, 3)), "got (0, 3): there must be at least one row"),
        (np.zeros((7, 2, 3)), "got (7, 2, 3): this is one step; call the layer for a whole sequence"),
    ],
)
def test_steps_that_do_not_fit(x_t, message):
    with raises(ValueError, f"RecurrentLayer: x_t must have shape (N, D=3), {message}"):
        mr.RecurrentLayer(3, 5).step(x_t)


def test_an_integer_tensor_cannot_ask_for_a_gradient_but_goes_in():
    layer = mr.RecurrentLayer(3, 5, rng=0)
    ids = np.ones((7, 2, 3), int)
    with pytest.raises(TypeError, match="only floats can require a gradient, got dtype int64"):
        mr.Tensor(ids, requires_grad=True)
    np.testing.assert_array_equal(layer(mr.Tensor(ids)).outputs.numpy(), layer(ids).outputs.numpy())


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("backend", BACKENDS)
def test_detect_anomaly_names_what_came_in(backend, bad):
    layer = mr.RecurrentLayer(3, 5, backend=backend, rng=0)
    x, h0 = np.zeros((7, 2, 3)), np.zeros((2, 5))
    wrong_x, wrong_h0 = x.copy(), h0.copy()
    wrong_x[4, 1, 2], wrong_h0[0, 3] = bad, bad
    rest = f"holds {bad} at {{}} (1 of {{}} entries not finite): look at the data that comes in"
    with mr.detect_anomaly():
        layer(x, h0)
        for call, argument, at, size in [
            (lambda: layer(wrong_x, h0), "step t=4, row n=1: x", [4, 1, 2], 42),
            (lambda: layer(mr.Tensor(wrong_x), h0), "step t=4, row n=1: x", [4, 1, 2], 42),
            (lambda: layer(x, wrong_h0), "row n=0: initial_state", [0, 3], 10),
            (lambda: layer.step(wrong_x[4], h0), "row n=1: x_t", [1, 2], 6),
            (lambda: layer.step(x[4], wrong_h0), "row n=0: state", [0, 3], 10),
        ]:
            with raises(mr.AnomalyError, f"detect_anomaly: RecurrentLayer(3, 5): {argument} {rest.format(at, size)}"):
                call()
    with np.errstate(invalid="ignore"):
        assert layer(wrong_x, h0).outputs.shape == (7, 2, 5)  # elsewhere it goes through


def test_detect_anomaly_names_the_step_at_which_outputs_explode():
    layer = mr.RecurrentLayer(1, 1, activation="identity", bias=False, dtype=np.float64, rng=0)
    layer.W_hh.data = [[1e100]]
    message = (
        "detect_anomaly: RecurrentLayer(1, 1): forward at step t=3, row n=0: H_{t-1} W_hh holds inf at [0, 0] (1 of 1 "
        "entries not finite): if the state grows from step to step, try a "
        "smaller W_hh (mr.init.spectral); else look at the initial state"
    )
    with np.errstate(over="ignore", invalid="ignore"), mr.detect_anomaly(), raises(mr.AnomalyError, message):
        layer(np.zeros((5, 1, 1)), [[1.0]])


def test_detect_anomaly_goes_back_through_the_fused_node():
    layer = mr.RecurrentLayer(3, 5, rng=0)
    outputs, _ = layer(np.zeros((7, 2, 3)))
    gradient = np.ones(outputs.shape)
    gradient[0, 0, 0] = np.nan
    with (
        mr.detect_anomaly(),
        pytest.raises(mr.AnomalyError, match="the gradient of the output of RecurrentLayer holds nan"),
    ):
        outputs.backward(gradient)
    assert all(p.grad is None for p in layer.parameters())


def test_repr_says_what_differs_from_the_plain_layer():
    assert repr(mr.RecurrentLayer(3, 5)) == "RecurrentLayer(3, 5, activation='tanh', backend='fused', dtype=float32)"
    layer = mr.RecurrentLayer(
        3, 5, activation="relu", bias=False, backend="graph", reverse=True, batch_first=True, dtype=np.float64
    )
    expected = "3, 5, activation='relu', bias=False, backend='graph', reverse=True, batch_first=True, dtype=float64"
    assert repr(layer) == f"RecurrentLayer({expected})"
    assert repr(mr.SequenceModel(mr.RecurrentLayer(3, 5), mr.Linear(5, 2), "last")) == (
        "SequenceModel(\n"
        "  readout='last'\n"
        "  (recurrent): RecurrentLayer(3, 5, activation='tanh', backend='fused', dtype=float32)\n"
        "  (head): Linear(5, 2)\n"
        ")"
    )


def report(configurations, comparisons, worst):
    print(f"\n{configurations} configurations, {comparisons} comparisons; worst error relative to the largest entry:")
    names = ("outputs", "final_state", *NAMES)
    print(f"{'':18}" + "".join(f"{name:>13}" for name in names))
    for which in dict.fromkeys(which for which, _ in worst):
        print(f"{which:18}" + "".join(f"{worst[which, name]:13.1e}" for name in names))


if __name__ == "__main__":
    report(*worst_errors())


def test_a_model_of_two_precisions_is_refused():
    recurrent = mr.RecurrentLayer(2, 3, dtype=np.float64)
    with pytest.raises(ValueError, match=r"recurrent is float64 and head float32: make both with dtype=numpy\.float64"):
        mr.SequenceModel(recurrent, mr.Linear(3, 1))


def test_a_head_with_a_state_is_refused():
    with pytest.raises(TypeError, match="head must not carry a state, got RecurrentLayer: its state would be lost"):
        mr.SequenceModel(mr.RecurrentLayer(2, 3), mr.RecurrentLayer(3, 3))
