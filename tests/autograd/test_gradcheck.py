"""gradcheck, held against gradients that are wrong in every way one can think of."""

import re

import numpy as np
import pytest
from notes import noted
from numpy.testing import assert_array_equal

import minirnn as mr
from minirnn.autograd.op import Op
from minirnn.autograd.record import apply


def leaf(data, dtype=np.float64):
    return mr.Tensor(np.array(data, dtype), requires_grad=True)


def op_with(rule, forward=np.tanh):
    op = Op(lambda x: forward(x), "suspect", x=rule)
    return lambda x: apply(op, x)


X = [[0.3, -0.4, 0.5], [1.0, -1.2, 0.1]]

RIGHT = op_with(lambda g, y: g * (1 - y * y))
WRONG = {
    "scaled by 1.001": op_with(lambda g, y: 1.001 * g * (1 - y * y)),
    "scaled by 0.999": op_with(lambda g, y: 0.999 * g * (1 - y * y)),
    "one term dropped": op_with(lambda g, y: g * -y * y),
    "zero": op_with(lambda g, y: 0.0 * g),
    "sign": op_with(lambda g, y: -g * (1 - y * y)),
    "not multiplied by g": op_with(lambda g, y: 1 - y * y),
    "the sum of g instead of g": op_with(lambda g, y: g.sum() * (1 - y * y)),
    "g's rows exchanged": op_with(lambda g, y: g[::-1] * (1 - y * y)),
    "NaN everywhere": op_with(lambda g, y: g * np.nan),
    "inf everywhere": op_with(lambda g, y: g * np.inf),
    "none recorded": lambda x: mr.tanh(x.detach()),
}


def test_a_right_gradient_passes():
    assert mr.gradcheck(RIGHT, leaf(X)) is True
    assert mr.gradcheck(RIGHT, [leaf(X)]) is True
    assert mr.gradcheck(lambda x, y: x @ y, (leaf(X), leaf(np.array(X).T))) is True


def test_a_wrong_gradient_is_caught():
    for name, f in WRONG.items():
        with noted(name), pytest.raises(mr.GradcheckError, match=r"the gradient of inputs\[0\] is wrong at \[\d, \d\]"):
            mr.gradcheck(f, leaf(X))
    with pytest.raises(mr.GradcheckError, match=r"the gradient of inputs\[0\] is wrong at \[\]: backward gives"):
        mr.gradcheck(WRONG["scaled by 1.001"], leaf(0.3))
    assert issubclass(mr.GradcheckError, AssertionError), "for test runners"


@pytest.mark.parametrize("bad", [np.nan, np.inf, 1.0])
def test_one_wrong_entry_in_many_is_found_and_named_with_both_values(bad):
    mask = np.zeros((2, 3))
    mask[1, 2] = 1

    def rule(g, y):
        right = g * (1 - y * y)
        return np.where(mask, bad, right)

    x = leaf(X)
    with pytest.raises(mr.GradcheckError) as caught:
        mr.gradcheck(op_with(rule), x, names=["x"])
    text = str(caught.value)
    numbers = re.fullmatch(
        r"gradcheck: the gradient of x is wrong at \[1, 2\]: backward gives (\S+), the central difference (\S+) "
        r"\(1 of 6 entries differ by more than 1e-07 \+ 1e-05·\|value\|\)",
        text,
    )
    assert numbers, text
    np.testing.assert_equal(float(numbers[1]), bad)
    slope = 1 - np.tanh(0.1) ** 2
    assert 0.5 * slope < abs(float(numbers[2])) < 1.5 * slope, "the outputs' weights lie between ½ and 1½"


def test_the_worst_entry_is_the_one_named():
    errors = np.array([[0.0, 0.01, 0.0], [0.5, 0.0, 0.02]])
    with pytest.raises(mr.GradcheckError, match=r"wrong at \[1, 0\].*\(3 of 6 entries"):
        mr.gradcheck(op_with(lambda g, y: g * (1 - y * y) + errors), leaf(X))


def test_the_input_that_is_wrong_is_named_whether_by_place_or_by_name():
    def f(x, constant, y):
        return RIGHT(x) * constant + WRONG["scaled by 1.001"](y)

    inputs = [leaf(X), mr.Tensor(np.ones((2, 3))), leaf(X)]
    with pytest.raises(mr.GradcheckError, match=r"the gradient of inputs\[2\] is wrong"):
        mr.gradcheck(f, inputs)
    with pytest.raises(mr.GradcheckError, match="the gradient of W_hh is wrong"):
        mr.gradcheck(f, inputs, names=["x", "b", "W_hh"])


def test_outputs_whose_sum_is_constant_are_no_hiding_place():
    no_gradient = op_with(lambda g, y: 0.0 * g, lambda x: np.exp(x) / np.exp(x).sum(-1, keepdims=True))
    assert abs(np.ptp(no_gradient(leaf(X)).sum(axis=1).numpy())) < 1e-15
    with pytest.raises(mr.GradcheckError):
        mr.gradcheck(no_gradient, leaf(X))


