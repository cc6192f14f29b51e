"""`evaluate` and `sample`: what was learnt, measured on other data, or written down."""

import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt

from minirnn.arguments import as_generator, as_number, as_size, counting
from minirnn.autograd.modes import no_grad
from minirnn.layers.module import Module, own_modes
from minirnn.losses import counted, cross_entropy, is_sum
from minirnn.tasks import Chunk, SequenceTask, TextTask
from minirnn.training.batches import Batch, Loss, Piece, WholeBatches, carries, layout_of, rows_first, unpacked


def evaluate(model: Module, batches: Iterable[Any], *, loss: Loss, carry_state: bool = False) -> float:
    """Measure the mean loss per target over batches, without recording and with the model in evaluation mode.

    The batches are (x, y), (x, y, lengths) or (x, y, is_start), of any size, in the model's layout; those of a task
    have time first, and are turned for a model of ``batch_first``. With ``carry_state`` each starts from the final
    state of the one before, unless its ``is_start`` is true. Of a loss of `minirnn.losses` with ``reduction="sum"`` it
    is the mean per target too; one of your own is taken for a mean over the batch's targets.

    >>> import minirnn as mr
    >>> model = mr.SequenceModel(mr.RecurrentLayer(2, 4, rng=0), mr.Linear(4, 1, rng=0), readout="last")
    >>> held_out = mr.tasks.AddingTask(T=10).evaluation_batch(100)
    >>> evaluate(model, [held_out], loss=mr.losses.mse) > 0
    True
    """
    carry_state = carries(model, carry_state, "evaluate")
    return loss_and_figure(model, unpacked(model, batches, "evaluate"), loss, carry_state)[0]


def loss_and_figure(
    model: Module,
    batches: Iterable[Batch],
    loss: Loss,
    carry_state: bool,
    task: SequenceTask | TextTask | None = None,
) -> tuple[float, float]:
    """Measure the mean loss per target, and a task's own figure in the same pass (NaN without a task).

    Of several batches the figure is the mean over their rows, or over the characters of a text.
    """
    reader = WholeBatches(model, carry_state)
    total = figure = 0.0
    targets = weights = 0.0
    with evaluating(model):
        for batch in batches:
            for piece in reader.pieces(batch):
                predictions, after = piece.predict()
                piece.keep(after)
                size = counted(loss, piece.y, **piece.mask)
                total += float(piece.lost(loss, predictions, "evaluate")) * (1 if is_sum(loss) else size)
                targets += size
                if task is not None:
                    of_text, rows = isinstance(task, TextTask), int(np.shape(batch.x)[1 - rows_first(model)])
                    weight = counted(task.figure, piece.y) if of_text else rows
                    figure += task.figure(predictions, piece.y, **layout_of(model) | piece.mask) * weight
                    weights += weight
    if not targets:
        raise ValueError("evaluate: batches gave nothing: is it a generator that was used up before?")
    return total / targets, figure / weights if weights else math.nan


def predicted(model: Module, batch: Any, caller: str) -> tuple[npt.NDArray[Any], Piece]:
    """Predict one batch in evaluation mode; the piece has the targets, and the lengths where they count."""
    (read,) = unpacked(model, [batch], caller)
    (piece,) = WholeBatches(model, False).pieces(read)
    with evaluating(model):
        predictions, _ = piece.predict()
    return predictions.numpy(), piece


def accuracy(
    predictions: Any, ids: Any, lengths: Any = None, *, ignore_index: int | None = None, batch_first: bool = False
) -> float:
    """Measure the share of targets whose class has the largest score: for predictions (…, C) and ids (…).

    For predictions (T, N, C) ``lengths`` (N,) say how many steps of each row count; (N, T, C) for ``batch_first``.
    Targets of the id ``ignore_index`` do not count.

    >>> accuracy(np.array([[0.1, 0.9], [0.8, 0.2]]), np.array([1, 1]))
    0.5
    """
    scores, targets = np.asarray(predictions), np.asarray(ids)
    if scores.shape[:-1] != targets.shape:
        raise ValueError(
            f"accuracy: predictions must have shape {(*targets.shape, 'C')} for ids of shape {targets.shape}, got "
            f"{scores.shape}: one score for each class"
        )
    if lengths is not None and targets.ndim < 2:
        raise ValueError(f"accuracy: lengths can mask ids of shape (T, N) only, got {targets.shape}: leave it out")
    counts: Any = ... if lengths is None else counting(lengths, targets.shape, "accuracy: lengths", batch_first)
    if ignore_index is not None:
        counts = (targets != ignore_index) & (True if lengths is None else counts)
    right = (scores.argmax(axis=-1) == targets)[counts]
    return float(np.count_nonzero(right) / right.size) if right.size else math.nan


