"""Bidirectional and Stacked: against their layers run apart, numerical derivatives; dropout between them."""

import copy
import itertools
import math

import numpy as np
import pytest
from error_texts import raises
from recurrent_cases import flat, grid, rewound

import minirnn as mr
from minirnn.layers import GRULayer, LSTMLayer, RecurrentLayer, RecurrentOutput
from minirnn.layers.composites import Bidirectional, BidirectionalState, Stacked

T, N, D = 5, 3, 2  # hidden sizes are 4, 6, 7: all differ
KINDS = [RecurrentLayer, LSTMLayer, GRULayer]
BACKENDS = ["fused", "graph"]
LAYOUTS = [False, True]  # batch_first


def make(kind, input_size, hidden_size, seed=0, **options):
    """A layer none of whose parameters is zero, biases included."""
    layer = kind(input_size, hidden_size, **{"dtype": np.float64, "rng": seed} | options)
    rng = np.random.default_rng([seed, input_size, hidden_size])
    for p in layer.parameters():
        p.data = 0.5 * rng.standard_normal(p.shape)
    return layer


def turned(array, batch_first):
    """Exchange the time-major layout for the one asked for, and back."""
    return array.swapaxes(0, 1) if batch_first else array


def inputs(batch_first=False, seed=0, steps=T, requires_grad=True):
    x = np.random.default_rng(seed).standard_normal((steps, N, D))
    return mr.Tensor(turned(x, batch_first).copy(), requires_grad=requires_grad)


def random_state(module, rng):
    """A state of random leaves, of the structure that the module has."""
    if isinstance(module, Bidirectional):
        return random_state(module.forward_layer, rng), random_state(module.backward_layer, rng)
    if isinstance(module, Stacked):
        return tuple(random_state(layer, rng) for layer in module.layers)
    h, c = (mr.Tensor(rng.standard_normal((N, module.hidden_size)), requires_grad=True) for _ in range(2))
    return (h, c) if isinstance(module, LSTMLayer) else h


def weighted(tensors, seed=9):
    """Σ v·tensor over all tensors, with random v."""
    rng = np.random.default_rng(seed)
    return sum((t * rng.standard_normal(t.shape)).sum() for t in tensors)


def assert_close(found, exact, atol=1e-12):
    assert len(found) == len(exact)
    for a, b in zip(found, exact, strict=True):
        a, b = (t.numpy() if isinstance(t, mr.Tensor) else t for t in (a, b))
        assert a.shape == b.shape
        assert np.abs(b).max() > 0, "nothing to compare"
        np.testing.assert_allclose(a, b, rtol=0, atol=atol)


def values(result):
    """Outputs and all final states as arrays."""
    return [result.outputs.numpy(), *(t.numpy() for t in flat(result.final_state))]


def assert_same(result, expected):
    for a, b in zip(values(result), values(expected), strict=True):
        np.testing.assert_array_equal(a, b)


def gradients(module, x, state):
    return [x.grad, *(t.grad for t in flat(state)), *(p.grad for p in module.parameters())]


def outcome(module, x, state, call=None):
    """Outputs, final states and all gradients of a random sum of them; ``call`` makes [outputs, *final states]."""
    module.zero_grad()
    for t in [x, *flat(state)]:
        t.grad = None
    tensors = flat(list(module(x, state))) if call is None else call()
    weighted(tensors).backward()
    return [*tensors, *gradients(module, x, state)]


def pair(of_forward=RecurrentLayer, of_backward=RecurrentLayer, **options):
    return Bidirectional(make(of_forward, D, 4, 1, **options), make(of_backward, D, 6, 2, reverse=True, **options))


def tower(lower=RecurrentLayer, upper=RecurrentLayer, dropout=0.0, rng=None, **options):
    return Stacked([make(lower, D, 4, 1, **options), make(upper, 4, 6, 2, **options)], dropout, rng)


def towers_side_by_side(**options):
    forward = Stacked([make(LSTMLayer, D, 4, 1, **options), make(RecurrentLayer, 4, 6, 2, **options)])
    backward = [make(GRULayer, D, 6, 3, reverse=True, **options), make(LSTMLayer, 6, 7, 4, reverse=True, **options)]
    return Bidirectional(forward, Stacked(backward))


