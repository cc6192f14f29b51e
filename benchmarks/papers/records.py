"""The results of a paper's experiments as a CSV file: written after every job, and read again to go on."""

import csv
import io
from pathlib import Path

from benchmarks.papers.base import Result, Results
from minirnn.storage import write_whole

HEADER = ["setting", "seed", "figure", "value", "seconds"]


def write(path: Path, results: Results) -> None:
    """Write a line for each figure of each result; a file that was there stays whole until the new one is."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(HEADER)
    for r in results:
        table.writerows([r.setting, r.seed, name, repr(value), f"{r.seconds:.3f}"] for name, value in r.figures.items())
    write_whole(path, text.getvalue().encode(), "papers")


def read(path: Path) -> Results:
    """Read what `write` wrote.

    Raises
    ------
    ValueError
        For a file that is none of these, saying what to do.
    """
    found: dict[tuple[str, int], Result] = {}
    try:
        with open(path, encoding="utf-8", newline="") as file:
            lines = list(csv.reader(file))
        if lines[:1] != [HEADER]:
            raise ValueError("its first line is another")
        for setting, seed, figure, value, seconds in lines[1:]:
            key = (setting, int(seed))
            result = found.setdefault(key, Result(*key, {}, float(seconds)))
            result.figures[figure] = float(value)
    except ValueError as error:
        expected = f"papers: expected results that an earlier run wrote in {str(path)!r}, got something else ({error})"
        raise ValueError(f"{expected}: move it away, or choose another directory") from None
    return Results(found.values())
