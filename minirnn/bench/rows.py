"""A row is what was measured of one contestant at one shape; all that `minirnn bench` shows comes from rows."""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from minirnn.bench.cells import KINDS, Kind
from minirnn.bench.measure import Spread, Times, markdown, spread, write_json
from minirnn.bench.shapes import Shape, bytes_text, three_digits

FORMAT = "minirnn bench 1"
BOTH_WAYS = "both ways"  # the pass that goes forward and back


class Settings(NamedTuple):
    """How a section is to be measured."""

    dtype: str = "float32"  # or "float64"
    threads: int = 1  # over which the layer may split the mini-batch
    turns: int | None = None  # how often each contestant is timed; None: as often as its share of the time allows
    cell: str = "elman"  # a name of `KINDS`

    @property
    def kind(self) -> Kind:
        """Return the kind of layer."""
        return KINDS[self.cell]

    def turns_within(self, seconds: float) -> dict[str, Any]:
        """Return the arguments of `take_turns`: so many turns, or as many as fit into ``seconds``."""
        if self.turns:
            return {"turns": self.turns, "runs": 1, "warm_up": 1}
        return {"turns": 100, "runs": 1, "warm_up": 2, "seconds": seconds}


class Row(NamedTuple):
    """One measurement."""

    section: str  # "ladder", "grid", "scaling" or "memory"
    contestant: str
    what: str  # the pass: "forward", "backward", "both ways", "update", …
    shape: Shape
    unit: str  # "s" or "bytes"
    values: Times  # what every turn of every run gave
    cell: str = "elman"  # a name of `KINDS`

    @property
    def key(self) -> tuple[Any, ...]:
        """Return what makes this row the same as a row of another day."""
        return (*self[:5], self.cell)

    @property
    def spread(self) -> Spread:
        """Return the quartiles."""
        return spread(self.values)


def find(rows: Iterable[Row], **wanted: Any) -> Row | None:
    """Return the first row with these fields, or None."""
    return next((row for row in rows if all(getattr(row, name) == value for name, value in wanted.items())), None)


def text(row: Row) -> str:
    """Return the median and, of times, the spread."""
    median = row.spread.median
    return bytes_text(median) if row.unit == "bytes" else f"{seconds_text(median)} {plus_minus(row)}"


def plus_minus(row: Row) -> str:
    """Return half the distance between the quartiles, as a part of the median."""
    low, median, high = row.spread
    return f"±{50 * (high - low) / median:.0f}%"


def seconds_text(seconds: float) -> str:
    """Return a time as text: 1.23 µs, 12.3 ms, 1.23 s."""
    factor, unit = (1e6, "µs") if seconds < 999.5e-6 else (1e3, "ms") if seconds < 0.9995 else (1, "s")
    return f"{three_digits(factor * seconds)} {unit}"


# --- files ------------------------------------------------------------------------------------------------------------


def save(path: Path, machine: Mapping[str, str], rows: Iterable[Row]) -> None:
    """Write rows as JSON, every value and the quartiles."""
    written = [row._asdict() | {"shape": row.shape._asdict(), "quartiles": row.spread} for row in rows]
    write_json(path, {"format": FORMAT, "machine": dict(machine), "rows": written})


def load(path: Path) -> tuple[dict[str, str], list[Row]]:
    """Read what `save` wrote: the machine and the rows; ValueError for any other file."""
    try:
        content = json.loads(path.read_text("utf-8"))
        if content["format"] != FORMAT:
            raise ValueError(f"its format is {content['format']!r}, not {FORMAT!r}")
        rows = [_row(**{name: value for name, value in row.items() if name != "quartiles"}) for row in content["rows"]]
        return dict(content["machine"]), rows
    except OSError as error:
        fault = (error.strerror or str(error)).lower()
    except json.JSONDecodeError as error:
        fault = f"it is not JSON ({error})"
    except UnicodeDecodeError:
        fault = "it is not text"
    except (KeyError, TypeError, AttributeError):
        fault = "its content is something else"
    except ValueError as error:
        fault = str(error)
    raise ValueError(
        f"--compare: expected a file that minirnn bench wrote, got {str(path)!r}: {fault}: try minirnn bench --json "
        "FILE first"
    )


def _row(shape: Mapping[str, int], values: Times, **names: str) -> Row:
    if not values or not all(run and all(math.isfinite(value) and value > 0 for value in run) for run in values):
        raise ValueError("a row of it holds no times or bytes")
    return Row(**names, shape=Shape(**shape), values=values)


# --- now and then -----------------------------------------------------------------------------------------------------


def comparison(old: Sequence[Row], new: Sequence[Row]) -> str:
    """Return a table for each section: of every row that both have the medians, and new / old."""
    before = {row.key: row for row in old}
    both = [(before[row.key], row) for row in new if row.key in before]
    if not both:
        return "The old file and this run have no measurement in common: the same cell, sections and shapes?"
    tables = [_side_by_side(section, both) for section in dict.fromkeys(row.section for _, row in both)]
    if others := len(old) + len(new) - 2 * len(both):
        tables.append(f"{others} measurements are in one of the two only.")
    return "\n\n".join(tables)


def _side_by_side(section: str, pairs: Sequence[tuple[Row, Row]]) -> str:
    lines = []
    for old, new in pairs:
        if new.section == section:
            show = bytes_text if new.unit == "bytes" else seconds_text
            a, b = old.spread.median, new.spread.median
            lines.append((str(new.shape), f"{new.contestant}, {new.what}", show(a), show(b), f"{b / a:.2f}"))
    return markdown((section, "", "old", "new", "ratio"), lines)


def differences(old: Mapping[str, str], new: Mapping[str, str]) -> list[str]:
    """Return what of two machines is not the same, in words; rows of another layer are other rows anyway."""
    names = [name for name in {**old, **new} if name not in ("date", "load", "minirnn", "layer")]
    return [f"{name}: {old.get(name)} → {new.get(name)}" for name in names if old.get(name) != new.get(name)]
