"""The unrolled recurrent layer, H_t = φ(X_t W_xh + H_{t-1} W_hh + b_h), forward and backward, on plain arrays.

Shapes: T steps, N rows of the mini-batch, D inputs, H hidden neurons. Every row is one sequence of T steps.

`forward` and `backward` see to the order of time and to what is saved and wanted. The products and the loop over the
steps have two forms, equation 14-2's two lines: hoisted for a mini-batch, joined for small steps; and a third way back,
kernels/folded.py. Which serves where is said in kernels/__init__.py. In them steps are in the order of processing:
k = 0 is processed first.
"""

from collections.abc import Sequence, Set
from functools import lru_cache, reduce
from typing import Any

import numpy as np

from minirnn.arguments import Array
from minirnn.kernels import folded, scratch
from minirnn.kernels.cells import Activation
from minirnn.kernels.layout import Gradients, Settings, Sums, Unrolled, Weights
from minirnn.kernels.products import multiply, of_rows
from minirnn.kernels.scratch import chunk_length, chunks, each


class HoistedForward:
    """The unroll for a mini-batch: the input side of many steps in one product, hoisted out of the loop over the steps.

    S = X W_xh + b_h for all steps of a chunk, then step by step H_k = φ(S_k + H_{k-1} W_hh). An instance is scratch for
    N rows, D inputs and H neurons; `run` is the loop that works in it.
    """

    def __init__(self, N: int, D: int, H: int, dtype: np.dtype[Any]) -> None:
        self.chunk = C = chunk_length(N, H, dtype)
        self.block = np.empty((C, N, H), dtype)  # S
        self.steps = list(self.block)  # its views: to make one costs as much as a quarter of a small product
        self.side = np.empty((N, H), dtype)  # H_{k-1} W_hh, and what φ is applied to
        self.dot = of_rows(N, H)
        self.bias = np.empty((N, H), dtype)  # b_h for every row: added to N·H numbers at a time, not to H
        self.nbytes = self.block.nbytes + self.side.nbytes + self.bias.nbytes

    def run(self, x: Array, hs: Array, weights: Weights, activation: Activation) -> None:
        """Fill ``hs[1:]``, the states (T + 1, N, H) whose first one is given, from x (T, N, D)."""
        W_hh, side, dot, add = np.ascontiguousarray(weights.W_hh), self.side, self.dot, np.add
        W_xh, phi = np.ascontiguousarray(weights.W_xh), activation.at(side.shape, side.dtype)
        self.bias[...] = 0 if weights.b_h is None else weights.b_h
        h = hs[0]
        for lo, hi in chunks(len(x), self.chunk):
            S = self.block[: hi - lo]
            rows = (hi - lo) * len(side)
            multiply(x[lo:hi].reshape(rows, -1), W_xh, S.reshape(rows, -1))
            if weights.b_h is not None:
                add(S, self.bias, S)
            for out, s in zip(hs[lo + 1 : hi + 1], self.steps, strict=False):
                dot(h, W_hh, side)
                add(side, s, side)
                phi(side, out)
                h = out


