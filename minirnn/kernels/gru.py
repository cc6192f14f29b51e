"""The GRU between the matrix products, on columns: features first, the rows of the mini-batch last::

r, z = σ(Z_r), σ(Z_z)        n = tanh(X_n + r ⊙ Z_n)             reset after the product
n = tanh(X_n + (r ⊙ H_{t-1}) W_hn)  reset before it: a stage
H_t = (1 − z) ⊙ n + z ⊙ H_{t-1} = n + z ⊙ (H_{t-1} − n)
"""  # noqa: D400

from collections.abc import Iterable
from typing import Any

import numpy as np

from minirnn.arguments import Array
from minirnn.kernels.cells import sigmoid_slope, tanh_slope
from minirnn.kernels.layout import Half, Layout, Pointwise


def _slopes(z: Array, J: Array, t: Array, rest: Array, H: int) -> list[Array]:
    """Write what both have in common to J, block by block, and return the blocks: n's is ∂H/∂X_n, r's is σ′.

    In z stand n, r and z, one after the other, in ``rest`` H_{t-1} − n; t is scratch.
    """
    Jn, Jr, Ju, *others = (J[:, at : at + H] for at in range(0, J.shape[1], H))
    sigmoid_slope(z[:, H : 3 * H], J[:, H : 3 * H])
    tanh_slope(z[:, :H], Jn)
    np.subtract(1.0, z[:, 2 * H : 3 * H], t)
    np.multiply(Jn, t, Jn)
    np.multiply(Ju, rest, Ju)
    return [Jn, Jr, Ju, *others]


class GRU(Pointwise):
    """Cho et al. 2014 (arXiv:1406.1078v1): the reset gate works on the product."""

    layout = Layout((2, 0, 1), (0, 1, 2), start=1, halved=2)  # n from x, r, z, n from h

    def keep(self, L: int, H: int, columns: tuple[int, ...], dtype: Any) -> Any:
        """Return what forward fills for L steps: n, r, z, Z_n, and H_{t-1} − n."""
        return [], np.empty((L, 4 * H, *columns), dtype), np.empty((L, H, *columns), dtype)

    def steps(self, kept: Any, lo: int, hi: int) -> Iterable[tuple[Any, ...]]:
        """Return what `Forward.step` gets at each step, Z first."""
        _, gates, rest = kept
        H = rest.shape[1]
        z = gates[lo:hi]
        n, r, u, side = (z[:, j * H : (j + 1) * H] for j in range(4))
        return zip(z, z[:, H : 3 * H], n, r, u, side, rest[lo:hi], strict=True)

    class Forward(Half):
        """One step, in scratch for (H, N)."""

        def __init__(self, H: int, columns: tuple[int, ...], dtype: Any) -> None:
            self.t = np.empty((H, *columns), dtype)
            self.half = np.full((2 * H, *columns), 0.5, dtype)

        def step(self, h: Any, out: Any, arrays: Any) -> None:
            """Turn Z into the gates and the candidate, in place, and write H_t."""
            _, sigmoids, n, r, u, side, rest = arrays
            t, half, multiply, add, tanh = self.t, self.half, np.multiply, np.add, np.tanh
            tanh(sigmoids, sigmoids)  # their Z come halved
            multiply(sigmoids, half, sigmoids)
            add(sigmoids, half, sigmoids)
            multiply(r, side, t)
            add(n, t, n)
            tanh(n, n)
            np.subtract(h, n, rest)
            multiply(u, rest, out)
            add(out, n, out)

    class Backward(Half):
        """The derivatives of a few steps at once, and one step of the chain."""

        def __init__(self, S: int, H: int, columns: tuple[int, ...], dtype: Any) -> None:
            self.local = np.empty((S, 4 * H, *columns), dtype)  # ∂H/∂X_n, ∂H/∂Z of r, z and n
            self.views = list(self.local.reshape(S, 4, H, *columns))
            self.t = np.empty((S, H, *columns), dtype)
            self.direct = np.empty((H, *columns), dtype)

        def parts(self, dz: Array) -> Array:
            """Return the view of dZ that `step` writes to."""
            return dz.reshape(4, *self.direct.shape)

        def slopes(self, kept: Any, lo: int, hi: int, output: Any) -> list[Any]:
            """Make the derivatives of the steps ``lo`` … ``hi``; return what `step` gets at each."""
            _, gates, rest = kept
            z, t, H = gates[lo:hi], self.t[: hi - lo], rest.shape[1]
            _, r, u, side = (z[:, j * H : (j + 1) * H] for j in range(4))
            Jn, Jr, _, Jside = _slopes(z, self.local[: hi - lo], t, rest[lo:hi], H)
            np.multiply(Jn, r, Jside)
            np.multiply(Jn, side, t)
            np.multiply(Jr, t, Jr)
            return list(zip(self.views, u, strict=False))

        def step(self, dh: Any, parts: Any, arrays: Any) -> None:
            """Write dZ, and the direct part of dH of the step before, from dH."""
            np.multiply(arrays[0], dh, parts)
            np.multiply(arrays[1], dh, self.direct)


