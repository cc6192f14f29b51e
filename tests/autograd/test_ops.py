"""Every op of the registry, in many cases: forward, rule, second order, dtype, and what it must not touch."""

import math
import zlib
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from notes import noted
from numpy.testing import assert_allclose, assert_array_equal

import minirnn as mr
from minirnn.autograd import more, ops, shapes
from minirnn.autograd.op import REGISTRY, Op
from minirnn.autograd.record import apply
from minirnn.autograd.shapes import IndexedGradient, scatter_add

quick = settings(derandomize=True, deadline=None, max_examples=60)


# --- the cases --------------------------------------------------------------------------------------------------------


@dataclass(eq=False)
class Case:
    """Inputs and settings for one op. Float arrays are differentiated; numbers, bools and integers are constants."""

    op: str
    inputs: list[Any]
    settings: dict[str, Any] = field(default_factory=dict)
    complex_step: bool = True

    def __str__(self):
        return f"{self.op} of {', '.join(str(np.shape(x)) for x in self.inputs)} with {self.settings}"

    @property
    def differentiable(self):
        return [j for j, x in enumerate(self.inputs) if is_float(x)]


def is_float(x):
    return isinstance(x, np.ndarray) and x.dtype.kind == "f"


def generator(*key):
    return np.random.default_rng(zlib.crc32(repr(key).encode()))


def normal(*shape):
    """Any sign."""
    return generator("normal", shape).normal(size=shape)


def other(*shape):
    """Any sign, and not those of `normal`."""
    return generator("other", shape).normal(size=shape)


def positive(*shape):
    return generator("positive", shape).uniform(0.5, 1.5, size=shape)


def distinct(*shape, offset=0.0):
    """Both signs, each entry at least 0.09 away from every other, from 0, and from entries of another offset."""
    size = int(np.prod(shape))
    steps = generator("distinct", shape, offset).permutation(size) - size // 2
    return (0.2 * steps + 0.1 + offset).reshape(shape)


BROADCAST = [
    ((2, 3), (2, 3)), ((2, 3), (3,)), ((3,), (2, 3)), ((2, 1), (1, 3)), ((), (2, 3)), ((2, 3), ()), ((), ()),
    ((4, 2, 3), (2, 1)), ((1,), (2, 3)), ((2, 3), (1, 1, 1)), ((1, 3), (3,)), ((3,), (1, 1, 3)), ((0, 3), (3,)),
]  # fmt: skip

MATMUL = [
    ((3,), (3,)), ((2, 3), (3,)), ((3,), (3, 4)), ((2, 3), (3, 4)), ((1, 3), (3, 1)), ((2, 1), (1, 2)),
    ((5, 2, 3), (3, 4)), ((5, 2, 3), (3,)), ((3,), (5, 3, 4)), ((2, 3), (5, 3, 4)), ((5, 2, 3), (5, 3, 4)),
    ((1, 2, 3), (5, 3, 4)), ((5, 2, 3), (1, 3, 4)), ((4, 1, 2, 3), (5, 3, 2)), ((5, 2, 3), (4, 1, 3, 2)),
    ((3, 2, 2, 3), (3, 4)), ((3, 2, 2, 3), (3,)), ((3,), (3, 2, 3, 4)), ((0, 3), (3, 2)), ((2, 0), (0, 3)),
    ((2, 3, 0), (0, 4)), ((0, 2, 3), (3, 4)), ((2, 2, 3), (3, 0)),
]  # fmt: skip

REDUCTIONS = [
    ((2, 3), None, False), ((2, 3), None, True), ((2, 3), 0, False), ((2, 3), 1, True), ((2, 3), -1, False),
    ((2, 3), (0, 1), False), ((2, 3), (0, -1), True), ((2, 3, 4), (0, 2), False), ((2, 3, 4), (-1, -3), True),
    ((2, 3, 4), 1, False), ((2, 3, 4), (1,), False), ((2, 3), np.int64(1), False), ((), None, False),
    ((1, 3), 0, False), ((3,), 0, True),
]  # fmt: skip

ALONG = [((2, 3), -1), ((2, 3), 0), ((4,), 0), ((2, 3, 4), 1), ((2, 3, 4), -3), ((3, 1), -1)]

SHAPED = {  # the name of the setting; shapes, and its values
    "softmax": ("axis", ALONG),
    "log_softmax": ("axis", ALONG),
    "cumsum": ("axis", ALONG),
    "reshape": ("shape", [
        ((2, 3), (6,)), ((2, 3), (3, 2)), ((2, 3), (-1,)), ((2, 3), (1, 2, 3, 1)), ((), (1,)), ((1, 1), ()),
    ]),
    "transpose": ("axes", [
        ((2, 3), None), ((2, 3), (1, 0)), ((2, 3, 4), (2, 0, 1)), ((2, 3, 4), (-1, 0, -2)), ((2, 3, 4), None),
        ((3,), None), ((), None),
    ]),
    "squeeze": ("axis", [
        ((1, 3, 1), None), ((1, 3, 1), 0), ((1, 3, 1), -1), ((1, 3, 1), (0, 2)), ((2, 3), None), ((1,), 0),
    ]),
    "expand_dims": ("axis", [((2, 3), 0), ((2, 3), -1), ((2, 3), (0, 2)), ((), 0)]),
    "broadcast_to": ("shape", [((3,), (2, 3)), ((2, 1), (4, 2, 3)), ((), (2, 2)), ((2, 3), (2, 3)), ((1, 3), (0, 3))]),
    "flip": ("axis", [((2, 3), None), ((2, 3), 0), ((2, 3), -1), ((2, 3, 4), (0, -1)), ((2, 3), ()), ((), None)]),
}  # fmt: skip

SHAPES = [(2, 3), (), (1,), (0,), (2, 1, 3)]

