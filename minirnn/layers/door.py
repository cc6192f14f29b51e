"""The door of a recurrent layer: what comes in is checked, cast to the layer's dtype, and turned to (T, N, …).

Within `detect_anomaly` minirnn/layers/watch.py looks at what comes in before it gets here.
"""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from minirnn.arguments import Array, as_array, as_kind, as_lengths, describe, typed
from minirnn.autograd.modes import MODE, RECORD
from minirnn.autograd.tensor import Tensor, as_tensor, wrap
from minirnn.layers.recurrence import Recurrence, State


class Sequences(NamedTuple):
    """Every sequence of a mini-batch (T, N): one to a row, or more where a reset begins another."""

    T: int
    N: int
    row: Array  # (sequences,) of int, as the next two
    start: Array  # the first step in time
    length: Array
    given: Array  # (sequences,) of bool: whether it starts from the state that the caller passes for its row
    last: Array  # (N,) of int: which sequence is processed last in each row
    reverse: bool

    @property
    def one_to_a_row(self) -> bool:
        """Whether sequence n is row n, and starts from the state given."""
        return len(self.row) == self.N and bool(self.given.all())

    def steps(self) -> Iterator[tuple[Array, Array, Array]]:
        """Yield for each step in the order of processing which sequences have it, and their steps in time and rows.

        The sequences are in the order of falling length, so that each step has the first few of them.
        """
        order = np.argsort(-self.length, kind="stable")
        for k in range(int(self.length.max())):
            now = order[: int((self.length > k).sum())]
            yield now, self.start[now] + (self.length[now] - 1 - k if self.reverse else k), self.row[now]

    def places(self) -> tuple[Array, Array, int]:
        """Return the row of x (T·N, D) that each reads first, how many it reads, and how far it is to the next one."""
        first = (self.start + (self.length - 1 if self.reverse else 0)) * self.N + self.row
        return first, self.length, -self.N if self.reverse else self.N

    def valid(self) -> Array:
        """Return (T, N) of bool: where any sequence is."""
        ends = np.zeros(self.N, int)
        np.maximum.at(ends, self.row, self.start + self.length)
        return np.arange(self.T)[:, None] < ends


def find(T: int, N: int, lengths: Any, reset: Any, batch_first: bool, reverse: bool, name: str) -> Sequences | None:
    """Check both arguments; return None where every row is one sequence of T steps from the state given."""
    ends = np.full(N, T) if lengths is None else as_lengths(lengths, T, N, f"{name}: lengths", batch_first)
    begins = None if reset is None else _reset(reset, T, N, batch_first, name)
    if (ends == T).all() and (begins is None or not begins[reverse:].any()):  # nothing flows to what is before t = 0
        return None
    if begins is None or not begins.any():
        return one_to_each_row(T, ends, reverse)
    fresh = begins[0].copy()
    begins = begins & (np.arange(T)[:, None] < ends)
    begins[0] = True
    row, start = np.nonzero(begins.T)  # by row, then by time
    count = np.bincount(row, minlength=N)
    after = np.cumsum(count)
    end = np.append(start[1:], 0)
    end[after - 1] = ends
    earliest, latest = after - count, after - 1
    given = np.zeros(len(row), bool)
    given[latest if reverse else earliest] = reverse or ~fresh
    return Sequences(T, N, row, start, end - start, given, earliest if reverse else latest, reverse)


def one_to_each_row(T: int, ends: Array, reverse: bool) -> Sequences:
    """Return the sequences that begin at t = 0, one in each row, where these are their lengths."""
    N = len(ends)
    rows = np.arange(N)
    return Sequences(T, N, rows, np.zeros(N, int), ends, np.ones(N, bool), rows, reverse)


def _reset(reset: Any, T: int, N: int, batch_first: bool, name: str) -> Array:
    array = as_kind(reset, "b", f"{name}: reset must be booleans", "try reset.astype(bool)")
    shape, letters = ((N, T), "(N={}, T={})") if batch_first else ((T, N), "(T={}, N={})")
    if array.shape != shape:
        hint = "did you swap time and rows?" if array.shape == shape[::-1] else "one for each step of each row"
        raise ValueError(f"{name}: reset must have shape {letters.format(*shape)}, got {array.shape}: {hint}")
    return array.T if batch_first else array


