"""`save_checkpoint`, `load_checkpoint`: all that a run needs to go on as if it had never stopped, in one file."""

import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from minirnn.arguments import Array, as_number, describe, is_real
from minirnn.checkpoints.trees import pack, unpack
from minirnn.layers.module import Module
from minirnn.optim import Optimizer
from minirnn.storage import PARAMETERS, CheckpointError, Contents, read, write

SAVE, LOAD, RESTORE = "save_checkpoint", "load_checkpoint", "Checkpoint.restore"


class Checkpoint:
    """What a checkpoint holds; `load_checkpoint` makes it, `restore` puts it back.

    ``position``, ``settings``, ``metrics`` and ``extra`` are as they were given to `save_checkpoint`, but that tuples
    are lists.
    """

    def __init__(self, contents: Contents) -> None:
        content = contents.content
        self.path = contents.path
        self.version = contents.version  # of the file's format
        self.parameters = contents.parameters
        self.module: str = content["module"]  # the type of the model; only told, never looked up
        self.optimizer: dict[str, Any] | None = unpack(content["optimizer"], contents.arrays)
        self.position: Any = content["position"]
        self.settings: dict[str, Any] = content["settings"]
        self.metrics: dict[str, float] = content["metrics"]
        self.extra: Any = unpack(content["extra"], contents.arrays)
        self._order: list[Any] = content["order"]  # the names of the Parameters that the optimizer changes
        self._generators: dict[str, Any] = content["generators"]  # see `_states_of`

    def __repr__(self) -> str:
        return f"<Checkpoint {str(self.path)!r} ({self.module}): position {self.position!r}, metrics {self.metrics}>"

    def restore(
        self,
        model: Module,
        optimizer: Optimizer | None = None,
        generators: Mapping[str, np.random.Generator] | None = None,
        begun: Mapping[str, Any] | None = None,
    ) -> None:
        """Put everything back where `save_checkpoint` took it from: all of it or nothing.

        The model is to be built as the one that was saved (the same names, shapes and dtypes, its Generators shared
        alike), the optimizer of the same kind over the same Parameters; its settings become those that were saved. A
        CheckpointError lists everything that does not fit; among it what the run was ``begun`` with, as far as
        ``extra["begun"]`` says otherwise. For the weights alone, ``model.load(path)``.

        What training does next is what it would have done, bit for bit. Two things are not in a checkpoint: which
        Parameters are frozen, and how many children a Generator has spawned.
        """
        named = _generators(model, optimizer, generators, RESTORE)
        saved = None if self.optimizer is None else self.optimizer["optimizer"]
        then = _described(self.parameters, saved, self._order, self._generators)
        given = None if optimizer is None else optimizer.name
        arrays = {name: p.data for name, p in model.named_parameters()}
        now = _described(arrays, given, _order(model, optimizer), _states_of(named))
        known = self.extra.get("begun", {}) if isinstance(self.extra, dict) else {}
        for name, value in (begun or {}).items():
            if name in known:
                then[f"the run's {name}"], now[f"the run's {name}"] = known[name], value
        faults = [f"missing: {name}, {now[name]}" for name in now if name not in then]
        faults += [f"unexpected: {name}, {then[name]}" for name in then if name not in now]
        faults += [f"{n} was {then[n]}, and is {now[n]}" for n in then if n in now and now[n] != then[n]]
        if not faults and optimizer is not None and self.optimizer is not None:
            try:
                optimizer.load_state_dict(self.optimizer)
            except ValueError as error:
                faults = [str(error)]
        if faults:
            raise CheckpointError(
                f"{RESTORE}: {str(self.path)!r} was saved from a model of type {self.module} that was built otherwise; "
                "nothing was restored. Build everything as it was built then, or take the weights alone with "
                "model.load(path):\n  " + "\n  ".join(faults)
            )
        model.load_state_dict(self.parameters)
        for name, rng in named.items():
            rng.bit_generator.state = self._generators["states"][self._generators["holds"][name]]


