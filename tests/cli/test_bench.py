import json
import os
import re
import subprocess
import sys

import pytest
from terminal import run_on_a_terminal

from minirnn.bench import measure, shapes
from minirnn.bench.cells import Trial
from minirnn.cli import bench, main
from minirnn.layers import RecurrentLayer, threads

QUICK = ["--shape", "3,5,2,4", "--turns", "2", "--threads", "1"]
SECTIONS = ["ladder", "grid", "scaling", "memory"]


@pytest.fixture(autouse=True)
def own_threads(monkeypatch):
    """The number of threads afterwards is what it was, and BLAS is not told of it."""
    monkeypatch.setattr(threads, "_state", threads._State())
    monkeypatch.setattr(threads, "_blas", lambda: [])


def run(capsys, *arguments):
    assert main(["bench", *arguments]) == 0
    out, err = capsys.readouterr()
    assert err == ""  # stderr is no terminal here: no bar
    return out


def error(capsys, *arguments):
    """Return the error that was printed, after checking that it is one line and that nothing else was printed."""
    assert main(["bench", *arguments]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("minirnn: error: ")
    assert err.count("\n") == 1
    return err.removeprefix("minirnn: error: ").removesuffix("\n")


def headings(out):
    return re.findall("^## (.*)$", out, re.M)


# --- what is printed --------------------------------------------------------------------------------------------------


def test_all_sections_below_what_did_the_work(capsys):
    out = run(capsys, *QUICK)
    assert headings(out) == SECTIONS
    header = out[: out.index("## ladder")]
    for name in ("minirnn", "date", "CPU", "CPUs", "Python", "numpy", "BLAS"):
        assert re.search(rf"^{name}: .", header, re.M)
    assert "\nthreads: 1, for the layer and for BLAS\ndtype: float32\n" in header
    assert len(re.findall(r"^\| (neuron by neuron|instance by instance|mini-batch, (graph|fused)) ", out, re.M)) == 4
    assert re.search(r"^\| 3,5,2,4 \| .* ±\d+% \| .* ±\d+% \|", out, re.M)
    assert len(re.findall(r"^Against [TNH], with .*: fitted slope -?\d+\.\d\d$", out, re.M)) == 3
    assert re.search(r"^\| 3,5,2,4 +\| remat=False \| ", out, re.M)


def too_wide(out):
    return [line for line in out[out.index("## ") :].splitlines() if len(line) > 80]


@pytest.mark.parametrize("section", SECTIONS)
def test_it_fits_into_80_columns(capsys, section):
    assert too_wide(run(capsys, section, *QUICK)) == []


@pytest.mark.parametrize(("cell", "layer"), [("lstm", "LSTMLayer"), ("gru", "GRULayer")])
def test_another_cell(capsys, cell, layer):
    out = run(capsys, "--cell", cell, *QUICK)
    assert headings(out) == SECTIONS
    assert f"\nlayer: {layer} (--cell {cell})\n" in out
    assert len(re.findall(rf"^{layer}[, ]", out, re.M)) == 4  # in each section
    assert len(re.findall(r"^\| (instance by instance|mini-batch, (graph|fused)) ", out, re.M)) == 3
    assert "neuron by neuron" not in out
    assert too_wide(out) == []


def test_sections_that_are_chosen_in_the_order_in_which_they_are_named(capsys):
    assert headings(run(capsys, "memory", "grid", "memory", *QUICK)) == ["memory", "grid"]


def test_several_shapes_and_each_only_once(capsys):
    out = run(capsys, "grid", *QUICK, "--shape", "1,2,3,4", "--shape", "3,5,2,4")
    assert re.findall(r"^\| (\d\S*) ", out, re.M) == ["3,5,2,4", "1,2,3,4"] * 2


def test_sweeps(capsys):
    sweeps = ["--sweep", "T=2,4", "--sweep", "D=3,1"]
    out = run(capsys, "scaling", "memory", *QUICK, *sweeps)
    assert "Against T, with N = 3, D = 2, H = 4: " in out
    assert "Against D, with N = 3, T = 5, H = 4: " in out
    assert re.findall(r"^\| (\d\S*) ", out, re.M) == ["2", "4", "1", "3", *["3,2,2,4"] * 2, *["3,4,2,4"] * 2]


def test_dtype_and_threads(capsys):
    out = run(capsys, "ladder", *QUICK[:-1], "2", "--dtype", "float64")
    assert "\ndtype: float64\n" in out
    assert "\n| fused, 2 threads " in out
    assert threads.get_num_threads() == 2


def test_more_threads_than_cpus(capsys, monkeypatch):
    monkeypatch.setattr(bench, "available_cpus", lambda: 1)
    out = run(capsys, "memory", *QUICK[:-1], "2")
    assert "\nthreads: 2, for the layer and for BLAS, on 1 CPU: such times mean little\n" in out


def test_the_usual_run_has_all_sections_and_takes_turns_while_there_is_time(capsys, monkeypatch):
    """`minirnn bench` without arguments, but for what it would cost."""
    asked = []

    def take_turns(contestants, **settings):
        asked.append(settings["seconds"])
        return {name: [[1e-3, 1e-3]] for name in contestants}

    from minirnn.bench import grid, ladder, memory, scaling

    for module in (ladder, grid, scaling):
        monkeypatch.setattr(module, "take_turns", take_turns)
    monkeypatch.setattr(Trial, "check", lambda self, name: None)
    monkeypatch.setattr(ladder, "equal", lambda *_: None)
    monkeypatch.setattr(ladder, "_CALLS", 1)
    monkeypatch.setattr(ladder, "DEFAULT", shapes.Shape(2, 3, 4, 5))
    monkeypatch.setattr(grid, "DEFAULTS", [shapes.Shape(2, 3, 4, 5)] * 8)
    monkeypatch.setattr(scaling, "DEFAULTS", {letter: (shapes.Shape(2, 3, 4, 5), (1, 2)) for letter in "TNH"})
    monkeypatch.setattr(memory, "LENGTHS", (2, 3))
    assert headings(run(capsys)) == SECTIONS
    assert len(asked) == 1 + 8 + 3
    assert sum(asked) < 30  # seconds; checks, memory and the first calls come on top


# --- files ------------------------------------------------------------------------------------------------------------


def test_json_and_compare(capsys, tmp_path):
    path = tmp_path / "old.json"
    out = run(capsys, "grid", "memory", *QUICK, "--json", str(path))
    assert out.endswith(f"\nAll measurements: {path}\n")
    written = json.loads(path.read_text("utf-8"))
    assert written["machine"]["threads"] == "1, for the layer and for BLAS"
    assert {row["section"] for row in written["rows"]} == {"grid", "memory"}
    assert all(len(row["quartiles"]) == 3 and row["cell"] == "elman" for row in written["rows"])
    assert written["machine"]["layer"] == "RecurrentLayer (--cell elman)"

    out = run(capsys, "memory", *QUICK, "--compare", str(path), "--json", str(path))  # read before it is written
    assert headings(out) == ["memory", "compared"]
    assert "warning" not in out
    assert re.search(r"^\| 3,5,2,4 +\| +remat=False, kept \| ", out, re.M)
    assert "\n6 measurements are in one of the two only.\n" in out
    assert {row["section"] for row in json.loads(path.read_text("utf-8"))["rows"]} == {"memory"}


def test_another_cell_is_not_compared(capsys, tmp_path):
    path = tmp_path / "old.json"
    run(capsys, "memory", *QUICK, "--json", str(path))
    out = run(capsys, "memory", *QUICK, "--compare", str(path), "--json", str(path), "--cell", "gru")
    assert "no measurement in common: the same cell, sections and shapes?" in out
    assert "warning" not in out
    assert {row["cell"] for row in json.loads(path.read_text("utf-8"))["rows"]} == {"gru"}


def test_compare_warns_when_the_machines_differ(capsys, tmp_path, monkeypatch):
    path = tmp_path / "old.json"
    run(capsys, "memory", *QUICK, "--json", str(path))
    machine = measure.machine
    monkeypatch.setattr(measure, "machine", lambda: machine() | {"CPU": "another"})
    out = run(capsys, "memory", *QUICK, "--compare", str(path), "--dtype", "float64")
    warning = out[out.index("## compared") :].splitlines()[2:5]
    assert warning[0] == "warning: not measured under the same conditions, so the ratios tell little:"
    assert warning[1].endswith(" → another")
    assert warning[2] == "  dtype: float32 → float64"


def test_plot(capsys, tmp_path):
    pytest.importorskip("matplotlib", reason="matplotlib is not installed: pip install -e '.[plot]'")
    path = tmp_path / "picture.SVG"
    out = run(capsys, "scaling", *QUICK, "--plot", str(path))
    assert out.endswith(f"\nPicture: {path}\n")
    assert "<svg" in path.read_text("utf-8")


# --- errors -----------------------------------------------------------------------------------------------------------

FOUR = "expected N,T,D,H, four whole numbers ≥ 1 such as 32,100,64,128, got"
SWEEP = "expected one of N, T, D, H and at least two sizes ≥ 1, such as T=100,1000,10000, got"


@pytest.fixture
def nothing_is_measured(monkeypatch):
    monkeypatch.setattr(Trial, "__init__", lambda *_, **__: pytest.fail("it was measured"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["race"],
            "argument SECTION: expected any of ladder, grid, scaling, memory, got 'race'; see minirnn bench --help",
        ),
        (["--shape", "32,100,64"], f"argument --shape: {FOUR} '32,100,64'; see minirnn bench --help"),
        (["--shape", "32,0,64,128"], f"argument --shape: {FOUR} '32,0,64,128'; see minirnn bench --help"),
        (["--shape", "32x100x64x128"], f"argument --shape: {FOUR} '32x100x64x128'; see minirnn bench --help"),
        (["--sweep", "T=100"], f"argument --sweep: {SWEEP} 'T=100'; see minirnn bench --help"),
        (["--sweep", "T=100,100"], f"argument --sweep: {SWEEP} 'T=100,100'; see minirnn bench --help"),
        (["--sweep", "B=1,2"], f"argument --sweep: {SWEEP} 'B=1,2'; see minirnn bench --help"),
        (["--sweep", "100,1000"], f"argument --sweep: {SWEEP} '100,1000'; see minirnn bench --help"),
        (["--sweep", "T=1,0"], f"argument --sweep: {SWEEP} 'T=1,0'; see minirnn bench --help"),
        (
            ["ladder", "grid", "--sweep", "T=1,2"],
            "--sweep: sizes of T are for scaling and memory, got them with ladder and grid: try --shape",
        ),
        (["memory", "--sweep", "H=1,2"], "--sweep: sizes of H are for scaling, got them with memory: try --shape"),
        (["--threads", "0"], "argument --threads: expected a whole number ≥ 1, got '0'; see minirnn bench --help"),
        (["--turns", "1"], "argument --turns: expected a whole number ≥ 2, got '1'; see minirnn bench --help"),
        (["--turns", "few"], "argument --turns: expected a whole number ≥ 2, got 'few'; see minirnn bench --help"),
        (["--plot", "picture.jpg"], "--plot: expected a file ending in .png or .svg, got 'picture.jpg'"),
    ],
)
def test_bench_refuses(capsys, nothing_is_measured, arguments, message):
    assert error(capsys, *arguments) == message


