"""The unroll on plain arrays: its backward against the complex step and the textbook, and what it may not touch."""

import functools
import itertools
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import pytest
from notes import noted
from pairwise import pairwise

from minirnn import textbook
from minirnn.kernels import elman, hoisted, joined, scratch
from minirnn.kernels.cells import ACTIVATIONS, Activation
from minirnn.kernels.hoisted import HoistedBackward, HoistedForward
from minirnn.kernels.joined import JoinedBackward, JoinedForward
from minirnn.layers import threads

# z / √(1 + z²), whose derivative is (1 − y²)^(3/2): a pair of callables, as a user would give it, not a ufunc
PAIR = Activation("isru", lambda z: z / np.sqrt(1 + z * z), lambda y: (1 - y * y) ** 1.5)
CELLS = {**ACTIVATIONS, "pair": PAIR}
SHAPES = {
    "T=1": (1, 3, 2, 4),
    "N=1": (5, 1, 2, 4),
    "N=1, D>H": (4, 1, 3, 2),
    "all differ": (5, 3, 2, 4),
    "all 1": (1, 1, 1, 1),
}  # T, N, D, H


class Way(NamedTuple):
    """One of the ways to come to the same numbers; None leaves the choice to the unroll."""

    forth: Any = None
    back: Any = None
    chunk: int | None = None
    remat: int | None = None
    parts: int = 1
    run: Any = None


WAYS = {
    "as it comes": Way(),
    "hoisted": Way(HoistedForward, HoistedBackward),
    "joined": Way(JoinedForward, JoinedBackward),
    "joined forward": Way(JoinedForward, HoistedBackward),
    "hoisted in chunks": Way(HoistedForward, HoistedBackward, chunk=2),
    "joined in chunks": Way(JoinedForward, JoinedBackward, chunk=2),
    "joined forward in chunks": Way(JoinedForward, HoistedBackward, chunk=2),
    "remat of one": Way(remat=1),
    "remat": Way(HoistedForward, HoistedBackward, remat=2),
    "remat, joined": Way(JoinedForward, HoistedBackward, remat=3),
    "remat of more than all": Way(remat=9),
    "remat in chunks": Way(HoistedForward, HoistedBackward, chunk=2, remat=3),
    "parts": Way(parts=2),
    "parts at once": Way(HoistedForward, HoistedBackward, parts=3, run=threads.at_once),
    "all of it": Way(HoistedForward, HoistedBackward, chunk=1, remat=2, parts=2, run=threads.at_once),
    "all of it, joined": Way(JoinedForward, HoistedBackward, chunk=1, remat=2, parts=2, run=threads.at_once),
}