def save_checkpoint(
    path: Any,
    *,
    model: Module,
    optimizer: Optimizer | None = None,
    generators: Mapping[str, np.random.Generator] | None = None,
    position: Any = None,
    settings: Mapping[str, Any] | None = None,
    metrics: Mapping[str, float] | None = None,
    extra: Any = None,
) -> pathlib.Path:
    """Save all that a run needs to go on: one file, an ``.npz``, written whole or not at all.

    Parameters
    ----------
    path : str, path or binary file
        An old file is replaced only when the new one is on the disk. It keeps its mode, a symbolic link leads where it
        led, and what is no regular file (a pipe, ``io.BytesIO()``) is written into.
    model : Module
        Its Parameters, and the Generators that it and its modules draw from (dropout's masks).
    optimizer : Optimizer, optional
        Its settings and what it remembers of each Parameter.
    generators : dict of numpy Generators, optional
        What the training loop draws from, such as ``{"data": rng}``. One that is shared stays shared.
    position : JSON values
        Where in the data and in the run training stands.
    settings : dict of JSON values, optional
        What is needed to build the model again.
    metrics : dict of numbers, optional
        NaN and inf too.
    extra : tree of dicts, lists, JSON values and arrays, optional
        Anything else that must go on, such as the state carried from batch to batch.

    Raises
    ------
    TypeError, ValueError, OSError
        For what cannot be saved, naming it, or cannot be written; a file that was there is what it was.

    Notes
    -----
    The same state gives the same bytes. ``numpy.load(path)`` reads the arrays.

    >>> import os, tempfile
    >>> import minirnn as mr
    >>> rng = np.random.default_rng(0)
    >>> model = mr.SequenceModel(mr.RecurrentLayer(2, 8, rng=1), mr.Linear(8, 1, rng=2), readout="last")
    >>> adam = mr.optim.Adam(model.parameters())
    >>> path = os.path.join(tempfile.mkdtemp(), "run.npz")
    >>> run = {"model": model, "optimizer": adam, "generators": {"data": rng}}
    >>> _ = save_checkpoint(path, **run, position={"update": 20})
    >>> next_draw = rng.random()
    >>> checkpoint = load_checkpoint(path)
    >>> checkpoint.restore(**run)
    >>> rng.random() == next_draw, checkpoint.position
    (True, {'update': 20})
    """
    named = _generators(model, optimizer, generators, SAVE)
    order = _order(model, optimizer)
    if None in order and optimizer is not None:
        raise ValueError(
            f"{SAVE}: optimizer changes {optimizer.params[order.index(None)].label}, which is not the model's and "
            "would not be saved: set it as an attribute of the model, or save the model that the optimizer was made for"
        )
    remembered, arrays = pack(optimizer.state_dict() if optimizer else None, f"{SAVE}: optimizer", "optimizer")
    more, extra_arrays = pack(extra, f"{SAVE}: extra", "extra")
    plain = {"position": position, "settings": _as_dict(settings, f"{SAVE}: settings must be a dict with str keys")}
    content: dict[str, Any] = {
        "module": type(model).__name__,
        "optimizer": remembered,
        "order": order,
        "generators": _states_of(named),
        **{name: pack(value, f"{SAVE}: {name}", "", arrays=False)[0] for name, value in plain.items()},
        "metrics": {
            name: as_number(value, f"{SAVE}: metrics[{name!r}]", "a number")  # NaN and inf, too
            for name, value in _as_dict(metrics, f"{SAVE}: metrics must be a dict with str keys").items()
        },
        "extra": more,
    }
    parameters = {PARAMETERS + name: p.data for name, p in model.named_parameters()}
    return write(path, "checkpoint", content, parameters | arrays | extra_arrays, SAVE)


def load_checkpoint(path: Any) -> Checkpoint:
    """Read a checkpoint from a path or a binary file; what is in it goes nowhere before `Checkpoint.restore`.

    CheckpointError for a file that is truncated, changed in any bit, foreign, a pickle, or of a later version, and for
    weights alone; OSError where it cannot be read. Nothing in a file is ever run, and no more memory is taken than it
    is long.
    """
    return checkpoint_of(read(path, LOAD))


