"""`check`: run a learner's function on fresh inputs, watch what it does, and say what it got right or wrong."""

import inspect
import itertools
import linecache
import traceback
from collections.abc import Callable
from typing import Any

import numpy as np

from minirnn.arguments import Rng, as_generator, describe, one_of
from minirnn.exercises.diagnosis import TOLERANCE, Diagnosis, Group, Numbers, close, numbers, scale
from minirnn.exercises.inputs import Arguments, cases, part
from minirnn.exercises.result import Result, Row
from minirnn.exercises.steps import Made
from minirnn.exercises.texts import EXERCISES, Exercise, described, spelled

Function = Callable[..., Any]
WRITES, VIEWS, STATE = "writes into its arguments", "returns views of its arguments", "keeps state between calls"


class _Stopped(Exception):
    """The function gave no numbers; the message says why."""


def check(name: str, function: Function, *, rng: Rng = None) -> Result:
    """Check a solution of an exercise; see `EXERCISES` for the names, and for arguments and results of each.

    The function is called with plain arrays, by position, three times: on fresh inputs, on others of other sizes, and
    on the first again. Numbers are right to 2e-5 of a result's largest entry, whatever their dtype. They are held
    against those of every mistake that is known for the exercise as well.

    >>> import numpy as np
    >>> def step(x_t, h_prev, W_xh, W_hh, b):
    ...     return np.tanh(x_t @ W_xh) + h_prev @ W_hh + b
    >>> result = check("step", step)
    >>> result.passed, result.mistake
    (False, "φ over the input's product only")

    Parameters
    ----------
    name : one of `EXERCISES`
    function : takes the exercise's arguments and returns its results, as a tuple or a list; a single one as it is
    rng : what draws the inputs; fresh by default

    Raises
    ------
    ValueError, TypeError
        For a name that is none, for what is no function. What goes wrong within the function is in the result.
    """
    exercise = EXERCISES[one_of(name, tuple(EXERCISES), "check: name")]
    if not callable(function):
        raise TypeError(f"check: function must be a function, got {describe(function)}: pass it without calling it")
    drawn = cases(exercise, as_generator(rng))
    try:
        return _judged(exercise, function, drawn)
    except _Stopped as stopped:
        return Result(name, False, None, f"{name}: not yet. {stopped}")


def _judged(exercise: Exercise, function: Function, drawn: list[Arguments]) -> Result:
    name, conduct = exercise.name, dict[str, str]()
    first, again = _call(exercise, function, drawn[0], conduct), _call(exercise, function, drawn[1], conduct)
    kept = [r.copy() for r in first]
    third = _call(exercise, function, drawn[0], conduct)
    if not all(map(close, third, kept)):
        conduct[STATE] = "the same arguments gave other numbers at the third call than at the first"
    elif not all(map(close, first, kept)):
        conduct[STATE] = "what the first call returned was written over by a later one: return arrays of their own"
    got, right = [kept, again], [numbers(name, arguments, Made()) for arguments in drawn]
    rows = _rows(exercise, got, right)
    if all(row.right for row in rows):
        if not conduct:
            return Result(name, True, None, f"{name}: passed. Right: {', '.join(row.name for row in rows)}.", rows)
        said = "; ".join(f"it {habit}: {text}" for habit, text in conduct.items())
        return Result(name, False, " and ".join(conduct), f"{name}: not yet. The numbers are right, but {said}.", rows)
    diagnosis = Diagnosis(name, drawn, got, right)
    groups = diagnosis.groups()
    lines = [f"{name}: not yet." + " These numbers fit no mistake that is known here." * (not groups)]
    for alternatives, results in groups or [Group([], diagnosis.wrong)]:
        for k, mistake in enumerate(itertools.chain(*alternatives)):
            where, text = described(mistake)
            lines.append(f"{('or' if len(alternatives[0]) == 1 else 'and') if k else 'Mistake'}: {mistake}: {text}.")
            lines.append(f"    look at   {exercise.line(where)}")
        lines += _first(exercise, function, diagnosis, sorted(results))
    lines += [f"Besides, it {habit}: {text}." for habit, text in conduct.items()]
    for k, known in ({} if groups else diagnosis.partly()).items():
        lines.append(f"{rows[k].name} alone would be: {' or '.join(known)}.")
    names = [" or ".join(map(" and ".join, group.alternatives)) for group in groups]
    return Result(name, False, " and ".join([*names, *conduct]) or None, "\n".join(lines), rows)


