"""Training: `fit` makes updates and returns their `History`; `evaluate` and `sample` look at what was learnt.

A training loop is a few lines; `fit` adds what one wants every time: the state carried from batch to batch (truncated
BPTT), the gradient's norm, a bar, a stop at the first loss that is not finite, and Ctrl-C without losing the run.

Checked by tests/test_training.py.
"""

import math
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt

from minirnn.arguments import as_flag, as_generator, as_size, describe
from minirnn.history import History
from minirnn.losses import cross_entropy
from minirnn.modes import AnomalyError, detect_anomaly, no_grad
from minirnn.module import Module
from minirnn.optim import Optimizer, clip_grad_norm
from minirnn.tasks import TextTask
from minirnn.tensor import Tensor

Loss = Callable[[Any, Any], Tensor]
"""(predictions, targets) -> the mean over the targets, one number; see minirnn/losses.py."""

REFRESH = 0.1
"""How often the bar is drawn, in seconds."""


# --- the loop ---------------------------------------------------------------------------------------------------------


class NonFiniteError(FloatingPointError):
    """`fit` met a loss or a gradient that is NaN or infinite.

    Attributes
    ----------
    history : History
        Of the updates before it.
    """

    def __init__(self, message: str, history: History) -> None:
        super().__init__(message)
        self.history = history


def fit(
    model: Module,
    batches: Iterable[Any],
    *,
    loss: Loss,
    optimizer: Optimizer,
    max_updates: int,
    clip_norm: float | None = None,
    carry_state: bool = False,
    callbacks: Iterable[Callable[[History], object]] = (),
    stop: Callable[[History], bool] | None = None,
    progress: bool | None = None,
) -> History:
    """Train a model: for each batch predict, measure the loss, go back through time, clip, and make one update.

    Parameters
    ----------
    model : Module
        Called as ``model(x, state)`` if it carries a state (a recurrent layer, a `SequenceModel`), else ``model(x)``.
    batches : iterable of (x, y) or (x, y, is_start)
        What the model reads and should predict. One update each; training ends when they do.
    loss : callable (predictions, y) -> Tensor of one number
    optimizer : Optimizer
    max_updates : int
        Training ends after this many updates.
    clip_norm : float, optional
        The largest joint norm of the gradients (Pascanu et al. 2013).
    carry_state : bool
        Start each batch from the final state of the one before, detached, unless its ``is_start`` is true: truncated
        BPTT over contiguous streams such as `TextTask.streams`. Otherwise every batch starts from zeros.
    callbacks : iterable of callables (history)
        Called in order after every update; `every` makes one rarer. One may evaluate the model and `History.record`
        the figure, change ``optimizer.lr``, or save.
    stop : callable (history) -> bool, optional
        Asked after every update, when the callbacks have been called; True ends the training.
    progress : bool, optional
        Whether to show a bar with the mean loss of the last 100 updates, the gradient norm and updates per second;
        None: when stderr is a terminal.

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
    TypeError, ValueError
        For arguments out of range, batches that are no pairs, or that gave none.

    Notes
    -----
    The loop's own cost is a few microseconds an update. Test: tests/test_training.py::test_fit_*.

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
    """
    max_updates = as_size(max_updates, "fit: max_updates")
    carry_state = _carries(model, carry_state, "fit")
    update = _Update(model, loss, optimizer, _max_norm(clip_norm))
    callbacks = _callables(callbacks)
    history = History()
    bar = _Bar(_on_terminal() if progress is None else as_flag(progress, "fit: progress"), max_updates)
    model.train()
    start, state = time.perf_counter(), None
    try:
        for x, y, is_start in _unpacked(batches, max_updates, "fit"):
            value, norm, state = update(x, y, state if carry_state and not is_start else None, history)
            history.append(value, norm, time.perf_counter() - start)
            for callback in callbacks:
                callback(history)
            if stop is not None and stop(history):
                break
            bar.update(history)
    except KeyboardInterrupt:
        history.interrupted = True
    finally:
        bar.close(history)
    if not history.updates and not history.interrupted:
        raise ValueError("fit: batches gave nothing: is it a generator that was used up before?")
    return history


def every(updates: int, action: Callable[[History], object]) -> Callable[[History], None]:
    """Make a callback of `fit` that calls ``action(history)`` after every so many updates."""
    interval = as_size(updates, "every: updates")

    def callback(history: History) -> None:
        if history.updates % interval == 0:
            action(history)

    return callback


def detached(state: Any) -> Any:
    """Return a state cut off from the tape: a Tensor, or Tensors in (nested) tuples, as `Tensor.detach` does."""
    if isinstance(state, tuple | list):
        return tuple(detached(part) for part in state)
    return state.detach() if isinstance(state, Tensor) else state


def _predict(model: Module, x: Any, state: Any) -> tuple[Any, Any]:
    """Return the predictions and the final state, None for a model without one."""
    if not model.carries_state:
        return model(x), None
    predictions, final_state = model(x, state)
    return predictions, final_state


