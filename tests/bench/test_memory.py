import tracemalloc

import pytest

from minirnn.bench import memory
from minirnn.bench.cells import Trial, UnequalResultsError
from minirnn.bench.rows import Row, Settings
from minirnn.bench.shapes import Shape

SHAPE = Shape(4, 60, 3, 16)
KEYS = [
    ("one array", "(T,N,H)"),
    ("remat=False", "kept"),
    ("remat=False", "peak"),
    ("remat=True", "kept"),
    ("remat=True", "peak"),
]


@pytest.mark.parametrize(("dtype", "itemsize"), [("float32", 4), ("float64", 8)])
def test_checkpoints_keep_less_than_an_array_and_all_states_an_array(dtype, itemsize):
    rows = memory.measure([SHAPE], Settings(dtype))
    assert [row.key for row in rows] == [("memory", *key, SHAPE, "bytes", "elman") for key in KEYS]
    array, kept, peak, kept_remat, peak_remat = (row.values[0][0] for row in rows)
    assert array == 60 * 4 * 16 * itemsize
    assert kept >= array > kept_remat
    assert min(peak, peak_remat) > array
    assert not tracemalloc.is_tracing()


@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_layers_with_gates(cell):
    rows = memory.measure([SHAPE], Settings(cell=cell))
    assert [row.key for row in rows] == [("memory", *key, SHAPE, "bytes", cell) for key in KEYS]
    array, kept, _, kept_remat, _ = (row.values[0][0] for row in rows)
    assert kept > 3 * array  # the gates
    assert kept_remat < kept / 2


def test_a_layer_that_is_wrong_is_not_measured(monkeypatch):
    check = Trial.check

    def changed(self, name):
        if self.layer.remat:
            self.layer.forward = lambda x, forward=self.layer.forward: forward(2.0 * x)
        check(self, name)

    monkeypatch.setattr(Trial, "check", changed)
    with pytest.raises(UnequalResultsError, match=r"^bench: the layer with remat=True: outputs must be"):
        memory.measure([SHAPE], Settings())


def test_the_table():
    numbers = (1000, 1100, 3000, 200, 4000)
    rows = [Row("memory", *key, SHAPE, "bytes", [[number]]) for key, number in zip(KEYS, numbers, strict=True)]
    assert memory.report([rows]).splitlines() == [
        "| N,T,D,H   |             |    kept | arrays |    peak | arrays |",
        "| --------- | ----------: | ------: | -----: | ------: | -----: |",
        "| 4,60,3,16 | remat=False | 1.10 kB |   1.10 | 3.00 kB |   3.00 |",
        "| 4,60,3,16 |  remat=True |   200 B |   0.20 | 4.00 kB |   4.00 |",
    ]


def test_lengths():
    assert [job[0].T for job in memory.plan([], {})] == list(memory.LENGTHS)
    assert [job[0].T for job in memory.plan([], {"T": [5, 6], "N": [1, 2]})] == [5, 6]
    assert memory.plan([SHAPE], {}) == [[SHAPE._replace(T=T)] for T in (15, 60, 240)]