class JoinedForward:
    """The unroll for small steps: what a step reads stands in one array, so that a step is one product and φ.

    h_k = φ(W [x_k; 1; h_{k-1}]) with W_xhᵀ, b_h, W_hhᵀ side by side in W (note 003, equation 14-2, second line). With
    so few numbers a call costs more than its arithmetic, and two calls instead of three are a third of the time. The
    arrays hold columns, features first and rows of the mini-batch last: so h_k comes out right where step k + 1 reads
    it. They are copied to and from the order of the layer a chunk at a time.
    """

    def __init__(self, N: int, D: int, H: int, dtype: np.dtype[Any]) -> None:
        self.chunk = C = chunk_length(N, D + 1 + H, dtype)
        columns = (N,) if N > 1 else ()  # vectors make cheaper calls than matrices of one column
        inputs = np.empty((C + 1, D + 1 + H, *columns), dtype)  # [x_k; 1; h_{k-1}]; h_k goes to the next
        inputs[:, D] = 1
        self.stacked = np.empty((D + 1 + H, H), dtype)  # Wᵀ: BLAS reads it either way
        self.dot = self.stacked.T.dot
        self.side = np.empty(
            (H, *columns), dtype
        )  # Z_k: of one number, φ in place would take numpy three times as long
        rows_last = inputs.reshape(C + 1, D + 1 + H, N).swapaxes(1, 2)
        self.xs, self.hs = rows_last[..., :D], rows_last[..., D + 1 :]
        # What a step reads and writes: to make a view costs as much as a quarter of a small product.
        self.steps = [(inputs[k], inputs[k + 1, D + 1 :]) for k in range(C)]
        self.nbytes = inputs.nbytes + self.stacked.nbytes + self.side.nbytes

    def run(self, x: Array, hs: Array, weights: Weights, activation: Activation) -> None:
        """Fill ``hs[1:]``, the states (T + 1, N, H) whose first one is given, from x (T, N, D)."""
        W, D = self.stacked, x.shape[2]
        W[:D] = weights.W_xh
        W[D] = 0 if weights.b_h is None else weights.b_h
        W[D + 1 :] = weights.W_hh
        dot, side, phi = self.dot, self.side, activation.at(self.side.shape, W.dtype)
        self.hs[0] = hs[0]
        for lo, hi in chunks(len(x), self.chunk):
            n = hi - lo
            self.xs[:n] = x[lo:hi]
            for inputs, out in self.steps[:n]:
                dot(inputs, side)
                phi(side, out)
            hs[lo + 1 : hi + 1] = self.hs[1 : n + 1]
            self.hs[0] = self.hs[n]


class HoistedBackward:
    """The way back for a mini-batch: scratch for N rows and H neurons, and the loop over the steps that works in it."""

    def __init__(self, N: int, H: int, dtype: np.dtype[Any]) -> None:
        self.chunk = C = chunk_length(N, H, dtype)
        self.block = np.empty((C, N, H), dtype)  # φ′, which becomes dZ
        self.entering = np.empty((C, N, H), dtype)  # φ′ ⊙ what enters at the step: many in one call, and no views
        dot = of_rows(N, H).__get__  # bound to its rows: a call finds it sooner
        self.steps = [(d, e, dot(d)) for d, e in zip(self.block, self.entering, strict=True)]
        self.side = np.empty((N, H), dtype)  # dZ_{k+1} W_hhᵀ, or what comes after the last step
        self.W_back = np.empty((H, H), dtype)  # W_hhᵀ: a product with a transposed view costs up to twice as much
        self.nbytes = 2 * self.block.nbytes + self.side.nbytes + self.W_back.nbytes

    def run(
        self,
        d_outputs: Any,
        d_final: Array | None,
        hs: Array,
        W_hh: Array,
        activation: Activation,
        sums: Sums,
        start: int,
        ended: Array | None = None,
    ) -> Array:
        """Go back from the last step to the first, hand every dZ to ``sums``, and return dH_0 (N, H), scratch.

        ``start`` is the number that the first of these steps has in ``sums``. Nothing enters where ``ended`` (T, N).
        """
        W_back, side = self.W_back, self.side
        add, multiply = np.add, np.multiply
        W_back[...] = W_hh.T
        side[...] = 0 if d_final is None else d_final
        for lo, hi in reversed(chunks(len(hs) - 1, self.chunk)):
            dz = self.block[: hi - lo]
            activation.slope_into(hs[lo + 1 : hi + 1], dz)
            backwards = self.steps[hi - lo - 1 :: -1]
            if d_outputs is None:  # only the final state has a gradient: nothing is added on the way
                for d, _, dot in backwards:
                    multiply(d, side, d)
                    dot(W_back, side)
            else:
                multiply(dz, d_outputs[lo:hi], self.entering[: hi - lo])
                if ended is not None:
                    wipe(self.entering[: hi - lo], ended[start + lo : start + hi])
                for d, e, dot in backwards:
                    multiply(d, side, d)
                    add(d, e, d)
                    dot(W_back, side)
            sums.add(start + lo, hs[lo:hi], dz.reshape(-1, dz.shape[2]))
        return side


