"""A few points of a grid that bring every two values of any two settings together.

Where settings do not interact, the product of all of them proves little that its pairs do not: a
fault mostly takes one or two of them to show.
"""

import itertools
import random


def pairwise(settings, *, strength=2, allowed=lambda point: True, seed=0):
    """Cover every combination of the values of any ``strength`` settings with few points, always the same ones.

    Parameters
    ----------
    settings : dict of str to iterable
        The values of each setting by its name.
    strength : int
        2 for pairs, 3 for triples.
    allowed : callable
        Tells of a point, a dict with a value for each setting, whether it can be.
    seed : int
        For the choice among points that cover equally much.

    Returns
    -------
    list of dict
        Greedy: each point covers as many combinations that are not covered yet as any other.
    """
    points = [dict(zip(settings, values, strict=True)) for values in itertools.product(*map(list, settings.values()))]
    points = [point for point in points if allowed(point)]
    random.Random(seed).shuffle(points)
    left = [set(_combinations(point, strength)) for point in points]
    chosen = []
    while any(left):
        best = max(range(len(points)), key=lambda i: len(left[i]))
        covered = left[best].copy()
        chosen.append(points[best])
        for combinations in left:
            combinations -= covered
    return chosen


def _combinations(point, strength):
    values = [(name, repr(value)) for name, value in point.items()]
    return itertools.combinations(values, min(strength, len(values)))
