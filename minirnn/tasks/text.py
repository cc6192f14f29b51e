"""Predict the next character of a text, read as contiguous streams."""

import math
import os
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from minirnn.arguments import Array, as_generator, as_number, as_size, class_ids, describe
from minirnn.tasks.base import Defaults, Ids, Task, nats


class Chunk(NamedTuple):
    """``chunk`` steps of N streams: what the model reads, what it should predict, and whether to reset its state.

    Time comes first, as in every `minirnn.tasks.TimeMajor`.
    """

    ids_in: Ids
    """(chunk, N): the character at each step."""
    ids_target: Ids
    """(chunk, N): the character after it."""
    is_start: bool
    """True when the streams do not continue the chunk before: start from a fresh state."""

    def rows_first(self) -> tuple[Ids, Ids, bool]:
        """Return the chunk as a model of ``batch_first`` reads it: ids (N, chunk)."""
        return self.ids_in.T, self.ids_target.T, self.is_start


class TextTask(
    Task,
    name="text",
    description="predict the next character of a text",
    source="any text file; by default the standard library's pydoc_data.topics",
    rule="bits per character on the held-out part below those of the bigram model",
    metric="bits per character",
    kind="classification",
    inputs="ids",
    readout="all",
    defaults=Defaults(hidden=256, batch=32, init="orthogonal", lr=4e-3, max_updates=4_000),
):
    r"""A text to learn character by character, with two baselines that know no more than counts.

    The figure it is judged by is the mean of −log₂ p(next character), in **bits per character**, on the held-out part,
    which the model never trains on (a loss in nats divided by ln 2 is in bits).

    Parameters
    ----------
    text : str, optional
    path : path of a text file, optional
        At most one of the two. Line ends become ``\n`` and a byte order mark is dropped. With neither, the text is the
        standard library's ``pydoc_data.topics``: the topics in the order of their names, joined by a newline; about
        465,000 characters of English prose and Python, always the same for the same Python. In Python 3.11 the unigram
        model takes 4.67 bits per character and the bigram model 3.35. (The documentation repeats itself: of the
        held-out lines of 40 and more characters 8 % stand in the train part too.)
    held_out : float
        The share of the text, at its end, that is held out; between 0 and 1, both excluded.
    encoding : str
        Of the file, as `bytes.decode` knows it; it is never guessed.
    vocabulary : str, optional
        Instead of a text, where there is none: the characters in the order of their ids, as `vocabulary` of the task
        that a model was trained on has them. Such a task can `encode`, `decode`, and serve `minirnn.training.sample`.

    Attributes
    ----------
    vocabulary : str
        The characters of the whole text, sorted: the held-out part has no unknown ones. The id is the position here.
    train_ids, held_out_ids : int64 arrays, read-only
        The two parts, as ids.
    input_size, output_size : int
        The size of the vocabulary.

    >>> task = TextTask("the cat sat on the mat. the rat sat on the cat. ")
    >>> task.decode(task.encode("cat"))
    'cat'
    >>> chunk = next(task.streams(N=2, chunk=5, rng=0))
    >>> chunk.ids_in.shape, chunk.is_start
    ((5, 2), True)
    >>> bool((chunk.ids_in[1:] == chunk.ids_target[:-1]).all())
    True
    """

    train_ids: Ids
    held_out_ids: Ids

    def __init__(
        self,
        text: str | None = None,
        path: str | os.PathLike[str] | None = None,
        held_out: float = 0.1,
        *,
        encoding: str = "utf-8",
        vocabulary: str | None = None,
    ) -> None:
        if (text is not None) + (path is not None) + (vocabulary is not None) > 1:
            raise ValueError("TextTask: text, path and vocabulary must not be given together: try one of them")
        if path is None and encoding != "utf-8":
            raise ValueError(f"TextTask: encoding must come with path, the file that is in {encoding}, got none")
        if vocabulary is not None:
            if not isinstance(vocabulary, str) or not vocabulary or [*vocabulary] != sorted(set(vocabulary)):
                raise ValueError(
                    f"TextTask: vocabulary must be a str of different characters in order, got {describe(vocabulary)}: "
                    "try that of the task that the model was trained on"
                )
            self._know(vocabulary)
            self._keep(train_ids=self.encode(""), held_out_ids=self.encode(""))
            return
        held_out = as_number(held_out, "TextTask: held_out", "a number in (0, 1)", "try 0.1")
        if path is not None:
            text = read_text(path, encoding, "TextTask: path")
        elif text is None:
            text = _prose()
        elif not isinstance(text, str):
            raise TypeError(f"TextTask: text must be a str, got {type(text).__name__}: for a file try path=")
        train_size = round(len(text) * (1 - held_out))
        if min(train_size, len(text) - train_size) < 2:
            raise ValueError(
                f"TextTask: {'text' if path is None else 'path'} must give at least 2 characters to train on and 2 "
                f"held out, got {train_size} and {len(text) - train_size} with held_out={held_out}: try a longer text"
            )
        self._know("".join(sorted(set(text))))
        ids = self.encode(text)
        self._keep(train_ids=ids[:train_size], held_out_ids=ids[train_size:])

    def _know(self, vocabulary: str) -> None:
        self.vocabulary, self._codes = vocabulary, _code_points(vocabulary)
        self.input_size = self.output_size = len(vocabulary)

    def __repr__(self) -> str:
        return (
            f"<TextTask: {self.train_ids.size:,} to train on, {self.held_out_ids.size:,} held out, "
            f"{len(self.vocabulary)} different characters>"
        )

    def encode(self, text: str) -> Ids:
        """Turn a str of T characters into an int64 array (T,) of ids; ValueError for unknown ones."""
        if not isinstance(text, str):
            raise TypeError(
                f"TextTask.encode: text must be a str, got {type(text).__name__}: try ''.join(…) for a list"
            )
        codes = _code_points(text)
        ids = np.minimum(np.searchsorted(self._codes, codes), self._codes.size - 1)
        if (self._codes[ids] != codes).any():
            unknown = "".join(sorted(set(text) - set(self.vocabulary))[:20])
            raise ValueError(
                f"TextTask.encode: text must consist of the {len(self.vocabulary)} characters of the vocabulary, got "
                f"{unknown!r} too: leave them out or replace them"
            )
        return ids.astype(np.int64, copy=False)

    def decode(self, ids: npt.ArrayLike) -> str:
        """Turn ids (T,), an array or a list, back into a str of T characters; IndexError for unknown ones."""
        array = np.asarray(ids)
        if array.ndim != 1:
            raise ValueError(f"TextTask.decode: ids must have shape (T,), got {array.shape}: try ids[:, n], one stream")
        if array.size == 0:
            return ""
        array = class_ids(array, len(self.vocabulary), "TextTask.decode: ids")
        return str(self._codes[array].tobytes(), "utf-32-le", "surrogatepass")

    @cached_property
    def unigram_bits(self) -> float:
        """Bits per character on the held-out part of p(c) = (n_c + 1) / (n + V).

        n_c counts character c in the train part of n characters; V is the size of the vocabulary; the 1 is Laplace's
        smoothing. Scored on every held-out character but the first, like the bigram model and `evaluation_streams`
        with N = 1.
        """
        counts = np.bincount(self.train_ids, minlength=len(self.vocabulary))
        p = (counts + 1) / (self.train_ids.size + len(self.vocabulary))
        return float(-np.log2(p[self.held_out_ids[1:]]).mean())

    @cached_property
    def bigram_bits(self) -> float:
        """Bits per character on the held-out part of p(c | b) = (n_bc + 1) / (n_b + V).

        n_bc counts in the train part how often c follows b, and n_b = Σ_c n_bc; V is the size of the vocabulary; the 1
        is Laplace's smoothing. Scored on every held-out character but the first, which has none before it.
        """
        V = len(self.vocabulary)
        # A pair is one number, and only pairs that occur are counted: a V × V table of a Chinese text would not fit.
        pairs, counts = np.unique(self.train_ids[:-1] * V + self.train_ids[1:], return_counts=True)
        asked = self.held_out_ids[:-1] * V + self.held_out_ids[1:]
        found = np.minimum(np.searchsorted(pairs, asked), pairs.size - 1)
        n_bc = np.where(pairs[found] == asked, counts[found], 0)
        n_b = np.bincount(self.train_ids[:-1], minlength=V)[self.held_out_ids[:-1]]
        return float(-np.log2((n_bc + 1) / (n_b + V)).mean())

    @property
    def baseline(self) -> float:  # type: ignore[override]
        """What is to be beaten: `bigram_bits`."""
        return self.bigram_bits

    goal = baseline

    def _figure(self, predictions: Array, y: Array, counting: Array) -> float:
        return float(nats(predictions, y)[counting].mean() / math.log(2))

    def streams(self, N: int, chunk: int, rng: np.random.Generator | int | None = None) -> Iterator[Chunk]:
        """Read the train part as N contiguous streams side by side, pass after pass, without end.

        The part is cut into N territories of S characters, stream n reading the n-th. Within a pass, row n of a chunk
        continues row n of the chunk before, so that a recurrent state can be carried on (and detached: truncated BPTT).
        The first chunk of a pass has ``is_start=True``.

        Where in its territory a pass starts is drawn anew (one draw, the same for all rows), so that the chunks'
        borders move, and what one pass leaves out, fewer than 2·chunk steps a territory, another reads. Only the rest
        after the last territory, fewer than N characters, is never read.

        TypeError or ValueError, at the call, when N or ``chunk``, the steps in one, is not an int ≥ 1, or the train
        part has fewer than N·chunk + 1 characters.
        """
        return _Streams("TextTask.streams", self.train_ids, N, chunk, as_generator(rng))

    def evaluation_streams(self, N: int, chunk: int) -> Iterator[Chunk]:
        """Read the held-out part once, as N contiguous streams side by side; the same chunks at every call.

        As `streams`, but always from the start, and the last chunk may be shorter, so that all is read but a rest of
        fewer than N characters; with N = 1 every held-out character but the first is a target.
        Weigh the chunks by their size: ``sum(bits * c.ids_target.size) / sum(c.ids_target.size)``.
        TypeError or ValueError, at the call, as there; the held-out part needs N + 1 characters.
        """
        return _Streams("TextTask.evaluation_streams", self.held_out_ids, N, chunk, None)


