"""`trace`: what flows at every step of one run of a layer, in numbers, words and a page."""

import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from minirnn.arguments import describe
from minirnn.bptt.explaining import explain
from minirnn.bptt.flow import Flow
from minirnn.bptt.page.building import frame_of, page_of, page_of_training
from minirnn.bptt.run import Loss, run_of
from minirnn.bptt.training_record import Record
from minirnn.layers.module import Module
from minirnn.storage import write_whole


def trace(model: Module, x: Any, loss: Loss, initial_state: Any = None, lengths: Any = None) -> "Trace":
    """Run a layer forward and backward, and keep what flows at every step:

        dL/dh_t = local (what the loss of the outputs says of h_t itself) + carried (what comes back from step t+1)
        dL/dz_t = the cell's derivative of that;   dW_hh gets H_{t-1}ᵀ dL/dz_t from step t, and dW_xh X_tᵀ dL/dz_t

    Parameters
    ----------
    model : recurrent layer, or SequenceModel of one
        `RecurrentLayer` (with a cell of one's own too), `LSTMLayer`, `GRULayer`. Nothing of it is changed.
    x : array_like or Tensor (T, N, D)
        As the model takes it: (N, T, D) for ``batch_first``, ids with an embedding.
    loss : callable (outputs) -> Tensor
        Gets the outputs (T, N, H) of the layer as a Tensor, of a SequenceModel its predictions; returns a scalar, or
        one value per step (T,), whose sum is then the loss.
    initial_state, lengths
        As the layer takes them.

    Raises
    ------
    TypeError, ValueError
        For a module without recurrence, one of several layers, a loss that returns neither a scalar nor (T,).

    Notes
    -----
    It takes about two to three times as long as a forward and backward pass of the fused layer. Sums over t equal the
    layer's gradients to 1e-12.

    >>> import numpy as np
    >>> import minirnn as mr
    >>> layer = mr.RecurrentLayer(3, 5, dtype=np.float64, rng=0)
    >>> x = np.random.default_rng(1).normal(size=(7, 2, 3))
    >>> trace = mr.bptt.trace(layer, x, lambda outputs: (outputs[-1] ** 2).sum())
    >>> np.allclose(trace.dL_dh, trace.dL_dh_local + trace.dL_dh_carried)
    True
    >>> trace.dW_hh_by_step.shape, np.allclose(trace.dW_hh_by_step.sum(0), trace.gradients["W_hh"])
    ((7, 5, 5), True)
    """  # noqa: D400
    return Trace(run_of(model, x, loss, initial_state, lengths, "trace"))


class Trace(Flow):
    """What flowed at every step of one run, as `trace` returns it: the numbers of `Flow`, and three looks at them."""

    def to_html(self, path: str | os.PathLike[str], title: str | None = None) -> None:
        """Write the explorer: one page that needs nothing else, to step through this run forward and backward.

        A file that is there is replaced, whole or not at all; the title is by default the layer's kind and T. The page
        stays under 5 MB for T = 200, H = 128. ValueError for more than 500 steps, OSError where it cannot be written.
        """
        write_whole(path, page_of(self, title, "trace.to_html").encode(), "trace.to_html")

    def _repr_html_(self) -> str:
        """Return the explorer in a frame, for a notebook; for more than 500 steps a line that says so."""
        return frame_of(self)

    def explain(self, t: int, row: int = 0) -> str:
        """Return the equations of step t with the numbers of a row, as `minirnn.bptt.explain` writes them down."""
        return explain(self, t=t, row=row)


def training_to_html(
    traces: Mapping[int, Trace], path: str | os.PathLike[str], *, history: Any, title: str | None = None
) -> None:
    """Write one page of a training: its curves, and the explorer of each of its moments, from one to the next.

    Parameters
    ----------
    traces : dict of int to Trace
        One for each moment, by how many updates had been made; of the same mini-batch, so that they can be compared.
        Of more than 8 the first, the last and some evenly between them are taken.
    path : str or path
        Written as `Trace.to_html` does.
    history : minirnn.training.History
        What `minirnn.training.fit` returned: the loss and the gradient's norm of each update.
    title : str, optional

    Raises
    ------
    TypeError, ValueError
        For something else, for no traces, an update that is not 0 … the number of them, or more than 500 steps.
    OSError
        Where it cannot be written.

    Examples
    --------
    >>> import tempfile
    >>> import minirnn as mr
    >>> task = mr.tasks.AddingTask(T=6)
    >>> model = mr.SequenceModel(mr.RecurrentLayer(2, 4, rng=0), mr.Linear(4, 1, rng=1), readout="last")
    >>> x, y = next(task.batches(8, rng=2))
    >>> def look():
    ...     return mr.bptt.trace(model, x, lambda predictions: mr.losses.mse(predictions, y))
    >>> traces = {0: look()}
    >>> adam = mr.optim.Adam(model.parameters(), lr=0.01)
    >>> history = mr.training.fit(model, task, optimizer=adam, max_updates=10, rng=3, progress=False)
    >>> traces[10] = look()
    >>> mr.bptt.training_to_html(traces, tempfile.mkdtemp() + "/training.html", history=history)
    """
    name = "training_to_html"
    if not isinstance(traces, Mapping) or not all(isinstance(trace, Flow) for trace in traces.values()):
        raise TypeError(f"{name}: traces must be a dict of traces by their update, got {describe(traces)}")
    if not isinstance(history, Record):
        raise TypeError(f"{name}: history must be what fit returned, got {describe(history)}")
    K = len(history.loss)
    wrong = [update for update in traces if not isinstance(update, int | np.integer) or not 0 <= update <= K]
    if not traces or wrong:
        got = f"{wrong[0]!r}" if wrong else "no traces"
        raise ValueError(f"{name}: expected traces by updates from 0 to {K}, those of the history, got {got}")
    traces = {int(update): trace for update, trace in traces.items()}
    page = page_of_training(traces, history.loss, history.grad_norm, title, name)
    write_whole(path, page.encode(), name)
