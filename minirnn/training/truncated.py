"""Truncated BPTT(k1, k2) in training: an update every k1 steps, its gradient sent back over the last k2."""

from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from functools import partial
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from minirnn.arguments import as_size, describe
from minirnn.autograd.functions import concatenate
from minirnn.autograd.modes import no_grad
from minirnn.layers import Recurrence, SequenceModel
from minirnn.layers.module import Module
from minirnn.training.batches import Batch, Piece, apart, arrays_of, check_rows, copied, detached, going_back, state_of


class Segment(NamedTuple):
    """Steps that have been read, and the state before them, detached."""

    begin: int  # the first step, counted from where the sequence began
    x: Any  # (L, N, …), a copy where it is kept
    state: Any  # None where the sequence began


class TruncatedBatches:
    """Reads batches (T, N, …) in chunks of k1 steps.

    For each chunk the layer is unrolled again over the last k2 steps, with the parameters as they are now, from the
    state that was saved before them; so the gradients that enter in the chunk go back over these k2 steps. With k2 < k1
    the first k1 − k2 steps of a chunk are read without recording.
    """

    def __init__(self, model: Module, tbptt: Any, carry_state: bool) -> None:
        if not isinstance(tbptt, Sequence) or isinstance(tbptt, str) or len(tbptt) != 2:
            raise TypeError(f"fit: tbptt must be a pair (k1, k2) of steps, got {describe(tbptt)}: try (20, 40)")
        self.k1, self.k2 = (as_size(k, f"fit: tbptt: {name}") for k, name in zip(tbptt, ("k1", "k2"), strict=True))
        self.carry_state, self.model = carry_state, model
        self.recurrent: Any = model.recurrent if isinstance(model, SequenceModel) else model
        if not isinstance(self.recurrent, Recurrence):
            raise TypeError(f"fit: tbptt needs a recurrent model, got {type(model).__name__}")
        back = f"{self.recurrent.name} that goes back: its state comes from steps that have not been read"
        last = 'readout="last": make the model with readout="all"'
        for wrong, needed, got in (
            (going_back(self.recurrent) is not None, "a layer that goes forward in time", back),
            (self.recurrent.batch_first, "time first, (T, N, …)", "batch_first=True: make the layer without it"),
            (getattr(model, "readout", "all") != "all", "a target at every step", last),
        ):
            if wrong:
                raise ValueError(f"fit: tbptt needs {needed}, got {got}")
        self.saved: list[Segment] = []
        self.at = 0  # steps of this sequence that have been read
        self.state: Any = None

    def pieces(self, batch: Batch, skip: int = 0) -> Iterator[Piece]:
        """Yield the batch's chunks, an update each, but for the first few that have been trained on already."""
        self._check_steps(batch)
        if skip == 0 and (not self.carry_state or batch.is_start):
            self.saved, self.at, self.state = [], 0, None
        check_rows(self.model, batch, self.state)
        origin = self.at - skip * self.k1
        for lo in range(skip * self.k1, len(batch.x), self.k1):
            chunk = Segment(origin + lo, batch.x[lo : lo + self.k1], self.state)
            predict = partial(self._predict, chunk, origin + len(batch.x))
            yield Piece(batch.y[lo : lo + self.k1], {}, predict, self._keep, last=lo + self.k1 >= len(batch.x))

    def _check_steps(self, batch: Batch) -> None:
        if batch.lengths is not None:
            raise ValueError(
                "fit: tbptt takes rows of one length, got a batch with lengths: its chunks would end in the padding; "
                "leave tbptt out, or sort the rows into batches of one length"
            )
        T = len(batch.x)
        for name, a in (("x", batch.x), ("y", batch.y)):
            if np.ndim(a) < 2 or len(a) != T:
                raise ValueError(
                    f"fit: tbptt needs x and y with a target at every step, (T, N, …), got {name} of shape "
                    f"{np.shape(a)}"
                )
        if self.carry_state and T % self.k1:
            raise ValueError(
                f"fit: tbptt=({self.k1}, {self.k2}) with carry_state needs batches of a multiple of k1 steps, got "
                f"T={T}: try k1={int(np.gcd(self.k1, T))}"
            )

    def _predict(self, chunk: Segment, last: int) -> tuple[Any, Any]:
        """Give the predictions for a chunk, and what comes after: the segments read, and the final state."""
        end = chunk.begin + len(chunk.x)
        window = max(end - self.k2, 0)  # its first step
        before = [segment for segment in self.saved if segment.begin >= window]
        state = before[0].state if before else chunk.state
        outputs, read = [], []
        for segment in [*before, *self._cut(chunk, last)]:
            if segment.begin == window:
                state = detached(state)
            if segment.begin >= chunk.begin:
                read.append(Segment(segment.begin, copied(segment.x), apart(detached(state), chunk.x)))
            with nullcontext() if segment.begin >= window else no_grad():
                x = self.model.embed(segment.x, None) if isinstance(self.model, SequenceModel) else segment.x
                made, state = self.recurrent(x, state)
            if segment.begin >= chunk.begin:
                outputs.append(made)
        joined = outputs[0] if len(outputs) == 1 else concatenate(outputs)
        predictions = self.model.head(joined) if isinstance(self.model, SequenceModel) else joined
        return predictions, (read, apart(detached(state), chunk.x), end)

    def _cut(self, chunk: Segment, last: int) -> list[Segment]:
        """Cut a chunk where a window begins, k2 steps before an update: every k1 steps, at ``last``, and from there."""
        ends = [(s, s + self.k2) for s in range(chunk.begin + 1, chunk.begin + len(chunk.x))]
        starts = [s for s, end in ends if (end if end < last else end - last) % self.k1 == 0]
        edges = [chunk.begin, *starts, chunk.begin + len(chunk.x)]
        return [Segment(lo, chunk.x[lo - chunk.begin : hi - chunk.begin], None) for lo, hi in pairwise(edges)]

    def _keep(self, after: Any) -> None:
        """Go on after a chunk; what no window will reach any more is let go."""
        read, self.state, self.at = after
        oldest = self.at + 1 - self.k2
        self.saved = [s for s in [*self.saved, *read] if s.begin + len(s.x) > oldest]

    def state_dict(self) -> dict[str, Any]:
        """Give what is needed to go on, as a tree of arrays."""
        return {
            "state": arrays_of(self.state),
            "at": self.at,
            "kept": [[segment.begin, np.asarray(segment.x), arrays_of(segment.state)] for segment in self.saved],
        }

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """Go on from there."""
        self.state, self.at = state_of(saved["state"]), int(saved["at"])
        self.saved = [Segment(int(begin), x, state_of(state)) for begin, x, state in saved["kept"]]
