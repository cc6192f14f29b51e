"""Checks of arguments that several parts of the package take: sizes, flags, names, dtypes, generators, class ids.

Each returns the argument in one form or raises an error that starts with the argument's name and says what was
expected, what came, and what to try.
"""

import math
import operator
import reprlib
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Choice = TypeVar("Choice", bound=str)
Generator: TypeAlias = "np.random.Generator"
Rng: TypeAlias = "np.random.Generator | int | None"
"""Names, not things: numpy.random takes a while to load, and does so when something is drawn."""
R = TypeVar("R")


class Made(partial[R]):
    """A function of a module with its first arguments set: pickle takes it along, which it does no closure.

    >>> Made(math.pow, 2.0)
    pow(2.0)
    """

    def __repr__(self) -> str:
        return f"{self.func.__name__.lstrip('_')}({', '.join(map(repr, self.args))})"


def as_generator(rng: Rng) -> Generator:
    """Make a Generator of what a caller passed as ``rng``; numpy's global state is never touched.

    A Generator is handed back as the same object, so that one can go from layer to layer; an int ≥ 0 is a seed; None
    takes fresh entropy from the operating system.

    >>> bool(as_generator(0).random() == as_generator(0).random())
    True
    """
    if isinstance(rng, np.random.Generator):
        return rng
    if rng is None:
        return np.random.default_rng()
    expected = "rng must be a numpy.random.Generator, an int ≥ 0 (a seed) or None"
    seed = _whole(rng)
    if seed is None:
        raise TypeError(f"{expected}, got {describe(rng)}: try rng=0 or rng=numpy.random.default_rng(0)")
    if seed < 0:
        raise ValueError(f"{expected}, got {seed}: try rng={-seed}")
    return np.random.default_rng(seed)


def _whole(value: Any) -> int | None:
    """Return an integer, Python's or numpy's, as an int; None for anything else, a bool too."""
    try:
        return None if isinstance(value, bool | np.bool_) else operator.index(value)
    except TypeError:
        return None


def as_size(value: Any, argument: str, minimum: int = 1, hint: str = "") -> int:
    """Check a count such as a batch size: an int of at least ``minimum``, no bool; ``hint`` is what to try."""
    expected = f"{argument} must be an int ≥ {minimum}"
    size = _whole(value)
    if size is None:
        number = int(value) if isinstance(value, float) and value == value // 1 else 1
        raise TypeError(f"{expected}, got {describe(value)}: {hint or f'try {max(number, minimum)}'}")
    if size < minimum:
        raise ValueError(f"{expected}, got {size}: {hint or f'try {minimum} or more'}")
    return size


def as_index(value: Any, argument: str, what: str, places: range, hint: str) -> int:
    """Check ``what`` is counted, a step or a row: an int within ``places``; IndexError for one outside."""
    expected = f"{argument} must be {what} {places[0]} … {places[-1]}"
    index = _whole(value)
    if index is None:
        raise TypeError(f"{expected}, got {describe(value)}: {hint}")
    if index not in places:
        raise IndexError(f"{expected}, got {index}: {hint}")
    return index


def describe(value: object) -> str:
    """Describe a value in an error: what has a shape by shape and dtype, anything else by its (short) repr and type."""
    if isinstance(value, np.ndarray):
        return f"an array of shape {value.shape} and dtype {value.dtype}"
    if getattr(value, "shape", ()) != ():
        return f"a {type(value).__name__} of shape {value.shape}"  # type: ignore[attr-defined]
    return f"{reprlib.repr(value)} ({type(value).__name__})"


