"""`predict` and `forecast`: what a trained model says of new data, and how a series goes on."""

import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from minirnn.arguments import Array, as_array, as_flag, as_lengths, as_size, describe
from minirnn.autograd.tensor import Tensor
from minirnn.data.sequences import as_numbers
from minirnn.layers import Recurrence, SequenceModel
from minirnn.layers.module import Module
from minirnn.training.bar import has_a_place
from minirnn.training.batches import going_back, rows_first
from minirnn.training.evaluation import evaluating


def predict(
    model: Module, x: Any, lengths: Any = None, *, batch: int = 256, progress: bool | None = None
) -> npt.NDArray[Any]:
    """Predict for all rows of x, a few at a time, in evaluation mode and without recording.

    The same numbers as ``model(x, lengths=lengths)`` gives for all rows at once, in less memory.

    Parameters
    ----------
    model : Module
        A recurrent layer gives its outputs, a `SequenceModel` its predictions.
    x : array_like (T, N, D), or ids (T, N)
        In the model's layout, (N, T, …) for ``batch_first``. Of a module without a state the first axis is taken.
    lengths : array_like of int (N,), optional
    batch : int
        Rows at a time.
    progress : bool, optional
        Whether to show a bar. None: where there is somebody to look at it, when it takes more than a second.

    Returns
    -------
    ndarray (T, N, P), or (N, P) for ``readout="last"``; (N, T, P) for ``batch_first``
        The rows stand in x's order.

    >>> import minirnn as mr
    >>> model = mr.SequenceModel(mr.RecurrentLayer(2, 4, rng=0), mr.Linear(4, 1, rng=0))
    >>> mr.training.predict(model, np.ones((7, 500, 2))).shape
    (7, 500, 1)
    """
    size = as_size(batch, "predict: batch")
    shown = has_a_place() if progress is None else as_flag(progress, "predict: progress")
    array = as_numbers(x.data if isinstance(x, Tensor) else x, "predict: x")
    axis = int(model.carries_state and not rows_first(model))
    if array.ndim <= axis or not array.shape[axis]:
        raise ValueError(
            f"predict: x must have rows, along axis {axis} in this model's layout, got shape {array.shape}"
        )
    N = array.shape[axis]
    ends = None if lengths is None else as_lengths(lengths, array.shape[1 - axis], N, "predict: lengths", not axis)
    made = []
    with evaluating(model):
        for begin in _steps(range(0, N, size), shown):
            rows = slice(begin, begin + size)
            given = {} if ends is None else {"lengths": ends[rows]}
            output = model(array[(slice(None),) * axis + (rows,)], **given)
            made.append((output[0] if model.carries_state else output).numpy())
    every_step = made[0].ndim > 1 and made[0].shape[:2] == (
        *array.shape[:axis],
        min(size, N),
        *array.shape[axis + 1 : 2],
    )
    last = getattr(model, "readout", "all" if every_step else "last") == "last"
    return np.concatenate(made, axis=0 if last else axis)


def forecast(model: Module, x: Any, steps: int, lengths: Any = None) -> npt.NDArray[Any]:
    """Let a model that predicts the next values go on by itself: each prediction is the next input.

    The model reads x; the first value returned is its prediction after the last step, the second its prediction after
    reading that, and so on, as by hand with ``step``.

    Parameters
    ----------
    model : SequenceModel or recurrent layer
        One that goes forward in time and predicts as many values as it reads, P = D.
    x : array_like (T, N, D)
        (N, T, D) for ``batch_first``; (T, D) for a single row.
    steps : int
    lengths : array_like of int (N,), optional
        How many steps of each row count: each goes on from its own last.

    Returns
    -------
    ndarray (steps, N, D)
        (N, steps, D) for ``batch_first``; (steps, D) for a single row.

    >>> import minirnn as mr
    >>> model = mr.SequenceModel(mr.RecurrentLayer(1, 4, rng=0), mr.Linear(4, 1, rng=0))
    >>> mr.training.forecast(model, [[0.1], [0.2], [0.3]], steps=5).shape
    (5, 1)
    """
    steps = as_size(steps, "forecast: steps")
    layer: Any = model.recurrent if isinstance(model, SequenceModel) else model
    if not issubclass(type(layer), Recurrence) or getattr(model, "embedding", None) is not None:
        raise TypeError(
            f"forecast: model must be a recurrent layer or a SequenceModel that reads vectors, got {describe(model)}: "
            "of ids, try sample"
        )
    if (part := going_back(layer)) is not None:
        raise ValueError(
            f"forecast: model must go forward in time, got {part.name} that goes back: what follows is read first"
        )
    array = as_array(x, "forecast: x")
    single, turned = array.ndim == 2, rows_first(model)
    if single:
        array = array[None] if turned else array[:, None]
    made: list[Array] = []
    with evaluating(model):
        state = layer(array, lengths=lengths).final_state
        for k in range(steps):
            if k:
                state = layer.step(made[-1], state)
            output = layer.last_output(state)
            made.append((model.head(output) if isinstance(model, SequenceModel) else output).numpy())
            if made[-1].shape[1:] != array.shape[2:]:
                raise ValueError(
                    f"forecast: model must predict as many values as it reads, D={array.shape[2]}, got "
                    f"P={made[-1].shape[-1]}: each prediction is the next input"
                )
    axis = 1 if turned else 0
    joined = np.stack(made, axis)
    return joined[:, 0] if single and not turned else joined[0] if single else joined


def _steps(rows: Sequence[int], shown: bool) -> Any:
    if not shown or not hasattr(sys.stderr, "write"):
        return rows
    from tqdm import tqdm  # here, not above: it takes as long to import as all of minirnn

    return tqdm(rows, unit=" batches", delay=1.0)
