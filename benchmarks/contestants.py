"""The contestants of ``layer``: forward and backward with all gradients, those of x and h0 included.

Each function takes a `Case` and the number of threads, imports its library, and returns a `Contestant`. All get their
inputs as their own kind of tensor, made beforehand, and set gradients to None at every call, as in training.
"""

from collections.abc import Callable
from typing import Any

from benchmarks.cases import Case, Contestant


def minirnn_layer(case: Case, threads: int, backend: str = "fused") -> Contestant:
    """The public layer, from ``layer(x, state)`` to ``backward(g)``."""
    import minirnn as mr

    mr.set_num_threads(threads)
    layer = minirnn_of(case, backend)
    inputs = []
    for x, state, g in case.inputs:
        tensors = [mr.Tensor(array, requires_grad=True) for array in (x, *state)]
        inputs.append((tensors, one_or_pair(tensors[1:]), g))

    def run(i: int, lengths: Any = None) -> Any:
        tensors, state, g = inputs[i]
        for tensor in tensors:
            tensor.grad = None
        layer.zero_grad()
        outputs, _ = layer(tensors[0], state, lengths)
        outputs.backward(g)
        return outputs, *tensors

    def read(result: Any) -> Any:
        outputs, *others = result
        return outputs.numpy(), *(tensor.grad for tensor in (*others, *layer.parameters()))

    return Contestant(run, read)


def minirnn_of(case: Case, backend: str = "fused") -> Any:
    """Return the layer of a case, with its weights."""
    layer = case.kind.layer(case.shape.D, case.shape.H, backend=backend, dtype=case.dtype)
    for parameter, array in zip(layer.parameters(), case.weights, strict=True):
        parameter.data = array.copy()
    return layer


def one_or_pair(state: Any) -> Any:
    """Return a state as layers take it."""
    return state[0] if len(state) == 1 else tuple(state)


def minirnn_graph(case: Case, threads: int) -> Contestant:
    """The same layer as one op for each operation of the equation at each step."""
    return minirnn_layer(case, threads, "graph")


def floor(case: Case, threads: int) -> Contestant:
    """The matrix products of forward and backward and one activation pass each way, bare."""
    import numpy as np

    from minirnn.bench.floor import Floor

    bare = Floor(*case.shape, case.dtype, np.random.default_rng(0), case.kind.gates)
    return Contestant(lambda _: bare.both_ways(), None)


def torch_layer(case: Case, threads: int) -> Contestant:
    """torch.nn.RNN, LSTM or GRU as it comes: with its second bias, which is zero here but for b_hn.

    With lengths, packing and padding are part of the call.
    """
    import torch
    from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

    torch.set_num_threads(threads)
    T, H = case.shape.T, case.shape.H
    layer = torch_of(case)
    inputs = []
    for x, state, g in case.inputs:
        tensors = [torch.tensor(array, requires_grad=True) for array in (x, *(s[None] for s in state))]
        inputs.append((tensors, one_or_pair(tensors[1:]), torch.tensor(g)))

    def run(i: int, lengths: Any = None) -> Any:
        tensors, state, g = inputs[i]
        for tensor in tensors:
            tensor.grad = None
        layer.zero_grad()
        if lengths is None:
            outputs, _ = layer(tensors[0], state)
        else:
            packed, _ = layer(pack_padded_sequence(tensors[0], lengths, enforce_sorted=False), state)
            outputs, _ = pad_packed_sequence(packed, total_length=T)
        outputs.backward(g)
        return outputs, *tensors

    def read(result: Any) -> Any:
        outputs, x, *state = result
        of_weights = [layer.weight_ih_l0.grad.T, layer.weight_hh_l0.grad.T, layer.bias_ih_l0.grad]
        if case.cell == "gru":
            of_weights.append(layer.bias_hh_l0.grad[2 * H :])
        gradients = x.grad, *(s.grad[0] for s in state), *of_weights
        return outputs.detach().numpy(), *(gradient.numpy() for gradient in gradients)

    return Contestant(run, read)


def torch_of(case: Case) -> Any:
    """Return torch's layer with the weights of a case; torch keeps them transposed, its gates in the same order."""
    import torch

    kind = {"elman": torch.nn.RNN, "lstm": torch.nn.LSTM, "gru": torch.nn.GRU}[case.cell]
    return torch_weights(kind(case.shape.D, case.shape.H, dtype=getattr(torch, case.dtype)), case)


def torch_weights(layer: Any, case: Case) -> Any:
    """Give a layer or a cell of torch the weights of a case, and return it."""
    import torch

    W_xh, W_hh, b_h, *b_hn = map(torch.tensor, case.weights)
    second = torch.zeros_like(b_h)
    if b_hn:
        second[-case.shape.H :] = b_hn[0]
    with torch.no_grad():
        for parameter, value in zip(layer.parameters(), (W_xh.T, W_hh.T, b_h, second), strict=True):
            parameter.copy_(value)
    return layer


def torch_eager(case: Case, threads: int) -> Contestant:
    """The loop in Python, each op recorded on torch's tape."""
    import torch

    torch.set_num_threads(threads)
    W_xh, W_hh, b_h = weights = [torch.tensor(w, requires_grad=True) for w in case.weights]
    inputs = [
        (torch.tensor(x, requires_grad=True), torch.tensor(h0, requires_grad=True), torch.tensor(g))
        for x, (h0,), g in case.inputs
    ]

    def run(i: int) -> Any:
        x, h0, g = inputs[i]
        for tensor in (x, h0, *weights):
            tensor.grad = None
        h, outputs = h0, []
        for x_t in x.unbind():  # x[t] would make a whole dx at every step of backward
            h = torch.tanh(x_t @ W_xh + h @ W_hh + b_h)
            outputs.append(h)
        outputs = torch.stack(outputs)
        outputs.backward(g)
        return outputs, x, h0

    def read(result: Any) -> Any:
        outputs, *others = result
        return outputs.detach().numpy(), *(tensor.grad.numpy() for tensor in (*others, *weights))

    return Contestant(run, read)


