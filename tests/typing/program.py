# pyright: strict, reportUnnecessaryTypeIgnoreComment=true
"""A user's program, to be checked by mypy --strict and pyright, and to be run: every type asserted is one that arises.

What must be an error is told to be ignored, and both report where there was nothing to ignore.
"""

from collections.abc import Iterator
from typing import Any, assert_type

import numpy as np

import minirnn as mr
from minirnn.layers import Recurrence
from minirnn.optim import Adam

T, N, D, H, P = 5, 4, 3, 6, 2
x = np.random.default_rng(0).standard_normal((T, N, D))

# --- layers ----------------------------------------------------------------------------------------------------------

elman = mr.RecurrentLayer(D, H, activation="relu", init="irnn", backend="fused", rng=0)
lstm = mr.LSTMLayer(D, H, backend="graph", input_initializer="glorot", rng=0)
gru = mr.GRULayer(D, H, rng=0)

assert_type(elman(x), mr.RecurrentOutput[mr.Tensor])
outputs, h = elman(x, None, [T] * N)
assert_type(outputs, mr.Tensor)
assert_type(h, mr.Tensor)
assert_type(elman.step(x[0], h), mr.Tensor)

result = lstm(x, initial_state=None, reset=np.zeros((T, N), bool))
assert_type(result.outputs, mr.Tensor)
assert_type(result.final_state, mr.LSTMState)
h, c = result.final_state
assert_type(c, mr.Tensor)
assert_type(lstm.step(x[0]), mr.LSTMState)
assert_type(lstm.step(x[0]).c.detach(), mr.Tensor)

assert_type(gru(x), mr.RecurrentOutput[mr.Tensor])
assert_type(gru(x).final_state.shape, tuple[int, ...])

both = mr.Bidirectional(lstm, mr.GRULayer(D, H, reverse=True, rng=1))
outputs, states = both(x)
assert_type(outputs, mr.Tensor)
assert_type(states, mr.BidirectionalState[mr.LSTMState, mr.Tensor])
assert_type(states.forward, mr.LSTMState)
assert_type(states.backward, mr.Tensor)

deep = mr.Stacked([both, mr.LSTMLayer(2 * H, H, rng=2)], dropout=0.2, rng=3)
outputs, of_layers = deep(x)
assert_type(outputs, mr.Tensor)
assert_type(of_layers, tuple[Any, ...])

# --- modules without a state -----------------------------------------------------------------------------------------

head = mr.Linear(H, P, initializer="orthogonal", rng=0)
assert_type(head(x @ np.ones((D, H))), mr.Tensor)
assert_type(head.weight, mr.Parameter)
assert_type(head.bias, mr.Parameter | None)
assert_type(mr.Dropout(0.5, rng=0)(x), mr.Tensor)
assert_type(mr.Embedding(10, D, rng=0)([[0, 1], [2, 3]]), mr.Tensor)
assert_type(mr.Sequential(mr.Linear(D, H), head)(x), mr.Tensor)
blocks = mr.ModuleList(mr.Linear(D, D) for _ in range(2))
blocks.append(head)
assert_type(len(blocks[1:]), int)
heads = mr.ModuleDict({"head": head})
assert_type(len(heads), int)
assert_type(blocks.eval(), mr.ModuleList)


class Scaled(mr.Module):
    """A module of one's own: a call has the signature of `forward`."""

    def __init__(self, layer: mr.LSTMLayer) -> None:
        super().__init__()
        self.layer = layer
        self.scale = mr.Parameter(np.ones(1, np.float32))

    def forward(self, x: mr.Tensor, times: int = 1, *, carried: mr.LSTMState | None = None) -> tuple[mr.Tensor, int]:
        """Scale what an LSTM gives."""
        outputs, _ = self.layer(x, carried)
        return outputs * self.scale * float(times), times


scaled = Scaled(lstm)
assert_type(scaled(mr.Tensor(x)), tuple[mr.Tensor, int])
assert_type(scaled(mr.Tensor(x), 2, carried=result.final_state)[0], mr.Tensor)
assert_type(scaled.eval(), Scaled)
assert_type(scaled.parameters(), list[mr.Parameter])


def last_state(layer: Recurrence[mr.Tensor]) -> mr.Tensor:
    """Take any layer with a state of one array."""
    return layer(x).final_state


assert_type(last_state(elman), mr.Tensor)
assert_type(last_state(gru), mr.Tensor)


def any_model(model: mr.SequenceModel) -> mr.Tensor:
    """Take a model with whatever state."""
    return model(x).predictions


# --- models ----------------------------------------------------------------------------------------------------------

model = mr.SequenceModel(lstm, head, readout="last")
assert_type(model, mr.SequenceModel[mr.LSTMState])
predictions, state = model(x)
assert_type(predictions, mr.Tensor)
assert_type(state, mr.LSTMState)
assert_type(model(x), mr.SequenceOutput[mr.LSTMState])
assert_type(mr.SequenceModel(elman, head)(x).final_state, mr.Tensor)
assert_type(any_model(model), mr.Tensor)

# --- losses, optimisers, gradients -----------------------------------------------------------------------------------

loss = mr.losses.mse(predictions, np.zeros((N, P)))
assert_type(loss, mr.Tensor)
assert_type(mr.losses.cross_entropy(predictions, [0, 1, 0, 1]), mr.Tensor)
assert_type(loss.item(), float)
adam = Adam(model.parameters(), lr=1e-2)
assert_type(adam, mr.optim.Adam)
adam.zero_grad()
loss.backward()
assert_type(mr.optim.clip_grad_norm(model.parameters(), 1.0), float)
adam.step()
assert_type(adam.lr, float)
in_groups = mr.optim.AdamW([{"params": lstm.parameters(), "lr": 1e-3}, {"params": head.parameters()}], amsgrad=True)
assert_type(in_groups.groups, list[mr.optim.Group])
assert_type(mr.optim.clip_grad_value(model.parameters(), 1.0), float)
mr.training.vector_to_parameters(0.9 * mr.training.parameters_to_vector(model.parameters()), model.parameters())


@mr.no_grad
def count(n: int) -> Iterator[int]:
    """Keep what it takes and gives, decorated with brackets or without."""
    yield from range(n)


assert_type(count(3), Iterator[int])
assert_type(mr.detect_anomaly()(any_model)(model), mr.Tensor)

# --- training --------------------------------------------------------------------------------------------------------

task = mr.tasks.AddingTask(T=4, markers="anywhere")
adder = mr.SequenceModel(mr.GRULayer(2, 4, rng=0), mr.Linear(4, 1, rng=0), readout="last")
optimizer = mr.optim.SGD(adder.parameters(), lr=1e-2)
history = mr.training.fit(adder, task, optimizer=optimizer, max_updates=3, batch=4, rng=0, progress=False)
assert_type(history, mr.training.History)
assert_type(history.updates, int)
assert_type(mr.training.measure(adder, task), float)
assert_type(mr.__version__, str)

# --- what must not pass ----------------------------------------------------------------------------------------------


def refused() -> None:
    """Say what is an error for a type checker; at run time most of it is one too."""
    scaled(3)  # type: ignore[arg-type]
    scaled(mr.Tensor(x), wrong=1)  # type: ignore[call-arg]
    elman()  # type: ignore[call-arg]
    mr.SequenceModel(lstm, head, readout="first")  # type: ignore[arg-type]
    mr.Linear(H, P, initializer="golrot")  # type: ignore[arg-type]
    mr.tasks.AddingTask(markers="somewhere")  # type: ignore[arg-type]
    mr.nothing.more()  # type: ignore[attr-defined]
