"""The sizes of what is measured: how they are written, how they vary, and what they cost to compute."""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

CHECKED = 2_000
"""Steps at most that are held against the textbook before a shape is timed: in Python, each takes tens of µs."""


class Shape(NamedTuple):
    """A mini-batch of N sequences of T steps with D inputs, and a layer of H hidden neurons."""

    N: int
    T: int
    D: int
    H: int

    def __str__(self) -> str:
        return ",".join(map(str, self))

    def flops(self, gates: int = 1) -> int:
        """Count forward's operations, 2·T·N·G·H·(D + H): the multiplications and additions of its matrix products.

        Backward has twice as many: for each product of forward one for either factor's gradient.
        """
        return 2 * self.T * self.N * gates * self.H * (self.D + self.H)


def vary(
    letter: str,
    base: Shape,
    usual: Sequence[int],
    shapes: Sequence[Shape],
    sweeps: Mapping[str, Sequence[int]],
    quarters: Sequence[int],
) -> list[list[Shape]]:
    """Give the size ``letter`` of each shape several values, and leave the others.

    They are those that ``sweeps`` asks for; else of the ``base`` the ``usual`` ones, and of ``shapes``, which take the
    place of the base, so many ``quarters`` of their own.
    """

    def sizes(shape: Shape) -> Sequence[int]:
        around = sorted({max(1, getattr(shape, letter) * k // 4) for k in quarters})
        return sweeps.get(letter, around if shapes else usual)

    return [[shape._replace(**{letter: size}) for size in sizes(shape)] for shape in shapes or [base]]


def bytes_text(number: float) -> str:
    """Write bytes with three digits and a decimal unit: 12.3 MB."""
    power = min(5, int(math.log10(max(1, number) * 1.0005)) // 3)
    return f"{three_digits(number / 1000**power)} {('B', 'kB', 'MB', 'GB', 'TB', 'PB')[power]}"


def seconds_text(seconds: float) -> str:
    """Write a time with three digits: 1.23 µs, 12.3 ms, 1.23 s."""
    factor, unit = (1e6, "µs") if seconds < 999.5e-6 else (1e3, "ms") if seconds < 0.9995 else (1, "s")
    return f"{three_digits(factor * seconds)} {unit}"


def three_digits(number: float) -> str:
    """Write a number ≥ 0 with three digits at least: 1.23, 12.3, 123, 12,345."""
    decimals = 2 if number < 9.995 else 1 if number < 99.95 else 0
    return f"{number:,.{decimals}f}"
