"""CSV files: what is read, and where what cannot be read stands."""

import numpy as np
import pytest
from error_texts import raises

from minirnn.data import read_csv


@pytest.fixture
def written(tmp_path):
    def write(text, encoding="utf-8"):
        (tmp_path / "data.csv").write_text(text, encoding=encoding)
        return tmp_path / "data.csv"

    return write


READ = [
    (
        "date,value\n2020-01-01,1.5\n2020-01-02,-2e3\n",
        {},
        {"date": ["2020-01-01", "2020-01-02"], "value": [1.5, -2000]},
    ),
    ("date;value\n1.1.;1000,5\n2.1.;2\n", {"decimal": ","}, {"date": ["1.1.", "2.1."], "value": [1000.5, 2]}),
    ('\ufeff"a, b"\tc\n\n1\t2\n', {}, {"a, b": [1], "c": [2]}),
    ("a,b,c\n1,2,3\n", {"columns": ["c", "a"]}, {"c": [3], "a": [1]}),
    ("a b\n1 2\n", {"delimiter": " "}, {"a": [1], "b": [2]}),
    ("t,x\n1,x\n", {"columns": "t"}, {"t": [1]}),
    ('"T, °C";p\r\n1.5;2\r\n;\r\n\r\n', {}, {"T, °C": [1.5], "p": [2]}),  # what spreadsheets leave at the end
    ("T, C;p\n1,5;2\n3;4\n", {"decimal": ","}, {"T, C": [1.5, 3], "p": [2, 4]}),
    ("\n\na;b\n1;2\n", {}, {"a": [1], "b": [2]}),
    ("a\n1,5\n2\n\n", {"decimal": ","}, {"a": [1.5, 2]}),
    ("a,b,\n1,2,\n", {}, {"a": [1], "b": [2]}),
    ("land,2019\nA1,1\n", {}, {"land": ["A1"], "2019": [1]}),
]


@pytest.mark.parametrize(("text", "settings", "expected"), READ)
def test_what_is_read(written, text, settings, expected):
    columns = read_csv(written(text), **settings)
    assert list(columns) == list(expected)
    assert {name: column.tolist() for name, column in columns.items()} == expected
    assert all(column.dtype in (np.float64, column.astype(str).dtype) for column in columns.values())


REFUSED = [
    ("a,b\n1,2\n3,\n",
     ", line 3, column 'b': must be a finite number, got nothing: leave the row out, or fill it in"),
    ("a,b\n\n1,2\n3,NaN\n",
     ", line 4, column 'b': must be a finite number, got 'NaN': leave the row out, or fill it in"),
    ("a,b\n1,2\n3,x\n",
     ", line 3, column 'b': must be a finite number, got 'x': correct it"),
    ("a;b\n1;2\n3;4,5\n",
     ", line 3, column 'b': must be a finite number, got '4,5': is it a decimal comma? try decimal=\",\""),
    ("a;b\n1;2,5\n",
     ", line 2, column 'b': must be a finite number, got '2,5': is it a decimal comma? try decimal=\",\""),
    ("a,b\n1,2\n3,4,5\n",
     ", line 3: must have 2 fields, as the line of names, got 3: is there a delimiter too many, or a "
     "decimal comma?"),
    ("a,b\n", " must have a line of names and rows below it, got 1 lines"),
    ("", " must have a line of names and rows below it, got 0 lines"),
    ("1,2\n3,4\n", ", line 1: must name the columns, got numbers, 1, 2: add a line of names"),
    ("2020-01-01;2,5\n2020-01-02;3\n",
     ", line 1: must name the columns, got numbers, 2020-01-01, 2,5: add a line of names"),
    ("a\n1\n\n3\n", ", line 3, column 'a': must be a finite number, got nothing: leave the row out, or fill it in"),
    ("a;b\n1.000;2\n1.234.567;3\n",
     ", line 3, column 'a': must be a finite number, got '1.234.567': take out what parts its thousands"),
    ("a;b\n1,234;2\n",
     ", line 2, column 'a': must be a finite number, got '1,234': take out what parts its thousands, or, if it is a "
     'decimal comma, try decimal=","'),
    ("made by hand\na;b\n1;2\n",
     ", line 2: must have one field, as line 1 names one column, got 'a;b': is line 1 none of names? Else pass "
     "delimiter=';'"),
    ("a,a\n1,2\n", ", line 1: each column must have a name of its own, got 'a' twice"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "message"), REFUSED)
def test_where_it_is_wrong(written, text, message):
    path = written(text)
    with raises(ValueError, f"read_csv: {str(path)!r}{message}"):
        read_csv(path)


def test_other_encodings_names_and_paths(written):
    path = written("größe,b\n1,2\n", "cp1252")
    with pytest.raises(
        ValueError, match=r"cannot be read as CSV: .*: if it is text in another encoding, pass encoding="
    ):
        read_csv(path)
    assert list(read_csv(path, encoding="cp1252")) == ["größe", "b"]
    with raises(ValueError, f"read_csv: {str(path)!r} has no column 'c': it has 'größe', 'b'"):
        read_csv(path, ["c"], encoding="cp1252")
    with pytest.raises(FileNotFoundError):
        read_csv(path.with_name("none.csv"))
    with raises(ValueError, "read_csv: encoding must be known to Python, got 'cp99': try 'cp1252'"):
        read_csv(path, encoding="cp99")
    with raises(ValueError, "read_csv: delimiter must be one character, got ';;'"):
        read_csv(path, delimiter=";;")
