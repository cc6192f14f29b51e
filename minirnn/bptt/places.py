"""Steps and rows of a trace whose equations are written: their numbers, and what the steps around them are called."""

import re
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, cast

import numpy as np

from minirnn.arguments import Array
from minirnn.bptt.flow import Flow
from minirnn.bptt.steps import Back

FORWARD, BACKWARD = "forward", "backward"


class Entry(NamedTuple):
    """One term of an equation.

    Attributes
    ----------
    name : str
    shape : str
        Of the whole of it, in letters and numbers: ``(N=2, H=4)``.
    values : array
        For what has N rows those of the one row, or (K, R, ·) for several steps and rows; else all of it.
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


def number(value: Any) -> str:
    """Return a number with 4 significant digits, as short as that can be."""
    if value == 0:
        return "0"
    digits, _, exponent = f"{value:#.4g}".partition("e")
    digits = digits.removesuffix(".")
    return f"{digits}e{int(exponent)}" if exponent else digits


class Place:
    """One step of one row, or K steps of R rows at once.

    Parameters
    ----------
    trace : Trace
    t : int, or array of K
        In time order.
    row : int, or array of R

    Attributes
    ----------
    lead : () or (K, R)
        The leading axes of all that has rows.
    """

    def __init__(self, trace: Flow, t: Any, row: Any) -> None:
        self.trace, self.n = trace, row
        self.unrolled, self.steps = trace._unrolled, trace._unrolled.steps
        self.k = trace._order(t)
        self.lead: tuple[int, ...] = () if np.ndim(t) == 0 else (len(t), len(row))
        self.before, self.after = ("t+1", "t-1") if trace.layer.reverse else ("t-1", "t+1")
        self.gates = trace.gates if len(trace.gates) > 1 else ()
        self.letters = [name.upper() for name in trace.layer.state_names]
        G = len(trace.gates)
        self.sizes = {"N": f"N={trace.N}", "D": f"D={trace.x.shape[2]}", "H": f"H={trace.H}"}
        self.sizes["Z"] = f"{G}H={G * trace.H}" if G > 1 else self.sizes["H"]
        self.first = self.last = False
        if not self.lead:
            self.first = self.k == self.unrolled.first[row]
            self.last = self.k + 1 == trace.T or not trace.valid[trace._turn][self.k + 1, row]
        self.H_before = f"H_{{{self.before}}}"
        self.masked = self.steps.mask is not None
        self.fed = f"(m ⊙ {self.H_before})" if self.masked else self.H_before

    # --- numbers -----------------------------------------------------------------------------------------------------

    def rows(self, a: Any, step: int = 0) -> Array:
        """Return an array (T, N, …) in the order of processing here, or at the step after."""
        k = np.minimum(self.k + step, self.trace.T - 1)
        return cast(Array, a[np.ix_(k, self.n)] if self.lead else a[k, self.n])

    def timed(self, a: Any) -> Array:
        """Return an array (T, N, …) in time order at the place."""
        return self.rows(self.trace._in_time(a))

    def carried(self, s: int) -> Array:
        """Return what comes back to an array of the state from the step after; zeros where there is none."""
        arriving = self.trace._arriving[s][1:]
        return np.zeros_like(self.rows(arriving)) if self.last else self.rows(arriving)

    # --- entries -----------------------------------------------------------------------------------------------------

    def shape(self, letters: str) -> str:
        """Return a shape in letters and numbers; Z is for G·H."""
        return "(" + ", ".join(self.sizes[letter] for letter in letters) + ("," * (len(letters) == 1)) + ")"

    def entry(self, name: str, letters: str, values: Any) -> Entry:
        """Return an entry of this shape."""
        blocks = self.gates if letters[-1] == "Z" else ()
        return Entry(_by_gate(name) if blocks else name, self.shape(letters), np.asarray(values), tuple(blocks))

    def blocks_of(self, name: str, in_time: Array, gates: Sequence[str]) -> Entry:
        """Return some of the blocks of an array (T, N, G·H) in time order, the first of them."""
        values = self.timed(in_time)[..., : len(gates) * self.trace.H]
        shape = re.sub(r"\d+H=\d+", f"H={self.trace.H}", self.shape("NZ"))
        return Entry(f"{name}_·", shape, values, tuple(gates))

    def state(self, s: int = 0) -> Array:
        """Return the s-th array of the state before the step."""
        return self.rows(self.unrolled.states[s])

    def input(self) -> list[Entry]:
        """Return X_t and W_xh."""
        x, W_xh = self.timed(self.trace.x), self.steps.W_xh
        return [self.entry("X_t", "ND", x), self.entry("W_xh", "DZ", W_xh), self.entry("X_t W_xh", "NZ", x @ W_xh)]

    def recurrent(self) -> list[Entry]:
        """Return H_{t-1}, by what it is multiplied, and W_hh."""
        entries = [self.entry(self.H_before, "NH", self.state())]
        if self.masked:
            entries += [*self.with_mask(), self.entry(self.fed.strip("()"), "NH", self._fed())]
        return [*entries, self.entry("W_hh", "HZ", self.steps.W_hh)]

    def _fed(self) -> Array:
        return self.rows(self.steps.feed(self.unrolled.states[0]))

    def bias(self) -> list[Entry]:
        """Return b_h, if there is one."""
        return [] if self.steps.b_h is None else [self.entry("b_h", "Z", self.steps.b_h)]

    def z(self) -> Entry:
        """Return Z_t."""
        return self.entry("Z_t", "NZ", self.timed(self.trace.pre_activations))

    def dz(self, step: int = 0, on_h: bool = False) -> Entry:
        """Return dL/dZ_t, or that of the recurrent product, here or at the step after."""
        found = self.trace._back.dz_h if on_h else self.trace._back.dz
        at = f"{{{self.after}}}" if step else "t"
        return self.entry(f"dL/d{'Q' if on_h else 'Z'}_{at}", "NZ", self.rows(found, step))

    def with_mask(self) -> list[Entry]:
        """Return m, if there is one."""
        if self.steps.mask is None:
            return []
        mask = self.steps.mask[self.n]
        return [self.entry("m", "NH", np.broadcast_to(mask, (*self.lead, mask.shape[-1])))]

    # --- equations that all layers have ------------------------------------------------------------------------------

    @property
    def start(self) -> str:
        """Say so where the step is a row's first."""
        return f"{self.H_before} is the initial state: this is the first step processed." if self.first else ""

    def pre_activation(self) -> Equation:
        """Z_t = X_t W_xh + H_{t-1} W_hh + b_h."""
        plus = " + b_h" * (self.steps.b_h is not None)
        product = self.entry(f"{self.fed} W_hh", "NZ", self._fed() @ self.steps.W_hh)
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
        entries = [self.entry("local", "NH", self.timed(trace.dL_dh_local)), *([] if self.last else made_of())]
        entries += [self.entry("carried", "NH", self.timed(trace.dL_dh_carried))]
        entries += [self.entry("dL/dH_t", "NH", self.timed(trace.dL_dh))]
        lines = (f"dL/dH_t = {both}", "local = dL/dH_t as an output alone", f"carried = {carried[0]}", *carried[1:])
        return Equation(BACKWARD, lines, words, tuple(entries))

    def masked_product(self, product: str) -> str:
        """Return what a product with W_hhᵀ gives to H_{t-1}: with recurrent_dropout under its mask."""
        return f"m ⊙ ({product})" if self.masked else product

    def shares(self, staged: str) -> list[Equation]:
        """Return what the step adds to the gradients of W_xh, W_hh and the biases; its numbers for one step."""
        trace, k, n = self.trace, self.k, self.n
        symbols = ["dW_xh += X_tᵀ dL/dZ_t", f"dW_hh += {self._around(staged)}"]
        if self.lead:
            return [Equation(BACKWARD, tuple(symbols), "", ())]
        back = trace._back
        added = self.unrolled.shares(Back(back.dz[k], back.dz_h[k], [b[k] for b in back.before]), k)
        dz, dz_h, H = back.dz[k, n], back.dz_h[k, n], trace.H
        W_xh = self.entry("of this row", "DZ", np.outer(self.timed(trace.x), dz))
        into = [np.outer(fed[n], dz_h[columns]) for columns, fed in self.unrolled.fed(k)]
        W_hh = self.entry("of this row", "HZ", np.concatenate(into, axis=1))
        made = [
            self._share(symbols[0], W_xh, added["W_xh"]),
            self._share(symbols[1], W_hh, added["W_hh"]),
        ]
        if "b_h" in added:
            b_h = self.entry("of all rows", "Z", added["b_h"])
            made.append(Equation(BACKWARD, ("db_h += Σ_rows dL/dZ_t",), "", (b_h,)))
        if "b_hn" in added:
            b_hn = Entry("of all rows", f"(H={H},)", added["b_hn"])
            made.append(Equation(BACKWARD, ("db_hn += Σ_rows dL/dQ_n",), "", (b_hn,)))
        return made

    def _around(self, staged: str) -> str:
        if staged:
            joint = " ".join(f"dL/dZ_{g}" for g in self.gates[:-1])
            return f"[{self.fed}ᵀ [{joint}]   ({staged})ᵀ dL/dZ_{self.gates[-1]}]"
        return f"{self.fed}ᵀ dL/d{'Q' if self.steps.cell.apart else 'Z'}_t"

    def _share(self, symbols: str, of_row: Entry, of_all: Array) -> Equation:
        rows = f"the N={self.trace.N} rows together" if self.trace.N > 1 else "this one row"
        words = f"Step t adds to it, of {rows}, ‖·‖ = {number(np.linalg.norm(of_all))}."
        return Equation(BACKWARD, (symbols,), words, (of_row,))

    def onward(self, made_of: Sequence[str]) -> Equation:
        """Return what goes on to the step before: a line for each array of the state."""
        given = [f"{letter}_{{{self.before}}}" for letter in self.letters]
        lines = tuple(f"to {name}: {formula}" for name, formula in zip(given, made_of, strict=True))
        back = self.trace._back.before
        entries = [self.entry(f"to {name}", "NH", self.rows(d)) for name, d in zip(given, back, strict=True)]
        words = "The initial state gets this." if self.first else f"Step {self.before} gets this, as “carried” there."
        return Equation(BACKWARD, lines, words, tuple(entries))


def _by_gate(name: str) -> str:
    """Return what a block of it is called, with · for the gate: X_t W_x· for X_t W_xh."""
    for whole, block in {"W_xh": "W_x·", "W_hh": "W_h·", "b_h": "b_·", "Z_t": "Z_·", "Q_t": "Q_·"}.items():
        if name.endswith(whole):
            return name.removesuffix(whole) + block
    return f"{name}, ·"
