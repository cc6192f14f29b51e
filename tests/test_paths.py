"""Where files go: ``~``, symbolic links, modes, pipes and devices, and files that are open already."""

import io
import os
import stat
import subprocess
import sys
import threading

import numpy as np
import pytest
from error_texts import raises

import minirnn as mr
from minirnn.checkpoints import CheckpointDirectory, CheckpointError, load_checkpoint, save_checkpoint
from minirnn.cli import main
from minirnn.training import History, fit

posix = pytest.mark.skipif(os.name != "posix", reason="this system has no such files")
TRAIN = ["train", "adding", "--hidden", "3", "--max-updates", "1", "--no-progress"]


def model(seed=0):
    return mr.Linear(2, 3, rng=seed)


def values(linear):
    return [p.data.tolist() for p in linear.parameters()]


def trained(path):
    layer = mr.RecurrentLayer(2, 3, rng=0)
    sgd = mr.optim.SGD(layer.parameters(), 0.1)
    batches = [(np.ones((3, 2, 2)), np.zeros((3, 2, 3)))]
    fit(layer, batches, loss=mr.losses.mse, optimizer=sgd, max_updates=1, checkpoint=path)


def text(path):
    with open(os.path.expanduser(path), "w") as file:
        file.write("some text, and some more text\n" * 9)
    return mr.tasks.TextTask(path=path)


LAYER = mr.RecurrentLayer(2, 3, rng=0)
DOORS = {
    "save": lambda path: model().save(path) and model(1).load(path),
    "save_checkpoint": lambda path: save_checkpoint(path, model=model()) and load_checkpoint(path),
    "fit": lambda path: trained(path) or CheckpointDirectory(path).latest().position,
    "to_csv": lambda path: History().to_csv(path),
    "to_html": lambda path: mr.bptt.trace(LAYER, np.ones((3, 1, 2)), lambda y: y.sum()).to_html(path),
    "text": text,
    "train --save": lambda path: main([*TRAIN, f"--save={path}"]) + main(["eval", path]),
    "train --checkpoint": lambda path: main([*TRAIN, f"--checkpoint={path}"]) + main(["eval", path]),
    "inspect --html": lambda path: main(["inspect", "adding", "--steps-in-time", "3", f"--html={path}"]),
    "bench --json": lambda path: main(["bench", "grid", "--shape", "1,2,1,1", "--turns", "2", f"--json={path}"]),
}


@pytest.mark.parametrize("door", DOORS)
def test_a_tilde_is_the_home_wherever_a_path_is_taken(door, tmp_path, monkeypatch, capsys):
    for name in ("HOME", "USERPROFILE"):
        monkeypatch.setenv(name, str(tmp_path / "home"))
    (tmp_path / "home").mkdir()
    monkeypatch.chdir(tmp_path)
    DOORS[door]("~/made")
    assert capsys.readouterr().err == ""
    assert os.listdir() == ["home"]
    assert os.listdir("home") == ["made"]


def test_a_directory_that_is_called_so_can_be_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "~").mkdir()
    assert CheckpointDirectory("./~").path == tmp_path / "~"  # a path forgets the dot


# --- links and modes --------------------------------------------------------------------------------------------------


@posix
@pytest.mark.parametrize("mode", [0o660, 0o600, 0o444])
def test_a_file_keeps_its_mode_and_owner_and_a_new_one_gets_the_umasks(mode, tmp_path):
    path, before = tmp_path / "model.npz", os.umask(0o027)
    try:
        for _ in range(2):
            model().save(path)
            assert stat.S_IMODE(path.stat().st_mode) == 0o640
        path.chmod(mode)
        if os.geteuid() == 0:  # only root gives files away
            os.chown(path, 65534, 65533)
        there = path.stat()
        model(1).save(path)
    finally:
        os.umask(before)
    now = path.stat()
    assert (stat.S_IMODE(now.st_mode), now.st_uid, now.st_gid) == (mode, there.st_uid, there.st_gid)
    assert now.st_ino != there.st_ino
    assert values(model().load(path)) == values(model(1))


