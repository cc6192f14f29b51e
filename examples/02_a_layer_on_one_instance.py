# %% [markdown]
# # Chapter 2: a layer of recurrent neurons, fed with one instance
#
# Note 003, section 2 and Géron's figure 14-2, with its five neurons:
#
#     h_t = φ(W_xhᵀ x_t + W_hhᵀ h_{t-1} + b_h)
#
# Every neuron hears the input and the last outputs of *all* neurons. The weights of neuron j are column j of W_xh (D,
# H) and of W_hh (H, H): that is why the matrices are transposed when they multiply a column vector.

# %%
import numpy as np

import minirnn as mr
from minirnn import textbook

rng = np.random.default_rng(2)
D, H, T = 3, 5, 4
x, h_0 = rng.normal(size=(T, D)), rng.normal(size=H)
W_xh, W_hh, b_h = rng.normal(size=(D, H)), rng.normal(size=(H, H)), rng.normal(size=H)

print(f"x_t {x[0].shape}   h_(t-1) {h_0.shape}   W_xh {W_xh.shape}   W_hh {W_hh.shape}   b_h {b_h.shape}")
print(f"W_xhᵀ x_t is {W_xh.T.shape} times {x[0].shape}, which gives {(W_xh.T @ x[0]).shape}: one number a neuron.")

# %% [markdown]
# ## All neurons at once, and one by one
# The layer's equation is chapter 1's, H times side by side. Here is step t = 1 in both forms:

# %%
h_1 = textbook.layer_step_instance(x[0], h_0, W_xh, W_hh, b_h)
for j in range(H):
    h_1j = textbook.neuron_step(x[0], h_0, W_xh[:, j], W_hh[:, j], b_h[j])
    print(f"neuron {j}:  layer {h_1[j]: .6f}   alone, from its columns {h_1j: .6f}")
    assert abs(h_1[j] - h_1j) < 1e-12

# %% [markdown]
# ## Unrolled
# A row is a step, a column is a neuron.

# %%
by_the_book = textbook.unroll(textbook.layer_step_instance, x, h_0, W_xh, W_hh, b_h)
print(np.array2string(by_the_book, precision=3, suppress_small=True))
assert by_the_book.shape == (T, H)

# %% [markdown]
# Neighbours are heard one step late. Nudge the initial output of neuron 0, and at t = 1 all five answers have moved:

# %%
nudged = h_0.copy()
nudged[0] += 0.1
moved = textbook.layer_step_instance(x[0], nudged, W_xh, W_hh, b_h) != h_1
print(f"{moved.sum()} of {H} neurons give another output at t = 1")
assert moved.all()

# %% [markdown]
# ## As a `RecurrentLayer`
# One instance is a mini-batch of one: `x[:, None]` is (T, N=1, D), and `h_0[None]` is (N=1, H). A layer can be called
# on the whole sequence, or driven step by step with a state that you hold. The numbers are the same.

# %%
layer = mr.RecurrentLayer(D, H, dtype=np.float64)
layer.load_state_dict({"W_xh": W_xh, "W_hh": W_hh, "b_h": b_h})
outputs, _ = layer(x[:, None], initial_state=h_0[None])
difference = np.abs(outputs.numpy()[:, 0] - by_the_book).max()
print(f"mr.RecurrentLayer({D}, {H}) with these weights: outputs {outputs.shape}, largest difference {difference:.0e}")
assert difference < 1e-12

state = h_0[None]
for x_t in x:
    state = layer.step(x_t[None], state)
print(f"step by step, layer.step(x_t, state): {np.array2string(state.numpy()[0], precision=3)}")
assert np.abs(state.numpy()[0] - by_the_book[-1]).max() < 1e-12
layer

# %% [markdown]
# ## Now you
# W_hh is square, so without its transpose nothing complains, and everything is wrong. The check notices.

# %%
print(mr.exercises.EXERCISES["column"])
