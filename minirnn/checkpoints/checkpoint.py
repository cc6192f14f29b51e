"""`save_checkpoint`, `load_checkpoint`: all that a run needs to go on as if it had never stopped, in one file."""

import pathlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Required, TypedDict, TypeVar

import numpy as np

from minirnn.arguments import Array, as_number, describe, is_real
from minirnn.checkpoints import generators as rngs
from minirnn.layers.module import Module
from minirnn.optim import Optimizer
from minirnn.storage import PARAMETERS, CheckpointError, Contents, as_plain, pack, read, unpack, write

SAVE, LOAD, RESTORE = "save_checkpoint", "load_checkpoint", "Checkpoint.restore"
FOREIGN = "one of another model"
Kind = TypeVar("Kind")


class State(TypedDict, total=False):
    """What `save_checkpoint` takes beside the path."""

    model: Required[Module]
    optimizer: Optimizer | None
    generators: Mapping[str, np.random.Generator] | None
    position: Any
    settings: Mapping[str, Any] | None
    metrics: Mapping[str, float] | None
    extra: Any


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """What a checkpoint holds; `load_checkpoint` makes it, `restore` puts it back.

    ``position``, ``settings``, ``metrics`` and ``extra`` are as they were given to `save_checkpoint`, but that tuples
    are lists.
    """

    path: pathlib.Path  # the file it came from
    version: int  # of the file's format
    module: str  # the type of the model; only told, never looked up
    parameters: dict[str, Array]
    optimizer: dict[str, Any] | None  # a state of `Optimizer.state_dict`
    position: Any
    settings: dict[str, Any]
    metrics: dict[str, float]
    extra: Any
    _order: list[str]
    _generators: dict[str, Any]

    def __repr__(self) -> str:
        return f"<Checkpoint {str(self.path)!r} ({self.module}): position {self.position!r}, metrics {self.metrics}>"

    def restore(
        self,
        model: Module,
        optimizer: Optimizer | None = None,
        generators: Mapping[str, np.random.Generator] | None = None,
    ) -> None:
        """Put everything back where `save_checkpoint` took it from: all of it or nothing.

        The model is to be built as the one that was saved (the same names, shapes and dtypes, its Generators shared
        alike), the optimizer of the same kind over the same Parameters; its settings become those that were saved. A
        CheckpointError lists everything that does not fit. For the weights alone, ``model.load(path)``.

        What training does next is what it would have done, bit for bit. Two things are not in a checkpoint: which
        Parameters are frozen, and how many children a Generator has spawned.
        """
        named = rngs.named(_as(Module, model, RESTORE), _as_generators(generators, RESTORE), RESTORE)
        faults = self._misfits(model) or self._optimizer_misfits(model, optimizer)
        faults += rngs.misfits(self._generators, named)
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
        rngs.put_back(self._generators, named)

    def _misfits(self, model: Module) -> list[str]:
        mine, faults = dict(model.named_parameters()), []
        for name, p in mine.items():
            saved = self.parameters.get(name)
            if saved is None:
                faults.append(f"missing: {name} {p.shape}")
            elif saved.shape != p.shape or saved.dtype != p.dtype:
                faults.append(f"misshapen: {name} was {saved.dtype} {saved.shape}, and is {p.dtype} {p.shape}")
        return faults + [f"unexpected: {name} {a.shape}" for name, a in self.parameters.items() if name not in mine]

    def _optimizer_misfits(self, model: Module, optimizer: Optimizer | None) -> list[str]:
        """Say in what the optimiser and its Parameters' order differ; its own state is checked as it is loaded."""
        was = "none" if self.optimizer is None else self.optimizer["optimizer"]
        now = "none" if optimizer is None else _as(Optimizer, optimizer, RESTORE).name
        if was != now:
            return [f"optimizer: {was} was saved, and {now} is given"]
        order = [] if optimizer is None else _order(model, optimizer)
        if order == self._order:
            return []
        return [f"optimizer: its Parameters were {', '.join(map(str, self._order))}, and are {', '.join(order)}"]


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
    path : str or path
        Of the file; an old one is replaced only when the new one is on the disk.
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
    named = rngs.named(_as(Module, model, SAVE), _as_generators(generators, SAVE), SAVE)
    arrays = {PARAMETERS + name: p.data for name, p in model.named_parameters()}
    content: dict[str, Any] = {"module": type(model).__name__, "optimizer": None, "order": []}
    if optimizer is not None:
        content["order"] = _saved_order(model, _as(Optimizer, optimizer, SAVE))
        content["optimizer"], more = pack(optimizer.state_dict(), f"{SAVE}: optimizer", "optimizer")
        arrays |= more
    content["generators"] = rngs.collect(named)
    content["position"] = as_plain(position, f"{SAVE}: position")
    content["settings"] = as_plain(_as_dict(settings, "settings"), f"{SAVE}: settings")
    content["metrics"] = {
        name: as_number(value, f"{SAVE}: metrics[{name!r}]", "a number")  # NaN and inf, too
        for name, value in _as_dict(metrics, "metrics").items()
    }
    content["extra"], more = pack(extra, f"{SAVE}: extra", "extra")
    return write(path, "checkpoint", content, arrays | more, SAVE)


