import sys

import numpy as np
import pytest

from minirnn.cli import main
from minirnn.cli.exercise import PROGRESS
from minirnn.exercises import EXERCISES

STEP = """import numpy as np


def step(x_t, h_prev, W_xh, W_hh, b):
    return np.tanh(x_t @ W_xh + h_prev @ W_hh + b)
"""
NEURON = """def neuron(x_t, y_prev, w_x, w_y, b):
    from numpy import tanh
    return tanh(x_t @ w_x + y_prev * w_y + b)
"""
PART = """
@dataclass
class Part:
    x: 'int' = 0


print(__name__, __file__)
if __name__ == '__main__':
    1 / 0
"""


@pytest.fixture(autouse=True)
def in_a_directory_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def ran(capsys, *arguments):
    """Return the exit status and what was printed, which is no error."""
    status = main(["exercise", *arguments])
    out, err = capsys.readouterr()
    assert err == ""
    return status, out


def test_the_list_says_what_is_done(capsys, tmp_path):
    status, out = ran(capsys)
    assert status == 0
    assert [line.split()[0] for line in out.split("\n\n")[0].splitlines()] == list(EXERCISES)
    assert f"\n0 of {len(EXERCISES)} done, as {PROGRESS} in this directory says." in out
    (tmp_path / "my.py").write_text(STEP)
    passed = f"step: passed. Right: h.\n  ok h  (N, H)\nKept in {PROGRESS}: 1 of 22 done.\n"
    assert ran(capsys, "step", "my.py") == (0, passed)
    assert (tmp_path / PROGRESS).read_text().split()[::2] == ["step", "my.py"]
    (tmp_path / PROGRESS).write_text("a note\n" + (tmp_path / PROGRESS).read_text())
    assert ran(capsys, "step", "my.py")[1].count("\n") == 2  # not twice
    (tmp_path / "my.py").write_text(NEURON)
    assert ran(capsys, "neuron", "my.py")[0] == 0
    assert [line.split()[0] for line in (tmp_path / PROGRESS).read_text().splitlines()] == ["a", "step", "neuron"]
    out = ran(capsys)[1]
    assert "\ndone  step " in out
    assert out.startswith("done  neuron ")
    assert "minirnn exercise column > column.py" in out


@pytest.mark.parametrize("name", EXERCISES)
def test_a_stub_is_a_file_to_begin_with(capsys, tmp_path, name):
    status, out = ran(capsys, name)
    assert status == 0
    assert "--hint 1" in out
    (tmp_path / "stub.py").write_text(out, encoding="utf-8")
    status, out = ran(capsys, name, "stub.py")
    assert status == 1
    assert out.startswith(f"{name}: not yet. The function returned None: is its `return` missing?")
    for k, hint in enumerate(EXERCISES[name].hints):
        assert ran(capsys, name, "--hint", str(k + 1)) == (0, f"{hint}\n")
    assert not (tmp_path / PROGRESS).exists()


def test_a_mistake_is_status_1(capsys, tmp_path):
    (tmp_path / "my.py").write_text(STEP.replace("W_hh +", "W_hh.T +"))
    status, out = ran(capsys, "step", str(tmp_path / "my.py"))
    assert status == 1
    assert out.startswith("step: not yet.\nMistake: W_hhᵀ for W_hh going forward: ")
    assert "    look at   z   = x_t W_xh + h_prev W_hh + b\n" in out


FILES = [  # what stands in the file, and what is said
    ("def step(:\n", "raised SyntaxError (invalid syntax) in line 1: def step(:."),
    ("import nothing_of_the_kind\n", "(No module named 'nothing_of_the_kind') in line 1: import nothing_of_the_kind."),
    ("x = 1\n\ny = 1 / 0\n", "raised ZeroDivisionError (division by zero) in line 3: y = 1 / 0."),
    ("raise SystemExit\n", "raised SystemExit in line 1: raise SystemExit."),
    ("def stepp(): ...\n", "my.py defines no function step; of its own it has: stepp."),
    ("step = 3\n", "my.py defines no function step; of its own it has: none."),
    (
        STEP.replace("W_xh +", "W_xh / zero +"),
        "raised NameError (name 'zero' is not defined) in line 5: return np.tanh(",
    ),
]


@pytest.mark.parametrize(("text", "said"), FILES)
def test_what_is_wrong_with_the_file_is_told_with_its_line(capsys, tmp_path, text, said):
    (tmp_path / "my.py").write_text(text)
    status, out = ran(capsys, "step", "my.py")
    assert status == 1
    assert out.startswith("step: not yet. ")
    assert said in out
    assert out.count("\n") == 1


def test_the_file_is_run_as_a_module_beside_its_neighbours(capsys, tmp_path):
    before = list(sys.path)
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "of_mine.py").write_text("from numpy import tanh\n")
    text = "from dataclasses import dataclass\nfrom of_mine import tanh\n" + STEP.replace("np.tanh", "tanh")
    text += PART
    (tmp_path / "there" / "my.py").write_text(text)
    status, out = ran(capsys, "step", "there/my.py")
    assert status == 0
    assert out.startswith(f"minirnn_learner {tmp_path / 'there' / 'my.py'}\n")
    assert sys.path == before
    assert not np.any([name.endswith(".pyc") for name in map(str, (tmp_path / "there").iterdir())])


def test_errors_of_the_command_are_errors(capsys, tmp_path):
    for arguments, said in (
        (["bppt"], "NAME must be one of 'neuron', "),
        (["step", "none.py"], "FILE: expected a Python file, got 'none.py': "),
        (["step", "--hint", "4"], "argument --hint: invalid choice: "),
    ):
        assert main(["exercise", *arguments]) == 2
        assert capsys.readouterr().err.startswith("minirnn: error: " + said)


def test_where_nothing_can_be_kept_it_is_passed_all_the_same(capsys, tmp_path):
    (tmp_path / "my.py").write_text(STEP)
    (tmp_path / PROGRESS).mkdir()
    assert main(["exercise", "step", "my.py"]) == 0
    out, err = capsys.readouterr()
    assert out.startswith("step: passed.")
    assert err.startswith("minirnn: it is passed, but exercise: cannot write ")
