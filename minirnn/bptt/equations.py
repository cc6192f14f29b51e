"""The equations of one step of a trace, forward and backward, with the numbers of one row.

`equations_of` makes them for every kind of layer; `minirnn.bptt.explaining` writes them down. Symbols are those of
`minirnn.textbook`: row vectors, X_t (N, D), H_t (N, H), gates side by side in Z_t (N, G·H), and W_xi, W_hi, b_i for
gate i's block of W_xh, W_hh, b_h.
"""

import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from minirnn.arguments import Array
from minirnn.bptt.steps import Back, CellSteps, ElmanSteps, GRUSteps, LSTMSteps, blocks

if TYPE_CHECKING:
    from minirnn.bptt.tracing import Trace

FORWARD, BACKWARD = "forward", "backward"
_PHI = {
    "tanh": ("tanh(Z_t)", "1 - H_t²"),
    "relu": ("max(0, Z_t)", "1 where H_t > 0, else 0"),
    "sigmoid": ("σ(Z_t)", "H_t ⊙ (1 - H_t)"),
    "identity": ("Z_t", "1"),
}


class Entry(NamedTuple):
    """One term of an equation.

    Attributes
    ----------
    name : str
    shape : str
        Of the whole of it, in letters and numbers: ``(N=2, H=4)``.
    values : array
        For what has N rows those of the one row; else all of it. One or two axes.
    blocks : tuple of str
        The gates, where the last axis holds a block for each; empty where it does not. ``name`` then has a · for them.
    """

    name: str
    shape: str
    values: Array
    blocks: tuple[str, ...] = ()

    def parts(self) -> list["Entry"]:
        """Return it gate by gate: Z_· as Z_i, Z_f and so on."""
        if not self.blocks:
            return [self]
        parts = np.split(self.values, len(self.blocks), axis=-1)
        shape = re.sub(r"\d+H=\d+", f"H={parts[0].shape[-1]}", self.shape)
        return [Entry(self.name.replace("·", g), shape, part) for g, part in zip(self.blocks, parts, strict=True)]


class Equation(NamedTuple):
    """One equation with its numbers.

    Attributes
    ----------
    part : "forward" or "backward"
    symbols : tuple of str
        The equation, in one line or several.
    words : str
        What is to be said of it at this step; may be empty.
    entries : tuple of Entry
        What it is made of, in the order of the equation, and last what it gives.
    """

    part: str
    symbols: tuple[str, ...]
    words: str
    entries: tuple[Entry, ...]


def equations_of(trace: "Trace", t: int, row: int) -> list[Equation]:
    """Return the equations at step t, which must not be padding, with the numbers of a row."""
    place = _Place(trace, t, row)
    steps = place.steps
    if isinstance(steps, ElmanSteps):
        return _elman(place, steps)
    if isinstance(steps, LSTMSteps):
        return _lstm(place, steps)
    if isinstance(steps, GRUSteps):
        return _gru(place, steps)
    assert isinstance(steps, CellSteps), "there are four kinds of step"
    return _own(place)


def number(value: Any) -> str:
    """Return a number with 4 significant digits, as short as that can be."""
    if value == 0:
        return "0"
    digits, _, exponent = f"{value:#.4g}".partition("e")
    digits = digits.removesuffix(".")
    return f"{digits}e{int(exponent)}" if exponent else digits


