"""RecurrentLayer: the fused node and the readable graph, behind one door; SequenceModel: a recurrent layer and a head.

Checked by tests/test_recurrent.py (both backends against each other, the textbook and numerical derivatives).
"""

import dataclasses
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from minirnn import counting, ops, threads
from minirnn.arguments import as_array, as_flag, as_generator, as_size, describe, float_dtype, one_of
from minirnn.functions import stack
from minirnn.init import Initializer, get, initialise
from minirnn.kernels import unroll
from minirnn.kernels.cells import ACTIVATIONS, Activation
from minirnn.modes import anomaly, check_finite
from minirnn.module import Module, Parameter
from minirnn.op import Array, Op
from minirnn.tensor import Tensor, apply_kernel, unary, wrap

BACKENDS = ("fused", "graph")
_OPS = {"tanh": ops.tanh, "relu": ops.relu, "sigmoid": ops.sigmoid, "identity": ops.identity}


class RecurrentOutput(NamedTuple):
    """What a recurrent layer returns.

    Attributes
    ----------
    outputs : Tensor (T, N, H)
        The state after every step, in time order; (N, T, H) for ``batch_first``.
    final_state : Tensor (N, H)
        The state after the last step processed: t = T−1, or t = 0 for ``reverse``. Pass it on as ``initial_state`` to
        go on where this sequence ends; ``final_state.detach()`` to cut the gradient there.
    """

    outputs: Tensor
    final_state: Tensor


