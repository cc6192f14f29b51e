"""``trace``: what a look inside costs: `bptt.trace` beside a plain pass forward and backward, equal gradients first.

    python -m benchmarks trace

The loss is that of the last output. Beside the fused layer, both ways and backward alone, stand the graph backend, and
what is made of a trace: the credit matrix of a loss at every step, and the doctor's report.
"""

import argparse
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

import minirnn as mr
from benchmarks import bars, tables
from benchmarks.cases import Shape, WrongResultError
from benchmarks.roster import CELLS
from benchmarks.rounds import Measured, Plan, Run, alternate, rest
from minirnn.bench import measure
from minirnn.bench.cells import KINDS

SHAPES = (Shape(1, 50, 10, 20), Shape(32, 50, 10, 20), Shape(16, 200, 2, 100), Shape(32, 100, 64, 128))
SECONDS = 6.0  # for each layer and shape, about
PLAIN, BACKWARD, TRACE, GRAPH = "forward and backward", "backward alone", "trace", "graph, both ways"
CREDIT, DOCTOR = "credit", "doctor"
MAKE = {"elman": mr.RecurrentLayer, "lstm": mr.LSTMLayer, "gru": mr.GRULayer}


def run(options: argparse.Namespace, say: Callable[[str], None]) -> dict[str, Any]:
    """Measure, print as it goes, and return what goes into the JSON file."""
    plan = Plan(0.5 if options.quick else SECONDS, options.runs, options.turns, fewest=2, rest=rest(options.threads))
    free_something_larger()
    found: dict[str, dict[Shape, Measured]] = {}
    for cell in CELLS:
        found[cell] = {shape: Measured([alternate(ready(cell, shape), plan)]) for shape in SHAPES}
        say(f"\n{KINDS[cell].layer.__name__}, float32, a loss of the last output, gradients equal:\n")
        say(table(found[cell]))
    demands = [
        bars.most(
            f"{KINDS[cell].layer.__name__}: trace at most 3 × forward and backward",
            {shape: measured.ratio(TRACE, PLAIN).median for shape, measured in own.items()},
            dict.fromkeys(own, 3.0),
        )
        for cell, own in found.items()
    ]
    say("\n" + bars.lines(demands))
    measured = [
        {"cell": cell, **shape._asdict(), "seconds a call, by run and turn": one.alternations}
        for cell, own in found.items()
        for shape, one in own.items()
    ]
    return {"measured": measured, "bars": [bar._asdict() for bar in demands]}


def free_something_larger() -> None:
    """Let the C library keep what is freed, as it does in any process that has let go of some data before.

    Until a block beyond 128 KiB has been freed, glibc hands memory back as soon as 128 KiB lie at the end of its heap.
    Arrays a little smaller, as a trace at (32, 50, 10, 20) has them, then cost a page fault for every 4 KiB each time.
    """
    np.ones(1 << 20)


def last(outputs: Any) -> Any:
    """Return the loss of the last output."""
    return (outputs[-1] * outputs[-1]).sum()


def every(outputs: Any) -> Any:
    """Return a loss of every output."""
    return (outputs * outputs).sum()


def ready(cell: str, shape: Shape) -> dict[str, Run]:
    """Return what is timed, once the trace's gradients are the layer's; two inputs in turn."""
    rng = np.random.default_rng(shape.T)
    xs = [rng.normal(size=(shape.T, shape.N, shape.D)).astype(np.float32) for _ in range(2)]
    layer, graph = (MAKE[cell](shape.D, shape.H, backend=backend, rng=0) for backend in ("fused", "graph"))
    traces = [mr.bptt.trace(layer, x, last) for x in xs]
    everywhere = [mr.bptt.trace(layer, x, every) for x in xs]
    check(layer, xs, traces)
    recorded = [last(layer(x).outputs) for x in xs]
    return {
        PLAIN: lambda i: last(layer(xs[i]).outputs).backward(),
        BACKWARD: lambda i: recorded[i].backward(retain_graph=True),
        TRACE: lambda i: mr.bptt.trace(layer, xs[i], last).gradients,  # which are made when they are asked for
        GRAPH: lambda i: last(graph(xs[i]).outputs).backward(),
        CREDIT: lambda i: mr.bptt.Credit(everywhere[i].unrolled, everywhere[i].entering, reverse=False),
        DOCTOR: lambda i: mr.bptt.doctor(traces[i]),
    }


def check(layer: Any, xs: list[Any], traces: list[Any]) -> None:
    """Refuse a trace whose gradients are not the layer's."""
    for x, trace in zip(xs, traces, strict=True):
        layer.zero_grad()
        last(layer(x).outputs).backward()
        for name, p in layer.named_parameters():
            error = np.abs(trace.gradients[name] - p.grad).max() / np.abs(p.grad).max()
            if not error < 1e-4:
                raise WrongResultError(f"trace: the gradient of {name} differs from the layer's by {error:.1e}")


def table(found: Mapping[Shape, Measured]) -> str:
    """Return one row a shape: the times in ms, and the trace's ÷ the plain ones."""
    names = [PLAIN, BACKWARD, TRACE, GRAPH, CREDIT, DOCTOR]
    header = ["N, T, D, H", *(f"{name}, ms" for name in names), "trace ÷ forward and backward", "÷ backward alone"]
    rows = []
    for shape, measured in found.items():
        cells = [str(shape), *(tables.number(1e3 * measured.spread(name).median) for name in names)]
        rows.append([*cells, *(f"{measured.ratio(TRACE, base).median:.2f}" for base in (PLAIN, BACKWARD))])
    return measure.markdown(header, rows)
