"""What optimisers share: Parameters in groups, settings that are checked, a state that can be saved."""

import copy
import inspect
from collections.abc import Iterable, Iterator, Mapping, MutableMapping
from functools import cache, partial
from typing import Any, ClassVar, TypeAlias

import numpy as np

from minirnn.arguments import Array, as_number, describe, float_dtype
from minirnn.autograd.tensor import Tensor
from minirnn.layers.module import Module
from minirnn.optim.gradients import as_parameters, with_gradient
from minirnn.optim.joined import Plan

Params: TypeAlias = Iterable[Tensor | Mapping[str, Any]]
"""Parameters, or groups of them, dicts such as ``{"params": […], "lr": 0.01}``."""
NONE = np.zeros(0)
"""In place of what is not remembered."""
ABSENT: Any = object()


class Group(MutableMapping[str, Any]):
    """Parameters of an optimiser with settings of their own: ``group["lr"]`` is the rate that holds for them.

    A setting that it lacks is the optimiser's, also when that changes. Setting one makes it the group's own, and
    ``del`` the optimiser's again; both are checked as the optimiser's are. ``own`` are those that it has,
    ``group["params"]`` its Parameters.
    """

    def __init__(self, optimizer: "Optimizer", place: str, params: list[Tensor]) -> None:
        self.params, self.own = tuple(params), dict[str, Any]()
        self._optimizer, self._place = optimizer, place

    def __getitem__(self, name: str) -> Any:
        if name not in self:
            raise KeyError(name)
        return self.params if name == "params" else self.own[name] if name in self.own else vars(self._optimizer)[name]

    def __setitem__(self, name: str, value: Any) -> None:
        settings, at = _settings(self._optimizer), f"{self._optimizer.name}: {self._place}[{name!r}]"
        if name not in settings:
            raise ValueError(f"{at} must be one of {', '.join(settings)}: the Parameters stay, and no other is known")
        self._optimizer._set(self.own, name, value, at)

    def __delitem__(self, name: str) -> None:
        if name not in self.own:
            raise KeyError(name)
        self._optimizer._set(self.own, name, ABSENT, "")

    def __iter__(self) -> Iterator[str]:
        yield from ("params", *_settings(self._optimizer))

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __contains__(self, name: object) -> bool:
        return name in tuple(self)

    def __repr__(self) -> str:
        settings = "".join(f", {name}={value!r}" for name, value in self.own.items())
        return f"<Group of {len(self.params)} Parameters{settings}>"


