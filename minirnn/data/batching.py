"""Mini-batches of arrays that one has: shuffled or not, for some epochs or without end."""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from minirnn.arguments import Array, Rng, as_flag, as_generator, as_lengths, as_size, describe, one_of
from minirnn.data.sequences import as_numbers, layout


class Rows(NamedTuple):
    """Arrays whose rows belong together, and where the rows and the steps are in them."""

    x: Array
    y: Array
    lengths: Array | None
    batch_first: bool
    every_step: bool  # whether y has a target at every step

    @property
    def N(self) -> int:
        """The number of rows."""
        return int(self.x.shape[0 if self.batch_first else 1])

    @property
    def T(self) -> int:
        """The steps of the longest."""
        return int(self.x.shape[1 if self.batch_first else 0])

    def take(self, rows: Any) -> "Rows":
        """Take some of the rows, a slice as views; those of unequal length are cut at the longest of them."""
        if self.lengths is None:
            return self._each(rows)
        lengths = self.lengths[rows]
        taken = self._replace(lengths=None)._each(rows).steps(slice(int(lengths.max())))
        return taken._replace(lengths=lengths)

    def _each(self, rows: Any) -> "Rows":
        by_row = (rows,) if self.batch_first else (slice(None), rows)
        return self._replace(x=self.x[by_row], y=self.y[by_row if self.every_step else rows])

    def steps(self, steps: slice) -> "Rows":
        """Take some of the steps, as views; what has one target for each row keeps it."""
        by_step = (slice(None), steps) if self.batch_first else steps
        return self._replace(x=self.x[by_step], y=self.y[by_step] if self.every_step else self.y)

    def parts(self) -> tuple[Array, ...]:
        """Give (x, y) or (x, y, lengths)."""
        return (self.x, self.y) if self.lengths is None else (self.x, self.y, self.lengths)


def rows_of(x: Any, y: Any, lengths: Any, batch_first: bool, readout: Any, caller: str) -> Rows:
    """Check that arrays belong together, and find out whether y has a target at every step."""
    as_flag(batch_first, f"{caller}: batch_first")
    x, y = as_numbers(x, f"{caller}: x"), as_numbers(y, f"{caller}: y")
    if x.ndim < 2 or not x.size:
        raise ValueError(f"{caller}: x must have shape {layout(batch_first)} and not be empty, got {x.shape}")
    first, second = x.shape[:2]
    N, T = (first, second) if batch_first else (second, first)
    if readout is not None:
        one_of(readout, ("all", "last"), f"{caller}: readout")
    may_be = {"all": y.shape[:2] == x.shape[:2], "last": y.shape[:1] == (N,)}
    # With N = T numbers (N, P) may look like ids (T, N): class ids are whole, numbers have an axis of their own.
    if all(may_be.values()) and y.ndim == 2 and not batch_first and readout is None:
        raise ValueError(
            f"{caller}: y of shape {y.shape} may be a target at every step or one for each row, since T = N = {N}: "
            'say readout="all" or readout="last"'
        )
    if not (any(may_be.values()) if readout is None else may_be[readout]):
        expected = {"all": f"{(first, second)} or {(first, second, 'P')}", "last": f"{(N,)} or {(N, 'P')}"}
        wanted = f"{expected['all']}, a target at every step, or {expected['last']}, one for each row"
        swapped = y.shape[:2] == (second, first) and first != second
        hint = f": x is read as {layout(batch_first)}" + ("; did you swap time and rows in y?" if swapped else "")
        raise ValueError(f"{caller}: y must have shape {wanted}, got {y.shape}{hint}")
    every_step = may_be["all"] if readout is None else readout == "all"
    if lengths is not None:
        lengths = as_lengths(lengths, T, N, f"{caller}: lengths", batch_first)
    rows = Rows(x, y, lengths, bool(batch_first), every_step)
    check_numbers(rows, caller)
    return rows


def check_numbers(rows: Rows, caller: str) -> None:
    """Refuse a NaN among the targets that count."""
    refuse_nan(rows.y, rows, rows.every_step, f"{caller}: y")


def refuse_nan(array: Array, rows: Rows, every_step: bool, argument: str) -> None:
    """Refuse a NaN in one of the arrays, but for the padding."""
    if array.dtype.kind == "f" and (bad := np.isnan(array)).any():
        if rows.lengths is not None and every_step:
            counts = np.arange(rows.T)[:, None] < rows.lengths
            counts = counts.T if rows.batch_first else counts
            bad &= counts.reshape(*counts.shape, *(1,) * (array.ndim - 2))
        if not bad.any():
            return
        at = np.argwhere(bad)[0].tolist()
        raise ValueError(f"{argument} must hold no NaN, got one at {at}: leave such rows out, or fill them in")


