"""``minirnn import`` and ``minirnn export``, and ``minirnn inspect`` of what they and other libraries write."""

import json
from pathlib import Path

import numpy as np
import pytest
from notes import noted

import minirnn as mr
from minirnn.cli import main
from minirnn.cli.convert import read_model

for package in ("onnx", "safetensors", "h5py"):
    pytest.importorskip(package, reason=f"{package} is not installed: pip install -e '.[interop]'")


@pytest.fixture
def run(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def run(line, status=0):
        assert main(line.split()) == status, capsys.readouterr().err
        said = capsys.readouterr()
        return said.err if status else said.out

    return run


def adder():
    layer = mr.LSTMLayer(2, 5, rng=0)
    return mr.SequenceModel(layer, mr.Linear(5, 1, rng=1), "last"), np.random.default_rng(0).standard_normal((7, 3, 2))


def test_a_model_goes_through_every_format_and_comes_back_equal(run):
    model, x = adder()
    mr.interop.save_safetensors(model, "model.safetensors")
    exact = model(x).predictions.numpy()
    for to, name, options in (
        ("onnx", "a.onnx", ""),
        ("torch", "a.safetensors", " --readout last"),
        ("keras", "a.weights.h5", " --readout last"),
        ("safetensors", "b.safetensors", ""),
    ):
        with noted(to):
            assert run(f"export model.safetensors --to {to} -o {name}") == f"wrote {name}: 166 parameters\n"
            said = run(f"import {name} --from {to} -o {to}.npz{options}")
            assert "recurrent.W_hh ← " in said
            assert said.endswith(f"wrote {to}.npz: 166 parameters\n")
            again = read_model(Path(f"{to}.npz"))
            for module in again, again.recurrent:
                assert module.batch_first == (to == "keras")
            given = x.swapaxes(0, 1) if to == "keras" else x
            np.testing.assert_allclose(again(given).predictions.numpy(), exact, atol=1e-7)
            run(f"export {to}.npz --to safetensors -o c.safetensors")
            assert repr(mr.interop.load_safetensors("c.safetensors")) == repr(again)
            assert "one mini-batch, N = 32" in run(f"inspect {to}.npz --task adding --steps-in-time 9")
            if to != "torch":
                shown = json.loads(run(f"inspect {name} --json --steps-in-time 4 --batch 2"))
                assert (shown["task"], shown["model"], shown["parameters"]) == (name, "trained elsewhere", 166)


def test_what_train_saved_is_exported(run):
    run("train adding --steps-in-time 5 --hidden 4 --max-updates 2 --no-progress --save model.npz", 1)
    assert run("export model.npz --to onnx -o model.onnx").startswith("wrote model.onnx: ")
    assert isinstance(mr.interop.from_onnx("model.onnx"), mr.SequenceModel)


def test_one_layer_of_several_is_looked_into(run):
    both = mr.Bidirectional(mr.GRULayer(2, 3), mr.GRULayer(2, 3, reverse=True))
    mr.interop.save_safetensors(mr.Stacked([both, mr.LSTMLayer(6, 4)]), "stack.safetensors")
    shown = json.loads(run("inspect stack.safetensors --layer 1 --json --steps-in-time 6"))
    assert shown["layer"].startswith("LSTMLayer(6, 4")
    assert "GRULayer(2, 3" in run("inspect stack.safetensors --layer 0.backward_layer")
    assert run("inspect stack.safetensors", 2) == (
        "minirnn: error: --layer: expected the name of one layer of several: there are 0.forward_layer, "
        "0.backward_layer, 1, got None\n"
    )


def test_notes_and_refusals_are_one_line(run):
    mr.interop.save_safetensors(mr.RecurrentLayer(2, 3, activation="relu", reverse=True, remat=True), "a.safetensors")
    assert run("export a.safetensors --to keras -o a.weights.h5").splitlines() == [
        "note: to_keras: training only, left out: remat=True of the layer",
        "note: to_keras: not in the arrays, tell Keras: activation='relu', reverse=True",
        "wrote a.weights.h5: 18 parameters",
    ]
    for line, message in (
        ("export a.safetensors --to torch -o b", "to_torch: RecurrentLayer has reverse=True alone: torch's modules go "
         "backward only beside a forward one; turn time round instead"),
        ("import a.pt --from torch -o b.npz", "import: 'a.pt' is a pickle by its name, which is never loaded: loading "
         "one can run any program. Save it with safetensors.torch.save_file(module.state_dict(), …)"),
        ("import a.onnx --from onnx --prefix a -o b.npz", "--prefix: expected another --from with it than onnx: leave "
         "it out"),
        ("inspect a.safetensors --layer 0", "--layer: expected several layers with it, got a RecurrentLayer: leave it "
         "out"),
    ):  # fmt: skip
        assert run(line, 2) == f"minirnn: error: {message}\n"
