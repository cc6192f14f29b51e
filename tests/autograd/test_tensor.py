"""The Tensor: values, dtypes, what numpy makes of it, what it prints, and what it refuses."""

import copy
import itertools
import operator
import pickle
import re

import numpy as np
import pytest
from notes import noted
from numpy.testing import assert_allclose, assert_array_equal

import minirnn as mr


def leaf(data, dtype=np.float64):
    return mr.Tensor(np.array(data, dtype), requires_grad=True)


# --- making one -------------------------------------------------------------------------------------------------------


def test_lists_and_python_numbers_become_float32_and_arrays_keep_their_dtype():
    for data, dtype, shape in (
        (2, np.float32, ()), (2.5, np.float32, ()), ([1, 2], np.float32, (2,)), ([], np.float32, (0,)),
        (((1.0, 2.0), (3, 4)), np.float32, (2, 2)), ([np.float64(1.0)], np.float32, (1,)), (True, np.bool_, ()),
        ([True, False], np.bool_, (2,)), (np.float64(2.5), np.float64, ()), (np.int64(2), np.int64, ()),
        (np.arange(3), np.int64, (3,)), (np.ones((2, 0)), np.float64, (2, 0)), (np.ones(2, "f4"), np.float32, (2,)),
        (mr.Tensor(np.ones(2)), np.float64, (2,)), (range(3), np.float32, (3,)),
    ):  # fmt: skip
        t = mr.Tensor(data)
        assert (t.dtype, t.shape, t.ndim, t.size) == (dtype, shape, len(shape), int(np.prod(shape)))
        assert type(t.data) is np.ndarray
        assert not t.requires_grad
        assert t.grad is None


def test_an_array_is_shared_not_copied():
    a = np.ones(3)
    t = mr.Tensor(a)
    assert t.data is a
    assert t.numpy() is a
    assert np.shares_memory(t.detach().numpy(), a)


NO_DATA = [
    ("abc", "Tensor: data must be an array of numbers (bool, int or float), got str of dtype <U3"),
    (1j, "got complex of dtype complex128"),
    ([[1.0, 2.0], [3.0]], "Tensor: data must be an array of numbers, got a ragged list"),
    ([mr.Tensor(1.0), mr.Tensor(2.0)], "got a list that holds Tensors: pass one of them, or join them with"),
    (10**400, "got int of dtype object"),
    (b"12", "got bytes of dtype |S2"),
]


def test_data_that_are_not_numbers_are_refused():
    for data, says in NO_DATA:
        with pytest.raises(TypeError, match=re.escape(says)):
            mr.Tensor(data)


def test_only_floats_can_require_a_gradient():
    says = r"Tensor: only floats can require a gradient, got dtype \w+; convert first, .*\.astype\(np\.float32\)"
    for data in (np.arange(3), np.array([True]), True, np.ones(1, np.uint8)):
        t = mr.Tensor(data)
        for ask in (lambda d=data: mr.Tensor(d, requires_grad=True), lambda t=t: setattr(t, "requires_grad", True)):
            with pytest.raises(TypeError, match=says):
                ask()
        assert not t.requires_grad
        t.requires_grad = False


# --- operators: dtypes in both orders ---------------------------------------------------------------------------------

OPERATORS = [operator.add, operator.sub, operator.mul, operator.truediv, operator.pow]
OPERANDS = {
    "int": 2, "float": 2.5, "bool": True, "np.float64": np.float64(2.5), "np.float32": np.float32(2.5),
    "np.int64": np.int64(2), "np.bool_": np.True_, "np.sqrt(H)": np.sqrt(20), "0-d float64": np.array(2.5),
    "0-d float32": np.array(2.5, np.float32), "0-d int": np.array(2), "0-d Tensor float64": mr.Tensor(np.array(2.5)),
    "0-d Tensor float32": mr.Tensor(2.5), "0-d Tensor int": mr.Tensor(np.array(2)), "list": [1.5, 2.5, 3.5],
    "tuple of ints": (1, 2, 3), "int array": np.array([1, 2, 3]), "uint8 array": np.array([1, 2, 3], np.uint8),
    "bool mask": np.array([True, False, True]), "int Tensor": mr.Tensor(np.array([1, 2, 3])),
    "float32 array": np.array([1.5, 2.5, 3.5], np.float32), "float32 Tensor": mr.Tensor([1.5, 2.5, 3.5]),
    "float64 array": np.array([1.5, 2.5, 3.5]), "float64 Tensor": mr.Tensor(np.array([1.5, 2.5, 3.5])),
    "float64 (2, 1)": np.array([[1.5], [2.5]]),
}  # fmt: skip
WIDENING = ("float64 array", "float64 Tensor", "float64 (2, 1)")


