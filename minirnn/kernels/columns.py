"""The loop over the steps, and every matrix product in it, for any cell: what a step reads stands in one array::

    Z_k = W [x_k; 1; h_{k-1}]     (note 003, equation 14-2, second line)  and the cell makes h_k of it, entry by entry
    dh_{k-1} = V dZ_k             with the dZ_k that the cell makes of dh_k

Arrays hold columns, features first and the rows of the mini-batch last: so each gate is contiguous, and h_k comes out
right where step k + 1 reads it. They are copied from and to the order of the layer a chunk at a time. Steps are in the
order of processing, and rows are *lanes* (kernels/lanes.py): where a sequence ends in one, another may begin.
"""  # noqa: D400

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from minirnn.arguments import Array
from minirnn.kernels.cells import rows_first
from minirnn.kernels.lanes import Switch, spans
from minirnn.kernels.layout import Matrices, Settings, Sums, clipped
from minirnn.kernels.products import fitting, times
from minirnn.kernels.scratch import chunk_length, chunks

JOINED = 100_000
"""From so many multiplications by zero on, a step makes two products, one with x and one with h, instead of one."""

ROWS = 512
"""Rows of a chunk that are enough for the products over them: of gates, derivatives and dZ, more leave the cache."""

SLOPES = 1 << 19
"""Bytes of pre-activations whose derivatives are made at a time."""


class Saved(NamedTuple):
    """What forward leaves for backward of L steps of N lanes, which are unrolled at one go, and gone back through."""

    inputs: Array  # (L, N, D), what was read of x; a view unless lanes were packed
    hs: Array  # (L + 1, N, H); without ``fed``, what was fed back: at a switch, the state of the sequence that begins
    extras: Sequence[Array]  # (N, H) each, the other states before the first step
    first: Sequence[Array]  # (sequences, H) each, the states before the first steps of all sequences
    own: Any  # what the cell saved of L steps; None where they are to be run again, or backward is not to follow
    fed: Array | None  # (L, N, H), what was fed back; None where hs says it, or nobody asks
    others: Sequence[Array] = ()  # (L + 1, N, H) each, the other states, as hs; where somebody asks


class Around(NamedTuple):
    """What such pieces lie in.

    ``first`` and ``last`` have an array (sequences, H) for each array of a state: what all sequences start from, and
    where they are left. Backward it is the gradients, ``last`` given.
    """

    view: Any  # Whole or Packed
    first: Sequence[Any]
    last: Sequence[Any]
    matrices: Matrices
    settings: Settings

    def mask(self, i: int, *, end: bool = False) -> Any:
        """Return by what the h of the lanes of piece ``i`` is multiplied as it starts, or ends, (N, H); None for 1."""
        masks = self.settings.mask
        return None if masks is None else self.view.mask(masks, i, end=end)


def steps_at_a_time(cell: Any, L: int, N: int, D: int, H: int, dtype: np.dtype[Any]) -> int:
    """Return for how many steps scratch is made to go through L of them."""
    few = 1 << (L - 1).bit_length()  # a power of two, not less than L: scratch of few sizes serves for all
    return min(few, chunk_length(N, max(D + 1 + H, cell.layout.blocks * H), dtype, ROWS))


def steps_back(cell: Any, L: int, N: int, D: int, H: int, dtype: np.dtype[Any]) -> int:
    """Return the same for backward, where the sums over the steps are products as well."""
    return fitting(steps_at_a_time(cell, L, N, D, H, dtype), N * cell.layout.blocks * H * max(D, H))


