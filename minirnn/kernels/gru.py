"""The GRU between the matrix products, on columns: features first, the rows of the mini-batch last::

r, z = σ(Z_r), σ(Z_z)        n = tanh(X_n + r ⊙ Z_n)             reset after the product
n = tanh(X_n + (r ⊙ H_{t-1}) W_hn)  reset before it: a stage
H_t = (1 − z) ⊙ n + z ⊙ H_{t-1} = n + z ⊙ (H_{t-1} − n)
"""  # noqa: D400

from typing import Any

import numpy as np

from minirnn.arguments import Array
from minirnn.kernels.cells import Gated, Half, Layout, blocks, rows_first, sigmoid_slope, tanh_slope


class GRU(Gated):
    """Cho et al. 2014 (arXiv:1406.1078v1): the reset gate works on the product. It saves H_{t-1} − n."""

    layout = Layout((2, 0, 1), (0, 1, 2), start=1, halved=2)  # n from x, r, z, n from h

    class Forward(Half):
        """One step, in scratch for (H, N)."""

        def __init__(self, H: int, columns: tuple[int, ...], dtype: Any) -> None:
            self.t = np.empty((H, *columns), dtype)
            self.half = np.full((2 * H, *columns), 0.5, dtype)

        def step(self, h: Any, out: Any, arrays: Any) -> None:
            """Turn Z into the gates and the candidate, in place, and write H_t."""
            _, sigmoids, n, r, u, side, rest = arrays
            t, half = self.t, self.half
            np.tanh(sigmoids, sigmoids)  # their Z come halved
            np.multiply(sigmoids, half, sigmoids)
            np.add(sigmoids, half, sigmoids)
            np.multiply(r, side, t)
            np.add(n, t, n)
            np.tanh(n, n)
            np.subtract(h, n, rest)
            np.multiply(u, rest, out)
            np.add(out, n, out)

    class Backward(Half):
        """The derivatives of a few steps at once, and one step of the chain."""

        count = 4  # ∂H/∂X_n, ∂H/∂Z of r, z and n

        def __init__(self, S: int, H: int, columns: tuple[int, ...], dtype: Any) -> None:
            self.local = np.empty((S, self.count * H, *columns), dtype)
            self.t = np.empty((S, H, *columns), dtype)
            self.direct = np.empty((H, *columns), dtype)
            self.views = [self.parts(J) for J in self.local]

        def parts(self, dz: Array) -> Any:
            """Return the blocks of dZ that `step` writes to."""
            return dz.reshape(self.count, *self.direct.shape)

        def _make_slopes(self, z: Array, rest: Array) -> list[Array]:
            """Make what both kinds have in common, block by block, and return the blocks: n's is ∂H/∂X_n, r's is σ′.

            In z stand n, r and z, one after the other, in ``rest`` H_{t-1} − n.
            """
            n, H = rest.shape[:2]
            J, keep = self.local[:n], self.t[:n]
            Jn, _, Ju, *_ = found = blocks(J, H)
            sigmoid_slope(z[:, H : 3 * H], J[:, H : 3 * H])
            tanh_slope(z[:, :H], Jn)
            np.subtract(1.0, z[:, 2 * H : 3 * H], keep)
            Jn *= keep
            Ju *= rest
            return found

        def slopes(self, saved: Any, lo: int, hi: int, output: Any) -> list[Any]:
            """Make the derivatives of the steps ``lo`` … ``hi``; return what `step` gets at each."""
            _, gates, rest = saved
            t = self.t[: hi - lo]
            _, r, u, side = blocks(gates[lo:hi], rest.shape[1])
            Jn, Jr, _, Jside = self._make_slopes(gates[lo:hi], rest[lo:hi])
            np.multiply(Jn, r, Jside)
            np.multiply(Jn, side, t)
            Jr *= t
            return list(zip(self.views, u, strict=False))

        def step(self, dh: Any, parts: Any, arrays: Any) -> Any:
            """Write dZ, and the direct part of dH of the step before, from dH."""
            np.multiply(arrays[0], dh, parts)
            np.multiply(arrays[1], dh, self.direct)


class GRUResetBefore(GRU):
    """Cho et al. 2014 (arXiv:1406.1078v3): the reset gate works on H_{t-1}, before its product with W_hn.

    It saves H_{t-1} − n, H_{t-1} and r ⊙ H_{t-1}.
    """

    layout = Layout((2, 0, 1), (0, 1), start=1, halved=2, stage=2)  # n, r, z
    others = 3

    def staged(self, saved: Any, lo: int, hi: int, N: int) -> Array:
        """Return r ⊙ H_{t-1} of the steps ``lo`` … ``hi``, rows first: (steps, N, H)."""
        return rows_first(saved[-1][lo:hi], N)

    class Forward(GRU.Forward):
        """One step, in scratch for (H, N)."""

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

    class Backward(GRU.Backward):
        """The derivatives of a few steps at once, and one step of the chain, in two halves around the product."""

        count = 3  # ∂H/∂Z_n, ∂(r ⊙ H)/∂Z_r, ∂H/∂Z_z

        def __init__(self, S: int, H: int, columns: tuple[int, ...], dtype: Any) -> None:
            super().__init__(S, H, columns, dtype)
            self.staged = np.empty((H, *columns), dtype)

        def parts(self, dz: Array) -> Any:
            """Return the blocks of dZ that `step` and `stage` write to, one by one."""
            return tuple(super().parts(dz))

        def slopes(self, saved: Any, lo: int, hi: int, output: Any) -> list[Any]:
            """Make the derivatives of the steps ``lo`` … ``hi``; return what `step` gets at each."""
            _, gates, rest, before, _ = saved
            _, r, u = blocks(gates[lo:hi], rest.shape[1])
            _, Jr, _ = self._make_slopes(gates[lo:hi], rest[lo:hi])
            Jr *= before[lo:hi]
            return list(zip(self.views, u, r, strict=False))

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