class _Streams(Iterator[Chunk]):
    """N streams of ids, side by side in chunks; no generator: this can be copied and pickled.

    Where each pass starts is drawn; without ``rng`` there is one pass, from the start.
    """

    def __init__(self, caller: str, ids: Ids, N: int, chunk: int, rng: np.random.Generator | None) -> None:
        N, chunk = as_size(N, f"{caller}: N"), as_size(chunk, f"{caller}: chunk")
        needed = N + 1 if rng is None else N * chunk + 1
        if ids.size < needed:
            part = "held-out part" if rng is None else "train part"
            raise ValueError(
                f"{caller}: N={N} streams in chunks of chunk={chunk} steps need at least {needed} characters, got a "
                f"{part} of {ids.size}: try a smaller N or chunk, or a longer text"
            )
        self.ids, self.rng, self.chunk = ids, rng, chunk
        S = (ids.size - 1) // N
        self.first = np.arange(N) * S
        # A pass that is drawn leaves room for chunk different starts, when the text allows it.
        self.steps = S if rng is None else max(1, (S - chunk + 1) // chunk) * chunk
        self.starts = S - self.steps + 1
        self.start = self.at = 0
        self.stop = S if rng is None else 0

    def __next__(self) -> Chunk:
        if self.at >= self.stop:
            if self.rng is None:
                raise StopIteration
            self.start = self.at = int(self.rng.integers(self.starts))
            self.stop = self.start + self.steps
        begin, self.at = self.at, min(self.at + self.chunk, self.stop)
        at = np.arange(begin, self.at)[:, None] + self.first
        return Chunk(self.ids[at], self.ids[at + 1], begin == self.start)


def _code_points(text: str) -> npt.NDArray[np.uint32]:
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype="<u4")


