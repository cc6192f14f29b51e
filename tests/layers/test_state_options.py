"""What a sequence starts from, learned, carried or reset within it; and dropout on the state that is fed back."""

import copy
import functools
import itertools

import numpy as np
import pytest
from error_texts import raises
from recurrent_cases import (
    BACKENDS,
    KINDS,
    Problem,
    assert_equal,
    check_refused,
    each,
    evaluate,
    flat,
    grid,
    relative_error,
)  # fmt: skip

import minirnn as mr
from minirnn import textbook

T, N, D, H = SHAPE = 7, 4, 2, 5
LENGTHS = [3, 7, 1, 6]
kinds = pytest.mark.parametrize("kind", KINDS)
backends = pytest.mark.parametrize("backend", BACKENDS)
WAYS = {"kind": KINDS, "reverse": [False, True], "batch_first": [False, True], "backend": BACKENDS}


def learned(layer):
    return [getattr(layer, f"{letter}_0") for letter in layer.state_names]


# --- learned ----------------------------------------------------------------------------------------------------------


@kinds
def test_a_learned_state_is_a_parameter_that_starts_at_zero(kind):
    for dtype in (np.float32, np.float64):
        layer, plain = (KINDS[kind](D, H, learn_initial_state=on, dtype=dtype, rng=0) for on in (True, False))
        for p in learned(layer):
            assert type(p) is mr.Parameter
            assert p.requires_grad
            assert p.dtype == dtype
            np.testing.assert_array_equal(p.data, np.zeros(H))
        names = [p.name for p in plain.parameters()]
        own = {"lstm": ["h_0", "c_0"], "two states": ["h_0", "s1_0"]}.get(kind, ["h_0"])
        assert [p.name for p in layer.parameters()] == names + own
        for name in names:  # and it draws nothing
            np.testing.assert_array_equal(getattr(layer, name).data, getattr(plain, name).data)
        assert not hasattr(plain, "h_0")
        x = np.ones((T, N, D))
        for a, b in zip(flat(layer(x)), flat(plain(x)), strict=True):
            np.testing.assert_array_equal(a.numpy(), b.numpy())


@grid(**WAYS)
def test_it_is_the_same_state_in_each_row_and_its_gradient_the_sum_over_the_rows(point):
    problem = Problem(shape=SHAPE, **point)
    layer, plain = problem.layer(point["backend"], learn_initial_state=True), problem.layer(point["backend"])
    given = each(np.copy, problem.state)
    for s, p in zip(flat(given), learned(layer), strict=True):
        s[...] = p.data
    for lengths in (None, LENGTHS):
        exact = evaluate(plain, problem.x, given, problem.v, problem.u, lengths)
        for i, letter in enumerate(layer.state_names):
            exact[f"{letter}_0"] = exact.pop(f"initial {i}").sum(axis=0)
        assert_equal(problem.run(layer, lengths=lengths), exact)


@backends
@kinds
def test_it_is_used_only_when_no_state_is_given(kind, backend):
    problem = Problem(kind, SHAPE)
    layer = problem.layer(backend, learn_initial_state=True)
    found = evaluate(layer, problem.x, problem.state, problem.v, problem.u)
    assert all(found.pop(p.name) is None for p in learned(layer))
    assert_equal(found, problem.run(backend), 0)


# --- reset ------------------------------------------------------------------------------------------------------------

MASKS = {
    "some": np.random.default_rng(0).random((T, N)) < 0.3,
    "one": np.arange(T * N).reshape(T, N) == 13,
    "first step": np.repeat(np.arange(T) == 0, N).reshape(T, N),
    "first step of one": np.arange(T * N).reshape(T, N) == 1,
    "all": np.ones((T, N), bool),
    "all rows at once": np.repeat(np.arange(T) == 3, N).reshape(T, N),
    "last step": np.repeat(np.arange(T) == T - 1, N).reshape(T, N),
}


