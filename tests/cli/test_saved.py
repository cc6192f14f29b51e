import contextlib
import io
import json
import os
import re
import shutil
import threading

import numpy as np
import pytest
from commands import error, run
from error_texts import raises

from minirnn import bptt, losses, optim
from minirnn.checkpoints import CheckpointError, load_checkpoint, save_checkpoint
from minirnn.cli import main, saved
from minirnn.tasks import TASKS, SequenceTask, VowelsTask
from minirnn.training import Checkpointing, accuracy, bits_per_character, fit, measure
from minirnn.training.saving import history_of

QUICK = ["--steps-in-time", "6", "--hidden", "5", "--batch", "4", "--max-updates", "12"]
SMALL = ["--hidden", "8", "--embedding", "4", "--batch", "2", "--chunk", "6", "--max-updates", "12"]
TEXT = [*SMALL, "--lr", "0.02", "--sample", "20", "--seed", "3"]
SENTENCE = "the cat sat on the mat, and the dog sat on the log.\n"
SAVE = "save a model by minirnn train … --save PATH"


def parsed(capsys, *arguments):
    return json.loads(run(capsys, *arguments, "--json")[1], parse_constant=pytest.fail)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A directory with a saved model of the adding problem; each test gets a copy."""
    path = tmp_path_factory.mktemp("trained") / "model.npz"
    with contextlib.redirect_stdout(io.StringIO()):  # whichever test asks first does not see it
        main(["train", "adding", *QUICK, "--save", str(path)])
    return path


@pytest.fixture
def model(trained, tmp_path):
    """A saved model of the adding problem."""
    return shutil.copy(trained, tmp_path / "model.npz")


@pytest.fixture
def text(capsys, tmp_path):
    """A saved model of a text, and what `train` printed; the text is text.txt beside it."""
    (tmp_path / "text.txt").write_text(SENTENCE * 30, encoding="utf-8")
    path = tmp_path / "text.npz"
    _, out = run(capsys, "train", "text", "--file", tmp_path / "text.txt", *TEXT, "--save", path)
    return path, out


def rewritten(path, *, drop=(), **settings):
    """Write the model again with other settings, as anybody could; return the path."""
    it = load_checkpoint(path)
    kept = {name: value for name, value in it.settings.items() if name not in drop}
    other = path.with_name("other.npz")
    model = saved.load(path).model
    save_checkpoint(other, model=model, settings=kept | settings, position=it.position, extra=it.extra)
    return other


# --- train --save -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("task", ["adding", "text"])
def test_what_is_saved_is_what_a_checkpoint_holds(capsys, tmp_path, task):
    (tmp_path / "text.txt").write_text(SENTENCE * 30, encoding="utf-8")
    how = ["--file", tmp_path / "text.txt", *TEXT] if task == "text" else QUICK
    path = tmp_path / "model.npz"
    _, out = run(capsys, "train", task, *how, "--checkpoint", tmp_path / "run", "--save", path)
    assert f"\nsaved after 12 updates: {path}\n" in out
    one, other = load_checkpoint(path), load_checkpoint(tmp_path / "run" / "checkpoint-00000012.npz")
    assert one.settings == other.settings
    assert not {"save", "checkpoint", "resume", "version", "run"} & one.settings.keys()
    assert (one.metrics, one.position, one.module) == (other.metrics, other.position, other.module)
    assert one.position == [12, 0]
    for name, array in other.parameters.items():
        np.testing.assert_array_equal(one.parameters[name], array)
    np.testing.assert_array_equal(history_of(one).loss, history_of(other).loss)
    assert history_of(one).evaluations == history_of(other).evaluations
    assert run(capsys, "eval", path)[1] == run(capsys, "eval", tmp_path / "run")[1]


@pytest.mark.parametrize("made", [0, 3])
def test_ctrl_c_saves_what_there_is(capsys, monkeypatch, tmp_path, made):
    batches = SequenceTask.batches

    def interrupted(self, N, rng):
        for k, batch in enumerate(batches(self, N, rng)):
            if k == made:
                raise KeyboardInterrupt
            yield batch

    monkeypatch.setattr(SequenceTask, "batches", interrupted)
    path = tmp_path / "model.npz"
    path.write_bytes(b"an older one")
    status, out = run(capsys, "train", "adding", *QUICK, "--save", path)
    assert status == 130
    if made:
        assert f"\nsaved after 3 updates: {path}\n" in out
        assert saved.load(path).history.updates == 3
    else:
        assert f"\nnot saved, because no update was made: {path}\n" in out
        assert path.read_bytes() == b"an older one"


# --- load -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("task", "options"),
    [
        ("adding", ["--cell", "lstm", "--clip", "inf", "--lr", "1e-05", "--optimizer", "sgd"]),
        ("adding-ragged", ["--cell", "gru", "--init", "glorot"]),
        ("echo", ["--delay", "2", "--activation", "sigmoid", "--init", "normal", "--backend", "graph", "--seed", "7"]),
    ],
)
def test_task_model_and_arguments_are_those_of_the_training(capsys, tmp_path, task, options):
    path = tmp_path / "model.npz"
    shared = ["--hidden", "5", "--batch", "3", "--max-updates", "3", "--save", path]
    run(capsys, "train", task, *shared, *options)
    checkpoint, arguments, built, model, history = saved.load(path)
    then = {name: value for name, value in checkpoint.settings.items() if name != "task"}
    assert {name: getattr(arguments, name) for name in then} == then
    assert type(built) is TASKS[task]
    assert (model.recurrent.backend, history.updates) == (then["backend"], 3)
    assert model.state_dict().keys() == checkpoint.parameters.keys()
    for name, array in model.state_dict().items():
        np.testing.assert_array_equal(array, checkpoint.parameters[name])


def test_files_that_hold_no_model_of_train(tmp_path, model):
    def refused(path, message, kind=CheckpointError, of=None):
        with raises(kind, message.format(repr(str(of or path)))):
            saved.load(path)

    it, other = saved.load(model), tmp_path / "other.npz"
    it.model.save(other)
    weights = "{} holds weights alone, and not what they are the weights of: " + SAVE
    refused(other, f"{weights}; in Python model.load(path) takes these")
    fit(
        it.model,
        it.task,
        optimizer=optim.SGD(it.model.parameters(), lr=0.1),
        max_updates=2,
        rng=0,
        checkpoint=Checkpointing(tmp_path / "run", settings={"hidden": 5}),
    )
    unnamed = "{} cannot be built again: it does not say of which task it is, as one of minirnn train does: " + SAVE
    refused(tmp_path / "run", unnamed, of=tmp_path / "run" / "checkpoint-00000002.npz")
    other.write_bytes(model.read_bytes()[:-100])
    damaged = "load_checkpoint: {} is damaged: its end is missing or was added to. Use an earlier checkpoint, or a copy"
    refused(other, damaged)
    (tmp_path / "empty").mkdir()
    empty = "{} is a directory without checkpoints: give the file of one, or the directory that was given to minirnn "
    refused(tmp_path / "empty", f"{empty}train … --checkpoint")
    nowhere = "load_checkpoint: cannot read {}: No such file or directory: check the path"
    refused(tmp_path / "nowhere.npz", nowhere, FileNotFoundError)
    save_checkpoint(other, model=it.model, settings=it.checkpoint.settings)
    refused(other, "{} cannot be built again: it lacks the history of its training: " + SAVE)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"task": "os.system"}, "its task 'os.system' is none: minirnn tasks lists those there are"),
        ({"task": ["adding"]}, "its task ['adding'] is none: minirnn tasks lists those there are"),
        ({"cell": "builtins.exec"}, "--cell must be one of 'elman', 'lstm', 'gru', got 'builtins.exec'"),
        ({"init": "nobody"}, "RecurrentLayer: recurrent_initializer must be "),
        ({"init": "zeros", "activation": "__import__"}, "RecurrentLayer: activation must be "),
        ({"backend": "cuda"}, "RecurrentLayer: backend must be one of 'fused', 'graph', got 'cuda'"),
        ({"task_T": [6]}, "AddingTask: T must be an int ≥ 2, got [6] (list): try 2"),
        ({"task_T": 1}, "AddingTask: T must be an int ≥ 2, got 1: try 2 or more"),
        ({"hidden": 10**12}, "it is set to --hidden 1000000000000, and its recurrent.W_hh is of shape (5, 5)"),
        ({"hidden": "5"}, "it is set to --hidden 5, and its recurrent.W_hh is of shape (5, 5)"),
        ({"drop": ("cell", "seed")}, "its settings lack cell, seed, which minirnn train saves of every task"),
        ({"drop": ("task_T",)}, "'Namespace' object has no attribute 'task_T'"),
        (
            {"activation": "tanh"},
            "RecurrentLayer: init='irnn' is a layer of rectifiers, got activation='tanh': try activation='relu'",
        ),
        ({"cell": "gru"}, "SequenceModel.load_state_dict: nothing was loaded, because of entries that do not fit:\n"),
    ],
)
def test_settings_that_are_refused(model, settings, message):
    other = rewritten(model, **settings)
    with pytest.raises(CheckpointError) as caught:
        saved.load(other)
    assert str(caught.value).startswith(f"{str(other)!r} cannot be built again: {message}")


def test_settings_that_are_not_used_are_not_looked_at(model):
    assert saved.load(rewritten(model, version="9", run="os.system", max_updates="x")).history.updates == 12


def test_a_task_whose_data_are_not_installed(capsys, monkeypatch, model):
    def missing(self):
        raise ImportError("VowelsTask: its data are part of sktime, which is not installed: try pip install it")

    monkeypatch.setattr(VowelsTask, "__init__", missing)
    other = rewritten(model, task="vowels", drop=("task_T",))
    assert error(capsys, "eval", other).startswith("VowelsTask: its data are part of sktime, which is not installed:")


# --- text that has changed --------------------------------------------------------------------------------------------


def test_a_text_that_has_moved_or_changed(capsys, tmp_path, text):
    file, moved, (path, _) = tmp_path / "text.txt", tmp_path / "moved.txt", text
    first = run(capsys, "eval", path)
    assert "note: " not in first[1]
    assert parsed(capsys, "eval", path)["same_text"] is True
    file.rename(moved)
    assert error(capsys, "eval", path) == (
        f"{str(path)!r} was trained on the text {str(file)!r}, which is not there: say where it is by --file PATH"
    )
    assert run(capsys, "eval", path, "--file", moved) == first
    moved.write_text(SENTENCE * 40, encoding="utf-8")
    assert parsed(capsys, "eval", path, "--file", moved)["same_text"] is False
    assert (
        "\nnote: this is not the text that it was trained on, though " in run(capsys, "eval", path, "--file", moved)[1]
    )


@pytest.mark.parametrize(
    ("changed", "characters", "which"),
    [
        (SENTENCE * 15 + SENTENCE.replace("cat", "cXt") * 15, 17, "'X' new"),
        (SENTENCE.replace("c", "C") * 30, 16, "'c' gone, 'C' new"),
        (SENTENCE.replace("c", "t") * 30, 15, "'c' gone"),
    ],
)
def test_a_text_of_other_characters(tmp_path, text, changed, characters, which):
    file, (path, _) = tmp_path / "text.txt", text
    file.write_text(changed, encoding="utf-8")
    with raises(
        CheckpointError,
        f"{str(path)!r} cannot be built again: it was trained on a text of 16 different characters, and {str(file)!r} "
        f"has {characters}: {which}. Say by --file PATH where the text is that it was trained on",
    ):
        saved.load(path)


def test_a_text_whose_characters_were_not_saved(text):
    other = rewritten(text[0], drop=("text",))
    with raises(
        CheckpointError,
        f"{str(other)!r} cannot be built again: it does not say which characters it knows, as an earlier minirnn saved "
        "it: go on with its run by --checkpoint DIR --resume --save PATH",
    ):
        saved.load(other)


# --- eval -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("task", "options"),
    [("adding", ["--steps-in-time", "6"]), ("copy", ["--steps-in-time", "5", "--seed", "4"]), ("adding-ragged", [])],
)
def test_the_figure_is_the_one_that_train_printed(capsys, tmp_path, task, options):
    path = tmp_path / "model.npz"
    status, out = run(capsys, "train", task, *options, "--hidden", "5", "--max-updates", "5", "--save", path)
    figures = re.search(r"^(?:not )?solved: held-out .*, baseline \d\.\d+", out, re.M)[0]
    again, printed = run(capsys, "eval", path)
    assert again == status
    assert figures in " ".join(printed.split())
    it = saved.load(path)
    held_out = it.task.evaluation_batch(1000, it.arguments.seed)
    found = parsed(capsys, "eval", path)
    assert found["figure"] == measure(it.model, it.task, held_out)
    assert (found["seed"], found["sequences"], found["updates"]) == (it.arguments.seed, 1000, 5)
    if it.task.kind == "classification":
        assert found["accuracy"] == accuracy(it.model(held_out[0])[0].numpy(), held_out[1])
        assert f"\naccuracy: {found['accuracy']:.4f} of the targets right\n" in printed
    else:
        assert "accuracy" not in found
        assert "accuracy" not in printed


def test_the_figure_of_a_text_is_the_one_that_train_printed(capsys, text):
    path, out = text
    figures = re.search(r"^(?:not )?solved: held-out .*, unigram \d\.\d+", out, re.M)[0]
    status, printed = run(capsys, "eval", path)
    assert figures in printed.splitlines()
    assert status == (0 if figures.startswith("solved") else 1)
    it = saved.load(path)
    assert parsed(capsys, "eval", path)["figure"] == bits_per_character(it.model, it.task)


def test_what_eval_prints(capsys, monkeypatch, model):
    _, out = run(capsys, "eval", model, "--sequences", "50", "--seed", "9")
    assert re.fullmatch(
        "adding, T = 6: add the two marked numbers of a sequence, one in each half\n"
        "RecurrentLayer, D = 2, H = 5, relu, init irnn; 46 parameters, after 12 updates\n"
        "\n"
        r"not solved: held-out mean squared error \d\.\d{4}, baseline 0\.1667; 50 sequences,"
        "\n  seed 9\n"
        r"to be solved: mean squared error below 0\.01 \(always predicting 1 gives 1/6\)"
        "\n",
        out,
    )
    monkeypatch.setattr(TASKS["adding"], "goal", 10.0)
    status, out = run(capsys, "eval", model)
    assert status == 0
    assert "\nsolved: held-out " in out
    assert parsed(capsys, "eval", model)["solved"] is True


def test_a_model_may_come_from_a_pipe(capsys, model):
    begin, end = os.pipe()
    writer = threading.Thread(target=lambda: (os.write(end, model.read_bytes()), os.close(end)))
    writer.start()
    with contextlib.closing(os.fdopen(begin)):
        assert run(capsys, "eval", f"/dev/fd/{begin}") == run(capsys, "eval", model)
    writer.join()


def test_eval_at_another_length_on_other_data(capsys, model):
    it = saved.load(model)
    found = parsed(capsys, "eval", model, "--steps-in-time", "11", "--sequences", "30", "--seed", "2")
    task = TASKS["adding"](11)
    assert found["figure"] == measure(it.model, task, task.evaluation_batch(30, 2))
    assert (found["T"], found["sequences"], found["seed"]) == (11, 30, 2)
    assert run(capsys, "eval", model, "--steps-in-time", "11")[1].startswith("adding, T = 11 (trained with 6): ")


def test_weights_that_are_not_finite_are_not_solved(capsys, model):
    it = saved.load(model)
    it.model.head.bias.data = np.full(1, np.nan, np.float32)
    save_checkpoint(model, model=it.model, settings=it.checkpoint.settings, extra=it.checkpoint.extra)
    found = parsed(capsys, "eval", model)
    assert (found["figure"], found["solved"]) == (None, False)


WHOLE = "expected a task of sequences with it, got text, whose held-out part is read whole: leave it out"


@pytest.mark.parametrize(
    ("which", "options", "message"),
    [
        ("text", ["--sequences", "5"], f"--sequences: {WHOLE}"),
        ("text", ["--steps-in-time", "5"], f"--steps-in-time: {WHOLE}"),
        ("model", ["--file", "x"], "--file: expected a model of text or csv with it, got one of adding: leave it out"),
        ("model", ["--steps-in-time", "1"], "AddingTask: T must be an int ≥ 2, got 1: try 2 or more"),
        (
            "model",
            ["--sequences", "0"],
            "argument --sequences: expected a whole number ≥ 1, got '0'; see minirnn eval --help",
        ),
    ],
)
def test_eval_refuses(capsys, request, which, options, message):
    made = request.getfixturevalue(which)
    assert error(capsys, "eval", made[0] if which == "text" else made, *options) == message


def test_a_task_without_T_has_no_other_length(capsys, tmp_path):
    path = tmp_path / "model.npz"
    run(capsys, "train", "reber", "--hidden", "4", "--max-updates", "2", "--save", path)
    assert error(capsys, "eval", path, "--steps-in-time", "9") == (
        "--steps-in-time: expected a task of sequences of any length T with it, got reber"
    )
    assert 0 < parsed(capsys, "eval", path)["accuracy"] < 1  # the padding does not count as right or wrong


# --- sample -----------------------------------------------------------------------------------------------------------


def test_the_sample_is_the_one_of_the_training_and_goes_on_from_a_prompt(capsys, text):
    path, out = text
    status, printed = run(capsys, "sample", path, "--length", "20")
    assert status == 0
    head, _, body = printed.partition("\n\n")
    assert body.rstrip("\n") == out[out.index("a sample, at temperature 0.7:") :].rstrip("\n")
    assert " ".join(head.split()) == (
        "text: RecurrentLayer, D = 4, H = 8, tanh, init orthogonal; 312 parameters, after 12 updates"
    )
    first, same, other = (
        run(capsys, "sample", path, "--prompt", "the cat", "--length", "30", "--temperature", "1.5", *seed)[1]
        for seed in ([], ["--seed", "3"], ["--seed", "4"])
    )
    assert first == same != other
    _, _, written = first.partition("a sample, at temperature 1.5:\n\n    ")
    assert written.startswith("the cat")
    assert 30 < len(written.replace("\n    ", "\n")) <= 7 + 30 + 1
    assert set(written) <= set(SENTENCE)


def test_sample_shows_no_control_characters(capsys, tmp_path):
    (tmp_path / "odd.txt").write_text("\x1b[31mred\x07 " * 50, encoding="utf-8")
    path = tmp_path / "odd.npz"
    _, out = run(capsys, "train", "text", "--file", tmp_path / "odd.txt", *TEXT, "--save", path)
    out += run(capsys, "sample", path, "--prompt", "\x1b[31m", "--length", "100")[1]
    assert not {"\x1b", "\x07"} & set(out)
    assert "    ·[31m" in out


def test_sample_refuses(capsys, model, text):
    path, _ = text
    assert error(capsys, "sample", model) == (
        f"sample: expected a model of text, got one of adding in {str(model)!r}: minirnn eval measures it"
    )
    assert error(capsys, "sample", path, "--prompt", "Zoo") == (
        "TextTask.encode: text must consist of the 16 characters of the vocabulary, got 'Z' too: leave them out or "
        "replace them"
    )
    prompt = path.with_name("prompt.txt")
    prompt.write_bytes(b"caf\xe9")
    for options, message in (
        (["--temperature", "-1"], "argument --temperature: expected a number ≥ 0, got '-1'; see minirnn sample --help"),
        (["--temperature", "inf"], "sample: temperature must be a number ≥ 0, got inf: try 1.0"),
        (["--top-k", "0"], "argument --top-k: expected a whole number ≥ 1, got '0'; see minirnn sample --help"),
        (["--top-k", "17"], "sample: top_k must be at most 16, the number of characters, got 17: leave it out"),
        (["--prompt", "a", "--prompt-file", prompt],
         "--prompt-file: expected no --prompt with it, got both: leave one of them out"),
        (["--prompt-file", prompt],
         f"--prompt-file must name a text file in UTF-8, got {str(prompt)!r}, which has the byte 0xe9 at offset 3: if "
         "it is text in another encoding, try --encoding cp1252, say"),
    ):  # fmt: skip
        assert error(capsys, "sample", path, *options) == message
    assert error(capsys, "eval", model, "--encoding", "cp1252") == (
        "--encoding: expected a model of text or csv with it, got one of adding: leave it out"
    )


@pytest.mark.parametrize("sentence", [SENTENCE, SENTENCE.strip()])
def test_a_sample_needs_no_text(capsys, tmp_path, sentence):
    path, file, prompt = tmp_path / "model.npz", tmp_path / "text.txt", tmp_path / "prompt.txt"
    file.write_text(sentence * 30, encoding="utf-8")
    trained = run(capsys, "train", "text", "--file", file, *TEXT, "--save", path)[1]
    file.unlink()
    printed = run(capsys, "sample", path, "--length", "20")[1]
    assert printed.rstrip("\n").endswith(trained[trained.index("a sample, at temperature 0.7:") :].rstrip("\n"))
    assert "which is not there: say where it is by --file PATH" in error(capsys, "eval", path)
    prompt.write_text("the cat\n", encoding="utf-8")
    how = ["--length", "30", "--temperature", "0"]
    first = run(capsys, "sample", path, *how, "--prompt", "the cat")[1]
    assert "\na sample, at temperature 0:\n\n    the cat" in first
    assert first == run(capsys, "sample", path, *how, "--prompt-file", prompt, "--seed", "9")[1]
    of_one = run(capsys, "sample", path, *how[:2], "--top-k", "1", "--prompt", "the cat")[1]
    assert of_one == first.replace("at temperature 0:", "at temperature 0.7, from the 1 likeliest:")


# --- inspect ----------------------------------------------------------------------------------------------------------


def test_the_page_of_a_directory_steps_through_its_checkpoints(capsys, tmp_path):
    there, page = tmp_path / "run", tmp_path / "run.html"
    small = ("--steps-in-time", "6", "--hidden", "5", "--batch", "4", "--max-updates", "9", "--no-progress")
    run(capsys, "train", "adding", *small, "--checkpoint", there, "--checkpoint-every", "2", "--keep", "4")
    status, _ = run(capsys, "inspect", there, "--html", page)
    assert status == 0
    titles = re.findall(r'"title":"([^"]*)"', page.read_text("utf-8"))
    assert titles == [f"adding, T = 6, after {k} updates" for k in (0, 4, 6, 8, 9)]


def test_inspect_a_saved_model(capsys, tmp_path, model):
    page = tmp_path / "bptt.html"
    status, out = run(capsys, "inspect", model, "--html", page)
    assert status == 0
    assert out.startswith(
        "adding, T = 6: add the two marked numbers of a sequence, one in each half\n"
        "RecurrentLayer, D = 2, H = 5, relu, init irnn; 46 parameters, after 12 updates\n"
        "one mini-batch, N = 4, loss "
    )
    assert "untrained" not in out
    assert '"title":"adding, T = 6, after 12 updates"' in page.read_text("utf-8")
    it = saved.load(model)
    x, y = next(it.task.batches(4, np.random.default_rng(0).spawn(2)[1]))
    traced = bptt.trace(it.model, x, lambda predictions: losses.mse(predictions, y))
    found = parsed(capsys, "inspect", model)
    report = bptt.doctor(traced, history=it.history).to_dict()
    assert {name: found[name] for name in report} == report
    assert found["figures"]["updates"] == 12  # of the history
    assert found["model"] == "after 12 updates"
    nowhere = error(capsys, "inspect", model, "--html", tmp_path / "none" / "x.html")
    assert nowhere.startswith("--html: expected a file that can be written, got ")
    found = parsed(capsys, "inspect", model, "--steps-in-time", "9", "--batch", "3", "--seed", "5")["figures"]
    assert (found["T"], found["N"]) == (9, 3)
    assert found["loss"] != parsed(capsys, "inspect", model, "--steps-in-time", "9", "--batch", "3")["figures"]["loss"]


def test_inspect_a_saved_text_and_a_directory(capsys, tmp_path, text):
    path, _ = text
    found = parsed(capsys, "inspect", path)["figures"]
    assert (found["T"], found["N"]) == (6, 2)
    assert parsed(capsys, "inspect", path, "--steps-in-time", "8")["figures"]["T"] == 8
    run(capsys, "train", "adding", *QUICK, "--checkpoint", tmp_path / "run")
    assert ", after 12 updates\n" in run(capsys, "inspect", tmp_path / "run")[1]


def test_what_is_a_path_and_what_a_task(capsys, monkeypatch, tmp_path, model):
    monkeypatch.chdir(tmp_path)
    model.rename("mine")
    assert ", after 12 updates" in run(capsys, "inspect", "mine")[1]  # it exists
    assert error(capsys, "inspect", "yours").startswith("argument TASK: invalid choice: 'yours' (choose from ")
    for path in ("yours.npz", "./yours"):
        name = path.removeprefix("./")
        expected = f"load_checkpoint: cannot read {name!r}: No such file or directory: check the path"
        assert error(capsys, "inspect", path) == expected
    (tmp_path / "adding").mkdir()
    assert ", untrained\n" in run(capsys, "inspect", "adding", *QUICK[:-2])[1]  # a task comes first
    assert error(capsys, "inspect", "./adding").startswith("'adding' is a directory without checkpoints: ")
    assert error(capsys, "inspect", "mine", "--hidden", "3") == (
        "unrecognized arguments: --hidden 3; see minirnn --help"
    )
