"""What the figures were asked to be, line by line: met, or missed, and by what figure."""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from benchmarks.cases import EIGHT, OF_CELLS, Shape
from benchmarks.tables import geometric_mean

TIE = 0.97  # of the forward pass a tie within 3 % passes where H ≥ 256: torch is hardly above the bare products there
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


# --- the layer --------------------------------------------------------------------------------------------------------

SMALL, MIDDLE, LONG, WIDE, WIDER = EIGHT[0], EIGHT[1], EIGHT[2], EIGHT[3], EIGHT[4]
NARROW = (Shape(4, 100, 3, 16), Shape(16, 100, 3, 16))


def of_layer(torch: Ratios, jax: Ratios, floor: Ratios) -> list[Bar]:
    """Return the bars of forward and backward on one thread: peers ÷ minirnn, and minirnn ÷ bare products, by shape."""
    few = (MIDDLE, *NARROW)
    return [
        least(f"as fast as jax at ({SMALL})", jax, {SMALL: 1.0}),
        least(f"≥ 1.2 times as fast as jax at {_named(few)}", jax, dict.fromkeys(few, 1.2)),
        mean("geometric mean against jax over the first eight shapes ≥ 1.45", jax, EIGHT, 1.45),
        least("≥ 1.1 times as fast as torch.nn.RNN at each", torch, dict.fromkeys(OF_CELLS["elman"], 1.1)),
        mean("geometric mean against torch.nn.RNN over the first eight shapes ≥ 2.9", torch, EIGHT, 2.9),
        most(
            f"near the bare products: ≤ 1.7 × at ({MIDDLE}), ≤ 1.25 × elsewhere for N ≥ 16, ≤ 2.2 × at N = 1",
            floor,
            {shape: allowed for shape in OF_CELLS["elman"] if (allowed := _allowed(shape))},
        ),
    ]


def _allowed(shape: Shape) -> float | None:
    """Return how many times the bare products a shape may take; None where nothing is asked."""
    if shape == MIDDLE:
        return 1.7
    if shape.N >= 16:
        return 1.25
    return 2.2 if shape.N == 1 else None


def of_gated(cell: str, torch: Ratios) -> list[Bar]:
    """Return the bars of forward and backward with gates on one thread: torch ÷ minirnn, by shape."""
    shapes = OF_CELLS[cell]
    if cell == "gru":
        return [
            least("≥ 1.1 times as fast as torch.nn.GRU at each", torch, dict.fromkeys(shapes, 1.1)),
            mean("geometric mean against torch.nn.GRU ≥ 2.9", torch, shapes, 2.9),
        ]
    asked = {MIDDLE: 1.2, LONG: 1.25, WIDE: 0.95, WIDER: 1.0, SMALL: 0.75}
    text = ", ".join(f"≥ {wanted:g} at ({shape})" for shape, wanted in asked.items())
    return [
        least(f"torch.nn.LSTM ÷ minirnn {text}", torch, asked),
        mean("geometric mean against torch.nn.LSTM ≥ 1.05", torch, shapes, 1.05),
    ]


def of_threads(cell: str, one: Ratios, torch: Ratios) -> list[Bar]:
    """Return the bars of two threads and more: minirnn's time on one ÷ its time on these, and torch's on these."""
    shapes = OF_CELLS[cell]
    slower = {shape: 1 / ratio for shape, ratio in one.items()}
    asked = [most("no shape slower than on one thread by more than 5 %", slower, dict.fromkeys(shapes, 1.05))]
    if cell == "elman":
        text = "faster than torch.nn.RNN on as many threads at each"
        asked.append(least(text, torch, dict.fromkeys(shapes, 1.0), beyond=True))
    return asked


def of_float64(cell: str, torch: Ratios) -> list[Bar]:
    """Return the bar of float64: torch ÷ minirnn, by shape."""
    if cell != "elman":
        return []
    return [least("float64: no shape below torch.nn.RNN", torch, dict.fromkeys(OF_CELLS[cell], 1.0))]


