"""What is computed: eight shapes, their arrays, the textbook's results, and the check that every contestant passes."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from minirnn import textbook

TOLERANCE = 1e-4  # the largest error, as a part of the largest entry: what float32 leaves after 784 steps, and a margin


class Shape(NamedTuple):
    """The sizes of a layer and what it reads."""

    N: int
    T: int
    D: int
    H: int

    def __str__(self) -> str:
        return ", ".join(map(str, self))


SHAPES = tuple(
    Shape(*sizes)
    for sizes in (
        (1, 50, 10, 20),
        (32, 50, 10, 20),
        (16, 400, 2, 100),
        (32, 100, 64, 128),
        (64, 100, 128, 256),
        (128, 64, 256, 512),
        (32, 784, 1, 100),
        (256, 50, 64, 64),
    )
)


class Input(NamedTuple):
    """What changes from call to call: x (T, N, D), h0 (N, H), and the gradient g of the outputs, (T, N, H)."""

    x: Any
    h0: Any
    g: Any


class Case(NamedTuple):
    """A shape, two inputs that are taken in turn, and the weights W_xh (D, H), W_hh (H, H), b_h (H,). All float32."""

    shape: Shape
    inputs: tuple[Input, Input]
    weights: tuple[Any, Any, Any]


class Contestant(NamedTuple):
    """Something to be timed.

    Attributes
    ----------
    run : i -> anything
        One call with input ``i``, 0 or 1: this is what is timed.
    read : what run returned -> arrays in the textbook's order and orientation
        Not timed; None for one that computes nothing to be compared.
    """

    run: Callable[[int], Any]
    read: Callable[[Any], Sequence[Any]] | None


RESULTS = ("outputs", *(f"the gradient of {name}" for name in ("x", "h0", "W_xh", "W_hh", "b_h")))


def draw(shape: Shape) -> Case:
    """Return a case; the same at every call."""
    N, T, D, H = shape
    rng = np.random.default_rng(N)

    def normal(scale: float, *sizes: int) -> Any:
        return rng.normal(0.0, scale, sizes).astype(np.float32)

    weights = normal(D**-0.5, D, H), normal(0.9 * H**-0.5, H, H), normal(0.1, H)
    first, second = (Input(normal(1.0, T, N, D), normal(1.0, N, H), normal(1.0, T, N, H)) for _ in range(2))
    return Case(shape, (first, second), weights)


def expected(case: Case, *, gradients: bool = True) -> list[tuple[Any, ...]]:
    """Return for each input what the textbook computes in float64: the outputs, then all gradients if asked for."""
    found = []
    for x, h0, g in case.inputs:
        outputs = textbook.unroll(textbook.layer_step_batch, x, h0, *case.weights)
        backward = textbook.unroll_backward(x, h0, *case.weights, d_outputs=g) if gradients else ()
        found.append((outputs, *backward))
    return found


class WrongResultError(Exception):
    """A contestant does not compute what the textbook does."""


def check(
    label: str, contestant: Contestant, wanted: Sequence[Sequence[Any]], results: Sequence[str] = RESULTS
) -> None:
    """Refuse a contestant whose results are wrong, or not float32 as everybody else's.

    Raises
    ------
    WrongResultError
        Naming the contestant, the input, the result and by how much it is off.
    """
    if contestant.read is None:
        return
    for i, truth in enumerate(wanted):
        for result, got, want in zip(results, contestant.read(contestant.run(i)), truth, strict=False):
            if fault := _fault(np.asarray(got), want):
                raise WrongResultError(f"{label}, input {i}: {result} {fault}")


def _fault(got: Any, want: Any) -> str | None:
    if got.shape != want.shape:
        return f"has shape {got.shape}, not {want.shape}"
    if got.dtype != np.float32:
        return f"is {got.dtype}, not float32"
    error = np.abs(got - want).max() / np.abs(want).max()
    return None if error < TOLERANCE else f"differs from the textbook's by {error:.0e} of its largest entry"
