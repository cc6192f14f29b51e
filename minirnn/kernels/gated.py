"""The LSTM and the GRU between the matrix products, on columns: features first, the rows of the mini-batch last::

i, f, o = σ(Z_i), σ(Z_f), σ(Z_o)        g = tanh(Z_g)                 LSTM
C_t = f ⊙ C_{t-1} + i ⊙ g               H_t = o ⊙ tanh(C_t)

r, z = σ(Z_r), σ(Z_z)        n = tanh(X_n + r ⊙ Z_n)                  GRU, reset after the product
n = tanh(X_n + (r ⊙ H_{t-1}) W_hn)                                    reset before it: a stage
H_t = (1 − z) ⊙ n + z ⊙ H_{t-1} = n + z ⊙ (H_{t-1} − n)
"""  # noqa: D400

from collections.abc import Iterable
from typing import Any

import numpy as np

from minirnn.arguments import Array
from minirnn.kernels.cells import Half, Layout, Pointwise, rows_first, sigmoid_slope, tanh_slope


def blocks(a: Array, H: int) -> list[Array]:
    """Return the blocks of (steps, k·H, …), views."""
    return [a[:, j : j + H] for j in range(0, a.shape[1], H)]


class Gated(Pointwise):
    """A cell whose gates are made in place of Z; those with σ stand side by side, their Z halved."""

    layout: Layout
    others = 1  # how many arrays of H are saved of each step beside the gates

    def make_buffers(self, L: int, H: int, columns: tuple[int, ...], dtype: Any) -> Any:
        """Allocate for L steps: the states beside h before and after each, the gates, and the others."""
        states = [np.empty((L + 1, H, *columns), dtype) for _ in range(self.extras)]
        gates = np.empty((L, self.layout.blocks * H, *columns), dtype)
        return states, gates, *(np.empty((L, H, *columns), dtype) for _ in range(self.others))

    def steps(self, saved: Any, lo: int, hi: int) -> Iterable[tuple[Any, ...]]:
        """Slice the buffers for each step: Z, the part of it for σ, every block, the states, and the others."""
        states, gates, *others = saved
        plan, z = self.layout, gates[lo:hi]
        H = z.shape[1] // plan.blocks
        sigmoids = z[:, plan.start * H : (plan.start + plan.halved) * H]
        before_and_after = [s[lo + k : hi + k] for s in states for k in (0, 1)]
        return zip(z, sigmoids, *blocks(z, H), *before_and_after, *(a[lo:hi] for a in others), strict=True)


class _Forward(Half):
    sigmoids: int  # how many blocks σ makes

    def __init__(self, H: int, columns: tuple[int, ...], dtype: Any) -> None:
        self.t = np.empty((H, *columns), dtype)
        self.half = np.full((self.sigmoids * H, *columns), 0.5, dtype)


class LSTM(Gated):
    """Hochreiter & Schmidhuber 1997, with the forget gate of Gers, Schmidhuber & Cummins 2000. It saves tanh(C_t)."""

    layout = Layout((3, 1, 0, 2), (3, 1, 0, 2), halved=3)  # o, f, i, g: those with σ side by side, i beside g
    extras = 1  # C

    class Forward(_Forward):
        """One step, in scratch for (H, N)."""

        sigmoids = 3

        def step(self, h: Any, out: Any, arrays: Any) -> None:
            """Turn Z into the gates, in place, and write C_t and H_t."""
            z, sigmoids, o, f, i, g, before, c, tanh_c = arrays
            t, half = self.t, self.half
            multiply, add, tanh = np.multiply, np.add, np.tanh  # to look these up costs a few per cent of a small step
            tanh(z, z)  # all four at once: the Z of the σ come halved
            multiply(sigmoids, half, sigmoids)
            add(sigmoids, half, sigmoids)
            multiply(i, g, t)
            multiply(f, before, c)
            add(c, t, c)
            tanh(c, tanh_c)
            multiply(o, tanh_c, out)

    class Backward(Half):
        """The derivatives of a few steps at once, and one step of the chain."""

        def __init__(self, S: int, H: int, columns: tuple[int, ...], dtype: Any) -> None:
            self.local = np.empty((S, 4 * H, *columns), dtype)  # ∂H/∂Z_o, and ∂C/∂Z of f, i and g
            self.into_c = np.empty((S, H, *columns), dtype)  # ∂H/∂C
            self.t = np.empty((H, *columns), dtype)
            self.dc = np.empty((H, *columns), dtype)
            self.extras = [self.dc]
            self.views = [(*self.parts(J), K) for J, K in zip(self.local, self.into_c, strict=True)]

        def parts(self, dz: Array) -> tuple[Any, ...]:
            """Return the views of dZ that `step` writes to: that of o, which is made of dH, and the rest, of dC."""
            H = len(self.t)
            return dz[:H], dz[H:].reshape(3, *self.t.shape)

        def slopes(self, saved: Any, lo: int, hi: int, output: Any) -> list[Any]:
            """Make the derivatives of the steps ``lo`` … ``hi``; return what `step` gets at each."""
            (c,), gates, others = saved
            z, tanh_c, H = gates[lo:hi], others[lo:hi], c.shape[1]
            J, K = self.local[: hi - lo], self.into_c[: hi - lo]
            o, f, i, g = blocks(z, H)
            Jo, Jf, Ji, Jg = blocks(J, H)
            sigmoid_slope(z[:, : 3 * H], J[:, : 3 * H])
            tanh_slope(g, Jg)
            Jo *= tanh_c
            Jf *= c[lo:hi]
            Ji *= g
            Jg *= i
            tanh_slope(tanh_c, K)
            K *= o
            return list(zip(self.views, f, strict=False))

        def step(self, dh: Any, parts: Any, arrays: Any) -> None:
            """Write dZ from dH and dC, and dC of the step before."""
            t, dc, multiply = self.t, self.dc, np.multiply
            (of_o, of_rest, K), forget = arrays
            multiply(dh, K, t)
            np.add(dc, t, dc)
            multiply(of_o, dh, parts[0])
            multiply(of_rest, dc, parts[1])
            multiply(dc, forget, dc)


class GRU(Gated):
    """Cho et al. 2014 (arXiv:1406.1078v1): the reset gate works on the product. It saves H_{t-1} − n."""

    layout = Layout((2, 0, 1), (0, 1, 2), start=1, halved=2)  # n from x, r, z, n from h

    class Forward(_Forward):
        """One step, in scratch for (H, N)."""

        sigmoids = 2

        def step(self, h: Any, out: Any, arrays: Any) -> None:
            """Turn Z into the gates and the candidate, in place, and write H_t."""
            _, sigmoids, n, r, u, side, rest = arrays
            t, half = self.t, self.half
            multiply, add, tanh = np.multiply, np.add, np.tanh
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
