"""The door of a recurrent layer: what comes in is checked, cast to the layer's dtype, and turned to (T, N, …).

Within `detect_anomaly` minirnn/layers/watch.py looks at what comes in before it gets here.
"""

from collections.abc import Sequence
from typing import Any, cast

import numpy as np

from minirnn.arguments import as_array
from minirnn.autograd.tensor import Tensor, wrap
from minirnn.layers.recurrence import Recurrence, State
from minirnn.layers.sequences import Sequences, find

_TUPLES = {2: "pair", 3: "triple"}


class Door(Recurrence[State]):
    """What a layer takes: x, a state, lengths and resets."""

    hidden_size: int
    state_names: tuple[str, ...]
    learn_initial_state: bool

    def _arranged(
        self, x: Any, initial_state: Any, lengths: Any, reset: Any = None
    ) -> tuple[Tensor, list[Tensor], Sequences | None]:
        """Check the arguments of a call; return x (T, N, D), the state (N, H) each, and where the sequences lie."""
        x = self._tensor(x, "x")
        sequences = self._sequences(x.shape, lengths, reset)
        if self.batch_first:
            x = x.swapaxes(0, 1)
        return self._cast(x), self._state(initial_state, x.shape[1], "initial_state"), sequences

    def _tensor(self, value: Any, argument: str) -> Tensor:
        """Return an argument as a Tensor of its own dtype."""
        if isinstance(value, Tensor):
            return value
        return wrap(as_array(value, f"{self.name}: {argument}", self.dtype), None)

    def _cast(self, tensor: Tensor) -> Tensor:
        return tensor if tensor.data.dtype is self.dtype else tensor.astype(self.dtype)

    def _sequences(self, shape: tuple[int, ...], lengths: Any, reset: Any) -> Sequences | None:
        """Check the shape of x as it came; return where the sequences lie."""
        self._check_sequence(shape)
        N, T = shape[:2] if self.batch_first else shape[1::-1]
        return find(T, N, lengths, reset, self.batch_first, bool(self.reverse), self.name)

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

    def _one_step(self, x_t: Any) -> Tensor:
        """Check the x_t of a single step; return it."""
        x_t = self._tensor(x_t, "x_t")
        if x_t.ndim != 2 or x_t.shape[1] != self.input_size or not x_t.shape[0]:
            hint = "there must be at least one row"
            if x_t.ndim == 1:
                hint = "add the batch axis with x_t[None]"
            elif x_t.ndim != 2:
                hint = "this is one step; call the layer for a whole sequence"
            elif x_t.shape[1] != self.input_size:
                hint = f"the layer was made with input_size={self.input_size}"
            raise ValueError(f"{self.name}: x_t must have shape (N, D={self.input_size}), got {x_t.shape}: {hint}")
        return self._cast(x_t)

    # --- the state ---------------------------------------------------------------------------------------------------

    def _state(self, state: Any, N: int, argument: str) -> list[Tensor]:
        """Return a state as a list of Tensors (N, H): the one given, what has been learned, or zeros."""
        if state is None:
            if self.learn_initial_state:
                return [fresh.broadcast_to((N, self.hidden_size)) for fresh in self._fresh()]
            return [wrap(np.zeros((N, self.hidden_size), self.dtype), None) for _ in self.state_names]
        return [self._one_state(s, N, of) for of, s in self._named_states(state, N, argument)]

    def _named_states(self, state: Any, N: int, argument: str) -> list[tuple[str, Any]]:
        """Return what is given for each array of the state, with what errors call it."""
        names = self.state_names
        if len(names) == 1:
            return [(argument, state)]
        if not isinstance(state, tuple | list) or len(state) != len(names):
            letters = ", ".join(names)
            got = f"{len(state)} of them" if isinstance(state, tuple | list) else _kind(state)
            raise TypeError(
                f"{self.name}: {argument} must be a {_TUPLES.get(len(names), 'tuple')} ({letters}), each (N={N}, "
                f"H={self.hidden_size}), got {got}: pass what the layer returned as final_state, or None"
            )
        return [(f"{argument}[{i}]", s) for i, s in enumerate(state)]

    def _one_state(self, state: Any, N: int, argument: str) -> Tensor:
        H = self.hidden_size
        tensor = self._cast(self._tensor(state, argument))
        if tensor.shape != (N, H):
            of_all = f"for the same state in each row pass np.tile({argument}, ({N}, 1))"
            hint = of_all if tensor.shape == (H,) else "one state for each row of x"
            raise ValueError(f"{self.name}: {argument} must have shape (N={N}, H={H}), got {tensor.shape}: {hint}")
        return tensor

    def _fresh(self) -> list[Tensor]:
        """Return the state, (H,) each, that a sequence starts from when none is given for it."""
        if self.learn_initial_state:
            return [getattr(self, f"{letter}_0") for letter in self.state_names]
        return [wrap(np.zeros(self.hidden_size, self.dtype), None) for _ in self.state_names]

    def _joined(self, state: Sequence[Tensor]) -> State:
        """Return a state as the caller gets it."""
        return cast(State, tuple(state) if len(self.state_names) > 1 else state[0])


def _kind(value: Any) -> str:
    shape = getattr(value, "shape", None)
    return f"one {type(value).__name__} of shape {shape}" if shape is not None else type(value).__name__
