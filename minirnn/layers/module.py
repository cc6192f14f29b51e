"""Parameter and Module: named leaves, and what owns them."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from types import MemberDescriptorType
from typing import TYPE_CHECKING, Any, ParamSpec, Protocol, Self, TextIO, TypeVar

import numpy as np

from minirnn.arguments import Array, Generator, as_array, as_unicode, describe, float_dtype, typed
from minirnn.autograd.tensor import Tensor, forget
from minirnn.layers.held import KINDS, WALKED, Kept, hides, owned

if TYPE_CHECKING:  # and in the methods that need them
    import pathlib

    from minirnn import counting

P = ParamSpec("P")
Returned = TypeVar("Returned", covariant=True)

MODES: "ContextVar[dict[int, tuple[Module, bool]] | None]" = ContextVar("minirnn_modes", default=None)
"""Within `own_modes`, the modes that have been set there, by the module's id."""

NONE: Mapping[int, str] = {}


@contextmanager
def own_modes() -> Iterator[None]:
    """Within it, what `Module.train` and `Module.eval` set is seen in this context only, and gone in the end."""
    token = MODES.set(dict(MODES.get() or {}))
    try:
        yield
    finally:
        MODES.reset(token)


class Parameter(Tensor):
    """A leaf that a Module owns and an optimiser changes; float32 or float64. ``requires_grad = False`` freezes it."""

    __slots__ = ("name",)

    def __init__(self, data: Any, requires_grad: bool = True, name: str = "") -> None:
        array = as_array(data, "Parameter: data")
        if array.dtype.kind == "f":
            float_dtype(array.dtype, "Parameter: the dtype of data")
        super().__init__(array, requires_grad)
        self.name = name

    @property
    def label(self) -> str:
        """Its name and shape, as errors give them."""
        return f"parameter {self.name or 'without a name'} {self.shape}"

    def __reduce__(self) -> Any:
        remake, (*parts,), state = super().__reduce__()
        return remake, (*parts, self.name), state


def _hidden(where: str, container: Any) -> TypeError:
    return TypeError(
        f"{where}: parameters() would not find what this {type(container).__name__} holds: put Modules in a "
        "minirnn.ModuleList or ModuleDict, or set each Parameter and Module as an attribute of its own"
    )


class _Forward(Protocol[P, Returned]):
    """What `Module.__call__` takes its signature from."""

    def forward(self, *args: P.args, **kwargs: P.kwargs) -> Returned: ...


