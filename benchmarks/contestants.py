"""The contestants of ``layer``: forward and backward with all gradients, those of x and h0 included.

Each function takes a `Case` and the number of threads, imports its library, and returns a `Contestant`. All get their
inputs as their own kind of tensor, made beforehand, and set gradients to None at every call, as in training.
"""

from collections.abc import Callable
from typing import Any

from benchmarks.cases import Case, Contestant


def minirnn_layer(case: Case, threads: int, backend: str = "fused") -> Contestant:
    """The public layer, from ``layer(x, h0)`` to ``backward(g)``."""
    import minirnn as mr

    mr.set_num_threads(threads)
    layer = mr.RecurrentLayer(case.shape.D, case.shape.H, backend=backend)
    weights = layer.W_xh, layer.W_hh, layer.b_h
    for parameter, array in zip(weights, case.weights, strict=True):
        parameter.data = array.copy()
    inputs = [(mr.Tensor(x, requires_grad=True), mr.Tensor(h0, requires_grad=True), g) for x, h0, g in case.inputs]

    def run(i: int) -> Any:
        x, h0, g = inputs[i]
        x.grad = h0.grad = None
        layer.zero_grad()
        outputs, _ = layer(x, h0)
        outputs.backward(g)
        return outputs, x, h0

    def read(result: Any) -> Any:
        outputs, *others = result
        return outputs.numpy(), *(tensor.grad for tensor in (*others, *weights))

    return Contestant(run, read)


def minirnn_graph(case: Case, threads: int) -> Contestant:
    """The same layer as one op for each operation of the equation at each step."""
    return minirnn_layer(case, threads, "graph")


def floor(case: Case, threads: int) -> Contestant:
    """The matrix products of forward and backward and one activation pass each way, bare."""
    import numpy as np

    from minirnn.bench.floor import floor as make

    run = make(*case.shape, np.float32, np.random.default_rng(0))
    return Contestant(lambda _: run(), None)


def torch_layer(case: Case, threads: int) -> Contestant:
    """torch.nn.RNN as it comes: with its second bias, which is zero here."""
    import torch

    torch.set_num_threads(threads)
    N, _, D, H = case.shape
    layer = torch.nn.RNN(D, H)
    torch_weights(layer, case)
    inputs = [
        (torch.tensor(x, requires_grad=True), torch.tensor(h0[None], requires_grad=True), torch.tensor(g))
        for x, h0, g in case.inputs
    ]

    def run(i: int) -> Any:
        x, h0, g = inputs[i]
        x.grad = h0.grad = None
        layer.zero_grad()
        outputs, _ = layer(x, h0)
        outputs.backward(g)
        return outputs, x, h0

    def read(result: Any) -> Any:
        outputs, x, h0 = result
        of_weights = layer.weight_ih_l0.grad.T, layer.weight_hh_l0.grad.T, layer.bias_ih_l0.grad
        return outputs.detach().numpy(), x.grad.numpy(), h0.grad.numpy().reshape(N, H), *(g.numpy() for g in of_weights)

    return Contestant(run, read)


def torch_weights(layer: Any, case: Case) -> None:
    """Give a torch.nn.RNN the weights of a case; torch keeps them transposed."""
    import torch

    W_xh, W_hh, b_h = map(torch.tensor, case.weights)
    with torch.no_grad():
        for parameter, value in zip(layer.parameters(), (W_xh.T, W_hh.T, b_h, torch.zeros_like(b_h)), strict=True):
            parameter.copy_(value)


def torch_eager(case: Case, threads: int) -> Contestant:
    """The loop in Python, each op recorded on torch's tape."""
    import torch

    torch.set_num_threads(threads)
    W_xh, W_hh, b_h = weights = [torch.tensor(w, requires_grad=True) for w in case.weights]
    inputs = [
        (torch.tensor(x, requires_grad=True), torch.tensor(h0, requires_grad=True), torch.tensor(g))
        for x, h0, g in case.inputs
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

    @jax.jit
    def value_and_gradients(x: Any, h0: Any, g: Any, *weights: Any) -> Any:
        outputs, backward = jax.vjp(jax_unroll, x, h0, *weights)
        return outputs, *backward(g)

    weights = [jnp.asarray(w) for w in case.weights]
    inputs = [tuple(map(jnp.asarray, input_)) for input_ in case.inputs]
    return Contestant(lambda i: jax.block_until_ready(value_and_gradients(*inputs[i], *weights)), _as_it_is)


def jax_unroll(x: Any, h0: Any, W_xh: Any, W_hh: Any, b_h: Any) -> Any:
    """Return the outputs. x W_xh stands inside the scan: taken out, jax was slower on most shapes."""
    import jax
    import jax.numpy as jnp

    def step(h: Any, x_t: Any) -> Any:
        h = jnp.tanh(x_t @ W_xh + h @ W_hh + b_h)
        return h, h

    return jax.lax.scan(step, h0, x)[1]


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
        x, h0, g = case.inputs[i]
        backward, outputs = forward(x, h0, *case.weights)
        return outputs, *backward(g)

    return Contestant(run, _as_it_is)


def mygrad(case: Case, threads: int) -> Contestant:
    """The loop in Python on MyGrad, over numpy; unguarded, as it offers for speed."""
    import mygrad as mg

    W_xh, W_hh, b_h = weights = [mg.tensor(w) for w in case.weights]
    inputs = [(mg.tensor(x), mg.tensor(h0), g) for x, h0, g in case.inputs]

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
    "floor": floor,
    "torch": torch_layer,
    "jax": jax_scan,
    "graph": minirnn_graph,
    "torch-eager": torch_eager,
    "autograd": hips_autograd,
    "mygrad": mygrad,
}