def pairs_on_top_of_each_other(dropout=0.0, rng=None, **options):
    upper = Bidirectional(make(GRULayer, 10, 7, 3, **options), make(RecurrentLayer, 10, 4, 4, reverse=True, **options))
    return Stacked([pair(**options), upper], dropout, rng)


def nested(**options):
    inner = Stacked([make(GRULayer, 10, 7, 5, **options), make(LSTMLayer, 7, 4, 6, **options)], 0.3, rng=1)
    return Stacked([pair(**options), inner, make(RecurrentLayer, 4, 6, 7, **options)], 0.4, rng=2)


COMPOSITES = {
    "bidirectional": lambda **o: pair(LSTMLayer, GRULayer, **o),
    "stacked": lambda **o: tower(GRULayer, LSTMLayer, 0.4, 3, **o),
    "stacked bidirectionals": lambda **o: pairs_on_top_of_each_other(0.4, 3, **o),
    "bidirectional of stacks": towers_side_by_side,
    "stacked in a stack": nested,
}
TWO_KINDS = {"lower": KINDS, "upper": KINDS, "backend": BACKENDS, "batch_first": LAYOUTS}
every_composite = pytest.mark.parametrize("composite", COMPOSITES.values(), ids=COMPOSITES.keys())


# --- Bidirectional: its two layers run apart --------------------------------------------------------------------------


@grid(**TWO_KINDS)
def test_bidirectional_is_its_two_layers_run_apart(point):
    lower, upper, backend, batch_first = point.values()
    both = pair(lower, upper, backend=backend, batch_first=batch_first)
    x, state = inputs(batch_first), random_state(both, np.random.default_rng(5))

    def apart():
        one, two = both.forward_layer(x, state[0]), both.backward_layer(x, state[1])
        return [mr.concatenate([one.outputs, two.outputs], axis=-1), *flat([one.final_state, two.final_state])]

    assert_close(outcome(both, x, state), outcome(both, x, state, apart))


@pytest.mark.parametrize("batch_first", LAYOUTS)
@pytest.mark.parametrize("kind", KINDS)
def test_what_bidirectional_gave_last(kind, batch_first):
    """The forward layer at t = T−1, the backward layer at t = 0."""
    both = pair(kind, kind, batch_first=batch_first)
    outputs, final_state = both(inputs(batch_first))
    assert isinstance(final_state, BidirectionalState)
    last, y = both.last_output(final_state), turned(outputs.numpy(), batch_first)
    np.testing.assert_array_equal(last.numpy(), np.concatenate([y[-1, :, :4], y[0, :, 4:]], axis=-1))
    np.testing.assert_array_equal(both.last_output(list(final_state)).numpy(), last.numpy())
    assert last.requires_grad


@pytest.mark.parametrize("composite", [pair, tower])
def test_each_may_start_from_a_state_or_from_none(composite):
    module = composite(LSTMLayer, RecurrentLayer)
    x, (a, b) = inputs(), random_state(module, np.random.default_rng(0))
    zeros = (np.zeros((N, 4)), np.zeros((N, 4))), np.zeros((N, 6))
    for given, same in [((a, None), (a, zeros[1])), ([None, b], (zeros[0], b)), (None, zeros), ((None, None), zeros)]:
        assert_same(module(x, given), module(x, same))


# --- Stacked: its layers one after the other --------------------------------------------------------------------------


def mask_of(p, shape, rng):
    """A mask as it is drawn between two layers."""
    return (rng.random(shape) >= p) / (1 - p)


@grid(**TWO_KINDS, p=[0.0, 0.4])
def test_stacked_is_one_layer_after_the_other(point):
    """With dropout, the product with a mask written out between them: gradients go through the same mask."""
    lower, upper, backend, batch_first, p = point.values()
    stack = tower(lower, upper, p, 11 if p else None, backend=backend, batch_first=batch_first)
    x, state = inputs(batch_first), random_state(stack, np.random.default_rng(5))

    def apart():
        between, first = stack.layers[0](x, state[0])
        if p:
            between = between * turned(mask_of(p, (T, N, 4), np.random.default_rng(11)), batch_first)
        outputs, second = stack.layers[1](between, state[1])
        return flat([outputs, first, second])

    assert_close(outcome(stack, x, state), outcome(stack, x, state, apart))


