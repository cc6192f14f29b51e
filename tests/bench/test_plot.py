import sys

import pytest
from error_texts import raises

from minirnn.bench import grid, ladder, memory, plot, scaling
from minirnn.bench.rows import Settings
from minirnn.bench.shapes import Shape

SETTINGS = Settings(turns=2)
JOBS = {
    "ladder": (ladder, [[Shape(2, 3, 2, 4)]]),
    "grid": (grid, [[Shape(2, 3, 2, 4)], [Shape(3, 3, 2, 4)]]),
    "scaling": (scaling, [[Shape(1, 2, 3, 4), Shape(1, 4, 3, 4)]]),
    "memory": (memory, [[Shape(2, T, 2, H)] for H in (3, 4) for T in (4, 9)]),
}


def measured(*names):
    return {name: [JOBS[name][0].measure(job, SETTINGS) for job in JOBS[name][1]] for name in names}


@pytest.mark.parametrize(
    ("suffix", "names"), [(".png", list(JOBS)), (".svg", ["scaling"]), (".svg", ["memory", "ladder", "grid"])]
)
def test_a_picture_of_the_sections_there_are(tmp_path, names, suffix):
    pytest.importorskip("matplotlib", reason="matplotlib is not installed: pip install -e '.[plot]'")
    path = tmp_path / f"picture{suffix}"
    plot.plot(path, measured(*names), "minirnn, µ")
    start = path.read_bytes()[:200]
    assert start.startswith(b"\x89PNG") if suffix == ".png" else b"<?xml" in start


def test_without_matplotlib_the_error_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    message = '--plot: needs matplotlib, which is not installed: try pip install "minirnn[plot]"'
    with raises(ImportError, message):
        plot.plot("picture.png", {"grid": []}, "")
