"""Tables in Markdown, from what was measured."""

import math
from collections.abc import Iterable, Mapping, Sequence

from benchmarks.cases import Shape
from benchmarks.roster import AUTOGRAD, EAGER, FLOOR, GRAPH, JAX, MINIRNN, MYGRAD, ONE_THREAD, ONNX, TORCH, Peer
from benchmarks.rounds import Measured
from minirnn.bench import measure

NOTHING = "–"  # in a cell, where a contestant did not run
Labels = Mapping[str, str]


def labels_of(peers: Iterable[Peer]) -> dict[str, str]:
    """Return name -> label, minirnn first."""
    return {MINIRNN: MINIRNN} | {peer.name: peer.label for peer in peers}


def of_contestants(measured: Measured, labels: Labels, *, unit: str = "µs", scale: float = 1e6) -> str:
    """Return one row a contestant: its time and its time ÷ minirnn's, with quartiles."""
    rows = []
    for name in measured.names():
        t, r = measured.spread(name), measured.ratio(name)
        times = number(t.median * scale), f"{number(t.low * scale)} … {number(t.high * scale)}"
        rows.append((labels[name], *times, f"{r.median:.2f}", f"{r.low:.2f} … {r.high:.2f}"))
    table = measure.markdown(("", unit, "quartiles", "× minirnn", "quartiles"), rows)
    left_out = [f"{labels[name]}: left out, {why}." for name, why in measured.left_out.items()]
    return "\n\n".join([table, *left_out])


def number(value: float) -> str:
    """Return a time in three figures or more: 0.0123, 8.91, 89.1, 1,206."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.{max(0, 2 - math.floor(math.log10(value)))}f}" if value > 0 else "0"


# --- all shapes together ----------------------------------------------------------------------------------------------

FAST = (ONE_THREAD.name, FLOOR.name, TORCH.name, JAX.name, ONNX.name)
BY_OP = (GRAPH.name, EAGER.name, AUTOGRAD.name, MYGRAD.name)


def summary(results: Mapping[Shape, Measured], labels: Labels) -> str:
    """Return one row a shape: µs of each, then the ratios."""
    ran = {name for measured in results.values() for name in measured.names()}
    fast = [name for name in FAST if name in ran]
    others = [name for name in fast if name != FLOOR.name]
    header = ["N, T, D, H", "minirnn, µs", *(f"{labels[name]}, µs" for name in fast)]
    header += [f"{labels[name]} ÷ minirnn" for name in others]
    header += ["minirnn ÷ bare products"] * (FLOOR.name in fast)
    rows = []
    for shape, measured in results.items():
        times = [_time(measured, name) for name in (MINIRNN, *fast)]
        ratios = [_ratio(measured, name, MINIRNN) for name in others]
        ratios += [_ratio(measured, MINIRNN, FLOOR.name)] * (FLOOR.name in fast)
        rows.append((str(shape), *times, *ratios))
    return measure.markdown(header, rows)


def by_op(results: Mapping[Shape, Measured], labels: Labels) -> str | None:
    """Return one row a shape: how many times minirnn's time the op-by-op loops take; None if there were none."""
    ran = {name for measured in results.values() for name in measured.names()}
    slow = [name for name in BY_OP if name in ran]
    if not slow:
        return None
    rows = [(str(shape), *(_ratio(measured, name, MINIRNN) for name in slow)) for shape, measured in results.items()]
    return measure.markdown(["N, T, D, H", *(f"{labels[name]} ÷ minirnn" for name in slow)], rows)


def _time(measured: Measured, name: str) -> str:
    return number(measured.spread(name).median * 1e6) if name in measured.names() else NOTHING


def _ratio(measured: Measured, name: str, base: str) -> str:
    if not {name, base} <= set(measured.names()):
        return NOTHING
    return f"{measured.ratio(name, base).median:.2f}"


def geometric_means(results: Mapping[Shape, Measured], labels: Labels) -> list[str]:
    """Return a line for each fast peer: over all shapes, and over those with N ≥ 16."""
    lines = []
    for name in (TORCH.name, JAX.name, ONNX.name):
        ratios = medians(results, name)
        if not ratios:
            continue
        batches = [r for shape, r in ratios.items() if shape.N >= 16]
        over = f"{geometric_mean(list(ratios.values())):.2f} over {len(ratios)} shape{'s' * (len(ratios) != 1)}"
        over += f", {geometric_mean(batches):.2f} over those with N ≥ 16" if batches else ""
        lines.append(f"{labels[name]} ÷ minirnn, geometric mean: {over}")
    return lines


def medians(results: Mapping[Shape, Measured], name: str, base: str = MINIRNN) -> dict[Shape, float]:
    """Return shape -> median of name ÷ base, for the shapes where both ran in turns with each other."""
    return {
        shape: measured.ratio(name, base).median
        for shape, measured in results.items()
        if {name, base} <= set(measured.names())
    }


def geometric_mean(ratios: Sequence[float]) -> float:
    """Return the nth root of the product."""
    return math.exp(sum(map(math.log, ratios)) / len(ratios))
