"""What the recurrent layers share: the door, the state, both backends, and what a layer says of itself."""

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from minirnn.arguments import Array, Rng, as_array, as_flag, as_generator, as_probability, as_size, float_dtype, one_of
from minirnn.autograd.functions import concatenate, stack, where
from minirnn.autograd.modes import anomaly
from minirnn.autograd.tensor import Tensor, apply_kernel, unary, will_record, wrap
from minirnn.init import Initializer, get, initialise
from minirnn.kernels import unroll
from minirnn.kernels.layout import Weights
from minirnn.layers import threads
from minirnn.layers.anomaly import Watch, check_cast, check_parameters, check_state, check_x
from minirnn.layers.cell import clip_message
from minirnn.layers.choices import BACKENDS
from minirnn.layers.module import Parameter
from minirnn.layers.recurrence import Recurrence, RecurrentOutput, State
from minirnn.layers.sequences import Sequences, find
from minirnn.layers.settings import as_message_clip, as_remat, segment_length
from minirnn.layers.terms import Terms

if TYPE_CHECKING:  # and in the methods that need them
    from minirnn import counting
    from minirnn.drawing.blocks import Cell

IDLE = 6e-5, 200.0
"""What a step of a lane costs for each multiplication, and to go on with fewer lanes, in µs: to weigh one against the
other, not to measure."""


class Common(NamedTuple):
    """The settings of `Layer`, for `Layer.__init__`."""

    bias: bool
    backend: str
    reverse: bool
    batch_first: bool
    input_initializer: str | Initializer
    recurrent_initializer: str | Initializer
    learn_initial_state: bool
    recurrent_dropout: float
    message_clip: float | None
    remat: bool | int
    dtype: npt.DTypeLike
    rng: Rng


