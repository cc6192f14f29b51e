import math
import os
import re
import signal
import subprocess
import sys

import numpy as np
import pytest
from terminal import run_on_a_terminal

from minirnn import losses, optim
from minirnn.checkpoints import load_checkpoint
from minirnn.cli import learning, main, train
from minirnn.tasks import TASKS, AddingTask, TextTask
from minirnn.training import History
from minirnn.training.sources import source_of

QUICK = ["--steps-in-time", "4", "--hidden", "6", "--batch", "4", "--max-updates", "12"]
SENTENCE = "the cat sat on the mat, and the dog sat on the log.\n"


@pytest.fixture
def file(tmp_path):
    """A text whose bigrams leave more open than its past does."""
    path = tmp_path / "sentences.txt"
    path.write_text(SENTENCE * 60, encoding="utf-8")
    return path


def small_text(file, **options):
    settings = {"file": file, "hidden": 16, "embedding": 8, "batch": 4, "chunk": 10, "lr": 0.02, "max_updates": 60}
    settings |= {"sample": 30, **options}
    return ["text", *(part for name, value in settings.items() for part in (f"--{name.replace('_', '-')}", str(value)))]


def run(capsys, *arguments):
    status = main(["train", *arguments])
    out, err = capsys.readouterr()
    assert err == ""  # stderr is no terminal here: no bar
    return status, out


def without_times(out):
    """Return what was printed without the seconds: those of the verdict, and those of the table's second column."""
    out = re.sub(r"in \d+\.\d s", "in … s", out)
    return re.sub(r"^( *[\d,]+) +\d+\.\d(  )", r"\1 …\2", out, flags=re.M)


def verdict(out):
    return next(line for line in out.splitlines() if re.match("(not )?solved: held-out|interrupted:", line))


# --- adding -----------------------------------------------------------------------------------------------------------


def test_adding_is_solved(capsys):
    status, out = run(
        capsys, "adding", "--steps-in-time", "10", "--hidden", "32", "--lr", "5e-3", "--max-updates", "4000"
    )
    assert status == 0
    figures = re.fullmatch(
        r"solved: held-out mean squared error (0\.\d{4}), baseline 0\.1667; ([\d,]+) updates in \d+\.\d s", verdict(out)
    )
    assert float(figures[1]) < 0.01
    assert 100 < int(figures[2].replace(",", "")) < 4000


def test_adding_says_first_what_it_is_and_prints_the_chart_last(capsys):
    status, out = run(capsys, "adding", *QUICK)
    assert status == 1
    first, rule, model, *_ = out.splitlines()
    assert first == "adding, T = 4: add the two marked numbers of a sequence, one in each half"
    assert rule.startswith("to be solved: mean squared error below 0.01")
    assert model == "model: RecurrentLayer, D = 2, H = 6, relu, init irnn; 61 parameters"
    assert verdict(out).startswith("not solved: held-out mean squared error ")
    assert "; 12 updates in " in verdict(out)
    assert out.index("model:") < out.index("not solved:") < out.index("training loss, squared error")
    assert out.endswith("12 updates\n")


def test_adding_is_judged_by_held_out_data_not_by_the_training_loss(capsys, monkeypatch):
    monkeypatch.setattr(AddingTask, "solved", lambda self, mse: mse < 10)
    status, out = run(capsys, "adding", *QUICK[:-1], "100")
    assert (status, verdict(out)[:7]) == (0, "solved:")
    assert "; 50 updates in " in out  # asked for the first time after a window of 50
    # The training loss is as before; what is held out is not learnt.
    asked = []
    monkeypatch.setattr(learning, "measure", lambda model, task, batch: asked.append(batch) or 11.0)
    status, out = run(capsys, "adding", *QUICK[:-1], "100", "--seed", "3")
    assert (status, verdict(out)[:11]) == (1, "not solved:")
    assert "; 100 updates in " in out
    assert len(asked) == 3  # after 50, after 100, and at the end
    x, y = AddingTask(4).evaluation_batch(1000, seed=3)
    np.testing.assert_array_equal(asked[0][0], x)
    np.testing.assert_array_equal(asked[0][1], y)


