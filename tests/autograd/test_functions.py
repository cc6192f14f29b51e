"""The functions of the package: against numpy, by way of numpy's own names, and what they do to dtypes."""

import inspect
import itertools
import pickle
import typing

import numpy as np
import pytest
from numpy.testing import assert_array_equal

import minirnn as mr
from minirnn.autograd import functions

RNG = np.random.default_rng(0)
X = RNG.uniform(0.5, 2.0, (2, 3, 4))
Y = RNG.uniform(0.5, 2.0, (3, 1))

# name: arguments, and how numpy computes the same (its own function of that name where None).
CALLS = {
    "exp": ((X,), None), "log": ((X,), None), "sqrt": ((X,), None), "abs": ((X - 1,), None), "tanh": ((X,), None),
    "softplus": ((X,), lambda x: np.log(1 + np.exp(x))), "log_sigmoid": ((X,), lambda x: -np.log(1 + np.exp(-x))),
    "sigmoid": ((X,), lambda x: 1 / (1 + np.exp(-x))), "relu": ((X - 1,), lambda x: np.maximum(x, 0)),
    "maximum": ((X, Y), None), "minimum": ((X, Y), None), "where": ((X > 1, X, Y), None), "clip": ((X, 0.7, 1.2), None),
    "matmul": ((X, X[0].T), None),
    "sum": ((X, (0, -1), True), lambda x, axis, keepdims: np.sum(x, axis=axis, keepdims=keepdims)),
    "mean": ((X, 1, False), lambda x, axis, keepdims: np.mean(x, axis=axis, keepdims=keepdims)),
    "max": ((X, 1, False), lambda x, axis, keepdims: np.max(x, axis=axis, keepdims=keepdims)),
    "min": ((X, -1, True), lambda x, axis, keepdims: np.min(x, axis=axis, keepdims=keepdims)),
    "softmax": ((X, 1), lambda x, axis: np.exp(x) / np.exp(x).sum(axis, keepdims=True)),
    "log_softmax": ((X, -1), lambda x, axis: np.log(np.exp(x) / np.exp(x).sum(axis, keepdims=True))),
    "logsumexp": ((X, 0), lambda x, axis: np.log(np.exp(x).sum(axis))),
    "reshape": ((X, (4, -1)), None), "transpose": ((X, (2, 0, 1)), None), "swapaxes": ((X, 0, 2), None),
    "squeeze": ((X[:, :1], 1), None), "expand_dims": ((X, 1), None), "broadcast_to": ((Y, (2, 3, 4)), None),
    "flip": ((X, 1), None), "astype": ((X, np.float32), None), "concatenate": (([X, X[:1]], 0), None),
    "stack": (([X, X], 1), None), "split": ((X, [1, 3], 2), None),
    "unbind": ((X, 1), lambda x, axis: tuple(np.moveaxis(x, axis, 0))),
}  # fmt: skip


def as_tuple(result):
    return tuple(result) if isinstance(result, tuple | list) else (result,)


def tensors(value):
    if isinstance(value, list) and any(isinstance(v, np.ndarray) for v in value):
        return [tensors(v) for v in value]
    return mr.Tensor(value, requires_grad=True) if isinstance(value, np.ndarray) and value.dtype.kind == "f" else value


def public_functions():
    return {n: f for n, f in vars(functions).items() if inspect.isfunction(f) and f.__module__ == functions.__name__}


def test_every_function_is_tested_here_and_exported_by_the_package():
    public = {name for name in public_functions() if not name.startswith("_")} - {"array_ufunc", "array_function"}
    assert public == set(CALLS)
    assert public <= set(mr.__all__)
    assert all(getattr(mr, name) is getattr(functions, name) for name in public)


