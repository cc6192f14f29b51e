"""What is timed: a layer of some shape that reads two inputs in turn, held against the textbook first.

`KINDS` are the layers by the name of their cell, with what the textbook says of each. At the end: numbers as text.
"""

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from minirnn import textbook
from minirnn.autograd.modes import no_grad
from minirnn.autograd.tensor import Tensor
from minirnn.layers import GRULayer, LSTMLayer, RecurrentLayer
from minirnn.optim import Adam, clip_grad_norm

CHECKED = 2_000
"""Steps at most that are held against the textbook before a shape is timed: in Python, each takes tens of µs."""


class Shape(NamedTuple):
    """A mini-batch of N sequences of T steps with D inputs, and a layer of H hidden neurons."""

    N: int
    T: int
    D: int
    H: int

    def __str__(self) -> str:
        return ",".join(map(str, self))

    def flops(self, gates: int = 1) -> int:
        """Count forward's operations, 2·T·N·G·H·(D + H): the multiplications and additions of its matrix products.

        Backward has twice as many: for each product of forward one for either factor's gradient.
        """
        return 2 * self.T * self.N * gates * self.H * (self.D + self.H)


def vary(
    letter: str,
    base: Shape,
    usual: Sequence[int],
    shapes: Sequence[Shape],
    sweeps: Mapping[str, Sequence[int]],
    quarters: Sequence[int],
) -> list[list[Shape]]:
    """Give the size ``letter`` of each shape several values, and leave the others.

    They are those that ``sweeps`` asks for; else of the ``base`` the ``usual`` ones, and of ``shapes``, which take the
    place of the base, so many ``quarters`` of their own.
    """

    def sizes(shape: Shape) -> Sequence[int]:
        around = sorted({max(1, getattr(shape, letter) * k // 4) for k in quarters})
        return sweeps.get(letter, around if shapes else usual)

    return [[shape._replace(**{letter: size}) for size in sizes(shape)] for shape in shapes or [base]]


# --- layers -----------------------------------------------------------------------------------------------------------

TOLERANCE = {"float32": 1e-4, "float64": 1e-10}
"""The largest error, as a part of the largest entry: what rounding leaves after `CHECKED` steps, and a margin."""


class Kind(NamedTuple):
    """A kind of layer, and the textbook's functions for it, in float64."""

    layer: type[RecurrentLayer] | type[LSTMLayer] | type[GRULayer]
    gates: int  # G
    states: tuple[str, ...]  # the names of a state's arrays (N, H)
    weights: tuple[str, ...]  # the names of its Parameters, in order
    outputs: Callable[..., Any]  # (x, *state, *weights) -> array (T, N, H)
    gradients: Callable[..., tuple[Any, ...]]
    """(x, *state, *weights, gradient of the outputs) -> gradients of x, of each state and of each weight."""


KINDS = {
    "elman": Kind(
        RecurrentLayer,
        1,
        ("h",),
        ("W_xh", "W_hh", "b_h"),
        partial(textbook.unroll, textbook.layer_step_batch),
        textbook.unroll_backward,
    ),
    "lstm": Kind(
        LSTMLayer,
        4,
        ("h", "c"),
        ("W_xh", "W_hh", "b_h"),
        lambda *arrays: textbook.unroll_lstm(*arrays)[0],
        textbook.unroll_lstm_backward,
    ),
    "gru": Kind(
        GRULayer, 3, ("h",), ("W_xh", "W_hh", "b_h", "b_hn"), textbook.unroll_gru, textbook.unroll_gru_backward
    ),
}


class UnequalResultsError(ArithmeticError):
    """A contestant does not compute what the textbook does, so it is not timed."""


class Trial:
    """A layer, two inputs (T, N, D) in turn, and the gradient (T, N, H) of its outputs; the same at every call.

    `forward`, `backward` and `update`, in this order, are one step of a training whose loss costs nothing. ``cell`` is
    a name of `KINDS`; ``settings`` are those of the layer.
    """

    def __init__(self, shape: Shape, dtype: str, cell: str = "elman", **settings: Any) -> None:
        N, T, D, H = shape
        rng = np.random.default_rng(N)

        def draw(*sizes: int) -> Any:
            return rng.standard_normal(sizes, np.dtype(dtype).type)

        self.shape, self.dtype, self.kind = shape, dtype, KINDS[cell]
        self.layer = self.kind.layer(D, H, dtype=dtype, rng=rng, **settings)
        for bias in self.layer.parameters()[2:]:
            bias.data = 0.1 * draw(*bias.shape)
        self.inputs = [Tensor(draw(T, N, D), requires_grad=True) for _ in range(2)]
        self.gradient = draw(T, N, H)
        self._in_turn = itertools.cycle(self.inputs)
        self._outputs: Any = None  # of the last `forward`
        self._adam = Adam(self.layer.parameters(), lr=1e-4)

    @property
    def weights(self) -> list[Any]:
        """W_xh (D, G·H), W_hh (H, G·H), b_h (G·H,), and of a GRU b_hn (H,)."""
        return [p.data for p in self.layer.parameters()]

    def infer(self) -> Any:
        """Go forward, and save nothing for a gradient; return the outputs."""
        with no_grad():
            return self.layer(next(self._in_turn)).outputs.data

    def forward(self) -> None:
        """Go forward, and save what `backward` needs."""
        x = next(self._in_turn)
        x.grad = None
        self._outputs = self.layer(x).outputs

    def backward(self) -> None:
        """Go back to the gradients of the input and of every Parameter; each `forward` allows one."""
        outputs, self._outputs = self._outputs, None
        outputs.backward(self.gradient)

    def both_ways(self) -> None:
        """Go forward and back."""
        self.layer.zero_grad()
        self.forward()
        self.backward()

    def update(self) -> None:
        """Clip the gradients, make a step of Adam, and clear them; each `backward` allows one."""
        clip_grad_norm(self.layer.parameters(), 1.0)
        self._adam.step()
        self._adam.zero_grad()

    def check(self, name: str) -> None:
        """Hold outputs and all gradients against the textbook's, on both inputs, over `CHECKED` steps at most.

        UnequalResultsError names the contestant, what differs and by how much.
        """
        gradient, states = self.gradient[:CHECKED], self._zeros()
        for whole in self.inputs:
            x = Tensor(whole.data[:CHECKED], requires_grad=True)
            self.layer.zero_grad()
            outputs = self.layer(x).outputs
            outputs.backward(gradient)
            expected = self.kind.gradients(x.data, *states, *self.weights, gradient)
            equal(name, "outputs", outputs.data, self.by_the_book(x.data), self.dtype)
            equal(name, "gradient of x", x.grad, expected[0], self.dtype)
            for p, want in zip(self.layer.parameters(), expected[1 + len(states) :], strict=True):
                equal(name, f"gradient of {p.name}", p.grad, want, self.dtype)
        self.layer.zero_grad()

    def by_the_book(self, x: Any) -> Any:
        """Compute the textbook's outputs for x, in float64."""
        return self.kind.outputs(x, *self._zeros(), *self.weights)

    def _zeros(self) -> list[Any]:
        return [np.zeros((self.shape.N, self.shape.H)) for _ in self.kind.states]


def equal(name: str, what: str, got: Any, expected: Any, dtype: str) -> None:
    """Raise UnequalResultsError unless ``got`` is what the textbook gives, but for what rounding leaves of it."""
    scale = np.abs(expected).max() or 1.0
    error = np.abs(got - expected).max() / scale if np.shape(got) == expected.shape else np.inf
    if not error <= TOLERANCE[dtype]:
        raise UnequalResultsError(
            f"bench: {name}: {what} must be the textbook's, to {TOLERANCE[dtype]:.0e} of the largest entry in {dtype}, "
            f"got a difference of {error:.0e}: it is not timed; please report this, with the command"
        )


# --- numbers as text --------------------------------------------------------------------------------------------------


def bytes_text(number: float) -> str:
    """Write bytes with three digits and a decimal unit: 12.3 MB."""
    power = min(5, int(math.log10(max(1, number) * 1.0005)) // 3)
    return f"{three_digits(number / 1000**power)} {('B', 'kB', 'MB', 'GB', 'TB', 'PB')[power]}"


def seconds_text(seconds: float) -> str:
    """Write a time with three digits: 1.23 µs, 12.3 ms, 1.23 s."""
    factor, unit = (1e6, "µs") if seconds < 999.5e-6 else (1e3, "ms") if seconds < 0.9995 else (1, "s")
    return f"{three_digits(factor * seconds)} {unit}"


def three_digits(number: float) -> str:
    """Write a number ≥ 0 with three digits at least: 1.23, 12.3, 123, 12,345."""
    decimals = 2 if number < 9.995 else 1 if number < 99.95 else 0
    return f"{number:,.{decimals}f}"
