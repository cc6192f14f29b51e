"""What every recurrent module has in common, a layer as well as what is composed of layers.

Checked by tests/test_recurrent.py.
"""

from typing import Any, NamedTuple

import numpy as np

from minirnn.module import Module
from minirnn.tensor import Tensor


class RecurrentOutput(NamedTuple):
    """What a recurrent layer returns.

    Attributes
    ----------
    outputs : Tensor (T, N, H)
        The state after every step, in time order; (N, T, H) for ``batch_first``.
    final_state : Tensor (N, H), or a tuple
        The state after the last step processed: t = T−1, or t = 0 for ``reverse``; with ``lengths`` that of each row.
        A pair (h, c) from an LSTM, (forward, backward) from two directions, one entry a layer from a stack. Pass it on
        as ``initial_state`` to go on where this sequence ends; ``final_state.detach()``, or that of every Tensor in a
        tuple (`minirnn.training.detached`), to cut the gradient there.
    """

    outputs: Tensor
    final_state: Any


class Recurrence(Module):
    """A module that takes a sequence and a state, and returns outputs and the final state.

    Attributes
    ----------
    input_size : int
        D, the features of a step that it reads.
    output_size : int
        The features of a step that it returns: H of a layer, the sum of both for two directions.
    dtype : numpy dtype
        Of its parameters.
    batch_first : bool
        Whether sequences are (N, T, …) at its doors.
    reverse : bool or None
        Whether it goes back in time; None if it does both.
    """

    carries_state = True

    input_size: int
    output_size: int
    dtype: np.dtype[Any]
    batch_first: bool
    reverse: bool | None

    @property
    def name(self) -> str:
        """Return the class's name, which errors start with."""
        return type(self).__name__

    def forward(self, x: Any, initial_state: Any = None, lengths: Any = None, *, reset: Any = None) -> RecurrentOutput:
        """Unroll over a mini-batch of sequences; a subclass says how."""
        raise NotImplementedError(f"{self.name} must define forward()")

    def last_output(self, final_state: Any) -> Tensor:
        """Return the (N, output_size) output that belongs to a final state."""
        raise NotImplementedError(f"{self.name} must define last_output()")
