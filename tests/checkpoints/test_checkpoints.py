"""Checkpoints: what is in a file, that a run resumes to the same bits, what restoring refuses, a run's directory."""

import math
import os
import pathlib
import subprocess
import sys

import checkpoint_runs as runs
import numpy as np
import pytest
from error_texts import raises

import minirnn as mr
from minirnn import storage
from minirnn.checkpoints import CheckpointDirectory, CheckpointError, load_checkpoint, save_checkpoint
from minirnn.checkpoints.checkpoint import STATES

SCRIPT = pathlib.Path(runs.__file__)


def bits(run):
    """Return everything that a run is made of, as bytes and numbers."""
    rngs_of = [*dict(run["model"].named_generators()).values(), *run["generators"].values()]
    return (
        {name: a.tobytes() for name, a in run["model"].state_dict().items()},
        repr(run["optimizer"].state_dict()),
        [repr(rng.bit_generator.state) for rng in rngs_of],
    )


# --- resuming ---------------------------------------------------------------------------------------------------------


def test_resume_in_a_new_process_gives_the_same_bits(tmp_path):
    """train(20) = train(10), save, new process, train(10): Parameters, optimiser, Generators, byte for byte."""
    whole = {}
    for name in runs.OPTIMIZERS:
        run = runs.build(name)
        runs.train(run, 10)
        save_checkpoint(tmp_path / f"{name}-half.npz", **run)
        runs.train(run, 10)
        whole[name] = save_checkpoint(tmp_path / f"{name}-whole.npz", **run).read_bytes()
    subprocess.run([sys.executable, SCRIPT, "resume", tmp_path], check=True)
    for name, expected in whole.items():
        assert (tmp_path / f"{name}-half.npz").read_bytes() != expected
        assert (tmp_path / f"{name}-resumed.npz").read_bytes() == expected, name


# --- what is in a file ------------------------------------------------------------------------------------------------


def test_a_file_holds_what_was_given(tmp_path):
    run = runs.build()
    runs.train(run, 2)
    state = {"carried": [np.ones((7, 5), np.float32), (np.zeros(()), None)], "history": {"loss": np.arange(3.0)}}
    position = {"update": 2, "where": [1, 0.1, "ä\ud800", None, True, 10**40]}
    settings = {"sizes": (3, 5), "lr": 1e-300}
    metrics = {"loss": np.float32(0.1), "accuracy": math.nan, "worst": math.inf, "n": 3}
    path = save_checkpoint(
        str(tmp_path / "run.npz"), **run, position=position, settings=settings, metrics=metrics, extra=state
    )
    checkpoint = load_checkpoint(path)
    assert (checkpoint.path, checkpoint.version, checkpoint.module) == (tmp_path / "run.npz", 1, "SequenceModel")
    assert checkpoint.position == position
    assert checkpoint.settings == {"sizes": [3, 5], "lr": 1e-300}
    assert repr(checkpoint.metrics) == repr(
        {"loss": float(np.float32(0.1)), "accuracy": math.nan, "worst": math.inf, "n": 3.0}
    )
    assert list(checkpoint.parameters) == list(run["model"].state_dict())
    for name, array in run["model"].state_dict().items():
        np.testing.assert_array_equal(checkpoint.parameters[name], array, strict=True)
    assert checkpoint.extra["carried"][1][1] is None
    np.testing.assert_array_equal(checkpoint.extra["carried"][0], state["carried"][0], strict=True)
    np.testing.assert_array_equal(checkpoint.extra["carried"][1][0], np.zeros(()), strict=True)
    np.testing.assert_array_equal(checkpoint.extra["history"]["loss"], np.arange(3.0), strict=True)
    assert checkpoint.optimizer["settings"]["lr"] == run["optimizer"].lr
    assert repr(checkpoint).startswith(f"<Checkpoint {str(path)!r} (SequenceModel): position {{'update': 2, 'where'")


def test_numpy_reads_the_arrays_of_a_file(tmp_path):
    model = mr.Linear(3, 2, rng=0)
    save_checkpoint(tmp_path / "run.npz", model=model, optimizer=mr.optim.Adam(model.parameters()))
    with np.load(tmp_path / "run.npz", allow_pickle=False) as file:
        np.testing.assert_array_equal(file["parameters/weight"], model.weight.data)
        assert sorted(file)[:2] == ["minirnn.json", "optimizer/memory/first/0"]