class _Place:
    """One step of one row: its numbers, and what the steps around it are called."""

    def __init__(self, trace: "Trace", t: int, row: int) -> None:
        self.trace, self.t, self.n = trace, t, row
        self.unrolled, self.steps = trace._unrolled, trace._unrolled.steps
        self.k = trace._order(t)
        self.before, self.after = ("t+1", "t-1") if trace.layer.reverse else ("t-1", "t+1")
        self.gates = trace.gates if len(trace.gates) > 1 else ()
        self.sizes = {"N": f"N={trace.N}", "D": f"D={trace.x.shape[2]}", "H": f"H={trace.H}"}
        G = len(trace.gates)
        self.sizes["Z"] = f"{G}H={G * trace.H}" if G > 1 else self.sizes["H"]
        self.first = self.k == self.unrolled.first[row]
        order = trace.valid[trace._turn]
        self.last = self.k + 1 == trace.T or not order[self.k + 1, row]
        self.H_before = f"H_{{{self.before}}}"
        self.masked = self.steps.mask is not None
        self.fed = f"(m ⊙ {self.H_before})" if self.masked else self.H_before

    # --- entries -----------------------------------------------------------------------------------------------------

    def shape(self, letters: str) -> str:
        """Return a shape in letters and numbers; Z is for G·H."""
        return "(" + ", ".join(self.sizes[letter] for letter in letters) + ("," * (len(letters) == 1)) + ")"

    def entry(self, name: str, letters: str, values: Any) -> Entry:
        """Return an entry of this shape."""
        blocks = self.gates if letters[-1] == "Z" else ()
        return Entry(_by_gate(name) if blocks else name, self.shape(letters), np.asarray(values), blocks)

    def state(self, s: int = 0) -> Array:
        """Return the s-th array of the state before the step, (H,)."""
        values: Array = self.unrolled.states[s][self.k, self.n]
        return values

    def fed_row(self) -> Array:
        """Return what W_hh is multiplied with."""
        values: Array = self.steps.feed(self.unrolled.states[0][self.k])[self.n]
        return values

    def input(self) -> list[Entry]:
        """Return X_t and W_xh."""
        x = self.trace.x[self.t, self.n]
        W_xh = self.steps.W_xh
        return [self.entry("X_t", "ND", x), self.entry("W_xh", "DZ", W_xh), self.entry("X_t W_xh", "NZ", x @ W_xh)]

    def recurrent(self) -> list[Entry]:
        """Return H_{t-1}, by what it is multiplied, and W_hh."""
        entries = [self.entry(self.H_before, "NH", self.state())]
        if self.masked:
            entries += [*self.with_mask(), self.entry(self.fed.strip("()"), "NH", self.fed_row())]
        return [*entries, self.entry("W_hh", "HZ", self.steps.W_hh)]

    def bias(self) -> list[Entry]:
        """Return b_h, if there is one."""
        return [] if self.steps.b_h is None else [self.entry("b_h", "Z", self.steps.b_h)]

    def z(self) -> Entry:
        """Return Z_t."""
        return self.entry("Z_t", "NZ", self.trace.pre_activations[self.t, self.n])

    def dz(self, step: int = 0, on_h: bool = False, name: str = "Z") -> Entry:
        """Return dL/dZ_t, or that of the step processed after it."""
        found = self.trace._back.dz_h if on_h else self.trace._back.dz
        at = f"{{{self.after}}}" if step else "t"
        return self.entry(f"dL/d{name}_{at}", "NZ", found[self.k + step, self.n])

    def dh(self) -> Entry:
        """Return dL/dH_t."""
        return self.entry("dL/dH_t", "NH", self.trace.dL_dh[self.t, self.n])

    # --- equations that several layers have --------------------------------------------------------------------------

    @property
    def start(self) -> str:
        """Say so where the step is a row's first."""
        return f"{self.H_before} is the initial state: this is the first step processed." if self.first else ""

    def pre_activation(self) -> Equation:
        """Z_t = X_t W_xh + H_{t-1} W_hh + b_h."""
        plus = " + b_h" * (self.steps.b_h is not None)
        product = self.entry(f"{self.fed} W_hh", "NZ", self.fed_row() @ self.steps.W_hh)
        entries = [*self.input(), *self.recurrent(), product, *self.bias(), self.z()]
        return Equation(FORWARD, (f"Z_t = X_t W_xh + {self.fed} W_hh{plus}",), self.start, tuple(entries))

    def total(self, carried: Sequence[str], made_of: Callable[[], list[Entry]]) -> Equation:
        """dL/dH_t = local + carried; ``made_of`` is asked for the numbers of the step after, if there is one."""
        trace, clip = self.trace, self.trace.layer.message_clip
        words = f"Row {self.n} has no step {self.after}: nothing is carried." if self.last else ""
        both = "local + carried"
        if clip is not None:
            words = f"{words} Where its norm is above message_clip={clip:g}, it is scaled to that.".strip()
            both = "clipped(local + carried)"
        entries = [self.entry("local", "NH", trace.dL_dh_local[self.t, self.n]), *([] if self.last else made_of())]
        entries += [self.entry("carried", "NH", trace.dL_dh_carried[self.t, self.n]), self.dh()]
        lines = (f"dL/dH_t = {both}", "local = dL/dH_t as an output alone", f"carried = {carried[0]}", *carried[1:])
        return Equation(BACKWARD, lines, words, tuple(entries))

    def masked_product(self, product: str) -> str:
        """Return what a product with W_hhᵀ gives to H_{t-1}: with recurrent_dropout under its mask."""
        return f"m ⊙ ({product})" if self.masked else product

    def with_mask(self) -> list[Entry]:
        """Return m, if there is one."""
        return [] if self.steps.mask is None else [self.entry("m", "NH", self.steps.mask[self.n])]

    def shares(self, on_h: bool = False, name: str = "Z") -> list[Equation]:
        """Return what the step adds to the gradients of W_xh, W_hh and the biases."""
        trace, k, n = self.trace, self.k, self.n
        back = trace._back
        added = self.unrolled.shares(Back(back.dz[k], back.dz_h[k], [b[k] for b in back.before]), k)
        dz, dz_h, H = back.dz[k, n], back.dz_h[k, n], self.trace.H
        W_xh = self.entry("of this row", "DZ", np.outer(trace.x[self.t, n], dz))
        into = [np.outer(fed[n], dz_h[columns]) for columns, fed in self.unrolled.fed(k)]
        W_hh = self.entry("of this row", "HZ", np.concatenate(into, axis=1))
        made = [
            self._share("dW_xh += X_tᵀ dL/dZ_t", W_xh, added["W_xh"]),
            self._share(f"dW_hh += {self._around(name)}", W_hh, added["W_hh"]),
        ]
        if "b_h" in added:
            b_h = self.entry("of all rows", "Z", added["b_h"])
            made.append(Equation(BACKWARD, ("db_h += Σ_rows dL/dZ_t",), "", (b_h,)))
        if "b_hn" in added:
            b_hn = Entry("of all rows", f"(H={H},)", added["b_hn"])
            made.append(Equation(BACKWARD, ("db_hn += Σ_rows dL/dQ_n",), "", (b_hn,)))
        return made

    def _around(self, name: str) -> str:
        if len(self.unrolled.fed(self.k)) == 1:
            return f"{self.fed}ᵀ dL/d{name}_t"
        return f"[{self.fed}ᵀ [dL/dZ_r dL/dZ_z]   (r_t ⊙ {self.fed})ᵀ dL/dZ_n]"

    def _share(self, symbols: str, of_row: Entry, of_all: Array) -> Equation:
        rows = f"the N={self.trace.N} rows together" if self.trace.N > 1 else "this one row"
        words = f"Step t adds to it, of {rows}, ‖·‖ = {number(np.linalg.norm(of_all))}."
        return Equation(BACKWARD, (symbols,), words, (of_row,))

    def onward(self, made_of: Sequence[str]) -> Equation:
        """What goes on to the step before: one line for each array of the state, then what else there is to say."""
        back, letters = self.trace._back.before, self._state_letters()
        given = [f"{letter}_{{{self.before}}}" for letter in letters]
        lines = [f"to {name}: {formula}" for name, formula in zip(given, made_of, strict=False)]
        entries = [self.entry(f"to {name}", "NH", d[self.k, self.n]) for name, d in zip(given, back, strict=True)]
        words = "The initial state gets this." if self.first else f"Step {self.before} gets this, as “carried” there."
        return Equation(BACKWARD, (*lines, *made_of[len(given) :]), words, tuple(entries))

    def _state_letters(self) -> list[str]:
        return [name.upper() for name in self.trace.layer.state_names]


