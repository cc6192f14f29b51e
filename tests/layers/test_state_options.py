"""What a sequence starts from, learned, carried or reset within it; and dropout on the state that is fed back."""

import copy
import functools
import itertools

import numpy as np
import pytest
from error_texts import raises
from test_family import BACKENDS, CELLS, assert_equal, each, evaluate, flat, leaf, relative_error
from test_own_cell import UGRNN, Coupled

import minirnn as mr
from minirnn import textbook

T, N, D, H = 7, 4, 2, 5
KINDS = {"elman": mr.RecurrentLayer} | CELLS
KINDS |= {"own": functools.partial(mr.RecurrentLayer, cell=UGRNN())}
KINDS |= {"two states": functools.partial(mr.RecurrentLayer, cell=Coupled())}
LENGTHS = [3, 7, 1, 6]
kinds = pytest.mark.parametrize("kind", KINDS)
backends = pytest.mark.parametrize("backend", BACKENDS)
directions = pytest.mark.parametrize("reverse", [False, True], ids=["forward", "reverse"])
layouts = pytest.mark.parametrize("batch_first", [False, True], ids=["time first", "batch first"])


def made(kind, seed=0, scale=0.7, **options):
    """Return a layer with random parameters, a learned state among them not zero."""
    layer = KINDS[kind](D, H, **{"dtype": np.float64, "rng": 0} | options)
    rng = np.random.default_rng(seed)
    for p in layer.parameters():
        p.data = scale * rng.standard_normal(p.shape)
    return layer


def batch_for(layer, steps=T, rows=N, seed=1):
    """Return random x, state, v and u."""
    rng = np.random.default_rng(seed)
    x, v = rng.standard_normal((steps, rows, D)), rng.standard_normal((steps, rows, H))
    state, u = ([rng.standard_normal((rows, H)) for _ in layer.state_names] for _ in range(2))
    return x, tuple(state) if len(state) > 1 else state[0], v, u


def learned(layer):
    return [getattr(layer, f"{letter}_0") for letter in layer.state_names]


# --- learned ----------------------------------------------------------------------------------------------------------


@kinds
def test_a_learned_state_is_a_parameter_that_starts_at_zero(kind):
    for dtype in (np.float32, np.float64):
        layer = KINDS[kind](D, H, learn_initial_state=True, dtype=dtype, rng=0)
        plain = KINDS[kind](D, H, dtype=dtype, rng=0)
        for p in learned(layer):
            assert type(p) is mr.Parameter
            assert p.requires_grad
            assert p.dtype == dtype
            np.testing.assert_array_equal(p.data, np.zeros(H))
        names = [p.name for p in plain.parameters()]
        assert [p.name for p in layer.parameters()] == names + [f"{letter}_0" for letter in layer.state_names]
        for name in names:  # and it draws nothing
            np.testing.assert_array_equal(getattr(layer, name).data, getattr(plain, name).data)
        assert not hasattr(plain, "h_0")
        x = np.ones((T, N, D))
        for a, b in zip(flat(layer(x)), flat(plain(x)), strict=True):
            np.testing.assert_array_equal(a.numpy(), b.numpy())


def test_its_names():
    assert [p.name for p in made("lstm", learn_initial_state=True).parameters()][-2:] == ["h_0", "c_0"]
    assert [p.name for p in made("gru", learn_initial_state=True).parameters()][-2:] == ["b_hn", "h_0"]
    assert [p.name for p in made("two states", learn_initial_state=True).parameters()][-2:] == ["h_0", "s1_0"]