@posix
@pytest.mark.parametrize("there", [True, False])
def test_through_a_link_the_file_is_written_that_it_leads_to(there, tmp_path, monkeypatch, capsys):
    (tmp_path / "there").mkdir()
    (tmp_path / "here").mkdir()
    target, link = tmp_path / "there" / "model.npz", tmp_path / "here" / "latest"
    link.symlink_to("../there/model.npz")
    if there:
        target.write_bytes(b"old")
        target.chmod(0o660)
    monkeypatch.chdir(tmp_path)
    assert str(model().save("here/latest")) == "here/latest"
    assert values(model(1).load(target)) == values(model())
    assert main([*TRAIN, "--save", str(link)]) == 1
    assert load_checkpoint(target).module == "SequenceModel"
    assert (os.readlink(link), os.listdir("here"), os.listdir("there")) == (
        "../there/model.npz",
        ["latest"],
        ["model.npz"],
    )
    assert not there or stat.S_IMODE(target.stat().st_mode) == 0o660
    link.unlink()
    link.symlink_to("latest")
    with pytest.raises(OSError, match=r"^Linear\.save: cannot write 'here/latest': Too many levels of symbolic links"):
        model().save("here/latest")
    assert os.readlink(link) == "latest"


# --- what is no regular file ------------------------------------------------------------------------------------------


@posix
def test_a_pipe_is_written_into_and_read_from_and_stays_one(tmp_path):
    path = tmp_path / "pipe"
    os.mkfifo(path)
    reader = threading.Thread(target=lambda: copy.load(path))
    copy = model(1)
    reader.start()
    model().save(path)
    reader.join()
    assert values(copy) == values(model())
    assert stat.S_ISFIFO(path.stat().st_mode)


@posix
def test_a_device_is_written_into_and_stays_one():
    model().save("/dev/null")
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)
    if os.path.exists("/dev/full"):
        message = "Linear.save: cannot write '/dev/full': No space left on device: what was written before stays there"
        with raises(OSError, message):
            model().save("/dev/full")


@posix
@pytest.mark.parametrize("way", ["file", "pipe"])
def test_what_goes_to_stdout_comes_between_what_is_printed(way, tmp_path):
    code = """
import sys, minirnn as mr
print("before")
mr.training.History().to_csv(sys.argv[1])
print("after")
"""
    with open(tmp_path / "out", "wb") as file:
        out = {"stdout": file if way == "file" else subprocess.PIPE}
        done = subprocess.run([sys.executable, "-c", code, "/dev/stdout"], check=True, **out)
    printed = (tmp_path / "out").read_bytes() if way == "file" else done.stdout
    assert printed == b"before\nupdate,loss,grad_norm,seconds\nafter\n"
    assert os.listdir(tmp_path) == ["out"]


# --- files that are open ----------------------------------------------------------------------------------------------


def test_an_open_binary_file_is_written_into_and_read_from_where_it_stands(tmp_path):
    buffer = io.BytesIO(b"mine")
    buffer.seek(4)
    assert str(model().save(buffer)) == "<BytesIO>"
    model().save(tmp_path / "same.npz")
    assert buffer.getvalue() == b"mine" + (tmp_path / "same.npz").read_bytes()
    with raises(CheckpointError, "Linear.load: '<BytesIO>' is empty from where it stands: try seek(0) first"):
        model(1).load(buffer)
    buffer.seek(4)
    assert values(model(1).load(buffer)) == values(model())
    with open(tmp_path / "run.npz", "w+b") as file:
        assert save_checkpoint(file, model=model(), position=3) == tmp_path / "run.npz"
        file.seek(0)
        assert load_checkpoint(file).position == 3
    assert load_checkpoint(tmp_path / "run.npz").position == 3


@pytest.mark.parametrize("verb", ["save", "load"])
@pytest.mark.parametrize("kind", [io.StringIO, io.RawIOBase])
def test_a_file_of_text_and_one_that_may_take_a_part_are_refused(kind, verb):
    got = f"got {kind.__name__}: try io.BytesIO() or open(path, '{'wr'[verb == 'load']}b')"
    with raises(TypeError, f"Linear.{verb}: path must be a path or a binary file with a buffer, {got}"):
        getattr(model(), verb)(
            kind() if kind is io.StringIO else type("RawIOBase", (kind,), {"write": len, "read": len})()
        )
