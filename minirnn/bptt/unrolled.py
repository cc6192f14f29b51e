"""A run of a layer laid open: every state of it, and the way back through any step, for any gradients."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from minirnn.arguments import Array
from minirnn.bptt.steps import Back, Steps
from minirnn.layers.layer import Layer

"""What is refused because it would not fit into memory."""

LARGEST = 1 << 30
"""Bytes that one array of `minirnn.bptt` may take: 1 GiB."""


def fits(size: int, what: str, hint: str) -> None:
    """Refuse what takes more than `LARGEST` bytes: a MemoryError."""
    if size > LARGEST:
        raise MemoryError(f"{what} would take {size:,} bytes, more than {LARGEST:,}: {hint}")


class Unrolled:
    """The states of one run, in the order of processing: k = t, or T−1−t in reverse.

    In a row's padding its state stays what it is, and gradients pass without a change.

    Parameters
    ----------
    layer : Layer
    x : (T, N, D)
        Finite in the padding.
    state : (N, H) each, before the first step
    valid : (T, N) of bool
        Where there is no padding.
    mask : (N, H), by which the h that is fed back is multiplied; None for none
    fresh : bool
        Whether the state is the layer's own, which may have been learned.

    Attributes
    ----------
    states : list of (T + 1, N, H)
        Before step k at k, after the last at T.
    first : (N,) of int
        The first step of each row that is no padding.
    """

    def __init__(
        self, layer: Layer, x: Array, state: Sequence[Array], valid: Array, mask: Array | None, fresh: bool
    ) -> None:
        self.x, self.valid = x, None if valid.all() else valid[..., None]
        self.T, self.N, self.H = len(x), x.shape[1], layer.hidden_size
        self.first = valid.argmax(axis=0)
        self.names = [name for name in ("W_xh", "W_hh", "b_h", "b_hn") if getattr(layer, name, None) is not None]
        self.learned = [f"{name}_0" for name in layer.state_names] if layer.learn_initial_state and fresh else []
        self.states = self._run(layer, state, valid, mask)
        self.steps = Steps(layer, x, self.states, mask)

    def _run(self, layer: Layer, state: Sequence[Array], valid: Array, mask: Array | None) -> list[Array]:
        """Unroll by the layer's kernel. Rows in which padding comes first are moved to the start, and back."""
        if self.valid is None:
            return layer.every_state(self.x, state, mask)
        k, row = np.arange(self.T + 1)[:, None], np.arange(self.N)
        moved = np.minimum(k[:-1] + self.first, self.T - 1)
        with np.errstate(over="ignore", invalid="ignore"):  # what comes after a row's end is not used
            made = layer.every_state(self.x[moved, row], state, mask)
        own = np.clip(k - self.first, 0, valid.sum(axis=0))  # the step of a row's own; in the padding its state stays
        return [s[own, row] for s in made]

    def zeros(self, *around: int) -> list[Array]:
        """Return gradients of a state that are zero, (…, N, H) each."""
        return [np.zeros((*around, *s.shape[1:]), s.dtype) for s in self.states]

    def basis(self) -> list[Array]:
        """Return the S·H unit gradients of a state, (S·H, N, H) each."""
        size = self.H * len(self.states)
        units = self.zeros(size)
        for i in range(size):
            units[i // self.H][i, :, i % self.H] = 1
        return units

    def inside(self, k: Any) -> Array | bool:
        """Return which rows have step k, (…, N, 1); True for all."""
        return True if self.valid is None else self.valid[k]

    def back(self, k: Any, d_state: Sequence[Array]) -> Back:
        """Go back through step k: from the gradients of the state after it, (…, N, H) each, to those before it.

        With K steps at once, an array of them or a slice, the gradients are (K, N, H), one for each.
        """
        found = self.steps.back(k, d_state)
        if self.valid is None or np.all(here := self.valid[k]):
            return found
        dz = np.where(here, found.dz, 0)
        dz_h = dz if found.dz_h is found.dz else np.where(here, found.dz_h, 0)
        return Back(dz, dz_h, [np.where(here, b, d) for b, d in zip(found.before, d_state, strict=True)])

    def fed(self, at: Any = slice(None)) -> list[tuple[slice, Array]]:
        """Return what the blocks of W_hh were multiplied with, at one step or several: (columns, (…, N, H)) each."""
        return self.steps.fed(at)

    def shares(self, back: Back, at: Any = slice(None)) -> dict[str, Array]:
        """Return what a step adds to the gradient of every parameter, or each of several.

        Parameters
        ----------
        back : Back
            What goes back through them: (N, …) for one, (K, N, …) for K of them.
        at : int, or a slice or an array of K steps
        """
        x = self.x[at].swapaxes(-1, -2)
        W_hh = [fed.swapaxes(-1, -2) @ back.dz_h[..., columns] for columns, fed in self.fed(at)]
        found = {"W_xh": x @ back.dz, "W_hh": np.concatenate(W_hh, axis=-1)}
        found |= {"b_h": back.dz.sum(-2), "b_hn": back.dz_h[..., -self.H :].sum(-2)}
        return {name: found[name] for name in self.names} | {
            name: d.sum(-2) for name, d in zip(self.learned, self._begun(back, at), strict=True)
        }

    def total(self, back: Back, at: Any = slice(None)) -> dict[str, Array]:
        """Return the sum of `shares` over K steps, in one product for each parameter."""
        dz, dz_h = rows(back.dz), rows(back.dz_h)
        W_hh = [rows(fed).T @ dz_h[:, columns] for columns, fed in self.fed(at)]
        found = {"W_xh": rows(self.x[at]).T @ dz, "W_hh": np.concatenate(W_hh, axis=1)}
        found |= {"b_h": dz.sum(0), "b_hn": dz_h[:, -self.H :].sum(0)}
        return {name: found[name] for name in self.names} | {
            name: d.sum((0, 1)) for name, d in zip(self.learned, self._begun(back, at), strict=True)
        }

    def _begun(self, back: Back, at: Any) -> list[Array]:
        """Return what arrives at the initial state: what goes back from the first step of each row."""
        begins = (self.first == np.arange(self.T)[at, None])[..., None]
        return [np.where(begins, d, 0) for d in back.before[: len(self.learned)]]


def rows(a: Array) -> Array:
    """Return (K, N, …) as (K·N, …)."""
    return a.reshape(-1, a.shape[-1])
