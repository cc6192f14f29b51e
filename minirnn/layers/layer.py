"""What the recurrent layers share: a cell, its parameters, and the unroll by either backend."""

from collections.abc import Sequence
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from minirnn.arguments import Array, as_size
from minirnn.autograd.functions import concatenate, stack
from minirnn.autograd.modes import anomaly
from minirnn.autograd.op import Op
from minirnn.autograd.tensor import Tensor, apply_kernel, unary, will_record, wrap
from minirnn.cells.cell import Cell, next_state, states_of
from minirnn.cells.pointwise import kernel_of
from minirnn.init import initialise
from minirnn.kernels import elman, falling, lanes, layout, unroll
from minirnn.layers import threads
from minirnn.layers.door import Door, Sequences
from minirnn.layers.module import Parameter
from minirnn.layers.recurrence import RecurrentOutput, State
from minirnn.layers.settings import SETTINGS, Settings, filled, segment_length


def _clipped(g: Any, largest: float) -> Array:
    if isinstance(g, Tensor):
        raise RuntimeError(
            "create_graph: a message that is clipped has no second derivative: leave message_clip out for it, or clip "
            "the gradients of the parameters with clip_grad_norm instead"
        )
    return layout.clipped(g, largest, 1)


clip_message = Op(lambda x, *, largest: x, "clip_message", view=True, x=_clipped)
"""H_t as it is, but that no row of dL/dH_t goes back with a norm above ``largest``."""


if TYPE_CHECKING:
    from minirnn import counting
    from minirnn.drawing import blocks

IDLE = 6e-5, 200.0
"""What a step of a lane costs for each multiplication, and to go on with fewer lanes, in µs: to weigh one against the
other, not to measure."""


KEPT = "dtype", "backend", "reverse", "batch_first", "learn_initial_state", "recurrent_dropout", "message_clip", "remat"
"""The settings that a layer has as attributes."""


