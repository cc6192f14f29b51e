"""`fit`: updates, one for each batch, and what one wants around them."""

import itertools
import math
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from minirnn.arguments import Made, as_flag, as_number, as_size, describe
from minirnn.autograd.modes import AnomalyError, detect_anomaly
from minirnn.layers.module import Module
from minirnn.losses import cross_entropy
from minirnn.optim import Optimizer, clip_grad_norm
from minirnn.tasks import SequenceTask, TextTask
from minirnn.training.bar import Bar, has_a_place
from minirnn.training.batches import Batch, Loss, Metric, Piece, WholeBatches, carries, unpacked
from minirnn.training.evaluation import accuracy
from minirnn.training.history import History
from minirnn.training.saving import Checkpointing, Position, Saver
from minirnn.training.schedules import Rate
from minirnn.training.sources import MUST_BE, HeldOut, source_of
from minirnn.training.truncated import TruncatedBatches


class NonFiniteError(FloatingPointError):
    """`fit` met a loss or a gradient that is NaN or infinite; ``history`` is that of the updates before it."""

    def __init__(self, message: str, history: Any = None) -> None:
        super().__init__(message)
        self.history: History = history


def fit(
    model: Module,
    task_or_batches: SequenceTask | TextTask | Iterable[Any],
    *,
    loss: Loss | None = None,
    optimizer: Optimizer,
    max_updates: int,
    batch: int | None = None,
    rng: np.random.Generator | int | None = None,
    clip_norm: float | None = None,
    carry_state: bool | None = None,
    tbptt: tuple[int, int] | None = None,
    schedule: Callable[[int], float] | None = None,
    metrics: Mapping[str, Metric] | None = None,
    held_out: Any = None,
    evaluate_every: int = 200,
    callbacks: Iterable[Callable[[History], object]] = (),
    stop: Callable[[History], bool] | None = None,
    progress: bool | None = None,
    checkpoint: str | os.PathLike[str] | Checkpointing | None = None,
) -> History:
    """Train a model: for each batch predict, measure the loss, go back through time, clip, and make one update.

    Parameters
    ----------
    model : Module
        Called as ``model(x, state)`` if it carries a state (a recurrent layer, a `SequenceModel`), else ``model(x)``.
    task_or_batches : task, or iterable of (x, y), (x, y, lengths) or (x, y, is_start)
        What the model reads and should predict. Of batches each gives an update, and training ends when they do;
        ``lengths`` (N,) are passed to the model, and to the loss if the model predicts at every step. A task of
        `minirnn.tasks` is asked for its ``batches(batch, rng)``, a `TextTask` for its ``streams(batch, 20, rng)``.
    loss : callable (predictions, y) -> Tensor of one number
        It takes ``lengths=`` too where there are any, as those of `minirnn.losses` do. With a task it may be left out:
        `cross_entropy` for a classification, `mse` for a regression.
    optimizer : Optimizer
    max_updates : int
        Training ends after this many updates.
    batch : int, optional
        N, the sequences in a batch of the task; ``task.defaults.batch`` if left out. Batches have a size of their own.
    rng : numpy.random.Generator, int or None
        Draws the batches of the task. A run that is to be resumed to the same bits needs a seed.
    clip_norm : float, optional
        The largest joint norm of the gradients (Pascanu et al. 2013).
    carry_state : bool
        Start each batch from the final state of the one before, detached, unless its ``is_start`` is true: truncated
        BPTT over contiguous streams. Otherwise every batch starts from zeros. If left out it is True for a `TextTask`,
        whose batches go on where the last ones ended, and a model that goes forward in time only; else False.
    tbptt : (k1, k2), optional
        Make an update after every k1 steps; the gradients that enter in them go back over the last k2 steps, which are
        unrolled again from the state that was saved before them, with the parameters as they are by then. With
        ``carry_state`` the window reaches back into earlier batches. The state is carried within a batch in any case.
        At parameters that stand still the gradients add up to `minirnn.bptt.truncated_gradient`.
    schedule : callable (update) -> factor, optional
        By which the optimiser's learning rate is multiplied at each update, counted from 0; see
        `minirnn.training.schedules`. In the end the rate is what it was.
    metrics : dict of callables (predictions, y) -> float, optional
        What else to measure of each update's predictions, an array; `accuracy` is one. They take ``lengths=`` where the
        loss does. They stand in ``history.metrics`` by their names. If left out it is "accuracy" where the loss is
        `minirnn.losses.cross_entropy`; {} measures nothing.
    held_out : (x, y), (x, y, lengths), a list of batches, or True, optional
        Data that are not trained on, to be measured in evaluation mode after every ``evaluate_every`` updates, before
        the callbacks, and at the end of the training: ``history.evaluations`` has their loss as "held-out loss"
        (`evaluate`) and, with a task, the task's own figure as "held-out" (`measure`). True takes the task's
        ``evaluation_batch()``, or the held-out part of a text. Of several batches the figure is the mean over rows.
    evaluate_every : int
        Updates between two evaluations.
    callbacks : iterable of callables (history)
        Called in order after every update; `every` makes one rarer. One may evaluate the model and `History.record`
        the figure, change ``optimizer.lr`` (unless there is a schedule), or save.
    stop : callable (history) -> bool, optional
        Asked after every update, when the callbacks have been called, and when a run is resumed; True ends the
        training. See `early_stopping` and `until_solved`.
    progress : bool, optional
        Whether to show a bar with the mean loss (and accuracy) of the last 100 updates, the gradient norm and updates
        per second. None: when stderr is a terminal, or in a notebook, as a widget if ipywidgets is installed.
    checkpoint : path of a directory, or Checkpointing, optional
        Save there every so often, in the end, and when Ctrl-C or SIGTERM ends the training, which it then does after
        the update; with ``Checkpointing(path, resume=True)`` go on from there to the same bits.

    Returns
    -------
    History
        Also when Ctrl-C ended the training: ``interrupted`` is True then. An update that was cut short is not in it;
        some Parameters may have made it, others not.

    Raises
    ------
    NonFiniteError
        At the first loss or gradient that is NaN or inf, naming the update and what `detect_anomaly` shows for it. That
        update is not made; the error's ``history`` has those before it.
    DirectoryLockedError, CheckpointError, OSError
        When another run has the directory, no checkpoint in it can be used, or it cannot be written to.

    Examples
    --------
    >>> import minirnn as mr
    >>> from minirnn.training import fit
    >>> task = mr.tasks.AddingTask(T=4)
    >>> model = mr.SequenceModel(mr.RecurrentLayer(2, 8, rng=0), mr.Linear(8, 1, rng=1), readout="last")
    >>> adam = mr.optim.Adam(model.parameters(), lr=0.01)
    >>> history = fit(model, task.batches(16, rng=2), loss=mr.losses.mse, optimizer=adam, max_updates=300)
    >>> history.updates, bool(history.running()[-1] < 0.5 * history.running()[99])
    (300, True)

    The task itself, with a look at held-out data after every 200 updates, until they say that it is solved:

    >>> solved = mr.training.until_solved(task)
    >>> history = fit(model, task, optimizer=adam, max_updates=5000, rng=3, held_out=True, stop=solved)
    >>> history.updates < 5000, task.solved(history.evaluations["held-out"][-1].value)
    (True, True)
    """
    max_updates = as_size(max_updates, "fit: max_updates")
    source = source_of(task_or_batches, model=model, loss=loss, batch=batch, rng=rng, carry_state=carry_state)
    carry_state = carries(model, source.carry_state, "fit")
    reader = WholeBatches(model, carry_state) if tbptt is None else TruncatedBatches(model, tbptt, carry_state)
    rate = Rate(optimizer, schedule)
    if clip_norm is not None:
        clip_norm = as_number(clip_norm, "fit: clip_norm", "a positive number or inf", "try None not to clip")
    update = _Update(source.loss, optimizer, clip_norm or math.inf, _metrics(metrics, source.loss))
    looks = HeldOut(model, held_out, evaluate_every, source)
    callbacks = _callables(callbacks)
    saver = Saver(checkpoint, model, optimizer, reader)
    shown = has_a_place() if progress is None else as_flag(progress, "fit: progress")
    model.train()
    with saver.open() as (history, begin):
        history.clip_norm = update.max_norm if update.max_norm < math.inf else None
        bar = Bar(shown, max_updates, update.metrics.get("accuracy") is accuracy)
        in_order = False
        start = time.perf_counter() - (float(history.seconds[-1]) if history.updates else 0.0)
        try:
            batches, position = unpacked(source.batches, "fit", MUST_BE), begin
            _pass_over(batches, begin)
            saver.bring_back()
            # Once more, because a run that it has ended stays as it is when it is resumed.
            ended = history.updates >= max_updates or bool(history.updates and stop is not None and stop(history))
            for piece, position in () if ended else _pieces(reader, batches, begin):
                rate.set(history.updates)
                value, norm, measured = update(piece, history)
                history.append(value, norm, time.perf_counter() - start, measured)
                looks.look(history)
                for callback in callbacks:
                    callback(history)
                ended = stop is not None and stop(history)  # before it is saved: it may note evaluations
                saver.save(history, position)
                if ended or saver.stopped or history.updates == max_updates:
                    break
                bar.update(history)
            saver.save(history, position, at_the_end=True)
            in_order = not saver.stopped
            if history.updates and in_order:
                looks.look(history, at_the_end=True)
        except KeyboardInterrupt:
            history.interrupted = True
        except NonFiniteError as error:
            raise NonFiniteError(f"{error}.{saver.last_good()}".removesuffix("."), history) from None
        finally:
            bar.close(history, in_order)
            rate.restore()
        history.interrupted |= saver.stopped
    if not history.updates and not history.interrupted:
        raise ValueError("fit: batches gave nothing: is it a generator that was used up before?")
    return history