INDICES = [
    ((4, 3), index)
    for index in (
        0, -1, np.int64(2), slice(1, 3), slice(None, None, 2), slice(None, None, -1), slice(3, 0, -2), slice(2, 2),
        (Ellipsis, 0), (None, 1), (slice(None), None, 1), (1, 2), (3, -1), (slice(1, None), slice(0, 2)), Ellipsis, (),
        np.array([0, 2, 2, 0]), np.array([-1, 3, -4]), np.array([[0, 1], [1, 1]]), np.array(2),
        np.array([1, 1, 1], np.uint8), np.array([], int), (np.array([0, 0, 1]), np.array([2, 2, 0])),
        (slice(None), np.array([0, 0, 2])), (np.array([3, 3]), slice(None, None, 2)), (np.array([1, 1]), None),
        (np.array([[0], [2]]), np.array([0, 1, 1])), (1, np.array([0, 0])),
        np.array([True, False, True, True]), np.zeros(4, bool), (np.array([True, False, True, True]), 0),
        (slice(None), np.array([True, False, True])), np.arange(12).reshape(4, 3) % 5 == 0,
    )
] + [
    ((5,), np.array([4, 4, 0, 4])), ((5,), 2), ((5,), slice(4, None, -3)), ((), ()), ((), None), ((), Ellipsis),
    ((2, 3, 4), (1, slice(None), 0)), ((2, 3, 4), (np.array([0, 1, 0]), slice(None), np.array([1, 1, 1]))),
    ((2, 3, 4), np.array([[1, 0], [1, 1]])), ((2, 3, 4), (Ellipsis, slice(None, None, -2))),
]  # fmt: skip

PIECES = [
    ((4, 3), [(1, (3,)), (slice(0, 2), (2, 3)), (1, (3,))]),
    ((4, 3), [(np.array([0, 2, 2, -1]), (4, 3)), (slice(None), (4, 3))]),
    ((4, 3), [((np.array([0, 0]), np.array([1, 1])), (2,)), ((Ellipsis, 1), (4,))]),
    ((4, 3), [(np.array([True, False, False, True]), (2, 3))]),
    ((4, 3), [(np.array([], int), (0, 3))]),
    ((3,), [(np.array([1, 1, 1]), (3,)), (0, ()), (-1, ())]),
    ((), [((), ()), (None, (1,))]),
]


def make_cases():
    cases = []

    def case(op, *inputs, complex_step=True, **settings):
        inputs = [np.asarray(x) if isinstance(x, np.floating) else x for x in inputs]
        cases.append(Case(op, inputs, settings, complex_step))

    for i, (a, b) in enumerate(BROADCAST):
        case("mul", normal(*a), other(*b))
        case("div", normal(*a), positive(*b))
        case("pow", positive(*a), other(*b))
        case("where", generator("c", a, b).random(np.broadcast_shapes(a, b)) < 0.5, normal(*a), other(*b))
        if i % 2 == 0:
            case("add", normal(*a), other(*b))
            case("maximum", distinct(*a), distinct(*b, offset=0.1), complex_step=False)
            case("where", generator("c", a).random(a) < 0.5, normal(*a), other(*b))
        else:
            case("sub", normal(*a), other(*b))
            case("minimum", distinct(*a), distinct(*b, offset=0.1), complex_step=False)
    case("where", np.array([True, False, True]), normal(2, 1), other())
    case("where", True, normal(2, 3), other(2, 3))
    case("where", np.array([True, False, True]), normal(2, 3), 0.5)
    case("where", np.array([[True], [False]]), 2, normal(3))
    for a in ((2, 3), ()):
        for number in (2, -1.5):
            case("add", normal(*a), number)
            case("sub", number, normal(*a))
            case("mul", normal(*a), number)
            case("div", normal(*a), number)
            case("div", number, positive(*a))
            case("maximum", normal(*a), number, complex_step=False)
        for exponent in (0, 1, 2, 3, -1):
            case("pow", distinct(*a), exponent, complex_step=False)
        for exponent in (0.5, -2.5, 0.0, True):
            case("pow", positive(*a), exponent)
        case("pow", 2, normal(*a))
        case("pow", 0.7, normal(*a))
    for a, b in (((2, 3), (3,)), ((), (2, 3))):
        case("remainder", distinct(*a), positive(*b), complex_step=False)
    case("mul", normal(3, 2).T, other(2, 3)[:, ::-1])
    case("matmul", normal(3, 2).T, other(4, 3).T)
    case("matmul", normal(5, 3, 2).swapaxes(1, 2), other(4, 3).T)
    for a, b in MATMUL:
        case("matmul", normal(*a), other(*b))
    for shape in SHAPES:
        for name in ("neg", "exp", "tanh", "sigmoid", "identity", "copy", "square", "sin", "cos", "expm1"):
            case(name, 2 * normal(*shape))
        case("log", positive(*shape))
        case("sqrt", positive(*shape))
        case("root", positive(*shape))
        case("log1p", positive(*shape))
        case("normal_cdf", 2 * normal(*shape), complex_step=False)
        case("normalise", normal(*shape, 3), eps=0.01)
        case("remainder", distinct(*shape), 0.35, complex_step=False)
        for name in ("abs", "softplus", "log_sigmoid"):
            case(name, distinct(*shape), complex_step=False)
        case("relu", distinct(*shape), complex_step=False)
        case("binary_cross_entropy", distinct(*shape), complex_step=False, target=np.asarray(positive(*shape) - 0.5))
        for low, high in ((None, None), (-0.35, None), (None, 0.25), (-0.35, 0.25)):
            case("clip", distinct(*shape), complex_step=False, low=low, high=high)
        case("astype", normal(*shape), complex_step=False, dtype=np.dtype(np.longdouble))
        case("astype", normal(*shape), dtype=np.dtype(np.float64), complex_step=False)
    for shape, axis, keepdims in REDUCTIONS:
        for name in ("sum", "mean", "max", "min", "logsumexp"):
            x = distinct(*shape) if name in ("max", "min") else normal(*shape)
            case(name, x, complex_step=name not in ("max", "min"), axis=axis, keepdims=keepdims)
    case("sum", normal(0, 3), axis=0, keepdims=False)
    case("sum", normal(2, 3), axis=(), keepdims=False)
    case("mean", normal(2, 3), axis=(), keepdims=True)
    for shape in ((2,), (), (2, 4), (0,)):
        case("cross_entropy", 2 * normal(*shape, 3), ids=generator("ids", shape).integers(0, 3, shape))
    for name, (setting, choices) in SHAPED.items():
        for shape, value in choices:
            case(name, 2 * normal(*shape), **{setting: value})
    for shape, axis1, axis2 in (((2, 3), 0, 1), ((2, 3, 4), -1, -3), ((2, 3, 4), 1, 1)):
        case("swapaxes", normal(*shape), axis1=axis1, axis2=axis2)
    case("concatenate", normal(2, 3), other(1, 3), normal(0, 3), axis=0)
    case("concatenate", normal(2, 3), other(2, 1), axis=-1)
    case("concatenate", normal(2, 3, 2), other(2, 1, 2), normal(2, 2, 2), axis=1)
    case("concatenate", normal(3), axis=0)
    case("concatenate", normal(3), np.ones(2, np.int8), other(1), axis=0)
    case("stack", normal(2, 3), other(2, 3), axis=0)
    case("stack", normal(2, 3), other(2, 3), positive(2, 3), axis=1)
    case("stack", normal(2, 3), other(2, 3), axis=-1)
    case("stack", normal(), other(), axis=0)
    case("stack", normal(3), axis=0)
    for shape, index in INDICES:
        case("getitem", normal(*shape), index=index)
    for shape, pieces in PIECES:
        case("scatter_add", *(normal(*s) for _, s in pieces), indices=[i for i, _ in pieces], shape=shape)
    return cases


