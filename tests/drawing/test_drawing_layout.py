from itertools import pairwise

import pytest

from minirnn.drawing.layout import layered, levels, spread

DIAMOND = [[1, 2], [3], [3], []]
SKIPPING = [[1, 3], [2], [3, 4], [], []]  # 0 reads 3 directly, past 1 and 2


def test_a_level_is_the_longest_way():
    assert [levels(graph) for graph in (DIAMOND, SKIPPING, [[]])] == [[0, 1, 1, 2], [0, 1, 2, 3, 3], [0]]


@pytest.mark.parametrize("wanted", [[5, 5, 5, 5], [9, 1, 4, 200], [3, 2, 1, 0], [0, 100, 200, 300]])
def test_spread_leaves_no_overlap_and_is_the_least_squares_answer(wanted):
    heights = [10, 30, 10, 20]
    placed = spread(wanted, heights)
    gaps = [(a + b) / 2 for a, b in pairwise(heights)]
    assert all(b - a >= gap - 1e-9 for (a, b), gap in zip(pairwise(placed), gaps, strict=True))

    def cost(y):
        return sum((a - b) ** 2 for a, b in zip(y, wanted, strict=True))

    for i in range(4):
        for j in range(i, 4):  # no run of neighbours can be moved either way for less
            for by in (-0.01, 0.01):
                moved = [y + by * (i <= k <= j) for k, y in enumerate(placed)]
                if all(b - a >= gap - 1e-9 for (a, b), gap in zip(pairwise(moved), gaps, strict=True)):
                    assert cost(moved) >= cost(placed) - 1e-9


@pytest.mark.parametrize("graph", [DIAMOND, SKIPPING, [[1] * 3, []], [[i + 1, 30] for i in range(30)] + [[]]])
def test_boxes_keep_apart_and_lines_go_from_left_to_right(graph):
    sizes = [(60.0 + 7 * (i % 3), 40.0) for i in range(len(graph))]
    places, lines = layered(graph, sizes)
    for i, ((x, y), (w, h)) in enumerate(zip(places, sizes, strict=True)):
        for (u, v), (a, b) in list(zip(places, sizes, strict=True))[i + 1 :]:
            assert abs(x - u) >= (w + a) / 2 or abs(y - v) >= (h + b) / 2
    for box, own in enumerate(lines):
        assert len(own) == len(graph[box])
        for read, line in zip(graph[box], own, strict=True):
            assert all(b[0] >= a[0] for a, b in pairwise(line))
            assert line[0] == (places[read][0] + sizes[read][0] / 2, places[read][1])
            assert line[-1][0] == places[box][0] - sizes[box][0] / 2
        ends = [line[-1][1] for line in own]
        assert all(abs(end - places[box][1]) < sizes[box][1] / 2 for end in ends)
        assert ends == sorted(set(ends)), "inputs enter in their order, each at a height of its own"


def test_a_line_passes_no_box_between():
    places, lines = layered(SKIPPING, [(60.0, 40.0)] * 5)
    line = lines[0][1]
    for x, y in places[1:3]:
        heights = [v for u, v in line if abs(u - x) <= 31]
        assert heights
        assert all(abs(v - y) > 20 for v in heights)


def test_lines_that_need_not_cross_do_not():
    """Two chains into one box, found in the wrong order."""
    places, _ = layered([[1, 2], [3], [4], [], []], [(60.0, 40.0)] * 5)
    y = [place[1] for place in places]
    assert y[1] < y[2]
    assert y[3] < y[4]
