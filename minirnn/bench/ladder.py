"""The ladder: one layer on one shape, computed in several ways, each a step further from a loop in Python."""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from minirnn import textbook
from minirnn.bench.cells import KINDS, Kind, Trial, equal
from minirnn.bench.measure import Spread, markdown, ratio, take_turns
from minirnn.bench.rows import BOTH_WAYS, Row, Settings, find, plus_minus
from minirnn.bench.shapes import Shape, three_digits
from minirnn.layers.threads import set_num_threads

DEFAULT = Shape(32, 100, 64, 128)
OBJECTS = 5_000  # bytes for each step, about: those of the graph
_SECONDS = 6.0
_CALLS = 8_192  # in a turn of a slow rung, about: each takes tens of µs


def plan(shapes: Sequence[Shape], sweeps: Mapping[str, Sequence[int]]) -> list[list[Shape]]:
    """Return one job for each shape."""
    return [[shape] for shape in shapes or [DEFAULT]]


def measure(job: Sequence[Shape], settings: Settings) -> list[Row]:
    """Measure the rungs, from the slowest to the fastest, when all have given the textbook's numbers."""
    (shape,) = job
    trial = functools.partial(Trial, shape, settings.dtype, settings.cell)
    slow = _slow_rungs(trial())
    layers = {"mini-batch, graph": (trial(backend="graph"), 1), "mini-batch, fused": (trial(), 1)}
    if settings.threads > 1:
        layers[f"fused, {settings.threads} threads"] = (trial(), settings.threads)
    for name, (layer, threads) in layers.items():
        set_num_threads(threads)
        layer.check(name)

    contestants: dict[tuple[str, str], Callable[[], Any]] = {(name, "forward"): run for name, (run, _) in slow.items()}
    contestants |= {(name, "forward"): layer.infer for name, (layer, _) in layers.items()}
    contestants |= {(name, BOTH_WAYS): layer.both_ways for name, (layer, _) in layers.items()}

    def before(key: tuple[str, str]) -> None:
        set_num_threads(layers[key[0]][1] if key[0] in layers else 1)

    times = take_turns(contestants, before=before, **settings.turns_within(_SECONDS))
    shapes = {name: shape._replace(T=steps) for name, (_, steps) in slow.items()}
    return [Row("ladder", *key, shapes.get(key[0], shape), "s", own, settings.cell) for key, own in times.items()]


def _slow_rungs(trial: Trial) -> dict[str, tuple[Callable[[], Any], int]]:
    """Return the textbook's, and over how many steps they are timed: these cost the same from first to last."""
    N, T, _, H = trial.shape
    rungs: dict[str, tuple[Callable[[], Any], int]] = {}
    loops: list[tuple[str, Callable[..., Any], int]] = [
        ("instance by instance", functools.partial(row_by_row, trial.kind), N)
    ]
    if trial.kind is KINDS["elman"]:
        loops = [("neuron by neuron", neuron_by_neuron, N * H), ("instance by instance", by_instance, N)]
    for name, loop, calls in loops:
        steps = min(T, max(1, _CALLS // calls))
        x = trial.inputs[0].data[:steps]
        run = functools.partial(loop, x, *trial.weights)
        equal(name, "outputs", run(), trial.by_the_book(x), trial.dtype)
        rungs[name] = (run, steps)
    return rungs


def neuron_by_neuron(x: Any, W_xh: Any, W_hh: Any, b_h: Any) -> Any:
    """Unroll by `textbook.neuron_step`: of (T, N, H) outputs each number is a call, in float64."""
    neurons = [(W_xh[:, j], W_hh[:, j], b_h[j]) for j in range(len(b_h))]
    return _unrolled(lambda x_n, h_n: [textbook.neuron_step(x_n, h_n, *own) for own in neurons], x, len(b_h))


def by_instance(x: Any, W_xh: Any, W_hh: Any, b_h: Any) -> Any:
    """Unroll by `textbook.layer_step_instance`: of (T, N, H) outputs each (H,) is a call, in float64."""
    return _unrolled(lambda x_n, h_n: textbook.layer_step_instance(x_n, h_n, W_xh, W_hh, b_h), x, len(b_h))


def _unrolled(step: Callable[[Any, Any], Any], x: Any, H: int) -> Any:
    h, outputs = np.zeros((x.shape[1], H)), []
    for x_t in x:
        h = np.array([step(x_n, h_n) for x_n, h_n in zip(x_t, h, strict=True)])
        outputs.append(h)
    return np.stack(outputs)


def row_by_row(kind: Kind, x: Any, *weights: Any) -> Any:
    """Unroll by the textbook's step for a mini-batch, one row at a time: it has no other for layers with gates."""
    zeros = [np.zeros((1, len(weights[1]))) for _ in kind.states]
    rows = [kind.outputs(x[:, n : n + 1], *zeros, *weights) for n in range(x.shape[1])]
    return np.concatenate(rows, axis=1)


def note(kind: Kind) -> str:
    """Return what the tables show."""
    slow = (
        "first two are textbook.neuron_step and textbook.layer_step_instance"
        if kind is KINDS["elman"]
        else f"first is textbook.{'lstm' if kind is KINDS['lstm'] else 'gru'}_step, a row at a time"
    )
    return (
        f"{kind.name} in several ways. Each gave the textbook's numbers before it was timed. "
        "× is how many times as fast it is as the line before. "
        '"forward" keeps nothing for a gradient; "both ways" is forward and backward, with all gradients. '
        f"The {slow}, in float64, over the first steps only. ± is half the distance between the quartiles."
    )


def report(jobs: Sequence[Sequence[Row]]) -> str:
    """Return a table for each shape."""
    return "\n\n".join(map(_table, jobs))


def _table(rows: Sequence[Row]) -> str:
    rungs = list(dict.fromkeys(row.contestant for row in rows))
    lines = []
    for slower, rung in zip(["", *rungs], rungs, strict=False):
        cells = [rung]
        for what in ("forward", BOTH_WAYS):
            row, base = (find(rows, contestant=name, what=what) for name in (rung, slower))
            cells.append(f"{three_digits(1e6 * a_step(row).median)} {plus_minus(row)}" if row else "")
            cells.append(three_digits(times_as_fast(row, base)) if row and base else "")
        lines.append(cells)
    table = markdown(("", "forward", "×", "both ways", "×"), lines)
    return f"N,T,D,H = {rows[-1].shape}, µs a step:\n\n{table}"


def a_step(row: Row) -> Spread:
    """Return the seconds of one of its steps."""
    return Spread(*(seconds / row.shape.T for seconds in row.spread))


def times_as_fast(row: Row, base: Row) -> float:
    """Return how many steps a row makes in the time that ``base`` takes for one."""
    return ratio(base.values, row.values).median * row.shape.T / base.shape.T