def test_help_shows_a_signature_and_a_docstring_and_pickle_finds_it():
    for name, (arguments, _) in CALLS.items():
        function = getattr(mr, name)
        assert function.__name__ == function.__qualname__ == name
        assert inspect.getdoc(function)
        parameters = list(inspect.signature(function).parameters)
        assert len(parameters) >= len(arguments)
        assert not {"args", "kwargs", "settings"} & set(parameters)
        assert typing.get_type_hints(function)["return"] in (mr.Tensor, tuple[mr.Tensor, ...])
        assert pickle.loads(pickle.dumps(function)) is function


@pytest.mark.parametrize("name", CALLS)
def test_on_arrays_it_equals_numpy_and_on_tensors_it_is_recorded_by_numpys_name_too(name):
    arguments, reference = CALLS[name]
    expected = as_tuple((reference or getattr(np, name))(*arguments))
    constants = as_tuple(getattr(mr, name)(*arguments))
    recorded = [as_tuple(getattr(mr, name)(*map(tensors, arguments)))]
    if name in ("sum", "mean", "max", "min"):
        x, axis, keepdims = arguments
        recorded.append(as_tuple(getattr(np, name)(tensors(x), axis=axis, keepdims=keepdims)))
    elif hasattr(np, name):
        recorded.append(as_tuple(getattr(np, name)(*map(tensors, arguments))))
    for e, c, *rs in zip(expected, constants, *recorded, strict=True):
        np.testing.assert_allclose(c.numpy(), e, rtol=1e-14)
        assert c.dtype == e.dtype
        assert not c.requires_grad
        for r in rs:
            assert isinstance(r, mr.Tensor)
            assert r.requires_grad
            assert r.dtype == e.dtype
            assert_array_equal(r.numpy(), c.numpy())


def test_other_names_that_numpy_has_for_the_same():
    x = mr.Tensor(X, requires_grad=True)
    for result, expected in (
        (np.amax(x), X.max()), (np.amin(x, axis=0), X.min(0)), (np.permute_dims(x), X.T), (np.absolute(x), X),
        (np.concat([x, x]), np.concat([X, X])), (np.true_divide(1.0, x), 1 / X), (np.pow(x, 2), X**2),
        (np.negative(x), -X), (np.subtract(1, x), 1 - X), (np.mean(x), X.mean()), (np.clip(x, 1, 1.5), X.clip(1, 1.5)),
        (getattr(np, "unstack", mr.unbind)(x)[1], X[1]),  # numpy has had the name since 2.1
        (np.power(2.0, x), 2.0**X), (np.matmul(X[0].T, x), X[0].T @ X), (np.sum(x), X.sum()), (np.min(x), X.min()),
    ):  # fmt: skip
        assert isinstance(result, mr.Tensor)
        assert result.requires_grad
        np.testing.assert_allclose(result.numpy(), expected, rtol=1e-14)


def test_a_settings_name_that_only_numpy_knows_is_refused_by_name():
    x = mr.Tensor([1.0, 2.0])
    with pytest.raises(TypeError, match=r"sum\(\) got an unexpected keyword argument 'dtype'"):
        np.sum(x, dtype=np.float64)


# --- dtypes -----------------------------------------------------------------------------------------------------------

T32 = mr.Tensor(np.ones(2, np.float32), requires_grad=True)
T64 = mr.Tensor(np.ones(2, np.float64), requires_grad=True)
TWO_OPERANDS = [mr.maximum, mr.minimum, lambda a, b: mr.where([True, False], a, b)]
MIXES = [
    (T32, 0.1, "f4"), (T32, 1, "f4"), (T32, np.float64(0.1), "f4"), (T32, np.array(0.1), "f4"),
    (T32, mr.Tensor(np.array(0.1)), "f4"), (T32, [0.1, 0.2], "f4"), (T32, np.array([1, 2]), "f4"),
    (T32, np.array([True, False]), "f4"), (T32, np.array([0.1, 0.2]), "f8"), (T32, T64, "f8"), (T64, 0.1, "f8"),
    (T64, np.float32(0.1), "f8"), (T64, [0.1, 0.2], "f8"), (T64, np.array([0.1, 0.2], np.float32), "f8"),
    (mr.Tensor(np.array(0.1), requires_grad=True), np.ones(2, np.float32), "f4"), (0.1, np.ones(2), "f8"),
    (np.float64(0.1), np.ones(2, np.float32), "f4"), (0.1, [0.2, 0.3], "f4"),
    (np.array([1, 2]), np.array([3, 4]), "i8"),
]  # fmt: skip