def _prose() -> str:
    try:
        from pydoc_data.topics import topics  # here, not above: some small Pythons come without it
    except ImportError as error:
        raise ModuleNotFoundError(
            "TextTask: this Python has no pydoc_data.topics, the default text: try text= or path="
        ) from error
    return "\n".join(topics[name] for name in sorted(topics))


def read_text(path: str | os.PathLike[str], encoding: str, argument: str) -> str:
    """Read a text file, without a byte order mark and with line ends of one kind; what is none is refused."""
    if not isinstance(path, str | os.PathLike):
        raise TypeError(f"{argument} must be a str or a Path, got {describe(path)}: for a text itself try text=")
    try:
        "a".encode(encoding)
    except (LookupError, TypeError, ValueError):
        caller, got = argument.split(":")[0], describe(encoding)
        raise ValueError(f"{caller}: encoding must be the name of one, got {got}: try encoding='cp1252'") from None
    kind = "UTF-8" if encoding.lower().replace("_", "-") in ("utf-8", "utf8", "utf-8-sig") else encoding
    expected = f"{argument} must name a text file in {kind}, got {str(path)!r}"
    try:
        data = Path(os.path.expanduser(path)).read_bytes()
    except OSError as error:
        raise type(error)(
            f"{expected}: {error.strerror}: check the spelling; the working directory is {str(Path.cwd())!r}"
        ) from error
    wrong = data.find(0) if kind == "UTF-8" else -1  # in UTF-16 every other byte is
    try:
        text = data.decode(encoding).removeprefix("\ufeff")
    except UnicodeError as error:
        wrong = getattr(error, "start", 0)
    if wrong >= 0:
        wide = 0 in data or data.startswith((b"\xff\xfe", b"\xfe\xff"))
        other = "utf-16" if wide else "cp1252" if kind == "UTF-8" else "utf-8"
        raise ValueError(
            f"{expected}, which has the byte 0x{data[wrong]:02x} at offset {wrong}: if it is text in another encoding, "
            f"try encoding={other!r}, say"
        )
    return text.replace("\r\n", "\n").replace("\r", "\n")
