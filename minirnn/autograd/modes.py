"""Modes of the tape, switched within a ``with`` block or a decorated function: `no_grad` and `detect_anomaly`.

They live in a context variable, so each thread, and each asyncio task, has its own.
"""

import contextlib
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import Any

import numpy as np

from minirnn.arguments import Array

RECORD, ANOMALY, OBSERVE = 1, 2, 4
MODE: ContextVar[int] = ContextVar("minirnn_mode", default=RECORD)
"""The modes that are on, as one set of bits, so that an op asks once."""

OBSERVER: ContextVar[Any] = ContextVar("minirnn_observer", default=None)
"""Called with every op that runs within `observing`."""

WITHIN: ContextVar[tuple[str, ...]] = ContextVar("minirnn_within", default=())
"""Where in composites the layer stands that runs now, from the outermost in; set within `detect_anomaly` only."""


@contextlib.contextmanager
def switched(on: int = 0, off: int = 0) -> Iterator[None]:
    """Within it the modes ``on`` are on, those in ``off`` are off, and the others stay as they were."""
    token = MODE.set((MODE.get() | on) & ~off)
    try:
        yield
    finally:
        MODE.reset(token)


def no_grad() -> "contextlib._GeneratorContextManager[None]":
    """Within it no op is recorded: nothing requires a gradient and nothing is saved for backward.

    >>> import minirnn as mr
    >>> w = mr.Tensor([2.0], requires_grad=True)
    >>> with mr.no_grad():
    ...     y = w * 3.0
    >>> y.requires_grad
    False
    """
    return switched(off=RECORD)


@contextlib.contextmanager
def detect_anomaly() -> Iterator[None]:
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
    # The check says more than numpy's warning, which would come first, and as an error where warnings are errors.
    with np.errstate(all="ignore"), switched(on=ANOMALY):
        yield


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
