"""`Flow`: one run of a layer and the way back through it, with every gradient at every step kept."""

from collections.abc import Sequence
from functools import cached_property
from typing import Any, cast

import numpy as np

from minirnn.arguments import Array, as_index, as_size
from minirnn.bptt.credit import Credit, angles, lags
from minirnn.bptt.run import Run, inside, unclipped
from minirnn.bptt.steps import Back
from minirnn.bptt.unrolled import fits
from minirnn.kernels.layout import clipped

FLAT = 0.05
"""A unit is saturated where its slope φ′ is at most this part of the largest there is."""


class Flow:
    """What flowed at every step of one run. All arrays are in time order, and its own.

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
    def totals(self) -> Sequence[Array]:
        """∂L/∂ each array of the state after all steps, (T, N, H), in the order of processing."""
        return self._unrolled.steps.totals(slice(None), [self._total, *(a[1:] for a in self._arriving[1:])])

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
        return cast(Array, np.sqrt(np.square(self.dL_dh, dtype=np.float64).sum(axis=(1, 2))))

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
        return cast(Array, flat.sum(axis=(1, 3)) / np.maximum(self.valid.sum(axis=1) * self.H, 1)[:, None])

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
        return np.linalg.svd(self.jacobian(t, k), compute_uv=False)

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

    def _step_of(self, t: Any, argument: str, least: int = 0) -> int:
        """Check a step in time; return it in the order of processing, −1 for the initial state."""
        lo, hi = (0, self.T - 1 - least) if self.layer.reverse else (least, self.T - 1)
        return self._order(as_index(t, f"trace: {argument}", "a step", range(lo, hi + 1), f"there are T={self.T}"))