class Forward:
    """Scratch for one cell, N lanes, D inputs, H neurons and so many steps at a time, and the loop that works in it."""

    def __init__(self, cell: Any, N: int, D: int, H: int, dtype: np.dtype[Any], steps: int, masked: bool) -> None:
        self.cell, self.N, self.chunk = cell, N, steps
        self.D, self.H = D, H
        R, K = cell.layout.blocks, D + 1 + H
        columns = (N,) if N > 1 else ()  # vectors make cheaper calls than matrices of one column
        self.inputs = np.empty((steps + 1, K, *columns), dtype)  # [x_k; 1; h_{k-1}]; h_k goes to the next
        self.inputs[:, D] = 1
        self.fed = self.inputs[:, D + 1 :]
        self.outs = np.empty((steps + 1, H, *columns), dtype) if masked else self.fed
        self.steps = list(zip(self.inputs, self.fed, self.outs, self.outs[1:], self.fed[1:], strict=False))
        self.side = np.empty((R * H, *columns), dtype)
        self.point = cell.Forward(steps, H, columns, dtype)
        self.mask = np.empty((H, *columns), dtype)
        self.nbytes = dtype.itemsize * (steps * N * (K + (R + 3) * H))

    def run(self, saved: Saved, around: Around, i: int) -> list[Array]:
        """Unroll the inputs of piece ``i`` from hs[0] and the extras on; write hs[1:], ``own``, ``fed``, ``others``.

        Return the states beside h after the last step, (N, H) each: views of scratch.
        """
        x, hs, extras, _, own, fed, others = saved
        switches, mask = around.view.pieces[i].switches, around.mask(i)
        product, point = self._product(around.matrices), self.point
        step, stage, carried = point.step, point.stage, point.carried
        W_stage, side = None if stage is None else around.matrices.stage_forward, self.side[: self.H]
        rows_fed, rows_out = rows_first(self.fed, self.N), rows_first(self.outs, self.N)
        xs = rows_first(self.inputs, self.N)[..., : self.D]
        for state, given in zip(carried, extras, strict=True):
            state[0].reshape(self.H, self.N)[...] = given.T
        rows_out[0] = hs[0]
        factor, multiply = None if mask is None else self.mask, np.multiply
        if factor is not None:
            factor.reshape(self.H, self.N)[...] = mask.T
            multiply(self.outs[0], factor, self.fed[0])
        plain = stage is None and factor is None
        for lo, hi in chunks(len(x), self.chunk):
            n = hi - lo
            xs[:n] = x[lo:hi]
            steps = list(zip(self.steps[:n], point.steps, strict=False))
            for a, b, now in spans(lo, hi, switches):
                for switch in now:
                    self._switch(switch, a - lo, [s[a - lo] for s in carried], around)
                if plain:
                    for (u, h, _, out, _), arrays in steps[a - lo : b - lo]:
                        product(u, arrays[0])
                        step(h, out, arrays)
                    continue
                for (u, h, before, out, feed), arrays in steps[a - lo : b - lo]:
                    product(u, arrays[0])
                    if W_stage is not None:
                        source, target = stage(h, arrays)
                        W_stage.dot(source, side)
                        np.add(target, side, target)
                    step(before, out, arrays)
                    if factor is not None:
                        multiply(out, factor, feed)
            if fed is not None:
                fed[lo:hi] = rows_fed[:n]
                for k, lane, old, _ in switches:
                    if lo < k < hi:  # its place was needed for the sequence after it
                        rows_out[k - lo, lane] = around.last[0][old]
                hs[lo + 1 : hi + 1] = rows_out[1 : n + 1]
            else:
                hs[lo : hi + 1] = rows_out[: n + 1]
            self.inputs[0] = self.inputs[n]
            if factor is not None:
                self.outs[0] = self.outs[n]
            if own is not None:
                point.save(own, lo, n)
            for state, kept in zip(carried, others, strict=False):
                kept[lo : hi + 1] = rows_first(state[: n + 1], self.N)
            for state in carried:
                state[0] = state[n]
        point.forget()
        return [state[0].reshape(self.H, self.N).T for state in carried]

    def _switch(self, switch: Switch, k: int, carried: Sequence[Array], around: Around) -> None:
        """Leave the states of the sequence that has ended; start from those of the one that begins."""
        _, lane, old, new = switch
        states = [s.reshape(self.H, 1) if self.N == 1 else s for s in (self.outs[k], *carried)]
        for state, first, last in zip(states, around.first, around.last, strict=True):
            last[old] = state[:, lane]
            state[:, lane] = first[new] if new >= 0 else state[:, 0]  # what idles does what lane 0 does
        if around.settings.mask is not None:
            masks, fed = self.mask.reshape(self.H, self.N), self.fed[k].reshape(self.H, self.N)
            masks[:, lane] = around.settings.mask[new] if new >= 0 else masks[:, 0]
            fed[:, lane] = states[0][:, lane] * masks[:, lane]

    def _product(self, matrices: Matrices) -> Callable[[Array, Array], Any]:
        """Return the function that writes Z_k, made of [x_k; 1; h_{k-1}]."""
        plan, D, H = self.cell.layout, self.D, self.H
        start, zeros = plan.start * H, plan.blocks * H - len(plan.h) * H
        if not plan.start or zeros * H * self.N < JOINED:
            return times(matrices.forward, self.N)
        x_side, from_x, from_h = plan.slice_x(H), times(matrices.from_x, self.N), times(matrices.from_h, self.N)
        side, both, rest = self.side[: len(plan.h) * H], x_side.stop - start, slice(x_side.stop, None)
        both_sides = slice(start, x_side.stop)
        bias = matrices.forward[rest, D].reshape(-1, *[1] * (self.inputs.ndim - 2))

        def two(u: Array, z: Array) -> None:
            from_x(u[: D + 1], z[x_side])
            from_h(u[D + 1 :], side)
            np.add(z[both_sides], side[:both], z[both_sides])
            if both < len(side):
                np.add(side[both:], bias, z[rest])

        return two