def test_every_output_takes_part_however_it_is_packed():
    for pack in (
        lambda good, bad: (good, bad),
        lambda good, bad: [good, [bad]],
        lambda good, bad: (good, {"deep": [(bad,)]}),
        lambda good, bad: mr.RecurrentLayer(1, 1, rng=0)([[[1.0]]])._replace(outputs=good, final_state=bad),
    ):
        assert mr.gradcheck(lambda x, pack=pack: pack(RIGHT(x), RIGHT(x) * 2.0), leaf(X))
        for wrong in ("scaled by 1.001", "zero"):
            for turn in (lambda *outputs: outputs, lambda *outputs: outputs[::-1]):
                with pytest.raises(mr.GradcheckError):
                    mr.gradcheck(lambda x, f=WRONG[wrong], p=pack, turn=turn: p(*turn(RIGHT(x), f(x))), leaf(X))


def test_parameters_that_f_reaches_by_itself_are_moved_and_put_back():
    layer, x = mr.RecurrentLayer(2, 3, dtype=np.float64, rng=0), leaf(np.random.default_rng(0).normal(size=(3, 1, 2)))
    wanted = [*layer.parameters(), x]
    before, copies = [p.data for p in wanted], [p.data.copy() for p in wanted]
    x.grad = mark = np.full(x.shape, 7.0)
    assert mr.gradcheck(lambda *_: layer(x), wanted, names=["W_xh", "W_hh", "b_h", "x"])
    for p, data, values in zip(wanted, before, copies, strict=True):
        assert p.data is data
        assert_array_equal(p.data, values)
        assert p.grad is (mark if p is x else None), "a gradient that was there stays"


def test_when_f_fails_half_way_the_input_is_put_back():
    x = leaf(X)
    data, calls = x.data, []

    def f(x):
        calls.append(None)
        if len(calls) == 4:
            raise KeyError("half way")
        return RIGHT(x)

    with pytest.raises(KeyError, match="half way"):
        mr.gradcheck(f, x)
    assert x.data is data
    assert_array_equal(x.data, X)


def test_an_input_used_twice_or_not_at_all_is_right_as_it_is():
    x, unused = leaf(X), leaf([1.0])
    assert mr.gradcheck(lambda x, unused: x * x + x, [x, unused])
    assert mr.gradcheck(lambda a, b: a * b, [x, x])
    assert mr.gradcheck(lambda x: mr.Tensor(np.ones(2)), x)


def test_second_order_is_checked_by_checking_grad():
    def gradient(f):
        return lambda x: mr.grad(f(x).sum(), x, create_graph=True)

    assert mr.gradcheck(gradient(lambda x: mr.tanh(x) ** 3), leaf(X))
    # right values at first order, but not differentiable any further
    cut = op_with(lambda g, y: g * (1 - np.asarray(y) ** 2))
    assert mr.gradcheck(cut, leaf(X))
    with pytest.raises(mr.GradcheckError):
        mr.gradcheck(gradient(cut), leaf(X))


def test_step_and_tolerances_can_be_chosen():
    f = WRONG["scaled by 1.001"]
    assert mr.gradcheck(f, leaf(X), rtol=1e-2)
    assert mr.gradcheck(f, leaf(X), atol=1e-2)
    with pytest.raises(mr.GradcheckError, match=re.escape("than 1e-09 + 0.0001·|value|")):
        mr.gradcheck(f, leaf(X), atol=1e-9, rtol=1e-4)
    with pytest.raises(mr.GradcheckError):
        mr.gradcheck(lambda x: mr.exp(x * 3), leaf(X), eps=0.1)


def test_what_cannot_be_checked_is_refused():
    wanted = r"inputs\[0\] must be a float64 leaf, got"
    x, returned = leaf(X), "f must return a Tensor, or a tuple, list"
    for f, inputs, error, says in (
        (RIGHT, [leaf(X, np.float32)], TypeError, rf"(?s){wanted} Tensor\(.*float32.*lower precision is too"),
        (RIGHT, [x * 1.0], TypeError, rf"(?s){wanted} Tensor.*op=mul.*; the output of an op must be detached"),
        (RIGHT, [np.array(X)], TypeError, f"{wanted} array"),
        (RIGHT, [mr.Tensor(np.array(X))], ValueError, "no input requires a gradient, so there is nothing"),
        (RIGHT, [], ValueError, "no input requires a gradient, so there is nothing to check"),
        (lambda x: x.numpy(), [x], TypeError, returned),
        (lambda x: None, [x], TypeError, returned),
        (lambda x: (), [x], TypeError, returned),
    ):
        with pytest.raises(error, match=says):
            mr.gradcheck(f, inputs)
    with pytest.raises(ValueError, match="gradcheck: expected 1 names, one for each input, got 2"):
        mr.gradcheck(RIGHT, [x], names=["x", "y"])


def test_a_function_that_gives_other_values_each_time_is_not_mistaken_for_a_wrong_gradient():
    rng = np.random.default_rng(0)
    with pytest.raises(ValueError, match=r"gradcheck: f gave two different values for the same inputs.*seed"):
        mr.gradcheck(lambda x: x * rng.normal(size=x.shape), leaf(X))