class JoinedBackward:
    """The way back for one row of few neurons: a step is one product, of what comes from both sides, and φ′.

    dz_k = φ′(h_k) ⊙ (V [dz_{k+1}; e_k]) with W_hh, I side by side in V, and e_k the gradient that enters at step k.
    """

    def __init__(self, N: int, H: int, dtype: np.dtype[Any]) -> None:
        self.chunk = C = chunk_length(N, 2 * H, dtype)
        columns = np.empty((C + 1, 2 * H), dtype)  # [dz_{k+1}; e_k], one place later; dz_k goes to the one before
        self.V = np.empty((H, 2 * H), dtype)
        self.V[:, H:] = np.eye(H)
        self.slopes = np.empty((C, H), dtype)
        self.side = np.empty(H, dtype)  # dh_k
        self.dzs, self.entering = columns[:, :H], columns[:, H:]
        self.steps = [(columns[k + 1], self.slopes[k], self.dzs[k]) for k in range(C)]
        self.nbytes = sum(a.nbytes for a in (columns, self.V, self.slopes, self.side))

    def run(
        self,
        d_outputs: Any,
        d_final: Array | None,
        hs: Array,
        W_hh: Array,
        activation: Activation,
        sums: Sums,
        start: int,
    ) -> Array:
        """Go back as `HoistedBackward.run` does, for N = 1."""
        V, side, multiply = self.V, self.side, np.multiply
        V[:, : len(side)] = W_hh
        dot, carried = V.dot, d_final
        for lo, hi in reversed(chunks(len(hs) - 1, self.chunk)):
            n = hi - lo
            activation.slope_into(hs[lo + 1 : hi + 1, 0], self.slopes[:n])
            self.entering[1 : n + 1] = 0 if d_outputs is None else d_outputs[lo:hi, 0]
            if carried is not None:
                self.entering[n] += carried[0]
            self.dzs[n] = 0
            for column, slope, out in self.steps[n - 1 :: -1]:
                dot(column, side)
                multiply(side, slope, out)
            sums.add(start + lo, hs[lo:hi], np.ascontiguousarray(self.dzs[:n]))
            carried = self.dzs[:1].dot(W_hh.T)
        assert carried is not None, "there is a step"
        return carried


JOINED_UP_TO, JOINED_BACK = 104, 80
"""Inputs and neurons together, and neurons on the way back, up to which a step is so small that this form pays."""


def forward_form(N: int, D: int, H: int) -> type[HoistedForward] | type[JoinedForward]:
    """Choose: joined while the arithmetic of a step costs less than the calls that this form saves."""
    return JoinedForward if D + H <= JOINED_UP_TO and N * (D + H) <= 4096 else HoistedForward


def backward_form(T: int, N: int, H: int, dtype: np.dtype[Any]) -> tuple[Any, ...]:
    """Choose, and return the form and what it is made for: those of one row save calls, the last one turns nothing."""
    if N == 1 and H <= folded.FEW:
        return folded.FoldedBackward, folded.steps_at_a_time(T, H, dtype.itemsize), H, dtype
    return (JoinedBackward if N == 1 and H <= JOINED_BACK else HoistedBackward), N, H, dtype


def forward(x: Array, state: Sequence[Array], weights: Weights, settings: Settings, save: bool = True) -> Unrolled:
    """Unroll x (T, N, D) from the ``state`` before the first step processed, one array (N, H).

    All arrays are of one dtype. ``save`` says whether backward is to follow: then what is saved are the states before
    and after all steps, (T + 1, N, H) in the order of processing, or copies of those before the segments.
    """
    T, N, _ = x.shape
    states = np.empty((T + 1, *state[0].shape), state[0].dtype)  # one buffer, of which the outputs are a block
    xs, hs = (x[::-1], states[::-1]) if settings.reverse else (x, states)
    hs[0] = state[0]

    def part(i: int, rows: slice) -> None:
        _fill(_take(xs, rows), _take(hs, rows), weights, settings)

    each(part, N, settings.parts, settings.run)
    saved = hs if settings.segment is None else hs[: -1 : settings.segment].copy()
    # The final state is a copy: a state carried on must not keep all the states of this sequence alive.
    return Unrolled(states[:-1] if settings.reverse else states[1:], [hs[-1].copy()], saved if save else None)


