"""A model that is trained, once for each library: layer, head, loss, clipping, Adam.

An update is the same lines everywhere: gradients to None, predict, loss, backward, clip to norm 1, Adam. Batches come
as numpy arrays. torch's second bias stays at zero and is not trained: with both, the bias would move twice as fast.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

from benchmarks.adding import CLIP, LEARNING_RATE, Start


class Job(NamedTuple):
    """What is trained: a head on the last state and mean squared error, or with ids a head at every step and nats.

    Attributes
    ----------
    start : Start
        The first weights, with the gates of the cell side by side.
    cell : "elman" or "lstm"
    activation : "relu" or "tanh", of Elman's cell
    embedding : (V, D) or None
        The vector of each id, where x is ids (T, N); then y is ids (T, N) too.
    """

    start: Start
    cell: str = "elman"
    activation: str = "relu"
    embedding: Any = None

    @property
    def arrays(self) -> list[Any]:
        """All first weights."""
        return [*self.start, *([] if self.embedding is None else [self.embedding])]

    @property
    def sizes(self) -> tuple[int, int, int]:
        """D, H and P."""
        return len(self.start.W_xh), *self.start.W_hy.shape


class Learner(NamedTuple):
    """A model being trained.

    Attributes
    ----------
    update : (x, y) -> float, the loss before the update
    predict : x -> array (N, P), or (T, N, P) with ids
    parameters : () -> arrays, in the order and orientation of `Job.arrays`
    """

    update: Callable[[Any, Any], float]
    predict: Callable[[Any], Any]
    parameters: Callable[[], list[Any]]


def minirnn_learner(job: Job, threads: int) -> Learner:
    import minirnn as mr

    mr.set_num_threads(threads)
    D, H, P = job.sizes
    ids = job.embedding is not None
    layer: Any = mr.LSTMLayer(D, H) if job.cell == "lstm" else mr.RecurrentLayer(D, H, activation=job.activation)
    head, embedding = mr.Linear(H, P), mr.Embedding(*job.embedding.shape) if ids else None
    model = mr.SequenceModel(layer, head, readout="all" if ids else "last", embedding=embedding)
    parameters = [layer.W_xh, layer.W_hh, layer.b_h, head.weight, head.bias]
    parameters += [] if embedding is None else [embedding.weight]
    for parameter, array in zip(parameters, job.arrays, strict=True):
        parameter.data = array.copy()
    adam = mr.optim.Adam(parameters, LEARNING_RATE)
    measure = mr.losses.cross_entropy if ids else mr.losses.mse

    def update(x: Any, y: Any) -> float:
        adam.zero_grad()
        prediction, _ = model(x)
        loss = measure(prediction, y)
        loss.backward()
        mr.optim.clip_grad_norm(parameters, CLIP)
        adam.step()
        return loss.item()

    def predict(x: Any) -> Any:
        with mr.no_grad():
            return model(x)[0].numpy()

    return Learner(update, predict, lambda: [p.data.copy() for p in parameters])


def torch_learner(job: Job, threads: int) -> Learner:
    import torch

    torch.set_num_threads(threads)
    D, H, P = job.sizes
    ids = job.embedding is not None
    layer: Any = torch.nn.LSTM(D, H) if job.cell == "lstm" else torch.nn.RNN(D, H, nonlinearity=job.activation)
    head, embedding = torch.nn.Linear(H, P), torch.nn.Embedding(*job.embedding.shape) if ids else None
    transposed = [layer.weight_ih_l0, layer.weight_hh_l0, layer.bias_ih_l0, head.weight, head.bias]
    parameters = [*transposed, *([] if embedding is None else [embedding.weight])]
    with torch.no_grad():
        for parameter, array in zip(transposed, job.start, strict=True):
            parameter.copy_(torch.from_numpy(array).T if array.ndim == 2 else torch.from_numpy(array))
        if embedding is not None:
            embedding.weight.copy_(torch.from_numpy(job.embedding))
        layer.bias_hh_l0.zero_()
    layer.bias_hh_l0.requires_grad_(False)
    adam = torch.optim.Adam(parameters, LEARNING_RATE)

    def predicted(x: Any) -> Any:
        x = torch.from_numpy(x)
        outputs, final = layer(x if embedding is None else embedding(x))
        if ids:
            return head(outputs)
        return head((final[0] if job.cell == "lstm" else final)[0])

    def update(x: Any, y: Any) -> float:
        adam.zero_grad()
        prediction, y = predicted(x), torch.from_numpy(y)
        if ids:
            loss = torch.nn.functional.cross_entropy(prediction.flatten(0, 1), y.flatten())
        else:
            loss = torch.nn.functional.mse_loss(prediction, y)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, CLIP)
        adam.step()
        return loss.item()

    def predict(x: Any) -> Any:
        with torch.no_grad():
            return predicted(x).numpy()

    def arrays() -> list[Any]:
        found = [p.detach().numpy().T.copy() for p in transposed]
        return found if embedding is None else [*found, embedding.weight.detach().numpy().copy()]

    return Learner(update, predict, arrays)


def jax_learner(job: Job, threads: int) -> Learner:
    """The whole update is one jitted function, clipping and Adam by hand."""
    import jax
    import jax.numpy as jnp

    from benchmarks.contestants import jax_lstm

    ids, H = job.embedding is not None, job.sizes[1]
    phi = {"relu": jax.nn.relu, "tanh": jnp.tanh}[job.activation]

    def outputs(x: Any, W_xh: Any, W_hh: Any, b_h: Any) -> Any:
        h = jnp.zeros((x.shape[1], H))
        if job.cell == "lstm":
            return jax_lstm(x, h, h, W_xh, W_hh, b_h)

        def step(h: Any, x_t: Any) -> Any:
            h = phi(x_t @ W_xh + h @ W_hh + b_h)
            return h, h

        return jax.lax.scan(step, h, x)[1]

    def predicted(weights: Any, x: Any) -> Any:
        W_xh, W_hh, b_h, W_hy, b_y, *embedding = weights
        hs = outputs(embedding[0][x] if ids else x, W_xh, W_hh, b_h)
        return (hs if ids else hs[-1]) @ W_hy + b_y

    def loss_of(weights: Any, x: Any, y: Any) -> Any:
        prediction = predicted(weights, x)
        if not ids:
            return jnp.mean((prediction - y) ** 2)
        return -jnp.take_along_axis(jax.nn.log_softmax(prediction), y[..., None], axis=-1).mean()

    @jax.jit
    def updated(weights: Any, first: Any, second: Any, k: Any, x: Any, y: Any) -> Any:
        loss, gradients = jax.value_and_grad(loss_of)(weights, x, y)
        norm = jnp.sqrt(sum(jnp.vdot(g, g) for g in gradients))
        gradients = [g * jnp.minimum(1.0, CLIP / norm) for g in gradients]
        first = [0.9 * m + 0.1 * g for m, g in zip(first, gradients, strict=True)]
        second = [0.999 * v + 0.001 * g * g for v, g in zip(second, gradients, strict=True)]
        weights = [
            w - LEARNING_RATE / (1 - 0.9**k) * m / (jnp.sqrt(v / (1 - 0.999**k)) + 1e-8)
            for w, m, v in zip(weights, first, second, strict=True)
        ]
        return loss, (weights, first, second, k + 1)

    jax.config.update("jax_enable_x64", False)
    weights = [jnp.asarray(array) for array in job.arrays]
    zeros = [jnp.zeros_like(w) for w in weights]
    state: list[Any] = [(weights, zeros, zeros, jnp.float32(1))]

    def update(x: Any, y: Any) -> float:
        loss, state[0] = jax.block_until_ready(updated(*state[0], x, y))
        return float(loss)

    predict = jax.jit(predicted)
    return Learner(update, lambda x: predict(state[0][0], x), lambda: list(state[0][0]))


MAKE: dict[str, Callable[[Job, int], Learner]] = {
    "minirnn": minirnn_learner,
    "torch": torch_learner,
    "jax": jax_learner,
}