@pytest.mark.parametrize("array", [np.zeros((0, 3)), np.ones((2, 3), ">f4"), np.asfortranarray(np.eye(3)[:, :2])])
def test_arrays_of_every_kind_come_back(tmp_path, array):
    save_checkpoint(tmp_path / "run.npz", model=mr.Linear(1, 1), extra={"a/b": array[..., ::-1], "a": {"b": array}})
    extra = load_checkpoint(tmp_path / "run.npz").extra
    np.testing.assert_array_equal(extra["a/b"], array[..., ::-1], strict=True)
    np.testing.assert_array_equal(extra["a"]["b"], array, strict=True)
    assert extra["a"]["b"].flags.writeable


PLAIN = "dicts with str keys, lists, str, int, float, bool and None"
MAKE_PLAIN = "float(…), int(…) or .tolist() make numpy's numbers plain"
KINDS = "PCG64, PCG64DXSM, MT19937, Philox, SFC64"
LOOP = []
LOOP.append(LOOP)


REFUSED = [
    (
        {"settings": {"sizes": [3, np.int64(5)]}},
        f"settings['sizes'][1] must be made of {PLAIN}, got np.int64(5) (int64): {MAKE_PLAIN}",
    ),
    (
        {"position": {"at": np.zeros(3)}},
        f"position['at'] must be made of {PLAIN}, got an array of shape (3,) and dtype float64: {MAKE_PLAIN}",
    ),
    ({"position": {3: 4}}, f"position must be made of {PLAIN}, got {{3: 4}} (dict)"),
    ({"position": LOOP}, f"position must be made of {PLAIN}, and is nested too deeply, or holds itself"),
    ({"settings": [3]}, "settings must be a dict with str keys, got [3] (list)"),
    ({"metrics": {"loss": "low"}}, "metrics['loss'] must be a number, got 'low' (str)"),
    ({"metrics": 0.1}, "metrics must be a dict with str keys, got 0.1 (float)"),
    (
        {"extra": {"f": [np.array(["a"])]}},
        f"extra['f'][0] must be made of {PLAIN}, and arrays of numbers, got an array of shape (1,) and dtype <U1",
    ),
    ({"extra": {"array:": 3}}, f"extra must be made of {PLAIN}, and arrays of numbers, got {{'array:': 3}} (dict)"),
    ({"model": 3}, "model must be a Module, got 3 (int)"),
    ({"optimizer": 3}, "optimizer must be an Optimizer, got 3 (int)"),
    ({"generators": 3}, "generators must be a dict such as {'data': rng}, got 3 (int)"),
    ({"generators": {"data": 3}}, f"generators['data'] must be a numpy.random.Generator of {KINDS}, got 3 (int)"),
    ({"path": 3}, "path must be a file's path, got 3 (int): try 'model.npz'"),
    ({"path": ""}, "path must be a file's path, got '' (str): try 'model.npz'"),
]


@pytest.mark.skipif(not pathlib.Path("/dev/fd").exists(), reason="this system does not say what is open")
def test_nothing_stays_open(tmp_path):
    layer, before = mr.RecurrentLayer(1, 1, rng=0), len(os.listdir("/dev/fd"))
    for _ in range(3):
        save_checkpoint(path=tmp_path / "model.npz", model=layer)
        with CheckpointDirectory(tmp_path / "run") as directory:
            directory.save(model=layer, update=1)
        load_checkpoint(tmp_path / "model.npz")
    assert len(os.listdir("/dev/fd")) == before


def test_what_cannot_be_saved_is_named_and_the_file_stays(tmp_path):
    path = tmp_path / "run.npz"
    path.write_bytes(b"old")
    for given, message in REFUSED:
        with raises(TypeError, f"save_checkpoint: {message}"):
            save_checkpoint(**{"path": path, "model": mr.Linear(2, 1), **given})
        assert [p.name for p in tmp_path.iterdir()] == ["run.npz"]
        assert path.read_bytes() == b"old"


