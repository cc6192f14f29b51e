"""What every recurrent module has in common, a layer as well as what is composed of layers."""

from typing import TYPE_CHECKING, Any, Generic, NamedTuple

import numpy as np

from minirnn.arguments import as_size
from minirnn.autograd.tensor import Tensor
from minirnn.layers.module import Module

if TYPE_CHECKING:
    from typing_extensions import TypeVar  # known to type checkers; not needed at run time

    from minirnn.drawing import blocks

    State = TypeVar("State", default=Any)
    Forward = TypeVar("Forward", default=Any)
    Backward = TypeVar("Backward", default=Any)
else:
    from typing import TypeVar

    State, Forward, Backward = TypeVar("State"), TypeVar("Forward"), TypeVar("Backward")


class RecurrentOutput(NamedTuple, Generic[State]):
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
    final_state: State


class Recurrence(Module, Generic[State]):
    """A module that takes a sequence and a state, and returns outputs and the final state."""

    carries_state = True

    input_size: int  # D, the features of a step that it reads
    output_size: int  # the features of a step that it returns: H of a layer, the sum of both for two directions
    dtype: np.dtype[Any]  # of its parameters
    batch_first: bool  # whether sequences are (N, T, …) at its doors
    reverse: bool | None  # whether it goes back in time; None if it does both

    @property
    def name(self) -> str:
        """The class's name, which errors start with."""
        return type(self).__name__

    def forward(
        self, x: Any, initial_state: Any = None, lengths: Any = None, *, reset: Any = None
    ) -> RecurrentOutput[State]:
        """Unroll over a mini-batch of sequences; a subclass says how."""
        raise NotImplementedError(f"{self.name} must define forward()")

    def last_output(self, final_state: Any) -> Tensor:
        """Return the (N, output_size) output that belongs to a final state."""
        raise NotImplementedError(f"{self.name} must define last_output()")

    def to_svg(self, T: int = 5) -> str:
        """Draw it as an SVG document: the cell with its loop and, beside it, unrolled through T steps.

        Of more than five steps the first three and the last are drawn (figures 14-1 and 14-2 of note 003). Below stand
        the cell's equations, and beside them, where there is more to a step than one op, its gates and paths.

        Raises
        ------
        TypeError, ValueError
            If T is no int ≥ 1.

        >>> import minirnn as mr
        >>> svg = mr.LSTMLayer(10, 20).to_svg(T=3)
        >>> svg[:4], "h_t" in svg, "(20, 80)" in svg  # save it with pathlib.Path("lstm.svg").write_text(svg)
        ('<svg', False, True)
        """
        from minirnn.drawing import blocks, unrolled

        equations, inside = self._step()
        picture = blocks.Picture(self._title(), self._block(), self.input_size, equations, inside=inside)
        return unrolled.draw(picture, as_size(T, f"{self.name}.to_svg: T"))

    def _repr_svg_(self) -> str:
        return self.to_svg()

    def _title(self) -> str:
        """Name it above a drawing."""
        return f"{self.name}: D = {self.input_size}, H = {self.output_size}, {self.count_params():,} parameters"

    def _block(self) -> "blocks.Block":
        """Return it as a block of a drawing; a subclass says which."""
        raise NotImplementedError(f"{self.name}.to_svg: define _block(), from minirnn.drawing.blocks")

    def _step(self) -> "tuple[list[str], list[blocks.Part]]":
        """Return the equations that stand below a drawing, and the parts of a step that are drawn beside them."""
        return [], []
