"""The cost of the tape: one recurrent loop, op by op, in minirnn, torch eager, HIPS autograd and MyGrad.

    python -m benchmarks.tape [--cpu 0] [--json FILE]

Every contestant runs the same lines, forward and backward, on arrays so small that what is timed is hardly numpy, but
the recording of ops and the way back::

    h, loss = h_0, 0.0
    for t in range(T):
        h = tanh(x[t] @ W_xh + h @ W_hh + b)
        loss = loss + h.sum()
    loss.backward()

x is a plain array (torch has no use for one: there it is a constant tensor). Before anything is timed, the gradients of
each contestant are held against minirnn/textbook.py, which is none of them.
"""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.settle import settle

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


CONTESTANTS: dict[str, tuple[str, Callable[..., Loop]]] = {  # name -> (package, loop)
    "minirnn": ("minirnn", minirnn_loop),
    "torch eager": ("torch", torch_loop),
    "HIPS autograd": ("autograd", autograd_loop),
    "MyGrad": ("mygrad", mygrad_loop),
    "MyGrad (unguarded)": ("mygrad", unguarded_mygrad_loop),
}


def draw(N: int) -> list[Any]:
    """Return x (T, N, D), h_0 (N, H), W_xh (D, H), W_hh (H, H), b (H,), float32."""
    import numpy as np

    rng = np.random.default_rng(N)
    shapes = [(T, N, D), (N, H), (D, H), (H, H), (H,)]
    scales = [1.0, 1.0, D**-0.5, H**-0.5, 0.1]
    return [rng.normal(0.0, s, shape).astype(np.float32) for s, shape in zip(scales, shapes, strict=True)]


def check(name: str, loop: Loop, arrays: list[Any]) -> None:
    """Refuse a contestant whose gradients are wrong, or not float32 as everybody else's."""
    import numpy as np

    from minirnn import textbook

    expected = textbook.unroll_backward(*arrays, d_outputs=np.ones((*arrays[0].shape[:2], H)))
    for label, g, e in zip(("W_xh", "W_hh", "b"), loop(), expected[2:], strict=True):
        g = np.asarray(g)
        assert g.dtype == np.float32, f"{name}: the gradient of {label} is {g.dtype}, not float32"
        error = np.abs(g - e).max() / np.abs(e).max()
        assert error < 1e-4, f"{name}: the gradient of {label} differs from the textbook's by {error:.0e} of its size"


def compare(N: int, *, turns: int, runs: int) -> tuple[dict[str, Any], list[str]]:
    """Return the times of the contestants that are installed, and the names of those that are not."""
    from minirnn.bench import measure

    arrays, loops, absent = draw(N), {}, []
    for name, (_, make) in CONTESTANTS.items():
        try:
            loops[name] = make(*arrays)
        except ImportError:
            absent.append(name)
        else:
            check(name, loops[name], arrays)
    return measure.take_turns(loops, turns=turns, runs=runs), absent


def table(times: dict[str, Any]) -> str:
    """Return one row a contestant."""
    from minirnn.bench import measure

    rows = []
    for name, own in times.items():
        low, median, high = (1e6 * seconds / T for seconds in measure.spread(own))
        r = measure.ratio(own, times["minirnn"])
        rows.append(
            (name, f"{median:.1f}", f"{low:.1f} … {high:.1f}", f"{r.median:.2f}", f"{r.low:.2f} … {r.high:.2f}")
        )
    return measure.markdown(("", "µs a step", "quartiles", "× minirnn", "quartiles"), rows)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.tape", description=__doc__.splitlines()[0])
    parser.add_argument("--cpu", type=int, help="run on this CPU alone, as under taskset -c CPU (recommended)")
    parser.add_argument("--turns", type=int, default=60, help="how often each contestant runs in a run (%(default)s)")
    parser.add_argument("--runs", type=int, default=3, help="the median of so many runs is reported (%(default)s)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all times there too")
    options = parser.parse_args(argv)
    if options.turns < 2 or options.runs < 1:
        parser.error("--turns must be at least 2 and --runs at least 1")
    try:
        settled = settle(threads=1, cpu=options.cpu)
    except ValueError as error:
        parser.error(str(error))

    from minirnn.bench import measure  # not above: it loads numpy, for which `settle` would come too late

    packages = dict.fromkeys(package for package, _ in CONTESTANTS.values())
    described = measure.machine(packages) | {"threads": settled}
    print("\n".join(f"{key}: {value}" for key, value in described.items()))
    results = {}
    for N in (1, 32):
        times, absent = compare(N, turns=options.turns, runs=options.runs)
        results[N] = times
        print(
            f"\nN = {N}, T = {T}, D = {D}, H = {H}, float32, forward and backward, gradients equal:\n\n{table(times)}"
        )
        if absent:
            print(f'\nNot installed: {", ".join(absent)}. Try pip install ".[peers]"')
        sys.stdout.flush()
    if options.json:
        sizes = {"T": T, "D": D, "H": H, "dtype": "float32"}
        measure.write_json(options.json, {"machine": described, "sizes": sizes, "seconds a loop, by N": results})
        print(f"\nAll times: {options.json}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
