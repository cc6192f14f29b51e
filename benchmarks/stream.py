"""``stream``: one step at a time, nothing recorded: ``layer.step`` beside torch's RNNCell, LSTMCell and GRUCell.

    python -m benchmarks stream

What a program does that reads a sensor, or samples a text: a step comes in, a state goes out, and the next step needs
it. T = 50 steps are one call here, so that the clock costs nothing; the tables give the time of a step. All get their
steps as their own kind of array, made beforehand. jax's step is jitted, and waited for at every step, as the outputs
of a stream are used as they come.
"""

import argparse
from collections.abc import Callable, Mapping
from typing import Any

from benchmarks import bars, tables
from benchmarks.cases import Case, Contestant, Shape, check, draw, expected, results_of
from benchmarks.contestants import JAX_UNROLLS, minirnn_of, one_or_pair, torch_weights
from benchmarks.roster import CELLS, JAX, MINIRNN, TORCH
from benchmarks.rounds import Measured, Plan, alternate, rest
from minirnn.bench import measure
from minirnn.bench.cells import KINDS

SHAPES = tuple(Shape(N, 50, D, H) for D, H in ((10, 20), (64, 128)) for N in (1, 32))
SECONDS = 4.0  # for each layer and shape, about
AT_ONCE = {"elman": "torch.nn.RNNCell", "lstm": "torch.nn.LSTMCell", "gru": "torch.nn.GRUCell"}


def run(options: argparse.Namespace, say: Callable[[str], None]) -> dict[str, Any]:
    """Measure, print as it goes, and return what goes into the JSON file."""
    plan = Plan(0.3 if options.quick else SECONDS, options.runs, options.turns, rest=rest(options.threads))
    names = [MINIRNN, *(peer.name for peer in options.peers)]
    results: dict[str, dict[Shape, Measured]] = {}
    for cell in CELLS:
        results[cell] = {}
        for shape in SHAPES:
            runs = {name: contestant.run for name, contestant in ready(shape, cell, names, options.threads).items()}
            results[cell][shape] = Measured([alternate(runs, plan)])
        say(f"\n{KINDS[cell].layer.__name__}, one step at a time, nothing recorded, float32, outputs equal:\n")
        say(table(results[cell], names, cell))
    demands = [
        bars.least(
            f"one step of {KINDS[cell].layer.__name__}, no graph, as fast as {AT_ONCE[cell]}'s at N = 1 and 32",
            tables.medians(own, TORCH.name),
            dict.fromkeys(SHAPES, 1.0),
        )
        for cell, own in results.items()
    ]
    say("\n" + bars.lines(demands))
    measured = [
        {"cell": cell, **shape._asdict(), "seconds for all steps, by run and turn": one.alternations}
        for cell, own in results.items()
        for shape, one in own.items()
    ]
    return {"measured": measured, "bars": [bar._asdict() for bar in demands]}


def ready(shape: Shape, cell: str, names: list[str], threads: int) -> dict[str, Contestant]:
    """Return the contestants, once their outputs are the textbook's."""
    case = draw(shape, cell)
    wanted, made = expected(case, gradients=False), {}
    for name in names:
        made[name] = MAKE[name](case, threads)
        check(name, made[name], wanted, results_of(cell)[:1])
    return made


def table(results: Mapping[Shape, Measured], names: list[str], cell: str) -> str:
    """Return one row a shape: the µs of a step of each, and the ratios."""
    labels = {MINIRNN: "minirnn", TORCH.name: AT_ONCE[cell], JAX.name: "jax.jit"}
    others = [name for name in names if name != MINIRNN]
    header = ["N, D, H", *(f"{labels[name]}, µs a step" for name in names)]
    header += [text for name in others for text in (f"{labels[name]} ÷ minirnn", "quartiles")]
    rows = []
    for shape, measured in results.items():
        cells = [f"{shape.N}, {shape.D}, {shape.H}"]
        cells += [tables.number(measured.spread(name).median * 1e6 / shape.T) for name in names]
        for name in others:
            low, median, high = measured.ratio(name)
            cells += [f"{median:.2f}", f"{low:.2f} … {high:.2f}"]
        rows.append(cells)
    return measure.markdown(header, rows)


# --- the contestants: a call goes through all steps, and returns the output of each -----------------------------------


def minirnn_step(case: Case, threads: int) -> Contestant:
    """The public ``layer.step`` under no_grad."""
    import numpy as np

    import minirnn as mr

    mr.set_num_threads(threads)
    layer, several = minirnn_of(case), len(case.kind.states) > 1
    inputs = [(list(x), one_or_pair(state)) for x, state, _ in case.inputs]

    def run(i: int) -> Any:
        (steps, state), outputs, step = inputs[i], [], layer.step
        with mr.no_grad():
            for x_t in steps:
                state = step(x_t, state)
                outputs.append(state[0] if several else state)
        return outputs

    return Contestant(run, lambda outputs: [np.stack([h.numpy() for h in outputs])])


def torch_cell(case: Case, threads: int) -> Contestant:
    """torch's cell under no_grad, with its second bias at zero but for b_hn."""
    import torch

    torch.set_num_threads(threads)
    kind = {"elman": torch.nn.RNNCell, "lstm": torch.nn.LSTMCell, "gru": torch.nn.GRUCell}[case.cell]
    cell, several = torch_weights(kind(case.shape.D, case.shape.H), case), len(case.kind.states) > 1
    inputs = [(torch.tensor(x).unbind(), one_or_pair([torch.tensor(s) for s in state])) for x, state, _ in case.inputs]

    def run(i: int) -> Any:
        (steps, state), outputs = inputs[i], []
        with torch.no_grad():
            for x_t in steps:
                state = cell(x_t, state)
                outputs.append(state[0] if several else state)
        return outputs

    return Contestant(run, lambda outputs: [torch.stack(outputs).numpy()])


def jax_step(case: Case, threads: int) -> Contestant:
    """One jitted step, that of the scan."""
    import jax
    import jax.numpy as jnp

    jax.config.update("jax_enable_x64", False)
    unroll, several = JAX_UNROLLS[case.cell], len(case.kind.states) > 1
    step = jax.jit(lambda x_t, state, weights: unroll(x_t[None], *state, *weights, final=True))
    weights = [jnp.asarray(w) for w in case.weights]
    inputs = [([jnp.asarray(x_t) for x_t in x], tuple(map(jnp.asarray, state))) for x, state, _ in case.inputs]

    def run(i: int) -> Any:
        (steps, state), outputs = inputs[i], []
        for x_t in steps:
            after = step(x_t, state, weights)
            state = after if several else (after,)
            outputs.append(jax.block_until_ready(state)[0])
        return outputs

    return Contestant(run, lambda outputs: [jnp.stack(outputs)])


MAKE: dict[str, Callable[[Case, int], Contestant]] = {
    MINIRNN: minirnn_step,
    TORCH.name: torch_cell,
    JAX.name: jax_step,
}
