"""What a cell does at its steps, and the linear map back through them: the numbers that `minirnn.bptt` looks at.

Once the states are known, going back through a step is linear in the gradient of its new state. A cell works entry by
entry, so the coefficients of that map for all steps at once come from its equation, recorded once, with ones sent back
from each array of the new state (minirnn/cells/pointwise.py). `Steps.back` applies it to any number of gradients side
by side, which is what Jacobians, credit and truncation are made of.

All arrays are in the order of processing, k = 0 … T−1. Shapes: T steps, N rows, D inputs, H hidden neurons, G gates,
and … for any number of gradients.
"""

from collections import defaultdict
from collections.abc import Sequence
from functools import cached_property
from typing import Any, NamedTuple, cast

import numpy as np

from minirnn.arguments import Array
from minirnn.cells.cell import Cell, activations_of, gates_of
from minirnn.cells.pointwise import Edge, Local, Pass, linearise
from minirnn.layers.layer import Layer


class Back(NamedTuple):
    """What goes back through a step.

    Attributes
    ----------
    dz : (…, N, G·H)
        ∂L/∂ what X_t W_xh + b_h is added to.
    dz_h : (…, N, G·H)
        ∂L/∂ the recurrent product; the same array, but for a cell whose last block's sides come apart (a GRU).
    before : list of (…, N, H)
        ∂L/∂ the state before the step.
    """

    dz: Array
    dz_h: Array
    before: list[Array]


