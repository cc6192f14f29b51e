import json

import pytest
from error_texts import raises

from minirnn.bench import rows
from minirnn.bench.rows import Row, Settings
from minirnn.bench.shapes import Shape

SHAPE = Shape(2, 3, 4, 5)
ROWS = [
    Row("ladder", "fused", "forward", SHAPE, "s", [[1e-3, 2e-3, 3e-3]]),
    Row("memory", "remat=True", "peak", SHAPE, "bytes", [[4096]], "lstm"),
]
MACHINE = {"CPU": "a µ-processor", "date": "2026-01-01"}


def test_turns_are_those_asked_for_or_as_many_as_fit():
    assert Settings(turns=7).turns_within(3.0) == {"turns": 7, "runs": 1, "warm_up": 1}
    assert Settings().turns_within(3.0)["seconds"] == 3.0


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (1.5e-7, "0.15 µs"),
        (9.994e-4, "999 µs"),
        (9.996e-4, "1.00 ms"),
        (0.1, "100 ms"),
        (0.9996, "1.00 s"),
        (75, "75.0 s"),
    ],
)
def test_seconds(seconds, text):
    assert rows.seconds_text(seconds) == text


def test_a_row_as_text():
    assert rows.text(ROWS[0]) == "2.00 ms ±25%"  # the quartiles are 1.5 and 2.5
    assert rows.text(ROWS[1]) == "4.10 kB"


def test_find():
    assert rows.find(ROWS, contestant="remat=True", what="peak") is ROWS[1]
    assert rows.find(ROWS, contestant="fused", what="peak") is None


# --- files ------------------------------------------------------------------------------------------------------------


def test_what_is_saved_is_what_is_loaded(tmp_path):
    path = tmp_path / "times.json"
    rows.save(path, MACHINE, ROWS)
    assert rows.load(path) == (MACHINE, ROWS)
    written = json.loads(path.read_text("utf-8"))
    assert written["rows"][0]["shape"] == {"N": 2, "T": 3, "D": 4, "H": 5}
    assert written["rows"][0]["quartiles"] == [1.5e-3, 2e-3, 2.5e-3]
    assert [row["cell"] for row in written["rows"]] == ["elman", "lstm"]


def test_a_file_from_when_there_was_one_layer(tmp_path):
    path = tmp_path / "times.json"
    rows.save(path, MACHINE, ROWS[:1])
    written = json.loads(path.read_text("utf-8"))
    del written["rows"][0]["cell"]
    path.write_text(json.dumps(written), "utf-8")
    assert rows.load(path) == (MACHINE, ROWS[:1])


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (None, "no such file or directory"),
        (b"\xff\xfe", "it is not text"),
        (b"time: 3", "it is not JSON (Expecting value: line 1 column 1 (char 0))"),
        (b"[1, 2]", "its content is something else"),
        (b"3", "its content is something else"),
        (b'{"rows": []}', "its content is something else"),
        (b'{"format": "minirnn bench 0"}', "its format is 'minirnn bench 0', not 'minirnn bench 1'"),
        (b'{"format": "minirnn bench 1", "rows": [{}]}', "its content is something else"),
        (
            b'{"format": "minirnn bench 1", "rows": [{"shape": {}, "values": [[]]}]}',
            "a row of it holds no times or bytes",
        ),
        (
            b'{"format": "minirnn bench 1", "rows": [{"shape": {}, "values": [[0]]}]}',
            "a row of it holds no times or bytes",
        ),
        (b'{"format": "minirnn bench 1", "rows": [{"shape": {}, "values": [["a"]]}]}', "its content is something else"),
        (
            b'{"format": "minirnn bench 1", "rows": [{"shape": {"N": 1}, "values": [[1]]}]}',
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


def test_a_directory_is_refused(tmp_path):
    with pytest.raises(ValueError, match=": is a directory: try minirnn bench"):
        rows.load(tmp_path)


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


def test_nothing_to_compare():
    for other in (ROWS[0]._replace(shape=Shape(1, 1, 1, 1)), ROWS[0]._replace(cell="gru")):
        assert rows.comparison(ROWS, [other]).startswith("The old file and this run have no measurement in common")


def test_machines_differ_in_what_changes_times_not_in_the_day_or_in_minirnn():
    old = {"CPU": "a", "numpy": "2.0", "date": "1", "load": "0.1", "minirnn": "1", "layer": "LSTMLayer"}
    new = {"CPU": "b", "numpy": "2.0", "date": "2", "minirnn": "2", "dtype": "float64"}
    assert rows.differences(old, new) == ["CPU: a → b", "dtype: None → float64"]
