"""The unrolled recurrent layer, H_t = φ(X_t W_xh + H_{t-1} W_hh + b_h), forward and backward, on plain arrays.

Shapes: T steps, N rows of the mini-batch, D inputs, H hidden neurons.

`forward` and `backward` see to the order of time and to what is kept and wanted. The products and the loop over the
steps stand in kernels/hoisted.py for a mini-batch, in kernels/joined.py for small steps: equation 14-2's two lines.
"""

from collections.abc import Iterable, Iterator
from functools import reduce
from typing import Any, NamedTuple, cast

import numpy as np

from minirnn.arguments import Array
from minirnn.kernels import scratch
from minirnn.kernels.cells import Activation
from minirnn.kernels.chunks import Run, chunks, each
from minirnn.kernels.hoisted import HoistedBackward, HoistedForward
from minirnn.kernels.joined import JoinedBackward, JoinedForward
from minirnn.kernels.sums import Sums


class Gradients(NamedTuple):
    """∂L/∂ each input of the unroll; None where it was not wanted."""

    x: Array | None
    h0: Array | None
    W_xh: Array | None
    W_hh: Array | None
    b_h: Array | None


class Checkpoints(NamedTuple):
    """What can be kept of `forward` instead of all its states: enough to make them again, segment by segment."""

    states: Array  # (⌈T / length⌉, N, H), before the segments' first steps, in the order of processing
    length: int  # steps in a segment
    b_h: Array | None  # (H,)


def checkpoints(states: Array, length: int, b_h: Array | None, reverse: bool) -> Checkpoints:
    """Return copies of every ``length``-th of the states that `forward` returned."""
    hs = states[::-1] if reverse else states
    return Checkpoints(hs[:-1:length].copy(), length, b_h)


JOINED_UP_TO = 104
"""Inputs and neurons together, up to which a step is so small that the joined form pays."""


def forward_form(N: int, D: int, H: int) -> type[HoistedForward] | type[JoinedForward]:
    """Choose by the shape: joined while the arithmetic of a step costs less than the calls that this form saves."""
    return JoinedForward if D + H <= JOINED_UP_TO and N * (D + H) <= 4096 else HoistedForward


def backward_form(N: int, H: int) -> type[HoistedBackward] | type[JoinedBackward]:
    """Choose by the shape: joined for one row only, since more would have to be copied into columns and out of them."""
    return JoinedBackward if N == 1 and H <= 100 else HoistedBackward


def forward(
    x: Array,
    h0: Array,
    W_xh: Array,
    W_hh: Array,
    b_h: Array | None,
    activation: Activation,
    reverse: bool = False,
    *,
    parts: int = 1,
    run: Run | None = None,
) -> Array:
    """Unroll over all steps and return every state, (T + 1, N, H) in time order.

    Processing forward, ``states[0]`` is h0 and ``states[t + 1]`` the output of step t; in reverse, ``states[T]`` is h0
    and ``states[t]`` the output of step t. One buffer for both, because backward needs the states before and after each
    step as two contiguous (T, N, H) blocks: `outputs` and `previous`.

    Parameters
    ----------
    x : (T, N, D), of one dtype with all the other arrays
    h0 : (N, H), the state before the first step processed
    W_xh, W_hh, b_h : (D, H), (H, H), (H,) or None
    reverse : process t = T−1 … 0 instead of 0 … T−1
    parts, run : split the mini-batch into so many parts, and let ``run`` unroll them; None: one after the other
    """
    T, N, D = x.shape
    H = W_hh.shape[0]
    states = np.empty((T + 1, N, H), W_hh.dtype)
    xs, hs = (x[::-1], states[::-1]) if reverse else (x, states)  # from here on in the order of processing
    hs[0] = h0

    def part(i: int, rows: slice) -> None:
        inputs = _of(xs, rows)
        n = inputs.shape[1]
        work = scratch.take(forward_form(n, D, H), n, D, H, states.dtype)
        work.run(inputs, _of(hs, rows), W_xh, W_hh, b_h, activation)
        scratch.give(work)

    each(part, N, parts, run)
    return states


