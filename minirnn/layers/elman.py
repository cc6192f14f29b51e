"""RecurrentLayer, with Elman's cell or one of the user's own."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from minirnn.arguments import Array, Rng, float_dtype
from minirnn.autograd.tensor import Tensor, apply_kernel, unary
from minirnn.init import Initializer, get
from minirnn.kernels import elman
from minirnn.kernels.simple import Custom, Elman
from minirnn.layers import threads
from minirnn.layers.cell import Cell, as_cell, checked
from minirnn.layers.layer import Common, Layer
from minirnn.layers.module import Module
from minirnn.layers.sequences import Sequences
from minirnn.layers.settings import preset, resolve_activation, segment_length
from minirnn.layers.terms import CellTerms, ElmanTerms, Terms

if TYPE_CHECKING:
    from minirnn import counting


class RecurrentLayer(Layer[Tensor]):
    """A layer of recurrent neurons (Elman 1990), unrolled through time::

        H_t = φ(X_t W_xh + H_{t-1} W_hh + b_h)

    Parameters
    ----------
    input_size, hidden_size : int
        D and H.
    activation : "tanh", "relu", "sigmoid", "identity", or a pair (φ, φ′) of callables
        φ gets an array and returns one of the same shape and dtype; φ′ gets φ's *output* and uses operators only.
    cell : Cell, optional
        A cell of your own instead of φ: see `Cell`. W_xh, W_hh and b_h then have its number of blocks.
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
    learn_initial_state : bool
        Make the state that a sequence starts from, unless one is given, a Parameter h_0 (H,), zero at first.
    recurrent_dropout : float
        In training, drop entries of the H_{t-1} that W_hh is multiplied with, the same at every step of a sequence,
        with this probability (Gal & Ghahramani 2016).
    message_clip : float, optional
        The largest norm that a row of dL/dH_t may have on its way back, at each step; longer ones are scaled to it.
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
    h_0 : Parameter (H,), with ``learn_initial_state``

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

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        activation: str | tuple[Callable[..., Any], Callable[..., Any]] = "tanh",
        cell: Cell | None = None,
        bias: bool = True,
        backend: str = "fused",
        reverse: bool = False,
        batch_first: bool = False,
        init: str | None = None,
        input_initializer: str | Initializer = "glorot",
        recurrent_initializer: str | Initializer = "orthogonal",
        learn_initial_state: bool = False,
        recurrent_dropout: float = 0.0,
        message_clip: float | None = None,
        remat: bool | int = False,
        dtype: npt.DTypeLike = np.float32,
        rng: Rng = None,
    ) -> None:
        name = self.name
        self.cell = cell
        if cell is None:
            self.activation, self._op = resolve_activation(activation, float_dtype(dtype, f"{name}: dtype"), name)
            self._kernel = Elman(self.activation)
            label = self.activation.name
        else:
            self._use(cell, backend, activation, init)
            label = type(cell).__name__
        get(input_initializer, f"{name}: input_initializer")
        get(recurrent_initializer, f"{name}: recurrent_initializer")
        input_initializer, recurrent_initializer = preset(init, label, input_initializer, recurrent_initializer, name)
        super().__init__(
            input_size,
            hidden_size,
            Common(
                bias, backend, reverse, batch_first, input_initializer, recurrent_initializer, learn_initial_state,
                recurrent_dropout, message_clip, remat, dtype, rng,
            ),
        )  # fmt: skip

    def _use(self, cell: Cell, backend: str, activation: Any, init: Any) -> None:
        """Take a cell of the user's own."""
        if init == "irnn":
            raise ValueError(
                f"{self.name}: init='irnn' is a layer of rectifiers, got cell={type(cell).__name__}: leave one of the "
                "two out"
            )
        if activation != "tanh":
            raise ValueError(
                f"{self.name}: activation={activation!r} would do nothing beside cell={type(cell).__name__}, which "
                "makes the new state itself: leave one of the two out"
            )
        as_cell(cell, backend, self.name)
        self._kernel = Custom(cell)
        self.gates = cell.blocks
        self.state_names = ("h", *(f"s{i}" for i in range(1, cell.states)))

    def _equation(
        self, x_t: Any, fed: Tensor, state: Sequence[Tensor], W_xh: Any, W_hh: Any, b_h: Any = None
    ) -> Sequence[Tensor]:
        z = x_t @ W_xh + fed @ W_hh
        if b_h is not None:
            z = z + b_h
        if self.cell is None:
            return (unary(self._op, z),)
        return checked(self.cell.equation(z, *state), self.cell, state)

    def _terms(self, weights: Sequence[Any], op_by_op: bool) -> Terms:
        if self.cell is not None:
            return CellTerms(weights, op_by_op, self.cell)
        return ElmanTerms(weights, op_by_op, self.activation)

    def _fused(self, sequences: Sequences | None, mask: Any, *inputs: Any) -> tuple[Tensor, ...]:
        if self.cell is not None or sequences is not None or mask is not None or self.message_clip is not None:
            return super()._fused(sequences, mask, *inputs)
        arrays: list[Any] = [None if tensor is None else tensor.data for tensor in inputs]
        x, h0, W_xh, W_hh, b_h = arrays
        activation, reverse = self.activation, self.reverse
        T, N, D = x.shape
        parts, run = threads.plan(T, N, D, self.hidden_size)
        split: dict[str, Any] = {"parts": parts, "run": run}
        states = elman.forward(x, h0, W_xh, W_hh, b_h, activation, reverse, **split)
        length = segment_length(self.remat, T)
        kept = states if length is None else elman.checkpoints(states, length, b_h, reverse)

        def backward(received: dict[int, Array], wanted: tuple[bool, ...]) -> elman.Gradients:
            d_outputs, d_final = received.get(0), received.get(1)
            return elman.backward(d_outputs, d_final, kept, x, W_xh, W_hh, activation, reverse, wanted, **split)

        # The final state is a copy: a state carried on must not keep all the states of this sequence alive.
        outputs = (elman.outputs(states, reverse), elman.final(states, reverse).copy())
        return apply_kernel(self, inputs, outputs, backward, partial(self._graph, None, None))

    # --- what it says of itself --------------------------------------------------------------------------------------

    def count(self) -> "counting.ParameterCount":
        """Return the analytic count, with formulas, shapes and what other libraries would report."""
        from minirnn import counting

        if self.cell is not None:
            kind = type(self.cell).__name__
            raise TypeError(f"{self.name}: count knows no formula for the cell {kind}: try count_params()")
        return counting.elman(self.input_size, self.hidden_size, bias=self.b_h is not None)

    def counted(self, prefix: str = "") -> "list[counting.Term]":
        """Return the rows of `summary`, with the formula in note 000's letters."""
        return super().counted(prefix) if self.cell is None else Module.counted(self, prefix)

    def counting_notes(self, prefix: str = "") -> list[str]:
        """Return what other libraries would count for this layer, and why; nothing for a cell of one's own."""
        return super().counting_notes(prefix) if self.cell is None else []

    def _gate_names(self) -> list[str]:
        return [self.activation.name if self.cell is None else type(self.cell).__name__]

    def _equations(self) -> list[str]:
        before, bias = "t+1" if self.reverse else "t−1", " + b_{h}" * (self.b_h is not None)
        z = f"x_{{t}} W_{{xh}} + h_{{{before}}} W_{{hh}}{bias}"
        if self.cell is None:
            return [f"h_{{t}} = {self.activation.name}({z})"]
        others = "".join(f", {name}" for name in self.state_names[1:])
        return [f"h_{{t}}{others} = {type(self.cell).__name__}({z}, h_{{{before}}}{others})"]

    def _own_repr(self) -> list[str]:
        return [f"activation={self.activation.name!r}" if self.cell is None else f"cell={type(self.cell).__name__}"]