@contextmanager
def going(way):
    """Within it the unroll goes the way given; it uses no scratch from before, and leaves none."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scratch, "_shelf", scratch._Shelf())
        if way.forth is not None:
            patch.setattr(elman, "forward_form", lambda N, D, H: way.forth)
            patch.setattr(elman, "backward_form", lambda N, H: way.back)
        if way.chunk is not None:
            for module in (hoisted, joined):
                patch.setattr(module, "chunk_length", lambda N, width, dtype: way.chunk)
        yield


SETTINGS = {"way": WAYS, "name": CELLS, "bias": [True, False], "reverse": [False, True], "shape": SHAPES}
NAMES = ("x", "h0", "W_xh", "W_hh", "b_h")
every_way = pytest.mark.parametrize("way", WAYS)


def possible(point):
    """Whether the shape goes with the way: backward in the joined form is for N = 1."""
    return WAYS[point["way"]].back is not JoinedBackward or SHAPES[point["shape"]][1] == 1


def problem(shape, bias, dtype=np.float64, seed=0):
    """Return the five inputs and the gradients of outputs and final state, all random and none of them writeable."""
    T, N, D, H = SHAPES[shape]
    rng = np.random.default_rng(seed)
    sizes = [(T, N, D), (N, H), (D, H), (H, H), (H,), (T, N, H), (N, H)]
    arrays = [rng.standard_normal(size).astype(dtype) for size in sizes]
    if shape == "all 1":
        arrays = [np.abs(array) for array in arrays]  # a single rectifier that is off would have nothing to compare
    for array in arrays:
        array.flags.writeable = False  # writing into an input or into a gradient handed in raises from here on
    *inputs, d_outputs, d_final = arrays
    return inputs if bias else [*inputs[:4], None], d_outputs, d_final


def loss(inputs, activation, reverse, d_outputs, d_final):
    """Return L = Σ d_outputs·outputs + Σ d_final·final, whose gradients are those that `backward` is to return."""
    states = elman.forward(*inputs, activation, reverse)
    return (d_outputs * elman.outputs(states, reverse)).sum() + (d_final * elman.final(states, reverse)).sum()


def gradients(inputs, activation, reverse, d_outputs, d_final, way=WAYS["as it comes"], **options):
    x, _, W_xh, W_hh, b_h = inputs
    split = {"parts": min(way.parts, x.shape[1]), "run": way.run}
    with going(way):
        kept = elman.forward(*inputs, activation, reverse, **split)
        if way.remat is not None:
            kept = elman.checkpoints(kept, way.remat, b_h, reverse)
        return elman.backward(d_outputs, d_final, kept, x, W_xh, W_hh, activation, reverse, **split, **options)


def as_complex(inputs):
    return [None if a is None else a.astype(complex) for a in inputs]


def a_shape_for(way):
    return "N=1" if WAYS[way].back is JoinedBackward else "all differ"


@functools.cache
def exact_gradients(name, bias, reverse, shape):
    """Im L(a + ih) / h, entry by entry: ∂L/∂a to the last digits; no entry lies at the corner of relu."""
    inputs, d_outputs, d_final = problem(shape, bias)
    exact = [None if a is None else np.empty_like(a) for a in inputs]
    for k, g in enumerate(exact):
        for entry in np.ndindex(() if g is None else g.shape):
            if g is not None:
                moved = as_complex(inputs)
                moved[k][entry] += 1e-200j
                g[entry] = loss(moved, CELLS[name], reverse, d_outputs, d_final).imag / 1e-200
    return exact


def check(way, name, bias, reverse, shape):
    """Hold the states against the equation, and every gradient against the complex step, entry by entry."""
    inputs, d_outputs, d_final = problem(shape, bias)
    x, h0, W_xh, W_hh, b_h = inputs
    split = {"parts": min(WAYS[way].parts, x.shape[1]), "run": WAYS[way].run}
    with going(WAYS[way]):
        states = elman.forward(*inputs, CELLS[name], reverse, **split)
    before, after = elman.previous(states, reverse), elman.outputs(states, reverse)
    np.testing.assert_array_equal(before[-1 if reverse else 0], h0)
    z = x @ W_xh + before @ W_hh + (0 if b_h is None else b_h)
    np.testing.assert_allclose(after, CELLS[name].apply(z), rtol=0, atol=1e-14)
    analytic = gradients(inputs, CELLS[name], reverse, d_outputs, d_final, WAYS[way])
    for argument, g, exact in zip(NAMES, analytic, exact_gradients(name, bias, reverse, shape), strict=True):
        if exact is not None:
            assert np.abs(exact).max() > 0, f"{argument}: nothing to compare"
            np.testing.assert_allclose(g, exact, rtol=0, atol=1e-13 * np.abs(exact).max(), err_msg=argument)


TRIPLES = pairwise(SETTINGS, strength=3, allowed=possible)


@every_way
def test_states_and_every_entry_of_every_gradient(way):
    for point in TRIPLES:
        if point["way"] == way:
            with noted(point):
                check(**point)


@pytest.mark.exhaustive
@every_way
def test_states_and_every_entry_of_every_gradient_in_all_settings(way):
    for values in itertools.product([way], *list(SETTINGS.values())[1:]):
        point = dict(zip(SETTINGS, values, strict=True))
        if possible(point):
            with noted(point):
                check(**point)


@every_way
def test_every_way_keeps_float32(way):
    inputs, d_outputs, d_final = problem(a_shape_for(way), True, np.float32)
    for activation in CELLS.values():
        assert elman.forward(*inputs, activation).dtype == np.float32
        for g in gradients(inputs, activation, False, d_outputs, d_final, WAYS[way]):
            assert g.dtype == np.float32


@pytest.mark.parametrize("way", ["hoisted", "joined", "joined forward", "parts", "all of it"])
def test_every_way_copes_with_any_memory_order(way):
    inputs, d_outputs, d_final = problem(a_shape_for(way), True)
    strided = [a if a.ndim == 1 else np.asfortranarray(a) for a in inputs]
    strided[0] = np.ascontiguousarray(inputs[0].swapaxes(0, 1)).swapaxes(0, 1)  # what batch_first hands over
    broadcast = np.broadcast_to(d_final, d_outputs.shape)  # strides of 0, as the gradient of a sum may have
    for reverse in (False, True):
        ways = [
            (inputs, d_outputs, d_final),
            (strided, np.asfortranarray(d_outputs), np.asfortranarray(d_final)),
            (inputs, broadcast.copy(), None),
            (inputs, broadcast, None),
        ]
        one, two, three, four = (gradients(a, CELLS["tanh"], reverse, *d, WAYS[way]) for a, *d in ways)
        for argument, a, b, c, d in zip(NAMES, one, two, three, four, strict=True):
            np.testing.assert_allclose(a, b, rtol=0, atol=1e-13, err_msg=argument)
            np.testing.assert_allclose(c, d, rtol=0, atol=1e-13, err_msg=argument)


@every_way
def test_every_way_takes_an_absent_gradient_for_zeros(way):
    inputs, *there = problem(a_shape_for(way), True)
    for given in itertools.product([True, False], repeat=2):
        absent = [d if yes else None for d, yes in zip(there, given, strict=True)]
        full = [d if yes else np.zeros_like(d) for d, yes in zip(there, given, strict=True)]
        for reverse in (False, True):
            one = gradients(inputs, CELLS["tanh"], reverse, *absent, WAYS[way])
            two = gradients(inputs, CELLS["tanh"], reverse, *full, WAYS[way])
            for argument, a, b in zip(NAMES, one, two, strict=True):
                np.testing.assert_array_equal(a, b, err_msg=argument)
                assert a.any() == any(given)


def test_remat_runs_the_same_steps_again_bit_for_bit():
    """So the gradients are the same bits too, where a sum over time has one share."""
    inputs, d_outputs, d_final = problem("all differ", True)
    plain = gradients(inputs, CELLS["tanh"], False, d_outputs, d_final, WAYS["hoisted in chunks"])
    remat = gradients(inputs, CELLS["tanh"], False, d_outputs, d_final, WAYS["hoisted in chunks"]._replace(remat=2))
    for argument, a, b in zip(NAMES, plain, remat, strict=True):
        np.testing.assert_array_equal(a, b, err_msg=argument)


def test_checkpoints_are_few_and_copies():
    inputs, *_ = problem("all differ", True)
    for reverse in (False, True):
        states = elman.forward(*inputs, CELLS["tanh"], reverse)
        kept = elman.checkpoints(states, 2, inputs[4], reverse)
        order = states[::-1] if reverse else states
        np.testing.assert_array_equal(kept.states, order[[0, 2, 4]])
        assert not np.shares_memory(kept.states, states)
        assert len(elman.checkpoints(states, 5, inputs[4], reverse).states) == 1, "no step begins at the last state"


def test_the_form_is_a_matter_of_the_shape():
    assert elman.forward_form(1, 10, 20) is JoinedForward
    assert elman.forward_form(32, 10, 20) is JoinedForward
    assert elman.forward_form(1000, 10, 20) is HoistedForward
    assert elman.forward_form(1, 10, 200) is HoistedForward
    assert elman.forward_form(1, 200, 10) is HoistedForward
    assert elman.backward_form(1, 20) is JoinedBackward
    assert elman.backward_form(1, 200) is HoistedBackward
    assert elman.backward_form(2, 20) is HoistedBackward


@pytest.mark.parametrize("way", ["hoisted", "joined"])
def test_an_error_in_the_middle_leaves_nothing_behind(way):
    """A φ that raises: the scratch it was working in is not used again, and the next call gets the right numbers."""
    inputs, *_ = problem(a_shape_for(way), True)
    calls = itertools.count()

    def phi(z):
        if next(calls) == 3:
            raise ArithmeticError("in the middle")
        return np.tanh(z)

    with going(WAYS[way]):
        expected = elman.forward(*inputs, CELLS["tanh"])
        assert scratch._shelf.kept
        with pytest.raises(ArithmeticError, match="in the middle"):
            elman.forward(*inputs, Activation("broken", phi, None))
        assert not scratch._shelf.kept
        np.testing.assert_array_equal(elman.forward(*inputs, CELLS["tanh"]), expected)


@pytest.mark.parametrize("way", ["hoisted", "joined"])
def test_an_unroll_within_an_unroll_has_scratch_of_its_own(way):
    """A φ that unrolls another layer of the same shape, as nobody should: the numbers are right all the same."""
    inputs, *_ = problem(a_shape_for(way), True)
    x, h0, W_xh, W_hh, b_h = inputs

    def phi(z):
        elman.forward(-x, h0, W_xh, W_hh, b_h, ACTIVATIONS["tanh"])
        return np.tanh(z)

    with going(WAYS[way]):
        nested = elman.forward(*inputs, Activation("nested", phi, None))
        np.testing.assert_array_equal(nested, elman.forward(*inputs, ACTIVATIONS["tanh"]))


@pytest.mark.parametrize("name", CELLS)
def test_it_is_the_textbook(name):
    for bias, shape in itertools.product([True, False], SHAPES):
        inputs, d_outputs, d_final = problem(shape, bias, seed=5)
        *most, b_h = inputs
        given = [*most, np.zeros(SHAPES[shape][3]) if b_h is None else b_h]
        pair = CELLS[name].apply, CELLS[name].derivative
        states = elman.forward(*inputs, CELLS[name])
        expected = textbook.unroll(textbook.layer_step_batch, *given, activation=pair)
        np.testing.assert_allclose(elman.outputs(states, False), expected, rtol=0, atol=1e-13)
        oracle = textbook.unroll_backward(*given, d_outputs, d_final, activation=pair)
        found = gradients(inputs, CELLS[name], False, d_outputs, d_final)
        for argument, g, exact in zip(NAMES, found, oracle, strict=True):
            if argument != "b_h" or bias:
                np.testing.assert_allclose(g, exact, rtol=0, atol=1e-12 * np.abs(exact).max(), err_msg=argument)


@pytest.mark.parametrize("reverse", [False, True])
def test_where_the_states_lie(reverse):
    inputs, *_ = problem("all differ", True)
    states = elman.forward(*inputs, CELLS["tanh"], reverse)
    outputs, previous = elman.outputs(states, reverse), elman.previous(states, reverse)
    assert states.shape == (6, 3, 4)
    assert outputs.flags.c_contiguous
    assert previous.flags.c_contiguous
    assert np.shares_memory(outputs, states)
    np.testing.assert_array_equal(elman.final(states, reverse), outputs[0 if reverse else 4])


def test_only_what_is_wanted_is_computed_and_it_does_not_change():
    inputs, d_outputs, d_final = problem("all differ", True)
    everything = gradients(inputs, CELLS["tanh"], False, d_outputs, d_final)
    for wanted in itertools.product([True, False], repeat=5):
        some = gradients(inputs, CELLS["tanh"], False, d_outputs, d_final, wanted=wanted)
        for want, argument, a, b in zip(wanted, NAMES, some, everything, strict=True):
            if want:
                np.testing.assert_array_equal(a, b, err_msg=argument)
            else:
                assert a is None


@pytest.mark.parametrize(("name", "reverse"), [*itertools.product(CELLS, [False, True])])
def test_nothing_is_written_into_and_every_result_is_new(name, reverse):
    """The inputs are read-only, so that writing would raise; here their bytes are compared too."""
    inputs, d_outputs, d_final = problem("all differ", True)
    given = [*inputs, d_outputs, d_final]
    before = [a.tobytes() for a in given]
    states = elman.forward(*inputs, CELLS[name], reverse)
    kept = states.copy()
    states.flags.writeable = False  # backward may be called again: it must not use up what forward saved
    x, _, W_xh, W_hh, _ = inputs
    g = elman.backward(d_outputs, d_final, states, x, W_xh, W_hh, CELLS[name], reverse)
    again = elman.backward(d_outputs, d_final, states, x, W_xh, W_hh, CELLS[name], reverse)
    assert before == [a.tobytes() for a in given]
    np.testing.assert_array_equal(states, kept)
    for i, a in enumerate(g):
        assert a.flags.writeable
        assert not any(np.shares_memory(a, b) for b in [*given, states, *g[:i], *g[i + 1 :]])
        np.testing.assert_array_equal(a, again[i])


def test_two_unrolls_share_no_memory():
    inputs, *_ = problem("all differ", True)
    one = elman.forward(*inputs, CELLS["tanh"])
    kept = one.copy()
    two = elman.forward(-inputs[0], *inputs[1:], CELLS["tanh"])
    assert not np.shares_memory(one, two)
    np.testing.assert_array_equal(one, kept)
