"""The grid: a training step over many shapes, its passes timed apart and held against the floor."""

import time
from collections.abc import Mapping, Sequence

import numpy as np

from minirnn.bench.cells import KINDS, Kind, Shape, Trial, three_digits
from minirnn.bench.floor import Floor
from minirnn.bench.measure import Times, markdown, ratio, spread
from minirnn.bench.rows import BOTH_WAYS, Contestant, Row, Settings, time_in_turns

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
_SECONDS = 1.0
_PASSES = ("forward", "backward", "update")
_FIRST = "first call"


def plan(shapes: Sequence[Shape], sweeps: Mapping[str, Sequence[int]]) -> list[list[Shape]]:
    """Make one job of each shape."""
    return [[shape] for shape in shapes or DEFAULTS]


def measure(job: Sequence[Shape], settings: Settings) -> list[Row]:
    """Measure the first call of a layer, then its passes and the floor's in turns."""
    (shape,) = job
    trial = Trial(shape, settings.dtype, settings.cell)
    start = time.perf_counter()
    trial.both_ways()
    first = time.perf_counter() - start  # before the check, which would leave nothing cold; told only if that is passed
    trial.check("the layer")
    floor = Floor(*shape, settings.dtype, np.random.default_rng(0), settings.kind.gates)
    contestants = [
        *(Contestant("layer", name, getattr(trial, name), shape, settings.threads) for name in _PASSES),
        Contestant("floor", "forward", floor.forward, shape),
        Contestant("floor", BOTH_WAYS, floor.both_ways, shape),
    ]
    times = time_in_turns("grid", contestants, settings, _SECONDS)
    return [Row("grid", "layer", _FIRST, shape, "s", [[first]], settings.cell), *times]


def note(kind: Kind) -> str:
    """Say what the tables show."""
    return (
        f"{kind.layer.__name__} in training: forward, backward with all gradients, update (clip, Adam). "
        '"first call" is forward and backward of a new layer, cold, once. '
        f"GFLOP/s count the matrix products: {2 * kind.gates}·T·N·H·(D + H) operations forward, twice that "
        "backward. seq/s are the sequences of whole training steps. "
        "× floor is the time over that of the same products and one activation pass over all steps, bare and on one "
        "thread, in the same turns."
    )


def report(jobs: Sequence[Sequence[Row]]) -> str:
    """Write two tables: times, and what follows from them."""
    times, rates = [], []
    for rows in jobs:
        own = {(row.contestant, row.what): row for row in rows}
        forward, backward, update = (own["layer", what] for what in _PASSES)
        shape, flops = forward.shape, forward.shape.flops(KINDS[forward.cell].gates)
        passes = [f"{row.median} {row.plus_minus}" for row in (forward, backward, update)]
        times.append([str(shape), *passes, own["layer", _FIRST].median])
        both_ways = add(forward.values, backward.values)
        rates.append(
            [
                str(shape),
                three_digits(flops / forward.spread.median / 1e9),
                three_digits(2 * flops / backward.spread.median / 1e9),
                three_digits(shape.N / spread(add(both_ways, update.values)).median),
                f"{ratio(forward.values, own['floor', 'forward'].values).median:.2f}",
                f"{ratio(both_ways, own['floor', BOTH_WAYS].values).median:.2f}",
            ]
        )
    more = ("N,T,D,H", "GFLOP/s fwd", "bwd", "seq/s", "× floor fwd", BOTH_WAYS)
    return f"{markdown(('N,T,D,H', *_PASSES, _FIRST), times)}\n\n{markdown(more, rates)}"


def add(*passes: Times) -> Times:
    """Add the times of passes that follow each other, turn by turn."""
    return [[sum(turn) for turn in zip(*runs, strict=True)] for runs in zip(*passes, strict=True)]