class Steps:
    """All steps of one run of a layer.

    Parameters
    ----------
    layer : Layer
    x : (T, N, D)
    states : list of (T + 1, N, H)
        Before step k at k.
    mask : (N, H), by which the h that is fed back is multiplied; None for none

    Attributes
    ----------
    cell : Cell
    gates : tuple of str
        What the G blocks are called.
    bounds : tuple of float or None
        The largest slope φ′ of each gate's activation; None where it is not known.
    keeper : str
        The gate by which the last array of the state is kept, such as f of an LSTM; "" if there is none.
    pre : (T, N, G·H)
        The pre-activations: what the activations are applied to.
    """

    def __init__(self, layer: Layer, x: Array, states: Sequence[Array], mask: Array | None) -> None:
        self.cell: Cell = layer.core
        self.W_xh, self.W_hh = layer.W_xh.data.copy(), layer.W_hh.data.copy()
        self.b_h = None if layer.b_h is None else layer.b_h.data.copy()
        own = getattr(layer, "b_hn", None)
        self.b_hn: Array | None = None if own is None else own.data.copy()
        self.W_back = np.ascontiguousarray(self.W_hh.T)
        self.T, self.N, self.H, self.mask = len(x), x.shape[1], layer.hidden_size, mask
        self.J = (layer.gates - self.cell.apart) * self.H  # the blocks whose two sides are one sum
        self.gates, self.activations = gates_of(self.cell), activations_of(self.cell)
        self.bounds = tuple(None if phi is None else phi.steepest for phi in self.activations)
        self.before = [s[:-1] for s in states]
        self.pre = product(x, self.W_xh)
        if self.b_h is not None:
            self.pre += self.b_h
        self._run()

    # --- all steps at once -------------------------------------------------------------------------------------------

    def _run(self) -> None:
        """Make the pre-activations, and the factors of the way back."""
        fed, rows, J = self.feed(self.before[0]), self.T * self.N, self.J
        before = [s.reshape(rows, -1) for s in self.before]
        self.recurrent: Array | None = None  # q, the recurrent side of the last block, where it comes apart
        if self.cell.apart and not self.cell.staged:
            of_h = product(fed, self.W_hh)
            self.recurrent = of_h[..., J:] if self.b_hn is None else of_h[..., J:] + self.b_hn
            self.pre[..., :J] += of_h[..., :J]
        else:
            self.pre[..., :J] += product(fed, self.W_hh[:, :J])
        z = self.pre[..., :J].reshape(rows, J)
        self.z = self.pre[..., :J]
        made = self._equation(z, before)
        self._local = linearise(made)
        self.keeper = _keeper(made, self._local)
        self._exact = self.cell.kernel is None and not _entry_by_entry(made, self._local)
        self._by_step()

    def _equation(self, z: Array, before: Sequence[Array]) -> Pass:
        """Run the equation at all steps."""
        x = None
        if self.cell.apart:
            self.x_side = self.pre[..., self.J :].copy()
            x = self.x_side.reshape(len(z), -1)
        made = Pass(self.cell, z, before, x)
        self.staged: Array | None = None
        if made.staged is not None:
            self.staged = self.feed(made.staged.data.reshape(self.T, self.N, self.H))
            self.recurrent = product(self.staged, self.W_hh[:, self.J :])
        made.finish(None if self.recurrent is None else self.recurrent.reshape(len(z), -1))
        if self.cell.apart:  # what the last activation is applied to holds both sides
            self.pre[..., self.J :] = made.noted("pre")[self.gates[-1]].reshape(self.T, self.N, -1)
        return made

    def _by_step(self) -> None:
        """Give the factors back their axes, (T, N, H), and (T, N, k, H) where one gradient (N, 1, H) meets k blocks."""

        def turned(edges: Sequence[Edge]) -> list[Edge]:
            shape = self.T, self.N
            return [
                e._replace(slope=e.slope.reshape(*shape, *((-1,) if e.slope.shape[1] > self.H else ()), self.H))
                for e in edges
            ]

        turned_to = {key: turned(edges) for key, edges in self._local.to.items()}
        self._local = local = Local(self._local.order, defaultdict(list, turned_to))
        before = [local.to[s] for s in range(len(self.before))]
        new, staged = [[e for e in local.to["z"] if (e.source < 0) == of_stage] for of_stage in (False, True)]
        self._to_z, self._staged_to_z = new, staged
        self._disjoint = sum(e.columns.stop - e.columns.start for e in new) == self.J
        self._past = [[e for e in edges if e.source >= 0] for edges in before]
        self._cascade = [s for s in local.order if local.to["new", s]]
        # One factor for everything: the new state is a function of Z_t and nothing else.
        alone = self._disjoint and len(new) == 1 and len(before) == 1 and not any(self._past) and not self.cell.apart
        self._only = new[0].slope if alone and new[0].slope.ndim == 3 else None

    @cached_property
    def slopes(self) -> Array:
        """φ′ at every pre-activation, (T, N, G·H); of gates whose activation is not known NaN."""
        found = np.full_like(self.pre, np.nan)
        for phi, z, slope in zip(self.activations, blocks(self.pre, self.H), blocks(found, self.H), strict=True):
            if phi is not None:
                slope[...] = phi.kernel.derivative(phi.kernel.apply(z.copy()))
        return found

    @property
    def keep(self) -> Array | None:
        """The gate by which a cell keeps the last array of its state, (T, N, H); None if there is none."""
        last = len(self.before) - 1
        return next(e.slope for e in self._local.to[last] if e.source == last) if self.keeper else None

    # --- the way back ------------------------------------------------------------------------------------------------

    def feed(self, h: Array) -> Array:
        """Return what W_hh is multiplied with: H_{t-1}, under the mask of recurrent_dropout if there is one."""
        return h if self.mask is None else h * self.mask

    def totals(self, k: Any, d_state: Sequence[Array]) -> Sequence[Array]:
        """Return ∂L/∂ each array of the new state: what it passes on, and what others of them are made of it."""
        if not self._cascade:
            return d_state
        d = list(d_state)
        for s in self._cascade:
            for edge in self._local.to["new", s]:
                d[s] = d[s] + d[edge.source] * edge.slope[k]
        return d

    def back(self, k: Any, d_state: Sequence[Array]) -> Back:
        """Go back through step k from the gradients of the state after it, (…, N, H) each.

        Or through K steps at once, an array of them or a slice, each from a gradient of its own: (K, N, H) each.
        """
        if self._only is not None:
            dz = d_state[0] * self._only[k]
            return Back(dz, dz, [product(dz, self.W_back)] if self.mask is None else [self.through(dz)])
        if self._exact:
            return self._back_exactly(k, d_state)
        J, d = self.J, self.totals(k, d_state)
        shape = *d[0].shape[:-1], self.pre.shape[2]
        dz = (np.empty if self._disjoint else np.zeros)(shape, self.pre.dtype)
        for edge in self._to_z:
            _add_share(dz[..., edge.columns], d[edge.source], edge.slope[k], self._disjoint)
        before: list[Any] = [_sum(edges, d, k) for edges in self._past]
        dz_h = dz
        if self.cell.apart:
            dz_h = dz.copy()
            dz[..., J:], dz_h[..., J:] = _sum(self._local.to["x"], d, k), _sum(self._local.to["q"], d, k)
        if self.cell.staged:
            past = self.through(dz_h[..., J:], slice(J, None))
            for edge in self._staged_to_z:
                _add_share(dz[..., edge.columns], past, edge.slope[k], False)
                dz_h[..., edge.columns] = dz[..., edge.columns]
            for s in range(len(d)):
                for edge in self._local.to[s]:
                    if edge.source < 0:
                        before[s] = before[s] + past * edge.slope[k]
        through = self.through(dz_h[..., :J], slice(J)) if self.cell.staged else self.through(dz_h)
        before[0] = before[0] + through
        return Back(dz, dz_h, [np.zeros_like(d[0]) if np.ndim(b) == 0 else b for b in before])

    def _back_exactly(self, k: Any, d_state: Sequence[Array]) -> Back:
        """Go back through a cell that does not work entry by entry: once more through it for each gradient."""
        around = d_state[0].shape[:-2]
        steps = (
            np.broadcast_to(np.arange(self.T)[k], around) if np.ndim(k) or isinstance(k, slice) else np.full(around, k)
        )
        dz = np.zeros((*around, *self.pre.shape[1:]), self.pre.dtype)
        before = [np.zeros_like(d) for d in d_state]
        for at in np.ndindex(around):
            made = Pass(self.cell, self.pre[steps[at]], [s[steps[at]] for s in self.before]).finish()
            found = made.back([d[at] for d in d_state])
            for to, key in zip((dz, *before), ("z", *range(len(before))), strict=True):
                to[at] = found.get(key, 0)
        before[0] += self.through(dz)
        return Back(dz, dz, before)

    def fed(self, at: Any = slice(None)) -> list[tuple[slice, Array]]:
        """Return what the blocks of W_hh were multiplied with at some steps: (columns of W_hh, (…, N, H)) each."""
        fed = self.feed(self.before[0][at])
        if self.staged is None:
            return [(slice(None), fed)]
        return [(slice(self.J), fed), (slice(self.J, None), self.staged[at])]

    def through(self, dz_h: Array, columns: slice = slice(None)) -> Array:
        """Return what goes back through the recurrent product to H_{t-1}, (…, N, H)."""
        d = product(dz_h, self.W_back[columns])
        return d if self.mask is None else d * self.mask


def _add_share(to: Array, d: Array, slope: Array, fresh: bool) -> None:
    """Add a gradient (…, N, H) times slopes (…, N, H), or (…, N, k, H) for k blocks; ``fresh``: write instead."""
    if to.shape[-1] > d.shape[-1]:
        d, to = d[..., None, :], to.reshape(*to.shape[:-1], -1, d.shape[-1])
    if fresh:
        np.multiply(d, slope, out=to)
    else:
        to += d * slope


def _sum(edges: Sequence[Edge], d: Sequence[Array], k: Any) -> Any:
    """Return what goes along some edges from the gradients of the new state; 0 for none."""
    found: Any = 0.0
    for edge in edges:
        share = d[edge.source] * edge.slope[k]
        found = share if edge is edges[0] else found + share
    return found


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
    return cast(
        Array, a.dot(W) if a.ndim == 2 else a.reshape(-1, a.shape[-1]).dot(W).reshape(*a.shape[:-1], W.shape[1])
    )


def blocks(a: Array, H: int) -> list[Array]:
    """Return the gates' blocks of (…, G·H), views."""
    return [a[..., j : j + H] for j in range(0, a.shape[-1], H)]
