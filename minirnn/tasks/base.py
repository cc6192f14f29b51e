"""What the tasks share: how they describe themselves, batches drawn with a Generator, the figure and its goal."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from functools import partial
from typing import Any, ClassVar, Literal, NamedTuple, cast

import numpy as np
import numpy.typing as npt

from minirnn.arguments import Array, as_array, as_flag, as_generator, as_size, class_ids, counting

Floats = npt.NDArray[np.float32]
Ids = npt.NDArray[np.int64]
Batch = tuple[Any, ...]
"""(x, y), or (x, y, lengths) of a task whose rows differ in length."""


class TimeMajor(tuple[Any, ...]):
    """(x, y), or (x, y, lengths), with time first in x: a tuple like any other, but for knowing so.

    By this `minirnn.training` turns it for a model of ``batch_first``. A plain tuple of its parts does not know.
    """

    every_step: bool = False
    """Whether time comes first in y too: (T, N, …), a target at every step."""

    def rows_first(self) -> Batch:
        """Return the batch as a model of ``batch_first`` reads it, with x (N, T, …)."""
        x, y, *lengths = self
        return (np.swapaxes(x, 0, 1), np.swapaxes(y, 0, 1) if self.every_step else y, *lengths)


# Keeps held-out batches apart from the training stream of the same seed; any fixed number would do.
_HELD_OUT = 0x68656C64


class Defaults(NamedTuple):
    """How to train on a task so that it is solved in about a minute; a loop with Adam is meant."""

    cell: Literal["elman", "gru", "lstm"] = "elman"
    hidden: int = 100  # H
    batch: int = 16  # N
    init: str = "irnn"  # or the name of the initialiser of W_hh
    activation: str | None = None  # φ of an Elman layer; None: "relu" for "irnn", else "tanh"
    lr: float = 1e-3  # of Adam
    clip: float = 1.0  # the largest gradient norm
    max_updates: int = 20_000  # by when it should be solved


class Task:
    """What every task has, so that a command can list it, build a model for it, train it and judge the result.

    A subclass says it in its head, ``class AddingTask(SequenceTask, name="adding", goal=0.01, …)``, or as class
    attributes. All but ``baseline`` and the two sizes can be read off the class, without building the task;
    ``baseline`` too where the task ``needs`` a package. Every setting has a default: ``TASKS[name]()`` works, or raises
    an ImportError that says what to install.
    """

    name: ClassVar[str]  # its key in `TASKS`
    description: ClassVar[str]  # what is to be learnt, in one line
    source: ClassVar[str]  # the paper, or where the data is from, in one line
    rule: ClassVar[str]  # when it counts as solved, in one line that names the figure and its unit
    metric: ClassVar[str] = "mean squared error"  # the name of that figure, with its unit
    kind: ClassVar[Literal["classification", "regression"]] = "regression"
    """Whether targets are class ids, trained with `cross_entropy`, or numbers, trained with `mse`."""
    inputs: ClassVar[Literal["ids", "vectors"]] = "vectors"
    """Whether x are ids (T, N), which want an embedding, or vectors (T, N, D)."""
    readout: ClassVar[Literal["all", "last"]] = "last"  # whether there is a target at every step, or after the last
    needs: ClassVar[str | None] = None  # the package that the data are part of
    defaults: ClassVar[Defaults] = Defaults()

    input_size: int  # D, or the number of different ids where the input is ids
    output_size: int  # P
    baseline: float  # the figure of a predictor that remembers nothing or next to nothing
    goal: float  # below this figure the task is solved

    def __init_subclass__(cls, **said: Any) -> None:
        """Set what the head of a subclass says of it."""
        super().__init_subclass__()
        for name, value in said.items():
            setattr(cls, name, value)

    def solved(self, figure: float) -> bool:
        """Whether this figure counts as solved, as ``rule`` says (NaN does not)."""
        return bool(figure < self.goal)

    def figure(self, predictions: Any, y: Any, lengths: Any = None, *, batch_first: bool = False) -> float:
        """Measure predictions by the figure that ``rule`` is about, ``metric``; lower is better.

        Parameters
        ----------
        predictions : array_like or Tensor
            Of y's shape for a regression; with an axis of ``output_size`` scores (logits) more for a classification.
        y : array_like
            As the task gave it.
        lengths : array_like of int (N,), optional
            As the task gave it. Steps past a row's length do not count.
        batch_first : bool
            Whether predictions and y of every step are (N, T, …), as a model of ``batch_first`` has them.

        TypeError, ValueError or IndexError for other shapes, or ids or lengths out of range.
        """
        caller = f"{type(self).__name__}.figure"
        scores, targets = as_array(predictions, f"{caller}: predictions").astype(np.float64), np.asarray(y)
        if self.kind == "classification":
            class_ids(targets, self.output_size, f"{caller}: y")
        expected = targets.shape + (self.output_size,) * (self.kind == "classification")
        if scores.shape != expected or not scores.size:
            raise ValueError(f"{caller}: predictions must have shape {expected} for this y, got {scores.shape}")
        every_step = self.readout == "all"
        count = np.ones(targets.shape[: 2 if every_step else 1], bool)
        if every_step and lengths is not None:
            count = counting(lengths, targets.shape, f"{caller}: lengths", batch_first)
        if as_flag(batch_first, f"{caller}: batch_first") and every_step:
            scores, targets, count = (a.swapaxes(0, 1) for a in (scores, targets, count))
        return self._figure(scores, targets, count)

    def _figure(self, predictions: Array, y: Array, counting: npt.NDArray[np.bool_]) -> float:
        """Measure the mean squared error, or the share of targets whose class has not the largest score.

        ``counting``, (N,) or (T, N), says which targets do.
        """
        if self.kind == "regression":
            return float(((predictions - y)[counting] ** 2).mean())
        scores = predictions[counting]
        return float(1 - ((scores.argmax(axis=-1) == y[counting]) & ~np.isnan(scores).any(axis=-1)).mean())

    def _keep(self, **attributes: Any) -> None:
        """Set attributes, arrays and tuples of arrays among them, which cannot be overwritten."""
        for value in attributes.values():
            for array in value if isinstance(value, tuple) else (value,):
                if isinstance(array, np.ndarray):
                    array.setflags(write=False)
        vars(self).update(attributes)

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Fill a copy; what numpy copies can be written to."""
        self._keep(**state)


