"""What an op is: a forward on plain arrays, and a derivative rule for each input.

A rule is the vector-Jacobian product for one input: it gets ``g``, the gradient of the loss with respect to the op's
output, and returns the gradient with respect to that input, in that input's shape. What else a rule names is what the
tape saves for it, and nothing more is saved:

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
given and never returns an array that the tape saves.
"""

from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import Any

from minirnn.arguments import Array

Axis = int | tuple[int, ...] | None

REGISTRY: dict[str, "Op"] = {}
"""Every op by its name."""

OUTPUT = -1
"""The role of a saved value that is the op's output; a role ≥ 0 is the index of an input, None a constant."""


class Rule:
    """The derivative for one input: ``vjp(g, *save(y, *inputs, **settings))``.

    In an op of any number of inputs what is saved is the same for all, so it is picked once: ``vjp(g, i, *saved)``.
    ``roles`` says of each saved value what it is, ``reads`` lists the inputs among them.
    """

    __slots__ = ("reads", "roles", "save", "vjp")

    def __init__(self, vjp: Callable[..., Any], inputs: Sequence[str], settings: Sequence[str], variadic: bool) -> None:
        names = _parameters(vjp)[0][1:]
        self.vjp = vjp
        self.roles = tuple(OUTPUT if n == "y" else inputs.index(n) if n in inputs else None for n in names)
        self.reads = tuple(role for role in self.roles if role is not None and role >= 0)
        head = ["y", "*xs"] if variadic else ["y", *inputs, "*"] if settings else ["y", *inputs]
        picked = "".join(f"{_expression(n)}, " for n in (names[1:] if variadic else names))
        # Written as text, as dataclasses writes __init__, so that picking the values costs one call, no loop.
        self.save: Callable[..., Any] = eval(f"lambda {', '.join([*head, *settings])}: ({picked})")


def _parameters(function: Callable[..., Any]) -> tuple[tuple[str, ...], tuple[str, ...], bool]:
    """Return the names of the positional and of the keyword-only parameters, and whether there are ``*xs``."""
    code = function.__code__
    positional, all_named = code.co_argcount, code.co_argcount + code.co_kwonlyargcount
    return code.co_varnames[:positional], code.co_varnames[positional:all_named], bool(code.co_flags & 4)


def _expression(name: str) -> str:
    if name == "xs_ends":
        return "_ends(xs, axis)"
    of, _, attribute = name.rpartition("_")
    return f"{of}.{attribute}" if of and attribute in ("shape", "dtype") else name


def _ends(xs: Sequence[Array], axis: int) -> list[int]:
    """Return 0, then where each of the arrays ends when they are joined along an axis."""
    return list(accumulate((x.shape[axis] for x in xs), initial=0))


class Op:
    """A forward function on arrays and a `Rule` for each input (None for one that has no derivative).

    Positional parameters of ``forward`` are inputs, keyword-only ones are settings; ``*xs`` makes an op of any number
    of inputs, whose single rule is told which input it is for (``i``).

    Parameters
    ----------
    view : bool
        The output may show the first input's memory: whoever reads it must know when the input is changed.
    ufunc : numpy.ufunc, optional
        What leads here when it is given a Tensor.
    symbol, slopes : str, dict of str, optional
        How an op that works entry by entry is written, and for each input what the gradient is multiplied by, that is
        ∂y/∂input; names of inputs and settings, and y, stand in braces.
    rules : callables
        The vector-Jacobian products, by the names of the inputs.
    """

    __slots__ = ("forward", "inputs", "name", "rules", "settings", "slopes", "symbol", "ufunc", "variadic", "view")

    def __init__(
        self,
        forward: Callable[..., Any],
        name: str | None = None,
        *,
        view: bool = False,
        ufunc: Any = None,
        symbol: str | None = None,
        slopes: dict[str, str] | None = None,
        **rules: Callable[..., Any],
    ) -> None:
        self.name = name or forward.__name__.rstrip("_")
        self.forward = forward
        self.inputs, self.settings, self.variadic = _parameters(forward)
        self.view = view
        self.ufunc = ufunc
        self.symbol = symbol
        self.slopes = slopes or {}
        names = ("xs",) if self.variadic else self.inputs
        if unknown := rules.keys() - set(names):
            raise TypeError(f"{self.name}: a derivative for {', '.join(unknown)}, which is no input of it")
        self.rules: tuple[Any, ...] = tuple(
            Rule(rules[name], self.inputs, self.settings, self.variadic) if name in rules else None for name in names
        )

    def __repr__(self) -> str:
        return f"<op {self.name}>"

    def __reduce__(self) -> Any:
        return _registered, (self.name,)


def _registered(name: str) -> Op:
    return REGISTRY[name]


def op(**about: Any) -> Callable[[Callable[..., Any]], Op]:
    """Make an `Op` of the forward function below, its rules and what else it says of itself, and register it."""

    def make(forward: Callable[..., Any]) -> Op:
        made = Op(forward, **about)
        REGISTRY[made.name] = made
        return made

    return make