def test_stacked_of_three_draws_its_masks_from_the_bottom_up():
    layers = [make(RecurrentLayer, a, b) for a, b in [(D, 4), (4, 6), (6, 7)]]
    rng = np.random.default_rng(3)
    x, _ = layers[0](inputs())
    x, _ = layers[1](x * mask_of(0.3, (T, N, 4), rng))
    x, _ = layers[2](x * mask_of(0.3, (T, N, 6), rng))
    np.testing.assert_array_equal(Stacked(layers, 0.3, rng=3)(inputs()).outputs.numpy(), x.numpy())


def test_a_layer_may_stand_in_a_stack_twice():
    layer = make(RecurrentLayer, 4, 4)
    stack = Stacked([layer, layer])
    x = np.random.default_rng(0).standard_normal((T, N, 4))
    outputs, final_state = stack(x)
    np.testing.assert_array_equal(outputs.numpy(), layer(layer(x).outputs).outputs.numpy())
    assert len(final_state) == 2
    assert stack.count_params() == layer.count_params() == 4 * (4 + 4 + 1)
    assert mr.gradcheck(lambda *_: stack(x), stack.parameters())


@grid(**TWO_KINDS, reverse=[False, True])
def test_steps_are_the_stack(point):
    lower, upper, backend, batch_first, reverse = point.values()
    stack = tower(lower, upper, 0.5, 0, backend=backend, batch_first=batch_first, reverse=reverse).eval()
    assert stack.reverse is reverse
    x, initial = inputs(batch_first), random_state(stack, np.random.default_rng(5))

    def step_by_step():
        state, steps, time = initial, {}, turned(x, batch_first)
        for t in reversed(range(T)) if reverse else range(T):
            state = stack.step(time[t], state)
            steps[t] = stack.last_output(state)
        return [turned(mr.stack([steps[t] for t in range(T)]), batch_first), *flat(state)]

    assert_close(outcome(stack, x, initial), outcome(stack, x, initial, step_by_step))


def test_a_step_without_a_state_starts_from_zeros_and_hands_its_gradient_on():
    stack = Stacked([tower(RecurrentLayer, LSTMLayer), make(GRULayer, 6, 7)])
    x_t = mr.Tensor(np.random.default_rng(0).standard_normal((N, D)), requires_grad=True)
    state = stack.step(x_t)
    assert_close(flat(state), flat(stack(x_t.numpy()[None]).final_state))
    assert mr.gradcheck(lambda *_: stack.step(x_t), [x_t, *stack.parameters()[:3]])


# --- derivatives, of every composite ----------------------------------------------------------------------------------


@every_composite
def test_every_gradient_by_central_differences(composite):
    """Through the outputs and every final state at once, for x and every initial state; parameters, a layer's tests."""
    module = composite()
    x, state, rewind = inputs(steps=2), random_state(module, np.random.default_rng(5)), rewound(module)
    assert mr.gradcheck(lambda *_: (rewind(), module(x, state))[1], [x, *flat(state)])


@every_composite
def test_backend_and_layout_change_no_number(composite):
    """Not even with dropout."""
    found = []
    for backend, batch_first in itertools.product(BACKENDS, LAYOUTS):
        module = composite(backend=backend, batch_first=batch_first)
        assert module.batch_first is batch_first
        x, state = inputs(batch_first), random_state(module, np.random.default_rng(5))
        outputs, final_state = module(x, state)
        v = np.random.default_rng(1).standard_normal((T, N, module.output_size))
        ((outputs * turned(v, batch_first)).sum() + weighted(flat(final_state))).backward()
        arrays = [turned(outputs.numpy(), batch_first), *flat(final_state), turned(x.grad, batch_first)]
        found.append(arrays + gradients(module, x, state)[1:])
    for other in found[1:]:
        assert_close(other, found[0])