@pytest.mark.parametrize("f", OPERATORS)
def test_an_operand_leaves_the_tensor_its_dtype_unless_it_is_a_wider_array(f):
    for (name, other), dtype, swap in itertools.product(OPERANDS.items(), (np.float32, np.float64), (False, True)):
        with noted((name, dtype, swap)):
            if f is operator.truediv and name == "bool mask":
                other = np.ones(3, bool)  # nothing is divided by 0
            expected = np.float64 if dtype == np.float64 or name in WIDENING else np.float32
            x = leaf([0.5, 1.5, 2.5], dtype)
            a, b = (other, x) if swap else (x, other)
            y = f(a, b)
            assert isinstance(y, mr.Tensor)
            assert y.dtype == expected
            wide = [np.asarray(v, np.float64) for v in (a, b)]
            assert_allclose(y.numpy(), f(*wide), rtol=1e-6 if expected == np.float32 else 1e-15)
            inner = []
            y.register_hook(lambda g, inner=inner: inner.append(g.dtype))
            (y * 2.0).sum().backward()
            assert inner == [expected]
            assert x.grad.dtype == dtype
            (g,) = mr.grad(f(a, b).sum(), x, create_graph=True)
            assert g.dtype == dtype


def test_a_0d_tensor_takes_the_dtype_of_an_array_and_has_its_gradient_in_its_own():
    others = ((np.float64, np.ones(3, np.float32)), (np.float32, np.ones(3)), (np.float64, mr.Tensor([1.0, 2.0])))
    for f, (dtype, other), swap in itertools.product(OPERATORS, others, (False, True)):
        x = leaf(2.0, dtype)
        y = f(other, x) if swap else f(x, other)
        assert y.dtype == other.dtype
        y.sum().backward()
        assert x.grad.dtype == dtype
        assert x.grad.shape == ()


def test_two_0d_tensors_and_integers_among_themselves_follow_numpy():
    assert (leaf(1.0, np.float32) * leaf(2.0, np.float64)).dtype == np.float64
    assert (mr.Tensor(np.arange(3)) + 1).dtype == np.int64
    assert (mr.Tensor(np.arange(3)) * 0.5).dtype == np.float64
    assert (mr.Tensor(np.arange(3)) / 2).dtype == np.float64
    assert (mr.Tensor(np.arange(3)) * [1, 2, 3]).dtype == np.int64
    assert_array_equal((mr.Tensor(np.arange(3)) * [0.5, 0.5, 0.5]).numpy(), [0, 0.5, 1])
    assert (mr.Tensor(np.arange(3)) + mr.Tensor([1.0, 2.0, 3.0])).dtype == np.float32
    assert (mr.Tensor(np.arange(3, dtype=np.int8)) + np.arange(3)).dtype == np.int64


def test_a_list_beside_float64_is_not_rounded_to_float32_on_the_way():
    x = leaf([1.0])
    assert (x * [0.1]).item() == 0.1
    assert ([0.1] * x).item() == 0.1
    x.data = [0.1]
    assert x.data[0] == 0.1
    x.grad = [0.1]
    assert x.grad[0] == 0.1
    x.grad = None
    (x * 1.0).backward([0.1])
    assert x.grad[0] == 0.1
    assert mr.grad(x * 1.0, x, gradient=[0.1])[0].item() == 0.1


def test_an_array_may_stand_on_either_side():
    a, b = np.array([[1.0, 2.0], [3.0, 4.0]]), np.array([[4.0, 2.0], [2.0, 5.0]])
    compared = (operator.lt, operator.le, operator.gt, operator.ge, operator.eq, operator.ne)
    for f in (*OPERATORS, operator.matmul, *compared):
        for left, right in ((a, leaf(b)), (leaf(a), b), (leaf(a), leaf(b)), (a, mr.Tensor(b))):
            result = f(left, right)
            assert type(result) is (np.ndarray if f in compared else mr.Tensor)
            assert_array_equal(result, f(a, b))
            if f not in compared:
                assert result.requires_grad == any(isinstance(v, mr.Tensor) and v.requires_grad for v in (left, right))