CASES = make_cases()


def every_case(check):
    """Make a test of each op out of a check of a case."""

    def test(name):
        for case in CASES:
            if case.op == name:
                with noted(case):
                    check(case)

    return pytest.mark.parametrize("name", REGISTRY)(test)


def uncovered(registry):
    """The (op, input) pairs of a registry that have a rule but no case that differentiates them."""
    covered = {(c.op, 0 if registry[c.op].variadic else j) for c in CASES for j in c.differentiable}
    wanted = {(name, j) for name, op in registry.items() for j, rule in enumerate(op.rules) if rule is not None}
    return wanted - covered


def test_every_rule_of_every_op_in_the_registry_is_checked():
    assert not uncovered(REGISTRY)
    assert {c.op for c in CASES} == set(REGISTRY), "an op without a rule needs a case too"


def test_an_op_without_a_case_would_be_noticed():
    cube = Op(lambda x: x**3, "cube", x=lambda g, x: 3 * g * x * x)
    assert uncovered({**REGISTRY, "cube": cube}) == {("cube", 0)}


def test_every_op_defined_in_the_module_is_in_the_registry_under_its_name():
    made = {of.name: of for room in (ops, shapes, more) for of in vars(room).values() if isinstance(of, Op)}
    assert made == REGISTRY


def test_every_op_has_a_derivative_for_every_input_but_the_condition_of_where():
    assert [
        (name, i) for name, op in REGISTRY.items() for i, r in zip(op.inputs, op.rules, strict=False) if r is None
    ] == [("where", "condition")]


def tensors_of(case, wanted=None, dtype=np.float64):
    """The inputs as Tensors that require a gradient where wanted, else as they are."""
    wanted = case.differentiable if wanted is None else wanted
    arrays = [x.astype(dtype) if is_float(x) else x for x in case.inputs]
    return [mr.Tensor(x.copy(), requires_grad=True) if j in wanted else x for j, x in enumerate(arrays)]


def run(case, inputs):
    return apply(REGISTRY[case.op], *inputs, **case.settings)


# --- forward ----------------------------------------------------------------------------------------------------------


def naive_scatter_add(*xs, indices, shape):
    buffer = np.zeros(shape)
    for x, index in zip(xs, indices, strict=True):
        np.add.at(buffer, index, x)
    return buffer


def naive_cross_entropy(logits, ids):
    p = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    return -np.log(np.take_along_axis(p, ids[..., None], -1)[..., 0])


def naive_binary_cross_entropy(logits, target):
    p = 1 / (1 + np.exp(-logits))
    return -target * np.log(p) - (1 - target) * np.log(1 - p)


