"""Small Parameters that are changed together: their numbers stand one after the other, and the rule runs once.

With few numbers a call costs more than its arithmetic, and Adam's rule is eleven calls for each Parameter. Large ones
stay alone, since to copy their gradients side by side would cost as much as the calls it saves; so do those of SGD,
whose rule is one call. The numbers are the same to the last bit: an ``entrywise`` rule never looks from one entry
to another.
"""

from collections.abc import Sequence
from itertools import accumulate, pairwise
from operator import is_
from typing import Any

import numpy as np

from minirnn.arguments import Array

MOST = 1 << 14
"""Entries of a Parameter up to which it is changed together with others."""


class _Values:
    """What stands for the Parameters within a rule."""

    def __init__(self, params: Sequence[Any]) -> None:
        self.params = params

    @property
    def data(self) -> Array:
        """Their numbers, copied."""
        return np.concatenate([p.data for p in self.params], axis=None)


class Joined:
    """Some Parameters of one group and dtype.

    Their memories become parts of one array each: the optimiser's lists show these parts.
    """

    def __init__(self, optimizer: Any, places: Sequence[int]) -> None:
        self.places = places
        self.params = [optimizer.params[i] for i in places]
        parts = [slice(lo, hi) for lo, hi in pairwise(accumulate([p.size for p in self.params], initial=0))]
        self.parts = [(p, part, p.shape) for p, part in zip(self.params, parts, strict=True)]
        self.one = object.__new__(type(optimizer))  # the rule, for a single Parameter
        self.own: dict[str, Any] = {"params": [_Values(self.params)]}
        self.counts = []
        for name, each in _lists(optimizer).items():
            if not isinstance(each[0], np.ndarray):
                self.counts.append(name)
            elif each[places[0]].shape == self.params[0].shape:  # what is not remembered is empty
                whole = np.concatenate([each[i] for i in places], axis=None)
                self.own[name] = [whole]
                for i, (_, part, shape) in zip(places, self.parts, strict=True):
                    each[i] = whole[part].reshape(shape)

    def step(self, optimizer: Any) -> bool:
        """Change them, if all have a gradient and have had as many; say whether they did."""
        gradients = [p.grad for p in self.params]
        if any(g is None for g in gradients):
            return False
        mine, one, places = vars(optimizer), vars(self.one), self.places
        one.update(mine)
        one.update(self.own)
        for name in self.counts:
            each = mine[name]
            begun = {each[i] for i in places}
            if len(begun) > 1:
                return False
            one[name] = [*begun]
        change = self.one._change(0, np.concatenate(gradients, axis=None))
        for name in self.counts:
            each, (now,) = mine[name], one[name]
            for i in places:
                each[i] = now
        for p, part, shape in self.parts:
            p.data = p.data - change[part].reshape(shape)
        return True


class Plan:
    """Which Parameters of an optimiser are changed together, and which one by one; made at its first step."""

    def __init__(self, optimizer: Any) -> None:
        self.groups, first = [], 0
        for group in optimizer.groups:
            places = range(first, first := first + len(group.params))
            small: dict[Any, list[int]] = {}
            for i in places if vars(type(optimizer)).get("entrywise") else ():
                if (p := optimizer.params[i]).requires_grad and p.size <= MOST:
                    small.setdefault(p.dtype, []).append(i)
            joined = [Joined(optimizer, some) for some in small.values() if len(some) > 1]
            taken = {i for each in joined for i in each.places}
            self.groups.append((group, joined, [i for i in places if i not in taken]))
        self.lists = [(name, list(each)) for name, each in _lists(optimizer).items() if isinstance(each[0], np.ndarray)]

    def holds(self, optimizer: Any) -> bool:
        """Whether the optimiser's memories are still those that the plan was made with."""
        mine = vars(optimizer)
        return all(len(mine[name]) == len(each) and all(map(is_, mine[name], each)) for name, each in self.lists)


def _lists(optimizer: Any) -> dict[str, list[Any]]:
    """Return what an optimiser has for each Parameter: arrays, or counts."""
    known, n = ("params", "groups"), len(optimizer.params)
    return {k: v for k, v in vars(optimizer).items() if isinstance(v, list) and len(v) == n and k not in known}
