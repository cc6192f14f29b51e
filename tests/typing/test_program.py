"""The types at the doors: program.py is checked by type checkers, and is run with every assert_type looked at."""

import importlib.util
import pathlib
import runpy
import subprocess
import sys
import types
import typing

import pytest

from minirnn import init, layers
from minirnn.cells.cell import ActivationName
from minirnn.kernels.cells import ACTIVATIONS
from minirnn.layers import sequence_model, settings

PROGRAM = pathlib.Path(__file__).with_name("program.py")
ROOT = PROGRAM.parents[2]


def is_of(value, kind):
    """Whether a value is of a type as it is written, items of named tuples and lists included."""
    if kind is typing.Any:
        return True
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is types.UnionType:
        return any(is_of(value, argument) for argument in arguments)
    if not isinstance(value, origin or kind):
        return False
    if origin is list or arguments[1:] == (...,):
        return all(is_of(item, arguments[0]) for item in value)
    if origin is tuple:
        return len(value) == len(arguments) and all(map(is_of, value, arguments))
    if hasattr(value, "_fields"):
        named = dict(zip(getattr(origin, "__parameters__", ()), arguments, strict=True))
        hints = typing.get_type_hints(type(value))
        return all(is_of(getattr(value, field), named.get(hint, hint)) for field, hint in hints.items())
    return True


def test_what_is_asserted_is_so_at_run_time(monkeypatch):
    seen = []

    def assert_type(value, kind):
        assert is_of(value, kind), f"{value!r} is no {kind}"
        seen.append(kind)
        return value

    monkeypatch.setattr(typing, "assert_type", assert_type)
    runpy.run_path(str(PROGRAM))
    assert len(seen) == PROGRAM.read_text(encoding="utf-8").count("\nassert_type(")


def test_what_looks_at_the_types_says_no():
    lstm = layers.LSTMLayer(2, 3, rng=0)
    result = lstm([[[1.0, 2.0]]])
    assert is_of(result, layers.RecurrentOutput[layers.LSTMState])
    assert not is_of(result, layers.RecurrentOutput[layers.Parameter])
    assert not is_of(result.final_state, layers.RecurrentOutput)
    assert not is_of((1, "a"), tuple[int, int])
    assert not is_of([1, "a"], list[int])
    assert not is_of(1.5, int | None)


@pytest.mark.skipif(importlib.util.find_spec("mypy") is None, reason="mypy is not installed")
def test_mypy_finds_no_fault():
    command = [sys.executable, "-m", "mypy", "--strict", str(PROGRAM.relative_to(ROOT))]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr


def test_names_are_those_that_there_are():
    assert typing.get_args(ActivationName) == tuple(ACTIVATIONS)
    assert typing.get_args(init.InitializerName) == tuple(init.PRESETS)
    assert layers.BACKENDS == settings.BACKENDS == ("fused", "graph")
    assert sequence_model.READOUTS == ("all", "last")
