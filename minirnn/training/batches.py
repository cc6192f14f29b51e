"""What batches are made of, and how a model reads them: whole."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple, cast

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
    mask: dict[str, Any]  # {"lengths": …} for a loss or a metric; empty where all targets count
    predict: Callable[[], tuple[Any, Any]]  # gives (predictions, what comes after); changes nothing
    keep: Callable[[Any], None]  # takes what comes after, to go on from there
    last: bool = True  # of its batch


class WholeBatches:
    """Reads every batch in one piece."""

    def __init__(self, model: Module, carry_state: bool) -> None:
        self.model, self.carry_state, self.state = model, carry_state, None

    def pieces(self, batch: Batch, skip: int = 0) -> Iterator[Piece]:
        """Yield the batch as it is."""
        state = self.state if self.carry_state and not batch.is_start else None
        lengths = {} if batch.lengths is None else {"lengths": batch.lengths}

        def predict() -> tuple[Any, Any]:
            if not self.model.carries_state:
                return self.model(batch.x), None
            return cast(tuple[Any, Any], self.model(batch.x, state, **lengths))

        every_step = getattr(self.model, "readout", "all") == "all"
        yield Piece(batch.y, lengths if every_step else {}, predict, self._keep)

    def _keep(self, state: Any) -> None:
        self.state = detached(state)

    def state_dict(self) -> dict[str, Any]:
        """Give what is needed to go on, as a tree of arrays."""
        return {"state": arrays_of(self.state) if self.carry_state else None}

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """Go on from there."""
        self.state = state_of(saved["state"])


def detached(state: Any) -> Any:
    """Cut a state off from the tape: a Tensor, or Tensors in (nested) tuples, as `Tensor.detach` does."""
    return _each(lambda part: part.detach() if isinstance(part, Tensor) else part, state)


def arrays_of(state: Any) -> Any:
    """Turn a state into nested tuples of arrays, for a file."""
    return _each(np.asarray, state)


def state_of(arrays: Any) -> Any:
    """Turn what `arrays_of` gave, lists for tuples, back into a state."""
    return _each(Tensor, arrays)


def _each(change: Callable[[Any], Any], state: Any) -> Any:
    if isinstance(state, tuple | list):
        return tuple(_each(change, part) for part in state)
    return None if state is None else change(state)


def unpacked(batches: Any, caller: str, must_be: str = "batches must be an iterable") -> Iterator[Batch]:
    """Yield the batches by the names of their parts, and refuse what is none: a third item for each row is lengths."""
    expected = f"{caller}: {must_be} of (x, y), (x, y, lengths) or (x, y, is_start)"
    if not isinstance(batches, Iterable):
        raise TypeError(f"{expected}, got {describe(batches)}: try task.batches(N, rng)")
    for batch in batches:
        if not isinstance(batch, tuple | list) or len(batch) not in (2, 3):
            got = f"a {type(batch).__name__}" + (f" of {len(batch)}" if isinstance(batch, tuple | list) else "")
            raise TypeError(f"{expected}, got {got}")
        x, y, third = (*batch, False)[:3]
        if np.ndim(third) == 1 and np.asarray(third).dtype.kind in "iu":
            yield Batch(x, y, lengths=third)
        elif isinstance(third, bool | np.bool_):
            yield Batch(x, y, is_start=bool(third))
        else:
            raise TypeError(
                f"{caller}: the third item of a batch must be lengths, an integer for each row, or is_start, True or "
                f"False, got {describe(third)}"
            )


def carries(model: Module, carry_state: bool, caller: str) -> bool:
    """Check ``carry_state`` against the model."""
    if not as_flag(carry_state, f"{caller}: carry_state"):
        return False
    if not model.carries_state:
        raise ValueError(f"{caller}: carry_state=True needs a model with a state, got {type(model).__name__}")
    part = going_back(model)
    if part is not None:
        held = "" if part is model else f"{type(model).__name__} with "
        raise ValueError(
            f"{caller}: carry_state=True needs a model that goes forward in time, got {held}{part.name} that goes "
            "back: its final state is that of the first step, and belongs at the end of the next batch, not at "
            "its beginning: leave carry_state out, or make the model of layers without reverse=True"
        )
    return True


def going_back(model: Module) -> Recurrence | None:
    """Find the first part of a model that goes back in time, also in part; None if all go forward."""
    if isinstance(model, Recurrence) and getattr(model, "reverse", False) is not False:
        return model
    return next((part for _, child in model.children() if (part := going_back(child)) is not None), None)
