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
from minirnn.kernels.chunks import chunk_length, chunks, power_of_two
from minirnn.kernels.clip import clipped
from minirnn.kernels.lanes import Ends, Switch, spans
from minirnn.kernels.layout import Matrices
from minirnn.kernels.sums import Sums

JOINED = 100_000
"""From so many multiplications by zero on, a step makes two products, one with x and one with h, instead of one."""

SLOPES = 1 << 19
"""Bytes of pre-activations whose derivatives are made at a time."""


class Mask(NamedTuple):
    """By what the h that is fed back is multiplied."""

    lanes: Array  # (N, H), for the sequences that are in the lanes when a run starts
    all: Array  # (sequences, H)


class Stretch(NamedTuple):
    """L steps of N lanes, which are unrolled at one go, and gone back through."""

    hs: Array  # (L + 1, N, H); without ``fed``, what was fed back: at a switch, the state of the sequence that begins
    matrices: Matrices
    ends: Ends  # for the sequences that begin or end between two steps; backward ``last`` is given, ``first`` written
    switches: Sequence[Switch]
    kept: Any  # from ``cell.keep`` for L steps; None to keep nothing
    mask: Mask | None  # its ``lanes`` are those before the first step, backward those after the last
    fed: Array | None  # (L, N, H), what was fed back; None where hs says it, or nobody asks


def steps_at_a_time(cell: Any, L: int, N: int, D: int, H: int, dtype: np.dtype[Any]) -> int:
    """Return for how many steps scratch is made to go through L of them."""
    return min(power_of_two(L), chunk_length(N, max(D + 1 + H, cell.layout.blocks * H), dtype))