def test_adding_does_not_ask_held_out_data_while_the_training_loss_is_high(capsys, monkeypatch):
    asked = []
    monkeypatch.setattr(learning, "measure", lambda model, task, batch: asked.append(batch) or 0.0)
    status, _ = run(capsys, "adding", *QUICK[:-1], "100")
    assert status == 0
    assert len(asked) == 1  # at the end only


def test_adding_gives_the_same_figures_for_the_same_seed(capsys):
    arguments = ["adding", *QUICK, "--backend", "graph", "--seed", "7"]
    first, second = (without_times(run(capsys, *arguments)[1]) for _ in range(2))
    assert first == second
    assert first != without_times(run(capsys, *arguments, "--seed", "8")[1])


# --- the other tasks of sequences -------------------------------------------------------------------------------------

OTHERS = [name for name in TASKS if name not in ("adding", "text", "digits")]  # those take half the time


@pytest.mark.parametrize("name", OTHERS)
def test_every_task_trains(capsys, name):
    needs = {"scikit-learn": "sklearn"}.get(TASKS[name].needs, TASKS[name].needs)
    if needs:
        pytest.importorskip(needs, reason=f"{needs} is not installed: pip install -e '.[data]'")
    status, out = run(capsys, name, "--hidden", "5", "--batch", "3", "--max-updates", "3", "--seed", "1")
    assert status in (0, 1)
    metric = re.escape(TASKS[name].metric)
    assert re.match(
        rf"(not )?solved: held-out {metric} \d+\.\d{{4}}, baseline \d+\.\d{{4}}; 3 updates in ", verdict(out)
    )
    assert ("; training accuracy " in verdict(out)) == (TASKS[name].kind == "classification")
    assert f"\nto be solved: {TASKS[name].rule}\n" in out


def test_a_classification_is_judged_by_its_own_figure(capsys, monkeypatch):
    asked = []
    monkeypatch.setattr(learning, "_INTERVAL", 4)
    monkeypatch.setattr(
        learning, "measure", lambda model, task, batch: asked.append(task.name) or 0.5 - 0.249 * len(asked)
    )
    status, out = run(capsys, "parity", "--steps-in-time", "6", "--hidden", "4", "--max-updates", "99")
    assert (status, len(asked)) == (0, 3)
    assert "parity, T = 6: say at every step" in out
    assert "; 8 updates in " in verdict(out)
    assert "training loss, nats per target" in out


def test_options_of_a_task_are_its_whole_numbers(capsys, fitted):
    run(capsys, "echo", "--steps-in-time", "9", "--delay", "2")
    x, _ = next(fitted[0]["batches"])
    assert len(x) == 9
    assert main(["train", "adding", "--delay", "2"]) == 2
    assert "unrecognized arguments: --delay 2" in capsys.readouterr().err


# --- text -------------------------------------------------------------------------------------------------------------


def test_text_beats_the_bigram_model(capsys, file):
    status, out = run(capsys, *small_text(file, max_updates=150))
    task = TextTask(path=file)
    figures = re.fullmatch(
        r"solved: held-out bits per character (\d\.\d{3}), bigram (\d\.\d\d), unigram (\d\.\d\d); 150 updates in .*",
        verdict(out),
    )
    bits, bigram, unigram = map(float, figures.groups())
    assert status == 0
    assert bits < bigram < unigram
    assert bigram == pytest.approx(task.bigram_bits, abs=0.006)
    assert unigram == pytest.approx(task.unigram_bits, abs=0.006)
    written = out.split("a sample, at temperature 0.7:\n\n")[1]
    assert all(line.startswith("    ") for line in written.splitlines() if line)
    assert 25 <= len(written.replace("    ", "")) <= 32
    assert set(written) <= set(SENTENCE)
    assert f"\n2,808 characters to train on and 312 held out, {len(set(SENTENCE))} different\n" in out


