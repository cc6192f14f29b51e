"""What the tests of recurrent layers share: every kind of layer, random problems for them, how results are compared."""

import functools
import zlib

import numpy as np
import pytest
from error_texts import raises
from pairwise import pairwise

import minirnn as mr
from minirnn import textbook


def sigmoid(z):
    return 0.5 + 0.5 * np.tanh(0.5 * z)


class UGRNN(mr.Cell):
    """Collins, Sohl-Dickstein & Sussillo 2016 (arXiv:1611.09913): one gate between the old state and the new."""

    blocks = 2

    def step(self, z, h):
        H = h.shape[1]
        u, n = sigmoid(z[:, :H]), np.tanh(z[:, H:])
        return (u * h + (1 - u) * n,), (u, n, h)

    def step_backward(self, d_state, saved):
        (d,), (u, n, h) = d_state, saved
        return np.concatenate([d * (h - n) * u * (1 - u), d * (1 - u) * (1 - n * n)], axis=1), (d * u,)

    def equation(self, z, h):
        H = h.shape[1]
        u, n = mr.sigmoid(z[:, :H]), mr.tanh(z[:, H:])
        return (u * h + (1.0 - u) * n,)


class Coupled(mr.Cell):
    """An LSTM whose input gate is 1 − f (Greff et al. 2015, arXiv:1503.04069): blocks f, g, o, and a second state."""

    blocks, states = 3, 2

    def step(self, z, h, c):
        H = h.shape[1]
        f, g, o = sigmoid(z[:, :H]), np.tanh(z[:, H : 2 * H]), sigmoid(z[:, 2 * H :])
        after = f * c + (1 - f) * g
        return (o * np.tanh(after), after), (f, g, o, c, np.tanh(after))

    def step_backward(self, d_state, saved):
        (d_h, d_c), (f, g, o, c, shown) = d_state, saved
        d_c = d_c + d_h * o * (1 - shown**2)
        dz = [d_c * (c - g) * f * (1 - f), d_c * (1 - f) * (1 - g * g), d_h * shown * o * (1 - o)]
        return np.concatenate(dz, axis=1), (np.zeros_like(d_h), d_c * f)

    def equation(self, z, h, c):
        H = h.shape[1]
        f, g, o = mr.sigmoid(z[:, :H]), mr.tanh(z[:, H : 2 * H]), mr.sigmoid(z[:, 2 * H :])
        c = f * c + (1.0 - f) * g
        return o * mr.tanh(c), c


class Named(mr.Cell):
    """`Coupled` as its equation alone, with names."""

    gates = {"forget": "sigmoid", "g": "tanh", "out": "sigmoid"}  # noqa: RUF012
    state_names = ("h", "c")

    def equation(self, z, h, c):
        f, g, o = self.activated(z)
        c = f * c + (1.0 - f) * g
        return o * mr.tanh(c), c


# z / √(1 + z²), whose derivative is (1 − y²)^(3/2): only operators, so that it serves arrays and Tensors
ISRU = (lambda z: z / (1 + z * z) ** 0.5, lambda y: (1 - y * y) ** 1.5)
ACTIVATIONS = {"tanh": "tanh", "relu": "relu", "sigmoid": "sigmoid", "identity": "identity", "pair": ISRU}
GATED = {"lstm": mr.LSTMLayer, "gru": mr.GRULayer, "gru before": functools.partial(mr.GRULayer, reset_after=False)}
BUILT_IN = {name: functools.partial(mr.RecurrentLayer, activation=phi) for name, phi in ACTIVATIONS.items()} | GATED
OWN = {"own": functools.partial(mr.RecurrentLayer, cell=UGRNN())}
OWN |= {"two states": functools.partial(mr.RecurrentLayer, cell=Coupled())}
EVERY = BUILT_IN | OWN
KINDS = {name: make for name, make in EVERY.items() if name not in ("relu", "sigmoid", "identity", "pair")}
BACKENDS = ["fused", "graph"]
SHAPES = {"T=1": (1, 3, 2, 4), "N=1": (5, 1, 2, 4), "D≠H≠N≠T": (5, 3, 2, 4), "D>H": (3, 2, 7, 5), "all 1": (1, 1, 1, 1)}
LENGTHS, RESET = [2, 5, 4], np.arange(15).reshape(5, 3) % 4 == 3  # for "D≠H≠N≠T"
SEQUENCES = {
    "full": {},
    "lengths": {"lengths": LENGTHS},
    "reset": {"reset": RESET},
    "both": {"lengths": LENGTHS, "reset": RESET},
}


def grid(**settings):
    """Parametrise a test by points that bring all pairs of settings together."""

    def spell(point):
        return "-".join(getattr(value, "__name__", str(value)) for value in point.values())

    return pytest.mark.parametrize("point", pairwise(settings), ids=spell)