def _pass_over(batches: Iterator[Batch], begin: Position) -> None:
    """Draw the batches that have been trained on already, also if only in part."""
    drawn = sum(1 for _ in itertools.islice(batches, begin.batches + (begin.pieces > 0)))
    if drawn < begin.batches + (begin.pieces > 0):
        raise ValueError(
            f"fit: batches gave {drawn:,}, and {begin.batches:,} have been trained on already: resume with the same"
        )


def _pieces(
    reader: WholeBatches | TruncatedBatches, batches: Iterator[Batch], begin: Position
) -> Iterator[tuple[Piece, Position]]:
    """Yield what updates are made of, and where training stands after each."""
    before, skip, unfinished = begin
    for done, batch in enumerate(itertools.chain([unfinished] if unfinished else [], batches), before):
        for i, piece in enumerate(reader.pieces(batch, skip), skip + 1):
            yield piece, Position(done + 1) if piece.last else Position(done, i, batch)
        skip = 0


def every(updates: int, action: Callable[[History], object]) -> Callable[[History], None]:
    """Make a callback of `fit` that calls ``action(history)`` after every so many updates."""
    return Made(_every, as_size(updates, "every: updates"), action)


def _every(updates: int, action: Callable[[History], object], history: History) -> None:
    if history.updates % updates == 0:
        action(history)


