"""``minirnn count`` and ``minirnn tasks``."""

import json
import re

import pytest

from minirnn import counting
from minirnn.cli import main
from minirnn.tasks import TASKS, Defaults

SIZES = ["--inputs", "10", "--hidden", "20"]


def run(capsys, *arguments):
    assert main(arguments) == 0
    out, err = capsys.readouterr()
    assert err == ""
    return out


# --- count ------------------------------------------------------------------------------------------------------------


def test_the_exam(capsys):
    out = run(capsys, "count", *SIZES, "--outputs", "5", "--no-bias")
    assert "without biases" in out
    assert re.search(r"^column vectors.*\n  W_xh \(20, 10\), W_hh \(20, 20\), W_hy \(5, 20\)$", out, re.M)
    assert re.search(r"^row vectors.*\n  W_xh \(10, 20\), W_hh \(20, 20\), W_hy \(20, 5\)$", out, re.M)
    assert "total = n·m + n·n + p·n = 20·10 + 20·20 + 5·20 = 700\n" in out
    assert re.search(r"^total +700$", out, re.M)
    assert "does not depend on the length T" in out
    assert "does not depend on the activation φ" in out
    assert "H_t = φ(X_t W_xh + H_{t-1} W_hh)    O_t = H_t W_hy\n" in out


def test_biases_are_counted_unless_told_otherwise(capsys):
    out = run(capsys, "count", *SIZES, "--outputs", "5")
    assert "= 20·10 + 20·20 + 20 + 5·20 + 5 = 725\n" in out
    assert "with biases" in out
    assert "H_t = φ(X_t W_xh + H_{t-1} W_hh + b_h)    O_t = H_t W_hy + b_y\n" in out


@pytest.mark.parametrize(
    ("cell", "total", "name"), [("elman", 620, "Elman"), ("lstm", 2480, "LSTM"), ("gru", 1880, "GRU")]
)
def test_every_cell_without_a_head(capsys, cell, total, name):
    out = run(capsys, "count", *SIZES, "--cell", cell)
    assert out.startswith(f"{name} layer, m = 10 inputs → n = 20 hidden neurons; with biases\n")
    assert f" = {total}\n" in out
    assert "O_t" not in out
    assert ("b_hn" in out.splitlines()[1]) is (cell == "gru")
    expected = getattr(counting, cell)(10, 20)
    for line in expected.reconciliation():
        assert f"  {line}\n" in out
    assert f"which has {expected.recurrent} here" in out
    out = run(capsys, "count", *SIZES, "--cell", cell, "--json", "--no-bias", "--outputs", "7")
    assert json.loads(out) == getattr(counting, cell)(10, 20, 7, bias=False).to_dict()
    assert out.isascii()  # whatever the output's encoding


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--inputs", "3", "--hidden", "-1"], "elman: n (number of hidden neurons) must be an int ≥ 1, got -1"),
        (["--inputs", "3", "--hidden", "3", "--outputs", "0"], "elman: p (number of output neurons) must be an int ≥ "),
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


# --- tasks ------------------------------------------------------------------------------------------------------------


def test_every_task_is_listed_with_baseline_rule_and_source(capsys):
    out = run(capsys, "tasks")
    blocks = out.removesuffix("\n").split("\n\n")
    assert [block.split()[0] for block in blocks] == list(TASKS)
    for block, task in zip(blocks, TASKS.values(), strict=True):
        text = " ".join(block.split())
        assert text.startswith(f"{task.name} {task.description} baseline: ")
        assert f", {task.metric} solved: {task.rule} source: {task.source}" in text
        assert ("needs:" in text) is (task.needs is not None)
    assert "baseline: 0.1667, mean squared error\n" in out
    assert 'needs:    scikit-learn, of the extra "data"\n' in out
    lines, margin = out.splitlines(), len("temporal-order-3  ")
    assert max(map(len, lines)) <= 100
    assert all(line == line.rstrip() for line in lines)
    assert {line[:margin].strip() for line in lines if line} == {*TASKS, ""}
    assert all(line[margin - 2 : margin] == "  " for line in lines if line)


def test_tasks_as_json(capsys):
    out = run(capsys, "tasks", "--json")
    assert out.isascii()  # whatever the output's encoding
    records = {record["name"]: record for record in json.loads(out, parse_constant=pytest.fail)}
    assert list(records) == list(TASKS)
    usual = {"cell": "elman", "hidden": 100, "batch": 16, "init": "irnn", "activation": None}
    assert records["adding"] == {
        "name": "adding",
        "description": "add the two marked numbers of a sequence, one in each half",
        "source": "Le, Jaitly & Hinton 2015; markers placed as in Arjovsky, Shah & Bengio 2016",
        "rule": "mean squared error below 0.01 (always predicting 1 gives 1/6)",
        "metric": "mean squared error",
        "baseline": 1 / 6,
        "kind": "regression",
        "inputs": "vectors",
        "readout": "last",
        "needs": None,
        "input_size": 2,
        "output_size": 1,
        "defaults": {**usual, "lr": 0.001, "clip": 1.0, "max_updates": 20_000},
    }
    for name, record in records.items():
        assert record["baseline"] > 0
        assert Defaults(**record["defaults"]) == TASKS[name].defaults