def test_lists_and_numbers_may_be_compared_with():
    x = mr.Tensor([1.0, 2.0, 3.0])
    assert_array_equal(x > 2, [False, False, True])
    assert_array_equal(np.float64(2) <= x, [False, True, True])
    assert_array_equal(x == [1, 5, 3], [True, False, True])
    assert_array_equal(x != mr.Tensor([1.0, 5.0, 3.0]), [False, True, False])


def test_what_is_no_operand_is_refused():
    says = r"unsupported operand|ufunc|can only concatenate str|can't multiply"
    for f, bad in itertools.product((*OPERATORS, operator.matmul), (None, "2", {}, object(), 1j, {1.0})):
        for operands in ((leaf([1.0]), bad), (bad, leaf([1.0]))):
            with pytest.raises(TypeError, match=says):
                f(*operands)
    for bad in (np.array(["a"]), np.array([None]), np.array([1j]), np.complex128(1j)):
        got = re.escape(f"operand must be an array of numbers, got dtype {bad.dtype}")
        for f in (lambda bad=bad: leaf([1.0]) + bad, lambda bad=bad: bad * leaf([1.0])):
            with pytest.raises(TypeError, match=got):
                f()
    x = leaf([1.0, 2.0])
    with pytest.raises(TypeError, match=r"operand must be one array or Tensor, got a list that holds Tensors.*stack"):
        x * [x[0], x[1]]


def test_unary_operators_and_assignment_operators():
    x = leaf([-1.0, 2.0])
    assert_array_equal((-x).numpy(), [1, -2])
    assert_array_equal(abs(x).numpy(), [1, 2])
    y = x
    y += 1.0
    y *= 2.0
    assert y is not x, "there is no in-place arithmetic: a new Tensor each time"
    assert_array_equal(x.numpy(), [-1, 2])
    y.sum().backward()
    assert_array_equal(x.grad, [2, 2])


# --- what numpy makes of it -------------------------------------------------------------------------------------------


def test_asarray_shares_and_array_copies():
    t = leaf([1.5, 2.5])
    assert np.shares_memory(np.asarray(t), t.data)
    assert not np.shares_memory(np.array(t), t.data)
    assert np.array(t, dtype=np.float32).dtype == np.float32
    assert np.asarray(t, np.int64).tolist() == [1, 2]
    assert np.asarray(t, copy=True) is not t.data
    with pytest.raises(ValueError, match="copy"):
        np.asarray(t, dtype=np.float32, copy=False)


def test_numpy_functions_whose_answer_is_no_float_work_on_the_values():
    x = leaf([[0.5, 1.5], [2.5, -3.5]])
    assert np.argmax(x) == 2
    assert np.argmin(x, axis=0).tolist() == [0, 1]
    assert np.isfinite(x).all()
    assert np.shape(x) == (2, 2)
    assert np.ndim(x) == 2
    assert np.size(x) == 4
    assert np.argsort(x[0]).tolist() == [0, 1]
    assert np.array_equal(x, x.data)
    assert np.allclose(x, x)
    assert np.nonzero(x > 2)[0].tolist() == [1]
    assert np.signbit(x).tolist() == [[False, False], [False, True]]
    assert np.count_nonzero(x) == 4
    assert np.any(np.isnan(x)) == np.False_
    assert np.result_type(x, np.float32) == np.float64
    assert type(np.zeros_like(x)) is np.ndarray
    assert np.ones_like(x).dtype == np.float64
    assert_allclose(x, x.data)