def _by_gate(name: str) -> str:
    """Return what a block of it is called, with · for the gate: X_t W_x· for X_t W_xh."""
    for whole, block in {"W_xh": "W_x·", "W_hh": "W_h·", "b_h": "b_·", "Z_t": "Z_·", "Q_t": "Q_·"}.items():
        if name.endswith(whole):
            return name.removesuffix(whole) + block
    return f"{name}, ·"


# --- the layers ------------------------------------------------------------------------------------------------------


def _elman(p: _Place, steps: ElmanSteps) -> list[Equation]:
    phi, slope = _PHI.get(steps.activation.name, ("φ(Z_t)", "φ′(H_t)"))
    h = p.entry("H_t", "NH", p.trace.hs[p.t, p.n])
    slopes = p.entry("φ′", "NH", steps.slopes[p.k, p.n])
    product = p.masked_product("dL/dZ_t W_hhᵀ")
    return [
        p.pre_activation(),
        Equation(FORWARD, (f"H_t = φ(Z_t) = {phi}" if phi != "φ(Z_t)" else "H_t = φ(Z_t)",), "", (h,)),
        p.total([p.masked_product(f"dL/dZ_{{{p.after}}} W_hhᵀ")], lambda: [p.dz(1), *p.with_mask()]),
        Equation(BACKWARD, ("dL/dZ_t = dL/dH_t ⊙ φ′", f"φ′ = {slope}"), "", (slopes, p.dz())),
        *p.shares(),
        p.onward([product]),
    ]


