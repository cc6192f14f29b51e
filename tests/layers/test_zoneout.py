"""Zoneout, and every state of an ordinary call: against loops by hand, steps, and central differences."""

import numpy as np
import pytest
from error_texts import raises
from numpy.testing import assert_allclose, assert_array_equal
from pairwise import pairwise

import minirnn as mr

T, N, D, H = 5, 3, 2, 4
rng = np.random.default_rng(0)
x = rng.normal(size=(T, N, D))
LENGTHS = np.array([5, 2, 3])
CELLS = {
    "elman": mr.RecurrentLayer, "lstm": mr.LSTMLayer, "gru": mr.GRULayer,
    "before": lambda *sizes, **settings: mr.GRULayer(*sizes, reset_after=False, **settings),
}  # fmt: skip
GRID = {"cell": list(CELLS), "backend": ["fused", "graph"], "reverse": [False, True], "lengths": [None, LENGTHS]}
POINTS = pairwise(GRID)


def layer_of(point, **settings):
    return CELLS[point["cell"]](
        D, H, backend=point["backend"], reverse=point["reverse"], dtype=np.float64, rng=3, **settings
    )


def parts(state):
    return list(state) if isinstance(state, tuple) else [state]


def by_hand(layer, lengths, start, zones):
    """Unroll row by row with the plain layer's steps; zones (T, N, states, H) say what part of the old state stays."""
    plain = type(layer).step
    every = np.zeros((len(start), T, N, H))
    final = np.zeros((len(start), N, H))
    zoneout, layer.zoneout = layer.zoneout, 0.0
    for n in range(N):
        steps = range(T if lengths is None else lengths[n])
        state = [s[n : n + 1] for s in start]
        for t in reversed(steps) if layer.reverse else steps:
            new = parts(plain(layer, x[t, n : n + 1], tuple(state) if len(state) > 1 else state[0]))
            state = [
                zones[t, n, i] * a + (1 - zones[t, n, i]) * b.numpy()
                for i, (a, b) in enumerate(zip(state, new, strict=True))
            ]
            every[:, t, n] = [s[0] for s in state]
        final[:, n] = [s[0] for s in state]
    layer.zoneout = zoneout
    return every, final


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("point", POINTS)
def test_part_of_the_old_state_stays_as_by_hand(point, training):
    layer, p = layer_of(point, zoneout=0.3), 0.3
    layer.train(training)
    S = len(layer.state_names)
    start = [rng.normal(size=(N, H)) for _ in range(S)]
    drawn = np.random.default_rng(3)
    drawn.bit_generator.state = layer._rng.bit_generator.state
    zones = (drawn.random((T, N, S, H)) < p).astype(float) if training else np.full((T, N, S, H), p)
    given = tuple(start) if S > 1 else start[0]
    generator = layer._rng.bit_generator.state
    outputs, final = layer(x, given, point["lengths"])
    every, last = by_hand(layer, point["lengths"], start, zones)
    assert_allclose(outputs.numpy(), every[0], rtol=1e-12, atol=1e-14)
    for got, expected in zip(parts(final), last, strict=True):
        assert_allclose(got.numpy(), expected, rtol=1e-12, atol=1e-14)
    layer._rng.bit_generator.state = generator
    told, _ = layer(x, given, point["lengths"], all_states=True)
    for got, expected in zip(parts(told), every, strict=True):
        assert_allclose(got.numpy(), expected, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("point", POINTS)
def test_gradients_of_every_state(point):
    layer = layer_of(point, zoneout=0.4)
    S = len(layer.state_names)
    given = [mr.Tensor(rng.normal(size=shape), requires_grad=True) for shape in [(T, N, D)] + [(N, H)] * S]
    generator = layer._rng.bit_generator.state

    def run(*_):
        layer._rng.bit_generator.state = generator
        state = tuple(given[1:]) if S > 1 else given[1]
        told, final = layer(given[0], state, point["lengths"], all_states=True)
        return parts(told), parts(final)

    mr.gradcheck(run, [*given, *layer.parameters()])


@pytest.mark.parametrize("point", POINTS)
def test_every_state_is_that_of_the_steps_and_its_first_the_outputs(point):
    layer = layer_of(point)
    outputs, final = layer(x, lengths=point["lengths"])
    told, last = layer(x, lengths=point["lengths"], all_states=True)
    assert_allclose(parts(told)[0].numpy(), outputs.numpy(), rtol=1e-12, atol=1e-14)
    zeros = [np.zeros((N, H))] * len(layer.state_names)
    every, _ = by_hand(layer, point["lengths"], zeros, np.zeros((T, N, len(zeros), H)))
    for got, expected in zip(parts(told), every, strict=True):
        assert_allclose(got.numpy(), expected, rtol=1e-12, atol=1e-14)
    for a, b in zip(parts(final), parts(last), strict=True):
        assert_allclose(a.numpy(), b.numpy(), rtol=1e-12, atol=1e-14)


def test_an_lstm_names_them_and_batch_first_turns_them():
    layer = mr.LSTMLayer(D, H, batch_first=True, rng=0)
    outputs, final = layer(x.swapaxes(0, 1), all_states=True)
    assert outputs.h.shape == outputs.c.shape == (N, T, H)
    assert_array_equal(outputs.c.numpy()[:, -1], final.c.numpy())


def test_steps_in_evaluation_and_what_is_refused():
    layer = mr.GRULayer(D, H, zoneout=0.3, dtype=np.float64, rng=0).eval()
    outputs, final = layer(x)
    state = None
    for t in range(T):
        state = layer.step(x[t], state)
        assert_allclose(state.numpy(), outputs.numpy()[t], rtol=1e-13)
    with mr.detect_anomaly():
        assert_array_equal(layer(x).final_state.numpy(), final.numpy())
        with pytest.raises(mr.AnomalyError):
            layer(np.full_like(x, np.nan))
    layer.train()
    with raises(
        RuntimeError,
        "GRULayer: step with zoneout in training: the mask is one for a whole sequence, which a single step does not "
        "know: call eval() before, or the layer on the whole sequence",
    ):
        layer.step(x[0])
    with raises(
        ValueError,
        "GRULayer: remat keeps fewer states of a kernel, which a layer with zoneout has not: leave it out",
    ):
        mr.GRULayer(D, H, zoneout=0.3, remat=True)
    with raises(
        ValueError,
        "trace: a layer with zoneout mixes old states into new ones, which is not looked into: make it without",
    ):
        mr.bptt.trace(layer, x, lambda outputs: outputs.sum())
