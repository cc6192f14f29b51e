"""GRULayer."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from minirnn.arguments import Rng, as_flag
from minirnn.autograd import ops
from minirnn.autograd.tensor import Tensor, unary
from minirnn.init import Initializer
from minirnn.kernels.gru import GRU, GRUResetBefore
from minirnn.layers.layer import Common, Layer
from minirnn.layers.module import Parameter
from minirnn.layers.terms import GRUTerms, Terms

if TYPE_CHECKING:
    from minirnn import counting

_AFTER, _BEFORE = GRU(), GRUResetBefore()


class GRULayer(Layer[Tensor]):
    """A layer of gated recurrent units, unrolled through time::

        r, z = σ(X_t W_x· + H_{t-1} W_h· + b_·), each with its block of the weights
        n = tanh(X_t W_xn + b_n + r ⊙ (H_{t-1} W_hn + b_hn))      reset_after=True
        n = tanh(X_t W_xn + b_n + (r ⊙ H_{t-1}) W_hn)             reset_after=False
        H_t = (1 − z) ⊙ n + z ⊙ H_{t-1}

    The blocks stand in the order r, z, n; z keeps the old state.

    Parameters
    ----------
    input_size, hidden_size : int
        D and H.
    bias : bool
        Whether there are b_h and, with ``reset_after``, b_hn.
    reset_after : bool
        Whether r is applied after the product with W_hn, or before it.
    backend : "fused" or "graph"
        "fused" makes the whole unroll one node with a hand-written kernel: fast. "graph" records one op for each
        operation of the equation at each step: slow, and open to inspection. The numbers are the same.
    reverse : bool
        Process t = T−1 … 0; outputs stand in time order all the same.
    batch_first : bool
        Take and return (N, T, …) instead of (T, N, …).
    input_initializer, recurrent_initializer : str or callable (shape, rng) -> array
        Of each block of W_xh and W_hh; see minirnn/init.py. The biases start at zero.
    learn_initial_state : bool
        Make the state that a sequence starts from, unless one is given, a Parameter h_0 (H,), zero at first.
    recurrent_dropout : float
        In training, drop entries of the H_{t-1} that the weights are multiplied with, the same at every step of a
        sequence, with this probability (Gal & Ghahramani 2016). What z keeps is not touched.
    message_clip : float, optional
        The largest norm that a row of dL/dH_t may have on its way back, at each step; longer ones are scaled to it.
    remat : bool or int
        Keep one state of every so many steps, and run the steps between again in backward; True: √T of T.
    dtype : numpy.float32 or numpy.float64
        Of the parameters; whatever comes in is cast to it.
    rng : numpy.random.Generator, int or None

    Attributes
    ----------
    W_xh : Parameter (D, 3·H)
    W_hh : Parameter (H, 3·H)
    b_h : Parameter (3·H,) or None
    b_hn : Parameter (H,) or None
        With ``reset_after``: the one recurrent bias that cannot be folded into b_h, because r multiplies it.
    h_0 : Parameter (H,), with ``learn_initial_state``

    Raises
    ------
    TypeError, ValueError
        Naming the argument, what was expected, what came, and what to try.

    Notes
    -----
    Source: Cho et al. 2014, arXiv:1406.1078: version 1 resets after the product, version 3 before. Its count is
    3H(D + H + 1) + H, without the last H for ``reset_after=False``.

    >>> import minirnn as mr
    >>> layer = mr.GRULayer(3, 5, rng=0)
    >>> outputs, final_state = layer(np.ones((7, 2, 3)))
    >>> outputs.shape, final_state.shape, layer.count_params()
    ((7, 2, 5), (2, 5), 140)
    """  # noqa: D400

    gates = 3

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        bias: bool = True,
        reset_after: bool = True,
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
        self.reset_after = as_flag(reset_after, f"{self.name}: reset_after")
        self._kernel = _AFTER if reset_after else _BEFORE
        super().__init__(
            input_size,
            hidden_size,
            Common(
                bias, backend, reverse, batch_first, input_initializer, recurrent_initializer, learn_initial_state,
                recurrent_dropout, message_clip, remat, dtype, rng,
            ),
        )  # fmt: skip

    def _extra_parameters(self) -> None:
        both = self.reset_after and self.b_h is not None
        self.b_hn = Parameter(np.zeros(self.hidden_size, self.dtype)) if both else None

    @property
    def _weights(self) -> list[Any]:
        return [self.W_xh, self.W_hh, self.b_h, *([self.b_hn] if self.reset_after else [])]

    def _equation(
        self, x_t: Any, fed: Tensor, state: Sequence[Tensor], W_xh: Any, W_hh: Any, b_h: Any = None, b_hn: Any = None
    ) -> Sequence[Tensor]:
        H = self.hidden_size
        of_x = x_t @ W_xh
        if b_h is not None:
            of_x = of_x + b_h
        if self.reset_after:
            of_h = fed @ W_hh
            gates = unary(ops.sigmoid, of_x[:, : 2 * H] + of_h[:, : 2 * H])
            r, z, side = gates[:, :H], gates[:, H:], of_h[:, 2 * H :]
            side = r * (side if b_hn is None else side + b_hn)
        else:
            gates = unary(ops.sigmoid, of_x[:, : 2 * H] + fed @ W_hh[:, : 2 * H])
            r, z = gates[:, :H], gates[:, H:]
            side = (r * fed) @ W_hh[:, 2 * H :]
        n = unary(ops.tanh, of_x[:, 2 * H :] + side)
        return ((1.0 - z) * n + z * state[0],)

    def _gate_names(self) -> list[str]:
        return ["r", "z", "n"]

    def _equations(self) -> list[str]:
        before, has = "t+1" if self.reverse else "t−1", self.b_h is not None
        h, b, b_n, b_hn = f"h_{{{before}}}", " + b_{·}" * has, " + b_{n}" * has, " + b_{hn}" * has
        side = f"r ⊙ ({h} W_{{hn}}{b_hn})" if self.reset_after else f"(r ⊙ {h}) W_{{hn}}"
        return [
            f"r, z = σ(x_{{t}} W_{{x·}} + {h} W_{{h·}}{b}), each with its block",
            f"n = tanh(x_{{t}} W_{{xn}}{b_n} + {side})",
            f"h_{{t}} = (1 − z) ⊙ n + z ⊙ {h}",
        ]

    def _terms(self, weights: Sequence[Any], op_by_op: bool) -> Terms:
        return GRUTerms(weights, op_by_op, self.reset_after)

    def _own_repr(self) -> list[str]:
        return ["reset_after=False"] * (not self.reset_after)

    def count(self) -> "counting.ParameterCount":
        """Return the analytic count, with formulas, shapes and what other libraries would report."""
        from minirnn import counting

        bias = self.b_h is not None
        return counting.gru(self.input_size, self.hidden_size, bias=bias, reset_after=self.reset_after)