def _lstm(p: _Place, steps: LSTMSteps) -> list[Equation]:
    k, n, H, back = p.k, p.n, p.trace.H, p.trace._back
    gates = [p.entry(f"{g}_t", "NH", v) for g, v in zip("ifgo", blocks(steps.values[k, n], H), strict=True)]
    c_before = p.entry(f"C_{{{p.before}}}", "NH", p.state(1))
    c, shown = p.entry("C_t", "NH", p.trace.cs[p.t, n]), p.entry("tanh(C_t)", "NH", steps.shown[k, n])
    h = p.entry("H_t", "NH", p.trace.hs[p.t, n])
    kept = np.zeros(H) if p.last else back.before[1][k + 1, n]
    dc = p.entry("dL/dC_t", "NH", p.trace.dL_dc[p.t, n])
    of_h = p.entry("from H_t", "NH", p.trace.dL_dh[p.t, n] * steps.into_c[k, n])
    of_c = p.entry(f"from C_{{{p.after}}}", "NH", kept)
    after = [] if p.last else [p.entry(f"f_{{{p.after}}}", "NH", blocks(steps.values[k + 1, n], H)[1])]
    through_c = Equation(
        BACKWARD,
        (
            f"dL/dC_t = from H_t + from C_{{{p.after}}}",
            "from H_t = dL/dH_t ⊙ o_t ⊙ (1 - tanh²(C_t))",
            f"from C_{{{p.after}}} = dL/dC_{{{p.after}}} ⊙ f_{{{p.after}}}",
        ),
        f"Row {n} has no step {p.after}: nothing comes from there." if p.last else "",
        (of_h, *([] if p.last else [p.entry(f"dL/dC_{{{p.after}}}", "NH", _dc_after(p))]), *after, of_c, dc),
    )
    slopes = (
        "dL/dZ_i = dL/dC_t ⊙ g_t ⊙ i_t ⊙ (1 - i_t)",
        f"dL/dZ_f = dL/dC_t ⊙ C_{{{p.before}}} ⊙ f_t ⊙ (1 - f_t)",
        "dL/dZ_g = dL/dC_t ⊙ i_t ⊙ (1 - g_t²)",
        "dL/dZ_o = dL/dH_t ⊙ tanh(C_t) ⊙ o_t ⊙ (1 - o_t)",
    )
    activations = ("i_t = σ(Z_i),  f_t = σ(Z_f),  g_t = tanh(Z_g),  o_t = σ(Z_o)",)
    return [
        p.pre_activation(),
        Equation(FORWARD, activations, "", tuple(gates)),
        Equation(FORWARD, (f"C_t = f_t ⊙ C_{{{p.before}}} + i_t ⊙ g_t",), "", (c_before, c)),
        Equation(FORWARD, ("H_t = o_t ⊙ tanh(C_t)",), "", (shown, h)),
        p.total([p.masked_product(f"dL/dZ_{{{p.after}}} W_hhᵀ")], lambda: [p.dz(1), *p.with_mask()]),
        through_c,
        Equation(BACKWARD, slopes, "", (p.dz(),)),
        *p.shares(),
        p.onward([p.masked_product("dL/dZ_t W_hhᵀ"), "dL/dC_t ⊙ f_t"]),
    ]


