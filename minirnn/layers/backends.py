"""The unroll of a recurrent layer by either backend: op by op, or as one node with a kernel."""

from collections.abc import Callable, Sequence
from functools import cached_property, lru_cache, partial
from typing import Any, NamedTuple

import numpy as np

from minirnn.arguments import Array
from minirnn.autograd.functions import concatenate, stack, where
from minirnn.autograd.op import Op
from minirnn.autograd.tensor import Tensor, apply_kernel, as_tensor, lay_open, unary, wrap
from minirnn.cells.cell import Cell, next_state
from minirnn.cells.pointwise import kernel_of
from minirnn.kernels import elman, falling, lanes, layout, padded, unroll
from minirnn.layers import threads
from minirnn.layers.door import Door, Sequences
from minirnn.layers.held import Kept
from minirnn.layers.module import Parameter
from minirnn.layers.recurrence import State
from minirnn.layers.settings import segment_length


def _clipped(g: Any, largest: float) -> Array:
    if isinstance(g, Tensor):
        raise RuntimeError(
            "create_graph: a message that is clipped has no second derivative: leave message_clip out for it, or clip "
            "the gradients of the parameters with clip_grad_norm instead"
        )
    return layout.clipped(g, largest, 1)


clip_message = Op(lambda x, *, largest: x, "clip_message", view=True, x=_clipped)
"""H_t as it is, but that no row of dL/dH_t goes back with a norm above ``largest``."""

IDLE = 6e-5, 200.0
"""What a step of a lane costs for each multiplication, and to go on with fewer lanes, in µs: to weigh one against the
other, not to measure."""


@lru_cache(maxsize=64)
def _needed(wanted: tuple[bool, ...], states: int) -> frozenset[str]:
    """Name the inputs whose gradients are wanted, of x, so many states, and the weights, as kernels do."""
    return layout.name_wanted((wanted[0], *wanted[1 + states :]))


class Whole(NamedTuple):
    """How whole rows of one shape are unrolled."""

    shape: tuple[int, ...]  # (T, N, D)
    H: int
    way: Any  # the kernel's forward and backward
    settings: layout.Settings
    fresh: list[Array] | None  # see `Layer._fresh_rows`
    threads: int | None  # how many there were to share them, None where one is enough however many there are

    def serves(self, shape: tuple[int, ...]) -> bool:
        """Whether rows of this shape are unrolled so now."""
        return shape == self.shape and (self.threads is None or self.threads == threads.get_num_threads())

    def with_lengths(self, lengths: Array, least: int, most: int, total: int) -> tuple[Any, layout.Settings]:
        """Return the way and the settings for rows of these lengths, all of which begin at t = 0."""
        shape, (cell, reverse, _, mask, clip, segment, parts, run) = self.shape, self.settings
        T, N, _ = shape
        way: Any
        planned: Any
        if least == T:
            return self.way, self.settings
        if self.way is not elman:
            planned = gated_plan(shape, self.H, cell, (padded.counting(N), lengths, N), segment)
            return self.way, layout.Settings(cell, reverse, planned, mask, clip, segment, 1, run)
        if padded.pays(shape, self.H, cell.activation, most, total):
            way, planned = padded, padded.padding_of(shape, lengths, most)
        else:
            way, planned = falling, falling.plan(padded.counting(N), lengths, N)
        return way, layout.Settings(cell, reverse, planned, mask, clip, segment, parts, run)


def gated_plan(
    shape: tuple[int, ...], H: int, cell: Any, places: tuple[Array, Array, int], segment: int | None
) -> padded.Padded | lanes.Lanes:
    """Choose how sequences of unequal length go through a cell that has no unroll of its own."""
    (T, N, D), (each, change) = shape, IDLE
    worth = change / (each * len(cell.layout.x) * H * (D + H + 50))
    return padded.plan_gated(shape, H, cell, *places) or lanes.pack(*places, T * N, worth, segment=segment)


