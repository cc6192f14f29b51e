"""``door``: what stands around a layer's kernels: its door, the tape, the Tensors and ``zero_grad``.

    python -m benchmarks door

``zero_grad``, ``layer(x)`` and ``backward(g)`` at (1, 50, 10, 20), less what the kernels take that are called in them:
those are called alone, with what they were given there. All that is left is Python, so it is told for a machine on
which an empty call takes 0.1 µs: times that, divided by what it takes here, in the same turns.
"""

import argparse
import itertools
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks import bars, tables
from benchmarks.cases import Case, Shape, WrongResultError, check, draw, expected, results_of
from benchmarks.contestants import minirnn_layer, minirnn_of
from benchmarks.roster import CELLS, MINIRNN
from benchmarks.rounds import Measured, Plan, Run, alternate
from minirnn.bench import measure
from minirnn.bench.cells import KINDS
from minirnn.kernels import elman, unroll

SHAPE = Shape(1, 50, 10, 20)
SECONDS = 8.0  # for each layer, about
CALLS = 1_000  # empty ones, timed together
PACE = 1e-7  # seconds: an empty call of the machine for which the bar stands
MOST = 55.0  # µs
KERNELS, EMPTY = "kernels", "empty calls"


def run(options: argparse.Namespace, say: Callable[[str], None]) -> dict[str, Any]:
    """Measure, print, and return what goes into the JSON file."""
    plan = Plan(0.3 if options.quick else SECONDS, options.runs, options.turns)
    found = {cell: Measured([alternate(ready(cell), plan)]) for cell in CELLS}
    say(f"\nWhat stands around the kernels, N, T, D, H = {SHAPE}, float32, results equal:\n")
    say(table(found))
    figure = around(found["elman"])[1]
    demand = bars.Bar(
        f"door and tape at most {MOST:g} µs where an empty Python call takes 0.1 µs", figure <= MOST, f"{figure:.1f} µs"
    )
    say("\n" + bars.lines([demand]))
    times = {cell: measured.alternations for cell, measured in found.items()}
    return {"seconds a call, by run and turn": times, "bars": [demand._asdict()]}


def around(measured: Measured) -> tuple[float, float]:
    """Return the µs around the kernels, as they are, and at the pace of the bar."""
    own = measured.alternations[0]
    turns = [
        [(whole - inner, (whole - inner) * PACE * CALLS / empty) for whole, inner, empty in zip(*runs, strict=True)]
        for runs in zip(own[MINIRNN], own[KERNELS], own[EMPTY], strict=True)
    ]
    here, paced = ([[1e6 * pair[i] for pair in one] for one in turns] for i in (0, 1))
    return measure.spread(here).median, measure.spread(paced).median


def table(found: dict[str, Measured]) -> str:
    """Return one row a layer."""
    rows = []
    for cell, measured in found.items():
        here, paced = around(measured)
        whole, inner = (tables.number(measured.spread(name).median * 1e6) for name in (MINIRNN, KERNELS))
        empty = f"{measured.spread(EMPTY).median * 1e6 / CALLS:.4f}"
        rows.append((KINDS[cell].layer.__name__, whole, inner, f"{here:.1f}", empty, f"{paced:.1f}"))
    header = (
        "",
        "all of it, µs",
        "kernels, µs",
        "around them, µs",
        "an empty call, µs",
        "around them, at 0.1 µs a call",
    )
    return measure.markdown(header, rows)


# --- what is timed ----------------------------------------------------------------------------------------------------


def ready(cell: str) -> dict[str, Run]:
    """Return what is timed, once the layer's results are the textbook's and the kernels alone give the same."""
    case = draw(SHAPE, cell)
    check(MINIRNN, minirnn_layer(case, 1), expected(case), results_of(cell))
    layer = minirnn_of(case)
    gradients = [given.g for given in case.inputs]
    xs = [given.x for given in case.inputs]

    def whole(i: int) -> Any:
        layer.zero_grad()
        outputs, _ = layer(xs[i])
        outputs.backward(gradients[i])
        return outputs

    kernels = [_kernels(whole, i, case, layer) for i in (0, 1)]
    return {MINIRNN: whole, KERNELS: lambda i: kernels[i](), EMPTY: _empty_calls}


def _kernels(whole: Run, i: int, case: Case, layer: Any) -> Callable[[], Any]:
    """Return a function that calls the two kernels as ``whole`` calls them; refuse one that gives something else."""
    seen: list[tuple[Any, tuple[Any, ...], dict[str, Any]]] = []

    def noted(kernel: Any) -> Any:
        def called(*given: Any, **settings: Any) -> Any:
            if not inner:
                seen.append((kernel, given, settings))
            inner.append(kernel)
            try:
                return kernel(*given, **settings)
            finally:
                inner.pop()

        return called

    inner: list[Any] = []  # a kernel may call another one: only what the layer calls is noted
    places = [(module, name) for module in (elman, unroll) for name in ("forward", "backward")]
    before = [getattr(module, name) for module, name in places]
    for (module, name), kernel in zip(places, before, strict=True):
        setattr(module, name, noted(kernel))
    try:
        outputs = whole(i)
    finally:
        for (module, name), kernel in zip(places, before, strict=True):
            setattr(module, name, kernel)
    (forward, given, settings), (backward, given_back, settings_back) = seen

    def run() -> Any:
        made = forward(*given, **settings)
        return made, backward(*given_back, **settings_back)

    made, d = run()
    for name, got, want in (
        ("outputs", made.outputs, outputs.numpy()),
        ("the gradient of W_xh", d.W_xh, layer.W_xh.grad),
        ("the gradient of W_hh", d.W_hh, layer.W_hh.grad),
    ):
        if not np.array_equal(got, want):
            raise WrongResultError(f"{KERNELS}, {case.cell}: {name} is not what the layer gives")
    return run


def _empty() -> None:
    pass


def _empty_calls(i: int) -> None:
    for _ in itertools.repeat(None, CALLS):
        _empty()
