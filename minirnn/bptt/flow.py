"""`Flow`: one run of a layer and the way back through it, with every gradient at every step kept."""

from functools import cached_property
from typing import Any, cast

import numpy as np

from minirnn.arguments import Array, as_index, as_size, describe
from minirnn.bptt.credit import Credit, truncations
from minirnn.bptt.run import Loss, Run, inside, run_of, turned, unclipped
from minirnn.bptt.unrolled import Back, fits
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
    loss, total_loss : array () or (T,), and float
        What the loss function returned, and its sum.
    gates : tuple of str
        What the G blocks of pre-activations are called.
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
    unrolled, entering, back, arriving, totals
        What all of it is made of, in the order of processing k: the run, what enters at the outputs (T, N, H), the
        `Back` of all steps; of each array of the state the gradient before step k at k, (T + 1, N, H), and the total
        one after it, (T, N, H).
    """

    def __init__(self, run: Run) -> None:
        self.layer, self.unrolled, self.loss, self.entering, self.valid = run
        u, self.turn = run.unrolled, turned(run.layer)
        self.T, self.N, self.H = u.T, u.N, u.H
        self.gates = u.gates
        self.total_loss = float(run.loss.sum())
        self.back, self.arriving, total = self._go_back()
        self.totals = u.totals(slice(None), [total, *(a[1:] for a in self.arriving[1:])])
        self.x, self.hs = self.in_time(u.x), self.shown(u.states[0][1:])
        self.pre_activations = self.shown(u.pre)
        self.dL_dh, self.dL_dh_local = self.shown(total), self.in_time(run.entering)
        self.dL_dh_carried = self.shown(self.arriving[0][1:])
        self.dL_dz, self.dL_dz_h = self.in_time(self.back.dz), self.in_time(self.back.dz_h)
        self.dL_dinitial_state = [a[0] for a in self.arriving]
        if "c" in run.layer.state_names[1:]:
            c = run.layer.state_names.index("c")
            self.cs, self.dL_dc = self.shown(u.states[c][1:]), self.shown(self.totals[c])

    def __repr__(self) -> str:
        return f"<Trace of {type(self.layer).__name__}: T={self.T}, N={self.N}, H={self.H}, loss {self.total_loss:.4g}>"

    def _go_back(self) -> tuple[Back, list[Array], Array]:
        """Go back through all steps; return what goes through each, what arrives before it, and the total of h."""
        u, clip = self.unrolled, self.layer.message_clip
        arriving = [np.zeros_like(s) for s in u.states]
        total, dz = np.empty_like(self.entering), np.empty_like(u.pre)
        dz_h = np.empty_like(dz) if u.cell.apart else dz
        for k in range(u.T - 1, -1, -1):
            d_h = np.add(self.entering[k], arriving[0][k + 1], out=total[k])
            if clip is not None:
                d_h[...] = np.where(u.valid[k, :, None], clipped(d_h, clip, 1), d_h)
            found = u.back(k, [d_h, *(a[k + 1] for a in arriving[1:])])
            dz[k], dz_h[k] = found.dz, found.dz_h
            for a, d in zip(arriving, found.before, strict=True):
                a[k] = d
        return Back(dz, dz_h, [a[:-1] for a in arriving]), arriving, total

    def in_time(self, a: Array) -> Array:
        """Return an array over the steps in time order, or the other way round."""
        return a[self.turn]

    def shown(self, a: Array) -> Array:
        """Return an array over the steps in time order, with 0 in the padding."""
        return inside(self.valid, self.in_time(a))

    def order(self, t: Any) -> Any:
        """Return the number of step t in the order of processing, or the other way round."""
        return self.T - 1 - t if self.layer.reverse else t

    # --- by step -----------------------------------------------------------------------------------------------------

    @cached_property
    def gradients(self) -> dict[str, Array]:
        """The gradients of the layer's parameters, by name: what `Tensor.backward` gives."""
        return self.unrolled.shares(self.back, total=True)

    def share(self, t: int) -> dict[str, Array]:
        """Return the share of step t in the gradient of every parameter, by name."""
        k, back = self.order(t), self.back
        return self.unrolled.shares(Back(back.dz[k], back.dz_h[k], [b[k] for b in back.before]), k)

    @cached_property
    def by_step(self) -> dict[str, Array]:
        """What each step adds to the gradient of every parameter, by name: (T, …) with the shape of the parameter.

        MemoryError where that would take more than 1 GiB; `norms_by_step` needs next to nothing.
        """
        D, width = self.x.shape[2], self.dL_dz.shape[2]
        size = self.T * (D + self.H + 2) * width * self.dL_dz.itemsize
        fits(size, f"trace: the gradients of each of T={self.T} steps", "their norms are in norms_by_step")
        return {name: self.in_time(a) for name, a in self.unrolled.shares(self.back).items()}

    @property
    def dW_hh_by_step(self) -> Array:
        """H_{t-1}ᵀ dL/dz_t: what step t adds to the gradient of W_hh, (T, H, G·H)."""
        return self.by_step["W_hh"]

    @cached_property
    def norms_by_step(self) -> dict[str, Array]:
        """The Frobenius norm of what each step adds to the gradient of every parameter, by name: (T,)."""
        norms = [{name: float(np.linalg.norm(a)) for name, a in self.share(t).items()} for t in range(self.T)]
        return {name: np.array([of[name] for of in norms]) for name in self.gradients}

    @property
    def gradient_norms(self) -> Array:
        """‖dL/dh_t‖ over all rows and neurons, (T,); float64, where the square of a small float32 is not 0."""
        return cast(Array, np.sqrt(np.square(self.dL_dh, dtype=np.float64).sum(axis=(1, 2))))

    # --- the activations ---------------------------------------------------------------------------------------------

    @property
    def slopes(self) -> Array:
        """φ′ at every pre-activation, (T, N, G·H); 0 in the padding.

        ValueError for a cell of one's own, whose activations nobody knows.
        """
        if None in self.unrolled.activations:
            raise ValueError(
                "trace: slopes are not known for a cell of your own: its pre_activations are there; or name its "
                'activations, as in gates = {"f": "sigmoid"}'
            )
        return self.shown(self.unrolled.slopes)

    @property
    def saturation(self) -> Array:
        """The share of units whose slope φ′ is at most 5 % of the largest there is, by step and gate: (T, G).

        For tanh that is |h| ≥ 0.975; for ReLU it is the units that are off.
        """
        gates = self.slopes.reshape(self.T, self.N, len(self.gates), self.H)
        largest = [gates[:, :, j].max() if bound is None else bound for j, bound in enumerate(self.unrolled.bounds)]
        flat = (gates <= FLAT * np.array(largest)[:, None]) & self.valid[..., None, None]
        return cast(Array, flat.sum(axis=(1, 3)) / np.maximum(self.valid.sum(axis=1) * self.H, 1)[:, None])

    # --- the Jacobians -----------------------------------------------------------------------------------------------

    def jacobian(self, t: int, k: int) -> Array:
        """Return ∂ state_t / ∂ state_k, of each row: the product of the steps' Jacobians from k+1 to t.

        (N, S·H, S·H): entry (i, j) of a row is ∂ state_t[i] / ∂ state_k[j]. The state of an LSTM is [h c], S = 2. Steps
        k ≤ t; −1 is the initial state. In reverse k ≥ t, and T is the initial state. Padding changes nothing.
        """
        last, first = self.order(self.step(t, "t", -1)), self.order(self.step(k, "k", -1))
        if first > last:
            raise ValueError(
                f"trace.jacobian: k must be {'≥' if self.layer.reverse else '≤'} t={t}, got {k}: did you swap the two?"
            )
        u, size = self.unrolled, len(self.unrolled.states) * self.H
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
        return Credit(self.unrolled, self.entering, self.layer.reverse)

    def truncation_angles(self, k1: int = 1) -> Array:
        """Return the angle between the gradient of TBPTT(k1, k2) and the true one, in degrees, for k2 = 1 … T: (T,).

        Over all parameters of the layer together; NaN where one of the two is zero. See `truncated_gradient`.
        """
        unclipped(self.layer, "trace.truncation_angles")
        k1 = as_size(k1, "trace.truncation_angles: k1")
        return np.array([angle for angle, _ in truncations(self.unrolled, self.entering, k1, self.gradients)])

    def step(self, t: Any, argument: str, least: int = 0) -> int:
        """Check a step in time; ``least`` −1 lets the initial state pass, which is T in reverse."""
        steps = range(self.T - least) if self.layer.reverse else range(least, self.T)
        return as_index(t, f"trace: {argument}", "a step", steps, f"there are T={self.T}")


def flow_of(model: Any, x: Any, loss: Loss | None, initial_state: Any, lengths: Any, caller: str) -> Flow:
    """Run a model, or return a Trace as it is, with which nothing else may be given."""
    given = {"x": x, "loss": loss, "initial_state": initial_state, "lengths": lengths}
    if isinstance(model, Flow):
        for name, value in given.items():
            if value is not None:
                raise TypeError(
                    f"{caller}: {name} is known to a Trace already, got {describe(value)}: leave it out, or pass the "
                    "model"
                )
        return model
    for name in ("x", "loss"):
        if given[name] is None:
            raise TypeError(f"{caller}: {name} must be given with a model, got None: pass it, or a Trace alone")
    return Flow(run_of(model, **given, caller=caller))
