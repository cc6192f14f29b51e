import math

import pytest
from error_texts import raises

from benchmarks.papers import records
from benchmarks.papers.base import Result, Results


def test_what_is_written_is_read_again(tmp_path):
    path = tmp_path / "out.csv"
    results = Results(
        [
            Result("adding, T = 10", 0, {"samples": math.inf, "mse": 0.1 + 0.2}, 1.5),
            Result("Ω", 3, {"wrong": 0.0}, 0.25),
        ]
    )
    records.write(path, results)
    assert records.read(path) == results
    assert path.read_text(encoding="utf-8").splitlines()[0] == "setting,seed,figure,value,seconds"


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", "its first line is another"),
        ("a,b\n1,2\n", "its first line is another"),
        ("setting,seed,figure,value,seconds\nx,zero,y,1,2\n", "invalid literal for int() with base 10: 'zero'"),
    ],
)
def test_another_file_is_refused(tmp_path, text, fault):
    path = tmp_path / "out.csv"
    path.write_text(text, encoding="utf-8")
    expected = f"papers: expected results that an earlier run wrote in {str(path)!r}, got something else ({fault})"
    with raises(ValueError, f"{expected}: move it away, or choose another directory"):
        records.read(path)