class RecurrentLayer(Module):
    """A layer of recurrent neurons (Elman 1990), unrolled through time::

        H_t = φ(X_t W_xh + H_{t-1} W_hh + b_h)

    Parameters
    ----------
    input_size, hidden_size : int
        D and H.
    activation : "tanh", "relu", "sigmoid", "identity", or a pair (φ, φ′) of callables
        φ gets an array and returns one of the same shape and dtype; φ′ gets φ's *output* and uses operators only.
    bias : bool
        Whether there is b_h; one bias, as in the textbook.
    backend : "fused" or "graph"
        "fused" makes the whole unroll one node with a hand-written kernel: fast. "graph" records one op for each
        operation of the equation at each step: slow, and open to inspection. The numbers are the same.
    reverse : bool
        Process t = T−1 … 0; outputs stand in time order all the same.
    batch_first : bool
        Take and return (N, T, …) instead of (T, N, …).
    init : None or "irnn"
        "irnn": identity W_hh, zero bias, W_xh ~ N(0, 0.001²), for ReLU only (Le, Jaitly, Hinton 2015).
    input_initializer, recurrent_initializer : str or callable (shape, rng) -> array
        Of W_xh and W_hh; see minirnn/init.py. The bias starts at zero.
    remat : bool or int
        Activation checkpointing: keep one state of every so many instead of all, and run the steps between again in
        backward, for about one more forward pass. True keeps √T of T; a number is the length of a segment in steps.
        The gradients are the same. What the caller holds, such as ``outputs``, is not saved by it.
    dtype : numpy.float32 or numpy.float64
        Of the parameters; whatever comes in is cast to it.
    rng : numpy.random.Generator, int or None

    Attributes
    ----------
    W_xh : Parameter (D, H)
    W_hh : Parameter (H, H)
    b_h : Parameter (H,) or None

    Raises
    ------
    TypeError, ValueError
        Naming the argument, what was expected, what came, and what to try.

    Notes
    -----
    Source: note 003, equation 14-2, and note 000. Its count is H(D + H + 1), or H(D + H) without bias.

    >>> import minirnn as mr
    >>> import numpy as np
    >>> layer = mr.RecurrentLayer(3, 5, rng=0)
    >>> outputs, final_state = layer(np.ones((7, 2, 3)))
    >>> outputs.shape, final_state.shape, layer.count_params()
    ((7, 2, 5), (2, 5), 45)
    """  # noqa: D400

    carries_state = True

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        activation: str | tuple[Callable[..., Any], Callable[..., Any]] = "tanh",
        bias: bool = True,
        backend: str = "fused",
        reverse: bool = False,
        batch_first: bool = False,
        init: str | None = None,
        input_initializer: str | Initializer = "glorot",
        recurrent_initializer: str | Initializer = "orthogonal",
        remat: bool | int = False,
        dtype: npt.DTypeLike = np.float32,
        rng: np.random.Generator | int | None = None,
    ) -> None:
        super().__init__()
        name = self.name
        self.input_size = D = as_size(input_size, f"{name}: input_size")
        self.hidden_size = H = as_size(hidden_size, f"{name}: hidden_size")
        self.dtype = float_dtype(dtype, f"{name}: dtype")
        self.activation, self._op = _resolve_activation(activation, self.dtype, name)
        self.backend = one_of(backend, BACKENDS, f"{name}: backend")
        self.reverse = as_flag(reverse, f"{name}: reverse")
        self.batch_first = as_flag(batch_first, f"{name}: batch_first")
        self.remat = _as_remat(remat, self.backend, name)
        bias = as_flag(bias, f"{name}: bias")
        of_input, of_recurrent = f"{name}: input_initializer", f"{name}: recurrent_initializer"
        get(input_initializer, of_input)
        get(recurrent_initializer, of_recurrent)
        input_initializer, recurrent_initializer = _preset(
            init, self.activation.name, input_initializer, recurrent_initializer, name
        )
        rng = as_generator(rng)  # all arguments have been checked: a call that is refused draws nothing
        self.W_xh = Parameter(initialise(input_initializer, (D, H), rng, self.dtype, of_input))
        self.W_hh = Parameter(initialise(recurrent_initializer, (H, H), rng, self.dtype, of_recurrent))
        self.b_h = Parameter(np.zeros(H, self.dtype)) if bias else None

    @property
    def W(self) -> Array:
        """Return W_xh stacked on W_hh, (D + H, H): φ([X_t H_{t-1}] W + b_h) is the same layer. A read-only copy."""
        stacked = np.concatenate([self.W_xh.data, self.W_hh.data])
        stacked.flags.writeable = False
        return stacked

    def forward(self, x: Any, initial_state: Any = None) -> RecurrentOutput:
        """Unroll over a mini-batch of sequences.

        Parameters
        ----------
        x : array_like or Tensor (T, N, D)
            (N, T, D) for ``batch_first``. An ndarray of the layer's dtype is kept for backward, not copied: do not
            write the next batch into it before then.
        initial_state : array_like or Tensor (N, H), optional
            The state before the first step processed; zeros if left out.

        Returns
        -------
        RecurrentOutput : (outputs, final_state)

        Raises
        ------
        TypeError, ValueError
            For another rank or size, an empty axis, or what is not numbers; AnomalyError for NaN or inf within
            `detect_anomaly`.
        """
        x = self._door(x, "x")
        self._check_sequence(x.shape)
        if self.batch_first:
            x = x.swapaxes(0, 1)
        state = self._state(initial_state, x.shape[1], "initial_state")
        run = self._fused if self.backend == "fused" else self._graph
        outputs, final_state = run(x, state, self.W_xh, self.W_hh, self.b_h)
        if anomaly():
            check_finite(outputs.data, f"{self.name}: outputs", "look at the sizes of W_hh and initial_state")
        return RecurrentOutput(outputs.swapaxes(0, 1) if self.batch_first else outputs, final_state)

    def step(self, x_t: Any, state: Any = None) -> Tensor:
        """Process one step: x_t (N, D) and state (N, H), zeros if None, give the next state (N, H).

        The same numbers as the layer gives when it is called on the whole sequence.
        """
        x_t = self._door(x_t, "x_t")
        if x_t.ndim != 2 or x_t.shape[1] != self.input_size or not x_t.shape[0]:
            hint = "there must be at least one row"
            if x_t.ndim == 1:
                hint = "add the batch axis with x_t[None]"
            elif x_t.ndim != 2:
                hint = "this is one step; call the layer for a whole sequence"
            elif x_t.shape[1] != self.input_size:
                hint = f"the layer was made with input_size={self.input_size}"
            raise ValueError(f"{self.name}: x_t must have shape (N, D={self.input_size}), got {x_t.shape}: {hint}")
        return self._step(x_t, self._state(state, x_t.shape[0], "state"), self.W_xh, self.W_hh, self.b_h)

    def last_output(self, final_state: Tensor) -> Tensor:
        """Return the (N, H) output that belongs to a final state."""
        return final_state

    # --- the two backends: (x, h0, W_xh, W_hh, b_h) -> (outputs, final_state) ----------------------------------------

    def _step(self, x_t: Any, h: Tensor, W_xh: Tensor, W_hh: Tensor, b_h: Tensor | None) -> Tensor:
        z = x_t @ W_xh + h @ W_hh
        return unary(self._op, z if b_h is None else z + b_h)

    def _graph(self, x: Tensor, h: Tensor, *weights: Any) -> tuple[Tensor, Tensor]:
        T = x.shape[0]
        outputs = [h] * T
        for t in reversed(range(T)) if self.reverse else range(T):
            outputs[t] = h = self._step(x[t], h, *weights)
        return stack(outputs), h

    def _fused(self, *inputs: Any) -> tuple[Tensor, ...]:
        arrays: list[Any] = [None if tensor is None else tensor.data for tensor in inputs]
        x, h0, W_xh, W_hh, b_h = arrays
        activation, reverse = self.activation, self.reverse
        T, N, D = x.shape
        parts, run = threads.plan(T, N, D, self.hidden_size)
        split: dict[str, Any] = {"parts": parts, "run": run}
        states = unroll.forward(x, h0, W_xh, W_hh, b_h, activation, reverse, **split)
        length = _segment_length(self.remat, T)
        kept = states if length is None else unroll.checkpoints(states, length, b_h, reverse)

        def backward(received: dict[int, Array], wanted: tuple[bool, ...]) -> unroll.Gradients:
            d_outputs, d_final = received.get(0), received.get(1)
            return unroll.backward(d_outputs, d_final, kept, x, W_xh, W_hh, activation, reverse, wanted, **split)

        # The final state is a copy: a state carried on must not keep all the states of this sequence alive.
        outputs = (unroll.outputs(states, reverse), unroll.final(states, reverse).copy())
        return apply_kernel(self, inputs, outputs, backward, self._graph)

    # --- the door ----------------------------------------------------------------------------------------------------

    def _door(self, value: Any, argument: str) -> Tensor:
        """Return an argument as a Tensor of the layer's dtype."""
        tensor = value
        if not isinstance(tensor, Tensor):
            tensor = wrap(as_array(value, f"{self.name}: {argument}", self.dtype), None)
        if anomaly():
            check_finite(tensor.data, f"{self.name}: {argument}", "look at the data that comes in")
        return tensor if tensor.data.dtype is self.dtype else tensor.astype(self.dtype)

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

    def _state(self, state: Any, N: int, argument: str) -> Tensor:
        H = self.hidden_size
        if state is None:
            return wrap(np.zeros((N, H), self.dtype), None)
        tensor = self._door(state, argument)
        if tensor.shape != (N, H):
            hint = "one state for each row of x"
            if tensor.shape == (H,):
                hint = f"for the same state in each row pass np.tile({argument}, ({N}, 1))"
            shape = f"(N={N}, H={H})"
            raise ValueError(f"{self.name}: {argument} must have shape {shape}, got {tensor.shape}: {hint}")
        return tensor

    # --- what it says of itself --------------------------------------------------------------------------------------

    @property
    def name(self) -> str:
        """Return the class's name, which errors start with."""
        return type(self).__name__

    def count(self) -> counting.ParameterCount:
        """Return the analytic count, with formulas, shapes and what other libraries would report."""
        return counting.elman(self.input_size, self.hidden_size, bias=self.b_h is not None)

    def counted(self, prefix: str = "") -> list[counting.Term]:
        """Return the rows of `summary`, with the formula in note 000's letters."""
        return [dataclasses.replace(term, name=prefix + term.name) for term in self.count().terms]

    def counting_notes(self, prefix: str = "") -> list[str]:
        """Return what other libraries would count for this layer, and why."""
        count = self.count()
        letters = f"{prefix.rstrip('.') or self.name}, with m = {count.m}, n = {count.n}; in other libraries:"
        return [letters, *(f"  {line}" for line in count.reconciliation())]

    def extra_repr(self) -> str:
        """Return the settings shown between the brackets of ``repr``."""
        settings = [f"{self.input_size}, {self.hidden_size}, activation={self.activation.name!r}"]
        settings += ["bias=False"] * (self.b_h is None) + [f"backend={self.backend!r}"]
        settings += ["reverse=True"] * self.reverse + ["batch_first=True"] * self.batch_first
        settings += [f"remat={self.remat}"] * (self.remat is not False)
        return ", ".join([*settings, f"dtype={self.dtype.name}"])


