"""A row is what was measured of one contestant at one shape; all that `minirnn bench` shows comes from rows."""

import json
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from minirnn.bench.cells import KINDS, Kind, Shape, bytes_text, seconds_text
from minirnn.bench.measure import Spread, Times, markdown, spread, take_turns, write_json
from minirnn.layers.threads import set_num_threads

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
        """The kind of layer."""
        return KINDS[self.cell]


class Row(NamedTuple):
    """One measurement."""

    section: str  # "ladder", "grid", "step", "scaling" or "memory"
    contestant: str
    what: str  # the pass: "forward", "backward", "both ways", "update", …
    shape: Shape
    unit: str  # "s", "bytes", or "" for a count
    values: Times  # what every turn of every run gave
    cell: str = "elman"  # a name of `KINDS`

    @property
    def key(self) -> tuple[Any, ...]:
        """What makes this row the same as a row of another day."""
        return (*self[:5], self.cell)

    @property
    def spread(self) -> Spread:
        """The quartiles."""
        return spread(self.values)

    @property
    def median(self) -> str:
        """The median with its unit."""
        return {"s": seconds_text, "bytes": bytes_text, "": "{:,.0f}".format}[self.unit](self.spread.median)

    @property
    def plus_minus(self) -> str:
        """Half the distance between the quartiles, as a part of the median."""
        low, median, high = self.spread
        return f"±{50 * (high - low) / median:.0f}%"


class Contestant(NamedTuple):
    """Something to be timed."""

    name: str
    what: str
    run: Callable[[], Any]
    shape: Shape
    threads: int = 1


def time_in_turns(
    section: str, contestants: Sequence[Contestant], settings: Settings, seconds: float, warm: float = 0.0
) -> list[Row]:
    """Time contestants in turns, each on its own number of threads, for about so many ``seconds``.

    Before each turn a contestant may run untimed, ``warm`` seconds and once at least: a large one leaves caches empty,
    and the next would pay for that.
    """

    def before(contestant: Contestant) -> None:
        set_num_threads(contestant.threads)
        end = time.perf_counter() + warm
        while warm:
            contestant.run()
            if time.perf_counter() > end:
                break

    runs = {contestant: contestant.run for contestant in contestants}
    if settings.turns:
        times = take_turns(runs, turns=settings.turns, runs=1, warm_up=1, before=before)
    else:
        times = take_turns(runs, turns=100, runs=1, warm_up=2, seconds=seconds, before=before)
    return [Row(section, c.name, c.what, c.shape, "s", own, settings.cell) for c, own in times.items()]


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
        named = [{name: row[name] for name in Row._fields if name in row} for row in content["rows"]]
        return dict(content["machine"]), [Row(**{**row, "shape": Shape(**row["shape"])}) for row in named]
    except OSError as error:
        fault = (error.strerror or str(error)).lower()
    except (KeyError, TypeError, AttributeError, UnicodeDecodeError, json.JSONDecodeError):
        fault = "its content is something else"
    except ValueError as error:
        fault = str(error)
    raise ValueError(
        f"--compare: expected a file that minirnn bench wrote, got {str(path)!r}: {fault}: try minirnn bench --json "
        "FILE first"
    )


# --- now and then -----------------------------------------------------------------------------------------------------


def comparison(old: Sequence[Row], new: Sequence[Row]) -> str:
    """Hold two runs against each other: a table for each section, with the medians of the rows that both have."""
    before, tables = {row.key: row for row in old}, dict[str, list[Sequence[str]]]()
    for row in new:
        if row.key in before:
            then = before[row.key]
            ratio = f"{row.spread.median / then.spread.median:.2f}"
            line = (str(row.shape), f"{row.contestant}, {row.what}", then.median, row.median, ratio)
            tables.setdefault(row.section, []).append(line)
    if not tables:
        return "The old file and this run have no measurement in common: the same cell, sections and shapes?"
    parts = [markdown((section, "", "old", "new", "ratio"), lines) for section, lines in tables.items()]
    if others := len(old) + len(new) - 2 * sum(map(len, tables.values())):
        parts.append(f"{others} measurements are in one of the two only.")
    return "\n\n".join(parts)


def differences(old: Mapping[str, str], new: Mapping[str, str]) -> list[str]:
    """Say what of two machines is not the same; rows of another layer are other rows anyway."""
    names = [name for name in {**old, **new} if name not in ("date", "load", "minirnn", "layer")]
    return [f"{name}: {old.get(name)} → {new.get(name)}" for name in names if old.get(name) != new.get(name)]
