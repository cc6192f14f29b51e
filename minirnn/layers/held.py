"""What an attribute of a module holds, as walks over it see it, and what a module keeps of that from call to call."""

from collections import deque
from itertools import chain, islice
from typing import Any

import numpy as np

from minirnn.autograd.tensor import Tensor

WALKED = "parameter", "module", "container"
CONTAINERS = list, tuple, dict, set, frozenset, np.ndarray, deque


class _Kinds(dict[type, str | None]):
    """What walks take an attribute for, by its type, so that they ask once for each; None is of no interest."""

    def __missing__(self, of: type) -> str | None:
        from minirnn.layers.module import Module, Parameter  # which come here when they are ready

        kinds: dict[str, Any] = {"parameter": Parameter, "module": Module, "tensor": Tensor, "container": CONTAINERS}
        random = ("numpy.random._generator", "Generator") in [(c.__module__, c.__name__) for c in of.__mro__]
        found = (kind for kind, types in kinds.items() if issubclass(of, types))
        self[of] = kind = next(found, "generator" if random else None)
        return kind


KINDS = _Kinds()


class Kept:
    """What a module has found among its attributes; it is forgotten when one of them is set or deleted.

    It is put in its place first and filled then: of what one thread finds while another one sets an attribute, nothing
    stays. No copy and no file has it. What is put into ``vars(module)`` by hand it does not see.
    """

    __slots__ = ("held", "whole")

    def __init__(self) -> None:
        self.held: tuple[list[Any], ...] | None = None
        self.whole: Any = None  # how a recurrent layer unrolls whole rows of one shape; see Backends


def hides(container: Any) -> bool:
    """Whether a container, to any depth, holds what `parameters` should find; looks at no more than 1,000 items."""
    inside, left = [container], 1000  # or data that lie in a list would be read again at every walk
    while inside and left > 0:
        outer = inside.pop()
        if isinstance(outer, np.ndarray):
            outer = outer.flat if outer.dtype.hasobject else ()
        elif isinstance(outer, dict):
            outer = chain(outer, outer.values())
        for item in islice(outer, left):
            left -= 1
            of = KINDS[type(item)]
            if of in ("module", "parameter") or (of == "tensor" and item.node is None and item.requires_grad):
                return True
            if of == "container":
                inside.append(item)
    return False


def owned(tensor: Tensor) -> bool:
    """Whether what made a Tensor reads a Parameter that has been an attribute, as what comes of a forward pass does."""
    todo, seen = [tensor.node], set[Any]()
    while todo:
        part = todo.pop()
        if getattr(part, "name", "") or getattr(part, "edges", ()) is None:  # or it has been used up by backward
            return True
        if part not in seen:
            seen.add(part)
            todo += getattr(part, "receivers", list)()
    return False
