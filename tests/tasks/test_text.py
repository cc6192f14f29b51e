import itertools
import math
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from error_texts import raises

from minirnn.tasks import Chunk, TextTask

TINY = "abracadabra, abba! " * 6 + "cab.\n"


def numbered(size, held_out=0.5):
    """A text whose every character is another one, so that an id is a position."""
    return TextTask("".join(map(chr, range(0x4E00, 0x4E00 + size))), held_out=held_out)


@pytest.fixture(scope="module")
def prose():
    return TextTask()


# --- the default text -------------------------------------------------------------------------------------------------


def test_the_default_text_is_the_standard_librarys_prose(prose):
    from pydoc_data.topics import topics

    text = prose.decode(prose.train_ids) + prose.decode(prose.held_out_ids)
    assert text == "\n".join(topics[name] for name in sorted(topics))
    assert 300_000 < len(text) < 700_000
    assert prose.held_out_ids.size == pytest.approx(len(text) / 10, abs=1)
    again = TextTask()
    np.testing.assert_array_equal(prose.train_ids, again.train_ids)
    assert prose.vocabulary == again.vocabulary
    train, held_out = (
        {s.strip() for s in prose.decode(ids).splitlines()} for ids in (prose.train_ids, prose.held_out_ids)
    )
    long = [line for line in held_out if len(line) >= 40]
    assert sum(line in train for line in long) < 0.25 * len(long)  # else the held-out figure would measure memory
    assert 2.5 < prose.bigram_bits < prose.unigram_bits < math.log2(prose.input_size)
    if sys.version_info[:2] == (3, 11):  # the text belongs to the version; these are the docstring's figures
        assert prose.unigram_bits == pytest.approx(4.67, abs=0.01)
        assert prose.bigram_bits == pytest.approx(3.35, abs=0.01)


def test_without_the_default_text_the_error_says_what_to_do(monkeypatch):
    monkeypatch.setitem(sys.modules, "pydoc_data.topics", None)
    with raises(
        ModuleNotFoundError,
        "TextTask: this Python has no pydoc_data.topics, the default text: try text= or path=",
    ):
        TextTask()


# --- characters and ids -----------------------------------------------------------------------------------------------


def test_vocabulary_is_sorted_and_ids_are_positions_in_it():
    task = TextTask(TINY)
    assert task.vocabulary == "".join(sorted(set(TINY)))
    assert task.input_size == task.output_size == len(set(TINY))
    ids = np.concatenate([task.train_ids, task.held_out_ids])
    assert ids.dtype == np.int64
    assert ids.tolist() == [task.vocabulary.index(c) for c in TINY]
    for held_out in (0.1, 0.25, 0.5):
        task = TextTask(TINY, held_out=held_out)
        assert task.held_out_ids.size == pytest.approx(held_out * len(TINY), abs=0.5)
        assert task.decode(task.train_ids) + task.decode(task.held_out_ids) == TINY
    for part in (task.train_ids, task.held_out_ids):
        with pytest.raises(ValueError, match="read-only"):
            part[0] = 1
    assert repr(TextTask("abcd" * 300)) == "<TextTask: 1,080 to train on, 120 held out, 4 different characters>"


def test_encode_and_decode_are_inverse_for_any_unicode():
    task = TextTask("naïve 東京 🎈 \ud800 " * 3)
    assert task.vocabulary == "".join(sorted(task.vocabulary))
    assert task.decode(task.encode("🎈 東 ï\ud800")) == "🎈 東 ï\ud800"
    assert task.decode(task.encode("東").tolist()) == "東"
    assert task.decode(task.encode("")) == ""
    assert task.decode([]) == ""
    assert task.decode(np.array([0, 1], np.uint16)) == task.vocabulary[:2]


def test_encode_lists_the_unknown_characters():
    task = TextTask(TINY)
    message = (
        f"TextTask.encode: text must consist of the {len(set(TINY))} characters of the vocabulary, got 'xz' too: leave "
        "them out or replace them"
    )
    with raises(ValueError, message):
        task.encode("abzxz")
    with pytest.raises(ValueError, match=r", got '\w{20}' too:"):  # not a screenful
        task.encode("".join(map(chr, range(0x4E00, 0x5E00))))
    with raises(TypeError, "TextTask.encode: text must be a str, got list: try ''.join(…) for a list"):
        task.encode(["a"])


