import pytest

from minirnn.bench import grid
from minirnn.bench.cells import KINDS, Trial, UnequalResultsError
from minirnn.bench.rows import Row, Settings
from minirnn.bench.shapes import Shape
from minirnn.layers import threads

SHAPE = Shape(3, 5, 2, 4)
KEYS = [
    ("layer", "first call"),
    ("layer", "forward"),
    ("layer", "backward"),
    ("layer", "update"),
    ("floor", "forward"),
    ("floor", "both ways"),
]


@pytest.mark.parametrize("cell", list(KINDS))
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_passes_and_the_floor(dtype, cell):
    rows = grid.measure([SHAPE], Settings(dtype, turns=2, cell=cell))
    assert [row.key for row in rows] == [("grid", *key, SHAPE, "s", cell) for key in KEYS]
    assert [[len(run) for run in row.values] for row in rows] == [[1]] + [[2]] * 5


def test_the_floor_is_on_one_thread(monkeypatch):
    seen = []

    def floor(*_):
        return lambda: seen.append(threads.get_num_threads())

    monkeypatch.setattr(grid, "floor", floor)
    monkeypatch.setattr(grid, "forward_floor", floor)
    forward = Trial.forward
    monkeypatch.setattr(Trial, "forward", lambda self: seen.append(threads.get_num_threads()) or forward(self))
    grid.measure([SHAPE], Settings(threads=2, turns=2))
    assert seen == [2] + [2, 1, 1] * 3  # the first call, a warm-up and two turns


def test_the_floor_has_the_gates_of_the_layer(monkeypatch):
    seen = []
    monkeypatch.setattr(grid, "floor", lambda *arguments: seen.append(arguments[-1]) or (lambda: None))
    monkeypatch.setattr(grid, "forward_floor", grid.floor)
    for cell in KINDS:
        grid.measure([SHAPE], Settings(turns=2, cell=cell))
    assert seen == [1, 1, 4, 4, 3, 3]


def test_a_layer_that_is_wrong_is_not_timed(monkeypatch):
    check = Trial.check

    def changed(self, name):
        self.layer.forward = lambda x, forward=self.layer.forward: forward(2.0 * x)
        check(self, name)

    monkeypatch.setattr(Trial, "check", changed)
    monkeypatch.setattr(grid, "take_turns", lambda *_, **__: pytest.fail("it was timed"))
    with pytest.raises(UnequalResultsError, match=r"^bench: the layer: outputs must be"):
        grid.measure([SHAPE], Settings(turns=2))


def test_the_tables():
    seconds = [1e-3, 10e-6, 20e-6, 30e-6, 5e-6, 20e-6]
    rows = [
        Row("grid", *key, SHAPE, "s", [[own] * (1 + (key[1] != "first call"))])
        for key, own in zip(KEYS, seconds, strict=True)
    ]
    # 2·T·N·H·(D + H) = 720 operations in 10 µs, 1440 in 20 µs; 3 sequences in 60 µs.
    assert grid.report([rows]).splitlines() == [
        "| N,T,D,H |     forward |    backward |      update | first call |",
        "| ------- | ----------: | ----------: | ----------: | ---------: |",
        "| 3,5,2,4 | 10.0 µs ±0% | 20.0 µs ±0% | 30.0 µs ±0% |    1.00 ms |",
        "",
        "| N,T,D,H | GFLOP/s fwd |  bwd |  seq/s | × floor fwd | both ways |",
        "| ------- | ----------: | ---: | -----: | ----------: | --------: |",
        "| 3,5,2,4 |        0.07 | 0.07 | 50,000 |        2.00 |      1.50 |",
    ]
    gated = grid.report([[row._replace(cell="lstm") for row in rows]])
    assert gated.splitlines()[-1].startswith("| 3,5,2,4 |        0.29 | 0.29 |")  # four times the operations


def test_one_job_for_each_shape():
    assert grid.plan([], {}) == [[shape] for shape in grid.DEFAULTS]
    assert grid.plan([SHAPE], {}) == [[SHAPE]]
