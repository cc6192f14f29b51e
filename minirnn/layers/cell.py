"""The slot for a cell of one's own, and messages clipped on their way back."""

from collections.abc import Sequence
from typing import Any

from minirnn.arguments import Array, as_size
from minirnn.autograd.op import Op
from minirnn.autograd.tensor import Tensor
from minirnn.kernels.clip import clipped


class Cell:
    """What a recurrent layer does at a step once Z_t = X_t W_xh + H_{t-1} W_hh + b_h is there, entry by entry.

    The layer owns the parameters and makes every product; a cell has neither. Subclass it, and pass an instance to
    ``RecurrentLayer(D, H, cell=…)``, which then has W_xh (D, G·H), W_hh (H, G·H), b_h (G·H,).

    Attributes
    ----------
    blocks : int
        G: how many pre-activations each neuron has. 1 unless the subclass says otherwise.
    states : int
        How many arrays (N, H) the state consists of. The first one is the output and what W_hh is multiplied with.

    Notes
    -----
    ``backend="fused"`` needs `step` and `step_backward`, on arrays; "graph" needs `equation`, on Tensors, and so does a
    second derivative with either. Give both, and the tests can hold one against the other: `gradcheck` the fused layer.
    See examples/07_a_cell_of_your_own.py.

    >>> import minirnn as mr
    >>> class Leaky(mr.Cell):
    ...     def equation(self, z, h):
    ...         return (0.9 * h + 0.1 * mr.tanh(z),)
    >>> layer = mr.RecurrentLayer(3, 5, cell=Leaky(), backend="graph")
    >>> layer([[[1.0, 2.0, 3.0]]] * 7).outputs.shape
    (7, 1, 5)
    """

    blocks: int = 1
    states: int = 1

    def step(self, z: Array, *state: Array) -> tuple[tuple[Array, ...], Any]:
        """Return the new state, and whatever `step_backward` needs.

        Parameters
        ----------
        z : array (N, G·H)
        state : arrays (N, H), as many as `states`
            All of them are this call's own.

        Returns
        -------
        (new state, kept) : a tuple of `states` arrays (N, H) in z's dtype, and anything
        """
        raise NotImplementedError(
            f"{type(self).__name__}: backend='fused' needs step(z, *state) and step_backward(d_state, kept): "
            "define them, or use backend='graph' with equation(z, *state)"
        )

    def step_backward(self, d_state: tuple[Array, ...], kept: Any) -> tuple[Array, tuple[Array, ...]]:
        """Return ∂L/∂z and the gradients of the state before, past the product.

        Parameters
        ----------
        d_state : tuple of arrays (N, H)
            The gradients of the new state.
        kept : what `step` returned beside it

        Returns
        -------
        (dz, d_state) : (N, G·H), and a tuple of (N, H). What flows back through W_hh is added by the layer.
        """
        raise NotImplementedError(
            f"{type(self).__name__}: backward with backend='fused' needs step_backward(d_state, kept): "
            "define it, or use backend='graph' with equation(z, *state)"
        )

    def equation(self, z: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
        """Return the new state as Tensors, with minirnn's ops; shapes as in `step`."""
        raise NotImplementedError(
            f"{type(self).__name__}: backend='graph', step() and create_graph need equation(z, *state): define it with "
            "Tensors and minirnn's functions"
        )


def as_cell(cell: Any, backend: str, name: str) -> Cell:
    """Check the setting of the same name, as far as that needs no data."""
    if not isinstance(cell, Cell):
        hint = "an instance, not the class" if isinstance(cell, type) else "subclass minirnn.Cell"
        raise TypeError(f"{name}: cell must be a minirnn.Cell, got {cell!r}: {hint}")
    kind = type(cell).__name__
    as_size(cell.blocks, f"{name}: {kind}.blocks")
    as_size(cell.states, f"{name}: {kind}.states")
    needed = ("step", "step_backward") if backend == "fused" else ("equation",)
    for method in needed:
        if getattr(type(cell), method) is getattr(Cell, method):
            other = "'graph' and equation" if backend == "fused" else "'fused', step and step_backward"
            raise TypeError(
                f"{name}: backend={backend!r} needs {kind}.{method}, which is not defined: define it, or use "
                f"backend={other}"
            )
    return cell


def checked(made: Any, cell: Cell, state: Sequence[Tensor]) -> Sequence[Tensor]:
    """Check what a cell's equation has made."""
    what = f"{type(cell).__name__}.equation: new state"
    if not isinstance(made, tuple | list) or len(made) != len(state):
        got = f"{len(made)} of them" if isinstance(made, tuple | list) else type(made).__name__
        raise TypeError(f"{what} must be a tuple of {len(state)}, got {got}: try a comma, as in (h,)")
    for new in made:
        if not isinstance(new, Tensor) or new.shape != state[0].shape:
            got = getattr(new, "shape", type(new).__name__)
            raise ValueError(
                f"{what} must be Tensors of shape {state[0].shape}, got {got}: a cell works entry by entry"
            )
    return made


def _same(x: Array, *, largest: float) -> Array:
    return x


def _clipped(g: Any, largest: float) -> Array:
    if isinstance(g, Tensor):
        raise RuntimeError(
            "create_graph: a message that is clipped has no second derivative: leave message_clip out for it, or clip "
            "the gradients of the parameters with clip_grad_norm instead"
        )
    return clipped(g, largest, 1)


clip_message = Op(_same, "clip_message", view=True)
clip_message.derivative(x=_clipped)
"""H_t as it is, but that no row of dL/dH_t goes back with a norm above ``largest``."""
