"""Toy and real sequences, arrays only: each task knows its baseline, its success rule and its source.

`TASKS` lists them by name. What every task has is written down in `Task`; how it yields its data is its own: (x, y)
mini-batches for a regression such as `AddingTask`, contiguous streams for `TextTask`.
"""

from typing import Any, Literal, Protocol

from minirnn.tasks.adding import AddingTask, adding
from minirnn.tasks.text import Chunk, TextTask

__all__ = ["TASKS", "AddingTask", "Chunk", "Task", "TextTask", "adding"]


class Task(Protocol):
    """What every task has, so that a command can list it, build a model for it and judge the result.

    All but ``baseline`` and the two sizes can be read off the class, without building the task.
    """

    def __init__(self, *args: Any, **settings: Any) -> None:
        """Every setting has a default: ``TASKS[name]()`` works."""

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

    def solved(self, figure: float, /) -> bool:
        """Whether this figure counts as solved."""


TASKS: dict[str, type[Task]] = {task.name: task for task in (AddingTask, TextTask)}
"""Every task by its name."""