def jax_scan(case: Case, threads: int) -> Contestant:
    """jax.lax.scan: the value and all gradients from one jitted function, waited for."""
    import jax
    import jax.numpy as jnp

    jax.config.update("jax_enable_x64", case.dtype == "float64")
    unroll = JAX_UNROLLS[case.cell]

    @jax.jit
    def value_and_gradients(g: Any, *arrays: Any) -> Any:
        outputs, backward = jax.vjp(unroll, *arrays)
        return outputs, *backward(g)

    weights = [jnp.asarray(w) for w in case.weights]
    inputs = [tuple(map(jnp.asarray, (g, x, *state))) for x, state, g in case.inputs]
    return Contestant(lambda i: jax.block_until_ready(value_and_gradients(*inputs[i], *weights)), _as_it_is)


def jax_elman(x: Any, h0: Any, W_xh: Any, W_hh: Any, b_h: Any, *, final: bool = False) -> Any:
    """Return the outputs, or the ``final`` state.

    x W_xh stands inside the scan: taken out, jax was slower on most shapes.
    """
    import jax
    import jax.numpy as jnp

    def step(h: Any, x_t: Any) -> Any:
        h = jnp.tanh(x_t @ W_xh + h @ W_hh + b_h)
        return h, h

    return jax.lax.scan(step, h0, x)[0 if final else 1]


def jax_lstm(x: Any, h0: Any, c0: Any, W_xh: Any, W_hh: Any, b_h: Any, *, final: bool = False) -> Any:
    """Return the outputs, or the ``final`` state; all gates in one product."""
    import jax
    import jax.numpy as jnp

    def step(state: Any, x_t: Any) -> Any:
        h, c = state
        i, f, g, o = jnp.split(x_t @ W_xh + h @ W_hh + b_h, 4, axis=1)
        c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
        h = jax.nn.sigmoid(o) * jnp.tanh(c)
        return (h, c), h

    return jax.lax.scan(step, (h0, c0), x)[0 if final else 1]


def jax_gru(x: Any, h0: Any, W_xh: Any, W_hh: Any, b_h: Any, b_hn: Any, *, final: bool = False) -> Any:
    """Return the outputs, or the ``final`` state; all gates in one product."""
    import jax
    import jax.numpy as jnp

    def step(h: Any, x_t: Any) -> Any:
        x_r, x_z, x_n = jnp.split(x_t @ W_xh + b_h, 3, axis=1)
        h_r, h_z, h_n = jnp.split(h @ W_hh, 3, axis=1)
        z = jax.nn.sigmoid(x_z + h_z)
        n = jnp.tanh(x_n + jax.nn.sigmoid(x_r + h_r) * (h_n + b_hn))
        h = (1 - z) * n + z * h
        return h, h

    return jax.lax.scan(step, h0, x)[0 if final else 1]


JAX_UNROLLS = {"elman": jax_elman, "lstm": jax_lstm, "gru": jax_gru}


def hips_autograd(case: Case, threads: int) -> Contestant:
    """The loop in Python on HIPS autograd, over numpy."""
    import autograd.numpy as anp
    from autograd import make_vjp

    def unroll(x: Any, h: Any, W_xh: Any, W_hh: Any, b_h: Any) -> Any:
        outputs = []
        for t in range(len(x)):
            h = anp.tanh(x[t] @ W_xh + h @ W_hh + b_h)
            outputs.append(h)
        return anp.stack(outputs)

    forward = make_vjp(unroll, argnum=(0, 1, 2, 3, 4))

    def run(i: int) -> Any:
        x, (h0,), g = case.inputs[i]
        backward, outputs = forward(x, h0, *case.weights)
        return outputs, *backward(g)

    return Contestant(run, _as_it_is)


def mygrad(case: Case, threads: int) -> Contestant:
    """The loop in Python on MyGrad, over numpy; unguarded, as it offers for speed."""
    import mygrad as mg

    W_xh, W_hh, b_h = weights = [mg.tensor(w) for w in case.weights]
    inputs = [(mg.tensor(x), mg.tensor(h0), g) for x, (h0,), g in case.inputs]

    def run(i: int) -> Any:
        x, h0, g = inputs[i]
        for tensor in (x, h0, *weights):
            tensor.null_grad()
        h, outputs = h0, []
        for t in range(len(x)):
            h = mg.tanh(x[t] @ W_xh + h @ W_hh + b_h)
            outputs.append(h)
        outputs = mg.stack(outputs)
        outputs.backward(g)
        return outputs.data, *(tensor.grad for tensor in (x, h0, *weights))

    return Contestant(mg.mem_guard_off(run), _as_it_is)


def _as_it_is(results: Any) -> Any:
    return results


MAKE: dict[str, Callable[[Case, int], Contestant]] = {
    "minirnn": minirnn_layer,
    "one-thread": minirnn_layer,  # who sets the number before each turn is `side_by_side`
    "floor": floor,
    "torch": torch_layer,
    "jax": jax_scan,
    "graph": minirnn_graph,
    "torch-eager": torch_eager,
    "autograd": hips_autograd,
    "mygrad": mygrad,
}
