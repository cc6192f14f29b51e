"""Scratch: kept between calls, never shared, and bounded."""

import threading

import numpy as np
import pytest

from minirnn.kernels import scratch


class Buffer:
    """A workspace of n bytes."""

    def __init__(self, n):
        self.key = (n,)
        self.array = np.empty(n, np.uint8)
        self.nbytes = n


class Other(Buffer):
    """Another class with the same key."""


@pytest.fixture(autouse=True)
def empty_shelf(monkeypatch):
    monkeypatch.setattr(scratch, "_shelf", scratch._Shelf())


def test_what_was_given_back_is_taken_again():
    one = scratch.take(Buffer, 10)
    scratch.give(one)
    assert scratch.take(Buffer, 10) is one


def test_what_is_away_is_not_lent_twice():
    one = scratch.take(Buffer, 10)
    two = scratch.take(Buffer, 10)
    assert one is not two
    scratch.give(one)
    scratch.give(two)
    assert scratch.take(Buffer, 10) is two
    assert scratch.take(Buffer, 10) is not one  # one place for each key


def test_class_and_key_tell_them_apart():
    one = scratch.take(Buffer, 10)
    scratch.give(one)
    assert scratch.take(Buffer, 11) is not one
    assert scratch.take(Other, 10) is not one
    assert scratch.take(Buffer, 10) is one


def test_only_the_last_used_are_kept():
    made = [scratch.take(Buffer, n) for n in range(scratch.KEPT + 1)]
    for workspace in made:
        scratch.give(workspace)
    assert len(scratch._shelf.kept) == scratch.KEPT
    assert scratch.take(Buffer, 0) is not made[0]
    assert scratch.take(Buffer, 1) is made[1]
    scratch.give(made[1])  # used last now, so it outlives the others
    for n in range(100, 99 + scratch.KEPT):
        scratch.give(scratch.take(Buffer, n))
    assert scratch.take(Buffer, 1) is made[1]
    assert scratch.take(Buffer, 2) is not made[2]


def test_a_large_one_is_not_kept(monkeypatch):
    monkeypatch.setattr(scratch, "LARGEST", 100)
    for n, kept in ((100, True), (101, False)):
        one = scratch.take(Buffer, n)
        scratch.give(one)
        assert (scratch.take(Buffer, n) is one) == kept


def test_each_thread_has_its_own():
    one = scratch.take(Buffer, 10)
    scratch.give(one)
    seen = []
    thread = threading.Thread(target=lambda: seen.append(scratch.take(Buffer, 10)))
    thread.start()
    thread.join()
    assert seen[0] is not one
    assert scratch.take(Buffer, 10) is one
