"""The equation of each cell, one term after the other, forward and back, as `detect_anomaly` goes through it.

Every term is shown to ``see`` as soon as it is there: ``see(name, value, made_of)`` returns the value, or raises if it
is not finite. A ``·`` in a name stands for the gates, whose blocks lie side by side. The numbers of a layer come from
its backend, not from here; products and sums are made in the same order, so that what overflows there does so here.

H_{t-1} is the state before the step, in reverse that of t + 1, and H_t the one after it.
Shapes: N rows, D inputs, H hidden neurons, G gates. ``fed`` is H_{t-1} as W_hh gets it: under the mask m of
recurrent_dropout, if there is one.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np

from minirnn.arguments import Array
from minirnn.autograd.gradients import grad
from minirnn.autograd.modes import MODE, RECORD, AnomalyError
from minirnn.autograd.tensor import Tensor
from minirnn.kernels.cells import ACTIVATIONS, Activation
from minirnn.kernels.simple import CustomBackward, CustomForward
from minirnn.layers.cell import Cell, checked

_sigmoid, _sigmoid_slope = ACTIVATIONS["sigmoid"].apply, ACTIVATIONS["sigmoid"].derivative

OF_INPUT = "look at the sizes of x and W_xh"
OF_STATE = "if the state grows from step to step, try a smaller W_hh (mr.init.spectral); else look at the initial state"
OF_SUM = "look at the sizes of what is added"
OF_GRADIENT = (
    "if the gradient grows from step to step on its way back, try message_clip= or a smaller W_hh (mr.init.spectral); "
    "else look at the size of the loss"
)


class See(Protocol):
    """What looks at the terms of a step."""

    fed: str
    """What ``fed`` is called: H_{t-1}, or m ⊙ H_{t-1}."""

    def __call__(
        self, term: str, value: Array, made_of: Mapping[str, Array], hint: str = OF_SUM, *, carried: bool = False
    ) -> Array:
        """Return a value (N, ·), unless an entry is not finite. ``carried``: it goes to the state before the step."""
        ...

    def within(self, what: str, n: int | None, error: AnomalyError) -> AnomalyError:
        """Return the error for an op within ``what``, whose own error is given; n: at which of the N rows."""
        ...


class Unseen:
    """Looks at nothing: for terms that have been seen."""

    fed = ""

    def __call__(self, term: str, value: Array, made_of: Any, hint: str = "", *, carried: bool = False) -> Array:
        """Return the value."""
        return value

    def within(self, what: str, n: int | None, error: AnomalyError) -> AnomalyError:
        """Return the error."""
        return error


UNSEEN = Unseen()


class Back(NamedTuple):
    """What goes back through a step.

    Attributes
    ----------
    dz : (N, G·H)
        dL/d what X_t W_xh is added to.
    products : list of (columns of W_hh, (N, H), (N, ·))
        What these columns were multiplied with, and dL/d the product.
    to_fed : (N, H)
        dL/d ``fed``, through the products.
    direct : list of (N, H) or None
        dL/d the state before the step, past the products.
    """

    dz: Array
    products: list[tuple[slice, Array, Array]]
    to_fed: Array
    direct: list[Array | None]


class Terms:
    """The terms of a cell.

    Parameters
    ----------
    weights : W_xh, W_hh, b_h, and for a GRU b_hn
    op_by_op : bool
        Whether a gate's gradient is multiplied with σ′ last, as the graph backend does, or σ′ with the factor before.
    """

    gates: tuple[str, ...] = ("h",)

    def __init__(self, weights: Sequence[Any], op_by_op: bool) -> None:
        self.W_xh, self.W_hh, self.b_h, self.b_hn, *_ = *weights, None
        self.H, self.op_by_op = len(self.W_hh), op_by_op
        self.of_all = "h" if len(self.gates) == 1 else "·"

    def forward(self, see: See, x: Array, fed: Array, state: Sequence[Array]) -> list[Array]:
        """Return the new state, (N, H) each."""
        raise NotImplementedError

    def backward(self, see: See, x: Array, fed: Array, state: Sequence[Array], d: Sequence[Array]) -> Back:
        """Go back through the step from the gradients of the new state, (N, H) each."""
        raise NotImplementedError

    def _pre(self, see: See, x: Array, fed: Array) -> Array:
        """Return Z_t = X_t W_xh + H_{t-1} W_hh + b_h, (N, G·H)."""
        of_x, of_h = f"X_t W_x{self.of_all}", f"{see.fed} W_h{self.of_all}"
        a = see(of_x, x @ self.W_xh, {"X_t": x}, OF_INPUT)
        q = see(of_h, fed @ self.W_hh, {see.fed: fed}, OF_STATE)
        z = see(f"{of_x} + {of_h}", a + q, {of_x: a, of_h: q})
        if self.b_h is None:
            return z
        return see(f"{of_x} + {of_h} + b_{self.of_all}", z + self.b_h, {f"{of_x} + {of_h}": z})

    def _through(self, see: See, dz: Array, columns: slice = slice(None)) -> Array:
        """Return dL/dZ_t W_hhᵀ, (N, H)."""
        return see("dL/dZ_t W_hhᵀ", dz @ self.W_hh[:, columns].T, {"dL/dZ_t": dz}, OF_GRADIENT, carried=True)

    def _gate(self, see: See, term: str, d: Array, factor: Array, slope: Array, made_of: Mapping[str, Array]) -> Array:
        """Return d ⊙ factor ⊙ slope, in the order of the backend."""
        if self.op_by_op:
            return see(term, d * factor, made_of, OF_GRADIENT) * slope
        made: Array = d * (slope * factor)
        return made


class ElmanTerms(Terms):
    """H_t = φ(Z_t); back, dL/dZ_t = dL/dH_t ⊙ φ′(H_t)."""

    def __init__(self, weights: Sequence[Any], op_by_op: bool, activation: Activation) -> None:
        super().__init__(weights, op_by_op)
        self.activation, name = activation, activation.name
        self.phi, self.slope = f"H_t = φ(Z_t), φ = {name},", f"φ′(H_t), φ = {name},"

    def _value(self, see: See, x: Array, fed: Array) -> Array:
        z = self._pre(see, x, fed)
        return see(self.phi, self.activation.apply(z.copy()), {"Z_t": z}, "Z_t is finite: look at φ")

    def forward(self, see: See, x: Array, fed: Array, state: Sequence[Array]) -> list[Array]:
        """Return the new state."""
        return [self._value(see, x, fed)]

    def backward(self, see: See, x: Array, fed: Array, state: Sequence[Array], d: Sequence[Array]) -> Back:
        """Go back through the step."""
        h, dh = self._value(UNSEEN, x, fed), d[0]
        slope = np.asarray(self.activation.derivative(h.copy()), h.dtype)
        slope = see(self.slope, slope, {"H_t": h}, "H_t is finite: look at φ′")
        dz = see("dL/dZ_t = dL/dH_t ⊙ φ′(H_t)", dh * slope, {"φ′(H_t)": slope}, OF_GRADIENT)
        return Back(dz, [(slice(None), fed, dz)], self._through(see, dz), [None])


class LSTMTerms(Terms):
    """C_t = f ⊙ C_{t-1} + i ⊙ g and H_t = o ⊙ tanh(C_t)."""

    gates = ("i", "f", "g", "o")

    def _values(self, see: See, x: Array, fed: Array, state: Sequence[Array]) -> list[Array]:
        """Return i, f, g, o, C_t and tanh(C_t), (N, H) each."""
        z, H, c = self._pre(see, x, fed), self.H, state[1]
        i, f, o = (_sigmoid(z[:, j * H : (j + 1) * H]) for j in (0, 1, 3))
        g = np.tanh(z[:, 2 * H : 3 * H])
        c = see("C_t = f ⊙ C_{t-1} + i ⊙ g", f * c + i * g, {"C_{t-1}": c}, OF_STATE)
        return [i, f, g, o, c, np.tanh(c)]

    def forward(self, see: See, x: Array, fed: Array, state: Sequence[Array]) -> list[Array]:
        """Return the new state."""
        *_, o, c, shown = self._values(see, x, fed, state)
        return [see("H_t = o ⊙ tanh(C_t)", o * shown, {"C_t": c}), c]

    def backward(self, see: See, x: Array, fed: Array, state: Sequence[Array], d: Sequence[Array]) -> Back:
        """Go back through the step."""
        i, f, g, o, _, shown = self._values(UNSEEN, x, fed, state)
        dh, carried = d
        dc = carried + dh * o * (1.0 - shown * shown)
        dc = see("dL/dC_t", dc, {"what C_{t+1} hands back": carried}, OF_GRADIENT)
        of_c = {"dL/dC_t": dc}
        df = self._gate(see, "dL/df = dL/dC_t ⊙ C_{t-1}", dc, state[1], _sigmoid_slope(f), of_c)
        di, dg, do = dc * g * _sigmoid_slope(i), dc * i * (1.0 - g * g), dh * shown * _sigmoid_slope(o)
        dz = see("dL/dZ_·", np.concatenate([di, df, dg, do], axis=1), of_c, OF_GRADIENT)
        kept = see("dL/dC_t ⊙ f", dc * f, of_c, OF_GRADIENT, carried=True)
        return Back(dz, [(slice(None), fed, dz)], self._through(see, dz), [None, kept])


class GRUTerms(Terms):
    """H_t = (1 − z) ⊙ n + z ⊙ H_{t-1}; r goes over the recurrent product of n, or before it."""

    gates = ("r", "z", "n")

    def __init__(self, weights: Sequence[Any], op_by_op: bool, reset_after: bool) -> None:
        super().__init__(weights, op_by_op)
        self.reset_after = reset_after

    def _values(self, see: See, x: Array, fed: Array) -> list[Array]:
        """Return r, z, n and the recurrent product of n, (N, H) each."""
        two = slice(2 * self.H)
        a, of_x = see("X_t W_x·", x @ self.W_xh, {"X_t": x}, OF_INPUT), "X_t W_x·"
        if self.b_h is not None:
            a, of_x = see("X_t W_x· + b_·", a + self.b_h, {"X_t W_x·": a}), "X_t W_x· + b_·"
        of_h = f"{see.fed} W_h·"
        q = fed @ (self.W_hh if self.reset_after else self.W_hh[:, two])
        q = see(of_h, q, {see.fed: fed}, OF_STATE)
        pre = see(f"{of_x} + {of_h}", a[:, two] + q[:, two], {of_x: a[:, two], of_h: q[:, two]})
        r, z = (_sigmoid(part) for part in (pre[:, : self.H], pre[:, self.H :]))
        side, product, name = self._reset(see, fed, r, q)
        of_n = of_x.replace("·", "n")
        n = see(f"{of_n} + {name}", a[:, 2 * self.H :] + side, {of_n: a[:, 2 * self.H :], name: side})
        return [r, z, np.tanh(n), product]

    def _reset(self, see: See, fed: Array, r: Array, q: Array) -> tuple[Array, Array, str]:
        """Return what is added to X_t W_xn + b_n, the recurrent product in it, and what it is called."""
        last = slice(2 * self.H, None)
        if not self.reset_after:
            name, staged = f"(r ⊙ {see.fed}) W_hn", r * fed
            product = see(name, staged @ self.W_hh[:, last], {f"r ⊙ {see.fed}": staged}, OF_STATE)
            return product, product, name
        product, name = q[:, last], f"{see.fed} W_hn"
        if self.b_hn is not None:
            product, name = see(f"{name} + b_hn", product + self.b_hn, {name: product}), f"{name} + b_hn"
        return r * product, product, f"r ⊙ ({name})"

    def forward(self, see: See, x: Array, fed: Array, state: Sequence[Array]) -> list[Array]:
        """Return the new state."""
        _, z, n, _ = self._values(see, x, fed)
        h = state[0]
        return [see("H_t = (1 − z) ⊙ n + z ⊙ H_{t-1}", (1.0 - z) * n + z * h, {"H_{t-1}": h}, OF_STATE)]

    def backward(self, see: See, x: Array, fed: Array, state: Sequence[Array], d: Sequence[Array]) -> Back:
        """Go back through the step."""
        (r, z, n, product), dh, H = self._values(UNSEEN, x, fed), d[0], self.H
        of_h = {"dL/dH_t": dh}
        dn = dh * ((1.0 - z) * (1.0 - n * n))
        dz = self._gate(see, "dL/dz = dL/dH_t ⊙ (H_{t-1} − n)", dh, state[0] - n, _sigmoid_slope(z), of_h)
        if self.reset_after:
            name = "dL/dr = dL/dZ_n ⊙ (H_{t-1} W_hn + b_hn)"
            dr = self._gate(see, name, dn, product, _sigmoid_slope(r), {"dL/dZ_n": dn})
        else:
            staged = dn @ self.W_hh[:, 2 * H :].T
            staged = see("dL/d(r ⊙ H_{t-1}) = dL/dZ_n W_hnᵀ", staged, {"dL/dZ_n": dn}, OF_GRADIENT)
            name = "dL/dr = dL/d(r ⊙ H_{t-1}) ⊙ H_{t-1}"
            dr = self._gate(see, name, staged, fed, _sigmoid_slope(r), {"dL/d(r ⊙ H_{t-1})": staged})
        of_x = see("dL/dZ_·", np.concatenate([dr, dz, dn], axis=1), of_h, OF_GRADIENT)
        if self.reset_after:
            on_h = np.concatenate([dr, dz, dn * r], axis=1)
            return Back(of_x, [(slice(None), fed, on_h)], self._through(see, on_h), [dh * z])
        two, last = slice(2 * H), slice(2 * H, None)
        to_fed = self._through(see, of_x[:, two], two) + staged * r
        return Back(of_x, [(two, fed, of_x[:, two]), (last, r * fed, dn)], to_fed, [dh * z])


class CellTerms(Terms):
    """A cell of the user's own: `Cell.step` and `Cell.step_backward`, or for the graph `Cell.equation`."""

    def __init__(self, weights: Sequence[Any], op_by_op: bool, cell: Cell) -> None:
        super().__init__(weights, op_by_op)
        self.cell, self.kind = cell, type(cell).__name__

    def forward(self, see: See, x: Array, fed: Array, state: Sequence[Array]) -> list[Array]:
        """Return the new state."""
        z = self._pre(see, x, fed)
        made_of = {"Z_t": z, **{f"state {i}": s for i, s in enumerate(state[1:], 1)}}
        if self.op_by_op:
            new, name = self._by_row(see, f"{self.kind}.equation", z, state, self._equation), "equation"
        else:
            new, name = self._step(z, state)[0], "step"
        hint = f"Z_t is finite: look at {self.kind}.{name}"
        return [see(f"{self.kind}.{name}: new state {i}", s, made_of, hint) for i, s in enumerate(new)]

    def backward(self, see: See, x: Array, fed: Array, state: Sequence[Array], d: Sequence[Array]) -> Back:
        """Go back through the step."""
        z = self._pre(UNSEEN, x, fed)
        of = {f"dL/d state {i}": di for i, di in enumerate(d[1:], 1)}
        if self.op_by_op:
            name = f"{self.kind}.equation, backward"
            dz, *direct = self._by_row(see, name, z, [*state, *d], self._equation_backward)
        else:
            name = f"{self.kind}.step_backward"
            dz, *direct = self._step_backward(z, state, d)
        hint = f"look at {name}"
        dz = see(f"{name}: dL/dZ_t", dz, of, hint)
        made = [see(f"{name}: dL/d state {i}", di, of, hint, carried=True) for i, di in enumerate(direct)]
        return Back(dz, [(slice(None), fed, dz)], self._through(see, dz), [*made])

    # --- step and step_backward, on arrays: as the kernel calls them, on columns --------------------------------------

    def _step(self, z: Array, state: Sequence[Array]) -> tuple[list[Array], Any]:
        first, *others = [s.T for s in state]
        new, kept = [np.empty_like(s) for s in (first, *others)], [None]
        CustomForward(self.cell, self.H).step(first, new[0], (z.T, others, new[1:], kept, 0))
        return [s.T for s in new], kept[0]

    def _step_backward(self, z: Array, state: Sequence[Array], d: Sequence[Array]) -> list[Array]:
        kept, dz = self._step(z, state)[1], np.empty_like(z.T)
        back = CustomBackward(self.cell, self.H, z.shape[:1], z.dtype)
        for to, di in zip(back.extras, d[1:], strict=True):
            to[...] = di.T
        back.step(d[0].T, dz, kept)
        return [dz.T, back.direct.T, *(di.T for di in back.extras)]

    # --- equation, on Tensors ----------------------------------------------------------------------------------------

    def _equation(self, z: Array, *state: Array) -> list[Array]:
        tensors = [Tensor(s) for s in state]
        return [made.data for made in checked(self.cell.equation(Tensor(z), *tensors), self.cell, tensors)]

    def _equation_backward(self, z: Array, *state_and_d: Array) -> list[Array]:
        S = self.cell.states
        inputs = [Tensor(a, requires_grad=True) for a in (z, *state_and_d[:S])]
        token = MODE.set(MODE.get() | RECORD)
        try:
            made = checked(self.cell.equation(*inputs), self.cell, inputs[1:])
            totals = [np.zeros_like(a.data) for a in inputs]
            for new, d in zip(made, state_and_d[S:], strict=True):
                if new.requires_grad:
                    of = grad(new, inputs, gradient=d, retain_graph=True)
                    totals = [total + g.data for total, g in zip(totals, of, strict=True)]
        finally:
            MODE.reset(token)
        return totals

    def _by_row(
        self, see: See, what: str, z: Array, others: Sequence[Array], call: Callable[..., list[Array]]
    ) -> list[Array]:
        """Call with all rows; if an op within finds a fault, say at which row."""
        try:
            return call(z, *others)
        except AnomalyError as error:
            for n in range(len(z)):
                try:
                    call(*(a[n : n + 1] for a in (z, *others)))
                except AnomalyError as of_row:
                    raise see.within(what, n, of_row) from None
            raise see.within(what, None, error) from None
