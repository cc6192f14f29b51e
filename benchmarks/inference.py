"""The contestants of ``forward``: the outputs alone, with nothing recorded for a way back."""

from collections.abc import Callable
from typing import Any

from benchmarks.cases import Case, Contestant
from benchmarks.contestants import jax_elman, minirnn_of, torch_of


def minirnn_layer(case: Case, threads: int) -> Contestant:
    """The public layer under no_grad, on plain arrays."""
    import minirnn as mr

    mr.set_num_threads(threads)
    layer = minirnn_of(case)

    def run(i: int) -> Any:
        x, (h0,), _ = case.inputs[i]
        with mr.no_grad():
            return layer(x, h0)[0]

    return Contestant(run, lambda outputs: [outputs.numpy()])


def floor(case: Case, threads: int) -> Contestant:
    """The matrix products of forward and one activation pass."""
    import numpy as np

    from minirnn.bench.floor import Floor

    bare = Floor(*case.shape, np.float32, np.random.default_rng(0))
    return Contestant(lambda _: bare.forward(), None)


def torch_layer(case: Case, threads: int) -> Contestant:
    """torch.nn.RNN under no_grad."""
    import torch

    torch.set_num_threads(threads)
    layer = torch_of(case)
    inputs = [(torch.tensor(x), torch.tensor(h0[None])) for x, (h0,), _ in case.inputs]

    def run(i: int) -> Any:
        with torch.no_grad():
            return layer(*inputs[i])[0]

    return Contestant(run, lambda outputs: [outputs.numpy()])


def jax_scan(case: Case, threads: int) -> Contestant:
    """jax.lax.scan under jit, waited for."""
    import jax
    import jax.numpy as jnp

    unroll = jax.jit(jax_elman)
    weights = [jnp.asarray(w) for w in case.weights]
    inputs = [(jnp.asarray(x), jnp.asarray(h0)) for x, (h0,), _ in case.inputs]
    return Contestant(lambda i: jax.block_until_ready(unroll(*inputs[i], *weights)), lambda outputs: [outputs])


def onnx_node(case: Case, threads: int) -> Contestant:
    """One RNN node of ONNX, on plain arrays."""
    import numpy as np
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    session = ort.InferenceSession(onnx_model(case), options, providers=["CPUExecutionProvider"])
    feeds = [{"x": x, "h0": h0[None]} for x, (h0,), _ in case.inputs]

    def run(i: int) -> Any:
        return session.run(["outputs"], feeds[i])[0]

    return Contestant(run, lambda outputs: [np.squeeze(outputs, 1)])  # ONNX: (T, directions, N, H)


def onnx_model(case: Case) -> bytes:
    """Return a model of one RNN node; ONNX keeps weights transposed, and two biases side by side."""
    import numpy as np
    from onnx import TensorProto, helper, numpy_helper

    N, T, D, H = case.shape
    W_xh, W_hh, b_h = case.weights
    both = np.concatenate([b_h, np.zeros_like(b_h)])
    arrays = {"W": W_xh.T, "R": W_hh.T, "B": both}
    node = helper.make_node("RNN", ["x", "W", "R", "B", "", "h0"], ["outputs"], hidden_size=H)
    graph = helper.make_graph(
        [node],
        "layer",
        [
            helper.make_tensor_value_info("x", TensorProto.FLOAT, [T, N, D]),
            helper.make_tensor_value_info("h0", TensorProto.FLOAT, [1, N, H]),
        ],
        [helper.make_tensor_value_info("outputs", TensorProto.FLOAT, [T, 1, N, H])],
        [numpy_helper.from_array(np.ascontiguousarray(a[None]), name) for name, a in arrays.items()],
    )
    opset = helper.make_opsetid("", 14)  # RNN's last change that matters here; old runtimes read it too
    return helper.make_model(graph, opset_imports=[opset], ir_version=8).SerializeToString()


MAKE: dict[str, Callable[[Case, int], Contestant]] = {
    "minirnn": minirnn_layer,
    "floor": floor,
    "torch": torch_layer,
    "jax": jax_scan,
    "onnxruntime": onnx_node,
}