@every_composite
def test_what_comes_out(composite):
    """Of the sizes and the dtype that the module has; under no_grad nothing is recorded."""
    for dtype in (np.float32, np.float64):
        module = composite(dtype=dtype)
        assert module.dtype == dtype
        assert module.input_size == D
        assert module.carries_state
        outputs, final_state = module(inputs(requires_grad=False))
        assert outputs.shape == (T, N, module.output_size)
        assert module.last_output(final_state).shape == (N, module.output_size)
        assert {t.dtype for t in [outputs, *flat(final_state)]} == {np.dtype(dtype)}
        (outputs.sum() + weighted(flat(final_state)).astype(dtype)).backward()
        assert {p.grad.dtype for p in module.parameters()} == {np.dtype(dtype)}
    with mr.no_grad():
        outputs, final_state = module(inputs())
    assert not any(t.requires_grad for t in [outputs, *flat(final_state)])


# --- dropout between layers -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make_stack", [lambda: tower(dropout=0.5, rng=0), lambda: nested()])
def test_evaluation_switches_dropout_off_and_training_on_again(make_stack):
    stack = make_stack()
    without = copy.deepcopy(stack)
    for module in (without, without.layers[1]):
        module.dropout = None
    before = stack.dropout.rng.bit_generator.state
    stack.eval()
    assert_same(stack(inputs()), without(inputs()))
    assert stack.dropout.rng.bit_generator.state == before
    stack.train()
    assert not np.array_equal(stack(inputs()).outputs.numpy(), without(inputs()).outputs.numpy())


def test_a_step_draws_masks_of_its_own():
    stack, rng = tower(LSTMLayer, RecurrentLayer, 0.5, 8), np.random.default_rng(8)
    lower, upper = stack.layers
    state = random_state(stack, np.random.default_rng(1))
    expected = state
    for t in range(T):
        x_t = inputs().numpy()[t]
        state = stack.step(x_t, state)
        below = lower.step(x_t, expected[0])
        expected = below, upper.step(below[0] * mask_of(0.5, (N, 4), rng), expected[1])
        assert_close(flat(state), flat(expected), atol=0)


# --- what they own and say of themselves ------------------------------------------------------------------------------


def small():
    both = Bidirectional(RecurrentLayer(2, 4), RecurrentLayer(2, 3, bias=False, reverse=True))
    return Stacked([both, RecurrentLayer(7, 1)], dropout=0.25)


def test_the_summary_is_that_of_the_layers(capsys):
    stack = small()
    stack.summary()
    lines, names = capsys.readouterr().out.splitlines(), [name for name, _ in stack.named_parameters()]
    assert [line.split()[0] for line in lines[2:10]] == names
    assert lines[11].split() == ["total", "52"]
    both, above = stack.layers
    notes = both.forward_layer.counting_notes("0.forward_layer.") + both.backward_layer.counting_notes(
        "0.backward_layer."
    )
    assert lines[12:] == [*notes, *above.counting_notes("1."), *mr.counting.NOTES]
    assert notes[0] == "0.forward_layer, with m = 2, n = 4; in other libraries:"
    terms = stack.counted("a.")
    assert [(term.name, term.shape) for term in terms] == [
        (f"a.{name}", p.shape) for name, p in stack.named_parameters()
    ]
    assert sum(term.count for term in terms) == stack.count_params() == 52


def test_repr_is_nested():
    assert repr(small()) == (
        "Stacked(\n"
        "  (0): Bidirectional(\n"
        "    (forward_layer): RecurrentLayer(2, 4, activation='tanh', backend='fused', dtype=float32)\n"
        "    (backward_layer): RecurrentLayer(2, 3, activation='tanh', bias=False, backend='fused', reverse=True, "
        "dtype=float32)\n"
        "  )\n"
        "  (1): RecurrentLayer(7, 1, activation='tanh', backend='fused', dtype=float32)\n"
        "  (dropout): Dropout(0.25)\n"
        ")"
    )


# --- errors -----------------------------------------------------------------------------------------------------------

FORWARD, BACKWARD = RecurrentLayer(3, 5), RecurrentLayer(3, 4, reverse=True)
A_LAYER = "must be a recurrent layer such as RecurrentLayer, got"
GOES_BACK = "(RecurrentLayer) must go forward, and it goes backward: make it with reverse=False"
GOES_FORWARD = "must go backward, and it goes forward: make it"
TWO_WAYS = "(Bidirectional) must go forward, and it goes both ways: make it of layers with reverse=False"
BOTH, TWO_HAVE = "make both with", "forward_layer (RecurrentLayer) has"
PRECISE = LSTMLayer(3, 4, reverse=True, dtype=np.float64)
UNEQUAL = [
    (
        (FORWARD, RecurrentLayer(2, 4, reverse=True)),
        "input_size=3 and backward_layer (RecurrentLayer) 2",
        "input_size=3",
    ),
    ((FORWARD, PRECISE), "dtype=float32 and backward_layer (LSTMLayer) float64", "dtype=numpy.float32"),
    (
        (FORWARD, RecurrentLayer(3, 4, reverse=True, batch_first=True)),
        "batch_first=False and backward_layer (RecurrentLayer) True",
        "batch_first=False",
    ),
]


