import contextlib
import io
import json
import os
import re
import subprocess
import sys

import commands
import pytest
from terminal import run_on_a_terminal

from minirnn.bench import measure, rows
from minirnn.bench.cells import Trial
from minirnn.cli import bench, main
from minirnn.layers import RecurrentLayer, threads

QUICK = ["--shape", "3,5,2,4", "--turns", "2", "--threads", "1"]
SECTIONS = ["ladder", "grid", "step", "scaling", "memory"]


def run(capsys, *arguments):
    status, out = commands.run(capsys, "bench", *arguments)
    assert status == 0
    return out


def error(capsys, *arguments):
    return commands.error(capsys, "bench", *arguments)


def headings(out):
    return re.findall("^## (.*)$", out, re.M)


def too_wide(out):
    return [line for line in out[out.index("## ") :].splitlines() if len(line) > 80]


# --- what is printed --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """What one run of all sections printed, and the file that it wrote."""
    path, out = tmp_path_factory.mktemp("bench") / "old.json", io.StringIO()
    before = threads._state
    with contextlib.redirect_stdout(out):
        assert main(["bench", *QUICK, "--json", str(path)]) == 0
    threads._state = before
    return out.getvalue(), path


def test_all_sections_below_what_did_the_work(whole):
    out, path = whole
    assert headings(out) == SECTIONS
    header = out[: out.index("## ladder")]
    for name in ("minirnn", "date", "CPU", "CPUs", "Python", "numpy", "BLAS"):
        assert re.search(rf"^{name}: .", header, re.M)
    assert "\nthreads: 1, for the layer and for BLAS\ndtype: float32\n" in header
    assert len(re.findall(r"^\| (neuron by neuron|instance by instance|mini-batch, (graph|fused)) ", out, re.M)) == 4
    assert re.search(r"^\| 3,5,2,4 \| .* ±\d+% \| .* ±\d+% \|", out, re.M)
    assert len(re.findall(r"^Against [TNH], with .*: fitted slope -?\d+\.\d\d$", out, re.M)) == 3
    assert re.search(r"^\| 3,5,2,4 +\| remat=False \| ", out, re.M)
    assert re.search(r"^The parts add up to .*, \d\.\d\d of the whole step\.$", out, re.M)
    assert too_wide(out) == [f"All measurements: {path}"][: len(str(path)) > 62]


def test_another_cell(capsys):
    out = run(capsys, "--cell", "gru", *QUICK)
    assert headings(out) == SECTIONS
    assert "\nlayer: GRULayer (--cell gru)\n" in out
    assert len(re.findall(r"^GRULayer[, ]", out, re.M)) == 4  # in each section
    assert len(re.findall(r"^\| (instance by instance|mini-batch, (graph|fused)) ", out, re.M)) == 3
    assert "neuron by neuron" not in out
    assert too_wide(out) == []


@pytest.fixture
def nothing_is_timed(monkeypatch):
    """Everything takes a millisecond."""
    monkeypatch.setattr(rows, "take_turns", lambda given, /, **_: {c: [[1e-3, 1e-3]] for c in given})


def test_sections_and_shapes_as_they_are_named_and_each_only_once(capsys, nothing_is_timed):
    assert headings(run(capsys, "memory", "grid", "memory", *QUICK)) == ["memory", "grid"]
    out = run(capsys, "grid", *QUICK, "--shape", "1,2,3,4", "--shape", "3,5,2,4")
    assert re.findall(r"^\| (\d\S*) ", out, re.M) == ["3,5,2,4", "1,2,3,4"] * 2


def test_sweeps(capsys, nothing_is_timed):
    out = run(capsys, "scaling", "memory", *QUICK, "--sweep", "T=2,4", "--sweep", "D=3,1")
    assert "Against T, with N = 3, D = 2, H = 4: " in out
    assert "Against D, with N = 3, T = 5, H = 4: " in out
    assert re.findall(r"^\| (\d\S*) ", out, re.M) == ["2", "4", "1", "3", *["3,2,2,4"] * 2, *["3,4,2,4"] * 2]


def test_dtype_and_threads(capsys, nothing_is_timed, monkeypatch):
    monkeypatch.setattr(bench, "available_cpus", lambda: 1)
    out = run(capsys, "ladder", *QUICK[:-1], "2", "--dtype", "float64", "--no-progress")
    assert "\nthreads: 2, for the layer and for BLAS, on 1 CPU: such times mean little\ndtype: float64\n" in out
    assert "\n| fused, 2 threads " in out
    assert threads.get_num_threads() == 2


# --- files ------------------------------------------------------------------------------------------------------------


