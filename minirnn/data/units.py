"""Units in which values are about 1 in size."""

from typing import Any

import numpy as np

from minirnn.arguments import Array, as_array, as_lengths, constant
from minirnn.data.sequences import as_finite


class Standardizer:
    """(values − mean) / std of each feature; `inverse` goes back. ``mean`` and ``std`` are arrays (D,), or ()."""

    def __init__(self, mean: Array, std: Array) -> None:
        self.mean, self.std = mean, std

    def __call__(self, values: Any) -> Array:
        """Standardize values (…, D); they keep their dtype, whole numbers become float32."""
        array = self._checked(values, "")
        return self._like(array, (array - self.mean) / self.std)

    def inverse(self, values: Any) -> Array:
        """Turn standardized values (…, D), predictions too, back into what they were made of."""
        array = self._checked(values, ".inverse")
        return self._like(array, array * self.std + self.mean)

    def _checked(self, values: Any, method: str) -> Array:
        array = as_array(constant(values, argument := f"Standardizer{method}: values"), argument)
        if self.mean.ndim and array.shape[-1:] != self.mean.shape:
            raise ValueError(
                f"Standardizer{method}: values must have shape (…, D={len(self.mean)}), as those it was fitted on, "
                f"got {array.shape}"
            )
        return array

    def _like(self, given: Array, made: Array) -> Array:
        return np.asarray(made, given.dtype if given.dtype.kind == "f" else np.float32)

    def __repr__(self) -> str:
        return f"Standardizer(mean={self.mean}, std={self.std})"


def standardize(train: Any, lengths: Any = None, *, batch_first: bool = False) -> Standardizer:
    """Find each feature's mean and standard deviation in the training part; a constant feature keeps its unit, std 1.

    ``train`` is a series (S,), which has one of each, or (…, D), such as (S, D) or (T, N, D), which has one for each
    feature. With ``lengths`` (N,), for (T, N, D), or (N, T, D) with ``batch_first``, the padding does not count. Fit it
    on the training part alone, and use it on all: held-out data must not be known before.

    >>> units = standardize([1.0, 2.0, 3.0])
    >>> units([1.0, 2.0, 3.0]), units.inverse([0.0]).tolist()
    (array([-1.2247449,  0.       ,  1.2247449], dtype=float32), [2.0])
    """
    array = as_array(constant(train, "standardize: train"), "standardize: train")
    if not array.ndim:
        raise ValueError(f"standardize: train must have shape (S,) or (…, D), got one number, {array}")
    if lengths is not None:
        if array.ndim != 3:
            raise ValueError(f"standardize: train must have shape (T, N, D) with lengths, got {array.shape}")
        steps = array.swapaxes(0, 1) if batch_first else array
        T, N = steps.shape[:2]
        array = steps[np.arange(T)[:, None] < as_lengths(lengths, T, N, "standardize: lengths", batch_first)]
    array = as_finite(array, "standardize: train").astype(np.float64)
    axes = tuple(range(max(array.ndim - 1, 1)))
    std = np.where(np.ptp(array, axis=axes) > 0, array.std(axis=axes), 1.0)
    return Standardizer(np.asarray(array.mean(axis=axes)), std)
