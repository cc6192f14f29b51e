"""Toy and real sequences, arrays only: each task knows its baseline, its success rule and its source.

`TASKS` lists them by name. What every task has is written down in `Task`. A `SequenceTask` gives mini-batches, (x, y)
or (x, y, lengths) where rows differ in length; `TextTask` alone gives contiguous streams. The data of a task that
``needs`` a package are read when it is built, not before.
"""

from typing import Any, Literal, Protocol

from minirnn.tasks.adding import AddingTask, adding
from minirnn.tasks.adding_original import OriginalAddingTask
from minirnn.tasks.adding_ragged import RaggedAddingTask
from minirnn.tasks.base import Batch, Defaults, SequenceTask
from minirnn.tasks.copying import CopyTask
from minirnn.tasks.digits import DigitsTask
from minirnn.tasks.echo import EchoTask
from minirnn.tasks.multiplication import MultiplicationTask
from minirnn.tasks.parity import ParityTask
from minirnn.tasks.reber import EmbeddedReberTask, ReberTask
from minirnn.tasks.sine import SineTask
from minirnn.tasks.sunspots import SunspotsTask
from minirnn.tasks.temporal_order import TemporalOrderTask, TemporalOrderThreeTask
from minirnn.tasks.text import Chunk, TextTask
from minirnn.tasks.vowels import VowelsTask

__all__ = [
    "TASKS",
    "AddingTask",
    "Batch",
    "Chunk",
    "CopyTask",
    "Defaults",
    "DigitsTask",
    "EchoTask",
    "EmbeddedReberTask",
    "MultiplicationTask",
    "OriginalAddingTask",
    "ParityTask",
    "RaggedAddingTask",
    "ReberTask",
    "SequenceTask",
    "SineTask",
    "SunspotsTask",
    "Task",
    "TemporalOrderTask",
    "TemporalOrderThreeTask",
    "TextTask",
    "VowelsTask",
    "adding",
]


class Task(Protocol):
    """What every task has, so that a command can list it, build a model for it, train it and judge the result.

    All but ``baseline`` and the two sizes can be read off the class, without building the task; ``baseline`` too where
    the task ``needs`` a package.
    """

    def __init__(self, *args: Any, **settings: Any) -> None:
        """Every setting has a default: ``TASKS[name]()`` works, or raises an ImportError that says what to install."""

    @property
    def name(self) -> str:
        """The task's key in `TASKS`."""

    @property
    def description(self) -> str:
        """What is to be learnt, in one line."""

    @property
    def source(self) -> str:
        """The paper, or where the data is from, in one line."""

    @property
    def rule(self) -> str:
        """When the task counts as solved, in one line that names the figure and its unit."""

    @property
    def metric(self) -> str:
        """What is measured, with its unit: the name of the figure that ``solved`` takes."""

    @property
    def needs(self) -> str | None:
        """The package that the data are part of; None where there is no need of one."""

    @property
    def kind(self) -> Literal["classification", "regression"]:
        """Whether targets are class ids, trained with `cross_entropy`, or numbers, trained with `mse`."""

    @property
    def inputs(self) -> Literal["ids", "vectors"]:
        """Whether x are ids (T, N), which want an embedding, or vectors (T, N, D)."""

    @property
    def baseline(self) -> float:
        """The figure of a predictor that remembers nothing or next to nothing; lower is better."""

    @property
    def input_size(self) -> int:
        """D, or the number of different ids where the input is ids."""

    @property
    def output_size(self) -> int:
        """P."""

    @property
    def readout(self) -> Literal["all", "last"]:
        """Whether there is a target at every step, or after the last."""

    @property
    def defaults(self) -> Defaults:
        """How to train so that it is solved in about a minute."""

    def figure(self, predictions: Any, y: Any, /) -> float:
        """Measure predictions by the figure that the rule is about; a task with lengths takes them third."""

    def solved(self, figure: float, /) -> bool:
        """Whether this figure counts as solved."""


_ALL: tuple[type[Task], ...] = (
    AddingTask,
    OriginalAddingTask,
    RaggedAddingTask,
    MultiplicationTask,
    CopyTask,
    TemporalOrderTask,
    TemporalOrderThreeTask,
    ParityTask,
    EchoTask,
    SineTask,
    ReberTask,
    EmbeddedReberTask,
    TextTask,
    DigitsTask,
    SunspotsTask,
    VowelsTask,
)

TASKS: dict[str, type[Task]] = {str(task.name): task for task in _ALL}
"""Every task by its name."""
