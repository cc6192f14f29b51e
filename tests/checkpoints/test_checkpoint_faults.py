"""What may happen to a checkpoint: damage, forgery, a full disk, a kill at any moment, a second run."""

import errno
import io
import json
import operator
import os
import pathlib
import pickle
import platform
import signal
import subprocess
import sys
import tracemalloc
import warnings
import zipfile

import checkpoint_runs as runs
import numpy as np
import pytest
from error_texts import raises

import minirnn as mr
from minirnn import storage
from minirnn.checkpoints import (
    CheckpointDirectory,
    CheckpointError,
    DirectoryLockedError,
    load_checkpoint,
    save_checkpoint,
)
from minirnn.checkpoints import locking as locking_module

SCRIPT = pathlib.Path(runs.__file__)


@pytest.fixture
def path(tmp_path):
    """A small checkpoint with an optimiser and a Generator."""
    return save_checkpoint(tmp_path / "run.npz", **small())


def small():
    model = mr.Sequential(mr.Linear(2, 1, rng=0), mr.Dropout(0.5, rng=1))
    return {"model": model, "optimizer": mr.optim.SGD(model.parameters(), 0.1, momentum=0.9)}


def refused(path):
    """Whether loading raises CheckpointError; any other error goes on."""
    try:
        load_checkpoint(path)
    except CheckpointError:
        return True
    return False


# --- damage -----------------------------------------------------------------------------------------------------------


def test_a_flipped_bit_of_any_byte_is_noticed(path):
    """Of the arrays, the JSON, the zip's own fields, and the checksum."""
    data = bytearray(path.read_bytes())
    with open(path, "r+b") as file:
        for at in range(len(data)):
            os.pwrite(file.fileno(), bytes([data[at] ^ 1 << at % 8]), at)
            assert refused(path), at
            os.pwrite(file.fileno(), data[at : at + 1], at)
    assert not refused(path)
    assert len(data) > 1000


def test_every_truncation_and_every_addition_is_noticed(path):
    data = path.read_bytes()
    for n in reversed(range(len(data))):
        os.truncate(path, n)
        assert refused(path), n
    for more in (b"\0", b"more", data):
        path.write_bytes(data + more)
        assert refused(path)


class Trap:
    """Pickled, it makes a file when it is loaded."""

    def __init__(self, file):
        self.file = file

    def __reduce__(self):
        return os.mkdir, (str(self.file),)


def npz(compressed=False, **arrays):
    buffer = io.BytesIO()
    (np.savez_compressed if compressed else np.savez)(buffer, **arrays)
    return buffer.getvalue()


def npy(array):
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=True)
    return buffer.getvalue()


OTHER_PROGRAM = "was written by another program: numpy.load reads it, then try module.load_state_dict(arrays)"
NONE_OF_OURS = "is no file of minirnn's: give one that save_checkpoint or module.save wrote"
A_PICKLE = "is a pickle, which is never loaded: loading one can run any program. Save it with module.save(path)"


DAMAGED = "is damaged: its end is missing or was added to. Use an earlier checkpoint, or a copy"


@pytest.mark.parametrize(
    ("make", "fault"),
    [
        (lambda data, trap: b"", "is empty. Use an earlier checkpoint, or a copy"),
        (lambda data, trap: b"PK", OTHER_PROGRAM),
        (lambda data, trap: b"hello, world\n" * 50, NONE_OF_OURS),
        (lambda data, trap: bytes(10_000), NONE_OF_OURS),
        (lambda data, trap: npz(weight=np.ones((2, 1))), OTHER_PROGRAM),
        (lambda data, trap: npz(compressed=True, weight=np.ones((2, 1))), OTHER_PROGRAM),
        (lambda data, trap: npz(weight=np.array([trap])), OTHER_PROGRAM),
        (lambda data, trap: npy(np.ones(3)), OTHER_PROGRAM),
        (lambda data, trap: npy(np.array([trap])), OTHER_PROGRAM),
        (lambda data, trap: pickle.dumps(trap), A_PICKLE),
        (lambda data, trap: pickle.dumps(trap, protocol=0), NONE_OF_OURS),
        (lambda data, trap: data[:-1], DAMAGED),
        (
            lambda data, trap: data[:400] + b"?" + data[401:],
            "is damaged: its checksum is not that of its contents. Use an earlier checkpoint, or a copy",
        ),
    ],
)
def test_every_fault_has_its_words_and_nothing_is_executed(tmp_path, path, make, fault):
    trap = tmp_path / "trap"
    data = make(path.read_bytes(), Trap(trap))
    path.write_bytes(data)
    with raises(CheckpointError, f"load_checkpoint: {str(path)!r} {fault}"):
        load_checkpoint(path)
    model = mr.Linear(2, 1, rng=0)
    before = model.state_dict()
    with raises(CheckpointError, f"Linear.load: {str(path)!r} {fault}"):
        model.load(path)
    np.testing.assert_array_equal(model.weight.data, before["weight"])
    assert not trap.exists()