NUMPY = {
    "add": np.add, "sub": np.subtract, "mul": np.multiply, "div": np.divide, "neg": np.negative, "pow": np.power,
    "matmul": np.matmul, "exp": np.exp, "log": np.log, "sqrt": np.sqrt, "abs": np.abs, "tanh": np.tanh,
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)), "softplus": lambda x: np.log(1 + np.exp(x)),
    "log_sigmoid": lambda x: -np.log(1 + np.exp(-x)), "relu": lambda x: np.where(x > 0, x, 0), "identity": lambda x: x,
    "maximum": np.maximum, "minimum": np.minimum, "where": np.where,
    "clip": lambda x, low, high: np.array([min(max(v, low or -9), high or 9) for v in x.ravel()]).reshape(x.shape),
    "sum": np.sum, "mean": np.mean, "max": np.max, "min": np.min,
    "logsumexp": lambda x, axis, keepdims: np.log(np.sum(np.exp(x), axis=axis, keepdims=keepdims)),
    "softmax": lambda x, axis: np.exp(x) / np.sum(np.exp(x), axis=axis, keepdims=True),
    "log_softmax": lambda x, axis: np.log(np.exp(x) / np.sum(np.exp(x), axis=axis, keepdims=True)),
    "cross_entropy": naive_cross_entropy, "binary_cross_entropy": naive_binary_cross_entropy,
    "reshape": lambda x, shape: x.reshape(shape), "transpose": np.transpose, "swapaxes": np.swapaxes,
    "squeeze": np.squeeze,
    "expand_dims": np.expand_dims, "broadcast_to": np.broadcast_to, "flip": np.flip,
    "astype": lambda x, dtype: x.astype(dtype), "copy": lambda x: x, "square": np.square, "sin": np.sin, "cos": np.cos,
    "expm1": np.expm1, "log1p": np.log1p, "root": np.sqrt, "remainder": np.remainder, "cumsum": np.cumsum,
    "normalise": lambda x, eps: (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + eps),
    "normal_cdf": np.vectorize(lambda x: 0.5 * (1 + math.erf(x / math.sqrt(2))), otypes=[float]),
    "concatenate": lambda *xs, axis: np.concatenate(xs, axis), "stack": lambda *xs, axis: np.stack(xs, axis),
    "getitem": lambda x, index: x[index], "scatter_add": naive_scatter_add,
}  # fmt: skip


@every_case
def test_forward_equals_numpy_and_constants_are_not_recorded(case):
    y = run(case, tensors_of(case))
    expected = NUMPY[case.op](*case.inputs, **case.settings)
    assert y.shape == np.shape(expected)
    assert_allclose(y.numpy(), expected, rtol=1e-13, atol=1e-14)
    assert y.requires_grad
    constant = run(case, [mr.Tensor(x) if is_float(x) else x for x in case.inputs])
    assert_array_equal(constant.numpy(), y.numpy())
    assert not constant.requires_grad
    assert constant.node is None


# --- rules, on arrays -------------------------------------------------------------------------------------------------


def frozen(array):
    array.flags.writeable = False
    return array


def through_the_rules(case, arrays, g):
    """Each differentiable input's gradient, by the rule on plain arrays, and what the rule was handed."""
    op = REGISTRY[case.op]
    y = op.forward(*arrays, **case.settings)
    if isinstance(y, np.ndarray) and y.base is None:
        frozen(y)
    for j in case.differentiable:
        rule = op.rules[0 if op.variadic else j]
        kept = rule.save(y, *arrays, **case.settings)
        result = rule.vjp(g, *((j, *kept) if op.variadic else kept))
        yield j, result.to_dense(scatter_add.forward) if isinstance(result, IndexedGradient) else result, kept


def incoming(case, dtype=np.float64):
    shape = np.shape(REGISTRY[case.op].forward(*case.inputs, **case.settings))
    return generator("incoming", shape).normal(size=shape).astype(dtype)


@every_case
def test_rule_agrees_with_the_complex_step_to_the_last_digits(case):
    op, h, g = REGISTRY[case.op], 1e-150, incoming(case)
    for j, gradient, _ in through_the_rules(case, case.inputs, g) if case.complex_step else ():
        expected = np.empty(case.inputs[j].shape)
        for entry in np.ndindex(expected.shape):
            moved = [x.astype(complex) if is_float(x) else x for x in case.inputs]
            moved[j][entry] += 1j * h
            expected[entry] = np.sum(g * op.forward(*moved, **case.settings)).imag / h
        assert_allclose(gradient, expected, rtol=1e-11, atol=1e-13, err_msg=f"input {j}")


@every_case
def test_rule_gives_the_input_s_shape_and_dtype_and_writes_into_nothing(case):
    for dtype in (np.float32, np.float64):
        if case.op == "astype" and dtype is np.float32:
            continue  # its input has another dtype than its output; see below
        arrays = [frozen(x.astype(dtype)) if is_float(x) else x for x in case.inputs]
        kept_copies = [x.copy() if isinstance(x, np.ndarray) else x for x in arrays]
        given = {k: v.astype(dtype) if is_float(v) else v for k, v in case.settings.items()}
        g = frozen(incoming(case, dtype))
        g_copy = g.copy()
        for j, gradient, kept in through_the_rules(Case(case.op, arrays, given), arrays, g):
            assert gradient.shape == case.inputs[j].shape
            assert gradient.dtype == dtype, f"input {j}"
            for value in kept:
                if isinstance(value, np.ndarray) and isinstance(gradient, np.ndarray):
                    assert not np.shares_memory(value, gradient), "what the tape keeps must not be handed out"
        assert_array_equal(g, g_copy)
        for x, copy in zip(arrays, kept_copies, strict=True):
            assert_array_equal(x, copy)


# --- through the tape -------------------------------------------------------------------------------------------------


@every_case
def test_gradient_agrees_with_the_central_difference(case):
    inputs = tensors_of(case)
    wanted = [inputs[j] for j in case.differentiable]
    mr.gradcheck(lambda *_: run(case, inputs), wanted, names=[f"input {j}" for j in case.differentiable])


@pytest.mark.parametrize("name", REGISTRY)
def test_a_rule_wrong_by_a_thousandth_would_be_caught(name, monkeypatch):
    """By the cases above and `gradcheck` together, at first order, for every rule there is."""

    def wrong(g, *kept):
        result = right(g, *kept)
        if isinstance(result, IndexedGradient):
            result.pieces = [1.001 * piece for piece in result.pieces]
            return result
        return 1.001 * result

    def passes(case):
        inputs = tensors_of(case)
        try:
            return mr.gradcheck(lambda *_: run(case, inputs), [inputs[j] for j in case.differentiable])
        except mr.GradcheckError:
            return False

    for rule in filter(None, REGISTRY[name].rules):
        right = rule.vjp
        with monkeypatch.context() as patch:
            patch.setattr(rule, "vjp", wrong)
            assert not all(passes(case) for case in [c for c in CASES if c.op == name][:8])