@pytest.mark.parametrize("f", TWO_OPERANDS, ids=["maximum", "minimum", "where"])
def test_two_operands_mix_as_operators_do_in_either_order(f):
    for a, b, dtype in MIXES:
        for first, second in ((a, b), (b, a)):
            result = f(first, second)
            assert isinstance(result, mr.Tensor)
            assert result.dtype == dtype
            numbers = [np.asarray(v, dtype) for v in (first, second)]
            assert_array_equal(result.numpy(), np.asarray(f(*numbers)), "rounded by way of float32?")


def test_a_list_or_a_number_beside_float64_is_not_rounded_to_float32_first():
    x = mr.Tensor(np.zeros(1))
    assert (mr.maximum(x, 0.1).item(), mr.maximum([0.1], x).item()) == (0.1, 0.1)
    assert mr.where([False], x, 0.1).item() == 0.1
    assert mr.concatenate([x, [0.1]]).numpy()[1] == 0.1
    assert mr.stack([[0.1], x]).numpy()[0, 0] == 0.1


def test_joined_parts_take_one_dtype_and_integers_do_not_widen_a_float():
    for parts, dtype in (
        ([T32, T32], "f4"), ([T32, T64], "f8"), ([T32, np.arange(2)], "f4"), ([np.array([True, False]), T32], "f4"),
        ([T32, [1.5, 2.5]], "f4"), ([[1, 2], [3, 4]], "f4"), ([np.arange(2), [0.5, 1.5]], "f4"),
        ([np.arange(2), np.array([True, False])], "i8"), ([[0.1, 0.2], T64], "f8"),
    ):  # fmt: skip
        for join, reference in ((mr.concatenate, np.concatenate), (mr.stack, np.stack)):
            joined = join(parts)
            assert joined.dtype == dtype
            assert_array_equal(joined.numpy(), reference([np.asarray(p, dtype) for p in parts]))
            T32.grad = T64.grad = None
            if joined.requires_grad:
                joined.sum().backward()
                assert all(t.grad is None or t.grad.dtype == t.dtype for t in (T32, T64))


def test_where_takes_any_truth_value_as_its_condition():
    for condition in ([1, 0], np.array([2.5, 0.0]), mr.Tensor([1.0, 0.0]), mr.Tensor([True, False])):
        assert_array_equal(mr.where(condition, T32, -1.0).numpy(), [1, -1])


def test_what_is_no_operand_raises_and_never_gives_notimplemented():
    says = r"(maximum|minimum|where|matmul): both operands must be Tensors, arrays"
    for f, bad in itertools.product([*TWO_OPERANDS, mr.matmul], [None, "2", {}, object()]):
        for operands in ((T32, bad), (bad, T32)):
            with pytest.raises(TypeError, match=says):
                f(*operands)
        with pytest.raises(TypeError, match="must be an array of numbers"):
            f(bad, bad)


# --- joining and taking apart -----------------------------------------------------------------------------------------


def test_unbind_gives_what_indexing_gives():
    for axis in (0, 1, 2, -1, -3):
        parts = mr.unbind(mr.Tensor(X, requires_grad=True), axis)
        assert len(parts) == X.shape[axis]
        for i, part in enumerate(parts):
            assert_array_equal(part.numpy(), np.take(X, i, axis))


