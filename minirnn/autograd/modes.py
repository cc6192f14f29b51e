"""Modes of the tape, switched within a ``with`` block or a decorated function: `no_grad` and `detect_anomaly`.

They live in a context variable, so each thread, and each asyncio task, has its own.
"""

import contextlib
import functools
import inspect
from collections.abc import Callable, Generator, Iterator
from contextvars import ContextVar
from typing import Any, TypeVar, overload

import numpy as np

from minirnn.arguments import Array, describe

RECORD, ANOMALY, OBSERVE = 1, 2, 4
MODE: ContextVar[int] = ContextVar("minirnn_mode", default=RECORD)
"""The modes that are on, as one set of bits, so that an op asks once."""

OBSERVER: ContextVar[Any] = ContextVar("minirnn_observer", default=None)
"""Called with every op that runs within `observing`."""

WITHIN: ContextVar[tuple[str, ...]] = ContextVar("minirnn_within", default=())
"""Where in composites the layer stands that runs now, from the outermost in; set within `detect_anomaly` only."""

ACTIVE: ContextVar[tuple[tuple["switched", Any], ...]] = ContextVar("minirnn_active", default=())
"""The blocks that have been entered and not left, from the outermost in, each with numpy's error state if it set it."""

F = TypeVar("F", bound=Callable[..., Any])


class switched:
    """Within it the modes ``on`` are on, those in ``off`` are off, and the others stay as they were.

    One object may be entered again, also within itself and by several threads at once, and blocks may end in any order.
    """

    __slots__ = ("_off", "_on")

    def __init__(self, on: int = 0, off: int = 0) -> None:
        self._on, self._off = on, off

    def __enter__(self) -> None:
        quiet = None
        if self._on & ANOMALY:  # its check says more than numpy's warning, which would come first, or be an error
            quiet = np.errstate(all="ignore")
            quiet.__enter__()
        ACTIVE.set((*ACTIVE.get(), (self, quiet)))
        MODE.set((MODE.get() | self._on) & ~self._off)

    def __exit__(self, *error: object) -> None:
        active, mode = ACTIVE.get(), RECORD
        places = [i for i, (block, _) in enumerate(active) if block is self]
        if not places:
            return  # a generator entered it in one context, and was collected in another
        i = places[-1]
        ACTIVE.set(left := active[:i] + active[i + 1 :])
        for block, _ in left:
            mode = (mode | block._on) & ~block._off
        MODE.set(mode)
        if (quiet := active[i][1]) is not None:
            quiet.__exit__(*error)

    def __call__(self, function: F) -> F:
        """Return the function, of whichever kind, with the modes switched while its own code runs."""
        if not callable(function) or isinstance(function, type):
            raise TypeError(
                f"a mode holds in a function or a with block, got {describe(function)}: decorate its methods"
            )

        def call(*args: Any, **kwargs: Any) -> Any:
            with self:
                return function(*args, **kwargs)

        def generate(*args: Any, **kwargs: Any) -> Any:
            return (yield from _Held(function(*args, **kwargs), self))

        async def wait(*args: Any, **kwargs: Any) -> Any:
            return await _Held(function(*args, **kwargs), self)

        async def stream(*args: Any, **kwargs: Any) -> Any:
            inner = function(*args, **kwargs)
            step = inner.asend(None)
            with contextlib.suppress(StopAsyncIteration):
                while True:
                    result = await _Held(step, self)
                    try:
                        step = inner.asend((yield result))
                    except BaseException as error:  # GeneratorExit too
                        step = inner.athrow(error)

        is_kind = inspect.isasyncgenfunction, inspect.iscoroutinefunction, inspect.isgeneratorfunction
        kind = next((i for i, is_it in enumerate(is_kind) if is_it(function)), 3)
        return functools.wraps(function)((stream, wait, generate, call)[kind])  # type: ignore[return-value]


