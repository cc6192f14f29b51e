"""Elman's cell on columns (features first, rows of the mini-batch last), and the adaptor for a cell of one's own."""

from collections.abc import Iterable, Sequence
from typing import Any, cast

import numpy as np

from minirnn.arguments import Array
from minirnn.kernels import elman
from minirnn.kernels.cells import Activation
from minirnn.kernels.layout import Half, Layout, Pointwise


class Elman(Pointwise):
    """H_t = φ(Z_t)."""

    layout = Layout((0,), (0,))
    slopes_of_output = True
    whole = elman

    def __init__(self, activation: Activation) -> None:
        self.activation = activation

    def keep(self, L: int, H: int, columns: tuple[int, ...], dtype: Any) -> Any:
        """Return scratch for one Z; the outputs are all that backward needs."""
        return [], np.empty((H, *columns), dtype)

    def steps(self, kept: Any, lo: int, hi: int) -> Iterable[tuple[Any, ...]]:
        """Return the same Z for each step."""
        return [(kept[1],)] * (hi - lo)

    def Forward(self, H: int, columns: tuple[int, ...], dtype: Any) -> "ElmanForward":
        """Return the pointwise half of a step."""
        return ElmanForward(self.activation.at((H, *columns), dtype))

    def Backward(self, S: int, H: int, columns: tuple[int, ...], dtype: Any) -> "ElmanBackward":
        """Return the pointwise half of a step backward."""
        return ElmanBackward(self.activation, S, H, columns, dtype)


class ElmanForward(Half):
    """φ."""

    def __init__(self, phi: Any) -> None:
        self.phi = phi

    def step(self, h: Any, out: Any, arrays: Any) -> None:
        """Write φ(Z) to ``out``."""
        self.phi(arrays[0], out)


class ElmanBackward(Half):
    """φ′ of a few steps at once, and its product with dH at one step."""

    def __init__(self, activation: Activation, S: int, H: int, columns: tuple[int, ...], dtype: Any) -> None:
        self.activation = activation
        self.local = np.empty((S, H, *columns), dtype)
        self.views = list(self.local)

    def slopes(self, kept: Any, lo: int, hi: int, output: Any) -> list[Any]:
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

    def keep(self, L: int, H: int, columns: tuple[int, ...], dtype: Any) -> Any:
        """Return what forward fills for L steps: the states but for H, and whatever the cell keeps; Z is scratch."""
        states = [np.empty((L + 1, H, *columns), dtype) for _ in range(self.extras)]
        return states, np.empty((self.layout.blocks * H, *columns), dtype), [None] * L

    def steps(self, kept: Any, lo: int, hi: int) -> Iterable[tuple[Any, ...]]:
        """Return what `CustomForward.step` gets at each step, Z first."""
        states, z, objects = kept
        return [(z, [s[k] for s in states], [s[k + 1] for s in states], objects, k) for k in range(lo, hi)]

    def Forward(self, H: int, columns: tuple[int, ...], dtype: Any) -> "CustomForward":
        """Return the pointwise half of a step."""
        return CustomForward(self.cell, H)

    def Backward(self, S: int, H: int, columns: tuple[int, ...], dtype: Any) -> "CustomBackward":
        """Return the pointwise half of a step backward."""
        return CustomBackward(self.cell, H, columns, dtype)


class CustomForward(Half):
    """One step of a user's cell."""

    def __init__(self, cell: Any, H: int) -> None:
        self.cell, self.H = cell, H

    def step(self, h: Any, out: Any, arrays: Any) -> None:
        """Hand over copies of Z (N, G·H) and of the states (N, H); write the new states."""
        z, before, after, objects, k = arrays
        name = type(self.cell).__name__
        given = [_rows(z.copy(), len(z)), *(_rows(s.copy(), self.H) for s in (h, *before))]
        answer = self.cell.step(*given)
        state, objects[k] = _pair(answer, f"{name}.step", "(new state, kept)", "(h,), (z, h)")
        made = _checked(state, 1 + len(after), given[1].shape, z.dtype, f"{name}.step: new state")
        for target, new in zip((out, *after), made, strict=True):
            _rows(target, self.H)[...] = new


class CustomBackward(Half):
    """One step of a user's cell backward."""

    def __init__(self, cell: Any, H: int, columns: tuple[int, ...], dtype: Any) -> None:
        self.cell, self.H = cell, H
        self.direct = np.empty((H, *columns), dtype)
        self.extras = [np.empty((H, *columns), dtype) for _ in range(cell.states - 1)]

    def slopes(self, kept: Any, lo: int, hi: int, output: Any) -> list[Any]:
        """Return what the cell kept at the steps ``lo`` … ``hi``."""
        return cast(list[Any], kept[2][lo:hi])

    def step(self, dh: Any, target: Any, kept: Any) -> None:
        """Let the cell make dZ and the gradients of the states before; that of H goes past the products."""
        name, H = type(self.cell).__name__, self.H
        d_state = tuple(_rows(d.copy(), H) for d in (dh, *self.extras))
        answer = self.cell.step_backward(d_state, kept)
        dz, before = _pair(answer, f"{name}.step_backward", "(dz, d_state)", "dz, (d_h,)")
        shape, wide = d_state[0].shape, len(target)
        _rows(target, wide)[...] = _checked((dz,), 1, (shape[0], wide), target.dtype, f"{name}.step_backward: dz")[0]
        arrays = _checked(before, len(d_state), shape, target.dtype, f"{name}.step_backward: d_state")
        for to, d in zip((self.direct, *self.extras), arrays, strict=True):
            _rows(to, H)[...] = d


def _rows(a: Array, features: int) -> Array:
    """Return columns (features, N) or (features,) as rows (N, features), a view."""
    return a.reshape(features, -1).T


def _pair(answer: Any, method: str, expected: str, hint: str) -> tuple[Any, Any]:
    if not isinstance(answer, tuple) or len(answer) != 2:
        raise TypeError(f"{method} must return {expected}, got {type(answer).__name__}: try return {hint}")
    return answer


def _checked(arrays: Any, count: int, shape: tuple[int, ...], dtype: Any, what: str) -> Sequence[Any]:
    if not isinstance(arrays, tuple | list) or len(arrays) != count:
        got = f"{len(arrays)} of them" if isinstance(arrays, tuple | list) else type(arrays).__name__
        raise TypeError(
            f"{what} must be a tuple of {count} array{'s' * (count > 1)}, got {got}: try a comma, as in (h,)"
        )
    for a in arrays:
        if getattr(a, "shape", None) != shape or a.dtype != dtype:
            got = f"{getattr(a, 'shape', type(a).__name__)} {getattr(a, 'dtype', '')}".strip()
            raise ValueError(
                f"{what} must have shape {shape} and dtype {dtype}, got {got}: a cell works entry by entry"
            )
    return arrays
