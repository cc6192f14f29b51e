import os
import pathlib
import re
import subprocess
import sys
import tomllib

import pytest

import minirnn as mr
from minirnn import counting
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