def test_bench_refuses_a_cell(capsys, nothing_is_measured):
    assert error(capsys, "--cell", "rnn").startswith("argument --cell: invalid choice: 'rnn' (choose from ")


def test_bench_refuses_a_dtype(capsys, nothing_is_measured):
    assert error(capsys, "--dtype", "float16").startswith("argument --dtype: invalid choice: 'float16' (choose from ")


def test_a_shape_that_does_not_fit_is_refused_with_the_bytes(capsys, nothing_is_measured, monkeypatch):
    monkeypatch.setattr(shapes, "bytes_available", lambda: 24_000_000_000)
    assert error(capsys, "grid", "--shape", "1,2,3,4", "--shape", "100000,100000,64,128") == (
        "bench: the shape N,T,D,H = 100000,100000,64,128 must fit in memory in float32: it takes about 86.1 TB, and "
        "24.0 GB are available: try fewer steps (T), fewer rows (N)"
    )


def test_what_fits_one_layer_may_not_fit_another(capsys, nothing_is_measured, monkeypatch):
    shape = shapes.Shape(32, 100, 64, 128)
    monkeypatch.setattr(shapes, "bytes_available", lambda: shape.bytes_needed(4, gates=2))
    message = error(capsys, "scaling", "--sweep", "T=99,100", "--shape", str(shape), "--cell", "lstm")
    assert message.startswith("bench: the shape N,T,D,H = 32,100,64,128 must fit in memory in float32: it takes about ")