# --- the other commands -----------------------------------------------------------------------------------------------


def of_forward(torch: Ratios) -> list[Bar]:
    """Return the bar of the forward pass alone: torch.no_grad ÷ minirnn."""
    text = "faster than torch.no_grad on every shape (a tie within 3 % passes at H ≥ 256)"
    asked = {shape: TIE if shape.H >= 256 else 1.0 for shape in OF_CELLS["elman"]}
    return [least(text, torch, asked, beyond=True)]


def of_ragged(layer: str, ratios: Ratios, shapes: Iterable[Shape]) -> list[Bar]:
    """Return the bars of lengths drawn from 1 … T: the time with them ÷ the time of whole rows."""
    shapes = list(shapes)
    large = [shape for shape in shapes if shape.H >= 128]
    return [
        most(f"{layer}: with lengths at most 1.05 of the whole rows' time", ratios, dict.fromkeys(shapes, 1.05)),
        most(f"{layer}: at most 0.65 of it at H ≥ 128", ratios, dict.fromkeys(large, 0.65)),
    ]


def of_slope(slope: float | None) -> Bar:
    """Return the bar of time against T."""
    text = "time against T has slope 1.00 ± 0.05"
    if slope is None:
        return Bar(text, None, "needs all lengths")
    return Bar(text, abs(slope - 1) <= 0.05, f"{slope:.3f}")


def at_least(text: str, ratios: Mapping[str, float], wanted: float) -> Bar:
    """Return the bar that every ratio reaches, by a name of its own."""
    if not ratios:
        return Bar(text, None, "needs this peer, and no --quick")
    figure = ", ".join(f"{ratio:.2f} × {where}".rstrip() for where, ratio in ratios.items())
    return Bar(text, min(ratios.values()) >= wanted, figure)


# --- verdicts ---------------------------------------------------------------------------------------------------------


def least(text: str, ratios: Ratios, asked: Mapping[Shape, float], *, beyond: bool = False) -> Bar:
    """Return the bar that at each shape the ratio is at least what is asked there, or ``beyond`` it."""
    if not asked or not set(asked) <= set(ratios):
        return Bar(text, None, NOT_MEASURED)
    under = [s for s, wanted in asked.items() if not (ratios[s] > wanted if beyond else ratios[s] >= wanted)]
    nearest = min(asked, key=lambda shape: ratios[shape] / asked[shape])
    return Bar(text, not under, _at(ratios, under) if under else f"least {_at(ratios, [nearest])}")


def most(text: str, ratios: Ratios, allowed: Mapping[Shape, float]) -> Bar:
    """Return the bar that at no shape the ratio exceeds what is allowed there."""
    if not allowed or not set(allowed) <= set(ratios):
        return Bar(text, None, NOT_MEASURED)
    over = [shape for shape, limit in allowed.items() if not ratios[shape] <= limit]
    nearest = max(allowed, key=lambda shape: ratios[shape] / allowed[shape])
    return Bar(text, not over, _at(ratios, over) if over else f"most {_at(ratios, [nearest])}")


def mean(text: str, ratios: Ratios, shapes: Iterable[Shape], wanted: float) -> Bar:
    """Return the bar of the geometric mean over some shapes."""
    shapes = list(shapes)
    if not set(shapes) <= set(ratios):
        return Bar(text, None, NOT_MEASURED)
    found = geometric_mean([ratios[shape] for shape in shapes])
    return Bar(text, found >= wanted, f"{found:.3f} ×")


def _at(ratios: Ratios, shapes: Iterable[Shape]) -> str:
    return "; ".join(f"{ratios[shape]:.3f} × at ({shape})" for shape in shapes)


def _named(shapes: Iterable[Shape]) -> str:
    return ", ".join(f"({shape})" for shape in shapes)