NO_DERIVATIVE = {
    "np.arctan": np.arctan, "np.floor": np.floor, "np.modf": np.modf,
    "np.arctan2": lambda t: np.arctan2(1.0, t), "np.add.reduce": np.add.reduce, "np.sort": np.sort,
    "np.multiply.outer": lambda t: np.multiply.outer(t, t), "np.cumprod": np.cumprod,
    "np.vdot": lambda t: np.vdot(t, np.ones(2)), "np.linalg.det": lambda t: np.linalg.det(t * np.eye(2)),
    "np.histogram": np.histogram,
    "np.unique": lambda t: np.unique(t, return_counts=True),
    "np.add": lambda t: np.add(t, 1.0, where=np.array([True, False]), dtype=np.float64),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore:'where' used without 'out'")
def test_a_numpy_function_without_a_derivative_is_refused_rather_than_cutting_the_graph():
    x = leaf([0.5, 1.5])
    for name, f in NO_DERIVATIVE.items():
        says = re.escape(f"{name}: no derivative is known for it") + r"\. Use .*mr\.tanh.*detach\(\)"
        with pytest.raises(TypeError, match=says):
            f(x)
        f(x.detach())
        with mr.no_grad():
            f(x)


def test_writing_a_tensor_into_an_array_is_refused_and_the_array_stays_as_it_was():
    a, x = np.ones(2), leaf([1.0, 2.0])
    for write in (
        lambda: operator.iadd(a, x),
        lambda: operator.imul(a, x),
        lambda: np.add(a, x, out=a),
        lambda: np.add.at(a, [0], x[0]),
    ):
        with pytest.raises(
            TypeError, match=r"np\.\w+: a Tensor cannot be written into an array; write a = a \+ t, not a \+= t"
        ):
            write()
    assert_array_equal(a, 1)


def test_a_tensor_s_entries_and_attributes_of_no_meaning_cannot_be_assigned():
    x = leaf([1.0, 2.0])
    with pytest.raises(TypeError, match="does not support item assignment"):
        x[0] = 3.0
    for name in ("shape", "dtype", "gard"):
        with pytest.raises(AttributeError):
            setattr(x, name, None)


# --- Python's own protocols -------------------------------------------------------------------------------------------


def test_len_iteration_and_unpacking():
    x = leaf([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])
    assert len(x) == 3
    rows = list(x)
    assert [r.numpy().tolist() for r in rows] == [[1, 2], [3, 4], [5, 6]]
    first, *_, last = x
    (first * last).sum().backward()
    assert_array_equal(x.grad, [[5, 6], [0, 0], [1, 2]])
    assert sum(x).numpy().tolist() == [9, 12]
    assert list(mr.Tensor(np.zeros((0, 2)))) == []
    for use in (len, list, iter):
        with pytest.raises(TypeError, match="a Tensor of no axes has no length"):
            use(leaf(1.0))


def test_one_entry_converts_to_a_python_number_and_more_do_not():
    for t in (leaf(2.5), leaf([2.5]), leaf([[2.5]]), mr.Tensor(2.5), leaf([2.0]) * 1.25):
        assert float(t) == t.item() == 2.5
        assert int(t) == 2
        assert type(t.item()) is float
        assert bool(t)
    assert not leaf(0.0)
    assert mr.Tensor(np.array([7])).item() == 7
    for t in (leaf([1.0, 2.0]), leaf(np.zeros((0, 3)))):
        for convert in (float, int, mr.Tensor.item):
            with pytest.raises(
                ValueError, match=r"item: expected a Tensor of one entry, got shape \(.*\); reduce it, or use numpy"
            ):
                convert(t)
    with pytest.raises(ValueError, match="truth value of an array with more than one element is ambiguous"):
        bool(leaf([1.0, 2.0]))


def test_tensors_can_be_keys_although_equality_is_entry_by_entry():
    x, y = leaf([1.0]), leaf([1.0])
    assert {x: "x", y: "y"}[y] == "y"
    assert len({x, y, x}) == 2


def test_repr_shows_values_shape_dtype_and_the_op_that_made_it():
    eye = "[[1., 0.],\n{indent}[0., 1.]], shape=(2, 2), dtype=float64"
    for made, text in (
        (mr.Tensor(2.0), "Tensor(2., shape=(), dtype=float32)"),
        (mr.Tensor([1.0, -2.5]), "Tensor([ 1. , -2.5], shape=(2,), dtype=float32)"),
        (mr.Tensor(np.arange(2)), "Tensor([0, 1], shape=(2,), dtype=int64)"),
        (leaf([0.123456789]), "Tensor([0.1235], shape=(1,), dtype=float64, requires_grad=True)"),
        (mr.tanh(leaf([0.0])), "Tensor([0.], shape=(1,), dtype=float64, op=tanh)"),
        (leaf([[0.0]]) @ np.ones((1, 1)), "Tensor([[0.]], shape=(1, 1), dtype=float64, op=matmul)"),
        (leaf([1.0]) ** 2, "Tensor([1.], shape=(1,), dtype=float64, op=pow)"),
        (leaf([1.0]).sum(), "Tensor(1., shape=(), dtype=float64, op=sum)"),
        (mr.tanh(mr.Tensor([0.0])), "Tensor([0.], shape=(1,), dtype=float32)"),
        (leaf([1.0]).detach(), "Tensor([1.], shape=(1,), dtype=float64)"),
        (mr.Tensor(np.zeros((0, 3))), "Tensor([], shape=(0, 3), dtype=float64)"),
        (mr.Tensor(np.eye(2)), f"Tensor({eye.format(indent=' ' * 8)})"),
        (mr.Parameter(np.eye(2)), f"Parameter({eye.format(indent=' ' * 11)}, requires_grad=True)"),
    ):
        assert repr(made) == str(made) == text
    text = repr(mr.Tensor(np.arange(100_000.0).reshape(100, 10, 100)))
    assert len(text) < 5000
    assert "..." in text
    assert text.endswith("shape=(100, 10, 100), dtype=float64)")


def test_one_entry_takes_a_format_and_any_tensor_the_empty_one():
    assert f"{leaf([0.123456]):.3f} {mr.Tensor(2.0):5.1f}" == "0.123   2.0"
    assert f"{leaf([1.0])}" == repr(leaf([1.0]))
    with pytest.raises(ValueError, match=r"item: expected a Tensor of one entry, got shape \(2,\)"):
        f"{leaf([1.0, 2.0]):.3f}"


# --- copies -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "duplicate", [copy.deepcopy, lambda t: pickle.loads(pickle.dumps(t))], ids=["deepcopy", "pickle"]
)
def test_leaves_can_be_duplicated_and_live_apart(duplicate):
    for original in (leaf([1.0, 2.0], np.float32), mr.Tensor(np.arange(3)), mr.Parameter(np.ones((2, 2)), name="W")):
        twin = duplicate(original)
        assert type(twin) is type(original)
        assert twin.requires_grad == original.requires_grad
        assert twin.dtype == original.dtype
        assert_array_equal(twin.data, original.data)
        assert not np.shares_memory(twin.data, original.data)
        assert getattr(twin, "name", None) == getattr(original, "name", None)
    twin = duplicate(original)
    (twin.sum() * 2.0).backward()
    assert original.grad is None