class SequenceOutput(NamedTuple):
    """What a `SequenceModel` returns.

    Attributes
    ----------
    predictions : Tensor
        (T, N, P) for ``readout="all"``, (N, P) for "last".
    final_state : Tensor (N, H)
    """

    predictions: Tensor
    final_state: Tensor


class SequenceModel(Module):
    """A recurrent layer and a head that reads its outputs: O_t = head(H_t).

    Parameters
    ----------
    recurrent : recurrent layer
    head : Module
        Usually `Linear` (H → P).
    readout : "all" or "last"
        Whether the head reads every step's output or that of the last step processed.
    embedding : Module, optional
        Applied first, to turn class ids (T, N) into vectors (T, N, D); see `Embedding`.

    Notes
    -----
    Source: note 000, H_t = φ(X_t W_xh + H_{t-1} W_hh + b_h) and O_t = H_t W_hy + b_y.

    >>> import minirnn as mr
    >>> exam = mr.SequenceModel(mr.RecurrentLayer(10, 20, bias=False), mr.Linear(20, 5, bias=False))
    >>> exam.count_params()
    700
    """

    carries_state = True

    def __init__(
        self, recurrent: RecurrentLayer, head: Module, readout: str = "all", *, embedding: Module | None = None
    ) -> None:
        super().__init__()
        if not isinstance(recurrent, RecurrentLayer):
            raise TypeError(f"SequenceModel: recurrent must be a recurrent layer, got {type(recurrent).__name__}")
        if not isinstance(head, Module):
            raise TypeError(f"SequenceModel: head must be a Module such as Linear, got {type(head).__name__}")
        if head.carries_state:
            raise TypeError(
                f"SequenceModel: head must not carry a state, got {type(head).__name__}: its state would be lost; "
                "call the two layers one after the other in a Module of your own"
            )
        if embedding is not None and not isinstance(embedding, Module):
            kind = type(embedding).__name__
            raise TypeError(f"SequenceModel: embedding must be a Module such as Embedding, or None, got {kind}")
        gives = getattr(embedding, "embedding_dim", recurrent.input_size)
        if gives != recurrent.input_size:
            raise ValueError(
                f"SequenceModel: embedding gives {gives} features and recurrent takes D={recurrent.input_size}: "
                f"try Embedding(…, {recurrent.input_size})"
            )
        takes = getattr(head, "in_features", recurrent.hidden_size)
        if takes != recurrent.hidden_size:
            raise ValueError(
                f"SequenceModel: head takes {takes} features and recurrent gives H={recurrent.hidden_size}: "
                f"try Linear({recurrent.hidden_size}, …)"
            )
        gives_dtype = getattr(head, "dtype", recurrent.dtype)
        if gives_dtype != recurrent.dtype:
            raise ValueError(
                f"SequenceModel: recurrent is {recurrent.dtype} and head {gives_dtype}: "
                f"make both with dtype=numpy.{recurrent.dtype}"
            )
        self.embedding = embedding
        self.recurrent = recurrent
        self.head = head
        self.readout = one_of(readout, ("all", "last"), "SequenceModel: readout")

    def forward(self, x: Any, initial_state: Any = None) -> SequenceOutput:
        """Run the layer over ``x`` (T, N, D) and the head over its outputs; see `RecurrentLayer.forward`."""
        if self.embedding is not None:
            x = self.embedding(x)
        outputs, final_state = self.recurrent(x, initial_state)
        read = outputs if self.readout == "all" else self.recurrent.last_output(final_state)
        return SequenceOutput(self.head(read), final_state)

    def extra_repr(self) -> str:
        """Return the settings shown between the brackets of ``repr``."""
        return f"readout={self.readout!r}"