class Module:
    """Owns Parameters and other Modules, in the order in which they were set as attributes.

    A subclass sets them in ``__init__`` and defines ``forward``; calling the module calls ``forward``.

    Walks over it (`parameters`, `train`, `state_dict`, ``repr``, …) must find all that is to be trained. So a TypeError
    refuses, when it is set or at the next walk, a Parameter or Module in a container, for which there are `ModuleList`
    and `ModuleDict`, one in the class itself, and a Tensor that requires a gradient and comes of no Parameter of a
    module; a ValueError refuses a module that holds the one that holds it. What a closure, a ``functools.partial`` or
    an object of another kind holds cannot be seen, nor what comes after the first 1,000 items of a container.

    ``copy.deepcopy`` and pickle copy Generators as they stand, as numpy does: the copy of a Dropout draws the masks
    that the original will draw. To draw others, set its ``rng``, or ``bit_generator.state`` of `named_generators`.

    Attributes
    ----------
    training : bool
        True until `eval` is called; layers such as Dropout look at it. Within `minirnn.training.evaluate` and its like
        it is False in their own thread (context), and every module's own mode is back in the end.
    carries_state : bool
        Whether a call takes and returns a state, as recurrent layers do.
    """

    carries_state = False

    def __init_subclass__(cls, **settings: Any) -> None:
        super().__init_subclass__(**settings)
        for name, value in vars(cls).items():
            if hides([value]) or isinstance(value, MemberDescriptorType):
                raise TypeError(
                    f"{cls.__name__}.{name}: in the class or a slot parameters() would not find it: set self.{name} in "
                    "__init__, without __slots__"
                )

    def __init__(self) -> None:
        vars(self)["training"] = True

    def __setattr__(self, name: str, value: Any) -> None:
        if isinstance(value, Parameter):
            value.name = value.name or name
        elif value is not None and isinstance(vars(self).get(name), Parameter):
            raise TypeError(
                f"{type(self).__name__}.{name} is a Parameter, which would be lost: to change its values set "
                f"{name}.data, to replace it set a Parameter, to do without it set None"
            )
        elif isinstance(value, Module):
            value._look(f"{name}.", self)
        elif KINDS[type(value)] == "container" and hides(value):
            raise _hidden(f"{type(self).__name__}.{name}", value)
        elif isinstance(value, Tensor) and value.requires_grad and not owned(value):
            raise TypeError(
                f"{type(self).__name__}.{name}: parameters() would not find a Tensor that requires a gradient and is "
                "no Parameter: make it one last of all, as in Parameter(0.1 * array), or detach() it"
            )
        object.__setattr__(self, name, value)
        vars(self).pop("_kept", None)  # after it is set: who has looked before keeps nothing

    def __delattr__(self, name: str) -> None:
        object.__delattr__(self, name)
        vars(self).pop("_kept", None)

    @property
    def training(self) -> bool:
        """Whether it is in training mode."""
        own = (MODES.get() or {}).get(id(self))
        return vars(self).get("training", True) if own is None else own[1]

    @training.setter
    def training(self, mode: bool) -> None:
        if (own := MODES.get()) is None:
            vars(self)["training"] = mode
        else:
            own[id(self)] = self, mode

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "_kept"}

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
        self._look()
        return iter([(name, value) for name, value in vars(self).items() if isinstance(value, Module)])

    def modules(self) -> Iterator["Module"]:
        """Yield itself and every module that it owns at any depth, each once."""
        return iter({id(module): module for _, module in (("", self), *self._held("module"))}.values())

    def named_parameters(self) -> Iterator[tuple[str, Parameter]]:
        """Yield each Parameter once, in the order of insertion; dotted names lead into the modules owned."""
        first: dict[int, tuple[str, Parameter]] = {}
        for name, parameter in self._held("parameter"):
            first.setdefault(id(parameter), (name, parameter))
        return iter(first.values())

    def _held(self, kind: str, prefix: str = "", above: Mapping[int, str] = NONE) -> Iterator[tuple[str, Any]]:
        """Yield what of a kind it and the modules owned hold, by dotted names, what is shared more than once.

        TypeError where a container hides some; ValueError for one of the modules ``above``, classes by ids.
        """
        if id(self) in above:
            raise ValueError(
                f"{next(iter(above.values()))}.{prefix[:-1]} is the {type(self).__name__} that holds it, so no walk "
                "would come to an end: pass it as an argument where it is needed, or keep a weakref.ref"
            )
        above = {**above, id(self): type(self).__name__}
        for name, value in vars(self).items():
            if (of := KINDS[type(value)]) is None:
                continue
            if of == kind:
                yield prefix + name, value
            if of == "module":
                yield from value._held(kind, f"{prefix}{name}.", above)
            elif of == "container" and hides(value):
                raise _hidden(f"{next(iter(above.values()))}.{prefix}{name}", value)

    def _look(self, prefix: str = "", above: "Module | None" = None) -> None:
        """Refuse what no walk would find, or come to the end of; ``above`` is the module that will hold this one."""
        list(self._held("module", prefix, {} if above is None else {id(above): type(above).__name__}))

    def parameters(self) -> list[Parameter]:
        """Return all Parameters, in a stable order."""
        return [parameter for _, parameter in self.named_parameters()]

    def named_generators(self) -> Iterator[tuple[str, Generator]]:
        """Yield the Generators that it and the modules owned may draw from; a shared one under each of its names."""
        return self._held("generator")

    def count_params(self) -> int:
        """Return how many numbers the Parameters hold; needs no data."""
        return sum(parameter.size for parameter in self.parameters())

    def zero_grad(self) -> None:
        """Set the ``grad`` of every Parameter to None."""
        kept: Kept = vars(self).get("_kept") or self._keep()
        parameters, modules, containers = kept.held or self._own(kept)
        forget(parameters)
        for container in containers:
            if hides(container):
                self._look()
        for module in modules:
            module.zero_grad()

    def _keep(self) -> Kept:
        """Begin to keep what is found among the attributes from now on."""
        vars(self)["_kept"] = kept = Kept()
        return kept

    def _own(self, kept: Kept) -> tuple[list[Any], ...]:
        """Find the Parameters, the modules, and what could hide some, among the attributes."""
        found = {kind: [v for v in vars(self).values() if KINDS[type(v)] == kind] for kind in WALKED}
        kept.held = parameters, modules, containers = tuple(found.values())
        containers[:] = [c for c in containers if not isinstance(c, tuple)]  # which does not change
        return parameters, modules, containers

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
                arrays[name] = typed(as_array(state[name], name, p.dtype), p.dtype, name)
            except KeyError:
                faults.append(f"missing: {name} {p.shape}")
            except TypeError:
                faults.append(f"not an array of numbers: {name} is {describe(state[name])}")
            except ValueError as error:
                faults.append(f"too large: {error}")
            else:
                if arrays[name].shape != p.shape:
                    faults.append(f"misshapen: {name} must have shape {p.shape}, got {arrays[name].shape}")
        faults += [f"unexpected: {name}" for name in state if name not in parameters]
        if faults:
            raise ValueError(
                f"{type(self).__name__}.load_state_dict: nothing was loaded, because of entries that do not fit:\n  "
                + "\n  ".join(faults)
            )
        for name, p in parameters.items():
            p.data = arrays[name]

    def save(self, path: Any) -> "pathlib.Path":
        """Save the values of every Parameter to a file, an ``.npz``, whole or not at all (OSError); return its path.

        A binary file such as ``io.BytesIO()`` is written into. A file that is replaced keeps its mode, a link stays.
        For the optimiser and the Generators too, and for where training was, see `minirnn.checkpoints.save_checkpoint`.
        """
        from minirnn.storage import PARAMETERS, write

        kind = type(self).__name__
        arrays = {PARAMETERS + name: p.data for name, p in self.named_parameters()}
        return write(path, "weights", {"module": kind}, arrays, f"{kind}.save")

    def load(self, path: Any) -> Self:
        """Set every Parameter to the values in a file that `save` wrote, or in a checkpoint; return the module.

        A binary file is read from where it stands. Values are cast to the dtype of the Parameter. CheckpointError for a
        file that is damaged or not minirnn's, and for one that does not fit, listing every entry: nothing has been
        loaded then, and nothing in it is ever run. OSError where it cannot be read.
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

    def summary(self, file: TextIO | None = None, *, T: int | None = None, N: int | None = None) -> None:
        """Print a table of the Parameters: name, shape for row and for column vectors, formula, count; then the total.

        A Parameter that is shared stands under its first name. Below the table stands, for each recurrent layer, what
        torch, Keras and ONNX would count, and why. Needs no data. For T steps of N rows two columns more say how many
        multiplications the products of a forward pass have, and how many bytes it keeps for the way back.
        """
        from minirnn.layers import costs

        print(as_unicode(costs.summary(self, T, N)), file=file)

    def extra_repr(self) -> str:
        """Return the settings shown between the brackets of ``repr``."""
        return ""

    def __repr__(self) -> str:
        lines = [f"  ({name}): " + repr(child).replace("\n", "\n  ") for name, child in self.children()]
        name, settings = type(self).__name__, self.extra_repr()
        if not lines:
            return f"{name}({settings})"
        return "\n".join([f"{name}(", *([f"  {settings}"] if settings else []), *lines, ")"])