# --- a call -----------------------------------------------------------------------------------------------------------


def _copied(value: Any) -> Any:
    return value.copy() if isinstance(value, np.ndarray | list) else value


def _call(exercise: Exercise, function: Function, arguments: Arguments, conduct: dict[str, str]) -> Numbers:
    """Call the function with copies; note its conduct; return its results as float64 arrays."""
    given = [_copied(a) for a in arguments]
    names = list(exercise.given)
    try:
        inspect.signature(function).bind(*given)
    except TypeError:
        raise _Stopped(
            f"{_named(function)} must take {len(names)} arguments by position: {', '.join(names)}."
        ) from None
    except ValueError:
        pass  # what is written in C has no signature
    try:
        with np.errstate(all="ignore"):
            returned = function(*given)
    except (Exception, SystemExit) as error:
        raise _Stopped(told(error, function)) from None
    for name, before, after in zip(names, arguments, given, strict=True):
        if isinstance(before, np.ndarray) and not np.array_equal(before, after, equal_nan=True):
            conduct[WRITES] = f"{name} is not what it was before the call; work on {name}.copy()"
    results = _results(exercise, returned)
    for wanted, value in zip(exercise.returns, results, strict=True):
        for name, argument in zip(names, given, strict=True):
            untouched = exercise.name == "clip" and value is argument  # too short to be clipped
            arrays = isinstance(value, np.ndarray) and isinstance(argument, np.ndarray)
            if arrays and not untouched and np.shares_memory(value, argument):
                conduct[VIEWS] = f"{wanted} is {name}'s own memory; return a copy"
    letters = exercise.returns.items()
    return [_array(wanted, of, value) for (wanted, of), value in zip(letters, results, strict=True)]


def _array(name: str, letters: list[str], value: Any) -> Any:
    try:
        array = np.asarray(value)
        if array.dtype.kind not in "fiub":
            raise TypeError(f"its dtype is {array.dtype}")
    except (TypeError, ValueError, RuntimeError) as error:
        raise _Stopped(f"{name} must be an array of real numbers, got {describe(value)}: {error}.") from None
    return array.astype(np.float64, copy=False).reshape(() if array.size == 1 and not letters else array.shape)


def _results(exercise: Exercise, returned: Any) -> list[Any]:
    names = list(exercise.returns)
    wanted = f"{exercise.name} returns {', '.join(names)}"
    if returned is None:
        raise _Stopped(f"The function returned None: is its `return` missing? {wanted}.")
    if len(names) == 1:
        return [returned[0] if isinstance(returned, tuple) and len(returned) == 1 else returned]
    if not isinstance(returned, tuple | list):
        raise _Stopped(f"The function returned {describe(returned)}, a single thing; {wanted}, as a tuple.")
    if len(returned) != len(names):
        raise _Stopped(f"The function returned {len(returned)} results; {wanted}: {len(names)}.")
    return list(returned)


def _named(function: Function) -> str:
    return getattr(function, "__name__", type(function).__name__)


def told(error: BaseException, function: Function | str) -> str:
    """Say in a sentence what was raised, and at which line of the learner's: of a function, or a file's path."""
    file = function if isinstance(function, str) else getattr(inspect.unwrap(function), "__code__", None)
    path = file if isinstance(file, str) else getattr(file, "co_filename", "")
    frames = [f for f in traceback.extract_tb(error.__traceback__) if f.filename == path]
    line = frames[-1].lineno if frames else getattr(error, "lineno", None)
    where = f" in line {line}: {linecache.getline(path, line).strip()}" if line else ""
    text = " ".join(str(error.msg if isinstance(error, SyntaxError) else error).split())
    who = path if isinstance(function, str) else _named(function)
    return f"{who} raised {type(error).__name__}{f' ({text})' if text else ''}{where}"