def checkpoint_of(contents: Contents) -> Checkpoint:
    """Make a checkpoint of what was read, or raise the errors of `load_checkpoint`."""
    if contents.kind != "checkpoint":
        raise CheckpointError(f"{LOAD}: {str(contents.path)!r} holds weights alone: try model.load(path)")
    try:
        checkpoint = Checkpoint(contents)
        _check_states(checkpoint._generators)
        kinds = {"module": str, "_order": list, "settings": dict, "metrics": dict, "optimizer": dict | None}
        wrong = [name for name, kind in kinds.items() if not isinstance(getattr(checkpoint, name), kind)]
        if wrong or not all(map(is_real, checkpoint.metrics.values())):
            raise TypeError(f"the type of {', '.join(wrong) or 'metrics'}")
        if checkpoint.optimizer is not None and not isinstance(checkpoint.optimizer["optimizer"], str):
            raise TypeError("the type of optimizer")
        return checkpoint
    except (LookupError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise CheckpointError(
            f"{LOAD}: {str(contents.path)!r} lacks what a checkpoint holds ({type(error).__name__}: {error}). Load "
            "only files that minirnn wrote"
        ) from error


# --- what a run is made of --------------------------------------------------------------------------------------------


def _generators(model: Any, optimizer: Any, generators: Any, caller: str) -> dict[str, np.random.Generator]:
    """Check what a run is made of, and collect its Generators by name: the model's, then those of the loop."""
    if not isinstance(model, Module):
        raise TypeError(f"{caller}: model must be a Module, got {describe(model)}")
    if not isinstance(optimizer, Optimizer | None):
        raise TypeError(f"{caller}: optimizer must be an Optimizer, got {describe(optimizer)}")
    expected = f"{caller}: generators must be a dict such as {{'data': rng}}"
    found = {f"model.{name}": rng for name, rng in model.named_generators()}
    found |= {f"generators[{name!r}]": rng for name, rng in _as_dict(generators, expected).items()}
    for name, rng in found.items():
        kind = type(rng.bit_generator).__name__ if isinstance(rng, np.random.Generator) else describe(rng)
        if kind not in STATES:
            raise TypeError(f"{caller}: {name} must be a numpy.random.Generator of {', '.join(STATES)}, got {kind}")
    return found


def _as_dict(value: Any, expected: str) -> Mapping[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, Mapping) or not all(type(name) is str for name in value):
        raise TypeError(f"{expected}, got {describe(value)}")
    return value


def _order(model: Module, optimizer: Optimizer | None) -> list[str | None]:
    """Give the model's names of what the optimizer changes, None for a Parameter that is not the model's."""
    names = {id(p): name for name, p in model.named_parameters()}
    return [] if optimizer is None else [names.get(id(p)) for p in optimizer.params]


def _described(
    arrays: Mapping[str, Array], optimizer: str | None, order: list[Any], generators: dict[str, Any]
) -> dict[str, str]:
    """Say of each part of a run what it is, so that what was saved can be held against what is there."""
    over = ", ".join("one of another model" if name is None else str(name) for name in order)
    said = {name: f"{a.dtype} {a.shape}" for name, a in arrays.items()}
    said["the optimizer"] = f"{optimizer} over {over}" if optimizer else "none"
    first: dict[int, str] = {}
    for name, place in sorted(generators["holds"].items()):
        other = first.setdefault(place, name)
        kind = generators["states"][place]["bit_generator"]
        said[name] = f"a Generator of {kind}" + (f", the same as {other}" if other != name else "")
    return said


# --- the states of random number generators ---------------------------------------------------------------------------

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


def _states_of(generators: Mapping[str, np.random.Generator]) -> dict[str, Any]:
    """Collect the state of each Generator once, as plain values, and which of them each name holds."""
    objects = list({id(rng): rng for rng in generators.values()}.values())
    place = {id(rng): i for i, rng in enumerate(objects)}
    return {
        "states": [_plain(rng.bit_generator.state) for rng in objects],
        "holds": {name: place[id(rng)] for name, rng in generators.items()},
    }


def _check_states(saved: Any) -> None:
    """Check that saved states are such as `_states_of` gives: TypeError, KeyError or IndexError if not."""
    for name, place in saved["holds"].items():
        kind, state = "bit_generator", dict(saved["states"][place])
        if not _fits(state, {**STATES[state[kind]], kind: state[kind]}):
            raise TypeError(f"bad state: {name}")


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