@pytest.mark.parametrize(
    ("options", "updates"),
    [
        ({"max_updates": 20}, [2, 4, 6, 8, 10, 12, 14, 16, 18, 20]),
        ({"max_updates": 7, "evaluate_every": 3}, [3, 6, 7]),
        ({"max_updates": 3, "evaluate_every": 10}, [3]),
        ({"max_updates": 2}, [1, 2]),
    ],
)
def test_text_reports_every_so_often_and_at_the_end(capsys, file, options, updates):
    status, out = run(capsys, *small_text(file, sample=0, **options))
    rows = re.findall(r"^ *(\d+) +\d+\.\d +(\d\.\d{3}) +(\d\.\d{3})$", out, re.M)
    assert [int(row[0]) for row in rows] == updates
    assert f"character {rows[-1][2]}, bigram" in verdict(out)
    assert "updates  seconds  training  held-out  bits per character; bigram " in out
    assert (status, verdict(out)[:22]) == (1, "not solved: held-out b")
    assert "a sample" not in out


def test_text_reports_the_training_loss_in_bits(capsys, file, monkeypatch):
    histories = []
    fit = train.fit
    monkeypatch.setattr(train, "fit", lambda *a, **k: histories.append(fit(*a, **k)) or histories[-1])
    _, out = run(capsys, *small_text(file, max_updates=4, evaluate_every=2))
    expected = [f"{pair.mean() / math.log(2):.3f}" for pair in histories[0].loss.reshape(2, 2)]
    assert re.findall(r"^ *\d +\d\.\d +(\d\.\d{3}) ", out, re.M) == expected


def test_text_gives_the_same_figures_for_the_same_seed(capsys, file):
    first, second = (without_times(run(capsys, *small_text(file, max_updates=20))[1]) for _ in range(2))
    assert first == second
    assert "…" in first
    assert first != without_times(run(capsys, *small_text(file, max_updates=20, seed=1))[1])


# --- what the options do ----------------------------------------------------------------------------------------------


@pytest.fixture
def fitted(monkeypatch):
    """Training that is over before it begins; gives what `fit` was called with."""
    calls = []

    def fit(model, data, *, batch=None, rng=None, **settings):
        source = source_of(data, model=model, loss=settings.pop("loss", None), batch=batch, rng=rng, carry_state=None)
        calls.append({"model": model, "batches": source.batches, "loss": source.loss, **settings})
        history = History()
        history.append(1.0, 1.0, 1.0)
        return history

    monkeypatch.setattr(train, "fit", fit)
    return calls


def test_what_the_defaults_build(capsys, fitted):
    run(capsys, "adding")
    run(capsys, "text", "--sample", "0")
    adding, text = fitted
    layer = adding["model"].recurrent
    assert (layer.input_size, layer.hidden_size, layer.activation.name, layer.backend) == (2, 100, "relu", "fused")
    np.testing.assert_array_equal(layer.W_hh.data, np.eye(100))
    assert adding["model"].readout == "last"
    assert adding["loss"] is losses.mse
    x, y = next(adding["batches"])
    assert (x.shape, y.shape) == ((50, 16, 2), (16, 1))
    layer = text["model"].recurrent
    assert (layer.input_size, layer.hidden_size, layer.activation.name, layer.backend) == (64, 256, "tanh", "fused")
    np.testing.assert_allclose(layer.W_hh.data @ layer.W_hh.data.T, np.eye(256), atol=1e-5)
    assert text["loss"] is losses.cross_entropy
    assert text["carry_state"] is True
    assert next(text["batches"]).ids_in.shape == (20, 32)
    for call, updates in ((adding, 20_000), (text, 4_000)):
        assert isinstance(call["optimizer"], optim.Adam)
        assert (call["clip_norm"], call["max_updates"], call["progress"]) == (1.0, updates, None)


@pytest.mark.parametrize("task", ["adding", "text"])
def test_the_options_that_all_tasks_have(capsys, fitted, file, task):
    shared = "--hidden 7 --batch 3 --lr 0.5 --clip inf --max-updates 9 --backend graph --optimizer sgd --no-progress"
    run(capsys, task, *shared.split(), *(["--file", str(file)] if task == "text" else []))
    call = fitted[0]
    assert call["model"].recurrent.hidden_size == 7
    assert call["model"].recurrent.backend == "graph"
    assert next(call["batches"])[0].shape[1] == 3
    assert type(call["optimizer"]) is optim.SGD
    assert call["optimizer"].lr == 0.5
    assert (call["clip_norm"], call["max_updates"], call["progress"]) == (math.inf, 9, False)