# --- what is said -----------------------------------------------------------------------------------------------------


def _rows(exercise: Exercise, got: list[Numbers], right: list[Numbers]) -> tuple[Row, ...]:
    rows = []
    for k, (name, letters) in enumerate(exercise.returns.items()):
        wrong = [(g[k], r[k]) for g, r in zip(got, right, strict=True) if not close(g[k], r[k])]
        rows.append(Row(name, spelled(letters), not wrong, _off(*wrong[0]) if wrong else ""))
    return tuple(rows)


def _off(got: Any, want: Any) -> str:
    if got.shape != want.shape:
        turned = ": is it transposed?" if got.shape == want.shape[::-1] else ""
        return f"has shape {got.shape}, right is {want.shape}{turned}"
    odd = ~np.isfinite(got)
    if odd.any():
        return f"{odd.sum()} of {odd.size} entries are NaN or infinite"
    error = np.abs(got - want)
    bad = error > TOLERANCE * scale(want)
    return f"off by {error.max() / scale(want):.2g} of its largest entry; {bad.sum()} of {bad.size} wrong"


def _first(exercise: Exercise, function: Function, d: Diagnosis, results: list[int]) -> list[str]:
    """Say at which step and entry these results differ first; going back, the last step comes first."""
    call = next(c for c in (0, 1) if not all(close(d.got[c][k], d.right[c][k]) for k in results))
    wrong = [k for k in results if not close(d.got[call][k], d.right[call][k])]
    names, letters = list(exercise.returns), list(exercise.returns.values())
    k = next((k for k in wrong if letters[k][:1] == ["T"]), wrong[0])
    g, r = d.got[call][k], d.right[call][k]
    intro = "The first call's numbers are right, those for other sizes are not. " * call
    if g.shape != r.shape:
        return [f"{intro}{names[k]} {_off(g, r)}."]
    bad, T = np.argwhere(~(np.abs(g - r) <= TOLERANCE * scale(r))), len(r) if r.ndim else 0
    timed, forward = letters[k][:1] == ["T"], exercise.name in ("unroll", "masked_forward")
    at = tuple(bad[bad[:, 0] == bad[:, 0].max()][0] if timed and not forward else bad[0])
    step = f"at t = {at[0] + 1} of {T}" if timed else _step(exercise, function, d.calls[call], wrong)
    if timed and not forward and at[0] < T - 1:
        step += f", {_plural(T - 1 - int(at[0]))} back from the last"
    entry = f"{names[k]}[{', '.join(map(str, at))}]" if at else names[k]
    shows = f"{step}: {entry}" if step else f"in {entry}"
    return [f"{intro}It shows first {shows}, which is {g[at]:.6g}; right is {r[at]:.6g}."]


def _plural(n: int) -> str:
    return f"{n} step{'s' * (n > 1)}"


def _step(exercise: Exercise, function: Function, arguments: Arguments, results: list[int]) -> str:
    """Run the function on the last step alone, on the last two, and so on, until these results go wrong."""
    given = dict(zip(exercise.given, arguments, strict=True))
    for k in range(1, len(given["x"]) + 1 if "x" in given and exercise.name != "masked_forward" else 0):
        alone = part(exercise, arguments, k)
        right = numbers(exercise.name, alone, Made())
        try:
            got = _call(exercise, function, alone, {})
        except _Stopped:
            continue
        if not all(close(got[i], right[i]) for i in results):
            if "k1" in given:
                return f"with the first {_plural(k)} alone"
            T = len(given["x"])
            return f"at t = {T - k + 1} of {T}, " + (f"{_plural(k - 1)} back from the last" if k > 1 else "the last")
    return ""
