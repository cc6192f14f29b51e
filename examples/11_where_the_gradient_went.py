# %% [markdown]
# # Chapter 11: where the gradient went
#
#     dL/dH_t = local (entering at step t) + carried (coming back from step t+1)
#
# Chapter 5 went back by hand. `mr.bptt.trace` does it for any layer and keeps what flows at every step. On the adding
# problem the loss looks at the last output alone, so everything that reaches an early step was carried there: how much
# of it is left decides whether the two marked numbers can be connected with the answer.

# %%
import numpy as np

import minirnn as mr

T, N, H = 50, 16, 32
task = mr.tasks.AddingTask(T)
x, y = task.batch(N, rng=0)


def model_of(layer):
    return mr.SequenceModel(layer, mr.Linear(H, 1, dtype=np.float64, rng=1), readout="last")


def loss(predictions):
    return mr.losses.mse(predictions, y)


options = {"dtype": np.float64, "rng": 9}
models = {
    "tanh, Glorot": model_of(mr.RecurrentLayer(2, H, recurrent_initializer="glorot", **options)),
    "ReLU, identity": model_of(mr.RecurrentLayer(2, H, activation="relu", init="irnn", **options)),
    "LSTM": model_of(mr.LSTMLayer(2, H, **options)),
}
traces = {name: mr.bptt.trace(model, x, loss) for name, model in models.items()}
STEPS = (49, 40, 30, 20, 10, 0)

# %% [markdown]
# ## How much is left at each step?

# %%
print(f"{'‖dL/dH_t‖ at t =':<20}" + "".join(f"{t:>10}" for t in STEPS))
for name, trace in traces.items():
    print(f"{name:<20}" + "".join(f"{trace.gradient_norms[t]:10.1e}" for t in STEPS))
    assert np.allclose(trace.dL_dh, trace.dL_dh_local + trace.dL_dh_carried, rtol=0, atol=1e-15)
glorot, identity = traces["tanh, Glorot"], traces["ReLU, identity"]
assert glorot.gradient_norms[0] < 1e-2 * glorot.gradient_norms[-1]  # it vanished on the way
assert identity.gradient_norms[0] > 0.1 * identity.gradient_norms[-1]  # and here it did not

# %% [markdown]
# ## Why?
# Because of the product of the steps' Jacobians, as in chapter 6: below is its largest singular value, from the last
# step back to step t, for the first row. Glorot's falls by a factor at every step; the identity's is 1 all the way, for
# whatever neuron stays on; the LSTM's falls slowly, by what its forget gates let through.

# %%
print(f"{'σ₁ of the product':<20}" + "".join(f"{f'back to {t}':>12}" for t in STEPS[1:]))
for name, trace in traces.items():
    stretch = [trace.singular_values(T - 1, t)[0, 0] for t in STEPS[1:]]
    print(f"{name:<20}" + "".join(f"{s:12.1e}" for s in stretch))
    if name == "tanh, Glorot":
        assert (np.diff(stretch) < 0).all()
        assert stretch[-1] < 0.05
    if name == "ReLU, identity":
        assert 0.9 < min(stretch) <= max(stretch) < 1.1

# %% [markdown]
# ## Which step's weights get it?
# The same W_hh is used at every step. Its gradient, taken apart by the step k at which it was used, sums up to the
# whole:

# %%
credit = glorot.credit()
parts = [credit.contribution(T - 1, k)["W_hh"] for k in range(T)]
print(f"‖sum of {T} parts − gradient‖ = {np.abs(sum(parts) - glorot.gradients['W_hh']).max():.0e}")
shares = np.array([np.linalg.norm(part) for part in parts])
print("norm of the part of step k:", *(f"{k}: {shares[k]:.1e}" for k in STEPS), sep="  ")
assert np.allclose(sum(parts), glorot.gradients["W_hh"], rtol=0, atol=1e-14)
assert np.allclose(shares, credit.norms[T - 1], rtol=1e-9)

# %% [markdown]
# ## What truncation cuts off
# Truncated BPTT goes back k2 steps only. How far does its gradient point away from the true one? Read the table with
# care: the net whose gradient vanishes has the *smallest* angle. That is no merit. Nothing is left to be cut: what the
# early steps would say does not arrive anyway, in full BPTT as little as in truncated. Where it does arrive, cutting it
# off turns the gradient. The last column says so: the share of steps more than 20 back, in the sum of the norms of the
# parts above.

# %%
print(f"{'angle for k2 =':<20}" + "".join(f"{k2:>8}" for k2 in (1, 5, 10, 20, 40, 50)) + "   credit beyond 20 steps")
for name, trace in traces.items():
    angles = trace.truncation_angles()
    norms = trace.credit().norms[T - 1]  # of the part of each step's weights
    degrees = "".join(f"{angles[k2 - 1]:7.1f}°" for k2 in (1, 5, 10, 20, 40, 50))
    print(f"{name:<20}{degrees}   {norms[: T - 20].sum() / norms.sum():.1%}")
    assert angles[-1] < 1e-5

# %% [markdown]
# ## Forward in time
# The same gradient without going back at all: real-time recurrent learning (Williams & Zipser 1989) carries ∂H_t/∂W
# along. It needs no memory of the past, and N·H·|W| numbers instead, so H = 4 here.

# %%
small, target = mr.RecurrentLayer(2, 4, **options), np.ones((N, 4))
forward = mr.bptt.rtrl(small, x, lambda outputs: mr.losses.mse(outputs[-1], target))
backward = mr.bptt.trace(small, x, lambda outputs: mr.losses.mse(outputs[-1], target)).gradients
print(f"largest difference {max(np.abs(forward[name] - backward[name]).max() for name in backward):.0e}")
assert all(np.allclose(forward[name], backward[name], rtol=0, atol=1e-12) for name in backward)

# %% [markdown]
# ## The doctor
# `mr.bptt.doctor` measures all of this, says what is wrong, and what to try; each sentence stands for a figure in
# `report.figures`.

# %%
report = mr.bptt.doctor(glorot)
print(report)
assert report.verdict == "vanishing"

# %% [markdown]
# The page of the LSTM, for comparison with chapter 6's:

# %%
traces["LSTM"]

# %% [markdown]
# ## Now you

# %%
print(mr.exercises.EXERCISES["truncated"])