@backends
@layouts
@directions
@kinds
def test_it_is_the_same_state_in_each_row_and_its_gradient_the_sum_over_the_rows(kind, reverse, batch_first, backend):
    layer = made(kind, reverse=reverse, batch_first=batch_first, backend=backend, learn_initial_state=True)
    plain = made(kind, reverse=reverse, batch_first=batch_first, backend=backend)
    x, _, v, u = batch_for(layer)
    state = [np.tile(p.data, (N, 1)) for p in learned(layer)]
    given = tuple(state) if len(state) > 1 else state[0]
    for lengths in (None, LENGTHS):
        exact = evaluate(plain, x, given, v, u, lengths)
        found = evaluate(layer, x, None, v, u, lengths)
        for i, letter in enumerate(layer.state_names):
            exact[f"{letter}_0"] = exact.pop(f"initial {i}").sum(axis=0)
        assert_equal(found, exact)


@backends
@kinds
def test_it_is_used_only_when_no_state_is_given(kind, backend):
    layer, plain = made(kind, backend=backend, learn_initial_state=True), made(kind, backend=backend)
    x, state, v, u = batch_for(layer)
    found = evaluate(layer, x, state, v, u)
    assert all(found.pop(p.name) is None for p in learned(layer))
    assert_equal(found, evaluate(plain, x, state, v, u), 0)


@backends
@kinds
def test_its_gradient_by_central_differences(kind, backend):
    """With lengths and resets, after which it is used again."""
    layer = made(kind, backend=backend, learn_initial_state=True)
    x, _, _, _ = batch_for(layer, steps=3, rows=2)
    reset = np.array([[False, False], [False, True], [True, False]])
    for settings in ({}, {"lengths": [3, 2], "reset": reset}):
        assert mr.gradcheck(lambda *_, s=settings: layer(x, **s), layer.parameters())


@backends
@kinds
def test_a_step_starts_from_it_too(kind, backend):
    layer = made(kind, backend=backend, learn_initial_state=True)
    x, _, _, _ = batch_for(layer)
    outputs, final_state = layer(x)
    state = None
    for t in range(T):
        state = layer.step(x[t], state)
        np.testing.assert_allclose(layer.last_output(state).numpy(), outputs.numpy()[t], rtol=0, atol=1e-14)
    layer.zero_grad()
    sum(s.sum() for s in flat(state)).backward()
    by_steps = [p.grad for p in layer.parameters()]
    layer.zero_grad()
    sum(s.sum() for s in flat(final_state)).backward()
    for p, g in zip(layer.parameters(), by_steps, strict=True):
        assert relative_error(g, p.grad) <= 1e-12, p.name


@kinds
def test_second_order_goes_through_it(kind):
    found = []
    for backend in BACKENDS:
        layer = made(kind, backend=backend, learn_initial_state=True)
        x, _, v, _ = batch_for(layer)
        reset = np.arange(T * N).reshape(T, N) % 5 == 3
        first = mr.grad((layer(x, reset=reset).outputs ** 2 * v).sum(), layer.parameters(), create_graph=True)
        found.append([g.numpy() for g in mr.grad(sum((g * g).sum() for g in first), layer.parameters())])
    for p, a, b in zip(layer.parameters(), *found, strict=True):
        assert relative_error(a, b) <= 1e-12, p.name


@kinds
def test_it_is_saved_loaded_frozen_and_trained(kind):
    layer, other = made(kind, learn_initial_state=True), made(kind, seed=5, learn_initial_state=True)
    state = layer.state_dict()
    assert {f"{letter}_0" for letter in layer.state_names} <= set(state)
    other.load_state_dict(state)
    x, _, _, _ = batch_for(layer)
    for a, b in zip(flat(layer(x)), flat(other(x)), strict=True):
        np.testing.assert_array_equal(a.numpy(), b.numpy())
    with pytest.raises(ValueError, match=r"unexpected: h_0"):
        made(kind).load_state_dict(state)
    with pytest.raises(ValueError, match=r"missing: h_0 \(5,\)"):
        layer.load_state_dict(made(kind).state_dict())
    layer.h_0.requires_grad = False
    layer(x).outputs.sum().backward()
    assert layer.h_0.grad is None
    optimizer = mr.optim.SGD(other.parameters(), lr=0.1)
    other(x).outputs.sum().backward()
    optimizer.step()
    assert not np.array_equal(other.h_0.data, state["h_0"])