class _Update:
    """What makes one update of a model from one batch."""

    def __init__(self, model: Module, loss: Loss, optimizer: Optimizer, max_norm: float) -> None:
        self.model, self.loss, self.optimizer, self.max_norm = model, loss, optimizer, max_norm

    def __call__(self, x: Any, y: Any, state: Any, history: History) -> tuple[float, float, Any]:
        """Return the loss, the gradients' norm before clipping, and the final state, detached; or NonFiniteError."""
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):  # what comes of it is refused
            try:
                return self._make(x, y, state)
            except FloatingPointError as error:
                fault = f"fit: update {history.updates + 1} was not made: {error}. {self._diagnosis(x, y, state)}"
                raise NonFiniteError(fault, history) from None

    def _make(self, x: Any, y: Any, state: Any) -> tuple[float, float, Any]:
        self.optimizer.zero_grad()
        predictions, final_state = _predict(self.model, x, state)
        loss = self.loss(predictions, y)
        value = loss.item()
        if not math.isfinite(value):
            raise FloatingPointError(f"the loss is {value}")
        loss.backward()
        try:
            norm = clip_grad_norm(self.optimizer.params, self.max_norm)
        except FloatingPointError:
            raise FloatingPointError(f"the loss is {value:.4g}, but its gradient is not finite") from None
        self.optimizer.step()
        return value, norm, detached(final_state)

    def _diagnosis(self, x: Any, y: Any, state: Any) -> str:
        """Say what `detect_anomaly` shows for the batch: no Parameter has changed since."""
        shown = "detect_anomaly: nothing that is not finite; is there chance in the model, or in the loss?"
        self.optimizer.zero_grad()
        try:
            with detect_anomaly():
                self.loss(_predict(self.model, x, state)[0], y).backward()
        except AnomalyError as error:
            shown = str(error)
        self.optimizer.zero_grad()
        return f"The same batch again, under {shown}. If the data are good, try a smaller learning rate or clip_norm"


def _unpacked(batches: Iterable[Any], limit: int | None, caller: str) -> Iterator[tuple[Any, Any, bool]]:
    """Yield at most ``limit`` (x, y, is_start), and refuse what is none; never take a batch that is not used."""
    expected = f"{caller}: batches must be an iterable of (x, y) or (x, y, is_start)"
    if not isinstance(batches, Iterable):
        raise TypeError(f"{expected}, got {describe(batches)}: try task.batches(N, rng)")
    source = iter(batches)
    made = 0
    while limit is None or made < limit:
        try:
            batch = next(source)
        except StopIteration:
            return
        if not isinstance(batch, tuple | list) or len(batch) not in (2, 3):
            got = f"a {type(batch).__name__}" + (f" of {len(batch)}" if isinstance(batch, tuple | list) else "")
            raise TypeError(f"{expected}, got {got}")
        yield batch[0], batch[1], as_flag(batch[2], f"{caller}: is_start") if len(batch) == 3 else False
        made += 1


def _carries(model: Module, carry_state: bool, caller: str) -> bool:
    if as_flag(carry_state, f"{caller}: carry_state") and not model.carries_state:
        raise ValueError(f"{caller}: carry_state=True needs a model with a state, got {type(model).__name__}")
    return carry_state


def _max_norm(clip_norm: float | None) -> float:
    """Return what `clip_grad_norm` takes; without clipping it only measures."""
    if clip_norm is None:
        return math.inf
    if isinstance(clip_norm, bool) or not isinstance(clip_norm, int | float | np.number) or not clip_norm > 0:
        raise ValueError(f"fit: clip_norm must be a positive number, or None not to clip, got {clip_norm!r}")
    return float(clip_norm)


def _callables(callbacks: Any) -> tuple[Callable[[History], object], ...]:
    if callable(callbacks):
        raise TypeError("fit: callbacks must be a list of callables, got one callable: put it in a list")
    for callback in (made := tuple(callbacks)):
        if not callable(callback):
            raise TypeError(f"fit: callbacks must be a list of callables, got {describe(callback)} in it")
    return made


# --- looking at what was learnt ---------------------------------------------------------------------------------------


