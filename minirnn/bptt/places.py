"""Steps and rows of a trace whose equations are written: their numbers, and what the steps around them are called."""

from collections.abc import Sequence
from typing import Any, NamedTuple, cast

import numpy as np

from minirnn.arguments import Array
from minirnn.bptt.flow import Flow

FORWARD, BACKWARD = "forward", "backward"


class Entry(NamedTuple):
    """One term of an equation.

    ``values`` are, for what has N rows, those of the one row, or (K, R, ·) for several steps and rows; else all of it.
    """

    name: str
    shape: str  # of the whole of it, in letters and numbers: (N=2, H=4)
    values: Array


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
    return digits.removesuffix(".") + (f"e{int(exponent)}" if exponent else "")


class Place:
    """One step of one row, or K steps of R rows at once; and the equations that every layer has there.

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
        self.trace, self.u = trace, trace.unrolled
        self.t, self.k, self.n = t, trace.order(t), row
        self.lead: tuple[int, ...] = () if np.ndim(t) == 0 else (len(t), len(row))
        self.before, self.after = ("t+1", "t-1") if trace.layer.reverse else ("t-1", "t+1")
        self.gates = trace.gates if len(trace.gates) > 1 else ()
        self.letters = [name.upper() for name in trace.layer.state_names]
        H = f"H={trace.H}"
        self.sizes = {"N": f"N={trace.N}", "D": f"D={trace.x.shape[2]}", "H": H, "Z": H}  # of Z one gate's block
        self.first = not self.lead and self.k == self.u.first[row]
        self.last = not self.lead and (self.k + 1 == trace.T or not self.u.valid[self.k + 1, row])
        self.H_before = f"H_{{{self.before}}}"
        self.start = f"{self.H_before} is the initial state: this is the first step processed." if self.first else ""
        self.fed = self.H_before if self.u.mask is None else f"(m ⊙ {self.H_before})"

    # --- numbers -----------------------------------------------------------------------------------------------------

    def rows(self, a: Any, step: int = 0) -> Array:
        """Return an array (T, N, …) in the order of processing here, or at the step after."""
        k = np.minimum(self.k + step, self.trace.T - 1)
        return cast(Array, a[np.ix_(k, self.n)] if self.lead else a[k, self.n])

    def timed(self, a: Any) -> Array:
        """Return an array (T, N, …) in time order at the place."""
        return self.rows(self.trace.in_time(a))

    # --- entries -----------------------------------------------------------------------------------------------------

    def entry(self, name: str, letters: str, values: Any, gates: Sequence[str] = ()) -> list[Entry]:
        """Return an entry of this shape, in letters; where the last is Z, for G·H, one for each gate's block.

        X_t W_xi, X_t W_xf and so on for X_t W_xh. ``gates``: those whose blocks these are, if not all.
        """
        whole = next((w for w in ("W_xh", "W_hh", "b_h", "Z_t", "Q_t") if name.endswith(w)), "")
        stem = name.removesuffix(whole) + whole[:-1] if whole else f"{name}, "
        shape = f"({', '.join(self.sizes[letter] for letter in letters)}{',' * (len(letters) == 1)})"
        if letters[-1] != "Z" or not self.gates:
            return [Entry(name, shape, np.asarray(values))]
        blocks = np.split(values, len(gates or self.gates), axis=-1)
        return [Entry(stem + g, shape, block) for g, block in zip(gates or self.gates, blocks, strict=True)]

    def input(self) -> list[Entry]:
        """Return X_t and W_xh."""
        x, W_xh = self.timed(self.trace.x), self.u.weights.W_xh
        made = self.entry("X_t W_xh", "NZ", x @ W_xh)
        return [*self.entry("X_t", "ND", x), *self.entry("W_xh", "DZ", W_xh), *made]

    def recurrent(self) -> list[Entry]:
        """Return H_{t-1}, by what it is multiplied, and W_hh."""
        entries = self.entry(self.H_before, "NH", self.rows(self.u.before[0]))
        if self.u.mask is not None:
            fed = self.rows(self.u.feed(self.u.before[0]))
            entries += [*self.mask(), *self.entry(self.fed.strip("()"), "NH", fed)]
        return entries + self.entry("W_hh", "HZ", self.u.weights.W_hh)

    def bias(self) -> list[Entry]:
        """Return b_h, if there is one."""
        return [] if self.u.weights.b_h is None else self.entry("b_h", "Z", self.u.weights.b_h)

    def mask(self) -> list[Entry]:
        """Return m, if there is one."""
        if self.u.mask is None:
            return []
        return self.entry("m", "NH", np.broadcast_to(self.u.mask[self.n], (*self.lead, self.trace.H)))

    def dz(self, step: int = 0, on_h: bool = False) -> list[Entry]:
        """Return dL/dZ_t, or that of the recurrent product, here or at the step after."""
        found = self.trace.back.dz_h if on_h else self.trace.back.dz
        at = f"{{{self.after}}}" if step else "t"
        return self.entry(f"dL/d{'Q' if on_h else 'Z'}_{at}", "NZ", self.rows(found, step))

    # --- equations that all layers have ------------------------------------------------------------------------------

    def pre_activation(self) -> Equation:
        """Z_t = X_t W_xh + H_{t-1} W_hh + b_h."""
        line = f"Z_t = X_t W_xh + {self.fed} W_hh" + " + b_h" * bool(self.bias())
        product = self.rows(self.u.feed(self.u.before[0])) @ self.u.weights.W_hh
        entries = [*self.input(), *self.recurrent(), *self.entry(f"{self.fed} W_hh", "NZ", product), *self.bias()]
        z = self.entry("Z_t", "NZ", self.timed(self.trace.pre_activations))
        return Equation(FORWARD, (line,), self.start, (*entries, *z))

    def total(self, carried: str, made_of: Sequence[Entry]) -> Equation:
        """dL/dH_t = local + carried; ``made_of`` are the numbers of the step after, shown if there is one."""
        trace, clip, both = self.trace, self.trace.layer.message_clip, "local + carried"
        words = [f"Row {self.n} has no step {self.after}: nothing is carried."] if self.last else []
        if clip is not None:
            words.append(f"Where its norm is above message_clip={clip:g}, it is scaled to that.")
            both = "clipped(local + carried)"
        parts = {"carried": trace.dL_dh_carried, "dL/dH_t": trace.dL_dh}
        entries = self.entry("local", "NH", self.timed(trace.dL_dh_local)) + ([] if self.last else [*made_of])
        entries += [entry for name, a in parts.items() for entry in self.entry(name, "NH", self.timed(a))]
        lines = (f"dL/dH_t = {both}", "local = dL/dH_t as an output alone", f"carried = {carried}")
        return Equation(BACKWARD, lines, " ".join(words), tuple(entries))

    def masked(self, product: str) -> str:
        """Write a product with W_hhᵀ as it reaches H_{t-1}: under the mask of recurrent_dropout if there is one."""
        return product if self.u.mask is None else f"m ⊙ ({product})"

    def shares(self, into_W_hh: str) -> list[Equation]:
        """Write the step's shares in the gradients of W_xh, W_hh and the biases; with numbers for one step."""
        lines = "dW_xh += X_tᵀ dL/dZ_t", f"dW_hh += {into_W_hh}"
        if self.lead:
            return [Equation(BACKWARD, lines, "", ())]
        added, dz_h = self.trace.share(self.t), self.rows(self.trace.back.dz_h)
        into = [np.outer(fed[self.n], dz_h[columns]) for columns, fed in self.u.fed(self.k)]
        of_row = np.outer(self.timed(self.trace.x), self.rows(self.trace.back.dz)), np.concatenate(into, axis=1)
        several = f"the N={self.trace.N} rows together" if self.trace.N > 1 else "this one row"
        found = []
        for line, values, name in zip(lines, of_row, ("W_xh", "W_hh"), strict=True):
            words = f"Step t adds to it, of {several}, ‖·‖ = {number(np.linalg.norm(added[name]))}."
            entry = self.entry("of this row", "DZ" if name == "W_xh" else "HZ", values)
            found.append(Equation(BACKWARD, (line,), words, tuple(entry)))
        biases = {"b_h": ("Z", "db_h += Σ_rows dL/dZ_t"), "b_hn": ("H", "db_hn += Σ_rows dL/dQ_n")}
        return found + [
            Equation(BACKWARD, (line,), "", tuple(self.entry("of all rows", letter, added[name])))
            for name, (letter, line) in biases.items()
            if name in added
        ]

    def onward(self, made_of: Sequence[str]) -> Equation:
        """Write the gradients that go on to the step before: a line for each array of the state."""
        given = [f"to {letter}_{{{self.before}}}" for letter in self.letters]
        lines = tuple(f"{name}: {formula}" for name, formula in zip(given, made_of, strict=True))
        before = zip(given, self.trace.back.before, strict=True)
        entries = tuple(entry for name, d in before for entry in self.entry(name, "NH", self.rows(d)))
        words = "The initial state gets this." if self.first else f"Step {self.before} gets this, as “carried” there."
        return Equation(BACKWARD, lines, words, entries)
