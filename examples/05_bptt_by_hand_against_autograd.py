# %% [markdown]
# # Chapter 5: back-propagation through time (BPTT) by hand, against autograd
#
# H_t = tanh(X_t W_xh + H_{t-1} W_hh + b_h) reaches the loss L on two roads:
#
# - **local**: as the output of step t, which the loss looks at directly;
# - **carried**: as the state that enters step t+1, and through it all later steps.
#
# With dA for ∂L/∂A, the way back goes from the last step to the first:
#
#     dH_t = local (from the loss of step t) + carried (dZ_{t+1} W_hhᵀ, from all later steps)
#     dZ_t = dH_t ⊙ (1 − H_t²)
#     dW_hh = Σ_t H_{t-1}ᵀ dZ_t, and so on: the same weights are used T times, so their gradients add up

# %%
import numpy as np

import minirnn as mr
from minirnn import textbook

T, N, D, H = 5, 1, 1, 2
rng = np.random.default_rng(5)
x, h_0, target = rng.normal(size=(T, N, D)), rng.normal(size=(N, H)), rng.uniform(-1, 1, (T, N, H))
W_xh, W_hh, b_h = np.array([[0.5, -0.3]]), np.array([[0.9, -0.5], [0.5, 0.9]]), np.array([0.1, 0.0])
outputs = textbook.unroll(textbook.layer_step_batch, x, h_0, W_xh, W_hh, b_h)

# %% [markdown]
# ## The walk back
# The loss is L = ½ Σ_t ‖H_t − target_t‖², so that what it says of H_t itself is H_t − target_t.


# %%
def walk(carry):
    """Go back through the steps; return dx, dh_0, dW_xh, dW_hh, db_h."""
    states = [h_0, *outputs]  # states[t] is H_t, as outputs[t-1] is: Python counts from 0
    dx, dW_xh, dW_hh, db_h = (np.zeros_like(a) for a in (x, W_xh, W_hh, b_h))
    carried = np.zeros_like(h_0)  # nothing comes after step T
    for t in range(T, 0, -1):
        local = states[t] - target[t - 1]
        dH = local + carried
        dZ = dH * (1 - states[t] ** 2)
        print(f"  {t}" + "".join("   " + " ".join(f"{v:7.4f}" for v in a[0]) for a in (local, carried, dH, dZ)))
        dx[t - 1] = dZ @ W_xh.T
        dW_xh += x[t - 1].T @ dZ
        dW_hh += states[t - 1].T @ dZ
        db_h += dZ.sum(axis=0)
        carried = dZ @ W_hh.T if carry else np.zeros_like(h_0)
    return dx, carried, dW_xh, dW_hh, db_h


# %% [markdown]
# In the table a line is a step, the last one first, as the walk goes. Each of the four columns has two numbers: the one
# for neuron 0 and the one for neuron 1. local + carried = dH_t, and that times tanh′, 1 − H_t², is dZ_t.

# %%
heading = f"{'t':>3}   " + "   ".join(f"{name:<15}" for name in ("local", "carried", "dH_t", "dZ_t"))
print(heading)
by_hand = walk(carry=True)

# %% [markdown]
# ## Is it right?
# The same five gradients from the textbook's `unroll_backward`, and from autograd with both backends:

# %%
found = {"textbook": textbook.unroll_backward(x, h_0, W_xh, W_hh, b_h, d_outputs=outputs - target)}
for backend in ("graph", "fused"):
    layer = mr.RecurrentLayer(D, H, backend=backend, dtype=np.float64)
    layer.load_state_dict({"W_xh": W_xh, "W_hh": W_hh, "b_h": b_h})
    x_in, h_in = mr.Tensor(x, requires_grad=True), mr.Tensor(h_0, requires_grad=True)
    (0.5 * (layer(x_in, h_in).outputs - target) ** 2).sum().backward()
    found[f"autograd, {backend}"] = [a.grad for a in (x_in, h_in, layer.W_xh, layer.W_hh, layer.b_h)]

print("largest difference from by hand:" + "".join(f"{name:>7}" for name in ("dx", "dh_0", "dW_xh", "dW_hh", "db_h")))
for name, gradients in found.items():
    differences = [np.abs(g - expected).max() for g, expected in zip(gradients, by_hand, strict=True)]
    print(f"{name:<32}" + "".join(f"{d:7.0e}" for d in differences))
    assert max(differences) < 1e-12

# %% [markdown]
# ## What if the carried part is forgotten?
# Then every step knows of its own loss only: that is BPTT *truncated* to one step. In autograd `detach()` does it,
# which closes the road through the state.

# %%
print(heading)
forgetful = walk(carry=False)
layer.zero_grad()
state = mr.Tensor(h_0)
for x_t, target_t in zip(x, target, strict=True):
    state = layer.step(x_t, state.detach())
    (0.5 * (state - target_t) ** 2).sum().backward()  # each backward adds to the weights' .grad
assert np.abs(layer.W_hh.grad - forgetful[3]).max() < 1e-12

(full, cut), norm = (by_hand[3], forgetful[3]), np.linalg.norm
print(f"dW_hh in full {full.ravel().round(3)}, forgetful {cut.ravel().round(3)}: wrong by", end=" ")
print(f"{norm(cut - full) / norm(full):.0%} of its length,\nthe last entry by its sign, and yet no number looks amiss.")
assert norm(cut - full) > 0.3 * norm(full)
assert full[1, 1] * cut[1, 1] < 0.0

# %% [markdown]
# ## Looking inside
# `mr.bptt.trace` does the walk for any layer and keeps what flows. A notebook shows it as a page: press ▶ or drag the
# slider, and read local and carried off the chosen step, with its equation in numbers.

# %%
trace = mr.bptt.trace(layer, x, lambda outputs: (0.5 * (outputs - target) ** 2).sum(axis=(1, 2)), h_0)
assert np.abs(trace.gradients["W_hh"] - by_hand[3]).max() < 1e-12
trace

# %% [markdown]
# ## Now you
# First a single step, then all of it. Where your numbers are wrong, the check says which mistake you made: the carried
# part forgotten, H_t for H_{t-1}, W for Wᵀ, and some two hundred others that people make.

# %%
for name in ("step_backward", "bptt", "bptt_final", "last_step_loss"):
    print(f"{name:<20}{mr.exercises.EXERCISES[name].title}")
print(f"\nThe first of them:\n\n{mr.exercises.EXERCISES['step_backward']}")


# %%
def step_backward(dh, x_t, h_prev, W_xh, W_hh, b):
    h = np.tanh(x_t @ W_xh + h_prev @ W_hh + b)
    dz = dh * (1 - h**2)
    return dz @ W_xh.T, dz @ W_hh, x_t.T @ dz, h_prev.T @ dz, dz.sum(axis=0)


result = mr.exercises.check("step_backward", step_backward)
print(result.mistake)
assert not result.passed
result