class GRUResetBefore(Pointwise):
    """Cho et al. 2014 (arXiv:1406.1078v3): the reset gate works on H_{t-1}, before its product with W_hn."""

    layout = Layout((2, 0, 1), (0, 1), start=1, halved=2, stage=2)  # n, r, z

    def keep(self, L: int, H: int, columns: tuple[int, ...], dtype: Any) -> Any:
        """Return what forward fills for L steps: n, r, z, then H_{t-1} − n, H_{t-1} and r ⊙ H_{t-1}."""
        return [], np.empty((L, 3 * H, *columns), dtype), *(np.empty((L, H, *columns), dtype) for _ in range(3))

    def steps(self, kept: Any, lo: int, hi: int) -> Iterable[tuple[Any, ...]]:
        """Return what `Forward.step` gets at each step, Z first."""
        _, gates, rest, before, staged = kept
        H = rest.shape[1]
        z = gates[lo:hi]
        n, r, u = (z[:, j * H : (j + 1) * H] for j in range(3))
        return zip(z, z[:, H:], n, r, u, rest[lo:hi], before[lo:hi], staged[lo:hi], strict=True)

    def staged(self, kept: Any, lo: int, hi: int, N: int) -> Array:
        """Return r ⊙ H_{t-1} of the steps ``lo`` … ``hi``, rows first: (steps, N, H)."""
        columns: Array = kept[4][lo:hi]
        return columns.reshape(*columns.shape[:2], N).swapaxes(1, 2)

    class Forward:
        """One step, in scratch for (H, N)."""

        def __init__(self, H: int, columns: tuple[int, ...], dtype: Any) -> None:
            self.half = np.full((2 * H, *columns), 0.5, dtype)

        def stage(self, h: Any, arrays: Any) -> Any:
            """Make the gates, and return r ⊙ H_{t-1}, and n, to which its product is to be added."""
            _, sigmoids, n, r, _, _, before, staged = arrays
            np.tanh(sigmoids, sigmoids)
            np.multiply(sigmoids, self.half, sigmoids)
            np.add(sigmoids, self.half, sigmoids)
            np.copyto(before, h)
            np.multiply(r, h, staged)
            return staged, n

        def step(self, h: Any, out: Any, arrays: Any) -> None:
            """Make the candidate, and write H_t."""
            _, _, n, _, u, rest, _, _ = arrays
            np.tanh(n, n)
            np.subtract(h, n, rest)
            np.multiply(u, rest, out)
            np.add(out, n, out)

    class Backward(Half):
        """The derivatives of a few steps at once, and one step of the chain, in two halves around the product."""

        def __init__(self, S: int, H: int, columns: tuple[int, ...], dtype: Any) -> None:
            self.local = np.empty((S, 3 * H, *columns), dtype)  # ∂H/∂Z_n, ∂(r ⊙ H)/∂Z_r, ∂H/∂Z_z
            self.views = [(J[:H], J[H : 2 * H], J[2 * H :]) for J in self.local]
            self.t = np.empty((S, H, *columns), dtype)
            self.staged = np.empty((H, *columns), dtype)
            self.direct = np.empty((H, *columns), dtype)

        def parts(self, dz: Array) -> tuple[Any, ...]:
            """Return the views of dZ that `step` writes to."""
            H = len(self.direct)
            return dz[:H], dz[H : 2 * H], dz[2 * H :]

        def slopes(self, kept: Any, lo: int, hi: int, output: Any) -> list[Any]:
            """Make the derivatives of the steps ``lo`` … ``hi``; return what `step` gets at each."""
            _, gates, rest, before, _ = kept
            z, H = gates[lo:hi], rest.shape[1]
            _, Jr, _ = _slopes(z, self.local[: hi - lo], self.t[: hi - lo], rest[lo:hi], H)
            np.multiply(Jr, before[lo:hi], Jr)
            return list(zip(self.views, z[:, 2 * H :], z[:, H : 2 * H], strict=False))

        def step(self, dh: Any, parts: Any, arrays: Any) -> Any:
            """Write dZ_n and dZ_z; return dZ_n, whose product with W_hn is the gradient of r ⊙ H_{t-1}."""
            (Jn, _, Ju), keeping, _ = arrays
            np.multiply(Jn, dh, parts[0])
            np.multiply(Ju, dh, parts[2])
            np.multiply(keeping, dh, self.direct)
            return parts[0]

        def stage(self, parts: Any, arrays: Any) -> None:
            """Take ``staged``, the gradient of r ⊙ H_{t-1}, on to Z_r and, in place, to H_{t-1}."""
            np.multiply(arrays[0][1], self.staged, parts[1])
            np.multiply(self.staged, arrays[2], self.staged)