class Batches(Iterator[tuple[Array, ...]]):
    """What `batches` returns: an iterator that knows where it is. It can be copied and pickled."""

    def __init__(self, rows: Rows, size: int, epochs: int | None, shuffle: bool, rng: Any) -> None:
        self._rows, self.size, self.epochs, self.shuffle, self.rng = rows, size, epochs, shuffle, rng
        self.epoch = self.at = 0  # epochs begun, and rows of this one that have been given
        self._before = rng.bit_generator.state if shuffle else None  # before this epoch's order was drawn
        self._order: Array | None = None

    @property
    def per_epoch(self) -> int:
        """How many batches an epoch has."""
        return -(-self._rows.N // self.size)

    def __next__(self) -> tuple[Array, ...]:
        if not self.epoch or self.at >= self._rows.N:
            if self.epoch == self.epochs:
                raise StopIteration
            self._begin()
        begin, self.at = self.at, min(self.at + self.size, self._rows.N)
        chosen = slice(begin, self.at) if self._order is None else self._order[begin : self.at]
        return self._rows.take(chosen).parts()

    def _begin(self) -> None:
        self.epoch, self.at = self.epoch + 1, 0
        if self.shuffle:
            self._before = self.rng.bit_generator.state
            self._order = self.rng.permutation(self._rows.N)

    def state_dict(self) -> dict[str, Any]:
        """Give where it is: with it an iterator made in the same way goes on to the same bits."""
        return {"epoch": self.epoch, "at": self.at, "before": self._before}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from where another was."""
        if not isinstance(state, Mapping) or set(state) != {"epoch", "at", "before"}:
            raise ValueError(f"Batches.load_state_dict: state must be a state_dict of Batches, got {describe(state)}")
        as_size(state["epoch"], "Batches.load_state_dict: state['epoch']", 0)
        at = as_size(state["at"], "Batches.load_state_dict: state['at']", 0)
        if at > self._rows.N or self.shuffle != (state["before"] is not None):
            raise ValueError(
                f"Batches.load_state_dict: state must be that of batches of {self._rows.N} rows with shuffle="
                f"{self.shuffle}, got one at row {at} with shuffle={state['before'] is not None}"
            )
        if self.shuffle:
            self.rng.bit_generator.state = state["before"]
        if state["epoch"]:
            self._begin()
        self.epoch, self.at = state["epoch"], state["at"]


def batches(
    x: Any,
    y: Any,
    lengths: Any = None,
    *,
    batch: int,
    epochs: int | None = None,
    shuffle: bool = True,
    rng: Rng = None,
    batch_first: bool = False,
    readout: str | None = None,
) -> Batches:
    """Give mini-batches (x, y), or (x, y, lengths), of arrays whose rows belong together; `fit` trains on them.

    Parameters
    ----------
    x : array_like (T, N, D), or ids (T, N)
        N rows of T steps.
    y : array_like
        Targets at every step, (T, N, P) or class ids (T, N), or one for each row, (N, P) or (N,).
    lengths : array_like of int (N,), optional
        How many steps of each row count; a batch is cut at the longest of its rows.
    batch : int
        Rows in a batch; the last one of an epoch has what is left.
    epochs : int, optional
        How often each row is given; without end if left out.
    shuffle : bool
        Whether each epoch has an order of its own, drawn from ``rng``; else rows come as they are, as views.
    rng : numpy.random.Generator, int or None
    batch_first : bool
        Whether x, and y at every step, are (N, T, …).
    readout : "all" or "last", optional
        Whether y has a target at every step or one for each row; only needed where T = N leaves it open.

    Returns
    -------
    Batches
        An iterator, with ``state_dict`` and ``load_state_dict``, and ``per_epoch``, the batches of an epoch.

    Raises
    ------
    TypeError, ValueError
        At the call, for arrays that do not belong together, and for a NaN in y.

    >>> [len(y) for x, y in batches([[1, 2, 3]], [0, 1, 0], batch=2, epochs=1, rng=0)]
    [2, 1]
    """
    rows = rows_of(x, y, lengths, batch_first, readout, "batches")
    size = as_size(batch, "batches: batch")
    epochs = None if epochs is None else as_size(epochs, "batches: epochs")
    return Batches(rows, size, epochs, as_flag(shuffle, "batches: shuffle"), as_generator(rng) if shuffle else None)