def test_optimizers_and_cells_by_name(capsys, fitted):
    for name in ("sgd", "rmsprop", "adagrad", "adam", "adamw"):
        run(capsys, "adding", "--hidden", "5", "--optimizer", name)
        assert type(fitted.pop()["optimizer"]).__name__.lower() == name
    for options, layer in ([], "RecurrentLayer"), (["--cell", "lstm"], "LSTMLayer"), (["--cell", "gru"], "GRULayer"):
        run(capsys, "adding", "--hidden", "5", *options)
        assert type(fitted.pop()["model"].recurrent).__name__ == layer


def test_init_and_activation(capsys, fitted):
    for init, given, activation in (
        ("irnn", None, "relu"),
        ("glorot", None, "tanh"),
        ("identity", "relu", "relu"),
        ("irnn", "relu", "relu"),
        ("orthogonal", "sigmoid", "sigmoid"),
    ):
        options = ["--init", init, *(["--activation", given] if given else [])]
        run(capsys, "adding", "--hidden", "30", *options)
        layer = fitted.pop()["model"].recurrent
        assert layer.activation.name == activation
        W = layer.W_hh.data
        assert np.allclose(W, np.eye(30)) is (init in ("irnn", "identity"))
        assert np.allclose(W @ W.T, np.eye(30), atol=1e-5) is (init != "glorot")
        assert bool(np.abs(layer.W_xh.data).max() < 0.01) is (init == "irnn")


def test_the_learning_rate_of_text_falls_to_0(capsys, file, monkeypatch):
    rates = []
    step = optim.Adam.step
    monkeypatch.setattr(optim.Adam, "step", lambda self: rates.append(self.lr) or step(self))
    run(capsys, *small_text(file, max_updates=4, lr=0.04))
    np.testing.assert_allclose(rates, [0.04, 0.03, 0.02, 0.01])


def test_seeds_change_the_model_and_the_data(capsys, fitted):
    for seed in ("0", "0", "1"):
        run(capsys, "adding", "--init", "glorot", "--seed", seed)
    W = [call["model"].recurrent.W_hh.data for call in fitted]
    x = [next(call["batches"])[0] for call in fitted]
    for one, same, other in (W, x):
        np.testing.assert_array_equal(one, same)
        assert (one != other).any()


def test_one_thread_unless_told_otherwise(monkeypatch, fitted):
    told = []
    monkeypatch.setattr(train, "set_num_threads", told.append)
    main(["train", "adding", "--hidden", "4"])
    main(["train", "adding", "--hidden", "4", "--threads", "3"])
    assert told == [1, 3]


def test_the_literal_defaults(monkeypatch):
    """What a user who reads the help relies on."""
    seen = []
    monkeypatch.setattr(train, "built_task", lambda arguments: seen.append(vars(arguments)) or exit(0))
    for task in ("adding", "text"):
        assert main(["train", task]) == 0
    shared = {
        "backend": "fused",
        "optimizer": "adam",
        "clip": 1.0,
        "threads": 1,
        "seed": 0,
        "checkpoint_every": 500,
        "keep": 3,
    }
    shared |= dict.fromkeys(("checkpoint", "save", "init", "activation")) | {"resume": False, "no_progress": False}
    shared |= {"cell": "elman"}
    adding = {"hidden": 100, "batch": 16, "lr": 1e-3, "max_updates": 20_000, "task_T": 50}
    text = {"hidden": 256, "batch": 32, "lr": 4e-3, "max_updates": 4_000, "embedding": 64, "chunk": 20, "file": None}
    text |= {"encoding": None, "sample": 400, "evaluate_every": None}
    for found, own in zip(seen, (adding, text), strict=True):
        assert {name: value for name, value in found.items() if name not in ("run", "task")} == shared | own
    assert (learning.SEQUENCES, train.TEMPERATURE, learning._WINDOW, learning._INTERVAL) == (1000, 0.7, 50, 200)


