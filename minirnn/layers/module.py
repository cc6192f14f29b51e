"""Parameter and Module: named leaves, and what owns them."""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, ParamSpec, Protocol, Self, TextIO, TypeVar

import numpy as np

from minirnn.arguments import Array, Generator, as_array, describe
from minirnn.autograd.tensor import Tensor

if TYPE_CHECKING:  # and in the methods that need them
    import pathlib

    from minirnn import counting

P = ParamSpec("P")
Returned = TypeVar("Returned", covariant=True)
Held = TypeVar("Held")


class Parameter(Tensor):
    """A leaf that a Module owns and an optimiser changes; ``requires_grad = False`` freezes it."""

    __slots__ = ("name",)

    def __init__(self, data: Any, requires_grad: bool = True, name: str = "") -> None:
        super().__init__(as_array(data, "Parameter: data"), requires_grad)
        self.name = name

    @property
    def label(self) -> str:
        """Its name and shape, as errors give them."""
        return f"parameter {self.name or 'without a name'} {self.shape}"

    def __reduce__(self) -> Any:
        remake, (*parts,), state = super().__reduce__()
        return remake, (*parts, self.name), state


class _Forward(Protocol[P, Returned]):
    """What `Module.__call__` takes its signature from."""

    def forward(self, *args: P.args, **kwargs: P.kwargs) -> Returned: ...