class _Held(Generator[Any, Any, Any]):
    """A generator, a coroutine or a step of an async generator: it holds a mode from one suspension to the next."""

    def __init__(self, inner: Any, mode: switched) -> None:
        self._inner, self._mode = inner, mode

    def send(self, value: Any) -> Any:
        with self._mode:
            return self._inner.send(value)

    def throw(self, *error: Any) -> Any:
        with self._mode:
            return self._inner.throw(*error)

    __await__ = Generator.__iter__


@overload
def no_grad() -> switched: ...
@overload
def no_grad(function: F) -> F: ...
def no_grad(function: Any = None) -> Any:
    """Within it no op is recorded: nothing requires a gradient and nothing is saved for backward.

    ``@no_grad``, or ``@no_grad()``, decorates a function, in whose own code it then holds, and not in what takes a
    generator's values or runs while a coroutine waits. A ``with`` around a ``yield``, as `contextlib.contextmanager`
    has it, holds for the code that takes the values too: decorate a generator that must not do that.

    >>> import minirnn as mr
    >>> w = mr.Tensor([2.0], requires_grad=True)
    >>> with mr.no_grad():
    ...     y = w * 3.0
    >>> y.requires_grad
    False
    """
    mode = switched(off=RECORD)
    return mode if function is None else mode(function)


@overload
def detect_anomaly() -> switched: ...
@overload
def detect_anomaly(function: F) -> F: ...
def detect_anomaly(function: Any = None) -> Any:
    """Within it the first NaN or inf is refused where it appears, going forward and going back.

    A recurrent layer, of either backend, checks its arguments and parameters first. Then it goes through its equation
    step by step and op by op beside its backend, whose numbers stay what they are, bit for bit, and names the step t,
    the row n and the term: ``H_{t-1} W_hh``, φ, the upstream gradient, … H_{t-1} is the state before the step, also in
    reverse. For its gradients both passes have to run within this block. With ``create_graph=True`` the op is named,
    not the step.

    It takes 3 to 30 times the time, most for small layers: it is for finding a fault, not for training. numpy's own
    warnings of divisions by zero and the like are off meanwhile.

    Raises
    ------
    AnomalyError
        Naming the argument, the op or the layer's term, and the first entry that is not finite.

    >>> import minirnn as mr
    >>> with mr.detect_anomaly():
    ...     mr.log(mr.Tensor([1.0, 0.0]))
    Traceback (most recent call last):
        ...
    minirnn.autograd.modes.AnomalyError: detect_anomaly: the output of log holds -inf at [1] (1 of 2 entries ...
    """
    mode = switched(on=ANOMALY)
    return mode if function is None else mode(function)


@contextlib.contextmanager
def observing(callback: Callable[[Any, tuple[Any, ...], dict[str, Any], Any], object]) -> Iterator[None]:
    """Within it, ``callback(op, inputs, settings, output)`` is called with every op that has run, recorded or not.

    Inputs are as the op got them: Tensors, arrays, numbers; output is the Tensor. Kernels are no ops and go unseen.
    """
    token = OBSERVER.set(callback)
    try:
        with switched(on=OBSERVE):
            yield
    finally:
        OBSERVER.reset(token)


class AnomalyError(ArithmeticError):
    """A NaN or an inf appeared within `detect_anomaly`."""


def anomaly() -> bool:
    """Whether this runs within `detect_anomaly`: asked first where a description of the array would cost time."""
    return bool(MODE.get() & ANOMALY)


def check_finite(array: Array, what: str, hint: str) -> None:
    """Within `detect_anomaly`, refuse an array that holds a NaN or an inf; elsewhere do nothing.

    Raises
    ------
    AnomalyError
        Naming ``what`` the array is, the first bad entry, how many there are, and the ``hint`` on what to try.
    """
    if not anomaly() or np.isfinite(array).all():
        return
    bad = np.argwhere(~np.isfinite(array))
    entry = tuple(int(i) for i in bad[0])
    raise AnomalyError(
        f"detect_anomaly: {what} holds {array[entry]} at {list(entry)} "
        f"({len(bad)} of {array.size} entries not finite): {hint}"
    )