def measure(model: Module, task: Any, batch: Any = None) -> float:
    """Measure the figure of a `SequenceTask` on held-out data, with the model in evaluation mode.

    It is in the unit that ``task.metric`` says, and ``task.solved`` takes it. ``batch``, (x, y) or (x, y, lengths), is
    ``task.evaluation_batch()`` if left out. One that no task gave is in the model's layout.

    >>> import minirnn as mr
    >>> model = mr.SequenceModel(mr.RecurrentLayer(2, 4, rng=0), mr.Linear(4, 1, rng=0), readout="last")
    >>> task = mr.tasks.AddingTask(T=10)
    >>> task.solved(mr.training.measure(model, task))
    False
    """
    predictions, piece = predicted(model, task.evaluation_batch() if batch is None else batch, "measure")
    return float(task.figure(predictions, piece.y, **layout_of(model) | piece.mask))


def bits_per_character(model: Module, task: TextTask, *, N: int = 8, chunk: int = 100) -> float:
    """Measure the mean −log₂ p(next character) on the held-out part of a text, with the state carried.

    The model gives logits (T, N, V) for ids (T, N). It reads N streams side by side, ``chunk`` steps at a time, which
    changes no figure. More streams are faster and each starts without a state, which costs a little: on the default
    text N = 8 adds 0.002 bits per character to the figure of N = 1, in a third of the time. There are fewer where a
    stream would have less than 100 characters.
    """
    streams = held_out_streams(task, as_size(N, "bits_per_character: N"), chunk)
    return evaluate(model, streams, loss=cross_entropy, carry_state=True) / math.log(2)


def held_out_streams(task: TextTask, N: int = 8, chunk: int = 100) -> Iterator[Chunk]:
    """Read the held-out part of a text; in fewer streams where one would have less than 100 characters."""
    return task.evaluation_streams(min(N, max(1, (task.held_out_ids.size - 1) // 100)), chunk)


def sample(
    model: Any,
    task: TextTask,
    length: int,
    *,
    rng: np.random.Generator | int | None = None,
    temperature: float = 1.0,
    top_k: int | None = None,
    prompt: str = "",
) -> str:
    """Write text: draw each character from softmax(logits / temperature), and read it as the next input.

    The model is a `SequenceModel` with an embedding, whose ids stand for the task's characters; of the task nothing
    else is needed: ``TextTask(vocabulary=…)`` will do. At a temperature below 1 the likely characters become likelier
    still, at 0 the likeliest is taken. With ``top_k`` only the k likeliest can be drawn; of equal ones the first count.
    The model reads ``prompt`` first, which is not returned: a newline if it is empty (or, where no text has one, the
    text's first character, or the vocabulary's).
    """
    length = as_size(length, "sample: length")
    temperature = as_number(temperature, "sample: temperature", "a number ≥ 0", "try 1.0")
    V = len(task.vocabulary)
    k = V if top_k is None else as_size(top_k, "sample: top_k")
    if k > V:
        raise ValueError(f"sample: top_k must be at most {V}, the number of characters, got {k}: leave it out")
    if getattr(model, "embedding", None) is None:
        raise TypeError(f"sample: model must be a SequenceModel with an embedding, got {type(model).__name__}")
    rng = as_generator(rng)
    first = "\n" if "\n" in task.vocabulary else task.decode(task.train_ids[:1]) or task.vocabulary[0]
    written: list[int] = []
    read, state = task.encode(prompt or first).tolist(), None
    with evaluating(model):
        while len(written) < length:
            for i in read:
                state = model.recurrent.step(model.embedding([i]), state)
            logits = model.head(model.recurrent.last_output(state)).numpy()[0].astype(np.float64)
            if logits.size != V:
                raise ValueError(
                    f"sample: task must have the {logits.size} characters of the model, got {V}: not its own"
                )
            if np.isnan(logits).any():
                raise FloatingPointError("sample: the model's logits are NaN: it was trained to no good, or not at all")
            order = np.argsort(-logits, kind="stable")
            logits[order[k if temperature else 1 :]] = -math.inf
            sums = np.cumsum(np.exp((logits - logits.max()) / (temperature or 1.0)))
            read = [int(np.searchsorted(sums, rng.random() * sums[-1], side="right"))]
            written += read
    return task.decode(written)


@contextmanager
def evaluating(model: Module) -> Iterator[None]:
    """Within it nothing is recorded and the model is in evaluation mode, as far as this thread sees."""
    with own_modes(), no_grad():
        model.eval()
        yield
