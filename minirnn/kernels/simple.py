"""Elman's cell on columns (features first, rows of the mini-batch last), and the adaptor for a cell of one's own."""

from collections.abc import Sequence
from contextlib import nullcontext
from functools import partial
from typing import Any

import numpy as np

from minirnn.arguments import Array, describe
from minirnn.kernels.cells import QUIET, Activation, Half, Layout, Pointwise


class Elman(Pointwise):
    """H_t = φ(Z_t)."""

    layout = Layout((0,), (0,))
    slopes_of_output = True

    def __init__(self, activation: Activation) -> None:
        self.activation, self.quiet = activation, QUIET if activation.name == "sigmoid" else nullcontext
        self.Forward = partial(_ElmanForward, activation)
        self.Backward = partial(_ElmanBackward, activation)


class _ElmanForward(Half):
    """φ. The outputs are all that backward needs."""

    def __init__(self, activation: Activation, steps: int, H: int, columns: tuple[int, ...], dtype: Any) -> None:
        self.phi = activation.at((H, *columns), dtype)
        self.steps = [(np.empty((H, *columns), dtype),)] * steps  # one Z for all of them

    def step(self, h: Any, out: Any, arrays: Any) -> None:
        """Write φ(Z) to ``out``."""
        self.phi(arrays[0], out)


class _ElmanBackward(Half):
    """φ′ of S steps at once, and its product with dH at one step."""

    def __init__(self, activation: Activation, steps: int, S: int, H: int, columns: tuple[int, ...], dtype: Any):
        self.activation = activation
        self.local, self.dz = np.empty((S, H, *columns), dtype), np.empty((steps, H, *columns), dtype)
        self.views, self.parts = list(self.local), list(self.dz)

    def slopes(self, saved: Any, lo: int, hi: int, output: Any) -> list[Any]:
        """Make φ′ from the outputs of the steps ``lo`` … ``hi``; return what `step` gets at each."""
        self.activation.slope_into(output, self.local[: hi - lo])
        return self.views[: hi - lo]

    def step(self, dh: Any, dz: Any, slope: Any) -> None:
        """Write dZ = φ′ ⊙ dH."""
        np.multiply(slope, dh, dz)


class Custom(Pointwise):
    """The adaptor of a `minirnn.Cell`: it hands over views with the rows first, and checks what comes back."""

    def __init__(self, cell: Any) -> None:
        gates = tuple(range(cell.blocks))
        self.cell, self.layout, self.extras = cell, Layout(gates, gates), cell.states - 1
        self.Forward = partial(_CustomForward, cell)
        self.Backward = partial(_CustomBackward, cell)

    def make_saved(self, L: int, H: int, columns: tuple[int, ...], dtype: Any) -> list[Any]:
        """Make room for whatever the cell saves at each of L steps."""
        return [None] * L


class _CustomForward(Half):
    """A user's cell, step by step."""

    def __init__(self, cell: Any, steps: int, H: int, columns: tuple[int, ...], dtype: Any) -> None:
        self.cell, self.H = cell, H
        self.carried = [np.empty((steps + 1, H, *columns), dtype) for _ in range(cell.states - 1)]
        self.objects: list[Any] = [None] * steps
        z = np.empty((cell.blocks * H, *columns), dtype)
        self.steps = [(z, [s[k] for s in self.carried], [s[k + 1] for s in self.carried], k) for k in range(steps)]

    def step(self, h: Any, out: Any, arrays: Any) -> None:
        """Hand over copies of Z (N, G·H) and of the states (N, H); write the new states."""
        z, before, after, k = arrays
        method = f"{type(self.cell).__name__}.step"
        given = [_rows(z.copy(), len(z)), *(_rows(s.copy(), self.H) for s in (h, *before))]
        state, self.objects[k] = as_tuple(
            self.cell.step(*given), 2, f"{method}: (new state, saved)", "return (h,), (z, h)"
        )
        made = _checked(state, 1 + len(after), given[1].shape, z.dtype, f"{method}: new state")
        for target, new in zip((out, *after), made, strict=True):
            _rows(target, self.H)[...] = new

    def save(self, saved: Any, lo: int, n: int) -> None:
        """Hand on what the cell saved."""
        saved[lo : lo + n] = self.objects[:n]

    def forget(self) -> None:
        """Let go of what the cell saved, which must not live on in scratch."""
        self.objects[:] = [None] * len(self.objects)


class _CustomBackward(Half):
    """A user's cell, step by step, backward."""

    def __init__(self, cell: Any, steps: int, S: int, H: int, columns: tuple[int, ...], dtype: Any) -> None:
        self.cell, self.H = cell, H
        self.carried = [np.empty((steps + 1, H, *columns), dtype) for _ in range(cell.states - 1)]
        self.dz = np.empty((steps, cell.blocks * H, *columns), dtype)
        self.direct = [np.empty((H, *columns), dtype)] * steps
        self.parts = [
            (dz, [s[k] for s in self.carried], [s[k + 1] for s in self.carried]) for k, dz in enumerate(self.dz)
        ]

    def slopes(self, saved: Any, lo: int, hi: int, output: Any) -> Any:
        """Return the cell's own objects of the steps ``lo`` … ``hi``."""
        return saved[lo:hi]

    def step(self, dh: Any, parts: Any, saved: Any) -> None:
        """Let the cell make dZ and the gradients of the states before; that of H goes past the products."""
        target, made, after = parts
        method, wide = f"{type(self.cell).__name__}.step_backward", len(target)
        d_state = tuple(_rows(d.copy(), self.H) for d in (dh, *after))
        dz, before = as_tuple(
            self.cell.step_backward(d_state, saved), 2, f"{method}: (dz, d_state)", "return dz, (d_h,)"
        )
        shape = d_state[0].shape
        _rows(target, wide)[...] = _checked((dz,), 1, (shape[0], wide), target.dtype, f"{method}: dz")[0]
        arrays = _checked(before, len(d_state), shape, target.dtype, f"{method}: d_state")
        for to, d in zip((self.direct[0], *made), arrays, strict=True):
            _rows(to, self.H)[...] = d


def _rows(a: Array, features: int) -> Array:
    """Return columns (features, N) or (features,) as rows (N, features), a view."""
    return a.reshape(features, -1).T


def as_tuple(arrays: Any, count: int, what: str, example: str = "a comma, as in (h,)") -> Sequence[Any]:
    """Check that what a cell returned is a tuple of so many."""
    if not isinstance(arrays, tuple | list) or len(arrays) != count:
        got = f"{len(arrays)} of them" if isinstance(arrays, tuple | list) else type(arrays).__name__
        raise TypeError(f"{what} must be a tuple of {count}, got {got}: try {example}")
    return arrays


def _checked(arrays: Any, count: int, shape: tuple[int, ...], dtype: Any, what: str) -> Sequence[Any]:
    checked = as_tuple(arrays, count, what)
    for a in checked:
        if getattr(a, "shape", None) != shape or a.dtype != dtype:
            raise ValueError(
                f"{what} must have shape {shape} and dtype {dtype}, got {describe(a)}: a cell works entry by entry"
            )
    return checked
