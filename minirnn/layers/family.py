"""The recurrent layers: Elman's with any cell, LSTM and GRU."""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple, Unpack

import numpy as np

from minirnn.arguments import as_flag, as_number, float_dtype
from minirnn.autograd.tensor import Tensor
from minirnn.cells import GRU, LSTM, Cell, Elman, GRUResetBefore
from minirnn.cells.cell import ActivationName, as_cell, resolve
from minirnn.layers.layer import Layer
from minirnn.layers.settings import Settings, spell_out

_LSTM, _GRU, _GRU_BEFORE = LSTM(), GRU(), GRUResetBefore()


class LSTMState(NamedTuple):
    """The state of an LSTM: a pair."""

    h: Tensor  # (N, H), the output
    c: Tensor  # (N, H), what the cell remembers


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
    init : None or "irnn"
        "irnn": identity W_hh, zero bias, W_xh ~ N(0, 0.001²), for ReLU only (Le, Jaitly, Hinton 2015).
    **settings

    Attributes
    ----------
    W_xh : Parameter (D, H)
    W_hh : Parameter (H, H)
    b_h : Parameter (H,) or None
    h_0 : Parameter (H,), with ``learn_initial_state``

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
        activation: ActivationName | tuple[Callable[..., Any], Callable[..., Any]] = "tanh",
        cell: Cell | None = None,
        init: Literal["irnn"] | None = None,
        **settings: Unpack[Settings],
    ) -> None:
        self.cell = cell
        """The user's own, if there is one."""
        if cell is None:
            phi = resolve(activation, float_dtype(settings.get("dtype", np.float32), f"{self.name}: dtype"), self.name)
            self.activation = phi.kernel
            made: Cell = Elman(phi)
        else:
            for what, value, default in (("init", init, None), ("activation", activation, "tanh")):
                if value != default:
                    raise ValueError(
                        f"{self.name}: {what}={value!r} would do nothing beside cell={type(cell).__name__}, which "
                        "makes the new state itself: leave one of the two out"
                    )
            made = as_cell(cell, settings.get("backend", "fused"), self.name)
        if init is not None:
            if init != "irnn":
                raise ValueError(
                    f"{self.name}: init must be None or 'irnn', got {init!r}: initialisers of single arrays go to "
                    "input_initializer and recurrent_initializer"
                )
            if self.activation.name != "relu":
                raise ValueError(
                    f"{self.name}: init='irnn' is a layer of rectifiers, got activation={self.activation.name!r}: try "
                    "activation='relu'"
                )
            preset = Settings(input_initializer="normal", recurrent_initializer="identity")
            if settings.keys() & preset:
                raise ValueError(
                    f"{self.name}: init='irnn' sets both initialisers itself: leave them out, or leave init out"
                )
            settings |= preset
        super().__init__(input_size, hidden_size, made, settings)

    def _own_repr(self) -> list[str]:
        return [f"activation={self.activation.name!r}" if self.cell is None else f"cell={type(self.cell).__name__}"]


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
    forget_bias : float
        The initial value of b_h's f block, nothing more (Gers et al. 2000; Jozefowicz et al. 2015 recommend 1).
    **settings

    Attributes
    ----------
    W_xh : Parameter (D, 4·H)
    W_hh : Parameter (H, 4·H)
    b_h : Parameter (4·H,) or None
    h_0, c_0 : Parameter (H,), with ``learn_initial_state``

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

    gates, state_names = LSTM.blocks, LSTM.state_names

    def __init__(
        self, input_size: int, hidden_size: int, *, forget_bias: float = 1.0, **settings: Unpack[Settings]
    ) -> None:
        start = as_number(forget_bias, f"{self.name}: forget_bias")
        if start != 1.0 and not settings.get("bias", True):
            raise ValueError(
                f"{self.name}: forget_bias={forget_bias} is where b_h starts, and with bias=False there is none: "
                "leave one of the two out"
            )
        super().__init__(input_size, hidden_size, _LSTM, settings)
        if self.b_h is not None:
            self.b_h.data[self.hidden_size : 2 * self.hidden_size] = start

    def _joined(self, state: Any) -> LSTMState:
        return LSTMState(*state)


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
    reset_after : bool
        Whether r is applied after the product with W_hn, or before it.
    **settings

    Attributes
    ----------
    W_xh : Parameter (D, 3·H)
    W_hh : Parameter (H, 3·H)
    b_h : Parameter (3·H,) or None
    b_hn : Parameter (H,) or None
        With ``reset_after``: the one recurrent bias that cannot be folded into b_h, because r multiplies it.
    h_0 : Parameter (H,), with ``learn_initial_state``

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

    gates = GRU.blocks

    def __init__(
        self, input_size: int, hidden_size: int, *, reset_after: bool = True, **settings: Unpack[Settings]
    ) -> None:
        self.reset_after = as_flag(reset_after, f"{self.name}: reset_after")
        super().__init__(input_size, hidden_size, _GRU if self.reset_after else _GRU_BEFORE, settings)

    def _own_repr(self) -> list[str]:
        return ["reset_after=False"] * (not self.reset_after)


for _layer in RecurrentLayer, LSTMLayer, GRULayer:
    spell_out(_layer)