# --- arguments of a layer --------------------------------------------------------------------------------------------


def _preset(
    init: str | None, activation: str, input_initializer: Any, recurrent_initializer: Any, name: str
) -> tuple[Any, Any]:
    """Return the initialisers of W_xh and W_hh that ``init`` stands for."""
    if init is None:
        return input_initializer, recurrent_initializer
    if init != "irnn":
        raise ValueError(
            f"{name}: init must be None or 'irnn', got {init!r}: initialisers of single arrays go to "
            "input_initializer and recurrent_initializer"
        )
    if activation != "relu":
        raise ValueError(
            f"{name}: init='irnn' is a layer of rectifiers, got activation={activation!r}: try activation='relu'"
        )
    if (input_initializer, recurrent_initializer) != ("glorot", "orthogonal"):
        raise ValueError(f"{name}: init='irnn' sets both initialisers itself: leave them out, or leave init out")
    return "normal", "identity"


def _as_remat(remat: Any, backend: str, name: str) -> bool | int:
    """Check the setting of the same name."""
    if not isinstance(remat, bool | np.bool_):
        expected = f"{name}: remat must be True, False or a number of steps ≥ 1"
        if not isinstance(remat, int | np.integer):
            raise TypeError(f"{expected}, got {describe(remat)}: try True, which keeps √T of T states")
        if remat < 1:
            raise ValueError(f"{expected}, got {remat}: try True, which keeps √T of T states")
    if remat and backend != "fused":
        raise ValueError(
            f"{name}: remat needs backend='fused', got {backend!r}, which keeps every op to be looked into: "
            "leave one of the two out"
        )
    return bool(remat) if isinstance(remat, bool | np.bool_) else int(remat)


