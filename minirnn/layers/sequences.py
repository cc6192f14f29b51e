"""Where the sequences of a mini-batch lie: rows of unequal lengths, and resets within them."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from minirnn.arguments import Array, as_lengths, describe
from minirnn.kernels import falling, lanes


class Sequences(NamedTuple):
    """Every sequence of a mini-batch (T, N): one to a row, or more where a reset begins another."""

    T: int
    N: int
    row: Array  # (sequences,) of int, as the next two
    start: Array  # the first step in time
    length: Array
    given: Array  # (sequences,) of bool: whether it starts from the state that the caller passes for its row
    last: Array  # (N,) of int: which sequence is processed last in each row
    reverse: bool

    @property
    def one_to_a_row(self) -> bool:
        """Whether sequence n is row n, and starts from the state given."""
        return len(self.row) == self.N and bool(self.given.all())

    def steps(self) -> Iterator[tuple[Array, Array, Array]]:
        """Yield for each step in the order of processing which sequences have it, and their steps in time and rows.

        The sequences are in the order of falling length, so that each step has the first few of them.
        """
        order = np.argsort(-self.length, kind="stable")
        for k in range(int(self.length.max())):
            now = order[: int((self.length > k).sum())]
            yield now, self.start[now] + (self.length[now] - 1 - k if self.reverse else k), self.row[now]

    def packed(self, worth: float, segment: int | None) -> lanes.Lanes:
        """Return them in lanes; see `minirnn.kernels.lanes.pack`."""
        return lanes.pack(*self._places(), self.T * self.N, worth, segment=segment)

    def falling(self) -> falling.Falling:
        """Return them by falling length; see `minirnn.kernels.falling.plan`."""
        return falling.plan(*self._places())

    def _places(self) -> tuple[Array, Array, int]:
        """Return the row of x (T·N, D) that each reads first, how many it reads, and how far it is to the next one."""
        first = (self.start + (self.length - 1 if self.reverse else 0)) * self.N + self.row
        return first, self.length, -self.N if self.reverse else self.N

    def valid(self) -> Array:
        """Return (T, N) of bool: where any sequence is."""
        ends = np.zeros(self.N, int)
        np.maximum.at(ends, self.row, self.start + self.length)
        return np.arange(self.T)[:, None] < ends


def find(T: int, N: int, lengths: Any, reset: Any, batch_first: bool, reverse: bool, name: str) -> Sequences | None:
    """Check both arguments; return None where every row is one sequence of T steps from the state given."""
    if lengths is None and reset is None:
        return None
    ends = np.full(N, T) if lengths is None else as_lengths(lengths, T, N, f"{name}: lengths")
    begins = None if reset is None else _reset(reset, T, N, batch_first, name)
    if (ends == T).all() and (begins is None or not begins[reverse:].any()):  # nothing flows to what is before t = 0
        return None
    if begins is None or not begins.any():
        rows = np.arange(N)
        return Sequences(T, N, rows, np.zeros(N, int), ends, np.ones(N, bool), rows, reverse)
    fresh = begins[0].copy()
    begins = begins & (np.arange(T)[:, None] < ends)
    begins[0] = True
    row, start = np.nonzero(begins.T)  # by row, then by time
    count = np.bincount(row, minlength=N)
    after = np.cumsum(count)
    end = np.append(start[1:], 0)
    end[after - 1] = ends
    earliest, latest = after - count, after - 1
    given = np.zeros(len(row), bool)
    given[latest if reverse else earliest] = reverse or ~fresh
    return Sequences(T, N, row, start, end - start, given, earliest if reverse else latest, reverse)


def _reset(reset: Any, T: int, N: int, batch_first: bool, name: str) -> Array:
    try:
        array = np.asarray(reset)
    except ValueError:
        raise TypeError(f"{name}: reset must be booleans, got a ragged list: try reset.astype(bool)") from None
    shape, letters = ((N, T), "(N={}, T={})") if batch_first else ((T, N), "(T={}, N={})")
    if array.dtype != np.bool_:
        raise TypeError(f"{name}: reset must be booleans, got {describe(array)}: try reset.astype(bool)")
    if array.shape != shape:
        hint = "did you swap time and rows?" if array.shape == shape[::-1] else "one for each step of each row"
        raise ValueError(f"{name}: reset must have shape {letters.format(*shape)}, got {array.shape}: {hint}")
    return array.T if batch_first else array
