"""tests/pairwise.py covers what it says, with few points, the same each time."""

import itertools

import pytest
from pairwise import pairwise

SETTINGS = {
    "cell": ["lstm", "gru", "elman"],
    "bias": [True, False],
    "reverse": [True, False],
    "shape": [(1, 2), (3, 4), (5, 6)],
}


@pytest.mark.parametrize(("strength", "at_most"), [(1, 3), (2, 11), (3, 24), (4, 36)])
def test_every_combination_is_covered_by_few_points(strength, at_most):
    points = pairwise(SETTINGS, strength=strength)
    for names in itertools.combinations(SETTINGS, strength):
        wanted = set(itertools.product(*(SETTINGS[name] for name in names)))
        assert {tuple(point[name] for name in names) for point in points} == wanted
    assert len(points) <= at_most
    assert points == pairwise(SETTINGS, strength=strength)


def test_what_is_not_allowed_does_not_come_up_and_everything_else_does():
    def allowed(point):
        return point["bias"] or point["cell"] == "lstm"

    points = pairwise(SETTINGS, allowed=allowed)
    assert all(map(allowed, points))
    pairs = {(point["cell"], point["bias"]) for point in points}
    assert pairs == {("lstm", True), ("gru", True), ("elman", True), ("lstm", False)}


def test_one_setting_is_covered_too():
    assert sorted(point["a"] for point in pairwise({"a": [1, 2, 3]})) == [1, 2, 3]
