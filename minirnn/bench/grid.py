"""The grid: a training step over many shapes, its passes timed apart and held against the floor."""

import time
from collections.abc import Mapping, Sequence

import numpy as np

from minirnn.bench.cells import KINDS, Kind, Trial
from minirnn.bench.floor import floor, forward_floor
from minirnn.bench.measure import Times, markdown, ratio, spread, take_turns
from minirnn.bench.rows import BOTH_WAYS, Row, Settings, seconds_text, text
from minirnn.bench.shapes import Shape, three_digits
from minirnn.layers.threads import set_num_threads

DEFAULTS = [
    Shape(1, 50, 10, 20),
    Shape(32, 50, 10, 20),
    Shape(16, 400, 2, 100),
    Shape(32, 784, 1, 100),
    Shape(256, 50, 64, 64),
    Shape(32, 100, 64, 128),
    Shape(64, 100, 128, 256),
    Shape(128, 64, 256, 512),
]
OBJECTS = 2_000  # bytes for each step, about: the floor's views
_SECONDS = 1.0
_PASSES = ("forward", "backward", "update", "first call")


def plan(shapes: Sequence[Shape], sweeps: Mapping[str, Sequence[int]]) -> list[list[Shape]]:
    """Return one job for each shape."""
    return [[shape] for shape in shapes or DEFAULTS]


def measure(job: Sequence[Shape], settings: Settings) -> list[Row]:
    """Measure the first call of a layer, then its passes and the floor's in turns."""
    (shape,) = job
    set_num_threads(settings.threads)
    rng = np.random.default_rng(0)
    trial, gates = Trial(shape, settings.dtype, settings.cell), settings.kind.gates
    start = time.perf_counter()
    trial.both_ways()
    first = time.perf_counter() - start  # before the check, which would leave nothing cold; told only if that is passed
    trial.check("the layer")
    contestants = {
        ("layer", "forward"): trial.forward,
        ("layer", "backward"): trial.backward,
        ("layer", "update"): trial.update,
        ("floor", "forward"): forward_floor(*shape, settings.dtype, rng, gates),
        ("floor", BOTH_WAYS): floor(*shape, settings.dtype, rng, gates),
    }

    def before(key: tuple[str, str]) -> None:
        set_num_threads(settings.threads if key[0] == "layer" else 1)

    times = take_turns(contestants, before=before, **settings.turns_within(_SECONDS))
    rows = {("layer", "first call"): [[first]]} | times
    return [Row("grid", *key, shape, "s", values, settings.cell) for key, values in rows.items()]


def note(kind: Kind) -> str:
    """Return what the tables show."""
    return (
        f"{kind.name} in training: forward, backward with all gradients, update (clip, Adam). "
        '"first call" is forward and backward of a new layer, cold, once. '
        f"GFLOP/s count the matrix products: {2 * kind.gates}·T·N·H·(D + H) operations forward, twice that backward. "
        "seq/s are the sequences of whole training steps. "
        "× floor is the time over that of the same products and one activation pass over all steps, bare and on one "
        "thread, in the same turns."
    )


def report(jobs: Sequence[Sequence[Row]]) -> str:
    """Return two tables: times, and what follows from them."""
    times, rates = [], []
    for rows in jobs:
        shape, own = str(rows[0].shape), {(row.contestant, row.what): row for row in rows}
        forward, backward, update, first = (own["layer", what] for what in _PASSES)
        times.append([shape, text(forward), text(backward), text(update), seconds_text(first.spread.median)])
        flops = forward.shape.flops(KINDS[forward.cell].gates)
        step = spread(add(forward.values, backward.values, update.values)).median
        rates.append(
            [
                shape,
                three_digits(flops / forward.spread.median / 1e9),
                three_digits(2 * flops / backward.spread.median / 1e9),
                three_digits(forward.shape.N / step),
                *(f"{times:.2f}" for times in times_the_floor(rows).values()),
            ]
        )
    more = ("N,T,D,H", "GFLOP/s fwd", "bwd", "seq/s", "× floor fwd", BOTH_WAYS)
    return f"{markdown(('N,T,D,H', *_PASSES), times)}\n\n{markdown(more, rates)}"


def times_the_floor(rows: Sequence[Row]) -> dict[str, float]:
    """Return how many times the floor's time a layer takes, forward and both ways."""
    own = {(row.contestant, row.what): row.values for row in rows}
    forward = own["layer", "forward"]
    passes = {"forward": forward, BOTH_WAYS: add(forward, own["layer", "backward"])}
    return {what: ratio(values, own["floor", what]).median for what, values in passes.items()}


def add(*passes: Times) -> Times:
    """Add the times of passes that follow each other, turn by turn."""
    return [[sum(turn) for turn in zip(*runs, strict=True)] for runs in zip(*passes, strict=True)]
