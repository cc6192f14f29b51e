"""LSTMLayer."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from minirnn.arguments import Rng, as_number
from minirnn.autograd import ops
from minirnn.autograd.tensor import Tensor, unary
from minirnn.init import Initializer
from minirnn.kernels.lstm import LSTM
from minirnn.layers.layer import Common, Layer
from minirnn.layers.terms import LSTMTerms, Terms

if TYPE_CHECKING:
    from minirnn import counting


class LSTMState(NamedTuple):
    """The state of an LSTM: a pair.

    Attributes
    ----------
    h : Tensor (N, H)
        The output.
    c : Tensor (N, H)
        What the cell remembers.
    """

    h: Tensor
    c: Tensor


class LSTMLayer(Layer[LSTMState]):
    """A layer of long short-term memory, unrolled through time::

        i, f, o = σ(X_t W_x· + H_{t-1} W_h· + b_·), each with its block of the weights
        g = tanh(X_t W_xg + H_{t-1} W_hg + b_g)
        C_t = f ⊙ C_{t-1} + i ⊙ g
        H_t = o ⊙ tanh(C_t)

    The blocks stand in the order i, f, g, o.

    Parameters
    ----------
    input_size, hidden_size : int
        D and H.
    bias : bool
        Whether there is b_h; one bias, as in the textbook.
    forget_bias : float
        The initial value of b_h's f block, nothing more (Gers et al. 2000; Jozefowicz et al. 2015 recommend 1).
    backend : "fused" or "graph"
        "fused" makes the whole unroll one node with a hand-written kernel: fast. "graph" records one op for each
        operation of the equation at each step: slow, and open to inspection. The numbers are the same.
    reverse : bool
        Process t = T−1 … 0; outputs stand in time order all the same.
    batch_first : bool
        Take and return (N, T, …) instead of (T, N, …).
    input_initializer, recurrent_initializer : str or callable (shape, rng) -> array
        Of each block of W_xh and W_hh; see minirnn/init.py.
    learn_initial_state : bool
        Make the state that a sequence starts from, unless one is given, two Parameters h_0, c_0 (H,), zero at first.
    recurrent_dropout : float
        In training, drop entries of the H_{t-1} that the weights are multiplied with, the same at every step of a
        sequence, with this probability (Gal & Ghahramani 2016).
    message_clip : float, optional
        The largest norm that a row of dL/dH_t may have on its way back, at each step; longer ones are scaled to it.
    remat : bool or int
        Keep one state of every so many steps, and run the steps between again in backward; True: √T of T.
    dtype : numpy.float32 or numpy.float64
        Of the parameters; whatever comes in is cast to it.
    rng : numpy.random.Generator, int or None

    Attributes
    ----------
    W_xh : Parameter (D, 4·H)
    W_hh : Parameter (H, 4·H)
    b_h : Parameter (4·H,) or None
    h_0, c_0 : Parameter (H,), with ``learn_initial_state``

    Raises
    ------
    TypeError, ValueError
        Naming the argument, what was expected, what came, and what to try.

    Notes
    -----
    Source: Hochreiter & Schmidhuber 1997, with the forget gate of Gers, Schmidhuber & Cummins 2000; no peepholes. Its
    count is 4H(D + H + 1). The state is a pair (h, c).

    >>> import minirnn as mr
    >>> layer = mr.LSTMLayer(3, 5, rng=0)
    >>> outputs, (h, c) = layer(np.ones((7, 2, 3)))
    >>> outputs.shape, h.shape, c.shape, layer.count_params()
    ((7, 2, 5), (2, 5), (2, 5), 180)
    """  # noqa: D400

    gates = 4
    state_names = ("h", "c")
    _kernel = LSTM()

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        bias: bool = True,
        forget_bias: float = 1.0,
        backend: str = "fused",
        reverse: bool = False,
        batch_first: bool = False,
        input_initializer: str | Initializer = "glorot",
        recurrent_initializer: str | Initializer = "orthogonal",
        learn_initial_state: bool = False,
        recurrent_dropout: float = 0.0,
        message_clip: float | None = None,
        remat: bool | int = False,
        dtype: npt.DTypeLike = np.float32,
        rng: Rng = None,
    ) -> None:
        self._forget_bias = as_number(forget_bias, f"{self.name}: forget_bias")
        if isinstance(bias, bool | np.bool_) and not bias and forget_bias != 1.0:
            raise ValueError(
                f"{self.name}: forget_bias={forget_bias} is where b_h starts, and with bias=False there is none: "
                "leave one of the two out"
            )
        super().__init__(
            input_size,
            hidden_size,
            Common(
                bias, backend, reverse, batch_first, input_initializer, recurrent_initializer, learn_initial_state,
                recurrent_dropout, message_clip, remat, dtype, rng,
            ),
        )  # fmt: skip

    def _extra_parameters(self) -> None:
        if self.b_h is not None:
            self.b_h.data[self.hidden_size : 2 * self.hidden_size] = self._forget_bias

    def _equation(
        self, x_t: Any, fed: Tensor, state: Sequence[Tensor], W_xh: Any, W_hh: Any, b_h: Any = None
    ) -> Sequence[Tensor]:
        z = x_t @ W_xh + fed @ W_hh
        if b_h is not None:
            z = z + b_h
        H = self.hidden_size
        i, f, o = (unary(ops.sigmoid, z[:, j * H : (j + 1) * H]) for j in (0, 1, 3))
        g = unary(ops.tanh, z[:, 2 * H : 3 * H])
        c = f * state[1] + i * g
        return o * unary(ops.tanh, c), c

    def _terms(self, weights: Sequence[Any], op_by_op: bool) -> Terms:
        return LSTMTerms(weights, op_by_op)

    def _joined(self, state: Sequence[Tensor]) -> LSTMState:
        return LSTMState(*state)

    def _gate_names(self) -> list[str]:
        return ["i", "f", "g", "o"]

    def _equations(self) -> list[str]:
        before, bias = "t+1" if self.reverse else "t−1", " + b_{h}" * (self.b_h is not None)
        return [
            f"[i f g o] = x_{{t}} W_{{xh}} + h_{{{before}}} W_{{hh}}{bias}, then σ of i, f, o and tanh of g",
            f"c_{{t}} = f ⊙ c_{{{before}}} + i ⊙ g",
            "h_{t} = o ⊙ tanh(c_{t})",
        ]

    def count(self) -> "counting.ParameterCount":
        """Return the analytic count, with formulas, shapes and what other libraries would report."""
        from minirnn import counting

        return counting.lstm(self.input_size, self.hidden_size, bias=self.b_h is not None)
