"""What a cell is: its gates, its state, and its equation. Everything else about a cell is made of these."""

from collections.abc import Mapping, Sequence
from contextvars import ContextVar
from typing import Any, Literal, NamedTuple

import numpy as np

from minirnn.arguments import Array, as_size, describe
from minirnn.autograd import ops
from minirnn.autograd.op import Op
from minirnn.autograd.tensor import Tensor, unary
from minirnn.kernels.cells import ACTIVATIONS, Activation
from minirnn.kernels.simple import as_tuple

ActivationName = Literal["tanh", "relu", "sigmoid", "identity"]


class Phi(NamedTuple):
    """φ in both forms."""

    name: str
    kernel: Activation  # on arrays
    op: Op  # on Tensors
    steepest: float | None = None  # the largest slope φ′ there is; None where it is not known


BUILT_IN = {
    name: Phi(name, ACTIVATIONS[name], getattr(ops, name), steepest)
    for name, steepest in {"tanh": 1.0, "relu": 1.0, "sigmoid": 0.25, "identity": 1.0}.items()
}


class OwnOp(Op):
    """The op of a user's pair (φ, φ′); it travels if both functions do."""

    __slots__ = ("pair",)

    def __init__(self, phi: Any, prime: Any) -> None:
        super().__init__(
            lambda x: phi(x), "activation", symbol="φ({x})", slopes={"x": "φ′({y})"}, x=lambda g, y: g * prime(y)
        )
        self.pair = phi, prime

    def __reduce__(self) -> Any:
        return type(self), self.pair


def resolve(activation: Any, dtype: np.dtype[Any], name: str) -> Phi:
    """Return the φ that a user names or brings as a pair (φ, φ′); ``name`` is the layer's, for errors."""
    expected = f"{name}: activation must be one of {', '.join(map(repr, BUILT_IN))} or a pair (φ, φ′) of callables"
    if isinstance(activation, str):
        if activation not in BUILT_IN:
            raise ValueError(f"{expected}, got {activation!r}")
        return BUILT_IN[activation]
    if not (isinstance(activation, tuple) and len(activation) == 2 and all(map(callable, activation))):
        raise TypeError(f"{expected}, got {activation!r}")
    phi, prime = activation
    probe = np.linspace(-1, 1, 6, dtype=dtype).reshape(2, 3)
    for label, result in (("φ", y := phi(probe.copy())), ("φ′", prime(y))):
        if not isinstance(result, np.ndarray) or result.shape != probe.shape or result.dtype != dtype:
            raise ValueError(
                f"{name}: {label} must map an array to one of its shape and dtype, (2, 3) {dtype}, got "
                f"{describe(result)}"
            )
    kernel = Activation(getattr(phi, "__name__", "custom"), phi, prime)
    return Phi(kernel.name, kernel, OwnOp(phi, prime))


NOTES: ContextVar[list[tuple[str, str, Any]] | None] = ContextVar("minirnn_notes", default=None)
"""Where equations note what their terms are called: (kind, name, Tensor), kind "pre", "gate" or "term"."""


