import os
import pathlib
import re
import shlex
import signal
import subprocess
import sys
import time
import tomllib

import pytest

import minirnn as mr
from minirnn import counting
from minirnn.checkpoints import CheckpointDirectory, load_checkpoint
from minirnn.cli import main

MOVED = "reproduce: the papers' experiments stand beside the benchmarks now: from a checkout, python -m benchmarks "
COUNT = ["count", "--inputs", "10", "--hidden", "20"]


def minirnn(*arguments, **environment):
    """Run ``python -m minirnn`` as a process of its own; the bytes it printed are decoded here, as UTF-8."""
    return subprocess.run(
        [sys.executable, "-m", "minirnn", *arguments],
        capture_output=True,
        encoding="utf-8",
        env={**os.environ, "PYTHONIOENCODING": "utf-8", **environment},
        timeout=60,
    )


def one_error_line(capsys):
    """Return the error that was printed, after checking that it is one line and that nothing else was printed."""
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("minirnn: error: ")
    assert err.endswith("\n")
    assert err.count("\n") == 1
    return err.removeprefix("minirnn: error: ").removesuffix("\n")


# --- the command itself -----------------------------------------------------------------------------------------------


def test_version(capsys, monkeypatch):
    monkeypatch.setattr("importlib.metadata.version", None)  # in a tree of sources nothing is installed
    assert main(["--version"]) == 0
    assert capsys.readouterr() == (f"minirnn {mr.__version__}\n", "")
    assert re.fullmatch(r"\d+\.\d+\.\d+", mr.__version__)


def test_the_version_stands_in_one_place():
    root = pathlib.Path(mr.__file__).parents[1]
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))
    assert "version" not in project["project"]
    source = (root / project["tool"]["hatch"]["version"]["path"]).read_text(encoding="utf-8")
    assert source.count(mr.__version__) == 1


@pytest.mark.parametrize(
    ("arguments", "mentions"),
    [
        (["--help"], ("count", "train", "eval", "sample", "inspect", "--version")),
        (["count", "--help"], ("--inputs", "--hidden", "--outputs", "--no-bias", "--cell", "--json")),
        (["train", "--help"], ("adding", "text", "130")),
        (
            ["train", "adding", "--help"],
            ("--steps-in-time", "default: 50", "--init", "1/6", "Le, Jaitly & Hinton 2015", "--save PATH"),
        ),
        (["train", "text", "--help"], ("--file", "--chunk", "--embedding", "--sample", "pydoc_data.topics")),
        (["eval", "--help"], ("PATH", "--sequences", "--steps-in-time", "--json", "default: 1000")),
        (["train", "csv", "--help"], ("--file", "--column", "--decimal", "--steps-in-time", "two sines")),
        (["forecast", "--help"], ("PATH", "--steps", "--file", "--plot", "--out", "--json", "default: 50")),
        (["sample", "--help"], ("PATH", "--length", "--temperature", "--prompt", "default: 0.7")),
        (["inspect", "--help"], ("adding", "PATH", "a model that was saved", "minirnn inspect model.npz")),
        (["inspect", "model.npz", "--help"], ("usage: minirnn inspect [-h]", "--html", "--batch", "directory")),
    ],
)
def test_help(capsys, arguments, mentions):
    assert main(arguments) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert "reproduce" not in out
    for word in mentions:
        assert word in " ".join(out.split())


def test_python_m_minirnn_is_the_command(capsys, monkeypatch):
    done = minirnn(*COUNT)
    monkeypatch.setattr(sys, "argv", ["minirnn", *COUNT])  # main reads the arguments of the process
    assert main() == done.returncode == 0
    assert capsys.readouterr().out == done.stdout


# --- errors -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "starts", "ends"),
    [
        ([], "the following arguments are required: COMMAND", "; see minirnn --help"),
        (["train"], "the following arguments are required: TASK", "; see minirnn train --help"),
        (["sing"], "argument COMMAND: invalid choice: 'sing' (choose from ", "; see minirnn --help"),
        (["train", "dog"], "argument TASK: invalid choice: 'dog' (choose from ", "; see minirnn train --help"),
        (["count"], "the following arguments are required: --inputs, --hidden", "; see minirnn count --help"),
        (["reproduce"], f"{MOVED}papers", ""),
        (["reproduce", "pham", "--seeds", "2"], f"{MOVED}papers pham --seeds 2", ""),
        (["reproduce", "--help"], f"{MOVED}papers --help", ""),
        ([*COUNT, "--verbose"], "unrecognized arguments: --verbose", "; see minirnn --help"),
        ([*COUNT, "--out", "5"], "unrecognized arguments: --out 5", "; see minirnn --help"),  # no guessing
    ],
)
def test_arguments_that_are_not_understood(capsys, arguments, starts, ends):
    assert main(arguments) == 2
    error = one_error_line(capsys)
    assert error.startswith(starts)
    assert error.endswith(ends)


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (ValueError("x must be y:\n  line 1\n  line 2"), "x must be y: line 1 line 2"),
        (TypeError("rng must be an int"), "rng must be an int"),
        (FloatingPointError("the loss is nan"), "the loss is nan"),
        (PermissionError(13, "Permission denied", "/x"), "[Errno 13] Permission denied: '/x'"),
        (ModuleNotFoundError("no such text"), "no such text"),
        (MemoryError(), "MemoryError"),
    ],
)
def test_an_error_of_the_library_is_one_line_and_status_2(capsys, monkeypatch, error, text):
    def fail(*_, **__):
        raise error

    monkeypatch.setattr(counting, "elman", fail)
    assert main(COUNT) == 2
    assert one_error_line(capsys) == text