@pytest.mark.parametrize(
    ("layers", "kind", "message"),
    [
        ((mr.Linear(3, 5), BACKWARD), TypeError, f"forward_layer {A_LAYER} Linear"),
        ((FORWARD, RecurrentLayer), TypeError, f"backward_layer {A_LAYER} type"),
        ((mr.SequenceModel(FORWARD, mr.Linear(5, 2)), BACKWARD), TypeError, f"forward_layer {A_LAYER} SequenceModel"),
        ((FORWARD, FORWARD), ValueError, f"backward_layer (RecurrentLayer) {GOES_FORWARD} with reverse=True"),
        ((BACKWARD, FORWARD), ValueError, f"forward_layer {GOES_BACK}"),
        ((Bidirectional(FORWARD, BACKWARD), BACKWARD), ValueError, f"forward_layer {TWO_WAYS}"),
        (
            (FORWARD, Stacked([FORWARD])),
            ValueError,
            f"backward_layer (Stacked) {GOES_FORWARD} of layers with reverse=True",
        ),
        *((layers, ValueError, f"{TWO_HAVE} {unequal}: {BOTH} {cure}") for layers, unequal, cure in UNEQUAL),
    ],
)
def test_what_bidirectional_is_not_made_of(layers, kind, message):
    with raises(kind, f"Bidirectional: {message}"):
        Bidirectional(*layers)


A_LIST = "layers must be a list or tuple of recurrent layers, got"
P = "dropout must be a probability, 0 ≤ p < 1, got"
FIRST = "layers[0] (RecurrentLayer) has"
TWO = [RecurrentLayer(3, 5), RecurrentLayer(5, 4)]
JOINTS = [  # what the one returns is not what the next one reads
    ([TWO[0], LSTMLayer(4, 4)], "layers[0] (RecurrentLayer)", 5, "layers[1] (LSTMLayer)", 4),
    ([*TWO, Bidirectional(FORWARD, BACKWARD)], "layers[1] (RecurrentLayer)", 4, "layers[2] (Bidirectional)", 3),
]
JOINT = "{1} returns output_size={2} and {3} reads input_size={4}: make {5} with input_size={2}"


@pytest.mark.parametrize(
    ("arguments", "kind", "message"),
    [
        ((FORWARD,), TypeError, f"{A_LIST} RecurrentLaye...dtype=float32) (RecurrentLayer): try Stacked([layer, …])"),
        ((2,), TypeError, f"{A_LIST} 2 (int): try Stacked([layer, …])"),
        (([],), ValueError, "layers must hold at least one recurrent layer, got none"),
        (([FORWARD, mr.Linear(5, 2)],), TypeError, f"layers[1] {A_LAYER} Linear"),
        *(((row[0],), ValueError, JOINT.format(*row, row[3].split()[0])) for row in JOINTS),
        (
            ([*TWO, GRULayer(4, 2, dtype=np.float64)],),
            ValueError,
            f"{FIRST} dtype=float32 and layers[2] (GRULayer) float64: {BOTH} dtype=numpy.float32",
        ),
        (
            ([RecurrentLayer(3, 5, batch_first=True), TWO[1]],),
            ValueError,
            f"{FIRST} batch_first=True and layers[1] (RecurrentLayer) False: {BOTH} batch_first=True",
        ),
        ((TWO, 1), ValueError, f"{P} 1: it is a part, not a percentage"),
        ((TWO, 20), ValueError, f"{P} 20: it is a part, not a percentage"),
        ((TWO, math.nan), ValueError, f"{P} nan: try 0.5"),
        ((TWO, "0.5"), TypeError, f"{P} '0.5' (str): try 0.5"),
        ((TWO[:1], 0.5), ValueError, "dropout=0.5 would do nothing: it acts between layers, and there is one"),
        ((TWO, 0.0, 1), ValueError, "rng would do nothing without dropout: leave it out, or set dropout"),
    ],
)
def test_what_stacked_is_not_made_of(arguments, kind, message):
    with raises(kind, f"Stacked: {message}"):
        Stacked(*arguments)