def test_it_learns_what_a_sequence_starts_from():
    """Inputs of zeros: the outputs can only come from the state."""
    rng = np.random.default_rng(0)
    teacher = mr.GRULayer(1, 3, rng=0)
    targets = teacher(np.zeros((6, 2, 1)), np.tile(rng.standard_normal(3), (2, 1))).outputs.numpy()
    layer = mr.GRULayer(1, 3, learn_initial_state=True, rng=0)
    optimizer = mr.optim.Adam([layer.h_0], lr=0.1)
    for _ in range(150):
        optimizer.zero_grad()
        loss = mr.losses.mse(layer(np.zeros((6, 2, 1))).outputs, targets)
        loss.backward()
        optimizer.step()
    assert loss.item() < 1e-4


@pytest.mark.parametrize("wrong", ["yes", 1, None])
def test_the_switch_is_true_or_false(wrong):
    for make in (mr.RecurrentLayer, mr.LSTMLayer, mr.GRULayer):
        got = f"{wrong!r} ({type(wrong).__name__})"
        with raises(TypeError, f"{make.__name__}: learn_initial_state must be True or False, got {got}"):
            make(3, 5, learn_initial_state=wrong)


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
masks = pytest.mark.parametrize("reset", MASKS.values(), ids=MASKS)


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


def compare(found, exact):
    """Compare as `assert_equal` does, but that a gradient which nothing reaches may be zero, or None."""
    for name, value in found.items():
        if name in exact and exact[name].any():
            assert relative_error(value, exact[name]) <= 1e-12, name
        else:
            assert value is None or not value.any(), name
    assert set(exact) <= set(found)


@backends
@pytest.mark.parametrize("lengths", [None, LENGTHS], ids=["full", "ragged"])
@masks
@directions
@kinds
def test_a_reset_is_a_new_sequence(kind, reverse, reset, lengths, backend):
    """Values, final states and all gradients, for a state that is given, left out, or learned."""
    for learn, given in ((False, True), (True, True), (True, False)) if lengths else ((False, True), (False, False)):
        layer = made(kind, reverse=reverse, learn_initial_state=learn, backend=backend)
        x, state, v, u = batch_for(layer)
        arguments = layer, x, state if given else None, v, u, lengths, reset
        compare(evaluate(*arguments), apart(*arguments))


@backends
@masks
@kinds
def test_the_same_with_batch_first(kind, reset, backend):
    plain, turned_layer = made(kind, backend=backend), made(kind, backend=backend, batch_first=True)
    x, state, v, u = batch_for(plain)
    expected, found = (evaluate(layer, x, state, v, u, LENGTHS, reset) for layer in (plain, turned_layer))
    compare(found, expected)


@pytest.mark.parametrize("remat", [True, 1, 3])
@directions
@kinds
def test_many_rows_and_resets(kind, reverse, remat):
    """Lanes that carry one part after the other, against the graph backend."""
    rng = np.random.default_rng(0)
    layer, graph = made(kind, reverse=reverse, remat=remat), made(kind, reverse=reverse, backend="graph")
    x, state, v, u = batch_for(layer, steps=40, rows=25)
    for share in (0.02, 0.2, 0.7):
        lengths, reset = rng.integers(1, 41, 25), rng.random((40, 25)) < share
        for of in ([1] * (1 + len(u)), [1] + [0] * len(u)):
            arguments = x, state, v, u, lengths, reset, of
            compare(evaluate(layer, *arguments), evaluate(graph, *arguments))


@backends
@directions
@kinds
def test_resets_in_the_padding_are_ignored(kind, reverse, backend):
    layer = made(kind, reverse=reverse, backend=backend)
    x, state, v, u = batch_for(layer)
    padding = np.arange(T)[:, None] >= LENGTHS
    for reset in (np.zeros((T, N), bool), MASKS["some"] & ~padding):
        x[padding] = np.nan
        expected = evaluate(layer, x, state, v, u, LENGTHS, reset)
        assert_equal(evaluate(layer, x, state, v, u, LENGTHS, reset | padding), expected, 0)