class Module:
    """Owns Parameters and other Modules, in the order in which they were set as attributes.

    A subclass sets them in ``__init__`` and defines ``forward``; calling the module calls ``forward``.

    Attributes
    ----------
    training : bool
        True until `eval` is called; layers such as Dropout look at it.
    carries_state : bool
        Whether a call takes and returns a state, as recurrent layers do.
    """

    carries_state = False

    def __init__(self) -> None:
        self.training = True

    def __setattr__(self, name: str, value: Any) -> None:
        if isinstance(value, Parameter):
            value.name = value.name or name
        elif value is not None and isinstance(vars(self).get(name), Parameter):
            raise TypeError(
                f"{type(self).__name__}.{name} is a Parameter, which would be lost: to change its values set "
                f"{name}.data, to replace it set a Parameter, to do without it set None"
            )
        held = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ()
        if any(isinstance(item, Parameter | Module) for item in held):
            raise TypeError(
                f"{type(self).__name__}.{name}: within a {type(value).__name__} parameters() would not find them: "
                "set each Parameter and Module as an attribute of its own, or put Modules in a Sequential"
            )
        object.__setattr__(self, name, value)

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Fill a copy, whose dtype is numpy's own object again: layers ask for it by identity."""
        vars(self).update(state)
        if isinstance(state.get("dtype"), np.dtype):
            self.dtype = np.dtype(state["dtype"].type)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Compute the output; a subclass says how."""
        raise NotImplementedError(f"{type(self).__name__} must define forward()")

    def __call__(self: _Forward[P, Returned], *args: P.args, **kwargs: P.kwargs) -> Returned:
        """Call `forward`."""
        return self.forward(*args, **kwargs)

    # --- what it owns ------------------------------------------------------------------------------------------------

    def children(self) -> Iterator[tuple[str, "Module"]]:
        """Yield the modules it owns, with the names by which they are known here."""
        return ((name, value) for name, value in vars(self).items() if isinstance(value, Module))

    def named_parameters(self) -> Iterator[tuple[str, Parameter]]:
        """Yield each Parameter once, in the order of insertion; dotted names lead into the modules owned."""
        first: dict[int, tuple[str, Parameter]] = {}
        for name, parameter in self._held(Parameter):
            first.setdefault(id(parameter), (name, parameter))
        return iter(first.values())

    def _held(self, kind: type[Held], prefix: str = "") -> Iterator[tuple[str, Held]]:
        """Yield what of a kind it and the modules owned hold, by dotted names, what is shared more than once."""
        for name, value in vars(self).items():
            if isinstance(value, kind):
                yield prefix + name, value
            elif isinstance(value, Module):
                yield from value._held(kind, f"{prefix}{name}.")

    def parameters(self) -> list[Parameter]:
        """Return all Parameters, in a stable order."""
        return [parameter for _, parameter in self.named_parameters()]

    def named_generators(self) -> Iterator[tuple[str, Generator]]:
        """Yield the Generators that it and the modules owned may draw from; a shared one under each of its names."""
        return self._held(np.random.Generator)

    def count_params(self) -> int:
        """Return how many numbers the Parameters hold; needs no data."""
        return sum(parameter.size for parameter in self.parameters())

    def zero_grad(self) -> None:
        """Set the ``grad`` of every Parameter to None."""
        for value in vars(self).values():  # once an update: so not through generators
            if isinstance(value, Parameter):
                value.grad = None
            elif isinstance(value, Module):
                value.zero_grad()

    def train(self, mode: bool = True) -> Self:
        """Switch to training, here and in the modules owned."""
        self.training = mode
        for _, child in self.children():
            child.train(mode)
        return self

    def eval(self) -> Self:
        """Switch to evaluation, here and in the modules owned."""
        return self.train(False)

    # --- state -------------------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Array]:
        """Return a copy of every Parameter's values by its name."""
        return {name: parameter.data.copy() for name, parameter in self.named_parameters()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Set every Parameter to a copy of the values given under its name."""
        if not isinstance(state, Mapping):
            raise TypeError(
                f"{type(self).__name__}.load_state_dict: state must map names to arrays, got {type(state).__name__}: "
                "try a dict"
            )
        parameters = dict(self.named_parameters())
        faults, arrays = [], {}
        for name, p in parameters.items():
            try:
                arrays[name] = as_array(state[name], name, p.dtype)
            except KeyError:
                faults.append(f"missing: {name} {p.shape}")
            except TypeError:
                faults.append(f"not an array of numbers: {name} is {describe(state[name])}")
            else:
                if arrays[name].shape != p.shape:
                    faults.append(f"misshapen: {name} must have shape {p.shape}, got {arrays[name].shape}")
        faults += [f"unexpected: {name}" for name in state if name not in parameters]
        if faults:
            raise ValueError(
                f"{type(self).__name__}.load_state_dict: nothing was loaded, because of entries that do not fit:\n  "
                + "\n  ".join(faults)
            )
        arrays = {name: array.astype(parameters[name].dtype) for name, array in arrays.items()}
        for name, p in parameters.items():
            p.data = arrays[name]

    def save(self, path: Any) -> "pathlib.Path":
        """Save the values of every Parameter to a file, an ``.npz``, whole or not at all (OSError); return its path.

        For the optimiser and the Generators too, and for where training was, see `minirnn.checkpoints.save_checkpoint`.
        """
        from minirnn.storage import PARAMETERS, write

        kind = type(self).__name__
        arrays = {PARAMETERS + name: p.data for name, p in self.named_parameters()}
        return write(path, "weights", {"module": kind}, arrays, f"{kind}.save")

    def load(self, path: Any) -> Self:
        """Set every Parameter to the values in a file that `save` wrote, or in a checkpoint; return the module.

        Values are cast to the dtype of the Parameter. CheckpointError for a file that is damaged or not minirnn's, and
        for one that does not fit, listing every entry: nothing has been loaded then, and nothing in it is ever run.
        OSError where it cannot be read.
        """
        from minirnn.storage import CheckpointError, read

        caller = f"{type(self).__name__}.load"
        contents = read(path, caller)
        try:
            self.load_state_dict(contents.parameters)
        except ValueError as error:
            raise CheckpointError(
                f"{caller}: {str(contents.path)!r} was saved from a module of type {contents.content.get('module')}: "
                f"build this one as it was built then. {error}"
            ) from None
        return self

    # --- what it says of itself --------------------------------------------------------------------------------------

    def counted(self, prefix: str = "") -> "list[counting.Term]":
        """Return a row of `summary` for each Parameter it owns itself or through other modules, by its dotted name."""
        from minirnn.counting import Term

        terms = []
        for name, value in vars(self).items():
            if isinstance(value, Parameter):
                formula, product = "in·out" if value.ndim == 2 else "out", "·".join(map(str, value.shape)) or "1"
                terms.append(Term(prefix + name, value.shape, value.shape[::-1], formula, product, value.size))
            elif isinstance(value, Module):
                terms += value.counted(f"{prefix}{name}.")
        return terms

    def counting_notes(self, prefix: str = "") -> list[str]:
        """Say what `summary` has below its table."""
        return [line for name, child in self.children() for line in child.counting_notes(f"{prefix}{name}.")]

    def summary(self, file: TextIO | None = None) -> None:
        """Print a table of the Parameters: name, shape for row and for column vectors, formula, count; then the total.

        A Parameter that is shared stands under its first name. Below the table stands, for each recurrent layer, what
        torch, Keras and ONNX would count, and why. Needs no data.
        """
        from minirnn import counting

        names = dict(self.named_parameters())
        print(counting.table(term for term in self.counted() if term.name in names), file=file)
        if notes := self.counting_notes():
            print(*notes, *counting.NOTES, sep="\n", file=file)

    def extra_repr(self) -> str:
        """Return the settings shown between the brackets of ``repr``."""
        return ""

    def __repr__(self) -> str:
        lines = [f"  ({name}): " + repr(child).replace("\n", "\n  ") for name, child in self.children()]
        name, settings = type(self).__name__, self.extra_repr()
        if not lines:
            return f"{name}({settings})"
        return "\n".join([f"{name}(", *([f"  {settings}"] if settings else []), *lines, ")"])