class Forward:
    """Scratch for one cell, N lanes, D inputs, H neurons and so many steps at a time, and the loop that works in it."""

    def __init__(self, cell: Any, N: int, D: int, H: int, dtype: np.dtype[Any], steps: int, masked: bool) -> None:
        self.key = cell, N, D, H, dtype, steps, masked
        self.cell, self.N, self.D, self.H = cell, N, D, H
        R, K = cell.layout.blocks, D + 1 + H
        self.chunk = C = steps
        columns = (N,) if N > 1 else ()  # vectors make cheaper calls than matrices of one column
        self.inputs = inputs = np.empty((C + 1, K, *columns), dtype)  # [x_k; 1; h_{k-1}]; h_k goes to the next
        inputs[:, D] = 1
        self.fed = inputs[:, D + 1 :]
        self.outs = np.empty((C + 1, H, *columns), dtype) if masked else self.fed
        self.steps = [(inputs[k], self.fed[k], self.outs[k], self.outs[k + 1], self.fed[k + 1]) for k in range(C)]
        self.side = np.empty((R * H, *columns), dtype)
        self.spare = cell.keep(C, H, columns, dtype)
        self.spare_steps = list(cell.steps(self.spare, 0, C))
        self.point = cell.Forward(H, columns, dtype)
        self.mask = np.empty((H, *columns), dtype) if masked else None
        self.nbytes = dtype.itemsize * (C * N * (K + (R + 3) * H))

    def run(self, x: Array, extras: Sequence[Array], stretch: Stretch) -> list[Array]:
        """Unroll x (L, N, D) from hs[0] and ``extras`` (N, H) each on, and write hs[1:] and ``fed``.

        Return the states beside h after the last step, (N, H) each: views of scratch, or of ``kept``.
        """
        hs, matrices, ends, switches, kept, mask, fed = stretch
        N, H = self.N, self.H
        product, stage, step = self._product(matrices), self._stage(matrices), self.point.step
        _, rows_fed, rows_out = (a.reshape(len(a), -1, N).swapaxes(1, 2) for a in (self.inputs, self.fed, self.outs))
        xs = self.inputs.reshape(len(self.inputs), -1, N).swapaxes(1, 2)[..., : self.D]
        carried = self.spare[0] if kept is None else kept[0]
        for state, given in zip(carried, extras, strict=True):
            state[0].reshape(H, N)[...] = given.T
        rows_out[0] = hs[0]
        if mask is not None and self.mask is not None:
            self.mask.reshape(H, N)[...] = mask.lanes.T
            np.multiply(self.outs[0], self.mask, self.fed[0])
        factor, multiply = self.mask, np.multiply
        plain = stage is None and factor is None
        for lo, hi in chunks(len(x), self.chunk):
            n, base = hi - lo, 0 if kept is None else lo
            xs[:n] = x[lo:hi]
            own = self.spare_steps if kept is None else self.cell.steps(kept, lo, hi)
            steps = list(zip(self.steps[:n], own, strict=False))
            for a, b, now in spans(lo, hi, switches):
                for switch in now:
                    self._switch(switch, a - lo, [s[a - lo + base] for s in carried], ends, mask)
                if plain:
                    for (u, h, _, out, _), arrays in steps[a - lo : b - lo]:
                        product(u, arrays[0])
                        step(h, out, arrays)
                    continue
                for (u, h, before, out, feed), arrays in steps[a - lo : b - lo]:
                    product(u, arrays[0])
                    if stage is not None:
                        stage(h, arrays)
                    step(before, out, arrays)
                    if factor is not None:
                        multiply(out, factor, feed)
            if fed is not None:
                fed[lo:hi] = rows_fed[:n]
                for k, lane, old, _ in switches:
                    if lo < k < hi:  # its place was needed for the sequence after it
                        rows_out[k - lo, lane] = ends.last[0][old]
                hs[lo + 1 : hi + 1] = rows_out[1 : n + 1]
            else:
                hs[lo : hi + 1] = rows_out[: n + 1]
            self.inputs[0] = self.inputs[n]
            if factor is not None:
                self.outs[0] = self.outs[n]
            if kept is None:
                for state in carried:
                    state[0] = state[n]
        if kept is None and isinstance(self.spare[-1], list):
            self.spare[-1][:] = [None] * self.chunk  # what a user's cell kept must not live on in scratch
        return [state[0 if kept is None else len(x)].reshape(H, N).T for state in carried]

    def _switch(self, switch: Switch, k: int, carried: Sequence[Array], ends: Ends, mask: Mask | None) -> None:
        """Leave the states of the sequence that has ended; start from those of the one that begins."""
        _, lane, old, new = switch
        states = [s.reshape(self.H, 1) if self.N == 1 else s for s in (self.outs[k], *carried)]
        for state, first, last in zip(states, ends.first, ends.last, strict=True):
            last[old] = state[:, lane]
            state[:, lane] = first[new] if new >= 0 else state[:, 0]  # what idles does what lane 0 does
        if mask is not None and self.mask is not None:
            masks, fed = self.mask.reshape(self.H, self.N), self.fed[k].reshape(self.H, self.N)
            masks[:, lane] = mask.all[new] if new >= 0 else masks[:, 0]
            fed[:, lane] = states[0][:, lane] * masks[:, lane]

    def _product(self, matrices: Matrices) -> Callable[[Array, Array], Any]:
        """Return what makes Z_k of [x_k; 1; h_{k-1}]."""
        plan, D, H, side = self.cell.layout, self.D, self.H, self.side
        start, zeros = plan.start * H, plan.blocks * H - len(plan.h) * H
        if not plan.start or zeros * H * self.N < JOINED:
            return matrices.forward.dot
        of_x, from_x, from_h = plan.of_x(H), matrices.from_x, matrices.from_h
        side, both, rest = side[: len(from_h)], of_x.stop - start, slice(of_x.stop, None)
        of_both, bias = slice(start, of_x.stop), matrices.forward[rest, D].reshape(-1, *[1] * (self.inputs.ndim - 2))

        def two(u: Array, z: Array) -> None:
            from_x.dot(u[: D + 1], z[of_x])
            from_h.dot(u[D + 1 :], side)
            np.add(z[of_both], side[:both], z[of_both])
            if both < len(side):
                np.add(side[both:], bias, z[rest])

        return two

    def _stage(self, matrices: Matrices) -> Callable[..., None] | None:
        """Return what makes a stage's product, None where the cell has none."""
        make = self.point.stage
        if make is None:
            return None
        W, side = matrices.stage_forward, self.side[: self.H]

        def stage(h: Array, arrays: Any) -> None:
            source, target = make(h, arrays)
            W.dot(source, side)
            np.add(target, side, target)

        return stage