@backends
@directions
@kinds
def test_a_mask_of_false_changes_nothing(kind, reverse, backend):
    layer = made(kind, reverse=reverse, backend=backend)
    x, state, v, u = batch_for(layer)
    none = np.zeros((T, N), bool)
    for lengths in (None, LENGTHS):
        expected = evaluate(layer, x, state, v, u, lengths)
        assert_equal(evaluate(layer, x, state, v, u, lengths, none), expected, 0)


@backends
@kinds
def test_a_reset_at_the_first_step_discards_the_state_given_in_the_forward_direction_only(kind, backend):
    """In reverse t = 0 comes last: nothing is before it to be cut off."""
    for reverse in (False, True):
        layer = made(kind, reverse=reverse, backend=backend)
        x, state, v, u = batch_for(layer)
        found = evaluate(layer, x, state, v, u, reset=MASKS["first step"])
        given = evaluate(layer, x, state if reverse else each(np.zeros_like, state), v, u)
        for name, value in found.items():
            if name.startswith("initial") and not reverse:
                assert not value.any()
            else:
                assert relative_error(value, given[name]) <= 1e-12, name


@backends
@directions
@kinds
def test_nothing_crosses_a_reset(kind, reverse, backend):
    """The gradient of one output reaches the steps of its own part, and no other."""
    layer = made(kind, reverse=reverse, backend=backend)
    array, _, _, _ = batch_for(layer)
    reset = np.repeat(np.isin(np.arange(T), [2, 5]), N).reshape(T, N)
    for t, (lo, hi) in [(1, (0, 2)), (2, (2, 5)), (4, (2, 5)), (5, (5, 7))]:
        x = leaf(array)
        layer(x, reset=reset).outputs[t].sum().backward()
        steps = np.arange(T)
        before = (steps >= t) & (steps < hi) if reverse else (steps <= t) & (steps >= lo)
        np.testing.assert_array_equal(x.grad.any(axis=(1, 2)), before)


@kinds
def test_second_order_stops_there_too(kind):
    found = []
    for backend in BACKENDS:
        layer = made(kind, backend=backend)
        x, state, v, u = batch_for(layer)
        x, state = leaf(x), each(leaf, state)
        asking = [x, *flat(state), *layer.parameters()]
        outputs, final_state = layer(x, state, LENGTHS, reset=MASKS["some"])
        loss = (outputs**2 * v).sum() + sum((s**2 * w).sum() for s, w in zip(flat(final_state), u, strict=True))
        first = mr.grad(loss, asking, create_graph=True)
        found.append([g.numpy() for g in mr.grad(sum((g * g).sum() for g in first), asking)])
    for a, b in zip(*found, strict=True):
        assert relative_error(a, b) <= 1e-12


def test_a_list_of_booleans_and_a_composite():
    rng = np.random.default_rng(0)
    both = mr.Bidirectional(made("lstm"), made("gru", reverse=True))
    x, reset = rng.standard_normal((T, N, D)), MASKS["some"]
    outputs = both(x, reset=reset.tolist()).outputs.numpy()
    for half, layer in ((outputs[..., :H], both.forward_layer), (outputs[..., H:], both.backward_layer)):
        np.testing.assert_array_equal(half, layer(x, reset=reset).outputs.numpy())
    layer = mr.Stacked([both, mr.GRULayer(2 * H, 3, dtype=np.float64, rng=0)])
    model = mr.SequenceModel(layer, mr.Linear(3, 1, dtype=np.float64, rng=0))
    np.testing.assert_array_equal(
        model(x, reset=reset).predictions.numpy(), model.head(layer(x, reset=reset).outputs).numpy()
    )


BOOLEANS = "reset must be booleans, got"
TRY = "try reset.astype(bool)"