def test_json_and_compare(capsys, whole, monkeypatch, tmp_path):
    out, old = whole
    assert out.endswith(f"\nAll measurements: {old}\n")
    written = json.loads(old.read_text("utf-8"))
    assert written["machine"]["threads"] == "1, for the layer and for BLAS"
    assert written["machine"]["layer"] == "RecurrentLayer (--cell elman)"
    assert {row["section"] for row in written["rows"]} == set(SECTIONS)
    assert all(len(row["quartiles"]) == 3 and row["cell"] == "elman" for row in written["rows"])

    path = tmp_path / "old.json"
    path.write_bytes(old.read_bytes())
    out = run(capsys, "memory", *QUICK, "--compare", str(path), "--json", str(path))  # read before it is written
    assert headings(out) == ["memory", "compared"]
    assert "warning" not in out
    assert re.search(r"^\| 3,5,2,4 +\| +remat=False, kept \| ", out, re.M)
    assert re.search(r"^\d+ measurements are in one of the two only\.$", out, re.M)
    assert {row["section"] for row in json.loads(path.read_text("utf-8"))["rows"]} == {"memory"}

    out = run(capsys, "memory", *QUICK, "--compare", str(path), "--cell", "gru")
    assert "no measurement in common: the same cell, sections and shapes?" in out
    assert "warning" not in out

    machine = measure.machine
    monkeypatch.setattr(measure, "machine", lambda: machine() | {"CPU": "another"})
    out = run(capsys, "memory", *QUICK, "--compare", str(path), "--dtype", "float64")
    warning = out[out.index("## compared") :].splitlines()[2:5]
    assert warning[0] == "warning: not measured under the same conditions, so the ratios tell little:"
    assert warning[1].endswith(" → another")
    assert warning[2] == "  dtype: float32 → float64"


# --- errors -----------------------------------------------------------------------------------------------------------

FOUR = "argument --shape: expected N,T,D,H, four whole numbers ≥ 1 such as 32,100,64,128, got"
SWEEP = "argument --sweep: expected one of N, T, D, H and at least two sizes ≥ 1, such as T=100,1000,10000, got"
HELP = "; see minirnn bench --help"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["race"], f"argument SECTION: expected any of ladder, grid, step, scaling, memory, got 'race'{HELP}"),
        *((["--shape", text], f"{FOUR} {text!r}{HELP}") for text in ("32,100,64", "32,0,64,128", "1,2,,4", "1,2,3,²")),
        *((["--sweep", text], f"{SWEEP} {text!r}{HELP}") for text in ("T=100,100", "B=1,2", "100,1000", "T=1,0")),
        (
            ["ladder", "grid", "--sweep", "T=1,2"],
            "--sweep: sizes of T are for scaling and memory, got them with ladder and grid: try --shape",
        ),
        (["memory", "--sweep", "H=1,2"], "--sweep: sizes of H are for scaling, got them with memory: try --shape"),
        (["--threads", "0"], f"argument --threads: expected a whole number ≥ 1, got '0'{HELP}"),
        (["--turns", "1"], f"argument --turns: expected a whole number ≥ 2, got '1'{HELP}"),
        (["--cell", "rnn"], "argument --cell: invalid choice: 'rnn' (choose from "),
        (["--dtype", "float16"], "argument --dtype: invalid choice: 'float16' (choose from "),
        (["--compare", "nope"], "--compare: expected a file that minirnn bench wrote, got 'nope': no such file or "),
        (["--json", "none/out.json"], "--json: expected a file that can be written, got 'none/out.json': no such file"),
        (["--json", "."], "--json: expected a file that can be written, got '.': it is a directory: try a file in a "),
    ],
)
def test_bench_refuses_before_anything_is_measured(capsys, monkeypatch, tmp_path, arguments, message):
    monkeypatch.setattr(Trial, "__init__", lambda *_, **__: pytest.fail("it was measured"))
    monkeypatch.chdir(tmp_path)
    assert error(capsys, *arguments).startswith(message)
    assert list(tmp_path.iterdir()) == []


def test_a_shape_that_does_not_fit(capsys, monkeypatch):
    def fail(*_, **__):
        raise MemoryError(fault)

    monkeypatch.setattr(Trial, "__init__", fail)
    for fault, dtype, hint in (("Unable to allocate 1 EiB", "float32", ""), ("", "float64", " or --dtype float32")):
        assert main(["bench", "grid", *QUICK, "--dtype", dtype]) == 2
        assert capsys.readouterr().err == (
            f"minirnn: error: bench: the shape N,T,D,H = 3,5,2,4 must fit in memory in {dtype}: "
            f"{fault or 'it does not'}: try fewer steps (T), fewer rows (N){hint}\n"
        )


def test_a_layer_that_is_wrong_ends_the_command_and_leaves_no_file(capsys, monkeypatch, tmp_path):
    forward = RecurrentLayer.forward
    monkeypatch.setattr(RecurrentLayer, "forward", lambda self, x: forward(self, 2.0 * x))
    assert main(["bench", "grid", *QUICK, "--json", str(tmp_path / "out.json")]) == 2
    out, err = capsys.readouterr()
    assert headings(out) == []
    assert err.startswith("minirnn: error: bench: the layer: outputs must be the textbook's, to 1e-04 of the largest ")
    assert list(tmp_path.iterdir()) == []


# --- as a process -----------------------------------------------------------------------------------------------------


def test_on_a_terminal_there_is_a_bar_that_says_what_is_measured():
    """And threadpoolctl and matplotlib, which are extras, are not needed."""
    code = (
        "import sys; sys.modules.update(threadpoolctl=None, matplotlib=None); "
        "from minirnn.cli import main; sys.exit(main(sys.argv[1:]))"
    )
    command = [sys.executable, "-c", code, "bench", "grid", "memory", *QUICK]
    environment = {**os.environ, "PYTHONIOENCODING": "utf-8"}
    process, out, shown = run_on_a_terminal(
        lambda stderr: subprocess.Popen(command, stdout=subprocess.PIPE, stderr=stderr, env=environment)
    )
    assert "grid 3,5,2,4: " in shown
    assert " 3/4 " in shown  # a shape, and three lengths
    assert b"\r" not in out
    assert b'pip install "minirnn[threads]"' in out
    assert process.returncode == 0
