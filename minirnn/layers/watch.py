"""Within `detect_anomaly`: a call of a recurrent layer with a look at all that comes in, happens, and goes back.

`Watch` goes through a layer's equation step by step, term by term (minirnn/layers/terms.py), beside the backend, whose
numbers are not touched. So a fault is named alike for both backends, also one that leaves no trace in the outputs,
such as an inf that tanh makes 1 of.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, cast

import numpy as np

from minirnn.arguments import Array
from minirnn.autograd.functions import where
from minirnn.autograd.modes import AnomalyError, check_finite
from minirnn.autograd.tensor import Tensor, apply_kernel, receiver_of
from minirnn.cells.cell import gates_of
from minirnn.kernels.clip import clipped
from minirnn.layers.probe import (
    OF_GRADIENT,
    OF_UPSTREAM,
    Probe,
    check_cast,
    check_parameters,
    check_state,
    check_x,
    holds,
    label,
    norm,
)
from minirnn.layers.recurrence import RecurrentOutput
from minirnn.layers.sequences import Sequences
from minirnn.layers.terms import Back, Terms


def forward(layer: Any, x: Any, initial_state: Any, lengths: Any, reset: Any) -> RecurrentOutput[Any]:
    """Return what ``layer(x, initial_state, lengths, reset=reset)`` returns, after a look at everything."""
    x = layer._tensor(x, "x")
    sequences = layer._sequences(x.shape, lengths, reset)
    valid = None if sequences is None else (sequences.valid().T if layer.batch_first else sequences.valid())[..., None]
    check_x(layer, x.data, valid)
    x = x if valid is None else where(valid, x, 0.0)
    check_cast(layer, x.data, "x")
    initial_state = _checked(layer, initial_state, x.shape[0 if layer.batch_first else 1], "initial_state")
    check_parameters(layer)
    x, state, sequences, mask = layer.arrange(x, initial_state, lengths, reset)
    watch = Watch(layer, sequences, mask, x, state)
    outputs, final = layer._unrolled(x, state, sequences, mask)
    outputs, *final = watch.over([outputs, *final])
    return RecurrentOutput(outputs, layer._joined(final))


def step(layer: Any, x_t: Any, state: Any) -> Any:
    """Return what ``layer.step(x_t, state)`` returns, after a look at everything."""
    x_t = layer._tensor(x_t, "x_t")
    check_state(layer, x_t.data, "x_t")
    check_cast(layer, x_t.data, "x_t")
    x_t = layer._one_step(x_t)
    state = _checked(layer, state, x_t.shape[0], "state")
    check_parameters(layer)
    given = layer._step_state(state, x_t.shape[0])
    watch = Watch(layer, None, None, x_t[None], given, single=True)
    return layer._joined(watch.over(layer.graph_step(None, x_t, given, layer.weights)))


def _checked(layer: Any, state: Any, N: int, argument: str) -> Any:
    """Return a state as it was given, as Tensors, if it is finite."""
    if state is None:
        return None
    tensors = []
    for name, given in layer._named_states(state, N, argument):
        tensors.append(layer._tensor(given, name))
        check_state(layer, tensors[-1].data, name)
        check_cast(layer, tensors[-1].data, name)
    return tensors if len(tensors) > 1 else tensors[0]


class Kept(NamedTuple):
    """What the way back needs of a step in time.

    Attributes
    ----------
    t : int
    rows : (N',) of int
        The rows that have it, in rising order.
    now : (N',) of int
        Their sequences.
    before : list of (N', H)
        The state before it.
    """

    t: int
    rows: Array
    now: Array
    before: list[Array]


class Watch:
    """One call of a layer within `detect_anomaly`; making it goes forward through all terms.

    Parameters
    ----------
    layer : Layer
    sequences : Sequences or None
    mask : (sequences, H) or None
    x : Tensor (T, N, D)
    state : Tensors (sequences, H)
        All as the backend gets them.
    single : bool
        Whether this is `Layer.step`, which returns states alone.

    Attributes
    ----------
    name : str
        The layer's: the tape calls the node so.

    Raises
    ------
    AnomalyError
        Naming the layer, the step, the row, the term, its entry, and the last norms that were finite.
    """

    def __init__(
        self, layer: Any, sequences: Sequences | None, mask: Array | None, x: Tensor, state: Sequence[Tensor],
        *, single: bool = False,
    ) -> None:  # fmt: skip
        T, N, _ = x.shape
        if sequences is None:
            row = np.arange(N)
            sequences = Sequences(T, N, row, row * 0, np.full(N, T), row >= 0, row, layer.reverse)
        self.sequences, self.mask, self.single = sequences, mask, single
        self.name, self.batch_first, self.clip = layer.name, layer.batch_first, layer.message_clip
        self.x, self.state, weights = x.data, [s.data for s in state], layer.weights
        self.wants_x, self.wants_state = receiver_of(x) is not None, any(receiver_of(s) is not None for s in state)
        self.wanted = [receiver_of(w) is not None for w in weights]
        self.probe = Probe(label(layer), gates_of(layer.core), layer.hidden_size)
        self.terms = Terms(layer, self.probe, single=single, fed="H_{t-1}" if mask is None else "m ⊙ H_{t-1}")
        self.kept: list[Kept] = []
        self._forward()

    def over(self, made: Sequence[Tensor]) -> Sequence[Tensor]:
        """Return what the layer has made, with a node over it that looks at the gradients before the layer does."""
        for y in made:
            hint = "each term of the equation is finite by itself: look at the sizes of the weights and the state"
            check_finite(y.data, f"{self.probe.title}: what it returns", hint)
        return apply_kernel(self, made, [y.data for y in made], self._handed_on, lambda *same: same)

    # --- forward -----------------------------------------------------------------------------------------------------

    def _forward(self) -> None:
        """Go through all steps in the order of processing."""
        q, owner = self.sequences, self._owner()
        state = [s.copy() for s in self.state]
        for t in reversed(range(q.T)) if q.reverse else range(q.T):
            rows = np.flatnonzero(owner[t] >= 0)
            if not len(rows):
                continue
            now = owner[t, rows]
            at = Kept(t, rows, now, [s[now] for s in state])
            self.kept.append(at)
            self._look("forward", at, {"H_{t-1}": at.before[0]})
            new = self.terms.forward(self.x[t, rows], self._fed(at), at.before, self._mask(at))
            for s, made in zip(state, new, strict=True):
                s[now] = made

    def _owner(self) -> Array:
        """Return (T, N): which sequence a step of a row belongs to, −1 in the padding."""
        q = self.sequences
        owner = np.full((q.T, q.N), -1)
        for i, (row, start, length) in enumerate(zip(q.row, q.start, q.length, strict=True)):
            owner[start : start + length, row] = i
        return owner

    def _look(self, way: str, at: Kept, always: Mapping[str, Array]) -> None:
        """Tell the probe where it is."""
        self.probe.place = f"{way} in step()" if self.single else f"{way} at step t={at.t}"
        self.probe.rows, self.probe.always, self.probe.carries = at.rows, always, None

    def _fed(self, at: Kept) -> Array:
        h = at.before[0]
        return h if self.mask is None else self.probe("m ⊙ H_{t-1}", h * self.mask[at.now], {"H_{t-1}": h})

    def _mask(self, at: Kept) -> Array | None:
        return None if self.mask is None else self.mask[at.now]

    # --- back --------------------------------------------------------------------------------------------------------

    def _handed_on(self, received: Mapping[int, Array], wanted: tuple[bool, ...]) -> list[Array | None]:
        """Return the gradients as they came, but for the padding, which the layer ignores, and the tape would not."""
        given = [received.get(i) for i in range(len(wanted))]
        if not self.single and given[0] is not None:
            valid = self.sequences.valid()
            given[0] = np.where((valid.T if self.batch_first else valid)[..., None], given[0], 0)
        return given

    def check_gradients(self, received: Mapping[int, Array]) -> None:
        """Look at the gradients that enter, then at each term on the way back."""
        first = 0 if self.single else 1
        finals = [received.get(first + i) for i in range(len(self.state))]
        given = None if self.single else received.get(0)
        d_outputs = given.swapaxes(0, 1) if given is not None and self.batch_first else given
        self._check_upstream(d_outputs, finals)
        self._go_back(d_outputs, finals)

    def _go_back(self, d_outputs: Array | None, finals: Sequence[Array | None]) -> tuple[list[Array], dict[str, Array]]:
        """Look at each term; return the gradients of the initial states, (sequences, H) each, and of the weights."""
        carried = [np.zeros_like(s) for s in self.state]
        for to, d in zip(carried, finals, strict=True):
            if d is not None:
                to[self.sequences.last] = d
        sums: dict[str, Array] = {}
        for at in reversed(self.kept):
            before = self._back(at, [c[at.now] for c in carried], d_outputs, sums)
            for to, d in zip(carried, before, strict=True):
                to[at.now] = d
        return carried, sums

    def _check_upstream(self, d_outputs: Array | None, finals: Sequence[Array | None]) -> None:
        """Look at the gradients as they enter, the step processed last first."""
        of_finals = [f"the upstream gradient of final_state{f'[{i}]' * (len(finals) > 1)}" for i in range(len(finals))]
        last: dict[int, tuple[str, Array]] = {}
        for at in reversed(self.kept):
            self._look("backward", at, {})
            new = [i for i, n in enumerate(at.rows) if n not in last]  # rows whose last step this is
            last |= {at.rows[i]: ("‖H_{t-1}‖ =", at.before[0][i]) for i in new}
            entering: list[tuple[str, Array | None, Array, int | None]]
            entering = [(n, d, at.rows[new], None) for n, d in zip(of_finals, finals, strict=True)]
            if d_outputs is not None:
                entering.append(("the upstream gradient of outputs", d_outputs[at.t], at.rows, at.t))
            for name, d, rows, t in entering:
                if d is not None:
                    self._check_entering(name, d, rows, t, last)

    def _check_entering(
        self, name: str, d: Array, rows: Array, t: int | None, last: dict[int, tuple[str, Array]]
    ) -> None:
        """Look at some rows of a gradient (N, H); ``last`` holds what of each row was finite before."""
        bad = ~np.isfinite(d[rows])
        if bad.any():
            i, j = (int(k) for k in np.argwhere(bad)[0])
            n = int(rows[i])
            entry = [n, j] if t is None else [n, t, j] if self.batch_first else [t, n, j]
            text = holds(f"{self.probe.title}: {self.probe.place}, row n={n}: {name}", d[n, j], entry, bad)
            what, vector = last[n]
            raise AnomalyError(f"{text}; last finite in that row: {what} {norm(vector)}: {OF_UPSTREAM}")
        what = f"‖the upstream gradient at t={t}‖ =" if t is not None else f"‖{name}‖ ="
        for n in rows:
            last[n] = what, d[n]

    def _back(self, at: Kept, d: list[Array], d_outputs: Array | None, sums: dict[str, Array]) -> list[Any]:
        """Go back through a step from the gradients carried to it; return those of the state before."""
        see, x = self.probe, self.x[at.t, at.rows]
        self._look("backward", at, {})
        if d_outputs is not None:
            up, carried = d_outputs[at.t, at.rows], d[0]
            parts = {"upstream": up, "carried": carried}
            d[0] = see("dL/dH_t = upstream + carried gradient", up + carried, parts, OF_GRADIENT)
        if self.clip is not None:
            d[0] = clipped(d[0], self.clip, 1)
        see.always, see.carries = {"dL/dH_t": d[0]}, self._carries(at)
        back = self.terms.backward(x, self._fed(at), at.before, self._mask(at), d)
        self._share(back, x, sums)
        h, past = back.to_fed, back.direct[0]
        if self.mask is not None:
            h = see("m ⊙ dL/d(m ⊙ H_{t-1})", h * self.mask[at.now], {"dL/d(m ⊙ H_{t-1})": h}, OF_GRADIENT, carried=True)
        if past is not None:
            parts = {"through W_hh": h, "past it": past}
            h = see("dL/dH_{t-1}", h + past, parts, OF_GRADIENT, carried=True)
        return [h, *(np.zeros_like(h) if d is None else d for d in back.direct[1:])]

    def _carries(self, at: Kept) -> Array | None:
        """Return for which rows the gradient of the state before is used: not at a sequence's first step."""
        if self.wants_state:
            return None
        q, now = self.sequences, at.now
        return cast(Array, q.start[now] + (q.length[now] - 1 if q.reverse else 0) != at.t)

    def _share(self, back: Back, x: Array, sums: dict[str, Array]) -> None:
        """Look at what a step hands to x and to the weights, and at the sums so far."""
        see, dz = self.probe, back.dz
        if self.wants_x:
            see("dL/dZ_t W_xhᵀ", dz @ self.terms.W_xh.T, {"dL/dZ_t": dz}, OF_GRADIENT)
        W_xh, W_hh, b_h, *b_hn = self.wanted
        if W_xh:
            self._add("W_xh", "X_tᵀ dL/dZ_t", x.T @ dz, x, dz, sums)
        for columns, fed, d in back.products if W_hh else ():
            name = f"W_hh[:, {columns.start or 0}:{columns.stop or ''}]" if len(back.products) > 1 else "W_hh"
            self._add(name, "H_{t-1}ᵀ dL/dZ_t", fed.T @ d, fed, d, sums)
        if b_h:
            self._add("b_h", "Σ_n dL/dZ_t", dz.sum(axis=0), None, dz, sums)
        if any(b_hn):
            d = back.products[0][2][:, -self.probe.H :]
            self._add("b_hn", "Σ_n dL/d(H_{t-1} W_hn + b_hn)", d.sum(axis=0), None, d, sums)

    def _add(
        self, name: str, term: str, share: Array, left: Array | None, right: Array, sums: dict[str, Array]
    ) -> None:
        """Look at a step's share in the gradient of a weight, and at the sum so far."""
        self.probe.shared(f"{term}, its share in dL/d{name},", share, left, right)
        total = sums[name] + share if name in sums else share
        sums[name] = self.probe.shared(f"dL/d{name}, the sum so far,", total, left, right)