def as_unicode(text: str) -> str:
    """Replace lone surrogates, which no file in UTF-8 can hold, by �."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def one_of(value: Any, choices: Sequence[Choice], argument: str) -> Choice:
    """Check a name against the names there are; ValueError lists them."""
    if not isinstance(value, str) or value not in choices:
        listed = ", ".join(map(repr, choices)) or "those there are, and there are none yet"
        raise ValueError(f"{argument} must be one of {listed}, got {value!r}")
    return choices[choices.index(value)]


def as_flag(value: Any, argument: str) -> bool:
    """Check that a switch is True or False; anything else is a TypeError, since it is usually a misplaced argument."""
    if not isinstance(value, bool | np.bool_):
        raise TypeError(f"{argument} must be True or False, got {describe(value)}")
    return bool(value)


def float_dtype(dtype: npt.DTypeLike, argument: str) -> np.dtype[Any]:
    """Check the dtype of parameters: float32 or float64, else a TypeError."""
    for known in (np.dtype(np.float32), np.dtype(np.float64)):
        if dtype is not None and known == dtype:  # numpy takes None for float64
            return known
    raise TypeError(f"{argument} must be numpy.float32 or numpy.float64, got {dtype!r}")


REAL = int, float, np.integer, np.floating


def is_real(value: Any) -> bool:
    """Whether a value is one real number, Python's or numpy's, and no bool."""
    return isinstance(value, REAL) and not isinstance(value, bool)


NUMBERS: dict[str, Callable[[float], bool]] = {
    "a number": lambda x: True,
    "a finite number": math.isfinite,
    "a number ≥ 0": lambda x: 0 <= x < math.inf,
    "a positive number": lambda x: 0 < x < math.inf,
    "a positive number or inf": lambda x: x > 0,
    "a number in [0, 1)": lambda x: 0 <= x < 1,
    "a number in (0, 1)": lambda x: 0 < x < 1,
    "a number from 0 to 1": lambda x: 0 <= x <= 1,
    "a probability, 0 ≤ p < 1": lambda x: 0 <= x < 1,
}
"""The kinds of real numbers that `as_number` knows. NaN is none but the first."""


def as_number(value: Any, argument: str, kind: str = "a finite number", hint: str = "") -> float:
    """Check a setting that is one real number, of a kind in `NUMBERS`: else TypeError, ValueError for another kind."""
    if (real := is_real(value)) and NUMBERS[kind](value):
        return float(value)
    expected, hint = f"{argument} must be {kind}", hint and f": {hint}"
    if not real:
        raise TypeError(f"{expected}, got {describe(value)}{hint}")
    raise ValueError(f"{expected}, got {value}{hint}")


def as_probability(value: Any, argument: str) -> float:
    """Check the probability of dropping something: a number in [0, 1)."""
    hint = "it is a part, not a percentage" if is_real(value) and value >= 1 else "try 0.5"
    return as_number(value, argument, "a probability, 0 ≤ p < 1", hint)


def as_kind(values: Any, kinds: str, expected: str, hint: str) -> Array:
    """Check that values make an array whose dtype is of one of numpy's ``kinds``, such as "iu"; else a TypeError."""
    unmasked(values, expected.partition(" must")[0])
    try:
        array = np.asarray(values)
    except ValueError:
        raise TypeError(f"{expected}, got a ragged list: {hint}") from None
    if array.dtype.kind not in kinds:
        raise TypeError(f"{expected}, got {describe(array)}: {hint}")
    return array


def as_lengths(lengths: Any, T: int, N: int, argument: str, batch_first: bool = False) -> npt.NDArray[np.integer[Any]]:
    """Check how many steps of each row count: N integers 1 … T."""
    return checked_lengths(lengths, T, N, argument, batch_first)[0]


def checked_lengths(
    lengths: Any, T: int, N: int, argument: str, batch_first: bool = False
) -> tuple[npt.NDArray[np.integer[Any]], tuple[int, int, int]]:
    """Check them; return a copy of them, and their least, greatest and sum."""
    if type(lengths) is np.ndarray and lengths.dtype.kind in "iu":
        array: Array = lengths
    else:
        array = as_kind(lengths, "iu", f"{argument} must be integers, one for each row", "try [T] * N")
    if array.shape != (N,):
        read, other = ("(T, N, …)", "(N, T, …)")[:: -1 if batch_first else 1]
        hint = f", for {other} try batch_first={not batch_first}" if array.shape == (T,) else ""
        raise ValueError(
            f"{argument} must have shape (N={N},), one for each row, got {array.shape}: "
            f"{'rows come' if batch_first else 'time comes'} first in {read}{hint}"
        )
    numbers = array.tolist()  # of a mini-batch's rows Python finds the least one sooner than numpy
    least, most = min(numbers), max(numbers)
    if least < 1 or most > T:
        bad = int(np.flatnonzero((array < 1) | (array > T))[0])
        raise ValueError(
            f"{argument} must lie between 1 and T={T}, got {array[bad]} for row {bad}: "
            + ("leave empty rows out" if array[bad] < 1 else "they count steps")
        )
    return array.astype(np.intp), (least, most, sum(numbers))