A_PAIR = "Bidirectional: initial_state must be None or a tuple (forward, backward), got"
A_TUPLE = "Stacked: initial_state must be None or a tuple with one entry for each of 2 layers, got"
EACH = "each is a layer's own state, or None"


@pytest.mark.parametrize(
    ("state", "kind", "got"),
    [
        (np.zeros((2, 5)), TypeError, f"an array of shape (2, 5) and dtype float64: {EACH}"),
        (mr.Tensor(np.zeros((2, 5))), TypeError, f"a Tensor of shape (2, 5): {EACH}"),
        (np.zeros((2, 2, 5)), TypeError, "an array of shape (2, 2, 5) and dtype float64: try tuple(initial_state)"),
        (mr.Tensor(np.zeros((2, 2, 5))), TypeError, "a Tensor of shape (2, 2, 5): try tuple(initial_state)"),
        ("zeros", TypeError, f"'zeros' (str): {EACH}"),
        ((), ValueError, f"a tuple of 0: {EACH}"),
        ([None] * 3, ValueError, f"a list of 3: {EACH}"),
        (RecurrentOutput(mr.Tensor([0.0]), (None, None)), TypeError, "a RecurrentOutput: pass its final_state"),
    ],
)
def test_states_that_do_not_fit(state, kind, got):
    x = np.zeros((7, 2, 3))
    with raises(kind, f"{A_PAIR} {got}"):
        Bidirectional(FORWARD, BACKWARD)(x, state)
    with raises(kind, f"{A_TUPLE} {got}"):
        Stacked(TWO)(x, state)
    with raises(kind, f"{A_TUPLE} {got}".replace("initial_state", "state")):
        Stacked(TWO).step(x[0], state)


def test_a_final_state_that_does_not_fit():
    state = mr.Tensor(np.zeros((2, 5)))
    each = "each is a layer's own state"
    message = "Bidirectional: final_state must be a tuple (forward, backward), got"
    with raises(TypeError, f"{message} a Tensor of shape (2, 5): {each}"):
        Bidirectional(FORWARD, BACKWARD).last_output(state)
    message = "Stacked: final_state must be a tuple with one entry for each of 2 layers, got"
    with raises(TypeError, f"{message} a Tensor of shape (2, 5): {each}"):
        Stacked(TWO).last_output(state)
    with raises(ValueError, f"{message} a tuple of 1: {each}"):
        Stacked(TWO).last_output((state,))


def test_bidirectional_has_no_step():
    message = (
        "Bidirectional: there is no step, because backward_layer starts at the end of the sequence and needs the whole "
        "of it: call the layer on the sequence, or use forward_layer.step"
    )
    with raises(TypeError, message):
        Bidirectional(FORWARD, BACKWARD).step(np.zeros((2, 3)))


def test_a_stack_that_does_not_go_one_way_has_no_step():
    message = (
        "Stacked: there is no step, because its layers do not all go one way through time, but {}: "
        "call it on the sequence"
    )
    there_and_back = Stacked([RecurrentLayer(3, 3), RecurrentLayer(3, 3, reverse=True)])
    for layers, ways in [
        ([RecurrentLayer(3, 3), RecurrentLayer(3, 3, reverse=True)], "forward, backward"),
        ([Bidirectional(FORWARD, BACKWARD)], "both ways"),
        ([there_and_back, RecurrentLayer(3, 3)], "both ways, forward"),
    ]:
        stack = Stacked(layers)
        assert stack.reverse is None
        with raises(TypeError, message.format(ways)):
            stack.step(np.zeros((2, 3)))


STATE = "RecurrentLayer: initial_state must have shape (N=2, H={}), got (2, 9): one state for each row of x"


