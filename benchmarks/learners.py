"""A model that learns the adding problem, once for each library: IRNN, head, mean squared error, clipping, Adam.

An update is the same lines everywhere: gradients to None, predict, loss, backward, clip to norm 1, Adam. Batches come
as numpy arrays. torch's second bias stays at zero and is not trained: with both, the bias would move twice as fast.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

from benchmarks.adding import CLIP, LEARNING_RATE, D, H, Start


class Learner(NamedTuple):
    """A model being trained.

    Attributes
    ----------
    update : (x, y) -> float, the loss before the update
    predict : x -> array (N, 1)
    parameters : () -> arrays, in the order and orientation of `Start`
    """

    update: Callable[[Any, Any], float]
    predict: Callable[[Any], Any]
    parameters: Callable[[], list[Any]]


def minirnn_learner(start: Start, threads: int) -> Learner:
    import minirnn as mr

    mr.set_num_threads(threads)
    layer, head = mr.RecurrentLayer(D, H, activation="relu"), mr.Linear(H, 1)
    model = mr.SequenceModel(layer, head, readout="last")
    parameters = [layer.W_xh, layer.W_hh, layer.b_h, head.weight, head.bias]
    for parameter, array in zip(parameters, start, strict=True):
        parameter.data = array.copy()
    adam = mr.optim.Adam(parameters, LEARNING_RATE)

    def update(x: Any, y: Any) -> float:
        adam.zero_grad()
        prediction, _ = model(x)
        loss = mr.losses.mse(prediction, y)
        loss.backward()
        mr.optim.clip_grad_norm(parameters, CLIP)
        adam.step()
        return loss.item()

    def predict(x: Any) -> Any:
        with mr.no_grad():
            return model(x)[0].numpy()

    return Learner(update, predict, lambda: [p.data.copy() for p in parameters])


def torch_learner(start: Start, threads: int) -> Learner:
    import torch

    torch.set_num_threads(threads)
    layer, head = torch.nn.RNN(D, H, nonlinearity="relu"), torch.nn.Linear(H, 1)
    parameters = [layer.weight_ih_l0, layer.weight_hh_l0, layer.bias_ih_l0, head.weight, head.bias]
    with torch.no_grad():
        for parameter, array in zip(parameters, start, strict=True):
            parameter.copy_(torch.from_numpy(array).T if array.ndim == 2 else torch.from_numpy(array))
        layer.bias_hh_l0.zero_()
    layer.bias_hh_l0.requires_grad_(False)
    adam = torch.optim.Adam(parameters, LEARNING_RATE)

    def update(x: Any, y: Any) -> float:
        adam.zero_grad()
        _, final = layer(torch.from_numpy(x))
        loss = torch.nn.functional.mse_loss(head(final[0]), torch.from_numpy(y))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, CLIP)
        adam.step()
        return loss.item()

    def predict(x: Any) -> Any:
        with torch.no_grad():
            return head(layer(torch.from_numpy(x))[1][0]).numpy()

    return Learner(update, predict, lambda: [p.detach().numpy().T.copy() for p in parameters])


def jax_learner(start: Start, threads: int) -> Learner:
    """The whole update is one jitted function, clipping and Adam by hand."""
    import jax
    import jax.numpy as jnp

    def predicted(weights: Any, x: Any) -> Any:
        W_xh, W_hh, b_h, W_hy, b_y = weights

        def step(h: Any, x_t: Any) -> Any:
            return jax.nn.relu(x_t @ W_xh + h @ W_hh + b_h), None

        final, _ = jax.lax.scan(step, jnp.zeros((x.shape[1], H)), x)
        return final @ W_hy + b_y

    @jax.jit
    def updated(weights: Any, first: Any, second: Any, k: Any, x: Any, y: Any) -> Any:
        loss, gradients = jax.value_and_grad(lambda weights: jnp.mean((predicted(weights, x) - y) ** 2))(weights)
        norm = jnp.sqrt(sum(jnp.vdot(g, g) for g in gradients))
        gradients = [g * jnp.minimum(1.0, CLIP / norm) for g in gradients]
        first = [0.9 * m + 0.1 * g for m, g in zip(first, gradients, strict=True)]
        second = [0.999 * v + 0.001 * g * g for v, g in zip(second, gradients, strict=True)]
        weights = [
            w - LEARNING_RATE / (1 - 0.9**k) * m / (jnp.sqrt(v / (1 - 0.999**k)) + 1e-8)
            for w, m, v in zip(weights, first, second, strict=True)
        ]
        return loss, (weights, first, second, k + 1)

    weights = [jnp.asarray(array) for array in start]
    zeros = [jnp.zeros_like(w) for w in weights]
    state: list[Any] = [(weights, zeros, zeros, jnp.float32(1))]

    def update(x: Any, y: Any) -> float:
        loss, state[0] = jax.block_until_ready(updated(*state[0], x, y))
        return float(loss)

    predict = jax.jit(predicted)
    return Learner(update, lambda x: predict(state[0][0], x), lambda: list(state[0][0]))


MAKE: dict[str, Callable[[Start, int], Learner]] = {
    "minirnn": minirnn_learner,
    "torch": torch_learner,
    "jax": jax_learner,
}
