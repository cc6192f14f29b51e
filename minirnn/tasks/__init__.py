"""Toy and real sequences, arrays only: each task knows its baseline, its success rule and its source.

`TASKS` lists them by name. What every task has is written down in `Task`. A `SequenceTask` gives mini-batches, (x, y)
or (x, y, lengths) where rows differ in length; `TextTask` alone gives contiguous streams. The data of a task that
``needs`` a package are read when it is built, not before.
"""

from minirnn.tasks.adding import AddingTask, MultiplicationTask, OriginalAddingTask, RaggedAddingTask, adding
from minirnn.tasks.base import Batch, Defaults, SequenceTask, Task, TimeMajor
from minirnn.tasks.grammar import EmbeddedReberTask, ReberTask
from minirnn.tasks.memory import CopyTask, EchoTask, ParityTask, SineTask, TemporalOrderTask, TemporalOrderThreeTask
from minirnn.tasks.recorded import DigitsTask, SunspotsTask, VowelsTask
from minirnn.tasks.series import SeriesTask
from minirnn.tasks.text import Chunk, TextTask

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
    "SeriesTask",
    "SineTask",
    "SunspotsTask",
    "Task",
    "TemporalOrderTask",
    "TemporalOrderThreeTask",
    "TextTask",
    "TimeMajor",
    "VowelsTask",
    "adding",
]

TASKS: dict[str, type[Task]] = {
    task.name: task
    for task in (
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
        SeriesTask,
    )
}
"""Every task by its name."""