def backward(
    d_outputs: Array | None,
    d_final: Sequence[Array | None],
    saved: Array,
    x: Array,
    weights: Weights,
    settings: Settings,
    wanted: Set[str],
    ended: Array | None = None,
) -> Gradients:
    """Go back through `forward`: with dA for ∂L/∂A, from the step processed last to the first::

        dH_t = d_outputs_t + dZ_{t+1} W_hhᵀ        d_final instead of dZ_{t+1} W_hhᵀ at the last step
        dZ_t = dH_t ⊙ φ′(H_t)
        dX_t = dZ_t W_xhᵀ        dW_xh = Σ X_tᵀ dZ_t        dW_hh = Σ H_{t-1}ᵀ dZ_t        db_h = Σ dZ_t

    ``d_outputs`` is (T, N, H) and ``d_final`` one (N, H); None for zeros. `HoistedBackward` alone takes ``ended``.
    """  # noqa: D400
    T, N, _ = x.shape
    H, dtype = len(weights.W_hh), weights.W_hh.dtype
    d_x = np.empty(x.shape, dtype) if "x" in wanted else None
    d_h0 = np.empty((N, H), dtype)
    xs, d_xs, entering = (a[::-1] if settings.reverse and a is not None else a for a in (x, d_x, d_outputs))
    back = np.ascontiguousarray(weights.W_xh.T) if "x" in wanted else None
    more = () if ended is None else (ended,)

    def part(i: int, rows: slice) -> Sums:
        d_first, inputs, g = d_h0[rows], _take(xs, rows), _take(entering, rows)
        n = len(d_first)
        sums = Sums(inputs, _take(d_xs, rows), back, wanted, settings.cell.layout)
        carried = None if d_final[0] is None else d_final[0][rows]
        work = scratch.take(*backward_form(settings.segment or T, n, H, dtype))
        for lo, hi in reversed(chunks(T, settings.segment or T)):
            if settings.segment is None:
                hs = _take(saved, rows)
            else:  # the segment is run again
                hs = np.empty((hi - lo + 1, n, H), dtype)
                hs[0] = saved[lo // settings.segment, rows]
                _fill(inputs[lo:hi], hs, weights, settings)
            part_of_g = None if g is None else g[lo:hi]
            with settings.cell.quiet():
                d_first[...] = work.run(part_of_g, carried, hs, weights.W_hh, settings.cell.activation, sums, lo, *more)
            carried = d_first
        scratch.give(work)
        return sums

    total = reduce(Sums.merge, each(part, N, settings.parts, settings.run))
    return Gradients(d_x, [d_h0], *total.collect())


def _fill(x: Array, hs: Array, weights: Weights, settings: Settings) -> None:
    """Fill the states (T + 1, N, H) from the first on, in the form that fits the shape."""
    key = x.shape[1], x.shape[2], hs.shape[2]
    work = scratch.take(forward_form(*key), *key, hs.dtype)
    with settings.cell.quiet():
        work.run(x, hs, weights, settings.cell.activation)
    scratch.give(work)


def _take(a: Any, rows: slice) -> Any:
    """Return the rows of an array (T, N, …), without a view where they are all; None of None."""
    return a if a is None or rows.stop is None else a[:, rows]


def wipe(a: Array, where: Array) -> None:
    """Set rows of (T, N, width) to zeros, each as one entry of so many bytes: that takes a quarter of the time."""
    nothing = _nothing(a.shape[2] * a.itemsize)
    np.putmask(np.ndarray(where.shape, nothing.dtype, a), where, nothing)


@lru_cache(maxsize=64)
def _nothing(size: int) -> Array:
    return np.zeros(1, np.dtype((np.void, size)))
