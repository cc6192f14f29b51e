"""How an op is described, and that the tape keeps what a rule names and nothing more."""

import gc
import inspect
import string
import weakref

import numpy as np
import pytest

import minirnn as mr
from minirnn.autograd import ops, shapes
from minirnn.autograd.op import OUTPUT, REGISTRY, Op
from minirnn.autograd.record import apply


def scaled_power(a, b, *, scale=1.0, offset=0.0):
    return scale * a**b + offset


def test_a_derivative_for_an_input_that_does_not_exist_is_refused():
    with pytest.raises(TypeError, match="scaled_power: a derivative for c, which is no input of it"):
        Op(scaled_power, a=lambda g: g, c=lambda g: g)
    with pytest.raises(TypeError, match="concatenate: a derivative for x, which is no input"):
        Op(shapes.concatenate.forward, x=lambda g: g)


def test_an_input_without_a_derivative_gets_no_gradient_and_alone_makes_a_constant():
    op = Op(lambda a, b: a**b, "half_a_power", a=lambda g, a, b: g * b * a ** (b - 1))
    a, b = mr.Tensor(np.full(2, 3.0), requires_grad=True), mr.Tensor(np.full(2, 2.0), requires_grad=True)
    apply(op, a, b).sum().backward()
    assert a.grad.tolist() == [6, 6]
    assert b.grad is None
    assert not apply(op, a.detach(), b).requires_grad


def test_every_op_says_what_it_computes():
    for op in REGISTRY.values():
        assert inspect.getdoc(op.forward), op.name


# --- what the tape keeps ----------------------------------------------------------------------------------------------

SHAPES_ONLY = (
    "add", "sub", "neg", "identity", "sum", "mean", "reshape", "transpose", "swapaxes", "squeeze", "expand_dims",
    "broadcast_to", "flip", "astype", "concatenate", "stack", "getitem", "scatter_add",
)  # fmt: skip
OUTPUT_ONLY = ("exp", "sqrt", "tanh", "sigmoid", "relu", "softmax", "log_softmax")


def test_the_tape_keeps_the_least_that_a_rule_needs():
    for name in SHAPES_ONLY:  # linear ops keep no array
        assert all(set(rule.roles) <= {None} for rule in REGISTRY[name].rules)
    for name in OUTPUT_ONLY:
        for rule in REGISTRY[name].rules:
            assert [role for role in rule.roles if role is not None] == [OUTPUT]
    for name in ("mul", "matmul"):  # for each factor only the other
        a, b = REGISTRY[name].rules
        assert (a.reads, b.reads) == ((1,), (0,))
        assert OUTPUT not in (*a.roles, *b.roles)


def test_an_array_that_no_rule_names_dies_with_its_tensor():
    x = mr.Tensor(np.ones(5), requires_grad=True)
    gc.disable()
    try:
        z = x + 1.0
        summed = z + np.ones(5)
        y = mr.tanh(summed)
        dead = [weakref.ref(z.numpy()), weakref.ref(summed.numpy())]
        alive = weakref.ref(y.numpy())
        out = y.sum()
        del z, summed, y
        assert [ref() for ref in dead] == [None, None]
        assert alive() is not None, "tanh's output is what its rule reads"
        out.backward()
        assert alive() is None
    finally:
        gc.enable()


def test_a_constant_factor_is_not_kept_for_the_factor_that_needs_no_gradient():
    x, big = mr.Tensor(np.ones(3), requires_grad=True), mr.Tensor(np.ones(3))
    product = x * big
    assert product.node.edges[1] is None
    assert product.node.edges[0][2][0] is big.numpy()


# --- how it is written, and its slopes --------------------------------------------------------------------------------

SLOPED = [op for op in REGISTRY.values() if op.slopes]
MEANING = {  # in this order
    "{b} {a}": "{b} * {a}", "2 {y}": "2 * {y}", "2 {x}": "2 * {x}", "ln {a}": "* log({a})", "⌊": "floor(", "⌋": ")",
    "{low} ≤ {x} ≤ {high}": "({low} ≤ {x}) * ({x} ≤ {high})",
    "⊙": "*", "²": "**2", "≤": "<=", "^": "**", "not ": "1.0 - ", "[": "1.0 * (", "]": ")",
}  # fmt: skip


def names_in(text):
    return {name for _, name, _, _ in string.Formatter().parse(text) if name}


def value_of(text, values):
    """Read a slope as arithmetic; two factors with a blank between them are multiplied."""
    for sign, meaning in MEANING.items():
        text = text.replace(sign, meaning)
    text = text.format_map({name: f"({name})" for name in values})
    functions = {"φ": lambda x: np.exp(-x * x / 2) / np.sqrt(2 * np.pi), "σ": ops.sigmoid.forward}
    return eval(text, {name: getattr(np, name) for name in ("sign", "log", "sin", "cos", "floor")} | functions | values)


def test_what_works_entry_by_entry_is_written_and_nothing_else():
    assert {op.name for op in SLOPED} == {
        "add", "sub", "mul", "div", "neg", "pow", "exp", "log", "sqrt", "abs", "tanh", "sigmoid", "softplus",
        "log_sigmoid", "relu", "identity", "copy", "maximum", "minimum", "where", "clip", "astype", "square", "sin",
        "cos", "log1p", "expm1", "normal_cdf", "root", "remainder",
    }  # fmt: skip
    for op in REGISTRY.values():
        assert (op.symbol is None) == (not op.slopes), op.name
        if op.slopes:
            assert list(op.slopes) == [name for name, rule in zip(op.inputs, op.rules, strict=True) if rule is not None]


@pytest.mark.parametrize("op", SLOPED, ids=lambda op: op.name)
def test_a_slope_is_what_the_rule_multiplies_the_gradient_by(op):
    """And names inputs, settings and the output, as the symbol names inputs and settings."""
    known = {*op.inputs, *op.settings}
    assert names_in(op.symbol) == known - {"dtype"}
    rng, positive = np.random.default_rng(0), op.name in ("pow", "log", "sqrt", "log1p", "root")
    inputs = {name: rng.uniform(0.5, 2.0, 50) if positive else rng.normal(size=50) for name in op.inputs}
    if "condition" in inputs:
        inputs["condition"] = inputs["condition"] > 0
    given = {"clip": {"low": -0.5, "high": 0.7}, "astype": {"dtype": np.float64}}.get(op.name, {})
    y, g = op.forward(*inputs.values(), **given), rng.normal(size=50)
    for name, text in op.slopes.items():
        assert names_in(text) <= known | {"y"}
        rule = op.rules[op.inputs.index(name)]
        expected = rule.vjp(g, *rule.save(y, *inputs.values(), **given))
        found = g * value_of(text, {**inputs, **given, "y": y})
        np.testing.assert_allclose(found, expected, rtol=1e-13, atol=1e-15, err_msg=f"{name}: {text}")


def test_an_op_of_one_s_own_says_nothing_unless_told():
    op = Op(lambda x: x**3, "cube", symbol="{x}³", slopes={"x": "3 {x}²"})
    assert (op.symbol, op.slopes) == ("{x}³", {"x": "3 {x}²"})
    assert (Op(scaled_power).symbol, Op(scaled_power).slopes) == (None, {})
