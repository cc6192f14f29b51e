"""What the layer saves for backward: all states, or with ``remat`` a few of them; the gradients are the same."""

import gc
import tracemalloc

import numpy as np
import pytest
from recurrent_cases import KINDS, relative_error

import minirnn as mr
from minirnn.layers.settings import segment_length

T, N, D, H = 900, 4, 3, 40
STATES = T * N * H * 8  # bytes of one (T, N, H) array in float64


@pytest.mark.parametrize("kind", KINDS)
def test_a_sequence_of_many_segments(kind):
    """And the graph is retained, another one lives beside it."""
    found, steps = [], T if kind == "tanh" else 100
    for remat in (False, True, 3):
        layer = KINDS[kind](D, H, remat=remat, dtype=np.float64, rng=0)
        x = mr.Tensor(np.random.default_rng(1).standard_normal((steps, N, D)), requires_grad=True)
        one, two = (layer(x).outputs ** 2).sum(), layer(x[:20]).outputs.sum()
        one.backward(retain_graph=True)
        two.backward()
        one.backward()
        found.append([x.grad, *(p.grad for p in layer.parameters())])
    for plain, *others in zip(*found, strict=True):
        assert max(relative_error(a, plain) for a in others) <= 1e-13


def test_true_saves_about_the_square_root_of_t_states():
    """⌈√T⌉ steps lie between two of them."""
    assert [segment_length(True, T) for T in (1, 2, 4, 5, 9, 10, 900)] == [1, 2, 2, 3, 3, 4, 30]
    assert (segment_length(False, 9), segment_length(4, 9)) == (None, 4)


# --- memory ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def traced():
    """Measure what numpy takes; scratch is made beforehand by a short call."""
    gc.collect()
    tracemalloc.start()
    yield
    tracemalloc.stop()


def train_on_the_last_state(layer, x):
    """The bytes that live between forward and backward, and at the peak of backward."""
    before = tracemalloc.get_traced_memory()[0]
    final_state = layer(x).final_state
    loss = final_state.sum()
    saved = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.reset_peak()
    loss.backward()
    return saved, tracemalloc.get_traced_memory()[1] - before


def test_remat_keeps_about_the_square_root_of_the_states(traced):
    x = np.random.default_rng(1).standard_normal((T, N, D))
    layer = mr.RecurrentLayer(D, H, dtype=np.float64, rng=0)
    train_on_the_last_state(layer, x)
    saved, _ = train_on_the_last_state(layer, x)
    assert 1.0 * STATES < saved < 1.1 * STATES
    layer = mr.RecurrentLayer(D, H, remat=True, dtype=np.float64, rng=0)
    saved, peak = train_on_the_last_state(layer, x)
    assert saved < 2 * STATES / 30  # 30 is √T
    assert peak < 4 * STATES / 30


def test_without_remat_there_is_hardly_more_than_inputs_outputs_and_their_gradients(traced):
    """x, outputs, their gradients and the weights': the rest at the peak is less than one (T, N, H) array."""
    layer = mr.RecurrentLayer(D, H, dtype=np.float64, rng=0)
    x = mr.Tensor(np.random.default_rng(1).standard_normal((T, N, D)), requires_grad=True)
    g = np.ones((T, N, H))
    layer(x).outputs.backward(g)  # scratch and gradients are there now
    before = tracemalloc.get_traced_memory()[0]
    tracemalloc.reset_peak()
    outputs, _ = layer(x)
    outputs.backward(g)
    peak = tracemalloc.get_traced_memory()[1] - before
    of_outputs, of_x = STATES, 2 * x.data.nbytes  # the new gradient of x and the sum with the old one
    assert peak - of_outputs - of_x < STATES