class Layer(Recurrence[State]):
    """A recurrent layer: a cell, its parameters, and the unroll. `RecurrentLayer`, `LSTMLayer`, `GRULayer` are such.

    A subclass sets what stands here, and defines `_equation`.

    Attributes
    ----------
    gates : int
        G.
    state_names : tuple of str
        What the arrays of a state are called; the first is the output.
    """

    gates = 1
    state_names: tuple[str, ...] = ("h",)
    reverse: bool
    _kernel: Any
    """The cell between the products, on arrays (minirnn/kernels)."""

    def __init__(self, input_size: int, hidden_size: int, common: Common) -> None:
        super().__init__()
        name = self.name
        self.input_size = D = as_size(input_size, f"{name}: input_size")
        self.hidden_size = self.output_size = H = as_size(hidden_size, f"{name}: hidden_size")
        self.dtype = float_dtype(common.dtype, f"{name}: dtype")
        self.backend = one_of(common.backend, BACKENDS, f"{name}: backend")
        self.reverse = as_flag(common.reverse, f"{name}: reverse")
        self.batch_first = as_flag(common.batch_first, f"{name}: batch_first")
        self.recurrent_dropout = as_probability(common.recurrent_dropout, f"{name}: recurrent_dropout")
        self.message_clip = as_message_clip(common.message_clip, name)
        self.remat = as_remat(common.remat, self.backend, name)
        bias = as_flag(common.bias, f"{name}: bias")
        learn = as_flag(common.learn_initial_state, f"{name}: learn_initial_state")
        of_input, of_recurrent = f"{name}: input_initializer", f"{name}: recurrent_initializer"
        get(common.input_initializer, of_input)
        get(common.recurrent_initializer, of_recurrent)
        rng = as_generator(common.rng)  # all arguments have been checked: a call that is refused draws nothing
        G, dtype = self.gates, self.dtype
        self.W_xh = Parameter(initialise(common.input_initializer, (D, G * H), rng, dtype, of_input, G))
        self.W_hh = Parameter(initialise(common.recurrent_initializer, (H, G * H), rng, dtype, of_recurrent, G))
        self.b_h = Parameter(np.zeros(G * H, dtype)) if bias else None
        self._rng = rng
        self._extra_parameters()
        self.learn_initial_state = learn
        for letter in self.state_names if learn else ():
            setattr(self, f"{letter}_0", Parameter(np.zeros(H, dtype)))

    def _extra_parameters(self) -> None:
        """Make what comes after b_h."""

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
        x, state, sequences = self._arranged(x, initial_state, lengths, reset)
        N, watched = x.shape[1], anomaly()
        if watched:
            check_parameters(self)
        if sequences is not None and not sequences.one_to_a_row:
            state = self._begin(state, sequences)
        run = self._fused if self.backend == "fused" else self._graph
        mask = self._mask(N, sequences)
        watch = Watch(self, sequences, mask, x, state) if watched else None
        outputs, *final = run(sequences, mask, x, *state, *self._weights)
        if sequences is not None and not sequences.one_to_a_row:
            final = [f[sequences.last] for f in final]
        if self.batch_first:
            outputs = outputs.swapaxes(0, 1)
        if watch is not None:
            outputs, *final = watch.over([outputs, *final])
        return RecurrentOutput(outputs, self._joined(final))

    def step(self, x_t: Any, state: Any = None) -> State:
        """Process one step: x_t (N, D) and a state, zeros or what has been learned if None, give the next state.

        The same numbers as the layer gives when it is called on the whole sequence.
        """
        watched = anomaly()
        x_t = self._door(x_t, "x_t", watched)
        if x_t.ndim != 2 or x_t.shape[1] != self.input_size or not x_t.shape[0]:
            hint = "there must be at least one row"
            if x_t.ndim == 1:
                hint = "add the batch axis with x_t[None]"
            elif x_t.ndim != 2:
                hint = "this is one step; call the layer for a whole sequence"
            elif x_t.shape[1] != self.input_size:
                hint = f"the layer was made with input_size={self.input_size}"
            raise ValueError(f"{self.name}: x_t must have shape (N, D={self.input_size}), got {x_t.shape}: {hint}")
        if self.training and self.recurrent_dropout:
            raise RuntimeError(
                f"{self.name}: step with recurrent_dropout in training: the mask is one for a whole sequence, which a "
                "single step does not know: call eval() before, or the layer on the whole sequence"
            )
        given = self._state(state, x_t.shape[0], "state", watched)
        if not watched:
            return self._joined(self._step(None, x_t, given, self._weights))
        check_parameters(self)
        watch = Watch(self, None, None, x_t[None], given, single=True)
        return self._joined(watch.over(self._step(None, x_t, given, self._weights)))

    def last_output(self, final_state: Any) -> Tensor:
        """Return the (N, H) output that belongs to a final state."""
        h: Tensor = final_state if len(self.state_names) == 1 else final_state[0]
        return h

    # --- the equation ------------------------------------------------------------------------------------------------

    @property
    def _weights(self) -> list[Any]:
        return [self.W_xh, self.W_hh, self.b_h]

    def _step(self, mask: Any, x_t: Any, state: Sequence[Tensor], weights: Sequence[Any]) -> list[Tensor]:
        """Return the next state, one op for each operation."""
        fed = state[0] if mask is None else state[0] * mask
        h, *others = self._equation(x_t, fed, state, *weights)
        return [h if self.message_clip is None else unary(clip_message, h, largest=self.message_clip), *others]

    def _equation(self, x_t: Any, fed: Tensor, state: Sequence[Tensor], *weights: Any) -> Sequence[Tensor]:
        """Return the next state; ``fed`` is the h that W_hh is multiplied with."""
        raise NotImplementedError

    def _terms(self, weights: Sequence[Any], op_by_op: bool) -> Terms:
        """Return the equation term by term, for `detect_anomaly`; see `minirnn.layers.terms.Terms`."""
        raise NotImplementedError

    # --- the two backends: (sequences, mask, x, *state, *weights) -> (outputs, *final state) --------------------------

    def _graph(self, sequences: Sequences | None, mask: Any, x: Tensor, *others: Any) -> tuple[Tensor, ...]:
        S = len(self.state_names)
        state, weights = list(others[:S]), others[S:]
        if sequences is not None:
            return self._graph_of_sequences(sequences, mask, x, state, weights)
        T = x.shape[0]
        outputs = [state[0]] * T
        for t in reversed(range(T)) if self.reverse else range(T):
            state = self._step(mask, x[t], state, weights)
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
            state = self._step(None if mask is None else mask[now], x[time, row], state, weights)
            at[time, row] = ends[now] = np.arange(count, count + len(now))
            count += len(now)
            for made, s in zip(after, state, strict=True):
                made.append(s)
        joined = [concatenate(made) for made in after]
        return joined[0][at], *(s[ends] for s in joined)

    def _fused(self, sequences: Sequences | None, mask: Any, *inputs: Any) -> tuple[Tensor, ...]:
        S = len(self.state_names)
        arrays: list[Any] = [None if tensor is None else tensor.data for tensor in inputs]
        x, state, weights = arrays[0], arrays[1 : 1 + S], Weights(*arrays[1 + S :])
        settings = self._settings(x.shape, sequences, mask)
        outputs, final, kept = unroll.forward(x, state, weights, settings, will_record(inputs))

        def backward(received: dict[int, Array], wanted: tuple[bool, ...]) -> Sequence[Array | None]:
            of = (*wanted[1 + S :], False)[:4]
            d_final = [received.get(1 + i) for i in range(S)]
            needed = unroll.Wanted(wanted[0], *of)
            g = unroll.backward(received.get(0), d_final, kept, x, weights, settings, needed)
            d_weights = (g.W_xh, g.W_hh, g.b_h, g.b_hn)[: len(inputs) - 1 - S]
            return g.x, *(d if w else None for d, w in zip(g.state, wanted[1:], strict=False)), *d_weights

        rerun = partial(self._graph, sequences, mask)
        return apply_kernel(self, inputs, (outputs, *final), backward, rerun)

    def _settings(self, shape: tuple[int, ...], sequences: Sequences | None, mask: Any) -> unroll.Settings:
        T, N, D = shape
        H, G, segment = self.hidden_size, self.gates, segment_length(self.remat, shape[0])
        parts, run = threads.plan(T, N, D, H, G)
        lanes: Any = None
        if sequences is not None:
            each, change = IDLE
            worth = change / (each * G * H * (D + H + 50))
            falls = unroll.falls(self._kernel, mask is not None or self.message_clip is not None)
            lanes, parts = sequences.falling() if falls else sequences.packed(worth, segment), 1
        return unroll.Settings(self._kernel, self.reverse, lanes, mask, self.message_clip, segment, parts, run)

    # --- the door ----------------------------------------------------------------------------------------------------

    def _arranged(
        self, x: Any, initial_state: Any, lengths: Any, reset: Any = None
    ) -> tuple[Tensor, list[Tensor], Sequences | None]:
        """Check the arguments of a call; return x (T, N, D), the state (N, H) each, and where the sequences lie."""
        x = self._tensor(x, "x")
        self._check_sequence(x.shape)
        N, T = x.shape[:2] if self.batch_first else x.shape[1::-1]
        sequences = find(T, N, lengths, reset, self.batch_first, self.reverse, self.name)
        watched = anomaly()
        if watched:
            x = self._inspected(x, sequences)
        if self.batch_first:
            x = x.swapaxes(0, 1)
        return self._door(x, "x", watched), self._state(initial_state, N, "initial_state", watched), sequences

    def _door(self, value: Any, argument: str, watched: bool) -> Tensor:
        """Return an argument as a Tensor of the layer's dtype; ``watched``: within `detect_anomaly`."""
        tensor = self._tensor(value, argument)
        if watched:
            check_state(self, tensor.data, argument)
            check_cast(self, tensor.data, argument)
        return tensor if tensor.data.dtype is self.dtype else tensor.astype(self.dtype)

    def _inspected(self, x: Tensor, sequences: Sequences | None) -> Tensor:
        """Check x as it came, but for the padding, which is no fault; return it with zeros there."""
        valid = None
        if sequences is not None:
            valid = (sequences.valid().T if self.batch_first else sequences.valid())[..., None]
        check_x(self, x.data, valid)
        return x if valid is None else where(valid, x, 0.0)

    def _tensor(self, value: Any, argument: str) -> Tensor:
        """Return an argument as a Tensor of its own dtype."""
        return (
            value if isinstance(value, Tensor) else wrap(as_array(value, f"{self.name}: {argument}", self.dtype), None)
        )

    def _check_sequence(self, shape: tuple[int, ...]) -> None:
        D = self.input_size
        if len(shape) == 3 and shape[2] == D and 0 not in shape:
            return
        letters, batch_axis = ("(N, T, D={})", "None") if self.batch_first else ("(T, N, D={})", ":, None")
        if len(shape) == 2 and shape[1] == D:
            hint = f"one sequence without its batch axis? Pass x[{batch_axis}]"
        elif len(shape) == 1 and D == 1:
            hint = f"one sequence of numbers? Pass x[:, None][{batch_axis}]"
        elif len(shape) == 2 and D == 1:
            hint = "one number for each step and row? Pass x[..., None]"
        elif len(shape) != 3:
            hint = "steps, rows and features each take one axis"
        elif shape[2] == D:
            hint = "there must be at least one step and one row"
        elif D in shape:
            hint = f"did you swap features and {'time' if shape[self.batch_first] == D else 'rows'}?"
        else:
            hint = f"the layer was made with input_size={D}"
        raise ValueError(f"{self.name}: x must have shape {letters.format(D)}, got {shape}: {hint}")

    # --- the state ---------------------------------------------------------------------------------------------------

    def _state(self, state: Any, N: int, argument: str, watched: bool) -> list[Tensor]:
        """Return a state as a list of Tensors (N, H): the one given, what has been learned, or zeros."""
        if state is None:
            if watched:
                check_parameters(self)  # before what has been learned is used
            return (
                [fresh.broadcast_to((N, self.hidden_size)) for fresh in self._fresh()]
                if self.learn_initial_state
                else [wrap(np.zeros((N, self.hidden_size), self.dtype), None) for _ in self.state_names]
            )
        names = self.state_names
        if len(names) == 1:
            return [self._one_state(state, N, argument, watched)]
        if not isinstance(state, tuple | list) or len(state) != len(names):
            letters = ", ".join(names)
            got = f"{len(state)} of them" if isinstance(state, tuple | list) else _kind(state)
            raise TypeError(
                f"{self.name}: {argument} must be a {_TUPLES.get(len(names), 'tuple')} ({letters}), each (N={N}, "
                f"H={self.hidden_size}), got {got}: pass what the layer returned as final_state, or None"
            )
        return [self._one_state(s, N, f"{argument}[{i}]", watched) for i, s in enumerate(state)]

    def _one_state(self, state: Any, N: int, argument: str, watched: bool) -> Tensor:
        H = self.hidden_size
        tensor = self._door(state, argument, watched)
        if tensor.shape != (N, H):
            hint = "one state for each row of x"
            if tensor.shape == (H,):
                hint = f"for the same state in each row pass np.tile({argument}, ({N}, 1))"
            shape = f"(N={N}, H={H})"
            raise ValueError(f"{self.name}: {argument} must have shape {shape}, got {tensor.shape}: {hint}")
        return tensor

    def _fresh(self) -> list[Tensor]:
        """Return the state, (H,) each, that a sequence starts from when none is given for it."""
        if self.learn_initial_state:
            return [getattr(self, f"{letter}_0") for letter in self.state_names]
        return [wrap(np.zeros(self.hidden_size, self.dtype), None) for _ in self.state_names]

    def _begin(self, state: Sequence[Tensor], sequences: Sequences) -> list[Tensor]:
        """Return the states that all sequences start from: that of their row, or a fresh one."""
        index = np.where(sequences.given, sequences.row, sequences.N)
        return [concatenate([s, f[None]])[index] for s, f in zip(state, self._fresh(), strict=True)]

    def _joined(self, state: Sequence[Tensor]) -> State:
        """Return a state as the caller gets it."""
        joined: Any = state[0] if len(self.state_names) == 1 else tuple(state)
        return joined  # type: ignore[no-any-return]

    def _mask(self, N: int, sequences: Sequences | None) -> Array | None:
        """Draw by what the h that is fed back is multiplied, (sequences, H): one mask for all steps of a row."""
        p = self.recurrent_dropout
        if not (self.training and p):
            return None
        keep = self._rng.random((N, self.hidden_size)) >= p
        mask: Array = keep.astype(self.dtype) / self.dtype.type(1 - p)
        return mask if sequences is None else mask[sequences.row]

    # --- what it says of itself --------------------------------------------------------------------------------------

    def count(self) -> "counting.ParameterCount":
        """Return the analytic count, with formulas, shapes and what other libraries would report."""
        raise NotImplementedError

    def counted(self, prefix: str = "") -> "list[counting.Term]":
        """Return the rows of `summary`, with the formula in note 000's letters."""
        import dataclasses

        from minirnn import counting

        terms = list(self.count().terms)
        H = self.hidden_size
        terms += [
            counting.Term(f"{s}_0", (H,), (H,), "n", str(H), H) for s in self.state_names * self.learn_initial_state
        ]
        return [dataclasses.replace(term, name=prefix + term.name) for term in terms]

    def counting_notes(self, prefix: str = "") -> list[str]:
        """Return what other libraries would count for this layer, and why."""
        count = self.count()
        letters = f"{prefix.rstrip('.') or self.name}, with m = {count.m}, n = {count.n}; in other libraries:"
        notes = [letters, *(f"  {line}" for line in count.reconciliation())]
        if self.learn_initial_state:
            more = self.hidden_size * len(self.state_names)
            notes.append(
                f"  The initial state that is learned counts {more}; there it would be a parameter of one's own."
            )
        return notes

    def extra_repr(self) -> str:
        """Return the settings shown between the brackets of ``repr``."""
        settings = [f"{self.input_size}, {self.hidden_size}", *self._own_repr()]
        settings += ["bias=False"] * (self.b_h is None) + [f"backend={self.backend!r}"]
        settings += ["reverse=True"] * self.reverse + ["batch_first=True"] * self.batch_first
        settings += ["learn_initial_state=True"] * self.learn_initial_state
        settings += [f"recurrent_dropout={self.recurrent_dropout}"] * bool(self.recurrent_dropout)
        settings += [f"message_clip={self.message_clip}"] * (self.message_clip is not None)
        settings += [f"remat={self.remat}"] * (self.remat is not False)
        return ", ".join([*settings, f"dtype={self.dtype.name}"])

    def _own_repr(self) -> list[str]:
        """Return the settings that other layers have not."""
        return []

    def _title(self) -> str:
        return f"{self.name}({self.extra_repr()}): {self.count_params():,} parameters"

    def _block(self) -> "Cell":
        from minirnn.drawing.blocks import Cell, Weight

        into, around, *biases = (Weight(p.name, p.shape) for p in self._weights if p is not None)
        way = bool(self.reverse)
        return Cell(self.name, self._gate_names(), self.state_names, into, around, biases, way, self.hidden_size)

    def _gate_names(self) -> list[str]:
        """Return what stands in the cell of a drawing."""
        return [self.name]


_TUPLES = {2: "pair", 3: "triple"}


def _kind(value: Any) -> str:
    shape = getattr(value, "shape", None)
    return f"one {type(value).__name__} of shape {shape}" if shape is not None else type(value).__name__