class Optimizer:
    """What optimisers share: the list of Parameters and the loop over those that have a gradient.

    One of your own defines ``_change``. Its attributes are its state: arguments of its constructor its settings, which
    ``checks`` look at whenever they are set, lists with an array for each Parameter its memory, all others its counts.
    Within ``_change`` the settings are those of the Parameter's group.

    Parameters
    ----------
    params : iterable of Parameters, or of groups
        A group is a dict, ``{"params": […], "lr": 0.01}``, of Parameters and settings of their own. What settings it
        lacks are the optimiser's, also when they change. ``params`` are then all of them, group by group, and
        ``groups`` shows who has what, and sets it; without any all Parameters are one `Group`.
    lr : float
        The learning rate, which may be changed at any time.
    """

    checks: ClassVar[dict[str, Any]] = {"lr": partial(as_number, kind="a number ≥ 0", hint="try 0.01")}
    memories: ClassVar[dict[str, str]] = {}
    """What is remembered only of Parameters for which a setting is not 0 or False: its name by that of the setting."""

    options: ClassVar[tuple[str, ...]] = ()
    """Settings that a state lacks where they are as by default: it is then one that earlier versions wrote and read."""

    entrywise: ClassVar[bool] = False
    """Whether ``_change`` changes each entry by what it remembers of that entry alone, so that it may be given several
    Parameters as one. A class says so for itself, not for those derived from it."""

    def __init__(self, params: Params, lr: float) -> None:
        self.name = type(self).__name__
        given = _groups(params, self.name)
        lists = [as_parameters(g["params"], self.name, g["argument"]) for g in given]
        self.groups = [Group(self, f"groups[{i}]", each) for i, each in enumerate(lists)]
        self.params = as_parameters([p for each in lists for p in each], self.name)
        for i, p in enumerate(self.params):
            float_dtype(p.dtype, f"{self.name}: the dtype of params[{i}]")
        self.lr = lr
        for group, settings in zip(self.groups, given, strict=True):
            group.update({name: value for name, value in settings.items() if name not in ("params", "argument")})

    def __setattr__(self, name: str, value: Any) -> None:
        if name in _settings(self):
            self._set(vars(self), name, value, f"{type(self).__name__}: {name}")
        else:
            object.__setattr__(self, name, value)

    def _set(self, own: dict[str, Any], name: str, value: Any, at: str) -> None:
        """Set a setting among the optimiser's or a group's own, or drop it there, once it has been checked."""
        if value is not ABSENT and name in self.checks:
            value = self.checks[name](value, at)
        after = {k: v for k, v in {**own, name: value}.items() if v is not ABSENT}
        for group in vars(self).get("groups", ()):
            self._agree({**(after if own is vars(self) else vars(self)), **(after if own is group.own else group.own)})
        own.pop(name, None)
        own.update({name: after[name]} if name in after else {})
        if name in self.memories and name in vars(self):
            self._remember(name, self.memories[name])

    def _agree(self, settings: Mapping[str, Any]) -> None:
        """Refuse settings of a group that do not go together, each of which may be right; some may not be there yet."""

    def _remember(self, setting: str, memory: str) -> None:
        """Begin to remember where a setting is on, and forget where it is off."""
        vars(self).pop("_plan", None)
        on = [bool(group[setting]) for group in self.groups for _ in group.params]
        before = vars(self).get(memory) or [NONE] * len(on)
        if not any(on):
            vars(self).update({memory: []} if memory in vars(self) else {})
            return
        kept = [a if a.shape == p.shape else np.zeros_like(p.data) for a, p in zip(before, self.params, strict=True)]
        vars(self)[memory] = [a if want else NONE for a, want in zip(kept, on, strict=True)]

    def zero_grad(self) -> None:
        """Set the ``grad`` of every Parameter to None."""
        for p in self.params:
            p.grad = None

    def step(self) -> None:
        """Change every Parameter that has a gradient; RuntimeError if none has."""
        plan = vars(self).get("_plan")
        if plan is None or not plan.holds(self):
            vars(self)["_plan"] = plan = Plan(self)
        changed = False
        for group, joined, alone in plan.groups:
            usual = group.own and {name: vars(self)[name] for name in group.own}
            vars(self).update(group.own)
            try:
                for some in joined:
                    changed = some.step(self) or self._step(some.places) or changed
                changed = self._step(alone) or changed
            finally:
                vars(self).update(usual)
        if not changed:
            with_gradient(self.params, f"{self.name}.step")

    def _step(self, places: Iterable[int]) -> bool:
        """Change Parameters one by one; say whether any has a gradient."""
        changed = False
        for i in places:
            p = self.params[i]
            if (g := p.grad) is not None:
                p.data = p.data - self._change(i, g)
                changed = True
        return changed

    def _change(self, i: int, g: Array) -> Array:
        """Return the change of Parameter ``i``, which is subtracted from it."""
        raise NotImplementedError

    def _zeros(self) -> list[Array]:
        return [np.zeros_like(p.data) for p in self.params]

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "_plan"}

    # --- state -------------------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Return its name, its settings, and a copy of what it remembers of each Parameter, in the order of `params`.

        It is ``{"optimizer": "Adam", "settings": {"lr": 0.01, …}, "memory": {"first": [arrays], …}, "counts": {…}}``;
        with groups also ``"groups"``, a dict each of their own settings and, as ``"params"``, how many they are.
        """
        settings = _settings(self)
        known = ("name", "params", "groups", "_plan", *settings)
        own = {k: copy.deepcopy(v) for k, v in vars(self).items() if k not in known}
        memory = {k: v for k, v in own.items() if isinstance(v, list) and all(isinstance(a, np.ndarray) for a in v)}
        groups = [{"params": len(group.params), **copy.deepcopy(group.own)} for group in self.groups]
        return {
            "optimizer": self.name,
            "settings": {n: v for n in settings if (v := getattr(self, n)) != settings[n] or n not in self.options},
            "memory": memory,
            "counts": {name: value for name, value in own.items() if name not in memory},
            **({"groups": groups} if len(groups) > 1 or self.groups[0].own else {}),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Set the settings, lr and the groups' among them, and copies of what was remembered; the Parameters stay.

        After it, the next steps are those of the optimiser that was saved, bit for bit. A ValueError lists everything
        that does not fit; nothing has been loaded then.
        """
        if not isinstance(state, Mapping) or state.get("optimizer") != self.name:
            got = f"one of {state.get('optimizer')}" if isinstance(state, Mapping) else describe(state)
            raise ValueError(f"{self.name}.load_state_dict: state must be a state_dict of {self.name}, got {got}")
        try:
            told = state.get("groups", [{"params": len(self.params)}])
            sizes, saved = [len(group.params) for group in self.groups], [each["params"] for each in told]
            if sizes != saved:
                raise ValueError(f"the groups must have {sizes} Parameters, got {saved}")
            groups = [{**each, "params": group.params} for each, group in zip(told, self.groups, strict=True)]
            like = type(self)(groups, **{**state["settings"], "lr": state["settings"]["lr"]})
        except (KeyError, TypeError, ValueError) as error:
            faults = [f"state['settings']: {type(error).__name__}: {error}"]
        else:
            must, given = (
                _built({**s, "settings": sorted({*s["settings"], *self.options}), "groups": {}})
                for s in (like.state_dict(), state)
            )
            faults = [
                f"{path}: must be {must.get(path, 'absent')}, got {given.get(path, 'nothing')}"
                for path in {**must, **given}
                if must.get(path) != given.get(path)
            ]
        if faults:
            raise ValueError(
                f"{self.name}.load_state_dict: nothing was loaded, because of entries that do not fit:\n  "
                + "\n  ".join(faults)
            )
        remembered = copy.deepcopy({**state["memory"], **state["counts"]})
        loaded = {**vars(like), **remembered, "params": self.params, "groups": self.groups}
        vars(self).clear()
        vars(self).update(loaded)
        for mine, other in zip(self.groups, like.groups, strict=True):
            mine.own = other.own


