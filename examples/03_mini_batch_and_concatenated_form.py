# %% [markdown]
# # Chapter 3: a mini-batch in one go, and the concatenated form
#
# Note 003, section 3, and Géron's equation 14-2:
#
#     H_t = φ(X_t W_xh + H_{t-1} W_hh + b_h) = φ([X_t H_{t-1}] W + b_h)   with W_xh stacked on top of W_hh in W
#
# Row n of X_t (N, D) and of H_t (N, H) belongs to sequence n. As rows the sequences stand on the left of the weights,
# and nothing is transposed any more. A capital H with a subscript is the layer's output; H alone is the number of its
# neurons.

# %%
import numpy as np

import minirnn as mr
from minirnn import textbook

rng = np.random.default_rng(3)
T, N, D, H = 6, 4, 3, 5
X, H_0 = rng.normal(size=(T, N, D)), rng.normal(size=(N, H))
W_xh, W_hh, b_h = rng.normal(size=(D, H)), rng.normal(size=(H, H)), rng.normal(size=H)
W = np.vstack([W_xh, W_hh])

for name, letters, array in [
    ("X_t", "(N, D)", X[0]),
    ("H_(t-1)", "(N, H)", H_0),
    ("W_xh", "(D, H)", W_xh),
    ("W_hh", "(H, H)", W_hh),
    ("b_h", "(H,)", b_h),
    ("W", "(D+H, H)", W),
]:
    print(f"{name:<8} {letters:<9} {array.shape}")

# %% [markdown]
# ## Two products or one
# What stands side by side, [X_t H_{t-1}], meets what stands on top of each other: the sum of two products is one
# product.

# %%
batch = textbook.unroll(textbook.layer_step_batch, X, H_0, W_xh, W_hh, b_h)
concat = textbook.unroll(textbook.layer_step_batch_concat, X, H_0, W, b_h)
difference = np.abs(batch - concat).max()
print(f"two products or one, over {T} steps: outputs {batch.shape}, largest difference {difference:.0e}")
assert difference < 1e-12

# %% [markdown]
# ## Alone or in company
# Instances do not hear one another: a mini-batch is a way to compute, not a way to connect.

# %%
for n in range(N):
    alone = textbook.unroll(textbook.layer_step_instance, X[:, n], H_0[n], W_xh, W_hh, b_h)
    difference = np.abs(batch[:, n] - alone).max()
    print(f"sequence {n} in the mini-batch or on its own: largest difference {difference:.0e}")
    assert difference < 1e-12

# %% [markdown]
# ## The same numbers from `RecurrentLayer`
# It has two backends: "graph" makes one autograd operation for each of the equation, "fused" (the default) runs the
# whole unroll as one. Both are held against the textbook's loops.

# %%
for backend in ("graph", "fused"):
    layer = mr.RecurrentLayer(D, H, backend=backend, dtype=np.float64)
    layer.load_state_dict({"W_xh": W_xh, "W_hh": W_hh, "b_h": b_h})
    outputs, final_state = layer(X, initial_state=H_0)
    difference = np.abs(outputs.numpy() - batch).max()
    print(f"{backend}: outputs {outputs.shape}, final_state {final_state.shape}, largest difference {difference:.0e}")
    assert difference < 1e-12
    assert (layer.W == W).all()
print(f"layer.W is W_xh stacked on W_hh, {layer.W.shape}: the W of the concatenated form.")
layer

# %% [markdown]
# ## Now you

# %%
for name in ("step", "concat", "unroll"):
    print(f"{name:<20}{mr.exercises.EXERCISES[name].title}")
print(f"\nThe first of them:\n\n{mr.exercises.EXERCISES['step']}")