def directions(input_size, hidden_size, **options):
    """An LSTM forward, a GRU backward, of unequal sizes."""
    forward = mr.LSTMLayer(input_size, hidden_size, **options)
    return mr.Bidirectional(forward, mr.GRULayer(input_size, hidden_size - 1, reverse=True, **options))


def stack(input_size, hidden_size, reverse=False, **options):
    """Two directions, and a layer on top of them."""
    below = directions(input_size, hidden_size, **options)
    return mr.Stacked([below, mr.GRULayer(2 * hidden_size - 1, 3, reverse=reverse, **options)])


def flat(state):
    """List the arrays or Tensors of a state, whatever it is nested in."""
    return [t for part in state for t in flat(part)] if isinstance(state, tuple | list) else [state]


def each(f, state):
    """Replace every array of a state."""
    return tuple(each(f, part) for part in state) if isinstance(state, tuple | list) else f(state)


def turned(array, layer):
    """Exchange the time-major layout for the layer's own, and back."""
    return array.swapaxes(0, 1) if layer.batch_first else array


def leaf(array):
    return mr.Tensor(array.copy(), requires_grad=True)


def rewound(module):
    """Give a function that puts every Generator of a module back to where it stands now."""
    drawn = [(rng, rng.bit_generator.state) for _, rng in module.named_generators()]

    def rewind():
        for rng, state in drawn:
            rng.bit_generator.state = state

    return rewind


