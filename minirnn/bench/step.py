"""A training step in parts: how long each takes, what it calls, how fast its products are, and what it allocates."""

import dis
import gc
import inspect
import itertools
import math
import sys
import threading
import time
import tracemalloc
from collections.abc import Callable, Mapping, Sequence
from types import CodeType, FrameType
from typing import Any

import numpy as np

from minirnn.bench.cells import KINDS, Kind, Shape, Trial, bytes_text, seconds_text, three_digits
from minirnn.bench.measure import markdown, ratio
from minirnn.bench.rows import Contestant, Row, Settings, time_in_turns
from minirnn.data import batches
from minirnn.layers import Linear, SequenceModel
from minirnn.layers.threads import set_num_threads
from minirnn.losses import mse
from minirnn.optim import Adam, clip_grad_norm

DEFAULTS = [Shape(32, 50, 10, 20), Shape(16, 100, 2, 100)]
PARTS = ("data", "forward", "loss", "backward", "clip", "optimiser")
SUM, WHOLE = "sum of them", "whole step"
_SECONDS = 3.0
_ENOUGH = 0.02  # seconds: a turn makes so many steps that it takes about that long, as they follow each other
_SETS = 4  # mini-batches in an epoch


class Training:
    """A layer with a head on its last state, and the six parts of a step of its training, to be called in order."""

    def __init__(self, trial: Trial) -> None:
        (N, T, D, H), rng = trial.shape, np.random.default_rng(0)
        x, y = (rng.standard_normal(sizes, trial.inputs[0].dtype.type) for sizes in ((T, _SETS * N, D), (_SETS * N, 1)))
        self.batches = batches(x, y, batch=N, readout="last", rng=rng)
        self.model: SequenceModel[Any] = SequenceModel(
            trial.layer, Linear(H, 1, dtype=trial.dtype, rng=rng), readout="last"
        )
        self.parameters = self.model.parameters()
        self.adam = Adam(self.parameters, lr=1e-4)
        self.parts = [getattr(self, name) for name in PARTS]
        self._x: Any = None
        self._y: Any = None
        self._made: Any = None  # the predictions, then the loss
        self.loss_of_step = math.nan

    def data(self) -> None:
        """Take the next N of 4·N shuffled sequences, as `minirnn.data.batches` does."""
        self._x, self._y = next(self.batches)

    def forward(self) -> None:
        """Predict, and save what backward needs."""
        self._made, _ = self.model(self._x)

    def loss(self) -> None:
        """Compute the mean squared error, and read it."""
        self._made = mse(self._made, self._y)
        self.loss_of_step = self._made.item()

    def backward(self) -> None:
        """Go back to the gradient of every Parameter."""
        made, self._made = self._made, None
        made.backward()

    def clip(self) -> None:
        """Scale the gradients together to a norm of at most 1."""
        clip_grad_norm(self.parameters, 1.0)

    def optimiser(self) -> None:
        """Make a step of Adam, and clear the gradients."""
        self.adam.step()
        self.adam.zero_grad()

    def drop(self) -> None:
        """Let go of the batch."""
        self._x = self._y = None

    def step(self) -> None:
        """Make a whole step."""
        for part in self.parts:
            part()

    def ticks(self) -> list[float]:
        """Make a whole step; return the seconds of each part, by a clock that is read between them."""
        clock = time.perf_counter
        ticks = [clock()]
        for part in self.parts:
            part()
            ticks.append(clock())
        return [after - before for before, after in itertools.pairwise(ticks)]


def plan(shapes: Sequence[Shape], sweeps: Mapping[str, Sequence[int]]) -> list[list[Shape]]:
    """Make one job of each shape."""
    return [[shape] for shape in shapes or DEFAULTS]


def measure(job: Sequence[Shape], settings: Settings) -> list[Row]:
    """Measure the parts of a step and, in turns with them, the step as a whole; then count what each part does."""
    (shape,) = job
    trial = Trial(shape, settings.dtype, settings.cell)
    trial.check("the layer")
    training = Training(trial)
    steps, found = _steps_in_a_turn(training), list[list[float]]()

    def whole() -> None:
        for _ in range(steps):
            training.step()

    def in_parts() -> None:
        found.append([sum(own) / steps for own in zip(*(training.ticks() for _ in range(steps)), strict=True)])

    runs = [Contestant(name, "time", run, shape, settings.threads) for name, run in ((WHOLE, whole), (SUM, in_parts))]
    of_whole, of_sum = time_in_turns("step", runs, settings, _SECONDS)
    turns = found[-len(of_sum.values[0]) :]  # those before were untimed

    def row(name: str, what: str, unit: str, values: Sequence[float]) -> Row:
        return Row("step", name, what, shape, unit, [list(values)], settings.cell)

    times = [row(name, "time", "s", own) for name, own in zip(PARTS, zip(*turns, strict=True), strict=True)]
    times.append(row(SUM, "time", "s", [sum(turn) for turn in turns]))
    times.append(row(WHOLE, "time", "s", [seconds / steps for seconds in of_whole.values[0]]))
    set_num_threads(1)  # what other threads call would not be seen
    calls = [row(name, "calls", "", [count_calls(part)]) for name, part in zip(PARTS, training.parts, strict=True)]
    peaks, kept = zip(*_allocated(training), strict=True)
    held = zip((*PARTS, *PARTS), ["peak"] * 6 + ["kept"] * 6, (*peaks, *kept), strict=True)
    return [*times, *calls, *(row(name, what, "bytes", [number]) for name, what, number in held)]


def _steps_in_a_turn(training: Training) -> int:
    """Return how many steps take about `_ENOUGH` seconds."""
    training.step()
    return max(1, round(_ENOUGH / sum(training.ticks())))


