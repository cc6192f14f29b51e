"""A run of a layer laid open: every state of it, and the way back through any step, for any gradients.

Once the states are known, going back through a step is linear in the gradient of its new state. A cell works entry by
entry, so the coefficients of that map for all steps at once come from its equation, recorded once, with ones sent back
from each array of the new state (minirnn/cells/pointwise.py). `Unrolled.back` applies it to any number of gradients
side by side, which is what Jacobians, credit and truncation are made of.

All arrays are in the order of processing, k = 0 … T−1. Shapes: T steps, N rows, D inputs, H hidden neurons, G gates,
and … for any number of gradients.
"""

import functools
import operator
from collections import defaultdict
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, NamedTuple, cast

import numpy as np

from minirnn.arguments import Array
from minirnn.cells.cell import activations_of, gates_of
from minirnn.cells.pointwise import Edge, Local, Pass, linearise, times_slope
from minirnn.kernels.layout import Weights
from minirnn.layers.layer import Layer

LARGEST = 1 << 30
"""Bytes that one array of `minirnn.bptt` may take: 1 GiB."""


def fits(size: int, what: str, hint: str) -> None:
    """Refuse what takes more than `LARGEST` bytes: a MemoryError."""
    if size > LARGEST:
        raise MemoryError(f"{what} would take {size:,} bytes, more than {LARGEST:,}: {hint}")


class Back(NamedTuple):
    """What goes back through a step.

    dz_h is dz itself, but for a cell whose last block's two sides come apart (a GRU).
    """

    dz: Array  # (…, N, G·H): ∂L/∂ what X_t W_xh + b_h is added to
    dz_h: Array  # (…, N, G·H): ∂L/∂ the recurrent product
    before: list[Array]  # (…, N, H) each: ∂L/∂ the state before the step