def test_a_shape_that_turns_out_not_to_fit(capsys, monkeypatch):
    def fail(*_, **__):
        raise MemoryError("Unable to allocate 1 EiB")

    monkeypatch.setattr(Trial, "__init__", fail)
    assert main(["bench", "grid", *QUICK]) == 2
    assert capsys.readouterr().err == (
        "minirnn: error: bench: the shape N,T,D,H = 3,5,2,4 must fit in memory in float32: Unable to allocate 1 EiB: "
        "try fewer steps (T), fewer rows (N)\n"
    )


@pytest.mark.parametrize(("option", "name"), [("--json", "out.json"), ("--plot", "out.png")])
def test_a_file_that_cannot_be_written_is_refused_before_anything_is_measured(
    capsys, nothing_is_measured, tmp_path, option, name
):
    if option == "--plot":
        pytest.importorskip("matplotlib", reason="matplotlib is not installed: pip install -e '.[plot]'")
    hint = "try a file in a directory that exists and may be written to"
    (tmp_path / name).mkdir()
    for path, fault in (
        (tmp_path / "none" / name, "no such file or directory"),
        (tmp_path / name, "it is a directory"),
    ):
        expected = f"{option}: expected a file that can be written, got {str(path)!r}: {fault}: {hint}"
        assert error(capsys, *QUICK, option, str(path)) == expected
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_an_old_file_that_is_none_is_refused_before_anything_is_measured(capsys, nothing_is_measured, tmp_path):
    path = tmp_path / "old.json"
    path.write_text("{}")
    assert error(capsys, "--compare", str(path)) == (
        f"--compare: expected a file that minirnn bench wrote, got {str(path)!r}: its content is something else: "
        "try minirnn bench --json FILE first"
    )


