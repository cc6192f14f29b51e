"""What a cell does entry by entry, between the matrix products, and what it says of itself to the unroll.

The activations φ stand here with their derivatives; then what `kernels.columns` asks of a cell.
"""

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from minirnn.arguments import Array

Into = Callable[[Array, Array], Any]
"""A pointwise function (a, out): it reads a, writes out, which may be a itself, and allocates nothing of their size."""


class Activation(NamedTuple):
    """A pair of pointwise functions, as they are written, and as the unroll runs them at every step."""

    name: str
    apply: Callable[[Array], Array]  # φ: pre-activations Z → an array of the same shape and dtype
    derivative: Callable[[Any], Any]  # φ′ expressed through φ's output Y = φ(Z): φ′(Y) = ∂Y/∂Z
    # What makes φ for arrays of one shape, and φ′; without them the unroll copies what the two above return.
    prepare: Callable[[tuple[int, ...], npt.DTypeLike], Into] | None = None
    slope: Into | None = None

    def at(self, shape: tuple[int, ...], dtype: npt.DTypeLike) -> Into:
        """Return φ as a function (z, out) for arrays of the shape given."""
        return partial(_copied, self.apply) if self.prepare is None else self.prepare(shape, dtype)

    def slope_into(self, y: Array, out: Array) -> None:
        """Write φ′(y) to ``out``."""
        if self.slope is None:
            np.copyto(out, self.derivative(y))
        else:
            self.slope(y, out)

    def __reduce__(self) -> Any:
        """Pickle a built-in one by its name, so that a copy is the same object; another one as its functions."""
        return (_of_name, (self.name,)) if ACTIVATIONS.get(self.name) is self else (Activation, tuple(self))


def _of_name(name: str) -> Activation:
    return ACTIVATIONS[name]


def _copied(phi: Callable[[Array], Array], z: Array, out: Array) -> None:
    np.copyto(out, phi(z))


def tanh_slope(y: Array, out: Array) -> None:
    """Write tanh′ = 1 − tanh²."""
    np.multiply(y, y, out)
    np.subtract(1.0, out, out)  # 1.0 and not 1, which numpy would first have to turn into a float


QUIET = partial(np.errstate, over="ignore", under="ignore")  # the context for σ: where e^−z overflows, 0 is right


def sigmoid(z: Array) -> Any:
    """Return σ(z) = 1 / (1 + e^−z), right in its last digits below 0 too, where ½ + ½ tanh(z/2) would cancel."""
    with QUIET():
        return 1.0 / (1.0 + np.exp(-z))


def _sigmoid_into(one: Array, z: Array, out: Array) -> None:
    np.negative(z, out)
    np.exp(out, out)
    np.add(out, one, out)
    np.reciprocal(out, out)


def sigmoid_slope(y: Array, out: Array) -> None:
    """Write σ′ = σ − σ²."""
    np.multiply(y, y, out)
    np.subtract(y, out, out)


def _relu_into(zeros: Array, z: Array, out: Array) -> None:
    np.maximum(z, zeros, out=out)


ACTIVATIONS = {
    activation.name: activation
    for activation in (
        Activation("tanh", np.tanh, lambda y: 1.0 - y * y, lambda shape, dtype: np.tanh, tanh_slope),
        Activation(
            "relu",
            lambda z: np.maximum(z, 0),
            lambda y: (y != 0).astype(y.dtype),  # y ≥ 0, or NaN, which is let through
            # With zeros in the array's own shape np.maximum is up to four times as fast as with the number 0.
            lambda shape, dtype: partial(_relu_into, np.zeros(shape, dtype)),
            lambda y, out: np.copyto(out, y != 0),
        ),
        Activation(
            "sigmoid",
            sigmoid,
            lambda y: y * (1.0 - y),
            lambda shape, dtype: partial(_sigmoid_into, np.ones((), dtype)),
            sigmoid_slope,
        ),
        Activation(
            "identity",
            lambda z: z,
            lambda y: np.ones_like(y),
            lambda shape, dtype: np.positive,
            lambda y, out: out.fill(1),
        ),
    )
}


# --- what the unroll asks of a cell -----------------------------------------------------------------------------------


class Layout:
    """Which pre-activations a cell gets, and in what order: blocks of H, each from x and 1, from h, or from both.

    The x side of the gates ``x`` goes to the blocks 0, 1, …; the h side of the gates ``h`` to the blocks ``start``,
    ``start`` + 1, …. So many blocks from ``start`` on as ``negated`` says come as −z, since σ(z) = 1 / (1 + e^−z).
    ``stage`` is a gate whose h side is a product with what the cell makes of h, added to block 0.
    """

    def __init__(
        self, x: tuple[int, ...], h: tuple[int, ...], start: int = 0, negated: int = 0, stage: int | None = None
    ) -> None:
        self.x, self.h = x, h
        self.start, self.negated, self.stage = start, negated, stage
        self.blocks = max(len(x), start + len(h))  # R, how many there are
        self.whole = len(x) == len(h) == self.blocks  # whether every block has both sides

    def slice_x(self, H: int) -> slice:
        """Return where the blocks with an x side stand in Z."""
        return slice(0, len(self.x) * H)

    def slice_h(self, H: int) -> slice:
        """Return where the blocks with an h side stand in Z."""
        return slice(self.start * H, (self.start + len(self.h)) * H)


class Pointwise:
    """What a cell between the products says of itself, unless it says otherwise."""

    layout: Layout
    extras = 0  # how many arrays its state has beside h
    saves = 0  # how many arrays (H, N) backward needs of each step, beside the outputs
    slopes_of_output = False  # whether its derivatives are made of the outputs
    quiet: Any = nullcontext  # makes the context in which it is run

    def make_saved(self, L: int, H: int, columns: tuple[int, ...], dtype: Any) -> Any:
        """Allocate what backward needs of L steps, beside the outputs."""
        return np.empty((L, self.saves, H, *columns), dtype)


class Half:
    """The cell forward or back, with scratch for some steps, unless it says otherwise.

    ``steps``, forward, has the arrays of each step, Z first; ``parts``, backward, what `step` writes to at each, and
    ``dz`` (steps, blocks·H, …) the dZ among it. Of ``carried``, the states beside h, (steps + 1, H, …) each, those
    before step k are at k; backward their gradients.
    """

    carried: Sequence[Array] = ()
    stage: Any = None  # what makes the operand of a product of its own
    direct: Any = None  # backward: for each step what of dH goes to the step before past the products

    def save(self, saved: Any, lo: int, n: int) -> None:
        """Write what backward needs of the first ``n`` steps to those from ``lo`` on."""

    def forget(self) -> None:
        """Let go of what must not live on in scratch."""


def rows_first(a: Array, N: int) -> Array:
    """Return columns (steps, features, N), or without the last axis for N = 1, as (steps, N, features), a view."""
    return a.reshape(len(a), -1, N).swapaxes(1, 2)


def flat(a: Array) -> Array:
    """Return (steps, blocks, H, …) as (steps, blocks·H, …), a view."""
    return a.reshape(len(a), -1, *a.shape[3:])