def _dc_after(p: _Place) -> Array:
    """Return dL/dC of the step processed after this one."""
    t = p.trace._order(p.k + 1)
    values: Array = p.trace.dL_dc[t, p.n]
    return values


def _gru(p: _Place, steps: GRUSteps) -> list[Equation]:
    k, n, H = p.k, p.n, p.trace.H
    gates = [p.entry(f"{g}_t", "NH", v) for g, v in zip("rzn", blocks(steps.values[k, n], H), strict=True)]
    h = p.entry("H_t", "NH", p.trace.hs[p.t, n])
    return [
        *(_gru_products_after(p, steps) if steps.after else _gru_products_before(p, steps)),
        Equation(FORWARD, ("r_t = σ(Z_r),  z_t = σ(Z_z),  n_t = tanh(Z_n)",), "", tuple(gates)),
        Equation(FORWARD, (f"H_t = (1 - z_t) ⊙ n_t + z_t ⊙ {p.H_before}",), "", (h,)),
        *(_gru_back_after(p, steps) if steps.after else _gru_back_before(p, steps)),
    ]


def _gru_products_after(p: _Place, steps: GRUSteps) -> list[Equation]:
    q = p.fed_row() @ steps.W_hh
    biases = []
    if steps.b_hn is not None:
        q[2 * p.trace.H :] += steps.b_hn
        biases = [p.entry("b_hn", "H", steps.b_hn)]
    of_n = " + [0 0 b_hn]" * bool(biases)
    b_r, b_z, b_n = (f" + b_{g}" * (steps.b_h is not None) for g in "rzn")
    product = Equation(
        FORWARD, (f"Q_t = {p.fed} W_hh{of_n}",), p.start, (*p.recurrent(), *biases, p.entry("Q_t", "NZ", q))
    )
    lines = (f"Z_r = X_t W_xr{b_r} + Q_r", f"Z_z = X_t W_xz{b_z} + Q_z", f"Z_n = X_t W_xn{b_n} + r_t ⊙ Q_n")
    return [product, Equation(FORWARD, lines, "", (*p.input(), *p.bias(), _reset(p, steps), p.z()))]


def _reset(p: _Place, steps: GRUSteps) -> Entry:
    return p.entry("r_t", "NH", steps.reset[p.k, p.n])


def _gru_products_before(p: _Place, steps: GRUSteps) -> list[Equation]:
    b_r, b_z, b_n = (f" + b_{g}" * (steps.b_h is not None) for g in "rzn")
    reset = steps.reset[p.k, p.n] * p.fed_row()
    lines = (
        f"Z_r = X_t W_xr + {p.fed} W_hr{b_r}",
        f"Z_z = X_t W_xz + {p.fed} W_hz{b_z}",
        f"Z_n = X_t W_xn + (r_t ⊙ {p.fed}) W_hn{b_n}",
    )
    staged = p.entry(f"r_t ⊙ {p.fed}", "NH", reset)
    return [Equation(FORWARD, lines, p.start, (*p.input(), *p.recurrent(), *p.bias(), _reset(p, steps), staged, p.z()))]


def _of_after(p: _Place, steps: GRUSteps, gates: str) -> list[Entry]:
    """Return gates of the step processed after this one, and its dL/dH."""
    values = dict(zip("rzn", blocks(steps.values[p.k + 1, p.n], p.trace.H), strict=True))
    d = p.trace.dL_dh[p.trace._order(p.k + 1), p.n]
    entries = [p.entry(f"{g}_{{{p.after}}}", "NH", values[g]) for g in gates]
    return [*entries, p.entry(f"dL/dH_{{{p.after}}}", "NH", d)]


