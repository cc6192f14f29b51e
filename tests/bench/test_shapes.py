import tracemalloc

import numpy as np
import pytest
from error_texts import raises

from minirnn.bench import grid, ladder, scaling, shapes
from minirnn.bench.rows import Settings
from minirnn.bench.shapes import Shape
from minirnn.kernels import scratch


def test_a_shape_is_read_and_written_alike():
    assert Shape.parse("32,100,64,128") == Shape(N=32, T=100, D=64, H=128)
    assert Shape.parse(" 1, 2,3 ,4") == (1, 2, 3, 4)
    assert str(Shape(32, 100, 64, 128)) == "32,100,64,128"


@pytest.mark.parametrize(
    "text", ["", "1,2,3", "1,2,3,4,5", "1,2,3,0", "1,-2,3,4", "1,2,3,4.0", "1,2,,4", "a,b,c,d", "1,2,3,²"]
)
def test_what_is_no_shape_is_refused(text):
    expected = "expected N,T,D,H, four whole numbers ≥ 1 such as 32,100,64,128"
    with raises(ValueError, f"{expected}, got {text!r}"):
        Shape.parse(text)


def test_flops_are_those_of_the_products():
    N, T, D, H = 2, 3, 5, 7
    x_side, h_side = N * D * H, N * H * H  # multiplications of X·W_xh and H·W_hh in one step
    assert Shape(N, T, D, H).flops() == 2 * T * (x_side + h_side)
    assert Shape(N, T, D, H).flops(gates=4) == 4 * 2 * T * (x_side + h_side)


@pytest.mark.parametrize("section", [ladder, grid, scaling])
@pytest.mark.parametrize(("cell", "dtype"), [("elman", "float32"), ("elman", "float64"), ("lstm", "float64")])
def test_the_estimate_is_above_what_is_taken_and_not_by_far(section, cell, dtype, monkeypatch):
    monkeypatch.setattr(ladder, "_CALLS", 1)
    settings = Settings(dtype, threads=2, turns=2, cell=cell)
    for shape in (Shape(8, 50, 4, 32), Shape(8, 50, 32, 4), Shape(1, 100, 4, 16)):
        job = [shape, shape._replace(T=51)] if section is scaling else [shape]
        needed = sum(one.bytes_needed(np.dtype(dtype).itemsize, section.OBJECTS, settings.kind.gates) for one in job)
        monkeypatch.setattr(scratch, "_shelf", scratch._Shelf())  # what a test before has left would not be taken now
        tracemalloc.start()
        section.measure(job, settings)
        taken = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert 1.0 < needed / taken < (5 if cell == "elman" else 7)


# --- what does not fit ------------------------------------------------------------------------------------------------

LARGE = Shape(100_000, 100_000, 64, 128)


def test_what_fits_is_let_through(monkeypatch):
    monkeypatch.setattr(shapes, "bytes_available", lambda: Shape(2, 3, 4, 5).bytes_needed(4))
    shapes.refuse_what_does_not_fit([Shape(2, 3, 4, 5)], "float32")
    with pytest.raises(MemoryError):
        shapes.refuse_what_does_not_fit([Shape(2, 3, 4, 5)], "float64")
    with pytest.raises(MemoryError):
        shapes.refuse_what_does_not_fit([Shape(2, 3, 4, 5)] * 2, "float32")
    with pytest.raises(MemoryError):
        shapes.refuse_what_does_not_fit([Shape(2, 3, 4, 5)], "float32", gates=3)


@pytest.mark.parametrize(
    ("dtype", "needed", "hint"), [("float32", "86.1 TB", ""), ("float64", "171 TB", " or --dtype float32")]
)
def test_what_does_not_fit_is_refused_with_the_bytes(monkeypatch, dtype, needed, hint):
    monkeypatch.setattr(shapes, "bytes_available", lambda: 24_000_000_000)
    message = (
        f"bench: the shape N,T,D,H = 100000,100000,64,128 must fit in memory in {dtype}: it takes about {needed}, and "
        f"24.0 GB are available: try fewer steps (T), fewer rows (N){hint}"
    )
    with raises(MemoryError, message):
        shapes.refuse_what_does_not_fit([Shape(1, 1, 1, 1), LARGE], dtype)


def test_where_nobody_knows_what_is_available_the_error_of_numpy_is_told(monkeypatch):
    monkeypatch.setattr(shapes, "bytes_available", lambda: None)
    shapes.refuse_what_does_not_fit([LARGE], "float32")
    expected = "bench: the shape N,T,D,H = 100000,100000,64,128 must fit in memory in float32: "
    hint = ": try fewer steps (T), fewer rows (N)"
    for fault in ("Unable to allocate 1 EiB", ""):
        with (
            raises(MemoryError, expected + (fault or "it does not") + hint),
            shapes.telling_what_does_not_fit([LARGE], "float32"),
        ):
            raise MemoryError(fault)


def test_what_is_available_is_asked_of_the_system(monkeypatch, tmp_path):
    found = tmp_path / "meminfo"
    found.write_text("MemTotal: 9 kB\nMemAvailable:       5 kB\n")
    monkeypatch.setattr(shapes, "_MEMORY", found)
    assert shapes.bytes_available() == 5 * 1024
    monkeypatch.setattr(shapes, "_MEMORY", tmp_path / "none")
    sizes = {"SC_AVPHYS_PAGES": 3, "SC_PAGE_SIZE": 4096}
    monkeypatch.setattr(shapes.os, "sysconf", sizes.__getitem__, raising=False)
    assert shapes.bytes_available() == 3 * 4096

    def unknown(name):
        raise ValueError("unrecognized configuration name")

    monkeypatch.setattr(shapes.os, "sysconf", unknown)
    assert shapes.bytes_available() is None


# --- numbers as text --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("number", "text"),
    [(1.234, "1.23"), (9.994, "9.99"), (9.996, "10.0"), (99.94, "99.9"), (99.96, "100"), (12345.6, "12,346")],
)
def test_three_digits(number, text):
    assert shapes.three_digits(number) == text


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0, "0.00 B"),
        (999, "999 B"),
        (1000, "1.00 kB"),
        (999_400, "999 kB"),
        (999_600, "1.00 MB"),
        (2.5e10, "25.0 GB"),
        (3e18, "3,000 PB"),
    ],
)
def test_bytes(number, text):
    assert shapes.bytes_text(number) == text