@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy, pickle.dumps])
def test_outputs_of_ops_cannot_be_duplicated(duplicate):
    y = leaf([1.0]) * 2.0
    with pytest.raises(
        TypeError, match=r"Tensor: only leaves can be copied or pickled, and this has a graph.*detach\(\) it"
    ):
        duplicate(y)
    duplicate(y.detach())


# --- setters ----------------------------------------------------------------------------------------------------------


def test_data_that_do_not_fit_change_nothing():
    numbers = "Tensor.data must be an array of numbers"
    for value, error, says in (
        (np.ones(3), ValueError, r"Tensor.data must have shape \(2,\), got \(3,\)"),
        (1.0, ValueError, r"Tensor.data must have shape \(2,\), got \(\)"),
        (["a", "b"], TypeError, numbers),
        ([[1.0], [1.0, 2.0]], TypeError, f"{numbers}, got a ragged list"),
        (None, TypeError, numbers),
        (np.array([1j, 2j]), TypeError, numbers),
    ):
        x = leaf([1.0, 2.0])
        y = (x * x).sum()
        with pytest.raises(error, match=says):
            x.data = value
        assert_array_equal(x.data, [1, 2])
        y.backward()  # no change, so nothing to refuse
        assert_array_equal(x.grad, [2, 4])


def test_data_keep_their_dtype_when_set_and_those_of_an_output_cannot_be_set():
    x = leaf([1.0, 2.0], np.float32)
    x.data = np.array([3.0, 4.0])
    assert x.dtype == np.float32
    array = x.data
    x.data -= 0.5 * np.ones(2)
    assert x.dtype == np.float32
    assert x.data is array, "in place, without another array"
    assert_array_equal(x.data, [2.5, 3.5])
    y = x * 2.0
    says = r"Tensor.data: only a leaf's data can be set, and this is the output of 'mul'; use detach"
    with pytest.raises(RuntimeError, match=says):
        y.data = np.ones(2)
    assert_array_equal(y.data, [5, 7])