def _settings(optimizer: Any) -> dict[str, Any]:
    """Give what settings an optimiser has, and their defaults."""
    kind: Any = type(optimizer)
    return _arguments(kind)


@cache
def _arguments(kind: Any) -> dict[str, Any]:
    return {name: p.default for name, p in inspect.signature(kind).parameters.items() if name != "params"}


def _groups(params: Any, name: str) -> list[dict[str, Any]]:
    """Return groups as they were given, or one of all Parameters, and by what name errors call the Parameters."""
    if isinstance(params, Tensor | Module | set | frozenset) or callable(params):
        return [{"params": params, "argument": "params"}]
    if isinstance(params, Mapping) and "params" in params:
        raise TypeError(f"{name}: params must be a list of Parameters or of groups, got one group: put it in a list")
    listed = list(params)
    if not any(isinstance(item, Mapping) for item in listed):
        return [{"params": listed, "argument": "params"}]
    for i, group in enumerate(listed):
        if not isinstance(group, Mapping) or "params" not in group:
            got = f"one of {', '.join(map(repr, group))}" if isinstance(group, Mapping) else describe(group)
            raise TypeError(f"{name}: groups[{i}] must be a dict such as {{'params': […], 'lr': 0.01}}, got {got}")
    return [{**group, "argument": f"groups[{i}]['params']"} for i, group in enumerate(listed)]


def _built(part: Any, path: str = "state") -> dict[str, str]:
    """Say what stands in a state, by the path to it: an array of what shape and dtype, a count, or anything else."""
    if isinstance(part, Mapping | list):
        items = part.items() if isinstance(part, Mapping) else enumerate(part)
        return {at: what for key, value in items for at, what in _built(value, f"{path}[{key!r}]").items()}
    return {path: "an int ≥ 0" if type(part) is int and part >= 0 else describe(part)}
