"""CSV files: columns of numbers by their names."""

import codecs
import os
import re
from collections.abc import Iterable
from itertools import islice
from typing import Any

import numpy as np

from minirnn.arguments import Array, describe

MARKS = ",;\t|"
"""What may stand between columns, when it is not said."""


def read_csv(
    path: str | os.PathLike[str],
    columns: Iterable[str] | None = None,
    *,
    delimiter: str | None = None,
    decimal: str = ".",
    encoding: str = "utf-8-sig",
) -> dict[str, Array]:
    """Read a CSV file whose first line names its columns: a dict of arrays (S,) by these names, in their order.

    Parameters
    ----------
    path : str or Path
    columns : iterable of str, optional
        Which of them to read; all if left out.
    delimiter : str, optional
        What stands between columns; if left out, the one of comma, semicolon, tab and | that parts the first two lines
        alike.
    decimal : "." or ","
        What stands before the decimals of a number.
    encoding : str

    Returns
    -------
    dict of str to array (S,)
        float64; str for a column that holds no number at all, such as one of dates. Empty lines do not count, but for
        one within a single column, where a value is missing.

    Raises
    ------
    OSError, TypeError, ValueError
        With line and column of what is no finite number among numbers, of a row with more or fewer fields than names,
        and for a file without rows.
    """
    import csv

    if not isinstance(path, str | os.PathLike):
        raise TypeError(f"read_csv: path must be a str or a Path, got {describe(path)}")
    if decimal not in (".", ","):
        raise ValueError(f"read_csv: decimal must be '.' or ',', got {decimal!r}")
    if delimiter is not None and (not isinstance(delimiter, str) or len(delimiter) != 1):
        raise ValueError(f"read_csv: delimiter must be one character, got {delimiter!r}")
    where = f"read_csv: {os.fspath(path)!r}"
    try:
        codecs.lookup(encoding)
    except LookupError:
        raise ValueError(f"read_csv: encoding must be known to Python, got {encoding!r}: try 'cp1252'") from None
    with open(os.path.expanduser(path), newline="", encoding=encoding) as file:
        try:
            begin = [line for line in islice(file, 99) if line.strip()][:2]
            file.seek(0)
            reader = csv.reader(file, delimiter=delimiter or _delimiter(begin, decimal), strict=True)
            rows = _filled([(reader.line_num, row) for row in reader])
        except (UnicodeDecodeError, csv.Error) as error:
            hint = "if it is text in another encoding, pass encoding=" if isinstance(error, UnicodeError) else ""
            raise ValueError(f"{where} cannot be read as CSV: {error}" + (hint and f": {hint}")) from None
    if len(rows) < 2:
        raise ValueError(f"{where} must have a line of names and rows below it, got {len(rows)} lines")
    (_, names), *rows = rows
    names = [name.strip() for name in names]
    if not names[-1] and all(len(row) == len(names) and not row[-1].strip() for _, row in rows):
        names, rows = names[:-1], [(line, row[:-1]) for line, row in rows]  # a delimiter at the end of each line
    _check_names(names, rows[0][1], where)
    other = next((mark for mark in MARKS if all(mark in row[-1] for _, row in rows)), "")
    if len(names) == 1 and other and delimiter is None and decimal != other:
        raise ValueError(
            f"{where}, line {rows[0][0]}: must have one field, as line 1 names one column, got {rows[0][1][0]!r}: is "
            f"line 1 none of names? Else pass delimiter={other!r}"
        )
    for line, row in rows:
        if len(row) != len(names):
            raise ValueError(
                f"{where}, line {line}: must have {len(names)} fields, as the line of names, got {len(row)}: is there "
                "a delimiter too many, or a decimal comma?"
            )
    wanted = list(names) if columns is None else _wanted(columns, names, where)
    lines = [line for line, _ in rows]
    return {name: _column([row[names.index(name)] for _, row in rows], lines, name, decimal, where) for name in wanted}


def _delimiter(begin: list[str], decimal: str) -> str:
    """Find what stands between columns: as often in the first line as in the second, or else the most in the first."""
    marks = MARKS if decimal == "." else MARKS[1:] + MARKS[0]
    first, second = (["".join(line.split('"')[::2]) for line in begin] * 2)[:2] if begin else ("", "")
    alike = [mark for mark in marks if first.count(mark) == second.count(mark) > 0]
    return max(alike or marks, key=first.count)


def _filled(rows: list[tuple[int, list[str]]]) -> list[tuple[int, list[str]]]:
    """Leave empty lines out; within a single column they lack a value, and stay."""
    rows = [(line, row or [""]) for line, row in rows]
    lacking = [not any(map(str.strip, row)) for _, row in rows]
    full = [k for k, lacks in enumerate(lacking) if not lacks] or [0]
    single = len(rows[full[0]][1]) == 1 if rows else False
    return [of for of in rows[full[0] : full[-1] + 1] if single or of[1] != [""]]


def _check_names(names: list[str], below: list[str], where: str) -> None:
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"{where}, line 1: each column must have a name of its own, got {twice!r} twice")

    def is_value(name: str, field: str) -> bool:
        shape, other = (re.sub(r"\d", "0", text) for text in (name, field))  # such as that of a date
        return any(_number(name, mark) is not None for mark in ".,") or (shape == other.strip() and "0" in shape)

    if all(map(is_value, names, below)):
        raise ValueError(
            f"{where}, line 1: must name the columns, got numbers, {', '.join(names)}: add a line of names"
        )


def _wanted(columns: Any, names: list[str], where: str) -> list[str]:
    wanted = [columns] if isinstance(columns, str) else list(columns)
    for name in wanted:
        if name not in names:
            raise ValueError(f"{where} has no column {name!r}: it has {', '.join(map(repr, names))}")
    return wanted


def _number(text: str, decimal: str) -> float | None:
    """Read one number; None if it is none, NaN and inf among them."""
    try:
        value = float(text if decimal == "." else text.replace(".", "x").replace(",", "."))
    except ValueError:
        return None
    return value if np.isfinite(value) and "_" not in text else None


def _column(fields: list[str], lines: list[int], name: str, decimal: str, where: str) -> Array:
    values = [_number(field, decimal) for field in fields]
    bad = next((k for k, value in enumerate(values) if value is None), None)
    if bad is None:
        return np.array(values, float)
    hints = {_hint(field, decimal) for field, value in zip(fields, values, strict=True) if value is None}
    if all(value is None for value in values) and "correct it" in hints and not any(map(_is_lack, fields)):
        return np.array(fields)
    got = repr(fields[bad]) if fields[bad].strip() else "nothing"
    at, hint = f"{where}, line {lines[bad]}, column {name!r}", _hint(fields[bad], decimal)
    raise ValueError(f"{at}: must be a finite number, got {got}: {hint}")


def _hint(field: str, decimal: str) -> str:
    """Say what to do about what is no number."""
    if _is_lack(field):
        return "leave the row out, or fill it in"
    other, mark, way = (",", "comma", 'try decimal=","') if decimal == "." else (".", "point", 'leave decimal="," out')
    swapped = _number(field, other) is not None
    if _THOUSANDS.fullmatch(field.strip()):
        return "take out what parts its thousands" + f", or, if it is a decimal {mark}, {way}" * swapped
    return f"is it a decimal {mark}? {way}" if swapped else "correct it"


_THOUSANDS = re.compile(r"[+-]?\d{1,3}([.,'’\s])\d{3}(\1\d{3})*([.,]\d+)?")


def _is_lack(field: str) -> bool:
    return field.strip().lower() in ("", "nan", "na", "n/a", "null", "none", "inf", "-inf")
