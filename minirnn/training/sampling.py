"""`sample`: what was learnt of a text, written down."""

from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

from minirnn.arguments import as_generator, as_number, as_size
from minirnn.layers.module import Module
from minirnn.tasks import TextTask
from minirnn.training.evaluation import evaluating


def sample(
    model: Module,
    task: TextTask,
    length: int,
    *,
    rng: np.random.Generator | int | None = None,
    temperature: float = 1.0,
    prompt: str = "",
) -> str:
    """Write text: draw each character from softmax(logits / temperature), and read it as the next input.

    Parameters
    ----------
    model : SequenceModel with an embedding
    task : TextTask
        Whose characters the ids stand for.
    length : int
        Characters to draw.
    rng : numpy.random.Generator, int or None
    temperature : float
        Below 1 the likely characters become likelier still.
    prompt : str
        What the model reads first, and what is not returned: of characters that the task knows; a newline if empty
        (or, in a text without one, the text's first character).
    """
    length = as_size(length, "sample: length")
    temperature = as_number(temperature, "sample: temperature", "a positive number", "try 1.0")
    if getattr(model, "embedding", None) is None:
        raise TypeError(f"sample: model must be a SequenceModel with an embedding, got {type(model).__name__}")
    rng = as_generator(rng)
    first = "\n" if "\n" in task.vocabulary else task.decode(task.train_ids[:1])
    ids: list[int] = []
    with evaluating(model):
        logits, state = _read(model, task.encode(prompt or first), None)
        while True:
            ids.append(_draw(logits, temperature, rng))
            if len(ids) == length:
                return task.decode(ids)
            logits, state = _read(model, ids[-1:], state)


def _read(model: Any, ids: Iterable[int], state: Any) -> tuple[npt.NDArray[np.float64], Any]:
    """Read ids one by one; return the logits (V,) after the last, and the state."""
    for i in ids:
        state = model.recurrent.step(model.embedding([int(i)]), state)
    return model.head(model.recurrent.last_output(state)).numpy()[0].astype(np.float64), state


def _draw(logits: npt.NDArray[np.float64], temperature: float, rng: np.random.Generator) -> int:
    sums = np.cumsum(np.exp((logits - logits.max()) / temperature))
    return int(np.searchsorted(sums, rng.random() * sums[-1], side="right"))
