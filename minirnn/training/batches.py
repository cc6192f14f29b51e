"""What batches are made of, and how a model reads them: whole."""

from collections.abc import Callable, Iterable, Iterator
from copy import deepcopy
from functools import partial
from typing import Any, NamedTuple, TypeVar

import numpy as np

from minirnn.arguments import as_flag, describe
from minirnn.autograd.tensor import Tensor
from minirnn.layers import Recurrence, SequenceModel
from minirnn.layers.module import Module
from minirnn.tasks import Chunk, TimeMajor

Loss = Callable[..., Tensor]
"""(predictions, targets) -> the mean over the targets, one number; see minirnn/losses.py, of which sums, made by
``functools.partial`` with ``reduction="sum"``, are known and taken as such. Where a batch has lengths and
the model predicts at every step, ``lengths=`` is passed too, and ``batch_first=True`` if these are (N, T, …)."""
R = TypeVar("R")

Metric = Callable[..., float]
"""(predictions, targets) -> a figure; ``lengths=`` and ``batch_first=`` as of a loss."""


class Batch(NamedTuple):
    """What the model reads and should predict, in the model's layout."""

    x: Any
    y: Any
    lengths: Any = None  # (N,) of int: how many steps of each row count
    is_start: bool = False  # whether new sequences begin here, so that no state is carried into them
    where: str = ""  # how errors name it


class Piece(NamedTuple):
    """One update's worth of a batch."""

    y: Any  # the targets
    mask: dict[str, Any]  # lengths=, batch_first= for a loss or a metric; empty where all targets count
    predict: Callable[[], tuple[Any, Any]]  # gives (predictions, what comes after); changes nothing
    keep: Callable[[Any], None]  # takes what comes after, to go on from there
    last: bool = True  # of its batch

    def measured(self, function: Callable[..., R], predictions: Any, what: str) -> R:
        """Call a loss or a metric; one that takes no mask is named."""
        try:
            return function(predictions, self.y, **self.mask)
        except TypeError as error:
            if not any(f"'{name}'" in str(error) for name in self.mask):
                raise
            raise TypeError(
                f"{what} must take {' and '.join(f'{name}=' for name in self.mask)} where rows differ in length, got "
                f"{error}: lengths say how many steps of each row count, batch_first that targets are (N, T, …)"
            ) from error

    def lost(self, loss: Loss, predictions: Any, caller: str) -> Any:
        """Call a loss, which must give one number."""
        value: Any = self.measured(loss, predictions, f"{caller}: loss")
        if (value.size if isinstance(value, Tensor) else np.size(value)) == 1:
            return value
        raise ValueError(
            f'{caller}: loss must give one number, got {describe(value)}: take its mean, or reduction="mean" or "sum"'
        )


class WholeBatches:
    """Reads every batch in one piece."""

    def __init__(self, model: Module, carry_state: bool, mixing: Any = None) -> None:
        self.model, self.carry_state, self.state, self.mixing = model, carry_state, None, mixing

    def pieces(self, batch: Batch, skip: int = 0) -> Iterator[Piece]:
        """Yield the batch as it is."""
        state = self.state if self.carry_state and not batch.is_start else None
        lengths = {} if batch.lengths is None else {"lengths": batch.lengths}

        def predict() -> tuple[Any, Any]:
            if not self.model.carries_state:
                return self.model(batch.x), None
            try:
                x = batch.x if self.mixing is None else self.mixing(batch, state)
                made: tuple[Any, Any] = self.model(x, state, **lengths)
            except ValueError:
                check_rows(self.model, batch, state)
                raise
            return made

        every_step = getattr(self.model, "readout", "all") == "all"
        mask = lengths | layout_of(self.model) if lengths and every_step else {}
        yield Piece(batch.y, mask, predict, partial(self._keep, batch.x) if self.carry_state else _let_go)

    def _keep(self, x: Any, state: Any) -> None:
        self.state = apart(detached(state), x)

    def state_dict(self) -> dict[str, Any]:
        """Give what is needed to go on, as a tree of arrays."""
        return {"state": arrays_of(self.state) if self.carry_state else None}

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """Go on from there."""
        self.state = state_of(saved["state"])


def _let_go(state: Any) -> None:
    """Keep nothing: the next batch starts anew."""


def detached(state: Any) -> Any:
    """Cut a state off from the tape: a Tensor, or Tensors in (nested) tuples, as `Tensor.detach` does."""
    return _each(lambda part: part.detach() if isinstance(part, Tensor) else part, state)


def apart(state: Any, x: Any) -> Any:
    """Copy what of a detached state lies in a batch's memory: whoever made the batch may fill it anew."""
    read = [np.asarray(a) for a in (x if isinstance(x, tuple) else (x,)) if isinstance(a, np.ndarray | Tensor)]
    return _each(
        lambda part: copied(part) if any(np.may_share_memory(a, np.asarray(part)) for a in read) else part, state
    )