def evaluate(model: Module, batches: Iterable[Any], *, loss: Loss, carry_state: bool = False) -> float:
    """Measure the mean loss per target over batches, without recording and with the model in evaluation mode.

    Parameters
    ----------
    model : Module
    batches : iterable of (x, y) or (x, y, is_start)
        All are read; they may differ in size.
    loss : callable (predictions, y) -> Tensor, the mean over the targets
    carry_state : bool
        As for `fit`.

    Returns
    -------
    float : in the unit of the loss: nats per target, squared units

    Raises
    ------
    TypeError, ValueError
        For batches that are no pairs, or that gave none.

    Notes
    -----
    Test: tests/test_training.py::test_evaluate_*.

    Examples
    --------
    >>> import minirnn as mr
    >>> model = mr.SequenceModel(mr.RecurrentLayer(2, 4, rng=0), mr.Linear(4, 1, rng=0), readout="last")
    >>> held_out = mr.tasks.AddingTask(T=10).evaluation_batch(100)
    >>> evaluate(model, [held_out], loss=mr.losses.mse) > 0
    True
    """
    carry_state = _carries(model, carry_state, "evaluate")
    total, targets, state = 0.0, 0, None
    with _evaluating(model):
        for x, y, is_start in _unpacked(batches, None, "evaluate"):
            predictions, state = _predict(model, x, state if carry_state and not is_start else None)
            size = int(np.size(y))
            total += loss(predictions, y).item() * size
            targets += size
    if not targets:
        raise ValueError("evaluate: batches gave nothing: is it a generator that was used up before?")
    return total / targets


def bits_per_character(model: Module, task: TextTask, *, N: int = 8, chunk: int = 100) -> float:
    """Measure the mean −log₂ p(next character) on the held-out part of a text, with the state carried.

    Parameters
    ----------
    model : Module
        Gives logits (T, N, V) for ids (T, N).
    task : TextTask
    N : int
        Streams, read side by side. More are faster and each starts without a state, which costs a little: on the
        default text N = 8 adds 0.002 bits per character to the figure of N = 1, in a third of the time. There are fewer
        where a stream would have less than 100 characters.
    chunk : int
        Steps at a time; changes memory and speed, but no figure.

    Returns
    -------
    float : bits per character

    Notes
    -----
    Test: tests/test_training.py::test_bits_per_character_*.
    """
    N = min(as_size(N, "bits_per_character: N"), max(1, (task.held_out_ids.size - 1) // 100))
    return evaluate(model, task.evaluation_streams(N, chunk), loss=cross_entropy, carry_state=True) / math.log(2)


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
        What the model reads first; a newline if empty (or, in a text without one, the text's first character).

    Returns
    -------
    str : ``length`` characters, without the prompt

    Raises
    ------
    ValueError
        For a prompt with characters that the task does not know, or a temperature that is not positive.

    Notes
    -----
    Test: tests/test_training.py::test_sample_*.
    """
    length = as_size(length, "sample: length")
    if isinstance(temperature, bool) or not isinstance(temperature, int | float) or not 0 < temperature < math.inf:
        raise ValueError(f"sample: temperature must be a positive number, got {temperature!r}: try 1.0")
    if getattr(model, "embedding", None) is None:
        raise TypeError(f"sample: model must be a SequenceModel with an embedding, got {type(model).__name__}")
    rng = as_generator(rng)
    first = "\n" if "\n" in task.vocabulary else task.decode(task.train_ids[:1])
    ids: list[int] = []
    with _evaluating(model):
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
    logits = model.head(model.recurrent.last_output(state)).numpy()
    return logits[0].astype(np.float64), state


def _draw(logits: npt.NDArray[np.float64], temperature: float, rng: np.random.Generator) -> int:
    sums = np.cumsum(np.exp((logits - logits.max()) / temperature))
    return int(np.searchsorted(sums, rng.random() * sums[-1], side="right"))


@contextmanager
def _evaluating(model: Module) -> Iterator[None]:
    """Within it nothing is recorded and the model is in evaluation mode."""
    training = model.training
    model.eval()
    try:
        with no_grad():
            yield
    finally:
        model.train(training)


# --- the bar ----------------------------------------------------------------------------------------------------------


def _on_terminal() -> bool:
    return sys.stderr is not None and sys.stderr.isatty()


def _columns() -> int:
    """Return the width of the terminal, 80 where there is none or it does not know."""
    try:
        return os.get_terminal_size(sys.stderr.fileno()).columns or 80
    except (OSError, ValueError):
        return 80


class _Bar:
    """tqdm's bar, spoken to ten times a second and not at every update: an update may take less time than its text."""

    def __init__(self, shown: bool, total: int) -> None:
        self._due = 0.0 if shown else math.inf
        self._bar: Any = None
        if shown:
            from tqdm import tqdm  # here, not above: it takes as long to import as all of minirnn

            # Left to itself, tqdm shows nothing on a terminal that does not know its size, such as a container's.
            size = {"ncols": _columns(), "nrows": 20}
            self._bar = tqdm(total=total, unit=" updates", mininterval=0, miniters=1, **size)

    def update(self, history: History) -> None:
        now = history._seconds[-1]
        if now >= self._due:
            self._due = now + REFRESH
            self._draw(history)

    def _draw(self, history: History) -> None:
        text = f"loss {history.recent():.4f}, grad norm {history._grad_norm[-1]:.3g}"
        self._bar.set_postfix_str(text, refresh=False)
        self._bar.update(history.updates - self._bar.n)

    def close(self, history: History) -> None:
        if self._bar is not None:
            if history.updates > self._bar.n:
                self._draw(history)
            self._bar.close()