def test_without_matplotlib_a_picture_is_refused_before_anything_is_measured(capsys, nothing_is_measured, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    message = '--plot: needs matplotlib, which is not installed: try pip install "minirnn[plot]"'
    assert error(capsys, "--plot", "picture.png") == message


def test_a_layer_that_is_wrong_ends_the_command_and_leaves_no_file(capsys, monkeypatch, tmp_path):
    forward = RecurrentLayer.forward
    monkeypatch.setattr(RecurrentLayer, "forward", lambda self, x: forward(self, 2.0 * x))
    assert main(["bench", "grid", *QUICK, "--json", str(tmp_path / "out.json")]) == 2
    out, err = capsys.readouterr()
    assert headings(out) == []
    assert err.startswith("minirnn: error: bench: the layer: outputs must be the textbook's, to 1e-04 of the largest ")
    assert list(tmp_path.iterdir()) == []


# --- as a process -----------------------------------------------------------------------------------------------------


def test_without_the_extras_all_but_the_picture_is_there(tmp_path):
    """Neither threadpoolctl nor matplotlib is asked for unless it is needed."""
    code = (
        "import sys; sys.modules.update(threadpoolctl=None, matplotlib=None); "
        "from minirnn.cli import main; sys.exit(main(sys.argv[1:]))"
    )
    command = [sys.executable, "-c", code, "bench", *QUICK, "--json", str(tmp_path / "out.json")]
    environment = {**os.environ, "PYTHONIOENCODING": "utf-8"}
    done = subprocess.run(command, capture_output=True, encoding="utf-8", env=environment, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    assert headings(done.stdout) == SECTIONS
    assert 'pip install "minirnn[threads]"' in done.stdout


def test_on_a_terminal_there_is_a_bar_that_says_what_is_measured():
    command = [sys.executable, "-m", "minirnn", "bench", "grid", "memory", *QUICK]
    environment = {**os.environ, "PYTHONIOENCODING": "utf-8"}
    process, out, shown = run_on_a_terminal(
        lambda stderr: subprocess.Popen(command, stdout=subprocess.PIPE, stderr=stderr, env=environment)
    )
    assert "grid 3,5,2,4: " in shown
    assert " 3/4 " in shown  # a shape, and three lengths
    assert b"\r" not in out
    assert process.returncode == 0
