"""The LSTM and the GRU between the matrix products, on columns: features first, the rows of the mini-batch last::

i, f, o = σ(Z_i), σ(Z_f), σ(Z_o)        g = tanh(Z_g)                 LSTM
C_t = f ⊙ C_{t-1} + i ⊙ g               H_t = o ⊙ tanh(C_t)

r, z = σ(Z_r), σ(Z_z)        n = tanh(X_n + r ⊙ Z_n)                  GRU, reset after the product
n = tanh(X_n + (r ⊙ H_{t-1}) W_hn)                                    reset before it: a stage
H_t = (1 − z) ⊙ n + z ⊙ H_{t-1} = n + z ⊙ (H_{t-1} − n)

A step costs its calls, so what can be one call stands side by side. The gates with σ are made in place of Z, as
1/σ = 1 + e^−z to divide by. Backward needs only derivatives, of everything that goes on from a step after what comes to
it: they are made of a few steps at once, as long as these are in the cache, and are all that is saved.
"""  # noqa: D400

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from minirnn.arguments import Array
from minirnn.kernels.cells import QUIET, Half, Layout, Pointwise, flat, rows_first, sigmoid_slope, tanh_slope

BUFFER = 512
"""Entries in a buffer of numpy's within the cell: its usual 8,192 hold several steps of most shapes."""


class Gated(Pointwise):
    """A cell that saves its derivatives, and whose gates with σ are made by e^−z."""

    @staticmethod
    @contextmanager
    def quiet() -> Iterator[None]:
        """Let σ overflow; keep numpy from copying what several steps have in strided arrays into buffers."""
        with QUIET():
            before = np.setbufsize(BUFFER)
            try:
                yield
            finally:
                np.setbufsize(before)


class LSTM(Gated):
    """Hochreiter & Schmidhuber 1997, with the forget gate of Gers, Schmidhuber & Cummins 2000.

    It saves ∂H/∂C, ∂H/∂Z_o, then ∂C/∂Z of i, f and g, and ∂C/∂C_{t-1} = f.
    """

    layout = Layout((3, 0, 1, 2), (3, 0, 1, 2), negated=3)  # o, i, f, g: those with σ side by side
    extras = 1  # C
    saves = 6

    class Forward(Half):
        """Scratch for so many steps of (H, N)."""

        def __init__(self, steps: int, H: int, columns: tuple[int, ...], dtype: Any) -> None:
            self.gates = a = np.empty((steps + 1, 5, H, *columns), dtype)  # o, i, f, g, and C_{t-1} beside g
            self.products = p = np.empty((steps, 2, H, *columns), dtype)  # i ⊙ g and f ⊙ C_{t-1}
            self.tanh_c = np.empty((steps, H, *columns), dtype)
            self.carried = [a[:, 4]]
            arrays = (flat(a[:-1, :4]), a[:, :3], a[:, 3], a[:, 3:], a[:, 1:3], p, p[:, 0], p[:, 1], a[1:, 4])
            self.steps = list(zip(*arrays, self.tanh_c, a[:, 0], strict=False))
            self.step = self._step(np.ones((), dtype))

        @staticmethod
        def _step(one: Array) -> Any:
            """Return the step, to which all it needs is at hand: a few per cent of a small one."""
            exp, add, tanh, divide = np.exp, np.add, np.tanh, np.divide

            def step(h: Any, out: Any, arrays: Any) -> None:
                """Turn Z into the gates, in place, and write C_t and H_t."""
                _, sigmoids, g, g_and_before, i_and_f, products, new, kept, c, tanh_c, o = arrays
                exp(sigmoids, sigmoids)  # their Z come negated
                add(sigmoids, one, sigmoids)  # numpy adds an array of 1 faster than Python's 1.0
                tanh(g, g)
                divide(g_and_before, i_and_f, products)
                add(new, kept, c)
                tanh(c, tanh_c)
                divide(tanh_c, o, out)

            return step

        def save(self, saved: Array, lo: int, n: int) -> None:
            """Make the derivatives of the first ``n`` steps, and write them to those from ``lo`` on::

            ∂C/∂Z_i = i ⊙ g ⊙ (1 − i)      ∂C/∂Z_f = f ⊙ C_{t-1} ⊙ (1 − f)      ∂C/∂Z_g = i − i ⊙ g ⊙ g
            ∂H/∂Z_o = o ⊙ tanh(C) ⊙ (1 − o)                            ∂H/∂C = o − o ⊙ tanh(C) ⊙ tanh(C)
            """  # noqa: D400
            J, gates, products, tanh_c = saved[lo : lo + n], self.gates[:n], self.products[:n], self.tanh_c[:n]
            sigmoids, g, by_h, by_g = gates[:, :3], gates[:, 3], J[:, 0], J[:, 4]
            np.reciprocal(sigmoids, sigmoids)
            o, i, f = sigmoids.swapaxes(0, 1)
            np.subtract(1.0, sigmoids, J[:, 1:4])
            J[:, 2:4] *= products
            np.multiply(o, tanh_c, by_h)
            J[:, 1] *= by_h
            by_h *= tanh_c
            np.subtract(o, by_h, by_h)
            np.multiply(products[:, 0], g, by_g)
            np.subtract(i, by_g, by_g)
            J[:, 5] = f

    class Backward(Half):
        """Scratch for so many steps of the chain."""

        def __init__(self, steps: int, S: int, H: int, columns: tuple[int, ...], dtype: Any) -> None:
            self.made = a = np.empty((steps + 1, 6, H, *columns), dtype)  # dC by way of H, dZ of o, i, f, g, dC_{t-1}
            self.carried, self.dz = [a[:, 5]], flat(a[:-1, 1:5])
            self.parts = list(zip(a[:, 0], a[:, 1], a[1:, 5], a[:, 2:], strict=False))
            self.step = self._step(np.empty((H, *columns), dtype))

        def slopes(self, saved: Array, lo: int, hi: int, output: Any) -> Any:
            """Return the derivatives of H and those of C at each of the steps ``lo`` … ``hi``."""
            J = saved[lo:hi]
            return list(zip(J[:, 0], J[:, 1], J[:, 2:], strict=True))

        @staticmethod
        def _step(dc: Array) -> Any:
            multiply, add = np.multiply, np.add

            def step(dh: Any, parts: Any, arrays: Any) -> None:
                """Write dZ, and dC of the step before, from dH and dC."""
                (by_h, of_o, after, of_c), (K, J_o, J_c) = parts, arrays
                multiply(K, dh, by_h)
                multiply(J_o, dh, of_o)  # apart, since numpy spreads dh over blocks at the price of three calls
                add(after, by_h, dc)
                multiply(J_c, dc, of_c)

            return step


