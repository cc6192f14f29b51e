# %% [markdown]
# # Chapter 7: the adding problem, and what the first values of W_hh have to do with memory
#
# Each sequence has T = 50 steps of two inputs: a number, and a marker that is 1 at two steps. The target, after the
# last step, is the sum of the two marked numbers. Always answering 1 has a mean squared error (MSE) of 1/6; to do
# better, a layer must carry a number over dozens of steps. Two layers get the same data, optimiser and number of
# updates:
#
# - **identity**: ReLU, W_hh = I, b_h = 0, W_xh ~ N(0, 0.001²): the "IRNN" of Le, Jaitly and Hinton (2015), with its
#   H = 100;
# - **Glorot**: tanh, W_xh and W_hh drawn after Glorot and Bengio (2010).

# %%
import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # matrices as small as these are multiplied fastest by one thread

import numpy as np

import minirnn as mr

T, N, H, SEED = 50, 16, 100, 7
UPDATES = 2000
LAYERS = {
    "identity": {"activation": "relu", "init": "irnn"},
    "Glorot": {"activation": "tanh", "input_initializer": "glorot", "recurrent_initializer": "glorot"},
}
task = mr.tasks.AddingTask(T)

x, y = task.batch(1, rng=SEED)
first, second = np.flatnonzero(x[:, 0, 1])
print(f"one sequence: {x[first, 0, 0]:.3f} at step {first} and {x[second, 0, 0]:.3f} at step {second} are marked,")
print(f"so the target is {y.item():.3f}; the other {T - 2} numbers are there to distract")
assert abs(x[first, 0, 0] + x[second, 0, 0] - y.item()) < 1e-6


def model_of(settings, rng):
    layer = mr.RecurrentLayer(task.input_size, H, rng=rng, **settings)
    return mr.SequenceModel(layer, mr.Linear(H, task.output_size, rng=rng), readout="last")


# %% [markdown]
# ## Before training: what gets back to the beginning?
# With W_hh = I and ReLU a step back passes each entry of the gradient on as it is, factor 1, where the neuron is on,
# and puts it out, factor 0, where it is off. So at H_0 an entry of ∂L/∂H_T has either arrived unchanged or is exactly
# 0: the ones that are not there belong to *dead ReLUs*, neurons that were off at some step in between. With tanh and
# Glorot nothing arrives unchanged: the norm may still be there, for W_hh starts with ρ near 1, but after 50 products
# with a random matrix every entry is a mixture of all. The identity's entries are still the neurons' own.

# %%
for name, settings in LAYERS.items():
    model = model_of(settings, np.random.default_rng(SEED))
    x, y = task.batch(N, rng=SEED)
    h_0 = mr.Tensor(np.zeros((N, H)), requires_grad=True)
    prediction, h_T = model(x, h_0)
    h_T.retain_grad()
    mr.losses.mse(prediction, y).backward()
    unchanged, gone = (h_0.grad == h_T.grad).mean(), (h_0.grad == 0).mean()
    left = np.linalg.norm(h_0.grad) / np.linalg.norm(h_T.grad)
    print(f"{name}: {unchanged:.0%} of the entries of ∂L/∂H_{T} arrive at H_0 unchanged, {gone:.0%} are 0", end="; ")
    print(f"{left:.0%} of its norm is left")
    if name == "identity":
        assert unchanged > 0.2
        assert unchanged + gone == 1.0
    else:
        assert unchanged == gone == 0.0

# %% [markdown]
# ## Training, in plain sight
# A training loop is six lines: draw, predict, measure, go back, clip, step. This takes some ten seconds.

# %%
curves = {}
for name, settings in LAYERS.items():
    rng = np.random.default_rng(SEED)
    model = model_of(settings, rng)
    optimizer, losses = mr.optim.Adam(model.parameters(), lr=1e-3), []
    for _, (x, y) in zip(range(UPDATES), task.batches(N, rng=SEED + 1000), strict=False):
        prediction, _ = model(x)
        loss = mr.losses.mse(prediction, y)
        optimizer.zero_grad()
        loss.backward()
        mr.optim.clip_grad_norm(model.parameters(), 1.0)
        optimizer.step()
        losses.append(loss.item())
    curves[name] = [part.mean() for part in np.array_split(losses, 10)]

# %% [markdown]
# The MSE, as the mean over a tenth of the updates; one █ is 0.01.

# %%
print(f"always answering 1: {task.baseline:.4f}\nupdates")
for i, row in enumerate(zip(*curves.values(), strict=True), start=1):
    bars = [f"{mse:.4f} {'█' * round(100 * min(mse, 0.3)):<31}" for mse in row]
    print(f"{i * UPDATES // 10:>7}   " + "".join(f"{n} {bar}" for n, bar in zip(curves, bars, strict=True)).rstrip())
if UPDATES >= 2000:
    assert curves["identity"][-1] < task.baseline / 2
    assert curves["Glorot"][-1] > task.baseline * 0.9
    print("\nThe identity carries the numbers through; Glorot's layer is no better yet than always answering 1.")

# %% [markdown]
# Now edit T, SEED, or "glorot" to "orthogonal": the plateau near 1/6 is left sooner or later, or not at all.
#
# ## Now you
# Where does 1/6 come from, and what exactly does the clipping line do?

# %%
for name in ("baseline", "clip"):
    print(f"{name:<20}{mr.exercises.EXERCISES[name].title}")
print(f"\nThe first of them:\n\n{mr.exercises.EXERCISES['baseline']}")
