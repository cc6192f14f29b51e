"""Layers, sequences and losses for the tests of minirnn.bptt: sizes that all differ, random weights and states."""

from typing import NamedTuple

import numpy as np
from test_own_cell import UGRNN

import minirnn as mr

T, N, D, H = 7, 4, 3, 5
KINDS = {
    "elman": (mr.RecurrentLayer, {}),
    "relu": (mr.RecurrentLayer, {"activation": "relu"}),
    "own": (mr.RecurrentLayer, {"cell": UGRNN()}),
    "lstm": (mr.LSTMLayer, {}),
    "gru": (mr.GRULayer, {}),
    "gru-before": (mr.GRULayer, {"reset_after": False}),
}
WAYS = {
    "plain": {},
    "no bias": {"bias": False},
    "reverse": {"reverse": True},
    "batch_first": {"batch_first": True},
    "learned": {"learn_initial_state": True},
    "reverse learned": {"reverse": True, "learn_initial_state": True},
    "graph": {"backend": "graph"},
}
LENGTHS = {"whole": None, "ragged": [3, 7, 1, 6]}


class Case(NamedTuple):
    """A layer, what it reads, and a loss that looks at every output, differently at each step."""

    layer: mr.Module
    x: np.ndarray
    state: object
    lengths: object
    loss: object

    def trace(self):
        return mr.bptt.trace(self.layer, self.x, self.loss, self.state, self.lengths)

    def outputs(self):
        return self.layer(self.x, self.state, self.lengths).outputs

    def time_major(self, a):
        return a.swapaxes(0, 1) if self.layer.batch_first else a

    def true_gradients(self):
        """The layer's own, by name."""
        self.layer.zero_grad()
        self.loss(self.outputs()).sum().backward()
        found = {name: p.grad.copy() for name, p in self.layer.named_parameters()}
        self.layer.zero_grad()
        return found


def make(kind, *, lengths=None, seed=0, per_step=False, sizes=(T, N, D, H), **settings):
    """Build a case; padding holds NaN. ``per_step``: the loss is one value for each step."""
    steps, rows, inputs, hidden = sizes
    rng = np.random.default_rng(seed)
    made, own = KINDS[kind]
    layer = made(inputs, hidden, dtype=np.float64, rng=1, **own, **settings)
    for p in layer.parameters():
        p.data = 0.6 * rng.normal(size=p.shape)
    x = rng.normal(size=(steps, rows, inputs))
    if lengths is not None:
        x[np.arange(steps)[:, None] >= np.array(lengths)] = np.nan
    state = None
    if not settings.get("learn_initial_state"):
        state = [rng.normal(size=(rows, hidden)) for _ in layer.state_names]
        state = state if len(state) > 1 else state[0]
    weights = rng.normal(size=(steps, rows, hidden))

    def loss(outputs):
        per = outputs.swapaxes(0, 1) if layer.batch_first else outputs
        each = (mr.tanh(per) * weights).sum(axis=(1, 2))
        return each if per_step else each.sum()

    return Case(layer, x.swapaxes(0, 1) if layer.batch_first else x, state, lengths, loss)


def worst(found, true):
    """Return the largest difference between two dicts of gradients, relative to the largest entry of each."""
    assert list(found) == list(true)
    return max(np.abs(found[name] - g).max() / max(np.abs(g).max(), 1e-300) for name, g in true.items())
