"""`trace`: one run of a layer and the way back through it, with every gradient at every step kept."""

import os
import pathlib
from collections.abc import Callable
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from minirnn.arguments import Array, as_size, describe
from minirnn.autograd.gradients import grad
from minirnn.autograd.modes import MODE, RECORD
from minirnn.autograd.tensor import Tensor
from minirnn.bptt.credit import Credit
from minirnn.bptt.limits import fits
from minirnn.bptt.steps import Back
from minirnn.bptt.truncation import angles, lags
from minirnn.bptt.unrolled import Unrolled
from minirnn.kernels.clip import clipped
from minirnn.layers import Recurrence, SequenceModel
from minirnn.layers.layer import Layer
from minirnn.layers.module import Module
from minirnn.storage import write_whole

Loss = Callable[[Any], Tensor]
"""outputs -> a scalar, or one value per step (T,), of which the sum counts."""

FLAT = 0.05
"""A unit is saturated where its slope φ′ is at most this part of the largest there is."""


def trace(model: Module, x: Any, loss: Loss, initial_state: Any = None, lengths: Any = None) -> "Trace":
    """Run a layer forward and backward, and keep what flows at every step::

        dL/dh_t = local (what the loss of the outputs says of h_t itself) + carried (what comes back from step t+1)
        dL/dz_t = the cell's derivative of that;   dW_hh gets H_{t-1}ᵀ dL/dz_t from step t, and dW_xh X_tᵀ dL/dz_t

    Parameters
    ----------
    model : recurrent layer, or SequenceModel of one
        `RecurrentLayer` (with a cell of one's own too), `LSTMLayer`, `GRULayer`. Nothing of it is changed.
    x : array_like or Tensor (T, N, D)
        As the model takes it: (N, T, D) for ``batch_first``, ids with an embedding.
    loss : callable (outputs) -> Tensor
        Gets the outputs (T, N, H) of the layer as a Tensor, of a SequenceModel its predictions; returns a scalar, or
        one value per step (T,), whose sum is then the loss.
    initial_state, lengths
        As the layer takes them.

    Returns
    -------
    Trace

    Raises
    ------
    TypeError, ValueError
        For a module without recurrence, one of several layers, a loss that returns neither a scalar nor (T,).

    Notes
    -----
    It takes about two to three times as long as a forward and backward pass of the fused layer. Sums over t equal the
    layer's gradients to 1e-12.

    >>> import minirnn as mr
    >>> layer = mr.RecurrentLayer(3, 5, dtype=np.float64, rng=0)
    >>> x = np.random.default_rng(1).normal(size=(7, 2, 3))
    >>> trace = mr.bptt.trace(layer, x, lambda outputs: (outputs[-1] ** 2).sum())
    >>> np.allclose(trace.dL_dh, trace.dL_dh_local + trace.dL_dh_carried)
    True
    >>> trace.dW_hh_by_step.shape, np.allclose(trace.dW_hh_by_step.sum(0), trace.gradients["W_hh"])
    ((7, 5, 5), True)
    """  # noqa: D400
    return Trace(run_of(model, x, loss, initial_state, lengths, "trace"))


class Run(NamedTuple):
    """A layer laid open, and the gradients that enter at its outputs.

    Attributes
    ----------
    layer : Layer
    unrolled : Unrolled
    loss : (), or (T,)
    entering : (T, N, H), in the order of processing
    valid : (T, N) of bool, in time order
    """

    layer: Layer
    unrolled: Unrolled
    loss: Array
    entering: Array
    valid: Array


def run_of(model: Any, x: Any, loss: Loss, initial_state: Any, lengths: Any, caller: str) -> Run:
    """Run a layer, and find the gradients that enter at its outputs; ``caller`` is named in errors."""
    layer = layer_of(model, caller)
    check_loss(loss, caller)
    if isinstance(model, SequenceModel):
        x = model._embedded(x, lengths)
    given, state, sequences = layer._arranged(x, initial_state, lengths)
    T, N, _ = given.shape
    valid = np.ones((T, N), bool) if sequences is None else sequences.valid()
    turn = slice(None, None, -1) if layer.reverse else slice(None)
    read = inside(valid, given.data)[turn].copy()
    arrays = [s.data for s in state]
    unrolled = Unrolled(layer, read, arrays, valid[turn], layer._mask(N, None), initial_state is None)
    outputs = inside(valid, unrolled.states[0][1:][turn])
    value, entering = _entering(model, layer, outputs, valid, loss, caller)
    return Run(layer, unrolled, value, inside(valid, entering)[turn], valid)


