import json

import pytest
from error_texts import raises

from minirnn.bench import cells, rows
from minirnn.bench.cells import Shape
from minirnn.bench.rows import Row

SHAPE = Shape(2, 3, 4, 5)
ROWS = [
    Row("ladder", "fused", "forward", SHAPE, "s", [[1e-3, 2e-3, 3e-3]]),
    Row("memory", "remat=True", "peak", SHAPE, "bytes", [[4096]], "lstm"),
]
MACHINE = {"CPU": "a µ-processor", "date": "2026-01-01"}


def test_flops_are_those_of_the_products():
    N, T, D, H = 2, 3, 5, 7
    x_side, h_side = N * D * H, N * H * H  # multiplications of X·W_xh and H·W_hh in one step
    assert Shape(N, T, D, H).flops() == 2 * T * (x_side + h_side)
    assert Shape(N, T, D, H).flops(gates=4) == 4 * 2 * T * (x_side + h_side)


# --- numbers as text --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("write", "written"),
    [
        (
            cells.three_digits,
            {1.234: "1.23", 9.994: "9.99", 9.996: "10.0", 99.94: "99.9", 99.96: "100", 12345.6: "12,346"},
        ),
        (
            cells.bytes_text,
            {0: "0.00 B", 999: "999 B", 1000: "1.00 kB", 999_400: "999 kB", 999_600: "1.00 MB", 3e18: "3,000 PB"},
        ),
        (
            cells.seconds_text,
            {1.5e-7: "0.15 µs", 9.994e-4: "999 µs", 9.996e-4: "1.00 ms", 0.1: "100 ms", 0.9996: "1.00 s", 75: "75.0 s"},
        ),
    ],
)
def test_numbers_as_text(write, written):
    assert {number: write(number) for number in written} == written


def test_a_row_as_text():
    assert (ROWS[0].median, ROWS[0].plus_minus) == ("2.00 ms", "±25%")  # the quartiles are 1.5 and 2.5
    assert ROWS[1].median == "4.10 kB"


# --- files ------------------------------------------------------------------------------------------------------------


def test_what_is_saved_is_what_is_loaded(tmp_path):
    path = tmp_path / "times.json"
    rows.save(path, MACHINE, ROWS)
    assert rows.load(path) == (MACHINE, ROWS)
    written = json.loads(path.read_text("utf-8"))
    assert written["rows"][0]["shape"] == {"N": 2, "T": 3, "D": 4, "H": 5}
    assert written["rows"][0]["quartiles"] == [1.5e-3, 2e-3, 2.5e-3]
    assert [row["cell"] for row in written["rows"]] == ["elman", "lstm"]
    del written["rows"][0]["cell"]  # a file from when there was one layer
    path.write_text(json.dumps(written), "utf-8")
    assert rows.load(path) == (MACHINE, ROWS)


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (None, "no such file or directory"),
        (b"\xff\xfe", "its content is something else"),
        (b"time: 3", "its content is something else"),
        (b"[1, 2]", "its content is something else"),
        (b'{"rows": []}', "its content is something else"),
        (b'{"format": "minirnn bench 0"}', "its format is 'minirnn bench 0', not 'minirnn bench 1'"),
        (b'{"format": "minirnn bench 1", "machine": {}, "rows": [{}]}', "its content is something else"),
        (
            b'{"format": "minirnn bench 1", "machine": {}, "rows": [{"shape": {}, "values": [[0]], "quartiles": []}]}',
            "its content is something else",
        ),
    ],
)
def test_another_file_is_refused(tmp_path, content, fault):
    path = tmp_path / "other.json"
    if content is not None:
        path.write_bytes(content)
    expected = f"--compare: expected a file that minirnn bench wrote, got {str(path)!r}: {fault}"
    with raises(ValueError, f"{expected}: try minirnn bench --json FILE first"):
        rows.load(path)


# --- now and then -----------------------------------------------------------------------------------------------------


def test_a_comparison_has_both_medians_and_their_ratio():
    new = [ROWS[0]._replace(values=[[1e-3, 1e-3]]), ROWS[1], ROWS[0]._replace(what="backward")]
    assert rows.comparison(ROWS, new).splitlines() == [
        "| ladder  |                |     old |     new | ratio |",
        "| ------- | -------------: | ------: | ------: | ----: |",
        "| 2,3,4,5 | fused, forward | 2.00 ms | 1.00 ms |  0.50 |",
        "",
        "| memory  |                  |     old |     new | ratio |",
        "| ------- | ---------------: | ------: | ------: | ----: |",
        "| 2,3,4,5 | remat=True, peak | 4.10 kB | 4.10 kB |  1.00 |",
        "",
        "1 measurements are in one of the two only.",
    ]
    for other in (ROWS[0]._replace(shape=Shape(1, 1, 1, 1)), ROWS[0]._replace(cell="gru")):
        assert rows.comparison(ROWS, [other]).startswith("The old file and this run have no measurement in common")


def test_machines_differ_in_what_changes_times_not_in_the_day_or_in_minirnn():
    old = {"CPU": "a", "numpy": "2.0", "date": "1", "load": "0.1", "minirnn": "1", "layer": "LSTMLayer"}
    new = {"CPU": "b", "numpy": "2.0", "date": "2", "minirnn": "2", "dtype": "float64"}
    assert rows.differences(old, new) == ["CPU: a → b", "dtype: None → float64"]