class GRU(Gated):
    """Cho et al. 2014 (arXiv:1406.1078v1): the reset gate works on the product.

    It saves ∂H/∂X_n, ∂H/∂Z of r, z and n, and z, which is what of dH goes to the step before past the products.
    """

    layout = Layout((2, 0, 1), (0, 1, 2), start=1, negated=2)  # n from x, r, z, n from h
    saves = 5

    class Forward(Half):
        """Scratch for so many steps of (H, N)."""

        def __init__(self, steps: int, H: int, columns: tuple[int, ...], dtype: Any) -> None:
            self.gates = a = np.empty((steps, 4, H, *columns), dtype)
            self.rest = np.empty((steps, H, *columns), dtype)  # H_{t-1} − n
            self.steps = list(zip(flat(a), a[:, 1:3], *a.swapaxes(0, 1), self.rest, strict=True))
            self.step = self._step(np.empty((H, *columns), dtype), np.ones((), dtype))

        @staticmethod
        def _step(t: Array, one: Array) -> Any:
            exp, add, tanh, divide, subtract = np.exp, np.add, np.tanh, np.divide, np.subtract

            def step(h: Any, out: Any, arrays: Any) -> None:
                """Turn Z into the gates and the candidate, in place, and write H_t."""
                _, sigmoids, n, r, u, side, rest = arrays
                exp(sigmoids, sigmoids)  # their Z come negated
                add(sigmoids, one, sigmoids)  # r and u are 1/σ
                divide(side, r, t)
                add(n, t, n)
                tanh(n, n)
                subtract(h, n, rest)
                divide(rest, u, out)
                add(out, n, out)

            return step

        def save(self, saved: Array, lo: int, n: int) -> None:
            """Make the derivatives of the first ``n`` steps, and write them to those from ``lo`` on."""
            J, gates = saved[lo : lo + n], self.gates[:n]
            save_gates(J, gates, self.rest[:n], 4)
            np.multiply(J[:, 0], gates[:, 1], J[:, 3])
            J[:, 1] *= gates[:, 3]
            J[:, 1] *= J[:, 0]

    class Backward(Half):
        """Scratch for so many steps of the chain."""

        def __init__(self, steps: int, S: int, H: int, columns: tuple[int, ...], dtype: Any) -> None:
            self.made = a = np.empty((steps, 5, H, *columns), dtype)  # dZ, and what goes past the products
            self.parts, self.dz, self.direct = list(a), flat(a[:, :4]), list(a[:, 4])

        def slopes(self, saved: Array, lo: int, hi: int, output: Any) -> Any:
            """Return the derivatives at each of the steps ``lo`` … ``hi``."""
            return list(saved[lo:hi])

        def step(self, dh: Any, parts: Any, arrays: Any) -> Any:
            """Write dZ, and the direct part of dH of the step before, from dH."""
            np.multiply(arrays, dh, parts)