def test_a_fault_of_the_program_keeps_its_traceback(monkeypatch):
    def fail(*_, **__):
        raise AttributeError("a bug")

    monkeypatch.setattr(counting, "elman", fail)
    with pytest.raises(AttributeError, match="a bug"):
        main(COUNT)


def test_ctrl_c_anywhere_is_status_130(capsys, monkeypatch):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(counting, "elman", interrupt)
    assert main(COUNT) == 130
    assert capsys.readouterr() == ("", "minirnn: interrupted\n")


# --- where the output goes --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("unbuffered", ["", "1"])  # whether it is noticed at the end only
def test_a_reader_that_has_gone_is_no_error(unbuffered):
    read, write = os.pipe()
    os.close(read)
    environment = {**os.environ, "PYTHONUNBUFFERED": unbuffered}
    command = [sys.executable, "-m", "minirnn", *COUNT]
    done = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, env=environment, timeout=60)
    os.close(write)
    assert (done.returncode, done.stderr) == (141, b"")


SHORT = ["train", "adding", "--hidden", "3", "--max-updates", "2", "--save", "model.npz", "--checkpoint", "run"]
COMMAND = shlex.join([sys.executable, "-m", "minirnn", *SHORT])
REPLACED = """
import sys
class Logger:
    def write(self, text): pass
def closed():
    sys.__stdout__.close()
    return sys.__stdout__
from minirnn.cli import main
sys.stdout = sys.stderr = {}
status = main(sys.argv[1:])
sys.stdout, sys.stderr = sys.__stdout__, sys.__stderr__  # Python itself flushes them when it ends
raise SystemExit(status)
"""
PLACES = {  # in a shell, or in Python; and the status: 1 is "not solved"
    **{f"{COMMAND} {place}": 1 for place in (">&-", "2>&-", "<&- >&- 2>&-", "2>/dev/full")},
    **{f"{COMMAND} {place}": 141 for place in ("| head -1", "2>&1 | head -c 1")},
    f"{COMMAND} >/dev/full": 2,
    **{shlex.join([sys.executable, "-c", REPLACED.format(by), *SHORT]): 1 for by in ("None", "closed()", "Logger()")},
}


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="this system has no /dev/full, or no such shell")
@pytest.mark.parametrize(("script", "status"), PLACES.items(), ids=lambda value: str(value)[-25:])
def test_wherever_the_output_goes_the_work_is_done_and_saved(script, status, tmp_path):
    done = subprocess.run(["bash", "-c", f"set -o pipefail; {script}"], cwd=tmp_path, capture_output=True, timeout=60)
    assert (done.returncode, b"Traceback" in done.stderr) == (status, False), done.stderr
    saved = load_checkpoint(tmp_path / "model.npz")
    assert len(saved.extra["history"]["loss"]) == 2
    assert list(CheckpointDirectory(tmp_path / "run").paths()) == [2]


def test_without_anything_to_save_a_reader_that_has_gone_ends_the_run(tmp_path):
    endless = [sys.executable, "-m", "minirnn", "train", "adding", "--max-updates", "1000000", "--hidden", "3"]
    script = f"set -o pipefail; PYTHONUNBUFFERED=1 {shlex.join(endless)} | true"
    assert subprocess.run(["bash", "-c", script], timeout=60).returncode == 141


@pytest.mark.parametrize(
    ("ignored", "sent", "status"),
    [("", "TERM", 143), ("", "INT", 130), ("trap '' INT;", "INT", None), ("trap '' INT;", "TERM", 143)],
)
def test_signals_end_a_run_with_checkpoints_unless_they_were_ignored(ignored, sent, status, tmp_path):
    updates = 10_000_000 if status else 1000
    run = [sys.executable, "-u", "-m", "minirnn", "train", "adding", "--hidden", "3", "--max-updates", str(updates)]
    script = f"{ignored} exec {shlex.join([*run, '--checkpoint', 'run', '--checkpoint-every', '20'])}"
    process = subprocess.Popen(["bash", "-c", script], cwd=tmp_path, stdout=subprocess.PIPE, text=True)
    while not list(tmp_path.glob("run/*.npz")):
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(getattr(signal, f"SIG{sent}"))
    out, _ = process.communicate(timeout=60)
    made = list(CheckpointDirectory(tmp_path / "run").paths())[-1]
    assert process.returncode == (status or 1)
    assert re.search(rf"^{'interrupted' if status else 'not solved'}: .*; {made:,} updates in ", out, re.M)
    assert status or made == 1000


def test_an_output_without_greek_letters_is_no_error():
    done = minirnn(*COUNT, PYTHONIOENCODING="ascii", PYTHONUTF8="0")
    assert (done.returncode, done.stderr) == (0, "")
    assert "activation ?" in done.stdout


def test_counting_does_not_wait_for_what_only_others_need():
    code = (
        "import sys; from minirnn.cli import main; main(sys.argv[1:]); main(['tasks', '--json']); "
        "print(sorted({'tqdm', 'importlib.metadata', 'sklearn', 'statsmodels', 'sktime'} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", code, *COUNT, "--json"], capture_output=True, text=True, timeout=60)
    assert done.stdout.splitlines()[-1] == "[]"
