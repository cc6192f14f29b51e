"""The cost of the tape: one recurrent loop, op by op, in minirnn, torch eager, HIPS autograd and MyGrad.

    python -m benchmarks tape [--cpu 0] [--json FILE]

Every contestant runs the same lines, forward and backward, on arrays so small that what is timed is hardly numpy, but
the recording of ops and the way back::

    h, loss = h_0, 0.0
    for t in range(T):
        h = tanh(x[t] @ W_xh + h @ W_hh + b)
        loss = loss + h.sum()
    loss.backward()

x is a plain array (torch has no use for one: there it is a constant tensor). Before anything is timed, the gradients of
each contestant are held against minirnn/textbook, which is none of them.
"""

import argparse
import sys
from collections.abc import Callable
from typing import Any

T, D, H = 50, 10, 20
Loop = Callable[[], tuple[Any, Any, Any]]  # forward and backward, once: the gradients of W_xh, W_hh, b


def minirnn_loop(x: Any, h_0: Any, *weights: Any) -> Loop:
    import minirnn as mr

    W_xh, W_hh, b = parameters = [mr.Tensor(w, requires_grad=True) for w in weights]
    h_0 = mr.Tensor(h_0)

    def run() -> Any:
        for p in parameters:
            p.grad = None
        h, loss = h_0, 0.0
        for t in range(T):
            h = mr.tanh(x[t] @ W_xh + h @ W_hh + b)
            loss = loss + h.sum()
        loss.backward()
        return W_xh.grad, W_hh.grad, b.grad

    return run


def torch_loop(x: Any, h_0: Any, *weights: Any) -> Loop:
    import torch

    torch.set_num_threads(1)
    W_xh, W_hh, b = parameters = [torch.tensor(w, requires_grad=True) for w in weights]
    x, h_0 = torch.tensor(x), torch.tensor(h_0)

    def run() -> Any:
        for p in parameters:
            p.grad = None
        h, loss = h_0, 0.0
        for t in range(T):
            h = torch.tanh(x[t] @ W_xh + h @ W_hh + b)
            loss = loss + h.sum()
        loss.backward()
        return W_xh.grad, W_hh.grad, b.grad

    return run


def autograd_loop(x: Any, h_0: Any, *weights: Any) -> Loop:
    import autograd
    import autograd.numpy as anp

    def forward(weights: Any) -> Any:
        W_xh, W_hh, b = weights
        h, loss = h_0, 0.0
        for t in range(T):
            h = anp.tanh(x[t] @ W_xh + h @ W_hh + b)
            loss = loss + h.sum()
        return loss

    backward = autograd.grad(forward)
    return lambda: backward(weights)


def mygrad_loop(x: Any, h_0: Any, *weights: Any) -> Loop:
    import mygrad as mg

    W_xh, W_hh, b = parameters = [mg.tensor(w) for w in weights]
    h_0 = mg.tensor(h_0, constant=True)

    def run() -> Any:
        for p in parameters:
            p.null_grad()
        h, loss = h_0, 0.0
        for t in range(T):
            h = mg.tanh(x[t] @ W_xh + h @ W_hh + b)
            loss = loss + h.sum()
        loss.backward()
        return W_xh.grad, W_hh.grad, b.grad

    return run


def unguarded_mygrad_loop(*arrays: Any) -> Loop:
    """MyGrad with what it offers for speed: arrays that a graph refers to are not locked against writing."""
    import mygrad as mg

    return mg.mem_guard_off(mygrad_loop(*arrays))


LOOPS: dict[str, Callable[..., Loop]] = {
    "minirnn": minirnn_loop,
    "torch-eager": torch_loop,
    "autograd": autograd_loop,
    "mygrad": mygrad_loop,
    "mygrad-unguarded": unguarded_mygrad_loop,
}


def draw(N: int) -> list[Any]:
    """Return x (T, N, D), h_0 (N, H), W_xh (D, H), W_hh (H, H), b (H,), float32."""
    import numpy as np

    rng = np.random.default_rng(N)
    shapes = [(T, N, D), (N, H), (D, H), (H, H), (H,)]
    scales = [1.0, 1.0, D**-0.5, H**-0.5, 0.1]
    return [rng.normal(0.0, s, shape).astype(np.float32) for s, shape in zip(scales, shapes, strict=True)]


def ready(name: str, label: str, arrays: list[Any]) -> Loop:
    """Return a contestant's loop; refuse it if its gradients are wrong, or not float32 as everybody else's."""
    import numpy as np

    from benchmarks.cases import Contestant, check
    from minirnn import textbook

    loop = LOOPS[name](*arrays)
    wanted = textbook.unroll_backward(*arrays, d_outputs=np.ones((*arrays[0].shape[:2], H)))[2:]
    results = [f"the gradient of {weight}" for weight in ("W_xh", "W_hh", "b")]
    check(label, Contestant(lambda _: loop(), lambda gradients: gradients), [wanted], results)
    return loop


def run(options: argparse.Namespace, say: Callable[[str], None]) -> dict[str, Any]:
    """Measure, print as it goes, and return what goes into the JSON file."""
    from benchmarks import tables
    from benchmarks.rounds import Measured
    from minirnn.bench import measure

    labels = tables.labels_of(options.peers)
    turns = options.turns or (6 if options.quick else 60)
    results = {}
    for N in (1, 32):
        arrays = draw(N)
        loops = {name: ready(name, label, arrays) for name, label in labels.items()}
        results[N] = measure.take_turns(loops, turns=turns, runs=options.runs)
        say(f"\nN = {N}, T = {T}, D = {D}, H = {H}, float32, forward and backward, gradients equal:\n")
        say(tables.of_contestants(Measured([results[N]]), labels, unit="µs a step", scale=1e6 / T))
    return {"sizes": {"T": T, "D": D, "H": H, "dtype": "float32"}, "seconds a loop, by N": results}


if __name__ == "__main__":
    from benchmarks.__main__ import main

    sys.exit(main(["tape", *sys.argv[1:]]))
