import json
import re

import pytest

from minirnn import counting
from minirnn.cli import main

EXAM = ["count", "--inputs", "10", "--hidden", "20", "--outputs", "5", "--no-bias"]


def count(capsys, *arguments):
    assert main(["count", *arguments]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    return out


def test_the_exam(capsys):
    assert main(EXAM) == 0
    out = capsys.readouterr().out
    assert "without biases" in out
    assert re.search(r"^column vectors.*\n  W_xh \(20, 10\), W_hh \(20, 20\), W_hy \(5, 20\)$", out, re.M)
    assert re.search(r"^row vectors.*\n  W_xh \(10, 20\), W_hh \(20, 20\), W_hy \(20, 5\)$", out, re.M)
    assert "total = n·m + n·n + p·n = 20·10 + 20·20 + 5·20 = 700\n" in out
    assert re.search(r"^total +700$", out, re.M)
    assert "does not depend on the length T" in out
    assert "does not depend on the activation φ" in out
    assert "H_t = φ(X_t W_xh + H_{t-1} W_hh)    O_t = H_t W_hy\n" in out


def test_biases_are_counted_unless_told_otherwise(capsys):
    out = count(capsys, "--inputs", "10", "--hidden", "20", "--outputs", "5")
    assert "= 20·10 + 20·20 + 20 + 5·20 + 5 = 725\n" in out
    assert "with biases" in out
    assert "H_t = φ(X_t W_xh + H_{t-1} W_hh + b_h)    O_t = H_t W_hy + b_y\n" in out


@pytest.mark.parametrize(
    ("cell", "total", "name"), [("elman", 620, "Elman"), ("lstm", 2480, "LSTM"), ("gru", 1880, "GRU")]
)
def test_every_cell_without_a_head(capsys, cell, total, name):
    out = count(capsys, "--inputs", "10", "--hidden", "20", "--cell", cell)
    assert out.startswith(f"{name} layer, m = 10 inputs → n = 20 hidden neurons; with biases\n")
    assert f" = {total}\n" in out
    assert "O_t" not in out
    assert ("b_hn" in out.splitlines()[1]) is (cell == "gru")
    expected = getattr(counting, cell)(10, 20)
    for line in expected.reconciliation():
        assert f"  {line}\n" in out
    assert f"which has {expected.recurrent} here" in out


@pytest.mark.parametrize("options", [[], ["--cell", "gru"], ["--cell", "lstm", "--no-bias", "--outputs", "7"]])
def test_json(capsys, options):
    out = count(capsys, "--inputs", "3", "--hidden", "4", "--json", *options)
    of = {"": counting.elman, "gru": counting.gru, "lstm": counting.lstm}[options[1] if options else ""]
    expected = of(3, 4, 7 if "--outputs" in options else None, bias="--no-bias" not in options)
    assert json.loads(out) == expected.to_dict()
    assert out.isascii()  # whatever the output's encoding


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--inputs", "0", "--hidden", "3"], "elman: m (number of inputs) must be an int ≥ 1, got 0"),
        (
            ["--inputs", "3", "--hidden", "-1"],
            "elman: n (number of hidden neurons) must be an int ≥ 1, got -1",
        ),
        (
            ["--inputs", "3", "--hidden", "3", "--outputs", "0"],
            "elman: p (number of output neurons) must be an int ≥ 1",
        ),
        (["--inputs", "3.5", "--hidden", "3"], "argument --inputs: invalid int value: '3.5'"),
        (["--inputs", "3", "--hidden", "3", "--cell", "rnn"], "argument --cell: invalid choice: 'rnn' (choose from "),
    ],
)
def test_count_refuses(capsys, arguments, message):
    assert main(["count", *arguments]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"minirnn: error: {message}")
    assert err.count("\n") == 1
