"""``ragged``: rows of unequal lengths against the same mini-batch padded, forward and backward, equal results first.

    python -m benchmarks ragged [--cell lstm] [--peers torch] [--quick]

The lengths are uniform in 1 … T. There are several draws, and a call takes the next one, so that nothing of one can be
kept for the following; x stays the same. Every other draw mirrors the one before, l → T + 1 − l, so that together they
have the sum that is to be expected, whatever the seed. torch has its pack_padded_sequence and pad_packed_sequence in
the time.
"""

import argparse
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from benchmarks import bars, contestants, tables
from benchmarks.cases import Case, Contestant, Input, Shape, compare, draw, expected, results_of
from benchmarks.roster import CELLS, MINIRNN, TORCH
from benchmarks.rounds import Measured, Plan, Run, alternate, rest
from minirnn.bench import measure
from minirnn.bench.cells import KINDS

SHAPES = (Shape(32, 50, 10, 20), Shape(32, 100, 64, 128), Shape(64, 100, 128, 256))
DRAWS = 6
CHECKED = 3  # rows that are held against the textbook, each alone
SECONDS = 8.0  # for each layer and shape, about

PADDED, LENGTHS = "padded", "with lengths"  # each who is measured both ways


class Found(NamedTuple):
    """What was measured of a layer at a shape.

    Attributes
    ----------
    measured : of (who, whether padded), in seconds for a call with each draw
    part : the sum of all lengths, as a part of N·T
    """

    measured: Measured
    part: float


def run(options: argparse.Namespace, say: Callable[[str], None]) -> dict[str, Any]:
    """Measure, print as it goes, and return what goes into the JSON file."""
    plan = Plan(0.5 if options.quick else SECONDS, options.runs, options.turns, fewest=2, rest=rest(options.threads))
    shapes = [Shape(*sizes) for sizes in options.shape or SHAPES]
    names = [MINIRNN, *(peer.name for peer in options.peers)]
    results: dict[str, dict[Shape, Found]] = {}
    for cell in [options.cell] if options.cell else CELLS:
        results[cell] = {}
        for shape in shapes:
            case, draws = prepared(shape, cell)
            runs = ready(case, draws, names, options.threads)
            results[cell][shape] = Found(Measured([alternate(runs, plan)]), float(np.mean(draws)) / shape.T)
        say(f"\n{KINDS[cell].layer.__name__}, forward and backward with all gradients, float32, results equal:\n")
        say(table(results[cell], names, cell))
    demands = [
        bar
        for cell, found in results.items()
        for bar in bars.of_ragged(
            KINDS[cell].layer.__name__, {shape: ratio(one, MINIRNN).median for shape, one in found.items()}, SHAPES
        )
    ]
    say("\n" + bars.lines(demands))
    measured = [_entry(cell, shape, found) for cell, own in results.items() for shape, found in own.items()]
    return {"draws of lengths": DRAWS, "measured": measured, "bars": [bar._asdict() for bar in demands]}


# --- what is timed ----------------------------------------------------------------------------------------------------