def inside(valid: Array, a: Array) -> Array:
    """Return an array (T, N, …) with 0 in the padding; itself where there is none."""
    return a if valid.all() else np.where(valid[..., None], a, 0)


def check_loss(loss: Any, caller: str) -> None:
    """Refuse a loss that cannot be called."""
    if not callable(loss):
        raise TypeError(f"{caller}: loss must be a callable (outputs) -> Tensor, got {describe(loss)}")


def layer_of(model: Any, caller: str) -> Layer:
    """Return the one layer to look into."""
    layer = model.recurrent if isinstance(model, SequenceModel) else model
    if isinstance(layer, Layer):
        return layer
    kind = type(layer).__name__
    expected = f"{caller}: model must be a recurrent layer or a SequenceModel of one, got"
    if isinstance(layer, Recurrence):
        raise TypeError(f"{expected} {kind}, which has several: look into one of them, with the sequence it reads")
    if isinstance(layer, Module):
        raise TypeError(f"{expected} {kind}, which has no recurrence: nothing goes back through time in it")
    raise TypeError(f"{expected} {describe(model)}")


def unclipped(layer: Layer, caller: str) -> None:
    """Refuse a layer whose messages are clipped: what several gradients give together is then not their sum."""
    if layer.message_clip is not None:
        raise ValueError(
            f"{caller}: the layer has message_clip={layer.message_clip}, with which gradients do not add up: set it to "
            "None on the layer, or make one without"
        )


def _entering(
    model: Module, layer: Layer, outputs: Array, valid: Array, loss: Loss, caller: str
) -> tuple[Array, Array]:
    """Return the loss and its gradient at the outputs, (T, N, H) in time order."""
    leaf = Tensor(outputs, requires_grad=True)
    token = MODE.set(MODE.get() | RECORD)  # what is asked for is recorded, within no_grad too
    try:
        value = loss_of(model, layer, leaf, valid, loss, caller)
    finally:
        MODE.reset(token)
    if not value.requires_grad:
        return value.numpy().copy(), np.zeros_like(outputs)
    (entering,) = grad(value, leaf, gradient=np.ones_like(value.data))
    return value.numpy().copy(), entering.numpy()


def loss_of(model: Module, layer: Layer, outputs: Tensor, valid: Array, loss: Loss, caller: str) -> Tensor:
    """Return the loss of the outputs (T, N, H) in time order, () or (T,), by way of the model's head if it has one."""
    T, N, _ = outputs.shape
    seen = outputs.swapaxes(0, 1) if layer.batch_first else outputs
    if isinstance(model, SequenceModel):
        last = np.zeros(N, int) if layer.reverse else valid.sum(axis=0) - 1
        seen = model.head(seen if model.readout == "all" else outputs[last, np.arange(N)])
    value = loss(seen)
    expected = f"{caller}: loss must return a scalar Tensor or one value per step (T={T},)"
    if not isinstance(value, Tensor):
        raise TypeError(f"{expected}, got {describe(value)}: use minirnn's ops and losses, which keep the gradient")
    if value.shape not in ((), (T,)):
        raise ValueError(f"{expected}, got shape {value.shape}: try .sum() or .mean() over the other axes")
    return value


