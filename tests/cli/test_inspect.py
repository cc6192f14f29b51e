import json
import re

import commands
import numpy as np
import pytest

from minirnn import bptt, losses
from minirnn.bptt.diagnosis import VERDICTS
from minirnn.cli import inspect
from minirnn.layers import RecurrentLayer, SequenceModel
from minirnn.layers.plain import Linear
from minirnn.tasks import TASKS, AddingTask

QUICK = ["--steps-in-time", "9", "--hidden", "7", "--batch", "3"]
SENTENCE = "the cat sat on the mat, and the dog sat on the log.\n"


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "sentences.txt"
    path.write_text(SENTENCE * 20, encoding="utf-8")
    return str(path)


def run(capsys, *arguments):
    status, out = commands.run(capsys, "inspect", *arguments)
    assert status == 0
    return out


def error(capsys, *arguments):
    return commands.error(capsys, "inspect", *arguments)


def figures(capsys, *arguments):
    return json.loads(run(capsys, *arguments, "--json"), parse_constant=pytest.fail)["figures"]


# --- what is printed --------------------------------------------------------------------------------------------------


def test_irnn_and_glorot_are_one_command_apart(capsys):
    irnn = run(capsys, "adding", "--steps-in-time", "50", "--init", "irnn")
    glorot = run(capsys, "adding", "--steps-in-time", "50", "--init", "glorot")
    assert "\nverdict: healthy (" in irnn
    assert "\nverdict: vanishing (" in glorot
    half_life = [float(re.search(r"half-life\s+is\s+([\d.]+)", out)[1]) for out in (irnn, glorot)]
    assert half_life[0] > 20 * half_life[1]
    levels = [chart_rows(out) for out in (irnn, glorot)]  # of a drawing of the same two decades
    assert levels[0] <= 2
    assert levels[1] >= 5


def chart_rows(out):
    """Return over how many of its rows the curve goes."""
    chart = out[out.index("‖dL/dh_t‖ against t") : out.index("verdict")].splitlines()[1:-3]
    return sum(bool(set(line) & set("─╭╮╰╯")) for line in chart if "└" not in line)


def test_header_chart_and_report_stand_in_this_order(capsys):
    lines = run(capsys, "adding", *QUICK).splitlines()
    assert lines[:3] == [
        "adding, T = 9: add the two marked numbers of a sequence, one in each half",
        "RecurrentLayer, D = 2, H = 7, relu, init irnn; 78 parameters, untrained",
        lines[2],
    ]
    assert re.fullmatch(r"one mini-batch, N = 3, loss \d\.\d+", lines[2])
    assert lines[4] == "‖dL/dh_t‖ against t (logarithmic)"
    assert lines[16] == "        t = 0 t = 8"
    assert re.fullmatch(r"verdict: \w+ \(.*\)", lines[18])
    assert "what to try" in lines


def test_it_fits_into_80_columns(capsys):
    for options in (
        ["--steps-in-time", "300", "--hidden", "10"],
        ["--init", "zeros", *QUICK],
        ["--cell", "gru", *QUICK, "--init", "normal"],
        ["--steps-in-time", "2", "--hidden", "1", "--batch", "1"],
        [*QUICK, "--init", "ones", "--activation", "identity", "--steps-in-time", "200"],
    ):
        assert max(map(len, run(capsys, "adding", *options).splitlines())) <= 80


def test_the_model_and_the_mini_batch_are_those_of_the_training(capsys):
    for_model, for_data = np.random.default_rng(5).spawn(2)
    task = AddingTask(9)
    layer = RecurrentLayer(2, 7, recurrent_initializer="glorot", rng=for_model)
    model = SequenceModel(layer, Linear(7, 1, rng=for_model), readout="last")
    x, y = next(task.batches(3, for_data))
    report = bptt.doctor(model, x, lambda predictions: losses.mse(predictions, y))
    printed = json.loads(run(capsys, "adding", *QUICK, "--init", "glorot", "--seed", "5", "--json"))
    assert {name: printed[name] for name in report.to_dict()} == report.to_dict()
    assert (printed["task"], printed["parameters"]) == ("adding", model.count_params())
    assert printed["layer"].startswith("RecurrentLayer(2, 7, ")


def test_the_seed(capsys):
    first, again, other = (run(capsys, "adding", *QUICK, "--seed", seed) for seed in ("1", "1", "2"))
    assert first == again != other


def test_text(capsys, file):
    arguments = ["text", "--file", file, *QUICK, "--embedding", "5"]
    out = run(capsys, *arguments)
    assert out.startswith(
        "text, T = 9: predict the next character of a text\nRecurrentLayer, D = 5, H = 7, tanh, init "
    )
    assert "(the last of 9 steps at which one enters)" in out.replace("\n  ", " ")
    found = figures(capsys, *arguments)
    assert (found["T"], found["N"], found["H"], found["enters"]) == (9, 3, 7, 9)
    assert found["loss"] == pytest.approx(np.log(len(set(SENTENCE))), rel=0.2)