class Backward:
    """Scratch for one cell, N lanes, D inputs, H neurons and so many steps at a time, and the loop back over them."""

    def __init__(self, cell: Any, N: int, D: int, H: int, dtype: np.dtype[Any], steps: int) -> None:
        self.cell, self.N, self.chunk = cell, N, steps
        width = cell.layout.blocks * H
        self.slopes = S = min(steps, max(1, SLOPES // (N * width * dtype.itemsize)))
        columns = (N,) if N > 1 else ()
        self.entering = np.empty((steps, H, *columns), dtype)
        self.output = np.empty((S, H, *columns), dtype)
        self.dh = np.empty((H, *columns), dtype)
        self.point = point = cell.Backward(steps, S, H, columns, dtype)
        self.turned = np.empty(steps * N * width, dtype)  # dZ of all steps and rows
        direct = [None] * steps if point.direct is None else point.direct
        of_h = point.dz[:, cell.layout.slice_h(H)]
        self.steps = list(zip(self.entering, point.parts, of_h, direct, strict=True))
        self.nbytes = dtype.itemsize * (steps * N * (2 * width + 3 * H) + S * N * 2 * H)

    def run(
        self,
        d_outputs: Array | None,
        d_states: Sequence[Array],
        saved: Saved,
        around: Around,
        i: int,
        sums: Sums,
    ) -> list[Array]:
        """Go back through piece ``i`` from the last step to the first, and hand every dZ to ``sums``.

        ``d_outputs`` (L, N, H) enter at the steps, None for zeros; ``d_states`` (N, H) each after the last. Return the
        gradients of the states before the first step, (N, H) each, views of scratch.
        """
        hs, N, point = saved.hs, self.N, self.point
        switches, mask, clip = around.view.pieces[i].switches, around.mask(i, end=True), around.settings.clip
        states = [self.dh, *(d[0] for d in point.carried)]
        for d, given in zip(states, d_states, strict=True):
            d.reshape(-1, N)[...] = given.T
        factor = None if mask is None else mask.T.reshape(self.dh.shape).copy()
        stage = None if self.cell.layout.stage is None else around.matrices.stage
        dh, dot, add = self.dh, times(around.matrices.back, N), np.add
        step = point.step
        plain = d_outputs is not None and stage is None and factor is None and clip is None
        entering, output = rows_first(self.entering, N), rows_first(self.output, N)
        for lo, hi in reversed(chunks(len(hs) - 1, self.chunk)):
            if d_outputs is not None:
                entering[: hi - lo] = d_outputs[lo:hi]
            for d in point.carried:
                d[hi - lo] = d[0]
            backwards = self.steps[hi - lo - 1 :: -1]
            for first, last in reversed([(lo + a, lo + b) for a, b in chunks(hi - lo, self.slopes)]):
                if self.cell.slopes_of_output:
                    output[: last - first] = hs[first + 1 : last + 1]
                slopes = point.slopes(saved.own, first, last, self.output[: last - first])[::-1]
                for a, b, now in reversed(list(spans(first, last, switches))):
                    steps = zip(backwards[hi - b : hi - a], slopes[last - b : last - a], strict=True)
                    if plain:
                        for (e, parts, of_h, direct), arrays in steps:
                            add(dh, e, dh)
                            step(dh, parts, arrays)
                            dot(of_h, dh)
                            if direct is not None:
                                add(dh, direct, dh)
                    else:
                        self._steps(steps, d_outputs is not None, stage, dot, factor, clip)
                    for switch in now:
                        self._switch(switch, [self.dh, *(d[a - lo] for d in point.carried)], around, factor)
            staged = self.cell.staged(saved.own, lo, hi, N) if stage is not None else None
            sums.add(lo, (hs if saved.fed is None else saved.fed)[lo:hi], self._rows(hi - lo), staged)
        return [d.reshape(-1, N).T for d in states]

    def _rows(self, n: int) -> Array:
        """Return dZ of the first ``n`` steps, (n·N, blocks·H); features lie first in memory, as they were made."""
        dz: Array = self.point.dz[:n]
        if self.N == 1:
            return dz
        turned = self.turned[: dz.size].reshape(-1, n, self.N)
        np.copyto(turned, dz.swapaxes(0, 1))
        return turned.reshape(len(turned), -1).T

    def _steps(self, steps: Iterable[Any], entering: bool, stage: Any, dot: Any, factor: Any, clip: Any) -> None:
        """Go back over some steps, with everything there may be."""
        dh, point = self.dh, self.point
        for (e, parts, of_h, direct), arrays in steps:
            if entering:
                np.add(dh, e, dh)
            if clip is not None:
                dh[...] = clipped(dh, clip, 0)
            source = point.step(dh, parts, arrays)
            if stage is not None:
                stage.dot(source, point.staged)
                point.stage(parts, arrays)
            dot(of_h, dh)
            if stage is not None:
                np.add(dh, point.staged, dh)
            if factor is not None:
                np.multiply(dh, factor, dh)
            if direct is not None:
                np.add(dh, direct, dh)

    def _switch(self, switch: Switch, states: Sequence[Array], around: Around, factor: Any) -> None:
        """Leave the gradients of the sequence that begins; go on with those of the one that ends."""
        _, lane, old, new = switch
        states = [d.reshape(-1, self.N) for d in states]
        for d, first, last in zip(states, around.first, around.last, strict=True):
            if new >= 0:
                first[new] = d[:, lane]
            d[:, lane] = 0 if last is None else last[old]
        if around.settings.mask is not None:
            factor.reshape(-1, self.N)[:, lane] = around.settings.mask[old]
