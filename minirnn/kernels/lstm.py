"""The LSTM between the matrix products, on columns: features first, the rows of the mini-batch last::

i, f, o = σ(Z_i), σ(Z_f), σ(Z_o)        g = tanh(Z_g)
C_t = f ⊙ C_{t-1} + i ⊙ g               H_t = o ⊙ tanh(C_t)
"""  # noqa: D400

from typing import Any

import numpy as np

from minirnn.arguments import Array
from minirnn.kernels.cells import Gated, Half, Layout, blocks, sigmoid_slope, tanh_slope


class LSTM(Gated):
    """Hochreiter & Schmidhuber 1997, with the forget gate of Gers, Schmidhuber & Cummins 2000. It saves tanh(C_t)."""

    layout = Layout((3, 1, 0, 2), (3, 1, 0, 2), halved=3)  # o, f, i, g: those with σ side by side, i beside g
    extras = 1  # C

    class Forward(Half):
        """One step, in scratch for (H, N)."""

        def __init__(self, H: int, columns: tuple[int, ...], dtype: Any) -> None:
            self.t = np.empty((H, *columns), dtype)
            self.half = np.full((3 * H, *columns), 0.5, dtype)

        def step(self, h: Any, out: Any, arrays: Any) -> None:
            """Turn Z into the gates, in place, and write C_t and H_t."""
            z, sigmoids, o, f, i, g, before, c, tanh_c = arrays
            t, half = self.t, self.half
            np.tanh(z, z)  # all four at once: the Z of the σ come halved
            np.multiply(sigmoids, half, sigmoids)
            np.add(sigmoids, half, sigmoids)
            np.multiply(i, g, t)
            np.multiply(f, before, c)
            np.add(c, t, c)
            np.tanh(c, tanh_c)
            np.multiply(o, tanh_c, out)

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
            t, dc = self.t, self.dc
            (of_o, of_rest, K), forget = arrays
            np.multiply(dh, K, t)
            np.add(dc, t, dc)
            np.multiply(of_o, dh, parts[0])
            np.multiply(of_rest, dc, parts[1])
            np.multiply(dc, forget, dc)
