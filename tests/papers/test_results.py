import math

from benchmarks.papers.base import Line, Published, Result, Results, counted, median, percent, spread
from benchmarks.papers.report import duration, of_one, table, verdict


def test_results_give_a_figure_in_the_order_of_the_seeds():
    results = Results(
        [Result("a", 1, {"x": 2.0}, 3.0), Result("b", 0, {"x": 9.0}, 1.0), Result("a", 0, {"x": 1.0}, 4.0)]
    )
    assert results.of("a", "x") == [1.0, 2.0]
    assert results.of("a", "y") == []
    assert results.of("c", "x") == []
    assert results.seconds("a") == 7.0


def test_the_median_of_a_pair_is_its_worse_one():
    assert median([1.0, math.inf]) == math.inf
    assert median([3.0, 1.0, 2.0]) == 2.0


def test_spreads():
    assert spread([2.0], str) == "2.0"
    assert counted([1000.0, math.inf, math.inf]) == "not reached (1,000 … not reached)"
    assert counted([math.inf]) == "not reached"
    assert percent([0.123]) == "12.3 %"


def test_an_unverified_figure_says_so():
    assert str(Published("97 %")) == "97 %"
    assert str(Published("97 %", verified=False)) == "97 % (unverified)"


LINES = [
    Line("adding: samples", "30", Published("20"), "median ≤ 2 ×", True, 12.0),
    Line("tanh: samples", "90", None, "more than IRNN", False, 240.0),
    Line("only shown", "5"),
]


def test_the_table_is_markdown_with_columns_of_one_width():
    text = table(LINES)
    rows = text.splitlines()
    assert len({len(row) for row in rows}) == 1
    assert [cell.strip() for cell in rows[0].split("|")[1:-1]] == ["", "ours", "published", "passes", "", "time"]
    assert [cell.strip() for cell in rows[2].split("|")[1:-1]] == [
        "adding: samples",
        "30",
        "20",
        "median ≤ 2 ×",
        "pass",
        "12 s",
    ]
    assert "FAIL" in rows[3]
    assert "pass" not in rows[4]
    assert "FAIL" not in rows[4]


def test_the_verdict_counts_what_is_judged():
    assert verdict(LINES) == (False, "1 of 2 pass")
    assert verdict(LINES[:1]) == (True, "1 of 1 pass")
    assert verdict([LINES[2]]) == (False, "0 of 0 pass")


def test_durations():
    assert [duration(seconds) for seconds in (0.4, 99, 100, 7200)] == ["0 s", "99 s", "1.7 min", "2.0 h"]


def test_a_result_is_one_line():
    line = of_one(Result("adding", 2, {"samples": math.inf, "mse": 0.125}, 3.0))
    assert line == "adding, seed 2: samples inf, mse 0.125 (3 s)"


def test_of_many_figures_a_line_has_the_first():
    figures = dict.fromkeys("abcde", 1.0)
    assert of_one(Result("x", 0, figures, 3.0)) == "x, seed 0: a 1, b 1, c 1, … (3 s)"
