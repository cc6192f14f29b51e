"""The regulariser Ω of Pascanu, Mikolov & Bengio 2013: a gradient that goes back in time should keep its norm.

`omega` is the paper's, with the immediate derivative; `omega_full` is the same number as a Tensor, to be differentiated
in full.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from minirnn.arguments import Array, as_number
from minirnn.autograd import ops
from minirnn.autograd.functions import stack, where
from minirnn.autograd.gradients import grad
from minirnn.autograd.modes import MODE, RECORD
from minirnn.autograd.tensor import Tensor, apply
from minirnn.bptt.flow import Flow
from minirnn.bptt.run import Loss, check_loss, layer_of, loss_of, run_of
from minirnn.bptt.unrolled import rows
from minirnn.cells.cell import activations_of
from minirnn.layers import SequenceModel
from minirnn.layers.layer import Layer
from minirnn.layers.module import Module


@dataclass(frozen=True, eq=False, repr=False)
class Omega:
    """Ω of one mini-batch and its immediate derivative, as `omega` returns it.

    Attributes
    ----------
    value : float
        Ω, a mean over the N rows; a pure number, whatever the loss is measured in.
    by_step : (T − 1,), float64
        Its terms Ω_k, k between step k and step k + 1; they add up to Ω.
    ratios : (T − 1, N), float64
        ‖(∂C/∂H_{k+1}) ∂H_{k+1}/∂H_k‖ / ‖∂C/∂H_{k+1}‖ of each row; NaN where there is none.
    gradients : dict by parameter name
        The immediate derivative: of W_hh, (H, H), in its dtype. No other parameter has one.
    """

    value: float
    by_step: Array
    ratios: Array
    gradients: dict[str, Array]

    def __repr__(self) -> str:
        return f"<Omega {self.value:.4g} over {len(self.by_step)} steps, mean ratio {_mean(self.ratios):.4g}>"

    def add_to(self, model: Module, weight: float) -> None:
        """Add ``weight`` times the immediate derivative to the ``.grad`` of the layer it was made of.

        To be called between ``backward`` and the optimiser's step. Under weight decay, clipping and the like it counts
        as a part of the gradient.
        """
        layer = layer_of(model, "Omega.add_to")
        weight = as_number(weight, "Omega.add_to: weight")
        for name, g in self.gradients.items():
            parameter = getattr(layer, name)
            if parameter.shape != g.shape:
                raise ValueError(
                    f"Omega.add_to: {name} must have shape {g.shape}, got {parameter.shape}: pass the model that this "
                    "Omega was made of"
                )
            share = (weight * g).astype(parameter.dtype)
            parameter.grad = share if parameter.grad is None else parameter.grad + share


def omega(model: Module, x: Any, loss: Loss, initial_state: Any = None, lengths: Any = None) -> Omega:
    """Return Ω and its immediate derivative, as in the paper::

        Ω = Σ_k Ω_k,    Ω_k = ( ‖(∂C/∂H_{k+1}) ∂H_{k+1}/∂H_k‖ / ‖∂C/∂H_{k+1}‖ − 1 )²
        ∂H_{k+1}/∂H_k = diag(φ′(H_{k+1})) W_hhᵀ,   so the numerator is ‖(∂C/∂H_{k+1} ⊙ φ′(H_{k+1})) W_hhᵀ‖

    k = 0 … T−2: the T−1 ways from one state of the sequence to the next. The immediate derivative holds all states and
    all ∂C/∂H constant, so that only the W_hh written above is left, and no other parameter has one. With
    δ_k = (∂C/∂H_{k+1} ⊙ φ′(H_{k+1})) / ‖∂C/∂H_{k+1}‖, v_k = δ_k W_hhᵀ and r_k = ‖v_k‖::

        ∂⁺Ω/∂W_hh = Σ_k 2 (r_k − 1) (v_k / r_k)ᵀ δ_k

    Parameters
    ----------
    model : RecurrentLayer, or a SequenceModel of one
        With one of the activations, not a cell of one's own.
    x, loss, initial_state, lengths : as for `trace`
        ``loss`` is the paper's C.

    Returns
    -------
    Omega

    Raises
    ------
    TypeError
        For an LSTM, a GRU or a cell of one's own: their Jacobian is not made of W_hh and the states alone, so that
        the paper's derivative is not defined. `omega_full` takes them.
    ValueError
        As `trace`.

    Notes
    -----
    Source: Pascanu, Mikolov & Bengio 2013, "On the difficulty of training recurrent neural networks", equations (9)
    and (10). The paper writes x_k = W_rec σ(x_{k−1}) + W_in u_k + b, where the state x_k is what is before the
    activation, and calls h_k = σ(W_rec h_{k−1} + W_in u_k + b) equivalent. Here the state is that h_k, vectors are
    rows, and W_hh = W_recᵀ: what goes back meets diag(φ′) of step k+1 before the weights, where equation (10) has
    diag(σ′) of step k behind them.

    A row of the mini-batch is a sequence of the paper; Ω is the mean over the N rows. A step where ∂C/∂H_{k+1} is
    exactly zero has no ratio and is left out; so are steps in the padding. Where the numerator is zero Ω_k = 1, and its
    derivative, which does not exist there, is taken as zero. The authors' published program (trainingRNNs) has the same
    Jacobian and also takes the mean over the rows, but it squares both norms, begins one step earlier, at H_0, leaves
    out what has ‖∂C/∂H_{k+1}‖² < 1e-20, and divides by the mean number of steps left.

    With message_clip, ∂C/∂H is what is left after it, which changes no ratio of its own step. In training with
    recurrent_dropout a mask is drawn for it, which is not that of your own forward pass. It takes up to twice as long
    as `trace`.

    >>> import minirnn as mr
    >>> layer = mr.RecurrentLayer(3, 5, dtype=np.float64, rng=0)
    >>> x, optimizer = np.random.default_rng(1).normal(size=(7, 2, 3)), mr.optim.SGD(layer.parameters(), lr=0.1)
    >>> loss = lambda outputs: (outputs[-1] ** 2).sum()
    >>> loss(layer(x).outputs).backward()
    >>> regulariser = mr.bptt.omega(layer, x, loss)
    >>> regulariser.add_to(layer, weight=2.0)  # layer.W_hh.grad += 2.0 * regulariser.gradients["W_hh"]
    >>> optimizer.step()
    >>> regulariser.by_step.shape, mr.bptt.omega(layer, x, loss).value < regulariser.value
    ((6,), True)
    """  # noqa: D400
    layer = layer_of(model, "omega")
    if layer.gates > 1 or len(layer.state_names) > 1 or None in activations_of(layer._cell):
        own = getattr(layer, "cell", None)
        kind = layer.name if own is None else f"one of the cell {type(own).__name__}"
        raise TypeError(
            f"omega: model must be a RecurrentLayer of the textbook's equation, got {kind}: the immediate derivative "
            "is defined for that one alone; try omega_full, which differentiates any of them in full"
        )
    run = Flow(run_of(model, x, loss, initial_state, lengths, "omega"))
    return _immediate(run)


def _immediate(trace: Flow) -> Omega:
    """Make Ω of a trace of an Elman layer; in the order of processing up to the last lines."""
    unrolled, turn = trace._unrolled, trace._turn
    steps = unrolled.steps
    d_h = trace.dL_dh[turn][1:]
    there = _pairs(trace.valid[turn], unrolled.first) & (d_h != 0).any(-1)  # NaN is not zero: it shows
    with np.errstate(invalid="ignore", over="ignore"):
        unit, _ = _units(d_h)
        delta = unit * steps.slopes[1:]
        v, r = _units(steps.through(delta))
        ratios = np.where(there, r, np.nan)
        excess = np.where(there, r - 1, 0)
        by_step = np.square(excess).sum(axis=1) / trace.N
        d_v = (2 / trace.N * excess).astype(v.dtype)[..., None] * v
        d_v = d_v if steps.mask is None else d_v * steps.mask
        W_hh = rows(d_v).T @ rows(delta)
    return Omega(float(by_step.sum()), by_step[turn], ratios[turn], {"W_hh": W_hh})


def _pairs(valid: Array, first: Array) -> Array:
    """Return where both of two steps in a row are no padding, (T − 1, N), in the order of processing."""
    return valid[1:] & (np.arange(1, len(valid))[:, None] > first)


def _mean(ratios: Array) -> float:
    """Return the mean of those there are, NaN if there are none."""
    found = ratios[~np.isnan(ratios)]
    return float(found.mean()) if found.size else float("nan")


def _units(a: Array) -> tuple[Array, Array]:
    """Return the unit vectors of (…, H) and their norms, these in float64; a vector of zeros stays one.

    The squares are of parts of the largest entry, so that they neither overflow nor vanish.
    """
    peak = np.abs(a).max(axis=-1, keepdims=True)
    part = a / np.where(peak == 0, 1, peak)
    size = np.sqrt(np.square(part).sum(axis=-1, keepdims=True))
    return part / np.where(size == 0, 1, size), (peak.astype(np.float64) * size)[..., 0]


# --- the full derivative ---------------------------------------------------------------------------------------------


def omega_full(model: Module, x: Any, loss: Loss, initial_state: Any = None, lengths: Any = None) -> Tensor:
    """Return Ω as a Tensor that can be differentiated in full: through states, φ′ and ∂C/∂H as well::

        Ω = Σ_k ( ‖(∂C/∂S_{k+1}) ∂S_{k+1}/∂S_k‖ / ‖∂C/∂S_{k+1}‖ − 1 )²,    k = 0 … T−2, the mean over the N rows

    with S the full state: H, and [H C] of an LSTM. Not what the paper descends, which is `omega`, but the true
    derivative of the same number.

    Parameters
    ----------
    model : recurrent layer, or a SequenceModel of one
        `RecurrentLayer`, `LSTMLayer`, `GRULayer`; a cell of one's own with an `equation`.
    x, loss, initial_state, lengths : as for `trace`
        Gradients go to x and initial_state too when these are Tensors that require them.

    Returns
    -------
    Tensor ()
        In the layer's dtype: ``(C + weight * omega_full(…)).backward()`` trains with it.

    Raises
    ------
    ValueError
        For a layer with message_clip, which has no second derivative; and as `trace`.
    RuntimeError
        Within `no_grad`, where there is nothing to differentiate.

    Notes
    -----
    For a RecurrentLayer its value is that of `omega`, and what is left out is the same. Built in the graph backend and
    with ``create_graph``, whatever backend the layer has: with its backward it takes three to nine times as long as a
    forward and backward pass of the graph backend. The second derivative of ReLU is zero wherever it exists.

    >>> import minirnn as mr
    >>> layer = mr.LSTMLayer(3, 5, dtype=np.float64, rng=0)
    >>> x = np.random.default_rng(1).normal(size=(7, 2, 3))
    >>> loss = lambda outputs: (outputs[-1] ** 2).sum()
    >>> (loss(layer(x).outputs) + 0.1 * mr.bptt.omega_full(layer, x, loss)).backward()
    >>> layer.W_xh.grad.shape
    (3, 20)
    """  # noqa: D400
    layer = layer_of(model, "omega_full")
    check_loss(loss, "omega_full")
    _differentiable(layer)
    if isinstance(model, SequenceModel):
        x = model._embedded(x, lengths)
    given, state, sequences = layer._arranged(x, initial_state, lengths)
    T, N, _ = given.shape
    valid = np.ones((T, N), bool) if sequences is None else sequences.valid()
    anchor = Tensor(np.zeros((), layer.dtype), requires_grad=True)  # so that every state is recorded
    order = range(T - 1, -1, -1) if layer.reverse else range(T)
    steps = _Recorded(layer, where(valid[..., None], given, 0.0), [s + anchor for s in state], valid, order)
    outputs = where(valid[..., None], stack([steps.after[k][0] for k in order]), 0.0)
    value = loss_of(model, layer, outputs, valid, loss, "omega_full")
    if not value.requires_grad:
        return anchor * 0.0
    (entering,) = grad(value.sum(), outputs, create_graph=True)
    entering = where(valid[..., None], entering, 0.0)
    return _sum_of_terms(steps, entering, valid, order) / N + anchor * 0.0


def _differentiable(layer: Layer) -> None:
    if layer.message_clip is not None:
        raise ValueError(
            f"omega_full: the layer has message_clip={layer.message_clip}, which has no second derivative: set it to "
            "None on the layer, or use omega"
        )
    if not MODE.get() & RECORD:
        raise RuntimeError(
            "omega_full: within no_grad there is nothing to differentiate: call it outside, or use omega"
        )


class _Recorded:
    """A run of a layer in Tensors, in the order of processing.

    Attributes
    ----------
    before : list of T states
        What each step starts from: copies of their own, so that h and c of an LSTM do not hang on each other.
    after : list of T states
    """

    def __init__(self, layer: Layer, x: Tensor, state: list[Tensor], valid: Array, order: Sequence[int]) -> None:
        mask = layer._mask(x.shape[1], None)
        self.before: list[list[Tensor]] = []
        self.after: list[list[Tensor]] = []
        for t in order:
            given = [apply(ops.identity, s) for s in state]
            state = list(layer._step(mask, x[t], given, layer._weights))
            if not valid[t].all():
                state = [where(valid[t][:, None], new, old) for new, old in zip(state, given, strict=True)]
            self.before.append(given)
            self.after.append(state)

    def back(self, k: int, d_state: Sequence[Tensor]) -> list[Tensor]:
        """Return what goes back through step k: (∂C/∂S after it) ∂S after it/∂S before it, recorded."""
        shares = [
            grad(s, self.before[k], gradient=d, create_graph=True) for s, d in zip(self.after[k], d_state, strict=True)
        ]
        return [sum(parts[1:], parts[0]) for parts in zip(*shares, strict=True)]


def _sum_of_terms(steps: _Recorded, entering: Tensor, valid: Array, order: Sequence[int]) -> Tensor:
    """Return Σ_k Ω_k, summed over the rows."""
    in_order = valid[list(order)]
    pairs = _pairs(in_order, in_order.argmax(axis=0))
    total = Tensor(np.zeros((), entering.dtype))
    carried: list[Tensor] = []
    for k in range(len(order) - 1, 0, -1):
        d_h = entering[order[k]]
        d_state = [d_h + carried[0], *carried[1:]] if carried else [d_h, *(s * 0.0 for s in steps.after[k][1:])]
        carried = steps.back(k, d_state)
        total = total + _terms(d_state, carried, pairs[k - 1]).sum()
    return total


def _terms(d_state: Sequence[Tensor], carried: Sequence[Tensor], pair: Array) -> Tensor:
    """Return Ω_k of each row, (N,); 0 where ``pair`` is False or the gradient is zero.

    Both are measured in parts of the largest entry of ∂C/∂S_{k+1}, a constant that cancels.
    """
    peak = np.max([np.abs(d.data).max(axis=-1) for d in d_state], axis=0)
    there = pair & (peak != 0)
    scale = np.where(there, peak, 1)[:, None]
    size, kept = (_norm(parts, scale) for parts in (d_state, carried))
    return where(there, (kept / where(there, size, 1.0) - 1.0) ** 2, 0.0)


def _norm(parts: Sequence[Tensor], scale: Array) -> Tensor:
    """Return the norms of a gradient's rows, (N,), in parts of ``scale``; at zero with zero for its derivative."""
    squares = [((p / scale) ** 2).sum(axis=1) for p in parts]
    total = sum(squares[1:], squares[0])
    there = total.data != 0  # NaN too: it shows
    return where(there, where(there, total, 1.0).sqrt(), 0.0)