def evaluate(layer, x, state, v, u, lengths=None, reset=None, weights=None):
    """Collect outputs, final state and all gradients of Σ v·outputs + Σ u·final state, by name and time-major.

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
    """A layer's random inputs, states, weights and loss; nothing in it is zero, time comes first throughout.

    The arrays depend on kind and shape alone, so that settings can be compared. ``kind`` is a name of `EVERY`, or what
    makes the layer or composite; ``shape`` is T, N, D, H or a name of `SHAPES`.
    """

    def __init__(self, kind, shape="D≠H≠N≠T", *, dtype=np.float64, scale=0.7, **settings):
        self.kind, self.make = kind, EVERY.get(kind, kind)
        self.T, self.N, self.D, self.H = SHAPES.get(shape, shape)
        self.settings = {"dtype": dtype} | settings
        name = kind if kind in EVERY else getattr(kind, "__name__", "another")
        self.rng = np.random.default_rng(zlib.crc32(f"{name} {shape}".encode()))
        layer = self.make(self.D, self.H, **self.settings | {"learn_initial_state": True, "bias": True, "rng": 0})
        with mr.no_grad():
            final_state = layer(turned(self.draw(self.T, self.N, self.D), layer)).final_state
        for _ in range(100):
            self.x, self.v = self.draw(self.T, self.N, self.D), self.draw(self.T, self.N, layer.output_size)
            self.parameters = {name: scale * self.draw(*p.shape) for name, p in layer.named_parameters()}
            self.state = each(lambda s: self.draw(*s.shape), final_state)
            self.u = [self.draw(*s.shape) for s in flat(self.state)]
            if not self.all_off():
                return
        raise AssertionError("nothing to compare")

    def all_off(self):
        """Whether all rectifiers happen to be off, and there is nothing to compare."""
        return self.kind == "relu" and not all(
            a.any() for weights in self.losses().values() for a in self.run(weights=weights).values()
        )

    def draw(self, *shape):
        return self.rng.standard_normal(shape).astype(self.settings["dtype"])

    def layer(self, backend="fused", **options):
        settings = self.settings | {"backend": backend, "rng": 0} | options
        layer = self.make(self.D, self.H, **settings)
        for name, p in layer.named_parameters():
            p.data = self.parameters[name].astype(p.dtype)
        return layer

    def start(self, layer):
        """The state that a call is given: None if the layer has learned one."""
        return None if getattr(layer, "learn_initial_state", False) else self.state

    def run(self, layer="fused", **settings):
        layer = self.layer(layer) if isinstance(layer, str) else layer
        return evaluate(layer, self.x, self.start(layer), self.v, self.u, **settings)

    def inputs(self, layer):
        """Give all leaves, their names, and a function of them all that draws the same dropout at each call."""
        x, state, rewind = leaf(turned(self.x, layer)), self.start(layer), rewound(layer)
        state = state if state is None else each(leaf, state)
        states = [] if state is None else flat(state)

        def f(*_, lengths=None, reset=None):
            rewind()
            return layer(x, state, lengths, reset=None if reset is None else turned(reset, layer))

        names = ["x", *(f"initial {i}" for i in range(len(states))), *(name for name, _ in layer.named_parameters())]
        return [x, *states, *layer.parameters()], names, f

    def losses(self):
        """What each loss is made of: outputs and the final states, all of them or each alone."""
        found = {"all": [1] * (1 + len(self.u)), "outputs": [1] + [0] * len(self.u)}
        return found | {f"final {i}": [0] + [int(i == k) for k in range(len(self.u))] for i in range(len(self.u))}

    def textbook(self, weights):
        """What `run` gives, from the textbook and in float64; reversed, it is given time turned round."""
        p = {name: a for name, a in self.parameters.items() if self.settings.get("bias", True) or name[:2] == "W_"}
        p = {name: a for name, a in p.items() if not name.endswith("_0")}
        turn = slice(None, None, -1 if self.settings.get("reverse") else 1)
        b = p.get("b_h", np.zeros(p["W_hh"].shape[1]))
        arguments = self.x[turn], *flat(self.state), p["W_xh"], p["W_hh"], b
        v, *u = (w * a for w, a in zip(weights, [self.v[turn], *self.u], strict=True))
        states = "h_0", "c_0"
        if self.kind == "lstm":
            hs = textbook.unroll_lstm(*arguments)
            g = textbook.unroll_lstm_backward(*arguments, v, *u)._asdict()
        elif self.kind in GATED:
            after = self.kind == "gru"
            arguments += (p.get("b_hn"),)
            hs = (textbook.unroll_gru(*arguments, reset_after=after),)
            g = textbook.unroll_gru_backward(*arguments, v, *u, reset_after=after)._asdict()
        else:
            activation = ACTIVATIONS[self.kind]
            hs = (textbook.unroll(textbook.layer_step_batch, *arguments, activation=activation),)
            g = textbook.unroll_backward(*arguments, v, *u, activation)
            g, states = {"x": g.x, "W_xh": g.W_x, "W_hh": g.W_y, "b_h": g.b, "h_0": g.y_0}, ("h_0",)
        found = {"outputs": hs[0][turn], "x": g["x"][turn]} | {f"final {i}": h[-1] for i, h in enumerate(hs)}
        found |= {f"initial {i}": g[name] for i, name in enumerate(states[: len(hs)])}
        return found | {name: g[name] for name in p}


def relative_error(value, exact):
    """The largest difference in units of the largest entry."""
    assert value.shape == exact.shape
    scale = np.abs(exact).max()
    assert scale > 0, "nothing to compare"
    return float(np.abs(value - exact).max() / scale)


def assert_equal(found, exact, tolerance=1e-12, zeros=False):
    """Compare two results of `evaluate`; with a tolerance of 0 bit for bit, NaN included.

    With ``zeros`` a gradient that nothing reaches may be zero, or None.
    """
    assert set(found) == set(exact) or (zeros and set(found) >= set(exact))
    for name, value in found.items():
        if zeros and (exact.get(name) is None or not exact[name].any()):
            assert value is None or not value.any(), name
        elif tolerance:
            assert relative_error(value, exact[name]) <= tolerance, name
        else:
            np.testing.assert_array_equal(value, exact[name], err_msg=name)


def check_refused(layer, call, kind, message):
    """The text is just this, and the layer and its Generators are as they were."""
    before, drawn = layer.state_dict(), [g.bit_generator.state for _, g in layer.named_generators()]
    with raises(kind, f"{type(layer).__name__}: {message}"):
        call()
    assert [g.bit_generator.state for _, g in layer.named_generators()] == drawn
    for name, p in layer.named_parameters():
        assert p.grad is None
        np.testing.assert_array_equal(p.data, before[name])


def curved(problem, layer, result):
    """A loss whose second derivative is not only the layer's."""
    outputs, final_state = result
    total = (outputs**2 * turned(problem.v, layer)).sum()
    return total + sum((mr.exp(0.5 * s) * u).sum() for s, u in zip(flat(final_state), problem.u, strict=True))


def hessian_vector(problem, layer, inputs, f, directions):
    """The Hessian of `curved` times the directions, by create_graph; ``f`` calls the layer."""
    first = mr.grad(curved(problem, layer, f()), inputs, create_graph=True)
    along = sum((g * v).sum() for g, v in zip(first, directions, strict=True))
    return [g.numpy() for g in mr.grad(along, inputs)]


def differences_of_gradients(problem, layer, inputs, f, directions, eps=1e-5):
    """The same by the central difference of the first-order gradients along the directions."""
    values, sides = [t.data.copy() for t in inputs], []
    for sign in (1, -1):
        for t, value, v in zip(inputs, values, directions, strict=True):
            t.data = value + sign * eps * v
        sides.append([g.numpy() for g in mr.grad(curved(problem, layer, f()), inputs)])
    for t, value in zip(inputs, values, strict=True):
        t.data = value
    return [(a - b) / (2 * eps) for a, b in zip(*sides, strict=True)]