class Unrolled:
    """The states of one run and the factors of its way back, in the order of processing: k = t, or T−1−t in reverse.

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
    weights : Weights
        Copies of the layer's parameters: what it is trained to later is another matter.
    gates : tuple of str
        What the G blocks are called.
    bounds : tuple of float or None
        The largest slope φ′ of each gate's activation; None where it is not known.
    keeper : str
        The gate by which the last array of the state is kept, such as f of an LSTM; "" if there is none.
    pre : (T, N, G·H)
        The pre-activations: what the activations are applied to.
    """

    def __init__(
        self, layer: Layer, x: Array, state: Sequence[Array], valid: Array, mask: Array | None, fresh: bool
    ) -> None:
        self.x, self.valid, self.mask = x, valid, mask
        self.cell = layer.core
        self.T, self.N, self.H = len(x), x.shape[1], layer.hidden_size
        self.first = valid.argmax(axis=0)
        self.weights = Weights(*(None if w is None else w.data.copy() for w in layer.weights))
        self.learned = [f"{name}_0" for name in layer.state_names] if layer.learn_initial_state and fresh else []
        self.names = [name for name, w in self.weights._asdict().items() if w is not None] + self.learned
        self.gates, self.activations = gates_of(self.cell), activations_of(self.cell)
        self.bounds = tuple(None if phi is None else phi.steepest for phi in self.activations)
        self.joint = (layer.gates - self.cell.apart) * self.H  # the columns whose two sides are one sum
        self.states = self._run(layer, state)
        self.before = [s[:-1] for s in self.states]
        self._linearise()

    def _run(self, layer: Layer, state: Sequence[Array]) -> list[Array]:
        """Unroll by the layer's kernel. Rows in which padding comes first are moved to the start, and back."""
        if self.valid.all():
            return layer.every_state(self.x, state, self.mask)
        k, row = np.arange(self.T + 1)[:, None], np.arange(self.N)
        moved = np.minimum(k[:-1] + self.first, self.T - 1)
        with np.errstate(over="ignore", invalid="ignore"):  # what comes after a row's end is not used
            made = layer.every_state(self.x[moved, row], state, self.mask)
        own = np.clip(k - self.first, 0, self.valid.sum(axis=0))  # the step of a row's own; in padding its state stays
        return [s[own, row] for s in made]

    # --- all steps at once -------------------------------------------------------------------------------------------

    def _linearise(self) -> None:
        """Make the pre-activations, and the factors of the way back."""
        W_xh, W_hh, b_h, b_hn = self.weights
        cell, J, R = self.cell, self.joint, self.T * self.N
        self.W_back = np.ascontiguousarray(W_hh.T)
        self.pre = product(self.x, W_xh)
        if b_h is not None:
            self.pre += b_h
        of_h = product(self.feed(self.before[0]), W_hh[:, :J] if cell.staged else W_hh)
        self.pre[..., :J] += of_h[..., :J]
        self.x_side = self.pre[..., J:].copy()
        made = Pass(
            cell,
            self.pre[..., :J].reshape(R, J),
            [s.reshape(R, -1) for s in self.before],
            self.x_side.reshape(R, -1) if cell.apart else None,
        )
        self.staged = self.recurrent = None  # q, the recurrent side of the last block, where it comes apart
        if made.staged is not None:
            self.staged = self.feed(made.staged.data.reshape(self.T, self.N, self.H))
            self.recurrent = product(self.staged, W_hh[:, J:])
        elif cell.apart:
            self.recurrent = of_h[..., J:] if b_hn is None else of_h[..., J:] + b_hn
        made.finish(None if self.recurrent is None else self.recurrent.reshape(R, -1))
        if cell.apart:  # what the last activation is applied to holds both sides
            self.pre[..., J:] = made.noted("pre")[self.gates[-1]].reshape(self.T, self.N, -1)
        local = linearise(made)
        self.keeper = _keeper(made, local)
        self._exact = cell.kernel is None and not _entry_by_entry(made, local)
        by_step = {
            key: [e._replace(slope=e.slope.reshape(self.T, self.N, -1)) for e in edges]
            for key, edges in local.to.items()
        }
        self._order, self._to = local.order, defaultdict(list, by_step)
        # One factor for everything: the new state is a function of Z_t and nothing else.
        alone = len(self.states) == len(self._to["z"]) == 1 and not self._to[0] and not cell.apart
        self._only = self._to["z"][0].slope if alone and self.pre.shape[2] == self.H else None

    @cached_property
    def slopes(self) -> Array:
        """φ′ at every pre-activation, (T, N, G·H); of gates whose activation is not known NaN."""
        slopes = [
            np.full_like(z, np.nan) if phi is None else phi.kernel.derivative(phi.kernel.apply(z.copy()))
            for phi, z in zip(self.activations, np.split(self.pre, len(self.gates), axis=-1), strict=True)
        ]
        return np.concatenate(slopes, axis=-1)

    @property
    def keep(self) -> Array | None:
        """The gate by which a cell keeps the last array of its state, (T, N, H); None if there is none."""
        last = len(self.states) - 1
        return next(e.slope for e in self._to[last] if e.source == last) if self.keeper else None

    # --- the way back ------------------------------------------------------------------------------------------------

    def zeros(self, *around: int) -> list[Array]:
        """Return gradients of a state that are zero, (…, N, H) each."""
        return [np.zeros((*around, *s.shape[1:]), s.dtype) for s in self.states]

    def basis(self) -> list[Array]:
        """Return the S·H unit gradients of a state, (S·H, N, H) each."""
        units = np.eye(len(self.states) * self.H, dtype=self.pre.dtype)[:, None]
        return [np.repeat(unit, self.N, axis=1) for unit in np.split(units, len(self.states), axis=-1)]

    def back(self, k: Any, d_state: Sequence[Array]) -> Back:
        """Go back through step k: from the gradients of the state after it, (…, N, H) each, to those before it.

        With K steps at once, an array of them or a slice, the gradients are (K, N, H), one for each.
        """
        found, here = self._back(k, d_state), self.valid[k][..., None]
        if here.all():
            return found
        dz = np.where(here, found.dz, 0)
        dz_h = dz if found.dz_h is found.dz else np.where(here, found.dz_h, 0)
        return Back(dz, dz_h, [np.where(here, b, d) for b, d in zip(found.before, d_state, strict=True)])

    def _back(self, k: Any, d_state: Sequence[Array]) -> Back:
        if self._only is not None:
            dz = d_state[0] * self._only[k]
            return Back(dz, dz, [self.through(dz)])
        if self._exact:
            return self._back_exactly(k, d_state)
        J, d = self.joint, dict(enumerate(self.totals(k, d_state)))
        of_x, of_q = _sum(self._to["x"], d, k), _sum(self._to["q"], d, k)
        if self.cell.staged:
            d[-1] = self.through(of_q, slice(J, None))  # to what is staged
        dz = np.zeros((*d[0].shape[:-1], self.pre.shape[2]), self.pre.dtype)
        for edge in self._to["z"]:  # one gradient (…, N, H) may meet several blocks
            dz[..., edge.columns] += times_slope(d[edge.source], edge.slope[k])
        dz_h = dz
        if self.cell.apart:
            dz_h = dz.copy()
            dz[..., J:], dz_h[..., J:] = of_x, of_q
        before = [_sum(self._to[s], d, k) for s in range(len(d_state))]
        columns = slice(J if self.cell.staged else None)
        before[0] = before[0] + self.through(dz_h[..., columns], columns)
        return Back(dz, dz_h, [np.zeros_like(d[0]) if np.ndim(b) == 0 else b for b in before])

    def _back_exactly(self, k: Any, d_state: Sequence[Array]) -> Back:
        """Go back through a cell that does not work entry by entry: once more through it for each gradient."""
        around = d_state[0].shape[:-2]
        steps = np.broadcast_to(np.arange(self.T)[k], around)
        dz = np.zeros((*around, *self.pre.shape[1:]), self.pre.dtype)
        before = [np.zeros_like(d) for d in d_state]
        for at in np.ndindex(around):
            made = Pass(self.cell, self.pre[steps[at]], [s[steps[at]] for s in self.before]).finish()
            found = made.back([d[at] for d in d_state])
            for to, key in zip((dz, *before), ("z", *range(len(before))), strict=True):
                to[at] = found.get(key, 0)
        before[0] += self.through(dz)
        return Back(dz, dz, before)

    def totals(self, k: Any, d_state: Sequence[Array]) -> Sequence[Array]:
        """Return ∂L/∂ each array of the new state: what it passes on, and what others of them are made of it."""
        d = list(d_state)
        for s in self._order:
            for edge in self._to["new", s]:
                d[s] = d[s] + d[edge.source] * edge.slope[k]
        return d

    def through(self, dz_h: Array, columns: slice = slice(None)) -> Array:
        """Send a gradient back through the recurrent product, to H_{t-1}: (…, N, H)."""
        return self.feed(product(dz_h, self.W_back[columns]))

    # --- the products ------------------------------------------------------------------------------------------------

    def feed(self, h: Array) -> Array:
        """Return the factor beside W_hh: H_{t-1}, under the mask of recurrent_dropout if there is one."""
        return h if self.mask is None else h * self.mask

    def fed(self, at: Any = slice(None)) -> list[tuple[slice, Array]]:
        """Return the factor beside each block of W_hh at some steps: (columns of W_hh, (…, N, H)) each."""
        fed, J = self.feed(self.before[0][at]), self.joint
        return [(slice(None), fed)] if self.staged is None else [(slice(J), fed), (slice(J, None), self.staged[at])]

    def shares(self, back: Back, at: Any = slice(None), *, total: bool = False) -> dict[str, Array]:
        """Return the share of a step, or of each of several, in the gradient of every parameter, by name.

        ``back`` is what goes back there, (N, …) at one step, (K, N, …) ``at`` a slice or an array of K. ``total``: the
        sum over K steps instead, in one product for each parameter.
        """
        laid = rows if total else np.asarray
        dz, dz_h = laid(back.dz), laid(back.dz_h)
        into = [laid(fed).swapaxes(-1, -2) @ dz_h[..., columns] for columns, fed in self.fed(at)]
        found = {"W_xh": laid(self.x[at]).swapaxes(-1, -2) @ dz, "W_hh": np.concatenate(into, axis=-1)}
        found |= {"b_h": dz.sum(-2), "b_hn": dz_h[..., -self.H :].sum(-2)}
        begins = (self.first == np.arange(self.T)[at, None])[..., None]  # what arrives there, the initial state gets
        found |= {
            name: laid(np.where(begins, d, 0)).sum(-2) for name, d in zip(self.learned, back.before, strict=False)
        }
        return {name: found[name] for name in self.names}


