"""Memory: what a layer saves for backward, and holds at its peak, against T, with and without remat."""

import gc
import tracemalloc
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from minirnn.bench.cells import Kind, Shape, Trial, vary
from minirnn.bench.measure import markdown
from minirnn.bench.rows import Row, Settings
from minirnn.layers.threads import set_num_threads

DEFAULT, LENGTHS = Shape(16, 1, 10, 64), (100, 400, 1_600, 6_400)


def plan(shapes: Sequence[Shape], sweeps: Mapping[str, Sequence[int]]) -> list[list[Shape]]:
    """Make one job of each shape and length T: the shape's at ¼ to 4 times, or those asked for."""
    return [[one] for lengths in vary("T", DEFAULT, LENGTHS, shapes, sweeps, quarters=(1, 4, 16)) for one in lengths]


def measure(job: Sequence[Shape], settings: Settings) -> list[Row]:
    """Measure what a layer with ``remat`` off and on holds, on one thread."""
    (shape,) = job
    set_num_threads(1)
    found = {("one array", "(T,N,H)"): shape.T * shape.N * shape.H * np.dtype(settings.dtype).itemsize}
    for remat in (False, True):
        trial = Trial(shape, settings.dtype, settings.cell, remat=remat)
        trial.check(f"the layer with remat={remat}")
        with ThreadPoolExecutor(1) as thread:  # a new one has no scratch yet that is kept for reuse
            peak, saved = thread.submit(_peak_and_saved, trial).result()
        found |= {(f"remat={remat}", "kept"): saved, (f"remat={remat}", "peak"): peak}
    return [Row("memory", *key, shape, "bytes", [[number]], settings.cell) for key, number in found.items()]


def _peak_and_saved(trial: Trial) -> tuple[int, int]:
    gc.collect()
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        trial.both_ways()
        peak = tracemalloc.get_traced_memory()[1] - before
        before, _ = tracemalloc.get_traced_memory()
        final_state = trial.layer(trial.inputs[0]).final_state
        saved = tracemalloc.get_traced_memory()[0] - before
        del final_state
    finally:
        tracemalloc.stop()
    return peak, saved


def note(kind: Kind) -> str:
    """Say what the table shows."""
    return (
        f'{kind.layer.__name__} on one thread. "kept" is what stands between forward and backward where only the '
        'final state is read, as by a loss on the last output. "peak" is the most that forward and backward hold at '
        "any time where all outputs are read: these and all gradients, but not the inputs and the gradient that comes "
        'in. "arrays" says how many (T, N, H) arrays, the size of the outputs, that is. '
        "remat=True keeps √T of the states and computes the others again."
    )


def report(jobs: Sequence[Sequence[Row]]) -> str:
    """Write one table."""
    lines = []
    for array, *held in jobs:
        for pair in zip(held[::2], held[1::2], strict=True):
            cells = [cell for row in pair for cell in (row.median, f"{row.spread.median / array.spread.median:.2f}")]
            lines.append([str(array.shape), pair[0].contestant, *cells])
    return markdown(("N,T,D,H", "", "kept", "arrays", "peak", "arrays"), lines)