def test_decode_refuses_what_are_no_ids():
    no_ids = "ids must be integers 0 … 9, got"
    for ids, kind, message in (
        ([[0, 1]], ValueError, "ids must have shape (T,), got (1, 2): try ids[:, n], one stream"),
        ([0.5], TypeError, f"{no_ids} an array of shape (1,) and dtype float64: try ids.astype(int)"),
        ([0, -1], IndexError, f"{no_ids} -1 at [1]"),
        ([0, 99], IndexError, f"{no_ids} 99 at [1]"),
    ):
        with raises(kind, f"TextTask.decode: {message}"):
            TextTask("0123456789" * 2).decode(ids)


# --- baselines --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", [TINY, "aaaaaaaaaaaaab", "abcdefghijklmnop"])  # the last two: pairs never seen
def test_unigram_and_bigram_bits_against_a_plain_loop(text):
    task = TextTask(text, held_out=0.3)
    train, held_out = task.decode(task.train_ids), task.decode(task.held_out_ids)
    V = len(set(text))
    counts = Counter(train)
    bits = [-math.log2((counts[c] + 1) / (len(train) + V)) for c in held_out[1:]]
    assert task.unigram_bits == pytest.approx(sum(bits) / len(bits), rel=1e-12)
    pairs = Counter(itertools.pairwise(train))
    before = Counter(train[:-1])
    bits = [-math.log2((pairs[b, c] + 1) / (before[b] + V)) for b, c in itertools.pairwise(held_out)]
    assert task.bigram_bits == pytest.approx(sum(bits) / len(bits), rel=1e-12)
    assert task.baseline == task.bigram_bits


def test_many_different_characters_need_no_square_table():
    rng = np.random.default_rng(0)
    codes = rng.integers(0x10000, 0x10000 + 60_000, 50_000)
    task = TextTask("".join(map(chr, codes)))
    assert task.input_size > 30_000  # squared, in 8-byte counts: more than 7 GB
    assert 10 < task.bigram_bits < 17


# --- streams ----------------------------------------------------------------------------------------------------------


def passes(task, N, chunk, number, rng=0):
    """The first so many passes: lists of chunks."""
    collected = []
    for item in task.streams(N, chunk, rng=rng):
        if item.is_start:
            if len(collected) == number:
                return collected
            collected.append([])
        collected[-1].append(item)
    raise AssertionError("streams ended")


@pytest.mark.parametrize(("N", "chunk"), [(1, 1), (1, 7), (4, 5), (5, 20), (9, 11)])
def test_streams_are_contiguous(N, chunk):
    task = numbered(203)  # 102 to train on
    assert task.train_ids.size == 102
    S = 101 // N
    for one in passes(task, N, chunk, 5):
        assert [item.is_start for item in one] == [True] + [False] * (len(one) - 1)
        for item in one:
            assert isinstance(item, Chunk)
            assert item.ids_in.shape == item.ids_target.shape == (chunk, N)
            assert item.ids_in.dtype == item.ids_target.dtype == np.int64
            np.testing.assert_array_equal(item.ids_target, item.ids_in + 1)  # ids are positions here
        rows = np.concatenate([item.ids_in for item in one])
        np.testing.assert_array_equal(rows, rows[0] + np.arange(len(rows))[:, None])
        np.testing.assert_array_equal(np.diff(rows[0]), np.full(N - 1, S))
        assert len(rows) <= S  # no stream enters the next one's territory
        assert rows.max() + 1 < task.train_ids.size  # nor the held-out part


