"""The regulariser Ω of Pascanu, Mikolov & Bengio 2013: a gradient that goes back in time should keep its norm."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from minirnn.arguments import Array, as_number
from minirnn.bptt.flow import Flow
from minirnn.bptt.run import Loss, layer_of, run_of
from minirnn.bptt.unrolled import rows
from minirnn.cells.cell import activations_of
from minirnn.layers.module import Module


@dataclass(frozen=True, eq=False, repr=False)
class Omega:
    """Ω of one mini-batch and its immediate derivative, as `omega` returns it.

    ``value`` is Ω, a pure number, whatever the loss is measured in; ``by_step`` its terms Ω_k, (T − 1,), and ``ratios``
    what they are made of, (T − 1, N), NaN where there is none, both float64. ``gradients`` holds the immediate
    derivative, of W_hh alone, (H, H), in its dtype.
    """

    value: float
    by_step: Array
    ratios: Array
    gradients: dict[str, Array]

    def __repr__(self) -> str:
        there = self.ratios[~np.isnan(self.ratios)]
        mean = there.mean() if there.size else math.nan
        return f"<Omega {self.value:.4g} over {len(self.by_step)} steps, mean ratio {mean:.4g}>"

    def add_to(self, model: Module, weight: float) -> None:
        """Add ``weight`` times the immediate derivative to the ``.grad`` of the layer it was made of.

        To be called between ``backward`` and the optimiser's step, or whatever clips the gradient.
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
    """Return Ω and its immediate derivative, as in the paper:

        Ω = Σ_k Ω_k,    Ω_k = ( ‖(∂C/∂H_{k+1}) ∂H_{k+1}/∂H_k‖ / ‖∂C/∂H_{k+1}‖ − 1 )²
        ∂H_{k+1}/∂H_k = diag(φ′(H_{k+1})) W_hhᵀ,   so the numerator is ‖(∂C/∂H_{k+1} ⊙ φ′(H_{k+1})) W_hhᵀ‖

    k = 0 … T−2: the T−1 ways from one state of the sequence to the next. The immediate derivative holds all states and
    all ∂C/∂H constant, so that only the W_hh written above is left, and no other parameter has one. With
    δ_k = (∂C/∂H_{k+1} ⊙ φ′(H_{k+1})) / ‖∂C/∂H_{k+1}‖, v_k = δ_k W_hhᵀ and r_k = ‖v_k‖:

        ∂⁺Ω/∂W_hh = Σ_k 2 (r_k − 1) (v_k / r_k)ᵀ δ_k

    Parameters and errors are those of `trace`; ``loss`` is C. For an LSTM, a GRU or a cell of one's own there is a
    TypeError: their Jacobian is not made of W_hh and the states alone.

    Notes
    -----
    Source: Pascanu, Mikolov & Bengio 2013, "On the difficulty of training recurrent neural networks", equations (9)
    and (10). The state there is what is before the activation, x_k = W_rec σ(x_{k−1}) + W_in u_k + b; here it is
    h_k = σ(W_rec h_{k−1} + W_in u_k + b), which the paper calls equivalent, vectors are rows, and W_hh = W_recᵀ: what
    goes back meets diag(φ′) of step k+1 before the weights, where (10) has diag(σ′) of step k behind them.

    Ω is the mean over the N rows. A step where ∂C/∂H_{k+1} is exactly zero has no ratio and is left out; so are steps
    in the padding. Where the numerator is zero Ω_k = 1, and its derivative, which does not exist there, is taken as
    zero. The authors' program (trainingRNNs) has the same Jacobian and takes the mean over the rows, but it squares
    both norms, begins one step earlier, at H_0, leaves out what has ‖∂C/∂H_{k+1}‖² < 1e-20, and divides by the mean
    number of steps left.

    With message_clip, ∂C/∂H is what is left after it. In training with recurrent_dropout a mask is drawn for it, which
    is not that of your own forward pass. It takes up to twice as long as `trace`.

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
    if layer.gates > 1 or len(layer.state_names) > 1 or None in activations_of(layer.core):
        own = getattr(layer, "cell", None)
        kind = layer.name if own is None else f"one of the cell {type(own).__name__}"
        raise TypeError(
            f"omega: model must be a RecurrentLayer of the textbook's equation, got {kind}: the immediate derivative "
            "is defined for that one alone"
        )
    trace = Flow(run_of(model, x, loss, initial_state, lengths, "omega"))
    u, turn = trace.unrolled, trace.turn
    d_h = trace.dL_dh[turn][1:]  # in the order of processing up to the last lines
    there = u.valid[1:] & (np.arange(1, u.T)[:, None] > u.first) & (d_h != 0).any(-1)  # NaN is not zero: it shows
    with np.errstate(invalid="ignore", over="ignore"):
        unit, _ = _units(d_h)
        delta = unit * u.slopes[1:]
        v, r = _units(u.through(delta))
        ratios = np.where(there, r, np.nan)
        excess = np.where(there, r - 1, 0)
        by_step = np.square(excess).sum(axis=1) / trace.N
        d_v = (2 / trace.N * excess).astype(v.dtype)[..., None] * v
        W_hh = rows(u.feed(d_v)).T @ rows(delta)
    return Omega(float(by_step.sum()), by_step[turn], ratios[turn], {"W_hh": W_hh})


def _units(a: Array) -> tuple[Array, Array]:
    """Return the unit vectors of (…, H) and their norms, these in float64; a vector of zeros stays one.

    The squares are of parts of the largest entry, so that they neither overflow nor vanish.
    """
    peak = np.abs(a).max(axis=-1, keepdims=True)
    part = a / np.where(peak == 0, 1, peak)
    size = np.sqrt(np.square(part).sum(axis=-1, keepdims=True))
    return part / np.where(size == 0, 1, size), (peak.astype(np.float64) * size)[..., 0]
