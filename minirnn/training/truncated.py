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
from minirnn.training.batches import Batch, Piece, arrays_of, detached, going_back, state_of


class Segment(NamedTuple):
    """Steps that have been read, and the state before them, detached."""

    begin: int  # the first step, counted from where the sequence began
    x: Any  # (L, N, …)
    state: Any  # None where the sequence began


class TruncatedBatches:
    """Reads batches (T, N, …) in chunks of k1 steps.

    For each chunk the layer is unrolled again over the last k2 steps, with the parameters as they are now, from the
    state that was kept before them; so the gradients that enter in the chunk go back over these k2 steps. With k2 < k1
    the first k1 − k2 steps of a chunk are read without recording.
    """

    def __init__(self, model: Module, tbptt: Any, carry_state: bool) -> None:
        self.k1, self.k2 = _pair(tbptt)
        self.carry_state, self.model = carry_state, model
        self.recurrent = model.recurrent if isinstance(model, SequenceModel) else model
        _check(model, self.recurrent)
        self.kept: list[Segment] = []
        self.at = 0  # steps of this sequence that have been read
        self.state: Any = None

    def count(self, batch: Batch) -> int:
        """Return how many chunks a batch has."""
        return -(-len(batch.x) // self.k1)

    def pieces(self, batch: Batch, skip: int = 0) -> Iterator[Piece]:
        """Yield the batch's chunks, an update each, but for the first few that have been trained on already."""
        T = self._length(batch)
        if skip == 0 and (not self.carry_state or batch.is_start):
            self.kept, self.at, self.state = [], 0, None
        origin = self.at - skip * self.k1
        ends = [min(lo + self.k1, T) for lo in range(0, T, self.k1)]
        starts = {origin + end - self.k2 for end in ends}
        starts |= {origin + T + i * self.k1 - self.k2 for i in range(1, 1 + -(-self.k2 // self.k1))}  # of what follows
        for lo, hi in list(zip(range(0, T, self.k1), ends, strict=True))[skip:]:
            chunk = Segment(origin + lo, batch.x[lo:hi], self.state)
            yield Piece(batch.y[lo:hi], None, partial(self._predict, chunk, starts), self._keep)

    def _length(self, batch: Batch) -> int:
        if batch.lengths is not None:
            raise ValueError(
                "fit: tbptt takes rows of one length, got a batch with lengths: its chunks would end in the padding; "
                "leave tbptt out, or sort the rows into batches of one length"
            )
        for name, a in (("x", batch.x), ("y", batch.y)):
            if np.ndim(a) < 2 or len(a) != len(batch.x):
                shape = np.shape(a)
                raise ValueError(
                    f"fit: tbptt needs x and y with a target at every step, (T, N, …), got {name} of shape {shape}"
                )
        T = len(batch.x)
        if self.carry_state and T % self.k1:
            raise ValueError(
                f"fit: tbptt=({self.k1}, {self.k2}) with carry_state needs batches of a multiple of k1 steps, got "
                f"T={T}: try k1={int(np.gcd(self.k1, T))}"
            )
        return T

    def _predict(self, chunk: Segment, starts: set[int]) -> tuple[Any, Any]:
        """Return the predictions for a chunk, and what comes after: the segments read, and the final state."""
        end = chunk.begin + len(chunk.x)
        first = max(end - self.k2, 0)
        state, outputs, read, recording = chunk.state, [], [], False
        for segment in [*self.kept, *_cut(chunk, starts)]:
            if segment.begin < min(first, chunk.begin):
                continue  # too long ago
            if segment.begin >= first and not recording:
                recording = True
                state = segment.state if segment.begin < chunk.begin else detached(state)
            inside = segment.begin >= chunk.begin
            if inside:
                read.append(segment._replace(state=detached(state)))
            made, state = self._run(segment.x, state, recording)
            if inside:
                outputs.append(made if recording else made.detach())
        joined = outputs[0] if len(outputs) == 1 else concatenate(outputs)
        predictions = self.model.head(joined) if isinstance(self.model, SequenceModel) else joined
        return predictions, (read, detached(state), end)

    def _run(self, x: Any, state: Any, recording: bool) -> tuple[Any, Any]:
        with nullcontext() if recording else no_grad():
            read = self.model.embed(x, None) if isinstance(self.model, SequenceModel) else x
            outputs, final_state = self.recurrent(read, state)
        return outputs, final_state

    def _keep(self, after: Any) -> None:
        """Go on after a chunk; what no window will reach any more is let go."""
        read, self.state, self.at = after
        oldest = self.at + 1 - self.k2
        self.kept = [s for s in [*self.kept, *read] if s.begin + len(s.x) > oldest]

    def state_dict(self) -> dict[str, Any]:
        """Return what is needed to go on, as a tree of arrays."""
        kept = [[segment.begin, np.asarray(segment.x), arrays_of(segment.state)] for segment in self.kept]
        return {"state": arrays_of(self.state), "at": self.at, "kept": kept}

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """Go on from there."""
        self.state, self.at = state_of(saved["state"]), int(saved["at"])
        self.kept = [Segment(int(begin), x, state_of(state)) for begin, x, state in saved["kept"]]


def _cut(chunk: Segment, starts: set[int]) -> list[Segment]:
    """Return a chunk cut where a window begins."""
    end = chunk.begin + len(chunk.x)
    edges = [chunk.begin, *sorted(s for s in starts if chunk.begin < s < end), end]
    return [Segment(lo, chunk.x[lo - chunk.begin : hi - chunk.begin], None) for lo, hi in pairwise(edges)]


def _pair(tbptt: Any) -> tuple[int, int]:
    if not isinstance(tbptt, Sequence) or isinstance(tbptt, str) or len(tbptt) != 2:
        raise TypeError(f"fit: tbptt must be a pair (k1, k2) of steps, got {describe(tbptt)}: try (20, 40)")
    return as_size(tbptt[0], "fit: tbptt: k1"), as_size(tbptt[1], "fit: tbptt: k2")


def _check(model: Module, recurrent: Any) -> None:
    if not isinstance(recurrent, Recurrence):
        raise TypeError(f"fit: tbptt needs a recurrent model, got {type(model).__name__}")
    if going_back(recurrent) is not None:
        raise ValueError(
            f"fit: tbptt needs a layer that goes forward in time, got {recurrent.name} that goes back: its state comes "
            "from steps that have not been read"
        )
    if recurrent.batch_first:
        raise ValueError("fit: tbptt needs time first, (T, N, …), got batch_first=True: make the layer without it")
    if getattr(model, "readout", "all") != "all":
        raise ValueError(
            'fit: tbptt needs a target at every step, got readout="last": make the model with readout="all"'
        )