def counting(lengths: Any, shape: Sequence[int], argument: str, batch_first: bool = False) -> npt.NDArray[np.bool_]:
    """Tell of each step of (T, N, …), or (N, T, …), whether it lies before the end of its row."""
    T, N = shape[1::-1] if batch_first else shape[:2]
    valid = np.arange(T)[:, None] < as_lengths(lengths, T, N, argument, batch_first)
    return valid.T if batch_first else valid


def class_ids(ids: Any, classes: int, argument: str) -> npt.NDArray[np.integer[Any]]:
    """Check an array of class ids, integers 0 … classes − 1 of any shape."""
    expected = f"{argument} must be integers 0 … {classes - 1}"
    array = as_kind(ids, "iu", expected, "try ids.astype(int)")
    if (outside := (array < 0) | (array >= classes)).any():
        at = tuple(int(i) for i in np.argwhere(outside)[0])
        raise IndexError(f"{expected}, got {array[at]} at {list(at)}")
    return array


def as_array_like(data: Any, like: Any, argument: str) -> Array:
    """Check an array of numbers that must have the shape of another, or of a Tensor, and cast it to its dtype."""
    if type(data) is np.ndarray and data.dtype is like.dtype and data.shape == like.shape:
        return data
    array = as_array(data, argument, like.dtype)
    if array.shape != like.shape:
        raise ValueError(f"{argument} must have shape {like.shape}, got {array.shape}")
    return array if array.dtype is like.dtype else typed(array, like.dtype, argument)


def typed(given: Any, dtype: npt.DTypeLike, argument: str, counts: Any = True) -> Any:
    """Cast an array or a Tensor; ValueError where a finite value (of those that count) would become infinite."""
    try:
        with np.errstate(over="raise"):
            return given.astype(dtype)
    except FloatingPointError:
        with np.errstate(over="ignore"):
            cast = given.astype(dtype)
    array = np.asarray(given)
    for at in np.argwhere(np.isfinite(array) & np.isinf(np.asarray(cast)) & counts)[:1].tolist():
        raise ValueError(f"{argument} holds {array[tuple(at)]} at {at}, too large for {np.dtype(dtype)}: try float64")
    return cast


def unmasked(data: Any, argument: str) -> Any:
    """Return what was given, which must not be a masked array, nor a list of them: a TypeError, for the mask's sake."""
    kinds = map(type, data) if isinstance(data, list | tuple) else (type(data),)
    if any(hasattr(kind, "filled") for kind in kinds):
        raise TypeError(
            f"{argument} must not be masked, since nothing here knows masks: take x.filled(…) or x.data, and keep the "
            "mask for minirnn.where, or give the layer and the loss lengths="
        )
    return data


def constant(data: Any, argument: str) -> Any:
    """Return what was given, whose numbers alone are read: a Tensor that requires a gradient is a TypeError."""
    if getattr(data, "requires_grad", False):
        raise TypeError(
            f"{argument} must be constants, got {describe(data)} that requires a gradient, which would end here: give "
            "its .detach(), or .numpy(), if none should flow"
        )
    return data


def as_array(data: Any, argument: str, dtype: npt.DTypeLike = np.float32) -> Array:
    """Return an array of numbers: lists and Python numbers in ``dtype``, arrays (and Tensors) in their own."""
    if type(data) is np.ndarray and data.dtype.kind in "biuf":
        return data
    if isinstance(data, list | tuple) and any(hasattr(kind, "requires_grad") for kind in set(map(type, data))):
        raise TypeError(
            f"{argument} must be one array or Tensor, got a {type(data).__name__} that holds Tensors: "
            "pass one of them, or join them with minirnn.stack, which keeps their gradients"
        )
    unmasked(data, argument)
    try:
        array = np.asarray(data)
    except ValueError:
        raise TypeError(
            f"{argument} must be an array of numbers, got a ragged list: "
            "its parts differ in length, so pad them to one length"
        ) from None
    if array.dtype.kind not in "biuf":
        raise TypeError(
            f"{argument} must be an array of numbers (bool, int or float), got {type(data).__name__} of dtype "
            f"{array.dtype}: try np.asarray(data, dtype=float)"
        )
    return array if hasattr(data, "__array__") or array.dtype.kind == "b" else typed(array, dtype, argument)


def floats(x: Any) -> Any:
    """Return integers and bools as float32, of which numpy would make float16 or float64; anything else as it is."""
    return x.astype(np.float32) if hasattr(x, "dtype") and x.dtype.kind in "biu" else x