def _sum(edges: Sequence[Edge], d: Mapping[int, Array], k: Any) -> Any:
    """Sum the gradients of the new state along some edges, each times its slope; 0 for no edge."""
    shares = [d[edge.source] * edge.slope[k] for edge in edges]
    return functools.reduce(operator.add, shares) if shares else 0.0


def _keeper(made: Pass, local: Local) -> str:
    """Return the name of the gate g in s_t = g ⊙ s_{t-1} + …, for the last array s of the state, or ""."""
    last = len(made.new) - 1
    slopes = [e.slope[:2] for e in local.to[last] if e.source == last]
    return next((g for g, v in made.noted("gate").items() if slopes and np.array_equal(slopes[0], v[:2])), "")


def _entry_by_entry(made: Pass, local: Local) -> bool:
    """Whether a cell of the user's own does what it should: one random gradient has to come out as the factors say."""
    d = [np.sign(np.random.default_rng(s).normal(size=new.shape)).astype(new.dtype) for s, new in enumerate(made.new)]
    true = made.back(d)["z"]
    found = local.back(dict(enumerate(d)), true.shape[1]).get("z", 0)
    tolerance = 1e3 * np.finfo(true.dtype).eps
    return bool(np.allclose(found, true, rtol=tolerance, atol=tolerance, equal_nan=True))


def product(a: Array, W: Array) -> Array:
    """Return a (…, I) times W (I, J), in one product."""
    return cast(Array, a.dot(W) if a.ndim == 2 else rows(a).dot(W).reshape(*a.shape[:-1], W.shape[1]))


def rows(a: Array) -> Array:
    """Return (K, N, …) as (K·N, …)."""
    return a.reshape(-1, a.shape[-1])
