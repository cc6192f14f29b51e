import pytest

from minirnn.bench import scaling
from minirnn.bench.cells import KINDS, Trial, UnequalResultsError
from minirnn.bench.rows import Row, Settings
from minirnn.bench.shapes import Shape

JOB = [Shape(1, T, 3, 4) for T in (2, 4, 8)]


@pytest.mark.parametrize("cell", list(KINDS))
def test_a_row_for_each_size(cell):
    rows = scaling.measure(JOB, Settings(turns=2, cell=cell))
    assert [row.key for row in rows] == [("scaling", "against T", "both ways", shape, "s", cell) for shape in JOB]
    assert all([len(run) for run in row.values] == [2] for row in rows)


def test_each_size_runs_once_untimed_before_its_turn(monkeypatch):
    monkeypatch.setattr(scaling, "_MOMENT", 0.0)
    seen = []
    both_ways = Trial.both_ways
    monkeypatch.setattr(Trial, "both_ways", lambda self: seen.append(self.shape.T) or both_ways(self))
    scaling.measure(JOB, Settings(turns=2))
    assert seen == [2, 2, 4, 4, 8, 8] * 3  # a warm-up and two turns


def test_a_layer_that_is_wrong_at_one_size_stops_them_all(monkeypatch):
    check = Trial.check

    def changed(self, name):
        if self.shape.T == 4:
            self.layer.forward = lambda x, forward=self.layer.forward: forward(2.0 * x)
        check(self, name)

    monkeypatch.setattr(Trial, "check", changed)
    monkeypatch.setattr(scaling, "take_turns", lambda *_, **__: pytest.fail("it was timed"))
    with pytest.raises(UnequalResultsError):
        scaling.measure(JOB, Settings(turns=2))


@pytest.mark.parametrize("power", [0.0, 1.0, 1.5, 2.0])
def test_the_slope_of_a_power_is_its_exponent(power):
    sizes = [10, 50, 300, 7000]
    assert scaling.slope(sizes, [3e-6 * size**power for size in sizes]) == pytest.approx(power, abs=1e-12)


def test_the_slope_is_fitted_by_least_squares():
    assert scaling.slope([1, 10, 100], [1, 100, 100]) == pytest.approx(1.0)  # local slopes 2 and 0
    assert scaling.slope([1, 10, 100], [1, 1, 10]) == pytest.approx(0.5)


def test_the_table():
    rows = [
        Row("scaling", "against T", "both ways", shape, "s", [[own] * 2])
        for shape, own in zip(JOB, (1e-3, 2e-3, 8e-3), strict=True)
    ]
    assert scaling.report([rows]).splitlines() == [
        "Against T, with N = 1, D = 3, H = 4: fitted slope 1.50",
        "",
        "| T |   both ways | time / T | slope |",
        "| - | ----------: | -------: | ----: |",
        "| 2 | 1.00 ms ±0% |   500 µs |       |",
        "| 4 | 2.00 ms ±0% |   500 µs |  1.00 |",
        "| 8 | 8.00 ms ±0% |  1.00 ms |  2.00 |",
    ]


def test_the_usual_sweeps():
    jobs = scaling.plan([], {})
    assert [scaling.varied(job) for job in jobs] == ["T", "N", "H"]
    assert jobs[0] == [Shape(1, T, 10, 16) for T in (100, 1_000, 10_000, 100_000)]


def test_sweeps_around_a_shape_and_over_sizes_that_are_asked_for():
    jobs = scaling.plan([Shape(2, 8, 3, 4)], {})
    assert jobs[0] == [Shape(2, T, 3, 4) for T in (2, 4, 8, 16, 32)]
    assert jobs[1] == [Shape(N, 8, 3, 4) for N in (1, 2, 4, 8)]  # a quarter of 2 is 1 too
    assert jobs[2] == [Shape(2, 8, 3, H) for H in (1, 2, 4, 8, 16)]
    assert scaling.plan([], {"T": [10, 20]}) == [[Shape(1, 10, 10, 16), Shape(1, 20, 10, 16)]]
    assert scaling.plan([Shape(2, 8, 3, 4)], {"D": [1, 5]}) == [[Shape(2, 8, 1, 4), Shape(2, 8, 5, 4)]]
    assert [shape.D for shape in scaling.plan([], {"D": [1, 5]})[0]] == [1, 5]
