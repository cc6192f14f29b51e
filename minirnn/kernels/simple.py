"""Elman's cell on columns (features first, rows of the mini-batch last), and the adaptor for a cell of one's own."""

from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any

import numpy as np

from minirnn.arguments import Array, describe
from minirnn.kernels.cells import Activation, Half, Layout, Pointwise


class Elman(Pointwise):
    """H_t = φ(Z_t)."""

    layout = Layout((0,), (0,))
    slopes_of_output = True

    def __init__(self, activation: Activation) -> None:
        self.activation = activation
        self.Forward = partial(_ElmanForward, activation)
        self.Backward = partial(_ElmanBackward, activation)

    def make_buffers(self, L: int, H: int, columns: tuple[int, ...], dtype: Any) -> Any:
        """Allocate scratch for one Z; the outputs are all that backward needs."""
        return [], np.empty((H, *columns), dtype)

    def steps(self, saved: Any, lo: int, hi: int) -> Iterable[tuple[Any, ...]]:
        """Return the same Z for each step."""
        return [(saved[1],)] * (hi - lo)


class _ElmanForward(Half):
    """φ."""

    def __init__(self, activation: Activation, H: int, columns: tuple[int, ...], dtype: Any) -> None:
        self.phi = activation.at((H, *columns), dtype)

    def step(self, h: Any, out: Any, arrays: Any) -> None:
        """Write φ(Z) to ``out``."""
        self.phi(arrays[0], out)


class _ElmanBackward(Half):
    """φ′ of a few steps at once, and its product with dH at one step."""

    def __init__(self, activation: Activation, S: int, H: int, columns: tuple[int, ...], dtype: Any) -> None:
        self.activation = activation
        self.local = np.empty((S, H, *columns), dtype)
        self.views = list(self.local)

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

    def make_buffers(self, L: int, H: int, columns: tuple[int, ...], dtype: Any) -> Any:
        """Allocate for L steps: the states but for H, a Z that is scratch, and a list for whatever the cell saves."""
        states = [np.empty((L + 1, H, *columns), dtype) for _ in range(self.extras)]
        return states, np.empty((self.layout.blocks * H, *columns), dtype), [None] * L

    def steps(self, saved: Any, lo: int, hi: int) -> Iterable[tuple[Any, ...]]:
        """Slice the buffers for each step: Z, the states before it and after it, and where to put what is saved."""
        states, z, objects = saved
        return [(z, [s[k] for s in states], [s[k + 1] for s in states], objects, k) for k in range(lo, hi)]


class _CustomForward(Half):
    """One step of a user's cell."""

    def __init__(self, cell: Any, H: int, columns: tuple[int, ...], dtype: Any) -> None:
        self.cell, self.H = cell, H

    def step(self, h: Any, out: Any, arrays: Any) -> None:
        """Hand over copies of Z (N, G·H) and of the states (N, H); write the new states."""
        z, before, after, objects, k = arrays
        method = f"{type(self.cell).__name__}.step"
        given = [_rows(z.copy(), len(z)), *(_rows(s.copy(), self.H) for s in (h, *before))]
        state, objects[k] = as_tuple(self.cell.step(*given), 2, f"{method}: (new state, saved)", "return (h,), (z, h)")
        made = _checked(state, 1 + len(after), given[1].shape, z.dtype, f"{method}: new state")
        for target, new in zip((out, *after), made, strict=True):
            _rows(target, self.H)[...] = new


class _CustomBackward(Half):
    """One step of a user's cell backward."""

    def __init__(self, cell: Any, S: int, H: int, columns: tuple[int, ...], dtype: Any) -> None:
        self.cell, self.H = cell, H
        self.direct = np.empty((H, *columns), dtype)
        self.extras = [np.empty((H, *columns), dtype) for _ in range(cell.states - 1)]

    def slopes(self, saved: Any, lo: int, hi: int, output: Any) -> Any:
        """Return the cell's own objects of the steps ``lo`` … ``hi``."""
        return saved[2][lo:hi]

    def step(self, dh: Any, target: Any, saved: Any) -> None:
        """Let the cell make dZ and the gradients of the states before; that of H goes past the products."""
        method, wide = f"{type(self.cell).__name__}.step_backward", len(target)
        d_state = tuple(_rows(d.copy(), self.H) for d in (dh, *self.extras))
        dz, before = as_tuple(
            self.cell.step_backward(d_state, saved), 2, f"{method}: (dz, d_state)", "return dz, (d_h,)"
        )
        shape = d_state[0].shape
        _rows(target, wide)[...] = _checked((dz,), 1, (shape[0], wide), target.dtype, f"{method}: dz")[0]
        arrays = _checked(before, len(d_state), shape, target.dtype, f"{method}: d_state")
        for to, d in zip((self.direct, *self.extras), arrays, strict=True):
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