def test_an_optimizer_of_other_parameters_is_refused(tmp_path):
    model, other = mr.Linear(2, 1), mr.Parameter(np.ones(3), name="h_0")
    adam = mr.optim.Adam([*model.parameters(), other])
    message = (
        "save_checkpoint: optimizer changes parameter h_0 (3,), which is not the model's and would not be saved: set "
        "it as an attribute of the model, or save the model that the optimizer was made for"
    )
    with raises(ValueError, message):
        save_checkpoint(tmp_path / "run.npz", model=model, optimizer=adam)


# --- restoring --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    run = runs.build()
    runs.train(run, 2)
    return save_checkpoint(tmp_path_factory.mktemp("saved") / "run.npz", **run)


def head(path):
    return (
        f"Checkpoint.restore: {str(path)!r} was saved from a model of type SequenceModel that was built otherwise; "
        "nothing was restored. Build everything as it was built then, or take the weights alone with "
        "model.load(path):\n  "
    )


NAMES = [name for name, _ in runs.build()["model"].named_parameters()]
ADAM, ANOTHER = f"Adam over {', '.join(NAMES)}", "one of another model"
SHARED = "of PCG64, the same as generators['noise'], and is a Generator of PCG64"


def refused(path, change, **build):
    """Change another run, restore it, and return the faults that are listed; nothing may have changed."""
    run = runs.build(seed=9, **build)
    change(run)
    before = [p.data for p in run["model"].parameters()]
    states = [repr(rng.bit_generator.state) for _, rng in run["model"].named_generators()]
    with pytest.raises(CheckpointError) as error:
        load_checkpoint(path).restore(**run)
    assert all(p.data is old for p, old in zip(run["model"].parameters(), before, strict=True))
    assert [repr(rng.bit_generator.state) for _, rng in run["model"].named_generators()] == states
    assert str(error.value).startswith(head(path))
    return str(error.value).removeprefix(head(path)).split("\n  ")


def test_restore_lists_parameters_that_do_not_fit(saved):
    def wider(run):
        run["model"].head = mr.Linear(4, 3)
        run["model"].gain = mr.Parameter([1.0])

    other = f"the optimizer was {ADAM}, and is Adam over {', '.join([*NAMES[:-2], ANOTHER, ANOTHER])}"
    assert refused(saved, wider) == [
        "missing: gain, float32 (1,)",
        "head.weight was float32 (4, 2), and is float32 (4, 3)",
        "head.bias was float32 (2,), and is float32 (3,)",
        other,
    ]
    fewer = refused(saved, lambda run: setattr(run["model"], "head", mr.Linear(4, 2, bias=False)))
    assert fewer == ["unexpected: head.bias, float32 (2,)", other]
    assert "head.bias was float32 (2,), and is float64 (2,)" in refused(saved, lambda run: None, dtype=np.float64)


def test_restore_lists_an_optimizer_that_does_not_fit(saved):
    for make, now in (
        (lambda model: runs.OPTIMIZERS["sgd"](model.parameters()), ADAM.replace("Adam", "SGD")),
        (lambda model: None, "none"),
        (lambda model: mr.optim.Adam(model.parameters()[::-1]), f"Adam over {', '.join(NAMES[::-1])}"),
        (
            lambda model: mr.optim.Adam([*model.parameters()[:-1], mr.Parameter(np.zeros(2, np.float32))]),
            f"Adam over {', '.join([*NAMES[:-1], ANOTHER])}",
        ),
    ):
        found = refused(saved, lambda run, make=make: run.update(optimizer=make(run["model"])))
        assert found == [f"the optimizer was {ADAM}, and is {now}"]


def test_restore_lists_generators_that_do_not_fit(saved):
    lost = [
        "unexpected: generators['data'], a Generator of Philox",
        "unexpected: generators['noise'], a Generator of PCG64",
    ]
    alone = [
        f"model.recurrent.0._rng was a Generator {SHARED}",
        f"model.recurrent.1._rng was a Generator {SHARED}, the same as model.recurrent.0._rng",
    ]
    assert refused(saved, lambda run: run.update(generators=None)) == lost + alone
    assert refused(saved, lambda run: run["generators"].update(batches=run["generators"].pop("data"))) == [
        "missing: generators['batches'], a Generator of Philox",
        lost[0],
    ]
    other = np.random.Generator(np.random.SFC64(0))
    assert refused(saved, lambda run: run["generators"].update(data=other)) == [
        "generators['data'] was a Generator of Philox, and is a Generator of SFC64"
    ]
    assert refused(saved, lambda run: run["generators"].update(noise=np.random.default_rng(0))) == alone

    def share(run):
        run["model"].recurrent.dropout.rng = run["generators"]["data"] = np.random.Generator(np.random.MT19937(0))

    assert refused(saved, share) == [
        "generators['data'] was a Generator of Philox, and is a Generator of MT19937",
        "model.recurrent.dropout.rng was a Generator of MT19937, and is a Generator of MT19937, the same as "
        "generators['data']",
    ]


