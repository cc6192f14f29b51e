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
    """Return every Generator under each of its names: the model's, then those of the training loop."""
    found = {f"model.{name}": rng for name, rng in model.named_generators()}
    for name, rng in generators.items():
        if not isinstance(rng, np.random.Generator):
            raise TypeError(f"{caller}: generators[{name!r}] must be a numpy.random.Generator, got {describe(rng)}")
        found[f"generators[{name!r}]"] = rng
    for name, rng in found.items():
        if _kind(rng) not in STATES:
            raise TypeError(f"{caller}: {name} must be a Generator of {', '.join(STATES)}, got {_kind(rng)}")
    return found


def collect(generators: Named) -> dict[str, Any]:
    """Return the state of each Generator once, as plain values, and which of them each name holds."""
    objects = list({id(rng): rng for rng in generators.values()}.values())
    place = {id(rng): i for i, rng in enumerate(objects)}
    return {
        "states": [_plain(rng.bit_generator.state) for rng in objects],
        "holds": {name: place[id(rng)] for name, rng in generators.items()},
    }


def misfits(saved: Any, generators: Named) -> list[str]:
    """Say what keeps saved states from being put back into these Generators: names, kinds, sharing, bad states."""
    states, holds = saved["states"], saved["holds"]
    faults = [f"missing: {name}, a Generator" for name in generators if name not in holds]
    faults += [f"unexpected: {name}, a Generator" for name in holds if name not in generators]
    first: dict[int, str] = {}
    for name in (name for name in holds if name in generators):
        state, other = states[holds[name]], first.setdefault(holds[name], name)
        if generators[other] is not generators[name]:
            faults.append(f"not shared: {name} and {other} were one Generator")
        elif not isinstance(state, dict) or state.get("bit_generator") != _kind(generators[name]):
            was = state.get("bit_generator") if isinstance(state, dict) else describe(state)
            faults.append(f"another kind: {name} was a Generator of {was}, and is one of {_kind(generators[name])}")
        elif not _fits({k: v for k, v in state.items() if k != "bit_generator"}, STATES[_kind(generators[name])]):
            faults.append(f"bad state: {name}")
    owners: dict[int, str] = {}
    for name in first.values():
        other = owners.setdefault(id(generators[name]), name)
        if other != name:
            faults.append(f"shared: {name} and {other} were two Generators")
    return faults


def put_back(saved: Any, generators: Named) -> None:
    """Set each Generator to its saved state; `misfits` has found nothing."""
    for name, rng in generators.items():
        rng.bit_generator.state = saved["states"][saved["holds"][name]]


def _kind(rng: np.random.Generator) -> str:
    return type(rng.bit_generator).__name__


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
    return type(value) is int and 0 <= value < spec