def backward(
    d_outputs: Array | None,
    d_final: Array | None,
    states: Array | Checkpoints,
    x: Array,
    W_xh: Array,
    W_hh: Array,
    activation: Activation,
    reverse: bool = False,
    wanted: tuple[bool, ...] = (True,) * 5,
    *,
    parts: int = 1,
    run: Run | None = None,
) -> Gradients:
    """Go back through `forward`: with dA for ∂L/∂A, from the step processed last to the first::

        dH_t = d_outputs_t + dZ_{t+1} W_hhᵀ        d_final instead of dZ_{t+1} W_hhᵀ at the last step
        dZ_t = dH_t ⊙ φ′(H_t)
        dX_t = dZ_t W_xhᵀ        dW_xh = Σ X_tᵀ dZ_t        dW_hh = Σ H_{t-1}ᵀ dZ_t        db_h = Σ dZ_t

    Parameters
    ----------
    d_outputs, d_final : (T, N, H), (N, H); None for zeros
    states : (T + 1, N, H), from `forward`; or Checkpoints, between which the steps are run again
    wanted : whether to compute the gradient of x, h0, W_xh, W_hh, b_h
    """  # noqa: D400
    T, N, D = x.shape
    H, dtype = W_hh.shape[0], W_hh.dtype
    d_x = np.empty(x.shape, dtype) if wanted[0] else None
    d_h0 = np.empty((N, H), dtype)
    given: list[Any] = [x, d_x, d_outputs, states]
    xs, d_xs, gs, hs = [a[::-1] if reverse and isinstance(a, np.ndarray) else a for a in given]  # as processed

    def segments(n: int, rows: slice) -> Iterable[tuple[int, int, Array]]:
        """Return, from the last to the first, where a segment begins and ends, and its states with the one before."""
        return again(states, n, rows) if isinstance(states, Checkpoints) else [(0, T, _of(hs, rows))]

    def again(kept: Checkpoints, n: int, rows: slice) -> Iterator[tuple[int, int, Array]]:
        """Run a segment again from its checkpoint."""
        whole = np.empty((min(kept.length, T) + 1, n, H), dtype)
        forth = scratch.take(forward_form(n, D, H), n, D, H, dtype)
        for lo, hi in reversed(chunks(T, kept.length)):
            hs = whole[: hi - lo + 1]
            hs[0] = kept.states[lo // kept.length, rows]
            forth.run(xs[lo:hi, rows], hs, W_xh, W_hh, kept.b_h, activation)
            yield lo, hi, hs
        scratch.give(forth)

    back = np.ascontiguousarray(W_xh.T) if wanted[0] else None

    def part(i: int, rows: slice) -> Sums:
        d_first = d_h0[rows]
        n = len(d_first)
        sums, entering = Sums(_of(xs, rows), _of(d_xs, rows), back, wanted[2:]), _of(gs, rows)
        carried = None if d_final is None else d_final[rows]
        work = scratch.take(backward_form(n, H), n, H, dtype)
        for lo, hi, hs in segments(n, rows):
            g = None if entering is None else entering[lo:hi]
            d_first[...] = work.run(g, carried, hs, W_hh, activation, sums, lo)
            carried = d_first
        scratch.give(work)
        return sums

    total = reduce(Sums.merge, each(part, N, parts, run))
    return Gradients(d_x, d_h0 if wanted[1] else None, total.W_xh, total.W_hh, total.b_h)


def _of(a: Any, rows: slice) -> Any:
    """Return the rows of an array (T, N, …), without a view where they are all; None of None."""
    return a if a is None or rows.stop is None else a[:, rows]


def outputs(states: Array, reverse: bool) -> Array:
    """Return the (T, N, H) states after each step, a view."""
    return states[:-1] if reverse else states[1:]


def previous(states: Array, reverse: bool) -> Array:
    """Return the (T, N, H) states before each step, a view."""
    return states[1:] if reverse else states[:-1]


def final(states: Array, reverse: bool) -> Array:
    """Return the (N, H) state after the step processed last, a view."""
    return cast(Array, states[0] if reverse else states[-1])
