"""The states of random number generators: collected, checked, and put back into the same objects."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from minirnn.arguments import describe
from minirnn.layers.module import Module

Named = dict[str, np.random.Generator]

WORD = {"has_uint32": 2, "uinteger": 2**32}
STATES: dict[str, dict[str, Any]] = {
    "PCG64": {"state": {"state": 2**128, "inc": 2**128}, **WORD},
    "PCG64DXSM": {"state": {"state": 2**128, "inc": 2**128}, **WORD},
    "MT19937": {"state": {"key": (624, np.uint32), "pos": 625}},
    "Philox": {
        "state": {"counter": (4, np.uint64), "key": (2, np.uint64)},
        "buffer": (4, np.uint64),
        "buffer_pos": 5,
        **WORD,
    },
    "SFC64": {"state": {"state": (4, np.uint64)}, **WORD},
}
"""What numpy's bit generators remember: ints below a bound, arrays of a length and dtype.

numpy takes a position in an array as it comes, and would then read beyond its end: so what a file says is checked."""


def named(model: Module, generators: Mapping[str, np.random.Generator], caller: str) -> Named:
    """Collect every Generator under each of its names: the model's, then those of the training loop."""
    found = {f"model.{name}": rng for name, rng in model.named_generators()}
    for name, rng in generators.items():
        if not isinstance(rng, np.random.Generator):
            raise TypeError(f"{caller}: generators[{name!r}] must be a numpy.random.Generator, got {describe(rng)}")
        found[f"generators[{name!r}]"] = rng
    for name, rng in found.items():
        kind = type(rng.bit_generator).__name__
        if kind not in STATES:
            raise TypeError(f"{caller}: {name} must be a Generator of {', '.join(STATES)}, got {kind}")
    return found


def states_of(generators: Named) -> dict[str, Any]:
    """Collect the state of each Generator once, as plain values, and which of them each name holds."""
    objects = list({id(rng): rng for rng in generators.values()}.values())
    place = {id(rng): i for i, rng in enumerate(objects)}
    return {
        "states": [_plain(rng.bit_generator.state) for rng in objects],
        "holds": {name: place[id(rng)] for name, rng in generators.items()},
    }


def check(saved: Any) -> None:
    """Check that saved states are such as `states_of` gives: TypeError, KeyError or IndexError if not."""
    for name, place in saved["holds"].items():
        kind, state = "bit_generator", dict(saved["states"][place])
        if not _fits(state, {**STATES[state[kind]], kind: state[kind]}):
            raise TypeError(f"bad state: {name}")


def described(saved: dict[str, Any]) -> dict[str, str]:
    """Say of each name what Generator it holds, and with which other name it shares it."""
    first: dict[int, str] = {}
    said = {}
    for name, place in sorted(saved["holds"].items()):
        other = first.setdefault(place, name)
        kind = saved["states"][place]["bit_generator"]
        said[name] = f"a Generator of {kind}" + (f", the same as {other}" if other != name else "")
    return said


def put_back(saved: dict[str, Any], generators: Named) -> None:
    """Set each Generator to its saved state."""
    for name, rng in generators.items():
        rng.bit_generator.state = saved["states"][saved["holds"][name]]


def _plain(state: Any) -> Any:
    if isinstance(state, Mapping):
        return {key: _plain(value) for key, value in state.items()}
    return state.tolist() if isinstance(state, np.ndarray) else state if isinstance(state, str) else int(state)


def _fits(value: Any, spec: Any) -> bool:
    if isinstance(spec, dict):
        return isinstance(value, dict) and value.keys() == spec.keys() and all(_fits(value[k], spec[k]) for k in spec)
    if isinstance(spec, tuple):
        length, dtype = spec
        below = int(np.iinfo(dtype).max) + 1
        return isinstance(value, list) and len(value) == length and all(_fits(item, below) for item in value)
    return value == spec if isinstance(spec, str) else type(value) is int and 0 <= value < spec
