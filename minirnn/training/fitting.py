"""`fit`: updates, one for each batch, and what one wants around them."""

import itertools
import math
import os
import signal
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from minirnn.arguments import Made, as_flag, as_number, as_size, describe
from minirnn.autograd.tensor import Tensor
from minirnn.layers.module import Module
from minirnn.optim import Optimizer
from minirnn.tasks import SequenceTask, TextTask
from minirnn.training.bar import Bar, has_a_place
from minirnn.training.batches import Batch, Loss, Metric, Piece, WholeBatches, carries, unpacked
from minirnn.training.evaluation import accuracy
from minirnn.training.history import History
from minirnn.training.mixing import Mixing
from minirnn.training.saving import Best, Checkpointing, Position, Saver
from minirnn.training.schedules import Awaited, Rate
from minirnn.training.sources import MUST_BE, HeldOut, Source, source_of
from minirnn.training.truncated import TruncatedBatches
from minirnn.training.updating import NonFiniteError, Update, metrics_of, trains


def fit(
    model: Module,
    task_or_batches: SequenceTask | TextTask | Iterable[Any],
    *,
    loss: Loss | None = None,
    optimizer: Optimizer,
    max_updates: int | None = None,
    epochs: int | None = None,
    batch: int | None = None,
    rng: np.random.Generator | int | None = None,
    accumulate: int = 1,
    clip_norm: float | None = None,
    gradient_hook: Callable[[list[Tensor]], object] | None = None,
    schedule: Callable[[int], float] | None = None,
    carry_state: bool | None = None,
    tbptt: tuple[int, int] | None = None,
    scheduled_sampling: float | Callable[[int], float] | None = None,
    metrics: Mapping[str, Metric] | None = None,
    held_out: Any = None,
    evaluate_every: int = 200,
    restore_best: bool = False,
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
        Parts in evaluation mode stay in it: ``model.recurrent.eval()`` switches the dropout within off. If all of it
        is, as after ``model.eval()``, all of it is put in training mode first.

    What it is trained on:

    task_or_batches : task, arrays (x, y) or (x, y, lengths), or iterable of batches
        What the model reads and should predict. A tuple of arrays is drawn in mini-batches (`minirnn.data.batches`). Of
        batches, (x, y), (x, y, lengths) or (x, y, is_start), each gives an update, and training ends when they do;
        ``lengths`` (N,) are passed to the model, and to the loss if the model predicts at every step. A task of
        `minirnn.tasks` is asked for its ``batches(batch, rng)``, a `TextTask` for its ``streams(batch, 20, rng)``.
        What a task gave has time first, and is turned for a model of ``batch_first``; data of your own are in the
        model's layout (a Module of your own may say ``batch_first`` itself). Batches may be filled anew at each
        ``next``.
    loss : callable (predictions, y) -> Tensor of one number
        It takes ``lengths=`` too where there are any, and ``batch_first=True`` with them if the model is, as those of
        `minirnn.losses` do. With a task it may be left out: `cross_entropy` for a classification, `mse` for a
        regression.
    batch : int, optional
        N, the sequences in a batch of the task, ``task.defaults.batch`` if left out, or of arrays, 32. Batches have a
        size of their own.
    rng : numpy.random.Generator, int or None
        Draws the batches of the task, or shuffles the rows of arrays. A run that is to be resumed to the same bits
        needs a seed.

    How long:

    max_updates : int, optional
        Training ends after this many updates. If batches end before, there is a warning.
    epochs : int, optional
        Training ends when all rows of the arrays, or all of a list of batches, have been read so often. One of the two
        is needed, except with batches that end by themselves.
    stop : callable (history) -> bool, optional
        Asked after every update, when the callbacks have been called, and when a run is resumed; True ends the
        training. See `early_stopping` and `until_solved`.

    How an update is made:

    optimizer : Optimizer
    accumulate : int
        Make one update of so many batches: loss and gradient are those of one batch of all their rows, of a sum their
        sum (`minirnn.losses` with ``reduction="sum"``). A loss of your own is taken for a mean over the targets.
    clip_norm : float, optional
        The largest joint norm of the gradients (Pascanu et al. 2013).
    gradient_hook : callable (parameters), optional
        Called between backward and clipping; it may read and set each ``grad``, to sum over processes, for example.
    schedule : callable (update) -> factor, optional
        By which the optimiser's learning rate, and each of its groups', is multiplied at each update, counted from 0;
        see `minirnn.training.schedules`. In the end the rates are what they were.
    carry_state : bool
        Start each batch from the final state of the one before, detached, unless its ``is_start`` is true: truncated
        BPTT over contiguous streams. Otherwise every batch starts from zeros. If left out it is True for a `TextTask`,
        whose batches go on where the last ones ended, and a model that goes forward in time only; else False.
    tbptt : (k1, k2), optional
        Make an update after every k1 steps; the gradients that enter in them go back over the last k2 steps, which are
        unrolled again from the state that was saved before them, with the parameters as they are by then. With
        ``carry_state`` the window reaches back into earlier batches. The state is carried within a batch in any case.
        At parameters that stand still the gradients add up to `minirnn.bptt.truncated_gradient`.
    scheduled_sampling : float, or callable (update) -> float, optional
        The probability with which a step reads the model's own prediction, drawn if it is a class, and not what the
        data say (Bengio et al. 2015; no gradient goes back through it). Targets must be the next inputs. Each batch is
        read once more for it, step by step. Left out, every step reads the data: teacher forcing.

    What is looked at:

    metrics : dict of callables (predictions, y) -> float, optional
        What else to measure of each update's predictions, an array; `accuracy` is one. They take what the loss does,
        and stand in ``history.metrics`` by their names. If left out it is "accuracy" where the loss is
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
    progress : bool, optional
        Whether to show a bar with the mean loss (and accuracy) of the last 100 updates, the gradient norm and updates
        per second. None: when stderr is a terminal, or in a notebook, as a widget if ipywidgets is installed.

    What is kept:

    restore_best : bool
        Give the model the weights back, at the end, that had the lowest held-out figure, the task's own if there is
        one; after Ctrl-C too. ``history.restored`` says of which update they are.
    checkpoint : path of a directory, or Checkpointing, optional
        Save there every so often, in the end, when Ctrl-C or SIGTERM ends the training, which it then does after the
        update, and when a callback raises an error. With ``Checkpointing(path, resume=True)`` go on from there to the
        same bits.

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
    source = source_of(
        task_or_batches, model=model, loss=loss, batch=batch, epochs=epochs, rng=rng, carry_state=carry_state
    )
    k = as_size(accumulate, "fit: accumulate")
    last = _last(max_updates, source)
    carry_state = carries(model, source.carry_state, "fit")
    mixing = None if scheduled_sampling is None else Mixing(model, scheduled_sampling, tbptt)
    reader = WholeBatches(model, carry_state, mixing) if tbptt is None else TruncatedBatches(model, tbptt, carry_state)
    trains(optimizer, model, gradient_hook)
    rate = Rate(optimizer, schedule)
    if clip_norm is not None:
        clip_norm = as_number(clip_norm, "fit: clip_norm", "a positive number or inf", "try None not to clip")
    measured_too = metrics_of(metrics, source.loss)
    update = Update(source.loss, optimizer, clip_norm or math.inf, measured_too, gradient_hook, k > 1)
    looks = HeldOut(model, held_out, evaluate_every, source)
    best = Best(model, looks.names, as_flag(restore_best, "fit: restore_best"))
    callbacks = _callables(callbacks)
    steps = None if isinstance(reader, WholeBatches) else (reader.k1, reader.k2)
    settings: dict[str, Any] = {
        "schedule": schedule,
        "batch": source.N,
        "rng": rng,
        "tbptt": steps,
        "carry_state": carry_state,
    }
    settings |= {"accumulate": k, "scheduled_sampling": scheduled_sampling}
    saver = Saver(checkpoint, model, optimizer, {"reader": reader, "best": best}, task=source.task, **settings)
    awaited = Awaited(stop, schedule, saver.how.metric if saver.how else "loss", looks.names, callbacks)
    shown = has_a_place() if progress is None else as_flag(progress, "fit: progress")
    if not any(part.training for part in model.modules()):
        model.train()
    with saver.open() as (history, begin):
        history.clip_norm = update.max_norm if update.max_norm < math.inf else None
        of_accuracy = measured_too.get("accuracy")
        bar = Bar(
            shown,
            history.updates,
            None if last == math.inf else int(last),
            getattr(of_accuracy, "func", of_accuracy) is accuracy,
        )
        in_order, whole, position = False, True, begin  # whole: no update is under way
        start = time.perf_counter() - (float(history.seconds[-1]) if history.updates else 0.0)
        try:
            batches = unpacked(model, source.batches, "fit", MUST_BE)
            _pass_over(batches, begin)
            saver.bring_back()
            awaited.check(history)
            # Once more, because a run that it has ended stays as it is when it is resumed.
            ended = history.updates >= last or bool(history.updates and stop is not None and stop(history))
            pieces = iter(()) if ended else _pieces(reader, batches, begin)
            for first in pieces:
                whole = False
                rate.set(history)
                if mixing is not None:
                    mixing.update = history.updates
                together = [first] if k == 1 else itertools.chain([first], itertools.islice(pieces, k - 1))
                value, norm, measured, after = update(together, history)
                history.append(value, norm, time.perf_counter() - start, measured)
                position, whole = after, True
                looks.look(history)
                best.look(history)
                for callback in callbacks:
                    callback(history)
                awaited.check(history)
                ended = stop is not None and stop(history)  # before it is saved: it may note evaluations
                saver.save(history, position)
                if ended := bool(ended or saver.stopped or history.updates >= last):
                    break
                bar.update(history)
            saver.save(history, position, at_the_end=True)
            in_order = not saver.stopped
            if history.updates and in_order:
                looks.look(history, at_the_end=True)
                best.look(history)
                awaited.check(history, at_the_end=True)
                saver.check_best(history)
        except KeyboardInterrupt:
            saver.stopped = saver.stopped or int(signal.SIGINT)
        except NonFiniteError as error:
            raise NonFiniteError(f"{error}.{saver.last_good()}".removesuffix("."), history) from None
        except Exception as error:
            if whole:
                saver.rescue(error, history, position)
            raise
        finally:
            bar.close(history, in_order)
            rate.restore()
        history.interrupted, history.signal = bool(saver.stopped), saver.stopped
        best.put_back(history)
    if not history.updates and not history.interrupted:
        raise ValueError("fit: batches gave nothing: is it a generator that was used up before?")
    said = epochs or getattr(task_or_batches, "epochs", None)  # how often, which is a limit of its own
    if in_order and not ended and max_updates is not None and not said:
        again = "pass epochs=" if isinstance(task_or_batches, list | tuple) else "give a list of them and epochs="
        warnings.warn(
            f"fit: the batches ended after {history.updates:,} of max_updates={max_updates:,} updates: {again}, "
            "to read them so often, or leave max_updates out",
            stacklevel=2,
        )
    return history


def _last(max_updates: Any, source: Source) -> float:
    """Return after which update training ends, inf where batches say so themselves."""
    if max_updates is not None:
        return as_size(max_updates, "fit: max_updates")
    if source.endless:
        raise TypeError("fit: max_updates must be given, or epochs with arrays (x, y): these batches have no end")
    return math.inf


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
    """Yield what updates are made of, with where training stands after each."""
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


def _callables(callbacks: Any) -> tuple[Callable[[History], object], ...]:
    made = () if callable(callbacks) else tuple(callbacks)
    if callable(callbacks) or not all(map(callable, made)):
        raise TypeError(f"fit: callbacks must be a list of callables, got {describe(callbacks)}: try [print]")
    return made
