"""The recurrent layers: Elman's with any cell, LSTM and GRU."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Unpack

import numpy as np

from minirnn.arguments import as_flag, as_number, as_size, float_dtype
from minirnn.autograd.tensor import Tensor
from minirnn.cells import GRU, LSTM, Cell, Elman, GRUResetBefore, PeepholeLSTM
from minirnn.cells.cell import ActivationName, as_cell, resolve
from minirnn.layers.layer import Layer
from minirnn.layers.settings import Settings, spell_out

if TYPE_CHECKING:
    from minirnn.drawing import blocks

_LSTM, _PEEPHOLES, _GRU, _GRU_BEFORE = LSTM(), PeepholeLSTM(), GRU(), GRUResetBefore()


class LSTMState(NamedTuple):
    """The state of an LSTM: a pair.

    Attributes
    ----------
    h : Tensor (N, H), or (N, P) with ``proj_size``
        The output.
    c : Tensor (N, H)
        What the cell remembers.
    """

    h: Tensor
    c: Tensor


class RecurrentLayer(Layer[Tensor]):
    """A layer of recurrent neurons (Elman 1990), unrolled through time:

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
        The weights of what comes in; column j is neuron j's.
    W_hh : Parameter (H, H)
        The weights of the state before.
    b_h : Parameter (H,) or None
        The one bias; None without ``bias``.
    h_0 : Parameter (H,), with ``learn_initial_state``
        Where a sequence starts that is given no state.

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
    """A layer of long short-term memory, unrolled through time:

        i, f, o = σ(X_t W_x· + H_{t-1} W_h· + b_·), each with its block of the weights
        g = tanh(X_t W_xg + H_{t-1} W_hg + b_g)
        C_t = f ⊙ C_{t-1} + i ⊙ g
        H_t = o ⊙ tanh(C_t)

    The blocks stand in the order i, f, g, o. With ``peepholes`` i and f read C_{t-1}, and o reads C_t; with
    ``proj_size`` H_t is narrower than C_t, of P entries:

        i, f = σ(… + w_c· ⊙ C_{t-1}),   o = σ(… + w_co ⊙ C_t)
        H_t = (o ⊙ tanh(C_t)) W_hr

    Parameters
    ----------
    input_size, hidden_size : int
        D and H.
    proj_size : int, optional
        P < H: outputs and h are (…, P), c stays (N, H). Such a layer, as one with ``peepholes``, is unrolled op by op
        whatever the backend, and so as slowly as "graph"; `minirnn.bptt` does not look into it, and `detect_anomaly`
        names the op at fault, not the step.
    peepholes : bool
        Whether the gates read the cell state.
    forget_bias : float
        The initial value of b_h's f block, nothing more (Gers et al. 2000; Jozefowicz et al. 2015 recommend 1).
    **settings

    Attributes
    ----------
    W_xh : Parameter (D, 4·H)
        The weights of what comes in, the blocks of i, f, g, o side by side.
    W_hh : Parameter (H, 4·H), or (P, 4·H)
        Those of h, in the same order.
    b_h : Parameter (4·H,) or None
        The biases; that of f starts at ``forget_bias``.
    w_c : Parameter (3·H,), with ``peepholes``
        w_ci, w_cf, w_co, in this order; 0 at first.
    W_hr : Parameter (H, P), with ``proj_size``
        From ``recurrent_initializer``, as W_hh.
    h_0, c_0 : Parameter (H,), or (P,) and (H,), with ``learn_initial_state``
        Where a sequence starts that is given no state.

    Notes
    -----
    Source: Hochreiter & Schmidhuber 1997, with the forget gate of Gers, Schmidhuber & Cummins 2000. Its count is
    4H(D + H + 1). The state is a pair (h, c). ``peepholes``: Gers & Schmidhuber 2000, as in ONNX, 3H more;
    ``proj_size``: Sak, Senior & Beaufays 2014 (arXiv:1402.1128), as in torch, 4H(D + P + 1) + HP.

    >>> import minirnn as mr
    >>> layer = mr.LSTMLayer(3, 5, rng=0)
    >>> outputs, (h, c) = layer(np.ones((7, 2, 3)))
    >>> outputs.shape, h.shape, c.shape, layer.count_params()
    ((7, 2, 5), (2, 5), (2, 5), 180)
    """  # noqa: D400

    gates, state_names = LSTM.blocks, LSTM.state_names

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        forget_bias: float = 1.0,
        proj_size: int | None = None,
        peepholes: bool = False,
        **settings: Unpack[Settings],
    ) -> None:
        self.peepholes = as_flag(peepholes, f"{self.name}: peepholes")
        if proj_size is not None:
            proj_size = as_size(proj_size, f"{self.name}: proj_size", hint="leave it out for an output as wide as C_t")
            if proj_size >= as_size(hidden_size, f"{self.name}: hidden_size"):
                raise ValueError(
                    f"{self.name}: proj_size must be below hidden_size={hidden_size}, got {proj_size}: it makes the "
                    "output narrower than the cell state; leave it out for an output as wide"
                )
        self.proj_size = proj_size
        self._without_kernel = "proj_size" if proj_size else "peepholes" if self.peepholes else ""
        if settings.get("remat") and (what := self._without_kernel):
            raise ValueError(
                f"{self.name}: remat keeps fewer states of a kernel, which a layer with {what} has not: leave it out"
            )
        start = as_number(forget_bias, f"{self.name}: forget_bias")
        if start != 1.0 and not settings.get("bias", True):
            raise ValueError(
                f"{self.name}: forget_bias={forget_bias} is where b_h starts, and with bias=False there is none: "
                "leave one of the two out"
            )
        super().__init__(input_size, hidden_size, _PEEPHOLES if self.peepholes else _LSTM, settings, proj_size)
        if self.b_h is not None:
            self.b_h.data[self.hidden_size : 2 * self.hidden_size] = start

    @property
    def weights(self) -> list[Any]:
        """W_xh, W_hh and b_h, None without bias; with ``proj_size`` or ``peepholes`` None, and w_c and W_hr or None."""
        own = [None, getattr(self, "w_c", None), getattr(self, "W_hr", None)]
        return [self.W_xh, self.W_hh, self.b_h, *(own if self._without_kernel else [])]

    def _own_repr(self) -> list[str]:
        return [f"proj_size={self.proj_size}"] * bool(self.proj_size) + ["peepholes=True"] * self.peepholes

    def _step(self) -> "tuple[list[str], list[blocks.Part]]":
        lines, parts = super()._step()
        if self.proj_size:
            from minirnn.drawing.blocks import Part

            after, made = lines[-1].split(" = ")
            lines[-1] = f"{after} = ({made}) W_{{hr}}"
            *others, h = parts
            product = Part("W_{hr}", inputs=h.inputs)
            parts = [*others, Part(h.name, style=h.style, inputs=(len(parts),)), product]
        return lines, parts

    def _joined(self, state: Any) -> LSTMState:
        return LSTMState(*state)


class GRULayer(Layer[Tensor]):
    """A layer of gated recurrent units, unrolled through time:

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
        The weights of what comes in, the blocks of r, z, n side by side.
    W_hh : Parameter (H, 3·H)
        Those of the state before, in the same order.
    b_h : Parameter (3·H,) or None
        The biases, all but b_hn.
    b_hn : Parameter (H,) or None
        With ``reset_after``: the one recurrent bias that cannot be folded into b_h, because r multiplies it.
    h_0 : Parameter (H,), with ``learn_initial_state``
        Where a sequence starts that is given no state.

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