def copied(a: Any) -> Any:
    """Copy what a batch holds, but for a Tensor that asks for a gradient."""
    return a if getattr(a, "requires_grad", False) else deepcopy(a)


def check_rows(model: Module, batch: Batch, state: Any) -> None:
    """Refuse a batch whose rows are not those of the state that is carried into it."""
    arrays: list[Any] = []
    _each(lambda part: arrays.append(np.shape(part)), state)
    carried, N = (arrays[0][:1], np.shape(batch.x)[1 - rows_first(model) :][:1]) if arrays else ((), ())
    if carried != N and carried and N:
        raise ValueError(
            f"{batch.where} has {N[0]} rows, and the state that carry_state=True brings from the one before has "
            f"{carried[0]}: leave out a last batch that is smaller, or leave carry_state out"
        )


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


def unpacked(model: Module, batches: Any, caller: str, must_be: str = "batches must be an iterable") -> Iterator[Batch]:
    """Yield the batches by the names of their parts, as the model reads them, and refuse what is none.

    A third item for each row is lengths. What a task gave has time first; any other is in the model's layout.
    """
    expected = f"{caller}: {must_be} of (x, y), (x, y, lengths) or (x, y, is_start)"
    if not isinstance(batches, Iterable):
        raise TypeError(f"{expected}, got {describe(batches)}: try task.batches(N, rng)")
    for number, batch in enumerate(batches, 1):
        if not isinstance(batch, (tuple, list)) or len(batch) not in (2, 3):
            got = f"a {type(batch).__name__}" + (f" of {len(batch)}" if isinstance(batch, tuple | list) else "")
            hint = ": arrays go in a tuple, (x, y)" if isinstance(batches, list) and len(batches) in (2, 3) else ""
            raise TypeError(f"{expected}, got {got}{hint}")
        if isinstance(batch, (TimeMajor, Chunk)) and rows_first(model):
            batch = batch.rows_first()
        x, y, third = (*batch, False)[:3]
        where = f"{caller}: batch {number}"
        _check_axes(model, x, y, where)
        if isinstance(third, (bool, np.bool_)):
            yield Batch(x, y, is_start=bool(third), where=where)
        elif np.ndim(third) == 1 and np.asarray(third).dtype.kind in "iu":
            yield Batch(x, y, lengths=third, where=where)
        else:
            raise TypeError(
                f"{caller}: the third item of a batch must be lengths, an integer for each row, or is_start, True or "
                f"False, got {describe(third)}"
            )


def _check_axes(model: Module, x: Any, y: Any, where: str) -> None:
    """Refuse targets whose time and rows are exchanged; what a model of one's own predicts nobody knows."""
    if not isinstance(model, (SequenceModel, Recurrence)) or (first := getattr(model, "batch_first", None)) is None:
        return
    read, of_y, first = getattr(x, "shape", ()), getattr(y, "shape", ()), int(first)
    every_step = getattr(model, "readout", "all") == "all"
    right, exchanged = (read[:2], read[1::-1]) if every_step else (read[1 - first :][:1], read[first:][:1])
    if of_y[: len(right)] == exchanged != right:
        layout = "(N, T, …)" if first else "(T, N, …)"
        raise ValueError(
            f"{where}: y must have {'a target at every step' if every_step else 'one target for each row'}, got "
            f"{of_y} for x of shape {read}: the model reads {layout}, batch_first={bool(first)}: exchange the first "
            f"two axes of {'one of them' if every_step else 'x'}, or make the layer with batch_first={not first}"
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


def layout_of(model: Module) -> dict[str, bool]:
    """Return what a loss or a figure of every step is to be told of the layout."""
    return {"batch_first": True} if rows_first(model) else {}


def rows_first(model: Module) -> bool:
    """Whether a model reads and predicts (N, T, …) and not (T, N, …): what it says itself, else no part may do so."""
    part = next((part for part in _saying(model) if part.batch_first), None)
    if part is None or part is model:
        return part is model
    name = type(model).__name__
    raise ValueError(
        f"{name}: batch_first must be set, got none and in it a {type(part).__name__} with batch_first=True: set it on "
        f"the {name}, to True if it reads and predicts (N, T, …), to False if (T, N, …)"
    )


def _saying(model: Any) -> Iterator[Any]:
    """Yield the outermost modules that have a ``batch_first``."""
    if hasattr(model, "batch_first"):
        yield model
    else:
        for _, child in model.children():
            yield from _saying(child)


def going_back(model: Module) -> Recurrence | None:
    """Find the first part of a model that goes back in time, also in part; None if all go forward."""
    if isinstance(model, Recurrence) and getattr(model, "reverse", False) is not False:
        return model
    return next((part for _, child in model.children() if (part := going_back(child)) is not None), None)