class Door(Recurrence[State]):
    """What a layer takes: x, a state, lengths and resets."""

    hidden_size: int
    state_names: tuple[str, ...]
    state_sizes: tuple[int, ...]
    learn_initial_state: bool
    remat: bool | int

    def _given(self, value: Any, argument: str) -> Any:
        """Return an argument in its own dtype: a Tensor, or an array, a copy of one that a gradient may need."""
        dtype = self.dtype
        if type(value) is not np.ndarray or value.dtype is not dtype:
            if isinstance(value, Tensor):
                return value
            value = as_array(value, f"{self.name}: {argument}", np.float64)
        keep = value.dtype is not dtype or self.remat or not MODE.get() & RECORD  # remat is to save memory
        return value if keep else value.copy()

    def _cast(self, given: Any, argument: str, sequences: Sequences | None = None) -> Any:
        """Cast to the layer's dtype; ValueError where that cannot hold a number, unless it stands in the padding."""
        if given.dtype is self.dtype:
            return given
        try:
            with np.errstate(over="raise"):
                return given.astype(self.dtype)
        except FloatingPointError:
            counts: Any = True
        if sequences is not None:
            counts = (sequences.valid().T if self.batch_first else sequences.valid())[..., None]
        return typed(given, self.dtype, f"{self.name}: {argument}", counts)

    def _sequences(self, shape: tuple[int, ...], lengths: Any, reset: Any) -> Sequences | None:
        """Check the shape of x as it came; return where the sequences lie."""
        if len(shape) != 3 or shape[2] != self.input_size or 0 in shape:
            raise self._misshapen(shape)
        if lengths is None and reset is None:
            return None
        N, T = shape[:2] if self.batch_first else shape[1::-1]
        return find(T, N, lengths, reset, self.batch_first, bool(self.reverse), self.name)

    def _misshapen(self, shape: tuple[int, ...]) -> ValueError:
        D, first = self.input_size, int(self.batch_first)
        letters, batch_axis = ("(N, T, D={})", "None") if self.batch_first else ("(T, N, D={})", ":, None")
        hints = (
            (len(shape) == 2 and shape[1] == D, f"one sequence without its batch axis? Pass x[{batch_axis}]"),
            (len(shape) == 1 and D == 1, f"one sequence of numbers? Pass x[:, None][{batch_axis}]"),
            (len(shape) == 2 and D == 1, "one number for each step and row? Pass x[..., None]"),
            (len(shape) != 3, "steps, rows and features each take one axis"),
            (shape[-1:] == (D,), "there must be at least one step and one row"),
            (shape[first : first + 1] == (D,), "did you swap features and time?"),
            (D in shape, "did you swap features and rows?"),
            (True, f"the layer was made with input_size={D}"),
        )
        hint = next(hint for fits, hint in hints if fits)
        return ValueError(f"{self.name}: x must have shape {letters.format(D)}, got {shape}: {hint}")

    def _one_step(self, x_t: Any) -> Tensor:
        """Check the x_t of a single step; return it."""
        x_t = as_tensor(self._given(x_t, "x_t"))
        if x_t.ndim == 2 and x_t.shape[1] == self.input_size and x_t.shape[0]:
            cast: Tensor = self._cast(x_t, "x_t")
            return cast
        hints = (
            (x_t.ndim == 1, "add the batch axis with x_t[None]"),
            (x_t.ndim != 2, "this is one step; call the layer for a whole sequence"),
            (x_t.shape[-1:] != (self.input_size,), f"the layer was made with input_size={self.input_size}"),
            (True, "there must be at least one row"),
        )
        hint = next(hint for fits, hint in hints if fits)
        raise ValueError(f"{self.name}: x_t must have shape (N, D={self.input_size}), got {x_t.shape}: {hint}")

    # --- the state ---------------------------------------------------------------------------------------------------

    def _state(self, state: Any, N: int, argument: str) -> list[Any]:
        """Return a state as a list of Tensors or arrays (N, H): the one given, what has been learned, or zeros."""
        if state is None:
            if self.learn_initial_state:
                return [fresh.broadcast_to((N, *fresh.shape)) for fresh in self._fresh()]
            return [np.zeros((N, size), self.dtype) for size in self.state_sizes]
        named = self._named_states(state, N, argument)
        return [self._one_state(s, N, of, size) for (of, s), size in zip(named, self.state_sizes, strict=True)]

    def _named_states(self, state: Any, N: int, argument: str) -> list[tuple[str, Any]]:
        """Split a state into its arrays, each with its name in errors."""
        names = self.state_names
        if len(names) == 1:
            return [(argument, state)]
        if not isinstance(state, tuple | list) or len(state) != len(names):
            letters, kind = ", ".join(names), {2: "pair", 3: "triple"}.get(len(names), "tuple")
            got = f"{len(state)} of them" if isinstance(state, tuple | list) else describe(state)
            P, H = self.output_size, self.hidden_size
            shapes = f"each (N={N}, H={H})" if P == H else f"(N={N}, P={P}) and (N={N}, H={H})"
            raise TypeError(
                f"{self.name}: {argument} must be a {kind} ({letters}), {shapes}, got {got}: pass what the layer "
                "returned as final_state, or None"
            )
        return [(f"{argument}[{i}]", s) for i, s in enumerate(state)]

    def _one_state(self, state: Any, N: int, argument: str, H: int) -> Any:
        given = self._cast(self._given(state, argument), argument)
        if given.shape != (N, H):
            of_all = f"for the same state in each row pass np.tile({argument}, ({N}, 1))"
            of_torch = f"torch has an axis of layers before them, try {argument}[0]"
            hint = {(H,): of_all, (1, N, H): of_torch}.get(given.shape, "one state for each row of x")
            letter = "H" if self.hidden_size == H else "P"
            raise ValueError(
                f"{self.name}: {argument} must have shape (N={N}, {letter}={H}), got {given.shape}: {hint}"
            )
        return given

    def _fresh(self) -> list[Tensor]:
        """Return the state, (H,) each, that a sequence starts from when none is given for it."""
        if self.learn_initial_state:
            return [getattr(self, f"{letter}_0") for letter in self.state_names]
        return [wrap(np.zeros(size, self.dtype), None) for size in self.state_sizes]

    def _joined(self, state: Sequence[Tensor]) -> State:
        """Return a state as the caller gets it."""
        joined: Any = tuple(state) if len(self.state_names) > 1 else state[0]
        return joined  # type: ignore[no-any-return]