class Backends(Door[State]):
    """A door, and the two ways from there to the outputs."""

    core: Cell
    gates: int
    reverse: bool
    backend: str
    W_xh: Parameter
    W_hh: Parameter
    b_h: Parameter | None
    b_hn: Parameter | None
    zoneout: float
    message_clip: float | None
    _rng: Any
    _fresh_rows: Any
    _without_kernel = ""
    """What else than zoneout has the layer unrolled op by op."""

    @property
    def by_op(self) -> str:
        """Name what has the layer unrolled op by op whatever the backend, since no kernel has it; "" for nothing."""
        return self._without_kernel or ("zoneout" if self.zoneout else "")

    @property
    def weights(self) -> list[Any]:
        """W_xh, W_hh and b_h, None without bias; then b_hn, if the cell has one."""
        own = [self.W_xh, self.W_hh, self.b_h]
        return [*own, self.b_hn] if self.core.apart and not self.core.staged else own

    def _unrolled(
        self,
        x: Any,
        state: Sequence[Any],
        sequences: Sequences | None,
        mask: Array | None,
        every: bool = False,
        weights: Sequence[Any] | None = None,
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Run the backend; return outputs as the caller gets them, h alone or every state, and the final state."""
        run: Any = self._fused
        if every or self.backend == "graph" or self.by_op:
            run = partial(self._graph, every=every, zones=self._zones(x.shape))
        made = run(sequences, mask, x, *state, *(self.weights if weights is None else weights))
        outputs, final = made[: -len(state)], made[-len(state) :]
        if sequences is not None and not sequences.one_to_a_row:
            final = [f[sequences.last] for f in final]
        return [o.swapaxes(0, 1) for o in outputs] if self.batch_first else outputs, final

    def _zones(self, shape: tuple[int, ...]) -> Any:
        """Return which part of the old state stays: in training True or False, (T, N, states · H), else the mean."""
        if not (self.zoneout and self.training):
            return self.zoneout
        return self._rng.random((*shape[:2], sum(self.state_sizes))) < self.zoneout

    def _zoned(self, zone: Any, old: Sequence[Tensor], new: list[Tensor]) -> list[Tensor]:
        """Return the state after a step of which a part stays: zone ⊙ old + (1 − zone) ⊙ new, 1 for True."""
        if isinstance(zone, float):
            return [zone * a + (1 - zone) * b for a, b in zip(old, new, strict=True)] if zone else new
        zones = np.split(zone, np.cumsum(self.state_sizes)[:-1], axis=1)
        return [where(z, a, b) for z, a, b in zip(zones, old, new, strict=True)]

    # --- the two backends: (sequences, mask, x, *state, *weights) -> (outputs, *final state) --------------------------

    def graph_step(self, mask: Any, x_t: Any, state: Sequence[Tensor], weights: Sequence[Any]) -> list[Tensor]:
        """Return the state after x_t (N, D), one op for each operation; ``mask`` (N, H) multiplies the h fed back."""
        h, *others = next_state(self.core, x_t, state, mask, *weights)
        return [h if self.message_clip is None else unary(clip_message, h, largest=self.message_clip), *others]

    def _graph(
        self, sequences: Sequences | None, mask: Any, x: Tensor, *others: Any, every: bool = False, zones: Any = 0.0
    ) -> tuple[Tensor, ...]:
        S = len(self.state_names)
        x, state = as_tensor(x), [as_tensor(s) for s in others[:S]]
        weights, told = others[S:], S if every else 1
        if sequences is not None:
            return self._graph_of_sequences(sequences, mask, x, state, weights, told, zones)
        T, one = x.shape[0], isinstance(zones, float)
        made = [state] * T
        for t in reversed(range(T)) if self.reverse else range(T):
            state = self._zoned(zones if one else zones[t], state, self.graph_step(mask, x[t], state, weights))
            made[t] = state
        return *(stack(each) for each in list(zip(*made, strict=True))[:told]), *state

    def _graph_of_sequences(
        self,
        sequences: Sequences,
        mask: Any,
        x: Tensor,
        state: list[Tensor],
        weights: Sequence[Any],
        told: int,
        zones: Any,
    ) -> tuple[Tensor, ...]:
        """Process at each step the sequences that have it: what stands in the padding is not even read."""
        T, N, _ = x.shape
        at, ends, count = np.zeros((T, N), int), np.zeros(len(sequences.row), int), 1
        after = [[wrap(np.zeros((1, size), self.dtype), None)] for size in self.state_sizes]  # row 0 is for the padding
        for k, (now, time, row) in enumerate(sequences.steps()):
            state = [s[now] if k == 0 else s[: len(now)] for s in state]
            new = self.graph_step(None if mask is None else mask[now], x[time, row], state, weights)
            state = self._zoned(zones if isinstance(zones, float) else zones[time, row], state, new)
            at[time, row] = ends[now] = np.arange(count, count + len(now))
            count += len(now)
            for made, s in zip(after, state, strict=True):
                made.append(s)
        joined = [concatenate(made) for made in after]
        return *(s[at] for s in joined[:told]), *(s[ends] for s in joined)

    @cached_property
    def _kernel(self) -> Any:
        """The cell between the products, on arrays (minirnn/kernels)."""
        return kernel_of(self.core)

    def _fused(self, sequences: Sequences | None, mask: Any, *inputs: Any) -> tuple[Tensor, ...]:
        shape = inputs[0].shape
        way, settings = self._settings(shape, sequences, mask) if mask is not None else self._whole(shape)
        if sequences is not None and mask is None:  # what was kept of whole rows is for the next call
            way, settings = self._settings(shape, sequences, mask)
        return self._by_kernel(way, settings, lambda: sequences, inputs)

    def _by_kernel(
        self, way: Any, settings: layout.Settings, sequences: Callable[[], Sequences | None], inputs: Sequence[Any]
    ) -> tuple[Tensor, ...]:
        S, laid = len(self.state_names), lay_open(inputs)
        arrays = laid.arrays
        x, state, weights = arrays[0], arrays[1 : 1 + S], layout.Weights(*arrays[1 + S :])
        save = way is elman or laid.recorded  # Elman's plain kernel saves what it returns anyway
        outputs, final, saved = way.forward(x, state, weights, settings, save)

        def backward(received: dict[int, Array], wanted: tuple[bool, ...]) -> Sequence[Array | None]:
            needed, d_final = _needed(wanted, S), list(map(received.get, range(1, 1 + S)))
            d = way.backward(received.get(0), d_final, saved, x, weights, settings, needed)
            return d[0], *d[1], *d[2 : len(wanted) + 1 - S]

        def rerun(*inputs: Any) -> tuple[Tensor, ...]:
            return self._graph(sequences(), settings.mask, *inputs)

        return apply_kernel(self, laid, (outputs, *final), backward, rerun)

    def _whole(self, shape: tuple[int, ...]) -> tuple[Any, layout.Settings]:
        """Return the way and the settings for whole rows, kept for calls of one shape."""
        kept: Kept = vars(self).get("_kept") or self._keep()
        whole = kept.whole  # read once: threads share a layer
        if whole is not None and whole.serves(shape):
            return whole.way, whole.settings
        (T, N, D), H = shape, self.hidden_size
        shared = None if threads.few(T, N, D, H, self.gates) else threads.get_num_threads()
        way, settings = self._settings(shape, None, None)
        kept.whole = Whole(shape, H, way, settings, self._fresh_rows(N), shared)
        return way, settings

    def _settings(self, shape: tuple[int, ...], sequences: Sequences | None, mask: Any) -> tuple[Any, layout.Settings]:
        T, N, D = shape
        H, G, segment = self.hidden_size, self.gates, segment_length(self.remat, T)
        falls = unroll.falls(self._kernel, mask is not None or self.message_clip is not None)
        parts, run = threads.plan(T, N, D, H, G)
        way: Any = None
        if sequences is not None:
            places, parts = sequences.places(), 1
            if falls:
                way = padded.plan(shape, H, self._kernel.activation, *places)
            else:
                way = gated_plan(shape, H, self._kernel, places, segment)
        settings = layout.Settings(self._kernel, self.reverse, way, mask, self.message_clip, segment, parts, run)
        return elman if falls and sequences is None else unroll, settings

    def every_state(self, x: Array, state: Sequence[Array], mask: Array | None) -> list[Array]:
        """Return every state of whole rows x (T, N, D) in the order of processing: (T + 1, N, H) each."""
        weights = layout.Weights(*(None if w is None else w.data for w in self.weights))
        settings = layout.Settings(self._kernel, mask=mask)
        if unroll.falls(self._kernel, mask is not None):
            return [elman.forward(x, state, weights, settings).saved]
        return unroll.states(x, state, weights, settings)
