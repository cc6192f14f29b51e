"""What is computed: the shapes, their arrays, the textbook's results, and the check that every contestant passes."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from minirnn.bench.cells import KINDS, TOLERANCE, Kind


class Shape(NamedTuple):
    """The sizes of a layer and what it reads."""

    N: int
    T: int
    D: int
    H: int

    def __str__(self) -> str:
        return ", ".join(map(str, self))


EIGHT = tuple(
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
SHAPES = (*EIGHT, Shape(4, 100, 3, 16), Shape(16, 100, 3, 16))
OF_CELLS = {"elman": SHAPES, "lstm": EIGHT[:5], "gru": EIGHT[:5]}


class Input(NamedTuple):
    """What changes from call to call.

    Attributes
    ----------
    x : (T, N, D)
    state : tuple of (N, H)
        h0, and for an LSTM c0.
    g : (T, N, H)
        The gradient of the outputs.
    """

    x: Any
    state: tuple[Any, ...]
    g: Any


class Case(NamedTuple):
    """A layer of one shape, and what it reads, all of one dtype.

    Attributes
    ----------
    shape : Shape
    inputs : two, that are taken in turn
    weights : W_xh (D, G·H), W_hh (H, G·H), b_h (G·H,), and for a GRU b_hn (H,)
    cell : a name of `minirnn.bench.cells.KINDS`
    """

    shape: Shape
    inputs: Sequence[Input]
    weights: tuple[Any, ...]
    cell: str = "elman"

    @property
    def kind(self) -> Kind:
        return KINDS[self.cell]

    @property
    def dtype(self) -> str:
        """float32 or float64."""
        return str(self.weights[0].dtype)


class Contestant(NamedTuple):
    """Something to be timed.

    Attributes
    ----------
    run : i -> anything
        One call with input ``i``, 0 or 1: this is what is timed. Some take ``lengths`` (N,) too.
    read : what run returned -> arrays in the textbook's order and orientation
        Not timed; None for one that computes nothing to be compared.
    """

    run: Callable[..., Any]
    read: Callable[[Any], Sequence[Any]] | None


def results_of(cell: str = "elman") -> tuple[str, ...]:
    """Return what a contestant of ``layer`` computes: the textbook's order."""
    kind = KINDS[cell]
    of = ("x", *(f"{letter}0" for letter in kind.states), *kind.weights)
    return "outputs", *(f"the gradient of {name}" for name in of)


def draw(shape: Shape, cell: str = "elman", dtype: str = "float32") -> Case:
    """Return a case; the same at every call."""
    N, T, D, H = shape
    rng = np.random.default_rng(N)

    def normal(scale: float, *sizes: int) -> Any:
        return rng.normal(0.0, scale, sizes).astype(dtype)

    kind = KINDS[cell]
    G = kind.gates
    sizes = {"W_xh": (D, G * H), "W_hh": (H, G * H), "b_h": (G * H,), "b_hn": (H,)}
    scales = {"W_xh": D**-0.5, "W_hh": 0.9 * H**-0.5}
    weights = tuple(normal(scales.get(name, 0.1), *sizes[name]) for name in kind.weights)

    def one() -> Input:
        return Input(normal(1.0, T, N, D), tuple(normal(1.0, N, H) for _ in kind.states), normal(1.0, T, N, H))

    return Case(shape, (one(), one()), weights, cell)


def expected(case: Case, *, gradients: bool = True) -> list[tuple[Any, ...]]:
    """Return for each input what the textbook computes in float64: the outputs, then all gradients if asked for."""
    found = []
    for x, state, g in case.inputs:
        outputs = case.kind.outputs(x, *state, *case.weights)
        backward = case.kind.gradients(x, *state, *case.weights, g) if gradients else ()
        found.append((outputs, *backward))
    return found


class WrongResultError(Exception):
    """A contestant does not compute what the textbook does."""


def check(
    label: str,
    contestant: Contestant,
    wanted: Sequence[Sequence[Any]],
    names: Sequence[str] | None = None,
    dtype: str = "float32",
) -> None:
    """Refuse a contestant whose results are wrong, or not of the dtype of everybody else's.

    Parameters
    ----------
    label : of the contestant
    contestant : Contestant
    wanted : for each input the right results
    names : what the results are called; left out: those of ``layer`` with Elman's cell
    dtype : what they must be

    Raises
    ------
    WrongResultError
        Naming the contestant, the input, the result and by how much it is off.
    """
    if contestant.read is None:
        return
    for i, truth in enumerate(wanted):
        compare(f"{label}, input {i}", contestant.read(contestant.run(i)), truth, names or results_of(), dtype)


def compare(
    label: str, got: Sequence[Any], wanted: Sequence[Any], names: Sequence[str], dtype: str = "float32"
) -> None:
    """Refuse results that are wrong, or of another dtype: see `check`."""
    for name, ours, truth in zip(names, got, wanted, strict=False):
        if fault := _fault(np.asarray(ours), truth, dtype):
            raise WrongResultError(f"{label}: {name} {fault}")


def _fault(got: Any, want: Any, dtype: str) -> str | None:
    if got.shape != want.shape:
        return f"has shape {got.shape}, not {want.shape}"
    if got.dtype != dtype:
        return f"is {got.dtype}, not {dtype}"
    error = np.abs(got - want).max() / np.abs(want).max()
    return None if error < TOLERANCE[dtype] else f"differs from the textbook's by {error:.0e} of its largest entry"
