"""Checks of arguments: what passes, in which form, and the whole text of every error."""

import numpy as np
from error_texts import raises

import minirnn as mr
from minirnn import arguments

# --- as_generator -----------------------------------------------------------------------------------------------------


def test_a_generator_passes_through_as_the_same_object():
    rng = np.random.default_rng(0)
    assert arguments.as_generator(rng) is rng


def test_a_seed_gives_the_same_numbers_whatever_int_it_is():
    first = arguments.as_generator(7).random(5)
    np.testing.assert_array_equal(first, arguments.as_generator(np.int64(7)).random(5))
    np.testing.assert_array_equal(first, np.random.default_rng(7).random(5))
    assert (first != arguments.as_generator(8).random(5)).all()


def test_none_takes_fresh_entropy():
    assert arguments.as_generator(None).random() != arguments.as_generator(None).random()


def test_numpys_global_state_is_neither_used_nor_moved():
    np.random.seed(0)  # noqa: NPY002  (to see whether it moves)
    before = np.random.get_state()  # noqa: NPY002
    for rng in (None, 0, np.random.default_rng(0)):
        arguments.as_generator(rng).random()
    after = np.random.get_state()  # noqa: NPY002
    assert before[2:] == after[2:]
    np.testing.assert_array_equal(before[1], after[1])


EXPECTED_RNG = "rng must be a numpy.random.Generator, an int ≥ 0 (a seed) or None"


def test_what_is_no_generator_is_refused():
    for rng, got in ((True, "True (bool)"), (0.5, "0.5 (float)"), ("seed", "'seed' (str)")):
        with raises(TypeError, f"{EXPECTED_RNG}, got {got}: try rng=0 or rng=numpy.random.default_rng(0)"):
            arguments.as_generator(rng)
    with raises(ValueError, f"{EXPECTED_RNG}, got -3: try rng=3"):
        arguments.as_generator(-3)


# --- as_size, as_flag, one_of, float_dtype ----------------------------------------------------------------------------


def test_sizes():
    assert arguments.as_size(3, "N") == 3
    size = arguments.as_size(np.int16(3), "N")
    assert size == 3
    assert type(size) is int
    assert arguments.as_size(0, "seed", 0) == 0


def test_what_is_no_size_is_refused():
    for value, kind, got in (
        (0, ValueError, "0: try 1 or more"),
        (-7, ValueError, "-7: try 1 or more"),
        (True, TypeError, "True (bool): try 1"),
        (np.True_, TypeError, f"{np.True_!r} ({type(np.True_).__name__}): try 1"),
        (2.0, TypeError, "2.0 (float): try 2"),
        (None, TypeError, "None (NoneType): try 1"),
        (np.ones(2), TypeError, "an array of shape (2,) and dtype float64: try 1"),
    ):
        with raises(kind, f"f: N must be an int ≥ 1, got {got}"):
            arguments.as_size(value, "f: N")


def test_a_minimum_of_its_own():
    with raises(ValueError, "f: n must be an int ≥ 5, got 4: try 5 or more"):
        arguments.as_size(4, "f: n", 5)
    with raises(TypeError, "f: n must be an int ≥ 0, got 1.5 (float): try 1"):
        arguments.as_size(1.5, "f: n", 0)


def test_flags():
    for value in (True, False, np.True_, np.False_):
        flag = arguments.as_flag(value, "bias")
        assert type(flag) is bool
        assert flag == value
    for value, got in (
        (0, "0 (int)"),
        ("yes", "'yes' (str)"),
        (np.ones(1), "an array of shape (1,) and dtype float64"),
    ):
        with raises(TypeError, f"f: bias must be True or False, got {got}"):
            arguments.as_flag(value, "f: bias")


def test_one_of():
    assert arguments.one_of("a", ("a", "b"), "x") == "a"
    for value in ("c", "A", "", None, 0, ["a"], np.array(["a", "b"])):
        with raises(ValueError, f"f: x must be one of 'a', 'b', got {value!r}"):
            arguments.one_of(value, ("a", "b"), "f: x")


def test_float_dtypes():
    for dtype in (np.float32, "float32", np.dtype("f4"), np.float64, float, "f8"):
        resolved = arguments.float_dtype(dtype, "dtype")
        assert isinstance(resolved, np.dtype)
        assert resolved == np.dtype(dtype)
    for dtype in (None, np.float16, np.longdouble, int, "complex64", ">f4", "float33", object, 5):
        with raises(TypeError, f"f: dtype must be numpy.float32 or numpy.float64, got {dtype!r}"):
            arguments.float_dtype(dtype, "f: dtype")  # numpy would take None for float64