def apart(layer, x, state, v, u, lengths, reset):
    """Run the parts between resets each alone, with a batch of one, and put the results together.

    In the order of processing the first part of a row starts from the state given, unless it begins with a reset, and
    the last has the row's final state; all others start without one.
    """
    steps, rows = x.shape[:2]
    whole = {"outputs": np.zeros((steps, rows, H)), "x": np.zeros_like(x)}
    for i in range(len(u)):
        whole[f"final {i}"] = np.zeros((rows, H))
        if state is not None:
            whole[f"initial {i}"] = np.zeros((rows, H))
    for n, L in enumerate(np.full(rows, steps) if lengths is None else lengths):
        cuts = [0, *(np.flatnonzero(reset[1:L, n]) + 1), L]
        parts = list(itertools.pairwise(cuts))
        for lo, hi in parts:
            starts = hi == L if layer.reverse else lo == 0 and not reset[0, n]
            ends = lo == 0 if layer.reverse else hi == L
            own = each(lambda s, n=n: s[n : n + 1], state) if starts and state is not None else None
            here = slice(lo, hi), slice(n, n + 1)
            found = evaluate(layer, x[here], own, v[here], [ends * w[n : n + 1] for w in u])
            for name, value in found.items():
                if name in ("outputs", "x"):
                    whole[name][here] = value
                elif name.startswith("initial") or (name.startswith("final") and ends):
                    whole[name][n : n + 1] = value
                elif not name.startswith("final") and value is not None:
                    whole[name] = whole.get(name, 0) + value
    return whole


STARTS = {"given": (False, True), "zeros": (False, False), "learned": (True, False), "learned and given": (True, True)}


@grid(**WAYS, mask=MASKS, lengths=[None, LENGTHS], start=STARTS)
def test_a_reset_is_a_new_sequence(point):
    """Values, final states and all gradients, for a state that is given, left out, or learned."""
    problem = Problem(point["kind"], SHAPE, reverse=point["reverse"], batch_first=point["batch_first"])
    learn, given = STARTS[point["start"]]
    layer = problem.layer(point["backend"], learn_initial_state=learn)
    state = problem.state if given else None
    arguments = layer, problem.x, state, problem.v, problem.u, point["lengths"], MASKS[point["mask"]]
    assert_equal(evaluate(*arguments), apart(*arguments), zeros=True)


@grid(kind=KINDS, reverse=[False, True], remat=[False, True, 1, 3], share=[0.02, 0.2, 0.7], loss=["all", "outputs"])
def test_many_rows_and_resets(point):
    """Lanes that carry one part after the other, against the graph backend."""
    problem = Problem(point["kind"], (40, 25, D, H), reverse=point["reverse"])
    rng = np.random.default_rng(0)
    call = {"lengths": rng.integers(1, 41, 25), "reset": rng.random((40, 25)) < point["share"]}
    call["weights"] = problem.losses()[point["loss"]]
    assert_equal(problem.run(problem.layer(remat=point["remat"]), **call), problem.run("graph", **call), zeros=True)


@grid(**WAYS)
def test_resets_in_the_padding_are_ignored_and_a_mask_of_false_changes_nothing(point):
    problem = Problem(shape=SHAPE, **point)
    layer, padding, none = problem.layer(point["backend"]), np.arange(T)[:, None] >= LENGTHS, np.zeros((T, N), bool)
    for lengths in (None, LENGTHS):
        assert_equal(problem.run(layer, lengths=lengths, reset=none), problem.run(layer, lengths=lengths), 0)
    problem.x[padding] = np.nan
    for reset in (none, MASKS["some"] & ~padding):
        expected = problem.run(layer, lengths=LENGTHS, reset=reset)
        assert_equal(problem.run(layer, lengths=LENGTHS, reset=reset | padding), expected, 0)


