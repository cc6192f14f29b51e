"""Trees of values and arrays: what of them goes into a file's JSON, and what beside it."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from minirnn.arguments import Array, describe

_ARRAY = "array:"
"""A dict {_ARRAY: name} in the JSON stands for the array of that name."""


def pack(tree: Any, argument: str, prefix: str, *, arrays: bool = True) -> tuple[Any, dict[str, Array]]:
    """Split a tree into plain values for JSON, and its arrays by a name that starts with ``prefix``.

    The plain values are a copy that JSON gives back as it is; tuples become lists.
    """
    found: dict[str, Array] = {}
    expected = "must be made of dicts with str keys, lists, str, int, float, bool and None"
    expected += ", and arrays of numbers" if arrays else ""

    def walk(value: Any, where: str, name: str) -> Any:
        if value is None or type(value) in (bool, int, float, str):
            return value
        if isinstance(value, list | tuple):
            return [walk(item, f"{where}[{i}]", f"{name}/{i}") for i, item in enumerate(value)]
        if isinstance(value, Mapping) and all(type(key) is str for key in value) and _ARRAY not in value:
            return {key: walk(item, f"{where}[{key!r}]", f"{name}/{key}") for key, item in value.items()}
        if arrays and isinstance(value, np.ndarray) and value.dtype.kind in "biuf":
            if name in found or not name.isprintable():  # {"a": {"b": …}, "a/b": …}; a zip ends a name at a null
                name = f"{prefix} ({len(found)})"
            found[name] = value
            return {_ARRAY: name}
        numpys = isinstance(value, np.generic) or (isinstance(value, np.ndarray) and not arrays)
        hint = ": float(…), int(…) or .tolist() make numpy's numbers plain" if numpys else ""
        raise TypeError(f"{where} {expected}, got {describe(value)}{hint}")

    try:
        return walk(tree, argument, prefix), found
    except RecursionError:
        raise TypeError(f"{argument} {expected}, and is nested too deeply, or holds itself") from None


def unpack(plain: Any, arrays: Mapping[str, Array]) -> Any:
    """Put the arrays back into the tree; KeyError for one that is not there."""
    if isinstance(plain, list):
        return [unpack(item, arrays) for item in plain]
    if not isinstance(plain, dict):
        return plain
    if plain.keys() == {_ARRAY}:
        return arrays[plain[_ARRAY]]
    return {key: unpack(item, arrays) for key, item in plain.items()}
