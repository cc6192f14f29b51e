"""What `detect_anomaly` says of an array of a recurrent layer that is not finite: which layer, step, row and term."""

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

import numpy as np

from minirnn.arguments import Array
from minirnn.autograd.modes import WITHIN, AnomalyError, check_finite

OF_DATA = "look at the data that comes in"
OF_PARAMETER = "did an update or an initialiser go wrong? Try a smaller learning rate, or load the values again"
OF_UPSTREAM = "look at the loss, and at what lies between it and this layer"
OF_INPUT = "look at the sizes of x and W_xh"
OF_STATE = "if the state grows from step to step, try a smaller W_hh (mr.init.spectral); else look at the initial state"
OF_SUM = "look at the sizes of what is added"
OF_GRADIENT = (
    "if the gradient grows from step to step on its way back, try message_clip= or a smaller W_hh (mr.init.spectral); "
    "else look at the size of the loss"
)


def label(layer: Any) -> str:
    """Return what a layer is called in an error: its class and sizes, and in a composite where it stands."""
    return " in ".join([f"{layer.name}({layer.input_size}, {layer.hidden_size})", *reversed(WITHIN.get())])


# --- the door: inputs are checked first ------------------------------------------------------------------------------


def check_x(layer: Any, x: Array, valid: Array | None) -> None:
    """Refuse an x (T, N, D), (N, T, D) for ``batch_first``, that is not finite in what is no padding."""
    seen = x if valid is None else np.where(valid, x, 0)
    bad = np.argwhere(~np.isfinite(seen))
    if len(bad):
        t, n = bad[0][[1, 0]] if layer.batch_first else bad[0][:2]
        check_finite(seen, f"{label(layer)}: step t={t}, row n={n}: x", OF_DATA)


def check_state(layer: Any, state: Array, argument: str) -> None:
    """Refuse a state, or the x_t of a single step, (N, ·), that is not finite."""
    bad = np.argwhere(~np.isfinite(state))
    if len(bad):
        row = f"row n={bad[0][0]}: " if state.ndim == 2 else ""
        check_finite(state, f"{label(layer)}: {row}{argument}", OF_DATA)


def check_cast(layer: Any, value: Array, argument: str) -> None:
    """Refuse numbers that are finite, but not in the layer's dtype."""
    name = layer.dtype.name
    hint = f"they are too large for {name}: scale the data, or make the layer with dtype=numpy.float64"
    if value.dtype != layer.dtype:
        check_finite(value.astype(layer.dtype), f"{label(layer)}: {argument}, cast to {name},", hint)


def check_parameters(layer: Any) -> None:
    """Refuse Parameters that are not finite."""
    for name, parameter in layer.named_parameters():
        check_finite(parameter.data, f"{label(layer)}: {name}", OF_PARAMETER)


# --- what looks at a term --------------------------------------------------------------------------------------------


class Probe:
    """Looks at the terms of one step; raises at the first that is not finite.

    Attributes
    ----------
    place : str
        Where in the unroll this is.
    rows : (N',) of int
        Which rows of the mini-batch have the step: entry i of a term is of row rows[i].
    always : dict
        What the norm is told of in any case.
    carries : (N',) of bool or None
        For which rows what goes to the step before is used.
    """

    def __init__(self, title: str, gates: Sequence[str], H: int) -> None:
        self.title, self.gates, self.H, self.place = title, gates, H, ""
        self.rows: Array = np.zeros(0, int)
        self.always: Mapping[str, Array] = {}
        self.carries: Array | None = None

    def __call__(
        self, term: str, value: Array, made_of: Mapping[str, Array], hint: str = OF_SUM, *, carried: bool = False
    ) -> Array:
        """Return a value (N', ·), unless an entry is not finite."""
        bad = ~np.isfinite(value)
        if carried and self.carries is not None:
            bad &= self.carries[:, None]
        if bad.any():
            raise self._fault(term, value, bad, {**made_of, **self.always}, hint)
        return value

    def shared(self, term: str, value: Array, left: Array | None, right: Array) -> Array:
        """Return a value that all rows have a part in, unless an entry is not finite.

        It is made of leftᵀ right, (N', ·) each, or without ``left`` of the sum of the rows of ``right``.
        """
        bad = ~np.isfinite(value)
        if not bad.any():
            return value
        entry = [int(i) for i in np.argwhere(bad)[0]]
        parts = right[:, entry[-1]] if left is None else left[:, entry[0]] * right[:, entry[1]]
        i = int(np.argmax(np.abs(np.nan_to_num(parts, nan=np.inf))))
        text = holds(f"{self.title}: {self.place}: {term}", value[tuple(entry)], entry, bad)
        norms = _norms({"dL/dZ_t": right, **self.always}, i)
        raise AnomalyError(
            f"{text}, most of it from row n={self.rows[i]}; last finite in that row: {norms}: {OF_GRADIENT}"
        )

    def _fault(self, term: str, value: Array, bad: Array, made_of: Mapping[str, Array], hint: str) -> AnomalyError:
        """Return the error for the first row and entry; of gates side by side, only the block that holds it counts."""
        i, j = (int(k) for k in np.argwhere(bad)[0])
        if "·" in term:
            block = j // self.H
            value, bad = (a[:, block * self.H : (block + 1) * self.H] for a in (value, bad))
            j, term = j % self.H, term.replace("·", self.gates[block])
        n, term = int(self.rows[i]), term.replace(" - ", " − ")
        text = holds(f"{self.title}: {self.place}, row n={n}: {term}", value[i, j], [n, j], bad)
        return AnomalyError(f"{text}; last finite in that row: {_norms(made_of, i)}: {hint}")


def holds(what: str, value: Any, entry: list[int], bad: Array) -> str:
    """Return the beginning of an error: what holds which value, where, and how many there are."""
    return f"detect_anomaly: {what} holds {value} at {entry} ({int(bad.sum())} of {bad.size} entries not finite)"


def _norms(arrays: Mapping[str, Array], i: int) -> str:
    """Return the norms of row i; what is called with a ``·`` holds all gates."""
    return ", ".join(f"‖{name.replace('·', 'h')}‖ = {norm(a[i])}" for name, a in arrays.items())


def norm(a: Array) -> str:
    """Return the norm of an array that is finite, also where the norm is no number of its dtype."""
    peak = float(np.abs(a).max(initial=0.0))
    if not peak or not np.isfinite(peak):
        return f"{peak:.3g}"
    of_parts = Decimal(float(np.sqrt(np.square(a.astype(np.float64) / peak).sum())))
    exact = Decimal(peak) * of_parts
    return f"{float(exact):.3g}" if np.isfinite(float(exact)) else f"{exact:.3g}"
