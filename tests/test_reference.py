"""The reference has what it promises: of every public name an example that runs, and no attribute without a word."""

import importlib
import inspect
import re
from pathlib import Path

import pytest

import minirnn

EXAMPLES = (Path(__file__).parents[1] / "docs" / "examples.txt").read_text("utf-8")
ROOMS = ["minirnn", *(f"minirnn.{name}" for name in minirnn.__all__ if inspect.ismodule(getattr(minirnn, name)))]


def public():
    """Yield (name, thing) for every public class and function; those of a room without ``__all__`` are its own."""
    for room in [*ROOMS, "minirnn.training.schedules"]:
        module = importlib.import_module(room)
        for name in getattr(module, "__all__", vars(module)):
            thing = getattr(module, name)
            own = hasattr(module, "__all__") or getattr(thing, "__module__", "") == room
            if own and not name.startswith("_") and callable(thing) and thing.__module__.startswith("minirnn"):
                yield f"{room}.{name}", thing


THINGS = dict(public())


def test_every_public_name_has_an_example_in_one_place():
    listed = re.findall(r"^(minirnn\.[\w.]+)$", EXAMPLES, re.M)
    assert len(set(listed)) == len(listed)
    assert set(listed) <= THINGS.keys()
    have = {id(thing) for name, thing in THINGS.items() if name in listed}  # some things have two names
    for name, thing in THINGS.items():
        assert (">>>" in thing.__doc__) != (id(thing) in have), name


@pytest.mark.parametrize("name", [name for name, thing in THINGS.items() if inspect.isclass(thing)])
def test_every_attribute_is_described(name):
    lines = inspect.getdoc(THINGS[name]).splitlines()
    section = ""
    for line, after in zip(lines, [*lines[1:], ""], strict=True):
        section = line if re.fullmatch("-{3,}", after) else section
        if section == "Attributes" and re.match(r"[\w, ]+ : ", line):
            assert after.startswith("    "), line


def test_no_docstring_has_marks_of_another_markup():
    found = [name for name, thing in THINGS.items() if re.search(r"::$", inspect.getdoc(thing), re.M)]
    assert found == []