def test_every_pass_has_as_many_chunks_and_starts_somewhere_else():
    task = numbered(2001)
    collected = passes(task, 3, 10, 100)
    assert {len(one) for one in collected} == {(1000 // 3 - 9) // 10}
    starts = {int(one[0].ids_in[0, 0]) for one in collected}
    assert {start % 10 for start in starts} == set(range(10))  # so the borders of the chunks move


def test_what_one_pass_leaves_out_another_reads():
    task = numbered(203)
    N, chunk = 3, 10
    collected = passes(task, N, chunk, 200)
    for one in collected:
        assert 101 - sum(item.ids_in.size for item in one) < N * 2 * chunk
    read = np.unique(np.concatenate([item.ids_in.ravel() for one in collected for item in one]))
    np.testing.assert_array_equal(read, np.arange(101 // N * N))


def test_streams_follow_their_generator():
    task = numbered(2001)

    def start(rng, number=12):
        return [int(one[0].ids_in[0, 0]) for one in passes(task, 2, 10, number, rng)]

    assert start(0) == start(0) == start(np.random.default_rng(0))
    assert start(0) != start(1)


def test_the_shortest_text_that_works():
    task = numbered(2 * (3 * 4 + 1))
    assert task.train_ids.size == 3 * 4 + 1
    first, second = itertools.islice(task.streams(N=3, chunk=4, rng=0), 2)
    np.testing.assert_array_equal(first.ids_in, np.arange(12).reshape(3, 4).T)
    np.testing.assert_array_equal(first.ids_in, second.ids_in)
    assert second.is_start
    message = (
        "TextTask.streams: N=3 streams in chunks of chunk=4 steps need at least 13 characters, got a train part of 12: "
        "try a smaller N or chunk, or a longer text"
    )
    with raises(ValueError, message):
        numbered(24).streams(N=3, chunk=4)
    message = (
        "TextTask.evaluation_streams: N=10 streams in chunks of chunk=4 steps need at least 11 characters, got a "
        "held-out part of 10: try a smaller N or chunk, or a longer text"
    )
    with raises(ValueError, message):
        numbered(20).evaluation_streams(N=10, chunk=4)
    for name in ("streams", "evaluation_streams"):
        with raises(ValueError, f"TextTask.{name}: N must be an int ≥ 1, got 0: try 1 or more"):
            getattr(TextTask(TINY), name)(0, 4)


# --- held-out streams -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("N", "chunk"), [(1, 1), (1, 7), (1, 500), (4, 5), (3, 33)])
def test_held_out_streams_read_all_but_a_rest_once_and_in_order(N, chunk):
    task = numbered(203)
    size = task.held_out_ids.size
    items = list(task.evaluation_streams(N, chunk))
    assert [item.is_start for item in items] == [True] + [False] * (len(items) - 1)
    assert all(item.ids_in.shape == (chunk, N) for item in items[:-1])
    rows = np.concatenate([item.ids_in for item in items])
    S = (size - 1) // N
    np.testing.assert_array_equal(rows.T.ravel(), task.held_out_ids[: S * N])
    np.testing.assert_array_equal(np.concatenate([item.ids_target for item in items]), rows + 1)
    assert size - 1 - rows.size < N


# --- files and arguments ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [str, Path])
def test_a_file_is_read(tmp_path, kind):
    file = tmp_path / "a.txt"
    file.write_bytes("\ufeffnaïve\r\nold\rnew\n".encode())
    task = TextTask(path=kind(file), held_out=0.3)
    assert task.decode(task.train_ids) + task.decode(task.held_out_ids) == "naïve\nold\nnew\n"


@pytest.mark.parametrize(
    ("encoding", "mark"),
    [("utf-8", "\ufeff"), ("UTF_8", ""), ("utf-16", ""), ("utf-16-le", "\ufeff"), ("utf-16-be", ""), ("cp1252", "")],
)
def test_a_file_in_another_encoding_is_read_when_it_is_named(tmp_path, encoding, mark):
    file = tmp_path / "a.txt"
    file.write_bytes(f"{mark}naïve\r\n€\n".encode(encoding))
    task = TextTask(path=file, held_out=0.3, encoding=encoding)
    assert task.decode(task.train_ids) + task.decode(task.held_out_ids) == "naïve\n€\n"


def test_encodings_that_are_refused(tmp_path):
    file = tmp_path / "a.txt"
    file.write_bytes("naïve".encode("utf-16"))
    byte = f"path must name a text file in {{}}, got {str(file)!r}, which has the byte 0x{{}} at offset {{}}: if it is "
    byte += "text in another encoding, try encoding='utf-16', say"
    name = "encoding must be the name of one, got {}: try encoding='cp1252'"
    for encoding, message in (
        ("utf-8", byte.format("UTF-8", "ff", 0)),
        ("ascii", byte.format("ascii", "ff", 0)),
        ("utf-32", byte.format("utf-32", "ff", 0)),
        ("klingon", name.format("'klingon' (str)")),
        ("base64", name.format("'base64' (str)")),
        (8, name.format("8 (int)")),
    ):
        with raises(ValueError, f"TextTask: {message}"):
            TextTask(path=file, encoding=encoding)
    with raises(ValueError, "TextTask: encoding must come with path, the file that is in cp1252, got none"):
        TextTask("some text", encoding="cp1252")


def test_a_vocabulary_alone_encodes_and_decodes():
    task, text = TextTask(vocabulary="\n abc"), TextTask("a b c\n" * 9)
    assert (task.vocabulary, task.input_size, task.output_size) == (text.vocabulary, 5, 5)
    np.testing.assert_array_equal(task.encode("cab a"), text.encode("cab a"))
    assert task.decode([4, 2, 3]) == "cab"
    with raises(ValueError, "TextTask.streams: N=1 streams in chunks of chunk=1 steps need at least 2 characters, got "
                "a train part of 0: try a smaller N or chunk, or a longer text"):  # fmt: skip
        task.streams(1, 1)
    for wrong in ("ba", "aa", "", ["a"]):
        with pytest.raises(ValueError, match=r"^TextTask: vocabulary must be a str of different characters in order, "):
            TextTask(vocabulary=wrong)


def test_files_that_are_no_text(tmp_path):
    hint = f"check the spelling; the working directory is {str(Path.cwd())!r}"
    convert = "if it is text in another encoding, try encoding='{}', say"
    contents = {"0": b"PNG\0\1\2", "16": "text".encode("utf-16-le"), "8": "naïve".encode("latin-1")}
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    for name, kind, what in (
        ("none.txt", FileNotFoundError, f": No such file or directory: {hint}"),
        (".", IsADirectoryError, f": Is a directory: {hint}"),
        ("0", ValueError, f", which has the byte 0x00 at offset 3: {convert.format('utf-16')}"),
        ("16", ValueError, f", which has the byte 0x00 at offset 1: {convert.format('utf-16')}"),
        ("8", ValueError, f", which has the byte 0xef at offset 2: {convert.format('cp1252')}"),
    ):
        file = tmp_path / name
        with raises(kind, f"TextTask: path must name a text file in UTF-8, got {str(file)!r}{what}"):
            TextTask(path=file)


def test_bad_arguments_are_refused():
    held_out = "held_out must be a number in (0, 1), got"
    short = (
        "text must give at least 2 characters to train on and 2 held out, got 6 and 1 with held_out=0.1: try a longer"
    )
    for arguments, kind, message in (
        ({"text": b"abc"}, TypeError, "text must be a str, got bytes: for a file try path="),
        (
            {"text": TINY, "path": "x"},
            ValueError,
            "text, path and vocabulary must not be given together: try one of them",
        ),
        ({"path": 3}, TypeError, "path must be a str or a Path, got 3 (int): for a text itself try text="),
        ({"text": TINY, "held_out": 1.0}, ValueError, f"{held_out} 1.0: try 0.1"),
        ({"text": TINY, "held_out": math.nan}, ValueError, f"{held_out} nan: try 0.1"),
        ({"text": TINY, "held_out": "0.1"}, TypeError, f"{held_out} '0.1' (str): try 0.1"),
        ({"text": "abcdefg"}, ValueError, f"{short} text"),
    ):
        with raises(kind, f"TextTask: {message}"):
            TextTask(**arguments)


# --- the figure -------------------------------------------------------------------------------------------------------


def test_the_figure_is_the_mean_of_minus_log2_of_the_softmax():
    task, rng = TextTask("abc" * 20), np.random.default_rng(0)
    scores, y = rng.normal(size=(5, 2, 3)), rng.integers(3, size=(5, 2))
    p = np.exp(scores) / np.exp(scores).sum(axis=-1, keepdims=True)
    bits = [-math.log2(p[t, n, y[t, n]]) for t in range(5) for n in range(2)]
    assert task.figure(scores, y) == pytest.approx(sum(bits) / 10, rel=1e-12)
    assert task.figure(np.zeros((4, 3)), [0, 1, 2, 0]) == pytest.approx(math.log2(3))
    assert task.figure(scores, y, [5, 5]) == task.figure(scores, y)
    assert task.figure(scores, y, [5, 1]) == pytest.approx(task.figure(scores[:, :1], y[:, :1]) * 5 / 6 + bits[1] / 6)
    with raises(ValueError, "TextTask.figure: predictions must have shape (5, 2, 3) for this y, got (5, 2, 4)"):
        task.figure(np.zeros((5, 2, 4)), y)
    with raises(IndexError, "TextTask.figure: y must be integers 0 … 2, got 3 at [1]"):
        task.figure(np.zeros((2, 3)), [0, 3])