def subsets(case):
    """All differentiable inputs together, and in an op's first cases each alone beside constants."""
    yield case.differentiable
    if len(case.differentiable) > 1 and case in [c for c in CASES if c.op == case.op][:3]:
        yield from ([j] for j in case.differentiable)


@every_case
def test_second_order_agrees_with_the_central_difference(case):
    if case.op == "astype" and case.settings["dtype"] == np.longdouble:
        v = incoming(case).astype(np.longdouble)  # gradcheck takes float64 leaves only
        x = mr.Tensor(case.inputs[0], requires_grad=True)
        (g,) = mr.grad(run(case, [x]), x, gradient=mr.Tensor(v, requires_grad=True), create_graph=True)
        assert g.requires_grad
        assert_array_equal(g.numpy(), v.astype(np.float64))
        return
    for wanted in subsets(case):
        inputs = tensors_of(case, wanted)
        xs = [inputs[j] for j in wanted]
        v = mr.Tensor(incoming(case), requires_grad=True)

        def gradients(*_, inputs=inputs, xs=xs, v=v):
            return mr.grad(run(case, inputs), xs, gradient=v, create_graph=True)

        names = [f"input {j}" for j in wanted] + ["the incoming gradient"]
        mr.gradcheck(gradients, [*xs, v], names=names, atol=1e-6)


@every_case
def test_float32_in_float32_out_values_gradients_and_second_order(case):
    if case.op == "astype":
        return
    settings = {k: v.astype(np.float32) if is_float(v) else v for k, v in case.settings.items()}
    inputs = tensors_of(case, dtype=np.float32)
    wanted = [inputs[j] for j in case.differentiable]
    y = apply(REGISTRY[case.op], *inputs, **settings)
    assert y.dtype == np.float32
    seen = []
    y.register_hook(lambda g: seen.append(g.dtype))
    gradient = incoming(case, np.float32)
    recorded = mr.grad(y, wanted, gradient=gradient, create_graph=True)
    assert [g.dtype for g in recorded] == [np.float32] * len(wanted)
    y.backward(gradient)
    assert [x.grad.dtype for x in wanted] == [np.float32] * len(wanted)
    assert set(seen) == {np.dtype(np.float32)}
    for g, x in zip(recorded, wanted, strict=True):
        assert_allclose(g.numpy(), x.grad, rtol=1e-5, atol=1e-6)


def test_only_ops_marked_as_views_share_memory_and_each_of_them_does():
    sharing = {
        case.op
        for case in CASES
        for y in [np.asarray(REGISTRY[case.op].forward(*case.inputs, **case.settings))]
        if any(isinstance(x, np.ndarray) and np.may_share_memory(x, y) for x in case.inputs)
    }
    assert sharing == {name for name, op in REGISTRY.items() if op.view}


# --- conventions at kinks and ties, and numbers at the edge -----------------------------------------------------------


def gradients(f, *arrays, gradient=None):
    xs = [mr.Tensor(np.asarray(a, float), requires_grad=True) for a in arrays]
    y = f(*xs)
    y.backward(np.ones(y.shape) if gradient is None else gradient)
    return [x.grad for x in xs]


KINKS = [
    (mr.relu, [-1.0, 0.0, 2.0], [0, 0, 1]),
    (mr.abs, [-1.0, 0.0, 2.0], [-1, 0, 1]),
    (lambda x: mr.clip(x, -1, 1), [-2.0, -1.0, 0.0, 1.0, 2.0], [0, 1, 1, 1, 0]),
    (mr.max, [1.0, 3.0, 3.0, 3.0], [0, 1 / 3, 1 / 3, 1 / 3]),
    (mr.min, [1.0, 1.0, 3.0], [0.5, 0.5, 0]),
    (lambda x: mr.max(x, axis=0), [[1.0, 5.0], [1.0, 2.0]], [[0.5, 1], [0.5, 0]]),
    (lambda x: mr.max(x, axis=(0, 1), keepdims=True), [[7.0, 5.0], [7.0, 2.0]], [[0.5, 0], [0.5, 0]]),
    (lambda x: x**0, [0.0, 2.0, -3.0], [0, 0, 0]),
    (lambda x: x**1, [0.0, 2.0], [1, 1]),
    (lambda x: x**2, [0.0, -3.0], [0, -6]),
    (lambda x: x ** np.array([0.0, 1.0, 2.0]), [0.0, 0.0, 0.0], [0, 1, 0]),
    (lambda x: 0.0**x, [1.0, 2.0], [0, 0]),
    (lambda x: np.array([0.0, 1.0, np.e]) ** x, [2.0, 2.0, 2.0], [0, 0, np.e**2]),
]  # fmt: skip


def test_derivative_at_kinks_ties_and_powers_of_zero():
    for f, x, expected in KINKS:
        assert_allclose(gradients(f, x)[0], expected, rtol=1e-14, atol=0)


def test_equal_operands_of_maximum_and_minimum_share_the_gradient():
    for f in (mr.maximum, mr.minimum):
        da, db = gradients(f, [1.0, 5.0, 2.0], [1.0, 2.0, 5.0], gradient=[2.0, 2.0, 2.0])
        assert_array_equal(da + db, [2.0, 2.0, 2.0])
        assert da[0] == db[0] == 1.0
        (dx,) = gradients(lambda x, f=f: f(x, x), [3.0])
        assert dx == 1.0