def test_a_gradient_that_does_not_fit_changes_nothing():
    x = leaf([1.0, 2.0])
    x.grad = [5.0, 6.0]
    for value, error, says in (
        (np.ones(3), ValueError, r"Tensor.grad must have shape \(2,\), got \(3,\)"),
        (0.0, ValueError, r"Tensor.grad must have shape \(2,\), got \(\)"),
        ("ab", TypeError, "Tensor.grad must be an array of numbers"),
    ):
        with pytest.raises(error, match=says):
            x.grad = value
        assert_array_equal(x.grad, [5, 6])
    x.grad = None
    assert x.grad is None


def test_a_gradient_set_by_hand_has_the_data_s_dtype_and_is_added_to():
    x = leaf([1.0, 2.0], np.float32)
    mine = np.array([10.0, 20.0])
    x.grad = mine
    assert x.grad.dtype == np.float32
    x.sum().backward()
    assert_array_equal(x.grad, [11, 21])
    assert_array_equal(mine, [10, 20])


def test_requires_grad_can_be_switched_on_leaves_only():
    x = mr.Tensor([1.0])
    x.requires_grad = True
    y = x * 2.0
    assert y.requires_grad
    with pytest.raises(
        RuntimeError, match=r"requires_grad: cannot be switched off on the output of an op; use detach\(\)"
    ):
        y.requires_grad = False
    x.requires_grad = False
    assert not (x * 2.0).requires_grad


# --- astype, detach, views --------------------------------------------------------------------------------------------


def test_astype_to_the_same_dtype_is_the_same_tensor_and_to_integers_is_a_constant():
    x = leaf([1.5, -2.5])
    assert x.astype(float) is x
    assert x.astype("float32").dtype == np.float32
    for dtype in (int, bool):
        assert x.astype(dtype).dtype == np.dtype(dtype)
        assert not x.astype(dtype).requires_grad
    with pytest.raises(TypeError, match="astype: the result must be an array of numbers"):
        x.astype(complex)
    with pytest.raises(TypeError, match="not understood"):
        x.astype("number")


def test_methods_equal_the_functions_of_the_same_name():
    x = leaf(np.random.default_rng(0).uniform(0.5, 2.0, (2, 3)))
    for name in ("exp", "log", "sqrt", "tanh", "sigmoid", "relu", "sum", "mean", "max", "min", "squeeze", "transpose"):
        assert_array_equal(getattr(x, name)().numpy(), getattr(mr, name)(x).numpy())
    for name in ("sum", "mean", "max", "min"):
        assert_array_equal(getattr(x, name)(1, True).numpy(), getattr(mr, name)(x, axis=1, keepdims=True).numpy())
        assert getattr(x, name)().shape == ()
        assert getattr(x, name)(0).shape == (3,)
    assert x.clip(0.7).numpy().min() >= 0.7
    assert x.clip(high=0.7).numpy().max() <= 0.7
    assert x.swapaxes(0, 1).shape == x.T.shape == x.mT.shape == (3, 2)
    assert x.broadcast_to([4, 2, 3]).shape == (4, 2, 3)


def test_an_index_may_be_a_list_a_tensor_or_empty():
    x = leaf(np.arange(12.0).reshape(4, 3))
    assert_array_equal(x[[0, 2]].numpy(), x.data[[0, 2]])
    assert_array_equal(x[[True, False, True, False]].numpy(), x.data[[0, 2]])
    assert_array_equal(x[mr.Tensor(np.array([1, 1]))].numpy(), x.data[[1, 1]])
    assert_array_equal(x[[0, 1], mr.Tensor(np.array([2, 0]))].numpy(), [2, 3])
    assert_array_equal(x[x > 7].numpy(), [8, 9, 10, 11])
    assert x[[]].shape == (0, 3)
    for index, says in (
        (4, "out of bounds"),
        ((0, 0, 0), "too many indices"),
        (1.5, "only integers"),
        ("a", "only integers"),
    ):
        with pytest.raises(IndexError, match=says):
            x[index]