class SequenceTask(Task, ABC):
    """A task whose mini-batches are drawn one by one; a subclass says how (``_draw``) and describes itself.

    ``batch``, ``batches`` and ``evaluation_batch`` give a `TimeMajor` (x, y), or (x, y, lengths) where rows differ in
    length:

    - x, float32 (T, N, D), time first; what stands past a row's length is 0;
    - y, float32 (N, P) of a regression, int64 class ids (N,) of a classification; (T, N, P) and (T, N) where there is a
      target at every step, ``readout`` "all";
    - lengths, int64 (N,).
    """

    settings: ClassVar[tuple[str, ...]] = ("T",)
    """The attributes that `repr` shows."""

    def __repr__(self) -> str:
        shown = ", ".join(f"{name}={getattr(self, name)!r}" for name in self.settings)
        return f"{type(self).__name__}({shown})"

    @abstractmethod
    def _draw(self, N: int, rng: np.random.Generator) -> Batch:
        """Draw one mini-batch."""

    def batch(self, N: int, rng: np.random.Generator | int | None = None) -> Batch:
        """Draw one mini-batch of N sequences: (x, y) or (x, y, lengths)."""
        return self._time_major(self._draw(as_size(N, f"{type(self).__name__}.batch: N"), as_generator(rng)))

    def batches(self, N: int, rng: np.random.Generator | int | None = None) -> Iterator[Batch]:
        """Draw mini-batches without end from one Generator; arguments are checked at the call."""
        size, generator = as_size(N, f"{type(self).__name__}.batches: N"), as_generator(rng)
        return iter(partial(self.batch, size, generator), None)  # no generator: this can be copied and pickled

    def evaluation_batch(self, N: int = 1000, seed: int = 0) -> Batch:
        """Draw the held-out batch of a seed ≥ 0: the same at every call, and no stream of ``rng=seed``."""
        caller = f"{type(self).__name__}.evaluation_batch"
        return self._time_major(self._draw_held_out(as_size(N, f"{caller}: N"), as_size(seed, f"{caller}: seed", 0)))

    def _time_major(self, drawn: Batch) -> TimeMajor:
        batch = TimeMajor(drawn)
        batch.every_step = self.readout == "all"
        return batch

    def _draw_held_out(self, N: int, seed: int) -> Batch:
        return self._draw(N, np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(_HELD_OUT,))))


class TimedTask(SequenceTask):
    """A task with a setting T, the steps of its sequences, which is at least ``shortest``."""

    shortest: ClassVar[int] = 1

    def __init__(self, T: int = 50) -> None:
        self.T = as_size(T, f"{type(self).__name__}: T", self.shortest)


def nats(scores: Array, ids: Array) -> Array:
    """Compute −ln softmax(scores)[id] for scores (…, C) and ids (…)."""
    shifted = scores - scores.max(axis=-1, keepdims=True)
    of_id = np.take_along_axis(shifted, np.asarray(ids)[..., None], axis=-1)[..., 0]
    return cast(Array, np.log(np.exp(shifted).sum(axis=-1)) - of_id)


def one_hot(ids: Array, K: int) -> Floats:
    """Make float32 vectors (…, K) with a 1 at each id."""
    return np.eye(K, dtype=np.float32)[ids]
