"""The LSTM between the matrix products, on columns: features first, the rows of the mini-batch last::

i, f, o = σ(Z_i), σ(Z_f), σ(Z_o)        g = tanh(Z_g)
C_t = f ⊙ C_{t-1} + i ⊙ g               H_t = o ⊙ tanh(C_t)
"""  # noqa: D400

from collections.abc import Iterable
from typing import Any

import numpy as np

from minirnn.arguments import Array
from minirnn.kernels.cells import sigmoid_slope, tanh_slope
from minirnn.kernels.layout import Half, Layout, Pointwise


class LSTM(Pointwise):
    """Hochreiter & Schmidhuber 1997, with the forget gate of Gers, Schmidhuber & Cummins 2000."""

    layout = Layout((3, 1, 0, 2), (3, 1, 0, 2), halved=3)  # o, f, i, g: those with σ side by side, i beside g
    extras = 1  # C

    def keep(self, L: int, H: int, columns: tuple[int, ...], dtype: Any) -> Any:
        """Return what forward fills for L steps: C before and after each, the gates, and tanh(C)."""
        c = np.empty((L + 1, H, *columns), dtype)
        return [c], np.empty((L, 4 * H, *columns), dtype), np.empty((L, H, *columns), dtype)

    def steps(self, kept: Any, lo: int, hi: int) -> Iterable[tuple[Any, ...]]:
        """Return what `Forward.step` gets at each step, Z first."""
        (c,), gates, tanh_c = kept
        H = c.shape[1]
        z = gates[lo:hi]
        o, f, i, g = (z[:, j * H : (j + 1) * H] for j in range(4))
        return zip(z, z[:, : 3 * H], o, f, i, g, c[lo:hi], c[lo + 1 : hi + 1], tanh_c[lo:hi], strict=True)

    class Forward(Half):
        """One step, in scratch for (H, N)."""

        def __init__(self, H: int, columns: tuple[int, ...], dtype: Any) -> None:
            self.t = np.empty((H, *columns), dtype)
            self.half = np.full((3 * H, *columns), 0.5, dtype)

        def step(self, h: Any, out: Any, arrays: Any) -> None:
            """Turn Z into the gates, in place, and write C_t and H_t."""
            z, sigmoids, o, f, i, g, before, c, tanh_c = arrays
            t, half, multiply, add, tanh = self.t, self.half, np.multiply, np.add, np.tanh
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
            self.views = [
                (J[:H], J[H:].reshape(3, H, *columns), K) for J, K in zip(self.local, self.into_c, strict=True)
            ]

        def parts(self, dz: Array) -> tuple[Any, ...]:
            """Return the views of dZ that `step` writes to."""
            H = len(self.t)
            return dz[:H], dz[H:].reshape(3, H, *dz.shape[1:])

        def slopes(self, kept: Any, lo: int, hi: int, output: Any) -> list[Any]:
            """Make the derivatives of the steps ``lo`` … ``hi``; return what `step` gets at each."""
            (c,), gates, tanh_c = kept
            n, H = hi - lo, c.shape[1]
            z, J, K, tc = gates[lo:hi], self.local[:n], self.into_c[:n], tanh_c[lo:hi]
            s, g, Js, Jg = z[:, : 3 * H], z[:, 3 * H :], J[:, : 3 * H], J[:, 3 * H :]
            sigmoid_slope(s, Js)
            tanh_slope(g, Jg)
            Jo, Jf, Ji = J[:, :H], J[:, H : 2 * H], J[:, 2 * H : 3 * H]
            np.multiply(Jo, tc, Jo)
            np.multiply(Jf, c[lo:hi], Jf)
            np.multiply(Ji, g, Ji)
            np.multiply(Jg, z[:, 2 * H : 3 * H], Jg)
            tanh_slope(tc, K)
            np.multiply(K, z[:, :H], K)
            return list(zip(self.views, z[:, H : 2 * H], strict=False))

        def step(self, dh: Any, parts: Any, arrays: Any) -> None:
            """Write dZ from dH and dC, and dC of the step before."""
            t, dc, multiply = self.t, self.dc, np.multiply
            (of_o, of_rest, K), forget = arrays
            multiply(dh, K, t)
            np.add(dc, t, dc)
            multiply(of_o, dh, parts[0])
            multiply(of_rest, dc, parts[1])
            multiply(dc, forget, dc)
