"""What batches are made of, and how a model reads them: whole."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np

from minirnn.arguments import as_flag, describe
from minirnn.autograd.tensor import Tensor
from minirnn.layers import Recurrence
from minirnn.layers.module import Module

Loss = Callable[..., Tensor]
"""(predictions, targets) -> the mean over the targets, one number; see minirnn/losses.py. Where a batch has lengths and
the model predicts at every step, ``lengths=`` is passed too."""

Metric = Callable[..., float]
"""(predictions, targets) -> a figure; ``lengths=`` as of a loss."""


class Batch(NamedTuple):
    """What the model reads and should predict."""

    x: Any
    y: Any
    lengths: Any = None  # (N,) of int: how many steps of each row count
    is_start: bool = False  # whether new sequences begin here, so that no state is carried into them


class Piece(NamedTuple):
    """One update's worth of a batch."""

    y: Any  # the targets
    lengths: Any  # for the loss
    predict: Callable[[], tuple[Any, Any]]  # gives (predictions, what comes after); changes nothing
    keep: Callable[[Any], None]  # takes what comes after, to go on from there


def of_lengths(piece: Piece) -> dict[str, Any]:
    """Return what a loss or a metric gets beside predictions and targets."""
    return {} if piece.lengths is None else {"lengths": piece.lengths}


class WholeBatches:
    """Reads every batch in one piece."""

    def __init__(self, model: Module, carry_state: bool) -> None:
        self.model, self.carry_state, self.state = model, carry_state, None

    def count(self, batch: Batch) -> int:
        """Return how many pieces a batch has."""
        return 1

    def pieces(self, batch: Batch, skip: int = 0) -> Iterator[Piece]:
        """Yield the batch as it is."""
        state = self.state if self.carry_state and not batch.is_start else None
        lengths = None if batch.lengths is None or not every_step(self.model) else batch.lengths
        yield Piece(batch.y, lengths, lambda: predict(self.model, batch.x, state, batch.lengths), self._keep)

    def _keep(self, state: Any) -> None:
        self.state = detached(state)

    def state_dict(self) -> dict[str, Any]:
        """Return what is needed to go on, as a tree of arrays."""
        return {"state": arrays_of(self.state) if self.carry_state else None}

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """Go on from there."""
        self.state = state_of(saved["state"])


def every_step(model: Module) -> bool:
    """Whether a model predicts at every step, and not after the last."""
    return getattr(model, "readout", "all") == "all"


def detached(state: Any) -> Any:
    """Return a state cut off from the tape: a Tensor, or Tensors in (nested) tuples, as `Tensor.detach` does."""
    if isinstance(state, tuple | list):
        return tuple(detached(part) for part in state)
    return state.detach() if isinstance(state, Tensor) else state


def arrays_of(state: Any) -> Any:
    """Return a state as nested lists of arrays, for a file."""
    if isinstance(state, tuple | list):
        return [arrays_of(part) for part in state]
    return None if state is None else np.asarray(state)


def state_of(arrays: Any) -> Any:
    """Return the state that `arrays_of` was given."""
    if isinstance(arrays, list):
        return tuple(state_of(part) for part in arrays)
    return None if arrays is None else Tensor(arrays)


def predict(model: Module, x: Any, state: Any, lengths: Any = None) -> tuple[Any, Any]:
    """Return the predictions and the final state, None for a model without one."""
    if not model.carries_state:
        return model(x), None
    more = {} if lengths is None else {"lengths": lengths}
    predictions, final_state = model(x, state, **more)
    return predictions, final_state


def unpacked(
    batches: Iterable[Any], limit: int | None, caller: str, must_be: str = "batches must be an iterable"
) -> Iterator[Batch]:
    """Yield at most ``limit`` batches, and refuse what is none; never take a batch that is not used."""
    expected = f"{caller}: {must_be} of (x, y), (x, y, lengths) or (x, y, is_start)"
    if not isinstance(batches, Iterable):
        raise TypeError(f"{expected}, got {describe(batches)}: try task.batches(N, rng)")
    source = iter(batches)
    made = 0
    while limit is None or made < limit:
        try:
            batch = next(source)
        except StopIteration:
            return
        if not isinstance(batch, tuple | list) or len(batch) not in (2, 3):
            got = f"a {type(batch).__name__}" + (f" of {len(batch)}" if isinstance(batch, tuple | list) else "")
            raise TypeError(f"{expected}, got {got}")
        yield _named(batch, caller)
        made += 1


def _named(batch: Any, caller: str) -> Batch:
    """Return (x, y, …) as a Batch: a third item with an entry for each row is lengths."""
    if len(batch) == 2:
        return Batch(*batch)
    x, y, third = batch
    if np.ndim(third) == 1 and np.asarray(third).dtype.kind in "iu":
        return Batch(x, y, lengths=third)
    if isinstance(third, bool | np.bool_):
        return Batch(x, y, is_start=bool(third))
    expected = "lengths, an integer for each row, or is_start, True or False"
    raise TypeError(f"{caller}: the third item of a batch must be {expected}, got {describe(third)}")


def carries(model: Module, carry_state: bool, caller: str) -> bool:
    """Check ``carry_state`` against the model."""
    if not as_flag(carry_state, f"{caller}: carry_state"):
        return False
    if not model.carries_state:
        raise ValueError(f"{caller}: carry_state=True needs a model with a state, got {type(model).__name__}")
    backward = going_back(model)
    if backward is not None:
        raise ValueError(
            f"{caller}: carry_state=True needs a model that goes forward in time, got {_held(model, backward)} that "
            "goes back: its final state is that of the first step, and belongs at the end of the next batch, not at "
            "its beginning: leave carry_state out, or make the model of layers without reverse=True"
        )
    return True


def going_back(model: Module) -> Recurrence | None:
    """Return the first part of a model that goes back in time, also in part; None if all go forward."""
    if isinstance(model, Recurrence) and getattr(model, "reverse", False) is not False:
        return model
    return next((part for _, child in model.children() if (part := going_back(child)) is not None), None)


def _held(model: Module, part: Recurrence) -> str:
    return part.name if part is model else f"{type(model).__name__} with {part.name}"