class Cell:
    """What a recurrent layer does at a step once Z_t = X_t W_xh + H_{t-1} W_hh + b_h is there, entry by entry.

    The layer owns the parameters and makes every product; a cell has neither. Subclass it, define `equation`, and pass
    an instance to ``RecurrentLayer(D, H, cell=…)``, which then has W_xh (D, G·H), W_hh (H, G·H), b_h (G·H,). The
    equation is enough for all there is: both backends, derivatives of any order, `minirnn.bptt`, `detect_anomaly`,
    drawings. `step` and `step_backward` are an option, for speed.

    Attributes
    ----------
    blocks : int
        G: how many pre-activations each neuron has; as many as there are `gates`, else 1.
    states : int
        How many arrays (N, H) the state consists of; as many as there are `state_names`, else 1. The first one is the
        output and what W_hh is multiplied with.
    gates : tuple of str, or dict from str to activation
        What the blocks are called. With its activation, "tanh", "sigmoid", "relu" or "identity", `activated` applies
        it, and slopes and saturation are known too.
    state_names : tuple of str
        What the arrays of the state are called: h first.

    Notes
    -----
    See examples/12_a_cell_of_your_own.py.

    >>> import minirnn as mr
    >>> class Minimal(mr.Cell):
    ...     gates = {"f": "sigmoid", "g": "tanh"}
    ...     def equation(self, z, h):
    ...         f, g = self.activated(z)
    ...         return (f * h + (1.0 - f) * g,)
    >>> layer = mr.RecurrentLayer(3, 5, cell=Minimal())
    >>> layer([[[1.0, 2.0, 3.0]]] * 7).outputs.shape
    (7, 1, 5)
    """

    blocks: int = 1
    states: int = 1
    gates: Sequence[str] | Mapping[str, Any] = ()
    state_names: Sequence[str] = ()

    apart = False
    """Whether the last block's sides come apart: ``equation(z, x, q, *state)``, z without it, x = X_t W_x· + b_·, and
    q = H_{t-1} W_h· + b_h· of that block. For cells with a kernel of their own."""
    staged = False
    """Whether what W_h· of that block is multiplied with, (N, H), comes from ``stage(z, *state)``."""
    stage: Any = None
    kernel: Any = None
    """The same written by hand, on arrays, for speed (minirnn/kernels); None for the equation, or `step`."""

    vectors: Sequence[str] = ()
    """What the weights are called, (H,) each, that ``equation`` takes behind the state; for cells without a kernel."""

    known_as = ""
    """What `minirnn.counting` calls a cell that other libraries have too."""

    bias_settings: Mapping[str, str] = {}
    """For gates whose bias has an argument of the layer to start from, which."""

    @property
    def labels(self) -> list[str]:
        """What stands in the cell of a drawing."""
        return list(self.gates) or [type(self).__name__]

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        for count, names in (("blocks", "gates"), ("states", "state_names")):
            if names in vars(cls) and count not in vars(cls) and not isinstance(getattr(cls, names), property):
                setattr(cls, count, len(getattr(cls, names)) or 1)

    def equation(self, z: Any, *state: Any) -> Any:
        """Return the new state, a tuple of as many Tensors as there are `states`.

        Parameters
        ----------
        z : Tensor (N, G·H)
        state : Tensors (N, H)
        """
        raise NotImplementedError(
            f"{type(self).__name__}: backend='graph', step() and create_graph need equation(z, *state): define it with "
            "Tensors and minirnn's functions"
        )

    def step(self, z: Array, *state: Array) -> tuple[tuple[Array, ...], Any]:
        """Return the new state, and whatever `step_backward` needs.

        Parameters
        ----------
        z : array (N, G·H)
        state : arrays (N, H), as many as `states`
            All of them are this call's own.

        Returns
        -------
        (new state, saved) : a tuple of `states` arrays (N, H) in z's dtype, and anything
        """
        raise NotImplementedError(
            f"{type(self).__name__}: there is no step(z, *state): define it and step_backward(d_state, saved), or "
            "define equation(z, *state) alone, which is enough"
        )

    def step_backward(self, d_state: tuple[Array, ...], saved: Any) -> tuple[Array, tuple[Array, ...]]:
        """Return ∂L/∂z and the gradients of the state before, past the product.

        Parameters
        ----------
        d_state : tuple of arrays (N, H)
            The gradients of the new state.
        saved : what `step` returned beside it

        Returns
        -------
        (dz, d_state) : (N, G·H), and a tuple of (N, H). What flows back through W_hh is added by the layer.
        """
        raise NotImplementedError(
            f"{type(self).__name__}: there is no step_backward(d_state, saved): define it beside step, or define "
            "equation(z, *state) alone, which is enough"
        )

    # --- for use within equation -------------------------------------------------------------------------------------

    def activated(self, z: Any, *names: str) -> list[Any]:
        """Return the values (N, H) of the gates named, or of all that ``z`` holds: each block under its activation."""
        H = z.shape[1] // (len(self.gates) - self.apart)
        starts = dict(zip(self.gates, range(0, z.shape[1], H), strict=False))
        return [self.gate(name, z[:, starts[name] : starts[name] + H]) for name in names or starts]

    def gate(self, name: str, pre: Any) -> Any:
        """Return the value of a gate, the activation of ``pre``."""
        value = unary(phi_of(self, name).op, pre)
        if (notes := NOTES.get()) is not None:
            notes += [("pre", name, pre), ("gate", name, value)]
        return value

    def term(self, name: str, value: Any) -> Any:
        """Return ``value``, a Tensor, under a name by which it is shown and an anomaly is named."""
        if (notes := NOTES.get()) is not None:
            notes.append(("term", name, value))
        return value


def phi_of(cell: Cell, gate: str) -> Phi:
    """Return a gate's activation."""
    found = cell.gates[gate] if isinstance(cell.gates, Mapping) else None
    if isinstance(found, Phi):
        return found
    if found not in BUILT_IN:
        known = ", ".join(map(repr, BUILT_IN))
        raise TypeError(
            f"{type(cell).__name__}.gates: the activation of {gate!r} must be one of {known}, got {found!r}: try "
            f'gates = {{"{gate}": "sigmoid"}}, or use minirnn\'s functions in place of activated()'
        )
    return BUILT_IN[found]


def activations_of(cell: Cell) -> tuple[Phi | None, ...]:
    """Return the activation of each block, None where it is not known."""
    if isinstance(cell.gates, Mapping):
        return tuple(phi_of(cell, name) for name in cell.gates)
    return (None,) * cell.blocks


