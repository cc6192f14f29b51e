"""A few points of a grid that bring every two values of any two settings together.

Where settings do not interact, the product of all of them proves little that its pairs do not: a
fault mostly takes one or two of them to show.
"""

import itertools
import math

import numpy as np


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
    values = [list(of) for of in settings.values()]
    sizes = [len(of) for of in values]
    indices = np.random.default_rng(seed).permutation(list(np.ndindex(*sizes)))
    points = [{name: of[i] for name, of, i in zip(settings, values, row, strict=True)} for row in indices]
    fit = [i for i, point in enumerate(points) if allowed(point)]
    ids, total = [], 0  # each combination has a number of its own
    for some in itertools.combinations(range(len(sizes)), min(strength, len(sizes))):
        of_these = [sizes[k] for k in some]
        ids.append(total + np.ravel_multi_index(indices[fit][:, some].T, of_these))
        total += math.prod(of_these)
    ids, left = np.stack(ids, axis=1), np.zeros(total, bool)
    left[ids] = True
    chosen = []
    while left.any():
        best = left[ids].sum(axis=1).argmax()
        left[ids[best]] = False
        chosen.append(points[fit[best]])
    return chosen
