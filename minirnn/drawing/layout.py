"""Where the boxes of a graph stand: in levels from left to right, each box left of whatever uses it.

A box's level is its longest way to the last one; within a level the boxes stand as a walk from the last one finds them,
moved, sweep by sweep, as near to where their lines would be straight as the others let them (Sugiyama, Tagawa & Toda
1981). A line over several levels passes the boxes between through a place of its own, which all lines of one box share.
"""

from collections import Counter
from collections.abc import Sequence
from itertools import accumulate, pairwise

from minirnn.drawing.canvas import Point

_SWEEPS = 12
_BETWEEN, _ABOVE, _LINE = 44, 16, 6  # pixels: between levels, between boxes, and the height of a line that passes

Spot = tuple[int, int]
"""A box and a level: its own, or one that its line passes."""

Neighbours = dict[Spot, dict[Spot, float]]
"""The spots that lines lead to from each, and how far above or below the middle of that one a straight line begins."""


def layered(
    inputs: Sequence[Sequence[int]], sizes: Sequence[tuple[float, float]], leftmost: Sequence[int] = ()
) -> tuple[list[Point], list[list[list[Point]]]]:
    """Lay out an acyclic graph: for each box the numbers of those it reads, in order, and its (width, height).

    Box 0 reads the others, directly or through others; ``leftmost``, which read none, all stand on the left. Returned
    are the middle of each box, and for each box and each of its inputs the line between, ends included.
    """
    level, boxes = levels(inputs), range(len(inputs))
    for v in leftmost:
        level[v] = max(level)
    ways = [[_way(u, v, level) for u in inputs[v]] for v in boxes]
    height = {(v, level[v]): sizes[v][1] for v in boxes}
    columns, neighbours = _columns(ways, level, height)
    y = _heights(columns, neighbours, height)
    wide = [max(sizes[v][0] for v in boxes if level[v] == at) for at in range(len(columns))]
    x = [*accumulate((-a / 2 - _BETWEEN - b / 2 for a, b in pairwise(wide)), initial=0.0)]
    places = [(x[level[v]], y[v, level[v]]) for v in boxes]
    lines = [[_line(way, k, len(ways[v]), sizes, x, wide, y) for k, way in enumerate(ways[v])] for v in boxes]
    return places, lines


def levels(inputs: Sequence[Sequence[int]]) -> list[int]:
    """Return how long the longest way from each box to box 0 is.

    >>> levels([[1, 2], [2], []])
    [0, 1, 2]
    """
    waiting, level, ready = Counter(u for read in inputs for u in read), [0] * len(inputs), [0]
    while ready:
        v = ready.pop()
        for u in inputs[v]:
            level[u] = max(level[u], level[v] + 1)
            waiting[u] -= 1
            if not waiting[u]:
                ready.append(u)
    return level


def spread(wanted: Sequence[float], heights: Sequence[float]) -> list[float]:
    """Return places as near to those wanted as can be, in the least-squares sense, without overlap and in order.

    Boxes that would overlap are pushed together into a block around the mean of what they want.

    >>> spread([0.0, 0.0, 50.0], [10.0, 10.0, 10.0])
    [-5.0, 5.0, 50.0]
    """
    offsets = [*accumulate(((above + below) / 2 for above, below in pairwise(heights)), initial=0.0)]
    blocks = list[list[float]]()  # of each the sum of what is wanted, and how many want it
    for want, offset in zip(wanted, offsets, strict=False):
        blocks.append([want - offset, 1])
        while len(blocks) > 1 and blocks[-2][0] / blocks[-2][1] > blocks[-1][0] / blocks[-1][1]:
            total, count = blocks.pop()
            blocks[-1] = [blocks[-1][0] + total, blocks[-1][1] + count]
    means = [total / count for total, count in blocks for _ in range(int(count))]
    return [mean + offset for mean, offset in zip(means, offsets, strict=False)]


def _way(u: int, v: int, level: Sequence[int]) -> list[Spot]:
    """Return the spots from box u to box v, ends included."""
    return [*((u, at) for at in range(level[u], level[v], -1)), (v, level[v])]


def _columns(
    ways: Sequence[Sequence[Sequence[Spot]]], level: Sequence[int], height: dict[Spot, float]
) -> tuple[list[list[Spot]], Neighbours]:
    """Return the spots of each level, as a walk from box 0 finds them, and each spot's neighbours."""
    columns: list[list[Spot]] = [[(0, 0)], *([] for _ in range(max(level)))]
    neighbours: Neighbours = {(0, 0): {}}
    todo = [0]
    while todo:
        v = todo.pop()
        found = dict.fromkeys(way[0] for way in reversed(ways[v]))
        todo += [spot[0] for spot in found if spot not in neighbours]
        for k, way in enumerate(ways[v]):
            for spot in reversed(way):
                if spot not in neighbours:
                    neighbours[spot] = {}
                    columns[spot[1]].append(spot)
            for left, right in pairwise(way):
                port = _port(k, len(ways[v])) * height[right] if right == way[-1] else 0.0
                neighbours[left].setdefault(right, port)
                neighbours[right].setdefault(left, -port)
    return columns, neighbours


def _heights(columns: Sequence[Sequence[Spot]], neighbours: Neighbours, height: dict[Spot, float]) -> dict[Spot, float]:
    """Return the y of every spot."""
    y = {spot: float(i) for column in columns for i, spot in enumerate(column)}
    for sweep in range(_SWEEPS):
        for column in columns if sweep % 2 == 0 else reversed(columns):
            straight = [[y[other] + port for other, port in neighbours[spot].items()] or [y[spot]] for spot in column]
            wanted = [sum(heights) / len(heights) for heights in straight]
            y |= zip(column, spread(wanted, [height.get(spot, _LINE) + _ABOVE for spot in column]), strict=True)
    return y


def _port(k: int, count: int) -> float:
    """Return where input k of so many enters a box."""
    return (k + 1) / (count + 1) - 0.5


def _line(
    way: Sequence[Spot],
    k: int,
    count: int,
    sizes: Sequence[tuple[float, float]],
    x: Sequence[float],
    wide: Sequence[float],
    y: dict[Spot, float],
) -> list[Point]:
    """Return the line of input k: it enters the box at a height of its own."""
    (u, start), (v, end) = way[0], way[-1]
    port = y[v, end] + sizes[v][1] * _port(k, count)
    points = [(x[start] + sizes[u][0] / 2, y[u, start]), (x[start] + wide[start] / 2, y[u, start])]
    for spot in way[1:-1]:
        at = spot[1]
        points += [(x[at] - wide[at] / 2, y[spot]), (x[at] + wide[at] / 2, y[spot])]
    return [*points, (x[end] - wide[end] / 2, port), (x[end] - sizes[v][0] / 2, port)]