@pytest.mark.parametrize(
    ("module", "state", "message"),
    [
        (
            Bidirectional(FORWARD, BACKWARD),
            (None, np.zeros((2, 9))),
            f"{STATE.format(4)}\nBidirectional: this was in backward_layer (RecurrentLayer)",
        ),
        (Stacked(TWO), (np.zeros((2, 9)), None), f"{STATE.format(5)}\nStacked: this was in layers[0] (RecurrentLayer)"),
        (
            Stacked([FORWARD, Stacked([RecurrentLayer(5, 5), RecurrentLayer(5, 4)])]),
            (None, (None, np.zeros((2, 9)))),
            f"{STATE.format(4)}\nStacked: this was in layers[1] (RecurrentLayer)\n"
            "Stacked: this was in layers[1] (Stacked)",
        ),
    ],
)
def test_an_error_says_in_which_layer_it_arose(module, state, message):
    """As notes below the layer's own text."""
    with raises(ValueError, message):
        module(np.zeros((7, 2, 3)), state)


def test_a_step_of_another_size():
    stack = Stacked(TWO)
    message = "RecurrentLayer: x_t must have shape (N, D=3), got (2, 4): the layer was made with input_size=3"
    with raises(ValueError, f"{message}\nStacked: this was in layers[0] (RecurrentLayer)"):
        stack.step(np.zeros((2, 4)))


def test_a_call_that_is_refused_when_some_layers_have_run_draws_nothing():
    stack = tower(dropout=0.5, rng=0)
    both = Bidirectional(make(GRULayer, D, 4, recurrent_dropout=0.3), make(GRULayer, D, 6, 1, reverse=True))
    before = [rng.bit_generator.state for m in (stack, both) for _, rng in m.named_generators()]
    wrong = np.zeros((N, 5))
    for call in (lambda: stack(inputs(), (None, wrong)), lambda: both(inputs(), (None, wrong))):
        with pytest.raises(ValueError, match="initial_state must have shape"):
            call()
    with pytest.raises(ValueError, match="state must have shape"):
        stack.step(inputs()[0], (None, wrong))
    assert [rng.bit_generator.state for m in (stack, both) for _, rng in m.named_generators()] == before


@pytest.mark.parametrize("lengths", [None, [2, 5, 3]])
@pytest.mark.parametrize(
    ("merge", "made"),
    [("sum", np.add), ("mean", lambda a, b: (a + b) / 2), ("mul", np.multiply)],
)
def test_two_directions_merged_entry_by_entry(merge, made, lengths):
    """Y_t and the last output are made of the two layers' own; the gradients are right."""
    forward, backward = (mr.LSTMLayer(2, 4, reverse=way, dtype=np.float64, rng=int(way)) for way in (False, True))
    both, x = mr.Bidirectional(forward, backward, merge=merge), np.random.default_rng(0).normal(size=(5, 3, 2))
    outputs, state = both(x, lengths=lengths)
    apart = [layer(x, lengths=lengths) for layer in (forward, backward)]
    expected = made(*(part.outputs.numpy() for part in apart))
    np.testing.assert_allclose(outputs.numpy(), expected, rtol=1e-15)
    last = made(*(part.final_state.h.numpy() for part in apart))
    np.testing.assert_allclose(both.last_output(state).numpy(), last, rtol=1e-15)
    assert both.output_size == outputs.shape[-1] == 4
    given = mr.Tensor(x, requires_grad=True)
    mr.gradcheck(lambda *_: both(given, lengths=lengths).outputs, [given, forward.W_xh, backward.b_h])
    assert repr(both).startswith(f"Bidirectional(\n  merge='{merge}'\n  (forward_layer): ")
    assert mr.SequenceModel(both, mr.Linear(4, 1, dtype=np.float64), readout="last")(x).predictions.shape == (3, 1)


def test_a_merge_of_two_sizes_and_one_that_there_is_not():
    layers = mr.RecurrentLayer(2, 4), mr.RecurrentLayer(2, 3, reverse=True)
    with raises(
        ValueError,
        "Bidirectional: merge='sum' works entry by entry, so both layers must have one hidden size, got 4 and 3: make "
        'them alike, or try merge="concat"',
    ):
        mr.Bidirectional(*layers, merge="sum")
    with raises(ValueError, "Bidirectional: merge must be one of 'concat', 'sum', 'mean', 'mul', got 'max'"):
        mr.Bidirectional(*layers, merge="max")