def save_gates(J: Array, gates: Array, rest: Array, keep: int) -> None:
    """Write what both kinds of GRU have in common: ∂H/∂X_n, σ′ of r, ∂H/∂Z_z and, to block ``keep``, z.

    In ``gates`` stand n, 1/r and 1/z, which become r and z, in ``rest`` H_{t-1} − n.
    """
    sigmoids, z = gates[:, 1:3], gates[:, 2]
    np.reciprocal(sigmoids, sigmoids)
    sigmoid_slope(sigmoids, J[:, 1:3])
    J[:, 2] *= rest
    tanh_slope(gates[:, 0], J[:, 0])
    np.subtract(1.0, z, J[:, keep])
    J[:, 0] *= J[:, keep]
    J[:, keep] = z


class GRUResetBefore(Gated):
    """Cho et al. 2014 (arXiv:1406.1078v3): the reset gate works on H_{t-1}, before its product with W_hn.

    It saves ∂H/∂Z_n, ∂(r ⊙ H_{t-1})/∂Z_r, ∂H/∂Z_z, z, r and r ⊙ H_{t-1}.
    """

    layout = Layout((2, 0, 1), (0, 1), start=1, negated=2, stage=2)  # n, r, z
    saves = 6

    def staged(self, saved: Array, lo: int, hi: int, N: int) -> Array:
        """Return r ⊙ H_{t-1} of the steps ``lo`` … ``hi``, rows first: (steps, N, H)."""
        return rows_first(saved[lo:hi, 5], N)

    class Forward(Half):
        """Scratch for so many steps of (H, N)."""

        def __init__(self, steps: int, H: int, columns: tuple[int, ...], dtype: Any) -> None:
            self.gates = a = np.empty((steps, 3, H, *columns), dtype)
            self.others = b = np.empty((3, steps, H, *columns), dtype)  # H_{t-1} − n, H_{t-1}, r ⊙ H_{t-1}
            self.steps = list(zip(flat(a), a[:, 1:3], *a.swapaxes(0, 1), *b, strict=True))
            self.one = np.ones((), dtype)

        def stage(self, h: Any, arrays: Any) -> Any:
            """Make the gates, and return r ⊙ H_{t-1}, and n, to which its product is to be added."""
            _, sigmoids, n, r, _, _, before, staged = arrays
            np.exp(sigmoids, sigmoids)
            np.add(sigmoids, self.one, sigmoids)
            np.copyto(before, h)
            np.divide(h, r, staged)
            return staged, n

        def step(self, h: Any, out: Any, arrays: Any) -> None:
            """Make the candidate, and write H_t."""
            _, _, n, _, u, rest, _, _ = arrays
            np.tanh(n, n)
            np.subtract(h, n, rest)
            np.divide(rest, u, out)
            np.add(out, n, out)

        def save(self, saved: Array, lo: int, n: int) -> None:
            """Make the derivatives of the first ``n`` steps, and write them to those from ``lo`` on."""
            J, gates, (rest, before, staged) = saved[lo : lo + n], self.gates[:n], self.others[:, :n]
            save_gates(J, gates, rest, 3)
            J[:, 1] *= before
            J[:, 4], J[:, 5] = gates[:, 1], staged

    class Backward(Half):
        """Scratch for so many steps of the chain, each in two halves around the product of the stage."""

        def __init__(self, steps: int, S: int, H: int, columns: tuple[int, ...], dtype: Any) -> None:
            self.made = a = np.empty((steps, 4, H, *columns), dtype)  # dZ, and what goes past the products
            self.dz, self.direct = flat(a[:, :3]), list(a[:, 3])
            self.parts = list(zip(a[:, 0], a[:, 1], a[:, 2:], strict=True))
            self.staged = np.empty((H, *columns), dtype)

        def slopes(self, saved: Array, lo: int, hi: int, output: Any) -> Any:
            """Return what `step` and `stage` need at each of the steps ``lo`` … ``hi``."""
            J = saved[lo:hi]
            return list(zip(J[:, 0], J[:, 1], J[:, 2:4], J[:, 4], strict=True))

        def step(self, dh: Any, parts: Any, arrays: Any) -> Any:
            """Write dZ_n and dZ_z; return dZ_n, whose product with W_hn is the gradient of r ⊙ H_{t-1}."""
            np.multiply(arrays[0], dh, parts[0])
            np.multiply(arrays[2], dh, parts[2])
            return parts[0]

        def stage(self, parts: Any, arrays: Any) -> None:
            """Take ``staged``, the gradient of r ⊙ H_{t-1}, on to Z_r and, in place, to H_{t-1}."""
            np.multiply(arrays[1], self.staged, parts[1])
            np.multiply(self.staged, arrays[3], self.staged)