def _gru_back_after(p: _Place, steps: GRUSteps) -> list[Equation]:
    q = p.entry("Q_n", "NH", steps.recurrent[p.k, p.n])
    product = p.masked_product(f"dL/dQ_{{{p.after}}} W_hhᵀ")
    carried = f"{product} + dL/dH_{{{p.after}}} ⊙ z_{{{p.after}}}"
    lines = (*_of_n_and_z(p), "dL/dZ_r = dL/dZ_n ⊙ Q_n ⊙ r_t ⊙ (1 - r_t)")
    on_h = Equation(BACKWARD, ("dL/dQ_t = [dL/dZ_r  dL/dZ_z  r_t ⊙ dL/dZ_n]",), "", (p.dz(0, True, "Q"),))
    return [
        p.total([carried], lambda: [p.dz(1, True, "Q"), *p.with_mask(), *_of_after(p, steps, "z")]),
        Equation(BACKWARD, lines, "", (q, p.dz())),
        on_h,
        *p.shares(True, "Q"),
        p.onward([p.masked_product("dL/dQ_t W_hhᵀ") + " + dL/dH_t ⊙ z_t"]),
    ]


def _gru_back_before(p: _Place, steps: GRUSteps) -> list[Equation]:
    H = p.trace.H

    def handed_back(at: str) -> list[str]:
        sum_of = f"A + r{at} ⊙ B"
        first = p.masked_product(sum_of) if p.masked else sum_of
        return [
            f"{first} + dL/dH{at} ⊙ z{at}",
            f"A = [dL/dZ_r dL/dZ_z]{at} [W_hr W_hz]ᵀ,  B = (dL/dZ_n){at} W_hnᵀ",
        ]

    staged = p.entry("dL/dZ_n W_hnᵀ", "NH", p.trace._back.dz[p.k, p.n, 2 * H :] @ steps.W_hh[:, 2 * H :].T)
    lines = (*_of_n_and_z(p), f"dL/dZ_r = (dL/dZ_n W_hnᵀ) ⊙ {p.fed} ⊙ r_t ⊙ (1 - r_t)")
    return [
        p.total(handed_back(f"_{{{p.after}}}"), lambda: [p.dz(1), *p.with_mask(), *_of_after(p, steps, "rz")]),
        Equation(BACKWARD, lines, "", (staged, p.dz())),
        *p.shares(),
        p.onward(handed_back("_t")),
    ]


def _of_n_and_z(p: _Place) -> tuple[str, str]:
    return (
        "dL/dZ_n = dL/dH_t ⊙ (1 - z_t) ⊙ (1 - n_t²)",
        f"dL/dZ_z = dL/dH_t ⊙ ({p.H_before} - n_t) ⊙ z_t ⊙ (1 - z_t)",
    )


def _own(p: _Place) -> list[Equation]:
    assert isinstance(p.steps, CellSteps), "a cell of one's own"
    cell, letters = type(p.steps.cell).__name__, p._state_letters()
    others = [p.entry(f"{s}_{{{p.before}}}", "NH", p.state(i)) for i, s in enumerate(letters) if i]
    states = [p.entry(f"{s}_t", "NH", a[p.k + 1, p.n]) for s, a in zip(letters, p.unrolled.states, strict=True)]
    before, after = (", ".join(f"{s}_{at}" for s in letters) for at in (f"{{{p.before}}}", "t"))
    back = f"{cell}.step_backward"
    carried = f"{p.masked_product(f'dL/dZ_{{{p.after}}} W_hhᵀ')} + what {back} gives to H_t there"
    onward = [p.masked_product("dL/dZ_t W_hhᵀ") + f" + what {back} gives to it"]
    return [
        p.pre_activation(),
        Equation(FORWARD, (f"{after} = {cell}.step(Z_t, {before})",), "", (*others, *states)),
        p.total([carried], lambda: [p.dz(1), *p.with_mask()]),
        Equation(BACKWARD, (f"dL/dZ_t = what {back} makes of dL/dH_t",), "", (p.dz(),)),
        *p.shares(),
        p.onward([*onward, *[f"what {back} gives to it"] * (len(letters) - 1)]),
    ]