# --- errors -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["adding", "--max-updates", "0"], "argument --max-updates: expected a whole number ≥ 1, got '0'"),
        (["adding", "--hidden", "many"], "argument --hidden: expected a whole number ≥ 1, got 'many'"),
        (["adding", "--steps-in-time", "2.5"], "argument --steps-in-time: expected a whole number ≥ 1, got '2.5'"),
        (["adding", "--steps-in-time", "1"], "AddingTask: T must be an int ≥ 2, got 1"),
        (["adding", "--threads", "2000"], "set_num_threads: n must be at most 1024, got 2000: try "),
        (["adding", "--seed", "-1"], "argument --seed: expected a whole number ≥ 0, got '-1'"),
        (["adding", "--lr", "0"], "argument --lr: expected a positive number, got '0'"),
        (["adding", "--lr", "nan"], "argument --lr: expected a positive number, got 'nan'"),
        (["adding", "--lr", "inf"], "Adam: lr must be a number ≥ 0, got inf"),
        (["adding", "--clip", "-1"], "argument --clip: expected a positive number, got '-1'"),
        (["adding", "--optimizer", "lion"], "argument --optimizer: invalid choice: 'lion' (choose from "),
        (["adding", "--init", "xavier"], "argument --init: invalid choice: 'xavier' (choose from "),
        (
            ["adding", "--activation", "tanh"],
            "RecurrentLayer: init='irnn' is a layer of rectifiers, got activation='tanh'",
        ),
        (["text", "--chunk", "0"], "argument --chunk: expected a whole number ≥ 1, got '0'"),
        (["text", "--sample", "-1"], "argument --sample: expected a whole number ≥ 0, got '-1'"),
    ],
)
def test_train_refuses(capsys, arguments, message):
    assert main(["train", *arguments]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"minirnn: error: {message}")
    assert err.count("\n") == 1


def test_text_refuses_a_file(capsys, tmp_path):
    path = tmp_path / "some.txt"
    for content, message in (
        (None, f"TextTask: path must name a text file in UTF-8, got '{path}': No such file or directory: check the "),
        (
            "too short for 32 streams of 20 steps ",
            "TextTask.streams: N=32 streams in chunks of chunk=20 steps need at ",
        ),
    ):
        if content is not None:
            path.write_text(content)
        assert main(["train", "text", "--file", str(path)]) == 2
        out, err = capsys.readouterr()
        assert out == ""
        assert err.startswith(f"minirnn: error: {message}")
        assert err.count("\n") == 1


def test_a_text_in_another_encoding(capsys, tmp_path):
    path, model = tmp_path / "old.txt", tmp_path / "model.npz"
    path.write_bytes(("naïve café, " * 200).encode("cp1252"))
    text = small_text(path, max_updates=2, sample=0)
    assert main(["train", *text]) == 2
    assert capsys.readouterr().err == (
        f"minirnn: error: TextTask: path must name a text file in UTF-8, got '{path}', which has the byte 0xef at "
        "offset 2: if it is text in another encoding, try --encoding cp1252, say\n"
    )
    run(capsys, *text, "--encoding", "cp1252", "--save", str(model))
    assert load_checkpoint(model).settings["encoding"] == "cp1252"
    for more in ([], ["--file", str(path)]):
        assert main(["eval", str(model), *more]) < 2
        assert "note:" not in capsys.readouterr().out
    path.write_text("naïve café, " * 200, encoding="utf-8")
    assert main(["eval", str(model), "--encoding", "utf-8"]) < 2
    assert main(["inspect", str(model), "--encoding", "utf-8"]) == 0
    assert "note:" not in capsys.readouterr().out
    assert main(["eval", str(model)]) == 2
    assert capsys.readouterr().err.endswith(
        " where the text is that it was trained on, and by --encoding NAME in what it is\n"
    )
    assert main(["train", "text", "--encoding", "cp1252"]) == 2
    said = "--encoding: expected --file PATH with it, of the file that is in it, got none: leave it out"
    assert capsys.readouterr().err == f"minirnn: error: {said}\n"
    assert main(["train", *text, "--encoding", "klingon"]) == 2
    said = "minirnn: error: TextTask: encoding must be the name of one, got 'klingon' (str): try --encoding cp1252\n"
    assert capsys.readouterr().err == said


