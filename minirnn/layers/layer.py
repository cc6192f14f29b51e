"""What the recurrent layers share: a cell, its parameters, and the unroll by either backend."""

from typing import TYPE_CHECKING, Any, cast

import numpy as np

from minirnn.arguments import Array, as_flag, as_size, checked_lengths
from minirnn.autograd.functions import concatenate
from minirnn.autograd.modes import ANOMALY, MODE, RECORD
from minirnn.autograd.tensor import Tensor, as_tensor, lay_open, wrap
from minirnn.cells.cell import Cell, states_of
from minirnn.init import initialise
from minirnn.kernels.layout import Weights
from minirnn.kernels.one_hot import OneHot
from minirnn.kernels.step import STEPS
from minirnn.layers.backends import Backends, Whole
from minirnn.layers.door import Sequences, one_to_each_row
from minirnn.layers.held import Kept
from minirnn.layers.module import Parameter
from minirnn.layers.recurrence import RecurrentOutput, State
from minirnn.layers.settings import SETTINGS, Settings, filled

if TYPE_CHECKING:
    from minirnn import counting
    from minirnn.drawing import blocks

KEPT = (
    "dtype", "backend", "reverse", "batch_first", "learn_initial_state", "recurrent_dropout", "zoneout", "message_clip",
    "remat",
)  # fmt: skip
"""The settings that a layer has as attributes."""