def test_restore_without_an_optimizer_where_none_was_saved(tmp_path):
    model, twin = mr.Linear(3, 2, rng=0), mr.Linear(3, 2, rng=1)
    checkpoint = load_checkpoint(save_checkpoint(tmp_path / "run.npz", model=model))
    checkpoint.restore(twin)
    np.testing.assert_array_equal(twin.weight.data, model.weight.data)
    with pytest.raises(CheckpointError, match=r"the optimizer was none, and is Adam over weight, bias$"):
        checkpoint.restore(twin, mr.optim.Adam(twin.parameters()))
    with raises(TypeError, "Checkpoint.restore: optimizer must be an Optimizer, got 3 (int)"):
        checkpoint.restore(twin, 3)


# --- Generators -------------------------------------------------------------------------------------------------------


def model_of(*generators):
    """Return a Module that owns these Generators, without a number in it."""
    model = mr.Module()
    for i, rng in enumerate(generators):
        setattr(model, f"rng_{i}", rng)
    return model


@pytest.mark.parametrize("kind", STATES)
def test_generator_of_every_kind_goes_on_where_it_was(tmp_path, kind):
    def make(seed):
        return np.random.Generator(getattr(np.random, kind)(seed))

    def draw(rng):
        return [rng.random(3).tolist(), int(rng.integers(2**31, dtype=np.uint32)), rng.standard_normal(700).tolist()]

    rng = make(0)
    draw(rng)
    checkpoint = load_checkpoint(save_checkpoint(tmp_path / "run.npz", model=model_of(rng)))
    other = make(1)
    draw(other)
    checkpoint.restore(model_of(other))
    assert draw(other) == draw(rng)


def test_generator_of_a_kind_of_ones_own_is_refused(tmp_path):
    class Mine(np.random.PCG64):
        pass

    message = f"save_checkpoint: model.rng_0 must be a numpy.random.Generator of {KINDS}, got Mine"
    with raises(TypeError, message):
        save_checkpoint(tmp_path / "run.npz", model=model_of(np.random.Generator(Mine(0))))


@pytest.mark.parametrize(
    ("kind", "change"),
    [
        ("MT19937", lambda state: state["state"].update(pos=10**6)),  # numpy would read beyond its array
        ("MT19937", lambda state: state["state"].update(pos=-1)),
        ("MT19937", lambda state: state["state"]["key"].pop()),
        ("MT19937", lambda state: state["state"]["key"].__setitem__(5, 2**32)),
        ("Philox", lambda state: state.update(buffer_pos=1000)),
        ("Philox", lambda state: state["buffer"].__setitem__(0, 0.5)),
        ("PCG64", lambda state: state["state"].update(state=2**128)),
        ("PCG64", lambda state: state.update(has_uint32=2)),
        ("PCG64", lambda state: state.update(has_uint32=True)),
        ("PCG64", lambda state: state.pop("uinteger")),
        ("SFC64", lambda state: state.update(more=1)),
        ("SFC64", lambda state: state.update(state=[])),
    ],
)
def test_generator_states_that_numpy_would_take_are_refused(tmp_path, kind, change):
    rng = np.random.Generator(getattr(np.random, kind)(0))
    path = save_checkpoint(tmp_path / "run.npz", model=model_of(rng))
    contents = storage.read(path, "test")
    change(contents.content["generators"]["states"][0])
    storage.write(path, "checkpoint", contents.content, contents.arrays, "test")
    with pytest.raises(CheckpointError, match=r"bad state: model\.rng_0"):
        load_checkpoint(path)


# --- a run's directory ------------------------------------------------------------------------------------------------


def names(directory):
    return sorted(p.name for p in directory.path.iterdir() if not p.name.startswith("."))