def test_powers_of_zero_have_finite_gradients_of_every_order():
    a, b = mr.Tensor(np.zeros(4), requires_grad=True), mr.Tensor(np.arange(4.0), requires_grad=True)
    first = mr.grad((a**b).sum(), [a, b], create_graph=True)
    assert_array_equal(np.stack([g.numpy() for g in first]), [[0, 1, 0, 0], [0, 0, 0, 0]])
    second = mr.grad(first[0].sum(), [a, b], retain_graph=True)
    assert_array_equal(second[0].numpy(), [0, 0, 2, 0])
    assert all(np.isfinite(g.numpy()).all() for g in (*second, *mr.grad(first[1].sum(), [a, b])))


# --- mixed second derivatives: the same in both orders, also where a convention has to say what they are --------------

SPECIAL = np.array(np.meshgrid([-2.0, -1.0, 0.0, 0.3, 1.0, 23.0], [-1.0, 0.0, 0.5, 1.0, 2.0, 3.0])).reshape(2, -1)


def mixed(f, a, b):
    """∂²y/∂b∂a and ∂²y/∂a∂b of y = f(a, b), entry by entry."""
    a, b = mr.Tensor(a, requires_grad=True), mr.Tensor(b, requires_grad=True)
    y = f(a, b)
    da, db = mr.grad(y.sum(), [a, b], create_graph=True)
    return [mr.grad(g.sum(), x, retain_graph=True)[0].numpy() if g.requires_grad else 0 * x.numpy()
            for g, x in ((da, b), (db, a))]  # fmt: skip


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # of 1/0 and ln 0
@pytest.mark.parametrize("name", [n for n, op in REGISTRY.items() if len(op.inputs) - (n == "where") == 2])
def test_mixed_second_derivatives_are_the_same_in_both_orders(name):
    before = [np.arange(SPECIAL.shape[1]) % 2 == 0] if name == "where" else []
    of_a, of_b = mixed(lambda a, b: apply(REGISTRY[name], *before, a, b), *SPECIAL)
    assert_allclose(of_a, of_b, rtol=1e-13)


def test_the_mixed_derivative_of_a_power_is_what_the_books_say():
    a, b = SPECIAL[:, SPECIAL[0] > 0]
    for found in mixed(lambda a, b: a**b, a, b):
        assert_allclose(found, a ** (b - 1) * (1 + b * np.log(a)), rtol=1e-13)
    assert mixed(lambda a, b: a**b, np.array([23.0]), np.array([0.0]))[0] == pytest.approx(1 / 23, rel=1e-15)
    assert_array_equal(mixed(lambda a, b: a**b, np.zeros(4), np.arange(4.0)), np.zeros((2, 4)))


# --- tails ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("dtype", "near"), [(np.float32, 1e-6), (np.float64, 1e-14)])
def test_what_is_made_of_sigmoid_keeps_its_digits_in_both_tails(dtype, near):
    x = np.linspace(-80, 80, 4001, dtype=dtype)
    exact = x.astype(np.longdouble)
    p, q = 1 / (1 + np.exp(-exact)), 1 / (1 + np.exp(exact))
    softplus = np.maximum(exact, 0) + np.log1p(np.exp(-np.abs(exact)))
    below = np.maximum(-exact, 0) + np.log1p(np.exp(-np.abs(exact)))
    for f, value, slope in (
        (mr.sigmoid, p, None), (mr.softplus, softplus, p), (mr.log_sigmoid, -below, q),
        (lambda x: mr.losses.binary_cross_entropy(x, 0 * x.data) * x.size, None, p),
        (lambda x: mr.losses.binary_cross_entropy(x, 0 * x.data + 1) * x.size, None, -q),
        (lambda x: mr.losses.cross_entropy(mr.stack([x, 0 * x], axis=1), np.zeros(x.size, int)) * x.size, None, -q),
    ):  # fmt: skip
        t = mr.Tensor(x, requires_grad=True)
        y = f(t)
        assert y.dtype == dtype
        if value is not None:
            assert_allclose(y.numpy(), value.astype(np.float64), rtol=near, atol=0)
        if slope is not None:
            assert_allclose(mr.grad(y.sum(), t)[0].numpy(), slope.astype(np.float64), rtol=near, atol=0)


def test_sigmoid_tanh_and_softmax_neither_overflow_nor_lose_the_gradient_at_1000():
    big = np.array([-1000.0, 0.0, 1000.0])
    assert_array_equal(mr.sigmoid(big).numpy(), np.array([0, 0.5, 1]))
    assert_array_equal(gradients(mr.sigmoid, big)[0], [0, 0.25, 0])
    assert_array_equal(gradients(mr.tanh, big)[0], [0, 1, 0])
    assert_array_equal(mr.softmax(big).numpy(), [0, 0, 1])
    assert_array_equal(mr.log_softmax(big).numpy(), [-2000, -1000, 0])
    assert mr.logsumexp(big).item() == 1000
    assert_array_equal(gradients(mr.logsumexp, big)[0], [0, 0, 1])
    assert mr.logsumexp(np.array([-np.inf, 2.0])).item() == 2.0
    assert mr.logsumexp(np.array([np.inf, 2.0])).item() == np.inf
    assert mr.logsumexp(np.array([-np.inf, np.inf, np.inf])).item() == np.inf