class Trace:
    """What flowed at every step of one run, as `trace` returns it. All arrays are in time order, and its own.

    With lengths, everything is 0 in the padding. In reverse "carried" comes from step t−1, since that is processed
    after step t.

    Attributes
    ----------
    layer : the layer
    loss : array () or (T,)
        What the loss function returned.
    x : (T, N, D)
        What was read; 0 in the padding.
    valid : (T, N) of bool
        Where there is no padding.
    hs : (T, N, H)
        The outputs.
    cs : (T, N, H)
        The cells of an LSTM.
    pre_activations : (T, N, G·H)
        What the activations were applied to, gate by gate.
    dL_dh : (T, N, H)
        The total gradient of each state; with message_clip after it.
    dL_dh_local, dL_dh_carried : (T, N, H)
        Its two parts: entering at step t, and coming from step t+1.
    dL_dc : (T, N, H)
        For an LSTM, the total gradient of the cells.
    dL_dz : (T, N, G·H)
        That of what X_t W_xh + b_h is added to.
    dL_dz_h : (T, N, G·H)
        That of the recurrent product; equal to dL_dz but for a GRU.
    dL_dinitial_state : list of (N, H)
    """

    def __init__(self, run: Run) -> None:
        self._run, self._unrolled = run, run.unrolled
        self.layer, self.loss, self.valid = run.layer, run.loss, run.valid
        self.T, self.N, self.H = run.unrolled.T, run.unrolled.N, run.unrolled.H
        backs, arriving, total = self._go_back()
        self._back, self._arriving, self._total = Back(*backs, [a[:-1] for a in arriving]), arriving, total
        self.x = self._in_time(run.unrolled.x)
        self.hs = self._shown(run.unrolled.states[0][1:])
        self.pre_activations = self._shown(run.unrolled.steps.pre)
        self.dL_dh, self.dL_dh_local = self._shown(total), self._in_time(run.entering)
        self.dL_dh_carried = self._shown(arriving[0][1:])
        self.dL_dz, self.dL_dz_h = self._in_time(backs[0]), self._in_time(backs[1])
        self.dL_dinitial_state = [a[0] for a in arriving]
        if "c" in run.layer.state_names[1:]:
            c = run.layer.state_names.index("c")
            self.cs = self._shown(run.unrolled.states[c][1:])
            self.dL_dc = self._shown(self.totals[c])

    def __repr__(self) -> str:
        return f"<Trace of {type(self.layer).__name__}: T={self.T}, N={self.N}, H={self.H}, loss {self.total_loss:.4g}>"

    @cached_property
    def totals(self) -> list[Array]:
        """∂L/∂ each array of the state after all steps, (T, N, H), in the order of processing."""
        arriving = [a[1:] for a in self._arriving[1:]]
        return self._unrolled.steps.totals(slice(None), [self._total, *arriving])

    # --- the way back ------------------------------------------------------------------------------------------------

    def _go_back(self) -> tuple[tuple[Array, Array], list[Array], Array]:
        """Go back through all steps; return (dz, dz_h), the states' gradients before each step, and the total of h."""
        u, entering, clip = self._unrolled, self._run.entering, self.layer.message_clip
        arriving = [np.empty_like(s) for s in u.states]
        for a in arriving:
            a[-1] = 0
        others = arriving[1:]
        total, dz = np.empty_like(entering), np.empty_like(u.steps.pre)
        dz_h = dz
        for k in range(u.T - 1, -1, -1):
            d_h = np.add(entering[k], arriving[0][k + 1], out=total[k])
            if clip is not None:
                d_h[...] = np.where(u.inside(k), clipped(d_h, clip, 1), d_h)
            found = u.back(k, [d_h, *[a[k + 1] for a in others]])
            dz[k] = found.dz
            if found.dz_h is not found.dz:
                dz_h = np.empty_like(dz) if dz_h is dz else dz_h
                dz_h[k] = found.dz_h
            for a, d in zip(arriving, found.before, strict=True):
                a[k] = d
        return (dz, dz_h), arriving, total

    @property
    def _turn(self) -> slice:
        return slice(None, None, -1) if self.layer.reverse else slice(None)

    def _in_time(self, a: Array) -> Array:
        """Return an array over the steps in time order."""
        return a[self._turn]

    def _shown(self, a: Array) -> Array:
        """Return an array over the steps in time order, with 0 in the padding."""
        return inside(self.valid, self._in_time(a))

    def _order(self, t: int) -> int:
        """Return the number of step t in the order of processing, or the other way round."""
        return self.T - 1 - t if self.layer.reverse else t

    # --- by step -----------------------------------------------------------------------------------------------------

    @cached_property
    def gradients(self) -> dict[str, Array]:
        """The gradients of the layer's parameters, by name: what `Tensor.backward` gives."""
        return self._unrolled.total(self._back)

    @property
    def total_loss(self) -> float:
        """The loss, summed over the steps if there was one value for each."""
        return float(self.loss.sum())

    @cached_property
    def by_step(self) -> dict[str, Array]:
        """What each step adds to the gradient of every parameter, by name: (T, …) with the shape of the parameter.

        Raises
        ------
        MemoryError
            Where that would take more than 1 GiB; `norms_by_step` needs next to nothing.
        """
        D, width = self.x.shape[2], self.dL_dz.shape[2]
        size = self.T * (D + self.H + 2) * width * self.dL_dz.itemsize
        fits(size, f"trace: the gradients of each of T={self.T} steps", "their norms are in norms_by_step")
        return {name: self._in_time(a) for name, a in self._unrolled.shares(self._back).items()}

    @property
    def dW_xh_by_step(self) -> Array:
        """X_tᵀ dL/dz_t: what step t adds to the gradient of W_xh, (T, D, G·H)."""
        return self.by_step["W_xh"]

    @property
    def dW_hh_by_step(self) -> Array:
        """H_{t-1}ᵀ dL/dz_t: what step t adds to the gradient of W_hh, (T, H, G·H)."""
        return self.by_step["W_hh"]

    @property
    def db_h_by_step(self) -> Array:
        """The sum over the rows of dL/dz_t: what step t adds to the gradient of b_h, (T, G·H)."""
        if "b_h" not in self.by_step:
            raise ValueError("trace: db_h_by_step: the layer has no bias: make it with bias=True")
        return self.by_step["b_h"]

    @cached_property
    def norms_by_step(self) -> dict[str, Array]:
        """The Frobenius norm of what each step adds to the gradient of every parameter, by name: (T,)."""
        u = self._unrolled
        norms = np.empty((self.T, len(self.gradients)))
        for k in range(self.T):
            at = Back(self._back.dz[k], self._back.dz_h[k], [b[k] for b in self._back.before])
            norms[self._order(k)] = [np.linalg.norm(a) for a in u.shares(at, k).values()]
        return {name: norms[:, i] for i, name in enumerate(self.gradients)}

    @property
    def gradient_norms(self) -> Array:
        """‖dL/dh_t‖ over all rows and neurons, (T,); float64, where the square of a small float32 is not 0."""
        norms: Array = np.sqrt(np.square(self.dL_dh, dtype=np.float64).sum(axis=(1, 2)))
        return norms

    # --- the activations ---------------------------------------------------------------------------------------------

    @property
    def gates(self) -> tuple[str, ...]:
        """What the G blocks of pre-activations are called."""
        return self._unrolled.steps.gates

    @property
    def slopes(self) -> Array:
        """φ′ at every pre-activation, (T, N, G·H); 0 in the padding.

        Raises
        ------
        ValueError
            For a cell of one's own, whose activations nobody knows.
        """
        if any(phi is None for phi in self._unrolled.steps.activations):
            raise ValueError(
                "trace: slopes are not known for a cell of your own: its pre_activations are there; or name its "
                'activations, as in gates = {"f": "sigmoid"}'
            )
        return self._shown(self._unrolled.steps.slopes)

    @property
    def saturation(self) -> Array:
        """The share of units whose slope φ′ is at most 5 % of the largest there is, by step and gate: (T, G).

        For tanh that is |h| ≥ 0.975; for ReLU it is the units that are off.
        """
        slopes, steps = self.slopes, self._unrolled.steps
        gates = slopes.reshape(self.T, self.N, len(steps.gates), self.H)
        largest = [gates[:, :, j].max() if bound is None else bound for j, bound in enumerate(steps.bounds)]
        flat = (gates <= FLAT * np.array(largest)[:, None]) & self.valid[..., None, None]
        units = np.maximum(self.valid.sum(axis=1) * self.H, 1)
        share: Array = flat.sum(axis=(1, 3)) / units[:, None]
        return share

    # --- the Jacobians -----------------------------------------------------------------------------------------------

    def jacobian(self, t: int, k: int) -> Array:
        """Return ∂ state_t / ∂ state_k, of each row: the product of the steps' Jacobians from k+1 to t.

        Parameters
        ----------
        t, k : int
            Steps, k ≤ t; −1 is the initial state. In reverse k ≥ t, and T is the initial state.

        Returns
        -------
        (N, S·H, S·H) : entry (i, j) of a row is ∂ state_t[i] / ∂ state_k[j]. The state of an LSTM is [h c], S = 2. A
            row's padding changes nothing.
        """
        last, first = self._step_of(t, "t", -1), self._step_of(k, "k", -1)
        if first > last:
            order = "≥" if self.layer.reverse else "≤"
            raise ValueError(f"trace.jacobian: k must be {order} t={t}, got {k}: did you swap the two?")
        u, size = self._unrolled, len(self._unrolled.states) * self.H
        fits(size * size * self.N * 8, "trace.jacobian: the Jacobians", "trace a few rows of x alone")
        d_state = u.basis()
        for step in range(last, first, -1):
            d_state = u.back(step, d_state).before
        return np.ascontiguousarray(np.concatenate(d_state, axis=-1).swapaxes(0, 1))

    def singular_values(self, t: int, k: int) -> Array:
        """Return the singular values of `jacobian`, (N, S·H), the largest first."""
        values: Array = np.linalg.svd(self.jacobian(t, k), compute_uv=False)
        return values

    # --- what is made of it ------------------------------------------------------------------------------------------

    def credit(self) -> Credit:
        """Return which gradient that entered at step s reached the weights at step k; see `Credit`."""
        return self._credit

    @cached_property
    def _credit(self) -> Credit:
        unclipped(self.layer, "trace.credit")
        return Credit(self._unrolled, self._run.entering, self.layer.reverse)

    def truncation_angles(self, k1: int = 1) -> Array:
        """Return the angle between the gradient of TBPTT(k1, k2) and the true one, in degrees, for k2 = 1 … T: (T,).

        Over all parameters of the layer together; NaN where one of the two is zero. See `truncated_gradient`.
        """
        unclipped(self.layer, "trace.truncation_angles")
        parts = lags(self._unrolled, self._run.entering, as_size(k1, "trace.truncation_angles: k1"))
        return angles(parts, self.gradients, self.T)

    # --- looking at it -----------------------------------------------------------------------------------------------

    def to_html(self, path: str | os.PathLike[str], title: str | None = None) -> None:
        """Write the explorer: one page that needs nothing else, to step through this run forward and backward.

        Parameters
        ----------
        path : str or Path
            The file to write; one that is there is replaced, whole or not at all.
        title : str, optional
            What the page is of; by default the layer's kind and T.

        Raises
        ------
        ValueError
            For more than 500 steps.
        OSError
            When the file cannot be written.

        Notes
        -----
        It stays under 5 MB for T = 200, H = 128, of any kind of layer.
        """
        from minirnn.bptt.page import page_of

        write_whole(pathlib.Path(path), page_of(self, title, "trace.to_html").encode(), "trace.to_html")

    def _repr_html_(self) -> str:
        """Return the explorer in a frame, for a notebook; for more than 500 steps a line that says so."""
        from minirnn.bptt.page import frame_of

        return frame_of(self)

    def explain(self, t: int, row: int = 0) -> str:
        """Return the equations of step t with the numbers of a row, as `minirnn.bptt.explain` writes them down."""
        from minirnn.bptt.explaining import explain  # which imports this module

        return explain(self, t=t, row=row)

    def _step_of(self, t: Any, argument: str, least: int = 0) -> int:
        """Check a step in time; return it in the order of processing, −1 for the initial state."""
        lo, hi = (0, self.T - 1 - least) if self.layer.reverse else (least, self.T - 1)
        if isinstance(t, bool) or not isinstance(t, int | np.integer):
            raise TypeError(f"trace: {argument} must be an int, got {describe(t)}")
        if not lo <= t <= hi:
            raise IndexError(f"trace: {argument} must be a step {lo} … {hi}, got {t}: there are T={self.T}")
        return self._order(int(t))