@backends
@pytest.mark.parametrize(
    ("reset", "kind", "message"),
    [
        (
            np.zeros((4, 7), bool),
            ValueError,
            "reset must have shape (T=7, N=4), got (4, 7): did you swap time and rows?",
        ),
        (np.zeros(7, bool), ValueError, "reset must have shape (T=7, N=4), got (7,): one for each step of each row"),
        (
            np.zeros((7, 1), bool),
            ValueError,
            "reset must have shape (T=7, N=4), got (7, 1): one for each step of each row",
        ),
        (
            np.zeros((7, 4, 1), bool),
            ValueError,
            "reset must have shape (T=7, N=4), got (7, 4, 1): one for each step of each row",
        ),
        (True, ValueError, "reset must have shape (T=7, N=4), got (): one for each step of each row"),
        (np.zeros((7, 4), int), TypeError, f"{BOOLEANS} an array of shape (7, 4) and dtype int64: {TRY}"),
        (np.zeros((7, 4)), TypeError, f"{BOOLEANS} an array of shape (7, 4) and dtype float64: {TRY}"),
        ([[None] * 4] * 7, TypeError, f"{BOOLEANS} an array of shape (7, 4) and dtype object: {TRY}"),
        ([2, 5], TypeError, f"{BOOLEANS} an array of shape (2,) and dtype int64: {TRY}"),
        ("no", TypeError, f"{BOOLEANS} an array of shape () and dtype <U2: {TRY}"),
        ([[True], [True, False]], TypeError, f"{BOOLEANS} a ragged list: {TRY}"),
    ],
)
@pytest.mark.parametrize("make", [mr.RecurrentLayer, mr.LSTMLayer, mr.GRULayer])
def test_what_a_reset_mask_is_not(make, reset, kind, message, backend):
    rng = np.random.default_rng(0)
    layer = make(3, 5, backend=backend, recurrent_dropout=0.5, rng=rng)
    before, drawn = layer.state_dict(), rng.bit_generator.state
    with raises(kind, f"{layer.name}: {message}"):
        layer(np.zeros((7, 4, 3)), reset=reset)
    assert rng.bit_generator.state == drawn
    for p in layer.parameters():
        assert p.grad is None
        np.testing.assert_array_equal(p.data, before[p.name])


def test_its_shape_with_batch_first():
    layer = mr.GRULayer(3, 5, batch_first=True, rng=0)
    layer(np.zeros((4, 7, 3)), reset=np.zeros((4, 7), bool))
    with raises(ValueError, "GRULayer: reset must have shape (N=4, T=7), got (7, 4): did you swap time and rows?"):
        layer(np.zeros((4, 7, 3)), reset=np.zeros((7, 4), bool))


def test_it_is_passed_by_name():
    with pytest.raises(TypeError, match="positional argument"):
        mr.GRULayer(D, H)(np.zeros((T, N, D)), None, None, np.zeros((T, N), bool))


# --- recurrent dropout ------------------------------------------------------------------------------------------------


def mask_to_come(rng, p, rows=N, hidden=H):
    """Return the mask that the next call will draw from this Generator, which is left where it is."""
    return (copy.deepcopy(rng).random((rows, hidden)) >= p) / (1 - p)


