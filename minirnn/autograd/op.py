"""What an op is: a forward on plain arrays, and a derivative rule for each input.

A rule is the vector-Jacobian product for one input: it gets ``g``, the gradient of the loss with respect to the op's
output, and returns the gradient with respect to that input, in that input's shape. What else a rule names is what the
tape keeps for it, and nothing more is kept:

======================  ===========================================================================
``a``                   an input of the op, by the name it has in the forward
``y``                   the output
``a_shape, a_dtype``    the shape and the dtype of input ``a``
``axis``, …             a setting, that is a keyword-only argument of the forward
``i``, ``xs_ends``      in an op of any number of inputs: which one (first of all), where each ends along axis
======================  ===========================================================================

A rule is written once. A first-order pass hands it arrays; under ``create_graph`` the same values come as Tensors, so
rules use operators, methods that both have, and numpy functions that Tensor answers to (``np.exp``, ``np.where``).
Comparisons such as ``x > 0`` give plain arrays either way: a mask is a constant. A rule never writes into what it is
given and never returns an array that the tape keeps.
"""

import inspect
from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import Any

from minirnn.arguments import Array

Axis = int | tuple[int, ...] | None

REGISTRY: dict[str, "Op"] = {}
"""Every op by its name."""

OUTPUT = -1
"""The role of a kept value that is the op's output; a role ≥ 0 is the index of an input, None a constant."""


class Rule:
    """The derivative for one input: ``vjp(g, *keep(y, *inputs, **settings))``.

    In an op of any number of inputs what is kept is the same for all, so it is picked once: ``vjp(g, i, *kept)``.
    ``roles`` says of each kept value what it is, ``reads`` lists the inputs among them.
    """

    __slots__ = ("keep", "reads", "roles", "vjp")

    def __init__(self, vjp: Callable[..., Any], inputs: Sequence[str], settings: Sequence[str], variadic: bool) -> None:
        names = list(inspect.signature(vjp).parameters)[1:]
        self.vjp = vjp
        self.roles = tuple(OUTPUT if n == "y" else inputs.index(n) if n in inputs else None for n in names)
        self.reads = tuple(role for role in self.roles if role is not None and role >= 0)
        # Compiled once for each rule, as dataclasses does for __init__: picking the values costs one call, no loop.
        head = ["y", "*xs"] if variadic else ["y", *inputs, "*"] if settings else ["y", *inputs]
        kept = "".join(f"{_kept_expression(n)}, " for n in (names[1:] if variadic else names))
        self.keep: Callable[..., tuple[Any, ...]] = eval(f"lambda {', '.join([*head, *settings])}: ({kept})")


def _kept_expression(name: str) -> str:
    if name == "xs_ends":
        return "_ends(xs, axis)"
    for suffix in ("shape", "dtype"):
        if name.endswith("_" + suffix):
            return f"{name.removesuffix('_' + suffix)}.{suffix}"
    return name


def _ends(xs: Sequence[Array], axis: int) -> list[int]:
    """Return 0, then where each of the arrays ends when they are joined along an axis."""
    return list(accumulate((x.shape[axis] for x in xs), initial=0))


class Op:
    """A forward function on arrays and a `Rule` for each input (None for one that has no derivative).

    Positional parameters of ``forward`` are inputs, keyword-only ones are settings; ``*xs`` makes an op of any number
    of inputs, whose single rule is told which input it is for (``i``). ``view`` says that the output may show the first
    input's memory, so that whoever reads the output must know when the input is changed.
    """

    __slots__ = ("forward", "inputs", "name", "rules", "settings", "slopes", "symbol", "variadic", "view")

    def __init__(self, forward: Callable[..., Any], name: str | None = None, view: bool = False) -> None:
        parameters = inspect.signature(forward).parameters.values()
        self.name = name or forward.__name__.rstrip("_")
        self.forward = forward
        self.view = view
        self.symbol: str | None = None
        self.slopes: dict[str, str] = {}
        self.inputs = tuple(p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD)
        self.settings = tuple(p.name for p in parameters if p.kind is p.KEYWORD_ONLY)
        self.variadic = any(p.kind is p.VAR_POSITIONAL for p in parameters)
        self.rules: tuple[Any, ...] = (None,) * len(self.inputs)

    def derivative(self, **vjps: Callable[..., Any]) -> None:
        """Set the vector-Jacobian product of the inputs named."""
        if unknown := vjps.keys() - ({"xs"} if self.variadic else set(self.inputs)):
            raise TypeError(f"{self.name}: a derivative for {', '.join(unknown)}, which is no input of it")
        if self.variadic:
            self.rules = (Rule(vjps["xs"], (), self.settings, True),)
            return
        rules = {name: Rule(vjp, self.inputs, self.settings, False) for name, vjp in vjps.items()}
        self.rules = tuple(rules.get(name) for name in self.inputs)

    def __repr__(self) -> str:
        return f"<op {self.name}>"

    def __reduce__(self) -> Any:
        """Pickle by name: a copy of a registered op is the same object."""
        return _registered, (self.name,)


def _registered(name: str) -> Op:
    return REGISTRY[name]


def op(forward: Callable[..., Any]) -> Op:
    """Make an op of a forward function and register it."""
    return _register(Op(forward))


def view_op(forward: Callable[..., Any]) -> Op:
    """Make an op whose output may share memory with its input, and register it."""
    return _register(Op(forward, view=True))


def _register(made: Op) -> Op:
    REGISTRY[made.name] = made
    return made
