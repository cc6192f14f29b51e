"""Fresh inputs for a check, on which mistakes differ: sizes all different, no number 0 or 1, a loss at every step."""

from typing import Any

import numpy as np

from minirnn.arguments import Generator
from minirnn.exercises.steps import Made
from minirnn.exercises.texts import Exercise
from minirnn.exercises.through_time import ELMAN, LSTM, forward

Arguments = list[Any]


def cases(exercise: Exercise, rng: Generator) -> list[Arguments]:
    """Draw the arguments of two calls, of other sizes each."""
    return [_drawn(exercise, rng, second) for second in (False, True)]


def _drawn(exercise: Exercise, rng: Generator, second: bool) -> Arguments:
    N, D, H = (int(n) for n in rng.permutation((2, 3, 4)) + second)
    if "lengths" in exercise.given and N == 2:
        N, D = D, N
    k1 = 2 + second
    T = 3 * k1 + 1 if "k1" in exercise.given else int(rng.integers(6, 8)) + 2 * second  # the last chunk is shorter
    sizes = {"N": N, "D": D, "H": H, "T": T, "3H": 3 * H, "4H": 4 * H, "D+H": D + H}

    def numbers(*letters: str) -> Any:
        shape = [sizes[c] for c in letters]
        return rng.uniform(0.3, 0.9, shape) * rng.choice((-1.0, 1.0), shape)

    given: dict[str, Any] = {name: numbers(*letters) for name, letters in exercise.given.items() if name != "v"}
    if exercise.name == "count":
        given = dict(zip("mnp", map(int, rng.choice(np.arange(3, 40), 3, replace=False)), strict=True))
        given["bias"] = not second
    elif exercise.name == "clip":
        norm = np.sqrt(sum((given[f"g{k}"] ** 2).sum() for k in (1, 2, 3)))
        given["max_norm"] = float(norm * rng.uniform(1.3, 1.7) if second else rng.uniform(0.4, 0.5))
    elif exercise.name == "baseline":
        given["values"] = np.abs(given["values"])
        given["marks"] = np.zeros((T, N))
        for n in range(N):
            given["marks"][rng.choice(T, 2, replace=False), n] = 1.0
    elif exercise.name == "tape":
        given["ops"], given["v"] = _tape(rng)
    elif "k1" in given:
        given |= {"k1": k1, "k2": k1 + 2}
    if "lengths" in given:
        shorter = rng.choice(np.arange(2, T - 1), N - 1, replace=False)
        given["lengths"] = np.insert(shorter, 1, T)  # neither the first nor the last row is the longest
        if second and "dhs" in given:
            given["dhs"][np.arange(T)[:, None] >= given["lengths"]] = np.nan
    return list(given.values())


def _tape(rng: Generator) -> tuple[list[tuple[Any, ...]], Any]:
    """A short program: values are used twice, one of them by the same op, and its end depends on all."""
    ops: list[tuple[Any, ...]] = [("given",), ("given",), ("mul", 0, 1), ("tanh", 2), ("mul", 3, 3)]
    for k in range(5, 9):
        ops.append((("add", "mul")[int(rng.integers(2))], int(rng.integers(k - 1)), k - 1))
    ops += [("tanh", 8), ("mul", 9, 3), ("add", 10, 1)]
    v: list[float] = []
    for op, *i in ops:
        if op == "given":
            v.append(float(rng.uniform(0.3, 0.9) * rng.choice((-1.0, 1.0))))
        else:
            v.append(np.tanh(v[i[0]]) if op == "tanh" else v[i[0]] + v[i[1]] if op == "add" else v[i[0]] * v[i[1]])
    return ops, np.array(v)


def part(exercise: Exercise, arguments: Arguments, k: int) -> Arguments:
    """The last k steps alone, from the state that is right there; where chunks are counted, the first k."""
    given = dict(zip(exercise.given, arguments, strict=True))
    T = len(given["x"])
    first, last = (0, k) if "k1" in given else (T - k, T)
    rows = given["lengths"] > first if "lengths" in given else slice(None)
    starts: tuple[Any, ...] = (given["h0"],)
    if first:
        cell, states = (LSTM, ("h0", "c0")) if "c0" in given else (ELMAN, ("h0",))
        x, one = given["x"][:first], given["x"].ndim == 2
        weights = tuple(given[name] for name in ("W_xh", "W_hh", "b"))
        before = tuple(given[name][None] if one else given[name] for name in states)
        run = forward(Made(), cell, x[:, None] if one else x, before, weights)
        starts = tuple(s[0] if one else s for s in run.after[-1])
    given |= dict(zip(("h0", "c0"), starts, strict=False))
    for name, letters in exercise.given.items():
        given[name] = given[name][first:last] if "T" in letters else given[name]
        if "N" in letters:
            given[name] = given[name][:, rows] if letters.index("N") else given[name][rows]
    if "lengths" in given:
        given["lengths"] = given["lengths"] - first
    return list(given.values())