def test_split_cuts_where_numpy_cuts():
    for cut, axis in (
        (2, 0), (3, 1), (1, 2), (np.int64(2), -1), ([1], 0), ([1, 2], 1), ([], 2), ((0, 3, 3), 2), ([-1], 2),
        ([2, 9], 2),
    ):  # fmt: skip
        x = mr.Tensor(X, requires_grad=True)
        parts, expected = mr.split(x, cut, axis), np.split(X, cut, axis)
        for part, e in zip(parts, expected, strict=True):
            assert_array_equal(part.numpy(), e)
        if sum(e.size for e in expected) == X.size:
            mr.concatenate(parts, axis).backward(X)
            assert_array_equal(x.grad, X)


BAD_ARGUMENTS = [
    (lambda: mr.split(X, 2, axis=1), ValueError, "split: 2 parts do not divide axis 1 of length 3 evenly"),
    (lambda: mr.split(X, 1, axis=3), ValueError, r"split: there is no axis 3 in a Tensor of shape \(2, 3, 4\)"),
    (lambda: mr.unbind(X, -4), ValueError, r"unbind: there is no axis -4 in a Tensor of shape \(2, 3, 4\)"),
    (lambda: mr.concatenate([]), TypeError, "concatenate: expected a sequence of Tensors, not empty, got list"),
    (lambda: mr.stack(mr.Tensor(X)), TypeError, "stack: expected a sequence of Tensors, not empty, got Tensor"),
    (lambda: mr.stack([X, "a"]), TypeError, r"stack: tensors\[1\] must be an array of numbers"),
    (lambda: mr.concatenate([T32, T32], axis=None), TypeError, "NoneType"),
    (lambda: mr.clip(T32, [0.0, 1.0]), TypeError, "clip: low must be a number or None, .*use maximum and minimum"),
    (lambda: mr.clip(T32, 0, T32.sum()), TypeError, "clip: high must be a number or None, got Tensor"),
    (lambda: mr.clip(T32, "0"), TypeError, "clip: low must be an array of numbers"),
    (lambda: mr.sum([T32, T32]), TypeError, "list that holds Tensors: .*minirnn.stack, which keeps"),
]  # fmt: skip


def test_bad_arguments_are_named():
    for f, error, says in BAD_ARGUMENTS:
        with pytest.raises(error, match=says):
            f()


def test_any_kind_of_number_bounds_a_clip_without_changing_the_dtype():
    for bound in (0.25, np.float64(0.25), np.float32(0.25), np.array(0.25), mr.Tensor(0.25)):
        for t in (T32, T64):
            y = mr.clip(t, None, bound)
            assert y.dtype == t.dtype
            assert_array_equal(y.numpy(), [0.25, 0.25])
    assert mr.clip(T64, None, 0.1).numpy()[0] == 0.1, "not rounded"


def test_reductions_are_over_everything_and_drop_their_axes_unless_told_otherwise():
    for f in (mr.sum, mr.mean, mr.max, mr.min, mr.logsumexp):
        assert f(X).shape == ()
        assert f(X, 1).shape == f(X, axis=1).shape == (2, 4)
        assert f(X, (0, 2)).shape == (3,)
        assert f(X, keepdims=True).shape == (1, 1, 1)
    for f in (mr.softmax, mr.log_softmax):
        assert_array_equal(f(X).numpy(), f(X, axis=2).numpy())


def test_reshape_and_transpose_take_their_settings_in_every_form():
    x = mr.Tensor(X, requires_grad=True)
    for y in (x.reshape(6, 4), x.reshape((6, 4)), x.reshape([6, -1]), mr.reshape(x, (6, 4)), np.reshape(x, (6, 4))):
        assert y.shape == (6, 4)
    assert mr.reshape(x, 24).shape == mr.reshape(x, -1).shape == x.reshape(-1).shape == (24,)
    for y in (x.transpose(), x.transpose(None), x.T, mr.transpose(x), np.transpose(x), x.transpose(2, 1, 0)):
        assert y.shape == (4, 3, 2)
    assert x.transpose((1, 0, 2)).shape == mr.transpose(x, [1, 0, 2]).shape == (3, 2, 4)
    assert x.mT.shape == (2, 4, 3)