# --- what is counted --------------------------------------------------------------------------------------------------

CALLS = {dis.opmap[name] for name in ("CALL", "CALL_KW", "CALL_FUNCTION_EX") if name in dis.opmap}


def count_calls(run: Callable[[], Any]) -> int:
    """Count the calls that the interpreter makes while ``run`` runs: of Python's functions and of numpy's alike.

    They are the call instructions that it executes in this thread. An operator such as ``a + b``, an index and a
    property are none, although they may run Python or numpy; what they run is counted.
    """
    if sys.version_info >= (3, 13):
        return _count_events(run)
    count, codes = 0, dict[CodeType, bytes]()

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        nonlocal count
        if event == "opcode":
            code = codes.get(frame.f_code)
            if code is None:
                codes[frame.f_code] = code = frame.f_code.co_code  # a copy is made at every look
            count += code[frame.f_lasti] in CALLS
        elif event == "call":
            frame.f_trace_opcodes, frame.f_trace_lines = True, False
        return trace

    before = sys.gettrace()
    if here := inspect.currentframe():
        here.f_trace_opcodes = True  # on Python 3.12 no frame is traced so unless one is when settrace is called
    sys.settrace(trace)
    try:
        run()
    finally:
        sys.settrace(before)
    return count


if sys.version_info >= (3, 13):  # where tracing misses the instructions of what has not been traced before

    def _count_events(run: Callable[[], Any]) -> int:
        monitoring, count, here = sys.monitoring, 0, threading.get_ident()

        def called(code: CodeType, *_: Any) -> None:
            nonlocal count
            count += code is not _count_events.__code__ and threading.get_ident() == here

        tool = next(n for n in range(6) if monitoring.get_tool(n) is None)
        monitoring.use_tool_id(tool, "minirnn")
        monitoring.register_callback(tool, monitoring.events.CALL, called)
        monitoring.set_events(tool, monitoring.events.CALL)
        try:
            run()
        finally:
            monitoring.set_events(tool, 0)
            monitoring.register_callback(tool, monitoring.events.CALL, None)
            monitoring.free_tool_id(tool)
        return count


def _allocated(training: Training) -> list[tuple[int, int]]:
    """Return for each part the bytes at its peak, and those it leaves, both beyond what stood when it began."""
    gc.collect()
    tracemalloc.start()
    try:
        training.step()  # or it would not be seen that what stood there before is freed
        training.drop()
        found = []
        for part in training.parts:
            before, _ = tracemalloc.get_traced_memory()
            tracemalloc.reset_peak()
            part()
            after, peak = tracemalloc.get_traced_memory()
            found.append((peak - before, after - before))
    finally:
        tracemalloc.stop()
    return found


# --- what is shown ----------------------------------------------------------------------------------------------------


def note(kind: Kind) -> str:
    """Say what the tables show."""
    return (
        f"A training step of {kind.layer.__name__} with a head on its last state. data: N of {_SETS}·N shuffled "
        "sequences; loss: the mean squared error; clip: the gradients' norm; optimiser: Adam, and gradients cleared. "
        '"calls" are the call instructions that Python executes, of functions of its own and of numpy; operators are '
        "none. GFLOP/s count the matrix products. "
        '"peak" is the most that a part allocates beyond what stood when it began, "kept" what it leaves beyond that, '
        "− where it frees more: of forward, the activations for backward. Scratch that stays from call to call is in "
        "neither. The clock is read between the parts; the whole step is timed without that, in turns with them."
    )


def flops(shape: Shape, gates: int) -> dict[str, int]:
    """Return the operations of the matrix products, of layer and head; nobody wants the gradient of x."""
    N, T, _, H = shape
    forward, recurrent = shape.flops(gates), 2 * T * N * gates * H * H
    return {"forward": forward + 2 * N * H, "backward": forward + recurrent + 4 * N * H}


def report(jobs: Sequence[Sequence[Row]]) -> str:
    """Write a table for each shape, and what the parts' sum is of the whole."""
    return "\n\n".join(map(_table, jobs))


def _table(rows: Sequence[Row]) -> str:
    own = {(row.contestant, row.what): row for row in rows}
    shape = rows[0].shape
    products, total, whole = flops(shape, KINDS[rows[0].cell].gates), own[SUM, "time"], own[WHOLE, "time"]
    lines = []
    for name in PARTS:
        times = own[name, "time"]
        rate = three_digits(products[name] / times.spread.median / 1e9) if name in products else ""
        share = f"{100 * times.spread.median / total.spread.median:.0f}%"
        held = [_signed(own[name, what].spread.median) for what in ("peak", "kept")]
        lines.append([name, f"{times.median} {times.plus_minus}", share, _calls([own[name, "calls"]]), rate, *held])
    rate = three_digits(sum(products.values()) / whole.spread.median / 1e9)
    calls = _calls([own[name, "calls"] for name in PARTS])
    lines.append([WHOLE, f"{whole.median} {whole.plus_minus}", "", calls, rate, "", ""])
    table = markdown(("", "time", "", "calls", "GFLOP/s", "peak", "kept"), lines)
    of_whole = ratio(total.values, whole.values).median
    return (
        f"N,T,D,H = {shape}:\n\n{table}\n\nThe parts add up to {seconds_text(total.spread.median)}, {of_whole:.2f} of "
        "the whole step."
    )


def _calls(rows: Sequence[Row]) -> str:
    return f"{sum(int(row.spread.median) for row in rows):,}"


def _signed(number: float) -> str:
    return f"−{bytes_text(-number)}" if number < 0 else bytes_text(number)