def test_a_list_of_booleans_and_a_composite():
    rng = np.random.default_rng(0)
    both = mr.Bidirectional(Problem("lstm", SHAPE).layer(), Problem("gru", SHAPE).layer(reverse=True))
    x, reset = rng.standard_normal((T, N, D)), MASKS["some"]
    outputs = both(x, reset=reset.tolist()).outputs.numpy()
    for half, layer in ((outputs[..., :H], both.forward_layer), (outputs[..., H:], both.backward_layer)):
        np.testing.assert_array_equal(half, layer(x, reset=reset).outputs.numpy())
    layer = mr.Stacked([both, mr.GRULayer(2 * H, 3, dtype=np.float64, rng=0)])
    model = mr.SequenceModel(layer, mr.Linear(3, 1, dtype=np.float64, rng=0))
    np.testing.assert_array_equal(
        model(x, reset=reset).predictions.numpy(), model.head(layer(x, reset=reset).outputs).numpy()
    )


BOOLEANS, TRY = "reset must be booleans, got", "try reset.astype(bool)"
OF_SHAPE, EACH = "reset must have shape (T=7, N=4), got", "one for each step of each row"


@pytest.mark.parametrize(
    ("reset", "kind", "message"),
    [
        (np.zeros((4, 7), bool), ValueError, f"{OF_SHAPE} (4, 7): did you swap time and rows?"),
        (np.zeros(7, bool), ValueError, f"{OF_SHAPE} (7,): {EACH}"),
        (True, ValueError, f"{OF_SHAPE} (): {EACH}"),
        (np.zeros((7, 4), int), TypeError, f"{BOOLEANS} an array of shape (7, 4) and dtype int64: {TRY}"),
        ("no", TypeError, f"{BOOLEANS} an array of shape () and dtype <U2: {TRY}"),
        ([[True], [True, False]], TypeError, f"{BOOLEANS} a ragged list: {TRY}"),
    ],
)
def test_what_a_reset_mask_is_not(reset, kind, message):
    for make, backend in itertools.product((mr.RecurrentLayer, mr.LSTMLayer, mr.GRULayer), BACKENDS):
        layer = make(3, 5, backend=backend, recurrent_dropout=0.5, rng=0)
        check_refused(layer, functools.partial(layer, np.zeros((7, 4, 3)), reset=reset), kind, message)


def test_its_shape_with_batch_first_and_that_it_is_passed_by_name():
    layer = mr.GRULayer(3, 5, batch_first=True, rng=0)
    layer(np.zeros((4, 7, 3)), reset=np.zeros((4, 7), bool))
    with raises(ValueError, "GRULayer: reset must have shape (N=4, T=7), got (7, 4): did you swap time and rows?"):
        layer(np.zeros((4, 7, 3)), reset=np.zeros((7, 4), bool))
    with pytest.raises(TypeError, match="positional argument"):
        layer(np.zeros((4, 7, 3)), None, None, np.zeros((4, 7), bool))


# --- recurrent dropout ------------------------------------------------------------------------------------------------


def mask_to_come(rng, p):
    """The mask that the next call will draw from this Generator, which is left where it is."""
    return (copy.deepcopy(rng).random((N, H)) >= p) / (1 - p)


def by_hand(layer, x, state, mask):
    """Unroll with the textbook's steps, ``mask`` on the h of every product and on nothing else."""
    weights = [layer.W_xh.data, layer.W_hh.data, layer.b_h.data]
    h, *c = flat(state)
    outputs = []
    for x_t in x:
        if isinstance(layer, mr.LSTMLayer):
            h, c[0] = textbook.lstm_step(x_t, h * mask, c[0], *weights)
        elif isinstance(layer, mr.GRULayer):
            z = 1 / (1 + np.exp(-(x_t @ weights[0] + h * mask @ weights[1] + weights[2])[:, H : 2 * H]))
            if layer.reset_after:
                new = textbook.gru_step(x_t, h * mask, *weights, layer.b_hn.data)
            else:
                new = textbook.gru_reset_before_step(x_t, h * mask, *weights)
            h = new + z * (h - h * mask)  # what z keeps of h is kept whole
        else:
            h = textbook.layer_step_batch(x_t, h * mask, *weights, activation="tanh")
        outputs.append(h)
    return np.stack(outputs), h, *c


