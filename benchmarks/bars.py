"""What the figures were asked to be, line by line: met, or missed, and by what figure."""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from benchmarks.cases import OF_CELLS, SHAPES, Shape
from benchmarks.tables import geometric_mean

TIE = 0.97  # a tie within 3 % passes where H ≥ 256: torch itself is hardly above the bare products there
Ratios = Mapping[Shape, float]


class Bar(NamedTuple):
    """A demand.

    Attributes
    ----------
    text : what is asked for
    met : None if it was not measured
    figure : what came
    """

    text: str
    met: bool | None
    figure: str


NOT_MEASURED = "needs all shapes and this peer"


def lines(bars: Iterable[Bar]) -> str:
    """Return a Markdown list."""
    words = {True: "met", False: "missed", None: "not measured"}
    return "\n".join(f"- {words[bar.met]}: {bar.text}: {bar.figure}" for bar in bars)


def of_layer(torch: Ratios, jax: Ratios, floor: Ratios, threads: int) -> list[Bar]:
    """Return the bars of forward and backward: peers ÷ minirnn, and minirnn ÷ bare products, by shape."""
    faster = _faster("faster than torch.nn.RNN on every shape (a tie within 3 % passes at H ≥ 256)", torch, SHAPES)
    if threads != 1:
        return [faster]
    batches = [shape for shape in SHAPES if shape.N >= 16]
    return [
        faster,
        _mean("geometric mean against torch.nn.RNN ≥ 2.4 (stretch: 2.6)", torch, SHAPES, 2.4),
        _faster("faster than jax wherever N ≥ 16", jax, batches, tie=1.0),
        _mean("geometric mean against jax over N ≥ 16 ≥ 1.4", jax, batches, 1.4),
        _near(floor),
    ]


NEARER = (Shape(16, 400, 2, 100), Shape(64, 100, 128, 256))  # where an LSTM is to come nearer to torch's


def of_gated(cell: str, torch: Ratios, threads: int) -> list[Bar]:
    """Return the bars of forward and backward with gates: torch ÷ minirnn, by shape; there are none for threads."""
    shapes = OF_CELLS[cell]
    if threads != 1:
        return []
    if cell == "gru":
        return [_faster("faster than torch.nn.GRU on every shape", torch, shapes, tie=1.0)]
    return [
        _all("at least 0.65 of torch.nn.LSTM's speed on every shape", torch, shapes, 0.65),
        _all(f"at least 0.9 of it at {' and '.join(f'({shape})' for shape in NEARER)}", torch, NEARER, 0.9),
        _some("stretch: at least its speed on three shapes", torch, shapes, 3),
    ]


def of_forward(torch: Ratios) -> list[Bar]:
    """Return the bar of the forward pass alone: torch.no_grad ÷ minirnn."""
    return [_faster("faster than torch.no_grad on every shape (a tie within 3 % passes at H ≥ 256)", torch, SHAPES)]


def _faster(text: str, ratios: Ratios, shapes: Iterable[Shape], tie: float = TIE) -> Bar:
    shapes = list(shapes)
    if not set(shapes) <= set(ratios):
        return Bar(text, None, NOT_MEASURED)
    slower = [shape for shape in shapes if not ratios[shape] > (tie if shape.H >= 256 else 1.0)]
    least = min(shapes, key=ratios.__getitem__)
    return Bar(text, not slower, _at(ratios, slower) if slower else f"least {_at(ratios, [least])}")


def _all(text: str, ratios: Ratios, shapes: Iterable[Shape], wanted: float) -> Bar:
    shapes = list(shapes)
    if not set(shapes) <= set(ratios):
        return Bar(text, None, NOT_MEASURED)
    under = [shape for shape in shapes if not ratios[shape] >= wanted]
    least = min(shapes, key=ratios.__getitem__)
    return Bar(text, not under, _at(ratios, under) if under else f"least {_at(ratios, [least])}")


def _some(text: str, ratios: Ratios, shapes: Iterable[Shape], wanted: int) -> Bar:
    shapes = list(shapes)
    if not set(shapes) <= set(ratios):
        return Bar(text, None, NOT_MEASURED)
    as_fast = [shape for shape in shapes if ratios[shape] >= 1.0]
    return Bar(text, len(as_fast) >= wanted, f"on {len(as_fast)}" + f": {_at(ratios, as_fast)}" * bool(as_fast))


def _mean(text: str, ratios: Ratios, shapes: Iterable[Shape], wanted: float) -> Bar:
    shapes = list(shapes)
    if not set(shapes) <= set(ratios):
        return Bar(text, None, NOT_MEASURED)
    mean = geometric_mean([ratios[shape] for shape in shapes])
    return Bar(text, mean >= wanted, f"{mean:.3f} ×")


def _allowed(shape: Shape) -> float | None:
    """Return how many times the bare products a shape may take; None where nothing is asked."""
    if shape.H >= 128:
        return 1.25
    if 64 <= shape.H <= 100 and shape.N >= 16:
        return 1.5
    return 2.0 if shape == Shape(32, 50, 10, 20) else None


def _near(floor: Ratios) -> Bar:
    text = "near the bare products: ≤ 1.25 × at H ≥ 128, ≤ 1.5 × at H = 64 … 100, ≤ 2 × at (32, 50, 10, 20)"
    asked = {shape: allowed for shape in SHAPES if (allowed := _allowed(shape))}
    if not set(asked) <= set(floor):
        return Bar(text, None, NOT_MEASURED)
    over = [shape for shape, allowed in asked.items() if floor[shape] > allowed]
    most = max(asked, key=lambda shape: floor[shape] / asked[shape])
    return Bar(text, not over, _at(floor, over) if over else f"nearest to its limit {_at(floor, [most])}")


def _at(ratios: Ratios, shapes: Iterable[Shape]) -> str:
    return "; ".join(f"{ratios[shape]:.3f} × at ({shape})" for shape in shapes)


def at_least(text: str, ratios: Mapping[str, float], wanted: float) -> Bar:
    """Return the bar that every ratio reaches."""
    if not ratios:
        return Bar(text, None, "needs this peer, and no --quick")
    figure = ", ".join(f"{ratio:.2f} × {where}".rstrip() for where, ratio in ratios.items())
    return Bar(text, min(ratios.values()) >= wanted, figure)


def at_most(text: str, ratios: Ratios, wanted: float) -> Bar:
    """Return the bar that no ratio exceeds."""
    over = [shape for shape in ratios if not ratios[shape] <= wanted]
    most = max(ratios, key=ratios.__getitem__)
    return Bar(text, not over, _at(ratios, over) if over else f"most {_at(ratios, [most])}")


def of_ragged(layer: str, ratios: Ratios, shapes: Iterable[Shape]) -> Bar:
    """Return the bar of lengths drawn from 1 … T: the time with them ÷ the time without."""
    text = f"{layer}: with lengths at most 0.65 of the padded time"
    shapes = list(shapes)
    if not set(shapes) <= set(ratios):
        return Bar(text, None, "needs all shapes")
    return at_most(text, {shape: ratios[shape] for shape in shapes}, 0.65)


def of_slope(slope: float | None) -> Bar:
    """Return the bar of time against T."""
    text = "time against T has slope 1.00 ± 0.05"
    if slope is None:
        return Bar(text, None, "needs all lengths")
    return Bar(text, abs(slope - 1) <= 0.05, f"{slope:.3f}")
