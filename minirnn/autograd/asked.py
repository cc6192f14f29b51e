"""Whether a Tensor's numbers were asked for, or would be taken unasked, so that its graph ends without a word.

numpy comes in one way, ``t.__array__()``, for ``np.asarray(t)`` and the list in ``np.mean([t, u])``, and in another,
``t.__float__()``, for ``float(t)`` and for ``a[0] = t``. What tells the one from the other is the code that calls.
"""

import dis
import inspect
from functools import lru_cache
from types import CodeType, FrameType
from typing import Any

ARRAYS = {"array", "asarray", "asanyarray", "ascontiguousarray", "asfortranarray"}
SCALARS = {"float16", "float32", "float64", "longdouble"}
FILLING = {"fill", "fromiter", "setitem", "__setitem__"}
OPERATORS = {f"__{side}{op}__" for side in ("", "r", "i") for op in ("add", "sub", "mul", "matmul", "truediv", "pow")}
LOOKING = ("numpy.testing", "numpy._core.arrayprint", "matplotlib", "mpl_toolkits")
"""Modules that compare, print or draw: these may look at any numbers."""


def refuse_unasked(tensor: Any, *, number: bool = True, copy: bool | None = None) -> None:
    """Raise a TypeError in a method of Tensor that gives its numbers away, if who called has not asked for them."""
    if not _asked(tensor, number, copy):
        raise TypeError(
            f"{tensor.label} requires a gradient, and would become plain numbers here, where it ends, without being "
            "asked: use minirnn's functions (mr.stack joins a list), or .numpy() or .detach() if none should flow"
        )


def refuse_masks(tensor: Any) -> None:
    """Be ``Tensor._mask``, which numpy.ma looks for before it takes an operand's values: no other protocol stops it."""
    if not _asked(tensor, True, None):
        raise TypeError(
            f"numpy.ma: got {tensor.label}, which does not go with masks: take x.filled(…) or x.data of the masked "
            "array, and keep its mask for minirnn.where, or .numpy() of the Tensor"
        )
    raise AttributeError("_mask")


def _asked(tensor: Any, number: bool, copy: bool | None) -> bool:
    """Whether the code that called Tensor's method asks for the numbers of this Tensor alone, and knows it.

    As an array: by one of `ARRAYS` or `SCALARS` with the Tensor as its argument, in whosever code, but for numpy's own
    functions and operators' methods. As a number: by anything but numpy's code, `FILLING`, and ``a[0] = t``. ``copy``
    is what ``np.array(t)`` hands on, None for a Tensor in a list.
    """
    frame: Any = inspect.currentframe().f_back.f_back.f_back  # type: ignore[union-attr]
    root, caller = _module(frame).partition(".")[0], frame
    while caller is not None and _module(caller).partition(".")[0] == root:
        if caller.f_code.co_name in OPERATORS:
            return False
        if _module(caller).startswith(LOOKING):
            return True
        caller = caller.f_back
    if root == "numpy":
        return caller is not None and _module(caller).startswith(LOOKING)
    does, called, given = _read(frame.f_code, frame.f_lasti)
    name = getattr(_value(frame, called), "__name__", called and called.argval)
    if number:  # of a list, numpy asks for arrays first, then for numbers where they have no axes
        return not does.startswith("STORE") and name not in ARRAYS | FILLING
    if name == "array" or "CALL" not in does:  # before 2.3 numpy says so of ``a[:] = t`` too
        return copy is not None and not does.startswith("STORE")
    if any(i.opname in ("BUILD_LIST", "BUILD_TUPLE") or isinstance(i.argval, CodeType) for i in given):
        return False
    value = _value(frame, given[-1]) if given else None
    return name is None or (name in ARRAYS | SCALARS and (value is None or value is tensor))


def _module(frame: FrameType) -> str:
    return str(frame.f_globals.get("__name__"))


@lru_cache(maxsize=256)
def _read(code: CodeType, at: int) -> tuple[str, Any, list[Any]]:
    """Read what code does at a place, and if it calls: what, None if unknown, and what makes the first argument.

    Which instruction belongs to what is told by the positions in the source that Python keeps for tracebacks.
    """
    *before, (begin, end, here) = [(*_span(i.positions), i) for i in dis.get_instructions(code) if i.offset <= at]
    loads = [(n, *of) for n, of in enumerate(before) if of[2].opname.startswith("LOAD") and type(of[2].argval) is str]
    heads = [(e, n) for n, b, e, _ in loads if b == begin and e < end]  # what is no name is the names of keywords
    if "CALL" not in here.opname or not heads:
        return here.opname, None, []
    stop, n = max(heads)
    rest = [(b, -e, i) for b, e, i in before[n:] if stop <= b and e <= end]
    return here.opname, before[n][2], [i for *span, i in rest if span == min([b, e] for b, e, _ in rest)]


def _span(p: Any) -> tuple[int, int]:
    return ((p.lineno or 0) << 16) + (p.col_offset or 0), ((p.end_lineno or 0) << 16) + (p.end_col_offset or 0)


def _value(frame: FrameType, instruction: Any) -> Any:
    """Return the value of the variable that an instruction loads; None for another instruction."""
    loads = ("LOAD_FAST", "LOAD_NAME", "LOAD_GLOBAL", "LOAD_DEREF")
    if instruction is None or not instruction.opname.startswith(loads):
        return None
    return frame.f_locals.get(instruction.argval, frame.f_globals.get(instruction.argval))