def test_a_loss_that_is_not_finite_ends_the_command_with_one_line(capsys):
    assert main(["train", "adding", *QUICK, "--lr", "1e30", "--clip", "inf", "--optimizer", "sgd"]) == 2
    out, err = capsys.readouterr()
    assert "parameters" in out
    assert re.fullmatch(r"minirnn: error: fit: update \d was not made: the loss is \w+\. .* detect_anomaly: .*\n", err)


# --- checkpoints ------------------------------------------------------------------------------------------------------


def test_a_run_that_is_resumed_ends_as_if_it_had_never_stopped(capsys, tmp_path):
    whole = without_times(run(capsys, "adding", *QUICK)[1])
    there = ["--checkpoint", str(tmp_path / "run"), "--checkpoint-every", "3"]
    run(capsys, "adding", *QUICK[:-1], "5", *there)
    assert sorted(path.name for path in (tmp_path / "run").glob("c*.npz"))[-1] == "checkpoint-00000005.npz"
    said = f"going on after 5 updates, from '{tmp_path / 'run' / 'checkpoint-00000005.npz'}'\n\n"
    assert without_times(run(capsys, "adding", *QUICK, *there, "--resume")[1]) == said + whole
    anew = run(capsys, "adding", *QUICK, "--checkpoint", str(tmp_path / "new"), "--resume")[1]
    said = f"--resume: there is no checkpoint in '{tmp_path / 'new'}', so a new run begins\n\n"
    assert without_times(anew) == said + whole


def test_a_solved_run_that_is_resumed_stays_as_it_is(capsys, tmp_path):
    options = ["adding", "--steps-in-time", "4", "--hidden", "16", "--lr", "0.01", "--checkpoint", str(tmp_path)]
    status, out = run(capsys, *options)
    assert status == 0
    files = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    status, again = run(capsys, *options, "--resume")
    assert status == 0
    assert without_times(again).partition("\n\n")[2] == without_times(out)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == files


def test_a_text_that_is_resumed(capsys, file, tmp_path):
    text = small_text(file, max_updates=6)
    whole = run(capsys, *text)[1]
    there = ["--checkpoint", str(tmp_path / "run"), "--checkpoint-every", "2"]
    run(capsys, *text, *there)
    for path in sorted((tmp_path / "run").glob("checkpoint-*.npz"))[1:]:
        path.unlink()
    again = run(capsys, *text, *there, "--resume")[1]
    assert without_times(again).splitlines()[-20:] == without_times(whole).splitlines()[-20:]
    for path in (tmp_path / "run").glob("checkpoint-*.npz"):
        path.unlink()
    file = file.replace(tmp_path / "moved.txt")  # the same text is the same, wherever it is and however it is written
    file.write_text(SENTENCE * 60, encoding="utf-16")
    text = [*small_text(file, max_updates=4), "--encoding", "utf-16"]
    run(capsys, *small_text(file, max_updates=6), "--encoding", "utf-16", *there)
    whole = load_checkpoint(tmp_path / "run" / "checkpoint-00000004.npz")
    for path in sorted((tmp_path / "run").glob("checkpoint-*.npz"))[1:]:
        path.unlink()
    run(capsys, *text, *there, "--resume")  # ends earlier, at the rates of the run
    parted = load_checkpoint(tmp_path / "run" / "checkpoint-00000004.npz")
    assert parted.parameters["head.bias"].tolist() == whole.parameters["head.bias"].tolist()
    assert main(["train", *small_text(file, max_updates=7), "--encoding", "utf-16", *there, "--resume"]) == 2
    assert capsys.readouterr().err == (
        f"minirnn: error: --resume: expected --max-updates 6 at most, by which the learning rate of the run in "
        f"'{tmp_path / 'run'}' has fallen to 0, got 7: begin a longer run in another directory\n"
    )
    file.write_text(SENTENCE * 61, encoding="utf-16")
    assert main(["train", *text, *there, "--resume"]) == 2
    assert capsys.readouterr().err == (
        f"minirnn: error: --resume: expected the same text as the run in '{tmp_path / 'run'}' was begun with, got "
        "another: give it the same options, or choose another directory\n"
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--resume"], "--resume: expected --checkpoint DIR with it, which says where to go on from, got none"),
        (
            ["--checkpoint", "{}", "--resume", "--hidden", "7"],
            "--resume: expected --hidden 6 as the run in '{}' was begun with, got 7: give it the same options, or "
            "choose another directory",
        ),
        (
            ["--checkpoint", "{}", "--resume", "--lr", "0.5"],
            "--resume: expected --lr 0.001 as the run in '{}' was begun with, got 0.5: give it the same options, or "
            "choose another directory",
        ),
        (
            ["--checkpoint", "{}", "--resume", "--steps-in-time", "9"],
            "--resume: expected --steps-in-time 4 as the run in '{}' was begun with, got 9: give it the same "
            "options, or choose another directory",
        ),
        (
            ["--checkpoint", "{}"],
            "--checkpoint: expected a directory without a run, got '{}', which holds one: go on with it by --resume, "
            "or choose another",
        ),
    ],
)
def test_what_cannot_be_resumed(capsys, tmp_path, options, message):
    run(capsys, "adding", *QUICK, "--checkpoint", str(tmp_path))
    assert main(["train", "adding", *QUICK, *(option.format(tmp_path) for option in options)]) == 2
    assert capsys.readouterr().err == f"minirnn: error: {message.format(tmp_path)}\n"