# --- forgery: a good checksum on anything -----------------------------------------------------------------------------

HEADER = {"format": "minirnn", "version": 1, "kind": "weights", "content": {}}


def sealed_zip(members, compression=zipfile.ZIP_STORED, change=lambda archive: None):
    """Return a zip of (name, bytes) with a good seal, made without minirnn; its directory may be changed."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        for name, data in members:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of two members of one name
                archive.writestr(zipfile.ZipInfo(name), data, compression)
        change(archive)
        archive.comment = storage.MARK + b"0" * 64
    return resealed(buffer.getvalue())


def resealed(data):
    return data[:-64] + storage.hashlib.sha256(data[:-64]).hexdigest().encode()


def header(**changes):
    return json.dumps(HEADER | changes)


def array_header(shape, descr="<f4", fortran=False, more=""):
    """Return an ``.npy`` that claims a shape and has 8 bytes."""
    text = f"{{'descr': {descr!r}, 'fortran_order': {fortran}, 'shape': {shape}, {more}}}".encode()
    text = text.ljust(118) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + bytes(8)


ONE = [("parameters/weight.npy", array_header("(2, 1)"))]
FOREIGN = "has minirnn's seal, but was not made by it"
TRUST = "Load only files that minirnn wrote"


@pytest.mark.parametrize(
    ("members", "fault"),
    [
        ([("minirnn.json", header(version=2))], "is of version 2, and this minirnn reads up to 1: get a newer minirnn"),
        ([("minirnn.json", header(version=0))], f"has the version 0 (int). {TRUST}"),
        ([("minirnn.json", header(version="1"))], f"has the version '1' (str). {TRUST}"),
        ([("minirnn.json", header(version=True))], f"has the version True (bool). {TRUST}"),
        ([("minirnn.json", header(format="torch"))], f"has the format 'torch' (str). {TRUST}"),
        ([("minirnn.json", header(kind="program"))], f"has the kind 'program' (str). {TRUST}"),
        ([("minirnn.json", header(content=3))], f"has the content 3 (int). {TRUST}"),
        ([("minirnn.json", header()), *ONE, *ONE], f"holds two members of one name. {TRUST}"),
        ([("minirnn.json", "{}")], FOREIGN),
        ([("minirnn.json", "[]")], FOREIGN),
        ([("minirnn.json", "nonsense")], FOREIGN),
        ([("minirnn.json", b"\xff\xfe\xfd")], FOREIGN),
        ([("minirnn.json", '"[[' + "[" * 100_000)], FOREIGN),  # within a string, they are no levels
        ([("minirnn.json", header()[:-1] + f', "n": {"9" * 10_000}}}')], FOREIGN),
        ([("other.json", header())], FOREIGN),
        ([], FOREIGN),
        ([("minirnn.json", header()), ("parameters/weight.npy", b"")], FOREIGN),
        ([("minirnn.json", header()), ("parameters/weight.npy", b"\x93NUMPY\x03\x00")], FOREIGN),
        ([("minirnn.json", header()), ("w.npy", array_header("(1000000000, 1000000000)"))], FOREIGN),
        ([("minirnn.json", header()), ("w.npy", array_header("(-1, -2)"))], FOREIGN),
        ([("minirnn.json", header()), ("w.npy", array_header("(0, -1)"))], FOREIGN),
        ([("minirnn.json", header()), ("w.npy", array_header("(1,)"))], FOREIGN),
        ([("minirnn.json", header()), ("w.npy", array_header("(2, 1)", fortran=True))], FOREIGN),
        ([("minirnn.json", header()), ("w.npy", array_header("(2,)", "|O"))], FOREIGN),
        ([("minirnn.json", header()), ("w.npy", array_header("(1,)", "<c8"))], FOREIGN),
        ([("minirnn.json", header()), ("w.npy", array_header("(1,)", [("a", "<f8")]))], FOREIGN),
        ([("minirnn.json", header()), ("w.npy", array_header("(2,)", more="'x': __import__('os')"))], FOREIGN),
        ([("minirnn.json", header()), ("w.npy", npy(np.array([Trap("trap")])))], FOREIGN),
    ],
)
def test_a_good_seal_is_not_trusted(tmp_path, monkeypatch, members, fault):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "forged.npz"
    path.write_bytes(sealed_zip(members))
    model = mr.Linear(2, 1, bias=False)
    with pytest.raises(CheckpointError) as error:
        model.load(path)
    text = str(error.value).removeprefix(f"Linear.load: {str(path)!r} ")
    assert text == fault if fault is not FOREIGN else (text.startswith(f"{FOREIGN} (") and text.endswith(f"). {TRUST}"))
    assert [p.name for p in tmp_path.iterdir()] == ["forged.npz"]


def lie(archive):
    """Say that a member is smaller than it is."""
    archive.filelist[1].file_size = 100


def nest(archive):
    """Let each of a hundred members hold those after it too: a small file could ask for any amount of memory."""
    for member in archive.filelist[1:]:
        member.file_size = member.compress_size = archive.start_dir - member.header_offset - 100


BOMB = [("parameters/weight.npy", bytes(20_000_000))]


@pytest.mark.parametrize(
    ("members", "compression", "change"),
    [
        (BOMB, zipfile.ZIP_DEFLATED, lambda archive: None),
        (BOMB, zipfile.ZIP_BZIP2, lie),
        ([(f"{i}.npy", array_header("(2, 1)")) for i in range(100)], zipfile.ZIP_STORED, nest),
    ],
)
def test_a_file_that_would_take_more_memory_than_it_is_long_is_refused_before_it_is_unpacked(
    tmp_path, members, compression, change
):
    path = tmp_path / "bomb.npz"
    path.write_bytes(sealed_zip([("minirnn.json", header()), *members], compression, change))
    assert path.stat().st_size < 50_000
    tracemalloc.start()
    with raises(CheckpointError, f"Linear.load: {str(path)!r} claims to hold more than its own size. {TRUST}"):
        mr.Linear(2, 1).load(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1_000_000


@pytest.mark.parametrize(
    ("members", "fault"),
    [
        ([("minirnn.json", "[" * 100_000)], "has 100,000 levels in its JSON, of at most 100"),
        ([("minirnn.json", "[" + "[]," * 6_000_000)], "has 18,000,001 bytes of JSON, of at most 16,777,216"),
        ([("minirnn.json", "[" + "{}," * 1_200_000)], "has 2,400,001 values in its JSON, of at most 2,000,000"),
        ([(f"{i}.npy", b"") for i in range(32_769)], "has 32,769 members, of at most 32,768"),
    ],
)
def test_a_file_of_too_many_things_is_refused_before_any_of_them_is_made(tmp_path, members, fault):
    path = tmp_path / "forged.npz"
    path.write_bytes(sealed_zip(members))
    tracemalloc.start()
    with raises(CheckpointError, f"load_checkpoint: {str(path)!r} {fault}: {TRUST}"):
        load_checkpoint(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2 * path.stat().st_size + 1_000_000


def nested(levels):
    return [nested(levels - 1)] if levels else 3


@pytest.mark.parametrize(
    ("extra", "fault"),
    [
        (nested(99), "has 101 levels in its JSON, of at most 100"),
        ([[]] * 10**6, "has 2,000,116 values in its JSON, of at most 2,000,000"),
        ("x" * 2**24, "has 16,777,834 bytes of JSON, of at most 16,777,216"),
        ([np.zeros(1)] * 2**15, "has 32,773 members, of at most 32,768"),
    ],
)
def test_what_could_not_be_read_again_is_not_written(path, extra, fault):
    old = path.read_bytes()
    hint = "put numbers into arrays, and many arrays into one, so that it can be read again"
    with raises(ValueError, f"save_checkpoint: what is saved {fault}: {hint}"):
        save_checkpoint(path, **small(), extra=extra)
    assert intact(path, old)
    most = save_checkpoint(
        path, **small(), extra={"nested": nested(90), "[[": "[" * 200, "\0": np.ones(1), "\ud800": 1}
    )
    assert load_checkpoint(most).extra["nested"] == nested(90)
    assert load_checkpoint(most).extra["\0"] == 1


def test_a_huge_file_of_nothing_is_not_read(tmp_path):
    path = tmp_path / "sparse.npz"
    with open(path, "wb") as file:
        file.truncate(2**34)
    with raises(CheckpointError, f"load_checkpoint: {str(path)!r} {NONE_OF_OURS}"):
        load_checkpoint(path)


def test_a_name_in_a_file_leads_nowhere(tmp_path):
    (tmp_path / "in").mkdir()
    path = tmp_path / "in" / "forged.npz"
    names = ["../out.npy", "/tmp/out.npy", "parameters/../../out.npy"]
    path.write_bytes(sealed_zip([("minirnn.json", header()), *((name, array_header("(2, 1)")) for name in names)]))
    with pytest.raises(CheckpointError, match=r"missing: weight \(2, 1\)\n  missing: bias \(1,\)\n  unexpected: \.\./"):
        mr.Linear(2, 1).load(path)
    assert [p.name for p in tmp_path.rglob("*")] == ["in", "forged.npz"]


def test_what_changed_in_a_file_that_was_sealed_again_is_refused_or_fits(path):
    """600 changes, each with a good checksum: an error of the one type, or a run that is whole."""
    data, rng, outcomes = path.read_bytes(), np.random.default_rng(0), {"refused": 0, "restored": 0}
    run = small()
    for _ in range(600):
        changed = bytearray(data)
        for at in rng.integers(len(data) - storage.SEAL, size=rng.integers(1, 4)):
            changed[at] = rng.choice([rng.integers(256), changed[at] ^ 1, ord("9"), ord("-")])
        with open(path, "r+b") as file:  # many times faster than to make the file anew
            file.write(resealed(bytes(changed)))
        before = run["model"].state_dict()
        try:
            load_checkpoint(path).restore(**run)
        except CheckpointError:
            outcomes["refused"] += 1
            for name, array in run["model"].state_dict().items():
                np.testing.assert_array_equal(array, before[name])
        else:
            outcomes["restored"] += 1
        assert np.isfinite(run["optimizer"].lr)
        run["model"](np.ones((3, 2)))
    assert min(outcomes.values()) > 30, outcomes


def updated(**entry):
    return lambda content: content.update(entry)


LACKS = [
    {"order": None},
    {"settings": []},
    {"metrics": {"loss": "low"}},
    {"optimizer": []},
    {"optimizer": {"optimizer": 3}},
    {"extra": {"array:": "parameters/none"}},
    {"extra": {"array:": []}},
    {"generators": None},
    {"generators": {"states": [], "holds": {"model.1.rng": 0}}},
    {"generators": {"states": ["abc"], "holds": {"model.1.rng": 0}}},
]
FORGED = {
    r"^load_checkpoint: '.*run\.npz' lacks what a checkpoint holds \(": [
        *(updated(**entry) for entry in LACKS),
        *(operator.methodcaller("pop", name) for name in ("module", "optimizer", "generators", "extra", "position")),
    ],
    r"^Checkpoint\.restore: .* nothing was restored": [
        lambda content: content["generators"]["holds"].clear(),
        lambda content: content["optimizer"].pop("memory"),
        lambda content: content["optimizer"].update(memory={"velocity": [3, 4]}),
        lambda content: content["optimizer"].update(settings={"lr": 0.1}),
        lambda content: content["optimizer"]["settings"].update(lr=[0.1]),
        lambda content: content["optimizer"]["settings"].update(lr=-0.1),
        lambda content: content["optimizer"]["settings"].update(momentum={}),
        lambda content: content["order"].reverse(),
        lambda content: content["order"].__setitem__(0, {}),
    ],
}


@pytest.mark.parametrize("message", FORGED)
def test_contents_that_are_missing_of_another_type_or_do_not_fit_change_nothing(path, message):
    whole, run = path.read_bytes(), small()
    before = [p.data for p in run["model"].parameters()], repr(run["optimizer"].state_dict())
    for change in FORGED[message]:
        path.write_bytes(whole)
        contents = storage.read(path, "test")
        change(contents.content)
        storage.write(path, "checkpoint", contents.content, contents.arrays, "test")
        with pytest.raises(CheckpointError, match=message):
            load_checkpoint(path).restore(**run)
        assert all(p.data is old for p, old in zip(run["model"].parameters(), before[0], strict=True))
        assert repr(run["optimizer"].state_dict()) == before[1]


def test_weights_alone_are_no_checkpoint(tmp_path):
    path = mr.Linear(2, 1).save(tmp_path / "model.npz")
    with raises(CheckpointError, f"load_checkpoint: {str(path)!r} holds weights alone: try model.load(path)"):
        load_checkpoint(path)


@pytest.mark.parametrize(
    ("name", "kind", "what"),
    [("none.npz", FileNotFoundError, "No such file or directory"), ("", IsADirectoryError, "Is a")],
)
def test_a_file_that_cannot_be_read_is_an_oserror_of_its_kind(tmp_path, name, kind, what):
    with pytest.raises(
        kind, match=f"^load_checkpoint: cannot read '{tmp_path / name}': {what}.*: check the path$"
    ) as e:
        load_checkpoint(tmp_path / name)
    assert e.value.errno in (errno.ENOENT, errno.EISDIR)


# --- writing that fails -----------------------------------------------------------------------------------------------

HINT = (
    "the file that was there, if any, is what it was; free some space, or choose a directory that is there and may be "
    "written to"
)


def intact(path, old):
    """Whether the old file is what it was, and alone."""
    return path.read_bytes() == old and [p.name for p in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize(
    ("where", "number"),
    [("open", errno.EACCES), ("open", errno.EROFS), ("fsync", errno.ENOSPC), ("replace", errno.EIO)],
)
def test_a_disk_that_refuses_leaves_the_old_file(path, monkeypatch, where, number):
    old = path.read_bytes()

    def fail(*args, **kwargs):
        raise OSError(number, os.strerror(number))

    if where == "open":
        monkeypatch.setattr(storage, "open", fail, raising=False)
    else:
        monkeypatch.setattr(os, where, fail)
    message = f"save_checkpoint: cannot write {str(path)!r}: {os.strerror(number)}: {HINT}"
    with raises(type(OSError(number, "")), message) as error:
        save_checkpoint(path, **small(), position=1)
    assert error.value.errno == number
    monkeypatch.undo()
    assert intact(path, old)


def test_a_read_only_directory_leaves_the_old_file(tmp_path, monkeypatch):
    path = save_checkpoint(tmp_path / "one.npz", **small())
    old = path.read_bytes()
    monkeypatch.chdir(tmp_path)
    tmp_path.chmod(0o555)
    me = os.geteuid()
    if me == 0:  # nothing is read-only for root
        os.seteuid(65534)
    try:
        with raises(PermissionError, f"save_checkpoint: cannot write 'one.npz': Permission denied: {HINT}"):
            save_checkpoint("one.npz", **small(), position=1)
        hint = "choose a directory that may be written to"
        with (
            raises(PermissionError, f"CheckpointDirectory: cannot write in '.': Permission denied: {hint}"),
            CheckpointDirectory("."),
        ):
            pass
        hint = "choose a place that may be written to"
        with (
            raises(PermissionError, f"CheckpointDirectory: cannot make the directory 'new': Permission denied: {hint}"),
            CheckpointDirectory("new"),
        ):
            pass
    finally:
        os.seteuid(me)
        tmp_path.chmod(0o755)
    assert intact(path, old)


def test_the_file_and_its_directory_reach_the_disk_in_order(path, monkeypatch):
    """The data before the name, and the name too."""
    done, replace = [], os.replace

    def fsync(descriptor):
        done.append("directory" if (os.fstat(descriptor).st_mode & 0o170000) == 0o040000 else "file")
        if done[-1] == "directory":
            raise OSError(errno.EINVAL, "some file systems cannot; the file itself is on the disk")

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "replace", lambda a, b: (done.append("replace"), replace(a, b)))
    save_checkpoint(path, **small(), position=1)
    assert done == ["file", "replace", "directory"]
    assert load_checkpoint(path).position == 1


def test_a_full_disk_leaves_a_runs_directory_as_it_was(tmp_path, monkeypatch):
    with CheckpointDirectory(tmp_path, keep=2) as directory:
        for update in (1, 2, 3):
            directory.save(update, **small(), metrics={"loss": 1 / update}, position=update)
        old = {p.name: p.read_bytes() for p in tmp_path.iterdir()}

        def full(descriptor):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        monkeypatch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space left on device"):
            directory.save(4, **small(), metrics={"loss": 0.1}, position=4)
        monkeypatch.undo()
        assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == old
        directory.save(4, **small(), metrics={"loss": 0.2}, position=4)  # and goes on when there is room again
        assert directory.best().position == directory.latest().position == 4


# --- kills ------------------------------------------------------------------------------------------------------------


def test_after_a_kill_at_any_moment_the_old_or_the_new_files_load(tmp_path):
    """Kills of a process that does nothing but save; many of them fall into a save, which the file beside shows."""
    done = subprocess.run([sys.executable, SCRIPT, "kill", tmp_path], check=True, capture_output=True, text=True)
    seen = json.loads(done.stdout)
    assert min(seen["cut short"], seen["went on"]) >= 5, seen
    assert seen["kills"] < 200, seen


def test_what_a_killed_run_left_behind_is_removed(tmp_path):
    part = tmp_path / ".minirnn-1-2.part"
    part.write_bytes(b"half")
    with CheckpointDirectory(tmp_path):
        assert not part.exists()


# --- a damaged file in a directory ------------------------------------------------------------------------------------


def damage(path):
    path.write_bytes(path.read_bytes()[:-100])


def three(tmp_path):
    with CheckpointDirectory(tmp_path) as directory:
        for update in (10, 20, 30):
            directory.save(update, **small(), position=update, metrics={"loss": 1 / update})
    return directory


def test_latest_passes_over_damaged_files_and_says_so(tmp_path):
    directory = three(tmp_path)
    newest, second, _ = reversed(directory.paths().values())
    damage(newest)
    damage(second)
    message = (
        "CheckpointDirectory: checkpoint-00000010.npz is used, because a later one cannot be:\n"
        f"  load_checkpoint: {str(newest)!r} {DAMAGED}\n"
        f"  load_checkpoint: {str(second)!r} {DAMAGED}"
    )
    with pytest.warns(UserWarning, match="^CheckpointDirectory: ") as warned:
        assert directory.latest().position == 10
    assert [str(w.message) for w in warned] == [message]
    assert warned[0].filename == __file__


def test_a_run_goes_on_over_damaged_files(tmp_path):
    directory = three(tmp_path)
    damage(directory.paths()[30])
    with directory:
        directory.save(25, **small(), position=25)
        assert list(directory.paths()) == [10, 20, 25, 30]  # the damaged one does not count
        directory.save(30, **small(), position="new")
        assert directory.latest().position == "new"
        assert list(directory.paths()) == [20, 25, 30]


def test_when_all_are_damaged_training_does_not_start_anew(tmp_path):
    directory = three(tmp_path)
    for path in directory.paths().values():
        damage(path)
    with pytest.raises(
        CheckpointError, match=r"^CheckpointDirectory: none of the checkpoints in '.*' can be used:\n"
    ) as e:
        directory.latest()
    assert str(e.value).count(DAMAGED) == 3


def test_a_damaged_best_is_told_and_replaced(tmp_path):
    directory = three(tmp_path)
    damage(tmp_path / "best.npz")
    with pytest.raises(CheckpointError, match="is damaged"):
        directory.best()
    message = "CheckpointDirectory: the next checkpoint becomes the best, because load_checkpoint: "
    with pytest.warns(UserWarning, match=f"^{message}") as warned, directory:
        directory.save(40, **small(), position=40, metrics={"loss": 5.0})
    assert warned[0].filename == __file__
    assert directory.best().position == 40


# --- two runs ---------------------------------------------------------------------------------------------------------


@pytest.fixture(params=["flock", "no flock at all", "no flock here"])
def kind_of_lock(request, monkeypatch):
    if request.param == "no flock at all":
        monkeypatch.setattr(locking_module, "fcntl", None)
    if request.param == "no flock here":

        def unsupported(*args):
            raise OSError(errno.ENOLCK, "No locks available")

        monkeypatch.setattr(locking_module.fcntl, "flock", unsupported)
    return request.param


def test_lock_refuses_a_second_run(tmp_path, kind_of_lock):
    with CheckpointDirectory(tmp_path) as first:
        first.save(1, **small())
        hint = "wait for it, end it, or choose another directory"
        if kind_of_lock != "flock":
            hint += f"; if that run is no more, remove {str(tmp_path / '.lock-pid')!r}"
        message = (
            f"CheckpointDirectory: {str(tmp_path)!r} is in use by process {os.getpid()} on {platform.node()}: {hint}"
        )
        with raises(DirectoryLockedError, message) as error, CheckpointDirectory(tmp_path):
            pass
        assert (error.value.pid, error.value.host) == (os.getpid(), platform.node())
        assert CheckpointDirectory(tmp_path).latest().position is None  # reading is free
        with pytest.raises(DirectoryLockedError), first:  # also by the same object
            pass
        first.save(2, **small())
    with CheckpointDirectory(tmp_path) as second:
        second.save(3, **small())


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGINT])
def test_lock_of_another_process_is_respected_until_it_ends_in_any_way(tmp_path, end):
    command = [sys.executable, SCRIPT, "hold", tmp_path]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout.readline() == b"held\n"
        with (
            pytest.raises(DirectoryLockedError, match=f"is in use by process {child.pid} on "),
            CheckpointDirectory(tmp_path),
        ):
            pass
        child.send_signal(end)
        child.wait()
    with CheckpointDirectory(tmp_path) as directory:
        directory.save(1, **small())


def test_lock_is_let_go_when_the_run_fails_or_cannot_begin(tmp_path, monkeypatch):
    with pytest.raises(ZeroDivisionError), CheckpointDirectory(tmp_path) as directory:
        directory.save(1 // 0, **small())
    monkeypatch.setattr(CheckpointDirectory, "_lowest_saved", lambda self: 1 // 0)
    with pytest.raises(ZeroDivisionError), directory:
        pass
    monkeypatch.undo()
    with directory:
        directory.save(1, **small())


def test_lock_is_let_go_although_a_child_was_forked(tmp_path):
    """A forked worker inherits the open file, and would hold the lock as long as it lives."""
    with subprocess.Popen([sys.executable, SCRIPT, "fork", tmp_path], stdout=subprocess.PIPE, text=True) as parent:
        child = int(parent.stdout.readline())
        try:
            assert parent.wait(timeout=60) == 0
            os.kill(child, 0)  # it lives
            with CheckpointDirectory(tmp_path):
                pass
        finally:
            os.kill(child, signal.SIGKILL)


def test_lock_that_cannot_be_signed_holds_all_the_same(tmp_path, monkeypatch, kind_of_lock):
    def full(said):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(locking_module.json, "dumps", full)
    with CheckpointDirectory(tmp_path), pytest.raises(DirectoryLockedError, match="by another process: wait") as error:
        CheckpointDirectory(tmp_path).__enter__()
    assert error.value.pid is error.value.host is None
    with CheckpointDirectory(tmp_path):
        pass


def test_lock_leaves_no_descriptor_open(tmp_path, kind_of_lock):
    with CheckpointDirectory(tmp_path) as held:
        before = len(os.listdir("/proc/self/fd"))
        for _ in range(5):
            with pytest.raises(DirectoryLockedError):
                CheckpointDirectory(tmp_path).__enter__()
        assert len(os.listdir("/proc/self/fd")) == before
    for _ in range(5):
        with held:
            assert len(os.listdir("/proc/self/fd")) <= before
    assert len(os.listdir("/proc/self/fd")) < before or kind_of_lock != "flock"