# --- class_ids --------------------------------------------------------------------------------------------------------


def test_class_ids_in_any_form():
    for ids in ([0, 2, 1], (0, 2, 1), np.array([0, 2, 1], np.uint8), mr.Tensor(np.array([0, 2, 1]))):
        checked = arguments.class_ids(ids, 3, "ids")
        assert checked.dtype.kind in "iu"
        np.testing.assert_array_equal(checked, [0, 2, 1])
    assert arguments.class_ids(2, 3, "ids").shape == ()
    assert arguments.class_ids(np.zeros((2, 0, 3), int), 3, "ids").shape == (2, 0, 3)


def test_what_are_no_class_ids():
    for ids, got in (([0, 3], "3 at [1]"), ([[0, 1], [-1, 9]], "-1 at [1, 0]"), (3, "3 at []")):
        with raises(IndexError, f"f: ids must be integers 0 … 2, got {got}"):
            arguments.class_ids(ids, 3, "f: ids")
    for ids, dtype in (([0.0], "float64"), ([True], "bool")):
        got = f"an array of shape (1,) and dtype {dtype}: try ids.astype(int)"
        with raises(TypeError, f"f: ids must be integers 0 … 2, got {got}"):
            arguments.class_ids(ids, 3, "f: ids")


# --- as_array, describe -----------------------------------------------------------------------------------------------


def test_lists_and_python_numbers_get_the_dtype_asked_for():
    for data in ([1, 2], [1.5, 2.5], (1, 2.5), 3, 0.1, [[0.1]], []):
        for dtype in (np.float32, np.float64):
            array = arguments.as_array(data, "x", dtype)
            assert array.dtype == dtype
            np.testing.assert_array_equal(array, np.asarray(data, dtype))
        assert arguments.as_array(data, "x").dtype == np.float32


def test_arrays_keep_their_own_and_are_not_copied():
    for dtype in (np.float16, np.float32, np.float64, np.int8, np.uint64, np.bool_):
        array = np.ones((2, 3), dtype)
        assert arguments.as_array(array, "x", np.float32) is array
        assert arguments.as_array(mr.Tensor(array), "x").dtype == dtype
        assert arguments.as_array(dtype(1), "x").dtype == dtype  # numpy's numbers are arrays of no axes


def test_bools_stay_bools():
    assert arguments.as_array([True, False], "mask").dtype == np.bool_


def test_what_is_no_array_of_numbers():
    for data, got in (
        ("text", "str of dtype <U4"),
        (["a"], "list of dtype <U1"),
        (None, "NoneType of dtype object"),
        ({"a": 1}, "dict of dtype object"),
        ([1, None], "list of dtype object"),
        (np.array([1j]), "ndarray of dtype complex128"),
        (np.array(["2020-01-01"], "datetime64[D]"), "ndarray of dtype datetime64[D]"),
    ):
        expected = "f: x must be an array of numbers (bool, int or float)"
        with raises(TypeError, f"{expected}, got {got}: try np.asarray(data, dtype=float)"):
            arguments.as_array(data, "f: x")
    got = "a ragged list: its parts differ in length, so pad them to one length"
    with raises(TypeError, f"f: x must be an array of numbers, got {got}"):
        arguments.as_array([[1, 2], [3]], "f: x")


def test_a_list_of_tensors_is_refused_because_it_would_lose_their_gradients():
    for kind, requires_grad in ((list, True), (tuple, False)):
        tensors = kind([1.0, mr.Tensor([1.0], requires_grad), mr.Tensor([2.0])])
        message = (
            f"f: x must be one array or Tensor, got a {kind.__name__} that holds Tensors: pass one of them, or join "
            "them with minirnn.stack, which keeps their gradients"
        )
        with raises(TypeError, message):
            arguments.as_array(tensors, "f: x")


def test_describe():
    assert arguments.describe(np.zeros((2, 3), np.int8)) == "an array of shape (2, 3) and dtype int8"
    assert arguments.describe(0.5) == "0.5 (float)"
    assert arguments.describe("a") == "'a' (str)"
    assert len(arguments.describe(list(range(10_000)))) < 60