def test_gated_cells_start_orthogonal(capsys):
    lstm = figures(capsys, "adding", *QUICK, "--cell", "lstm")
    assert lstm["layer"] == "LSTMLayer"
    assert lstm["spectral_norm"] == pytest.approx(dict.fromkeys("ifgo", 1.0), rel=1e-5)
    assert "GRULayer, D = 2, H = 7, init glorot; " in run(capsys, "adding", *QUICK, "--cell", "gru", "--init", "glorot")
    assert "init orthogonal; " in run(capsys, "adding", *QUICK, "--cell", "gru")


def test_activation_and_init(capsys):
    assert "7, sigmoid, init orthogonal; " in run(
        capsys, "adding", *QUICK, "--activation", "sigmoid", "--init", "orthogonal"
    )
    assert figures(capsys, "adding", *QUICK)["identity"]


@pytest.mark.parametrize("name", [name for name, task in TASKS.items() if task.needs is None])
def test_every_task(capsys, name):
    """Those with rows of unequal length too."""
    arguments = ["--hidden", "7", "--batch", "3", "--init", "orthogonal", "--json"]
    printed = json.loads(run(capsys, name, *arguments))
    assert (printed["task"], printed["figures"]["H"], printed["figures"]["N"]) == (name, 7, 3)


def test_zero_and_not_finite_gradients_are_told_without_a_chart(capsys, monkeypatch):
    monkeypatch.setattr(inspect, "_loss", lambda *_: lambda predictions: (0.0 * predictions).sum())
    out = run(capsys, "adding", *QUICK)
    assert "\n‖dL/dh_t‖ against t: exactly 0 at all 9 steps\n\nverdict: no gradient" in out
    monkeypatch.setattr(inspect, "_loss", lambda *_: lambda predictions: (predictions * np.nan).sum())
    out = run(capsys, "adding", *QUICK)
    assert "\n‖dL/dh_t‖ against t: not finite at any of 9 steps\n\nverdict: not finite" in out


def test_json_is_one_document(capsys):
    printed = json.loads(run(capsys, "adding", *QUICK, "--json"), parse_constant=pytest.fail)
    assert printed["verdict"] in VERDICTS
    assert len(printed["figures"]["gradient_norms"]) == 9
    assert "html" not in printed


# --- the page ---------------------------------------------------------------------------------------------------------


def test_the_page_is_written_and_named(capsys, tmp_path):
    path = tmp_path / "bptt.html"
    out = run(capsys, "adding", *QUICK, "--html", str(path))
    size = path.stat().st_size / 1e6
    assert out.endswith(f"\n\nPage: {path} ({size:.2f} MB)\n")
    assert path.read_text("utf-8").lower().startswith("<!doctype html>")
    printed = json.loads(run(capsys, "adding", *QUICK, "--html", str(path), "--json"))
    assert printed["html"] == str(path)


def test_a_page_that_cannot_be_written_is_refused_before_anything_is_done(capsys, monkeypatch, tmp_path):
    monkeypatch.setattr(inspect, "trace", lambda *_: pytest.fail("it was traced"))
    (tmp_path / "here").mkdir()
    for name, fault in (("none/bptt.html", "no such file or directory"), ("here", "it is a directory")):
        path = str(tmp_path / name)
        assert error(capsys, "adding", *QUICK, "--html", path) == (
            f"--html: expected a file that can be written, got {path!r}: {fault}: "
            "try a file in a directory that exists and may be written to"
        )
    assert [p.name for p in tmp_path.iterdir()] == ["here"]


# --- errors -----------------------------------------------------------------------------------------------------------

SEE = "see minirnn inspect adding --help"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--steps-in-time", "1"], "AddingTask: T must be an int ≥ 2, got 1: try 2 or more"),
        (["--steps-in-time", "0"], f"argument --steps-in-time: expected a whole number ≥ 1, got '0'; {SEE}"),
        (["--seed", "-1"], f"argument --seed: expected a whole number ≥ 0, got '-1'; {SEE}"),
        (
            ["--cell", "lstm", "--init", "irnn"],
            "--init irnn: expected --cell elman with it, got --cell lstm: leave one of them out",
        ),
        (
            ["--cell", "gru", "--activation", "relu"],
            "--activation: expected --cell elman with it, got --cell gru: leave one of them out",
        ),
        (
            ["--init", "irnn", "--activation", "tanh"],
            "RecurrentLayer: init='irnn' is a layer of rectifiers, got activation='tanh': try activation='relu'",
        ),
        (["--file", "x"], "unrecognized arguments: --file x; see minirnn --help"),
    ],
)
def test_inspect_refuses(capsys, tmp_path, arguments, message):
    path = tmp_path / "bptt.html"
    assert error(capsys, "adding", *arguments, "--html", str(path)) == message
    assert list(tmp_path.iterdir()) == []


def test_inspect_refuses_what_is_not_there(capsys):
    assert error(capsys, "subtracting").startswith("argument TASK: invalid choice: 'subtracting' (choose from ")
    assert error(capsys, "adding", "--cell", "rnn").startswith("argument --cell: invalid choice: 'rnn' (choose from ")
    assert error(capsys, "text", "--file", "/nowhere/x.txt").startswith("TextTask: path must name a text file in UTF-8")