def load_checkpoint(path: Any) -> Checkpoint:
    """Read a checkpoint; what is in it goes nowhere before `Checkpoint.restore`.

    CheckpointError for a file that is truncated, changed in any bit, foreign, a pickle, or of a later version, and for
    weights alone; OSError where it cannot be read. Nothing in a file is ever run, and no more memory is taken than it
    is long.
    """
    contents = read(path, LOAD)
    if contents.kind != "checkpoint":
        raise CheckpointError(f"{LOAD}: {str(contents.path)!r} holds weights alone: try model.load(path)")
    try:
        return _checkpoint(contents)
    except (KeyError, TypeError, IndexError, AttributeError, RecursionError) as error:
        fault = f"lacks what a checkpoint holds ({type(error).__name__}: {error}). Load only files that minirnn wrote"
        raise CheckpointError(f"{LOAD}: {str(contents.path)!r} {fault}") from error


def _checkpoint(contents: Contents) -> Checkpoint:
    content, arrays = contents.content, contents.arrays
    optimizer = unpack(content["optimizer"], arrays)
    saved = content["generators"]
    if not isinstance(saved["states"], list) or not all(saved["states"][i] for i in saved["holds"].values()):
        raise TypeError("generators")
    for name, kind in {"module": str, "order": list, "settings": dict, "metrics": dict}.items():
        if not isinstance(content[name], kind):
            raise TypeError(name)
    if not (optimizer is None or isinstance(optimizer["optimizer"], str)):
        raise TypeError("optimizer")
    if not all(map(is_real, content["metrics"].values())):
        raise TypeError("metrics")
    return Checkpoint(
        path=contents.path,
        version=contents.version,
        parameters=contents.parameters,
        optimizer=optimizer,
        extra=unpack(content["extra"], arrays),
        _order=content["order"],
        _generators=saved,
        **{name: content[name] for name in ("module", "position", "settings", "metrics")},
    )


# --- arguments --------------------------------------------------------------------------------------------------------


def _as(kind: type[Kind], value: Any, caller: str) -> Kind:
    if not isinstance(value, kind):
        argument = "model must be a Module" if kind is Module else "optimizer must be an Optimizer"
        raise TypeError(f"{caller}: {argument}, got {describe(value)}")
    return value


def _as_generators(generators: Any, caller: str) -> Mapping[str, np.random.Generator]:
    if generators is None:
        return {}
    if not isinstance(generators, Mapping) or not all(isinstance(name, str) for name in generators):
        example = "{'data': rng}"
        raise TypeError(f"{caller}: generators must be a dict such as {example}, got {describe(generators)}")
    return generators


def _as_dict(value: Any, argument: str) -> Mapping[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, Mapping) or not all(type(name) is str for name in value):
        raise TypeError(f"{SAVE}: {argument} must be a dict with str keys, got {describe(value)}")
    return value


def _order(model: Module, optimizer: Optimizer) -> list[str]:
    """Return the model's names of what the optimiser changes, FOREIGN for a Parameter that is not the model's."""
    names = {id(p): name for name, p in model.named_parameters()}
    return [names.get(id(p), FOREIGN) for p in optimizer.params]


def _saved_order(model: Module, optimizer: Optimizer) -> list[str]:
    order = _order(model, optimizer)
    if FOREIGN in order:
        foreign = optimizer.params[order.index(FOREIGN)]
        raise ValueError(
            f"{SAVE}: optimizer changes {foreign.label}, which is not the model's and would not be saved: set it as "
            "an attribute of the model, or save the model that the optimizer was made for"
        )
    return order
