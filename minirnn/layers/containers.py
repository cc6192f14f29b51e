"""What holds other modules by number or by name: ModuleList, ModuleDict, Sequential."""

from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping, MutableSequence
from typing import Any, cast

from minirnn.arguments import describe
from minirnn.autograd.tensor import Tensor
from minirnn.layers.module import Module


def _within(module: Module) -> dict[str, Any]:
    return {name: value for name, value in vars(module).items() if isinstance(value, Module)}


class ModuleList(Module, MutableSequence[Any]):
    """Modules in a list, which walks find as "0", "1", …: `parameters`, `train`, `state_dict` and all others.

    It does what a list does (a slice is a ModuleList of the same modules); to call them is the caller's business.

    >>> import minirnn as mr
    >>> blocks = ModuleList(mr.Linear(4, 4, bias=False) for _ in range(2))
    >>> blocks.append(mr.LSTMLayer(4, 3))
    >>> len(blocks), blocks[-1].hidden_size, [name for name, _ in blocks.named_parameters()][:2]
    (3, 3, ['0.weight', '1.weight'])
    """

    def __init__(self, modules: Iterable[Module] = ()) -> None:
        super().__init__()
        self._change(list.extend, modules)

    def __iter__(self) -> Iterator[Any]:
        return iter(_within(self).values())

    def __len__(self) -> int:
        return len(_within(self))

    def __getitem__(self, index: Any) -> Any:
        found = [*self][index]
        if not isinstance(index, slice):
            return found
        return Sequential(*found) if isinstance(self, Sequential) else ModuleList(found)

    def __setitem__(self, index: Any, value: Any) -> None:
        self._change(list.__setitem__, index, value)

    def __delitem__(self, index: Any) -> None:
        self._change(list.__delitem__, index)

    def insert(self, index: int, value: Module) -> None:
        """Put a module before the one at an index."""
        self._change(list.insert, index, value)

    def _change(self, how: Callable[..., object], *arguments: Any) -> None:
        """Change as a list does, with names that are numbers again; nothing has changed if a module is refused."""
        modules = [*self]
        how(modules, *arguments)
        self._check(modules)
        for name in _within(self):
            del vars(self)[name]
        vars(self).update({str(i): module for i, module in enumerate(modules)})
        vars(self).pop("_kept", None)

    def _check(self, modules: list[Module]) -> None:
        for i, module in enumerate(modules):
            if not isinstance(module, Module):
                raise TypeError(f"{type(self).__name__}: modules[{i}] must be a Module, got {type(module).__name__}")
            module._look(f"{i}.", self)


class Sequential(ModuleList):
    """Modules applied one after the other, each to what the one before returned; a list of them, as `ModuleList` is.

    None of them is recurrent: such a layer returns its state too, which a chain would lose; see `SequenceModel`.

    >>> import minirnn as mr
    >>> chain = Sequential(mr.Linear(3, 4), mr.Dropout(0.5), mr.Linear(4, 1))
    >>> chain([[0.0, 0.0, 0.0]]).shape, len(chain), chain[:2]([[0.0, 0.0, 0.0]]).shape
    ((1, 1), 3, (1, 4))
    """

    def __init__(self, *modules: Module) -> None:
        super().__init__(modules)

    def forward(self, x: Any) -> Tensor:
        """Apply the modules in order."""
        for module in self:
            x = module(x)
        return cast(Tensor, x)

    def _check(self, modules: list[Module]) -> None:
        super()._check(modules)
        if not modules:
            raise ValueError("Sequential: expected at least one module, got none")
        for i, module in enumerate(modules):
            if module.carries_state:
                raise TypeError(
                    f"Sequential: modules[{i}], a {type(module).__name__}, returns a state beside its outputs, which a "
                    "chain would lose: use SequenceModel(recurrent, head)"
                )


class ModuleDict(Module, MutableMapping[str, Any]):
    """Modules in a dict, which walks find under their keys: `parameters`, `train`, `state_dict` and all others.

    It does what a dict does. A key is a str without a dot, and no attribute that every module has.

    >>> import minirnn as mr
    >>> heads = ModuleDict({"tag": mr.Linear(4, 2), "sign": mr.Linear(4, 1)})
    >>> list(heads), "tag" in heads, [name for name, _ in heads.named_parameters()][:2]
    (['tag', 'sign'], True, ['tag.weight', 'tag.bias'])
    """

    __eq__, __hash__ = object.__eq__, object.__hash__  # a module is itself, as all others are

    def __init__(self, modules: Mapping[str, Module] | Iterable[tuple[str, Module]] = ()) -> None:
        super().__init__()
        self.update(modules)

    def __iter__(self) -> Iterator[str]:
        return iter(_within(self))

    def __len__(self) -> int:
        return len(_within(self))

    def __getitem__(self, key: str) -> Any:
        return _within(self)[key]

    def __setitem__(self, key: str, value: Any) -> None:
        if not isinstance(key, str) or not key or "." in key or (key not in self and hasattr(self, key)):
            expected = "a str without a dot that is no attribute of every module"
            raise ValueError(f"ModuleDict: a key must be {expected}, got {describe(key)}: try another name")
        if not isinstance(value, Module):
            raise TypeError(f"ModuleDict: the module of {key!r} must be a Module, got {type(value).__name__}")
        setattr(self, key, value)

    def __delitem__(self, key: str) -> None:
        self[key]  # or a KeyError
        delattr(self, key)