INF, NAN = np.inf, np.nan
LIMITS = [  # f, x, f(x), and the gradient of its sum
    (mr.softmax, [1, 1, INF], [0, 0, 1], [0, 0, 0]),
    (mr.log_softmax, [1, -INF, INF], [-INF, -INF, 0], [1, 1, -2]),
    (mr.logsumexp, [1, 1, INF], INF, [0, 0, 1]),
    (mr.softmax, [1, INF, INF], [NAN] * 3, [NAN] * 3),  # there is no limit
    (mr.softmax, [-INF, -INF], [NAN] * 2, [NAN] * 2),
    (lambda x: mr.losses.cross_entropy(x, 2), [1, 1, INF], 0, [0, 0, 0]),
    (lambda x: mr.losses.cross_entropy(x, 0), [1, 1, INF], INF, [-1, 0, 1]),
    *(
        (lambda x, t=t: mr.losses.binary_cross_entropy(x, [t]), [x], value, [slope])
        for x, t, value, slope in [(INF, 1, 0, 0), (INF, 0, INF, 1), (-INF, 1, INF, -1), (-INF, 0, 0, 0),
                                   (INF, 0.5, INF, 0.5), (NAN, 1, NAN, NAN), (NAN, 0, NAN, NAN)]
    ),
    (lambda x: mr.losses.binary_cross_entropy(x, [1, 0], pos_weight=3), [INF, -INF], 0, [0, 0]),
    (mr.softplus, [-INF, INF], [0, INF], [0, 1]),
    (mr.log_sigmoid, [-INF, INF], [-INF, 0], [1, 0]),
    # NaN is handed on, and the gradient goes where it stood:
    (mr.relu, [-1, NAN], [0, NAN], [0, 1]),
    (lambda x: mr.clip(x, -1, 1), [-2, NAN], [-1, NAN], [0, 1]),
    (lambda x: mr.maximum(x, 1), [0, 2, NAN], [1, 2, NAN], [0, 1, 1]),
    (lambda x: mr.maximum(np.array([0.0, NAN, NAN]), x), [NAN, 1, NAN], [NAN] * 3, [1, 0, 0.5]),
    (lambda x: mr.minimum(x, [NAN, 1, 1]), [1, NAN, 0], [NAN, NAN, 0], [0, 1, 1]),
    (mr.max, [1, NAN], NAN, [0, 1]),
]  # fmt: skip


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_infinite_entries_get_the_limit_where_there_is_one_and_nan_is_handed_on():
    for f, x, value, gradient in LIMITS:
        for create_graph in (False, True):
            t = mr.Tensor(np.array(x, float), requires_grad=True)
            y = f(t)
            with noted(f"{x}: {value}"):
                assert_array_equal(y.numpy(), value)
                assert_array_equal(mr.grad(y.sum(), t, create_graph=create_graph)[0].numpy(), gradient)


def test_small_integers_and_bools_become_float32_first():
    for dtype in (np.int8, np.uint8, bool, np.int64):
        x = np.array([[0, 1], [1, 80]]).astype(dtype)
        for f in (
            mr.exp, mr.sqrt, mr.sin, mr.cos, mr.log1p, mr.expm1, mr.gelu, mr.tanh, mr.sigmoid, mr.softplus, mr.mean,
            mr.log_sigmoid, mr.softmax, mr.log_softmax, mr.logsumexp, lambda x: mr.log(mr.maximum(x, 0 * x + x.max())),
        ):  # fmt: skip
            found = f(mr.Tensor(x))
            assert found.dtype == np.float32
            assert_allclose(found.numpy(), f(x.astype(np.float32)).numpy(), rtol=2e-7)


def test_what_reduces_nothing():
    empty = mr.Tensor(np.ones((3, 0)), requires_grad=True)
    assert mr.softmax(empty).shape == mr.log_softmax(empty).shape == (3, 0)
    assert mr.mean(empty, axis=0).shape == (0,)
    with pytest.raises(ValueError, match=r"^mean: inputs of shapes \(3, 0\) do not fit: nothing has no mean, and an "):
        mr.mean(empty, axis=1)


@pytest.mark.parametrize("f", [mr.softmax, mr.log_softmax, mr.logsumexp])
def test_a_class_forbidden_by_minus_infinity_changes_nothing_for_the_others(f):
    x, others = np.array([0.5, -np.inf, 1.0]), np.array([0.5, 1.0])
    with_it, without = f(x).numpy(), f(others).numpy()
    assert_allclose(with_it[[0, 2]] if with_it.ndim else with_it, without, rtol=1e-15)
    g = np.array([1.0, 0.0, 2.0]) if with_it.ndim else np.array(1.0)
    (dx,), (expected,) = gradients(f, x, gradient=g), gradients(f, others, gradient=g[[0, 2]] if g.ndim else g)
    assert_allclose(dx, np.insert(expected, 1, 0.0), rtol=1e-14, atol=1e-16)


def test_where_sends_exact_zeros_where_it_did_not_choose_even_if_the_gradient_is_infinite():
    da, db = gradients(
        lambda a, b: mr.where([True, False], a, b), [1.0, np.nan], [np.inf, 2.0], gradient=[np.inf, np.nan]
    )
    assert_array_equal(da, [np.inf, 0])
    assert_array_equal(db, [0, np.nan])


# --- helpers ----------------------------------------------------------------------------------------------------------


INDEXED = hnp.array_shapes(max_dims=3, max_side=4).flatmap(
    lambda shape: st.tuples(
        st.just(shape),
        hnp.basic_indices(shape, allow_newaxis=True)
        | hnp.integer_array_indices(shape)
        | hnp.arrays(bool, shape)
        | st.integers(1, 6).flatmap(lambda n: hnp.arrays(np.uint8, n, elements=st.integers(0, shape[0] - 1))),
    )
)