class Layer(Door[State]):
    """A recurrent layer: a cell, its parameters, and the unroll. `RecurrentLayer`, `LSTMLayer`, `GRULayer` are such.

    Attributes
    ----------
    core : Cell
        What it does between its products.
    gates : int
        G.
    state_names : tuple of str
        What the arrays of a state are called; the first is the output.
    """

    gates: int = 1
    state_names: tuple[str, ...] = ("h",)
    reverse: bool
    backend: str
    recurrent_dropout: float
    message_clip: float | None
    remat: bool | int

    def __init__(self, input_size: int, hidden_size: int, cell: Cell, given: Settings) -> None:
        super().__init__()
        name, settings = self.name, filled(given, self.name)
        self.core = cell
        self.gates, self.state_names = cell.blocks, states_of(cell)
        self.input_size = D = as_size(input_size, f"{name}: input_size")
        self.hidden_size = self.output_size = H = as_size(hidden_size, f"{name}: hidden_size")
        for key in KEPT:
            setattr(self, key, getattr(settings, key))
        of_input, of_recurrent, rng = f"{name}: input_initializer", f"{name}: recurrent_initializer", settings.rng
        G, dtype = self.gates, self.dtype
        self.W_xh = Parameter(initialise(settings.input_initializer, (D, G * H), rng, dtype, of_input, G))
        self.W_hh = Parameter(initialise(settings.recurrent_initializer, (H, G * H), rng, dtype, of_recurrent, G))
        self.b_h = Parameter(np.zeros(G * H, dtype)) if settings.bias else None
        if cell.apart:  # the bias of the recurrent side is one of its own, unless it is added to the other right after
            self.b_hn = Parameter(np.zeros(H, dtype)) if settings.bias and not cell.staged else None
        self._rng = rng
        for letter in self.state_names if self.learn_initial_state else ():
            setattr(self, f"{letter}_0", Parameter(np.zeros(H, dtype)))

    @property
    def W(self) -> Array:
        """Return W_xh stacked on W_hh, (D + H, G·H): φ([X_t H_{t-1}] W + b_h) is the same layer. A read-only copy."""
        stacked = np.concatenate([self.W_xh.data, self.W_hh.data])
        stacked.flags.writeable = False
        return stacked

    def forward(
        self, x: Any, initial_state: Any = None, lengths: Any = None, *, reset: Any = None
    ) -> RecurrentOutput[State]:
        """Unroll over a mini-batch of sequences.

        Parameters
        ----------
        x : array_like or Tensor (T, N, D)
            (N, T, D) for ``batch_first``. An ndarray of the layer's dtype is kept for backward, not copied: do not
            write the next batch into it before then.
        initial_state : array_like or Tensor (N, H), optional
            The state before the first step processed, for an LSTM a pair of them; if left out, zeros, or with
            ``learn_initial_state`` what has been learned.
        lengths : array_like of int (N,), optional
            How many steps of each row count, in any order. What stands in the padding is never read; the outputs there
            are 0. In reverse a row starts at its last valid step. The cost follows the sum of the lengths.
        reset : array_like of bool (T, N), optional
            True where a new sequence begins: nothing flows from the step before to this one, in either direction. It
            starts from zeros, or from what has been learned. (N, T) for ``batch_first``.

        Returns
        -------
        RecurrentOutput : (outputs, final_state)

        Raises
        ------
        TypeError, ValueError
            For another rank or size, an empty axis, or what is not numbers.
        AnomalyError
            Within `detect_anomaly`, at the first NaN or inf: an argument, a parameter, or a term of the equation, with
            its step and row. The gradients are looked at likewise if the backward pass runs within it, too.
        """
        if anomaly():
            from minirnn.layers import watch

            return watch.forward(self, x, initial_state, lengths, reset)
        outputs, final = self._unrolled(*self.arrange(x, initial_state, lengths, reset))
        return RecurrentOutput(outputs, self._joined(final))

    def step(self, x_t: Any, state: Any = None) -> State:
        """Process one step: x_t (N, D) and a state, zeros or what has been learned if None, give the next state.

        The same numbers as the layer gives when it is called on the whole sequence.
        """
        if anomaly():
            from minirnn.layers import watch

            return cast(State, watch.step(self, x_t, state))
        x_t = self._one_step(x_t)
        return self._joined(self.graph_step(None, x_t, self._step_state(state, x_t.shape[0]), self.weights))

    def last_output(self, final_state: Any) -> Tensor:
        """Return the (N, H) output that belongs to a final state."""
        return cast(Tensor, final_state if len(self.state_names) == 1 else final_state[0])

    # --- a call ------------------------------------------------------------------------------------------------------

    def arrange(
        self, x: Any, initial_state: Any = None, lengths: Any = None, reset: Any = None
    ) -> tuple[Tensor, list[Tensor], Sequences | None, Array | None]:
        """Check a call's arguments; return x (T, N, D), the states, where sequences lie, and the mask of dropout.

        There is a state (N, H), and a row of the mask (N, H), for each row of x, or for each sequence where resets
        begin several; None for the sequences where each row is one of T steps, and for no mask.
        """
        x = self._tensor(x, "x")
        sequences = self._sequences(x.shape, lengths, reset)
        x = self._cast(x.swapaxes(0, 1) if self.batch_first else x)
        state = self._state(initial_state, x.shape[1], "initial_state")
        if (
            sequences is not None and not sequences.one_to_a_row
        ):  # they start from the state of their row, or a fresh one
            index = np.where(sequences.given, sequences.row, sequences.N)
            state = [concatenate([s, f[None]])[index] for s, f in zip(state, self._fresh(), strict=True)]
        p = self.recurrent_dropout
        if not (self.training and p):
            return x, state, sequences, None
        keep = self._rng.random((x.shape[1], self.hidden_size)) >= p  # the same at all steps of a row
        mask = keep.astype(self.dtype) / self.dtype.type(1 - p)
        return x, state, sequences, mask if sequences is None else mask[sequences.row]

    def _unrolled(
        self, x: Tensor, state: Sequence[Tensor], sequences: Sequences | None, mask: Array | None
    ) -> tuple[Tensor, list[Tensor]]:
        """Run the backend; return outputs as the caller gets them, and the final state."""
        run = self._fused if self.backend == "fused" else self._graph
        outputs, *final = run(sequences, mask, x, *state, *self.weights)
        if sequences is not None and not sequences.one_to_a_row:
            final = [f[sequences.last] for f in final]
        return outputs.swapaxes(0, 1) if self.batch_first else outputs, final

    def _step_state(self, state: Any, N: int) -> list[Tensor]:
        """Return the state before a single step."""
        if self.training and self.recurrent_dropout:
            raise RuntimeError(
                f"{self.name}: step with recurrent_dropout in training: the mask is one for a whole sequence, which a "
                "single step does not know: call eval() before, or the layer on the whole sequence"
            )
        return self._state(state, N, "state")

    @property
    def weights(self) -> list[Any]:
        """W_xh, W_hh and b_h, None without bias; then b_hn, if the cell has one."""
        return [self.W_xh, self.W_hh, self.b_h, *([self.b_hn] if self.core.apart and not self.core.staged else [])]

    # --- the two backends: (sequences, mask, x, *state, *weights) -> (outputs, *final state) --------------------------

    def graph_step(self, mask: Any, x_t: Any, state: Sequence[Tensor], weights: Sequence[Any]) -> list[Tensor]:
        """Return the state after x_t (N, D), one op for each operation; ``mask`` (N, H) multiplies the h fed back."""
        h, *others = next_state(self.core, x_t, state, mask, *weights)
        return [h if self.message_clip is None else unary(clip_message, h, largest=self.message_clip), *others]

    def _graph(self, sequences: Sequences | None, mask: Any, x: Tensor, *others: Any) -> tuple[Tensor, ...]:
        S = len(self.state_names)
        state, weights = list(others[:S]), others[S:]
        if sequences is not None:
            return self._graph_of_sequences(sequences, mask, x, state, weights)
        T = x.shape[0]
        outputs = [state[0]] * T
        for t in reversed(range(T)) if self.reverse else range(T):
            state = self.graph_step(mask, x[t], state, weights)
            outputs[t] = state[0]
        return stack(outputs), *state

    def _graph_of_sequences(
        self, sequences: Sequences, mask: Any, x: Tensor, state: list[Tensor], weights: Sequence[Any]
    ) -> tuple[Tensor, ...]:
        """Process at each step the sequences that have it: what stands in the padding is not even read."""
        T, N, _ = x.shape
        at, ends, count = np.zeros((T, N), int), np.zeros(len(sequences.row), int), 1
        after = [[wrap(np.zeros((1, self.hidden_size), self.dtype), None)] for _ in state]  # row 0 is for the padding
        for k, (now, time, row) in enumerate(sequences.steps()):
            state = [s[now] if k == 0 else s[: len(now)] for s in state]
            state = self.graph_step(None if mask is None else mask[now], x[time, row], state, weights)
            at[time, row] = ends[now] = np.arange(count, count + len(now))
            count += len(now)
            for made, s in zip(after, state, strict=True):
                made.append(s)
        joined = [concatenate(made) for made in after]
        return joined[0][at], *(s[ends] for s in joined)

    @cached_property
    def _kernel(self) -> Any:
        """The cell between the products, on arrays (minirnn/kernels)."""
        return kernel_of(self.core)

    def _fused(self, sequences: Sequences | None, mask: Any, *inputs: Any) -> tuple[Tensor, ...]:
        S = len(self.state_names)
        arrays: list[Any] = [None if tensor is None else tensor.data for tensor in inputs]
        x, state, weights_given = arrays[0], arrays[1 : 1 + S], arrays[1 + S :]
        weights = layout.Weights(*weights_given)
        falls = unroll.falls(self._kernel, mask is not None or self.message_clip is not None)
        settings = self._settings(x.shape, sequences, mask, falls)
        way: Any = elman if falls and sequences is None else unroll
        save = way is elman or will_record(inputs)  # Elman's plain kernel saves what it returns anyway
        outputs, final, saved = way.forward(x, state, weights, settings, save)

        def backward(received: dict[int, Array], wanted: tuple[bool, ...]) -> Sequence[Array | None]:
            needed = layout.name_wanted((wanted[0], *wanted[1 + S :]))
            d_final = [received.get(1 + i) for i in range(S)]
            d_x, d_state, *d_weights = way.backward(received.get(0), d_final, saved, x, weights, settings, needed)
            return d_x, *d_state, *d_weights[: len(weights_given)]

        return apply_kernel(self, inputs, (outputs, *final), backward, partial(self._graph, sequences, mask))

    def _settings(self, shape: tuple[int, ...], sequences: Sequences | None, mask: Any, falls: bool) -> layout.Settings:
        T, N, D = shape
        H, G, segment = self.hidden_size, self.gates, segment_length(self.remat, shape[0])
        parts, run = threads.plan(T, N, D, H, G)
        way: Any = None
        if sequences is not None:
            each, change = IDLE
            worth = change / (each * G * H * (D + H + 50))
            places, parts = sequences.places(), 1
            way = falling.plan(*places) if falls else lanes.pack(*places, T * N, worth, segment=segment)
        return layout.Settings(self._kernel, self.reverse, way, mask, self.message_clip, segment, parts, run)

    def every_state(self, x: Array, state: Sequence[Array], mask: Array | None) -> list[Array]:
        """Return every state of whole rows x (T, N, D) in the order of processing: (T + 1, N, H) each."""
        weights = layout.Weights(*(None if w is None else w.data for w in self.weights))
        settings = layout.Settings(self._kernel, mask=mask)
        if unroll.falls(self._kernel, mask is not None):
            return [elman.forward(x, state, weights, settings).saved]
        return unroll.states(x, state, weights, settings)

    # --- what it says of itself --------------------------------------------------------------------------------------

    def count(self) -> "counting.ParameterCount":
        """Return the analytic count, with formulas, shapes and what other libraries would report."""
        from minirnn import counting

        cell, bias = self.core, self.b_h is not None
        reset_after = not cell.staged if cell.apart else None
        return counting.layer(cell.known_as, self.gates, self.input_size, self.hidden_size, bias, reset_after)

    def counted(self, prefix: str = "") -> "list[counting.Term]":
        """Return the rows of `summary`, with the formula in note 000's letters."""
        from dataclasses import replace

        from minirnn import counting

        H, learned = self.hidden_size, self.state_names * self.learn_initial_state
        terms = *self.count().terms, *(counting.Term(f"{s}_0", (H,), (H,), "n", str(H), H) for s in learned)
        return [replace(term, name=prefix + term.name) for term in terms]

    def counting_notes(self, prefix: str = "") -> list[str]:
        """Say what other libraries would count for this layer, and why; nothing for a cell that they have not."""
        count = self.count()
        lines = count.reconciliation()
        if not lines:
            return []
        letters = f"{prefix.rstrip('.') or self.name}, with m = {count.m}, n = {count.n}; in other libraries:"
        if more := self.learn_initial_state * self.hidden_size * len(self.state_names):
            lines.append(
                f"The initial state that is learned counts {more}; there it would be a parameter of one's own."
            )
        return [letters, *(f"  {line}" for line in lines)]

    def extra_repr(self) -> str:
        """Return the settings shown between the brackets of ``repr``."""
        values = {name: getattr(self, name) for name in KEPT[1:]}
        shown = [f"{k}={v!r}" for k, v in values.items() if k == "backend" or v != SETTINGS[k].default]
        own = [f"{self.input_size}, {self.hidden_size}", *self._own_repr(), *["bias=False"] * (self.b_h is None)]
        return ", ".join([*own, *shown, f"dtype={self.dtype.name}"])

    def _own_repr(self) -> list[str]:
        """Return the settings that other layers do not have."""
        return []

    def _title(self) -> str:
        return f"{self.name}({self.extra_repr()}): {self.count_params():,} parameters"

    def _block(self) -> "blocks.Cell":
        from minirnn.drawing import blocks

        into, around, *biases = (blocks.Weight(p.name, p.shape) for p in self.weights if p is not None)
        way = bool(self.reverse)
        return blocks.Cell(self.name, self.core.labels, self.state_names, into, around, biases, way, self.hidden_size)

    def _equations(self) -> list[str]:
        from minirnn.cells.writing import lines_of

        return lines_of(self.core, self.hidden_size, bias=self.b_h is not None, reverse=self.reverse)