@backends
@directions
@pytest.mark.parametrize("p", [0.5, 0.75])
def test_one_mask_a_sequence_the_same_at_every_step(p, reverse, backend):
    """With W_hh = 1, W_xh = 0 and φ(z) = z a step multiplies the state by the mask: after k steps it is the mask^k.

    What is dropped at the first step is 0 for good; what is kept has grown by 1 / (1 − p) at each; rows differ.
    """
    layer = mr.RecurrentLayer(D, 40, activation="identity", backend=backend, reverse=reverse, input_initializer="zeros",
                              recurrent_initializer="identity", recurrent_dropout=p, rng=0)  # fmt: skip
    outputs, final_state = layer(np.ones((T, 30, D)), np.ones((30, 40)))
    outputs = outputs.numpy()[::-1] if reverse else outputs.numpy()
    mask = outputs[0]
    assert set(np.unique(mask)) == {0.0, 1 / (1 - p)}
    for k in range(T):
        np.testing.assert_array_equal(outputs[k], mask ** (k + 1))
    np.testing.assert_array_equal(final_state.numpy(), mask**T)
    assert abs((mask == 0).mean() - p) < 4 * np.sqrt(p * (1 - p) / mask.size)
    assert len(np.unique(mask, axis=0)) == 30
    assert not np.array_equal(layer(np.ones((T, 30, D)), np.ones((30, 40))).outputs.numpy()[-1 if reverse else 0], mask)


@pytest.mark.parametrize("kind", ["elman", "lstm"])
@backends
def test_the_gradient_shows_the_mask(kind, backend):
    """The h that comes in reaches the rest through the product alone: where it was dropped, its gradient is 0."""
    p, rng = 0.5, np.random.default_rng(3)
    layer = made(kind, backend=backend, recurrent_dropout=p, rng=rng)
    x, state, v, u = batch_for(layer)
    mask = mask_to_come(rng, p)
    found = evaluate(layer, x, state, v, u)
    np.testing.assert_array_equal(found["initial 0"] != 0, mask != 0)
    assert (mask == 0).any()
    if kind == "lstm":
        assert found["initial 1"].all()  # no entry of c is dropped


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
@pytest.mark.parametrize("kind", ["elman", *CELLS])
def test_dropout_by_hand(kind, backend):
    p, rng = 0.4, np.random.default_rng(3)
    layer = made(kind, backend=backend, recurrent_dropout=p, rng=rng)
    x, state, _, _ = batch_for(layer)
    for _ in range(2):  # the next call draws another mask
        expected = by_hand(layer, x, state, mask_to_come(rng, p))
        for a, b in zip(flat(layer(x, state)), expected, strict=True):
            assert relative_error(a.numpy(), b) <= 1e-12


@backends
@pytest.mark.parametrize("kind", ["gru", "gru before"])
def test_what_the_gru_keeps_is_never_dropped(kind, backend):
    """With z = 1 the state stays what it was, and so does the gradient on its way back."""
    layer = made(kind, backend=backend, recurrent_dropout=0.9, rng=0)
    layer.b_h.data[H : 2 * H] = 100
    x, state, v, _ = batch_for(layer)
    h0 = leaf(state)
    outputs, _ = layer(x, h0)
    np.testing.assert_allclose(outputs.numpy(), np.broadcast_to(state, (T, N, H)), rtol=0, atol=1e-14)
    (outputs * v).sum().backward()
    np.testing.assert_allclose(h0.grad, v.sum(axis=0), rtol=0, atol=1e-13)


@backends
def test_what_the_lstm_remembers_is_never_dropped(backend):
    """With f = 1 and i = 0 the cell keeps c, whatever of h is dropped."""
    layer = made("lstm", backend=backend, recurrent_dropout=0.9, rng=0)
    layer.b_h.data[:H], layer.b_h.data[H : 2 * H] = -1000, 1000
    x, (h, c), _, u = batch_for(layer)
    c0 = leaf(c)
    final_state = layer(x, (h, c0)).final_state
    np.testing.assert_array_equal(final_state.c.numpy(), c)
    (final_state.c * u[1]).sum().backward()
    np.testing.assert_array_equal(c0.grad, u[1])


@pytest.mark.parametrize("lengths", [None, LENGTHS], ids=["full", "ragged"])
@pytest.mark.parametrize("reset", [None, MASKS["some"]], ids=["whole", "reset"])
@pytest.mark.parametrize("remat", [False, True, 2])
@directions
@kinds
def test_fused_is_graph_with_the_same_seed(kind, reverse, remat, reset, lengths):
    found = []
    for options in ({"remat": remat}, {"backend": "graph"}):
        rng = np.random.default_rng(4)
        layer = made(kind, reverse=reverse, recurrent_dropout=0.4, rng=rng, **options)
        x, state, v, u = batch_for(layer)
        found += [evaluate(layer, x, state, v, u, lengths, reset) for _ in range(2)]
    assert_equal(found[0], found[2])
    assert_equal(found[1], found[3])
    assert not np.array_equal(found[0]["outputs"], found[1]["outputs"])