def prepared(shape: Shape, cell: str) -> tuple[Case, list[Any]]:
    """Return a case and the draws of lengths (N,). Input 0 is timed; 1 is checked, its gradient in a few rows only."""
    case = draw(shape, cell)
    timed = case.inputs[0]
    g = timed.g.copy()
    g[:, CHECKED:] = 0.0
    rng = np.random.default_rng(shape.T)
    drawn = [rng.integers(1, shape.T, size=shape.N, endpoint=True) for _ in range(DRAWS // 2)]
    draws = [lengths for one in drawn for lengths in (one, shape.T + 1 - one)]
    return case._replace(inputs=(timed, timed._replace(g=g))), draws


def ready(case: Case, draws: Sequence[Any], names: Sequence[str], threads: int) -> dict[str, Run]:
    """Return what is timed, padded and with lengths, once its results are right: a call for each of the draws."""
    runs: dict[str, Run] = {}
    wanted = [rows_alone(case, lengths) for lengths in draws]
    whole = rows_alone(case, np.full(case.shape.N, case.shape.T))
    for name in names:
        contestant = contestants.MAKE[name](case, threads)
        own = [in_its_own_kind(name, lengths) for lengths in draws]
        check(f"{name}, {PADDED}", contestant, None, whole, case)
        for lengths, truth in zip(own, wanted, strict=True):
            check(f"{name}, {LENGTHS}", contestant, lengths, truth, case)
        runs[f"{name}, {PADDED}"] = _each(contestant, [None] * len(draws))
        runs[f"{name}, {LENGTHS}"] = _each(contestant, own)
    return runs


def in_its_own_kind(name: str, lengths: Any) -> Any:
    """Return lengths as a contestant takes them."""
    if name != TORCH.name:
        return lengths
    import torch

    return torch.tensor(lengths)


def _each(contestant: Contestant, draws: Sequence[Any]) -> Run:
    def run(i: int) -> None:
        for lengths in draws:
            contestant.run(0, lengths)

    return run


# --- equal results ----------------------------------------------------------------------------------------------------


def rows_alone(case: Case, lengths: Any) -> list[Any]:
    """Return the textbook's results for the rows that are checked, each run alone over its length.

    Outputs (T, rows, H) and the gradient of x are 0 from a row's end on; those of the weights are summed over the rows.
    """
    x, state, g = case.inputs[1]
    rows = [slice(n, n + 1) for n in range(min(CHECKED, case.shape.N))]
    alone = [Input(x[:T, row], tuple(s[row] for s in state), g[:T, row]) for row, T in zip(rows, lengths, strict=False)]
    outputs, d_x, *others = zip(*expected(case._replace(inputs=alone)), strict=True)
    S = len(state)
    padded = [np.concatenate([_to(case.shape.T, array) for array in arrays], axis=1) for arrays in (outputs, d_x)]
    return [*padded, *map(np.concatenate, others[:S]), *(np.sum(arrays, axis=0) for arrays in others[S:])]


def _to(T: int, array: Any) -> Any:
    return np.pad(array, ((0, T - len(array)), (0, 0), (0, 0)))


def check(label: str, contestant: Contestant, lengths: Any, truth: Sequence[Any], case: Case) -> None:
    """Refuse a contestant whose rows are not what they are alone."""
    outputs, d_x, *others = contestant.read(contestant.run(1, lengths))
    S, rows = len(case.inputs[1].state), slice(None, CHECKED)
    got = [outputs[:, rows], d_x[:, rows], *(d[rows] for d in others[:S]), *others[S:]]
    compare(label, got, truth, results_of(case.cell))


# --- what is shown ----------------------------------------------------------------------------------------------------


def ratio(found: Found, name: str) -> measure.Spread:
    """Return the time with lengths ÷ the padded time."""
    return found.measured.ratio(f"{name}, {LENGTHS}", f"{name}, {PADDED}")


def table(results: Mapping[Shape, Found], names: Sequence[str], cell: str) -> str:
    """Return one row a shape: how much of N·T is no padding, and each contestant's times and their ratio."""
    header = ["N, T, D, H", "Σ lengths ÷ N·T", "minirnn, padded, ms", "with lengths, ms", "ratio", "quartiles"]
    if TORCH.name in names:
        header += [f"{CELLS[cell]}, padded, ms", "packed, ms", "ratio", "packed ÷ minirnn with lengths"]
    rows = []
    for shape, found in results.items():
        cells = [str(shape), f"{found.part:.2f}"]
        for name in names:
            cells += [tables.number(1e3 * seconds(found, f"{name}, {how}")) for how in (PADDED, LENGTHS)]
            low, median, high = ratio(found, name)
            cells.append(f"{median:.2f}")
            if name == MINIRNN:
                cells.append(f"{low:.2f} … {high:.2f}")
            else:
                both = found.measured.ratio(f"{name}, {LENGTHS}", f"{MINIRNN}, {LENGTHS}")
                cells.append(f"{both.median:.2f}")
        rows.append(cells)
    return measure.markdown(header, rows)


def seconds(found: Found, key: str) -> float:
    """Return the median seconds of one call."""
    return found.measured.spread(key).median / DRAWS


def _entry(cell: str, shape: Shape, found: Found) -> dict[str, Any]:
    return {
        "cell": cell,
        **shape._asdict(),
        "sum of lengths / (N T)": found.part,
        "median seconds a call": {key: seconds(found, key) for key in found.measured.names()},
        "seconds for a call with each draw, by run and turn": found.measured.alternations,
    }
