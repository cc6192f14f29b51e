"""The settings that all recurrent layers share: name, type, default and meaning of each, once."""

import inspect
import math
from collections.abc import Callable
from difflib import get_close_matches
from textwrap import TextWrapper
from types import SimpleNamespace
from typing import Annotated, Any, Literal, NamedTuple, TypeAlias, TypedDict, get_args

import numpy as np
import numpy.typing as npt

from minirnn.arguments import (
    Rng,
    as_flag,
    as_generator,
    as_number,
    as_probability,
    as_size,
    float_dtype,
    one_of,
)
from minirnn.init import Initializer, InitializerName, get

Backend: TypeAlias = Literal["fused", "graph"]
BACKENDS: tuple[Backend, ...] = get_args(Backend)


class Setting(NamedTuple):
    """What stands beside the type of a setting.

    Its check, (value, what errors call it) -> value; its default; its type in words; what it means.
    """

    check: Callable[[Any, str], Any]
    default: Any
    kind: str
    meaning: str


def _remat(value: Any, argument: str) -> bool | int:
    if isinstance(value, bool | np.bool_):
        return bool(value)
    return as_size(value, f"{argument}, unless True or False,", hint="try True, which keeps √T of T states")


class Settings(TypedDict, total=False):
    """What `RecurrentLayer`, `LSTMLayer` and `GRULayer` take beside their sizes and what is their own."""

    bias: Annotated[bool, Setting(as_flag, True, "bool", "Whether there is b_h; one bias, as in the textbook.")]
    backend: Annotated[
        Backend,
        Setting(
            lambda value, argument: one_of(value, BACKENDS, argument),
            "fused",
            '"fused" or "graph"',
            '"fused" makes the whole unroll one node with a kernel: fast. "graph" records one op for each operation of '
            "the equation at each step: slow, and open to inspection. The numbers are the same.",
        ),
    ]
    reverse: Annotated[
        bool, Setting(as_flag, False, "bool", "Process t = T−1 … 0; outputs stand in time order all the same.")
    ]
    batch_first: Annotated[bool, Setting(as_flag, False, "bool", "Take and return (N, T, …) instead of (T, N, …).")]
    input_initializer: Annotated[
        InitializerName | Initializer,
        Setting(
            get,
            "glorot",
            "str or callable (shape, rng) -> array",
            "Of each block of W_xh; see `minirnn.init`. Biases are 0.",
        ),
    ]
    recurrent_initializer: Annotated[
        InitializerName | Initializer,
        Setting(get, "orthogonal", "str or callable (shape, rng) -> array", "Of each block of W_hh."),
    ]
    learn_initial_state: Annotated[
        bool,
        Setting(
            as_flag,
            False,
            "bool",
            "Make the state that a sequence starts from, unless one is given, Parameters (H,): h_0, and c_0 of an "
            "LSTM; zero at first.",
        ),
    ]
    recurrent_dropout: Annotated[
        float,
        Setting(
            as_probability,
            0.0,
            "float",
            "In training, drop entries of the H_{t-1} that the weights are multiplied with, the same at every step of "
            "a sequence, with this probability (Gal & Ghahramani 2016). What a gate keeps is not touched.",
        ),
    ]
    zoneout: Annotated[
        float,
        Setting(
            as_probability,
            0.0,
            "float",
            "In training, let entries of the state keep their old value with this probability, drawn anew at every "
            "step; in evaluation the state is the mean, zoneout·old + (1 − zoneout)·new (Krueger et al. 2017). Such a "
            'layer is unrolled op by op whatever the backend, and so as slowly as "graph".',
        ),
    ]
    message_clip: Annotated[
        float | None,
        Setting(
            lambda value, argument: (
                None if value is None else as_number(value, argument, "a positive number", "try 1.0")
            ),
            None,
            "float, optional",
            "The largest norm that a row of dL/dH_t may have on its way back, at each step; longer ones are scaled to "
            "it.",
        ),
    ]
    remat: Annotated[
        bool | int,
        Setting(
            _remat,
            False,
            "bool or int",
            "Keep one state of every so many steps, and run the steps between again in backward, for about one more "
            "forward pass; True: √T of T. The gradients are the same. What the caller holds is not saved by it: x is "
            "kept then, not copied, until `backward`.",
        ),
    ]
    dtype: Annotated[
        npt.DTypeLike,
        Setting(
            float_dtype,
            np.float32,
            "numpy.float32 or numpy.float64",
            "Of the parameters; whatever comes in is cast to it.",
        ),
    ]
    rng: Annotated[
        Rng,
        Setting(
            lambda value, argument: as_generator(value),
            None,
            "numpy.random.Generator, int or None",
            "Where initial values and masks are drawn from.",
        ),
    ]


SETTINGS: dict[str, Setting] = {name: hint.__metadata__[0] for name, hint in Settings.__annotations__.items()}


def filled(given: Settings, name: str) -> SimpleNamespace:
    """Return all settings, checked: those given, and else the defaults. ``name`` is the layer's; nothing is drawn."""
    for key in given:
        if key not in SETTINGS:
            near = get_close_matches(key, SETTINGS, 1)
            hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(SETTINGS)}"
            raise TypeError(f"{name}: got an unexpected keyword argument {key!r}: {hint}")
    values = {key: s.check(given.get(key, s.default), f"{name}: {key}") for key, s in SETTINGS.items()}
    if values["remat"] and values["backend"] != "fused":
        raise ValueError(
            f"{name}: remat needs backend='fused', got {values['backend']!r}, which keeps every op to be looked into: "
            "leave one of the two out"
        )
    if values["remat"] and values["zoneout"]:
        raise ValueError(
            f"{name}: remat keeps fewer states of a kernel, which a layer with zoneout has not: leave it out"
        )
    return SimpleNamespace(**values)


class _Words:
    """What a signature shows of a type, as it stands; a str would be taken for an expression."""

    def __init__(self, kind: str) -> None:
        self.kind = kind

    def __repr__(self) -> str:
        return self.kind


def spell_out(make: type) -> None:
    """Write the shared settings into the docstring of a layer and the signature of its ``__init__``.

    In the docstring they take the place of the line ``**settings``.
    """
    own = inspect.signature(make.__init__)  # type: ignore[misc]
    parameters = [p for p in own.parameters.values() if p.kind is not p.VAR_KEYWORD]
    parameters += [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=s.default, annotation=_Words(s.kind))
        for name, s in SETTINGS.items()
    ]
    make.__init__.__signature__ = own.replace(parameters=parameters)  # type: ignore[misc]
    if make.__doc__:
        wrap = TextWrapper(116, initial_indent=" " * 4, subsequent_indent=" " * 4).fill
        described = "".join(f"{name} : {s.kind}\n{wrap(s.meaning)}\n" for name, s in SETTINGS.items())
        make.__doc__ = inspect.cleandoc(make.__doc__).replace("**settings\n", described)  # as Python ≥ 3.13 has it


def segment_length(remat: bool | int, T: int) -> int | None:
    """Return how many steps lie between two checkpoints, None to keep every state."""
    return None if remat is False else math.isqrt(T - 1) + 1 if remat is True else remat  # ⌈√T⌉