@quick
@given(INDEXED)
def test_indexing_sends_each_entry_s_gradient_back_to_where_it_came_from(shape_and_index):
    shape, index = shape_and_index
    size = int(np.prod(shape))
    numbers = np.arange(size).reshape(shape)[index]
    x = mr.Tensor(np.arange(size, dtype=float).reshape(shape), requires_grad=True)
    y = x[index]
    assert_array_equal(y.numpy(), numbers)
    g = np.random.default_rng(size).normal(size=y.shape)
    expected = np.bincount(np.ravel(numbers), g.ravel(), minlength=size).reshape(shape)
    y.backward(g)
    assert_allclose(x.grad, expected, rtol=1e-13, atol=1e-15)
    # and the gradient of that gradient is indexing again: place and getitem are each other's transpose
    v = mr.Tensor(g, requires_grad=True)
    (placed,) = mr.grad(x[index], x, gradient=v, create_graph=True)
    assert_allclose(placed.numpy(), expected, rtol=1e-13, atol=1e-15)
    (back,) = mr.grad(placed, v, gradient=x.numpy())
    assert_array_equal(back.numpy(), numbers)


@quick
@given(
    st.integers(1, 300),
    st.lists(st.integers(0, 10**6), min_size=1, max_size=40),
    st.sampled_from([np.int8, np.uint8, np.int16, np.int64, np.uint64]),
    st.booleans(),
)
def test_repeated_rows_add_up_whatever_integers_index_them(rows, ids, dtype, negative):
    ids = np.array(ids) % min(rows, np.iinfo(dtype).max + 1)
    ids = np.where(
        negative and np.issubdtype(dtype, np.signedinteger) and ids - rows >= np.iinfo(dtype).min, ids - rows, ids
    )
    ids = ids.astype(dtype)
    x = mr.Tensor(np.zeros((rows, 2)), requires_grad=True)
    g = np.random.default_rng(rows).integers(-9, 9, (len(ids), 2)).astype(float)
    x[ids].backward(g)
    expected = np.zeros((rows, 2))
    np.add.at(expected, ids.astype(int), g)
    assert_array_equal(x.grad, expected)


UNFIT = [
    (lambda t: t + np.ones(4), r"add: inputs of shapes \(2, 3\), \(4,\) do not fit: .*broadcast"),
    (lambda t: t @ t, r"matmul: inputs of shapes \(2, 3\), \(2, 3\) do not fit: .*aligned"),
    (lambda t: np.ones((5, 2, 4)) @ t, r"matmul: inputs of shapes \(5, 2, 4\), \(2, 3\) do not fit"),
    (lambda t: t @ 2, r"matmul: inputs of shapes \(2, 3\), \(\) do not fit: a number has no .*use \* instead of @"),
    (lambda t: 2.5 @ t, r"matmul: inputs of shapes \(\), \(2, 3\) do not fit: a number has no axis"),
    (lambda t: t.reshape(4, 2), r"reshape: inputs of shapes \(2, 3\) do not fit: cannot reshape"),
    (lambda t: t.sum(axis=2), r"sum: inputs of shapes \(2, 3\) do not fit: axis 2 is out of bounds"),
    (lambda t: t.squeeze(0), r"squeeze: inputs of shapes \(2, 3\) do not fit"),
    (lambda t: t.transpose(0, 0), r"transpose: inputs of shapes \(2, 3\) do not fit: repeated axis"),
    (lambda t: t.broadcast_to((3, 2)), r"broadcast_to: inputs of shapes \(2, 3\) do not fit"),
    (lambda t: mr.concatenate([t, t[:, :2]]), r"concatenate: inputs of shapes \(2, 3\), \(2, 2\) do not fit"),
    (lambda t: mr.stack([t, t[:, :2]]), r"stack: inputs of shapes \(2, 3\), \(2, 2\) do not fit"),
    (lambda t: mr.softmax(t, axis=3), r"softmax: inputs of shapes \(2, 3\) do not fit: axis 3 is out of bounds"),
    (lambda t: mr.where(np.ones(4), t, t), r"where: inputs of shapes \(4,\), \(2, 3\), \(2, 3\) do not fit"),
]  # fmt: skip


def test_inputs_that_do_not_fit_are_named_with_the_op_and_their_shapes():
    t = mr.Tensor(np.ones((2, 3)), requires_grad=True)
    for f, says in UNFIT:
        with noted(says), pytest.raises(ValueError, match=says):
            f(t)


@pytest.mark.parametrize("reduce", [mr.max, mr.min])
def test_the_gradient_of_an_extreme_that_is_nan_goes_to_the_nans(reduce):
    x = mr.Tensor(np.array([[1.0, np.nan, np.nan], [3.0, 1.0, 2.0]]), requires_grad=True)
    reduce(x, axis=1).sum().backward()
    extreme = 0 if reduce is mr.max else 1
    np.testing.assert_array_equal(x.grad, [[0.0, 0.5, 0.5], np.eye(3)[extreme]])


@pytest.mark.parametrize(
    ("given", "shape"),
    [((3,), ()), ((1, 1), ()), ((2, 3), (3,)), ((1, 3), (3,)), ((4, 2, 3), (3,)), ((1, 1, 3), (3,)),
     ((1, 2, 3), (2, 3)), ((4, 2, 3), (2, 1)), ((4, 2, 3), (1, 1, 3)), ((1, 2, 3), (1, 3)), ((2, 0, 3), (3,)),
     ((5, 0), (5, 0))],
)  # fmt: skip
def test_what_broadcasting_added_or_stretched_is_summed_over(given, shape):
    g = np.random.default_rng(0).normal(size=given)
    weights = np.random.default_rng(1).normal(size=shape)
    for summed in (shapes.sum_to(g, shape), shapes.sum_to(mr.Tensor(g), shape).numpy()):
        assert np.shape(summed) == shape
        assert_allclose(np.sum(summed * weights), np.sum(g * weights), rtol=1e-12, atol=1e-12)


def test_many_rows_are_summed_as_they_are_by_add_up():
    g = np.full((300, 700, 3), 0.1, np.float32)
    assert_allclose(shapes.sum_to(g, (3,)), [21000.0] * 3, rtol=1e-6)