def gates_of(cell: Cell) -> tuple[str, ...]:
    """Name the G blocks, as the cell does or by numbers."""
    if cell.gates:
        return tuple(cell.gates)
    return ("z",) if cell.blocks == 1 else tuple(f"z{j}" for j in range(cell.blocks))


def states_of(cell: Cell) -> tuple[str, ...]:
    """Name the arrays of the state, as the cell does or by numbers."""
    return tuple(cell.state_names) or ("h", *(f"s{i}" for i in range(1, cell.states)))


def has(cell: Cell, method: str) -> bool:
    """Whether a cell defines one of the methods itself."""
    return getattr(type(cell), method) is not getattr(Cell, method)


def as_cell(cell: Any, backend: str, name: str) -> Cell:
    """Check what a user brings as a cell, as far as that needs no data."""
    if not isinstance(cell, Cell):
        hint = "an instance, not the class" if isinstance(cell, type) else "subclass minirnn.Cell"
        raise TypeError(f"{name}: cell must be a minirnn.Cell, got {cell!r}: {hint}")
    kind = type(cell).__name__
    for what, names in (("blocks", "gates"), ("states", "state_names")):
        count = as_size(getattr(cell, what), f"{name}: {kind}.{what}")
        given = tuple(getattr(cell, names))
        if given and (len(given) != count or len(set(given)) != count or not all(isinstance(g, str) for g in given)):
            raise ValueError(
                f"{name}: {kind}.{names} must be {count} different names, as {what} says, got {given!r}: name each, or "
                f"leave {names} out"
            )
    if cell.vectors:
        raise TypeError(f"{name}: {kind} reads weights that this layer has not: use LSTMLayer(…, peepholes=True)")
    activations_of(cell)
    pair = [method for method in ("step", "step_backward") if has(cell, method)]
    if not has(cell, "equation") and (backend == "graph" or not pair):
        raise TypeError(
            f"{name}: {kind}.equation is not defined: define equation(z, *state), which returns the new state, or for "
            "backend='fused' alone step and step_backward"
        )
    if backend == "fused" and len(pair) == 1 and cell.kernel is None:
        other = "step" if pair == ["step_backward"] else "step_backward"
        raise TypeError(
            f"{name}: backend='fused' needs {kind}.{other} beside {kind}.{pair[0]}, which is not defined: define it, "
            f"or leave {pair[0]} out: equation is enough"
        )
    return cell


def checked(made: Any, cell: Cell, state: Sequence[Tensor]) -> list[Tensor]:
    """Check what a cell's equation has made."""
    what = f"{type(cell).__name__}.equation: new state"
    for new in as_tuple(made, len(state), what):
        if not isinstance(new, Tensor) or new.shape != state[-1].shape:
            ops = "use minirnn's functions and Tensor's methods, which know their derivatives"
            got = f"{new.shape}: a cell works entry by entry" if isinstance(new, Tensor) else f"{describe(new)}: {ops}"
            raise ValueError(f"{what} must be Tensors of shape {state[-1].shape}, got {got}")
    return list(made)


def next_state(
    cell: Cell, x_t: Any, state: Sequence[Tensor], mask: Any, W_xh: Any, W_hh: Any, b_h: Any = None, b_hn: Any = None,
    w_c: Any = None, W_hr: Any = None,
) -> list[Tensor]:  # fmt: skip
    """Return the new state after a step, one op for each operation: the products, and the equation between them.

    ``mask`` (N, H) is what recurrent_dropout multiplies H_{t-1} with before its products; None for nothing. ``w_c``
    holds the `vectors` of the cell one after the other, and H_t is multiplied by ``W_hr`` (H, P).
    """
    fed = state[0] if mask is None else state[0] * mask
    from_x = x_t @ W_xh
    if not cell.apart:
        z = from_x + fed @ W_hh
        own = () if w_c is None else w_c.reshape((len(cell.vectors), -1))
        h, *others = checked(cell.equation(z if b_h is None else z + b_h, *state, *own), cell, state)
        return [h if W_hr is None else h @ W_hr, *others]
    from_x = from_x if b_h is None else from_x + b_h
    J = from_x.shape[1] - fed.shape[1]
    if cell.staged:
        z = from_x[:, :J] + fed @ W_hh[:, :J]
        staged = cell.stage(z, *state)
        q = (staged if mask is None else staged * mask) @ W_hh[:, J:]
    else:
        from_h = fed @ W_hh
        z, q = from_x[:, :J] + from_h[:, :J], from_h[:, J:]
    q = q if b_hn is None else q + b_hn
    return checked(cell.equation(z, from_x[:, J:], q, *state), cell, state)