@backends
@pytest.mark.parametrize("kind", ["tanh", "lstm", "gru", "gru before"])
def test_dropout_by_hand(kind, backend):
    problem, p, rng = Problem(kind, SHAPE), 0.4, np.random.default_rng(3)
    layer = problem.layer(backend, recurrent_dropout=p, rng=rng)
    for _ in range(2):  # the next call draws another mask
        mask = mask_to_come(rng, p)
        expected = by_hand(layer, problem.x, problem.state, mask)
        found = problem.run(layer)
        for a, b in zip(
            [found["outputs"], *(found[f"final {i}"] for i in range(len(problem.u)))], expected, strict=True
        ):
            assert relative_error(a, b) <= 1e-12
        if kind in ("tanh", "lstm"):  # the h that comes in reaches the rest through the product alone
            np.testing.assert_array_equal(found["initial 0"] != 0, mask != 0)
            assert found.get("initial 1", np.ones(1)).all()  # no entry of c is dropped


@kinds
def test_lengths_and_resets_draw_the_same_masks(kind):
    """One mask to a row: valid steps are as they would be without lengths, and parts after a reset have it too."""
    for reverse in (False, True):
        problem = Problem(kind, SHAPE, reverse=reverse)
        layer = problem.layer(recurrent_dropout=0.4)
        _, _, f = problem.inputs(layer)
        if not reverse:
            valid = np.arange(T)[:, None] < LENGTHS
            found, whole = f(lengths=LENGTHS).outputs.numpy(), f().outputs.numpy()
            np.testing.assert_allclose(found[valid], whole[valid], rtol=0, atol=1e-14)
        before = copy.deepcopy(layer)
        whole = layer(problem.x, reset=MASKS["all rows at once"]).outputs.numpy()
        for part in (slice(0, 3), slice(3, T)):
            alone = copy.deepcopy(before)(problem.x[part]).outputs.numpy()
            np.testing.assert_allclose(alone, whole[part], rtol=0, atol=1e-14)


@backends
@kinds
def test_eval_drops_nothing_and_draws_nothing_and_neither_does_create_graph(kind, backend):
    problem, rng = Problem(kind, SHAPE), np.random.default_rng(4)
    layer = problem.layer(backend, recurrent_dropout=0.4, rng=rng)
    drawn = rng.bit_generator.state
    layer.eval()
    for call in ({}, {"lengths": LENGTHS, "reset": MASKS["some"]}):
        assert_equal(problem.run(layer, **call), problem.run(backend, **call), zeros=True)
    assert rng.bit_generator.state == drawn
    layer.train()
    outputs, _ = layer(problem.x, problem.state)
    assert not np.allclose(outputs.numpy(), problem.run(backend)["outputs"])
    drawn = rng.bit_generator.state
    (g,) = mr.grad((outputs**2).sum(), layer.W_hh, create_graph=True)
    (g**2).sum().backward()
    assert rng.bit_generator.state == drawn
    problem.run(problem.layer(backend, rng=rng))  # without dropout there are only the initial weights to draw
    twin = np.random.default_rng()
    twin.bit_generator.state = drawn
    problem.layer(backend, rng=twin)
    assert rng.bit_generator.state == twin.bit_generator.state


@kinds
def test_a_step_in_training_is_refused(kind):
    problem = Problem(kind, SHAPE)
    layer = problem.layer(recurrent_dropout=0.4)
    message = (
        "step with recurrent_dropout in training: the mask is one for a whole sequence, which a single step does not "
        "know: call eval() before, or the layer on the whole sequence"
    )
    check_refused(layer, lambda: layer.step(problem.x[0], problem.state), RuntimeError, message)
    state = layer.eval().step(problem.x[0], problem.state)
    expected = layer(problem.x[:1], problem.state).outputs.numpy()[0]
    np.testing.assert_allclose(layer.last_output(state).numpy(), expected, rtol=0, atol=1e-14)