@directions
@kinds
def test_lengths_and_resets_draw_the_same_masks(kind, reverse):
    """One mask to a row: valid steps are as they would be without lengths, and parts after a reset have it too."""
    options = {"reverse": reverse, "recurrent_dropout": 0.4}
    layer = made(kind, rng=4, **options)
    x, state, _, _ = batch_for(layer)
    if not reverse:
        found = made(kind, rng=4, **options)(x, state, LENGTHS).outputs.numpy()
        valid = np.arange(T)[:, None] < LENGTHS
        np.testing.assert_allclose(found[valid], layer(x, state).outputs.numpy()[valid], rtol=0, atol=1e-14)
    rng = np.random.default_rng(5)
    layer = made(kind, rng=rng, **options)
    before = copy.deepcopy(rng)
    whole = layer(x, reset=np.repeat(np.arange(T) == 3, N).reshape(T, N)).outputs.numpy()
    for part in (slice(0, 3), slice(3, T)):
        rng.bit_generator.state = before.bit_generator.state
        np.testing.assert_allclose(layer(x[part]).outputs.numpy(), whole[part], rtol=0, atol=1e-14)


@backends
@kinds
def test_every_gradient_by_central_differences_with_one_mask(kind, backend):
    rng = np.random.default_rng(4)
    layer = made(kind, backend=backend, recurrent_dropout=0.4, rng=rng)
    x, state, _, _ = batch_for(layer, steps=3, rows=2)
    x, state = leaf(x), each(leaf, state)
    drawn = rng.bit_generator.state

    def f(*_):
        rng.bit_generator.state = drawn
        return layer(x, state, [3, 2])

    assert mr.gradcheck(f, [x, *flat(state), *layer.parameters()])


@kinds
def test_second_order_has_the_mask_of_the_first(kind):
    """`create_graph` runs the equations again, and must not draw again."""
    found = []
    for backend in BACKENDS:
        rng = np.random.default_rng(4)
        layer = made(kind, backend=backend, recurrent_dropout=0.4, rng=rng)
        x, _, v, _ = batch_for(layer)
        loss = (layer(x).outputs ** 2 * v).sum()
        drawn = rng.bit_generator.state
        first = mr.grad(loss, layer.parameters(), create_graph=True)
        found.append([g.numpy() for g in (*first, *mr.grad(sum((g * g).sum() for g in first), layer.parameters()))])
        assert rng.bit_generator.state == drawn
    for a, b in zip(*found, strict=True):
        assert relative_error(a, b) <= 1e-12


@backends
@kinds
def test_eval_drops_nothing_and_draws_nothing(kind, backend):
    rng = np.random.default_rng(4)
    layer, plain = made(kind, backend=backend, recurrent_dropout=0.4, rng=rng), made(kind, backend=backend)
    x, state, v, u = batch_for(layer)
    drawn = rng.bit_generator.state
    layer.eval()
    for settings in ({}, {"lengths": LENGTHS, "reset": MASKS["some"]}):
        found, expected = (evaluate(one, x, state, v, u, **settings) for one in (layer, plain))
        compare(found, expected)
    assert rng.bit_generator.state == drawn
    layer.train()
    assert not np.allclose(layer(x, state).outputs.numpy(), plain(x, state).outputs.numpy())
    assert rng.bit_generator.state != drawn


