"""How the pieces of an unroll lie in the arrays of a layer: rows as they are, or packed in lanes.

In a view steps are in the order of processing.
"""

from collections.abc import Sequence
from itertools import accumulate
from typing import Any, NamedTuple

import numpy as np

from minirnn.arguments import Array
from minirnn.kernels.chunks import chunks
from minirnn.kernels.columns import Mask
from minirnn.kernels.lanes import Lanes, Switch


class Span(NamedTuple):
    """Steps of whole rows."""

    lo: int
    hi: int
    switches: Sequence[Switch] = ()


class _View:
    """The states at the two ends of the pieces."""

    pieces: Sequence[Any]
    begins: Any  # the sequences that piece 0 begins with
    ending: Sequence[tuple[Any, Any]]  # with each piece: the lanes that end with it, and what is in them

    def begin(self, first: Sequence[Array]) -> list[Array]:
        """Return the states before piece 0."""
        return [s[self.begins] for s in first]

    def leave(self, i: int, current: Sequence[Array], last: Sequence[Array]) -> None:
        """Write the states of what ends with piece ``i``."""
        lanes, sequences = self.ending[i]
        for to, state in zip(last, current, strict=True):
            to[sequences] = state[lanes]

    def finish(self, first: Sequence[Array], current: Sequence[Array]) -> None:
        """Write the gradients of the states before piece 0."""
        for to, d in zip(first, current, strict=True):
            to[self.begins] = d


class Whole(_View):
    """Rows of a mini-batch, all T steps long, forward or in reverse, in pieces of ``segment`` steps."""

    def __init__(self, T: int, rows: slice, reverse: bool, segment: int | None) -> None:
        self.begins, self.turn = rows, slice(None, None, -1) if reverse else slice(None)
        self.pieces = [Span(lo, hi) for lo, hi in chunks(T, segment or T)]
        none = slice(0)
        self.ending = [(none, none)] * (len(self.pieces) - 1) + [(slice(None), rows)]

    def _of(self, a: Array) -> Array:
        return a[self.turn, self.begins]

    def width(self, i: int) -> int | None:
        """Return the number of rows in piece ``i``: None for all."""
        return None

    def read(self, a: Array, i: int) -> Array:
        """Return (L, n, …) of an array (T, N, …)."""
        piece = self.pieces[i]
        return self._of(a)[piece.lo : piece.hi]

    entering = room = read

    def states(self, states: Array, i: int) -> Array:
        """Return where the states of piece ``i`` go, (L + 1, n, H) of (T + 1, N, H)."""
        piece = self.pieces[i]
        return self._of(states)[piece.lo : piece.hi + 1]

    def arrive(self, i: int, current: Sequence[Any], last: Sequence[Any], like: Array) -> Sequence[Any]:
        """Return the gradients of the states after piece ``i``; ``current`` are those before the next piece."""
        return [d if d is None else d[self.begins] for d in last] if i == len(self.pieces) - 1 else current

    def mask(self, mask: Array | None, i: int, *, end: bool = False) -> Mask | None:
        """Return the mask of what is in piece ``i``."""
        return None if mask is None else Mask(mask[self.begins], mask)


class Packed(_View):
    """Sequences in lanes.

    What is written of all pieces stands in one array, piece after piece, with a row of zeros at the end, from which
    `spread` brings it in the order of time.
    """

    def __init__(self, lanes: Lanes) -> None:
        self.lanes, self.pieces, self.begins = lanes, lanes.pieces, lanes.pieces[0].first
        widths = [len(piece.first) for piece in lanes.pieces]
        self.ends = list(accumulate((p.hi - p.lo) * n for p, n in zip(lanes.pieces, widths, strict=True)))
        self.more = list(accumulate(widths))
        self.ending = []
        for piece, after in zip(lanes.pieces, [*widths[1:], 0], strict=True):
            ending = [lane for lane in range(after, len(piece.last)) if piece.last[lane] >= 0]
            self.ending.append((ending, [piece.last[lane] for lane in ending]))

    def _indices(self, index: Array, i: int) -> Array:
        piece = self.pieces[i]
        return index[piece.lo : piece.hi, : len(piece.first)]

    def width(self, i: int) -> int:
        """Return the number of lanes in piece ``i``."""
        return len(self.pieces[i].first)

    def read(self, a: Array, i: int) -> Array:
        """Return (L, n, …) of an array (T, N, …)."""
        return a.reshape(-1, a.shape[-1]).take(self._indices(self.lanes.source, i), axis=0)

    def entering(self, a: Array, i: int) -> Array:
        """Return the gradients of the outputs, (L, n, H): 0 in lanes that idle."""
        found = self.read(a, i)
        if self.lanes.idle is not None:
            found[self._indices(self.lanes.idle, i)] = 0
        return found

    def make(self, width: int, dtype: Any, *, states: bool) -> Array:
        """Return room for all pieces, with ``states`` for one step more of each: that before its first."""
        made = np.empty((self.ends[-1] + (self.more[-1] if states else 0) + 1, width), dtype)
        made[-1] = 0
        return made

    def room(self, a: Array, i: int) -> Array:
        """Return where piece ``i`` goes, (L, n, …)."""
        L, n = self._indices(self.lanes.source, i).shape
        end = self.ends[i]
        return a[end - L * n : end].reshape(L, n, -1)

    def states(self, states: Array, i: int) -> Array:
        """Return where the states of piece ``i`` go, (L + 1, n, H)."""
        L, n = self._indices(self.lanes.source, i).shape
        end = self.ends[i] + self.more[i]
        return states[end - (L + 1) * n : end].reshape(L + 1, n, -1)

    def spread(self, made: Array, shape: tuple[int, ...], *, states: bool) -> Array:
        """Return what was made, in the shape (T, N, …); 0 where no sequence is."""
        T, N, _ = shape
        place = np.full(T * N + 1, len(made) - 1)  # the last is for what idles
        for i in range(len(self.pieces)):
            target, end = self._indices(self.lanes.target, i), self.ends[i] + (self.more[i] if states else 0)
            place[target] = np.arange(end - target.size, end).reshape(target.shape)
        return made.take(place[:-1], axis=0).reshape(shape)

    def arrive(self, i: int, current: Sequence[Any], last: Sequence[Any], like: Array) -> list[Any]:
        """Return the gradients of the states after piece ``i``; ``current`` are those before the next piece."""
        lanes, sequences = self.ending[i]
        found = []
        for k, of_sequences in enumerate(last):
            d = np.zeros_like(like)
            if current:
                d[: len(current[k])] = current[k]
            if of_sequences is not None:
                d[lanes] = of_sequences[sequences]
            found.append(d)
        return found

    def mask(self, mask: Array | None, i: int, *, end: bool = False) -> Mask | None:
        """Return the mask of what is in the lanes when piece ``i`` starts, or when it ends."""
        if mask is None:
            return None
        piece = self.pieces[i]
        sequences = piece.last if end else piece.first
        return Mask(mask[[sequence if sequence >= 0 else sequences[0] for sequence in sequences]], mask)
