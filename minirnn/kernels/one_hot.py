"""One-hot inputs, held as the ids: a product with them picks rows, and one from the left adds up the rows of each id.

What the unrolls read of x (T, N, D) is slices and rows of it, X W_xh and Xᵀ dZ. `OneHot` has just these, so that no
kernel need know of it: X W_xh are rows of W_xh, and Xᵀ dZ are sums of the rows of dZ that belong to each id, in the
order of the ids and, for each, of the steps: the same bits at every run. To what asks for an array it is one, of zeros
and ones. tests/kernels/test_one_hot.py holds it against that array.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from minirnn.arguments import Array
from minirnn.kernels.sums import add_rows

SMALL = 1 << 21
"""Multiplications up to which a product with the zeros and ones takes less time than the sums id by id."""


class OneHot:
    """An array (…, D) of 0 with a single 1 in each row, at its id.

    Parameters
    ----------
    ids : (…) of int, 0 … D − 1
    width : int
        D.
    dtype : of the zeros and ones
    """

    __slots__ = ("dtype", "ids", "width")

    def __init__(self, ids: Array, width: int, dtype: Any) -> None:
        self.ids, self.width, self.dtype = ids, width, np.dtype(dtype)

    @property
    def shape(self) -> tuple[int, ...]:
        """(…, D)."""
        return *self.ids.shape, self.width

    @property
    def ndim(self) -> int:
        """One more than the ids have."""
        return self.ids.ndim + 1

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: Any) -> "OneHot":
        """Take what an index, of any axes but the last, takes."""
        return OneHot(self.ids[index], self.width, self.dtype)

    def reshape(self, *shape: int) -> "OneHot":
        """Arrange the rows otherwise; the last size stands for D."""
        return OneHot(self.ids.reshape(shape[:-1]), self.width, self.dtype)

    def swapaxes(self, i: int, j: int) -> "OneHot":
        """Exchange two axes, the last not among them."""
        return OneHot(self.ids.swapaxes(i, j), self.width, self.dtype)

    def take(self, rows: Any, axis: int = 0) -> "OneHot":
        """Take rows along the first axis."""
        return OneHot(self.ids.take(rows, axis=axis), self.width, self.dtype)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        """Return it as an array."""
        made = np.zeros((self.ids.size, self.width), dtype or self.dtype)
        made[np.arange(self.ids.size), self.ids.ravel()] = 1
        return made.reshape(self.shape)

    def __array_function__(self, function: Any, types: Any, given: Sequence[Any], settings: Any) -> Any:
        """Compute ``np.dot(self, W, out=…)``, (R, D) (D, K): rows of W."""
        if function is not np.dot or given[0] is not self:
            return NotImplemented
        # "clip": or take would write to a buffer first, in case an id is out of bounds
        return given[1].take(self.ids, axis=0, out=settings.get("out"), mode="clip")

    @property
    def T(self) -> "Transposed":
        """Rows (R, D) as columns."""
        return Transposed(self)


class Transposed:
    """One-hot columns (D, R)."""

    __slots__ = ("rows",)

    def __init__(self, rows: OneHot) -> None:
        self.rows = rows

    def dot(self, a: Array) -> Array:
        """Sum the rows of ``a`` (R, K) by their ids: (D, K)."""
        if a.size * self.rows.width <= SMALL:
            product: Array = np.asarray(self.rows, a.dtype).T.dot(a)
            return product
        ids = self.rows.ids
        order = ids.argsort(kind="stable")
        ids, found = ids[order], np.zeros((self.rows.width, a.shape[1]), a.dtype)
        edges = [0, *(np.flatnonzero(ids[1:] != ids[:-1]) + 1).tolist(), len(ids)]
        together = a.take(order, axis=0)
        for at, lo, hi in zip(ids[edges[:-1]].tolist(), edges, edges[1:], strict=False):
            found[at] = add_rows(together[lo:hi])
        return found