def test_train_and_eval_reach_the_layers_of_composites():
    rng = np.random.default_rng(0)
    layers = [mr.GRULayer(D, H, recurrent_dropout=0.5, reverse=reverse, rng=rng) for reverse in (False, True)]
    model = mr.SequenceModel(mr.Stacked([mr.Bidirectional(*layers)]), mr.Linear(2 * H, 1, rng=rng))
    x = np.ones((T, N, D))
    assert not np.array_equal(model(x).predictions.numpy(), model(x).predictions.numpy())
    model.eval()
    np.testing.assert_array_equal(model(x).predictions.numpy(), model(x).predictions.numpy())
    model.train()
    assert not np.array_equal(model(x).predictions.numpy(), model(x).predictions.numpy())


@backends
@kinds
def test_a_seed_gives_the_same_masks_and_float32_the_same_as_float64(kind, backend):
    found = []
    for dtype in (np.float64, np.float64, np.float32):
        layer = made(kind, backend=backend, recurrent_dropout=0.4, rng=4)
        single = KINDS[kind](D, H, backend=backend, recurrent_dropout=0.4, dtype=dtype, rng=4)
        single.load_state_dict(layer.state_dict())
        x, state, _, _ = batch_for(layer)
        found.append(single(x, state).outputs.numpy())
    np.testing.assert_array_equal(found[0], found[1])
    assert found[2].dtype == np.float32
    np.testing.assert_allclose(found[2], found[0], rtol=0, atol=1e-5)


@kinds
def test_without_dropout_nothing_is_drawn(kind):
    rng = np.random.default_rng(4)
    layer = KINDS[kind](D, H, rng=rng)
    drawn = rng.bit_generator.state
    layer(np.ones((T, N, D)))
    assert rng.bit_generator.state == drawn


@backends
@kinds
def test_a_step_in_training_is_refused(kind, backend):
    rng = np.random.default_rng(4)
    layer = made(kind, backend=backend, recurrent_dropout=0.4, rng=rng)
    x, state, _, _ = batch_for(layer)
    drawn = rng.bit_generator.state
    message = (
        f"{layer.name}: step with recurrent_dropout in training: the mask is one for a whole sequence, which a single "
        "step does not know: call eval() before, or the layer on the whole sequence"
    )
    with raises(RuntimeError, message):
        layer.step(x[0], state)
    assert rng.bit_generator.state == drawn
    outputs, _ = layer.eval()(x, state)
    for t in range(T):
        state = layer.step(x[t], state)
        np.testing.assert_allclose(layer.last_output(state).numpy(), outputs.numpy()[t], rtol=0, atol=1e-14)


PART = "recurrent_dropout must be a probability, 0 ≤ p < 1, got"


@pytest.mark.parametrize(
    ("p", "kind", "message"),
    [
        (1, ValueError, f"{PART} 1: it is a part, not a percentage"),
        (1.0, ValueError, f"{PART} 1.0: it is a part, not a percentage"),
        (20, ValueError, f"{PART} 20: it is a part, not a percentage"),
        (-0.1, ValueError, f"{PART} -0.1: try 0.5"),
        (np.nan, ValueError, f"{PART} nan: try 0.5"),
        (np.inf, ValueError, f"{PART} inf: it is a part, not a percentage"),
        (True, TypeError, f"{PART} True (bool): try 0.5"),
        (False, TypeError, f"{PART} False (bool): try 0.5"),
        ("0.5", TypeError, f"{PART} '0.5' (str): try 0.5"),
        (None, TypeError, f"{PART} None (NoneType): try 0.5"),
        ([0.5], TypeError, f"{PART} [0.5] (list): try 0.5"),
    ],
)
@pytest.mark.parametrize("make", [mr.RecurrentLayer, mr.LSTMLayer, mr.GRULayer])
def test_what_is_no_probability(make, p, kind, message):
    rng = np.random.default_rng(0)
    drawn = rng.bit_generator.state
    with raises(kind, f"{make.__name__}: {message}"):
        make(3, 5, recurrent_dropout=p, rng=rng)
    assert rng.bit_generator.state == drawn
