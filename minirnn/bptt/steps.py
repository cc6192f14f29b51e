"""What a cell does at one step, and the linear map back through it: the numbers that `minirnn.bptt` looks at.

Once the states are known, going back through a step is linear in the gradient of its new state. `Steps` makes the
coefficients of that map for all steps at once; `Steps.back` applies it to any number of gradients side by side, which
is what Jacobians, credit and truncation are made of.

All arrays are in the order of processing, k = 0 … T−1. Shapes: T steps, N rows, D inputs, H hidden neurons, G gates,
and … for any number of gradients.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from minirnn.arguments import Array
from minirnn.kernels.cells import ACTIVATIONS, Activation
from minirnn.layers import GRULayer, LSTMLayer, RecurrentLayer
from minirnn.layers.cell import Cell
from minirnn.layers.layer import Layer

_sigmoid, _sigmoid_slope = ACTIVATIONS["sigmoid"].apply, ACTIVATIONS["sigmoid"].derivative
_tanh_slope = ACTIVATIONS["tanh"].derivative
STEEPEST = {"tanh": 1.0, "relu": 1.0, "sigmoid": 0.25, "identity": 1.0}
"""The largest slope φ′ of each activation."""


class Back(NamedTuple):
    """What goes back through a step.

    Attributes
    ----------
    dz : (…, N, G·H)
        ∂L/∂ what X_t W_xh + b_h is added to.
    dz_h : (…, N, G·H)
        ∂L/∂ the recurrent product; the same array, but for a GRU.
    before : list of (…, N, H)
        ∂L/∂ the state before the step.
    """

    dz: Array
    dz_h: Array
    before: list[Array]


class Steps:
    """All steps of one run of a layer.

    Attributes
    ----------
    gates : tuple of str
        What the G blocks are called.
    bounds : tuple of float or None
        The largest slope φ′ of each gate's activation; None where it is not known.
    pre : (T, N, G·H)
        The pre-activations: what the activations are applied to. The recurrent part is added step by step.
    slopes : (T, N, G·H)
        φ′ of each, after `linearise`.
    """

    gates: tuple[str, ...] = ("h",)
    bounds: tuple[float | None, ...] = (None,)
    slopes: Array

    def __init__(self, layer: Layer, x: Array, mask: Array | None) -> None:
        self.W_xh, self.W_hh = layer.W_xh.data.copy(), layer.W_hh.data.copy()
        self.b_h = None if layer.b_h is None else layer.b_h.data.copy()
        self.W_back = np.ascontiguousarray(self.W_hh.T)
        self.H, self.mask = layer.hidden_size, mask
        self.pre = product(x, self.W_xh)
        if self.b_h is not None:
            self.pre += self.b_h

    def feed(self, h: Array) -> Array:
        """Return what W_hh is multiplied with: H_{t-1}, under the mask of recurrent_dropout if there is one."""
        return h if self.mask is None else h * self.mask

    def step(self, k: int, state: Sequence[Array], out: Sequence[Array]) -> None:
        """Process step k: write the new state, (N, H) each, to ``out``."""
        raise NotImplementedError

    def linearise(self, before: Sequence[Array], after: Sequence[Array]) -> None:
        """Make the coefficients of `back` from the states before and after all steps, (T, N, H) each."""
        raise NotImplementedError

    def back(self, k: Any, d_state: Sequence[Array]) -> Back:
        """Go back through step k from the gradients of the state after it, (…, N, H) each.

        Or through K steps at once, an array of them or a slice, each from a gradient of its own: (K, N, H) each.
        """
        raise NotImplementedError

    def fed(self, before: Array, at: Any = slice(None)) -> list[tuple[slice, Array]]:
        """Return what the blocks of W_hh were multiplied with at some steps: (columns of W_hh, array) each.

        ``before`` is the H_{t-1} of these steps, (T, N, H) for all of them or (N, H) for one.
        """
        return [(slice(None), self.feed(before))]

    def through(self, dz_h: Array, columns: slice = slice(None)) -> Array:
        """Return what goes back through the recurrent product to H_{t-1}, (…, N, H)."""
        d = product(dz_h, self.W_back[columns])
        return d if self.mask is None else d * self.mask


class ElmanSteps(Steps):
    """H_t = φ(Z_t) with Z_t = X_t W_xh + H_{t-1} W_hh + b_h; back: dZ_t = dH_t ⊙ φ′(H_t)."""

    def __init__(self, layer: RecurrentLayer, x: Array, mask: Array | None) -> None:
        super().__init__(layer, x, mask)
        self.activation: Activation = layer.activation
        self.bounds = (STEEPEST.get(self.activation.name),)
        self.phi = self.activation.at((x.shape[1], self.H), self.pre.dtype)

    def step(self, k: int, state: Sequence[Array], out: Sequence[Array]) -> None:
        """Process step k."""
        z = self.pre[k]
        z += self.feed(state[0]).dot(self.W_hh)
        self.phi(z, out[0])

    def linearise(self, before: Sequence[Array], after: Sequence[Array]) -> None:
        """Make φ′(H_t)."""
        self.slopes = np.empty_like(self.pre)
        self.activation.slope_into(after[0], self.slopes)

    def back(self, k: Any, d_state: Sequence[Array]) -> Back:
        """Go back through step k."""
        dz = d_state[0] * self.slopes[k]
        return Back(dz, dz, [self.through(dz)])


class LSTMSteps(Steps):
    """C_t = f ⊙ C_{t-1} + i ⊙ g, H_t = o ⊙ tanh(C_t), of the gates i, f, g, o."""

    gates = ("i", "f", "g", "o")
    bounds = (0.25, 0.25, 1.0, 0.25)

    def __init__(self, layer: LSTMLayer, x: Array, mask: Array | None) -> None:
        super().__init__(layer, x, mask)
        self.values = np.empty_like(self.pre)  # i, f, g, o after their activations
        self.shown = np.empty((*self.pre.shape[:2], self.H), self.pre.dtype)  # tanh(C_t)
        self.sigmoid = ACTIVATIONS["sigmoid"].at(self.pre.shape[1:], self.pre.dtype)

    def step(self, k: int, state: Sequence[Array], out: Sequence[Array]) -> None:
        """Process step k."""
        H, z, gates, (h, c) = self.H, self.pre[k], self.values[k], out
        z += self.feed(state[0]).dot(self.W_hh)
        self.sigmoid(z, gates)
        i, f, g, o = blocks(gates, H)
        np.tanh(z[:, 2 * H : 3 * H], out=g)
        np.multiply(f, state[1], out=c)
        c += i * g
        np.multiply(o, np.tanh(c, out=self.shown[k]), out=h)

    def linearise(self, before: Sequence[Array], after: Sequence[Array]) -> None:
        """Make ∂C/∂Z of i, f and g, ∂H/∂Z_o, and ∂H/∂C."""
        H = self.H
        i, f, g, o = blocks(self.values, H)
        self.slopes = _sigmoid_slope(self.values)
        self.slopes[..., 2 * H : 3 * H] = _tanh_slope(g)
        self.local = self.slopes * np.concatenate([g, before[1], i, self.shown], axis=-1)
        self.into_c, self.keep = o * _tanh_slope(self.shown), f

    def total_c(self, k: Any, d_state: Sequence[Array]) -> Array:
        """Return ∂L/∂C_t: what C_t passes on, and what it shows in H_t."""
        total: Array = d_state[1] + d_state[0] * self.into_c[k]
        return total

    def back(self, k: Any, d_state: Sequence[Array]) -> Back:
        """Go back through step k."""
        dc = self.total_c(k, d_state)
        dz = np.concatenate([dc, dc, dc, d_state[0]], axis=-1)
        dz *= self.local[k]
        return Back(dz, dz, [self.through(dz), dc * self.keep[k]])


class GRUSteps(Steps):
    """H_t = (1 − z) ⊙ n + z ⊙ H_{t-1}, of the gates r, z, n; r goes over the recurrent product of n, or before it."""

    gates = ("r", "z", "n")
    bounds = (0.25, 0.25, 1.0)

    def __init__(self, layer: GRULayer, x: Array, mask: Array | None) -> None:
        super().__init__(layer, x, mask)
        self.after = layer.reset_after
        self.b_hn = None if layer.b_hn is None else layer.b_hn.data.copy()
        self.values = np.empty_like(self.pre)  # r, z, n after their activations
        self.recurrent = np.empty((*self.pre.shape[:2], self.H), self.pre.dtype)  # q, the recurrent product of n

    def step(self, k: int, state: Sequence[Array], out: Sequence[Array]) -> None:
        """Process step k."""
        H, a, q = self.H, self.pre[k], self.recurrent[k]
        fed, of_gates, of_n = self.feed(state[0]), slice(2 * self.H), slice(2 * self.H, None)
        r, z, n = blocks(self.values[k], H)
        a[:, of_gates] += fed @ self.W_hh[:, of_gates]
        self.values[k][:, of_gates] = _sigmoid(a[:, of_gates])
        if self.after:
            q[...] = fed @ self.W_hh[:, of_n]
            if self.b_hn is not None:
                q += self.b_hn
            a[:, of_n] += r * q
        else:
            q[...] = (r * fed) @ self.W_hh[:, of_n]
            a[:, of_n] += q
        np.tanh(a[:, of_n], out=n)
        np.add((1.0 - z) * n, z * state[0], out=out[0])

    def linearise(self, before: Sequence[Array], after: Sequence[Array]) -> None:
        """Make ∂H/∂Z on both sides; where r goes before the product, ∂(r ⊙ H_{t-1})/∂Z_r for r."""
        H = self.H
        r, z, n = blocks(self.values, H)
        self.slopes = _sigmoid_slope(self.values)
        self.slopes[..., 2 * H :] = _tanh_slope(n)
        r_slope, z_slope, n_slope = blocks(self.slopes, H)
        of_n, of_z = (1.0 - z) * n_slope, (before[0] - n) * z_slope
        self.keep, self.reset = z, r
        of_r = of_n * self.recurrent * r_slope if self.after else self.feed(before[0]) * r_slope
        self.of_x = np.concatenate([of_r, of_z, of_n], axis=-1)
        self.of_h = np.concatenate([of_r, of_z, of_n * r], axis=-1) if self.after else self.of_x

    def back(self, k: Any, d_state: Sequence[Array]) -> Back:
        """Go back through step k."""
        dh, H = d_state[0], self.H
        thrice = np.concatenate([dh, dh, dh], axis=-1)
        dz = thrice * self.of_x[k]
        if self.after:
            dz_h = thrice * self.of_h[k]
            return Back(dz, dz_h, [self.through(dz_h) + dh * self.keep[k]])
        reset = product(dz[..., 2 * H :], self.W_back[2 * H :])  # ∂L/∂(r ⊙ what is fed back)
        dz[..., :H] = reset * self.of_x[k, :, :H]
        past = reset * self.reset[k]
        if self.mask is not None:
            past = past * self.mask
        return Back(dz, dz, [self.through(dz[..., : 2 * H], slice(2 * H)) + past + dh * self.keep[k]])

    def fed(self, before: Array, at: Any = slice(None)) -> list[tuple[slice, Array]]:
        """Return what the blocks of W_hh were multiplied with: that of n with r ⊙ H_{t-1}, if r goes before."""
        fed = self.feed(before)
        if self.after:
            return [(slice(None), fed)]
        return [(slice(2 * self.H), fed), (slice(2 * self.H, None), self.reset[at] * fed)]


class CellSteps(Steps):
    """A cell of the user's own: its `step` and `step_backward`, one gradient after the other."""

    def __init__(self, layer: RecurrentLayer, x: Array, mask: Array | None) -> None:
        super().__init__(layer, x, mask)
        cell = layer.cell
        assert cell is not None, "a layer with a cell"
        if type(cell).step is Cell.step or type(cell).step_backward is Cell.step_backward:
            raise TypeError(
                f"bptt: {type(cell).__name__} has no step and step_backward, got an equation alone: define both, which "
                "is what a look at single steps is made of"
            )
        self.cell: Cell = cell
        self.gates = ("z",) if cell.blocks == 1 else tuple(f"z{j}" for j in range(cell.blocks))
        self.bounds = (None,) * cell.blocks
        self.kept: list[Any] = [None] * len(x)

    def step(self, k: int, state: Sequence[Array], out: Sequence[Array]) -> None:
        """Process step k."""
        z = self.pre[k]
        z += self.feed(state[0]).dot(self.W_hh)
        new, self.kept[k] = self.cell.step(z.copy(), *(s.copy() for s in state))
        for to, s in zip(out, new, strict=True):
            to[...] = s

    def linearise(self, before: Sequence[Array], after: Sequence[Array]) -> None:
        """Do nothing: the cell has kept what it needs."""

    def back(self, k: Any, d_state: Sequence[Array]) -> Back:
        """Go back through step k."""
        around = d_state[0].shape[:-2]
        several = None if isinstance(k, int) else np.arange(len(self.kept))[k]
        dz = np.empty((*around, *self.pre.shape[1:]), self.pre.dtype)
        before = [np.empty_like(d) for d in d_state]
        for at in np.ndindex(around):
            kept = self.kept[k if several is None else several[at[0]]]
            dz[at], states = self.cell.step_backward(tuple(d[at].copy() for d in d_state), kept)
            for to, d in zip(before, states, strict=True):
                to[at] = d
        before[0] += self.through(dz)
        return Back(dz, dz, before)


def steps_of(layer: Layer, x: Array, mask: Array | None) -> Steps:
    """Return the steps of a layer over x (T, N, D), ready to go through."""
    if isinstance(layer, LSTMLayer):
        return LSTMSteps(layer, x, mask)
    if isinstance(layer, GRULayer):
        return GRUSteps(layer, x, mask)
    assert isinstance(layer, RecurrentLayer), "there are three kinds of layer"
    return ElmanSteps(layer, x, mask) if layer.cell is None else CellSteps(layer, x, mask)


def product(a: Array, W: Array) -> Array:
    """Return a (…, I) times W (I, J), in one product."""
    made: Array = a.dot(W) if a.ndim == 2 else a.reshape(-1, a.shape[-1]).dot(W).reshape(*a.shape[:-1], W.shape[1])
    return made


def blocks(a: Array, H: int) -> list[Array]:
    """Return the gates' blocks of (…, G·H), views."""
    return [a[..., j : j + H] for j in range(0, a.shape[-1], H)]
