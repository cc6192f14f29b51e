"""What the textbook reads: arrays whose shapes are spelled in letters, and activations by name."""

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]
Pair = tuple[Callable[[Array], Array], Callable[[Array], Array]]  # φ, φ′


def sigmoid(a: Array) -> Array:
    """σ(a) = 1 / (1 + exp(-a)), real or complex: where exp(-a) is too large, 0."""
    with np.errstate(over="ignore", under="ignore"):
        return 1.0 / (1.0 + np.exp(-a))


#: name -> (φ, φ′). φ′ is written in terms of φ's *output* y = φ(z). At relu's corner, z = 0, the slope is taken as 0.
ACTIVATIONS: dict[str, Pair] = {
    "tanh": (np.tanh, lambda y: 1.0 - y * y),
    "relu": (lambda z: np.maximum(z, 0.0), lambda y: np.where(y == 0.0, 0.0, 1.0)),
    "sigmoid": (sigmoid, lambda y: y * (1.0 - y)),
    "identity": (lambda z: z, lambda y: np.ones_like(y)),
}


def activation_pair(where: str, activation: str | Pair) -> Pair:
    """Look up (φ, φ′) by its name; a pair of one's own passes through."""
    if isinstance(activation, str) and activation in ACTIVATIONS:
        return ACTIVATIONS[activation]
    if isinstance(activation, tuple) and len(activation) == 2 and all(map(callable, activation)):
        return activation
    names = ", ".join(map(repr, ACTIVATIONS))
    raise ValueError(f"{where}: activation must be one of {names} or a pair (φ, φ′) of callables, got {activation!r}")


def read(where: str, shapes: str, *values: ArrayLike | None, complex_too: bool = False) -> list[Array]:
    """Copy the values into float64 and check their shapes, spelled "name: letters, …": one letter, one size throughout.

    What comes first fixes the sizes: W_y does, being square, so that a transposed W_x is called by its name. T, the
    steps, is at least 1. No letters mean a scalar; `|` separates shapes that are both welcome; `k+l` is the sum of two
    sizes already met, `4H` a multiple of one. None in the place of "name?" stands for zeros. With `complex_too`, one
    complex array makes them all complex128.
    """
    sizes, arrays = {"1": 1}, []
    for declared, value in zip(shapes.split(","), values, strict=True):
        name, letters = (part.strip() for part in declared.split(":"))
        if name.endswith("?"):
            name = name[:-1]
            value = np.zeros([sizes[c] for c in letters.split()]) if value is None else value
        try:
            array = np.asarray(value)
            dtype = np.complex128 if complex_too and array.dtype.kind == "c" else np.float64
            array = array.astype(dtype, casting="same_kind")  # not from text, objects, nor complex to real numbers
        except (TypeError, ValueError) as error:
            kind = type(value).__name__
            raise TypeError(f"{where}: {name} must be an array of real numbers, got {kind}: {error}") from error
        if "k+l" in letters:
            sizes["k+l"] = sizes["k"] + sizes["l"]
        options = [option.split() for option in letters.split("|")]
        fits = [known for option in options if (known := _bind(option, array.shape, sizes))]
        if not fits:
            expected = " or ".join(_spell(option, sizes) for option in options)
            hint = "T ≥ 1 comes first" if 0 in array.shape else "a letter is the same size in every argument"
            if any(_bind(option, array.shape[::-1], sizes) for option in options):
                hint = f"pass {name}.T?"
            raise ValueError(f"{where}: {name} must have shape {expected}, got {array.shape}: {hint}")
        sizes = fits[0]
        arrays.append(array)
    return [array.astype(np.result_type(*arrays), copy=False) for array in arrays]


def _bind(letters: list[str], shape: tuple[int, ...], sizes: dict[str, int]) -> dict[str, int]:
    """Return `sizes` and what the new letters stand for in this shape, or nothing if the letters do not fit it."""
    known = dict(sizes)
    if len(letters) != len(shape):
        return {}
    for c, n in zip(letters, shape, strict=True):
        if c not in known:
            known[c] = int(c[0]) * known[c[1:]] if c[0].isdigit() else n
        if known[c] != n or (c, n) == ("T", 0):
            return {}
    return known


def _spell(letters: list[str], sizes: dict[str, int]) -> str:
    """Spell a shape with the sizes met so far: (k=3, l)."""
    parts = [f"{c}={sizes[c]}" if c in sizes and c != "1" else c for c in letters]
    return f"({', '.join(parts)}{',' if len(parts) == 1 else ''})"
