"""Chapter 6: the adding problem, and what the first values of W_hh have to do with memory.

Each sequence has T = 50 steps of two inputs: a number, and a marker that is 1 at two steps. The target, after the last
step, is the sum of the two marked numbers. Always answering 1 has a mean squared error (MSE) of 1/6; to do better, a
layer must carry a number over dozens of steps. Two layers get the same data, optimiser and number of updates:

    identity  ReLU, W_hh = I, b_h = 0, W_xh ~ N(0, 0.001²): the "IRNN" of Le, Jaitly and Hinton (2015), with its H = 100
    Glorot    tanh, W_xh and W_hh drawn after Glorot and Bengio (2010)

Now edit T, SEED, or "glorot" to "orthogonal": the plateau near 1/6 is left sooner or later, or not at all.
"""

import argparse
import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # matrices as small as these are multiplied fastest by one thread

import numpy as np

import minirnn as mr

T, N, H, SEED, ENOUGH = 50, 16, 100, 7, 2000
LAYERS = {
    "identity": {"activation": "relu", "init": "irnn"},
    "Glorot": {"activation": "tanh", "input_initializer": "glorot", "recurrent_initializer": "glorot"},
}
parser = argparse.ArgumentParser(description="The adding problem: identity and ReLU against Glorot and tanh.")
parser.add_argument("--updates", type=int, default=ENOUGH, help=f"default {ENOUGH}; fewer are quicker and tell less")
updates = max(10, parser.parse_args().updates)

task, curves = mr.tasks.AddingTask(T), {}
for name, settings in LAYERS.items():
    rng = np.random.default_rng(SEED)
    layer = mr.RecurrentLayer(task.input_size, H, rng=rng, **settings)
    model = mr.SequenceModel(layer, mr.Linear(H, task.output_size, rng=rng), readout="last")

    # Before training: how does ∂L/∂H_T get back to H_0? ReLU and W_hh = I pass each entry on as it is, or put out.
    x, y = task.batch(N, rng=SEED)
    h_0 = mr.Tensor(np.zeros((N, H)), requires_grad=True)
    prediction, h_T = model(x, h_0)
    h_T.retain_grad()
    mr.losses.mse(prediction, y).backward()
    unchanged = (h_0.grad == h_T.grad).mean()
    print(f"{name}: {unchanged:.0%} of the entries of ∂L/∂H_{T} arrive at H_0 unchanged")
    assert unchanged > 0.2 if name == "identity" else unchanged == 0.0

    optimizer, losses = mr.optim.Adam(model.parameters(), lr=1e-3), []
    for _, (x, y) in zip(range(updates), task.batches(N, rng=SEED + 1000), strict=False):
        prediction, _ = model(x)
        loss = mr.losses.mse(prediction, y)
        optimizer.zero_grad()
        loss.backward()
        mr.optim.clip_grad_norm(model.parameters(), 1.0)
        optimizer.step()
        losses.append(loss.item())
    curves[name] = [part.mean() for part in np.array_split(losses, 10)]

print(f"\nMSE, the mean over a tenth of the updates; one █ is 0.01, the baseline is {task.baseline:.4f}:\nupdates")
for i, row in enumerate(zip(*curves.values(), strict=True), start=1):
    bars = [f"{mse:.4f} {'█' * round(100 * min(mse, 0.3)):<31}" for mse in row]
    print(
        f"{i * updates // 10:>7}   " + "".join(f"{name} {bar}" for name, bar in zip(curves, bars, strict=True)).rstrip()
    )
if updates >= ENOUGH:
    assert curves["identity"][-1] < task.baseline / 2
    assert curves["Glorot"][-1] > task.baseline * 0.9
    print("\nThe identity carries the numbers through; Glorot's layer is no better yet than always answering 1.")