def save(directory, update, loss=None):
    metrics = {} if loss is None else {"loss": loss}
    return directory.save(update, model=mr.Linear(2, 1), position=update, metrics=metrics)


def test_directory_keeps_the_last_k_and_the_best(tmp_path):
    with CheckpointDirectory(tmp_path / "runs" / "a", keep=2) as directory:
        assert directory.latest() is directory.best() is None
        assert names(directory) == []
        assert save(directory, 5, loss=math.nan) == tmp_path / "runs" / "a" / "checkpoint-00000005.npz"
        assert directory.best() is None
        for update, loss in [(10, 0.5), (20, np.float32(0.25)), (30, 0.25), (40, math.nan), (50, None), (50, 0.3)]:
            save(directory, update, loss)
        assert names(directory) == ["best.npz", "checkpoint-00000040.npz", "checkpoint-00000050.npz"]
        assert list(directory.paths()) == [40, 50]
        assert directory.latest().position == 50
        assert directory.best().position == 20  # a tie keeps the old one
    with CheckpointDirectory(tmp_path / "runs" / "a", keep=2) as directory:  # and so does a run that goes on
        save(directory, 60, 0.25)
        assert directory.best().position == 20
        save(directory, 70, -math.inf)
        assert directory.best().position == 70
        assert list(directory.paths()) == [60, 70]


def test_directory_chooses_the_best_by_the_metric_named(tmp_path):
    with CheckpointDirectory(tmp_path, metric="bits") as directory:
        for update, metrics in [(1, {"bits": 2.0, "loss": 1.0}), (2, {"bits": 1.0, "loss": 2.0}), (3, {"loss": 0.0})]:
            directory.save(update, model=mr.Linear(2, 1), metrics=metrics, position=update)
        assert directory.best().position == 2


def test_directory_sorts_by_number_and_leaves_other_files_alone(tmp_path):
    others = ["checkpoint-1.npz", "checkpoint-00000001.npz.old", "notes.txt", ".mine.part"]
    for name in others:
        (tmp_path / name).write_text("mine")
    with CheckpointDirectory(tmp_path, keep=1) as directory:
        for update in (99_999_998, 99_999_999, 100_000_000, 1_000_000_000):
            save(directory, update)
        assert list(directory.paths()) == [1_000_000_000]
        assert directory.latest().position == 1_000_000_000
    assert all((tmp_path / name).read_text() == "mine" for name in others)


def test_directory_is_read_without_with_but_not_written(tmp_path):
    directory = CheckpointDirectory(tmp_path / "none")
    assert directory.latest() is directory.best() is None
    assert directory.paths() == {}
    message = (
        "CheckpointDirectory.save: the directory is not locked: write 'with CheckpointDirectory(path) as directory:'"
    )
    with raises(RuntimeError, message):
        save(directory, 1)
    assert not directory.path.exists()
    assert repr(directory) == f"CheckpointDirectory({str(tmp_path / 'none')!r}, keep=3, metric='loss')"


def test_directory_refuses_arguments_and_metrics_that_are_none(tmp_path):
    with raises(TypeError, "CheckpointDirectory: path must be a directory's path, got 3 (int): try 'run'"):
        CheckpointDirectory(3)
    with raises(ValueError, "CheckpointDirectory: keep must be an int ≥ 1, got 0: try 1 or more"):
        CheckpointDirectory(tmp_path, keep=0)
    with raises(TypeError, "CheckpointDirectory: metric must be a name such as 'loss', got None (NoneType)"):
        CheckpointDirectory(tmp_path, metric=None)
    with CheckpointDirectory(tmp_path) as directory:
        for metrics in (3, {"loss": "low"}, {"loss": None}):
            with pytest.raises(TypeError, match="save_checkpoint: metrics"):
                directory.save(1, model=mr.Linear(2, 1), metrics=metrics)
        assert names(directory) == []


def test_directory_refuses_a_run_that_would_mix_with_another(tmp_path):
    with CheckpointDirectory(tmp_path) as directory:
        save(directory, 20)
        message = (
            "CheckpointDirectory.save: update 10 comes before checkpoint-00000020.npz, which is there already: go on "
            "from latest(), or choose an empty directory for a new run"
        )
        with raises(ValueError, message):
            save(directory, 10)
        assert list(directory.paths()) == [20]
