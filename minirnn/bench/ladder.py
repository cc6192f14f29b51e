"""The ladder: one layer on one shape, computed in several ways, each a step further from a loop in Python."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from minirnn import textbook
from minirnn.bench.cells import KINDS, Kind, Shape, Trial, equal, three_digits
from minirnn.bench.measure import markdown, ratio
from minirnn.bench.rows import BOTH_WAYS, Contestant, Row, Settings, time_in_turns
from minirnn.layers.threads import set_num_threads

DEFAULT = Shape(32, 100, 64, 128)
_SECONDS = 6.0
_CALLS = 8_192  # in a turn of a slow rung, about: each takes tens of µs


def plan(shapes: Sequence[Shape], sweeps: Mapping[str, Sequence[int]]) -> list[list[Shape]]:
    """Make one job of each shape."""
    return [[shape] for shape in shapes or [DEFAULT]]


def measure(job: Sequence[Shape], settings: Settings) -> list[Row]:
    """Measure the rungs, from the slowest to the fastest, when all have given the textbook's numbers."""
    (shape,) = job
    trial = partial(Trial, shape, settings.dtype, settings.cell)
    slow = _slow_rungs(trial())
    layers = {"mini-batch, graph": (trial(backend="graph"), 1), "mini-batch, fused": (trial(), 1)}
    if settings.threads > 1:
        layers[f"fused, {settings.threads} threads"] = (trial(), settings.threads)
    for name, (layer, threads) in layers.items():
        set_num_threads(threads)
        layer.check(name)
    forward = [Contestant(name, "forward", layer.infer, shape, n) for name, (layer, n) in layers.items()]
    both_ways = [Contestant(name, BOTH_WAYS, layer.both_ways, shape, n) for name, (layer, n) in layers.items()]
    return time_in_turns("ladder", [*slow, *forward, *both_ways], settings, _SECONDS)


def _slow_rungs(trial: Trial) -> list[Contestant]:
    """Make the textbook's, over some of the steps: these cost the same from first to last."""
    N, T, _, H = trial.shape
    loops: dict[str, tuple[Callable[..., Any], int]] = {"instance by instance": (partial(row_by_row, trial.kind), N)}
    if trial.kind is KINDS["elman"]:
        loops = {"neuron by neuron": (neuron_by_neuron, N * H), "instance by instance": (by_instance, N)}
    rungs = []
    for name, (loop, calls) in loops.items():
        steps = min(T, max(1, _CALLS // calls))
        x = trial.inputs[0].data[:steps]
        run = partial(loop, x, *trial.weights)
        equal(name, "outputs", run(), trial.by_the_book(x), trial.dtype)
        rungs.append(Contestant(name, "forward", run, trial.shape._replace(T=steps)))
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
    """Say what the tables show."""
    slow = (
        "first two are textbook.neuron_step and textbook.layer_step_instance"
        if kind is KINDS["elman"]
        else f"first is textbook.{'lstm' if kind is KINDS['lstm'] else 'gru'}_step, a row at a time"
    )
    return (
        f"{kind.layer.__name__} in several ways. Each gave the textbook's numbers before it was timed. "
        "× is how many times as fast it is as the line before. "
        '"forward" keeps nothing for a gradient; "both ways" is forward and backward, with all gradients. '
        f"The {slow}, in float64, over the first steps only. ± is half the distance between the quartiles."
    )


def report(jobs: Sequence[Sequence[Row]]) -> str:
    """Write a table for each shape."""
    return "\n\n".join(map(_table, jobs))


def _table(rows: Sequence[Row]) -> str:
    found = {(row.contestant, row.what): row for row in rows}
    rungs = list(dict.fromkeys(row.contestant for row in rows))
    lines = []
    for slower, rung in zip(["", *rungs], rungs, strict=False):
        cells = [rung]
        for what in ("forward", BOTH_WAYS):
            row, base = found.get((rung, what)), found.get((slower, what))
            cells.append(f"{three_digits(1e6 * row.spread.median / row.shape.T)} {row.plus_minus}" if row else "")
            cells.append(three_digits(times_as_fast(row, base)) if row and base else "")
        lines.append(cells)
    table = markdown(("", "forward", "×", "both ways", "×"), lines)
    return f"N,T,D,H = {rows[-1].shape}, µs a step:\n\n{table}"


def times_as_fast(row: Row, base: Row) -> float:
    """Return how many steps a row makes in the time that ``base`` takes for one."""
    return ratio(base.values, row.values).median * row.shape.T / base.shape.T