# --- as a process -----------------------------------------------------------------------------------------------------


def start(*arguments, **streams):
    environment = {**os.environ, "PYTHONIOENCODING": "utf-8", "PYTHONUNBUFFERED": ""}
    command = [sys.executable, "-m", "minirnn", "train", *map(str, arguments)]
    return subprocess.Popen(command, env=environment, **streams)


def test_ctrl_c_ends_with_the_summary_so_far(file):
    endless = small_text(file, max_updates=10_000_000, evaluate_every=20)
    process = start(*endless, stdout=subprocess.PIPE, stderr=subprocess.PIPE, encoding="utf-8")
    before = ""
    while not re.search(r"^ +20 .*\n", before, re.M):  # the first row: training is under way
        line = process.stdout.readline()
        assert line, process.stderr.read()
        before += line
    process.send_signal(signal.SIGINT)
    after, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert err == ""
    figures = r"held-out bits per character \d\.\d{3}( after update \d+)?, bigram \S+, unigram \S+"
    assert re.search(rf"^interrupted: {figures}; \d+ updates in \d+\.\d s; training accuracy \d+\.\d %$", after, re.M)
    assert "training loss, nats (1.44 bits) per character" in after
    assert "a sample, at temperature 0.7:" in after


def test_ctrl_c_before_the_first_evaluation(capsys, file, monkeypatch):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(learning, "bits_per_character", interrupt)
    status, out = run(capsys, *small_text(file, max_updates=30))
    assert status == 130
    assert verdict(out).startswith("interrupted: held-out bits per character not measured yet, bigram ")
    assert "; 3 updates in " in out
    assert out.count("training loss") == 1


def test_ctrl_c_before_the_first_update(capsys, monkeypatch):
    def batches(self, N, rng):
        raise KeyboardInterrupt
        yield

    monkeypatch.setattr(AddingTask, "batches", batches)
    status, out = run(capsys, "adding", *QUICK)
    assert status == 130
    assert re.search(r"^interrupted: .*; 0 updates in 0\.0 s\n\nno updates, no loss curve$", out, re.M)


def test_on_a_terminal_there_is_a_bar_with_loss_gradient_norm_and_updates_per_second():
    _, out, shown = run_on_a_terminal(
        lambda stderr: start("adding", *QUICK, stdout=subprocess.PIPE, stderr=stderr),
    )
    last = shown.rstrip().split("\r")[-1]
    assert re.match(r"100%\|█+\| 12/12 ", last)  # although this terminal does not know its size
    assert "updates/s" in last
    assert re.search(r"loss \d\.\d{4}, grad norm \d", last)
    assert b"\r" not in out
    assert b"not solved: " in out