class Layer(Backends[State]):
    """A recurrent layer: a cell, its parameters, and the unroll. `RecurrentLayer`, `LSTMLayer`, `GRULayer` are such.

    Attributes
    ----------
    core : Cell
        What it does between its products.
    gates : int
        G.
    state_names : tuple of str
        What the arrays of a state are called; the first is the output.
    state_sizes : tuple of int
        How many entries each has in a row: H, but that of the output is narrower for an LSTM with ``proj_size``.
    """

    gates: int = 1
    state_names: tuple[str, ...] = ("h",)
    reverse: bool
    recurrent_dropout: float

    def __init__(
        self, input_size: int, hidden_size: int, cell: Cell, given: Settings, proj_size: int | None = None
    ) -> None:
        super().__init__()
        name, settings = self.name, filled(given, self.name)
        self.core = cell
        self.gates = cell.blocks
        if (names := states_of(cell)) != self.state_names:
            self.state_names = names
        self.input_size = D = as_size(input_size, f"{name}: input_size")
        self.hidden_size = H = as_size(hidden_size, f"{name}: hidden_size")
        self.output_size = P = H if proj_size is None else proj_size
        self.state_sizes = P, *[H] * (len(names) - 1)
        for key in KEPT:
            setattr(self, key, getattr(settings, key))
        of_input, of_recurrent, rng = f"{name}: input_initializer", f"{name}: recurrent_initializer", settings.rng
        G, dtype = self.gates, self.dtype
        self.W_xh = Parameter(initialise(settings.input_initializer, (D, G * H), rng, dtype, of_input, G))
        self.W_hh = Parameter(initialise(settings.recurrent_initializer, (P, G * H), rng, dtype, of_recurrent, G))
        self.b_h = Parameter(np.zeros(G * H, dtype)) if settings.bias else None
        if cell.apart:  # the bias of the recurrent side is one of its own, unless it is added to the other right after
            self.b_hn = Parameter(np.zeros(H, dtype)) if settings.bias and not cell.staged else None
        if cell.vectors:
            self.w_c = Parameter(np.zeros(len(cell.vectors) * H, dtype))
        if proj_size is not None:
            self.W_hr = Parameter(initialise(settings.recurrent_initializer, (H, P), rng, dtype, of_recurrent))
        self._rng = rng
        for letter, size in zip(self.state_names, self.state_sizes, strict=True) if self.learn_initial_state else ():
            setattr(self, f"{letter}_0", Parameter(np.zeros(size, dtype)))

    @property
    def W(self) -> Array:
        """Return W_xh stacked on W_hh, (D + H, G·H): φ([X_t H_{t-1}] W + b_h) is the same layer. A read-only copy."""
        stacked = np.concatenate([self.W_xh.data, self.W_hh.data])
        stacked.flags.writeable = False
        return stacked

    def forward(
        self, x: Any, initial_state: Any = None, lengths: Any = None, *, reset: Any = None, all_states: bool = False
    ) -> RecurrentOutput[State]:
        """Unroll over a mini-batch of sequences.

        Parameters
        ----------
        x : array_like or Tensor (T, N, D)
            (N, T, D) for ``batch_first``. What backward needs of it is a copy, and it may be written into afterwards;
            but with ``remat`` an ndarray of the layer's dtype is read again there.
        initial_state : array_like or Tensor (N, H), optional
            The state before the first step processed, for an LSTM a pair of them; if left out, zeros, or with
            ``learn_initial_state`` what has been learned.
        lengths : array_like of int (N,), optional
            How many steps of each row count, in any order. What stands in the padding counts nothing; outputs there
            are 0. In reverse a row starts at its last valid step. The cost follows the sum of the lengths.
        reset : array_like of bool (T, N), optional
            True where a new sequence begins: nothing flows from the step before to this one, in either direction. It
            starts from zeros, or from what has been learned. (N, T) for ``batch_first``.
        all_states : bool
            Return every array of the state at every step as the outputs, (h, c) of an LSTM, (T, N, H) each. Such a call
            is unrolled op by op whatever the backend.

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
        if reset is None and all_states is False and (made := self._again(x, initial_state, lengths)) is not None:
            return RecurrentOutput(made[0], self._joined(made[1:]))
        every = all_states is not False and as_flag(all_states, f"{self.name}: all_states")
        if MODE.get() & ANOMALY and not (every or self.by_op):
            from minirnn.layers import watch

            return watch.forward(self, x, initial_state, lengths, reset)
        outputs, final = self._unrolled(*self.arrange(x, initial_state, lengths, reset), every=every)
        told: Any = self._joined(outputs) if every else outputs[0]
        return RecurrentOutput(told, self._joined(final))

    def on_rows(
        self, x: OneHot, table: Tensor | None, initial_state: Any = None, lengths: Any = None, *, reset: Any = None
    ) -> RecurrentOutput[State]:
        """Unroll as `forward` does over x ``table`` (V, D), or over x itself without one, and make no product of x.

        ``x`` is ids that are held as one-hot rows, (T, N, V), or (N, T, V) for ``batch_first``.
        """
        W_xh, *others = self.weights
        arranged = self.arrange(x, initial_state, lengths, reset)
        outputs, final = self._unrolled(*arranged, weights=[W_xh if table is None else table @ W_xh, *others])
        return RecurrentOutput(outputs[0], self._joined(final))

    def step(self, x_t: Any, state: Any = None) -> State:
        """Process one step: x_t (N, D) and a state, zeros or what has been learned if None, give the next state.

        The same numbers as the layer gives when it is called on the whole sequence. Where nothing is recorded, as under
        `no_grad`, a step is two products and the cell on plain arrays, and several times as fast.
        """
        mode = MODE.get()
        if mode & ANOMALY and not self.by_op:
            from minirnn.layers import watch

            return cast(State, watch.step(self, x_t, state))
        step = STEPS.get(type(self._kernel)) if self.backend == "fused" and not self.by_op else None
        if step is not None and (not mode or self._constant(mode, x_t, state)):
            x, before = self._plain(x_t, state)
            made = step(self._kernel, x, before, Weights(*[w if w is None else w.data for w in self.weights]))
            return self._joined([wrap(s) for s in made])
        x_t = self._one_step(x_t)
        given = self._step_state(state, x_t.shape[0])
        return self._joined(self._zoned(self.zoneout, given, self.graph_step(None, x_t, given, self.weights)))

    def _plain(self, x_t: Any, state: Any) -> tuple[Array, list[Array]]:
        """Check the arguments of a single step, of which nothing is recorded; return the arrays."""
        x, dtype = x_t.data if isinstance(x_t, Tensor) else x_t, self.dtype
        if not (
            type(x) is np.ndarray and x.dtype is dtype and x.ndim == 2 and x.shape[1] == self.input_size and len(x)
        ):
            x = self._one_step(x_t).data
        N, sizes = len(x), self.state_sizes
        given = (state,) if len(sizes) == 1 else state
        if isinstance(given, tuple) and len(given) == len(sizes) and not self.recurrent_dropout:
            arrays = [s.data if isinstance(s, Tensor) else s for s in given]
            shapes = [(N, size) for size in sizes]
            if [a.shape for a in arrays if type(a) is np.ndarray and a.dtype is dtype] == shapes:
                return x, arrays
        return x, [s.data for s in self._step_state(state, N)]

    def _constant(self, mode: int, x_t: Any, state: Any) -> bool:
        """Whether nothing of a step would be recorded although it could be, since no gradient is required."""
        given = state if isinstance(state, tuple | list) else (state,)
        return mode == RECORD and not self.learn_initial_state and not lay_open((x_t, *given, *self.weights)).recorded

    def last_output(self, final_state: Any) -> Tensor:
        """Return the (N, H) output that belongs to a final state."""
        return cast(Tensor, final_state if len(self.state_names) == 1 else final_state[0])

    # --- a call ------------------------------------------------------------------------------------------------------

    def arrange(
        self, x: Any, initial_state: Any = None, lengths: Any = None, reset: Any = None
    ) -> tuple[Any, list[Any], Sequences | None, Array | None]:
        """Check a call's arguments; return x (T, N, D), the states, where sequences lie, and the mask of dropout.

        x and the states are Tensors where they came as such or have been learned, else arrays. There is a state (N, H),
        and a row of the mask (N, H), for each row of x, or for each sequence where resets begin several; None for the
        sequences where each row is one of T steps, and for no mask.
        """
        held = type(x) is OneHot
        x = x if held else self._given(x, "x")
        sequences = self._sequences((*x.shape[:2], self.input_size) if held else x.shape, lengths, reset)
        if x.dtype is not self.dtype:
            x = self._cast(x, "x", sequences)
        x = x.swapaxes(0, 1) if self.batch_first else x
        N = x.shape[1]
        state = self._state(initial_state, N, "initial_state")
        if (
            sequences is not None and not sequences.one_to_a_row
        ):  # they start from the state of their row, or a fresh one
            index = np.where(sequences.given, sequences.row, sequences.N)
            state = [concatenate([s, f[None]])[index] for s, f in zip(state, self._fresh(), strict=True)]
        p = self.recurrent_dropout
        if not (p and self.training):
            return x, state, sequences, None
        keep = self._rng.random((N, self.output_size)) >= p  # the same at all steps of a row
        mask = keep.astype(self.dtype) / self.dtype.type(1 - p)
        return x, state, sequences, mask if sequences is None else mask[sequences.row]

    def _again(self, x: Any, initial_state: Any, lengths: Any) -> tuple[Tensor, ...] | None:
        """Return what comes of x where it is in shape and dtype like the one before, and else None.

        What is to be asked of such a call has been answered then, and no attribute has been set since. Of lengths
        nothing is kept: each call brings its own.
        """
        kept: Kept | None = vars(self).get("_kept")
        whole: Whole | None = None if kept is None else kept.whole
        if whole is None or whole.fresh is None or MODE.get() != RECORD:
            return None
        array = x.data if isinstance(x, Tensor) else x
        if type(array) is not np.ndarray or array.dtype is not self.dtype or not whole.serves(array.shape):
            return None
        state = whole.fresh if initial_state is None else _like(initial_state, whole.fresh)
        if state is None or (lengths is not None and self.reverse):
            return None
        way, settings, ends, (T, N, _) = whole.way, whole.settings, None, whole.shape
        if lengths is not None:
            ends, told = checked_lengths(lengths, T, N, f"{self.name}: lengths")
            way, settings = whole.with_lengths(ends, *told)
        read = x.copy() if array is x else x
        inputs = (read, *state, *self.weights)
        return self._by_kernel(way, settings, lambda: None if ends is None else one_to_each_row(T, ends, False), inputs)

    def _fresh_rows(self, N: int) -> list[Array] | None:
        """Return the state that rows start from where x alone is given; None where `arrange` does more then."""
        more = self.batch_first or self.learn_initial_state or self.recurrent_dropout or self.remat
        if more or getattr(self.arrange, "__func__", None) is not Layer.arrange:
            return None
        zeros = [np.zeros((N, size), self.dtype) for size in self.state_sizes]
        for state in zeros:
            state.flags.writeable = False  # they serve many calls
        return zeros

    def _step_state(self, state: Any, N: int) -> list[Tensor]:
        """Return the state before a single step."""
        if (self.recurrent_dropout or self.zoneout) and self.training:
            raise RuntimeError(
                f"{self.name}: step with {'recurrent_dropout' if self.recurrent_dropout else 'zoneout'} in training: "
                "the mask is one for a whole sequence, which a single step does not know: call eval() before, or the "
                "layer on the whole sequence"
            )
        return [as_tensor(s) for s in self._state(state, N, "state")]

    # --- what it says of itself --------------------------------------------------------------------------------------

    def count(self) -> "counting.ParameterCount":
        """Return the analytic count, with formulas, shapes and what other libraries would report."""
        from minirnn import counting

        cell, bias = self.core, self.b_h is not None
        reset_after = not cell.staged if cell.apart else None
        sizes, P = (self.input_size, self.hidden_size), self.output_size if "W_hr" in vars(self) else None
        return counting.layer(cell.known_as, self.gates, *sizes, bias, reset_after, None, P, len(cell.vectors))

    def counted(self, prefix: str = "") -> "list[counting.Term]":
        """Return the rows of `summary`, with the formula in note 000's letters."""
        from dataclasses import replace

        from minirnn import counting

        learned = zip(self.state_names, self.state_sizes, strict=True) if self.learn_initial_state else ()
        of = {self.output_size: "r", self.hidden_size: "n"}
        terms = *self.count().terms, *(counting.Term(f"{s}_0", (H,), (H,), of[H], str(H), H) for s, H in learned)
        return [replace(term, name=prefix + term.name) for term in terms]

    def counting_notes(self, prefix: str = "") -> list[str]:
        """Say what other libraries would count for this layer, and why; nothing for a cell that they have not."""
        count = self.count()
        lines = count.reconciliation()
        if not lines:
            return []
        letters = f"{prefix.rstrip('.') or self.name}, with m = {count.m}, n = {count.n}; in other libraries:"
        if more := self.learn_initial_state * sum(self.state_sizes):
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
        letter = "P" if "W_hr" in vars(self) else "H"
        names = self.core.labels, self.state_names
        return blocks.Cell(self.name, *names, into, around, biases, way, self.output_size, letter)

    def _step(self) -> "tuple[list[str], list[blocks.Part]]":
        from minirnn.cells import inside, writing

        of = {"bias": self.b_h is not None, "reverse": bool(self.reverse)}
        return writing.lines_of(self.core, self.hidden_size, **of), inside.parts_of(self.core, self.hidden_size, **of)


def _like(state: Any, fresh: list[Array]) -> list[Any] | None:
    """Return a state as the door does where its arrays are of the shape and dtype of these; else None."""
    given = (state,) if len(fresh) == 1 else state
    if not isinstance(given, tuple | list) or len(given) != len(fresh):
        return None
    found = []
    for s, other in zip(given, fresh, strict=True):
        array = s.data if isinstance(s, Tensor) else s
        if type(array) is not np.ndarray or array.dtype is not other.dtype or array.shape != other.shape:
            return None
        found.append(s.copy() if array is s else s)
    return found