def _segment_length(remat: bool | int, T: int) -> int | None:
    """Return how many steps lie between two checkpoints, None to keep every state."""
    return None if remat is False else math.isqrt(T - 1) + 1 if remat is True else remat  # ⌈√T⌉


def _resolve_activation(activation: Any, dtype: np.dtype[Any], name: str) -> tuple[Activation, Op]:
    """Return an activation as a kernel's pair and as an op."""
    expected = f"{name}: activation must be one of {', '.join(map(repr, ACTIVATIONS))} or a pair (φ, φ′) of callables"
    if isinstance(activation, str):
        if activation not in ACTIVATIONS:
            raise ValueError(f"{expected}, got {activation!r}")
        return ACTIVATIONS[activation], _OPS[activation]
    if not (isinstance(activation, tuple) and len(activation) == 2 and all(map(callable, activation))):
        raise TypeError(f"{expected}, got {activation!r}")
    phi, phi_prime = activation
    probe = np.linspace(-1, 1, 6, dtype=dtype).reshape(2, 3)
    for label, result in (("φ", y := phi(probe.copy())), ("φ′", phi_prime(y))):
        if not isinstance(result, np.ndarray) or result.shape != probe.shape or result.dtype != dtype:
            got = f"{getattr(result, 'shape', type(result).__name__)} {getattr(result, 'dtype', '')}".strip()
            raise ValueError(
                f"{name}: {label} must map an array to one of its shape and dtype, (2, 3) {dtype}, got {got}"
            )

    def forward(x: Array) -> Array:
        y: Array = phi(x)
        return y

    op = Op(forward, "activation")
    op.derivative(x=lambda g, y: g * phi_prime(y))
    return Activation(getattr(phi, "__name__", "custom"), phi, phi_prime), op
