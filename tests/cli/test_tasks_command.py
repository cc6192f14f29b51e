import json
import subprocess
import sys

import pytest

from minirnn.cli import main
from minirnn.tasks import TASKS, Defaults


def run(capsys, *arguments):
    assert main(["tasks", *arguments]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    return out


def test_every_task_is_listed_with_baseline_rule_and_source(capsys):
    out = run(capsys)
    blocks = out.removesuffix("\n").split("\n\n")
    assert [block.split()[0] for block in blocks] == list(TASKS)
    for block, task in zip(blocks, TASKS.values(), strict=True):
        text = " ".join(block.split())
        assert text.startswith(f"{task.name} {task.description} baseline: ")
        assert f", {task.metric} solved: {task.rule} source: {task.source}" in text
        assert ("needs:" in text) is (task.needs is not None)
    assert "baseline: 0.1667, mean squared error\n" in out
    assert 'needs:    scikit-learn, of the extra "data"\n' in out


def test_it_fits_into_100_columns_with_the_names_in_the_margin(capsys):
    lines = run(capsys).splitlines()
    assert max(map(len, lines)) <= 100
    assert all(line == line.rstrip() for line in lines)
    margin = len("temporal-order-3  ")
    assert {line[:margin].strip() for line in lines if line} == {*TASKS, ""}
    assert all(line[margin - 2 : margin] == "  " for line in lines if line)


def test_json(capsys):
    out = run(capsys, "--json")
    assert out.isascii()  # whatever the output's encoding
    records = {record["name"]: record for record in json.loads(out, parse_constant=pytest.fail)}
    assert list(records) == list(TASKS)
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
        "defaults": {
            "cell": "elman",
            "hidden": 100,
            "batch": 16,
            "init": "irnn",
            "activation": None,
            "lr": 0.001,
            "clip": 1.0,
            "max_updates": 20_000,
        },
    }
    for name, record in records.items():
        assert record["baseline"] > 0
        assert Defaults(**record["defaults"]) == TASKS[name].defaults


def test_the_packages_of_the_data_are_not_imported():
    code = (
        "import sys; from minirnn.cli import main; main(['tasks']);"
        "sys.exit(bool({'sklearn', 'statsmodels', 'pandas', 'sktime'} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, encoding="utf-8")
    assert done.returncode == 0, done.stderr


def test_help(capsys):
    assert main(["tasks", "--help"]) == 0
    assert "--json" in capsys.readouterr().out
    assert main(["tasks", "--verbose"]) == 2
    assert capsys.readouterr().err == ("minirnn: error: unrecognized arguments: --verbose; see minirnn --help\n")


@pytest.mark.parametrize("name", [name for name, task in TASKS.items() if task.needs is None])
def test_inspect_takes_every_task(capsys, name):
    """Those with rows of unequal length too."""
    arguments = ["--hidden", "7", "--batch", "3", "--init", "orthogonal", "--json"]
    assert main(["inspect", name, *arguments]) == 0
    assert json.loads(capsys.readouterr().out)["task"] == name
