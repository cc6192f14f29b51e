"""Trees of dicts, lists, plain values and arrays: what goes into a file's JSON, and what beside it."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from minirnn.arguments import Array, describe

PLAIN = "dicts with str keys, lists, str, int, float, bool and None"
MARK = "array:"
"""A dict {MARK: name} in the JSON stands for the array of that name."""


def as_plain(value: Any, argument: str) -> Any:
    """Return a copy that JSON gives back as it is; tuples become lists."""
    plain, _ = pack(value, argument, "", arrays=False)
    return plain


def pack(tree: Any, argument: str, prefix: str, *, arrays: bool = True) -> tuple[Any, dict[str, Array]]:
    """Split a tree into plain values for JSON, and its arrays by a name that starts with ``prefix``."""
    found: dict[str, Array] = {}
    expected = f"{PLAIN}, and arrays of numbers" if arrays else PLAIN

    def walk(value: Any, where: str, name: str) -> Any:
        if value is None or type(value) in (bool, int, float, str):
            return value
        if isinstance(value, list | tuple):
            return [walk(item, f"{where}[{i}]", f"{name}/{i}") for i, item in enumerate(value)]
        if isinstance(value, Mapping) and all(type(key) is str for key in value) and MARK not in value:
            return {key: walk(item, f"{where}[{key!r}]", f"{name}/{key}") for key, item in value.items()}
        if arrays and isinstance(value, np.ndarray) and value.dtype.kind in "biuf":
            name = name if name not in found else f"{name} ({len(found)})"  # {"a": {"b": …}, "a/b": …}
            found[name] = value
            return {MARK: name}
        hint = ": float(…), int(…) or .tolist() make numpy's numbers plain" if isinstance(value, np.generic) else ""
        hint = ": try .tolist()" if isinstance(value, np.ndarray) and not arrays else hint
        raise TypeError(f"{where} must be made of {expected}, got {describe(value)}{hint}")

    try:
        return walk(tree, argument, prefix), found
    except RecursionError:
        raise TypeError(f"{argument} must be made of {expected}, and is nested too deeply, or holds itself") from None


def unpack(plain: Any, arrays: Mapping[str, Array]) -> Any:
    """Put the arrays back into the tree; KeyError for one that is not there."""
    if isinstance(plain, list):
        return [unpack(item, arrays) for item in plain]
    if isinstance(plain, dict):
        if plain.keys() == {MARK}:
            return arrays[plain[MARK]]
        return {key: unpack(item, arrays) for key, item in plain.items()}
    return plain