class _Update(NamedTuple):
    """What makes one update from a piece of a batch."""

    loss: Loss
    optimizer: Optimizer
    max_norm: float
    metrics: Mapping[str, Metric]

    def __call__(self, piece: Piece, history: History) -> tuple[float, float, dict[str, float]]:
        """Give the loss, the gradients' norm before clipping, and the metrics; or NonFiniteError."""
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):  # what comes of it is refused
            try:
                return self._made(piece)
            except FloatingPointError as error:
                raise NonFiniteError(
                    f"fit: update {history.updates + 1} was not made: {error}. {self._diagnosis(piece)}", history
                ) from None

    def _made(self, piece: Piece) -> tuple[float, float, dict[str, float]]:
        self.optimizer.zero_grad()
        predictions, after = piece.predict()
        loss = self.loss(predictions, piece.y, **piece.mask)
        value = loss.item()
        if not math.isfinite(value):
            raise FloatingPointError(f"the loss is {value}")
        # Measured now, while the predictions are in the processor's cache.
        measured = {name: metric(predictions.numpy(), piece.y, **piece.mask) for name, metric in self.metrics.items()}
        loss.backward()
        try:
            norm = clip_grad_norm(self.optimizer.params, self.max_norm)
        except FloatingPointError:
            raise FloatingPointError(f"the loss is {value:.4g}, but its gradient is not finite") from None
        self.optimizer.step()
        piece.keep(after)
        return value, norm, measured

    def _diagnosis(self, piece: Piece) -> str:
        """Say what `detect_anomaly` shows for the batch: no Parameter has changed since."""
        shown = "detect_anomaly: nothing that is not finite; is there chance in the model, or in the loss?"
        self.optimizer.zero_grad()
        try:
            with detect_anomaly():
                self.loss(piece.predict()[0], piece.y, **piece.mask).backward()
        except AnomalyError as error:
            shown = str(error)
        self.optimizer.zero_grad()
        return f"The same batch again, under {shown}. If the data are good, try a smaller learning rate or clip_norm"


def _metrics(metrics: Any, loss: Loss) -> Mapping[str, Metric]:
    """Choose what is measured of every update: the accuracy of a classifier, unless it was said what."""
    if metrics is None:
        return {"accuracy": accuracy} if loss is cross_entropy else {}
    if not isinstance(metrics, Mapping) or not all(map(callable, metrics.values())):
        raise TypeError(
            f'fit: metrics must be a dict of callables, got {describe(metrics)}: try {{"accuracy": accuracy}}'
        )
    return metrics


def _callables(callbacks: Any) -> tuple[Callable[[History], object], ...]:
    made = () if callable(callbacks) else tuple(callbacks)
    if callable(callbacks) or not all(map(callable, made)):
        raise TypeError(f"fit: callbacks must be a list of callables, got {describe(callbacks)}: try [print]")
    return made