class Backward:
    """Scratch for one cell, N lanes, D inputs, H neurons and so many steps at a time, and the loop back over them."""

    def __init__(self, cell: Any, N: int, D: int, H: int, dtype: np.dtype[Any], steps: int) -> None:
        self.key = cell, N, D, H, dtype, steps
        self.cell, self.N, self.H = cell, N, H
        width = cell.layout.blocks * H
        self.chunk = C = steps
        self.slopes = S = min(C, max(1, SLOPES // (N * width * dtype.itemsize)))
        columns = (N,) if N > 1 else ()
        self.entering = np.empty((C, H, *columns), dtype)
        self.output = np.empty((S, H, *columns), dtype)
        self.rows = np.empty((C, N, width), dtype)  # dZ
        self.dh = np.empty((H, *columns), dtype)
        self.point = cell.Backward(S, H, columns, dtype)
        # One row is the same in both orders: then dZ is made where it is wanted.
        dzs = [np.empty((width, *columns), dtype)] * C if columns else list(self.rows[:, 0])
        of_h = cell.layout.of_h(H)
        self.steps = [
            (e, dz, self.point.parts(dz), dz[of_h], row.T)
            for e, dz, row in zip(self.entering, dzs, self.rows, strict=True)
        ]
        self.nbytes = dtype.itemsize * (C * N * (width + H) + S * N * (width + 3 * H))

    def run(
        self,
        d_outputs: Array | None,
        d_states: Sequence[Array | None],
        stretch: Stretch,
        clip: float | None,
        sums: Sums,
    ) -> list[Array]:
        """Go back from the last step to the first, and hand every dZ to ``sums``.

        ``d_outputs`` (L, N, H) enter at the steps, ``d_states`` (N, H) each after the last; None for zeros. ``clip`` is
        the largest norm that a column of dh may have. Return the gradients of the states before the first step, (N, H)
        each, views of scratch.
        """
        hs, matrices, ends, switches, kept, mask, fed = stretch
        N, H, point, dh = self.N, self.H, self.point, self.dh
        states = [d.reshape(H, N) for d in (dh, *point.extras)]
        for d, given in zip(states, d_states, strict=True):
            d[...] = 0 if given is None else given.T
        factor = None if mask is None else mask.lanes.T.reshape(dh.shape).copy()
        stage = None if self.cell.layout.stage is None else matrices.stage
        dot, add, step, direct = matrices.back.dot, np.add, point.step, point.direct
        plain = d_outputs is not None and stage is None and factor is None and clip is None
        entering = self.entering.reshape(len(self.entering), H, N).swapaxes(1, 2)
        output = self.output.reshape(len(self.output), H, N).swapaxes(1, 2)
        for lo, hi in reversed(chunks(len(hs) - 1, self.chunk)):
            if d_outputs is not None:
                entering[: hi - lo] = d_outputs[lo:hi]
            backwards = self.steps[hi - lo - 1 :: -1]
            for first, last in reversed(chunks(hi - lo, self.slopes)):
                first, last = lo + first, lo + last
                if self.cell.slopes_of_output:
                    output[: last - first] = hs[first + 1 : last + 1]
                slopes = point.slopes(kept, first, last, self.output[: last - first])[::-1]
                for a, b, now in reversed(list(spans(first, last, switches))):
                    steps = zip(backwards[hi - b : hi - a], slopes[last - b : last - a], strict=True)
                    if plain:
                        for (e, dz, parts, of_h, rows), arrays in steps:
                            add(dh, e, dh)
                            step(dh, parts, arrays)
                            dot(of_h, dh)
                            if direct is not None:
                                add(dh, direct, dh)
                            if N > 1:
                                rows[...] = dz
                    else:
                        self._steps(steps, d_outputs is not None, stage, dot, factor, clip)
                    for switch in now:
                        self._switch(switch, states, ends, factor, mask)
            staged = self.cell.staged(kept, lo, hi, N) if stage is not None else None
            sums.add(lo, hs[lo:hi] if fed is None else fed[lo:hi], self.rows[: hi - lo], staged)
        return [d.T for d in states]

    def _steps(self, steps: Iterable[Any], entering: bool, stage: Any, dot: Any, factor: Any, clip: Any) -> None:
        """Go back over some steps, with everything there may be."""
        dh, point = self.dh, self.point
        for (e, dz, parts, of_h, rows), arrays in steps:
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
            if point.direct is not None:
                np.add(dh, point.direct, dh)
            if self.N > 1:
                rows[...] = dz

    def _switch(self, switch: Switch, states: Sequence[Array], ends: Ends, factor: Any, mask: Mask | None) -> None:
        """Leave the gradients of the sequence that begins; go on with those of the one that ends."""
        _, lane, old, new = switch
        for d, first, last in zip(states, ends.first, ends.last, strict=True):
            if new >= 0:
                first[new] = d[:, lane]
            d[:, lane] = 0 if last is None else last[old]
        if mask is not None:
            factor.reshape(self.H, self.N)[:, lane] = mask.all[old]
