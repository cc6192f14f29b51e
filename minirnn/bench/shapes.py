"""The sizes of what is measured: how they are written, what they cost to compute, and whether they fit in memory."""

import math
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple, Self

import numpy as np

CHECKED = 2_000
"""Steps at most that are held against the textbook before a shape is timed: in Python, each takes tens of µs."""

_MEMORY = Path("/proc/meminfo")


class Shape(NamedTuple):
    """A mini-batch of N sequences of T steps with D inputs, and a layer of H hidden neurons."""

    N: int
    T: int
    D: int
    H: int

    def __str__(self) -> str:
        return ",".join(map(str, self))

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a shape from "N,T,D,H"; ValueError for anything else."""
        sizes = whole_numbers(text)
        if len(sizes) != 4:
            raise ValueError(f"expected N,T,D,H, four whole numbers ≥ 1 such as 32,100,64,128, got {text!r}")
        return cls(*sizes)

    def flops(self, gates: int = 1) -> int:
        """Return what forward costs, 2·T·N·G·H·(D + H): the multiplications and additions of its matrix products.

        Backward has twice as many: for each product of forward one for either factor's gradient.
        """
        return 2 * self.T * self.N * gates * self.H * (self.D + self.H)

    def bytes_needed(self, itemsize: int, objects: int = 0, gates: int = 1) -> int:
        """Return about how many bytes it takes to measure this shape, rather too many than too few.

        Parameters
        ----------
        itemsize : bytes of one number, 4 or 8
        objects : bytes of Python's own objects for each step
        gates : G of the layer
        """
        N, T, D, H = self
        arrays = itemsize * (T * N * ((13 * gates - 3) * H + 13 * D) + 12 * gates * H * (D + H))
        check = 8 * min(T, CHECKED) * N * (6 * gates * H + 4 * D)  # the textbook computes in float64
        scratch = 2 * min(2**20, 256 * itemsize * N * (D + 1 + gates * H))  # of the kernels
        views = 256 * 1_000 * gates  # of the scratch
        return arrays + check + scratch + views + objects * gates * T


def whole_numbers(text: str) -> list[int]:
    """Read numbers ≥ 1 separated by commas; none if any of them is something else."""
    parts = [part.strip() for part in text.split(",")]
    sizes = [int(part) for part in parts if part.isascii() and part.isdecimal()]
    return sizes if len(sizes) == len(parts) and all(sizes) else []


def bytes_available() -> int | None:
    """Return the bytes of memory that could be had now, None where the system does not tell."""
    try:
        lines = _MEMORY.read_text("ascii").splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    except (OSError, StopIteration):
        pass
    try:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, AttributeError):
        return None


def refuse_what_does_not_fit(shapes: Sequence[Shape], dtype: str, objects: int = 0, gates: int = 1) -> None:
    """Raise MemoryError if the shapes together take more memory than there is, before any of it is taken."""
    itemsize, available = np.dtype(dtype).itemsize, bytes_available()
    needed = sum(shape.bytes_needed(itemsize, objects, gates) for shape in shapes)
    if available is not None and needed > available:
        taken = f"it takes about {bytes_text(needed)}, and {bytes_text(available)} are available"
        raise MemoryError(_does_not_fit(shapes, dtype, taken))


@contextmanager
def telling_what_does_not_fit(shapes: Sequence[Shape], dtype: str) -> Iterator[None]:
    """Say of a MemoryError which shape it was: where the system does not tell in advance what is available."""
    try:
        yield
    except MemoryError as error:
        raise MemoryError(_does_not_fit(shapes, dtype, str(error) or "it does not")) from error


def _does_not_fit(shapes: Sequence[Shape], dtype: str, fault: str) -> str:
    largest = max(shapes, key=lambda shape: shape.bytes_needed(1))
    return (
        f"bench: the shape N,T,D,H = {largest} must fit in memory in {dtype}: {fault}: try fewer steps (T), fewer rows "
        f"(N){' or --dtype float32' if dtype == 'float64' else ''}"
    )


def bytes_text(number: float) -> str:
    """Return bytes as text, three digits and a decimal unit: 12.3 MB."""
    power = min(5, int(math.log10(max(1, number) * 1.0005)) // 3)
    return f"{three_digits(number / 1000**power)} {('B', 'kB', 'MB', 'GB', 'TB', 'PB')[power]}"


def three_digits(number: float) -> str:
    """Return a number ≥ 0 with three digits at least: 1.23, 12.3, 123, 12,345."""
    decimals = 2 if number < 9.995 else 1 if number < 99.95 else 0
    return f"{number:,.{decimals}f}"
